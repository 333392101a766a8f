//! What goes out next: hello, declarations, probes, batches and parts, signed as they leave.

use super::error::ShipError;
use super::flight::{Load, Unit};
use super::pipe::Freight;
use super::shipper::{Action, Credit, HandOver, Shipper};
use super::stream::{Declared, Stream};
use headwater_core::id::{Seq, StreamId};
use headwater_core::schema::Fingerprint;
use headwater_core::time::BootNanos;
use headwater_core::wire::object::{PART_HEADER_BYTES, Part};
use headwater_core::wire::{
    Capabilities, Declaration, ENVELOPE_BYTES, Hello, HelloStream, Lane, MessageKind, RANGES_MAX, Sent,
    Topic, Unsigned,
};
use std::ops::Range;

/// Bytes of control messages that may go beyond the pipe's window, so that alarms pass a full pipe.
const CONTROL_RESERVE_BYTES: usize = 32 * 1024;
/// Bytes of TLS, MQTT and TCP around a message, about.
const WIRE_OVERHEAD_BYTES: usize = 80;

impl Shipper {
    pub(super) fn say_hello(&mut self, now: BootNanos) -> Option<HandOver> {
        let nonce = (self.nonces)();
        if let Some((key, chain)) = self.renewed.take() {
            (self.me.key, self.me.chain) = (key, chain);
        }
        let mut hello = Hello {
            boot_ordinal: self.me.boot_ordinal,
            boot_id: self.me.boot_id,
            capabilities: Capabilities::ours(&self.me.software),
            message_bytes_max: self.message_bytes_max as u64,
            streams: self.streams.iter().map(|(id, stream)| hello_stream(id, stream)).collect(),
            chain: self.me.chain.clone(),
            nonce,
        };
        let mut body = hello.to_body();
        if body.len().saturating_add(ENVELOPE_BYTES) > self.message_bytes_max {
            // Ranges are a help, not a need.
            hello.streams.iter_mut().for_each(|stream| stream.unacked.clear());
            body = hello.to_body();
        }
        let found = body.len().saturating_add(ENVELOPE_BYTES);
        let made = Unsigned::new(MessageKind::Hello, &self.me.path, self.me.epoch, &body);
        let Some(message) = made.ok().filter(|_| found <= self.message_bytes_max) else {
            let limit = self.message_bytes_max;
            self.actions.push(Action::Report(ShipError::Oversize { what: "hello", found, limit }));
            self.actions.push(Action::Reconnect("hello does not fit the broker's limit".into()));
            self.session.unlinked();
            return None;
        };
        self.session.said(now, nonce, message.clone());
        self.credit = Credit::anew();
        self.counters.hellos = self.counters.hellos.saturating_add(1);
        let said = self.hand_over(now, Lane::Control, &message, Freight::Control);
        self.hello_number = said.number;
        Some(said)
    }

    pub(super) fn probe(&mut self, now: BootNanos) -> Option<HandOver> {
        let due = self.exchanges.probe_due(now, self.pipe.bytes());
        let probe =
            Unsigned::new(MessageKind::Probe, &self.me.path, self.me.epoch, &[]).ok().filter(|_| due)?;
        self.exchanges.probed(now);
        Some(self.hand_over(now, Lane::Control, &probe, Freight::Control))
    }

    pub(super) fn declaration(&mut self, id: StreamId, fingerprint: Fingerprint) -> Option<Unsigned> {
        let stream = self.streams.get(id)?;
        let schema = stream.schemas.get(&fingerprint)?.clone();
        let body = Declaration { stream: id, name: stream.name.clone(), schema }.to_body();
        let (found, limit) = (body.len().saturating_add(ENVELOPE_BYTES), self.message_bytes_max);
        let made = Unsigned::new(MessageKind::Declaration, &self.me.path, self.me.epoch, &body);
        let message = made.ok().filter(|_| found <= limit);
        if message.is_none() {
            self.actions.push(Action::Report(ShipError::Oversize { what: "declaration", found, limit }));
        }
        message
    }

    pub(super) fn declare(
        &mut self,
        now: BootNanos,
        lane: Lane,
        id: StreamId,
        fingerprint: Fingerprint,
        message: &Unsigned,
    ) -> HandOver {
        self.note_declared(now, id, fingerprint);
        self.hand_over(now, lane, message, Freight::Control)
    }

    fn note_declared(&mut self, now: BootNanos, id: StreamId, fingerprint: Fingerprint) {
        let link = self.link;
        if let Some(stream) = self.streams.get_mut(id) {
            let declared = Declared { link, at: now, known: false };
            stream.declared.insert(fingerprint, declared);
        }
    }

    /// Control first; then the lanes that carry data by their shares, so that none starves.
    pub(super) fn next_unit(&mut self, now: BootNanos) -> Option<HandOver> {
        if let Some(id) = self.flight.head(Lane::Control) {
            // Nothing smaller may slip past what control waits for.
            if !self.fits(id, CONTROL_RESERVE_BYTES) {
                return None;
            }
            return self.send_unit(now, id, Lane::Control);
        }
        if self.pipe.is_held(now) {
            return None;
        }
        // A lane that the link's rules hold back takes no turn: it would keep the others waiting.
        self.holds = Lane::ALL.map(|lane| {
            let id = self.flight.head(lane)?;
            self.policy.allows(now, lane, self.next_bytes(id).saturating_add(WIRE_OVERHEAD_BYTES)).err()
        });
        let (flight, holds) = (&self.flight, &self.holds);
        let held = |lane: Lane| holds.get(usize::from(lane.digit())).is_some_and(Option::is_some);
        let lane = self.shares.turn(|lane| flight.head(lane).is_some() && !held(lane))?;
        let id = self.flight.head(lane)?;
        // The one whose turn it is waits for room: small messages of the others would take it for ever.
        if !self.fits(id, 0) || !self.has_credit(now, id) {
            return None;
        }
        let message = self.send_unit(now, id, lane)?;
        self.shares.gave(lane, message.payload.len());
        Some(message)
    }

    fn next_range(&self, unit: &Unit) -> Option<Range<u64>> {
        let part_bytes = self.message_bytes_max.saturating_sub(ENVELOPE_BYTES + PART_HEADER_BYTES);
        unit.next_range(part_bytes as u64)
    }

    /// Bytes of the unit's next message.
    fn next_bytes(&self, id: u64) -> usize {
        self.flight.get(id).map_or(0, |unit| match &unit.load {
            Load::Batch(message) => message.message_len(),
            Load::Away { .. } => 0,
            Load::Blob { .. } => self.next_range(unit).map_or(0, |range| {
                let bytes = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
                bytes.saturating_add(ENVELOPE_BYTES + PART_HEADER_BYTES)
            }),
        })
    }

    fn fits(&self, id: u64, reserve: usize) -> bool {
        self.pipe.has_room(self.next_bytes(id), reserve)
    }

    fn has_credit(&mut self, now: BootNanos, id: u64) -> bool {
        let after = self.credit.used.saturating_add(self.next_bytes(id) as u64);
        if after > self.credit.limit {
            self.credit.blocked_since.get_or_insert(now);
            return false;
        }
        self.credit.blocked_since = None;
        true
    }

    fn send_unit(&mut self, now: BootNanos, id: u64, lane: Lane) -> Option<HandOver> {
        if let Some((stream, fingerprint)) = self.undeclared(id) {
            if let Some(message) = self.declaration(stream, fingerprint) {
                return Some(self.declare(now, lane, stream, fingerprint, &message));
            }
            // Cannot be declared: the collector may know it from an earlier life, else it will ask.
            self.note_declared(now, stream, fingerprint);
        }
        let unit = self.flight.get(id)?;
        let (message, freight) = match &unit.load {
            Load::Batch(message) => (message.clone(), Freight::Batch(id)),
            // Never queued.
            Load::Away { .. } => return None,
            Load::Blob { id: object_id, object, .. } => {
                let range = self.next_range(unit)?;
                let at = |n: u64| usize::try_from(n).ok();
                let part = Part {
                    object: *object_id,
                    total_len: object.len() as u64,
                    offset: range.start,
                    bytes: object.get(at(range.start)?..at(range.end)?)?,
                };
                let body = part.to_body();
                let message = Unsigned::new(MessageKind::Part, &self.me.path, self.me.epoch, &body).ok()?;
                (message, Freight::Part(id, range))
            }
        };
        let range = if let Freight::Part(_, range) = &freight { Some(range.clone()) } else { None };
        self.flight.handed(id, now, range);
        Some(self.hand_over(now, lane, &message, freight))
    }

    /// The first declaration of a unit that the collector may not have.
    fn undeclared(&self, id: u64) -> Option<(StreamId, Fingerprint)> {
        let unit = self.flight.get(id)?;
        if matches!(unit.load, Load::Blob { .. }) {
            // The row's batch declares; an object needs no schema.
            return None;
        }
        unit.holds.iter().map(|hold| (hold.stream, hold.fingerprint)).find(|(stream, fingerprint)| {
            self.streams.get(*stream).is_some_and(|stream| {
                !stream.declared.get(fingerprint).is_some_and(|declared| {
                    // A repeat may mean that the declaration was lost with the rows.
                    declared.known
                        || (declared.link == self.link
                            && (unit.attempts == 0 || unit.sent_at.is_none_or(|sent| declared.at > sent)))
                })
            })
        })
    }

    pub(super) fn hand_over(
        &mut self,
        now: BootNanos,
        lane: Lane,
        message: &Unsigned,
        freight: Freight,
    ) -> HandOver {
        let sent = Sent { boot_ordinal: self.me.boot_ordinal.0, ns: now.0 };
        let payload = message.sign(sent, &self.me.key);
        let topic = Topic::In { device: self.me.path.clone(), lane }.to_string();
        let number = self.pipe.hand_over(now, payload.len(), freight);
        self.exchanges.sent(now);
        self.silent_since.get_or_insert(now);
        if lane != Lane::Control {
            self.credit.used = self.credit.used.saturating_add(payload.len() as u64);
        }
        let on_wire = payload.len().saturating_add(topic.len()).saturating_add(WIRE_OVERHEAD_BYTES);
        self.counters.messages = self.counters.messages.saturating_add(1);
        self.counters.bytes_sent = self.counters.bytes_sent.saturating_add(on_wire as u64);
        self.policy.charge(now, on_wire);
        HandOver { topic, payload, number }
    }
}

fn hello_stream(id: StreamId, stream: &Stream) -> HelloStream {
    let oldest_held = stream.held.iter().next().map_or(stream.next_seq.0, |range| range.start);
    HelloStream {
        id,
        next_seq: stream.next_seq,
        oldest_held: Seq(oldest_held),
        unacked: stream.held.iter().take(RANGES_MAX).collect(),
    }
}
