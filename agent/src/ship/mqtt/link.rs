//! A connection as the shipper sees it: numbered messages in, events out.

use headwater_core::ports::{Link, LinkClosed, LinkEvent};
use headwater_core::wire::MESSAGE_BYTES_ACCEPTED_MAX;
use headwater_mqtt::{Event, Limits, Outgoing, span_of};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

/// Taken off CONNACK's Maximum Packet Size for topic, properties and framing.
const PACKET_OVERHEAD_BYTES: usize = 1024;
/// Bytes of a publish besides topic and payload.
const PUBLISH_OVERHEAD_BYTES: usize = 64;
/// Publishes that wait for the connection to take them; the shipper's own span keeps below it.
const WAITING_MAX: usize = 64;

/// A connection to the broker. Dropping it ends it without a DISCONNECT, so the will is published.
#[derive(Debug)]
pub struct MqttLink {
    messages: mpsc::Sender<Outgoing>,
    events: mpsc::Receiver<Result<Event, LinkClosed>>,
    _driving: DropGuard,
    peer: String,
    packet_bytes_max: Option<usize>,
    interface: Option<String>,
    payload_bytes_max: usize,
    span_max: u64,
    waiting: VecDeque<Outgoing>,
    next_number: u64,
}

/// What [`MqttLink`] is made of.
pub(super) struct Made {
    pub(super) messages: mpsc::Sender<Outgoing>,
    pub(super) events: mpsc::Receiver<Result<Event, LinkClosed>>,
    pub(super) driving: DropGuard,
    pub(super) peer: String,
    pub(super) limits: Limits,
    /// What this broker was found to take, if that is less.
    pub(super) payload_bytes_max: usize,
    pub(super) inflight_max: u16,
}

impl MqttLink {
    pub(super) fn new(made: Made) -> Self {
        let packet_bytes_max = made.limits.packet_bytes_max.and_then(|bytes| usize::try_from(bytes).ok());
        let by_packet = packet_bytes_max
            .map_or(MESSAGE_BYTES_ACCEPTED_MAX, |bytes| bytes.saturating_sub(PACKET_OVERHEAD_BYTES));
        Self {
            messages: made.messages,
            events: made.events,
            _driving: made.driving,
            peer: made.peer,
            packet_bytes_max,
            interface: None,
            payload_bytes_max: by_packet.min(made.payload_bytes_max),
            span_max: span_of(&made.limits, made.inflight_max),
            waiting: VecDeque::new(),
            next_number: 0,
        }
    }

    /// Which interface it goes over.
    pub(super) fn set_interface(&mut self, interface: Option<String>) {
        self.interface = interface;
    }

    /// Publishes our own retained status, outside the caller's numbers.
    pub(super) fn announce(&mut self, topic: String, payload: Vec<u8>, retain: bool) {
        self.waiting.push_back(Outgoing { number: None, topic, payload, retain });
        self.pass_waiting();
    }

    fn pass_waiting(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            match self.messages.try_send(message) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(message)) => {
                    self.waiting.push_front(message);
                    break;
                }
                // Its last event says why.
                Err(mpsc::error::TrySendError::Closed(_)) => break,
            }
        }
    }

    /// The connection is over: its last words come before "it ended".
    fn over(&mut self) -> LinkClosed {
        while let Ok(event) = self.events.try_recv() {
            if let Err(closed) = event {
                return closed;
            }
        }
        LinkClosed::transient("the connection ended")
    }
}

impl Link for MqttLink {
    fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    fn span_max(&self) -> u64 {
        self.span_max
    }

    fn peer(&self) -> String {
        self.peer.clone()
    }

    async fn send(&mut self, topic: &str, payload: Vec<u8>) -> Result<u64, LinkClosed> {
        let bytes = payload.len().saturating_add(topic.len()).saturating_add(PUBLISH_OVERHEAD_BYTES);
        if self.packet_bytes_max.is_some_and(|limit| bytes > limit) {
            return Err(LinkClosed::transient(format!(
                "a message of {bytes} bytes is above the broker's limit"
            )));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(LinkClosed::transient("more messages wait than the span allows"));
        }
        if self.messages.is_closed() {
            return Err(self.over());
        }
        let number = self.next_number;
        self.next_number = self.next_number.saturating_add(1);
        let topic = topic.to_owned();
        self.waiting.push_back(Outgoing { number: Some(number), topic, payload, retain: false });
        self.pass_waiting();
        Ok(number)
    }

    async fn event(&mut self) -> Result<LinkEvent, LinkClosed> {
        loop {
            let event = self.events.recv().await;
            let event = event.ok_or_else(|| LinkClosed::transient("the connection ended"))??;
            self.pass_waiting();
            if let Event::Link(event) = event {
                return Ok(event);
            }
        }
    }
}
