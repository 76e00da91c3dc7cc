//! The tree checks itself: imports point downwards, pure rooms stay pure, no file is orphaned.

#![allow(clippy::unwrap_used)] // a tree that cannot be read is a failed test

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms of `src` a room may name after `crate::`. Everything may read `config::settings` and `telemetry`.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &["proto"]),
    ("policy", &["policy", "proto", "config"]),
    ("net", &["net", "config", "telemetry"]),
    ("serve", &["serve", "net", "policy", "proto", "config", "telemetry", "pair", "shared"]),
    ("config", &["config"]),
    ("control", &["control", "serve", "config", "telemetry", "pair", "shared"]),
    ("demo", &["demo", "control", "config"]),
    ("import", &["import", "config"]),
    ("cli", &["cli", "demo", "import", "control", "serve", "config", "telemetry", "proto", "policy"]),
];

/// Words that mean a clock, a socket, a runtime or randomness. Not allowed in pure files.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::net::Tcp",
    "std::net::Udp",
    "glommio",
    "socket2",
    "nix::",
    "libc::",
    "fastrand::",
    "tracing::",
    "std::fs",
    "std::thread",
];

const PURE: &[&str] = &[
    "src/proto",
    "src/policy",
    "src/import",
    "src/control/doctor/judge.rs",
    "src/control/doctor/judge",
    "src/control/doctor/facts.rs",
    "src/control/doctor/firewall.rs",
    "src/control/track/judge.rs",
    "vrrp/src/params.rs",
    "vrrp/src/packet.rs",
    "vrrp/src/machine.rs",
    "vrrp/src/announce.rs",
    "vrrp/src/alarm.rs",
    "vrrp/src/error.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(under) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests")
        || path.file_stem().is_some_and(|s| s.to_string_lossy().ends_with("tests"))
}

/// The code of a file without comments and without what follows its `#[cfg(test)]`.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn rooms_import_only_downwards() {
    let mut wrong = Vec::new();
    for (room, allowed) in ARROWS {
        for file in rust_files(&root().join("src").join(room)) {
            if is_test(&file) {
                continue;
            }
            for (number, line) in code(&file).lines().enumerate() {
                for named in line.split("crate::").skip(1) {
                    let named: String = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if !named.is_empty() && !allowed.contains(&named.as_str()) {
                        wrong.push(format!("{}:{}: {room} must not import {named}", file.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_files_name_no_clock_socket_or_runtime() {
    let mut wrong = Vec::new();
    for place in PURE {
        let place = root().join(place);
        let files = if place.is_dir() { rust_files(&place) } else { vec![place] };
        for file in files.iter().filter(|f| !is_test(f)) {
            let code = code(file);
            for word in IMPURE.iter().filter(|w| code.contains(**w)) {
                wrong.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn vrrp_knows_nothing_of_lyre() {
    for file in rust_files(&root().join("vrrp/src")) {
        assert!(!code(&file).contains("lyre::"), "{}", file.display());
    }
}

#[test]
fn every_source_file_is_a_declared_module() {
    let mut orphans = Vec::new();
    for base in ["src", "vrrp/src"] {
        let files = rust_files(&root().join(base));
        let declared: BTreeSet<String> = files
            .iter()
            .flat_map(|f| fs::read_to_string(f).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|line| {
                let line = line.trim().strip_suffix(';')?.to_owned();
                let name = line.rsplit_once("mod ")?.1.trim().to_owned();
                Some(name)
            })
            .collect();
        for file in files {
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            let name = match stem.as_str() {
                "main" | "lib" => continue,
                "mod" => file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned(),
                _ => stem,
            };
            if !declared.contains(&name) {
                orphans.push(file.display().to_string());
            }
        }
    }
    assert!(orphans.is_empty(), "no `mod` declares {}", orphans.join(", "));
}

/// docs/acceptance.md names tests by their functions and files.
#[test]
fn the_acceptance_list_names_tests_that_are_there() {
    let list = fs::read_to_string(root().join("docs/acceptance.md")).unwrap();
    let files = ["src", "tests", "vrrp"].iter().flat_map(|base| rust_files(&root().join(base)));
    let code: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    let is_path = |name: &str| name.contains('/') || name.ends_with(".rs");
    let is_there = |name: &str| match name {
        path if is_path(path) => ["", "tests"].iter().any(|base| root().join(base).join(path).exists()),
        function => code.contains(&format!("fn {function}(")),
    };
    // Longer than any key, header or metric that is mentioned.
    let is_test = |name: &&&str| is_path(name) && name.contains('.') || name.matches('_').count() >= 3;
    let lost: Vec<_> = named.iter().filter(is_test).filter(|name| !is_there(name)).collect();
    assert!(named.len() > 100 && lost.is_empty(), "not there: {lost:?}");
}
