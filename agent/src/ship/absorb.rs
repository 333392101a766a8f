//! What an ack changes: watermarks, trims, holes of objects, refusals, credit, clock.

use super::error::ShipError;
use super::flight::{Load, Unit};
use super::session::Heard;
use super::shipper::{Action, RetainUntil, Shipper};
use super::stream::Stream;
use crate::trust::BroughtLists;
use headwater_core::batch::Announced;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{Seq, StreamId};
use headwater_core::time::{BootNanos, NS_PER_MS, NS_PER_S, UtcNanos};
use headwater_core::wire::chain;
use headwater_core::wire::{Ack, Refusal, RefusalReason, Refused};
use std::collections::BTreeSet;
use std::ops::Range;

/// Longest time to an ack that is believed: a resend waits four of these, which is to stay below two minutes.
const RTT_NS_MAX: i64 = 15 * NS_PER_S;

/// Longest wait for credit that is believed: a collector that is gone must not silence a device for longer.
const WAIT_NS_MAX: i64 = 600 * NS_PER_S;

impl Shipper {
    /// A message came on the ack topic at `now`. `utc` is for the validity of certificates only.
    pub fn received(&mut self, now: BootNanos, utc: UtcNanos, message: &[u8]) {
        match self.session.hear(&self.me, now, utc, message) {
            Ok(heard) => {
                self.counters.acks = self.counters.acks.saturating_add(1);
                self.heard_from_collector(now);
                match heard {
                    Heard::Answer { ack, moved, rtt_ns, revocations, issuers } => {
                        if self.me.roots.revoke(&revocations) {
                            let n = self.me.roots.revocations().len();
                            self.actions.push(Action::Report(ShipError::Revocations { n }));
                            let lists = ack.revocations.clone();
                            self.actions.push(Action::Revoked(BroughtLists { lists, issuers }));
                        }
                        if self.is_shut_out(now, &ack) {
                            return;
                        }
                        if let Some(rtt_ns) = rtt_ns {
                            self.note_rtt(rtt_ns);
                        }
                        self.answered(now, &ack, moved);
                    }
                    Heard::Later(ack) if self.is_of_another(&ack) => {
                        self.counters.acks_rejected = self.counters.acks_rejected.saturating_add(1);
                    }
                    Heard::Later(ack) if self.is_shut_out(now, &ack) => {}
                    Heard::Later(ack) => self.absorb(now, &ack),
                }
            }
            Err(error) => {
                self.counters.acks_rejected = self.counters.acks_rejected.saturating_add(1);
                if error.wants_hello() {
                    self.session.ask_hello(now);
                }
                self.actions.push(Action::Report(error.into()));
            }
        }
    }

    /// True if an ack shuts out whoever has another certificate than ours: one of our name that was revoked, or that
    /// another CA made. Its holder may have it said on our topic, and in our epoch.
    fn is_of_another(&self, ack: &Ack) -> bool {
        let Some(why) = &ack.revoked else { return false };
        let mut serials = self.me.chain.iter().filter_map(|der| chain::serial(der).ok());
        !serials.any(|serial| why.contains(&serial))
    }

    /// True if the collector says that our certificate counts no more: nothing is shipped until a hello is answered
    /// without that, which is asked for each 10 minutes and when our certificates change.
    fn is_shut_out(&mut self, now: BootNanos, ack: &Ack) -> bool {
        let was = std::mem::replace(&mut self.shut_out, ack.revoked.clone());
        if let Some(why) = &ack.revoked {
            self.session.shut_out(now);
            if was.is_none() {
                self.actions.push(Action::Report(ShipError::ShutOut { why: why.clone() }));
            }
        }
        ack.revoked.is_some()
    }

    fn answered(&mut self, now: BootNanos, ack: &Ack, moved: bool) {
        if let Some((stream, acked, next)) = self.beyond(ack) {
            self.restored = true;
            self.actions.push(Action::Report(ShipError::RestoredCard { stream, acked, next }));
            return;
        }
        self.exchanges.linked(now);
        self.heard_announced(ack.capabilities.as_ref().map_or(Announced::BASELINE, Announced::by));
        if moved {
            // Only what this receiver says is durable; what it lacks and we let go of in memory is read again.
            for (id, stream) in self.streams.iter_mut() {
                let silent = headwater_core::wire::AckStream {
                    id,
                    durable_upto: Seq(0),
                    committed_upto: Seq(0),
                    durable: Vec::new(),
                    committed: Vec::new(),
                };
                let said = ack.streams.iter().find(|stream| stream.id == id).unwrap_or(&silent);
                stream.absorb(said, true);
            }
            self.actions.push(Action::Rewind);
        }
        self.flight.requeue_all(moved);
        let lacking = ack.missing.iter().map(|m| (m.object, (m.total_len, m.ranges.clone()))).collect();
        self.flight.narrow(lacking);
        self.absorb(now, ack);
    }

    fn absorb(&mut self, now: BootNanos, ack: &Ack) {
        if let Some((stream, acked, next)) = self.beyond(ack) {
            self.actions.push(Action::Report(ShipError::BeyondNext { stream, acked, next }));
            self.session.ask_hello(now);
            return;
        }
        for said in &ack.streams {
            if let Some(stream) = self.streams.get_mut(said.id) {
                stream.absorb(said, false);
            }
        }
        for refused in &ack.refused {
            self.refuse(now, refused);
        }
        self.land(now);
        if ack.nonce.is_none() {
            for missing in &ack.missing {
                self.flight.ask(missing.object, missing.total_len, &missing.ranges, now, self.ack_rtt_ns);
            }
        }
        self.trim();
        self.absorb_credit(now, ack);
        if ack.commit.is_some() {
            self.last_commit = ack.commit;
        }
        if let Some(reply) = &ack.clock {
            let before = self.exchanges.absurd();
            if let Some(exchange) = self.exchanges.reply(reply, now) {
                self.actions.push(Action::Clock(exchange));
            }
            let n = self.exchanges.absurd();
            if n > before {
                self.actions.push(Action::Report(ShipError::ClockReply { n }));
            }
        }
        for (stream, fingerprint) in &ack.need_schema {
            self.ask_declaration(now, *stream, *fingerprint);
        }
        if ack.need_hello {
            self.session.ask_hello(now);
        }
    }

    /// The first word of a collector ends what may be sent unasked; one that has us wait knows of us, so the lack of
    /// credit is no reason to say hello before that time is over.
    fn absorb_credit(&mut self, now: BootNanos, ack: &Ack) {
        if let Some(credit) = ack.credit {
            if !self.credit.told {
                self.credit.limit = credit;
            }
            self.grant(credit);
        }
        if let Some(wait) = &ack.wait {
            let wait_ns = i64::from(wait.for_ms).saturating_mul(NS_PER_MS).min(WAIT_NS_MAX);
            self.credit.blocked_since = Some(now.plus_ns(wait_ns));
        }
    }

    /// The first stream of an ack that reaches beyond what was ever given out.
    fn beyond(&self, ack: &Ack) -> Option<(StreamId, u64, Seq)> {
        ack.streams.iter().find_map(|said| {
            let next = self.streams.get(said.id).map_or(Seq(0), |stream| stream.next_seq);
            let acked = Stream::end_of(said);
            (acked > next.0).then_some((said.id, acked, next))
        })
    }

    /// Lets go of units all of whose rows are durable or given up.
    fn land(&mut self, now: BootNanos) {
        let streams = &self.streams;
        let over =
            |unit: &Unit| unit.holds.iter().all(|hold| streams.settled(hold.stream, hold.seqs.clone()));
        let landed = self.flight.landed(over);
        for unit in &landed {
            // A unit that waits to be sent again, as after a cut, tells how long the link was away.
            if unit.attempts == 1
                && unit.is_out()
                && let (Load::Batch(_) | Load::Away { object: None }, Some(sent)) = (&unit.load, unit.sent_at)
            {
                self.note_rtt(now.since(sent));
            }
            for hold in &unit.holds {
                if let Some(stream) = self.streams.get_mut(hold.stream) {
                    stream.taken.remove(hold.seqs.clone());
                    let durable = stream.durable.covers(hold.seqs.clone());
                    if let Some(declared) = stream.declared.get_mut(&hold.fingerprint).filter(|_| durable) {
                        declared.known = true;
                    }
                }
            }
        }
    }

    fn note_rtt(&mut self, rtt_ns: i64) {
        let rtt = rtt_ns.clamp(1, RTT_NS_MAX);
        self.ack_rtt_ns = if self.ack_rtt_ns == 0 {
            rtt
        } else {
            self.ack_rtt_ns.saturating_mul(7).saturating_add(rtt) / 8
        };
    }

    /// Tells the spool what changed at the level of `retain_until`.
    fn trim(&mut self) {
        let level = self.settings.retain_until;
        let mut news = Vec::new();
        for (id, stream) in self.streams.iter_mut() {
            // Refused rows stay until the collector has their gap record, which settles them there: a power cut
            // before that must find them again.
            let acked = match level {
                RetainUntil::Durable => stream.durable.clone(),
                RetainUntil::Committed => stream.committed.clone(),
            };
            let count = acked.count();
            if count > stream.trimmed {
                stream.trimmed = count;
                news.push((id, acked));
            }
        }
        if !news.is_empty() {
            self.actions.push(Action::Trim(news));
        }
    }

    fn refuse(&mut self, now: BootNanos, refused: &Refused) {
        let seqs = refused.seq_lo.0..refused.seq_hi.0.saturating_add(1);
        let stream = refused.stream;
        let cause = match refused.refusal.reason {
            RefusalReason::Quarantine => Some(GapCause::RejectedQuarantine),
            RefusalReason::Limit => Some(GapCause::RejectedLimit),
            RefusalReason::FingerprintCollision => Some(GapCause::RejectedSchema),
            RefusalReason::DecodeError => self.complain(stream, &seqs).then_some(GapCause::RejectedLimit),
            RefusalReason::SchemaMismatch => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.declared.clear();
                }
                self.complain(stream, &seqs).then_some(GapCause::RejectedSchema)
            }
            RefusalReason::BadSignature => {
                self.session.ask_hello(now);
                None
            }
            // A whole message, or a codec the collector will learn: the resend timer brings it again, ever more rarely.
            _ => None,
        };
        let released = cause.is_some_and(|cause| self.give_up(stream, &seqs, cause, &refused.refusal));
        self.counters.refusals = self.counters.refusals.saturating_add(1);
        let refusal = refused.refusal.clone();
        self.actions.push(Action::Report(ShipError::Refused { stream, seqs, refusal, released }));
    }

    /// Sends the units of these rows once more; true if that was tried before. A refusal is told once
    /// for each attempt, so an attempt counts once.
    fn complain(&mut self, stream: StreamId, seqs: &Range<u64>) -> bool {
        let touched: Vec<(u64, u32, u32, bool)> = self
            .flight
            .units()
            .filter(|(_, unit)| unit.is_out() && holds(unit, stream, seqs))
            .map(|(id, unit)| (id, unit.complained, unit.attempts, unit.is_away()))
            .collect();
        let mut before = false;
        for (id, complained, attempts, away) in touched {
            if complained == 0 && away {
                self.flight.complain_away(id);
            } else if complained == 0 {
                if let Some(unit) = self.flight.get_mut(id) {
                    unit.complained = attempts;
                }
                self.flight.requeue(id, true);
            } else if attempts > complained {
                before = true;
            }
        }
        before
    }

    /// Counts rows on their way as given up and records the gap; false if none of them are.
    fn give_up(&mut self, id: StreamId, seqs: &Range<u64>, cause: GapCause, refusal: &Refusal) -> bool {
        let mut gaps = BTreeSet::new();
        let mut records = Vec::new();
        for (_, unit) in self.flight.units() {
            for hold in unit.holds.iter().filter(|hold| hold.stream == id) {
                let (start, end) = (hold.seqs.start.max(seqs.start), hold.seqs.end.min(seqs.end));
                // A blob and its row name the same seq: one gap.
                if start >= end || !gaps.insert((start, end)) {
                    continue;
                }
                let Some(stream) = self.streams.get(id) else { continue };
                for part in stream.refused.missing_in(start..end) {
                    records.push(GapRecord {
                        stream: stream.name.clone(),
                        boot_ordinal: hold.boot_ordinal,
                        seq_first: Seq(part.start),
                        seq_last: Seq(part.end.saturating_sub(1)),
                        cause,
                        stride: 0,
                        phase: 0,
                        rows: part.end.saturating_sub(part.start),
                        bytes: 0,
                        b_first: hold.b_first,
                        b_last: hold.b_last,
                        policy_version: 0,
                        note: refusal.text.clone(),
                    });
                }
            }
        }
        let released = !records.is_empty();
        for record in records {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.refused.insert(record.seq_first.0..record.seq_last.0.saturating_add(1));
            }
            self.counters.rows_refused = self.counters.rows_refused.saturating_add(record.rows);
            self.actions.push(Action::Gap(record));
        }
        released
    }
}

fn holds(unit: &Unit, stream: StreamId, seqs: &Range<u64>) -> bool {
    unit.holds
        .iter()
        .any(|hold| hold.stream == stream && hold.seqs.start < seqs.end && seqs.start < hold.seqs.end)
}
