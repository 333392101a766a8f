//! `drop`: the one way to give up unacked rows by hand. A gap record `evicted {operator}` is durable before any of
//! them is let go of, and travels like every other; the agent is stopped meanwhile, and the folder is ours.

use super::CardError;
use super::clocks::Clocks;
use super::ls::check_stream;
use super::repair::open;
use super::segment::Frame;
use super::survey::Card;
use super::when::{Select, When};
use crate::spool::SpoolLock;
use headwater_core::batch::Rows;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootId, BootOrdinal, Epoch, Seq, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Slab, Spool, SpoolError, SpoolLane};
use headwater_core::sample::StampedSample;
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, ClockDomain, Latency, Stamp, StampKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::ops::Range;
use std::path::Path;

/// Gap records in one slab.
const RECORDS_PER_SLAB: usize = 256;

/// What was dropped, or would be.
#[derive(Debug, Serialize)]
pub struct DropReport {
    /// Stream.
    pub stream: String,
    /// Unacked rows.
    pub rows: u64,
    /// Bytes of the frames they lie in.
    pub bytes: u64,
    /// Their seqs, first and last.
    pub seqs: Vec<(u64, u64)>,
    /// They are gone; else this is what would go.
    pub dropped: bool,
    /// Bytes of segment files that could be freed at once; others follow once all in them is released.
    pub freed_bytes: u64,
}

/// Rows to be dropped, of one boot.
#[derive(Debug, Default)]
struct Doomed {
    seqs: IntervalSet,
    bytes: u64,
    span: Option<(BootNanos, BootNanos)>,
}

/// Drops the unacked rows of `stream` before `before` (all of them if none). Without `really` it only says which.
///
/// # Errors
/// [`CardError::Lock`] while an agent holds the spool; nothing is dropped then.
pub fn drop_rows(
    dir: &Path,
    stream: &StreamName,
    before: Option<When>,
    really: bool,
    (boot_id, now): (BootId, BootNanos),
) -> Result<DropReport, CardError> {
    if stream.as_str().starts_with("hw/") {
        return Err(CardError::OwnStream { stream: stream.clone() });
    }
    let select = Select { stream: Some(stream.clone()), since: None, until: before };
    if !dir.join("seg").is_dir() {
        return Err(CardError::NoSpool { dir: dir.to_owned() });
    }
    // Checked before anything is opened: opening a spool is a recovery.
    check_stream(&Card::open(dir, |_| ())?, &select)?;
    let _held = SpoolLock::take(dir)?;
    let failed = |source| CardError::Spool { dir: dir.to_owned(), source };
    let (mut spool, opened) = open(dir, boot_id)?;
    // As recovery left it: sealed, and of known names.
    let card = Card::open(dir, |_| ())?;
    let clocks = Clocks::read(&card);
    select.check(&clocks, card.boots())?;
    let state = spool.streams().into_iter().find(|state| state.name == *stream);
    let Some(state) = state else {
        let known = spool.streams().into_iter().map(|state| state.name.to_string());
        return Err(CardError::NoStream {
            stream: stream.to_string(),
            known: known.collect::<Vec<_>>().join(", "),
        });
    };
    let doomed = doomed(&card, &clocks, &select, (opened.epoch, state.id), &state.held);
    let seqs = doomed.values().flat_map(|doomed| doomed.seqs.iter());
    let mut report = DropReport {
        stream: stream.to_string(),
        rows: doomed.values().map(|doomed| doomed.seqs.count()).sum(),
        bytes: doomed.values().map(|doomed| doomed.bytes).sum(),
        seqs: seqs.map(|range| (range.start, range.end.saturating_sub(1))).collect(),
        dropped: false,
        freed_bytes: 0,
    };
    if !really || report.rows == 0 {
        return Ok(report);
    }
    let records = records(stream, &doomed);
    let held_bytes = spool.usage().bytes;
    record(&mut spool, &records, opened.boot_ordinal, now).map_err(failed)?;
    let mut gone = state.acked.clone();
    doomed.values().for_each(|doomed| gone.union_with(&doomed.seqs));
    let with_records = spool.usage().bytes;
    spool.trim(state.id, &gone).map_err(failed)?;
    spool.flush_index();
    report.dropped = true;
    report.freed_bytes = with_records.max(held_bytes).saturating_sub(spool.usage().bytes);
    Ok(report)
}

/// Held rows that are meant, by boot: whole slabs, so that what is left can still be read as it was written.
fn doomed(
    card: &Card,
    clocks: &Clocks,
    select: &Select,
    (epoch, id): (Epoch, headwater_core::id::StreamId),
    held: &IntervalSet,
) -> BTreeMap<BootOrdinal, Doomed> {
    let mut found: BTreeMap<BootOrdinal, Doomed> = BTreeMap::new();
    let of_stream = card
        .segments
        .iter()
        .filter(|segment| segment.summary.epoch == epoch && segment.summary.streams.contains_key(&id));
    for segment in of_stream {
        let boot = segment.summary.boot_ordinal;
        let read = segment.go_through(|_, head, frame| {
            let Frame::Slab(slab) = frame else { return };
            // Dropped only if all of it lies before; rows without boot time only with all others.
            let last = head.meta.times.map(|(_, last)| (last, last));
            let meant = match (select.until, last) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(_), last) => select.overlaps(clocks, (epoch, boot), last),
            };
            if head.meta.stream != id || !meant {
                return;
            }
            let entry = found.entry(slab.rows.boot_ordinal).or_default();
            entry.bytes = entry.bytes.saturating_add(head.len as u64);
            entry.span = match (entry.span, head.meta.times) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            };
            held.present_in(slab.rows.seqs()).into_iter().for_each(|seqs| entry.seqs.insert(seqs));
        });
        if let Err(error) = read {
            tracing::warn!(%error, segment = segment.name(), "segment cannot be read, and nothing of it is dropped");
        }
    }
    found.retain(|_, doomed| !doomed.seqs.is_empty());
    found
}

fn records(stream: &StreamName, doomed: &BTreeMap<BootOrdinal, Doomed>) -> Vec<GapRecord> {
    let record = |boot: BootOrdinal, doomed: &Doomed, seqs: Range<u64>| {
        let (b_first, b_last) = doomed.span.unwrap_or((BootNanos(0), BootNanos(0)));
        GapRecord {
            stream: stream.clone(),
            boot_ordinal: boot,
            seq_first: Seq(seqs.start),
            seq_last: Seq(seqs.end.saturating_sub(1)),
            cause: GapCause::EvictedOperator,
            stride: 0,
            phase: 0,
            rows: seqs.end.saturating_sub(seqs.start),
            bytes: 0,
            b_first,
            b_last,
            policy_version: 0,
            note: "dropped by hand with `headwater-agent spool drop`".to_owned(),
        }
    };
    let of_boot = |(boot, doomed): (&BootOrdinal, &Doomed)| {
        doomed.seqs.iter().map(|seqs| record(*boot, doomed, seqs)).collect::<Vec<_>>()
    };
    doomed.iter().flat_map(of_boot).collect()
}

/// Appends gap records as rows of `hw/gaps` and makes them durable.
fn record(
    spool: &mut impl Spool,
    records: &[GapRecord],
    boot_ordinal: BootOrdinal,
    now: BootNanos,
) -> Result<(), SpoolError> {
    let schema = builtin::gaps();
    let name: StreamName =
        builtin::GAPS_STREAM.parse().map_err(|_| SpoolError::Unknown(headwater_core::id::StreamId(0)))?;
    let id = spool.declare(&name, &schema, SpoolLane::Control.into())?;
    for chunk in records.chunks(RECORDS_PER_SLAB) {
        let next =
            spool.streams().into_iter().find(|state| state.id == id).map_or(Seq(0), |state| state.next_seq);
        let sample = |(at, record): (usize, &GapRecord)| StampedSample {
            stream: id,
            seq: next.plus(at as u64),
            stamp: Stamp {
                boot_ordinal,
                t: now,
                latency: Latency::NONE,
                kind: StampKind::Instant,
                domain: ClockDomain::BOOT,
            },
            values: record.to_values(),
            blob: None,
        };
        let mut samples = chunk.iter().enumerate().map(sample);
        let Some(first) = samples.next() else { continue };
        let mut rows = Rows::starting_at(&first, &schema, schema.fingerprint());
        let pushed = rows.push(&first) && samples.all(|sample| rows.push(&sample));
        debug_assert!(pushed, "records follow one schema, stamp and boot");
        spool.append(Slab { rows, blob: None, arrived: None })?;
    }
    spool.sync()
}

impl Display for DropReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DropReport { stream, rows, seqs, .. } = self;
        if *rows == 0 {
            return writeln!(f, "no unacked rows of {stream} are meant; nothing was dropped");
        }
        let ranges: Vec<String> = seqs.iter().map(|(first, last)| format!("{first}..{last}")).collect();
        let ranges = ranges.join(" ");
        match self.dropped {
            true => writeln!(
                f,
                "dropped {rows} rows of {stream}, seq {ranges}; gap records evicted {{operator}} travel with the next start; \
                 {} are free now, the rest once all in its segments is released",
                crate::status::bytes(self.freed_bytes)
            ),
            false => writeln!(f, "would drop {rows} rows of {stream}, seq {ranges}; say --yes to do it"),
        }
    }
}
