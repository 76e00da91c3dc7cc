//! The response fields by which Nextcloud's set-up check judges an installation: there, and there once. The server's own
//! value wins; the check compares whole values, and of a field sent twice it sees both.

use crate::proto::http1::emit;

const FIELDS: [(&[u8], &[u8]); 6] = [
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Robots-Tag", b"noindex, nofollow"),
    (b"X-Frame-Options", b"SAMEORIGIN"),
    (b"X-Permitted-Cross-Domain-Policies", b"none"),
    (b"X-XSS-Protection", b"1; mode=block"),
    (b"Referrer-Policy", b"no-referrer"),
];

/// Which of the fields a response has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Protection {
    seen: u8,
}

impl Protection {
    /// Notes a field; true if it is one of ours and was there before.
    pub(super) fn has_again(&mut self, name: &[u8]) -> bool {
        // All begin with one of two letters, and most fields with another.
        if !matches!(name.first(), Some(b'X' | b'x' | b'R' | b'r')) {
            return false;
        }
        let Some(at) = FIELDS.iter().position(|(field, _)| field.eq_ignore_ascii_case(name)) else { return false };
        let bit = 1 << at;
        let again = self.seen & bit != 0;
        self.seen |= bit;
        again
    }

    pub(super) fn write_missing(&self, out: &mut Vec<u8>) {
        for (at, (name, value)) in FIELDS.iter().enumerate() {
            if self.seen & (1 << at) == 0 {
                emit::field(out, name, value);
            }
        }
    }
}
