//! Segment files of the spool: any bytes on a disk that may fail, sound and torn frames, and payloads.

use crate::corpus::golden;
use crate::outcome;
use crate::probe::Probe;
use headwater_agent::spool::frame::{
    FrameKind, FrameMeta, HEAD_BYTES, HEADER_BYTES, Place, SegmentHeader, frame_bytes, put_frame, read_head,
};
use headwater_agent::spool::payload::{
    StreamTable, Summary, declaration_bytes, read_declaration, read_slab, slab_encoder, slab_payload,
};
use headwater_agent::spool::scan::{Scan, read_footer, read_header, read_table, scan as scan_file};
use headwater_agent::spool::series_id::SeriesId;
use headwater_core::id::{Seq, StreamId};
use headwater_core::ports::DiskFile;
use headwater_core::time::BootNanos;
use std::io;

/// A file in memory; a page of it may be unreadable.
#[derive(Debug)]
struct Fake {
    bytes: Vec<u8>,
    bad_page: Option<u64>,
}

/// Bytes of a page of the fake disk.
const PAGE: u64 = 4_096;

impl DiskFile for Fake {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.bytes.len() as u64);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if self.bad_page.is_some_and(|page| offset < (page + 1) * PAGE && end > page * PAGE) {
            return Err(io::ErrorKind::Other.into());
        }
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        buf.copy_from_slice(&self.bytes[at..at + buf.len()]);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Number of the segment: that of the golden one.
const SEGNO: u64 = 1;

/// First byte: 0 all can be read, else which page cannot.
pub(super) fn scan(input: &[u8], probe: &mut Probe) -> u64 {
    let Some((page, bytes)) = input.split_first() else { return 0 };
    let bad_page = page.checked_sub(1).map(|page| u64::from(page % 8));
    whole(&Fake { bytes: bytes.to_vec(), bad_page }, probe)
}

/// Scans a file: what is found covers it, once each.
fn whole(file: &Fake, probe: &mut Probe) -> u64 {
    let len = file.bytes.len() as u64;
    let mut payloads = 0;
    let found = probe.decode(|| {
        payloads = 0;
        scan_file(file, SEGNO, len, |at, head, payload| {
            assert!(head.holds(Place { segno: SEGNO, offset: at }, payload));
            payloads += 1;
        })
    });
    let rest = probe.decode(|| {
        (
            read_header(file, len).is_ok_and(|h| h.is_some()),
            read_table(file, SEGNO, len),
            read_footer(file, SEGNO, len),
        )
    });
    assert_eq!(payloads, found.frames.len());
    covers(&found, len);
    let shape: Vec<_> = found.frames.iter().take(3).map(|(_, head)| head.meta.kind).collect();
    let holes: Vec<_> = found.holes.iter().take(3).map(|h| (h.meta.is_some(), h.unreadable)).collect();
    let tail = found.tail.as_ref().map(|tail| (tail.meta.is_some(), tail.unreadable));
    outcome(&[&shape, &holes, &tail, &rest.0, &rest.1.is_some(), &rest.2.is_some()])
}

fn covers(found: &Scan, len: u64) {
    let mut pieces: Vec<(u64, u64)> =
        found.frames.iter().map(|(at, head)| (*at, at + frame_bytes(head.len))).collect();
    pieces.extend(found.holes.iter().chain(&found.tail).map(|damage| (damage.at.start, damage.at.end)));
    pieces.sort_unstable();
    let mut end = HEADER_BYTES.min(len);
    for (from, to) in pieces {
        assert!(from == end && to > from, "{from}..{to} after {end}");
        end = to;
    }
    assert_eq!(end, len, "the scan stops early");
}

pub(super) fn scan_seeds() -> Vec<Vec<u8>> {
    golden("segment/v1", "seg")
        .into_iter()
        .flat_map(|seg| [[&[0], &seg[..]].concat(), [&[1], &seg[..]].concat()])
        .collect()
}

const KINDS: [FrameKind; 4] = [FrameKind::Table, FrameKind::Stream, FrameKind::Slab, FrameKind::Footer];

/// A list of orders, each making a piece of a file: `u8 order | u8 length | bytes`. Orders: a sound frame, one
/// with a damaged payload, one with a damaged header, one cut short, plain bytes.
pub(super) fn frames(input: &[u8], probe: &mut Probe) -> u64 {
    let mut bytes = golden_header();
    let mut rest = input;
    while let Some(([order, length], more)) = rest.split_first_chunk::<2>() {
        let (payload, more) = more.split_at(usize::from(*length).min(more.len()));
        rest = more;
        let at = bytes.len();
        let meta = FrameMeta {
            kind: KINDS[usize::from(order >> 3) % 4],
            stream: StreamId(u16::from(order >> 5)),
            rows: payload.len().try_into().unwrap_or(0),
            seq_first: Seq(at as u64),
            times: (order & 0x80 != 0).then_some((BootNanos(-5), BootNanos(i64::from(*length)))),
        };
        let place = Place { segno: SEGNO, offset: at as u64 };
        match order % 8 {
            0..=3 => put_frame(&mut bytes, place, &meta, at as u64, payload),
            4 => {
                put_frame(&mut bytes, place, &meta, 0, payload);
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
            5 => {
                put_frame(&mut bytes, place, &meta, 0, payload);
                bytes[at + usize::from(*length) % HEAD_BYTES] ^= 1 << (order >> 5);
            }
            6 => {
                put_frame(&mut bytes, place, &meta, 0, payload);
                bytes.truncate(at + usize::from(*length));
            }
            _ => bytes.extend_from_slice(payload),
        }
    }
    whole(&Fake { bytes, bad_page: None }, probe)
}

fn golden_header() -> Vec<u8> {
    use headwater_core::id::{BootId, BootOrdinal, Epoch};
    SegmentHeader {
        series: SeriesId::plain(headwater_core::ports::SpoolLane::Telemetry),
        segno: SEGNO,
        epoch: Epoch(1),
        boot_ordinal: BootOrdinal(1),
        boot_id: BootId([1; 16]),
    }
    .to_bytes()
}

pub(super) fn frame_seeds() -> Vec<Vec<u8>> {
    let orders =
        |orders: &[u8]| orders.iter().flat_map(|order| [*order, 5, b'H', b'W', 3, 1, 0]).collect::<Vec<u8>>();
    vec![
        orders(&[0, 8, 16, 16, 24]),
        orders(&[0, 16 | 4, 16, 16 | 5, 16, 16 | 6]),
        orders(&[0x80, 0x90, 7, 0x90, 0xb4]),
        vec![0, 0, 8, 0, 16, 0],
    ]
}

/// First byte: kind of frame; the rest is its payload.
pub(super) fn payload(input: &[u8], probe: &mut Probe) -> u64 {
    let Some((kind, payload)) = input.split_first() else { return 0 };
    let kind = KINDS[usize::from(*kind) % 4];
    let sound = match kind {
        FrameKind::Table => {
            let table = probe.decode(|| StreamTable::from_bytes(payload));
            let again =
                |t: &StreamTable| assert_eq!(StreamTable::from_bytes(&t.to_bytes()).as_ref(), Some(t));
            table.as_ref().map(again).is_some()
        }
        FrameKind::Stream => {
            let declared = probe.decode(|| read_declaration(payload));
            let same = |d: &headwater_agent::spool::payload::Declared| {
                assert_eq!(declaration_bytes(d.id, &d.name, d.lane, &d.schema), payload);
            };
            declared.as_ref().map(same).is_some()
        }
        FrameKind::Slab => {
            let slab = probe.decode(|| read_slab(payload));
            if let Some(slab) = slab.as_ref().filter(|slab| slab.rows.n_values() < 4_096)
                && let Ok(bytes) = slab_payload(slab.clone(), &mut slab_encoder())
            {
                let back = read_slab(&bytes).expect("a slab that was read is written so that it reads");
                assert!(back.rows.same_bits(&slab.rows) && back.blob == slab.blob);
            }
            slab.is_some()
        }
        FrameKind::Footer => {
            let summary = probe.decode(|| Summary::from_bytes(payload));
            let again = |s: &Summary| assert_eq!(Summary::from_bytes(&s.to_bytes()).as_ref(), Some(s));
            summary.as_ref().map(again).is_some()
        }
    };
    outcome(&[&kind, &sound, &payload.len().min(3)])
}

pub(super) fn payload_seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for segment in golden("segment/v1", "seg") {
        let mut offset = HEADER_BYTES;
        while let Some(head) = segment
            .get(usize::try_from(offset).unwrap_or(usize::MAX)..)
            .and_then(|rest| read_head(rest, Place { segno: SEGNO, offset }))
        {
            let from = usize::try_from(offset).unwrap_or(0) + HEAD_BYTES;
            let mut payload = segment[from..from + head.len].to_vec();
            if head.meta.kind == FrameKind::Footer {
                payload.truncate(payload.len().saturating_sub(8));
            }
            let kind = KINDS.iter().position(|kind| *kind == head.meta.kind).unwrap_or(0);
            all.push([&[u8::try_from(kind).unwrap_or(0)], &payload[..]].concat());
            offset += frame_bytes(head.len);
        }
    }
    assert!(all.len() > 4, "the golden segment has frames");
    all
}
