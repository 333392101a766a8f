//! Floats: as they are, byte by byte, as integers over a divisor, with exceptions, or by pco.

use super::choose::{Choice, Coded, Picker};
use super::{
    CONST, CodecError, DECIMAL, DECIMAL_DELTA, DECIMAL_DELTA2, DELTA, DELTA2, PATCHED, PCO, PLAIN, PLANES,
    RATIO, RAW, Source, T_F32, T_F64, constant, decimal, ints, pco, ratio, require,
};
use crate::wire::primitives::{PrimitiveError, Reader, put_uv};
use ::pco::data_types::Number;
use ::pco::{DeltaSpec, ModeSpec};

/// Singles and doubles. All comparisons are of bits.
pub(super) trait Real: Number + Copy + Default {
    const TYPE: u8;
    const WIDTH: usize;
    /// How many powers of ten, from 1 on, are tried.
    const DECIMALS: usize;
    fn bits(self) -> u64;
    fn from_low_bits(bits: u64) -> Self;
    fn to_f64(self) -> f64;
    /// The nearest float to `integer / by`.
    fn from_quotient(integer: i64, by: f64) -> Self;
    /// Largest integer a value may become.
    const INTEGER_MAX: f64;

    /// From its `WIDTH` bytes.
    #[inline]
    fn from_le(bytes: &[u8]) -> Self {
        let mut word = [0; 8];
        word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self::from_low_bits(u64::from_le_bytes(word))
    }

    /// NaN, an infinity or −0.0: no quotient of integers.
    fn is_special(self) -> bool {
        let x = self.to_f64();
        !x.is_finite() || (x == 0.0 && x.is_sign_negative())
    }

    /// The integer that over `by` is `x` to the bit, if there is one.
    #[inline]
    fn over(x: Self, by: f64) -> Option<i64> {
        /// Adding and subtracting 1.5 × 2^52 rounds to an integer, to even at a half.
        const ROUND: f64 = 6_755_399_441_055_744.0;
        let scaled = x.to_f64() * by;
        if scaled.is_nan() || scaled.abs() >= Self::INTEGER_MAX {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "an integer below 2^51")]
        let integer = ((scaled + ROUND) - ROUND) as i64;
        (Self::from_quotient(integer, by).bits() == x.bits()).then_some(integer)
    }
}

impl Real for f64 {
    const TYPE: u8 = T_F64;
    const WIDTH: usize = 8;
    const DECIMALS: usize = 9;
    const INTEGER_MAX: f64 = 2_251_799_813_685_248.0;
    #[inline]
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn from_low_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    #[inline]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline]
    fn from_quotient(integer: i64, by: f64) -> Self {
        integer as f64 / by
    }
}

impl Real for f32 {
    const TYPE: u8 = T_F32;
    const WIDTH: usize = 4;
    const DECIMALS: usize = 6;
    const INTEGER_MAX: f64 = 1e9;
    #[inline]
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
    #[expect(clippy::cast_possible_truncation, reason = "a single has 32 bits")]
    fn from_low_bits(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
    #[inline]
    fn to_f64(self) -> f64 {
        self.into()
    }
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the nearest single is what is asked for")]
    fn from_quotient(integer: i64, by: f64) -> Self {
        (integer as f64 / by) as f32
    }
}

/// One in this many ordinary values may be an exception.
const STRAYS: usize = 16;

/// The best ways to write `values` (at least one).
pub(super) fn choose<T: Real>(picker: &mut Picker<'_>, values: &[T]) -> Choice {
    let mut choice = Choice::default();
    if constant(values.iter().map(|x| x.bits())).is_some() {
        let mut small = Vec::with_capacity(T::WIDTH);
        put_raw(&mut small, values.get(..1).unwrap_or_default());
        choice.small = Some(Coded { codec: CONST, cost: small.len(), small, dense: Vec::new() });
        return choice;
    }
    let exact = consider_lowered(picker, &mut choice, values);
    if !exact || choice.cost() >= values.len().saturating_mul(T::WIDTH) {
        let mut raw = Vec::with_capacity(values.len().saturating_mul(T::WIDTH));
        put_raw(&mut raw, values);
        picker.add_small(&mut choice, RAW, raw);
        if picker.may(PLANES) {
            let mut planes = Vec::with_capacity(values.len().saturating_mul(T::WIDTH));
            put_planes(&mut planes, values);
            picker.add_small(&mut choice, PLANES, planes);
        }
        if picker.may_pco(values.len()) {
            picker.add_pco(&mut choice, values, ModeSpec::Auto, DeltaSpec::Auto);
        }
    }
    choice
}

/// Adds the ways through integers; true if these leave nothing to gain for the others.
fn consider_lowered<T: Real>(picker: &mut Picker<'_>, choice: &mut Choice, values: &[T]) -> bool {
    let strays = if picker.may(PATCHED) { values.len() / STRAYS } else { 0 };
    let mut found = picker.may(DECIMAL).then(|| decimal::find(values, strays)).flatten();
    if picker.may(RATIO) && found.as_ref().is_none_or(|lowered| lowered.strays > 0) {
        found = ratio::find(values, strays).or(found);
    }
    let Some(lowered) = found.filter(|lowered| lowered.exceptions.is_empty() || picker.may(PATCHED)) else {
        return false;
    };
    let ways =
        if picker.may(RATIO) { picker.codecs() & !(1 << RAW) } else { 1 << PLAIN | 1 << DELTA | 1 << DELTA2 };
    let inner = ints::choose(picker, &lowered.integers, ways);
    let patches = (!lowered.exceptions.is_empty()).then(|| patches(values, &lowered.exceptions));
    let patches_cost = patches.as_ref().map_or(0, |patches| picker.cost(patches));
    let place = decimal::place(lowered.divisor);
    let wrap = |coded: Coded| -> Option<Coded> {
        let mut small = Vec::with_capacity(coded.small.len().saturating_add(16));
        let codec = match (place, coded.codec) {
            (Some(_), PLAIN..=DELTA2) => coded.codec.wrapping_add(DECIMAL - PLAIN),
            _ => RATIO,
        };
        let mut codec_out = codec;
        if let Some(patches) = &patches {
            small.extend_from_slice(patches);
            small.push(T::TYPE << 4 | codec);
            codec_out = PATCHED;
        }
        match place.filter(|_| codec != RATIO) {
            Some(place) => small.push(place),
            None => ratio::put_head(&mut small, lowered.divisor, coded.codec),
        }
        let head = small.len().saturating_sub(patches.as_ref().map_or(0, Vec::len));
        let cost = coded.cost.saturating_add(head).saturating_add(patches_cost);
        small.extend_from_slice(&coded.small);
        Some(Coded { codec: codec_out, small, dense: coded.dense, cost })
    };
    choice.small = inner.small.and_then(wrap);
    choice.mixed = inner.mixed.and_then(wrap);
    lowered.strays == 0
}

fn patches<T: Real>(values: &[T], exceptions: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    put_uv(&mut out, exceptions.len() as u64);
    let mut last = 0;
    for row in exceptions {
        put_uv(&mut out, row.saturating_sub(last) as u64);
        last = *row;
    }
    for row in exceptions {
        put_raw(&mut out, values.get(*row..=*row).unwrap_or_default());
    }
    out
}

fn put_raw<T: Real>(out: &mut Vec<u8>, values: &[T]) {
    for x in values {
        let bytes = x.bits().to_le_bytes();
        out.extend_from_slice(bytes.get(..T::WIDTH).unwrap_or_default());
    }
}

fn put_planes<T: Real>(out: &mut Vec<u8>, values: &[T]) {
    for plane in 0..T::WIDTH {
        out.extend(values.iter().map(|x| x.bits().to_le_bytes().get(plane).copied().unwrap_or(0)));
    }
}

/// Reads `rows` values.
pub(super) fn decode<T: Real>(source: &mut Source<'_>, codec: u8, rows: usize) -> Result<Vec<T>, CodecError> {
    match codec {
        CONST => Ok(vec![T::from_le(source.small.take(T::WIDTH)?); rows]),
        RAW => {
            require(&source.small, rows, T::WIDTH)?;
            let bytes = source.small.take(rows.saturating_mul(T::WIDTH))?;
            Ok(bytes.chunks_exact(T::WIDTH).map(T::from_le).collect())
        }
        PLANES => {
            require(&source.small, rows, T::WIDTH)?;
            let bytes = source.small.take(rows.saturating_mul(T::WIDTH))?;
            let mut bits = vec![0_u64; rows];
            for (plane, bytes) in (0_u32..).zip(bytes.chunks_exact(rows.max(1))) {
                bits.iter_mut().zip(bytes).for_each(|(x, byte)| *x |= u64::from(*byte) << (8 * plane));
            }
            Ok(bits.into_iter().map(T::from_low_bits).collect())
        }
        DECIMAL | DECIMAL_DELTA | DECIMAL_DELTA2 => {
            let place = source.small.u8()?;
            let by = decimal::POWERS.get(usize::from(place)).ok_or(PrimitiveError::Range(place.into()))?;
            let integers = ints::decode(source, codec.wrapping_sub(DECIMAL - PLAIN), rows)?;
            Ok(ratio::divided(&integers, f64::from(*by)))
        }
        RATIO => ratio::decode(source, rows),
        PATCHED => decode_patched(source, rows),
        PCO => pco::decode(source, rows),
        codec => Err(CodecError::UnknownCodec { physical: T::TYPE, codec }),
    }
}

/// Goes to the tag after the exceptions of codec 11; `None` if there is none.
pub(super) fn skip_exceptions(reader: &mut Reader<'_>, width: usize) -> Option<()> {
    let n = reader.len(reader.remaining()).ok()?;
    for _ in 0..n {
        reader.uv().ok()?;
    }
    reader.take(n.saturating_mul(width)).ok().map(drop)
}

fn decode_patched<T: Real>(source: &mut Source<'_>, rows: usize) -> Result<Vec<T>, CodecError> {
    let n = source.small.len(rows)?;
    require(&source.small, n, T::WIDTH.saturating_add(1))?;
    let mut places = Vec::with_capacity(n);
    let mut last = 0_usize;
    for at in 0..n {
        let step = source.small.len(rows)?;
        last = last.saturating_add(step);
        if last >= rows || (at > 0 && step == 0) {
            return Err(PrimitiveError::Range(last as u64).into());
        }
        places.push(last);
    }
    let bits = source.small.take(n.saturating_mul(T::WIDTH))?;
    let tag = source.small.u8()?;
    let (physical, codec) = (tag >> 4, tag & 0x0f);
    if physical != T::TYPE || !matches!(codec, DECIMAL..=DECIMAL_DELTA2 | RATIO) {
        return Err(CodecError::UnknownCodec { physical, codec });
    }
    let mut values: Vec<T> = decode(source, codec, rows)?;
    for (place, bits) in places.into_iter().zip(bits.chunks_exact(T::WIDTH)) {
        if let Some(value) = values.get_mut(place) {
            *value = T::from_le(bits);
        }
    }
    Ok(values)
}
