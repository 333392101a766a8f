//! Rows judged with the tracks as they are now, and what was written of them.

use crate::resolve::{ClockTracks, Incoming, Query, Resolved};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch};
use headwater_core::time::{BootNanos, ClockDomain, Grade, NS_PER_S, UtcNanos, event_time};
use headwater_lake::{Derive, UTC};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Columns that a row is judged by, beside those that may change.
const READS: [&str; 10] = [
    "device",
    "stream",
    "epoch",
    "seq",
    "boot_ordinal",
    "boot_ns",
    "lat_lo_ns",
    "lat_hi_ns",
    "domain",
    "schema_fp",
];
const NS_PER_DAY: i64 = 86_400 * NS_PER_S;

/// Of a stream's declaration: the unit its stamps were floored to, ns.
pub(super) type Units = HashMap<(String, String, String, i64), i64>;
/// Device, epoch, boot and stream, as they stand in a row.
pub(super) type Streams = HashMap<(String, String, i64, String), Whose>;
pub(super) type Whose = (DeviceId, Epoch, BootOrdinal);

/// Rows of a batch by boot: place, event, and what is stored.
type Judged<'a> = BTreeMap<&'a Whose, Vec<(usize, Query, Resolved)>>;

/// Times of the rows of one kind, judged anew.
#[derive(Debug)]
pub(super) struct Rederived {
    pub(super) tracks: Arc<ClockTracks>,
    pub(super) units: Arc<Units>,
    pub(super) streams: Streams,
    pub(super) told: Mutex<Told>,
}

/// What was written anew.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) runs: BTreeMap<RunKey, Vec<Run>>,
    pub(super) rows: u64,
    /// Rows that left their day.
    pub(super) moved: u64,
    /// Days that rows left or came to, with their number.
    pub(super) days: BTreeMap<(String, i64), u64>,
}

/// Device, epoch, stream, boot, fingerprint.
pub(super) type RunKey = (String, String, String, i64, i64);

/// A run of seqs with new times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) seqs: (i64, i64),
    pub(super) b: (i64, i64),
    pub(super) t: (i64, i64),
    pub(super) worst: Grade,
    pub(super) track: i64,
}

impl Run {
    fn with(self, next: Run) -> Run {
        let span = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
        Run {
            seqs: span(self.seqs, next.seqs),
            b: span(self.b, next.b),
            t: span(self.t, next.t),
            worst: self.worst.min(next.worst),
            track: next.track,
        }
    }
}

/// The columns of a batch of a raw table.
struct Columns<'a> {
    rows: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn text(&self, name: &str) -> Result<&'a StringArray, String> {
        let column = self.rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.ok_or_else(|| format!("it has no text column {name}"))
    }

    fn long(&self, name: &str) -> Result<&'a Int64Array, String> {
        let column = self.rows.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        column.ok_or_else(|| format!("it has no integer column {name}"))
    }
}

fn grade_of(name: &str) -> Option<Grade> {
    [Grade::OrderingOnly, Grade::Estimated, Grade::Guaranteed]
        .into_iter()
        .find(|grade| grade.as_str() == name)
}

impl Rederived {
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        // Counters only: whole whatever happened to their last holder.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that may change, by boot, each with its event and what is stored of it.
    fn judged(&self, rows: &RecordBatch) -> Result<Judged<'_>, String> {
        let columns = Columns { rows };
        let [device, epoch, stream, domain, grade] = [
            columns.text("device")?,
            columns.text("epoch")?,
            columns.text("stream")?,
            columns.text("domain")?,
            columns.text("grade")?,
        ];
        let [boot, fingerprint, t, lo, hi] = [
            columns.long("boot_ordinal")?,
            columns.long("schema_fp")?,
            columns.long("boot_ns")?,
            columns.long("lat_lo_ns")?,
            columns.long("lat_hi_ns")?,
        ];
        let [ts, err] = [columns.long("ts_ns")?, columns.long("ts_err_ns")?];
        let boot_line = ClockDomain::BOOT.to_string();
        let mut judged = Judged::new();
        for row in 0..rows.num_rows() {
            if domain.value(row) != boot_line {
                continue;
            }
            let [d, e, s] = [device, epoch, stream].map(|column| column.value(row).to_owned());
            let key = (d, e, boot.value(row), s);
            let Some(whose) = self.streams.get(&key) else { continue };
            let (d, e, _, s) = key;
            let Some(unit) = self.units.get(&(d, e, s, fingerprint.value(row))) else {
                metrics::counter!("headwater_corrections_rows_undeclared_total").increment(1);
                continue;
            };
            let Some(grade) = grade_of(grade.value(row)) else { continue };
            let (event, half) = event_time(t.value(row), lo.value(row), hi.value(row));
            let query = Query { event: BootNanos(event), half_ns: half.saturating_add(unit - 1) };
            let stored =
                Resolved { ts: UtcNanos(ts.value(row)), err_ns: err.value(row), grade, conflict: false };
            judged.entry(whose).or_default().push((row, query, stored));
        }
        Ok(judged)
    }
}

impl Derive for Rederived {
    fn reads(&self) -> &[&'static str] {
        &READS
    }

    fn derive(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>, String> {
        let mut new: BTreeMap<usize, (Resolved, i64)> = BTreeMap::new();
        for ((device, epoch, boot), judged) in self.judged(rows)? {
            let whose = Incoming { device, epoch: *epoch, boot: *boot };
            let pairs: Vec<(Query, Resolved)> =
                judged.iter().map(|(_, query, stored)| (*query, *stored)).collect();
            let (amended, _) = self.tracks.amend(whose, &pairs);
            let track = self.tracks.track_id(whose);
            new.extend(
                amended.into_iter().filter_map(|(place, now)| Some((judged.get(place)?.0, (now, track)))),
            );
        }
        if new.is_empty() {
            return Ok(None);
        }
        let columns = Columns { rows };
        let long = |name: &str, of: &dyn Fn(&(Resolved, i64)) -> i64| -> Result<ArrayRef, String> {
            let old = columns.long(name)?;
            let value = |row: usize| match new.get(&row) {
                Some(now) => Some(of(now)),
                None => old.is_valid(row).then(|| old.value(row)),
            };
            Ok(Arc::new(Int64Array::from_iter((0..rows.num_rows()).map(value))))
        };
        let ts_ns = long("ts_ns", &|now| now.0.ts.0)?;
        let ts = ts_ns.as_primitive::<Int64Type>().values().iter().map(|ns| UtcNanos(*ns).micros());
        let ts = TimestampMicrosecondArray::from_iter_values(ts).with_timezone(UTC);
        let old = columns.text("grade")?;
        let grade = |row: usize| new.get(&row).map_or_else(|| old.value(row), |now| now.0.grade.as_str());
        let grades = StringArray::from_iter_values((0..rows.num_rows()).map(grade));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("ts", Arc::new(ts)),
            ("ts_err_ns", long("ts_err_ns", &|now| now.0.err_ns)?),
            ("track", long("track", &|now| now.1)?),
            ("ts_ns", ts_ns),
            ("grade", Arc::new(grades)),
        ];
        RecordBatch::try_from_iter(columns).map(Some).map_err(|error| error.to_string())
    }

    fn rewritten(&self, before: &RecordBatch, after: &RecordBatch) {
        if let Err(reason) = self.note(before, after) {
            // The same columns were read to judge the rows, so only a bug comes here; the rows are right all the same.
            tracing::error!(reason, "the ledger will not say the new times of some corrected rows");
        }
    }
}

impl Rederived {
    fn note(&self, before: &RecordBatch, after: &RecordBatch) -> Result<(), String> {
        let (old, new) = (Columns { rows: before }, Columns { rows: after });
        let [old_ts, ts, seq, b] =
            [old.long("ts_ns")?, new.long("ts_ns")?, new.long("seq")?, new.long("boot_ns")?];
        let [boot, fingerprint, track] =
            [new.long("boot_ordinal")?, new.long("schema_fp")?, new.long("track")?];
        let [old_grade, grade] = [old.text("grade")?, new.text("grade")?];
        let [device, epoch, stream] = [new.text("device")?, new.text("epoch")?, new.text("stream")?];
        let mut told = self.told();
        for row in 0..after.num_rows() {
            if (old_ts.value(row), old_grade.value(row)) == (ts.value(row), grade.value(row)) {
                continue;
            }
            let days = [old_ts, ts].map(|column| column.value(row).div_euclid(NS_PER_DAY));
            told.rows += 1;
            told.moved += u64::from(days[0] != days[1]);
            for day in BTreeSet::from(days) {
                *told.days.entry((device.value(row).to_owned(), day)).or_default() += 1;
            }
            let [d, e, s] = [device, epoch, stream].map(|column| column.value(row).to_owned());
            let runs = told.runs.entry((d, e, s, boot.value(row), fingerprint.value(row))).or_default();
            let next = Run {
                seqs: (seq.value(row), seq.value(row)),
                b: (b.value(row), b.value(row)),
                t: (ts.value(row), ts.value(row)),
                worst: grade_of(grade.value(row)).unwrap_or(Grade::OrderingOnly),
                track: track.value(row),
            };
            match runs.last_mut().filter(|run| run.seqs.1.checked_add(1) == Some(next.seqs.0)) {
                Some(run) => *run = run.with(next),
                None => runs.push(next),
            }
        }
        Ok(())
    }
}

/// Runs in order, neighbours joined: files come in any order.
pub(super) fn coalesced(runs: &[Run]) -> Vec<Run> {
    let mut runs = runs.to_vec();
    runs.sort_unstable_by_key(|run| run.seqs);
    let mut out: Vec<Run> = Vec::new();
    for next in runs {
        match out.last_mut().filter(|run| run.seqs.1.checked_add(1) == Some(next.seqs.0)) {
            Some(run) => *run = run.with(next),
            None => out.push(next),
        }
    }
    out
}
