//! The JSON schema of a recipe's TOML, made of the tables the reader refuses by, so that editors say the same.

use super::keys::{self, Key, METHOD_KEYS, METHODS, Shape};
use serde_json::{Map, Value, json};

/// A duration as [`super::duration::parse`] reads it.
const DURATION: &str = r"^\+?[0-9]+(\.[0-9]+)? ?(ns|us|ms|s|min|h|d)$";
/// The same with a sign.
const SHIFT: &str = r"^[-+]?[0-9]+(\.[0-9]+)? ?(ns|us|ms|s|min|h|d)$";
const NAME: &str = "^[a-z][a-z0-9_]{0,62}$";
const STREAM: &str = "^[a-z0-9._-]+(/[a-z0-9._-]+)*$";
const DEVICE: &str = "^[a-z0-9._-]{1,64}$";

/// The schema (JSON Schema, draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut root = table(keys::RECIPE);
    if let Value::Object(root) = &mut root {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("Headwater recipe"));
    }
    root
}

fn table(keys: &[Key]) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let mut of = shape(key.shape);
        if let Value::Object(of) = &mut of {
            of.insert("description".to_owned(), json!(key.doc));
        }
        properties.insert(key.name.to_owned(), of);
    }
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut table = Map::from_iter([
        ("type".to_owned(), json!("object")),
        ("additionalProperties".to_owned(), json!(false)),
        ("properties".to_owned(), Value::Object(properties)),
    ]);
    if !required.is_empty() {
        table.insert("required".to_owned(), json!(required));
    }
    if std::ptr::eq(keys, keys::SPINE) {
        let one = ["stream", "grid", "union", "event"].map(|key| json!({ "required": [key] }));
        table.insert("oneOf".to_owned(), json!(one));
    }
    if std::ptr::eq(keys, keys::COLUMN) {
        table.insert("allOf".to_owned(), methods());
    }
    Value::Object(table)
}

/// What each method needs, and what it does not take.
fn methods() -> Value {
    let of = METHODS.iter().map(|method| {
        let own = |key: &&str| method.needs.contains(key) || method.takes.contains(key);
        let foreign = METHOD_KEYS.into_iter().filter(|key| !own(key));
        let foreign: Map<String, Value> = foreign.map(|key| (key.to_owned(), json!(false))).collect();
        json!({
            "if": { "properties": { "method": { "const": method.name } }, "required": ["method"] },
            "then": { "required": method.needs, "properties": foreign },
        })
    });
    Value::Array(of.collect())
}

fn text(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn list(items: &Value, least: usize) -> Value {
    json!({ "type": "array", "items": items, "minItems": least, "uniqueItems": true })
}

fn shape(shape: Shape) -> Value {
    match shape {
        Shape::Version => json!({ "const": 1 }),
        Shape::Text => json!({ "type": "string" }),
        Shape::Name => text(NAME),
        Shape::Stream => text(STREAM),
        Shape::Device => text(DEVICE),
        Shape::Fields | Shape::Columns => list(&text(NAME), 1),
        Shape::Streams(least) => list(&text(STREAM), least),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::Words(words) => list(&json!({ "enum": words }), 1),
        Shape::Duration => text(DURATION),
        Shape::Shift => text(SHIFT),
        Shape::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Bool => json!({ "type": "boolean" }),
        // TOML has instants of its own; editors see them as text.
        Shape::Moment => json!({ "type": "string", "format": "date-time" }),
        Shape::Condition => {
            json!({ "type": "string", "pattern": "^\\s*[a-z][a-z0-9_]*\\s*(!=|<=|>=|==|=|<|>).+$" })
        }
        Shape::Units => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::Fallback => fallback(),
        Shape::Sites => json!({ "type": "object", "additionalProperties": list(&text(DEVICE), 1) }),
        Shape::Table(keys) => table(keys),
        Shape::Tables(keys) => json!({ "type": "array", "items": table(keys), "minItems": 1 }),
        Shape::Other(schema) => serde_json::from_str(schema).unwrap_or(Value::Bool(true)),
    }
}

fn fallback() -> Value {
    let constant = json!({ "type": ["number", "string", "boolean"] });
    let by_field = json!({ "type": "object", "additionalProperties": constant, "minProperties": 1 });
    let only = |key: &str, of: Value| json!({ "type": "object", "required": [key], "properties": { key: of }, "additionalProperties": false });
    json!({ "anyOf": [
        { "enum": ["null", "drop"] },
        only("locf", text(DURATION)),
        only("const", json!({ "anyOf": [constant, by_field] })),
    ] })
}

#[cfg(test)]
mod tests {
    use super::super::tests::goldens;
    use super::*;
    use boon::{Compiler, Schemas};

    fn as_json(value: &toml::Value) -> Value {
        match value {
            toml::Value::Datetime(moment) => json!(moment.to_string()),
            toml::Value::Array(items) => items.iter().map(as_json).collect(),
            toml::Value::Table(table) => {
                Value::Object(table.iter().map(|(key, value)| (key.clone(), as_json(value))).collect())
            }
            toml::Value::String(text) => json!(text),
            toml::Value::Integer(n) => json!(n),
            toml::Value::Float(n) => json!(n),
            toml::Value::Boolean(b) => json!(b),
        }
    }

    /// What the schema says of a TOML text.
    fn refused(text: &str) -> Option<String> {
        let mut compiler = Compiler::new();
        compiler.add_resource("recipe.json", schema()).unwrap();
        let mut schemas = Schemas::new();
        let compiled = compiler.compile("recipe.json", &mut schemas).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let value = as_json(&toml::Value::Table(table));
        schemas.validate(&value, compiled).err().map(|error| format!("{error:#}"))
    }

    #[test]
    fn the_schema_takes_every_recipe_the_reader_takes_and_refuses_the_others() {
        for (name, text) in goldens() {
            // Names that clash are beyond a schema.
            let beyond = name == "invalid_names";
            assert_eq!(refused(&text).is_some(), name.starts_with("invalid") && !beyond, "{name}");
        }
    }

    #[test]
    fn it_knows_what_belongs_to_a_method() {
        let minimal = goldens().into_iter().find(|(name, _)| name == "minimal").unwrap().1;
        assert_eq!(refused(&minimal), None);
        for (from, to) in [
            ("previous", "linear"),
            ("tolerance = \"1s\"", "tolerance = \"1s\"\nmax_gap = \"1s\""),
            ("tolerance = \"1s\"", ""),
            ("\"1s\"", "1"),
            ("\"1s\"", "\"1 week\""),
            ("stream = \"camera/front\"", "stream = \"camera/front\"\nunion = [\"a\", \"b\"]"),
            ("name = \"motion\"", "name = \"Motion\""),
            ("name = \"minimal\"", "name = \"minimal\"\ncolour = \"blue\""),
        ] {
            assert!(minimal.contains(from), "{from}");
            assert!(refused(&minimal.replace(from, to)).is_some(), "{to}");
        }
    }
}
