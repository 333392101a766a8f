//! Rules of one set that no rows can pass together: found when the file is read, as each of them makes sense alone and the
//! gate would hold everything.

use crate::gate::model::{Check, Limits, Rule};
use crate::gate::verdict::Policy;
use crate::recipe::Mistake;
use std::collections::BTreeMap;

/// What a rule lets through of one measured thing, both ends allowed.
struct Bounds<'a> {
    place: usize,
    rule: &'a Rule,
    low: f64,
    high: f64,
}

/// One mistake for each rule that leaves nothing to pass beside an earlier one.
pub(super) fn contradictions(rules: &[Rule]) -> Vec<Mistake> {
    let mut known: BTreeMap<String, Vec<Bounds<'_>>> = BTreeMap::new();
    let mut types: BTreeMap<&str, (usize, &Rule, &str)> = BTreeMap::new();
    let mut found = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        for (of, low, high) in bounds(rule) {
            let before = known.entry(of.clone()).or_default();
            let other = before
                .iter()
                .find(|other| meet(other.rule, rule) && other.low.max(low) > other.high.min(high));
            if let Some(other) = other {
                let text = format!(
                    "leaves nothing to pass beside rule[{}] ({}): {of} is to be {} there and {} here; take one out, or give each its own `where` or devices",
                    other.place,
                    other.rule.name,
                    told(other.low, other.high),
                    told(low, high)
                );
                found.push(Mistake { path: format!("rule[{place}].{}", key(rule)), text });
            }
            before.push(Bounds { place, rule, low, high });
        }
        if let Check::Schema { columns, .. } = &rule.check {
            for (column, wanted) in columns {
                match types.get(column.as_str()) {
                    Some((at, other, kind)) if meet(other, rule) && !agree(kind, wanted) => {
                        let text = format!(
                            "wants {column} to be {wanted}, and rule[{at}] ({}) wants {kind}: no table has both",
                            other.name
                        );
                        found.push(Mistake { path: format!("rule[{place}].columns"), text });
                    }
                    Some(_) => {}
                    None => drop(types.insert(column, (place, rule, wanted))),
                }
            }
        }
    }
    found
}

/// The key that a contradiction is told at.
fn key(rule: &Rule) -> &'static str {
    match rule.limits {
        Limits::Between { fail: (Some(_), _), .. } => "fail_below",
        Limits::Between { .. } => "fail_above",
        Limits::Share { .. } => "min",
    }
}

fn told(low: f64, high: f64) -> String {
    match (low.is_finite(), high.is_finite()) {
        (true, true) => format!("{low} to {high}"),
        (true, false) => format!("at least {low}"),
        _ => format!("at most {high}"),
    }
}

fn agree(a: &str, b: &str) -> bool {
    let is_number = |kind: &str| matches!(kind, "integer" | "number");
    a == b || a == "any" || b == "any" || (is_number(a) && is_number(b))
}

/// True if there are rows that both rules judge for certain, and hold back.
fn meet(a: &Rule, b: &Rule) -> bool {
    let is_plain = |rule: &Rule| rule.filter.is_none() && rule.policy != Policy::Warn;
    is_plain(a)
        && is_plain(b)
        && a.scope == b.scope
        && (a.devices == b.devices || a.devices.is_empty() || b.devices.is_empty())
}

/// What a rule measures, and between which ends it passes.
fn bounds(rule: &Rule) -> Vec<(String, f64, f64)> {
    let ends = |(low, high): (Option<f64>, Option<f64>)| {
        (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY))
    };
    let each = |columns: &[String], what: &str, (low, high): (f64, f64)| {
        columns.iter().map(|column| (format!("{what}{column}"), low, high)).collect()
    };
    match (&rule.check, rule.limits) {
        // A share of offenders below one half can be met by two ranges only if they have values in common.
        (Check::Range { columns, min, max }, Limits::Share { fail_percent, .. }) if fail_percent < 50.0 => {
            each(columns, "", ends((*min, *max)))
        }
        (check, Limits::Between { fail, .. }) => {
            let ends = ends(fail);
            match check {
                Check::Rows => vec![("the number of rows".to_owned(), ends.0, ends.1)],
                Check::Freshness => vec![("the age of the newest row".to_owned(), ends.0, ends.1)],
                Check::Rate { column } => {
                    let of = column.as_deref().map_or_else(String::new, |column| format!(" of {column}"));
                    vec![(format!("the rate{of}"), ends.0, ends.1)]
                }
                Check::Noise { columns, span_ns: None } => each(columns, "the noise of ", ends),
                Check::Distinct { columns } => each(columns, "the variety of ", ends),
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}
