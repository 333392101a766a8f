//! Values as a heap: bounds, rails, variety, distribution.

use super::{DriftMethod, Measure, Scoped};
use crate::gate::frame::{Column, Frame, Missing};
use crate::gate::stats::{ks, mean, psi};
use std::collections::BTreeSet;

/// Numbers of these rows; of a column that is none, why not.
fn numbers(name: &str, column: &Column, rows: &[usize]) -> Result<Vec<(usize, f64)>, Measure> {
    match column {
        Column::Integer(_) | Column::Number(_) => {
            Ok(rows.iter().filter_map(|&row| Some((row, column.number(row)?))).collect())
        }
        other => {
            Err(Measure::unjudged(name, format!("column {name} is {}, where numbers belong", other.kind())))
        }
    }
}

/// A null is no offence here; a NaN or an infinity is.
pub(super) fn range(at: &Scoped<'_>, columns: &[String], min: Option<f64>, max: Option<f64>) -> Vec<Measure> {
    at.each(columns, |name, column| {
        let found = match numbers(name, column, at.rows) {
            Ok(found) => found,
            Err(unjudged) => return unjudged,
        };
        let is_bad = |value: f64| {
            !value.is_finite() || min.is_some_and(|min| value < min) || max.is_some_and(|max| value > max)
        };
        let finite = || found.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
        let (least, greatest) = (finite().min_by(f64::total_cmp), finite().max_by(f64::total_cmp));
        let offending = found.iter().filter(|(_, value)| is_bad(*value)).map(|(row, _)| *row).collect();
        Measure::share(name, offending, at.rows.len()).with("least", least).with("greatest", greatest)
    })
}

/// Values on each side that a rail is compared with, and how many times as often it must occur.
const NEIGHBOURS: usize = 3;
const TIMES: usize = 4;

/// Rows at a value that repeats though its neighbours do not, as at the end of a sensor's range, wherever in the window it
/// begins; a column that never changes is another rule's business.
pub(super) fn saturation(at: &Scoped<'_>, columns: &[String], rows: u64) -> Vec<Measure> {
    at.each(columns, |name, column| {
        let found = match numbers(name, column, at.rows) {
            Ok(found) => found,
            Err(unjudged) => return unjudged,
        };
        let mut found = samples(at, name, found);
        found.sort_by(|a, b| a.1.total_cmp(&b.1));
        let levels: Vec<&[(usize, f64)]> = found.chunk_by(|a, b| a.1 == b.1).collect();
        let is_rail = |place: usize, count: usize| {
            let below = levels.iter().take(place).rev().take(NEIGHBOURS);
            let around = below.chain(levels.iter().skip(place + 1).take(NEIGHBOURS));
            let most = around.map(|level| level.len()).max();
            count as u64 >= rows && most.is_some_and(|most| count >= most.saturating_mul(TIMES))
        };
        let rails = levels.iter().enumerate().filter(|(place, level)| is_rail(*place, level.len()));
        let rails: Vec<&[(usize, f64)]> = rails.map(|(_, level)| *level).collect();
        let mut offending: Vec<usize> =
            rails.iter().flat_map(|level| level.iter().map(|(row, _)| *row)).collect();
        offending.sort_unstable();
        let at_values: Vec<f64> = rails.iter().filter_map(|level| Some(level.first()?.1)).take(4).collect();
        Measure::share(name, offending, at.rows.len()).with("rails", at_values)
    })
}

/// Without what repeats only because several rows use one sample.
fn samples(at: &Scoped<'_>, name: &str, found: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
    let Some(source) = super::series::source(at.frame, name) else { return found };
    let mut seen = BTreeSet::new();
    found
        .into_iter()
        .filter(|(row, _)| source.of(*row).is_none_or(|of| seen.insert((at.frame.device(*row), of))))
        .collect()
}

pub(super) fn distinct(at: &Scoped<'_>, columns: &[String]) -> Vec<Measure> {
    at.each(columns, |name, column| {
        let values: BTreeSet<_> = at.rows.iter().filter_map(|&row| column.cell(row)).collect();
        // Of nothing it says nothing: a column of nulls is another rule's business.
        Measure::value(name, (!values.is_empty()).then_some(values.len() as f64))
    })
}

pub(super) fn drift(
    at: &Scoped<'_>,
    columns: &[String],
    reference: &str,
    method: DriftMethod,
) -> Vec<Measure> {
    let Some(batch) = at.context.references.get(reference) else {
        let why =
            format!("reference {reference} was not read: there is no such ref, or the table is not in it");
        return vec![Measure::unjudged("", why)];
    };
    let frame = Frame::new(batch.clone());
    let rows: Vec<usize> = (0..frame.len()).collect();
    let finite = |found: Vec<(usize, f64)>| -> Vec<f64> {
        found.into_iter().map(|(_, value)| value).filter(|value| value.is_finite()).collect()
    };
    at.each(columns, |name, column| {
        let base = match frame.column(name) {
            Ok(base) => numbers(name, &base, &rows),
            Err(Missing(why)) => Err(Measure::unjudged(name, format!("in {reference} {why}"))),
        };
        let (base, found) = match (base, numbers(name, column, at.rows)) {
            (Ok(base), Ok(found)) => (finite(base), finite(found)),
            (Err(unjudged), _) | (_, Err(unjudged)) => return unjudged,
        };
        let distance = match method {
            DriftMethod::Psi => psi(&base, &found),
            DriftMethod::Ks => ks(&base, &found),
        };
        Measure::value(name, distance)
            .with("reference_rows", base.len())
            .with("reference_mean", mean(&base))
            .with("mean", mean(&found))
    })
}
