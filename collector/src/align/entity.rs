//! What the engine is given of one entity: the samples its rows reach, of all epochs and devices that meet there, in total
//! order.

use super::buffer::{Buffer, Values, concat, extend, pick, take};
use super::layout::Layout;
use crate::dedup::{Ledger, StreamKey};
use arrow_schema::ArrowError;
use headwater_align::derive::{PrepareError, Prepared, Span, prepare};
use headwater_align::engine::{Entity, Gaps};
use headwater_align::sample::{Line, Samples, Stamps};
use headwater_core::id::{BootOrdinal, Epoch, StreamName};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Samples of one stream and epoch that go to the engine.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub(super) key: &'a StreamKey,
    pub(super) samples: &'a Buffer,
    /// Which, in order.
    pub(super) places: Vec<Range<usize>>,
}

/// The boot lines of some parts, and their places.
#[derive(Debug, Default)]
pub(super) struct Lines {
    places: BTreeMap<(StreamKeyless, u32), u32>,
    lines: Vec<Line>,
}

type StreamKeyless = (headwater_core::id::DeviceId, headwater_core::id::Epoch);

fn keyless(key: &StreamKey) -> StreamKeyless {
    (key.device.clone(), key.epoch)
}

impl Lines {
    pub(super) fn of<'a>(parts: impl Iterator<Item = &'a Part<'a>>) -> Self {
        let mut found: BTreeSet<(StreamKeyless, u32)> = BTreeSet::new();
        for part in parts {
            let boots = &part.samples.stamps().line;
            for range in &part.places {
                // Samples are in order of their boots.
                let mut at = range.start;
                while let Some(boot) = boots.get(at).filter(|_| at < range.end) {
                    found.insert((keyless(part.key), *boot));
                    at = part.samples.upto(BootOrdinal(*boot), i64::MAX).max(at.saturating_add(1));
                }
            }
        }
        let lines = found.iter().map(|((device, epoch), boot)| Line {
            device: device.clone(),
            epoch: *epoch,
            boot: BootOrdinal(*boot),
        });
        let lines: Vec<Line> = lines.collect();
        let places = found.into_iter().zip(0..).collect();
        Self { places, lines }
    }
}

/// The samples of one source, of all its parts in total order.
pub(super) fn samples(
    parts: &[Part<'_>],
    lines: &Lines,
    layout: &Layout,
    (source, column): (usize, Option<usize>),
) -> Result<Samples, ArrowError> {
    let mut all: Vec<(Stamps, Values, &StreamKey)> = Vec::with_capacity(parts.len());
    for part in parts {
        let (mut stamps, values) = cut(part)?;
        let who = keyless(part.key);
        let mut known = None;
        for line in &mut stamps.line {
            let place = match known {
                Some((boot, place)) if boot == *line => place,
                _ => lines.places.get(&(who.clone(), *line)).copied().unwrap_or_default(),
            };
            known = Some((*line, place));
            *line = place;
        }
        all.push((stamps, values, part.key));
    }
    let (stamps, values) = merged(all)?;
    let values = layout.batch(source, column, &values, stamps.len())?;
    Ok(Samples { stamps, values })
}

fn cut(part: &Part<'_>) -> Result<(Stamps, Values), ArrowError> {
    let (stamps, values) = (part.samples.stamps(), part.samples.values());
    match part.places.as_slice() {
        [range] => {
            let order: Vec<usize> = range.clone().collect();
            let slice = |array: &arrow_array::ArrayRef| array.slice(range.start, range.len());
            let values = values.iter().map(|array| array.as_ref().map(slice)).collect();
            Ok((pick(stamps, &order), values))
        }
        ranges => {
            let order: Vec<usize> = ranges.iter().flat_map(Clone::clone).collect();
            Ok((pick(stamps, &order), take(values, &order)?))
        }
    }
}

/// Total order: within a device and epoch as they stand, across them by (`ts_ns`, device, epoch, seq).
fn merged(mut all: Vec<(Stamps, Values, &StreamKey)>) -> Result<(Stamps, Values), ArrowError> {
    all.retain(|(stamps, _, _)| !stamps.is_empty());
    if all.len() < 2 {
        let first = all.pop().map(|(stamps, values, _)| (stamps, values));
        return Ok(first.unwrap_or_default());
    }
    let starts: Vec<usize> = all
        .iter()
        .scan(0, |start, (stamps, _, _)| {
            let at = *start;
            *start += stamps.len();
            Some(at)
        })
        .collect();
    let mut heads = vec![0_usize; all.len()];
    let mut order = Vec::with_capacity(all.iter().map(|(stamps, _, _)| stamps.len()).sum());
    loop {
        let ahead = all.iter().zip(&heads).enumerate().filter_map(|(part, ((stamps, _, key), head))| {
            let rank =
                (*stamps.ts_ns.get(*head)?, &key.device, key.epoch, *stamps.seq.get(*head)?, &key.stream);
            Some((rank, part))
        });
        let Some((_, part)) = ahead.min() else { break };
        if let (Some(head), Some(start)) = (heads.get_mut(part), starts.get(part)) {
            order.push(start.saturating_add(*head));
            *head = head.saturating_add(1);
        }
    }
    let mut stamps = Stamps::default();
    all.iter().for_each(|(part, _, _)| extend(&mut stamps, part));
    let parts: Vec<(&Values, usize)> = all.iter().map(|(stamps, values, _)| (values, stamps.len())).collect();
    Ok((pick(&stamps, &order), take(&concat(&parts)?, &order)?))
}

/// What prepared samples of a column were made of.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// Epoch and seq of a sample, the first and last seq it was made of, and its boot line; in order.
    of: Vec<(Epoch, u64, Span, u32)>,
}

impl Spans {
    fn new(prepared: &Prepared, lines: &[Line]) -> Self {
        let stamps = &prepared.samples.stamps;
        let all = stamps.line.iter().zip(&stamps.seq).zip(&prepared.spans);
        let one = |((line, seq), span): ((&u32, &u64), &Span)| {
            Some((lines.get(usize::try_from(*line).ok()?)?.epoch, *seq, *span, *line))
        };
        let mut of: Vec<_> = all.filter_map(one).collect();
        of.sort_unstable_by_key(|(epoch, seq, span, _)| (*epoch, *seq, span.seq_lo, span.seq_hi));
        Self { of }
    }

    /// What the samples of this seq were made of, all of them, and their boot line; resampled ones share one.
    pub(super) fn get(&self, epoch: Epoch, seq: u64) -> Option<(Span, u32)> {
        let from = self.of.partition_point(|(of, at, _, _)| (*of, *at) < (epoch, seq));
        let same = self.of.iter().skip(from).take_while(|(of, at, _, _)| (*of, *at) == (epoch, seq));
        same.map(|(_, _, span, line)| (*span, *line)).reduce(|(a, line), (b, _)| {
            (Span { seq_lo: a.seq_lo.min(b.seq_lo), seq_hi: a.seq_hi.max(b.seq_hi) }, line)
        })
    }
}

/// An entity for the engine, and of each column that is prepared what its samples were made of.
pub(super) struct Given {
    pub(super) entity: Entity,
    pub(super) spans: Vec<Option<Spans>>,
}

/// An entity for the engine.
pub(super) fn entity(
    name: &str,
    spine: &[Vec<Part<'_>>],
    columns: &[Vec<Part<'_>>],
    layout: &Layout,
) -> Result<Given, PrepareError> {
    let lines = Lines::of(spine.iter().chain(columns).flatten());
    let spine: Vec<Samples> = spine
        .iter()
        .enumerate()
        .map(|(source, parts)| samples(parts, &lines, layout, (source, None)))
        .collect::<Result<_, _>>()?;
    let (mut given, mut spans) = (Vec::new(), Vec::new());
    for (column, parts) in columns.iter().enumerate() {
        let source = layout.source_of(column).unwrap_or_default();
        let raw = samples(parts, &lines, layout, (source, Some(column)))?;
        match layout.steps(column) {
            [] => {
                given.push(raw);
                spans.push(None);
            }
            steps => {
                let prepared = prepare(steps, raw)?;
                spans.push(Some(Spans::new(&prepared, &lines.lines)));
                given.push(prepared.samples);
            }
        }
    }
    Ok(Given { entity: Entity { name: name.to_owned(), lines: lines.lines, spine, columns: given }, spans })
}

/// Recorded gaps of the columns' streams.
pub(super) struct LedgerGaps<'a> {
    pub(super) ledger: &'a Ledger,
    /// Stream of each column of the plan.
    pub(super) streams: Vec<&'a StreamName>,
}

impl Gaps for LedgerGaps<'_> {
    fn any(&self, column: usize, line: &Line, seqs: Range<u64>) -> bool {
        let Some(stream) = self.streams.get(column) else { return false };
        let (device, epoch, stream) = (line.device.clone(), line.epoch, (*stream).clone());
        self.ledger.has_gap_in(&StreamKey { device, epoch, stream }, seqs)
    }
}
