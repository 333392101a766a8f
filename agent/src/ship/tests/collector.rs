//! A tiny model of the collector: verifies, stages, lands, commits, acks; no disk, no lake.

use super::fixture::{EPOCH, Signer, path};
use headwater_core::batch::{Limits, Rows, StreamRef, decode_batch};
use headwater_core::id::{IncarnationId, ObjectId, Sha256, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::sample::BlobRef;
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::Grade;
use headwater_core::wire::chain::{FleetRoots, Role, verify_chain};
use headwater_core::wire::object::{BlobObject, Part, object_id};
use headwater_core::wire::{
    Ack, AckStream, Capabilities, ClockReply, Declaration, Envelope, Hello, MessageKind, Missing, Refusal,
    RefusalReason, Refused, Sent, Topic, Unsigned, VerifyingKey, peek_chain,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Default)]
struct Staged {
    bytes: Vec<u8>,
    have: IntervalSet,
}

/// What survives a restart of the receiver: its log and its device table.
#[derive(Default)]
pub(super) struct Landing {
    /// (stream, seq) → the row.
    pub(super) rows: BTreeMap<(StreamId, u64), Rows>,
    pub(super) blobs: BTreeMap<(StreamId, u64), BlobRef>,
    schemas: HashMap<(StreamId, Fingerprint), Schema>,
    committed: BTreeMap<StreamId, IntervalSet>,
    /// Copies of rows that were there already.
    pub(super) doubles: u64,
    pub(super) refused: BTreeMap<StreamId, IntervalSet>,
}

pub(super) struct ModelCollector {
    pub(super) signer: Signer,
    roots: FleetRoots,
    pub(super) landing: Landing,
    incarnation: IncarnationId,
    counter: u64,
    device: Option<VerifyingKey>,
    staged: HashMap<ObjectId, Staged>,
    answering: Option<[u8; 16]>,
    received_since_hello: u64,
    /// Bytes granted beyond what was received.
    pub(super) allowance: u64,
    /// What it can read.
    pub(super) capabilities: Capabilities,
    needs_hello: bool,
    need_schema: BTreeSet<(StreamId, Fingerprint)>,
    refusing: Vec<Refused>,
    /// Rows to refuse on sight.
    pub(super) bad: BTreeMap<(StreamId, u64), RefusalReason>,
    last_sent: Option<(Sent, i64)>,
    pub(super) hellos: Vec<Hello>,
    /// Kinds in order of arrival.
    pub(super) seen: Vec<MessageKind>,
    pub(super) parts: Vec<(u64, u64)>,
    pub(super) unverified: u64,
}

impl ModelCollector {
    pub(super) fn new(signer: Signer, roots: FleetRoots) -> Self {
        Self {
            signer,
            roots,
            landing: Landing::default(),
            incarnation: IncarnationId([1; 16]),
            counter: 0,
            device: None,
            staged: HashMap::new(),
            answering: None,
            received_since_hello: 0,
            allowance: 1 << 20,
            capabilities: Capabilities::ours("model"),
            needs_hello: false,
            need_schema: BTreeSet::new(),
            refusing: Vec::new(),
            bad: BTreeMap::new(),
            last_sent: None,
            hellos: Vec::new(),
            seen: Vec::new(),
            parts: Vec::new(),
            unverified: 0,
        }
    }

    /// A new life: the log is kept, memory, staging and device keys are not.
    pub(super) fn restart(&mut self) {
        self.incarnation.0[0] += 1;
        self.counter = 0;
        self.device = None;
        self.staged.clear();
        self.answering = None;
        self.refusing.clear();
        self.last_sent = None;
    }

    pub(super) fn receive(&mut self, topic: &str, message: &[u8], utc_ns: i64) {
        assert!(matches!(Topic::parse(topic), Ok(Topic::In { device, .. }) if device == path()));
        let envelope = Envelope::parse(message).expect("agents send sound messages");
        envelope.check_device(&path()).unwrap();
        assert_eq!(envelope.epoch, EPOCH);
        self.seen.push(envelope.kind);
        if envelope.kind == MessageKind::Hello {
            let chain = peek_chain(&envelope).unwrap().unwrap();
            let who = verify_chain(&chain, &self.roots, Role::Device, super::fixture::UTC).unwrap();
            envelope.verify(&who.key).unwrap();
            let hello = Hello::from_body(envelope.body).unwrap();
            self.device = Some(who.key);
            self.needs_hello = false;
            self.answering = Some(hello.nonce);
            self.received_since_hello = 0;
            self.hellos.push(hello);
            return;
        }
        let Some(key) = self.device else {
            self.needs_hello = true;
            self.unverified += 1;
            return;
        };
        envelope.verify(&key).expect("signed at hand-over");
        self.last_sent = Some((envelope.sent, utc_ns));
        if envelope.kind != MessageKind::Probe {
            self.received_since_hello += message.len() as u64;
        }
        match envelope.kind {
            MessageKind::Batch => self.batch(envelope.body),
            MessageKind::Part => self.part(envelope.body),
            MessageKind::Declaration => {
                let declared = Declaration::from_body(envelope.body).unwrap();
                let key = (declared.stream, declared.schema.fingerprint());
                self.need_schema.remove(&key);
                self.landing.schemas.insert(key, declared.schema);
            }
            MessageKind::Probe => assert!(envelope.body.is_empty()),
            kind => panic!("unexpected {kind:?}"),
        }
    }

    fn batch(&mut self, body: &[u8]) {
        let batch = decode_batch(body, &Limits::V1).unwrap();
        for rows in batch.rows() {
            let StreamRef::Id(stream) = rows.stream else { panic!("id") };
            if !self.landing.schemas.contains_key(&(stream, rows.fingerprint)) {
                self.need_schema.insert((stream, rows.fingerprint));
            }
            for (at, seq) in rows.seqs().enumerate() {
                if let Some(reason) = self.bad.get(&(stream, seq)).copied() {
                    let refusal = Refusal { reason, text: "for the test".into() };
                    let refused = Refused {
                        stream,
                        seq_lo: headwater_core::id::Seq(seq),
                        seq_hi: headwater_core::id::Seq(seq),
                        refusal,
                    };
                    self.refusing.push(refused);
                    if reason == RefusalReason::Quarantine {
                        self.landing.refused.entry(stream).or_default().insert(seq..seq + 1);
                    }
                    continue;
                }
                let row = rows.slice(at..at + 1);
                match self.landing.rows.get(&(stream, seq)) {
                    Some(was) => {
                        assert!(was.same_bits(&row), "D1: same key, other content");
                        self.landing.doubles += 1;
                    }
                    None => {
                        self.landing.rows.insert((stream, seq), row);
                    }
                }
            }
        }
    }

    fn part(&mut self, body: &[u8]) {
        let part = Part::from_body(body).unwrap();
        self.parts.push((part.offset, part.bytes.len() as u64));
        let staged = self.staged.entry(part.object).or_default();
        staged.bytes.resize(usize::try_from(part.total_len).unwrap(), 0);
        let start = usize::try_from(part.offset).unwrap();
        staged.bytes[start..start + part.bytes.len()].copy_from_slice(part.bytes);
        staged.have.insert(part.offset..part.offset + part.bytes.len() as u64);
        if staged.have.covers(0..part.total_len) {
            let staged = self.staged.remove(&part.object).unwrap();
            assert_eq!(object_id(&staged.bytes), part.object);
            let blob = BlobObject::from_bytes(&staged.bytes).unwrap();
            self.landing.blobs.insert((blob.stream, blob.seq.0), blob.reference);
        }
    }

    fn durable(&self) -> BTreeMap<StreamId, IntervalSet> {
        let mut sets: BTreeMap<StreamId, IntervalSet> = self.landing.refused.clone();
        for ((stream, seq), row) in &self.landing.rows {
            let Some(schema) = self.landing.schemas.get(&(*stream, row.fingerprint)) else { continue };
            if schema.blob_field().is_some() && !self.landing.blobs.contains_key(&(*stream, *seq)) {
                continue;
            }
            sets.entry(*stream).or_default().insert(*seq..*seq + 1);
        }
        sets
    }

    /// Commits what is durable.
    pub(super) fn commit(&mut self) {
        self.landing.committed = self.durable();
    }

    /// The next ack, signed; empty if there is nobody to speak to.
    pub(super) fn ack(&mut self, utc_ns: i64) -> Vec<u8> {
        let body = self.ack_body(utc_ns);
        self.signed(&body.to_body())
    }

    pub(super) fn signed(&self, body: &[u8]) -> Vec<u8> {
        let sent = Sent { boot_ordinal: 0, ns: 0 };
        Unsigned::new(MessageKind::Ack, &path(), EPOCH, body).unwrap().sign(sent, &self.signer.key)
    }

    pub(super) fn ack_body(&mut self, utc_ns: i64) -> Ack {
        self.counter += 1;
        let mut ack = Ack::new(self.incarnation, self.counter);
        if let Some(nonce) = self.answering.take() {
            ack.nonce = Some(nonce);
            ack.chain = Some(self.signer.chain.clone());
            ack.capabilities = Some(self.capabilities.clone());
        }
        ack.need_hello = self.needs_hello;
        let durable = self.durable();
        let beyond = |set: &IntervalSet| -> Vec<_> { set.iter().filter(|r| r.start > 0).take(16).collect() };
        for (id, set) in &durable {
            let none = IntervalSet::new();
            let committed = self.landing.committed.get(id).unwrap_or(&none);
            ack.streams.push(AckStream {
                id: *id,
                durable_upto: headwater_core::id::Seq(set.upto()),
                committed_upto: headwater_core::id::Seq(committed.upto()),
                durable: beyond(set),
                committed: beyond(committed),
            });
        }
        for (id, staged) in &self.staged {
            let total_len = staged.bytes.len() as u64;
            let ranges = staged.have.missing_in(0..total_len).into_iter().take(16).collect();
            ack.missing.push(Missing { object: *id, total_len, ranges });
        }
        ack.refused = self.refusing.clone();
        ack.credit = Some(self.received_since_hello + self.allowance);
        ack.commit = (!self.landing.committed.is_empty()).then_some(Sha256([9; 32]));
        ack.clock = self.last_sent.map(|(t1, t2_ns)| ClockReply {
            t1,
            t2_ns,
            t3_ns: utc_ns,
            e_c_ns: 1_000,
            grade: Grade::Guaranteed,
            source_id: 5,
        });
        ack.need_schema = self.need_schema.iter().copied().collect();
        ack
    }

    /// A gap record of these rows was landed: they are as good as durable.
    pub(super) fn explain(&mut self, stream: StreamId, seqs: std::ops::Range<u64>) {
        self.landing.refused.entry(stream).or_default().insert(seqs);
    }

    /// One answer per refusal is enough.
    pub(super) fn forget_refusals(&mut self) {
        self.refusing.clear();
    }
}
