//! Lets a world happen: captures, syncs and faults in the order of simulated time, then fair weather until nothing is
//! under way any more, then the oracle.

use super::collector::Site;
use super::gateway::{Gateway, Surroundings};
use super::loops::{Work, answers_max, messages_max, tries_max};
use super::mutant::Mutant;
use super::oracle::Oracle;
use super::outcome::Outcome;
use super::plan::{Fault, Plan, Scale, What};
use super::{START_BOOT_NS, START_UTC_NS};
use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, UtcNanos};
use headwater_sim::broker::{Manners, Road, SimBroker};
use headwater_sim::clock::SimClock;
use headwater_sim::disk::Dice;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Between two syncs of a gateway's spool, ms.
const SYNC_MS: u64 = 1_000;
/// Between two looks at a card, ms.
const MAINTAIN_MS: u64 = 10_000;
/// Most that may pass after the last fault until everything is in the lake: a reconnect of at most 300 s, a stall found
/// after 20 s and its drain, a resend of at most 300 s that is lost no more, a commit, a gap record that follows, and all
/// of that once more for what a link of 1 kB/s had in its pipe.
const SETTLE_MS: u64 = 30 * 60_000;
/// What may be told of things that happen by themselves.
const INCIDENTS_MAX: usize = 64;

/// Something that happened by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incident {
    /// A gateway has no power any more.
    GatewayOff(usize),
    /// The collector has ended.
    CollectorOff {
        /// It has no power any more.
        power: bool,
    },
}

impl Incident {
    /// Tells the director; a full queue holds one like it already.
    pub(super) fn tell(self, incidents: &mpsc::Sender<Self>) {
        let _full: Result<(), mpsc::error::TrySendError<Self>> = incidents.try_send(self);
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Capture(usize),
    Sync(usize),
    Maintain,
    Begin(usize),
    End(usize),
    Start(usize),
    StartCollector,
    PowerCutLook,
}

struct Director<'a> {
    plan: &'a Plan,
    oracle: Oracle,
    broker: SimBroker,
    clock: SimClock,
    gateways: Vec<Gateway>,
    site: Site,
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    active: Vec<Fault>,
    dice: Dice,
    incidents: mpsc::Receiver<Incident>,
    trace: bool,
    sync_asked: Vec<bool>,
}

/// Lets the world of a plan happen, with a mistake in it if one is given.
pub(super) async fn direct(plan: &Plan, mutant: Option<Mutant>, trace: bool) -> Outcome {
    let clock = SimClock::new(BootNanos(START_BOOT_NS), UtcNanos(START_UTC_NS));
    let oracle = Oracle::default();
    let broker = SimBroker::new(plan.seed ^ 0xb0);
    let (incidents_in, incidents) = mpsc::channel(INCIDENTS_MAX);
    let around = Surroundings {
        world: clock.clone(),
        oracle: oracle.clone(),
        broker: broker.clone(),
        mutant,
        incidents: incidents_in.clone(),
    };
    let gateways: Vec<Gateway> =
        (0..plan.shape.gateways).map(|place| Gateway::new(place, plan.seed, &plan.shape, &around)).collect();
    let site = Site::new(&plan.shape, &oracle, &broker, &clock, &incidents_in, mutant);
    let mut director = Director {
        plan,
        oracle,
        broker,
        clock,
        sync_asked: vec![false; gateways.len()],
        gateways,
        site,
        events: BTreeMap::new(),
        order: 0,
        active: Vec::new(),
        dice: Dice::new(plan.seed ^ 0xd1),
        incidents,
        trace,
    };
    director.begin();
    director.faults().await;
    let settled_ms = director.settle().await;
    director.outcome(settled_ms)
}

impl Director<'_> {
    fn now_ms(&self) -> u64 {
        super::world_ms(&self.clock)
    }

    fn at(&mut self, ms: u64, event: Event) {
        self.order += 1;
        self.events.insert((ms, self.order), event);
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            let ms = self.now_ms();
            eprintln!("{:>9}.{:03} s  {}", ms / 1_000, ms % 1_000, what());
        }
    }

    fn begin(&mut self) {
        let plan = self.plan;
        self.at(0, Event::StartCollector);
        self.gateways.iter_mut().for_each(Gateway::start);
        for place in 0..self.gateways.len() {
            let first = self.dice.roll() % plan.shape.capture_ms;
            self.at(first, Event::Capture(place));
        }
        for place in 0..plan.faults.len() {
            self.at(plan.faults[place].at_ms, Event::Begin(place));
        }
        let look = self.dice.roll() % plan.shape.span_ms;
        self.at(look, Event::PowerCutLook);
        self.at(MAINTAIN_MS, Event::Maintain);
    }

    /// Until nothing more goes wrong.
    async fn faults(&mut self) {
        let last = self.plan.faults.iter().map(|fault| fault.at_ms + fault.for_ms).max().unwrap_or(0);
        let until = last.max(self.plan.shape.span_ms);
        while self.pass_until(until).await {}
    }

    /// Waits for the next event and lets it happen; false once `until` has come.
    async fn pass_until(&mut self, until_ms: u64) -> bool {
        let next = self.events.first_key_value().map_or(until_ms, |((at, _), _)| (*at).min(until_ms));
        let wake = BootNanos(START_BOOT_NS).plus_ms(next);
        tokio::select! {
            biased;
            incident = self.incidents.recv() => {
                if let Some(incident) = incident {
                    self.happens(incident);
                }
                return true;
            }
            () = self.clock.sleep_until(wake) => {}
        }
        let now = self.now_ms();
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= now) {
            let event = entry.remove();
            self.passes(event);
        }
        self.now_ms() < until_ms
    }

    fn passes(&mut self, event: Event) {
        let now = self.now_ms();
        match event {
            Event::Capture(place) => {
                if now > self.plan.shape.span_ms {
                    return;
                }
                if let Some(gateway) = self.gateways.get_mut(place).filter(|gateway| gateway.is_up()) {
                    gateway.exchanges(true);
                    gateway.capture();
                    if !std::mem::replace(&mut self.sync_asked[place], true) {
                        self.at(now + SYNC_MS, Event::Sync(place));
                    }
                }
                self.at(now + self.plan.shape.capture_ms, Event::Capture(place));
            }
            Event::Sync(place) => {
                self.sync_asked[place] = false;
                if let Some(gateway) = self.gateways.get_mut(place) {
                    gateway.sync();
                }
            }
            Event::Maintain => {
                self.gateways.iter_mut().for_each(Gateway::maintain);
                let wait = if self.plan.scale == Scale::Weeks { 60 * MAINTAIN_MS } else { MAINTAIN_MS };
                self.at(now + wait, Event::Maintain);
            }
            Event::Begin(place) => self.fault_begins(place),
            Event::End(place) => {
                let over = self.plan.faults[place];
                self.tell(|| format!("over: gateway {}: {}", over.gateway, over.what));
                if let Some(at) = self.active.iter().position(|fault| *fault == over) {
                    self.active.remove(at);
                }
                self.weather();
            }
            Event::Start(place) => {
                self.tell(|| format!("gateway {place} starts"));
                if let Some(gateway) = self.gateways.get_mut(place) {
                    gateway.start();
                }
            }
            Event::StartCollector => {
                self.tell(|| "the collector starts".to_owned());
                if !self.site.start() {
                    self.happens(Incident::CollectorOff { power: true });
                }
            }
            Event::PowerCutLook => {
                let seed = self.dice.roll();
                self.site.look_after_power_cut(seed);
            }
        }
    }

    fn happens(&mut self, incident: Incident) {
        let again = self.now_ms() + 500 + self.dice.roll() % 10_000;
        match incident {
            Incident::GatewayOff(place) => {
                let Some(gateway) = self.gateways.get_mut(place) else { return };
                if !gateway.is_up() || !gateway.disk().power_is_off() {
                    return;
                }
                gateway.lose_power();
                self.tell(|| format!("gateway {place} has no power"));
                self.at(again, Event::Start(place));
            }
            Incident::CollectorOff { power } => {
                let seed = self.dice.roll();
                self.site.stop(power.then_some(seed));
                self.tell(|| format!("the collector has ended, power off: {power}"));
                self.at(again, Event::StartCollector);
            }
        }
    }

    fn fault_begins(&mut self, place: usize) {
        let fault = self.plan.faults[place];
        let now = self.now_ms();
        self.tell(|| format!("gateway {}: {}", fault.gateway, fault.what));
        let Some(gateway) = self.gateways.get_mut(fault.gateway) else { return };
        let road = gateway.road();
        match fault.what {
            What::Cut => self.broker.cut(&road),
            What::SilentCut => self.broker.cut_silently(&road),
            What::OldAcks => self.broker.replay_old(&road),
            What::AgentKilled => {
                gateway.stop();
                self.at(now + fault.for_ms, Event::Start(fault.gateway));
            }
            What::AgentPower(changes) => gateway.disk().cut_power_after(changes),
            What::AgentSyncs(n) => gateway.fail_syncs(n),
            What::ClockStep(ns) => gateway.clock().step_utc(ns),
            What::Clock1970 => gateway.clock().set_utc(UtcNanos(7_000_000_000)),
            What::CollectorKilled => {
                self.site.stop(None);
                self.at(now + fault.for_ms, Event::StartCollector);
            }
            What::CollectorAt { step, power } => self.site.levers().ends_after = Some((step, power)),
            What::CollectorPower(changes) => self.site.disk.cut_power_after(changes),
            What::BrokerAway { amnesia } => self.broker.restart(amnesia),
            _ => {}
        }
        self.active.push(fault);
        self.weather();
        self.at(now + fault.for_ms, Event::End(place));
    }

    /// Makes roads, broker, cards and commits what the faults of the moment say.
    fn weather(&mut self) {
        for (place, gateway) in self.gateways.iter().enumerate() {
            let mut road = Road::FAIR;
            let mut full = false;
            for fault in self.active.iter().filter(|fault| fault.gateway == place) {
                match fault.what {
                    What::Loss(n) => road.loss = n,
                    What::Doubles(n) => road.duplicate = n,
                    What::Delay(ms) => road.delay_ms = 5..=ms,
                    What::Slow(rate) => road.bytes_per_s = Some(rate),
                    What::Partition => road.broken = true,
                    What::AgentDiskFull => full = true,
                    _ => {}
                }
            }
            if self.broker.road(&gateway.road()) != road {
                self.broker.set_road(&gateway.road(), road);
            }
            gateway.fill(full);
        }
        let mut manners = Manners::POLITE;
        let mut commits_fail = false;
        for fault in &self.active {
            match fault.what {
                What::BrokerAway { .. } => manners.away = true,
                What::ClosesOnPublish => manners.closes_on_publish = true,
                What::NeverAcks => manners.never_acks = true,
                What::Limit(bytes) => manners.payload_bytes_max = bytes,
                What::CommitsFail => commits_fail = true,
                _ => {}
            }
        }
        if self.broker.manners() != manners {
            self.broker.set_manners(manners);
        }
        self.site.levers().commits_fail = commits_fail;
    }

    /// Fair weather until nothing is under way; gives how long that took, ms.
    async fn settle(&mut self) -> u64 {
        let began = self.now_ms();
        self.tell(|| "nothing more goes wrong".to_owned());
        self.active.clear();
        self.events.retain(|_, event| matches!(event, Event::Start(_) | Event::StartCollector));
        self.weather();
        self.site.levers().ends_after = None;
        self.site.disk.cut_power_after(u64::MAX);
        for gateway in &self.gateways {
            gateway.disk().cut_power_after(u64::MAX);
            gateway.fail_syncs(0);
        }
        let mut tick = 0_u64;
        loop {
            for gateway in self.gateways.iter_mut().filter(|gateway| gateway.is_up()) {
                gateway.exchanges(false);
                gateway.sync();
                if tick.is_multiple_of(10) {
                    gateway.maintain();
                }
            }
            if !self.site.is_up() && !self.events.values().any(|event| matches!(event, Event::StartCollector))
            {
                self.at(self.now_ms(), Event::StartCollector);
            }
            if self.gateways.iter().all(Gateway::is_drained) && self.oracle.lock().open().is_empty() {
                return self.now_ms() - began;
            }
            tick += 1;
            let until = began + tick * SYNC_MS;
            while self.pass_until(until).await {}
            if self.now_ms() - began > SETTLE_MS {
                let open = self.oracle.lock().open();
                let gateways: Vec<String> = self.gateways.iter().map(Gateway::status).collect();
                self.oracle.violated(format!(
                    "liveness: {SETTLE_MS} ms after the last fault not all is in the lake: {open:?}\n    {}",
                    gateways.join("\n    ")
                ));
                return self.now_ms() - began;
            }
        }
    }

    fn outcome(&mut self, settled_ms: u64) -> Outcome {
        let seed = self.dice.roll();
        self.site.look_after_power_cut(seed);
        let mut outcome = Outcome { settled_ms, lasted_ms: self.now_ms(), ..Outcome::default() };
        for gateway in &mut self.gateways {
            if !gateway.is_up() {
                self.oracle.violated("a gateway is not up at the end".to_owned());
            }
            if self.trace {
                eprintln!("{}", gateway.status());
            }
            gateway.stop();
        }
        let commits = self.oracle.lock().lake.commits;
        for gateway in &self.gateways {
            let traffic = self.broker.traffic(&gateway.road());
            let work =
                Work { payloads: gateway.payloads, starts: gateway.starts, lasted_ms: outcome.lasted_ms };
            let bounds = [
                ("connections", traffic.tries, tries_max(work, traffic)),
                ("messages", traffic.up, messages_max(work, traffic)),
                ("answers", traffic.down, answers_max(work, traffic, commits)),
            ];
            for (what, found, most) in bounds {
                if found > most {
                    let road = gateway.road();
                    self.oracle
                        .violated(format!("loop: {found} {what} of {road}, at most {most} were needed"));
                }
                outcome.fullest = outcome.fullest.max(100 * found / most.max(1));
            }
            outcome.digest = outcome.digest.rotate_left(7) ^ traffic.digest;
            outcome.messages += traffic.up;
            outcome.answers += traffic.down;
            outcome.tries += traffic.tries;
        }
        self.site.stop(None);
        let mut oracle = self.oracle.lock();
        oracle.judge();
        outcome.captured = oracle.captured_rows;
        outcome.evicted = oracle.evicted_rows;
        outcome.commits = oracle.lake.commits;
        outcome.alarm_ms_max = oracle.alarm_ms_max;
        drop(oracle);
        outcome.violations = self.oracle.violations();
        outcome
    }
}
