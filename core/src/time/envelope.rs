//! The bounds that one source's points give at every moment of a line, ready to be asked in order.
//!
//! At b the upper bound is the (f+1)-th smallest of the cones of the w upper points at or before b and the w after it
//! (the lower bound likewise, mirrored): f false points of a kind among those cannot spoil it. Between two points the
//! windows stand still, and of the cones that fall (points to come) or rise (points past) with one slope only the f+1 best
//! can ever be the answer. They are kept per *gap*, so that a question merges 2(f+1) numbers; sliding the f+1 best along
//! costs O(f) a point (prefixes and suffixes of blocks of w, van Herk 1992), so that a build is O(n).
//!
//! U grows, so an upper bound of a later moment bounds an earlier one and a lower bound of an earlier moment a later one:
//! that closure is part of the answer. It spreads a bound no farther than the bound is wrong.
//!
//! Bounds are exact integers: 1e-9 ns inside, rounded outward once.

mod best;
mod line;
#[cfg(test)]
mod tests;

use super::cone::{Point, Rate, SCALE};
use super::span::Span;
use super::{BootNanos, clamp_i64};
use best::{Best, K, Windows};
pub use line::Cursor;
use line::Line;

/// A stretch between two readings of the raw clock in which the local line was slewed harder than its rate allows.
///
/// How the slew was spread within is unknown, but it went one way: two moments of which one lies inside differ by at most
/// `ns` more than the rate says. So points inside are looser by `ns`, questions inside are answered wider by it, and cones
/// that cross it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Toll {
    /// Reading before.
    pub from: BootNanos,
    /// Reading after.
    pub to: BootNanos,
    /// What the raw clock says the line was moved by, ns.
    pub ns: i64,
}

impl Toll {
    fn middle(&self) -> i64 {
        self.from.0.saturating_add(self.to.0.saturating_sub(self.from.0) / 2)
    }

    /// What moments strictly inside a stretch pay, ns.
    fn around(tolls: &[Toll], at: i64) -> i64 {
        let place = tolls.partition_point(|toll| toll.from.0 < at);
        let toll = place.checked_sub(1).and_then(|last| tolls.get(last));
        toll.filter(|toll| at < toll.to.0).map_or(0, |toll| toll.ns)
    }
}

/// What an envelope is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Limits of the rate.
    pub rate: Rate,
    /// False points of each kind that are survived, at most [`FALSE_MAX`](super::cone::FALSE_MAX).
    pub f: usize,
    /// Points used on each side.
    pub window: usize,
}

/// The cones of one kind that can be the answer in a gap, as scaled offsets from the local line at the gap's start.
#[derive(Debug, Clone, Copy)]
struct Side {
    past: [i128; K],
    future: [i128; K],
    /// Subtracted from all of them, ns, so that they are small.
    base: i64,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    /// Where candidates are measured from.
    start: i64,
    upper: Side,
    /// Of the mirrored line −U.
    lower: Side,
    toll_ns: i64,
    /// What the rest of the line adds by growing.
    closure: Span,
}

/// Bounds of U along a line.
#[derive(Debug, Clone)]
pub struct Envelope {
    gaps: Vec<Gap>,
    upper: Slopes,
    lower: Slopes,
    /// Kinds that have more than f points.
    outvotes: (bool, bool),
}

#[derive(Debug, Clone, Copy)]
struct Slopes {
    past: i64,
    future: i64,
    /// Which of the merged candidates is the answer, from 1; 0 = there are none.
    rank: usize,
}

impl Envelope {
    /// Bounds from sorted `upper` and `lower` points.
    #[must_use]
    pub fn new(upper: &[Point], lower: &[Point], tolls: &[Toll], shape: Shape) -> Self {
        let rank = |n: usize| n.min(shape.f.min(K - 1) + 1);
        let Rate { phi_ppb: phi, rho_ppb: rho } = shape.rate;
        let up = Slopes { past: phi + rho, future: phi - rho, rank: rank(upper.len()) };
        let low = Slopes { past: rho - phi, future: -phi - rho, rank: rank(lower.len()) };
        let loosened = |point: &Point| (point.at.0, Toll::around(tolls, point.at.0));
        let above = |point: &Point| {
            let (at, toll) = loosened(point);
            (at, i128::from(point.utc.0) - i128::from(at) + i128::from(toll))
        };
        let below = |point: &Point| {
            let (at, toll) = loosened(point);
            (at, i128::from(at) - i128::from(point.utc.0) + i128::from(toll))
        };
        let crossed = Crossed::new(tolls);
        let upper: Vec<(i64, i128)> = upper.iter().map(above).collect();
        let lower: Vec<(i64, i128)> = lower.iter().map(below).collect();
        let starts = starts(&upper, &lower, tolls);
        let uppers = sides(&upper, up, shape.window, &starts, &crossed);
        let lowers = sides(&lower, low, shape.window, &starts, &crossed);
        let gaps = starts.iter().zip(uppers.into_iter().zip(lowers)).enumerate();
        let gaps = gaps
            .map(|(place, (start, (upper, lower)))| Gap {
                start: *start,
                upper,
                lower,
                // The first gap is the one before the first start.
                toll_ns: if place == 0 { 0 } else { crossed.inside(*start) },
                closure: Span::OPEN,
            })
            .collect();
        let outvotes = (upper.len() > shape.f, lower.len() > shape.f);
        let mut envelope = Self { gaps, upper: up, lower: low, outvotes };
        envelope.close();
        envelope
    }

    /// True if there are more upper points than may be false.
    #[must_use]
    pub fn outvotes_upper(&self) -> bool {
        self.outvotes.0
    }

    /// True if there are more lower points than may be false.
    #[must_use]
    pub fn outvotes_lower(&self) -> bool {
        self.outvotes.1
    }

    /// The bounds at `b`. The upper may lie below the lower: then the points contradict one another.
    #[must_use]
    pub fn at(&self, b: BootNanos) -> Span {
        self.in_gap(self.gap_of(b.0), b.0)
    }

    /// The bounds at `b`, for questions that mostly come in ascending order: `cursor` remembers where the last one was.
    #[must_use]
    pub fn at_cursor(&self, cursor: &mut Cursor, b: BootNanos) -> Span {
        if let Some(line) = cursor.line.as_ref().filter(|line| line.holds(b.0)) {
            return line.at(b.0);
        }
        let place = self.walked(cursor.gap, b.0);
        cursor.gap = place;
        let Some(gap) = self.gaps.get(place) else { return Span::OPEN };
        let end = self.gaps.get(place + 1).map_or(i64::MAX, |next| next.start);
        cursor.line = Line::of(gap, (self.upper, self.lower), b.0, end);
        self.in_gap(place, b.0)
    }

    /// The gap of `b`: near `from` in most cases, so some steps are walked before it is searched.
    fn walked(&self, from: usize, b: i64) -> usize {
        let starts_by = |place: usize| self.gaps.get(place).is_some_and(|gap| gap.start <= b);
        if from > 0 && !starts_by(from) {
            return self.gap_of(b);
        }
        let walked = (from..from + 16).find(|place| !starts_by(place + 1));
        walked.unwrap_or_else(|| self.gap_of(b))
    }

    /// Share of the gaps whose bounds contradict one another, parts per thousand.
    #[must_use]
    pub fn contradictions_permille(&self) -> usize {
        let empty = self.gaps.iter().filter(|gap| self.plain(gap, gap.start).is_empty()).count();
        empty * 1_000 / self.gaps.len().max(1)
    }

    /// Where the bounds change their course, ascending.
    pub fn bends(&self) -> impl Iterator<Item = BootNanos> + '_ {
        self.gaps.iter().skip(1).map(|gap| BootNanos(gap.start))
    }

    fn gap_of(&self, b: i64) -> usize {
        let later = self.gaps.get(1..).unwrap_or_default();
        later.partition_point(|gap| gap.start <= b)
    }

    fn in_gap(&self, place: usize, b: i64) -> Span {
        let Some(gap) = self.gaps.get(place) else { return Span::OPEN };
        self.plain(gap, b).meet(gap.closure)
    }

    fn plain(&self, gap: &Gap, b: i64) -> Span {
        let x = b.saturating_sub(gap.start);
        let side = |side: &Side, slopes: Slopes| {
            let rise = i128::from(x) * i128::from(slopes.past);
            let fall = i128::from(x) * i128::from(slopes.future);
            ceil(best::ranked(&side.past, rise, &side.future, fall, slopes.rank)) + i128::from(side.base)
        };
        let mut span = Span::OPEN;
        if self.upper.rank > 0 {
            span.hi = clamp_i64(i128::from(b) + side(&gap.upper, self.upper));
        }
        if self.lower.rank > 0 {
            span.lo = clamp_i64(i128::from(b) - side(&gap.lower, self.lower));
        }
        if gap.toll_ns > 0 { span.widened(gap.toll_ns) } else { span }
    }

    /// Adds what follows from growth: in a gap bounds only rise, so the rest of the line speaks through its gaps' ends.
    fn close(&mut self) {
        let mut hi = i64::MAX;
        for place in (1..self.gaps.len()).rev() {
            let start = self.gaps[place].start;
            self.gaps[place].closure.hi = hi;
            let at = self.plain(&self.gaps[place], start);
            // Contradictory bounds take no part.
            if !at.is_empty() {
                hi = hi.min(at.hi);
            }
        }
        if let Some(first) = self.gaps.first_mut() {
            first.closure.hi = hi;
        }
        let mut lo = i64::MIN;
        for place in 0..self.gaps.len() {
            self.gaps[place].closure.lo = lo;
            let Some(next) = self.gaps.get(place + 1) else { break };
            let at = self.plain(&self.gaps[place], next.start.saturating_sub(1));
            if !at.is_empty() {
                lo = lo.max(at.lo);
            }
        }
    }
}

/// `value` / 1e9, rounded up.
fn ceil(value: i128) -> i128 {
    // Division of 64 bits by a constant is a multiplication; nearly all bounds fit.
    match i64::try_from(value + SCALE - 1) {
        Ok(small) => i128::from(small.div_euclid(1_000_000_000)),
        Err(_) => (value + SCALE - 1).div_euclid(SCALE),
    }
}

/// What tolls were paid before a moment.
struct Crossed {
    /// (middle, tolls up to and with it), ascending.
    paid: Vec<(i64, i64)>,
    tolls: Vec<Toll>,
}

impl Crossed {
    fn new(tolls: &[Toll]) -> Self {
        let mut sum = 0_i64;
        let paid = |toll: &Toll| {
            sum = sum.saturating_add(toll.ns);
            (toll.middle(), sum)
        };
        Self { paid: tolls.iter().map(paid).collect(), tolls: tolls.to_vec() }
    }

    fn before(&self, at: i64) -> i128 {
        let place = self.paid.partition_point(|(middle, _)| *middle <= at);
        place.checked_sub(1).and_then(|last| self.paid.get(last)).map_or(0, |(_, sum)| i128::from(*sum))
    }

    /// The toll of the stretch that starts at or goes on after `at`.
    fn inside(&self, at: i64) -> i64 {
        let place = self.tolls.partition_point(|toll| toll.from.0 <= at);
        let toll = place.checked_sub(1).and_then(|last| self.tolls.get(last));
        toll.filter(|toll| at < toll.to.0).map_or(0, |toll| toll.ns)
    }
}

/// Where gaps start; the first stands for all that lies before, measured from the same place as the second.
fn starts(upper: &[(i64, i128)], lower: &[(i64, i128)], tolls: &[Toll]) -> Vec<i64> {
    let mut starts: Vec<i64> = upper.iter().chain(lower).map(|(at, _)| *at).collect();
    starts.extend(tolls.iter().flat_map(|toll| [toll.from.0, toll.middle(), toll.to.0]));
    starts.sort_unstable();
    starts.dedup();
    if let Some(first) = starts.first().copied() {
        starts.insert(0, first);
    }
    starts
}

/// The candidates of one kind in every gap.
fn sides(
    points: &[(i64, i128)],
    slopes: Slopes,
    window: usize,
    starts: &[i64],
    crossed: &Crossed,
) -> Vec<Side> {
    let key = |slope: i64, sign: i128| {
        let of = move |(at, offset): &(i64, i128)| {
            offset * SCALE - i128::from(*at) * i128::from(slope) - sign * crossed.before(*at) * SCALE
        };
        points.iter().map(of).collect::<Vec<i128>>()
    };
    let past = Windows::new(key(slopes.past, 1), window, slopes.rank);
    let future = Windows::new(key(slopes.future, -1), window, slopes.rank);
    let mut behind = 0;
    starts
        .iter()
        .enumerate()
        .map(|(place, start)| {
            while place > 0 && points.get(behind).is_some_and(|(at, _)| at <= start) {
                behind += 1;
            }
            let paid = if place == 0 { 0 } else { crossed.before(*start) * SCALE };
            let moved = |best: Best, slope: i64, paid: i128| {
                best.moved(i128::from(*start) * i128::from(slope) + paid)
            };
            let past = moved(past.ending(behind), slopes.past, paid);
            let future = moved(future.starting(behind), slopes.future, -paid);
            Side::new(past, future)
        })
        .collect()
}

impl Side {
    fn new(past: Best, future: Best) -> Self {
        let least = past.least().into_iter().chain(future.least()).min().unwrap_or(0);
        let base = clamp_i64(least.div_euclid(SCALE));
        let by = -i128::from(base) * SCALE;
        Self { past: past.moved(by).into(), future: future.moved(by).into(), base }
    }
}
