//! Codec 8: which rows hold a value, then the values alone.

use super::choose::{Choice, Coded, Picker};
use super::{
    ByteBudget, CodecError, NULLABLE, Source, T_BYTES, T_F32, T_F64, T_I64, T_UTF8, decode_values, type_code,
};
use crate::batch::column::{Column, Values};
use crate::wire::primitives::{PrimitiveError, Reader, put_uv};

/// The best ways to write a column with missing rows.
pub(super) fn choose(picker: &mut Picker<'_>, values: &Values, valid: &[bool]) -> Choice {
    let mut head = Vec::new();
    let n_valid = valid.iter().filter(|v| **v).count();
    put_uv(&mut head, n_valid as u64);
    put_validity(&mut head, valid);
    let wrap = |coded: Coded| {
        let mut small = head.clone();
        small.push(type_code(values) << 4 | coded.codec);
        let cost = coded.cost.saturating_add(small.len());
        small.extend_from_slice(&coded.small);
        Coded { codec: NULLABLE, small, dense: coded.dense, cost }
    };
    if n_valid == 0 {
        let coded = Coded { codec: NULLABLE, cost: head.len(), small: head, dense: Vec::new() };
        return Choice { small: Some(coded), mixed: None };
    }
    let inner = picker.values(&only_valid(values, valid));
    Choice { small: inner.small.map(wrap), mixed: inner.mixed.map(wrap) }
}

fn put_validity(out: &mut Vec<u8>, valid: &[bool]) {
    let mut runs = Vec::new();
    let (mut state, mut length) = (true, 0_u64);
    for v in valid {
        if *v == state {
            length = length.wrapping_add(1);
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

/// Reads validity, then the valid rows of `physical`, and spreads them.
pub(super) fn decode(
    source: &mut Source<'_>,
    physical: u8,
    rows: usize,
    budget: &mut ByteBudget,
) -> Result<Column, CodecError> {
    let claimed = source.small.len(rows)?;
    let valid = read_validity(&mut source.small, rows)?;
    let found = valid.iter().filter(|v| **v).count();
    if found != claimed {
        return Err(CodecError::Validity { claimed, found });
    }
    if claimed == 0 {
        return Ok(spread(empty(physical)?, valid));
    }
    let inner = source.small.u8()?;
    if inner >> 4 != physical || inner & 0x0f == NULLABLE {
        return Err(CodecError::UnknownCodec { physical: inner >> 4, codec: inner & 0x0f });
    }
    Ok(spread(decode_values(source, physical, inner & 0x0f, claimed, budget)?, valid))
}

/// Goes to the inner tag; `None` if there is none.
pub(super) fn skip_head(reader: &mut Reader<'_>, rows: usize) -> Option<()> {
    let claimed = reader.len(rows).ok()?;
    read_validity(reader, rows).ok()?;
    (claimed > 0).then_some(())
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

fn spread(values: Values, valid: Vec<bool>) -> Column {
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
    Column { values, valid: Some(valid).filter(|v| v.contains(&false)) }
}
