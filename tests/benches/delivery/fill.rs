//! A spool that was filled before the agent came: incompressible rows or blobs, through the agent's own library.

use super::Payload;
use anyhow::Result;
use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::{DiskSpool, Settings};
use headwater_core::batch::{Column, Rows, StreamRef, Values};
use headwater_core::id::{BootId, Seq, StreamId};
use headwater_core::ports::{Slab, Spool, SpoolLane};
use headwater_core::sample::{Blob, BlobRef, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};
use headwater_core::time::{ClockDomain, StampKind};
use headwater_tests::proxy::Random;
use std::path::Path;

/// Rows of a slab of small rows: below the 64 KiB at which the stamp stage closes one.
const ROWS_PER_SLAB: u64 = 48;
/// Payload after which the spool is synced: the agent's own bound.
const SYNC_BYTES: usize = 1 << 20;
/// Between rows, µs.
const ROW_US: i64 = 1_000;
/// Random bytes that all payloads are cut from.
const POOL_BYTES: usize = 1 << 20;
/// The life of the spool before the measured agent's.
const EARLIER_BOOT: BootId = BootId([1; 16]);
/// Room for any backlog: the budget is not what is measured.
pub(super) const BYTES_MAX: u64 = 1 << 40;

/// Random bytes, the same in every run; each piece of them begins with its number, so that no two are the same.
struct Pool(Vec<u8>);

impl Pool {
    fn new() -> Self {
        let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
        Self((0..POOL_BYTES / 8).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect())
    }

    fn piece(&self, n: u64, bytes: usize) -> Vec<u8> {
        let places = self.0.len().saturating_sub(bytes).max(1) as u64;
        let at = usize::try_from(n.wrapping_mul(8_209) % places).unwrap_or(0);
        let mut piece = self.0.get(at..at + bytes).unwrap_or_default().to_vec();
        piece.iter_mut().zip(n.to_le_bytes()).for_each(|(to, from)| *to ^= from);
        piece
    }
}

/// What a spool was filled with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    pub(super) stream: StreamId,
    pub(super) rows: u64,
    pub(super) payload_bytes: u64,
}

fn schema(payload: Payload) -> Result<Schema> {
    if payload.is_blob() {
        return Ok(builtin::image());
    }
    let field =
        Field { name: "payload".parse()?, logical: Logical::Bytes, nullable: false, unit: "1".into() };
    Ok(Schema {
        salt: 0,
        kind: "measured".parse()?,
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![field],
    })
}

/// Fills the spool in `dir` with about `bytes` of payload.
pub(super) fn fill(dir: &Path, payload: Payload, bytes: u64) -> Result<Filled> {
    let settings = Settings { bytes_max: BYTES_MAX, free_bytes_min: 0, ..Settings::default() };
    let (mut spool, opened) = DiskSpool::open(RealDisk, dir, EARLIER_BOOT, settings)?;
    let schema = schema(payload)?;
    let lane = if payload.is_blob() { SpoolLane::Media } else { SpoolLane::Telemetry };
    let stream = spool.declare(&"measured".parse()?, &schema, lane.into())?;
    let (pool, mut rows, mut unsynced) = (Pool::new(), 0, 0);
    let wanted = bytes.div_ceil(payload.bytes() as u64);
    while rows < wanted {
        let n = if payload.is_blob() { 1 } else { ROWS_PER_SLAB.min(wanted - rows) };
        let (fields, blob) = if payload.is_blob() {
            let (values, blob) = picture(pool.piece(rows, payload.bytes()), rows);
            (values, Some(blob))
        } else {
            let bytes = (rows..rows + n).map(|row| pool.piece(row, payload.bytes())).collect();
            (vec![Column { values: Values::Bytes(bytes), valid: None }], None)
        };
        let many = usize::try_from(n)?;
        let first = i64::try_from(rows)?;
        let slab = Rows {
            stream: StreamRef::Id(stream),
            fingerprint: schema.fingerprint(),
            boot_ordinal: opened.boot_ordinal,
            first_seq: Seq(rows),
            time_exp: 3,
            stamp_kind: StampKind::Arrival,
            domain: ClockDomain::BOOT,
            t: (0..i64::try_from(n)?).map(|row| (first + row + 1) * ROW_US).collect(),
            lat_lo: vec![0; many],
            lat_hi: vec![20_000_000; many],
            fields,
        };
        spool.append(Slab { rows: slab, blob, arrived: None })?;
        rows += n;
        unsynced += many * payload.bytes();
        if unsynced >= SYNC_BYTES {
            spool.sync()?;
            unsynced = 0;
        }
    }
    spool.sync()?;
    Ok(Filled { stream, rows, payload_bytes: rows * payload.bytes() as u64 })
}

/// A row that says of `bytes` what a camera's row says of a picture.
fn picture(bytes: Vec<u8>, n: u64) -> (Vec<Column>, Blob) {
    let blob = Blob { mime: "image/jpeg".into(), bytes: bytes.into() };
    let values = [
        BlobRef::to(&blob.bytes).to_value(),
        Value::Utf8(blob.mime.clone()),
        Value::I64(1_600),
        Value::I64(1_200),
        Value::Utf8(format!("frame-{n:09}.jpg")),
    ];
    let mut columns: Vec<Column> =
        builtin::image().fields.iter().map(|field| Column::new(field.logical.physical())).collect();
    for (column, value) in columns.iter_mut().zip(&values) {
        let _fits = column.push(value);
    }
    (columns, blob)
}

/// The id of a stream in a spool that nobody has open.
pub(super) fn stream_id(dir: &Path, name: &str) -> Result<Option<StreamId>> {
    let settings = Settings { bytes_max: BYTES_MAX, free_bytes_min: 0, ..Settings::default() };
    let (spool, _) = DiskSpool::open(RealDisk, dir, EARLIER_BOOT, settings)?;
    let found = spool.streams().into_iter().find(|state| state.name.as_str() == name);
    Ok(found.map(|state| state.id))
}
