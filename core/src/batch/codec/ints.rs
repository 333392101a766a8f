//! Integers: the zigzag varints of value, delta or delta of delta, and the codecs of other files.

use super::choose::{Choice, Coded, Picker};
use super::{
    CONST, CodecError, DELTA, DELTA2, DICT, PCO, PLAIN, RAW, RESIDUAL, Source, T_I64, constant, dict, pco,
    require, residual,
};
use crate::batch::Effort;
use crate::wire::primitives::{put_zz, uv_len, zigzag};
use ::pco::{DeltaSpec, ModeSpec};

/// Up to this many rows pco's description of its bins costs more than what they gain on residuals.
const FEW_ROWS: usize = 128;

#[inline]
fn deltas(values: &[i64]) -> impl Iterator<Item = i64> + '_ {
    let mut previous = 0_i64;
    values.iter().map(move |x| {
        let delta = x.wrapping_sub(previous);
        previous = *x;
        delta
    })
}

#[inline]
fn deltas2(values: &[i64]) -> impl Iterator<Item = i64> + '_ {
    let mut previous = 0_i64;
    deltas(values).enumerate().map(move |(at, delta)| {
        // Element 1 is a plain delta: what precedes it is not a slope.
        let number = if at <= 1 { delta } else { delta.wrapping_sub(previous) };
        previous = delta;
        number
    })
}

/// Bytes of the three varint forms, in the order of their codecs.
fn lengths(values: &[i64]) -> [usize; 3] {
    let (mut plain, mut first, mut second) = (0_usize, 0_usize, 0_usize);
    let (mut last, mut slope) = (0_i64, 0_i64);
    for (at, x) in values.iter().enumerate() {
        let delta = x.wrapping_sub(last);
        let bend = if at <= 1 { delta } else { delta.wrapping_sub(slope) };
        plain = plain.wrapping_add(uv_len(zigzag(*x)));
        first = first.wrapping_add(uv_len(zigzag(delta)));
        second = second.wrapping_add(uv_len(zigzag(bend)));
        (last, slope) = (*x, delta);
    }
    [plain, first, second]
}

fn varints(values: &[i64], codec: u8, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes);
    match codec {
        PLAIN => values.iter().for_each(|x| put_zz(&mut out, *x)),
        DELTA => deltas(values).for_each(|x| put_zz(&mut out, x)),
        _ => deltas2(values).for_each(|x| put_zz(&mut out, x)),
    }
    out
}

/// The best ways to write `values` (at least one) by the codecs of `ways`.
pub(super) fn choose(picker: &mut Picker<'_>, values: &[i64], ways: u32) -> Choice {
    let may = |codec: u8| ways >> codec & 1 == 1;
    let mut choice = Choice::default();
    if may(CONST)
        && let Some(value) = constant(values.iter().copied())
    {
        let mut small = Vec::new();
        put_zz(&mut small, value);
        choice.small = Some(Coded { codec: CONST, cost: small.len(), small, dense: Vec::new() });
        return choice;
    }
    let lengths = lengths(values);
    let shortest = lengths.iter().copied().min().unwrap_or(0);
    let raw_len = values.len().saturating_mul(8);
    if picker.by_length() {
        let best = (PLAIN..).zip(lengths).min_by_key(|(_, bytes)| *bytes);
        match best.filter(|(_, bytes)| *bytes <= raw_len || !may(RAW)) {
            Some((codec, bytes)) => picker.add_small(&mut choice, codec, varints(values, codec, bytes)),
            None => picker.add_small(&mut choice, RAW, raw(values)),
        }
        return choice;
    }
    let mut dense_bytes = usize::MAX;
    if may(RESIDUAL) && values.len() >= 2 {
        let mut dense = Vec::with_capacity(shortest);
        residual::encode(&mut dense, values);
        dense_bytes = dense.len();
        picker.add_dense(&mut choice, RESIDUAL, Vec::new(), dense);
    }
    // Noise that bits hold better than bytes is no matter of which byte form.
    let noise = dense_bytes < shortest / 4 * 3;
    let longest = if noise { shortest } else { shortest.saturating_mul(2).saturating_add(32) };
    for (codec, bytes) in (PLAIN..).zip(lengths) {
        // A form much longer than the shortest packs better only by accident.
        if bytes <= longest {
            picker.add_small(&mut choice, codec, varints(values, codec, bytes));
        }
    }
    if may(RAW) && shortest > raw_len / 8 * 7 {
        picker.add_small(&mut choice, RAW, raw(values));
    }
    if may(DICT) && values.len() >= 16 && shortest > values.len() {
        let mut small = Vec::new();
        if dict::encode(&mut small, values) {
            picker.add_small(&mut choice, DICT, small);
        }
    }
    let few = picker.effort != Effort::Metered && may(RESIDUAL) && values.len() <= FEW_ROWS;
    if may(PCO) && picker.may_pco(values.len()) && !few {
        picker.add_pco(&mut choice, values, ModeSpec::Auto, DeltaSpec::Auto);
    }
    choice
}

fn raw(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Reads `rows` values.
pub(super) fn decode(source: &mut Source<'_>, codec: u8, rows: usize) -> Result<Vec<i64>, CodecError> {
    let reader = &mut source.small;
    match codec {
        CONST => Ok(vec![reader.zz()?; rows]),
        RAW => {
            require(reader, rows, 8)?;
            let bytes = reader.take(rows.saturating_mul(8))?;
            Ok(bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect())
        }
        PLAIN | DELTA | DELTA2 => {
            require(reader, rows, 1)?;
            let mut out = Vec::with_capacity(rows);
            let (mut value, mut slope) = (0_i64, 0_i64);
            for at in 0..rows {
                let number = reader.zz()?;
                match codec {
                    PLAIN => value = number,
                    DELTA => value = value.wrapping_add(number),
                    _ => {
                        slope = if at <= 1 { number } else { slope.wrapping_add(number) };
                        value = value.wrapping_add(slope);
                    }
                }
                out.push(value);
            }
            Ok(out)
        }
        DICT => dict::decode(reader, rows),
        RESIDUAL => residual::decode(source, rows),
        PCO => pco::decode(source, rows),
        codec => Err(CodecError::UnknownCodec { physical: T_I64, codec }),
    }
}
