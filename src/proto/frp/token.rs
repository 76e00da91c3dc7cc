//! The token that an ExApp's container gets instead of the shared key: good for one name on one port, and for nothing else.
//!
//! Nothing is kept of it. It says what it is for, and a code that only the shared key can make says that we said so; both
//! nodes of a pair accept it, and it lives as long as the key.

use super::identity::{APP_PORTS, Grant};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Behind it: port, code, name.
const PREFIX: &str = "lyre1.";

/// `key` is the digest of the shared key. `None`: the port is no ExApp's.
pub(super) fn mint(key: &[u8; 32], grant: &Grant) -> Option<String> {
    let Grant { proxy_name, remote_port } = grant;
    let code = URL_SAFE_NO_PAD.encode(hmac::sign(&code_key(key), &signed(grant)));
    APP_PORTS.contains(remote_port).then(|| format!("{PREFIX}{remote_port}.{code}.{proxy_name}"))
}

/// What a token is for, if it is one of ours.
pub(super) fn read(key: &[u8; 32], token: &[u8]) -> Option<Grant> {
    let rest = std::str::from_utf8(token).ok()?.strip_prefix(PREFIX)?;
    let (port, rest) = rest.split_once('.')?;
    let (code, name) = rest.split_once('.')?;
    let port = port.parse().ok().filter(|port| APP_PORTS.contains(port))?;
    let grant = Grant { proxy_name: name.to_owned(), remote_port: port };
    let code = URL_SAFE_NO_PAD.decode(code).ok()?;
    hmac::verify(&code_key(key), &signed(&grant), &code).ok()?;
    Some(grant)
}

fn code_key(key: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

fn signed(Grant { proxy_name, remote_port }: &Grant) -> Vec<u8> {
    format!("tunnel of an ExApp, 1\0{remote_port}\0{proxy_name}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn grant(proxy_name: &str, remote_port: u16) -> Grant {
        Grant { proxy_name: proxy_name.to_owned(), remote_port }
    }

    #[test]
    fn a_token_is_for_what_it_was_made_for() {
        for name in ["app", "a.b-c_d", "a.23001.b", ""] {
            let token = mint(&KEY, &grant(name, 23_000)).unwrap();
            assert_eq!(read(&KEY, token.as_bytes()), Some(grant(name, 23_000)));
            assert_eq!(read(&[8; 32], token.as_bytes()), None);
            // ExApps write it into a quoted text.
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{token}");
        }
    }

    #[test]
    fn a_token_that_was_changed_is_none() {
        let token = mint(&KEY, &grant("app", 23_000)).unwrap();
        for (from, to) in [("23000", "23001"), (".app", ".apq"), ("23000", "023000"), ("lyre1", "lyre2")] {
            let changed = token.replacen(from, to, 1);
            // Another spelling of the same grant is the same grant.
            assert_eq!(read(&KEY, changed.as_bytes()).is_some(), to == "023000", "{changed}");
        }
        for end in 0..token.len() {
            assert_eq!(read(&KEY, &token.as_bytes()[..end]), None);
        }
        assert_eq!(read(&KEY, &[token.as_bytes(), b"x"].concat()), None);
        assert_eq!(read(&KEY, b"\xff"), None);
    }

    #[test]
    fn container_engines_get_no_token() {
        assert_eq!(mint(&KEY, &grant("engine", 24_000)), None);
        assert_eq!(mint(&KEY, &grant("app", 22_999)), None);
    }
}
