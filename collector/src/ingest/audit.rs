//! Write, audit, publish: a candidate is staged on `wap/<id>` and judged there by a task of its own; ingest commits go on
//! meanwhile, and only the verdict is waited for.
//!
//! ```text
//! begin ─► task: branch wap/<id> ─► rows ─► hooks ─► verdicts ─┐
//! finish ◄─────────────────────────────────────────────────────┘ pass: adopt, drop wap/<id>
//!                                                                fail: verdicts to the branch, quarantine/<id>, drop
//! ```
//! A crash anywhere leaves a staging branch that the next start takes away; as coverage moves only with the published
//! rows, they are aligned anew, or were published and are not.

use super::aligning::{AlignError, Slot};
use super::candidate::Candidate;
use super::commit::Committer;
use super::pictures;
use super::staging::{QUARANTINE, WAP, keep_newest};
use crate::gate::hook::{Question, ask};
use crate::gate::looking::LookError;
use crate::gate::{GateSettings, Verdict};
use headwater_core::ports::Clock;
use headwater_lake::{
    Adopt, AdoptTables, CommitError, CommitId, CoverageEntry, CoverageMove, Lake, LakeError, NameError,
    PublishError, RefName,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle};

/// Why a candidate was neither passed nor failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    #[error("name its staging branch")]
    Name(#[from] NameError),
    #[error("make or take away its staging branch")]
    Branch(#[from] PublishError),
    #[error("commit to its staging branch")]
    Commit(#[from] CommitError),
    #[error("use the lake")]
    Lake(#[from] LakeError),
    #[error("look at its pictures")]
    Look(#[from] LookError),
    #[error("lay it out: {0}")]
    Layout(String),
    #[error("its task broke down")]
    Task(#[from] JoinError),
}

/// A candidate that was judged where it is staged.
#[derive(Debug)]
struct Audited {
    candidate: Candidate,
    branch: RefName,
    /// Head of the staging branch: rows and verdicts.
    tip: CommitId,
}

/// A candidate that is being judged.
#[derive(Debug)]
pub(super) struct Audit {
    task: JoinHandle<Result<Audited, AuditError>>,
    /// What the branch said of the coverage when it was made.
    from: Option<CoverageEntry>,
    outcome: Option<Result<Result<Audited, AuditError>, JoinError>>,
}

impl Audit {
    pub(super) fn is_finished(&self) -> bool {
        self.outcome.is_some() || self.task.is_finished()
    }

    /// Until it is judged.
    pub(super) async fn wait(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some((&mut self.task).await);
        }
    }

    async fn outcome(mut self) -> Result<Audited, AuditError> {
        self.wait().await;
        match self.outcome.take() {
            Some(outcome) => outcome?,
            None => Err(AuditError::Layout("it was asked for its outcome twice".to_owned())),
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // Ends the hook with it; a task that is done is not touched.
        self.task.abort();
    }
}

/// Who stages what for which branch.
struct Job<C> {
    lake: Lake,
    clock: C,
    author: String,
    target: RefName,
    gate: Arc<GateSettings>,
}

/// Stages a candidate and has it judged, in a task of its own.
#[expect(
    clippy::disallowed_methods,
    reason = "its handle is held by the recipe: ingest drains it at the end, and what is dropped is aborted"
)]
pub(super) fn begin<C: Clock + Clone + Send + Sync + 'static>(
    candidate: Candidate,
    from: Option<CoverageEntry>,
    committer: &Committer<C>,
    gate: &Arc<GateSettings>,
    judged: &Arc<Notify>,
) -> Audit {
    let job = Job {
        lake: committer.lake.clone(),
        clock: committer.clock.clone(),
        author: committer.author().to_owned(),
        target: committer.branch().clone(),
        gate: Arc::clone(gate),
    };
    let told = Arc::clone(judged);
    let task = tokio::spawn(async move {
        let outcome = job.run(candidate).await;
        told.notify_one();
        outcome
    });
    Audit { task, from, outcome: None }
}

impl<C: Clock> Job<C> {
    async fn run(&self, candidate: Candidate) -> Result<Audited, AuditError> {
        let time_us = candidate.now.micros();
        let branch = RefName::unique_below(WAP, time_us)?;
        let head = candidate.head.clone();
        candidate.store_coverage(&self.lake).await?;
        self.lake.branch(&branch, &head, &self.author, time_us).await?;
        match self.judge(candidate, &branch).await {
            Ok(audited) => Ok(audited),
            Err(error) => {
                drop_staged(&self.lake, &branch, &self.author, time_us, "staging failed").await;
                Err(error)
            }
        }
    }

    async fn judge(&self, mut candidate: Candidate, branch: &RefName) -> Result<Audited, AuditError> {
        let mut writer = self.lake.writer(branch.clone(), self.author.clone());
        let staged = match candidate.removal(&self.lake, &candidate.head).await? {
            Some(removal) => match writer.rewrite(removal, &candidate.staged()).await? {
                Some(staged) => staged,
                None => return Err(AuditError::Layout("its rows came to nothing".to_owned())),
            },
            None => writer.commit(candidate.staged()).await?,
        };
        if let Some(judged) = pictures::judge(&self.lake, &candidate).await? {
            candidate.judged.push(judged);
        }
        candidate.judged.extend(pictures::judge_seen(&self.lake, &candidate, &self.gate).await?);
        // What the rules refuse needs nobody's time.
        if candidate.verdict() != Verdict::Fail {
            let question = self.question(&candidate, branch, &staged.id);
            for hook in self.gate.hooks.iter().filter(|hook| hook.concerns(&candidate.recipe)) {
                candidate.judged.push(ask(hook, &question, &self.clock).await);
            }
        }
        let verdicts = candidate.audited(&staged.id, branch, &self.target);
        let verdicts = verdicts.map_err(|error| AuditError::Layout(error.to_string()))?;
        let tip = writer.commit(verdicts).await?.id;
        Ok(Audited { candidate, branch: branch.clone(), tip })
    }

    fn question(&self, candidate: &Candidate, branch: &RefName, staged: &CommitId) -> Question {
        Question {
            lake: self.lake.location().to_owned(),
            rest_url: self.gate.rest_url.clone(),
            branch: branch.to_string(),
            candidate: staged.to_string(),
            target: self.target.to_string(),
            fork: candidate.head.to_string(),
            recipe: (candidate.recipe.to_string(), candidate.recipe_id.clone()),
            table: candidate.table.to_string(),
            rows: candidate.window.rows.len() as u64,
            t_ns: candidate.span(),
            gates: candidate.judged.iter().map(|judged| (judged.gate.to_string(), judged.verdict)).collect(),
        }
    }
}

/// Publishes a candidate that passed, or sets it aside; `keep` bounds what lies aside per recipe.
pub(super) async fn finish<C: Clock>(
    slot: &mut Slot,
    audit: Audit,
    committer: &mut Committer<C>,
    keep: usize,
) -> Result<(), AlignError> {
    let from = audit.from.clone();
    let Audited { candidate, branch, tip } = audit.outcome().await?;
    let (lake, author) = (committer.lake.clone(), committer.author().to_owned());
    let time_us = committer.clock.read().real.micros();
    let passed = candidate.verdict() != Verdict::Fail;
    let bad = candidate.bad_devices();
    if !passed && !bad.is_empty() {
        // Its pictures told who is bad: both parts are judged by themselves.
        let mut good = candidate.window;
        let back = good.part(&bad)?;
        slot.parted.extend([good, back]);
        drop_staged(&lake, &branch, &author, time_us, "parted by device").await;
        return Ok(());
    }
    if !passed && !candidate.is_set_aside() && slot.again.was_told(&candidate.complaint()) {
        slot.hold_back(&candidate.window, committer.clock.boot());
        drop_staged(&lake, &branch, &author, time_us, "failed as before, held back").await;
        return Ok(());
    }
    let moves = CoverageMove { from, to: candidate.entry.clone() };
    let request = Adopt {
        candidate: tip.clone(),
        fork: candidate.head.clone(),
        tables: if passed { AdoptTables::All } else { AdoptTables::Namespace("ops".to_owned()) },
        coverage: match passed {
            true => BTreeMap::from([(candidate.recipe.to_string(), moves)]),
            false => BTreeMap::new(),
        },
        message: candidate.message(),
        time_us,
    };
    // Whatever comes of it, the staging branch has served its purpose.
    let adopted = committer.adopt(request).await;
    let reason = match (&adopted, passed) {
        (Ok(_), true) => "published",
        (Ok(_), false) if candidate.is_set_aside() => "failed, see quarantine",
        (Ok(_), false) => "failed, held back",
        (Err(_), _) => "could not be published, its rows are aligned anew",
    };
    if adopted.is_ok() && !passed {
        candidate.told_failed();
        if candidate.is_set_aside() {
            set_aside(&lake, &branch, &tip, &author, time_us).await?;
            slot.set_aside(&candidate.window);
        } else {
            slot.again.tell(&candidate.complaint());
            slot.hold_back(&candidate.window, committer.clock.boot());
        }
        if let Err(error) = keep_newest(&lake, &candidate.recipe, keep, &author, time_us).await {
            tracing::warn!(%error, "old quarantined candidates stay for now");
        }
    }
    drop_staged(&lake, &branch, &author, time_us, reason).await;
    if adopted?.is_some() && passed {
        slot.published(&candidate.window, candidate.done, candidate.entry);
    }
    Ok(())
}

/// Keeps a failed candidate under `quarantine/<id>`, with the id of its staging branch.
async fn set_aside(
    lake: &Lake,
    branch: &RefName,
    tip: &CommitId,
    author: &str,
    time_us: i64,
) -> Result<(), AuditError> {
    let id = branch.as_str().rsplit('/').next().unwrap_or_default();
    let name = RefName::new(format!("{QUARANTINE}/{id}"))?;
    lake.branch(&name, tip, author, time_us).await?;
    metrics::counter!("headwater_gate_quarantined_total").increment(1);
    tracing::error!(candidate = %name, "candidate quarantined; `headwater gate show {id}` says why");
    Ok(())
}

/// Takes a staging branch away. One that stays is taken away at the next start.
async fn drop_staged(lake: &Lake, branch: &RefName, author: &str, time_us: i64, reason: &str) {
    if let Err(error) = lake.drop_ref(branch, None, author, time_us, reason).await {
        metrics::counter!("headwater_gate_staged_left_total").increment(1);
        tracing::warn!(%branch, %error, "staging branch stays until the next start");
    }
}
