//! What the gateway itself believed of UTC in each boot, from its `hw/clock` rows: good enough to choose rows by the
//! time of day, never the truth of when something was captured.

use super::segment::Frame;
use super::survey::Card;
use headwater_core::batch::Rows;
use headwater_core::id::{BootOrdinal, Epoch, StreamId};
use headwater_core::sample::Value;
use headwater_core::schema::{Fingerprint, Logical, Schema, builtin};
use std::collections::BTreeMap;

/// UTC less boot time, ns, by life and boot: of the newest reading.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<(Epoch, BootOrdinal), i64>);

/// Schemas of clock rows by fingerprint, each as an agent of some version declared it on the card.
type Forms = BTreeMap<Fingerprint, Form>;

/// Where a form of clock rows has what is read of them: fields are known by name, codes by the names of enumerations.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Form {
    row_kind: usize,
    sample: i64,
    b1: usize,
    real: usize,
    b2: usize,
    source: usize,
    /// Samples of a hardware clock show what that shows, not what the gateway believed.
    ptp: Option<i64>,
}

impl Form {
    fn of(schema: &Schema) -> Option<Self> {
        let place = |name: &str| schema.fields.iter().position(|field| field.name.as_str() == name);
        let code = |field: usize, name: &str| match &schema.fields.get(field)?.logical {
            Logical::Enum(names) => i64::try_from(names.iter().position(|n| n == name)?).ok(),
            _ => None,
        };
        let (row_kind, source) = (place("row_kind")?, place("source")?);
        Some(Self {
            row_kind,
            sample: code(row_kind, "sample")?,
            b1: place("b1")?,
            real: place("real")?,
            b2: place("b2")?,
            source,
            ptp: code(source, "ptp"),
        })
    }
}

impl Clocks {
    #[cfg(test)]
    pub(super) fn of(known: impl IntoIterator<Item = ((Epoch, BootOrdinal), i64)>) -> Self {
        Self(known.into_iter().collect())
    }

    /// Goes through the segments that hold clock rows.
    pub(super) fn read(card: &Card) -> Self {
        let names = card.names();
        let mut forms = Forms::new();
        let declared = card.segments.iter().flat_map(|segment| segment.declared.values());
        let of_clocks = declared.filter(|declared| declared.name.as_str() == builtin::CLOCK_STREAM);
        // A segment whose declarations are damaged is read by those of the others, or by ours.
        for schema in of_clocks.map(|declared| &declared.schema).chain([&builtin::clock()]) {
            if let Some(form) = Form::of(schema) {
                forms.insert(schema.fingerprint(), form);
            }
        }
        let mut clocks = Self::default();
        for segment in &card.segments {
            let epoch = segment.summary.epoch;
            let is_clock = |id: &StreamId| {
                names.get(&(epoch, *id)).is_some_and(|(name, _)| name.as_str() == builtin::CLOCK_STREAM)
            };
            if !segment.summary.streams.keys().any(is_clock) {
                continue;
            }
            // One that cannot be read tells nothing of its clock; whoever reads its rows reports it.
            let read = segment.go_through(|_, _, frame| {
                if let Frame::Slab(slab) = frame
                    && let Some(form) = forms.get(&slab.rows.fingerprint)
                {
                    clocks.learn(epoch, &slab.rows, form);
                }
            });
            if let Err(error) = read {
                tracing::debug!(%error, segment = segment.name(), "clock rows cannot be read");
            }
        }
        clocks
    }

    fn learn(&mut self, epoch: Epoch, rows: &Rows, form: &Form) {
        for row in 0..rows.len() {
            let int = |field: usize| match rows.fields.get(field).map(|column| column.value(row)) {
                Some(Value::I64(n)) => Some(n),
                _ => None,
            };
            let own = int(form.row_kind) == Some(form.sample)
                && (form.ptp.is_none() || int(form.source) != form.ptp);
            if let (true, Some(b1), Some(real), Some(b2)) = (own, int(form.b1), int(form.real), int(form.b2))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_name_in_every_form() {
        let now = builtin::clock();
        let form = Form::of(&now).unwrap();
        assert_eq!((form.row_kind, form.b1, form.real, form.b2, form.sample), (0, 1, 2, 3, 1));
        assert!(form.ptp.is_some());
        let mut moved = now.clone();
        moved.fields.reverse();
        let last = now.fields.len() - 1;
        assert_eq!(Form::of(&moved).unwrap().b1, last - 1);
        moved.fields.retain(|field| field.name.as_str() != "real");
        assert_eq!(Form::of(&moved), None, "of another kind");
    }
}
