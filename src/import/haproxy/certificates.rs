//! `crt` and `crt-list`: HAProxy's files are combined ones, and Lyre takes them as they are.

use crate::import::edge::Certificate;
use crate::import::files::Files;
use crate::import::findings::Class;
use std::path::Path;

#[derive(Default)]
pub(super) struct Tls {
    pub(super) crt_base: Option<String>,
    pub(super) certificates: Vec<Certificate>,
    /// Of each `alpn`, whether it offers HTTP/2.
    pub(super) http2: Vec<bool>,
}

/// What became of one option.
pub(super) struct Found {
    pub(super) class: Class,
    pub(super) why: String,
}

/// Files beside a certificate that are none.
const BESIDE: [&str; 5] = [".key", ".ocsp", ".issuer", ".sctl", ".dh"];

/// Files of one directory or list.
const FILES_MAX: usize = 1000;

pub(super) fn find(tls: &mut Tls, files: &dyn Files, option: &str, typed: &str) -> Found {
    if typed.is_empty() {
        return Found { class: Class::Refused, why: "names no file".to_owned() };
    }
    if typed.starts_with('@') {
        let why = "a certificate of a crt-store: write its cert and key into tls.certificates".to_owned();
        return Found { class: Class::Refused, why };
    }
    if option == "crt-list" {
        return list(tls, files, typed);
    }
    let path = whole(tls, typed);
    match files.names(Path::new(&path)) {
        Ok(names) if !names.is_empty() || !last(&path).contains('.') => directory(tls, files, &path, names),
        Err(_) if path.ends_with('/') || !last(&path).contains('.') => {
            let why = format!(
                "{path} looks like a directory and cannot be listed here; import again on the host that has it, or write \
                 tls.certificates = [{{ cert = \"{}/NAME.pem\" }}] for each of its files",
                path.trim_end_matches('/')
            );
            Found { class: Class::Refused, why }
        }
        Ok(_) | Err(_) => {
            let why = file(tls, files, &path);
            Found { class: Class::Mapped, why }
        }
    }
}

/// One file; where its key is.
fn file(tls: &mut Tls, files: &dyn Files, path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let names = files.names(Path::new(if directory.is_empty() { "/" } else { directory })).unwrap_or_default();
    // HAProxy looks for the key beside a certificate without one.
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let keys = [format!("{name}.key"), format!("{stem}.key")];
    let key = keys.iter().find(|key| names.contains(key)).map(|key| format!("{directory}/{key}"));
    let why = match &key {
        Some(_) => "tls.certificates, with the key beside it",
        None => {
            "tls.certificates: Lyre too takes certificate, chain and key from one file, the server's own certificate \
                 before the chain"
        }
    };
    if !tls.certificates.iter().any(|other| other.cert == path) {
        tls.certificates.push(Certificate { cert: path.to_owned(), key, comment: None });
    }
    why.to_owned()
}

fn directory(tls: &mut Tls, files: &dyn Files, path: &str, mut names: Vec<String>) -> Found {
    let is_certificate = |name: &String| !name.starts_with('.') && !BESIDE.iter().any(|end| name.ends_with(end));
    names.retain(is_certificate);
    names.sort();
    names.truncate(FILES_MAX);
    for name in &names {
        file(tls, files, &format!("{}/{name}", path.trim_end_matches('/')));
    }
    match names.len() {
        0 => Found { class: Class::Refused, why: "there is no certificate in this directory".to_owned() },
        count => {
            let why = format!(
                "tls.certificates: {count} files that are there now, in their order; a new one has to be written there"
            );
            Found { class: Class::Remark, why }
        }
    }
}

/// Lines of `FILE [options] names`.
fn list(tls: &mut Tls, files: &dyn Files, typed: &str) -> Found {
    let path = whole(tls, typed);
    let Ok(text) = files.read(Path::new(&path)) else {
        let why = format!("{path} cannot be read; import again on the host that has it");
        return Found { class: Class::Refused, why };
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut has_more = false;
    let mut count = 0;
    for line in lines.take(FILES_MAX) {
        let name = line.split_whitespace().next().unwrap_or_default();
        has_more |= line.contains('[') || line.contains('!');
        let path = whole(tls, name);
        file(tls, files, &path);
        count += 1;
    }
    let why = match has_more {
        true => {
            "tls.certificates; options of its lines and excluded names have no form, certificates are chosen by their names"
        }
        false => "tls.certificates; certificates are chosen by the names in them",
    };
    let class = if count == 0 { Class::Refused } else { Class::Remark };
    Found { class, why: if count == 0 { "lists no certificate".to_owned() } else { why.to_owned() } }
}

fn whole(tls: &Tls, typed: &str) -> String {
    match (&tls.crt_base, typed.starts_with('/')) {
        (_, true) => typed.to_owned(),
        (Some(base), false) => format!("{}/{typed}", base.trim_end_matches('/')),
        (None, false) => format!("/etc/haproxy/{typed}"),
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
