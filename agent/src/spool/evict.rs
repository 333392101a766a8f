//! Which segments go when room runs short, and what is told of the rows in them. Pure.

use super::series_id::{LAYERS, Rank, SeriesId};
use headwater_core::gap::THINNED_ROWS_MAX;
use headwater_core::id::{BootOrdinal, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::EvictFirst;
use headwater_core::time::BootNanos;
use std::collections::BTreeMap;
use std::ops::Range;

/// A sealed segment that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) segno: u64,
    pub(super) len: u64,
    /// When its oldest row was captured.
    pub(super) age: (BootOrdinal, BootNanos),
    /// Bytes by stream.
    pub(super) streams: BTreeMap<StreamId, u64>,
}

/// Bytes of a stream: what is held, and what eviction must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stock {
    pub(super) held: u64,
    pub(super) keep_min: u64,
}

/// Chooses segments until `need` bytes are freed, or nothing more may go: the lowest rank first; within it every
/// series offers its oldest or its newest segment, as it was told, and the oldest offer goes.
pub(super) fn choose(
    series: &BTreeMap<SeriesId, Vec<Candidate>>,
    stock: &BTreeMap<StreamId, Stock>,
    need: u64,
) -> Vec<(SeriesId, u64)> {
    let mut stock = stock.clone();
    let mut left: BTreeMap<SeriesId, Vec<&Candidate>> = series
        .iter()
        .filter(|(id, _)| id.rank != Rank::Keep)
        .map(|(id, all)| {
            let mut all: Vec<_> = all.iter().collect();
            // The next one to go is the last one here.
            all.sort_by_key(|candidate| candidate.segno);
            if id.evict_first == EvictFirst::Oldest {
                all.reverse();
            }
            (*id, all)
        })
        .collect();
    let (mut victims, mut freed) = (Vec::new(), 0_u64);
    while freed < need {
        for offers in left.values_mut() {
            while offers.last().is_some_and(|offer| !may_go(offer, &stock)) {
                offers.pop();
            }
        }
        let next = left
            .iter()
            .filter_map(|(id, offers)| Some(((id.rank, offers.last()?.age), *id)))
            .min()
            .and_then(|(_, id)| Some((id, left.get_mut(&id)?.pop()?)));
        let Some((id, gone)) = next else { break };
        for (stream, bytes) in &gone.streams {
            if let Some(stock) = stock.get_mut(stream) {
                stock.held = stock.held.saturating_sub(*bytes);
            }
        }
        freed = freed.saturating_add(gone.len);
        victims.push((id, gone.segno));
    }
    victims
}

fn may_go(candidate: &Candidate, stock: &BTreeMap<StreamId, Stock>) -> bool {
    candidate.streams.iter().all(|(stream, bytes)| {
        let Stock { held, keep_min } = stock.get(stream).copied().unwrap_or_default();
        keep_min == 0 || held.saturating_sub(*bytes) >= keep_min
    })
}

/// A run of seqs as one gap record tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) seqs: Range<u64>,
    /// Below 2: all of them are gone; else every `stride`-th is not, from `phase` on.
    pub(super) stride: u32,
    pub(super) phase: u32,
    /// Rows that go with it.
    pub(super) rows: u64,
}

/// Tells of rows that go from a temporal layer (or, at `LAYERS` and above, from where there is none) in as few
/// records as there can be without covering a row of `held`: the collector takes a recorded row for settled. The
/// lower layers are gone before a layer goes, so a record may speak for them too.
pub(super) fn tell(gone: &IntervalSet, held: &IntervalSet, layer: u8) -> Vec<Told> {
    let stride = if layer < LAYERS - 1 { 2_u64 << layer } else { 0 };
    let kept = |run: &Range<u64>| {
        stride > 0 && run.end == run.start.saturating_add(1) && run.start.is_multiple_of(stride)
    };
    let thins = stride > 0 && gone.iter().all(|run| run.start.next_multiple_of(stride) >= run.end);
    let mut told: Vec<Told> = Vec::new();
    for run in gone.iter() {
        let rows = run.end.saturating_sub(run.start);
        let last = told.last_mut().filter(|last| {
            let between = held.present_in(last.seqs.end..run.start);
            let clear = between.iter().all(|run| thins && kept(run));
            clear && (!thins || run.end.saturating_sub(last.seqs.start) <= THINNED_ROWS_MAX)
        });
        match last {
            Some(last) => {
                last.seqs.end = run.end;
                last.rows = last.rows.saturating_add(rows);
            }
            None => told.push(Told { seqs: run, stride: 0, phase: 0, rows }),
        }
    }
    for told in
        told.iter_mut().filter(|told| thins && told.rows < told.seqs.end.saturating_sub(told.seqs.start))
    {
        let phase = told.seqs.start.next_multiple_of(stride).saturating_sub(told.seqs.start);
        told.stride = u32::try_from(stride).unwrap_or(0);
        told.phase = u32::try_from(phase).unwrap_or(0);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::super::series_id::layer_of;
    use super::*;
    use headwater_core::gap::explained;
    use headwater_core::ports::SpoolLane;
    use proptest::prelude::*;

    fn id(name: &str) -> SeriesId {
        SeriesId::from_dir_name(name).unwrap()
    }

    fn candidate(segno: u64, at: i64, stream: u16) -> Candidate {
        let streams = BTreeMap::from([(StreamId(stream), 100)]);
        Candidate { segno, len: 100, age: (BootOrdinal(1), BootNanos(at)), streams }
    }

    #[test]
    fn the_least_goes_first_and_keep_never() {
        let series = BTreeMap::from([
            (id("control.keep"), vec![candidate(1, 0, 1)]),
            (id("telemetry.normal"), vec![candidate(1, 5, 2), candidate(2, 20, 2)]),
            (id("media.normal"), vec![candidate(1, 10, 3)]),
            (id("media.thin0"), vec![candidate(1, 40, 4), candidate(2, 50, 4)]),
            (id("media.thin1"), vec![candidate(1, 1, 4)]),
            (id("media.scrap"), vec![candidate(9, 99, 5)]),
        ]);
        let order = choose(&series, &BTreeMap::new(), u64::MAX);
        let names: Vec<_> = order.iter().map(|(id, segno)| format!("{} {segno}", id.dir_name())).collect();
        assert_eq!(
            names,
            [
                "media.scrap 9",
                "media.thin0 1",
                "media.thin0 2",
                "media.thin1 1",
                "telemetry.normal 1",
                "media.normal 1",
                "telemetry.normal 2"
            ]
        );
        assert_eq!(choose(&series, &BTreeMap::new(), 150).len(), 2, "no more than is needed");
        assert!(choose(&series, &BTreeMap::new(), 0).is_empty());
    }

    #[test]
    fn newest_first_and_what_must_be_left() {
        let newest = SeriesId { evict_first: EvictFirst::Newest, ..SeriesId::plain(SpoolLane::Telemetry) };
        let series =
            BTreeMap::from([(newest, vec![candidate(1, 1, 1), candidate(2, 2, 1), candidate(3, 3, 2)])]);
        let stock = BTreeMap::from([
            (StreamId(1), Stock { held: 200, keep_min: 150 }),
            (StreamId(2), Stock { held: 100, keep_min: 0 }),
        ]);
        let segnos =
            |stock: &_| choose(&series, stock, u64::MAX).into_iter().map(|(_, n)| n).collect::<Vec<_>>();
        assert_eq!(segnos(&BTreeMap::new()), [3, 2, 1]);
        assert_eq!(segnos(&stock), [3], "stream 1 stays above its least");
    }

    #[test]
    fn thinning_is_told_in_one_record() {
        let of = |layer: u8| {
            let mut set = IntervalSet::new();
            (0..64).filter(|seq| layer_of(*seq) == layer).for_each(|seq| set.insert(seq..seq + 1));
            set
        };
        let mut held = of(1);
        held.union_with(&of(2));
        held.union_with(&of(3));
        let told = tell(&of(0), &held, 0);
        assert_eq!(told, [Told { seqs: 1..64, stride: 2, phase: 1, rows: 32 }]);
        let mut held = of(2);
        held.union_with(&of(3));
        assert_eq!(tell(&of(1), &held, 1), [Told { seqs: 2..63, stride: 4, phase: 2, rows: 16 }]);
        assert_eq!(
            tell(&of(3), &IntervalSet::new(), 3),
            [Told { seqs: 0..57, stride: 0, phase: 0, rows: 8 }]
        );
    }

    proptest! {
        #[test]
        fn every_row_is_told_and_none_that_is_held(
            layer in 0..6_u8,
            span in 1..400_u64,
            start in 0..5000_u64,
            dropped in any::<u64>(),
            alive in any::<u64>(),
        ) {
            let (mut gone, mut held) = (IntervalSet::new(), IntervalSet::new());
            for seq in start..start + span {
                let mix = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mine = layer >= LAYERS || layer_of(seq) == layer;
                if mine && (mix ^ dropped) % 8 > 0 {
                    gone.insert(seq..seq + 1);
                } else if (mix ^ alive) % 3 > 0 {
                    held.insert(seq..seq + 1);
                }
            }
            let told = tell(&gone, &held, layer);
            let mut accounted = IntervalSet::new();
            for told in &told {
                explained(told.seqs.clone(), told.stride.into(), told.phase.into())
                    .for_each(|run| accounted.insert(run));
            }
            prop_assert!(gone.iter().all(|run| accounted.covers(run)));
            prop_assert!(held.iter().all(|run| accounted.present_in(run).is_empty()));
            prop_assert_eq!(told.iter().map(|told| told.rows).sum::<u64>(), gone.count());
        }
    }
}
