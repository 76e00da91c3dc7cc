//! One line: comment off, then words and braces.

use crate::import::error::{ErrorKind, ImportError, Position};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    Open,
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) at: Position,
}

/// A line without its comment, and whether that comment began inside a word: `auth_pass a!b` is `a` to keepalived.
pub(super) fn without_comment(line: &str) -> (&str, bool) {
    let mut quote = None;
    let mut is_escaped = false;
    let mut before = ' ';
    for (index, c) in line.char_indices() {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (_, '\\') => is_escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '#' | '!') => {
                return (line.get(..index).unwrap_or_default(), !before.is_whitespace() && !"{}".contains(before));
            }
            (None, _) => {}
        }
        before = c;
    }
    (line, false)
}

/// The words of a line whose comment is off. Quotes join: `a" b "c` is the one word `a b c`.
pub(super) fn tokens(text: &str, at: &Position) -> Result<Vec<Token>, ImportError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix('{') {
            tokens.push(Token::Open);
            rest = behind.trim_start();
        } else if let Some(behind) = rest.strip_prefix('}') {
            tokens.push(Token::Close);
            rest = behind.trim_start();
        } else {
            let (word, behind) = word(rest).ok_or_else(|| at.error(ErrorKind::UnterminatedQuote))?;
            tokens.push(Token::Word(Word { text: word, at: at.clone() }));
            rest = behind.trim_start();
        }
    }
    Ok(tokens)
}

/// One word and what is behind it; `None` when a quote has no end.
///
/// Braces inside a word belong to it (`${X}`, `a{2,3}`), one at its end does not (`vrrp_instance V{`).
fn word(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text;
    let mut braces = 0usize;
    while let Some(c) = rest.chars().next() {
        let behind = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            _ if c.is_whitespace() => break,
            '"' | '\'' => {
                let (inner, after) = quoted(behind, c)?;
                out.push_str(&inner);
                rest = after;
                continue;
            }
            '\\' if behind.starts_with(['"', '\'', '\\']) => {
                out.push_str(behind.get(..1).unwrap_or_default());
                rest = behind.get(1..).unwrap_or_default();
                continue;
            }
            '{' if behind.is_empty() || behind.starts_with(char::is_whitespace) => break,
            '{' => braces += 1,
            '}' if braces == 0 => break,
            '}' => braces -= 1,
            _ => {}
        }
        out.push(c);
        rest = behind;
    }
    Some((out, rest))
}

/// The inside of a quoted part, with its escapes resolved, and what is behind the closing quote.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let c = rest.chars().next()?;
        let behind = rest.get(c.len_utf8()..)?;
        if c == quote {
            return Some((out, behind));
        }
        if c == '\\' {
            let (value, after) = escape(behind)?;
            out.push(value);
            rest = after;
        } else {
            out.push(c);
            rest = behind;
        }
    }
}

/// What follows a backslash, as in a shell: `\n`, `\x41`, `\101`, `\cC`; any other character is itself.
fn escape(text: &str) -> Option<(char, &str)> {
    let c = text.chars().next()?;
    let behind = text.get(c.len_utf8()..)?;
    let plain = match c {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' => return Some(digits(behind, 16, 8).unwrap_or(('x', behind))),
        'c' => {
            let control = behind.chars().next().filter(char::is_ascii)?;
            return Some((char::from((control as u8) & 0x1f), behind.get(1..)?));
        }
        '0'..='7' => return digits(text, 8, 3),
        other => other,
    };
    Some((plain, behind))
}

/// Up to `max` digits as one character, and what is behind them. `None` without any.
fn digits(text: &str, radix: u32, max: usize) -> Option<(char, &str)> {
    let end = text.char_indices().take(max).take_while(|(_, c)| c.is_digit(radix)).count();
    let (number, behind) = text.split_at_checked(end)?;
    let value = u32::from_str_radix(number, radix).ok()?;
    Some((char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let at = Position { file: "t".into(), line: 1 };
        let show = |token: Token| match token {
            Token::Word(word) => word.text,
            Token::Open => "<".to_owned(),
            Token::Close => ">".to_owned(),
        };
        tokens(text, &at).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn quotes_join_and_keep_white_space() {
        assert_eq!(shown(r#"abcd" efg h jkl "mnop"#), ["abcd efg h jkl mnop"]);
        assert_eq!(shown(r#"abcd "efg h jkl" mnop"#), ["abcd", "efg h jkl", "mnop"]);
        assert_eq!(shown(r#"a '' b"#), ["a", "", "b"]);
    }

    #[test]
    fn escapes_are_those_of_a_shell() {
        assert_eq!(shown(r#""\x41\102\t\"\\\q""#), ["AB\t\"\\q"]);
        assert_eq!(shown(r#"\"a\""#), ["\"a\""]);
        assert_eq!(shown(r#""\xffffffff""#), ["\u{fffd}"]);
    }

    #[test]
    fn braces_are_tokens_at_the_edge_of_words_only() {
        assert_eq!(shown("vrrp_instance V{"), ["vrrp_instance", "V", "<"]);
        assert_eq!(shown("group { A B }"), ["group", "<", "A", "B", ">"]);
        assert_eq!(shown("{10.0.0.1}"), ["<", "10.0.0.1", ">"]);
        assert_eq!(shown("regex a{2,3}$ x${Y}z"), ["regex", "a{2,3}$", "x${Y}z"]);
        assert_eq!(shown("}}"), [">", ">"]);
    }

    #[test]
    fn an_open_quote_is_an_error() {
        let at = Position { file: "t".into(), line: 7 };
        for text in ["\"abc", "a 'b", "\"a\\", "\"a\\c"] {
            let error = tokens(text, &at).unwrap_err();
            assert_eq!((error.at.line, error.to_string().contains("quote")), (7, true), "{text}");
        }
    }

    #[test]
    fn comments_start_anywhere_outside_quotes() {
        assert_eq!(without_comment("a # b"), ("a ", false));
        assert_eq!(without_comment("! b"), ("", false));
        assert_eq!(without_comment("'a # b' c"), ("'a # b' c", false));
        assert_eq!(without_comment("auth_pass a!b"), ("auth_pass a", true));
    }
}
