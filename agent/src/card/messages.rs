//! Makes of a card's slabs what the link would have carried: declarations, batches and parts.

use super::CardError;
use super::export::MessageSigner;
use crate::batch::{BatchSettings, Batcher, Sealed, SealedBlob};
use crate::spool::payload::Declared;
use headwater_core::batch::{Effort, StreamRef};
use headwater_core::export::Exported;
use headwater_core::id::{BootOrdinal, DevicePath, Epoch, StreamId};
use headwater_core::ports::{Cursor, Slab, SpoolLane, SpooledSlab};
use headwater_core::schema::Fingerprint;
use headwater_core::time::BootNanos;
use headwater_core::wire::object::{PART_HEADER_BYTES, Part};
use headwater_core::wire::{
    Declaration, ENVELOPE_BYTES, Lane, MESSAGE_BYTES_SENT_MAX, MessageKind, Sent, Unsigned,
};
use std::collections::BTreeSet;

/// Bytes of a blob in one part.
const PART_BYTES: usize = MESSAGE_BYTES_SENT_MAX - ENVELOPE_BYTES - PART_HEADER_BYTES;

/// A message, and what it stands for.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) exported: Exported,
    pub(super) rows: u64,
    pub(super) blobs: u64,
}

/// Slabs in, messages out; in order, and declared before they are used.
#[derive(Debug)]
pub(super) struct MessageMaker {
    device: DevicePath,
    signer: Option<MessageSigner>,
    batcher: Batcher,
    /// Boot of the slabs collected, and the newest stamp seen in it.
    at: Option<(Epoch, BootOrdinal)>,
    newest: BootNanos,
    lane: Lane,
    declared: BTreeSet<(Epoch, StreamId, Fingerprint)>,
    /// Rows that no message can hold.
    pub(super) withheld: u64,
}

impl MessageMaker {
    pub(super) fn new(device: DevicePath, signer: Option<MessageSigner>) -> Self {
        // A file may meet any collector, so batches are written with what each of them reads.
        let settings = BatchSettings {
            linger_ms: u64::MAX,
            message_bytes_max: MESSAGE_BYTES_SENT_MAX,
            effort: Effort::Wire,
        };
        Self {
            device,
            signer,
            batcher: Batcher::new(settings),
            at: None,
            newest: BootNanos(0),
            lane: Lane::Control,
            declared: BTreeSet::new(),
            withheld: 0,
        }
    }

    /// Goes on with slabs of this boot and lane; gives what was collected of others.
    pub(super) fn turn(&mut self, at: (Epoch, BootOrdinal), lane: SpoolLane) -> Result<Vec<Made>, CardError> {
        let lane = match lane {
            SpoolLane::Control => Lane::Control,
            SpoolLane::Telemetry => Lane::BacklogTelemetry,
            SpoolLane::Media => Lane::BacklogMedia,
        };
        if self.at == Some(at) && self.lane == lane {
            return Ok(Vec::new());
        }
        let made = self.flush()?;
        if self.at != Some(at) {
            self.newest = BootNanos(0);
        }
        (self.at, self.lane) = (Some(at), lane);
        Ok(made)
    }

    /// Declares a stream, once per life and schema.
    pub(super) fn declare(&mut self, epoch: Epoch, declared: &Declared) -> Result<Option<Made>, CardError> {
        if !self.declared.insert((epoch, declared.id, declared.schema.fingerprint())) {
            return Ok(None);
        }
        let body =
            Declaration { stream: declared.id, name: declared.name.clone(), schema: declared.schema.clone() }
                .to_body();
        self.message(MessageKind::Declaration, epoch, Lane::Control, body, (0, 0)).map(Some)
    }

    /// True if the rows of a slab are declared.
    pub(super) fn knows(&self, epoch: Epoch, id: StreamId, fingerprint: Fingerprint) -> bool {
        self.declared.contains(&(epoch, id, fingerprint))
    }

    /// Takes a slab; `times` are those of its frame, if they are boot time.
    pub(super) fn push(
        &mut self,
        epoch: Epoch,
        slab: Slab,
        times: Option<(BootNanos, BootNanos)>,
    ) -> Result<Vec<Made>, CardError> {
        if let Some((_, last)) = times {
            self.newest = self.newest.max(last);
        }
        let spooled = SpooledSlab { epoch, slab, older_schema: None, next: Cursor::default() };
        let sealed = self.batcher.push(BootNanos(0), spooled);
        self.messages(sealed)
    }

    /// Whatever is collected.
    pub(super) fn flush(&mut self) -> Result<Vec<Made>, CardError> {
        let sealed = self.batcher.flush();
        self.messages(sealed)
    }

    fn messages(&mut self, sealed: Vec<Sealed>) -> Result<Vec<Made>, CardError> {
        let mut made = Vec::new();
        for sealed in sealed {
            match sealed {
                Sealed::Batch(batch) => {
                    let rows =
                        batch.holds.iter().map(|hold| hold.seqs.end.saturating_sub(hold.seqs.start)).sum();
                    made.push(self.message(
                        MessageKind::Batch,
                        batch.epoch,
                        self.lane,
                        batch.body,
                        (rows, 0),
                    )?);
                }
                Sealed::Blob(blob) => self.parts(&blob, &mut made)?,
                Sealed::Withheld(withheld) => {
                    let rows = withheld.seqs.end.saturating_sub(withheld.seqs.start);
                    let StreamRef::Id(id) = withheld.stream else { continue };
                    tracing::warn!(stream = id.0, rows, why = %withheld.why, "rows cannot be put into a message");
                    self.withheld = self.withheld.saturating_add(rows);
                }
            }
        }
        Ok(made)
    }

    fn parts(&mut self, blob: &SealedBlob, made: &mut Vec<Made>) -> Result<(), CardError> {
        let total_len = blob.object.len() as u64;
        let mut offset = 0_u64;
        for bytes in blob.object.chunks(PART_BYTES) {
            let body = Part { object: blob.id, total_len, offset, bytes }.to_body();
            offset = offset.saturating_add(bytes.len() as u64);
            let last = u64::from(offset == total_len);
            made.push(self.message(MessageKind::Part, blob.epoch, self.lane, body, (0, last))?);
        }
        Ok(())
    }

    /// Frames a body, and signs it if there is a key.
    pub(super) fn message(
        &self,
        kind: MessageKind,
        epoch: Epoch,
        lane: Lane,
        body: Vec<u8>,
        (rows, blobs): (u64, u64),
    ) -> Result<Made, CardError> {
        // No message can have been sent before the newest row that was read for it.
        let boot_ordinal = self.at.map_or(0, |(_, boot)| boot.0);
        let sent = Sent { boot_ordinal, ns: self.newest.0 };
        let exported = match &self.signer {
            Some(signer) => {
                let message = Unsigned::new(kind, &self.device, epoch, &body)?.sign(sent, &signer.key);
                Exported::Message { lane, message }
            }
            None => Exported::Unsigned { lane, kind, epoch, sent, body },
        };
        Ok(Made { exported, rows, blobs })
    }
}
