//! Keeping up with others on the branch: a merge, a rollback or a reset by another process changes what is known. Rows of
//! ours that are on their way are held against what came before they are committed (D1), and the recipes go on from the
//! branch's own coverage (C3).

use super::fold::{Folder, cut};
use super::group::HeldRows;
use crate::commit::read::ScannedRows;
use crate::commit::tables::Ops;
use crate::commit::withdrawn::withdrawn;
use crate::dedup::{Ledger, StreamKey};
use futures::TryStreamExt;
use headwater_lake::{CommitId, Lake, LakeError, ScanOptions};

/// What the branch holds at `head`: the ledger as a fresh start would read it.
async fn ledger_at(lake: &Lake, head: &CommitId) -> Result<Ledger, LakeError> {
    let tables = lake.tables(head).await?;
    let mut ledger = Ledger::default();
    for ops in [Ops::Ledger, Ops::Gaps] {
        if !tables.contains_key(&ops.table()) {
            continue;
        }
        let mut batches = lake.scan(head, &ops.table(), ScanOptions::default()).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = ScannedRows(&batch);
            for row in 0..rows.len() {
                // A row without a whole key covers nothing.
                let _: Option<()> = note(&mut ledger, ops, rows, row);
            }
        }
    }
    for (key, seqs) in withdrawn(lake, head).await? {
        ledger.withdraw(&key, seqs);
    }
    Ok(ledger)
}

fn note(ledger: &mut Ledger, ops: Ops, rows: ScannedRows<'_>, row: usize) -> Option<()> {
    let key = StreamKey {
        device: rows.text("device", row)?.parse().ok()?,
        epoch: rows.text("epoch", row)?.parse().ok()?,
        stream: rows.text("stream", row)?.parse().ok()?,
    };
    let seqs = rows.count("seq_lo", row)?..rows.count("seq_hi", row)?.saturating_add(1);
    match ops {
        Ops::Ledger => ledger.hold(&key, seqs),
        _ => {
            let small = |name: &str| rows.count(name, row).unwrap_or(0);
            ledger.declare_gap(&key, seqs, small("stride"), small("phase"));
        }
    }
    Some(())
}

/// Learns what others brought and took by `head`.
pub(super) async fn learn(folder: &mut Folder, lake: &Lake, head: &CommitId) -> Result<(), LakeError> {
    let theirs = ledger_at(lake, head).await?;
    for name in lake.tables(head).await?.keys().filter(|name| name.namespace() == "raw") {
        if let Ok(kind) = name.table().parse() {
            folder.kinds.settle(&kind, &lake.columns(head, name).await?);
        }
    }
    folder.ledger.follow(&theirs);
    folder.theirs = theirs;
    Ok(())
}

impl Folder {
    /// Takes out of the group what others committed since it was taken in.
    pub(super) fn leave_known(&mut self) {
        let theirs = &self.theirs;
        let is_known = |held: &HeldRows| !theirs.sort(&held.key, held.rows.seqs()).known.is_empty();
        let mut dropped = 0;
        let met: Vec<HeldRows> = self.group.take_rows(is_known);
        for held in met {
            let sorted = theirs.sort(&held.key, held.rows.seqs());
            dropped += sorted.known.iter().map(|run| run.end - run.start).sum::<u64>();
            for new in sorted.new {
                self.group.hold(HeldRows { rows: cut(&held.rows, &new), ..held.clone() });
            }
        }
        if dropped > 0 {
            metrics::counter!("headwater_dedup_overtaken_rows_total").increment(dropped);
            tracing::info!(rows = dropped, "rows that another commit brought meanwhile are left out");
        }
    }
}
