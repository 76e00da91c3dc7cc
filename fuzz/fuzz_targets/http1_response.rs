//! Any bytes as a response head, and as everything a connection brings after it: the same however cut, and the framing
//! decision must follow from the fields as a second, plain reading sees them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::proto::http1::exchange::{Exchange, Framing, Step};
use lyre::proto::http1::response::unfold;
use lyre::proto::http1::{
    BodyLength, Fields, HeadReader, Limits, Method, Parsed, ResponseError, parse_request, parse_response,
};

const LIMITS: Limits = Limits { head_bytes_max: 2_000, line_bytes_max: 500, fields_max: 20, target_bytes_max: 300 };
const REQUESTS: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
];

// Two bytes say where to cut and which request is answered, the rest is what is read.
fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first_chunk() else { return };
    let choice = u16::from_le_bytes(*choice);
    let (cut, request) = (choice >> 2, choice & 3);
    let mut bytes = bytes.to_vec();
    let whole = read(&bytes, [bytes.len()]);
    let cut = usize::from(cut) % (bytes.len() + 1);
    assert_eq!(whole, read(&bytes, [cut, bytes.len()]));
    assert_eq!(whole, read(&bytes, 1..=bytes.len()));
    if whole == Err(ResponseError::ObsFold) {
        unfold(&mut bytes);
        assert_ne!(read(&bytes, [bytes.len()]), Err(ResponseError::ObsFold));
    }
    check(&bytes, REQUESTS[usize::from(request)]);
});

fn read(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Result<Option<usize>, ResponseError> {
    let (mut reader, mut fields) = (HeadReader::new(), Fields::new());
    for end in ends {
        if let Parsed::Done { consumed, .. } = reader.response(&bytes[..end], &mut fields, &LIMITS)? {
            return Ok(Some(consumed));
        }
    }
    Ok(None)
}

fn check(bytes: &[u8], request: &[u8]) {
    let (mut fields, mut request_fields) = (Fields::new(), Fields::new());
    let Ok(Parsed::Done { head, consumed }) = parse_response(bytes, &mut fields, &LIMITS) else { return };
    let Ok(Parsed::Done { head: request, .. }) = parse_request(request, &mut request_fields, &LIMITS) else {
        unreachable!()
    };
    assert_eq!(head.byte_count(), consumed);
    let text = &bytes[..consumed];
    assert!(text.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b'\t' | b' '..=b'~' | 0x80..)));
    assert_eq!(text.iter().filter(|byte| **byte == b'\r').count(), head.fields().count() + 2);
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), head.fields().count() + 2);

    let has = |name: &str| head.fields().any(|field| field.name_bytes().eq_ignore_ascii_case(name.as_bytes()));
    match head.body(Method::Get) {
        BodyLength::None => assert!(head.status() < 200 || head.status() == 204 || head.status() == 304),
        BodyLength::Chunked => assert!(has("transfer-encoding")),
        BodyLength::Length(_) => assert!(has("content-length") || head.status() == 205),
        BodyLength::UntilClose => assert!(!has("transfer-encoding") && !has("content-length")),
    }
    assert_eq!(head.body(Method::Head), BodyLength::None);

    let mut exchange = Exchange::new(&request, true);
    match exchange.response_head(&head) {
        Ok(Step::Final(reply)) => {
            assert!(head.status() >= 200);
            assert!(reply.sent != Framing::Chunked || request.version() == lyre::proto::http1::Version::Http11);
            let is_unframed = matches!(reply.sent, Framing::None | Framing::Declared(_));
            assert_eq!(is_unframed, reply.received == BodyLength::None);
            exchange.response_done();
            let is_doubtful =
                has("transfer-encoding") && has("content-length") || reply.received == BodyLength::UntilClose;
            assert!(!is_doubtful || !exchange.may_reuse_upstream());
        }
        Ok(Step::Interim { relay }) => assert!(head.status() < 200 && !(relay && head.status() == 100)),
        Ok(Step::Tunnel) => assert!(head.status() == 101 && request.is_websocket_upgrade()),
        Err(_) => assert_eq!(head.status(), 101),
    }
}
