//! Reading a segment file: frames through a window, and the scan that finds what is left of a damaged one.

use super::frame::{
    FRAME_MAGIC, FrameKind, FrameMeta, HEAD_BYTES, HEADER_BYTES, Head, Place, SegmentHeader, frame_bytes,
    read_head,
};
use super::payload::{StreamTable, Summary};
use headwater_core::ports::DiskFile;
use std::io;
use std::ops::Range;

/// Bytes read at once while going through a segment.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes read at once for a stream table: one of a few dozen streams fits, a larger one takes a second read. An
/// open without an index reads the table of every segment, so a whole window each would be 3 % of the backlog.
const TABLE_WINDOW_BYTES: usize = 4 * 1024;

/// Frames of one segment file, up to `len`.
#[derive(Debug)]
pub(super) struct FrameReader<'a, F> {
    file: &'a F,
    segno: u64,
    len: u64,
    ahead: usize,
    window: Vec<u8>,
    window_at: u64,
}

/// Why there is no frame at an offset.
#[derive(Debug)]
pub(super) enum NoFrame {
    /// The header is none.
    Head,
    /// The header is sound, its payload is not.
    Payload(Head),
    /// It cannot be read.
    Unreadable,
}

impl<'a, F: DiskFile> FrameReader<'a, F> {
    pub(super) fn new(file: &'a F, segno: u64, len: u64) -> Self {
        Self { file, segno, len, window: Vec::new(), window_at: 0, ahead: WINDOW_BYTES }
    }

    /// Reads `ahead` bytes at once.
    pub(super) fn with_window(file: &'a F, segno: u64, len: u64, ahead: usize) -> Self {
        Self { ahead, ..Self::new(file, segno, len) }
    }

    fn place(&self, offset: u64) -> Place {
        Place { segno: self.segno, offset }
    }

    /// `n` bytes from `offset`; fewer at the end of the file.
    fn bytes(&mut self, offset: u64, n: usize) -> io::Result<&[u8]> {
        let n = n.min(usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX));
        let from = usize::try_from(offset.wrapping_sub(self.window_at)).unwrap_or(usize::MAX);
        let held =
            offset >= self.window_at && from.checked_add(n).is_some_and(|end| end <= self.window.len());
        if held {
            return Ok(self.window.get(from..from.saturating_add(n)).unwrap_or_default());
        }
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut window = vec![0; n.max(self.ahead.min(left))];
        self.window.clear();
        if self.file.read_at(&mut window, offset).is_err() {
            // A bad block ahead of what is wanted must not take sound frames with it.
            window.truncate(n);
            self.file.read_at(&mut window, offset)?;
        }
        (self.window, self.window_at) = (window, offset);
        Ok(self.window.get(..n).unwrap_or_default())
    }

    /// The frame header at `offset`.
    pub(super) fn head(&mut self, offset: u64) -> Result<Head, NoFrame> {
        let (place, len) = (self.place(offset), self.len);
        let head = read_head(self.bytes(offset, HEAD_BYTES).map_err(|_| NoFrame::Unreadable)?, place)
            .ok_or(NoFrame::Head)?;
        let fits = offset.saturating_add(frame_bytes(head.len)) <= len;
        if fits { Ok(head) } else { Err(NoFrame::Payload(head)) }
    }

    /// The frame at `offset`, its payload checked.
    pub(super) fn frame(&mut self, offset: u64) -> Result<(Head, &[u8]), NoFrame> {
        let head = self.head(offset)?;
        let place = self.place(offset);
        let payload = self
            .bytes(offset.saturating_add(HEAD_BYTES as u64), head.len)
            .map_err(|_| NoFrame::Unreadable)?;
        if head.holds(place, payload) { Ok((head, payload)) } else { Err(NoFrame::Payload(head)) }
    }

    /// The first offset from `from` on where a whole frame stands. Blocks that cannot be read are passed over.
    fn next_frame(&mut self, from: u64) -> (Option<u64>, bool) {
        let mut at = from;
        let mut unreadable = false;
        while at.saturating_add(HEAD_BYTES as u64) <= self.len {
            // Up to the border of the medium's block, so that a bad one takes nothing else with it.
            let border = at.saturating_add(1).next_multiple_of(RESYNC_BYTES);
            let room = usize::try_from(border.saturating_sub(at)).unwrap_or(usize::MAX);
            let candidates: Vec<u64> = match self.bytes(at, room) {
                // The second byte of a magic number may lie in the next block; its frame tells.
                Ok(block) => block
                    .iter()
                    .zip(at..)
                    .filter(|(byte, _)| **byte == FRAME_MAGIC[0])
                    .map(|(_, offset)| offset)
                    .collect(),
                Err(_) => {
                    unreadable = true;
                    Vec::new()
                }
            };
            if let Some(found) = candidates.into_iter().find(|offset| self.frame(*offset).is_ok()) {
                return (Some(found), unreadable);
            }
            at = border;
        }
        (None, unreadable)
    }
}

/// Block in which the next frame is looked for: that of most media.
const RESYNC_BYTES: u64 = 4096;

/// The segment header, if sound.
///
/// # Errors
/// What the disk says.
pub fn read_header<F: DiskFile>(file: &F, len: u64) -> io::Result<Option<SegmentHeader>> {
    if len < HEADER_BYTES {
        return Ok(None);
    }
    let mut bytes = [0; 64];
    file.read_at(&mut bytes, 0)?;
    Ok(SegmentHeader::from_bytes(&bytes))
}

/// The stream table, if sound.
#[must_use]
pub fn read_table<F: DiskFile>(file: &F, segno: u64, len: u64) -> Option<StreamTable> {
    let mut reader = FrameReader::with_window(file, segno, len, TABLE_WINDOW_BYTES);
    match reader.frame(HEADER_BYTES) {
        Ok((head, payload)) if head.meta.kind == FrameKind::Table => StreamTable::from_bytes(payload),
        _ => None,
    }
}

/// The footer's summary of a sealed segment, read from its end only.
#[must_use]
pub fn read_footer<F: DiskFile>(file: &F, segno: u64, len: u64) -> Option<Summary> {
    let mut last = [0; 8];
    file.read_at(&mut last, len.checked_sub(8)?).ok()?;
    let footer = u64::from_le_bytes(last);
    let at = len.checked_sub(footer).filter(|at| *at >= HEADER_BYTES)?;
    let mut bytes = vec![0; usize::try_from(footer).ok().filter(|n| *n <= FOOTER_BYTES_MAX)?];
    file.read_at(&mut bytes, at).ok()?;
    let place = Place { segno, offset: at };
    let head = read_head(&bytes, place).filter(|head| head.meta.kind == FrameKind::Footer)?;
    let payload = bytes.get(HEAD_BYTES..)?;
    let sound = head.holds(place, payload);
    Summary::from_bytes(payload.split_last_chunk::<8>()?.0).filter(|_| sound)
}

/// Longest footer that is read: a segment of single-row slabs with holes between all of them.
pub(super) const FOOTER_BYTES_MAX: usize = 4 << 20;

/// A stretch of a segment without a sound frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub at: Range<u64>,
    /// The frame that began there, if its header is sound.
    pub meta: Option<FrameMeta>,
    /// Frames behind it that are damaged too, as far as one sound header leads to the next.
    pub also: Vec<FrameMeta>,
    /// Some of it could not even be read.
    pub unreadable: bool,
}

/// Everything found in a segment.
#[derive(Debug, Default)]
pub struct Scan {
    /// Sound frames: offset, header, in order.
    pub frames: Vec<(u64, Head)>,
    /// Damage with sound frames after it.
    pub holes: Vec<Damage>,
    /// Damage that reaches to the end.
    pub tail: Option<Damage>,
    /// Where the last sound frame ends.
    pub end: u64,
    /// Least length that was synced, as far as sound frames attest it.
    pub durable: u64,
}

/// Goes through all of a segment. `visit` sees each sound frame with its payload.
pub fn scan<F: DiskFile>(file: &F, segno: u64, len: u64, mut visit: impl FnMut(u64, &Head, &[u8])) -> Scan {
    let mut reader = FrameReader::new(file, segno, len);
    let mut found = Scan { end: HEADER_BYTES.min(len), ..Scan::default() };
    let mut at = found.end;
    while at < len {
        let (meta, unreadable) = match reader.frame(at) {
            Ok((head, payload)) => {
                visit(at, &head, payload);
                found.frames.push((at, head));
                found.durable = found.durable.max(u64::from(head.durable));
                at = at.saturating_add(frame_bytes(head.len));
                found.end = at;
                continue;
            }
            Err(NoFrame::Payload(head)) => (Some(head), false),
            Err(NoFrame::Head) => (None, false),
            Err(NoFrame::Unreadable) => (None, true),
        };
        let mut also = Vec::new();
        let mut from = at.saturating_add(1);
        if let Some(head) = meta {
            let mut behind = at.saturating_add(frame_bytes(head.len));
            while let Err(NoFrame::Payload(head)) = reader.frame(behind) {
                also.push(head.meta);
                behind = behind.saturating_add(frame_bytes(head.len));
            }
            if reader.frame(behind).is_ok() {
                from = behind;
            }
        }
        let meta = meta.map(|head| head.meta);
        let (next, also_unreadable) = reader.next_frame(from);
        let damage = |end| Damage { at: at..end, meta, also, unreadable: unreadable || also_unreadable };
        match next {
            Some(next) => {
                found.holes.push(damage(next));
                at = next;
            }
            None => {
                found.tail = Some(damage(len));
                break;
            }
        }
    }
    found
}
