use super::*;
use crate::proto::http1::emit;

/// Payload, bytes consumed and whether the body ended, from input cut into pieces of `piece_bytes`.
fn decode_all(reader: &mut BodyReader, input: &[u8], piece_bytes: usize) -> Result<(Vec<u8>, usize), ChunkError> {
    let (mut payload, mut consumed) = (Vec::new(), 0);
    for piece in input.chunks(piece_bytes.max(1)) {
        let mut rest = piece;
        while !rest.is_empty() && !reader.is_done() {
            let span = reader.decode(rest)?;
            assert!(span.data.end <= span.consumed && span.consumed <= rest.len());
            assert!(span.consumed > 0, "no progress");
            assert_eq!(span.is_done, reader.is_done());
            payload.extend_from_slice(&rest[span.data]);
            consumed += span.consumed;
            rest = &rest[span.consumed..];
        }
    }
    Ok((payload, consumed))
}

#[test]
fn a_length_ends_exactly_where_it_says() {
    let mut reader = BodyReader::new(BodyLength::Length(5));
    assert_eq!(reader.expected(), 5);
    assert_eq!(reader.decode(b"hel"), Ok(Span { data: 0..3, consumed: 3, is_done: false }));
    assert_eq!(reader.expected(), 2);
    assert_eq!(reader.clone().end_of_stream(), Err(Truncated));
    assert_eq!(reader.decode(b"loGET /"), Ok(Span { data: 0..2, consumed: 2, is_done: true }));
    assert_eq!(reader.end_of_stream(), Ok(()));
}

#[test]
fn no_body_is_done_at_once() {
    for length in [BodyLength::None, BodyLength::Length(0)] {
        let mut reader = BodyReader::new(length);
        assert!(reader.is_done());
        assert_eq!(reader.decode(b"x"), Ok(Span { data: 0..0, consumed: 0, is_done: true }));
    }
}

#[test]
fn until_close_ends_with_the_stream_only() {
    let mut reader = BodyReader::new(BodyLength::UntilClose);
    assert_eq!(reader.decode(b"abc"), Ok(Span { data: 0..3, consumed: 3, is_done: false }));
    assert_eq!(reader.end_of_stream(), Ok(()));
    assert!(reader.is_done());
}

#[test]
fn the_end_shows_with_the_last_payload_byte() {
    let mut decoder = ChunkDecoder::new();
    let input = b"5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(decoder.decode(input), Ok(Span { data: 3..8, consumed: input.len(), is_done: true }));
}

#[test]
fn expected_is_the_rest_of_the_chunk() {
    let mut reader = BodyReader::new(BodyLength::Chunked);
    assert_eq!(reader.expected(), 0);
    reader.decode(b"100\r\nab").unwrap();
    assert_eq!(reader.expected(), 254);
}

#[test]
fn trailers_are_counted_and_dropped() {
    let mut decoder = ChunkDecoder::new();
    let span = decoder.decode(b"0\r\nA: b\r\nC: \xff\r\n\r\n").unwrap();
    assert!(span.is_done && span.data.is_empty());
    assert_eq!(decoder.trailer_fields(), 2);
}

/// What `emit` writes, the decoder reads, however both are cut.
#[test]
fn random_bodies_survive_encoding_and_decoding() {
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..2_000 {
        let payload: Vec<u8> = (0..random.usize(..600)).map(|_| random.u8(..)).collect();
        let mut encoded = Vec::new();
        let mut rest = payload.as_slice();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(random.usize(1..=rest.len()));
            encoded.extend_from_slice(&emit::chunk_head(chunk.len()));
            encoded.extend_from_slice(chunk);
            encoded.extend_from_slice(emit::CHUNK_END);
            rest = after;
        }
        encoded.extend_from_slice(emit::LAST_CHUNK);
        let end = encoded.len();
        encoded.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let mut reader = BodyReader::new(BodyLength::Chunked);
        let piece_bytes = random.usize(1..=encoded.len());
        assert_eq!(decode_all(&mut reader, &encoded, piece_bytes), Ok((payload, end)));
    }
}

#[test]
fn every_truncation_is_incomplete() {
    let input = b"5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..input.len() {
        let mut reader = BodyReader::new(BodyLength::Chunked);
        decode_all(&mut reader, &input[..end], 1).unwrap();
        assert_eq!(reader.end_of_stream(), Err(Truncated), "cut at {end}");
    }
}

#[test]
fn chunk_heads_are_hexadecimal_without_leading_zeros() {
    for (bytes, text) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcdef, "abcdef\r\n")] {
        assert_eq!(&*emit::chunk_head(bytes), text.as_bytes());
    }
    assert_eq!(&*emit::chunk_head(usize::MAX), b"ffffffffffffffff\r\n");
}

#[test]
fn decimals_have_no_leading_zeros() {
    for number in [0, 9, 10, 99, 100, u64::MAX] {
        let mut out = Vec::new();
        emit::decimal(&mut out, number);
        assert_eq!(out, number.to_string().as_bytes());
    }
}

#[test]
fn trailers_are_kept_only_for_those_who_want_them() {
    let input = b"3\r\nabc\r\n0\r\nX: y\r\nX-More:\tz \r\n\r\n";
    for piece_bytes in 1..=input.len() {
        let mut reader = BodyReader::new(BodyLength::Chunked);
        reader.keep_trailers();
        decode_all(&mut reader, input, piece_bytes).unwrap();
        assert_eq!(reader.take_trailers(), b"X: y\r\nX-More:\tz \r\n");
        let mut reader = BodyReader::new(BodyLength::Chunked);
        decode_all(&mut reader, input, piece_bytes).unwrap();
        assert!(reader.take_trailers().is_empty());
    }
}
