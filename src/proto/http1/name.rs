//! Field names this proxy decides by. Everything else is [`Name::Other`] and passes untouched.

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
    /// Carries a client address or scheme some backend might believe: CF-Connecting-IP, True-Client-IP, X-Client-IP,
    /// X-Original-*, Front-End-Https, X-ARR-*, the rest of X-Forwarded-*.
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
    /// Case-insensitive; `name` is a token already.
    pub fn classify(name: &[u8]) -> Name {
        let known = match name.len() {
            2 => first(name, &[("te", Name::Te)]),
            3 => first(name, &[("via", Name::Via)]),
            4 => first(name, &[("host", Name::Host), ("date", Name::Date)]),
            6 => first(
                name,
                &[
                    ("accept", Name::Accept),
                    ("cookie", Name::Cookie),
                    ("expect", Name::Expect),
                    ("server", Name::Server),
                ],
            ),
            7 => first(name, &[("referer", Name::Referer), ("upgrade", Name::Upgrade), ("trailer", Name::Trailer)]),
            9 => first(
                name,
                &[("x-real-ip", Name::XRealIp), ("x-user-id", Name::XUserId), ("forwarded", Name::Forwarded)],
            ),
            10 => first(
                name,
                &[
                    ("user-agent", Name::UserAgent),
                    ("connection", Name::Connection),
                    ("set-cookie", Name::SetCookie),
                    ("keep-alive", Name::KeepAlive),
                ],
            ),
            11 => first(name, &[("x-client-ip", Name::Spoofable), ("retry-after", Name::RetryAfter)]),
            12 => first(name, &[("x-request-id", Name::XRequestId), ("max-forwards", Name::MaxForwards)]),
            13 => first(name, &[("authorization", Name::Authorization)]),
            14 => first(
                name,
                &[
                    ("content-length", Name::ContentLength),
                    ("true-client-ip", Name::Spoofable),
                    ("http2-settings", Name::Http2Settings),
                ],
            ),
            15 => first(name, &[("x-forwarded-for", Name::XForwardedFor), ("front-end-https", Name::Spoofable)]),
            16 => first(
                name,
                &[
                    ("x-forwarded-host", Name::XForwardedHost),
                    ("x-forwarded-port", Name::XForwardedPort),
                    ("cf-connecting-ip", Name::Spoofable),
                    ("www-authenticate", Name::WwwAuthenticate),
                    ("proxy-connection", Name::ProxyConnection),
                ],
            ),
            17 => first(
                name,
                &[
                    ("x-forwarded-proto", Name::XForwardedProto),
                    ("transfer-encoding", Name::TransferEncoding),
                    ("sec-websocket-key", Name::SecWebSocketKey),
                ],
            ),
            18 => first(name, &[("proxy-authenticate", Name::ProxyAuthenticate)]),
            19 => first(name, &[("proxy-authorization", Name::ProxyAuthorization)]),
            20 => first(name, &[("sec-websocket-accept", Name::SecWebSocketAccept)]),
            25 => first(name, &[("strict-transport-security", Name::StrictTransportSecurity)]),
            28 => first(name, &[("x-nextcloud-maintenance-mode", Name::MaintenanceMode)]),
            _ => None,
        };
        known.unwrap_or_else(|| classify_by_shape(name))
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
            Name::Connection
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

fn first(name: &[u8], candidates: &[(&str, Name)]) -> Option<Name> {
    candidates.iter().find(|(text, _)| name.eq_ignore_ascii_case(text.as_bytes())).map(|(_, name)| *name)
}

/// What is not in the list: a dangerous family, a name CGI could fold onto another, or none of our business.
fn classify_by_shape(name: &[u8]) -> Name {
    let starts = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if starts(b"x-") && (starts(b"x-forwarded-") || starts(b"x-original-") || starts(b"x-arr-")) {
        Name::Spoofable
    } else if name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
        Name::Other
    } else {
        Name::Unusual
    }
}

/// `tchar` of RFC 9110 §5.6.2.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A non-empty `token`.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// `field-content` bytes of RFC 9110 §5.5: visible ASCII, SP, HTAB and opaque obs-text.
pub fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Without the optional whitespace (SP, HTAB) on both sides.
pub fn trim_ows(bytes: &[u8]) -> &[u8] {
    let is_ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_ows(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_ows(byte)).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

/// Elements of a comma separated list, trimmed; empty ones included.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_ows)
}
