//! Setting aside: what cannot be admitted goes to quarantine whole, with a gap record for the seqs it takes along, and the
//! rest goes on.

use super::{Arriving, Folder, cut};
use crate::dedup::StreamKey;
use crate::ingest::group::{HeldRows, Quarantined, Reason};
use crate::land::LandedMessage;
use headwater_core::batch::{Effort, Refused, Rows, Section, encode_batch};
use headwater_core::gap::GapCause;
use headwater_core::schema::Schema;
use headwater_lake::{ColumnSpec, TableName};
use std::ops::Range;
use std::sync::Arc;

impl Folder {
    pub(super) fn refused(&mut self, message: &Arc<LandedMessage>, refused: &Refused) {
        let stream = refused.stream.as_ref();
        let id = stream.and_then(|stream| self.registry.stream_id(&message.device, message.epoch, stream));
        let name = id.and_then(|id| self.registry.stream_name(&message.device, message.epoch, id));
        let detail = format!("section cannot be read: {}", refused.why);
        self.group.quarantined(Quarantined {
            stream: name.as_ref().map(ToString::to_string),
            seqs: refused.seqs.clone(),
            ..self.aside(message, Reason::Limit, &detail, message.message.to_vec())
        });
        let (Some(stream), Some(seqs)) = (name, refused.seqs.clone()) else { return };
        let key = StreamKey { device: message.device.device.clone(), epoch: message.epoch, stream };
        for missing in self.ledger.sort(&key, seqs).new {
            self.gap_by_collector(&key, missing, GapCause::RejectedLimit, &detail, message.received);
        }
    }

    pub(super) fn reject(
        &mut self,
        arriving: &Arriving<'_>,
        rows: &Rows,
        seqs: Range<u64>,
        reason: Reason,
        cause: GapCause,
        detail: &str,
    ) {
        // What an earlier life set aside and declared missing is not set aside again.
        if !(arriving.replayed && self.ledger.accounts_for(&arriving.key, seqs.clone())) {
            self.set_rows_aside(arriving, rows, seqs.clone(), reason, detail);
            self.gap_by_collector(&arriving.key, seqs.clone(), cause, detail, arriving.message.received);
        }
        self.unclaimed(&arriving.key, arriving.declared.stream, seqs);
    }

    pub(super) fn set_rows_aside(
        &mut self,
        arriving: &Arriving<'_>,
        rows: &Rows,
        seqs: Range<u64>,
        reason: Reason,
        detail: &str,
    ) {
        let payload = encode_batch(&[Section::Rows(cut(rows, &seqs))], Effort::Spool);
        self.group.quarantined(Quarantined {
            stream: Some(arriving.key.stream.to_string()),
            seqs: Some(seqs),
            ..self.aside(arriving.message, reason, detail, payload)
        });
    }

    pub(super) fn set_message_aside(
        &mut self,
        message: &LandedMessage,
        reason: Reason,
        detail: &str,
        replayed: bool,
    ) {
        if !replayed {
            let item = self.aside(message, reason, detail, message.message.to_vec());
            self.group.quarantined(item);
        }
    }

    fn aside(&self, message: &LandedMessage, reason: Reason, detail: &str, payload: Vec<u8>) -> Quarantined {
        Quarantined {
            device: message.device.device.clone(),
            epoch: message.epoch,
            stream: None,
            seqs: None,
            stage: "ingest",
            reason,
            detail: detail.to_owned(),
            received: message.received,
            digest: message.digest,
            lane: Some(message.lane.digit()),
            payload,
        }
    }

    /// Sets aside the group's rows of a table that does not take them, and all that follow of the same declarations;
    /// false if the group has none.
    pub(in crate::ingest) fn refuse_table(&mut self, table: &TableName, detail: &str) -> bool {
        let refused = self.group.take_rows(|held| is_of(held, table));
        for held in &refused {
            self.refuse(held, detail);
        }
        !refused.is_empty()
    }

    /// Takes over what a table has become in another writer's hands, and sets aside the group's rows whose declarations do
    /// not fit it any more; false if nothing has changed, so that trying again is no use.
    pub(in crate::ingest) fn settle_table(&mut self, table: &TableName, columns: &[ColumnSpec]) -> bool {
        let Some(kind) = table.table().parse().ok().filter(|_| table.namespace() == "raw") else {
            return false;
        };
        let before = self.kinds.clone();
        self.kinds.settle(&kind, columns);
        // Asked again, of the kind as it is now.
        self.admissions.retain(|_, admitted| admitted.is_err());
        let mut conflicts: Vec<(Arc<Schema>, String)> = Vec::new();
        for held in self.group.rows.iter().filter(|held| is_of(held, table)) {
            if conflicts.iter().any(|(schema, _)| *schema == held.schema) {
                continue;
            }
            if let Err(conflict) = self.kinds.admit(&held.schema) {
                conflicts.push((Arc::clone(&held.schema), conflict.to_string()));
            }
        }
        for (schema, detail) in &conflicts {
            let refused = self.group.take_rows(|held| is_of(held, table) && held.schema == *schema);
            for held in &refused {
                self.refuse(held, detail);
            }
        }
        !conflicts.is_empty() || self.kinds != before
    }

    fn refuse(&mut self, held: &HeldRows, detail: &str) {
        let who = (held.key.device.clone(), held.key.epoch, held.stream, held.rows.fingerprint);
        self.admissions.insert(who, Err(detail.to_owned()));
        let seqs = held.rows.seqs();
        // They were taken for held, and are not.
        self.ledger.release(&held.key, seqs.clone());
        let payload = encode_batch(&[Section::Rows(held.rows.clone())], Effort::Spool);
        self.group.quarantined(Quarantined {
            device: held.key.device.clone(),
            epoch: held.key.epoch,
            stream: Some(held.key.stream.to_string()),
            seqs: Some(seqs.clone()),
            stage: "commit",
            reason: Reason::Schema,
            detail: detail.to_owned(),
            received: held.received,
            digest: held.digest,
            lane: None,
            payload,
        });
        self.gap_by_collector(&held.key, seqs, GapCause::RejectedSchema, detail, held.received);
    }

    /// Keeps what waits within its bounds.
    pub(super) fn give_way(&mut self) {
        let overflow = self.waiting.overflow();
        let n = overflow.rows.len() + overflow.blobs.len() + overflow.undeclared.len();
        if n == 0 {
            return;
        }
        metrics::counter!("headwater_ingest_waiting_overflow_total").increment(n as u64);
        tracing::warn!(
            items = n,
            "too much waits for its counterpart: rows go in without their blob, blobs by digest"
        );
        self.group.objects.extend(overflow.blobs);
        overflow.rows.into_iter().for_each(|row| self.group.hold(row));
        for section in overflow.undeclared {
            let payload = encode_batch(&[Section::Rows(section.rows.clone())], Effort::Spool);
            let detail = format!(
                "stream {:?} with fingerprint {} was never declared",
                section.rows.stream, section.rows.fingerprint
            );
            let item = self.aside(&section.message, Reason::Schema, &detail, payload);
            self.group.quarantined(Quarantined { seqs: Some(section.rows.seqs()), ..item });
        }
        metrics::gauge!("headwater_ingest_waiting_items").set(self.waiting.len() as f64);
    }
}

fn is_of(held: &HeldRows, table: &TableName) -> bool {
    table.namespace() == "raw"
        && held.schema.kind.as_str() == table.table()
        && !held.key.stream.as_str().starts_with("hw/")
}
