//! lyre.toml in, settings or a report out, on a machine that exists only here.
//!
//! `tests/config/bad/NAME.toml` is a file with problems and `NAME.txt` the exact report. After a change on purpose,
//! `LYRE_BLESS=1 cargo test --test config` writes the reports anew; read the difference before committing it.

#![allow(clippy::unwrap_used, clippy::panic)]

use lyre::config::bundle::{Bundle, Interface};
use lyre::config::settings::tcp::{self, Mode, ProxyVersion};
use lyre::config::settings::vip::{Authentication, Checksum, HmacMode, Peer, Peers, VirtualMac};
use lyre::config::settings::{
    AccessLog, Balance, CheckKind, LeastRate, ListenerKind, Place, PoolKind, Prefix, Secret, Settings,
};
use lyre::config::{self, Report};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// PEM files, made once: keys differ on every run, reports do not show them.
static FILES: LazyLock<BTreeMap<PathBuf, Vec<u8>>> = LazyLock::new(|| {
    let mut files = BTreeMap::new();
    let mut pair = |name: &str, host: &str, last_year: i32| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 2, 3);
        let certificate = params.self_signed(&key).unwrap().pem();
        files.insert(format!("{name}.key").into(), key.serialize_pem().into_bytes());
        files.insert(format!("{name}.pem").into(), certificate.into_bytes());
    };
    pair("cloud", "cloud.example.com", 2105);
    pair("other", "other.example.com", 2105);
    pair("expired", "cloud.example.com", 2002);
    let chain = [&files[Path::new("other.pem")][..], &files[Path::new("cloud.pem")][..]].concat();
    let both = [&files[Path::new("cloud.pem")][..], &files[Path::new("cloud.key")][..]].concat();
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    files.insert("wrong-order.pem".into(), chain);
    files.insert("both.pem".into(), both);
    files.insert("encrypted.key".into(), encrypted.to_vec());
    files.insert("cluster.key".into(), b"5d2cbf0b2f6a48d4a3f1b1d4e1f0c7a9\n".to_vec());
    for name in ["cloud.pem", "cloud.key"] {
        let content = files[Path::new(name)].clone();
        files.insert(Path::new("tls").join(name), content);
    }
    files.insert("short.key".into(), b"hunter2\n".to_vec());
    files.insert("empty.key".into(), b"\n".to_vec());
    files.insert("password".into(), b"secret\n".to_vec());
    files.insert("galera.pw".into(), b"check-secret\n".to_vec());
    files.insert("vrrp-2.key".into(), [b'k'; 64].to_vec());
    files.insert("garbage.pem".into(), b"this is no PEM\n".to_vec());
    files
});

/// Two Ethernet interfaces, the first one node edge-a's of every case.
fn machine(text: &str) -> Bundle {
    let interface = |name: &str, addresses: &[&str]| Interface {
        name: name.to_owned(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    Bundle {
        path: "lyre.toml".into(),
        text: text.to_owned(),
        files: FILES.clone(),
        environment: BTreeMap::from([("LYRE_SECRET".to_owned(), "0123456789abcdef0123456789abcdef".to_owned())]),
        interfaces: vec![
            interface("lo", &["127.0.0.1/8", "::1/128"]),
            interface("eth0", &["192.0.2.11/24", "2001:db8::11/64", "fe80::11/64"]),
            interface("eth1", &["10.0.0.11/24"]),
        ],
        cpus: 4,
        ..Bundle::default()
    }
}

fn settings(text: &str) -> Settings {
    let report = config::read_bundle(&machine(text));
    let shown = show(&report);
    report.outcome.unwrap_or_else(|| panic!("{shown}")).0
}

fn show(report: &Report) -> String {
    let mut text = String::new();
    for problem in &report.errors {
        text += &format!("error: {problem}\n");
    }
    for problem in &report.warnings {
        text += &format!("warning: {problem}\n");
    }
    text
}

/// Every case of a folder by name, with its text.
fn cases(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    cases.sort();
    cases.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_bad_file_gets_exactly_its_report() {
    let cases = cases("bad");
    assert!(cases.len() > 30, "cases went missing");
    let bless = std::env::var_os("LYRE_BLESS").is_some();
    let mut wrong = Vec::new();
    for (path, text) in cases {
        let report = config::read_bundle(&machine(&text));
        let shown = show(&report);
        let expected_path = path.with_extension("txt");
        if bless {
            std::fs::write(&expected_path, &shown).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if expected != shown {
            wrong.push(format!("--- {}\nexpected:\n{expected}\ngot:\n{shown}", path.display()));
        }
        assert!(!report.errors.is_empty(), "{} has no error\n{shown}", path.display());
        assert!(report.outcome.is_none(), "{} has settings beside errors", path.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_shipped_pair_is_ten_lines_and_works_as_it_stands() {
    let text = include_str!("../rootfs/etc/lyre/lyre.toml");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert!(lines <= 10, "{lines} lines");

    let report = config::read_bundle(&machine(text));
    assert_eq!(show(&report), "", "no error and no warning");
    let (settings, _) = report.outcome.unwrap();
    let cluster = settings.cluster.as_ref().unwrap();
    assert_eq!((cluster.this, cluster.nodes.len(), cluster.secret.0.len()), (0, 2, 32));
    let [router] = &settings.routers[..] else { panic!("{:?}", settings.routers) };
    assert_eq!((router.name.as_str(), router.interface.as_str(), router.vrid), ("vip1-v4", "eth0", 51));
    assert_eq!((router.priority, router.advert_interval_cs, router.down_adverts), (254, 10, 3));
    assert_eq!((router.preempt, router.lease), (None, Duration::from_secs(3)));
    let listeners: Vec<_> = settings.listeners.iter().map(|l| (l.address.to_string(), l.kind)).collect();
    let expected = [
        ("0.0.0.0:80", ListenerKind::RedirectToHttps),
        ("[::]:80", ListenerKind::RedirectToHttps),
        ("0.0.0.0:443", ListenerKind::Https),
        ("[::]:443", ListenerKind::Https),
    ];
    assert_eq!(listeners, expected.map(|(address, kind)| (address.to_owned(), kind)));
    let [web] = &settings.pools[..] else { panic!("{:?}", settings.pools) };
    assert_eq!((web.name.as_str(), web.servers.len(), web.max_requests_per_server), ("web", 2, 64));
    assert!(web.response_timeout >= Duration::from_secs(3610), "PHP must be the one that times out first");
    let rate = |bytes_per_second, seconds| Some(LeastRate { bytes_per_second, window: Duration::from_secs(seconds) });
    assert_eq!((settings.timeouts.upload, settings.timeouts.download), (rate(1024, 30), rate(256, 60)));
    assert_eq!(web.check.kind, CheckKind::NextcloudStatus { host: "cloud.example.com".to_owned() });
    assert_eq!(settings.worker.cores, 4);
}

#[test]
fn the_other_node_takes_the_next_priority_from_the_same_file() {
    let mut other = machine(include_str!("../rootfs/etc/lyre/lyre.toml"));
    other.interfaces[1].addresses = vec!["192.0.2.12/24".parse().unwrap()];
    let settings = config::from_bundle(&other).unwrap();
    assert_eq!(settings.cluster.as_ref().unwrap().this, 1);
    assert_eq!(settings.routers[0].priority, 253);
}

#[test]
fn node_by_name_needs_no_address_of_this_host() {
    let mut elsewhere = machine(include_str!("../rootfs/etc/lyre/lyre.toml"));
    elsewhere.interfaces[1].addresses = vec!["192.0.2.99/24".parse().unwrap()];
    assert!(config::from_bundle(&elsewhere).is_err());
    elsewhere.node = Some("edge-b".to_owned());
    let report = config::read_bundle(&elsewhere);
    assert_eq!(report.outcome.as_ref().unwrap().0.routers[0].priority, 253);
    assert!(show(&report).contains("192.0.2.12 is on no interface of this host"), "{}", show(&report));
    elsewhere.node = Some("edge-c".to_owned());
    let errors = config::from_bundle(&elsewhere).unwrap_err().to_string();
    assert!(errors.contains("has no node \"edge-c\", as --node says. There is edge-a, edge-b."), "{errors}");
}

#[test]
fn an_address_that_is_already_here_does_not_vouch_for_itself() {
    // We were Active when this configuration is read: our own virtual address is on the interface.
    let text = include_str!("../rootfs/etc/lyre/lyre.toml").replace("192.0.2.10/24", "198.51.100.10/24");
    let mut active = machine(&text);
    active.interfaces[1].addresses.push("198.51.100.10/24".parse().unwrap());
    let errors = config::from_bundle(&active).unwrap_err().to_string();
    assert!(errors.contains("198.51.100.10 is in no network of eth0 (192.0.2.11/24)"), "{errors}");
}

#[test]
fn every_key_reaches_the_settings() {
    let settings = settings(include_str!("config/good/full.toml"));
    let cluster = settings.cluster.as_ref().unwrap();
    assert_eq!((cluster.this, cluster.secret.0.len(), cluster.link_port), (1, 32, 9000));
    let routers: Vec<_> =
        settings.routers.iter().map(|r| (r.name.as_str(), r.interface.as_str(), r.priority)).collect();
    assert_eq!(routers, [("vip1-v4", "eth0", 150), ("vip1-v6", "eth0", 150), ("vip2-v4", "eth1", 150)]);
    let first = &settings.routers[0];
    assert_eq!((first.advert_interval_cs, first.down_adverts, first.addresses.len()), (100, 5, 2));
    assert_eq!((first.preempt, first.lease), (Some(Duration::from_secs(30)), Duration::from_secs(12)));
    assert_eq!(settings.certificates.len(), 2);

    let web = &settings.pools[0];
    assert_eq!((web.servers[1].name.as_str(), web.max_requests_per_server), ("[2001:db8::22]:8080", 90));
    let seconds = [
        (web.connect_timeout, 1),
        (web.response_timeout, 7200),
        (web.idle_timeout, 300),
        (web.tunnel_timeout, 10_800),
        (web.keepalive, 60),
        (web.queue_timeout, 10),
        (web.check.interval, 1),
        (web.check.timeout, 3),
        (settings.timeouts.head, 5),
        (settings.timeouts.handshake, 6),
        (settings.timeouts.keepalive, 75),
        (settings.timeouts.client_idle, 120),
        (settings.timeouts.drain, 300),
        (settings.worker.hang_timeout, 1),
    ];
    for (index, (is, expected)) in seconds.into_iter().enumerate() {
        assert_eq!(is, Duration::from_secs(expected), "number {index}");
    }
    let rate = |bytes_per_second, seconds| Some(LeastRate { bytes_per_second, window: Duration::from_secs(seconds) });
    assert_eq!((settings.timeouts.upload, settings.timeouts.download), (rate(2048, 60), rate(512, 120)));
    assert_eq!(web.check.kind, CheckKind::NextcloudStatus { host: "status.example.com".to_owned() });
    assert_eq!((web.check.rise, web.check.fall), (1, 2));
    assert_eq!(settings.pools[1].check.kind, CheckKind::Tcp);
    let alive = CheckKind::HttpAlive { path: "/alive".to_owned(), host: "wiki.example.com".to_owned() };
    assert_eq!(settings.pools[4].check.kind, alive);
    assert_eq!((web.queue_max, web.upgrades_per_second, web.kind), (100, 20, PoolKind::Nextcloud));
    let name = Place::Name { host: "office.example.com.".to_owned(), port: 9980 };
    assert_eq!((&settings.pools[3].servers[1].place, settings.pools[3].servers[1].place.ip()), (&name, None));
    let servers = ["192.0.2.53:53", "[2001:db8::53]:5353"].map(|server| server.parse().unwrap());
    assert_eq!(settings.dns.servers, servers);
    let [_, push, talk, collabora, wiki] = &settings.pools[..] else { panic!("{} pools", settings.pools.len()) };
    assert_eq!([push, talk, collabora].map(|pool| pool.balance), [Balance::Load, Balance::First, Balance::Load]);
    // 50 for each of the two web servers; a pool of its own counts for itself.
    assert_eq!([push, talk, wiki].map(|pool| pool.upgrades_per_second), [100, 100, 50]);
    assert_eq!(
        (collabora.tunnel_timeout, talk.tunnel_timeout),
        (Duration::from_secs(36_000), Duration::from_secs(3_600))
    );
    let prefix = |path: &str| settings.routes.iter().find(|route| route.path == path).unwrap().prefix;
    assert_eq!((prefix("/standalone-signaling/"), prefix("/cool/")), (Prefix::Stripped, Prefix::Kept));
    assert_eq!(settings.hsts.as_deref(), Some("max-age=31536000"));
    assert_eq!((settings.spool.bytes_max, settings.spool.body_bytes_max), (1 << 30, 512 << 20));
    assert!(settings.spool.directory.ends_with("spool"));
    assert_eq!(settings.trust.proxies.len(), 24);

    let limits = &settings.limits;
    assert_eq!((limits.max_connections, limits.max_connections_per_client), (1000, 50));
    assert_eq!((limits.head_bytes_max, limits.header_line_bytes_max), (32 << 10, 8 << 10));
    assert_eq!((limits.header_count_max, limits.target_bytes_max), (64, 4 << 10));
    assert_eq!((limits.body_bytes_max, limits.keepalive_requests_max), (Some(5 << 30), 100));
    assert_eq!(limits.handshakes_max, 32);
    assert_eq!((settings.worker.cores, settings.worker.user.as_deref()), (2, Some("www-data")));
    assert_eq!(settings.admin.socket, Path::new("/run/lyre/other.sock"));
    assert_eq!(settings.log.access, AccessLog::File("/var/log/lyre/access.log".into()));
    let kinds: Vec<_> = settings.listeners.iter().map(|listener| listener.kind).collect();
    assert_eq!(kinds, [ListenerKind::Https, ListenerKind::Http, ListenerKind::RedirectToHttps]);
}

#[test]
fn every_key_of_a_virtual_router_reaches_the_settings() {
    let report = config::read_bundle(&machine(include_str!("config/good/vrrp.toml")));
    assert_eq!(show(&report), "");
    let routers = report.outcome.unwrap().0.routers;
    let router = |name: &str| routers.iter().find(|router| router.name == name).unwrap_or_else(|| panic!("{name}"));

    let legacy = router("legacy-v4");
    assert_eq!((legacy.version, legacy.advert_interval_cs, legacy.priority), (2, 100, 100));
    assert_eq!(legacy.authentication, Authentication::Password(Secret(b"secret"[..].into())));
    assert_eq!((&legacy.peers, legacy.source, &legacy.sync_group), (&Peers::Multicast, None, &None));
    assert_eq!((legacy.checksum, &legacy.virtual_mac), (Checksum::Auto, &None));

    let (v4, v6) = (router("cloud-v4"), router("cloud-v6"));
    let peer = |address: &str, ttl| Peer { address: address.parse().unwrap(), ttl };
    let peers = vec![peer("192.0.2.12", 250..=255), peer("203.0.113.9", 1..=255)];
    assert_eq!(v4.peers, Peers::Unicast(peers), "itself left out, a neighbour's TTL and a far one's");
    assert_eq!(v6.peers, Peers::Unicast(vec![peer("2001:db8::12", 255..=255)]));
    let sources = [v4.source, v6.source].map(|source| source.unwrap().to_string());
    assert_eq!(sources, ["192.0.2.11", "2001:db8::11"], "a peer must know where adverts come from");
    let group = Some("cloud".to_owned());
    assert_eq!((&v4.sync_group, &v6.sync_group), (&group, &group), "both families move together by default");
    assert_eq!(v4.excluded, ["198.51.100.1/32".parse().unwrap()]);
    assert_eq!(v6.excluded, ["2001:db8:1::1/128".parse().unwrap()]);
    let Authentication::Hmac(hmac) = &v4.authentication else { panic!("{:?}", v4.authentication) };
    assert_eq!(hmac.keys.iter().map(|key| (key.id, key.secret.0.len())).collect::<Vec<_>>(), [(2, 64), (1, 32)]);
    assert_eq!((hmac.mode, hmac.window), (HmacMode::Permissive, Some(Duration::from_secs(7))));
    assert_eq!(v4.checksum, Checksum::Message);

    let (front, back) = (router("vip3-v4"), router("vip4-v4"));
    assert_eq!(front.peers, Peers::Unicast(vec![peer("192.0.2.12", 255..=255)]));
    assert_eq!(front.source.unwrap().to_string(), "192.0.2.11");
    assert_eq!(front.excluded, ["2001:db8::30/64".parse().unwrap()], "the other family rides along");
    let mac = VirtualMac { interface: Some("vrrp30".to_owned()), adverts_from_base: true };
    assert_eq!(front.virtual_mac, Some(mac));
    assert_eq!(back.virtual_mac, Some(VirtualMac { interface: None, adverts_from_base: false }));
    assert_eq!((&front.sync_group, &back.sync_group), (&Some("sides".to_owned()), &Some("sides".to_owned())));
    assert_eq!((back.source.unwrap().to_string().as_str(), back.checksum), ("10.0.0.11", Checksum::Pseudo));
    let announcing = &front.announcing;
    assert_eq!(announcing.after_take_over, [Duration::ZERO, Duration::from_secs(5)]);
    assert_eq!((announcing.after_losing_advert.len(), announcing.refresh, announcing.frames_per_second), (0, None, 50));

    let alone = router("vip5-v4");
    assert_eq!((&alone.sync_group, alone.advert_interval_cs), (&None, 200));
    let Authentication::Hmac(hmac) = &alone.authentication else { panic!("{:?}", alone.authentication) };
    assert_eq!((hmac.mode, hmac.window), (HmacMode::Enforce, Some(Duration::from_secs(6))), "three intervals");
    let (v4, v6) = (router("vip6-v4"), router("vip6-v6"));
    assert_eq!((&v4.sync_group, &v6.sync_group), (&Some("vip6".to_owned()), &Some("vip6".to_owned())));
    assert_eq!(v4.announcing.after_take_over.len(), 6);
}

#[test]
fn the_other_node_reads_its_own_part_of_the_same_file() {
    let mut other = machine(include_str!("config/good/vrrp.toml"));
    other.interfaces[1].addresses =
        ["192.0.2.12/24", "2001:db8::12/64", "fe80::12/64"].map(|address| address.parse().unwrap()).to_vec();
    other.interfaces[2].addresses = vec!["10.0.0.12/24".parse().unwrap()];
    let routers = config::from_bundle(&other).unwrap_or_else(|errors| panic!("{errors}")).routers;
    let router = |name: &str| routers.iter().find(|router| router.name == name).unwrap();
    assert_eq!(router("legacy-v4").priority, 255);
    assert_eq!(router("vip3-v4").priority, 253);
    let peers = |name: &str| match &router(name).peers {
        Peers::Unicast(peers) => peers.iter().map(|peer| peer.address.to_string()).collect(),
        Peers::Multicast => Vec::new(),
    };
    assert_eq!(peers("cloud-v4"), ["192.0.2.11", "203.0.113.9"]);
    assert_eq!(peers("cloud-v6"), ["2001:db8::11"]);
    assert_eq!(peers("vip3-v4"), ["192.0.2.11"]);
    assert_eq!(router("cloud-v4").source.unwrap().to_string(), "192.0.2.12");
    assert_eq!(router("vip4-v4").source.unwrap().to_string(), "10.0.0.12");
}

#[test]
fn trackers_mean_a_vip_by_its_name_and_by_its_number() {
    let vip = |name: &str, last: u8| {
        format!("[[vip]]\n{name}addresses = [\"192.0.2.{last}/24\"]\nvrid = {last}\npriority = 200\n")
    };
    let track =
        |vips: &str| format!("[[track]]\nname = \"t\"\nkind = \"link\"\ninterface = \"eth1\"\nvips = [{vips}]\n");
    for (vips, meant) in [("1", "cloud-v4"), ("2", "vip2-v4"), ("\"cloud\"", "cloud-v4"), ("\"vip2\"", "vip2-v4")] {
        let text = vip("name = \"cloud\"\n", 10) + &vip("", 20) + &track(vips);
        let settings = settings(&text);
        let tracker = settings.trackers.iter().find(|tracker| tracker.name == "t").unwrap();
        assert_eq!(tracker.routers, [meant], "vips = [{vips}]");
    }
}

#[test]
fn a_named_host_wins_over_any_host_and_a_longer_path_over_a_shorter() {
    let settings = settings(include_str!("config/good/full.toml"));
    let routes: Vec<_> = settings.routes.iter().map(|r| (r.hosts.len(), r.path.as_str())).collect();
    let services =
        ["/standalone-signaling/", "/loleaflet/", "/browser/", "/hosting/", "/push/", "/cool/", "/lool/", "/"];
    assert_eq!(routes, [services.map(|path| (2, path)).as_slice(), &[(1, "/"), (0, "/docs/")]].concat());
    assert_eq!(settings.routes[0].hosts, ["cloud.example.com", "192.0.2.10"]);
}

#[test]
fn every_key_of_a_tcp_service_reaches_the_settings() {
    let settings = settings(include_str!("config/good/tcp.toml"));
    let [galera, redis] = &settings.services[..] else { panic!("{:#?}", settings.services) };
    assert_eq!(galera.name, "galera");
    assert_eq!(galera.servers.len(), 3);
    assert_eq!(galera.mode, Mode::SingleWriter);
    let password = Secret(b"check-secret"[..].into());
    let roots = Some(FILES[Path::new("cloud.pem")].as_slice().into());
    let tls = tcp::CheckTls { roots, name: Some("db.example.com".try_into().unwrap()) };
    assert_eq!(galera.check.kind, tcp::CheckKind::Galera { user: "lyre".to_owned(), password, tls: Some(tls) });
    assert_eq!((galera.check.interval, galera.check.timeout), (Duration::from_secs(1), Duration::from_secs(2)));
    assert_eq!((galera.check.rise, galera.check.fall), (3, 2));
    assert_eq!((galera.proxy_protocol, galera.idle_timeout), (Some(ProxyVersion::V2), None));
    assert_eq!(galera.allow, ["10.0.0.0/24".parse().unwrap(), "10.1.0.1/32".parse().unwrap()]);
    assert_eq!((redis.mode, redis.proxy_protocol, redis.listen.len()), (Mode::First, None, 2));
    assert_eq!(redis.connect_timeout, Duration::from_secs(1));
    assert_eq!(redis.idle_timeout, Some(Duration::from_secs(8 * 3600)));
    assert_eq!(redis.max_connections_per_server, 500);
    assert_eq!((redis.check.interval, redis.check.timeout), (Duration::from_millis(500), Duration::from_secs(1)));
    assert_eq!((redis.check.rise, redis.check.fall, &redis.check.kind), (1, 2, &tcp::CheckKind::Connect));
    // The node serves: its worker matters, and its ports need what other ports need.
    assert!(settings.trackers.iter().any(|tracker| tracker.name == "proxy"));
    let ports: Vec<u16> = settings.addresses().map(|address| address.port()).collect();
    assert_eq!(ports, [3306, 6379, 6379]);
}

#[test]
fn one_node_without_virtual_address_only_serves() {
    let report = config::read_bundle(&machine(include_str!("config/good/single-node.toml")));
    assert_eq!(show(&report), "");
    let (settings, _) = report.outcome.unwrap();
    assert!(settings.cluster.is_none() && settings.routers.is_empty());
    assert_eq!(settings.listeners.len(), 1);
    assert!(settings.routes[0].hosts.is_empty());
}

#[test]
fn without_certificates_the_default_is_plain_http_and_a_warning() {
    let report = config::read_bundle(&machine("nextcloud = { hosts = [\"a.example\"], servers = [\"10.0.0.21:80\"] }"));
    let warnings = show(&report);
    assert!(warnings.starts_with("warning: lyre.toml: tls: there is no certificate"), "{warnings}");
    let listeners: Vec<_> = report.outcome.unwrap().0.listeners.iter().map(|l| (l.address.port(), l.kind)).collect();
    assert_eq!(listeners, [(80, ListenerKind::Http), (80, ListenerKind::Http)]);
}

#[test]
fn addresses_alone_need_no_web_server() {
    let settings = settings(include_str!("config/good/vip-only.toml"));
    assert!(settings.listeners.is_empty() && settings.pools.is_empty());
    assert_eq!((settings.routers[0].priority, settings.routers[0].interface.as_str()), (100, "eth0"));
}

#[test]
fn what_is_odd_but_usable_is_a_warning() {
    let cases = [
        (
            "tls.certificates = [{ cert = \"expired.pem\", key = \"expired.key\" }]",
            "the certificate expired on 2002-02-03",
        ),
        (
            "tls.certificates = [{ cert = \"other.pem\", key = \"other.key\" }]",
            "no certificate is for cloud.example.com",
        ),
        ("worker.cores = 64", "64 cores, but this process may use 4 CPUs"),
        ("[[pool]]\nname = \"wiki\"\nservers = [\"10.0.0.30:80\"]", "no route leads to pool wiki"),
        ("[[vip]]\naddresses = [\"192.0.2.10/25\"]\nvrid = 5\npriority = 9\n", "9 is not 10..255"),
        ("[[vip]]\naddresses = [\"192.0.2.10/25\"]\nvrid = 5\npriority = 90\n", "the prefix length differs"),
        ("[[vip]]\naddresses = [\"192.0.2.10/24\"]\nvrid = 5\n", "both nodes have the same rank"),
    ];
    let nextcloud = "nextcloud = { hosts = [\"cloud.example.com\"], servers = [\"10.0.0.21:80\"] }\n";
    for (addition, expected) in cases {
        let shown = show(&config::read_bundle(&machine(&format!("{nextcloud}{addition}"))));
        assert!(shown.contains(expected), "{addition}\n{shown}");
    }
}

/// Writes lyre.toml and its files into a new directory, as on a real machine.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str, text: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("lyre-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("tls")).unwrap();
        std::fs::write(path.join("lyre.toml"), text).unwrap();
        for (name, content) in FILES.iter() {
            write_private(&path.join(name), content);
        }
        Directory(path)
    }

    fn config(&self) -> PathBuf {
        self.0.join("lyre.toml")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write_private(path: &Path, content: &[u8]) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, content).unwrap();
}

/// Runs on any host: loopback is everywhere.
const ON_LOOPBACK: &str = r#"
cluster.secret_file = "cluster.key"
cluster.nodes = [{ name = "edge-a", address = "127.0.0.1" }, { name = "edge-b", address = "192.0.2.12" }]
tls.certificates = [{ cert = "tls/cloud.pem", key = "tls/cloud.key" }]
nextcloud.hosts = ["cloud.example.com"]
nextcloud.servers = ["192.0.2.21:80"]
admin.socket = "lyre.sock"
listener = [{ address = "127.0.0.1:8443", kind = "https" }]
"#;

#[test]
fn a_bundle_gives_the_settings_that_load_gave() {
    let directory = Directory::new("bundle", ON_LOOPBACK);
    let (loaded, bundle) = config::load(&directory.config(), None).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(bundle.node.as_deref(), Some("edge-a"));
    // The worker may open nothing: take the files away.
    std::fs::remove_dir_all(&directory.0).unwrap();
    let travelled = serde_json::to_vec(&bundle).unwrap();
    let bundle: Bundle = serde_json::from_slice(&travelled).unwrap();
    let rebuilt = config::from_bundle(&bundle).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(format!("{loaded:#?}"), format!("{rebuilt:#?}"));
    assert!(loaded.certificates[0].key_pem == rebuilt.certificates[0].key_pem);
    assert!(loaded.cluster.unwrap().secret.matches(&rebuilt.cluster.unwrap().secret.0));
    assert_eq!(rebuilt.admin.socket, directory.0.join("lyre.sock"), "relative paths start from the file's directory");
}

#[test]
fn passwords_and_keys_of_adverts_stay_in_the_privileged_process() {
    let text = ON_LOOPBACK.to_owned()
        + "[[vip]]\naddresses = [\"203.0.113.9/32\"]\ninterface = \"lo\"\nvrid = 1\nauth = { keys = [{ id = 1, file = \"vrrp-2.key\" }] }\n[[vip]]\n\
           addresses = [\"203.0.113.8/32\"]\ninterface = \"lo\"\nvrid = 2\nversion = 2\n\
           auth = { password_file = \"password\" }\n";
    let directory = Directory::new("private", &text);
    let (loaded, bundle) = config::load(&directory.config(), None).unwrap_or_else(|errors| panic!("{errors}"));
    let Authentication::Hmac(hmac) = &loaded.routers[0].authentication else { panic!() };
    assert_eq!(hmac.keys[0].secret.0.len(), 64);
    let kept: Vec<_> = bundle.files.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(kept, ["cluster.key", "tls/cloud.key", "tls/cloud.pem"]);
    let rebuilt = config::from_bundle(&bundle).unwrap_or_else(|errors| panic!("{errors}"));
    let Authentication::Hmac(hmac) = &rebuilt.routers[0].authentication else { panic!() };
    assert_eq!((hmac.keys.len(), hmac.keys[0].secret.0.len()), (1, 0));
    assert_eq!(rebuilt.routers[1].authentication, Authentication::Password(Secret(b""[..].into())));
    assert_eq!(rebuilt.routers[1].addresses, loaded.routers[1].addresses);

    std::fs::remove_file(directory.0.join("password")).unwrap();
    let shown = show(&config::read(&directory.config(), None));
    assert!(shown.contains("vip[1].auth.password_file: cannot read"), "{shown}");
}

#[test]
fn a_secret_that_everybody_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = Directory::new("public", ON_LOOPBACK);
    let key = directory.0.join("cluster.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = config::read(&directory.config(), None);
    assert!(report.errors.is_empty(), "{}", show(&report));
    let expected = format!("every user of this machine can read {0}. Run chmod 600 {0}.", key.display());
    assert!(show(&report).contains(&expected), "{}", show(&report));
}

#[test]
fn files_that_cannot_be_the_right_ones_are_refused() {
    let text = ON_LOOPBACK.replace("cluster.key", "tls").replace("tls/cloud.pem", "/dev/zero");
    let directory = Directory::new("files", &text);
    let shown = show(&config::read(&directory.config(), None));
    assert!(shown.contains("tls: it is a directory"), "{shown}");
    assert!(shown.contains("/dev/zero: it is too large. The limit is 1 MiB"), "{shown}");
    for (bad, expected) in [("nowhere.toml", "cannot be read"), (".", "cannot be read")] {
        let shown = show(&config::read(&directory.0.join(bad), None));
        assert!(shown.contains(expected), "{shown}");
    }
    std::fs::write(directory.config(), b"# \xff\n").unwrap();
    let shown = show(&config::read(&directory.config(), None));
    assert!(shown.contains("invalid utf-8"), "{shown}");
}

/// Damages every case in every way a slip of the hand can, and some that only chance finds. A failure prints its seed.
#[test]
fn no_text_makes_the_reader_panic_or_point_outside_the_file() {
    let texts: Vec<String> = ["bad", "good"].iter().flat_map(|folder| cases(folder)).map(|(_, text)| text).collect();
    let pieces =
        ["[", "]", "[[", "\"", "=", "{", "}", ",", "\n", "0", "\u{e9}", "\t", "-1", "1979-05-27", "[[vip]]\n", "\u{0}"];
    let rounds = std::env::var("LYRE_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4_000);
    for seed in 0..rounds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text: Vec<char> = random.choice(&texts).unwrap().chars().collect();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(0..=text.len());
            match random.u8(0..4) {
                0 => text.truncate(at),
                1 => drop(text.splice(at..(at + random.usize(0..9)).min(text.len()), None)),
                2 => drop(text.splice(at..at, random.choice(pieces).unwrap().chars())),
                _ => {
                    let other: Vec<char> = random.choice(&texts).unwrap().chars().collect();
                    let from = random.usize(0..=other.len());
                    let to = random.usize(from..=other.len());
                    drop(text.splice(at..at, other[from..to].iter().copied()));
                }
            }
        }
        let text: String = text.into_iter().collect();
        let report = std::panic::catch_unwind(|| config::read_bundle(&machine(&text)));
        let report = report.unwrap_or_else(|_| panic!("seed {seed}:\n{text}"));
        assert_eq!(report.outcome.is_some(), report.errors.is_empty(), "seed {seed}:\n{text}");
        let lines = text.lines().count().max(1) + 1;
        for problem in report.errors.iter().chain(&report.warnings) {
            assert!(problem.line <= lines, "seed {seed}: {problem}\n{text}");
            assert!(!problem.to_string().contains(|c: char| c.is_control() && c != '\n'), "seed {seed}: {problem}");
        }
    }
}

#[test]
fn the_environment_overrules_the_log_level_and_places_an_ordinary_users_socket() {
    let mut host = machine(include_str!("config/good/single-node.toml"));
    assert_eq!(config::from_bundle(&host).unwrap().admin.socket, Path::new("/run/lyre/lyre.sock"));
    host.environment.insert("LYRE_LOG".to_owned(), "debug".to_owned());
    host.environment.insert("XDG_RUNTIME_DIR".to_owned(), "/run/user/1000".to_owned());
    let settings = config::from_bundle(&host).unwrap();
    assert_eq!(settings.log.level, tracing::Level::DEBUG);
    assert_eq!(settings.admin.socket, Path::new("/run/user/1000/lyre/lyre.sock"));
    host.environment.insert("RUNTIME_DIRECTORY".to_owned(), "/run/lyre:/run/more".to_owned());
    let in_a_unit = config::from_bundle(&host).unwrap();
    assert_eq!(in_a_unit.admin.socket, Path::new("/run/lyre/lyre.sock"));
    host.environment.insert("LYRE_LOG".to_owned(), "loud".to_owned());
    let errors = config::from_bundle(&host).unwrap_err().to_string();
    assert_eq!(errors, "lyre.toml: LYRE_LOG: \"loud\" is no log level. Set it to error, warn, info or debug.");
}

#[test]
fn clients_find_the_socket_of_a_configuration_that_is_wrong_elsewhere() {
    let directory = Directory::new("socket", "admin.socket = \"lyre.sock\"\nnonsense = [1,\n");
    assert_eq!(config::admin_socket(&directory.config()), directory.0.join("lyre.sock"));
    let default = config::admin_socket(Path::new("/nowhere/lyre.toml"));
    assert!(default.ends_with("lyre/lyre.sock"), "{}", default.display());
}

/// docs/configuration.md is the reference: no key may be missing there.
#[test]
fn every_key_is_documented() {
    let docs = include_str!("../docs/configuration.md");
    let report = config::read_bundle(&machine(
        "[cluster]\n_=1\nnodes=[{_=1}]\n[[vip]]\n_=1\npeers=[{_=1}]\nvirtual_mac={_=1}\nannounce={_=1}\nauth={_=1, keys=[{_=1}]}\n[tls]\n_=1\ncertificates=[{_=1}]\n[nextcloud]\n_=1\ncheck={_=1}\n\
         [push]\n_=1\n[talk]\n_=1\n[collabora]\n_=1\n[onlyoffice]\n_=1\n[whiteboard]\n_=1\n[spool]\n_=1\n[[pool]]\n_=1\n[[route]]\n_=1\n[[listener]]\n_=1\n[limits]\n_=1\n[timeouts]\n_=1\n[worker]\n_=1\n\
         [admin]\n_=1\n[log]\n_=1\n",
    ));
    let mut keys = 0;
    for problem in report.errors.iter().filter(|problem| problem.message == "unknown key") {
        let hint = problem.hint.as_deref().unwrap();
        let known = hint
            .strip_prefix("Known here: ")
            .and_then(|list| list.strip_suffix('.'))
            .unwrap_or_else(|| panic!("{hint}"));
        for key in known.split(", ") {
            let written = [format!("`{key}`"), format!(".{key}`"), format!("`{key} ="), format!(", {key} }}")];
            assert!(written.iter().any(|form| docs.contains(form)), "{}: {key} is not documented", problem.key);
            keys += 1;
        }
    }
    assert!(keys > 60, "only {keys} keys were found");
}
