//! A network that loses, repeats, reorders, delays and cuts, by seed, on tokio's paused time.
//!
//! It behaves as brokers do: a PUBACK is given before anybody received the message, and a message that
//! was PUBACKed may still be lost. [`SimUplink`] is the agent's end, [`SimInbox`] the collector's.

use headwater_core::ports::{Delivery, Inbox, Link, LinkClosed, LinkEvent, Uplink};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How bad the network is. Chances are per thousand messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weather {
    /// Messages lost after the broker took them, in either direction.
    pub loss: u32,
    /// Messages delivered twice.
    pub duplicate: u32,
    /// Chance that a message sent ends the link.
    pub cut: u32,
    /// Connections that do not come about.
    pub refuse: u32,
    /// Time of each message on its way, ms; a wide range reorders.
    pub delay_ms: RangeInclusive<u64>,
    /// Largest payload the broker takes, bytes.
    pub payload_bytes_max: usize,
}

impl Weather {
    /// Nothing goes wrong.
    pub const FAIR: Weather =
        Weather { loss: 0, duplicate: 0, cut: 0, refuse: 0, delay_ms: 5..=5, payload_bytes_max: 128 * 1024 };
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Messages of the agent the broker took.
    pub up: u64,
    /// Their payload bytes.
    pub up_bytes: u64,
    /// Messages to the agent.
    pub down: u64,
    /// Lost ones.
    pub lost: u64,
    /// Doubled ones.
    pub doubled: u64,
    /// Links that were cut.
    pub cuts: u64,
    /// Links that were made.
    pub links: u64,
}

type Due<T> = BTreeMap<(Instant, u64), T>;

#[derive(Debug)]
struct State {
    weather: Weather,
    rng: u64,
    order: u64,
    link: Option<u64>,
    to_link: Due<LinkEvent>,
    to_inbox: Due<Delivery>,
    traffic: Traffic,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

/// One device's path to its collector. Clones are the same network.
#[derive(Debug, Clone)]
pub struct SimNet(Arc<Shared>);

/// The agent's end.
#[derive(Debug, Clone)]
pub struct SimUplink(SimNet);

/// A connection of the agent.
#[derive(Debug)]
pub struct SimLink {
    net: SimNet,
    id: u64,
    next: u64,
    payload_bytes_max: usize,
}

/// The collector's end.
#[derive(Debug, Clone)]
pub struct SimInbox(SimNet);

#[expect(clippy::disallowed_methods, reason = "the fake network stands on tokio's paused time")]
fn now() -> Instant {
    Instant::now()
}

impl State {
    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.rng ^ (self.rng >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.random() % 1_000 < u64::from(per_mille)
    }

    fn due(&mut self) -> (Instant, u64) {
        let (low, high) = (*self.weather.delay_ms.start(), *self.weather.delay_ms.end());
        let delay = low + self.random() % (high.saturating_sub(low) + 1);
        self.order += 1;
        (now() + Duration::from_millis(delay), self.order)
    }

    /// How many copies of a message arrive.
    fn copies(&mut self) -> usize {
        if self.chance(self.weather.loss) {
            self.traffic.lost += 1;
            0
        } else if self.chance(self.weather.duplicate) {
            self.traffic.doubled += 1;
            2
        } else {
            1
        }
    }

    fn cut(&mut self) {
        if self.link.take().is_some() {
            self.traffic.cuts += 1;
            self.to_link.clear();
        }
    }
}

impl SimNet {
    /// A network in `weather`, whose chances follow `seed`.
    #[must_use]
    pub fn new(seed: u64, weather: Weather) -> Self {
        let state = State {
            weather,
            rng: seed,
            order: 0,
            link: None,
            to_link: Due::new(),
            to_inbox: Due::new(),
            traffic: Traffic::default(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), news: Notify::new() }))
    }

    /// The agent's end.
    #[must_use]
    pub fn uplink(&self) -> SimUplink {
        SimUplink(self.clone())
    }

    /// The collector's end.
    #[must_use]
    pub fn inbox(&self) -> SimInbox {
        SimInbox(self.clone())
    }

    /// Changes the weather from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Ends the link, if there is one.
    pub fn cut(&self) {
        self.lock().cut();
        self.0.news.notify_waiters();
    }

    /// What happened so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.lock().traffic
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
                    () = news => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }
}

/// The first entry whose time has come, or when the next one's will.
fn pop<T>(due: &mut Due<T>) -> Result<T, Option<Instant>> {
    match due.first_entry() {
        None => Err(None),
        Some(entry) if entry.key().0 <= now() => Ok(entry.remove()),
        Some(entry) => Err(Some(entry.key().0)),
    }
}

fn closed(reason: &str) -> LinkClosed {
    LinkClosed::transient(reason)
}

impl Uplink for SimUplink {
    type Link = SimLink;

    async fn connect(&mut self, _ack_topic: &str) -> Result<SimLink, LinkClosed> {
        let (ready, refused) = {
            let mut state = self.0.lock();
            let refuse = state.weather.refuse;
            (state.due().0, state.chance(refuse))
        };
        tokio::time::sleep_until(ready).await;
        if refused {
            return Err(closed("the simulated broker is away"));
        }
        let mut state = self.0.lock();
        state.traffic.links += 1;
        state.to_link.clear();
        let id = state.traffic.links;
        state.link = Some(id);
        let payload_bytes_max = state.weather.payload_bytes_max;
        drop(state);
        Ok(SimLink { net: self.0.clone(), id, next: 0, payload_bytes_max })
    }
}

impl Link for SimLink {
    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    async fn send(&mut self, topic: &str, payload: Vec<u8>) -> Result<u64, LinkClosed> {
        if payload.len() > self.payload_bytes_max {
            return Err(closed("message above the broker's limit"));
        }
        let number = self.next;
        self.next += 1;
        let mut state = self.net.lock();
        if state.link != Some(self.id) {
            return Err(closed("cut"));
        }
        let cut = state.weather.cut;
        if state.chance(cut) {
            // Half of the time the message got through before the end.
            if state.chance(500) {
                let due = state.due();
                let token = due.1;
                state.to_inbox.insert(due, Delivery { topic: topic.to_owned(), payload, token });
            }
            state.cut();
            drop(state);
            self.net.0.news.notify_waiters();
            return Err(closed("cut"));
        }
        state.traffic.up += 1;
        state.traffic.up_bytes += payload.len() as u64;
        let puback = state.due();
        state.to_link.insert(puback, LinkEvent::Sent(number));
        for _ in 0..state.copies() {
            let due = state.due();
            let token = due.1;
            state.to_inbox.insert(due, Delivery { topic: topic.to_owned(), payload: payload.clone(), token });
        }
        drop(state);
        self.net.0.news.notify_waiters();
        Ok(number)
    }

    async fn event(&mut self) -> Result<LinkEvent, LinkClosed> {
        let id = self.id;
        self.net
            .wait(|state| {
                if state.link == Some(id) { pop(&mut state.to_link).map(Ok) } else { Ok(Err(closed("cut"))) }
            })
            .await
    }
}

impl Drop for SimLink {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        if state.link == Some(self.id) {
            state.link = None;
            state.to_link.clear();
        }
    }
}

impl Inbox for SimInbox {
    async fn next(&mut self) -> Delivery {
        self.0.wait(|state| pop(&mut state.to_inbox)).await
    }

    async fn settle(&mut self, _token: u64) {}

    async fn send(&mut self, topic: &str, payload: Vec<u8>) {
        let mut state = self.0.lock();
        state.traffic.down += 1;
        if state.link.is_some() {
            for _ in 0..state.copies() {
                let due = state.due();
                let event = LinkEvent::Received { topic: topic.to_owned(), payload: payload.clone() };
                state.to_link.insert(due, event);
            }
        }
        drop(state);
        self.0.0.news.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn crossing(seed: u64, weather: Weather, n: u8) -> (Vec<u8>, usize) {
        let net = SimNet::new(seed, weather);
        let (mut link, mut inbox) = (net.uplink().connect("ack").await.unwrap(), net.inbox());
        for i in 0..n {
            link.send("t", vec![i]).await.unwrap();
        }
        let mut pubacks = 0;
        for _ in 0..n {
            assert!(matches!(link.event().await, Ok(LinkEvent::Sent(_))));
            pubacks += 1;
        }
        let mut got = Vec::new();
        while let Ok(delivery) = tokio::time::timeout(Duration::from_secs(1), inbox.next()).await {
            got.push(delivery.payload[0]);
        }
        (got, pubacks)
    }

    #[tokio::test(start_paused = true)]
    async fn fair_weather_keeps_everything_in_order() {
        let (got, _) = crossing(1, Weather::FAIR, 100).await;
        assert_eq!(got, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn bad_weather_loses_doubles_and_reorders_after_the_puback_and_replays_by_seed() {
        let weather = Weather { loss: 200, duplicate: 200, delay_ms: 1..=50, ..Weather::FAIR };
        let (got, pubacks) = crossing(3, weather.clone(), 200).await;
        assert_eq!(pubacks, 200);
        let mut once = got.clone();
        once.sort_unstable();
        once.dedup();
        assert!(once.len() < 190 && got.len() > once.len());
        assert!(got.windows(2).any(|pair| pair[0] > pair[1]));
        assert_eq!(crossing(3, weather, 200).await.0, got);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_ends_the_link_at_both_calls() {
        let net = SimNet::new(1, Weather::FAIR);
        let mut link = net.uplink().connect("ack").await.unwrap();
        net.cut();
        assert!(link.send("t", vec![1]).await.is_err());
        assert!(link.event().await.is_err());
    }
}
