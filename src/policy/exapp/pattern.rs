//! Patterns of routes: written for Python's `re`, run by a linear engine over bytes.
//!
//! The dialects differ in what a `{`, a `[` in a set or `\Z` means, in which escapes there are, and in what is an error;
//! so a pattern is read by Python's rules and written anew. Look-around, back-references, atomic groups, possessive
//! repeats and verbose mode have no linear counterpart.

use regex::bytes::{Regex, RegexBuilder};
use std::fmt;

/// Longer ones are nobody's route.
const PATTERN_BYTES_MAX: usize = 2048;
/// Of the compiled program; `[A-Za-z0-9_-]{20,128}` needs a tenth.
const PROGRAM_BYTES_MAX: usize = 128 << 10;
/// Of the states an engine remembers while it matches, for each core.
const CACHE_BYTES_MAX: usize = 64 << 10;
const NESTING_MAX: u32 = 50;

/// Why a pattern is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Python refuses it too: it matches nothing.
    Broken(&'static str),
    /// Python may have matched where this engine cannot tell.
    Unsupported(&'static str),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Broken(why) => write!(f, "it is no regular expression: {why}"),
            Unusable::Unsupported(why) => write!(f, "{why} cannot be matched in bounded time"),
        }
    }
}

/// `pattern` as Python's `match` means it: bound to the start, not to the end.
pub fn compile(pattern: &str) -> Result<Regex, Unusable> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(Unusable::Unsupported("a pattern of this length"));
    }
    let translated = translate(pattern)?;
    RegexBuilder::new(&format!(r"\A(?:{translated})"))
        .unicode(false)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|_| Unusable::Unsupported("a pattern this large"))
}

fn translate(pattern: &str) -> Result<String, Unusable> {
    let (out, names) = (String::new(), Vec::new());
    let mut reader = Reader { rest: pattern, out, flags_bytes: 0, names, depth: 0, last: Last::Nothing };
    while let Some(c) = reader.next() {
        reader.item(c)?;
    }
    if reader.depth > 0 {
        return Err(Unusable::Broken("a group is not closed"));
    }
    Ok(reader.out)
}

struct Reader<'p> {
    rest: &'p str,
    out: String,
    /// Of `out`, what is flags for the whole pattern.
    flags_bytes: usize,
    /// Of groups.
    names: Vec<&'p str>,
    depth: u32,
    last: Last,
}

/// What a repeat would repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Item,
    Repeated,
}

/// One member of a set, or the value of an escape.
enum Value {
    Char(char),
    /// `\d` and its like, the same in both dialects.
    Class(char),
}

impl<'p> Reader<'p> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn item(&mut self, c: char) -> Result<(), Unusable> {
        match c {
            '\\' => self.escape()?,
            '[' => self.set()?,
            '(' => self.group()?,
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or(Unusable::Broken("a group is closed that is not open"))?;
                self.push(")", Last::Item);
            }
            '*' => self.repeat("*")?,
            '+' => self.repeat("+")?,
            '?' => self.repeat("?")?,
            '{' => match self.count()? {
                Some(count) => self.repeat(&count)?,
                None => self.literal('{'),
            },
            '|' => self.push("|", Last::Nothing),
            '^' => self.push("^", Last::Nothing),
            // Before a final newline too in Python; no path has one.
            '$' => self.push("$", Last::Nothing),
            '.' => self.push(".", Last::Item),
            c => self.literal(c),
        }
        Ok(())
    }

    fn push(&mut self, text: &str, last: Last) {
        self.out.push_str(text);
        self.last = last;
    }

    fn literal(&mut self, c: char) {
        self.last = Last::Item;
        if c.is_ascii_alphanumeric() {
            return self.out.push(c);
        }
        let mut bytes = [0; 4];
        let bytes = c.encode_utf8(&mut bytes).bytes();
        let text: String = bytes.map(|byte| format!(r"\x{byte:02x}")).collect();
        // One item, whatever its length: a repeat takes all of it.
        self.out.push_str(&if c.is_ascii() { text } else { format!("(?:{text})") });
    }

    fn repeat(&mut self, text: &str) -> Result<(), Unusable> {
        match self.last {
            Last::Nothing => return Err(Unusable::Broken("nothing to repeat")),
            Last::Repeated => return Err(Unusable::Broken("a repeat is repeated")),
            Last::Item => {}
        }
        self.push(text, Last::Repeated);
        if self.eat("+") {
            return Err(Unusable::Unsupported("a possessive repeat"));
        }
        if self.eat("?") {
            self.out.push('?');
        }
        Ok(())
    }

    /// The rest of `{2}`, `{2,}`, `{,3}`, `{2,3}`; anything else is a brace.
    fn count(&mut self) -> Result<Option<String>, Unusable> {
        let Some((inside, rest)) = self.rest.split_once('}') else { return Ok(None) };
        let (low, high) = inside.split_once(',').map_or((inside, None), |(low, high)| (low, Some(high)));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if inside.is_empty() || !is_number(low) || !high.is_none_or(is_number) {
            return Ok(None);
        }
        self.rest = rest;
        let number = |text: &str| text.parse::<u32>().map_err(|_| Unusable::Unsupported("a repeat this large"));
        let least = if low.is_empty() { 0 } else { number(low)? };
        match high {
            None => Ok(Some(format!("{{{least}}}"))),
            Some("") => Ok(Some(format!("{{{least},}}"))),
            Some(high) if number(high)? < least => Err(Unusable::Broken("a repeat ends below its begin")),
            Some(high) => Ok(Some(format!("{{{least},{}}}", number(high)?))),
        }
    }

    fn escape(&mut self) -> Result<(), Unusable> {
        let c = self.next().ok_or(Unusable::Broken("it ends with a backslash"))?;
        match c {
            'A' => self.push(r"\A", Last::Nothing),
            'Z' => self.push(r"\z", Last::Nothing),
            'b' => self.push(r"\b", Last::Nothing),
            'B' => self.push(r"\B", Last::Nothing),
            '1'..='9' => {
                let octal = self.rest.get(..2).filter(|_| c <= '3').and_then(|two| u8::from_str_radix(two, 8).ok());
                let octal = octal.ok_or(Unusable::Unsupported("a back-reference"))?;
                self.rest = self.rest.get(2..).unwrap_or_default();
                self.literal(char::from((c as u8 - b'0') << 6 | octal));
            }
            c => match self.value(c)? {
                Value::Char(c) => self.literal(c),
                Value::Class(class) => {
                    self.out.push('\\');
                    self.out.push(class);
                    self.last = Last::Item;
                }
            },
        }
        Ok(())
    }

    /// What `\c` stands for, inside a set and outside.
    fn value(&mut self, c: char) -> Result<Value, Unusable> {
        Ok(Value::Char(match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => return Ok(Value::Class(c)),
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => self.hex(2)?,
            'u' => self.hex(4)?,
            'U' => self.hex(8)?,
            'N' => return Err(Unusable::Unsupported("a character by its name")),
            '0' => self.octal(),
            c if c.is_ascii_alphanumeric() => return Err(Unusable::Broken("an escape that there is not")),
            c => c,
        }))
    }

    fn hex(&mut self, digits: usize) -> Result<char, Unusable> {
        let text = self.rest.get(..digits).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let value = text.and_then(|text| u32::from_str_radix(text, 16).ok());
        self.rest = self.rest.get(digits..).unwrap_or_default();
        value.and_then(char::from_u32).ok_or(Unusable::Broken("an escape is incomplete"))
    }

    /// Up to two digits behind `\0`.
    fn octal(&mut self) -> char {
        let digits = self.rest.bytes().take(2).take_while(|byte| (b'0'..b'8').contains(byte)).count();
        let (text, rest) = self.rest.split_at_checked(digits).unwrap_or_default();
        self.rest = rest;
        char::from(u8::from_str_radix(text, 8).unwrap_or(0))
    }

    /// The rest of `[…]`.
    fn set(&mut self) -> Result<(), Unusable> {
        const OPEN: Unusable = Unusable::Broken("a set is not closed");
        let is_negated = self.eat("^");
        self.out.push_str(if is_negated { "[^" } else { "[" });
        let mut is_first = true;
        loop {
            let c = self.next().ok_or(OPEN)?;
            if c == ']' && !is_first {
                break;
            }
            is_first = false;
            let low = self.member(c)?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            if !is_range {
                match low {
                    Value::Char(c) => self.set_byte(c)?,
                    Value::Class(class) => {
                        self.out.push('\\');
                        self.out.push(class);
                    }
                }
                continue;
            }
            self.eat("-");
            let c = self.next().ok_or(OPEN)?;
            match (low, self.member(c)?) {
                (Value::Char(low), Value::Char(high)) if low <= high => {
                    self.set_byte(low)?;
                    self.out.push('-');
                    self.set_byte(high)?;
                }
                _ => return Err(Unusable::Broken("a range has no order")),
            }
        }
        self.push("]", Last::Item);
        Ok(())
    }

    fn member(&mut self, c: char) -> Result<Value, Unusable> {
        if c != '\\' {
            return Ok(Value::Char(c));
        }
        match self.next().ok_or(Unusable::Broken("a set is not closed"))? {
            'b' => Ok(Value::Char('\x08')),
            '1'..='7' => Err(Unusable::Unsupported("an octal escape in a set")),
            c => self.value(c),
        }
    }

    fn set_byte(&mut self, c: char) -> Result<(), Unusable> {
        if !c.is_ascii() {
            // Bytes, here, and a path has such characters encoded.
            return Err(Unusable::Unsupported("a character beyond ASCII in a set"));
        }
        self.out.push_str(&format!(r"\x{:02x}", c as u32));
        Ok(())
    }

    /// What stands behind `(`.
    fn group(&mut self) -> Result<(), Unusable> {
        if !self.eat("?") || self.eat(":") {
            return self.open("(?:");
        }
        if self.eat("P") {
            return self.named();
        }
        if self.eat("#") {
            let (_, rest) = self.rest.split_once(')').ok_or(Unusable::Broken("a comment is not closed"))?;
            self.rest = rest;
            return Ok(());
        }
        if self.eat("=") || self.eat("!") || self.eat("<=") || self.eat("<!") {
            return Err(Unusable::Unsupported("look-around"));
        }
        if self.eat("(") {
            return Err(Unusable::Unsupported("a condition"));
        }
        if self.eat(">") {
            return Err(Unusable::Unsupported("an atomic group"));
        }
        self.flags()
    }

    fn open(&mut self, text: &str) -> Result<(), Unusable> {
        self.depth += 1;
        self.push(text, Last::Nothing);
        Ok(())
    }

    /// `<name>`; nobody asks for the name, but it may be there once.
    fn named(&mut self) -> Result<(), Unusable> {
        if self.eat("=") {
            return Err(Unusable::Unsupported("a back-reference"));
        }
        let name = self.rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        match name {
            Some((name, rest)) if is_name(name) && !self.names.contains(&name) => {
                self.rest = rest;
                self.names.push(name);
                self.open("(?:")
            }
            _ => Err(Unusable::Broken("a group has a bad name")),
        }
    }

    /// `i)` for the whole pattern, at its start only; `i-s:` for this group.
    fn flags(&mut self) -> Result<(), Unusable> {
        const UNKNOWN: Unusable = Unusable::Broken("a group of a kind that there is not");
        let end = self.rest.find([')', ':']).ok_or(UNKNOWN)?;
        let (letters, rest) = self.rest.split_at_checked(end).ok_or(UNKNOWN)?;
        let is_whole = rest.starts_with(')');
        let (on, off) = letters.split_once('-').map_or((letters, None), |(on, off)| (on, Some(off)));
        if is_whole && (self.out.len() > self.flags_bytes || off.is_some() || on.is_empty()) {
            return Err(Unusable::Broken("flags stand behind the start"));
        }
        if off.is_some_and(str::is_empty) {
            return Err(UNKNOWN);
        }
        let on = flag_letters(on, "aimsu")?;
        let off = off.map(|off| flag_letters(off, "ims")).transpose()?.filter(|off| !off.is_empty());
        let minus = off.map(|off| format!("-{off}")).unwrap_or_default();
        self.rest = rest.get(1..).unwrap_or_default();
        if !is_whole {
            return self.open(&format!("(?{on}{minus}:"));
        }
        if !on.is_empty() {
            self.push(&format!("(?{on})"), Last::Nothing);
            self.flags_bytes = self.out.len();
        }
        Ok(())
    }
}

/// The letters that mean something to both dialects, each once.
fn flag_letters(letters: &str, allowed: &str) -> Result<String, Unusable> {
    let mut out = String::new();
    for letter in letters.chars() {
        match letter {
            'x' => return Err(Unusable::Unsupported("verbose mode")),
            letter if !allowed.contains(letter) => return Err(Unusable::Broken("a flag that there is not")),
            // ASCII and Unicode are one on a path.
            'a' | 'u' => {}
            letter if out.contains(letter) => {}
            letter => out.push(letter),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
