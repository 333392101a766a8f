//! Seqs that are missing on a card, and whether anything on it says why (invariant D2).

use super::survey::{Card, StreamOfEpoch};
use headwater_core::gap::GapRecord;
use headwater_core::id::Epoch;
use headwater_core::interval::IntervalSet;
use headwater_core::schema::builtin::GAPS_STREAM;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What is known of a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It lies within an unsealed segment: opening the spool records it.
    AtNextOpen,
    /// Segments between its ends are gone: they were acked and freed, or their record was.
    Freed,
    /// Nothing explains it.
    Unexplained,
}

/// A run of seqs that nothing on the card accounts for by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) stream: StreamOfEpoch,
    pub(super) seqs: Range<u64>,
    pub(super) why: Why,
}

/// Finds the holes between rows of each stream. `present` and `gaps` come from going through the segments.
pub(super) fn holes(
    card: &Card,
    present: &BTreeMap<StreamOfEpoch, IntervalSet>,
    gaps: &[(Epoch, GapRecord)],
) -> Vec<Hole> {
    let names = card.names();
    let mut explained: BTreeMap<StreamOfEpoch, IntervalSet> = BTreeMap::new();
    for (epoch, gap) in gaps {
        let of_name = names.iter().filter(|((e, _), (name, _))| e == epoch && *name == gap.stream);
        for (stream, _) in of_name {
            let set = explained.entry(*stream).or_default();
            gap.explained().for_each(|seqs| set.insert(seqs));
        }
    }
    for segment in &card.segments {
        for lost in &segment.summary.lost {
            explained.entry((segment.summary.epoch, lost.stream)).or_default().insert(lost.seqs.clone());
        }
    }
    let mut found = Vec::new();
    for (stream, held) in present {
        let Some(start) = held.iter().next().map(|range| range.start) else { continue };
        for hole in held.missing_in(start..held.end()) {
            let untold = match explained.get(stream) {
                Some(told) => told.missing_in(hole),
                None => vec![hole],
            };
            for seqs in untold {
                let why = why(card, *stream, &seqs, &names, present);
                found.push(Hole { stream: *stream, seqs, why });
            }
        }
    }
    found
}

fn why(
    card: &Card,
    (epoch, id): StreamOfEpoch,
    seqs: &Range<u64>,
    names: &BTreeMap<StreamOfEpoch, (headwater_core::id::StreamName, headwater_core::ports::SpoolLane)>,
    present: &BTreeMap<StreamOfEpoch, IntervalSet>,
) -> Why {
    let holding = || {
        card.segments.iter().filter_map(move |segment| {
            let part = segment.summary.streams.get(&id).filter(|_| segment.summary.epoch == epoch)?;
            Some((segment, part))
        })
    };
    let within_unsealed = holding().any(|(segment, part)| {
        let below = part.seqs.iter().next().is_some_and(|range| range.start < seqs.start);
        !segment.sealed && below && part.seqs.end() >= seqs.end
    });
    if within_unsealed {
        return Why::AtNextOpen;
    }
    // A stream may lie in several series; in any of them a segment may have been freed between its neighbours.
    let series: BTreeSet<&str> = holding().map(|(segment, _)| segment.series.as_str()).collect();
    let freed = series.into_iter().any(|series| {
        let of_series = || holding().filter(move |(segment, _)| segment.series == series);
        let before = of_series().filter(|(_, part)| part.seqs.iter().any(|range| range.start < seqs.start));
        let after = of_series().filter(|(_, part)| part.seqs.end() >= seqs.end);
        let (before, after) =
            (before.map(|(segment, _)| segment.segno).max(), after.map(|(segment, _)| segment.segno).min());
        let (Some(before), Some(after)) = (before, after) else { return false };
        let here =
            card.segments.iter().filter(|segment| segment.series == series).map(|segment| segment.segno);
        let between = here.filter(|segno| (before..=after).contains(segno)).count() as u64;
        after > before && between < after.saturating_sub(before).saturating_add(1)
    });
    // The record itself may have been acked and freed before the rows around the hole were.
    let gaps = names.iter().find(|((e, _), (name, _))| *e == epoch && name.as_str() == GAPS_STREAM);
    let records_whole = gaps.is_none_or(|(stream, _)| {
        let next = card.next_seqs().get(stream).copied().unwrap_or(0);
        present.get(stream).map_or(next == 0, |rows| rows.covers(0..next))
    });
    if freed || !records_whole { Why::Freed } else { Why::Unexplained }
}
