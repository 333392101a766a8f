//! Aligned rows made anew from the raw tables of a commit, from nothing and as a batch: what reproducing a commit, trying a
//! recipe out and aligning history have in common.

use super::IngestSettings;
use super::aligning::AlignError;
use super::deriving::{Deriving, Runner};
use super::fold::Folder;
use super::restore::restore_at;
use crate::align::aligner::{Aligner, StepError};
use crate::align::coverage::Coverage;
use crate::align::derived::Derives;
use crate::align::derived::chain::Tails;
use crate::align::layout::{Layout, LayoutError};
use crate::align::source::sources;
use crate::align::window::{AlignedRow, AlignedWindow};
use crate::align::{Books, Filling, Scope, fill};
use crate::commit::kinds::Kinds;
use crate::dedup::StreamKey;
use crate::receive::clock::SystemClock;
use crate::registry::Registry;
use crate::resolve::ClockTracks;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use headwater_align::derive::{CommandFailure, Derivation, Derived};
use headwater_align::recipe::Recipe;
use headwater_core::id::{StreamName, TenantId};
use headwater_core::time::BootNanos;
use headwater_lake::{CommitId, Lake, LakeError, RefName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Why rows could not be made anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Derived columns.
    #[error("derive columns of {commit}")]
    Derive {
        /// Where.
        commit: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The recipe does not fit what the commit's streams declare.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Rows could not be laid out, which only a bug brings about.
    #[error("lay out aligned rows")]
    Arrow(#[from] ArrowError),
    /// The same while rows are made, or a bug.
    #[error("align the rows of {commit}")]
    Step {
        /// Where.
        commit: String,
        /// Why.
        #[source]
        source: Box<StepError>,
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

/// Rows of a derived column for which its program gave no value: they wait, or are null there, as the recipe has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unanswered {
    /// The column.
    pub column: String,
    /// How many rows.
    pub rows: u64,
    /// Why, as it was told first.
    pub why: String,
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
    runner: Runner,
    /// By column; jobs that make rows beside each other tell of theirs here.
    unanswered: Mutex<BTreeMap<String, Unanswered>>,
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
        let runner = Runner::new(&recipe, SystemClock);
        let (kinds, tracks) = (folder.kinds, folder.tracks);
        let unanswered = Mutex::default();
        Ok(Self { lake, commit, recipe: Arc::new(recipe), kinds, tracks, books, runner, unanswered })
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

    /// True if what is derived of a row rests on rows of its device before it: motion, episodes. Such rows are made in the
    /// order of their times, or chained in it afterwards.
    #[must_use]
    pub fn is_chained(&self) -> bool {
        self.recipe.episodes.is_some() || self.recipe.derived.iter().any(|one| gap_us(one).is_some())
    }

    /// Begins to make rows: those of a scope, or all.
    #[must_use]
    pub fn begin(&self, scope: Option<Scope>) -> Rebuilding<'_> {
        let asked = scope.clone().filter(|_| self.is_chained());
        let scope = scope.map(|scope| Scope { from_us: self.chain_from_us(scope.from_us), ..scope });
        Rebuilding::new(self, scope, asked, Chain::Made(Tails::new()))
    }

    /// Where a chain must begin for rows from a UTC on, µs: motion looks back, episodes rest on a device's first row.
    fn chain_from_us(&self, from_us: i64) -> i64 {
        if self.recipe.episodes.is_some() {
            return i64::MIN;
        }
        let back = self.recipe.derived.iter().filter_map(gap_us).fold(0_i64, i64::saturating_add);
        from_us.saturating_sub(back)
    }

    /// All rows of a scope at once, which its size bounds. What [`Self::is_chained`] lacks its chain: [`Self::chained`].
    ///
    /// # Errors
    /// [`RebuildError`].
    pub async fn all(&self, scope: Scope) -> Result<(Piece, Rebuilt), RebuildError> {
        let chain = if self.is_chained() { Chain::Left } else { Chain::Made(Tails::new()) };
        let (mut all, mut rebuilding) = (Piece::default(), Rebuilding::new(self, Some(scope), None, chain));
        while let Some(piece) = rebuilding.next().await? {
            all.batches.extend(piece.batches);
            all.rows.extend(piece.rows);
            all.left_out.extend(piece.left_out);
        }
        Ok((all, rebuilding.told()))
    }

    /// Chains rows that [`Self::all`] made behind those of all scopes before. Gives with them how many wait for a program.
    ///
    /// # Errors
    /// [`RebuildError`].
    pub(crate) async fn chained(
        &self,
        piece: Piece,
        tails: &mut Tails,
    ) -> Result<(Piece, u64), RebuildError> {
        let Some(derives) = self.layout()?.derives.clone() else { return Ok((piece, 0)) };
        let Piece { batches, rows, left_out } = piece;
        let window = AlignedWindow { batches, rows, left_out, ..AlignedWindow::default() };
        let chained = self.deriving(derives).behind(window, tails).await;
        let window = chained.map_err(|error| self.underivable(error))?;
        self.tell(&window);
        let unanswered = window.unanswered.len() as u64;
        Ok((finals(window), unanswered))
    }

    fn deriving(&self, derives: Arc<Derives>) -> Deriving {
        let (lake, head, recipe) = (self.lake.clone(), self.commit.clone(), Arc::clone(&self.recipe));
        Deriving { lake, head, recipe, derives, runner: self.runner.clone() }
    }

    fn underivable(&self, error: AlignError) -> RebuildError {
        RebuildError::Derive { commit: self.commit.short().to_owned(), source: Box::new(error) }
    }

    /// What programs could not do so far, by column.
    #[must_use]
    pub fn unanswered(&self) -> Vec<Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What programs could not do is told, and their rows are left open.
    fn tell(&self, window: &AlignedWindow) {
        for failure in &window.failures {
            tracing::error!(
                recipe = %self.recipe.name, column = failure.column, rows = failure.rows,
                held = window.unanswered.len(), why = failure.why, "a program gave no answer"
            );
            let mut all = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
            let CommandFailure { column, rows, why } = failure;
            let first = Unanswered { column: column.clone(), rows: 0, why: why.clone() };
            let of = all.entry(column.clone()).or_insert(first);
            of.rows = of.rows.saturating_add(*rows as u64);
        }
    }
}

/// How far motion looks back, µs.
fn gap_us(one: &Derived) -> Option<i64> {
    match one.by {
        Derivation::Motion { max_gap_ns, .. } => Some(max_gap_ns.div_euclid(1_000).saturating_add(1)),
        _ => None,
    }
}

/// What becomes of the chain of a device's rows.
#[derive(Debug)]
enum Chain {
    /// It is made as rows come, oldest first.
    Made(Tails),
    /// It is left to whoever has the rows before.
    Left,
}

/// Rows on their way, oldest first: a pass over the raw tables at a time.
#[derive(Debug)]
pub struct Rebuilding<'a> {
    of: &'a Rebuilder,
    aligner: Aligner,
    /// Rows that are made for the sake of those behind them are not given.
    asked: Option<Scope>,
    chain: Chain,
    told: Rebuilt,
    is_done: bool,
}

impl<'a> Rebuilding<'a> {
    fn new(of: &'a Rebuilder, scope: Option<Scope>, asked: Option<Scope>, chain: Chain) -> Self {
        let aligner = Aligner::new(Arc::clone(&of.recipe), Coverage::default()).within(scope);
        Self { of, aligner, asked, chain, told: Rebuilt::default(), is_done: false }
    }

    /// What came of it so far; of open rows, at the end.
    #[must_use]
    pub fn told(&self) -> Rebuilt {
        let provisional = self.aligner.coverage().provisional_count();
        Rebuilt { open: self.told.open.saturating_add(provisional), ..self.told }
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
            let window = self.window(more)?;
            let window = self.derived(window).await?;
            of.tell(&window);
            let mut unanswered = Coverage::default();
            window.unanswered.iter().for_each(|(key, seq, _)| unanswered.finish(key, *seq));
            self.aligner.hold_back(&unanswered);
            self.told.open = self.told.open.saturating_add(window.unanswered.len() as u64);
            let done = self.aligner.covered_with(&window);
            self.aligner.finish(done);
            self.is_done = window.is_empty() && !more;
            let piece = finals(window).within(self.asked.as_ref())?;
            if !piece.rows.is_empty() || !piece.left_out.is_empty() {
                self.told.rows = self.told.rows.saturating_add(piece.rows.len() as u64);
                self.told.left_out = self.told.left_out.saturating_add(piece.left_out.len() as u64);
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// What is not final now is told by the far end of all waiting; a row whose successor is still to be read is final once
    /// that is.
    fn window(&mut self, more: bool) -> Result<AlignedWindow, RebuildError> {
        let commit = || self.of.commit.short().to_owned();
        let failed = |error| RebuildError::Step { commit: commit(), source: Box::new(error) };
        if more {
            let window = self.aligner.step(BootNanos(0)).map_err(failed)?;
            if !window.is_empty() {
                return Ok(window);
            }
        }
        self.aligner.step(BootNanos(i64::MAX)).map_err(failed)
    }

    async fn derived(&mut self, window: AlignedWindow) -> Result<AlignedWindow, RebuildError> {
        let layout = self.aligner.layout()?;
        let Some(derives) = layout.derives.clone().filter(|_| !window.is_empty()) else { return Ok(window) };
        let deriving = self.of.deriving(derives);
        let derived = match &mut self.chain {
            Chain::Made(tails) => deriving.anew(window, tails).await,
            Chain::Left => deriving.apart(window).await,
        };
        derived.map_err(|error| self.of.underivable(error))
    }
}

impl Piece {
    /// Those in a scope.
    fn within(self, scope: Option<&Scope>) -> Result<Self, ArrowError> {
        let Some(scope) = scope else { return Ok(self) };
        let mut kept = Self { left_out: self.left_out, ..Self::default() };
        let mut rows = self.rows.into_iter();
        for batch in self.batches {
            let times = batch.column_by_name("ts_ns").and_then(|times| times.as_primitive_opt::<Int64Type>());
            let keep: BooleanArray = match times {
                Some(times) => times.values().iter().map(|ts_ns| Some(scope.holds(*ts_ns))).collect(),
                None => BooleanArray::from(vec![true; batch.num_rows()]),
            };
            let of = rows.by_ref().take(batch.num_rows()).zip(keep.values().iter());
            kept.rows.extend(of.filter_map(|(row, keep)| keep.then_some(row)));
            let batch = arrow_select::filter::filter_record_batch(&batch, &keep)?;
            kept.batches.extend((batch.num_rows() > 0).then_some(batch));
        }
        Ok(kept)
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
