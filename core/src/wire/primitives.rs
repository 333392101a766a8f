//! The primitives every format of ours is made of: `uv`, `zz`, little-endian numbers, bounded reads.
//!
//! `uv` is unsigned LEB128 of at most 10 bytes, in its minimal form only; `zz` is zigzag of an `i64`
//! sent as `uv`. A [`Reader`] never allocates more than the bytes it still holds can justify.

/// A primitive that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrimitiveError {
    /// The input ended inside a value.
    #[error("input ends inside a value")]
    Truncated,
    /// More than 10 bytes, a tenth byte above 1, or a form longer than needed.
    #[error("varint is not in its minimal form")]
    Varint,
    /// A length above its limit.
    #[error("length {found} is above its limit {limit}")]
    TooLong {
        /// Claimed length.
        found: u64,
        /// Limit.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// Bytes left after the last value.
    #[error("{0} bytes left after the last value")]
    Trailing(usize),
    /// A number that does not fit where it belongs.
    #[error("number {0} is out of range")]
    Range(u64),
}

/// Appends `value` as `uv`.
#[inline]
pub fn put_uv(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Bytes `put_uv` writes for `value`.
#[must_use]
pub fn uv_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Zigzag: small magnitudes become small numbers.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Inverse of [`zigzag`].
#[must_use]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

/// Appends `value` as `zz`.
pub fn put_zz(out: &mut Vec<u8>, value: i64) {
    put_uv(out, zigzag(value));
}

/// Appends `uv` length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uv(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads primitives from a slice, front to back.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What is left, not taken.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What is left, taken whole.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`PrimitiveError::Truncated`] if fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], PrimitiveError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(PrimitiveError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`PrimitiveError::Truncated`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], PrimitiveError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(PrimitiveError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`PrimitiveError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, PrimitiveError> {
        self.array::<1>().map(|[byte]| byte)
    }
    /// A little-endian u16.
    ///
    /// # Errors
    /// [`PrimitiveError::Truncated`] at the end.
    pub fn u16(&mut self) -> Result<u16, PrimitiveError> {
        self.array().map(u16::from_le_bytes)
    }
    /// A little-endian u32.
    ///
    /// # Errors
    /// [`PrimitiveError::Truncated`] at the end.
    pub fn u32(&mut self) -> Result<u32, PrimitiveError> {
        self.array().map(u32::from_le_bytes)
    }
    /// A little-endian u64.
    ///
    /// # Errors
    /// [`PrimitiveError::Truncated`] at the end.
    pub fn u64(&mut self) -> Result<u64, PrimitiveError> {
        self.array().map(u64::from_le_bytes)
    }
    /// A little-endian i64.
    ///
    /// # Errors
    /// [`PrimitiveError::Truncated`] at the end.
    pub fn i64(&mut self) -> Result<i64, PrimitiveError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A `uv`.
    ///
    /// # Errors
    /// [`PrimitiveError::Varint`] for a form that is too long, `Truncated` at the end.
    #[inline]
    pub fn uv(&mut self) -> Result<u64, PrimitiveError> {
        if let Some((first, rest)) = self.rest.split_first()
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_uv()
    }

    fn long_uv(&mut self) -> Result<u64, PrimitiveError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(PrimitiveError::Varint);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(PrimitiveError::Varint) } else { Ok(value) };
            }
        }
        Err(PrimitiveError::Varint)
    }

    /// A `zz`.
    ///
    /// # Errors
    /// As [`Reader::uv`].
    #[inline]
    pub fn zz(&mut self) -> Result<i64, PrimitiveError> {
        self.uv().map(unzigzag)
    }

    /// A `uv` that must not exceed `limit`, as a size.
    ///
    /// # Errors
    /// [`PrimitiveError::TooLong`] above it.
    pub fn len(&mut self, limit: usize) -> Result<usize, PrimitiveError> {
        let found = self.uv()?;
        match usize::try_from(found) {
            Ok(n) if n <= limit => Ok(n),
            _ => Err(PrimitiveError::TooLong { found, limit: limit as u64 }),
        }
    }

    /// `uv` length and that many bytes, at most `limit`.
    ///
    /// # Errors
    /// [`PrimitiveError::TooLong`] above the limit, `Truncated` at the end.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], PrimitiveError> {
        let n = self.len(limit)?;
        self.take(n)
    }

    /// `uv` length and that many bytes of UTF-8, at most `limit`.
    ///
    /// # Errors
    /// As [`Reader::bytes`]; [`PrimitiveError::Utf8`] for other bytes.
    pub fn text(&mut self, limit: usize) -> Result<&'a str, PrimitiveError> {
        std::str::from_utf8(self.bytes(limit)?).map_err(|_| PrimitiveError::Utf8)
    }

    /// Requires that everything was read.
    ///
    /// # Errors
    /// [`PrimitiveError::Trailing`] otherwise.
    pub fn finish(self) -> Result<(), PrimitiveError> {
        if self.rest.is_empty() { Ok(()) } else { Err(PrimitiveError::Trailing(self.rest.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn uv_and_zz_round_trip(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_uv(&mut out, value);
            prop_assert_eq!(out.len(), uv_len(value));
            put_zz(&mut out, signed);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.uv(), Ok(value));
            prop_assert_eq!(reader.zz(), Ok(signed));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.uv() {
                let mut out = Vec::new();
                put_uv(&mut out, value);
                prop_assert_eq!(&bytes[..out.len()], &out[..], "only the minimal form is read");
            }
        }
    }

    #[test]
    fn long_forms_are_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).uv(), Err(PrimitiveError::Varint));
        let mut ten = [0xff; 10];
        ten[9] = 1;
        assert_eq!(Reader::new(&ten).uv(), Ok(u64::MAX));
        ten[9] = 2;
        assert_eq!(Reader::new(&ten).uv(), Err(PrimitiveError::Varint));
        assert_eq!(Reader::new(&[0x80; 3]).uv(), Err(PrimitiveError::Truncated));
        assert_eq!(unzigzag(zigzag(i64::MIN)), i64::MIN);
    }
}
