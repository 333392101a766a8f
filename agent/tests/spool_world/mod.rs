//! A spool on a simulated disk, and slabs to put into it.

use headwater_agent::spool::index::{Entry, IndexError, SpoolIndex, Tree};
use headwater_agent::spool::series_id::SeriesId;
use headwater_agent::spool::{DiskSpool, Opened, Settings};
use headwater_core::batch::{Column, Rows, StreamRef, Values};
use headwater_core::gap::GapRecord;
use headwater_core::id::{BootId, BootOrdinal, Epoch, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Slab, Spool, SpoolLane, SpooledSlab};
use headwater_core::sample::{Blob, StampedSample};
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::{BootNanos, ClockDomain, Latency, Stamp, StampKind};
use headwater_sim::disk::SimDisk;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(crate) const DIR: &str = "/spool";
pub(crate) const SMALL: Settings =
    Settings { segment_bytes: 4096, bytes_max: 1 << 30, free_bytes_min: 0, new_epoch: false };

/// What an index holds: tree and key to value.
type Entries = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// An index in memory that outlives the spool; a clone shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemIndex(pub(crate) Arc<Mutex<Entries>>);

impl SpoolIndex for MemIndex {
    fn load(&mut self) -> Result<Vec<Entry>, IndexError> {
        Ok(self.0.lock().unwrap().iter().map(|((t, k), v)| (*t, k.clone(), v.clone())).collect())
    }
    fn put(&mut self, tree: Tree, key: &[u8], value: Option<&[u8]>) -> Result<(), IndexError> {
        let mut map = self.0.lock().unwrap();
        match value {
            Some(value) => map.insert((tree, key.to_vec()), value.to_vec()),
            None => map.remove(&(tree, key.to_vec())),
        };
        Ok(())
    }
    fn flush(&mut self) -> Result<(), IndexError> {
        Ok(())
    }
}

impl MemIndex {
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }
}

pub(crate) fn boot(n: u8) -> BootId {
    BootId([n; 16])
}

pub(crate) fn open(disk: &SimDisk, n: u8, index: &MemIndex) -> (DiskSpool<SimDisk>, Opened) {
    open_with(disk, n, index, SMALL)
}

pub(crate) fn open_with(
    disk: &SimDisk,
    n: u8,
    index: &MemIndex,
    s: Settings,
) -> (DiskSpool<SimDisk>, Opened) {
    let fresh = Epoch(1000 + u64::from(n));
    DiskSpool::open_with(disk.clone(), Path::new(DIR), boot(n), s, fresh, Box::new(index.clone()))
        .expect("a spool always opens")
}

pub(crate) fn schema() -> Schema {
    let field = |name: &str, logical| Field {
        name: name.parse().unwrap(),
        logical,
        nullable: false,
        unit: "1".into(),
    };
    Schema {
        salt: 0,
        kind: "imu".parse().unwrap(),
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![field("x", Logical::I64), field("note", Logical::Utf8)],
    }
}

/// `n` rows from `first` on, about 40 bytes each, recognisable.
pub(crate) fn slab(stream: StreamId, first: u64, n: u64) -> Slab {
    let seqs = first..first + n;
    let rows = Rows {
        stream: StreamRef::Id(stream),
        fingerprint: schema().fingerprint(),
        boot_ordinal: BootOrdinal(1),
        first_seq: Seq(first),
        time_exp: 3,
        stamp_kind: StampKind::Instant,
        domain: ClockDomain::BOOT,
        t: seqs.clone().map(|seq| 1_000 + seq as i64).collect(),
        lat_lo: vec![0; n as usize],
        lat_hi: vec![0; n as usize],
        fields: vec![
            Column {
                values: Values::I64(seqs.clone().map(|seq| (seq * 7919) as i64).collect()),
                valid: None,
            },
            Column {
                values: Values::Utf8(
                    seqs.map(|seq| format!("{stream:?} row {:x}", seq.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
                        .collect(),
                ),
                valid: None,
            },
        ],
    };
    Slab { rows, blob: None, arrived: None }
}

pub(crate) fn gaps_schema() -> Schema {
    headwater_core::schema::builtin::gaps()
}

pub(crate) fn gap_slab(stream: StreamId, seq: u64, gap: &GapRecord) -> Slab {
    let sample = StampedSample {
        stream,
        seq: Seq(seq),
        stamp: Stamp {
            boot_ordinal: BootOrdinal(1),
            t: BootNanos(5_000_000),
            latency: Latency::NONE,
            kind: StampKind::Instant,
            domain: ClockDomain::BOOT,
        },
        values: gap.to_values(),
        blob: None,
    };
    let mut rows = Rows::starting_at(&sample, &gaps_schema(), gaps_schema().fingerprint());
    assert!(rows.push(&sample));
    Slab { rows, blob: None, arrived: None }
}

pub(crate) fn blob_slab(stream: StreamId, first: u64, bytes: usize) -> Slab {
    let mut slab = slab(stream, first, 1);
    slab.blob = Some(Blob { mime: "image/jpeg".into(), bytes: (0..bytes).map(|n| n as u8).collect() });
    slab
}

pub(crate) fn declare(spool: &mut impl Spool, name: &str, lane: SpoolLane) -> StreamId {
    spool.declare(&name.parse().unwrap(), &schema(), lane.into()).unwrap()
}

pub(crate) fn read_all(spool: &mut impl Spool, lane: SpoolLane) -> Vec<SpooledSlab> {
    let mut at = Cursor::default();
    let mut all = Vec::new();
    loop {
        let some = spool.read(lane, at, 3000).unwrap();
        let Some(last) = some.last() else { return all };
        assert_ne!(last.next, at, "a cursor moves on");
        at = last.next;
        all.extend(some);
    }
}

/// Seqs of a stream that read back, each row checked against what was written.
pub(crate) fn readable(
    spool: &mut impl Spool,
    lane: SpoolLane,
    epoch: Epoch,
    stream: StreamId,
) -> IntervalSet {
    let mut set = IntervalSet::new();
    for found in read_all(spool, lane).into_iter().filter(|s| s.epoch == epoch) {
        if found.slab.rows.stream == StreamRef::Id(stream) {
            let seqs = found.slab.rows.seqs();
            let expected = slab(stream, seqs.start, seqs.end - seqs.start);
            assert!(found.slab.rows.same_bits(&expected.rows), "rows {seqs:?} changed");
            set.insert(seqs);
        }
    }
    set
}

pub(crate) fn next_seq(spool: &impl Spool, stream: StreamId) -> u64 {
    spool.streams().into_iter().find(|s| s.id == stream).map(|s| s.next_seq.0).unwrap()
}

pub(crate) fn segments(disk: &SimDisk, lane: SpoolLane) -> Vec<PathBuf> {
    let of_lane = |path: &PathBuf| {
        let series = path.parent()?.strip_prefix(Path::new(DIR).join("seg")).ok()?.to_str()?;
        Some(SeriesId::from_dir_name(series)?.lane == lane)
    };
    disk.files().into_iter().filter(|path| of_lane(path) == Some(true)).collect()
}
