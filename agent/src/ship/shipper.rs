//! The pure half of shipping: events in with their time, messages and actions out.
//!
//! Three things limit what [`Shipper::next`] gives: the session (nothing but hello before its answer),
//! the pipe (bytes and span the broker has not taken), and credit (bytes the collector will take).

use super::error::ShipError;
use super::exchange::{ClockExchange, Exchanges};
use super::feed::BacklogOrder;
use super::flight::{Flight, Load, UNITS_MAX};
use super::identity::ShipIdentity;
use super::pipe::{Freight, Pipe};
use super::policy::{Hold, LinkPolicy};
use super::session::Session;
use super::share::Shares;
use super::status::{ShipCounters, ShipStatus};
use super::stream::Streams;
use super::withheld::TooLargeRows;
use crate::batch::Sealed;
use crate::trust::BroughtLists;
use headwater_core::batch::Announced;
use headwater_core::batch::Effort;
use headwater_core::gap::GapRecord;
use headwater_core::id::{IncarnationId, Sha256, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{SpooledSlab, StreamState};
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::{BootNanos, NS_PER_S};
use headwater_core::wire::{Lane, MESSAGE_BYTES_SENT_MAX, MessageKind, SigningKey, Unsigned};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes a device may send after a hello before an ack says otherwise.
pub(super) const CREDIT_START: u64 = 256 * 1024;
/// Bytes of batches and blobs of one lane kept in memory until durable; a lane may hold one unit more.
const HELD_CONTROL_MAX: usize = 256 * 1024;
const HELD_LIVE_MAX: usize = 2 << 20;
/// As much as the pipe takes: a landing log is synced every 30 ms, and what waits for that is held.
const HELD_BACKLOG_MAX: usize = 4 << 20;
/// What a live lane holds on a slow link, in time.
const HELD_MOMENT_NS: i64 = 10 * NS_PER_S;
/// Time without credit after which hello starts the count anew: bytes the broker lost never come back as credit.
const CREDIT_STALL_NS: i64 = 30 * NS_PER_S;
/// Time without an ack, while messages go, after which the collector counts as silent.
const SILENT_NS: i64 = 60 * NS_PER_S;
/// Least time before a declaration asked for again is sent again.
const DECLARE_NS_MIN: i64 = NS_PER_S;
/// Most declarations queued on request.
const ASKED_MAX: usize = 512;

/// When the spool may let go of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetainUntil {
    /// In a synced landing log.
    Durable,
    /// In a published commit.
    #[default]
    Committed,
}

/// Settings of shipping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShipSettings {
    /// Until when rows are kept.
    pub retain_until: RetainUntil,
    /// Largest message, bytes; lowered by the broker's limit.
    pub message_bytes_max: usize,
    /// Most bytes handed over and not PUBACKed.
    pub window_bytes_max: usize,
    /// Width over which reconnects of a fleet are spread, s; 0 for a broker of our own.
    pub spread_s: u16,
    /// Keepalive of the link, s.
    pub keepalive_s: u16,
    /// Longest wait of a slab for company, ms.
    pub linger_ms: u64,
    /// The same on a metered link, ms.
    pub metered_linger_ms: u64,
    /// How much work a batch may cost on a link that is not metered.
    pub effort: Effort,
    /// Rows younger than this are live, ms; older ones are backlog.
    pub live_window_ms: u64,
    /// Which backlog goes first.
    pub backlog_order: BacklogOrder,
    /// JPEGs travel as Lepton, where the collector and this build can.
    pub lepton: bool,
}

impl Default for ShipSettings {
    fn default() -> Self {
        Self {
            retain_until: RetainUntil::Committed,
            message_bytes_max: MESSAGE_BYTES_SENT_MAX,
            window_bytes_max: super::pipe::WINDOW_BYTES_MAX,
            spread_s: 0,
            keepalive_s: 60,
            linger_ms: 1_000,
            metered_linger_ms: 10_000,
            live_window_ms: 30_000,
            backlog_order: BacklogOrder::Oldest,
            effort: Effort::Wire,
            lepton: false,
        }
    }
}

/// A signed message to hand over now; the n-th of a link since [`Shipper::connected`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// Where to.
    pub topic: String,
    /// Signed message.
    pub payload: Vec<u8>,
    /// Its number on this link, from 0.
    pub number: u64,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the spool what the collector has.
    Trim(Vec<(StreamId, IntervalSet)>),
    /// Record a gap: rows the collector will never take. Comes before the trim that releases them.
    Gap(GapRecord),
    /// Record a clock exchange.
    Clock(ClockExchange),
    /// Read backlog from the start again: what the broker had of it did not land.
    Reread,
    /// Read the spool from the start again: what was durable is not any more, or messages must be cut smaller.
    Rewind,
    /// Keep these lists of revoked collectors.
    Revoked(BroughtLists),
    /// The link is dead: build another.
    Reconnect(String),
    /// Log and count.
    Report(ShipError),
}

#[derive(Debug)]
pub(super) struct Credit {
    pub(super) limit: u64,
    pub(super) told: bool,
    pub(super) used: u64,
    pub(super) blocked_since: Option<BootNanos>,
}

impl Credit {
    pub(super) fn anew() -> Self {
        Self { limit: CREDIT_START, told: false, used: 0, blocked_since: None }
    }

    /// What is left of it, counted from a hello that is said again.
    pub(super) fn carried(&self) -> Self {
        let left = self.limit.saturating_sub(self.used).min(CREDIT_START);
        Self { limit: left, ..Self::anew() }
    }
}

/// A limit that no CONNACK told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundLimit {
    /// What the link had said, bytes.
    pub(super) said: usize,
    /// What it takes, bytes.
    pub(super) limit: usize,
}

/// Gives random nonces.
pub type Nonces = Box<dyn FnMut() -> [u8; 16] + Send>;

/// The state machine. See the module.
pub struct Shipper {
    pub(super) settings: ShipSettings,
    pub(super) me: ShipIdentity,
    pub(super) nonces: Nonces,
    pub(super) session: Session,
    pub(super) streams: Streams,
    pub(super) flight: Flight,
    pub(super) exchanges: Exchanges,
    pub(super) pipe: Pipe,
    pub(super) credit: Credit,
    /// Number of the newest hello on this link.
    pub(super) hello_number: u64,
    pub(super) linked: bool,
    pub(super) link: u64,
    pub(super) message_bytes_max: usize,
    /// What the link said it takes, bytes.
    pub(super) payload_bytes_max: usize,
    /// What was found to be too large although the link says that it takes more.
    pub(super) found_limit: Option<FoundLimit>,
    pub(super) too_large: TooLargeRows,
    /// What the collector that answered last can read; the baseline before one did.
    pub(super) announced: Announced,
    /// Declarations asked for by the collector.
    pub(super) asked: VecDeque<(StreamId, Fingerprint)>,
    pub(super) actions: Vec<Action>,
    pub(super) shares: Shares,
    /// What the link may cost.
    pub(super) policy: LinkPolicy,
    /// Lanes that its rules held back when they were looked at last, by digit.
    pub(super) holds: [Option<Hold>; Lane::ALL.len()],
    pub(super) restored: bool,
    /// Why the collector takes nothing of ours any more.
    pub(super) shut_out: Option<String>,
    /// New key and chain, which the next hello brings.
    pub(super) renewed: Option<(Arc<SigningKey>, Vec<Vec<u8>>)>,
    pub(super) ack_rtt_ns: i64,
    pub(super) last_ack: Option<BootNanos>,
    pub(super) silent_since: Option<BootNanos>,
    pub(super) silence_told: bool,
    pub(super) last_commit: Option<Sha256>,
    pub(super) counters: ShipCounters,
}

impl std::fmt::Debug for Shipper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shipper")
            .field("session", &self.session)
            .field("flight", &self.flight.len())
            .field("credit", &self.credit)
            .finish_non_exhaustive()
    }
}

impl Shipper {
    /// A shipper without a link.
    #[must_use]
    pub fn new(settings: ShipSettings, me: ShipIdentity, nonces: Nonces) -> Self {
        let exchanges = Exchanges::new(me.boot_ordinal);
        Self {
            settings,
            me,
            nonces,
            session: Session::new(),
            streams: Streams::default(),
            flight: Flight::default(),
            exchanges,
            pipe: Pipe::new(settings.message_bytes_max, settings.keepalive_s.into())
                .with_window_max(settings.window_bytes_max),
            credit: Credit::anew(),
            hello_number: 0,
            linked: false,
            link: 0,
            message_bytes_max: settings.message_bytes_max,
            payload_bytes_max: settings.message_bytes_max,
            found_limit: None,
            too_large: TooLargeRows::default(),
            announced: Announced::BASELINE,
            asked: VecDeque::new(),
            actions: Vec::new(),
            shares: Shares::default(),
            policy: LinkPolicy::new(Vec::new(), &[]),
            holds: [None; Lane::ALL.len()],
            restored: false,
            shut_out: None,
            renewed: None,
            ack_rtt_ns: 0,
            last_ack: None,
            silent_since: None,
            silence_told: false,
            last_commit: None,
            counters: ShipCounters::default(),
        }
    }

    /// The spool's streams as they are now. To be called before slabs of them are taken.
    pub fn set_streams(&mut self, states: Vec<StreamState>) {
        self.streams.update(states);
    }

    /// A link stands; messages of at most `payload_bytes_max` pass. If that is more than before, rows that fitted no
    /// message are tried again.
    pub fn connected(&mut self, now: BootNanos, payload_bytes_max: usize) {
        self.linked = true;
        self.link = self.link.saturating_add(1);
        self.payload_bytes_max = payload_bytes_max;
        // A link that says more than the one it was found on is another broker, or one that was set anew.
        self.found_limit = self.found_limit.filter(|found| payload_bytes_max <= found.said);
        let found = self.found_limit.map_or(usize::MAX, |found| found.limit);
        self.message_bytes_max = self.settings.message_bytes_max.min(payload_bytes_max).min(found);
        self.pipe.opened(now, self.message_bytes_max);
        self.session.linked(now);
        let limit = self.message_bytes_max;
        self.recut(|load| matches!(load, Load::Batch(m) if m.message_len() > limit));
        if let Some(rows) = self.too_large.take_if_any_fits(limit) {
            for (id, seqs) in rows {
                if let Some(stream) = self.streams.get_mut(id) {
                    seqs.iter().for_each(|seqs| stream.taken.remove(seqs));
                }
            }
            self.actions.push(Action::Rewind);
        }
    }

    /// Lets go of units whose rows are to be read from the spool and sealed anew.
    pub(super) fn recut(&mut self, over: impl Fn(&Load) -> bool) {
        let recut = self.flight.release(|unit| over(&unit.load));
        if !recut.is_empty() {
            for hold in recut.iter().flat_map(|unit| &unit.holds) {
                if let Some(stream) = self.streams.get_mut(hold.stream) {
                    stream.taken.remove(hold.seqs.clone());
                }
            }
            self.actions.push(Action::Rewind);
        }
    }

    /// What was away and did not land is read from the spool again.
    fn let_go_of_lost(&mut self) {
        let lost = self.flight.take_lost();
        if lost.is_empty() {
            return;
        }
        for hold in lost.iter().flat_map(|unit| &unit.holds) {
            if let Some(stream) = self.streams.get_mut(hold.stream) {
                stream.taken.remove(hold.seqs.clone());
                // Its declaration may be lost with it.
                stream.declared.retain(|of, declared| *of != hold.fingerprint || declared.known);
            }
        }
        self.actions.push(Action::Reread);
    }

    /// A collector answered and said what it can read. If that is less than before, what was sealed for
    /// its predecessor is sealed anew.
    pub(super) fn heard_announced(&mut self, announced: Announced) {
        let before = std::mem::replace(&mut self.announced, announced);
        if before.codecs & !announced.codecs != 0 || before.packings & !announced.packings != 0 {
            self.recut(|load| matches!(load, Load::Batch(_)));
        }
    }

    /// What batches may be written with.
    #[must_use]
    pub fn announced(&self) -> Announced {
        self.announced
    }

    /// Our certificates were renewed. The next hello shows them, and what follows it is signed with the new key; what is
    /// on its way under the old one still counts.
    pub fn renew(&mut self, now: BootNanos, identity: ShipIdentity) {
        let mut roots = identity.roots;
        roots.revoke(self.me.roots.revocations());
        self.me.roots = roots;
        self.renewed = Some((identity.key, identity.chain));
        if self.linked {
            self.session.renewed(now);
        }
    }

    /// The link is gone.
    pub fn disconnected(&mut self) {
        self.linked = false;
        for freight in self.pipe.closed() {
            match freight {
                Freight::Control => {}
                Freight::Batch(id) => self.flight.dropped(id, None),
                Freight::Part(id, range) => self.flight.dropped(id, Some(range)),
            }
        }
        self.session.unlinked();
        self.exchanges.unlinked();
        self.credit.blocked_since = None;
        self.silent_since = None;
    }

    /// The broker took message `number` of this link: frees the pipe, means nothing more.
    pub fn sent(&mut self, now: BootNanos, number: u64) {
        match self.pipe.acked(now, number) {
            Some(Freight::Batch(id)) => self.flight.took(id, now, None),
            Some(Freight::Part(id, range)) => self.flight.took(id, now, Some(range)),
            Some(Freight::Control) | None => {}
        }
    }

    /// Largest message now, bytes.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// True if more of a lane should be read.
    #[must_use]
    pub fn wants(&self, lane: Lane) -> bool {
        self.room(lane) > 0
    }

    /// Bytes of a lane that should be read now. A slow link holds no more than it carries in a moment: what waits in
    /// memory can neither be overtaken nor go out of date.
    #[must_use]
    pub fn room(&self, lane: Lane) -> usize {
        if !self.session.answered_once() || self.restored || self.shut_out.is_some() {
            return 0;
        }
        let limit = match lane {
            Lane::Control => HELD_CONTROL_MAX,
            Lane::LiveTelemetry | Lane::LiveMedia => HELD_LIVE_MAX.min(self.carried_in(HELD_MOMENT_NS)),
            Lane::BacklogTelemetry | Lane::BacklogMedia => HELD_BACKLOG_MAX,
        };
        // Pictures that wait for their hours must not shut out alarms, nor numbers.
        let units_max = match lane {
            Lane::Control => usize::MAX,
            Lane::LiveTelemetry => UNITS_MAX.saturating_mul(2),
            _ => UNITS_MAX,
        };
        if self.flight.len() >= units_max { 0 } else { limit.saturating_sub(self.flight.held(lane)) }
    }

    /// Bytes the link takes in this time, as far as is known and allowed; at least a message.
    fn carried_in(&self, ns: i64) -> usize {
        let allowed = self.policy.rules().and_then(|rules| rules.rate_bytes_per_s);
        let Some(rate) = self.pipe.rate().into_iter().chain(allowed).min() else { return usize::MAX };
        let bytes = u128::from(rate).saturating_mul(u128::from(ns.unsigned_abs())) / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX).max(self.message_bytes_max)
    }

    /// The rules links are under, with what was spent before.
    pub fn set_policy(&mut self, policy: LinkPolicy) {
        self.policy = policy;
    }

    /// What the link may cost.
    pub fn policy(&mut self) -> &mut LinkPolicy {
        &mut self.policy
    }

    /// True if the slab is to be batched now, and counts its rows as taken; false if the collector has
    /// them or they are on their way.
    pub fn take(&mut self, spooled: &SpooledSlab) -> bool {
        if spooled.epoch != self.me.epoch {
            self.counters.foreign_epoch_slabs = self.counters.foreign_epoch_slabs.saturating_add(1);
            self.actions.push(Action::Report(ShipError::ForeignEpoch(spooled.epoch)));
            return false;
        }
        let headwater_core::batch::StreamRef::Id(id) = spooled.slab.rows.stream else { return true };
        let seqs = spooled.slab.rows.seqs();
        let Some(stream) = self.streams.get_mut(id) else { return true };
        if let Some(schema) = &spooled.older_schema {
            stream.schemas.entry(spooled.slab.rows.fingerprint).or_insert_with(|| Schema::clone(schema));
        }
        // The spool's state may have been read before this slab was written.
        stream.next_seq = stream.next_seq.max(headwater_core::id::Seq(seqs.end));
        let lacks = stream.lacks(seqs.clone());
        if lacks {
            stream.taken.insert(seqs);
        }
        lacks
    }

    /// Takes what the batcher made of a lane's slabs.
    pub fn offer(&mut self, lane: Lane, sealed: Sealed) {
        match sealed {
            Sealed::Batch(batch) => {
                match Unsigned::new(MessageKind::Batch, &self.me.path, batch.epoch, &batch.body) {
                    Ok(message) if message.message_len() <= self.message_bytes_max => {
                        self.flight.add_batch(lane, batch.holds, message);
                    }
                    // Sealed under an older, larger limit: its rows are read and cut anew.
                    _ => {
                        for hold in &batch.holds {
                            if let Some(stream) = self.streams.get_mut(hold.stream) {
                                stream.taken.remove(hold.seqs.clone());
                            }
                        }
                        self.actions.push(Action::Rewind);
                    }
                }
            }
            Sealed::Blob(blob) => self.flight.add_blob(lane, blob),
            Sealed::Withheld(withheld) => {
                self.counters.withheld = self.counters.withheld.saturating_add(1);
                self.too_large.note(&withheld);
                self.actions.push(Action::Report(withheld.into()));
            }
        }
    }

    /// What the shell is to do, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The next message to hand over at `now`, signed with `now` as its send time. Call until `None`.
    pub fn next(&mut self, now: BootNanos) -> Option<HandOver> {
        if !self.linked {
            return None;
        }
        self.tick(now);
        if !self.pipe.has_span() {
            return None;
        }
        if self.session.hello_due(now) {
            return self.say_hello(now);
        }
        if let Some(hello) = self.session.say_again(now, self.ack_rtt_ns) {
            // The collector counts from the newest hello it has. One that is not answered earns nothing more.
            self.credit = self.credit.carried();
            self.counters.hellos = self.counters.hellos.saturating_add(1);
            let said = self.hand_over(now, Lane::Control, &hello, Freight::Control);
            self.hello_number = said.number;
            return Some(said);
        }
        if self.restored || self.shut_out.is_some() || !self.session.may_ship(now) {
            return None;
        }
        while let Some((stream, fingerprint)) = self.asked.pop_front() {
            if let Some(message) = self.declaration(stream, fingerprint) {
                return Some(self.declare(now, Lane::Control, stream, fingerprint, &message));
            }
        }
        if let Some(probe) = self.probe(now) {
            return Some(probe);
        }
        self.next_unit(now)
    }

    /// When [`Shipper::next`] should be asked again, if nothing happens before. May lie in the past while
    /// the pipe has no room.
    #[must_use]
    pub fn deadline(&self, now: BootNanos) -> Option<BootNanos> {
        if !self.linked {
            return None;
        }
        [
            self.session.deadline(self.ack_rtt_ns),
            self.session.ships_at(now),
            self.exchanges.probe_at(self.pipe.bytes()),
            self.flight.deadline(self.ack_rtt_ns),
            self.pipe.stalls_at(),
            self.pipe.held_until().filter(|until| now < *until),
            self.credit.blocked_since.map(|since| since.plus_ns(CREDIT_STALL_NS)),
        ]
        .into_iter()
        .chain(self.holds.iter().map(|hold| hold.map(|hold| hold.until)))
        .flatten()
        .min()
    }

    /// True if nothing waits in the pipe or before it.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.pipe.is_empty() && self.flight.nothing_queued()
    }

    /// The receiver that answered the current hello.
    #[must_use]
    pub fn incarnation(&self) -> Option<IncarnationId> {
        self.session.incarnation()
    }

    /// Counts since the start.
    #[must_use]
    pub fn counters(&self) -> ShipCounters {
        self.counters
    }

    /// Fills in what the shipper knows of the status.
    pub fn describe(&self, status: &mut ShipStatus) {
        status.connected = self.linked;
        status.last_ack = self.last_ack;
        status.restored_card = self.restored;
        status.shut_out.clone_from(&self.shut_out);
        status.in_flight_bytes = self.pipe.bytes() as u64;
        status.rate_bytes_per_s = self.pipe.rate();
        status.holds = self.holds.map(|hold| hold.map(|hold| hold.why));
        status.spent = self.policy.spent();
        status.in_flight_units = self.flight.len() as u64;
        status.ack_rtt_ns = (self.ack_rtt_ns > 0).then_some(self.ack_rtt_ns);
        status.credit_left = self.credit.told.then(|| self.credit.limit.saturating_sub(self.credit.used));
        status.incarnation = self.session.incarnation();
        status.last_commit = self.last_commit;
    }

    pub(super) fn grant(&mut self, credit: u64) {
        if credit > self.credit.limit || !self.credit.told {
            self.credit.limit = self.credit.limit.max(credit);
            self.credit.blocked_since = None;
        }
        self.credit.told = true;
    }

    pub(super) fn ask_declaration(&mut self, now: BootNanos, id: StreamId, fingerprint: Fingerprint) {
        let Some(stream) = self.streams.get(id) else { return };
        if !stream.schemas.contains_key(&fingerprint) {
            self.actions.push(Action::Report(ShipError::SchemaUnknown { stream: id, fingerprint }));
            return;
        }
        let guard = DECLARE_NS_MIN.max(self.ack_rtt_ns);
        let young = stream
            .declared
            .get(&fingerprint)
            .is_some_and(|last| last.link == self.link && now.since(last.at) < guard);
        if !young && self.asked.len() < ASKED_MAX && !self.asked.contains(&(id, fingerprint)) {
            self.asked.push_back((id, fingerprint));
        }
    }

    pub(super) fn heard_from_collector(&mut self, now: BootNanos) {
        self.last_ack = Some(now);
        self.silent_since = None;
        self.silence_told = false;
    }

    fn tick(&mut self, now: BootNanos) {
        self.exchanges.in_flight(self.pipe.bytes());
        if self.pipe.stalls_at().is_some_and(|at| now >= at) {
            self.actions.push(Action::Reconnect("the broker took no message for too long".into()));
        }
        let again = self.flight.requeue_due(now, self.ack_rtt_ns);
        self.counters.resends = self.counters.resends.saturating_add(again);
        self.let_go_of_lost();
        if let Some(best) = self.exchanges.due(now) {
            self.actions.push(Action::Clock(best));
        }
        if self.flight.nothing_queued() {
            self.credit.blocked_since = None;
        }
        if let Some(since) = self.credit.blocked_since
            && now.since(since) >= CREDIT_STALL_NS
        {
            self.credit.blocked_since = None;
            self.session.ask_hello(now);
            let stalled_s = now.since(since) / NS_PER_S;
            self.actions.push(Action::Report(ShipError::CreditStalled { stalled_s }));
        }
        if let Some(since) = self.silent_since
            && now.since(since) >= SILENT_NS
            && !std::mem::replace(&mut self.silence_told, true)
        {
            let silent_s = now.since(since) / NS_PER_S;
            self.actions.push(Action::Report(ShipError::CollectorSilent { silent_s }));
        }
    }
}
