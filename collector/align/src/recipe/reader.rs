//! Reads tables and collects mistakes instead of stopping at the first.

use super::keys::Key;
use super::mistake::Mistake;
use super::{duration, nearest};
use std::fmt::Display;
use std::str::FromStr;
use toml::{Table, Value};

/// What other tools call our `offset`, and how the one becomes the other.
const KALIBR: [&str; 5] = ["shift", "timeshift", "time_shift", "timeshift_cam_imu", "time_offset"];

/// The mistakes found so far. Paths are given as `within` (empty, or ending in a dot) and a key.
#[derive(Debug, Default)]
pub struct Reader {
    /// In the order of the file's sections.
    pub mistakes: Vec<Mistake>,
}

impl Reader {
    /// Notes a mistake.
    pub fn mistake(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.mistakes.push(Mistake { path: path.into(), text: text.into() });
    }

    /// Refuses keys that are not in `keys`.
    pub fn known(&mut self, table: &Table, within: &str, keys: &[Key]) {
        let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
        self.known_names(table, within, &known);
    }

    /// Refuses keys that are not named.
    pub fn known_names(&mut self, table: &Table, within: &str, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let text = if KALIBR.contains(&key.as_str()) && known.contains(&"offset") {
                "unknown key; write `offset`, which is ADDED to this stream's event time: Kalibr's t_imu = t_cam + \
                 shift gives offset = -shift"
                    .to_owned()
            } else {
                let hint = nearest::hint(key, known.iter().copied());
                format!("unknown key{hint}; known here: {}", known.join(", "))
            };
            self.mistake(format!("{within}{key}"), text);
        }
    }

    /// An optional table.
    pub fn table<'a>(&mut self, table: &'a Table, within: &str, key: &str, hint: &str) -> Option<&'a Table> {
        match table.get(key)? {
            Value::Table(inner) => Some(inner),
            _ => {
                self.mistake(format!("{within}{key}"), format!("expected a table: {hint}"));
                None
            }
        }
    }

    /// A list of tables (`[[key]]`) with their paths, each ending in a dot.
    pub fn tables<'a>(&mut self, table: &'a Table, key: &str) -> Vec<(String, &'a Table)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Value::Array(items) = value else {
            self.mistake(key, format!("expected tables; write [[{key}]]"));
            return Vec::new();
        };
        let mut read = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match item {
                Value::Table(item) => read.push((format!("{key}[{place}]."), item)),
                _ => self.mistake(format!("{key}[{place}]"), format!("expected a table; write [[{key}]]")),
            }
        }
        read
    }

    /// Optional text.
    pub fn text(&mut self, table: &Table, within: &str, key: &str) -> Option<String> {
        match table.get(key)? {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.mistake(format!("{within}{key}"), "expected text in quotes");
                None
            }
        }
    }

    /// Optional truth.
    pub fn truth(&mut self, table: &Table, within: &str, key: &str) -> Option<bool> {
        match table.get(key)? {
            Value::Boolean(value) => Some(*value),
            _ => {
                self.mistake(format!("{within}{key}"), "expected true or false, without quotes");
                None
            }
        }
    }

    /// An optional whole number within `least..=most`.
    pub fn count(
        &mut self,
        table: &Table,
        within: &str,
        key: &str,
        (least, most): (u32, u32),
    ) -> Option<u32> {
        let value = table.get(key)?;
        let read = value.as_integer().and_then(|value| u32::try_from(value).ok());
        let read = read.filter(|value| (least..=most).contains(value));
        if read.is_none() {
            self.mistake(format!("{within}{key}"), format!("expected a whole number from {least} to {most}"));
        }
        read
    }

    /// An optional word of a list; its place there.
    pub fn word(&mut self, table: &Table, within: &str, key: &str, known: &[&str]) -> Option<usize> {
        let text = self.text(table, within, key)?;
        let found = known.iter().position(|word| *word == text);
        if found.is_none() {
            let hint = nearest::hint(&text, known.iter().copied());
            self.mistake(
                format!("{within}{key}"),
                format!("{text:?} is not one of {}{hint}", known.join(", ")),
            );
        }
        found
    }

    /// An optional list of such words, each once, at least one; their places.
    pub fn words(&mut self, table: &Table, within: &str, key: &str, known: &[&str]) -> Option<Vec<usize>> {
        let path = format!("{within}{key}");
        let items = match table.get(key)? {
            Value::Array(items) if !items.is_empty() => items,
            _ => {
                self.mistake(path, format!("expected a list of some of {}", known.join(", ")));
                return None;
            }
        };
        let mut read = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let path = format!("{path}[{place}]");
            let word = item.as_str().unwrap_or_default();
            match known.iter().position(|known| *known == word) {
                Some(found) if read.contains(&found) => {
                    self.mistake(path, format!("{word} stands here twice"))
                }
                Some(found) => read.push(found),
                None => {
                    let hint = nearest::hint(word, known.iter().copied());
                    self.mistake(path, format!("{word:?} is not one of {}{hint}", known.join(", ")));
                }
            }
        }
        Some(read)
    }

    /// A name that must be there.
    pub fn name<T: FromStr>(&mut self, table: &Table, within: &str, key: &str, example: &str) -> Option<T>
    where
        T::Err: Display,
    {
        if !table.contains_key(key) {
            self.mistake(format!("{within}{key}"), format!("missing; e.g. `{key} = \"{example}\"`"));
        }
        self.optional_name(table, within, key)
    }

    /// A name that may be there.
    pub fn optional_name<T: FromStr>(&mut self, table: &Table, within: &str, key: &str) -> Option<T>
    where
        T::Err: Display,
    {
        match self.text(table, within, key)?.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.mistake(format!("{within}{key}"), format!("{error}"));
                None
            }
        }
    }

    /// A list of names, each once, at least one.
    pub fn names<T: FromStr + PartialEq + Display>(
        &mut self,
        table: &Table,
        within: &str,
        key: &str,
        example: &str,
    ) -> Vec<T>
    where
        T::Err: Display,
    {
        let path = format!("{within}{key}");
        let items = match table.get(key) {
            Some(Value::Array(items)) if !items.is_empty() => items,
            _ => {
                self.mistake(path, format!("expected a list of names, e.g. `{key} = [{example}]`"));
                return Vec::new();
            }
        };
        let mut read: Vec<T> = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let path = format!("{path}[{place}]");
            match item.as_str().map(str::parse::<T>) {
                Some(Ok(name)) if read.contains(&name) => {
                    self.mistake(path, format!("{name} stands here twice"))
                }
                Some(Ok(name)) => read.push(name),
                Some(Err(error)) => self.mistake(path, error.to_string()),
                None => self.mistake(path, "expected a name in quotes"),
            }
        }
        read
    }

    /// A duration that must be there and is not negative, ns.
    pub fn duration(&mut self, table: &Table, within: &str, key: &str, example: &str) -> Option<i64> {
        if !table.contains_key(key) {
            self.mistake(format!("{within}{key}"), format!("missing; e.g. `{key} = \"{example}\"`"));
        }
        self.optional_duration(table, within, key)
    }

    /// A duration that may be there and is not negative, ns.
    pub fn optional_duration(&mut self, table: &Table, within: &str, key: &str) -> Option<i64> {
        let read = self.shift(table, within, key)?;
        if read < 0 {
            self.mistake(format!("{within}{key}"), "is negative; write how long, without a sign");
            return None;
        }
        Some(read)
    }

    /// A duration of either sign that may be there, ns.
    pub fn shift(&mut self, table: &Table, within: &str, key: &str) -> Option<i64> {
        let value = table.get(key)?;
        let read = value.as_str().and_then(duration::parse);
        if read.is_none() {
            let given = match value {
                Value::Integer(n) => format!("{n} has no unit: "),
                Value::Float(n) => format!("{n} has no unit: "),
                Value::String(text) => format!("{text:?} is no duration: "),
                _ => String::new(),
            };
            self.mistake(
                format!("{within}{key}"),
                format!("{given}expected a number and ns, us, ms, s, min, h or d in quotes, e.g. \"50ms\""),
            );
        }
        read
    }
}
