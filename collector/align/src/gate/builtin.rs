//! The built-in rules: a file like any other, with the collector's own percents.

use super::model::{Limits, RuleSet};
use super::read::{RulesError, least};

/// The file.
pub const BUILTIN: &str = include_str!("builtin.toml");

/// Limits of the built-in rules that depend on the fleet, percent of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// More rows than this without a match in a column are worth a warning.
    pub unmatched_warn: u64,
    /// More than this fail; 100 never fails.
    pub unmatched_fail: u64,
    /// The same for rows beside a recorded gap.
    pub gap_warn: u64,
    /// The same for rows beside a recorded gap.
    pub gap_fail: u64,
}

/// The built-in rules; in verdicts they are called by their names alone.
///
/// # Errors
/// Never: a test reads the file.
pub fn builtin(thresholds: &Thresholds) -> Result<RuleSet, RulesError> {
    let mut set = RuleSet::parse(BUILTIN)?;
    set.name.clear();
    for rule in &mut set.rules {
        let (warn, fail) = match rule.name.as_str() {
            "modality_coverage" => (thresholds.unmatched_warn, thresholds.unmatched_fail),
            "gap_ratio" => (thresholds.gap_warn, thresholds.gap_fail),
            _ => continue,
        };
        rule.limits = Limits::Share { warn_percent: warn as f64, fail_percent: fail as f64 };
        rule.min_rows = least(&rule.check, rule.limits);
    }
    Ok(set)
}
