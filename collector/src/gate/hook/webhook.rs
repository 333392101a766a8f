//! A hook as an endpoint: asked by POST, it answers with its verdict.

use super::{EVIDENCE_BYTES_MAX, HookError, HookVerdict, Question};
use crate::gate::{Verdict, WebhookCall};
use crate::outbound::Post;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
struct Answer {
    verdict: String,
    #[serde(default)]
    evidence: Value,
}

pub(super) async fn post(
    call: &WebhookCall,
    id: &str,
    unix_s: i64,
    question: &Question,
) -> Result<HookVerdict, HookError> {
    let body = question.to_json().to_string().into();
    let secret = call.secret.as_ref();
    let post = Post { id, unix_s, body, secret, answer_bytes_max: EVIDENCE_BYTES_MAX };
    let answer = call.poster.post(&call.url, post).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        HookError::Unreachable(format!("{error}{cause}"))
    })?;
    if !answer.is_success() {
        return Err(HookError::Status { status: answer.status });
    }
    let wrong = |reason: String| HookError::Answer { reason };
    let answer: Answer = serde_json::from_slice(&answer.body).map_err(|error| wrong(error.to_string()))?;
    let verdict = match answer.verdict.as_str() {
        "pass" => Verdict::Pass,
        "warn" => Verdict::Warn,
        "fail" => Verdict::Fail,
        other => return Err(wrong(format!("{other:?} is no verdict"))),
    };
    Ok(HookVerdict { verdict, evidence: answer.evidence })
}
