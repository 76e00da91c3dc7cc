//! Field names this proxy decides by. Everything else is [`Name::Other`] and passes untouched.

use super::bytes::{is_plain_name, is_token_equal};

/// A field name, classified once while the head is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Name {
    /// Passed as it came.
    Other,
    /// Outside `[A-Za-z0-9-]` (underscore, dot): CGI folds `-` and `_` together, so such a name can impersonate another.
    Unusual,
    Accept,
    Authorization,
    /// The client as Cloudflare saw it; anybody else may have written it just as well.
    CfConnectingIp,
    /// Names a client in a way nothing here continues: True-Client-IP, X-Client-IP and the like.
    ClientAddress,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    MaintenanceMode,
    MaxForwards,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Referer,
    RetryAfter,
    SecWebSocketAccept,
    SecWebSocketKey,
    Server,
    SetCookie,
    /// Carries a scheme, host or place some backend might believe: X-Original-*, Front-End-Https, X-ARR-*, the rest of
    /// X-Forwarded-*.
    Spoofable,
    StrictTransportSecurity,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    WwwAuthenticate,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    XRequestId,
    /// Nextcloud's answer to who asked, for the access log.
    XUserId,
}

impl Name {
    /// Case-insensitive; `name` must be a token.
    ///
    /// Length and one letter leave at most two candidates, so that a name costs one comparison.
    pub fn classify(name: &[u8]) -> Name {
        let lower = |index: usize| name.get(index).map_or(0, |byte| byte | 0x20);
        let (text, known) = match (name.len(), lower(0)) {
            (2, b't') => ("te", Name::Te),
            (3, b'v') => ("via", Name::Via),
            (4, b'h') => ("host", Name::Host),
            (4, b'd') => ("date", Name::Date),
            (6, b'a') => ("accept", Name::Accept),
            (6, b'c') => ("cookie", Name::Cookie),
            (6, b'e') => ("expect", Name::Expect),
            (6, b's') => ("server", Name::Server),
            (7, b'r') => ("referer", Name::Referer),
            (7, b't') => ("trailer", Name::Trailer),
            (7, b'u') => ("upgrade", Name::Upgrade),
            (9, b'f') => ("forwarded", Name::Forwarded),
            (9, b'x') if lower(2) == b'r' => ("x-real-ip", Name::XRealIp),
            (9, b'x') => ("x-user-id", Name::XUserId),
            (10, b'c') => ("connection", Name::Connection),
            (10, b'k') => ("keep-alive", Name::KeepAlive),
            (10, b's') => ("set-cookie", Name::SetCookie),
            (10, b'u') => ("user-agent", Name::UserAgent),
            (11, b'r') => ("retry-after", Name::RetryAfter),
            (11, b'x') => ("x-client-ip", Name::ClientAddress),
            (12, b'm') => ("max-forwards", Name::MaxForwards),
            (12, b'x') => ("x-request-id", Name::XRequestId),
            (13, b'a') => ("authorization", Name::Authorization),
            (14, b'c') if lower(1) == b'f' => ("cf-pseudo-ipv4", Name::ClientAddress),
            (14, b'c') => ("content-length", Name::ContentLength),
            (14, b'h') => ("http2-settings", Name::Http2Settings),
            (14, b't') => ("true-client-ip", Name::ClientAddress),
            (15, b'f') => ("front-end-https", Name::Spoofable),
            (15, b'x') => ("x-forwarded-for", Name::XForwardedFor),
            (16, b'c') => ("cf-connecting-ip", Name::CfConnectingIp),
            (16, b'f') => ("fastly-client-ip", Name::ClientAddress),
            (16, b'p') => ("proxy-connection", Name::ProxyConnection),
            (16, b'w') => ("www-authenticate", Name::WwwAuthenticate),
            (16, b'x') if lower(12) == b'h' => ("x-forwarded-host", Name::XForwardedHost),
            (16, b'x') => ("x-forwarded-port", Name::XForwardedPort),
            (17, b's') => ("sec-websocket-key", Name::SecWebSocketKey),
            (17, b't') => ("transfer-encoding", Name::TransferEncoding),
            (17, b'x') => ("x-forwarded-proto", Name::XForwardedProto),
            (18, b'c') => ("cf-connecting-ipv6", Name::ClientAddress),
            (18, b'p') => ("proxy-authenticate", Name::ProxyAuthenticate),
            (19, b'x') => ("x-cluster-client-ip", Name::ClientAddress),
            (19, b'p') => ("proxy-authorization", Name::ProxyAuthorization),
            (20, b's') => ("sec-websocket-accept", Name::SecWebSocketAccept),
            (25, b's') => ("strict-transport-security", Name::StrictTransportSecurity),
            (28, b'x') => ("x-nextcloud-maintenance-mode", Name::MaintenanceMode),
            _ => return classify_by_shape(name),
        };
        if is_token_equal(name, text.as_bytes()) { known } else { classify_by_shape(name) }
    }

    /// Concerns one connection, not the message: never forwarded as received (RFC 9110 §7.6.1).
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Name::Connection
                | Name::KeepAlive
                | Name::ProxyConnection
                | Name::ProxyAuthenticate
                | Name::ProxyAuthorization
                | Name::Te
                | Name::Trailer
                | Name::TransferEncoding
                | Name::Upgrade
                | Name::Http2Settings
        )
    }

    /// A Connection option may not name it: removing it would change who is asking, for what, or where the message ends.
    pub fn is_protected(self) -> bool {
        matches!(
            self,
            Name::Authorization
                | Name::CfConnectingIp
                | Name::ClientAddress
                | Name::Connection
                | Name::ContentLength
                | Name::Cookie
                | Name::Expect
                | Name::Forwarded
                | Name::Host
                | Name::Spoofable
                | Name::TransferEncoding
                | Name::Via
                | Name::XForwardedFor
                | Name::XForwardedHost
                | Name::XForwardedPort
                | Name::XForwardedProto
                | Name::XRealIp
                | Name::XRequestId
        )
    }

    /// Its value steers this proxy or a backend's trust: bytes above 0x7F, which some servers strip, are refused in it.
    pub fn must_be_ascii(self) -> bool {
        matches!(
            self,
            Name::CfConnectingIp
                | Name::ClientAddress
                | Name::Connection
                | Name::ContentLength
                | Name::Expect
                | Name::Forwarded
                | Name::Host
                | Name::Spoofable
                | Name::Te
                | Name::Trailer
                | Name::TransferEncoding
                | Name::Upgrade
                | Name::XForwardedFor
                | Name::XForwardedHost
                | Name::XForwardedPort
                | Name::XForwardedProto
                | Name::XRealIp
        )
    }
}

/// What is not in the list: a dangerous family, a name CGI could fold onto another, or none of our business.
fn classify_by_shape(name: &[u8]) -> Name {
    let starts = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if starts(b"x-") && (starts(b"x-forwarded-") || starts(b"x-original-") || starts(b"x-arr-")) {
        Name::Spoofable
    } else if is_plain_name(name) {
        Name::Other
    } else {
        Name::Unusual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name the rules know, with what a name off by one byte must not be taken for.
    const KNOWN: [(&str, Name); 46] = [
        ("Accept", Name::Accept),
        ("Authorization", Name::Authorization),
        ("CF-Connecting-IP", Name::CfConnectingIp),
        ("CF-Connecting-IPv6", Name::ClientAddress),
        ("CF-Pseudo-IPv4", Name::ClientAddress),
        ("Connection", Name::Connection),
        ("Content-Length", Name::ContentLength),
        ("Cookie", Name::Cookie),
        ("Date", Name::Date),
        ("Expect", Name::Expect),
        ("Fastly-Client-IP", Name::ClientAddress),
        ("Forwarded", Name::Forwarded),
        ("Front-End-Https", Name::Spoofable),
        ("Host", Name::Host),
        ("HTTP2-Settings", Name::Http2Settings),
        ("Keep-Alive", Name::KeepAlive),
        ("Max-Forwards", Name::MaxForwards),
        ("Proxy-Authenticate", Name::ProxyAuthenticate),
        ("Proxy-Authorization", Name::ProxyAuthorization),
        ("Proxy-Connection", Name::ProxyConnection),
        ("Referer", Name::Referer),
        ("Retry-After", Name::RetryAfter),
        ("Sec-WebSocket-Accept", Name::SecWebSocketAccept),
        ("Sec-WebSocket-Key", Name::SecWebSocketKey),
        ("Server", Name::Server),
        ("Set-Cookie", Name::SetCookie),
        ("Strict-Transport-Security", Name::StrictTransportSecurity),
        ("TE", Name::Te),
        ("Trailer", Name::Trailer),
        ("Transfer-Encoding", Name::TransferEncoding),
        ("True-Client-IP", Name::ClientAddress),
        ("Upgrade", Name::Upgrade),
        ("User-Agent", Name::UserAgent),
        ("Via", Name::Via),
        ("WWW-Authenticate", Name::WwwAuthenticate),
        ("X-Client-IP", Name::ClientAddress),
        ("X-Cluster-Client-IP", Name::ClientAddress),
        ("X-Forwarded-For", Name::XForwardedFor),
        ("X-Forwarded-Host", Name::XForwardedHost),
        ("X-Forwarded-Port", Name::XForwardedPort),
        ("X-Forwarded-Proto", Name::XForwardedProto),
        ("X-Nextcloud-Maintenance-Mode", Name::MaintenanceMode),
        ("X-Real-IP", Name::XRealIp),
        ("X-Request-Id", Name::XRequestId),
        ("X-User-Id", Name::XUserId),
        ("X-Forwarded-Ssl", Name::Spoofable),
    ];

    #[test]
    fn known_names_are_known_in_any_case_and_not_when_a_byte_differs() {
        for (text, name) in KNOWN {
            assert_eq!(Name::classify(text.as_bytes()), name, "{text}");
            assert_eq!(Name::classify(text.to_uppercase().as_bytes()), name, "{text}");
            assert_eq!(Name::classify(text.to_lowercase().as_bytes()), name, "{text}");
            let is_prefixed = text.to_lowercase().starts_with("x-forwarded-");
            for index in 0..text.len() {
                let mut other = text.as_bytes().to_vec();
                other[index] = b'7';
                let classified = Name::classify(&other);
                let may_be = classified == Name::Other || (is_prefixed && classified == Name::Spoofable);
                assert!(may_be, "{} is {classified:?}", String::from_utf8_lossy(&other));
            }
        }
    }

    #[test]
    fn families_and_unusual_names_are_told_by_shape() {
        for text in ["X-Forwarded-Anything", "x-original-url", "X-ARR-SSL", "X-Forwarded-"] {
            assert_eq!(Name::classify(text.as_bytes()), Name::Spoofable, "{text}");
        }
        for text in ["Content_Length", "X.Real.IP", "a~b", "TE_"] {
            assert_eq!(Name::classify(text.as_bytes()), Name::Unusual, "{text}");
        }
        for text in ["Depth", "OC-Checksum", "X-Forwardedfor", "Destination", "0", "EX-APP-ID"] {
            assert_eq!(Name::classify(text.as_bytes()), Name::Other, "{text}");
        }
    }
}
