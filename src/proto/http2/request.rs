//! Requests: RFC 9113 §8.2 and §8.3, and RFC 8441 for WebSockets.
//!
//! A stream's request is written as the head of an HTTP/1.1 request and then parsed like one, so that both versions
//! share one set of rules, limits and reasons. That is safe because nothing is written that could end a line or a
//! word early: every part is checked against its grammar first.

use crate::proto::http1::authority::Authority;
use crate::proto::http1::bytes::{is_target, is_token, is_value};
use crate::proto::http1::{Limits, RequestError};

/// A request as its stream brings it. The names of the fields are in lower case.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a [u8],
    /// `None` where the layer below does not tell.
    pub scheme: Option<&'a [u8]>,
    pub authority: Option<&'a [u8]>,
    pub path: &'a [u8],
    /// `:protocol` of an extended CONNECT.
    pub protocol: Option<&'a [u8]>,
    pub body: Body,
    /// Sec-WebSocket-Key for the upstream, used when `protocol` is `websocket`: HTTP/2 has none (RFC 8441 §5.1).
    pub websocket_key: &'a [u8],
}

/// What is known of the body when the head is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// END_STREAM came with the head.
    None,
    /// All of it arrived already, this long, and its head does not say so.
    Counted(u64),
    /// As long as its Content-Length says, or until its stream ends.
    Streamed,
}

/// Appends the request's head as HTTP/1.1 has it.
///
/// Content-Length against the DATA that follow is the frame layer's check. Fields are counted before cookie crumbs are
/// joined, for each is stored on its own until then.
pub fn write_head<'a>(
    out: &mut Vec<u8>,
    request: &Request<'_>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), RequestError> {
    let is_websocket = match request.protocol {
        Some(b"websocket") if request.method == b"CONNECT" => true,
        Some(_) => return Err(RequestError::ProtocolUnknown),
        None => false,
    };
    let method = if is_websocket { b"GET" } else { request.method };
    check_line(request, method)?;
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(request.path);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut host = request.authority;
    if let Some(authority) = host {
        // The parser judges the authority; here it only must not break the line.
        field(out, b"host", authority, RequestError::HostInvalid)?;
    }
    let (mut count, mut has_length, mut has_host_field) = (0, false, false);
    let mut cookies = Vec::new();
    for (name, value) in fields {
        count += 1;
        if count > Limits::FIELDS_CEILING {
            return Err(RequestError::TooManyFields);
        }
        match name {
            b"host" => {
                if std::mem::replace(&mut has_host_field, true) {
                    return Err(RequestError::HostRepeated);
                }
                match host {
                    Some(authority) if !is_same_host(authority, value) => return Err(RequestError::HostMismatch),
                    Some(_) => {}
                    None => {
                        field(out, b"host", value, RequestError::HostInvalid)?;
                        host = Some(value);
                    }
                }
            }
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                return Err(RequestError::ConnectionField);
            }
            b"te" if value != b"trailers" => return Err(RequestError::ConnectionField),
            // Of the other version's handshake.
            b"sec-websocket-key" if is_websocket => {}
            b"cookie" => {
                check_value(value, RequestError::FieldValue)?;
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value);
            }
            _ => {
                has_length |= name == b"content-length";
                field(out, name, value, RequestError::FieldValue)?;
            }
        }
    }
    if !cookies.is_empty() {
        field(out, b"cookie", &cookies, RequestError::FieldValue)?;
    }
    if is_websocket {
        out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
        field(out, b"sec-websocket-key", request.websocket_key, RequestError::FieldValue)?;
    } else if !has_length {
        write_framing(out, method, request.body);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn check_line(request: &Request<'_>, method: &[u8]) -> Result<(), RequestError> {
    if !is_token(method) {
        return Err(RequestError::Method);
    }
    if method == b"CONNECT" {
        return Err(RequestError::MethodRefused);
    }
    if request.scheme.is_some_and(|scheme| !matches!(scheme, b"http" | b"https")) {
        return Err(RequestError::Scheme);
    }
    if !is_target(request.path) {
        return Err(RequestError::TargetBytes);
    }
    // An absolute form would name a second authority.
    match request.path {
        [b'/', ..] => Ok(()),
        b"*" if method == b"OPTIONS" => Ok(()),
        _ => Err(RequestError::TargetForm),
    }
}

/// A body without length is chunked on its way up. An empty body of a method that usually has one says so, as PHP
/// tells an absent length from 0.
fn write_framing(out: &mut Vec<u8>, method: &[u8], body: Body) {
    match body {
        Body::None if matches!(method, b"POST" | b"PUT" | b"PATCH") => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        Body::None => {}
        Body::Counted(bytes) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(bytes.to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Body::Streamed => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8], bad_value: RequestError) -> Result<(), RequestError> {
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Err(RequestError::FieldName);
    }
    check_value(value, bad_value)?;
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// No control bytes, and no whitespace around (RFC 9113 §8.2.1).
fn check_value(value: &[u8], bad: RequestError) -> Result<(), RequestError> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if !is_value(value) || is_blank(value.first()) || is_blank(value.last()) { Err(bad) } else { Ok(()) }
}

fn is_same_host(authority: &[u8], host: &[u8]) -> bool {
    match (Authority::parse(authority), Authority::parse(host)) {
        (Some(authority), Some(host)) => authority.is_same(&host, 443),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
