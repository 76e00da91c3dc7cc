//! (host, path) to route. Matching looks at the raw path, so that what decides is what the upstream reads too; only
//! rules about places (later: access rules) use the normalised copy.

use crate::config::settings::{Prefix, Route};

/// Index of the first route whose host and path match. `host` as in the Host field, port and case ignored.
///
/// A route's path is a prefix of whole segments: `/push/` matches `/push`, `/push/` and `/push/ws`, not `/pushx` and not
/// `/%70ush/`. A handful of routes: a linear scan beats any index.
pub fn route(routes: &[Route], host: Option<&[u8]>, path: &[u8]) -> Option<usize> {
    let host = host.map(without_port).unwrap_or_default();
    routes.iter().position(|route| has_prefix(path, route.path.as_bytes()) && names_host(&route.hosts, host))
}

/// The target as the route's servers get it: all of it, or what stands behind the route's path, beginning with `/`.
/// Two parts to be written one after the other.
pub fn target<'t>(route: &Route, target: &'t [u8]) -> (&'static [u8], &'t [u8]) {
    if route.prefix == Prefix::Kept {
        return (b"", target);
    }
    let rest = target.get(bare(&route.path).len()..).unwrap_or_default();
    (if rest.starts_with(b"/") { b"" } else { b"/" }, rest)
}

/// What a [`Prefix::Hosted`] route says behind the host: its path without the final slash.
pub fn hosted(route: &Route) -> &[u8] {
    if route.prefix == Prefix::Hosted { bare(&route.path).as_bytes() } else { b"" }
}

fn bare(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

fn names_host(hosts: &[String], host: &[u8]) -> bool {
    hosts.is_empty() || hosts.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(host))
}

fn has_prefix(path: &[u8], prefix: &[u8]) -> bool {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    match path.strip_prefix(prefix) {
        Some([]) | Some([b'/', ..]) => true,
        // `OPTIONS *` concerns the whole server.
        Some(_) | None => prefix.is_empty() && path == b"*",
    }
}

/// Also without the dot that ends a fully qualified name.
fn without_port(host: &[u8]) -> &[u8] {
    let end = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host.get(colon..).unwrap_or_default().contains(&b']') => colon,
        _ => host.len(),
    };
    let host = host.get(..end).unwrap_or_default();
    host.strip_suffix(b".").unwrap_or(host)
}

/// The path's dot segments climb above `/`: answered 400, whatever the upstream would make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AboveRoot;

/// Refuses a path that climbs above the root, without building anything. A path with no dot segment costs one look.
pub fn check_depth(path: &[u8]) -> Result<(), AboveRoot> {
    if !may_have_dot_segment(path) {
        return Ok(());
    }
    let mut depth = 0u32;
    for segment in path.split(|byte| *byte == b'/') {
        match dots(segment) {
            Dots::Parent => depth = depth.checked_sub(1).ok_or(AboveRoot)?,
            // Empty segments merge with their neighbours.
            Dots::Current => {}
            Dots::Name => depth += u32::from(!segment.is_empty()),
        }
    }
    Ok(())
}

/// Appends the path as rules see it: unreserved characters decoded, other triplets upper case, slashes merged, dot
/// segments removed. `%2F`, `%5C` and `;` stay data. The request itself goes on with its path as received.
pub fn normalize(path: &[u8], out: &mut Vec<u8>) -> Result<(), AboveRoot> {
    let start = out.len();
    out.reserve(path.len() + 1);
    let mut ends_in_directory = false;
    for segment in path.split(|byte| *byte == b'/') {
        ends_in_directory = true;
        match dots(segment) {
            Dots::Current => {}
            Dots::Parent => {
                let parent = out.iter().skip(start).rposition(|byte| *byte == b'/').ok_or(AboveRoot)?;
                out.truncate(start + parent);
            }
            Dots::Name if segment.is_empty() => {}
            Dots::Name => {
                out.push(b'/');
                decode_unreserved(segment, out);
                ends_in_directory = false;
            }
        }
    }
    if ends_in_directory {
        out.push(b'/');
    }
    Ok(())
}

enum Dots {
    Current,
    Parent,
    Name,
}

/// `.` may be written `%2e`.
fn dots(segment: &[u8]) -> Dots {
    fn strip_dot(segment: &[u8]) -> Option<&[u8]> {
        match segment {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => Some(rest),
            _ => None,
        }
    }
    match strip_dot(segment) {
        Some([]) => Dots::Current,
        Some(rest) => match strip_dot(rest) {
            Some([]) => Dots::Parent,
            _ => Dots::Name,
        },
        None => Dots::Name,
    }
}

/// Cheap and never wrong when it says no: some segment starts with a dot, plain or encoded.
fn may_have_dot_segment(path: &[u8]) -> bool {
    path.windows(2).any(|pair| pair == b"/." || pair == b"/%")
}

fn decode_unreserved(segment: &[u8], out: &mut Vec<u8>) {
    let mut rest = segment;
    while let Some((first, after)) = rest.split_first() {
        let triplet = match after {
            [high, low, after @ ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(h, l)| (h << 4 | l, after)),
            _ => None,
        };
        match triplet {
            Some((byte, after)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(byte);
                rest = after;
            }
            Some((byte, after)) => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
                rest = after;
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Vec<Route> {
        let route = |hosts: &[&str], path: &str, pool| Route {
            hosts: hosts.iter().map(|host| host.to_string()).collect(),
            path: path.to_string(),
            pool,
            prefix: Prefix::Kept,
        };
        vec![
            route(&["cloud.example.com"], "/push/", 1),
            route(&["office.example.com"], "/", 2),
            route(&["cloud.example.com", "[2001:db8::1]"], "/", 0),
        ]
    }

    fn pick(host: &str, path: &str) -> Option<usize> {
        route(&routes(), Some(host.as_bytes()), path.as_bytes())
    }

    #[test]
    fn prefixes_match_whole_raw_segments_only() {
        for path in ["/push", "/push/", "/push/ws", "/push//", "/push/../x"] {
            assert_eq!(pick("cloud.example.com", path), Some(0), "{path}");
        }
        for path in ["/", "/pushx", "/%70ush/", "/PUSH/", "//push/", "/pus", "/x/push/", "*"] {
            assert_eq!(pick("cloud.example.com", path), Some(2), "{path}");
        }
    }

    #[test]
    fn hosts_match_without_port_case_and_final_dot() {
        assert_eq!(pick("CLOUD.example.com:8443", "/"), Some(2));
        assert_eq!(pick("cloud.example.com.", "/"), Some(2));
        assert_eq!(pick("[2001:db8::1]:443", "/"), Some(2));
        assert_eq!(pick("[2001:db8::1]", "/"), Some(2));
        assert_eq!(pick("office.example.com", "/push/"), Some(1));
        assert_eq!(pick("example.com", "/"), None);
        assert_eq!(route(&routes(), None, b"/"), None);
    }

    #[test]
    fn a_stripped_prefix_leaves_the_rest_byte_for_byte() {
        let of = |prefix| Route { hosts: vec![], path: "/talk/".into(), pool: 0, prefix };
        for (given, left) in [
            ("/talk/spreed?a=%2F", "/spreed?a=%2F"),
            ("/talk/%2e%2E//x", "/%2e%2E//x"),
            ("/talk/", "/"),
            ("/talk", "/"),
            ("/talk?x=1", "/?x=1"),
        ] {
            let (first, rest) = target(&of(Prefix::Stripped), given.as_bytes());
            assert_eq!([first, rest].concat(), left.as_bytes(), "{given}");
            assert_eq!(target(&of(Prefix::Kept), given.as_bytes()), (&b""[..], given.as_bytes()));
        }
        assert_eq!(hosted(&of(Prefix::Hosted)), b"/talk");
        assert!(hosted(&of(Prefix::Stripped)).is_empty());
    }

    #[test]
    fn a_route_without_hosts_takes_any_host_and_none() {
        let any = [Route { hosts: vec![], path: "/".into(), pool: 0, prefix: Prefix::Kept }];
        assert_eq!(route(&any, Some(b"x"), b"/a"), Some(0));
        assert_eq!(route(&any, None, b"*"), Some(0));
    }

    #[test]
    fn normal_form_decodes_only_what_cannot_change_structure() {
        for (path, normal) in [
            ("/a/../admin", "/admin"),
            ("/a/%2e%2E/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/a//admin", "/a/admin"),
            ("/a/..;/admin", "/a/..;/admin"),
            ("/a%2fb%5cc%3f", "/a%2Fb%5Cc%3F"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/../", "/a/"),
            ("/", "/"),
            ("/%", "/%"),
            ("/%zz%4", "/%zz%4"),
            ("/...", "/..."),
            ("/.../x", "/.../x"),
        ] {
            let mut out = b"kept".to_vec();
            normalize(path.as_bytes(), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), format!("kept{normal}"), "{path}");
        }
    }

    #[test]
    fn both_functions_agree_on_what_climbs_above_the_root() {
        for (path, climbs) in [
            ("/../../x", true),
            ("/%2e%2e/x", true),
            ("/..", true),
            ("/a/../../b", true),
            ("//../b", true),
            ("/./../b", true),
            ("/a/../b", false),
            ("/a/b/../../c", false),
            ("/..a", false),
            ("/.%2ea", false),
            ("/a", false),
        ] {
            assert_eq!(check_depth(path.as_bytes()).is_err(), climbs, "{path}");
            assert_eq!(normalize(path.as_bytes(), &mut Vec::new()).is_err(), climbs, "{path}");
        }
    }
}
