//! The agent's spool, through its port.

use super::{Pieces, Store};
use crate::spool::workload::Workload;
use anyhow::{Context, Result, ensure};
use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::{DiskSpool, Settings};
use headwater_core::batch::{Column, Rows, StreamRef, Values};
use headwater_core::id::{BootId, BootOrdinal, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Slab, Spool, SpoolLane};
use headwater_core::sample::Blob;
use headwater_core::schema::{Field, Fingerprint, Logical, Modality, Schema};
use headwater_core::time::{ClockDomain, StampKind};
use std::collections::VecDeque;
use std::path::Path;

/// Doubles in a row of a slab.
const DOUBLES: usize = 8;
/// Bytes read at once while draining, as the shipper does.
const READ_BYTES: usize = 1 << 20;
/// Room for any backlog: the budget is not what is measured.
const BYTES_MAX: u64 = 1 << 40;
/// Nanoseconds between rows.
const ROW_NS: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Ours {
    spool: DiskSpool<RealDisk>,
    stream: StreamId,
    fingerprint: Fingerprint,
    lane: SpoolLane,
    pieces: Pieces,
    /// First seq of this run: a spool that was opened again goes on.
    first_seq: u64,
    cursor: Cursor,
    found: VecDeque<u64>,
    trimmed: u64,
}

fn schema(workload: Workload) -> Result<Schema> {
    let field = |name: &str, logical| -> Result<Field> {
        Ok(Field { name: name.parse()?, logical, nullable: false, unit: "1".into() })
    };
    let fields = match workload {
        Workload::Records => vec![field("payload", Logical::Bytes)?],
        Workload::Slabs => {
            (0..DOUBLES).map(|n| field(&format!("v{n}"), Logical::F64)).collect::<Result<_>>()?
        }
        Workload::Images => vec![field("number", Logical::I64)?],
    };
    Ok(Schema { salt: 0, kind: "measured".parse()?, modality: Modality::Scalars, time_exp: 3, fields })
}

impl Ours {
    pub(super) fn open(dir: &Path, pieces: Pieces) -> Result<Self> {
        let settings = Settings { bytes_max: BYTES_MAX, free_bytes_min: 0, ..Settings::default() };
        // Another boot each time: what a power cut leaves is opened by the next boot.
        let mut boot = [0; 16];
        boot.iter_mut().zip(std::process::id().to_le_bytes()).for_each(|(to, from)| *to = from);
        let (mut spool, opened) = DiskSpool::open(RealDisk, dir, BootId(boot), settings)?;
        ensure!(opened.quarantined == 0, "{} segments could not be read", opened.quarantined);
        let schema = schema(pieces.workload)?;
        let lane = if pieces.workload == Workload::Images { SpoolLane::Media } else { SpoolLane::Telemetry };
        let name = "measured".parse()?;
        let stream = spool.declare(&name, &schema, lane.into())?;
        let state = spool.streams().into_iter().find(|state| state.id == stream);
        let state = state.context("a declared stream is not listed")?;
        let trimmed = state.acked.end();
        Ok(Self {
            fingerprint: schema.fingerprint(),
            first_seq: state.next_seq.0,
            spool,
            stream,
            lane,
            pieces,
            cursor: Cursor::default(),
            found: VecDeque::new(),
            trimmed,
        })
    }

    fn rows(&self, first_seq: u64, n: usize, fields: Vec<Values>) -> Rows {
        let at = |row: usize| i64::try_from((first_seq + row as u64) * ROW_NS / 1_000).unwrap_or(i64::MAX);
        Rows {
            stream: StreamRef::Id(self.stream),
            fingerprint: self.fingerprint,
            boot_ordinal: BootOrdinal(1),
            first_seq: Seq(first_seq),
            time_exp: 3,
            stamp_kind: StampKind::Arrival,
            domain: ClockDomain::BOOT,
            t: (0..n).map(at).collect(),
            lat_lo: vec![0; n],
            lat_hi: vec![20_000_000; n],
            fields: fields.into_iter().map(|values| Column { values, valid: None }).collect(),
        }
    }
}

/// Rows that a slab of a workload has.
fn rows_per_piece(workload: Workload) -> u64 {
    match workload {
        Workload::Records => workload.keys_per_piece(),
        Workload::Slabs => (workload.piece_bytes() / DOUBLES / 8) as u64,
        Workload::Images => 1,
    }
}

fn doubles(bytes: &[u8]) -> Vec<Values> {
    let words: Vec<f64> =
        bytes.as_chunks::<8>().0.iter().map(|word| f64::from_bits(u64::from_le_bytes(*word))).collect();
    (0..DOUBLES).map(|n| Values::F64(words.iter().skip(n).step_by(DOUBLES).copied().collect())).collect()
}

/// Payload bytes of a slab that was read, as the other stores count them.
fn payload_bytes(slab: &Slab) -> u64 {
    let of = |column: &Column| match &column.values {
        Values::F64(values) => values.len() * 8,
        Values::Bytes(values) => values.iter().map(Vec::len).sum(),
        _ => 0,
    };
    let blob = slab.blob.as_ref().map_or(0, |blob| blob.bytes.len());
    (blob + slab.rows.fields.iter().map(of).sum::<usize>()) as u64
}

impl Store for Ours {
    fn append(&mut self) -> Result<()> {
        let workload = self.pieces.workload;
        let n = self.pieces.appended;
        let first_seq = self.first_seq + n * rows_per_piece(workload);
        let mut blob = None;
        let fields = {
            let bytes = self.pieces.append().map(|(_, value)| value);
            match workload {
                Workload::Records => vec![Values::Bytes(bytes.map(<[u8]>::to_vec).collect())],
                Workload::Slabs => bytes.flat_map(doubles).collect(),
                Workload::Images => {
                    blob = bytes
                        .map(|bytes| Blob { mime: "application/octet-stream".into(), bytes: bytes.into() })
                        .next();
                    vec![Values::I64(vec![i64::try_from(n).unwrap_or(i64::MAX)])]
                }
            }
        };
        let rows = self.rows(first_seq, usize::try_from(rows_per_piece(workload))?, fields);
        Ok(self.spool.append(Slab { rows, blob, arrived: None })?)
    }

    fn read_next(&mut self) -> Result<Option<u64>> {
        if self.found.is_empty() {
            let slabs = self.spool.read(self.lane, self.cursor, READ_BYTES)?;
            self.cursor = slabs.last().map_or(self.cursor, |slab| slab.next);
            self.found.extend(slabs.iter().map(|spooled| payload_bytes(&spooled.slab)));
        }
        Ok(self.found.pop_front())
    }

    fn delete_oldest(&mut self) -> Result<()> {
        self.trimmed += rows_per_piece(self.pieces.workload);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.spool.sync()?;
        // As an ack does: everything below at once.
        if self.trimmed > 0 {
            self.spool.trim(self.stream, &IntervalSet::below(self.trimmed))?;
        }
        Ok(())
    }

    fn segments(&self) -> Option<u64> {
        Some(self.spool.usage().segments)
    }
}
