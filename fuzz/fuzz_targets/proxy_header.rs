//! Any bytes as a PROXY header: the outcome must not depend on how they were cut, a header must lie within its bounds,
//! and writing what it says must give one that says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::proto::proxy_header::{HEADER_BYTES_MAX, Parsed, ProxyHeader, Version, parse, write};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    for end in 0..bytes.len().min(HEADER_BYTES_MAX) {
        match parse(&bytes[..end]) {
            Ok(Parsed::NeedMore) => {}
            decided => {
                assert_eq!(decided, whole);
                break;
            }
        }
    }
    match whole {
        Ok(Parsed::Done { header, consumed }) => {
            assert!(consumed <= bytes.len() && consumed <= HEADER_BYTES_MAX);
            check(header);
        }
        Ok(Parsed::NeedMore) => assert!(bytes.len() < HEADER_BYTES_MAX),
        Err(error) => assert!(!error.reason().is_empty()),
    }
});

fn check(header: ProxyHeader) {
    let canonical = |address: std::net::SocketAddr| (address.ip().to_canonical(), address.port());
    let ProxyHeader::Tcp { source, destination } = header else { return };
    for version in [Version::V1, Version::V2] {
        let mut out = Vec::new();
        write(&mut out, version, Some((source, destination)));
        let Ok(Parsed::Done { header: ProxyHeader::Tcp { source: s, destination: d }, consumed }) = parse(&out) else {
            panic!("{out:?}");
        };
        assert_eq!(consumed, out.len());
        assert_eq!((canonical(s), canonical(d)), (canonical(source), canonical(destination)));
    }
}
