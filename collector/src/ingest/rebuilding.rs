//! Aligned rows made anew from the raw tables of a commit, from nothing and as a batch: what reproducing a commit, trying a
//! recipe out and aligning history have in common.

use super::IngestSettings;
use super::fold::Folder;
use super::restore::restore_at;
use crate::align::aligner::{Aligner, StepError};
use crate::align::coverage::Coverage;
use crate::align::window::AlignedWindow;
use crate::align::{Filling, restore};
use crate::registry::Registry;
use arrow_array::{Array, RecordBatch};
use headwater_align::recipe::Recipe;
use headwater_core::id::TenantId;
use headwater_core::time::BootNanos;
use headwater_lake::{CommitId, Lake, LakeError, RefName};
use std::sync::Arc;

/// Why rows could not be made anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The recipe does not fit what the commit's streams declare, or a bug.
    #[error("align the rows of {commit}")]
    Step {
        /// Where.
        commit: String,
        /// Why.
        #[source]
        source: StepError,
    },
}

/// What came of it beside the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Final rows.
    pub rows: u64,
    /// Spine samples that give none.
    pub left_out: u64,
    /// Rows that are not final at this commit: something of their columns is still to come.
    pub open: u64,
}

/// Makes the final rows of a recipe anew from the raw tables of a commit; `span_us` bounds them in UTC. `take` is given
/// them as they come, oldest first, in batches of the aligned table.
///
/// # Errors
/// [`RebuildError`].
pub async fn rebuild(
    lake: &Lake,
    commit: &CommitId,
    recipe: Recipe,
    span_us: Option<(i64, i64)>,
    mut take: impl FnMut(&RecordBatch),
) -> Result<Rebuilt, RebuildError> {
    let tenant: TenantId = "rebuild".parse().map_err(|_| LakeError::Corrupt {
        path: commit.to_string(),
        reason: "a tenant's name of our own is refused".to_owned(),
    })?;
    let mut folder = Folder::new(IngestSettings::new(tenant, "rebuild", RefName::main()), Registry::new());
    restore_at(&mut folder, lake, commit).await?;
    let mut aligner = Aligner::new(recipe, Coverage::default());
    let mut rebuilt = Rebuilt::default();
    loop {
        let mut fresh = aligner.emptied();
        let with = Filling {
            kinds: &folder.kinds,
            clocks: &folder.tracks,
            span_us,
            now: BootNanos(0),
            utc_ns: None,
        };
        restore(&mut fresh, lake, commit, with).await?;
        aligner = fresh;
        let more = aligner.is_behind();
        // What is not final now is told by the far end of all waiting.
        let step = aligner.step(BootNanos(i64::MAX));
        let window =
            step.map_err(|source| RebuildError::Step { commit: commit.short().to_owned(), source })?;
        for batch in finals(&window) {
            rebuilt.rows = rebuilt.rows.saturating_add(batch.num_rows() as u64);
            take(batch);
        }
        rebuilt.left_out = rebuilt.left_out.saturating_add(window.left_out.len() as u64);
        let open = window.rows.iter().filter(|row| row.provisional).count() as u64;
        rebuilt.open = rebuilt.open.saturating_add(open);
        let done = aligner.covered_with(&window);
        aligner.finish(done);
        if window.is_empty() && !more {
            return Ok(rebuilt);
        }
    }
}

/// Batches of final rows: those of provisional ones are batches of their own.
fn finals(window: &AlignedWindow) -> impl Iterator<Item = &RecordBatch> {
    window.batches.iter().filter(|batch| {
        let flags = batch.column_by_name("provisional").map(Arc::clone);
        let flags =
            flags.as_ref().and_then(|flags| flags.as_any().downcast_ref::<arrow_array::BooleanArray>());
        flags.is_some_and(|flags| flags.true_count() == 0)
    })
}
