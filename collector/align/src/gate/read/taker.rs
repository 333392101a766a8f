//! Takes values out of one table, and notes what is wrong with them.

use crate::gate::formula::Formula;
use crate::gate::keys::{Key, TYPES};
use crate::recipe::{Mistake, duration, nearest::hint};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// One table and where it is.
pub(super) struct Taker<'a> {
    pub(super) table: &'a Table,
    pub(super) path: String,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string().trim().to_owned(),
    }
}

impl Taker<'_> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn wrong(&mut self, key: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake { path: format!("{}{key}", self.path), text: text.into() });
    }

    /// Refuses keys that are in none of the lists.
    pub(super) fn known(&mut self, lists: &[&[Key]]) {
        let known: Vec<&str> = lists.iter().flat_map(|list| list.iter().map(|key| key.name)).collect();
        let unknown: Vec<String> =
            self.table.keys().filter(|key| !known.contains(&key.as_str())).cloned().collect();
        for key in unknown {
            self.wrong(
                &key,
                format!("unknown key{}; known here: {}", hint(&key, known.iter().copied()), known.join(", ")),
            );
        }
    }

    fn taken<T>(&mut self, key: &str, wanted: &str, of: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.table.get(key)?;
        let found = of(value);
        if found.is_none() {
            let shown = shown(value);
            self.wrong(key, format!("expected {wanted}, found {shown}"));
        }
        found
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.taken(key, "text in quotes", |value| {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
        })
    }

    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        let all = |value: &Value| {
            let items = value.as_array()?;
            items
                .iter()
                .map(|item| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
                .collect()
        };
        self.taken(key, "a list of texts, such as [\"a\", \"b\"]", all).unwrap_or_default()
    }

    pub(super) fn number(&mut self, key: &str) -> Option<f64> {
        let finite = |value: &Value| {
            let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
            number.filter(|number| number.is_finite())
        };
        self.taken(key, "a finite number", finite)
    }

    pub(super) fn count(&mut self, key: &str, (least, most): (u64, u64)) -> Option<u64> {
        let wanted = format!("a whole number from {least} to {most}");
        let within = |value: &Value| {
            value.as_integer().and_then(|n| u64::try_from(n).ok()).filter(|n| (least..=most).contains(n))
        };
        self.taken(key, &wanted, within)
    }

    pub(super) fn truth(&mut self, key: &str) -> Option<bool> {
        self.taken(key, "true or false, without quotes", Value::as_bool)
    }

    pub(super) fn duration(&mut self, key: &str) -> Option<i64> {
        let wanted = "a number and ns, us, ms, s, min, h or d in quotes, such as \"50ms\"";
        self.taken(key, wanted, |value| value.as_str().and_then(duration::parse).filter(|ns| *ns >= 0))
    }

    /// RFC 3339 as text or as TOML's own; UTC ns.
    pub(super) fn moment(&mut self, key: &str) -> Option<i64> {
        let wanted = "a moment such as \"2020-01-01T00:00:00Z\"";
        self.taken(key, wanted, |value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            chrono::DateTime::parse_from_rfc3339(&text).ok()?.timestamp_nanos_opt()
        })
    }

    pub(super) fn word(&mut self, key: &str, words: &[&'static str]) -> Option<&'static str> {
        let wanted = format!("one of {}", words.join(", "));
        self.taken(key, &wanted, |value| {
            value.as_str().and_then(|text| words.iter().find(|word| **word == text).copied())
        })
    }

    pub(super) fn formula(&mut self, key: &str) -> Option<Formula> {
        let text = self.text(key)?;
        match Formula::truth(&text) {
            Ok(formula) => Some(formula),
            Err(error) => {
                self.wrong(key, error.to_string());
                None
            }
        }
    }

    pub(super) fn types(&mut self, key: &str) -> BTreeMap<String, String> {
        let wanted = format!("types by column, such as {{ a = \"number\" }}; types are {}", TYPES.join(", "));
        let all = |value: &Value| {
            let pairs = value.as_table()?.iter().map(|(name, kind)| {
                let kind = kind.as_str().filter(|kind| TYPES.contains(kind))?;
                Some((name.clone(), kind.to_owned()))
            });
            pairs.collect()
        };
        self.taken(key, &wanted, all).unwrap_or_default()
    }

    /// `(lat, lon, radius_m)`
    pub(super) fn circle(&mut self, key: &str) -> Option<(f64, f64, f64)> {
        self.taken(key, "{ lat = 47.4, lon = 8.5, radius_m = 5000 }", |value| {
            let table = value.as_table().filter(|table| table.len() == 3)?;
            let number = |key: &str| table.get(key).and_then(as_number);
            let (lat, lon) = place(number("lat")?, number("lon")?)?;
            Some((lat, lon, number("radius_m").filter(|radius| *radius > 0.0)?))
        })
    }

    pub(super) fn corners(&mut self, key: &str) -> Option<Vec<(f64, f64)>> {
        let wanted = "three corners or more as [[lat, lon], …], degrees";
        self.taken(key, wanted, |value| {
            let corners: Option<Vec<(f64, f64)>> = value
                .as_array()?
                .iter()
                .map(|corner| match corner.as_array()?.as_slice() {
                    [lat, lon] => place(as_number(lat)?, as_number(lon)?),
                    _ => None,
                })
                .collect();
            corners.filter(|corners| (3..=1_000).contains(&corners.len()))
        })
    }
}

fn as_number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|n| n as f64)).filter(|number| number.is_finite())
}

fn place(lat: f64, lon: f64) -> Option<(f64, f64)> {
    ((-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon)).then_some((lat, lon))
}
