//! The answers: log, one commit, tables, devices, gaps, rows.

use super::QueryError;
use super::rows::row_values;
use super::table::draw;
use super::views::{find_extensions, views_sql};
use futures::TryStreamExt;
use headwater_lake::{CommitId, Lake, LakeError, RefName, ScanOptions, TableName};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Where answers go, and in what form.
#[derive(Debug)]
pub(super) struct Printer<W: Write> {
    pub(super) out: W,
    pub(super) json: bool,
}

pub(super) fn time(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| micros.to_string(), |t| t.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

impl<W: Write> Printer<W> {
    pub(super) fn list(
        &mut self,
        columns: &[&str],
        rows: &[Map<String, Value>],
        none: &str,
    ) -> Result<(), QueryError> {
        if self.json {
            writeln!(self.out, "{}", Value::Array(rows.iter().cloned().map(Value::Object).collect()))?;
        } else if rows.is_empty() {
            writeln!(self.out, "{none}")?;
        } else {
            writeln!(self.out, "{}", draw(&words(columns), rows))?;
        }
        Ok(())
    }

    /// One commit in full.
    pub(super) async fn commit(&mut self, lake: &Lake, spec: &str) -> Result<(), QueryError> {
        let id = lake.resolve(spec).await?;
        let commit = lake.commit_object(&id).await?;
        let full = serde_json::to_value(&commit).map_err(|e| QueryError::Start(e.to_string()))?;
        if self.json {
            writeln!(self.out, "{full}")?;
            return Ok(());
        }
        writeln!(self.out, "commit   {id}")?;
        writeln!(self.out, "kind     {}", field(&full, "kind"))?;
        writeln!(self.out, "time     {}", time(commit.time_us))?;
        writeln!(self.out, "author   {}", field(&full, "author"))?;
        writeln!(self.out, "message  {}", field(&full, "message"))?;
        for part in ["parents", "stats", "gates", "coverage", "landing", "lineage"] {
            writeln!(self.out, "{part:<8} {}", field(&full, part))?;
        }
        let rows: Vec<_> =
            lake.tables(&id).await?.iter().map(|(name, entry)| table_row(name, entry)).collect();
        self.list(&["name", "rows", "bytes", "snapshot_id"], &rows, "no tables")?;
        let before = commit.parents.first();
        match lake.diff(before, &id).await {
            Ok(diff) => {
                writeln!(self.out, "changes")?;
                self.changes(&diff)
            }
            // Its parent is no longer kept, so what it changed cannot be told.
            Err(LakeError::UnknownRevision { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tables of a commit with their metadata locations.
    pub(super) async fn tables(&mut self, lake: &Lake, spec: &str) -> Result<(), QueryError> {
        let tables = match resolve(lake, spec).await? {
            Some(id) => lake.tables(&id).await?,
            None => BTreeMap::new(),
        };
        let rows: Vec<_> = tables.iter().map(|(name, entry)| table_row(name, entry)).collect();
        self.list(&["name", "rows", "bytes", "metadata_location"], &rows, "no tables yet")
    }

    /// Devices, the newest row of each.
    pub(super) async fn devices(&mut self, lake: &Lake, spec: &str) -> Result<(), QueryError> {
        let rows = match resolve(lake, spec).await? {
            Some(id) => self.read(lake, &id, "ops.devices", None, None).await?.unwrap_or_default(),
            None => Vec::new(),
        };
        let newest = newest_by(rows, |row| format!("{} {}", field_of(row, "device"), field_of(row, "epoch")));
        let columns = [
            "device",
            "epoch",
            "state",
            "ts",
            "boot_ordinal",
            "agent_version",
            "sign_serial",
            "not_after",
            "note",
        ];
        self.list(&columns, &newest, "no device has said hello yet")
    }

    /// Gaps, the newest row of each.
    pub(super) async fn gaps(&mut self, lake: &Lake, spec: &str) -> Result<(), QueryError> {
        let rows = match resolve(lake, spec).await? {
            Some(id) => self.read(lake, &id, "ops.gaps", None, None).await?.unwrap_or_default(),
            None => Vec::new(),
        };
        let newest = newest_by(rows, |row| field_of(row, "gap_id"));
        let columns =
            ["device", "stream", "seq_lo", "seq_hi", "rows", "reason", "cause", "ts", "state", "detail"];
        self.list(&columns, &newest, "no gaps: every capture is accounted for")
    }

    /// What was set aside, counted by device, stream and reason.
    pub(super) async fn quarantine(&mut self, lake: &Lake, spec: &str) -> Result<(), QueryError> {
        let table = "ops.quarantine";
        let mut rows = Vec::new();
        if let Some(id) = resolve(lake, spec).await?
            && let Some((name, _)) =
                lake.tables(&id).await?.into_iter().find(|(name, _)| name.to_string() == table)
        {
            // Payloads stay where they are.
            let columns = lake.columns(&id, &name).await?.into_iter().map(|column| column.name);
            let columns = columns.filter(|column| column != "payload").collect();
            rows = self.read(lake, &id, table, Some(columns), None).await?.unwrap_or_default();
        }
        let columns = ["device", "stream", "reason", "held", "rows", "released", "first", "last", "detail"];
        self.list(&columns, &asides(rows), "nothing lies in quarantine")
    }

    /// DuckDB views over a commit.
    pub(super) async fn views(
        &mut self,
        lake: &Lake,
        spec: &str,
        extensions: Option<&Path>,
    ) -> Result<(), QueryError> {
        let files = match extensions {
            Some(folder) => find_extensions(folder)
                .map_err(|name| QueryError::Extension { folder: folder.to_owned(), name })?,
            None => Vec::new(),
        };
        let id = lake.resolve(spec).await?;
        write!(self.out, "{}", views_sql(&id, &lake.tables(&id).await?, &files))?;
        Ok(())
    }

    /// Rows of one table; `None` if the commit has no such table.
    async fn read(
        &self,
        lake: &Lake,
        id: &CommitId,
        table: &str,
        columns: Option<Vec<String>>,
        limit: Option<usize>,
    ) -> Result<Option<Vec<Map<String, Value>>>, QueryError> {
        let name = TableName::new(table).map_err(|_| QueryError::TableName(table.to_owned()))?;
        if !lake.tables(id).await?.contains_key(&name) {
            return Ok(None);
        }
        let mut batches =
            lake.scan(id, &name, ScanOptions { columns, limit, ..ScanOptions::default() }).await?;
        let mut rows = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            rows.extend(row_values(&batch)?);
        }
        rows.truncate(limit.unwrap_or(usize::MAX));
        Ok(Some(rows))
    }
}

/// The commit `spec` names; none if it is the branch one asks about by default and the lake has no commit at all yet.
pub(super) async fn resolve(lake: &Lake, spec: &str) -> Result<Option<CommitId>, QueryError> {
    match lake.resolve(spec).await {
        Err(LakeError::UnknownRevision { .. })
            if spec == RefName::main().as_str() && lake.refs().list().await?.is_empty() =>
        {
            Ok(None)
        }
        id => Ok(Some(id?)),
    }
}

fn table_row(name: &TableName, entry: &headwater_lake::TableEntry) -> Map<String, Value> {
    object(json!({
        "name": name.to_string(),
        "rows": entry.rows,
        "bytes": entry.bytes,
        "snapshot_id": entry.snapshot_id,
        "metadata_location": entry.metadata_location,
    }))
}

fn field(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn field_of(row: &Map<String, Value>, name: &str) -> String {
    row.get(name).map_or_else(String::new, ToString::to_string)
}

/// Items of `ops.quarantine` by device, stream and reason. An item is held while it was set aside more often than it
/// was released.
fn asides(mut rows: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    let long = |row: &Map<String, Value>, name: &str| row.get(name).and_then(Value::as_i64);
    rows.sort_by_key(|row| long(row, "ts_ns"));
    let mut items: BTreeMap<String, (i64, i64, Map<String, Value>)> = BTreeMap::new();
    for row in rows {
        let parts = ["device", "epoch", "stream", "seq_lo", "seq_hi", "reason", "digest"];
        let key = parts.map(|part| field_of(&row, part)).join(" ");
        let released = row.get("released_by").is_some_and(|by| !by.is_null());
        let (held, times, kept) = items.entry(key).or_insert_with(|| (0, 0, row.clone()));
        *held += if released { -1 } else { 1 };
        *times += i64::from(released);
        if !released {
            *kept = row;
        }
    }
    let mut groups: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (held, times, row) in items.into_values() {
        let key = ["device", "stream", "reason"].map(|part| field_of(&row, part)).join(" ");
        let value = |name: &str| row.get(name).cloned().unwrap_or(Value::Null);
        let group = groups.entry(key).or_insert_with(|| {
            object(json!({"device": value("device"), "stream": value("stream"), "reason": value("reason"), "held": 0,
                "rows": 0, "released": 0, "first": value("ts"), "last": value("ts"), "detail": value("detail")}))
        });
        let held = i64::from(held > 0);
        let of_item = match (long(&row, "seq_lo"), long(&row, "seq_hi")) {
            (Some(lo), Some(hi)) => held * (hi - lo + 1),
            _ => 0,
        };
        for (name, more) in [("held", held), ("rows", of_item), ("released", times)] {
            let sum = long(group, name).unwrap_or(0) + more;
            group.insert(name.to_owned(), sum.into());
        }
        let text = |group: &Map<String, Value>, name: &str| field_of(group, name);
        if text(&row, "ts") < text(group, "first") {
            group.insert("first".to_owned(), value("ts"));
        }
        if text(&row, "ts") >= text(group, "last") {
            group.insert("last".to_owned(), value("ts"));
            group.insert("detail".to_owned(), value("detail"));
        }
    }
    groups.into_values().collect()
}

/// Of rows with one key, the one with the greatest `ts_ns`; in order of key.
fn newest_by(
    rows: Vec<Map<String, Value>>,
    key: impl Fn(&Map<String, Value>) -> String,
) -> Vec<Map<String, Value>> {
    let ts = |row: &Map<String, Value>| row.get("ts_ns").and_then(Value::as_i64).unwrap_or(i64::MIN);
    let mut newest: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for row in rows {
        match newest.get(&key(&row)) {
            Some(known) if ts(known) > ts(&row) => {}
            _ => drop(newest.insert(key(&row), row)),
        }
    }
    newest.into_values().collect()
}
