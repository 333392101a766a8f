//! The aligner: one recipe over all devices. It takes committed rows in any order, gives final ones, and forgets what no
//! later row can need.

use super::asof::{COLUMN_SAMPLES_MAX, ColumnSamples, Instant, Place, Sample};
use super::coverage::Coverage;
use super::online::OnlineRecipe;
use super::promise::Promise;
use super::window::{AlignedColumn, AlignedRow, AlignedWindow};
use crate::commit::cells::Cell;
use crate::dedup::{Ledger, StreamKey};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch, StreamName};
use headwater_core::time::BootNanos;
use std::collections::BTreeMap;

/// Spine rows that may wait at once: an hour of ten cameras at 5 frames a second. Above it the oldest go out
/// provisionally.
pub const SPINE_ROWS_MAX: usize = 180_000;
/// Spine rows taken up in one pass over the raw tables; the rest follow when these are done.
pub const SPINE_ROWS_PER_PASS: usize = 10_000;

#[derive(Debug, Clone)]
struct SpineRow {
    at: Instant,
    values: Vec<Cell>,
    /// When it was taken in, on the collector's own boot line.
    since: BootNanos,
}

#[derive(Debug, Clone, Default)]
struct Entity {
    spine: BTreeMap<Place, SpineRow>,
    columns: Vec<ColumnSamples>,
}

/// One recipe at work.
#[derive(Debug)]
pub struct Aligner {
    recipe: OnlineRecipe,
    id: String,
    coverage: Coverage,
    /// Rows a gate held back: not done, and not taken in again either.
    held: Coverage,
    ledger: Ledger,
    entities: BTreeMap<(DeviceId, Epoch), Entity>,
    samples_max: usize,
    /// When rows were first seen that a refill takes in again.
    since: BTreeMap<(DeviceId, Epoch, Place), BootNanos>,
    /// Rows are missing here that are in the raw tables: it must be filled from them.
    behind: bool,
}

impl Aligner {
    /// A recipe at work from what `coverage` says is done.
    #[must_use]
    pub fn new(recipe: OnlineRecipe, coverage: Coverage) -> Self {
        let id = recipe.id();
        Self {
            recipe,
            id,
            coverage,
            held: Coverage::default(),
            ledger: Ledger::default(),
            entities: BTreeMap::new(),
            samples_max: COLUMN_SAMPLES_MAX,
            since: BTreeMap::new(),
            behind: false,
        }
    }

    /// Its recipe.
    #[must_use]
    pub fn recipe(&self) -> &OnlineRecipe {
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

    /// True if the row is done, or held back by a gate.
    #[must_use]
    pub fn is_settled(&self, key: &StreamKey, seq: u64) -> bool {
        self.coverage.contains(key, seq) || self.held.contains(key, seq)
    }

    /// Notes rows that a gate holds back: they are not taken in again.
    pub fn hold_back(&mut self, rows: &Coverage) {
        self.held.union_with(rows);
    }

    /// True if `stream` is its spine or one of its columns.
    #[must_use]
    pub fn uses(&self, stream: &StreamName) -> bool {
        self.recipe.spine == *stream || self.recipe.columns.iter().any(|column| column.stream == *stream)
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
        self.entities.values().map(|entity| entity.spine.len()).sum()
    }

    /// Notes that seqs of a stream are held; their samples are given too, or were let go.
    pub fn hold(&mut self, key: &StreamKey, seqs: std::ops::Range<u64>) {
        self.ledger.hold(key, seqs);
    }

    /// Notes that held seqs were taken out of the raw tables: they are missing for good.
    pub fn withdraw(&mut self, key: &StreamKey, seqs: std::ops::Range<u64>) {
        self.ledger.release(key, seqs.clone());
        self.ledger.declare_missing(key, seqs);
    }

    /// Notes a gap record: [`Ledger::declare_gap`].
    pub fn declare_gap(&mut self, key: &StreamKey, seqs: std::ops::Range<u64>, stride: u64, phase: u64) {
        self.ledger.declare_gap(key, seqs, stride, phase);
    }

    /// Notes a promise of a column's stream.
    pub fn promise(&mut self, key: &StreamKey, promise: Promise) {
        let places = self.places(&key.stream);
        let entity = self.entity(key);
        for place in places {
            if let Some(column) = entity.columns.get_mut(place) {
                column.promise(promise);
            }
        }
    }

    /// Takes a spine row in; one that is done or waits already is ignored.
    pub fn add_spine(&mut self, key: &StreamKey, at: Instant, values: Vec<Cell>, since: BootNanos) {
        if self.is_settled(key, at.place.seq) {
            return;
        }
        let tolerances: Vec<i64> = self.recipe.columns.iter().map(|column| column.tolerance_ns).collect();
        let entity = self.entity(key);
        let reaches_below = entity.columns.iter().zip(tolerances).any(|(column, tolerance)| {
            column.dropped().is_some_and(|dropped| {
                let from = Place { event_ns: at.place.event_ns.saturating_sub(tolerance), ..at.place };
                from <= dropped
            })
        });
        if reaches_below {
            // What it needs was let go; the raw tables have it.
            self.behind = true;
            return;
        }
        let since = self.since.remove(&(key.device.clone(), key.epoch, at.place)).unwrap_or(since);
        self.entity(key).spine.entry(at.place).or_insert(SpineRow { at, values, since });
    }

    /// Takes a column's sample in. `pick` gives the values for a column of the recipe.
    pub fn add_sample(&mut self, key: &StreamKey, at: Instant, pick: impl Fn(usize) -> Vec<Cell>) {
        let places = self.places(&key.stream);
        let samples_max = self.samples_max;
        let entity = self.entity(key);
        for place in places {
            if let Some(column) = entity.columns.get_mut(place) {
                column.add(Sample { at, values: pick(place) });
                column.trim(samples_max);
            }
        }
    }

    /// The column of a stream's entity, to be filled from the raw tables.
    pub(super) fn column(&mut self, key: &StreamKey, place: usize) -> Option<&mut ColumnSamples> {
        self.entity(key).columns.get_mut(place)
    }

    /// An empty aligner of the same recipe and coverage, to be filled from the raw tables. How long rows have waited
    /// already is kept, so that filling again does not put the idle timeout off.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut since = self.since.clone();
        for ((device, epoch), entity) in &self.entities {
            for (place, row) in &entity.spine {
                since.insert((device.clone(), *epoch, *place), row.since);
            }
        }
        let mut fresh = Self::new(self.recipe.clone(), self.coverage.clone());
        fresh.held = self.held.clone();
        fresh.samples_max = self.samples_max;
        fresh.since = since;
        fresh
    }

    /// Lets go of what is above the bound.
    pub(super) fn trim(&mut self) {
        let samples_max = self.samples_max;
        for entity in self.entities.values_mut() {
            entity.columns.iter_mut().for_each(|column| column.trim(samples_max));
        }
    }

    /// Places of the columns that read `stream`.
    #[must_use]
    pub fn places(&self, stream: &StreamName) -> Vec<usize> {
        let columns = self.recipe.columns.iter().enumerate();
        columns.filter(|(_, column)| column.stream == *stream).map(|(place, _)| place).collect()
    }

    /// Rows that are final now, or have waited too long. They are taken out, and done once [`Aligner::finish`] says so.
    #[must_use]
    pub fn step(&mut self, now: BootNanos) -> AlignedWindow {
        let mut window = AlignedWindow::default();
        let mut surplus = self.waiting().saturating_sub(SPINE_ROWS_MAX);
        let recipe = &self.recipe;
        for ((device, epoch), entity) in &mut self.entities {
            let key = |stream: &StreamName| StreamKey {
                device: device.clone(),
                epoch: *epoch,
                stream: stream.clone(),
            };
            let spine = key(&recipe.spine);
            let keys: Vec<StreamKey> = recipe.columns.iter().map(|column| key(&column.stream)).collect();
            let mut taken = Vec::new();
            for (place, row) in &entity.spine {
                let too_uncertain = recipe.max_err_ns.is_some_and(|max| row.at.err_ns > max);
                if row.at.grade < recipe.min_grade || too_uncertain {
                    window.left_out.push((spine.clone(), place.seq));
                    taken.push(*place);
                    continue;
                }
                let columns = || entity.columns.iter().zip(&keys);
                let complete = columns().all(|(column, key)| column.covers(&row.at, &self.ledger, key));
                let idle = now.since(row.since) >= recipe.idle_timeout_ns;
                if !complete && !idle && surplus == 0 {
                    continue;
                }
                if !complete && !idle {
                    surplus -= 1;
                    metrics::counter!("headwater_align_spine_overflow_total").increment(1);
                }
                let matched = columns().zip(&recipe.columns).map(|((column, key), of)| {
                    let (sample, source) = column.previous(&row.at, of.tolerance_ns, &self.ledger, key);
                    let values =
                        sample.map_or_else(|| vec![Cell::Null; of.select.len()], |s| s.values.clone());
                    AlignedColumn { values, source }
                });
                window.rows.push(AlignedRow {
                    key: spine.clone(),
                    at: row.at,
                    values: row.values.clone(),
                    columns: matched.collect(),
                    provisional: !complete,
                });
                taken.push(*place);
            }
            for place in taken {
                entity.spine.remove(&place);
            }
        }
        metrics::gauge!("headwater_align_spine_waiting", "recipe" => self.recipe.name.to_string())
            .set(self.waiting() as f64);
        window
    }

    /// The coverage with these rows done.
    #[must_use]
    pub fn covered_with(&self, window: &AlignedWindow) -> Coverage {
        let mut coverage = self.coverage.clone();
        for row in &window.rows {
            coverage.finish(&row.key, row.at.place.seq);
        }
        for (key, seq) in &window.left_out {
            coverage.finish(key, *seq);
        }
        coverage
    }

    /// Says that the rows are in the lake.
    pub fn finish(&mut self, coverage: Coverage) {
        self.coverage = coverage;
    }

    fn entity(&mut self, key: &StreamKey) -> &mut Entity {
        let n = self.recipe.columns.len();
        let entity = self.entities.entry((key.device.clone(), key.epoch)).or_default();
        entity.columns.resize_with(n, ColumnSamples::default);
        entity
    }
}

/// The place of a sample, if its stamp is on the gateway's own boot line; a device's own clock has no place there yet.
#[must_use]
pub fn place(
    boot: BootOrdinal,
    domain: headwater_core::time::ClockDomain,
    event_ns: i64,
    seq: u64,
) -> Option<Place> {
    (domain == headwater_core::time::ClockDomain::BOOT).then_some(Place { boot, event_ns, seq })
}

#[cfg(test)]
mod tests;
