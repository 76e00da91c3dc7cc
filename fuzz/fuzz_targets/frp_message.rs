//! A client's bytes as the messages of a stream, in both versions, and as the payload formats of work streams. What is
//! read must be the same however it is cut, and must survive being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::proto::frp::channel::{Channel, ChannelError, Entropy, Token};
use lyre::proto::frp::message::{LoginResp, Message, v1, v2};
use lyre::proto::frp::snappy;

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let size = usize::from(size).max(1);
    for prefix in [&[][..], &v2::MAGIC] {
        let bytes = [prefix, bytes].concat();
        let whole = talk(&bytes, bytes.len().max(1));
        assert_eq!(whole, talk(&bytes, size));
        whole.0.iter().for_each(round_trip);
    }
    assert_eq!(decompress(bytes, bytes.len().max(1)), decompress(bytes, size));
});

/// All messages up to the first error. A login is answered, what follows it is encrypted.
fn talk(bytes: &[u8], size: usize) -> (Vec<Message>, Option<ChannelError>) {
    let (mut channel, mut messages) = (Channel::default(), Vec::new());
    for piece in bytes.chunks(size) {
        if let Err(error) = channel.push(piece) {
            return (messages, Some(error));
        }
        loop {
            match channel.next() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    let is_login = matches!(message, Message::Login(_));
                    messages.push(message);
                    // Whether more came with it depends on the cut: that is refused, or nothing follows.
                    if is_login {
                        let entropy = Entropy { nonce: [1; 24], random: [2; 32] };
                        let mut out = Vec::new();
                        let _ = channel.accept(LoginResp::default(), &Token::new(b"t"), &entropy, &mut out);
                        return (messages, None);
                    }
                }
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn round_trip(message: &Message) {
    // Escapes make some texts longer than they came.
    let mut out = Vec::new();
    v1::encode(message, &mut out);
    if out.len() <= v1::BODY_BYTES_MAX {
        assert_eq!(v1::decode(&out).as_ref(), Ok(&Some((message.clone(), out.len()))));
    }
    let mut out = Vec::new();
    v2::encode(message, &mut out);
    if out.len() <= v2::PAYLOAD_BYTES_MAX {
        assert_eq!(v2::decode(&out), Ok(Some((v2::Frame::Message(message.clone()), out.len()))));
    }
}

/// What comes out up to the first error.
fn decompress(bytes: &[u8], size: usize) -> (Vec<u8>, bool) {
    let (mut reader, mut out) = (snappy::Reader::default(), Vec::new());
    for mut piece in bytes.chunks(size) {
        while !piece.is_empty() {
            let before = out.len();
            match reader.read(piece, &mut out) {
                Ok(taken) => piece = &piece[taken..],
                Err(_) => return (out, false),
            }
            assert!(out.len() - before <= 65_536);
        }
    }
    (out, true)
}
