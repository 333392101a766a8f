//! Rules in words.

use super::keys::{CHECKS, Measures, check};
use super::model::{Limits, Rule, RuleSet, Scope};
use super::verdict::Policy;
use crate::json::number_text;
use std::fmt::Write;

impl RuleSet {
    /// What each rule asks, of whom, and what becomes of rows that fail.
    #[must_use]
    pub fn explain(&self) -> String {
        let tables: Vec<&str> = self.tables.iter().map(|pattern| pattern.0.as_str()).collect();
        let name = if self.name.is_empty() { "built-in rules" } else { &self.name };
        let mut out = format!("{name}: judges {}, version {}\n", tables.join(", "), self.id());
        for rule in &self.rules {
            out.push_str(&words(rule));
        }
        out
    }
}

/// The checks there are, a line each.
#[must_use]
pub fn checks() -> String {
    let width = CHECKS.iter().map(|check| check.name.len()).max().unwrap_or(0);
    CHECKS.iter().fold(String::new(), |mut out, check| {
        let what = match check.measures {
            Measures::Share => "share of rows".to_owned(),
            Measures::Value(unit) => format!("value, {unit}"),
        };
        // Text in memory takes what is written.
        if writeln!(out, "{:width$}  {} ({what})", check.name, check.about).is_err() {
            return out;
        }
        for key in check.keys {
            out.push_str(&format!("{:width$}    {}: {}\n", "", key.name, key.about));
        }
        out
    })
}

fn words(rule: &Rule) -> String {
    let about = check(rule.check.name()).map_or("", |check| check.about);
    let mut out = format!("\n{} ({}): {about}", rule.name, rule.check.name());
    if let Some(doc) = &rule.doc {
        out.push_str(&format!("\n  {doc}"));
    }
    let whom = match (rule.scope, rule.devices.as_slice()) {
        (Scope::Device, []) => "each device for itself".to_owned(),
        (Scope::Window, []) => "all rows of a window as one".to_owned(),
        (scope, devices) => {
            let names: Vec<&str> = devices.iter().map(|pattern| pattern.0.as_str()).collect();
            let how = if scope == Scope::Device { "each for itself" } else { "as one" };
            format!("devices {}, {how}", names.join(", "))
        }
    };
    out.push_str(&format!("\n  of      {whom}"));
    if let Some(filter) = &rule.filter {
        out.push_str(&format!(", rows where {}", filter.text()));
    }
    if rule.min_rows > 1 {
        out.push_str(&format!(", from {} rows on", rule.min_rows));
    }
    if let super::model::Check::Expression { expect, .. } = &rule.check {
        out.push_str(&format!("\n  expects {}", expect.text()));
    }
    let (warn, fail) = limits(rule.limits);
    out.push_str(&format!("\n  warns   {warn}"));
    if rule.policy != Policy::Warn {
        out.push_str(&format!("\n  fails   {fail}"));
    }
    let then = match rule.policy {
        Policy::Warn => "rows are published all the same",
        Policy::Hold => {
            "rows stay back, and are judged again from a minute later on, and when the rules change"
        }
        Policy::Quarantine => "rows are set aside on quarantine/<id> (held back where the gate works inline)",
    };
    out.push_str(&format!("\n  then    {then}"));
    if rule.optional {
        out.push_str("\n  a table without its columns passes");
    }
    out.push('\n');
    out
}

fn limits(limits: Limits) -> (String, String) {
    let share = |percent: f64| match percent {
        percent if percent >= 100.0 => "never".to_owned(),
        percent if percent <= 0.0 => "if any row offends".to_owned(),
        percent => format!("if more than {} % of the rows offend", number_text(percent)),
    };
    let outside = |(low, high): (Option<f64>, Option<f64>)| match (low, high) {
        (None, None) => "never".to_owned(),
        (Some(low), None) => format!("below {}", number_text(low)),
        (None, Some(high)) => format!("above {}", number_text(high)),
        (Some(low), Some(high)) => format!("below {} or above {}", number_text(low), number_text(high)),
    };
    match limits {
        Limits::Share { warn_percent, fail_percent } if warn_percent >= fail_percent => {
            ("never".to_owned(), share(fail_percent))
        }
        Limits::Share { warn_percent, fail_percent } => (share(warn_percent), share(fail_percent)),
        Limits::Between { warn, fail } => (outside(warn), outside(fail)),
    }
}
