//! What happened to a ref, told from its log alone: one event per entry, so a reader that remembers a number misses
//! nothing and reads nothing twice, whether or not a collector runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::repo::{CommitKind, CommitObject, CommitStats, Head, RefOp};

/// Entries read in one go.
pub const LOG_READS_MAX: usize = 256;

/// Rows a commit added to each table it touched; fewer than before if negative.
pub type EventTables = BTreeMap<TableName, i64>;

/// One entry of a ref's log with what its commit did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The ref.
    pub r#ref: RefName,
    /// Number of the entry: the next event's is one more.
    pub seq: u64,
    /// What the entry did.
    pub op: RefOp,
    /// The commit it names; none after a delete.
    pub commit: Option<CommitId>,
    /// The commit the ref named before.
    pub parent: Option<CommitId>,
    /// What the commit was for; none after a delete, or when the commit was thinned out since.
    pub kind: Option<CommitKind>,
    /// Rows added by table, against `parent`. Tables that did not change are left out; empty when
    /// `parent` was thinned out since.
    pub tables: EventTables,
    /// The commit's own figures.
    pub stats: Option<CommitStats>,
    /// Who wrote the entry.
    pub writer: String,
    /// Why, for people.
    pub message: String,
    /// When the entry was written, UTC µs.
    pub time_us: i64,
}

impl Lake {
    /// Events of a ref after entry `after` (0 = from the first), oldest first, at most [`LOG_READS_MAX`]. None yet gives
    /// none; ask again from the last one's `seq`.
    ///
    /// # Errors
    /// [`LakeError::LogPruned`] when entries between are gone; when the store fails.
    pub async fn events(&self, name: &RefName, after: u64) -> Result<Vec<Event>, LakeError> {
        let mut events = Vec::new();
        let mut seq = after;
        while events.len() < LOG_READS_MAX {
            let Some(head) = self.refs().entry(name, seq.saturating_add(1)).await? else { break };
            seq = head.seq;
            events.push(self.event(name, head).await?);
        }
        if events.is_empty() {
            self.check_pruned(name, after).await?;
        }
        Ok(events)
    }

    /// The number of the newest entry that named `commit` (a full id), to go on after it.
    ///
    /// # Errors
    /// [`LakeError::NoRef`], [`LakeError::NotInLog`], or when the store fails.
    pub async fn seq_of_commit(&self, name: &RefName, commit: &CommitId) -> Result<u64, LakeError> {
        let mut next = self.head(name).await?;
        if next.is_none() {
            return Err(LakeError::NoRef { name: name.clone() });
        }
        while let Some(head) = next {
            if head.commit.as_ref() == Some(commit) {
                return Ok(head.seq);
            }
            next = match head.seq.checked_sub(1).filter(|seq| *seq > 0) {
                Some(seq) => self.refs().entry(name, seq).await?,
                None => None,
            };
        }
        Err(LakeError::NotInLog { name: name.clone(), commit: commit.clone() })
    }

    async fn event(&self, name: &RefName, head: Head) -> Result<Event, LakeError> {
        let commit = self.kept(head.commit.as_ref()).await?;
        let parent = self.kept(head.prev_commit.as_ref()).await?;
        // Against a parent that was thinned out nothing can be counted.
        let comparable = parent.is_some() == head.prev_commit.is_some();
        let before = parent.map(|parent| parent.tables).unwrap_or_default();
        let mut tables = EventTables::new();
        if let Some(commit) = commit.as_ref().filter(|_| comparable) {
            let rows = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
            for (table, entry) in &commit.tables {
                let old = before.get(table);
                if old != Some(entry) {
                    tables.insert(table.clone(), rows(entry.rows) - old.map_or(0, |old| rows(old.rows)));
                }
            }
            for (table, old) in before.iter().filter(|(table, _)| !commit.tables.contains_key(*table)) {
                tables.insert(table.clone(), -rows(old.rows));
            }
        }
        Ok(Event {
            r#ref: name.clone(),
            seq: head.seq,
            op: head.op,
            commit: head.commit,
            parent: head.prev_commit,
            kind: commit.as_ref().map(|commit| commit.kind),
            tables,
            stats: commit.map(|commit| commit.stats),
            writer: head.writer,
            message: head.reason,
            time_us: head.time_us,
        })
    }

    /// The commit, unless history was thinned since: the log may be kept longer than what it names.
    async fn kept(&self, id: Option<&CommitId>) -> Result<Option<CommitObject>, LakeError> {
        let Some(id) = id else { return Ok(None) };
        match self.commit_object(id).await {
            Ok(commit) => Ok(Some(commit)),
            Err(LakeError::UnknownRevision { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Nothing follows `after`: either nothing does yet, or what did is gone.
    async fn check_pruned(&self, name: &RefName, after: u64) -> Result<(), LakeError> {
        let Some(head) = self.head(name).await? else { return Ok(()) };
        if head.seq <= after {
            return Ok(());
        }
        // It may have been written since it was looked for.
        if self.refs().entry(name, after + 1).await?.is_some() {
            return Ok(());
        }
        let (mut gone, mut there) = (after + 1, head.seq);
        while there - gone > 1 {
            let middle = gone + (there - gone) / 2;
            match self.refs().entry(name, middle).await? {
                Some(_) => there = middle,
                None => gone = middle,
            }
        }
        Err(LakeError::LogPruned { name: name.clone(), after, oldest: gone })
    }
}
