//! The two questions to Nextcloud: what an app is, and who somebody is. Their addresses, and what the answers mean.

use super::decide::UserLookup;
use super::record::{Record, User};
use super::records::Fetched;
use std::sync::Arc;

/// Redirects that are followed; each could be the last of a circle.
pub const REDIRECTS_MAX: usize = 3;

/// Where Nextcloud is: what an administrator writes with or without `/index.php` and a final slash.
pub fn base(url: &str) -> &str {
    let url = url.strip_suffix('/').unwrap_or(url);
    url.strip_suffix("/index.php").unwrap_or(url)
}

/// `id` is lower-case and a word.
pub fn record_url(base: &str, id: &str) -> String {
    format!("{base}/index.php/apps/app_api/harp/exapp-meta?appId={id}")
}

pub fn user_url(base: &str, id: &str) -> String {
    format!("{base}/index.php/apps/app_api/harp/user-info?appId={id}")
}

/// Nextcloud answers 401 for an unknown app and for a wrong key alike.
pub fn record(status: u16, body: &[u8]) -> Fetched {
    match status {
        200..=299 => Record::parse(body).map_or(Fetched::Invalid, Fetched::Found),
        401 | 404 => Fetched::NotFound,
        _ => Fetched::Failed,
    }
}

pub fn user(status: u16, body: &[u8]) -> UserLookup {
    match status {
        200..=299 => User::parse(body).map_or(UserLookup::Failed, |user| UserLookup::Known(Arc::new(user))),
        400..=499 => UserLookup::Unknown,
        _ => UserLookup::Failed,
    }
}

/// Where a redirect from `url` leads, if the question may follow: it carries the key, so nowhere but to the same origin.
pub fn redirect(url: &str, location: &str) -> Option<String> {
    let origin_bytes = url.find("://").map(|at| at + 3)?;
    let path_at = url.get(origin_bytes..)?.find('/').map_or(url.len(), |at| at + origin_bytes);
    let origin = url.get(..path_at)?;
    let is_clean = location.bytes().all(|byte| byte.is_ascii_graphic());
    let is_path = location.starts_with('/') && !location.starts_with("//") && !location.starts_with("/\\");
    match (is_clean, is_path) {
        (true, true) => Some(format!("{origin}{location}")),
        (true, false) => {
            let rest = location.get(..origin.len()).filter(|start| start.eq_ignore_ascii_case(origin));
            let path = location.get(origin.len()..).filter(|_| rest.is_some())?;
            path.starts_with('/').then(|| format!("{origin}{path}"))
        }
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_68_nextcloud_is_asked_at_the_same_place_however_it_is_written() {
        for url in
            ["https://c.example/index.php/", "https://c.example/index.php", "https://c.example/", "https://c.example"]
        {
            let asked = record_url(base(url), "foo");
            assert_eq!(asked, "https://c.example/index.php/apps/app_api/harp/exapp-meta?appId=foo", "{url}");
        }
        let below = user_url(base("https://c.example/cloud/"), "foo");
        assert_eq!(below, "https://c.example/cloud/index.php/apps/app_api/harp/user-info?appId=foo");
    }

    #[test]
    fn cases_22_24_25_answers_about_apps_are_told_apart() {
        assert!(matches!(record(401, b"{}"), Fetched::NotFound));
        assert!(matches!(record(404, b""), Fetched::NotFound));
        for status in [302, 400, 403, 429, 500, 503] {
            assert!(matches!(record(status, b""), Fetched::Failed), "{status}");
        }
        assert!(matches!(record(200, b"<html>"), Fetched::Invalid));
        let whole = br#"{"exapp_token":"T","exapp_version":"1","host":"h","port":1}"#;
        assert!(matches!(record(200, whole), Fetched::Found(_)));
    }

    #[test]
    fn cases_09_10_answers_about_users_are_told_apart() {
        assert_eq!(user(401, b""), UserLookup::Unknown);
        assert_eq!(user(404, b""), UserLookup::Unknown);
        for (status, body) in [(500, ""), (503, ""), (302, ""), (200, "<html>")] {
            assert_eq!(user(status, body.as_bytes()), UserLookup::Failed, "{status}");
        }
        assert!(matches!(user(200, br#"{"user_id":"a","access_level":1}"#), UserLookup::Known(_)));
    }

    #[test]
    fn the_key_follows_no_redirect_to_another_origin() {
        let from = "https://c.example/index.php/x";
        assert_eq!(redirect(from, "/y?z").as_deref(), Some("https://c.example/y?z"));
        assert_eq!(redirect(from, "https://C.example/y").as_deref(), Some("https://c.example/y"));
        for location in [
            "https://evil.example/y",
            "http://c.example/y",
            "//evil.example/y",
            "/\\evil.example",
            "https://c.example:8443/y",
            "https://c.example.evil/y",
            "https://c.example@evil/y",
            "y",
            "",
            "/a\r\nb",
        ] {
            assert_eq!(redirect(from, location), None, "{location}");
        }
    }
}
