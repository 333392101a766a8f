//! Compaction by itself, as the committing process does it between its commits.

use headwater_lake::{
    CommitError, CompactPolicy, CompactScope, Compacted, Compactor, Lake, LakeError, LakeWriter, StopFlag,
};

/// Looks after one ref's files.
#[derive(Debug)]
pub struct Upkeep {
    lake: Lake,
    compactor: Compactor,
    policy: CompactPolicy,
}

/// Looking for work, or doing it, failed; nothing happened then.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// Before anything was published.
    #[error("prepare a compaction")]
    Prepare(#[source] LakeError),
    /// In publishing.
    #[error("publish a compaction")]
    Publish(#[source] CommitError),
}

impl Upkeep {
    /// With the usual steps.
    #[must_use]
    pub fn new(lake: &Lake) -> Self {
        Self { lake: lake.clone(), compactor: lake.compactor(), policy: CompactPolicy::default() }
    }

    /// One round on the ref of `writer`, if something is due.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn round(
        &mut self,
        writer: &mut LakeWriter,
        scope: &CompactScope,
        time_us: i64,
    ) -> Result<Option<Compacted>, UpkeepError> {
        let head = self.lake.head(writer.name()).await.map_err(UpkeepError::Prepare)?;
        let Some(head) = head.and_then(|head| head.commit) else { return Ok(None) };
        let survey = self.compactor.survey(&head, &self.policy, scope, time_us).await;
        let survey = survey.map_err(UpkeepError::Prepare)?;
        if survey.is_empty() {
            return Ok(None);
        }
        let (stop, quiet) = (StopFlag::default(), |_, _| ());
        let prepared = self.lake.prepare_compaction(survey, &self.policy, &stop, quiet).await;
        let prepared = prepared.map_err(UpkeepError::Prepare)?;
        writer.compact(prepared, time_us).await.map(Some).map_err(UpkeepError::Publish)
    }

    /// Rounds until nothing is due; gives how many made a commit.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn settle(
        &mut self,
        writer: &mut LakeWriter,
        scope: &CompactScope,
        time_us: i64,
    ) -> Result<u64, UpkeepError> {
        let mut commits = 0;
        while let Some(done) = self.round(writer, scope, time_us).await? {
            if done.committed.is_none() {
                break;
            }
            commits += 1;
        }
        Ok(commits)
    }
}
