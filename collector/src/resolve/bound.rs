//! Cones: what one true statement about a clock says of every other moment of the same boot.
//!
//! U(b) is UTC at boot time b. Its rate is within 1 ± rho, so a point below which U lies at p bounds U everywhere, with a
//! slope; likewise from below. Of all bounds the (f+1)-th best is taken, which f false statements cannot spoil.

use headwater_core::time::{BootNanos, UtcNanos};

/// Largest deviation of a gateway's crystal from the true rate, parts per billion: the datasheet's 50 ppm.
pub const RHO_PPB: i128 = 50_000;
/// False points of each kind that a bound survives (f).
pub const FALSE_MAX: usize = 2;
/// Points used on each side of a moment (w): 20 polls at 64 s are 21 minutes, beyond which they only widen.
pub const WINDOW: usize = 20;

/// U at `at` lies below (or above) `utc`, whichever list it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// Moment on the boot line.
    pub at: BootNanos,
    /// Bound of UTC there.
    pub utc: UtcNanos,
}

/// The widest U can have drifted from rate 1 over `distance_ns`, rounded up, ns.
#[must_use]
pub fn drift_ns(distance_ns: i128) -> i128 {
    (distance_ns.abs() * RHO_PPB + 999_999_999) / 1_000_000_000
}

/// What an upper point says of U at `b`, ns.
#[must_use]
pub fn upper_at(point: Point, b: BootNanos) -> i128 {
    let distance = i128::from(b.0) - i128::from(point.at.0);
    i128::from(point.utc.0) + distance + drift_ns(distance)
}

/// What a lower point says of U at `b`, ns.
#[must_use]
pub fn lower_at(point: Point, b: BootNanos) -> i128 {
    let distance = i128::from(b.0) - i128::from(point.at.0);
    i128::from(point.utc.0) + distance - drift_ns(distance)
}

/// Upper and lower points of one boot, each sorted and without repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cones {
    upper: Vec<Point>,
    lower: Vec<Point>,
}

impl Cones {
    /// Adds an upper point; false if it was known.
    pub fn add_upper(&mut self, point: Point) -> bool {
        insert(&mut self.upper, point)
    }

    /// Adds a lower point; false if it was known.
    pub fn add_lower(&mut self, point: Point) -> bool {
        insert(&mut self.lower, point)
    }

    /// Upper points in order.
    #[must_use]
    pub fn upper(&self) -> &[Point] {
        &self.upper
    }

    /// Lower points in order.
    #[must_use]
    pub fn lower(&self) -> &[Point] {
        &self.lower
    }

    /// True if each kind has more than `f` points.
    #[must_use]
    pub fn outvotes(&self, f: usize) -> bool {
        self.upper.len() > f && self.lower.len() > f
    }

    /// The (f+1)-th smallest upper bound at `b` over the window around it; none without points.
    #[must_use]
    pub fn hi(&self, b: BootNanos, f: usize) -> Option<i128> {
        order_statistic(window(&self.upper, b).map(|point| upper_at(point, b)), f)
    }

    /// The (f+1)-th largest lower bound at `b` over the window around it; none without points.
    #[must_use]
    pub fn lo(&self, b: BootNanos, f: usize) -> Option<i128> {
        order_statistic(window(&self.lower, b).map(|point| -lower_at(point, b)), f).map(|lo| -lo)
    }

    /// Forgets the oldest points above `max` of each kind; gives how many.
    pub fn trim(&mut self, max: usize) -> usize {
        let mut dropped = 0;
        for points in [&mut self.upper, &mut self.lower] {
            let surplus = points.len().saturating_sub(max);
            points.drain(..surplus);
            dropped += surplus;
        }
        dropped
    }
}

fn insert(points: &mut Vec<Point>, point: Point) -> bool {
    match points.binary_search(&point) {
        Ok(_) => false,
        Err(place) => {
            points.insert(place, point);
            true
        }
    }
}

/// The `WINDOW` points at or before `b` and the `WINDOW` after it.
fn window(points: &[Point], b: BootNanos) -> impl Iterator<Item = Point> + '_ {
    let split = points.partition_point(|point| point.at <= b);
    let from = split.saturating_sub(WINDOW);
    let to = split.saturating_add(WINDOW).min(points.len());
    points.get(from..to).unwrap_or_default().iter().copied()
}

/// The (f+1)-th smallest of `values`, or the largest there is when there are fewer.
fn order_statistic(values: impl Iterator<Item = i128>, f: usize) -> Option<i128> {
    let mut best: Vec<i128> = Vec::with_capacity(f + 2);
    for value in values {
        let place = best.partition_point(|kept| *kept <= value);
        if place <= f {
            best.insert(place, value);
            best.truncate(f + 1);
        }
    }
    best.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: i64 = 1_000_000_000;

    fn point(at: i64, utc: i64) -> Point {
        Point { at: BootNanos(at), utc: UtcNanos(utc) }
    }

    #[test]
    fn a_cone_widens_by_fifty_microseconds_a_second_both_ways() {
        let p = point(10 * S, 1_000 * S);
        assert_eq!(upper_at(p, BootNanos(10 * S)), 1_000 * i128::from(S));
        assert_eq!(upper_at(p, BootNanos(11 * S)), 1_001 * i128::from(S) + 50_000);
        assert_eq!(upper_at(p, BootNanos(9 * S)), 999 * i128::from(S) + 50_000);
        assert_eq!(lower_at(p, BootNanos(9 * S)), 999 * i128::from(S) - 50_000);
        assert_eq!(drift_ns(1), 1, "rounded outward");
    }

    proptest! {
        #[test]
        fn bounds_equal_the_brute_order_statistic(
            points in proptest::collection::vec((0_i64..4_000, -50_i64..50), 0..120), b in -100_i64..4_100, f in 0_usize..4
        ) {
            let b = BootNanos(b * 1_000_000);
            let points: Vec<Point> =
                points.iter().map(|(at, utc)| point(at * 1_000_000, at * 1_000_000 + utc * 10_000)).collect();
            let mut cones = Cones::default();
            for p in &points {
                cones.add_upper(*p);
                cones.add_lower(*p);
            }
            // By definition: the points sorted by place, twenty on each side, all values sorted.
            let mut distinct = points.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let before: Vec<Point> = distinct.iter().copied().filter(|p| p.at <= b).rev().take(WINDOW).collect();
            let after: Vec<Point> = distinct.iter().copied().filter(|p| p.at > b).take(WINDOW).collect();
            let used: Vec<Point> = before.into_iter().chain(after).collect();
            let mut highs: Vec<i128> = used.iter().map(|p| upper_at(*p, b)).collect();
            let mut lows: Vec<i128> = used.iter().map(|p| lower_at(*p, b)).collect();
            highs.sort_unstable();
            lows.sort_unstable_by(|x, y| y.cmp(x));
            prop_assert_eq!(cones.hi(b, f), highs.get(f).or(highs.last()).copied());
            prop_assert_eq!(cones.lo(b, f), lows.get(f).or(lows.last()).copied());
        }
    }
}
