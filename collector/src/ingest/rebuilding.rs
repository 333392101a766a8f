//! Aligned rows made anew from the raw tables of a commit, from nothing and as a batch: what reproducing a commit, trying a
//! recipe out and aligning history have in common.

use super::IngestSettings;
use super::fold::Folder;
use super::restore::restore_at;
use crate::align::aligner::{Aligner, StepError};
use crate::align::coverage::Coverage;
use crate::align::layout::{Layout, LayoutError};
use crate::align::source::sources;
use crate::align::window::{AlignedRow, AlignedWindow};
use crate::align::{Books, Filling, Scope, fill};
use crate::commit::kinds::Kinds;
use crate::dedup::StreamKey;
use crate::registry::Registry;
use crate::resolve::ClockTracks;
use arrow_array::RecordBatch;
use headwater_align::recipe::Recipe;
use headwater_core::id::{StreamName, TenantId};
use headwater_core::time::BootNanos;
use headwater_lake::{CommitId, Lake, LakeError, RefName};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why rows could not be made anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The recipe does not fit what the commit's streams declare.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The same while rows are made, or a bug.
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

impl Rebuilt {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            left_out: self.left_out.saturating_add(other.left_out),
            open: self.open.saturating_add(other.open),
        }
    }
}

/// Final rows that were made together.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// In batches of the aligned table.
    pub batches: Vec<RecordBatch>,
    /// Who they are, in the order of the batches.
    pub rows: Vec<AlignedRow>,
    /// Spine samples that give no row.
    pub left_out: Vec<(StreamKey, u64)>,
}

/// A recipe over the raw tables of a commit, with all that is read of it once.
#[derive(Debug)]
pub struct Rebuilder {
    lake: Lake,
    commit: CommitId,
    recipe: Arc<Recipe>,
    kinds: Kinds,
    tracks: ClockTracks,
    books: Books,
}

impl Rebuilder {
    /// Reads clocks, declarations and books of a commit.
    ///
    /// # Errors
    /// When the lake cannot be read.
    pub async fn open(lake: &Lake, commit: &CommitId, recipe: Recipe) -> Result<Self, RebuildError> {
        let tenant: TenantId = "rebuild".parse().map_err(|_| LakeError::Corrupt {
            path: commit.to_string(),
            reason: "a tenant's name of our own is refused".to_owned(),
        })?;
        let settings = IngestSettings::new(tenant, "rebuild", RefName::main());
        let mut folder = Folder::new(settings, Registry::new());
        restore_at(&mut folder, lake, commit).await?;
        let streams: BTreeSet<StreamName> = sources(&recipe).0.into_iter().map(|of| of.stream).collect();
        let books = Books::read(&streams, lake, commit).await?;
        let (lake, commit) = (lake.clone(), commit.clone());
        Ok(Self { lake, commit, recipe: Arc::new(recipe), kinds: folder.kinds, tracks: folder.tracks, books })
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &Arc<Recipe> {
        &self.recipe
    }

    /// The commit whose raw tables are read.
    #[must_use]
    pub fn commit(&self) -> &CommitId {
        &self.commit
    }

    /// Runs of held samples of the recipe's streams: whose, how many, and their UTC, ns.
    pub fn held(&self) -> impl Iterator<Item = (&StreamKey, u64, (i64, i64))> {
        self.books.held()
    }

    /// How its rows lie, as far as its fields are declared at the commit.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn layout(&self) -> Result<Arc<Layout>, LayoutError> {
        let mut aligner = Aligner::new(Arc::clone(&self.recipe), Coverage::default());
        aligner.learn(&self.kinds, self.books.kinds_of());
        aligner.layout()
    }

    /// Begins to make rows: those of a scope, or all.
    #[must_use]
    pub fn begin(&self, scope: Option<Scope>) -> Rebuilding<'_> {
        let aligner = Aligner::new(Arc::clone(&self.recipe), Coverage::default()).within(scope);
        Rebuilding { of: self, aligner, told: Rebuilt::default(), is_done: false }
    }

    /// All rows of a scope at once, which its size bounds.
    ///
    /// # Errors
    /// [`RebuildError`].
    pub async fn all(&self, scope: Scope) -> Result<(Piece, Rebuilt), RebuildError> {
        let (mut all, mut rebuilding) = (Piece::default(), self.begin(Some(scope)));
        while let Some(piece) = rebuilding.next().await? {
            all.batches.extend(piece.batches);
            all.rows.extend(piece.rows);
            all.left_out.extend(piece.left_out);
        }
        Ok((all, rebuilding.told()))
    }
}

/// Rows on their way, oldest first: a pass over the raw tables at a time.
#[derive(Debug)]
pub struct Rebuilding<'a> {
    of: &'a Rebuilder,
    aligner: Aligner,
    told: Rebuilt,
    is_done: bool,
}

impl Rebuilding<'_> {
    /// What came of it so far; of open rows, at the end.
    #[must_use]
    pub fn told(&self) -> Rebuilt {
        Rebuilt { open: self.aligner.coverage().provisional_count(), ..self.told }
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// [`RebuildError`].
    pub async fn next(&mut self) -> Result<Option<Piece>, RebuildError> {
        while !self.is_done {
            let of = self.of;
            let mut fresh = self.aligner.emptied();
            let with = Filling { kinds: &of.kinds, clocks: &of.tracks, now: BootNanos(0), utc_ns: None };
            fill(&mut fresh, &of.lake, &of.commit, &of.books, with).await?;
            self.aligner = fresh;
            let more = self.aligner.is_behind();
            // What is not final now is told by the far end of all waiting.
            let step = self.aligner.step(BootNanos(i64::MAX));
            let window =
                step.map_err(|source| RebuildError::Step { commit: of.commit.short().to_owned(), source })?;
            let done = self.aligner.covered_with(&window);
            self.aligner.finish(done);
            self.is_done = window.is_empty() && !more;
            let piece = finals(window);
            if !piece.rows.is_empty() || !piece.left_out.is_empty() {
                self.told.rows = self.told.rows.saturating_add(piece.rows.len() as u64);
                self.told.left_out = self.told.left_out.saturating_add(piece.left_out.len() as u64);
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}

/// The final rows of a window: those of provisional ones are batches of their own.
fn finals(window: AlignedWindow) -> Piece {
    let mut piece = Piece { left_out: window.left_out, ..Piece::default() };
    let mut rows = window.rows.into_iter();
    for batch in window.batches {
        let of: Vec<AlignedRow> = rows.by_ref().take(batch.num_rows()).collect();
        if of.iter().all(|row| !row.provisional) {
            piece.batches.push(batch);
            piece.rows.extend(of);
        }
    }
    piece
}
