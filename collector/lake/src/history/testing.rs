//! Hooks for the fakes: commits that rewrite files, as compaction and correction do.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;

use super::change::{self, Changed, Outcome, unchanged};
use super::files::{Delta, Files, live};
use super::rows;
use super::side::state_in;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::CommitObject;
use crate::table::TableState;
use crate::writer::Drafting;

/// Rows of the first `n` files of a table, with the state and files they are of; none if there are none.
pub(crate) async fn rows_of(
    lake: &Lake,
    commit: &CommitObject,
    table: &TableName,
    n: usize,
) -> Result<Option<(Vec<RecordBatch>, (TableState, Files))>, LakeError> {
    let Some(state) = state_in(lake, table, Some(commit)).await? else { return Ok(None) };
    let files: Files = live(lake.store(), table, Some(&state)).await?.into_iter().take(n).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let mut batches = Vec::new();
    for file in files.values() {
        batches.extend(rows::read(lake.store(), table, &state.metadata, file, None).await?);
    }
    Ok(Some((batches, (state, files))))
}

/// Puts the table with `rows` in place of the files they were read from into a commit.
pub(crate) async fn rewritten(
    lake: &Lake,
    drafting: &mut Drafting,
    table: &TableName,
    (state, files): (TableState, Files),
    rows: Vec<RecordBatch>,
) -> Result<(), LakeError> {
    let drafted = unchanged(&state);
    let mut changed = Changed::new(Some(state), drafted, Delta { added: Files::new(), removed: files });
    changed.append(table, rows).await?;
    let outcomes = BTreeMap::from([(table.clone(), Outcome::Change(Box::new(changed)))]);
    change::put(lake, drafting, outcomes).await.map(drop)
}
