//! The `Inbox` on rumqttc (MQTT 5): manual acks, one client per connection, endless reconnects.
//!
//! `EventLoop::poll` is not cancel-safe and must not wait for its own client, so one task polls and does
//! nothing else; deliveries and the connection's client come over a channel that holds a whole receive
//! window. Each connection has its number: a token of an older one is ignored, the broker sends those
//! messages again.

use crate::telemetry;
use headwater_core::ports::{Clock, Delivery, Inbox};
use headwater_core::time::{BootNanos, NS_PER_S};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, Publish, SubAck, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Messages the broker may have sent and we did not settle. The broker's own window is 100 to 128.
const RECEIVE_MAX: u16 = 128;
/// Events under way to the inbox: a whole window, so that the polling task never waits for a reader.
const EVENTS_MAX: usize = 192;
/// Requests under way to the polling task: acks of a window and as many messages of ours.
const REQUESTS_MAX: usize = 256;
/// Largest packet we take: a message of 128 KiB with room for other clients' habits.
const PACKET_BYTES_MAX: u32 = 256 * 1024;
/// How long the broker keeps our session when we are away.
const SESSION_EXPIRY_S: u32 = 3600;
/// DNS, TCP, TLS and CONNACK together; the default of 5 s is too short for busy machines.
const CONNECT_TIMEOUT_S: u64 = 30;
/// Own messages in flight: acks are small, and cumulative.
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

enum InboxEvent {
    Connected(u32, AsyncClient),
    Message(u32, Box<Publish>),
}

/// The collector's end of the broker.
pub struct MqttInbox {
    events: mpsc::Receiver<InboxEvent>,
    client: Option<AsyncClient>,
    connection: u32,
    next_token: u32,
    unsettled: BTreeMap<u64, Publish>,
    /// Acks the polling task had no room for yet; at most a receive window.
    owed: VecDeque<Publish>,
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
        tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = keep_connected(target, clock, to_inbox, &connected_tx) => {}
            }
            connected_tx.send_replace(false);
            telemetry::mqtt_connected(false);
        });
        Self {
            events,
            client: None,
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
        let Some(client) = &self.client else { return };
        while let Some(publish) = self.owed.front() {
            if client.try_ack(publish).is_err() {
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
                Some(InboxEvent::Connected(number, client)) => {
                    self.connection = number;
                    self.client = Some(client);
                    self.unsettled.clear();
                    self.owed.clear();
                }
                Some(InboxEvent::Message(number, publish)) if number == self.connection => {
                    let mut publish = *publish;
                    let payload = std::mem::take(&mut publish.payload).to_vec();
                    // A topic that is no text is none of ours: admission refuses and counts it.
                    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                    self.next_token = self.next_token.wrapping_add(1);
                    let token = u64::from(number) << 32 | u64::from(self.next_token);
                    self.unsettled.insert(token, publish);
                    return Delivery { topic, payload, token };
                }
                Some(InboxEvent::Message(..)) => {}
                // The polling task ends on cancel only; whoever waits here is being cancelled too.
                None => std::future::pending().await,
            }
        }
    }

    async fn settle(&mut self, token: u64) {
        if let Some(publish) = self.unsettled.remove(&token) {
            self.owed.push_back(publish);
        }
        self.pay_owed();
    }

    async fn send(&mut self, topic: &str, payload: Vec<u8>) {
        let sent = match &self.client {
            Some(client) => client.try_publish(topic, QoS::AtLeastOnce, false, payload).is_ok(),
            None => false,
        };
        if !sent {
            telemetry::ack_dropped();
        }
    }
}

async fn keep_connected<C: Clock>(
    target: MqttTarget,
    clock: C,
    events: mpsc::Sender<InboxEvent>,
    connected: &watch::Sender<bool>,
) {
    let mut failures: u32 = 0;
    for number in 1_u32.. {
        let started = clock.boot();
        let ended = one_connection(&target, number, &events, connected).await;
        let was_up = connected.send_replace(false);
        telemetry::mqtt_connected(false);
        if clock.boot().since(started) >= HEALTHY_NS {
            failures = 0;
        }
        let pause = backoff(failures);
        failures = failures.saturating_add(1);
        tracing::warn!(broker = %target.host, was_up, reason = %ended, pause_ms = pause.as_millis(), "broker connection ended");
        let ns = i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
        clock.sleep_until(BootNanos(clock.boot().0.saturating_add(ns))).await;
    }
}

/// Full jitter: anything up to 1 s × 2^failures, at most 30 s.
fn backoff(failures: u32) -> Duration {
    let ceiling_ms = (1_u64 << failures.min(5)).min(BACKOFF_S_MAX).saturating_mul(1000);
    let mut random = [0; 4];
    let drawn = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
    let share = if drawn.is_ok() { u64::from(u32::from_le_bytes(random)) } else { u64::from(u32::MAX) };
    Duration::from_millis(ceiling_ms.saturating_mul(share) >> 32)
}

async fn one_connection(
    target: &MqttTarget,
    number: u32,
    events: &mpsc::Sender<InboxEvent>,
    connected: &watch::Sender<bool>,
) -> String {
    let (client, mut eventloop) = AsyncClient::new(options(target), REQUESTS_MAX);
    let (up_tx, up) = watch::channel(false);
    let subscribing = keep_subscribed(client.clone(), target.filters.clone(), up);
    let polling = async {
        loop {
            let event = match eventloop.poll().await {
                Ok(Event::Incoming(event)) => event,
                Ok(Event::Outgoing(_)) => continue,
                Err(error) => return reason(&error),
            };
            match event {
                Packet::ConnAck(ack) => {
                    tracing::info!(broker = %target.host, session_present = ack.session_present, "connected to broker");
                    if events.send(InboxEvent::Connected(number, client.clone())).await.is_err() {
                        return "inbox closed".into();
                    }
                    up_tx.send_replace(true);
                    if target.filters.borrow().is_empty() {
                        connected.send_replace(true);
                        telemetry::mqtt_connected(true);
                    }
                }
                Packet::SubAck(ack) => {
                    if let Some(refused) = refused_filter(&ack) {
                        return refused;
                    }
                    connected.send_replace(true);
                    telemetry::mqtt_connected(true);
                }
                Packet::Publish(publish) => {
                    let message = InboxEvent::Message(number, Box::new(publish));
                    let Ok(()) = events.send(message).await else { return "inbox closed".into() };
                }
                Packet::Disconnect(disconnect) => {
                    return format!("broker said disconnect: {:?}", disconnect.reason_code);
                }
                _ => {}
            }
        }
    };
    // Polling is never dropped for the other's sake: that one does not end.
    tokio::select! {
        ended = polling => ended,
        ended = subscribing => ended,
    }
}

/// Subscribes to what is wanted, and takes back what is no more. Does not end while the connection stands.
async fn keep_subscribed(
    client: AsyncClient,
    mut wanted: watch::Receiver<BTreeSet<String>>,
    mut up: watch::Receiver<bool>,
) -> String {
    if up.wait_for(|up| *up).await.is_err() {
        return std::future::pending().await;
    }
    let mut subscribed = BTreeSet::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        for filter in now.difference(&subscribed) {
            if client.subscribe(filter, QoS::AtLeastOnce).await.is_err() {
                return std::future::pending().await;
            }
        }
        for filter in subscribed.difference(&now) {
            if client.unsubscribe(filter).await.is_err() {
                return std::future::pending().await;
            }
        }
        if subscribed != now {
            tracing::info!(filters = now.len(), first = now.first().map_or("-", String::as_str), "receiving");
        }
        subscribed = now;
        if wanted.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn options(target: &MqttTarget) -> MqttOptions {
    let mut options = MqttOptions::new(&target.client_id, &target.host, target.port);
    options
        .set_keep_alive(Duration::from_secs(target.keepalive_s.max(5).into()))
        .set_clean_start(target.clean_start)
        .set_session_expiry_interval(Some(SESSION_EXPIRY_S))
        .set_receive_maximum(Some(RECEIVE_MAX))
        .set_max_packet_size(Some(PACKET_BYTES_MAX))
        .set_connection_timeout(CONNECT_TIMEOUT_S)
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX)
        .set_manual_acks(true);
    if let Some(tls) = &target.tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::clone(&tls.borrow()))));
    }
    options
}

/// A collector that may not subscribe would wait for ever on a connection that looks sound.
fn refused_filter(ack: &SubAck) -> Option<String> {
    let code = ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)))?;
    let cure = match code {
        SubscribeReasonCode::SharedSubscriptionsNotSupported => {
            "mqtt.share = \"shards\" needs no shared subscriptions"
        }
        _ => "let this user read hw/1/in/# (in a group $share/+/hw/1/in/#) in the broker's access list",
    };
    Some(format!("the broker refuses the subscription ({code:?}); {cure}"))
}

fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadClientId,
        ) => {
            format!("{error}; check identity.tls_cert and mqtt.client_id")
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> AsyncClient {
        AsyncClient::new(MqttOptions::new("test", "127.0.0.1", 1), 8).0
    }

    fn publish(pkid: u16) -> InboxEvent {
        let mut publish = Publish::new("hw/1/in/00/acme/pi-1/1", QoS::AtLeastOnce, vec![7], None);
        publish.pkid = pkid;
        InboxEvent::Message(1, Box::new(publish))
    }

    /// Packet ids of an old connection mean other messages on the new one.
    #[tokio::test]
    async fn manual_acks_of_an_old_connection_are_not_paid_on_the_new_one() {
        let (to_inbox, events) = mpsc::channel(8);
        let mut inbox = MqttInbox {
            events,
            client: None,
            connection: 0,
            next_token: 0,
            unsettled: BTreeMap::new(),
            owed: VecDeque::new(),
            connected: watch::channel(true).1,
        };
        to_inbox.send(InboxEvent::Connected(1, client())).await.unwrap();
        to_inbox.send(publish(1)).await.unwrap();
        let old = inbox.next().await;
        to_inbox.send(publish(2)).await.unwrap();
        to_inbox.send(InboxEvent::Connected(2, client())).await.unwrap();
        let InboxEvent::Message(_, late) = publish(3) else { panic!() };
        to_inbox.send(InboxEvent::Message(1, late)).await.unwrap();
        let InboxEvent::Message(_, fresh) = publish(1) else { panic!() };
        to_inbox.send(InboxEvent::Message(2, fresh)).await.unwrap();
        // Not settled, and of the first connection: the broker sends it again.
        assert_eq!(inbox.next().await.token >> 32, 1);
        let fresh = inbox.next().await;
        assert_eq!(fresh.token >> 32, 2, "what came late of the first connection is passed over");
        inbox.settle(old.token).await;
        assert_eq!((inbox.unsettled.len(), inbox.owed.len()), (1, 0), "only the new one is held");
        inbox.settle(fresh.token).await;
        assert!(inbox.unsettled.is_empty());
    }

    #[test]
    fn a_refused_subscription_is_told_with_its_cure() {
        let ack = |code| SubAck { pkid: 1, return_codes: vec![code], properties: None };
        assert_eq!(refused_filter(&ack(SubscribeReasonCode::Success(QoS::AtLeastOnce))), None);
        let denied = refused_filter(&ack(SubscribeReasonCode::NotAuthorized)).unwrap();
        assert!(denied.contains("hw/1/in/#"), "{denied}");
        let shared = refused_filter(&ack(SubscribeReasonCode::SharedSubscriptionsNotSupported)).unwrap();
        assert!(shared.contains("shards"), "{shared}");
    }
}
