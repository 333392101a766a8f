//! One MQTT connection as a pure machine: bytes and messages in, bytes and events out.
//!
//! It owns what rumqttc's event loop cannot give: packet ids that are never reused while one is out, acks read
//! while a write is stuck, pings only when nothing else goes, and the broker's reason for a refusal.

use crate::packet::{Codec, Incoming, Limits, Malformed, Version, Will};
use crate::reason;
use bytes::BytesMut;
use headwater_core::ports::{Cause, LinkClosed, LinkEvent, RefusedFor, SPAN_MAX};
use headwater_core::time::{BootNanos, NS_PER_S};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The packet id of SUBSCRIBE and UNSUBSCRIBE, of which one at a time is out.
const SUBSCRIBE_ID: u16 = 1;
/// Filters in one SUBSCRIBE: AWS IoT Core takes eight.
const FILTERS_MAX: usize = 8;
/// Least patience for a ping's answer, ns: slow links have data in front of it.
const PONG_NS_MIN: i64 = 10 * NS_PER_S;

/// A session that outlives its connection: the broker holds what comes meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    /// The broker forgets what it held of an earlier one. In 3.1.1 that also means it keeps nothing of this one.
    pub starts_clean: bool,
    /// How long it is kept, s. MQTT 5 only: in 3.1.1 the broker decides.
    pub expiry_s: u32,
    /// Most deliveries we have not settled. MQTT 5 only: in 3.1.1 the broker has its own number, and what we do not
    /// read holds it back.
    pub receive_max: u16,
}

/// When a delivery is acknowledged to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// As soon as it is read.
    AtOnce,
    /// By [`Connection::settle`].
    ByHand,
}

/// What a connection asks for.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Version of MQTT.
    pub version: Version,
    /// Our name at the broker.
    pub client_id: String,
    /// Longest silence of ours, s.
    pub keepalive_s: u16,
    /// What the broker says for us when we are gone.
    pub will: Option<Will>,
    /// `None`: a clean start, and nothing is kept.
    pub lasting: Option<Lasting>,
    /// What we want to read.
    pub filters: BTreeSet<String>,
    /// When deliveries are acknowledged.
    pub settle: Settle,
    /// Most messages un-PUBACKed; lowered by Receive Maximum.
    pub inflight_max: u16,
}

impl Opening {
    pub(crate) fn starts_clean(&self) -> bool {
        self.lasting.is_none_or(|lasting| lasting.starts_clean)
    }
}

/// A message to publish; `number` is the caller's, `None` for our own status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Told again in [`LinkEvent::Sent`] and [`LinkEvent::Refused`].
    pub number: Option<u64>,
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// The broker keeps it.
    pub retain: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// CONNACK.
    Accepted(Limits),
    /// CONNACK with a reason; it is the last event.
    Refused,
    /// A filter is refused, with the broker's code; it is the last event.
    NotSubscribed(String, u8),
    /// All that is wanted is ours to read, at first and after each change.
    Subscribed,
    /// A message to settle by hand. The id is 0 at quality of service 0: there is nothing to settle.
    Delivered {
        /// Its packet id.
        id: u16,
        /// Topic.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
    },
    /// A message came, or one of ours was taken or refused.
    Link(LinkEvent),
}

/// A change of subscriptions under way.
#[derive(Debug, Clone)]
enum Asked {
    More(Vec<String>),
    Less(Vec<String>),
}

/// `number` is the caller's, `None` for our own status.
#[derive(Debug, Clone, Copy)]
struct Flying {
    number: Option<u64>,
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    codec: Codec,
    wanted: BTreeSet<String>,
    granted: BTreeSet<String>,
    asked: Option<Asked>,
    settle: Settle,
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
    ///
    /// # Errors
    /// [`LinkClosed`] if it cannot be written: a name or topic is too long for MQTT.
    pub fn open(opening: Opening, now: BootNanos) -> Result<Self, LinkClosed> {
        let codec = Codec(opening.version);
        let mut out = BytesMut::new();
        codec.connect(&mut out, &opening).map_err(closed)?;
        let Opening { keepalive_s, filters, settle, inflight_max, .. } = opening;
        Ok(Self {
            codec,
            wanted: filters,
            granted: BTreeSet::new(),
            asked: None,
            settle,
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
    pub fn take_out(&mut self) -> Option<BytesMut> {
        (!self.out.is_empty()).then(|| self.out.split())
    }

    /// Some of what was taken is written.
    pub fn wrote(&mut self, now: BootNanos) {
        self.written = now;
    }

    /// What happened next.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// True while events wait to be taken: nothing more should be read until they are, which holds the broker back.
    /// Its silence is then no sign of anything.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.events.is_empty()
    }

    /// What we want to read from now on.
    ///
    /// # Errors
    /// [`LinkClosed`] if a filter cannot be written.
    pub fn want(&mut self, filters: BTreeSet<String>) -> Result<(), LinkClosed> {
        let settled = self.asked.is_none() && self.wanted == self.granted;
        if settled && self.wanted == filters {
            return Ok(());
        }
        self.wanted = filters;
        self.ask()
    }

    /// Asks for the next filters, or takes back what is not wanted any more; one question at a time.
    fn ask(&mut self) -> Result<(), LinkClosed> {
        if !self.accepted || self.asked.is_some() {
            return Ok(());
        }
        let some = |from: &BTreeSet<String>, less: &BTreeSet<String>| -> Vec<String> {
            from.difference(less).take(FILTERS_MAX).cloned().collect()
        };
        let (more, less) = (some(&self.wanted, &self.granted), some(&self.granted, &self.wanted));
        if !more.is_empty() {
            self.codec.subscribe(&mut self.out, SUBSCRIBE_ID, &more).map_err(closed)?;
            self.asked = Some(Asked::More(more));
        } else if !less.is_empty() {
            self.codec.unsubscribe(&mut self.out, SUBSCRIBE_ID, &less).map_err(closed)?;
            self.asked = Some(Asked::Less(less));
        } else {
            self.events.push_back(Event::Subscribed);
        }
        Ok(())
    }

    /// The broker's answer to [`Asked::More`].
    fn granted(&mut self, codes: &[u8]) -> Result<(), LinkClosed> {
        // An answer to no question is none.
        let Some(Asked::More(filters)) = &self.asked else { return Ok(()) };
        let filters = filters.clone();
        if codes.len() != filters.len() {
            let reason = format!("the broker answers {} of {} filters", codes.len(), filters.len());
            return Err(LinkClosed::transient(reason));
        }
        for (filter, code) in filters.into_iter().zip(codes) {
            if *code >= 0x80 {
                let refused = reason::no_subscription(&filter, *code);
                self.events.push_back(Event::NotSubscribed(filter, *code));
                return Err(refused);
            }
            self.granted.insert(filter);
        }
        self.asked = None;
        self.ask()
    }

    /// Acknowledges a delivery of [`Settle::ByHand`].
    ///
    /// # Errors
    /// [`LinkClosed`] if it cannot be written.
    pub fn settle(&mut self, id: u16) -> Result<(), LinkClosed> {
        if id == 0 {
            return Ok(());
        }
        self.codec.puback(&mut self.out, id).map_err(closed)
    }

    /// True if another message may be published.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.flying.len() < self.inflight_max
    }

    /// Publishes. To be called with room only.
    ///
    /// # Errors
    /// [`LinkClosed`] if it cannot be written.
    pub fn publish(&mut self, message: Outgoing) -> Result<(), LinkClosed> {
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
    ///
    /// # Errors
    /// [`LinkClosed`] if it cannot be written.
    pub fn leave(&mut self) -> Result<(), LinkClosed> {
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
    ///
    /// # Errors
    /// [`LinkClosed`]: the connection is over.
    pub fn received(&mut self, now: BootNanos, bytes: &mut BytesMut) -> Result<(), LinkClosed> {
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
                self.events.push_back(Event::Accepted(limits));
                self.ask()?;
            }
            Incoming::Refused(code) => {
                self.events.push_back(Event::Refused);
                return Err(reason::refused(self.codec.0, code));
            }
            _ if !self.accepted => {
                return Err(LinkClosed::transient("the broker said something else before CONNACK"));
            }
            Incoming::SubAck { id, codes } if id == SUBSCRIBE_ID => self.granted(&codes)?,
            Incoming::UnsubAck { id } if id == SUBSCRIBE_ID => {
                if let Some(Asked::Less(filters)) = &self.asked {
                    self.granted.retain(|filter| !filters.contains(filter));
                    self.asked = None;
                    self.ask()?;
                }
            }
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
                let payload = payload.to_vec();
                let event = match self.settle {
                    Settle::AtOnce => {
                        self.settle(id)?;
                        Event::Link(LinkEvent::Received { topic, payload })
                    }
                    Settle::ByHand => Event::Delivered { id, topic, payload },
                };
                self.events.push_back(event);
            }
            Incoming::Disconnect { code, words } => return Err(reason::disconnected(code, &words)),
            Incoming::Accepted(_)
            | Incoming::SubAck { .. }
            | Incoming::UnsubAck { .. }
            | Incoming::Pong
            | Incoming::Other => {}
        }
        Ok(())
    }

    /// When [`Connection::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> BootNanos {
        match self.pinged {
            _ if self.is_held() => self.written.plus_ns(self.keepalive_ns),
            Some(at) => at.plus_ns(self.pong_ns()),
            // MQTT wants something of ours each keepalive; a sign of the broker in as much time is our own wish.
            None => self.written.min(self.heard).plus_ns(self.keepalive_ns),
        }
    }

    fn pong_ns(&self) -> i64 {
        self.keepalive_ns.max(PONG_NS_MIN)
    }

    /// Pings, or gives up a broker that is silent although pinged.
    ///
    /// # Errors
    /// [`LinkClosed`]: the connection is over.
    pub fn tick(&mut self, now: BootNanos) -> Result<(), LinkClosed> {
        if now < self.deadline() {
            return Ok(());
        }
        if self.is_held() {
            // We live, though we read nothing just now; what the broker says is judged once we read again.
            (self.heard, self.pinged, self.written) = (now, None, now);
            return self.codec.ping(&mut self.out).map_err(closed);
        }
        if self.pinged.is_some() {
            let silent_s = now.since(self.heard) / NS_PER_S;
            return Err(LinkClosed::transient(format!("no sign of the broker for {silent_s} s")));
        }
        self.pinged = Some(now);
        self.codec.ping(&mut self.out).map_err(closed)
    }

    /// The stream ended: what that means.
    #[must_use]
    pub fn ended(&self, why: &str) -> LinkClosed {
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
#[must_use]
pub fn span_of(limits: &Limits, inflight_max: u16) -> u64 {
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
            lasting: None,
            filters: ["hw/1/ack/acme/pi-1".to_owned()].into(),
            settle: Settle::AtOnce,
            inflight_max: 28,
        };
        let mut connection = Connection::open(opening, at(0)).unwrap();
        connection.received(at(0), &mut BytesMut::from(connack)).unwrap();
        let suback: &[u8] = if version == Version::V5 { &[0x90, 4, 0, 1, 0, 1] } else { &[0x90, 3, 0, 1, 1] };
        connection.received(at(0), &mut BytesMut::from(suback)).unwrap();
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

    fn lasting(version: Version, filters: &[&str]) -> Connection {
        let opening = Opening {
            version,
            client_id: "hq".into(),
            keepalive_s: 60,
            will: None,
            lasting: Some(Lasting { starts_clean: false, expiry_s: 3600, receive_max: 128 }),
            filters: filters.iter().map(ToString::to_string).collect(),
            settle: Settle::ByHand,
            inflight_max: 28,
        };
        Connection::open(opening, at(0)).unwrap()
    }

    #[test]
    fn a_lasting_session_is_asked_for_in_the_words_of_each_version() {
        let connect = lasting(Version::V311, &["a"]).take_out().unwrap();
        assert_eq!(&connect[2..], [0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 60, 0, 2, b'h', b'q']);
        let connect = lasting(Version::V5, &["a"]).take_out().unwrap();
        assert_eq!(&connect[8..10], [5, 0], "no clean start");
        let has = |property: &[u8]| connect.windows(property.len()).any(|window| window == property);
        assert!(has(&[17, 0, 0, 14, 16]) && has(&[33, 0, 128]), "{connect:?}");
    }

    #[test]
    fn filters_go_eight_at_a_time_and_follow_what_is_wanted() {
        let names: Vec<String> = (0..20).map(|n| format!("f/{n:02}")).collect();
        let mut connection = lasting(Version::V311, &names.iter().map(String::as_str).collect::<Vec<_>>());
        connection.received(at(0), &mut BytesMut::from(&[0x20, 2, 0, 0][..])).unwrap();
        for asked in [8, 8, 4] {
            let mut answer = vec![0x90, 2 + asked, 0, 1];
            answer.extend((0..asked).map(|_| 1));
            assert!(connection.events.iter().all(|event| *event != Event::Subscribed));
            connection.received(at(0), &mut BytesMut::from(&answer[..])).unwrap();
        }
        assert_eq!(connection.events.pop_back(), Some(Event::Subscribed));
        drop(connection.take_out());
        // One more and all but two less, while the broker has the first question.
        let two: BTreeSet<String> = ["f/00", "f/01", "g"].map(ToOwned::to_owned).into();
        connection.want(two.clone()).unwrap();
        connection.want(two.clone()).unwrap();
        connection.received(at(0), &mut BytesMut::from(&[0x90, 3, 0, 1, 1][..])).unwrap();
        for _ in 0..3 {
            assert!(connection.events.iter().all(|event| *event != Event::Subscribed));
            connection.received(at(0), &mut BytesMut::from(&[0xb0, 2, 0, 1][..])).unwrap();
        }
        assert_eq!(connection.granted, two);
        assert_eq!(connection.events.pop_back(), Some(Event::Subscribed));
        // Wanting the same again asks nothing, and answers to no question change nothing.
        drop(connection.take_out());
        connection.want(two.clone()).unwrap();
        connection.received(at(0), &mut BytesMut::from(&[0xb0, 2, 0, 1, 0x90, 3, 0, 1, 0x80][..])).unwrap();
        assert_eq!((connection.granted.clone(), connection.take_out()), (two, None));
    }

    #[test]
    fn a_refused_filter_ends_it_by_name() {
        let mut connection = lasting(Version::V311, &["a", "b"]);
        connection.received(at(0), &mut BytesMut::from(&[0x20, 2, 0, 0][..])).unwrap();
        let closed =
            connection.received(at(0), &mut BytesMut::from(&[0x90, 4, 0, 1, 1, 0x80][..])).unwrap_err();
        assert!(closed.cause == Cause::NotAuthorized && closed.reason.contains("of b (0x80)"), "{closed}");
        assert_eq!(connection.events.pop_back(), Some(Event::NotSubscribed("b".into(), 0x80)));
    }

    #[test]
    fn deliveries_are_acknowledged_by_hand_and_silence_is_not_judged_while_nobody_takes_them() {
        let mut connection = lasting(Version::V311, &["a"]);
        connection.received(at(0), &mut BytesMut::from(&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 1][..])).unwrap();
        connection.events.clear();
        drop(connection.take_out());
        connection.received(at(1), &mut BytesMut::from(&[0x32, 6, 0, 1, b't', 0, 9, 7][..])).unwrap();
        assert_eq!(connection.take_out(), None, "not settled");
        assert!(connection.is_held());
        // For an hour nobody takes it: pings go out each keepalive, and no answer can be read.
        for minute in 1..=60 {
            connection.tick(at(60 * minute)).unwrap();
            assert_eq!(connection.take_out().as_deref(), Some(&[0xc0, 0][..]));
            assert_eq!(connection.deadline(), at(60 * minute + 60));
        }
        let Some(Event::Delivered { id: 9, .. }) = connection.take_event() else { panic!() };
        connection.settle(9).unwrap();
        connection.settle(0).unwrap();
        assert_eq!(connection.take_out().as_deref(), Some(&[0x40, 2, 0, 9][..]));
        assert!(!connection.is_held());
        assert_eq!(connection.deadline(), at(3660), "from here on silence counts again");
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
