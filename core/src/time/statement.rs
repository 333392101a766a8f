//! What is said of a gateway's clock: constraints on its UTC, readings of its raw clock, events, its rate.

use super::cone::Point;
use super::{BootNanos, Grade, UtcNanos};

/// Where a time came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockSource {
    /// The kernel's own opinion (adjtimex).
    Kernel,
    /// chrony's tracking.
    Chrony,
    /// systemd-timesyncd.
    Timesyncd,
    /// Four stamps between gateway and collector. All replicas count as one source: their clocks hang on the same servers.
    CollectorExchange,
    /// A GPS sentence as it arrived on a serial line.
    GpsSerial,
    /// A pulse per second with its GPS second.
    GpsPps,
    /// A battery clock.
    Rtc,
    /// A person.
    Manual,
    /// A PTP hardware clock.
    Ptp,
}

impl ClockSource {
    /// Every one.
    pub const ALL: [ClockSource; 9] = [
        Self::Kernel,
        Self::Chrony,
        Self::Timesyncd,
        Self::CollectorExchange,
        Self::GpsSerial,
        Self::GpsPps,
        Self::Rtc,
        Self::Manual,
        Self::Ptp,
    ];

    /// Name in `hw/clock` and `ops.clock`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Chrony => "chrony",
            Self::Timesyncd => "timesyncd",
            Self::CollectorExchange => "collector_exchange",
            Self::GpsSerial => "gps_serial",
            Self::GpsPps => "gps_pps",
            Self::Rtc => "rtc",
            Self::Manual => "manual",
            Self::Ptp => "ptp",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }

    /// The best grade it may claim for an upper bound: the kernel and timesyncd publish no bound one can trust, a sentence
    /// may be late by any amount, and an rtc or a hand may say anything.
    #[must_use]
    pub fn grade_max(self) -> Grade {
        match self {
            Self::GpsPps | Self::Chrony | Self::CollectorExchange => Grade::Guaranteed,
            Self::Kernel | Self::Timesyncd | Self::GpsSerial | Self::Ptp => Grade::Estimated,
            Self::Rtc | Self::Manual => Grade::OrderingOnly,
        }
    }

    /// The best grade it may claim for a lower bound: a sentence names a second that has begun.
    #[must_use]
    pub fn grade_max_lower(self) -> Grade {
        match self {
            Self::GpsSerial => Grade::Guaranteed,
            other => other.grade_max(),
        }
    }
}

/// A sentence is at most this late, by estimate only: 10 to 700 ms of serial transfer and 300 ms of wander (gpsd's notes on TOFF).
pub const GPS_SERIAL_LATENCY_NS: i64 = 1_100_000_000;

/// One statement about U, the UTC of a boot line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constraint {
    /// The wall clock showed `real` somewhere in [b1, b2] and was right within `half_ns`.
    Sample {
        /// Whose time it was.
        source: ClockSource,
        /// Boot time before.
        b1: BootNanos,
        /// Wall clock.
        real: UtcNanos,
        /// Boot time after.
        b2: BootNanos,
        /// Half width, ns.
        half_ns: i64,
        /// What the source claims.
        grade: Grade,
    },
    /// A message was sent before it was received, an answer received after it was sent.
    Exchange {
        /// T1 and T2.
        sent: Option<(BootNanos, UtcNanos)>,
        /// T4 and T3.
        answered: Option<(BootNanos, UtcNanos)>,
        /// The collector's own bound, ns.
        e_c_ns: i64,
        /// The collector's own grade.
        grade: Grade,
    },
    /// A second was announced: it had begun at `at`, at most `latency_ns` before.
    Edge {
        /// [`ClockSource::GpsPps`] or [`ClockSource::GpsSerial`].
        source: ClockSource,
        /// Boot time of the edge, or of the end of the sentence.
        at: BootNanos,
        /// The second.
        second: UtcNanos,
        /// Greatest delay; `None` bounds nothing from above (of a sentence: by estimate).
        latency_ns: Option<i64>,
        /// What the source claims.
        grade: Grade,
    },
}

/// A bound on U with what its source promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// Where.
    pub point: Point,
    /// Whether it is a promise or a guess.
    pub grade: Grade,
}

/// The bounds of a constraint: U lies at or below the first, at or above the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claims {
    /// Upper bound.
    pub upper: Option<Claim>,
    /// Lower bound.
    pub lower: Option<Claim>,
}

impl Constraint {
    /// Whose word it is.
    #[must_use]
    pub fn source(&self) -> ClockSource {
        match self {
            Self::Sample { source, .. } | Self::Edge { source, .. } => *source,
            Self::Exchange { .. } => ClockSource::CollectorExchange,
        }
    }

    /// True if the wall clock was part of it, so that a step of that clock spoils it. An exchange reads boot time only.
    #[must_use]
    pub fn reads_wall_clock(&self) -> bool {
        !matches!(self, Self::Exchange { .. })
    }

    /// First and last moment it speaks of.
    #[must_use]
    pub fn reach(&self) -> (BootNanos, BootNanos) {
        match self {
            Self::Sample { b1, b2, .. } => (*b1, *b2),
            Self::Exchange { sent, answered, .. } => {
                let both = || sent.iter().chain(answered).map(|(at, _)| *at);
                (both().min().unwrap_or(BootNanos(0)), both().max().unwrap_or(BootNanos(0)))
            }
            Self::Edge { at, .. } => (*at, *at),
        }
    }

    /// Its bounds, each wider by `smear_ns`, what a smeared source may be off by on purpose.
    #[must_use]
    pub fn claims(&self, smear_ns: i64) -> Claims {
        let source = self.source();
        let claim = |at: BootNanos, utc: UtcNanos, by: i64, claimed: Grade, most: Grade| {
            let grade = claimed.min(most);
            let point = Point { at, utc: utc.plus_ns(by) };
            (grade != Grade::OrderingOnly).then_some(Claim { point, grade })
        };
        let (above, below) = (source.grade_max(), source.grade_max_lower());
        match *self {
            Self::Sample { b1, real, b2, half_ns, grade, .. } => {
                let half = half_ns.max(0).saturating_add(smear_ns);
                Claims {
                    upper: claim(b1, real, half, grade, above),
                    lower: claim(b2, real, half.saturating_neg(), grade, above),
                }
            }
            Self::Exchange { sent, answered, e_c_ns, grade } => {
                let e_c = e_c_ns.max(0).saturating_add(smear_ns);
                Claims {
                    upper: sent.and_then(|(t1, t2)| claim(t1, t2, e_c, grade, above)),
                    lower: answered.and_then(|(t4, t3)| claim(t4, t3, e_c.saturating_neg(), grade, below)),
                }
            }
            Self::Edge { at, second, latency_ns, grade, .. } => {
                let sentence = source == ClockSource::GpsSerial;
                let serial = sentence.then_some(GPS_SERIAL_LATENCY_NS);
                // Whatever a receiver's sentences are worth as a clock, the second they name has begun.
                let begun = if sentence && grade > Grade::OrderingOnly { Grade::Guaranteed } else { grade };
                let latest = latency_ns.or(serial).map(|ns| ns.max(0).saturating_add(smear_ns));
                Claims {
                    upper: latest.and_then(|ns| claim(at, second, ns, grade, above)),
                    lower: claim(at, second, smear_ns.saturating_neg(), begun, below),
                }
            }
        }
    }
}

/// Something that happened to a gateway's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockEvent {
    /// The wall clock was set. Boot time is not: what was read of the wall clock around it is void, nothing else.
    Step,
    /// UTC repeated or left out a second: what was before says nothing of after.
    Leap,
    /// The gateway went to sleep: boot time goes on as well as the kernel can tell, which is to a second on some boards.
    Suspend,
    /// It woke.
    Resume,
    /// Another source disciplines the wall clock from here. Bounds stand on each source alone, so they stay.
    SourceChange,
    /// An attached device started anew and has a new domain. The gateway's own line does not notice.
    DeviceRestart,
}

/// A statement about one boot of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// On its UTC.
    Constraint(Constraint),
    /// The raw clock was read beside boot time.
    Raw(RawReading),
    /// Something happened, and was noticed at a moment.
    Event {
        /// When it was noticed.
        at: BootNanos,
        /// What.
        event: ClockEvent,
    },
    /// Its crystal may deviate by this much, ppb; of several the largest counts.
    Rate(i64),
    /// An attached device answered.
    Device(DeviceExchange),
}

/// How the kernel moves the boot line against the crystal below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawReading {
    /// Boot time before.
    pub at: BootNanos,
    /// Greatest distance of the raw reading from `at`, ns.
    pub width_ns: i64,
    /// `CLOCK_MONOTONIC_RAW`, ns.
    pub raw_ns: Option<i64>,
    /// The kernel's frequency correction from here on, ppb.
    pub freq_ppb: Option<i64>,
}

/// A ping of the gateway that an attached device answered. T1 ≤ write, T2 and T3 are the device's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceExchange {
    /// Clock of the device: N of `device:N`.
    pub domain: super::ClockDomain,
    /// Boot time before the ping was written, ns.
    pub t1: BootNanos,
    /// Device time when it was received, ns.
    pub t2: i64,
    /// Device time when the answer was sent, ns.
    pub t3: i64,
    /// Boot time when its last byte was read, ns.
    pub t4: BootNanos,
    /// Least time the ping spends on the wire until T2 is taken, ns.
    pub w_ping_ns: i64,
    /// Least time the answer spends on the wire after T3 was taken, ns.
    pub w_pong_ns: i64,
    /// Largest deviation of the device's clock from the gateway's, ppb.
    pub rho_ppb: Option<i64>,
    /// What the gateway claims: a device that answers no pings gives estimated ones, made of when it was heard.
    pub grade: Grade,
}

/// A set of samples was in the collector's hands at `received`: they are older than that, in whatever boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// Youngest stamp among them.
    pub at: BootNanos,
    /// UTC of receipt plus the collector's own bound.
    pub received: UtcNanos,
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn a_sentence_guarantees_that_its_second_has_begun_and_guesses_the_rest() {
        let edge = Constraint::Edge {
            source: ClockSource::GpsSerial,
            at: BootNanos(5 * S),
            second: UtcNanos(100 * S),
            latency_ns: None,
            grade: Grade::Guaranteed,
        };
        let claims = edge.claims(0);
        assert_eq!(claims.lower.unwrap().grade, Grade::Guaranteed);
        assert_eq!(claims.lower.unwrap().point.utc.0, 100 * S);
        assert_eq!(claims.upper.unwrap().grade, Grade::Estimated);
        assert_eq!(claims.upper.unwrap().point.utc.0, 100 * S + GPS_SERIAL_LATENCY_NS);
    }

    #[test]
    fn a_kernel_only_estimates_whatever_it_claims_and_an_rtc_says_nothing() {
        let of = |source| Constraint::Sample {
            source,
            b1: BootNanos(10),
            real: UtcNanos(1_000),
            b2: BootNanos(12),
            half_ns: 7,
            grade: Grade::Guaranteed,
        };
        for source in [ClockSource::Kernel, ClockSource::Timesyncd, ClockSource::Ptp] {
            let claims = of(source).claims(0);
            assert_eq!(claims.upper.unwrap().grade, Grade::Estimated);
            assert_eq!((claims.upper.unwrap().point.at.0, claims.upper.unwrap().point.utc.0), (10, 1_007));
            assert_eq!((claims.lower.unwrap().point.at.0, claims.lower.unwrap().point.utc.0), (12, 993));
        }
        for source in [ClockSource::Rtc, ClockSource::Manual] {
            assert_eq!(of(source).claims(0), Claims::default());
        }
        assert_eq!(of(ClockSource::Chrony).claims(100).upper.unwrap().point.utc.0, 1_107, "smear widens");
    }

    #[test]
    fn names_round_trip() {
        for source in ClockSource::ALL {
            assert_eq!(ClockSource::from_name(source.as_str()), Some(source));
        }
        assert_eq!(ClockSource::from_name("none"), None);
    }
}
