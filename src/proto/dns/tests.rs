//! Answers are made with the same library, or written out byte by byte where they must be wrong.

use super::*;
use simple_dns::rdata::{A, AAAA, CNAME};

const WEB: Question<'static> = Question { id: 0x1234, name: "web.example", family: Family::V4 };

/// Answer section lines: (name, ttl, data), where data is an address or an alias.
fn reply(to: &Question, rcode: RCODE, records: &[(&'static str, u32, &'static str)]) -> Vec<u8> {
    let mut packet = Packet::new_reply(to.id);
    *packet.rcode_mut() = rcode;
    let asked = simple_dns::Question::new(Name::new_unchecked(to.name), to.qtype(), CLASS::IN.into(), false);
    packet.questions.push(asked);
    for (name, ttl, data) in records {
        let rdata = match data.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => RData::A(A::from(address)),
            Ok(IpAddr::V6(address)) => RData::AAAA(AAAA::from(address)),
            Err(_) => RData::CNAME(CNAME(Name::new_unchecked(data))),
        };
        packet.answers.push(ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, *ttl, rdata));
    }
    packet.build_bytes_vec_compressed().unwrap()
}

fn addresses(list: &[&str], ttl: u32) -> Result<Answer, Fault> {
    Ok(Answer::Addresses { addresses: list.iter().map(|address| address.parse().unwrap()).collect(), ttl })
}

#[test]
fn a_question_is_what_rfc_1035_says() {
    let bytes = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\x07example\0\0\x01\0\x01";
    assert_eq!(WEB.to_bytes().unwrap(), bytes);
    assert_eq!(Question { name: "web.example.", ..WEB }.to_bytes().unwrap(), bytes);
    let sixth = Question { family: Family::V6, ..WEB }.to_bytes().unwrap();
    assert_eq!(&sixth[sixth.len() - 4..], b"\0\x1c\0\x01");
    let long = "a".repeat(64);
    assert_eq!(Question { name: &long, ..WEB }.to_bytes(), None);
}

/// As a server sends it: the name of the record is a pointer to the question's.
#[test]
fn an_answer_off_the_wire_is_read() {
    let mut bytes = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03WEB\x07example\0\0\x01\0\x01".to_vec();
    bytes.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\x00\x3c\0\x04\x0a\0\0\x15");
    assert_eq!(WEB.answer(&bytes), addresses(&["10.0.0.21"], 60));
}

#[test]
fn all_addresses_count_sorted_and_once_with_the_least_ttl() {
    let records = [("web.example", 60, "10.0.0.9"), ("web.example", 30, "10.0.0.1"), ("web.example", 60, "10.0.0.9")];
    assert_eq!(WEB.answer(&reply(&WEB, RCODE::NoError, &records)), addresses(&["10.0.0.1", "10.0.0.9"], 30));
}

#[test]
fn aliases_are_followed_in_any_order_and_their_ttl_counts() {
    let records = [("c.example", 60, "10.0.0.1"), ("b.example", 5, "C.example"), ("web.example", 60, "b.example")];
    assert_eq!(WEB.answer(&reply(&WEB, RCODE::NoError, &records)), addresses(&["10.0.0.1"], 5));
}

#[test]
fn records_beside_the_chain_are_not_believed() {
    let records = [("other.example", 60, "10.0.0.66"), ("web.example", 60, "2001:db8::66")];
    assert_eq!(WEB.answer(&reply(&WEB, RCODE::NoError, &records)), Ok(Answer::NoData));
    let dangling = [("web.example", 60, "b.example"), ("web.example", 60, "10.0.0.66")];
    assert_eq!(WEB.answer(&reply(&WEB, RCODE::NoError, &dangling)), Ok(Answer::NoData));
}

#[test]
fn aliases_in_a_circle_are_no_answer() {
    let records = [("web.example", 60, "b.example"), ("b.example", 60, "web.example")];
    assert_eq!(WEB.answer(&reply(&WEB, RCODE::NoError, &records)), Err(Fault::Malformed));
}

#[test]
fn addresses_that_no_server_has_are_left_out() {
    let records = [("web.example", 60, "0.0.0.0"), ("web.example", 60, "224.0.0.1")];
    assert_eq!(WEB.answer(&reply(&WEB, RCODE::NoError, &records)), Ok(Answer::NoData));
    let sixth = Question { family: Family::V6, ..WEB };
    let records = [("web.example", 60, "::"), ("web.example", 60, "fe80::1"), ("web.example", 9, "2001:db8::1")];
    assert_eq!(sixth.answer(&reply(&sixth, RCODE::NoError, &records)), addresses(&["2001:db8::1"], 9));
}

#[test]
fn a_ttl_beyond_what_is_allowed_is_none() {
    let records = [("web.example", u32::MAX, "10.0.0.1")];
    assert_eq!(WEB.answer(&reply(&WEB, RCODE::NoError, &records)), addresses(&["10.0.0.1"], 0));
}

#[test]
fn no_more_than_the_allowed_number_is_kept() {
    let texts: Vec<&'static str> = (0..40).map(|n| &*format!("10.0.0.{n}").leak()).collect();
    let records: Vec<_> = texts.iter().map(|text| ("web.example", 60, *text)).collect();
    let Ok(Answer::Addresses { addresses, .. }) = WEB.answer(&reply(&WEB, RCODE::NoError, &records)) else {
        panic!("no addresses")
    };
    assert_eq!(addresses.len(), ADDRESSES_MAX);
    assert_eq!(addresses[0].to_string(), "10.0.0.0");
}

#[test]
fn every_code_has_its_meaning() {
    for (rcode, answer) in [
        (RCODE::NoError, Answer::NoData),
        (RCODE::NameError, Answer::NoName),
        (RCODE::ServerFailure, Answer::Refused),
        (RCODE::Refused, Answer::Refused),
        (RCODE::FormatError, Answer::Refused),
        (RCODE::NotImplemented, Answer::Refused),
    ] {
        assert_eq!(WEB.answer(&reply(&WEB, rcode, &[])), Ok(answer), "{rcode:?}");
    }
}

#[test]
fn a_truncated_answer_says_so_whatever_it_holds() {
    let mut bytes = reply(&WEB, RCODE::NoError, &[("web.example", 60, "10.0.0.1")]);
    bytes[2] |= 2;
    assert_eq!(WEB.answer(&bytes), Ok(Answer::Truncated));
}

#[test]
fn answers_to_other_questions_are_not_ours() {
    let good = reply(&WEB, RCODE::NoError, &[("web.example", 60, "10.0.0.1")]);
    let asked = |question: Question| question.answer(&good);
    assert!(asked(WEB).is_ok());
    assert_eq!(asked(Question { id: 0x1235, ..WEB }), Err(Fault::NotOurs));
    assert_eq!(asked(Question { name: "web.example.org", ..WEB }), Err(Fault::NotOurs));
    assert_eq!(asked(Question { family: Family::V6, ..WEB }), Err(Fault::NotOurs));
    // The question itself, sent back.
    assert_eq!(WEB.answer(&WEB.to_bytes().unwrap()), Err(Fault::NotOurs));
    let mut without_question = b"\x12\x34\x81\x80\0\0\0\0\0\0\0\0".to_vec();
    assert_eq!(WEB.answer(&without_question), Err(Fault::NotOurs));
    without_question[5] = 1;
    assert_eq!(WEB.answer(&without_question), Err(Fault::Malformed));
}

#[test]
fn what_is_cut_or_bent_anywhere_never_panics_and_gives_no_foreign_address() {
    let good = reply(&WEB, RCODE::NoError, &[("web.example", 60, "b.example"), ("b.example", 60, "10.0.0.1")]);
    for length in 0..good.len() {
        assert!(WEB.answer(&good[..length]).is_err(), "{length}");
    }
    for at in 0..good.len() {
        for value in 0..=255 {
            let mut bent = good.clone();
            bent[at] = value;
            let _ = WEB.answer(&bent);
        }
    }
}

#[test]
fn a_header_that_promises_more_than_there_is_takes_no_memory() {
    let mut bytes = reply(&WEB, RCODE::NoError, &[]);
    bytes[6..8].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(answers_only(&bytes), None);
    // Of the other sections nothing is read, whatever is promised there.
    let mut bytes = reply(&WEB, RCODE::NoError, &[("web.example", 60, "10.0.0.1")]);
    bytes[8..12].copy_from_slice(&[0xff; 4]);
    assert_eq!(WEB.answer(&bytes), addresses(&["10.0.0.1"], 60));
}
