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
        ("(?i)(?s)/B", "/b"),
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
        "(",
        ")",
        "a)",
        "[a",
        "[]",
        "[^]",
        "*a",
        "a**",
        "a|*",
        "^*",
        r"\b+",
        r"a\",
        r"\q",
        r"\p{L}",
        r"\z",
        "[b-a]",
        r"[\w-a]",
        r"\x4",
        "a{2,1}",
        "(?<n>a)",
        "(?P<1>a)",
        "(?P<n>a)(?P<n>b)",
        "(?P<n",
        "(?Z)",
        "a(?i)",
        "(?i",
        "{3}",
        "(?#",
        r"[\q]",
        "(?-i)a",
        "(?i-:a)",
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

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % end
    }

    fn words(&mut self, words: &[&str], count: usize) -> String {
        (0..count).map(|_| words[self.below(words.len())]).collect()
    }
}

/// Whatever stands in a pattern, it is compiled or refused, and what is compiled matches in no time.
#[test]
fn no_pattern_breaks_the_reader() {
    const WORDS: [&str; 32] = [
        "a", "/", "(", ")", "[", "]", "^", "$", "*", "+", "?", "{", "}", "1", ",", "-", "|", "\\", "(?", "(?:",
        "(?P<n>", ":", "&&", "~~", ".", "é", "x", "Z", "(?i)", "#", "<", "=",
    ];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut compiled = 0;
    for _ in 0..4_000 {
        if let Ok(regex) = compile(&random.words(&WORDS, 12)) {
            compiled += 1;
            regex.is_match(b"/aaaaaaaaaaaaaaaaaaaaaaaa/x1Z");
        }
    }
    assert!(compiled > 20, "only {compiled} compiled");
}

/// Reads a pattern a line; says of each whether it is one, and which of the paths of its only argument it matches.
const PYTHON: &str = r#"
import json, re, sys, warnings
if not (3, 11) <= sys.version_info < (3, 14):
    sys.exit("its dialect is another one: " + sys.version)
warnings.simplefilter("ignore")
paths = json.loads(sys.argv[1])
for line in sys.stdin:
    try:
        pattern = re.compile(json.loads(line))
    except (re.error, OverflowError, RecursionError):
        print("refused")
    else:
        print("".join("1" if pattern.match(path) else "0" for path in paths))
"#;

fn asked_of_python(patterns: &[String], paths: &[&str]) -> Result<Vec<String>, String> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let text: String = patterns.iter().map(|pattern| serde_json::json!(pattern).to_string() + "\n").collect();
    let mut python = Command::new("python3")
        .args(["-c", PYTHON, &serde_json::json!(paths).to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("python3: {error}"))?;
    let mut stdin = python.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = python.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    writing.join().unwrap().unwrap();
    Ok(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn patterns_match_what_they_match_in_python() {
    const WORDS: [&str; 68] = [
        "a", "b", "/", "(", ")", "[", "]", "^", "$", "*", "+", "?", "{", "}", "1", "2", ",", "-", "|", "\\", "(?:",
        "(?P<n>", ":", "&", "~", ".", "x", "Z", "(?i)", "(?i:", "#", "<", "=", r"\d", r"\w", r"\b", r"\Z", r"\A",
        r"\/", r"\.", r"\x61", "[^/]", "[a-z]", "{1,2}", "{2}", "A", "_", r"\-", "(?#c)", r"\s", r"\S", r"\0", r"\101",
        "(?s)", "(?m:", "(?-i:", r"[\w-]", r"\n", "%", "@", r"\_", "[]a]", "[^]]", "{,2}", "{1,}", "&&", "[a&&b]",
        "[[]",
    ];
    const PATHS: [&str; 44] = [
        "", "/", "/a", "a", "ab", "/ab/", "a1", "aa", "aaa", "b", "A", "x", "Z", "/a/b", "-", "_a", "[a]", "{", "a{",
        "a{1", "}", "a&", "~", "#", "<a", "=a", "1", "12", "a-b", "%", "a/b/a", "aab", "(", ")", "\\", "^a", "$", "|",
        ".", "a.b", "AB", "aA", "x61", "]",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let patterns: Vec<String> = (0..6_000)
        .map(|_| {
            let count = 1 + random.below(7);
            random.words(&WORDS, count)
        })
        .collect();
    let said = match asked_of_python(&patterns, &PATHS) {
        Ok(said) => said,
        Err(why) => return println!("SKIPPED: patterns_match_what_they_match_in_python: {why}"),
    };
    assert_eq!(said.len(), patterns.len());
    let mut matched = 0;
    for (pattern, said) in patterns.iter().zip(said) {
        let ours = match compile(pattern) {
            // It may be anything there; here it closes.
            Err(Unusable::Unsupported(_)) => continue,
            Err(Unusable::Broken(_)) => "refused".to_owned(),
            Ok(regex) => PATHS.iter().map(|path| if regex.is_match(path.as_bytes()) { '1' } else { '0' }).collect(),
        };
        assert_eq!(ours, said, "{pattern:?}");
        matched += usize::from(ours.contains('1'));
    }
    assert!(matched > 500, "only {matched} matched anything");
}
