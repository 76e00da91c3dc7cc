//! A server's side of a check's conversation, in pieces whose sizes the first bytes choose. Nothing may panic, grow
//! without bound, or depend on where the pieces end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::policy::service::galera;
use lyre::proto::mysql::conversation::{Conversation, Said};
use lyre::proto::mysql::{Fault, Login};

const LOGIN: Login<'static> = Login { user: "lyre", password: b"secret", tls: false };

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    for (is_logged_in, tls) in [(false, false), (false, true), (true, false)] {
        let login = Login { tls, ..LOGIN };
        let whole = talk(&login, is_logged_in, bytes, bytes.len().max(1));
        // Over TLS it matters that nothing comes behind the greeting in clear, so pieces do.
        if !tls {
            assert_eq!(whole, talk(&login, is_logged_in, bytes, usize::from(size).max(1)));
        }
        for said in &whole.0 {
            if let Said::Rows(rows) = said {
                assert!(rows.len() <= 64);
                let _ = galera::standing(rows, rows);
            }
        }
    }
});

/// Everything said until it is our turn to ask, or until the fault.
fn talk(login: &Login<'_>, is_logged_in: bool, bytes: &[u8], size: usize) -> (Vec<Said>, Option<Fault>) {
    let mut conversation = Conversation::default();
    if is_logged_in {
        log_in(&mut conversation);
    }
    let mut all = Vec::new();
    for piece in bytes.chunks(size) {
        conversation.push(piece);
        loop {
            match conversation.next(login) {
                Ok(None) => break,
                Ok(Some(said)) => {
                    let is_over = !matches!(said, Said::Send(_));
                    all.push(said);
                    if is_over {
                        return (all, None);
                    }
                }
                Err(fault) => return (all, Some(fault)),
            }
        }
    }
    (all, None)
}

/// A greeting and a yes, then a question.
fn log_in(conversation: &mut Conversation) {
    let mut greeting = b"\x0a10.11\0\x07\0\0\x00abcdefgh\0\xfe\xf7\x2d\x02\0\xff\x81\x15".to_vec();
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
    conversation.push(&[greeting.len() as u8, 0, 0, 0]);
    conversation.push(&greeting);
    assert!(matches!(conversation.next(&LOGIN), Ok(Some(Said::Send(_)))));
    conversation.push(b"\x07\0\0\x02\0\0\0\x02\0\0\0");
    assert_eq!(conversation.next(&LOGIN), Ok(Some(Said::LoggedIn)));
    assert!(conversation.ask("SHOW").is_ok());
}
