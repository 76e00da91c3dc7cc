//! A table: a sound pair with one thing changed, and the one finding that has to follow.

use super::super::facts::{
    Alarm, Bridge, Claim, Daemon, Facts, Heard, Link, Manager, Peer, Privileges, Router, Rule, Ticks,
};
use super::{Finding, Level, judge};
use std::net::IpAddr;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// This node Backup, its peer Active and heard.
fn sound() -> Facts {
    Facts {
        privileges: Privileges {
            may_open_raw_sockets: true,
            may_change_addresses: true,
            may_be_realtime: true,
            realtime_runtime_us: Some(950_000),
            may_lock_memory: true,
        },
        ticks: Some(Ticks { all: 1000, stolen: 0 }),
        daemon: Some(Daemon { is_pair_link_up: Some(true) }),
        peers: vec![Peer { name: "b".to_owned(), address: IpAddr::from([10, 77, 0, 2]), answers: true }],
        firewall: Some(Vec::new()),
        routers: vec![router()],
    }
}

fn router() -> Router {
    Router {
        name: "vip1-v4".to_owned(),
        interface: "eth0".to_owned(),
        is_v4: true,
        vrid: 51,
        version: 3,
        priority: 254,
        interval_ms: 100,
        addresses: vec![IpAddr::from([10, 77, 0, 100])],
        is_unicast: false,
        has_virtual_mac: false,
        state: Some("backup".to_owned()),
        alarms: Vec::new(),
        link: Some(Link {
            is_up: true,
            has_carrier: true,
            mac: OURS,
            sources: vec![IpAddr::from([10, 77, 0, 1])],
            ..Link::default()
        }),
        heard: vec![heard()],
        has_socket: true,
        sending: Some(Ok(())),
        claims: Vec::new(),
        removals: 0,
    }
}

fn heard() -> Heard {
    Heard {
        source: IpAddr::from([10, 77, 0, 2]),
        mac: THEIRS,
        vrid: 51,
        version: 3,
        priority: 253,
        interval_ms: 100,
        ttl: 255,
        addresses: vec![IpAddr::from([10, 77, 0, 100])],
        is_ours: false,
        is_routed_here: true,
        on_wire: 30,
        at_socket: 30,
    }
}

type Change = fn(&mut Router);

/// Findings that are not well, of a sound pair whose router was changed.
fn after(change: Change) -> Vec<Finding> {
    let mut facts = sound();
    facts.routers.iter_mut().for_each(change);
    odd(&facts)
}

fn odd(facts: &Facts) -> Vec<Finding> {
    judge(facts).into_iter().filter(|finding| finding.level != Level::Ok).collect()
}

fn link(router: &mut Router) -> &mut Link {
    router.link.get_or_insert_default()
}

#[test]
fn a_sound_pair_has_no_finding() {
    assert_eq!(odd(&sound()), []);
    assert!(judge(&sound()).iter().all(|finding| finding.remedy.is_empty()));
}

#[test]
fn one_thing_wrong_with_the_router_is_one_finding_with_a_remedy() {
    use Level::{Fail, Warn};
    let table: &[(&str, Level, &str, Change)] = &[
        ("link", Fail, "no interface", |r| r.link = None),
        ("link", Fail, "is down", |r| link(r).is_up = false),
        ("link", Fail, "no carrier", |r| link(r).has_carrier = false),
        ("link", Fail, "no source", |r| link(r).sources.clear()),
        ("manager", Warn, "systemd-networkd", |r| link(r).manager = Some(Manager::Networkd)),
        ("manager", Warn, "NetworkManager", |r| link(r).manager = Some(Manager::NetworkManager)),
        ("settings", Warn, "every 1000 ms", |r| r.heard[0].interval_ms = 1000),
        ("settings", Fail, "version 2", |r| r.heard[0].version = 2),
        ("settings", Warn, "lists", |r| r.heard[0].addresses.push(IpAddr::from([10, 77, 0, 101]))),
        ("settings", Warn, "our priority", |r| r.heard[0].priority = 254),
        ("settings", Fail, "TTL 254", |r| r.heard[0].ttl = 254),
        ("reception", Fail, "do not arrive", |r| r.heard[0].at_socket = 0),
        ("sending", Fail, "refuses", |r| r.sending = Some(Err("Operation not permitted".to_owned()))),
        ("sending", Warn, "could not try", |r| r.sending = None),
        ("multicast", Fail, "no advert of it arrives", |r| r.heard.clear()),
        ("actives", Fail, "both Active", |r| r.state = Some("active".to_owned())),
        ("actives", Fail, "both Active", |r| {
            r.heard.push(Heard { source: IpAddr::from([10, 77, 0, 1]), is_ours: true, at_socket: 0, ..heard() });
        }),
        ("address", Fail, "02:00:00:00:00:09", |r| {
            r.claims.push(Claim { address: IpAddr::from([10, 77, 0, 100]), mac: [2, 0, 0, 0, 0, 9] });
        }),
        ("alarm", Warn, "not_heard", |r| {
            r.alarms.push(Alarm { name: "not_heard".to_owned(), remedy: "use unicast peers".to_owned() });
        }),
        ("virtual_mac", Warn, "QEMU", |r| {
            r.has_virtual_mac = true;
            link(r).hypervisor = Some("QEMU".to_owned());
        }),
    ];
    for (check, level, part, change) in table {
        let odd = after(*change);
        let [finding] = &odd[..] else { panic!("{check} {part}: {odd:#?}") };
        assert_eq!((finding.check, finding.level), (*check, *level), "{part}: {finding:?}");
        assert!(finding.message.contains(part), "{part}: {}", finding.message);
        assert!(!finding.remedy.is_empty(), "{finding:?}");
    }
}

#[test]
fn one_thing_wrong_with_the_host_is_one_finding() {
    type Change = fn(&mut Facts);
    let table: &[(&str, Level, Change)] = &[
        ("privileges", Level::Fail, |f| f.privileges.may_open_raw_sockets = false),
        ("privileges", Level::Fail, |f| f.privileges.may_change_addresses = false),
        ("realtime", Level::Warn, |f| f.privileges.may_be_realtime = false),
        ("realtime", Level::Warn, |f| f.privileges.realtime_runtime_us = Some(0)),
        ("realtime", Level::Warn, |f| f.privileges.may_lock_memory = false),
        ("clock", Level::Warn, |f| f.ticks = Some(Ticks { all: 1000, stolen: 30 })),
        ("clock", Level::Fail, |f| f.ticks = Some(Ticks { all: 1000, stolen: 200 })),
        ("clock", Level::Warn, |f| f.ticks = None),
        ("peer", Level::Warn, |f| f.peers[0].answers = false),
    ];
    for (check, level, change) in table {
        let mut facts = sound();
        change(&mut facts);
        let odd = odd(&facts);
        assert_eq!(odd.iter().map(|f| (f.check, f.level)).collect::<Vec<_>>(), [(*check, *level)], "{odd:?}");
    }
}

#[test]
fn a_stranger_with_our_vrid_is_a_clash_and_a_free_one_is_named() {
    let stranger =
        || Heard { source: IpAddr::from([10, 77, 0, 9]), addresses: vec![IpAddr::from([10, 77, 0, 200])], ..heard() };
    let mut facts = sound();
    facts.routers[0].heard.push(stranger());
    facts.routers[0].heard.push(Heard { vrid: 255, ..stranger() });
    let odd = odd(&facts);
    let [clash] = &odd[..] else { panic!("{odd:#?}") };
    assert_eq!((clash.check, clash.level), ("vrid", Level::Fail));
    assert!(clash.message.contains("10.77.0.9") && clash.remedy.contains("vrid = 254"), "{clash:?}");
}

#[test]
fn a_lost_advert_is_blamed_on_rp_filter_only_if_the_route_is_elsewhere() {
    let lost = |filter, is_routed_here| {
        let mut facts = sound();
        link(&mut facts.routers[0]).rp_filter = filter;
        facts.routers[0].heard[0] = Heard { at_socket: 0, is_routed_here, ..heard() };
        let rule = Rule { chain: "inet f input".to_owned(), text: "ip protocol vrrp drop".to_owned() };
        facts.firewall = Some(vec![rule]);
        odd(&facts).remove(0).message
    };
    assert!(lost(1, false).contains("rp_filter"));
    for (filter, is_routed_here) in [(1, true), (0, false), (2, false)] {
        let message = lost(filter, is_routed_here);
        assert!(message.contains("ip protocol vrrp drop (chain inet f input)"), "{message}");
    }
}

#[test]
fn an_active_that_hears_nobody_is_well_unless_a_bridge_will_forget_the_group() {
    let mut facts = sound();
    facts.routers[0].heard.clear();
    facts.routers[0].state = Some("active".to_owned());
    assert_eq!(odd(&facts), []);
    link(&mut facts.routers[0]).bridge = Some(Bridge { name: "br0".to_owned(), is_snooping: true, has_querier: false });
    let odd = odd(&facts);
    assert_eq!((odd[0].check, odd[0].level), ("multicast", Level::Warn));
    assert!(odd[0].remedy.contains("mcast_querier"), "{odd:?}");
}

#[test]
fn silence_with_nobody_alive_is_no_filter() {
    let mut facts = sound();
    facts.routers[0].heard.clear();
    facts.peers.iter_mut().for_each(|peer| peer.answers = false);
    facts.daemon = None;
    let silence = odd(&facts).into_iter().find(|finding| finding.check == "multicast").unwrap();
    assert_eq!(silence.level, Level::Warn);
}

#[test]
fn addresses_that_vanish_make_the_network_service_guilty() {
    let mut facts = sound();
    let router = &mut facts.routers[0];
    router.state = Some("active".to_owned());
    router.heard.clear();
    router.removals = 3;
    link(router).manager = Some(Manager::NetworkManager);
    let checks: Vec<_> = odd(&facts).iter().map(|finding| (finding.check, finding.level)).collect();
    assert_eq!(checks, [("manager", Level::Fail), ("address", Level::Fail)]);
}
