//! Judges aligned rows by the built-in rules and by those of `[gate] rules`, with the engine of headwater-align.

use super::settings::GateLimits;
use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use headwater_align::gate::{Check, Context, Finding, Held, Policy, Rule, RuleSet, Thresholds, judge_some};
use headwater_core::id::Sha256;
use headwater_core::time::UtcNanos;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

pub use headwater_align::gate::Verdict;

/// Version of what judges without rules of its own: hooks, pictures' headers, waivers.
pub const GATE_VERSION: &str = "3";

/// One rule's verdict with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The rule or hook.
    pub gate: Cow<'static, str>,
    /// Which version of it: the id of its set of rules.
    pub version: Cow<'static, str>,
    /// What it found.
    pub verdict: Verdict,
    /// What becomes of rows it fails.
    pub policy: Policy,
    /// By device; empty if it judges all rows as one.
    pub devices: BTreeMap<String, Verdict>,
    /// The numbers behind it.
    pub evidence: Value,
}

impl Judged {
    /// A verdict on all rows as one.
    #[must_use]
    pub fn whole(gate: impl Into<Cow<'static, str>>, verdict: Verdict, evidence: Value) -> Self {
        Self {
            gate: gate.into(),
            version: GATE_VERSION.into(),
            verdict,
            policy: Policy::Quarantine,
            devices: BTreeMap::new(),
            evidence,
        }
    }

    /// Hex SHA-256 of the evidence as stored.
    #[must_use]
    pub fn evidence_digest(&self) -> String {
        Sha256::of(self.evidence.to_string().as_bytes()).to_string()
    }
}

impl From<Finding> for Judged {
    fn from(found: Finding) -> Self {
        Self {
            gate: found.rule.into(),
            version: found.version.into(),
            verdict: found.verdict,
            policy: found.policy,
            devices: found.devices,
            evidence: found.evidence,
        }
    }
}

/// The worst of several verdicts.
#[must_use]
pub fn worst(judged: &[Judged]) -> Verdict {
    judged.iter().map(|judged| judged.verdict).max().unwrap_or(Verdict::Pass)
}

/// Whose rows stay back, and what becomes of them.
#[must_use]
pub fn held(judged: &[Judged]) -> Held {
    let mut held = Held::default();
    judged.iter().for_each(|judged| held.add(judged.verdict, judged.policy, &judged.devices));
    held
}

/// The built-in rules with these limits.
///
/// # Panics
/// Never: they are part of the program, and a test reads them.
#[must_use]
pub fn builtin_rules(limits: &GateLimits) -> RuleSet {
    let thresholds = Thresholds {
        unmatched_warn: limits.unmatched_warn_percent,
        unmatched_fail: limits.unmatched_fail_percent,
        gap_warn: limits.gap_warn_percent,
        gap_fail: limits.gap_fail_percent,
    };
    headwater_align::gate::builtin(&thresholds).expect("a test reads the built-in rules")
}

/// True for a rule that decodes pictures, which are read where rows are staged.
#[must_use]
pub fn decodes(rule: &Rule) -> bool {
    matches!(rule.check, Check::Image { decode: Some(_), .. })
}

/// Rows to be judged, of one table.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The rows.
    pub batches: &'a [RecordBatch],
    /// Which of them are published already, by place.
    pub known: Option<&'a [bool]>,
    /// The collector's UTC.
    pub now: UtcNanos,
    /// Of which boot they are, by place.
    pub boots: Option<&'a [Option<i64>]>,
    /// The same table at refs that rules compare with.
    pub references: &'a BTreeMap<String, RecordBatch>,
}

/// Judges rows before they are published, by all rules that need no picture.
///
/// # Errors
/// When the batches are not of one schema, which only a bug brings about.
pub fn judge(rules: &[&RuleSet], asked: &Asked<'_>) -> Result<Vec<Judged>, ArrowError> {
    let context = Context {
        now_ns: asked.now.0,
        known: asked.known,
        looks: None,
        boots: asked.boots,
        references: asked.references,
    };
    by(rules, |rule| !decodes(rule), asked.batches, &context)
}

/// Judges rows by the rules that `wanted` takes.
///
/// # Errors
/// As [`judge`].
pub fn by(
    rules: &[&RuleSet],
    wanted: impl Fn(&Rule) -> bool,
    batches: &[RecordBatch],
    context: &Context<'_>,
) -> Result<Vec<Judged>, ArrowError> {
    let mut found = Vec::new();
    for set in rules {
        found.extend(judge_some(set, &wanted, batches, context)?.into_iter().map(Judged::from));
    }
    Ok(found)
}
