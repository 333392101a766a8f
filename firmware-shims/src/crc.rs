//! CRC-16/CCITT-FALSE, because every link frame ends in it and both ends must agree on one.
//!
//! Polynomial `0x1021`, start `0xFFFF`, nothing reflected, nothing xored at the end; the check
//! value over `"123456789"` is `0x29B1`. Computed without a table: a microcontroller has more
//! time between two bytes of a serial line than it has flash to spare.

/// A checksum over bytes that arrive piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crc16(u16);

impl Crc16 {
    /// The checksum of no bytes at all.
    pub const fn new() -> Self {
        Self(0xFFFF)
    }

    /// Takes in one byte.
    pub const fn push(&mut self, byte: u8) {
        // The eight steps of x^16 + x^12 + x^5 + 1 (0x1021) at once.
        let high = self.0.to_be_bytes()[0] ^ byte;
        let mix = u16::from_be_bytes([0, high ^ (high >> 4)]);
        self.0 = (self.0 << 8) ^ (mix << 12) ^ (mix << 5) ^ mix;
    }

    /// Takes in all bytes of `bytes`, in order.
    pub fn extend(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(*byte);
        }
    }

    /// The checksum of what was taken in so far.
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl Default for Crc16 {
    fn default() -> Self {
        Self::new()
    }
}

/// The checksum of `bytes`.
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = Crc16::new();
    crc.extend(bytes);
    crc.value()
}
