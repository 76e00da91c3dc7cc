//! Settings as lines of `place = value`, to compare two of them. Taken from their `Debug` form, so that no field can be
//! forgotten and no secret can be shown.

use super::settings::Settings;
use std::collections::BTreeMap;

/// What a running lyre cannot take over, and whether it differs: a reload that changes one of these is refused.
pub const NEEDS_RESTART: [(&str, Differ); 3] = [
    ("worker.cores", |old, new| old.worker.cores != new.worker.cores),
    ("spool.directory", |old, new| old.spool.directory != new.spool.directory),
    ("admin.socket", |old, new| old.admin != new.admin),
];

type Differ = fn(&Settings, &Settings) -> bool;

/// Every value by its place, as `pools[web].servers[0].address`. A list's entries are called by their name where they
/// have one, so that an inserted one does not move the others.
pub fn outline(settings: &Settings) -> BTreeMap<String, String> {
    let mut lines = flatten(&format!("{settings:#?}"));
    for (index, certificate) in settings.certificates.iter().enumerate() {
        // The content matters, not only which file it came from.
        lines.insert(format!("certificates[{index}].content"), fingerprint(&certificate.chain_pem));
    }
    if let Some(cluster) = &settings.cluster {
        lines.insert("cluster.secret".to_owned(), fingerprint(&cluster.secret.0));
    }
    if let Some(exapps) = &settings.exapps {
        lines.insert("exapps.shared_key".to_owned(), fingerprint(&exapps.shared_key.0));
        if let Some(files) = exapps.docker.as_ref().and_then(|docker| docker.frp_client.as_ref()) {
            for (name, file) in [("ca", &files.ca), ("certificate", &files.certificate), ("key", &files.key)] {
                lines.insert(format!("exapps.docker.frp_client.{name}"), fingerprint(&file.0));
            }
        }
    }
    lines
}

/// Enough to see that it changed, too little to find it by.
fn fingerprint(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let start = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}"));
    format!("sha256 {}…", start.collect::<String>())
}

/// An opened brace, bracket or parenthesis.
struct Level {
    /// Place of what is inside.
    path: String,
    /// Entries without a name get this as index.
    next: usize,
    is_list: bool,
}

/// The pretty form of `Debug` has one value or one brace a line.
fn flatten(pretty: &str) -> BTreeMap<String, String> {
    let mut levels: Vec<Level> = Vec::new();
    let mut lines = BTreeMap::new();
    let all: Vec<&str> = pretty.lines().map(|line| line.trim().trim_end_matches(',')).collect();
    for (number, line) in all.iter().enumerate() {
        match *line {
            "}" | "]" | ")" => {
                levels.pop();
                continue;
            }
            // There is more that Debug keeps to itself.
            ".." => continue,
            _ => {}
        }
        let (key, value) = match line.split_once(": ") {
            Some((key, value)) if is_key(key) => (Some(key), value),
            _ => (None, *line),
        };
        let path = place(&mut levels, key, all.get(number + 1).copied().unwrap_or_default());
        match value.strip_suffix(['{', '[', '(']) {
            Some(kind) => levels.push(Level { path, next: 0, is_list: kind.is_empty() && value == "[" }),
            None => drop(lines.insert(path, value.trim_matches('"').to_owned())),
        }
    }
    lines
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Where a value is; `inside` is the line after it, which may name it.
fn place(levels: &mut [Level], key: Option<&str>, inside: &str) -> String {
    let Some(level) = levels.last_mut() else { return String::new() };
    match key {
        Some(key) if level.path.is_empty() => key.to_owned(),
        Some(key) => format!("{}.{key}", level.path),
        None if level.is_list => {
            let name = inside.strip_prefix("name: ").map(|name| name.trim_matches('"').to_owned());
            let name = name.unwrap_or_else(|| level.next.to_string());
            level.next += 1;
            format!("{}[{name}]", level.path)
        }
        // What is in Some(…) or a variant has the place of its wrapping.
        None => level.path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[allow(dead_code)] // read by Debug
    struct Sample {
        name: &'static str,
        inner: Option<Inner>,
        list: Vec<Inner>,
        empty: Vec<u8>,
        numbers: Vec<u8>,
        wait: std::time::Duration,
    }

    #[derive(Debug, Clone)]
    #[allow(dead_code)] // read by Debug
    struct Inner {
        name: &'static str,
        address: std::net::SocketAddr,
        hidden: Hidden,
    }

    #[derive(Clone)]
    struct Hidden;

    impl std::fmt::Debug for Hidden {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Hidden").field("path", &"p").finish_non_exhaustive()
        }
    }

    #[test]
    fn every_value_has_a_place_of_its_own() {
        let inner = Inner { name: "a, {b}: c", address: ([127, 0, 0, 1], 80).into(), hidden: Hidden };
        let sample = Sample {
            name: "x",
            inner: Some(inner.clone()),
            list: vec![inner.clone(), Inner { name: "two", ..inner }],
            empty: Vec::new(),
            numbers: vec![7, 8],
            wait: std::time::Duration::from_millis(1500),
        };
        let lines: Vec<String> =
            flatten(&format!("{sample:#?}")).into_iter().map(|(place, value)| format!("{place} = {value}")).collect();
        assert_eq!(
            lines,
            [
                "empty = []",
                "inner.address = 127.0.0.1:80",
                "inner.hidden.path = p",
                "inner.name = a, {b}: c",
                "list[a, {b}: c].address = 127.0.0.1:80",
                "list[a, {b}: c].hidden.path = p",
                "list[a, {b}: c].name = a, {b}: c",
                "list[two].address = 127.0.0.1:80",
                "list[two].hidden.path = p",
                "list[two].name = two",
                "name = x",
                "numbers[0] = 7",
                "numbers[1] = 8",
                "wait = 1.5s",
            ]
        );
    }
}
