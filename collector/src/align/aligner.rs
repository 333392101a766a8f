//! The aligner: one recipe over all devices. It takes committed rows in any order, gives final ones, and forgets what no
//! later row can need.

use super::StreamKinds;
use super::aside::LateRows;
use super::buffer::{Buffer, COLUMN_SAMPLES_MAX, Dropped, Place};
use super::coverage::Coverage;
use super::late::{LateSpans, Redo};
use super::layout::{Layout, LayoutError};
use super::promise::Promise;
use super::raw_rows::{DeviceClocks, Piece, StampUnits, pieces};
use super::scope::Scope;
use super::source::{Source, sources};
use super::window::{AlignedWindow, row_key};
use crate::commit::kinds::Kinds;
use crate::dedup::{Ledger, StreamKey};
use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use headwater_align::derive::{Derivation, Derived, PrepareError};
use headwater_align::engine::AlignError as EngineError;
use headwater_align::recipe::{Entity, Recipe, SpineSource};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch, KindName, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::time::BootNanos;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod again;
mod choose;
mod compute;
mod grid;

/// Spine rows that may wait at once: an hour of ten cameras at 5 frames a second. Above it the oldest go out
/// provisionally.
pub const SPINE_ROWS_MAX: usize = 180_000;
/// Spine rows taken up in one pass over the raw tables; the rest follow when these are done.
pub const SPINE_ROWS_PER_PASS: usize = 10_000;

/// Why a step gave no rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The recipe does not fit what its streams declare.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Columns do not fit together, which only a bug does.
    #[error("sort samples into columns")]
    Arrow(#[from] ArrowError),
    /// Samples cannot be prepared.
    #[error("prepare the samples of {entity}")]
    Prepare {
        /// Whose.
        entity: String,
        /// Why.
        #[source]
        source: PrepareError,
    },
    /// The engine refused its samples, which only a bug brings about.
    #[error("match the samples of {entity}")]
    Engine {
        /// Whose.
        entity: String,
        /// What it says.
        #[source]
        source: EngineError,
    },
}

/// What rows of raw tables are read with.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Units of their stamps.
    pub units: &'a StampUnits,
    /// Clocks of attached devices.
    pub clocks: &'a dyn DeviceClocks,
    /// Now, on the collector's own boot line.
    pub now: BootNanos,
}

impl std::fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("now", &self.now).finish_non_exhaustive()
    }
}

/// A boot line.
type BootLine = (DeviceId, Epoch, BootOrdinal);

/// One recipe at work.
#[derive(Debug)]
pub struct Aligner {
    recipe: Arc<Recipe>,
    id: String,
    canonical: String,
    /// Its rows rest on those before them: motion, or episodes.
    is_chained: bool,
    /// The spine's streams first, then one a column.
    sources: Vec<Source>,
    spine_streams: usize,
    coverage: Coverage,
    /// Rows a gate held back: not done, and not taken in again either.
    held: Coverage,
    ledger: Ledger,
    promises: BTreeMap<StreamKey, Promise>,
    /// Event time and UTC of the newest sample of each boot, ns: what tells the UTC of a promise.
    newest: BTreeMap<BootLine, (i64, i64)>,
    /// Samples by source and stream.
    buffers: Vec<BTreeMap<StreamKey, Buffer>>,
    /// Points of a grid that wait, since when.
    grid_since: BTreeMap<(StreamKey, u64), BootNanos>,
    samples_max: usize,
    /// When rows were first seen that a refill takes in again.
    since: BTreeMap<(StreamKey, u64), BootNanos>,
    /// Spine samples of another stamp kind than wanted.
    left_out: Vec<(StreamKey, u64)>,
    layout: Option<Arc<Layout>>,
    /// Something came since the last step.
    news: bool,
    /// Where final rows may have other inputs now.
    late: LateSpans,
    /// Final rows that are done again.
    redo: Redo,
    /// Samples beyond the allowed lateness, for the table of late rows.
    late_rows: LateRows,
    /// When the rows that are taken in came, UTC µs.
    arriving_us: i64,
    /// It was not filled yet: what came late to an earlier life is looked for.
    begins: bool,
    /// Seqs that came though they were declared missing.
    came_after_all: BTreeMap<StreamKey, IntervalSet>,
    /// Rows are missing here that are in the raw tables: it must be filled from them.
    behind: bool,
    /// Only these rows are made; all without it.
    scope: Option<Scope>,
    empty: Buffer,
}

impl Aligner {
    /// A recipe at work from what `coverage` says is done.
    #[must_use]
    pub fn new(recipe: impl Into<Arc<Recipe>>, coverage: Coverage) -> Self {
        let recipe = recipe.into();
        let (id, canonical) = (recipe.id(), recipe.canonical());
        let (sources, spine_streams) = sources(&recipe);
        let buffers = vec![BTreeMap::new(); sources.len()];
        let is_motion = |one: &Derived| matches!(one.by, Derivation::Motion { .. });
        let is_chained = recipe.episodes.is_some() || recipe.derived.iter().any(is_motion);
        Self {
            recipe,
            id,
            canonical,
            is_chained,
            sources,
            spine_streams,
            coverage,
            held: Coverage::default(),
            ledger: Ledger::default(),
            promises: BTreeMap::new(),
            newest: BTreeMap::new(),
            buffers,
            grid_since: BTreeMap::new(),
            samples_max: COLUMN_SAMPLES_MAX,
            since: BTreeMap::new(),
            left_out: Vec::new(),
            layout: None,
            news: false,
            late: LateSpans::default(),
            redo: Redo::default(),
            late_rows: LateRows::default(),
            arriving_us: i64::MIN,
            begins: true,
            came_after_all: BTreeMap::new(),
            behind: false,
            scope: None,
            empty: Buffer::default(),
        }
    }

    /// The same for a part of history alone.
    #[must_use]
    pub fn within(self, scope: Option<Scope>) -> Self {
        Self { scope, ..self }
    }

    /// The rows that are made; all without it.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// True if a row is of another part of history than is asked for.
    fn is_elsewhere(&self, entity: Option<&str>, ts_ns: i64) -> bool {
        self.scope.as_ref().is_some_and(|scope| {
            let other = scope.entity.as_deref().is_some_and(|wanted| entity != Some(wanted));
            other || !scope.holds(ts_ns)
        })
    }

    /// Its recipe.
    #[must_use]
    pub fn recipe(&self) -> &Arc<Recipe> {
        &self.recipe
    }

    /// Its recipe's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is done.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// What it reads: the spine's streams first, and how many those are.
    #[must_use]
    pub fn sources(&self) -> (&[Source], usize) {
        (&self.sources, self.spine_streams)
    }

    /// True if the row is done, or held back by a gate.
    #[must_use]
    pub fn is_settled(&self, key: &StreamKey, seq: u64) -> bool {
        (self.coverage.contains(key, seq) && !self.redo.contains(key, seq)) || self.held.contains(key, seq)
    }

    /// True if the row is written provisionally, or was refused so.
    fn is_provisional(&self, key: &StreamKey, seq: u64) -> bool {
        self.coverage.is_provisional(key, seq) || self.held.is_provisional(key, seq)
    }

    /// Notes rows that a gate holds back: they are not taken in again.
    pub fn hold_back(&mut self, rows: &Coverage) {
        self.held.union_with(rows);
    }

    /// True if a gate holds final rows back beside these.
    #[must_use]
    pub fn holds_more_than(&self, rows: &Coverage) -> bool {
        self.held.minus(rows).count() > 0
    }

    /// Lets go of rows a gate held back, but for these: they are taken in and judged once more.
    pub fn hold_only(&mut self, rows: &Coverage) {
        self.held = rows.clone();
        self.behind = true;
    }

    /// Takes rows up again that were held back for a while.
    pub fn give_back(&mut self, rows: &Coverage) {
        self.held = self.held.minus(rows);
        self.behind = true;
    }

    /// True if `stream` is of its spine or of one of its columns.
    #[must_use]
    pub fn uses(&self, stream: &StreamName) -> bool {
        self.sources.iter().any(|source| source.stream == *stream)
    }

    /// The streams it reads.
    #[must_use]
    pub fn streams(&self) -> BTreeSet<StreamName> {
        self.sources.iter().map(|source| source.stream.clone()).collect()
    }

    /// True if it must be filled from the raw tables before it can go on.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Says that rows are missing here.
    pub fn fall_behind(&mut self) {
        self.behind = true;
    }

    /// Spine rows that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let spine = self.buffers.iter().take(self.spine_streams).flat_map(BTreeMap::iter);
        let waits = |(key, rows): (&StreamKey, &Buffer)| {
            rows.stamps().seq.iter().filter(|seq| self.waits(key, **seq)).count()
                + if rows.is_settled() { 0 } else { 1 }
        };
        spine.map(waits).sum::<usize>() + self.grid_since.len()
    }

    /// True if rows wait, or what came since may make provisional rows final.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.news || self.waiting() > 0 || !self.late_rows.is_empty()
    }

    /// True if a row may still be written: neither done nor written provisionally.
    pub(super) fn waits(&self, key: &StreamKey, seq: u64) -> bool {
        !self.is_settled(key, seq) && !self.is_provisional(key, seq)
    }

    /// Takes in what is declared of its streams.
    pub fn learn(&mut self, kinds: &Kinds, kinds_of: &StreamKinds) {
        let before: Vec<Vec<bool>> = self.known_fields();
        let mut changed = false;
        for source in &mut self.sources {
            changed |= source.learn(kinds, kinds_of);
        }
        if changed {
            // Samples held are of the old types.
            self.behind = true;
        }
        if changed || before != self.known_fields() {
            self.layout = None;
        }
    }

    fn known_fields(&self) -> Vec<Vec<bool>> {
        let of = |source: &Source| source.fields.iter().map(|field| field.known.is_some()).collect();
        self.sources.iter().map(of).collect()
    }

    /// How its rows lie, as far as its fields are declared.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn layout(&mut self) -> Result<Arc<Layout>, LayoutError> {
        if let Some(layout) = &self.layout {
            return Ok(Arc::clone(layout));
        }
        let layout =
            Layout::new(&self.recipe, (&self.id, &self.canonical), &self.sources, self.spine_streams)?;
        let layout = Arc::new(layout);
        self.layout = Some(Arc::clone(&layout));
        Ok(layout)
    }

    /// Takes over what is held, missing and promised, in place of what was known.
    pub(super) fn know(&mut self, ledger: Ledger, promises: BTreeMap<StreamKey, Promise>) {
        self.news = true;
        self.ledger = ledger;
        self.promises = promises;
    }

    /// Notes that seqs of a stream are held; their samples are given too, or were let go.
    pub fn hold(&mut self, key: &StreamKey, seqs: std::ops::Range<u64>) {
        self.news = true;
        let declared = self.ledger.declared_in(key, seqs.clone());
        if !declared.is_empty() {
            let came = self.came_after_all.entry(key.clone()).or_default();
            declared.into_iter().for_each(|seqs| came.insert(seqs));
        }
        self.ledger.hold(key, seqs);
    }

    /// Notes that held seqs were taken out of the raw tables: they are missing for good.
    pub fn withdraw(&mut self, key: &StreamKey, seqs: std::ops::Range<u64>) {
        self.ledger.release(key, seqs.clone());
        self.ledger.declare_missing(key, seqs);
    }

    /// Notes a gap record: [`Ledger::declare_gap`].
    pub fn declare_gap(&mut self, key: &StreamKey, seqs: std::ops::Range<u64>, stride: u64, phase: u64) {
        self.news = true;
        self.ledger.declare_gap(key, seqs, stride, phase);
    }

    /// Notes a promise of a stream.
    pub fn promise(&mut self, key: &StreamKey, promise: Promise) {
        self.news = true;
        let known = self.promises.entry(key.clone()).or_insert(promise);
        if promise.is_after(known) {
            *known = promise;
        }
    }

    /// Takes rows of the raw table of `kind` in.
    ///
    /// # Errors
    /// When they are not of a raw table, which only a bug brings about.
    pub fn take(&mut self, kind: &KindName, rows: &RecordBatch, with: Reading<'_>) -> Result<(), ArrowError> {
        for piece in pieces(rows, with.units, with.clocks, |key| self.uses(&key.stream))? {
            self.note_late(&piece);
            self.take_spine(kind, &piece, with.now)?;
            self.take_columns(kind, &piece, with.now)?;
        }
        Ok(())
    }

    /// Takes rows for the spine.
    ///
    /// # Errors
    /// As [`Aligner::take`].
    pub(super) fn take_spine(
        &mut self,
        kind: &KindName,
        piece: &Piece,
        now: BootNanos,
    ) -> Result<(), ArrowError> {
        self.take_piece(kind, piece, now, 0..self.spine_streams)
    }

    /// Takes rows for the columns.
    ///
    /// # Errors
    /// As [`Aligner::take`].
    pub(super) fn take_columns(
        &mut self,
        kind: &KindName,
        piece: &Piece,
        now: BootNanos,
    ) -> Result<(), ArrowError> {
        self.take_piece(kind, piece, now, self.spine_streams..self.sources.len())
    }

    fn take_piece(
        &mut self,
        kind: &KindName,
        piece: &Piece,
        now: BootNanos,
        sources: std::ops::Range<usize>,
    ) -> Result<(), ArrowError> {
        let line = (piece.key.device.clone(), piece.key.epoch, piece.boot);
        let stamps = piece.stamps.event_ns.iter().zip(&piece.stamps.ts_ns);
        if let Some(newest) = stamps.map(|(event, ts)| (*event, *ts)).max() {
            let known = self.newest.entry(line).or_insert(newest);
            *known = (*known).max(newest);
        }
        for place in sources {
            let Some(source) = self.sources.get(place) else { continue };
            if source.stream != piece.key.stream
                || source.device.as_ref().is_some_and(|device| *device != piece.key.device)
            {
                continue;
            }
            let (is_spine, selected) = (place < self.spine_streams, source.selected);
            if is_spine && self.is_of_other_stamp(piece) {
                let seqs = piece.stamps.seq.iter().filter(|seq| !self.is_settled(&piece.key, **seq));
                let seqs: Vec<u64> = seqs.copied().collect();
                self.left_out.extend(seqs.into_iter().map(|seq| (piece.key.clone(), seq)));
                continue;
            }
            let run = piece.run(kind, &source.fields)?;
            if is_spine
                && piece.stamps.seq.iter().all(|seq| self.is_settled(&piece.key, *seq))
                && !self.is_event()
            {
                continue;
            }
            if let Some(buffers) = self.buffers.get_mut(place) {
                buffers.entry(piece.key.clone()).or_insert_with(|| Buffer::new(selected)).add(run, now);
            }
        }
        Ok(())
    }

    fn is_event(&self) -> bool {
        matches!(self.recipe.spine.source, SpineSource::Event { .. })
    }

    fn is_of_other_stamp(&self, piece: &Piece) -> bool {
        match &self.recipe.spine.source {
            SpineSource::Stream { at: Some(at), .. } => at.as_str() != piece.stamp_kind,
            _ => false,
        }
    }

    /// Notes that older samples of a stream are not held here for the columns that read it.
    pub(super) fn let_go_below(&mut self, key: &StreamKey, dropped: Dropped) {
        let sources = self.sources.iter().zip(&mut self.buffers).skip(self.spine_streams);
        for (source, buffers) in sources.filter(|(source, _)| source.stream == key.stream) {
            let samples = buffers.entry(key.clone()).or_insert_with(|| Buffer::new(source.selected));
            samples.let_go_below(dropped);
        }
    }

    /// Sets how many samples are kept per column and stream.
    pub(super) fn hold_samples(&mut self, max: usize) {
        self.samples_max = max;
    }

    /// An empty aligner of the same recipe and coverage, to be filled from the raw tables. How long rows have waited
    /// already is kept, so that filling again does not put the idle timeout off.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut since = self.since.clone();
        for (key, rows) in self.buffers.iter().take(self.spine_streams).flat_map(BTreeMap::iter) {
            for (at, seq) in rows.stamps().seq.iter().enumerate() {
                since.entry((key.clone(), *seq)).or_insert_with(|| rows.since(at));
            }
        }
        since.extend(self.grid_since.iter().map(|(point, at)| (point.clone(), *at)));
        let mut fresh = Self::new(Arc::clone(&self.recipe), self.coverage.clone());
        fresh.sources.clone_from(&self.sources);
        fresh.held = self.held.clone();
        fresh.late.clone_from(&self.late);
        fresh.begins = self.begins;
        fresh.redo.clone_from(&self.redo);
        fresh.late_rows.clone_from(&self.late_rows);
        fresh.arriving_us = self.arriving_us;
        fresh.since = since;
        fresh.layout.clone_from(&self.layout);
        fresh.scope.clone_from(&self.scope);
        fresh
    }

    /// Sorts in what came, and lets go of what is above the bounds.
    fn settle(&mut self) -> Result<(), ArrowError> {
        let (since, samples_max, spine) = (&self.since, self.samples_max, self.spine_streams);
        for (source, buffers) in self.buffers.iter_mut().enumerate() {
            for (key, samples) in buffers {
                if samples.is_settled() {
                    continue;
                }
                samples.settle()?;
                if source >= spine {
                    samples.trim(samples_max)?;
                } else if !since.is_empty() {
                    samples.set_since(|seq| since.get(&(key.clone(), seq)).copied());
                }
            }
        }
        Ok(())
    }

    /// Rows that are final now, or have waited too long. They are taken out, and done once [`Aligner::finish`] says so.
    ///
    /// # Errors
    /// [`StepError`]; the aligner must be filled again then.
    pub fn step(&mut self, now: BootNanos) -> Result<AlignedWindow, StepError> {
        self.news = false;
        self.settle()?;
        let layout = self.layout()?;
        let mut window =
            AlignedWindow { left_out: std::mem::take(&mut self.left_out), ..AlignedWindow::default() };
        let chosen = self.choose(now, &mut window);
        for one in &chosen {
            self.compute(&layout, one, &mut window)?;
        }
        for (key, seq) in &window.left_out {
            if self.coverage.is_provisional(key, *seq) || self.redo.contains(key, *seq) {
                // Its time is not known here any more; a row that is not found is no harm.
                window.replaced.push((key.device.to_string(), row_key(key, *seq)));
            }
        }
        self.take_out(&window)?;
        metrics::gauge!("headwater_align_spine_waiting", "recipe" => self.recipe.name.to_string())
            .set(self.waiting() as f64);
        Ok(window)
    }

    /// Takes the rows of a window out, but for those that shall be replaced by final ones, and what tells an event from no
    /// event.
    fn take_out(&mut self, window: &AlignedWindow) -> Result<(), ArrowError> {
        let mut gone: BTreeMap<&StreamKey, BTreeSet<u64>> = BTreeMap::new();
        let finals = window.rows.iter().filter(|row| !row.provisional).map(|row| (&row.key, row.seq));
        for (key, seq) in finals.chain(window.left_out.iter().map(|(key, seq)| (key, *seq))) {
            gone.entry(key).or_default().insert(seq);
        }
        let is_event = self.is_event();
        for (key, rows) in self.buffers.iter_mut().take(self.spine_streams).flat_map(BTreeMap::iter_mut) {
            let settled = |seq: u64| {
                (self.coverage.contains(key, seq) && !self.redo.contains(key, seq))
                    || self.held.contains(key, seq)
            };
            let is_gone = |seq: u64| gone.get(key).is_some_and(|gone| gone.contains(&seq)) || settled(seq);
            let seqs = &rows.stamps().seq;
            let next_stays = |at: usize| match seqs.get(at.saturating_add(1)) {
                Some(next) => !is_gone(*next),
                None => true,
            };
            let stays =
                |at: &usize| seqs.get(*at).is_some_and(|seq| !is_gone(*seq) || (is_event && next_stays(*at)));
            let order: Vec<usize> = (0..rows.len()).filter(stays).collect();
            rows.retain(&order)?;
        }
        self.grid_since.retain(|(key, seq), _| !gone.get(key).is_some_and(|gone| gone.contains(seq)));
        Ok(())
    }

    /// The coverage with these rows written.
    #[must_use]
    pub fn covered_with(&self, window: &AlignedWindow) -> Coverage {
        let mut coverage = self.coverage.clone();
        cover(&mut coverage, window);
        coverage
    }

    /// Says that the rows are in the lake.
    pub fn finish(&mut self, coverage: Coverage) {
        self.coverage = coverage;
    }

    /// Says that rows that were done again are in the lake, or need not be.
    pub fn redone(&mut self, window: &AlignedWindow) {
        let rows = window.rows.iter().filter(|row| !row.provisional).map(|row| (&row.key, row.seq));
        let others = window.left_out.iter().chain(&window.same).map(|(key, seq)| (key, *seq));
        for (key, seq) in rows.chain(others) {
            self.redo.done(key, seq);
        }
    }

    /// Names of the entities that a device's samples meet in: its own, or its site's; none if it is in no site.
    fn entity_of(&self, device: &DeviceId) -> Option<String> {
        match &self.recipe.entity {
            Entity::Device => Some(device.to_string()),
            Entity::Site { sites } => {
                sites.iter().find(|(_, devices)| devices.contains(device)).map(|(site, _)| site.clone())
            }
        }
    }
}

/// Notes the rows of a window in a coverage.
pub fn cover(coverage: &mut Coverage, window: &AlignedWindow) {
    for row in &window.rows {
        match row.provisional {
            true => coverage.note_provisional(&row.key, row.seq),
            false => coverage.finish(&row.key, row.seq),
        }
    }
    for (key, seq) in &window.left_out {
        coverage.finish(key, *seq);
    }
}

/// The place of a spine row.
fn place_of(rows: &Buffer, seq: u64) -> Option<Place> {
    let at = rows.stamps().seq.iter().position(|known| *known == seq)?;
    rows.place(at)
}

#[cfg(test)]
mod tests;
