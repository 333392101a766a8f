//! `ls`: which rows lie on a card, by stream and boot, or by segment.

use super::CardError;
use super::clocks::Clocks;
use super::survey::Card;
use super::when::Select;
use headwater_core::id::{BootOrdinal, Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::time::{BootNanos, NS_PER_S};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// Most ranges of seqs that are shown of one line; the JSON has all of them.
const RANGES_SHOWN: usize = 8;

/// What lies on a card.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// By stream and boot, oldest first.
    pub streams: Vec<StreamHeld>,
    /// By segment, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<Vec<SegmentHeld>>,
    /// Files that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// What is held of a stream of one boot.
#[derive(Debug, Serialize)]
pub struct StreamHeld {
    /// Name, or the id if its name is lost.
    pub stream: String,
    /// Life of the spool, 16 hex digits.
    pub epoch: String,
    /// Boot of the gateway.
    pub boot: u32,
    /// Spool lane.
    pub lane: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Ranges of seqs, first and last.
    pub seqs: Vec<(u64, u64)>,
    /// Boot times of the first and last row, ns, if known.
    pub b_ns: Option<(i64, i64)>,
    /// The same as UTC by the gateway's own clock, ns since 1970, if it had one.
    pub utc_ns: Option<(i64, i64)>,
    /// Segments with rows of it.
    pub segments: u64,
}

/// One segment.
#[derive(Debug, Serialize)]
pub struct SegmentHeld {
    /// Place below `seg/`.
    pub segment: String,
    /// Bytes.
    pub bytes: u64,
    /// It has a footer.
    pub sealed: bool,
    /// Life of the spool; none if its header is damaged.
    pub epoch: Option<String>,
    /// Boot.
    pub boot: Option<u32>,
    /// Rows.
    pub rows: u64,
    /// Rows by stream.
    pub streams: BTreeMap<String, u64>,
}

/// What of `select` lies on a card; by segment too if `by_segment`.
///
/// # Errors
/// [`CardError`] if it cannot be said which rows are meant.
pub fn ls(card: &Card, select: &Select, by_segment: bool) -> Result<Listing, CardError> {
    let clocks = Clocks::read(card);
    let names = card.names();
    check_stream(card, select)?;
    select.check(&clocks, card.boots())?;
    let mut held: BTreeMap<(Epoch, BootOrdinal, StreamId), (StreamHeld, IntervalSet)> = BTreeMap::new();
    let mut segments = Vec::new();
    for segment in &card.segments {
        let (epoch, boot) = (segment.summary.epoch, segment.summary.boot_ordinal);
        let mut rows_by_stream = BTreeMap::new();
        for (id, part) in &segment.summary.streams {
            let named = names.get(&(epoch, *id));
            if !select.wants_stream(named.map(|(name, _)| name))
                || !select.overlaps(&clocks, (epoch, boot), part.times)
            {
                continue;
            }
            let name = named.map_or_else(|| format!("stream {}", id.0), |(name, _)| name.to_string());
            rows_by_stream.insert(name.clone(), part.rows);
            let (line, seqs) = held.entry((epoch, boot, *id)).or_insert_with(|| {
                let lane = named.map_or("?", |(_, lane)| lane.as_str()).to_owned();
                let line = StreamHeld {
                    stream: name,
                    epoch: epoch.to_string(),
                    boot: boot.0,
                    lane,
                    rows: 0,
                    bytes: 0,
                    seqs: Vec::new(),
                    b_ns: None,
                    utc_ns: None,
                    segments: 0,
                };
                (line, IntervalSet::new())
            });
            seqs.union_with(&part.seqs);
            line.bytes = line.bytes.saturating_add(part.bytes);
            line.segments = line.segments.saturating_add(1);
            if let Some((first, last)) = part.times {
                let (known_first, known_last) = line.b_ns.unwrap_or((first.0, last.0));
                line.b_ns = Some((known_first.min(first.0), known_last.max(last.0)));
            }
        }
        if by_segment && (!rows_by_stream.is_empty() || select.is_all()) {
            segments.push(SegmentHeld {
                segment: segment.name(),
                bytes: segment.len,
                sealed: segment.sealed,
                epoch: segment.header.map(|header| header.epoch.to_string()),
                boot: segment.header.map(|header| header.boot_ordinal.0),
                rows: rows_by_stream.values().sum(),
                streams: rows_by_stream,
            });
        }
    }
    let streams = held.into_iter().map(|((epoch, boot, _), (mut line, seqs))| {
        // A slab that was written twice after a failed sync is one row in the end.
        line.rows = seqs.count();
        line.seqs = seqs.iter().map(|range| (range.start, range.end.saturating_sub(1))).collect();
        let offset = clocks.offset(epoch, boot);
        let utc = |ns: i64| offset.map(|offset| ns.saturating_add(offset));
        line.utc_ns = line.b_ns.and_then(|(first, last)| utc(first).zip(utc(last)));
        line
    });
    Ok(Listing {
        streams: streams.collect(),
        segments: by_segment.then_some(segments),
        unreadable: card.unreadable.iter().map(|(path, why)| format!("{}: {why}", path.display())).collect(),
    })
}

/// Says which streams there are if the one asked for is none of them.
pub(super) fn check_stream(card: &Card, select: &Select) -> Result<(), CardError> {
    let Some(stream) = &select.stream else { return Ok(()) };
    let mut known: Vec<String> = card.names().into_values().map(|(name, _)| name.to_string()).collect();
    if known.iter().any(|name| name == stream.as_str()) {
        return Ok(());
    }
    known.sort();
    known.dedup();
    Err(CardError::NoStream { stream: stream.to_string(), known: known.join(", ") })
}

/// Seconds of a boot line with one decimal.
fn seconds(ns: i64) -> String {
    let tenths = BootNanos(ns).0.div_euclid(NS_PER_S / 10);
    format!("{}.{}", tenths.div_euclid(10), tenths.rem_euclid(10))
}

pub(super) fn utc_text(ns: i64) -> String {
    chrono::DateTime::from_timestamp(ns.div_euclid(NS_PER_S), 0)
        .map_or_else(|| format!("{ns} ns"), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

impl Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.streams {
            let shown = line.seqs.iter().take(RANGES_SHOWN);
            let mut seqs =
                shown.map(|(first, last)| format!("{first}..{last}")).collect::<Vec<_>>().join(" ");
            if let Some(more) = line.seqs.len().checked_sub(RANGES_SHOWN).filter(|more| *more > 0) {
                seqs.push_str(&format!(" and {more} more"));
            }
            write!(
                f,
                "{} (epoch {}, boot {}, {}): {} rows, {}, seq {seqs}",
                line.stream,
                line.epoch,
                line.boot,
                line.lane,
                line.rows,
                crate::status::bytes(line.bytes),
            )?;
            if let Some((first, last)) = line.b_ns {
                write!(f, ", {} to {} s of the boot", seconds(first), seconds(last))?;
            }
            if let Some((first, last)) = line.utc_ns {
                write!(f, " (about {} to {})", utc_text(first), utc_text(last))?;
            }
            writeln!(f, ", in {} segments", line.segments)?;
        }
        for segment in self.segments.iter().flatten() {
            let SegmentHeld { segment: name, bytes, sealed, rows, .. } = segment;
            let state = match (segment.epoch.is_some(), sealed) {
                (false, _) => "header damaged",
                (true, true) => "sealed",
                (true, false) => "not sealed",
            };
            writeln!(f, "{name}: {}, {rows} rows, {state}", crate::status::bytes(*bytes))?;
        }
        if self.streams.is_empty() && self.segments.iter().flatten().next().is_none() {
            writeln!(f, "no rows are held")?;
        }
        self.unreadable.iter().try_for_each(|line| writeln!(f, "! {line}"))
    }
}
