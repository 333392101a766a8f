//! A recipe read back from its canonical form, as the lake keeps it.

use super::explain::condition;
use super::keys::{self, Key, Shape};
use super::mistake::{Mistake, RecipeError};
use super::model::{CompareOp, Condition, Constant, Recipe};
use crate::derive::port::{Files, NoFiles};
use serde_json::Value as Json;
use toml::{Table, Value};

/// Signs of comparisons.
const OPS: [CompareOp; 6] =
    [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];

impl Recipe {
    /// Reads a canonical form. What is given back has that very form, so the same id; its `doc` is lost.
    ///
    /// # Errors
    /// [`RecipeError`] if it is no canonical form, or one this build does not know how to make.
    pub fn from_canonical(text: &str) -> Result<Self, RecipeError> {
        Self::from_canonical_with(text, &NoFiles)
    }

    /// The same with the files it names.
    ///
    /// # Errors
    /// As [`Self::from_canonical`].
    pub fn from_canonical_with(text: &str, files: &dyn Files) -> Result<Self, RecipeError> {
        let refuse = |text: String| RecipeError(vec![Mistake { path: "(canonical)".to_owned(), text }]);
        let json: Json = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let members = json.as_object().ok_or_else(|| refuse("is no object".to_owned()))?;
        if let Some(part) = beyond(members) {
            let text = format!(
                "it keeps only hashes of {part}; give the recipe's TOML file, with those files beside it"
            );
            return Err(refuse(text));
        }
        let recipe = Self::from_table(&table(keys::RECIPE, members), files)?;
        match recipe.canonical() == text {
            true => Ok(recipe),
            false => {
                Err(refuse("is of another version: what this build makes of it has another id".to_owned()))
            }
        }
    }
}

/// What the canonical form knows by its hash alone.
fn beyond(members: &serde_json::Map<String, Json>) -> Option<&'static str> {
    let derived = members.get("derive").and_then(Json::as_array).into_iter().flatten();
    derived.into_iter().find_map(|derived| {
        let command = derived.get("command");
        let has_files =
            command.and_then(|of| of.get("files")?.as_object()).is_some_and(|files| !files.is_empty());
        if derived.get("geofence").is_some() {
            Some("its fences")
        } else if has_files || command.is_some_and(|of| of.get("program_sha256").is_some()) {
            Some("a command's files")
        } else {
            None
        }
    })
}

/// Members under the keys of a table, written as a file would: what is nothing is left out. Unknown ones are kept, for
/// the reader to refuse.
fn table(keys: &[Key], members: &serde_json::Map<String, Json>) -> Table {
    let said = members.iter().filter(|(_, value)| !value.is_null() && **value != Json::Array(Vec::new()));
    let said = said.map(|(name, value)| {
        let key = keys.iter().find(|key| key.name == name);
        (name.clone(), key.map_or_else(|| plain(value), |key| written(key.shape, value)))
    });
    said.collect()
}

fn written(shape: Shape, json: &Json) -> Value {
    let text = || json.as_str().unwrap_or_default().to_owned();
    match (shape, json) {
        (Shape::Version | Shape::Count(..), Json::String(digits)) => {
            digits.parse().map_or_else(|_| plain(json), Value::Integer)
        }
        (Shape::Duration | Shape::Shift | Shape::Moment, _) => Value::String(text() + "ns"),
        (Shape::Condition, Json::Object(parts)) => {
            read_condition(parts).map_or_else(|| plain(json), |of| Value::String(condition(&of)))
        }
        (Shape::Fallback, Json::Object(parts)) => Value::Table(fallback(parts)),
        (Shape::Table(keys), Json::Object(members)) => Value::Table(table(keys, members)),
        (Shape::Tables(keys), Json::Array(items)) => {
            let tables = items.iter().filter_map(Json::as_object);
            Value::Array(tables.map(|members| Value::Table(table(keys, members))).collect())
        }
        // Numbers stand in a canonical form as text.
        (Shape::Other(schema), Json::String(digits)) if schema.contains("\"number\"") => {
            digits.parse().map_or_else(|_| plain(json), Value::Float)
        }
        (Shape::Other(schema), Json::Object(members)) if schema.contains("\"number\"") => {
            let each = |(name, value): (&String, &Json)| (name.clone(), written(shape, value));
            Value::Table(members.iter().map(each).collect())
        }
        _ => plain(json),
    }
}

fn fallback(parts: &serde_json::Map<String, Json>) -> Table {
    let part = |(key, value): (&String, &Json)| {
        let value = match (key.as_str(), value) {
            ("locf", Json::String(ns)) => Value::String(format!("{ns}ns")),
            ("const", Json::Object(fields)) => {
                let by_field = fields.iter().map(|(field, value)| (field.clone(), constant_value(value)));
                Value::Table(by_field.collect())
            }
            _ => plain(value),
        };
        (key.clone(), value)
    };
    parts.iter().map(part).collect()
}

fn read_condition(parts: &serde_json::Map<String, Json>) -> Option<Condition> {
    let op = parts.get("op")?.as_str()?;
    Some(Condition {
        field: parts.get("field")?.as_str()?.parse().ok()?,
        op: OPS.into_iter().find(|known| known.as_str() == op)?,
        value: constant(parts.get("value")?)?,
    })
}

fn constant(json: &Json) -> Option<Constant> {
    match json {
        Json::String(text) => Some(Constant::Text(text.clone())),
        Json::Bool(value) => Some(Constant::Bool(*value)),
        Json::Object(parts) => Some(Constant::Number(parts.get("number")?.as_str()?.parse().ok()?)),
        _ => None,
    }
}

fn constant_value(json: &Json) -> Value {
    match constant(json) {
        Some(Constant::Number(value)) => Value::Float(value),
        _ => plain(json),
    }
}

fn plain(json: &Json) -> Value {
    match json {
        Json::Null => Value::String(String::new()),
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(value) => {
            value.as_i64().map_or_else(|| Value::String(value.to_string()), Value::Integer)
        }
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Json::Object(members) => {
            Value::Table(members.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::goldens;
    use super::*;

    #[test]
    fn every_golden_recipe_reads_back_from_its_canonical_form() {
        for (name, text) in goldens().into_iter().filter(|(name, _)| !name.starts_with("invalid")) {
            let recipe = Recipe::parse(&text).unwrap();
            if name == "derived" {
                continue;
            }
            let kept =
                Recipe::from_canonical(&recipe.canonical()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((kept.id(), Recipe { doc: None, ..recipe }), (kept.id(), kept), "{name}");
        }
    }

    #[test]
    fn what_is_prepared_and_derived_reads_back_but_for_contents_of_files() {
        let text = goldens().into_iter().find(|(name, _)| name == "derived").unwrap().1;
        let said =
            Recipe::from_canonical(&Recipe::parse(&text).unwrap().canonical()).unwrap_err().to_string();
        assert!(said.contains("only hashes of its fences") && said.contains("TOML file"), "{said}");
        let (before, zone) = text.split_once("[[derive]]\nname = \"zone\"").unwrap();
        let after = zone.split_once("[[derive]]").unwrap().1;
        let mut recipe = Recipe::parse(&format!("{before}[[derive]]{after}")).unwrap();
        let kept = Recipe::from_canonical(&recipe.canonical()).unwrap();
        recipe.derived.iter_mut().for_each(|derived| derived.doc = None);
        assert_eq!((kept.id(), recipe.clone()), (recipe.id(), kept));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let minimal = goldens().into_iter().find(|(name, _)| name == "minimal").unwrap().1;
        let canonical = Recipe::parse(&minimal).unwrap().canonical();
        for (bad, said) in [
            ("{", "EOF"),
            ("[]", "no object"),
            ("{}", "missing"),
            (&canonical.replace("\"1\"", "\"2\""), "the only version"),
            (&canonical.replace("previous", "sideways"), "not one of"),
            (&canonical.replace("{\"column\"", "{\"colour\":\"blue\",\"column\""), "unknown key"),
            (&canonical.replace("{\"column\"", "{ \"column\""), "another version"),
        ] {
            let text = Recipe::from_canonical(bad).unwrap_err().to_string();
            assert!(text.contains(said), "{bad}: {text}");
        }
    }
}
