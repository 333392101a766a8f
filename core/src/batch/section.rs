//! Sections: rows of one stream, boot and fingerprint with contiguous seqs; and heartbeats.

use super::body::Visit;
use super::codec::choose::{Choice, Picker, TRIAL_ROWS_MAX};
use super::codec::{ByteBudget, CodecError, Earlier, Source, codec_chain, decode_column, type_code};
use super::column::{Column, Values};
use super::pack::Packer;
use super::{Effort, Limits};
use crate::id::{BootOrdinal, STREAM_NAME_BYTES_MAX, Seq, StreamId, StreamName};
use crate::sample::StampedSample;
use crate::schema::{Fingerprint, Schema};
use crate::time::{BootNanos, ClockDomain, StampKind, stamp_unit_ns};
use crate::wire::primitives::{PrimitiveError, Reader, put_bytes, put_uv, put_zz};

/// Seqs stay below 2^63, since tables hold them as signed longs.
pub const SEQ_END_MAX: u64 = 1 << 63;
/// Stamp columns before the schema's fields: t, lat_lo, lat_hi.
const STAMP_COLUMNS: usize = 3;

/// Rows a column counts as at least, against `Limits::values_max`: what a column costs beside its values.
/// Without it 256 sections of one row could claim a million columns.
const ROWS_COUNTED_MIN: usize = 8;

/// Values that columns of rows count as.
fn counted(rows: usize, columns: usize) -> usize {
    if rows == 0 { 0 } else { rows.max(ROWS_COUNTED_MIN).saturating_mul(columns) }
}

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

/// One encoded column: how it is written and where it lies in its section's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnLayout {
    /// Type code of its tag.
    pub physical: u8,
    /// Codec of its tag, then those inside it: nullable around decimal is `[8, 5]`.
    pub codecs: Vec<u8>,
    /// Bytes of the section in the small region, the tag among them.
    pub small: std::ops::Range<usize>,
    /// Bytes of the section in the dense region.
    pub dense: std::ops::Range<usize>,
    /// False for the column that could not be read: its bytes end with the section's.
    pub sound: bool,
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

    /// Values this section counts as against [`Limits::values_max`]: under eight rows count as eight.
    #[must_use]
    pub fn counted_values(&self) -> usize {
        counted(self.len(), self.fields.len().saturating_add(STAMP_COLUMNS))
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

/// Appends what precedes the columns.
fn put_rows_head(out: &mut Vec<u8>, rows: &Rows) {
    out.push(0);
    put_stream(out, &rows.stream);
    out.extend_from_slice(&rows.fingerprint.0.to_le_bytes());
    put_uv(out, rows.boot_ordinal.0.into());
    put_uv(out, rows.first_seq.0);
    put_uv(out, rows.len() as u64);
    out.push(rows.time_exp);
    out.push(rows.stamp_kind.code());
    put_uv(out, rows.domain.0.into());
    put_uv(out, rows.fields.len().saturating_add(STAMP_COLUMNS) as u64);
}

/// Bytes of a section in the two regions, without its lengths.
#[derive(Debug, Default)]
pub(super) struct SectionBytes {
    pub(super) small: Vec<u8>,
    pub(super) dense: Vec<u8>,
}

/// One section. `None` for a refused one: these are never written.
pub(super) fn encode_section(
    section: &Section,
    picker: &mut Picker<'_>,
    packer: &mut Packer,
) -> Option<SectionBytes> {
    match section {
        Section::Rows(rows) => Some(encode_rows(rows, picker, packer)),
        Section::Heartbeat(beat) => {
            let mut small = vec![1];
            put_stream(&mut small, &beat.stream);
            put_uv(&mut small, beat.boot_ordinal.0.into());
            put_uv(&mut small, beat.next_seq.0);
            put_zz(&mut small, beat.promise_b.0);
            Some(SectionBytes { small, dense: Vec::new() })
        }
        Section::Refused(_) => None,
    }
}

fn encode_rows(rows: &Rows, picker: &mut Picker<'_>, packer: &mut Packer) -> SectionBytes {
    picker.rows = rows.len();
    let stamps = [rows.t.as_slice(), &rows.lat_lo, &rows.lat_hi];
    let mut columns: Vec<(u8, Choice)> = stamps.iter().map(|stamps| (0, picker.integers(stamps))).collect();
    for (at, column) in rows.fields.iter().enumerate() {
        let earlier = Earlier { stamps, fields: rows.fields.get(..at).unwrap_or_default() };
        columns.push((type_code(&column.values), picker.column(column, earlier)));
    }
    let mut head = Vec::with_capacity(64);
    put_rows_head(&mut head, rows);
    let mut mixed: Vec<bool> = columns.iter().map(|(_, choice)| choice.prefers_mixed()).collect();
    let mut best = assemble(&head, &columns, &mixed);
    // Columns pack each other inside zstd; their costs one by one do not see that. Few rows are tried whole.
    if best.dense.is_empty() || rows.len() > TRIAL_ROWS_MAX {
        return best;
    }
    let mut cost = |bytes: &SectionBytes| {
        packer
            .packed_len(&bytes.small)
            .unwrap_or(usize::MAX)
            .min(bytes.small.len())
            .saturating_add(bytes.dense.len())
    };
    let mut least = cost(&best);
    let none = vec![false; mixed.len()];
    let small = assemble(&head, &columns, &none);
    let small_cost = cost(&small);
    if small_cost < least {
        (best, least, mixed) = (small, small_cost, none);
    }
    if picker.effort == Effort::Metered {
        for at in 0..columns.len() {
            if !columns.get(at).is_some_and(|(_, choice)| choice.small.is_some() && choice.mixed.is_some()) {
                continue;
            }
            let mut other = mixed.clone();
            other.iter_mut().skip(at).take(1).for_each(|flag| *flag = !*flag);
            let bytes = assemble(&head, &columns, &other);
            let found = cost(&bytes);
            if found < least {
                (best, least, mixed) = (bytes, found, other);
            }
        }
    }
    best
}

/// The section with its columns written the chosen way.
fn assemble(head: &[u8], columns: &[(u8, Choice)], mixed: &[bool]) -> SectionBytes {
    let mut out = SectionBytes { small: head.to_vec(), dense: Vec::new() };
    for ((physical, choice), mixed) in columns.iter().zip(mixed) {
        if let Some(coded) = choice.pick(*mixed) {
            out.small.push(physical << 4 | coded.codec);
            out.small.extend_from_slice(&coded.small);
            out.dense.extend_from_slice(&coded.dense);
        }
    }
    out
}

/// Reads the body of one section, spending from the message's budgets.
pub(super) fn decode_section<V: Visit>(
    bytes: &[u8],
    dense: &[u8],
    limits: &Limits,
    values_left: &mut usize,
    budget: &mut ByteBudget,
    visitor: &mut V,
) -> Section {
    let mut refused = Refused { stream: None, seqs: None, why: PrimitiveError::Truncated.into() };
    match read_section(bytes, dense, limits, values_left, budget, &mut refused, visitor) {
        Ok(section) => section,
        Err(why) => Section::Refused(Refused { why, ..refused }),
    }
}

fn read_section<V: Visit>(
    bytes: &[u8],
    dense: &[u8],
    limits: &Limits,
    values_left: &mut usize,
    budget: &mut ByteBudget,
    seen: &mut Refused,
    visitor: &mut V,
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
            Reader::new(dense).finish()?;
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
        .checked_sub(counted(n_rows, n_cols))
        .ok_or(PrimitiveError::TooLong { found: claimed, limit: limits.values_max as u64 })?;
    let source = Source { small: reader, dense: Reader::new(dense), pco_states_left: 0 };
    let mut columns = Columns { source, of: [bytes.len(), dense.len()], rows: n_rows, budget, visitor };
    let t = columns.stamps()?;
    if t.iter().any(|stamp| stamp.checked_mul(unit).is_none()) {
        return Err(PrimitiveError::Range(time_exp.into()).into());
    }
    let lat_lo = columns.stamps()?;
    let lat_hi = columns.stamps()?;
    let in_range = |ns: &i64| u32::try_from(*ns).is_ok();
    if !lat_lo.iter().all(in_range)
        || !lat_hi.iter().all(in_range)
        || lat_lo.iter().zip(&lat_hi).any(|(lo, hi)| lo > hi)
    {
        return Err(PrimitiveError::Range(0).into());
    }
    let mut fields = Vec::new();
    for _ in STAMP_COLUMNS..n_cols {
        let earlier = Earlier { stamps: [&t, &lat_lo, &lat_hi], fields: &fields };
        let column = columns.next(earlier)?;
        fields.push(column);
    }
    columns.source.small.finish()?;
    columns.source.dense.finish()?;
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

/// Reads columns one after the other, and tells the visitor where each lies.
struct Columns<'a, V> {
    source: Source<'a>,
    /// Bytes of the section in the small and in the dense region.
    of: [usize; 2],
    rows: usize,
    budget: &'a mut ByteBudget,
    visitor: &'a mut V,
}

impl<V: Visit> Columns<'_, V> {
    fn next(&mut self, earlier: Earlier<'_>) -> Result<Column, CodecError> {
        let (small, dense) = (self.source.small, self.source.dense);
        let column = decode_column(&mut self.source, self.rows, earlier, self.budget);
        if V::COLUMNS
            && let Some(tag) = small.rest().first()
        {
            let sound = column.is_ok();
            let place = |all: usize, before: Reader<'_>, after: Reader<'_>| {
                let end = if sound { all.saturating_sub(after.remaining()) } else { all };
                all.saturating_sub(before.remaining())..end
            };
            self.visitor.column(ColumnLayout {
                physical: tag >> 4,
                codecs: codec_chain(small, self.rows),
                small: place(self.of[0], small, self.source.small),
                dense: place(self.of[1], dense, self.source.dense),
                sound,
            });
        }
        column
    }

    fn stamps(&mut self) -> Result<Vec<i64>, CodecError> {
        match self.next(Earlier::NONE)? {
            Column { values: Values::I64(stamps), valid: None } => Ok(stamps),
            _ => Err(PrimitiveError::Range(0).into()),
        }
    }
}
