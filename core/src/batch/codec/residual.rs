//! Codec 14 for integers: what a prediction leaves, in Golomb-Rice codes whose width follows the data.
//!
//! No table is sent, so it pays from a handful of rows on, where pco's description of bins does not.

use super::bits::{BitReader, BitWriter};
use super::{CodecError, Source};
use crate::wire::primitives::{PrimitiveError, Reader, put_zz, unzigzag, zigzag};

/// Ones after which a residual is written by its length instead.
const ESCAPE: u32 = 20;
/// Fraction bits of the running mean.
const MEAN_SHIFT: u32 = 4;
/// A residual above this counts as this much in the running mean.
const MEAN_MAX: u64 = 1 << 56;

/// Width of the low part, from a running mean of the residuals.
#[derive(Debug, Clone, Copy)]
struct Width {
    /// Mean << `MEAN_SHIFT`.
    mean: u64,
}

impl Width {
    fn new(bits: u32) -> Self {
        Self { mean: (3_u64 << bits.min(55)) << MEAN_SHIFT >> 1 }
    }

    #[inline]
    fn bits(self) -> u32 {
        // floor(log2(9/8 × mean)): tuned on the test data, at least 0.
        let scaled = (self.mean >> MEAN_SHIFT).wrapping_mul(18) >> 4;
        63_u32.wrapping_sub((scaled | 1).leading_zeros())
    }

    #[inline]
    fn learn(&mut self, residual: u64) {
        self.mean = self.mean.wrapping_sub(self.mean >> MEAN_SHIFT).wrapping_add(residual.min(MEAN_MAX));
    }
}

/// Residuals of order 0 (against a base), 1 or 2, zigzag.
fn residuals(values: &[i64], order: u8, base: i64) -> impl Iterator<Item = u64> + '_ {
    let (mut last, mut before) = (0_i64, 0_i64);
    values
        .iter()
        .map(move |x| {
            let predicted = match order {
                0 => base,
                1 => last,
                _ => last.wrapping_mul(2).wrapping_sub(before),
            };
            before = last;
            last = *x;
            zigzag(x.wrapping_sub(predicted))
        })
        .skip(usize::from(order))
}

fn bit_len(value: u64) -> u32 {
    64_u32.wrapping_sub(value.leading_zeros())
}

/// Appends the payload of the cheapest order (at least two values).
pub(super) fn encode(out: &mut Vec<u8>, values: &[i64]) {
    // A plain mean could overflow; the middle of the extremes of a sample is as good a base.
    let mut sample: Vec<i64> = values.iter().step_by(values.len().div_ceil(64).max(1)).copied().collect();
    let middle = sample.len() / 2;
    let base = *sample.select_nth_unstable(middle).1;
    let lengths = |order: u8| residuals(values, order, base).map(|u| u64::from(bit_len(u))).sum::<u64>();
    let costs = [lengths(0), lengths(1), lengths(2)];
    let order = costs.iter().zip(0_u8..).min_by_key(|(bits, _)| **bits).map_or(0, |(_, order)| order);
    let n = (values.len() as u64).saturating_sub(order.into()).max(1);
    let mean_bits = costs.get(usize::from(order)).copied().unwrap_or(0) / n;
    let start = u8::try_from(mean_bits.saturating_sub(1).min(63)).unwrap_or(0);
    out.push(order | start << 2);
    match order {
        0 => put_zz(out, base),
        1 => put_zz(out, values.first().copied().unwrap_or(0)),
        _ => {
            let first = values.first().copied().unwrap_or(0);
            put_zz(out, first);
            put_zz(out, values.get(1).map_or(0, |second| second.wrapping_sub(first)));
        }
    }
    let mut bits = BitWriter::new(out);
    let mut width = Width::new(start.into());
    for residual in residuals(values, order, base) {
        let k = width.bits();
        let ones = u32::try_from(residual >> k).unwrap_or(u32::MAX);
        if ones < ESCAPE {
            bits.put((1_u64 << ones).wrapping_sub(1), ones.wrapping_add(1));
            put_wide(&mut bits, residual & (1_u64 << k).wrapping_sub(1), k);
        } else {
            bits.put((1_u64 << ESCAPE).wrapping_sub(1), ESCAPE);
            let length = bit_len(residual).wrapping_sub(1);
            bits.put(length.into(), 6);
            put_wide(&mut bits, residual & (1_u64 << length).wrapping_sub(1), length);
        }
        width.learn(residual);
    }
    bits.finish();
}

fn put_wide(bits: &mut BitWriter<'_>, value: u64, n: u32) {
    if n <= 32 {
        bits.put(value, n);
    } else {
        bits.put(value & 0xffff_ffff, 32);
        bits.put(value >> 32, n.wrapping_sub(32));
    }
}

fn take_wide(bits: &mut BitReader<'_>, n: u32) -> Result<u64, PrimitiveError> {
    if n <= 32 {
        return bits.take(n);
    }
    let low = bits.take(32)?;
    bits.fill();
    Ok(low | bits.take(n.wrapping_sub(32))? << 32)
}

/// Reads `rows` values from the dense region.
pub(super) fn decode(source: &mut Source<'_>, rows: usize) -> Result<Vec<i64>, CodecError> {
    let head = source.dense.u8()?;
    let (order, start) = (head & 3, u32::from(head >> 2));
    if order == 3 {
        return Err(PrimitiveError::Range(head.into()).into());
    }
    let first = source.dense.zz()?;
    let slope = if order == 2 { source.dense.zz()? } else { 0 };
    let rest: Reader<'_> = source.dense;
    // A value takes at least one bit.
    let held = rest.remaining();
    if rows.saturating_sub(usize::from(order)) > held.saturating_mul(8) {
        return Err(CodecError::Rows { claimed: rows, held });
    }
    let mut bits = BitReader::new(rest.rest());
    let mut out = Vec::with_capacity(rows);
    let (mut last, mut delta) = (first, slope);
    if order >= 1 {
        out.push(first);
    }
    if order == 2 && rows >= 2 {
        last = first.wrapping_add(slope);
        out.push(last);
    }
    let mut width = Width::new(start);
    while out.len() < rows {
        let k = width.bits();
        bits.fill();
        let ones = bits.peek().trailing_ones();
        let residual = if ones < ESCAPE {
            bits.skip(ones.wrapping_add(1))?;
            if k > 32 {
                bits.fill();
            }
            u64::from(ones) << k | take_wide(&mut bits, k)?
        } else {
            bits.skip(ESCAPE)?;
            let length = u32::try_from(bits.take(6)?).unwrap_or(0);
            bits.fill();
            1_u64 << length | take_wide(&mut bits, length)?
        };
        width.learn(residual);
        let number = unzigzag(residual);
        let value = match order {
            0 => first.wrapping_add(number),
            1 => last.wrapping_add(number),
            _ => {
                delta = delta.wrapping_add(number);
                last.wrapping_add(delta)
            }
        };
        last = value;
        out.push(value);
    }
    let used = bits.finish()?;
    source.dense.take(used)?;
    Ok(out)
}
