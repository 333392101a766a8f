//! The spool when room runs short: what goes first, what is told of it, and what waits while the disk refuses.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;

use headwater_agent::spool::{DiskSpool, Settings};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootOrdinal, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{EvictFirst, Spool, SpoolError, SpoolLane, StreamClass, StreamPolicy};
use headwater_core::time::BootNanos;
use headwater_sim::disk::SimDisk;
use proptest::prelude::*;
use spool_world::*;

const T: SpoolLane = SpoolLane::Telemetry;
const KIB: u64 = 1 << 10;
/// Large enough to be thinned by layers.
const PICTURE_BYTES: usize = 33 << 10;
const TIGHT: Settings =
    Settings { segment_bytes: 128 * KIB, bytes_max: 4096 * KIB, free_bytes_min: 0, new_epoch: false };

/// A spool whose gap records are stored as the agent stores them.
struct Bench {
    disk: SimDisk,
    spool: DiskSpool<SimDisk>,
    gaps: StreamId,
    gap_seq: u64,
    told: Vec<GapRecord>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let (disk, index) = (SimDisk::new(), MemIndex::default());
        let (mut spool, _) = open_with(&disk, 1, &index, settings);
        let gaps =
            spool.declare(&"hw/gaps".parse().unwrap(), &gaps_schema(), SpoolLane::Control.into()).unwrap();
        Self { disk, spool, gaps, gap_seq: 0, told: Vec::new() }
    }

    fn declare(&mut self, name: &str, policy: StreamPolicy) -> StreamId {
        self.spool.declare(&name.parse().unwrap(), &schema(), policy).unwrap()
    }

    fn store_gaps(&mut self) {
        for gap in self.spool.take_gaps() {
            self.spool.append(gap_slab(self.gaps, self.gap_seq, &gap)).unwrap();
            self.gap_seq += 1;
            self.told.push(gap);
        }
    }

    fn settle(&mut self) {
        self.spool.sync().unwrap();
        self.store_gaps();
        self.spool.sync().unwrap();
    }

    fn read(&mut self, lane: SpoolLane, id: StreamId) -> IntervalSet {
        let mut set = IntervalSet::new();
        for found in read_all(&mut self.spool, lane) {
            if found.slab.rows.stream == headwater_core::batch::StreamRef::Id(id) {
                set.insert(found.slab.rows.seqs());
            }
        }
        set
    }

    fn told(&self, stream: &str) -> IntervalSet {
        let mut set = IntervalSet::new();
        let of_stream = self.told.iter().filter(|gap| gap.stream.as_str() == stream);
        of_stream.flat_map(GapRecord::explained).for_each(|run| set.insert(run));
        set
    }
}

fn lane(class: StreamClass) -> StreamPolicy {
    StreamPolicy { class, ..T.into() }
}

#[test]
fn pictures_are_thinned_evenly_before_numbers_go() {
    let mut bench = Bench::new(TIGHT);
    let imu = bench.declare("imu", T.into());
    let cam = bench.declare("camera/front", SpoolLane::Media.into());
    for n in 0..160 {
        bench.spool.append(slab(imu, n * 10, 10)).unwrap();
        bench.spool.append(blob_slab(cam, n, PICTURE_BYTES)).unwrap();
        bench.settle();
        assert!(bench.spool.usage().bytes <= TIGHT.bytes_max);
    }
    assert_eq!(bench.read(T, imu), IntervalSet::below(1600), "numbers are worth more than pictures");
    let kept = bench.read(SpoolLane::Media, cam);
    assert!((60..120).contains(&kept.count()), "{}", kept.count());
    assert!((0..160).step_by(8).all(|seq| kept.contains(seq)), "every eighth stays to the last");
    let told = bench.told("camera/front");
    let mut all = kept.clone();
    all.union_with(&told);
    assert_eq!(all, IntervalSet::below(160), "what is missing is told");
    assert!(kept.iter().all(|run| told.present_in(run).is_empty()), "and nothing that is here");
    let thinned: Vec<_> = bench.told.iter().filter(|gap| gap.cause == GapCause::EvictedThinned).collect();
    assert!(!thinned.is_empty() && thinned.iter().all(|gap| gap.stride >= 2), "{thinned:?}");
    assert_eq!(bench.told.iter().map(|gap| gap.rows).sum::<u64>(), 160 - kept.count());
    assert!(bench.told.iter().all(|gap| gap.bytes > 0));
}

/// Series of a lane are read side by side: each stream in the order of its seqs, and none far ahead of the others.
#[test]
fn series_of_a_lane_are_read_in_the_order_of_their_times() {
    let mut bench = Bench::new(Settings { bytes_max: 16 << 20, ..TIGHT });
    let ids =
        [StreamClass::Keep, StreamClass::Normal].map(|class| bench.declare(class.as_str(), lane(class)));
    let cam = bench.declare("camera/front", SpoolLane::Media.into());
    let filler = bench.declare("filler", SpoolLane::Media.into());
    for n in 0..150 {
        bench.spool.append(blob_slab(filler, n, PICTURE_BYTES)).unwrap();
    }
    for n in 0..2000 {
        ids.iter().for_each(|id| bench.spool.append(slab(*id, n * 20, 20)).unwrap());
    }
    for n in 0..60 {
        bench.spool.append(blob_slab(cam, n, PICTURE_BYTES)).unwrap();
    }
    bench.settle();
    bench.spool.trim(filler, &IntervalSet::below(150)).unwrap();
    let pictures: Vec<u64> =
        read_all(&mut bench.spool, SpoolLane::Media).iter().map(|s| s.slab.rows.first_seq.0).collect();
    assert_eq!(pictures.len(), 60);
    assert!(pictures.iter().zip(0..).all(|(seq, at)| seq.abs_diff(at) <= 8), "{pictures:?}");
    let layers =
        segments(&bench.disk, SpoolLane::Media).into_iter().map(|path| path.parent().unwrap().to_owned());
    assert_eq!(layers.collect::<std::collections::BTreeSet<_>>().len(), 4, "they lie in four layers");
    let mut upto = [0, 0];
    for found in read_all(&mut bench.spool, T) {
        let at = usize::from(found.slab.rows.stream == headwater_core::batch::StreamRef::Id(ids[1]));
        assert_eq!(found.slab.rows.first_seq.0, upto[at]);
        upto[at] += 20;
        assert!(upto[0].abs_diff(upto[1]) < 20 * 1000, "{upto:?}");
    }
    assert_eq!(upto, [40_000, 40_000]);
}

/// The order of worth: scrap, thin, normal; and keep never.
#[test]
fn the_least_goes_first_and_keep_never() {
    let mut bench = Bench::new(Settings { bytes_max: 256 * KIB, segment_bytes: 8 * KIB, ..TIGHT });
    let ids = StreamClass::ALL.map(|class| bench.declare(class.as_str(), lane(class)));
    let mut upto = 0;
    let held = |bench: &mut Bench| ids.map(|id| bench.read(T, id).count());
    let mut first_loss = [None; 4];
    for round in 0..420 {
        for id in ids {
            match bench.spool.append(slab(id, upto, 20)) {
                Ok(()) => {}
                // Only when all that may go is gone.
                Err(SpoolError::Full { .. }) => bench.spool.skip(id, 20).unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
        upto += 20;
        bench.settle();
        if round % 20 == 19 {
            for (loss, count) in first_loss.iter_mut().zip(held(&mut bench)) {
                if loss.is_none() && count < upto {
                    *loss = Some(round);
                }
            }
        }
    }
    let [scrap, thin, normal, keep] = first_loss;
    assert!(scrap < thin && thin < normal, "{first_loss:?}");
    assert!(scrap.is_some() && (keep.is_none() || keep > normal), "{first_loss:?}");
    let counts = held(&mut bench);
    assert!(counts[3] > counts[0].max(counts[1]).max(counts[2]), "{counts:?}");
    assert!(bench.told("keep").is_empty());
}

#[test]
fn the_newest_goes_first_where_the_beginning_matters_and_a_least_is_left() {
    let mut bench = Bench::new(Settings { bytes_max: 128 * KIB, segment_bytes: 4 * KIB, ..TIGHT });
    let newest = StreamPolicy { evict_first: EvictFirst::Newest, ..T.into() };
    let first = bench.declare("first", newest);
    let least = bench.declare("least", StreamPolicy { keep_bytes_min: 30 * KIB, ..T.into() });
    for n in 0..600 {
        for id in [first, least] {
            if bench.spool.append(slab(id, n * 20, 20)).is_err() {
                bench.spool.skip(id, 20).unwrap();
            }
        }
        bench.settle();
    }
    let early = bench.read(T, first);
    assert!(early.covers(0..400), "{early:?}");
    assert!(bench.told("first").count() > 0);
    let rows = bench.read(T, least).count();
    assert!(rows > 1_000 && bench.told("least").count() == 0 || rows < 12_000, "{rows}");
}

/// The file of an evicted segment goes when its record is durable, not before: a power cut in between only repeats
/// the eviction.
#[test]
fn a_segment_stays_until_its_record_is_durable() {
    let settings = Settings { bytes_max: 256 * KIB, segment_bytes: 16 * KIB, ..TIGHT };
    let mut bench = Bench::new(settings);
    let imu = bench.declare("imu", T.into());
    let mut next = 0;
    while bench.spool.usage().evicted_segments == 0 {
        bench.spool.append(slab(imu, next, 20)).unwrap();
        bench.spool.sync().unwrap();
        next += 20;
    }
    let before = segments(&bench.disk, T).len();
    let gone = next - bench.read(T, imu).count();
    assert!(gone > 0, "they are not handed out any more");
    let crashed = bench.disk.crash(1);
    let (mut again, opened) = open_with(&crashed, 2, &MemIndex::default(), settings);
    assert_eq!(readable(&mut again, T, opened.epoch, imu), IntervalSet::below(next), "still there");
    assert!(again.take_gaps().is_empty());
    bench.store_gaps();
    assert_eq!(segments(&bench.disk, T).len(), before, "the record is not durable yet");
    bench.spool.sync().unwrap();
    assert!(segments(&bench.disk, T).len() < before);
    assert_eq!(bench.told("imu").count(), gone);
}

/// ENOSPC from a disk that others filled: lane control finds room in the reserve, numbers wait in memory, pictures
/// of less worth go from memory first; with room it goes on, and all that is missing is told.
#[test]
fn a_full_disk_stops_neither_capture_nor_gap_records() {
    let mut bench = Bench::new(Settings { segment_bytes: 1 << 20, bytes_max: 1 << 30, ..TIGHT });
    let imu = bench.declare("imu", T.into());
    let cam = bench.declare("camera/front", SpoolLane::Media.into());
    bench.spool.append(slab(imu, 0, 10)).unwrap();
    bench.settle();
    bench.spool.maintain();
    bench.disk.set_capacity(bench.disk.used());
    let mut imu_next = 10;
    let mut cam_next = 0;
    for _ in 0..200 {
        bench.spool.append(slab(imu, imu_next, 10)).unwrap();
        imu_next += 10;
        match bench.spool.append(blob_slab(cam, cam_next, PICTURE_BYTES)) {
            Ok(()) => {}
            Err(SpoolError::Full { .. }) => bench.spool.skip(cam, 1).unwrap(),
            Err(error) => panic!("{error}"),
        }
        cam_next += 1;
        assert!(bench.spool.usage().unsynced_bytes < 5 << 20, "memory is bounded");
    }
    assert!(bench.spool.sync().is_err());
    assert!(!bench.disk.files().iter().any(|file| file.ends_with("reserve")) || bench.gap_seq == 0);
    // Records of what memory could not hold become durable on the full disk.
    bench.store_gaps();
    assert!(bench.spool.sync().is_err(), "the others still wait");
    assert!(!bench.disk.files().iter().any(|file| file.ends_with("reserve")), "the reserve was given up");
    assert_eq!(bench.read(SpoolLane::Control, bench.gaps).count(), bench.gap_seq);
    assert!(bench.gap_seq > 0);
    bench.disk.set_capacity(1 << 40);
    bench.spool.maintain();
    bench.settle();
    assert!(bench.disk.files().iter().any(|file| file.ends_with("reserve")), "and is there again");
    assert_eq!(bench.read(T, imu), IntervalSet::below(imu_next), "numbers were worth more than pictures");
    let mut pictures = bench.read(SpoolLane::Media, cam);
    assert!(pictures.count() > 50, "{}", pictures.count());
    let told = bench.told("camera/front");
    assert!(pictures.iter().all(|run| told.present_in(run).is_empty()));
    pictures.union_with(&told);
    let refused = cam_next - pictures.count();
    assert!(refused < 150, "those refused at once are the caller's to tell");
}

/// Rows wait in memory for a full disk, a later record of refused rows becomes durable, the power goes: the rows in
/// between were given their seqs and are told.
#[test]
fn rows_that_waited_are_told_when_a_record_beyond_them_survives() {
    let mut bench = Bench::new(TIGHT);
    let imu = bench.declare("imu", T.into());
    bench.spool.append(slab(imu, 0, 10)).unwrap();
    bench.settle();
    bench.spool.maintain();
    bench.disk.set_capacity(bench.disk.used());
    bench.spool.append(slab(imu, 10, 10)).unwrap();
    bench.spool.skip(imu, 5).unwrap();
    bench.spool.append(gap_slab(bench.gaps, 0, &record("imu", 20, 5))).unwrap();
    assert!(bench.spool.sync().is_err());
    let crashed = bench.disk.crash(3);
    let (mut spool, _) = open_with(&crashed, 2, &MemIndex::default(), TIGHT);
    assert_eq!(next_seq(&spool, imu), 25);
    let told: Vec<_> = spool.take_gaps().iter().map(|gap| (gap.seq_first.0, gap.seq_last.0)).collect();
    assert_eq!(told, [(10, 19)]);
}

#[derive(Debug, Clone)]
enum Op {
    Append { stream: usize, rows: u64 },
    Picture,
    Sync,
    FailSyncs(u32),
    StoreGaps,
    Maintain,
    DiskFull(bool),
    Trim { stream: usize, n: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_usize, 1..60_u64).prop_map(|(stream, rows)| Op::Append { stream, rows }),
        6 => Just(Op::Picture),
        4 => Just(Op::Sync),
        1 => (1..4_u32).prop_map(Op::FailSyncs),
        3 => Just(Op::StoreGaps),
        1 => Just(Op::Maintain),
        1 => any::<bool>().prop_map(Op::DiskFull),
        1 => (0..4_usize, 1..40_u64).prop_map(|(stream, n)| Op::Trim { stream, n }),
    ]
}

#[derive(Debug, Default)]
struct Model {
    next: u64,
    /// Appended, and given up by nobody as far as we know.
    pending: IntervalSet,
    durable: IntervalSet,
    acked: IntervalSet,
    /// Told by a gap record that may be durable.
    told: IntervalSet,
}

const STREAMS: [(&str, StreamClass, SpoolLane); 4] = [
    ("scrap", StreamClass::Scrap, T),
    ("imu", StreamClass::Normal, T),
    ("keep", StreamClass::Keep, T),
    ("camera/front", StreamClass::Thin, SpoolLane::Media),
];

struct World {
    bench: Bench,
    models: [Model; 4],
    ids: [StreamId; 4],
    own: Vec<GapRecord>,
}

impl World {
    fn append(&mut self, stream: usize, rows: u64) -> Result<(), SpoolError> {
        let (id, first) = (self.ids[stream], self.models[stream].next);
        let slab = if stream == 3 { blob_slab(id, first, PICTURE_BYTES) } else { slab(id, first, rows) };
        self.models[stream].next += rows;
        match self.bench.spool.append(slab) {
            Ok(()) => self.models[stream].pending.insert(first..first + rows),
            Err(SpoolError::Full { .. }) => {
                self.bench.spool.skip(id, rows)?;
                self.own.push(record(STREAMS[stream].0, first, rows));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes what the spool tells; rows it gave up will not become durable.
    fn collect_gaps(&mut self) {
        for gap in self.bench.spool.take_gaps() {
            for (model, (name, _, _)) in self.models.iter_mut().zip(STREAMS) {
                if gap.stream.as_str() == name {
                    gap.explained().for_each(|run| model.pending.remove(run));
                }
            }
            self.own.push(gap);
        }
    }

    fn act(&mut self, op: &Op) -> Result<(), SpoolError> {
        match *op {
            Op::Append { stream, rows } => self.append(stream, rows)?,
            Op::Picture => self.append(3, 1)?,
            Op::Sync => {
                let synced = self.bench.spool.sync();
                self.collect_gaps();
                synced?;
                for model in &mut self.models {
                    let pending = std::mem::take(&mut model.pending);
                    model.durable.union_with(&pending);
                }
            }
            Op::FailSyncs(n) => self.bench.disk.fail_syncs(n),
            Op::StoreGaps => {
                self.collect_gaps();
                for gap in std::mem::take(&mut self.own) {
                    if self.bench.spool.append(gap_slab(self.bench.gaps, self.bench.gap_seq, &gap)).is_err() {
                        self.bench.spool.skip(self.bench.gaps, 1)?;
                        self.own.push(gap);
                    } else {
                        for (model, (name, _, _)) in self.models.iter_mut().zip(STREAMS) {
                            if gap.stream.as_str() == name {
                                gap.explained().for_each(|run| model.told.insert(run));
                            }
                        }
                    }
                    self.bench.gap_seq += 1;
                }
            }
            Op::Maintain => self.bench.spool.maintain(),
            Op::DiskFull(full) => {
                let used = self.bench.disk.used();
                self.bench.disk.set_capacity(if full { used + 10_000 } else { 1 << 40 });
            }
            Op::Trim { stream, n } => {
                let model = &mut self.models[stream];
                let from = model.acked.upto();
                let mut acked = IntervalSet::new();
                model.durable.present_in(from..from + n).into_iter().for_each(|range| acked.insert(range));
                self.bench.spool.trim(self.ids[stream], &acked)?;
                model.acked.union_with(&acked);
            }
        }
        Ok(())
    }
}

fn record(stream: &str, first: u64, rows: u64) -> GapRecord {
    GapRecord {
        stream: stream.parse().unwrap(),
        boot_ordinal: BootOrdinal(1),
        seq_first: Seq(first),
        seq_last: Seq(first + rows - 1),
        cause: GapCause::EvictedDiskFull,
        stride: 0,
        phase: 0,
        rows,
        bytes: 0,
        b_first: BootNanos(0),
        b_last: BootNanos(0),
        policy_version: 0,
        note: String::new(),
    }
}

const MODEL: Settings =
    Settings { segment_bytes: 64 * KIB, bytes_max: 700 * KIB, free_bytes_min: 0, new_epoch: false };

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// A1 and D2 with eviction, a disk that fills, failing syncs and a power cut at any change: a synced row is
    /// here, acked, or told; below the next seq nothing is missing in silence; no new record covers a row that is
    /// here; and the budget holds.
    #[test]
    fn spool_room_model(
        ops in proptest::collection::vec(op(), 1..120), cut in 0..900_u64, seed: u64
    ) {
        let bench = Bench::new(MODEL);
        let mut world =
            World { bench, models: Default::default(), ids: [StreamId(0); 4], own: Vec::new() };
        for (at, (name, class, lane)) in STREAMS.into_iter().enumerate() {
            world.ids[at] = world.bench.declare(name, StreamPolicy { class, ..lane.into() });
        }
        world.bench.disk.cut_power_after(cut);
        for op in &ops {
            let done = world.act(op);
            prop_assert!(world.bench.spool.usage().bytes <= MODEL.bytes_max);
            if done.is_err() && world.bench.disk.power_is_off() {
                break;
            }
        }
        world.collect_gaps();
        let World { bench, models, ids, .. } = world;
        let crashed = bench.disk.crash(seed);
        crashed.set_capacity(1 << 40);
        let (mut spool, reopened) = open_with(&crashed, 2, &MemIndex::default(), MODEL);
        prop_assert!(!reopened.new_epoch, "a power cut alone never costs the epoch");
        let gaps = spool.take_gaps();
        for (((name, _, lane), model), id) in STREAMS.into_iter().zip(&models).zip(ids) {
            let mut here = IntervalSet::new();
            for found in read_all(&mut spool, lane) {
                if found.slab.rows.stream == headwater_core::batch::StreamRef::Id(id) {
                    here.insert(found.slab.rows.seqs());
                }
            }
            let mut accounted = here.clone();
            accounted.union_with(&model.acked);
            accounted.union_with(&model.told);
            for gap in gaps.iter().filter(|gap| gap.stream.as_str() == name) {
                for run in gap.explained() {
                    prop_assert!(here.present_in(run.clone()).is_empty(), "{} is told lost in {:?} and here", name, run);
                    accounted.insert(run);
                }
            }
            let lost: Vec<_> = model.durable.iter().flat_map(|run| accounted.missing_in(run)).collect();
            prop_assert!(lost.is_empty(), "{} lost synced {:?}", name, lost);
            let next = spool.streams().into_iter().find(|s| s.id == id).map_or(0, |s| s.next_seq.0);
            prop_assert!(next >= model.durable.end(), "{} would give {} again", name, next);
            let silent = accounted.missing_in(0..next);
            prop_assert!(silent.is_empty(), "{} misses {:?} in silence", name, silent);
        }
    }
}
