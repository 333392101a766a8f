//! A broker that many devices and one collector hang on, with the manners that brokers and links have, by seed and on
//! tokio's paused time.
//!
//! Where [`crate::net`] is one path with weather, this is the machine in between: it gives a PUBACK before anybody
//! received the message, keeps what the collector has not settled and gives it again, forgets both when it restarts with
//! amnesia, goes on holding a link whose other end is long gone, and may close on every publish or never give a PUBACK.
//! A link is named by the ack topic its device subscribed to.

mod ends;

use crate::disk::Dice;
use headwater_core::ports::{Delivery, LinkClosed, LinkEvent};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Messages kept for a collector that is away; what comes beyond is PUBACKed and dropped, as brokers do.
const QUEUE_MAX: usize = 4_096;
/// Old messages to a device that a replay may bring again.
const OLD_MAX: usize = 16;
/// How long a connection that goes nowhere is tried, ms: the agent's own limit.
const CONNECT_MS: u64 = 30_000;

/// How the broker behaves towards everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// Largest payload it takes, bytes, as CONNACK says.
    pub payload_bytes_max: usize,
    /// Each publish of a device ends its link.
    pub closes_on_publish: bool,
    /// Messages are passed on, PUBACKs are not given.
    pub never_acks: bool,
    /// Nobody can connect; whoever is there is thrown out when this is set.
    pub away: bool,
}

impl Manners {
    /// A polite broker.
    pub const POLITE: Manners =
        Manners { payload_bytes_max: 128 * 1024, closes_on_publish: false, never_acks: false, away: false };
}

/// How a device's way to the broker is. Chances are per thousand messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Road {
    /// Messages the broker took and lost, in either direction.
    pub loss: u32,
    /// Messages that arrive twice.
    pub duplicate: u32,
    /// Time on the way, ms; a wide range reorders.
    pub delay_ms: RangeInclusive<u64>,
    /// Bytes a second in each direction.
    pub bytes_per_s: Option<u64>,
    /// No connection comes about, and what is connected hears and says nothing.
    pub broken: bool,
}

impl Road {
    /// Nothing goes wrong.
    pub const FAIR: Road = Road { loss: 0, duplicate: 0, delay_ms: 5..=5, bytes_per_s: None, broken: false };
}

/// What happened on one device's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections that were tried.
    pub tries: u64,
    /// Links that were made.
    pub links: u64,
    /// Messages the device handed over.
    pub up: u64,
    /// Their payload bytes.
    pub up_bytes: u64,
    /// Messages to the device.
    pub down: u64,
    /// Messages lost after their PUBACK, in either direction.
    pub lost: u64,
    /// Links that lasted [`HEALTHY_S`] or longer.
    pub lasting: u64,
    /// Follows from the ends of all messages in both directions, in order: where the signatures are.
    pub digest: u64,
}

/// A link of this age counts as lasting, s.
pub const HEALTHY_S: u64 = 60;
/// Bytes at the end of a message that go into the digest.
const DIGEST_BYTES: usize = 72;

impl Traffic {
    fn note(&mut self, payload: &[u8]) {
        let end = payload.get(payload.len().saturating_sub(DIGEST_BYTES)..).unwrap_or_default();
        for byte in end {
            // FNV-1a.
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

type Due<T> = BTreeMap<(Instant, u64), T>;

#[derive(Debug)]
struct Line {
    road: Road,
    /// The link that stands.
    link: Option<u64>,
    since: Option<Instant>,
    /// The other end of the link is gone and nothing says so.
    hole: bool,
    to_link: Due<LinkEvent>,
    up_free: Option<Instant>,
    down_free: Option<Instant>,
    old: VecDeque<Vec<u8>>,
    traffic: Traffic,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    order: u64,
    links: u64,
    manners: Manners,
    lines: BTreeMap<String, Line>,
    inbox: u64,
    to_inbox: Due<Delivery>,
    unsettled: BTreeMap<u64, Delivery>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

/// The broker. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SimBroker(Arc<Shared>);

/// A device's end.
#[derive(Debug, Clone)]
pub struct BrokerUplink(SimBroker);

/// A device's connection.
#[derive(Debug)]
pub struct BrokerLink {
    broker: SimBroker,
    name: String,
    id: u64,
    next: u64,
    payload_bytes_max: usize,
}

/// The collector's end. The newest one is the session; older ones hear nothing more.
#[derive(Debug)]
pub struct BrokerInbox {
    broker: SimBroker,
    id: u64,
}

#[expect(clippy::disallowed_methods, reason = "the fake broker stands on tokio's paused time")]
fn now() -> Instant {
    Instant::now()
}

fn closed(reason: &str) -> LinkClosed {
    LinkClosed::transient(reason)
}

impl Line {
    fn new() -> Self {
        Self {
            road: Road::FAIR,
            link: None,
            since: None,
            hole: false,
            to_link: Due::new(),
            up_free: None,
            down_free: None,
            old: VecDeque::new(),
            traffic: Traffic::default(),
        }
    }

    fn end(&mut self) {
        self.link = None;
        let lasted = self.since.take().map_or(Duration::ZERO, |since| now() - since);
        self.traffic.lasting += u64::from(lasted >= Duration::from_secs(HEALTHY_S));
        self.hole = false;
        self.to_link.clear();
    }
}

/// When a message of `bytes` has left a line of this rate, which it occupies until then.
fn leaves(free: &mut Option<Instant>, rate: Option<u64>, bytes: usize) -> Instant {
    let start = free.map_or(now(), |free| free.max(now()));
    let took = rate.map_or(0, |rate| (bytes as u64).saturating_mul(1_000) / rate.max(1));
    let end = start + Duration::from_millis(took);
    *free = Some(end);
    end
}

impl State {
    fn line(&mut self, name: &str) -> &mut Line {
        self.lines.entry(name.to_owned()).or_insert_with(Line::new)
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.dice.roll() % 1_000 < u64::from(per_mille)
    }

    /// A time on the way from `from` on, with a place in order.
    fn due(&mut self, from: Instant, delay_ms: &RangeInclusive<u64>) -> (Instant, u64) {
        let (low, high) = (*delay_ms.start(), *delay_ms.end());
        let delay = low + self.dice.roll() % (high.saturating_sub(low) + 1);
        self.order += 1;
        (from + Duration::from_millis(delay), self.order)
    }

    /// How many copies of a message arrive.
    fn copies(&mut self, name: &str) -> usize {
        let (loss, duplicate) = {
            let road = &self.line(name).road;
            (road.loss, road.duplicate)
        };
        if self.chance(loss) {
            self.line(name).traffic.lost += 1;
            0
        } else if self.chance(duplicate) {
            2
        } else {
            1
        }
    }

    /// Passes a device's message on to the collector.
    fn pass_on(&mut self, name: &str, topic: &str, payload: &[u8], at: Instant) {
        let delay = self.line(name).road.delay_ms.clone();
        for _ in 0..self.copies(name) {
            if self.to_inbox.len() >= QUEUE_MAX {
                self.line(name).traffic.lost += 1;
                continue;
            }
            let due = self.due(at, &delay);
            let delivery = Delivery { topic: topic.to_owned(), payload: payload.to_vec(), token: due.1 };
            self.to_inbox.insert(due, delivery);
        }
    }

    fn send_down(&mut self, name: &str, payload: &[u8]) {
        let line = self.line(name);
        line.traffic.down += 1;
        line.traffic.note(payload);
        line.old.push_back(payload.to_vec());
        if line.old.len() > OLD_MAX {
            line.old.pop_front();
        }
        if line.link.is_none() || line.hole || line.road.broken {
            line.traffic.lost += 1;
            return;
        }
        let (rate, delay) = (line.road.bytes_per_s, line.road.delay_ms.clone());
        let at = leaves(&mut line.down_free, rate, payload.len());
        for _ in 0..self.copies(name) {
            let due = self.due(at, &delay);
            let event = LinkEvent::Received { topic: name.to_owned(), payload: payload.to_vec() };
            self.line(name).to_link.insert(due, event);
        }
    }
}

impl SimBroker {
    /// A polite broker with fair roads, whose chances follow `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            dice: Dice::new(seed),
            order: 0,
            links: 0,
            manners: Manners::POLITE,
            lines: BTreeMap::new(),
            inbox: 0,
            to_inbox: Due::new(),
            unsettled: BTreeMap::new(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), news: Notify::new() }))
    }

    /// A device's end.
    #[must_use]
    pub fn uplink(&self) -> BrokerUplink {
        BrokerUplink(self.clone())
    }

    /// The collector's end: takes the session over, so what was not settled comes again.
    #[must_use]
    pub fn inbox(&self) -> BrokerInbox {
        let mut state = self.lock();
        state.inbox += 1;
        let id = state.inbox;
        let again = std::mem::take(&mut state.unsettled);
        for (token, delivery) in again {
            state.to_inbox.insert((now(), token), delivery);
        }
        drop(state);
        self.0.news.notify_waiters();
        BrokerInbox { broker: self.clone(), id }
    }

    /// Changes the broker's manners from now on.
    pub fn set_manners(&self, manners: Manners) {
        let mut state = self.lock();
        state.manners = manners;
        if manners.away {
            state.lines.values_mut().for_each(Line::end);
        }
        drop(state);
        self.0.news.notify_waiters();
    }

    /// The broker's manners.
    #[must_use]
    pub fn manners(&self) -> Manners {
        self.lock().manners
    }

    /// Changes the way of the device that subscribes to `name`.
    pub fn set_road(&self, name: &str, road: Road) {
        self.lock().line(name).road = road;
        self.0.news.notify_waiters();
    }

    /// The way of a device.
    #[must_use]
    pub fn road(&self, name: &str) -> Road {
        self.lock().line(name).road.clone()
    }

    /// Ends a device's link; both ends know.
    pub fn cut(&self, name: &str) {
        self.lock().line(name).end();
        self.0.news.notify_waiters();
    }

    /// The other end of a device's link is gone, and nothing says so: what is sent is taken and vanishes.
    pub fn cut_silently(&self, name: &str) {
        let mut state = self.lock();
        let line = state.line(name);
        line.hole = line.link.is_some();
        line.to_link.clear();
    }

    /// The broker starts anew: every link ends. With `amnesia` all messages it had given a PUBACK for and the collector
    /// had not settled are gone.
    pub fn restart(&self, amnesia: bool) {
        let mut state = self.lock();
        state.lines.values_mut().for_each(Line::end);
        if amnesia {
            state.to_inbox.clear();
            state.unsettled.clear();
        }
        drop(state);
        self.0.news.notify_waiters();
    }

    /// Somebody sends a device old messages of its ack topic once more.
    pub fn replay_old(&self, name: &str) {
        let mut state = self.lock();
        let old: Vec<Vec<u8>> = state.line(name).old.iter().cloned().collect();
        if state.line(name).link.is_some() {
            for payload in old {
                let due = state.due(now(), &(1..=50));
                let event = LinkEvent::Received { topic: name.to_owned(), payload };
                state.line(name).to_link.insert(due, event);
            }
        }
        drop(state);
        self.0.news.notify_waiters();
    }

    /// What happened on a device's way so far.
    #[must_use]
    pub fn traffic(&self, name: &str) -> Traffic {
        self.lock().line(name).traffic
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `take` gives something; it says when to look again.
    async fn wait<T>(&self, mut take: impl FnMut(&mut State) -> Result<T, Option<Instant>>) -> T {
        loop {
            let mut news = std::pin::pin!(self.0.news.notified());
            news.as_mut().enable();
            let look_again = match take(&mut self.lock()) {
                Ok(found) => return found,
                Err(look_again) => look_again,
            };
            match look_again {
                None => news.await,
                Some(at) => tokio::select! {
                    biased;
                    () = news => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
