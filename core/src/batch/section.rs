//! Sections: rows of one stream, boot and fingerprint with contiguous seqs; and heartbeats.

use super::Limits;
use super::codec::{ByteBudget, CodecError, decode_column, encode_column};
use super::column::{Column, Values};
use crate::id::{BootOrdinal, STREAM_NAME_BYTES_MAX, Seq, StreamId, StreamName};
use crate::sample::StampedSample;
use crate::schema::{Fingerprint, Schema};
use crate::time::{BootNanos, ClockDomain, StampKind, stamp_unit_ns};
use crate::wire::primitives::{PrimitiveError, Reader, put_bytes, put_uv, put_zz};

/// Seqs stay below 2^63, since tables hold them as signed longs.
pub const SEQ_END_MAX: u64 = 1 << 63;
/// Stamp columns before the schema's fields: t, lat_lo, lat_hi.
const STAMP_COLUMNS: usize = 3;

/// How a section names its stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StreamRef {
    /// The id of the declaration.
    Id(StreamId),
    /// The name itself, when the id table is lost.
    Name(StreamName),
}

/// Rows of one stream; stamps in units of 10^`time_exp` ns.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Whose rows.
    pub stream: StreamRef,
    /// Schema they follow.
    pub fingerprint: Fingerprint,
    /// Boot they were stamped in.
    pub boot_ordinal: BootOrdinal,
    /// Seq of the first row; the others follow without a hole.
    pub first_seq: Seq,
    /// Exponent of the stamp unit.
    pub time_exp: u8,
    /// What stamps refer to.
    pub stamp_kind: StampKind,
    /// Whose clock stamps are.
    pub domain: ClockDomain,
    /// Stamp of each row, units.
    pub t: Vec<i64>,
    /// Least capture latency of each row, ns.
    pub lat_lo: Vec<i64>,
    /// Greatest capture latency of each row, ns.
    pub lat_hi: Vec<i64>,
    /// The schema's fields, in order.
    pub fields: Vec<Column>,
}

/// An unacked hint: what a stream's next seq is, and before when nothing more comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose.
    pub stream: StreamRef,
    /// Boot of the promise.
    pub boot_ordinal: BootOrdinal,
    /// Next seq to be given.
    pub next_seq: Seq,
    /// Every sample with event time before this has a lower seq.
    pub promise_b: BootNanos,
}

/// One section of a batch.
#[derive(Debug, Clone)]
pub enum Section {
    /// Rows.
    Rows(Rows),
    /// A hint.
    Heartbeat(Heartbeat),
    /// A section this reader refuses; the others of its batch stand.
    Refused(Refused),
}

/// A section that could not be read, and as much of its identity as could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Stream, if it got that far.
    pub stream: Option<StreamRef>,
    /// First seq and rows, if it got that far.
    pub seqs: Option<std::ops::Range<u64>>,
    /// Why.
    pub why: CodecError,
}

impl Rows {
    /// An empty run for samples of `schema` that look like `first`.
    #[must_use]
    pub fn starting_at(first: &StampedSample, schema: &Schema, fingerprint: Fingerprint) -> Self {
        Self {
            stream: StreamRef::Id(first.stream),
            fingerprint,
            boot_ordinal: first.stamp.boot_ordinal,
            first_seq: first.seq,
            time_exp: schema.time_exp,
            stamp_kind: first.stamp.kind,
            domain: first.stamp.domain,
            t: Vec::new(),
            lat_lo: Vec::new(),
            lat_hi: Vec::new(),
            fields: schema.fields.iter().map(|field| Column::new(field.logical.physical())).collect(),
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    /// Seqs of the rows.
    #[must_use]
    pub fn seqs(&self) -> std::ops::Range<u64> {
        self.first_seq.0..self.first_seq.0.saturating_add(self.len() as u64)
    }

    /// Values this section holds, stamps included.
    #[must_use]
    pub fn n_values(&self) -> usize {
        self.len().saturating_mul(self.fields.len().saturating_add(STAMP_COLUMNS))
    }

    /// Stamp of `row` in ns of its domain; `None` beyond the end.
    #[must_use]
    pub fn t_ns(&self, row: usize) -> Option<i64> {
        Some(self.t.get(row)?.saturating_mul(stamp_unit_ns(self.time_exp)?))
    }

    /// Appends `sample` if it continues this run; `false` (and no change) if it must start another.
    ///
    /// The stamp is floored to the stream's unit, and its greatest latency is not widened here: the
    /// reader adds the unit to the bound.
    #[must_use]
    pub fn push(&mut self, sample: &StampedSample) -> bool {
        let follows = self.seqs().end == sample.seq.0
            && self.stream == StreamRef::Id(sample.stream)
            && self.boot_ordinal == sample.stamp.boot_ordinal
            && self.stamp_kind == sample.stamp.kind
            && self.domain == sample.stamp.domain
            && self.fields.len() == sample.values.len();
        let Some(unit) = stamp_unit_ns(self.time_exp).filter(|_| follows) else { return false };
        for (at, value) in sample.values.iter().enumerate() {
            if !self.fields.get_mut(at).is_some_and(|column| column.push(value)) {
                let rows = self.len();
                self.fields.iter_mut().for_each(|column| *column = column.slice(0..rows));
                return false;
            }
        }
        self.t.push(sample.stamp.t.0.div_euclid(unit));
        self.lat_lo.push(sample.stamp.latency.lo_ns.into());
        self.lat_hi.push(sample.stamp.latency.hi_ns.into());
        true
    }

    /// Appends `other` if it continues this run; `false` (and no change) otherwise.
    #[must_use]
    pub fn join(&mut self, other: &Rows) -> bool {
        let follows = self.seqs().end == other.first_seq.0
            && self.stream == other.stream
            && self.fingerprint == other.fingerprint
            && self.boot_ordinal == other.boot_ordinal
            && self.time_exp == other.time_exp
            && self.stamp_kind == other.stamp_kind
            && self.domain == other.domain
            && self.fields.len() == other.fields.len()
            && self.fields.iter().zip(&other.fields).all(|(a, b)| a.physical() == b.physical());
        if follows {
            self.t.extend_from_slice(&other.t);
            self.lat_lo.extend_from_slice(&other.lat_lo);
            self.lat_hi.extend_from_slice(&other.lat_hi);
            for (mine, theirs) in self.fields.iter_mut().zip(&other.fields) {
                let joined = mine.append(theirs);
                debug_assert!(joined, "types were compared above");
            }
        }
        follows
    }

    /// The rows `range` as a section of their own.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Rows {
        let cut =
            |v: &[i64]| v.get(range.start.min(v.len())..range.end.min(v.len())).unwrap_or_default().to_vec();
        Rows {
            stream: self.stream.clone(),
            first_seq: self.first_seq.plus(range.start as u64),
            t: cut(&self.t),
            lat_lo: cut(&self.lat_lo),
            lat_hi: cut(&self.lat_hi),
            fields: self.fields.iter().map(|column| column.slice(range.clone())).collect(),
            ..*self
        }
    }

    /// Equality by bits of identity, stamps and values.
    #[must_use]
    pub fn same_bits(&self, other: &Rows) -> bool {
        self.stream == other.stream
            && (self.fingerprint, self.boot_ordinal, self.first_seq)
                == (other.fingerprint, other.boot_ordinal, other.first_seq)
            && (self.time_exp, self.stamp_kind, self.domain)
                == (other.time_exp, other.stamp_kind, other.domain)
            && (&self.t, &self.lat_lo, &self.lat_hi) == (&other.t, &other.lat_lo, &other.lat_hi)
            && self.fields.len() == other.fields.len()
            && self.fields.iter().zip(&other.fields).all(|(a, b)| a.same_bits(b))
    }

    /// True if the columns are those of `schema`, in number and type, and nulls stand only where it allows them.
    #[must_use]
    pub fn follows(&self, schema: &Schema) -> bool {
        self.fields.len() == schema.fields.len()
            && self.fields.iter().zip(&schema.fields).all(|(column, field)| {
                column.physical() == field.logical.physical() && (field.nullable || column.valid.is_none())
            })
    }
}

fn put_stream(out: &mut Vec<u8>, stream: &StreamRef) {
    match stream {
        StreamRef::Id(id) => put_uv(out, id.0.into()),
        StreamRef::Name(name) => {
            put_uv(out, 0);
            put_bytes(out, name.as_str().as_bytes());
        }
    }
}

fn read_stream(reader: &mut Reader<'_>) -> Result<StreamRef, CodecError> {
    let id = reader.uv()?;
    if id == 0 {
        let name = reader.text(STREAM_NAME_BYTES_MAX)?;
        return name.parse().map(StreamRef::Name).map_err(|_| PrimitiveError::Range(0).into());
    }
    Ok(StreamRef::Id(StreamId(u16::try_from(id).map_err(|_| PrimitiveError::Range(id))?)))
}

/// Appends one length-prefixed section. Refused sections are never written.
pub(super) fn encode_section(out: &mut Vec<u8>, section: &Section) {
    let mut body = Vec::new();
    match section {
        Section::Rows(rows) => {
            body.push(0);
            put_stream(&mut body, &rows.stream);
            body.extend_from_slice(&rows.fingerprint.0.to_le_bytes());
            put_uv(&mut body, rows.boot_ordinal.0.into());
            put_uv(&mut body, rows.first_seq.0);
            put_uv(&mut body, rows.len() as u64);
            body.push(rows.time_exp);
            body.push(rows.stamp_kind.code());
            put_uv(&mut body, rows.domain.0.into());
            put_uv(&mut body, rows.fields.len().saturating_add(STAMP_COLUMNS) as u64);
            for stamps in [&rows.t, &rows.lat_lo, &rows.lat_hi] {
                encode_column(&mut body, &Column::integers(stamps.clone()));
            }
            rows.fields.iter().for_each(|column| encode_column(&mut body, column));
        }
        Section::Heartbeat(beat) => {
            body.push(1);
            put_stream(&mut body, &beat.stream);
            put_uv(&mut body, beat.boot_ordinal.0.into());
            put_uv(&mut body, beat.next_seq.0);
            put_zz(&mut body, beat.promise_b.0);
        }
        Section::Refused(_) => return,
    }
    put_uv(out, body.len() as u64);
    put_uv(out, 0);
    out.extend_from_slice(&body);
}

/// Reads the body of one section, spending from the message's budgets.
pub(super) fn decode_section(
    bytes: &[u8],
    limits: &Limits,
    values_left: &mut usize,
    budget: &mut ByteBudget,
) -> Section {
    let mut refused = Refused { stream: None, seqs: None, why: PrimitiveError::Truncated.into() };
    match read_section(bytes, limits, values_left, budget, &mut refused) {
        Ok(section) => section,
        Err(why) => Section::Refused(Refused { why, ..refused }),
    }
}

fn read_section(
    bytes: &[u8],
    limits: &Limits,
    values_left: &mut usize,
    budget: &mut ByteBudget,
    seen: &mut Refused,
) -> Result<Section, CodecError> {
    let mut reader = Reader::new(bytes);
    let kind = reader.u8()?;
    let stream = read_stream(&mut reader)?;
    seen.stream = Some(stream.clone());
    match kind {
        0 => {}
        1 => {
            let beat = Heartbeat {
                stream,
                boot_ordinal: read_boot(&mut reader)?,
                next_seq: Seq(reader.uv()?),
                promise_b: BootNanos(reader.zz()?),
            };
            reader.finish()?;
            return Ok(Section::Heartbeat(beat));
        }
        kind => return Err(PrimitiveError::Range(kind.into()).into()),
    }
    let fingerprint = Fingerprint(reader.u32()?);
    let boot_ordinal = read_boot(&mut reader)?;
    let first_seq = reader.uv()?;
    let claimed = reader.uv()?;
    let n_rows = usize::try_from(claimed)
        .ok()
        .filter(|n| *n <= limits.values_max)
        .ok_or(PrimitiveError::TooLong { found: claimed, limit: limits.values_max as u64 })?;
    let end = first_seq.checked_add(claimed).filter(|end| *end <= SEQ_END_MAX && n_rows > 0);
    let end = end.ok_or(PrimitiveError::Range(first_seq))?;
    seen.seqs = Some(first_seq..end);
    let time_exp = reader.u8()?;
    let unit = stamp_unit_ns(time_exp).ok_or(PrimitiveError::Range(time_exp.into()))?;
    let kind_code = reader.u8()?;
    let stamp_kind = StampKind::from_code(kind_code).ok_or(PrimitiveError::Range(kind_code.into()))?;
    let domain = reader.uv()?;
    let domain = ClockDomain(u32::try_from(domain).map_err(|_| PrimitiveError::Range(domain))?);
    let n_cols = reader.len(limits.columns_max)?;
    if n_cols < STAMP_COLUMNS {
        return Err(PrimitiveError::Range(n_cols as u64).into());
    }
    *values_left = values_left
        .checked_sub(n_rows.saturating_mul(n_cols))
        .ok_or(PrimitiveError::TooLong { found: claimed, limit: limits.values_max as u64 })?;
    let t = stamps(&mut reader, n_rows, budget)?;
    if t.iter().any(|stamp| stamp.checked_mul(unit).is_none()) {
        return Err(PrimitiveError::Range(time_exp.into()).into());
    }
    let lat_lo = stamps(&mut reader, n_rows, budget)?;
    let lat_hi = stamps(&mut reader, n_rows, budget)?;
    let in_range = |ns: &i64| u32::try_from(*ns).is_ok();
    if !lat_lo.iter().all(in_range)
        || !lat_hi.iter().all(in_range)
        || lat_lo.iter().zip(&lat_hi).any(|(lo, hi)| lo > hi)
    {
        return Err(PrimitiveError::Range(0).into());
    }
    let fields = (STAMP_COLUMNS..n_cols)
        .map(|_| decode_column(&mut reader, n_rows, budget))
        .collect::<Result<Vec<_>, _>>()?;
    reader.finish()?;
    let first_seq = Seq(first_seq);
    Ok(Section::Rows(Rows {
        stream,
        fingerprint,
        boot_ordinal,
        first_seq,
        time_exp,
        stamp_kind,
        domain,
        t,
        lat_lo,
        lat_hi,
        fields,
    }))
}

fn read_boot(reader: &mut Reader<'_>) -> Result<BootOrdinal, CodecError> {
    let boot = reader.uv()?;
    Ok(BootOrdinal(u32::try_from(boot).map_err(|_| PrimitiveError::Range(boot))?))
}

fn stamps(reader: &mut Reader<'_>, rows: usize, budget: &mut ByteBudget) -> Result<Vec<i64>, CodecError> {
    match decode_column(reader, rows, budget)? {
        Column { values: Values::I64(stamps), valid: None } => Ok(stamps),
        _ => Err(PrimitiveError::Range(0).into()),
    }
}
