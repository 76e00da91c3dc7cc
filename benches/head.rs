//! What one request costs in the pure rooms: parse, route, decide, write the outgoing head; and the response likewise.
//! `cargo bench --bench head`; prints nanoseconds per operation, the best of several rounds.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

use lyre::config::settings::{Prefix, Route, Trust};
use lyre::policy::headers::{Backward, Onward, Origin, Scheme, write_request, write_response};
use lyre::policy::route::{check_depth, route};
use lyre::proto::http1::exchange::{Exchange, Framing, Step};
use lyre::proto::http1::{ChunkDecoder, Fields, Limits, Parsed, parse_request, parse_response};
use std::hint::black_box;
use std::time::Instant;

/// Firefox fetching a preview: 13 fields, 1.1 KiB.
const REQUEST: &[u8] = b"GET /index.php/core/preview?fileId=4711&x=250&y=250&a=true&etag=8f14e45fceea167a5a36dedd4bea2543 HTTP/1.1\r\n\
Host: cloud.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Connection: keep-alive\r\n\
Referer: https://cloud.example.com/index.php/apps/files/files?dir=/Photos\r\n\
Cookie: oc_sessionPassphrase=Q1h2b0tZbE5Jb2hKc3BQcXhQZ0RjT0V3ZkZuU1ZkTm9rR2xqT0FmU1pTb1JhVmVzdA%3D%3D; ocabcdefghij=0f3c1f0b7a0e4d6f8b2a9c5d7e1f3a5b; nc_username=alice; nc_token=6sYp3vK1fQ9mZx0cB7hL2dR5tU8wE4jA; nc_session_id=0f3c1f0b7a0e4d6f8b2a9c5d7e1f3a5b; nc_sameSiteCookielax=true; nc_sameSiteCookiestrict=true\r\n\
Sec-Fetch-Dest: image\r\n\
Sec-Fetch-Mode: no-cors\r\n\
Sec-Fetch-Site: same-origin\r\n\
If-None-Match: \"8f14e45fceea167a5a36dedd4bea2543\"\r\n\
Priority: u=5, i\r\n\r\n";

/// What Apache with PHP answers: 14 fields.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Date: Fri, 20 Nov 2026 12:00:00 GMT\r\n\
Server: Apache/2.4.62 (Debian)\r\n\
Expires: Thu, 19 Nov 1981 08:52:00 GMT\r\n\
Cache-Control: private, max-age=86400, must-revalidate\r\n\
X-Request-Id: 7mG3tq0bV1yYcJ2kLw8z\r\n\
Content-Security-Policy: default-src 'none';base-uri 'none';manifest-src 'self';frame-ancestors 'none'\r\n\
Feature-Policy: autoplay 'none';camera 'none';fullscreen 'none';geolocation 'none';microphone 'none';payment 'none'\r\n\
X-Robots-Tag: noindex, nofollow\r\n\
ETag: \"8f14e45fceea167a5a36dedd4bea2543\"\r\n\
Content-Disposition: inline; filename=\"preview.jpg\"\r\n\
Content-Length: 18231\r\n\
Keep-Alive: timeout=5, max=98\r\n\
Connection: Keep-Alive\r\n\
Content-Type: image/jpeg\r\n\r\n";

const CURL: &[u8] =
    b"GET /status.php HTTP/1.1\r\nHost: cloud.example.com\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";

fn main() {
    let (limits, trust) = (Limits::default(), Trust::default());
    let route_to = |path: &str, pool| Route {
        hosts: vec!["cloud.example.com".into()],
        path: path.into(),
        pool,
        prefix: Prefix::Kept,
    };
    let routes = [route_to("/push/", 1), route_to("/", 0)];
    let origin = Origin::new(([203, 0, 113, 9], 50_000).into(), Scheme::Https, 443, &trust);
    let mut fields = Fields::new();
    let mut out = Vec::with_capacity(4096);

    for (name, bytes) in [("browser request, 1.1 KiB", REQUEST), ("curl request, 91 B", CURL)] {
        measure(&format!("parse: {name}"), || {
            let Ok(Parsed::Done { consumed, .. }) = parse_request(black_box(bytes), &mut fields, &limits) else {
                panic!("valid")
            };
            consumed
        });
        measure(&format!("parse+route+emit: {name}"), || {
            let Ok(Parsed::Done { head, consumed }) = parse_request(black_box(bytes), &mut fields, &limits) else {
                panic!("valid")
            };
            check_depth(head.path()).unwrap();
            let pool = route(&routes, head.host(), head.path()).unwrap();
            let client = origin.client(&head, &trust);
            let onward = Onward {
                framing: Framing::of_request(head.body()),
                request_id: b"0123456789abcdef",
                forwards_expect: false,
                default_host: b"",
                rewrite: None,
            };
            out.clear();
            write_request(&mut out, &head, &origin, &client, &onward);
            consumed + pool + out.len()
        });
    }

    let mut request_fields = Fields::new();
    let Ok(Parsed::Done { head: request, .. }) = parse_request(REQUEST, &mut request_fields, &limits) else {
        panic!("valid")
    };
    measure("parse+judge+emit: response, 0.8 KiB", || {
        let Ok(Parsed::Done { head, consumed }) = parse_response(black_box(RESPONSE), &mut fields, &limits) else {
            panic!("valid")
        };
        let Ok(Step::Final(reply)) = Exchange::new(&request, true).response_head(&head) else { panic!("final") };
        out.clear();
        write_response(
            &mut out,
            &head,
            &Backward { reply, date: b"Fri, 20 Nov 2026 12:00:00 GMT", hsts: None, is_protected: false },
        );
        consumed + out.len()
    });

    let mut body = format!("{:x}\r\n", 8192).into_bytes();
    body.extend_from_slice(&[b'x'; 8192]);
    body.extend_from_slice(b"\r\n0\r\n\r\n");
    measure("decode: one 8 KiB chunk and the last", || {
        let mut decoder = ChunkDecoder::new();
        let mut rest = black_box(body.as_slice());
        let mut payload = 0;
        while !decoder.is_done() {
            let span = decoder.decode(rest).unwrap();
            payload += span.data.len();
            rest = &rest[span.consumed..];
        }
        payload
    });
}

/// Prints the best of many short rounds: the others were disturbed by something else.
fn measure(name: &str, mut operation: impl FnMut() -> usize) {
    const ROUNDS: usize = 400;
    const OPERATIONS: u32 = 2_000;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..OPERATIONS {
            black_box(operation());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(OPERATIONS));
    }
    println!("{name:44} {best:8.1} ns");
}
