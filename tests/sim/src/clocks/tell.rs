//! Lives of devices: their boots, and what is told of their clocks.

use super::chance::Chance;
use super::crystal::{Crystal, CrystalSpec};
use super::plan::{Lies, Link, Plan};
use super::wall::WallClock;
use crate::disk::Dice;
use headwater_core::id::BootOrdinal;
use headwater_core::time::statement::{ClockEvent, ClockSource, Constraint, RawReading, Statement};
use headwater_core::time::{BootNanos, Grade, NS_PER_MS, NS_PER_S, UtcNanos};

/// UTC of the first boot.
const START_UTC: i64 = 1_790_000_000 * NS_PER_S;
/// How often a source speaks, ns.
const POLL_NS: i64 = 64 * NS_PER_S;
/// How often a receiver speaks, ns.
const EDGE_NS: i64 = 16 * NS_PER_S;
/// How long a gateway sleeps, ns.
const SLEEP_NS: i64 = 600 * NS_PER_S;

/// A statement on its way to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What is said.
    pub statement: Statement,
    /// UTC when it reached the collector.
    pub received: UtcNanos,
}

/// One boot of a simulated device.
#[derive(Debug, Clone)]
pub struct SimulatedBoot {
    /// Which.
    pub ordinal: BootOrdinal,
    /// How long it ran, ns.
    pub length_ns: i64,
    /// What was told of it, in order of its line.
    pub told: Vec<Told>,
    /// What its own wall clock showed.
    pub wall: WallClock,
    /// It was asleep from the first to the second of each.
    pub asleep: Vec<(i64, i64)>,
    /// When the first source spoke, ns.
    pub first_sync_ns: i64,
    crystal: Crystal,
    /// (boot time of waking, what the kernel put in too little, ns).
    jumps: Vec<(i64, i64)>,
}

impl SimulatedBoot {
    /// The truth: UTC at boot time `b`, ns.
    #[must_use]
    pub fn utc(&self, b: i64) -> i64 {
        let jumps = self.jumps.iter().filter(|(at, _)| *at <= b).map(|(_, ns)| ns);
        self.crystal.utc(b) + jumps.sum::<i64>()
    }

    /// Largest deviation of its crystal, ppb.
    #[must_use]
    pub fn worst_ppb(&self) -> i64 {
        self.crystal.worst_ppb()
    }

    fn awake(&self, b: i64) -> bool {
        !self.asleep.iter().any(|(from, to)| *from <= b && b < *to)
    }
}

/// A simulated device's whole life.
#[derive(Debug, Clone)]
pub struct SimulatedDevice {
    /// Its boots, ascending.
    pub boots: Vec<SimulatedBoot>,
}

impl SimulatedDevice {
    /// The life that `seed` gives to `plan`.
    #[must_use]
    pub fn new(seed: u64, plan: &Plan) -> Self {
        let mut dice = Dice::new(seed);
        let spec = plan.crystal.unwrap_or_else(|| CrystalSpec::any(&mut dice));
        let mut start_utc = START_UTC + dice.between(0, 1_000 * NS_PER_S);
        let mut boots = Vec::new();
        for n in 0..plan.boots {
            let mut teller = Teller::new(&mut dice, plan, spec, start_utc, n);
            teller.tell();
            let boot = teller.boot;
            start_utc = boot.utc(boot.length_ns) + plan.trouble.off_ns;
            boots.push(boot);
        }
        Self { boots }
    }
}

struct Teller<'a> {
    dice: &'a mut Dice,
    plan: &'a Plan,
    boot: SimulatedBoot,
    clockless: bool,
    /// The collector's own error, ns.
    collector_ns: i64,
    /// Exchanges (pulses) that lie, by their number.
    run: std::ops::Range<usize>,
}

impl<'a> Teller<'a> {
    fn new(dice: &'a mut Dice, plan: &'a Plan, spec: CrystalSpec, start_utc: i64, n: usize) -> Self {
        let crystal = Crystal::new(dice, spec, start_utc, plan.boot_ns);
        let ordinal = BootOrdinal(u32::try_from(n + 1).unwrap_or(u32::MAX));
        let every = plan.trouble.clockless_every;
        let polls = usize::try_from(plan.boot_ns / POLL_NS).unwrap_or(0);
        let run = match plan.lies {
            Lies::Run(length) => {
                let from = dice.below(polls.saturating_sub(length).max(1));
                from..from + length
            }
            _ => 0..0,
        };
        // Without a battery: where the last file left it, an hour or a day behind, or at the start of Unix time.
        let behind = [3_600 * NS_PER_S, 86_400 * NS_PER_S, start_utc];
        let wall = WallClock::new(-behind[dice.below(behind.len())], spec.ppb);
        let collector_ns = dice.between(-plan.e_c_ns, plan.e_c_ns + 1);
        let mut boot = SimulatedBoot {
            ordinal,
            length_ns: plan.boot_ns,
            told: Vec::new(),
            wall,
            asleep: Vec::new(),
            first_sync_ns: i64::MAX,
            crystal,
            jumps: Vec::new(),
        };
        for _ in 0..plan.trouble.suspends {
            let from = dice.between(plan.boot_ns / 10, plan.boot_ns * 9 / 10);
            if boot.asleep.iter().all(|(other, to)| from > to + POLL_NS || from + SLEEP_NS + POLL_NS < *other)
            {
                boot.asleep.push((from, from + SLEEP_NS));
                boot.jumps.push((from + SLEEP_NS, dice.between(-NS_PER_S, NS_PER_S)));
            }
        }
        let clockless = every > 0 && n % every == every / 2;
        Self { dice, plan, boot, clockless, collector_ns, run }
    }

    fn tell(&mut self) {
        self.events();
        let Plan { sources, trouble, boot_ns, .. } = *self.plan;
        let outage = (boot_ns - trouble.outage_ns) / 2..(boot_ns + trouble.outage_ns) / 2;
        let (mut b, mut number) = (0, 0);
        while b < boot_ns {
            let connected = !outage.contains(&b);
            if !self.clockless && b >= trouble.unsynced_ns && self.boot.awake(b) {
                if number % 4 == 0 {
                    let at = b + self.dice.between(0, NS_PER_S);
                    self.poll(at, number / 4, connected);
                }
                let edge = b + self.dice.between(0, NS_PER_S);
                if sources.pps_latency_ns.is_some() || sources.gps_serial {
                    self.edge(edge);
                }
            }
            b += EDGE_NS;
            number += 1;
        }
        self.boot.told.sort_by_key(|told| told.received);
    }

    /// Steps of the wall clock, and sleep.
    fn events(&mut self) {
        for _ in 0..self.plan.trouble.steps {
            let b = self.dice.between(self.plan.trouble.unsynced_ns, self.plan.boot_ns);
            let by = [-3_600, 7_200, 172_800, -172_800][self.dice.below(4)] * NS_PER_S;
            self.boot.wall.step(b, by);
            self.say(b, Statement::Event { at: BootNanos(b), event: ClockEvent::Step }, b);
        }
        for (from, to) in self.boot.asleep.clone() {
            self.say(from, Statement::Event { at: BootNanos(from), event: ClockEvent::Suspend }, to);
            self.say(to, Statement::Event { at: BootNanos(to), event: ClockEvent::Resume }, to);
        }
    }

    fn say(&mut self, b: i64, statement: Statement, heard_b: i64) {
        if matches!(statement, Statement::Constraint(_)) {
            self.boot.first_sync_ns = self.boot.first_sync_ns.min(b);
        }
        let received = UtcNanos(self.boot.utc(heard_b) + 30 * NS_PER_S);
        self.boot.told.push(Told { statement, received });
    }

    fn poll(&mut self, b: i64, number: usize, connected: bool) {
        let sources = self.plan.sources;
        if sources.exchange && connected {
            self.exchange(b, number);
        }
        if sources.chrony && connected {
            self.daemon(b, ClockSource::Chrony);
        }
        if sources.timesyncd && connected {
            self.daemon(b, ClockSource::Timesyncd);
        }
        // The boot line is not slewed here: the raw clock passes with it, and stands still in sleep.
        let slept: i64 = self.boot.asleep.iter().filter(|(_, to)| *to <= b).map(|(from, to)| to - from).sum();
        let reading =
            RawReading { at: BootNanos(b), width_ns: 200, raw_ns: Some(b - slept), freq_ppb: Some(0) };
        self.say(b, Statement::Raw(reading), b);
    }

    fn way(&mut self, mean_ns: i64) -> i64 {
        let Link { least_ns, queued_permille, queue_ns, .. } = self.plan.link;
        let queued = if self.dice.happens(queued_permille) { self.dice.delay_ns(queue_ns) } else { 0 };
        least_ns + self.dice.delay_ns(mean_ns) + queued
    }

    fn lie(&mut self, number: usize) -> i64 {
        match self.plan.lies {
            Lies::Sparse(permille) if self.dice.happens(permille) => {
                [80, -80, 500][self.dice.below(3)] * NS_PER_MS
            }
            Lies::Run(_) if self.run.contains(&number) => 80 * NS_PER_MS,
            _ => 0,
        }
    }

    fn exchange(&mut self, b: i64, number: usize) {
        let (there, back) = (self.way(self.plan.link.up_ns), self.way(self.plan.link.down_ns));
        let turn = self.dice.between(NS_PER_MS, 300 * NS_PER_MS);
        let off = self.collector_ns + self.lie(number);
        let t2 = self.boot.utc(b) + there;
        let t3 = t2 + turn;
        // The answer arrives when UTC says so; rounded up, as a late poll would.
        let t4 = self.boot.crystal.boot(t3 + back - self.jumped(b)) + 1;
        let lost = self.dice.happens(self.plan.link.lost_permille);
        let answered = (!lost && self.boot.awake(t4)).then_some((BootNanos(t4), UtcNanos(t3 + off)));
        self.boot.wall.set(self.dice, b, there, back);
        let exchange = Constraint::Exchange {
            sent: Some((BootNanos(b), UtcNanos(t2 + off))),
            answered,
            e_c_ns: self.plan.e_c_ns,
            grade: Grade::Guaranteed,
        };
        self.say(b, Statement::Constraint(exchange), b.max(t4));
    }

    fn jumped(&self, b: i64) -> i64 {
        self.boot.jumps.iter().filter(|(at, _)| *at <= b).map(|(_, ns)| ns).sum()
    }

    /// A daemon's wall clock is off by half the asymmetry of its own exchange, and it claims half the round trip.
    fn daemon(&mut self, b: i64, source: ClockSource) {
        let (there, back) = (self.way(self.plan.link.up_ns), self.way(self.plan.link.down_ns));
        self.boot.wall.set(self.dice, b, there, back);
        let claimed = if source == ClockSource::Timesyncd { 200 * NS_PER_MS } else { 0 };
        let half_ns = claimed.max((there + back) / 2);
        let sample = Constraint::Sample {
            source,
            b1: BootNanos(b),
            real: UtcNanos(self.boot.utc(b + 100) + (there - back) / 2),
            b2: BootNanos(b + 200),
            half_ns,
            grade: Grade::Guaranteed,
        };
        self.say(b, Statement::Constraint(sample), b);
    }

    /// The next full second after `near`, as a pulse and as a sentence.
    fn edge(&mut self, near: i64) {
        let second = (self.boot.utc(near).div_euclid(NS_PER_S) + 1) * NS_PER_S;
        let true_b = self.boot.crystal.boot(second - self.jumped(near)) + 1;
        if let Some(declared) = self.plan.sources.pps_latency_ns {
            let late = match self.plan.lies {
                Lies::LatePulses(permille) if self.dice.happens(permille) => {
                    self.dice.between(declared, declared + 400_000)
                }
                _ => self.dice.between(0, (declared - 2).max(1)),
            };
            self.pulse(ClockSource::GpsPps, true_b + late, second, Some(declared));
        }
        if self.plan.sources.gps_serial {
            let late = self.dice.between(50 * NS_PER_MS, 900 * NS_PER_MS);
            self.pulse(ClockSource::GpsSerial, true_b + late, second, None);
        }
    }

    fn pulse(&mut self, source: ClockSource, b: i64, second: i64, latency_ns: Option<i64>) {
        let edge = Constraint::Edge {
            source,
            at: BootNanos(b),
            second: UtcNanos(second),
            latency_ns,
            grade: Grade::Guaranteed,
        };
        self.say(b, Statement::Constraint(edge), b);
    }
}
