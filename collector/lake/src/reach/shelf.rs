//! Which commits of a line stay when its days are thinned: pure, so that the rule can be read in one place.

use crate::names::CommitId;

/// Microseconds of an hour.
pub(crate) const HOUR_US: i64 = 3_600_000_000;

/// Microseconds of a UTC day.
pub(crate) const DAY_US: i64 = 24 * HOUR_US;

/// One commit of a line as thinning sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) id: CommitId,
    pub(super) time_us: i64,
    /// Its time, or that of the latest commit below it if a clock stepped back: never falls along a line.
    pub(super) line_us: i64,
    /// Somewhere a line begins, ends or joins: kept for ever.
    pub(super) point: bool,
    /// Commits it joined to the line.
    pub(super) merged: Vec<CommitId>,
}

/// Sets `line_us` of a line given newest first, standing on something of `below_us`.
pub(super) fn settle_times(line: &mut [Placed], below_us: i64) {
    let mut highest = below_us;
    for placed in line.iter_mut().rev() {
        highest = highest.max(placed.time_us);
        placed.line_us = highest;
    }
}

/// The commits of one day that stay, newest first, of all of that day, newest first: the last of each hour and the
/// points. The newest is the last of its hour, so a day's beginning is always there to be stood on.
pub(super) fn thinned(day: &[Placed]) -> Vec<&Placed> {
    let mut hour = None;
    day.iter()
        .filter(|placed| {
            let this = placed.line_us.div_euclid(HOUR_US);
            let last_of_hour = hour != Some(this);
            hour = Some(this);
            last_of_hour || placed.point
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(n: u8, time_us: i64, point: bool) -> Placed {
        Placed { id: CommitId::digest_of(&[n]), time_us, line_us: time_us, point, merged: Vec::new() }
    }

    #[test]
    fn the_last_of_each_hour_and_the_points_stay() {
        let day = [
            placed(5, 2 * HOUR_US + 5, false),
            placed(4, 2 * HOUR_US + 4, false),
            placed(3, HOUR_US + 3, false),
            placed(2, HOUR_US + 2, true),
            placed(1, HOUR_US + 1, false),
        ];
        let kept: Vec<i64> = thinned(&day).iter().map(|placed| placed.time_us % HOUR_US).collect();
        assert_eq!(kept, [5, 3, 2]);
    }

    #[test]
    fn a_clock_that_steps_back_does_not_tear_a_line() {
        let mut line = [placed(3, 50, false), placed(2, 10, false), placed(1, 40, false)];
        settle_times(&mut line, 45);
        assert_eq!(line.map(|placed| placed.line_us), [50, 45, 45]);
    }
}
