//! Responses: the head that was written for an HTTP/1.1 client, taken apart for a stream (RFC 9113 §8.2.2).

/// A status line and the field lines behind it, written by this program.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub status: u16,
    lines: &'a [u8],
}

impl<'a> Head<'a> {
    /// `None` is a bug of ours.
    pub fn of(text: &'a [u8]) -> Option<Head<'a>> {
        let digits = text.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let end = text.iter().position(|byte| *byte == b'\n')?;
        Some(Head { status, lines: text.get(end + 1..)? })
    }

    /// The fields a stream may carry, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        fields(self.lines)
    }
}

/// `name: value CRLF` lines up to an empty one, without those that speak of an HTTP/1.1 connection.
pub fn fields(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = lines.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let value = value.get(1..)?.trim_ascii();
        (!is_of_connection(name)).then_some((name, value))
    })
}

/// Value of Sec-WebSocket-Accept.
pub fn websocket_accept(head: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"sec-websocket-accept:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    line.get(NAME.len()..).map(<[u8]>::trim_ascii)
}

fn is_of_connection(name: &[u8]) -> bool {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        7 => is(b"upgrade"),
        10 => is(b"connection") || is(b"keep-alive"),
        16 => is(b"proxy-connection"),
        17 => is(b"transfer-encoding"),
        // Answers the key of an HTTP/1.1 handshake (RFC 8441 §5.1).
        20 => is(b"sec-websocket-accept"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_its_status_and_the_fields_a_stream_may_carry() {
        let text = b"HTTP/1.1 207 Multi-Status\r\nDate: now\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
                     Keep-Alive: 5\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nProxy-Connection: y\r\n\
                     Set-Cookie: a=b: c\r\nX-Empty:\r\n\r\nbody: x\r\n";
        let head = Head::of(text).unwrap();
        assert_eq!(head.status, 207);
        let fields: Vec<_> = head.fields().collect();
        assert_eq!(fields, [(&b"Date"[..], &b"now"[..]), (b"Set-Cookie", b"a=b: c"), (b"X-Empty", b"")]);
    }

    #[test]
    fn the_answer_to_a_websocket_key_is_found_in_any_case() {
        let head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSEC-WebSocket-Accept:  s3p= \r\n\r\n";
        assert_eq!(websocket_accept(head), Some(&b"s3p="[..]));
        assert_eq!(websocket_accept(b"HTTP/1.1 101 x\r\n\r\n"), None);
    }

    #[test]
    fn anything_else_is_no_head() {
        for text in ["", "HTTP/1.1 2", "HTTP/1.1 abc x\r\n\r\n", "200 OK\r\n\r\n"] {
            assert!(Head::of(text.as_bytes()).is_none(), "{text}");
        }
    }
}
