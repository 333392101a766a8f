//! Reads the kernel's clocks; the one place of the agent that does.
//!
//! Clocks are read through libc, so that tools that shift time (libfaketime, time namespaces) shift
//! ours too.

use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, ClockReading, NS_PER_S, UtcNanos};
use std::time::Duration;

/// Bracketed reads tried per [`Clock::read`]: a bracket is 0.2 µs wide, and ms wide when preempted.
const BRACKETS: usize = 5;
/// Longest single timer: tokio's timers stand still during suspend, boot time does not.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The gateway's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

/// What the kernel says of its own synchronisation (`adjtimex`), none of it a proven bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelSync {
    /// `STA_UNSYNC` is clear. chrony without `rtcsync` leaves it set although it is synchronised.
    pub synced: bool,
    /// `maxerror`, µs. timesyncd writes 0 here, so it bounds nothing by itself.
    pub max_error_us: i64,
    /// `esterror`, µs.
    pub est_error_us: i64,
    /// Status bits.
    pub status: i32,
    /// What the kernel adds to the rate of its clocks (`freq` and `tick`), ppb; BOOTTIME runs by it too.
    pub freq_ppb: Option<i64>,
    /// TAI − UTC, s. The kernel's 0 means that nobody told it.
    pub tai_s: Option<i32>,
    /// What it will do at the end of the UTC day.
    pub leap: Leap,
}

/// A leap second that was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leap {
    /// None.
    #[default]
    None,
    /// The last minute of the UTC day will have 61 seconds.
    Insert,
    /// It will have 59.
    Delete,
}

impl Leap {
    /// Name in rows and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// What `adjtimex` wrote, in the kernel's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timex {
    /// What it returned: a state of the clock, negative on failure.
    pub state: i32,
    /// Status bits.
    pub status: i32,
    /// µs.
    pub maxerror: i64,
    /// µs.
    pub esterror: i64,
    /// 2⁻¹⁶ ppm.
    pub freq: i64,
    /// µs between ticks.
    pub tick: i64,
    /// s.
    pub tai: i32,
}

/// µs of a tick that is not adjusted, at the kernel's `USER_HZ` of 100.
const TICK_US: i64 = 10_000;
/// ppb by which one µs more per tick makes the clock run faster.
const PPB_PER_TICK_US: i64 = 100_000;

impl KernelSync {
    /// A kernel that knows nothing.
    pub const UNKNOWN: KernelSync = KernelSync {
        synced: false,
        max_error_us: 0,
        est_error_us: 0,
        status: libc::STA_UNSYNC,
        freq_ppb: None,
        tai_s: None,
        leap: Leap::None,
    };

    /// What the kernel's answer means (adjtimex(2)).
    #[must_use]
    pub fn of(timex: &Timex) -> Self {
        if timex.state < 0 {
            return Self::UNKNOWN;
        }
        let bit = |bit| timex.status & bit != 0;
        let rate = timex.freq.saturating_mul(1_000) / (1 << 16);
        let tick = timex.tick.saturating_sub(TICK_US).saturating_mul(PPB_PER_TICK_US);
        Self {
            synced: !bit(libc::STA_UNSYNC) && timex.state != libc::TIME_ERROR,
            max_error_us: timex.maxerror,
            est_error_us: timex.esterror,
            status: timex.status,
            freq_ppb: Some(if timex.tick > 0 { rate.saturating_add(tick) } else { rate }),
            tai_s: (timex.tai != 0).then_some(timex.tai),
            leap: match (bit(libc::STA_INS), bit(libc::STA_DEL)) {
                (true, false) => Leap::Insert,
                (false, true) => Leap::Delete,
                _ => Leap::None,
            },
        }
    }
}

/// C's integers are 32 bits wide on some of our targets and 64 on others.
fn wide(n: impl Into<i64>) -> i64 {
    n.into()
}

#[expect(unsafe_code, reason = "clocks are read through libc; see the safety comment")]
fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` is a valid, writable timespec that outlives the call, which writes nothing else.
    // The clock ids used here exist on every Linux since 2.6.39, so it cannot fail; if it did, `spec`
    // would stay zero.
    let status = unsafe { libc::clock_gettime(clock, &raw mut spec) };
    debug_assert_eq!(status, 0, "clock {clock} cannot be read");
    wide(spec.tv_sec).saturating_mul(NS_PER_S).saturating_add(wide(spec.tv_nsec))
}

/// Asks the kernel how well it is synchronised; changes nothing.
#[must_use]
#[expect(unsafe_code, reason = "no safe crate of ours reads adjtimex; see the safety comment")]
pub fn kernel_sync() -> KernelSync {
    // SAFETY: `timex` is plain integers, for which zero is valid; with `modes` zero adjtimex only
    // reads, and it writes to nothing but the struct it is given.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    KernelSync::of(&Timex {
        state,
        status: timex.status,
        maxerror: wide(timex.maxerror),
        esterror: wide(timex.esterror),
        freq: wide(timex.freq),
        tick: wide(timex.tick),
        tai: timex.tai,
    })
}

/// Time this boot spent suspended (BOOTTIME less MONOTONIC), ns; true to within the narrowest bracket.
#[must_use]
pub fn asleep_ns() -> i64 {
    let bracket = || {
        let (b1, mono, b2) =
            (clock_ns(libc::CLOCK_BOOTTIME), clock_ns(libc::CLOCK_MONOTONIC), clock_ns(libc::CLOCK_BOOTTIME));
        (b2.saturating_sub(b1), b1.saturating_sub(mono))
    };
    let (_, asleep) = (1..BRACKETS).map(|_| bracket()).fold(bracket(), std::cmp::min);
    asleep
}

impl Clock for BootClock {
    fn boot(&self) -> BootNanos {
        BootNanos(clock_ns(libc::CLOCK_BOOTTIME))
    }

    fn read(&self) -> ClockReading {
        let bracket = || {
            let b1 = self.boot();
            let real = UtcNanos(clock_ns(libc::CLOCK_REALTIME));
            let raw_ns = clock_ns(libc::CLOCK_MONOTONIC_RAW);
            ClockReading { b1, real, b2: self.boot(), raw_ns }
        };
        (1..BRACKETS).map(|_| bracket()).fold(bracket(), |best, next| {
            if next.b2.since(next.b1) < best.b2.since(best.b1) { next } else { best }
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the `Clock` port's real end")]
    async fn sleep_until(&self, at: BootNanos) {
        while let Ok(left) = u64::try_from(at.since(self.boot())) {
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_nanos(left).min(SLEEP_MAX)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bracket_is_ordered_and_boot_time_never_goes_back() {
        let clock = BootClock;
        let first = clock.read();
        let second = clock.read();
        assert!(first.b1 <= first.b2 && first.b2 <= second.b1);
        assert!(first.raw_ns > 0 && first.real.0 > 0);
        assert!(second.b2.since(second.b1) < NS_PER_S);
    }

    #[tokio::test]
    async fn wakes_at_or_after_the_time_asked_for() {
        let clock = BootClock;
        let at = clock.boot().plus_ms(5);
        clock.sleep_until(at).await;
        assert!(clock.boot() >= at);
        clock.sleep_until(BootNanos(0)).await;
    }

    #[test]
    fn the_kernel_answers_for_its_synchronisation() {
        let sync = kernel_sync();
        assert!(!sync.synced || sync.status & libc::STA_UNSYNC == 0);
        assert!(sync.max_error_us >= 0);
        assert!(sync.freq_ppb.is_some_and(|ppb| ppb.abs() < 200_000_000), "{sync:?}");
        assert!(asleep_ns() > -NS_PER_S);
    }

    /// As timesyncd leaves the kernel: PLL, nanoseconds, errors written as zero, no TAI.
    const TIMESYNCD: Timex =
        Timex { state: 0, status: 0x2001, maxerror: 0, esterror: 0, freq: -1_507_328, tick: 10_000, tai: 0 };

    #[test]
    fn tai_zero_is_unset() {
        assert_eq!(KernelSync::of(&TIMESYNCD).tai_s, None);
        assert_eq!(KernelSync::of(&Timex { tai: 37, ..TIMESYNCD }).tai_s, Some(37));
    }

    #[test]
    fn the_rate_is_frequency_and_tick() {
        assert_eq!(KernelSync::of(&TIMESYNCD).freq_ppb, Some(-23_000));
        assert_eq!(KernelSync::of(&Timex { tick: 10_001, ..TIMESYNCD }).freq_ppb, Some(77_000));
        assert_eq!(
            KernelSync::of(&Timex { freq: i64::MIN, tick: i64::MAX, ..TIMESYNCD }).freq_ppb.map(|_| ()),
            Some(())
        );
        assert_eq!(KernelSync::of(&Timex { state: -1, ..TIMESYNCD }), KernelSync::UNKNOWN);
    }

    #[test]
    fn a_leap_is_announced_by_one_flag_and_an_error_is_no_synchronisation() {
        let leap = |status| KernelSync::of(&Timex { status, ..TIMESYNCD }).leap;
        assert_eq!((leap(0x11), leap(0x21), leap(0x31)), (Leap::Insert, Leap::Delete, Leap::None));
        assert!(KernelSync::of(&TIMESYNCD).synced);
        assert!(!KernelSync::of(&Timex { state: libc::TIME_ERROR, ..TIMESYNCD }).synced);
        assert!(!KernelSync::of(&Timex { status: 0x2041, ..TIMESYNCD }).synced);
    }
}
