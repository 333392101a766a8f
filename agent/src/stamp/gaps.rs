//! Gap records on their way to `hw/gaps`: neighbours become one, so that a flood of losses stays small.

use headwater_core::gap::GapRecord;
use std::collections::VecDeque;

/// Records kept apart before neighbours must do: 256 streams with a few causes each.
const APART_MAX: usize = 4_096;

/// The queue.
#[derive(Debug, Default)]
pub struct GapQueue {
    records: VecDeque<GapRecord>,
    /// Records that found no place of their own and none to join.
    dropped: u64,
}

impl GapQueue {
    /// Takes a record; joins it with the newest one of its stream if they touch and agree.
    pub fn push(&mut self, record: GapRecord) {
        let full = self.records.len() >= APART_MAX;
        let newest = self.records.iter_mut().rev().find(|kept| kept.stream == record.stream);
        match newest {
            Some(kept) if joins(kept, &record) => {
                kept.seq_last = record.seq_last;
                kept.rows = kept.rows.saturating_add(record.rows);
                kept.bytes = kept.bytes.saturating_add(record.bytes);
                kept.b_last = record.b_last;
            }
            _ if !full => self.records.push_back(record),
            // Told in the log; the collector still sees the hole and asks, and finds it `unknown`.
            _ => {
                self.dropped = self.dropped.saturating_add(1);
                tracing::error!(stream = %record.stream, first = record.seq_first.0, last = record.seq_last.0,
                    "gap record dropped: too many wait for room in the spool");
            }
        }
    }

    /// The oldest record.
    pub fn pop(&mut self) -> Option<GapRecord> {
        self.records.pop_front()
    }

    /// True if none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

fn joins(kept: &GapRecord, next: &GapRecord) -> bool {
    kept.seq_last.plus(1) == next.seq_first
        && (kept.cause, kept.boot_ordinal, kept.stride, kept.policy_version)
            == (next.cause, next.boot_ordinal, next.stride, next.policy_version)
        && kept.stride == 0
        && kept.note == next.note
}
