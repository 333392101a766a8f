//! What a spool must hold after its process or its disk died, from what the process said before.

use super::spool_world::{boot, read_all};
use super::writer::{SETTINGS, STREAMS, Said, marked, round_of};
use headwater_agent::spool::DiskSpool;
use headwater_agent::spool::disk::RealDisk;
use headwater_core::batch::StreamRef;
use headwater_core::id::{Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Spool, SpoolLane};
use std::collections::BTreeMap;
use std::path::Path;

/// What is known of a stream.
#[derive(Debug, Default)]
struct Known {
    /// Rows the spool acknowledged.
    acked: IntervalSet,
    /// Rows that may be released.
    trimmed: IntervalSet,
    /// Seq → the round whose content it has: acknowledged, or seen by a reader, which may have shipped it.
    content: BTreeMap<u64, u64>,
}

/// Remembers over all rounds.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    streams: [Known; 4],
    epoch: Option<Epoch>,
    /// Rows acknowledged so far.
    pub(crate) rows: u64,
    /// Syncs that returned after the cut.
    pub(crate) late: u64,
}

impl Witness {
    pub(crate) fn hears(&mut self, round: u64, said: Said) {
        match said {
            Said::Appends(..) => {}
            Said::Late(_) => self.late += 1,
            Said::Synced(rows) => {
                for (stream, seqs) in rows {
                    let known = &mut self.streams[stream];
                    self.rows += seqs.end - seqs.start;
                    known.acked.insert(seqs.clone());
                    for seq in seqs {
                        let before = known.content.insert(seq, round);
                        assert!(
                            before.is_none_or(|before| before == round),
                            "{} {seq} was given in round {before:?} and again in {round}",
                            STREAMS[stream].0
                        );
                    }
                }
            }
            Said::Trims(stream, upto) => self.streams[stream].trimmed.insert(0..upto),
        }
    }

    /// Opens the spool as the next process would, and holds it to what was said.
    pub(crate) fn checks(&mut self, dir: &Path, round: u64) {
        let (mut spool, opened) =
            DiskSpool::open(RealDisk, dir, boot(round as u8), SETTINGS).expect("a spool always opens");
        let epoch = *self.epoch.get_or_insert(opened.epoch);
        assert_eq!(opened.epoch, epoch, "round {round}: neither a kill nor a power cut costs the epoch");
        let gaps = spool.take_gaps();
        let states = spool.streams();
        let mut back = [IntervalSet::new(), IntervalSet::new(), IntervalSet::new(), IntervalSet::new()];
        for found in SpoolLane::ALL.into_iter().flat_map(|lane| read_all(&mut spool, lane)) {
            let StreamRef::Id(id) = found.slab.rows.stream else { panic!("a slab without a stream id") };
            let (stream, seqs) = (usize::from(id.0) - 1, found.slab.rows.seqs());
            let wrote = round_of(&found.slab).unwrap();
            let expected = marked(StreamId(id.0), seqs.clone(), wrote);
            assert!(found.slab.rows.same_bits(&expected.rows), "{id:?} {seqs:?} changed");
            assert_eq!(found.slab.blob, expected.blob, "{id:?} {seqs:?} changed");
            assert!(back[stream].present_in(seqs.clone()).is_empty(), "{id:?} {seqs:?} is here twice");
            for seq in seqs.clone() {
                let first = *self.streams[stream].content.entry(seq).or_insert(wrote);
                assert_eq!(first, wrote, "{id:?} {seq} has two contents");
            }
            back[stream].insert(seqs);
        }
        for ((known, back), (name, _)) in self.streams.iter().zip(&back).zip(STREAMS) {
            let mut missing = known.acked.clone();
            known.trimmed.iter().for_each(|range| missing.remove(range));
            back.iter().for_each(|range| missing.remove(range));
            assert!(missing.is_empty(), "round {round}: {name} lost acknowledged {missing:?}");
            let Some(state) = states.iter().find(|state| state.name.as_str() == name) else {
                assert!(known.acked.is_empty(), "round {round}: {name} is forgotten");
                continue;
            };
            let mut told = back.clone();
            told.union_with(&known.trimmed);
            for gap in gaps.iter().filter(|gap| gap.stream.as_str() == name) {
                let seqs = gap.seq_first.0..gap.seq_last.0 + 1;
                assert!(
                    back.present_in(seqs.clone()).is_empty(),
                    "round {round}: {name} {seqs:?} is told lost and here"
                );
                told.insert(seqs);
            }
            let untold = told.missing_in(0..state.next_seq.0);
            assert!(untold.is_empty(), "round {round}: {name} misses {untold:?} in silence");
            let end = known.acked.iter().last().map_or(0, |range| range.end);
            assert!(state.next_seq.0 >= end, "round {round}: {name} would give {} again", state.next_seq.0);
        }
    }
}
