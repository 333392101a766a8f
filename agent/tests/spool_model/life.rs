//! One life of a spool: what is done to it, and what a model of it says must be there afterwards.

use super::spool_world::{MemIndex, blob_slab, declare, next_seq, open, slab};
use headwater_agent::spool::DiskSpool;
use headwater_core::batch::StreamRef;
use headwater_core::id::{Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Spool, SpoolLane};
use headwater_sim::disk::{Call, SimDisk};
use proptest::prelude::*;

/// One thing done to a spool or its disk.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Append { stream: usize, rows: u64 },
    Blob { bytes: usize },
    Skip { stream: usize, n: u64 },
    Sync,
    Read,
    Trim { stream: usize, from: u64, n: u64 },
    Fail { call: Call, after: u32, n: u32 },
    Full { left: u64 },
    Room,
    ReadOnly(bool),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => Just(Call::Sync),
        2 => Just(Call::Write),
        1 => Just(Call::Read),
        1 => Just(Call::Name),
    ]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        24 => (0..3_usize, 1..12_u64).prop_map(|(stream, rows)| Op::Append { stream, rows }),
        3 => (1..9000_usize).prop_map(|bytes| Op::Blob { bytes }),
        3 => (0..3_usize, 1..4_u64).prop_map(|(stream, n)| Op::Skip { stream, n }),
        12 => Just(Op::Sync),
        2 => Just(Op::Read),
        6 => (0..3_usize, 0..40_u64, 1..60_u64).prop_map(|(stream, from, n)| Op::Trim { stream, from, n }),
        3 => (call(), 0..4_u32, 1..4_u32).prop_map(|(call, after, n)| Op::Fail { call, after, n }),
        1 => (0..3000_u64).prop_map(|left| Op::Full { left }),
        1 => Just(Op::Room),
        1 => any::<bool>().prop_map(Op::ReadOnly),
    ]
}

pub(crate) const STREAMS: [(&str, SpoolLane); 4] = [
    ("imu", SpoolLane::Telemetry),
    ("gps", SpoolLane::Telemetry),
    ("alarm", SpoolLane::Control),
    ("camera/front", SpoolLane::Media),
];

fn id(stream: usize) -> StreamId {
    StreamId(stream as u16 + 1)
}

#[derive(Debug, Default, Clone)]
struct Known {
    next: u64,
    /// Given to the spool, kept or not.
    offered: IntervalSet,
    /// Taken by it.
    appended: IntervalSet,
    /// Synced.
    durable: IntervalSet,
    acked: IntervalSet,
}

/// What should be in the spool.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model([Known; 4]);

/// A running spool and its model.
pub(crate) struct Life {
    spool: DiskSpool<SimDisk>,
    epoch: Epoch,
    model: Model,
}

impl Life {
    pub(crate) fn begin(disk: &SimDisk, index: &MemIndex) -> Self {
        let (mut spool, opened) = open(disk, 1, index);
        for (name, lane) in STREAMS {
            declare(&mut spool, name, lane);
        }
        Self { spool, epoch: opened.epoch, model: Model::default() }
    }

    pub(crate) fn ends(self) -> (Model, Epoch) {
        (self.model, self.epoch)
    }

    /// Does it. What the spool does not take is given up, as its thread does.
    pub(crate) fn acts(&mut self, disk: &SimDisk, op: &Op) {
        match *op {
            Op::Append { stream, rows } => self.appends(stream, rows, None),
            Op::Blob { bytes } => self.appends(3, 1, Some(bytes)),
            Op::Skip { stream, n } => {
                self.spool.skip(id(stream), n).unwrap();
                self.model.0[stream].next += n;
            }
            Op::Sync => {
                if self.spool.sync().is_ok() {
                    self.model.0.iter_mut().for_each(|m| m.durable = m.appended.clone());
                }
            }
            Op::Read => {
                for (_, lane) in STREAMS {
                    if let Ok(found) = self.spool.read(lane, Cursor::default(), 20_000) {
                        for found in found {
                            let StreamRef::Id(stream) = found.slab.rows.stream else { panic!("no id") };
                            let offered = &self.model.0[usize::from(stream.0) - 1].offered;
                            let seqs = found.slab.rows.seqs();
                            assert!(offered.covers(seqs.clone()), "{seqs:?} was never written");
                        }
                    }
                }
            }
            Op::Trim { stream, from, n } => {
                let known = &mut self.model.0[stream];
                let acked: IntervalSet = known.durable.present_in(from..from + n).into_iter().collect();
                self.spool.trim(id(stream), &acked).unwrap();
                known.acked.union_with(&acked);
            }
            Op::Fail { call, after, n } => disk.fail(call, after, n),
            Op::Full { left } => disk.set_capacity(disk.used() + left),
            Op::Room => disk.set_capacity(1 << 40),
            Op::ReadOnly(read_only) => disk.set_read_only(read_only),
        }
    }

    fn appends(&mut self, stream: usize, rows: u64, blob: Option<usize>) {
        let known = &mut self.model.0[stream];
        let seqs = known.next..known.next + rows;
        let made = match blob {
            Some(bytes) => blob_slab(id(stream), seqs.start, bytes),
            None => slab(id(stream), seqs.start, rows),
        };
        known.offered.insert(seqs.clone());
        known.next = seqs.end;
        match self.spool.append(made) {
            Ok(()) => known.appended.insert(seqs),
            Err(_) => self.spool.skip(id(stream), rows).unwrap(),
        }
    }
}

impl Model {
    /// Rows of the epoch that read back, by stream, each checked against what was written.
    fn back(&self, spool: &mut DiskSpool<SimDisk>, epoch: Epoch) -> Result<[IntervalSet; 4], TestCaseError> {
        let mut back = [IntervalSet::new(), IntervalSet::new(), IntervalSet::new(), IntervalSet::new()];
        for lane in SpoolLane::ALL {
            let mut at = Cursor::default();
            loop {
                let some =
                    spool.read(lane, at, 3000).map_err(|e| TestCaseError::fail(format!("read: {e}")))?;
                let Some(last) = some.last() else { break };
                prop_assert!(last.next != at, "a cursor moves on");
                at = last.next;
                for found in some.into_iter().filter(|found| found.epoch == epoch) {
                    let StreamRef::Id(stream) = found.slab.rows.stream else { panic!("no id") };
                    let seqs = found.slab.rows.seqs();
                    let expected = match &found.slab.blob {
                        Some(blob) => blob_slab(stream, seqs.start, blob.bytes.len()),
                        None => slab(stream, seqs.start, seqs.end - seqs.start),
                    };
                    prop_assert!(found.slab.rows.same_bits(&expected.rows), "rows {:?} changed", seqs);
                    prop_assert_eq!(&found.slab.blob, &expected.blob, "blob {:?} changed", seqs);
                    let known = &self.0[usize::from(stream.0) - 1];
                    prop_assert!(known.offered.covers(seqs.clone()), "{:?} was never written", seqs);
                    back[usize::from(stream.0) - 1].insert(seqs);
                }
            }
        }
        Ok(back)
    }

    pub(crate) fn reads_what_was_written(
        &self,
        spool: &mut DiskSpool<SimDisk>,
        epoch: Epoch,
    ) -> Result<(), TestCaseError> {
        self.back(spool, epoch).map(drop)
    }

    /// Everything synced and not acked reads back.
    pub(crate) fn reads_all_synced(
        &self,
        spool: &mut DiskSpool<SimDisk>,
        epoch: Epoch,
    ) -> Result<(), TestCaseError> {
        let back = self.back(spool, epoch)?;
        for ((known, back), (name, _)) in self.0.iter().zip(&back).zip(STREAMS) {
            let mut missing = known.durable.clone();
            known.acked.iter().chain(back.iter()).for_each(|range| missing.remove(range));
            prop_assert!(missing.is_empty(), "{} lost synced {:?}", name, missing);
        }
        Ok(())
    }

    /// Reads back what must be there, and finds the rest told. `sound`: nothing synced was damaged.
    pub(crate) fn holds(
        &mut self,
        spool: &mut DiskSpool<SimDisk>,
        epoch: Epoch,
        sound: bool,
    ) -> Result<(), TestCaseError> {
        if sound {
            self.reads_all_synced(spool, epoch)?;
        }
        let back = self.back(spool, epoch)?;
        let gaps = spool.take_gaps();
        for (at, ((name, _), known)) in STREAMS.iter().zip(&self.0).enumerate() {
            let next = next_seq(spool, id(at));
            let end = known.durable.iter().last().map_or(0, |range| range.end);
            prop_assert!(!sound || next >= end, "{} would give {} again", name, next);
            // Every seq below next is read back, acked or told as a gap, and no gap covers a row that is here.
            let mut told = back[at].clone();
            told.union_with(&known.acked);
            for gap in gaps.iter().filter(|gap| gap.stream.as_str() == *name) {
                let seqs = gap.seq_first.0..gap.seq_last.0 + 1;
                let here = back[at].present_in(seqs.clone());
                prop_assert!(here.is_empty(), "{} is told lost in {:?} and here", name, seqs);
                told.insert(seqs);
            }
            let untold = told.missing_in(0..next);
            prop_assert!(untold.is_empty(), "{} misses {:?} in silence", name, untold);
        }
        Ok(())
    }

    /// Takes over what [`goes_on`] wrote, and that seqs above what survived are given again.
    pub(crate) fn has_gone_on(&mut self, spool: &DiskSpool<SimDisk>) {
        for (at, known) in self.0.iter_mut().enumerate() {
            known.next = next_seq(spool, id(at));
            let new = known.next.saturating_sub(GOES_ON_ROWS)..known.next;
            known.offered.insert(new.clone());
            known.appended.insert(new.clone());
            known.durable.insert(new);
        }
    }
}

const GOES_ON_ROWS: u64 = 3;

pub(crate) fn declares(spool: &mut DiskSpool<SimDisk>) {
    for (name, lane) in STREAMS {
        declare(spool, name, lane);
    }
}

/// After all that it goes on working.
pub(crate) fn goes_on(spool: &mut DiskSpool<SimDisk>, epoch: Epoch) -> Result<(), TestCaseError> {
    for (name, lane) in STREAMS {
        let stream = declare(spool, name, lane);
        let next = next_seq(spool, stream);
        let made = match lane {
            SpoolLane::Media => {
                (0..GOES_ON_ROWS).map(|n| blob_slab(stream, next + n, 10)).collect::<Vec<_>>()
            }
            _ => vec![slab(stream, next, GOES_ON_ROWS)],
        };
        made.into_iter().for_each(|slab| spool.append(slab).unwrap());
    }
    spool.sync().unwrap();
    prop_assert_eq!(spool.epoch(), epoch);
    Ok(())
}
