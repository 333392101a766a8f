//! Gate rules: declared checks of aligned (and raw) rows, each with a verdict and the numbers behind it.
//!
//! ```text
//! rules (TOML) ─► RuleSet ─┐
//! rows of a window ────────┴─► one device at a time ─► measure ─► limits ─► pass │ warn │ fail, with evidence
//! ```
//! A check measures the share of offending rows, or one value, of each column it looks at; limits make a verdict of it;
//! the policy of the rule says what becomes of rows that fail. As each device is judged for itself, a bad one stays back
//! while the others are published ([`Held`]). What cannot be looked at (no such column, a formula that does not fit its
//! types) does not pass.
//!
//! | module | holds |
//! |---|---|
//! | [`model`] | the checked set of rules |
//! | `read`, `keys` | TOML, all mistakes at once |
//! | `formula` | formulas with statistics over the rows |
//! | `canonical`, `schema`, `explain` | the id, the JSON Schema, words |
//! | [`judge`] | a window against a set |
//! | `rules` | the checks |

mod builtin;
mod canonical;
mod explain;
mod formula;
mod frame;
mod judge;
mod keys;
pub mod model;
mod read;
mod rules;
mod schema;
mod stats;
#[cfg(test)]
mod tests;
mod verdict;

pub use builtin::{BUILTIN, Thresholds, builtin};
pub use explain::checks;
pub use formula::Formula;
pub use judge::{Context, DEVICES_NAMED_MAX, NAMED_MAX, Seen, judge, judge_some, look};
pub use keys::TYPES;
pub use model::{Check, Rule, RuleSet};
pub use read::{RULES_BYTES_MAX, RULES_MAX, RulesError};
pub use verdict::{Finding, Held, Policy, Verdict, worst};
