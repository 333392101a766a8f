//! The real pipe: MQTT 5 or 3.1.1, kept as thin as it can be.
//!
//! ```text
//! brokers (which, in which version) ─► dial (DNS TCP proxy TLS WebSocket) ─► drive ◄─► connection (pure)
//!                                                                              ▲       both in `headwater-mqtt`
//!                                                    shipper ◄── MqttLink ─────┘
//! ```
//! Each connection is a new one with a clean start, and nothing handed over counts as sent.

mod brokers;
mod dial;
mod interface;
mod link;
mod memory;
pub mod probe;
mod profile;
mod url;

pub use dial::{Credentials, Hop, HopError, Journey, Proxy, ProxyError, ProxyKind, Route};
pub use headwater_mqtt::{Limits, Version, Versions};
pub use link::MqttLink;
pub use profile::{Profile, ProfileLimits};
pub use url::{BrokerUrl, BrokerUrlError, Carrier, PORT_HTTPS};

use super::identity::ShipIdentity;
use brokers::{Brokers, Plan};
use headwater_core::id::DevicePath;
use headwater_core::ports::{Clock, LinkClosed, Uplink};
use headwater_core::wire::{MessageKind, Sent, Topic, Unsigned};
use headwater_mqtt::{Connection, Ends, Event, Opening, Settle, Will, drive, may_speak_another};
use link::Made;
use memory::Memory;
use rustls::ClientConfig;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Messages queued in front of a connection: never more than its span and our own status.
const CHANNEL: usize = 64;
/// Events queued from it; a full queue stops reading from the broker, which is back-pressure.
const EVENTS: usize = 128;
/// All hops up to the subscription, over a cellular link, ms.
const CONNECT_TIMEOUT_MS: u64 = 30_000;
/// Most bytes a name of MQTT over TLS (ALPN) may have.
pub const ALPN_BYTES_MAX: usize = 255;

/// How to reach the brokers.
#[derive(Debug, Clone)]
pub struct MqttSettings {
    /// Where, in order of preference.
    pub brokers: Vec<BrokerUrl>,
    /// Needed for `mqtts` and `wss`; kept over reconnects, so that sessions resume.
    pub tls: Option<Arc<ClientConfig>>,
    /// Versions of MQTT.
    pub versions: Versions,
    /// Keepalive, s.
    pub keepalive_s: u16,
    /// Largest message we make, bytes.
    pub message_bytes_max: usize,
    /// Most messages un-PUBACKed.
    pub inflight_max: u16,
    /// Our state is a retained message.
    pub retain: bool,
    /// ALPN name; by default [`ProfileLimits::alpn_443`] on port 443 and none elsewhere.
    pub alpn: Option<String>,
    /// The name on port 443.
    pub alpn_443: &'static str,
    /// Through this.
    pub proxy: Option<Proxy>,
    /// Out of this network interface only.
    pub interface: Option<String>,
    /// Where it is remembered what brokers speak.
    pub memory: Option<PathBuf>,
}

impl MqttSettings {
    /// One broker, all else by default.
    #[must_use]
    pub fn to(broker: BrokerUrl, tls: Option<Arc<ClientConfig>>) -> Self {
        let limits = Profile::Default.limits();
        Self {
            brokers: vec![broker],
            tls,
            versions: Versions::Auto,
            keepalive_s: limits.keepalive_s,
            message_bytes_max: limits.message_bytes_max,
            inflight_max: limits.inflight_max,
            retain: limits.retain,
            alpn: None,
            alpn_443: limits.alpn_443,
            proxy: None,
            interface: None,
            memory: None,
        }
    }

    /// The way to one of the brokers.
    #[must_use]
    pub fn route(&self, broker: &BrokerUrl) -> Route {
        let name = match (&self.alpn, broker.port, broker.carrier) {
            (Some(name), _, _) => Some(name.as_str()),
            (None, PORT_HTTPS, Carrier::Stream) => Some(self.alpn_443),
            _ => None,
        };
        let tls = self.tls.as_ref().map(|tls| match name {
            None => Arc::clone(tls),
            // The copy shares the store of sessions.
            Some(name) => {
                let mut named = ClientConfig::clone(tls);
                named.alpn_protocols = vec![name.as_bytes().to_vec()];
                Arc::new(named)
            }
        });
        Route { broker: broker.clone(), tls, proxy: self.proxy.clone(), interface: self.interface.clone() }
    }
}

/// Our name at a broker.
pub(super) fn client_id(path: &DevicePath) -> String {
    format!("hw.{}.{}", path.tenant, path.device)
}

/// Connects to a broker of the list, announces itself online, and leaves a will.
#[derive(Debug)]
pub struct MqttUplink<C> {
    settings: MqttSettings,
    brokers: Brokers,
    me: ShipIdentity,
    clock: C,
    tasks: TaskTracker,
    /// Most that went in one message of the last link.
    payload_bytes_max: usize,
}

impl<C: Clock> MqttUplink<C> {
    /// An uplink whose connections run on `tasks`.
    ///
    /// # Errors
    /// [`BrokerUrlError::NoTls`] if a broker wants TLS and none is configured, [`BrokerUrlError::None`] without any.
    pub fn new(
        settings: MqttSettings,
        me: ShipIdentity,
        clock: C,
        tasks: TaskTracker,
    ) -> Result<Self, BrokerUrlError> {
        if settings.brokers.is_empty() {
            return Err(BrokerUrlError::None);
        }
        if let Some(broker) = settings.brokers.iter().find(|broker| broker.tls && settings.tls.is_none()) {
            return Err(BrokerUrlError::NoTls(broker.to_string()));
        }
        let memory = settings.memory.as_deref().map(Memory::read).unwrap_or_default();
        let brokers = Brokers::new(settings.brokers.clone(), settings.versions, &memory);
        let payload_bytes_max = settings.message_bytes_max;
        Ok(Self { settings, brokers, me, clock, tasks, payload_bytes_max })
    }

    /// True if no broker can be anywhere but here.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.settings.brokers.iter().all(BrokerUrl::is_loopback)
    }

    /// The state of this device as JSON, signed like every message.
    fn status(&self, online: bool) -> Result<Vec<u8>, LinkClosed> {
        let body = serde_json::json!({
            "online": online,
            "epoch": self.me.epoch.to_string(),
            "boot": self.me.boot_ordinal.0,
            "version": self.me.software,
        });
        let made =
            Unsigned::new(MessageKind::Status, &self.me.path, self.me.epoch, body.to_string().as_bytes());
        let message = made.map_err(|error| LinkClosed::transient(error.to_string()))?;
        let sent = Sent { boot_ordinal: self.me.boot_ordinal.0, ns: self.clock.boot().0 };
        Ok(message.sign(sent, &self.me.key))
    }

    fn opening(&self, version: Version, ack_topic: &str) -> Result<Opening, LinkClosed> {
        let will = Will {
            topic: Topic::Status(self.me.path.clone()).to_string(),
            payload: self.status(false)?,
            retain: self.settings.retain,
        };
        Ok(Opening {
            version,
            client_id: client_id(&self.me.path),
            keepalive_s: self.settings.keepalive_s,
            will: Some(will),
            lasting: None,
            filters: [ack_topic.to_owned()].into(),
            settle: Settle::AtOnce,
            inflight_max: self.settings.inflight_max,
        })
    }

    /// One try in one version. `accepted` becomes true once the broker took us, and `dialled` once it was reached.
    async fn establish(
        &self,
        plan: &Plan,
        version: Version,
        ack_topic: &str,
        reached: &mut Reached,
    ) -> Result<MqttLink, LinkClosed> {
        let stream = dial::dial(&self.settings.route(&plan.url), &self.clock, &mut reached.journey).await?;
        reached.dialled = true;
        let connection = Connection::open(self.opening(version, ack_topic)?, self.clock.boot())?;
        let (messages, queue) = mpsc::channel(CHANNEL);
        let (forward, mut events) = mpsc::channel(EVENTS);
        let stop = CancellationToken::new();
        let driving = stop.clone().drop_guard();
        let ends = Ends { messages: queue, events: forward, inward: None, stop, judge: dial::end_of_stream };
        self.tasks.spawn(drive(stream, connection, self.clock.clone(), ends));
        let mut limits = Limits::default();
        loop {
            let event = events.recv().await;
            match event.ok_or_else(|| LinkClosed::transient("the connection ended"))?? {
                Event::Accepted(said) => {
                    reached.accepted = true;
                    limits = said;
                }
                Event::Refused => reached.refused = true,
                Event::Subscribed => break,
                Event::NotSubscribed(..) | Event::Delivered { .. } | Event::Link(_) => {}
            }
        }
        let retain = self.settings.retain && limits.retain;
        let mut link = MqttLink::new(Made {
            messages,
            events,
            driving,
            peer: format!("{} (MQTT {version})", plan.url),
            limits,
            payload_bytes_max: plan.payload_bytes_max,
            inflight_max: self.settings.inflight_max,
        });
        let local = reached.journey.local.and_then(interface::of_address);
        link.set_interface(self.settings.interface.clone().or(local));
        link.announce(Topic::Status(self.me.path.clone()).to_string(), self.status(true)?, retain);
        Ok(link)
    }

    /// One try, bounded in time.
    async fn establish_in_time(
        &self,
        plan: &Plan,
        version: Version,
        ack_topic: &str,
        reached: &mut Reached,
    ) -> Result<MqttLink, LinkClosed> {
        let until = self.clock.boot().plus_ms(CONNECT_TIMEOUT_MS);
        let mut tried = Reached::default();
        let outcome = tokio::select! {
            link = self.establish(plan, version, ack_topic, &mut tried) => Some(link),
            () = self.clock.sleep_until(until) => None,
        };
        let outcome = outcome.unwrap_or_else(|| {
            let seconds = CONNECT_TIMEOUT_MS / 1_000;
            let at = if tried.dialled { Hop::Mqtt } else { tried.journey.at };
            Err(LinkClosed::transient(format!("{at}: no answer within {seconds} s")))
        });
        *reached = tried;
        outcome
    }

    fn remember(&self) {
        if let Some(file) = &self.settings.memory
            && let Err(error) = self.brokers.memory().write(file)
        {
            tracing::debug!(%error, "what the broker speaks could not be written down");
        }
    }
}

/// How far a try came.
#[derive(Debug, Default)]
struct Reached {
    journey: Journey,
    dialled: bool,
    accepted: bool,
    refused: bool,
}

impl<C: Clock> Uplink for MqttUplink<C> {
    type Link = MqttLink;

    async fn connect(&mut self, ack_topic: &str) -> Result<MqttLink, LinkClosed> {
        let plan = self.brokers.plan().ok_or_else(|| LinkClosed::transient("no broker is configured"))?;
        let mut version = plan.version;
        let mut tried_v5 = version == Version::V5;
        let mut reached = Reached::default();
        let mut outcome = self.establish_in_time(&plan, version, ack_topic, &mut reached).await;
        if let Err(closed) = &outcome
            && let Some(other) = plan.instead
            && may_speak_another(closed.cause, reached.dialled, reached.accepted || reached.refused)
        {
            tracing::info!(broker = %plan.url, reason = closed.reason, "tries MQTT {other} instead of {version}");
            tried_v5 |= other == Version::V5;
            let second = self.establish_in_time(&plan, other, ack_topic, &mut reached).await;
            // The first answer says more, unless the second got further.
            if second.is_ok() || reached.accepted {
                (outcome, version) = (second, other);
            }
        }
        match outcome {
            Ok(link) => {
                use headwater_core::ports::Link;
                self.payload_bytes_max = link.payload_bytes_max().min(self.settings.message_bytes_max);
                if self.brokers.connected(version, tried_v5) {
                    self.remember();
                }
                Ok(link)
            }
            Err(LinkClosed { reason, cause }) => {
                let closed = LinkClosed { reason: format!("{}: {reason}", plan.url), cause };
                self.brokers.ended(&closed, self.payload_bytes_max);
                Err(closed)
            }
        }
    }

    fn ended(&mut self, closed: &LinkClosed) {
        self.brokers.ended(closed, self.payload_bytes_max);
    }

    fn succeed(&mut self, before: &Self) {
        self.brokers.succeed(&before.brokers);
        self.payload_bytes_max = self.payload_bytes_max.min(before.payload_bytes_max);
    }

    fn alternatives(&self) -> usize {
        self.brokers.len().saturating_sub(1)
    }
}

/// A link on a stream of a test, in MQTT 5.
#[cfg(test)]
pub(crate) async fn link_on(stream: Box<dyn dial::Stream>, tasks: &TaskTracker) -> MqttLink {
    use headwater_core::time::{BootNanos, UtcNanos};
    let clock = headwater_sim::clock::SimClock::new(BootNanos(1), UtcNanos(0));
    let opening = Opening {
        version: Version::V5,
        client_id: "hw.acme.pi-1".to_owned(),
        keepalive_s: 60,
        will: None,
        lasting: None,
        filters: ["hw/1/ack/acme/pi-1".to_owned()].into(),
        settle: Settle::AtOnce,
        inflight_max: 28,
    };
    let connection = Connection::open(opening, clock.boot()).unwrap();
    let (messages, queue) = mpsc::channel(CHANNEL);
    let (forward, mut events) = mpsc::channel(EVENTS);
    let stop = CancellationToken::new();
    let driving = stop.clone().drop_guard();
    let ends = Ends { messages: queue, events: forward, inward: None, stop, judge: dial::end_of_stream };
    tasks.spawn(drive(stream, connection, clock, ends));
    while events.recv().await.unwrap().unwrap() != Event::Subscribed {}
    let limits = Limits::default();
    let peer = String::new();
    MqttLink::new(Made {
        messages,
        events,
        driving,
        peer,
        limits,
        payload_bytes_max: usize::MAX,
        inflight_max: 28,
    })
}
