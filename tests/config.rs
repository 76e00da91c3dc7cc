//! lyre.toml in, settings or a report out, on a machine that exists only here.
//!
//! `tests/config/bad/NAME.toml` is a file with problems and `NAME.txt` the exact report. After a change on purpose,
//! `LYRE_BLESS=1 cargo test --test config` writes the reports anew; read the difference before committing it.

use lyre::config::bundle::{Bundle, Interface};
use lyre::config::settings::{AccessLog, CheckKind, ListenerKind, Settings};
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
    files.insert("short.key".into(), b"hunter2\n".to_vec());
    files.insert("empty.key".into(), b"\n".to_vec());
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
