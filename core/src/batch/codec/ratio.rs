//! Codec 13: floats that are the nearest ones to integers over one divisor, as those integers.
//!
//! Sensors count; a driver that divides its counts by a scale hides them. The divisor is found by
//! continued fractions on a sample and then proven bit for bit on every value.

use super::floats::Real;
use super::{CodecError, RATIO, Source, ints};
use crate::wire::primitives::{PrimitiveError, put_uv};

/// Largest divisor looked for.
const DIVISOR_MAX: u64 = 65_536;
/// Values the divisor is guessed from.
const SAMPLE: usize = 16;
/// Times a guess is widened by a value it did not fit.
const GUESSES: usize = 4;

/// Floats as integers over a divisor.
#[derive(Debug)]
pub(super) struct Lowered {
    pub(super) divisor: u32,
    /// One a value; an exception repeats the integer before it.
    pub(super) integers: Vec<i64>,
    /// Rows whose bits are sent as they are.
    pub(super) exceptions: Vec<usize>,
    /// Exceptions that are ordinary numbers.
    pub(super) strays: usize,
}

/// Some of the ordinary values.
pub(super) fn sample<T: Real>(values: &[T]) -> Vec<T> {
    let step = values.len().div_ceil(SAMPLE).max(1);
    values.iter().step_by(step).copied().filter(|x| !x.is_special()).collect()
}

/// Integers over `divisor`, if at most `exceptions_max` ordinary values do not fit it.
pub(super) fn lower<T: Real>(values: &[T], divisor: u32, exceptions_max: usize) -> Option<Lowered> {
    let by = f64::from(divisor);
    let mut integers = Vec::with_capacity(values.len());
    let (mut exceptions, mut strays, mut last) = (Vec::new(), 0_usize, 0_i64);
    for (row, x) in values.iter().enumerate() {
        match T::over(*x, by) {
            Some(integer) => last = integer,
            None => {
                exceptions.push(row);
                strays = strays.saturating_add(usize::from(!x.is_special()));
                if strays > exceptions_max {
                    return None;
                }
            }
        }
        integers.push(last);
    }
    // Leading exceptions repeat the first integer there is, not zero.
    let first = integers.iter().zip(0..).position(|(_, row)| exceptions.get(row) != Some(&row))?;
    let fill = *integers.get(first)?;
    integers.iter_mut().take(first).for_each(|integer| *integer = fill);
    Some(Lowered { divisor, integers, exceptions, strays })
}

/// A divisor of at most [`DIVISOR_MAX`] that all values share.
pub(super) fn find<T: Real>(values: &[T], exceptions_max: usize) -> Option<Lowered> {
    let mut divisor = 1_u64;
    for x in sample(values) {
        divisor = widened(divisor, x)?;
    }
    for _ in 0..GUESSES {
        let by = u32::try_from(divisor).ok()?;
        if let Some(lowered) = lower(values, by, 0) {
            return Some(lowered);
        }
        let stray = values.iter().find(|x| !x.is_special() && T::over(**x, f64::from(by)).is_none())?;
        match widened(divisor, *stray) {
            Some(wider) if wider != divisor => divisor = wider,
            _ => return lower(values, by, exceptions_max),
        }
    }
    None
}

fn widened<T: Real>(divisor: u64, x: T) -> Option<u64> {
    if T::over(x, divisor as f64).is_some() {
        return Some(divisor);
    }
    let by = denominator(x)?;
    let common = divisor.checked_div(gcd(divisor, by))?.checked_mul(by)?;
    (common <= DIVISOR_MAX).then_some(common)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a.max(1)
}

/// Denominator of the first convergent of `x` that is `x` to the bit.
fn denominator<T: Real>(x: T) -> Option<u64> {
    let mut rest = x.to_f64().abs();
    let (mut before, mut by) = (0_u64, 1_u64);
    for step in 0..40 {
        let whole = rest.floor();
        if whole >= 4e15 {
            return None;
        }
        if step > 0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 4e15")]
            let next = (whole as u64).checked_mul(by)?.checked_add(before)?;
            (before, by) = (by, next);
        }
        if by > DIVISOR_MAX {
            return None;
        }
        if T::over(x, by as f64).is_some() {
            return Some(by);
        }
        let fraction = rest - whole;
        if fraction <= 0.0 {
            return None;
        }
        rest = 1.0 / fraction;
    }
    None
}

/// Appends what precedes the integers' payload.
pub(super) fn put_head(small: &mut Vec<u8>, divisor: u32, inner: u8) {
    put_uv(small, divisor.into());
    small.push(inner);
}

/// Reads `rows` values.
pub(super) fn decode<T: Real>(source: &mut Source<'_>, rows: usize) -> Result<Vec<T>, CodecError> {
    let divisor = source.small.uv()?;
    let by = u32::try_from(divisor).ok().filter(|by| *by > 0).ok_or(PrimitiveError::Range(divisor))?;
    // An integer's tag is its codec alone: type 0.
    let inner = source.small.u8()?;
    if inner > 0x0f {
        return Err(CodecError::UnknownCodec { physical: T::TYPE, codec: RATIO });
    }
    Ok(divided(&ints::decode(source, inner, rows)?, f64::from(by)))
}

/// Integers over a divisor, as the nearest floats.
pub(super) fn divided<T: Real>(integers: &[i64], by: f64) -> Vec<T> {
    integers.iter().map(|integer| T::from_quotient(*integer, by)).collect()
}
