//! Compaction and corrections beside ingest: the long part runs on the blocking pool and moves nothing; what it
//! made is published between two commits of rows, by the same writer, so that nobody races anybody.
//!
//! ```text
//! idle ─ enough commits, or time ─► at work (look, correct or merge, store) ─► done ─ room before the next commit ─► published
//! ```
//! A row's commit waits for no merge: at most for one commit of metadata, and that is only begun while half the commit
//! interval is left.

use super::correcting::{Corrected, Correction, tables};
use headwater_core::time::BootNanos;
use headwater_lake::{
    CompactPolicy, CompactScope, Compacted, Compactor, Lake, LakeError, Prepared, PreparedRewrite, RefName,
    StopFlag, Survey,
};
use std::collections::BTreeSet;
use tokio::sync::{oneshot, watch};

/// A look is due at least this often, ms: days end while nothing is committed too.
const LOOK_MS: u64 = 600_000;
/// After a failure the next look waits this long, ms: a store that is away is not asked all the time.
const FAILED_MS: u64 = 60_000;

/// What ingest does beside its commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactSettings {
    /// Off: files stay as commits wrote them until `headwater compact` is run.
    pub enabled: bool,
    /// Corrected times are written into rows of days that are over.
    pub correct: bool,
    /// Commits between two looks.
    pub every_commits: u32,
    /// When files are merged.
    pub policy: CompactPolicy,
}

impl Default for CompactSettings {
    fn default() -> Self {
        Self { enabled: true, correct: true, every_commits: 8, policy: CompactPolicy::default() }
    }
}

/// What was done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactReport {
    /// Looks that ended, whatever they found.
    pub looks: u64,
    /// Commits of kind `compact`.
    pub compactions: u64,
    /// Commits of kind `resolve`.
    pub corrections: u64,
    /// Rows whose time was corrected.
    pub rows_corrected: u64,
    /// Files taken away and put in their place.
    pub files: (u64, u64),
    /// Bytes that commits of rows wrote, and bytes written again.
    pub bytes: (u64, u64),
    /// Files that are due to be merged and wait for a later round.
    pub backlog_files: u64,
    /// Rounds that failed.
    pub failures: u64,
}

impl CompactReport {
    /// Bytes written again per byte ingested; none before anything was.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn write_amplification(&self) -> Option<f64> {
        (self.bytes.0 > 0).then(|| self.bytes.1 as f64 / self.bytes.0 as f64)
    }
}

/// What a job made.
#[derive(Debug)]
pub(super) enum Made {
    /// There was nothing to do.
    Nothing,
    /// Merged files.
    Merged(Prepared),
    /// Corrected rows.
    Corrected(PreparedRewrite, Corrected),
}

type Outcome = (Compactor, Result<Made, LakeError>, u64);

#[derive(Debug)]
struct Job {
    done: oneshot::Receiver<Outcome>,
    stop: StopFlag,
}

impl Drop for Job {
    fn drop(&mut self) {
        // What it stored so far is an orphan for garbage collection.
        self.stop.stop();
    }
}

/// The state over commits.
#[derive(Debug)]
pub(super) struct Compacting {
    lake: Lake,
    pub(super) settings: CompactSettings,
    report: CompactReport,
    told: watch::Sender<CompactReport>,
    /// Keeps what it read of manifests; a job has it while it runs.
    compactor: Option<Compactor>,
    job: Option<Job>,
    made: Option<Result<Made, LakeError>>,
    commits: u32,
    look_at: BootNanos,
    /// No correction before this: one that fails again and again must not keep files from being merged.
    correct_at: BootNanos,
}

impl Compacting {
    pub(super) fn new(
        lake: Lake,
        settings: CompactSettings,
        told: watch::Sender<CompactReport>,
        now: BootNanos,
    ) -> Self {
        let compactor = Some(lake.compactor());
        let report = CompactReport::default();
        let look_at = now.plus_ms(LOOK_MS);
        let (job, made, commits) = (None, None, 0);
        Self { lake, settings, report, told, compactor, job, made, commits, look_at, correct_at: now }
    }

    /// A commit of rows is there.
    pub(super) fn committed(&mut self, bytes: u64) {
        self.commits = self.commits.saturating_add(1);
        self.report.bytes.0 += bytes;
        metrics::counter!("headwater_commit_bytes_total").increment(bytes);
        self.tell();
    }

    /// True if it is time for a look.
    pub(super) fn is_due(&self, now: BootNanos) -> bool {
        let idle = self.job.is_none() && self.made.is_none();
        self.settings.enabled && idle && (self.commits >= self.settings.every_commits || now >= self.look_at)
    }

    /// True if a correction may be tried.
    pub(super) fn may_correct(&self, now: BootNanos) -> bool {
        self.settings.correct && now >= self.correct_at
    }

    /// Begins a look at the newest commit of the branch, and what it gives reason for. Not at the one that ingest knows:
    /// others' compactions move the branch and are followed by nobody, and their files would be merged in vain.
    pub(super) fn begin(
        &mut self,
        branch: RefName,
        now_us: i64,
        now: BootNanos,
        correction: Option<Correction>,
    ) {
        self.commits = 0;
        self.look_at = now.plus_ms(LOOK_MS);
        let compactor = self.compactor.take().unwrap_or_else(|| self.lake.compactor());
        let (send, done) = oneshot::channel();
        let stop = StopFlag::default();
        self.job = Some(Job { done, stop: stop.clone() });
        let (lake, policy) = (self.lake.clone(), self.settings.policy.clone());
        let handle = tokio::runtime::Handle::current();
        // Detached on purpose: it ends with its flag, and an answer nobody waits for is dropped.
        drop(tokio::task::spawn_blocking(move || {
            let mut compactor = compactor;
            let work = work(&lake, &mut compactor, &branch, &policy, now_us, correction, &stop);
            let (made, backlog) = match handle.block_on(work) {
                Ok((made, backlog)) => (Ok(made), backlog),
                Err(error) => (Err(error), 0),
            };
            drop(send.send((compactor, made, backlog)));
        }));
    }

    /// Waits for the job; for ever without one.
    pub(super) async fn finished(&mut self) {
        let Some(job) = &mut self.job else { return std::future::pending().await };
        let outcome = (&mut job.done).await;
        self.ended(outcome.ok());
    }

    /// Looks whether the job has ended: under load nobody ever waits.
    pub(super) fn look(&mut self) {
        match self.job.as_mut().map(|job| job.done.try_recv()) {
            None | Some(Err(oneshot::error::TryRecvError::Empty)) => {}
            Some(outcome) => self.ended(outcome.ok()),
        }
    }

    fn ended(&mut self, outcome: Option<Outcome>) {
        self.job = None;
        match outcome {
            Some((compactor, made, backlog)) => {
                self.compactor = Some(compactor);
                self.report.backlog_files = backlog;
                self.made = Some(made);
            }
            // Its thread broke down, which only a bug does; the next look begins anew.
            None => self.made = Some(Err(LakeError::Stopped { task: "compaction, whose thread broke down" })),
        }
    }

    /// True if something waits to be published.
    pub(super) fn has_made(&self) -> bool {
        self.made.is_some()
    }

    /// What the last job made.
    pub(super) fn take(&mut self) -> Option<Result<Made, LakeError>> {
        self.made.take()
    }

    /// There was nothing to do.
    pub(super) fn nothing(&mut self) {
        self.report.looks += 1;
        self.tell();
    }

    /// Merged files were published, or overtaken.
    pub(super) fn compacted(&mut self, done: &Compacted) {
        for (table, day, why) in &done.dropped {
            metrics::counter!("headwater_compact_dropped_total", "reason" => why.as_str()).increment(1);
            tracing::info!(%table, day, why = why.as_str(), "a merge of files was overtaken and dropped");
        }
        // All overtaken: as much may be overtaken again, and what is due waits for the next look.
        let Some(committed) = &done.committed else { return self.nothing() };
        self.report.compactions += 1;
        metrics::counter!("headwater_compact_commits_total", "kind" => "compact").increment(1);
        self.wrote(done.files_in as u64, done.files_out as u64, committed.bytes);
        self.went_on();
    }

    /// A correcting commit is there.
    pub(super) fn corrected(&mut self, rows: u64, files: (u64, u64), bytes: u64) {
        self.report.corrections += 1;
        self.report.rows_corrected += rows;
        metrics::counter!("headwater_compact_commits_total", "kind" => "resolve").increment(1);
        metrics::counter!("headwater_corrections_rows_corrected_total").increment(rows);
        self.wrote(files.0, files.1, bytes);
        self.went_on();
    }

    /// A round failed; nothing of it is visible.
    pub(super) fn failed(&mut self, error: &LakeError, now: BootNanos) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, cause, "compaction failed, trying again later; rows are committed all the same");
        metrics::counter!("headwater_compact_failures_total").increment(1);
        self.report.failures += 1;
        self.report.looks += 1;
        self.look_at = now.plus_ms(FAILED_MS);
        self.correct_at = now.plus_ms(LOOK_MS);
        self.tell();
    }

    fn wrote(&mut self, files_in: u64, files_out: u64, bytes: u64) {
        self.report.files.0 += files_in;
        self.report.files.1 += files_out;
        self.report.bytes.1 += bytes;
        metrics::counter!("headwater_compact_files_total").increment(files_in);
        metrics::counter!("headwater_compact_bytes_total").increment(bytes);
    }

    /// Where something was done more may be due.
    fn went_on(&mut self) {
        self.report.looks += 1;
        self.commits = self.settings.every_commits;
        self.tell();
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge beyond 2^53 may round")]
    fn tell(&self) {
        metrics::gauge!("headwater_compact_backlog_files").set(self.report.backlog_files as f64);
        if let Some(ratio) = self.report.write_amplification() {
            metrics::gauge!("headwater_write_amplification").set(ratio);
        }
        self.told.send_replace(self.report);
    }
}

/// One round: corrections first, since they would write a merged day again; then what is due to be merged. Gives the
/// number of files that wait for a later round too.
async fn work(
    lake: &Lake,
    compactor: &mut Compactor,
    branch: &RefName,
    policy: &CompactPolicy,
    now_us: i64,
    correction: Option<Correction>,
    stop: &StopFlag,
) -> Result<(Made, u64), LakeError> {
    let Some(head) = lake.head(branch).await?.and_then(|head| head.commit) else {
        return Ok((Made::Nothing, 0));
    };
    let survey = compactor.survey(&head, policy, &CompactScope::default(), now_us).await?;
    let later = survey.later().iter().map(|merge| merge.files as u64).sum();
    if let Some(correction) = correction {
        let tables = tables(&correction, &days_due(&survey));
        let prepared = lake.prepare_rewrite(&head, &tables, stop).await?;
        let corrected = Corrected::new(correction, lake.tables(&head).await?.into_keys().collect());
        return Ok((Made::Corrected(prepared, corrected), later));
    }
    if survey.is_empty() {
        return Ok((Made::Nothing, later));
    }
    let prepared = lake.prepare_compaction(survey, policy, stop, |_, _| ()).await?;
    Ok((Made::Merged(prepared), later))
}

/// Tables and days that a merge is due for: a correction that touches one writes all of it.
fn days_due(survey: &Survey) -> BTreeSet<(String, i32)> {
    let due = survey.due().into_iter().chain(survey.later());
    due.filter(|merge| merge.step == "day").map(|merge| (merge.table.to_string(), merge.day)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_lake::testing;

    #[tokio::test]
    async fn a_round_that_was_all_overtaken_is_not_followed_by_another_at_once() {
        let lake = testing::memory().await.unwrap();
        let (told, report) = watch::channel(CompactReport::default());
        let now = BootNanos(0);
        let mut compacting = Compacting::new(lake, CompactSettings::default(), told, now);
        let done = Compacted { committed: None, files_in: 0, files_out: 0, bytes_in: 0, dropped: Vec::new() };
        compacting.compacted(&done);
        assert!(!compacting.is_due(now));
        assert_eq!((report.borrow().looks, report.borrow().compactions), (1, 0));
        assert!(compacting.is_due(now.plus_ms(LOOK_MS)));
    }
}
