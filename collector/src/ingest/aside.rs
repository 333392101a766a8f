//! What lies in `ops.quarantine`, read back: one row when something is set aside, one more when it is released.
//!
//! The table only grows, so an item is held while it was set aside more often than it was released.

use crate::commit::cells::Cell;
use crate::commit::read::ScannedRows;
use crate::commit::tables::Ops;
use futures::TryStreamExt;
use headwater_core::id::{DeviceId, Epoch, Sha256, StreamId};
use headwater_core::schema::Fingerprint;
use headwater_core::time::UtcNanos;
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// One item, by what makes it the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aside {
    pub(super) device: DeviceId,
    pub(super) epoch: Epoch,
    /// A name, or `#<id>` of a stream that nobody had declared.
    pub(super) stream: Option<String>,
    pub(super) seqs: Option<Range<u64>>,
    pub(super) reason: String,
    pub(super) digest: String,
    pub(super) received: UtcNanos,
    pub(super) stream_id: Option<StreamId>,
    pub(super) fingerprint: Option<Fingerprint>,
}

impl Aside {
    fn read(rows: ScannedRows<'_>, row: usize) -> Option<Self> {
        let seqs = rows.count("seq_lo", row).zip(rows.count("seq_hi", row));
        let small = |name: &str| rows.count(name, row);
        Some(Self {
            device: rows.text("device", row)?.parse().ok()?,
            epoch: rows.text("epoch", row)?.parse().ok()?,
            stream: rows.text("stream", row),
            seqs: seqs.map(|(lo, hi)| lo..hi.saturating_add(1)),
            reason: rows.text("reason", row)?,
            digest: rows.text("digest", row).unwrap_or_default(),
            received: UtcNanos(rows.long("ts_ns", row)?),
            stream_id: small("stream_id").and_then(|id| u16::try_from(id).ok()).map(StreamId),
            fingerprint: small("schema_fp").and_then(|fp| u32::try_from(fp).ok()).map(Fingerprint),
        })
    }

    /// The same for an item and for its release.
    pub(super) fn key(&self) -> Sha256 {
        let Self { device, epoch, stream, seqs, reason, digest, .. } = self;
        let (stream, seqs) = (stream.as_deref().unwrap_or(""), seqs.clone().unwrap_or_default());
        let text = format!("{device}/{epoch}/{stream}/{}/{}/{reason}/{digest}", seqs.start, seqs.end);
        Sha256::of(text.as_bytes())
    }

    pub(super) fn rows(&self) -> u64 {
        self.seqs.as_ref().map_or(0, |seqs| seqs.end.saturating_sub(seqs.start))
    }
}

/// Every item of a commit that is held.
pub(super) async fn held(lake: &Lake, head: &CommitId) -> Result<HashMap<Sha256, Aside>, LakeError> {
    let mut found: HashMap<Sha256, (i64, Aside)> = HashMap::new();
    let each = |rows: ScannedRows<'_>, row: usize| {
        let Some(aside) = Aside::read(rows, row) else { return true };
        let times = if rows.text("released_by", row).is_some() { -1 } else { 1 };
        found.entry(aside.key()).and_modify(|(held, _)| *held += times).or_insert((times, aside));
        true
    };
    scan(lake, head, None, false, each).await?;
    Ok(found.into_iter().filter(|(_, (held, _))| *held > 0).map(|(key, (_, aside))| (key, aside)).collect())
}

/// Gives each item with its payload, until `take` has had enough.
pub(super) async fn payloads(
    lake: &Lake,
    head: &CommitId,
    device: Option<&DeviceId>,
    mut take: impl FnMut(Aside, Vec<u8>) -> bool,
) -> Result<(), LakeError> {
    let each = |rows: ScannedRows<'_>, row: usize| match (
        Aside::read(rows, row),
        rows.member("payload", "bytes", row),
    ) {
        (Some(aside), Cell::Bytes(payload)) => take(aside, payload),
        _ => true,
    };
    scan(lake, head, device, true, each).await
}

async fn scan(
    lake: &Lake,
    head: &CommitId,
    device: Option<&DeviceId>,
    payload: bool,
    mut each: impl FnMut(ScannedRows<'_>, usize) -> bool,
) -> Result<(), LakeError> {
    let table = Ops::Quarantine.table();
    if !lake.tables(head).await?.contains_key(&table) {
        return Ok(());
    }
    // A lake of an older version may lack some of the columns; payloads are read only where they are wanted.
    let columns = lake.columns(head, &table).await?.into_iter().map(|column| column.name);
    let columns = columns.filter(|name| payload || name != "payload").collect();
    let device = device.map(ToString::to_string);
    let options = ScanOptions { columns: Some(columns), device, ..ScanOptions::default() };
    let mut batches = lake.scan(head, &table, options).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        if !(0..rows.len()).all(|row| each(rows, row)) {
            break;
        }
    }
    Ok(())
}

/// Whose sections wait in quarantine for their declaration.
pub(super) type Undeclared = (DeviceId, Epoch, Fingerprint);

/// What is held in quarantine, as far as it must be known without reading it: for metrics, and for the declarations that
/// bring sections back.
#[derive(Debug, Default)]
pub(super) struct Board {
    by_reason: BTreeMap<String, (i64, i64)>,
    undeclared: BTreeMap<Undeclared, Vec<Aside>>,
}

impl Board {
    pub(super) fn add(&mut self, aside: &Aside) {
        self.count(aside, 1);
        if aside.reason == UNDECLARED
            && let Some(fingerprint) = aside.fingerprint
        {
            let who = (aside.device.clone(), aside.epoch, fingerprint);
            self.undeclared.entry(who).or_default().push(aside.clone());
        }
    }

    pub(super) fn release(&mut self, aside: &Aside) {
        self.count(aside, -1);
    }

    fn count(&mut self, aside: &Aside, times: i64) {
        let (items, rows) = self.by_reason.entry(aside.reason.clone()).or_default();
        *items += times;
        *rows += times.saturating_mul(i64::try_from(aside.rows()).unwrap_or(i64::MAX));
        let labels = [("reason", aside.reason.clone())];
        metrics::gauge!("headwater_quarantine_items", &labels).set(*items as f64);
        metrics::gauge!("headwater_quarantine_rows", &labels).set(*rows as f64);
    }

    /// Sections that the declaration of a stream brings back. They are given once. Other streams of the same
    /// fingerprint wait for their own.
    pub(super) fn declared(&mut self, who: &Undeclared, id: StreamId, name: &str) -> Vec<Aside> {
        let Some(asides) = self.undeclared.get_mut(who) else { return Vec::new() };
        let is_its = |aside: &mut Aside| aside.stream_id == Some(id) || aside.stream.as_deref() == Some(name);
        let found = asides.extract_if(.., is_its).collect();
        if asides.is_empty() {
            self.undeclared.remove(who);
        }
        found
    }

    pub(super) fn undeclared(&self) -> impl Iterator<Item = (&Undeclared, &Vec<Aside>)> {
        self.undeclared.iter()
    }
}

/// Reason of a section whose declaration did not come.
pub(super) const UNDECLARED: &str = "undeclared";
