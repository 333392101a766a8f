//! Random quantities of physics, from the small generator.

use crate::disk::Dice;

/// Draws from distributions.
pub(super) trait Chance {
    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64;
    /// Exponential with this mean.
    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
    /// Uniform in [−1, 1).
    fn signed(&mut self) -> f64 {
        self.unit().mul_add(2.0, -1.0)
    }
    /// True `permille` times in a thousand.
    fn happens(&mut self, permille: u32) -> bool {
        self.unit() * 1_000.0 < f64::from(permille)
    }
    /// Whole nanoseconds, exponential with this mean.
    fn delay_ns(&mut self, mean_ns: i64) -> i64 {
        whole(self.exponential(mean_ns as f64))
    }
    /// Whole nanoseconds in [from, to).
    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + whole(self.unit() * (to - from) as f64)
    }
}

impl Chance for Dice {
    fn unit(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Rounded down, ns.
#[expect(
    clippy::cast_possible_truncation,
    reason = "casts of floats saturate, and simulated times are far from the ends"
)]
pub(super) fn whole(value: f64) -> i64 {
    value.floor() as i64
}
