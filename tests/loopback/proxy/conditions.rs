//! What a link may be like, and what of it is left to chance.

use std::time::{Duration, Instant};

/// What the link is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass, under conditions.
    Open(Conditions),
    /// Half-open: connections are taken and their bytes swallowed. A connection that lost bytes this way never comes
    /// back, whatever the mode becomes.
    Silent,
    /// New connections are closed at once, those that stand are cut.
    Refuse,
}

/// Conditions of an open link; by default there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Most bytes per second, each way, over all connections.
    pub rate: Option<u64>,
    /// Time on the way, each way.
    pub delay: Option<Duration>,
    /// When connections are cut.
    pub cuts: Option<Cuts>,
}

/// When a connection is cut, by the bytes that passed both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cuts {
    /// After a number of bytes drawn between these two.
    Every(u64, u64),
    /// With so many chances in a thousand at each piece of these many bytes.
    Chance {
        /// Bytes of a piece.
        piece_bytes: u64,
        /// Chances in a thousand.
        per_thousand: u64,
    },
}

/// What passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes from those who connect.
    pub up_bytes: u64,
    /// Bytes to them.
    pub down_bytes: u64,
    /// Connections taken, refused ones too.
    pub connections: u64,
    /// Connections that the proxy cut.
    pub cuts: u64,
    /// Bytes swallowed.
    pub swallowed_bytes: u64,
}

/// xorshift64*: the same cuts for the same seed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; 0 is taken for 1.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `n`; 0 for none.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).checked_rem(n).unwrap_or(0)
    }
}

impl Cuts {
    /// Bytes until the next cut.
    pub(super) fn draw(self, random: &mut Random) -> u64 {
        match self {
            Self::Every(least, most) => least + random.below(most.saturating_sub(least) + 1),
            Self::Chance { piece_bytes, per_thousand } => {
                let mut pieces = 1;
                // Beyond these nobody waits for a cut.
                while pieces < 1_000_000 && random.below(1_000) >= per_thousand {
                    pieces += 1;
                }
                pieces * piece_bytes
            }
        }
    }
}

/// Lets bytes pass at a steady rate; what was not used is not saved up.
#[derive(Debug, Default)]
pub(super) struct Bucket(Option<Instant>);

impl Bucket {
    /// When so many bytes have passed, if they begin now or after those before them.
    pub(super) fn pass(&mut self, now: Instant, bytes: usize, rate: u64) -> Instant {
        let begin = self.0.map_or(now, |free| free.max(now));
        let free = begin + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.0 = Some(free);
        free
    }
}
