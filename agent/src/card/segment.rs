//! One segment file of a card: what its header, table and footer say, and its frames if one goes through it.

use super::disk::{CardDisk, CardFile};
use crate::spool::frame::{FrameKind, Head, SegmentHeader, frame_bytes};
use crate::spool::payload::{Declared, StreamTable, Summary, read_declaration, read_slab};
use crate::spool::scan::{Scan, read_footer, read_header, read_table, scan};
use headwater_core::batch::StreamRef;
use headwater_core::id::StreamId;
use headwater_core::ports::{Disk, DiskFile, Slab};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// A segment file that was found.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Folder of its series below `seg/`.
    pub(super) series: String,
    pub(super) segno: u64,
    pub(super) path: PathBuf,
    pub(super) len: u64,
    /// None if damaged or of a version this program does not read.
    pub(super) header: Option<SegmentHeader>,
    pub(super) table: Option<StreamTable>,
    /// What it holds: from its footer, else from its frames.
    pub(super) summary: Summary,
    pub(super) sealed: bool,
    /// Names and schemas declared in it.
    pub(super) declared: BTreeMap<StreamId, Declared>,
}

/// A sound frame of a segment, as a visitor sees it.
#[derive(Debug)]
pub(super) enum Frame {
    /// A stream's name and schema.
    Declared(Declared),
    /// Rows.
    Slab(Slab),
    /// Sound by its sum, and not what it says it is.
    Misfit,
    /// A table or a footer.
    Other,
}

impl Segment {
    /// Reads header, table and footer of the file; goes through its frames if it has no footer.
    pub(super) fn read(series: &str, segno: u64, path: &Path) -> io::Result<Self> {
        let file = CardDisk.open(path)?;
        let len = file.len()?;
        let header = read_header(&file, len)?.filter(|header| header.segno == segno);
        let table = header.and_then(|_| read_table(&file, segno, len));
        let footer = header.and_then(|_| read_footer(&file, segno, len));
        let nobody = Summary::new(headwater_core::id::Epoch(0), headwater_core::id::BootOrdinal(0));
        let empty = header.map_or(nobody, |header| Summary::new(header.epoch, header.boot_ordinal));
        let mut segment = Self {
            series: series.to_owned(),
            segno,
            path: path.to_owned(),
            len,
            header,
            table,
            sealed: footer.is_some(),
            summary: footer.unwrap_or(empty),
            declared: BTreeMap::new(),
        };
        if header.is_none() {
            return Ok(segment);
        }
        if segment.sealed {
            segment.read_declarations(&file);
        } else {
            let (mut summary, mut declared) = (segment.summary.clone(), BTreeMap::new());
            scan(&file, segno, len, |at, head, payload| match head.meta.kind {
                FrameKind::Slab => summary.add(&head.meta, frame_bytes(head.len)),
                FrameKind::Stream => {
                    if let Some(found) = read_declaration(payload) {
                        summary.declared.insert(head.meta.stream, at);
                        declared.insert(head.meta.stream, found);
                    }
                }
                FrameKind::Table | FrameKind::Footer => {}
            });
            (segment.summary, segment.declared) = (summary, declared);
        }
        Ok(segment)
    }

    /// Declarations stand where the footer says; one that does not read is left out.
    fn read_declarations(&mut self, file: &CardFile) {
        for (id, offset) in &self.summary.declared {
            if let Some(declared) = read_at(file, self.segno, *offset, self.len) {
                self.declared.insert(*id, declared);
            }
        }
    }

    /// Goes through every frame. `visit` sees each sound one with its place.
    pub(super) fn go_through(&self, mut visit: impl FnMut(u64, &Head, Frame)) -> io::Result<Scan> {
        let file = CardDisk.open(&self.path)?;
        let found = scan(&file, self.segno, self.len, |at, head, payload| {
            let frame = match head.meta.kind {
                FrameKind::Stream => read_declaration(payload)
                    .filter(|declared| declared.id == head.meta.stream)
                    .map_or(Frame::Misfit, Frame::Declared),
                FrameKind::Slab => read_slab(payload)
                    .filter(|slab| {
                        slab.rows.seqs() == head.meta.seqs()
                            && slab.rows.stream == StreamRef::Id(head.meta.stream)
                    })
                    .map_or(Frame::Misfit, Frame::Slab),
                FrameKind::Table | FrameKind::Footer => Frame::Other,
            };
            visit(at, head, frame);
        });
        Ok(found)
    }

    /// `series/segno.seg`, as it lies below `seg/`.
    pub(super) fn name(&self) -> String {
        format!("{}/{:016x}.seg", self.series, self.segno)
    }
}

/// The declaration whose frame stands at `offset`.
fn read_at(file: &CardFile, segno: u64, offset: u64, len: u64) -> Option<Declared> {
    use crate::spool::frame::{HEAD_BYTES, Place, read_head};
    let mut head = [0; HEAD_BYTES];
    file.read_at(&mut head, offset).ok()?;
    let place = Place { segno, offset };
    let head = read_head(&head, place).filter(|head| head.meta.kind == FrameKind::Stream)?;
    let end = offset.checked_add(frame_bytes(head.len)).filter(|end| *end <= len)?;
    let from = end.checked_sub(head.len as u64)?;
    let mut payload = vec![0; head.len];
    file.read_at(&mut payload, from).ok()?;
    head.holds(place, &payload).then(|| read_declaration(&payload))?
}
