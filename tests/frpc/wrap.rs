//! The payload of a work connection in and out of its wrapping.

use lyre::proto::frp::channel::Token;
use lyre::proto::frp::session::Wrapping;
use lyre::proto::frp::{cipher, snappy};

pub struct Wrap {
    seal: Option<cipher::Sealer>,
    open: Option<cipher::Opener>,
    write: Option<snappy::Writer>,
    read: Option<snappy::Reader>,
}

impl Wrap {
    pub fn new(wrapping: Wrapping, token: &Token) -> Wrap {
        let Wrapping { is_encrypted, is_compressed } = wrapping;
        Wrap {
            seal: is_encrypted.then(|| cipher::Sealer::new(token.key(), [42; 16]).unwrap()),
            open: is_encrypted.then(|| cipher::Opener::new(token.key())),
            write: is_compressed.then(snappy::Writer::default),
            read: is_compressed.then(snappy::Reader::default),
        }
    }

    pub fn wrap(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let bytes = match &mut self.write {
            Some(writer) => {
                let mut out = Vec::new();
                writer.write(&bytes, &mut out);
                out
            }
            None => bytes,
        };
        match &mut self.seal {
            Some(sealer) => {
                let mut out = Vec::new();
                sealer.seal(&bytes, &mut out).unwrap();
                out
            }
            None => bytes,
        }
    }

    pub fn unwrap(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut clear = Vec::new();
        let bytes = match &mut self.open {
            Some(opener) => {
                opener.open(bytes, &mut clear).unwrap();
                &clear
            }
            None => bytes,
        };
        match &mut self.read {
            Some(reader) => {
                let mut at = 0;
                while at < bytes.len() {
                    at += reader.read(&bytes[at..], out).unwrap();
                }
            }
            None => out.extend_from_slice(bytes),
        }
    }
}
