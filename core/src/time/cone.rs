//! Cones: what one true statement about a clock says of every other moment of its line.
//!
//! U(b) is UTC at local time b. Its rate is known within limits ([`Rate`]), so a value above which U does not lie at
//! one moment bounds it at every other, with a slope; likewise from below. This module is the definition in its
//! simplest form; [`super::envelope`] answers the same questions fast.

use super::{BootNanos, UtcNanos};

/// Nanoseconds and parts per billion share this scale: bounds are kept in 1e-9 ns until they are rounded outward.
pub(super) const SCALE: i128 = 1_000_000_000;

/// Largest deviation of a gateway's crystal from the true rate, parts per billion: the datasheet's 50 ppm.
pub const RHO_PPB: i64 = 50_000;
/// Residual deviation once the frequency was learned, ppb: temperature and wander of a crystal, 8 ppm.
pub const RESIDUAL_PPB: i64 = 8_000;
/// False points of each kind that a bound survives (f).
pub const FALSE_MAX: usize = 2;
/// Points used on each side of a moment (w): 20 polls at 64 s are 21 minutes, beyond which they only widen.
pub const WINDOW: usize = 20;

/// At `at` U lies at or below (or above) `utc`, whichever list it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// Moment on the local line.
    pub at: BootNanos,
    /// Bound of U there.
    pub utc: UtcNanos,
}

/// dU/db lies in 1 + (phi ± rho).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    /// Learned deviation from rate 1, ppb; 0 when nothing was learned.
    pub phi_ppb: i64,
    /// What may still be added to or taken from it, ppb.
    pub rho_ppb: i64,
}

impl Rate {
    /// The datasheet's word only.
    #[must_use]
    pub fn datasheet(rho_ppb: i64) -> Self {
        Self { phi_ppb: 0, rho_ppb }
    }
}

/// The widest U can have drifted from rate 1 over `distance_ns` by the default datasheet rate, rounded up, ns.
#[must_use]
pub fn drift_ns(distance_ns: i128) -> i128 {
    drift_by_ns(distance_ns, RHO_PPB)
}

/// The widest U can have drifted from rate 1 over `distance_ns` at `rho_ppb`, rounded up, ns.
#[must_use]
pub fn drift_by_ns(distance_ns: i128, rho_ppb: i64) -> i128 {
    (distance_ns.abs() * i128::from(rho_ppb) + SCALE - 1).div_euclid(SCALE)
}

/// What an upper point says of U at `b`, rounded up, ns.
#[must_use]
pub fn upper_at(point: Point, b: BootNanos, rate: Rate) -> i128 {
    let distance = i128::from(b.0) - i128::from(point.at.0);
    let moved = distance * i128::from(rate.phi_ppb) + distance.abs() * i128::from(rate.rho_ppb);
    i128::from(point.utc.0) + distance + (moved + SCALE - 1).div_euclid(SCALE)
}

/// What a lower point says of U at `b`, rounded down, ns.
#[must_use]
pub fn lower_at(point: Point, b: BootNanos, rate: Rate) -> i128 {
    let distance = i128::from(b.0) - i128::from(point.at.0);
    let moved = distance * i128::from(rate.phi_ppb) - distance.abs() * i128::from(rate.rho_ppb);
    i128::from(point.utc.0) + distance + moved.div_euclid(SCALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn a_cone_widens_by_fifty_microseconds_a_second_both_ways() {
        let p = Point { at: BootNanos(10 * S), utc: UtcNanos(1_000 * S) };
        let rate = Rate::datasheet(RHO_PPB);
        assert_eq!(upper_at(p, BootNanos(10 * S), rate), 1_000 * i128::from(S));
        assert_eq!(upper_at(p, BootNanos(11 * S), rate), 1_001 * i128::from(S) + 50_000);
        assert_eq!(upper_at(p, BootNanos(9 * S), rate), 999 * i128::from(S) + 50_000);
        assert_eq!(lower_at(p, BootNanos(9 * S), rate), 999 * i128::from(S) - 50_000);
        assert_eq!(drift_ns(1), 1, "rounded outward");
    }

    #[test]
    fn a_learned_rate_turns_the_cone() {
        let p = Point { at: BootNanos(0), utc: UtcNanos(0) };
        let rate = Rate { phi_ppb: -23_000, rho_ppb: 8_000 };
        assert_eq!(upper_at(p, BootNanos(S), rate), i128::from(S) - 15_000);
        assert_eq!(lower_at(p, BootNanos(S), rate), i128::from(S) - 31_000);
        assert_eq!(upper_at(p, BootNanos(-S), rate), -i128::from(S) + 31_000);
    }
}
