use super::*;
use crate::proto::http1::{BodyLength, Fields, Name, Parsed, parse_request};

const GET: Request<'static> = Request {
    method: b"GET",
    scheme: Some(b"https"),
    authority: Some(b"cloud.test"),
    path: b"/a?b",
    protocol: None,
    body: Body::None,
    websocket_key: b"dGhlIHNhbXBsZSBub25jZQ==",
};

fn head(request: &Request<'_>, fields: &[(&str, &str)]) -> Result<String, RequestError> {
    let mut out = Vec::new();
    write_head(&mut out, request, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn a_stream_becomes_the_head_of_a_request() {
    let fields = [("accept", "*/*"), ("te", "trailers"), ("x", "")];
    let expected = "GET /a?b HTTP/1.1\r\nhost: cloud.test\r\naccept: */*\r\nte: trailers\r\nx: \r\n\r\n";
    assert_eq!(head(&GET, &fields).unwrap(), expected);
}

#[test]
fn the_parser_accepts_what_is_written() {
    for (request, body) in [
        (GET, BodyLength::None),
        (Request { method: b"POST", ..GET }, BodyLength::Length(0)),
        (Request { method: b"POST", body: Body::Counted(7), ..GET }, BodyLength::Length(7)),
        (Request { method: b"PUT", body: Body::Streamed, ..GET }, BodyLength::Chunked),
        (Request { body: Body::Streamed, ..GET }, BodyLength::Chunked),
    ] {
        let text = head(&request, &[("cookie", "a=1"), ("accept", "x"), ("cookie", "b=2"), ("cookie", "c=3")]).unwrap();
        let mut fields = Fields::new();
        let parsed = parse_request(text.as_bytes(), &mut fields, &Limits::default()).unwrap();
        let Parsed::Done { head, consumed } = parsed else { panic!("incomplete") };
        assert_eq!((head.body(), consumed), (body, text.len()));
        assert_eq!(head.values(Name::Cookie).collect::<Vec<_>>(), [b"a=1; b=2; c=3"]);
    }
}

#[test]
fn a_declared_length_is_the_only_framing() {
    let post = Request { method: b"POST", body: Body::Streamed, ..GET };
    let text = head(&post, &[("content-length", "5")]).unwrap();
    assert!(text.contains("content-length: 5\r\n") && !text.contains("transfer-encoding"), "{text}");
}

#[test]
fn an_extended_connect_becomes_an_upgrade() {
    let connect = Request { method: b"CONNECT", protocol: Some(b"websocket"), body: Body::Streamed, ..GET };
    let text = head(&connect, &[("sec-websocket-version", "13"), ("sec-websocket-key", "theirs")]).unwrap();
    let mut fields = Fields::new();
    let parsed = parse_request(text.as_bytes(), &mut fields, &Limits::default()).unwrap();
    let Parsed::Done { head, .. } = parsed else { panic!("incomplete") };
    assert!(head.is_websocket_upgrade());
    assert_eq!(head.value(Name::SecWebSocketKey), Some(GET.websocket_key));
}

#[test]
fn an_authority_may_be_repeated_as_host_and_not_contradicted() {
    assert!(head(&GET, &[("host", "CLOUD.test:443")]).is_ok());
    assert_eq!(head(&GET, &[("host", "b")]), Err(RequestError::HostMismatch));
    let only_host = Request { authority: None, ..GET };
    assert!(head(&only_host, &[("host", "a")]).unwrap().contains("host: a\r\n"));
    assert_eq!(head(&only_host, &[("host", "a"), ("host", "a")]), Err(RequestError::HostRepeated));
    // Neither: the parser finds out.
    assert!(!head(&only_host, &[]).unwrap().contains("host"));
}

#[test]
fn what_could_break_out_of_its_line_is_refused() {
    for (request, fields, error) in [
        (Request { method: b"GET / HTTP/1.1\r\nx: ", ..GET }, vec![], RequestError::Method),
        (Request { method: b"", ..GET }, vec![], RequestError::Method),
        (Request { path: b"/x HTTP/1.1\r\nX: y", ..GET }, vec![], RequestError::TargetBytes),
        (Request { path: b"/a b", ..GET }, vec![], RequestError::TargetBytes),
        (Request { path: b"/a#b", ..GET }, vec![], RequestError::TargetBytes),
        (Request { path: b"", ..GET }, vec![], RequestError::TargetForm),
        (Request { path: b"x", ..GET }, vec![], RequestError::TargetForm),
        (Request { path: b"*", ..GET }, vec![], RequestError::TargetForm),
        (Request { path: b"http://b/", ..GET }, vec![], RequestError::TargetForm),
        (Request { authority: Some(b"a\r\nx: y"), ..GET }, vec![], RequestError::HostInvalid),
        (Request { scheme: Some(b"http://evil/?"), ..GET }, vec![], RequestError::Scheme),
        (Request { method: b"CONNECT", ..GET }, vec![], RequestError::MethodRefused),
        (Request { protocol: Some(b"websocket"), ..GET }, vec![], RequestError::ProtocolUnknown),
        (Request { method: b"CONNECT", protocol: Some(b"x"), ..GET }, vec![], RequestError::ProtocolUnknown),
        (GET, vec![("foo", "bar\r\ntransfer-encoding: chunked")], RequestError::FieldValue),
        (GET, vec![("foo", "bar\nx: y")], RequestError::FieldValue),
        (GET, vec![("foo", "a\0b")], RequestError::FieldValue),
        (GET, vec![("foo", " a")], RequestError::FieldValue),
        (GET, vec![("foo", "a\t")], RequestError::FieldValue),
        (GET, vec![("cookie", "a\r\nb")], RequestError::FieldValue),
        (GET, vec![("foo: bar\r\nx", "y")], RequestError::FieldName),
        (GET, vec![("fo o", "y")], RequestError::FieldName),
        (GET, vec![("", "y")], RequestError::FieldName),
        (GET, vec![("Foo", "y")], RequestError::FieldName),
        (GET, vec![("foo:", "y")], RequestError::FieldName),
        (GET, vec![("connection", "keep-alive")], RequestError::ConnectionField),
        (GET, vec![("keep-alive", "1")], RequestError::ConnectionField),
        (GET, vec![("proxy-connection", "x")], RequestError::ConnectionField),
        (GET, vec![("upgrade", "h2c")], RequestError::ConnectionField),
        (GET, vec![("transfer-encoding", "chunked")], RequestError::ConnectionField),
        (GET, vec![("te", "gzip")], RequestError::ConnectionField),
        (GET, vec![("cookie", "a"); 129], RequestError::TooManyFields),
    ] {
        assert_eq!(head(&request, &fields), Err(error), "{request:?} {fields:?}");
    }
}
