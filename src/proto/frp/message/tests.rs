use super::*;
use crate::proto::frp::vectors::{self, LOGIN};

fn framed(kind: u8, json: &str) -> Vec<u8> {
    [&[kind][..], &(json.len() as u64).to_be_bytes(), json.as_bytes()].concat()
}

fn read(kind: u8, json: &str) -> Result<Message, MessageError> {
    v1::decode(&framed(kind, json)).map(|message| message.unwrap().0)
}

fn all() -> Vec<Message> {
    vec![
        Message::Login(Box::new(vectors::login())),
        Message::LoginResp(LoginResp { error: "no".to_owned(), ..LoginResp::default() }),
        Message::NewProxy(Box::new(NewProxy {
            use_encryption: true,
            metas: Metas::from([("\u{1}\"<&>".to_owned(), "\u{fc}".into())]),
            remote_port: -1,
            ..NewProxy::default()
        })),
        Message::NewProxyResp(NewProxyResp::default()),
        Message::CloseProxy(CloseProxy { proxy_name: "a".to_owned() }),
        Message::NewWorkConn(NewWorkConn { timestamp: i64::MIN, ..NewWorkConn::default() }),
        Message::ReqWorkConn,
        Message::StartWorkConn(StartWorkConn { src_port: 65_535, ..StartWorkConn::default() }),
        Message::Ping(Ping::default()),
        Message::Pong(Pong { error: "x".to_owned() }),
        Message::NewVisitorConn(NewVisitorConn { use_compression: true, ..NewVisitorConn::default() }),
        Message::NewVisitorConnResp(NewVisitorConnResp::default()),
        Message::Other(Kind::UdpPacket),
        Message::Other(Kind::NatHoleReport),
    ]
}

#[test]
fn every_message_reads_back_in_both_versions_and_no_part_of_it_does() {
    for message in all() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        v1::encode(&message, &mut one);
        v2::encode(&message, &mut two);
        for end in 0..one.len() {
            assert_eq!(v1::decode(&one[..end]), Ok(None), "{message:?} {end}");
        }
        for end in 0..two.len() {
            assert_eq!(v2::decode(&two[..end]), Ok(None), "{message:?} {end}");
        }
        assert_eq!(v1::decode(&one), Ok(Some((message.clone(), one.len()))));
        assert_eq!(v2::decode(&two), Ok(Some((v2::Frame::Message(message), two.len()))));
    }
}

#[test]
fn keys_match_in_any_case_null_is_zero_and_the_unknown_is_passed_over() {
    let expected = Message::CloseProxy(CloseProxy { proxy_name: "a".to_owned() });
    for json in [
        r#"{"proxy_name":"a"}"#,
        r#"{"PROXY_Name":"a"}"#,
        r#"{"proxy_name":"b","Proxy_name":"a"}"#,
        r#"{"proxy_name":"a","proxy_name":null}"#,
        r#" { "later" : [ { "deep" : 1e40 } ], "proxy_name" : "a" } "#,
    ] {
        assert_eq!(read(b'c', json), Ok(expected.clone()), "{json}");
    }
    for json in ["{}", "null", r#"{"proxy_name":null}"#] {
        assert_eq!(read(b'c', json), Ok(Message::CloseProxy(CloseProxy::default())), "{json}");
    }
    let metas = read(b'p', r#"{"metas":{"a":null},"annotations":null}"#).unwrap();
    let Message::NewProxy(metas) = metas else { panic!("{metas:?}") };
    assert_eq!(metas.metas, Metas::from([("a".to_owned(), "".into())]));
}

#[test]
fn what_the_client_says_about_its_own_authentication_is_not_heard() {
    let login = read(b'o', r#"{"client_spec":{"type":"ssh-tunnel","always_auth_pass":true}}"#);
    assert_eq!(login, Ok(Message::Login(Box::default())));
}

#[test]
fn members_of_the_wrong_type_are_refused() {
    for (kind, json) in [
        (b'c', r#"{"proxy_name":1}"#),
        (b'p', r#"{"remote_port":"23000"}"#),
        (b'p', r#"{"remote_port":1.5}"#),
        (b'p', r#"{"use_encryption":1}"#),
        (b'p', r#"{"metas":[]}"#),
        (b's', r#"{"src_port":65536}"#),
        (b'h', "[]"),
        (b'h', "{} x"),
        (b'h', "{"),
        (b'h', ""),
        (b'r', "7"),
    ] {
        assert!(matches!(read(kind, json), Err(MessageError::Json(_))), "{json}");
    }
}

#[test]
fn an_error_does_not_repeat_what_was_said() {
    for json in [r#"{"run_id":{"hunter2":1}}"#, r#"{"run_id":"hunter2"#, r#"{"timestamp":"hunter2"}"#] {
        let error = read(b'w', json).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn lengths_and_types_are_refused_as_soon_as_they_are_known() {
    assert_eq!(v1::decode(b"x"), Err(MessageError::Kind(b'x'.into())));
    for length in [-1, i64::MIN, 10_241, 1 << 62, i64::MAX] {
        let head = [&[b'o'][..], &length.to_be_bytes()].concat();
        assert_eq!(v1::decode(&head), Err(MessageError::Length(length)));
    }
    let longest = format!(r#"{{"x":"{}"}}"#, "y".repeat(10_240 - 8));
    assert_eq!(read(b'h', &longest), Ok(Message::Ping(Ping::default())));
    assert_eq!(v2::decode(&vectors::bytes("0010000000010001")), Err(MessageError::Length(65_537)));
    assert_eq!(v2::decode(&vectors::bytes("0010000100000002")), Err(MessageError::Flags(1)));
    // The server's hello is no frame of a client.
    for kind in [0, 2, 3, 15, 17] {
        let head = [0, kind, 0, 0, 0, 0, 0, 0];
        assert_eq!(v2::decode(&head), Err(MessageError::Frame(kind.into())));
    }
    assert_eq!(v2::decode(&vectors::bytes("00100000000000040000 7b7d")), Err(MessageError::Kind(0)));
    assert_eq!(v2::decode(&vectors::bytes("00100000000000040013 7b7d")), Err(MessageError::Kind(19)));
    assert_eq!(v2::decode(&vectors::bytes("001000000000000100")), Err(MessageError::Length(1)));
}

#[test]
fn more_metas_than_anybody_needs_are_refused() {
    let metas = |count: usize| (0..count).map(|at| format!(r#""{at}":"""#)).collect::<Vec<_>>().join(",");
    for key in ["metas", "annotations"] {
        assert!(read(b'p', &format!(r#"{{"{key}":{{{}}}}}"#, metas(METAS_MAX))).is_ok());
        assert_eq!(
            read(b'p', &format!(r#"{{"{key}":{{{}}}}}"#, metas(METAS_MAX + 1))),
            Err(MessageError::TooManyMetas)
        );
    }
}

#[test]
fn no_secret_is_printed() {
    let login = Login {
        privilege_key: "hunter2".into(),
        run_id: "hunter2".into(),
        metas: Metas::from([("token".to_owned(), "hunter2".into())]),
        ..Login::default()
    };
    let proxy = NewProxy { metas: login.metas.clone(), group_key: "hunter2".into(), ..NewProxy::default() };
    let work = NewWorkConn { run_id: "hunter2".into(), privilege_key: "hunter2".into(), timestamp: 1 };
    let answer = LoginResp { run_id: "hunter2".into(), ..LoginResp::default() };
    for message in [
        Message::Login(Box::new(login)),
        Message::NewProxy(Box::new(proxy)),
        Message::NewWorkConn(work),
        Message::LoginResp(answer),
    ] {
        assert!(!format!("{message:?}").contains("hunter2"));
    }
}

#[test]
fn a_hello_needs_json_and_randomness() {
    let hello = |codec: &str, random: &str| {
        let message = format!(r#"{{"codecs":["{codec}"]}}"#);
        let crypto = format!(r#"{{"algorithms":["a"],"clientRandom":"{random}"}}"#);
        v2::ClientHello::parse(format!(r#"{{"capabilities":{{"message":{message},"crypto":{crypto}}}}}"#).as_bytes())
    };
    let random = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    assert!(hello("json", random).is_ok());
    assert!(hello("protobuf", random).is_err());
    assert!(hello("json", &random[4..]).is_err());
    assert!(hello("json", "not base64").is_err());
    assert!(v2::ClientHello::parse(b"{}").is_err());
}

/// Any change of one byte of a real login, any cut of it, and noise: an error, a message, or "more".
#[test]
fn any_bytes_give_a_value_or_an_error() {
    let mut rng = fastrand::Rng::with_seed(11);
    let login = vectors::bytes(LOGIN);
    for at in 0..login.len() {
        for change in [1, 0x20, 0x80, 0xff] {
            let mut bytes = login.clone();
            bytes[at] ^= change;
            check(&bytes);
        }
    }
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
        if let Some(first) = bytes.first_mut().filter(|_| rng.bool()) {
            *first = b"o1p2crwsv3h4uinm56"[rng.usize(..18)];
        }
        check(&bytes);
    }
}

fn check(bytes: &[u8]) {
    for outcome in [v1::decode(bytes), v2_message(bytes)] {
        if let Ok(Some((_, used))) = outcome {
            assert!(used <= bytes.len());
        }
    }
}

fn v2_message(bytes: &[u8]) -> Result<Option<(Message, usize)>, MessageError> {
    Ok(v2::decode(bytes)?.map(|(frame, used)| match frame {
        v2::Frame::Message(message) => (message, used),
        v2::Frame::ClientHello(_) => (Message::ReqWorkConn, used),
    }))
}
