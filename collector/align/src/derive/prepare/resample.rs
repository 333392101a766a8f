//! Samples at even times instead of those that were taken.
//!
//! New times are the multiples of the period on the boot line, so they do not move with a better clock track.

use super::run::{Run, lines};
use super::{PrepareError, Prepared, RESAMPLED_MAX, Span};
use crate::derive::ResampleBy;
use crate::derive::numbers::{canonical, floats, is_number};
use crate::sample::{Samples, Stamps};
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow_schema::SchemaRef;
use arrow_select::take::take;
use headwater_core::time::Grade;
use std::sync::Arc;

/// One new sample: its time, and the old ones it rests on.
struct Point {
    event_ns: i64,
    /// Newest at or before it; for a mean its first.
    before: usize,
    /// Oldest at or after it; for a mean its last, for a previous value `before`.
    after: usize,
    /// Place of `before` in its line's samples.
    place: usize,
}

pub(super) fn resample(
    step: usize,
    (period_ns, by): (i64, ResampleBy),
    max_gap_ns: i64,
    prepared: Prepared,
    schema: SchemaRef,
) -> Result<Prepared, PrepareError> {
    let stamps = &prepared.samples.stamps;
    let lines = lines(stamps, |_| true);
    let mut points = Vec::new();
    for (line, places) in lines.iter().enumerate() {
        let more = points_of(places, &stamps.event_ns, (period_ns, by), max_gap_ns);
        if points.len() + more.len() > RESAMPLED_MAX {
            return Err(PrepareError::TooMany { step, samples: stamps.len() });
        }
        points.extend(more.into_iter().map(|point| (line, point)));
    }
    let new_stamps: Vec<Stamp> = points.iter().map(|(_, point)| stamp(stamps, point, by)).collect();
    let order = order(&lines, &points, &new_stamps);
    let points: Vec<&(usize, Point)> = order.iter().filter_map(|place| points.get(*place)).collect();
    let columns = prepared.samples.values.columns().iter();
    let columns = columns
        .map(|column| column_of(column, stamps, &lines, &points, (period_ns, by), max_gap_ns))
        .collect::<Result<Vec<_>, _>>()?;
    let spans = points.iter().map(|(_, point)| span(&prepared.spans, point)).collect();
    let stamps = gathered(&order, &new_stamps);
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(stamps.len()));
    let values = RecordBatch::try_new_with_options(schema, columns, &options)?;
    Ok(Prepared { samples: Samples { stamps, values }, spans })
}

/// Multiples of the period at which a line has something to say.
fn points_of(
    places: &Run,
    events: &[i64],
    (period_ns, by): (i64, ResampleBy),
    max_gap_ns: i64,
) -> Vec<Point> {
    let at = |place: usize| places.get(place).and_then(|row| events.get(*row)).copied();
    let mut points = Vec::new();
    if by == ResampleBy::Mean {
        let bin = |event: i64| event.saturating_add(period_ns / 2).div_euclid(period_ns);
        let mut place = 0;
        for chunk in
            places.chunk_by(|a, b| events.get(*a).map(|e| bin(*e)) == events.get(*b).map(|e| bin(*e)))
        {
            if let (Some(first), Some(last), Some(event)) = (chunk.first(), chunk.last(), at(place)) {
                let event_ns = bin(event).saturating_mul(period_ns);
                points.push(Point { event_ns, before: *first, after: *last, place });
            }
            place += chunk.len();
        }
        return points;
    }
    for (place, row) in places.iter().enumerate() {
        let (Some(here), next) = (at(place), at(place + 1)) else { continue };
        // The last of equal times speaks.
        if next == Some(here) {
            continue;
        }
        let gap = next.map(|next| next.saturating_sub(here));
        let end = match by {
            ResampleBy::Previous => gap.map_or(max_gap_ns, |gap| (gap - 1).min(max_gap_ns)),
            _ => gap.filter(|gap| *gap <= max_gap_ns).map_or(0, |gap| gap - 1),
        };
        let mut event_ns = ceil_multiple(here, period_ns);
        while event_ns <= here.saturating_add(end) {
            let is_hit = event_ns == here || by == ResampleBy::Previous;
            let after = if is_hit { *row } else { places.get(place + 1).copied().unwrap_or(*row) };
            points.push(Point { event_ns, before: *row, after, place });
            if points.len() > RESAMPLED_MAX {
                return points;
            }
            match event_ns.checked_add(period_ns) {
                Some(next) => event_ns = next,
                None => break,
            }
        }
    }
    points
}

fn ceil_multiple(event: i64, period_ns: i64) -> i64 {
    let floor = event.div_euclid(period_ns).saturating_mul(period_ns);
    if floor == event { floor } else { floor.saturating_add(period_ns) }
}

/// Stamps of one sample.
#[derive(Clone)]
struct Stamp {
    line: u32,
    event_ns: i64,
    half_ns: i64,
    ts_ns: i64,
    err_ns: i64,
    grade: Grade,
    seq: u64,
}

fn stamp(stamps: &Stamps, point: &Point, by: ResampleBy) -> Stamp {
    let (a, b) = (one(stamps, point.before), one(stamps, point.after));
    let ts_ns = match by {
        // A bin's time lies among its samples' times, or just beside them: the shift is the same on both lines.
        ResampleBy::Mean | ResampleBy::Previous => {
            a.ts_ns.saturating_add(point.event_ns.saturating_sub(a.event_ns))
        }
        ResampleBy::Linear => between((a.event_ns, a.ts_ns), (b.event_ns, b.ts_ns), point.event_ns),
    };
    Stamp {
        line: a.line,
        event_ns: point.event_ns,
        half_ns: a.half_ns.max(b.half_ns),
        ts_ns,
        err_ns: a.err_ns.max(b.err_ns),
        grade: a.grade.min(b.grade),
        seq: a.seq,
    }
}

fn one(stamps: &Stamps, row: usize) -> Stamp {
    let long = |column: &[i64]| column.get(row).copied().unwrap_or_default();
    Stamp {
        line: stamps.line.get(row).copied().unwrap_or_default(),
        event_ns: long(&stamps.event_ns),
        half_ns: long(&stamps.half_ns),
        ts_ns: long(&stamps.ts_ns),
        err_ns: long(&stamps.err_ns),
        grade: stamps.grade.get(row).copied().unwrap_or(Grade::OrderingOnly),
        seq: stamps.seq.get(row).copied().unwrap_or_default(),
    }
}

/// Between two points of integers, rounded down; exact, so every machine agrees.
fn between((x0, y0): (i64, i64), (x1, y1): (i64, i64), x: i64) -> i64 {
    let (run, rise) = (i128::from(x1) - i128::from(x0), i128::from(y1) - i128::from(y0));
    if run == 0 {
        return y0;
    }
    let y = i128::from(y0) + (rise * (i128::from(x) - i128::from(x0))).div_euclid(run);
    i64::try_from(y).unwrap_or(y1)
}

/// Lines that came one after the other stay so; lines that came mixed are merged by resolved time.
fn order(lines: &[Run], points: &[(usize, Point)], stamps: &[Stamp]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    let ends = |run: &Run| run.first().copied().zip(run.last().copied());
    let is_mixed =
        lines.windows(2).any(|two| match (two.first().and_then(ends), two.last().and_then(ends)) {
            (Some((_, end)), Some((start, _))) => start < end,
            _ => false,
        });
    if !is_mixed {
        return order;
    }
    // A merge, not a sort: resolved times may go back within a line, whose own order counts.
    let mut heads: Vec<std::collections::VecDeque<usize>> = vec![Default::default(); lines.len()];
    for (place, (line, _)) in points.iter().enumerate() {
        if let Some(head) = heads.get_mut(*line) {
            head.push_back(place);
        }
    }
    order.clear();
    let ts = |head: &std::collections::VecDeque<usize>| {
        head.front().and_then(|place| stamps.get(*place)).map(|s| s.ts_ns)
    };
    while let Some((_, line)) =
        heads.iter().enumerate().filter_map(|(line, head)| Some((ts(head)?, line))).min()
    {
        order.extend(heads.get_mut(line).and_then(std::collections::VecDeque::pop_front));
    }
    order
}

fn gathered(order: &[usize], new: &[Stamp]) -> Stamps {
    let mut stamps = Stamps::default();
    for stamp in order.iter().filter_map(|place| new.get(*place)) {
        push(&mut stamps, stamp);
    }
    stamps
}

fn push(stamps: &mut Stamps, stamp: &Stamp) {
    stamps.line.push(stamp.line);
    stamps.event_ns.push(stamp.event_ns);
    stamps.half_ns.push(stamp.half_ns);
    stamps.ts_ns.push(stamp.ts_ns);
    stamps.err_ns.push(stamp.err_ns);
    stamps.grade.push(stamp.grade);
    stamps.seq.push(stamp.seq);
}

/// The stamps of some samples.
pub(super) fn taken(stamps: &Stamps, rows: &[usize]) -> Stamps {
    let mut out = Stamps::default();
    for row in rows {
        push(&mut out, &one(stamps, *row));
    }
    out
}

fn span(spans: &[Span], point: &Point) -> Span {
    let of = |row: usize| spans.get(row).copied().unwrap_or(Span { seq_lo: 0, seq_hi: 0 });
    Span { seq_lo: of(point.before).seq_lo, seq_hi: of(point.after).seq_hi }
}

/// Numbers by their rule, everything else by the newest sample.
fn column_of(
    column: &ArrayRef,
    stamps: &Stamps,
    lines: &[Run],
    points: &[&(usize, Point)],
    (_, by): (i64, ResampleBy),
    max_gap_ns: i64,
) -> Result<ArrayRef, PrepareError> {
    let numbers =
        if by == ResampleBy::Previous || !is_number(column.data_type()) { None } else { floats(column) };
    let Some(values) = numbers else {
        let last = |point: &Point| if by == ResampleBy::Mean { point.after } else { point.before };
        let rows: UInt64Array = points.iter().map(|(_, point)| Some(last(point) as u64)).collect();
        return Ok(take(column, &rows, None)?);
    };
    let value = |(line, point): &&(usize, Point)| {
        let places = lines.get(*line)?;
        let has = |row: usize| values.is_valid(row) && values.value(row).is_finite();
        let event = |row: usize| stamps.event_ns.get(row).copied().unwrap_or_default();
        let value = match by {
            ResampleBy::Mean => {
                let of: Vec<usize> = places
                    .iter()
                    .skip(point.place)
                    .copied()
                    .take_while(|row| *row <= point.after)
                    .filter(|row| has(*row))
                    .collect();
                mean(&of, &values, event, max_gap_ns)
            }
            _ => linear(places, point, &values, has, event, max_gap_ns),
        };
        value.map(canonical)
    };
    Ok(Arc::new(points.iter().map(value).collect::<Float64Array>()))
}

/// The mean of samples none of which is farther than the gap from the one before.
fn mean(rows: &[usize], values: &Float64Array, event: impl Fn(usize) -> i64, max_gap_ns: i64) -> Option<f64> {
    let torn = rows.windows(2).any(|two| match two {
        [a, b] => event(*b).saturating_sub(event(*a)) > max_gap_ns,
        _ => false,
    });
    if torn || rows.is_empty() {
        return None;
    }
    let sum = rows.iter().fold(0.0, |sum, row| sum + values.value(*row));
    #[expect(clippy::cast_precision_loss, reason = "samples of one bin")]
    let n = rows.len() as f64;
    Some(sum / n)
}

/// Between the nearest samples that have a value, if they are near each other.
fn linear(
    places: &Run,
    point: &Point,
    values: &Float64Array,
    has: impl Fn(usize) -> bool,
    event: impl Fn(usize) -> i64,
    max_gap_ns: i64,
) -> Option<f64> {
    let near = |row: &usize| event(*row).saturating_sub(point.event_ns).saturating_abs() <= max_gap_ns;
    let before = places
        .get(..=point.place)?
        .iter()
        .rev()
        .copied()
        .take_while(|row| near(row))
        .find(|row| has(*row))?;
    if event(before) == point.event_ns {
        return Some(values.value(before));
    }
    let after =
        places.get(point.place + 1..)?.iter().copied().take_while(|row| near(row)).find(|row| has(*row))?;
    let gap = event(after).saturating_sub(event(before));
    if gap > max_gap_ns {
        return None;
    }
    let (a, b) = (values.value(before), values.value(after));
    #[expect(clippy::cast_precision_loss, reason = "within a gap, far below 2^53 ns")]
    let weight = point.event_ns.saturating_sub(event(before)) as f64 / gap as f64;
    Some(a + weight * (b - a))
}
