//! Rows that came later than a recipe allows, on their way to its table of late rows: which seqs, and when they came (pure).

use crate::dedup::StreamKey;
use headwater_core::interval::IntervalSet;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Runs kept per recipe, 32 bytes each. Rows that come beside each other are one, so that a million late rows are a few; what
/// is beyond is counted, and found in the ledger at the next start.
pub const LATE_RUNS_MAX: usize = 262_144;

/// Seqs that came together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateRun {
    /// Which.
    pub seqs: Range<u64>,
    /// When the collector committed them, UTC µs.
    pub arrived_us: i64,
}

/// What came too late, by stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LateRows {
    runs: BTreeMap<StreamKey, VecDeque<LateRun>>,
    count: usize,
}

impl LateRows {
    /// Notes seqs.
    pub fn add(&mut self, key: &StreamKey, seqs: Range<u64>, arrived_us: i64) {
        if seqs.is_empty() {
            return;
        }
        let runs = self.runs.entry(key.clone()).or_default();
        if let Some(last) =
            runs.back_mut().filter(|last| last.seqs.end == seqs.start && last.arrived_us == arrived_us)
        {
            last.seqs.end = seqs.end;
            return;
        }
        if self.count >= LATE_RUNS_MAX {
            let left = seqs.end.saturating_sub(seqs.start);
            metrics::counter!("headwater_align_late_rows_put_off_total").increment(left);
            return;
        }
        self.count = self.count.saturating_add(1);
        runs.push_back(LateRun { seqs, arrived_us });
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The next runs of one stream, at most so many rows of them: to be written, and then [`LateRows::done`].
    #[must_use]
    pub fn next(&self, rows_max: u64) -> Option<(StreamKey, Vec<LateRun>)> {
        let (key, runs) = self.runs.iter().find(|(_, runs)| !runs.is_empty())?;
        let (mut taken, mut left) = (Vec::new(), rows_max.max(1));
        for run in runs {
            let end = run.seqs.end.min(run.seqs.start.saturating_add(left));
            left = left.saturating_sub(end.saturating_sub(run.seqs.start));
            taken.push(LateRun { seqs: run.seqs.start..end, arrived_us: run.arrived_us });
            if left == 0 {
                break;
            }
        }
        Some((key.clone(), taken))
    }

    /// These are in the lake.
    pub fn done(&mut self, key: &StreamKey, written: &[LateRun]) {
        let Some(runs) = self.runs.get_mut(key) else { return };
        for run in written {
            if let Some(first) = runs.front_mut().filter(|first| first.seqs.start == run.seqs.start) {
                first.seqs.start = run.seqs.end;
            }
            if runs.front().is_some_and(|first| first.seqs.is_empty()) {
                runs.pop_front();
                self.count = self.count.saturating_sub(1);
            }
        }
        if runs.is_empty() {
            self.runs.remove(key);
        }
    }

    /// Runs in the order of their seqs, each seq in the first that has it.
    #[must_use]
    pub fn sorted(runs: &[LateRun]) -> Vec<LateRun> {
        let mut sorted = runs.to_vec();
        sorted.sort_by_key(|run| (run.seqs.start, run.seqs.end));
        let mut upto = 0;
        for run in &mut sorted {
            run.seqs.start = run.seqs.start.max(upto);
            upto = upto.max(run.seqs.end);
        }
        sorted.retain(|run| !run.seqs.is_empty());
        sorted
    }

    /// When a seq of [`LateRows::sorted`] runs came; none if it is not of them, or is known.
    #[must_use]
    pub fn arrived(sorted: &[LateRun], known: &IntervalSet, seq: u64) -> Option<i64> {
        let at = sorted.partition_point(|run| run.seqs.start <= seq);
        let run = sorted.get(at.checked_sub(1)?).filter(|run| run.seqs.contains(&seq))?;
        (!known.contains(seq)).then_some(run.arrived_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(stream: &str) -> StreamKey {
        StreamKey {
            device: "pi-1".parse().unwrap(),
            epoch: headwater_core::id::Epoch(7),
            stream: stream.parse().unwrap(),
        }
    }

    #[test]
    fn a_million_rows_that_came_beside_each_other_are_one_run_and_go_in_pieces() {
        let mut late = LateRows::default();
        (0..1_000_000).for_each(|seq| late.add(&key("imu"), seq..seq + 1, 5));
        late.add(&key("imu"), 2_000_000..2_000_001, 6);
        assert_eq!(late.count, 2);
        let mut rows = 0;
        while let Some((key, runs)) = late.next(300_000) {
            let taken: u64 = runs.iter().map(|run| run.seqs.end - run.seqs.start).sum();
            assert!(taken <= 300_000);
            rows += taken;
            late.done(&key, &runs);
        }
        assert!(late.is_empty() && rows == 1_000_001);
    }

    #[test]
    fn scattered_rows_are_bounded_and_what_is_there_is_not_written_again() {
        let mut late = LateRows::default();
        (0..LATE_RUNS_MAX as u64 + 10).for_each(|n| late.add(&key("imu"), 2 * n..2 * n + 1, 5));
        assert_eq!(late.count, LATE_RUNS_MAX);
        let run = |seqs, arrived_us| LateRun { seqs, arrived_us };
        let runs = LateRows::sorted(&[run(4..6, 9), run(3..6, 9), run(4..5, 9)]);
        assert_eq!(runs, [run(3..6, 9)]);
        let known: IntervalSet = std::iter::once(4..5).collect();
        let arrived = [2, 3, 4, 5, 6].map(|seq| LateRows::arrived(&runs, &known, seq));
        assert_eq!(arrived, [None, Some(9), None, Some(9), None]);
    }
}
