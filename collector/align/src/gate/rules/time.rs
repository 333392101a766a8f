//! When: order, range, bounds and distances of times.

use super::{Measure, Scoped};
use crate::gate::frame::{Column, Missing};
use headwater_core::time::Grade;
use std::collections::BTreeMap;

struct Times {
    ts_ns: Column,
    err_ns: Column,
    grade: Column,
}

fn times(at: &Scoped<'_>) -> Result<Times, Missing> {
    let column = |name: &str| at.frame.column(name);
    Ok(Times { ts_ns: column("ts_ns")?, err_ns: column("ts_err_ns")?, grade: column("grade")? })
}

impl Times {
    fn at(&self, row: usize) -> Option<(i64, i64)> {
        Some((self.ts_ns.integer(row)?, self.err_ns.integer(row)?))
    }

    fn is_guaranteed(&self, row: usize) -> bool {
        self.grade.text(row) == Some(Grade::Guaranteed.as_str())
    }
}

/// Middles may cross: two commits may know the clock differently well. Order is a boot's own: between two boots the clock
/// stood still for who knows how long, and each is placed by a track of its own, which an estimate may place wrongly. Of rows
/// whose boot nobody knows only promises are held against each other.
pub(super) fn order(at: &Scoped<'_>) -> Measure {
    let times = match times(at) {
        Ok(times) => times,
        Err(missing) => return missing.into(),
    };
    let boot = at.frame.column("boot_ordinal").ok();
    let mut offending = Vec::new();
    for mut line in at.frame.lines(at.rows) {
        line.sort_by_key(|&row| (at.frame.seq_of(row), row));
        let mut floors: BTreeMap<Option<i64>, i64> = BTreeMap::new();
        for row in line {
            let Some((ts_ns, err_ns)) = times.at(row) else { continue };
            let told = at.context.boots.and_then(|boots| boots.get(row).copied().flatten());
            let of = told.or_else(|| boot.as_ref().and_then(|boot| boot.integer(row)));
            if of.is_none() && !times.is_guaranteed(row) {
                continue;
            }
            let floor = floors.entry(of).or_insert(i64::MIN);
            if ts_ns.saturating_add(err_ns) < *floor {
                offending.push(row);
            }
            *floor = (*floor).max(ts_ns.saturating_sub(err_ns));
        }
    }
    offending.sort_unstable();
    Measure::share("", offending, at.rows.len())
}

pub(super) fn range(at: &Scoped<'_>, earliest_ns: i64, ahead_ns: i64) -> Measure {
    let times = match times(at) {
        Ok(times) => times,
        Err(missing) => return missing.into(),
    };
    let is_bad = |row: &usize| {
        let Some((ts_ns, err_ns)) = times.at(*row) else { return true };
        let latest = at.context.now_ns.saturating_add(ahead_ns).saturating_add(err_ns.max(0));
        !(earliest_ns..=latest).contains(&ts_ns)
    };
    Measure::share("", at.rows.iter().copied().filter(is_bad).collect(), at.rows.len())
}

/// A bound is never negative, and never absent but where only the order is known.
pub(super) fn error(at: &Scoped<'_>, max_ns: Option<i64>, min_grade: Grade) -> Measure {
    let times = match times(at) {
        Ok(times) => times,
        Err(missing) => return missing.into(),
    };
    let grade = |row| {
        let known = [Grade::OrderingOnly, Grade::Estimated, Grade::Guaranteed];
        known.into_iter().find(|grade| times.grade.text(row) == Some(grade.as_str()))
    };
    let is_bad = |row: &usize| match (times.at(*row), grade(*row)) {
        (Some((_, err_ns)), Some(grade)) => {
            err_ns < 0
                || (err_ns == i64::MAX && grade != Grade::OrderingOnly)
                || grade < min_grade
                || max_ns.is_some_and(|max| err_ns > max)
        }
        _ => true,
    };
    let widest = at.rows.iter().filter_map(|&row| times.at(row)).map(|(_, err_ns)| err_ns).max();
    let offending = at.rows.iter().copied().filter(is_bad).collect();
    Measure::share("", offending, at.rows.len()).with("widest_ns", widest)
}

pub(super) fn interval(at: &Scoped<'_>, min_ns: i64, max_ns: Option<i64>) -> Measure {
    let Some(ts) = &at.frame.ts_ns else { return Measure::unjudged("", "there is no column ts_ns") };
    let mut offending = Vec::new();
    let (mut pairs, mut longest) = (0, 0);
    for line in at.frame.lines(at.rows) {
        for two in line.windows(2) {
            let &[before, row] = two else { continue };
            let Some((before, now)) = ts.integer(before).zip(ts.integer(row)) else { continue };
            let distance = now.saturating_sub(before);
            pairs += 1;
            longest = longest.max(distance);
            if distance < min_ns || max_ns.is_some_and(|max| distance > max) {
                offending.push(row);
            }
        }
    }
    offending.sort_unstable();
    Measure::share("", offending, pairs).with("longest_ns", longest)
}
