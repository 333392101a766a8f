//! The devices that are measured.

use headwater_core::time::{NS_PER_MS, NS_PER_S};
use headwater_sim::clocks::{Lies, Link, Plan, Sources, Trouble};

/// One kind of device-day.
pub(super) struct Mix {
    pub(super) name: &'static str,
    pub(super) plan: Plan,
    /// False points survived.
    pub(super) f: usize,
    /// What the design's own simulation found: bound p50 and max, error p50 and max, ms.
    pub(super) design: Option<[f64; 4]>,
}

const HOUR_NS: i64 = 3_600 * NS_PER_S;

/// All kinds.
pub(super) fn mixes() -> Vec<Mix> {
    let day = Plan::lte_day();
    let any = Plan { crystal: None, e_c_ns: NS_PER_MS, ..day };
    let exchange = Sources { exchange: true, ..Sources::default() };
    let with = |sources: Sources| Plan { sources, ..any };
    let pps = Sources { pps_latency_ns: Some(20_000), ..Sources::default() };
    let chrony = Sources { chrony: true, ..exchange };
    let three = Sources { pps_latency_ns: Some(500_000), ..chrony };
    let serial = Sources { gps_serial: true, ..exchange };
    let trouble =
        Trouble { steps: 3, suspends: 2, off_ns: 1_800 * NS_PER_S, clockless_every: 3, ..day.trouble };
    let boots = Plan {
        boots: 4,
        boot_ns: 6 * HOUR_NS,
        trouble: Trouble { outage_ns: HOUR_NS, ..trouble },
        ..with(serial)
    };
    let lying = |lies: Lies, plan: Plan| Plan { lies, ..plan };
    let mix = |name, plan| Mix { name, plan, f: 2, design: None };
    vec![
        Mix { f: 0, design: Some([25.7, 308.0, 1.9, 146.0]), ..mix("lte, f 0, as designed", day) },
        mix("lte", day),
        mix("lte, any crystal", any),
        mix("broker that queues and loses", Plan { link: Link::BUSY, ..any }),
        mix("lan", Plan { link: Link::LAN, ..any }),
        mix("lte, 1 % false", lying(Lies::Sparse(10), any)),
        mix("lte, 5 % false", lying(Lies::Sparse(50), any)),
        mix("lte, 10 false in a row", lying(Lies::Run(10), any)),
        mix("lte, 200 false in a row", lying(Lies::Run(200), any)),
        mix("lte + chrony, 200 in a row", lying(Lies::Run(200), with(chrony))),
        mix("lte + chrony + pps, 200 in a row", lying(Lies::Run(200), with(three))),
        mix("lte + chrony, 5 % false", lying(Lies::Sparse(50), with(chrony))),
        mix("pps, 0.6 % late", lying(Lies::LatePulses(6), with(pps))),
        mix("timesyncd only", with(Sources { timesyncd: true, ..Sources::default() })),
        mix("gps sentences only", with(Sources { gps_serial: true, ..Sources::default() })),
        mix("4 boots, steps, sleep, 1 % false", lying(Lies::Sparse(10), boots)),
    ]
}
