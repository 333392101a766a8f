//! What is to be simulated.

use super::crystal::CrystalSpec;
use headwater_core::time::{NS_PER_MS, NS_PER_S};

/// One way to the collector and back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Least delay of each way, ns.
    pub least_ns: i64,
    /// Mean of what is added on the way up, ns.
    pub up_ns: i64,
    /// Mean of what is added on the way down, ns.
    pub down_ns: i64,
    /// Messages in a thousand that a broker queues.
    pub queued_permille: u32,
    /// Mean time in such a queue, ns.
    pub queue_ns: i64,
    /// Answers in a thousand that get lost, so that only the collector's own half of an exchange is left.
    pub lost_permille: u32,
}

impl Link {
    /// LTE as it was measured for the design: 20 ms and 15 / 10 ms on average.
    pub const LTE: Link = Link {
        least_ns: 20 * NS_PER_MS,
        up_ns: 15 * NS_PER_MS,
        down_ns: 10 * NS_PER_MS,
        queued_permille: 0,
        queue_ns: 0,
        lost_permille: 0,
    };
    /// LTE behind a broker that queues and loses.
    pub const BUSY: Link =
        Link { queued_permille: 100, queue_ns: 3 * NS_PER_S, lost_permille: 50, ..Self::LTE };
    /// An office.
    pub const LAN: Link = Link {
        least_ns: 300_000,
        up_ns: 200_000,
        down_ns: 150_000,
        queued_permille: 0,
        queue_ns: 0,
        lost_permille: 0,
    };
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sources {
    /// The collector answers, every 64 s.
    pub exchange: bool,
    /// A chrony with a trustworthy bound, every 64 s.
    pub chrony: bool,
    /// A timesyncd, every 64 s, 200 ms claimed.
    pub timesyncd: bool,
    /// A pulse per second, every 16 s; its declared latency, ns.
    pub pps_latency_ns: Option<i64>,
    /// Sentences of a receiver, every 16 s.
    pub gps_serial: bool,
}

/// What of it is false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    /// Nothing.
    None,
    /// So many in a thousand, by +80, −80 or +500 ms.
    Sparse(u32),
    /// So many in a row, by +80 ms: a wrong server.
    Run(usize),
    /// So many pulses in a thousand are later than declared, by up to 400 µs.
    LatePulses(u32),
}

/// What happens to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Nobody speaks for so long after a start, ns.
    pub unsynced_ns: i64,
    /// Nobody is heard for so long in the middle of a boot, ns.
    pub outage_ns: i64,
    /// The wall clock is stepped so often a boot.
    pub steps: usize,
    /// It goes to sleep so often a boot, for ten minutes each, and its kernel is off by up to a second after it.
    pub suspends: usize,
    /// It is off for so long between two boots, ns.
    pub off_ns: i64,
    /// Every so many boots one meets no clock at all; 0 = none.
    pub clockless_every: usize,
}

/// A device to be simulated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Its crystal; none: any within the datasheet.
    pub crystal: Option<CrystalSpec>,
    /// Boots it lives through.
    pub boots: usize,
    /// Length of each, ns.
    pub boot_ns: i64,
    /// Its link.
    pub link: Link,
    /// Who speaks.
    pub sources: Sources,
    /// What of the exchanges (of the pulses) is false.
    pub lies: Lies,
    /// What happens to it.
    pub trouble: Trouble,
    /// The collector's own bound, ns; its clock is wrong by up to as much.
    pub e_c_ns: i64,
}

impl Plan {
    /// The design's day: a Pi over LTE, 24 h, no answer for 10 min, six hours without a link.
    #[must_use]
    pub fn lte_day() -> Self {
        Self {
            crystal: Some(CrystalSpec::PI),
            boots: 1,
            boot_ns: 86_400 * NS_PER_S,
            link: Link::LTE,
            sources: Sources { exchange: true, ..Sources::default() },
            lies: Lies::None,
            trouble: Trouble {
                unsynced_ns: 600 * NS_PER_S,
                outage_ns: 6 * 3_600 * NS_PER_S,
                ..Trouble::default()
            },
            e_c_ns: 0,
        }
    }
}
