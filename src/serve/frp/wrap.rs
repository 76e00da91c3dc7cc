//! The payload of a work connection in and out of what the client wants it in: compression, around it encryption.

use crate::proto::frp::channel::Token;
use crate::proto::frp::session::Wrapping;
use crate::proto::frp::{cipher, snappy};
use std::io;

#[derive(Default)]
pub(super) struct Wrap {
    seal: Option<cipher::Sealer>,
    open: Option<cipher::Opener>,
    write: Option<snappy::Writer>,
    read: Option<snappy::Reader>,
}

impl Wrap {
    pub(super) fn new(wrapping: Wrapping, token: &Token) -> io::Result<Wrap> {
        let Wrapping { is_encrypted, is_compressed } = wrapping;
        let mut wrap = Wrap::default();
        if is_encrypted {
            let mut iv = [0; cipher::IV_BYTES];
            aws_lc_rs::rand::fill(&mut iv).map_err(io::Error::other)?;
            wrap.seal = Some(cipher::Sealer::new(token.key(), iv).map_err(|_| broken("no cipher"))?);
            wrap.open = Some(cipher::Opener::new(token.key()));
        }
        if is_compressed {
            wrap.write = Some(snappy::Writer::default());
            wrap.read = Some(snappy::Reader::default());
        }
        Ok(wrap)
    }

    /// Towards the client.
    pub(super) fn wrap(&mut self, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        if let Some(writer) = &mut self.write {
            let mut out = Vec::new();
            writer.write(&bytes, &mut out);
            bytes = out;
        }
        if let Some(sealer) = &mut self.seal {
            let mut out = Vec::with_capacity(bytes.len() + cipher::IV_BYTES);
            sealer.seal(&bytes, &mut out).map_err(|_| broken("the cipher failed"))?;
            bytes = out;
        }
        Ok(bytes)
    }

    /// From the client.
    pub(super) fn unwrap(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut clear = Vec::new();
        match &mut self.open {
            Some(opener) => opener.open(bytes, &mut clear).map_err(|_| broken("the cipher failed"))?,
            None => clear.extend_from_slice(bytes),
        }
        let Some(reader) = &mut self.read else { return Ok(clear) };
        let (mut out, mut rest) = (Vec::new(), clear.as_slice());
        while !rest.is_empty() {
            let used = reader.read(rest, &mut out).map_err(|_| broken("no valid compression"))?;
            rest = rest.get(used..).unwrap_or(&[]);
        }
        Ok(out)
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
