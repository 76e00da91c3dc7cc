//! Any bytes as a request head: the outcome must not depend on how they were cut, an accepted head must satisfy the
//! grammar as a second, plain reading sees it, and writing its parts must give a head that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::proto::http1::exchange::Framing;
use lyre::proto::http1::{BodyLength, Fields, HeadReader, Limits, Parsed, RequestError, emit, parse_request};

const LIMITS: Limits = Limits { head_bytes_max: 2_000, line_bytes_max: 500, fields_max: 20, target_bytes_max: 300 };

// Two bytes say where to cut, the rest is what is read.
fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first_chunk() else { return };
    let cut = u16::from_le_bytes(*cut);
    let whole = read(bytes, [bytes.len()]);
    let cut = usize::from(cut) % (bytes.len() + 1);
    assert_eq!(whole, read(bytes, [cut, bytes.len()]));
    assert_eq!(whole, read(bytes, 1..=bytes.len()));
    if let Ok(Some(consumed)) = whole {
        check(bytes, consumed);
    }
});

/// One head from growing prefixes of `bytes`: bytes consumed, or `None` if incomplete.
fn read(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Result<Option<usize>, RequestError> {
    let (mut reader, mut fields) = (HeadReader::new(), Fields::new());
    for end in ends {
        if let Parsed::Done { consumed, .. } = reader.request(&bytes[..end], &mut fields, &LIMITS)? {
            return Ok(Some(consumed));
        }
    }
    Ok(None)
}

fn check(bytes: &[u8], consumed: usize) {
    let mut fields = Fields::new();
    let Ok(Parsed::Done { head, .. }) = parse_request(bytes, &mut fields, &LIMITS) else { unreachable!() };

    let text = &bytes[consumed - head.byte_count()..consumed];
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    assert!(lines.iter().rev().skip(1).all(|line| line.ends_with(b"\r")));
    assert_eq!(text.iter().filter(|byte| **byte == b'\r').count(), lines.len() - 1);
    assert!(text.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b'\t' | b' '..=b'~' | 0x80..)));
    assert_eq!(head.fields().count(), lines.len() - 3);
    for (line, field) in lines[1..].iter().zip(head.fields()) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap();
        assert_eq!(&line[..colon], field.name_bytes());
        assert_eq!(line[colon + 1..].trim_ascii(), field.value().trim_ascii());
        assert_eq!(field.canonical().is_some(), *line == [field.name_bytes(), b": ", field.value(), b"\r"].concat());
    }

    let named = |name: &str| -> Vec<&[u8]> {
        let is_named =
            |line: &&[u8]| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes());
        lines[1..].iter().copied().filter(is_named).map(|line| line[name.len()..].trim_ascii()).collect()
    };
    let (lengths, codings) = (named("content-length:"), named("transfer-encoding:"));
    match head.body() {
        BodyLength::None => assert!(lengths.is_empty() && codings.is_empty()),
        BodyLength::Length(length) => {
            assert!(lengths.len() == 1 && codings.is_empty());
            assert_eq!(std::str::from_utf8(lengths[0]).unwrap().parse(), Ok(length));
        }
        BodyLength::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked"))
        }
        BodyLength::UntilClose => unreachable!(),
    }
    assert!(named("host:").len() <= 1);
    assert!(!head.is_websocket_upgrade() || head.body().is_empty());

    let mut out = Vec::new();
    emit::request_line(&mut out, head.method_bytes(), head.target(), b"");
    emit::field(&mut out, b"Host", head.host().unwrap_or(b"x"));
    let is_ours = |name: &[u8]| {
        ["host", "content-length", "transfer-encoding"].iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
    };
    let others = || head.fields().filter(|field| !is_ours(field.name_bytes()));
    others().for_each(|field| emit::field(&mut out, field.name_bytes(), field.value()));
    match Framing::of_request(head.body()) {
        Framing::Length(length) => emit::content_length(&mut out, length),
        Framing::Chunked => emit::chunked(&mut out),
        _ => {}
    }
    emit::end(&mut out);
    let mut again = Fields::new();
    let limits = Limits { line_bytes_max: 1_000, fields_max: 30, ..Limits::default() };
    let reread = parse_request(&out, &mut again, &limits);
    let reread = match reread {
        Ok(Parsed::Done { head, .. }) => head,
        // What 1.0 ignores, 1.1 judges; the proxy does not forward these fields.
        Err(RequestError::Expectation | RequestError::UpgradeMethod | RequestError::UpgradeBody)
            if head.version() == lyre::proto::http1::Version::Http10 =>
        {
            return;
        }
        other => panic!("{other:?}: {:?}", String::from_utf8_lossy(&out)),
    };
    assert_eq!(
        (reread.method_bytes(), reread.target(), reread.body()),
        (head.method_bytes(), head.target(), head.body())
    );
    let parts = |field: lyre::proto::http1::FieldLine<'_>| (field.name_bytes().to_vec(), field.value().to_vec());
    let kept: Vec<_> = reread.fields().filter(|field| !is_ours(field.name_bytes())).map(parts).collect();
    assert_eq!(kept, others().map(parts).collect::<Vec<_>>());
}
