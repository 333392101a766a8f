//! Noise taken out: median, exponential mean, Savitzky-Golay.

use super::run::{runs, series};
use super::{PrepareError, Prepared, Span, fit, with_columns};
use crate::derive::numbers::{canonical, floats};
use crate::derive::{Step, StepKind};
use arrow_array::{ArrayRef, Float64Array};
use arrow_schema::SchemaRef;
use std::ops::Range;
use std::sync::Arc;

/// Blocks of the exponential mean, in time constants. A value sees the whole of the two blocks before its own: at least 16
/// time constants, beyond which all weights together are below e^-16 = 1.2e-7 of the whole of a steady stream.
const EXPONENTIAL_BLOCK: i64 = 8;
/// Furthest the exponential mean looks back, in time constants: three blocks.
pub(super) const EXPONENTIAL_REACH: i64 = 3 * EXPONENTIAL_BLOCK;

/// One smoothed value and the places of its window in the run.
type Smoothed = (Option<f64>, Range<usize>);

pub(super) fn smooth(
    step: &Step,
    touched: &[usize],
    prepared: Prepared,
    schema: SchemaRef,
) -> Result<Prepared, PrepareError> {
    let stamps = &prepared.samples.stamps;
    let mut spans = prepared.spans.clone();
    let mut replaced: Vec<(usize, ArrayRef)> = Vec::new();
    for at in touched {
        let Some(values) = prepared.samples.values.columns().get(*at).and_then(floats) else { continue };
        let mut out = vec![None; values.len()];
        for run in runs(stamps, &values, step.max_gap_ns) {
            let (times, series) = series(&run, stamps, &values);
            for (row, (value, window)) in run.iter().zip(smoothed(&step.kind, &times, &series)) {
                if let (Some(place), Some(value)) = (out.get_mut(*row), value) {
                    *place = Some(canonical(value));
                    widen(&mut spans, *row, &prepared.spans, &run, &window);
                }
            }
        }
        replaced.push((*at, Arc::new(out.into_iter().collect::<Float64Array>())));
    }
    with_columns(Prepared { spans, ..prepared }, schema, replaced)
}

/// Windows only move on along a run, so their ends hold the least and the greatest seq.
fn widen(spans: &mut [Span], row: usize, before: &[Span], run: &[usize], window: &Range<usize>) {
    let of = |place: Option<usize>| place.and_then(|place| run.get(place)).and_then(|row| before.get(*row));
    let (first, last) = (of(Some(window.start)), of(window.end.checked_sub(1)));
    if let (Some(first), Some(last), Some(span)) = (first, last, spans.get_mut(row)) {
        span.seq_lo = span.seq_lo.min(first.seq_lo);
        span.seq_hi = span.seq_hi.max(last.seq_hi);
    }
}

fn smoothed(kind: &StepKind, times: &[i64], series: &[f64]) -> Vec<Smoothed> {
    match kind {
        StepKind::Median { samples } => medians(series, *samples as usize),
        StepKind::Exponential { time_constant_ns } => exponential(times, series, *time_constant_ns),
        StepKind::SavitzkyGolay { samples, order } => {
            savitzky_golay(times, series, *samples as usize, *order as usize)
        }
        _ => Vec::new(),
    }
}

/// The places of a centred window of `samples`, as far as the series of `n` goes.
pub(super) fn centred(place: usize, samples: usize, n: usize) -> Range<usize> {
    let half = samples / 2;
    place.saturating_sub(half)..(place + half + 1).min(n)
}

/// The middle value, or the mean of the middle two; NaN of nothing.
pub(in crate::derive) fn median_of(window: &[f64]) -> f64 {
    let mut sorted = window.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => middle(half),
        _ => half.checked_sub(1).map_or(f64::NAN, |lower| (middle(lower) + middle(half)) / 2.0),
    }
}

fn medians(series: &[f64], samples: usize) -> Vec<Smoothed> {
    let median = |place: usize| {
        let window = centred(place, samples, series.len());
        (series.get(window.clone()).map(median_of), window)
    };
    (0..series.len()).map(median).collect()
}

/// Weighted mean of the samples up to each, weights exp(-age / time constant).
///
/// The sums are carried on from sample to sample, but begun anew: for the samples of each block of boot time (multiples of
/// [`EXPONENTIAL_BLOCK`] time constants) from the beginning of the second block before. So a value depends on a bounded past,
/// the same wherever a reader starts, at three steps a sample.
fn exponential(times: &[i64], series: &[f64], time_constant_ns: i64) -> Vec<Smoothed> {
    let block_ns = time_constant_ns.saturating_mul(EXPONENTIAL_BLOCK);
    let block_of = |time: i64| time.div_euclid(block_ns);
    let mut out: Vec<Smoothed> = Vec::with_capacity(series.len());
    while let Some(block) = times.get(out.len()).map(|time| block_of(*time)) {
        let (from, first) = (times.partition_point(|time| block_of(*time) < block - 2), out.len());
        let (mut sum, mut weights, mut before) = (0.0, 0.0, None);
        for (place, (time, x)) in times.iter().zip(series).enumerate().skip(from) {
            if block_of(*time) != block && place >= first {
                break;
            }
            let fade = before.map_or(0.0, |before: i64| fade(time.saturating_sub(before), time_constant_ns));
            (sum, weights, before) = (sum * fade + x, weights * fade + 1.0, Some(*time));
            if place >= first {
                out.push((Some(sum / weights), from..place + 1));
            }
        }
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "ages within a run, far below 2^53 ns")]
fn fade(age_ns: i64, time_constant_ns: i64) -> f64 {
    libm::exp(-(age_ns as f64 / time_constant_ns as f64))
}

/// The polynomial that fits the centred window best, at the sample; near the ends of a run that of the first or the last
/// full window. A run shorter than the window has none, and its values are null.
fn savitzky_golay(times: &[i64], series: &[f64], samples: usize, order: usize) -> Vec<Smoothed> {
    let Some(last_start) = series.len().checked_sub(samples) else {
        return (0..series.len()).map(|place| (None, place..place + 1)).collect();
    };
    let fitted = |place: usize| {
        let start = place.saturating_sub(samples / 2).min(last_start);
        let window = start..start + samples;
        let value = match (times.get(window.clone()), series.get(window.clone()), times.get(place)) {
            (Some(times), Some(series), Some(at)) => fit::polynomial_at(times, series, order, *at),
            _ => None,
        };
        (value, window)
    };
    (0..series.len()).map(fitted).collect()
}
