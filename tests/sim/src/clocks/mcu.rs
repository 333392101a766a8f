//! An attached microcontroller on a serial line: a ppm knob, pacing, USB polling and a latency timer.

use super::chance::Chance;
use crate::disk::Dice;
use headwater_core::time::statement::DeviceExchange;
use headwater_core::time::{BootNanos, ClockDomain, Grade, NS_PER_MS, NS_PER_S};

/// How bytes get from the microcontroller to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerialLine {
    /// Bits a second.
    pub baud: i64,
    /// Bytes of a ping and of an answer.
    pub frame_bytes: i64,
    /// The line keeps that pace (a real UART), so that its least time may be subtracted.
    pub paced: bool,
    /// The host looks this often, ns.
    pub poll_ns: i64,
    /// The adapter holds an incomplete packet back for up to this, ns.
    pub latency_timer_ns: i64,
}

impl SerialLine {
    /// 115 200 baud behind a USB adapter that is asked each millisecond.
    pub const USB_1MS: SerialLine =
        SerialLine { baud: 115_200, frame_bytes: 16, paced: true, poll_ns: NS_PER_MS, latency_timer_ns: 0 };
    /// The same behind an FTDI chip with its 16 ms latency timer.
    pub const FTDI_16MS: SerialLine = SerialLine { latency_timer_ns: 16 * NS_PER_MS, ..Self::USB_1MS };

    /// Time of `bytes` on the wire, ns: ten bits each.
    #[must_use]
    pub fn wire_ns(&self, bytes: i64) -> i64 {
        bytes * 10 * NS_PER_S / self.baud
    }
}

/// A microcontroller's clock and what was exchanged with it.
#[derive(Debug, Clone)]
pub struct SimulatedMcu {
    /// Boot time of its start, ns.
    pub start_b: i64,
    /// Its deviation from the gateway's line, ppb.
    pub ppb: i64,
    /// Answers, in order.
    pub exchanges: Vec<DeviceExchange>,
    /// How late a reading's arrival is, on average, ns: what a stamp on arrival would be off by.
    pub arrival_late_ns: i64,
}

impl SimulatedMcu {
    /// Pings ten times a second for `length_ns`.
    #[must_use]
    pub fn new(seed: u64, line: SerialLine, ppb: i64, rho_ppb: i64, start_b: i64, length_ns: i64) -> Self {
        let mut mcu = Self { start_b, ppb, exchanges: Vec::new(), arrival_late_ns: 0 };
        let mut dice = Dice::new(seed);
        let frame = line.wire_ns(line.frame_bytes);
        let (mut late, mut b) = (0, start_b + NS_PER_S);
        while b < start_b + length_ns {
            let t1 = b + dice.between(0, NS_PER_MS);
            // The host's write leaves with the next look at the bus; T2 is taken at the first character.
            let sent = t1 + dice.between(0, line.poll_ns.max(1));
            let t2_b = sent + line.wire_ns(1) + dice.between(0, 20_000);
            let t3_b = t2_b + (frame - line.wire_ns(1)) + dice.between(20_000, 200_000);
            let arrived = t3_b + frame + dice.between(0, 5_000);
            let held = dice.between(0, line.latency_timer_ns.max(1));
            let t4 = arrived + held + dice.between(0, line.poll_ns.max(1)) + dice.delay_ns(30_000);
            late += t4 - t3_b;
            let wire = |bytes: i64| if line.paced { line.wire_ns(bytes) } else { 0 };
            mcu.exchanges.push(DeviceExchange {
                domain: ClockDomain(1),
                t1: BootNanos(t1),
                // Device time is read before what follows it and after what went before.
                t2: mcu.device(t2_b),
                t3: mcu.device(t3_b),
                t4: BootNanos(t4 + 1),
                w_ping_ns: wire(1),
                w_pong_ns: wire(line.frame_bytes),
                rho_ppb: Some(rho_ppb),
                grade: Grade::Guaranteed,
            });
            b += NS_PER_S / 10;
        }
        mcu.arrival_late_ns = late / i64::try_from(mcu.exchanges.len().max(1)).unwrap_or(1);
        mcu
    }

    /// Device time at boot time `b`, ns, rounded down.
    #[must_use]
    pub fn device(&self, b: i64) -> i64 {
        let passed = i128::from(b - self.start_b);
        i64::try_from((passed * 1_000_000_000).div_euclid(1_000_000_000 + i128::from(self.ppb))).unwrap_or(0)
    }

    /// The truth: boot time at device time `d`, ns.
    #[must_use]
    pub fn boot(&self, d: i64) -> i64 {
        let passed = i128::from(d) * (1_000_000_000 + i128::from(self.ppb)) / 1_000_000_000;
        self.start_b + i64::try_from(passed).unwrap_or(0)
    }
}
