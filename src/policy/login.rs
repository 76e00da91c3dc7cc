//! Which exchanges are failed logins, as Nextcloud answers them.
//!
//! A 401 alone is none: DAV clients begin without credentials and wait to be asked. One that carried a password is. Of
//! tokens (Bearer) only passwords are guessed, so only `Basic` counts: a token that expired is renewed, not guessed.

/// A request and its answer, as far as they matter here.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    pub method: &'a [u8],
    /// Raw.
    pub path: &'a [u8],
    /// Value of Authorization.
    pub authorization: &'a [u8],
    pub status: u16,
    /// Value of Location.
    pub location: &'a [u8],
}

/// Whether `status` and `method` can belong to a failed login: the cheap question, for every exchange.
pub fn may_have_failed(method: &[u8], status: u16) -> bool {
    matches!(status, 401 | 429) || method == b"POST" && status < 500
}

pub fn has_failed(exchange: &Exchange<'_>) -> bool {
    let is_post = exchange.method == b"POST";
    let refuses = matches!(exchange.status, 401 | 429);
    if refuses && is_password(exchange.authorization) {
        return true;
    }
    if is_post && is_login_page(exchange.path) {
        // Back to the form is a no; onwards, to a second factor too, is a yes.
        let is_sent_back = matches!(exchange.status, 302 | 303) && is_login_page(path_of(exchange.location));
        return refuses || is_sent_back;
    }
    // The form again instead of a redirect to the share.
    is_post && is_share_password(exchange.path) && (refuses || matches!(exchange.status, 200 | 403))
}

/// What tells one credential from another; empty without a password.
pub fn credential(authorization: &[u8]) -> &[u8] {
    if is_password(authorization) { authorization } else { &[] }
}

fn is_password(authorization: &[u8]) -> bool {
    authorization.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
}

/// `/login`, `/index.php/login`, and the same below a directory.
fn is_login_page(path: &[u8]) -> bool {
    path.ends_with(b"/login")
}

/// `/s/TOKEN/authenticate`, `/index.php/s/TOKEN/authenticate/showShare`, and the same below a directory.
fn is_share_password(path: &[u8]) -> bool {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    segments.windows(3).any(|three| matches!(three, [b"s", token, b"authenticate"] if !token.is_empty()))
}

/// Of an absolute or relative reference.
fn path_of(location: &[u8]) -> &[u8] {
    let end = location.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(location.len());
    location.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(request: &str, authorization: &str, status: u16, location: &str) -> bool {
        let (method, path) = request.split_once(' ').unwrap();
        let (method, path, location) = (method.as_bytes(), path.as_bytes(), location.as_bytes());
        let failed = has_failed(&Exchange { method, path, authorization: authorization.as_bytes(), status, location });
        assert!(!failed || may_have_failed(method, status), "{request} {status}");
        failed
    }

    #[test]
    fn a_refused_password_is_a_failed_login_and_a_mere_question_is_none() {
        assert!(judge("PROPFIND /remote.php/dav/", "Basic dTpw", 401, ""));
        assert!(judge("GET /ocs/v2.php/core/getapppassword", "basic dTpw", 401, ""));
        assert!(judge("PROPFIND /remote.php/dav/", "Basic dTpw", 429, ""));
        for (authorization, status) in
            [("", 401), ("", 429), ("Basic dTpw", 207), ("Basic dTpw", 403), ("Basic dTpw", 503)]
        {
            assert!(!judge("PROPFIND /remote.php/dav/", authorization, status, ""), "{authorization} {status}");
        }
        for token in ["Bearer abc", "Digest username=\"u\"", "Basically", "Basic"] {
            assert!(!judge("PROPFIND /remote.php/dav/", token, 401, ""), "{token}");
        }
    }

    #[test]
    fn a_login_form_that_comes_back_is_a_failed_login() {
        for path in ["/login", "/index.php/login", "/cloud/index.php/login"] {
            let post = format!("POST {path}");
            assert!(judge(&post, "", 303, &format!("{path}?direct=1&user=admin")));
            assert!(judge(&post, "", 302, &format!("https://cloud.example.com{path}")));
            assert!(judge(&post, "", 429, "") && judge(&post, "", 401, ""));
            for (status, location) in [
                (303, "/index.php/apps/dashboard/"),
                (303, "/login/selectchallenge?redirect_url=/login"),
                (303, "/login/challenge/totp"),
                (303, ""),
                (412, ""),
                (200, ""),
                (503, ""),
            ] {
                assert!(!judge(&post, "", status, location), "{path} {status} {location}");
            }
            assert!(!judge(&format!("GET {path}"), "", 303, path));
        }
        assert!(!judge("POST /login/v2/poll", "", 404, ""));
        assert!(!judge("POST /login/v2", "", 200, ""));
    }

    #[test]
    fn a_shares_password_form_that_comes_back_is_a_failed_login() {
        for path in ["/s/AbC/authenticate", "/index.php/s/AbC/authenticate/showShare", "/x/s/AbC/authenticate/preview"]
        {
            let post = format!("POST {path}");
            assert!(judge(&post, "", 200, "") && judge(&post, "", 401, "") && judge(&post, "", 429, ""));
            assert!(!judge(&post, "", 303, "/s/AbC") && !judge(&post, "", 502, ""));
            assert!(!judge(&format!("GET {path}"), "", 200, ""));
        }
        assert!(!judge("POST /s//authenticate", "", 200, "") && !judge("POST /s/AbC/download", "", 200, ""));
    }

    #[test]
    fn a_password_is_its_own_mark_and_a_token_has_none() {
        assert_eq!(credential(b"Basic dTpw"), b"Basic dTpw");
        assert_eq!(credential(b"Bearer abc"), b"");
    }
}
