//! How aligned rows are judged before they are published: where, by what limits, and whom to ask besides.

use crate::outbound::{Endpoint, Poster, Secret};
use headwater_align::gate::RuleSet;
use headwater_core::id::KindName;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Default of `gate.keep`.
pub const KEEP: usize = 16;
/// Default of `gate.hook.timeout_s`.
pub const HOOK_TIMEOUT_S: u64 = 60;
/// Longest a hook may take: spine rows wait in memory meanwhile.
pub const HOOK_TIMEOUT_S_MAX: u64 = 600;
/// Most hooks: they are asked one after another.
pub const HOOKS_MAX: usize = 16;

/// Where rows lie while they are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GateMode {
    /// In memory.
    #[default]
    Inline,
    /// On a staging branch `wap/<id>`, where hooks can read them.
    Branch,
}

/// What is asked besides the built-in rules.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Its name in verdicts.
    pub name: String,
    /// Only for these recipes; none means all.
    pub recipes: Vec<KindName>,
    /// How long it may take, ms.
    pub timeout_ms: u64,
    /// How it is asked.
    pub call: HookCall,
}

impl Hook {
    /// True if rows of this recipe are its business.
    #[must_use]
    pub fn concerns(&self, recipe: &KindName) -> bool {
        self.recipes.is_empty() || self.recipes.contains(recipe)
    }
}

/// How a hook is asked.
#[derive(Debug, Clone)]
pub enum HookCall {
    /// A program with its arguments: the question on its standard input, the verdict by its exit code.
    Command(Vec<String>),
    /// An endpoint: the question as its body, the verdict in its answer.
    Webhook(Box<WebhookCall>),
}

/// An endpoint that is asked.
#[derive(Debug, Clone)]
pub struct WebhookCall {
    /// Where.
    pub url: Endpoint,
    /// Signs the question.
    pub secret: Option<Secret>,
    /// How it is reached.
    pub poster: Poster,
}

/// Limits of the built-in rules that depend on the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateLimits {
    /// More rows than this without a match in a column are worth a warning, percent.
    pub unmatched_warn_percent: u64,
    /// More than this are held back, percent; 100 never holds back.
    pub unmatched_fail_percent: u64,
    /// The same for rows beside a recorded gap.
    pub gap_warn_percent: u64,
    /// The same for rows beside a recorded gap.
    pub gap_fail_percent: u64,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            unmatched_warn_percent: 50,
            unmatched_fail_percent: 100,
            gap_warn_percent: 10,
            gap_fail_percent: 100,
        }
    }
}

/// `[gate]`.
#[derive(Debug, Clone)]
pub struct GateSettings {
    /// `mode`.
    pub mode: GateMode,
    /// `keep`: quarantined candidates kept per recipe; older ones go.
    pub keep: usize,
    /// Limits.
    pub limits: GateLimits,
    /// `rules`: sets of rules besides the built-in ones.
    pub rules: Vec<RuleSet>,
    /// `[[gate.hook]]`.
    pub hooks: Vec<Hook>,
    /// Base URL of the REST catalog that hooks are told.
    pub rest_url: Option<String>,
    /// Tells of other sets of rules while the collector runs.
    pub newer: Option<watch::Receiver<Vec<RuleSet>>>,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            mode: GateMode::Inline,
            keep: KEEP,
            limits: GateLimits::default(),
            rules: Vec::new(),
            hooks: Vec::new(),
            rest_url: None,
            newer: None,
        }
    }
}
