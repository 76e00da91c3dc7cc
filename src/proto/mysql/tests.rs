use super::conversation::{Conversation, Said};
use super::packet::frame;
use super::{Fault, Login};
use sha1::{Digest as _, Sha1};

const LOGIN: Login<'static> = Login { user: "lyre_check", password: b"secret", tls: false };
const SCRAMBLE: &[u8; 20] = b"abcdefghijklmnopqrst";

/// As a MariaDB 10.11 sends it.
fn greeting() -> Vec<u8> {
    let mut payload = b"\x0a5.5.5-10.11.14-MariaDB\0\x07\0\0\0".to_vec();
    payload.extend_from_slice(&SCRAMBLE[..8]);
    payload.extend_from_slice(b"\0\xfe\xf7\x2d\x02\0\xff\x81\x15\0\0\0\0\0\0\x1d\0\0\0");
    payload.extend_from_slice(&SCRAMBLE[8..]);
    payload.extend_from_slice(b"\0mysql_native_password\0");
    frame(0, &payload)
}

fn logged_in() -> Conversation {
    let mut conversation = Conversation::default();
    conversation.push(&greeting());
    assert!(matches!(conversation.next(&LOGIN), Ok(Some(Said::Send(_)))));
    conversation.push(b"\x07\0\0\x02\0\0\0\x02\0\0\0");
    assert_eq!(conversation.next(&LOGIN), Ok(Some(Said::LoggedIn)));
    conversation
}

fn text(bytes: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(bytes.len()).unwrap()];
    out.extend_from_slice(bytes.as_bytes());
    out
}

/// The answer to a SHOW with these rows.
fn answer(rows: &[(&str, &str)]) -> Vec<u8> {
    let mut payloads = vec![vec![2], b"\x03def...".to_vec(), b"\x03def...".to_vec(), b"\xfe\0\0\x22\0".to_vec()];
    payloads.extend(rows.iter().map(|(name, value)| [text(name), text(value)].concat()));
    payloads.push(b"\xfe\0\0\x22\0".to_vec());
    payloads.iter().enumerate().flat_map(|(at, payload)| frame(u8::try_from(at + 1).unwrap(), payload)).collect()
}

#[test]
fn a_login_has_the_documented_bytes() {
    let mut conversation = Conversation::default();
    conversation.push(&greeting());
    let Ok(Some(Said::Send(bytes))) = conversation.next(&LOGIN) else { panic!() };
    assert_eq!(&bytes[..4], [0x56, 0, 0, 1]);
    assert_eq!(&bytes[4..13], [0x01, 0x82, 0x08, 0x00, 0, 0, 0, 1, 0x2d]);
    assert_eq!(&bytes[13..36], [0; 23]);
    assert_eq!(&bytes[36..48], b"lyre_check\0\x14");
    assert_eq!(&bytes[68..], b"mysql_native_password\0");
    // The server knows SHA1(SHA1(password)) and gets SHA1(password) back out of the token.
    let stored = Sha1::digest(Sha1::digest(LOGIN.password));
    let salted = Sha1::digest([SCRAMBLE.as_slice(), stored.as_slice()].concat());
    let once: Vec<u8> = bytes[48..68].iter().zip(salted).map(|(token, salt)| token ^ salt).collect();
    assert_eq!(Sha1::digest(once), stored);
}

#[test]
fn a_login_over_tls_asks_for_it_first_and_says_nothing_in_clear() {
    let login = Login { tls: true, ..LOGIN };
    // The same greeting with the flag that this server lacks.
    let offering = |has_tls: bool| {
        let mut greeting = greeting();
        let at = 4 + b"\x0a5.5.5-10.11.14-MariaDB\0\x07\0\0\0".len() + 8 + 1 + 1;
        assert_eq!(greeting[at], 0xf7);
        greeting[at] = if has_tls { 0xff } else { 0xf7 };
        greeting
    };
    let mut conversation = Conversation::default();
    conversation.push(&offering(true));
    let Ok(Some(Said::Secure(bytes))) = conversation.next(&login) else { panic!() };
    assert_eq!(bytes[..13], [32, 0, 0, 1, 0x01, 0x8a, 0x08, 0x00, 0, 0, 0, 1, 0x2d]);
    assert_eq!(bytes[13..], [0; 23]);
    let bytes = conversation.secured(&login).unwrap();
    assert_eq!(bytes[..8], [0x56, 0, 0, 2, 0x01, 0x8a, 0x08, 0x00]);
    assert_eq!(&bytes[36..48], b"lyre_check\0\x14");
    conversation.push(b"\x07\0\0\x03\0\0\0\x02\0\0\0");
    assert_eq!(conversation.next(&login), Ok(Some(Said::LoggedIn)));
    assert!(conversation.secured(&login).is_err());

    let answers = |bytes: &[u8]| {
        let mut conversation = Conversation::default();
        conversation.push(bytes);
        conversation.next(&login)
    };
    assert_eq!(answers(&offering(false)), Err(Fault::NoTls));
    // Put behind the greeting by somebody else, to be read as if it came over TLS.
    assert_eq!(answers(&[&offering(true)[..], b"\x07\0\0\x02\0\0\0\x02\0\0\0"].concat()), Err(Fault::NoTls));
    let mut conversation = Conversation::default();
    conversation.push(&offering(true));
    assert!(matches!(conversation.next(&login), Ok(Some(Said::Secure(_)))));
    conversation.push(b"\x07\0\0\x02\0\0\0\x02\0\0\0");
    assert!(matches!(conversation.next(&login), Err(Fault::Malformed(_))));
}

#[test]
fn an_empty_password_has_an_empty_token() {
    let mut conversation = Conversation::default();
    conversation.push(&greeting());
    let Ok(Some(Said::Send(bytes))) = conversation.next(&Login { user: "x", password: b"", tls: false }) else {
        panic!()
    };
    assert_eq!(&bytes[36..], b"x\0\0mysql_native_password\0");
}

#[test]
fn the_status_query_has_the_documented_header() {
    let statement = "SHOW GLOBAL STATUS WHERE Variable_name IN \
                     ('wsrep_ready','wsrep_connected','wsrep_local_state','wsrep_cluster_status')";
    let bytes = logged_in().ask(statement).unwrap();
    assert_eq!(&bytes[..5], [0x77, 0, 0, 0, 3]);
    assert_eq!(bytes.len(), 4 + 119);
}

#[test]
fn rows_arrive_whatever_the_pieces() {
    let bytes = answer(&[("wsrep_ready", "ON"), ("wsrep_local_state", "4")]);
    let expected = vec![("wsrep_ready".to_owned(), "ON".to_owned()), ("wsrep_local_state".to_owned(), "4".to_owned())];
    for size in 1..bytes.len() {
        let mut conversation = logged_in();
        conversation.ask("SHOW").unwrap();
        let mut said = None;
        for piece in bytes.chunks(size) {
            assert_eq!(said, None);
            conversation.push(piece);
            said = conversation.next(&LOGIN).unwrap();
        }
        assert_eq!(said, Some(Said::Rows(expected.clone())));
        assert!(conversation.ask("SHOW").is_ok());
    }
}

#[test]
fn an_account_may_ask_to_log_in_anew_once() {
    let mut conversation = Conversation::default();
    conversation.push(&greeting());
    conversation.next(&LOGIN).unwrap();
    let request = frame(2, b"\xfemysql_native_password\0ABCDEFGHIJKLMNOPQRST\0");
    conversation.push(&request);
    let Ok(Some(Said::Send(bytes))) = conversation.next(&LOGIN) else { panic!() };
    assert_eq!((&bytes[..4], bytes.len()), ([20, 0, 0, 3].as_slice(), 24));
    conversation.push(&request);
    assert!(matches!(conversation.next(&LOGIN), Err(Fault::Malformed(_))));
}

#[test]
fn what_would_give_the_password_away_is_refused() {
    let mut conversation = Conversation::default();
    conversation.push(&greeting());
    conversation.next(&LOGIN).unwrap();
    conversation.push(&frame(2, b"\xfemysql_clear_password\0"));
    assert_eq!(conversation.next(&LOGIN), Err(Fault::Plugin("mysql_clear_password".to_owned())));
}

#[test]
fn refusals_are_told_in_the_servers_words() {
    let mut conversation = Conversation::default();
    conversation.push(&frame(0, b"\xff\x69\x04Host 'edge' is blocked"));
    let blocked = Fault::Refused { code: 1129, message: "Host 'edge' is blocked".to_owned() };
    assert_eq!(conversation.next(&LOGIN), Err(blocked));

    let mut conversation = logged_in();
    conversation.ask("SHOW").unwrap();
    conversation.push(&frame(1, b"\xff\x17\x04#08S01not ready"));
    let not_ready = Fault::Refused { code: 1047, message: "not ready".to_owned() };
    assert_eq!(conversation.next(&LOGIN), Err(not_ready));
}

#[test]
fn malformed_answers_are_faults() {
    for bytes in [
        b"\0\0\0\0".as_slice(),
        b"\x01\0\0\0\x0a",
        b"\x02\0\0\0\x09\0",
        b"\x01\0\0\0\xff",
        b"\xff\xff\xff\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let mut conversation = Conversation::default();
        conversation.push(bytes);
        assert!(conversation.next(&LOGIN).is_err(), "{bytes:?}");
    }
    for payloads in
        [[b"\0".as_slice(), b"", b""], [b"\xfb", b"", b""], [b"\x02", b"x", b"\xff"], [b"\x01", b"x", b"no end"]]
    {
        let mut conversation = logged_in();
        conversation.ask("SHOW").unwrap();
        payloads.iter().for_each(|payload| conversation.push(&frame(1, payload)));
        assert!(conversation.next(&LOGIN).is_err(), "{payloads:?}");
    }
}

#[test]
fn an_endless_answer_ends() {
    let mut conversation = logged_in();
    conversation.ask("SHOW").unwrap();
    conversation.push(&answer(&[("a", "b"); 100]));
    assert_eq!(conversation.next(&LOGIN), Err(Fault::TooLarge));
}
