//! haproxy.cfg and nginx.conf, as they stand in front of Nextcloud.
//!
//! `tests/import/PROGRAM/NAME.cfg` (or `.conf`) is a configuration, `NAME.toml` exactly what it becomes.

use super::{Memory, assert_passes_check};
use crate::mutate;
use lyre::import::{Class, ErrorKind, Files, Import, ImportError, haproxy, nginx};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Read = fn(&Path, &dyn Files) -> Result<Import, ImportError>;

struct Program {
    name: &'static str,
    extension: &'static str,
    read: Read,
    /// Lines that only hold others.
    containers: &'static [&'static str],
    /// What mutations put between the words.
    noise: &'static [&'static str],
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "haproxy",
        extension: "cfg",
        read: |path, files| haproxy::import(path, files),
        containers: &["global", "defaults"],
        noise: &[
            "\"",
            "\\\n",
            "'",
            "${WEB}",
            "if ",
            "{ ",
            "} ",
            "|| ",
            "!",
            "listen x\n",
            "backend\n",
            "mode tcp\n",
            "bind :80\n",
        ],
    },
    Program {
        name: "nginx",
        extension: "conf",
        read: |path, files| nginx::import(path, files),
        containers: &["http", "events", "stream"],
        noise: &[
            "{ ",
            "}\n",
            ";\n",
            "\"",
            "'",
            "\\",
            "include mutated;\n",
            "server { ",
            "location / { ",
            "listen 80;\n",
        ],
    },
];

impl Program {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(self.name)
    }

    /// Configurations by name, sorted.
    fn cases(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let is_case = |path: &PathBuf| path.extension().is_some_and(|e| e == self.extension);
        let mut cases: Vec<(String, String)> = entries
            .filter(is_case)
            .map(|path| {
                let text = std::fs::read_to_string(&path).unwrap();
                (path.file_name().unwrap().to_string_lossy().into_owned(), text)
            })
            .collect();
        cases.sort();
        cases
    }

    fn import(&self, name: &str, text: &str) -> Result<Import, ImportError> {
        let mut files = host();
        files.0.insert(name.into(), text.to_owned());
        (self.read)(Path::new(name), &files)
    }
}

/// What else is on the disk of the host that the configurations are from.
fn host() -> Memory {
    let files = [
        ("/etc/haproxy/certs/cloud.example.com.pem", ""),
        ("/etc/haproxy/certs/office.example.com.pem", ""),
        ("/etc/haproxy/certs/office.example.com.pem.key", ""),
        ("/etc/haproxy/certs/office.example.com.pem.ocsp", ""),
        (
            "/etc/haproxy/crt-list.txt",
            "# one a line\nschool.pem [alpn h2] school-cloud.example.com\n/etc/ssl/town.pem\n",
        ),
        ("/etc/haproxy/town.hosts", "town.example.com\n# old\nwww.town.example.com\n"),
        (
            "/etc/nginx/snippets/tls.conf",
            "ssl_certificate /etc/ssl/cloud.crt;\nssl_certificate_key /etc/ssl/cloud.key;\n",
        ),
        ("/etc/nginx/conf.d/a.conf", "upstream wiki {\n    server 10.0.0.60:8080;\n}\n"),
        ("/etc/nginx/conf.d/b.conf", "proxy_read_timeout 2h;\n"),
    ];
    Memory(files.into_iter().map(|(path, text)| (path.into(), text.to_owned())).collect::<BTreeMap<_, _>>())
}

#[test]
fn every_configuration_becomes_exactly_its_file() {
    let bless = std::env::var_os("LYRE_BLESS").is_some();
    let mut wrong = Vec::new();
    for program in PROGRAMS {
        let cases = program.cases();
        assert!(cases.len() >= 8, "cases of {} went missing", program.name);
        for (name, text) in cases {
            let import = program.import(&name, &text).unwrap_or_else(|error| panic!("{error}"));
            let expected_path = program.folder().join(&name).with_extension("toml");
            if bless {
                std::fs::write(&expected_path, &import.toml).unwrap();
            }
            let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
            if expected != import.toml {
                wrong.push(format!("--- {name}\nexpected:\n{expected}\ngot:\n{}", import.toml));
            }
            assert_passes_check(&name, &import);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_line_of_a_configuration_has_a_finding() {
    for program in PROGRAMS {
        for (name, text) in program.cases() {
            let import = program.import(&name, &text).unwrap();
            let classes = |number: usize| {
                let here = import.findings.iter().filter(|f| f.at.line == number && *f.at.file == *name);
                here.map(|f| f.class).collect::<Vec<_>>()
            };
            // What is ignored or refused as a whole takes its lines with it; how deep that began.
            let mut whole: Option<usize> = None;
            for (line, number) in text.lines().zip(1..) {
                let depth = line.len() - line.trim_start().len();
                let line = line.split(" #").next().unwrap().trim();
                if line.is_empty() || line.starts_with('#') || line == "}" {
                    continue;
                }
                whole = whole.filter(|began| depth > *began);
                let found = classes(number);
                let opens = line.ends_with('{') || depth == 0;
                let is_lost = found.iter().any(|class| matches!(class, Class::Ignored | Class::Refused));
                if opens && (is_lost || line.starts_with("if ") && !found.is_empty()) {
                    whole = whole.or(Some(depth));
                }
                let first = line.split_whitespace().next().unwrap();
                let is_fine = !found.is_empty() || whole.is_some() || program.containers.contains(&first);
                assert!(is_fine, "{name}:{number}: {line}\n{}", import.toml);
            }
        }
    }
}

#[test]
fn what_is_misspelt_is_not_understood_and_said_with_its_line() {
    for (program, name, line, word) in
        [("haproxy", "stats_and_tables.cfg", 51, "frobnicate all"), ("nginx", "cloudflare.conf", 26, "frobnicate on")]
    {
        let program = PROGRAMS.iter().find(|known| known.name == program).unwrap();
        let text = std::fs::read_to_string(program.folder().join(name)).unwrap();
        let import = program.import(name, &text).unwrap();
        let found = import.findings.iter().find(|f| f.what.contains(word)).unwrap();
        assert_eq!((found.class, found.at.line), (Class::Unknown, line), "{found}");
        assert!(!import.is_complete());
        assert!(import.toml.contains(word), "{}", import.toml);
    }
}

#[test]
fn secrets_stay_out_of_the_output() {
    for program in PROGRAMS {
        for (name, text) in program.cases() {
            let import = program.import(&name, &text).unwrap();
            for secret in ["hunter2", "aHVudGVyMg"] {
                assert!(!import.toml.contains(secret), "{name}: {secret}\n{}", import.toml);
            }
        }
    }
}

#[test]
fn every_truncation_of_every_configuration_is_values_or_an_error() {
    for program in PROGRAMS {
        for (name, text) in program.cases() {
            for end in (0..text.len()).step_by(7).filter(|end| text.is_char_boundary(*end)) {
                if let Ok(import) = program.import(&name, &text[..end]) {
                    assert!(import.toml.parse::<toml::Table>().is_ok(), "{}", import.toml);
                }
            }
        }
    }
}

#[test]
fn mutated_configurations_are_values_that_pass_check_or_an_error() {
    for program in PROGRAMS {
        let cases = program.cases();
        let all: Vec<&str> = cases.iter().flat_map(|(_, text)| text.split_inclusive([' ', '\n'])).collect();
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..5000 {
            let case = &cases[random.usize(..cases.len())].1;
            let text = mutate::mutated(&mut random, case, &all, program.noise);
            if let Ok(import) = program.import("mutated", &text) {
                let table = import.toml.parse::<toml::Table>();
                assert!(table.is_ok(), "round {round}: {:?}\n{text}\n{}", table.err(), import.toml);
                assert_passes_check(&format!("{} round {round}\n{text}", program.name), &import);
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error_with_file_and_line() {
    for (program, text, line, wanted) in [
        ("haproxy", "global\n log \"x\n", 2, "quote"),
        ("nginx", "http {\n server {\n }\n", 1, "never closed"),
        ("nginx", "user x;\n}\n", 2, "closes nothing"),
        ("nginx", "{\n}\n", 1, "no keyword"),
        ("nginx", "user x;\npid y\n", 2, "no ; ends pid"),
        ("nginx", "a {\n b\n}\n", 2, "no ; ends b"),
        ("nginx", "a 'b;\n", 1, "quote"),
        ("nginx", &"a {\n".repeat(40), 33, "too deeply"),
        ("nginx", "\ninclude case;\n", 2, "circle"),
    ] {
        let program = PROGRAMS.iter().find(|known| known.name == program).unwrap();
        let Err(error) = program.import("case", text) else { panic!("{text} was read") };
        assert_eq!((error.at.line, error.to_string().contains(wanted)), (line, true), "{text}: {error}");
    }
    for program in PROGRAMS {
        let error = (program.read)(Path::new("/none"), &host()).err().unwrap();
        assert!(matches!(error.kind, ErrorKind::Unreadable(_)), "{error}");
    }
}

#[test]
fn the_commands_print_and_say_by_their_status_what_is_missing() {
    for (program, complete, incomplete) in
        [("haproxy", "docs_style.cfg", "docker_names.cfg"), ("nginx", "own_hosts.conf", "docker_names.conf")]
    {
        let program = PROGRAMS.iter().find(|known| known.name == program).unwrap();
        let run = |file: &str| {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_lyre"))
                .args(["import", program.name])
                .arg(program.folder().join(file))
                .output()
                .unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
        };
        let (status, stdout, stderr) = run(complete);
        assert_eq!((status, stdout.contains("[nextcloud]"), stderr.as_str()), (Some(0), true, ""), "{stdout}");
        let (status, stdout, _) = run(incomplete);
        assert_eq!((status, stdout.contains("refused: what these did is missing now")), (Some(2), true), "{stdout}");
        let (status, stdout, stderr) = run("there_is_no_such");
        assert_eq!((status, stdout.as_str(), stderr.contains("cannot be read")), (Some(1), "", true), "{stderr}");
    }
}

/// The installed haproxy prints every keyword it knows; none may be one that we have not heard of.
#[test]
fn no_keyword_of_the_installed_haproxy_is_unknown() {
    let output = std::process::Command::new("haproxy").args(["-dKcfg", "-q", "-c", "-f", "/dev/null"]).output();
    let Ok(output) = output else {
        println!("SKIPPED: no_keyword_of_the_installed_haproxy_is_unknown: haproxy is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let mut section = "";
    let mut unknown = Vec::new();
    let mut count = 0;
    for line in text.lines() {
        let Some(words) = line.strip_prefix('\t') else {
            section = line.trim();
            continue;
        };
        // What follows is how many words come after it, or where it may stand.
        let words: Vec<&str> = words.split_whitespace().take_while(|word| !word.starts_with(['+', '['])).collect();
        let typed =
            words.join(" ").replace("<name>", "a").replace("bind <addr>", "bind :80").replace("<addr>", "10.0.0.1:80");
        let typed = typed.trim_end_matches('*');
        let config = match section {
            "global" => format!("global\n {typed} x\n"),
            "listen" => format!("listen a\n mode http\n {typed} x\n"),
            _ => continue,
        };
        // These want one of their own words behind them.
        if ["timeout", "http-check", "tcp-check", "tcp-request", "http-request", "http-response"].contains(&typed) {
            continue;
        }
        let program = PROGRAMS.iter().find(|known| known.name == "haproxy").unwrap();
        let Ok(import) = program.import("haproxy.cfg", &config) else { panic!("{config}") };
        // `x` stands for an argument where there is none.
        let is_about = |what: &str| !what.ends_with("... x");
        unknown.extend(
            import.findings.iter().filter(|f| f.class == Class::Unknown && is_about(&f.what)).map(|f| f.to_string()),
        );
        count += 1;
    }
    assert!(count > 100 || text.is_empty() || !output.status.success(), "the list is not read: {text}");
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    println!("{count} keywords");
}
