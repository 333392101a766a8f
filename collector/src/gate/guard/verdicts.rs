//! Verdicts on a join as rows of `ops.verdicts`, in a commit on top of it.

use super::{Guard, GuardError, Judgement};
use crate::commit::cells::TableRows;
use crate::commit::tables::Ops;
use headwater_core::ports::Clock;
use headwater_lake::{
    CommitId, CommitKind, CommitObject, CommitRequest, GateSummary, Lake, Lineage, RefName, Software,
};

/// How the lineage of such a commit begins to tell which ref the join was judged for.
pub(super) const FOR: &str = "gate of ";
/// How it begins to tell on which commit of that ref the join was made.
pub(super) const BASE: &str = "base ";

impl<C: Clock> Guard<'_, C> {
    /// Commits the verdicts to the staging branch.
    pub(super) async fn note(
        &self,
        lake: &Lake,
        judgement: &Judgement,
        base: &CommitObject,
        joined: &CommitObject,
        staged: &RefName,
    ) -> Result<CommitId, GuardError> {
        let failed = judgement.failed();
        let mut out = TableRows::new(Ops::Verdicts.spec());
        let mut gates = Vec::new();
        for (name, table) in &judgement.judged {
            let (t_min_ns, t_max_ns) = table.span.unzip();
            for judged in &table.judged {
                out.push(vec![
                    ("ts", self.by.time_us.into()),
                    ("ts_ns", self.by.time_us.saturating_mul(1_000).into()),
                    // A person's host; nothing is aligned by it.
                    ("ts_err_ns", i64::MAX.into()),
                    ("candidate", joined.id.to_string().into()),
                    ("ref", staged.to_string().into()),
                    ("table", name.to_string().into()),
                    ("recipe_id", table.recipe_id.as_str().into()),
                    ("gate", judged.gate.as_ref().into()),
                    ("gate_version", judged.version.as_ref().into()),
                    ("verdict", judged.verdict.as_str().into()),
                    ("t_min_ns", t_min_ns.into()),
                    ("t_max_ns", t_max_ns.into()),
                    ("rows", table.rows.into()),
                    ("evidence", judged.evidence.to_string().into()),
                    ("evidence_digest", judged.evidence_digest().into()),
                    ("published_as", failed.is_empty().then(|| self.into.to_string()).into()),
                ]);
                gates.push(GateSummary {
                    name: format!("{name}/{}", judged.gate),
                    version: judged.version.to_string(),
                    verdict: judged.verdict.as_str().to_owned(),
                    evidence_digest: judged.evidence_digest(),
                });
            }
        }
        let word = if failed.is_empty() { "passed" } else { "failed" };
        let request = CommitRequest {
            kind: CommitKind::Align,
            message: format!("{} ({word} the gate of {})", joined.message, self.into),
            time_us: self.by.time_us,
            appends: vec![out.to_append()?],
            gates,
            lineage: Lineage {
                inputs: vec![
                    format!("{FOR}{}", self.into),
                    format!("commit {}", joined.id),
                    format!("{BASE}{}", base.id),
                ],
                software: Software { collector: crate::SOFTWARE.to_owned(), ..Software::default() },
                ..Lineage::default()
            },
            ..CommitRequest::default()
        };
        Ok(lake.writer(staged.clone(), self.by.author.clone()).commit(request).await?.id)
    }
}
