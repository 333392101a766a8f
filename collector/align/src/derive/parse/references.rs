//! Columns that derived ones and episodes name must be there, and be there before.

use crate::recipe::nearest::hint;
use crate::recipe::reader::Reader;
use crate::recipe::{Holds, Recipe};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Notes every column that is named but not made, or made later. Types are checked where fields are known.
pub fn references(reader: &mut Reader, table: &Table, recipe: &Recipe) {
    let outputs = recipe.outputs();
    let is_derived = |holds: &Holds| matches!(holds, Holds::Derived | Holds::Episode);
    let made = outputs.iter().filter(|output| !is_derived(&output.holds)).map(|output| output.name.clone());
    let mut asked = Asked {
        known: made.collect(),
        all: outputs.iter().map(|output| output.name.as_str()).collect(),
        broken: broken(table, recipe),
    };
    let places = names(table, "derive");
    for derived in &recipe.derived {
        let place = places.iter().position(|name| *name == derived.name.as_str()).unwrap_or_default();
        for (key, column) in derived.inputs() {
            asked.ask(reader, format!("derive[{place}].{key}"), column);
        }
        asked.known.extend(derived.outputs());
    }
    for (key, column) in recipe.episodes.iter().flat_map(|episodes| episodes.inputs()) {
        asked.ask(reader, format!("episode.{key}"), column);
    }
}

struct Asked<'a> {
    /// Made so far.
    known: BTreeSet<String>,
    /// Made at all.
    all: BTreeSet<&'a str>,
    /// What could not be read, and has its own mistakes.
    broken: Vec<&'a str>,
}

impl Asked<'_> {
    fn ask(&self, reader: &mut Reader, path: String, column: &str) {
        let is_of = |name: &str| {
            column.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        if self.known.contains(column) || self.broken.iter().any(|name| is_of(name)) {
            return;
        }
        let text = if self.all.contains(column) {
            format!("{column} is made later; a derived column reads what stands before it in the recipe")
        } else {
            format!("no column is called {column}{}", hint(column, self.known.iter().map(String::as_str)))
        };
        reader.mistake(path, text);
    }
}

/// Names of the tables `key`, in file order.
fn names<'a>(table: &'a Table, key: &str) -> Vec<&'a str> {
    let tables = table.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    tables.iter().map(|table| table.get("name").and_then(Value::as_str).unwrap_or_default()).collect()
}

fn broken<'a>(table: &'a Table, recipe: &Recipe) -> Vec<&'a str> {
    let columns: BTreeSet<&str> = recipe.columns.iter().map(|column| column.name.as_str()).collect();
    let derived: BTreeSet<&str> = recipe.derived.iter().map(|derived| derived.name.as_str()).collect();
    let of = |key: &str, read: &BTreeSet<&str>| -> Vec<&'a str> {
        names(table, key).into_iter().filter(|name| !read.contains(name)).collect()
    };
    let mut broken = of("column", &columns);
    broken.extend(of("derive", &derived));
    broken
}
