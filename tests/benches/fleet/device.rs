//! One device of the fleet: the agent's rules of hello, credit and resend, over a backlog of like messages.

use super::link::{Heard, Link};
use super::site::Identity;
use anyhow::Result;
use headwater_core::batch::{Column, Effort, Rows, Section, StreamRef, Values, encode_batch};
use headwater_core::id::{BootId, BootOrdinal, Epoch, IncarnationId, Seq, StreamId};
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::{ClockDomain, StampKind};
use headwater_core::wire::{
    Ack, Capabilities, Declaration, Envelope, Hello, HelloStream, Lane, MESSAGE_BYTES_SENT_MAX, MessageKind,
    Sent, Topic, Unsigned,
};
use headwater_tests::ticks::{now, pause, unix_nanos};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const ROWS: u64 = 4;
const EPOCH: Epoch = Epoch(0xf1ee7);
/// Messages handed to the broker and not taken by it.
const UNTAKEN_MAX: usize = 8;
/// A hello is said again after this.
const HELLO: Duration = Duration::from_secs(5);
/// Rows not durable after this are sent again.
const RESEND: Duration = Duration::from_secs(20);
/// Without credit, and not told to wait, a device says hello anew.
const STALL: Duration = Duration::from_secs(30);
/// Longest pause before a connection is tried again.
const BACKOFF_S_MAX: u64 = 30;

/// Counts over all devices.
#[derive(Debug, Default)]
pub(super) struct Counts {
    acks: AtomicU64,
    hellos: AtomicU64,
    stalls: AtomicU64,
    resent: AtomicU64,
    bytes: AtomicU64,
}

/// [`Counts`] at one time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) acks: u64,
    pub(super) hellos: u64,
    pub(super) stalls: u64,
    pub(super) resent: u64,
    pub(super) bytes: u64,
}

impl Counts {
    /// What was counted since the last time.
    pub(super) fn take(&self) -> Counted {
        let take = |n: &AtomicU64| n.swap(0, Ordering::SeqCst);
        Counted {
            acks: take(&self.acks),
            hellos: take(&self.hellos),
            stalls: take(&self.stalls),
            resent: take(&self.resent),
            bytes: take(&self.bytes),
        }
    }
}

/// What every device sends: the same bodies, signed by each for itself.
pub(super) struct Plan {
    declaration: Vec<u8>,
    bodies: Vec<Vec<u8>>,
}

impl Plan {
    pub(super) fn new(messages: u64, kilobytes: usize) -> Result<Self> {
        let schema = Schema {
            salt: 0,
            kind: "fleet_probe".parse()?,
            modality: Modality::Bytes,
            time_exp: 3,
            fields: vec![Field {
                name: "noise".parse()?,
                logical: Logical::Bytes,
                nullable: false,
                unit: "1".into(),
            }],
        };
        let declaration =
            Declaration { stream: StreamId(1), name: "probe".parse()?, schema: schema.clone() }.to_body();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let n = usize::try_from(ROWS)?;
        let bytes = (kilobytes * 1000 / n / 8).max(1);
        let t: Vec<i64> = (0..i64::try_from(ROWS)?).collect();
        let body = |message: u64| {
            let values: Vec<Vec<u8>> = (0..n).map(|_| (0..bytes).flat_map(|_| noise()).collect()).collect();
            let rows = Rows {
                stream: StreamRef::Id(StreamId(1)),
                fingerprint: schema.fingerprint(),
                boot_ordinal: BootOrdinal(1),
                first_seq: Seq(message * ROWS),
                time_exp: 3,
                stamp_kind: StampKind::Arrival,
                domain: ClockDomain::BOOT,
                t: t.iter().map(|t| 1_000_000 + t).collect(),
                lat_lo: vec![0; n],
                lat_hi: vec![1_000; n],
                fields: vec![Column { values: Values::Bytes(values), valid: None }],
            };
            encode_batch(&[Section::Rows(rows)], Effort::Spool)
        };
        Ok(Self { declaration, bodies: (0..messages).map(body).collect() })
    }

    /// Rows of a device in all.
    pub(super) fn rows(&self) -> u64 {
        self.bodies.len() as u64 * ROWS
    }
}

pub(super) struct Device {
    me: Identity,
    broker: String,
    plan: Arc<Plan>,
    counts: Arc<Counts>,
    incarnation: Option<IncarnationId>,
    nonce: u64,
    durable: u64,
    /// The next message to send, and the furthest that ever was sent.
    next: u64,
    furthest: u64,
    sent_bytes: u64,
    credit: u64,
    stalls_at: Option<Instant>,
    said: Option<Instant>,
    progress: Instant,
    told: bool,
}

impl Device {
    pub(super) fn new(me: Identity, broker: String, plan: Arc<Plan>, counts: Arc<Counts>) -> Self {
        Self {
            me,
            broker,
            plan,
            counts,
            incarnation: None,
            nonce: 0,
            durable: 0,
            next: 0,
            furthest: 0,
            sent_bytes: 0,
            credit: 0,
            stalls_at: None,
            said: None,
            progress: now(),
            told: false,
        }
    }

    /// Sends what it has, for ever; counts itself once all of it is durable.
    pub(super) async fn run(mut self, mut have: watch::Receiver<u64>, caught_up: Arc<AtomicU64>) {
        let mut tries = 0_u32;
        loop {
            let started = now();
            // Ended by the broker, by the outage above all: that is what is measured.
            drop(self.one_link(&mut have, &caught_up).await);
            if started.elapsed() > Duration::from_secs(60) {
                tries = 0;
            }
            let ceiling_ms = 1_000 * (1_u64 << tries.min(5)).min(BACKOFF_S_MAX);
            tries += 1;
            let draw = unix_nanos().unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.salt();
            pause(Duration::from_millis(draw % ceiling_ms)).await;
        }
    }

    /// Spreads devices that draw at the same moment.
    fn salt(&self) -> u64 {
        self.me.path.device.as_str().bytes().fold(7, |n, b| (n ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    }

    async fn one_link(&mut self, have: &mut watch::Receiver<u64>, caught_up: &AtomicU64) -> Result<()> {
        let topic = Topic::Ack(self.me.path.clone()).to_string();
        let mut link = Link::connect(&self.broker, self.me.path.device.as_str(), &topic).await?;
        self.say_hello(&mut link).await?;
        loop {
            let total = *have.borrow_and_update();
            if self.durable >= total * ROWS {
                if !self.told {
                    self.told = true;
                    caught_up.fetch_add(1, Ordering::SeqCst);
                }
            } else {
                self.told = false;
                self.send(&mut link, total).await?;
            }
            tokio::select! {
                heard = link.hear() => match heard? {
                    Heard::Message(message) => self.hear(&mut link, &message).await?,
                    Heard::Taken => {}
                },
                changed = have.changed() => {
                    changed?;
                    self.told = false;
                }
                () = pause(Duration::from_secs(1)) => self.look_at_the_clock(&mut link, total).await?,
            }
        }
    }

    async fn look_at_the_clock(&mut self, link: &mut Link, total: u64) -> Result<()> {
        let waits = self.said.is_some_and(|said| said.elapsed() > HELLO);
        let stalled = self.stalls_at.is_some_and(|at| now() >= at);
        if stalled {
            self.counts.stalls.fetch_add(1, Ordering::SeqCst);
        }
        if waits || stalled {
            return self.say_hello(link).await;
        }
        if self.durable < total * ROWS && self.next > self.durable / ROWS && self.progress.elapsed() > RESEND
        {
            self.next = self.durable / ROWS;
            self.progress = now();
        }
        Ok(())
    }

    async fn say_hello(&mut self, link: &mut Link) -> Result<()> {
        self.counts.hellos.fetch_add(1, Ordering::SeqCst);
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        let hello = Hello {
            boot_ordinal: BootOrdinal(1),
            boot_id: BootId([2; 16]),
            capabilities: Capabilities::ours("fleet"),
            message_bytes_max: MESSAGE_BYTES_SENT_MAX as u64,
            streams: vec![HelloStream {
                id: StreamId(1),
                next_seq: Seq(self.plan.rows()),
                oldest_held: Seq(self.durable),
                unacked: vec![],
            }],
            chain: self.me.chain.clone(),
            nonce,
        };
        (self.sent_bytes, self.credit, self.incarnation) = (0, 0, None);
        (self.said, self.stalls_at) = (Some(now()), None);
        self.put(link, Lane::Control, MessageKind::Hello, &hello.to_body()).await?;
        Ok(())
    }

    async fn put(&self, link: &mut Link, lane: Lane, kind: MessageKind, body: &[u8]) -> Result<u64> {
        let sent = Sent { boot_ordinal: 1, ns: unix_nanos() };
        let message = Unsigned::new(kind, &self.me.path, EPOCH, body)?.sign(sent, &self.me.key);
        let bytes = message.len() as u64;
        link.send(&Topic::In { device: self.me.path.clone(), lane }.to_string(), message).await?;
        Ok(bytes)
    }

    async fn send(&mut self, link: &mut Link, total: u64) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        while self.incarnation.is_some() && self.next < total && link.unacked() < UNTAKEN_MAX {
            let Some(body) = plan.bodies.get(usize::try_from(self.next)?) else { return Ok(()) };
            let bytes = (body.len() + headwater_core::wire::ENVELOPE_BYTES) as u64;
            if self.sent_bytes + bytes > self.credit {
                self.stalls_at.get_or_insert_with(|| now() + STALL);
                return Ok(());
            }
            self.stalls_at = None;
            let sent = self.put(link, Lane::BacklogTelemetry, MessageKind::Batch, body).await?;
            self.sent_bytes += sent;
            self.counts.bytes.fetch_add(sent, Ordering::Relaxed);
            if self.next < self.furthest {
                self.counts.resent.fetch_add(1, Ordering::Relaxed);
            }
            self.next += 1;
            self.furthest = self.furthest.max(self.next);
            self.progress = now();
        }
        Ok(())
    }

    async fn hear(&mut self, link: &mut Link, message: &[u8]) -> Result<()> {
        self.counts.acks.fetch_add(1, Ordering::Relaxed);
        let ack = Ack::from_body(Envelope::parse(message)?.body)?;
        if let Some(nonce) = ack.nonce {
            if nonce[..8] != self.nonce.to_le_bytes() {
                return Ok(());
            }
            let first = self.incarnation.is_none();
            (self.incarnation, self.said) = (Some(ack.incarnation), None);
            let durable = ack.streams.iter().find(|s| s.id == StreamId(1)).map_or(0, |s| s.durable_upto.0);
            self.durable = durable;
            if first {
                self.next = durable / ROWS;
                let declaration = Arc::clone(&self.plan);
                self.put(link, Lane::Control, MessageKind::Declaration, &declaration.declaration).await?;
            }
        } else if self.incarnation != Some(ack.incarnation) {
            if self.incarnation.is_some() || ack.need_hello && self.said.is_none() {
                self.say_hello(link).await?;
            }
            return Ok(());
        }
        if let Some(stream) = ack.streams.iter().find(|stream| stream.id == StreamId(1))
            && stream.durable_upto.0 > self.durable
        {
            self.durable = stream.durable_upto.0;
            self.progress = now();
        }
        if let Some(credit) = ack.credit.filter(|credit| *credit > self.credit) {
            self.credit = credit;
            self.stalls_at = None;
        }
        if let Some(wait) = ack.wait {
            self.stalls_at = Some(now() + Duration::from_millis(wait.for_ms.into()));
        }
        if ack.need_hello && self.said.is_none() {
            self.say_hello(link).await?;
        }
        Ok(())
    }
}
