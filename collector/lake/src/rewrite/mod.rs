//! Correcting rows: columns that were derived from a row's stamps are derived anew and the files that hold such rows are
//! overwritten, in one commit over all tables (kind `resolve`). Keys, stamps and the number of rows stay; a row may change
//! its day.

mod removal;
mod work;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::compact::{FileIndex, Replacement, StopFlag};
use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::writer::{CommitRequest, Committed, LakeWriter, Rewriting};

/// The only columns that a correction may change.
pub const DERIVED_COLUMNS: [&str; 5] = ["ts", "ts_ns", "ts_err_ns", "grade", "track"];

/// Derives columns of rows anew. Called more than once for the same rows: the same rows must give the same answer.
pub trait Derive: fmt::Debug + Send + Sync {
    /// Columns it looks at, beside [`DERIVED_COLUMNS`].
    fn reads(&self) -> &[&'static str];

    /// New values of some of [`DERIVED_COLUMNS`] for all of these rows, or none if nothing of them changes.
    ///
    /// # Errors
    /// Why rows cannot be judged; nothing is rewritten then.
    fn derive(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>, String>;

    /// Told once of the rows of each batch that is written anew, before and after.
    fn rewritten(&self, before: &RecordBatch, after: &RecordBatch);
}

/// What to look through of one table.
#[derive(Debug, Clone)]
pub struct RewriteTable {
    /// The table.
    pub table: TableName,
    /// Days since 1970. Only files in which a row changes are written anew.
    pub days: BTreeSet<i32>,
    /// Those of the days whose files are written anew together once one of them is: a day whose compaction is due anyway.
    pub whole: BTreeSet<i32>,
    /// How.
    pub derive: Arc<dyn Derive>,
}

/// What a rewrite found and wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewritten {
    /// Rows written anew, changed or not.
    pub rows: u64,
    /// Files taken away.
    pub files_in: u64,
    /// Bytes of them.
    pub bytes_in: u64,
    /// Files put in their place.
    pub files_out: u64,
    /// Bytes of those.
    pub bytes_out: u64,
    /// Rows taken out.
    pub removed: u64,
}

/// Corrected rows in files that are stored and not yet named by any commit.
#[derive(Debug)]
pub struct PreparedRewrite {
    commit: CommitId,
    tables: BTreeMap<TableName, Replacement>,
    index: FileIndex,
    /// Rows were taken out, and others may come in their place in the same commit.
    removes: bool,
    /// What was written.
    pub done: Rewritten,
}

impl PreparedRewrite {
    /// True if no row changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}

impl Lake {
    /// Does the long part of a correction as of a commit: looks for rows that change, and writes the files they lie in
    /// anew. Nothing is visible yet.
    ///
    /// # Errors
    /// [`LakeError::UnknownTable`]; [`TableError::Rewrite`](crate::TableError::Rewrite) if a table cannot be rewritten or a
    /// row not be judged; [`LakeError::Stopped`]; when the store fails.
    pub async fn prepare_rewrite(
        &self,
        commit: &CommitId,
        tables: &[RewriteTable],
        stop: &StopFlag,
    ) -> Result<PreparedRewrite, LakeError> {
        let entries = self.tables(commit).await?;
        let mut prepared = PreparedRewrite {
            commit: commit.clone(),
            tables: BTreeMap::new(),
            index: FileIndex::default(),
            removes: false,
            done: Rewritten::default(),
        };
        for table in tables {
            let entry = entries.get(&table.table).ok_or_else(|| LakeError::UnknownTable {
                table: table.table.clone(),
                commit: commit.clone(),
            })?;
            let (done, replacement) = work::rewrite(self, entry, table, &mut prepared.index, stop).await?;
            if let Some(replacement) = replacement {
                prepared.tables.insert(table.table.clone(), replacement);
                prepared.done.rows += done.rows;
                prepared.done.files_in += done.files_in;
                prepared.done.bytes_in += done.bytes_in;
                prepared.done.files_out += done.files_out;
                prepared.done.bytes_out += done.bytes_out;
            }
        }
        Ok(prepared)
    }
}

/// Rows that shall be no more, or give way to others of the same commit.
#[derive(Debug, Clone)]
pub struct RemoveRows {
    /// The table.
    pub table: TableName,
    /// Days since 1970 in which they may lie; all without it.
    pub days: Option<BTreeSet<i32>>,
    /// Text columns that name a row together.
    pub by: Vec<String>,
    /// The rows, by those columns.
    pub rows: BTreeSet<Vec<String>>,
}

impl Lake {
    /// Does the long part of a removal as of a commit: writes the files such rows lie in anew without them. Nothing is
    /// visible yet. A row that is not there is no error; [`Rewritten::removed`] says how many were.
    ///
    /// # Errors
    /// As [`Lake::prepare_rewrite`].
    pub async fn prepare_removal(
        &self,
        commit: &CommitId,
        asked: &RemoveRows,
        stop: &StopFlag,
    ) -> Result<PreparedRewrite, LakeError> {
        let entries = self.tables(commit).await?;
        let entry = entries
            .get(&asked.table)
            .ok_or_else(|| LakeError::UnknownTable { table: asked.table.clone(), commit: commit.clone() })?;
        let mut index = FileIndex::default();
        let (done, replacement) = removal::remove(self, entry, asked, &mut index, stop).await?;
        let tables = replacement.map(|replacement| (asked.table.clone(), replacement)).into_iter().collect();
        Ok(PreparedRewrite { commit: commit.clone(), tables, index, removes: true, done })
    }
}

impl LakeWriter {
    /// Publishes corrected rows together with what `request` says and appends, in one commit.
    ///
    /// # Errors
    /// As [`LakeWriter::commit`]; [`TableError::Overtaken`](crate::TableError::Overtaken) if somebody replaced or deleted
    /// rows of the files meanwhile: prepare it again.
    pub async fn rewrite(
        &mut self,
        prepared: PreparedRewrite,
        request: &CommitRequest,
    ) -> Result<Option<Committed>, CommitError> {
        let PreparedRewrite { commit, tables, index, removes, .. } = prepared;
        self.look_beyond(&commit, request.time_us).await?;
        let failed = |source| CommitError::Failed { name: self.name().clone(), source };
        let mut plan = Rewriting::new(request, tables, index, removes).map_err(failed)?;
        self.publish(&mut plan).await
    }
}
