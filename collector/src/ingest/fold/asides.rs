//! Setting aside: what cannot be admitted goes to quarantine whole, with a gap record for the seqs it takes along, and the
//! rest goes on.

use super::{Arriving, Folder, Who, cut};
use crate::dedup::StreamKey;
use crate::ingest::group::{HeldRows, Quarantined, Reason, RecordedGap};
use crate::ingest::replaying::Replay;
use crate::ingest::waiting::Undeclared;
use crate::land::LandedMessage;
use headwater_core::batch::{Effort, Refused, Rows, Section, StreamRef, encode_batch};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::schema::Schema;
use headwater_core::time::UtcNanos;
use headwater_lake::{ColumnSpec, TableName};
use std::ops::Range;
use std::sync::Arc;

impl Folder {
    /// Puts an item into quarantine.
    pub(super) fn set_aside(&mut self, item: Quarantined) {
        let aside = self.group.quarantined(item);
        self.board.add(&aside);
    }

    pub(super) fn refused(&mut self, message: &Arc<LandedMessage>, refused: &Refused) {
        let stream = refused.stream.as_ref();
        let id = stream.and_then(|stream| self.registry.stream_id(&message.device, message.epoch, stream));
        let name = id.and_then(|id| self.registry.stream_name(&message.device, message.epoch, id));
        let detail = format!("section cannot be read: {}", refused.why);
        self.set_aside(Quarantined {
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
        self.set_aside(Quarantined {
            stream: Some(arriving.key.stream.to_string()),
            seqs: Some(seqs),
            stream_id: Some(arriving.declared.stream),
            fingerprint: Some(arriving.declared.fingerprint),
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
            self.set_aside(item);
        }
    }

    fn aside(&self, message: &LandedMessage, reason: Reason, detail: &str, payload: Vec<u8>) -> Quarantined {
        Quarantined {
            device: message.device.device.clone(),
            epoch: message.epoch,
            stream: None,
            seqs: None,
            stream_id: None,
            fingerprint: None,
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
        self.set_aside(Quarantined {
            device: held.key.device.clone(),
            epoch: held.key.epoch,
            stream: Some(held.key.stream.to_string()),
            seqs: Some(seqs.clone()),
            stream_id: Some(held.stream),
            fingerprint: Some(held.rows.fingerprint),
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
        let overflow = self.waiting.overflow(self.newest);
        let n = overflow.rows.len() + overflow.blobs.len() + overflow.undeclared.len();
        if n == 0 {
            return;
        }
        metrics::counter!("headwater_ingest_waiting_overflow_total").increment(n as u64);
        tracing::warn!(
            items = n,
            "too much waits for its counterpart, or for too long: rows go in without their blob, blobs by digest"
        );
        self.group.objects.extend(overflow.blobs);
        for row in overflow.rows {
            self.without_its_blob(row);
        }
        for section in overflow.undeclared {
            self.set_undeclared_aside(&section);
        }
        metrics::gauge!("headwater_ingest_waiting_items").set(self.waiting.len() as f64);
    }

    /// A row goes in without its blob, and a gap record of no rows says so: it is what tells a blob that comes late, in this
    /// life or another, from a resend.
    fn without_its_blob(&mut self, row: HeldRows) {
        let (key, seqs, received) = (row.key.clone(), row.rows.seqs(), row.received);
        let note = "row is in without its object, which did not come; if it does, it is kept by its digest";
        let cause = GapCause::RejectedLimit;
        self.ledger.declare_missing(&key, seqs.clone());
        let gap = self.collector_gap(&key, seqs, cause, note, received);
        self.group.gaps.push(RecordedGap { gap: GapRecord { rows: 0, ..gap.gap.clone() }, ..gap });
        self.without_blob(row);
    }

    /// A section whose declaration did not come. Its seqs are explained at once where the stream's name is known, else
    /// when the declaration comes.
    fn set_undeclared_aside(&mut self, section: &Undeclared) {
        let (message, rows) = (&section.message, &section.rows);
        let id = match &rows.stream {
            StreamRef::Id(id) => Some(*id),
            named => self.registry.stream_id(&message.device, message.epoch, named),
        };
        let name = match &rows.stream {
            StreamRef::Name(name) => Some(name.clone()),
            StreamRef::Id(id) => self.registry.stream_name(&message.device, message.epoch, *id),
        };
        let shown = name.as_ref().map(ToString::to_string);
        let shown = shown.or_else(|| id.map(|id| format!("#{}", id.0)));
        let payload = encode_batch(&[Section::Rows(rows.clone())], Effort::Spool);
        let fingerprint = rows.fingerprint;
        let shown_name = shown.as_deref().unwrap_or("?");
        let detail = format!("fingerprint {fingerprint} of stream {shown_name} was never declared");
        let item = self.aside(message, Reason::Undeclared, &detail, payload);
        let item = Quarantined {
            stream: shown,
            seqs: Some(rows.seqs()),
            stream_id: id,
            fingerprint: Some(fingerprint),
            ..item
        };
        self.set_aside(item);
        if let Some(stream) = name {
            let key = StreamKey { device: message.device.device.clone(), epoch: message.epoch, stream };
            self.explain(&key, rows.seqs(), &detail, message.received);
        }
    }

    /// Records as missing what of `seqs` is neither here nor explained: it lies in quarantine.
    fn explain(&mut self, key: &StreamKey, seqs: Range<u64>, detail: &str, received: UtcNanos) {
        for missing in self.ledger.sort(key, seqs).new {
            if !self.ledger.accounts_for(key, missing.clone()) {
                self.gap_by_collector(key, missing, GapCause::RejectedQuarantine, detail, received);
            }
        }
    }

    /// A declaration came whose sections lie in quarantine: they are explained now, since the receiver calls them durable
    /// from here on, and folded again.
    pub(super) fn bring_back(&mut self, (device, epoch, stream, fingerprint): Who, key: &StreamKey) {
        let who = (device, epoch, fingerprint);
        let found = self.board.declared(&who, stream, key.stream.as_str());
        if found.is_empty() {
            return;
        }
        for aside in found {
            let seqs = aside.seqs.unwrap_or_default();
            self.explain(key, seqs, "rows lie in quarantine until they are folded again", aside.received);
        }
        self.wanted.push_back(Replay::declared(&who));
    }
}

fn is_of(held: &HeldRows, table: &TableName) -> bool {
    table.namespace() == "raw"
        && held.schema.kind.as_str() == table.table()
        && !held.key.stream.as_str().starts_with("hw/")
}
