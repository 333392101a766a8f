//! Pulses and sentences of GPS receivers: which of them become rows, and which second a pulse is.

use super::gps::{Sentence, is_plausible};
use super::observer::{NOT_OF_THIS_CLOCK, Observer};
use crate::stamp::track::{Claim, Edge, TimeSource};
use headwater_core::time::{BootNanos, Grade, NS_PER_MS, NS_PER_S, UtcNanos};
use std::collections::BTreeMap;

/// Receivers remembered; beyond it the words of others are not used.
const RECEIVERS_MAX: usize = 8;
/// Between two rows of one receiver in the first minute, ms.
const QUICK_MS: u64 = 1_000;
/// How long that is, ms.
const QUICK_FOR_MS: u64 = 60_000;
/// Between two rows later, ms.
const SLOW_MS: u64 = 16_000;
/// How long after a pulse of gpsd's the devices' own are not used, ms.
const GPSD_MS: u64 = 60_000;
/// Latency assumed where none is declared, ns: of a pulse by USB, polled every ms. It guarantees nothing.
const LATENCY_NS: i64 = 2 * NS_PER_MS;
/// How much before its second a receiver's pulse may come, ns: quantisation and cable compensation.
const EARLY_NS: i64 = 1_000;

#[derive(Debug)]
struct Receiver {
    pulse_at: BootNanos,
    /// The sentence of this window that was least late.
    best: Option<Sentence>,
    window_ends: BootNanos,
}

/// By name.
#[derive(Debug)]
pub(super) struct Receivers {
    started: BootNanos,
    by_name: BTreeMap<String, Receiver>,
    /// The last sentence of any.
    last: Option<Sentence>,
    /// When gpsd last told a pulse.
    gpsd_pulse: Option<BootNanos>,
}

impl Receivers {
    pub(super) fn new(started: BootNanos) -> Self {
        Self { started, by_name: BTreeMap::new(), last: None, gpsd_pulse: None }
    }

    fn next(&self, now: BootNanos) -> BootNanos {
        let quick = now < self.started.plus_ms(QUICK_FOR_MS);
        now.plus_ms(if quick { QUICK_MS } else { SLOW_MS })
    }

    fn receiver(&mut self, name: &str, now: BootNanos) -> Option<&mut Receiver> {
        if !self.by_name.contains_key(name) {
            if self.by_name.len() >= RECEIVERS_MAX {
                return None;
            }
            let fresh = Receiver { pulse_at: now, best: None, window_ends: now };
            self.by_name.insert(name.to_owned(), fresh);
        }
        self.by_name.get_mut(name)
    }

    /// Takes a sentence. The first of a receiver is a row at once, later the least late of each window is.
    pub(super) fn sentence(&mut self, from: String, sentence: Sentence) -> Option<Edge> {
        self.last = Some(sentence);
        let now = sentence.at;
        let next = self.next(now);
        let receiver = self.receiver(&from, now)?;
        let lead = |sentence: &Sentence| sentence.utc.0.saturating_sub(sentence.at.0);
        if receiver.best.is_none_or(|best| lead(&sentence) > lead(&best)) {
            receiver.best = Some(sentence);
        }
        if now < receiver.window_ends {
            return None;
        }
        receiver.window_ends = next;
        receiver.best.take().map(|best| edge_of(&from, best))
    }

    /// The best sentences of windows that are over, though nothing more came.
    pub(super) fn due(&mut self, now: BootNanos) -> Vec<Edge> {
        let next = self.next(now);
        let over = self.by_name.iter_mut().filter(|(_, receiver)| now >= receiver.window_ends);
        over.filter_map(|(name, receiver)| {
            let best = receiver.best.take()?;
            receiver.window_ends = next;
            Some(edge_of(name, best))
        })
        .collect()
    }

    /// Whether a pulse of this receiver would be a row.
    fn wants_pulse(&mut self, name: &str, now: BootNanos) -> bool {
        self.receiver(name, now).is_some_and(|receiver| now >= receiver.pulse_at)
    }

    fn took_pulse(&mut self, name: &str, now: BootNanos) {
        let next = self.next(now);
        if let Some(receiver) = self.by_name.get_mut(name) {
            receiver.pulse_at = next;
        }
    }
}

fn edge_of(from: &str, sentence: Sentence) -> Edge {
    // Without a half width a claim is worth nothing, but here what is claimed is the one bound it has.
    let claim = Claim {
        source: TimeSource::GpsSerial,
        half_ns: None,
        grade: TimeSource::GpsSerial.best_grade(),
        detail: from.to_owned(),
    };
    Edge { at: sentence.at, utc: sentence.utc, claim }
}

/// How the second of a pulse became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbered {
    utc: UtcNanos,
    by: &'static str,
    /// Someone else says the same, or the source itself pairs pulses with its sentences.
    sure: bool,
}

impl Observer {
    /// A pulse: a row for each second that it may be. The stamp is moved to the end of its span, and the declared latency
    /// grows by as much, so that `utc ≤ U(at) ≤ utc + half` holds if the declaration does.
    pub(super) fn pulse(&mut self, from: &str, wall: UtcNanos, utc: Option<UtcNanos>) {
        let (source, now) = (TimeSource::GpsPps, self.last.reading.b1);
        if utc.is_some() {
            self.receivers.gpsd_pulse = Some(now);
        }
        // gpsd reads the same devices: told twice, one pulse would count for two.
        let twice = utc.is_none() && self.receivers.gpsd_pulse.is_some_and(|at| now < at.plus_ms(GPSD_MS));
        if twice || !self.receivers.wants_pulse(from, now) {
            return;
        }
        let Some(span) = self.wall.boot_of_word(wall, self.last.reading.b2) else {
            return self.refuse(source, NOT_OF_THIS_CLOCK);
        };
        if utc.is_some_and(|utc| !is_plausible(utc, self.settings.floor)) {
            return self.refuse(source, &format!("{from} claims a date that cannot be, {utc:?}"));
        }
        let declared = self.settings.pps_latency_ns;
        let latency = declared.unwrap_or(LATENCY_NS);
        let numbered = self.numbered(span.lo, utc, latency);
        if numbered.is_empty() {
            return self.refuse(source, &format!("nobody knows which second a pulse of {from} is"));
        }
        self.receivers.took_pulse(from, now);
        let at = span.hi.plus_ns(EARLY_NS);
        let half = latency.saturating_add(at.since(span.lo)).saturating_add(1);
        for Numbered { utc, by, sure } in numbered {
            let grade = if sure && declared.is_some() { Grade::Guaranteed } else { Grade::Estimated };
            let claim = Claim::new(source, Some(half), grade, format!("{from} numbered by {by}"));
            self.edge(&Edge { at, utc, claim });
        }
    }

    /// Who says which second came at `at`. Those who disagree are all told, and nobody is sure then.
    fn numbered(&self, at: BootNanos, own: Option<UtcNanos>, latency_ns: i64) -> Vec<Numbered> {
        let clock = self.heard.anchor(at).and_then(|anchor| anchor.second(latency_ns));
        let own = match own {
            Some(utc) => Some((utc, "gpsd", true)),
            None => {
                let sentence = self.receivers.last.and_then(|sentence| sentence.second_of(at));
                sentence
                    .filter(|utc| is_plausible(*utc, self.settings.floor))
                    .map(|utc| (utc, "sentences", false))
            }
        };
        match (own, clock) {
            (Some((utc, by, sure)), None) => vec![Numbered { utc, by, sure }],
            (None, Some(utc)) => vec![Numbered { utc, by: "the clock", sure: false }],
            (Some((utc, by, _)), Some(other)) if utc.since(other).saturating_abs() < NS_PER_S / 2 => {
                vec![Numbered { utc, by, sure: true }]
            }
            (Some((utc, by, _)), Some(other)) => {
                vec![Numbered { utc, by, sure: false }, Numbered { utc: other, by: "the clock", sure: false }]
            }
            (None, None) => Vec::new(),
        }
    }
}
