//! What is wrong with a message: one variant per broken rule, with the status it earns and a stable word for metrics.

use std::fmt;

/// Declares an error enum with, per variant: status, reason code, sentence.
macro_rules! errors {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $status:literal, $reason:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// Status of the answer; the connection closes after it.
            pub fn status(self) -> u16 {
                match self { $($name::$variant => $status,)* }
            }

            /// Stable lower-case word for metrics and logs; never sent to the peer.
            pub fn reason(self) -> &'static str {
                match self { $($name::$variant => $reason,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $text,)* })
            }
        }

        impl std::error::Error for $name {}
    };
}

errors! {
    /// The client's request head breaks a rule. Nothing of it may reach an upstream.
    RequestError {
        LeadingBytes = 400, "leading_bytes", "bytes other than two empty lines before the request line";
        BareLf = 400, "bare_lf", "line feed without carriage return";
        BareCr = 400, "bare_cr", "carriage return without line feed";
        RequestLine = 400, "request_line", "request line is not method, target and version with single spaces";
        Http09 = 400, "http09", "request line without version";
        Method = 400, "method", "method is not a token";
        MethodTooLong = 501, "method_too_long", "method longer than 32 bytes";
        MethodRefused = 405, "method_refused", "TRACE or CONNECT";
        TargetBytes = 400, "target_bytes", "byte not allowed in a request target";
        TargetForm = 400, "target_form", "request target in none of the forms allowed here";
        TargetTooLong = 414, "target_too_long", "request target over the limit";
        Version = 400, "version", "malformed HTTP version";
        VersionUnsupported = 505, "version_unsupported", "HTTP version other than 1.0 and 1.1";
        HeadTooLong = 431, "head_too_long", "request head over the limit";
        LineTooLong = 431, "line_too_long", "field line over the limit";
        TooManyFields = 431, "too_many_fields", "more field lines than the limit";
        SpaceBeforeFirstField = 400, "space_before_first_field", "whitespace between request line and first field";
        ObsFold = 400, "obs_fold", "folded field line";
        SpaceBeforeColon = 400, "space_before_colon", "whitespace between field name and colon";
        NoColon = 400, "no_colon", "field line without colon";
        FieldName = 400, "field_name", "field name is not a token";
        FieldValue = 400, "field_value", "control byte in a field value";
        NotAscii = 400, "not_ascii", "byte above 0x7f in a field that steers forwarding";
        HostMissing = 400, "host_missing", "no Host field";
        HostRepeated = 400, "host_repeated", "more than one Host field";
        HostInvalid = 400, "host_invalid", "Host is not a name or address with an optional port";
        HostMismatch = 400, "host_mismatch", "absolute target and Host name different hosts";
        ContentLength = 400, "content_length", "Content-Length is not one decimal number below 2^63";
        ContentLengthRepeated = 400, "content_length_repeated", "more than one Content-Length field";
        TeAndCl = 400, "te_and_cl", "both Transfer-Encoding and Content-Length";
        TeInHttp10 = 400, "te_in_http10", "Transfer-Encoding in HTTP/1.0";
        TeRepeated = 400, "te_repeated", "more than one Transfer-Encoding field";
        TeMalformed = 400, "te_malformed", "Transfer-Encoding is malformed, or chunked is not its last and only use";
        TeUnknown = 501, "te_unknown", "transfer coding other than chunked";
        Http10Body = 413, "http10_body", "HTTP/1.0 GET, HEAD or DELETE with a body";
        Connection = 400, "connection", "Connection is not a list of tokens";
        ConnectionNamesProtected = 400, "connection_names_protected", "Connection names a field it may not remove";
        Expectation = 417, "expectation", "Expect is not exactly 100-continue";
        UpgradeMethod = 400, "upgrade_method", "WebSocket upgrade with a method other than GET";
        UpgradeBody = 400, "upgrade_body", "WebSocket upgrade with a body";
        Scheme = 400, "scheme", "HTTP/2 scheme other than http and https";
        ConnectionField = 400, "connection_field", "HTTP/2 request with a field of an HTTP/1.1 connection";
        Misdirected = 421, "misdirected", "host of another certificate than the one this connection was given";
        ProtocolUnknown = 501, "protocol_unknown", "HTTP/2 CONNECT with a protocol other than websocket";
    }
}

errors! {
    /// The upstream's response head breaks a rule. The connection is closed and the client gets 502.
    ResponseError {
        BareLf = 502, "bare_lf", "line feed without carriage return";
        BareCr = 502, "bare_cr", "carriage return without line feed";
        StatusLine = 502, "status_line", "status line is not version, three digits and an optional reason";
        Version = 502, "version", "HTTP version other than 1.0 and 1.1";
        HeadTooLong = 502, "head_too_long", "response head over the limit";
        LineTooLong = 502, "line_too_long", "line over the limit";
        TooManyFields = 502, "too_many_fields", "more field lines than the limit";
        SpaceBeforeFirstField = 502, "space_before_first_field", "whitespace between status line and first field";
        ObsFold = 502, "obs_fold", "folded field line";
        SpaceBeforeColon = 502, "space_before_colon", "whitespace between field name and colon";
        NoColon = 502, "no_colon", "field line without colon";
        FieldName = 502, "field_name", "field name is not a token";
        FieldValue = 502, "field_value", "control byte in a field value";
        NotAscii = 502, "not_ascii", "byte above 0x7f in a framing field";
        ContentLength = 502, "content_length", "Content-Length is not one decimal number below 2^63";
        ContentLengthRepeated = 502, "content_length_repeated", "more than one Content-Length field";
        TeInHttp10 = 502, "te_in_http10", "Transfer-Encoding in HTTP/1.0";
        TeRepeated = 502, "te_repeated", "more than one Transfer-Encoding field";
        TeMalformed = 502, "te_malformed", "Transfer-Encoding is not a list of codings";
        TeUnknown = 502, "te_unknown", "transfer coding other than chunked before chunked";
        Connection = 502, "connection", "Connection is not a list of tokens";
        Trailing = 502, "unsolicited", "bytes that answer no request";
    }
}

errors! {
    /// A chunked body breaks RFC 9112 §7.1 or a bound. The message is aborted: no clean end for the other side.
    /// The status is for a request whose response has not begun.
    ChunkError {
        Size = 400, "chunk_size", "chunk size is not 1 to 16 hexadecimal digits";
        SizeLine = 400, "chunk_size_line", "chunk size line does not end in CRLF";
        Extension = 400, "chunk_extension", "malformed chunk extension";
        ExtensionTooLong = 400, "chunk_extension_too_long", "chunk extensions over the limit";
        DataEnd = 400, "chunk_data_end", "chunk data not followed by CRLF";
        Trailer = 400, "chunk_trailer", "malformed trailer field";
        TrailerTooLong = 400, "chunk_trailer_too_long", "trailer section over the limit";
        Overhead = 400, "chunk_overhead", "far more chunk framing than payload";
    }
}
