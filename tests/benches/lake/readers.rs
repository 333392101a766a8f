//! DuckDB on a table of ours beside DuckDB on plain Parquet of the same rows: what the table format costs its readers.

use super::bed::{self, MIDNIGHT_DAY, MIDNIGHT_NS};
use super::{Bench, NAME, python, verdict};
use anyhow::{Context, Result};
use headwater_lake::{CommitRequest, CompactScope, Lake, RefName, TableAppend};
use headwater_tests::lakes::{Upkeep, imu, imu_batch};
use headwater_tests::ticks::now;
use serde_json::json;
use std::path::Path;

/// Most that a query may take, of the same on plain files.
const OVERHEAD_MAX: f64 = 1.1;
const DEVICES: u32 = 10;
/// Rows a device brings to a commit.
const ROWS: i64 = 4_000;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let Some(python) = python::python() else {
        python::without("DuckDB on our tables");
        return Ok(());
    };
    let commits = bench.scale(100, 10);
    let folder = bench.folder("readers");
    let lake = bench.runtime.block_on(bed::local(&folder))?;
    for n in 0..commits {
        bench.bar.set_message(format!("rows to read, commit {n} of {commits}"));
        fill(bench, &lake, n)?;
    }
    bench.bar.set_message("DuckDB reads them");
    read(bench, &python, &lake, "as committed")?;
    bench.bar.set_message("compacting");
    let scope = CompactScope { table: None, day: Some(MIDNIGHT_DAY) };
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    let began = now();
    bench.runtime.block_on(Upkeep::new(&lake).settle(&mut writer, &scope, MIDNIGHT_NS / 1_000))?;
    let case = json!({"commits": commits, "rows": commits * i64::from(DEVICES) * ROWS});
    bench.sheet.add(NAME, case, "compacting a day", began.elapsed().as_secs_f64(), "s", json!({}));
    read(bench, &python, &lake, "compacted")
}

fn fill(bench: &Bench<'_>, lake: &Lake, n: i64) -> Result<()> {
    let start_ns = MIDNIGHT_NS + n * ROWS * 5_000_000;
    let mut batches = Vec::new();
    for device in 0..DEVICES {
        batches.push(imu_batch(&bench.recording, &bed::keys(device, n * ROWS, ROWS, start_ns, 5_000_000))?);
    }
    let appends = vec![TableAppend { spec: imu("imu"), batches }];
    let request = CommitRequest { time_us: start_ns / 1_000, appends, ..CommitRequest::default() };
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    bench.runtime.block_on(writer.commit(request))?;
    Ok(())
}

/// Queries `main`; `state` says what was done to the files.
fn read(bench: &mut Bench<'_>, python: &Path, lake: &Lake, state: &str) -> Result<()> {
    let tables = bench.runtime.block_on(async { lake.tables(&lake.resolve("main").await?).await })?;
    let entry = tables.get(&imu("imu").name).context("the lake has raw.imu")?;
    let plain = bench.folder(&format!("plain {state}"));
    let plain = plain.to_str().context("the folder is not UTF-8")?;
    let answer = python::run(python, "read_duckdb.py", &[&entry.metadata_location, plain])?;
    let number = |name: &str| python::number(&answer, name);
    anyhow::ensure!(number("rows")? == entry.rows as f64, "DuckDB reads {} rows", number("rows")?);
    for (query, metric) in [
        ("plan", "DuckDB, before it reads a row"),
        ("count", "DuckDB, rows counted"),
        ("mean", "DuckDB, mean of a column"),
        ("scan", "DuckDB, whole table by device"),
        ("minute", "DuckDB, one device, a twentieth of the time"),
    ] {
        let seconds = |table: &str| number(&format!("{query}_{table}_s"));
        let (ours, same, one) = (seconds("iceberg")?, seconds("same_files")?, seconds("one_file")?);
        let case = json!({"rows": entry.rows, "files": number("files")?, "manifests": number("manifests")?, "state": state});
        let mut beside = json!({"same_files": same * 1e3, "pyarrow_file": one * 1e3, "over_same_files": ours / same,
            "over_pyarrow_file": ours / one});
        if query != "plan" {
            beside["bar"] = json!(OVERHEAD_MAX);
            beside["verdict"] = json!(verdict(ours / same <= OVERHEAD_MAX));
            beside["verdict_pyarrow_file"] = json!(verdict(ours / one <= OVERHEAD_MAX));
        }
        bench.sheet.add(NAME, case, metric, ours * 1e3, "ms", beside);
    }
    Ok(())
}
