//! Corrected times of committed rows (R16): which rows of which days a better track changes, and what a correcting commit
//! says of them beside the rows themselves.

use super::group::event;
use super::timing::CorrectionKey;
use crate::commit::cells::TableRows;
use crate::commit::tables::{Ops, raw_table};
use crate::registry::Registry;
use crate::resolve::{ClockTracks, Incoming, Query, Resolved};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::ArrowError;
use headwater_core::id::{BootOrdinal, DeviceId, DevicePath, Epoch, KindName, TenantId};
use headwater_core::time::{BootNanos, ClockDomain, Grade, NS_PER_S, UtcNanos, event_time, stamp_unit_ns};
use headwater_lake::{Derive, RewriteTable, TableAppend, TableName, UTC};
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

/// Reason in `ops.corrections` of what was due and is done.
pub(super) const CORRECTED: &str = "corrected";
/// Reason of aligned rows that were made from rows corrected since: to be aligned anew.
pub(super) const REALIGN: &str = "realign";

/// Of a stream's declaration: the unit its stamps were floored to, ns.
type Units = HashMap<(String, String, String, i64), i64>;
/// Device, epoch, boot and stream, as they stand in a row.
type Streams = HashMap<(String, String, i64, String), Whose>;
type Whose = (DeviceId, Epoch, BootOrdinal);

/// What shall be corrected in one commit.
#[derive(Debug)]
pub(super) struct Correction {
    keys: Vec<CorrectionKey>,
    /// As they are now: rows, ledger and what is due are told by the same.
    tracks: Arc<ClockTracks>,
    kinds: BTreeMap<String, Arc<Rederived>>,
}

impl Correction {
    /// Of these keys, with the tracks as they are.
    pub(super) fn new(
        keys: Vec<CorrectionKey>,
        tracks: &ClockTracks,
        registry: &Registry,
        tenant: &TenantId,
    ) -> Self {
        let owners: BTreeSet<(DeviceId, Epoch)> = keys.iter().map(|key| (key.0.clone(), key.1)).collect();
        let tracks = Arc::new(tracks.of(&owners));
        let units = Arc::new(units(&owners, registry, tenant));
        let mut streams: BTreeMap<String, Streams> = BTreeMap::new();
        for (device, epoch, boot, stream, kind, _) in &keys {
            let key = (device.to_string(), epoch.to_string(), i64::from(boot.0), stream.to_string());
            let whose = (device.clone(), *epoch, *boot);
            streams.entry(kind.clone()).or_default().insert(key, whose);
        }
        let rederived = |streams| {
            Arc::new(Rederived {
                tracks: Arc::clone(&tracks),
                units: Arc::clone(&units),
                streams,
                told: Mutex::default(),
            })
        };
        let kinds = streams.into_iter().map(|(kind, streams)| (kind, rederived(streams))).collect();
        Self { keys, tracks, kinds }
    }
}

fn units(owners: &BTreeSet<(DeviceId, Epoch)>, registry: &Registry, tenant: &TenantId) -> Units {
    let mut units = Units::new();
    for (device, epoch) in owners {
        let path = DevicePath { tenant: tenant.clone(), device: device.clone() };
        for declared in registry.streams(&path, *epoch) {
            let unit = stamp_unit_ns(declared.schema.time_exp).unwrap_or(1);
            let fingerprint = i64::from(declared.fingerprint.0);
            units.insert(
                (device.to_string(), epoch.to_string(), declared.name.to_string(), fingerprint),
                unit,
            );
        }
    }
    units
}

/// The tables and days of a correction; `due` are those whose merge into a day is due and goes along.
pub(super) fn tables(correction: &Correction, due: &BTreeSet<(String, i32)>) -> Vec<RewriteTable> {
    let of_kind = |kind: &String, rederived: &Arc<Rederived>| {
        let table = kind.parse::<KindName>().ok().and_then(|kind| raw_table(&kind).ok())?;
        let days = correction.keys.iter().filter(|key| &key.4 == kind);
        let days: BTreeSet<i32> = days.filter_map(|key| i32::try_from(key.5).ok()).collect();
        let whole = days.iter().copied().filter(|day| due.contains(&(table.to_string(), *day))).collect();
        Some(RewriteTable { table, days, whole, derive: Arc::clone(rederived) as Arc<dyn Derive> })
    };
    correction.kinds.iter().filter_map(|(kind, rederived)| of_kind(kind, rederived)).collect()
}

/// Times of the rows of one kind, judged anew.
#[derive(Debug)]
struct Rederived {
    tracks: Arc<ClockTracks>,
    units: Arc<Units>,
    streams: Streams,
    told: Mutex<Told>,
}

/// What was written anew.
#[derive(Debug, Default)]
struct Told {
    runs: BTreeMap<RunKey, Vec<Run>>,
    rows: u64,
    /// Rows that left their day.
    moved: u64,
    /// Days that rows left or came to, with their number.
    days: BTreeMap<(String, i64), u64>,
}

/// Device, epoch, stream, boot, fingerprint.
type RunKey = (String, String, String, i64, i64);

/// A run of seqs with new times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    seqs: (i64, i64),
    b: (i64, i64),
    t: (i64, i64),
    worst: Grade,
    track: i64,
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
    fn told(&self) -> MutexGuard<'_, Told> {
        // Counters only: whole whatever happened to their last holder.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that may change, by boot, each with its event and what is stored of it.
    fn judged(&self, rows: &RecordBatch) -> Result<BTreeMap<&Whose, Vec<(usize, Query, Resolved)>>, String> {
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
        let mut judged: BTreeMap<&Whose, Vec<(usize, Query, Resolved)>> = BTreeMap::new();
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
        // The same columns were read to judge the rows.
        let _: Result<(), String> = self.note(before, after);
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

/// A correction whose rows are written and not yet published.
#[derive(Debug)]
pub(super) struct Corrected {
    correction: Correction,
    /// Tables of the commit it was made on.
    tables: BTreeSet<TableName>,
}

impl Corrected {
    pub(super) fn new(correction: Correction, tables: BTreeSet<TableName>) -> Self {
        Self { correction, tables }
    }

    /// What was due and is done.
    pub(super) fn keys(&self) -> &[CorrectionKey] {
        &self.correction.keys
    }

    /// The tracks it was done with.
    pub(super) fn tracks(&self) -> &ClockTracks {
        &self.correction.tracks
    }

    /// Rows with a new time, and those among them that left their day.
    pub(super) fn rows(&self) -> (u64, u64) {
        let told = self.correction.kinds.values().map(|rederived| rederived.told());
        told.map(|told| (told.rows, told.moved)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// What the commit says of it: ledger rows with the new times, what is no longer due, and aligned rows to be made anew.
    ///
    /// # Errors
    /// When a row cannot be laid out, which only a bug does.
    pub(super) fn appends(
        &self,
        receiver: &str,
        half_ns: i64,
        now: UtcNanos,
    ) -> Result<Vec<TableAppend>, ArrowError> {
        let mut out = Vec::new();
        for rows in [self.ledger(receiver, half_ns, now), self.corrections(half_ns, now)] {
            if !rows.is_empty() {
                out.push(rows.to_append()?);
            }
        }
        Ok(out)
    }

    fn ledger(&self, receiver: &str, half_ns: i64, now: UtcNanos) -> TableRows {
        let mut out = TableRows::new(Ops::Ledger.spec());
        for (kind, rederived) in &self.correction.kinds {
            for ((device, epoch, stream, boot, fingerprint), runs) in &rederived.told().runs {
                let Ok(device) = device.parse::<DeviceId>() else { continue };
                for run in coalesced(runs) {
                    let mut cells = event(now, half_ns, Some(&device));
                    cells.extend([
                        ("epoch", epoch.as_str().into()),
                        ("stream", stream.as_str().into()),
                        ("seq_lo", run.seqs.0.into()),
                        ("seq_hi", run.seqs.1.into()),
                        ("rows", (run.seqs.1 - run.seqs.0 + 1).into()),
                        ("kind", kind.as_str().into()),
                        ("schema_fp", (*fingerprint).into()),
                        ("boot_ordinal", (*boot).into()),
                        ("domain", ClockDomain::BOOT.to_string().into()),
                        ("b_lo_ns", run.b.0.into()),
                        ("b_hi_ns", run.b.1.into()),
                        ("t_min_ns", run.t.0.into()),
                        ("t_max_ns", run.t.1.into()),
                        ("grade_worst", run.worst.as_str().into()),
                        ("track", run.track.into()),
                        ("state", "held".into()),
                        ("receiver", receiver.into()),
                    ]);
                    out.push(cells);
                }
            }
        }
        out
    }

    fn corrections(&self, half_ns: i64, now: UtcNanos) -> TableRows {
        let mut out = TableRows::new(Ops::Corrections.spec());
        for (device, epoch, boot, stream, kind, day) in self.keys() {
            let whose = Incoming { device, epoch: *epoch, boot: *boot };
            let mut cells = event(now, half_ns, Some(device));
            cells.extend([
                ("epoch", epoch.to_string().into()),
                ("boot_ordinal", boot.0.into()),
                ("stream", stream.to_string().into()),
                ("kind", kind.as_str().into()),
                ("day", (*day).into()),
                ("rows", 0_u64.into()),
                ("reason", CORRECTED.into()),
                ("track_new", self.tracks().track_id(whose).into()),
            ]);
            out.push(cells);
        }
        for (aligned, device, day, rows) in self.stale() {
            let mut cells = event(now, half_ns, Some(&device));
            cells.extend([
                ("kind", aligned.as_str().into()),
                ("day", day.into()),
                ("rows", rows.into()),
                ("reason", REALIGN.into()),
            ]);
            out.push(cells);
        }
        out
    }

    /// Aligned tables that may hold rows made from corrected ones, by device and day, with the number of those.
    fn stale(&self) -> Vec<(TableName, DeviceId, i64, u64)> {
        let mut days: BTreeMap<(String, i64), u64> = BTreeMap::new();
        for rederived in self.correction.kinds.values() {
            for (day, rows) in &rederived.told().days {
                *days.entry(day.clone()).or_default() += rows;
            }
        }
        let aligned = self.tables.iter().filter(|table| table.namespace() == "aligned");
        aligned
            .flat_map(|table| {
                let of = |((device, day), rows): (&(String, i64), &u64)| {
                    Some((table.clone(), device.parse().ok()?, *day, *rows))
                };
                days.iter().filter_map(of).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Device and day of aligned rows that are out of date now.
    pub(super) fn realign_days(&self) -> u64 {
        self.stale().len() as u64
    }
}

/// Runs in order, neighbours joined: files come in any order.
fn coalesced(runs: &[Run]) -> Vec<Run> {
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
