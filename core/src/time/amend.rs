//! Which rows a better track changes: rewriting costs, so a row is touched only where it must be.
//!
//! A bound that merely shrinks rewrites nothing; the better track is stored for whoever wants it.

use super::Grade;
use super::boots::Resolved;

/// How a stored row stands to what is known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amendment {
    /// What was stored is still true and no better grade is to be had.
    Keep,
    /// More can be promised now.
    GradeRises,
    /// The stored time lies outside what is known now.
    Moves,
}

/// What was stored of a row, and what would be stored now.
#[must_use]
pub fn amendment(stored: &Resolved, now: &Resolved) -> Amendment {
    let distance = (i128::from(stored.ts.0) - i128::from(now.ts.0)).abs();
    let less_known = now.grade == Grade::OrderingOnly && stored.grade > now.grade;
    if distance > i128::from(now.err_ns) && !less_known {
        Amendment::Moves
    } else if now.grade > stored.grade {
        Amendment::GradeRises
    } else {
        Amendment::Keep
    }
}

/// How much a correction would rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amended {
    /// Rows looked at.
    pub rows: u64,
    /// Rows whose grade rises.
    pub risen: u64,
    /// Rows whose time moves.
    pub moved: u64,
    /// Rows that keep a bound at least twice what it could be.
    pub kept_wide: u64,
}

/// The places of the rows to be rewritten, ascending, with counts for a person.
#[must_use]
pub fn rows_to_amend<'a>(
    pairs: impl IntoIterator<Item = (&'a Resolved, &'a Resolved)>,
) -> (Vec<usize>, Amended) {
    let (mut places, mut counts) = (Vec::new(), Amended::default());
    for (place, (stored, now)) in pairs.into_iter().enumerate() {
        counts.rows += 1;
        match amendment(stored, now) {
            Amendment::Keep => counts.kept_wide += u64::from(stored.err_ns / 2 > now.err_ns),
            Amendment::GradeRises => counts.risen += 1,
            Amendment::Moves => counts.moved += 1,
        }
        if amendment(stored, now) != Amendment::Keep {
            places.push(place);
        }
    }
    (places, counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UtcNanos;

    fn row(ts: i64, err_ns: i64, grade: Grade) -> Resolved {
        Resolved { ts: UtcNanos(ts), err_ns, grade, conflict: false }
    }

    #[test]
    fn re_resolve_rule() {
        let stored = row(1_000, 500, Grade::Estimated);
        for (now, what) in [
            (row(1_010, 20, Grade::Estimated), Amendment::Keep),
            (row(1_300, 300, Grade::Estimated), Amendment::Keep),
            (row(1_301, 300, Grade::Estimated), Amendment::Moves),
            (row(1_000, 500, Grade::Guaranteed), Amendment::GradeRises),
            (row(9_000, 10, Grade::Guaranteed), Amendment::Moves),
            (row(9_000, 10, Grade::Estimated), Amendment::Moves),
            // Less is known than was (old constraints were forgotten): what was promised stays.
            (row(9_000, 10, Grade::OrderingOnly), Amendment::Keep),
        ] {
            assert_eq!(amendment(&stored, &now), what, "{now:?}");
        }
    }

    #[test]
    fn a_bound_that_only_shrinks_rewrites_no_row() {
        let stored: Vec<Resolved> = (0..100).map(|n| row(n * 10, 1_000, Grade::Guaranteed)).collect();
        let mut now: Vec<Resolved> = (0..100).map(|n| row(n * 10 + 3, 100, Grade::Guaranteed)).collect();
        let (places, counts) = rows_to_amend(stored.iter().zip(&now));
        assert_eq!((places.len(), counts.rows, counts.kept_wide), (0, 100, 100));
        now[7].ts = UtcNanos(5_000);
        let (places, counts) = rows_to_amend(stored.iter().zip(&now));
        assert_eq!((places, counts.moved), (vec![7], 1));
    }
}
