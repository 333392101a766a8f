//! Aligned rows made anew from the raw tables of a commit, from nothing and as a batch: what reproducing a commit, trying a
//! recipe out and aligning history have in common.

use super::IngestSettings;
use super::deriving::{Deriving, Runner};
use super::fold::Folder;
use super::restore::restore_at;
use crate::align::aligner::{Aligner, StepError};
use crate::align::coverage::Coverage;
use crate::align::derived::chain::Tails;
use crate::align::window::AlignedWindow;
use crate::align::{Filling, restore};
use crate::receive::clock::SystemClock;
use crate::registry::Registry;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, BooleanArray, RecordBatch};
use headwater_align::derive::{Derivation, Derived};
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
    /// Derived columns.
    #[error("derive columns of {commit}: {reason}")]
    Derive {
        /// Where.
        commit: String,
        /// Why.
        reason: String,
    },
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
    let runner = Runner::new(aligner.recipe(), SystemClock);
    let mut rebuilt = Rebuilt::default();
    let (asked, span_us) = (span_us, widened(aligner.recipe(), span_us));
    let mut tails = Tails::new();
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
        let failed = |source| RebuildError::Step { commit: commit.short().to_owned(), source };
        // What is not final now is told by the far end of all waiting; a row whose successor is still to be read is final
        // once that is.
        let mut window = match more {
            true => aligner.step(BootNanos(0)).map_err(failed)?,
            false => AlignedWindow::default(),
        };
        if window.is_empty() {
            window = aligner.step(BootNanos(i64::MAX)).map_err(failed)?;
        }
        let layout = aligner.layout().map_err(|error| failed(error.into()))?;
        if let Some(derives) = layout.derives.clone().filter(|_| !window.is_empty()) {
            let (lake, head, recipe) = (lake.clone(), commit.clone(), Arc::clone(aligner.recipe()));
            let deriving = Deriving { lake, head, recipe, derives, runner: runner.clone() };
            let derived = deriving.anew(window, &mut tails).await;
            window = derived.map_err(|error| RebuildError::Derive {
                commit: commit.short().to_owned(),
                reason: causes(&error),
            })?;
        }
        for batch in finals(&window) {
            if let Some(batch) = within(batch, asked.filter(|_| asked != span_us)) {
                rebuilt.rows = rebuilt.rows.saturating_add(batch.num_rows() as u64);
                take(&batch);
            }
        }
        rebuilt.open = rebuilt.open.saturating_add(window.unanswered.len() as u64);
        let mut unanswered = Coverage::default();
        window.unanswered.iter().for_each(|(key, seq, _)| unanswered.finish(key, *seq));
        aligner.hold_back(&unanswered);
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

/// The span that must be gone through for the rows of one: motion looks back, and episodes rest on a device's first row.
fn widened(recipe: &Recipe, span_us: Option<(i64, i64)>) -> Option<(i64, i64)> {
    if recipe.episodes.is_some() {
        return None;
    }
    let gap = |one: &Derived| match one.by {
        Derivation::Motion { max_gap_ns, .. } => max_gap_ns.div_euclid(1_000).saturating_add(1),
        _ => 0,
    };
    let back = recipe.derived.iter().map(gap).fold(0_i64, i64::saturating_add);
    span_us.map(|(from, to)| (from.saturating_sub(back), to))
}

/// The rows of a span of UTC, µs; none if there is none among them.
fn within(rows: &RecordBatch, span_us: Option<(i64, i64)>) -> Option<RecordBatch> {
    let Some((from, to)) = span_us else { return Some(rows.clone()) };
    let times = rows.column_by_name("ts_ns")?.as_primitive_opt::<Int64Type>()?;
    let is_within = |ts_ns: &i64| (from..to).contains(&ts_ns.div_euclid(1_000));
    let keep: BooleanArray = times.values().iter().map(|ts_ns| Some(is_within(ts_ns))).collect();
    arrow_select::filter::filter_record_batch(rows, &keep).ok().filter(|rows| rows.num_rows() > 0)
}

/// An error with the causes below it.
fn causes(error: &dyn std::error::Error) -> String {
    let below = std::iter::successors(error.source(), |error| error.source());
    below.fold(error.to_string(), |text, error| format!("{text}: {error}"))
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
