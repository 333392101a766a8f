//! One entity at work: samples in, rows out, memory for what later rows can still need.

use super::cursor::NONE;
use super::error::AlignError;
use super::fields::made;
use super::gaps::Gaps;
use super::gather::Trouble;
use super::lines::Lines;
use super::matching::Scene;
use super::output::{Naming, identity};
use super::plan::Plan;
use super::spine::Spine;
use super::store::Store;
use crate::recipe::{Fallback, SpineSource};
use crate::sample::{Line, Samples};
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use std::sync::Arc;

/// Spine rows matched at a time: index arrays of a chunk stay in the first caches.
pub const CHUNK_ROWS: usize = 8192;

/// What was left out of an entity's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows given.
    pub rows: u64,
    /// Spine samples of a lower grade than wanted.
    pub low_grade: u64,
    /// Spine samples with a larger error than wanted.
    pub wide: u64,
    /// Spine samples without the event, or at an instant another stream of the union gave.
    pub passed_over: u64,
    /// Rows dropped for want of a match, by the first column that asked for it.
    pub dropped: Vec<u64>,
}

/// Rows of an entity.
#[derive(Debug, Clone)]
pub struct Aligned {
    /// In the order of the spine.
    pub batches: Vec<RecordBatch>,
    /// What was left out.
    pub counts: Counts,
}

/// All that is known of one entity.
#[derive(Debug, Clone)]
pub struct Entity {
    /// Device, or `site/name`: stands in `device` of rows that no sample gave.
    pub name: String,
    /// Its boot lines; stamps name them by place.
    pub lines: Vec<Line>,
    /// Samples of the spine's streams: one for a stream or an event, one a stream for a union, none for a grid.
    pub spine: Vec<Samples>,
    /// Samples of each column.
    pub columns: Vec<Samples>,
}

/// Aligns an entity that is held whole. A grid spans from the first to the last sample.
///
/// # Errors
/// Samples out of order, ragged, or of another schema than planned for.
pub fn align(plan: &Plan, entity: Entity, gaps: &dyn Gaps) -> Result<Aligned, AlignError> {
    let mut run = Run::new(plan, entity.name);
    run.lines(entity.lines)?;
    for (place, samples) in entity.spine.into_iter().enumerate() {
        run.feed_spine(place, samples)?;
    }
    for (place, samples) in entity.columns.into_iter().enumerate() {
        run.feed(place, samples)?;
    }
    run.finish(gaps)
}

/// One entity at work.
#[derive(Debug)]
pub struct Run<'a> {
    plan: &'a Plan,
    name: String,
    lines: Lines,
    spine: Spine,
    stores: Vec<Store>,
    counts: Counts,
}

impl<'a> Run<'a> {
    /// An entity without samples.
    #[must_use]
    pub fn new(plan: &'a Plan, name: String) -> Self {
        let columns = &plan.recipe().columns;
        let counts = Counts { dropped: vec![0; columns.len()], ..Counts::default() };
        let stores = columns.iter().zip(&plan.columns).map(|(column, plan)| Store::new(column, plan));
        Self {
            plan,
            name,
            lines: Lines::default(),
            spine: Spine::default(),
            stores: stores.collect(),
            counts,
        }
    }

    /// Names its boot lines; a later list begins with the ones before.
    ///
    /// # Errors
    /// [`AlignError::Lines`].
    pub fn lines(&mut self, lines: Vec<Line>) -> Result<(), AlignError> {
        if !lines.starts_with(self.lines.as_slice()) {
            return Err(AlignError::Lines);
        }
        self.lines = Lines::new(lines);
        Ok(())
    }

    /// Takes samples of the spine's stream `place` that follow those before in total order.
    ///
    /// # Errors
    /// See [`align`].
    pub fn feed_spine(&mut self, place: usize, samples: Samples) -> Result<(), AlignError> {
        self.spine.feed(self.plan, place, samples, &self.lines, &mut self.counts)
    }

    /// Takes samples of a column that follow those before in total order.
    ///
    /// # Errors
    /// See [`align`].
    pub fn feed(&mut self, place: usize, samples: Samples) -> Result<(), AlignError> {
        let (Some(store), Some(plan)) = (self.stores.get_mut(place), self.plan.columns.get(place)) else {
            return Err(AlignError::Place { of: "a column", place });
        };
        self.spine.see(self.plan, &samples.stamps);
        store.feed(plan, samples, &self.lines)
    }

    /// Samples held for rows to come, over all columns, and rows that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.stores.iter().map(|store| store.stamps.len()).sum::<usize>() + self.spine.waiting()
    }

    /// Rows as far as they can be told: everything of all streams with a resolved time below `upto_ts_ns` is fed, and so
    /// is what comes before it on its line. Rows whose need reaches beyond ([`Plan::ahead_ns`]) wait.
    ///
    /// # Errors
    /// See [`align`].
    pub fn complete(&mut self, upto_ts_ns: i64, gaps: &dyn Gaps) -> Result<Vec<RecordBatch>, AlignError> {
        let limit_ns = upto_ts_ns.saturating_sub(self.plan.ahead_ns());
        let batches = self.rows_below(Some(limit_ns), gaps)?;
        // Points of a grid are made as they are given.
        let next_point = self.spine.next_point_ns(self.plan).map(|point| point.min(limit_ns));
        let (ts_ns, events) = self.spine.floor(next_point.unwrap_or(upto_ts_ns));
        for (store, plan) in self.stores.iter_mut().zip(&self.plan.columns) {
            store.let_go(ts_ns, &events, plan.behind_ns);
        }
        Ok(batches)
    }

    /// The remaining rows: nothing more will come.
    ///
    /// # Errors
    /// See [`align`].
    pub fn finish(mut self, gaps: &dyn Gaps) -> Result<Aligned, AlignError> {
        let batches = self.rows_below(None, gaps)?;
        Ok(Aligned { batches, counts: self.counts })
    }

    /// What was left out so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn rows_below(&mut self, limit_ns: Option<i64>, gaps: &dyn Gaps) -> Result<Vec<RecordBatch>, AlignError> {
        for store in &mut self.stores {
            store.settle()?;
        }
        let mut batches = Vec::new();
        loop {
            let ready = self.spine.settle(self.plan, limit_ns, &self.lines, &mut self.counts)?;
            for start in (0..ready).step_by(CHUNK_ROWS) {
                self.chunk(start, CHUNK_ROWS.min(ready - start), gaps, &mut batches)?;
            }
            self.spine.give(ready);
            if !self.spine.has_more_points(self.plan, limit_ns) {
                return Ok(batches);
            }
        }
    }

    /// Rows of a chunk; in halves if a column would be too large.
    fn chunk(
        &mut self,
        start: usize,
        len: usize,
        gaps: &dyn Gaps,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<(), AlignError> {
        match self.batch(start, len, gaps) {
            Ok(batch) if batch.num_rows() == 0 => Ok(()),
            Ok(batch) => {
                self.counts.rows = self.counts.rows.saturating_add(batch.num_rows() as u64);
                batches.push(batch);
                Ok(())
            }
            Err(Trouble::TooLarge) if len > 1 => {
                self.chunk(start, len / 2, gaps, batches)?;
                self.chunk(start + len / 2, len - len / 2, gaps, batches)
            }
            Err(Trouble::TooLarge) => Err(AlignError::TooLarge),
            Err(Trouble::Arrow(error)) => Err(error.into()),
        }
    }

    fn batch(&mut self, start: usize, len: usize, gaps: &dyn Gaps) -> Result<RecordBatch, Trouble> {
        let left = self.spine.left(start, len);
        let options = self.plan.options();
        let mut columns: Vec<ArrayRef> = if options.identity {
            let streams: Vec<&str> = match &self.plan.recipe().spine.source {
                SpineSource::Stream { stream, .. } | SpineSource::Event { stream, .. } => {
                    vec![stream.as_str()]
                }
                SpineSource::Union { streams } => streams.iter().map(|stream| stream.as_str()).collect(),
                SpineSource::Grid { .. } => Vec::new(),
            };
            let of_rows = &self.spine.streams;
            identity(&left, &Naming { entity: &self.name, lines: &self.lines, streams: &streams, of_rows })
        } else {
            vec![Arc::new(Int64Array::from(left.times().to_vec()))]
        };
        columns.extend(self.spine.values(start, len));
        let mut dropped_by: Option<Vec<u32>> = None;
        let recipe = self.plan.recipe();
        for (place, (store, column)) in self.stores.iter().zip(&recipe.columns).enumerate() {
            let plan = &self.plan.columns[place];
            let (lines, mode, ahead_ns) = (&self.lines, recipe.mode, plan.ahead_ns);
            let scene = Scene { place, column, mode, store, lines, left, gaps, ahead_ns };
            let made = made(&scene, plan, options)?;
            columns.extend(made.columns);
            if column.fallback == Fallback::Drop {
                let by = dropped_by.get_or_insert_with(|| vec![NONE; len]);
                for (by, lo) in by.iter_mut().zip(&made.lo).filter(|(by, lo)| **by == NONE && **lo == NONE) {
                    debug_assert_eq!(*lo, NONE);
                    *by = super::cursor::row(place);
                }
            }
        }
        let batch = RecordBatch::try_new(Arc::clone(self.plan.schema()), columns)?;
        let Some(by) = dropped_by else { return Ok(batch) };
        for column in by.iter().filter(|by| **by != NONE) {
            let count = &mut self.counts.dropped[*column as usize];
            *count = count.saturating_add(1);
        }
        let keep: BooleanArray = by.iter().map(|by| Some(*by == NONE)).collect();
        Ok(arrow_select::filter::filter_record_batch(&batch, &keep)?)
    }
}
