//! One line: comment off, quotes and backslashes resolved, variables replaced.

/// What a line of words cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unterminated;

/// The words of a line. `value` answers variables, which HAProxy knows inside double quotes only.
pub(super) fn words(line: &str, value: &mut dyn FnMut(&str) -> Option<String>) -> Result<Vec<String>, Unterminated> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('"'), '$') => {
                let mut rest: String = chars.clone().collect();
                let text = word.get_or_insert_default();
                match variable(&rest) {
                    None => text.push('$'),
                    Some((name, length)) => {
                        text.push_str(&value(name).unwrap_or_default());
                        rest = rest.get(length..).unwrap_or_default().to_owned();
                        let left = rest.chars().count();
                        while chars.clone().count() > left {
                            chars.next();
                        }
                    }
                }
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some(c) => word.get_or_insert_default().push(escaped(c)),
                None if quote.is_some() => return Err(Unterminated),
                None => {}
            },
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Unterminated);
    }
    words.extend(word);
    Ok(words)
}

fn escaped(c: char) -> char {
    match c {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        c => c,
    }
}

/// The name of `{NAME}`, `{NAME-default}` or `NAME`, and how many bytes that is.
fn variable(text: &str) -> Option<(&str, usize)> {
    let name_of = |text: &str| text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    if let Some(inner) = text.strip_prefix('{') {
        let length = name_of(inner);
        let end = text.find('}')?;
        return (length > 0).then_some((inner.get(..length)?, end + 1));
    }
    let length = name_of(text);
    (length > 0).then_some((text.get(..length)?, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Vec<String> {
        words(line, &mut |name| (name == "A").then(|| "one two".to_owned())).unwrap()
    }

    #[test]
    fn words_are_haproxys() {
        assert_eq!(shown("  bind *:80 # web"), ["bind", "*:80"]);
        assert_eq!(shown(r#"http-request set-header X "a b" 'c "d"' e\ f"#)[2..], ["X", "a b", "c \"d\"", "e f"]);
        assert_eq!(shown(r#"x "${A}-$A" '${A}' $A"#), ["x", "one two-one two", "${A}", "$A"]);
        assert_eq!(shown(r##"a "#" \# ''"##), ["a", "#", "#", ""]);
        assert_eq!(shown("\"${B}\" \"$\" \"${\""), ["", "$", "${"]);
        assert_eq!(shown("\"ä$A ö\""), ["äone two ö"]);
    }

    #[test]
    fn an_open_quote_is_an_error() {
        for line in ["\"a", "a 'b", "\"a\\"] {
            assert_eq!(words(line, &mut |_| None), Err(Unterminated), "{line}");
        }
    }
}
