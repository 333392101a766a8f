//! Hello and its answer: whom we talk to, and which of its acks are worth believing.
//!
//! An ack is used only if its signature verifies with the chain of the collector that echoed our
//! current nonce, its incarnation is that one's, and its counter grew. Everything else causes at most
//! one open hello. A replayed answer carries an old nonce, a replayed ack an old counter.

use super::error::AckError;
use super::identity::ShipIdentity;
use headwater_core::id::IncarnationId;
use headwater_core::time::{BootNanos, NS_PER_S, UtcNanos};
use headwater_core::wire::chain::{ChainError, Role, verify_chain_or_later};
use headwater_core::wire::revocation::{RevocationList, Revoked};
use headwater_core::wire::{Ack, Envelope, MessageKind, Unsigned, VerifyingKey, peek_chain};
use std::collections::BTreeMap;

/// Least time between two hellos with different nonces, and before one is sent again.
pub(super) const HELLO_NS_MIN: i64 = 5 * NS_PER_S;
/// Between two hellos of a gateway that was told it is shut out: often enough to hear that it is not any more.
pub(super) const SHUT_OUT_NS: i64 = 600 * NS_PER_S;
/// Receivers whose counters are remembered.
const INCARNATIONS_MAX: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Peer {
    incarnation: IncarnationId,
    key: VerifyingKey,
}

#[derive(Debug)]
enum State {
    /// No link, or settled and content.
    Quiet,
    /// A hello is to be said at this time.
    Due(BootNanos),
    /// Said, not answered.
    Waiting { nonce: [u8; 16], hello: Box<Unsigned>, first: BootNanos, last: BootNanos },
}

/// What an ack turned out to be.
#[derive(Debug)]
pub(super) enum Heard {
    /// It answers our hello.
    Answer {
        /// The ack.
        ack: Ack,
        /// The receiver is another than the last that answered.
        moved: bool,
        /// From hello to answer, ns; `None` if it was said more than once.
        rtt_ns: Option<i64>,
        /// What it says is revoked, proven.
        revocations: RevocationList,
        /// The CAs of its chain (DER), which prove lists of theirs.
        issuers: Vec<Vec<u8>>,
    },
    /// A later one.
    Later(Ack),
}

#[derive(Debug)]
pub(super) struct Session {
    state: State,
    peer: Option<Peer>,
    /// Who answered last, also over reconnects.
    last_peer: Option<IncarnationId>,
    /// Newest counter used, per incarnation.
    counters: BTreeMap<IncarnationId, u64>,
    said_at: Option<BootNanos>,
    answered_once: bool,
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            state: State::Quiet,
            peer: None,
            last_peer: None,
            counters: BTreeMap::new(),
            said_at: None,
            answered_once: false,
        }
    }

    /// A new link: nothing but hello goes first.
    pub(super) fn linked(&mut self, now: BootNanos) {
        self.peer = None;
        self.state = State::Due(now);
    }

    pub(super) fn unlinked(&mut self) {
        self.peer = None;
        self.state = State::Quiet;
    }

    /// Says hello again, unless one is open; not more often than each 5 s.
    pub(super) fn ask_hello(&mut self, now: BootNanos) {
        if matches!(self.state, State::Quiet) {
            let at = self.said_at.map_or(now, |said| said.plus_ns(HELLO_NS_MIN).max(now));
            self.state = State::Due(at);
        }
    }

    /// We have other certificates: a hello that is open shows the old ones, and one that is due late comes soon.
    pub(super) fn renewed(&mut self, now: BootNanos) {
        self.state = State::Quiet;
        self.ask_hello(now);
    }

    /// The collector shut us out: no hello for long.
    pub(super) fn shut_out(&mut self, now: BootNanos) {
        self.peer = None;
        self.state = State::Due(now.plus_ns(SHUT_OUT_NS));
    }

    /// True if a new hello with a fresh nonce is to be said now.
    pub(super) fn hello_due(&self, now: BootNanos) -> bool {
        matches!(self.state, State::Due(at) if now >= at)
    }

    /// That hello was made; from now on only its answer counts.
    pub(super) fn said(&mut self, now: BootNanos, nonce: [u8; 16], hello: Unsigned) {
        self.peer = None;
        self.said_at = Some(now);
        self.state = State::Waiting { nonce, hello: Box::new(hello), first: now, last: now };
    }

    /// The open hello, if it is time to send it once more (same nonce).
    pub(super) fn say_again(&mut self, now: BootNanos, rtt_ns: i64) -> Option<Unsigned> {
        match &mut self.state {
            State::Waiting { hello, last, .. } if now >= last.plus_ns(patience(rtt_ns)) => {
                *last = now;
                Some(Unsigned::clone(hello))
            }
            _ => None,
        }
    }

    /// When something is due here.
    pub(super) fn deadline(&self, rtt_ns: i64) -> Option<BootNanos> {
        match &self.state {
            State::Quiet => None,
            State::Due(at) => Some(*at),
            State::Waiting { last, .. } => Some(last.plus_ns(patience(rtt_ns))),
        }
    }

    /// Data may be sent: the first hello of a process must be answered; a later one may stay open
    /// for long, which D1 makes safe.
    pub(super) fn may_ship(&self, now: BootNanos) -> bool {
        match &self.state {
            State::Waiting { first, .. } => self.answered_once && now.since(*first) >= HELLO_NS_MIN,
            State::Quiet => self.peer.is_some(),
            State::Due(_) => self.peer.is_some() && self.answered_once,
        }
    }

    /// When [`Session::may_ship`] turns true by time alone.
    pub(super) fn ships_at(&self, now: BootNanos) -> Option<BootNanos> {
        match &self.state {
            State::Waiting { first, .. } if self.answered_once => {
                Some(first.plus_ns(HELLO_NS_MIN)).filter(|at| *at > now)
            }
            _ => None,
        }
    }

    pub(super) fn incarnation(&self) -> Option<IncarnationId> {
        self.peer.map(|peer| peer.incarnation)
    }

    pub(super) fn answered_once(&self) -> bool {
        self.answered_once
    }

    /// Judges a message of the ack topic; an error trims nothing.
    pub(super) fn hear(
        &mut self,
        me: &ShipIdentity,
        now: BootNanos,
        utc: UtcNanos,
        message: &[u8],
    ) -> Result<Heard, AckError> {
        let envelope = Envelope::parse(message)?;
        if envelope.kind != MessageKind::Ack {
            return Err(AckError::Kind);
        }
        envelope.check_device(&me.path)?;
        if envelope.epoch != me.epoch {
            return Err(AckError::Epoch(envelope.epoch));
        }
        if let State::Waiting { nonce, first, last, .. } = &self.state {
            let Some(chain) = peek_chain(&envelope)? else { return Err(AckError::Early) };
            let signer = verify_chain_or_later(&chain, &me.roots, Role::Collector, utc)?;
            if signer.path.tenant != me.path.tenant {
                return Err(AckError::Tenant(signer.path.tenant.to_string()));
            }
            envelope.verify(&signer.key)?;
            let ack = Ack::from_body(envelope.body)?;
            if ack.nonce != Some(*nonce) {
                return Err(AckError::Nonce);
            }
            let above = chain.get(1..).unwrap_or_default();
            let revocations = RevocationList::read_known(&ack.revocations, me.roots.ders(), above)?;
            if let Some(revoked) = revocations.find(&chain) {
                let Revoked { serial, reason, .. } = revoked.clone();
                return Err(ChainError::Revoked { serial, reason }.into());
            }
            // Said more than once: nobody knows which of them is answered.
            let rtt_ns = (first == last).then(|| now.since(*first));
            self.check_counter(&ack)?;
            self.peer = Some(Peer { incarnation: ack.incarnation, key: signer.key });
            self.state = State::Quiet;
            self.answered_once = true;
            // One that shuts us out says nothing of what it has: it still counts as another when it takes us in.
            let moved = self.last_peer != Some(ack.incarnation);
            if ack.revoked.is_none() {
                self.last_peer = Some(ack.incarnation);
            }
            let issuers = above.to_vec();
            return Ok(Heard::Answer { ack, moved, rtt_ns, revocations, issuers });
        }
        let Some(peer) = self.peer else { return Err(AckError::Early) };
        envelope.verify(&peer.key)?;
        let ack = Ack::from_body(envelope.body)?;
        if ack.incarnation != peer.incarnation {
            return Err(AckError::Incarnation(ack.incarnation));
        }
        self.check_counter(&ack)?;
        Ok(Heard::Later(ack))
    }

    fn check_counter(&mut self, ack: &Ack) -> Result<(), AckError> {
        if let Some(last) = self.counters.get(&ack.incarnation).copied()
            && ack.counter <= last
        {
            return Err(AckError::Counter { counter: ack.counter, last });
        }
        if self.counters.len() >= INCARNATIONS_MAX && !self.counters.contains_key(&ack.incarnation) {
            // Only answers to fresh nonces come here with a new one, so forgetting cannot be forced by a replay.
            self.counters.clear();
        }
        self.counters.insert(ack.incarnation, ack.counter);
        Ok(())
    }
}

fn patience(rtt_ns: i64) -> i64 {
    HELLO_NS_MIN.max(rtt_ns.saturating_mul(4))
}
