//! `headwater clock`: what a gateway's clock is worth, over time, and which of the fleet's is worst.

mod history;
mod svg;
mod text;
mod words;

use super::QueryError;
use super::show::{Printer, object, resolve};
use crate::commit::tables::Ops;
use futures::TryStreamExt;
use headwater_core::id::{BootOrdinal, DeviceId};
use headwater_core::time::Grade;
use headwater_lake::{CommitId, Lake, ScanOptions};
use history::{History, POINTS};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use text::Look;
use words::{duration, ppm, utc};

/// What is asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// Which gateway; none = the fleet.
    pub(super) device: Option<String>,
    /// Which boot of it; none = the newest.
    pub(super) boot: Option<u32>,
    /// Where to put a picture.
    pub(super) svg: Option<PathBuf>,
}

impl<W: Write> Printer<W> {
    /// Answers `headwater clock`.
    pub(super) async fn clock(&mut self, lake: &Lake, at: &str, asked: &Asked) -> Result<(), QueryError> {
        let id = resolve(lake, at).await?;
        match &asked.device {
            Some(device) => self.clock_of(lake, id.as_ref(), device, asked).await,
            None if asked.svg.is_some() => Err(QueryError::ClockOfWhom("--svg")),
            None if asked.boot.is_some() => Err(QueryError::ClockOfWhom("--boot")),
            None => self.clocks(lake, id.as_ref()).await,
        }
    }

    async fn clock_of(
        &mut self,
        lake: &Lake,
        id: Option<&CommitId>,
        name: &str,
        asked: &Asked,
    ) -> Result<(), QueryError> {
        // Before the lake is read, which may take long.
        if let Some(file) = &asked.svg {
            folder_of(file)?;
        }
        let device: DeviceId = name.parse().map_err(|_| QueryError::DeviceName(name.to_owned()))?;
        let rows = clock_rows(lake, id, Some(&device)).await?;
        let Some(history) = History::of(&device, &rows).map(History::sorted) else {
            return Err(nothing_known(lake, id, &device).await?);
        };
        let newest = history.boots.keys().next_back().copied().unwrap_or(BootOrdinal(0));
        let boot = asked.boot.map_or(newest, BootOrdinal);
        let Some(look) = Look::new(&history, boot, POINTS) else {
            let known: Vec<String> = history.boots.keys().map(|boot| boot.0.to_string()).collect();
            return Err(QueryError::NoBoot {
                device: device.to_string(),
                boot: boot.0,
                known: known.join(", "),
            });
        };
        if let Some(file) = &asked.svg {
            let written = std::fs::write(file, svg::draw(&look));
            written.map_err(|source| QueryError::Picture { file: file.clone(), source })?;
        }
        if self.json {
            writeln!(self.out, "{}", as_json(&look))?;
        } else {
            write!(self.out, "{}", look.text())?;
            if let Some(file) = &asked.svg {
                writeln!(self.out, "picture  {}", file.display())?;
            }
        }
        Ok(())
    }

    /// The fleet's clocks, worst first.
    async fn clocks(&mut self, lake: &Lake, id: Option<&CommitId>) -> Result<(), QueryError> {
        let rows = clock_rows(lake, id, None).await?;
        let mut devices = BTreeSet::new();
        for batch in &rows {
            let rows = crate::commit::read::ScannedRows(batch);
            devices
                .extend((0..rows.len()).filter_map(|row| rows.text("device", row)?.parse::<DeviceId>().ok()));
        }
        let mut clocks: Vec<_> = devices.iter().filter_map(|device| fleet_row(device, &rows)).collect();
        clocks.sort_by_key(|(worst, _)| *worst);
        let rows: Vec<Map<String, Value>> =
            clocks.into_iter().map(|(_, row)| if self.json { row } else { in_words(row) }).collect();
        let columns =
            ["device", "boot", "grade", "bound", "drift", "wall clock off by", "last row (UTC)", "sources"];
        self.list(&columns, &rows, "no clock rows yet: no gateway has shipped anything")
    }
}

/// The worst first: by grade, then by bound.
type Worst = (Grade, Reverse<i64>);

fn fleet_row(device: &DeviceId, rows: &[arrow_array::RecordBatch]) -> Option<(Worst, Map<String, Value>)> {
    let history = History::of(device, rows)?.sorted();
    let boot = history.boots.keys().next_back().copied()?;
    let last = history.last(boot)?;
    let sources: Vec<&str> = history.boots.get(&boot)?.sources.keys().map(String::as_str).collect();
    let row = json!({
        "device": device.as_str(),
        "boot": boot.0,
        "grade": last.grade.as_str(),
        "err_ns": last.err_ns,
        "drift_ppb": history.drift_ppb(boot).map(|(ppb, _)| ppb),
        "wall_offset_ns": history.wall(boot).last().map(|wall| wall.offset_ns),
        "ts_ns": last.ts.0,
        "sources": sources.join(" "),
    });
    Some(((last.grade, Reverse(last.err_ns)), object(row)))
}

fn in_words(mut row: Map<String, Value>) -> Map<String, Value> {
    let long = |row: &Map<String, Value>, name: &str| row.get(name).and_then(Value::as_i64);
    let bound = long(&row, "err_ns").map(|ns| format!("±{}", duration(ns)));
    let drift = long(&row, "drift_ppb").map(ppm);
    let wall = long(&row, "wall_offset_ns").map(duration);
    let last = long(&row, "ts_ns").map(|ns| utc(headwater_core::time::UtcNanos(ns)));
    for (name, words) in
        [("bound", bound), ("drift", drift), ("wall clock off by", wall), ("last row (UTC)", last)]
    {
        row.insert(name.to_owned(), words.map_or(Value::Null, Value::String));
    }
    row
}

/// Rows of `ops.clock`, of one device or all; none without the table.
async fn clock_rows(
    lake: &Lake,
    id: Option<&CommitId>,
    device: Option<&DeviceId>,
) -> Result<Vec<arrow_array::RecordBatch>, QueryError> {
    let table = Ops::Clock.table();
    let Some(id) = id else { return Ok(Vec::new()) };
    if !lake.tables(id).await?.contains_key(&table) {
        return Ok(Vec::new());
    }
    let device = device.map(|device| device.as_str().to_owned());
    let batches = lake.scan(id, &table, ScanOptions { device, ..ScanOptions::default() }).await?;
    Ok(batches.try_collect().await?)
}

/// Why there is no clock to show: who is not known, or has said nothing yet.
async fn nothing_known(
    lake: &Lake,
    id: Option<&CommitId>,
    device: &DeviceId,
) -> Result<QueryError, QueryError> {
    let mut known = BTreeSet::new();
    for table in [Ops::Devices.table(), Ops::Ledger.table()] {
        let Some(id) = id else { continue };
        if !lake.tables(id).await?.contains_key(&table) {
            continue;
        }
        let columns = Some(vec!["device".to_owned()]);
        let mut batches = lake.scan(id, &table, ScanOptions { columns, ..ScanOptions::default() }).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = crate::commit::read::ScannedRows(&batch);
            known.extend((0..rows.len()).filter_map(|row| rows.text("device", row)));
        }
    }
    let name = device.to_string();
    if known.contains(&name) {
        return Ok(QueryError::NoClock { device: name });
    }
    let known = if known.is_empty() {
        "none yet".to_owned()
    } else {
        known.into_iter().collect::<Vec<_>>().join(", ")
    };
    Ok(QueryError::NoDevice { device: name, known })
}

/// The folder a file is to lie in, which must be there.
fn folder_of(file: &Path) -> Result<(), QueryError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        Ok(())
    } else {
        Err(QueryError::NoFolder { file: file.to_owned(), folder: folder.to_owned() })
    }
}

fn as_json(look: &Look<'_>) -> Value {
    let last = look.points.last();
    let drift = look.history.drift_ppb(look.boot);
    let sources: Map<String, Value> = look
        .known
        .sources
        .iter()
        .map(|(name, source)| {
            (name.clone(), json!({"rows": source.rows, "grade": source.best.map(Grade::as_str)}))
        })
        .collect();
    let events: Vec<Value> = look
        .known
        .events
        .iter()
        .map(|event| json!({"b_ns": event.at.0, "event": event.what, "step_ns": event.step_ns}))
        .collect();
    let points: Vec<Value> = look
        .points
        .iter()
        .map(|point| {
            json!({"b_ns": point.at.0, "ts_ns": point.ts.0, "err_ns": point.err_ns, "grade": point.grade.as_str()})
        })
        .collect();
    let wall: Vec<Value> = look
        .wall
        .iter()
        .map(|wall| {
            json!({"b_ns": wall.at.0, "ts_ns": wall.ts.0, "offset_ns": wall.offset_ns, "err_ns": wall.err_ns})
        })
        .collect();
    json!({
        "device": look.history.device.as_str(),
        "epoch": look.history.epoch.to_string(),
        "boot": look.boot.0,
        "boots": look.history.boots.keys().map(|boot| boot.0).collect::<Vec<_>>(),
        "grade": last.map(|point| point.grade.as_str()),
        "err_ns": last.map(|point| point.err_ns),
        "drift_ppb": drift.map(|(ppb, _)| ppb),
        "drift_over_ns": drift.map(|(_, span)| span),
        "sources": sources,
        "events": events,
        "points": points,
        "wall": wall,
    })
}
