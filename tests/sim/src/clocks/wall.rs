//! What a gateway's own wall clock shows: wrong until it meets a server, then as right as one exchange made it.

use super::chance::Chance;
use crate::disk::Dice;

/// `CLOCK_REALTIME` minus UTC along a boot.
#[derive(Debug, Clone, Default)]
pub struct WallClock {
    /// (boot time, error ns, drift ppb) from there on.
    pieces: Vec<(i64, i64, i64)>,
}

impl WallClock {
    /// A clock that is off by `error_ns` and `drift_ppb` at the start of a boot.
    #[must_use]
    pub fn new(error_ns: i64, drift_ppb: i64) -> Self {
        Self { pieces: vec![(0, error_ns, drift_ppb)] }
    }

    /// A daemon sets it at `b` from an exchange that took so long there and back; its frequency is then known to 1 ppm.
    pub(super) fn set(&mut self, dice: &mut Dice, b: i64, there_ns: i64, back_ns: i64) {
        self.pieces.push((b, (there_ns - back_ns) / 2, dice.between(-1_000, 1_000)));
    }

    /// Somebody steps it by `by_ns` at `b`.
    pub(super) fn step(&mut self, b: i64, by_ns: i64) {
        let (error, drift) = (self.error_ns(b), self.pieces.last().map_or(0, |(_, _, drift)| *drift));
        self.pieces.push((b, error.saturating_add(by_ns), drift));
    }

    /// How far it is from UTC at `b`, ns.
    #[must_use]
    pub fn error_ns(&self, b: i64) -> i64 {
        let place = self.pieces.partition_point(|(at, ..)| *at <= b).saturating_sub(1);
        self.pieces.get(place).map_or(0, |(at, error, drift)| {
            let moved = i128::from(b - at) * i128::from(*drift) / 1_000_000_000;
            error.saturating_add(i64::try_from(moved).unwrap_or(0))
        })
    }
}
