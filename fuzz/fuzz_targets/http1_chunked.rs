//! Any bytes as a chunked body: the same payload however cut, the same as a plain second decoder finds, and what we
//! encode comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::proto::http1::{ChunkDecoder, ChunkError, emit};

// Two bytes say where to cut, the rest is what is read.
fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first_chunk() else { return };
    let cut = u16::from_le_bytes(*cut);
    let cut = usize::from(cut) % (bytes.len() + 1);
    let whole = decode([bytes]);
    assert_eq!(whole, decode([&bytes[..cut], &bytes[cut..]]));
    assert_eq!(whole, decode(bytes.chunks(1)));
    if let Ok(Decoded { payload, consumed, is_done: true }) = &whole {
        assert_eq!(plainly(&bytes[..*consumed]).as_ref(), Some(payload));
    }

    let mut encoded = Vec::new();
    let (first, second) = bytes.split_at(cut);
    for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
        encoded.extend_from_slice(&emit::chunk_head(piece.len()));
        encoded.extend_from_slice(piece);
        encoded.extend_from_slice(emit::CHUNK_END);
    }
    encoded.extend_from_slice(emit::LAST_CHUNK);
    assert_eq!(
        decode([encoded.as_slice()]),
        Ok(Decoded { consumed: encoded.len(), payload: bytes.to_vec(), is_done: true })
    );
});

#[derive(Debug, PartialEq)]
struct Decoded {
    payload: Vec<u8>,
    consumed: usize,
    is_done: bool,
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Decoded, ChunkError> {
    let mut decoder = ChunkDecoder::new();
    let mut decoded = Decoded { payload: vec![], consumed: 0, is_done: false };
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() && !decoder.is_done() {
            let span = decoder.decode(rest)?;
            assert!(span.consumed > 0 && span.data.end <= span.consumed && span.consumed <= rest.len());
            decoded.payload.extend_from_slice(&rest[span.data]);
            decoded.consumed += span.consumed;
            decoded.is_done = span.is_done;
            rest = &rest[span.consumed..];
        }
    }
    assert_eq!(decoded.is_done, decoder.is_done());
    Ok(decoded)
}

/// A complete body, read line by line without a thought for speed.
fn plainly(body: &[u8]) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    let mut rest = body;
    loop {
        let (line, after) = line(rest)?;
        let digits = line.split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        rest = after;
        if size == 0 {
            break;
        }
        payload.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let (line, after) = line(rest)?;
        rest = after;
        match line {
            [] => return rest.is_empty().then_some(payload),
            _ => assert!(line.contains(&b':') && !line.contains(&b'\n') && !line.contains(&b'\r')),
        }
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}
