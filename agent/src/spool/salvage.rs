//! What is left of a segment that was not sealed: a power cut, a crash, a disk error.

use super::frame::{FrameKind, HEAD_BYTES, SegmentHeader, frame_bytes};
use super::payload::{LostRange, StreamTable, Summary, read_slab};
use super::read::copy;
use super::scan::{Damage, scan};
use super::series::Closed;
use headwater_core::batch::{Rows, StreamRef};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::DiskFile;
use headwater_core::schema::{Fingerprint, builtin};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

/// An unsealed segment after the scan.
#[derive(Debug)]
pub(super) struct Salvaged {
    /// Its summary says what is lost.
    pub(super) closed: Closed,
    /// Rows of `hw/gaps` in it: seqs they explain are not told again, nor given again.
    pub(super) gap_rows: Vec<GapRecord>,
    /// Set if synced rows of a stream unknown may have been here.
    pub(super) unproven: Option<&'static str>,
    /// The torn end, to be set aside and cut off.
    pub(super) torn: Option<Range<u64>>,
}

pub(super) fn salvage<F: DiskFile>(
    file: &F,
    header: SegmentHeader,
    table: &StreamTable,
    len: u64,
) -> Salvaged {
    let mut summary = Summary::new(header.epoch, header.boot_ordinal);
    let mut told = Vec::new();
    let found = scan(file, header.segno, len, |at, head, payload| match head.meta.kind {
        FrameKind::Slab => {
            summary.add(&head.meta, frame_bytes(head.len));
            if let Some(slab) = read_slab(payload).filter(|slab| is_gap_rows(&slab.rows)) {
                told.extend(gap_rows(&slab.rows));
            }
        }
        FrameKind::Stream => {
            summary.declared.insert(head.meta.stream, at);
        }
        FrameKind::Table | FrameKind::Footer => {}
    });
    let loss = |stream, seqs, cause| LostRange { stream, seqs, cause };
    let mut lost = Vec::new();
    let mut unproven = None;
    for damage in &found.holes {
        let cause = if damage.unreadable { GapCause::MediaError } else { GapCause::Corrupt };
        let also = damage.also.iter().filter(|meta| meta.kind == FrameKind::Slab);
        lost.extend(also.map(|meta| loss(meta.stream, meta.seqs(), cause)));
        if damage.meta.is_some_and(|meta| meta.kind != FrameKind::Slab) {
            continue;
        }
        match damaged_rows(file, damage) {
            Some((stream, seqs)) => lost.push(loss(stream, seqs, cause)),
            // Above what is known synced nothing was ever shipped: its seqs may be given again.
            None if damage.at.start < found.durable => {
                unproven = Some("a synced record is damaged beyond telling whose it was");
            }
            None => {}
        }
    }
    let mut torn = None;
    if let Some(tail) = &found.tail {
        if tail.unreadable {
            unproven = Some("the end of a segment cannot be read");
        } else {
            torn = Some(tail.at.clone());
        }
        for meta in tail.meta.iter().chain(&tail.also).filter(|meta| meta.kind == FrameKind::Slab) {
            // Maybe it was synced, shipped and only then damaged: its seqs are not given again.
            lost.push(loss(meta.stream, meta.seqs(), GapCause::TornTail));
        }
    }
    // From where the table stood to the last seq known of, every seq was here or is lost.
    let mut known: BTreeMap<StreamId, IntervalSet> =
        summary.streams.iter().map(|(id, part)| (*id, part.seqs.clone())).collect();
    lost.iter().for_each(|lost| known.entry(lost.stream).or_default().insert(lost.seqs.clone()));
    // Or it lies in another temporal layer: whoever tells of it looks there first.
    let cause = if found.holes.is_empty() { GapCause::Overrun } else { GapCause::Corrupt };
    for (id, known) in known {
        let next = table.streams.get(&id).map_or(0, |entry| entry.next_seq.0);
        let end = known.iter().last().map_or(0, |range| range.end);
        lost.extend(known.missing_in(next..end).into_iter().map(|hole| loss(id, hole, cause)));
    }
    summary.lost = lost;
    let unreadable = found.holes.iter().chain(&found.tail).any(|damage| damage.unreadable);
    let mut closed = Closed { unreadable, ..Closed::new(found.end, summary) };
    closed.bad = found.holes.into_iter().map(|damage| damage.at).collect();
    Salvaged { closed, gap_rows: told, unproven, torn }
}

/// Whose rows a damaged frame held: from its header if that is sound, else from its rows if they still read.
fn damaged_rows<F: DiskFile>(file: &F, damage: &Damage) -> Option<(StreamId, Range<u64>)> {
    if let Some(meta) = damage.meta {
        return Some((meta.stream, meta.seqs()));
    }
    let (_, bytes) = copy(file, &damage.at)?;
    let slab = read_slab(bytes.get(HEAD_BYTES..)?)?;
    match slab.rows.stream {
        StreamRef::Id(id) => Some((id, slab.rows.seqs())),
        StreamRef::Name(_) => None,
    }
}

/// All rows of `hw/gaps` in a segment.
pub(super) fn stored_gap_rows<F: DiskFile>(file: &F, segno: u64, len: u64) -> Vec<GapRecord> {
    let mut told = Vec::new();
    scan(file, segno, len, |_, head, payload| {
        if head.meta.kind == FrameKind::Slab
            && let Some(slab) = read_slab(payload).filter(|slab| is_gap_rows(&slab.rows))
        {
            told.extend(gap_rows(&slab.rows));
        }
    });
    told
}

/// True for rows of `hw/gaps`.
pub(crate) fn is_gap_rows(rows: &Rows) -> bool {
    static GAPS: LazyLock<Fingerprint> = LazyLock::new(|| builtin::gaps().fingerprint());
    rows.fingerprint == *GAPS
}

/// The gap records in rows of `hw/gaps`.
pub(crate) fn gap_rows(rows: &Rows) -> Vec<GapRecord> {
    (0..rows.len())
        .filter_map(|row| {
            let values: Vec<_> = rows.fields.iter().map(|column| column.value(row)).collect();
            GapRecord::from_values(&values)
        })
        .collect()
}
