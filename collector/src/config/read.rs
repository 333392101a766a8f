//! Reads TOML tables field by field and gathers every mistake on the way, instead of stopping at the first.

use std::fmt;
use std::str::FromStr;
use toml::{Table, Value};

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where, as TOML path.
    pub path: String,
    /// What was expected.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, self.expected, self.found)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

/// Gathers mistakes while tables are read.
#[derive(Debug, Default)]
pub(super) struct Mistakes(pub(super) Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, path: &str, expected: &str, found: &str, hint: &str) {
        self.0.push(Mistake {
            path: path.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
            hint: hint.to_owned(),
        });
    }
}

/// A table whose fields are taken out one by one; what is left over at the end is unknown.
#[derive(Debug)]
pub(super) struct Section {
    path: String,
    table: Table,
    known: Vec<&'static str>,
}

impl Section {
    pub(super) fn root(table: Table) -> Self {
        Self { path: String::new(), table, known: Vec::new() }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A table within, if it is there.
    pub(super) fn section(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Option<Section> {
        let path = self.path_of(key);
        match self.take(key)? {
            Value::Table(table) => Some(Section { path, table, known: Vec::new() }),
            other => {
                mistakes.add(&path, "a table", &shown(&other), &format!("write it as [{path}]"));
                None
            }
        }
    }

    /// A table that must be there.
    pub(super) fn needed_section(
        &mut self,
        key: &'static str,
        hint: &str,
        mistakes: &mut Mistakes,
    ) -> Section {
        let path = self.path_of(key);
        if !self.table.contains_key(key) {
            mistakes.add(&path, "a table", "nothing", hint);
        }
        // An empty one stands in, so that its own missing fields are not told one by one.
        self.section(key, mistakes).unwrap_or(Section {
            path: String::new(),
            table: Table::new(),
            known: Vec::new(),
        })
    }

    /// A list of tables, `[[key]]`, each with its place in its path.
    pub(super) fn sections(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Vec<Section> {
        let path = self.path_of(key);
        let Some(value) = self.take(key) else { return Vec::new() };
        let Value::Array(values) = value else {
            mistakes.add(&path, "a list of tables", &shown(&value), &format!("write it as [[{path}]]"));
            return Vec::new();
        };
        let mut out = Vec::new();
        for (at, value) in values.into_iter().enumerate() {
            let path = format!("{path}[{at}]");
            match value {
                Value::Table(table) => out.push(Section { path, table, known: Vec::new() }),
                other => mistakes.add(&path, "a table", &shown(&other), ""),
            }
        }
        out
    }

    /// True if the field is there, whatever it holds.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// True for the stand-in of a missing table.
    pub(super) fn is_stand_in(&self) -> bool {
        self.path.is_empty()
    }

    pub(super) fn text(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Option<String> {
        let path = self.path_of(key);
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => {
                mistakes.add(&path, "text", &shown(&other), "put it in quotation marks");
                None
            }
        }
    }

    /// A text that must be there and be a `T`.
    pub(super) fn needed<T: FromStr>(
        &mut self,
        key: &'static str,
        expected: &str,
        hint: &str,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        if !self.table.contains_key(key) && !self.is_stand_in() {
            mistakes.add(&self.path_of(key), expected, "nothing", hint);
        }
        self.parsed(key, expected, hint, mistakes)
    }

    /// A text that is a `T`, if it is there.
    pub(super) fn parsed<T: FromStr>(
        &mut self,
        key: &'static str,
        expected: &str,
        hint: &str,
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        let path = self.path_of(key);
        let text = self.text(key, mistakes)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            mistakes.add(&path, expected, &format!("{text:?}"), hint);
        }
        parsed
    }

    /// A whole number within `range`, if it is there.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<i64>,
        unit: &str,
        mistakes: &mut Mistakes,
    ) -> Option<u64> {
        let path = self.path_of(key);
        let expected = format!("a whole number of {unit} from {} to {}", range.start(), range.end());
        match self.take(key)? {
            Value::Integer(n) if range.contains(&n) => u64::try_from(n).ok(),
            other => {
                mistakes.add(&path, &expected, &shown(&other), "");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Option<bool> {
        let path = self.path_of(key);
        match self.take(key)? {
            Value::Boolean(flag) => Some(flag),
            other => {
                mistakes.add(&path, "true or false", &shown(&other), "without quotation marks");
                None
            }
        }
    }

    pub(super) fn texts(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Vec<String> {
        let path = self.path_of(key);
        let Some(value) = self.take(key) else { return Vec::new() };
        let Value::Array(values) = value else {
            mistakes.add(&path, "a list of texts", &shown(&value), "write it as [\"…\"]");
            return Vec::new();
        };
        let mut out = Vec::new();
        for (at, value) in values.into_iter().enumerate() {
            match value {
                Value::String(text) => out.push(text),
                other => mistakes.add(&format!("{path}[{at}]"), "text", &shown(&other), ""),
            }
        }
        out
    }

    /// What was not asked for is unknown.
    pub(super) fn finish(self, mistakes: &mut Mistakes) {
        for (key, value) in &self.table {
            let near = self.known.iter().copied().min_by_key(|known| distance(known, key));
            let hint = match near.filter(|known| distance(known, key) <= 2) {
                Some(known) => format!("did you mean {known}?"),
                None if self.known.is_empty() => String::new(),
                None => format!("known are: {}", self.known.join(", ")),
            };
            let what = if value.is_table() { "a known table" } else { "a known field" };
            mistakes.add(&self.path_of(key), what, "one that means nothing here", &hint);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

/// Edit distance; the names here are short.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replaced = diagonal.saturating_add(usize::from(x != y));
            diagonal = *cell;
            *cell = replaced.min(left.saturating_add(1)).min(diagonal.saturating_add(1));
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn near_names_are_near() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("listen", "lisen"), 1);
        assert_eq!(distance("sync_ms", "sync_s"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
