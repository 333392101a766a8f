//! The pure half: messages of an export in, records to land out. It changes nothing outside.

use super::report::FileReport;
use crate::config::AckSigner;
use crate::dedup::{Ledger, StreamKey};
use crate::land::{BlobRecord, LandRecord, MessageRecord};
use crate::receive::{
    Admission, Admitted, Body, PartOutcome, Reassembler, Refusal, RefusalKind, StagingLimits,
};
use crate::registry::{Declared, DeviceKey, Registry};
use headwater_core::batch::StreamRef;
use headwater_core::export::{Exported, Origin};
use headwater_core::id::{DevicePath, Epoch, TenantId};
use headwater_core::time::{BootNanos, UtcNanos};
use headwater_core::wire::chain::{FleetRoots, Signer};
use headwater_core::wire::{Topic, Unsigned};
use std::sync::Arc;

/// Kinds of refusal that are told apart in a report; more are counted together.
const REFUSALS_MAX: usize = 32;
/// What further kinds are counted as.
const OTHERS: &str = "other reasons";

/// What a message asks for.
#[derive(Debug)]
pub enum Step {
    /// Nothing: known, refused, or part of something unfinished.
    Nothing,
    /// Land this.
    Land(Box<LandRecord>),
}

/// Takes the messages of one file.
#[derive(Debug)]
pub struct Taker<'a> {
    admission: Admission,
    device: DevicePath,
    operator: &'a AckSigner,
    /// As the lake had it before this import.
    before: &'a Ledger,
    /// The same, and what this import adds.
    seen: &'a mut Ledger,
    staging: Reassembler,
    received: UtcNanos,
    /// Keys and declarations, landed only if anything else is.
    prelude: Vec<LandRecord>,
    landing: bool,
    report: FileReport,
}

/// Who imports.
#[derive(Debug)]
pub struct Operator<'a> {
    /// Signs what is not signed.
    pub key: &'a AckSigner,
    /// Whom its chain names.
    pub signer: &'a Signer,
    /// The chain, leaf first, DER.
    pub chain: &'a [Vec<u8>],
    /// The fleet's roots.
    pub roots: &'a FleetRoots,
}

impl<'a> Taker<'a> {
    /// For a file of this origin, imported at `now`.
    #[must_use]
    pub fn new(
        origin: &Origin,
        tenant: &TenantId,
        operator: &Operator<'a>,
        registry: &Registry,
        (before, seen): (&'a Ledger, &'a mut Ledger),
        now: UtcNanos,
    ) -> Self {
        if !origin.signed {
            // Its messages are signed here, and then pass the same checks as all others.
            let signer = Signer { path: origin.device.clone(), ..operator.signer.clone() };
            registry.insert_key(DeviceKey { signer, chain: operator.chain.to_vec(), seen: now });
        }
        let report = FileReport {
            device: Some(origin.device.to_string()),
            signed: origin.signed,
            ..FileReport::default()
        };
        Self {
            admission: Admission {
                tenant: tenant.clone(),
                roots: operator.roots.clone(),
                registry: registry.clone(),
            },
            device: origin.device.clone(),
            operator: operator.key,
            before,
            seen,
            staging: Reassembler::new(StagingLimits::V1),
            received: now,
            prelude: Vec::new(),
            landing: false,
            report,
        }
    }

    /// What was counted.
    #[must_use]
    pub fn report(self) -> FileReport {
        self.report
    }

    /// Takes one message; gives what is to be landed, in order.
    pub fn take(&mut self, exported: Exported) -> Vec<LandRecord> {
        self.report.messages = self.report.messages.saturating_add(1);
        let (lane, message) = match exported {
            Exported::Message { lane, message } => (lane, message),
            Exported::Unsigned { lane, kind, epoch, sent, body } => {
                match Unsigned::new(kind, &self.device, epoch, &body) {
                    Ok(unsigned) => {
                        let operator = self.operator;
                        let signed =
                            unsigned.sign_with(sent, operator.key_id(), |digest| operator.sign(digest));
                        let Some(message) = signed else {
                            self.refuse(
                                &RefusalKind::BadSignature,
                                "identity.sign_command gave no signature",
                            );
                            return Vec::new();
                        };
                        (lane, message)
                    }
                    Err(error) => {
                        self.refuse(&RefusalKind::from(error), &error.to_string());
                        return Vec::new();
                    }
                }
            }
        };
        let topic = Topic::In { device: self.device.clone(), lane }.to_string();
        let admission = self.admission.clone();
        let admitted = match admission.admit(&topic, &message, self.received) {
            Ok(admitted) => admitted,
            Err(Refusal { kind, detail, .. }) => {
                self.refuse(&kind, &detail);
                return Vec::new();
            }
        };
        match self.keep(admitted, &message) {
            Step::Nothing => Vec::new(),
            Step::Land(record) => {
                let mut records = std::mem::take(&mut self.prelude);
                self.landing = true;
                records.push(*record);
                self.report.landed = self.report.landed.saturating_add(records.len() as u64);
                records
            }
        }
    }

    fn keep(&mut self, admitted: Admitted<'_>, message: &[u8]) -> Step {
        let epoch = admitted.envelope.epoch;
        let record = MessageRecord {
            device: admitted.device,
            lane: admitted.lane,
            key_serial: admitted.key_serial,
            received: self.received,
            message: Arc::from(message),
        };
        match admitted.body {
            Body::Hello { key, .. } => {
                self.admission.registry.insert_key(*key);
                self.prelude(LandRecord::Message(record))
            }
            Body::Declaration(declaration) => {
                match self.admission.registry.declare(&self.device, epoch, &declaration) {
                    Ok(Declared::New) => self.prelude(LandRecord::Message(record)),
                    Ok(Declared::Known) => Step::Nothing,
                    Err(error) => {
                        self.refuse(&RefusalKind::Contradiction, &error.to_string());
                        Step::Nothing
                    }
                }
            }
            Body::Batch(summary) => {
                let mut wanted = !summary.refused.is_empty();
                for refused in &summary.refused {
                    let rows = refused.seqs.as_ref().map_or(0, |seqs| seqs.end.saturating_sub(seqs.start));
                    self.report.rows.refused = self.report.rows.refused.saturating_add(rows);
                    self.count_refusal(format!("section: {}", refused.why));
                }
                for run in &summary.runs {
                    wanted |= self.rows(epoch, run);
                }
                if wanted { Step::Land(Box::new(LandRecord::Message(record))) } else { Step::Nothing }
            }
            Body::Part(part) => match self.staging.take(&(self.device.clone(), epoch), &part, BootNanos(0)) {
                PartOutcome::Finished(blob) => {
                    let key = self.key(epoch, &StreamRef::Id(blob.stream));
                    let here = key.is_some_and(|key| {
                        self.before.holds(&key, blob.seq.0) && !self.before.is_declared(&key, blob.seq.0)
                    });
                    let counted =
                        if here { &mut self.report.blobs.known } else { &mut self.report.blobs.new };
                    *counted = counted.saturating_add(1);
                    if here {
                        return Step::Nothing;
                    }
                    let (object, bytes) = (blob.object, blob.bytes);
                    Step::Land(Box::new(LandRecord::Blob(BlobRecord { part: record, epoch, object, bytes })))
                }
                PartOutcome::GivenUp(_) | PartOutcome::Discarded => {
                    self.report.blobs.refused = self.report.blobs.refused.saturating_add(1);
                    self.count_refusal("blob: its bytes are not what it names".to_owned());
                    Step::Nothing
                }
                PartOutcome::Held | PartOutcome::Known => Step::Nothing,
            },
            Body::Probe => Step::Nothing,
        }
    }

    /// Counts the rows of a run; true if any of them is new.
    fn rows(&mut self, epoch: Epoch, run: &crate::receive::RowRun) -> bool {
        let count = run.seqs.end.saturating_sub(run.seqs.start);
        let registry = &self.admission.registry;
        let declared = registry.resolve(&self.device, epoch, &run.stream, run.fingerprint);
        let fits = declared.as_ref().is_none_or(|declared| run.follows(&declared.schema));
        let Some(key) = self.key(epoch, &run.stream) else {
            // Landed as it is: its declaration may come with another file.
            self.report.rows.new = self.report.rows.new.saturating_add(count);
            return true;
        };
        let sorted = self.seen.sort(&key, run.seqs.clone());
        let sum = |ranges: &[std::ops::Range<u64>]| -> u64 {
            ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum()
        };
        let (new, known) = (sum(&sorted.new), sum(&sorted.known));
        let rows = &mut self.report.rows;
        rows.known = rows.known.saturating_add(known);
        if fits {
            rows.new = rows.new.saturating_add(new);
        } else {
            rows.refused = rows.refused.saturating_add(new);
            self.count_refusal("rows: they do not have the columns of their schema".to_owned());
        }
        sorted.new.iter().for_each(|seqs| self.seen.hold(&key, seqs.clone()));
        new > 0
    }

    fn key(&self, epoch: Epoch, stream: &StreamRef) -> Option<StreamKey> {
        let registry = &self.admission.registry;
        let id = registry.stream_id(&self.device, epoch, stream)?;
        let name = registry.stream_name(&self.device, epoch, id)?;
        Some(StreamKey { device: self.device.device.clone(), epoch, stream: name })
    }

    fn prelude(&mut self, record: LandRecord) -> Step {
        if self.landing {
            return Step::Land(Box::new(record));
        }
        self.prelude.push(record);
        Step::Nothing
    }

    fn refuse(&mut self, kind: &RefusalKind, detail: &str) {
        let detail = match kind {
            RefusalKind::Expired | RefusalKind::BadChain | RefusalKind::UnknownKey => {
                format!("{detail}; export it again with --unsigned, and it is signed by whoever imports it")
            }
            _ => detail.to_owned(),
        };
        self.count_refusal(format!("{}: {detail}", kind.as_str()));
    }

    fn count_refusal(&mut self, why: String) {
        let refusals = &mut self.report.refusals;
        let why = if refusals.len() < REFUSALS_MAX || refusals.contains_key(&why) {
            why
        } else {
            OTHERS.to_owned()
        };
        let count = refusals.entry(why).or_default();
        *count = count.saturating_add(1);
    }
}
