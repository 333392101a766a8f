//! Folds landed records into a group: decodes, dedups, admits, and sets aside what cannot be admitted. Pure; nothing in
//! here fails, since what is wrong with a record becomes a row of `ops.quarantine`.

use super::IngestSettings;
use super::aside::Board;
use super::cursors::advance;
use super::group::{Group, HeldRows, Quarantined, Reason};
use super::patience::{Patients, Rules};
use super::replaying::Replay;
use super::timing::{Accounted, Done, Timing};
use super::waiting::{BlobKey, Undeclared, Waiting, WaitingBlob};
use crate::align::Promise;
use crate::commit::kinds::Kinds;
use crate::commit::raw::{StoredBlob, is_inline, misfit, overflow, references};
use crate::dedup::{Ledger, StreamKey};
use crate::land::{Landed, LandedBlob, LandedMessage, LandingCursors, LandingPosition, is_below};
use crate::registry::{DeclaredStream, Registry};
use crate::resolve::{ClockTracks, Incoming, Receipt, Resolved};
use headwater_core::batch::{Batch, BatchError, Heartbeat, Limits, Rows, Section, StreamRef, decode_batch};
use headwater_core::gap::GapCause;
use headwater_core::id::{BootOrdinal, DeviceId, DevicePath, Epoch, Sha256, StreamId};
use headwater_core::sample::BlobRef;
use headwater_core::schema::builtin::{CLOCK_STREAM, GAPS_STREAM};
use headwater_core::schema::{Fingerprint, Schema};
use headwater_core::time::{BootNanos, ClockDomain, UtcNanos};
use headwater_core::wire::object::BlobObject;
use headwater_core::wire::{Envelope, MessageKind};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

mod asides;
mod builtin_streams;
mod notes;
mod replay;

pub(super) use notes::REVOKED;
pub(super) use replay::{Replayed, sections};

/// Whether a declaration's rows may go to their kind's table, by who declared it.
type Admissions = HashMap<Who, Result<(), String>>;

/// A declaration, across the fleet.
pub(super) type Who = (DeviceId, Epoch, StreamId, Fingerprint);

/// Everything ingest knows between commits.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) settings: IngestSettings,
    pub(super) registry: Registry,
    pub(super) ledger: Ledger,
    pub(super) tracks: ClockTracks,
    pub(super) kinds: Kinds,
    pub(super) waiting: Waiting,
    /// Rows that wait for a better clock.
    pub(super) patients: Patients,
    pub(super) group: Group,
    /// What commits said of time.
    pub(super) timing: Timing,
    /// Everything below was taken in.
    pub(super) read: LandingCursors,
    /// Messages below were noted in the tables with a row per message, by an earlier life.
    pub(super) noted: LandingCursors,
    /// Last 64 s of each boot for which the collector's own half was recorded.
    pub(super) halves: BTreeMap<(DeviceId, Epoch, BootOrdinal), i64>,
    /// Agent software, as the newest hello says.
    pub(super) agents: BTreeMap<(DeviceId, Epoch), String>,
    /// Serials of revoked certificates that were noted in `ops.devices`.
    pub(super) revoked: BTreeSet<String>,
    /// What others brought while rows of ours were on their way: those must not come twice.
    pub(super) theirs: Ledger,
    /// What is held in quarantine.
    pub(super) board: Board,
    /// Quarantined items to be folded again.
    pub(super) wanted: VecDeque<Replay>,
    /// Declarations whose fields or kind an operator gave other names.
    pub(super) aliases: HashMap<Who, Arc<Schema>>,
    /// When the newest record was received.
    newest: UtcNanos,
    admissions: Admissions,
}

/// Rows of one message on their way in.
struct Arriving<'a> {
    message: &'a Arc<LandedMessage>,
    declared: DeclaredStream,
    key: StreamKey,
    /// The message is read again after a restart: a known row is the same copy.
    replayed: bool,
}

impl Arriving<'_> {
    fn who(&self) -> Who {
        let (key, declared) = (&self.key, &self.declared);
        (key.device.clone(), key.epoch, declared.stream, declared.fingerprint)
    }
}

impl Folder {
    pub(super) fn new(settings: IngestSettings, registry: Registry) -> Self {
        let group = Group::new(settings.clock_half_ns);
        Self {
            settings,
            registry,
            ledger: Ledger::default(),
            tracks: ClockTracks::default(),
            kinds: Kinds::default(),
            waiting: Waiting::default(),
            patients: Patients::default(),
            group,
            timing: Timing::default(),
            read: LandingCursors::new(),
            noted: LandingCursors::new(),
            halves: BTreeMap::new(),
            agents: BTreeMap::new(),
            revoked: BTreeSet::new(),
            theirs: Ledger::default(),
            board: Board::default(),
            wanted: VecDeque::new(),
            aliases: HashMap::new(),
            newest: UtcNanos(i64::MIN),
            admissions: Admissions::new(),
        }
    }

    /// Takes one record in.
    pub(super) fn take(&mut self, landed: Landed) {
        self.group.bytes = self.group.bytes.saturating_add(landed.bytes());
        let end = landed.end();
        self.newest = self.newest.max(match &landed {
            Landed::Message(message) => message.received,
            Landed::Blob(blob) => blob.received,
        });
        match landed {
            Landed::Message(message) => self.message(&Arc::new(message)),
            Landed::Blob(blob) => self.blob(&blob),
        }
        advance(&mut self.read, end);
        self.give_way();
    }

    fn message(&mut self, message: &Arc<LandedMessage>) {
        let replayed = is_below(&self.noted, &message.end);
        let envelope = match Envelope::parse(&message.message) {
            Ok(envelope) => envelope,
            Err(error) => return self.set_message_aside(message, Reason::Crc, &error.to_string(), replayed),
        };
        let mut rows = 0;
        match envelope.kind {
            MessageKind::Batch => match decode_batch(envelope.body, &Limits::V1) {
                Ok(batch) => {
                    rows = batch.rows().map(|rows| rows.len() as u64).sum();
                    self.batch(message, batch, replayed);
                }
                Err(error) => {
                    let reason = match error {
                        BatchError::TooLarge { .. } => Reason::Limit,
                        _ => Reason::Crc,
                    };
                    self.set_message_aside(message, reason, &error.to_string(), replayed);
                }
            },
            MessageKind::Declaration => self.declaration(message, envelope.body, replayed),
            MessageKind::Hello if !replayed => self.hello(message, envelope.body),
            _ => {}
        }
        if !replayed {
            self.note_message(message, rows);
        }
        // A replay restores the half from `ops.clock`; what was noted there is not noted again.
        if message.sent.boot_ordinal != 0 && !replayed {
            self.half(message);
        }
    }

    fn batch(&mut self, message: &Arc<LandedMessage>, batch: Batch, replayed: bool) {
        for section in batch.sections {
            match section {
                Section::Rows(rows) => self.section(message, rows, replayed),
                Section::Heartbeat(beat) => self.heartbeat(message, &beat),
                Section::Refused(refused) if !replayed => self.refused(message, &refused),
                Section::Refused(_) => {}
            }
        }
    }

    fn section(&mut self, message: &Arc<LandedMessage>, rows: Rows, replayed: bool) {
        let declared = self.resolve(&message.device, message.epoch, &rows.stream, rows.fingerprint);
        let Some(declared) = declared else {
            self.waiting.undeclared(Undeclared { message: Arc::clone(message), rows });
            return;
        };
        let key = StreamKey {
            device: message.device.device.clone(),
            epoch: message.epoch,
            stream: declared.name.clone(),
        };
        self.rows(&Arriving { message, declared, key, replayed }, rows);
    }

    /// What a section's stream reference and fingerprint stand for, under the names that an operator gave.
    fn resolve(
        &self,
        device: &DevicePath,
        epoch: Epoch,
        stream: &StreamRef,
        fingerprint: Fingerprint,
    ) -> Option<DeclaredStream> {
        let mut declared = self.registry.resolve(device, epoch, stream, fingerprint)?;
        let who = (device.device.clone(), epoch, declared.stream, fingerprint);
        if let Some(schema) = self.aliases.get(&who) {
            declared.schema = Arc::clone(schema);
        }
        Some(declared)
    }

    /// Tries again what waited for a declaration of this gateway.
    pub(super) fn declared(&mut self, device: &DevicePath, epoch: Epoch) {
        let registry = &self.registry;
        let sections = self.waiting.take_undeclared(|section| {
            let (rows, message) = (&section.rows, &section.message);
            message.device == *device
                && message.epoch == epoch
                && registry.resolve(device, epoch, &rows.stream, rows.fingerprint).is_some()
        });
        for section in sections {
            let replayed = is_below(&self.noted, &section.message.end);
            self.section(&section.message, section.rows, replayed);
        }
    }

    fn rows(&mut self, arriving: &Arriving<'_>, rows: Rows) {
        let seqs = rows.seqs();
        let sorted = self.ledger.sort(&arriving.key, seqs.clone());
        for known in sorted.known {
            self.known(arriving, &rows, known);
        }
        if sorted.new.is_empty() {
            return;
        }
        if let Err(detail) = self.admit(arriving, &rows) {
            for new in sorted.new {
                self.reject(arriving, &rows, new, Reason::Schema, GapCause::RejectedSchema, &detail);
            }
            return;
        }
        self.receipt(arriving, &rows);
        for new in sorted.new {
            let run = cut(&rows, &new);
            self.ledger.hold(&arriving.key, new);
            match arriving.key.stream.as_str() {
                CLOCK_STREAM => self.clock_rows(arriving, &run),
                GAPS_STREAM => self.gap_rows(arriving, &run),
                _ => {}
            }
            self.hold(arriving, run);
        }
    }

    /// Puts admitted rows into the group, those with a blob once it is there too.
    fn hold(&mut self, arriving: &Arriving<'_>, rows: Rows) {
        let Some(field) = arriving.declared.schema.blob_field() else {
            let held = held(arriving, rows);
            return self.group.hold(held);
        };
        let wanted = rows.fields.get(field).map(references).unwrap_or_default();
        for (row, reference) in wanted.into_iter().enumerate() {
            let run = held(arriving, rows.slice(row..row + 1));
            let Some(reference) = reference else {
                self.group.hold(run);
                continue;
            };
            let blob = BlobKey {
                device: arriving.key.device.clone(),
                epoch: arriving.key.epoch,
                stream: arriving.declared.stream,
                seq: run.rows.first_seq.0,
                sha256: reference.sha256,
            };
            match self.waiting.take_blob(&blob) {
                Some(bytes) => self.complete(run, reference, bytes),
                None if self.ledger.is_declared(&arriving.key, blob.seq) => self.without_blob(run),
                // Its blob was given up waiting for it, and is on its way into the lake by its digest.
                None if self.group.objects.iter().any(|(sha256, _)| *sha256 == reference.sha256) => {
                    self.group.hold(run);
                }
                None => self.waiting.row(blob, run),
            }
        }
    }

    /// A row that a gap record explained before it came: its gateway sends nothing more of it.
    pub(super) fn without_blob(&mut self, row: HeldRows) {
        metrics::counter!("headwater_ingest_rows_without_blob_total").increment(1);
        self.group.hold(row);
    }

    /// Blobs whose rows will never claim them are kept by their digest.
    pub(super) fn unclaimed(&mut self, key: &StreamKey, stream: StreamId, seqs: Range<u64>) {
        let blobs = self.waiting.release_blobs((&key.device, key.epoch, stream), seqs);
        metrics::counter!("headwater_ingest_blobs_unclaimed_total").increment(blobs.len() as u64);
        self.group.objects.extend(blobs);
    }

    /// The lake has the object of a row that waits: given up once, when its row had not come.
    pub(super) fn found(&mut self, blob: &BlobKey, path: String) {
        if let Some(row) = self.waiting.take_row(blob) {
            self.group.blobs.entry(blob.sha256).or_insert(StoredBlob::Path(path));
            self.group.hold(row);
        }
    }

    fn complete(&mut self, row: HeldRows, reference: BlobRef, bytes: Arc<[u8]>) {
        if is_inline(bytes.len()) {
            self.group.blobs.insert(reference.sha256, StoredBlob::Inline(bytes));
        } else {
            self.group.objects.push((reference.sha256, bytes));
        }
        self.group.hold(row);
    }

    fn blob(&mut self, landed: &LandedBlob) {
        let object = match BlobObject::from_bytes(&landed.bytes) {
            Ok(object) => object,
            Err(error) => {
                self.set_aside(Quarantined {
                    device: landed.device.device.clone(),
                    epoch: landed.epoch,
                    stream: None,
                    seqs: None,
                    stream_id: None,
                    fingerprint: None,
                    stage: "blob",
                    reason: Reason::Crc,
                    detail: error.to_string(),
                    received: landed.received,
                    digest: Sha256::of(&landed.part),
                    lane: None,
                    payload: landed.bytes.to_vec(),
                });
                return;
            }
        };
        let bytes: Arc<[u8]> = Arc::from(object.bytes);
        let blob = BlobKey {
            device: landed.device.device.clone(),
            epoch: landed.epoch,
            stream: object.stream,
            seq: object.seq.0,
            sha256: object.reference.sha256,
        };
        if let Some(row) = self.waiting.take_row(&blob) {
            return self.complete(row, object.reference, bytes);
        }
        let waiting = WaitingBlob { position: landed.position, received: landed.received, bytes };
        let Some(stream) = self.registry.stream_name(&landed.device, landed.epoch, object.stream) else {
            return self.waiting.blob(blob, waiting);
        };
        let key = StreamKey { device: landed.device.device.clone(), epoch: landed.epoch, stream };
        let declared = self.ledger.is_declared(&key, object.seq.0);
        if self.ledger.holds(&key, object.seq.0) && !declared {
            // Its row is in already, with its own copy of these bytes: a resend.
            metrics::counter!("headwater_ingest_blobs_known_total").increment(1);
        } else if self.ledger.accounts_for(&key, object.seq.0..object.seq.0.saturating_add(1)) {
            // Its row will never be in, or went in without it when a gap record explained it: kept by its digest.
            metrics::counter!("headwater_ingest_blobs_unclaimed_total").increment(1);
            self.group.objects.push((object.reference.sha256, waiting.bytes));
        } else {
            self.waiting.blob(blob, waiting);
        }
    }

    /// A second copy of rows the lake (or this group) has: equal is harmless, different is kept aside with an alarm (D1).
    fn known(&mut self, arriving: &Arriving<'_>, rows: &Rows, known: Range<u64>) {
        if arriving.replayed {
            // Read again after a restart: this is the copy the lake has.
            return;
        }
        let mut differing: Option<Range<u64>> = None;
        let (mut same, mut unchecked, mut withdrawn) = (0_u64, 0_u64, 0_u64);
        for seq in known.clone() {
            let (key, stream) = (&arriving.key, arriving.declared.stream);
            let first = self.group.find(key, seq);
            let first = first.or_else(|| self.waiting.find_row(&key.device, key.epoch, stream, seq));
            let first = first.or_else(|| self.patients.find(key, seq));
            match first {
                None if self.ledger.is_withdrawn(key, seq) => withdrawn += 1,
                None => unchecked += 1,
                Some(first) => {
                    let one = seq..seq.saturating_add(1);
                    let mut second = cut(rows, &one);
                    let first = cut(&first.rows, &one);
                    second.stream = first.stream.clone();
                    if first.same_bits(&second) {
                        same += 1;
                    } else {
                        differing = Some(differing.map_or(seq, |range| range.start)..seq + 1);
                    }
                }
            }
        }
        metrics::counter!("headwater_dedup_known_rows_total").increment(same);
        if withdrawn > 0 {
            metrics::counter!("headwater_dedup_withdrawn_rows_total").increment(withdrawn);
            tracing::info!(stream = %arriving.key, rows = withdrawn, "rows that were taken out of the lake came again and stay out");
        }
        if unchecked > 0 {
            metrics::counter!("headwater_dedup_duplicate_unchecked_total").increment(unchecked);
            tracing::info!(stream = %arriving.key, rows = unchecked, "rows known from earlier commits dropped unchecked");
        }
        if let Some(range) = differing {
            let detail = "another copy of these seqs with other content is in the lake";
            tracing::error!(stream = %arriving.key, ?range, "same key, other content: second copy goes to quarantine");
            metrics::counter!("headwater_dedup_content_conflicts_total").increment(1);
            self.set_rows_aside(arriving, rows, range, Reason::ContentConflict, detail);
        }
    }

    fn admit(&mut self, arriving: &Arriving<'_>, rows: &Rows) -> Result<(), String> {
        let schema = &arriving.declared.schema;
        if let Some(detail) = misfit(rows, schema) {
            return Err(detail);
        }
        if arriving.key.stream.as_str().starts_with("hw/") {
            return Ok(());
        }
        let who = arriving.who();
        let kinds = &mut self.kinds;
        self.admissions
            .entry(who)
            .or_insert_with(|| kinds.admit(schema).map_err(|conflict| conflict.to_string()))
            .clone()?;
        overflow(rows, schema, &self.kinds).map_or(Ok(()), Err)
    }

    /// The samples are older than their receipt, whatever else is known of the boot they come from.
    fn receipt(&mut self, arriving: &Arriving<'_>, rows: &Rows) {
        let Some(youngest) = rows.t.iter().enumerate().filter_map(|(row, _)| rows.t_ns(row)).max() else {
            return;
        };
        if rows.domain == ClockDomain::BOOT {
            let whose = whose(&arriving.key, rows.boot_ordinal);
            let received = arriving.message.received.plus_ns(self.settings.clock_half_ns);
            self.tracks.receipt(whose, Receipt { at: BootNanos(youngest), received });
        }
    }

    fn heartbeat(&mut self, message: &LandedMessage, beat: &Heartbeat) {
        let id = self.registry.stream_id(&message.device, message.epoch, &beat.stream);
        let name = id.and_then(|id| self.registry.stream_name(&message.device, message.epoch, id));
        // A hint about a stream nobody declared says nothing yet; the next one will.
        let Some(stream) = name else { return };
        let key = StreamKey { device: message.device.device.clone(), epoch: message.epoch, stream };
        let promise = Promise { boot: beat.boot_ordinal, next_seq: beat.next_seq, promise_b: beat.promise_b };
        self.group.promise(key, promise, message.received);
    }
}

impl Folder {
    /// Keeps rows back that may wait for a better clock at `now`, and takes in those that need not any more.
    pub(super) fn sort_by_clock(&mut self, now: UtcNanos) {
        let Self { settings, tracks, patients, group, .. } = self;
        let rules = Rules { tracks, demands: &settings.demands, clock_wait_ms: settings.clock_wait_ms, now };
        patients.sort(group, rules);
    }

    /// The group was committed at `now`.
    pub(super) fn committed(
        &mut self,
        group: &Group,
        resolved: &[Vec<Resolved>],
        accounted: Accounted,
        now: UtcNanos,
    ) {
        let Self { settings, tracks, timing, .. } = self;
        timing.committed(Done { rows: &group.rows, resolved, settings, now }, tracks, accounted);
    }

    /// Ends of the messages of which something waits, whatever for.
    pub(super) fn waiting_messages(&self) -> HashSet<LandingPosition> {
        let mut messages = self.waiting.messages();
        messages.extend(self.patients.rows().map(|held| held.end));
        messages
    }

    /// Per incarnation the first record that must be read again after a restart.
    pub(super) fn waiting_floor(&self) -> LandingCursors {
        let mut floor = self.waiting.floor();
        for held in self.patients.rows() {
            let lowest = floor.entry(held.position.incarnation).or_insert(held.position);
            if held.position < *lowest {
                *lowest = held.position;
            }
        }
        floor
    }
}

/// The rows of `rows` whose seqs lie in `seqs`.
pub(super) fn cut(rows: &Rows, seqs: &Range<u64>) -> Rows {
    let place = |seq: u64| usize::try_from(seq.saturating_sub(rows.first_seq.0)).unwrap_or(usize::MAX);
    rows.slice(place(seqs.start)..place(seqs.end))
}

fn whose(key: &StreamKey, boot: BootOrdinal) -> Incoming<'_> {
    Incoming { device: &key.device, epoch: key.epoch, boot }
}

fn held(arriving: &Arriving<'_>, rows: Rows) -> HeldRows {
    let bytes = rows.n_values().saturating_mul(8).saturating_add(256);
    HeldRows {
        key: arriving.key.clone(),
        stream: arriving.declared.stream,
        schema: Arc::clone(&arriving.declared.schema),
        rows,
        received: arriving.message.received,
        position: arriving.message.position,
        end: arriving.message.end,
        digest: arriving.message.digest,
        bytes,
    }
}
