//! What an ExApp gets to read: who it is, who asks, and nothing that would let it ask in our name.
//!
//! HaRP leaves its key and AppAPI's addressing in the request; here they end. Of a signed request AppAPI's own words go
//! on, so that an app which was just updated is not told the version of a record that is behind.

use super::decide::{Forward, Identity};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;

/// What HaRP says of itself.
const AA_VERSION: &[u8] = b"32";

/// Never copied from the client.
const OURS: [&[u8]; 8] = [
    b"harp-shared-key",
    b"ex-app-host",
    b"ex-app-port",
    b"ex-app-id",
    b"ex-app-version",
    b"authorization-app-api",
    b"aa-version",
    b"x-origin-ip",
];

/// Whether a field of this name ends here. `_` counts as `-`: servers that speak CGI take them for one.
pub fn is_stripped(name: &[u8]) -> bool {
    let is_same = |ours: &[u8]| {
        ours.len() == name.len()
            && ours.iter().zip(name).all(|(a, b)| *a == if *b == b'_' { b'-' } else { b.to_ascii_lowercase() })
    };
    name.first().is_some_and(|first| b"haexHAEX".contains(first)) && OURS.into_iter().any(is_same)
}

/// Gives the fields that are ours to `field`, each once. `aa_version` and `origin` are what came as `aa-version` and
/// `x-origin-ip`; only AppAPI is believed.
pub fn set(
    forward: &Forward<'_>,
    aa_version: Option<&[u8]>,
    origin: Option<&[u8]>,
    client: IpAddr,
    mut field: impl FnMut(&'static str, &[u8]),
) {
    let client = client.to_string();
    match &forward.identity {
        Identity::AppApi(signature) => {
            field("EX-APP-ID", signature.id);
            field("EX-APP-VERSION", signature.version);
            field("AA-VERSION", aa_version.unwrap_or(AA_VERSION));
            field("AUTHORIZATION-APP-API", signature.authorization);
            field("X-Origin-IP", origin.unwrap_or(client.as_bytes()));
        }
        Identity::Client(user) => {
            let id = user.as_ref().map_or("", |user| user.id.as_str());
            let text = [id.as_bytes(), b":", &forward.record.token.0].concat();
            field("EX-APP-ID", forward.id.as_bytes());
            field("EX-APP-VERSION", forward.record.version.as_bytes());
            field("AA-VERSION", AA_VERSION);
            field("AUTHORIZATION-APP-API", STANDARD.encode(text).as_bytes());
            field("X-Origin-IP", client.as_bytes());
        }
    }
}

/// Fields of a client that the question who it is may carry: its credentials and what Nextcloud ties a session to. Not
/// framing, conditions, ranges, upgrades, nor anything that AppAPI would take for its own.
pub fn is_asked_with(name: &[u8]) -> bool {
    const ASKED: [&[u8]; 6] =
        [b"cookie", b"authorization", b"user-agent", b"accept-language", b"requesttoken", b"x-request-id"];
    ASKED.iter().any(|asked| asked.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::exapp::decide::Signature;
    use crate::policy::exapp::record::Record;
    use std::sync::Arc;

    #[test]
    fn case_34_and_35_what_a_client_claims_and_the_key_end_here() {
        for name in [
            "EX-APP-ID",
            "Ex-App-Version",
            "AUTHORIZATION-APP-API",
            "aa-version",
            "harp-shared-key",
            "Harp_Shared_Key",
            "EX_APP_ID",
            "ex-app-host",
            "ex-app-port",
            "x-origin-ip",
        ] {
            assert!(is_stripped(name.as_bytes()), "{name}");
        }
        for name in ["authorization", "cookie", "ex-app-idx", "accept", "x-origin", "aa-request-id", "host", ""] {
            assert!(!is_stripped(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn appapi_keeps_its_own_words_and_the_origin_it_names() {
        let signature = Signature { id: b"foo", version: b"2.0", host: b"h", port: b"1", authorization: b"eA==" };
        let record = Arc::new(Record::of_headers(b"1.0", b"h", b"1").unwrap());
        let (identity, statuses) = (Identity::AppApi(signature), Vec::new());
        let forward = Forward { id: "foo".into(), target: b"/", record, identity, statuses };
        let mut fields = Vec::new();
        set(&forward, Some(b"33"), Some(b"198.51.100.7"), "192.0.2.1".parse().unwrap(), |name, value| {
            fields.push(format!("{name}={}", String::from_utf8_lossy(value)));
        });
        let expected =
            "EX-APP-ID=foo EX-APP-VERSION=2.0 AA-VERSION=33 AUTHORIZATION-APP-API=eA== X-Origin-IP=198.51.100.7";
        assert_eq!(fields.join(" "), expected);
    }

    #[test]
    fn who_somebody_is_is_asked_without_what_could_change_the_question() {
        for name in ["Cookie", "authorization", "User-Agent", "RequestToken"] {
            assert!(is_asked_with(name.as_bytes()), "{name}");
        }
        for name in ["transfer-encoding", "upgrade", "expect", "range", "if-none-match", "ex-app-id", "content-length"]
        {
            assert!(!is_asked_with(name.as_bytes()), "{name}");
        }
    }
}
