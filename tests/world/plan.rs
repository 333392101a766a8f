//! What a seed stands for: how the world is made, and what goes wrong in it and when.

use headwater_sim::disk::Dice;
use std::fmt;

/// A short life or a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Minutes.
    Minutes,
    /// Weeks, most of them without a link.
    Weeks,
}

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// How a world is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Gateways.
    pub gateways: usize,
    /// How long it captures while things go wrong, ms.
    pub span_ms: u64,
    /// Between two captures, ms.
    pub capture_ms: u64,
    /// Rows of numbers in each.
    pub rows: u64,
    /// Every n-th capture is a picture too; 0 for none.
    pub picture_every: u64,
    /// Bytes of the largest picture.
    pub picture_bytes: usize,
    /// Every n-th capture raises an alarm too.
    pub alarm_every: u64,
    /// Bytes the spool may take.
    pub spool_bytes: u64,
    /// Rows are let go of when they are durable, not only when they are committed.
    pub durable: bool,
    /// The agent's limit for a message, bytes.
    pub message_bytes_max: usize,
    /// The agent's linger, ms.
    pub linger_ms: u64,
    /// Between two commits, ms.
    pub commit_ms: u64,
    /// A power cut takes the spool's index with it.
    pub loses_index: bool,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Messages are lost after their PUBACK, of a thousand.
    Loss(u32),
    /// Messages arrive twice, of a thousand.
    Doubles(u32),
    /// Messages take up to so long, ms, each its own time.
    Delay(u64),
    /// The road carries so many bytes a second.
    Slow(u64),
    /// No way to the broker, and nothing says so.
    Partition,
    /// The link ends.
    Cut,
    /// The link ends and nothing says so.
    SilentCut,
    /// The broker is away, and may have forgotten what it PUBACKed.
    BrokerAway {
        /// It has.
        amnesia: bool,
    },
    /// The broker closes on every publish.
    ClosesOnPublish,
    /// The broker gives no PUBACK.
    NeverAcks,
    /// The broker takes messages up to so many bytes on new connections.
    Limit(usize),
    /// Old acks come once more.
    OldAcks,
    /// The agent's process ends and is started again.
    AgentKilled,
    /// The gateway's power goes off after so many changes of its disk.
    AgentPower(u64),
    /// Syncs of the gateway's disk fail so many times.
    AgentSyncs(u32),
    /// The gateway's disk is full.
    AgentDiskFull,
    /// The gateway's UTC moves, ns.
    ClockStep(i64),
    /// The gateway's UTC is what it was in 1970.
    Clock1970,
    /// The collector's process ends and is started again.
    CollectorKilled,
    /// The collector ends at its n-th step from then on; with or without its power.
    CollectorAt {
        /// Steps between receiving, landing, committing and acking.
        step: u32,
        /// What was not synced is gone, too.
        power: bool,
    },
    /// The collector's power goes off after so many changes of its disk.
    CollectorPower(u64),
    /// Commits fail.
    CommitsFail,
}

/// Something that goes wrong, when, for how long and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When, ms after the start.
    pub at_ms: u64,
    /// For how long, ms; or how long until what ended starts again.
    pub for_ms: u64,
    /// Which gateway, where one is meant.
    pub gateway: usize,
    /// What.
    pub what: What,
}

/// A world to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where all its chances come from.
    pub seed: u64,
    /// Minutes or weeks.
    pub scale: Scale,
    /// How it is made.
    pub shape: Shape,
    /// What goes wrong, by time.
    pub faults: Vec<Fault>,
}

fn between(dice: &mut Dice, low: u64, high: u64) -> u64 {
    low + dice.roll() % (high.saturating_sub(low) + 1)
}

fn one_in(dice: &mut Dice, n: u64) -> bool {
    dice.roll().is_multiple_of(n)
}

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64, scale: Scale) -> Self {
        let mut dice = Dice::new(seed ^ if scale == Scale::Weeks { 0x77ee } else { 0 });
        let shape = match scale {
            Scale::Minutes => minutes(&mut dice),
            Scale::Weeks => weeks(&mut dice),
        };
        let n = match scale {
            Scale::Minutes => between(&mut dice, 1, 9),
            Scale::Weeks => between(&mut dice, 6, 24),
        };
        let mut faults: Vec<Fault> = (0..n).map(|_| fault(&mut dice, &shape, scale)).collect();
        if scale == Scale::Weeks {
            // Most of the time there is no link.
            faults.extend((0..shape.gateways).map(|gateway| Fault {
                at_ms: shape.span_ms / 100,
                for_ms: shape.span_ms * between(&mut dice, 93, 98) / 100,
                gateway,
                what: What::Partition,
            }));
        }
        faults.sort_by_key(|fault| fault.at_ms);
        Self { seed, scale, shape, faults }
    }

    /// The same world without some of what goes wrong.
    #[must_use]
    pub fn without(&self, place: usize) -> Self {
        let mut plan = self.clone();
        if place < plan.faults.len() {
            plan.faults.remove(place);
        }
        plan
    }
}

fn minutes(dice: &mut Dice) -> Shape {
    let crowded = one_in(dice, 4);
    Shape {
        gateways: if one_in(dice, 6) { size(between(dice, 2, 3)) } else { 1 },
        span_ms: between(dice, 8, 60) * SECOND_MS,
        capture_ms: between(dice, 1_500, 8_000),
        rows: between(dice, 1, 12),
        picture_every: between(dice, 0, 4),
        picture_bytes: size(if one_in(dice, 8) { 200_000 } else { between(dice, 600, 30_000) }),
        alarm_every: between(dice, 3, 9),
        spool_bytes: if crowded { between(dice, 40_000, 160_000) } else { 64 << 20 },
        durable: one_in(dice, 2),
        message_bytes_max: size(between(dice, 4_000, 98_304)),
        linger_ms: between(dice, 0, 2_000),
        commit_ms: between(dice, 300, 10_000),
        loses_index: one_in(dice, 3),
    }
}

fn weeks(dice: &mut Dice) -> Shape {
    Shape {
        gateways: 1,
        span_ms: between(dice, 7, 25) * DAY_MS,
        capture_ms: between(dice, 20, 120) * MINUTE_MS,
        spool_bytes: if one_in(dice, 2) { between(dice, 100_000, 400_000) } else { 64 << 20 },
        linger_ms: 10_000,
        commit_ms: 10_000,
        ..minutes(dice)
    }
}

fn fault(dice: &mut Dice, shape: &Shape, scale: Scale) -> Fault {
    let what = match between(dice, 0, 27) {
        0 | 1 => What::Loss(small(between(dice, 20, 700))),
        2 => What::Doubles(small(between(dice, 20, 600))),
        3 => What::Delay(between(dice, 50, 8_000)),
        4 => What::Slow(between(dice, 2_000, 40_000)),
        5 => What::Partition,
        6 => What::Cut,
        7 | 8 => What::SilentCut,
        9 | 10 => What::BrokerAway { amnesia: one_in(dice, 2) },
        11 => What::BrokerAway { amnesia: true },
        12 => What::ClosesOnPublish,
        13 => What::NeverAcks,
        14 => What::Limit(size(between(dice, 3_000, 40_000))),
        15 => What::OldAcks,
        16 => What::AgentKilled,
        17 | 18 => What::AgentPower(between(dice, 0, 30)),
        19 => What::AgentSyncs(small(between(dice, 1, 3))),
        20 => What::AgentDiskFull,
        21 => What::ClockStep(between(dice, 0, 2 * DAY_MS).cast_signed() * 1_000_000 - 86_400_000_000_000),
        22 => What::Clock1970,
        23 => What::CollectorKilled,
        24 | 25 => What::CollectorAt { step: small(between(dice, 0, 40)), power: one_in(dice, 2) },
        26 => What::CollectorPower(between(dice, 0, 12)),
        _ => What::CommitsFail,
    };
    let longest = match scale {
        Scale::Minutes => 40 * SECOND_MS,
        Scale::Weeks => 2 * 60 * MINUTE_MS,
    };
    Fault {
        at_ms: between(dice, 0, shape.span_ms),
        for_ms: between(dice, 100, longest),
        gateway: size(between(dice, 0, shape.gateways as u64 - 1)),
        what,
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss(n) => write!(f, "{n} of 1000 messages are lost after their PUBACK"),
            Self::Doubles(n) => write!(f, "{n} of 1000 messages arrive twice"),
            Self::Delay(ms) => write!(f, "messages take up to {ms} ms, each its own time"),
            Self::Slow(rate) => write!(f, "the road carries {rate} bytes a second"),
            Self::Partition => write!(f, "no way to the broker, and nothing says so"),
            Self::Cut => write!(f, "the link ends"),
            Self::SilentCut => write!(f, "the link ends and nothing says so"),
            Self::BrokerAway { amnesia: false } => write!(f, "the broker is away"),
            Self::BrokerAway { amnesia: true } => {
                write!(f, "the broker is away and has forgotten what it PUBACKed")
            }
            Self::ClosesOnPublish => write!(f, "the broker closes on every publish"),
            Self::NeverAcks => write!(f, "the broker gives no PUBACK"),
            Self::Limit(bytes) => write!(f, "new connections take messages up to {bytes} bytes"),
            Self::OldAcks => write!(f, "old acks come once more"),
            Self::AgentKilled => write!(f, "the agent's process ends"),
            Self::AgentPower(n) => {
                write!(f, "the gateway's power goes off after {n} more changes of its disk")
            }
            Self::AgentSyncs(n) => write!(f, "the next {n} syncs of the gateway's disk fail"),
            Self::AgentDiskFull => write!(f, "the gateway's disk is full"),
            Self::ClockStep(ns) => write!(f, "the gateway's UTC moves by {} s", ns / 1_000_000_000),
            Self::Clock1970 => write!(f, "the gateway's UTC is 1970"),
            Self::CollectorKilled => write!(f, "the collector's process ends"),
            Self::CollectorAt { step, power: false } => {
                write!(f, "the collector's process ends {step} steps later")
            }
            Self::CollectorAt { step, power: true } => {
                write!(f, "the collector's power goes off {step} steps later")
            }
            Self::CollectorPower(n) => {
                write!(f, "the collector's power goes off after {n} more changes of its disk")
            }
            Self::CommitsFail => write!(f, "commits fail"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}: {:?}", self.seed, self.scale, self.shape)?;
        for Fault { at_ms, for_ms, gateway, what } in &self.faults {
            let (s, ms) = (at_ms / 1_000, at_ms % 1_000);
            writeln!(f, "  {s:>8}.{ms:03} s  for {for_ms:>7} ms  gateway {gateway}: {what}")?;
        }
        Ok(())
    }
}
