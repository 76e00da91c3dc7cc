//! What the edge knows about the paths of Nextcloud's web servers: which it answers itself, which are pulses that must
//! not wait behind long requests.

use std::time::Duration;

/// What a path of the web servers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// For a web server.
    Usual,
    /// Short and asked for by everybody: may use the places of a server that are kept for such.
    Light,
    /// Light, and worthless if it is late.
    Pulse,
    /// 301 to [`DAV_ROOT`].
    DavRoot,
    /// 301 to the same place behind `/index.php`.
    WellKnown,
    /// Data, code and configuration that no client has to see: 404.
    Hidden,
    /// ExApps, while no gateway is configured.
    ExApp,
}

/// Where CalDAV and CardDAV clients find everything (RFC 6764 §5).
pub const DAV_ROOT: &[u8] = b"/remote.php/dav/";

/// Put before `/.well-known/…`, which Nextcloud answers there.
pub const WELL_KNOWN_BASE: &[u8] = b"/index.php";

/// A pulse is answered by then, or its server is no better than dead.
pub const PULSE_TIMEOUT: Duration = Duration::from_secs(10);

/// One in so many of a server's places is for light requests only.
pub const LIGHT_SHARE: u32 = 10;

/// First segments of the installation's own directories and programs.
const HIDDEN: [&[u8]; 12] = [
    b"config",
    b"data",
    b"lib",
    b"3rdparty",
    b"templates",
    b"tests",
    b"build",
    b"autotest",
    b"occ",
    b"console",
    b"issue",
    b"indie",
];

/// Beginnings of first segments that are hidden as well.
const HIDDEN_STARTS: [&[u8]; 2] = [b".ht", b"db_"];

/// `path` is raw; `normal` is its normal form where that may differ. A path that means a hidden place to the web server
/// is hidden however it is written; the other places are only what their names say, byte for byte.
pub fn place(path: &[u8], normal: Option<&[u8]>) -> Place {
    if is_hidden(normal.unwrap_or(path)) {
        return Place::Hidden;
    }
    let (first, rest) = split(path);
    match first {
        b"status.php" if rest.is_empty() => Place::Pulse,
        b"heartbeat" if rest.is_empty() => Place::Pulse,
        b"index.php" if rest == b"/heartbeat" => Place::Pulse,
        b"index.php" if is_login(rest) => Place::Light,
        b"login" | b"csrftoken" => Place::Light,
        b"ocs" if is_capabilities(rest) => Place::Light,
        b".well-known" => well_known(rest),
        b"exapps" => Place::ExApp,
        _ => Place::Usual,
    }
}

/// Whether [`place`] has to see the normal form of `path` too: something in it may be written another way.
pub fn needs_normal(path: &[u8]) -> bool {
    let is_doubtful = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.'] | [b'%', _]);
    path.windows(2).any(is_doubtful)
}

fn is_hidden(path: &[u8]) -> bool {
    let (first, _) = split(path);
    HIDDEN.contains(&first) || HIDDEN_STARTS.iter().any(|start| first.starts_with(start))
}

fn is_login(rest: &[u8]) -> bool {
    rest == b"/login" || rest.starts_with(b"/login/") || rest == b"/csrftoken"
}

fn is_capabilities(rest: &[u8]) -> bool {
    rest == b"/v1.php/cloud/capabilities" || rest == b"/v2.php/cloud/capabilities"
}

fn well_known(rest: &[u8]) -> Place {
    let (name, _) = split(rest);
    match name {
        b"carddav" | b"caldav" => Place::DavRoot,
        // Files of whoever obtains certificates on the web servers.
        b"acme-challenge" | b"pki-validation" => Place::Usual,
        _ => Place::WellKnown,
    }
}

/// The first segment, and what follows it, with its slash.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    path.split_at(path.iter().position(|byte| *byte == b'/').unwrap_or(path.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Place {
        place(path.as_bytes(), None)
    }

    #[test]
    fn directories_of_the_installation_are_hidden_at_the_root_only() {
        for path in ["/data/.ncdata", "/data", "/config/config.php", "/.htaccess", "/db_structure.xml", "/occ", "/lib/"]
        {
            assert_eq!(of(path), Place::Hidden, "{path}");
        }
        for path in ["/apps/x/data/y", "/database", "/libs/x", "/remote.php/dav/files/u/config/x", "/occ.php", "/"] {
            assert_eq!(of(path), Place::Usual, "{path}");
        }
    }

    #[test]
    fn hidden_places_are_hidden_however_they_are_written() {
        for (path, normal) in [("/%64ata/x", "/data/x"), ("//data/x", "/data/x"), ("/a/../data/x", "/data/x")] {
            assert!(needs_normal(path.as_bytes()), "{path}");
            assert_eq!(place(path.as_bytes(), Some(normal.as_bytes())), Place::Hidden, "{path}");
        }
        assert!(!needs_normal(b"/apps/files/a.b"));
        // The other places mean what is written.
        assert_eq!(place(b"/%65xapps/x", Some(b"/exapps/x")), Place::Usual);
    }

    #[test]
    fn well_known_places_lead_to_where_nextcloud_answers_them() {
        for (path, place) in [
            ("/.well-known/caldav", Place::DavRoot),
            ("/.well-known/carddav/", Place::DavRoot),
            ("/.well-known/webfinger", Place::WellKnown),
            ("/.well-known/nodeinfo", Place::WellKnown),
            ("/.well-known/acme-challenge/x", Place::Usual),
            ("/.well-known/pki-validation/x", Place::Usual),
            ("/.well-knownx/caldav", Place::Usual),
        ] {
            assert_eq!(of(path), place, "{path}");
        }
    }

    #[test]
    fn pulses_and_logins_are_light_and_long_polls_are_not() {
        for path in ["/status.php", "/index.php/heartbeat", "/heartbeat"] {
            assert_eq!(of(path), Place::Pulse, "{path}");
        }
        for path in ["/login", "/index.php/login/v2/poll", "/login/v2", "/ocs/v2.php/cloud/capabilities"] {
            assert_eq!(of(path), Place::Light, "{path}");
        }
        for path in ["/ocs/v2.php/apps/spreed/api/v1/chat/x", "/status.php/x", "/loginx", "/index.php/apps/x"] {
            assert_eq!(of(path), Place::Usual, "{path}");
        }
        assert_eq!(of("/exapps/app/x"), Place::ExApp);
        assert_eq!(of("/exappsx"), Place::Usual);
    }
}
