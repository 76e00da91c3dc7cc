use super::*;

fn matches(pattern: &str, path: &str) -> bool {
    compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}")).is_match(path.as_bytes())
}

#[test]
fn patterns_are_bound_to_the_start_and_not_to_the_end() {
    for (pattern, path) in [
        (".*", ""),
        (".*", "/anything"),
        ("^/public$", "/public"),
        ("^/public", "/publicity"),
        ("^/$", "/"),
        ("^/mcp/?$", "/mcp/"),
        (r"^/\.well-known/", "/.well-known/x"),
        ("^/viewer/.*$", "/viewer/a/b"),
        ("^/operator/jobs/[^/]+/stop$", "/operator/jobs/17/stop"),
        ("^/dl/[A-Za-z0-9_-]{20,128}$", "/dl/abcdefghij_klmnop-qrst"),
        (r"\/img\/.*", "/img/x"),
        ("/a|/b", "/bc"),
        (r"/x\Z", "/x"),
        ("(?P<id>/[0-9]+)", "/12/x"),
        ("(?i)/Admin", "/aDMIN"),
        ("/(?i:b)c", "/Bc"),
        ("/a{2}", "/aa"),
        ("/a{,2}$", "/"),
        ("/(?#a remark)b", "/b"),
    ] {
        assert!(matches(pattern, path), "{pattern} {path}");
    }
    for (pattern, path) in [
        ("public", "/public"),
        ("^/$", "/x"),
        ("/b|c", "/x/b"),
        ("a|/b", "x/b"),
        ("^/PUBLIC", "/public"),
        ("^/public$", "/publicX"),
        (r"^api\/w\/nextcloud\/jobs\/.*", "/api/w/nextcloud/jobs/1"),
        ("/(?i:b)c", "/bC"),
        ("^/dl/[a-z]{3}$", "/dl/abcd"),
    ] {
        assert!(!matches(pattern, path), "{pattern} {path}");
    }
}

#[test]
fn what_the_dialects_read_differently_is_read_as_python_does() {
    for (pattern, path) in [
        ("/a{x}", "/a{x}"),
        ("/{}", "/{}"),
        ("/a{1,x}", "/a{1,x}"),
        ("/[[]", "/["),
        ("/[]a]+$", "/]a"),
        ("/[a&&b]+$", "/&a"),
        ("/[a~~b]+$", "/~"),
        ("/[+--]", "/,"),
        ("/[a-]$", "/-"),
        (r"/\<x\>", "/<x>"),
        (r"/[\w.-]+$", "/a.b-c"),
        (r"/\_\-\#\ ", "/_-# "),
        (r"/\x41\u0042\103", "/ABC"),
        (r"/\0", "/\0"),
        ("/é+$", "/éé"),
        ("/[^/]+$", "/\u{e9}"),
    ] {
        assert!(matches(pattern, path), "{pattern} {path}");
    }
    assert!(!matches("/[a&&b]$", "/c"));
    assert!(!matches(r"/\<x", "/x"));
}

#[test]
fn what_python_refuses_matches_nothing() {
    for pattern in [
        "(", ")", "a)", "[a", "[]", "[^]", "*a", "a**", "a|*", "^*", r"\b+", r"a\", r"\q", r"\p{L}", r"\z", "[b-a]",
        r"[\w-a]", r"\x4", "a{2,1}", "(?<n>a)", "(?P<1>a)", "(?P<n", "(?Z)", "a(?i)", "(?i", "{3}", "(?#", r"[\q]",
        "(?-i)a", "(?i-:a)",
    ] {
        assert!(matches!(compile(pattern), Err(Unusable::Broken(_))), "{pattern}: {:?}", compile(pattern));
    }
}

#[test]
fn what_has_no_linear_counterpart_says_so() {
    for pattern in [
        "(?=a)",
        "(?!a)b",
        "(?<=a)b",
        "(?<!a)b",
        r"(a)\1",
        "(?P<n>a)(?P=n)",
        "a++",
        "a?+",
        "(?>a)",
        "(a)(?(1)b)",
        "(?x)a",
        "[é]",
        "(?:a{1000}){1000}",
        "a{99999999999}",
        r"\N{DASH}",
    ] {
        assert!(matches!(compile(pattern), Err(Unusable::Unsupported(_))), "{pattern}: {:?}", compile(pattern));
    }
    assert!(matches!(compile(&"a".repeat(3000)), Err(Unusable::Unsupported(_))));
    assert!(matches!(compile(&format!("{}a{}", "(".repeat(500), ")".repeat(500))), Err(Unusable::Unsupported(_))));
}

/// Whatever stands in a pattern, it is compiled or refused, and what is compiled matches in no time.
#[test]
fn no_pattern_breaks_the_reader() {
    const WORDS: [&str; 32] = [
        "a", "/", "(", ")", "[", "]", "^", "$", "*", "+", "?", "{", "}", "1", ",", "-", "|", "\\", "(?", "(?:",
        "(?P<n>", ":", "&&", "~~", ".", "é", "x", "Z", "(?i)", "#", "<", "=",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut compiled = 0;
    for _ in 0..4_000 {
        let mut pattern = String::new();
        for _ in 0..12 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            pattern.push_str(WORDS[(seed >> 33) as usize % WORDS.len()]);
        }
        if let Ok(regex) = compile(&pattern) {
            compiled += 1;
            regex.is_match(b"/aaaaaaaaaaaaaaaaaaaaaaaa/x1Z");
        }
    }
    assert!(compiled > 20, "only {compiled} compiled");
}
