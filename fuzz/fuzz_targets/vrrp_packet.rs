//! The advert decoder in every dialect, IPv4 header included; the same bytes also as an IPv6 payload. What decodes must
//! encode back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre_vrrp::packet::{Carrier, Dialect, Family, Password, Peer, Peers, Wire, ipv4};
use lyre_vrrp::params::Centis;
use std::net::IpAddr;

fuzz_target!(|bytes: &[u8]| {
    let link_local = Carrier { source: "fe80::1".parse().unwrap(), destination: Family::V6.group(), ttl: 255 };
    for dialect in dialects() {
        if let Ok((carrier, message)) = ipv4(bytes) {
            assert!(message.len() <= bytes.len());
            check(&dialect, message, &carrier);
        }
        check(&dialect, bytes, &link_local);
    }
});

fn dialects() -> [Dialect; 5] {
    let second = Centis::new(100).unwrap();
    let peer = Peer { address: IpAddr::from([10, 77, 0, 1]), ttl: 200..=255 };
    let password = Some(Password::new(b"12345678"));
    [
        Dialect::default(),
        Dialect { has_trailer: true, ..Dialect::default() },
        Dialect { peers: Peers::Unicast(vec![peer]), ..Dialect::default() },
        Dialect { wire: Wire::V2 { interval: second, password: None }, ..Dialect::default() },
        Dialect { wire: Wire::V2 { interval: second, password }, ..Dialect::default() },
    ]
}

fn check(dialect: &Dialect, message: &[u8], carrier: &Carrier) {
    let Ok(received) = dialect.decode(message, carrier) else { return };
    let advert = received.advert;
    assert!(!advert.addresses.is_empty());
    assert!(advert.addresses.iter().all(|address| Family::of(*address) == Family::of(carrier.source)));
    let encoded = dialect.encode(&advert, carrier.source, carrier.destination, received.checksum);
    let trailer_bytes = received.trailer.map_or(0, |trailer| trailer.len());
    assert_eq!(encoded.len() + trailer_bytes, message.len());
    assert_eq!(dialect.decode(&encoded, carrier).map(|again| again.advert), Ok(advert));
    // Ignored on receipt: the four reserved bits, and the authentication data of version 2 that has none. The
    // checksum over IPv6 covers the trailer, which is appended later.
    let is_v2_plain = matches!(dialect.wire, Wire::V2 { password: None, .. });
    if trailer_bytes == 0 && !is_v2_plain && (dialect.wire != Wire::V3 || message[4] & 0xf0 == 0) {
        assert_eq!(encoded, message);
    }
}
