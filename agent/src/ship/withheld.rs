//! Rows that fit no message of this broker: they stay in the spool, and are tried again once a larger limit holds.

use crate::batch::{Withheld, WithheldWhy};
use headwater_core::batch::StreamRef;
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::wire::ENVELOPE_BYTES;
use std::collections::BTreeMap;

/// What a broker's limit keeps back. As many ranges as there are such rows at most, beside the same ranges of what is
/// taken from the spool.
#[derive(Debug, Default)]
pub(super) struct TooLargeRows {
    rows: BTreeMap<StreamId, IntervalSet>,
    /// Bytes of the shortest message that any of them needs.
    message_bytes_min: Option<usize>,
}

impl TooLargeRows {
    /// Notes rows that were withheld. What no limit of a broker would let pass is not noted.
    pub(super) fn note(&mut self, withheld: &Withheld) {
        // Nothing found: it is not the limit of a message that is in their way.
        let (WithheldWhy::RowTooLarge { found: found @ 1.., .. }, StreamRef::Id(stream)) =
            (withheld.why, &withheld.stream)
        else {
            return;
        };
        self.rows.entry(*stream).or_default().insert(withheld.seqs.clone());
        let needs = found.saturating_add(ENVELOPE_BYTES);
        self.message_bytes_min = Some(self.message_bytes_min.map_or(needs, |least| least.min(needs)));
    }

    /// All of them, if messages of `message_bytes_max` let any pass; those that still do not fit are noted again.
    pub(super) fn take_if_any_fits(
        &mut self,
        message_bytes_max: usize,
    ) -> Option<BTreeMap<StreamId, IntervalSet>> {
        if self.message_bytes_min.is_none_or(|least| least > message_bytes_max) {
            return None;
        }
        self.message_bytes_min = None;
        Some(std::mem::take(&mut self.rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withheld(stream: StreamRef, seqs: std::ops::Range<u64>, why: WithheldWhy) -> Withheld {
        Withheld { stream, seqs, why }
    }

    #[test]
    fn only_rows_that_a_larger_message_could_hold_come_back_and_only_then() {
        let mut kept = TooLargeRows::default();
        let id = |n| StreamRef::Id(StreamId(n));
        let too_large = |found| WithheldWhy::RowTooLarge { found, limit: 10_000 };
        kept.note(&withheld(id(1), 3..4, too_large(50_000)));
        kept.note(&withheld(id(2), 7..8, too_large(20_000)));
        kept.note(&withheld(id(2), 8..9, WithheldWhy::Codec));
        kept.note(&withheld(id(3), 1..2, too_large(0)));
        assert_eq!(kept.take_if_any_fits(20_000), None, "without room for the envelope");
        let back = kept.take_if_any_fits(20_000 + ENVELOPE_BYTES).unwrap();
        let expected =
            [(StreamId(1), std::iter::once(3..4).collect()), (StreamId(2), std::iter::once(7..8).collect())];
        assert_eq!(back, expected.into());
        assert_eq!(kept.take_if_any_fits(usize::MAX), None, "once");
    }
}
