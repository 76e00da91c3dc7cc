//! The part requests and responses share: finding the end of a head as bytes arrive, and indexing its field lines.
//!
//! Read RFC 9112 §2.2 and §5 first. Line ends are CRLF and nothing else; a bare LF or CR is an error, not a line end.
//! Each byte is looked at once while waiting ([`HeadReader`] remembers how far it got) and once more when the head is
//! complete (`httparse` splits the lines), so a head arriving byte by byte costs no more than linear work.

use super::Limits;
use super::bytes::{find, is_token, is_value};
use super::error::{RequestError, ResponseError};
use super::name::Name;

/// What one look at the received bytes gave.
#[derive(Debug)]
pub enum Parsed<H> {
    NeedMore,
    /// `consumed` counts from the start of the bytes, skipped empty lines included; the body begins there.
    Done {
        head: H,
        consumed: usize,
    },
}

/// How far the search for the end of one head has got. One per message; call again with the same bytes plus more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadReader {
    /// Empty lines skipped before the start line, in bytes.
    pub(super) start: usize,
    /// Bytes already searched for a line end.
    scanned: usize,
    line_start: usize,
    /// Complete lines so far, the start line included.
    pub(super) lines: usize,
    /// Length of the start line without CRLF, once complete.
    pub(super) start_line_bytes: usize,
    pub(super) is_start_line_checked: bool,
}

impl HeadReader {
    pub fn new() -> HeadReader {
        HeadReader::default()
    }

    /// Skips at most two CRLFs before a request line (RFC 9112 §2.2). `Ok(false)`: no byte of the request line yet.
    pub(super) fn skip_empty_lines(&mut self, bytes: &[u8]) -> Result<bool, ScanError> {
        if self.scanned > self.start {
            return Ok(true);
        }
        loop {
            let rest = bytes.get(self.start..).unwrap_or_default();
            let may_skip = self.start < 4;
            match rest {
                [] => return Ok(false),
                [b'\r'] if may_skip => return Ok(false),
                [b'\r', b'\n', ..] if may_skip => self.start += 2,
                [b'\r', _, ..] if may_skip => return Err(ScanError::BareCr),
                [b'\n', ..] => return Err(ScanError::BareLf),
                [b'\r' | b' ' | b'\t', ..] => return Err(ScanError::LeadingBytes),
                _ => {
                    self.scanned = self.start;
                    self.line_start = self.start;
                    return Ok(true);
                }
            }
        }
    }

    /// Searches for the empty line. `Ok(Some(end))`: the head is `bytes[self.start..end]`, all its lines end in CRLF.
    pub(super) fn find_end(
        &mut self,
        bytes: &[u8],
        start_line_bytes_max: usize,
        limits: &Limits,
    ) -> Result<Option<usize>, ScanError> {
        let head_limit = self.start + limits.head_bytes_max.min(Limits::HEAD_BYTES_CEILING);
        let fields_max = limits.fields_max.min(Limits::FIELDS_CEILING);
        loop {
            let line_bytes_max = if self.lines == 0 { start_line_bytes_max } else { limits.line_bytes_max };
            // One byte more than the line may have: its CR.
            let line_limit = self.line_start + line_bytes_max + 1;
            let line_feed = find(bytes, self.scanned, b'\n');
            if line_feed.unwrap_or(bytes.len()) > line_limit || line_feed.map_or(bytes.len(), |at| at + 1) > head_limit
            {
                // Whichever bound lies first, so that the answer does not depend on how the bytes were cut.
                return Err(match (line_limit < head_limit, self.lines) {
                    (true, 0) => ScanError::StartLineTooLong,
                    (true, _) => ScanError::LineTooLong,
                    (false, _) => ScanError::HeadTooLong,
                });
            }
            let Some(line_feed) = line_feed else {
                self.scanned = bytes.len();
                return Ok(None);
            };
            let line = bytes.get(self.line_start..line_feed).unwrap_or_default();
            if line.last() != Some(&b'\r') {
                return Err(ScanError::BareLf);
            }
            if self.lines == 0 {
                self.start_line_bytes = line.len() - 1;
            } else if line.len() == 1 {
                return Ok(Some(line_feed + 1));
            }
            self.lines += 1;
            if self.lines > fields_max + 1 {
                return Err(ScanError::TooManyFields);
            }
            self.line_start = line_feed + 1;
            self.scanned = line_feed + 1;
        }
    }
}

/// Positions of a head's fields; about 1 KiB, reusable. Keep it in a per-core pool: an idle connection needs none.
#[derive(Debug, Clone)]
pub struct Fields {
    list: [Field; Limits::FIELDS_CEILING],
    len: usize,
}

impl Fields {
    pub const fn new() -> Fields {
        let empty =
            Field { start: 0, name_bytes: 0, value: 0, value_bytes: 0, name: Name::Other, is_connection_option: false };
        Fields { list: [empty; Limits::FIELDS_CEILING], len: 0 }
    }

    pub(super) fn as_slice(&self) -> &[Field] {
        self.list.get(..self.len).unwrap_or_default()
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Field] {
        self.list.get_mut(..self.len).unwrap_or_default()
    }

    /// Indexes the field lines of `head` (start line to empty line), which begin at `first` and number `count`.
    pub(super) fn index(&mut self, head: &[u8], first: usize, count: usize) -> Result<(), FieldError> {
        self.len = 0;
        // Clearing the tokeniser's array costs more than parsing a short head, so take the small one when it fits.
        if count <= 16 {
            self.index_with(head, first, count, &mut [httparse::EMPTY_HEADER; 16])
        } else {
            self.index_with(head, first, count, &mut [httparse::EMPTY_HEADER; Limits::FIELDS_CEILING])
        }
    }

    fn index_with<'h>(
        &mut self,
        head: &'h [u8],
        first: usize,
        count: usize,
        headers: &mut [httparse::Header<'h>],
    ) -> Result<(), FieldError> {
        let block = head.get(first..).unwrap_or_default();
        let Ok(httparse::Status::Complete((used, headers))) = httparse::parse_headers(block, headers) else {
            return Err(diagnose(block));
        };
        // All lines are known to end in CRLF; one field a line and nothing left over is then the whole grammar.
        if used != block.len() || headers.len() != count {
            return Err(FieldError::Value);
        }
        for (field, header) in self.list.iter_mut().zip(headers.iter()) {
            let offset = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize) as u16;
            let name = header.name.as_bytes();
            *field = Field {
                start: offset(name),
                name_bytes: name.len() as u16,
                value: offset(header.value),
                value_bytes: header.value.len() as u16,
                name: Name::classify(name),
                is_connection_option: false,
            };
        }
        self.len = count;
        Ok(())
    }
}

impl Default for Fields {
    fn default() -> Fields {
        Fields::new()
    }
}

/// One field line as offsets from the start line's first byte; heads stay below 64 KiB, so 16 bits do.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    start: u16,
    name_bytes: u16,
    value: u16,
    value_bytes: u16,
    pub(super) name: Name,
    /// A Connection option names it: not forwarded.
    pub(super) is_connection_option: bool,
}

/// A field together with the head it points into.
#[derive(Debug, Clone, Copy)]
pub struct FieldLine<'a> {
    head: &'a [u8],
    field: Field,
}

impl<'a> FieldLine<'a> {
    pub(super) fn new(head: &'a [u8], field: Field) -> FieldLine<'a> {
        FieldLine { head, field }
    }

    pub fn name(&self) -> Name {
        self.field.name
    }

    /// As received.
    pub fn name_bytes(&self) -> &'a [u8] {
        self.part(self.field.start, self.field.name_bytes)
    }

    /// Without surrounding whitespace.
    pub fn value(&self) -> &'a [u8] {
        self.part(self.field.value, self.field.value_bytes)
    }

    /// A Connection option names it: not forwarded (RFC 9110 §7.6.1).
    pub fn is_connection_option(&self) -> bool {
        self.field.is_connection_option
    }

    /// `name: value CRLF` when the line came exactly like this, so that it can be written in one piece.
    pub fn canonical(&self) -> Option<&'a [u8]> {
        let Field { start, name_bytes, value, value_bytes, .. } = self.field;
        let line = self.head.get(usize::from(start)..usize::from(value) + usize::from(value_bytes) + 2)?;
        let is_one_space = value == start + name_bytes + 2 && line.get(usize::from(name_bytes) + 1) == Some(&b' ');
        (is_one_space && line.ends_with(b"\r\n")).then_some(line)
    }

    fn part(&self, start: u16, bytes: u16) -> &'a [u8] {
        self.head.get(usize::from(start)..usize::from(start) + usize::from(bytes)).unwrap_or_default()
    }
}

/// A problem of lines, before it is known whether of a request or a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanError {
    LeadingBytes,
    BareLf,
    BareCr,
    StartLineTooLong,
    LineTooLong,
    TooManyFields,
    HeadTooLong,
}

/// A problem of one field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldError {
    SpaceBeforeFirst,
    ObsFold,
    SpaceBeforeColon,
    NoColon,
    Name,
    Value,
    BareCr,
}

impl From<FieldError> for RequestError {
    fn from(error: FieldError) -> RequestError {
        match error {
            FieldError::SpaceBeforeFirst => RequestError::SpaceBeforeFirstField,
            FieldError::ObsFold => RequestError::ObsFold,
            FieldError::SpaceBeforeColon => RequestError::SpaceBeforeColon,
            FieldError::NoColon => RequestError::NoColon,
            FieldError::Name => RequestError::FieldName,
            FieldError::Value => RequestError::FieldValue,
            FieldError::BareCr => RequestError::BareCr,
        }
    }
}

impl From<FieldError> for ResponseError {
    fn from(error: FieldError) -> ResponseError {
        match error {
            FieldError::SpaceBeforeFirst => ResponseError::SpaceBeforeFirstField,
            FieldError::ObsFold => ResponseError::ObsFold,
            FieldError::SpaceBeforeColon => ResponseError::SpaceBeforeColon,
            FieldError::NoColon => ResponseError::NoColon,
            FieldError::Name => ResponseError::FieldName,
            FieldError::Value => ResponseError::FieldValue,
            FieldError::BareCr => ResponseError::BareCr,
        }
    }
}

/// Names the rule that the first bad line of a refused field block breaks. Not on the hot path.
fn diagnose(block: &[u8]) -> FieldError {
    let mut is_first = true;
    for line in block.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Err(error) = check_line(line, is_first) {
            return error;
        }
        is_first = false;
    }
    FieldError::Value
}

fn check_line(line: &[u8], is_first: bool) -> Result<(), FieldError> {
    if line.is_empty() {
        return Ok(());
    }
    if line.contains(&b'\r') {
        return Err(FieldError::BareCr);
    }
    if let [b' ' | b'\t', ..] = line {
        return Err(if is_first { FieldError::SpaceBeforeFirst } else { FieldError::ObsFold });
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err(FieldError::NoColon);
    };
    let (name, value) = line.split_at(colon);
    if let [.., b' ' | b'\t'] = name {
        return Err(FieldError::SpaceBeforeColon);
    }
    if !is_token(name) {
        return Err(FieldError::Name);
    }
    if is_value(value) { Ok(()) } else { Err(FieldError::Value) }
}

/// `1*DIGIT` up to 2^63-1 (RFC 9112 §6.3; larger values overflow signed integers elsewhere on the path).
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let number = value.iter().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })?;
    (number <= i64::MAX as u64).then_some(number)
}

#[cfg(test)]
mod tests;
