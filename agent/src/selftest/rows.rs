//! Rows that can be told from all others, for the spool and the codec.

use headwater_core::batch::{Column, Rows, StreamRef, Values};
use headwater_core::id::{BootOrdinal, FieldName, Seq, StreamId};
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::{ClockDomain, StampKind};

/// Spreads bits (the constant of Fibonacci hashing).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

fn field(name: &str, logical: Logical, nullable: bool) -> Result<Field, String> {
    let name: FieldName = name.parse().map_err(|_| format!("{name} is no name"))?;
    Ok(Field { name, logical, nullable, unit: "1".into() })
}

/// A field of every physical type.
pub(super) fn schema() -> Result<Schema, String> {
    Ok(Schema {
        salt: 0,
        kind: "selftest".parse().map_err(|_| "selftest is no kind".to_owned())?,
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![
            field("count", Logical::I64, false)?,
            field("wide", Logical::U64, false)?,
            field("double", Logical::F64, true)?,
            field("single", Logical::F32, false)?,
            field("text", Logical::Utf8, false)?,
            field("bytes", Logical::Bytes, false)?,
        ],
    })
}

/// `n` rows of seqs from `first` on; every third double is missing, and some are no numbers.
pub(super) fn rows(stream: StreamId, first: u64, n: u64) -> Result<Rows, String> {
    let seqs = first..first.saturating_add(n);
    let mixed = |seq: u64| seq.wrapping_mul(SPREAD);
    let each = |make: &dyn Fn(u64) -> i64| seqs.clone().map(make).collect::<Vec<i64>>();
    let there: Vec<bool> = seqs.clone().map(|seq| seq % 3 != 0).collect();
    let double = |seq: u64| if seq.is_multiple_of(3) { 0.0 } else { f64::from_bits(mixed(seq)) };
    let single = |seq: u64| u16::try_from(seq % 1_000).map_or(0.0, |n| f32::from(n) * 0.1 - 3.0);
    let fields = vec![
        Values::I64(each(&|seq| i64::try_from(seq % 100).unwrap_or(0) - 50)),
        Values::I64(each(&|seq| i64::from_le_bytes(mixed(seq).to_le_bytes()))),
        Values::F64(seqs.clone().map(double).collect()),
        Values::F32(seqs.clone().map(single).collect()),
        Values::Utf8(seqs.clone().map(|seq| format!("row {seq}")).collect()),
        Values::Bytes(seqs.clone().map(|seq| mixed(seq).to_le_bytes().to_vec()).collect()),
    ];
    let columns = fields.into_iter().map(|values| {
        let valid = matches!(values, Values::F64(_)).then(|| there.clone());
        Column { values, valid }
    });
    Ok(Rows {
        stream: StreamRef::Id(stream),
        fingerprint: schema()?.fingerprint(),
        boot_ordinal: BootOrdinal(1),
        first_seq: Seq(first),
        time_exp: 3,
        stamp_kind: StampKind::Instant,
        domain: ClockDomain::BOOT,
        t: each(&|seq| i64::try_from(seq).unwrap_or(0).saturating_mul(1_000)),
        lat_lo: each(&|_| 0),
        lat_hi: each(&|seq| i64::try_from(seq % 7).unwrap_or(0)),
        fields: columns.collect(),
    })
}
