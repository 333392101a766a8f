//! One MQTT connection as a pure machine: bytes and messages in, bytes and events out.
//!
//! It owns what rumqttc's event loop cannot give: packet ids that are never reused while one is out, acks read
//! while a write is stuck, pings only when nothing else goes, and the broker's reason for a refusal.

use super::packet::{Codec, Incoming, Limits, Malformed, Version, Will};
use super::reason;
use bytes::BytesMut;
use headwater_core::ports::{Cause, LinkClosed, LinkEvent, RefusedFor, SPAN_MAX};
use headwater_core::time::{BootNanos, NS_PER_S};
use std::collections::{BTreeMap, VecDeque};

/// The one subscription's packet id.
const SUBSCRIBE_ID: u16 = 1;
/// Least patience for a ping's answer, ns: slow links have data in front of it.
const PONG_NS_MIN: i64 = 10 * NS_PER_S;

/// What a connection asks for.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) keepalive_s: u16,
    pub(super) will: Option<Will>,
    pub(super) ack_topic: String,
    /// Most messages un-PUBACKed; lowered by Receive Maximum.
    pub(super) inflight_max: u16,
}

/// A message to publish; `number` is the caller's, `None` for our own status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) number: Option<u64>,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// CONNACK.
    Accepted(Limits),
    /// CONNACK with a reason; it is the last event.
    Refused,
    /// The ack topic is ours to read.
    Subscribed,
    /// For the link.
    Link(LinkEvent),
}

/// `number` is the caller's, `None` for our own status.
#[derive(Debug, Clone, Copy)]
struct Flying {
    number: Option<u64>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Connection {
    codec: Codec,
    ack_topic: String,
    keepalive_ns: i64,
    inflight_max: usize,
    qos: u8,
    accepted: bool,
    out: BytesMut,
    /// Publishes not PUBACKed, by packet id.
    flying: BTreeMap<u16, Flying>,
    last_id: u16,
    /// Largest payload it took, bytes.
    took_bytes_max: usize,
    events: VecDeque<Event>,
    written: BootNanos,
    heard: BootNanos,
    pinged: Option<BootNanos>,
}

impl Connection {
    /// Says CONNECT.
    pub(super) fn open(opening: Opening, now: BootNanos) -> Result<Self, LinkClosed> {
        let Opening { version, client_id, keepalive_s, will, ack_topic, inflight_max } = opening;
        let codec = Codec(version);
        let mut out = BytesMut::new();
        codec.connect(&mut out, &client_id, keepalive_s, will).map_err(closed)?;
        Ok(Self {
            codec,
            ack_topic,
            keepalive_ns: i64::from(keepalive_s).saturating_mul(NS_PER_S),
            inflight_max: usize::from(inflight_max.max(1)),
            qos: 1,
            accepted: false,
            out,
            flying: BTreeMap::new(),
            last_id: SUBSCRIBE_ID,
            took_bytes_max: 0,
            events: VecDeque::new(),
            written: now,
            heard: now,
            pinged: None,
        })
    }

    /// The bytes to write, if any, which are then the caller's.
    pub(super) fn take_out(&mut self) -> Option<BytesMut> {
        (!self.out.is_empty()).then(|| self.out.split())
    }

    /// Some of what was taken is written.
    pub(super) fn wrote(&mut self, now: BootNanos) {
        self.written = now;
    }

    pub(super) fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// True if another message may be published.
    pub(super) fn has_room(&self) -> bool {
        self.flying.len() < self.inflight_max
    }

    /// Publishes. To be called with room only.
    pub(super) fn publish(&mut self, message: Outgoing) -> Result<(), LinkClosed> {
        let Outgoing { number, topic, payload, retain } = message;
        let id = (self.qos > 0).then(|| self.free_id());
        let bytes = payload.len();
        self.codec.publish(&mut self.out, id, &topic, payload, retain).map_err(closed)?;
        match (id, number) {
            (Some(id), number) => drop(self.flying.insert(id, Flying { number, bytes })),
            // A broker without quality of service 1 says nothing: handed over is all we learn.
            (None, Some(number)) => self.events.push_back(Event::Link(LinkEvent::Sent(number))),
            (None, None) => {}
        }
        Ok(())
    }

    /// Says goodbye, so that the broker keeps the will to itself.
    pub(super) fn leave(&mut self) -> Result<(), LinkClosed> {
        self.codec.disconnect(&mut self.out).map_err(closed)
    }

    /// There are 65 535 ids and at most 65 534 are out.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(SUBSCRIBE_ID.saturating_add(1));
            if !self.flying.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Takes whole packets off `bytes`.
    pub(super) fn received(&mut self, now: BootNanos, bytes: &mut BytesMut) -> Result<(), LinkClosed> {
        self.heard = now;
        self.pinged = None;
        while let Some(packet) = self.codec.read(bytes).map_err(closed)? {
            self.take(packet)?;
        }
        Ok(())
    }

    fn take(&mut self, packet: Incoming) -> Result<(), LinkClosed> {
        match packet {
            Incoming::Accepted(limits) if !self.accepted => {
                self.accepted = true;
                self.qos = limits.qos_max.unwrap_or(1).min(1);
                if let Some(receive_max) = limits.receive_max {
                    self.inflight_max = self.inflight_max.min(usize::from(receive_max.max(1)));
                }
                if let Some(keepalive_s) = limits.keepalive_s.filter(|keepalive_s| *keepalive_s > 0) {
                    self.keepalive_ns = i64::from(keepalive_s).saturating_mul(NS_PER_S);
                }
                self.codec.subscribe(&mut self.out, SUBSCRIBE_ID, &self.ack_topic).map_err(closed)?;
                self.events.push_back(Event::Accepted(limits));
            }
            Incoming::Refused(code) => {
                self.events.push_back(Event::Refused);
                return Err(reason::refused(self.codec.0, code));
            }
            _ if !self.accepted => {
                return Err(LinkClosed::transient("the broker said something else before CONNACK"));
            }
            Incoming::SubAck(code) if code >= 0x80 => return Err(reason::no_subscription(code)),
            Incoming::SubAck(_) => self.events.push_back(Event::Subscribed),
            Incoming::PubAck { id, code } => {
                // An id that is not out is a second answer: it frees nothing.
                let Some(Flying { number, bytes }) = self.flying.remove(&id) else { return Ok(()) };
                let refused = RefusedFor::of_puback(code);
                if refused.is_none() && number.is_some() {
                    self.took_bytes_max = self.took_bytes_max.max(bytes);
                }
                if let Some(number) = number {
                    self.events.push_back(Event::Link(match refused {
                        None => LinkEvent::Sent(number),
                        Some(why) => LinkEvent::Refused { number, why },
                    }));
                }
            }
            Incoming::Publish { id, topic, payload } => {
                if id != 0 {
                    self.codec.puback(&mut self.out, id).map_err(closed)?;
                }
                let payload = payload.to_vec();
                self.events.push_back(Event::Link(LinkEvent::Received { topic, payload }));
            }
            Incoming::Disconnect { code, words } => return Err(reason::disconnected(code, &words)),
            Incoming::Accepted(_) | Incoming::Pong | Incoming::Other => {}
        }
        Ok(())
    }

    /// When [`Connection::tick`] is due.
    pub(super) fn deadline(&self) -> BootNanos {
        match self.pinged {
            Some(at) => at.plus_ns(self.pong_ns()),
            // MQTT wants something of ours each keepalive; a sign of the broker in as much time is our own wish.
            None => self.written.min(self.heard).plus_ns(self.keepalive_ns),
        }
    }

    fn pong_ns(&self) -> i64 {
        self.keepalive_ns.max(PONG_NS_MIN)
    }

    /// Pings, or gives up a broker that is silent although pinged.
    pub(super) fn tick(&mut self, now: BootNanos) -> Result<(), LinkClosed> {
        if now < self.deadline() {
            return Ok(());
        }
        if self.pinged.is_some() {
            let silent_s = now.since(self.heard) / NS_PER_S;
            return Err(LinkClosed::transient(format!("no sign of the broker for {silent_s} s")));
        }
        self.pinged = Some(now);
        self.codec.ping(&mut self.out).map_err(closed)
    }

    /// The stream ended: what that means.
    pub(super) fn ended(&self, why: &str) -> LinkClosed {
        if !self.accepted {
            let reason = format!("closed before CONNACK: {why}; does this port speak MQTT?");
            return LinkClosed::because(Cause::BrokerAway, reason);
        }
        let largest =
            self.flying.values().filter(|flying| flying.number.is_some()).map(|flying| flying.bytes).max();
        if let Some(bytes) = largest.filter(|bytes| *bytes > self.took_bytes_max) {
            let reason =
                format!("closed with a message of {bytes} bytes under way, larger than any it took: {why}");
            return LinkClosed::because(Cause::ClosedOnPublish, reason);
        }
        LinkClosed::because(Cause::BrokerAway, why)
    }
}

/// Messages under way that the shipper may count on.
pub(super) fn span_of(limits: &Limits, inflight_max: u16) -> u64 {
    let said = limits.receive_max.map_or(inflight_max, |said| said.min(inflight_max));
    u64::from(said.max(1)).min(SPAN_MAX)
}

fn closed(error: Malformed) -> LinkClosed {
    LinkClosed::transient(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    fn at(s: i64) -> BootNanos {
        BootNanos(s * NS_PER_S)
    }

    /// A connection that was accepted with these bytes, and subscribed.
    fn accepted(version: Version, connack: &[u8]) -> Connection {
        let opening = Opening {
            version,
            client_id: "hw.acme.pi-1".into(),
            keepalive_s: 60,
            will: None,
            ack_topic: "hw/1/ack/acme/pi-1".into(),
            inflight_max: 28,
        };
        let mut connection = Connection::open(opening, at(0)).unwrap();
        connection.received(at(0), &mut BytesMut::from(connack)).unwrap();
        connection.received(at(0), &mut BytesMut::from(&[0x90, 3, 0, 1, 1][..])).unwrap();
        drop(connection.take_out());
        assert!(matches!(connection.take_event(), Some(Event::Accepted(_))));
        assert_eq!(connection.take_event(), Some(Event::Subscribed));
        connection
    }

    fn message(number: u64) -> Outgoing {
        Outgoing { number: Some(number), topic: "t".into(), payload: vec![0; 10], retain: false }
    }

    fn puback(id: u16) -> BytesMut {
        let [high, low] = id.to_be_bytes();
        BytesMut::from(&[0x40, 2, high, low][..])
    }

    /// Ids of the publishes in `out`, which have a topic of one byte and quality of service 1.
    fn ids(mut out: BytesMut) -> Vec<u16> {
        let mut found = Vec::new();
        while let Ok(Some(packet)) = Codec(Version::V311).read(&mut out) {
            if let Incoming::Publish { id, .. } = packet {
                found.push(id);
            }
        }
        found
    }

    #[test]
    fn pings_go_only_when_nothing_else_does_and_any_sign_of_the_broker_counts() {
        let mut connection = accepted(Version::V311, &[0x20, 2, 0, 0]);
        assert_eq!(connection.deadline(), at(60));
        connection.wrote(at(50));
        connection.received(at(55), &mut puback(9)).unwrap();
        connection.tick(at(60)).unwrap();
        assert_eq!((connection.take_out(), connection.deadline()), (None, at(110)));
        connection.tick(at(110)).unwrap();
        assert_eq!(connection.take_out().as_deref(), Some(&[0xc0, 0][..]));
        // No PINGRESP, but an ack: the link is alive, however much is queued in front of the answer.
        connection.received(at(150), &mut puback(9)).unwrap();
        connection.wrote(at(160));
        assert_eq!(connection.deadline(), at(210));
        connection.tick(at(210)).unwrap();
        assert_eq!(connection.deadline(), at(270));
        let closed = connection.tick(at(270)).unwrap_err();
        assert!(closed.cause == Cause::Transient && closed.reason.contains("120 s"), "{closed}");
    }

    #[test]
    fn what_the_broker_says_at_connack_holds() {
        // Properties: Receive Maximum 3, Server Keep Alive 7.
        let mut connection = accepted(Version::V5, &[0x20, 9, 0, 0, 6, 33, 0, 3, 19, 0, 7]);
        assert_eq!(connection.deadline(), at(7));
        for number in 0..3 {
            assert!(connection.has_room());
            connection.publish(message(number)).unwrap();
        }
        assert!(!connection.has_room());
    }

    #[test]
    fn acks_nobody_asked_for_free_nothing() {
        let mut connection = accepted(Version::V311, &[0x20, 2, 0, 0]);
        connection.publish(message(0)).unwrap();
        let id = ids(connection.take_out().unwrap())[0];
        for id in [id.wrapping_add(1), 0, id, id] {
            connection.received(at(1), &mut puback(id)).unwrap();
        }
        assert_eq!(connection.take_event(), Some(Event::Link(LinkEvent::Sent(0))));
        assert_eq!(connection.take_event(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Packet ids go round, acks come in any order or never: an id that is out is not given again, and each ack
        /// is told of the message it is for.
        #[test]
        fn no_id_is_used_twice_while_it_is_out(picks in proptest::collection::vec(any::<u16>(), 1_000), lazy in 0_usize..20) {
            let mut connection = accepted(Version::V311, &[0x20, 2, 0, 0]);
            connection.last_id = u16::MAX - 300;
            let (mut out, mut next) = (Vec::<(u16, u64)>::new(), 0);
            for pick in picks {
                while connection.has_room() {
                    connection.publish(message(next)).unwrap();
                    let id = ids(connection.take_out().unwrap())[0];
                    prop_assert!(id > SUBSCRIBE_ID && out.iter().all(|(other, _)| *other != id));
                    out.push((id, next));
                    next += 1;
                }
                // The first `lazy` of them are never acked.
                let (id, number) = out.remove(lazy + usize::from(pick) % (out.len() - lazy));
                connection.received(at(1), &mut puback(id)).unwrap();
                prop_assert_eq!(connection.take_event(), Some(Event::Link(LinkEvent::Sent(number))));
            }
        }
    }
}
