//! Acks: what the collector tells a device, gathered until it is due.
//!
//! Watermarks are cumulative and every ack carries all of them, so a lost ack heals with the next.

use super::credit::{CREDIT_BYTES, CreditPool};
use super::landed_set::LandedSet;
use super::quota::QuotaSettings;
use super::reassemble::{DeviceEpoch, Reassembler};
use headwater_core::id::{IncarnationId, Seq, Sha256, StreamId};
use headwater_core::time::{BootNanos, Grade, UtcNanos};
use headwater_core::wire::{Ack, AckStream, Capabilities, ClockReply, Hello, Refused, Sent};
use std::collections::{BTreeMap, BTreeSet};

/// Time between two acks of a device with news: far below the agent's resend timer of 5 s, and few enough
/// to cost a metered link next to nothing.
pub const ACK_INTERVAL_NS: i64 = 200_000_000;
/// The same for a device that fills a fast link: what it may send and what it may let go of would else come five times
/// a second, however much it has.
const ACK_QUICK_NS: i64 = 10_000_000;
/// Bytes within [`ACK_INTERVAL_NS`] that make a device one of these: at such a pace (1.3 MB/s) quick acks of some
/// 300 B cost it little, and a fleet behind one landing log comes nowhere near it.
const QUICK_BYTES: u64 = 256 << 10;
/// Between two requests for a hello to one device.
pub const NEED_HELLO_INTERVAL_NS: i64 = 5_000_000_000;
/// Devices remembered for that; their names are not proven, so the list is bounded.
const NEED_HELLO_DEVICES_MAX: usize = 4096;
/// Refusals waiting for one ack; older ones go, the device's resend brings them back.
const REFUSALS_MAX: usize = 64;
/// A device that was silent for this long is not asked for anything; it says hello when it is back.
const SILENT_NS: i64 = 60_000_000_000;
/// How long a hello taken over from another receiver waits for its answer: several looks of the other into our
/// log. Acks that it sends until then do the device no harm, which waits for an answer.
const TAKE_OVER_NS: i64 = 1_000_000_000;
/// Declarations asked for again at most this often.
const NEED_SCHEMA_INTERVAL_NS: i64 = 2_000_000_000;

/// How good the collector's own clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockQuality {
    /// Greatest error, ns.
    pub e_c_ns: i64,
    /// Whether that is a promise.
    pub grade: Grade,
    /// Which clock this is (host and boot).
    pub source_id: u64,
}

/// The time of a decision, on both lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For waiting.
    pub boot: BootNanos,
    /// For stamps.
    pub utc: UtcNanos,
}

/// Which devices this receiver answers, where several share a fleet. Of one device exactly one is to speak: an
/// agent that hears two incarnations says hello again and again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// All: there is no other receiver.
    #[default]
    Sole,
    /// Those of the shards it holds.
    Shards(BTreeSet<u8>),
    /// Those whose newest hello it got, and, once the receiver that got it is gone, those it hears: these are
    /// asked for another. The set: who lives.
    Group(BTreeSet<IncarnationId>),
}

/// What to say to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    Speak,
    AskHello,
    Silent,
}

/// What one device of one epoch is to be told.
#[derive(Debug, Default)]
struct Outbox {
    due: Option<BootNanos>,
    last_sent: Option<BootNanos>,
    hello: Option<Box<Hello>>,
    newest_hello: Option<Sent>,
    /// A hello came in this incarnation; one of before it does not count.
    heard_hello: bool,
    /// Who got the newest hello.
    speaker: Option<IncarnationId>,
    /// A hello taken over from another receiver is answered no earlier, so that the other has seen it too.
    answer_at: Option<BootNanos>,
    refused: Vec<Refused>,
    clock: Option<(Sent, UtcNanos)>,
    last_received: Option<BootNanos>,
    pace: Pace,
    committed: bool,
    schemas_asked: Option<BootNanos>,
    /// Serial of the certificate that its newest message was signed under.
    signed_by: Option<String>,
    /// Which of our keys its newest hello was answered with: the one it believes.
    answered: Option<u32>,
}

/// How fast a device sends, and so how often it is answered.
#[derive(Debug, Default)]
struct Pace {
    since: Option<BootNanos>,
    bytes: u64,
    quick_until: Option<BootNanos>,
}

impl Pace {
    fn count(&mut self, bytes: u64, now: BootNanos) {
        if self.since.is_none_or(|since| now.since(since) >= ACK_INTERVAL_NS) {
            (self.since, self.bytes) = (Some(now), 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= QUICK_BYTES {
            self.quick_until = Some(now.plus_ns(2 * ACK_INTERVAL_NS));
        }
    }

    fn interval_ns(&self, now: BootNanos) -> i64 {
        if self.quick_until.is_some_and(|until| now < until) { ACK_QUICK_NS } else { ACK_INTERVAL_NS }
    }
}

/// Everything waiting to be told.
#[derive(Debug)]
pub struct AckDesk {
    incarnation: IncarnationId,
    counter: u64,
    /// Our own signing chain, leaf first, for hello answers.
    chain: Vec<Vec<u8>>,
    /// Counts our keys: devices that were answered with an older one are asked for a hello.
    generation: u32,
    /// Lists of revoked collectors, for hello answers.
    revocations: Vec<Vec<u8>>,
    software: String,
    outboxes: BTreeMap<DeviceEpoch, Outbox>,
    due: BTreeSet<(BootNanos, DeviceEpoch)>,
    asked_hello: BTreeMap<headwater_core::id::DevicePath, BootNanos>,
    commit: Option<Sha256>,
    /// What the fleet may have under way.
    pub(super) credit: CreditPool,
    pub(super) standing: Standing,
}

impl AckDesk {
    /// An empty desk of this incarnation.
    #[must_use]
    pub fn new(incarnation: IncarnationId, chain: Vec<Vec<u8>>, software: &str) -> Self {
        Self {
            incarnation,
            counter: 0,
            chain,
            generation: 0,
            revocations: Vec::new(),
            software: software.to_owned(),
            outboxes: BTreeMap::new(),
            due: BTreeSet::new(),
            asked_hello: BTreeMap::new(),
            commit: None,
            credit: CreditPool::new(CREDIT_BYTES, QuotaSettings::default()),
            standing: Standing::Sole,
        }
    }

    /// Our chain was renewed, with another key or the same; gives the number of the key that signs from now on.
    pub fn renew(&mut self, chain: Vec<Vec<u8>>, other_key: bool) -> u32 {
        self.chain = chain;
        self.generation = self.generation.saturating_add(u32::from(other_key));
        self.generation
    }

    /// Lists of revoked collectors that devices are to be given.
    pub fn set_revocations(&mut self, lists: Vec<Vec<u8>>) {
        self.revocations = lists;
    }

    /// The number of our key that the device believes: that its newest hello was answered with.
    #[must_use]
    pub fn believed(&self, owner: &DeviceEpoch) -> Option<u32> {
        self.outboxes.get(owner)?.answered
    }

    /// Notes the certificate a device signs under.
    pub fn signed_by(&mut self, owner: &DeviceEpoch, serial: &str) {
        let outbox = self.outboxes.entry(owner.clone()).or_default();
        if outbox.signed_by.as_deref() != Some(serial) {
            outbox.signed_by = Some(serial.to_owned());
        }
    }

    /// The certificate a device signed under last.
    #[must_use]
    pub fn signer_of(&self, owner: &DeviceEpoch) -> Option<&str> {
        self.outboxes.get(owner)?.signed_by.as_deref()
    }

    /// The ack that tells a device why it is shut out, and nothing else; `nonce` is that of the hello it answers.
    pub fn shut_out(&mut self, why: String, nonce: Option<[u8; 16]>) -> Ack {
        let chain = nonce.map(|_| self.chain.clone());
        Ack { revoked: Some(why), nonce, chain, ..self.blank() }
    }

    /// A message of the device was admitted: it is answered in any case, also if it was known. `bytes`: what it
    /// cost of the device's credit.
    pub fn received(&mut self, owner: &DeviceEpoch, bytes: u64, sent: Sent, now: Now) {
        if bytes > 0 {
            self.credit.received(owner, bytes, sent, now);
        }
        let outbox = self.outboxes.entry(owner.clone()).or_default();
        outbox.last_received = Some(now.boot);
        outbox.pace.count(bytes, now.boot);
        if outbox.clock.is_none_or(|(t1, _)| t1 < sent) {
            outbox.clock = Some((sent, now.utc));
        }
        self.news(owner, now.boot);
    }

    /// A hello was admitted. `false`: one that was sent later is known already (a replay), so it changes
    /// nothing but is answered. `backlog`: the device has rows that are not here.
    pub fn hello(
        &mut self,
        owner: &DeviceEpoch,
        hello: Box<Hello>,
        backlog: bool,
        sent: Sent,
        now: Now,
    ) -> bool {
        let outbox = self.outboxes.entry(owner.clone()).or_default();
        let is_new = outbox.newest_hello.is_none_or(|newest| newest < sent);
        if is_new {
            outbox.newest_hello = Some(sent);
            self.credit.hello(owner, hello.message_bytes_max, backlog, sent, now);
        }
        outbox.hello = Some(hello);
        outbox.heard_hello = true;
        if is_new {
            let before = outbox.speaker.replace(self.incarnation);
            let others = matches!(&self.standing, Standing::Group(live)
                if before.is_some_and(|before| before != self.incarnation && live.contains(&before)));
            outbox.answer_at = others.then(|| now.boot.plus_ns(TAKE_OVER_NS));
        }
        self.schedule(owner, now.boot);
        is_new
    }

    /// A device got a new key: an older one may have been in hands that said hello with a time far ahead.
    pub(super) fn forget_newest_hello(&mut self, owner: &DeviceEpoch) {
        if let Some(outbox) = self.outboxes.get_mut(owner) {
            outbox.newest_hello = None;
        }
    }

    /// Forgets an epoch and what it was to be told. If it is heard again, it is asked for a hello.
    pub(super) fn forget(&mut self, owner: &DeviceEpoch) {
        if let Some(due) = self.outboxes.remove(owner).and_then(|outbox| outbox.due) {
            self.due.remove(&(due, owner.clone()));
        }
        self.credit.forget(owner);
    }

    /// Another receiver got a hello of the device; if it is the newest, that one speaks to it from now on.
    pub fn heard_elsewhere(&mut self, owner: &DeviceEpoch, sent: Sent, incarnation: IncarnationId) {
        let outbox = self.outboxes.entry(owner.clone()).or_default();
        if outbox.newest_hello.is_none_or(|newest| newest < sent) {
            outbox.newest_hello = Some(sent);
            outbox.speaker = Some(incarnation);
            (outbox.hello, outbox.heard_hello, outbox.answer_at) = (None, false, None);
            self.credit.forget(owner);
        }
    }

    /// What this receiver has to say to the device.
    pub(super) fn voice(&self, owner: &DeviceEpoch) -> Voice {
        match &self.standing {
            Standing::Sole => Voice::Speak,
            Standing::Shards(shards) if shards.contains(&owner.0.shard()) => Voice::Speak,
            Standing::Shards(_) => Voice::Silent,
            Standing::Group(live) => match self.outboxes.get(owner).and_then(|outbox| outbox.speaker) {
                Some(speaker) if speaker == self.incarnation => Voice::Speak,
                Some(speaker) if live.contains(&speaker) => Voice::Silent,
                _ => Voice::AskHello,
            },
        }
    }

    /// A hello found in the landing log at start. The device is asked for another one all the same: only
    /// its own tells what it holds and can read today.
    pub fn remember_hello(&mut self, owner: &DeviceEpoch, sent: Sent, incarnation: IncarnationId) {
        let outbox = self.outboxes.entry(owner.clone()).or_default();
        if outbox.newest_hello.is_none_or(|newest| newest < sent) {
            (outbox.newest_hello, outbox.speaker) = (Some(sent), Some(incarnation));
        }
    }

    /// Rows were refused.
    pub fn refused(&mut self, owner: &DeviceEpoch, refused: Refused, now: BootNanos) {
        let outbox = self.outboxes.entry(owner.clone()).or_default();
        if !outbox.refused.contains(&refused) {
            if outbox.refused.len() >= REFUSALS_MAX {
                outbox.refused.remove(0);
            }
            outbox.refused.push(refused);
        }
        self.news(owner, now);
    }

    /// Something about the device changed.
    pub fn news(&mut self, owner: &DeviceEpoch, now: BootNanos) {
        let outbox = self.outboxes.get(owner);
        let interval_ns = outbox.map_or(ACK_INTERVAL_NS, |outbox| outbox.pace.interval_ns(now));
        let last = outbox.and_then(|outbox| outbox.last_sent);
        let at = last.map_or(now, |last| last.plus_ns(interval_ns).max(now));
        self.schedule(owner, at);
    }

    /// A commit holds rows of the device.
    pub fn committed(&mut self, owner: &DeviceEpoch, commit: Option<Sha256>, now: BootNanos) {
        self.commit = commit;
        self.outboxes.entry(owner.clone()).or_default().committed = true;
        self.news(owner, now);
    }

    /// True if the device is to be asked for a hello now; at most one ask in 5 s.
    pub fn ask_hello(&mut self, device: &headwater_core::id::DevicePath, now: BootNanos) -> bool {
        if self.asked_hello.get(device).is_some_and(|at| now.since(*at) < NEED_HELLO_INTERVAL_NS) {
            return false;
        }
        if self.asked_hello.len() >= NEED_HELLO_DEVICES_MAX {
            self.asked_hello.retain(|_, at| now.since(*at) < NEED_HELLO_INTERVAL_NS);
            if self.asked_hello.len() >= NEED_HELLO_DEVICES_MAX {
                return false;
            }
        }
        self.asked_hello.insert(device.clone(), now);
        true
    }

    /// The ack that asks for a hello and says nothing else.
    pub fn need_hello(&mut self) -> Ack {
        Ack { need_hello: true, ..self.blank() }
    }

    /// When the next ack is due.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        let due = self.due.first().map(|(at, _)| *at);
        due.into_iter().chain(self.credit.deadline()).min()
    }

    /// Gives the next turns of credit; who got one, or is to hear that it waits, is told.
    pub fn serve_credit(&mut self, now: Now) {
        for owner in self.credit.serve(now) {
            self.news(&owner, now.boot);
        }
    }

    /// Owners with an unfinished say, at the latest time their holes should be asked for.
    pub fn schedule_at(&mut self, owner: &DeviceEpoch, at: BootNanos) {
        self.outboxes.entry(owner.clone()).or_default();
        self.schedule(owner, at);
    }

    /// Builds the next ack that is due.
    pub fn next_due(
        &mut self,
        landed: &LandedSet,
        staging: &mut Reassembler,
        quality: ClockQuality,
        now: Now,
    ) -> Option<(DeviceEpoch, Ack)> {
        while self.due.first().is_some_and(|(at, _)| *at <= now.boot) {
            let (_, owner) = self.due.pop_first()?;
            let mut later = None;
            if let Some(outbox) = self.outboxes.get_mut(&owner) {
                outbox.due = None;
                later = outbox.answer_at.filter(|at| *at > now.boot);
            }
            if let Some(at) = later {
                self.schedule(&owner, at);
                continue;
            }
            match self.voice(&owner) {
                Voice::Speak => {
                    let ack = self.build(&owner, landed, staging, quality, now);
                    return Some((owner, ack));
                }
                Voice::AskHello if self.ask_hello(&owner.0, now.boot) => {
                    let ack = self.need_hello();
                    return Some((owner, ack));
                }
                Voice::AskHello | Voice::Silent => {}
            }
        }
        None
    }

    fn build(
        &mut self,
        owner: &DeviceEpoch,
        landed: &LandedSet,
        staging: &mut Reassembler,
        quality: ClockQuality,
        now: Now,
    ) -> Ack {
        let mut ack = self.blank();
        // Heard, and it knows the key we sign with today.
        let heard = self.outboxes.get(owner).is_some_and(|outbox| {
            outbox.heard_hello
                && (outbox.hello.is_some() || outbox.answered.is_none_or(|n| n == self.generation))
        });
        ack.need_hello = !heard && self.ask_hello(&owner.0, now.boot);
        let outbox = self.outboxes.entry(owner.clone()).or_default();
        outbox.due = None;
        outbox.last_sent = Some(now.boot);
        // The answer to a hello starts the device's picture anew: the first ranges.
        let turn = if outbox.hello.is_some() { 0 } else { ack.counter };
        ack.streams = landed.watermarks(owner, turn);
        ack.missing = staging.missing(owner, now.boot);
        ack.refused = std::mem::take(&mut outbox.refused);
        (ack.credit, ack.wait) = self.credit.told(owner, now.boot);
        if std::mem::take(&mut outbox.committed) {
            ack.commit = self.commit;
        }
        ack.clock = outbox.clock.take().map(|(t1, received)| ClockReply {
            t1,
            t2_ns: received.0,
            t3_ns: now.utc.0,
            e_c_ns: quality.e_c_ns,
            grade: quality.grade,
            source_id: quality.source_id,
        });
        if outbox.schemas_asked.is_none_or(|at| now.boot.since(at) >= NEED_SCHEMA_INTERVAL_NS) {
            ack.need_schema = landed.needed_schemas(owner).into_iter().collect();
            if !ack.need_schema.is_empty() {
                outbox.schemas_asked = Some(now.boot);
            }
        }
        if let Some(hello) = outbox.hello.take() {
            ack.nonce = Some(hello.nonce);
            ack.capabilities = Some(Capabilities::ours(&self.software));
            ack.chain = Some(self.chain.clone());
            ack.revocations.clone_from(&self.revocations);
            outbox.answered = Some(self.generation);
            let known: BTreeSet<StreamId> = ack.streams.iter().map(|stream| stream.id).collect();
            let unknown = hello.streams.iter().filter(|stream| !known.contains(&stream.id));
            ack.streams.extend(unknown.map(|stream| AckStream {
                id: stream.id,
                durable_upto: Seq(0),
                committed_upto: Seq(0),
                durable: Vec::new(),
                committed: Vec::new(),
            }));
        }
        // What is still open is said again even if the device falls silent.
        let open = [
            staging.ask_at(owner),
            (!landed.needed_schemas(owner).is_empty()).then(|| now.boot.plus_ns(NEED_SCHEMA_INTERVAL_NS)),
        ];
        let heard = self.outboxes.get(owner).and_then(|outbox| outbox.last_received);
        let alive = heard.is_some_and(|at| now.boot.since(at) < SILENT_NS);
        if let Some(at) = open.into_iter().flatten().min().filter(|_| alive) {
            self.schedule(owner, at.max(now.boot.plus_ns(ACK_INTERVAL_NS)));
        }
        ack
    }

    fn blank(&mut self) -> Ack {
        self.counter = self.counter.saturating_add(1);
        Ack::new(self.incarnation, self.counter)
    }

    fn schedule(&mut self, owner: &DeviceEpoch, at: BootNanos) {
        let Some(outbox) = self.outboxes.get_mut(owner) else { return };
        match outbox.due {
            Some(due) if due <= at => return,
            Some(due) => {
                self.due.remove(&(due, owner.clone()));
            }
            None => {}
        }
        outbox.due = Some(at);
        self.due.insert((at, owner.clone()));
    }
}

#[cfg(test)]
impl AckDesk {
    pub(super) fn outboxes(&self) -> usize {
        self.outboxes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::land::CommitMark;
    use crate::receive::reassemble::StagingLimits;
    use crate::receive::testkit::{EPOCH, now, path};

    /// Acks that one device gets within a second in which it sends so many messages of 64 KiB.
    fn acks_in_a_second(messages: i64) -> usize {
        let mut desk = AckDesk::new(IncarnationId([1; 16]), Vec::new(), "test");
        let (landed, mut staging) =
            (LandedSet::new(CommitMark::default()), Reassembler::new(StagingLimits::V1));
        let quality = ClockQuality { e_c_ns: 0, grade: Grade::Estimated, source_id: 1 };
        let owner: DeviceEpoch = (path("pi-1"), EPOCH);
        let mut acks = 0;
        for n in 0..messages {
            let now = now(1_000 * n / messages);
            desk.received(&owner, 64 << 10, Sent { boot_ordinal: 1, ns: n + 1 }, now);
            while desk.next_due(&landed, &mut staging, quality, now).is_some() {
                acks += 1;
            }
        }
        acks
    }

    /// Credit and *durable* came five times a second at most, so a gateway on a fast link got no further than five
    /// windows a second: 2.5 MB/s, wherever the window stood.
    #[test]
    fn a_device_that_fills_a_fast_link_does_not_wait_for_the_ack_interval() {
        assert!(acks_in_a_second(10) <= 6, "0.6 MB/s: five acks a second");
        let quick = acks_in_a_second(1_000);
        assert!((60..=101).contains(&quick), "64 MB/s: an ack each 10 ms, not {quick}");
    }
}
