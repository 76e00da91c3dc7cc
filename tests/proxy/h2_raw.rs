//! A client of frames: it sends what no library would, and reads what comes back.

use crate::edge::{Edge, PATIENCE, read};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

pub const PROTOCOL_ERROR: u32 = 1;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub struct Raw {
    tls: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
    /// The connection broke while something was sent; what was received before is still there.
    is_broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Error code of RST_STREAM and GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub fn last_stream(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    /// Status of a HEADERS frame: this server writes it first, from the static table or as a literal after name 8.
    pub fn status(&self) -> u16 {
        match self.payload[0] {
            // The table has no size, as we asked for.
            0x20..=0x3f => Frame { payload: self.payload[1..].to_vec(), ..self.clone() }.status(),
            index @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
            0x48 | 0x08 if self.payload[1] & 0x80 == 0 => {
                std::str::from_utf8(&self.payload[2..5]).unwrap().parse().unwrap()
            }
            // Huffman: digits have five or six bits.
            0x48 | 0x08 => huffman_digits(&self.payload[2..2 + usize::from(self.payload[1] & 0x7f)]),
            other => panic!("no status: {other:#x}"),
        }
    }
}

/// RFC 7541 appendix B: `0` to `2` are five bits 0 to 2, `3` to `9` six bits 0x19 to 0x1f.
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut at, mut number) = (0, 0);
    while at + 5 <= bits.len() {
        let five = u16::from_str_radix(&bits[at..at + 5], 2).unwrap();
        if five <= 2 {
            number = number * 10 + five;
            at += 5;
            continue;
        }
        let Some(six) = bits.get(at..at + 6).map(|six| u16::from_str_radix(six, 2).unwrap()) else { break };
        if !(0x19..=0x1f).contains(&six) {
            break;
        }
        number = number * 10 + six - 0x19 + 3;
        at += 6;
    }
    number
}

/// A client that trusts anybody, and asks for no protocol.
pub fn trusting() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth()
}

impl Raw {
    /// Connected, prefaces exchanged.
    pub fn connect(edge: &Edge) -> Raw {
        Raw::connect_as(edge, "cloud.test")
    }

    pub fn connect_as(edge: &Edge, name: &str) -> Raw {
        let mut raw = Raw::dial(edge, name);
        raw.bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // No dynamic table, so that a status can be read without one.
        raw.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        assert_eq!(raw.next().unwrap().kind, SETTINGS);
        raw.frame(SETTINGS, ACK, 0, &[]);
        raw
    }

    /// Connected, nothing said.
    fn dial(edge: &Edge, name: &str) -> Raw {
        let mut config = trusting();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(edge.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
        Raw { tls, buffer: Vec::new(), is_broken: false }
    }

    /// A server that has heard enough may close while we still talk.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.is_broken |= self.is_broken || self.tls.write_all(bytes).and_then(|()| self.tls.flush()).is_err();
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.bytes(&frame(kind, flags, stream, payload));
    }

    /// HEADERS with END_HEADERS and `flags`.
    pub fn headers(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        self.frame(HEADERS, flags | END_HEADERS, stream, &block(fields));
    }

    pub fn get(&mut self, stream: u32, path: &str) {
        self.headers(stream, END_STREAM, &get(path));
    }

    /// The next frame; `None` at the end of the connection, however it came.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            let mut chunk = [0; 16 * 1024];
            match read(&mut self.tls, &mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing more came"),
                Err(_) => return None,
            }
        }
    }

    /// The next frame, if one comes in time.
    pub fn next_within(&mut self, patience: std::time::Duration) -> Option<Frame> {
        self.tls.sock.set_read_timeout(Some(patience)).unwrap();
        let frame = loop {
            if let Some(frame) = self.parse() {
                break Some(frame);
            }
            let mut chunk = [0; 16 * 1024];
            match read(&mut self.tls, &mut chunk) {
                Ok(0) | Err(_) => break None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
            }
        };
        self.tls.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        frame
    }

    /// The next frame that `is_it`; what comes before is dropped. SETTINGS and PING are answered.
    pub fn until(&mut self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("the connection ended before {what}"));
            if is_it(&frame) {
                return frame;
            }
            if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
                let payload = if frame.kind == PING { &frame.payload[..] } else { &[] };
                self.frame(frame.kind, ACK, 0, payload);
            }
        }
    }

    /// A request that must fail: `Ok` if only its stream did, `Err` if the connection ended.
    pub fn refusal(&mut self, stream: u32) -> Result<u32, u32> {
        let frame = self.until("a refusal", |frame| {
            assert!(frame.kind != HEADERS, "answered");
            (frame.stream == stream && frame.kind == RST_STREAM) || frame.kind == GOAWAY
        });
        if frame.kind == GOAWAY { Err(frame.code()) } else { Ok(frame.code()) }
    }

    /// What became of a request: its status, or the code its stream or connection ended with.
    pub fn outcome(&mut self, stream: u32) -> Result<u16, u32> {
        let frame = self.until("an outcome", |frame| {
            (frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM)) || frame.kind == GOAWAY
        });
        if frame.kind == HEADERS { Ok(frame.status()) } else { Err(frame.code()) }
    }

    fn parse(&mut self) -> Option<Frame> {
        let header: [u8; 9] = self.buffer.get(..9)?.try_into().unwrap();
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        let stream = u32::from_be_bytes(header[5..9].try_into().unwrap());
        Some(Frame { kind: header[3], flags: header[4], stream, payload })
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn get(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "https"), (":authority", "cloud.test"), (":path", path)]
}

/// A header block of literals that enter no table, not compressed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, 0, 7, text.len());
            out.extend(text.as_bytes());
        }
    }
    out
}

/// RFC 7541 §5.1.
pub fn integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let max = (1usize << bits) - 1;
    if value < max {
        out.push(first | value as u8);
        return;
    }
    out.push(first | max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// Trusts any certificate: whom we talk to is not in question here.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
