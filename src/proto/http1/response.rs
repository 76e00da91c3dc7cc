//! Response heads from an upstream: RFC 9112 §4 (status line) and §6.3 (how the body ends).

use super::bytes::{find, is_token, is_value, list};
use super::error::ResponseError;
use super::head::{Field, FieldLine, Fields, HeadReader, Parsed, ScanError, content_length};
use super::name::Name;
use super::request::{CONNECTION_OPTIONS_MAX, Method, mark_connection_options};
use super::{BodyLength, Limits, Version};

/// A checked response head.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// Status line to empty line.
    bytes: &'a [u8],
    fields: &'a [Field],
    line: StatusLine<'a>,
    facts: Facts,
}

impl<'a> ResponseHead<'a> {
    /// 100 to 999.
    pub fn status(&self) -> u16 {
        self.line.status
    }

    pub fn version(&self) -> Version {
        self.line.version
    }

    /// Often empty.
    pub fn reason(&self) -> &'a [u8] {
        self.line.reason
    }

    /// How the body of this response to a `method` request ends: the one framing decision (RFC 9112 §6.3).
    pub fn body(&self, method: Method) -> BodyLength {
        if method == Method::Head || self.is_bodiless() {
            return BodyLength::None;
        }
        if self.facts.is_chunked {
            return BodyLength::Chunked;
        }
        match self.facts.length {
            Some(length) => BodyLength::Length(length),
            // A 205 has no content (RFC 9110 §15.3.6); without any framing it is complete as it stands.
            None if self.line.status == 205 => BodyLength::Length(0),
            None => BodyLength::UntilClose,
        }
    }

    /// Content-Length as declared, also where no body follows (HEAD, 304); `None` beside Transfer-Encoding.
    pub fn declared_length(&self) -> Option<u64> {
        if self.facts.is_chunked { None } else { self.facts.length }
    }

    pub fn is_interim(&self) -> bool {
        self.line.status < 200
    }

    /// The status alone rules a body out.
    pub fn is_bodiless(&self) -> bool {
        matches!(self.line.status, 100..=199 | 204 | 304)
    }

    /// 101 with `Connection: upgrade` and `Upgrade: websocket`.
    pub fn is_websocket_accept(&self) -> bool {
        self.line.status == 101 && self.facts.upgrades_to_websocket
    }

    /// The upstream means to keep the connection, and nothing in this head makes its next byte doubtful: no TE beside
    /// CL, no body announced where none can be, no authentication bound to the connection (NTLM, Negotiate).
    pub fn is_persistent(&self) -> bool {
        let is_kept = match self.line.version {
            Version::Http11 => !self.facts.close,
            Version::Http10 => self.facts.keep_alive && !self.facts.close,
        };
        let announces_impossible_body = self.is_bodiless()
            && self.line.status != 304
            && (self.facts.is_chunked || self.facts.length.is_some_and(|length| length > 0));
        let is_doubtful_304 = self.line.status == 304 && self.facts.is_chunked;
        let is_ambiguous = self.facts.is_chunked && self.facts.length.is_some();
        is_kept && !announces_impossible_body && !is_doubtful_304 && !is_ambiguous && !self.facts.binds_authentication
    }

    /// All field lines in the order received.
    pub fn fields(&self) -> impl Iterator<Item = FieldLine<'a>> + use<'a> {
        let head = self.bytes;
        self.fields.iter().map(move |field| FieldLine::new(head, *field))
    }

    /// Value of the first field line of this name.
    pub fn value(&self, name: Name) -> Option<&'a [u8]> {
        self.fields().find(|line| line.name() == name).map(|line| line.value())
    }

    /// Bytes of the head, status line and empty line included.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }
}

impl HeadReader {
    /// Looks for a complete response head in `bytes`. Call again with more bytes after `NeedMore`.
    pub fn response<'a>(
        &mut self,
        bytes: &'a [u8],
        fields: &'a mut Fields,
        limits: &Limits,
    ) -> Result<Parsed<ResponseHead<'a>>, ResponseError> {
        if bytes.first().is_some_and(|byte| *byte != b'H') {
            return Err(ResponseError::StatusLine);
        }
        let Some(end) = self.find_end(bytes, limits.line_bytes_max, limits)? else {
            return Ok(Parsed::NeedMore);
        };
        let bytes = bytes.get(..end).unwrap_or_default();
        let line = StatusLine::parse(bytes.get(..self.start_line_bytes).unwrap_or_default())?;
        fields.index(bytes, self.start_line_bytes + 2, self.lines - 1)?;
        let facts = judge(bytes, fields, line.version)?;
        Ok(Parsed::Done { head: ResponseHead { bytes, fields: fields.as_slice(), line, facts }, consumed: end })
    }
}

/// A whole response head at once; the same as a new [`HeadReader`] asked once.
pub fn parse_response<'a>(
    bytes: &'a [u8],
    fields: &'a mut Fields,
    limits: &Limits,
) -> Result<Parsed<ResponseHead<'a>>, ResponseError> {
    HeadReader::new().response(bytes, fields, limits)
}

/// Replaces each folded line end of the head `bytes` begin with by spaces, so that it can be parsed after
/// [`ResponseError::ObsFold`] (RFC 9112 §5.2 lets a proxy do this for responses). What follows the head is not touched.
/// Answers how many folds there were.
pub fn unfold(bytes: &mut [u8]) -> usize {
    let (mut folds, mut line_start, mut index) = (0, 0, 0);
    while let Some([cr, lf, next @ ..]) = bytes.get_mut(index..) {
        if (*cr, *lf) == (b'\r', b'\n') {
            let is_head_end = index == line_start;
            if is_head_end {
                break;
            }
            if let [b' ' | b'\t', ..] = next {
                (*cr, *lf) = (b' ', b' ');
                folds += 1;
            } else {
                line_start = index + 2;
            }
            index += 1;
        }
        index += 1;
    }
    folds
}

impl From<ScanError> for ResponseError {
    fn from(error: ScanError) -> ResponseError {
        match error {
            ScanError::LeadingBytes => ResponseError::StatusLine,
            ScanError::BareLf => ResponseError::BareLf,
            ScanError::BareCr => ResponseError::BareCr,
            ScanError::StartLineTooLong | ScanError::LineTooLong => ResponseError::LineTooLong,
            ScanError::TooManyFields => ResponseError::TooManyFields,
            ScanError::HeadTooLong => ResponseError::HeadTooLong,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct StatusLine<'a> {
    version: Version,
    status: u16,
    reason: &'a [u8],
}

impl<'a> StatusLine<'a> {
    /// `line` without its CRLF. The space before an absent reason may be absent too: some PHP servers omit it.
    fn parse(line: &'a [u8]) -> Result<StatusLine<'a>, ResponseError> {
        if find(line, 0, b'\r').is_some() {
            return Err(ResponseError::BareCr);
        }
        let (version, rest) = line.split_at_checked(8).ok_or(ResponseError::StatusLine)?;
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', ..] => return Err(ResponseError::Version),
            _ => return Err(ResponseError::StatusLine),
        };
        let (digits, reason) = match rest {
            [b' ', a, b, c] => ([*a, *b, *c], [].as_slice()),
            [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
            _ => return Err(ResponseError::StatusLine),
        };
        if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' || !is_value(reason) {
            return Err(ResponseError::StatusLine);
        }
        let status = digits.iter().fold(0u16, |status, digit| status * 10 + u16::from(digit - b'0'));
        Ok(StatusLine { version, status, reason })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    length: Option<u64>,
    is_chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrades_to_websocket: bool,
    binds_authentication: bool,
}

fn judge(bytes: &[u8], fields: &mut Fields, version: Version) -> Result<Facts, ResponseError> {
    let mut facts = Facts::default();
    let (mut codings, mut options) = (0, 0);
    let (mut upgrade_option, mut websocket, mut names_fields) = (false, false, false);
    for field in fields.as_slice() {
        let value = || FieldLine::new(bytes, *field).value();
        match field.name {
            Name::ContentLength => {
                let length = content_length(value()).ok_or(ResponseError::ContentLength)?;
                // Identical duplicates are harmless here: the decision is ours alone and the field is regenerated.
                if facts.length.replace(length).is_some_and(|earlier| earlier != length) {
                    return Err(ResponseError::ContentLengthRepeated);
                }
            }
            Name::TransferEncoding => {
                codings += 1;
                facts.is_chunked = is_chunked(value())?;
            }
            Name::Connection => {
                for option in list(value()) {
                    options += 1;
                    match option {
                        _ if options > CONNECTION_OPTIONS_MAX => return Err(ResponseError::Connection),
                        b"" => {}
                        _ if option.eq_ignore_ascii_case(b"close") => facts.close = true,
                        _ if option.eq_ignore_ascii_case(b"keep-alive") => facts.keep_alive = true,
                        _ if option.eq_ignore_ascii_case(b"upgrade") => upgrade_option = true,
                        _ if !is_token(option) => return Err(ResponseError::Connection),
                        _ => names_fields = true,
                    }
                }
            }
            Name::Upgrade => websocket = value().eq_ignore_ascii_case(b"websocket"),
            Name::WwwAuthenticate => facts.binds_authentication |= binds_connection(value()),
            _ => {}
        }
    }
    match codings {
        0 => {}
        _ if version == Version::Http10 => return Err(ResponseError::TeInHttp10),
        1 => {}
        _ => return Err(ResponseError::TeRepeated),
    }
    if names_fields {
        mark_connection_options(bytes, fields);
    }
    facts.upgrades_to_websocket = upgrade_option && websocket;
    Ok(facts)
}

/// Only `chunked` is undone here; a body in any other coding could not be passed on as what it is.
fn is_chunked(value: &[u8]) -> Result<bool, ResponseError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        Ok(true)
    } else if list(value).all(is_token) {
        Err(ResponseError::TeUnknown)
    } else {
        Err(ResponseError::TeMalformed)
    }
}

/// NTLM and Negotiate authenticate the connection, not the request: such a connection serves one client only.
fn binds_connection(challenge: &[u8]) -> bool {
    let scheme = challenge.split(|byte| *byte == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}
