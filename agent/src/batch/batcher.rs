//! Collects slabs of many streams until a message is full or the oldest has waited long enough.

use super::seal::{ENCODE, Run, Sealer};
use super::sealed::{Hold, Sealed, SealedBlob, Withheld, WithheldWhy};
use headwater_core::batch::{Announced, Effort, Encoder, Limits, Rows, StreamRef, Values};
use headwater_core::id::{Epoch, StreamId};
use headwater_core::ports::SpooledSlab;
use headwater_core::sample::{BLOB_BYTES_MAX, Blob, BlobRef};
use headwater_core::time::BootNanos;
use headwater_core::wire::ENVELOPE_BYTES;
use headwater_core::wire::blob::BlobCodec;
use headwater_core::wire::object::{BlobObject, MIME_BYTES_MAX, object_id};
use std::collections::BTreeMap;

/// Most runs in one batch. Each may bring a heartbeat, so twice this stays below the 256 sections of a batch.
const RUNS_MAX: usize = 120;
/// Most bytes of rows collected before a batch is cut whatever it packs to: the reader unpacks at most
/// 4 MiB, and a varint takes up to 10 bytes where 8 are counted here.
const RAW_BYTES_MAX: usize = 3 << 20;
/// Blobs handed on before the rows they belong to follow: neither is durable without the other, so a slow link that
/// has many blobs waiting before their rows would hold them all.
const BLOB_BYTES_AHEAD_MAX: usize = 256 << 10;
/// Smallest body a message limit may leave: below it not even a row of a wide kind fits.
const BODY_BYTES_MIN: usize = 1024;
/// Fixed-point one of the packing ratio.
const RATIO_ONE: usize = 16;
/// Packing ratio believed before the first batch: 2.
const RATIO_START: usize = 2 * RATIO_ONE;
/// Greatest packing ratio believed (32), so that one batch of constants does not make the next overshoot.
const RATIO_MAX: usize = 32 * RATIO_ONE;

/// When a batch is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSettings {
    /// Longest wait of a slab, ms (1 000 unmetered, 10 000 metered, 0 for the control lane).
    pub linger_ms: u64,
    /// Largest message, envelope included, bytes.
    pub message_bytes_max: usize,
    /// How much work a batch may cost.
    pub effort: Effort,
}

/// A blob in another form than its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedBlob {
    /// Which.
    pub codec: BlobCodec,
    /// As [`BlobCodec::pack`] made it.
    pub payload: Vec<u8>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchStats {
    /// Batches sealed.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Objects sealed.
    pub blobs: u64,
    /// Bodies that did not read back and were encoded again slab by slab.
    pub codec_mismatches: u64,
    /// Times rows were halved to fit a message.
    pub halved: u64,
    /// Sets of rows left in the spool.
    pub withheld: u64,
}

/// The pure half of the batch stage: slabs in, sealed batches out; time is an argument.
#[derive(Debug)]
pub struct Batcher {
    linger_ms: u64,
    sealer: Sealer,
    epoch: Option<Epoch>,
    /// When the oldest collected slab came.
    since: Option<BootNanos>,
    runs: Vec<Run>,
    /// Last run of each stream.
    last: BTreeMap<StreamId, usize>,
    raw_bytes: usize,
    values: usize,
    /// Bytes of blobs that went ahead of the rows held.
    blob_bytes: usize,
    /// Raw bytes per body byte of late, in sixteenths.
    ratio: usize,
    stats: BatchStats,
}

impl Batcher {
    /// An empty batcher.
    #[must_use]
    pub fn new(settings: BatchSettings) -> Self {
        let mut batcher = Self {
            linger_ms: settings.linger_ms,
            sealer: Sealer {
                encode: ENCODE,
                encoder: Encoder::new(settings.effort, Announced::BASELINE),
                plain: None,
                announced: Announced::BASELINE,
                limits: Limits::V1,
                body_bytes_max: 0,
                codec_mismatches: 0,
                halved: 0,
            },
            epoch: None,
            since: None,
            runs: Vec::new(),
            last: BTreeMap::new(),
            raw_bytes: 0,
            values: 0,
            blob_bytes: 0,
            ratio: RATIO_START,
            stats: BatchStats::default(),
        };
        batcher.set_message_bytes_max(settings.message_bytes_max);
        batcher
    }

    /// The broker's limit changed; counts from the next batch on.
    pub fn set_message_bytes_max(&mut self, bytes: usize) {
        self.sealer.body_bytes_max = bytes.saturating_sub(ENVELOPE_BYTES).max(BODY_BYTES_MIN);
    }

    /// Another link, another pace; counts from the next batch on.
    pub fn set_pace(&mut self, linger_ms: u64, effort: Effort) {
        self.linger_ms = linger_ms;
        self.sealer.encoder.set_effort(effort);
    }

    /// What the collector can read changed; counts from the next batch on.
    pub fn announce(&mut self, announced: Announced) {
        self.sealer.announced = announced;
        self.sealer.encoder.announce(announced);
    }

    #[cfg(test)]
    pub(super) fn set_encode(&mut self, encode: super::seal::Encode) {
        self.sealer.encode = encode;
    }

    /// Takes a slab; gives what became full by it, and the blob it brought, as it is.
    pub fn push(&mut self, now: BootNanos, spooled: SpooledSlab) -> Vec<Sealed> {
        self.push_packed(now, spooled, None)
    }

    /// [`Batcher::push`] of a slab whose blob was packed.
    pub fn push_packed(
        &mut self,
        now: BootNanos,
        spooled: SpooledSlab,
        packed: Option<PackedBlob>,
    ) -> Vec<Sealed> {
        let mut out = Vec::new();
        let mut blob_bytes = 0;
        if self.epoch.is_some_and(|epoch| epoch != spooled.epoch) {
            out.append(&mut self.flush());
        }
        let rows = spooled.slab.rows;
        let Some(hold) = Hold::of(&rows) else {
            let stays = Withheld { stream: rows.stream.clone(), seqs: rows.seqs(), why: WithheldWhy::NoId };
            return self.counted(vec![Sealed::Withheld(stays)]);
        };
        if let Some(blob) = spooled.slab.blob {
            let sealed = seal_blob(spooled.epoch, hold.clone(), &blob, packed.as_ref());
            // Without its blob the row would never become durable.
            let stays = matches!(sealed, Sealed::Withheld(_));
            blob_bytes = if let Sealed::Blob(blob) = &sealed { blob.object.len() } else { 0 };
            out.append(&mut self.counted(vec![sealed]));
            if stays {
                return out;
            }
        }
        let (raw, values) = (raw_bytes(&rows), rows.n_values());
        if !self.runs.is_empty() && self.would_overflow(raw, values) {
            out.append(&mut self.flush());
        }
        self.epoch = Some(spooled.epoch);
        self.since.get_or_insert(now);
        self.raw_bytes = self.raw_bytes.saturating_add(raw);
        self.values = self.values.saturating_add(values);
        self.blob_bytes = self.blob_bytes.saturating_add(blob_bytes);
        self.collect(hold.stream, rows);
        if self.is_full() {
            out.append(&mut self.flush());
        }
        out
    }

    /// Gives the batch whose oldest slab waited long enough.
    pub fn poll(&mut self, now: BootNanos) -> Vec<Sealed> {
        if self.deadline().is_some_and(|at| now >= at) { self.flush() } else { Vec::new() }
    }

    /// When [`Batcher::poll`] will give something.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        self.since.map(|since| since.plus_ms(self.linger_ms))
    }

    /// Seals whatever is held.
    pub fn flush(&mut self) -> Vec<Sealed> {
        let raw = std::mem::take(&mut self.raw_bytes);
        let runs = std::mem::take(&mut self.runs);
        self.last.clear();
        self.values = 0;
        self.blob_bytes = 0;
        self.since = None;
        let Some(epoch) = self.epoch.take() else { return Vec::new() };
        let sealed = self.sealer.seal(epoch, runs);
        let packed: usize = sealed
            .iter()
            .map(|sealed| if let Sealed::Batch(batch) = sealed { batch.body.len() } else { 0 })
            .sum();
        if let Some(found) = raw.saturating_mul(RATIO_ONE).checked_div(packed) {
            // Half of the news: one odd batch does not spoil the next guess.
            self.ratio = self.ratio.saturating_add(found).div_euclid(2).clamp(RATIO_ONE / 2, RATIO_MAX);
        }
        self.counted(sealed)
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> BatchStats {
        BatchStats {
            codec_mismatches: self.sealer.codec_mismatches,
            halved: self.sealer.halved,
            ..self.stats
        }
    }

    fn collect(&mut self, stream: StreamId, rows: Rows) {
        if let Some(run) = self.last.get(&stream).and_then(|at| self.runs.get_mut(*at)) {
            let cut = run.rows.len();
            if run.rows.join(&rows) {
                run.cuts.push(cut);
                return;
            }
        }
        self.last.insert(stream, self.runs.len());
        self.runs.push(Run { rows, cuts: Vec::new() });
    }

    fn would_overflow(&self, raw: usize, values: usize) -> bool {
        self.raw_bytes.saturating_add(raw) > RAW_BYTES_MAX
            || self.values.saturating_add(values) > self.sealer.limits.values_max
    }

    fn is_full(&self) -> bool {
        let guess = self.raw_bytes.saturating_mul(RATIO_ONE) / self.ratio.max(1);
        // A little below the limit: halving costs a second encoding.
        guess >= self.sealer.body_bytes_max / 10 * 9
            || self.runs.len() >= RUNS_MAX
            || self.blob_bytes >= BLOB_BYTES_AHEAD_MAX
            || self.would_overflow(0, 0)
    }

    fn counted(&mut self, sealed: Vec<Sealed>) -> Vec<Sealed> {
        let stats = &mut self.stats;
        for sealed in &sealed {
            match sealed {
                Sealed::Batch(batch) => {
                    let rows: u64 =
                        batch.holds.iter().map(|hold| hold.seqs.end.saturating_sub(hold.seqs.start)).sum();
                    stats.batches = stats.batches.saturating_add(1);
                    stats.rows = stats.rows.saturating_add(rows);
                    stats.body_bytes = stats.body_bytes.saturating_add(batch.body.len() as u64);
                }
                Sealed::Blob(_) => stats.blobs = stats.blobs.saturating_add(1),
                Sealed::Withheld(_) => stats.withheld = stats.withheld.saturating_add(1),
            }
        }
        sealed
    }
}

fn seal_blob(epoch: Epoch, hold: Hold, blob: &Blob, packed: Option<&PackedBlob>) -> Sealed {
    if blob.bytes.len() > BLOB_BYTES_MAX || blob.mime.len() > MIME_BYTES_MAX {
        let why = WithheldWhy::Blob { found: blob.bytes.len() };
        return Sealed::Withheld(Withheld { stream: StreamRef::Id(hold.stream), seqs: hold.seqs, why });
    }
    let object = BlobObject {
        stream: hold.stream,
        seq: headwater_core::id::Seq(hold.seqs.start),
        reference: BlobRef::to(&blob.bytes),
        mime: &blob.mime,
        bytes: std::borrow::Cow::Borrowed(&blob.bytes),
    };
    let object = match packed {
        Some(packed) => object.with_payload(packed.codec, &packed.payload),
        None => object.to_bytes(),
    };
    Sealed::Blob(SealedBlob { epoch, id: object_id(&object), object: object.into(), hold })
}

/// Bytes of the rows before packing, near enough for a guess.
fn raw_bytes(rows: &Rows) -> usize {
    let texts: usize = rows
        .fields
        .iter()
        .map(|column| match &column.values {
            Values::Bytes(v) => v.iter().map(Vec::len).sum(),
            Values::Utf8(v) => v.iter().map(String::len).sum(),
            _ => 0,
        })
        .sum();
    rows.n_values().saturating_mul(8).saturating_add(texts)
}
