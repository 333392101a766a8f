//! The boots of one spool's life: those that met a clock, and those in between that did not.
//!
//! A boot without a clock lies after the last moment known of an earlier one and before the first of a later one, and
//! before the receipt of its samples; boots between take their own length away. How long the gateway was off is unknown
//! and assumed to be nothing. Such an interval promises order only.

mod bracket;
#[cfg(test)]
mod tests;

use super::device::{DeviceTrack, OnBoot};
use super::statement::{ClockEvent, Constraint, DeviceExchange, RawReading, Receipt, Statement};
use super::track::{Cursor, Evidence, Params, Placed, Track};
use super::{BootNanos, ClockDomain, Grade, UtcNanos, clamp_i64};
use crate::id::BootOrdinal;
use bracket::Brackets;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Statements of each kind kept per boot: three days of samples, exchanges and halves at 64 s each. Older ones are
/// forgotten, which only widens the bounds of a backlog older than that.
pub const STATEMENTS_MAX: usize = 12_288;
/// Events and claimed rates kept per boot: a clock that is stepped once a minute for half a day is broken.
pub const EVENTS_MAX: usize = 1_024;
/// Boots kept: older ones have shipped their backlog, and what comes later gets a wide bracket.
pub const BOOTS_MAX: usize = 64;
/// Device clocks kept per boot: a microcontroller that restarts every minute for hours is broken.
pub const DOMAINS_MAX: usize = 256;
/// Without receipt, clock or neighbour (a question no landed sample asks) a bracket is a day wide, ns.
const WIDE_NS: i64 = 86_400_000_000_000;

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It counts; so many older ones were forgotten for it.
    Taken(usize),
    /// It was known.
    Known,
    /// It speaks of a time before the floor (a GPS receiver whose weeks rolled over, a clock in 1970).
    TooEarly,
    /// It speaks of a time after its own receipt.
    TooLate,
    /// There are too many of its kind.
    Full,
}

/// One event to be placed in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Event time on the boot line.
    pub event: BootNanos,
    /// Its own half width, from the capture latency, ns.
    pub half_ns: i64,
}

/// A placed event: the truth lies in [ts − err, ts + err] as far as the grade promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The best single guess.
    pub ts: UtcNanos,
    /// Its greatest distance from the ends of the interval, ns, saturating.
    pub err_ns: i64,
    /// What it promises.
    pub grade: Grade,
    /// The points contradicted each other and the interval is their hull.
    pub conflict: bool,
}

#[derive(Debug, Clone, Default)]
struct Boot {
    evidence: Evidence,
    devices: BTreeMap<ClockDomain, Vec<DeviceExchange>>,
    /// The receipt that says most of every other moment, per segment that was known when it came.
    receipts: Vec<Receipt>,
    /// Latest moment of this boot anyone spoke of.
    last: Option<BootNanos>,
    track: OnceLock<Arc<Track>>,
    domains: OnceLock<Arc<BTreeMap<ClockDomain, DeviceTrack>>>,
}

/// All boots of one spool's life.
#[derive(Debug, Clone, Default)]
pub struct Boots {
    params: Params,
    boots: BTreeMap<BootOrdinal, Boot>,
}

impl Boots {
    /// No boots yet.
    #[must_use]
    pub fn new(params: Params) -> Self {
        Self { params, boots: BTreeMap::new() }
    }

    /// Takes a statement in. `received` is UTC when it reached the collector, plus the collector's own bound; `None` if
    /// the collector's clock is nothing to go by.
    pub fn observe(&mut self, boot: BootOrdinal, statement: Statement, received: Option<UtcNanos>) -> Heard {
        if let Statement::Constraint(constraint) = &statement
            && let Some(refused) = self.refused(constraint, received)
        {
            return refused;
        }
        self.boot_mut(boot).observe(statement)
    }

    /// Takes in that samples up to a stamp were received.
    pub fn receipt(&mut self, boot: BootOrdinal, receipt: Receipt) {
        self.boot_mut(boot).receipt(receipt);
    }

    /// Boots forgotten to make room for `boot`, if it is new.
    #[must_use]
    pub fn is_full_for(&self, boot: BootOrdinal) -> bool {
        !self.boots.contains_key(&boot) && self.boots.len() >= BOOTS_MAX
    }

    /// The track that resolves a boot's samples now.
    #[must_use]
    pub fn track(&self, boot: BootOrdinal) -> Arc<Track> {
        match self.boots.get(&boot) {
            Some(known) => known.track(&self.params),
            None => Arc::new(Track::new(&Evidence::default(), &self.params)),
        }
    }

    /// Latest moment of a boot anyone spoke of.
    #[must_use]
    pub fn last(&self, boot: BootOrdinal) -> Option<BootNanos> {
        self.boots.get(&boot)?.last
    }

    /// The boots known, ascending.
    pub fn ordinals(&self) -> impl Iterator<Item = BootOrdinal> + '_ {
        self.boots.keys().copied()
    }

    /// Places moments of one boot, ascending. `answer` is called for each in turn.
    pub fn place_sorted(
        &self,
        boot: BootOrdinal,
        moments: impl IntoIterator<Item = BootNanos>,
        mut answer: impl FnMut(Placed),
    ) {
        let track = self.track(boot);
        let mut brackets = None;
        let mut cursor = Cursor::default();
        for b in moments {
            let placed = track.place_next(&mut cursor, b);
            answer(if placed.span.is_closed() {
                placed
            } else {
                let brackets = brackets.get_or_insert_with(|| self.brackets());
                brackets.narrow(boot, b, placed)
            });
        }
    }

    /// Places events of one boot, on the gateway's own clock. Answers stand in the order of the queries, and `ts` never
    /// goes back as `event` goes on.
    #[must_use]
    pub fn resolve(&self, boot: BootOrdinal, queries: &[Query]) -> Vec<Resolved> {
        let mut order: Vec<(BootNanos, usize)> =
            queries.iter().enumerate().map(|(place, query)| (query.event, place)).collect();
        if !queries.is_sorted_by_key(|query| query.event) {
            order.sort_unstable();
        }
        let mut answers = vec![Resolved::UNKNOWN; queries.len()];
        let mut places = order.iter();
        let mut latest = i64::MIN;
        self.place_sorted(boot, order.iter().map(|(event, _)| *event), |placed| {
            // Only a contradiction or a break can still turn it back; the error grows with what is given up for order.
            latest = latest.max(placed.ts);
            let place = places.next().map(|(_, place)| *place);
            if let Some((answer, query)) =
                place.and_then(|place| Some((answers.get_mut(place)?, queries.get(place)?)))
            {
                *answer = Resolved::of(Placed { ts: latest, ..placed }, query.half_ns);
            }
        });
        answers
    }

    /// Places events of an attached device's clock; `received` is the receipt of the samples. A clock that never answered
    /// a ping is known to lie between the start of the boot and that.
    #[must_use]
    pub fn resolve_device(
        &self,
        boot: BootOrdinal,
        domain: ClockDomain,
        received: UtcNanos,
        queries: &[Query],
    ) -> Vec<Resolved> {
        let known = self.boots.get(&boot);
        let domains = known.map(|known| known.domains(&self.params));
        let device = domains.as_ref().and_then(|domains| domains.get(&domain));
        match device {
            Some(device) => {
                let onto = |moments: &[BootNanos]| {
                    let mut placed = Vec::with_capacity(moments.len());
                    self.place_sorted(boot, moments.iter().copied(), |one| placed.push(one));
                    placed
                };
                device.resolve(queries, onto)
            }
            None => {
                let span = self.brackets().whole(boot, received);
                let placed = Placed { span, ts: span.middle(), ..Placed::UNKNOWN };
                queries.iter().map(|query| Resolved::of(placed, query.half_ns)).collect()
            }
        }
    }

    /// Places moments of an attached device's clock on the boot line, as its answers to pings tell; none if it never
    /// answered one.
    #[must_use]
    pub fn on_boot(&self, boot: BootOrdinal, domain: ClockDomain, moments: &[i64]) -> Option<Vec<OnBoot>> {
        let domains = self.boots.get(&boot)?.domains(&self.params);
        let device = domains.get(&domain)?;
        Some(moments.iter().map(|moment| device.place(*moment)).collect())
    }

    fn brackets(&self) -> Brackets {
        Brackets::of(
            &self.params,
            self.boots.iter().map(|(ordinal, boot)| {
                (*ordinal, boot.track(&self.params), boot.receipts.as_slice(), boot.last)
            }),
        )
    }

    /// Dates that cannot be: before anything of ours existed, or after they were told.
    fn refused(&self, constraint: &Constraint, received: Option<UtcNanos>) -> Option<Heard> {
        let claims = constraint.claims(0);
        if claims.upper.is_some_and(|claim| claim.point.utc < self.params.floor) {
            return Some(Heard::TooEarly);
        }
        let late = |received: UtcNanos| claims.lower.is_some_and(|claim| claim.point.utc > received);
        received.is_some_and(late).then_some(Heard::TooLate)
    }

    fn boot_mut(&mut self, boot: BootOrdinal) -> &mut Boot {
        // The oldest goes, unless the new one is older still: then it lives only as long as it is asked for.
        if self.is_full_for(boot)
            && let Some(oldest) = self.boots.keys().next().copied().filter(|oldest| *oldest < boot)
        {
            self.boots.remove(&oldest);
        }
        self.boots.entry(boot).or_default()
    }
}

impl Resolved {
    const UNKNOWN: Resolved =
        Resolved { ts: UtcNanos(0), err_ns: i64::MAX, grade: Grade::OrderingOnly, conflict: false };

    pub(super) fn of(placed: Placed, half_ns: i64) -> Self {
        let Placed { span, ts, grade, conflict, .. } = placed;
        let wide = |a: i64, b: i64| i128::from(a) - i128::from(b);
        let err = wide(span.hi, ts).max(wide(ts, span.lo)) + i128::from(half_ns);
        Self { ts: UtcNanos(ts), err_ns: clamp_i64(err), grade, conflict }
    }
}

impl Boot {
    fn observe(&mut self, statement: Statement) -> Heard {
        let (list_len, heard) = match statement {
            Statement::Constraint(one) => {
                let (_, last) = one.reach();
                self.last = self.last.max(Some(last));
                let list = &mut self.evidence.constraints;
                (0, insert(list, one, |one: &Constraint| (one.reach().0, *one)))
            }
            Statement::Raw(one) => {
                self.last = self.last.max(Some(one.at));
                (0, insert(&mut self.evidence.readings, one, |one: &RawReading| *one))
            }
            Statement::Device(one) => {
                self.last = self.last.max(Some(one.t4));
                if !self.devices.contains_key(&one.domain) && self.devices.len() >= DOMAINS_MAX {
                    return Heard::Full;
                }
                let list = self.devices.entry(one.domain).or_default();
                let heard = insert(list, one, |one: &DeviceExchange| (one.t1, *one));
                if !matches!(heard, Heard::Known) {
                    self.domains = OnceLock::new();
                }
                return heard;
            }
            Statement::Event { at, event } => {
                self.last = self.last.max(Some(at));
                let len = self.evidence.events.len();
                (len, added(self.evidence.events.insert((at, event))))
            }
            Statement::Rate(rho_ppb) => {
                (self.evidence.rates.len(), added(self.evidence.rates.insert(rho_ppb)))
            }
        };
        if list_len >= EVENTS_MAX && heard != Heard::Known {
            // What does not fit is left out again.
            match statement {
                Statement::Event { at, event } => self.evidence.events.remove(&(at, event)),
                Statement::Rate(rho_ppb) => self.evidence.rates.remove(&rho_ppb),
                Statement::Constraint(_) | Statement::Raw(_) | Statement::Device(_) => false,
            };
            return Heard::Full;
        }
        if heard != Heard::Known {
            self.track = OnceLock::new();
            self.domains = OnceLock::new();
        }
        heard
    }

    fn receipt(&mut self, receipt: Receipt) {
        self.last = self.last.max(Some(receipt.at));
        let breaks =
            |event: &ClockEvent| matches!(event, ClockEvent::Suspend | ClockEvent::Resume | ClockEvent::Leap);
        let ends: Vec<BootNanos> =
            self.evidence.events.iter().filter(|(_, event)| breaks(event)).map(|(at, _)| *at).collect();
        let place = |at: BootNanos| ends.partition_point(|end| *end <= at);
        let says = |one: &Receipt| i128::from(one.received.0) - i128::from(one.at.0);
        let here = place(receipt.at);
        if let Some(known) = self.receipts.iter_mut().find(|known| place(known.at) == here) {
            if says(&receipt) < says(known) {
                *known = receipt;
            }
        } else if self.receipts.len() < EVENTS_MAX {
            self.receipts.push(receipt);
        }
    }

    fn track(&self, params: &Params) -> Arc<Track> {
        Arc::clone(self.track.get_or_init(|| Arc::new(Track::new(&self.evidence, params))))
    }

    fn domains(&self, params: &Params) -> Arc<BTreeMap<ClockDomain, DeviceTrack>> {
        let built = || {
            let rho_ppb = self.track(params).rho_ppb();
            let device = |(domain, list): (&ClockDomain, &Vec<DeviceExchange>)| {
                (*domain, DeviceTrack::new(list, rho_ppb, params))
            };
            Arc::new(self.devices.iter().map(device).collect())
        };
        Arc::clone(self.domains.get_or_init(built))
    }
}

fn added(new: bool) -> Heard {
    if new { Heard::Taken(0) } else { Heard::Known }
}

/// Inserts in order; the oldest of too many goes.
fn insert<T: Copy, K: Ord>(list: &mut Vec<T>, one: T, key: impl Fn(&T) -> K) -> Heard {
    match list.binary_search_by(|kept| key(kept).cmp(&key(&one))) {
        Ok(_) => Heard::Known,
        Err(place) => {
            list.insert(place, one);
            let surplus = list.len().saturating_sub(STATEMENTS_MAX);
            list.drain(..surplus);
            Heard::Taken(surplus)
        }
    }
}
