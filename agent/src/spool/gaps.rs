//! Gap records the spool makes by itself: what it could not keep, told instead of hidden (invariant D2).

use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, Seq, StreamName};
use headwater_core::time::BootNanos;
use std::ops::Range;

/// Most records held until somebody takes them: 256 streams with sixteen each. One more is left to the
/// segments, which tell it at the next start; never is a record widened over rows that are still here, since
/// the collector would take those for settled.
pub const GAPS_HELD_MAX: usize = 4096;

/// Rows that will not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRows {
    /// Whose.
    pub stream: StreamName,
    /// In which boot.
    pub boot_ordinal: BootOrdinal,
    /// Which.
    pub seqs: Range<u64>,
    /// Bytes they took, 0 if unknown.
    pub bytes: u64,
    /// Boot times of the first and the last one, 0 if unknown.
    pub span: (BootNanos, BootNanos),
}

/// Records waiting to be taken; neighbours are joined.
#[derive(Debug, Default)]
pub struct GapList {
    records: Vec<GapRecord>,
}

impl GapList {
    /// Adds a gap; an empty range adds nothing.
    pub fn record(&mut self, rows: LostRows, cause: GapCause, note: &str) {
        let Some(last) = rows.seqs.end.checked_sub(1).filter(|last| *last >= rows.seqs.start) else { return };
        let crowded = self.records.len() >= GAPS_HELD_MAX;
        let neighbour = self.records.iter_mut().rev().find(|known| {
            known.stream == rows.stream
                && known.boot_ordinal == rows.boot_ordinal
                && known.seq_last.plus(1).0 == rows.seqs.start
                && known.stride < 2
                && (crowded || known.cause == cause)
        });
        if let Some(known) = neighbour {
            known.seq_last = Seq(known.seq_last.0.max(last));
            known.rows = known.seq_last.0.saturating_sub(known.seq_first.0).saturating_add(1);
            known.bytes = known.bytes.saturating_add(rows.bytes);
            known.b_last = BootNanos(known.b_last.0.max(rows.span.1.0));
            return;
        }
        if crowded {
            tracing::error!(stream = %rows.stream, seqs = ?rows.seqs, "too many gap records wait; this one is told at the next start");
            return;
        }
        self.records.push(record_of(&rows, cause, note));
    }

    /// Adds a gap of which every `stride`-th row, from `phase` on, is still here; or, below 2, none. `rows` of it are
    /// new: the others are told already, or the collector has them.
    pub fn record_thinned(
        &mut self,
        lost: LostRows,
        cause: GapCause,
        note: &str,
        stride: u32,
        phase: u32,
        rows: u64,
    ) {
        if stride < 2 && lost.seqs.end.saturating_sub(lost.seqs.start) == rows {
            return self.record(lost, cause, note);
        }
        if self.records.len() >= GAPS_HELD_MAX {
            tracing::error!(stream = %lost.stream, seqs = ?lost.seqs, "too many gap records wait; this one is told again");
            return;
        }
        self.records.push(GapRecord { stride, phase, rows, ..record_of(&lost, cause, note) });
    }

    /// Takes records back that could not be stored, before all others; those beyond the bound are told at the
    /// next start.
    pub fn put_back(&mut self, records: Vec<GapRecord>) {
        let room = GAPS_HELD_MAX.saturating_sub(self.records.len());
        if records.len() > room {
            tracing::error!(
                records = records.len(),
                room,
                "gap records could not be stored and are told at the next start"
            );
        }
        self.records.splice(0..0, records.into_iter().take(room));
    }

    /// All of them, oldest first; the list is then empty.
    pub fn take(&mut self) -> Vec<GapRecord> {
        std::mem::take(&mut self.records)
    }

    /// Records waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True without records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

fn record_of(rows: &LostRows, cause: GapCause, note: &str) -> GapRecord {
    GapRecord {
        stream: rows.stream.clone(),
        boot_ordinal: rows.boot_ordinal,
        seq_first: Seq(rows.seqs.start),
        seq_last: Seq(rows.seqs.end.saturating_sub(1)),
        cause,
        stride: 0,
        phase: 0,
        rows: rows.seqs.end.saturating_sub(rows.seqs.start),
        bytes: rows.bytes,
        b_first: rows.span.0,
        b_last: rows.span.1,
        policy_version: 0,
        note: headwater_core::gap::truncated(note, headwater_core::gap::GAP_NOTE_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(seqs: Range<u64>) -> LostRows {
        LostRows {
            stream: "imu".parse().unwrap(),
            boot_ordinal: BootOrdinal(1),
            seqs,
            bytes: 10,
            span: (BootNanos(1), BootNanos(2)),
        }
    }

    #[test]
    fn neighbours_join_and_others_do_not() {
        let mut gaps = GapList::default();
        gaps.record(lost(0..0), GapCause::Corrupt, "");
        gaps.record(lost(0..5), GapCause::Corrupt, "");
        gaps.record(lost(5..9), GapCause::Corrupt, "");
        gaps.record(lost(9..10), GapCause::MediaError, "");
        gaps.record(lost(12..13), GapCause::MediaError, "");
        let taken = gaps.take();
        let ranges: Vec<_> = taken.iter().map(|gap| (gap.seq_first.0, gap.seq_last.0, gap.rows)).collect();
        assert_eq!(ranges, [(0, 8, 9), (9, 9, 1), (12, 12, 1)]);
        assert_eq!(taken[0].bytes, 20);
        assert!(gaps.is_empty());
    }

    #[test]
    fn the_list_is_bounded_and_never_covers_rows_that_are_here() {
        let mut gaps = GapList::default();
        for n in 0..GAPS_HELD_MAX as u64 + 50 {
            gaps.record(lost(n * 2..n * 2 + 1), GapCause::Corrupt, "");
        }
        gaps.record(lost(8_191..8_192), GapCause::MediaError, "");
        assert_eq!(gaps.len(), GAPS_HELD_MAX);
        let taken = gaps.take();
        assert!(taken[..4_095].iter().all(|gap| gap.rows == 1 && gap.seq_first == gap.seq_last));
        let last = taken.last().unwrap();
        assert_eq!((last.seq_first.0, last.seq_last.0), (8_190, 8_191), "neighbours still join");
        gaps.record(lost(1..2), GapCause::Corrupt, "");
        gaps.put_back(taken);
        assert_eq!(gaps.len(), GAPS_HELD_MAX);
        assert_eq!(gaps.take()[0].seq_first.0, 0);
    }
}
