//! Commits that rewrite a table's files, for tests of what may meet them.

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::error::{CommitError, LakeError};
use crate::history::testing::{rewritten, rows_of};
use crate::lake::Lake;
use crate::names::{RefName, TableName};
use crate::repo::{CommitKind, RefOp};
use crate::writer::{Base, Committed, Draft, Drafting, Plan};

/// Replaces files of `table` by what `change` makes of their rows: all of its files, or the first `files` of them. A
/// commit of kind `compact` must give the rows it was given.
///
/// # Errors
/// As [`LakeWriter::commit`](crate::LakeWriter::commit).
pub async fn rewrite(
    lake: &Lake,
    name: &RefName,
    table: &TableName,
    kind: CommitKind,
    files: usize,
    time_us: i64,
    change: impl Fn(Vec<RecordBatch>) -> Vec<RecordBatch> + Send + Sync,
) -> Result<Option<Committed>, CommitError> {
    let mut plan = Rewriting { table: table.clone(), kind, files, time_us, change: &change };
    lake.writer(name.clone(), "rewrite".to_owned()).publish(&mut plan).await
}

struct Rewriting<'a> {
    table: TableName,
    kind: CommitKind,
    files: usize,
    time_us: i64,
    change: &'a (dyn Fn(Vec<RecordBatch>) -> Vec<RecordBatch> + Send + Sync),
}

#[async_trait]
impl Plan for Rewriting<'_> {
    fn time_us(&self) -> i64 {
        self.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        let Some(commit) = base.commit.clone() else { return Ok(None) };
        let Some((rows, taken)) = rows_of(lake, &commit, &self.table, self.files).await? else {
            return Ok(None);
        };
        let mut drafting = Drafting::on(lake, author, base, self.kind, self.time_us);
        drafting.commit.message = format!("{} {}", self.kind.as_str(), self.table);
        rewritten(lake, &mut drafting, &self.table, taken, (self.change)(rows)).await?;
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}
