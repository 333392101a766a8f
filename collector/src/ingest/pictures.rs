//! Looks at some of a candidate's pictures where they are stored: whether their headers hold, and are of the size their
//! rows say.

use super::audit::AuditError;
use super::candidate::Candidate;
use crate::commit::cells::Cell;
use crate::commit::read::ScannedRows;
use crate::gate::looking::look_at;
use crate::gate::{GateSettings, Judged, Verdict, by, decodes, picture};
use futures::TryStreamExt;
use headwater_align::gate::{Context, RuleSet};
use headwater_lake::{Compare, Condition, Lake, ScanOptions, TableName};
use serde_json::json;
use std::collections::BTreeMap;

/// Pictures looked at per candidate, evenly over the rows of each device, and at least one of each: every one is a read of
/// a row group.
const PICTURES_MAX: usize = 8;
/// Around a row's time, µs: a better clock may have moved its raw row since.
const AROUND_US: i64 = 60_000_000;

/// A picture a row names.
struct Named {
    device: String,
    row_key: String,
    hash: String,
    ts_us: i64,
}

/// The verdict on the pictures; none if the recipe takes none.
///
/// # Errors
/// When the lake cannot be read.
pub(super) async fn judge(lake: &Lake, candidate: &Candidate) -> Result<Option<Judged>, AuditError> {
    let named = some(candidate);
    if named.is_empty() {
        return Ok(None);
    }
    let mut tables: Vec<TableName> = Vec::new();
    for table in lake.tables(&candidate.head).await?.into_keys().filter(|table| table.namespace() == "raw") {
        let columns = lake.columns(&candidate.head, &table).await?;
        if ["image", "hash", "mime"].iter().all(|name| columns.iter().any(|column| column.name == *name)) {
            tables.push(table);
        }
    }
    let (mut looked_at, mut offending, mut devices) = (0_usize, Vec::new(), BTreeMap::new());
    for named in &named {
        for table in &tables {
            let of_device = devices.entry(named.device.clone()).or_insert(Verdict::Pass);
            match look(lake, candidate, table, named).await? {
                None => continue,
                Some(true) => {}
                Some(false) => {
                    *of_device = Verdict::Fail;
                    offending.push(named.row_key.clone());
                }
            }
            looked_at += 1;
            break;
        }
    }
    let verdict = if offending.is_empty() { Verdict::Pass } else { Verdict::Fail };
    let evidence = json!({
        "rows": candidate.window.rows.len(), "looked_at": looked_at, "offending": offending.len(), "row_keys": offending,
    });
    Ok(Some(Judged { devices, ..Judged::whole("image_header", verdict, evidence) }))
}

/// The verdicts of rules that look into pictures.
///
/// # Errors
/// When the lake cannot be read.
pub(super) async fn judge_seen(
    lake: &Lake,
    candidate: &Candidate,
    gate: &GateSettings,
) -> Result<Vec<Judged>, AuditError> {
    let table = candidate.table.to_string();
    let sets: Vec<&RuleSet> =
        gate.rules.iter().filter(|set| set.concerns(&table) && set.looks() > 0).collect();
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    let looks = look_at(lake, &candidate.head, &sets, candidate.batches()).await?;
    let none = BTreeMap::new();
    let (now_ns, looks) = (candidate.now.0, Some(&looks));
    let context = Context { now_ns, known: None, looks, boots: None, references: &none };
    by(&sets, decodes, candidate.batches(), &context).map_err(|error| AuditError::Layout(error.to_string()))
}

/// Pictures that rows name, evenly over those of each device.
fn some(candidate: &Candidate) -> Vec<Named> {
    if !candidate.picture {
        return Vec::new();
    }
    let batches = &candidate.window.batches;
    let values = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| (ScannedRows(batch), at)));
    let named = candidate.window.rows.iter().zip(values).filter_map(|(row, (values, at))| {
        let (device, row_key) = (row.device.clone(), row.row_key.clone());
        let (hash, ts_us) = (values.text("image_hash", at)?, row.ts_ns.div_euclid(1_000));
        Some(Named { device, row_key, hash, ts_us })
    });
    let mut devices: BTreeMap<String, Vec<Named>> = BTreeMap::new();
    named.for_each(|named| devices.entry(named.device.clone()).or_default().push(named));
    let each = PICTURES_MAX.checked_div(devices.len()).unwrap_or(0).max(1);
    let some = |named: Vec<Named>| {
        let step = named.len().div_ceil(each).max(1);
        named.into_iter().step_by(step)
    };
    devices.into_values().flat_map(some).collect()
}

/// Whether a picture's header holds; none if the table has no such picture, or it is of a form that is not known.
async fn look(
    lake: &Lake,
    candidate: &Candidate,
    table: &TableName,
    named: &Named,
) -> Result<Option<bool>, AuditError> {
    let hash = Condition { column: "hash".to_owned(), compare: Compare::Equal, value: named.hash.clone() };
    let columns = ["image", "hash", "mime", "width", "height"].map(str::to_owned).to_vec();
    let options = ScanOptions {
        columns: Some(columns),
        limit: Some(1),
        from_us: Some(named.ts_us.saturating_sub(AROUND_US)),
        to_us: Some(named.ts_us.saturating_add(AROUND_US)),
        conditions: vec![hash],
        ..ScanOptions::default()
    };
    let mut batches = lake.scan(&candidate.head, table, options).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        if rows.is_empty() {
            continue;
        }
        if !matches!(rows.text("mime", 0).as_deref(), Some("image/jpeg" | "image/png")) {
            return Ok(None);
        }
        let bytes = match rows.member("image", "bytes", 0) {
            Cell::Bytes(bytes) => bytes.into(),
            _ => match lake.blob(&named.hash).await? {
                Some(bytes) => bytes,
                None => return Ok(Some(false)),
            },
        };
        let told = (rows.count("width", 0), rows.count("height", 0));
        let holds = picture::size(&bytes).is_some_and(|(width, height)| {
            told.0.is_none_or(|told| told == u64::from(width))
                && told.1.is_none_or(|told| told == u64::from(height))
        });
        return Ok(Some(holds));
    }
    Ok(None)
}
