//! What each side gets to read: hop-by-hop fields end here (RFC 9110 §7.6.1), what the client claims about itself is
//! replaced or, from a trusted peer, continued, and framing fields are always our own.
//!
//! Everything is appended straight to the outgoing buffer; the received head is copied once.

mod protection;

use crate::config::settings::Trust;
use crate::proto::http1::authority::Authority;
use crate::proto::http1::bytes::{list, trim_ows};
use crate::proto::http1::emit;
use crate::proto::http1::exchange::{Framing, Persistence, Reply};
use crate::proto::http1::{FieldLine, Name, RequestHead, ResponseHead};
use protection::Protection;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Our name in Via.
const PSEUDONYM: &[u8] = b"lyre";
/// Own entries in Via that mean the request goes in circles. One is normal: an edge before an edge.
const VIA_SELF_MAX: usize = 2;
/// A request id longer than this is not worth carrying.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Scheme the client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Who is at the other end of a client connection. Made once per connection; 64 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// IPv4-mapped IPv6 addresses are IPv4 here.
    pub peer: IpAddr,
    pub peer_port: u16,
    pub scheme: Scheme,
    /// Port the client connected to.
    pub port: u16,
    /// Its forwarding fields are believed.
    pub is_trusted: bool,
    /// Its CF-Connecting-IP is.
    is_cloudflare: bool,
    peer_text: AddressText,
}

impl Origin {
    pub fn new(peer: SocketAddr, scheme: Scheme, port: u16, trust: &Trust) -> Origin {
        let (peer, peer_port) = (peer.ip().to_canonical(), peer.port());
        let (is_trusted, is_cloudflare) = (trust.is_believed(peer), trust.is_cloudflare(peer));
        Origin { peer, peer_port, scheme, port, is_trusted, is_cloudflare, peer_text: AddressText::new(peer) }
    }

    /// Who makes this request.
    ///
    /// An untrusted peer itself. Cloudflare names it in CF-Connecting-IP. Behind trusted ones: of X-Forwarded-For and the
    /// peer, read from the right, the first address that is not trusted, or the leftmost if all are. An unreadable
    /// element ends the search: what is left of it was not written by a proxy that can be believed.
    pub fn client(&self, head: &RequestHead<'_>, trust: &Trust) -> Client {
        let mut client = Client { address: self.peer, hops: 0, is_named: false };
        if !self.is_trusted {
            return client;
        }
        if let Some(address) = self.named(head) {
            return Client { address, hops: 0, is_named: true };
        }
        let elements = head.values(Name::XForwardedFor).rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        for element in elements {
            let Some(address) = parse_address(trim_ows(element)) else { break };
            client = Client { address, hops: client.hops + 1, is_named: false };
            if !trust.is_hop(address) {
                break;
            }
        }
        client
    }

    /// The client as Cloudflare names it: one field with one address.
    fn named(&self, head: &RequestHead<'_>) -> Option<IpAddr> {
        let mut values = head.values(Name::CfConnectingIp);
        let value = values.next().filter(|_| self.is_cloudflare)?;
        values.next().is_none().then(|| parse_address(trim_ows(value)))?
    }

    /// The id this request goes by: the trusted peer's, or else `generated`.
    pub fn request_id<'a>(&self, head: &RequestHead<'a>, generated: &'a [u8]) -> &'a [u8] {
        let is_sane =
            |id: &&[u8]| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic);
        head.value(Name::XRequestId).filter(|_| self.is_trusted).filter(is_sane).unwrap_or(generated)
    }
}

/// The address a request is attributed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    /// Elements of the received X-Forwarded-For, from the right, that go on.
    hops: usize,
    /// By CF-Connecting-IP, so X-Forwarded-For need not have it.
    is_named: bool,
}

/// What of a request is the caller's decision.
#[derive(Debug, Clone, Copy)]
pub struct Onward<'a> {
    pub framing: Framing,
    /// See [`Origin::request_id`].
    pub request_id: &'a [u8],
    /// Let the upstream answer the client's `Expect: 100-continue`.
    pub forwards_expect: bool,
    /// For HTTP/1.0 requests without Host.
    pub default_host: &'a [u8],
    /// Another target than the one received.
    pub rewrite: Option<Rewrite<'a>>,
}

/// What a route changes of the target, and tells the upstream about it.
#[derive(Debug, Clone, Copy)]
pub struct Rewrite<'a> {
    /// Two parts, one behind the other.
    pub target: (&'a [u8], &'a [u8]),
    /// Stands behind the name in X-Forwarded-Host.
    pub host_suffix: &'a [u8],
}

/// Fields that did not go on, for counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Names outside `[A-Za-z0-9-]`.
    pub unusual: u32,
    /// Claims about the client by a peer that is not trusted, or that nobody continues.
    pub spoofed: u32,
}

/// The request came through this proxy too often already: answer 502 instead of sending it on.
pub fn is_loop(head: &RequestHead<'_>) -> bool {
    // `1.1 lyre`, `1.1 lyre (comment)`
    let is_own = |entry: &&[u8]| {
        let mut words = entry.split(|byte| *byte == b' ');
        words.next();
        words.next().is_some_and(|word| word.eq_ignore_ascii_case(PSEUDONYM))
    };
    head.values(Name::Via).flat_map(list).filter(is_own).count() >= VIA_SELF_MAX
}

/// Appends the head of the request as the upstream gets it.
pub fn write_request(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    origin: &Origin,
    client: &Client,
    onward: &Onward<'_>,
) -> Dropped {
    let host = head.host().unwrap_or(onward.default_host);
    // Fields added here are shorter than this; one growth at most.
    out.reserve(head.byte_count() + 2 * host.len() + onward.request_id.len() + 384);
    let (first, rest) = onward.rewrite.map_or((&b""[..], head.target()), |rewrite| rewrite.target);
    emit::request_line(out, head.method_bytes(), first, rest);
    emit::field(out, b"Host", host);
    let mut dropped = Dropped::default();
    for line in head.fields() {
        if line.is_connection_option() {
            continue;
        }
        match line.name() {
            Name::Unusual => dropped.unusual += 1,
            Name::Forwarded
            | Name::XForwardedFor
            | Name::XForwardedHost
            | Name::XForwardedPort
            | Name::XForwardedProto
            | Name::XRealIp
            | Name::XRequestId => dropped.spoofed += u32::from(!origin.is_trusted),
            Name::Spoofable if !origin.is_trusted => dropped.spoofed += 1,
            Name::CfConnectingIp if !client.is_named => dropped.spoofed += 1,
            // A proxy that says who the client is does so in X-Forwarded-For; it may pass these on from anybody.
            Name::ClientAddress => dropped.spoofed += 1,
            Name::Host | Name::ContentLength | Name::Expect => {}
            name if name.is_hop_by_hop() => {}
            _ => copy(out, &line),
        }
    }
    let host_suffix = onward.rewrite.map_or(&b""[..], |rewrite| rewrite.host_suffix);
    write_forwarded(out, head, origin, client, host, host_suffix);
    emit::field(out, b"X-Request-Id", onward.request_id);
    out.extend_from_slice(b"Via: 1.1 lyre\r\n");
    if head.is_websocket_upgrade() {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    }
    if head.accepts_trailers() {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    if onward.forwards_expect && head.expects_continue() {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    write_framing(out, onward.framing);
    emit::end(out);
    dropped
}

/// What of a response is decided elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Backward<'a> {
    pub reply: Reply,
    /// IMF-fixdate for responses without Date (RFC 9110 §6.6.1).
    pub date: &'a [u8],
    /// Replaces Strict-Transport-Security, on https only.
    pub hsts: Option<&'a [u8]>,
    /// Nextcloud's set-up check looks at this response: each of the [`protection`] fields once.
    pub is_protected: bool,
}

/// Appends the head of a final response as the client gets it.
pub fn write_response(out: &mut Vec<u8>, head: &ResponseHead<'_>, backward: &Backward<'_>) {
    out.reserve(head.byte_count() + 256);
    emit::status_line(out, head.status(), head.reason());
    let mut has_date = false;
    let mut protection = Protection::default();
    for line in head.fields() {
        match line.name() {
            Name::Date => {
                has_date = true;
                copy(out, &line);
            }
            Name::StrictTransportSecurity if backward.hsts.is_some() => {}
            Name::Other if backward.is_protected && protection.has_again(line.name_bytes()) => {}
            _ => copy_end_to_end(out, &line),
        }
    }
    if !has_date {
        emit::field(out, b"Date", backward.date);
    }
    if backward.is_protected {
        protection.write_missing(out);
    }
    if let Some(hsts) = backward.hsts {
        emit::field(out, b"Strict-Transport-Security", hsts);
    }
    match backward.reply.persistence {
        Persistence::Implied => {}
        Persistence::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
    write_framing(out, backward.reply.sent);
    emit::end(out);
}

/// Appends an interim response (100, 102, 103).
pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    emit::status_line(out, head.status(), head.reason());
    head.fields().for_each(|line| copy_end_to_end(out, &line));
    emit::end(out);
}

/// Appends the 101 that opens a tunnel.
pub fn write_upgrade(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    emit::status_line(out, head.status(), head.reason());
    head.fields().for_each(|line| copy_end_to_end(out, &line));
    out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    emit::end(out);
}

/// Appends those of the trailer lines a client may get: no field that frames, routes, authenticates or says how the
/// content is to be read (RFC 9110 §6.5.1).
pub fn write_trailers(out: &mut Vec<u8>, lines: &[u8]) {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let Some((name, value)) = line.iter().position(|byte| *byte == b':').and_then(|at| line.split_at_checked(at))
        else {
            continue;
        };
        if Name::classify(name) == Name::Other && !is_of_content(name) {
            emit::field(out, name, trim_ows(value.get(1..).unwrap_or_default().trim_ascii_end()));
        }
    }
}

fn is_of_content(name: &[u8]) -> bool {
    const REFUSED: [&[u8]; 9] =
        [b"age", b"cache-control", b"expires", b"location", b"pragma", b"range", b"vary", b"warning", b"if-match"];
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"))
        || REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused))
}

fn copy_end_to_end(out: &mut Vec<u8>, line: &FieldLine<'_>) {
    let is_framing = line.name() == Name::ContentLength;
    if !is_framing && !line.name().is_hop_by_hop() && !line.is_connection_option() {
        copy(out, line);
    }
}

fn copy(out: &mut Vec<u8>, line: &FieldLine<'_>) {
    match line.canonical() {
        Some(bytes) => out.extend_from_slice(bytes),
        None => emit::field(out, line.name_bytes(), line.value()),
    }
}

fn write_framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) | Framing::Declared(length) => emit::content_length(out, length),
        Framing::Chunked => emit::chunked(out),
    }
}

/// X-Forwarded-For is the chain from the client to our peer; plain addresses, because one element with a port makes
/// notify_push discard the list. The others are single values: Nextcloud reads the first element.
fn write_forwarded(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    origin: &Origin,
    client: &Client,
    host: &[u8],
    host_suffix: &[u8],
) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    if client.is_named {
        out.extend_from_slice(AddressText::new(client.address).as_bytes());
        out.extend_from_slice(b", ");
    } else if client.hops > 0 {
        write_hops(out, head, client.hops);
    }
    out.extend_from_slice(origin.peer_text.as_bytes());
    out.extend_from_slice(b"\r\nX-Real-IP: ");
    if client.hops > 0 || client.is_named {
        out.extend_from_slice(AddressText::new(client.address).as_bytes());
    } else {
        out.extend_from_slice(origin.peer_text.as_bytes());
    }
    let told = Told::new(head, origin);
    out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
    out.extend_from_slice(told.scheme.as_str().as_bytes());
    let host = told.host.unwrap_or(host);
    if !host.is_empty() {
        out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
        out.extend_from_slice(host);
        out.extend_from_slice(host_suffix);
    }
    out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
    emit::decimal(out, u64::from(told.port));
    out.extend_from_slice(b"\r\n");
}

/// The last `hops` elements of the received X-Forwarded-For, each followed by a comma.
fn write_hops(out: &mut Vec<u8>, head: &RequestHead<'_>, hops: usize) {
    let elements = || head.values(Name::XForwardedFor).flat_map(list);
    let skipped = elements().count().saturating_sub(hops);
    for address in elements().skip(skipped).filter_map(parse_address) {
        out.extend_from_slice(AddressText::new(address).as_bytes());
        out.extend_from_slice(b", ");
    }
}

/// How the client reached the service, as far as a trusted peer says, else as we saw it.
struct Told<'a> {
    scheme: Scheme,
    host: Option<&'a [u8]>,
    port: u16,
}

impl<'a> Told<'a> {
    fn new(head: &RequestHead<'a>, origin: &Origin) -> Told<'a> {
        let mut told = Told { scheme: origin.scheme, host: None, port: origin.port };
        if !origin.is_trusted {
            return told;
        }
        // The last element is the one our peer wrote.
        let last = |name| head.values(name).next_back().and_then(|value| list(value).last());
        let scheme = match last(Name::XForwardedProto) {
            Some(value) if value.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
            Some(value) if value.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
            _ => None,
        };
        if let Some(scheme) = scheme {
            (told.scheme, told.port) = (scheme, scheme.default_port());
        }
        told.host = last(Name::XForwardedHost).filter(|host| Authority::parse(host).is_some());
        let port = last(Name::XForwardedPort).and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
        told.port = port.filter(|port| *port != 0).unwrap_or(told.port);
        told
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn parse_address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let address = match text.strip_prefix('[') {
        Some(inside) => {
            let (address, rest) = inside.split_once(']')?;
            if !rest.is_empty() && !is_port(rest.strip_prefix(':')?) {
                return None;
            }
            IpAddr::V6(address.parse().ok()?)
        }
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?),
            _ => text.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An address as text, on the stack.
#[derive(Debug, Clone, Copy)]
struct AddressText {
    text: [u8; 39],
    len: u8,
}

impl AddressText {
    fn new(address: IpAddr) -> AddressText {
        let mut text = [0; 39];
        let mut rest = text.as_mut_slice();
        // The longest form has 39 bytes: eight groups of four digits and seven colons (IPv4-mapped ones are IPv4).
        let _ = write!(rest, "{address}");
        let len = (39 - rest.len()) as u8;
        AddressText { text, len }
    }

    fn as_bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
