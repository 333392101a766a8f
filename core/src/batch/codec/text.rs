//! Bytes and text: lengths apart, lengths equal, or each value ended by a zero byte.

use super::choose::{Choice, Coded, Picker};
use super::{ByteBudget, CONST, CodecError, EQUAL_LENGTHS, LENGTHS, TERMINATED, require};
use crate::wire::primitives::{PrimitiveError, Reader, put_bytes, put_uv};

/// The best ways to write `values` (at least one).
pub(super) fn choose(picker: &mut Picker<'_>, values: &[&[u8]]) -> Choice {
    let mut choice = Choice::default();
    let first = values.first().copied().unwrap_or_default();
    if values.iter().all(|x| *x == first) {
        let mut small = Vec::new();
        put_bytes(&mut small, first);
        choice.small = Some(Coded { codec: CONST, cost: small.len(), small, dense: Vec::new() });
        return choice;
    }
    let joined = values.iter().map(|x| x.len()).sum::<usize>();
    let mut small = Vec::with_capacity(joined.saturating_add(values.len()).saturating_add(16));
    if values.iter().all(|x| x.len() == first.len()) {
        put_uv(&mut small, first.len() as u64);
        values.iter().for_each(|x| small.extend_from_slice(x));
        picker.add_small(&mut choice, EQUAL_LENGTHS, small);
        return choice;
    }
    let terminated = picker.may(TERMINATED) && values.iter().all(|x| !x.contains(&0));
    // Where only statistics decide, an end mark inside what repeats beats a row of lengths.
    if !terminated || picker.may_try(joined) {
        values.iter().for_each(|x| put_uv(&mut small, x.len() as u64));
        values.iter().for_each(|x| small.extend_from_slice(x));
        picker.add_small(&mut choice, LENGTHS, small);
    }
    if terminated {
        let mut small = Vec::with_capacity(joined.saturating_add(values.len()));
        for value in values {
            small.extend_from_slice(value);
            small.push(0);
        }
        picker.add_small(&mut choice, TERMINATED, small);
    }
    choice
}

/// Reads `rows` values, each made by `read`.
pub(super) fn decode<T: Clone>(
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
            budget.spend(rows, value.len().saturating_mul(rows))?;
            Ok(vec![read(value)?; rows])
        }
        EQUAL_LENGTHS => {
            let length = reader.len(value_max)?;
            // Equal and empty would be a constant: its zero bytes must not justify any row count.
            if length == 0 {
                return Err(PrimitiveError::Range(0).into());
            }
            require(reader, rows, length)?;
            budget.spend(rows, length.saturating_mul(rows))?;
            (0..rows).map(|_| Ok(read(reader.take(length)?)?)).collect()
        }
        LENGTHS => {
            require(reader, rows, 1)?;
            let lengths = (0..rows).map(|_| reader.len(value_max)).collect::<Result<Vec<_>, _>>()?;
            budget.spend(rows, lengths.iter().sum())?;
            lengths.into_iter().map(|length| Ok(read(reader.take(length)?)?)).collect()
        }
        TERMINATED => {
            require(reader, rows, 1)?;
            let mut out = Vec::with_capacity(rows);
            for _ in 0..rows {
                let rest = reader.rest();
                let length = rest.iter().position(|byte| *byte == 0).ok_or(PrimitiveError::Truncated)?;
                if length > value_max {
                    return Err(
                        PrimitiveError::TooLong { found: length as u64, limit: value_max as u64 }.into()
                    );
                }
                budget.spend(1, length)?;
                out.push(read(reader.take(length)?)?);
                reader.take(1)?;
            }
            Ok(out)
        }
        codec => Err(CodecError::UnknownCodec { physical, codec }),
    }
}
