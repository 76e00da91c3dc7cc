//! Golden vectors of `tests/vectors/vrrp`, every truncation of them, every malformed packet we know of, round trips.

use super::checksum::pseudo_header_sum;
use super::ipv4::IPV4_HEADER_BYTES;
use super::*;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

#[test]
fn every_vector_decodes_to_what_stands_beside_its_bytes() {
    let mut seen = 0;
    for vector in vectors() {
        let outcome = vector.dialect().decode(&vector.bytes, &vector.carrier);
        match vector.expected() {
            Err(error) => assert_eq!(format!("{:?}", outcome.unwrap_err()), error, "{}", vector.name),
            Ok(expected) => {
                let Received { advert, checksum: form, .. } =
                    outcome.unwrap_or_else(|error| panic!("{}: {error}", vector.name));
                assert_eq!((&advert, form), (&expected.0, expected.1), "{}", vector.name);
                let Carrier { source, destination, .. } = vector.carrier;
                let encoded = vector.dialect().encode(&advert, source, destination, form);
                assert_eq!(encoded, vector.bytes, "{}", vector.name);
            }
        }
        seen += 1;
    }
    assert!(seen >= 10, "{seen} vectors");
}

#[test]
fn every_truncation_of_every_vector_is_refused() {
    for vector in vectors() {
        for length in 0..vector.bytes.len() {
            let error = vector.dialect().decode(&vector.bytes[..length], &vector.carrier).unwrap_err();
            let expected = vector.bytes.len();
            if length < HEADER_BYTES {
                assert_eq!(error, DecodeError::Truncated { have: length }, "{}", vector.name);
            } else {
                assert_eq!(error, DecodeError::Length { expected, actual: length }, "{}", vector.name);
            }
        }
    }
}

#[test]
fn every_truncation_of_a_datagram_is_refused() {
    let whole = datagram(&good());
    for length in 0..whole.len() {
        assert!(receive(&whole[..length]).is_err(), "{length} bytes");
        let mut shorter = whole[..length].to_vec();
        if length >= IPV4_HEADER_BYTES {
            shorter[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        }
        assert!(receive(&shorter).is_err(), "{length} bytes and a total length that agrees");
    }
    assert!(receive(&whole).is_ok());
}

/// One row per malformed packet of the interoperability plan that concerns a version 3 multicast router without
/// authentication: name, change to a good datagram, outcome. `sum` repairs the checksum after the change, so that
/// the rule under test is what refuses it.
#[test]
fn every_malformed_packet_is_refused_for_its_own_reason() {
    use DecodeError::*;
    type Change = fn(&mut Vec<u8>);
    let from = |source: [u8; 4]| Source { got: IpAddr::from(source) };
    #[rustfmt::skip]
    let rows: Vec<(&str, Change, DecodeError)> = vec![
        ("TTL 254",                 |d| d[8] = 254,                                  Ttl { got: 254 }),
        ("TTL 1",                   |d| d[8] = 1,                                    Ttl { got: 1 }),
        ("TTL 0",                   |d| d[8] = 0,                                    Ttl { got: 0 }),
        ("version 0",               |d| { d[20] = 0x01; resum(d) },                  Version { got: 0 }),
        ("version 1",               |d| { d[20] = 0x11; resum(d) },                  Version { got: 1 }),
        ("version 2, no password",  |d| { d[20] = 0x21; resum(d) },                  Length { expected: 20, actual: 12 }),
        ("version 2",               |d| { d[20] = 0x21; extend(d, &[0; 8]); resum(d) }, Version { got: 2 }),
        ("version 4",               |d| { d[20] = 0x41; resum(d) },                  Version { got: 4 }),
        ("version 15",              |d| { d[20] = 0xf1; resum(d) },                  Version { got: 15 }),
        ("type 0",                  |d| { d[20] = 0x30; resum(d) },                  Type { got: 0 }),
        ("type 2",                  |d| { d[20] = 0x32; resum(d) },                  Type { got: 2 }),
        ("type 15",                 |d| { d[20] = 0x3f; resum(d) },                  Type { got: 15 }),
        ("VRID 0",                  |d| { d[21] = 0; resum(d) },                     Vrid { got: 0 }),
        ("count 0, no address",     |d| { d[23] = 0; cut(d, 4); resum(d) },          Count),
        ("count 0, one address",    |d| { d[23] = 0; resum(d) },                     Length { expected: 8, actual: 12 }),
        ("count larger than data",  |d| { d[23] = 2; resum(d) },                     Length { expected: 16, actual: 12 }),
        ("count 255",               |d| { d[23] = 255; resum(d) },                   Length { expected: 1028, actual: 12 }),
        ("1 trailing byte",         |d| { extend(d, &[0]); resum(d) },               Length { expected: 12, actual: 13 }),
        ("2 trailing bytes",        |d| { extend(d, &[0; 2]); resum(d) },            Length { expected: 12, actual: 14 }),
        ("40 trailing bytes",       |d| { extend(d, &[0; 40]); resum(d) },           Length { expected: 12, actual: 52 }),
        ("checksum off by one",     |d| d[27] ^= 1,                                  Checksum),
        ("checksum zero",           |d| d[26..28].fill(0),                           Checksum),
        ("checksum ffff",           |d| d[26..28].fill(0xff),                        Checksum),
        ("payload bit flipped",     |d| d[31] ^= 4,                                  Checksum),
        ("interval 0",              |d| { d[24] = 0; d[25] = 0; resum(d) },          Interval),
        ("interval 0, reserve set", |d| { d[24] = 0xf0; d[25] = 0; resum(d) },       Interval),
        ("source 0.0.0.0",          |d| { set_source(d, [0; 4]); resum(d) },         from([0; 4])),
        ("source 127.0.0.1",        |d| { set_source(d, [127, 0, 0, 1]); resum(d) }, from([127, 0, 0, 1])),
        ("source 224.0.0.1",        |d| { set_source(d, [224, 0, 0, 1]); resum(d) }, from([224, 0, 0, 1])),
        ("source broadcast",        |d| { set_source(d, [255; 4]); resum(d) },       from([255; 4])),
        ("unicast destination",     |d| { d[16..20].copy_from_slice(&[10, 77, 0, 2]); resum(d) },
                                                         Destination { got: IpAddr::from([10, 77, 0, 2]) }),
        ("first fragment",          |d| d[6] |= 0x20,                                Fragment),
        ("later fragment",          |d| d[7] = 1,                                    Fragment),
        ("protocol 51",             |d| d[9] = 51,                                   Protocol { got: 51 }),
        ("IP version 6",            |d| d[0] = 0x65,                                 Ipv4Header),
        ("IP header of 16 bytes",   |d| d[0] = 0x44,                                 Ipv4Header),
        ("IP header of 60 bytes",   |d| d[0] = 0x4f,                                 Ipv4Header),
        ("total length too small",  |d| d[2..4].copy_from_slice(&19_u16.to_be_bytes()), Ipv4Header),
        ("total length 27",         |d| d[2..4].copy_from_slice(&27_u16.to_be_bytes()), Truncated { have: 7 }),
        ("total length too large",  |d| d[2..4].copy_from_slice(&33_u16.to_be_bytes()), Length { expected: 33, actual: 32 }),
        ("47 bytes, padded",        |d| d.resize(47, 0),                             Length { expected: 32, actual: 47 }),
    ];
    for (name, change, expected) in rows {
        let mut packet = datagram(&good());
        change(&mut packet);
        assert_eq!(receive(&packet).map(|(advert, _)| advert), Err(expected), "{name}");
    }
}

#[test]
fn what_only_looks_malformed_is_accepted() {
    type Change = fn(&mut Vec<u8>);
    #[rustfmt::skip]
    let rows: Vec<(&str, Change)> = vec![
        ("reserve nibble f",          |d| { d[24] |= 0xf0; resum(d) }),
        ("interval 4095",             |d| { d[24] = 0x0f; d[25] = 0xff; resum(d) }),
        ("don't fragment",            |d| d[6] = 0x40),
        ("padding of a short frame",  |d| d.resize(46, 0xaa)),
        ("another type of service",   |d| d[1] = 0),
        ("IP options",                |d| { d[0] = 0x47; d.splice(20..20, [1; 8]); set_total(d) }),
        ("priority 255",              |d| { d[22] = 255; resum(d) }),
    ];
    for (name, change) in rows {
        let mut packet = datagram(&good());
        change(&mut packet);
        assert!(receive(&packet).is_ok(), "{name}: {:?}", receive(&packet));
    }
}

#[test]
fn a_hop_limit_of_64_is_refused() {
    let carrier = Carrier { ttl: 64, ..carrier_v6() };
    let message = good_v6().encode(carrier.source, carrier.destination, Checksum::Pseudo);
    assert_eq!(decode(&message, &carrier), Err(DecodeError::Ttl { got: 64 }));
}

#[test]
fn an_ipv6_advert_comes_from_a_link_local_address() {
    let source = "fd77::1".parse().unwrap();
    let message = good_v6().encode(source, GROUP_V6.into(), Checksum::Pseudo);
    let carrier = Carrier { source, ..carrier_v6() };
    assert_eq!(decode(&message, &carrier), Err(DecodeError::Source { got: source }));
}

#[test]
fn an_ipv6_list_may_start_with_a_global_address() {
    let advert = Advert { addresses: vec!["fd77::100".parse().unwrap()], ..good_v6() };
    let message = advert.encode(carrier_v6().source, GROUP_V6.into(), Checksum::Pseudo);
    assert_eq!(decode(&message, &carrier_v6()), Ok((advert, Checksum::Pseudo)));
}

#[test]
fn ipv4_addresses_in_an_ipv6_carrier_are_refused() {
    let message = good().encode(carrier_v4().source, GROUP_V4.into(), Checksum::Pseudo);
    assert_eq!(decode(&message, &carrier_v6()), Err(DecodeError::Length { expected: 24, actual: 12 }));
}

#[test]
fn an_ipv6_message_without_its_pseudo_header_in_the_checksum_is_refused() {
    let mut message = good_v6().encode(carrier_v6().source, GROUP_V6.into(), Checksum::Pseudo);
    message[6..8].fill(0);
    let plain = (!fold(sum(&message))).to_be_bytes();
    message[6..8].copy_from_slice(&plain);
    assert_eq!(decode(&message, &carrier_v6()), Err(DecodeError::Checksum));
}

#[test]
fn adverts_with_255_addresses_fit() {
    let addresses = |one: fn(u8) -> IpAddr| (1..=255).map(one).collect::<Vec<_>>();
    let v4 = Advert { addresses: addresses(|n| IpAddr::from([10, 0, 1, n])), ..good() };
    let message = v4.encode(carrier_v4().source, GROUP_V4.into(), Checksum::Pseudo);
    assert_eq!(message.len(), 1028);
    assert_eq!(decode(&message, &carrier_v4()), Ok((v4, Checksum::Pseudo)));
    let v6 = Advert { addresses: addresses(|n| Ipv6Addr::from(u128::from(n)).into()), ..good_v6() };
    let message = v6.encode(carrier_v6().source, GROUP_V6.into(), Checksum::Pseudo);
    assert_eq!(message.len(), 4088);
    assert_eq!(decode(&message, &carrier_v6()), Ok((v6, Checksum::Pseudo)));
}

#[test]
fn version_2_refuses_what_is_not_its_own() {
    use DecodeError::{AuthType, Count, IntervalMismatch, Length, Password, Type, Version};
    type Change = fn(&mut Vec<u8>);
    #[rustfmt::skip]
    let rows: Vec<(&str, Change, DecodeError)> = vec![
        ("version 3",                 |m| { m[0] = 0x31; m.truncate(12) },  Version { got: 3 }),
        ("wrong password",            |m| m[19] ^= 1,                       Password),
        ("first byte of it wrong",    |m| m[12] ^= 0x80,                    Password),
        ("no authentication",         |m| { m[4] = 0; m[12..].fill(0) },    AuthType { got: 0 }),
        ("authentication header",     |m| m[4] = 2,                         AuthType { got: 2 }),
        ("authentication type 3",     |m| m[4] = 3,                         AuthType { got: 3 }),
        ("interval 0",                |m| m[5] = 0,                         IntervalMismatch { got_s: 0 }),
        ("interval 2",                |m| m[5] = 2,                         IntervalMismatch { got_s: 2 }),
        ("interval 255",              |m| m[5] = 255,                       IntervalMismatch { got_s: 255 }),
        ("type 2",                    |m| m[0] = 0x22,                      Type { got: 2 }),
        ("password cut off",          |m| m.truncate(12),                   Length { expected: 20, actual: 12 }),
        ("no address",                |m| { m[3] = 0; m.drain(8..12); },    Count),
    ];
    for (name, change, expected) in rows {
        let mut message = v2().encode(&good(), carrier_v4().source, GROUP_V4.into(), Checksum::Message);
        change(&mut message);
        message[6..8].fill(0);
        let checksum = (!fold(sum(&message))).to_be_bytes();
        message[6..8].copy_from_slice(&checksum);
        assert_eq!(v2().decode(&message, &carrier_v4()), Err(expected), "{name}");
    }
    let mut message = v2().encode(&good(), carrier_v4().source, GROUP_V4.into(), Checksum::Message);
    message[7] ^= 1;
    assert_eq!(v2().decode(&message, &carrier_v4()), Err(DecodeError::Checksum), "checksum");
}

#[test]
fn version_2_without_a_password_refuses_one() {
    let plain = Dialect { wire: Wire::V2 { interval: SECOND, password: None }, ..Dialect::default() };
    let message = v2().encode(&good(), carrier_v4().source, GROUP_V4.into(), Checksum::Message);
    assert_eq!(plain.decode(&message, &carrier_v4()), Err(DecodeError::AuthType { got: 1 }));
}

#[test]
fn version_2_does_not_exist_over_ipv6() {
    let message = v2().encode(&good_v6(), carrier_v6().source, GROUP_V6.into(), Checksum::Message);
    assert_eq!(v2().decode(&message, &carrier_v6()), Err(DecodeError::Version { got: 2 }));
}

#[test]
fn passwords_are_cut_to_eight_bytes_and_padded_with_zero() {
    assert_eq!(Password::new(b"123456789"), Password(*b"12345678"));
    assert_eq!(Password::new(b"abc"), Password(*b"abc\0\0\0\0\0"));
    assert_eq!(format!("{:?}", Password::new(b"secret")), "Password(..)");
}

#[test]
fn unicast_believes_its_peers_only_and_within_their_ttl() {
    let (near, far) = (IpAddr::from([10, 77, 0, 1]), IpAddr::from([192, 0, 2, 7]));
    let peers = vec![Peer { address: near, ttl: 255..=255 }, Peer { address: far, ttl: 250..=254 }];
    let dialect = Dialect { peers: Peers::Unicast(peers), ..Dialect::default() };
    let ours = IpAddr::from([10, 77, 0, 2]);
    let group = IpAddr::V4(GROUP_V4);
    #[rustfmt::skip]
    let rows = [
        (near, ours, 255, None),
        (near, ours, 254, Some(DecodeError::Ttl { got: 254 })),
        (far, ours, 254, None),
        (far, ours, 250, None),
        (far, ours, 249, Some(DecodeError::Ttl { got: 249 })),
        (far, ours, 255, Some(DecodeError::Ttl { got: 255 })),
        (near, group, 255, Some(DecodeError::Destination { got: group })),
        (IpAddr::from([10, 77, 0, 9]), ours, 255, Some(DecodeError::Source { got: IpAddr::from([10, 77, 0, 9]) })),
    ];
    for (source, destination, ttl, expected) in rows {
        let message = dialect.encode(&good(), source, destination, Checksum::Pseudo);
        let outcome = dialect.decode(&message, &Carrier { source, destination, ttl });
        assert_eq!(outcome.err(), expected, "{source} to {destination}, TTL {ttl}");
    }
}

#[test]
fn an_hmac_trailer_is_told_by_its_exact_length_and_only_where_configured() {
    let with = Dialect { has_trailer: true, ..Dialect::default() };
    for (carrier, advert) in [(carrier_v4(), good()), (carrier_v6(), good_v6())] {
        let mut message = advert.encode(carrier.source, carrier.destination, Checksum::Pseudo);
        let expected = message.len();
        assert_eq!(with.decode(&message, &carrier).map(|received| received.trailer), Ok(None));
        message.extend_from_slice(&[7; 28]);
        if carrier.source.is_ipv6() {
            // as the kernel does it: over everything
            message[6..8].fill(0);
            let pseudo = pseudo_header_sum(carrier.source, carrier.destination, message.len());
            let checksum = (!fold(pseudo + sum(&message))).to_be_bytes();
            message[6..8].copy_from_slice(&checksum);
        }
        let received = with.decode(&message, &carrier).unwrap();
        assert_eq!((received.advert, received.trailer), (advert, Some([7; 28])));
        let actual = message.len();
        assert_eq!(decode(&message, &carrier), Err(DecodeError::Length { expected, actual }));
        message.pop();
        assert_eq!(with.decode(&message, &carrier), Err(DecodeError::Length { expected, actual: actual - 1 }));
    }
}

#[test]
fn the_checksum_form_mirrors_the_peer_only_when_automatic() {
    let mut choice = ChecksumChoice::AUTO;
    assert_eq!(choice.to_send(), Checksum::Pseudo);
    choice.hear(Checksum::Message);
    assert_eq!(choice.to_send(), Checksum::Message);
    choice.hear(Checksum::Pseudo);
    assert_eq!(choice.to_send(), Checksum::Pseudo);
    let mut fixed = ChecksumChoice::Always(Checksum::Message);
    fixed.hear(Checksum::Pseudo);
    assert_eq!(fixed.to_send(), Checksum::Message);
}

#[test]
fn decoding_what_was_encoded_yields_the_same_advert() {
    let mut random = Random(1);
    for _ in 0..20_000 {
        let is_v6 = random.next() & 1 == 1;
        let (mut carrier, form) = match (is_v6, random.next() & 1) {
            (true, _) => (carrier_v6(), Checksum::Pseudo),
            (false, 0) => (carrier_v4(), Checksum::Pseudo),
            (false, _) => (carrier_v4(), Checksum::Message),
        };
        let mut advert = if is_v6 { good_v6() } else { good() };
        advert.vrid = Vrid::new(random.byte().max(1)).unwrap();
        advert.priority = Priority(random.byte());
        advert.interval = Centis::new(1 + (random.next() % 4095) as u16).unwrap();
        advert.addresses = (0..1 + random.next() % 6).map(|_| random.address(is_v6)).collect();
        if !is_v6 {
            carrier.source = IpAddr::from([10, random.byte(), random.byte(), random.byte()]);
        }
        let message = advert.encode(carrier.source, carrier.destination, form);
        let (decoded, seen) = decode(&message, &carrier).unwrap();
        assert_eq!(decoded, advert);
        // A pseudo-header may sum to zero, then both forms are the same bytes.
        assert!(seen == form || message == advert.encode(carrier.source, carrier.destination, seen));
    }
}

#[test]
fn arbitrary_bytes_never_decode_to_something_that_does_not_encode_back() {
    let mut random = Random(2);
    for _ in 0..200_000 {
        let mut bytes = datagram(&good());
        for _ in 0..random.next() % 4 {
            let at = (random.next() % bytes.len() as u64) as usize;
            bytes[at] = random.byte();
        }
        bytes.truncate(bytes.len() - usize::from(random.byte() < 32));
        if let Ok((advert, form)) = receive(&bytes) {
            let (carrier, message) = ipv4(&bytes).unwrap();
            let mut canonical = message.to_vec();
            canonical[4] &= 0x0f;
            if canonical == message {
                assert_eq!(advert.encode(carrier.source, carrier.destination, form), message);
            }
        }
    }
}

#[test]
fn every_error_has_a_counter_and_a_sentence() {
    let got = IpAddr::from([0; 4]);
    use DecodeError::*;
    #[rustfmt::skip]
    let all = [
        Truncated { have: 0 }, Ipv4Header, Fragment, Protocol { got: 1 }, Vrid { got: 0 },
        Length { expected: 1, actual: 2 }, Ttl { got: 1 }, Version { got: 1 }, Type { got: 2 }, Checksum, Interval,
        Destination { got }, Count, Source { got }, AuthType { got: 2 }, Password, IntervalMismatch { got_s: 2 },
    ];
    let sentences: std::collections::HashSet<String> = all.iter().map(|error| error.to_string()).collect();
    assert_eq!(sentences.len(), all.len());
    assert!(all.iter().all(|error| !error.counter().is_empty()));
}

const SECOND: Centis = Centis::new(100).unwrap();

fn v2() -> Dialect {
    let password = Some(Password::new(b"12345678"));
    Dialect { wire: Wire::V2 { interval: SECOND, password }, ..Dialect::default() }
}

fn neighbour(address: &str) -> Peer {
    Peer { address: address.parse().unwrap(), ttl: 255..=255 }
}

fn good() -> Advert {
    Advert {
        vrid: Vrid::new(51).unwrap(),
        priority: Priority(254),
        interval: Centis::new(10).unwrap(),
        addresses: vec![IpAddr::from([10, 77, 0, 100])],
    }
}

fn good_v6() -> Advert {
    Advert { addresses: vec!["fe80::77:100".parse().unwrap(), "fd77::100".parse().unwrap()], ..good() }
}

fn carrier_v4() -> Carrier {
    Carrier { source: IpAddr::from([10, 77, 0, 1]), destination: GROUP_V4.into(), ttl: 255 }
}

fn carrier_v6() -> Carrier {
    Carrier { source: "fe80::1".parse().unwrap(), destination: GROUP_V6.into(), ttl: 255 }
}

/// As a raw socket delivers it.
fn datagram(advert: &Advert) -> Vec<u8> {
    let message = advert.encode(carrier_v4().source, GROUP_V4.into(), Checksum::Pseudo);
    let mut bytes = vec![0x45, 0xc0, 0, 0, 0, 1, 0, 0, 255, 112, 0, 0, 10, 77, 0, 1, 224, 0, 0, 18];
    bytes.extend_from_slice(&message);
    set_total(&mut bytes);
    bytes
}

fn receive(datagram: &[u8]) -> Result<(Advert, Checksum), DecodeError> {
    let (carrier, message) = ipv4(datagram)?;
    decode(message, &carrier)
}

fn set_total(datagram: &mut [u8]) {
    let total = (datagram.len() as u16).to_be_bytes();
    datagram[2..4].copy_from_slice(&total);
}

fn set_source(datagram: &mut [u8], source: [u8; 4]) {
    datagram[12..16].copy_from_slice(&source);
}

fn extend(datagram: &mut Vec<u8>, bytes: &[u8]) {
    datagram.extend_from_slice(bytes);
    set_total(datagram);
}

fn cut(datagram: &mut Vec<u8>, bytes: usize) {
    datagram.truncate(datagram.len() - bytes);
    set_total(datagram);
}

/// Makes the VRRP checksum right again.
fn resum(datagram: &mut [u8]) {
    datagram[26..28].fill(0);
    let source = IpAddr::from(<[u8; 4]>::try_from(&datagram[12..16]).unwrap());
    let destination = IpAddr::from(<[u8; 4]>::try_from(&datagram[16..20]).unwrap());
    let message = &datagram[20..];
    let checksum = !fold(pseudo_header_sum(source, destination, message.len()) + sum(message));
    datagram[26..28].copy_from_slice(&checksum.to_be_bytes());
}

struct Vector {
    name: String,
    carrier: Carrier,
    bytes: Vec<u8>,
    fields: HashMap<String, String>,
}

impl Vector {
    fn dialect(&self) -> Dialect {
        let field = |name: &str| self.fields.get(name).map(String::as_str);
        let wire = match field("version") {
            Some("2") => Wire::V2 {
                interval: Centis::new(field("interval_cs").unwrap().parse().unwrap()).unwrap(),
                password: field("password").map(|text| Password::new(text.as_bytes())),
            },
            Some(_) | None => Wire::V3,
        };
        let peers = field("peers")
            .map_or(Peers::Multicast, |peers| Peers::Unicast(peers.split_whitespace().map(neighbour).collect()));
        Dialect { wire, peers, has_trailer: false }
    }

    /// The advert and form, or the debug form of the error.
    fn expected(&self) -> Result<(Advert, Checksum), String> {
        if let Some(error) = self.fields.get("error") {
            return Err(error.clone());
        }
        let field = |name: &str| self.fields[name].as_str();
        let advert = Advert {
            vrid: Vrid::new(field("vrid").parse().unwrap()).unwrap(),
            priority: Priority(field("priority").parse().unwrap()),
            interval: Centis::new(field("interval_cs").parse().unwrap()).unwrap(),
            addresses: field("addresses").split_whitespace().map(|address| address.parse().unwrap()).collect(),
        };
        let form = match field("checksum") {
            "pseudo" => Checksum::Pseudo,
            "message" => Checksum::Message,
            other => panic!("{other}"),
        };
        Ok((advert, form))
    }
}

/// `key value` lines after an origin in `#` lines; see `tests/vectors/vrrp`.
fn vectors() -> Vec<Vector> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/vrrp");
    let mut vectors = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Origin: "), "{path:?} tells where it is from");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let fields: HashMap<String, String> = lines
            .map(|line| line.split_once(' ').unwrap())
            .map(|(key, value)| (key.into(), value.trim().into()))
            .collect();
        let digits: String = fields["bytes"].split_whitespace().collect();
        let bytes =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
        let carrier = Carrier {
            source: fields["source"].parse().unwrap(),
            destination: fields["destination"].parse().unwrap(),
            ttl: 255,
        };
        let mut name = String::new();
        write!(name, "{}", path.file_name().unwrap().display()).unwrap();
        vectors.push(Vector { name, carrier, bytes, fields });
    }
    vectors
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 7
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    fn address(&mut self, is_v6: bool) -> IpAddr {
        if is_v6 {
            IpAddr::from(std::array::from_fn::<u16, 8, _>(|_| self.next() as u16))
        } else {
            IpAddr::from(std::array::from_fn::<u8, 4, _>(|_| self.byte()))
        }
    }
}
