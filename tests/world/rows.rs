//! What gateways capture: content that differs with every capture, so that a row which took another's place is seen.

use headwater_core::batch::{Column, Rows, StreamRef, Values};
use headwater_core::gap::GapRecord;
use headwater_core::id::{BootOrdinal, Seq, StreamId};
use headwater_core::ports::Slab;
use headwater_core::sample::{Blob, BlobRef, Reading, StampedSample, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};
use headwater_core::time::{BootNanos, ClockDomain, Latency, Stamp, StampKind};

/// Stamp unit of the schema below: 10^3 ns.
const UNIT_NS: i64 = 1_000;

pub(super) fn scalars() -> Schema {
    let field = |name: &str, logical| Field {
        name: name.parse().expect("a valid name"),
        logical,
        nullable: false,
        unit: "1".into(),
    };
    Schema {
        salt: 0,
        kind: "walk".parse().expect("a valid name"),
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![field("x", Logical::F64), field("n", Logical::I64)],
    }
}

fn mixed(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}

fn frame(stream: StreamId, first: u64, rows: u64, boot: BootOrdinal, now: BootNanos) -> Rows {
    let n = usize::try_from(rows).unwrap_or(0);
    let at = |row: u64| now.0 / UNIT_NS + row.cast_signed();
    Rows {
        stream: StreamRef::Id(stream),
        fingerprint: scalars().fingerprint(),
        boot_ordinal: boot,
        first_seq: Seq(first),
        time_exp: 3,
        stamp_kind: StampKind::Instant,
        domain: ClockDomain::BOOT,
        t: (0..rows).map(at).collect(),
        lat_lo: vec![0; n],
        lat_hi: vec![1_000_000; n],
        fields: Vec::new(),
    }
}

/// `rows` rows of numbers; `nonce` is the capture's own.
pub(super) fn numbers(
    stream: StreamId,
    first: u64,
    rows: u64,
    nonce: u64,
    boot: BootOrdinal,
    now: BootNanos,
) -> Slab {
    let nonces = (0..rows).map(|row| (nonce << 16 | row).cast_signed()).collect();
    let xs = (0..rows).map(|row| (mixed(nonce ^ (first + row)) >> 40) as f64 / 16.0).collect();
    let fields = vec![Column { values: Values::F64(xs), valid: None }, Column::integers(nonces)];
    Slab { rows: Rows { fields, ..frame(stream, first, rows, boot, now) }, blob: None, arrived: None }
}

/// A picture of `len` bytes with its row.
pub(super) fn picture(
    stream: StreamId,
    seq: u64,
    len: usize,
    nonce: u64,
    boot: BootOrdinal,
    now: BootNanos,
) -> Slab {
    let mut state = mixed(nonce);
    let bytes: Vec<u8> = (0..len.div_ceil(8))
        .flat_map(|_| {
            state = mixed(state.wrapping_add(nonce | 1));
            state.to_le_bytes()
        })
        .take(len)
        .collect();
    let schema = builtin::image();
    let mut fields: Vec<Column> =
        schema.fields.iter().map(|field| Column::new(field.logical.physical())).collect();
    let values = [
        BlobRef::to(&bytes).to_value(),
        Value::Utf8("image/jpeg".into()),
        Value::I64(64),
        Value::I64(48),
        Value::Null,
    ];
    for (column, value) in fields.iter_mut().zip(&values) {
        assert!(column.push(value), "the image schema has changed");
    }
    let rows = Rows { fingerprint: schema.fingerprint(), fields, ..frame(stream, seq, 1, boot, now) };
    Slab { rows, blob: Some(Blob { mime: "image/jpeg".into(), bytes: bytes.into() }), arrived: None }
}

/// One row of a built-in stream.
pub(super) fn built_in(
    stream: StreamId,
    seq: u64,
    schema: &Schema,
    reading: Reading,
    boot: BootOrdinal,
) -> Slab {
    let stamp = Stamp {
        boot_ordinal: boot,
        t: reading.t,
        latency: reading.latency,
        kind: reading.kind,
        domain: reading.domain,
    };
    let sample = StampedSample { stream, seq: Seq(seq), stamp, values: reading.values, blob: None };
    let mut rows = Rows::starting_at(&sample, schema, schema.fingerprint());
    assert!(rows.push(&sample), "the row fits its own schema");
    Slab { rows, blob: None, arrived: None }
}

/// A gap record as the row that tells it.
pub(super) fn gap_reading(gap: &GapRecord, now: BootNanos) -> Reading {
    let (latency, kind, domain) = (Latency::NONE, StampKind::Instant, ClockDomain::BOOT);
    Reading { t: now, latency, kind, domain, values: gap.to_values(), blob: None }
}
