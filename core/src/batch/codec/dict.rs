//! Codec 12: few distinct integers, sent once in order, and one byte a row that picks one.

use super::{CodecError, require};
use crate::wire::primitives::{PrimitiveError, Reader, put_uv, put_zz};

/// Most values a row's byte can pick from.
pub(super) const VALUES_MAX: usize = 256;
/// Slots of the look-up table: a power of two well above `VALUES_MAX`.
const SLOTS: usize = 1024;

/// Distinct integers and a place for each, in order of first appearance; at most [`VALUES_MAX`].
#[derive(Debug)]
pub(super) struct Distinct {
    slots: Vec<u16>,
    pub(super) values: Vec<i64>,
}

impl Distinct {
    pub(super) fn new() -> Self {
        Self { slots: vec![u16::MAX; SLOTS], values: Vec::new() }
    }

    /// The place of `value`, or `None` once there would be too many.
    #[inline]
    pub(super) fn place(&mut self, value: i64) -> Option<usize> {
        let hash = value.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let mut slot = usize::try_from(hash).unwrap_or(0);
        loop {
            let entry = self.slots.get_mut(slot % SLOTS)?;
            if *entry == u16::MAX {
                let place = self.values.len();
                if place >= VALUES_MAX {
                    return None;
                }
                *entry = u16::try_from(place).ok()?;
                self.values.push(value);
                return Some(place);
            }
            let place = usize::from(*entry);
            if self.values.get(place) == Some(&value) {
                return Some(place);
            }
            slot = slot.wrapping_add(1);
        }
    }
}

/// The group of each row, and how many groups there are; `None` above [`VALUES_MAX`].
pub(super) fn groups(values: &[i64]) -> Option<(Vec<u8>, Distinct)> {
    let mut distinct = Distinct::new();
    let mut places = Vec::with_capacity(values.len());
    for value in values {
        places.push(u8::try_from(distinct.place(*value)?).ok()?);
    }
    Some((places, distinct))
}

/// Appends the payload; `false` (and no change) if there are too many values to pay.
pub(super) fn encode(out: &mut Vec<u8>, values: &[i64]) -> bool {
    let Some((places, distinct)) = groups(values) else { return false };
    if distinct.values.len().saturating_mul(2) > values.len() {
        return false;
    }
    let mut sorted: Vec<(i64, usize)> = distinct.values.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    put_uv(out, sorted.len() as u64);
    let mut last = 0_i64;
    let mut rank = [0_u8; VALUES_MAX];
    for (at, (value, place)) in (0_u8..=255).zip(&sorted) {
        put_zz(out, value.wrapping_sub(last));
        last = *value;
        if let Some(slot) = rank.get_mut(*place) {
            *slot = at;
        }
    }
    out.extend(places.iter().map(|place| rank.get(usize::from(*place)).copied().unwrap_or(0)));
    true
}

/// Reads `rows` values.
pub(super) fn decode(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<i64>, CodecError> {
    let n = reader.len(VALUES_MAX)?;
    let mut values = Vec::with_capacity(n);
    let mut last = 0_i64;
    for _ in 0..n {
        last = last.wrapping_add(reader.zz()?);
        values.push(last);
    }
    require(reader, rows, 1)?;
    let mut out = Vec::with_capacity(rows);
    for place in reader.take(rows)? {
        out.push(*values.get(usize::from(*place)).ok_or(PrimitiveError::Range((*place).into()))?);
    }
    Ok(out)
}
