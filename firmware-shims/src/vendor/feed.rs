//! Cuts a byte stream into frames, so that no decoder of a protocol keeps bytes or resynchronises by itself.
//!
//! A protocol only says what stands at the front of the bytes at hand ([`Protocol::look`]); the
//! [`Feeder`] holds them. Its promise: memory is the one buffer, every byte ends up in exactly one
//! counter, and a frame that turns out false costs its first byte alone: what follows it is looked
//! at again, so that a false start never swallows the true frame behind it.

use core::fmt;

/// Why bytes that began like a frame are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// The checksum does not fit the bytes.
    Checksum,
    /// The frame claims a length its type cannot have, or one beyond the buffer.
    Length,
    /// Bytes that are fixed by the protocol are others.
    Malformed,
    /// The line fell silent in the middle of it.
    Cut,
}

impl FrameError {
    /// Every reason there is.
    pub const ALL: [Self; 4] = [Self::Checksum, Self::Length, Self::Malformed, Self::Cut];

    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Checksum => "frame has a wrong checksum",
            Self::Length => "frame claims a length it cannot have",
            Self::Malformed => "frame lacks a byte its protocol fixes",
            Self::Cut => "frame was cut short",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for FrameError {}

/// What stands at the front of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// No frame begins at the first byte.
    Noise,
    /// Perhaps a frame: it can be told once this many bytes are at hand, more than there are now.
    More(usize),
    /// A frame of this many bytes, whole and right.
    Frame(usize),
    /// This many bytes look like a frame but are none.
    Bad(FrameError, usize),
    /// This many bytes may be a frame of a type that cannot be checked: counted, not given out, and
    /// looked through as if they were noise.
    Unknown(usize),
}

/// A protocol, as far as finding its frames goes.
pub trait Protocol {
    /// Says what stands at the front of `bytes`, which are never empty.
    ///
    /// `in_sync`: the byte before the first belonged to a good frame. Protocols without a checksum
    /// believe less where it did not.
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look;
}

impl<P: Protocol + ?Sized> Protocol for &P {
    fn look(&self, bytes: &[u8], in_sync: bool) -> Look {
        (**self).look(bytes, in_sync)
    }
}

/// What became of every byte so far. Counters wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedStats {
    /// All bytes taken in.
    pub bytes: u64,
    /// Bytes of good frames.
    pub frame_bytes: u64,
    /// Bytes between frames in which none begins.
    pub noise_bytes: u64,
    /// Bytes of frames that failed, without those that turned out to be of a good one.
    pub rejected_bytes: u64,
    /// Bytes of frames of unknown type, without those that turned out to be of a good one.
    pub unknown_bytes: u64,
    /// Bytes of which nothing is decided yet.
    pub pending_bytes: u64,
    /// Good frames.
    pub frames: u64,
    /// Frames of a type that cannot be checked.
    pub unknown_frames: u64,
    /// Frames that failed as [`FrameError::Checksum`].
    pub checksum_errors: u64,
    /// Frames that failed as [`FrameError::Length`].
    pub length_errors: u64,
    /// Frames that failed as [`FrameError::Malformed`].
    pub malformed_errors: u64,
    /// Frames that failed as [`FrameError::Cut`].
    pub cut_errors: u64,
}

impl FeedStats {
    /// The sum over all places a byte can end up in; always equal to `bytes`.
    pub const fn accounted_bytes(&self) -> u64 {
        self.frame_bytes
            .wrapping_add(self.noise_bytes)
            .wrapping_add(self.rejected_bytes)
            .wrapping_add(self.unknown_bytes)
            .wrapping_add(self.pending_bytes)
    }

    /// Frames that failed, for whatever reason.
    pub const fn errors(&self) -> u64 {
        self.checksum_errors
            .wrapping_add(self.length_errors)
            .wrapping_add(self.malformed_errors)
            .wrapping_add(self.cut_errors)
    }

    const fn error(&mut self, error: FrameError) {
        let counter = match error {
            FrameError::Checksum => &mut self.checksum_errors,
            FrameError::Length => &mut self.length_errors,
            FrameError::Malformed => &mut self.malformed_errors,
            FrameError::Cut => &mut self.cut_errors,
        };
        *counter = counter.wrapping_add(1);
    }
}

/// A frame found in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The frame, from its first sync byte to the last of its checksum.
    pub bytes: &'a [u8],
    /// Bytes that were taken in already and lie behind it; those still in the input come on top.
    pub behind: usize,
}

/// Cuts a stream into the frames of `P`, none of them larger than `N` bytes.
///
/// ```
/// use headwater_shims::vendor::{Feeder, sds011::Sds011};
///
/// let mut input: &[u8] = &[0x00, 0xAA, 0xC0, 0xD4, 0x04, 0x3A, 0x0A, 0xA1, 0x60, 0x1D, 0xAB];
/// let mut feeder = Feeder::<Sds011, 16>::new(Sds011);
/// while let Some(found) = feeder.next_frame(&mut input) {
///     assert_eq!(found?.bytes.len(), 10);
/// }
/// assert_eq!((feeder.stats().frames, feeder.stats().noise_bytes), (1, 1));
/// # Ok::<(), headwater_shims::vendor::FrameError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Feeder<P, const N: usize> {
    protocol: P,
    buffer: [u8; N],
    begin: usize,
    end: usize,
    /// Bytes of the frame that was given out, at the front.
    given: usize,
    /// Bytes to have before it is worth looking again.
    need: usize,
    /// Bytes from `begin` on that belong to the last frame that failed, and to the last unknown one.
    rejected: usize,
    unknown: usize,
    in_sync: bool,
    closing: bool,
    stats: FeedStats,
}

impl<P: Protocol, const N: usize> Feeder<P, N> {
    /// A feeder that has seen nothing.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            buffer: [0; N],
            begin: 0,
            end: 0,
            given: 0,
            need: 0,
            rejected: 0,
            unknown: 0,
            in_sync: false,
            closing: false,
            stats: FeedStats::default(),
        }
    }

    /// The protocol.
    pub const fn protocol(&self) -> &P {
        &self.protocol
    }

    /// What became of every byte so far.
    pub const fn stats(&self) -> FeedStats {
        self.stats
    }

    /// Takes another protocol from now on, such as the next answer to wait for. What is pending stays.
    pub fn set_protocol(&mut self, protocol: P) {
        self.protocol = protocol;
        self.need = 0;
    }

    /// The line fell silent or was opened again: a frame that is open gets no more bytes. What is
    /// pending is decided by the next calls of [`Feeder::next_frame`], before they take in anything.
    pub const fn close(&mut self) {
        self.closing = true;
    }

    /// Takes bytes off the front of `input` until one of them decides something: a frame, or what was
    /// taken for one. `None` when the input is used up; call again until then.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Option<Result<Found<'_>, FrameError>> {
        self.drop_given();
        loop {
            let at_hand = self.end.saturating_sub(self.begin);
            if at_hand == 0 {
                self.closing = false;
            } else if at_hand >= self.need || self.closing {
                match self.judge(at_hand) {
                    Verdict::Frame(len) => return Some(Ok(self.give(len))),
                    Verdict::Bad(error) => return Some(Err(error)),
                    Verdict::Skipped => continue,
                    Verdict::Waiting => {}
                }
            }
            if !self.fill(input) {
                return None;
            }
        }
    }

    fn judge(&mut self, at_hand: usize) -> Verdict {
        let bytes = self.buffer.get(self.begin..self.end).unwrap_or_default();
        let look = match self.protocol.look(bytes, self.in_sync) {
            Look::More(need) if need > N => Look::Bad(FrameError::Length, at_hand),
            Look::More(_) if self.closing => Look::Bad(FrameError::Cut, at_hand),
            // A protocol that asks for what is there, or finds more than that, is wrong about it.
            Look::More(need) if need <= at_hand => Look::Noise,
            Look::Frame(len) if len == 0 || len > at_hand => Look::Noise,
            look => look,
        };
        match look {
            Look::More(need) => {
                self.need = need;
                Verdict::Waiting
            }
            Look::Frame(len) => Verdict::Frame(len),
            Look::Noise => {
                self.skip();
                Verdict::Skipped
            }
            Look::Unknown(len) => {
                // Inside another of unknown type it is likelier to be a chance.
                if self.unknown == 0 {
                    self.stats.unknown_frames = self.stats.unknown_frames.wrapping_add(1);
                }
                self.unknown = self.unknown.max(len);
                self.skip();
                Verdict::Skipped
            }
            Look::Bad(error, len) => {
                self.rejected = self.rejected.max(len.max(1));
                self.stats.error(error);
                self.skip();
                Verdict::Bad(error)
            }
        }
    }

    fn give(&mut self, len: usize) -> Found<'_> {
        self.stats.frames = self.stats.frames.wrapping_add(1);
        self.given = len;
        let stop = self.begin.saturating_add(len);
        Found {
            bytes: self.buffer.get(self.begin..stop).unwrap_or_default(),
            behind: self.end.saturating_sub(stop),
        }
    }

    /// The frame given out is behind us. It was counted as pending until now, so that the sum is right at any time.
    fn drop_given(&mut self) {
        let len = core::mem::take(&mut self.given);
        if len > 0 {
            self.stats.frame_bytes = self.stats.frame_bytes.wrapping_add(len as u64);
            self.forward(len);
            (self.rejected, self.unknown) =
                (self.rejected.saturating_sub(len), self.unknown.saturating_sub(len));
            self.in_sync = true;
        }
    }

    /// The first byte begins no frame.
    fn skip(&mut self) {
        let counter = match (self.rejected, self.unknown) {
            (0, 0) => &mut self.stats.noise_bytes,
            (0, _) => &mut self.stats.unknown_bytes,
            _ => &mut self.stats.rejected_bytes,
        };
        *counter = counter.wrapping_add(1);
        (self.rejected, self.unknown) = (self.rejected.saturating_sub(1), self.unknown.saturating_sub(1));
        self.forward(1);
        self.in_sync = false;
    }

    fn forward(&mut self, len: usize) {
        self.begin = self.begin.saturating_add(len).min(self.end);
        self.stats.pending_bytes = self.stats.pending_bytes.wrapping_sub(len as u64);
        self.need = 0;
    }

    /// Takes in as many bytes as are needed; false if there are none.
    fn fill(&mut self, input: &mut &[u8]) -> bool {
        if self.end == N {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end = self.end.saturating_sub(self.begin);
            self.begin = 0;
        }
        let room = N.saturating_sub(self.end);
        let at_hand = self.end.saturating_sub(self.begin);
        let wanted = self.need.saturating_sub(at_hand).max(1).min(room).min(input.len());
        let Some((taken, rest)) = input.split_at_checked(wanted) else { return false };
        let stop = self.end.saturating_add(wanted);
        if wanted == 0 {
            // No buffer at all holds nothing: its bytes are noise.
            if N == 0 && !input.is_empty() {
                let all = input.len() as u64;
                self.stats.bytes = self.stats.bytes.wrapping_add(all);
                self.stats.noise_bytes = self.stats.noise_bytes.wrapping_add(all);
                *input = &[];
            }
            return false;
        }
        if let Some(free) = self.buffer.get_mut(self.end..stop) {
            free.copy_from_slice(taken);
        }
        self.end = stop;
        *input = rest;
        self.stats.bytes = self.stats.bytes.wrapping_add(wanted as u64);
        self.stats.pending_bytes = self.stats.pending_bytes.wrapping_add(wanted as u64);
        true
    }
}

enum Verdict {
    Frame(usize),
    Bad(FrameError),
    Skipped,
    Waiting,
}
