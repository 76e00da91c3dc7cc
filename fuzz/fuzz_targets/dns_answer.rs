//! Whatever a DNS server sends, and whatever stands in the host's files about names. Nothing may panic, be believed without
//! the id and the question it answers, or grow beyond its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::proto::dns::files::{ResolvConf, hosts};
use lyre::proto::dns::{ADDRESSES_MAX, Answer, Family, Question, is_host};

const NAME: &str = "web.example";

fuzz_target!(|bytes: &[u8]| {
    for family in Family::ALL {
        let question = Question { id: 0x1234, name: NAME, family };
        // As it came, and as the tail of an answer that is ours.
        let ours = question.to_bytes().map(|mut head| {
            head[2] |= 0x80;
            head[7] = 3;
            head.extend_from_slice(bytes);
            head
        });
        for message in [bytes.to_vec()].into_iter().chain(ours) {
            let Ok(answer) = question.answer(&message) else { continue };
            assert_eq!(&message[..2], b"\x12\x34");
            assert_ne!(message[2] & 0x80, 0);
            let Answer::Addresses { addresses, ttl } = answer else { continue };
            assert!((1..=ADDRESSES_MAX).contains(&addresses.len()));
            assert!(addresses.iter().all(|address| Family::of(*address) == family && is_host(*address)));
            assert!(addresses.is_sorted() && ttl <= u32::MAX >> 1);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let conf = ResolvConf::read(&text);
    assert!(!conf.servers.is_empty() && conf.servers.len() <= 8);
    assert!(conf.candidates(NAME).iter().any(|name| name == NAME));
    assert!(hosts(&text, NAME).len() <= 2 * ADDRESSES_MAX);
});
