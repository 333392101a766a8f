//! Bits in a row, lowest first: what the residual codec is written with.

use crate::wire::primitives::PrimitiveError;

/// Appends bits to bytes.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    n: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, n: 0 }
    }

    /// Appends the lowest `n` ≤ 32 bits of `value`, whose higher bits are zero.
    #[inline]
    pub(super) fn put(&mut self, value: u64, n: u32) {
        self.held |= value << self.n;
        self.n = self.n.wrapping_add(n);
        if self.n >= 32 {
            let [a, b, c, d, ..] = self.held.to_le_bytes();
            self.out.extend_from_slice(&[a, b, c, d]);
            self.held >>= 32;
            self.n = self.n.wrapping_sub(32);
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(self) {
        let bytes = self.held.to_le_bytes();
        self.out.extend(bytes.iter().take(self.n.div_ceil(8) as usize));
    }
}

/// Reads bits from bytes.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    n: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, held: 0, n: 0 }
    }

    /// Holds at least 56 bits, or all that are left and zeros above them.
    #[inline]
    pub(super) fn fill(&mut self) {
        if let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            self.held |= u64::from_le_bytes(*word) << self.n;
            let taken = (63_u32.wrapping_sub(self.n)) >> 3;
            self.at = self.at.wrapping_add(taken as usize);
            self.n |= 56;
        } else {
            while self.n <= 56
                && let Some(byte) = self.bytes.get(self.at)
            {
                self.held |= u64::from(*byte) << self.n;
                self.at = self.at.wrapping_add(1);
                self.n = self.n.wrapping_add(8);
            }
        }
    }

    /// The bits held, lowest first.
    #[inline]
    pub(super) fn peek(&self) -> u64 {
        self.held
    }

    /// Drops `n` < 64 of the bits held.
    #[inline]
    pub(super) fn skip(&mut self, n: u32) -> Result<(), PrimitiveError> {
        self.n = self.n.checked_sub(n).ok_or(PrimitiveError::Truncated)?;
        self.held >>= n;
        Ok(())
    }

    /// The next `n` ≤ 32 bits.
    #[inline]
    pub(super) fn take(&mut self, n: u32) -> Result<u64, PrimitiveError> {
        let value = self.held & (1_u64 << n).wrapping_sub(1);
        self.skip(n)?;
        Ok(value)
    }

    /// Bytes of which at least one bit was taken; the rest of the last one must be zero.
    pub(super) fn finish(self) -> Result<usize, PrimitiveError> {
        let rest = self.n % 8;
        if self.held & (1_u64 << rest).wrapping_sub(1) != 0 {
            return Err(PrimitiveError::Range(self.held));
        }
        Ok(self.at.saturating_sub((self.n / 8) as usize))
    }
}
