//! Corrected times of committed rows: which rows of which days a better track changes, and what a correcting commit
//! says of them beside the rows themselves.

mod rederived;

use super::IngestSettings;
use super::group::event;
use super::timing::CorrectionKey;
use crate::commit::cells::TableRows;
use crate::commit::tables::{Ops, raw_table};
use crate::registry::Registry;
use crate::resolve::{ClockTracks, Incoming};
use arrow_schema::ArrowError;
use headwater_core::id::{DeviceId, DevicePath, Epoch, KindName, TenantId};
use headwater_core::time::{ClockDomain, UtcNanos, stamp_unit_ns};
use headwater_lake::{Derive, RewriteTable, TableAppend, TableName};
use rederived::{Rederived, Streams, Units, coalesced};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Reason in `ops.corrections` of what was due and is done.
pub(super) const CORRECTED: &str = "corrected";
/// Reason of aligned rows that were made from rows corrected since: to be aligned anew.
pub(super) const REALIGN: &str = "realign";

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

    /// What the commit says of it: ledger rows with the new times, how many rows of each key are `left` due, and aligned
    /// rows to be made anew.
    ///
    /// # Errors
    /// When a row cannot be laid out, which only a bug does.
    pub(super) fn appends(
        &self,
        settings: &IngestSettings,
        now: UtcNanos,
        left: impl Fn(&CorrectionKey) -> u64,
    ) -> Result<Vec<TableAppend>, ArrowError> {
        let mut out = Vec::new();
        let half_ns = settings.clock_half_ns;
        let rows = [self.ledger(&settings.receiver, half_ns, now), self.corrections(half_ns, now, left)];
        for rows in rows {
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

    fn corrections(&self, half_ns: i64, now: UtcNanos, left: impl Fn(&CorrectionKey) -> u64) -> TableRows {
        let mut out = TableRows::new(Ops::Corrections.spec());
        for key in self.keys() {
            let (device, epoch, boot, stream, kind, day) = key;
            let whose = Incoming { device, epoch: *epoch, boot: *boot };
            let mut cells = event(now, half_ns, Some(device));
            cells.extend([
                ("epoch", epoch.to_string().into()),
                ("boot_ordinal", boot.0.into()),
                ("stream", stream.to_string().into()),
                ("kind", kind.as_str().into()),
                ("day", (*day).into()),
                ("rows", left(key).into()),
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

    /// Days that rows left or came to, by device.
    pub(super) fn days(&self) -> Vec<(DeviceId, i64)> {
        let told = self.correction.kinds.values().map(|rederived| rederived.told());
        let days: BTreeSet<(String, i64)> =
            told.flat_map(|told| told.days.keys().cloned().collect::<Vec<_>>()).collect();
        days.into_iter().filter_map(|(device, day)| Some((device.parse().ok()?, day))).collect()
    }

    /// Device and day of aligned rows that are out of date now.
    pub(super) fn realign_days(&self) -> u64 {
        self.stale().len() as u64
    }
}
