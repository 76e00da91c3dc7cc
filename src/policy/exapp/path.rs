//! Paths of requests to ExApps: which app, which path there, and which are not to be believed.
//!
//! All of it looks at the raw path, as HaRP does; [`plain`] is how an ExApp may read it.

/// App ids are short words; this is generous.
const APP_ID_BYTES_MAX: usize = 64;

/// A path below `/exapps/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'p> {
    /// As written.
    pub id: &'p [u8],
    /// The path as the ExApp gets it; begins with `/`.
    pub target: &'p [u8],
}

/// What `path` names. HaRP takes `exapps/` anywhere in the path and forwards an empty target as it is; here the path
/// begins with it, an id is a word, and an empty target is `/`.
pub fn place(path: &[u8]) -> Option<Place<'_>> {
    let rest = path.strip_prefix(b"/exapps/")?;
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let (id, target) = rest.split_at_checked(end)?;
    is_app_id(id).then_some(Place { id, target: if target.is_empty() { b"/" } else { target } })
}

/// Letters, digits, `_`, `-` and `.`: what can stand in a query, a header and a file name as it is.
pub fn is_app_id(id: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    !id.is_empty() && id.len() <= APP_ID_BYTES_MAX && id.iter().all(is_word)
}

/// Some segment is `..`, however its dots and the slashes around it are written.
pub fn has_parent_segment(path: &[u8]) -> bool {
    let mut segment = Some(path);
    while let Some(text) = segment {
        let rest = strip_dot(text).and_then(strip_dot);
        if rest.is_some_and(|rest| rest.is_empty() || strip_slash(rest).is_some()) {
            return true;
        }
        segment = (0..text.len()).find_map(|at| strip_slash(text.get(at..)?));
    }
    false
}

fn strip_dot(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => Some(rest),
        _ => None,
    }
}

fn strip_slash(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'/', rest @ ..] | [b'%', b'2', b'f' | b'F', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// `target` with every triplet decoded once, slashes merged and `.` segments gone; `None` if that is `target` itself.
pub fn plain(target: &[u8]) -> Option<Vec<u8>> {
    let is_plain = !target.windows(2).any(|pair| matches!(pair, [b'%', _] | [b'/', b'/' | b'.']));
    if is_plain {
        return None;
    }
    let decoded = decode(target);
    let mut plain = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if !segment.is_empty() && segment != b"." {
            plain.push(b'/');
            plain.extend_from_slice(segment);
        } else if is_last {
            plain.push(b'/');
        }
    }
    (plain != target).then_some(plain)
}

/// Every `%XX` as its byte; what is no triplet stays.
pub fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).unwrap_or(0) as u8
}

/// The life-cycle calls of AppAPI, which nobody else may make. HaRP compares the raw path, so that `/%69nit` and `/init/`
/// pass for ordinary ones; here it is what the ExApp would read.
pub fn is_internal(target: &[u8]) -> bool {
    let plain = plain(target);
    let path = plain.as_deref().unwrap_or(target);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    [&b"/heartbeat"[..], b"/init", b"/enabled"].iter().any(|internal| internal.eq_ignore_ascii_case(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_26_dot_dot_segments_are_seen_however_they_are_written() {
        for path in [
            "/exapps/foo/../bar",
            "/exapps/foo/%2e%2E/bar",
            "/exapps/foo%2f..%2fbar",
            "/exapps/foo/..",
            "..",
            "../x",
            "/exapps/foo/.%2e",
            "/exapps/foo%2F%2e.",
            "/exapps/foo/a/..%2Fx",
        ] {
            assert!(has_parent_segment(path.as_bytes()), "{path}");
        }
        for path in ["/exapps/foo/a..b", "/exapps/foo/...", "/a/..b/", "/a../b", "/.", "/%2e", "/%2", "", "/..%20/"] {
            assert!(!has_parent_segment(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_path_names_its_app_only_at_its_beginning() {
        let of = |path: &'static str| place(path.as_bytes()).map(|place| (place.id, place.target));
        assert_eq!(of("/exapps/foo/public"), Some((&b"foo"[..], &b"/public"[..])));
        assert_eq!(of("/exapps/Foo//x%2F"), Some((&b"Foo"[..], &b"//x%2F"[..])));
        assert_eq!(of("/exapps/foo"), Some((&b"foo"[..], &b"/"[..])));
        for path in ["/x/exapps/foo/y", "exapps/foo", "/exapps/", "/exapps", "/exapps//x", "/exapps/a%26b/x", "/"] {
            assert_eq!(of(path), None, "{path}");
        }
        let long = format!("/exapps/{}/", "a".repeat(65));
        assert_eq!(place(long.as_bytes()), None);
    }

    #[test]
    fn internal_paths_are_internal_in_every_spelling() {
        for target in ["/init", "/init/", "/Init", "//init", "/%69nit", "/./heartbeat", "/enabled%2F", "/HEARTBEAT"] {
            assert!(is_internal(target.as_bytes()), "{target}");
        }
        for target in ["/initx", "/init/x", "/x/init", "/", "/enabled2", "/hearbeat"] {
            assert!(!is_internal(target.as_bytes()), "{target}");
        }
    }

    #[test]
    fn the_plain_form_is_what_a_server_reads() {
        let of = |target: &str| plain(target.as_bytes()).map(|plain| String::from_utf8(plain).unwrap());
        assert_eq!(of("/a/b"), None);
        assert_eq!(of("/a.b/"), None);
        assert_eq!(of("/%61dmin//x"), Some("/admin/x".into()));
        assert_eq!(of("/a%2Fb/./"), Some("/a/b/".into()));
        assert_eq!(of("/a%zz"), None);
        assert_eq!(of("/%2525"), Some("/%25".into()));
    }
}
