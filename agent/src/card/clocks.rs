//! What the gateway itself believed of UTC in each boot, from its `hw/clock` rows: good enough to choose rows by the
//! time of day, never the truth of when something was captured.

use super::segment::Frame;
use super::survey::Card;
use headwater_core::batch::Rows;
use headwater_core::id::{BootOrdinal, Epoch};
use headwater_core::sample::Value;
use headwater_core::schema::{Fingerprint, builtin};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// UTC less boot time, ns, by life and boot: of the newest reading.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<(Epoch, BootOrdinal), i64>);

/// Places of the fields that are read, in the order of [`builtin::clock`].
const ROW_KIND: usize = 0;
const B1: usize = 1;
const REAL: usize = 2;
const B2: usize = 3;
/// Code of a reading of the gateway's own clock.
const KIND_SAMPLE: i64 = 1;

impl Clocks {
    #[cfg(test)]
    pub(super) fn of(known: impl IntoIterator<Item = ((Epoch, BootOrdinal), i64)>) -> Self {
        Self(known.into_iter().collect())
    }

    /// Goes through the segments that hold clock rows.
    pub(super) fn read(card: &Card) -> Self {
        let names = card.names();
        let mut clocks = Self::default();
        for segment in &card.segments {
            let epoch = segment.summary.epoch;
            let is_clock = |id: &headwater_core::id::StreamId| {
                names.get(&(epoch, *id)).is_some_and(|(name, _)| name.as_str() == builtin::CLOCK_STREAM)
            };
            if !segment.summary.streams.keys().any(is_clock) {
                continue;
            }
            // One that cannot be read tells nothing of its clock; whoever reads its rows reports it.
            let read = segment.go_through(|_, _, frame| {
                if let Frame::Slab(slab) = frame {
                    clocks.learn(epoch, &slab.rows);
                }
            });
            if let Err(error) = read {
                tracing::debug!(%error, segment = segment.name(), "clock rows cannot be read");
            }
        }
        clocks
    }

    fn learn(&mut self, epoch: Epoch, rows: &Rows) {
        static CLOCK: LazyLock<Fingerprint> = LazyLock::new(|| builtin::clock().fingerprint());
        if rows.fingerprint != *CLOCK {
            return;
        }
        for row in 0..rows.len() {
            let int = |field: usize| match rows.fields.get(field).map(|column| column.value(row)) {
                Some(Value::I64(n)) => Some(n),
                _ => None,
            };
            if let (Some(KIND_SAMPLE), Some(b1), Some(real), Some(b2)) =
                (int(ROW_KIND), int(B1), int(REAL), int(B2))
            {
                let middle = b1.saturating_add(b2.saturating_sub(b1) / 2);
                self.0.insert((epoch, rows.boot_ordinal), real.saturating_sub(middle));
            }
        }
    }

    /// UTC less boot time, ns.
    pub(super) fn offset(&self, epoch: Epoch, boot: BootOrdinal) -> Option<i64> {
        self.0.get(&(epoch, boot)).copied()
    }
}
