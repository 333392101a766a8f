//! Brings each frame of a program together with the stamp it says of it elsewhere.
//!
//! Both come in order, one stamp for one frame, on two pipes that run apart by some frames. So they are paired by
//! counting; a frame whose stamp does not come in time goes by its arrival, and its stamp is passed over when it comes.
//! Once the counting cannot be right any more (a frame was broken, a stamp is of a smaller frame) all go by arrival
//! until the program starts again: a stamp of the wrong frame would be plausible and wrong.

use super::SensorStamp;
use headwater_core::time::BootNanos;
use std::collections::VecDeque;

/// A frame waits for its stamp this long, ms: an encoder may be some frames behind.
const PATIENCE_MS: u64 = 500;
/// Frames that wait at once; beyond it the oldest goes by its arrival. A second of 4 frames a second, or less.
const FRAMES_MAX: usize = 4;
/// Stamps that wait at once: two seconds of 30 frames a second, said ahead of their frames.
const STAMPS_MAX: usize = 64;

/// A frame, with its stamp if it has one.
#[derive(Debug, PartialEq, Eq)]
pub struct Due<F> {
    /// The frame.
    pub frame: F,
    /// Its stamp, and when that was heard.
    pub stamp: Option<(SensorStamp, BootNanos)>,
}

/// Frames and stamps that wait for each other.
#[derive(Debug)]
pub struct Pairing<F> {
    frames: VecDeque<(F, u64, BootNanos)>,
    stamps: VecDeque<(Option<SensorStamp>, BootNanos)>,
    /// Stamps of frames that are gone.
    owed: u64,
    lost_count: bool,
}

impl<F> Default for Pairing<F> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), stamps: VecDeque::new(), owed: 0, lost_count: false }
    }
}

impl<F> Pairing<F> {
    /// The program started: counting begins anew. Gives out what still waited.
    pub fn restart(&mut self) -> Vec<Due<F>> {
        let left = std::mem::take(self).frames;
        left.into_iter().map(|(frame, _, _)| Due { frame, stamp: None }).collect()
    }

    /// A frame was none: nobody knows any more which stamp is whose.
    pub fn lose_count(&mut self) {
        self.lost_count = true;
        self.stamps.clear();
    }

    /// True once frames go by their arrival until the program starts again.
    #[must_use]
    pub fn has_lost_count(&self) -> bool {
        self.lost_count
    }

    /// A frame of `bytes` came at `at`.
    pub fn frame(&mut self, frame: F, bytes: usize, at: BootNanos) -> Vec<Due<F>> {
        self.frames.push_back((frame, bytes as u64, at));
        self.pair(at)
    }

    /// What was said of the next frame was heard at `at`.
    pub fn stamp(&mut self, stamp: Option<SensorStamp>, at: BootNanos) -> Vec<Due<F>> {
        if self.lost_count {
            return Vec::new();
        }
        if self.owed > 0 {
            self.owed = self.owed.saturating_sub(1);
            return Vec::new();
        }
        self.stamps.push_back((stamp, at));
        if self.stamps.len() > STAMPS_MAX {
            self.lose_count();
        }
        self.pair(at)
    }

    /// Gives out frames that waited long enough.
    pub fn poll(&mut self, now: BootNanos) -> Vec<Due<F>> {
        self.pair(now)
    }

    /// When [`Pairing::poll`] has something to give.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        self.frames.front().map(|(_, _, at)| at.plus_ms(PATIENCE_MS))
    }

    fn pair(&mut self, now: BootNanos) -> Vec<Due<F>> {
        let mut due = Vec::new();
        while let Some((_, bytes, since)) = self.frames.front() {
            let stamp = self.stamps.front().copied();
            // A frame may be cut to its end within its buffer, never be more than was in it.
            let misfit = stamp.and_then(|(stamp, _)| stamp?.bytes).is_some_and(|of| *bytes > of);
            if misfit {
                self.lose_count();
                continue;
            }
            let over = self.lost_count || self.frames.len() > FRAMES_MAX || since.plus_ms(PATIENCE_MS) <= now;
            if stamp.is_none() && !over {
                break;
            }
            let Some((frame, _, _)) = self.frames.pop_front() else { break };
            if self.stamps.pop_front().is_none() && !self.lost_count {
                self.owed = self.owed.saturating_add(1);
            }
            due.push(Due { frame, stamp: stamp.and_then(|(stamp, at)| Some((stamp?, at))) });
        }
        due
    }
}
