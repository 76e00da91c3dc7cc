//! Everything that reads what rtnetlink answers: no bytes may panic, and what is found must lie within the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre_vrrp::link::linux::netlink::reply::{
    attributes, error_code, messages, read_assigned, read_change, read_interface,
};

fuzz_target!(|bytes: &[u8]| {
    let mut found = 0;
    for (header, body) in messages(bytes) {
        found += body.len();
        let _ = (read_change(header.kind, body), read_interface(body), error_code(body));
        if let Some((_, assigned)) = read_assigned(body) {
            assert!(assigned.network.prefix_len() <= assigned.network.max_prefix_len());
        }
    }
    assert!(found <= bytes.len());
    let values: usize = attributes(bytes).map(|(_, value)| value.len()).sum();
    assert!(values <= bytes.len());
});
