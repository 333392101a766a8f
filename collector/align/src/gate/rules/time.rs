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
/// A picture that an agent captured once more (it was killed before it had noted the first) has a later number and the time
/// of its file: it is no step back.
pub(super) fn order(at: &Scoped<'_>) -> Measure {
    let times = match times(at) {
        Ok(times) => times,
        Err(missing) => return missing.into(),
    };
    let boot = at.frame.column("boot_ordinal").ok();
    let picture = at.frame.column("image_hash").ok();
    let mut offending = Vec::new();
    for mut line in at.frame.lines(at.rows) {
        line.sort_by_key(|&row| (at.frame.seq_of(row), row));
        let mut floors: BTreeMap<Option<i64>, i64> = BTreeMap::new();
        let mut pictures: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for row in line {
            let Some((ts_ns, err_ns)) = times.at(row) else { continue };
            let told = at.context.boots.and_then(|boots| boots.get(row).copied().flatten());
            let of = told.or_else(|| boot.as_ref().and_then(|boot| boot.integer(row)));
            if of.is_none() && !times.is_guaranteed(row) {
                continue;
            }
            if let Some(hash) = picture.as_ref().and_then(|picture| picture.text(row)) {
                let again = pictures.get(hash).copied();
                let same_time = |(first_ns, first_err_ns): (i64, i64)| {
                    ts_ns.saturating_sub(first_ns).saturating_abs() <= err_ns.saturating_add(first_err_ns)
                };
                if again.is_some_and(same_time) {
                    continue;
                }
                pictures.insert(hash, (ts_ns, err_ns));
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

#[cfg(test)]
mod tests {
    use crate::gate::{Context, RuleSet, Verdict, judge};
    use arrow_array::{Int64Array, RecordBatch, StringArray};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const MS: i64 = 1_000_000;

    /// The verdict on pictures, each with its number, time (ms) and digest; bounds are 25 ms.
    fn verdict(rows: &[(i64, i64, &str)]) -> Verdict {
        let text = |of: &dyn Fn(&(i64, i64, &str)) -> String| -> arrow_array::ArrayRef {
            Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>())
        };
        let long = |of: &dyn Fn(&(i64, i64, &str)) -> i64| -> arrow_array::ArrayRef {
            Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Int64Array>())
        };
        let batch = RecordBatch::try_from_iter([
            ("device", text(&|_| "pi-1".to_owned())),
            ("ts_ns", long(&|(_, ms, _)| ms * MS)),
            ("ts_err_ns", long(&|_| 25 * MS)),
            ("grade", text(&|_| "guaranteed".to_owned())),
            ("row_key", text(&|(seq, ..)| format!("e/camera/front/{seq}"))),
            ("image_hash", text(&|(_, _, hash)| (*hash).to_owned())),
        ]);
        let rule = "headwater_gate = 1\nname = 't'\n[[rule]]\nname = 'o'\ncheck = 'time_order'\n";
        let none = BTreeMap::new();
        let context = Context { now_ns: 0, boots: None, known: None, looks: None, references: &none };
        judge(&RuleSet::parse(rule).unwrap(), &[batch.unwrap()], &context).unwrap()[0].verdict
    }

    /// An agent was killed between the capture of two pictures and their removal.
    #[test]
    fn a_picture_captured_once_more_is_no_step_back_in_time() {
        let twice = [(0, 1_000, "a"), (1, 1_200, "b"), (2, 1_003, "a"), (3, 1_203, "b"), (4, 1_400, "c")];
        assert_eq!(verdict(&twice), Verdict::Pass);
        let another = [(0, 1_000, "a"), (1, 1_200, "b"), (2, 1_003, "d"), (3, 1_400, "c")];
        assert_eq!(verdict(&another), Verdict::Fail, "another picture of that time");
        let at_another_time = [(0, 1_000, "a"), (1, 1_200, "b"), (2, 900, "a")];
        assert_eq!(verdict(&at_another_time), Verdict::Fail, "the same picture of another time");
    }
}
