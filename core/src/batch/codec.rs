//! How one column becomes bytes: tag, payload, and the choice of the shortest codec.

use super::Limits;
use super::column::{Column, Values};
use crate::wire::primitives::{PrimitiveError, Reader, put_bytes, put_uv, put_zz, uv_len, zigzag};

/// Bitmap of the codecs this version decodes (bit n = codec n), announced in hello and ack.
pub const CODECS_SUPPORTED: u32 = 0b1_1000_1111;

const CONST: u8 = 0;
const PLAIN: u8 = 1;
const DELTA: u8 = 2;
const DELTA2: u8 = 3;
const EQUAL_LENGTHS: u8 = 1;
const LENGTHS: u8 = 2;
const RAW: u8 = 7;
const NULLABLE: u8 = 8;

const T_I64: u8 = 0;
const T_F64: u8 = 1;
const T_F32: u8 = 2;
const T_BYTES: u8 = 3;
const T_UTF8: u8 = 4;

/// A column that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The payload is malformed.
    #[error("column payload is malformed")]
    Primitive(#[from] PrimitiveError),
    /// A codec this version does not know.
    #[error("column uses unknown codec {codec} for type {physical}")]
    UnknownCodec {
        /// Type code.
        physical: u8,
        /// Codec code.
        codec: u8,
    },
    /// More rows than the payload can hold.
    #[error("column claims {claimed} rows but {held} bytes follow")]
    Rows {
        /// Claimed.
        claimed: usize,
        /// Bytes left.
        held: usize,
    },
    /// Valid rows and validity disagree.
    #[error("column says {claimed} valid rows, its validity says {found}")]
    Validity {
        /// Claimed.
        claimed: usize,
        /// Found.
        found: usize,
    },
    /// Decoded bytes and text would exceed the message's limit.
    #[error("column decodes to more than {limit} bytes")]
    DecodedBytes {
        /// Limit.
        limit: usize,
    },
}

/// Bytes of text and byte values a message may still decode to.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    left: usize,
    limits: Limits,
}

impl ByteBudget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { left: limits.decoded_bytes_max, limits }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), CodecError> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or(CodecError::DecodedBytes { limit: self.limits.decoded_bytes_max })?;
        Ok(())
    }
}

/// Appends tag and payload of `column` (at least one row).
pub(crate) fn encode_column(out: &mut Vec<u8>, column: &Column) {
    match column.valid.as_ref().filter(|valid| valid.contains(&false)) {
        None => encode_values(out, &column.values),
        Some(valid) => {
            out.push(type_code(&column.values) << 4 | NULLABLE);
            let n_valid = valid.iter().filter(|v| **v).count();
            put_uv(out, n_valid as u64);
            put_validity(out, valid);
            if n_valid > 0 {
                encode_values(out, &only_valid(&column.values, valid));
            }
        }
    }
}

fn put_validity(out: &mut Vec<u8>, valid: &[bool]) {
    let mut runs = Vec::new();
    let (mut state, mut length) = (true, 0_u64);
    for v in valid {
        if *v == state {
            length += 1;
        } else {
            put_uv(&mut runs, length);
            (state, length) = (*v, 1);
        }
    }
    put_uv(&mut runs, length);
    if runs.len() < valid.len().div_ceil(8) {
        out.push(1);
        out.extend_from_slice(&runs);
    } else {
        out.push(0);
        out.extend(
            valid
                .chunks(8)
                .map(|bits| bits.iter().enumerate().fold(0_u8, |byte, (at, v)| byte | u8::from(*v) << at)),
        );
    }
}

fn only_valid(values: &Values, valid: &[bool]) -> Values {
    fn pick<T: Clone>(values: &[T], valid: &[bool]) -> Vec<T> {
        values.iter().zip(valid).filter(|(_, v)| **v).map(|(x, _)| x.clone()).collect()
    }
    match values {
        Values::I64(v) => Values::I64(pick(v, valid)),
        Values::F64(v) => Values::F64(pick(v, valid)),
        Values::F32(v) => Values::F32(pick(v, valid)),
        Values::Bytes(v) => Values::Bytes(pick(v, valid)),
        Values::Utf8(v) => Values::Utf8(pick(v, valid)),
    }
}

fn type_code(values: &Values) -> u8 {
    match values {
        Values::I64(_) => T_I64,
        Values::F64(_) => T_F64,
        Values::F32(_) => T_F32,
        Values::Bytes(_) => T_BYTES,
        Values::Utf8(_) => T_UTF8,
    }
}

fn encode_values(out: &mut Vec<u8>, values: &Values) {
    let tag = |codec: u8| type_code(values) << 4 | codec;
    match values {
        Values::I64(v) => encode_i64(out, v),
        Values::F64(v) => match constant(v.iter().map(|x| x.to_bits())) {
            Some(bits) => {
                out.push(tag(CONST));
                out.extend_from_slice(&bits.to_le_bytes());
            }
            None => {
                out.push(tag(RAW));
                v.iter().for_each(|x| out.extend_from_slice(&x.to_bits().to_le_bytes()));
            }
        },
        Values::F32(v) => match constant(v.iter().map(|x| x.to_bits())) {
            Some(bits) => {
                out.push(tag(CONST));
                out.extend_from_slice(&bits.to_le_bytes());
            }
            None => {
                out.push(tag(RAW));
                v.iter().for_each(|x| out.extend_from_slice(&x.to_bits().to_le_bytes()));
            }
        },
        Values::Bytes(v) => encode_bytes(out, tag(0), &v.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        Values::Utf8(v) => encode_bytes(out, tag(0), &v.iter().map(String::as_bytes).collect::<Vec<_>>()),
    }
}

fn constant<T: PartialEq + Copy>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|x| x == first).then_some(first)
}

fn deltas(values: &[i64]) -> impl Iterator<Item = i64> + '_ {
    let mut previous = 0_i64;
    values.iter().map(move |x| {
        let delta = x.wrapping_sub(previous);
        previous = *x;
        delta
    })
}

fn deltas2(values: &[i64]) -> impl Iterator<Item = i64> + '_ {
    let mut previous = 0_i64;
    deltas(values).enumerate().map(move |(at, delta)| match at {
        0 => delta,
        1 => {
            previous = delta;
            delta
        }
        _ => {
            let second = delta.wrapping_sub(previous);
            previous = delta;
            second
        }
    })
}

fn encode_i64(out: &mut Vec<u8>, values: &[i64]) {
    if let Some(value) = constant(values.iter().copied()) {
        out.push(T_I64 << 4 | CONST);
        put_zz(out, value);
        return;
    }
    let cost = |numbers: &mut dyn Iterator<Item = i64>| numbers.map(|x| uv_len(zigzag(x))).sum::<usize>();
    let costs = [
        (PLAIN, cost(&mut values.iter().copied())),
        (DELTA, cost(&mut deltas(values))),
        (DELTA2, cost(&mut deltas2(values))),
        (RAW, values.len().saturating_mul(8)),
    ];
    let best = costs.iter().min_by_key(|(_, bytes)| *bytes).map_or(RAW, |(codec, _)| *codec);
    out.push(T_I64 << 4 | best);
    match best {
        PLAIN => values.iter().for_each(|x| put_zz(out, *x)),
        DELTA => deltas(values).for_each(|x| put_zz(out, x)),
        DELTA2 => deltas2(values).for_each(|x| put_zz(out, x)),
        _ => values.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
    }
}

fn encode_bytes(out: &mut Vec<u8>, tag: u8, values: &[&[u8]]) {
    let first = values.first().copied().unwrap_or_default();
    if values.iter().all(|x| *x == first) {
        out.push(tag | CONST);
        put_bytes(out, first);
    } else if values.iter().all(|x| x.len() == first.len()) {
        out.push(tag | EQUAL_LENGTHS);
        put_uv(out, first.len() as u64);
        values.iter().for_each(|x| out.extend_from_slice(x));
    } else {
        out.push(tag | LENGTHS);
        values.iter().for_each(|x| put_uv(out, x.len() as u64));
        values.iter().for_each(|x| out.extend_from_slice(x));
    }
}

/// Reads one column of `rows` rows.
pub(crate) fn decode_column(
    reader: &mut Reader<'_>,
    rows: usize,
    budget: &mut ByteBudget,
) -> Result<Column, CodecError> {
    let tag = reader.u8()?;
    let (physical, codec) = (tag >> 4, tag & 0x0f);
    if codec != NULLABLE {
        return Ok(Column { values: decode_values(reader, physical, codec, rows, budget)?, valid: None });
    }
    let claimed = reader.len(rows)?;
    let valid = read_validity(reader, rows)?;
    let found = valid.iter().filter(|v| **v).count();
    if found != claimed {
        return Err(CodecError::Validity { claimed, found });
    }
    if claimed == 0 {
        return spread(empty(physical)?, valid);
    }
    let inner = reader.u8()?;
    if inner >> 4 != physical || inner & 0x0f == NULLABLE {
        return Err(CodecError::UnknownCodec { physical: inner >> 4, codec: inner & 0x0f });
    }
    spread(decode_values(reader, physical, inner & 0x0f, claimed, budget)?, valid)
}

fn read_validity(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<bool>, CodecError> {
    let form = reader.u8()?;
    // Rows × columns is bounded by `Limits::values_max`, so one bool a row is too.
    let mut valid = Vec::with_capacity(rows);
    match form {
        0 => {
            let bitmap = reader.take(rows.div_ceil(8))?;
            valid.extend(bitmap.iter().flat_map(|byte| (0..8).map(move |at| byte >> at & 1 == 1)).take(rows));
        }
        1 => {
            let mut state = true;
            while valid.len() < rows {
                let left = rows.saturating_sub(valid.len());
                let run = reader.len(left)?;
                if run == 0 && !valid.is_empty() {
                    return Err(PrimitiveError::Range(0).into());
                }
                valid.resize(valid.len().saturating_add(run), state);
                state = !state;
            }
        }
        form => return Err(PrimitiveError::Range(form.into()).into()),
    }
    Ok(valid)
}

fn empty(physical: u8) -> Result<Values, CodecError> {
    Ok(match physical {
        T_I64 => Values::I64(Vec::new()),
        T_F64 => Values::F64(Vec::new()),
        T_F32 => Values::F32(Vec::new()),
        T_BYTES => Values::Bytes(Vec::new()),
        T_UTF8 => Values::Utf8(Vec::new()),
        physical => return Err(CodecError::UnknownCodec { physical, codec: NULLABLE }),
    })
}

fn spread(values: Values, valid: Vec<bool>) -> Result<Column, CodecError> {
    fn place<T: Default>(values: Vec<T>, valid: &[bool]) -> Vec<T> {
        let mut values = values.into_iter();
        valid.iter().map(|v| if *v { values.next().unwrap_or_default() } else { T::default() }).collect()
    }
    let values = match values {
        Values::I64(v) => Values::I64(place(v, &valid)),
        Values::F64(v) => Values::F64(place(v, &valid)),
        Values::F32(v) => Values::F32(place(v, &valid)),
        Values::Bytes(v) => Values::Bytes(place(v, &valid)),
        Values::Utf8(v) => Values::Utf8(place(v, &valid)),
    };
    Ok(Column { values, valid: Some(valid).filter(|v| v.contains(&false)) })
}

fn decode_values(
    reader: &mut Reader<'_>,
    physical: u8,
    codec: u8,
    rows: usize,
    budget: &mut ByteBudget,
) -> Result<Values, CodecError> {
    match physical {
        T_I64 => decode_i64(reader, codec, rows).map(Values::I64),
        T_F64 => decode_floats(reader, codec, rows, f64::from_le_bytes).map(Values::F64),
        T_F32 => decode_floats(reader, codec, rows, f32::from_le_bytes).map(Values::F32),
        T_BYTES => decode_bytes(reader, physical, codec, rows, budget, |x| Ok(x.to_vec())).map(Values::Bytes),
        T_UTF8 => decode_bytes(reader, physical, codec, rows, budget, |x| {
            std::str::from_utf8(x).map(str::to_owned).map_err(|_| PrimitiveError::Utf8)
        })
        .map(Values::Utf8),
        physical => Err(CodecError::UnknownCodec { physical, codec }),
    }
}

/// Each row takes at least `bytes_each` bytes, so a claim beyond the payload is refused unread.
fn require(reader: &Reader<'_>, rows: usize, bytes_each: usize) -> Result<(), CodecError> {
    let held = reader.remaining();
    if rows.saturating_mul(bytes_each) > held {
        return Err(CodecError::Rows { claimed: rows, held });
    }
    Ok(())
}

fn decode_i64(reader: &mut Reader<'_>, codec: u8, rows: usize) -> Result<Vec<i64>, CodecError> {
    match codec {
        CONST => return Ok(vec![reader.zz()?; rows]),
        RAW => {
            require(reader, rows, 8)?;
            return (0..rows).map(|_| reader.i64().map_err(CodecError::from)).collect();
        }
        PLAIN | DELTA | DELTA2 => require(reader, rows, 1)?,
        codec => return Err(CodecError::UnknownCodec { physical: T_I64, codec }),
    }
    let mut out = Vec::with_capacity(rows);
    let (mut value, mut delta) = (0_i64, 0_i64);
    for at in 0..rows {
        let number = reader.zz()?;
        match codec {
            PLAIN => value = number,
            DELTA => value = value.wrapping_add(number),
            _ => {
                delta = if at <= 1 { number } else { delta.wrapping_add(number) };
                value = value.wrapping_add(delta);
            }
        }
        out.push(value);
    }
    Ok(out)
}

fn decode_floats<T: Copy, const W: usize>(
    reader: &mut Reader<'_>,
    codec: u8,
    rows: usize,
    from: fn([u8; W]) -> T,
) -> Result<Vec<T>, CodecError> {
    match codec {
        CONST => Ok(vec![from(reader.array()?); rows]),
        RAW => {
            require(reader, rows, W)?;
            (0..rows).map(|_| reader.array().map(from).map_err(CodecError::from)).collect()
        }
        codec => Err(CodecError::UnknownCodec { physical: if W == 8 { T_F64 } else { T_F32 }, codec }),
    }
}

fn decode_bytes<T: Clone>(
    reader: &mut Reader<'_>,
    physical: u8,
    codec: u8,
    rows: usize,
    budget: &mut ByteBudget,
    read: impl Fn(&[u8]) -> Result<T, PrimitiveError>,
) -> Result<Vec<T>, CodecError> {
    let value_max = budget.limits.value_bytes_max;
    match codec {
        CONST => {
            let value = reader.bytes(value_max)?;
            budget.spend(value.len().saturating_mul(rows))?;
            Ok(vec![read(value)?; rows])
        }
        EQUAL_LENGTHS => {
            let length = reader.len(value_max)?;
            // Equal and empty would be a constant: its zero bytes must not justify any row count.
            if length == 0 {
                return Err(PrimitiveError::Range(0).into());
            }
            require(reader, rows, length)?;
            budget.spend(length.saturating_mul(rows))?;
            (0..rows).map(|_| Ok(read(reader.take(length)?)?)).collect()
        }
        LENGTHS => {
            require(reader, rows, 1)?;
            let lengths = (0..rows).map(|_| reader.len(value_max)).collect::<Result<Vec<_>, _>>()?;
            budget.spend(lengths.iter().sum())?;
            lengths.into_iter().map(|length| Ok(read(reader.take(length)?)?)).collect()
        }
        codec => Err(CodecError::UnknownCodec { physical, codec }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Value;
    use crate::schema::Physical;
    use proptest::prelude::*;

    fn round_trip(column: &Column) -> usize {
        let mut out = Vec::new();
        encode_column(&mut out, column);
        let mut reader = Reader::new(&out);
        let back = decode_column(&mut reader, column.len(), &mut ByteBudget::new(Limits::V1)).unwrap();
        assert_eq!(reader.remaining(), 0);
        assert!(back.same_bits(column), "{back:?} != {column:?}");
        assert_eq!(back.valid, column.valid.clone().filter(|v| v.contains(&false)));
        out.len()
    }

    fn value(physical: Physical) -> BoxedStrategy<Value> {
        match physical {
            Physical::I64 => prop_oneof![any::<i64>(), -3_i64..3, Just(i64::MIN), Just(i64::MAX)]
                .prop_map(Value::I64)
                .boxed(),
            Physical::F64 => any::<u64>().prop_map(|b| Value::F64(f64::from_bits(b))).boxed(),
            Physical::F32 => any::<u32>().prop_map(|b| Value::F32(f32::from_bits(b))).boxed(),
            Physical::Bytes => proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::Bytes).boxed(),
            Physical::Utf8 => "\\PC{0,6}".prop_map(Value::Utf8).boxed(),
        }
    }

    fn column(physical: Physical) -> impl Strategy<Value = Column> {
        let row = prop_oneof![4 => value(physical), 1 => Just(Value::Null)];
        (proptest::collection::vec(row, 1..300), any::<bool>(), any::<bool>())
            .prop_map(move |(mut rows, no_nulls, constant)| {
                if no_nulls {
                    rows.retain(|v| *v != Value::Null);
                }
                if constant && let Some(first) = rows.first().cloned() {
                    rows.iter_mut().for_each(|v| *v = first.clone());
                }
                let mut column = Column::new(physical);
                assert!(rows.iter().all(|v| column.push(v)));
                column
            })
            .prop_filter("at least one row", |c| !c.is_empty())
    }

    proptest! {
        #[test]
        fn every_column_reads_back_bit_for_bit(
            a in column(Physical::I64), b in column(Physical::F64), c in column(Physical::F32),
            d in column(Physical::Bytes), e in column(Physical::Utf8)
        ) {
            [a, b, c, d, e].iter().for_each(|column| { round_trip(column); });
        }

        #[test]
        fn any_bytes_are_a_column_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows in 1_usize..2000) {
            let mut reader = Reader::new(&bytes);
            if let Ok(column) = decode_column(&mut reader, rows, &mut ByteBudget::new(Limits::V1)) {
                prop_assert_eq!(column.len(), rows);
            }
        }
    }

    #[test]
    fn steady_counters_cost_a_byte_and_constants_nothing_per_row() {
        assert!(
            round_trip(&Column::integers((0..1000).map(|i| 1_700_000_000 + i * 4_000).collect())) < 1_015
        );
        assert_eq!(round_trip(&Column::integers(vec![7; 1000])), 2);
        assert_eq!(round_trip(&Column::integers(vec![i64::MIN, i64::MAX, i64::MIN])), 13, "differences wrap");
    }

    #[test]
    fn a_constant_of_long_values_is_bounded() {
        let mut out = vec![T_BYTES << 4 | CONST];
        put_bytes(&mut out, &[0; 60_000]);
        let result = decode_column(&mut Reader::new(&out), 1 << 20, &mut ByteBudget::new(Limits::V1));
        assert!(matches!(result, Err(CodecError::DecodedBytes { .. })));
    }

    #[test]
    fn claims_beyond_the_payload_are_refused_before_allocation() {
        for tag in [1, 2, 3, 7, T_F64 << 4 | RAW, T_BYTES << 4 | LENGTHS] {
            let result =
                decode_column(&mut Reader::new(&[tag, 0, 0]), 1 << 19, &mut ByteBudget::new(Limits::V1));
            assert!(matches!(result, Err(CodecError::Rows { .. })), "tag {tag:#x}");
        }
        let result = decode_column(
            &mut Reader::new(&[T_BYTES << 4 | EQUAL_LENGTHS, 0]),
            1 << 19,
            &mut ByteBudget::new(Limits::V1),
        );
        assert!(result.is_err());
    }
}
