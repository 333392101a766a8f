//! The pure machine with everything around it moved by hand.

use super::collector::ModelCollector;
use super::fixture::{Fleet, ModelSpool, UTC, further, scalar_rows, scalar_schema};
use crate::batch::{BatchSettings, Batcher};
use crate::ship::{Action, ClockExchange, HandOver, RetainUntil, ShipError, ShipSettings, Shipper};
use headwater_core::gap::GapRecord;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Slab, SpoolLane};
use headwater_core::schema::builtin;
use headwater_core::time::BootNanos;
use headwater_core::wire::{Envelope, Lane, MessageKind};

pub(super) struct Bench {
    pub(super) fleet: Fleet,
    pub(super) shipper: Shipper,
    pub(super) batcher: Batcher,
    pub(super) spool: ModelSpool,
    pub(super) collector: ModelCollector,
    pub(super) now: BootNanos,
    pub(super) cursor: Cursor,
    pub(super) gaps: Vec<GapRecord>,
    pub(super) clocks: usize,
    /// The exchanges themselves.
    pub(super) exchanges: Vec<ClockExchange>,
    pub(super) reports: Vec<ShipError>,
    pub(super) rewinds: usize,
    pub(super) rereads: usize,
    /// Ship lanes of telemetry and media.
    pub(super) lanes: [Lane; 2],
    /// Revocation lists to be kept.
    pub(super) lists_kept: Vec<Vec<Vec<u8>>>,
    pub(super) limit: usize,
}

impl Bench {
    pub(super) fn new(settings: ShipSettings) -> Self {
        let fleet = Fleet::new();
        let spool = ModelSpool::new();
        spool.declare(1, "imu", scalar_schema(), SpoolLane::Telemetry);
        spool.declare(2, "camera/front", builtin::image(), SpoolLane::Media);
        let mut n = 0_u8;
        let nonces = Box::new(move || {
            n += 1;
            [n; 16]
        });
        let collector = ModelCollector::new(fleet.collector(), fleet.roots.clone());
        Self {
            shipper: Shipper::new(settings, fleet.device(), nonces),
            batcher: Batcher::new(BatchSettings {
                linger_ms: 0,
                message_bytes_max: settings.message_bytes_max,
                effort: settings.effort,
            }),
            fleet,
            spool,
            collector,
            now: BootNanos(1_000_000_000),
            cursor: Cursor::default(),
            gaps: Vec::new(),
            clocks: 0,
            exchanges: Vec::new(),
            reports: Vec::new(),
            rewinds: 0,
            rereads: 0,
            lanes: [Lane::LiveTelemetry, Lane::LiveMedia],
            lists_kept: Vec::new(),
            limit: 128 * 1024,
        }
    }

    pub(super) fn durable() -> Self {
        Self::new(ShipSettings { retain_until: RetainUntil::Durable, ..ShipSettings::default() })
    }

    pub(super) fn append(&mut self, seqs: std::ops::Range<u64>) {
        self.spool.append(Slab { rows: scalar_rows(1, seqs), blob: None, arrived: None });
    }

    pub(super) fn connect(&mut self) {
        self.shipper.set_streams(self.spool.states());
        self.shipper.connected(self.now, self.limit);
        self.batcher.set_message_bytes_max(self.shipper.message_bytes_max());
    }

    pub(super) fn wait_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    pub(super) fn act(&mut self) {
        for action in self.shipper.take_actions() {
            match action {
                Action::Trim(sets) => self.spool.trim_now(sets),
                Action::Gap(gap) => self.gaps.push(gap),
                Action::Clock(exchange) => {
                    self.clocks += 1;
                    self.exchanges.push(exchange);
                }
                Action::Reread => {
                    self.cursor = Cursor::default();
                    self.rereads += 1;
                }
                Action::Rewind => {
                    self.cursor = Cursor::default();
                    self.rewinds += 1;
                }
                Action::Reconnect(_) => {}
                Action::Revoked(brought) => self.lists_kept.push(brought.lists),
                Action::Report(error) => self.reports.push(error),
            }
        }
    }

    /// Reads both lanes and offers everything sealed.
    pub(super) fn pull(&mut self) {
        self.act();
        self.shipper.set_streams(self.spool.states());
        let mut end = self.cursor;
        for (from, lane) in [SpoolLane::Telemetry, SpoolLane::Media].into_iter().zip(self.lanes) {
            if !self.shipper.wants(lane) {
                continue;
            }
            for slab in self.spool.read_now(from, self.cursor, usize::MAX) {
                end = further(end, slab.next);
                if self.shipper.take(&slab) {
                    for sealed in self.batcher.push(self.now, slab) {
                        self.shipper.offer(lane, sealed);
                    }
                }
            }
            for sealed in self.batcher.flush() {
                self.shipper.offer(lane, sealed);
            }
        }
        self.cursor = end;
    }

    /// Everything that goes now, each PUBACKed 10 ms later.
    pub(super) fn send_all(&mut self) -> Vec<HandOver> {
        let mut sent = Vec::new();
        while let Some(message) = self.shipper.next(self.now) {
            self.wait_ms(1);
            self.shipper.sent(self.now, message.number);
            sent.push(message);
        }
        self.act();
        sent
    }

    pub(super) fn deliver(&mut self, messages: &[HandOver]) {
        for message in messages {
            self.collector.receive(&message.topic, &message.payload, UTC.0);
        }
    }

    pub(super) fn hear(&mut self, ack: &[u8]) {
        self.shipper.received(self.now, UTC, ack);
        self.batcher.announce(self.shipper.announced());
        self.act();
    }

    /// Connects and completes hello; gives the hello.
    pub(super) fn settle(&mut self) -> HandOver {
        self.connect();
        let sent = self.send_all();
        assert_eq!(sent.len(), 1, "nothing but hello before its answer");
        self.deliver(&sent);
        let answer = self.collector.ack(UTC.0);
        self.wait_ms(20);
        self.hear(&answer);
        assert!(self.shipper.incarnation().is_some());
        sent.into_iter().next().unwrap()
    }

    pub(super) fn kinds(messages: &[HandOver]) -> Vec<MessageKind> {
        messages.iter().map(|m| Envelope::parse(&m.payload).unwrap().kind).collect()
    }
}

pub(super) fn range(range: std::ops::Range<u64>) -> IntervalSet {
    [range].into_iter().collect()
}
