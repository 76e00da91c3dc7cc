//! Which header blocks hold pseudo-header fields, told from their compressed form (RFC 7541).
//!
//! The frame layer drops pseudo-header fields of trailers without a word, where RFC 9113 §8.1 wants an error of the stream.
//! So the blocks are followed here as they pass: names are known by their place in the tables or by their first byte,
//! values never. What must be followed exactly is the dynamic table, and of that only how long its entries are.
//!
//! A block that makes no sense is the frame layer's to judge, which ends the connection for it.

use std::collections::VecDeque;

/// What a client may keep in the dynamic table unless told otherwise (RFC 9113 §6.5.2); we do not.
const TABLE_BYTES_MAX: u32 = 4096;

/// Of each entry, beside its texts (RFC 7541 §4.1). So there are at most 128 entries.
const ENTRY_BYTES: u32 = 32;

/// Follows the header blocks of one direction of one connection, in order.
#[derive(Debug, Clone)]
pub struct Follower {
    /// The newest entry first.
    table: VecDeque<Entry>,
    table_bytes: u32,
    table_bytes_max: u32,
    state: State,
    field: Field,
    text: Text,
    has_pseudo: bool,
    /// A block made no sense: nothing after it does.
    is_lost: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    is_pseudo: bool,
    name_bytes: u32,
    value_bytes: u32,
}

/// Where in a block the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A field's first byte.
    Field,
    /// The rest of an integer (§5.1).
    Integer {
        of: Number,
        value: u32,
        shift: u32,
    },
    /// A text's first byte (§5.2).
    Length,
    Text {
        left: u32,
    },
}

/// What an integer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// A whole field.
    Field,
    Name,
    TableSize,
    TextBytes,
}

/// The literal field under way.
#[derive(Debug, Clone, Copy, Default)]
struct Field {
    /// It becomes an entry of the table.
    is_kept: bool,
    has_name: bool,
    entry: Entry,
}

#[derive(Debug, Clone, Copy, Default)]
struct Text {
    is_coded: bool,
    /// Decoded so far.
    bytes: u32,
    code: Code,
}

impl Follower {
    /// At the start of a connection.
    pub fn new() -> Follower {
        Follower {
            table: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: TABLE_BYTES_MAX,
            state: State::Field,
            field: Field::default(),
            text: Text::default(),
            has_pseudo: false,
            is_lost: false,
        }
    }

    /// The next bytes of the block.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.is_lost {
                return;
            }
            if let State::Text { left } = self.state {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (now, later) = bytes.split_at_checked(take).unwrap_or_default();
                bytes = later;
                self.text(now, left);
                continue;
            }
            bytes = rest;
            if self.byte(*first).is_none() {
                self.is_lost = true;
            }
        }
    }

    /// The block is complete; whether it held a pseudo-header field.
    pub fn end(&mut self) -> bool {
        self.is_lost |= self.state != State::Field;
        std::mem::take(&mut self.has_pseudo) && !self.is_lost
    }

    /// A byte outside of texts; `None` when it makes no sense.
    fn byte(&mut self, byte: u8) -> Option<()> {
        match self.state {
            State::Field => {
                self.field = Field { is_kept: byte & 0xc0 == 0x40, ..Field::default() };
                match byte {
                    0x80.. => self.integer(Number::Field, byte, 0x7f),
                    0x40..=0x7f => self.integer(Number::Name, byte, 0x3f),
                    0x20..=0x3f => self.integer(Number::TableSize, byte, 0x1f),
                    0x00..=0x1f => self.integer(Number::Name, byte, 0x0f),
                }
            }
            State::Length => {
                self.text = Text { is_coded: byte & 0x80 != 0, ..Text::default() };
                self.integer(Number::TextBytes, byte, 0x7f)
            }
            State::Integer { of, value, shift } => {
                // More than 28 bits are no length of anything here.
                let value = (shift <= 21).then(|| value.checked_add(u32::from(byte & 0x7f) << shift)).flatten()?;
                if byte & 0x80 == 0 {
                    return self.number(of, value);
                }
                self.state = State::Integer { of, value, shift: shift + 7 };
                Some(())
            }
            State::Text { .. } => None,
        }
    }

    fn integer(&mut self, of: Number, byte: u8, mask: u8) -> Option<()> {
        let value = u32::from(byte & mask);
        if byte & mask < mask {
            return self.number(of, value);
        }
        self.state = State::Integer { of, value, shift: 0 };
        Some(())
    }

    fn number(&mut self, of: Number, value: u32) -> Option<()> {
        match of {
            Number::Field => {
                self.has_pseudo |= self.entry(value)?.is_pseudo;
                self.state = State::Field;
            }
            Number::Name if value == 0 => self.state = State::Length,
            Number::Name => {
                self.field.entry = Entry { value_bytes: 0, ..self.entry(value)? };
                self.name_is_known();
                self.state = State::Length;
            }
            Number::TableSize => {
                self.table_bytes_max = (value <= TABLE_BYTES_MAX).then_some(value)?;
                self.evict(0);
                self.state = State::Field;
            }
            Number::TextBytes if value == 0 => self.text_is_over(),
            Number::TextBytes => self.state = State::Text { left: value },
        }
        Some(())
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        let at = usize::try_from(index).ok()?.checked_sub(1)?;
        match STATIC_NAME_BYTES.get(at) {
            Some(bytes) => Some(Entry { is_pseudo: at < STATIC_PSEUDO, name_bytes: u32::from(*bytes), value_bytes: 0 }),
            None => self.table.get(at - STATIC_NAME_BYTES.len()).copied(),
        }
    }

    /// `bytes` of a text of which `left` are to come, these included.
    fn text(&mut self, bytes: &[u8], left: u32) {
        if !self.field.has_name
            && self.text.bytes == 0
            && self.text.code.bits == 0
            && let Some(first) = bytes.first()
        {
            self.field.entry.is_pseudo |= if self.text.is_coded { first >> 1 == CODED_COLON } else { *first == b':' };
        }
        // How long a text is matters only if it is kept, but a name must be known to have begun.
        if !self.text.is_coded || !self.field.is_kept {
            self.text.bytes += bytes.len() as u32;
        } else {
            self.text.bytes += self.text.code.count(bytes);
        }
        match left - bytes.len() as u32 {
            0 => self.text_is_over(),
            left => self.state = State::Text { left },
        }
    }

    fn text_is_over(&mut self) {
        let bytes = self.text.bytes;
        if !self.field.has_name {
            self.field.entry.name_bytes = bytes;
            self.name_is_known();
            self.state = State::Length;
            return;
        }
        self.field.entry.value_bytes = bytes;
        if self.field.is_kept {
            self.keep(self.field.entry);
        }
        self.state = State::Field;
    }

    fn name_is_known(&mut self) {
        self.field.has_name = true;
        self.has_pseudo |= self.field.entry.is_pseudo;
    }

    /// §4.4: an entry larger than the table empties it.
    fn keep(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        self.evict(bytes);
        if bytes <= self.table_bytes_max {
            self.table_bytes += bytes;
            self.table.push_front(entry);
        }
    }

    /// Makes room for `bytes` more.
    fn evict(&mut self, bytes: u32) {
        while self.table_bytes.saturating_add(bytes) > self.table_bytes_max {
            let Some(oldest) = self.table.pop_back() else { return };
            self.table_bytes -= oldest.bytes();
        }
    }
}

impl Default for Follower {
    fn default() -> Follower {
        Follower::new()
    }
}

impl Entry {
    fn bytes(self) -> u32 {
        self.name_bytes.saturating_add(self.value_bytes).saturating_add(ENTRY_BYTES)
    }
}

/// A code word of the Huffman code (appendix B) as far as it was read. The code is canonical: its words of one length are
/// consecutive numbers, and those of the next follow them, so that a word's length can be told without knowing it.
#[derive(Debug, Clone, Copy, Default)]
struct Code {
    word: u32,
    bits: u8,
}

impl Code {
    /// The code words that end in `bytes`.
    fn count(&mut self, bytes: &[u8]) -> u32 {
        let mut count = 0;
        for byte in bytes {
            for bit in (0..8).rev() {
                // The longest words have 30 bits; a longer one is nonsense and counts as nothing.
                self.word = (self.word << 1 | u32::from(byte >> bit & 1)) & 0x7fff_ffff;
                self.bits = (self.bits + 1).min(31);
                if WORDS_END.get(usize::from(self.bits)).is_some_and(|end| self.word < *end) {
                    count += 1;
                    *self = Code::default();
                }
            }
        }
        count
    }
}

/// By length: the first number that is no word of that length any more.
const WORDS_END: [u32; 31] = words_end();

const fn words_end() -> [u32; 31] {
    // How many words there are of each length, appendix B.
    const COUNTS: [u32; 31] =
        [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];
    let mut ends = [0; 31];
    let mut bits = 1;
    while bits < ends.len() {
        ends[bits] = (ends[bits - 1] << 1) + COUNTS[bits];
        bits += 1;
    }
    ends
}

/// The seven bits of `:`.
const CODED_COLON: u8 = 0x5c;

/// The first entries of the static table (appendix A) are the pseudo-header fields.
const STATIC_PSEUDO: usize = 14;

/// Lengths of the names in the static table.
const STATIC_NAME_BYTES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, // :authority, :method, :path, :scheme, :status
    14, 15, 15, 13, 6, 27, 3, 5, 13, 13, // accept-charset to cache-control
    19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, // content-disposition to expect
    7, 4, 4, 8, 17, 13, 19, 8, 13, 4, 8, // expires to location
    12, 18, 19, 5, 7, 7, 11, 6, 10, 25, // max-forwards to strict-transport-security
    17, 10, 4, 3, 16, // transfer-encoding to www-authenticate
];

#[cfg(test)]
mod tests;
