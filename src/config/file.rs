//! lyre.toml as typed: tables and values that know their key path and their place, and say what is wrong with them.
//!
//! Reading never stops at the first problem: every reader answers `None` after noting one, and its caller goes on.

use super::findings::{Findings, Place};
use super::suggest::nearest;
use super::units;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// One table. Keys are taken out one by one; what is left at [`Section::finish`] is unknown.
pub(crate) struct Section<'a> {
    pub(crate) place: Place,
    /// `None` for a table that was not written.
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

/// One value.
#[derive(Clone)]
pub(crate) struct Item<'a> {
    pub(crate) place: Place,
    value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn root(table: &'a DeTable<'a>) -> Section<'a> {
        Section { place: Place { key: String::new(), span: 0..0 }, table: Some(table), known: Vec::new() }
    }

    /// A table that was not written, of which every key has a default.
    pub(crate) fn absent(name: &str) -> Section<'a> {
        Section { place: Place { key: name.to_owned(), span: 0..0 }, table: None, known: Vec::new() }
    }

    pub(crate) fn optional(&mut self, name: &'static str) -> Option<Item<'a>> {
        self.known.push(name);
        let (_, value) = self.table?.get_key_value(name)?;
        let place = Place { key: self.key_of(name), span: value.span() };
        Some(Item { place, value: value.get_ref() })
    }

    /// As [`Section::optional`]; absence is an error that says `hint`.
    pub(crate) fn required(&mut self, f: &mut Findings, name: &'static str, hint: &str) -> Option<Item<'a>> {
        let item = self.optional(name);
        if item.is_none() {
            let place = Place { key: self.key_of(name), span: self.place.span.clone() };
            f.error(&place, "is missing", hint);
        }
        item
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// A key that a later version understands.
    pub(crate) fn later(&mut self, f: &mut Findings, name: &'static str, what: &str) {
        self.known.push(name);
        if let Some((key, _)) = self.table.and_then(|table| table.get_key_value(name)) {
            let place = Place { key: self.key_of(name), span: key.span() };
            f.error(&place, format!("{what}: not in this version yet"), format!("Remove {name} for now."));
        }
    }

    pub(crate) fn whole(
        &mut self,
        f: &mut Findings,
        name: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        self.optional(name).and_then(|item| item.whole(f, range)).unwrap_or(default)
    }

    pub(crate) fn count(
        &mut self,
        f: &mut Findings,
        name: &'static str,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        let (low, high) = range.into_inner();
        let value = self.whole(f, name, u64::from(low)..=u64::from(high), u64::from(default));
        u32::try_from(value).unwrap_or(default)
    }

    pub(crate) fn duration(
        &mut self,
        f: &mut Findings,
        name: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.optional(name).and_then(|item| item.duration(f, range)).unwrap_or(default)
    }

    /// Bytes.
    pub(crate) fn size(
        &mut self,
        f: &mut Findings,
        name: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> usize {
        let bytes = self.optional(name).and_then(|item| item.size(f, range)).unwrap_or(default);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    pub(crate) fn choice<T: Copy>(
        &mut self,
        f: &mut Findings,
        name: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> T {
        self.optional(name).and_then(|item| item.choice(f, choices)).unwrap_or(default)
    }

    /// The tables of `[[name]]`; none when it is absent.
    pub(crate) fn tables(&mut self, f: &mut Findings, name: &'static str) -> Vec<Section<'a>> {
        let Some(item) = self.optional(name) else { return Vec::new() };
        if matches!(item.value, DeValue::Table(_)) {
            f.error(&item.place, "there can be several of these", format!("Write [[{name}]] instead of [{name}]."));
            return Vec::new();
        }
        item.list(f).into_iter().filter_map(|item| item.section(f)).collect()
    }

    /// Every key with its value, of a table whose keys are the operator's names.
    pub(crate) fn entries(self) -> Vec<(&'a str, Item<'a>)> {
        let entry = |(key, value): (&'a toml::Spanned<std::borrow::Cow<'a, str>>, &'a toml::Spanned<DeValue<'a>>)| {
            let place = Place { key: self.key_of(key.get_ref()), span: value.span() };
            (&**key.get_ref(), Item { place, value: value.get_ref() })
        };
        self.table.into_iter().flatten().map(entry).collect()
    }

    /// Reports the keys nobody asked for.
    pub(crate) fn finish(self, f: &mut Findings) {
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, &self.known) {
                Some(meant) => format!("Did you mean {meant}?"),
                None => format!("Known here: {}.", self.known.join(", ")),
            };
            let place = Place { key: self.key_of(name), span: key.span() };
            f.error(&place, "unknown key", hint);
        }
    }

    fn key_of(&self, name: &str) -> String {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let name = if plain { name.to_owned() } else { format!("{name:?}") };
        if self.place.key.is_empty() { name } else { format!("{}.{name}", self.place.key) }
    }
}

impl<'a> Item<'a> {
    pub(crate) fn error(&self, f: &mut Findings, message: impl Into<String>, hint: impl Into<String>) {
        f.error(&self.place, message, hint);
    }

    pub(crate) fn warning(&self, f: &mut Findings, message: impl Into<String>, hint: impl Into<String>) {
        f.warning(&self.place, message, hint);
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub(crate) fn is_flag(&self) -> bool {
        matches!(self.value, DeValue::Boolean(_))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(crate) fn text(&self, f: &mut Findings) -> Option<&'a str> {
        let DeValue::String(text) = self.value else {
            self.wrong_type(f, "a text in quotes");
            return None;
        };
        if text.is_empty() {
            self.error(f, "is empty", "");
            return None;
        }
        Some(text)
    }

    /// As [`Item::text`], where an empty one means something.
    pub(crate) fn any_text(&self, f: &mut Findings) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.text(f),
        }
    }

    /// With a sign.
    pub(crate) fn integer(&self, f: &mut Findings, range: RangeInclusive<i64>) -> Option<i64> {
        let DeValue::Integer(number) = self.value else {
            self.wrong_type(f, "a whole number");
            return None;
        };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            self.error(f, format!("{number} is not {}..{}", range.start(), range.end()), "");
        }
        value
    }

    pub(crate) fn whole(&self, f: &mut Findings, range: RangeInclusive<u64>) -> Option<u64> {
        self.whole_hinted(f, range, "")
    }

    /// As [`Item::whole`], with what to write instead.
    pub(crate) fn whole_hinted(&self, f: &mut Findings, range: RangeInclusive<u64>, hint: &str) -> Option<u64> {
        let DeValue::Integer(number) = self.value else {
            self.wrong_type(f, "a whole number");
            return None;
        };
        let value = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            self.error(f, format!("{number} is not {}..{}", range.start(), range.end()), hint);
        }
        value
    }

    pub(crate) fn flag(&self, f: &mut Findings) -> Option<bool> {
        let DeValue::Boolean(flag) = self.value else {
            self.wrong_type(f, "true or false");
            return None;
        };
        Some(*flag)
    }

    pub(crate) fn duration(&self, f: &mut Findings, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.quantity(f, "duration", units::duration, |number| format!("{number}s"))?;
        if !range.contains(&value) {
            let (low, high) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
            self.error(f, format!("{} is not {low}..{high}", units::show_duration(value)), "");
            return None;
        }
        Some(value)
    }

    /// Bytes.
    pub(crate) fn size(&self, f: &mut Findings, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.quantity(f, "size", units::size, units::show_size)?;
        if !range.contains(&value) {
            let (low, high) = (units::show_size(*range.start()), units::show_size(*range.end()));
            self.error(f, format!("{} is not {low}..{high}", units::show_size(value)), "");
            return None;
        }
        Some(value)
    }

    pub(crate) fn choice<T: Copy>(&self, f: &mut Findings, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(f)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let hint = match nearest(text, &names) {
                Some(meant) => format!("Did you mean {meant:?}?"),
                None => format!("Write one of: {}.", names.join(", ")),
            };
            self.error(f, format!("{text:?} is not known here"), hint);
        }
        found
    }

    pub(crate) fn list(&self, f: &mut Findings) -> Vec<Item<'a>> {
        let DeValue::Array(values) = self.value else {
            let hint = if self.is_text() { "Put it in brackets: [\"...\"]." } else { "" };
            self.error(f, format!("must be a list, not {}", self.type_name()), hint);
            return Vec::new();
        };
        let item = |(index, value): (usize, &'a toml::Spanned<DeValue<'a>>)| Item {
            place: Place { key: format!("{}[{index}]", self.place.key), span: value.span() },
            value: value.get_ref(),
        };
        values.iter().enumerate().map(item).collect()
    }

    /// A list that must have something in it.
    pub(crate) fn filled_list(&self, f: &mut Findings, hint: &str) -> Vec<Item<'a>> {
        if matches!(self.value, DeValue::Array(values) if values.is_empty()) {
            self.error(f, "is empty", hint);
        }
        self.list(f)
    }

    pub(crate) fn section(&self, f: &mut Findings) -> Option<Section<'a>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type(f, "a table");
            return None;
        };
        Some(Section { place: self.place.clone(), table: Some(table), known: Vec::new() })
    }

    fn quantity<T>(
        &self,
        f: &mut Findings,
        what: &str,
        parse: fn(&str) -> Result<T, units::UnitError>,
        with_unit: fn(u64) -> String,
    ) -> Option<T> {
        match self.value {
            DeValue::String(text) => match parse(text) {
                Ok(value) => Some(value),
                Err(error) => {
                    self.error(f, error.message, error.hint);
                    None
                }
            },
            DeValue::Integer(number) => {
                let likely = number.as_str().parse().map_or_else(|_| with_unit(1), with_unit);
                self.error(f, format!("{number} has no unit"), format!("Write \"{likely}\", with quotes."));
                None
            }
            _ => {
                self.wrong_type(f, &format!("a {what} in quotes"));
                None
            }
        }
    }

    fn wrong_type(&self, f: &mut Findings, wanted: &str) {
        self.error(f, format!("must be {wanted}, not {}", self.type_name()), "");
    }

    fn type_name(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}
