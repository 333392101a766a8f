//! `late.<recipe>`: samples that came later than a recipe allows, with how late they were. Aligned rows stay as they are; a
//! backfill takes the samples in, which lie in the raw tables like any other.

use super::aligning::{AlignError, input};
use super::commit::Committer;
use crate::align::StreamKinds;
use crate::align::aligner::Aligner;
use crate::align::aside::{LateRows, LateRun};
use crate::commit::cells::{Cell, TableRows};
use crate::commit::read::ScannedRows;
use crate::commit::tables::{long, properties, raw_table, text, time_columns};
use crate::dedup::StreamKey;
use futures::TryStreamExt;
use headwater_align::recipe::Recipe;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::Clock;
use headwater_lake::{
    ColumnSpec, ColumnType, CommitId, CommitKind, CommitRequest, CommitStats, Compare, Condition, Lake,
    LakeError, Lineage, NameError, ScanOptions, Software, TableName, TableSpec,
};
use std::collections::BTreeMap;

/// Rows of a commit, some 30 MB while they are laid out.
const LATE_ROWS_PER_COMMIT: u64 = 50_000;
/// Commits of them in one round: a million late rows must not keep aligned ones waiting.
const LATE_COMMITS_PER_ROUND_MAX: usize = 4;
/// Pieces of [`LATE_ROWS_PER_COMMIT`] rows looked at in one round: after a start most are in the table already, and those must
/// not use up the round, or a collector that is killed again and again never gets to the rest.
const LATE_PIECES_PER_ROUND_MAX: usize = 64;
/// What is read of a raw row.
const READ: [&str; 8] = ["device", "stream", "epoch", "seq", "ts", "ts_ns", "ts_err_ns", "grade"];

/// Writes what came too late; some of it may be left for the next round.
///
/// # Errors
/// The lake's; what was not written stays noted.
pub(super) async fn publish<C: Clock>(
    aligner: &mut Aligner,
    committer: &mut Committer<C>,
    head: &CommitId,
    kinds_of: &StreamKinds,
) -> Result<(), AlignError> {
    let mut head = head.clone();
    let mut commits = 0;
    for _ in 0..LATE_PIECES_PER_ROUND_MAX {
        if commits >= LATE_COMMITS_PER_ROUND_MAX {
            break;
        }
        let Some((key, runs)) = aligner.late_rows().next(LATE_ROWS_PER_COMMIT) else { return Ok(()) };
        let spec = spec(aligner.recipe())?;
        let lake = committer.lake.clone();
        let rows = read(&lake, &head, aligner, &spec, kinds_of, (&key, &LateRows::sorted(&runs))).await?;
        if !rows.is_empty() {
            let count = rows.len() as u64;
            let request = CommitRequest {
                kind: CommitKind::Align,
                message: format!("{count} late rows of {} of {}", key.stream, key.device),
                time_us: committer.clock.read().real.micros(),
                appends: vec![rows.to_append()?],
                stats: CommitStats { late_rows: count, devices: 1, ..CommitStats::default() },
                lineage: Lineage {
                    inputs: vec![input(&head)],
                    recipes: BTreeMap::from([(aligner.recipe().name.to_string(), aligner.id().to_owned())]),
                    software: Software {
                        collector: env!("CARGO_PKG_VERSION").to_owned(),
                        agents: Vec::new(),
                    },
                    ..Lineage::default()
                },
                ..CommitRequest::default()
            };
            head = committer.commit_once(request).await?.id;
            commits += 1;
            metrics::counter!("headwater_align_late_rows_written_total").increment(count);
        }
        aligner.late_written(&key, &runs);
    }
    Ok(())
}

/// The table of a recipe's late rows.
pub(super) fn spec(recipe: &Recipe) -> Result<TableSpec, NameError> {
    let required = |name: &str| ColumnSpec::required(name, ColumnType::String);
    let mut columns = vec![required("device")];
    columns.extend(time_columns());
    columns.extend([
        required("stream"),
        required("epoch"),
        ColumnSpec::required("seq", ColumnType::Long).with_doc("of the row in the raw table of `kind`"),
        text("kind"),
        ColumnSpec::optional("arrived", ColumnType::Timestamptz)
            .with_doc("when the collector committed it, UTC"),
        long("lateness_ns").with_doc("from its event to its arrival, ns"),
    ]);
    let name = TableName::new(format!("late.{}", recipe.name))?;
    let mut spec = TableSpec::new(name, columns, &["device", "ts", "stream", "epoch", "seq"]);
    spec.properties = properties([("hw.kind", "late".to_owned())]);
    Ok(spec)
}

/// Rows of these runs that came later than allowed and are not in the table yet, as they stand in the raw tables.
async fn read(
    lake: &Lake,
    head: &CommitId,
    aligner: &Aligner,
    spec: &TableSpec,
    kinds_of: &StreamKinds,
    (key, runs): (&StreamKey, &[LateRun]),
) -> Result<TableRows, AlignError> {
    let known = known(lake, head, &spec.name, (key, runs)).await?;
    let allowed = aligner.recipe().watermark.allowed_lateness_ns;
    let mut out = TableRows::new(spec.clone());
    for kind in kinds_of.get(&key.stream).into_iter().flatten() {
        let mut batches = match lake.scan(head, &raw_table(kind)?, options(key, runs, &READ)).await {
            Ok(batches) => batches,
            Err(LakeError::UnknownTable { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        while let Some(batch) = batches.try_next().await? {
            let rows = ScannedRows(&batch);
            for row in 0..rows.len() {
                let (Some(seq), Some(ts_ns)) = (rows.count("seq", row), rows.long("ts_ns", row)) else {
                    continue;
                };
                let Some(arrived_us) = LateRows::arrived(runs, &known, seq) else { continue };
                let lateness_ns = arrived_us.saturating_mul(1_000).saturating_sub(ts_ns);
                if lateness_ns <= allowed {
                    continue;
                }
                let mut cells: Vec<(&str, Cell)> =
                    READ.iter().map(|name| (*name, rows.cell(name, row))).collect();
                cells.extend([
                    ("kind", kind.as_str().into()),
                    ("arrived", arrived_us.into()),
                    ("lateness_ns", lateness_ns.into()),
                ]);
                out.push(cells);
            }
        }
    }
    Ok(out)
}

/// Seqs that are in the table already: a collector that was killed looks for late rows in the ledger again.
async fn known(
    lake: &Lake,
    head: &CommitId,
    table: &TableName,
    (key, runs): (&StreamKey, &[LateRun]),
) -> Result<IntervalSet, AlignError> {
    let mut known = IntervalSet::new();
    if !lake.tables(head).await?.contains_key(table) {
        return Ok(known);
    }
    let mut batches = lake.scan(head, table, options(key, runs, &["seq"])).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        for seq in (0..rows.len()).filter_map(|row| rows.count("seq", row)) {
            known.insert(seq..seq.saturating_add(1));
        }
    }
    Ok(known)
}

fn options(key: &StreamKey, runs: &[LateRun], columns: &[&str]) -> ScanOptions {
    let first = runs.iter().map(|run| run.seqs.start).min().unwrap_or(0);
    let last = runs.iter().map(|run| run.seqs.end).max().unwrap_or(0).saturating_sub(1);
    let of = |column: &str, compare, value: String| Condition { column: column.to_owned(), compare, value };
    ScanOptions {
        columns: Some(columns.iter().map(|name| (*name).to_owned()).collect()),
        device: Some(key.device.to_string()),
        conditions: vec![
            of("stream", Compare::Equal, key.stream.to_string()),
            of("epoch", Compare::Equal, key.epoch.to_string()),
            of("seq", Compare::GreaterOrEqual, first.to_string()),
            of("seq", Compare::LessOrEqual, last.to_string()),
        ],
        ..ScanOptions::default()
    }
}
