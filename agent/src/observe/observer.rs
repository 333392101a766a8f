//! Decides which rows of `hw/clock` are made, and when: fed with looks at the clocks and with what sources say, it reads
//! no clock and asks nobody itself.
//!
//! It never weighs sources against each other: each gets rows of its own, and the collector, which sees all of them and
//! what came later, decides. The wall clock is evidence like any other. What was restored from disk claims nothing.

use super::edges::Receivers;
use super::gps::{Anchor, Sentence};
use super::heard::{Memory, Word};
use super::look::{Look, WORD_AGE_NS_MAX, Wall, kernel_claim};
use super::report::{Arrival, Report};
use super::status::ClockStatus;
use crate::clock::Leap;
use crate::ship::ClockExchange;
use crate::stamp::track::{self, Bracket, Claim, Edge, Event, EventKind, TimeSource};
use crate::telemetry::{Counter, count};
use headwater_core::sample::Reading;
use headwater_core::time::{BootNanos, Grade, NS_PER_MS, NS_PER_S, UtcNanos};
use std::collections::VecDeque;

/// Between two looks, ms: how late a step or a suspend is seen where the kernel does not tell at once.
const LOOK_MS: u64 = 1_000;
/// Least step that opens a segment, ns: half widths of daemons are no smaller.
const STEP_NS_MIN: i64 = 100_000;
/// Least time asleep that is a suspend, ns: above any bracket that was preempted five times.
const SLEEP_NS_MIN: i64 = 10 * NS_PER_MS;
/// Steps told at once; later ones are told together, as the budget of one a minute allows, or with the next sample.
const EVENTS_BURST: u32 = 16;
/// Between two events when steps do not end, ms.
const EVENT_MS: u64 = 60_000;
/// Rows that wait for the stamp stage; beyond it the oldest go: some hours of a gateway whose disk hangs.
const ROWS_MAX: usize = 1_024;
/// How near a step must come to a second to be the leap that was announced, ns.
const LEAP_SLACK_NS: i64 = 10 * NS_PER_MS;

/// Why a word about the wall clock is not used.
pub(super) const NOT_OF_THIS_CLOCK: &str = "the wall clock was set since, or did not show that of late";

/// What is known before any clock is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObserverSettings {
    /// What smeared leap seconds may add to each source, ns.
    pub smear_ns: i64,
    /// Declared latency of pulses, ns.
    pub pps_latency_ns: Option<i64>,
    /// Half width claimed for a hardware clock, ns.
    pub ptp_half_ns: i64,
    /// It is later than this: guaranteed.
    pub floor: UtcNanos,
}

/// The observer.
#[derive(Debug)]
pub struct Observer {
    pub(super) settings: ObserverSettings,
    pub(super) last: Look,
    pub(super) wall: Wall,
    pub(super) heard: Memory,
    pub(super) receivers: Receivers,
    rows: VecDeque<Reading>,
    /// Clocks have been settling since.
    settling_since: BootNanos,
    sampled: BootNanos,
    sample_at: BootNanos,
    /// Steps not told yet, and the largest of them, ns.
    untold: (u64, i64),
    event_tokens: u32,
    event_token_at: BootNanos,
    leap: Leap,
    status: ClockStatus,
}

impl Observer {
    /// An observer that begins with this look.
    #[must_use]
    pub fn new(settings: ObserverSettings, first: Look) -> Self {
        let now = first.reading.b1;
        Self {
            settings,
            last: first,
            wall: Wall::new(&first),
            heard: Memory::default(),
            receivers: Receivers::new(now),
            rows: VecDeque::new(),
            settling_since: now,
            sampled: now,
            sample_at: now,
            untold: (0, 0),
            event_tokens: EVENTS_BURST,
            event_token_at: now,
            leap: first.kernel.leap,
            status: ClockStatus::default(),
        }
    }

    /// When the next look is due.
    #[must_use]
    pub fn due(&self) -> BootNanos {
        self.last.reading.b2.plus_ms(LOOK_MS).min(self.sample_at)
    }

    /// Since when clocks have been settling: samples are quicker for ten minutes after.
    #[must_use]
    pub fn settling_since(&self) -> BootNanos {
        self.settling_since
    }

    /// Rows for the stamp stage, oldest first.
    pub fn rows(&mut self) -> &mut VecDeque<Reading> {
        &mut self.rows
    }

    /// How all is.
    #[must_use]
    pub fn status(&self) -> ClockStatus {
        let now = self.last.reading.b1;
        ClockStatus {
            grade: self.heard.grade(now),
            sources: self.heard.status(),
            leap: self.leap.as_str().to_owned(),
            conflict: self.heard.conflict(now),
            ..self.status.clone()
        }
    }

    /// Takes a look at the clocks.
    pub fn look(&mut self, look: Look) {
        let before = std::mem::replace(&mut self.last, look);
        let now = look.reading.b1;
        self.slept(&before, &look);
        if let Some(step) = self.wall.look(&look) {
            self.stepped(step, now);
        }
        self.tell_step(false);
        self.leapt(look.kernel.leap);
        if now >= self.sample_at {
            self.sample();
        }
        for edge in self.receivers.due(now) {
            self.edge(&edge);
        }
    }

    /// Takes what a source said; the last look is of now.
    pub fn report(&mut self, report: Report) {
        match report {
            Report::Chrony { tracking, asked, guaranteed } => {
                let reading = self.last.reading;
                let (bracket, age) = (reading.b2.since(reading.b1), reading.b2.since(asked));
                let claim = tracking.claim(bracket, age, guaranteed);
                let follows = format!("{} ({:08X})", tracking.name, tracking.ref_id);
                self.daemon(self.smeared(claim), Some(tracking.offset_ns), Some(follows));
            }
            Report::Pulse { from, wall, utc } => self.pulse(&from, wall, utc),
            Report::Sentence { from, at, utc } => self.sentence(from, at, utc),
            Report::Hardware { from, before, shown, after, tai } => {
                self.hardware(&from, before, shown, after, tai);
            }
            Report::Silent { source, why, wanted } => {
                let now = self.last.reading.b1;
                if let Some(change) = self.heard.silent(now, source, &why, wanted) {
                    self.changed(source, change);
                }
            }
            Report::Refused { source, why } => self.refuse(source, &why),
        }
    }

    /// Takes an exchange with a collector: UTC was at most T2 + e_c at T1, and at least T3 − e_c at T4.
    pub fn exchanged(&mut self, exchange: ClockExchange) {
        self.push(track::exchange(exchange));
        let ClockExchange { t1, t2, t3, t4, e_c_ns, grade, .. } = exchange;
        let at = t1.plus_ns(t4.since(t1) / 2);
        let hi = t2.plus_ns(e_c_ns).plus_ns(at.since(t1));
        let lo = t3.plus_ns(e_c_ns.saturating_neg()).plus_ns(t4.since(at).saturating_neg());
        let half_ns = (hi.since(lo) / 2).saturating_add(1);
        let utc = lo.plus_ns(hi.since(lo) / 2);
        let detail = format!("round trip {} ms", exchange.rtt_ns() / NS_PER_MS);
        let claim = Claim::new(TimeSource::CollectorExchange, Some(half_ns), grade, detail);
        let word = if half_ns > 0 { Word::Around(Anchor { at, utc, half_ns }) } else { Word::Nothing };
        let offset = utc.since(self.wall.at(at));
        let change = self.heard.hear(self.last.reading.b1, claim, word, Some(offset), None);
        if let Some(change) = change {
            self.changed(TimeSource::CollectorExchange, change);
        }
    }

    fn slept(&mut self, before: &Look, look: &Look) {
        let asleep = look.asleep_ns.saturating_sub(before.asleep_ns);
        if asleep < SLEEP_NS_MIN {
            return;
        }
        self.status.suspends = self.status.suspends.saturating_add(1);
        let now = look.reading.b1;
        let detail = format!("for {} ms", asleep / NS_PER_MS);
        let event = |kind, at: BootNanos, real| Event {
            kind,
            source: TimeSource::Nobody,
            at,
            real,
            step_ns: None,
            detail: detail.clone(),
        };
        let suspend = event(EventKind::Suspend, before.reading.b2, before.reading.real);
        let resume = event(EventKind::Resume, now, look.reading.real);
        self.push_row(track::event(&suspend));
        self.push_row(track::event(&resume));
        self.settle(now);
    }

    fn stepped(&mut self, step: i64, now: BootNanos) {
        let (n, largest) = self.untold;
        let counts = step.saturating_abs() >= STEP_NS_MIN;
        self.untold = (n.saturating_add(1), largest.max(step.saturating_abs()));
        if counts {
            count(Counter::ClockSteps, 1);
            self.status.steps = self.status.steps.saturating_add(1);
            self.status.last_step_ns = Some(step);
            self.settle(now);
        }
    }

    /// Clocks settle anew: the next sample is soon, though never sooner than in the quick rhythm.
    fn settle(&mut self, now: BootNanos) {
        self.settling_since = now;
        self.sample_at = self.sample_at.min(self.sampled.plus_ms(track::SAMPLE_FIRST_MS));
    }

    /// Tells the steps since the last event, if they are worth it and the budget allows, or if they must be told now.
    fn tell_step(&mut self, must: bool) {
        let now = self.last.reading.b1;
        while self.event_tokens < EVENTS_BURST && now >= self.event_token_at.plus_ms(EVENT_MS) {
            self.event_tokens += 1;
            self.event_token_at = self.event_token_at.plus_ms(EVENT_MS);
        }
        if self.event_tokens == EVENTS_BURST {
            self.event_token_at = now;
        }
        let (n, largest) = self.untold;
        let step = self.wall.untold_ns();
        if n == 0 || step.saturating_abs().max(largest) < STEP_NS_MIN || (self.event_tokens == 0 && !must) {
            return;
        }
        self.event_tokens = self.event_tokens.saturating_sub(1);
        self.untold = (0, 0);
        self.wall.told();
        let second = step.saturating_abs().saturating_sub(NS_PER_S).saturating_abs();
        let is_leap = self.leap != Leap::None && second < LEAP_SLACK_NS;
        let event = Event {
            kind: if is_leap { EventKind::Leap } else { EventKind::Step },
            source: TimeSource::Nobody,
            at: now,
            real: self.last.reading.real,
            step_ns: Some(step),
            detail: if n == 1 { String::new() } else { format!("{n} steps in all") },
        };
        self.push_row(track::event(&event));
    }

    fn leapt(&mut self, leap: Leap) {
        let before = std::mem::replace(&mut self.leap, leap);
        if before != leap {
            // What breaks the line of UTC is the second itself, seen as a step; this only tells that one will come.
            let what = format!("announces leap second: {}, before: {}", leap.as_str(), before.as_str());
            self.changed(TimeSource::Kernel, what);
        }
    }

    fn changed(&mut self, source: TimeSource, what: String) {
        let reading = self.last.reading;
        self.push(track::event(&Event {
            kind: EventKind::SourceChange,
            source,
            at: reading.b1,
            real: reading.real,
            step_ns: None,
            detail: format!("{} {what}", source.as_str()),
        }));
    }

    /// What the kernel says, unless chronyd, which tells the kernel, was heard itself.
    fn sample(&mut self) {
        let now = self.last.reading.b1;
        (self.sampled, self.sample_at) = (now, track::next_sample(self.settling_since, now));
        if self.heard.bounds(TimeSource::Chrony, now) {
            return;
        }
        let claim = self.smeared(kernel_claim(&self.last));
        self.daemon(claim, None, None);
    }

    /// A row for the wall clock with what someone claims of it.
    fn daemon(&mut self, claim: Claim, offset_ns: Option<i64>, follows: Option<String>) {
        let Look { reading, kernel, .. } = self.last;
        self.push(track::sample(Bracket::from(reading), &claim, kernel.freq_ppb));
        let source = claim.source;
        let word = claim.half_ns.map_or(Word::Nothing, |half_ns| {
            Word::Around(Anchor { at: reading.b1, utc: reading.real, half_ns })
        });
        let change = self.heard.hear(reading.b1, claim, word, offset_ns, follows);
        if let Some(change) = change {
            self.changed(source, change);
        }
    }

    fn smeared(&self, claim: Claim) -> Claim {
        Claim { half_ns: claim.half_ns.map(|half| half.saturating_add(self.settings.smear_ns)), ..claim }
    }

    fn hardware(&mut self, from: &str, before: UtcNanos, shown: UtcNanos, after: UtcNanos, tai: bool) {
        let source = TimeSource::Ptp;
        let tai_s = self.last.kernel.tai_s;
        let now = self.last.reading.b2;
        let (Some(first), Some(last)) = (self.wall.boot_of(before, now), self.wall.boot_of(after, now))
        else {
            return self.refuse(source, "the wall clock was set while it was read");
        };
        let real = match (tai, tai_s) {
            (false, _) => shown,
            (true, Some(tai_s)) => shown.plus_ns(i64::from(tai_s).saturating_mul(NS_PER_S).saturating_neg()),
            (true, None) => {
                return self.refuse(source, "it counts TAI, and the kernel does not know TAI − UTC");
            }
        };
        if last.hi < first.lo {
            return self.refuse(source, "it was read after it was asked");
        }
        let half = self.settings.ptp_half_ns.saturating_add(self.settings.smear_ns);
        let claim = Claim::new(source, Some(half), Grade::Estimated, from.to_owned());
        let bracket = Bracket { b1: first.lo, real, b2: last.hi, raw_ns: None };
        self.push(track::sample(bracket, &claim, None));
        let offset = real.since(self.wall.at(bracket.b1));
        let word = Word::Around(Anchor {
            at: bracket.b1,
            utc: real,
            half_ns: half.saturating_add(bracket.b2.since(bracket.b1)),
        });
        let change = self.heard.hear(self.last.reading.b1, claim, word, Some(offset), Some(from.to_owned()));
        if let Some(change) = change {
            self.changed(source, change);
        }
    }

    fn sentence(&mut self, from: String, at: Arrival, utc: UtcNanos) {
        let source = TimeSource::GpsSerial;
        let at = match at {
            Arrival::Boot(at) => at,
            // The end of the span: UTC had come by then, whenever within it the sentence did.
            Arrival::Wall(wall) => match self.wall.boot_of_word(wall, self.last.reading.b2) {
                Some(span) => span.hi,
                None => return self.refuse(source, NOT_OF_THIS_CLOCK),
            },
        };
        if !(0..=WORD_AGE_NS_MAX).contains(&self.last.reading.b2.since(at)) {
            return self.refuse(source, "it is not of now");
        }
        if !super::gps::is_plausible(utc, self.settings.floor) {
            return self.refuse(source, &format!("{from} claims a date that cannot be, {utc:?}"));
        }
        let sentence = Sentence { at, utc };
        let edge = self.receivers.sentence(from, sentence);
        if let Some(edge) = edge {
            self.edge(&edge);
        }
    }

    /// A row for a pulse or a sentence.
    pub(super) fn edge(&mut self, edge: &Edge) {
        self.push(track::edge(edge));
        count(Counter::ClockEdges, 1);
        let Edge { at, utc, claim } = edge;
        let word = match claim.half_ns {
            Some(half_ns) => Word::Around(Anchor { at: *at, utc: *utc, half_ns }),
            None => Word::AtLeast(Sentence { at: *at, utc: *utc }),
        };
        let offset = utc.since(self.wall.at(*at));
        let (now, source) = (self.last.reading.b1, claim.source);
        if let Some(change) = self.heard.hear(now, claim.clone(), word, Some(offset), None) {
            self.changed(source, change);
        }
    }

    pub(super) fn refuse(&mut self, source: TimeSource, why: &str) {
        count(Counter::ClockRefused, 1);
        tracing::debug!(source = source.as_str(), why, "word of a time source is not used");
        self.status.refused = self.status.refused.saturating_add(1);
        self.status.last_refused = Some(format!("{}: {why}", source.as_str()));
    }

    /// A row; what it says must be read after the steps before it.
    fn push(&mut self, row: Reading) {
        self.tell_step(true);
        self.push_row(row);
    }

    fn push_row(&mut self, row: Reading) {
        if self.rows.len() >= ROWS_MAX {
            self.rows.pop_front();
            count(Counter::ClockRowsLost, 1);
        }
        self.rows.push_back(row);
    }
}
