//! Segment header and frame header as bytes.

use super::series_id::SeriesId;
use headwater_core::id::{BootId, BootOrdinal, Epoch, Seq, StreamId};
use headwater_core::ports::SpoolLane;
use headwater_core::time::BootNanos;
use headwater_core::wire::primitives::{PrimitiveError, Reader};
use std::ops::Range;

/// Bytes of a segment header.
pub const HEADER_BYTES: u64 = 64;
/// Bytes of a frame header.
pub const HEAD_BYTES: usize = 48;
/// Largest payload of a frame: the largest blob and its row.
pub const PAYLOAD_BYTES_MAX: usize = headwater_core::sample::BLOB_BYTES_MAX + (1 << 20);
const SEGMENT_MAGIC: &[u8; 8] = b"HWSEGMNT";
pub(super) const FRAME_MAGIC: [u8; 2] = *b"HW";
/// What is written. Version 1 knew one series per lane, with class byte 0 and another form of the stream table.
const VERSION: u16 = 2;
const VERSION_PLAIN: u16 = 1;
const FLAG_BOOT_TIME: u8 = 1;
const CODEC_BATCH: u8 = 1;

/// What opens a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its series.
    pub series: SeriesId,
    /// Number in the series.
    pub segno: u64,
    /// Life its ids and seqs belong to.
    pub epoch: Epoch,
    /// Boot its rows were written in.
    pub boot_ordinal: BootOrdinal,
    /// The kernel's name for that boot.
    pub boot_id: BootId,
}

/// Code of a lane in files.
#[must_use]
pub fn lane_code(lane: SpoolLane) -> u8 {
    match lane {
        SpoolLane::Control => 0,
        SpoolLane::Telemetry => 1,
        SpoolLane::Media => 2,
    }
}

/// Reads a lane's code.
#[must_use]
pub fn lane_from_code(code: u8) -> Option<SpoolLane> {
    SpoolLane::ALL.into_iter().find(|lane| lane_code(*lane) == code)
}

impl SegmentHeader {
    /// The 64 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = SEGMENT_MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.series.codes());
        out.extend_from_slice(&self.boot_ordinal.0.to_le_bytes());
        out.extend_from_slice(&self.segno.to_le_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.boot_id.0);
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Reads them; `None` if they are damaged or of another version.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.get(..64)?.split_at_checked(60)?;
        let sound = crc32c::crc32c(body).to_le_bytes() == *crc;
        if !sound || body.get(..8)? != SEGMENT_MAGIC {
            return None;
        }
        let mut reader = Reader::new(body.get(8..)?);
        let read = |reader: &mut Reader<'_>| -> Result<_, PrimitiveError> {
            Ok((
                reader.u16()?,
                reader.u8()?,
                reader.u8()?,
                reader.u32()?,
                reader.u64()?,
                reader.u64()?,
                reader.array()?,
            ))
        };
        let (version, lane, class, boot, segno, epoch, boot_id) = read(&mut reader).ok()?;
        (version == VERSION || (version == VERSION_PLAIN && class == 0)).then_some(())?;
        Some(Self {
            series: SeriesId::from_codes(lane_from_code(lane)?, class)?,
            segno,
            epoch: Epoch(epoch),
            boot_ordinal: BootOrdinal(boot),
            boot_id: BootId(boot_id),
        })
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Every stream with its next seq; always first.
    Table,
    /// A stream's name and schema.
    Stream,
    /// Rows.
    Slab,
    /// What a sealed segment holds.
    Footer,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            Self::Table => 1,
            Self::Stream => 2,
            Self::Slab => 3,
            Self::Footer => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Table, Self::Stream, Self::Slab, Self::Footer].into_iter().find(|kind| kind.code() == code)
    }
}

/// What a frame's header says of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameMeta {
    /// Kind.
    pub kind: FrameKind,
    /// Stream; 0 for frames of none.
    pub stream: StreamId,
    /// Rows of a slab.
    pub rows: u32,
    /// Seq of its first row.
    pub seq_first: Seq,
    /// Boot times of its first and last row: of capture, or of arrival if an attached device's clock stamped them.
    pub times: Option<(BootNanos, BootNanos)>,
}

impl FrameMeta {
    /// Meta of a frame without rows.
    #[must_use]
    pub fn plain(kind: FrameKind, stream: StreamId) -> Self {
        Self { kind, stream, rows: 0, seq_first: Seq(0), times: None }
    }

    /// Seqs of a slab.
    #[must_use]
    pub fn seqs(&self) -> Range<u64> {
        self.seq_first.0..self.seq_first.0.saturating_add(u64::from(self.rows))
    }
}

/// A frame header read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it says of its payload.
    pub meta: FrameMeta,
    /// Payload length, bytes.
    pub len: usize,
    /// How much of the file was known synced when this was written.
    pub durable: u32,
    payload_crc: u32,
}

/// Where a frame lies: part of its check sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Segment.
    pub segno: u64,
    /// Offset of the frame header.
    pub offset: u64,
}

impl Place {
    fn crc(self, bytes: &[u8]) -> u32 {
        let seed =
            crc32c::crc32c_append(crc32c::crc32c(&self.segno.to_le_bytes()), &self.offset.to_le_bytes());
        crc32c::crc32c_append(seed, bytes)
    }
}

/// Appends a frame that will lie at `place`.
pub fn put_frame(out: &mut Vec<u8>, place: Place, meta: &FrameMeta, durable: u64, payload: &[u8]) {
    put_head(out, place, meta, durable, payload);
    out.extend_from_slice(payload);
}

/// Appends the header of a frame that will lie at `place`.
pub(super) fn put_head(out: &mut Vec<u8>, place: Place, meta: &FrameMeta, durable: u64, payload: &[u8]) {
    let (b_first, b_last) = meta.times.unwrap_or((BootNanos(0), BootNanos(0)));
    let span = u32::try_from(b_last.since(b_first).max(0) / 1_000).unwrap_or(u32::MAX);
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(&FRAME_MAGIC);
    head.push(meta.kind.code());
    head.push(if meta.times.is_some() { FLAG_BOOT_TIME } else { 0 });
    head.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    head.extend_from_slice(&place.crc(payload).to_le_bytes());
    head.extend_from_slice(&meta.stream.0.to_le_bytes());
    head.extend_from_slice(&[CODEC_BATCH, 0]);
    head.extend_from_slice(&meta.rows.to_le_bytes());
    head.extend_from_slice(&span.to_le_bytes());
    head.extend_from_slice(&meta.seq_first.0.to_le_bytes());
    head.extend_from_slice(&b_first.0.to_le_bytes());
    head.extend_from_slice(&u32::try_from(durable).unwrap_or(u32::MAX).to_le_bytes());
    head.extend_from_slice(&place.crc(&head).to_le_bytes());
    out.extend_from_slice(&head);
}

/// Bytes a frame of this payload takes.
#[must_use]
pub fn frame_bytes(payload: usize) -> u64 {
    (HEAD_BYTES as u64).saturating_add(payload as u64)
}

/// Reads a frame header at `place`; `None` if there is none.
#[must_use]
pub fn read_head(bytes: &[u8], place: Place) -> Option<Head> {
    let (head, crc) = bytes.get(..HEAD_BYTES)?.split_at_checked(44)?;
    if head.get(..2)? != FRAME_MAGIC || place.crc(head).to_le_bytes() != *crc {
        return None;
    }
    let mut reader = Reader::new(head.get(2..)?);
    let kind = FrameKind::from_code(reader.u8().ok()?)?;
    let flags = reader.u8().ok()?;
    let len = usize::try_from(reader.u32().ok()?).ok().filter(|len| *len <= PAYLOAD_BYTES_MAX)?;
    let payload_crc = reader.u32().ok()?;
    let stream = StreamId(reader.u16().ok()?);
    let codec = reader.u16().ok()?;
    let rows = reader.u32().ok()?;
    let span = reader.u32().ok()?;
    let seq_first = Seq(reader.u64().ok()?);
    let b_first = BootNanos(reader.i64().ok()?);
    let durable = reader.u32().ok()?;
    (flags <= 1 && codec == u16::from(CODEC_BATCH)).then_some(())?;
    let times =
        (flags == FLAG_BOOT_TIME).then(|| (b_first, b_first.plus_ns(i64::from(span).saturating_mul(1_000))));
    Some(Head { meta: FrameMeta { kind, stream, rows, seq_first, times }, len, durable, payload_crc })
}

impl Head {
    /// True if `payload` is what was written.
    #[must_use]
    pub fn holds(&self, place: Place, payload: &[u8]) -> bool {
        payload.len() == self.len && place.crc(payload) == self.payload_crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_and_no_flipped_bit_passes() {
        let header = SegmentHeader {
            series: SeriesId::from_dir_name("media.thin2-newest").unwrap(),
            segno: 7,
            epoch: Epoch(9),
            boot_ordinal: BootOrdinal(3),
            boot_id: BootId([5; 16]),
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes.len() as u64, HEADER_BYTES);
        assert_eq!(SegmentHeader::from_bytes(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::from_bytes(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_belongs_to_its_place() {
        let place = Place { segno: 3, offset: 64 };
        let meta = FrameMeta {
            kind: FrameKind::Slab,
            stream: StreamId(2),
            rows: 4,
            seq_first: Seq(100),
            times: Some((BootNanos(5_000), BootNanos(9_000))),
        };
        let mut bytes = Vec::new();
        put_frame(&mut bytes, place, &meta, 64, b"rows");
        let head = read_head(&bytes, place).unwrap();
        assert_eq!((head.meta, head.len, head.durable), (meta, 4, 64));
        assert!(head.holds(place, b"rows"));
        assert!(!head.holds(place, b"rowz"));
        assert_eq!(read_head(&bytes, Place { segno: 4, ..place }), None);
        assert_eq!(read_head(&bytes, Place { offset: 65, ..place }), None);
        for bit in 0..HEAD_BYTES * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_head(&bad, place), None, "bit {bit}");
        }
    }
}
