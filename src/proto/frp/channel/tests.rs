use super::*;
use crate::proto::frp::message::{Hidden, NewWorkConn, Ping};
use crate::proto::frp::vectors;

const ENTROPY: Entropy = Entropy { nonce: [5; 24], random: [6; 32] };

fn ping() -> Message {
    Message::Ping(Ping::default())
}

/// The client's side of version 1.
struct Client {
    seal: cipher::Sealer,
    open: cipher::Opener,
}

impl Client {
    fn new(token: &[u8]) -> Client {
        let key = cipher::Key::derive(token);
        Client { seal: cipher::Sealer::new(&key, [3; 16]).unwrap(), open: cipher::Opener::new(&key) }
    }

    fn say(&mut self, message: &Message) -> Vec<u8> {
        let (mut clear, mut out) = (Vec::new(), Vec::new());
        v1::encode(message, &mut clear);
        self.seal.seal(&clear, &mut out).unwrap();
        out
    }
}

fn logged_in(token: &[u8]) -> (Channel, Vec<u8>) {
    let mut channel = Channel::default();
    channel.push(&vectors::bytes(vectors::LOGIN)).unwrap();
    assert_eq!(channel.next(), Ok(Some(Message::Login(Box::new(vectors::login())))));
    let mut out = Vec::new();
    channel.accept(LoginResp::default(), &Token::new(token), &ENTROPY, &mut out).unwrap();
    (channel, out)
}

#[test]
fn after_the_login_s_answer_both_ways_are_encrypted() {
    for token in [b"".as_slice(), b"some token"] {
        let (mut channel, mut out) = logged_in(token);
        assert_eq!(v1::decode(&out), Ok(Some((Message::LoginResp(LoginResp::default()), out.len()))));
        let mut client = Client::new(token);
        for _ in 0..3 {
            channel.push(&client.say(&ping())).unwrap();
            assert_eq!(channel.next(), Ok(Some(ping())));
        }
        out.clear();
        channel.write(&Message::ReqWorkConn, &mut out).unwrap();
        channel.write(&ping(), &mut out).unwrap();
        assert_eq!(out[..16], ENTROPY.nonce[..16]);
        let mut clear = Vec::new();
        client.open.open(&out, &mut clear).unwrap();
        assert_eq!(v1::decode(&clear), Ok(Some((Message::ReqWorkConn, 11))));
        assert_eq!(v1::decode(&clear[11..]), Ok(Some((ping(), 11))));
    }
}

#[test]
fn another_token_is_noticed_at_the_first_message() {
    let (mut channel, _) = logged_in(b"ours");
    channel.push(&Client::new(b"theirs").say(&ping())).unwrap();
    assert!(matches!(channel.next(), Err(ChannelError::Message(_))), "{:?}", channel.next());
}

#[test]
fn bytes_between_the_login_and_its_answer_are_refused() {
    let mut channel = Channel::default();
    let bytes = [vectors::bytes(vectors::LOGIN), vec![b'h']].concat();
    channel.push(&bytes).unwrap();
    assert!(channel.next().unwrap().is_some());
    let early = channel.accept(LoginResp::default(), &Token::new(b""), &ENTROPY, &mut Vec::new());
    assert_eq!(early, Err(ChannelError::Early));
}

#[test]
fn a_refusal_is_readable() {
    let mut channel = Channel::default();
    channel.push(&vectors::bytes(vectors::LOGIN)).unwrap();
    channel.next().unwrap();
    let (answer, mut out) = (LoginResp { error: "no".to_owned(), ..LoginResp::default() }, Vec::new());
    channel.refuse(answer.clone(), &ENTROPY, &mut out).unwrap();
    assert_eq!(v1::decode(&out), Ok(Some((Message::LoginResp(answer), out.len()))));
}

#[test]
fn a_work_connection_begins_in_either_version_and_what_follows_is_kept() {
    let work = Message::NewWorkConn(NewWorkConn { run_id: Hidden("id".to_owned()), ..NewWorkConn::default() });
    for version in [Version::V1, Version::V2] {
        let mut bytes = Vec::new();
        if version == Version::V2 {
            bytes.extend_from_slice(&v2::MAGIC);
            v2::encode(&work, &mut bytes);
        } else {
            v1::encode(&work, &mut bytes);
        }
        bytes.extend_from_slice(b"payload");
        let mut channel = Channel::default();
        for byte in &bytes[..bytes.len() - 8] {
            channel.push(&[*byte]).unwrap();
            assert_eq!(channel.next(), Ok(None));
        }
        channel.push(&bytes[bytes.len() - 8..]).unwrap();
        assert_eq!(channel.next(), Ok(Some(work.clone())));
        assert_eq!((channel.version(), channel.into_rest()), (Some(version), b"payload".to_vec()));
    }
}

#[test]
fn a_stream_that_is_neither_version_ends() {
    let mut channel = Channel::default();
    channel.push(b"FRQ").unwrap();
    assert_eq!(channel.next(), Err(ChannelError::Magic));
    let mut channel = Channel::default();
    channel.push(b"GET / HTTP/1.1").unwrap();
    assert!(matches!(channel.next(), Err(ChannelError::Message(MessageError::Kind(_)))));
}

/// A login of version 2 needs its one hello, with a cipher we know.
#[test]
fn version_2_without_agreement_ends() {
    let hello = |algorithms: &str| {
        let random = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let crypto = format!(r#"{{"algorithms":[{algorithms}],"clientRandom":"{random}"}}"#);
        let payload = format!(r#"{{"capabilities":{{"message":{{"codecs":["json"]}},"crypto":{crypto}}}}}"#);
        [&[0, 1, 0, 0][..], &(payload.len() as u32).to_be_bytes(), payload.as_bytes()].concat()
    };
    let mut login = Vec::new();
    v2::encode(&Message::Login(Box::default()), &mut login);
    let good = r#""rot13","xchacha20-poly1305""#;
    let cases = [
        (vec![hello(good)], Ok(())),
        (vec![], Err(ChannelError::Hello)),
        (vec![hello(r#""rot13""#)], Err(ChannelError::Algorithm)),
        (vec![hello(good), hello(good)], Err(ChannelError::Hello)),
    ];
    for (hellos, expected) in cases {
        let mut channel = Channel::default();
        channel.push(&[v2::MAGIC.to_vec(), hellos.concat(), login.clone()].concat()).unwrap();
        let outcome = channel.next().and_then(|message| {
            assert!(message.is_some());
            channel.accept(LoginResp::default(), &Token::new(b""), &ENTROPY, &mut Vec::new())
        });
        assert_eq!(outcome, expected);
    }
}

#[test]
fn a_token_does_not_print_itself() {
    assert_eq!(format!("{:?}", Token::new(b"secret")), "Token");
}
