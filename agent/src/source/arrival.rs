//! How much earlier than its arrival an event may be: what wire, adapter and agent add, in numbers.
//!
//! Bytes on a serial line take ten bit times each, so a line of 80 bytes at 9600 baud is 83 ms old when its last byte
//! is here, and one that came in the same read as three others is older still. A USB adapter holds bytes back, and so
//! does an agent that was busy. All of it is counted here; what the device itself does before it speaks is a default of
//! its kind, or declared.

use headwater_core::time::{BootNanos, Latency, NS_PER_S};

/// How far a UART's rate may be off before the line fails, percent: over ten bits 5 % are half a bit, and the sample
/// point leaves the stop bit.
const BAUD_OFF_PERCENT: i64 = 4;
/// Waking up to read what the kernel has, ns: a turn or two of the scheduler on a loaded single core. It is part of every
/// arrival.
pub const WAKE_NS: i64 = 10_000_000;
/// Latencies are rounded outward to this, ns: a column of equal values costs nothing on the wire.
const STEP_NS: i64 = 100_000;

/// When bytes were read, and for how long nobody looked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadAt {
    /// Boot time after the read.
    pub at: BootNanos,
    /// Time, ns, in which bytes may have waited because the agent did not look.
    pub away_ns: i64,
    /// Time since the read before, ns.
    pub since_ns: i64,
}

impl ReadAt {
    /// A read for which the agent was waiting.
    #[must_use]
    pub fn prompt(at: BootNanos) -> Self {
        Self { at, away_ns: 0, since_ns: 0 }
    }
}

/// Follows the reads of one port or program, to tell for how long bytes may have waited.
#[derive(Debug, Default)]
pub struct Reads {
    /// Nothing waited at this time.
    empty: Option<BootNanos>,
    read: Option<BootNanos>,
}

impl Reads {
    /// It was opened, or started.
    pub fn opened(&mut self, now: BootNanos) {
        (self.empty, self.read) = (Some(now), Some(now));
    }

    /// The agent looked and there was nothing.
    pub fn looked(&mut self, now: BootNanos) {
        self.empty = Some(now);
    }

    /// Bytes were read at `at`, for which the agent waited since `waited_from`; `drained` if no more were there.
    pub fn read(&mut self, waited_from: BootNanos, at: BootNanos, drained: bool) -> ReadAt {
        let away_ns = self.empty.map_or(0, |empty| waited_from.since(empty).max(0));
        let since_ns = self.read.map_or(0, |read| at.since(read).max(0));
        if drained {
            self.empty = Some(at);
        }
        self.read = Some(at);
        ReadAt { at, away_ns, since_ns }
    }
}

/// A serial line: ten bits a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireTime {
    /// Bits a second; 0 for what is no line.
    pub baud: u32,
    /// A real UART at that rate lies between: bytes cannot come faster. Never true of pseudo terminals and USB-CDC.
    pub paced: bool,
}

impl WireTime {
    /// No serial line.
    pub const NONE: WireTime = WireTime { baud: 0, paced: false };

    /// Least time `bytes` take, ns: 0 unless paced. The last stop bit is sampled in its middle.
    #[must_use]
    pub fn least_ns(self, bytes: usize) -> i64 {
        let half_bits = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(20).saturating_sub(1);
        if !self.paced || bytes == 0 || self.baud == 0 {
            return 0;
        }
        let ns = half_bits.saturating_mul(NS_PER_S / 2) / i64::from(self.baud);
        ns / (100 + BAUD_OFF_PERCENT) * 100
    }

    /// Time `bytes` take without a pause between them, ns, at most.
    #[must_use]
    pub fn most_ns(self, bytes: usize) -> i64 {
        if self.baud == 0 {
            return 0;
        }
        let bits = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(10);
        let ns = bits.saturating_mul(NS_PER_S) / i64::from(self.baud);
        ns.saturating_mul(100 + BAUD_OFF_PERCENT) / 100
    }
}

/// What the configuration says of the delay between event and arrival; what is not said follows from the kind of
/// source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Declared {
    /// At least, ns.
    pub least_ns: u32,
    /// At most, ns.
    pub most_ns: Option<u32>,
}

/// The delays of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrivals {
    /// What was declared.
    pub declared: Declared,
    /// What the device may take before its first byte, ns, unless declared.
    pub device_ns: i64,
    /// The line.
    pub wire: WireTime,
    /// How long an adapter may hold bytes back, ns.
    pub hold_ns: i64,
}

impl Arrivals {
    /// Of something that is no serial line.
    #[must_use]
    pub fn of_program(declared: Declared, device_ns: i64) -> Self {
        Self { declared, device_ns, wire: WireTime::NONE, hold_ns: 0 }
    }

    /// The latency of a message of `own` bytes that came with a read, with `after` more bytes behind it.
    ///
    /// Undeclared, the event was at least the message's time on the wire ago (if that is paced), and at most the device's
    /// time, that of the wire, of the adapter and of ours. A declared greatest delay is that from event to the
    /// message's last byte at the port: only what we added ourselves comes to it.
    #[must_use]
    pub fn latency(&self, read: ReadAt, own: usize, after: usize) -> Latency {
        let least = match i64::from(self.declared.least_ns) {
            0 => self.wire.least_ns(own.saturating_add(after)),
            least => least.saturating_add(self.wire.least_ns(after)),
        };
        let path = match self.declared.most_ns {
            Some(most) => i64::from(most).saturating_add(self.wire.most_ns(after)),
            None => [self.wire.most_ns(own.saturating_add(after)), self.hold_ns, WAKE_NS]
                .into_iter()
                .fold(self.device_ns, i64::saturating_add),
        };
        rounded(least, path.saturating_add(read.away_ns))
    }
}

/// The interval in steps of 100 µs, rounded outward; an interval that was declared in ms stays as it is.
#[must_use]
pub fn rounded(least_ns: i64, most_ns: i64) -> Latency {
    let fit = |ns: i64| u32::try_from(ns.max(0)).unwrap_or(u32::MAX);
    let lo_ns = fit(least_ns.div_euclid(STEP_NS).saturating_mul(STEP_NS));
    let up = most_ns.saturating_add(STEP_NS - 1).div_euclid(STEP_NS).saturating_mul(STEP_NS);
    Latency { lo_ns, hi_ns: fit(up).max(lo_ns) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn line(paced: bool) -> Arrivals {
        let wire = WireTime { baud: 9_600, paced };
        Arrivals { declared: Declared::default(), device_ns: 100 * MS, wire, hold_ns: 16 * MS }
    }

    #[test]
    fn a_line_at_9600_baud_is_as_old_as_its_bytes() {
        let read = ReadAt::prompt(BootNanos(0));
        let alone = line(true).latency(read, 80, 0);
        // 80 bytes are 83.3 ms; 4 % faster at most they are 80.1 ms, and half a stop bit less.
        assert_eq!(alone.lo_ns, 80_000_000);
        assert_eq!(i64::from(alone.hi_ns), 100 * MS + 16 * MS + WAKE_NS + 86_700_000);
        let with_others = line(true).latency(read, 80, 160);
        assert_eq!(with_others.lo_ns, 240_300_000);
        // A pseudo terminal paces nothing.
        assert_eq!(line(false).latency(read, 80, 160).lo_ns, 0);
    }

    #[test]
    fn a_busy_agent_widens_what_it_reads() {
        let prompt = line(true).latency(ReadAt::prompt(BootNanos(0)), 10, 0);
        let late = line(true).latency(ReadAt { away_ns: 50 * MS, ..ReadAt::prompt(BootNanos(0)) }, 10, 0);
        assert_eq!((late.lo_ns, i64::from(late.hi_ns)), (prompt.lo_ns, i64::from(prompt.hi_ns) + 50 * MS));
    }

    #[test]
    fn what_is_declared_replaces_all_but_our_own_delays() {
        let declared = Declared { least_ns: 5_000_000, most_ns: Some(40_000_000) };
        let read = ReadAt { away_ns: 3 * MS, ..ReadAt::prompt(BootNanos(0)) };
        let latency = Arrivals { declared, ..line(false) }.latency(read, 80, 0);
        assert_eq!(latency, Latency { lo_ns: 5_000_000, hi_ns: 43_000_000 });
        let program = Arrivals::of_program(Declared::default(), 1_000 * MS);
        assert_eq!(program.latency(ReadAt::prompt(BootNanos(0)), 999, 999).hi_ns, 1_010_000_000);
    }

    #[test]
    fn bytes_wait_only_while_nobody_looks() {
        let at = BootNanos;
        let mut reads = Reads::default();
        reads.opened(at(0));
        assert_eq!(reads.read(at(10), at(500), true), ReadAt { at: at(500), away_ns: 10, since_ns: 500 });
        // A timer in between: it looked at 800 and there was nothing.
        reads.looked(at(800));
        assert_eq!(reads.read(at(805), at(900), false).away_ns, 5);
        // More was there than fits one read: it may be as old as the last time there was nothing.
        assert_eq!(reads.read(at(910), at(920), true).away_ns, 110);
        assert_eq!(reads.read(at(921), at(1_000), true).away_ns, 1);
    }

    proptest! {
        /// Whatever the bytes did within the limits of the line, the event lies in the interval.
        #[test]
        fn the_event_lies_inside(
            baud in 300_u32..921_600, off in -4_i64..=4, own in 1_usize..200, after in 0_usize..200,
            device in 0_i64..100_000_000, hold in 0_i64..16_000_000, wake in 0_i64..WAKE_NS, away in 0_i64..1_000_000_000,
        ) {
            // Ten bits a byte at a rate that is off, then adapter, kernel and agent.
            let wire = |bytes: usize| i128::from(bytes as u64 * 10) * 1_000_000_000 * 100 / (i128::from(baud) * i128::from(100 + off));
            let age = i64::try_from(wire(own + after)).unwrap() + device + hold + wake + away;
            let arrivals = Arrivals { wire: WireTime { baud, paced: true }, ..line(true) };
            let latency = arrivals.latency(ReadAt { away_ns: away, ..ReadAt::prompt(BootNanos(0)) }, own, after);
            prop_assert!(i64::from(latency.lo_ns) <= age, "{latency:?} {age}");
            prop_assert!(age <= i64::from(latency.hi_ns) + 10 || latency.hi_ns == u32::MAX, "{latency:?} {age}");
        }
    }
}
