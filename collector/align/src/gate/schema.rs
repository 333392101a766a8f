//! The JSON Schema of a file of rules, from the lists the reader goes by.

use super::RuleSet;
use super::keys::{CHECKS, FILE, Holds, Key, Measures, RULE, SHARE, VALUE};
use super::read::SHARE_BELOW;
use serde_json::{Map, Value, json};

impl RuleSet {
    /// JSON Schema (2020-12) of a file of rules, for editors.
    #[must_use]
    pub fn json_schema() -> Value {
        let mut file = properties(FILE);
        file.insert("headwater_gate".to_owned(), json!({"const": 1, "description": "version of the format"}));
        let rules: Vec<Value> = CHECKS
            .iter()
            .map(|check| {
                let mut own = properties(RULE);
                own.extend(properties(match check.measures {
                    Measures::Share if check.name == "coverage" => &SHARE_BELOW[..],
                    Measures::Share => SHARE,
                    Measures::Value(_) => VALUE,
                }));
                own.extend(properties(check.keys));
                own.insert("check".to_owned(), json!({"const": check.name, "description": check.about}));
                let needs: Vec<&str> = ["name", "check"].iter().chain(check.needs).copied().collect();
                json!({"title": check.name, "type": "object", "properties": own, "required": needs, "additionalProperties": false})
            })
            .collect();
        file.insert("rule".to_owned(), json!({"type": "array", "minItems": 1, "items": {"oneOf": rules}}));
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Headwater gate rules",
            "type": "object",
            "properties": file,
            "required": ["headwater_gate", "name", "rule"],
            "additionalProperties": false,
        })
    }
}

fn properties(keys: &[Key]) -> Map<String, Value> {
    keys.iter().map(|key| (key.name.to_owned(), property(key))).collect()
}

fn property(key: &Key) -> Value {
    let mut found = match key.holds {
        Holds::Text | Holds::Formula => json!({"type": "string", "minLength": 1}),
        Holds::Texts => json!({"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}),
        Holds::Number => json!({"type": "number"}),
        Holds::Count => json!({"type": "integer", "minimum": 0}),
        Holds::Duration => json!({"type": "string", "pattern": r"^\d+(\.\d+)? *(ns|us|ms|s|min|h|d)$"}),
        Holds::Moment => json!({"type": "string", "format": "date-time"}),
        Holds::Truth => json!({"type": "boolean"}),
        Holds::Word(words) => json!({"enum": words}),
        Holds::Types => json!({"type": "object", "additionalProperties": {"enum": super::TYPES}}),
        Holds::Circle => json!({
            "type": "object",
            "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}, "radius_m": {"type": "number", "exclusiveMinimum": 0}},
            "required": ["lat", "lon", "radius_m"],
            "additionalProperties": false,
        }),
        Holds::Corners => json!({
            "type": "array",
            "minItems": 3,
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        }),
    };
    if let Some(found) = found.as_object_mut() {
        found.insert("description".to_owned(), key.about.into());
    }
    found
}
