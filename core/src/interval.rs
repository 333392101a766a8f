//! Sets of sequence numbers, kept as sorted disjoint ranges.
//!
//! Acks, ledgers, retention and dedup all speak in such sets; live data overtake backlog, so a
//! single watermark is never enough.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// A set of `u64` held as disjoint, non-adjacent half-open ranges. Memory grows with the holes only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IntervalSet {
    /// start → end (exclusive).
    ranges: BTreeMap<u64, u64>,
}

impl IntervalSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All numbers below `upto`.
    #[must_use]
    pub fn below(upto: u64) -> Self {
        let mut set = Self::new();
        set.insert(0..upto);
        set
    }

    /// True if nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Number of members (saturating).
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().fold(0_u64, |n, (start, end)| n.saturating_add(end.saturating_sub(*start)))
    }

    /// Number of ranges.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.ranges.len()
    }

    /// Ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }

    /// True if `n` is a member.
    #[must_use]
    pub fn contains(&self, n: u64) -> bool {
        self.ranges.range(..=n).next_back().is_some_and(|(_, end)| n < *end)
    }

    /// True if every member of `range` is in the set (an empty range is).
    #[must_use]
    pub fn covers(&self, range: Range<u64>) -> bool {
        range.is_empty()
            || self.ranges.range(..=range.start).next_back().is_some_and(|(_, end)| range.end <= *end)
    }

    /// Adds `range`, joining neighbours.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((before, its_end)) = self.ranges.range(..=start).next_back()
            && *its_end >= start
        {
            start = *before;
        }
        let joined: Vec<u64> = self.ranges.range(start..=end).map(|(s, _)| *s).collect();
        for s in joined {
            if let Some(e) = self.ranges.remove(&s) {
                end = end.max(e);
            }
        }
        self.ranges.insert(start, end);
    }

    /// Takes `range` out.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touched: Vec<(u64, u64)> = self
            .ranges
            .range(..range.end)
            .rev()
            .map(|(s, e)| (*s, *e))
            .take_while(|(_, e)| *e > range.start)
            .collect();
        for (start, end) in touched {
            self.ranges.remove(&start);
            if start < range.start {
                self.ranges.insert(start, range.start);
            }
            if end > range.end {
                self.ranges.insert(range.end, end);
            }
        }
    }

    /// Adds every member of `other`.
    pub fn union_with(&mut self, other: &Self) {
        other.iter().for_each(|range| self.insert(range));
    }

    /// The members of `range` that are not in the set, ascending.
    #[must_use]
    pub fn missing_in(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut holes = Vec::new();
        let mut at = range.start;
        let from = self.ranges.range(..=range.start).next_back().map_or(range.start, |(s, _)| *s);
        for (start, end) in self.ranges.range(from..) {
            if at >= range.end || *start >= range.end {
                break;
            }
            if *start > at {
                holes.push(at..*start);
            }
            at = at.max(*end);
        }
        if at < range.end {
            holes.push(at..range.end);
        }
        holes
    }

    /// The members of `range` that are in the set, ascending.
    #[must_use]
    pub fn present_in(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        let mut at = range.start;
        for hole in self.missing_in(range.clone()) {
            if at < hole.start {
                out.push(at..hole.start);
            }
            at = hole.end;
        }
        if at < range.end {
            out.push(at..range.end);
        }
        out
    }

    /// The largest `u` such that all numbers below `u` are members (0 if 0 is not).
    #[must_use]
    pub fn upto(&self) -> u64 {
        self.ranges.first_key_value().map_or(0, |(start, end)| if *start == 0 { *end } else { 0 })
    }

    /// One past the greatest member; 0 when empty.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, end)| *end)
    }
}

impl fmt::Debug for IntervalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Range<u64>> for IntervalSet {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Debug, Clone)]
    enum Op {
        Insert(Range<u64>),
        Remove(Range<u64>),
    }

    fn op() -> impl Strategy<Value = Op> {
        let range = (0_u64..60, 0_u64..12).prop_map(|(s, n)| s..s + n);
        prop_oneof![range.clone().prop_map(Op::Insert), range.prop_map(Op::Remove)]
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(ops in proptest::collection::vec(op(), 0..40), probe in 0_u64..70, n in 0_u64..15) {
            let (mut set, mut model) = (IntervalSet::new(), BTreeSet::new());
            for op in ops {
                match op {
                    Op::Insert(r) => { set.insert(r.clone()); model.extend(r); }
                    Op::Remove(r) => { set.remove(r.clone()); r.for_each(|x| { model.remove(&x); }); }
                }
            }
            prop_assert_eq!(set.iter().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(set.contains(probe), model.contains(&probe));
            prop_assert_eq!(set.covers(probe..probe + n), (probe..probe + n).all(|x| model.contains(&x)));
            let missing: Vec<u64> = set.missing_in(probe..probe + n).into_iter().flatten().collect();
            prop_assert_eq!(missing, (probe..probe + n).filter(|x| !model.contains(x)).collect::<Vec<_>>());
            let present: Vec<u64> = set.present_in(probe..probe + n).into_iter().flatten().collect();
            prop_assert_eq!(present, (probe..probe + n).filter(|x| model.contains(x)).collect::<Vec<_>>());
            prop_assert_eq!(set.upto(), (0..).take_while(|x| model.contains(x)).count() as u64);
            prop_assert!(set.iter().zip(set.iter().skip(1)).all(|(a, b)| a.end < b.start));
        }
    }
}
