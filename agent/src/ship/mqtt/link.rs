//! One MQTT connection: numbers what it hands over, and matches PUBACKs to those numbers.
//!
//! rumqttc gives no token for a publish, but it is a FIFO: the n-th publish handed to it is the n-th
//! `Outgoing::Publish` it tells of, which names the packet id of a later PUBACK.

use super::{lost, reason};
use headwater_core::ports::{Link, LinkClosed, LinkEvent};
use headwater_core::wire::MESSAGE_BYTES_ACCEPTED_MAX;
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, Incoming};
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

/// Taken off CONNACK's Maximum Packet Size for topic, properties and framing.
const PACKET_OVERHEAD_BYTES: usize = 1024;
/// Bytes of a publish besides topic and payload.
const PUBLISH_OVERHEAD_BYTES: usize = 64;
/// Packet ids left unused, since acks may come out of order and a collision blocks rumqttc for good.
const SPARE_IDS: u64 = 4;
/// Publishes that wait for the span; the shipper's own span keeps below it.
const WAITING_MAX: usize = 64;

/// A publish on its way: `number` is the caller's, `None` for our own status.
#[derive(Debug, Clone, Copy)]
struct Flying {
    order: u64,
    number: Option<u64>,
}

/// A connection to the broker. Dropping it ends it without a DISCONNECT, so the will is published.
#[derive(Debug)]
pub struct MqttLink {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Event, LinkClosed>>,
    _polling: DropGuard,
    packet_bytes_max: Option<usize>,
    interface: Option<String>,
    span_max: u64,
    waiting: VecDeque<(Option<u64>, String, Vec<u8>, bool)>,
    handed: VecDeque<Flying>,
    by_id: BTreeMap<u16, Flying>,
    next_order: u64,
    next_number: u64,
}

impl MqttLink {
    pub(super) fn new(
        client: AsyncClient,
        events: mpsc::Receiver<Result<Event, LinkClosed>>,
        polling: DropGuard,
        packet_bytes_max: Option<u32>,
        inflight: u16,
    ) -> Self {
        Self {
            client,
            events,
            _polling: polling,
            packet_bytes_max: packet_bytes_max.and_then(|bytes| usize::try_from(bytes).ok()),
            interface: None,
            span_max: u64::from(inflight).saturating_sub(SPARE_IDS).max(1),
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            by_id: BTreeMap::new(),
            next_order: 0,
            next_number: 0,
        }
    }

    /// Which interface it goes over.
    pub(super) fn set_interface(&mut self, interface: Option<String>) {
        self.interface = interface;
    }

    /// Publishes our own retained status, outside the caller's numbers.
    pub(super) fn announce(&mut self, topic: String, payload: Vec<u8>) -> Result<(), LinkClosed> {
        self.waiting.push_back((None, topic, payload, true));
        self.publish_waiting()
    }

    fn oldest(&self) -> Option<u64> {
        self.handed.iter().chain(self.by_id.values()).map(|flying| flying.order).min()
    }

    fn publish_waiting(&mut self) -> Result<(), LinkClosed> {
        while self.oldest().is_none_or(|oldest| self.next_order.saturating_sub(oldest) < self.span_max) {
            let Some((number, topic, payload, retain)) = self.waiting.pop_front() else { break };
            self.client
                .try_publish(topic, QoS::AtLeastOnce, retain, payload)
                .map_err(|_| lost("the client took no publish", true))?;
            self.handed.push_back(Flying { order: self.next_order, number });
            self.next_order = self.next_order.saturating_add(1);
        }
        Ok(())
    }

    /// What an event of the client means, if anything.
    fn judge(&mut self, event: Event) -> Result<Option<LinkEvent>, LinkClosed> {
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(flying) = self.handed.pop_front() {
                    self.by_id.insert(id, flying);
                }
                Ok(None)
            }
            Event::Outgoing(Outgoing::AwaitAck(_)) => Err(lost("packet ids collided", true)),
            Event::Incoming(Incoming::PubAck(ack)) => {
                if let Some(refused) = reason::puback(ack.reason) {
                    return Err(refused);
                }
                let number = self.by_id.remove(&ack.pkid).and_then(|flying| flying.number);
                self.publish_waiting()?;
                Ok(number.map(LinkEvent::Sent))
            }
            Event::Incoming(Incoming::Publish(publish)) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                Ok(Some(LinkEvent::Received { topic, payload: publish.payload.to_vec() }))
            }
            _ => Ok(None),
        }
    }
}

impl Link for MqttLink {
    fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    fn payload_bytes_max(&self) -> usize {
        self.packet_bytes_max
            .map_or(MESSAGE_BYTES_ACCEPTED_MAX, |bytes| bytes.saturating_sub(PACKET_OVERHEAD_BYTES))
    }

    async fn send(&mut self, topic: &str, payload: Vec<u8>) -> Result<u64, LinkClosed> {
        let bytes = payload.len().saturating_add(topic.len()).saturating_add(PUBLISH_OVERHEAD_BYTES);
        if self.packet_bytes_max.is_some_and(|limit| bytes > limit) {
            return Err(lost(&format!("a message of {bytes} bytes is above the broker's limit"), true));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(lost("more messages wait than the span allows", true));
        }
        let number = self.next_number;
        self.next_number = self.next_number.saturating_add(1);
        self.waiting.push_back((Some(number), topic.to_owned(), payload, false));
        self.publish_waiting()?;
        Ok(number)
    }

    async fn event(&mut self) -> Result<LinkEvent, LinkClosed> {
        loop {
            let event = self.events.recv().await.ok_or_else(|| lost("the connection ended", true))??;
            if let Some(event) = self.judge(event)? {
                return Ok(event);
            }
        }
    }
}
