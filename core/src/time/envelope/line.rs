//! A stretch of a gap on which the same two cones are the answer: a multiplication and a division by a constant each.

use super::best::{NONE, ranked};
use super::{Gap, SCALE, Side, Slopes};
use crate::time::span::Span;

/// Where the last question was. [`Default`] is the start.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    pub(super) gap: usize,
    pub(super) line: Option<Line>,
}

/// Bounds that are straight from one moment to another.
#[derive(Debug, Clone)]
pub(super) struct Line {
    from: i64,
    until: i64,
    upper: Option<Straight>,
    /// Of the mirrored line.
    lower: Option<Straight>,
    toll_ns: i64,
    closure: Span,
}

/// `offset` + ⌈(`rest` + dx · `slope`) / 1e9⌉, all within 64 bits until `dx_max`.
#[derive(Debug, Clone, Copy)]
struct Straight {
    offset: i64,
    rest: i64,
    slope: i64,
    dx_max: i64,
}

/// Largest product of distance and slope, and largest offset: a sum of a few stays within 64 bits.
const SAFE: i64 = 1 << 61;

impl Straight {
    /// The `rank`-th cone at distance `x` from the start of the gap, up to where another takes its place.
    fn of(side: &Side, slopes: Slopes, x: i64) -> Option<Self> {
        let (rise, fall) =
            (i128::from(x) * i128::from(slopes.past), i128::from(x) * i128::from(slopes.future));
        let value = ranked(&side.past, rise, &side.future, fall, slopes.rank);
        let past = side.past.iter().any(|one| *one != NONE && one + rise == value);
        let (slope, others, moved) =
            if past { (slopes.past, &side.future, fall) } else { (slopes.future, &side.past, rise) };
        // One that rises faster is met by those above it, one that rises slower by those below.
        let ahead = |other: &i128| if past { other + moved - value } else { value - other - moved };
        let closing = i128::from(slopes.past) - i128::from(slopes.future);
        let met = others.iter().filter(|other| **other != NONE).map(ahead).filter(|gap| *gap >= 0).min();
        let until = met.map_or(i64::MAX, |gap| i64::try_from(gap / closing.max(1)).unwrap_or(i64::MAX));
        let offset = i64::try_from(value.div_euclid(SCALE) + i128::from(side.base)).ok()?;
        let rest = i64::try_from(value.rem_euclid(SCALE)).ok()?;
        let far = SAFE / slope.saturating_abs().max(1);
        (offset.saturating_abs() < SAFE).then_some(Self { offset, rest, slope, dx_max: until.min(far) })
    }

    fn at(&self, dx: i64) -> i64 {
        self.offset + (self.rest + dx * self.slope + 999_999_999).div_euclid(1_000_000_000)
    }
}

impl Line {
    /// The line on from `b` in its gap, which ends at `end`; none if numbers are too large for it.
    pub(super) fn of(gap: &Gap, (up, low): (Slopes, Slopes), b: i64, end: i64) -> Option<Self> {
        let x = b.checked_sub(gap.start)?;
        let straight = |side: &Side, slopes: Slopes| match slopes.rank {
            0 => Some(None),
            _ => Straight::of(side, slopes, x).map(Some),
        };
        let (upper, lower) = (straight(&gap.upper, up)?, straight(&gap.lower, low)?);
        let dx = upper.iter().chain(&lower).map(|one| one.dx_max).min().unwrap_or(0);
        let until = b.saturating_add(dx).saturating_add(1).min(end).min(SAFE);
        let Gap { toll_ns, closure, .. } = *gap;
        (b > -SAFE).then_some(Self { from: b, until, upper, lower, toll_ns, closure })
    }

    #[inline]
    pub(super) fn holds(&self, b: i64) -> bool {
        self.from <= b && b < self.until
    }

    /// The bounds at `b`, which this line holds.
    #[inline]
    pub(super) fn at(&self, b: i64) -> Span {
        let dx = b - self.from;
        let mut span = Span {
            lo: self.lower.map_or(i64::MIN, |line| b - line.at(dx)),
            hi: self.upper.map_or(i64::MAX, |line| b + line.at(dx)),
        };
        if self.toll_ns > 0 {
            span = span.widened(self.toll_ns);
        }
        span.meet(self.closure)
    }
}
