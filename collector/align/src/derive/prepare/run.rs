//! Stretches of samples that steps look at as one.

use super::PrepareError;
use crate::sample::Stamps;
use arrow_array::{Array, Float64Array};
use std::collections::BTreeMap;

/// Samples of one boot line whose neighbours are near each other: places, in order.
pub(super) type Run = Vec<usize>;

/// Times never go back on their boot line.
pub(super) fn check_order(stamps: &Stamps) -> Result<(), PrepareError> {
    let mut newest: BTreeMap<u32, i64> = BTreeMap::new();
    for (row, (line, event_ns)) in stamps.line.iter().zip(&stamps.event_ns).enumerate() {
        match newest.insert(*line, *event_ns) {
            Some(before) if before > *event_ns => return Err(PrepareError::Unsorted { row }),
            _ => {}
        }
    }
    Ok(())
}

/// Places of each boot line's samples, lines in the order in which they first appear.
pub(super) fn lines(stamps: &Stamps, mut is_one: impl FnMut(usize) -> bool) -> Vec<Run> {
    let mut places: BTreeMap<u32, usize> = BTreeMap::new();
    let mut lines: Vec<Run> = Vec::new();
    for (row, line) in stamps.line.iter().enumerate() {
        if !is_one(row) {
            continue;
        }
        let place = *places.entry(*line).or_insert(lines.len());
        match lines.get_mut(place) {
            Some(line) => line.push(row),
            None => lines.push(vec![row]),
        }
    }
    lines
}

/// Runs of the samples that have a value.
pub(super) fn runs(stamps: &Stamps, values: &Float64Array, max_gap_ns: i64) -> Vec<Run> {
    let has_value = |row: usize| values.is_valid(row) && values.value(row).is_finite();
    let mut runs = Vec::new();
    for line in lines(stamps, has_value) {
        let near = |a: &usize, b: &usize| match (stamps.event_ns.get(*a), stamps.event_ns.get(*b)) {
            (Some(a), Some(b)) => b.saturating_sub(*a) <= max_gap_ns,
            _ => false,
        };
        runs.extend(line.chunk_by(near).map(<[usize]>::to_vec));
    }
    runs
}

/// Times and values of a run.
pub(super) fn series(run: &Run, stamps: &Stamps, values: &Float64Array) -> (Vec<i64>, Vec<f64>) {
    let times = run.iter().filter_map(|row| stamps.event_ns.get(*row).copied()).collect();
    (times, run.iter().map(|row| values.value(*row)).collect())
}
