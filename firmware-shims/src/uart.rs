//! What a receive interrupt puts bytes into, with the time of each frame's first byte.
//!
//! A time for every byte would cost more memory than the bytes. Only the first byte after a
//! delimiter is stamped: that is what t2 of a clock exchange needs. Share the ring between
//! interrupt and main loop by whatever the platform has for it, e.g. a critical section.

use crate::cobs::DELIMITER;

/// Up to `N` bytes and `STAMPS` times of frames that have begun.
///
/// One PING is in flight at a time: 4 stamps are plenty.
#[derive(Debug, Clone)]
pub struct RxRing<const N: usize, const STAMPS: usize> {
    bytes: Ring<u8, N>,
    stamps: Ring<u32, STAMPS>,
    /// The next byte pushed begins a frame.
    in_between: bool,
    /// The next byte popped does.
    out_between: bool,
    overruns: u32,
}

impl<const N: usize, const STAMPS: usize> RxRing<N, STAMPS> {
    /// An empty ring.
    pub const fn new() -> Self {
        Self { bytes: Ring::new(0), stamps: Ring::new(0), in_between: true, out_between: true, overruns: 0 }
    }

    /// Takes in a byte that came when the clock's counter stood at `counter`. One that does not fit
    /// is lost and counted; the frame it belongs to then fails its checksum.
    pub fn push(&mut self, byte: u8, counter: u32) {
        let begins = self.in_between && byte != DELIMITER;
        if self.bytes.is_full() || (begins && self.stamps.is_full()) {
            self.overruns = self.overruns.wrapping_add(1);
            return;
        }
        self.in_between = byte == DELIMITER;
        self.bytes.push(byte);
        if begins {
            self.stamps.push(counter);
        }
    }

    /// Gives out the oldest byte, and the counter at its arrival if it begins a frame.
    pub fn pop(&mut self) -> Option<(u8, Option<u32>)> {
        let byte = self.bytes.pop()?;
        let begins = self.out_between && byte != DELIMITER;
        self.out_between = byte == DELIMITER;
        Some((byte, if begins { self.stamps.pop() } else { None }))
    }

    /// Bytes that were lost, wrapping.
    pub const fn overruns(&self) -> u32 {
        self.overruns
    }
}

impl<const N: usize, const STAMPS: usize> Default for RxRing<N, STAMPS> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Clone)]
struct Ring<T, const N: usize> {
    items: [T; N],
    head: usize,
    used: usize,
}

impl<T: Copy, const N: usize> Ring<T, N> {
    const fn new(blank: T) -> Self {
        Self { items: [blank; N], head: 0, used: 0 }
    }

    const fn is_full(&self) -> bool {
        self.used >= N
    }

    fn push(&mut self, item: T) {
        let at = Self::wrap(self.head.saturating_add(self.used));
        if let Some(slot) = self.items.get_mut(at) {
            *slot = item;
            self.used = self.used.saturating_add(1);
        }
    }

    fn pop(&mut self) -> Option<T> {
        self.used = self.used.checked_sub(1)?;
        let item = self.items.get(self.head).copied();
        self.head = Self::wrap(self.head.saturating_add(1));
        item
    }

    const fn wrap(at: usize) -> usize {
        if at >= N { at.saturating_sub(N) } else { at }
    }
}
