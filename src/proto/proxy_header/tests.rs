use super::*;

const VECTORS: &str = include_str!("../../../tests/vectors/proxy_header/headers.txt");

fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let lines = VECTORS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let case = |line: &'static str| {
        let mut parts = line.splitn(3, " | ");
        let mut part = || parts.next().unwrap_or_else(|| panic!("{line}"));
        (part().trim(), bytes(part()), part().trim())
    };
    lines.map(case).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '{' {
            let (inside, after) = rest[1..].split_once('}').unwrap();
            let (count, piece) = inside.split_once('*').unwrap();
            out.extend(bytes(piece).repeat(count.parse().unwrap()));
            rest = after;
        } else if first == '\\' {
            let (byte, length) = match rest.as_bytes()[1] {
                b'r' => (b'\r', 2),
                b'n' => (b'\n', 2),
                b't' => (b'\t', 2),
                b'0' => (0, 2),
                b'\\' => (b'\\', 2),
                b'x' => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
                other => panic!("{other}"),
            };
            out.push(byte);
            rest = &rest[length..];
        } else {
            out.push(first as u8);
            rest = &rest[1..];
        }
    }
    out
}

fn outcome(parsed: Result<Parsed, ProxyHeaderError>) -> String {
    match parsed {
        Ok(Parsed::NeedMore) => "more".to_owned(),
        Ok(Parsed::Done { header: ProxyHeader::Local, .. }) => "local".to_owned(),
        Ok(Parsed::Done { header: ProxyHeader::Unknown, .. }) => "unknown".to_owned(),
        Ok(Parsed::Done { header: ProxyHeader::Tcp { source, destination }, .. }) => {
            format!("tcp {source} {destination}")
        }
        Err(error) => format!("error {}", error.reason()),
    }
}

#[test]
fn every_vector_is_what_it_says() {
    for (name, bytes, expected) in cases() {
        let parsed = parse(&bytes);
        assert_eq!(outcome(parsed), expected, "{name}");
        if let Ok(Parsed::Done { consumed, .. }) = parsed {
            let rest = &bytes[consumed..];
            assert!(rest.is_empty() || rest == b"rest", "{name}: {rest:?}");
        }
    }
}

#[test]
fn a_cut_header_needs_more_and_an_error_never_turns_back() {
    for (name, bytes, _) in cases() {
        let whole = parse(&bytes);
        let consumed = if let Ok(Parsed::Done { consumed, .. }) = whole { consumed } else { bytes.len() };
        let mut has_failed = false;
        for end in 0..bytes.len() {
            match parse(&bytes[..end]) {
                Ok(Parsed::NeedMore) => assert!(!has_failed && end < consumed, "{name} at {end}"),
                Ok(done) => assert!(end >= consumed && Ok(done) == whole, "{name} at {end}"),
                Err(error) => {
                    has_failed = true;
                    assert_eq!(Err(error), whole, "{name} at {end}");
                }
            }
        }
    }
}

#[test]
fn every_rule_has_a_vector_that_breaks_it() {
    for error in ProxyHeaderError::ALL {
        let expected = format!("error {}", error.reason());
        assert!(cases().iter().any(|case| case.2 == expected), "{expected}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn what_is_written_reads_the_same() {
    let v4: SocketAddr = "192.0.2.7:51234".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::7]:443".parse().unwrap();
    let mapped = |address: &str| -> SocketAddr { address.parse().unwrap() };
    let pairs = [
        (v4, v4, v4, v4),
        (v6, v6, v6, v6),
        (v4, v6, mapped("[::ffff:192.0.2.7]:51234"), v6),
        (v6, v4, v6, mapped("[::ffff:192.0.2.7]:51234")),
        (mapped("[::ffff:192.0.2.7]:51234"), v4, v4, v4),
    ];
    for version in [Version::V1, Version::V2] {
        for (source, destination, read_source, read_destination) in pairs {
            let mut out = Vec::new();
            write(&mut out, version, Some((source, destination)));
            let header = ProxyHeader::Tcp { source: read_source, destination: read_destination };
            assert_eq!(parse(&out), Ok(Parsed::Done { header, consumed: out.len() }), "{version:?} {source}");
        }
    }
}

#[test]
fn a_header_without_endpoints_names_nobody() {
    for (version, expected) in [(Version::V1, ProxyHeader::Unknown), (Version::V2, ProxyHeader::Local)] {
        let mut out = Vec::new();
        write(&mut out, version, None);
        assert_eq!(parse(&out), Ok(Parsed::Done { header: expected, consumed: out.len() }));
        assert_eq!((expected.source(), expected.destination()), (None, None));
    }
}

#[test]
fn the_longest_line_fits_its_bound() {
    let widest: SocketAddr = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
    let mut out = Vec::new();
    write(&mut out, Version::V1, Some((widest, widest)));
    assert!(out.len() <= LINE_BYTES_MAX);
    assert!(matches!(parse(&out), Ok(Parsed::Done { .. })));
}

#[test]
fn reading_what_is_missing_never_reads_beyond_the_header() {
    for (name, bytes, _) in cases() {
        let mut end = 0;
        let decided = loop {
            end += bytes_missing(&bytes[..end]);
            assert!(end <= HEADER_BYTES_MAX, "{name}");
            match bytes.get(..end).map(parse) {
                Some(Ok(Parsed::NeedMore)) => {}
                decided => break decided,
            }
        };
        match decided {
            Some(Ok(Parsed::Done { consumed, .. })) => assert_eq!(end, consumed, "{name}"),
            Some(Err(error)) => assert_eq!(Err(error), parse(&bytes), "{name}"),
            // It was cut, or has fewer words than a line must have.
            _ => assert!(!matches!(parse(&bytes), Ok(Parsed::Done { .. })), "{name}"),
        }
    }
}

#[test]
fn damaged_headers_never_panic_and_cuts_agree() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let cases = cases();
    for _ in 0..20_000 {
        let mut bytes = cases[random.usize(..cases.len())].1.clone();
        for _ in 0..random.usize(0..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = if random.bool() { random.u8(..) } else { b" .:\r\n\x21\x11"[random.usize(..7)] };
        }
        let whole = parse(&bytes);
        let cut = random.usize(..=bytes.len());
        match parse(&bytes[..cut]) {
            Ok(Parsed::NeedMore) => {}
            decided => assert_eq!(decided, whole, "seed {seed}: {bytes:?} at {cut}"),
        }
        if let Ok(Parsed::Done { header: ProxyHeader::Tcp { source, destination }, consumed }) = whole {
            assert!(consumed <= bytes.len());
            let mut out = Vec::new();
            write(&mut out, Version::V2, Some((source, destination)));
            let Ok(Parsed::Done { header, .. }) = parse(&out) else { panic!("seed {seed}: {out:?}") };
            assert_eq!(header.source().map(|s| s.ip().to_canonical()), Some(source.ip().to_canonical()));
        }
    }
}
