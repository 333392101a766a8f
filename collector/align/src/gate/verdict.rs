//! What rules found: verdicts with the numbers behind them, and whose rows stay back for them.

use headwater_core::id::Sha256;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a rule found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing to say.
    Pass,
    /// Published, but somebody should look.
    Warn,
    /// Not published.
    Fail,
}

impl Verdict {
    /// Name in `ops.verdicts`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What becomes of rows that a rule fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Policy {
    /// Published all the same: a fail counts as a warning.
    Warn,
    /// They stay back, and are judged again at turns farther and farther apart, and as soon as the rules are others.
    Hold,
    /// They are set aside, for a person to look at.
    #[default]
    Quarantine,
}

impl Policy {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Hold => "hold",
            Self::Quarantine => "quarantine",
        }
    }
}

/// One rule's verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The rule: `<set>.<rule>`, or the rule's name alone for the built-in set.
    pub rule: String,
    /// Version of its set: the set's id.
    pub version: String,
    /// The worst over whom it judged; a fail under [`Policy::Warn`] is a warning.
    pub verdict: Verdict,
    /// What becomes of rows it fails.
    pub policy: Policy,
    /// By device; empty if it judges the window as one.
    pub devices: BTreeMap<String, Verdict>,
    /// The numbers behind it.
    pub evidence: Value,
}

impl Finding {
    /// Hex SHA-256 of the evidence as stored.
    #[must_use]
    pub fn evidence_digest(&self) -> String {
        Sha256::of(self.evidence.to_string().as_bytes()).to_string()
    }
}

/// The worst of several verdicts.
#[must_use]
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Pass)
}

/// Whose rows may not be published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Everybody's, and what becomes of them: a rule failed the window as one.
    pub all: Option<Policy>,
    /// Of these devices, and what becomes of them.
    pub devices: BTreeMap<String, Policy>,
}

impl Held {
    /// From all verdicts on a window. Of two policies the one that sets aside wins.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        let mut held = Self::default();
        findings.iter().for_each(|finding| held.add(finding.verdict, finding.policy, &finding.devices));
        held
    }

    /// One more verdict, and that of each device; none of them means that the window was judged as one.
    pub fn add(&mut self, verdict: Verdict, policy: Policy, devices: &BTreeMap<String, Verdict>) {
        if verdict != Verdict::Fail {
            return;
        }
        if devices.is_empty() {
            self.all = self.all.max(Some(policy));
        }
        for (device, _) in devices.iter().filter(|(_, verdict)| **verdict == Verdict::Fail) {
            let known = self.devices.entry(device.clone()).or_insert(policy);
            *known = (*known).max(policy);
        }
    }
}
