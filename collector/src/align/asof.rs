//! As-of matching: the newest sample of a column at or before an instant, and whether any other could still come.
//!
//! Samples stand in the order (boot ordinal, event time, seq) that no wall clock can disturb (A2). Within a boot the
//! distance of two rows is one of boot time, exact to the capture latencies; across boots it is one of resolved UTC.

use super::promise::Promise;
use crate::commit::cells::Cell;
use crate::dedup::{Ledger, StreamKey};
use headwater_core::id::BootOrdinal;
use headwater_core::time::Grade;
use std::collections::BTreeMap;

/// Flag bits of a source struct: no sample before the instant.
pub const FLAG_NONE: i32 = 1;
/// The newest sample lies beyond the tolerance.
pub const FLAG_TOLERANCE: i32 = 2;
/// The match may lie after the instant in truth: its distance is smaller than its uncertainty.
pub const FLAG_AMBIGUOUS: i32 = 8;
/// The match is from an earlier boot.
pub const FLAG_CROSS_BOOT: i32 = 128;
/// The match's own time is ordering_only.
pub const FLAG_LOW_GRADE: i32 = 256;
/// Samples between the match and the instant are recorded as missing.
pub const FLAG_GAP: i32 = 512;

/// Samples kept per column and device: half an hour of a 250 Hz sensor. A spine row older than what was let go is
/// aligned from the raw tables instead.
pub const COLUMN_SAMPLES_MAX: usize = 500_000;

/// A place on a boot line; orders the samples of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Boot.
    pub boot: BootOrdinal,
    /// Event time, boot ns.
    pub event_ns: i64,
    /// Tie-break: of equal times the last wins.
    pub seq: u64,
}

/// When something was, on both lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// On the boot line.
    pub place: Place,
    /// Half width of the event, from the capture latency, ns.
    pub half_ns: i64,
    /// Resolved UTC, ns.
    pub ts_ns: i64,
    /// Its half width (`half_ns` included), ns.
    pub err_ns: i64,
    /// Its grade.
    pub grade: Grade,
}

/// One sample of a column.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// The selected fields.
    pub values: Vec<Cell>,
}

impl Sample {
    fn is_null(&self) -> bool {
        self.values.iter().all(|value| *value == Cell::Null)
    }
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The sample.
    pub seq: Option<u64>,
    /// Event time of the sample minus that of the spine row, ns: negative for an earlier sample.
    pub dt_ns: Option<i64>,
    /// Uncertainty of that distance, ns.
    pub err_ns: Option<i64>,
    /// Flag bits.
    pub flag: i32,
}

/// dt and its uncertainty from `right` up to `left`, ns, and whether they are of one boot.
#[must_use]
pub fn distance(left: &Instant, right: &Instant) -> (i64, i64, bool) {
    if left.place.boot == right.place.boot {
        let dt = left.place.event_ns.saturating_sub(right.place.event_ns);
        let drift = headwater_core::time::clamp_i64(headwater_core::time::cone::drift_ns(dt.into()));
        (dt, left.half_ns.saturating_add(right.half_ns).saturating_add(drift), true)
    } else {
        (left.ts_ns.saturating_sub(right.ts_ns), left.err_ns.saturating_add(right.err_ns), false)
    }
}

/// What one column of one device holds.
#[derive(Debug, Clone, Default)]
pub struct ColumnSamples {
    samples: BTreeMap<Place, Sample>,
    promise: Option<Promise>,
    /// Newest sample that was let go.
    dropped: Option<Place>,
    /// Oldest sample after those held, when they are only a stretch of the raw table.
    beyond: Option<Place>,
}

impl ColumnSamples {
    /// Adds a sample.
    pub fn add(&mut self, sample: Sample) {
        self.samples.insert(sample.at.place, sample);
    }

    /// Notes a promise.
    pub fn promise(&mut self, promise: Promise) {
        if self.promise.is_none_or(|known| promise.is_after(&known)) {
            self.promise = Some(promise);
        }
    }

    /// Number of samples held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// True without samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Newest sample that was let go: nothing can be said of instants whose window reaches below it.
    #[must_use]
    pub fn dropped(&self) -> Option<Place> {
        self.dropped
    }

    /// Notes a sample of the raw tables that is older than what is held here: it counts as let go.
    pub fn before(&mut self, place: Place) {
        self.dropped = self.dropped.max(Some(place));
    }

    /// Notes a sample of the raw tables that is later than what is held here: it ends what must be complete.
    pub fn beyond(&mut self, place: Place) {
        if self.beyond.is_none_or(|known| place < known) {
            self.beyond = Some(place);
        }
    }

    /// Lets the oldest go above `max`.
    pub fn trim(&mut self, max: usize) {
        while self.samples.len() > max {
            if let Some((place, _)) = self.samples.pop_first() {
                self.dropped = self.dropped.max(Some(place));
            }
        }
    }

    /// True if no sample at or before `at` can still come that would match it: every seq from the match up to the first
    /// one known to be later is held or declared missing.
    #[must_use]
    pub fn covers(&self, at: &Instant, ledger: &Ledger, key: &StreamKey) -> bool {
        let last = Place { seq: u64::MAX, ..at.place };
        let after = self.samples.range(last..).next().map(|(place, _)| place.seq);
        let beyond = self.beyond.filter(|beyond| *beyond > last).map(|beyond| beyond.seq);
        let promised = self
            .promise
            .filter(|promise| (promise.boot, promise.promise_b.0) > (at.place.boot, at.place.event_ns));
        let promised = promised.map(|promise| promise.next_seq.0);
        let Some(end) = after.into_iter().chain(beyond).chain(promised).min() else {
            return false;
        };
        // From the match on, not from the newest sample: that one may hold nothing but nulls.
        let found = self.newest(last).map(|sample| sample.at.place);
        let from = found.max(self.dropped).map_or(0, |place| place.seq.saturating_add(1));
        from >= end || ledger.accounts_for(key, from..end)
    }

    fn newest(&self, last: Place) -> Option<&Sample> {
        self.samples.range(..=last).rev().map(|(_, sample)| sample).find(|sample| !sample.is_null())
    }

    /// The newest sample at or before `at` whose values are not all null, judged by `tolerance_ns` (inclusive).
    #[must_use]
    pub fn previous(
        &self,
        at: &Instant,
        tolerance_ns: i64,
        ledger: &Ledger,
        key: &StreamKey,
    ) -> (Option<&Sample>, Source) {
        let last = Place { seq: u64::MAX, ..at.place };
        let found =
            self.samples.range(..=last).rev().map(|(_, sample)| sample).find(|sample| !sample.is_null());
        let Some(sample) = found else {
            return (None, Source { seq: None, dt_ns: None, err_ns: None, flag: FLAG_NONE });
        };
        let (dt, err, same_boot) = distance(at, &sample.at);
        let seq = sample.at.place.seq;
        let next = self.samples.range(last..).next().map(|(place, _)| place.seq);
        let mut flag = 0;
        if dt < err {
            flag |= FLAG_AMBIGUOUS;
        }
        if !same_boot {
            flag |= FLAG_CROSS_BOOT;
        }
        if sample.at.grade == Grade::OrderingOnly {
            flag |= FLAG_LOW_GRADE;
        }
        // Up to the newest sample at or before the instant: what comes after it says nothing of the match.
        let newest = self.samples.range(..=last).next_back().map_or(seq, |(place, _)| place.seq);
        let up_to = next.map_or(newest, |next| next.max(newest));
        if ledger.has_gap_in(key, seq..up_to) {
            flag |= FLAG_GAP;
        }
        let source = Source { seq: Some(seq), dt_ns: Some(dt.saturating_neg()), err_ns: Some(err), flag };
        // Resolved times of two boots may overlap within their errors: a negative distance is as far off as it says.
        if dt.unsigned_abs() > tolerance_ns.unsigned_abs() {
            return (None, Source { seq: None, dt_ns: None, err_ns: None, flag: flag | FLAG_TOLERANCE });
        }
        (Some(sample), source)
    }
}
