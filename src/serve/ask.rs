//! One question of our own to a server: the checks', and the gateway's to Nextcloud.

use crate::net::stream::Stream;
use crate::proto::http1::{BodyReader, Fields, HeadReader, Limits, Method, Parsed};
use std::io;

/// Status and body of one GET, whose text may hold a secret. A body is as long as it is, or a little more than
/// `bytes_max`.
pub async fn ask(stream: &Stream, request: Vec<u8>, bytes_max: usize) -> io::Result<(u16, Vec<u8>)> {
    let (sent, mut request) = stream.send(request).await;
    request.fill(0);
    sent?;
    let mut received = Vec::new();
    let (status, mut body, mut at) = loop {
        if receive(stream, &mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fields = Box::new(Fields::new());
        match HeadReader::new().response(&received, &mut fields, &Limits::default()) {
            Ok(Parsed::NeedMore) => {}
            Ok(Parsed::Done { head, consumed }) if !head.is_interim() => {
                break (head.status(), BodyReader::new(head.body(Method::Get)), consumed);
            }
            Ok(Parsed::Done { consumed, .. }) => drop(received.drain(..consumed)),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    };
    let mut content = Vec::new();
    loop {
        while at < received.len() && !body.is_done() {
            let rest = received.get(at..).unwrap_or_default();
            let span = body.decode(rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            content.extend_from_slice(rest.get(span.data).unwrap_or_default());
            at += span.consumed;
        }
        // An answer this long is none of those we ask for; its beginning decides that as well as the rest would.
        if body.is_done() || content.len() > bytes_max {
            return Ok((status, content));
        }
        received.clear();
        at = 0;
        if receive(stream, &mut received).await? == 0 {
            body.end_of_stream().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        }
    }
}

async fn receive(stream: &Stream, into: &mut Vec<u8>) -> io::Result<usize> {
    let bytes = stream.recv().await?;
    into.extend_from_slice(&bytes);
    Ok(bytes.len())
}
