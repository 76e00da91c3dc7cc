//! Which version of its API an engine is spoken to in. Docker refuses versions that are too new for it as well as ones that
//! are too old, and AppAPI asks for one fixed version.

use super::{Call, parse, text_at};
use crate::policy::exapp::control::split_version;

/// What the calls here are written for; AppAPI asks for the same.
const WANTED: Version = Version(1, 44);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy::exapp) struct Version(u16, u16);

impl Version {
    /// `1.44`, and nothing else.
    pub(in crate::policy::exapp) fn parse(text: &str) -> Option<Version> {
        let (major, minor) = text.split_once('.')?;
        Some(Version(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// The versions that an engine speaks, the least and the greatest. One that does not say is spoken to without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions(Option<(Version, Version)>);

impl Versions {
    /// The call that asks for them.
    pub fn call() -> Call {
        Call::get("/version".to_owned())
    }

    /// By the answer to it.
    pub fn of(status: u16, body: &[u8]) -> Versions {
        let answer = parse(body);
        let at = |pointer| text_at(&answer, pointer).and_then(Version::parse);
        let greatest = at("/ApiVersion").filter(|_| status == 200);
        let least = at("/MinAPIVersion").unwrap_or(Version(0, 0));
        Versions(greatest.map(|greatest| (least.min(greatest), greatest)))
    }

    /// A path, with or without a version, in the nearest version that the engine speaks.
    pub fn path(self, path: &str) -> String {
        let (asked, rest) = split_version(path);
        let Some((least, greatest)) = self.0 else { return path.to_owned() };
        let Version(major, minor) = asked.and_then(Version::parse).unwrap_or(WANTED).clamp(least, greatest);
        format!("/v{major}.{minor}{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Versions {
        Versions::of(200, body.as_bytes())
    }

    #[test]
    fn an_engine_is_asked_in_a_version_that_it_speaks() {
        for (body, asked, expected) in [
            // Debian's, which is older than what AppAPI asks for; one of today; one that has dropped it.
            (r#"{"ApiVersion":"1.41","MinAPIVersion":"1.12"}"#, "/v1.44/_ping", "/v1.41/_ping"),
            (r#"{"ApiVersion":"1.52","MinAPIVersion":"1.44"}"#, "/v1.44/_ping", "/v1.44/_ping"),
            (r#"{"ApiVersion":"1.52","MinAPIVersion":"1.44"}"#, "/v1.41/_ping", "/v1.44/_ping"),
            (r#"{"ApiVersion":"1.60","MinAPIVersion":"1.50"}"#, "/v1.44/_ping", "/v1.50/_ping"),
            // Without one it is ours.
            (r#"{"ApiVersion":"1.52","MinAPIVersion":"1.24"}"#, "/volumes/a", "/v1.44/volumes/a"),
            (r#"{"ApiVersion":"1.41"}"#, "/volumes/a", "/v1.41/volumes/a"),
            // Numbers are compared as numbers.
            (r#"{"ApiVersion":"1.9","MinAPIVersion":"1.1"}"#, "/v1.44/_ping", "/v1.9/_ping"),
            (r#"{"ApiVersion":"1.41","MinAPIVersion":"1.12"}"#, "/v1.4.4/_ping", "/v1.41/_ping"),
        ] {
            assert_eq!(of(body).path(asked), expected, "{body}");
        }
    }

    #[test]
    fn an_engine_that_does_not_say_is_asked_as_the_call_is() {
        for (status, body) in [(404, r#"{"ApiVersion":"1.41"}"#), (200, ""), (200, "[]"), (200, r#"{"ApiVersion":1}"#)]
        {
            let versions = Versions::of(status, body.as_bytes());
            assert_eq!(versions.path("/_ping"), "/_ping", "{body}");
            assert_eq!(versions.path("/v1.44/_ping"), "/v1.44/_ping", "{body}");
        }
    }

    #[test]
    fn an_engine_that_contradicts_itself_breaks_nothing() {
        let versions = of(r#"{"ApiVersion":"1.20","MinAPIVersion":"1.50"}"#);
        assert_eq!(versions.path("/v1.44/_ping"), "/v1.20/_ping");
        assert_eq!(of(r#"{"ApiVersion":"99999.1"}"#).path("/_ping"), "/_ping");
    }
}
