//! Any text as lyre.toml: settings or problems, never both, never a panic, every problem inside the file.
//!
//! Seeds: `cargo +nightly fuzz run config_file fuzz/corpus/config_file tests/config/bad tests/config/good`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::config::bundle::{Bundle, Interface};
use std::collections::BTreeMap;

fuzz_target!(|text: &str| {
    let addresses = ["192.0.2.11/24", "2001:db8::11/64"].map(|address| address.parse().unwrap());
    let bundle = Bundle {
        path: "lyre.toml".into(),
        text: text.to_owned(),
        files: BTreeMap::from([("cluster.key".into(), vec![b'x'; 64]), ("cloud.pem".into(), b"-----BEGIN".to_vec())]),
        interfaces: vec![Interface { name: "eth0".to_owned(), addresses: addresses.to_vec() }],
        cpus: 2,
        ..Bundle::default()
    };
    let report = lyre::config::read_bundle(&bundle);
    assert_eq!(report.outcome.is_some(), report.errors.is_empty());
    for problem in report.errors.iter().chain(&report.warnings) {
        assert!(problem.line <= text.lines().count().max(1) + 1, "{problem}");
        assert!(!problem.to_string().contains(|c: char| c.is_control() && c != '\n'), "{problem:?}");
    }
});
