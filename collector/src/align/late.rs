//! Late data: stretches of time in which final rows may have other inputs now, and the rows that are done again for it
//! (pure).

use crate::dedup::StreamKey;
use headwater_core::id::DeviceId;
use headwater_core::interval::IntervalSet;
use headwater_core::time::NS_PER_S;
use std::collections::BTreeMap;

/// Stretches kept per device: above it the two nearest are joined, so that a million late rows cost no more than the rows
/// between them.
pub const LATE_SPANS_MAX: usize = 256;
/// Stretches nearer than this are one, ns.
const JOIN_NS: i64 = NS_PER_S;

/// Stretches of UTC by device, ns, sorted and apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LateSpans(BTreeMap<DeviceId, Vec<(i64, i64)>>);

impl LateSpans {
    /// Adds a stretch.
    pub fn add(&mut self, device: &DeviceId, (lo, hi): (i64, i64)) {
        let spans = self.0.entry(device.clone()).or_default();
        let near =
            |span: &(i64, i64)| span.0 <= hi.saturating_add(JOIN_NS) && lo.saturating_sub(JOIN_NS) <= span.1;
        let joined = spans
            .iter()
            .filter(|span| near(span))
            .fold((lo, hi), |sum, span| (sum.0.min(span.0), sum.1.max(span.1)));
        spans.retain(|span| !near(span));
        let at = spans.partition_point(|span| *span < joined);
        spans.insert(at, joined);
        while spans.len() > LATE_SPANS_MAX {
            let gap = |at: &usize| match (spans.get(*at), spans.get(at.saturating_add(1))) {
                (Some(one), Some(next)) => next.0.saturating_sub(one.1),
                _ => i64::MAX,
            };
            let Some(at) = (0..spans.len().saturating_sub(1)).min_by_key(gap) else { break };
            let next = spans.remove(at.saturating_add(1));
            if let Some(one) = spans.get_mut(at) {
                one.1 = one.1.max(next.1);
            }
            metrics::counter!("headwater_align_late_spans_joined_total").increment(1);
        }
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&DeviceId, &(i64, i64))> {
        self.0.iter().flat_map(|(device, spans)| spans.iter().map(move |span| (device, span)))
    }
}

/// Final rows that are done again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redo(BTreeMap<StreamKey, IntervalSet>);

impl Redo {
    /// Notes a row.
    pub fn add(&mut self, key: &StreamKey, seq: u64) {
        self.0.entry(key.clone()).or_default().insert(seq..seq.saturating_add(1));
    }

    /// It is done.
    pub fn done(&mut self, key: &StreamKey, seq: u64) {
        if let Some(rows) = self.0.get_mut(key) {
            rows.remove(seq..seq.saturating_add(1));
            if rows.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// True if a row is to be done again.
    #[must_use]
    pub fn contains(&self, key: &StreamKey, seq: u64) -> bool {
        self.0.get(key).is_some_and(|rows| rows.contains(seq))
    }

    /// Number of rows.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().map(IntervalSet::count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_late_rows_are_a_bounded_number_of_stretches_that_hold_them_all() {
        let device: DeviceId = "pi-1".parse().unwrap();
        let mut spans = LateSpans::default();
        // Every tenth second of days, in no order.
        let at = |n: i64| (n * 7_919) % 100_000 * 10 * NS_PER_S;
        for n in 0..1_000_000 {
            if n % 50 == 0 {
                spans.add(&device, (at(n), at(n) + 5));
            }
        }
        let all: Vec<(i64, i64)> = spans.iter().map(|(_, span)| *span).collect();
        assert!(all.len() <= LATE_SPANS_MAX && all.is_sorted() && all.windows(2).all(|w| w[0].1 < w[1].0));
        for n in (0..1_000_000).step_by(5_000) {
            assert!(all.iter().any(|span| span.0 <= at(n) && at(n) + 5 <= span.1), "{n}");
        }
    }

    #[test]
    fn near_stretches_are_one() {
        let device: DeviceId = "pi-1".parse().unwrap();
        let mut spans = LateSpans::default();
        for span in [(0, 10), (30 * NS_PER_S, 31 * NS_PER_S), (20, 30), (29 * NS_PER_S, 30 * NS_PER_S)] {
            spans.add(&device, span);
        }
        let all: Vec<(i64, i64)> = spans.iter().map(|(_, span)| *span).collect();
        assert_eq!(all, [(0, 30), (29 * NS_PER_S, 31 * NS_PER_S)]);
    }
}
