//! The receiver's decisions, all of them: what to land, what to answer. No clock, no file, no socket.

mod others;

use super::acks::{AckDesk, ClockQuality, Now, Standing, Voice};
use super::admit::{Admission, Admitted, Body, Refusal, RefusalKind, read_body};
use super::credit::CreditPool;
use super::epochs::{EPOCHS_PER_DEVICE_MAX, Epochs};
use super::landed_set::{LandedSet, refusal};
use super::quota::QuotaSettings;
use super::reassemble::{DeviceEpoch, PartOutcome, Reassembler, StagingLimits};
use super::summary::{BatchSummary, RowRun, refusal_reason};
use crate::config::AckSigner;
use crate::land::{
    BlobRecord, CommitMark, LandRecord, Landed, LandedBlob, LandedMessage, LandingPosition, MessageRecord,
    Span,
};
use crate::registry::{DeclareError, DeclaredStream, DeviceKey, Registry};
use headwater_core::batch::StreamRef;
use headwater_core::id::{DevicePath, IncarnationId, KeyId, Seq, StreamId};
use headwater_core::sample::BlobRef;
use headwater_core::time::{BootNanos, UtcNanos};
use headwater_core::wire::chain::{Role, verify_chain};
use headwater_core::wire::object::{BlobHead, Part};
use headwater_core::wire::{
    Ack, Declaration, Envelope, Hello, Lane, MessageKind, RefusalReason, Refused, Sent, Topic, Unsigned,
    peek_chain,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// How long a message of an unknown key waits in a group for another receiver's word of it.
const PEN_NS: i64 = 2_000_000_000;
/// Bytes that may wait so; beyond it they are refused, and their devices asked for a hello.
const PEN_BYTES_MAX: usize = 8 << 20;

/// What a landed record means to the landed set once it is synced.
#[derive(Debug, Clone)]
pub enum Note {
    /// Rows.
    Rows(DeviceEpoch, Vec<RowRun>),
    /// A declaration.
    Declaration(DeviceEpoch, DeclaredStream),
    /// A blob of this row.
    Blob(DeviceEpoch, BlobRef, StreamId, Seq),
    /// Nothing.
    Plain(DeviceEpoch),
}

/// A record to land, with what it means once synced.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The record.
    pub record: LandRecord,
    /// Its meaning.
    pub note: Note,
}

/// What became of a delivery. It is settled in every case.
#[derive(Debug)]
pub enum Taken {
    /// To be landed.
    Land(Box<Staged>),
    /// Admitted, with nothing to land: an unfinished object, a replayed hello, sections all refused.
    Kept,
    /// Refused.
    Refused(Refusal),
}

/// A message to hand to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic.
    pub topic: String,
    /// Signed message.
    pub payload: Vec<u8>,
}

/// Who this receiver is.
#[derive(Debug)]
pub struct ReceiverIdentity {
    /// This life.
    pub incarnation: IncarnationId,
    /// Signs acks.
    pub key: Arc<AckSigner>,
    /// Its chain, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// Name and version, for people.
    pub software: String,
}

/// The pure half of the receive stage.
#[derive(Debug)]
pub struct Receiver {
    admission: Admission,
    key: Arc<AckSigner>,
    /// Our key before the last renewal and its number: devices that have not heard of the new one believe it.
    key_before: Option<(u32, Arc<AckSigner>)>,
    staging: Reassembler,
    landed: LandedSet,
    desk: AckDesk,
    epochs: Epochs,
    /// Acks that go out at once, such as requests for a hello.
    urgent: Vec<Outgoing>,
    /// Messages of a key that another receiver of the group may just have heard of, with the end of their patience.
    pen: VecDeque<(BootNanos, String, Vec<u8>)>,
    pen_bytes: usize,
}

impl Receiver {
    /// A receiver with nothing landed; `mark` is the newest commit's. [`Receiver::replay`] brings the rest.
    #[must_use]
    pub fn new(admission: Admission, identity: ReceiverIdentity, mark: &CommitMark) -> Self {
        let desk = AckDesk::new(identity.incarnation, identity.chain, &identity.software);
        Self {
            admission,
            key: identity.key,
            key_before: None,
            staging: Reassembler::new(StagingLimits::V1),
            landed: LandedSet::new(mark.clone()),
            desk,
            epochs: Epochs::default(),
            urgent: Vec::new(),
            pen: VecDeque::new(),
            pen_bytes: 0,
        }
    }

    /// With this much credit for the fleet, under these quotas.
    #[must_use]
    pub fn with_credit(mut self, credit_bytes: u64, quotas: QuotaSettings) -> Self {
        self.desk.credit = CreditPool::new(credit_bytes, quotas);
        self
    }

    /// Our certificate was renewed. Acks go on under the key that each device believes, and ask it for a hello, whose
    /// answer brings the new one: nothing that is under way is lost.
    pub fn renew(&mut self, key: Arc<AckSigner>, chain: Vec<Vec<u8>>) {
        let other_key = key.key_id() != self.key.key_id();
        let number = self.desk.renew(chain, other_key);
        if other_key {
            self.key_before = Some((number.saturating_sub(1), std::mem::replace(&mut self.key, key)));
        }
    }

    /// Lists of revoked collectors (CRLs, DER), for the answers to hellos.
    pub fn set_revocations(&mut self, lists: Vec<Vec<u8>>) {
        self.desk.set_revocations(lists);
    }

    /// Takes a message that came in on `topic`.
    pub fn take(&mut self, topic: &str, payload: &[u8], now: Now) -> Taken {
        self.take_until(topic, payload, now.boot.plus_ns(PEN_NS), now)
    }

    fn take_until(&mut self, topic: &str, payload: &[u8], until: BootNanos, now: Now) -> Taken {
        let admitted = match self.admission.admit(topic, payload, now.utc) {
            Ok(admitted) => admitted,
            Err(refused) => {
                let penned = self.pen_bytes.saturating_add(payload.len());
                if refused.kind == RefusalKind::UnknownKey
                    && matches!(self.desk.standing, Standing::Group(_))
                    && until > now.boot
                    && penned <= PEN_BYTES_MAX
                {
                    self.pen_bytes = penned;
                    self.pen.push_back((until, topic.to_owned(), payload.to_owned()));
                    return Taken::Kept;
                }
                self.answer_refusal(&refused, payload, now);
                return Taken::Refused(refused);
            }
        };
        let owner = (admitted.device.clone(), admitted.envelope.epoch);
        self.meet_epoch(&owner);
        let cost = cost_of(admitted.lane, payload.len());
        self.desk.received(&owner, cost, admitted.envelope.sent, now);
        self.desk.signed_by(&owner, &admitted.key_serial);
        self.keep(&owner, admitted, payload, now)
    }

    fn keep(&mut self, owner: &DeviceEpoch, admitted: Admitted<'_>, payload: &[u8], now: Now) -> Taken {
        let sent = admitted.envelope.sent;
        let record = || MessageRecord {
            device: admitted.device.clone(),
            lane: admitted.lane,
            key_serial: admitted.key_serial.clone(),
            received: now.utc,
            message: payload.into(),
        };
        let land = |note| Taken::Land(Box::new(Staged { record: LandRecord::Message(record()), note }));
        match admitted.body {
            Body::Batch(summary) => {
                for refused in self.section_refusals(owner, &summary) {
                    self.desk.refused(owner, refused, now.boot);
                }
                if summary.is_hopeless() {
                    return Taken::Kept;
                }
                land(Note::Rows(owner.clone(), summary.runs))
            }
            Body::Declaration(declaration) => {
                match self.admission.registry.declare(&owner.0, owner.1, &declaration) {
                    Ok(_) => land(Note::Declaration(owner.clone(), declared(declaration))),
                    Err(error) => {
                        let reason = match error {
                            DeclareError::Collision { .. } => RefusalReason::FingerprintCollision,
                            DeclareError::Name { .. } => RefusalReason::SchemaMismatch,
                        };
                        let refused = refusal(declaration.stream, &(0..1), reason, error.to_string());
                        self.desk.refused(owner, refused, now.boot);
                        Taken::Refused(Refusal {
                            kind: RefusalKind::Contradiction,
                            device: Some(owner.0.clone()),
                            epoch: Some(owner.1),
                            detail: error.to_string(),
                        })
                    }
                }
            }
            Body::Hello { hello, key } => {
                let backlog = hello
                    .streams
                    .iter()
                    .any(|stream| stream.next_seq.0 > self.landed.durable_upto(owner, stream.id));
                self.meet_key(owner, key.signer.key.key_id());
                if !self.desk.hello(owner, hello, backlog, sent, now) {
                    return Taken::Kept;
                }
                self.admission.registry.insert_key(*key);
                land(Note::Plain(owner.clone()))
            }
            Body::Probe => land(Note::Plain(owner.clone())),
            // Objects are put together by the receiver that speaks to the device; it finds this in our log.
            Body::Part(_)
                if matches!(self.desk.standing, Standing::Group(_))
                    && self.desk.voice(owner) == Voice::Silent =>
            {
                land(Note::Plain(owner.clone()))
            }
            Body::Part(part) => self.take_part(owner, &part, record, now),
        }
    }

    /// State of this epoch is about to be kept: the longest idle of its device goes if that is one too many.
    fn meet_epoch(&mut self, owner: &DeviceEpoch) {
        let Some(gone) = self.epochs.heard(owner) else { return };
        self.landed.forget(&gone);
        self.desk.forget(&gone);
        tracing::warn!(device = %gone.0, epoch = %gone.1, limit = EPOCHS_PER_DEVICE_MAX, "device has more epochs than are kept; the longest idle is forgotten");
    }

    /// Epochs forgotten because their device had too many.
    #[must_use]
    pub fn epochs_forgotten(&self) -> u64 {
        self.epochs.forgotten()
    }

    /// A hello of this key is about to be taken: if it is the first, no hello of another key stands in its way.
    fn meet_key(&mut self, owner: &DeviceEpoch, key_id: KeyId) {
        if self.admission.registry.signer(&owner.0, key_id).is_none() {
            self.desk.forget_newest_hello(owner);
        }
    }

    fn take_part(
        &mut self,
        owner: &DeviceEpoch,
        part: &Part<'_>,
        record: impl FnOnce() -> MessageRecord,
        now: Now,
    ) -> Taken {
        match self.staging.take(owner, part, now.boot) {
            PartOutcome::Finished(blob) => {
                let note = Note::Blob(owner.clone(), blob.reference, blob.stream, blob.seq);
                let record =
                    BlobRecord { part: record(), epoch: owner.1, object: blob.object, bytes: blob.bytes };
                Taken::Land(Box::new(Staged { record: LandRecord::Blob(record), note }))
            }
            PartOutcome::GivenUp(Some((stream, seq))) => {
                let text = "object's bytes are not what it names, three times".to_owned();
                let seqs = seq.0..seq.0.saturating_add(1);
                self.desk.refused(owner, refusal(stream, &seqs, RefusalReason::DecodeError, text), now.boot);
                Taken::Kept
            }
            PartOutcome::Held | PartOutcome::Discarded => {
                if let Some(at) = self.staging.ask_at(owner) {
                    self.desk.schedule_at(owner, at.max(now.boot));
                }
                Taken::Kept
            }
            PartOutcome::Known | PartOutcome::GivenUp(None) => Taken::Kept,
        }
    }

    /// Records were synced: what they mean is now durable.
    pub fn synced(&mut self, notes: Vec<Note>, spans: &[Span], now: BootNanos) {
        for (note, span) in notes.into_iter().zip(spans) {
            let owner = self.apply(note, span.end, now);
            self.desk.news(&owner, now);
        }
    }

    /// A commit was made.
    pub fn committed(&mut self, mark: &CommitMark, now: BootNanos) {
        for owner in self.landed.commit(mark) {
            self.desk.committed(&owner, mark.commit, now);
        }
    }

    /// Takes what an earlier life landed, in the order of its log. `false`: the record could not be read
    /// any more (counted by the caller); it stays in the log.
    pub fn replay(&mut self, landed: &Landed) -> bool {
        match landed {
            Landed::Message(message) => {
                self.meet_epoch(&(message.device.clone(), message.epoch));
                self.replay_message(message)
            }
            Landed::Blob(blob) => {
                self.meet_epoch(&(blob.device.clone(), blob.epoch));
                self.replay_blob(blob)
            }
        }
    }

    /// Counts a record of an earlier life of this receiver for the quota of the day.
    pub fn count_replayed(&mut self, landed: &Landed, now: Now) {
        let (device, epoch, received, bytes) = match landed {
            Landed::Message(m) if m.imported => return,
            Landed::Message(m) => (&m.device, m.epoch, m.received, cost_of(m.lane, m.message.len())),
            Landed::Blob(b) => (&b.device, b.epoch, b.received, b.bytes.len() as u64),
        };
        self.desk.credit.replayed(&(device.clone(), epoch), bytes, received, now);
    }

    /// When the next ack is due.
    #[must_use]
    pub fn deadline(&self) -> Option<BootNanos> {
        self.desk.deadline()
    }

    /// Every ack that is due, signed.
    pub fn acks(&mut self, quality: ClockQuality, now: Now) -> Vec<Outgoing> {
        self.desk.serve_credit(now);
        let mut out = std::mem::take(&mut self.urgent);
        while let Some((owner, ack)) = self.desk.next_due(&self.landed, &mut self.staging, quality, now) {
            let serial = self.desk.signer_of(&owner);
            match serial.and_then(|serial| self.admission.registry.revoked(serial)) {
                None => out.extend(self.sign(&owner, &ack, now.utc)),
                // Its acks stop; what it shipped before stays.
                Some(why) if self.desk.ask_hello(&owner.0, now.boot) => {
                    let ack = self.desk.shut_out(why, None);
                    out.extend(self.sign(&owner, &ack, now.utc));
                }
                Some(_) => {}
            }
        }
        out
    }

    /// How much waits for its sync: what is granted shrinks with it.
    pub fn landing(&mut self, bytes: u64) {
        self.desk.credit.landing(bytes);
    }

    /// How long a group of so many bytes took to land.
    pub fn landed_in(&mut self, bytes: u64, took_ns: i64) {
        self.desk.credit.synced(bytes, took_ns);
    }

    /// The fleet's credit.
    #[must_use]
    pub fn credit(&self) -> &CreditPool {
        &self.desk.credit
    }

    /// Watermarks and staging, for tests and metrics.
    #[must_use]
    pub fn landed_set(&self) -> &LandedSet {
        &self.landed
    }

    /// Unfinished objects.
    #[must_use]
    pub fn staging(&self) -> &Reassembler {
        &self.staging
    }

    /// What is known of devices.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.admission.registry
    }

    fn answer_refusal(&mut self, refused: &Refusal, payload: &[u8], now: Now) {
        let shut_out = matches!(refused.kind, RefusalKind::Revoked | RefusalKind::OtherCa);
        let ask = shut_out || matches!(refused.kind, RefusalKind::UnknownKey | RefusalKind::Expired);
        let (true, Some(device), Some(epoch)) = (ask, &refused.device, refused.epoch) else { return };
        if self.desk.ask_hello(device, now.boot) {
            let ack = if shut_out {
                self.desk.shut_out(refused.detail.clone(), nonce_of(payload))
            } else {
                self.desk.need_hello()
            };
            let out = self.sign(&(device.clone(), epoch), &ack, now.utc);
            self.urgent.extend(out);
        }
    }

    fn sign(&self, owner: &DeviceEpoch, ack: &Ack, utc: UtcNanos) -> Option<Outgoing> {
        let key = match (&self.key_before, self.desk.believed(owner)) {
            (Some((number, key)), Some(believed)) if ack.nonce.is_none() && *number == believed => key,
            _ => &self.key,
        };
        match Unsigned::new(MessageKind::Ack, &owner.0, owner.1, &ack.to_body()) {
            Ok(unsigned) => {
                let sent = Sent { boot_ordinal: 0, ns: utc.0 };
                let payload = unsigned.sign_with(sent, key.key_id(), |digest| key.sign(digest))?;
                Some(Outgoing { topic: Topic::Ack(owner.0.clone()).to_string(), payload })
            }
            Err(error) => {
                // 256 streams with 32 ranges each stay below the limit, so this is a bug of ours.
                tracing::error!(device = %owner.0, %error, "ack is too large to send");
                None
            }
        }
    }

    fn section_refusals(&self, owner: &DeviceEpoch, summary: &BatchSummary) -> Vec<Refused> {
        let registry = &self.admission.registry;
        let unreadable = summary.refused.iter().filter_map(|refused| {
            let stream = registry.stream_id(&owner.0, owner.1, refused.stream.as_ref()?).or({
                match refused.stream {
                    Some(StreamRef::Id(id)) => Some(id),
                    _ => None,
                }
            })?;
            let seqs = refused.seqs.clone().unwrap_or(0..1);
            Some(refusal(stream, &seqs, refusal_reason(&refused.why), refused.why.to_string()))
        });
        let misfits = summary.runs.iter().filter_map(|run| {
            let known = registry.resolve(&owner.0, owner.1, &run.stream, run.fingerprint)?;
            if run.follows(&known.schema) {
                return None;
            }
            let text = format!("rows do not have the columns of schema {}", run.fingerprint);
            Some(refusal(known.stream, &run.seqs, RefusalReason::SchemaMismatch, text))
        });
        unreadable.chain(misfits).collect()
    }

    fn apply(&mut self, note: Note, end: LandingPosition, now: BootNanos) -> DeviceEpoch {
        // It may have been forgotten while its sync was under way.
        let (Note::Rows(owner, _) | Note::Declaration(owner, _) | Note::Blob(owner, ..) | Note::Plain(owner)) =
            &note;
        self.meet_epoch(&owner.clone());
        match note {
            Note::Rows(owner, runs) => {
                for run in runs {
                    // Misfits of known schemas were refused when they came.
                    let _refused_before: Option<Refused> = self.landed.land_run(&owner, run, end);
                }
                owner
            }
            Note::Declaration(owner, declared) => {
                for refused in self.landed.land_declaration(&owner, &declared, end) {
                    self.desk.refused(&owner, refused, now);
                }
                owner
            }
            Note::Blob(owner, reference, stream, seq) => {
                self.landed.land_blob(&owner, reference, (stream, seq), end);
                owner
            }
            Note::Plain(owner) => owner,
        }
    }

    fn replay_message(&mut self, landed: &LandedMessage) -> bool {
        let owner = (landed.device.clone(), landed.epoch);
        let Ok(envelope) = Envelope::parse(&landed.message) else { return false };
        if envelope.kind == MessageKind::Hello {
            self.meet_key(&owner, envelope.key_id);
            self.desk.remember_hello(&owner, envelope.sent, landed.position.incarnation);
            return self.replay_key(&envelope, &landed.device, landed.received);
        }
        let note = match read_body(&envelope) {
            Ok(Body::Batch(summary)) => Note::Rows(owner, summary.runs),
            Ok(Body::Declaration(declaration)) => {
                let known = self.admission.registry.declare(&landed.device, landed.epoch, &declaration);
                if known.is_err() {
                    return false;
                }
                Note::Declaration(owner, declared(declaration))
            }
            Ok(_) => Note::Plain(owner),
            Err(_) => return false,
        };
        self.replay_note(note, landed.end);
        true
    }

    fn replay_blob(&mut self, landed: &LandedBlob) -> bool {
        // Unpacked and checked when it was landed; the log has its own sums.
        let Ok(blob) = BlobHead::from_bytes(&landed.bytes) else { return false };
        let owner = (landed.device.clone(), landed.epoch);
        self.replay_note(Note::Blob(owner, blob.reference, blob.stream, blob.seq), landed.end);
        true
    }

    /// Nothing is announced for old records: the device's hello asks for watermarks anyway.
    fn replay_note(&mut self, note: Note, end: LandingPosition) {
        match note {
            Note::Rows(owner, runs) => runs.into_iter().for_each(|run| {
                let _refused_before: Option<Refused> = self.landed.land_run(&owner, run, end);
            }),
            Note::Declaration(owner, declared) => {
                let _refused_before: Vec<Refused> = self.landed.land_declaration(&owner, &declared, end);
            }
            Note::Blob(owner, reference, stream, seq) => {
                self.landed.land_blob(&owner, reference, (stream, seq), end);
            }
            Note::Plain(_) => {}
        }
    }

    /// The key of a landed hello: its chain is verified again, at the time it was received.
    fn replay_key(&self, envelope: &Envelope<'_>, device: &DevicePath, received: UtcNanos) -> bool {
        let Ok(Some(chain)) = peek_chain(envelope) else { return false };
        match verify_chain(&chain, &self.admission.roots, Role::Device, received) {
            Ok(signer) if signer.path == *device && envelope.verify(&signer.key).is_ok() => {
                self.admission.registry.insert_key(DeviceKey { signer, chain, seen: received });
                true
            }
            _ => false,
        }
    }
}

/// What a message costs of its device's credit: control is free, so that alarms and hellos never wait.
fn cost_of(lane: Lane, bytes: usize) -> u64 {
    if lane == Lane::Control { 0 } else { bytes as u64 }
}

/// The nonce of a hello; `None` of anything else.
fn nonce_of(payload: &[u8]) -> Option<[u8; 16]> {
    let envelope = Envelope::parse(payload).ok().filter(|envelope| envelope.kind == MessageKind::Hello)?;
    Hello::from_body(envelope.body).ok().map(|hello| hello.nonce)
}

fn declared(declaration: Declaration) -> DeclaredStream {
    let Declaration { stream, name, schema } = declaration;
    let fingerprint = schema.fingerprint();
    DeclaredStream { stream, name, fingerprint, schema: Arc::new(schema) }
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "herd_tests.rs"]
mod herd_tests;
