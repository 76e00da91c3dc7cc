//! `~SEQ(name, start, step, end)`, `~SEQx(...)` and `~LST(...)`: the rest of the line, once for every value.

/// What a line is to be repeated with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Sequence {
        name: String,
        start: i64,
        step: i64,
        end: i64,
        is_hex: bool,
    },
    /// Names, and for each round their values.
    List {
        names: Vec<String>,
        rounds: Vec<Vec<String>>,
    },
}

/// Arguments (without the parentheses) and the rest of a line that starts with `~SEQ` or `~LST`.
pub(super) struct Prefix<'a> {
    pub(super) keyword: &'a str,
    pub(super) arguments: &'a str,
    pub(super) rest: &'a str,
}

/// `None` when the line does not start so; an error when it does and goes wrong.
pub(super) fn prefix(text: &str) -> Option<Result<Prefix<'_>, &'static str>> {
    let after = text.strip_prefix('~')?;
    let keyword = ["SEQx", "SEQ", "LST"].into_iter().find(|keyword| after.starts_with(keyword))?;
    let inner = after.strip_prefix(keyword)?.trim_start();
    let split = inner.strip_prefix('(').and_then(|inner| inner.split_once(')'));
    Some(match split {
        Some((arguments, rest)) => Ok(Prefix { keyword, arguments, rest }),
        None => Err("its parentheses are missing"),
    })
}

pub(super) fn parse(keyword: &str, arguments: &str) -> Result<Repeat, &'static str> {
    match keyword {
        "LST" => list(arguments),
        _ => sequence(arguments, keyword == "SEQx"),
    }
}

impl Repeat {
    /// The definitions of every round. Endless sequences are the caller's to stop.
    pub(super) fn rounds(self) -> Box<dyn Iterator<Item = Vec<(String, String)>>> {
        match self {
            Repeat::Sequence { name, start, step, end, is_hex } => {
                let is_in = move |value: &i64| if step > 0 { *value <= end } else { *value >= end };
                let values = std::iter::successors(Some(start), move |value| value.checked_add(step));
                let text = move |value: i64| if is_hex { format!("{value:x}") } else { value.to_string() };
                Box::new(values.take_while(is_in).map(move |value| vec![(name.clone(), text(value))]))
            }
            Repeat::List { names, rounds } => {
                Box::new(rounds.into_iter().map(move |values| names.iter().cloned().zip(values).collect()))
            }
        }
    }
}

fn sequence(arguments: &str, is_hex: bool) -> Result<Repeat, &'static str> {
    let parts: Vec<&str> = arguments.split(',').map(str::trim).collect();
    let (name, numbers) = parts.split_first().ok_or("it has no variable")?;
    if !super::variables::is_name(name) {
        return Err("its first argument is no variable name");
    }
    let numbers: Option<Vec<i64>> = numbers.iter().map(|text| number(text)).collect();
    let numbers = numbers.ok_or("an argument is no number")?;
    let direction = |start: i64, end: i64| if end >= start { 1 } else { -1 };
    let (start, step, end) = match *numbers.as_slice() {
        [end] => (if end > 0 { 1 } else { -1 }, if end > 0 { 1 } else { -1 }, end),
        [start, end] => (start, direction(start, end), end),
        [start, step, end] => (start, step, end),
        _ => return Err("it takes a variable and one to three numbers"),
    };
    if step == 0 || direction(start, end) != step.signum() && start != end {
        return Err("its step never reaches the end");
    }
    Ok(Repeat::Sequence { name: (*name).to_owned(), start, step, end, is_hex })
}

/// Decimal, or hexadecimal with 0x.
fn number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<i64>().ok()?,
    };
    value.checked_mul(sign)
}

fn list(arguments: &str) -> Result<Repeat, &'static str> {
    let mut groups = groups(arguments)?.into_iter();
    let names = groups.next().ok_or("it has no variable")?;
    if names.iter().any(|name| !super::variables::is_name(name)) {
        return Err("its first argument is no variable name");
    }
    let rounds: Vec<Vec<String>> = groups.collect();
    if rounds.iter().any(|values| values.len() != names.len()) {
        return Err("there are not as many values as variables");
    }
    Ok(Repeat::List { names, rounds })
}

/// `a, {b, c}` as `[[a], [b, c]]`.
fn groups(text: &str) -> Result<Vec<Vec<String>>, &'static str> {
    let mut groups = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (group, behind) = match rest.strip_prefix('{') {
            Some(inner) => {
                let (inner, behind) = inner.split_once('}').ok_or("a brace is not closed")?;
                (inner.split(',').map(|part| part.trim().to_owned()).collect(), behind)
            }
            None => {
                let (value, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                (vec![value.trim().to_owned()], behind)
            }
        };
        groups.push(group);
        let behind = behind.trim_start();
        rest = match behind.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if behind.is_empty() => behind,
            None => return Err("a comma is missing"),
        };
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(keyword: &str, arguments: &str) -> Vec<String> {
        let rounds = parse(keyword, arguments).unwrap().rounds();
        rounds.map(|round| round.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("+")).collect()
    }

    #[test]
    fn sequences_count_as_documented() {
        assert_eq!(values("SEQ", "N, 0, 3"), ["0", "1", "2", "3"]);
        assert_eq!(values("SEQ", "N, 3"), ["1", "2", "3"]);
        assert_eq!(values("SEQ", "N, -2"), ["-1", "-2"]);
        assert_eq!(values("SEQ", "N, 3, 1"), ["3", "2", "1"]);
        assert_eq!(values("SEQx", "N, 0x90, 0x10, 0xb0"), ["90", "a0", "b0"]);
        assert_eq!(values("SEQ", "N, 1, 4, 6"), ["1", "5"]);
    }

    #[test]
    fn lists_set_several_names_at_once() {
        assert_eq!(values("LST", "IP, 1, 2"), ["1", "2"]);
        assert_eq!(values("LST", "{IP, IP1}, {10,1},{20,4}"), ["10+1", "20+4"]);
    }

    #[test]
    fn what_never_ends_or_fits_is_an_error() {
        for (keyword, arguments) in [
            ("SEQ", "N,1,0,5"),
            ("SEQ", "N,1,-1,5"),
            ("SEQ", "N,a"),
            ("SEQ", "N"),
            ("SEQ", "1N,2"),
            ("LST", "{A,B},1"),
            ("LST", "{A"),
            ("LST", ""),
        ] {
            assert!(parse(keyword, arguments).is_err(), "{keyword}({arguments})");
        }
        assert_eq!(values("SEQ", &format!("N,{0},{0}", i64::MAX)).len(), 1);
    }
}
