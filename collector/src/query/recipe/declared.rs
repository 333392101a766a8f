//! What devices declare at a commit, with the columns of their kinds' tables.

use crate::commit::declared::known_as;
use crate::commit::kinds::Kinds;
use crate::commit::read::ScannedRows;
use crate::commit::tables::{Ops, raw_table};
use crate::query::QueryError;
use futures::TryStreamExt;
use headwater_align::recipe::declared::Declared;
use headwater_align::recipe::{Recipe, SpineSource};
use headwater_core::id::{DeviceId, KindName, StreamName};
use headwater_core::schema::Schema;
use headwater_core::time::StampKind;
use headwater_lake::{CommitId, Compare, Condition, Lake, ScanOptions};

/// Reads `ops.schemas`, and of the spine's stream how it is stamped if the recipe asks for a kind.
pub(super) async fn declared(
    lake: &Lake,
    commit: &CommitId,
    recipe: &Recipe,
) -> Result<Declared, QueryError> {
    let tables = lake.tables(commit).await?;
    let mut said: Vec<(i64, DeviceId, StreamName, Schema)> = Vec::new();
    if tables.contains_key(&Ops::Schemas.table()) {
        let mut batches = lake.scan(commit, &Ops::Schemas.table(), ScanOptions::default()).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = ScannedRows(&batch);
            said.extend((0..rows.len()).filter_map(|row| declaration(rows, row)));
        }
    }
    // In the order they were accepted in, as the collector takes them.
    said.sort_by_key(|(ts_ns, device, stream, schema)| {
        (*ts_ns, device.clone(), stream.clone(), schema.fingerprint())
    });
    let (mut declared, mut kinds) = (Declared::default(), Kinds::default());
    for (_, device, stream, schema) in &said {
        // What did not fit its kind's table was not accepted, and brought no rows.
        if kinds.admit(schema).is_ok() {
            declared.add(device, stream, schema);
        }
    }
    for name in tables.keys().filter(|name| name.namespace() == "raw") {
        if let Ok(kind) = name.table().parse() {
            kinds.settle(&kind, &lake.columns(commit, name).await?);
        }
    }
    for (kind, of) in declared.streams.values_mut().flatten() {
        for (name, field) in &mut of.fields {
            if let Some(column) = kinds.column(kind, name) {
                (field.unit, field.column) = (column.unit.clone(), column.column.clone());
            }
        }
    }
    if let SpineSource::Stream { stream, at: Some(_), .. } = &recipe.spine.source {
        let of_stream = declared.streams.get(stream).into_iter().flatten();
        let kinds: Vec<KindName> = of_stream.map(|(kind, _)| kind.clone()).collect();
        for kind in kinds {
            let stamps = stamps(lake, commit, &kind, stream).await?;
            if let Some(of) = declared.streams.get_mut(stream).and_then(|kinds| kinds.get_mut(&kind)) {
                of.stamps.extend(stamps);
            }
        }
    }
    Ok(declared)
}

fn declaration(rows: ScannedRows<'_>, row: usize) -> Option<(i64, DeviceId, StreamName, Schema)> {
    let stream: StreamName = rows.text("stream", row)?.parse().ok()?;
    if rows.text("state", row)? != "accepted" || stream.as_str().starts_with("hw/") {
        return None;
    }
    let schema = Schema::from_canonical(&rows.bytes("canonical", row)?).ok()?;
    let schema = known_as(rows, row, &schema);
    Some((rows.long("ts_ns", row)?, rows.text("device", row)?.parse().ok()?, stream, schema))
}

/// Kinds of stamps a stream has.
async fn stamps(
    lake: &Lake,
    commit: &CommitId,
    kind: &KindName,
    stream: &StreamName,
) -> Result<Vec<StampKind>, QueryError> {
    let table = raw_table(kind).map_err(headwater_lake::LakeError::from)?;
    if !lake.tables(commit).await?.contains_key(&table) {
        return Ok(Vec::new());
    }
    let of_stream =
        Condition { column: "stream".to_owned(), compare: Compare::Equal, value: stream.to_string() };
    let options = ScanOptions {
        columns: Some(vec!["stamp_kind".to_owned()]),
        conditions: vec![of_stream],
        ..ScanOptions::default()
    };
    let mut found = Vec::new();
    let mut batches = lake.scan(commit, &table, options).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        for row in 0..rows.len() {
            let name = rows.text("stamp_kind", row).unwrap_or_default();
            let kind = (0..=4).filter_map(StampKind::from_code).find(|kind| kind.as_str() == name);
            if let Some(kind) = kind.filter(|kind| !found.contains(kind)) {
                found.push(kind);
            }
        }
    }
    Ok(found)
}
