//! Who logs in, and what that allows it to claim. A token of its own binds an app to its name and port; the shared key,
//! which every ExApp of an ordinary set-up holds, allows whatever is free in the ranges such set-ups use.

use super::cipher::privilege_key;
use super::message::Login;
use super::token;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;
use std::ops::RangeInclusive;

/// Ports of ExApps, by AppAPI's convention.
pub const APP_PORTS: RangeInclusive<u16> = 23_000..=23_999;

/// Ports of container engines. Whoever holds one is sent the engine's calls, secrets in them.
pub const ENGINE_PORTS: RangeInclusive<u16> = 24_000..=24_099;

/// What a token is good for: this name on this port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub proxy_name: String,
    pub remote_port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Logged in with a token of its own.
    App(Grant),
    /// Logged in with the key that all share: it can be any of them.
    Shared,
}

/// Why a login is refused. The texts are those of frps behind HaRP, which operators know; an unknown key and one that
/// is banned read the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `auth.token` of the client is not ours.
    Token,
    /// Neither the shared key nor an app's token is in its metas, or its address may not try again for a while.
    Key,
    /// As many sessions as there may be.
    Full,
}

/// Whether a login is who it says. Made outside of the session, which only obeys it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Granted(Identity),
    Refused(Refusal),
}

/// Why a name or port is not for this identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Outside of what the shared key may claim.
    Port(i64),
    /// Not what the token was made for.
    Grant(Grant),
}

/// The keys there are, as digests: comparing takes as long for a wrong one as for the right one, of any length.
#[derive(Clone, Default)]
pub struct Keys {
    shared: Option<[u8; 32]>,
    apps: Vec<([u8; 32], Grant)>,
}

impl Keys {
    pub fn new<'a>(shared: Option<&[u8]>, apps: impl IntoIterator<Item = (&'a [u8], Grant)>) -> Keys {
        let apps = apps.into_iter().map(|(token, grant)| (fingerprint(token), grant)).collect();
        Keys { shared: shared.filter(|key| !key.is_empty()).map(fingerprint), apps }
    }

    /// Judges a login by its two secrets: the client's `auth.token`, of which the login holds a hash, and the key in
    /// its metas.
    pub fn judge(&self, login: &Login, auth_token: &[u8]) -> Decision {
        let expected = privilege_key(auth_token, login.timestamp);
        if verify_slices_are_equal(expected.as_bytes(), login.privilege_key.0.as_bytes()).is_err() {
            return Decision::Refused(Refusal::Token);
        }
        let token = login.metas.get("token").map_or(&[][..], |token| token.0.as_bytes());
        let presented = fingerprint(token);
        let is_same = |known: &[u8; 32]| verify_slices_are_equal(known, &presented).is_ok();
        // All are compared, whichever it is.
        let mut identity = self.shared.iter().fold(None, |_, known| is_same(known).then_some(Identity::Shared));
        for (known, grant) in &self.apps {
            if is_same(known) {
                identity = Some(Identity::App(grant.clone()));
            }
        }
        let minted = self.shared.and_then(|shared| token::read(&shared, token));
        let identity = identity.or(minted.map(Identity::App));
        identity.map_or(Decision::Refused(Refusal::Key), Decision::Granted)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(shared: {}, apps: {})", self.shared.is_some(), self.apps.len())
    }
}

impl Identity {
    /// The port, if this identity may have this name on it.
    pub fn may_claim(&self, proxy_name: &str, remote_port: i64) -> Result<u16, Denied> {
        let port = u16::try_from(remote_port).ok();
        match self {
            Identity::App(grant) if grant.proxy_name == proxy_name && port == Some(grant.remote_port) => {
                Ok(grant.remote_port)
            }
            Identity::App(grant) => Err(Denied::Grant(grant.clone())),
            Identity::Shared => port
                .filter(|port| APP_PORTS.contains(port) || ENGINE_PORTS.contains(port))
                .ok_or(Denied::Port(remote_port)),
        }
    }
}

/// A token that lets its holder claim this and nothing else, where `shared_key` is the key of all. `None`: no ExApp has
/// this port.
pub fn mint_token(shared_key: &[u8], grant: &Grant) -> Option<String> {
    token::mint(&fingerprint(shared_key), grant)
}

fn fingerprint(secret: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, secret).as_ref());
    bytes
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Token => "token in login doesn't match token from configuration",
            Refusal::Key => "send Login request to plugin error",
            Refusal::Full => "unexpected error when creating new controller",
        })
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Port(0) => f.write_str("no available port"),
            Denied::Port(_) => f.write_str("port not allowed"),
            Denied::Grant(grant) => {
                write!(
                    f,
                    "port not allowed: this token is for proxy [{}] on port {}",
                    grant.proxy_name, grant.remote_port
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::frp::message::{Hidden, Metas};

    fn login(auth_token: &[u8], meta: Option<&str>) -> Login {
        Login {
            privilege_key: Hidden(privilege_key(auth_token, 17)),
            timestamp: 17,
            metas: meta.map(|token| ("token".to_owned(), token.into())).into_iter().collect::<Metas>(),
            ..Login::default()
        }
    }

    fn app() -> Grant {
        Grant { proxy_name: "app".to_owned(), remote_port: 23_001 }
    }

    #[test]
    fn each_secret_says_who_it_is() {
        let keys = Keys::new(Some(b"shared"), [(b"own".as_slice(), app())]);
        let granted = |identity| Decision::Granted(identity);
        assert_eq!(keys.judge(&login(b"", Some("shared")), b""), granted(Identity::Shared));
        assert_eq!(keys.judge(&login(b"", Some("own")), b""), granted(Identity::App(app())));
        assert_eq!(keys.judge(&login(b"t", Some("own")), b"t"), granted(Identity::App(app())));
    }

    #[test]
    fn case_52_a_minted_token_lets_in_for_what_it_was_minted_for() {
        let token = mint_token(b"shared", &app()).unwrap();
        let granted = Decision::Granted(Identity::App(app()));
        assert_eq!(Keys::new(Some(b"shared"), []).judge(&login(b"", Some(&token)), b""), granted);
        for other in [Some(&b"other"[..]), Some(b""), None] {
            let refused = Decision::Refused(Refusal::Key);
            assert_eq!(Keys::new(other, []).judge(&login(b"", Some(&token)), b""), refused);
        }
    }

    #[test]
    fn whatever_is_not_a_secret_of_ours_is_refused() {
        let keys = Keys::new(Some(b"shared"), [(b"own".as_slice(), app())]);
        for meta in [None, Some(""), Some("share"), Some("sharedd"), Some("SHARED")] {
            assert_eq!(keys.judge(&login(b"", meta), b""), Decision::Refused(Refusal::Key), "{meta:?}");
        }
        assert_eq!(keys.judge(&login(b"x", Some("shared")), b""), Decision::Refused(Refusal::Token));
        assert_eq!(keys.judge(&login(b"", Some("shared")), b"x"), Decision::Refused(Refusal::Token));
        let bare = Login { metas: login(b"", Some("shared")).metas, ..Login::default() };
        assert_eq!(keys.judge(&bare, b""), Decision::Refused(Refusal::Token));
    }

    /// An empty key must not become the key of everybody who sends none.
    #[test]
    fn an_empty_shared_key_is_no_key() {
        assert_eq!(Keys::new(Some(b""), []).judge(&login(b"", None), b""), Decision::Refused(Refusal::Key));
        assert_eq!(Keys::default().judge(&login(b"", Some("")), b""), Decision::Refused(Refusal::Key));
    }

    #[test]
    fn the_shared_key_claims_the_ranges_of_apps_and_engines() {
        for port in [23_000, 23_999, 24_000, 24_099] {
            assert_eq!(Identity::Shared.may_claim("any", port), Ok(port as u16));
        }
        for port in [-1, 0, 22, 22_999, 24_100, 65_536 + 23_000, i64::MAX] {
            assert_eq!(Identity::Shared.may_claim("any", port), Err(Denied::Port(port)));
        }
    }

    #[test]
    fn a_token_claims_its_own_name_and_port_only() {
        let identity = Identity::App(app());
        assert_eq!(identity.may_claim("app", 23_001), Ok(23_001));
        for (name, port) in [("app", 23_002), ("other", 23_001), ("App", 23_001), ("app", 0), ("app", 65_536 + 23_001)]
        {
            assert_eq!(identity.may_claim(name, port), Err(Denied::Grant(app())), "{name} {port}");
        }
    }

    #[test]
    fn keys_do_not_print_themselves() {
        assert_eq!(format!("{:?}", Keys::new(Some(b"shared"), [])), "Keys(shared: true, apps: 0)");
    }
}
