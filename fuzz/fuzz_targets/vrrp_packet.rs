//! The advert decoder, IPv4 header included; the same bytes also as an IPv6 payload. What decodes must encode back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre_vrrp::packet::{Carrier, Family, decode, ipv4};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((carrier, message)) = ipv4(bytes) {
        assert!(message.len() <= bytes.len());
        check(message, &carrier);
    }
    let link_local = Carrier { source: "fe80::1".parse().unwrap(), destination: Family::V6.group(), ttl: 255 };
    check(bytes, &link_local);
});

fn check(message: &[u8], carrier: &Carrier) {
    let Ok((advert, form)) = decode(message, carrier) else { return };
    assert!(!advert.addresses.is_empty());
    assert!(advert.addresses.iter().all(|address| Family::of(*address) == Family::of(carrier.source)));
    let encoded = advert.encode(carrier.source, carrier.destination, form);
    assert_eq!(encoded.len(), message.len());
    assert_eq!(decode(&encoded, carrier).map(|(again, _)| again), Ok(advert));
    // The four reserved bits are ignored on receipt and zero when sent; nothing else may differ.
    if message[4] & 0xf0 == 0 {
        assert_eq!(encoded, message);
    }
}
