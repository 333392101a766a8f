//! Time as Headwater knows it: a boot line that only moves forward, and UTC as a bounded opinion.
//!
//! Captures are stamped in `CLOCK_BOOTTIME` ([`BootNanos`]); UTC ([`UtcNanos`]) is derived later, at
//! the collector, as an interval with a [`Grade`]. The two types do not convert into one another.
//!
//! How an interval comes about, pure and from the bottom up:
//!
//! | module | does |
//! |---|---|
//! | [`cone`] | what one bound at one moment says of every other moment |
//! | [`envelope`] | the bounds of one source's points, f of which may be false, at every moment |
//! | [`span`] | an interval, and how several sources' become one |
//! | [`statement`] | what is said of a clock: constraints, raw readings, events |
//! | [`learn`] | the frequency that follows |
//! | [`track`] | all that is known of one boot, compiled |
//! | [`boots`] | the boots of one spool's life: those without a clock lie between those with one |
//! | [`device`] | an attached device's clock, mapped to boot time by the same means |
//! | [`amend`] | which rows a better track changes |

pub mod amend;
pub mod boots;
pub mod cone;
pub mod device;
pub mod envelope;
pub mod learn;
mod segment;
pub mod span;
pub mod statement;
pub mod track;

use crate::id::BootOrdinal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Nanoseconds in a second.
pub const NS_PER_S: i64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const NS_PER_MS: i64 = 1_000_000;

/// A point on one boot's `CLOCK_BOOTTIME`, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootNanos(pub i64);

/// A point in UTC, nanoseconds since 1970-01-01T00:00:00Z (Unix time, leap seconds not counted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UtcNanos(pub i64);

impl BootNanos {
    /// The point `ns` nanoseconds on (or back), saturating.
    #[must_use]
    pub fn plus_ns(self, ns: i64) -> Self {
        Self(self.0.saturating_add(ns))
    }
    /// The point `ms` milliseconds on, saturating.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        self.plus_ns(i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS))
    }
    /// Nanoseconds from `earlier` to this point, saturating.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl UtcNanos {
    /// The point `ns` nanoseconds on (or back), saturating.
    #[must_use]
    pub fn plus_ns(self, ns: i64) -> Self {
        Self(self.0.saturating_add(ns))
    }
    /// Nanoseconds from `earlier` to this point, saturating.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
    /// Microseconds since 1970, rounded down (the `ts` column).
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0.div_euclid(1_000)
    }
}

/// One bracketed read of the clocks: `b1 ≤ real ≤ b2` in order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// `CLOCK_BOOTTIME` before the wall clock was read.
    pub b1: BootNanos,
    /// `CLOCK_REALTIME`: evidence, never truth.
    pub real: UtcNanos,
    /// `CLOCK_BOOTTIME` after it.
    pub b2: BootNanos,
    /// `CLOCK_MONOTONIC_RAW`, nanoseconds, read inside the bracket.
    pub raw_ns: i64,
}

/// What a capture's stamp refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampKind {
    /// The moment the quantity had this value.
    Instant,
    /// Start of a camera's exposure.
    ExposureStart,
    /// Middle of a camera's exposure.
    ExposureMid,
    /// End of an averaging window.
    WindowEnd,
    /// Arrival at the gateway; the latency interval says how much earlier the event may be.
    Arrival,
}

impl StampKind {
    /// Wire code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Instant => 0,
            Self::ExposureStart => 1,
            Self::ExposureMid => 2,
            Self::WindowEnd => 3,
            Self::Arrival => 4,
        }
    }
    /// Reads a wire code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Instant, Self::ExposureStart, Self::ExposureMid, Self::WindowEnd, Self::Arrival]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
    /// Name in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instant => "instant",
            Self::ExposureStart => "exposure_start",
            Self::ExposureMid => "exposure_mid",
            Self::WindowEnd => "window_end",
            Self::Arrival => "arrival",
        }
    }
}

/// The clock a stamp was read from: 0 = the gateway's boot time, N = the clock of attached device N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClockDomain(pub u32);

impl ClockDomain {
    /// The gateway's own `CLOCK_BOOTTIME`.
    pub const BOOT: ClockDomain = ClockDomain(0);
}

impl fmt::Display for ClockDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("boot"),
            n => write!(f, "device:{n}"),
        }
    }
}

/// How much earlier than its stamp the event may lie: in [t − `hi_ns`, t − `lo_ns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Latency {
    /// Least delay, ns.
    pub lo_ns: u32,
    /// Greatest delay, ns. Never below `lo_ns`.
    pub hi_ns: u32,
}

impl Latency {
    /// No delay at all.
    pub const NONE: Latency = Latency { lo_ns: 0, hi_ns: 0 };

    /// A delay of at most `hi_ms` milliseconds (saturating at 4.29 s).
    #[must_use]
    pub fn at_most_ms(hi_ms: u32) -> Self {
        Self { lo_ns: 0, hi_ns: hi_ms.saturating_mul(1_000_000) }
    }
}

/// When and how a sample was captured, before anyone knows UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Which boot of the gateway.
    pub boot_ordinal: BootOrdinal,
    /// Point in `domain`, ns.
    pub t: BootNanos,
    /// One-sided capture latency.
    pub latency: Latency,
    /// What `t` refers to.
    pub kind: StampKind,
    /// Whose clock `t` is.
    pub domain: ClockDomain,
}

/// Event time and half width of a stamp: e = t − floor((lo + hi) / 2), c = ceil((hi − lo) / 2), ns.
#[must_use]
pub fn event_time(t_ns: i64, lat_lo_ns: i64, lat_hi_ns: i64) -> (i64, i64) {
    let mid = (i128::from(lat_lo_ns) + i128::from(lat_hi_ns)).div_euclid(2);
    let width = i128::from(lat_hi_ns) - i128::from(lat_lo_ns);
    let half = (width + 1).div_euclid(2);
    (clamp_i64(i128::from(t_ns) - mid), clamp_i64(half))
}

/// Saturates to the range of `i64`.
#[must_use]
pub fn clamp_i64(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// How far a resolved time can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Only the order within the stream is known.
    OrderingOnly,
    /// The interval follows from learned or unguaranteed sources.
    Estimated,
    /// The interval contains the true time if the sources' published bounds hold.
    Guaranteed,
}

impl Grade {
    /// Wire code: 0 ordering_only, 1 estimated, 2 guaranteed.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::OrderingOnly => 0,
            Self::Estimated => 1,
            Self::Guaranteed => 2,
        }
    }
    /// Reads a wire code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::OrderingOnly, Self::Estimated, Self::Guaranteed].into_iter().find(|g| g.code() == code)
    }
    /// Name in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderingOnly => "ordering_only",
            Self::Estimated => "estimated",
            Self::Guaranteed => "guaranteed",
        }
    }
}

/// Nanoseconds of one stamp unit, 10^`time_exp` (0 ns, 3 µs, 6 ms, 9 s); `None` above 9.
#[must_use]
pub fn stamp_unit_ns(time_exp: u8) -> Option<i64> {
    (time_exp <= 9).then(|| 10_i64.pow(u32::from(time_exp)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn event_interval_covers_the_latency_interval(
            t in -1_000_000_000_000_i64..1_000_000_000_000, lo in 0_i64..5_000_000, width in 0_i64..5_000_000
        ) {
            let (e, c) = event_time(t, lo, lo + width);
            prop_assert!(e - c <= t - lo - width && e + c >= t - lo);
            prop_assert!(c <= width / 2 + 1);
        }
    }

    #[test]
    fn codes_round_trip() {
        for code in 0..5 {
            assert_eq!(StampKind::from_code(code).map(StampKind::code), Some(code));
        }
        assert_eq!(StampKind::from_code(5), None);
        assert_eq!(Grade::from_code(2), Some(Grade::Guaranteed));
        assert_eq!(stamp_unit_ns(3), Some(1_000));
        assert_eq!(stamp_unit_ns(10), None);
    }
}
