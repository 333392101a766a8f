//! Hooks: people's own checks of a staged candidate, as a program or an endpoint.
//!
//! Only a verdict publishes. A hook that is late, crashes or answers with something else is tried again a few times and
//! then counts as a fail with that as evidence; nothing of it can stop raw rows.

mod command;
mod webhook;

use super::rules::{Judged, Verdict};
use super::settings::{Hook, HookCall};
use headwater_core::ports::Clock;
use headwater_core::time::NS_PER_S;
use serde_json::{Value, json};

/// Longest evidence that is kept of one hook, bytes of JSON or text.
pub const EVIDENCE_BYTES_MAX: usize = 64 << 10;
/// Times a hook that gives no verdict is asked.
pub const HOOK_TRIES_MAX: u32 = 3;
/// Wait before it is asked again, ms; twice as long each time.
const AGAIN_MS: u64 = 500;
/// Version of the question's form.
const QUESTION_VERSION: u32 = 1;

/// What a hook is asked about.
#[derive(Debug, Clone)]
pub struct Question {
    /// URL of the lake.
    pub lake: String,
    /// Base URL of the REST catalog, if one is served.
    pub rest_url: Option<String>,
    /// The staging branch.
    pub branch: String,
    /// Its head.
    pub candidate: String,
    /// The branch it shall go to.
    pub target: String,
    /// The commit it was made at.
    pub fork: String,
    /// Recipe and its id.
    pub recipe: (String, String),
    /// Table the rows are in.
    pub table: String,
    /// Rows added.
    pub rows: u64,
    /// Earliest and latest of them, UTC ns.
    pub t_ns: Option<(i64, i64)>,
    /// What the rules said.
    pub gates: Vec<(String, Verdict)>,
}

impl Question {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let gates: Vec<Value> = self
            .gates
            .iter()
            .map(|(gate, verdict)| json!({"gate": gate, "verdict": verdict.as_str()}))
            .collect();
        json!({
            "v": QUESTION_VERSION,
            "lake": self.lake,
            "rest_url": self.rest_url,
            "ref": self.branch,
            "commit": self.candidate,
            "target": self.target,
            "base": self.fork,
            "recipe": self.recipe.0,
            "recipe_id": self.recipe.1,
            "table": self.table,
            "rows": self.rows,
            "t_min_ns": self.t_ns.map(|t| t.0),
            "t_max_ns": self.t_ns.map(|t| t.1),
            "gates": gates,
        })
    }
}

/// A hook that gave no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It took too long and was ended.
    #[error("no verdict within {timeout_ms} ms; raise timeout_s, or make it faster")]
    TimedOut {
        /// Its time.
        timeout_ms: u64,
    },
    /// The program cannot be started.
    #[error("{program:?} cannot be started: {reason}; give its path, and check that it is executable")]
    Start {
        /// Which.
        program: String,
        /// What the system says.
        reason: String,
    },
    /// It ended by neither 0 nor 1.
    #[error("it ended with {how} instead of 0 (pass) or 1 (fail): {last}")]
    Ended {
        /// Exit code or signal.
        how: String,
        /// The end of what it said on standard error.
        last: String,
    },
    /// It could not be reached, or did not answer as HTTP.
    #[error("{0}")]
    Unreachable(String),
    /// It answered by another status than 2xx.
    #[error("it answered {status} instead of 2xx with a verdict")]
    Status {
        /// The status.
        status: u16,
    },
    /// Its answer is no verdict.
    #[error("its answer is no {{\"verdict\": \"pass|warn|fail\", \"evidence\": …}}: {reason}")]
    Answer {
        /// What is wrong.
        reason: String,
    },
}

/// A verdict with its evidence, already bounded.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HookVerdict {
    pub(super) verdict: Verdict,
    pub(super) evidence: Value,
}

/// Asks one hook until it gives a verdict, or has failed to too often.
pub async fn ask<C: Clock>(hook: &Hook, question: &Question, clock: &C) -> Judged {
    let mut wait_ms = AGAIN_MS;
    let mut tries = 1;
    loop {
        let error = match ask_once(hook, question, clock).await {
            Ok(HookVerdict { verdict, evidence }) => {
                return Judged::whole(hook.name.clone(), verdict, evidence);
            }
            Err(error) => error,
        };
        metrics::counter!("headwater_gate_hook_errors_total", "hook" => hook.name.clone()).increment(1);
        tracing::warn!(hook = hook.name, %error, tries, "gate hook gave no verdict");
        if tries >= HOOK_TRIES_MAX {
            let evidence = json!({"error": error.to_string(), "tries": tries});
            return Judged::whole(hook.name.clone(), Verdict::Fail, evidence);
        }
        tries += 1;
        clock.sleep_until(clock.boot().plus_ms(wait_ms)).await;
        wait_ms = wait_ms.saturating_mul(2);
    }
}

async fn ask_once<C: Clock>(hook: &Hook, question: &Question, clock: &C) -> Result<HookVerdict, HookError> {
    let late = clock.sleep_until(clock.boot().plus_ms(hook.timeout_ms));
    let answer = async {
        match &hook.call {
            HookCall::Command(words) => command::run(words, question).await,
            HookCall::Webhook(call) => {
                let unix_s = clock.read().real.0.div_euclid(NS_PER_S);
                let id = format!("{}.{}", question.candidate, hook.name);
                webhook::post(call, &id, unix_s, question).await
            }
        }
    };
    // A verdict that came in time counts, even if the clock has gone on since.
    tokio::select! {
        biased;
        answer = answer => answer,
        () = late => Err(HookError::TimedOut { timeout_ms: hook.timeout_ms }),
    }
}

/// Evidence as it is kept: JSON, or text, and never longer than [`EVIDENCE_BYTES_MAX`].
fn evidence(bytes: &[u8], truncated: bool) -> Value {
    let text = String::from_utf8_lossy(bytes.trim_ascii());
    match serde_json::from_str(&text) {
        Ok(value) if !truncated => value,
        _ if text.is_empty() => Value::Null,
        _ => json!({"text": text, "truncated": truncated}),
    }
}

#[cfg(test)]
#[path = "../hook_tests.rs"]
mod tests;
