//! Folding again what was set aside, once what was wrong with it is put right: its declaration came, its field goes by
//! another name, or this build reads what an older one could not. The ledger makes it once, whoever asks how often.

use super::{Arriving, Folder, cut, held};
use crate::commit::raw::{StoredBlob, references};
use crate::dedup::StreamKey;
use crate::ingest::aside::{Aside, UNDECLARED};
use crate::ingest::group::Reason;
use crate::ingest::requeue::Request;
use crate::land::{LandedMessage, LandingPosition};
use headwater_core::batch::{Limits, Rows, Section, decode_batch};
use headwater_core::gap::GapCause;
use headwater_core::id::{DevicePath, IncarnationId, KeyId, Sha256, parse_hex};
use headwater_core::schema::Schema;
use headwater_core::time::UtcNanos;
use headwater_core::wire::{Envelope, Lane, MessageKind, Sent};
use std::collections::HashMap;
use std::sync::Arc;

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest) enum Replayed {
    /// This many of its rows are in the group now.
    Landed(u64),
    /// All of its rows were in the lake before.
    Known,
    /// It stays where it is.
    Refused(String),
}

/// The row sections of a payload: a batch of our own, or a whole message as it was sent.
pub(in crate::ingest) fn sections(payload: &[u8]) -> Result<Vec<Rows>, String> {
    let body = match Envelope::parse(payload) {
        Ok(envelope) if envelope.kind == MessageKind::Batch => envelope.body,
        Ok(envelope) => return Err(format!("it is a {} and holds no rows", envelope.kind.as_str())),
        Err(_) => payload,
    };
    let batch = decode_batch(body, &Limits::V1).map_err(|error| error.to_string())?;
    let rows = batch.sections.into_iter().filter_map(|section| match section {
        Section::Rows(rows) => Some(rows),
        _ => None,
    });
    Ok(rows.collect())
}

impl Folder {
    /// Digests of the objects that these sections name.
    pub(in crate::ingest) fn objects_of(&self, aside: &Aside, sections: &[Rows]) -> Vec<Sha256> {
        let path = self.path_of(aside);
        let of = |rows: &Rows| {
            let declared = self.resolve(&path, aside.epoch, &rows.stream, rows.fingerprint)?;
            let column = rows.fields.get(declared.schema.blob_field()?)?;
            Some(
                references(column)
                    .into_iter()
                    .flatten()
                    .map(|reference| reference.sha256)
                    .collect::<Vec<_>>(),
            )
        };
        sections.iter().filter_map(of).flatten().collect()
    }

    /// Folds an item again; `objects` are those of its objects that the lake has. Released with a row of its own if
    /// nothing of it is left behind.
    pub(in crate::ingest) fn replay(
        &mut self,
        aside: &Aside,
        sections: Vec<Rows>,
        request: &Request,
        by: &str,
        objects: &HashMap<Sha256, String>,
        now: UtcNanos,
    ) -> Replayed {
        let message = Arc::new(self.message_of(aside));
        let (mut landed, mut known, mut refused) = (0, 0, None);
        for rows in sections {
            match self.replay_rows(&message, aside, rows, request, by, objects) {
                Replayed::Landed(n) => landed += n,
                Replayed::Known => known += 1,
                Replayed::Refused(why) => refused = Some(why),
            }
        }
        if let Some(why) = refused {
            // Of a whole message the sections that fit are in now; the item stays for the others.
            return Replayed::Refused(why);
        }
        let settled = aside.reason == Reason::Schema.as_str() || aside.reason == UNDECLARED;
        if landed == 0 && !(settled && known > 0) {
            return Replayed::Refused("the lake has other rows under its seqs".to_owned());
        }
        self.group.released(aside, by, now);
        self.board.release(aside);
        metrics::counter!("headwater_quarantine_replayed_rows_total").increment(landed);
        if landed > 0 { Replayed::Landed(landed) } else { Replayed::Known }
    }

    fn replay_rows(
        &mut self,
        message: &Arc<LandedMessage>,
        aside: &Aside,
        rows: Rows,
        request: &Request,
        by: &str,
        objects: &HashMap<Sha256, String>,
    ) -> Replayed {
        let found = self.resolve(&message.device, message.epoch, &rows.stream, rows.fingerprint);
        let Some(mut declared) = found else {
            return Replayed::Refused(format!("fingerprint {} is not declared yet", rows.fingerprint));
        };
        if declared.name.as_str().starts_with("hw/") {
            return Replayed::Refused("rows of Headwater's own streams are not asked for again".to_owned());
        }
        let key =
            StreamKey { device: aside.device.clone(), epoch: aside.epoch, stream: declared.name.clone() };
        let sorted = self.ledger.sort(&key, rows.seqs());
        if sorted.new.is_empty() {
            return Replayed::Known;
        }
        let mut arriving = Arriving { message, declared: declared.clone(), key, replayed: false };
        if let Err(detail) = self.admit(&arriving, &rows) {
            let Some(schema) = self.renamed(&arriving, request) else { return Replayed::Refused(detail) };
            let who = arriving.who();
            let (before, admitted) =
                (self.aliases.insert(who.clone(), Arc::clone(&schema)), self.admissions.remove(&who));
            declared.schema = Arc::clone(&schema);
            arriving.declared = declared;
            if let Err(detail) = self.admit(&arriving, &rows) {
                match before {
                    Some(schema) => drop(self.aliases.insert(who.clone(), schema)),
                    None => drop(self.aliases.remove(&who)),
                }
                self.admissions.extend(admitted.map(|admitted| (who, admitted)));
                return Replayed::Refused(detail);
            }
            self.note_alias(&arriving, by);
        }
        self.receipt(&arriving, &rows);
        let mut landed = 0;
        for new in sorted.new {
            let run = cut(&rows, &new);
            landed += run.len() as u64;
            self.ledger.hold(&arriving.key, new.clone());
            self.hold_replayed(&arriving, run, objects);
            // Told of the same seqs when they were set aside, and only then a gap that this closes.
            let cause = if aside.reason == UNDECLARED {
                GapCause::RejectedQuarantine
            } else {
                GapCause::RejectedSchema
            };
            if aside.seqs.as_ref() == Some(&new) {
                self.close_gap(&arriving.key, new, cause, &format!("replayed, {by}"), aside.received);
            }
        }
        Replayed::Landed(landed)
    }

    /// Replayed rows never wait: their objects are in the lake by now, or will be kept there by their digest.
    fn hold_replayed(&mut self, arriving: &Arriving<'_>, rows: Rows, objects: &HashMap<Sha256, String>) {
        let column = arriving.declared.schema.blob_field().and_then(|field| rows.fields.get(field));
        for reference in column.map(references).unwrap_or_default().into_iter().flatten() {
            if let Some(path) = objects.get(&reference.sha256) {
                let stored = StoredBlob::Path(path.clone());
                self.group.blobs.entry(reference.sha256).or_insert(stored);
            }
        }
        let rows = held(arriving, rows);
        self.group.bytes = self.group.bytes.saturating_add(rows.bytes);
        self.group.hold(rows);
    }

    /// The declaration as the request has it; none if it names nothing of it, or cannot be.
    fn renamed(&self, arriving: &Arriving<'_>, request: &Request) -> Option<Arc<Schema>> {
        let Arriving { message, declared, .. } = arriving;
        let stream = headwater_core::batch::StreamRef::Id(declared.stream);
        let original =
            self.registry.resolve(&message.device, message.epoch, &stream, declared.fingerprint)?.schema;
        let mut schema = Schema::clone(&original);
        for field in &mut schema.fields {
            if let Some(name) = request.rename.get(&field.name) {
                field.name = name.clone();
            }
        }
        if let Some(kind) = &request.kind {
            schema.kind = kind.clone();
        }
        (schema != *original && schema.check().is_ok()).then(|| Arc::new(schema))
    }

    fn path_of(&self, aside: &Aside) -> DevicePath {
        DevicePath { tenant: self.settings.tenant.clone(), device: aside.device.clone() }
    }

    /// What stands for the message it came in: the message itself is known by its digest only.
    fn message_of(&self, aside: &Aside) -> LandedMessage {
        let nowhere = LandingPosition { incarnation: IncarnationId([0; 16]), segment: 0, offset: 0 };
        LandedMessage {
            position: nowhere,
            end: nowhere,
            device: self.path_of(aside),
            epoch: aside.epoch,
            kind: MessageKind::Batch,
            lane: Lane::LiveTelemetry,
            sent: Sent { boot_ordinal: 0, ns: 0 },
            received: aside.received,
            key_id: KeyId([0; 8]),
            key_serial: String::new(),
            imported: false,
            digest: parse_hex(aside.digest.as_bytes()).map_or(Sha256([0; 32]), Sha256),
            signature: [0; 64],
            message: Arc::from([]),
        }
    }
}
