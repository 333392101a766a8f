//! Rows that wait for a better clock: those of a boot of which nothing is known yet, and those of streams that must be
//! timed better than they are.
//!
//! A gateway's first clock row comes within seconds of its first captures, so a short wait saves correcting most of them
//! later. It is bounded by time and by room: then rows go in with the honest grade they have. They stand in the landing
//! log meanwhile, below its cursor, so a crash finds them again, and they are not acked as committed.

use super::demand::{Beyond, TimeDemand};
use super::group::{Group, HeldRows};
use crate::commit::raw::{StoredBlob, references};
use crate::dedup::StreamKey;
use crate::resolve::{ClockTracks, Incoming, Query};
use headwater_core::id::Sha256;
use headwater_core::time::{BootNanos, ClockDomain, Grade, NS_PER_MS, UtcNanos, event_time};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Default of `commit.clock_wait_ms`: a hello is answered and its exchange spooled, shipped and landed within it.
pub const CLOCK_WAIT_MS: u64 = 5_000;
/// Most bytes that wait for a clock, pictures included: what a group holds is four times that.
pub const CLOCK_WAIT_BYTES_MAX: usize = 16 << 20;

/// A row that waits, with the object it needs beside it.
#[derive(Debug)]
struct Patient {
    rows: HeldRows,
    blobs: Vec<(Sha256, StoredBlob)>,
    objects: Vec<(Sha256, Arc<[u8]>)>,
    bytes: usize,
}

/// All that wait for a better clock, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Patients {
    waiting: VecDeque<Patient>,
    bytes: usize,
}

/// Why rows wait no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Their clock is good enough now.
    Clock,
    /// They have waited as long as they may.
    Time,
    /// There is no more room.
    Room,
}

impl Ended {
    fn count(self, rows: u64) {
        let why = match self {
            Self::Clock => "clock",
            Self::Time => "time",
            Self::Room => "room",
        };
        metrics::counter!("headwater_ingest_clock_wait_ended_rows_total", "why" => why).increment(rows);
    }
}

/// What decides whether rows wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) tracks: &'a ClockTracks,
    pub(super) demands: &'a [TimeDemand],
    pub(super) clock_wait_ms: u64,
    pub(super) now: UtcNanos,
}

impl Rules<'_> {
    /// `None` if the rows are timed well enough; else whether there is time left to wait.
    fn patience(&self, held: &HeldRows) -> Option<bool> {
        // A device's own clock is another matter: nothing that comes later makes its bracket better by itself.
        if held.key.stream.as_str().starts_with("hw/") || held.rows.domain != ClockDomain::BOOT {
            return None;
        }
        let ends = ends(held);
        let whose =
            Incoming { device: &held.key.device, epoch: held.key.epoch, boot: held.rows.boot_ordinal };
        let resolved = self.tracks.resolve(whose, &ends);
        let clockless = resolved.iter().any(|at| at.grade == Grade::OrderingOnly);
        let demand = TimeDemand::of(self.demands, &held.key.device, &held.key.stream);
        let wait_ms = match demand.map(|demand| (demand.beyond, demand.require_ns)) {
            Some((Beyond::Hold { ms }, require_ns)) if resolved.iter().any(|at| at.err_ns > require_ns) => {
                Some(ms.max(if clockless { self.clock_wait_ms } else { 0 }))
            }
            _ => clockless.then_some(self.clock_wait_ms),
        };
        wait_ms.map(|ms| {
            let wait_ns = i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS);
            self.now.since(held.received) < wait_ns
        })
    }
}

/// First and last event of a run. Between them a bound may be wider by what a crystal drifts in half the run, some
/// milliseconds a minute: such rows go in, and are marked when each is resolved by itself.
fn ends(held: &HeldRows) -> Vec<Query> {
    let rows = &held.rows;
    let at = |row: usize| {
        let latency = |side: &[i64]| side.get(row).copied().unwrap_or_default();
        let (event, half_ns) = event_time(rows.t_ns(row)?, latency(&rows.lat_lo), latency(&rows.lat_hi));
        Some(Query { event: BootNanos(event), half_ns })
    };
    let places: BTreeSet<usize> = [Some(0), rows.len().checked_sub(1)].into_iter().flatten().collect();
    places.into_iter().filter_map(at).collect()
}

impl Patients {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &HeldRows> {
        self.waiting.iter().map(|patient| &patient.rows)
    }

    /// The waiting rows of a seq, to compare a second copy with.
    pub(super) fn find(&self, key: &StreamKey, seq: u64) -> Option<&HeldRows> {
        self.rows().find(|held| held.key == *key && held.rows.seqs().contains(&seq))
    }

    /// Puts what need not wait any more into the group, and takes out of it what has to.
    pub(super) fn sort(&mut self, group: &mut Group, rules: Rules<'_>) {
        let mut still = VecDeque::new();
        for patient in std::mem::take(&mut self.waiting) {
            match rules.patience(&patient.rows) {
                Some(true) => still.push_back(patient),
                Some(false) => self.release(patient, group, Ended::Time),
                None => self.release(patient, group, Ended::Clock),
            }
        }
        self.waiting = still;
        if group.rows.iter().any(|held| rules.patience(held) == Some(true)) {
            for rows in group.take_rows(|held| rules.patience(held) == Some(true)) {
                self.admit(rows, group);
            }
        }
        while self.bytes > CLOCK_WAIT_BYTES_MAX
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.release(oldest, group, Ended::Room);
        }
        metrics::gauge!("headwater_ingest_clock_wait_bytes").set(bytes_f64(self.bytes));
    }

    /// Puts everything into the group: nothing is waited for any more.
    pub(super) fn give_up(&mut self, group: &mut Group) {
        for patient in std::mem::take(&mut self.waiting) {
            self.release(patient, group, Ended::Time);
        }
    }

    fn admit(&mut self, rows: HeldRows, group: &mut Group) {
        let wanted: Vec<Sha256> = digests(&rows).collect();
        let needed =
            |sha256: &Sha256| group.rows.iter().any(|held| digests(held).any(|other| other == *sha256));
        let kept: BTreeSet<Sha256> = wanted.iter().filter(|sha256| needed(sha256)).copied().collect();
        let blobs: Vec<_> =
            wanted.iter().filter_map(|sha256| Some((*sha256, group.blobs.get(sha256)?.clone()))).collect();
        let objects: Vec<_> =
            group.objects.iter().filter(|(sha256, _)| wanted.contains(sha256)).cloned().collect();
        group.objects.retain(|(sha256, _)| !wanted.contains(sha256) || kept.contains(sha256));
        let inline = blobs.iter().map(|(_, blob)| match blob {
            StoredBlob::Inline(bytes) => bytes.len(),
            StoredBlob::Path(_) => 0,
        });
        let bytes = inline
            .chain(objects.iter().map(|(_, bytes)| bytes.len()))
            .fold(rows.bytes, usize::saturating_add);
        self.bytes = self.bytes.saturating_add(bytes);
        self.waiting.push_back(Patient { rows, blobs, objects, bytes });
    }

    fn release(&mut self, patient: Patient, group: &mut Group, why: Ended) {
        self.bytes = self.bytes.saturating_sub(patient.bytes);
        why.count(patient.rows.rows.len() as u64);
        group.blobs.extend(patient.blobs);
        group.objects.extend(patient.objects);
        group.hold(patient.rows);
    }
}

/// Objects that rows of a run refer to.
fn digests(held: &HeldRows) -> impl Iterator<Item = Sha256> {
    let field = held.schema.blob_field().and_then(|field| held.rows.fields.get(field));
    field.map(references).unwrap_or_default().into_iter().flatten().map(|reference| reference.sha256)
}

/// Gauges are floats; a bound of 16 MiB is exact in them.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn bytes_f64(n: usize) -> f64 {
    n as f64
}
