//! What ingest knows at its start, read back from the branch it commits to: cursors, ledger, gaps, clocks, declarations.

use super::aside::{Aside, Undeclared, held};
use super::correcting::CORRECTED;
use super::cursors::{Part, part_of};
use super::fold::{Folder, REVOKED};
use super::replaying::Replay;
use crate::commit::declared::known_as;
use crate::commit::read::ScannedRows;
use crate::commit::tables::Ops;
use crate::commit::withdrawn::withdrawn;
use crate::dedup::StreamKey;
use crate::resolve::{ClockRow, Incoming, statements_of};
use futures::TryStreamExt;
use headwater_core::batch::StreamRef;
use headwater_core::id::{BootOrdinal, DeviceId, DevicePath, Epoch, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::schema::Schema;
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::Declaration;
use headwater_lake::{CommitId, Lake, LakeError, RefName, ScanOptions};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Fills a fresh folder from the head of `branch`; gives the head's commit.
pub(super) async fn restore(
    folder: &mut Folder,
    lake: &Lake,
    branch: &RefName,
) -> Result<Option<CommitId>, LakeError> {
    let landing = lake.landing_cursors_max(branch).await?;
    folder.read = part_of(&landing, Part::Data);
    folder.noted = part_of(&landing, Part::Ops);
    let Some(head) = lake.head(branch).await?.and_then(|head| head.commit) else { return Ok(None) };
    restore_at(folder, lake, &head).await?;
    Ok(Some(head))
}

/// Fills a fresh folder from a commit, but for what was read of the landing logs.
pub(super) async fn restore_at(folder: &mut Folder, lake: &Lake, head: &CommitId) -> Result<(), LakeError> {
    let tables = lake.tables(head).await?;
    let corrected = Corrected::read(lake, head, tables.contains_key(&Ops::Corrections.table())).await?;
    for ops in [Ops::Schemas, Ops::Ledger, Ops::Gaps, Ops::Clock, Ops::Devices, Ops::Corrections] {
        if !tables.contains_key(&ops.table()) {
            continue;
        }
        let mut declared = Vec::new();
        let mut batches = lake.scan(head, &ops.table(), ScanOptions::default()).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = ScannedRows(&batch);
            for row in 0..rows.len() {
                match ops {
                    Ops::Schemas => declared.extend(declaration(folder, rows, row)),
                    Ops::Clock => clock(folder, rows, row),
                    Ops::Devices => agent(folder, rows, row),
                    Ops::Corrections => folder.timing.restore_due(rows, row),
                    _ => seqs(folder, ops, rows, row, &corrected),
                }
            }
        }
        declare(folder, declared);
    }
    for (key, seqs) in withdrawn(lake, head).await? {
        folder.ledger.withdraw(&key, seqs);
    }
    for aside in held(lake, head).await?.into_values() {
        folder.board.add(&aside);
    }
    // Declared since, or in the very commit before a crash: what lies in quarantine can be folded again.
    let known = |(who, asides): (&Undeclared, &Vec<Aside>)| {
        let (device, epoch, fingerprint) = who;
        let path = DevicePath { tenant: folder.settings.tenant.clone(), device: device.clone() };
        let declared = |aside: &Aside| {
            let stream = StreamRef::Id(aside.stream_id?);
            folder.registry.resolve(&path, *epoch, &stream, *fingerprint)
        };
        asides.iter().any(|aside| declared(aside).is_some()).then(|| Replay::declared(who))
    };
    let declared: Vec<Replay> = folder.board.undeclared().filter_map(known).collect();
    folder.wanted.extend(declared);
    for name in tables.keys().filter(|name| name.namespace() == "raw") {
        if let Ok(kind) = name.table().parse() {
            folder.kinds.settle(&kind, &lake.columns(head, name).await?);
        }
    }
    Ok(())
}

/// Seqs whose times were corrected, and when: older rows of the ledger say otherwise of them.
#[derive(Debug, Default)]
struct Corrected(HashMap<StreamKey, Vec<(i64, Range<u64>)>>);

impl Corrected {
    /// Reads them, if there ever was a correction.
    async fn read(lake: &Lake, head: &CommitId, any: bool) -> Result<Self, LakeError> {
        let mut found = Self::default();
        let columns = |names: &[&str]| {
            let columns = Some(names.iter().map(|&name| name.to_owned()).collect());
            ScanOptions { columns, ..ScanOptions::default() }
        };
        let mut done = false;
        if any {
            let mut batches = lake.scan(head, &Ops::Corrections.table(), columns(&["reason"])).await?;
            while let Some(batch) = batches.try_next().await? {
                let rows = ScannedRows(&batch);
                done |= (0..rows.len()).any(|row| rows.text("reason", row).as_deref() == Some(CORRECTED));
            }
        }
        if !done {
            return Ok(found);
        }
        let names = ["ts_ns", "device", "epoch", "stream", "seq_lo", "seq_hi", "incarnation"];
        let mut batches = lake.scan(head, &Ops::Ledger.table(), columns(&names)).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = ScannedRows(&batch);
            // What came from a landing log says from which.
            for row in (0..rows.len()).filter(|row| rows.text("incarnation", *row).is_none()) {
                if let (Some(at), Some(key), Some(lo), Some(hi)) = (
                    rows.long("ts_ns", row),
                    key(rows, row),
                    rows.count("seq_lo", row),
                    rows.count("seq_hi", row),
                ) {
                    found.0.entry(key).or_default().push((at, lo..hi.saturating_add(1)));
                }
            }
        }
        Ok(found)
    }

    /// Of so many of these seqs, told at `told_ns`, nothing newer is told.
    fn still(&self, key: &StreamKey, seqs: &Range<u64>, told_ns: i64) -> u64 {
        let mut newer = IntervalSet::new();
        for (at, corrected) in self.0.get(key).into_iter().flatten() {
            if *at > told_ns {
                newer.insert(corrected.clone());
            }
        }
        newer.missing_in(seqs.clone()).iter().map(|hole| hole.end.saturating_sub(hole.start)).sum()
    }
}

type Declared = (i64, bool, DevicePath, Epoch, Declaration, Schema);

fn declaration(folder: &Folder, rows: ScannedRows<'_>, row: usize) -> Option<Declared> {
    let schema = Schema::from_canonical(&rows.bytes("canonical", row)?).ok()?;
    let known_as = known_as(rows, row, &schema);
    let device = DevicePath {
        tenant: folder.settings.tenant.clone(),
        device: rows.text("device", row)?.parse().ok()?,
    };
    let declaration = Declaration {
        stream: StreamId(u16::try_from(rows.long("stream_id", row)?).ok()?),
        name: rows.text("stream", row)?.parse().ok()?,
        schema,
    };
    let accepted = rows.text("state", row)? == "accepted";
    Some((
        rows.long("ts_ns", row)?,
        accepted,
        device,
        rows.text("epoch", row)?.parse().ok()?,
        declaration,
        known_as,
    ))
}

/// In the order they were accepted in, so that a kind's columns come out the same.
fn declare(folder: &mut Folder, mut declared: Vec<Declared>) {
    declared.sort_by_key(|(ts, _, device, epoch, declaration, _)| {
        (*ts, device.clone(), *epoch, declaration.stream, declaration.schema.fingerprint())
    });
    for (_, accepted, device, epoch, declaration, known_as) in declared {
        if let Err(error) = folder.registry.declare(&device, epoch, &declaration) {
            tracing::warn!(%device, %error, "declaration of an earlier life contradicts a newer one");
        }
        if accepted
            && !declaration.name.as_str().starts_with("hw/")
            && let Err(conflict) = folder.kinds.admit(&known_as)
        {
            tracing::error!(%device, %conflict, "declaration was accepted once and does not fit now");
        }
        if accepted && known_as != declaration.schema {
            let fingerprint = declaration.schema.fingerprint();
            folder
                .aliases
                .insert((device.device, epoch, declaration.stream, fingerprint), Arc::new(known_as));
        }
    }
}

fn key(rows: ScannedRows<'_>, row: usize) -> Option<StreamKey> {
    Some(StreamKey {
        device: rows.text("device", row)?.parse().ok()?,
        epoch: rows.text("epoch", row)?.parse().ok()?,
        stream: rows.text("stream", row)?.parse().ok()?,
    })
}

fn seqs(folder: &mut Folder, ops: Ops, rows: ScannedRows<'_>, row: usize, corrected: &Corrected) {
    let (Some(key), Some(lo), Some(hi)) =
        (key(rows, row), rows.count("seq_lo", row), rows.count("seq_hi", row))
    else {
        return;
    };
    let seqs = lo..hi.saturating_add(1);
    if ops == Ops::Ledger {
        // Withdrawn rows are known too: they do not come back by themselves.
        let still = corrected.still(&key, &seqs, rows.long("ts_ns", row).unwrap_or_default());
        folder.ledger.hold(&key, seqs);
        if still > 0 {
            folder.timing.restore_run(rows, row, still);
        }
    } else {
        let small = |name: &str| rows.count(name, row).unwrap_or(0);
        folder.ledger.declare_gap(&key, seqs, small("stride"), small("phase"));
    }
}

fn clock(folder: &mut Folder, rows: ScannedRows<'_>, row: usize) {
    // Boot rows, computed segments and promises bound nothing.
    let _: Option<()> = constraint(folder, rows, row);
}

fn constraint(folder: &mut Folder, rows: ScannedRows<'_>, row: usize) -> Option<()> {
    let device: DeviceId = rows.text("device", row)?.parse().ok()?;
    let epoch = rows.text("epoch", row)?.parse().ok()?;
    let boot = BootOrdinal(u32::try_from(rows.long("boot_ordinal", row)?).ok()?);
    let ours = rows.text("declared_by", row)? == "collector";
    let long = |name: &str| rows.long(name, row);
    if ours && let Some(t1) = long("t1_ns") {
        let bucket = t1.div_euclid(64 * NS_PER_S);
        let last = folder.halves.entry((device.clone(), epoch, boot)).or_insert(bucket);
        *last = (*last).max(bucket);
    }
    let clock = ClockRow::from_table(|name| rows.text(name, row), long)?;
    let received = long("ts_ns").and_then(|ts| folder.settings.latest(UtcNanos(ts)));
    for statement in statements_of(&clock) {
        folder.tracks.observe(Incoming { device: &device, epoch, boot }, statement, received);
    }
    Some(())
}

fn agent(folder: &mut Folder, rows: ScannedRows<'_>, row: usize) {
    if rows.text("state", row).as_deref() == Some(REVOKED) {
        folder.revoked.extend(rows.text("sign_serial", row));
    }
    let read = || Some((rows.text("device", row)?.parse().ok()?, rows.text("epoch", row)?.parse().ok()?));
    if let (Some(who), Some(version)) = (read(), rows.text("agent_version", row)) {
        folder.agents.insert(who, version);
    }
}
