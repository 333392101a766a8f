//! Outliers found by a rule, and what becomes of them.

use super::run::{Run, runs, series};
use super::smooth::{centred, median_of};
use super::{PrepareError, Prepared, with_columns};
use crate::derive::numbers::floats;
use crate::derive::{Outlier, Step, StepKind};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use arrow_select::nullif::nullif;
use std::sync::Arc;

/// The median absolute deviation of a normal distribution times this is its standard deviation: 1 / Φ⁻¹(3/4).
const MAD_SCALE: f64 = 1.482_602_218_505_602;

/// What a rule says of one value: nothing, or that it is an outlier and the nearest value allowed.
type Judged = Option<f64>;

pub(super) fn clip(
    step: &Step,
    touched: &[usize],
    prepared: Prepared,
    schema: SchemaRef,
) -> Result<Prepared, PrepareError> {
    let then = match step.kind {
        StepKind::ClipRange { then, .. }
        | StepKind::ClipMad { then, .. }
        | StepKind::ClipRate { then, .. } => then,
        _ => Outlier::Null,
    };
    let mut replaced: Vec<(usize, ArrayRef)> = Vec::new();
    let mut dropped = vec![false; prepared.samples.values.num_rows()];
    for at in touched {
        let Some(array) = prepared.samples.values.columns().get(*at) else { continue };
        let Some(values) = floats(array) else { continue };
        let judged = judge(step, &prepared, &values);
        match then {
            Outlier::Clamp => replaced.push((*at, clamped(&values, &judged))),
            Outlier::Null => {
                let mask: BooleanArray = judged.iter().map(|outlier| Some(outlier.is_some())).collect();
                replaced.push((*at, nullif(array, &mask)?));
            }
            Outlier::Drop => {
                dropped.iter_mut().zip(&judged).for_each(|(drop, outlier)| *drop |= outlier.is_some())
            }
        }
    }
    let prepared = with_columns(prepared, schema, replaced)?;
    if then == Outlier::Drop { without(prepared, &dropped) } else { Ok(prepared) }
}

fn judge(step: &Step, prepared: &Prepared, values: &Float64Array) -> Vec<Judged> {
    let stamps = &prepared.samples.stamps;
    let mut judged = vec![None; values.len()];
    if let StepKind::ClipRange { min, max, .. } = step.kind {
        for (row, place) in judged.iter_mut().enumerate().filter(|(row, _)| values.is_valid(*row)) {
            *place = beyond(values.value(row), min, max);
        }
        return judged;
    }
    for run in runs(stamps, values, step.max_gap_ns) {
        let (times, series) = series(&run, stamps, values);
        match step.kind {
            StepKind::ClipMad { samples, limit, min_scale, .. } => {
                mark(&mut judged, &run, mad(&series, samples as usize, limit, min_scale));
            }
            StepKind::ClipRate { per_second, .. } => {
                mark(&mut judged, &run, rate(&times, &series, per_second))
            }
            _ => {}
        }
    }
    judged
}

fn mark(judged: &mut [Judged], run: &Run, of_run: Vec<Judged>) {
    for (row, outlier) in run.iter().zip(of_run) {
        if let Some(place) = judged.get_mut(*row) {
            *place = outlier;
        }
    }
}

/// NaN is beyond any range, and has no nearest value.
fn beyond(x: f64, min: Option<f64>, max: Option<f64>) -> Judged {
    match (min, max) {
        _ if x.is_nan() => Some(f64::NAN),
        (Some(min), _) if x < min => Some(min),
        (_, Some(max)) if x > max => Some(max),
        _ => None,
    }
}

/// Hampel's identifier (1974) over a centred window that shrinks at the ends of a run.
fn mad(series: &[f64], samples: usize, limit: f64, min_scale: f64) -> Vec<Judged> {
    let judge = |(place, x): (usize, &f64)| {
        let window = series.get(centred(place, samples, series.len())).unwrap_or_default();
        let middle = median_of(window);
        let deviations: Vec<f64> = window.iter().map(|x| (x - middle).abs()).collect();
        let allowed = limit * (MAD_SCALE * median_of(&deviations)).max(min_scale);
        if (x - middle).abs() <= allowed {
            return None;
        }
        Some(if *x > middle { middle + allowed } else { middle - allowed })
    };
    series.iter().enumerate().map(judge).collect()
}

/// A sample that differs from both neighbours by more than their distance allows. One at the end of a run has one
/// neighbour only, which may as well be the wrong one: it is not judged.
fn rate(times: &[i64], series: &[f64], per_second: f64) -> Vec<Judged> {
    let is_far = |a: usize, b: usize| match (times.get(a), times.get(b), series.get(a), series.get(b)) {
        (Some(from), Some(to), Some(x), Some(y)) => {
            (y - x).abs() > per_second * seconds(to.saturating_sub(*from))
        }
        _ => false,
    };
    let judge = |place: usize| {
        let is_inner = place > 0 && place + 1 < series.len();
        (is_inner && is_far(place - 1, place) && is_far(place, place + 1)).then_some(f64::NAN)
    };
    (0..series.len()).map(judge).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a gap of runs is far below 2^53 ns")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

fn clamped(values: &Float64Array, judged: &[Judged]) -> ArrayRef {
    let clamp = |(x, outlier): (Option<f64>, &Judged)| match outlier {
        Some(nearest) => Some(*nearest).filter(|nearest| !nearest.is_nan()),
        None => x,
    };
    Arc::new(values.iter().zip(judged).map(clamp).collect::<Float64Array>())
}

/// The samples that are not dropped.
fn without(prepared: Prepared, dropped: &[bool]) -> Result<Prepared, PrepareError> {
    let keep: BooleanArray = dropped.iter().map(|drop| Some(!drop)).collect();
    let values: RecordBatch = filter_record_batch(&prepared.samples.values, &keep)?;
    let kept: Vec<usize> =
        dropped.iter().enumerate().filter(|(_, drop)| !**drop).map(|(row, _)| row).collect();
    let stamps = super::resample::taken(&prepared.samples.stamps, &kept);
    let spans = kept.iter().filter_map(|row| prepared.spans.get(*row).copied()).collect();
    Ok(Prepared { samples: crate::sample::Samples { stamps, values }, spans })
}
