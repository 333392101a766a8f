//! `fallback`: what stands where nothing matched.

use super::super::duration::show;
use super::super::model::{Fallback, Method};
use super::super::nearest;
use super::super::reader::Reader;
use super::COLUMN_REACH_MAX_NS;
use headwater_core::id::FieldName;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// How fallbacks are written.
const FORMS: &str = "\"null\", \"drop\", { locf = \"10min\" } or { const = { temperature = 20.5 } }";

impl Reader {
    pub(super) fn fallback(
        &mut self,
        table: &Table,
        within: &str,
        select: &[FieldName],
        method: Option<&Method>,
    ) -> Fallback {
        let path = format!("{within}fallback");
        let read = match table.get("fallback") {
            None => return Fallback::Null,
            Some(Value::String(word)) if word == "null" => Some(Fallback::Null),
            Some(Value::String(word)) if word == "drop" => Some(Fallback::Drop),
            Some(Value::Table(inner)) if inner.len() == 1 => {
                let within = format!("{path}.");
                self.known_names(inner, &within, &["locf", "const"]);
                match inner.get("locf") {
                    Some(_) => self.locf(inner, &within, method),
                    None => inner.get("const").and_then(|value| self.constants(&within, value, select)),
                }
            }
            Some(other) => {
                let word = other.as_str().unwrap_or_default();
                let hint = nearest::hint(word, ["null", "drop", "locf", "const"]);
                self.mistake(path.clone(), format!("expected {FORMS}{hint}"));
                None
            }
        };
        let read = read.unwrap_or(Fallback::Null);
        let many = matches!(method, Some(Method::Window { .. } | Method::List { .. }));
        if many && matches!(read, Fallback::Locf { .. } | Fallback::Const(_)) {
            self.mistake(
                path,
                "a window is filled by nothing but \"null\" or \"drop\": it is empty or it is not",
            );
        }
        read
    }

    fn locf(&mut self, table: &Table, within: &str, method: Option<&Method>) -> Option<Fallback> {
        let max_age_ns = self.duration(table, within, "locf", "10min")?;
        if max_age_ns > COLUMN_REACH_MAX_NS {
            self.mistake(format!("{within}locf"), "beyond a year, the furthest a column may reach");
        }
        let reached = match method {
            Some(Method::Previous { tolerance_ns }) => Some(*tolerance_ns),
            Some(Method::Nearest { tolerance_ns }) => Some(*tolerance_ns),
            _ => None,
        };
        if let Some(tolerance) = reached.filter(|tolerance| max_age_ns <= *tolerance) {
            let text = format!(
                "{} never applies: within the tolerance of {} the sample is a match already; write more, or leave it out",
                show(max_age_ns),
                show(tolerance)
            );
            self.mistake(format!("{within}locf"), text);
        }
        Some(Fallback::Locf { max_age_ns })
    }

    /// One constant for the only field, or one by field; those not named stay null.
    fn constants(&mut self, within: &str, value: &Value, select: &[FieldName]) -> Option<Fallback> {
        let path = format!("{within}const");
        let mut by_field = BTreeMap::new();
        let Value::Table(fields) = value else {
            let [only] = select else {
                let text =
                    "several fields are selected; write one by field: { const = { temperature = 20.5 } }";
                self.mistake(path, text);
                return None;
            };
            by_field.insert(only.clone(), self.constant(&path, value)?);
            return Some(Fallback::Const(by_field));
        };
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            match select.iter().find(|field| field.as_str() == name) {
                Some(field) => by_field.extend(self.constant(&path, value).map(|of| (field.clone(), of))),
                None => self.unselected(path, name, select),
            }
        }
        if fields.is_empty() {
            self.mistake(path, "names no field");
        }
        Some(Fallback::Const(by_field))
    }

    /// A field that the column does not take.
    pub(super) fn unselected(&mut self, path: String, name: &str, select: &[FieldName]) {
        let hint = nearest::hint(name, select.iter().map(FieldName::as_str));
        self.mistake(path, format!("{name} is not in `select`{hint}"));
    }
}
