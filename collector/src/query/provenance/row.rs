//! `headwater lineage`: from an aligned row to the samples it was made of and the messages that brought them, and from a
//! commit to what it was made from.

use crate::commit::cells::Cell;
use crate::commit::read::ScannedRows;
use crate::commit::tables::Ops;
use crate::query::QueryError;
use crate::query::show::Printer;
use futures::TryStreamExt;
use headwater_lake::{CommitId, CommitKind, Compare, Condition, Lake, LakeError, ScanOptions, TableName};
use serde_json::{Map, Value, json};
use std::io::Write;

/// Bits of a source's flags, in words.
const FLAGS: [(i64, &str); 12] = [
    (1, "no sample there"),
    (2, "nearest sample beyond the tolerance"),
    (4, "neighbours too far apart"),
    (8, "another sample could be the match within the uncertainty"),
    (16, "value is the fallback"),
    (32, "extrapolated"),
    (64, "samples may straddle an edge of the window"),
    (128, "from another boot: the distance is one of UTC"),
    (256, "a source is only ordered in time"),
    (512, "samples in between are recorded as missing"),
    (1024, "a source came after the row was final first"),
    (2048, "list was cut"),
];

/// What is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) table: String,
    pub(super) what: String,
    pub(super) device: Option<String>,
    pub(super) at: String,
}

/// Samples an aligned row names.
#[derive(Debug, Clone)]
struct Named {
    device: String,
    stream: String,
    epoch: String,
    seqs: (i64, i64),
}

/// Answers the verb: a row key has slashes and ends with a number, and no ref of that name is looked for then.
pub(super) async fn lineage<W: Write>(
    lake: &Lake,
    printer: &mut Printer<W>,
    asked: &Asked,
) -> Result<(), QueryError> {
    let table =
        TableName::new(asked.table.clone()).map_err(|_| QueryError::TableName(asked.table.clone()))?;
    let is_key = asked.what.rsplit_once('/').is_some_and(|(_, last)| last.parse::<i64>().is_ok());
    let found = match is_key {
        true => of_row(lake, &table, asked).await?,
        false => of_commit(lake, &table, &asked.what).await?,
    };
    if printer.json {
        writeln!(printer.out, "{found}")?;
    } else {
        write(&mut printer.out, &found, 0)?;
    }
    Ok(())
}

/// Objects as indented lines.
fn write(out: &mut impl Write, value: &Value, depth: usize) -> std::io::Result<()> {
    let Value::Object(members) = value else { return writeln!(out, "{value}") };
    for (name, member) in members {
        let indent = "  ".repeat(depth);
        match member {
            Value::Object(_) => {
                writeln!(out, "{indent}{name}")?;
                write(out, member, depth.saturating_add(1))?;
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for item in items {
                    writeln!(out, "{indent}{name}")?;
                    write(out, item, depth.saturating_add(1))?;
                }
            }
            Value::Array(items) => {
                let words: Vec<String> = items.iter().map(plain).collect();
                writeln!(out, "{indent}{name:<12} {}", words.join("; "))?;
            }
            Value::Null => {}
            other => writeln!(out, "{indent}{name:<12} {}", plain(other))?,
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The newest commit up to `spec` that made the table what it is, and all it names.
async fn of_commit(lake: &Lake, table: &TableName, spec: &str) -> Result<Value, QueryError> {
    let at = lake.resolve(spec).await?;
    let mut commit = lake.commit_object(&at).await?;
    // Commits of raw rows in between say nothing of it.
    while let Some(parent) = commit.parents.first().cloned() {
        let Ok(before) = lake.commit_object(&parent).await else { break };
        if before.tables.get(table) != commit.tables.get(table) {
            break;
        }
        commit = before;
    }
    if !commit.tables.contains_key(table) {
        let known = commit.tables.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(QueryError::NoTable { table: table.to_string(), commit: at.short().to_owned(), known });
    }
    let gates: Vec<Value> = commit
        .gates
        .iter()
        .map(|gate| json!(format!("{} {}: {}", gate.name, gate.version, gate.verdict)))
        .collect();
    Ok(json!({
        "table": table.to_string(),
        "commit": commit.id.to_string(),
        "kind": commit.kind.as_str(),
        "message": commit.message,
        "author": commit.author,
        "inputs": commit.lineage.inputs,
        "recipes": commit.lineage.recipes,
        "commands": commit.lineage.commands,
        "gates": gates,
        "clock_tracks": commit.lineage.clock_tracks,
        "collector": commit.lineage.software.collector,
        "agents": commit.lineage.software.agents,
        "aligned": commit.kind == CommitKind::Align,
    }))
}

async fn of_row(lake: &Lake, table: &TableName, asked: &Asked) -> Result<Value, QueryError> {
    let at = lake.resolve(&asked.at).await?;
    let conditions = vec![equal("row_key", &asked.what)];
    let options = ScanOptions { conditions, device: asked.device.clone(), ..ScanOptions::default() };
    let mut batches = lake.scan(&at, table, options).await?;
    let mut rows = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        for row in 0..batch.num_rows() {
            rows.push(batch.slice(row, 1));
        }
    }
    let device = |batch: &arrow_array::RecordBatch| ScannedRows(batch).text("device", 0).unwrap_or_default();
    let [batch] = rows.as_slice() else {
        let devices: Vec<String> = rows.iter().map(device).collect();
        return Err(QueryError::NoRow {
            key: asked.what.clone(),
            table: table.to_string(),
            devices: devices.join(", "),
        });
    };
    let row = ScannedRows(batch);
    let own = device(batch);
    let mut columns = Vec::new();
    for field in batch.schema_ref().fields() {
        let Some(name) = field.name().strip_suffix("_src") else { continue };
        columns.push(column(lake, &at, row, &own, name).await?);
    }
    let spine = match spine_of(&own, &asked.what) {
        Some(named) => samples(lake, &at, &named).await?,
        None => Value::Null,
    };
    Ok(json!({
        "table": table.to_string(),
        "row_key": asked.what,
        "device": own,
        "ts_ns": long(&row.cell("ts_ns", 0)),
        "ts_err_ns": long(&row.cell("ts_err_ns", 0)),
        "grade": row.text("grade", 0),
        "provisional": row.cell("provisional", 0) == Cell::Bool(true),
        "spine": spine,
        "columns": columns,
    }))
}

/// The spine sample that a row key names; a point of a grid is none.
fn spine_of(device: &str, key: &str) -> Option<Named> {
    let (epoch, rest) = key.split_once('/')?;
    let (stream, seq) = rest.rsplit_once('/')?;
    let seq = seq.parse().ok()?;
    let (device, stream, epoch) = (device.to_owned(), stream.to_owned(), epoch.to_owned());
    Some(Named { device, stream, epoch, seqs: (seq, seq) })
}

async fn column(
    lake: &Lake,
    at: &CommitId,
    row: ScannedRows<'_>,
    device: &str,
    name: &str,
) -> Result<Value, QueryError> {
    let source = format!("{name}_src");
    let member = |member: &str| row.member(&source, member, 0);
    let text = |cell: Cell| match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    };
    let flag = long(&member("flag")).unwrap_or(0);
    let flags: Vec<&str> = FLAGS.iter().filter(|(bit, _)| flag & bit != 0).map(|(_, word)| *word).collect();
    let seqs = long(&member("seq_lo")).zip(long(&member("seq_hi")));
    let named = text(member("stream")).zip(text(member("epoch"))).zip(seqs);
    let named = named.map(|((stream, epoch), seqs)| Named { device: device.to_owned(), stream, epoch, seqs });
    let samples = match &named {
        Some(named) => samples(lake, at, named).await?,
        None => Value::Null,
    };
    Ok(json!({
        "column": name,
        "dt_ns": long(&member("dt_ns")),
        "err_ns": long(&member("err_ns")),
        "n": long(&member("n")),
        "flags": flags,
        "samples": samples,
    }))
}

/// Which raw rows these are, and the messages that brought them. A site's sample may be of another of its devices.
async fn samples(lake: &Lake, at: &CommitId, named: &Named) -> Result<Value, QueryError> {
    let (lo, hi) = named.seqs;
    let of = vec![
        equal("stream", &named.stream),
        equal("epoch", &named.epoch),
        Condition { column: "seq_lo".to_owned(), compare: Compare::LessOrEqual, value: hi.to_string() },
        Condition { column: "seq_hi".to_owned(), compare: Compare::GreaterOrEqual, value: lo.to_string() },
    ];
    let options = ScanOptions { conditions: of, ..ScanOptions::default() };
    let mut batches = lake.scan(at, &Ops::Ledger.table(), options).await?;
    let (mut kind, mut device, mut landed) = (None, None, Vec::new());
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        for row in 0..rows.len() {
            kind = kind.or_else(|| rows.text("kind", row));
            device = device.or_else(|| rows.text("device", row));
            if let Some(incarnation) = rows.text("incarnation", row) {
                let place = |name: &str| rows.long(name, row).unwrap_or_default();
                landed.push(format!("{incarnation} {}..{}", place("landing_lo"), place("landing_hi")));
            }
        }
    }
    let mut found = json!({
        "table": kind.map(|kind| format!("raw.{kind}")),
        "device": device.unwrap_or_else(|| named.device.clone()),
        "stream": named.stream,
        "epoch": named.epoch,
        "seqs": if lo == hi { json!(lo) } else { json!([lo, hi]) },
        "landing": landed,
    });
    let stamps = stamps(lake, at, &found, named).await?;
    if let Value::Object(members) = &mut found {
        members.extend(stamps);
    }
    Ok(found)
}

/// Times of the first of the samples, as it lies in its raw table.
async fn stamps(
    lake: &Lake,
    at: &CommitId,
    found: &Value,
    named: &Named,
) -> Result<Map<String, Value>, QueryError> {
    let table = found["table"].as_str().and_then(|table| TableName::new(table).ok());
    let Some(table) = table else { return Ok(Map::new()) };
    let seq = named.seqs.0.to_string();
    let conditions = vec![
        equal("stream", &named.stream),
        equal("epoch", &named.epoch),
        Condition { column: "seq".to_owned(), compare: Compare::Equal, value: seq },
    ];
    let names = ["boot_ordinal", "boot_ns", "ts_ns", "ts_err_ns", "grade", "track"];
    let columns = Some(names.map(str::to_owned).to_vec());
    let device = found["device"].as_str().map(str::to_owned);
    let options = ScanOptions { columns, conditions, device, limit: Some(1), ..ScanOptions::default() };
    let mut batches = match lake.scan(at, &table, options).await {
        Ok(batches) => batches,
        Err(LakeError::UnknownTable { .. }) => return Ok(Map::new()),
        Err(error) => return Err(error.into()),
    };
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        if rows.is_empty() {
            continue;
        }
        let value = |name: &str| match rows.cell(name, 0) {
            Cell::Text(text) => json!(text),
            cell => json!(long(&cell)),
        };
        return Ok(names.iter().map(|name| ((*name).to_owned(), value(name))).collect());
    }
    Ok(Map::new())
}

fn equal(column: &str, value: &str) -> Condition {
    Condition { column: column.to_owned(), compare: Compare::Equal, value: value.to_owned() }
}

fn long(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Long(n) => Some(*n),
        _ => None,
    }
}
