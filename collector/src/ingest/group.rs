//! A group: everything that becomes one commit, held until that commit is there.

use super::aside::{Aside, UNDECLARED};
use crate::align::Promise;
use crate::commit::cells::{Cell, TableRows};
use crate::commit::raw::StoredBlobs;
use crate::commit::tables::Ops;
use crate::dedup::StreamKey;
use crate::land::LandingPosition;
use headwater_core::batch::Rows;
use headwater_core::gap::GapRecord;
use headwater_core::id::{DeviceId, Epoch, Sha256, StreamId};
use headwater_core::schema::builtin::CLOCK_STREAM;
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::UtcNanos;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// New rows of one stream, boot and declaration, as they stood in one message.
#[derive(Debug, Clone)]
pub(crate) struct HeldRows {
    pub(crate) key: StreamKey,
    pub(crate) stream: StreamId,
    pub(crate) schema: Arc<Schema>,
    pub(crate) rows: Rows,
    /// When the message was received (T2).
    pub(crate) received: UtcNanos,
    pub(crate) position: LandingPosition,
    pub(crate) end: LandingPosition,
    /// Digest of the message, for quarantine.
    pub(crate) digest: Sha256,
    /// About what they take in memory.
    pub(crate) bytes: usize,
}

/// Why something is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Crc,
    Limit,
    Schema,
    Clock,
    ContentConflict,
    Undeclared,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Crc => "crc",
            Self::Limit => "limit",
            Self::Schema => "schema",
            Self::Clock => "clock",
            Self::ContentConflict => "content_conflict",
            Self::Undeclared => UNDECLARED,
        }
    }
}

/// Something set aside, with as much of its identity as is known.
#[derive(Debug, Clone)]
pub(crate) struct Quarantined {
    pub(crate) device: DeviceId,
    pub(crate) epoch: Epoch,
    pub(crate) stream: Option<String>,
    pub(crate) seqs: Option<Range<u64>>,
    pub(crate) stream_id: Option<StreamId>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) stage: &'static str,
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    pub(crate) received: UtcNanos,
    pub(crate) digest: Sha256,
    pub(crate) lane: Option<u8>,
    pub(crate) payload: Vec<u8>,
}

/// A gap to be recorded.
#[derive(Debug, Clone)]
pub(crate) struct RecordedGap {
    pub(crate) device: DeviceId,
    pub(crate) epoch: Epoch,
    /// What makes it the same gap when it is told again.
    pub(crate) id: String,
    pub(crate) gap: GapRecord,
    pub(crate) declared_by: &'static str,
    pub(crate) received: UtcNanos,
    /// Its rows came after all.
    pub(crate) closed: bool,
}

/// All of one commit to be.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) rows: Vec<HeldRows>,
    pub(crate) blobs: StoredBlobs,
    /// Objects to be put into the lake beside the tables before the commit.
    pub(crate) objects: Vec<(Sha256, Arc<[u8]>)>,
    pub(crate) gaps: Vec<RecordedGap>,
    pub(crate) promises: BTreeMap<StreamKey, (Promise, UtcNanos)>,
    pub(crate) batches: TableRows,
    pub(crate) clock: TableRows,
    pub(crate) schemas: TableRows,
    pub(crate) devices: TableRows,
    pub(crate) quarantine: TableRows,
    pub(crate) agents: BTreeSet<String>,
    /// Landed payload bytes taken in.
    pub(crate) bytes: usize,
    by_stream: BTreeMap<StreamKey, Vec<usize>>,
    rows_held: usize,
    half_ns: i64,
}

impl Group {
    /// An empty group of a collector whose own clock is right within `half_ns`.
    pub(crate) fn new(half_ns: i64) -> Self {
        let table = |ops: Ops| TableRows::new(ops.spec());
        Self {
            rows: Vec::new(),
            blobs: StoredBlobs::new(),
            objects: Vec::new(),
            gaps: Vec::new(),
            promises: BTreeMap::new(),
            batches: table(Ops::Batches),
            clock: table(Ops::Clock),
            schemas: table(Ops::Schemas),
            devices: table(Ops::Devices),
            quarantine: table(Ops::Quarantine),
            agents: BTreeSet::new(),
            bytes: 0,
            by_stream: BTreeMap::new(),
            rows_held: 0,
            half_ns,
        }
    }

    /// True if there is nothing that a reader of the lake could see.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.gaps.is_empty()
            && self.objects.is_empty()
            && [&self.batches, &self.clock, &self.schemas, &self.devices, &self.quarantine]
                .iter()
                .all(|rows| rows.is_empty())
    }

    /// True if nothing of it is urgent: messages noted, clock rows and hints may wait for more to go with.
    pub(crate) fn is_quiet(&self) -> bool {
        let only_clock = self.rows.iter().all(|held| held.key.stream.as_str() == CLOCK_STREAM);
        let none = [&self.schemas, &self.devices, &self.quarantine].iter().all(|rows| rows.is_empty());
        only_clock && none && self.gaps.is_empty()
    }

    pub(crate) fn hold(&mut self, rows: HeldRows) {
        self.by_stream.entry(rows.key.clone()).or_default().push(self.rows.len());
        self.rows_held += rows.rows.len();
        self.rows.push(rows);
    }

    /// Rows held.
    pub(crate) fn row_count(&self) -> usize {
        self.rows_held
    }

    /// The rows of this group that hold `seq`, to compare a second copy with.
    pub(crate) fn find(&self, key: &StreamKey, seq: u64) -> Option<&HeldRows> {
        let places = self.by_stream.get(key)?;
        places.iter().filter_map(|place| self.rows.get(*place)).find(|held| held.rows.seqs().contains(&seq))
    }

    pub(crate) fn promise(&mut self, key: StreamKey, promise: Promise, received: UtcNanos) {
        match self.promises.get(&key) {
            Some((known, _)) if !promise.is_after(known) => {}
            _ => {
                self.promises.insert(key, (promise, received));
            }
        }
    }

    /// Takes out the rows that match, to be set aside.
    pub(crate) fn take_rows(&mut self, matches: impl Fn(&HeldRows) -> bool) -> Vec<HeldRows> {
        let (out, kept) = std::mem::take(&mut self.rows).into_iter().partition(|held| matches(held));
        self.by_stream.clear();
        self.rows_held = 0;
        for held in kept {
            let held: HeldRows = held;
            self.hold(held);
        }
        out
    }

    pub(crate) fn quarantined(&mut self, item: Quarantined) -> Aside {
        let aside = Aside {
            device: item.device.clone(),
            epoch: item.epoch,
            stream: item.stream.clone(),
            seqs: item.seqs.clone(),
            reason: item.reason.as_str().to_owned(),
            digest: item.digest.to_string(),
            received: item.received,
            stream_id: item.stream_id,
            fingerprint: item.fingerprint,
        };
        metrics::counter!("headwater_ingest_quarantined_total", "reason" => item.reason.as_str())
            .increment(1);
        metrics::counter!("headwater_ingest_quarantined_rows_total", "reason" => item.reason.as_str())
            .increment(aside.rows());
        tracing::warn!(
            device = %item.device, stream = item.stream.as_deref().unwrap_or(""), reason = item.reason.as_str(),
            detail = item.detail, "set aside in quarantine"
        );
        let hash = Sha256::of(&item.payload).to_string();
        let mut cells = self.item(&aside, item.received);
        cells.extend([
            ("lane", item.lane.map(u32::from).into()),
            ("stage", item.stage.into()),
            ("detail", item.detail.into()),
            ("payload", Cell::Struct(vec![item.payload.into(), Cell::Null])),
            ("hash", hash.into()),
        ]);
        self.quarantine.push(cells);
        aside
    }

    /// Notes that an item is in quarantine no more.
    pub(crate) fn released(&mut self, aside: &Aside, by: &str, now: UtcNanos) {
        let mut cells = self.item(aside, now);
        cells.push(("released_by", by.into()));
        self.quarantine.push(cells);
    }

    /// What an item and its release have in common.
    fn item(&self, aside: &Aside, at: UtcNanos) -> Vec<(&'static str, Cell)> {
        let mut cells = self.event(at, &aside.device);
        let (first, end) = aside.seqs.as_ref().map(|seqs| (seqs.start, seqs.end)).unzip();
        cells.extend([
            ("reason", aside.reason.as_str().into()),
            ("epoch", aside.epoch.to_string().into()),
            ("stream", aside.stream.as_deref().into()),
            ("seq_lo", first.into()),
            ("seq_hi", end.map(|end| end.saturating_sub(1)).into()),
            ("digest", aside.digest.as_str().into()),
            ("stream_id", aside.stream_id.map(|id| u32::from(id.0)).into()),
            ("schema_fp", aside.fingerprint.map(|fingerprint| fingerprint.0).into()),
            ("rows", aside.rows().into()),
        ]);
        cells
    }

    /// The first columns of every row of `ops.*`.
    pub(crate) fn event(&self, at: UtcNanos, device: &DeviceId) -> Vec<(&'static str, Cell)> {
        event(at, self.half_ns, Some(device))
    }
}

/// The first columns of every row of `ops.*`.
pub(crate) fn event(at: UtcNanos, half_ns: i64, device: Option<&DeviceId>) -> Vec<(&'static str, Cell)> {
    vec![
        ("ts", at.micros().into()),
        ("ts_ns", at.0.into()),
        ("ts_err_ns", half_ns.into()),
        ("device", device.map(DeviceId::as_str).into()),
    ]
}
