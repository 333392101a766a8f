//! What is told: a small tree, written as text or as JSON.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use std::fmt::{self, Display, Write};

/// How many values of a column are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// At most this many.
    First(usize),
    /// All of them.
    All,
}

impl Values {
    pub(super) fn of(self, rows: usize) -> usize {
        match self {
            Self::First(n) => n.min(rows),
            Self::All => rows,
        }
    }
}

/// One thing that was found: its facts in order, what is in it, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    what: String,
    facts: Vec<(&'static str, Value)>,
    damage: Vec<String>,
    items: Vec<Item>,
}

impl Item {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), facts: Vec::new(), damage: Vec::new(), items: Vec::new() }
    }

    pub(super) fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.push((name, value.into()));
        self
    }

    /// A fact that has words of its own, such as a fingerprint.
    pub(super) fn told(self, name: &'static str, value: impl Display) -> Self {
        self.fact(name, value.to_string())
    }

    pub(super) fn damaged(mut self, why: impl Display) -> Self {
        self.damage.push(why.to_string());
        self
    }

    pub(super) fn holds(mut self, items: impl IntoIterator<Item = Item>) -> Self {
        self.items.extend(items);
        self
    }

    /// True if it or anything in it is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || self.items.iter().any(Item::is_damaged)
    }

    fn write(&self, out: &mut impl Write, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        write!(out, "{indent}{}", self.what)?;
        for (at, (name, value)) in self.facts.iter().enumerate() {
            out.write_str(if at == 0 { ": " } else { ", " })?;
            write!(out, "{name} ")?;
            write_value(out, value)?;
        }
        out.write_char('\n')?;
        for why in &self.damage {
            writeln!(out, "{indent}  ! {}", one_line(why))?;
        }
        self.items.iter().try_for_each(|item| item.write(out, depth.saturating_add(1)))
    }
}

/// Foreign text must not move the cursor or begin a line.
fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

fn write_value(out: &mut impl Write, value: &Value) -> fmt::Result {
    match value {
        Value::String(text) => out.write_str(&one_line(text)),
        Value::Array(values) => {
            out.write_char('[')?;
            for (at, value) in values.iter().enumerate() {
                out.write_str(if at == 0 { "" } else { ", " })?;
                match value {
                    // JSON escapes what is below a space, and nothing that a terminal obeys above it.
                    Value::String(_) => out.write_str(&one_line(&value.to_string()))?,
                    value => write_value(out, value)?,
                }
            }
            out.write_char(']')
        }
        value => write!(out, "{value}"),
    }
}

/// As text: a line for it, a line for each damage, and what is in it, two columns further right.
impl Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

/// As JSON: `what`, the facts, `damage` and `items` where there are any.
impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("what", &self.what)?;
        for (name, value) in &self.facts {
            map.serialize_entry(name, value)?;
        }
        if !self.damage.is_empty() {
            map.serialize_entry("damage", &self.damage)?;
        }
        if !self.items.is_empty() {
            map.serialize_entry("items", &self.items)?;
        }
        map.end()
    }
}
