//! Rows as such: how often, how fresh.

use super::series::source;
use super::{Measure, Scoped};
use crate::gate::stats::median;

/// By the median distance of neighbours, so that gaps do not matter; a group's samples are counted by their numbers.
pub(super) fn rate(at: &Scoped<'_>, column: Option<&str>) -> Measure {
    let Some(ts) = &at.frame.ts_ns else { return Measure::unjudged("", "there is no column ts_ns") };
    let label = column.unwrap_or_default();
    let lines = at.frame.lines(at.rows);
    if column.is_none() {
        let distances = lines.iter().flat_map(|line| line.windows(2)).filter_map(|two| {
            let &[before, row] = two else { return None };
            Some(ts.integer(row)?.saturating_sub(ts.integer(before)?) as f64)
        });
        let middle = median(distances.filter(|distance| *distance > 0.0).collect());
        return Measure::value(label, middle.map(|ns| 1e9 / ns));
    }
    let Some(source) = source(at.frame, &format!("{label}_")) else {
        return Measure::unjudged(label, format!("there is no column group {label}"));
    };
    // Times of the sources are those of the rows within the tolerance, so only the whole span says something.
    let rates = lines.iter().filter_map(|line| {
        let named = || line.iter().filter_map(|&row| Some((source.of(row)?, ts.integer(row)?)));
        let (((first_epoch, first, _), from), ((last_epoch, last, _), to)) =
            (named().next()?, named().next_back()?);
        let samples = last.checked_sub(first).filter(|n| *n > 0 && first_epoch == last_epoch)?;
        let span_ns = to.checked_sub(from).filter(|ns| *ns > 0)?;
        Some(samples as f64 / (span_ns as f64 / 1e9))
    });
    Measure::value(label, median(rates.collect()))
}

pub(super) fn freshness(at: &Scoped<'_>) -> Measure {
    let Some(ts) = &at.frame.ts_ns else { return Measure::unjudged("", "there is no column ts_ns") };
    let newest = at.rows.iter().filter_map(|&row| ts.integer(row)).max();
    Measure::value("", newest.map(|newest| at.context.now_ns.saturating_sub(newest) as f64 / 1e9))
}
