//! Numbers readings: each stream's seq, the boot, and a stamp that never goes back.

use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, Seq, StreamId, StreamName};
use headwater_core::sample::{Reading, StampedSample};
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::{BootNanos, ClockDomain, Latency, Stamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Gives seqs.
#[derive(Debug)]
pub struct Stamper {
    boot: BootOrdinal,
    streams: BTreeMap<StreamName, Stream>,
}

#[derive(Debug)]
struct Stream {
    id: StreamId,
    schema: Arc<Schema>,
    fingerprint: Fingerprint,
    next_seq: Seq,
    newest: BTreeMap<ClockDomain, BootNanos>,
}

/// A reading that became no sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// Nobody declared its stream: it has no seq.
    Undeclared,
    /// Its values do not fit the schema: its seq is in this record.
    Unfit(Box<GapRecord>),
}

impl Stamper {
    /// A stamper of one boot.
    #[must_use]
    pub fn new(boot: BootOrdinal) -> Self {
        Self { boot, streams: BTreeMap::new() }
    }

    /// A stream was declared (again). Its seqs go on where they were, or begin at `next_seq`.
    pub fn declare(&mut self, name: &StreamName, id: StreamId, schema: Schema, next_seq: Seq) {
        let fingerprint = schema.fingerprint();
        let schema = Arc::new(schema);
        let stream = self.streams.entry(name.clone()).or_insert_with(|| Stream {
            id,
            schema: Arc::clone(&schema),
            fingerprint,
            next_seq,
            newest: BTreeMap::new(),
        });
        (stream.id, stream.schema, stream.fingerprint) = (id, schema, fingerprint);
    }

    /// Id, schema and fingerprint of a declared stream.
    #[must_use]
    pub fn stream(&self, name: &StreamName) -> Option<(StreamId, Arc<Schema>, Fingerprint)> {
        self.streams.get(name).map(|s| (s.id, Arc::clone(&s.schema), s.fingerprint))
    }

    /// Next seq of every declared stream.
    pub fn next_seqs(&self) -> impl Iterator<Item = (&StreamName, Seq)> {
        self.streams.iter().map(|(name, stream)| (name, stream.next_seq))
    }

    /// Numbers a reading that came at `came`; true in the second place if its stamp had to be moved.
    ///
    /// # Errors
    /// [`Refused`]; a reading that does not fit has taken its seq.
    pub fn stamp(
        &mut self,
        name: &StreamName,
        reading: Reading,
        came: BootNanos,
    ) -> Result<(StampedSample, bool), Refused> {
        let stream = self.streams.get_mut(name).ok_or(Refused::Undeclared)?;
        let fields = &stream.schema.fields;
        let unfit = if reading.values.len() != fields.len() {
            Some(format!("{} values, the schema has {} fields", reading.values.len(), fields.len()))
        } else if reading.blob.is_some() != stream.schema.blob_field().is_some() {
            Some("an object beside the row, or none, against the schema".to_owned())
        } else if reading.latency.lo_ns > reading.latency.hi_ns {
            Some("least latency above the greatest".to_owned())
        } else {
            fields.iter().zip(&reading.values).find(|(field, value)| !value.fits(field)).map(
                |(field, value)| {
                    let shown: String = format!("{value:?}").chars().take(60).collect();
                    format!("{} is {shown}, which is no {}", field.name, field.logical.name())
                },
            )
        };
        if let Some(note) = unfit {
            return match self.lose(name, 1, GapCause::RejectedSchema, came, note) {
                Some(record) => Err(Refused::Unfit(Box::new(record))),
                None => Err(Refused::Undeclared),
            };
        }
        let (t, latency, moved) =
            forward(reading.t, reading.latency, stream.newest.get(&reading.domain).copied());
        // A device's clock never comes back under its name: the one before is forgotten.
        stream.newest.retain(|domain, _| *domain == ClockDomain::BOOT || *domain == reading.domain);
        stream.newest.insert(reading.domain, t);
        let seq = stream.next_seq;
        stream.next_seq = seq.plus(1);
        let stamp = Stamp { boot_ordinal: self.boot, t, latency, kind: reading.kind, domain: reading.domain };
        let sample =
            StampedSample { stream: stream.id, seq, stamp, values: reading.values, blob: reading.blob };
        Ok((sample, moved))
    }

    /// Gives `rows` seqs to readings that will never come; `None` if there are none or the stream is unknown.
    pub fn lose(
        &mut self,
        name: &StreamName,
        rows: u64,
        cause: GapCause,
        at: BootNanos,
        note: String,
    ) -> Option<GapRecord> {
        let stream = self.streams.get_mut(name).filter(|_| rows > 0)?;
        let seq_first = stream.next_seq;
        stream.next_seq = seq_first.plus(rows);
        let b_first = stream.newest.get(&ClockDomain::BOOT).copied().unwrap_or(at).min(at);
        Some(GapRecord {
            stream: name.clone(),
            boot_ordinal: self.boot,
            seq_first,
            seq_last: seq_first.plus(rows.saturating_sub(1)),
            cause,
            stride: 0,
            phase: 0,
            rows,
            bytes: 0,
            b_first,
            b_last: at,
            policy_version: 0,
            note,
        })
    }
}

/// Rows of one frame and the jitter of arrival can put a stamp before its predecessor's; seq and boot
/// time must order alike (A2). The stamp moves forward and its latency grows by as much: the interval
/// in which the event lies stays exactly the same.
fn forward(t: BootNanos, latency: Latency, newest: Option<BootNanos>) -> (BootNanos, Latency, bool) {
    let Some(newest) = newest.filter(|newest| *newest > t) else { return (t, latency, false) };
    let moved = u32::try_from(newest.since(t)).ok();
    match moved.and_then(|by| Some((latency.lo_ns.checked_add(by)?, latency.hi_ns.checked_add(by)?))) {
        Some((lo_ns, hi_ns)) => (newest, Latency { lo_ns, hi_ns }, true),
        // Back by more than a latency can say: the truth of the interval goes before the order.
        None => (t, latency, false),
    }
}
