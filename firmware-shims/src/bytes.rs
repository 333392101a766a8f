//! Little-endian reading and writing over borrowed slices, so that no codec counts offsets itself.

use core::fmt;

use crate::link::PayloadError;

/// What was to be written does not fit: the buffer is too small, or the link's limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes do not fit the buffer or the limit of the link")
    }
}

impl core::error::Error for NoRoom {}

/// Takes typed values off the front of a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const K: usize>(&mut self) -> Result<[u8; K], PayloadError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(PayloadError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, PayloadError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, PayloadError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, PayloadError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, PayloadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string: its length as u8, then its bytes.
    pub(crate) fn text(&mut self) -> Result<&'a str, PayloadError> {
        let len = usize::from(self.u8()?);
        let (head, rest) = self.0.split_at_checked(len).ok_or(PayloadError::Truncated)?;
        self.0 = rest;
        core::str::from_utf8(head).map_err(|_| PayloadError::NotUtf8)
    }

    /// All that is left.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Refuses what no field accounts for: every payload has exactly one form.
    pub(crate) const fn end(self) -> Result<(), PayloadError> {
        if self.0.is_empty() { Ok(()) } else { Err(PayloadError::Trailing) }
    }
}

/// Appends typed values to a borrowed buffer.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    end: usize,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, end: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let end = self.end.checked_add(bytes.len()).ok_or(NoRoom)?;
        let room = self.out.get_mut(self.end..end).ok_or(NoRoom)?;
        room.copy_from_slice(bytes);
        self.end = end;
        Ok(())
    }

    pub(crate) fn u8(&mut self, value: u8) -> Result<(), NoRoom> {
        self.bytes(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> Result<(), NoRoom> {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> Result<(), NoRoom> {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> Result<(), NoRoom> {
        self.bytes(&value.to_le_bytes())
    }

    /// Overwrites one byte that was written before.
    pub(crate) fn set(&mut self, at: usize, value: u8) {
        if let Some(byte) = self.out.get_mut(at) {
            *byte = value;
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.end
    }

    /// Forgets what was written after the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.end = self.end.min(len);
    }
}
