//! Four stamps where two clocks met: what they allow, and whether two such meetings can be of the same clock. Pure.

use headwater_core::ports::DeviceExchange;
use headwater_core::time::{BootNanos, ClockDomain, Grade, Latency};

/// Rate of a clock that does not say its own: an RC oscillator's is in this, ppb.
pub(super) const RHO_UNKNOWN_PPB: i64 = 6_000_000;
/// The gateway's own clock while it is slewed: NTP's limit of 500 ppm each way and its crystal, ppb. Only for telling
/// whether a clock can be the same; the collector knows the slew better.
const GATEWAY_PPB: i64 = 1_100_000;
/// The unit of the link, ns.
const UNIT_NS: i64 = 1_000;

/// A meeting: `boot` times of asking and hearing, `device` times of hearing and answering, all ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Met {
    t1: BootNanos,
    t2_ns: i64,
    t3_ns: i64,
    t4: BootNanos,
    w_ping_ns: i64,
    w_pong_ns: i64,
    rho_ppb: i64,
}

fn ns(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX).saturating_mul(UNIT_NS)
}

/// `ns` by a rate of `ppb`, rounded up.
fn part(ns: i64, ppb: i64) -> i64 {
    let part = i128::from(ns.max(0)) * i128::from(ppb);
    i64::try_from((part + 999_999_999) / 1_000_000_000).unwrap_or(i64::MAX)
}

impl Met {
    /// Of an answer. Device times are cut to whole ticks: the question may have come a tick after `t2`, so of its bound
    /// B(t2) ≥ t1 a tick is taken off. `None` if the board claims to have had the question for longer than it was away.
    pub(super) fn of_answer(
        t1: BootNanos,
        (t2_us, t3_us): (u64, u64),
        t4: BootNanos,
        tick_ns: i64,
        rho_ppb: i64,
    ) -> Option<Self> {
        if t2_us > t3_us || t3_us > super::TIME_US_MAX || t4 < t1 {
            return None;
        }
        // Coarser ticks are cut twice, to a tick and to the link's unit.
        let cut = if tick_ns > UNIT_NS { tick_ns.saturating_add(UNIT_NS) } else { UNIT_NS };
        let rate = rho_ppb.saturating_add(GATEWAY_PPB);
        let t1 = t1.plus_ns(cut.saturating_add(part(cut, rate)).saturating_neg());
        let (t2_ns, t3_ns) = (ns(t2_us), ns(t3_us));
        let met = Self { t1, t2_ns, t3_ns, t4, w_ping_ns: 0, w_pong_ns: 0, rho_ppb };
        let held = t3_ns.saturating_sub(t2_ns);
        (held <= t4.since(t1).saturating_add(part(t4.since(t1), rate))).then_some(met)
    }

    /// Of a sample that came at `at`: it was taken within `latency` before.
    pub(super) fn of_arrival(t_us: u64, at: BootNanos, latency: Latency, rho_ppb: i64) -> Self {
        // The time is cut to the link's unit, twice that covers any rate.
        let t1 = at.plus_ns(i64::from(latency.hi_ns).saturating_add(2 * UNIT_NS).saturating_neg());
        let t4 = at.plus_ns(i64::from(latency.lo_ns).saturating_neg());
        let t_ns = ns(t_us);
        Self { t1, t2_ns: t_ns, t3_ns: t_ns, t4, w_ping_ns: 0, w_pong_ns: 0, rho_ppb }
    }

    /// The same with the least times on the wire taken off.
    ///
    /// # Errors
    /// The same as it was, if so much time was not there: nothing paces that line.
    pub(super) fn paced(self, w_ping_ns: i64, w_pong_ns: i64) -> Result<Self, Self> {
        let on_wire = w_ping_ns.saturating_add(w_pong_ns);
        if self.lag_ns() < on_wire {
            return Err(self);
        }
        Ok(Self { w_ping_ns, w_pong_ns, ..self })
    }

    /// Time it was under way, both ways, ns: what is not known of the offset. Never less than it was, since device times
    /// are cut.
    pub(super) fn lag_ns(&self) -> i64 {
        self.t4.since(self.t1).saturating_sub(self.t3_ns.saturating_sub(self.t2_ns))
    }

    /// The earliest boot time a later moment of the board's clock can be, ns.
    pub(super) fn earliest(&self, t_us: u64) -> i64 {
        let ahead = ns(t_us).saturating_sub(self.t2_ns);
        let rate = self.rho_ppb.saturating_add(GATEWAY_PPB);
        match ahead {
            0.. => self.t1.0.saturating_add(ahead.saturating_sub(part(ahead, rate))),
            _ => i64::MIN,
        }
    }

    /// Whether a clock of this rate can have met ours here and then at `later`.
    pub(super) fn agrees(&self, later: &Met) -> bool {
        let rate = later.rho_ppb.max(self.rho_ppb).saturating_add(GATEWAY_PPB);
        // Their clock moved by at least and at most this much between our asking and hearing.
        let least = later.t2_ns.saturating_sub(self.t3_ns);
        let most = later.t3_ns.saturating_sub(self.t2_ns);
        let ours_most = later.t4.since(self.t1);
        let ours_least = later.t1.since(self.t4);
        // From our first asking to our last hearing lies at least what they count between hearing and answering.
        most.saturating_sub(part(most, rate)) <= ours_most
            && least.saturating_add(part(least, rate)) >= ours_least
    }

    /// As a row of `hw/clock`.
    pub(super) fn exchange(self, domain: ClockDomain, grade: Grade, detail: String) -> DeviceExchange {
        let Self { t1, t2_ns, t3_ns, t4, w_ping_ns, w_pong_ns, rho_ppb } = self;
        DeviceExchange { domain, t1, t2_ns, t3_ns, t4, w_ping_ns, w_pong_ns, rho_ppb, grade, detail }
    }
}
