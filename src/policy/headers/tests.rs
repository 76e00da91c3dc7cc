use super::*;
use crate::proto::http1::{BodyLength, Fields, Limits, Method, Parsed, Version, parse_request, parse_response};

fn trust(nets: &[&str]) -> Trust {
    Trust { proxies: nets.iter().map(|net| net.parse().unwrap()).collect(), ..Trust::default() }
}

/// The head `request` (without its empty line) turns into, and the client it is attributed to.
fn forward(request: &str, peer: &str, trusted: &[&str]) -> (String, Client, Dropped) {
    forward_by(&trust(trusted), request, peer)
}

fn forward_by(trust: &Trust, request: &str, peer: &str) -> (String, Client, Dropped) {
    let origin = Origin::new(SocketAddr::new(peer.parse().unwrap(), 50_000), Scheme::Https, 443, trust);
    let text = format!("{request}\r\n");
    let mut fields = Fields::new();
    let Ok(Parsed::Done { head, .. }) = parse_request(text.as_bytes(), &mut fields, &Limits::default()) else {
        panic!("valid request expected: {request}")
    };
    let client = origin.client(&head, trust);
    let onward = Onward {
        framing: Framing::of_request(head.body()),
        request_id: origin.request_id(&head, b"ours"),
        forwards_expect: false,
        default_host: b"default.example",
        rewrite: None,
    };
    let mut out = Vec::new();
    let dropped = write_request(&mut out, &head, &origin, &client, &onward);
    (String::from_utf8(out).unwrap(), client, dropped)
}

fn lines<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines().filter_map(|line| line.split_once(": ")).filter(|(n, _)| *n == name).map(|(_, value)| value).collect()
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: cloud.example.com:8443\r\n";

#[test]
fn an_untrusted_peer_is_the_client_whatever_it_claims() {
    let request = format!(
        "{GET}X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\nX-Real-IP: 10.0.0.3\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Request-Id: theirs\r\nForwarded: for=1.1.1.1\r\n\
         True-Client-IP: 1.1.1.1\r\nX-Forwarded-Server: x\r\n"
    );
    let (head, client, dropped) = forward(&request, "198.51.100.7", &[]);
    assert_eq!(client.address.to_string(), "198.51.100.7");
    assert_eq!(lines(&head, "X-Forwarded-For"), ["198.51.100.7"]);
    assert_eq!(lines(&head, "X-Real-IP"), ["198.51.100.7"]);
    assert_eq!(lines(&head, "X-Forwarded-Proto"), ["https"]);
    assert_eq!(lines(&head, "X-Forwarded-Host"), ["cloud.example.com:8443"]);
    assert_eq!(lines(&head, "X-Forwarded-Port"), ["443"]);
    assert_eq!(lines(&head, "X-Request-Id"), ["ours"]);
    assert!(!head.contains("1.1.1.1") && !head.contains("evil") && !head.contains("theirs"));
    assert_eq!(dropped, Dropped { unusual: 0, spoofed: 10 });
}

#[test]
fn behind_trusted_peers_the_client_is_the_first_stranger_from_the_right() {
    for (received, peer, client, sent) in [
        // One proxy, honest or appending to a lie.
        ("198.51.100.7", "10.0.0.1", "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        ("1.2.3.4, 198.51.100.7", "10.0.0.1", "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        // Two proxies.
        ("1.2.3.4, 198.51.100.7, 10.0.0.2", "10.0.0.1", "198.51.100.7", "198.51.100.7, 10.0.0.2, 10.0.0.1"),
        // All trusted: the leftmost.
        ("10.0.0.3, 10.0.0.2", "10.0.0.1", "10.0.0.3", "10.0.0.3, 10.0.0.2, 10.0.0.1"),
        // Ports and brackets are understood and removed.
        ("198.51.100.7:4711", "10.0.0.1", "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        ("[2001:db8::7]:4711, 10.0.0.2", "10.0.0.1", "2001:db8::7", "2001:db8::7, 10.0.0.2, 10.0.0.1"),
        ("::ffff:198.51.100.7", "10.0.0.1", "198.51.100.7", "198.51.100.7, 10.0.0.1"),
        // What nobody can read was not written by a proxy.
        ("198.51.100.7, unknown, 10.0.0.2", "10.0.0.1", "10.0.0.2", "10.0.0.2, 10.0.0.1"),
        ("198.51.100.7, ", "10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("_hidden", "10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("198.51.100.7:http", "10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("", "10.0.0.1", "10.0.0.1", "10.0.0.1"),
        // The notify_push self-test: a web node's daemon supplies one address.
        ("1.2.3.4", "10.0.0.21", "1.2.3.4", "1.2.3.4, 10.0.0.21"),
    ] {
        let request = format!("{GET}X-Forwarded-For: {received}\r\n");
        let (head, found, _) = forward(&request, peer, &["10.0.0.0/8"]);
        assert_eq!(found.address.to_string(), client, "{received}");
        assert_eq!(lines(&head, "X-Forwarded-For"), [sent], "{received}");
        assert_eq!(lines(&head, "X-Real-IP"), [client], "{received}");
    }
}

/// As the configuration reader makes it of `trusted_proxies = ["cloudflare", "10.0.0.0/8"]`.
fn behind_cloudflare() -> Trust {
    let cloudflare: Vec<_> =
        ["104.16.0.0/13", "104.24.0.0/14", "2606:4700::/32"].map(|net| net.parse().unwrap()).into();
    let proxies = cloudflare.iter().copied().chain(["10.0.0.0/8".parse().unwrap()]).collect();
    Trust { proxies, cloudflare, ..Trust::default() }
}

#[test]
fn cf_connecting_ip_names_the_client_when_cloudflare_says_so() {
    let trust = behind_cloudflare();
    for (peer, fields, client, sent) in [
        ("104.16.1.1", "CF-Connecting-IP: 198.51.100.7\r\n", "198.51.100.7", "198.51.100.7, 104.16.1.1"),
        ("2606:4700::1", "CF-Connecting-IP: 2001:db8::7\r\n", "2001:db8::7", "2001:db8::7, 2606:4700::1"),
        // Cloudflare appends to what the client made up; its own field cannot be made up.
        (
            "104.16.1.1",
            "X-Forwarded-For: 1.2.3.4, 198.51.100.7\r\nCF-Connecting-IP: 198.51.100.7\r\n",
            "198.51.100.7",
            "198.51.100.7, 104.16.1.1",
        ),
        // Without it, it is a proxy like others.
        ("104.16.1.1", "X-Forwarded-For: 198.51.100.7\r\n", "198.51.100.7", "198.51.100.7, 104.16.1.1"),
    ] {
        let (head, found, _) = forward_by(&trust, &format!("{GET}{fields}"), peer);
        assert_eq!(found.address.to_string(), client, "{fields}");
        assert_eq!(lines(&head, "X-Forwarded-For"), [sent], "{fields}");
        assert_eq!(lines(&head, "X-Real-IP"), [client], "{fields}");
        assert_eq!(lines(&head, "CF-Connecting-IP").len(), fields.matches("CF-").count(), "{fields}");
    }
}

#[test]
fn cf_connecting_ip_of_anybody_else_is_dropped_and_names_nobody() {
    let trust = behind_cloudflare();
    let cf = "CF-Connecting-IP: 1.2.3.4\r\n";
    // A stranger, an address that was Cloudflare's once, and a trusted proxy that lets its clients' fields through.
    for peer in ["198.51.100.7", "104.28.0.1", "10.0.0.1"] {
        let (head, client, dropped) = forward_by(&trust, &format!("{GET}{cf}"), peer);
        assert_eq!(client.address.to_string(), peer);
        assert!(!head.contains("1.2.3.4"), "{head}");
        assert_eq!(dropped.spoofed, 1, "{peer}");
    }
    // Two of them, or no address: not what Cloudflare sends.
    for fields in [format!("{cf}{cf}"), "CF-Connecting-IP: 1.2.3.4, 5.6.7.8\r\n".to_owned()] {
        let (head, client, _) = forward_by(&trust, &format!("{GET}{fields}"), "104.16.1.1");
        assert_eq!(client.address.to_string(), "104.16.1.1");
        assert!(!head.contains("1.2.3.4"), "{head}");
    }
}

#[test]
fn names_for_the_client_that_nobody_continues_pass_from_no_peer() {
    let request = format!(
        "{GET}True-Client-IP: 1.2.3.4\r\nX-Client-IP: 1.2.3.4\r\nX-Cluster-Client-IP: 1.2.3.4\r\nFastly-Client-IP: 1.2.3.4\r\n\
         CF-Connecting-IPv6: 1.2.3.4\r\nCF-Pseudo-IPv4: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\n\
         X_Real_IP: 1.2.3.4\r\n"
    );
    for peer in ["198.51.100.7", "10.0.0.1", "104.16.1.1"] {
        let (head, client, _) = forward_by(&behind_cloudflare(), &request, peer);
        assert_eq!(client.address.to_string(), peer);
        assert!(!head.contains("1.2.3.4"), "{peer}: {head}");
    }
}

#[test]
fn notify_push_is_appended_to_without_being_named_a_proxy() {
    let trust = Trust {
        services: vec!["10.0.0.21".parse().unwrap()],
        own: vec!["10.0.0.11".parse().unwrap()],
        ..Trust::default()
    };
    for (received, peer, client, sent) in [
        // Its self-test: the address it makes up has to arrive.
        ("1.2.3.4", "10.0.0.21", "1.2.3.4", "1.2.3.4, 10.0.0.21"),
        // Its question for a client that logged in: the chain we gave it, and us as its peer.
        ("198.51.100.7, 10.0.0.11", "10.0.0.21", "198.51.100.7", "198.51.100.7, 10.0.0.11, 10.0.0.21"),
        ("9.9.9.9, 198.51.100.7, 10.0.0.11", "10.0.0.21", "198.51.100.7", "198.51.100.7, 10.0.0.11, 10.0.0.21"),
        // Who is no service says nothing, a node's own address included.
        ("1.2.3.4", "10.0.0.22", "10.0.0.22", "10.0.0.22"),
        ("1.2.3.4", "10.0.0.11", "10.0.0.11", "10.0.0.11"),
    ] {
        let request = format!("{GET}X-Forwarded-For: {received}\r\n");
        let (head, found, _) = forward_by(&trust, &request, peer);
        assert_eq!(found.address.to_string(), client, "{received} by {peer}");
        assert_eq!(lines(&head, "X-Forwarded-For"), [sent], "{received} by {peer}");
    }
}

#[test]
fn several_lines_of_addresses_are_one_list() {
    let request = format!(
        "{GET}X-Forwarded-For: 1.2.3.4, 198.51.100.7\r\nAccept: */*\r\nX-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n"
    );
    let (head, client, _) = forward(&request, "10.0.0.1", &["10.0.0.0/8"]);
    assert_eq!(client.address.to_string(), "198.51.100.7");
    assert_eq!(lines(&head, "X-Forwarded-For"), ["198.51.100.7, 10.0.0.3, 10.0.0.2, 10.0.0.1"]);
}

#[test]
fn no_forwarding_field_at_all_from_a_trusted_peer_means_the_peer() {
    let (head, client, dropped) = forward(GET, "10.0.0.1", &["10.0.0.0/8"]);
    assert_eq!(client.address.to_string(), "10.0.0.1");
    assert_eq!(lines(&head, "X-Forwarded-For"), ["10.0.0.1"]);
    assert_eq!(lines(&head, "X-Forwarded-Proto"), ["https"]);
    assert_eq!(dropped, Dropped::default());
}

#[test]
fn a_trusted_peers_scheme_host_port_and_id_go_on_when_they_make_sense() {
    let claim = |name: &str, value: &str| {
        let (head, ..) = forward(&format!("{GET}{name}: {value}\r\n"), "10.0.0.1", &["10.0.0.0/8"]);
        let all = ["X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Request-Id"];
        all.map(|name| lines(&head, name).join("|")).join(" ")
    };
    let own = "https cloud.example.com:8443 443 ours";
    assert_eq!(claim("X-Forwarded-Proto", "http"), "http cloud.example.com:8443 80 ours");
    assert_eq!(claim("X-Forwarded-Proto", "http, https"), own);
    assert_eq!(claim("X-Forwarded-Proto", "gopher"), own);
    assert_eq!(claim("X-Forwarded-Host", "a, b.example"), "https b.example 443 ours");
    assert_eq!(claim("X-Forwarded-Host", "a/b"), own);
    assert_eq!(claim("X-Forwarded-Port", "8443"), "https cloud.example.com:8443 8443 ours");
    assert_eq!(claim("X-Forwarded-Port", "70000"), own);
    assert_eq!(claim("X-Request-Id", "abc-123"), "https cloud.example.com:8443 443 abc-123");
    assert_eq!(claim("X-Request-Id", "a b"), own);
    assert_eq!(claim("X-Request-Id", &"a".repeat(129)), own);
}

#[test]
fn an_ipv4_peer_on_an_ipv6_socket_is_ipv4() {
    let (head, client, _) = forward(GET, "::ffff:198.51.100.7", &[]);
    assert_eq!(client.address.to_string(), "198.51.100.7");
    assert_eq!(lines(&head, "X-Forwarded-For"), ["198.51.100.7"]);
    let (head, ..) = forward(GET, "2001:db8:1111:2222:3333:4444:5555:6666", &[]);
    assert_eq!(lines(&head, "X-Real-IP"), ["2001:db8:1111:2222:3333:4444:5555:6666"]);
    let request = format!("{GET}X-Forwarded-For: 198.51.100.7\r\n");
    let (_, client, _) = forward(&request, "::ffff:10.0.0.1", &["10.0.0.0/8"]);
    assert_eq!(client.address.to_string(), "198.51.100.7");
}

#[test]
fn fields_nextcloud_needs_pass_untouched_and_in_order() {
    let passing = "Destination: https://cloud.example.com/remote.php/dav/files/u/%C3%A4\r\n\
                   If: (<opaquelocktoken:abc>)\r\nDepth: infinity\r\nOverwrite: F\r\nLock-Token: <x>\r\nTimeout: Second-60\r\n\
                   OC-Checksum: SHA1:abc\r\nX-OC-Mtime: 1\r\nOC-Total-Length: 5\r\nrequesttoken: t\r\nOCS-APIRequest: true\r\n\
                   Authorization: Basic eDp5\r\nAUTHORIZATION-APP-API: z\r\nEX-APP-ID: a\r\nCookie: a=1\r\nCookie: b=2\r\n\
                   X-Expected-Entity-Length: 7\r\n";
    let (head, _, dropped) = forward(&format!("{GET}{passing}"), "198.51.100.7", &[]);
    assert!(head.contains(passing), "{head}");
    assert_eq!(dropped, Dropped::default());
}

#[test]
fn odd_spacing_is_written_canonically() {
    let (head, ..) = forward(&format!("{GET}A:x\r\nB:  y\r\nC: z \t\r\nD:\r\nE: \r\n"), "198.51.100.7", &[]);
    assert!(head.contains("\r\nA: x\r\nB: y\r\nC: z\r\nD: \r\nE: \r\n"), "{head}");
}

#[test]
fn host_goes_on_unchanged_or_from_the_target_or_by_default() {
    assert_eq!(lines(&forward(GET, "198.51.100.7", &[]).0, "Host"), ["cloud.example.com:8443"]);
    assert_eq!(lines(&forward("GET http://b:81/x HTTP/1.0\r\n", "198.51.100.7", &[]).0, "Host"), ["b:81"]);
    assert_eq!(lines(&forward("GET /x HTTP/1.0\r\n", "198.51.100.7", &[]).0, "Host"), ["default.example"]);
}

#[test]
fn via_is_added_and_twice_ours_is_a_loop() {
    let (head, ..) = forward(&format!("{GET}Via: 1.0 fred, 1.1 p.example\r\n"), "198.51.100.7", &[]);
    assert_eq!(lines(&head, "Via"), ["1.0 fred, 1.1 p.example", "1.1 lyre"]);
    for (via, looped) in [
        ("Via: 1.1 lyre\r\n", false),
        ("Via: 1.1 lyre, 1.1 lyre (again)\r\n", true),
        ("Via: 1.1 lyre\r\nVia: 1.1 other, 1.1 LYRE\r\n", true),
        ("Via: 1.1 lyrebird, 1.1 lyrebird\r\n", false),
        ("Via: lyre, lyre\r\n", false),
    ] {
        let text = format!("{GET}{via}\r\n");
        let mut fields = Fields::new();
        let Ok(Parsed::Done { head, .. }) = parse_request(text.as_bytes(), &mut fields, &Limits::default()) else {
            panic!("valid request expected")
        };
        assert_eq!(is_loop(&head), looped, "{via}");
    }
}

/// The head `response` (without its empty line) turns into for a GET.
fn back(response: &str, persistence: Persistence, sent: Framing, hsts: Option<&[u8]>) -> String {
    let text = format!("{response}\r\n");
    let mut fields = Fields::new();
    let Ok(Parsed::Done { head, .. }) = parse_response(text.as_bytes(), &mut fields, &Limits::default()) else {
        panic!("valid response expected: {response}")
    };
    let reply = Reply { received: BodyLength::None, sent, takes_trailers: false, persistence };
    let mut out = Vec::new();
    write_response(&mut out, &head, &Backward { reply, date: b"now", hsts, is_protected: false });
    String::from_utf8(out).unwrap()
}

#[test]
fn responses_lose_connection_matters_and_get_their_framing_from_us() {
    let response = "HTTP/1.1 200 Fine\r\nDate: then\r\nConnection: X-Drop, keep-alive\r\nKeep-Alive: timeout=5\r\nX-Drop: 1\r\n\
                    Content-Length: 3\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nProxy-Authenticate: Basic\r\n\
                    Set-Cookie: a=1; Secure\r\nSet-Cookie: b=2\r\nETag: \"x\"\r\nX_Under: kept\r\n";
    let head = back(response, Persistence::Implied, Framing::Chunked, None);
    let expected = "HTTP/1.1 200 Fine\r\nDate: then\r\nSet-Cookie: a=1; Secure\r\nSet-Cookie: b=2\r\nETag: \"x\"\r\n\
                    X_Under: kept\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head, expected);
}

#[test]
fn date_persistence_and_hsts_are_added() {
    let bare = "HTTP/1.0 200 OK\r\n";
    let head = back(bare, Persistence::Close, Framing::UntilClose, None);
    assert_eq!(head, "HTTP/1.1 200 OK\r\nDate: now\r\nConnection: close\r\n\r\n");
    let head = back(bare, Persistence::KeepAlive, Framing::Length(0), None);
    assert_eq!(head, "HTTP/1.1 200 OK\r\nDate: now\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n");
    let response = "HTTP/1.1 200 OK\r\nDate: d\r\nStrict-Transport-Security: max-age=1\r\n";
    let head = back(response, Persistence::Implied, Framing::Declared(9), Some(b"max-age=2"));
    let expected = "HTTP/1.1 200 OK\r\nDate: d\r\nStrict-Transport-Security: max-age=2\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(head, expected);
}

#[test]
fn interim_and_switching_responses_carry_no_framing() {
    let mut fields = Fields::new();
    let mut written = |text: &str, write: fn(&mut Vec<u8>, &ResponseHead<'_>)| {
        let Ok(Parsed::Done { head, .. }) = parse_response(text.as_bytes(), &mut fields, &Limits::default()) else {
            panic!("valid response expected")
        };
        let mut out = Vec::new();
        write(&mut out, &head);
        String::from_utf8(out).unwrap()
    };
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(written(hints, write_interim), "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    let switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: upgrade\r\nSec-WebSocket-Accept: k\r\n\r\n";
    let expected = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(written(switching, write_upgrade), expected);
}

/// Random valid requests survive parse, rewrite, parse: what must not change does not.
#[test]
fn what_is_forwarded_reads_as_what_was_received() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..5_000 {
        let (text, expected) = random_request(&mut random);
        let (head, ..) = forward(&text, "198.51.100.7", &[]);
        let mut fields = Fields::new();
        let Ok(Parsed::Done { head: parsed, consumed }) =
            parse_request(head.as_bytes(), &mut fields, &Limits::default())
        else {
            panic!("not our own grammar: {head}")
        };
        assert_eq!(consumed, head.len());
        assert_eq!(parsed.version(), Version::Http11);
        assert_eq!(parsed.method(), Method::classify(parsed.method_bytes()));
        assert_eq!((parsed.method_bytes(), parsed.target()), (expected.method.as_bytes(), expected.target.as_bytes()));
        assert_eq!(parsed.body(), expected.body, "{text}");
        let kept: Vec<(String, String)> = parsed
            .fields()
            .filter(|line| line.name() == Name::Other)
            .map(|line| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (text(line.name_bytes()), text(line.value()))
            })
            .collect();
        assert_eq!(kept, expected.fields, "{text}");
    }
}

struct Expected {
    method: String,
    target: String,
    body: BodyLength,
    fields: Vec<(String, String)>,
}

fn random_request(random: &mut fastrand::Rng) -> (String, Expected) {
    let mut text_of = |alphabet: &str, min: usize, max: usize| -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..random.usize(min..=max)).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
    };
    let method = text_of("ABCXYZ!#$%&'*+.^_`|~-9", 1, 32);
    let target = format!("/{}", text_of("abc/%2Fe.?=&;:@!$'()*+,|{}\"<>^`[]~", 0, 60));
    let mut fields = Vec::new();
    for _ in 0..text_of("x", 0, 20).len() {
        let name = format!("q{}", text_of("abcXYZ-09", 0, 12));
        let value = text_of("abc \t,;=\"\\()<>{}~!%", 0, 30).trim_matches([' ', '\t']).to_string();
        fields.push((name, value));
    }
    let body = match text_of("x", 0, 2).len() {
        0 => BodyLength::None,
        1 => BodyLength::Length(text_of("x", 0, 500).len() as u64),
        _ => BodyLength::Chunked,
    };
    let spaces = text_of(" \t", 0, 3);
    let mut text = format!("{method} {target} HTTP/1.1\r\nhOsT:{spaces}a\r\n");
    for (name, value) in &fields {
        text += &format!("{name}:{spaces}{value}{spaces}\r\n");
    }
    match body {
        BodyLength::Length(length) => text += &format!("content-LENGTH: 00{length}\r\n"),
        BodyLength::Chunked => text += "TRANSFER-encoding: ChUnKeD\r\n",
        BodyLength::None | BodyLength::UntilClose => {}
    }
    (text, Expected { method, target, body, fields })
}

#[test]
fn trailers_that_frame_route_or_authenticate_end_here() {
    let lines = b"X-Sum:  42 \r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nHost: a\r\nAuthorization: x\r\n\
                  Set-Cookie: a=b\r\nCookie: a\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\nX_Odd: 1\r\n\
                  content-type: a/b\r\nCache-Control: no-store\r\nConnection: x\r\nServer-Timing: a;dur=1\r\n";
    let mut out = Vec::new();
    write_trailers(&mut out, lines);
    assert_eq!(String::from_utf8(out).unwrap(), "X-Sum: 42\r\nServer-Timing: a;dur=1\r\n");
}

#[test]
fn only_a_plain_te_trailers_goes_on() {
    for (te, expected) in [("TE: trailers\r\n", true), ("TE: Trailers\r\n", true), ("TE: gzip\r\n", false), ("", false)]
    {
        let (head, ..) = forward(&format!("{GET}{te}"), "198.51.100.7", &[]);
        assert_eq!(head.contains("TE: trailers\r\n"), expected, "{te:?}");
    }
}
