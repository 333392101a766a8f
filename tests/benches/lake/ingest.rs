//! Ten thousand small batches a second, folded into one commit a second; beside it pyarrow, which writes the same rows as
//! bare Parquet files and makes no table, no history and no commit of them.

use super::bed::{self, MIDNIGHT_NS, mean, quantile};
use super::{Bench, NAME, python, verdict};
use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use arrow_schema::SchemaRef;
use headwater_lake::{CommitRequest, RefName, TableAppend};
use headwater_tests::lakes::{Key, Recording, imu, imu_batch, ledger, ledger_batch};
use headwater_tests::ticks::now;
use serde_json::json;
use std::path::Path;

/// Batches a second: what ten thousand devices send that each speak once a second.
const BATCHES: u32 = 10_000;
/// Rows of a batch.
const BATCH_ROWS: i64 = 10;
const STEP_NS: i64 = 5_000_000;

/// What a second brings, as batches of the devices.
struct Second {
    batches: Vec<RecordBatch>,
    runs: Vec<(Key, i64)>,
    time_us: i64,
}

fn second(recording: &Recording, devices: u32, n: i64) -> Result<Second> {
    let start_ns = MIDNIGHT_NS + n * 1_000_000_000;
    let (mut batches, mut runs) = (Vec::new(), Vec::new());
    for device in 0..devices {
        let keys = bed::keys(device, n * BATCH_ROWS, BATCH_ROWS, start_ns, STEP_NS);
        runs.push((*keys.first().context("a batch has rows")?, BATCH_ROWS));
        batches.push(imu_batch(recording, &keys)?);
    }
    Ok(Second { batches, runs, time_us: start_ns / 1_000 + 1_000_000 })
}

/// How a second's rows come to the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A record batch of each device.
    Batches,
    /// One of all, as the collector lays out what it has folded, and as pyarrow gets it.
    Folded,
}

/// What a form cost.
struct Cost {
    took_s: Vec<f64>,
    rows: u64,
    bytes: u64,
}

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let source = bench.folder("rows.arrow");
    let batches = commit(bench, Form::Batches, &source)?;
    let folded = commit(bench, Form::Folded, &source)?;
    report(bench, &batches, &folded, &source)
}

/// Commits the seconds into a lake of their own; the first form leaves the rows in `source`.
fn commit(bench: &Bench<'_>, form: Form, source: &Path) -> Result<Cost> {
    let devices = bench.scale(BATCHES, 200);
    let seconds = bench.scale(20, 3);
    let lake = bench.runtime.block_on(bed::local(&bench.folder(&format!("ingest {form:?}"))))?;
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    let mut arrow: Option<FileWriter<std::fs::File>> = None;
    let mut cost = Cost { took_s: Vec::new(), rows: 0, bytes: 0 };
    for n in 0..seconds {
        bench.bar.set_message(format!("second {n} of {devices} batches, {form:?}"));
        let Second { mut batches, runs, time_us } = second(&bench.recording, devices, n)?;
        match form {
            Form::Batches => keep(&mut arrow, source, &batches)?,
            Form::Folded => batches = vec![folded(&batches)?],
        }
        let ledger = TableAppend { spec: ledger(), batches: vec![ledger_batch("imu", "imu", &runs)?] };
        let appends = vec![TableAppend { spec: imu("imu"), batches }, ledger];
        let request = CommitRequest { time_us, appends, ..CommitRequest::default() };
        let began = now();
        let committed = bench.runtime.block_on(writer.commit(request))?;
        cost.took_s.push(began.elapsed().as_secs_f64());
        let imu = committed.commit.tables.get(&imu("imu").name).context("the commit has raw.imu")?;
        (cost.rows, cost.bytes) = (imu.rows, imu.bytes);
    }
    if form == Form::Batches {
        arrow.context("a second has batches")?.finish()?;
    }
    Ok(cost)
}

fn folded(batches: &[RecordBatch]) -> Result<RecordBatch> {
    let schema: SchemaRef = batches.first().context("a second has batches")?.schema();
    Ok(arrow_select::concat::concat_batches(&schema, batches)?)
}

/// Keeps the second's rows as one record batch for the others.
fn keep(arrow: &mut Option<FileWriter<std::fs::File>>, path: &Path, batches: &[RecordBatch]) -> Result<()> {
    let rows = folded(batches)?;
    let writer = match arrow {
        Some(writer) => writer,
        None => arrow.insert(FileWriter::try_new(std::fs::File::create(path)?, &rows.schema())?),
    };
    Ok(writer.write(&rows)?)
}

fn report(bench: &mut Bench<'_>, batches: &Cost, folded: &Cost, source: &Path) -> Result<()> {
    let devices = bench.scale(BATCHES, 200);
    let took_s = &batches.took_s;
    let case = json!({"batches": devices, "rows_a_batch": BATCH_ROWS, "seconds": took_s.len()});
    let beside = json!({"bar": 1.0, "verdict": verdict(mean(took_s) <= 1.0), "worst": quantile(took_s, 1.0),
        "batches_per_s": f64::from(devices) / mean(took_s)});
    bench.sheet.add(NAME, case, "a second's batches into one commit", mean(took_s), "s", beside);
    let megabytes = std::fs::metadata(source)?.len() as f64 / 1e6;
    let pyarrow = pyarrow(bench, batches, source)?;
    for (form, cost) in [("a batch a device", batches), ("folded", folded)] {
        let case = json!({"rows_a_commit": i64::from(devices) * BATCH_ROWS, "commits": cost.took_s.len(), "form": form});
        // A commit has a place in the median as often as the disk makes one wait: the mean says what a day takes.
        let per_s = |amount: f64| amount / cost.took_s.iter().sum::<f64>();
        let rows = cost.rows as f64;
        let p50 = rows / cost.took_s.len() as f64 / quantile(&cost.took_s, 0.5);
        let mut beside = json!({"p50": p50, "MB_of_arrow_per_s": per_s(megabytes)});
        if let Some(pyarrow) = &pyarrow {
            beside["pyarrow"] = json!(rows / pyarrow.plain_s);
            beside["pyarrow_sorted"] = json!(rows / pyarrow.sorted_s);
            beside["of_pyarrow_sorted"] = json!(per_s(rows) * pyarrow.sorted_s / rows);
        }
        bench.sheet.add(NAME, case, "rows into synced commits", per_s(rows), "rows/s", beside);
    }
    let case = json!({"rows_a_file": i64::from(devices) * BATCH_ROWS});
    let size = folded.bytes as f64 / folded.rows as f64;
    let beside = pyarrow.map_or(json!({}), |pyarrow| {
        json!({"pyarrow": pyarrow.plain_bytes / folded.rows as f64, "pyarrow_sorted": pyarrow.sorted_bytes / folded.rows as f64,
            "ratio": pyarrow.plain_bytes / folded.bytes as f64})
    });
    bench.sheet.add(NAME, case, "size of a row, zstd 3", size, "B/row", beside);
    Ok(())
}

/// What pyarrow took for the same rows, in the order they came and sorted as the lake sorts.
struct Pyarrow {
    plain_s: f64,
    sorted_s: f64,
    plain_bytes: f64,
    sorted_bytes: f64,
}

fn pyarrow(bench: &Bench<'_>, ours: &Cost, source: &Path) -> Result<Option<Pyarrow>> {
    let Some(python) = python::python() else {
        python::without("pyarrow writing the same rows");
        return Ok(None);
    };
    bench.bar.set_message("pyarrow writes the same rows");
    let folder = bench.folder("pyarrow");
    let answer = python::run(&python, "write_pyarrow.py", &[source, &folder])?;
    let number = |name| python::number(&answer, name);
    anyhow::ensure!(
        number("rows")? == ours.rows as f64,
        "pyarrow read {} rows of {}",
        number("rows")?,
        ours.rows
    );
    Ok(Some(Pyarrow {
        plain_s: number("plain_s")?,
        sorted_s: number("sorted_s")?,
        plain_bytes: number("plain_bytes")?,
        sorted_bytes: number("sorted_bytes")?,
    }))
}
