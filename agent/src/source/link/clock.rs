//! The clock of an attached board, and where it met the gateway's.
//!
//! A board stamps its samples itself, on a clock that begins when the board does. That clock gets a name (`device:N`)
//! of its own for every boot of the board and every opening of the port; the mapping to boot time is made at the
//! collector from the exchanges kept here: B(t2) ≥ t1 + w_ping and B(t3) ≤ t4 − w_pong, each true by cause and effect
//! whatever was queued where. An exchange that cannot be is refused, and a clock that did what no clock of its rate can
//! do is another clock from there on.

mod met;
mod pinging;

use super::super::arrival::{ReadAt, WireTime};
use super::super::framing::{Decoded, Notice};
use crate::domains::DomainNumbers;
use crate::telemetry::Counter;
use headwater_core::id::StreamName;
use headwater_core::ports::{DeviceClockEvent, SourceEvent};
use headwater_core::time::{BootNanos, ClockDomain, Grade, Latency};
use headwater_shims::link::{Header, Identity, Pong, T2Point};
use headwater_shims::rx::TIME_BACK_US_MAX;
use met::{Met, RHO_UNKNOWN_PPB};
use pinging::{Pinging, Refused};
use std::collections::BTreeSet;

/// Device times above this, µs, are none: 140 years.
const TIME_US_MAX: u64 = 1 << 52;
/// New clocks that a port may have at once, and between two beyond that, ns: a board in a boot loop, a loose cable.
const NEW_CLOCKS_MAX: i64 = 8;
const NEW_CLOCK_NS: i64 = 5_000_000_000;
/// One exchange is kept of each of these windows: the one that was under way the shortest.
const WINDOW_NS: i64 = 10_000_000_000;
/// The same while a clock is new: its first rows want a bound soon.
const WINDOW_FIRST_NS: i64 = 1_000_000_000;
/// How many of those.
const WINDOWS_FIRST: u32 = 3;
/// A board that gave no answer for this long, ns, is taken at its arrivals.
const ANSWERS_WITHIN_NS: i64 = 3_000_000_000;

/// How a board's clock is used.
#[derive(Debug, Clone)]
pub struct ClockUse {
    /// Names nobody had; `None` stamps every sample by its arrival.
    pub numbers: Option<DomainNumbers>,
    /// The line.
    pub wire: WireTime,
}

impl ClockUse {
    /// Samples are stamped by arrival.
    pub const ARRIVAL: ClockUse = ClockUse { numbers: None, wire: WireTime::NONE };
}

/// What the board says of its clock.
#[derive(Debug, Clone)]
struct About {
    nonce: u32,
    rho_ppb: i64,
    tick_ns: i64,
    t2_point: T2Point,
    uid: String,
}

/// One clock.
#[derive(Debug)]
struct Current {
    domain: ClockDomain,
    nonce: Option<u32>,
    newest_us: u64,
    /// Streams of which a sample was seen.
    seen: BTreeSet<u8>,
    /// The exchange all later ones must agree with.
    last: Option<Met>,
    /// The best of this window.
    best: Option<Met>,
    /// The sample of this window that came soonest after its time, and by how much on two clocks, ns: all there is of a
    /// board that does not answer.
    soonest: Option<(i64, Met)>,
    windows: u32,
    window_ends: Option<BootNanos>,
}

/// A SAMPLE that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    pub(super) stream: u8,
    /// It says that it is the first of its stream.
    pub(super) first: bool,
    /// Device times of its first and its last row.
    pub(super) t_us: u64,
    pub(super) newest_us: u64,
    pub(super) at: BootNanos,
    /// How much earlier than `at` it was taken, as far as its arrival tells.
    pub(super) latency: Latency,
}

/// The clock of the board at the other end.
#[derive(Debug)]
pub(super) struct DeviceClock {
    base: StreamName,
    uses: ClockUse,
    now: Option<Current>,
    about: Option<About>,
    pinging: Pinging,
    /// The next clock is another one whatever its numbers say.
    opened: bool,
    /// New clocks that may be, in ns of waiting.
    credit_ns: i64,
    credited: Option<BootNanos>,
    /// Answers came faster than the declared line can carry them: it is not what was declared.
    unpaced: bool,
}

impl DeviceClock {
    pub(super) fn new(base: StreamName, uses: ClockUse) -> Self {
        Self {
            base,
            uses,
            now: None,
            about: None,
            pinging: Pinging::default(),
            opened: false,
            credit_ns: NEW_CLOCKS_MAX.saturating_mul(NEW_CLOCK_NS),
            credited: None,
            unpaced: false,
        }
    }

    /// By how much ticks of a coarse clock cut a time beyond the link's µs, ns, in whole µs.
    pub(super) fn cut_ns(&self) -> u32 {
        let tick = self.about.as_ref().map_or(0, |about| about.tick_ns);
        let us = if tick > 1_000 { tick.saturating_add(999).div_euclid(1_000) } else { 0 };
        u32::try_from(us.saturating_mul(1_000)).unwrap_or(u32::MAX)
    }

    /// The port was opened: whoever speaks now is another clock, and owes no answer.
    pub(super) fn reopened(&mut self, now: BootNanos, out: &mut Decoded) {
        self.flush(now, out);
        self.opened = self.now.is_some();
        self.pinging.begin(now);
    }

    pub(super) fn identity(&mut self, identity: &Identity<'_>, at: BootNanos, out: &mut Decoded) {
        let rho_ppb = rho_ppb(identity.clock_ppm);
        self.boot(identity.boot_nonce, at, out);
        self.about = Some(About {
            nonce: identity.boot_nonce,
            rho_ppb,
            tick_ns: identity.tick_ns.into(),
            t2_point: identity.t2_point,
            uid: identity.uid.to_owned(),
        });
    }

    /// A frame told the number of the board's boot.
    pub(super) fn boot(&mut self, nonce: u32, at: BootNanos, out: &mut Decoded) {
        match &mut self.now {
            Some(now) if !self.opened && now.nonce.is_none_or(|known| known == nonce) => {
                now.nonce = Some(nonce)
            }
            Some(_) if self.opened => self.begin(at, Some(nonce), "the port was opened again", out),
            Some(_) => self.begin(at, Some(nonce), "the board started again", out),
            None => self.begin(at, Some(nonce), "first heard", out),
        }
    }

    /// A frame of the board carries its time.
    pub(super) fn time(&mut self, t_us: u64, at: BootNanos, out: &mut Decoded) {
        if t_us > TIME_US_MAX {
            return;
        }
        if let Some(now) = &mut self.now {
            if t_us.saturating_add(TIME_BACK_US_MAX) >= now.newest_us {
                now.newest_us = now.newest_us.max(t_us);
                return;
            }
            self.begin(at, None, "its time went back", out);
        }
        if let Some(now) = &mut self.now {
            now.newest_us = t_us;
        }
    }

    /// A SAMPLE came; gives the clock its stamps are on, `None` if only its arrival is known.
    pub(super) fn sample(&mut self, came: Came, out: &mut Decoded) -> Option<ClockDomain> {
        let Came { stream, first, newest_us, at, .. } = came;
        self.uses.numbers.as_ref()?;
        if newest_us > TIME_US_MAX || came.t_us > newest_us {
            out.notices.push(Notice::Count(Counter::DeviceTimesRefused, 1));
            return None;
        }
        let again = self.now.as_ref().is_some_and(|now| first && now.seen.contains(&stream));
        match (&self.now, self.opened) {
            (None, _) => self.begin(at, None, "first heard", out),
            (Some(_), true) => self.begin(at, None, "the port was opened again", out),
            (Some(_), false) if again => self.begin(at, None, "the board started again", out),
            _ => {}
        }
        self.time(newest_us, at, out);
        let last = self.now.as_ref().and_then(|now| now.last.as_ref());
        if last.is_some_and(|last| last.earliest(newest_us) > at.0) {
            self.begin(at, self.nonce(), "its clock jumped ahead", out);
            self.time(newest_us, at, out);
        }
        let rho_ppb = self.about.as_ref().map_or(RHO_UNKNOWN_PPB, |about| about.rho_ppb);
        let now = self.now.as_mut()?;
        now.seen.insert(stream);
        if now.last.is_none() {
            let met = Met::of_arrival(newest_us, at, came.latency, rho_ppb);
            let behind =
                at.0.saturating_sub(i64::try_from(newest_us).unwrap_or(i64::MAX).saturating_mul(1_000));
            if now.soonest.as_ref().is_none_or(|(least, _)| behind < *least) {
                now.soonest = Some((behind, met));
            }
            now.window_ends.get_or_insert(at.plus_ns(ANSWERS_WITHIN_NS));
        }
        Some(now.domain)
    }

    /// A PONG of `own` bytes came, with `after` more behind it in the same read.
    pub(super) fn pong(
        &mut self,
        header: Header,
        pong: &Pong,
        read: ReadAt,
        bytes: (usize, usize),
        out: &mut Decoded,
    ) {
        let before = self.now.as_ref().map(|now| now.domain);
        self.boot(pong.boot_nonce, read.at, out);
        self.time(header.t_us, read.at, out);
        let answer = match self.pinging.answered(header.seq, pong.t1_us) {
            // Its question went to another clock, or its clock's rate is not known yet.
            Ok(_) if self.now.as_ref().map(|now| now.domain) != before => return,
            Ok(asked) => self.judge(asked, header.t_us, pong.t2_us, read, bytes, out),
            Err(why) => Err(why),
        };
        match answer {
            Ok(Some(met)) => self.keep(met, read.at, out),
            Ok(None) => {}
            Err(_) => out.notices.push(Notice::Count(Counter::PongsRefused, 1)),
        }
    }

    fn judge(
        &mut self,
        asked: pinging::Asked,
        t3_us: u64,
        t2_us: u64,
        read: ReadAt,
        (own, after): (usize, usize),
        out: &mut Decoded,
    ) -> Result<Option<Met>, Refused> {
        // Its rate stands in a HELLO of the same boot.
        let about = self.about.as_ref().filter(|about| Some(about.nonce) == self.nonce());
        let Some(about) = about else { return Ok(None) };
        let (rho_ppb, tick_ns) = (about.rho_ppb, about.tick_ns);
        let heard_bytes = match about.t2_point {
            T2Point::FirstByte => 1,
            T2Point::Delimiter => asked.bytes,
        };
        let met =
            Met::of_answer(asked.t1, (t2_us, t3_us), read.at, tick_ns, rho_ppb).ok_or(Refused::Impossible)?;
        let wire = if self.unpaced { WireTime { paced: false, ..self.uses.wire } } else { self.uses.wire };
        let paced = met.paced(wire.least_ns(heard_bytes), wire.least_ns(own.saturating_add(after)));
        let met = paced.unwrap_or_else(|plain| {
            self.unpaced = true;
            out.notices.push(Notice::Trouble(Some(
                "answers come faster than a line of this baud rate carries them, so no time on the wire is taken off: \
                 remove `paced = true`, or correct `baud`"
                    .to_owned(),
            )));
            out.notices.push(Notice::Count(Counter::PacedRefuted, 1));
            plain
        });
        Ok(Some(met))
    }

    fn keep(&mut self, met: Met, at: BootNanos, out: &mut Decoded) {
        let agrees = self.now.as_ref().and_then(|now| now.last.as_ref()).is_none_or(|last| last.agrees(&met));
        if !agrees {
            self.begin(at, self.nonce(), "its clock jumped or stood still", out);
        }
        let Some(now) = &mut self.now else { return };
        if now.last.is_none() {
            // What was made of arrivals is not needed beside a real exchange.
            (now.soonest, now.window_ends) = (None, None);
        }
        now.window_ends.get_or_insert(at.plus_ns(window_ns(now.windows)));
        self.pinging.met(at);
        out.notices.push(Notice::Count(Counter::DeviceExchanges, 1));
        out.notices.push(Notice::ClockMet { domain: now.domain, rtt_ns: met.lag_ns(), at });
        if now.best.as_ref().is_none_or(|best| met.lag_ns() < best.lag_ns()) {
            now.best = Some(met.clone());
        }
        now.last = Some(met);
    }

    fn nonce(&self) -> Option<u32> {
        self.now.as_ref().and_then(|now| now.nonce)
    }

    /// Another clock begins, if one may: else samples are stamped by their arrival until then.
    fn begin(&mut self, at: BootNanos, nonce: Option<u32>, why: &str, out: &mut Decoded) {
        self.flush(at, out);
        self.now = None;
        self.opened = false;
        let waited = self.credited.map_or(0, |before| at.since(before).max(0));
        self.credit_ns =
            self.credit_ns.saturating_add(waited).min(NEW_CLOCKS_MAX.saturating_mul(NEW_CLOCK_NS));
        self.credited = Some(at);
        let Some(numbers) = &self.uses.numbers else { return };
        let domain = if self.credit_ns >= NEW_CLOCK_NS { numbers.take() } else { None };
        let Some(domain) = domain else {
            return out.notices.push(Notice::Count(Counter::DeviceClocksRefused, 1));
        };
        self.credit_ns = self.credit_ns.saturating_sub(NEW_CLOCK_NS);
        self.now = Some(Current {
            domain,
            nonce,
            newest_us: 0,
            seen: BTreeSet::new(),
            last: None,
            best: None,
            soonest: None,
            windows: 0,
            window_ends: None,
        });
        self.pinging.begin(at);
        out.notices.push(Notice::Count(Counter::DeviceClocks, 1));
        let uid = self.about.as_ref().map_or("a board", |about| about.uid.as_str());
        let detail = format!("{uid} on {}: {why}", self.base);
        let event = DeviceClockEvent::Begins { domain, at, detail };
        out.events.push_back(SourceEvent::DeviceClock(event));
    }

    /// Asks the board, if it is time; gives the PING's header fields (seq, t1 in µs). Boards whose clock is not used are
    /// asked too: until they are they repeat their HELLO.
    pub(super) fn ask(&mut self, now: BootNanos, bytes: usize, out: &mut Decoded) -> Option<(u16, u64)> {
        self.pinging.ask(now, bytes, out)
    }

    /// Does what is due beside asking: a window that is over gives out its best exchange.
    pub(super) fn poll(&mut self, now: BootNanos, out: &mut Decoded) {
        if self.now.as_ref().and_then(|clock| clock.window_ends).is_some_and(|ends| ends <= now) {
            self.flush(now, out);
        }
    }

    pub(super) fn ask_at(&self) -> BootNanos {
        self.pinging.ask_at()
    }

    pub(super) fn window_ends(&self) -> Option<BootNanos> {
        self.now.as_ref().and_then(|now| now.window_ends)
    }

    /// Gives out the best of the window and begins the next one.
    fn flush(&mut self, at: BootNanos, out: &mut Decoded) {
        let detail = self.about.as_ref().map_or_else(String::new, |about| about.uid.clone());
        let Some(now) = &mut self.now else { return };
        let exchange = match (now.best.take(), now.soonest.take()) {
            (Some(met), _) => met.exchange(now.domain, Grade::Guaranteed, detail),
            // A board that only talks is bounded by the latency that is taken for granted.
            (None, Some((_, met))) => {
                met.exchange(now.domain, Grade::Estimated, format!("{detail} by arrival"))
            }
            (None, None) => {
                now.window_ends = None;
                return;
            }
        };
        now.windows = now.windows.saturating_add(1);
        now.window_ends = Some(at.plus_ns(window_ns(now.windows)));
        out.events.push_back(SourceEvent::DeviceClock(DeviceClockEvent::Met(exchange)));
    }
}

/// How far boot time may run off the time of a clock that runs off by `ppm`, ppb: a clock that is slow by x lets
/// 1 / (1 − x) pass for each of its seconds. 0 ppm is not known.
fn rho_ppb(ppm: u16) -> i64 {
    match i64::from(ppm) {
        0 => RHO_UNKNOWN_PPB,
        ppm => {
            ppm.saturating_mul(1_000_000_000).div_euclid(1_000_000_i64.saturating_sub(ppm)).saturating_add(1)
        }
    }
}

fn window_ns(windows: u32) -> i64 {
    if windows < WINDOWS_FIRST { WINDOW_FIRST_NS } else { WINDOW_NS }
}

#[cfg(test)]
mod tests;
