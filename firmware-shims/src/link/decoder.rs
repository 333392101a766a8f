//! Finds link frames in a byte stream that may begin anywhere, lie, stop or be pure noise.
//!
//! Memory is the one buffer; every byte ends up in exactly one counter; a frame is given out
//! whole with a right checksum or not at all.

use core::fmt;

use super::frame::{CRC_BYTES, LinkFrame};
use super::header::{HEADER_BYTES, Header, LinkType};
use crate::cobs::{DELIMITER, Unstuffer};
use crate::crc::crc16;

/// Why the bytes between two delimiters are no link frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// The delimiter came inside a stuffed block.
    Stuffing,
    /// Too few bytes for a header and a checksum.
    TooShort {
        /// Raw bytes found.
        raw_bytes: usize,
    },
    /// More raw bytes than the decoder holds; what follows is skipped up to the delimiter.
    Oversize,
    /// The checksum does not fit the bytes.
    Checksum {
        /// What the bytes give.
        computed: u16,
        /// What the frame claims.
        claimed: u16,
    },
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuffing => f.write_str("link frame ends inside a stuffed block"),
            Self::TooShort { raw_bytes } => {
                write!(f, "link frame of {raw_bytes} bytes holds no header")
            }
            Self::Oversize => f.write_str("link frame is larger than the decoder's buffer"),
            Self::Checksum { computed, claimed } => {
                write!(f, "link frame claims checksum {claimed:#06x} but its bytes give {computed:#06x}")
            }
        }
    }
}

impl core::error::Error for LinkError {}

/// What became of every byte pushed so far. Counters wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkStats {
    /// All bytes pushed.
    pub bytes: u64,
    /// Bytes up to and including the first delimiter: not an error, just a late start.
    pub hunted_bytes: u64,
    /// Bytes of good frames, delimiters included.
    pub frame_bytes: u64,
    /// Bytes of frames that failed, delimiters included.
    pub rejected_bytes: u64,
    /// Delimiters with nothing before them.
    pub idle_bytes: u64,
    /// Bytes of the frame that is still open.
    pub pending_bytes: u64,
    /// Good frames, unknown types among them.
    pub frames: u64,
    /// Good frames of a type this version does not know.
    pub unknown_frames: u64,
    /// Frames that failed as [`LinkError::Stuffing`].
    pub stuffing_errors: u64,
    /// Frames that failed as [`LinkError::TooShort`].
    pub short_errors: u64,
    /// Frames that failed as [`LinkError::Oversize`], each counted once.
    pub oversize_errors: u64,
    /// Frames that failed as [`LinkError::Checksum`].
    pub checksum_errors: u64,
}

impl LinkStats {
    /// The sum over all places a byte can end up in; always equal to `bytes`.
    pub const fn accounted_bytes(&self) -> u64 {
        self.hunted_bytes
            .wrapping_add(self.frame_bytes)
            .wrapping_add(self.rejected_bytes)
            .wrapping_add(self.idle_bytes)
            .wrapping_add(self.pending_bytes)
    }

    /// Frames that failed, for whatever reason.
    pub const fn errors(&self) -> u64 {
        self.stuffing_errors
            .wrapping_add(self.short_errors)
            .wrapping_add(self.oversize_errors)
            .wrapping_add(self.checksum_errors)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No delimiter seen yet: nobody knows where in a frame we are.
    Hunting,
    /// Between two delimiters.
    Collecting,
    /// After an oversize frame was reported, before its delimiter.
    Skipping,
}

/// Decodes a byte stream into link frames of at most `N` raw bytes (header, payload, checksum).
///
/// A host takes [`RAW_BYTES_MAX`](super::RAW_BYTES_MAX) for `N`, a device what it states as `max_rx`.
#[derive(Debug, Clone)]
pub struct LinkDecoder<const N: usize> {
    raw: [u8; N],
    raw_bytes: usize,
    unstuffer: Unstuffer,
    state: State,
    stats: LinkStats,
}

impl<const N: usize> LinkDecoder<N> {
    /// A decoder that hunts for the first delimiter.
    pub const fn new() -> Self {
        Self {
            raw: [0; N],
            raw_bytes: 0,
            unstuffer: Unstuffer::new(),
            state: State::Hunting,
            stats: LinkStats {
                bytes: 0,
                hunted_bytes: 0,
                frame_bytes: 0,
                rejected_bytes: 0,
                idle_bytes: 0,
                pending_bytes: 0,
                frames: 0,
                unknown_frames: 0,
                stuffing_errors: 0,
                short_errors: 0,
                oversize_errors: 0,
                checksum_errors: 0,
            },
        }
    }

    /// Takes in one byte; gives a frame or an error when this byte decides it.
    ///
    /// An oversize frame is reported at the byte that does not fit, so that an endless one is
    /// noticed; all others at their delimiter.
    pub fn push(&mut self, byte: u8) -> Option<Result<LinkFrame<'_>, LinkError>> {
        bump(&mut self.stats.bytes);
        match self.state {
            State::Hunting => {
                bump(&mut self.stats.hunted_bytes);
                if byte == DELIMITER {
                    self.state = State::Collecting;
                }
                None
            }
            State::Skipping => {
                bump(&mut self.stats.rejected_bytes);
                if byte == DELIMITER {
                    self.state = State::Collecting;
                }
                None
            }
            State::Collecting if byte == DELIMITER => self.close(),
            State::Collecting => {
                bump(&mut self.stats.pending_bytes);
                let raw = self.unstuffer.push(byte)?;
                if let Some(slot) = self.raw.get_mut(self.raw_bytes) {
                    *slot = raw;
                    self.raw_bytes = self.raw_bytes.saturating_add(1);
                    return None;
                }
                self.state = State::Skipping;
                bump(&mut self.stats.oversize_errors);
                self.stats.rejected_bytes = self.stats.rejected_bytes.wrapping_add(self.take_pending_bytes());
                self.begin();
                Some(Err(LinkError::Oversize))
            }
        }
    }

    /// What became of every byte so far.
    pub const fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Forgets the open frame and hunts again, as after the port was reopened; counters stay.
    pub fn hunt(&mut self) {
        let pending = self.take_pending_bytes();
        self.stats.hunted_bytes = self.stats.hunted_bytes.wrapping_add(pending);
        self.begin();
        self.state = State::Hunting;
    }

    /// Judges what stands between the last delimiter and this one.
    fn close(&mut self) -> Option<Result<LinkFrame<'_>, LinkError>> {
        let open_bytes = self.take_pending_bytes();
        if open_bytes == 0 {
            bump(&mut self.stats.idle_bytes);
            return None;
        }
        let wire_bytes = open_bytes.wrapping_add(1);
        let (inside_block, raw_bytes) = (self.unstuffer.inside_block(), self.raw_bytes);
        self.begin();

        let stats = &mut self.stats;
        let raw = self.raw.get(..raw_bytes).unwrap_or_default();
        let verdict = if inside_block {
            bump(&mut stats.stuffing_errors);
            Err(LinkError::Stuffing)
        } else {
            check(raw).inspect_err(|error| {
                bump(match error {
                    LinkError::Checksum { .. } => &mut stats.checksum_errors,
                    _ => &mut stats.short_errors,
                });
            })
        };
        match &verdict {
            Ok(frame) => {
                stats.frame_bytes = stats.frame_bytes.wrapping_add(wire_bytes);
                bump(&mut stats.frames);
                if matches!(frame.header.link_type, LinkType::Unknown(_)) {
                    bump(&mut stats.unknown_frames);
                }
            }
            Err(_) => stats.rejected_bytes = stats.rejected_bytes.wrapping_add(wire_bytes),
        }
        Some(verdict)
    }

    fn begin(&mut self) {
        self.raw_bytes = 0;
        self.unstuffer = Unstuffer::new();
    }

    fn take_pending_bytes(&mut self) -> u64 {
        core::mem::take(&mut self.stats.pending_bytes)
    }
}

impl<const N: usize> Default for LinkDecoder<N> {
    fn default() -> Self {
        Self::new()
    }
}

fn check(raw: &[u8]) -> Result<LinkFrame<'_>, LinkError> {
    let too_short = LinkError::TooShort { raw_bytes: raw.len() };
    let (body, claimed) = raw.split_last_chunk::<CRC_BYTES>().ok_or(too_short)?;
    let (header, payload) = body.split_first_chunk::<HEADER_BYTES>().ok_or(too_short)?;
    let (computed, claimed) = (crc16(body), u16::from_le_bytes(*claimed));
    if computed != claimed {
        return Err(LinkError::Checksum { computed, claimed });
    }
    Ok(LinkFrame { header: Header::from_bytes(*header), payload })
}

const fn bump(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}
