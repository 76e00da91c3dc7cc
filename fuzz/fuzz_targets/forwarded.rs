//! Any request head from a stranger, a trusted proxy and Cloudflare: who the client is, and what the server is told of
//! it, must be addresses, consistent with each other, and never a stranger's own words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::config::settings::Trust;
use lyre::policy::headers::{Onward, Origin, Rewrite, Scheme, write_request};
use lyre::proto::http1::exchange::Framing;
use lyre::proto::http1::{Fields, Limits, Parsed, parse_request};
use std::net::IpAddr;

fuzz_target!(|bytes: &[u8]| {
    let mut fields = Fields::new();
    let Ok(Parsed::Done { head, .. }) = parse_request(bytes, &mut fields, &Limits::default()) else { return };
    let cloudflare = vec!["104.16.0.0/13".parse().unwrap()];
    let trust = Trust {
        proxies: vec!["10.0.0.0/8".parse().unwrap(), "104.16.0.0/13".parse().unwrap()],
        cloudflare,
        ..Trust::default()
    };
    let elsewhere = Rewrite { target: (b"/app", b"/x"), host_suffix: b"/app" };
    let (stranger, proxy, cloudflare) = ([198, 51, 100, 7], [10, 0, 0, 1], [104, 16, 0, 1]);
    for (peer, rewrite) in [(stranger, None), (stranger, Some(elsewhere)), (proxy, None), (cloudflare, Some(elsewhere))] {
        let origin = Origin::new((peer, 50_000).into(), Scheme::Https, 443, &trust);
        let client = origin.client(&head, &trust);
        let onward = Onward {
            framing: Framing::of_request(head.body()),
            request_id: b"0",
            forwards_expect: false,
            default_host: b"x",
            rewrite,
        };
        let mut out = Vec::new();
        write_request(&mut out, &head, &origin, &client, &onward);
        check(&out, peer.into(), client.address, origin.is_trusted);
    }
});

fn check(out: &[u8], peer: IpAddr, client: IpAddr, is_trusted: bool) {
    let value = |name: &str| {
        let is_named =
            |line: &&[u8]| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes());
        let mut lines = out.split(|byte| *byte == b'\n').filter(is_named);
        let line = lines.next().unwrap();
        assert!(lines.next().is_none(), "{name} twice");
        std::str::from_utf8(line[name.len()..].trim_ascii()).unwrap().to_owned()
    };
    assert!(is_trusted || client == peer);
    assert_eq!(value("x-real-ip:").parse::<IpAddr>().unwrap(), client);
    let chain = value("x-forwarded-for:");
    let chain: Vec<IpAddr> = chain.split(", ").map(|element| element.parse().unwrap()).collect();
    assert_eq!((chain.first(), chain.last()), (Some(&client), Some(&peer)));
    assert!(is_trusted || chain.len() == 1);
}
