//! Fills an aligner from the lake: after a start, a rollback, or when rows it had let go are needed again.
//!
//! What it holds is a function of the raw tables, the ledger and the stored coverage alone, so a killed aligner goes on
//! where its last commit left off.

use super::aligner::{Aligner, SPINE_ROWS_PER_PASS, place};
use super::asof::{Instant, Sample};
use super::promise::Promise;
use crate::commit::cells::Cell;
use crate::commit::kinds::Kinds;
use crate::commit::read::ScannedRows;
use crate::commit::tables::{Ops, raw_table};
use crate::commit::withdrawn::withdrawn;
use crate::dedup::StreamKey;
use futures::TryStreamExt;
use headwater_core::id::{BootOrdinal, FieldName, KindName, Seq, StreamName};
use headwater_core::time::{BootNanos, ClockDomain, Grade, event_time};
use headwater_lake::{ColumnType, CommitId, Lake, LakeError, ScanOptions, TableName};
use std::collections::{BTreeMap, BTreeSet};

const STAMPS: [&str; 12] = [
    "device",
    "stream",
    "epoch",
    "seq",
    "boot_ordinal",
    "boot_ns",
    "lat_lo_ns",
    "lat_hi_ns",
    "domain",
    "ts_ns",
    "ts_err_ns",
    "grade",
];

/// A spine row found in the raw tables.
struct Found {
    key: StreamKey,
    at: Instant,
    values: Vec<Cell>,
}

/// Kinds by stream: a stream has one, but two devices may give one name to two kinds.
pub(crate) type StreamKinds = BTreeMap<StreamName, BTreeSet<KindName>>;

/// Fills `aligner` (empty, with its coverage) from the lake at `head`; gives the kinds of its streams.
///
/// # Errors
/// When a table cannot be read.
pub(crate) async fn restore(
    aligner: &mut Aligner,
    lake: &Lake,
    head: &CommitId,
    kinds: &Kinds,
    now: BootNanos,
) -> Result<StreamKinds, LakeError> {
    let tables = lake.tables(head).await?;
    let recipe = aligner.recipe().clone();
    let streams: BTreeSet<StreamName> =
        recipe.columns.iter().map(|column| column.stream.clone()).chain([recipe.spine.clone()]).collect();
    let of_streams = ledger(aligner, lake, head, &tables.keys().cloned().collect(), &streams).await?;

    let mut found = Vec::new();
    for kind in of_streams.get(&recipe.spine).into_iter().flatten() {
        read(lake, head, kinds, kind, &recipe.spine, &recipe.spine_select, |key, at, values| {
            if !aligner.is_settled(&key, at.place.seq) {
                found.push(Found { key, at, values });
            }
        })
        .await?;
    }
    found.sort_by_key(|row| (row.at.ts_ns, row.at.place));
    let truncated = found.len() > SPINE_ROWS_PER_PASS;
    if truncated {
        found.truncate(SPINE_ROWS_PER_PASS);
        aligner.fall_behind();
    }
    // Only what the rows to be aligned reach is held; of the rest it is enough to know that it is there.
    let reach = recipe.columns.iter().map(|column| column.tolerance_ns).max().unwrap_or(0);
    let err = found.iter().map(|row| row.at.err_ns).max().unwrap_or(0);
    let from = found.first().map_or(i64::MAX, |row| row.at.ts_ns.saturating_sub(reach).saturating_sub(err));
    let to = found.last().filter(|_| truncated);
    let to = to.map_or(i64::MAX, |row| row.at.ts_ns.saturating_add(reach).saturating_add(err));

    for (place, column) in recipe.columns.iter().enumerate() {
        for kind in of_streams.get(&column.stream).into_iter().flatten() {
            read(lake, head, kinds, kind, &column.stream, &column.select, |key, at, values| {
                let Some(samples) = aligner.column(&key, place) else { return };
                if at.ts_ns.saturating_add(at.err_ns) < from {
                    samples.before(at.place);
                } else if at.ts_ns.saturating_sub(at.err_ns) > to {
                    samples.beyond(at.place);
                } else {
                    samples.add(Sample { at, values });
                }
            })
            .await?;
        }
    }
    aligner.trim();
    for row in found {
        aligner.add_spine(&row.key, row.at, row.values, now);
    }
    Ok(of_streams)
}

/// Holds, gaps and promises from `ops`; gives the kinds of each stream.
async fn ledger(
    aligner: &mut Aligner,
    lake: &Lake,
    head: &CommitId,
    tables: &BTreeSet<TableName>,
    streams: &BTreeSet<StreamName>,
) -> Result<StreamKinds, LakeError> {
    let mut kinds = StreamKinds::new();
    for ops in [Ops::Ledger, Ops::Gaps, Ops::Clock] {
        if !tables.contains(&ops.table()) {
            continue;
        }
        let mut batches = lake.scan(head, &ops.table(), ScanOptions::default()).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = ScannedRows(&batch);
            for row in 0..rows.len() {
                let Some(key) = key_of(rows, row).filter(|key| streams.contains(&key.stream)) else {
                    continue;
                };
                match ops {
                    Ops::Clock => {
                        if let Some(promise) = promise_of(rows, row) {
                            aligner.promise(&key, promise);
                        }
                    }
                    _ => {
                        let Some(seqs) = rows.count("seq_lo", row).zip(rows.count("seq_hi", row)) else {
                            continue;
                        };
                        let seqs = seqs.0..seqs.1.saturating_add(1);
                        if ops == Ops::Gaps {
                            let small = |name: &str| rows.count(name, row).unwrap_or(0);
                            aligner.declare_gap(&key, seqs, small("stride"), small("phase"));
                            continue;
                        }
                        aligner.hold(&key, seqs);
                        if let Some(Ok(kind)) = rows.text("kind", row).map(|kind| kind.parse()) {
                            kinds.entry(key.stream).or_default().insert(kind);
                        }
                    }
                }
            }
        }
    }
    // What was taken out of the tables will not come: it counts as a gap, not as a sample that is there.
    for (key, seqs) in withdrawn(lake, head).await? {
        if streams.contains(&key.stream) {
            aligner.withdraw(&key, seqs);
        }
    }
    Ok(kinds)
}

/// Every sample of `stream` in the table of `kind`, with the fields of `select` (null where the kind has none).
async fn read(
    lake: &Lake,
    head: &CommitId,
    kinds: &Kinds,
    kind: &KindName,
    stream: &StreamName,
    select: &[FieldName],
    mut take: impl FnMut(StreamKey, Instant, Vec<Cell>),
) -> Result<(), LakeError> {
    let columns: Vec<Option<String>> = select
        .iter()
        .map(|field| {
            let known = kinds.column(kind, field)?;
            // Of a picture only the digest is wanted.
            let is_object = matches!(known.column_type, ColumnType::Struct(_));
            Some(if is_object { "hash".to_owned() } else { known.column.clone() })
        })
        .collect();
    let mut names: Vec<String> = STAMPS.iter().map(|name| (*name).to_owned()).collect();
    for column in columns.iter().flatten() {
        if !names.contains(column) {
            names.push(column.clone());
        }
    }
    let table = raw_table(kind)?;
    let options = ScanOptions { columns: Some(names), ..ScanOptions::default() };
    let mut batches = lake.scan(head, &table, options).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        for row in 0..rows.len() {
            let Some(key) = key_of(rows, row).filter(|key| key.stream == *stream) else { continue };
            let Some(at) = instant_of(rows, row) else { continue };
            let value =
                |column: &Option<String>| column.as_ref().map_or(Cell::Null, |name| rows.cell(name, row));
            take(key, at, columns.iter().map(value).collect());
        }
    }
    Ok(())
}

fn key_of(rows: ScannedRows<'_>, row: usize) -> Option<StreamKey> {
    Some(StreamKey {
        device: rows.text("device", row)?.parse().ok()?,
        epoch: rows.text("epoch", row)?.parse().ok()?,
        stream: rows.text("stream", row)?.parse().ok()?,
    })
}

fn promise_of(rows: ScannedRows<'_>, row: usize) -> Option<Promise> {
    (rows.text("row_kind", row)? == "heartbeat").then_some(())?;
    Some(Promise {
        boot: BootOrdinal(u32::try_from(rows.long("boot_ordinal", row)?).ok()?),
        next_seq: Seq(rows.count("next_seq", row)?),
        promise_b: BootNanos(rows.long("promise_b_ns", row)?),
    })
}

fn instant_of(rows: ScannedRows<'_>, row: usize) -> Option<Instant> {
    let (event_ns, half_ns) =
        event_time(rows.long("boot_ns", row)?, rows.long("lat_lo_ns", row)?, rows.long("lat_hi_ns", row)?);
    let domain = if rows.text("domain", row)? == "boot" { ClockDomain::BOOT } else { ClockDomain(1) };
    let boot = BootOrdinal(u32::try_from(rows.long("boot_ordinal", row)?).ok()?);
    let grade = [Grade::Guaranteed, Grade::Estimated, Grade::OrderingOnly];
    let named = rows.text("grade", row)?;
    Some(Instant {
        place: place(boot, domain, event_ns, rows.count("seq", row)?)?,
        half_ns,
        ts_ns: rows.long("ts_ns", row)?,
        err_ns: rows.long("ts_err_ns", row)?,
        grade: grade.into_iter().find(|grade| grade.as_str() == named)?,
    })
}
