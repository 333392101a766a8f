//! One entity at work: samples in, rows out, memory for what later rows can still need.

use super::error::AlignError;
use super::gaps::Gaps;
use super::plan::Plan;
use crate::sample::{Line, Samples};
use arrow_array::RecordBatch;

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
    lines: Vec<Line>,
    counts: Counts,
}

impl<'a> Run<'a> {
    /// An entity without samples.
    #[must_use]
    pub fn new(plan: &'a Plan, name: String) -> Self {
        let counts = Counts { dropped: vec![0; plan.recipe().columns.len()], ..Counts::default() };
        Self { plan, name, lines: Vec::new(), counts }
    }

    /// Names its boot lines; a later list begins with the ones before.
    ///
    /// # Errors
    /// [`AlignError::Lines`].
    pub fn lines(&mut self, lines: Vec<Line>) -> Result<(), AlignError> {
        if !lines.starts_with(&self.lines) {
            return Err(AlignError::Lines);
        }
        self.lines = lines;
        Ok(())
    }

    /// Takes samples of the spine's stream `place` that follow those before in total order.
    ///
    /// # Errors
    /// See [`align`].
    pub fn feed_spine(&mut self, place: usize, _samples: Samples) -> Result<(), AlignError> {
        Err(AlignError::Place { of: "the spine", place })
    }

    /// Takes samples of a column that follow those before in total order.
    ///
    /// # Errors
    /// See [`align`].
    pub fn feed(&mut self, place: usize, _samples: Samples) -> Result<(), AlignError> {
        Err(AlignError::Place { of: "a column", place })
    }

    /// Rows as far as they can be told: everything of all streams with a resolved time below `upto_ts_ns` is fed, and so
    /// is what comes before it on its line. Rows whose need reaches beyond wait.
    ///
    /// # Errors
    /// See [`align`].
    pub fn complete(&mut self, _upto_ts_ns: i64, _gaps: &dyn Gaps) -> Result<Vec<RecordBatch>, AlignError> {
        Ok(Vec::new())
    }

    /// The remaining rows: nothing more will come.
    ///
    /// # Errors
    /// See [`align`].
    pub fn finish(self, _gaps: &dyn Gaps) -> Result<Aligned, AlignError> {
        let _unused = (&self.plan, &self.name);
        Ok(Aligned { batches: Vec::new(), counts: self.counts })
    }
}
