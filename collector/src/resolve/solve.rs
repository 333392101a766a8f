//! Solves for the intervals of a run of samples: the best grade the points allow, then the closure that keeps order.

use super::bound::{FALSE_MAX, Point, drift_ns, upper_at};
use super::track::{BootClock, ClockTracks, Incoming};
use headwater_core::id::BootOrdinal;
use headwater_core::time::{BootNanos, Grade, NS_PER_S, UtcNanos, clamp_i64};
use std::collections::BTreeMap;

/// 2020-01-01T00:00:00Z: no gateway of ours captured before it. The bracket of a boot that never met a clock.
const FLOOR: UtcNanos = UtcNanos(1_577_836_800 * NS_PER_S);

/// One event to be placed in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Event time on the boot line.
    pub event: BootNanos,
    /// Its own half width, from the capture latency, ns.
    pub half_ns: i64,
}

/// A placed event: the truth lies in [ts − err, ts + err] as far as the grade promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Middle of the interval.
    pub ts: UtcNanos,
    /// Half its width, ns, rounded up, saturating.
    pub err_ns: i64,
    /// What it promises.
    pub grade: Grade,
    /// The points contradicted each other and the interval is their hull.
    pub conflict: bool,
}

#[derive(Debug, Clone, Copy)]
struct Interval {
    lo: i128,
    hi: i128,
    grade: Grade,
    conflict: bool,
}

impl Interval {
    fn new(lo: i128, hi: i128, grade: Grade) -> Self {
        if lo <= hi {
            Self { lo, hi, grade, conflict: false }
        } else {
            Self { lo: hi, hi: lo, grade: grade.min(Grade::Estimated), conflict: true }
        }
    }
}

impl ClockTracks {
    /// Places events of one boot, on the gateway's own clock. Answers stand in the order of the queries, and `ts` never
    /// goes back as `event` goes on.
    #[must_use]
    pub fn resolve(&self, whose: Incoming<'_>, queries: &[Query]) -> Vec<Resolved> {
        let empty = BTreeMap::new();
        let boots = self.boots(whose).unwrap_or(&empty);
        let bracket = Bracket::of(boots, whose.boot);
        let nothing = BootClock::default();
        let clock = boots.get(&whose.boot).unwrap_or(&nothing);

        let mut order: Vec<usize> = (0..queries.len()).collect();
        let event = |place: &usize| queries.get(*place).map(|query| query.event);
        order.sort_by_key(event);
        let mut intervals: Vec<Interval> = order
            .iter()
            .filter_map(event)
            .map(|b| measured(clock, b).unwrap_or_else(|| bracket.interval(clock, b)))
            .collect();
        close(&mut intervals);

        let mut answers = vec![None; queries.len()];
        let mut latest = i128::MIN;
        for (place, interval) in order.into_iter().zip(intervals) {
            // Only a contradiction can still turn the middle back; the error grows with what is given up for order.
            let ts = (interval.lo + (interval.hi - interval.lo).div_euclid(2)).max(latest);
            latest = ts;
            let half = queries.get(place).map_or(0, |query| query.half_ns);
            let err = (interval.hi - ts).max(ts - interval.lo) + i128::from(half);
            if let Some(answer) = answers.get_mut(place) {
                *answer = Some(Resolved {
                    ts: UtcNanos(clamp_i64(ts)),
                    err_ns: clamp_i64(err),
                    grade: interval.grade,
                    conflict: interval.conflict,
                });
            }
        }
        answers.into_iter().flatten().collect()
    }

    /// Places events of a clock that is not the gateway's own (an attached device): only the bracket of the boot is
    /// known, from its start to the receipt of the samples.
    #[must_use]
    pub fn resolve_foreign(
        &self,
        whose: Incoming<'_>,
        received: UtcNanos,
        queries: &[Query],
    ) -> Vec<Resolved> {
        let empty = BTreeMap::new();
        let boots = self.boots(whose).unwrap_or(&empty);
        let lo = Bracket::of(boots, whose.boot).floor;
        let interval = Interval::new(lo, i128::from(received.0), Grade::OrderingOnly);
        let ts = interval.lo + (interval.hi - interval.lo).div_euclid(2);
        let answer = |query: &Query| Resolved {
            ts: UtcNanos(clamp_i64(ts)),
            err_ns: clamp_i64((interval.hi - ts).max(ts - interval.lo) + i128::from(query.half_ns)),
            grade: Grade::OrderingOnly,
            conflict: interval.conflict,
        };
        queries.iter().map(answer).collect()
    }
}

/// The interval that points of this very boot give; none if one side has no point.
fn measured(clock: &BootClock, b: BootNanos) -> Option<Interval> {
    if clock.guaranteed.outvotes(FALSE_MAX) {
        let (lo, hi) = (clock.guaranteed.lo(b, FALSE_MAX)?, clock.guaranteed.hi(b, FALSE_MAX)?);
        return Some(Interval::new(lo, hi, Grade::Guaranteed));
    }
    // Too few to outvote a false one: used plainly, and no longer called guaranteed.
    let f = if clock.all.outvotes(FALSE_MAX) { FALSE_MAX } else { 0 };
    Some(Interval::new(clock.all.lo(b, f)?, clock.all.hi(b, f)?, Grade::Estimated))
}

/// What is known of a boot from outside it.
#[derive(Debug, Clone, Copy)]
struct Bracket {
    /// UTC at its start is no earlier.
    floor: i128,
    /// The next boot with a clock began after the last moment seen of this one.
    ceiling: Option<Point>,
}

impl Bracket {
    fn of(boots: &BTreeMap<BootOrdinal, BootClock>, boot: BootOrdinal) -> Self {
        let before = boots.range(..boot).filter_map(|(_, clock)| {
            let last = clock.last?;
            measured(clock, last).map(|interval| interval.lo)
        });
        let last = boots.get(&boot).and_then(|clock| clock.last);
        let after = boots
            .range((std::ops::Bound::Excluded(boot), std::ops::Bound::Unbounded))
            .find_map(|(_, clock)| measured(clock, BootNanos(0)))
            .map(|interval| interval.hi);
        Self {
            floor: before.max().unwrap_or(i128::MIN).max(i128::from(FLOOR.0)),
            ceiling: last.zip(after).map(|(at, hi)| Point { at, utc: UtcNanos(clamp_i64(hi)) }),
        }
    }

    fn interval(&self, clock: &BootClock, b: BootNanos) -> Interval {
        // A boot line starts at 0, and b of it have gone since.
        let since_start = i128::from(b.0.max(0));
        let floor = self.floor + since_start - drift_ns(since_start);
        let lo = clock.all.lo(b, 0).map_or(floor, |lo| lo.max(floor));
        let ends = [clock.receipt, self.ceiling].into_iter().flatten().map(|point| upper_at(point, b));
        let hi = ends.chain(clock.all.hi(b, 0)).min();
        // Without any receipt (a question no landed sample asks) the bracket is a day wide.
        let hi = hi.unwrap_or(lo + 86_400 * i128::from(NS_PER_S));
        Interval::new(lo, hi, Grade::OrderingOnly)
    }
}

/// U only grows: what bounds it later from above bounds it now, and what bounded it before from below still does.
/// Contradictory intervals take no part.
fn close(intervals: &mut [Interval]) {
    let mut hi = i128::MAX;
    for interval in intervals.iter_mut().rev().filter(|interval| !interval.conflict) {
        hi = hi.min(interval.hi);
        interval.hi = hi;
    }
    let mut lo = i128::MIN;
    for interval in intervals.iter_mut().filter(|interval| !interval.conflict) {
        lo = lo.max(interval.lo);
        interval.lo = lo;
        if interval.lo > interval.hi {
            *interval = Interval::new(interval.lo, interval.hi, interval.grade);
        }
    }
}

#[cfg(test)]
mod tests;
