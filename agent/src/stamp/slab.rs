//! Groups samples into slabs: at most a second of one stream, or one picture.

use headwater_core::batch::Rows;
use headwater_core::id::StreamId;
use headwater_core::ports::Slab;
use headwater_core::sample::{StampedSample, Value};
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::{BootNanos, ClockDomain};
use std::collections::BTreeMap;

/// Longest span of a slab, ms: what a power cut may take before the spool even saw it.
pub const SLAB_MS_MAX: u64 = 1_000;
/// Most bytes of values in a slab: several fit one wire message of 96 KiB.
pub const SLAB_BYTES_MAX: usize = 64 * 1_024;
/// Bytes of stamp and validity a row costs beside its values.
const ROW_BYTES: usize = 24;

#[derive(Debug)]
struct Open {
    rows: Rows,
    bytes: usize,
    first_t: BootNanos,
    since: BootNanos,
    /// When its newest row came.
    newest: BootNanos,
}

impl Open {
    fn slab(self) -> Slab {
        let foreign = self.rows.domain != ClockDomain::BOOT;
        Slab { arrived: foreign.then_some((self.since, self.newest)), rows: self.rows, blob: None }
    }
}

/// The builder. Closed slabs come out in the order in which they must be appended.
#[derive(Debug, Default)]
pub struct SlabBuilder {
    open: BTreeMap<StreamId, Open>,
}

impl SlabBuilder {
    /// Takes a sample of `schema` at `now`; gives the slabs that this closes.
    pub fn push(
        &mut self,
        sample: &StampedSample,
        schema: &Schema,
        fingerprint: Fingerprint,
        now: BootNanos,
    ) -> Vec<Slab> {
        let mut closed = Vec::new();
        let bytes = ROW_BYTES.saturating_add(sample.values.iter().map(value_bytes).sum());
        if let Some(blob) = &sample.blob {
            closed.extend(self.close(sample.stream));
            let mut rows = Rows::starting_at(sample, schema, fingerprint);
            let taken = rows.push(sample);
            debug_assert!(taken, "an empty run takes its first row");
            let arrived = (rows.domain != ClockDomain::BOOT).then_some((now, now));
            closed.push(Slab { rows, blob: Some(blob.clone()), arrived });
            return closed;
        }
        let span_ns = i64::try_from(SLAB_MS_MAX).unwrap_or(0).saturating_mul(1_000_000);
        let joins = |open: &mut Open| {
            open.rows.fingerprint == fingerprint
                && open.bytes.saturating_add(bytes) <= SLAB_BYTES_MAX
                && (0..span_ns).contains(&sample.stamp.t.since(open.first_t))
                && open.rows.push(sample)
        };
        if let Some(open) = self.open.get_mut(&sample.stream)
            && joins(open)
        {
            open.bytes = open.bytes.saturating_add(bytes);
            open.newest = now;
            return closed;
        }
        closed.extend(self.close(sample.stream));
        let mut rows = Rows::starting_at(sample, schema, fingerprint);
        let taken = rows.push(sample);
        debug_assert!(taken, "an empty run takes its first row");
        self.open
            .insert(sample.stream, Open { rows, bytes, first_t: sample.stamp.t, since: now, newest: now });
        closed
    }

    /// Closes the slab of one stream, if one is open.
    pub fn close(&mut self, stream: StreamId) -> Option<Slab> {
        self.open.remove(&stream).map(Open::slab)
    }

    /// Closes what has been open for a second.
    pub fn poll(&mut self, now: BootNanos) -> Vec<Slab> {
        let due: Vec<StreamId> = self
            .open
            .iter()
            .filter(|(_, open)| open.since.plus_ms(SLAB_MS_MAX) <= now)
            .map(|(stream, _)| *stream)
            .collect();
        due.into_iter().filter_map(|stream| self.close(stream)).collect()
    }

    /// When [`SlabBuilder::poll`] has something to close.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        self.open.values().map(|open| open.since.plus_ms(SLAB_MS_MAX)).min()
    }

    /// Closes everything.
    pub fn finish(&mut self) -> Vec<Slab> {
        std::mem::take(&mut self.open).into_values().map(Open::slab).collect()
    }
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::F32(_) => 4,
        Value::I64(_) | Value::F64(_) => 8,
        Value::Bytes(bytes) => bytes.len().saturating_add(8),
        Value::Utf8(text) => text.len().saturating_add(8),
    }
}
