use super::*;

/// Everything in pieces of this size; the whole content, or the error.
pub(crate) fn read_all(bytes: &[u8], size: usize) -> Result<Vec<u8>, SnappyError> {
    let mut reader = Reader::default();
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        let mut piece = piece;
        while !piece.is_empty() {
            let before = out.len();
            let taken = reader.read(piece, &mut out)?;
            assert!(taken > 0 && out.len() - before <= CONTENT_BYTES_MAX);
            assert!(reader.pending.len() <= HEAD_BYTES + CHUNK_BYTES_MAX);
            piece = &piece[taken..];
        }
    }
    Ok(out)
}

fn stream(contents: &[&[u8]]) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut out = Vec::new();
    contents.iter().for_each(|content| writer.write(content, &mut out));
    out
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..bytes).map(|_| rng.u8(..)).collect()
}

#[test]
fn what_is_written_reads_back_however_it_is_cut() {
    let text = b"the same again, the same again, the same again. ".repeat(9);
    let bytes = stream(&[b"a", &text, &noise(90), b""]);
    let expected = [b"a".as_slice(), &text, &noise(90)].concat();
    for size in 1..=bytes.len() {
        assert_eq!(read_all(&bytes, size), Ok(expected.clone()), "pieces of {size}");
    }
}

#[test]
fn text_shrinks_and_noise_hardly_grows() {
    let text = b"0123456789".repeat(20_000);
    assert!(stream(&[&text]).len() < text.len() / 10);
    let noise = noise(200_000);
    let bytes = stream(&[&noise]);
    assert!(bytes.len() <= noise.len() + 10 + 4 * 8, "{}", bytes.len());
    assert_eq!(read_all(&bytes, 4_096), Ok(noise));
}

#[test]
fn nothing_is_written_for_nothing() {
    assert!(stream(&[b""]).is_empty());
}

#[test]
fn every_changed_byte_is_noticed() {
    let bytes = stream(&[b"hello hello hello hello hello hello"]);
    let good = read_all(&bytes, 1_000).unwrap();
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x55;
        // A length that grew waits for more, a type may become one that is passed over: then nothing comes out.
        assert!(read_all(&bytes, 1_000).is_err() || read_all(&bytes, 1_000) == Ok(Vec::new()), "byte {at}");
        assert_ne!(read_all(&bytes, 1_000), Ok(good.clone()));
    }
}

#[test]
fn chunks_nobody_knows_are_passed_over_or_refused() {
    let mut bytes = IDENTIFIER_CHUNK.to_vec();
    bytes.extend_from_slice(b"\xfe\x03\0\0pad\x80\0\0\0\x01\x05\0\0");
    bytes.extend_from_slice(&masked_crc(b"x").to_le_bytes());
    bytes.push(b'x');
    for size in 1..=bytes.len() {
        assert_eq!(read_all(&bytes, size), Ok(b"x".to_vec()));
    }
    let bad = [&IDENTIFIER_CHUNK[..], b"\x02\0\0\0"].concat();
    assert_eq!(read_all(&bad, 1), Err(SnappyError::Chunk(2)));
}

#[test]
fn limits_hold_before_anything_is_gathered() {
    assert_eq!(read_all(b"\x01\x05\0\0....x", 1), Err(SnappyError::Identifier));
    let long = |kind: u8, length: u32| {
        let [a, b, c, _] = length.to_le_bytes();
        [&IDENTIFIER_CHUNK[..], &[kind, a, b, c]].concat()
    };
    assert_eq!(read_all(&long(0, 0xff_ffff), 64), Err(SnappyError::Length(0xff_ffff)));
    assert_eq!(read_all(&long(1, 3), 64), Err(SnappyError::Length(3)));
    // A chunk that says it holds 4 GiB.
    let bomb = [&long(0, 9)[..], &[0; 4], b"\xff\xff\xff\xff\x0f"].concat();
    assert_eq!(read_all(&bomb, 64), Err(SnappyError::Length(u32::MAX as usize)));
}
