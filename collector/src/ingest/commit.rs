//! The committer: one writer of one branch, which knows what became of every commit it sent.

use headwater_core::ports::Clock;
use headwater_lake::{
    Adopt, CommitError, CommitId, CommitRequest, Committed, Compacted, Lake, LakeError, LakeWriter, Prepared,
    PreparedRewrite, RefName, Warrant,
};
use tokio_util::sync::CancellationToken;

/// First wait before a failed write is tried again.
pub(super) const BACKOFF_MS_MIN: u64 = 200;
/// Longest such wait: an object store that comes back is noticed soon.
const BACKOFF_MS_MAX: u64 = 10_000;

/// Commits to one branch.
#[derive(Debug)]
pub(super) struct Committer<C> {
    pub(super) lake: Lake,
    pub(super) clock: C,
    pub(super) half_ns: i64,
    author: String,
    cancel: CancellationToken,
    writer: LakeWriter,
}

impl<C: Clock> Committer<C> {
    pub(super) fn new(
        lake: Lake,
        branch: RefName,
        author: String,
        clock: C,
        half_ns: i64,
        cancel: CancellationToken,
    ) -> Self {
        let lake = lake.acting(Warrant::Ingest);
        let writer = lake.writer(branch, author.clone());
        Self { lake, clock, half_ns, author, cancel, writer }
    }

    /// Who commits.
    pub(super) fn author(&self) -> &str {
        &self.author
    }

    pub(super) fn branch(&self) -> &RefName {
        self.writer.name()
    }

    /// Makes the commit, or says that it did not happen. An unknown outcome is waited out: until it is known nothing may
    /// be acknowledged and nothing else committed.
    ///
    /// # Errors
    /// The lake's, when nothing happened. A stop while the outcome is unknown counts so too: the next life finds out.
    pub(super) async fn commit_once(&mut self, request: CommitRequest) -> Result<Committed, LakeError> {
        let sent = self.writer.commit(request).await;
        let committed = self.settled(sent.map(Some)).await?;
        committed.ok_or_else(|| unsettled("a commit came to nothing".to_owned()))
    }

    /// Publishes a staged candidate, as [`Committer::commit_once`] does a request; none if there was nothing to publish.
    ///
    /// # Errors
    /// As [`Committer::commit_once`].
    pub(super) async fn adopt(&mut self, request: Adopt) -> Result<Option<Committed>, LakeError> {
        let sent = self.writer.adopt(request).await;
        self.settled(sent).await
    }

    /// The newest commit of the branch, whoever made it.
    ///
    /// # Errors
    /// The lake's.
    pub(super) async fn head(&self) -> Result<Option<CommitId>, LakeError> {
        Ok(self.lake.head(self.branch()).await?.and_then(|head| head.commit))
    }

    /// Publishes merged files; what somebody overtook is dropped.
    ///
    /// # Errors
    /// As [`Committer::commit_once`].
    pub(super) async fn compact(&mut self, prepared: Prepared, time_us: i64) -> Result<Compacted, LakeError> {
        match self.writer.compact(prepared, time_us).await {
            Ok(done) => {
                let committed = done.committed.map(|committed| self.noted(committed));
                Ok(Compacted { committed, ..done })
            }
            Err(error) => {
                // Only an unknown outcome can still turn out well; how many files it was is lost with the plan.
                let committed = self.settled(Err(error)).await?;
                Ok(Compacted { committed, files_in: 0, files_out: 0, bytes_in: 0, dropped: Vec::new() })
            }
        }
    }

    /// Publishes corrected rows with what `request` says of them.
    ///
    /// # Errors
    /// As [`Committer::commit_once`]; when somebody overtook it.
    pub(super) async fn rewrite(
        &mut self,
        prepared: PreparedRewrite,
        request: &CommitRequest,
    ) -> Result<Option<Committed>, LakeError> {
        let sent = self.writer.rewrite(prepared, request).await;
        self.settled(sent).await
    }

    /// What became of a commit that was sent.
    async fn settled(
        &mut self,
        sent: Result<Option<Committed>, CommitError>,
    ) -> Result<Option<Committed>, LakeError> {
        let mut wait_ms = BACKOFF_MS_MIN;
        let (name, mut seq) = match sent {
            Ok(committed) => return Ok(committed.map(|committed| self.noted(committed))),
            Err(CommitError::Failed { source, .. }) => return Err(source),
            Err(CommitError::Unknown { name, seq }) => (name, seq),
            Err(other) => return Err(unsettled(other.to_string())),
        };
        loop {
            metrics::counter!("headwater_commit_unknown_total").increment(1);
            tracing::warn!(branch = %name, seq, "outcome of a commit is unknown, asking again");
            if self.wait(&mut wait_ms).await.is_err() {
                return Err(unsettled(format!("outcome of ref entry {seq} was unknown at the stop")));
            }
            match self.writer.settle().await {
                Ok(Some(committed)) => return Ok(Some(self.noted(committed))),
                Ok(None) => {
                    return Err(unsettled("another writer won while the outcome was unknown".to_owned()));
                }
                Err(CommitError::Unknown { seq: still, .. }) => seq = still,
                Err(CommitError::Failed { source, .. }) => return Err(source),
                Err(other) => return Err(unsettled(other.to_string())),
            }
        }
    }

    /// Waits before another try, longer each time.
    ///
    /// # Errors
    /// When it is time to stop.
    pub(super) async fn wait(&self, wait_ms: &mut u64) -> Result<(), Stopped> {
        let until = self.clock.boot().plus_ms(*wait_ms);
        *wait_ms = wait_ms.saturating_mul(2).min(BACKOFF_MS_MAX);
        tokio::select! {
            () = self.cancel.cancelled() => Err(Stopped),
            () = self.clock.sleep_until(until) => Ok(()),
        }
    }

    fn noted(&self, committed: Committed) -> Committed {
        metrics::counter!("headwater_commits_total").increment(1);
        metrics::counter!("headwater_commit_rows_total").increment(committed.rows);
        metrics::counter!("headwater_commit_objects_total").increment(committed.objects);
        let kept = self.lake.manifests_kept();
        metrics::gauge!("headwater_lake_manifest_bytes").set(crate::telemetry::as_f64(kept.bytes as u64));
        metrics::counter!("headwater_lake_manifests_forgotten_total").absolute(kept.forgotten);
        if committed.conflicts > 0 {
            // Another ingest of the same devices would not have been seen by our ledger.
            metrics::counter!("headwater_commit_conflicts_total").increment(committed.conflicts.into());
            tracing::warn!(branch = %self.branch(), conflicts = committed.conflicts, "another writer commits to this branch");
        }
        tracing::info!(
            branch = %self.branch(), commit = committed.id.short(), rows = committed.rows, bytes = committed.bytes,
            kind = committed.commit.kind.as_str(), "committed"
        );
        committed
    }
}

/// It is time to stop.
#[derive(Debug)]
pub(super) struct Stopped;

fn unsettled(reason: String) -> LakeError {
    LakeError::Corrupt { path: "ref log".to_owned(), reason }
}
