//! HTTP/1.1 (RFC 9112) as an intermediary must read and write it. Ambiguous framing is refused, never repaired.
