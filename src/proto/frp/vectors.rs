//! Bytes computed by other implementations of FRP (the reference one in Go, and one in Python); G numbers are those of
//! the list they come from.

use super::aead::{self, Algorithm, Direction};
use super::channel::{Channel, Entropy, Token};
use super::cipher::{self, privilege_key};
use super::message::{
    Hidden, Login, LoginResp, Message, Metas, NewProxy, NewProxyResp, NewWorkConn, Ping, StartWorkConn, v1, v2,
};
use super::snappy;
use super::yamux::{Header, Kind, flag};

const LONG_TOKEN: &[u8] = b"some_very_secure_password";

pub(crate) const LOGIN: &str = "6f00000000000000b07b2276657273696f6e223a22302e36312e31222c226f73223a226c696e7578222c2261726368223a22616d643634222c2270726976696c6567655f6b6579223a223234393230646563663833663639363062383066373337613238656561666331222c2274696d657374616d70223a313730303030303030302c226d65746173223a7b22746f6b656e223a226b227d2c22636c69656e745f73706563223a7b7d2c22706f6f6c5f636f756e74223a317d";
const CLIENT_HELLO: &str = r#"{"bootstrap":{"transport":"tcp","tls":true,"tcpMux":true},"capabilities":{"message":{"codecs":["json"]},"crypto":{"algorithms":["aes-256-gcm","xchacha20-poly1305"],"clientRandom":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}}"#;
const SERVER_HELLO: &str = r#"{"selected":{"message":{"codec":"json"},"crypto":{"algorithm":"aes-256-gcm","serverRandom":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="}}}"#;

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 0, 1, 2 ...
fn counting<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|at| from + at as u8)
}

pub(crate) fn login() -> Login {
    Login {
        version: "0.61.1".to_owned(),
        os: "linux".to_owned(),
        arch: "amd64".to_owned(),
        privilege_key: Hidden(privilege_key(b"", 1_700_000_000)),
        timestamp: 1_700_000_000,
        metas: Metas::from([("token".to_owned(), "k".into())]),
        pool_count: 1,
        ..Login::default()
    }
}

fn new_proxy() -> NewProxy {
    NewProxy { proxy_name: "app".to_owned(), proxy_type: "tcp".to_owned(), remote_port: 23_000, ..NewProxy::default() }
}

#[test]
fn g1_g2_keys_of_tokens() {
    assert_eq!(hex(&cipher::Key::derive(b"").bytes()), "cdc9dc4c472c37331281df4c232a8407");
    assert_eq!(hex(&cipher::Key::derive(LONG_TOKEN).bytes()), "6ce79b5287d6c232244a6d7d866c87da");
}

#[test]
fn g3_proofs_of_tokens() {
    assert_eq!(privilege_key(b"", 1_700_000_000), "24920decf83f6960b80f737a28eeafc1");
    assert_eq!(privilege_key(LONG_TOKEN, 1_700_000_000), "ae9ad2be454876230abf24fae36df338");
}

#[test]
fn g4_g5_g6_g8_g10_g11_messages_of_version_1() {
    let work = NewWorkConn { run_id: "0123456789abcdef".into(), ..NewWorkConn::default() };
    let all = [
        (Message::Login(Box::new(login())), LOGIN),
        (
            Message::LoginResp(LoginResp {
                version: "0.61.1".to_owned(),
                run_id: "0123456789abcdef".into(),
                error: String::new(),
            }),
            "3100000000000000307b2276657273696f6e223a22302e36312e31222c2272756e5f6964223a2230313233343536373839616263646566227d",
        ),
        (Message::Ping(Ping::default()), "6800000000000000027b7d"),
        (Message::ReqWorkConn, "7200000000000000027b7d"),
        (
            Message::NewProxy(Box::new(new_proxy())),
            "70000000000000003b7b2270726f78795f6e616d65223a22617070222c2270726f78795f74797065223a22746370222c2272656d6f74655f706f7274223a32333030307d",
        ),
        (
            Message::StartWorkConn(StartWorkConn {
                proxy_name: "app".to_owned(),
                src_addr: "127.0.0.1".to_owned(),
                dst_addr: "127.0.0.1".to_owned(),
                src_port: 40_000,
                dst_port: 23_000,
                error: String::new(),
            }),
            "7300000000000000647b2270726f78795f6e616d65223a22617070222c227372635f61646472223a223132372e302e302e31222c226473745f61646472223a223132372e302e302e31222c227372635f706f7274223a34303030302c226473745f706f7274223a32333030307d",
        ),
        (Message::NewWorkConn(work), "77000000000000001d7b2272756e5f6964223a2230313233343536373839616263646566227d"),
        (
            Message::NewProxyResp(NewProxyResp {
                proxy_name: "app".to_owned(),
                remote_addr: ":23000".to_owned(),
                error: String::new(),
            }),
            "32000000000000002b7b2270726f78795f6e616d65223a22617070222c2272656d6f74655f61646472223a223a3233303030227d",
        ),
    ];
    for (message, expected) in all {
        let mut out = Vec::new();
        v1::encode(&message, &mut out);
        assert_eq!(hex(&out), expected, "{message:?}");
        assert_eq!(v1::decode(&out), Ok(Some((message, out.len()))));
    }
}

#[test]
fn g7_g8_the_encrypted_control_stream() {
    let ping = bytes("6800000000000000027b7d");
    let proxy = Message::NewProxy(Box::new(new_proxy()));
    let mut proxy_bytes = Vec::new();
    v1::encode(&proxy, &mut proxy_bytes);
    type Case<'a> = (&'a [u8], [&'a [u8]; 2], &'a str);
    let cases: [Case<'_>; 3] = [
        (b"", [&ping, &ping], "9130610abcb682c5556510 5404400c670b1cfab6388b"),
        (LONG_TOKEN, [&ping, &ping], "cc60730ea2180169920538 9a60b5a009a9047009dbf8"),
        (
            b"",
            [&proxy_bytes, b""],
            "8930610abcb682c56c654f4c762f741ee193574b8d7dfac354a5652c3cc104633a053944b362ab6f88205c54012eb047c5408855968d78bf71eeabf86f6414ae47c7061e",
        ),
    ];
    for (token, messages, expected) in cases {
        let key = cipher::Key::derive(token);
        let mut sealer = cipher::Sealer::new(&key, counting(0)).unwrap();
        let mut out = Vec::new();
        messages.iter().for_each(|message| sealer.seal(message, &mut out).unwrap());
        let expected = [&counting::<16>(0)[..], &bytes(expected)].concat();
        assert_eq!(hex(&out), hex(&expected));
        let mut clear = Vec::new();
        cipher::Opener::new(&key).open(&expected, &mut clear).unwrap();
        assert_eq!(clear, messages.concat());
    }
}

#[test]
fn g9_frames_of_the_multiplexer() {
    let all = [
        (Kind::WindowUpdate, flag::SYN, 1, 6_029_312, "0001000100000001005c0000"),
        (Kind::Data, 0, 1, 185, "0000000000000001000000b9"),
        (Kind::WindowUpdate, flag::ACK, 1, 0, "000100020000000100000000"),
        (Kind::WindowUpdate, flag::ACK, 1, 6_029_312, "0001000200000001005c0000"),
        (Kind::Ping, flag::SYN, 0, 0, "000200010000000000000000"),
        (Kind::Ping, flag::ACK, 0, 0, "000200020000000000000000"),
        (Kind::WindowUpdate, flag::FIN, 1, 0, "000100040000000100000000"),
        (Kind::WindowUpdate, flag::RST, 1, 0, "000100080000000100000000"),
        (Kind::GoAway, 0, 0, 1, "000300000000000000000001"),
    ];
    for (kind, flags, stream, length, expected) in all {
        let header = Header { kind, flags, stream, length };
        assert_eq!(hex(&header.encode()), expected);
        assert_eq!(Header::decode(bytes(expected).try_into().unwrap()), Ok(header));
    }
}

#[test]
fn g12_frames_of_version_2() {
    assert_eq!(hex(&v2::MAGIC), "46525000020d0a");
    let mut out = Vec::new();
    v2::encode(&Message::Ping(Ping::default()), &mut out);
    assert_eq!(hex(&out), "0010000000000004000b7b7d");
    assert_eq!(v2::decode(&out), Ok(Some((v2::Frame::Message(Message::Ping(Ping::default())), out.len()))));
}

#[test]
fn g13_g14_keys_of_version_2() {
    assert_eq!((CLIENT_HELLO.len(), SERVER_HELLO.len()), (228, 140));
    let hello = v2::ClientHello::parse(CLIENT_HELLO.as_bytes()).unwrap();
    assert_eq!(hello.client_random, counting::<32>(0));
    let algorithm = Algorithm::choose(hello.algorithms.iter().map(String::as_str)).unwrap();
    assert_eq!(v2::server_hello(algorithm.name(), &counting(0x20)), SERVER_HELLO.as_bytes());
    let transcript = aead::transcript(CLIENT_HELLO.as_bytes(), SERVER_HELLO.as_bytes());
    assert_eq!(hex(&transcript), "5ccf90b805bdc0b770f583b4244b2512db50418790b323924394ec5014df66a0");
    let cases: [(&[u8], &str, &str); 2] = [
        (
            b"",
            "367937cf3c478c0e303d780a63b81844b2aa49b9899caf93b32ce79a0044a704",
            "ad14cde1bb8c0ece6e47aa087439e6e93739da7e37fd2423d6b9306243b0894f",
        ),
        (
            LONG_TOKEN,
            "57f59d8580a12c46ec4f83eafd1ee71bbc0381d2e9d4bc7e11c123ecdbffc89e",
            "eac1eb4203ebdda37a44a7d273b3430735ff9a483dd5a772c3a0afea30fc4eb4",
        ),
    ];
    for (token, to_server, to_client) in cases {
        let key = |direction| aead::Key::derive(algorithm, token, &transcript, direction).unwrap().bytes();
        assert_eq!(hex(&key(Direction::ClientToServer)), to_server);
        assert_eq!(hex(&key(Direction::ServerToClient)), to_client);
    }
}

const PING_RECORDS: &str = "000102030405060708090a0b 00000018750a3e057c2adebb6f0dfc5b06998f270b88f3aebed43578 0000001456c1b0a7a5f963f6a73f5d84bb723c8560bba4e8";

#[test]
fn g15_an_encrypted_ping_of_version_2() {
    let transcript = aead::transcript(CLIENT_HELLO.as_bytes(), SERVER_HELLO.as_bytes());
    let key = aead::Key::derive(Algorithm::Aes256Gcm, b"", &transcript, Direction::ClientToServer).unwrap();
    let mut clear = Vec::new();
    aead::Opener::new(key.clone()).open(&bytes(PING_RECORDS), &mut clear).unwrap();
    assert_eq!(hex(&clear), "0010000000000004000b7b7d");
    let mut base = [0; 24];
    base[..12].copy_from_slice(&counting::<12>(0));
    let (mut sealer, mut out) = (aead::Sealer::new(key, base), Vec::new());
    sealer.seal(&clear[..8], &mut out).unwrap();
    sealer.seal(&clear[8..], &mut out).unwrap();
    assert_eq!(hex(&out), hex(&bytes(PING_RECORDS)));
}

/// The same through a channel: magic, hello and login in the clear, hello and answer back, then the cipher.
#[test]
fn g13_g15_a_login_of_version_2() {
    let mut stream = v2::MAGIC.to_vec();
    stream.extend_from_slice(&bytes("00010000000000e4"));
    stream.extend_from_slice(CLIENT_HELLO.as_bytes());
    v2::encode(&Message::Login(Box::new(login())), &mut stream);
    for cut in 0..stream.len() {
        let mut channel = Channel::default();
        channel.push(&stream[..cut]).unwrap();
        assert_eq!(channel.next(), Ok(None), "cut at {cut}");
        channel.push(&stream[cut..]).unwrap();
        assert_eq!(channel.next(), Ok(Some(Message::Login(Box::new(login())))));
        let mut out = Vec::new();
        let entropy = Entropy { nonce: counting(0), random: counting(0x20) };
        channel.accept(LoginResp::default(), &Token::new(b""), &entropy, &mut out).unwrap();
        assert_eq!(
            hex(&out),
            format!("000200000000008c{}0010000000000004{}", hex(SERVER_HELLO.as_bytes()), "00027b7d")
        );
        channel.push(&bytes(PING_RECORDS)).unwrap();
        assert_eq!(channel.next(), Ok(Some(Message::Ping(Ping::default()))));
        assert_eq!(channel.next(), Ok(None));
    }
}

#[test]
fn g16_snappy_streams() {
    let cases = [
        ("ff060000734e6150705901140000b51324af474554202f20485454502f312e310d0a", "GET / HTTP/1.1\r\n".to_owned()),
        ("ff060000734e61507059000f000000dd5fb82f1468656c6c6f20a20600", format!("{}hello", "hello ".repeat(7))),
    ];
    for (stream, expected) in cases {
        let (stream, mut reader, mut out) = (bytes(stream), snappy::Reader::default(), Vec::new());
        let mut at = 0;
        while at < stream.len() {
            at += reader.read(&stream[at..], &mut out).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
