//! The `Inbox` on MQTT 5 or 3.1.1: settled by hand, one connection after the other, endless reconnects.
//!
//! ```text
//! keep_connected ─► dial (TCP, TLS) ─► headwater_mqtt::drive ─► events ─► MqttInbox ─► receiver
//!                                              ▲                              │
//!                                              └─── acks, settled ids ────────┘
//! ```
//! A lasting session: what the broker holds while we are away comes when we are back. Each connection has its number: a
//! token of an older one is ignored, the broker sends those messages again. MQTT 5 bounds what is not settled by
//! Receive Maximum; 3.1.1 has no such word, so there what nobody takes is not read, and pings go on meanwhile.

mod dial;

use crate::telemetry;
use headwater_core::ports::{Cause, Clock, Delivery, Inbox, LinkClosed, LinkEvent};
use headwater_core::time::NS_PER_S;
use headwater_mqtt::{
    Connection, Ends, Event, Inward, Lasting, Opening, Outgoing, Settle, Version, Versions, VersionsKnown,
    drive, may_speak_another,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Messages the broker may have sent and we did not settle. The broker's own window is 100 to 128.
const RECEIVE_MAX: u16 = 128;
/// Deliveries under way to the inbox. Behind it the connection stops reading.
const EVENTS_MAX: usize = 64;
/// Settled ids under way to the connection: a window, so that none has to wait.
const SETTLED_MAX: usize = 192;
/// Messages of ours that wait for the connection; acks are cumulative, so what finds no room is left out.
const MESSAGES_MAX: usize = 256;
/// How long the broker keeps our session when we are away.
const SESSION_EXPIRY_S: u32 = 3600;
/// DNS, TCP, TLS and CONNACK together, ns: machines may be busy.
const CONNECT_TIMEOUT_NS: i64 = 30 * NS_PER_S;
/// Own messages un-PUBACKed: acks are small, and cumulative.
const INFLIGHT_MAX: u16 = 64;
/// Longest pause between two tries.
const BACKOFF_S_MAX: u64 = 30;
/// A session this long was a healthy one: the pause starts small again.
const HEALTHY_NS: i64 = 60 * NS_PER_S;

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct MqttTarget {
    /// Host name, as in the broker's certificate.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS with client certificate, as it is at each connection; `None` on loopback only.
    pub tls: Option<watch::Receiver<Arc<rustls::ClientConfig>>>,
    /// Versions of MQTT.
    pub versions: Versions,
    /// Fixed, so that the session is found again.
    pub client_id: String,
    /// Keepalive, s; at least 5.
    pub keepalive_s: u16,
    /// Topic filters; may change while connected.
    pub filters: watch::Receiver<BTreeSet<String>>,
    /// The broker forgets the session at each connection, so that filters of an earlier life are none of ours. What
    /// it held then is sent again by the devices.
    pub clean_start: bool,
}

/// Our end of one connection.
#[derive(Debug)]
struct Pipe {
    messages: mpsc::Sender<Outgoing>,
    settled: mpsc::Sender<u16>,
}

#[derive(Debug)]
enum InboxEvent {
    Connected(u32, Pipe),
    Message { number: u32, id: u16, topic: String, payload: Vec<u8> },
}

/// The collector's end of the broker.
pub struct MqttInbox {
    events: mpsc::Receiver<InboxEvent>,
    pipe: Option<Pipe>,
    connection: u32,
    next_token: u32,
    /// Packet ids by token.
    unsettled: BTreeMap<u64, u16>,
    /// Settled ids the connection had no room for yet.
    owed: VecDeque<u16>,
    connected: watch::Receiver<bool>,
}

impl std::fmt::Debug for MqttInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MqttInbox(connection {}, {} unsettled)", self.connection, self.unsettled.len())
    }
}

impl MqttInbox {
    /// Starts connecting on `tasks` until `cancel`.
    #[must_use]
    pub fn start<C: Clock>(
        target: MqttTarget,
        clock: C,
        tasks: &TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        let (to_inbox, events) = mpsc::channel(EVENTS_MAX);
        let (connected_tx, connected) = watch::channel(false);
        let keeper =
            Keeper { target, clock, tasks: tasks.clone(), events: to_inbox, connected: connected_tx };
        tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = keeper.keep_connected() => {}
            }
            keeper.is_connected(false);
        });
        Self::hearing(events, connected)
    }

    fn hearing(events: mpsc::Receiver<InboxEvent>, connected: watch::Receiver<bool>) -> Self {
        Self {
            events,
            pipe: None,
            connection: 0,
            next_token: 0,
            unsettled: BTreeMap::new(),
            owed: VecDeque::new(),
            connected,
        }
    }

    /// True while connected and subscribed.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    fn pay_owed(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        while let Some(id) = self.owed.front() {
            if pipe.settled.try_send(*id).is_err() {
                return;
            }
            self.owed.pop_front();
        }
    }
}

impl Inbox for MqttInbox {
    async fn next(&mut self) -> Delivery {
        loop {
            self.pay_owed();
            match self.events.recv().await {
                Some(InboxEvent::Connected(number, pipe)) => {
                    self.connection = number;
                    self.pipe = Some(pipe);
                    self.unsettled.clear();
                    self.owed.clear();
                }
                Some(InboxEvent::Message { number, id, topic, payload }) if number == self.connection => {
                    self.next_token = self.next_token.wrapping_add(1);
                    let token = u64::from(number) << 32 | u64::from(self.next_token);
                    self.unsettled.insert(token, id);
                    return Delivery { topic, payload, token };
                }
                Some(InboxEvent::Message { .. }) => {}
                // Connecting ends on cancel only; whoever waits here is being cancelled too.
                None => std::future::pending().await,
            }
        }
    }

    async fn settle(&mut self, token: u64) {
        if let Some(id) = self.unsettled.remove(&token) {
            self.owed.push_back(id);
        }
        self.pay_owed();
    }

    async fn send(&mut self, topic: &str, payload: Vec<u8>) {
        // The number only makes a refusal be told.
        let message = Outgoing { number: Some(0), topic: topic.to_owned(), payload, retain: false };
        let sent = self.pipe.as_ref().is_some_and(|pipe| pipe.messages.try_send(message).is_ok());
        if !sent {
            telemetry::ack_dropped();
        }
    }
}

/// How far a connection came.
#[derive(Debug, Default)]
struct Reached {
    dialled: bool,
    /// The broker said something: it took us, or not.
    answered: bool,
    accepted: bool,
    subscribed: bool,
}

/// Makes one connection after the other.
struct Keeper<C> {
    target: MqttTarget,
    clock: C,
    tasks: TaskTracker,
    events: mpsc::Sender<InboxEvent>,
    connected: watch::Sender<bool>,
}

impl<C: Clock> Keeper<C> {
    fn is_connected(&self, is: bool) {
        self.connected.send_replace(is);
        telemetry::mqtt_connected(is);
    }

    async fn keep_connected(&self) {
        let (mut failures, mut number) = (0_u32, 0_u32);
        let mut spoken = VersionsKnown::default();
        loop {
            let started = self.clock.boot();
            let (mut version, instead) = spoken.plan(self.target.versions);
            let mut tried_v5 = version == Version::V5;
            let (mut closed, mut reached) = self.one_connection(version, &mut number).await;
            if let Some(other) = instead
                && may_speak_another(closed.cause, reached.dialled, reached.answered)
            {
                tracing::info!(broker = %self.target.host, reason = closed.reason, "tries MQTT {other} instead of {version}");
                tried_v5 |= other == Version::V5;
                let second = self.one_connection(other, &mut number).await;
                // The first answer says more, unless the second got further.
                if second.1.accepted {
                    version = other;
                    (closed, reached) = second;
                }
            }
            if reached.accepted {
                spoken.connected(version, tried_v5);
            }
            self.is_connected(false);
            if self.clock.boot().since(started) >= HEALTHY_NS {
                failures = 0;
            }
            let pause = backoff(failures);
            failures = failures.saturating_add(1);
            let (was_up, reason, pause_ms) = (reached.subscribed, with_cure(&closed), pause.as_millis());
            tracing::warn!(broker = %self.target.host, was_up, reason, pause_ms, "broker connection ended");
            let ns = i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
            self.clock.sleep_until(self.clock.boot().plus_ns(ns)).await;
        }
    }

    /// One connection from its first byte to its end.
    async fn one_connection(&self, version: Version, number: &mut u32) -> (LinkClosed, Reached) {
        *number = number.wrapping_add(1);
        let mut reached = Reached::default();
        let closed = match self.connect_and_hear(version, *number, &mut reached).await {
            Ok(()) => LinkClosed::transient("the connection ended"),
            Err(closed) => closed,
        };
        (closed, reached)
    }

    async fn connect_and_hear(
        &self,
        version: Version,
        number: u32,
        reached: &mut Reached,
    ) -> Result<(), LinkClosed> {
        let until = self.clock.boot().plus_ns(CONNECT_TIMEOUT_NS);
        let tls = self.target.tls.as_ref().map(|tls| Arc::clone(&tls.borrow()));
        let stream = tokio::select! {
            stream = dial::dial(&self.target.host, self.target.port, tls) => stream?,
            () = self.clock.sleep_until(until) => return Err(no_answer()),
        };
        reached.dialled = true;
        let mut filters = self.target.filters.clone();
        let connection = Connection::open(self.opening(version, &mut filters), self.clock.boot())?;
        let ((messages, queue), (settled, ids)) = (mpsc::channel(MESSAGES_MAX), mpsc::channel(SETTLED_MAX));
        let (forward, mut events) = mpsc::channel(EVENTS_MAX);
        let stop = CancellationToken::new();
        let _driving = stop.clone().drop_guard();
        let inward = Some(Inward { settled: ids, filters: Some(filters) });
        let ends = Ends { messages: queue, events: forward, inward, stop, judge: dial::judge };
        self.tasks.spawn(drive(stream, connection, self.clock.clone(), ends));
        let mut pipe = Some(Pipe { messages, settled });
        let mut refused_acks = 0_u64;
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = self.clock.sleep_until(until), if !reached.accepted => return Err(no_answer()),
            };
            let Some(event) = event else { return Ok(()) };
            match event? {
                Event::Accepted(limits) => {
                    (reached.answered, reached.accepted) = (true, true);
                    tracing::info!(broker = %self.target.host, %version, ?limits, "connected to broker");
                    let Some(pipe) = pipe.take() else { continue };
                    self.hand_on(InboxEvent::Connected(number, pipe)).await?;
                }
                Event::Refused => reached.answered = true,
                Event::NotSubscribed(..) => {}
                Event::Subscribed => {
                    reached.subscribed = true;
                    self.is_connected(true);
                    let filters = self.target.filters.borrow().clone();
                    let first = filters.first().map_or("-", String::as_str);
                    tracing::info!(filters = filters.len(), first, "receiving");
                }
                Event::Delivered { id, topic, payload } => {
                    self.hand_on(InboxEvent::Message { number, id, topic, payload }).await?;
                }
                Event::Link(LinkEvent::Refused { why, .. }) => {
                    telemetry::ack_dropped();
                    refused_acks = refused_acks.saturating_add(1);
                    if refused_acks.is_power_of_two() {
                        tracing::warn!(%why, refused_acks, "the broker refuses our acks; devices keep what they cannot hear of: let this user write hw/1/ack/#");
                    }
                }
                Event::Link(_) => {}
            }
        }
    }

    async fn hand_on(&self, event: InboxEvent) -> Result<(), LinkClosed> {
        self.events.send(event).await.map_err(|_| LinkClosed::transient("nobody receives any more"))
    }

    fn opening(&self, version: Version, filters: &mut watch::Receiver<BTreeSet<String>>) -> Opening {
        let lasting = Lasting {
            starts_clean: self.target.clean_start,
            expiry_s: SESSION_EXPIRY_S,
            receive_max: RECEIVE_MAX,
        };
        Opening {
            version,
            client_id: self.target.client_id.clone(),
            keepalive_s: self.target.keepalive_s.max(5),
            will: None,
            lasting: Some(lasting),
            filters: filters.borrow_and_update().clone(),
            settle: Settle::ByHand,
            inflight_max: INFLIGHT_MAX,
        }
    }
}

fn no_answer() -> LinkClosed {
    LinkClosed::transient(format!("no answer within {} s", CONNECT_TIMEOUT_NS / NS_PER_S))
}

/// Full jitter: anything up to 1 s × 2^failures, at most 30 s.
fn backoff(failures: u32) -> Duration {
    let ceiling_ms = (1_u64 << failures.min(5)).min(BACKOFF_S_MAX).saturating_mul(1000);
    let mut random = [0; 4];
    let drawn = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
    let share = if drawn.is_ok() { u64::from(u32::from_le_bytes(random)) } else { u64::from(u32::MAX) };
    Duration::from_millis(ceiling_ms.saturating_mul(share) >> 32)
}

/// The end of a connection with what a person can do about it.
fn with_cure(closed: &LinkClosed) -> String {
    let reason = &closed.reason;
    match closed.cause {
        Cause::NotAuthorized if reason.contains("shared subscriptions") => {
            format!("{reason}; mqtt.share = \"shards\" needs none")
        }
        Cause::NotAuthorized if reason.contains("subscription") => format!(
            "{reason}; let this user read hw/1/in/# (in a group $share/+/hw/1/in/#) in the broker's access list"
        ),
        Cause::NotAuthorized | Cause::Untrusted => {
            format!("{reason}; check identity.tls_cert, identity.ca and mqtt.client_id")
        }
        Cause::ProtocolRefused => format!("{reason}; mqtt.version = \"auto\" tries both"),
        Cause::TakenOver => format!("{reason}; two collectors must not share one mqtt.client_id"),
        _ => reason.clone(),
    }
}

#[cfg(test)]
#[path = "mqtt/tests.rs"]
mod tests;
