//! Request heads: RFC 9112 §3 (request line), RFC 9110 §7.2 (Host), RFC 9112 §6.3 (framing), §7.6.1, §10.1.1, §7.8.
//!
//! A [`RequestHead`] is a view over the received bytes; whoever holds one knows that every rule of this file holds.

use super::authority::Authority;
use super::bytes::{find, is_target, is_token, is_token_byte, list};
use super::error::RequestError;
use super::head::{Field, FieldLine, Fields, HeadReader, Parsed, ScanError, content_length};
use super::name::Name;
use super::{BodyLength, Limits, Version};

/// A checked request head.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// Request line to empty line.
    bytes: &'a [u8],
    fields: &'a [Field],
    line: RequestLine<'a>,
    facts: Facts<'a>,
}

impl<'a> RequestHead<'a> {
    pub fn method(&self) -> Method {
        self.line.method
    }

    pub fn method_bytes(&self) -> &'a [u8] {
        self.line.method_bytes
    }

    pub fn version(&self) -> Version {
        self.line.version
    }

    /// What goes upstream, byte for byte: `/path?query`, or `*` for OPTIONS.
    pub fn target(&self) -> &'a [u8] {
        self.line.target
    }

    /// The target up to its `?`.
    pub fn path(&self) -> &'a [u8] {
        let end = find(self.line.target, 0, b'?').unwrap_or(self.line.target.len());
        self.line.target.get(..end).unwrap_or_default()
    }

    pub fn target_form(&self) -> TargetForm {
        self.line.form
    }

    /// Host as received, or the authority of an absolute target without Host. `None` only in HTTP/1.0.
    pub fn host(&self) -> Option<&'a [u8]> {
        self.facts.host
    }

    /// The one framing decision of this request. Never `UntilClose`.
    pub fn body(&self) -> BodyLength {
        self.facts.body
    }

    /// Connection carries `close`.
    pub fn wants_close(&self) -> bool {
        self.facts.connection.close
    }

    /// Connection carries `keep-alive`; matters in HTTP/1.0 only.
    pub fn wants_keep_alive(&self) -> bool {
        self.facts.connection.keep_alive
    }

    /// The client waits for 100 before it sends the body (never without a body, never in HTTP/1.0).
    pub fn expects_continue(&self) -> bool {
        self.facts.expects_continue
    }

    /// A valid WebSocket upgrade: GET, HTTP/1.1, no body, `Connection: upgrade`, `Upgrade: websocket`.
    pub fn is_websocket_upgrade(&self) -> bool {
        self.facts.is_websocket_upgrade
    }

    /// The client announced `TE: trailers`.
    pub fn accepts_trailers(&self) -> bool {
        self.facts.accepts_trailers
    }

    /// All field lines in the order received.
    pub fn fields(&self) -> impl Iterator<Item = FieldLine<'a>> + use<'a> {
        let head = self.bytes;
        self.fields.iter().map(move |field| FieldLine::new(head, *field))
    }

    /// Value of the first field line of this name.
    pub fn value(&self, name: Name) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// Values of all field lines of this name, in order.
    pub fn values(&self, name: Name) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        let head = self.bytes;
        let lines = self.fields.iter().filter(move |field| field.name == name);
        lines.map(move |field| FieldLine::new(head, *field).value())
    }

    /// Bytes of the head, request line and empty line included; enough room for what is forwarded unchanged.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }
}

/// Methods some rule asks about. `Other` is forwarded like any of them (WebDAV is open-ended).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Propfind,
    Proppatch,
    Mkcol,
    Copy,
    Move,
    Lock,
    Unlock,
    Report,
    Search,
    Other,
}

impl Method {
    /// Case-sensitive (RFC 9110 §9.1).
    pub fn classify(method: &[u8]) -> Method {
        match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"PATCH" => Method::Patch,
            b"PROPFIND" => Method::Propfind,
            b"PROPPATCH" => Method::Proppatch,
            b"MKCOL" => Method::Mkcol,
            b"COPY" => Method::Copy,
            b"MOVE" => Method::Move,
            b"LOCK" => Method::Lock,
            b"UNLOCK" => Method::Unlock,
            b"REPORT" => Method::Report,
            b"SEARCH" => Method::Search,
            _ => Method::Other,
        }
    }
}

/// RFC 9112 §3.2. Absolute targets become `Origin` after their authority was compared with Host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetForm {
    Origin,
    /// `OPTIONS *`
    Asterisk,
}

impl HeadReader {
    /// Looks for a complete request head in `bytes`, which start where the previous message ended. Call again with more
    /// bytes after `NeedMore`; a broken request line is reported as soon as that line is complete.
    pub fn request<'a>(
        &mut self,
        bytes: &'a [u8],
        fields: &'a mut Fields,
        limits: &Limits,
    ) -> Result<Parsed<RequestHead<'a>>, RequestError> {
        match self.skip_empty_lines(bytes) {
            Ok(true) => {}
            Ok(false) => return Ok(Parsed::NeedMore),
            Err(error) => return Err(scan_error(error, bytes)),
        }
        let first = bytes.get(self.start).copied().unwrap_or_default();
        if !is_token_byte(first) {
            // A TLS hello on a plain port, for one: no line end may ever come.
            return Err(RequestError::Method);
        }
        let line_bytes_max = Limits::METHOD_BYTES_MAX + limits.target_bytes_max + "  HTTP/1.1".len();
        let end = self.find_end(bytes, line_bytes_max, limits);
        if self.lines > 0 && !self.is_start_line_checked && !matches!(end, Ok(Some(_))) {
            self.is_start_line_checked = true;
            self.request_line(bytes, limits)?;
        }
        match end {
            Err(error) => Err(scan_error(error, bytes.get(self.start..).unwrap_or_default())),
            Ok(None) => Ok(Parsed::NeedMore),
            Ok(Some(end)) => {
                let line = self.request_line(bytes, limits)?;
                let bytes = bytes.get(self.start..end).unwrap_or_default();
                fields.index(bytes, self.start_line_bytes + 2, self.lines - 1)?;
                let facts = judge(bytes, fields, &line)?;
                Ok(Parsed::Done { head: RequestHead { bytes, fields: fields.as_slice(), line, facts }, consumed: end })
            }
        }
    }

    fn request_line<'a>(&self, bytes: &'a [u8], limits: &Limits) -> Result<RequestLine<'a>, RequestError> {
        let line = bytes.get(self.start..self.start + self.start_line_bytes).unwrap_or_default();
        RequestLine::parse(line, limits)
    }
}

/// A whole request head at once; the same as a new [`HeadReader`] asked once.
pub fn parse_request<'a>(
    bytes: &'a [u8],
    fields: &'a mut Fields,
    limits: &Limits,
) -> Result<Parsed<RequestHead<'a>>, RequestError> {
    HeadReader::new().request(bytes, fields, limits)
}

fn scan_error(error: ScanError, bytes: &[u8]) -> RequestError {
    match error {
        ScanError::LeadingBytes => RequestError::LeadingBytes,
        ScanError::BareLf => RequestError::BareLf,
        ScanError::BareCr => RequestError::BareCr,
        ScanError::StartLineTooLong => {
            let method_end = bytes.iter().take(Limits::METHOD_BYTES_MAX + 1).position(|byte| !is_token_byte(*byte));
            if method_end.is_none() { RequestError::MethodTooLong } else { RequestError::TargetTooLong }
        }
        ScanError::LineTooLong => RequestError::LineTooLong,
        ScanError::TooManyFields => RequestError::TooManyFields,
        ScanError::HeadTooLong => RequestError::HeadTooLong,
    }
}

#[derive(Debug, Clone, Copy)]
struct RequestLine<'a> {
    method: Method,
    method_bytes: &'a [u8],
    /// Origin form or `*`.
    target: &'a [u8],
    form: TargetForm,
    /// Of an absolute target.
    authority: Option<(&'a [u8], Authority<'a>, u16)>,
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// `line` without its CRLF.
    fn parse(line: &'a [u8], limits: &Limits) -> Result<RequestLine<'a>, RequestError> {
        if find(line, 0, b'\r').is_some() {
            return Err(RequestError::BareCr);
        }
        let method_end = find(line, 0, b' ').ok_or_else(|| lone_word(line))?;
        let (method_bytes, rest) = (head(line, method_end), tail(line, method_end + 1));
        if !is_token(method_bytes) {
            return Err(RequestError::Method);
        }
        if method_bytes.len() > Limits::METHOD_BYTES_MAX {
            return Err(RequestError::MethodTooLong);
        }
        let target_end = find(rest, 0, b' ').ok_or(RequestError::Http09)?;
        let (target, version) = (head(rest, target_end), tail(rest, target_end + 1));
        let version = parse_version(version)?;
        if matches!(method_bytes, b"TRACE" | b"CONNECT") {
            return Err(RequestError::MethodRefused);
        }
        if target.len() > limits.target_bytes_max {
            return Err(RequestError::TargetTooLong);
        }
        // Visible ASCII without `#` (a fragment is the client's business) and `\` (some servers read it as `/`).
        // Characters RFC 3986 wants encoded but browsers send raw (`|`, `{`, `"`) pass: repairing targets is worse.
        if !is_target(target) {
            return Err(RequestError::TargetBytes);
        }
        let method = Method::classify(method_bytes);
        let line = RequestLine { method, method_bytes, target, form: TargetForm::Origin, authority: None, version };
        match target {
            [b'/', ..] => Ok(line),
            b"*" if method == Method::Options => Ok(RequestLine { form: TargetForm::Asterisk, ..line }),
            _ => line.with_absolute_target(),
        }
    }

    /// `http://authority/path`: the authority is checked against Host later. A target without a path (`http://a?q`)
    /// would have to be repaired, so it is refused; only the bare `http://a` means `/`.
    fn with_absolute_target(self) -> Result<RequestLine<'a>, RequestError> {
        let (after_scheme, default_port) = match self.target {
            target if starts_with_ignore_case(target, b"http://") => (tail(target, 7), 80),
            target if starts_with_ignore_case(target, b"https://") => (tail(target, 8), 443),
            _ => return Err(RequestError::TargetForm),
        };
        let path_start = after_scheme.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after_scheme.len());
        let (text, target) = (head(after_scheme, path_start), tail(after_scheme, path_start));
        let authority = Authority::parse(text).ok_or(RequestError::TargetForm)?;
        let target = match target {
            [] => b"/",
            [b'/', ..] => target,
            _ => return Err(RequestError::TargetForm),
        };
        Ok(RequestLine { target, authority: Some((text, authority, default_port)), ..self })
    }
}

/// No space at all in the request line.
fn lone_word(line: &[u8]) -> RequestError {
    match line.iter().position(|byte| !is_token_byte(*byte)) {
        None if line.len() > Limits::METHOD_BYTES_MAX => RequestError::MethodTooLong,
        _ => RequestError::RequestLine,
    }
}

fn parse_version(version: &[u8]) -> Result<Version, RequestError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(RequestError::VersionUnsupported),
        _ if version.contains(&b' ') || version.is_empty() => Err(RequestError::RequestLine),
        _ => Err(RequestError::Version),
    }
}

/// What the fields say, each question answered once.
#[derive(Debug, Clone, Copy)]
struct Facts<'a> {
    host: Option<&'a [u8]>,
    body: BodyLength,
    connection: Connection,
    expects_continue: bool,
    is_websocket_upgrade: bool,
    accepts_trailers: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// An option that is the name of some field.
    names_fields: bool,
    options: usize,
}

/// Connection options of one message. Each is compared with each field name, and honest senders list one to three.
pub(super) const CONNECTION_OPTIONS_MAX: usize = 32;

/// First value and number of lines of a field that must be single.
#[derive(Debug, Clone, Copy, Default)]
struct Single<'a> {
    value: &'a [u8],
    count: usize,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a [u8]) {
        if self.count == 0 {
            self.value = value;
        }
        self.count += 1;
    }
}

fn judge<'a>(bytes: &'a [u8], fields: &mut Fields, line: &RequestLine<'a>) -> Result<Facts<'a>, RequestError> {
    let mut host = Single::default();
    let mut length = Single::default();
    let mut coding = Single::default();
    let mut expect = Single::default();
    let mut connection = Connection::default();
    let mut wants_websocket = false;
    let mut accepts_trailers = false;
    for field in fields.as_slice() {
        if field.name == Name::Other {
            continue;
        }
        let value = FieldLine::new(bytes, *field).value();
        if field.name.must_be_ascii() && !value.is_ascii() {
            return Err(RequestError::NotAscii);
        }
        match field.name {
            Name::Host => host.add(value),
            Name::ContentLength => length.add(value),
            Name::TransferEncoding => coding.add(value),
            Name::Expect => expect.add(value),
            Name::Connection => connection_options(value, &mut connection)?,
            Name::Upgrade => wants_websocket |= list(value).any(|token| token.eq_ignore_ascii_case(b"websocket")),
            Name::Te => accepts_trailers |= value.eq_ignore_ascii_case(b"trailers"),
            _ => {}
        }
    }
    if connection.names_fields {
        mark_connection_options(bytes, fields);
    }
    let host = judge_host(host, line)?;
    let body = judge_body(line, length, coding)?;
    let expects_continue = judge_expect(line, expect)? && !body.is_empty();
    let is_websocket_upgrade = wants_websocket && connection.upgrade && line.version == Version::Http11;
    if is_websocket_upgrade && line.method != Method::Get {
        return Err(RequestError::UpgradeMethod);
    }
    if is_websocket_upgrade && !body.is_empty() {
        return Err(RequestError::UpgradeBody);
    }
    Ok(Facts { host, body, connection, expects_continue, is_websocket_upgrade, accepts_trailers })
}

/// Exactly one valid Host in HTTP/1.1, at most one in 1.0, equal to the authority of an absolute target.
fn judge_host<'a>(host: Single<'a>, line: &RequestLine<'a>) -> Result<Option<&'a [u8]>, RequestError> {
    if host.count > 1 {
        return Err(RequestError::HostRepeated);
    }
    if host.count == 0 {
        return match line.version {
            Version::Http10 => Ok(line.authority.map(|(text, ..)| text)),
            Version::Http11 => Err(RequestError::HostMissing),
        };
    }
    let named = Authority::parse(host.value).ok_or(RequestError::HostInvalid)?;
    match line.authority {
        Some((_, authority, default_port)) if !authority.is_same(&named, default_port) => {
            Err(RequestError::HostMismatch)
        }
        _ => Ok(Some(host.value)),
    }
}

/// RFC 9112 §6.3, with everything two servers could read differently refused.
fn judge_body(line: &RequestLine<'_>, length: Single<'_>, coding: Single<'_>) -> Result<BodyLength, RequestError> {
    if coding.count > 0 {
        if line.version == Version::Http10 {
            return Err(RequestError::TeInHttp10);
        }
        if length.count > 0 {
            return Err(RequestError::TeAndCl);
        }
        if coding.count > 1 {
            return Err(RequestError::TeRepeated);
        }
        return transfer_coding(coding.value).map(|()| BodyLength::Chunked);
    }
    if length.count > 1 {
        return Err(RequestError::ContentLengthRepeated);
    }
    if length.count == 0 {
        return Ok(BodyLength::None);
    }
    let body = BodyLength::Length(content_length(length.value).ok_or(RequestError::ContentLength)?);
    if line.version == Version::Http10
        && !body.is_empty()
        && matches!(line.method, Method::Get | Method::Head | Method::Delete)
    {
        return Err(RequestError::Http10Body);
    }
    Ok(body)
}

/// Exactly `chunked`. Other codings alone or before it are unknown; anything after it, or it twice, hides the end.
fn transfer_coding(value: &[u8]) -> Result<(), RequestError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut is_after_chunked = false;
    for coding in list(value) {
        if is_after_chunked || !is_token(coding) {
            return Err(RequestError::TeMalformed);
        }
        is_after_chunked = coding.eq_ignore_ascii_case(b"chunked");
    }
    Err(RequestError::TeUnknown)
}

fn judge_expect(line: &RequestLine<'_>, expect: Single<'_>) -> Result<bool, RequestError> {
    match expect.count {
        _ if line.version == Version::Http10 => Ok(false),
        0 => Ok(false),
        1 if expect.value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(RequestError::Expectation),
    }
}

fn connection_options(value: &[u8], connection: &mut Connection) -> Result<(), RequestError> {
    for option in list(value) {
        connection.options += 1;
        if connection.options > CONNECTION_OPTIONS_MAX {
            return Err(RequestError::Connection);
        }
        match option {
            // A recipient must accept empty list elements (RFC 9110 §5.6.1.2).
            b"" => {}
            _ if option.eq_ignore_ascii_case(b"close") => connection.close = true,
            _ if option.eq_ignore_ascii_case(b"keep-alive") => connection.keep_alive = true,
            _ if option.eq_ignore_ascii_case(b"upgrade") => connection.upgrade = true,
            _ if !is_token(option) => return Err(RequestError::Connection),
            _ if Name::classify(option).is_protected() => return Err(RequestError::ConnectionNamesProtected),
            _ => connection.names_fields = true,
        }
    }
    Ok(())
}

/// Marks each field a Connection option names. Quadratic in a bounded number of names, and rare.
pub(super) fn mark_connection_options(bytes: &[u8], fields: &mut Fields) {
    for index in 0..fields.as_slice().len() {
        let Some(field) = fields.as_slice().get(index).copied() else { return };
        let name = FieldLine::new(bytes, field).name_bytes();
        let is_named =
            fields.as_slice().iter().filter(|field| field.name == Name::Connection).any(|field| {
                list(FieldLine::new(bytes, *field).value()).any(|option| option.eq_ignore_ascii_case(name))
            });
        if let Some(field) = fields.as_mut_slice().get_mut(index) {
            field.is_connection_option = is_named;
        }
    }
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn head(bytes: &[u8], end: usize) -> &[u8] {
    bytes.get(..end).unwrap_or_default()
}

fn tail(bytes: &[u8], start: usize) -> &[u8] {
    bytes.get(start..).unwrap_or_default()
}
