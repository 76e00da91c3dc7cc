use super::AuthenticationError::*;
use super::*;

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
/// The golden version 3 vector; its checksum is at 6..8.
const MESSAGE: [u8; 12] = [0x31, 0x33, 0xfe, 0x01, 0x00, 0x0a, 0xdb, 0x32, 0x0a, 0x4d, 0x00, 0x64];
const NOW: Utc = Utc(1_800_000_000_250_000_000);
const WINDOW: Duration = Duration::from_secs(5);

/// Origin: computed with Python's hmac module from the layout in the module's documentation.
#[test]
fn the_trailer_is_what_another_implementation_of_the_layout_computes() {
    let trailer = signer(Mode::Enforce).sign(NOW, signed(&MESSAGE)).unwrap();
    assert_eq!(hex(&trailer), "010700006b49d200400000005ec2502ce448d27db8e5529effe0f122");
    let v6 = Signed { source: "fe80::1".parse().unwrap(), message: &MESSAGE };
    let trailer = signer(Mode::Enforce).sign(NOW, v6).unwrap();
    assert_eq!(hex(&trailer), "010700006b49d20040000000bf5c699b8e2b91b103370ff8b6367dad");
}

#[test]
fn what_is_signed_verifies_once() {
    let (mut signer, mut verifier) = (signer(Mode::Enforce), signer(Mode::Enforce));
    let trailer = signer.sign(NOW, signed(&MESSAGE)).unwrap();
    assert_eq!(verifier.verify(NOW, signed(&MESSAGE), Some(&trailer)), Ok(()));
    assert_eq!(verifier.verify(NOW, signed(&MESSAGE), Some(&trailer)), Err(Replayed));
}

#[test]
fn the_checksum_is_not_signed_and_everything_else_is() {
    let trailer = signer(Mode::Enforce).sign(NOW, signed(&MESSAGE)).unwrap();
    for at in 0..MESSAGE.len() {
        let mut altered = MESSAGE;
        altered[at] ^= 1;
        let outcome = signer(Mode::Enforce).verify(NOW, signed(&altered), Some(&trailer));
        assert_eq!(outcome, if (6..8).contains(&at) { Ok(()) } else { Err(Forged) }, "byte {at}");
    }
    let elsewhere = Signed { source: IpAddr::from([10, 77, 0, 2]), message: &MESSAGE };
    assert_eq!(signer(Mode::Enforce).verify(NOW, elsewhere, Some(&trailer)), Err(Forged));
}

#[test]
fn every_altered_byte_of_the_trailer_is_noticed() {
    let trailer = signer(Mode::Enforce).sign(NOW, signed(&MESSAGE)).unwrap();
    for at in 0..TRAILER_BYTES {
        let mut altered = trailer;
        altered[at] ^= 1;
        let expected = match at {
            0 | 2 | 3 => Malformed,
            1 => UnknownKey { id: 6 },
            // the lowest bit of 4..8 counts in seconds: 2^24 down to 1
            4..=6 => Stale { off_by: Duration::from_secs(1 << (8 * (7 - at))) },
            _ => Forged,
        };
        assert_eq!(signer(Mode::Enforce).verify(NOW, signed(&MESSAGE), Some(&altered)), Err(expected), "byte {at}");
    }
}

#[test]
fn a_stamp_outside_the_window_is_stale_in_both_directions() {
    let offsets: [(i64, bool); 4] = [(-5_000, true), (-5_001, false), (5_000, true), (5_001, false)];
    for (offset_ms, is_fresh) in offsets {
        let sent = Utc(NOW.0.wrapping_add_signed(offset_ms * 1_000_000));
        let trailer = signer(Mode::Enforce).sign(sent, signed(&MESSAGE)).unwrap();
        let outcome = signer(Mode::Enforce).verify(NOW, signed(&MESSAGE), Some(&trailer));
        assert_eq!(outcome.is_ok(), is_fresh, "{offset_ms} ms: {outcome:?}");
    }
}

#[test]
fn by_growth_alone_the_clock_does_not_matter_but_the_order_does() {
    let mut verifier = Authenticator::new(vec![key(7)], Mode::Enforce, Freshness::Growth).unwrap();
    let mut sender = signer(Mode::Enforce);
    let first = sender.sign(Utc(0), signed(&MESSAGE)).unwrap();
    let second = sender.sign(NOW, signed(&MESSAGE)).unwrap();
    assert_eq!(verifier.verify(NOW, signed(&MESSAGE), Some(&second)), Ok(()));
    assert_eq!(verifier.verify(NOW, signed(&MESSAGE), Some(&first)), Err(Replayed));
}

#[test]
fn stamps_grow_even_when_the_clock_stands_or_runs_backwards() {
    let (mut sender, mut verifier) = (signer(Mode::Enforce), signer(Mode::Enforce));
    for back_ms in [0, 0, 0, 1, 1_000, 500] {
        let trailer = sender.sign(Utc(NOW.0 - back_ms * 1_000_000), signed(&MESSAGE)).unwrap();
        assert_eq!(verifier.verify(NOW, signed(&MESSAGE), Some(&trailer)), Ok(()), "{back_ms}");
    }
}

#[test]
fn the_end_of_the_32_bit_seconds_is_no_cliff() {
    let end = Utc((1 << 32) * 1_000_000_000);
    let (mut sender, mut verifier) = (signer(Mode::Enforce), signer(Mode::Enforce));
    for utc in [Utc(end.0 - 1_000_000_000), end, Utc(end.0 + 1_000_000_000)] {
        let trailer = sender.sign(utc, signed(&MESSAGE)).unwrap();
        assert_eq!(verifier.verify(utc, signed(&MESSAGE), Some(&trailer)), Ok(()));
    }
}

#[test]
fn a_forgery_does_not_move_the_replay_window() {
    let (mut sender, mut verifier) = (signer(Mode::Enforce), signer(Mode::Enforce));
    let genuine = sender.sign(NOW, signed(&MESSAGE)).unwrap();
    let mut forged = sender.sign(Utc(NOW.0 + 1_000_000_000), signed(&MESSAGE)).unwrap();
    forged[27] ^= 1;
    assert_eq!(verifier.verify(NOW, signed(&MESSAGE), Some(&forged)), Err(Forged));
    assert_eq!(verifier.verify(NOW, signed(&MESSAGE), Some(&genuine)), Ok(()));
}

#[test]
fn migration_needs_no_moment_at_which_all_switch() {
    // (sender, receiver, accepted); neighbouring steps understand each other in both directions
    use Mode::*;
    #[rustfmt::skip]
    let rows = [
        (ReceiveOnly, ReceiveOnly, true), (ReceiveOnly, Permissive, true),  (ReceiveOnly, Enforce, false),
        (Permissive,  ReceiveOnly, true), (Permissive,  Permissive, true),  (Permissive,  Enforce, true),
        (Enforce,     ReceiveOnly, true), (Enforce,     Permissive, true),  (Enforce,     Enforce, true),
    ];
    for (sender, receiver, accepted) in rows {
        let trailer = signer(sender).sign(NOW, signed(&MESSAGE));
        assert_eq!(trailer.is_none(), sender == ReceiveOnly);
        let outcome = signer(receiver).verify(NOW, signed(&MESSAGE), trailer.as_ref());
        assert_eq!(outcome, if accepted { Ok(()) } else { Err(Missing) }, "{sender:?} to {receiver:?}");
    }
}

#[test]
fn keys_are_rotated_by_accepting_the_next_before_using_it() {
    let with = |ids: &[u8]| {
        let keys = ids.iter().map(|id| key(*id)).collect();
        Authenticator::new(keys, Mode::Enforce, Freshness::Clock { window: WINDOW }).unwrap()
    };
    let old = with(&[1]).sign(NOW, signed(&MESSAGE)).unwrap();
    let new = with(&[2, 1]).sign(NOW, signed(&MESSAGE)).unwrap();
    assert_eq!(with(&[1, 2]).verify(NOW, signed(&MESSAGE), Some(&new)), Ok(()));
    assert_eq!(with(&[2, 1]).verify(NOW, signed(&MESSAGE), Some(&old)), Ok(()));
    assert_eq!(with(&[1]).verify(NOW, signed(&MESSAGE), Some(&new)), Err(UnknownKey { id: 2 }));
}

#[test]
fn unfit_keys_are_refused() {
    assert!(Key::new(0, vec![1; 32]).is_none());
    assert!(Key::new(1, vec![1; 31]).is_none());
    assert!(Key::new(1, vec![1; 65]).is_none());
    assert!(Key::new(255, vec![1; 64]).is_some());
    assert!(Authenticator::new(Vec::new(), Mode::Enforce, Freshness::Growth).is_none());
    assert!(Authenticator::new(vec![key(1), key(1)], Mode::Enforce, Freshness::Growth).is_none());
}

#[test]
fn the_table_of_senders_is_bounded_and_forgets_the_longest_silent() {
    let mut verifier = signer(Mode::Enforce);
    let from = |host: u8| Signed { source: IpAddr::from([10, 0, 0, host]), message: &MESSAGE };
    let trailers: Vec<_> =
        (0..=SENDERS_MAX as u8).map(|host| signer(Mode::Enforce).sign(NOW, from(host)).unwrap()).collect();
    for (host, trailer) in trailers.iter().enumerate() {
        assert_eq!(verifier.verify(NOW, from(host as u8), Some(trailer)), Ok(()));
    }
    assert_eq!(verifier.senders.len(), SENDERS_MAX);
    assert_eq!(verifier.verify(NOW, from(1), Some(&trailers[1])), Err(Replayed));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    assert_eq!(format!("{:?}", key(7)), "Key(7)");
}

fn key(id: u8) -> Key {
    Key::new(id, (id..id + 32).collect()).unwrap()
}

fn signer(mode: Mode) -> Authenticator {
    Authenticator::new(vec![key(7)], mode, Freshness::Clock { window: WINDOW }).unwrap()
}

fn signed(message: &[u8]) -> Signed<'_> {
    Signed { source: SOURCE, message }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
