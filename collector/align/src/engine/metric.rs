//! Distance of two instants and its uncertainty: boot time on one line, UTC otherwise.

use headwater_core::time::cone::RHO_PPB;

/// Line of a point of UTC: a grid's.
pub(super) const NO_LINE: u32 = u32::MAX;

/// How far beyond the instant, a tolerance or an edge other samples are looked at to see whether they could be right, ns.
/// Ten seconds: bounds of a synchronized gateway are hundredths of that, even a day after its last exchange (50 ppm)
/// they are below. What is less sure than this is `ordering_only`, and flagged for it. It bounds what a streaming run
/// must wait for and hold.
pub const LOOK_NS: i64 = 10_000_000_000;

/// Time in which a crystal at the edge of its datasheet drifts by 1 ns.
const NS_PER_DRIFT_NS: u64 = {
    assert!(RHO_PPB > 0 && 1_000_000_000 % RHO_PPB == 0, "drift is one integer division");
    (1_000_000_000 / RHO_PPB).unsigned_abs()
};

/// An instant on both lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instant {
    pub(super) line: u32,
    pub(super) event_ns: i64,
    pub(super) half_ns: i64,
    pub(super) ts_ns: i64,
    pub(super) err_ns: i64,
}

/// From an instant to a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Distance {
    /// Negative for an earlier sample.
    pub(super) dt_ns: i64,
    /// Half width of what it truly is.
    pub(super) sigma_ns: i64,
}

impl Distance {
    /// Its length, ns; the farthest is as far as an integer goes.
    pub(super) fn length(self) -> i64 {
        self.dt_ns.saturating_abs()
    }
}

/// Same line: dt in event time, sigma = both half widths + drift over dt. Else: dt of resolved UTC, sigma = both errors.
#[inline]
pub(super) fn distance(from: Instant, to: Instant) -> Distance {
    if from.line == to.line {
        let dt_ns = to.event_ns.saturating_sub(from.event_ns);
        let drift = i64::try_from(dt_ns.unsigned_abs().div_ceil(NS_PER_DRIFT_NS)).unwrap_or(i64::MAX);
        let halves = from.half_ns.saturating_add(to.half_ns);
        Distance { dt_ns, sigma_ns: halves.saturating_add(drift) }
    } else {
        let dt_ns = to.ts_ns.saturating_sub(from.ts_ns);
        Distance { dt_ns, sigma_ns: from.err_ns.saturating_add(to.err_ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, event_ns: i64, ts_ns: i64) -> Instant {
        Instant { line, event_ns, half_ns: 3, ts_ns, err_ns: 1000 }
    }

    #[test]
    fn one_line_measures_boot_time_and_two_measure_utc() {
        let same = distance(at(0, 100, 5_000), at(0, 20_101, 9_999_999));
        assert_eq!(same, Distance { dt_ns: 20_001, sigma_ns: 3 + 3 + 2 });
        assert_eq!(distance(at(0, 100, 5_000), at(1, 0, 4_000)), Distance { dt_ns: -1000, sigma_ns: 2000 });
    }

    #[test]
    fn the_drift_is_that_of_the_clock_resolver() {
        for dt in [0_i64, 1, 19_999, 20_000, 20_001, 7_777_777_777, i64::MAX] {
            let expect = headwater_core::time::cone::drift_ns(dt.into());
            assert_eq!(i128::from(distance(at(0, 0, 0), at(0, dt, 0)).sigma_ns), 6 + expect);
        }
    }

    #[test]
    fn extremes_saturate() {
        let far = distance(at(0, i64::MIN, 0), at(0, i64::MAX, 0));
        assert_eq!(far.dt_ns, i64::MAX);
        let wide = |line, ts_ns| Instant { line, event_ns: 0, half_ns: 0, ts_ns, err_ns: i64::MAX };
        assert_eq!(distance(wide(NO_LINE, i64::MAX), wide(0, i64::MIN)).length(), i64::MAX);
    }
}
