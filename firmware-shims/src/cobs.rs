//! Consistent Overhead Byte Stuffing, so that `0x00` on the line can only mean "a frame ends".
//!
//! Each block is a code byte `n` and `n - 1` bytes without a zero; a block shorter than 254
//! bytes stands for a zero after it, except at the very end. The writer's canon: no trailing
//! `0x01` block when the bytes end exactly at a full 254-byte block. Readers accept both forms.

use core::fmt;

use crate::bytes::NoRoom;

/// The byte that ends a frame and never stands inside one.
pub const DELIMITER: u8 = 0x00;

/// Code byte of a full block: 254 bytes follow and no zero is meant after them.
const FULL: u8 = 0xFF;

/// The most bytes `raw_bytes` bytes can take on the wire, delimiter included.
pub const fn encoded_bytes_max(raw_bytes: usize) -> usize {
    raw_bytes.saturating_add(raw_bytes / 254).saturating_add(2)
}

/// The stuffed bytes end in the middle of a block, or hold a zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CobsError {
    /// A block says it is longer than what follows.
    Truncated,
    /// A zero stands where none can be.
    Zero,
    /// The result does not fit the output.
    NoRoom,
}

impl fmt::Display for CobsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "stuffed bytes end inside a block",
            Self::Zero => "stuffed bytes hold a zero",
            Self::NoRoom => "unstuffed bytes do not fit the output",
        })
    }
}

impl core::error::Error for CobsError {}

/// Writes the canonical stuffing of `raw` and its delimiter into `out`; returns the bytes written.
pub fn encode(raw: &[u8], out: &mut [u8]) -> Result<usize, NoRoom> {
    let mut stuffer = Stuffer::new(out);
    for byte in raw {
        stuffer.push(*byte)?;
    }
    stuffer.finish()
}

/// Undoes [`encode`] on `stuffed` (without its delimiter) into `out`; returns the bytes written.
///
/// Accepts the form with a trailing `0x01` block too, and takes no bytes at all as nothing.
pub fn decode(stuffed: &[u8], out: &mut [u8]) -> Result<usize, CobsError> {
    let mut unstuffer = Unstuffer::new();
    let mut room = out.iter_mut();
    let mut written: usize = 0;
    for byte in stuffed {
        if *byte == DELIMITER {
            return Err(CobsError::Zero);
        }
        if let Some(raw) = unstuffer.push(*byte) {
            *room.next().ok_or(CobsError::NoRoom)? = raw;
            written = written.saturating_add(1);
        }
    }
    if unstuffer.inside_block() {
        return Err(CobsError::Truncated);
    }
    Ok(written)
}

/// Bytes that can be written in any order: a slice, or the free part of a ring.
pub(crate) trait Room {
    fn slot(&mut self, at: usize) -> Option<&mut u8>;
}

impl Room for &mut [u8] {
    fn slot(&mut self, at: usize) -> Option<&mut u8> {
        self.get_mut(at)
    }
}

/// Stuffs bytes one by one, so that a frame needs no buffer for its raw form.
#[derive(Debug)]
pub(crate) struct Stuffer<R> {
    out: R,
    /// Where the next byte goes.
    end: usize,
    /// Where the code of the open block goes; unused while `code` is `FULL`.
    code_at: usize,
    /// The code of the open block so far; `FULL` means it is closed and none is open.
    code: u8,
}

impl<R: Room> Stuffer<R> {
    pub(crate) const fn new(out: R) -> Self {
        Self { out, end: 1, code_at: 0, code: 1 }
    }

    pub(crate) fn push(&mut self, byte: u8) -> Result<(), NoRoom> {
        // A full block is followed by a new one only when there is something to put into it:
        // this is what keeps the trailing 0x01 off the wire.
        if self.code == FULL {
            self.open_block();
        }
        if byte == 0 {
            self.put(self.code_at, self.code)?;
            self.open_block();
            return Ok(());
        }
        self.put(self.end, byte)?;
        self.end = self.end.saturating_add(1);
        self.code = self.code.saturating_add(1);
        if self.code == FULL {
            self.put(self.code_at, FULL)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<usize, NoRoom> {
        if self.code != FULL {
            self.put(self.code_at, self.code)?;
        }
        self.put(self.end, DELIMITER)?;
        Ok(self.end.saturating_add(1))
    }

    fn open_block(&mut self) {
        self.code_at = self.end;
        self.end = self.end.saturating_add(1);
        self.code = 1;
    }

    fn put(&mut self, at: usize, byte: u8) -> Result<(), NoRoom> {
        *self.out.slot(at).ok_or(NoRoom)? = byte;
        Ok(())
    }
}

/// Unstuffs bytes one by one; each byte gives at most one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unstuffer {
    /// Bytes the open block still promises.
    left: u8,
    /// Whether the next block begins with the zero that the last one stood for.
    owes_zero: bool,
}

impl Unstuffer {
    pub(crate) const fn new() -> Self {
        Self { left: 0, owes_zero: false }
    }

    /// Takes in one byte that is not the delimiter.
    pub(crate) fn push(&mut self, byte: u8) -> Option<u8> {
        if self.left == 0 {
            let zero = self.owes_zero.then_some(0);
            self.left = byte.saturating_sub(1);
            self.owes_zero = byte != FULL;
            return zero;
        }
        self.left = self.left.saturating_sub(1);
        Some(byte)
    }

    /// Whether a delimiter would come too early now.
    pub(crate) const fn inside_block(self) -> bool {
        self.left != 0
    }
}
