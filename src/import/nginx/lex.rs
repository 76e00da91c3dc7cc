//! Text becomes words, `;`, `{` and `}`.

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    End,
    Open,
    Close,
}

/// A token and its line; an error is the line of a quote that nothing ends.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, usize> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line = 1;
    // Blocks of another language: their braces are counted, and the rest is skipped.
    let mut is_foreign = false;
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' => tokens.push((line, Token::End)),
            '{' if is_foreign => {
                tokens.push((line, Token::Open));
                let mut depth = 1usize;
                while depth > 0 {
                    match chars.next() {
                        None => break,
                        Some('{') => depth += 1,
                        Some('}') => depth -= 1,
                        Some('\n') => line += 1,
                        Some(_) => {}
                    }
                }
                if depth == 0 {
                    tokens.push((line, Token::Close));
                }
                is_foreign = false;
            }
            '{' => tokens.push((line, Token::Open)),
            '}' => tokens.push((line, Token::Close)),
            '"' | '\'' => {
                let start = line;
                let mut word = String::new();
                loop {
                    match chars.next() {
                        None => return Err(start),
                        Some(end) if end == c => break,
                        Some('\\') => match chars.next() {
                            Some(next) if next == c || next == '\\' => word.push(next),
                            Some(next) => word.extend(['\\', next]),
                            None => return Err(start),
                        },
                        Some(next) => {
                            line += usize::from(next == '\n');
                            word.push(next);
                        }
                    }
                }
                tokens.push((start, Token::Word(word)));
            }
            c => {
                let mut word = String::from(c);
                if c == '\\' {
                    word.extend(chars.next_if(|c| !c.is_whitespace()));
                }
                while let Some(next) = chars.next_if(|next| !next.is_whitespace() && *next != ';') {
                    match next {
                        '{' if !word.ends_with('$') => {
                            // A block that begins right behind its word, unless the word is a pattern.
                            if word.contains(['^', '(', '[']) || word.ends_with('\\') {
                                word.push(next);
                                continue;
                            }
                            tokens.push((line, Token::Word(std::mem::take(&mut word))));
                            tokens.push((line, Token::Open));
                            break;
                        }
                        '}' if !word.contains('{') => {
                            tokens.push((line, Token::Word(std::mem::take(&mut word))));
                            tokens.push((line, Token::Close));
                            break;
                        }
                        '\\' => {
                            word.push(next);
                            word.extend(chars.next_if(|c| !c.is_whitespace()));
                        }
                        next => word.push(next),
                    }
                }
                if !word.is_empty() {
                    is_foreign = word.ends_with("_by_lua_block");
                    tokens.push((line, Token::Word(word)));
                }
            }
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |token: (usize, Token)| match token.1 {
            Token::Word(word) => word,
            Token::End => ";".to_owned(),
            Token::Open => "<".to_owned(),
            Token::Close => ">".to_owned(),
        };
        tokens(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn words_are_nginxs() {
        assert_eq!(shown("listen 80; # x;\nserver{a b;}"), ["listen", "80", ";", "server", "<", "a", "b", ";", ">"]);
        assert_eq!(shown("return 301 https://$host${uri}x;"), ["return", "301", "https://$host${uri}x", ";"]);
        assert_eq!(shown("location ~ ^/a{2,3}/\\.b {"), ["location", "~", "^/a{2,3}/\\.b", "<"]);
        assert_eq!(shown("x \"a; \\\"b\\\" {\" 'c';"), ["x", "a; \"b\" {", "c", ";"]);
        assert_eq!(shown("a_by_lua_block { if x { y' } } b;"), ["a_by_lua_block", "<", ">", "b", ";"]);
    }

    #[test]
    fn an_open_quote_is_an_error_with_its_line() {
        assert_eq!(tokens("a;\n 'b;\n"), Err(2));
        assert_eq!(tokens("\"a\\"), Err(1));
    }
}
