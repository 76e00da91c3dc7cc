//! Configurations of other programs in, lyre.toml out, and what comes out passes `lyre check`. This file is about
//! keepalived.conf, `web` about haproxy.cfg and nginx.conf.
//!
//! `tests/import/keepalived/NAME.conf` is a configuration and `NAME.toml` exactly what it becomes. After a change on
//! purpose, `LYRE_BLESS=1 cargo test --test import` writes them anew; read the difference before committing it.

#![allow(clippy::unwrap_used, clippy::panic)]

use lyre::config::bundle::{Bundle, Interface};
use lyre::config::{self, Report};
use lyre::import::keepalived::{self, Class, ErrorKind, Files, Import, ImportError};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

#[path = "import/mutate.rs"]
mod mutate;
#[path = "import/web.rs"]
mod web;

/// A certificate and its key in one file, as haproxy has them.
static COMBINED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["cloud.example.com".to_owned()]).unwrap();
    format!("{}{}", key.serialize_pem(), params.self_signed(&key).unwrap().pem()).into_bytes()
});

/// Files by path.
#[derive(Default)]
struct Memory(BTreeMap<PathBuf, String>);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let inside = self.0.keys().filter_map(|path| path.strip_prefix(directory).ok());
        Ok(inside.filter_map(|rest| Some(rest.iter().next()?.to_string_lossy().into_owned())).collect())
    }

    fn environment(&self, name: &str) -> Option<String> {
        let values = [("UPLINK", "eth7"), ("VIP", "192.0.2.70")];
        values.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    }
}

/// Where Debian's package puts them.
const SAMPLES: &str = "/usr/share/doc/keepalived/samples";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/keepalived")
}

/// All configurations of the folder under their relative paths, so that messages do not depend on the machine.
fn cases() -> Memory {
    fn collect(under: &Path, from: &Path, files: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(under, &path, files);
            } else if path.extension().is_some_and(|e| e != "toml") {
                files.insert(path.strip_prefix(under).unwrap().into(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    collect(&folder(), &folder(), &mut files);
    Memory(files)
}

fn one(text: &str) -> Result<Import, ImportError> {
    let files = Memory(BTreeMap::from([("keepalived.conf".into(), text.to_owned())]));
    keepalived::import(Path::new("keepalived.conf"), "edge-a", &files)
}

/// What `lyre check` says on a host that has every interface and address the file speaks of, as its first node.
fn check(toml: &str) -> Report {
    let table: toml::Table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
    let empty = Vec::new();
    let array = |value: Option<&toml::Value>| value.and_then(|v| v.as_array()).unwrap_or(&empty).clone();
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut add = |name: &str, address: String| {
        let address = address.parse().unwrap();
        match interfaces.iter_mut().find(|interface| interface.name == name) {
            Some(interface) => interface.addresses.push(address),
            None => interfaces.push(Interface { name: name.to_owned(), addresses: vec![address] }),
        }
    };
    for vip in array(table.get("vip")) {
        let excluded = array(vip.get("excluded_addresses"));
        for address in array(vip.get("addresses")).into_iter().chain(excluded) {
            let network: ipnet::IpNet = address.as_str().unwrap().parse().unwrap();
            let own = match network {
                ipnet::IpNet::V4(network) => IpAddr::V4(u32::from(network.broadcast()).wrapping_sub(3).into()),
                ipnet::IpNet::V6(network) => IpAddr::V6((u128::from(network.broadcast()) - 3).into()),
            };
            let name = vip.get("interface").and_then(|name| name.as_str()).unwrap_or("eth0");
            add(name, format!("{own}/{}", network.prefix_len()));
        }
        for source in array(vip.get("source")) {
            let name = vip.get("interface").and_then(|name| name.as_str()).unwrap_or("eth0");
            add(name, format!("{}/32", source.as_str().unwrap()));
        }
    }
    let nodes = table.get("cluster").and_then(|cluster| cluster.get("nodes"));
    let first = array(nodes).into_iter().next();
    if let Some(node) = &first {
        add("node0", format!("{}/32", node.get("address").unwrap().as_str().unwrap()));
    }
    let mut files = BTreeMap::from([("cluster.key".into(), b"5d2cbf0b2f6a48d4a3f1b1d4e1f0c7a9\n".to_vec())]);
    for certificate in array(table.get("tls").and_then(|tls| tls.get("certificates"))) {
        let path = |key: &str| certificate.get(key).map(|path| PathBuf::from(path.as_str().unwrap()));
        files.extend(["cert", "key"].into_iter().filter_map(path).map(|path| (path, COMBINED.clone())));
    }
    config::read_bundle(&Bundle {
        path: "lyre.toml".into(),
        text: toml.to_owned(),
        // A source address may be the other node's.
        node: first.and_then(|node| Some(node.get("name")?.as_str()?.to_owned())),
        files,
        // Passwords and keys of adverts are the operator's to fill in; a bundle never has them.
        interfaces,
        cpus: 2,
        ..Bundle::default()
    })
}

/// Nothing to do is the only thing that may be wrong with an import, when all of it was refused.
fn assert_passes_check(name: &str, import: &Import) {
    let report = check(&import.toml);
    let wrong: Vec<String> = report
        .errors
        .iter()
        .filter(|problem| !problem.message.contains("nothing to do"))
        // An instance that named none; which one it is depends on the host.
        .filter(|problem| !problem.key.ends_with(".interface"))
        .map(|problem| problem.to_string())
        .collect();
    assert!(wrong.is_empty(), "{name}\n{}\n{}", wrong.join("\n"), import.toml);
    if report.errors.iter().any(|problem| problem.message.contains("nothing to do")) {
        assert!(!import.is_complete(), "{name}: nothing is left, and nothing is refused");
    }
}

#[test]
fn every_configuration_becomes_exactly_its_file() {
    let files = cases();
    let bless = std::env::var_os("LYRE_BLESS").is_some();
    let names: Vec<PathBuf> = files.0.keys().filter(|path| path.iter().count() == 1).cloned().collect();
    assert!(names.len() >= 25, "cases went missing");
    let mut wrong = Vec::new();
    for name in names {
        let import = keepalived::import(&name, "edge-a", &files).unwrap_or_else(|error| panic!("{error}"));
        let expected_path = folder().join(&name).with_extension("toml");
        if bless {
            std::fs::write(&expected_path, &import.toml).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if expected != import.toml {
            wrong.push(format!("--- {}\nexpected:\n{expected}\ngot:\n{}", name.display(), import.toml));
        }
        assert_passes_check(&name.display().to_string(), &import);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// docs/keepalived.md shows it; what it shows must be what is printed.
#[test]
fn the_worked_example_of_the_migration_guide_is_what_the_importer_prints() {
    let docs = include_str!("../docs/keepalived.md");
    assert!(docs.contains(include_str!("import/keepalived/worked_example.conf").trim_end()));
    let printed = include_str!("import/keepalived/worked_example.toml");
    let block = docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let said = |line: &&str| !line.starts_with("# ") || line.contains("The first node is preferred");
    let keys: Vec<&str> = printed.lines().filter(said).filter(|line| !line.is_empty() && *line != "#").collect();
    let shown: Vec<&str> = block.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(shown, keys);
}

#[test]
fn every_statement_of_a_configuration_has_a_finding() {
    let files = cases();
    // Braces, blocks that only hold others, and lines for other hosts say nothing by themselves.
    let containers = [
        "global_defs",
        "vrrp_instance",
        "vrrp_script",
        "virtual_ipaddress",
        "virtual_ipaddress_excluded",
        "authentication",
        "auth_hmac",
        "track_script",
        "track_interface",
        "track_process",
        "track_file",
        "group",
        "url",
        "{",
        "}",
        "@^",
        "@",
        "~",
        "$",
    ];
    for (name, text) in files.0.iter().filter(|(path, _)| path.iter().count() == 1) {
        if ["variables.conf", "quoting.conf"].contains(&name.to_str().unwrap()) {
            continue; // lines there are parts of others
        }
        let import = keepalived::import(name, "edge-a", &files).unwrap();
        let mut depth_unread = 0usize;
        for (line, number) in text.lines().zip(1..) {
            let line = line.split(['#', '!']).next().unwrap().trim();
            let is_found = import.findings.iter().any(|f| f.at.line == number && *f.at.file == *name.to_string_lossy());
            // The lines of a block that is refused or ignored as a whole go with it.
            let opens = line.matches('{').count() - line.matches("${").count();
            let closes = line.matches('}').count() - line.matches("${").count();
            if depth_unread > 0 {
                depth_unread = depth_unread + opens - closes;
                continue;
            }
            let is_container = containers.iter().any(|word| line.starts_with(word));
            assert!(line.is_empty() || is_found || is_container, "{}:{number}: {line}", name.display());
            let whole = import.findings.iter().any(|f| {
                let is_lost = matches!(f.class, Class::Refused | Class::Ignored | Class::Unknown);
                f.at.line == number && is_lost && *f.at.file == *name.to_string_lossy()
            });
            // These are read further, whatever becomes of themselves.
            let reads_on = ["vrrp_instance ", "virtual_server ", "real_server", "unicast_peer", "vrrp_sync_group"];
            if whole && opens > closes && !reads_on.iter().any(|word| line.starts_with(word)) {
                depth_unread = opens - closes;
            }
        }
    }
}

/// They are keepalived's own and stay in its package; what becomes of them is ours, in `tests/import/samples`.
#[test]
fn the_samples_of_the_keepalived_package_become_what_is_expected() {
    struct Samples;
    impl Files for Samples {
        fn read(&self, path: &Path) -> io::Result<String> {
            std::fs::read_to_string(Path::new(SAMPLES).join(path))
        }
        fn names(&self, _: &Path) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }
        fn environment(&self, _: &str) -> Option<String> {
            None
        }
    }
    let Ok(entries) = std::fs::read_dir(SAMPLES) else {
        println!("skipped: keepalived's samples are not installed here");
        return;
    };
    let names = entries.map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let is_sample = |name: &PathBuf| name.to_string_lossy().starts_with("keepalived.conf.");
    let mut samples: Vec<PathBuf> =
        names.filter(is_sample).filter(|n| n.extension().is_none_or(|e| e != "gz")).collect();
    samples.sort();
    assert!(samples.len() >= 20, "{samples:?}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/samples");
    let bless = std::env::var_os("LYRE_BLESS").is_some();
    for name in &samples {
        for host in ["high", "low"] {
            let import = keepalived::import(name, host, &Samples).unwrap_or_else(|error| panic!("{error}"));
            assert_passes_check(&name.display().to_string(), &import);
            let unknown: Vec<String> =
                import.findings.iter().filter(|f| f.class == Class::Unknown).map(|f| f.to_string()).collect();
            // A sync group of an older time lists its members without `group`.
            assert!(unknown.is_empty() || name.ends_with("keepalived.conf.vrrp.lvs_syncd"), "{unknown:?}");
            // Only there it matters which host it is for.
            if host == "low" && !name.ends_with("keepalived.conf.conditional_conf") {
                continue;
            }
            let expected = folder.join(format!("{}.{host}.toml", name.display()));
            if bless {
                std::fs::write(&expected, &import.toml).unwrap();
            }
            let read = std::fs::read_to_string(&expected).unwrap_or_default();
            assert_eq!(import.toml, read, "{}", expected.display());
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error_with_file_and_line() {
    let bomb = format!("$A=xxxxxxxxxxxxxxxx\n{}${{A}}\n", "$A=".to_owned() + &"${A}".repeat(2) + "\n");
    let long: String = (0..40).map(|n| format!("$V{}=${{V{n}}}${{V{n}}}\n", n + 1)).collect();
    for (text, line, wanted) in [
        ("vrrp_instance A {\n  interface eth0\n", 1, "never closed"),
        ("global_defs {\n}\n}\n", 3, "closes nothing"),
        ("{\n}\n", 1, "no keyword"),
        ("global_defs {\n router_id \"abc\n}\n", 2, "quote"),
        ("~SEQ(N, 1, 0, 5) x ${N}\n", 1, "never reaches"),
        ("~SEQ(N, 1, 9 x\n", 1, "parentheses"),
        ("~LST({A, B}, {1}) x\n", 1, "as many values"),
        ("~SEQ(N, 1, 99999999999) x ${N}\n", 1, "more text"),
        ("$A=${A}\n${A}\n", 2, "contain itself"),
        (&bomb, 3, "contain"),
        (&format!("$V0=xxxxxxxx\n{long}${{V40}}\n"), 42, "more text"),
        (&"a {\n".repeat(40), 17, "too deeply"),
    ] {
        let Err(error) = one(text) else { panic!("{text} was read") };
        assert_eq!((error.at.line, &*error.at.file), (line, "keepalived.conf"), "{text}: {error}");
        let is_either = error.to_string().contains(wanted) || text == bomb && error.to_string().contains("more text");
        assert!(is_either, "{text}: {error}");
    }
}

#[test]
fn includes_that_go_in_a_circle_or_too_deep_are_errors() {
    let mut files = Memory::default();
    files.0.insert("/etc/a.conf".into(), "\ninclude b.conf\n".to_owned());
    files.0.insert("/etc/b.conf".into(), "include /etc/?.conf\n".to_owned());
    let error = keepalived::import(Path::new("/etc/a.conf"), "x", &files).err().unwrap();
    assert!(matches!(error.kind, ErrorKind::IncludeCycle(_)), "{error}");
    assert_eq!((&*error.at.file, error.at.line), ("/etc/b.conf", 1));

    let chain = (0..40).map(|n| (PathBuf::from(format!("/{n}.conf")), format!("include {}.conf\n", n + 1)));
    let error = keepalived::import(Path::new("/0.conf"), "x", &Memory(chain.collect())).err().unwrap();
    assert!(matches!(error.kind, ErrorKind::IncludeDepth), "{error}");

    let error = keepalived::import(Path::new("/none.conf"), "x", &Memory::default()).err().unwrap();
    assert!(matches!(error.kind, ErrorKind::Unreadable(_)), "{error}");
    assert_eq!(error.to_string(), "/none.conf: cannot be read");
}

#[test]
fn the_host_decides_conditional_lines() {
    let text = "@edge-a vrrp_instance A { virtual_router_id 1 \n @edge-b vrrp_instance B {\n virtual_router_id 7\n interface e0\n \
                virtual_ipaddress { 192.0.2.1/24 }\n}\n";
    let text = text.replace("{ virtual_router_id 1 ", "{");
    let shown = |host: &str| {
        let files = Memory(BTreeMap::from([("k".into(), text.clone())]));
        keepalived::import(Path::new("k"), host, &files).unwrap().toml
    };
    assert!(shown("edge-a").contains("vrrp_instance A"), "{}", shown("edge-a"));
    assert!(shown("edge-b").contains("vrrp_instance B"));
    assert!(shown("edge-b").contains("1 line is for @edge-a only"));
}

#[test]
fn secrets_stay_out_of_the_output() {
    let text = "vrrp_instance A {\n authentication {\n auth_type PASS\n auth_pass hunter2\n }\n}\n";
    let toml = one(text).unwrap().toml;
    assert!(!toml.contains("hunter2") && toml.contains("auth_pass (not shown)"), "{toml}");
}

#[test]
fn nothing_typed_in_keepalived_conf_escapes_its_comment() {
    let text = "vrrp_instance \"A\\n[[vip]]\\r[x]\" {\n interface \"e\\n\\\"0\"\n virtual_router_id 1\n priority \"1\\n[y]\"\n \
                virtual_ipaddress { 192.0.2.1/24 }\n}\n\"evil\\n[log]\"\n";
    let import = one(text).unwrap();
    let table: toml::Table = import.toml.parse().unwrap();
    assert_eq!(table.keys().collect::<Vec<_>>(), ["cluster", "vip"], "{}", import.toml);
    assert_eq!(table["vip"].as_array().unwrap().len(), 1);
}

#[test]
fn every_truncation_of_every_configuration_is_values_or_an_error() {
    let files = cases();
    for (name, text) in &files.0 {
        for end in (0..text.len()).step_by(7).filter(|end| text.is_char_boundary(*end)) {
            let cut = Memory(BTreeMap::from([(name.clone(), text[..end].to_owned())]));
            if let Ok(import) = keepalived::import(name, "edge-a", &cut) {
                assert!(import.toml.parse::<toml::Table>().is_ok(), "{}", import.toml);
            }
        }
    }
}

#[test]
fn mutated_configurations_are_values_or_an_error() {
    let files = cases();
    let texts: Vec<&String> = files.0.values().collect();
    let all: Vec<&str> = texts.iter().flat_map(|text| text.split_inclusive([' ', '\n'])).collect();
    let noise = ["{", "}\n", "\"", "\\\n", "${", "~SEQ(A,9) ", "@x ", "$A=${A}\n", "'"];
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..10_000 {
        let case = texts[random.usize(..texts.len())];
        let text = mutate::mutated(&mut random, case, &all, &noise);
        let name = PathBuf::from("keepalived.conf");
        let files = Memory(BTreeMap::from([(name.clone(), text.clone())]));
        if let Ok(import) = keepalived::import(&name, "edge-a", &files) {
            let table = import.toml.parse::<toml::Table>();
            assert!(table.is_ok(), "round {round}: {:?}\n{text}\n{}", table.err(), import.toml);
            assert_passes_check(&format!("round {round}\n{text}"), &import);
        }
    }
}

#[test]
fn the_command_prints_and_says_by_its_status_what_is_missing() {
    let run = |file: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lyre"))
            .args(["import", "keepalived", "--host", "edge-a"])
            .arg(folder().join(file))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, stdout, stderr) = run("pair_haproxy.conf");
    assert_eq!((status, stdout.contains("[[vip]]"), stderr.as_str()), (Some(0), true, ""));
    let (status, stdout, _) = run("static_routing.conf");
    assert_eq!((status, stdout.contains("[[vip]]")), (Some(2), true));
    let (status, stdout, stderr) = run("there_is_no_such.conf");
    assert_eq!((status, stdout.as_str(), stderr.contains("cannot be read")), (Some(1), "", true), "{stderr}");
}
