use super::*;
use crate::proto::http1::{BodyLength, Method, RequestHead, Version, parse_request, parse_response};

fn with_request<T>(
    bytes: &[u8],
    limits: &Limits,
    check: impl FnOnce(&RequestHead<'_>, usize) -> T,
) -> Result<T, RequestError> {
    let mut fields = Fields::new();
    match parse_request(bytes, &mut fields, limits)? {
        Parsed::Done { head, consumed } => Ok(check(&head, consumed)),
        Parsed::NeedMore => panic!("complete head expected"),
    }
}

#[test]
fn a_head_is_a_view_of_what_was_received() {
    let bytes = b"\r\nPROPFIND /a%2Fb?c#".split_last().unwrap().1.to_vec();
    let bytes = [&bytes[..], b" HTTP/1.1\r\nHost: A:81\r\nDepth:\t1 \r\nX: \r\nTE: trailers\r\n\r\nrest"].concat();
    let consumed = with_request(&bytes, &Limits::default(), |head, consumed| {
        assert_eq!((head.method(), head.method_bytes()), (Method::Propfind, &b"PROPFIND"[..]));
        assert_eq!((head.target(), head.path()), (&b"/a%2Fb?c"[..], &b"/a%2Fb"[..]));
        assert_eq!((head.version(), head.host()), (Version::Http11, Some(&b"A:81"[..])));
        assert_eq!(head.body(), BodyLength::None);
        assert!(head.accepts_trailers() && !head.wants_close() && !head.expects_continue());
        let fields: Vec<_> = head.fields().map(|line| (line.name(), line.name_bytes(), line.value())).collect();
        assert_eq!(fields[1], (Name::Other, &b"Depth"[..], &b"1"[..]));
        assert_eq!(fields[2], (Name::Other, &b"X"[..], &b""[..]));
        let canonical: Vec<_> = head.fields().map(|line| line.canonical().is_some()).collect();
        assert_eq!(canonical, [true, false, true, true]);
        consumed
    });
    assert_eq!(consumed, Ok(bytes.len() - 4));
}

/// Each limit: the largest input that passes, and one byte or field more.
#[test]
fn limits_hold_at_their_boundary() {
    let limits = Limits { head_bytes_max: 200, line_bytes_max: 40, fields_max: 4, target_bytes_max: 50 };
    let check = |text: String| with_request(text.as_bytes(), &limits, |_, _| ());
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(bytes - 1));
    assert_eq!(check(target(50)), Ok(()));
    assert_eq!(check(target(51)), Err(RequestError::TargetTooLong));
    let line = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(bytes - 3));
    assert_eq!(check(line(40)), Ok(()));
    assert_eq!(check(line(41)), Err(RequestError::LineTooLong));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(check(fields(4)), Ok(()));
    assert_eq!(check(fields(5)), Err(RequestError::TooManyFields));
    // 53 + 9 + 2 * 38 + 60 + 2 = 200
    let head = |bytes: usize| {
        let rest = bytes - 142;
        format!(
            "{}{}X: {}\r\n\r\n",
            &target(36)[..60],
            "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(2),
            "a".repeat(rest)
        )
    };
    let sized = |bytes: usize| {
        let text = head(bytes);
        head(bytes + bytes - text.len())
    };
    assert_eq!(sized(200).len(), 200);
    let wide = Limits { line_bytes_max: 100, ..limits };
    assert_eq!(with_request(sized(200).as_bytes(), &wide, |_, _| ()), Ok(()));
    assert_eq!(with_request(sized(201).as_bytes(), &wide, |_, _| ()), Err(RequestError::HeadTooLong));
    let method = |bytes: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(bytes));
    assert_eq!(check(method(32)), Ok(()));
    assert_eq!(check(method(33)), Err(RequestError::MethodTooLong));
}

#[test]
fn limits_above_the_ceilings_are_the_ceilings() {
    let limits = Limits {
        head_bytes_max: usize::MAX / 2,
        line_bytes_max: usize::MAX / 4,
        fields_max: 1_000,
        target_bytes_max: 100,
    };
    let line = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(bytes));
    let overhead = line(0).len();
    let largest = Limits::HEAD_BYTES_CEILING - overhead;
    let value_bytes =
        with_request(line(largest).as_bytes(), &limits, |head, _| head.fields().last().unwrap().value().len());
    assert_eq!(value_bytes, Ok(largest));
    assert_eq!(with_request(line(largest + 1).as_bytes(), &limits, |_, _| ()), Err(RequestError::HeadTooLong));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(with_request(fields(Limits::FIELDS_CEILING).as_bytes(), &limits, |_, _| ()), Ok(()));
    let over = with_request(fields(Limits::FIELDS_CEILING + 1).as_bytes(), &limits, |_, _| ());
    assert_eq!(over, Err(RequestError::TooManyFields));
}

/// A head arriving byte by byte is searched once, not once per byte: each call looks at what is new.
#[test]
fn waiting_looks_at_each_byte_once() {
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(10_000));
    let (mut reader, mut fields) = (HeadReader::new(), Fields::new());
    for end in 1..=text.len() {
        let outcome = reader.request(&text.as_bytes()[..end], &mut fields, &Limits::default());
        assert!(matches!(outcome, Ok(Parsed::NeedMore)));
        assert_eq!(reader.scanned, end.max(1));
    }
}

#[test]
fn a_broken_request_line_is_refused_before_the_head_is_complete() {
    for (text, error) in [
        ("GET /x\r\n", RequestError::Http09),
        ("GET /x HTTP/3.0\r\nHo", RequestError::VersionUnsupported),
        ("\x16\x03", RequestError::Method),
        ("TRACE / HTTP/1.1\r\n", RequestError::MethodRefused),
    ] {
        let mut fields = Fields::new();
        let outcome = parse_request(text.as_bytes(), &mut fields, &Limits::default());
        assert_eq!(outcome.err(), Some(error), "{text:?}");
    }
}

#[test]
fn folds_of_a_response_can_be_undone() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\tc\r\nY: d\r\n\r\n\r\n body\r\n ".to_vec();
    let mut fields = Fields::new();
    assert!(matches!(parse_response(&bytes, &mut fields, &Limits::default()), Err(ResponseError::ObsFold)));
    assert_eq!(crate::proto::http1::response::unfold(&mut bytes), 2);
    let Ok(Parsed::Done { head, .. }) = parse_response(&bytes, &mut fields, &Limits::default()) else {
        panic!("unfolded")
    };
    assert!(bytes.ends_with(b"\r\n\r\n\r\n body\r\n "), "the body is not folded");
    let values: Vec<_> = head.fields().map(|line| line.value()).collect();
    assert_eq!(values, [&b"a   b  \tc"[..], b"d"]);
}

#[test]
fn too_many_connection_options_are_refused() {
    let options =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n", ["x"].repeat(count).join(","));
    let check = |count: usize| with_request(options(count).as_bytes(), &Limits::default(), |_, _| ());
    assert_eq!(check(32), Ok(()));
    assert_eq!(check(33), Err(RequestError::Connection));
}

#[test]
fn reasons_are_unique_and_statuses_are_errors() {
    let mut reasons: Vec<_> = RequestError::ALL.iter().map(|error| error.reason()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), RequestError::ALL.len());
    assert!(RequestError::ALL.iter().all(|error| (400..600).contains(&error.status())));
    assert!(ResponseError::ALL.iter().all(|error| error.status() == 502));
}

#[test]
fn content_lengths_are_decimal_and_below_two_to_the_63() {
    assert_eq!(content_length(b"0"), Some(0));
    assert_eq!(content_length(b"007"), Some(7));
    assert_eq!(content_length(b"9223372036854775807"), Some(i64::MAX as u64));
    for text in ["", "9223372036854775808", "18446744073709551616", "1 ", "+1", "1a", "\u{0661}"] {
        assert_eq!(content_length(text.as_bytes()), None, "{text}");
    }
}
