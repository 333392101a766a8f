//! TOML to a set of rules, with every mistake at once.

mod checks;
mod contradictions;
mod taker;
#[cfg(test)]
mod tests;

use super::keys::{self, FILE, Holds, Measures, POLICIES, RULE, SCOPES, SHARE, VALUE};
use super::model::{Check, Limits, Pattern, Rule, RuleSet, Scope};
use super::verdict::Policy;
use crate::recipe::{Mistake, nearest::hint};
use std::collections::BTreeSet;
use std::fmt;
use taker::Taker;
use toml::{Table, Value};

/// Longest file, bytes: a thousand rules of a screen line each are far below it.
pub const RULES_BYTES_MAX: usize = 256 << 10;
/// Most rules of a set: each is a pass over every window.
pub const RULES_MAX: usize = 256;
/// Most devices and tables named by patterns.
const PATTERNS_MAX: usize = 256;

/// Every mistake of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("gate rules have {} mistake{}:{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, Listed(.0))]
pub struct RulesError(pub Vec<Mistake>);

struct Listed<'a>(&'a [Mistake]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {}: {}", mistake.path, mistake.text))
    }
}

impl RuleSet {
    /// Reads and checks a file of rules.
    ///
    /// # Errors
    /// Every mistake, each with its path.
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let whole = |text: String| RulesError(vec![Mistake { path: "file".to_owned(), text }]);
        if text.len() > RULES_BYTES_MAX {
            return Err(whole(format!(
                "is longer than {RULES_BYTES_MAX} bytes; split it into several files"
            )));
        }
        let table: Table = text.parse().map_err(|error: toml::de::Error| whole(error.to_string()))?;
        let mut mistakes = Vec::new();
        let set = RuleSet { text: text.to_owned(), ..read(&table, &mut mistakes) };
        if mistakes.is_empty() { Ok(set) } else { Err(RulesError(mistakes)) }
    }
}

fn read(table: &Table, mistakes: &mut Vec<Mistake>) -> RuleSet {
    let mut file = Taker { table, path: String::new(), mistakes };
    let rule_key = [keys::Key { name: "rule", holds: Holds::Types, about: "the rules" }];
    file.known(&[FILE, &rule_key]);
    if !file.has("headwater_gate") {
        file.wrong("headwater_gate", "missing; write `headwater_gate = 1`, the version of the format");
    } else if file.count("headwater_gate", (0, u64::MAX)).is_some_and(|version| version != 1) {
        file.wrong("headwater_gate", "is a version this build does not know; it knows 1");
    }
    let name = name(&mut file, "drive");
    let doc = file.text("doc");
    let mut tables = patterns(&mut file, "tables");
    if tables.is_empty() {
        tables.push(Pattern("aligned.*".to_owned()));
    }
    let mut rules = Vec::new();
    let mut names = BTreeSet::new();
    let listed: &[Value] = match table.get("rule") {
        Some(Value::Array(items)) if !items.is_empty() => items,
        _ => {
            file.wrong("rule", "expected at least one [[rule]]");
            &[]
        }
    };
    if listed.len() > RULES_MAX {
        file.wrong("rule", format!("{} rules, where at most {RULES_MAX} may be", listed.len()));
    }
    for (place, item) in listed.iter().enumerate().take(RULES_MAX) {
        let path = format!("rule[{place}].");
        match item {
            Value::Table(table) => {
                let mut taker = Taker { table, path, mistakes: file.mistakes };
                rules.extend(rule(&mut taker, &mut names));
            }
            _ => file.wrong(&format!("rule[{place}]"), "expected a table; write [[rule]]"),
        }
    }
    mistakes.extend(contradictions::contradictions(&rules));
    RuleSet { name, doc, tables, rules, text: String::new() }
}

/// A name that goes into verdicts and metrics.
fn name(taker: &mut Taker<'_>, example: &str) -> String {
    if !taker.has("name") {
        taker.wrong("name", format!("missing; such as `name = \"{example}\"`"));
    }
    let name = taker.text("name").unwrap_or_default();
    let fits = name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if !fits {
        taker.wrong("name", format!("{name:?}: expected 1 to 64 of a-z 0-9 _ -"));
    }
    name
}

fn patterns(taker: &mut Taker<'_>, key: &str) -> Vec<Pattern> {
    let texts = taker.texts(key);
    if texts.len() > PATTERNS_MAX {
        taker.wrong(key, format!("more than {PATTERNS_MAX} names; use a beginning with *"));
    }
    for text in texts.iter().filter(|text| text.trim_end_matches('*').contains('*') || text.ends_with("**")) {
        taker.wrong(key, format!("{text:?}: a * may stand at the end only"));
    }
    let mut patterns: Vec<Pattern> = texts.into_iter().map(Pattern).collect();
    patterns.sort();
    patterns.dedup();
    patterns
}

fn rule(taker: &mut Taker<'_>, names: &mut BTreeSet<String>) -> Option<Rule> {
    let name = name(taker, "accel_range");
    if !name.is_empty() && !names.insert(name.clone()) {
        taker.wrong("name", format!("{name:?} stands here twice"));
    }
    let known: Vec<&str> = keys::CHECKS.iter().map(|check| check.name).collect();
    let called = taker.text("check");
    let of = called.as_deref().and_then(keys::check);
    let Some(of) = of else {
        let found = called.map_or("missing".to_owned(), |name| {
            format!("{name:?} is none{}", hint(&name, known.iter().copied()))
        });
        taker.wrong("check", format!("{found}; checks are {}", known.join(", ")));
        return None;
    };
    let limits_of = match of.measures {
        Measures::Share if of.name == "coverage" => &SHARE_BELOW[..],
        Measures::Share => SHARE,
        Measures::Value(_) => VALUE,
    };
    taker.known(&[RULE, limits_of, of.keys]);
    for key in of.needs.iter().filter(|key| !taker.has(key)).copied().collect::<Vec<_>>() {
        let about = of.keys.iter().find(|known| known.name == key).map_or("", |known| known.about);
        taker.wrong(key, format!("missing: {about}"));
    }
    let check = checks::check(taker, of.name);
    let limits = match of.measures {
        Measures::Share => share(taker),
        Measures::Value(unit) => between(taker, unit),
    };
    let scope = match taker.word("scope", &SCOPES) {
        Some("window") => Scope::Window,
        _ => Scope::Device,
    };
    let policy = match taker.word("policy", &POLICIES) {
        Some("warn") => Policy::Warn,
        Some("hold") => Policy::Hold,
        _ => Policy::Quarantine,
    };
    let check = check?;
    Some(Rule {
        name,
        doc: taker.text("doc"),
        limits,
        devices: patterns(taker, "devices"),
        scope,
        filter: taker.formula("where"),
        min_rows: taker.count("min_rows", (0, u64::MAX)).unwrap_or_else(|| least(&check, limits)),
        optional: taker.truth("optional").unwrap_or(false),
        policy,
        check,
    })
}

/// `coverage` may say how many rows are covered instead of how many are not.
pub(super) const SHARE_BELOW: [keys::Key; 4] = [
    SHARE[0],
    SHARE[1],
    keys::Key {
        name: "warn_below_percent",
        holds: Holds::Number,
        about: "fewer covered rows than this are a warning",
    },
    keys::Key { name: "fail_below_percent", holds: Holds::Number, about: "fewer than this fail, such as 95" },
];

/// Most rows that a share waits for: beyond them a single row is a small one whatever the limit.
const SHARE_ROWS: u64 = 20;
/// Rows below which a statistic over the window says nothing: the error of a mean of ten is a third of the spread.
const STATISTIC_ROWS: u64 = 10;

/// Rows below which a rule says nothing, if it does not say so itself: a statistic of a few is chance, and a share that may
/// be above nothing is not passed by one row alone.
pub(in crate::gate) fn least(check: &Check, limits: Limits) -> u64 {
    match check {
        Check::Rows => 0,
        Check::Rate { .. } => STATISTIC_ROWS,
        Check::Noise { .. } | Check::Distinct { .. } | Check::Saturation { .. } => 50,
        Check::Drift { .. } => 200,
        Check::Expression { expect, .. } if expect.is_window() => STATISTIC_ROWS,
        _ => match limits {
            Limits::Share { fail_percent, .. } if fail_percent > 0.0 && fail_percent < 100.0 => {
                let is_small = |rows: &u64| *rows as f64 * fail_percent >= 100.0;
                (1..SHARE_ROWS).find(is_small).unwrap_or(SHARE_ROWS)
            }
            _ => 1,
        },
    }
}

fn share(taker: &mut Taker<'_>) -> Limits {
    let mut percent = |key: &str, below: &str| {
        let direct = taker.number(key);
        let covered = taker.number(below);
        if direct.is_some() && covered.is_some() {
            taker.wrong(below, format!("stands beside {key}, which says the same; leave one out"));
        }
        for (key, value) in [(key, direct), (below, covered)] {
            if value.is_some_and(|value| !(0.0..=100.0).contains(&value)) {
                taker.wrong(key, "expected percent, 0 to 100");
            }
        }
        direct.or(covered.map(|covered| 100.0 - covered))
    };
    let warn = percent("warn_percent", "warn_below_percent");
    let fail =
        percent("fail_percent", "fail_below_percent").unwrap_or(if warn.is_some() { 100.0 } else { 0.0 });
    let warn = warn.unwrap_or(fail);
    if warn > fail {
        taker.wrong("warn_percent", format!("{warn} lies above fail_percent, {fail}: a warning comes first"));
    }
    Limits::Share { warn_percent: warn, fail_percent: fail }
}

fn between(taker: &mut Taker<'_>, unit: &str) -> Limits {
    let [warn_below, warn_above, fail_below, fail_above] =
        ["warn_below", "warn_above", "fail_below", "fail_above"].map(|key| taker.number(key));
    let (warn, fail) = ((warn_below, warn_above), (fail_below, fail_above));
    if [warn.0, warn.1, fail.0, fail.1].iter().all(Option::is_none) {
        taker.wrong(
            "fail_above",
            format!("missing: give at least one of warn_below, warn_above, fail_below, fail_above, {unit}"),
        );
    }
    for (key, (low, high)) in [("warn_below", warn), ("fail_below", fail)] {
        if low.zip(high).is_some_and(|(low, high)| low > high) {
            taker.wrong(key, "lies above its upper end: nothing could pass");
        }
    }
    if warn.0.zip(fail.0).is_some_and(|(warn, fail)| warn < fail) {
        taker.wrong("warn_below", "lies below fail_below: a warning comes first");
    }
    if warn.1.zip(fail.1).is_some_and(|(warn, fail)| warn > fail) {
        taker.wrong("warn_above", "lies above fail_above: a warning comes first");
    }
    Limits::Between { warn, fail }
}
