//! Segment files of the spool: header, every frame, and the stretches without one.

use super::Known;
use super::body::{self, with_sources};
use super::item::{Item, Values};
use super::message::schema_item;
use crate::spool::frame::{FrameKind, FrameMeta, HEADER_BYTES, Head, SegmentHeader};
use crate::spool::payload::{StreamTable, Summary, read_declaration};
use crate::spool::scan::{Damage, scan};
use headwater_core::ports::DiskFile;
use headwater_core::sample::{BLOB_BYTES_MAX, BlobRef};
use headwater_core::wire::primitives::{PrimitiveError, Reader};
use serde_json::Value;
use std::io;

/// Where a segment's number stands in its header: with it, frames behind a damaged header can be checked.
const SEGNO_AT: std::ops::Range<usize> = 16..24;

/// The bytes of a segment as a file.
#[derive(Debug)]
struct InMemory(Vec<u8>);

impl DiskFile for InMemory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)?.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn tell(bytes: &[u8], values: Values, known: &mut Known) -> Vec<Item> {
    let header = SegmentHeader::from_bytes(bytes);
    let stored = bytes.get(SEGNO_AT).and_then(|bytes| bytes.first_chunk::<8>()).copied();
    let segno = header.map_or_else(|| stored.map_or(0, u64::from_le_bytes), |header| header.segno);
    let item = Item::new("segment").fact("bytes", bytes.len()).fact("segno", segno);
    let item = match &header {
        Some(header) => item
            .fact("series", header.series.dir_name())
            .told("epoch", header.epoch)
            .fact("boot", header.boot_ordinal.0)
            .told("boot_id", header.boot_id),
        None => item.damaged("segment header is damaged or of another version"),
    };
    let len = bytes.len() as u64;
    let mut frames = Vec::new();
    let found = scan(&InMemory(bytes.to_vec()), segno, len, |at, head, payload| {
        frames.push((at, frame(at, head, payload, values, known)));
    });
    let lost = found.holes.iter().chain(&found.tail);
    frames.extend(lost.map(|damage| (damage.at.start, damage_item(damage, found.durable, known))));
    frames.sort_by_key(|(at, _)| *at);
    let sealed = found.frames.last().is_some_and(|(_, head)| head.meta.kind == FrameKind::Footer);
    let item = item.fact("sealed", sealed).fact("durable", found.durable);
    let item = if len < HEADER_BYTES { item.damaged("file ends inside the segment header") } else { item };
    std::iter::once(item).chain(frames.into_iter().map(|(_, item)| item)).collect()
}

fn name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Table => "table",
        FrameKind::Stream => "stream",
        FrameKind::Slab => "slab",
        FrameKind::Footer => "footer",
    }
}

fn meta_facts(mut item: Item, meta: &FrameMeta, known: &Known) -> Item {
    if meta.stream.0 > 0 {
        item = item.fact("stream", known.stream(meta.stream));
    }
    if meta.kind == FrameKind::Slab {
        let seqs = meta.seqs();
        item = item
            .fact("rows", meta.rows)
            .fact("seq_first", seqs.start)
            .fact("seq_last", seqs.end.saturating_sub(1));
    }
    match meta.times {
        Some((first, last)) => item.fact("b_first_ns", first.0).fact("b_last_ns", last.0),
        None => item,
    }
}

fn frame(at: u64, head: &Head, payload: &[u8], values: Values, known: &mut Known) -> Item {
    let item = Item::new(name(head.meta.kind)).fact("at", at).fact("bytes", head.len);
    if head.meta.kind == FrameKind::Stream {
        return match read_declaration(payload) {
            Some(declared) => {
                known.declare(declared.id, declared.name.to_string(), declared.schema.clone());
                let item = meta_facts(item, &head.meta, known).fact("lane", declared.lane.as_str());
                item.holds([schema_item("declaration", &declared.schema)])
            }
            None => meta_facts(item, &head.meta, known).damaged("payload is no declaration"),
        };
    }
    let item = meta_facts(item, &head.meta, known).fact("durable", head.durable);
    match head.meta.kind {
        FrameKind::Slab => slab(item, &head.meta, payload, values, known),
        FrameKind::Table => match StreamTable::from_bytes(payload) {
            Some(table) => table_facts(item, &table),
            None => item.damaged("payload is no table"),
        },
        _ => match payload.split_last_chunk::<8>().and_then(|(summary, _)| Summary::from_bytes(summary)) {
            Some(summary) => summary_facts(item, &summary, known),
            None => item.damaged("payload is no summary"),
        },
    }
}

fn slab(item: Item, meta: &FrameMeta, payload: &[u8], values: Values, known: &Known) -> Item {
    let mut reader = Reader::new(payload);
    let body = match reader.bytes(payload.len()) {
        Ok(body) => body,
        Err(error) => return item.damaged(with_sources(&error)),
    };
    let mut item = item.holds([body::tell("batch", body, values, known)]);
    if meta.rows == 0 {
        item = item.damaged("a slab has rows");
    }
    if reader.remaining() > 0 {
        item = match blob(&mut reader) {
            Ok(blob) => item.holds([blob]),
            Err(error) => item.damaged(with_sources(&error)),
        };
    }
    item
}

fn blob(reader: &mut Reader<'_>) -> Result<Item, PrimitiveError> {
    let mime = reader.text(reader.remaining())?;
    let bytes = reader.bytes(BLOB_BYTES_MAX)?;
    reader.finish()?;
    let reference = BlobRef::to(bytes);
    Ok(Item::new("blob").fact("mime", mime).fact("bytes", bytes.len()).told("sha256", reference.sha256))
}

fn table_facts(item: Item, table: &StreamTable) -> Item {
    let next = table.next_segno.iter().map(|(series, segno)| (series.dir_name(), Value::from(*segno)));
    item.fact("next_segno", Value::Object(next.collect())).holds(table.streams.iter().map(|(id, entry)| {
        Item::new("stream")
            .fact("id", id.0)
            .told("name", &entry.name)
            .fact("lane", entry.lane.as_str())
            .told("schema", entry.fingerprint)
            .fact("next_seq", entry.next_seq.0)
    }))
}

fn summary_facts(item: Item, summary: &Summary, known: &Known) -> Item {
    item.fact("slabs", summary.frames)
        .holds(summary.streams.iter().map(|(id, part)| {
            let seqs: Vec<Value> = part
                .seqs
                .iter()
                .map(|range| Value::from(format!("{}..{}", range.start, range.end)))
                .collect();
            Item::new("stream")
                .fact("id", known.stream(*id))
                .fact("rows", part.rows)
                .fact("bytes", part.bytes)
                .fact("seqs", seqs)
        }))
        .holds(summary.lost.iter().map(|lost| {
            Item::new("lost")
                .fact("stream", known.stream(lost.stream))
                .fact("seqs", format!("{}..{}", lost.seqs.start, lost.seqs.end))
                .fact("reason", lost.cause.reason())
                .fact("cause", lost.cause.cause())
        }))
}

fn damage_item(damage: &Damage, durable: u64, known: &Known) -> Item {
    let bytes = damage.at.end.saturating_sub(damage.at.start);
    let item = Item::new("damage").fact("at", damage.at.start).fact("bytes", bytes);
    let item = match &damage.meta {
        Some(meta) => {
            let item = meta_facts(item.fact("frame", name(meta.kind)), meta, known);
            item.damaged("payload is cut short or does not fit its checksum")
        }
        None => item.damaged("no frame header that fits its checksum"),
    };
    // Frames after it say how much had been synced before they were written.
    if damage.at.start < durable { item.damaged("these bytes had been synced") } else { item }
}
