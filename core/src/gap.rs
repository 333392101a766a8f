//! Why captures are missing: the reasons a gap record can give, and the record itself.
//!
//! A missing seq is always explained (invariant D2). Gap records are rows of the built-in stream
//! `hw/gaps`; this module gives them a type and maps them to and from row values.

use crate::id::{BootOrdinal, Seq, StreamName};
use crate::sample::Value;
use crate::time::BootNanos;
use std::ops::Range;

macro_rules! reasons {
    ($( $reason:literal $name:literal { $( $detail:literal $cause:literal $variant:ident $(#[$doc:meta])* ),* $(,)? } )*) => {
        /// Reason and cause of a gap; `(reason, detail)` are the wire codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum GapCause { $($( $(#[$doc])* $variant, )*)* }
        impl GapCause {
            /// Wire codes (reason, detail).
            #[must_use]
            pub fn codes(self) -> (u8, u8) {
                match self { $($( Self::$variant => ($reason, $detail), )*)* }
            }
            /// Reads wire codes.
            #[must_use]
            pub fn from_codes(reason: u8, detail: u8) -> Option<Self> {
                match (reason, detail) { $($( ($reason, $detail) => Some(Self::$variant), )*)* _ => None }
            }
            /// Reason as tables show it.
            #[must_use]
            pub fn reason(self) -> &'static str {
                match self { $($( Self::$variant => $name, )*)* }
            }
            /// Cause as tables show it.
            #[must_use]
            pub fn cause(self) -> &'static str {
                match self { $($( Self::$variant => $cause, )*)* }
            }
            /// Every cause there is.
            pub const ALL: &'static [GapCause] = &[ $($( Self::$variant, )*)* ];
        }
    };
}

reasons! {
    1 "evicted" {
        1 "policy" EvictedPolicy /** Dropped by the retention policy. */,
        2 "thinned" EvictedThinned /** Every `stride`-th row (from `phase`) was kept. */,
        3 "disk_full" EvictedDiskFull /** No room for it. */,
        4 "operator" EvictedOperator /** Dropped by hand. */,
    }
    2 "never_captured" {
        1 "overrun" Overrun /** A bounded queue was full. */,
        2 "link_dropped" LinkDropped /** The attached device said it dropped it. */,
        3 "link_corrupt" LinkCorrupt /** It was damaged on the serial line. */,
        4 "device_reset" DeviceReset /** The attached device restarted. */,
        5 "source_down" SourceDown /** The source was away. */,
    }
    3 "lost" {
        1 "torn_tail" TornTail /** The end of a segment was torn off. */,
        2 "corrupt" Corrupt /** A stored record failed its check. */,
        3 "media_error" MediaError /** The medium could not be read. */,
    }
    4 "rejected" {
        1 "schema" RejectedSchema /** It did not fit its schema. */,
        2 "limit" RejectedLimit /** It broke a limit. */,
        3 "quarantine" RejectedQuarantine /** It was set aside with its reason. */,
    }
    5 "unknown" {
        0 "unknown" Unknown /** Declared by the collector only. */,
    }
}

/// Seqs one thinned record may span: each of its holes is a range to be kept by whoever reads it.
pub const THINNED_ROWS_MAX: u64 = 1 << 20;

/// A run of seqs of one stream that will never arrive, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRecord {
    /// The stream with the hole.
    pub stream: StreamName,
    /// Boot in which it arose.
    pub boot_ordinal: BootOrdinal,
    /// First missing seq.
    pub seq_first: Seq,
    /// Last missing seq (inclusive).
    pub seq_last: Seq,
    /// Why.
    pub cause: GapCause,
    /// Thinning stride; 0 if none.
    pub stride: u32,
    /// Thinning phase; 0 if none.
    pub phase: u32,
    /// Rows missing.
    pub rows: u64,
    /// Bytes missing, if known.
    pub bytes: u64,
    /// Boot time from which rows are missing.
    pub b_first: BootNanos,
    /// Boot time up to which rows are missing.
    pub b_last: BootNanos,
    /// Version of the policy that decided it; 0 if none.
    pub policy_version: u32,
    /// What happened, for a person; at most 256 bytes.
    pub note: String,
}

/// Longest note of a gap record, bytes.
pub const GAP_NOTE_BYTES_MAX: usize = 256;

impl GapRecord {
    /// The row of stream `hw/gaps`, fields in the order of [`crate::schema::builtin::gaps`].
    #[must_use]
    pub fn to_values(&self) -> Vec<Value> {
        let (reason, detail) = self.cause.codes();
        let int = |n: u64| Value::I64(n.cast_signed());
        vec![
            Value::Utf8(self.stream.as_str().to_owned()),
            int(u64::from(self.boot_ordinal.0)),
            int(self.seq_first.0),
            int(self.seq_last.0),
            int(u64::from(reason)),
            int(u64::from(detail)),
            int(u64::from(self.stride)),
            int(u64::from(self.phase)),
            int(self.rows),
            int(self.bytes),
            Value::I64(self.b_first.0),
            Value::I64(self.b_last.0),
            int(u64::from(self.policy_version)),
            Value::Utf8(truncated(&self.note, GAP_NOTE_BYTES_MAX)),
        ]
    }

    /// The runs of seqs it explains: [`explained`].
    pub fn explained(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let seqs = self.seq_first.0..self.seq_last.0.saturating_add(1);
        explained(seqs, self.stride.into(), self.phase.into())
    }

    /// Reads a row of `hw/gaps`; `None` if it is not one, or claims more than one record may.
    #[must_use]
    pub fn from_values(values: &[Value]) -> Option<Self> {
        let int = |i: usize| match values.get(i) {
            Some(Value::I64(n)) => Some(*n),
            _ => None,
        };
        let small = |i: usize| int(i).and_then(|n| u32::try_from(n).ok());
        let text = |i: usize| match values.get(i) {
            Some(Value::Utf8(text)) => Some(text.as_str()),
            _ => None,
        };
        let seqs = (Seq(int(2)?.cast_unsigned()), Seq(int(3)?.cast_unsigned()));
        let rows = seqs.1.0.checked_sub(seqs.0.0)?;
        let stride = small(6)?;
        if seqs.1.0 >= crate::batch::SEQ_END_MAX || (stride >= 2 && rows >= THINNED_ROWS_MAX) {
            return None;
        }
        Some(Self {
            stream: text(0)?.parse().ok()?,
            boot_ordinal: BootOrdinal(small(1)?),
            seq_first: seqs.0,
            seq_last: seqs.1,
            cause: GapCause::from_codes(u8::try_from(int(4)?).ok()?, u8::try_from(int(5)?).ok()?)?,
            stride,
            phase: small(7)?,
            rows: int(8)?.cast_unsigned(),
            bytes: int(9)?.cast_unsigned(),
            b_first: BootNanos(int(10)?),
            b_last: BootNanos(int(11)?),
            policy_version: small(12)?,
            note: text(13)?.to_owned(),
        })
    }
}

/// The runs of `seqs` that a gap record explains. Of a thinned run (`stride` ≥ 2) every `stride`-th seq from
/// `phase` on was kept, and those are not explained: their rows are still to come.
pub fn explained(seqs: Range<u64>, stride: u64, phase: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let mut from = seqs.start;
    let mut kept = if stride < 2 { seqs.end } else { seqs.start.saturating_add(phase) };
    std::iter::from_fn(move || {
        while from < seqs.end {
            let run = from..kept.min(seqs.end);
            from = kept.saturating_add(1);
            kept = kept.saturating_add(stride);
            if !run.is_empty() {
                return Some(run);
            }
        }
        None
    })
}

/// `text` cut to at most `bytes_max` bytes at a character border.
#[must_use]
pub fn truncated(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_record_explains_what_was_not_kept() {
        let runs = |seqs, stride, phase| explained(seqs, stride, phase).collect::<Vec<_>>();
        assert_eq!(runs(10..20, 0, 0), vec![10_u64..20]);
        assert_eq!(runs(10..20, 4, 1), [10..11, 12..15, 16..19]);
        assert_eq!(runs(10..20, 4, 0), [11..14, 15..18, 19..20]);
        assert_eq!(runs(10..12, 2, 5), vec![10_u64..12]);
    }

    #[test]
    fn a_record_that_claims_too_much_is_none() {
        let mut record = GapRecord {
            stream: "imu".parse().unwrap(),
            boot_ordinal: BootOrdinal(1),
            seq_first: Seq(0),
            seq_last: Seq(1 << 62),
            cause: GapCause::Overrun,
            stride: 0,
            phase: 0,
            rows: 1,
            bytes: 0,
            b_first: BootNanos(0),
            b_last: BootNanos(0),
            policy_version: 0,
            note: String::new(),
        };
        assert!(GapRecord::from_values(&record.to_values()).is_some(), "one run, however long");
        record.stride = 2;
        assert!(GapRecord::from_values(&record.to_values()).is_none(), "2^61 holes");
        record.seq_last = Seq(THINNED_ROWS_MAX - 1);
        assert!(GapRecord::from_values(&record.to_values()).is_some());
        (record.stride, record.seq_last) = (0, Seq(u64::MAX >> 1));
        assert!(GapRecord::from_values(&record.to_values()).is_some());
        record.seq_last = Seq(1 << 63);
        assert!(GapRecord::from_values(&record.to_values()).is_none(), "beyond what seqs may be");
    }

    #[test]
    fn every_cause_round_trips_through_its_codes() {
        for cause in GapCause::ALL {
            let (reason, detail) = cause.codes();
            assert_eq!(GapCause::from_codes(reason, detail), Some(*cause));
        }
        assert_eq!(GapCause::from_codes(9, 9), None);
    }

    #[test]
    fn a_record_is_a_row_and_back() {
        let record = GapRecord {
            stream: "camera/front".parse().unwrap(),
            boot_ordinal: BootOrdinal(3),
            seq_first: Seq(10),
            seq_last: Seq(12),
            cause: GapCause::LinkCorrupt,
            stride: 0,
            phase: 0,
            rows: 3,
            bytes: 0,
            b_first: BootNanos(5),
            b_last: BootNanos(9),
            policy_version: 0,
            note: "é".repeat(200),
        };
        let back = GapRecord::from_values(&record.to_values()).unwrap();
        assert_eq!(back.note.len(), 256);
        assert_eq!(GapRecord { note: record.note.clone(), ..back }, record);
        assert_eq!(GapRecord::from_values(&[]), None);
    }
}
