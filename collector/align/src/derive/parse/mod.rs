//! TOML to declarations, every mistake collected with its path.

mod command;
mod episode;
mod fence;
mod method;
mod prepare;
#[cfg(test)]
mod tests;

pub use prepare::prepare;

use super::keys;
use super::port::Files;
use super::{DERIVED_MAX, Derived, Episodes, keys::too_many};
use crate::expr::Expr;
use crate::recipe::reader::Reader;
use std::collections::BTreeSet;
use toml::{Table, Value};

/// The `[[derive]]` tables of a recipe, in file order; those with mistakes are left out, and their mistakes noted.
pub fn derived(reader: &mut Reader, recipe: &Table, files: &dyn Files) -> Vec<Derived> {
    let tables = reader.tables(recipe, "derive");
    if tables.len() > DERIVED_MAX {
        reader.mistake("derive", too_many(tables.len()));
    }
    let mut names = BTreeSet::new();
    let mut read = Vec::new();
    for (within, table) in tables {
        if let Some(name) = table.get("name").and_then(Value::as_str)
            && !names.insert(name)
        {
            reader.mistake(format!("{within}name"), format!("{name} names two derived columns"));
        }
        read.extend(one(reader, table, &within, files));
    }
    read
}

/// The `[episode]` table of a recipe, if there is one.
pub fn episode(reader: &mut Reader, recipe: &Table) -> Option<Episodes> {
    let table = reader.table(recipe, "", "episode", "write [episode] with `gap = \"30s\"`")?;
    episode::read(reader, table)
}

fn one(reader: &mut Reader, table: &Table, within: &str, files: &dyn Files) -> Option<Derived> {
    reader.known(table, within, keys::DERIVE);
    let name = reader.name(table, within, "name", "speed");
    let version = reader.count(table, within, "version", (1, u32::MAX)).unwrap_or(1);
    let doc = reader.text(table, within, "doc");
    let unit = method::unit(reader, table, within);
    let by = method::read(reader, table, within, unit.as_deref(), files);
    Some(Derived { name: name?, version, doc, unit, by: by? })
}

/// Text that must be there.
fn needed(reader: &mut Reader, table: &Table, within: &str, key: &str, example: &str) -> Option<String> {
    if !table.contains_key(key) {
        reader.mistake(format!("{within}{key}"), format!("missing; e.g. `{key} = {example:?}`"));
    }
    reader.text(table, within, key)
}

/// A finite number that may be there.
#[expect(
    clippy::cast_precision_loss,
    reason = "integers of a recipe beyond 2^53 are rounded as any number is"
)]
fn number(reader: &mut Reader, table: &Table, within: &str, key: &str) -> Option<f64> {
    let read = match table.get(key)? {
        Value::Integer(value) => Some(*value as f64),
        Value::Float(value) => Some(*value).filter(|value| value.is_finite()),
        _ => None,
    };
    if read.is_none() {
        reader.mistake(format!("{within}{key}"), "expected a finite number, without quotes");
    }
    read
}

/// A number above 0 that must be there.
fn positive(reader: &mut Reader, table: &Table, within: &str, key: &str, example: &str) -> Option<f64> {
    if !table.contains_key(key) {
        reader.mistake(format!("{within}{key}"), format!("missing; e.g. `{key} = {example}`"));
    }
    let read = number(reader, table, within, key)?;
    if read <= 0.0 {
        reader.mistake(format!("{within}{key}"), format!("{read} is not above 0"));
        return None;
    }
    Some(read)
}

/// A duration above 0 that must be there, ns.
fn span(reader: &mut Reader, table: &Table, within: &str, key: &str, example: &str) -> Option<i64> {
    above_zero(reader, within, key, |reader| reader.duration(table, within, key, example))
}

/// A duration above 0 that may be there, ns.
fn optional_span(reader: &mut Reader, table: &Table, within: &str, key: &str) -> Option<i64> {
    above_zero(reader, within, key, |reader| reader.optional_duration(table, within, key))
}

fn above_zero(
    reader: &mut Reader,
    within: &str,
    key: &str,
    read: impl FnOnce(&mut Reader) -> Option<i64>,
) -> Option<i64> {
    let ns = read(reader)?;
    if ns == 0 {
        reader.mistake(format!("{within}{key}"), "is zero; write a duration above it");
        return None;
    }
    Some(ns)
}

/// A formula that may be there.
fn formula(reader: &mut Reader, table: &Table, within: &str, key: &str) -> Option<Expr> {
    match reader.text(table, within, key)?.parse() {
        Ok(formula) => Some(formula),
        Err(error) => {
            reader.mistake(format!("{within}{key}"), format!("{error}"));
            None
        }
    }
}
