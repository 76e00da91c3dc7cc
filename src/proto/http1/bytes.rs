//! Byte classes of the HTTP grammar as one table, and the few searches the hot path makes.

/// `tchar`, RFC 9110 §5.6.2.
const TOKEN: u8 = 1;
/// `[A-Za-z0-9-]`: what a field name may consist of without CGI folding it onto another.
const PLAIN_NAME: u8 = 2;
/// `field-content`, RFC 9110 §5.5: visible ASCII, SP, HTAB and opaque obs-text.
const VALUE: u8 = 4;
/// Visible ASCII without `#` and `\`; see `request`.
const TARGET: u8 = 8;
/// Letters, digits, `-`, `.`, `_`; see `authority`.
const HOST: u8 = 16;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let mut class = 0;
        if byte.is_ascii_alphanumeric() {
            class |= TOKEN | PLAIN_NAME | HOST;
        }
        if matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~') {
            class |= TOKEN;
        }
        if byte == b'-' {
            class |= PLAIN_NAME;
        }
        if matches!(byte, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        if matches!(byte, b'\t' | b' '..=b'~' | 0x80..) {
            class |= VALUE;
        }
        if matches!(byte, b'!'..=b'~') && byte != b'#' && byte != b'\\' {
            class |= TARGET;
        }
        classes[index] = class;
        index += 1;
    }
    classes
};

/// All bytes are of `class`. No early exit: nearly all input is good, and a loop without branches is faster.
fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |classes, byte| classes & CLASSES[usize::from(*byte)]) == class
}

pub fn is_token_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

/// A non-empty `token`.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

pub fn is_plain_name(bytes: &[u8]) -> bool {
    all(bytes, PLAIN_NAME)
}

pub fn is_value_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & VALUE != 0
}

pub fn is_value(bytes: &[u8]) -> bool {
    all(bytes, VALUE)
}

pub fn is_target(bytes: &[u8]) -> bool {
    all(bytes, TARGET)
}

pub fn is_host_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, HOST)
}

/// Without the optional whitespace (SP, HTAB) on both sides.
pub fn trim_ows(bytes: &[u8]) -> &[u8] {
    let is_ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_ows(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_ows(byte)).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

/// Elements of a comma separated list, trimmed; empty ones included.
pub fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_ows)
}

/// Index of the first `wanted` at or after `from`, eight bytes a step.
pub fn find(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let pattern = ONES * u64::from(wanted);
    let (words, tail) = bytes.get(from..)?.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // A wanted byte becomes zero; the lowest zero byte is the lowest one whose high bit the borrow sets.
        let differs = u64::from_le_bytes(*word) ^ pattern;
        let zeros = differs.wrapping_sub(ONES) & !differs & HIGHS;
        if zeros != 0 {
            return Some(from + index * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    tail.iter().position(|byte| *byte == wanted).map(|index| bytes.len() - tail.len() + index)
}

/// Token equality without case. `lower` holds lower-case letters, digits and `-` only, and `token` is a token: then
/// setting bit 5 of every byte can make nothing equal that differs in more than case.
pub fn is_token_equal(token: &[u8], lower: &[u8]) -> bool {
    const CASE: u64 = u64::from_ne_bytes([0x20; 8]);
    if token.len() != lower.len() {
        return false;
    }
    let ((words, tail), (lower_words, lower_tail)) = (token.as_chunks::<8>(), lower.as_chunks::<8>());
    let words = words.iter().zip(lower_words);
    let tail = tail.iter().zip(lower_tail);
    words.fold(0, |diff, (a, b)| diff | ((u64::from_le_bytes(*a) | CASE) ^ u64::from_le_bytes(*b))) == 0
        && tail.fold(0, |diff, (a, b)| diff | ((a | 0x20) ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_grammar() {
        for byte in 0..=255u8 {
            let is_tchar = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token_byte(byte), is_tchar, "{byte:#x}");
            let is_field_content = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            assert_eq!(is_value_byte(byte), is_field_content, "{byte:#x}");
            let is_target_byte = byte.is_ascii_graphic() && byte != b'#' && byte != b'\\';
            assert_eq!(is_target(&[byte]), is_target_byte, "{byte:#x}");
            assert_eq!(is_plain_name(&[byte]), byte.is_ascii_alphanumeric() || byte == b'-', "{byte:#x}");
            assert_eq!(is_host_name(&[byte]), byte.is_ascii_alphanumeric() || b"-._".contains(&byte), "{byte:#x}");
        }
        assert!(!is_token(b"") && !is_token(b"a b") && !is_host_name(b""));
    }

    #[test]
    fn find_agrees_with_a_plain_search_at_every_position() {
        let mut random = fastrand::Rng::with_seed(3);
        for length in 0..70 {
            // Neighbours of the wanted byte are where such arithmetic goes wrong.
            let bytes: Vec<u8> =
                (0..length).map(|_| [b'\n', 0x0b, 0x09, 0x8a, 0, 0xff, b'a'][random.usize(..7)]).collect();
            for from in 0..=length {
                let expected = bytes[from..].iter().position(|byte| *byte == b'\n').map(|index| from + index);
                assert_eq!(find(&bytes, from, b'\n'), expected);
            }
            assert_eq!(find(&bytes, length + 1, b'\n'), None);
        }
    }

    #[test]
    fn token_equality_ignores_case_and_nothing_else() {
        assert!(is_token_equal(b"Transfer-Encoding", b"transfer-encoding"));
        assert!(is_token_equal(b"TE", b"te"));
        for other in ["transfer-encodin", "transfer-encodinG2", "transfer_encoding", "ttansfer-encoding"] {
            assert!(!is_token_equal(other.as_bytes(), b"transfer-encoding"), "{other}");
        }
        let tokens = (0..=255u8).filter(|byte| is_token_byte(*byte));
        for (a, b) in tokens.clone().flat_map(|a| tokens.clone().filter(u8::is_ascii_lowercase).map(move |b| (a, b))) {
            assert_eq!(is_token_equal(&[a], &[b]), a.eq_ignore_ascii_case(&b));
            assert_eq!(is_token_equal(&[a; 8], &[b; 8]), a.eq_ignore_ascii_case(&b));
        }
    }

    #[test]
    fn lists_are_split_at_commas_and_trimmed() {
        assert_eq!(list(b" a ,\tb,, c d ").collect::<Vec<_>>(), [&b"a"[..], b"b", b"", b"c d"]);
        assert_eq!(list(b"").collect::<Vec<_>>(), [b""]);
        assert_eq!(trim_ows(b" \t "), b"");
    }
}
