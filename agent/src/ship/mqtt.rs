//! The real pipe: MQTT 5 through rumqttc, kept as thin as it can be.
//!
//! rumqttc's replay reorders, doubles and drops, so each connection gets a new client and a new event
//! loop with a clean start, and nothing handed over counts as sent. One task only polls and forwards;
//! nothing else waits in it. MQTT 3.1.1 is a later step: a broker that refuses 5 is reported as such.

mod interface;
mod link;
mod reason;
mod url;

pub use link::MqttLink;
pub use url::{BrokerUrl, BrokerUrlError};

use super::identity::ShipIdentity;
use headwater_core::ports::{Clock, LinkClosed, Uplink};
use headwater_core::wire::{MessageKind, Sent, Topic, Unsigned};
use reason::closed;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Packet ids of a connection; without a limit rumqttc keeps 65535 slots (20 MB).
const INFLIGHT_LIMIT: u16 = 32;
/// Requests queued in the client: never more than the span of publishes plus the subscription.
const CHANNEL: usize = 32;
/// Events queued from the polling task; a full queue stops reading from the broker, which is back-pressure.
const EVENTS: usize = 128;
/// DNS, TCP, TLS and CONNACK over a cellular link.
const CONNECT_TIMEOUT_S: u64 = 30;
/// Largest packet we take; rumqttc's default is 10 KiB.
const PACKET_BYTES_IN_MAX: u32 = 256 * 1024;
/// Keeps the kernel from hiding megabytes in front of an alarm.
const TCP_SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// rumqttc asserts at least 5 s.
const KEEPALIVE_S: std::ops::RangeInclusive<u16> = 5..=120;

/// How to reach the broker.
#[derive(Debug, Clone)]
pub struct MqttSettings {
    /// Where.
    pub broker: BrokerUrl,
    /// Needed for `mqtts`; kept over reconnects, so that sessions resume.
    pub tls: Option<Arc<ClientConfig>>,
    /// Keepalive, s; clamped to 5..=120.
    pub keepalive_s: u16,
}

/// Connects to the broker, announces itself online, and leaves a will.
#[derive(Debug)]
pub struct MqttUplink<C> {
    settings: MqttSettings,
    me: ShipIdentity,
    clock: C,
    tasks: TaskTracker,
}

impl<C: Clock> MqttUplink<C> {
    /// An uplink whose polling tasks run on `tasks`.
    ///
    /// # Errors
    /// [`BrokerUrlError::NoTls`] if the broker wants TLS and none is configured.
    pub fn new(
        settings: MqttSettings,
        me: ShipIdentity,
        clock: C,
        tasks: TaskTracker,
    ) -> Result<Self, BrokerUrlError> {
        if settings.broker.tls && settings.tls.is_none() {
            return Err(BrokerUrlError::NoTls);
        }
        Ok(Self { settings, me, clock, tasks })
    }

    /// The retained state of this device as JSON, signed like every message.
    fn status(&self, online: bool) -> Result<Vec<u8>, LinkClosed> {
        let body = serde_json::json!({
            "online": online,
            "epoch": self.me.epoch.to_string(),
            "boot": self.me.boot_ordinal.0,
            "version": self.me.software,
        });
        let made =
            Unsigned::new(MessageKind::Status, &self.me.path, self.me.epoch, body.to_string().as_bytes());
        let message = made.map_err(|error| LinkClosed { reason: error.to_string(), transient: false })?;
        let sent = Sent { boot_ordinal: self.me.boot_ordinal.0, ns: self.clock.boot().0 };
        Ok(message.sign(sent, &self.me.key))
    }

    fn options(&self) -> Result<MqttOptions, LinkClosed> {
        let broker = &self.settings.broker;
        let client_id = format!("hw.{}.{}", self.me.path.tenant, self.me.path.device);
        let mut options = MqttOptions::new(client_id, broker.host.clone(), broker.port);
        let keepalive_s = self.settings.keepalive_s.clamp(*KEEPALIVE_S.start(), *KEEPALIVE_S.end());
        options
            .set_keep_alive(Duration::from_secs(keepalive_s.into()))
            .set_clean_start(true)
            .set_connection_timeout(CONNECT_TIMEOUT_S)
            .set_outgoing_inflight_upper_limit(INFLIGHT_LIMIT)
            .set_max_packet_size(Some(PACKET_BYTES_IN_MAX));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_tcp_send_buffer_size(TCP_SEND_BUFFER_BYTES);
        network.set_connection_timeout(CONNECT_TIMEOUT_S);
        options.set_network_options(network);
        if let Some(tls) = self.settings.tls.as_ref().filter(|_| broker.tls) {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
        }
        let will = self.status(false)?;
        let topic = Topic::Status(self.me.path.clone()).to_string();
        options.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, true, None));
        Ok(options)
    }

    /// The interface towards the broker; a name that resolves to several addresses is asked for its first.
    async fn interface(&self) -> Option<String> {
        let BrokerUrl { host, port, .. } = &self.settings.broker;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = tokio::net::lookup_host((host, *port)).await.ok()?.next()?;
        interface::towards(address)
    }

    async fn establish(&self, ack_topic: &str) -> Result<MqttLink, LinkClosed> {
        let (client, events) = AsyncClient::new(self.options()?, CHANNEL);
        let (forward, mut events) = {
            let (forward, receiver) = mpsc::channel(EVENTS);
            ((forward, events), receiver)
        };
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        self.tasks.spawn(poll(forward.1, forward.0, stop));
        let subscribed = client.try_subscribe(ack_topic, QoS::AtLeastOnce);
        subscribed.map_err(|_| lost("the client took no subscription", true))?;
        let (mut packet_max, mut inflight) = (None, INFLIGHT_LIMIT);
        loop {
            let event = events.recv().await.ok_or_else(|| lost("the connection ended", true))??;
            match event {
                Event::Incoming(Incoming::ConnAck(connack)) => {
                    if let Some(properties) = connack.properties {
                        packet_max = properties.max_packet_size;
                        inflight = properties.receive_max.unwrap_or(inflight).min(inflight);
                    }
                }
                Event::Incoming(Incoming::SubAck(suback)) => {
                    let refused = suback
                        .return_codes
                        .iter()
                        .find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
                    if let Some(code) = refused {
                        return Err(lost(&format!("the broker refuses the ack topic: {code:?}"), false));
                    }
                    break;
                }
                _ => {}
            }
        }
        let mut link = MqttLink::new(client, events, guard, packet_max, inflight);
        link.set_interface(self.interface().await);
        link.announce(Topic::Status(self.me.path.clone()).to_string(), self.status(true)?)?;
        Ok(link)
    }
}

impl<C: Clock> Uplink for MqttUplink<C> {
    type Link = MqttLink;

    async fn connect(&mut self, ack_topic: &str) -> Result<MqttLink, LinkClosed> {
        let until = self.clock.boot().plus_ms(CONNECT_TIMEOUT_S.saturating_mul(1_000));
        tokio::select! {
            link = self.establish(ack_topic) => link,
            () = self.clock.sleep_until(until) => Err(lost("no connection within 30 s", true)),
        }
    }
}

/// Polls until the connection is over. Cancelled only to end it: `poll` is not cancel-safe.
async fn poll(
    mut events: EventLoop,
    forward: mpsc::Sender<Result<Event, LinkClosed>>,
    stop: CancellationToken,
) {
    loop {
        let polled = tokio::select! {
            () = stop.cancelled() => return,
            polled = events.poll() => polled.map_err(|error| closed(&error)),
        };
        let over = polled.is_err();
        if forward.send(polled).await.is_err() || over {
            return;
        }
    }
}

fn lost(reason: &str, transient: bool) -> LinkClosed {
    LinkClosed { reason: reason.to_owned(), transient }
}
