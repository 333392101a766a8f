//! What differs between two recipes, in words, and what of the rows it changes.

use super::duration;
use crate::json::Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What happened to a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
    /// It stands elsewhere among its like.
    Moved,
}

/// What of the table a change touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touches {
    /// Which rows there are.
    Rows,
    /// Values of a column.
    Values,
    /// When rows are final, and what late samples do.
    Finality,
    /// Names or order of columns, or order of rows.
    Layout,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// To what: `spine.max_err`, `column motion.max_gap`, `column air`.
    pub path: String,
    /// As it was, in a recipe's words.
    pub from: Option<String>,
    /// As it is.
    pub to: Option<String>,
    /// What that touches.
    pub touches: Touches,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from.as_deref().unwrap_or("-"), self.to.as_deref().unwrap_or("-"));
        match self.what {
            What::Added => write!(f, "+ {}: {to}", self.path),
            What::Removed => write!(f, "- {}: {from}", self.path),
            What::Changed => write!(f, "~ {}: {from} -> {to}", self.path),
            What::Moved => write!(f, "~ {}: {to}", self.path),
        }
    }
}

/// The differences between two canonical forms, `old` to `new`.
#[must_use]
pub fn diff(old: &Json, new: &Json) -> Vec<Change> {
    let mut changes = Vec::new();
    let (before, after) = (sections(old), sections(new));
    let names: BTreeSet<&String> = before.rest.keys().chain(after.rest.keys()).collect();
    for name in names {
        let touches = match name.split('.').next().unwrap_or_default() {
            "watermark" | "late" => Touches::Finality,
            "output" | "name" => Touches::Layout,
            "time" => Touches::Values,
            "episode" => Touches::Layout,
            _ => Touches::Rows,
        };
        compare(name, before.rest.get(name), after.rest.get(name), touches, &mut changes);
    }
    for list in ["column", "derive"] {
        named(list, &before.lists, &after.lists, &mut changes);
    }
    changes
}

/// A thing with a name, and its settings by path.
type Named = (String, BTreeMap<String, Json>);

/// A canonical form taken apart: named things of lists, and all the rest, flat.
struct Sections {
    lists: BTreeMap<String, Vec<Named>>,
    rest: BTreeMap<String, Json>,
}

fn sections(recipe: &Json) -> Sections {
    let (mut lists, mut rest) = (BTreeMap::new(), BTreeMap::new());
    let Json::Object(members) = recipe.clone() else { return Sections { lists, rest } };
    for (key, member) in members {
        match member {
            Json::List(items) if key == "column" || key == "derive" => {
                let named = items.into_iter().map(|item| {
                    let mut flat = BTreeMap::new();
                    flatten("", item, &mut flat);
                    let name = flat.remove("name").map(|name| value("name", &name)).unwrap_or_default();
                    (name, flat)
                });
                lists.insert(key, named.collect());
            }
            other => flatten(&key, other, &mut rest),
        }
    }
    Sections { lists, rest }
}

/// Leaves by their path. Lists are leaves: their order has a meaning of its own.
fn flatten(path: &str, json: Json, out: &mut BTreeMap<String, Json>) {
    match json {
        Json::Object(members) => {
            for (key, member) in members {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(&path, member, out);
            }
        }
        leaf => {
            out.insert(path.to_owned(), leaf);
        }
    }
}

fn named(
    list: &str,
    before: &BTreeMap<String, Vec<Named>>,
    after: &BTreeMap<String, Vec<Named>>,
    changes: &mut Vec<Change>,
) {
    let none = Vec::new();
    let (before, after) = (before.get(list).unwrap_or(&none), after.get(list).unwrap_or(&none));
    let find = |within: &[Named], name: &str| {
        within.iter().find(|(known, _)| known == name).map(|(_, of)| of.clone())
    };
    for (name, old) in before {
        let path = format!("{list} {name}");
        match find(after, name) {
            None => changes.push(Change {
                what: What::Removed,
                path,
                from: Some(summary(old)),
                to: None,
                touches: Touches::Layout,
            }),
            Some(new) => {
                let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for key in keys {
                    compare(&format!("{path}.{key}"), old.get(key), new.get(key), Touches::Values, changes);
                }
            }
        }
    }
    for (name, new) in after.iter().filter(|(name, _)| find(before, name).is_none()) {
        changes.push(Change {
            what: What::Added,
            path: format!("{list} {name}"),
            from: None,
            to: Some(summary(new)),
            touches: Touches::Layout,
        });
    }
    let common = |of: &[Named], other: &[Named]| {
        let names = of.iter().map(|(name, _)| name.clone());
        names.filter(|name| find(other, name).is_some()).collect::<Vec<_>>()
    };
    let (was, is) = (common(before, after), common(after, before));
    if was != is {
        changes.push(Change {
            what: What::Moved,
            path: format!("order of {list}s"),
            from: Some(was.join(", ")),
            to: Some(is.join(", ")),
            touches: Touches::Layout,
        });
    }
}

fn compare(path: &str, old: Option<&Json>, new: Option<&Json>, touches: Touches, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    let key = path.rsplit(['.', ' ']).next().unwrap_or(path);
    let said = |json: Option<&Json>| match json {
        Some(json) => value(key, json),
        None => default_of(key).to_owned(),
    };
    let what = match (old, new) {
        (None, Some(_)) if default_of(key) == UNSET => What::Added,
        (Some(_), None) if default_of(key) == UNSET => What::Removed,
        _ => What::Changed,
    };
    let touches = if key == "select" || key == "stats" { Touches::Layout } else { touches };
    let (from, to) = (Some(said(old)), Some(said(new)));
    changes.push(Change { what, path: path.to_owned(), from, to, touches });
}

const UNSET: &str = "unset";

/// What a key that is left out of the canonical form means.
fn default_of(key: &str) -> &'static str {
    match key {
        "tie" => "previous",
        "uncertainty" => "false",
        "extrapolate" => "never",
        "mode" => "point",
        "policy" => "recommit",
        "max_out_of_order" => "2s",
        "allowed_lateness" => "30d",
        "sort" => "device, ts_ns, row_key",
        "at" | "device" => "any",
        _ => UNSET,
    }
}

/// Keys whose canonical value is a duration in ns.
const DURATIONS: [&str; 18] = [
    "tolerance",
    "max_gap",
    "extrapolate",
    "offset",
    "from",
    "to",
    "locf",
    "period",
    "phase",
    "max_err",
    "idle_timeout",
    "max_out_of_order",
    "allowed_lateness",
    "time_constant",
    "duration_max",
    "gap",
    "rest",
    "timeout",
];

/// A leaf as a recipe says it.
pub(super) fn value(key: &str, json: &Json) -> String {
    match json {
        Json::Null => match key {
            "max_err" => "any".to_owned(),
            _ => "none".to_owned(),
        },
        Json::Text(text) if DURATIONS.contains(&key) => {
            text.parse().map_or_else(|_| text.clone(), duration::show)
        }
        Json::Text(text) => text.clone(),
        Json::List(items) if items.is_empty() => "none".to_owned(),
        Json::List(items) => items.iter().map(|item| value("", item)).collect::<Vec<_>>().join(", "),
        other => other.canonical(),
    }
}

/// A named thing's settings by path, its name left out: as they are said.
pub(super) fn settings(json: Json) -> BTreeMap<String, Json> {
    let mut flat = BTreeMap::new();
    flatten("", json, &mut flat);
    flat.remove("name");
    flat.retain(|_, value| *value != Json::Null);
    flat
}

/// A whole column in a few words.
fn summary(of: &BTreeMap<String, Json>) -> String {
    let say = |key: &str| of.get(key).map(|json| value(key, json));
    let mut words = Vec::new();
    if let (Some(select), Some(stream)) = (say("select"), say("stream")) {
        words.push(format!("{select} of {stream}"));
    }
    words.extend(say("method"));
    let limits = ["tolerance", "max_gap", "window.from", "window.to"];
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let limits = limits.iter().filter_map(|key| {
        let json = of.get(*key)?;
        Some(format!("{} {}", last(key), value(&last(key), json)))
    });
    words.extend(limits);
    if words.is_empty() {
        return listing(of);
    }
    words.join(", ")
}

/// Every setting.
pub(super) fn listing(of: &BTreeMap<String, Json>) -> String {
    let said = of.iter().filter(|(_, json)| **json != Json::List(Vec::new()));
    let said = said.map(|(key, json)| {
        let last = key.rsplit('.').next().unwrap_or_default();
        format!("{key} {}", value(last, json))
    });
    said.collect::<Vec<_>>().join(", ")
}

/// What the changes mean for a table that was begun with the old recipe.
#[must_use]
pub fn consequence(changes: &[Change]) -> String {
    let touched: BTreeSet<Touches> = changes.iter().map(|change| change.touches).collect();
    if touched.is_empty() {
        return "The same recipe: same id, same rows.".to_owned();
    }
    let words = touched.iter().map(|touches| match touches {
        Touches::Rows => "which rows there are",
        Touches::Values => "values",
        Touches::Finality => "when rows are final",
        Touches::Layout => "columns and their order",
    });
    let words: Vec<&str> = words.collect();
    format!(
        "Changes {}. Another id: a table begun with the old recipe stays with it; give the new one another name, or align history anew on a branch.",
        words.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::super::tests::goldens;
    use super::*;

    fn forms(old: &Recipe, new: &Recipe) -> Vec<Change> {
        diff(&old.canonical_json(), &new.canonical_json())
    }

    fn full() -> String {
        goldens().into_iter().find(|(name, _)| name == "full").unwrap().1
    }

    fn between(from: &str, to: &str) -> Vec<Change> {
        let full = full();
        assert!(full.contains(from), "{from}");
        forms(&Recipe::parse(&full).unwrap(), &Recipe::parse(&full.replacen(from, to, 1)).unwrap())
    }

    #[test]
    fn one_change_is_one_line() {
        for (from, to, said, touches) in [
            ("\"50ms\"", "\"100ms\"", "~ column motion.max_gap: 50ms -> 100ms", Touches::Values),
            ("\"-3.2ms\"", "\"0s\"", "~ column motion.offset: -3.2ms -> 0s", Touches::Values),
            ("\"250ms\"", "\"1s\"", "~ spine.max_err: 250ms -> 1s", Touches::Rows),
            ("max_err   = \"250ms\"", "", "~ spine.max_err: 250ms -> any", Touches::Rows),
            ("at        = \"exposure_mid\"", "", "~ spine.at: exposure_mid -> any", Touches::Rows),
            ("mode  = \"point\"", "mode = \"certain\"", "~ time.mode: point -> certain", Touches::Values),
            ("\"30d\"", "\"1h\"", "~ watermark.allowed_lateness: 30d -> 1h", Touches::Finality),
            (
                "\"recommit\"",
                "\"drop_and_count\"",
                "~ late.policy: recommit -> drop_and_count",
                Touches::Finality,
            ),
            ("unit      = { temperature = \"K\" }", "", "- column air.unit.temperature: K", Touches::Values),
            ("uncertainty = true", "", "~ column motion.uncertainty: true -> false", Touches::Values),
            (
                "[\"image\"]",
                "[\"image\", \"width\"]",
                "~ spine.select: image -> image, width",
                Touches::Layout,
            ),
            ("\"drive_full\"", "\"other\"", "~ name: drive_full -> other", Touches::Layout),
        ] {
            let changes = between(from, to);
            let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
            assert_eq!(lines, [said], "{from} -> {to}");
            assert_eq!(changes[0].touches, touches, "{said}");
        }
    }

    #[test]
    fn columns_come_go_and_move() {
        let full = full();
        let parts: Vec<&str> = full.split("[[column]]").collect();
        let [head, motion, place, air] = parts.as_slice() else { panic!("{parts:?}") };
        let (air, rest) = air.split_at(air.find("[watermark]").unwrap());
        let recipe = |columns: &[&str]| {
            let columns: String = columns.iter().map(|column| format!("[[column]]{column}")).collect();
            Recipe::parse(&format!("{head}{columns}{rest}")).unwrap()
        };
        let lines = |old: &Recipe, new: &Recipe| -> Vec<String> {
            forms(old, new).iter().map(ToString::to_string).collect()
        };
        let all = recipe(&[motion, place, air]);
        assert_eq!(
            lines(&all, &recipe(&[place, motion])),
            [
                "- column air: temperature of env/temperature, previous, tolerance 30s",
                "~ order of columns: place, motion"
            ]
        );
        assert_eq!(
            lines(&recipe(&[motion]), &recipe(&[motion, place])),
            ["+ column place: lat, lon, alt_msl of gps, geodesic, max_gap 3s"]
        );
        assert_eq!(consequence(&forms(&all, &all)), "The same recipe: same id, same rows.");
    }

    #[test]
    fn no_difference_of_ids_is_without_a_line() {
        let all: Vec<Recipe> = goldens()
            .into_iter()
            .filter(|(name, _)| !name.starts_with("invalid"))
            .map(|(_, text)| Recipe::parse(&text).unwrap())
            .collect();
        for old in &all {
            for new in &all {
                assert_eq!(forms(old, new).is_empty(), old.id() == new.id(), "{} {}", old.name, new.name);
            }
        }
    }
}
