//! The instants of aligned rows: samples of a stream or of several, events of one, or points of a grid.

use super::cursor::{ROWS_MAX, row};
use super::error::AlignError;
use super::lines::Lines;
use super::metric::{Instant, NO_LINE};
use super::plan::Plan;
use super::run::Counts;
use super::store::{check_order, check_stamps};
use crate::recipe::SpineSource;
use crate::sample::{Samples, Stamps};
use arrow_array::{Array, ArrayRef, BooleanArray};
use headwater_core::time::Grade;
use std::collections::BTreeMap;
use std::ops::Range;

/// Points of a grid over one entity: three years at 10 Hz. A wider one has samples far from all others.
pub const GRID_POINTS_MAX: u64 = 1_000_000_000;
/// Points of a grid made at a time.
const GRID_CHUNK: u64 = 1 << 16;

/// Rows that wait for what they need.
#[derive(Debug, Default)]
pub(super) struct Spine {
    pub(super) stamps: Stamps,
    /// Stream each row is of, by its place in a union.
    pub(super) streams: Vec<u32>,
    /// Selected fields, settled.
    values: Vec<ArrayRef>,
    pending: Vec<Vec<ArrayRef>>,
    /// Rows before it are given.
    head: usize,
    newest: BTreeMap<(usize, u32), i64>,
    /// Event of the newest row given, by line.
    given: BTreeMap<u32, i64>,
    met: bool,
    seen: Option<(i64, i64)>,
    next_point: Option<i128>,
    points: u64,
}

/// The rows a chunk is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) stamps: &'a Stamps,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl<'a> Left<'a> {
    #[inline]
    pub(super) fn instant(&self, place: usize) -> Instant {
        let row = self.start + place;
        Instant {
            line: self.stamps.line[row],
            event_ns: self.stamps.event_ns[row],
            half_ns: self.stamps.half_ns[row],
            ts_ns: self.stamps.ts_ns[row],
            err_ns: self.stamps.err_ns[row],
        }
    }

    pub(super) fn lines(&self) -> &'a [u32] {
        &self.stamps.line[self.start..self.start + self.len]
    }

    pub(super) fn events(&self) -> &'a [i64] {
        &self.stamps.event_ns[self.start..self.start + self.len]
    }

    pub(super) fn times(&self) -> &'a [i64] {
        &self.stamps.ts_ns[self.start..self.start + self.len]
    }

    /// Stretches of rows on one line.
    pub(super) fn stretches(&self) -> Vec<(u32, Range<usize>)> {
        let mut start = 0;
        self.lines()
            .chunk_by(|a, b| a == b)
            .map(|chunk| {
                let range = start..start + chunk.len();
                start = range.end;
                (chunk.first().copied().unwrap_or(NO_LINE), range)
            })
            .collect()
    }
}

impl Spine {
    /// Takes samples of one of its streams in; those that are not good enough, or no event, are counted.
    pub(super) fn feed(
        &mut self,
        plan: &Plan,
        place: usize,
        samples: Samples,
        lines: &Lines,
        counts: &mut Counts,
    ) -> Result<(), AlignError> {
        let Samples { mut stamps, values } = samples;
        let streams = match &plan.recipe().spine.source {
            SpineSource::Stream { .. } | SpineSource::Event { .. } => 1,
            SpineSource::Union { streams } => streams.len(),
            SpineSource::Grid { .. } => 0,
        };
        if place >= streams {
            return Err(AlignError::Place { of: "the spine", place });
        }
        check_stamps("spine", &stamps, values.num_rows(), lines)?;
        if values.schema_ref().fields() != plan.spine().fields() && plan.spine_select > 0 {
            return Err(AlignError::Schema { of: "spine".to_owned() });
        }
        let mut newest =
            self.newest.iter().filter(|((of, _), _)| *of == place).map(|((_, l), e)| (*l, *e)).collect();
        check_order("spine", &stamps, &mut newest)?;
        self.newest.extend(newest.into_iter().map(|(line, event)| ((place, line), event)));
        if self.stamps.len() + stamps.len() > ROWS_MAX {
            return Err(AlignError::TooMany { of: "spine".to_owned(), max: ROWS_MAX });
        }
        let mut fields: Vec<ArrayRef> = values.columns().iter().take(plan.spine_select).cloned().collect();
        if let Some(keep) = self.good_enough(plan, &stamps, &values, counts) {
            for field in &mut fields {
                *field = arrow_select::filter::filter(field, &keep)?;
            }
            stamps.keep(&keep);
        }
        if streams > 1 {
            self.streams.extend(std::iter::repeat_n(row(place), stamps.len()));
        }
        self.pending.push(fields);
        self.stamps.append(stamps);
        Ok(())
    }

    /// Which of the samples are rows; `None` if all of them.
    fn good_enough(
        &mut self,
        plan: &Plan,
        stamps: &Stamps,
        values: &arrow_array::RecordBatch,
        counts: &mut Counts,
    ) -> Option<BooleanArray> {
        let spine = &plan.recipe().spine;
        let mut keep = match &spine.source {
            SpineSource::Event { when, .. } => super::event::rises(when, values, &mut self.met),
            _ => vec![true; stamps.len()],
        };
        let mut all = true;
        for (row, keep) in keep.iter_mut().enumerate() {
            if !*keep {
                counts.passed_over = counts.passed_over.saturating_add(1);
            } else if stamps.grade[row] < spine.min_grade {
                counts.low_grade = counts.low_grade.saturating_add(1);
                *keep = false;
            } else if spine.max_err_ns.is_some_and(|max| stamps.err_ns[row] > max) {
                counts.wide = counts.wide.saturating_add(1);
                *keep = false;
            }
            all &= *keep;
        }
        (!all).then(|| BooleanArray::from(keep))
    }

    /// Notes that the entity has samples there: a grid spans them. Those below the wanted grade do not count, since
    /// their times may be decades off.
    pub(super) fn see(&mut self, plan: &Plan, stamps: &Stamps) {
        if !matches!(plan.recipe().spine.source, SpineSource::Grid { .. }) {
            return;
        }
        let min_grade = plan.recipe().spine.min_grade;
        for (ts_ns, _) in stamps.ts_ns.iter().zip(&stamps.grade).filter(|(_, grade)| **grade >= min_grade) {
            let (first, last) = self.seen.unwrap_or((*ts_ns, *ts_ns));
            self.seen = Some((first.min(*ts_ns), last.max(*ts_ns)));
        }
    }

    /// Makes rows below `limit_ns` of what was fed, and says how many are there, `None` for all.
    pub(super) fn settle(
        &mut self,
        plan: &Plan,
        limit_ns: Option<i64>,
        lines: &Lines,
        counts: &mut Counts,
    ) -> Result<usize, AlignError> {
        self.forget_given();
        match &plan.recipe().spine.source {
            SpineSource::Grid { period_ns, phase_ns, epoch_ns } => {
                let origin = i128::from(*epoch_ns) + i128::from(*phase_ns);
                self.points(origin, i128::from((*period_ns).max(1)), limit_ns)?;
            }
            SpineSource::Union { .. } => {
                self.merge(lines, limit_ns, counts);
                self.pending.clear();
            }
            _ => self.join_values()?,
        }
        let ready = |ts_ns: &i64| limit_ns.is_none_or(|limit| *ts_ns < limit);
        Ok(self.stamps.ts_ns.iter().take_while(|ts_ns| ready(ts_ns)).count())
    }

    fn join_values(&mut self) -> Result<(), AlignError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut chunks = vec![std::mem::take(&mut self.values)];
        chunks.append(&mut self.pending);
        chunks.retain(|chunk| chunk.first().is_some_and(|field| !field.is_empty()));
        self.values = super::store::joined(chunks)?;
        Ok(())
    }

    /// Drops what was given.
    fn forget_given(&mut self) {
        let head = std::mem::take(&mut self.head);
        if head == 0 {
            return;
        }
        self.stamps.drop_first(head);
        self.streams.drain(..head.min(self.streams.len()));
        for field in &mut self.values {
            *field = field.slice(head, field.len() - head);
        }
    }

    /// Points up to the last sample seen and below the limit, some at a time.
    fn points(&mut self, origin: i128, period: i128, limit_ns: Option<i64>) -> Result<(), AlignError> {
        let Some((first, last)) = self.seen else { return Ok(()) };
        let mut next = self.next_point.unwrap_or_else(|| -((origin - i128::from(first)).div_euclid(period)));
        let end = (i128::from(last) - origin).div_euclid(period);
        if end - next.min(end) > i128::from(GRID_POINTS_MAX - self.points.min(GRID_POINTS_MAX)) {
            return Err(AlignError::Grid { first_ns: first, last_ns: last, max: GRID_POINTS_MAX });
        }
        let mut made = 0;
        while next <= end && made < GRID_CHUNK {
            let Ok(ts_ns) = i64::try_from(origin + next * period) else { break };
            if limit_ns.is_some_and(|limit| ts_ns >= limit) {
                break;
            }
            self.push_point(ts_ns, next);
            (next, made) = (next + 1, made + 1);
        }
        self.next_point = Some(next);
        self.points = self.points.saturating_add(made);
        Ok(())
    }

    fn push_point(&mut self, ts_ns: i64, index: i128) {
        self.stamps.line.push(NO_LINE);
        self.stamps.event_ns.push(ts_ns);
        self.stamps.half_ns.push(0);
        self.stamps.ts_ns.push(ts_ns);
        self.stamps.err_ns.push(0);
        self.stamps.grade.push(Grade::Guaranteed);
        // A point's number may be negative: its bits stand here, and are read back as i64.
        let index = headwater_core::time::clamp_i64(index);
        self.stamps.seq.push(u64::from_ne_bytes(index.to_ne_bytes()));
    }

    /// Orders the rows of several streams by (resolved time, installation, line, event, stream, seq), and makes rows of
    /// one instant one.
    fn merge(&mut self, lines: &Lines, limit_ns: Option<i64>, counts: &mut Counts) {
        let stamps = &self.stamps;
        let stream = |row: usize| self.streams.get(row).copied().unwrap_or(0);
        let key = |row: usize| {
            let line = stamps.line[row];
            let boot = lines.get(line).map(|line| line.boot);
            (stamps.ts_ns[row], lines.chain(line), boot, stamps.event_ns[row], stream(row), stamps.seq[row])
        };
        let mut order: Vec<usize> = (0..stamps.len()).collect();
        order.sort_by_key(|row| key(*row));
        let is_one = |a: usize, b: usize| {
            let one_line = stamps.line[a] == stamps.line[b];
            stamps.ts_ns[a] == stamps.ts_ns[b] && (!one_line || stamps.event_ns[a] == stamps.event_ns[b])
        };
        let before = order.len();
        let ready = order.partition_point(|row| limit_ns.is_none_or(|limit| stamps.ts_ns[*row] < limit));
        let rest = order.split_off(ready);
        order.dedup_by(|b, a| is_one(*a, *b));
        counts.passed_over = counts.passed_over.saturating_add((before - rest.len() - order.len()) as u64);
        order.extend(rest);
        self.streams = order.iter().map(|row| stream(*row)).collect();
        self.stamps = stamps.picked(&order);
    }

    /// The rows from `start` on.
    pub(super) fn left(&self, start: usize, len: usize) -> Left<'_> {
        Left { stamps: &self.stamps, start, len }
    }

    /// Rows that wait.
    pub(super) fn waiting(&self) -> usize {
        self.stamps.len() - self.head
    }

    /// Their selected fields.
    pub(super) fn values(&self, start: usize, len: usize) -> Vec<ArrayRef> {
        self.values.iter().map(|field| field.slice(start, len)).collect()
    }

    /// Says that the first `rows` are given.
    pub(super) fn give(&mut self, rows: usize) {
        for row in self.head..rows {
            let (line, event) = (self.stamps.line[row], self.stamps.event_ns[row]);
            if line != NO_LINE {
                self.given.insert(line, event);
            }
        }
        self.head = rows;
    }

    /// Below what no later row will lie: resolved time, and event time by line.
    pub(super) fn floor(&self, limit_ns: i64) -> (i64, BTreeMap<u32, i64>) {
        let mut ts_ns = limit_ns;
        let mut events = self.given.clone();
        for row in self.head..self.stamps.len() {
            ts_ns = ts_ns.min(self.stamps.ts_ns[row]);
            let (line, event) = (self.stamps.line[row], self.stamps.event_ns[row]);
            if line != NO_LINE {
                let floor = events.entry(line).or_insert(event);
                *floor = (*floor).min(event);
            }
        }
        (ts_ns, events)
    }

    /// Where a grid goes on: its next point, or nowhere yet.
    pub(super) fn next_point_ns(&self, plan: &Plan) -> Option<i64> {
        let SpineSource::Grid { .. } = &plan.recipe().spine.source else { return None };
        Some(self.next_point(plan).map_or(i64::MAX, headwater_core::time::clamp_i64))
    }

    fn next_point(&self, plan: &Plan) -> Option<i128> {
        let SpineSource::Grid { period_ns, phase_ns, epoch_ns } = &plan.recipe().spine.source else {
            return None;
        };
        let origin = i128::from(*epoch_ns) + i128::from(*phase_ns);
        Some(origin + self.next_point? * i128::from((*period_ns).max(1)))
    }

    /// True if a grid has points left to make.
    pub(super) fn has_more_points(&self, plan: &Plan, limit_ns: Option<i64>) -> bool {
        let (Some((_, last)), Some(next)) = (self.seen, self.next_point(plan)) else { return false };
        next <= i128::from(last) && limit_ns.is_none_or(|limit| next < i128::from(limit))
    }
}
