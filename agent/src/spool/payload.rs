//! Payloads of frames: stream table, stream declaration, slab, summary.

use super::frame::{FrameMeta, PAYLOAD_BYTES_MAX, lane_code, lane_from_code};
use super::series_id::SeriesId;
use headwater_core::batch::{
    Announced, Effort, Encoder, Limits, Rows, Section, StreamRef, Values, decode_batch,
};
use headwater_core::gap::GapCause;
use headwater_core::id::{BootOrdinal, Epoch, STREAM_NAME_BYTES_MAX, STREAMS_MAX, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{SERIES_PER_LANE, Slab, SpoolLane};
use headwater_core::sample::{BLOB_BYTES_MAX, Blob};
use headwater_core::schema::{CANONICAL_BYTES_MAX, Fingerprint, Schema};
use headwater_core::time::{BootNanos, clamp_i64};
use headwater_core::wire::primitives::{Reader, put_bytes, put_uv, put_zz};
use std::collections::BTreeMap;
use std::ops::Range;

/// One stream in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// Name.
    pub name: StreamName,
    /// Lane.
    pub lane: SpoolLane,
    /// Newest schema.
    pub fingerprint: Fingerprint,
    /// Next seq to be given.
    pub next_seq: Seq,
}

/// Every stream of the agent, and how far the segment numbers of each series went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamTable {
    /// Per series: all its segments so far have lower numbers.
    pub next_segno: BTreeMap<SeriesId, u64>,
    /// By id.
    pub streams: BTreeMap<StreamId, TableEntry>,
}

/// First number of a stream table, and of one that version 1 wrote: a segment number for each lane.
const TABLE_FORM: u64 = 0;
const TABLE_FORM_PLAIN: u64 = 3;

impl StreamTable {
    /// Payload bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uv(&mut out, TABLE_FORM);
        put_uv(&mut out, self.next_segno.len() as u64);
        for (series, segno) in &self.next_segno {
            out.extend_from_slice(&series.codes());
            put_uv(&mut out, *segno);
        }
        put_uv(&mut out, self.streams.len() as u64);
        for (id, entry) in &self.streams {
            put_uv(&mut out, id.0.into());
            put_bytes(&mut out, entry.name.as_str().as_bytes());
            out.push(lane_code(entry.lane));
            out.extend_from_slice(&entry.fingerprint.0.to_le_bytes());
            put_uv(&mut out, entry.next_seq.0);
        }
        out
    }

    /// Reads them; `None` if they are no table.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut next_segno = BTreeMap::new();
        match reader.uv().ok()? {
            TABLE_FORM => {
                for _ in 0..reader.len(SpoolLane::ALL.len().saturating_mul(SERIES_PER_LANE)).ok()? {
                    let lane = lane_from_code(reader.u8().ok()?)?;
                    let series = SeriesId::from_codes(lane, reader.u8().ok()?)?;
                    next_segno.insert(series, reader.uv().ok()?);
                }
            }
            TABLE_FORM_PLAIN => {
                for lane in SpoolLane::ALL {
                    next_segno.insert(SeriesId::plain(lane), reader.uv().ok()?);
                }
            }
            _ => return None,
        }
        let mut streams = BTreeMap::new();
        for _ in 0..reader.len(STREAMS_MAX.into()).ok()? {
            let id = StreamId(u16::try_from(reader.uv().ok()?).ok()?);
            let entry = TableEntry {
                name: reader.text(STREAM_NAME_BYTES_MAX).ok()?.parse().ok()?,
                lane: lane_from_code(reader.u8().ok()?)?,
                fingerprint: Fingerprint(reader.u32().ok()?),
                next_seq: Seq(reader.uv().ok()?),
            };
            streams.insert(id, entry);
        }
        reader.finish().ok()?;
        Some(Self { next_segno, streams })
    }
}

/// A stream's name and schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Id.
    pub id: StreamId,
    /// Name.
    pub name: StreamName,
    /// Lane.
    pub lane: SpoolLane,
    /// Schema.
    pub schema: Schema,
}

/// Payload of a stream frame.
#[must_use]
pub fn declaration_bytes(id: StreamId, name: &StreamName, lane: SpoolLane, schema: &Schema) -> Vec<u8> {
    let mut out = Vec::new();
    put_uv(&mut out, id.0.into());
    put_bytes(&mut out, name.as_str().as_bytes());
    out.push(lane_code(lane));
    put_bytes(&mut out, &schema.canonical());
    out
}

/// Reads the payload of a stream frame; `None` if it is none.
#[must_use]
pub fn read_declaration(bytes: &[u8]) -> Option<Declared> {
    let mut reader = Reader::new(bytes);
    let id = StreamId(u16::try_from(reader.uv().ok()?).ok()?);
    let name = reader.text(STREAM_NAME_BYTES_MAX).ok()?.parse().ok()?;
    let lane = lane_from_code(reader.u8().ok()?)?;
    let schema = Schema::from_canonical(reader.bytes(CANONICAL_BYTES_MAX).ok()?).ok()?;
    reader.finish().ok()?;
    Some(Declared { id, name, lane, schema })
}

/// What makes payloads of slabs; its contexts are worth keeping.
#[must_use]
pub fn slab_encoder() -> Encoder {
    Encoder::new(Effort::Spool, Announced::SPOOL)
}

/// Payload of a slab frame.
///
/// # Errors
/// The size and its limit, if what was written could not be read back within the limits of version 1.
pub fn slab_payload(slab: Slab, encoder: &mut Encoder) -> Result<Vec<u8>, (u64, u64)> {
    let limits = Limits::V1;
    let values = slab.rows.counted_values();
    if values > limits.values_max {
        return Err((values as u64, limits.values_max as u64));
    }
    let blob = slab.blob.as_ref().map_or(0, |blob| blob.bytes.len());
    if blob > BLOB_BYTES_MAX {
        return Err((blob as u64, BLOB_BYTES_MAX as u64));
    }
    let texts = text_bytes(&slab.rows);
    let body = encoder.encode(&[Section::Rows(slab.rows)]);
    // Cheap slabs are within every limit; only large ones are worth a trial.
    let raw = Reader::new(body.get(1..).unwrap_or_default()).uv().unwrap_or(u64::MAX);
    if raw > TRIAL_BYTES || texts > TRIAL_BYTES {
        let sound = decode_batch(&body, &limits).is_ok_and(|batch| batch.rows().count() == 1);
        if !sound {
            return Err((raw, limits.small_raw_bytes_max as u64));
        }
    }
    let mut out = Vec::with_capacity(body.len().saturating_add(blob).saturating_add(160));
    put_bytes(&mut out, &body);
    if let Some(blob) = &slab.blob {
        put_bytes(&mut out, blob.mime.as_bytes());
        put_bytes(&mut out, &blob.bytes);
    }
    if out.len() > PAYLOAD_BYTES_MAX {
        return Err((out.len() as u64, PAYLOAD_BYTES_MAX as u64));
    }
    Ok(out)
}

/// Bytes from which a slab is read back on trial before it is written: unpacked, or of its texts. A constant
/// stands once in a slab however many rows have it, so neither follows from the other.
const TRIAL_BYTES: u64 = 1 << 20;
/// Bytes of all text and bytes values, and something for each.
fn text_bytes(rows: &Rows) -> u64 {
    let of = |lengths: &mut dyn Iterator<Item = usize>| lengths.map(|n| n as u64 + 48).sum::<u64>();
    rows.fields
        .iter()
        .map(|field| match &field.values {
            Values::Bytes(values) => of(&mut values.iter().map(Vec::len)),
            Values::Utf8(values) => of(&mut values.iter().map(String::len)),
            _ => 0,
        })
        .sum()
}

/// Longest media type that is read back.
const MIME_BYTES_MAX: usize = 4096;

/// Reads the payload of a slab frame; `None` if it is none.
#[must_use]
pub fn read_slab(bytes: &[u8]) -> Option<Slab> {
    let mut reader = Reader::new(bytes);
    let batch = decode_batch(reader.bytes(PAYLOAD_BYTES_MAX).ok()?, &Limits::V1).ok()?;
    let blob = if reader.remaining() == 0 {
        None
    } else {
        let mime = reader.text(MIME_BYTES_MAX).ok()?.to_owned();
        Some(Blob { mime, bytes: reader.bytes(BLOB_BYTES_MAX).ok()?.into() })
    };
    reader.finish().ok()?;
    let mut sections = batch.sections.into_iter();
    match (sections.next(), sections.next()) {
        (Some(Section::Rows(rows)), None) if matches!(rows.stream, StreamRef::Id(_)) => {
            Some(Slab { rows, blob, arrived: None })
        }
        _ => None,
    }
}

/// What a segment holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamPart {
    /// Seqs.
    pub seqs: IntervalSet,
    /// Rows.
    pub rows: u64,
    /// Bytes of frames.
    pub bytes: u64,
    /// Boot times of the oldest and the newest row, if known.
    pub times: Option<(BootNanos, BootNanos)>,
}

impl StreamPart {
    /// Boot time of the oldest row that is not in `acked`; none if all are, or times are unknown. Only those of the first
    /// row and the last are at hand, so one between them is put where even pace would have it: a segment may hold hours.
    pub(super) fn oldest_lacking(&self, acked: &IntervalSet) -> Option<BootNanos> {
        let lacking =
            self.seqs.iter().find_map(|range| acked.missing_in(range).first().map(|hole| hole.start))?;
        let (first, last) = self.times?;
        let lowest = self.seqs.iter().next()?.start;
        let before = i128::from(lacking.saturating_sub(lowest));
        let steps = i128::from(self.seqs.end().saturating_sub(1).saturating_sub(lowest)).max(1);
        Some(first.plus_ns(clamp_i64(i128::from(last.since(first)) * before / steps)))
    }
}

/// What a segment holds: its footer, its index entry, and what stays of it in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Life it belongs to.
    pub epoch: Epoch,
    /// Boot it was written in.
    pub boot_ordinal: BootOrdinal,
    /// Slab frames.
    pub frames: u64,
    /// Offset of the newest stream frame of each stream declared in it.
    pub declared: BTreeMap<StreamId, u64>,
    /// By stream.
    pub streams: BTreeMap<StreamId, StreamPart>,
    /// Rows that were in it and are not any more. Told at every open, and the segment kept, until a gap
    /// record is stored or the collector has acked them: a loss found just before a second power cut is
    /// not forgotten.
    pub lost: Vec<LostRange>,
}

/// Rows a segment lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRange {
    /// Stream.
    pub stream: StreamId,
    /// Seqs.
    pub seqs: Range<u64>,
    /// Why.
    pub cause: GapCause,
}

impl Summary {
    /// Of an empty segment.
    #[must_use]
    pub fn new(epoch: Epoch, boot_ordinal: BootOrdinal) -> Self {
        Self {
            epoch,
            boot_ordinal,
            frames: 0,
            declared: BTreeMap::new(),
            streams: BTreeMap::new(),
            lost: Vec::new(),
        }
    }

    /// Adds a slab frame of `bytes` bytes.
    pub fn add(&mut self, meta: &FrameMeta, bytes: u64) {
        let part = self.streams.entry(meta.stream).or_default();
        part.seqs.insert(meta.seqs());
        part.rows = part.rows.saturating_add(u64::from(meta.rows));
        part.bytes = part.bytes.saturating_add(bytes);
        part.times = match (part.times, meta.times) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
        self.frames = self.frames.saturating_add(1);
    }

    /// Payload bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.boot_ordinal.0.to_le_bytes());
        put_uv(&mut out, self.frames);
        put_uv(&mut out, self.declared.len() as u64);
        for (id, offset) in &self.declared {
            put_uv(&mut out, id.0.into());
            put_uv(&mut out, *offset);
        }
        put_uv(&mut out, self.streams.len() as u64);
        for (id, part) in &self.streams {
            put_uv(&mut out, id.0.into());
            put_uv(&mut out, part.rows);
            put_uv(&mut out, part.bytes);
            let (b_first, b_last) = part.times.unwrap_or((BootNanos(0), BootNanos(0)));
            out.push(u8::from(part.times.is_some()));
            put_zz(&mut out, b_first.0);
            put_zz(&mut out, b_last.0);
            put_set(&mut out, &part.seqs);
        }
        put_uv(&mut out, self.lost.len() as u64);
        for lost in &self.lost {
            put_uv(&mut out, lost.stream.0.into());
            put_uv(&mut out, lost.seqs.start);
            put_uv(&mut out, lost.seqs.end.saturating_sub(lost.seqs.start));
            let (reason, detail) = lost.cause.codes();
            out.extend_from_slice(&[reason, detail]);
        }
        out
    }

    /// Reads them; `None` if they are no summary.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        (reader.u8().ok()? == 1).then_some(())?;
        let epoch = Epoch(reader.u64().ok()?);
        let mut summary = Self::new(epoch, BootOrdinal(reader.u32().ok()?));
        summary.frames = reader.uv().ok()?;
        for _ in 0..reader.len(usize::from(u16::MAX)).ok()? {
            let id = StreamId(u16::try_from(reader.uv().ok()?).ok()?);
            summary.declared.insert(id, reader.uv().ok()?);
        }
        for _ in 0..reader.len(usize::from(u16::MAX)).ok()? {
            let id = StreamId(u16::try_from(reader.uv().ok()?).ok()?);
            let (rows, bytes) = (reader.uv().ok()?, reader.uv().ok()?);
            let known = reader.u8().ok()? == 1;
            let times = (BootNanos(reader.zz().ok()?), BootNanos(reader.zz().ok()?));
            let seqs = read_set(&mut reader)?;
            summary.streams.insert(id, StreamPart { seqs, rows, bytes, times: known.then_some(times) });
        }
        for _ in 0..reader.len(reader.remaining()).ok()? {
            let stream = StreamId(u16::try_from(reader.uv().ok()?).ok()?);
            let start = reader.uv().ok()?;
            let end = start.checked_add(reader.uv().ok()?)?;
            let cause = GapCause::from_codes(reader.u8().ok()?, reader.u8().ok()?)?;
            summary.lost.push(LostRange { stream, seqs: start..end, cause });
        }
        reader.finish().ok()?;
        Some(summary)
    }
}

/// Appends a set: uv ranges, each as distance from the last end and length.
pub(super) fn put_set(out: &mut Vec<u8>, set: &IntervalSet) {
    put_uv(out, set.pieces() as u64);
    let mut end = 0;
    for range in set.iter() {
        put_uv(out, range.start.saturating_sub(end));
        put_uv(out, range.end.saturating_sub(range.start));
        end = range.end;
    }
}

/// Reads a set.
pub(super) fn read_set(reader: &mut Reader<'_>) -> Option<IntervalSet> {
    let mut set = IntervalSet::new();
    let mut end = 0_u64;
    for _ in 0..reader.len(reader.remaining()).ok()? {
        let start = end.checked_add(reader.uv().ok()?)?;
        end = start.checked_add(reader.uv().ok()?)?;
        set.insert(start..end);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::super::frame::FrameKind;
    use super::*;
    use headwater_core::batch::Column;
    use headwater_core::schema::builtin;
    use headwater_core::time::{ClockDomain, StampKind};

    #[test]
    fn no_slab_is_written_that_cannot_be_read_back() {
        // Nine constants of 64 KiB in 85 rows: half a megabyte to write, 48 MiB to read.
        let field = Column { values: Values::Utf8(vec!["x".repeat(65_536); 85]), valid: None };
        let rows = Rows {
            stream: StreamRef::Id(StreamId(1)),
            fingerprint: Fingerprint(1),
            boot_ordinal: BootOrdinal(1),
            first_seq: Seq(0),
            time_exp: 3,
            stamp_kind: StampKind::Arrival,
            domain: ClockDomain::BOOT,
            t: (0..85).collect(),
            lat_lo: vec![0; 85],
            lat_hi: vec![1; 85],
            fields: vec![field.clone(); 9],
        };
        assert!(
            slab_payload(Slab { rows: rows.clone(), blob: None, arrived: None }, &mut slab_encoder())
                .is_err()
        );
        let payload = slab_payload(
            Slab { rows: Rows { fields: vec![field; 2], ..rows }, blob: None, arrived: None },
            &mut slab_encoder(),
        )
        .unwrap();
        assert_eq!(read_slab(&payload).unwrap().rows.len(), 85);
    }

    #[test]
    fn table_of_256_long_names_fits_forty_kib_and_reads_back() {
        let streams = (1..=256_u16)
            .map(|n| {
                let entry = TableEntry {
                    name: format!("{:0>127}", n).parse().unwrap(),
                    lane: SpoolLane::Telemetry,
                    fingerprint: Fingerprint(u32::from(n)),
                    next_seq: Seq(u64::MAX >> 1),
                };
                (StreamId(n), entry)
            })
            .collect();
        let next_segno = SpoolLane::ALL.into_iter().zip(1..).map(|(lane, n)| (SeriesId::plain(lane), n));
        let table = StreamTable { next_segno: next_segno.collect(), streams };
        let bytes = table.to_bytes();
        assert!(bytes.len() <= 40 * 1024, "{}", bytes.len());
        assert_eq!(StreamTable::from_bytes(&bytes), Some(table));
        assert_eq!(StreamTable::from_bytes(&bytes[1..]), None);
    }

    #[test]
    fn declaration_and_summary_read_back() {
        let schema = builtin::gps_fix();
        let name: StreamName = "gps".parse().unwrap();
        let bytes = declaration_bytes(StreamId(3), &name, SpoolLane::Control, &schema);
        let back = read_declaration(&bytes).unwrap();
        assert_eq!(
            (back.id, back.name, back.lane, back.schema),
            (StreamId(3), name, SpoolLane::Control, schema)
        );

        let mut summary = Summary::new(Epoch(4), BootOrdinal(2));
        for (seq, rows) in [(10, 5), (15, 5), (30, 1)] {
            let meta = FrameMeta {
                kind: FrameKind::Slab,
                stream: StreamId(1),
                rows,
                seq_first: Seq(seq),
                times: Some((BootNanos(seq as i64), BootNanos(seq as i64 + 1))),
            };
            summary.add(&meta, 100);
        }
        summary.declared.insert(StreamId(1), 64);
        summary.lost.push(LostRange { stream: StreamId(1), seqs: 20..30, cause: GapCause::Corrupt });
        assert_eq!(summary.streams[&StreamId(1)].seqs.iter().collect::<Vec<_>>(), [10..20, 30..31]);
        assert_eq!(Summary::from_bytes(&summary.to_bytes()), Some(summary));
    }
}
