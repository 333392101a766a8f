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

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let devices = bench.scale(BATCHES, 200);
    let seconds = bench.scale(20, 3);
    let source = bench.folder("rows.arrow");
    let folder = bench.folder("ingest");
    let lake = bench.runtime.block_on(bed::local(&folder))?;
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    let mut arrow: Option<FileWriter<std::fs::File>> = None;
    let (mut took_s, mut rows, mut bytes) = (Vec::new(), 0_u64, 0_u64);
    for n in 0..seconds {
        bench.bar.set_message(format!("second {n} of {devices} batches"));
        let Second { batches, runs, time_us } = second(&bench.recording, devices, n)?;
        keep(&mut arrow, &source, &batches)?;
        let ledger = TableAppend { spec: ledger(), batches: vec![ledger_batch("imu", "imu", &runs)?] };
        let appends = vec![TableAppend { spec: imu("imu"), batches }, ledger];
        let request = CommitRequest { time_us, appends, ..CommitRequest::default() };
        let began = now();
        let committed = bench.runtime.block_on(writer.commit(request))?;
        took_s.push(began.elapsed().as_secs_f64());
        let imu = committed.commit.tables.get(&imu("imu").name).context("the commit has raw.imu")?;
        (rows, bytes) = (imu.rows, imu.bytes);
    }
    arrow.context("a second has batches")?.finish()?;
    report(bench, devices, &took_s, rows, bytes, &source)
}

/// Keeps the second's rows as one record batch for the others.
fn keep(arrow: &mut Option<FileWriter<std::fs::File>>, path: &Path, batches: &[RecordBatch]) -> Result<()> {
    let schema: SchemaRef = batches.first().context("a second has batches")?.schema();
    let rows = arrow_select::concat::concat_batches(&schema, batches)?;
    let writer = match arrow {
        Some(writer) => writer,
        None => arrow.insert(FileWriter::try_new(std::fs::File::create(path)?, &schema)?),
    };
    Ok(writer.write(&rows)?)
}

fn report(
    bench: &mut Bench<'_>,
    devices: u32,
    took_s: &[f64],
    rows: u64,
    bytes: u64,
    source: &Path,
) -> Result<()> {
    let case = json!({"batches": devices, "rows_a_batch": BATCH_ROWS, "seconds": took_s.len()});
    let megabytes = std::fs::metadata(source)?.len() as f64 / 1e6;
    let sum_s: f64 = took_s.iter().sum();
    let worst = quantile(took_s, 1.0);
    let beside = json!({"bar": 1.0, "verdict": verdict(mean(took_s) <= 1.0), "worst": worst,
        "batches_per_s": f64::from(devices) / mean(took_s)});
    bench.sheet.add(NAME, case.clone(), "a second's batches into one commit", mean(took_s), "s", beside);
    let (mut rate, mut speed, mut size) = (json!({}), json!({}), json!({}));
    if let Some(python) = python::python() {
        bench.bar.set_message("pyarrow writes the same rows");
        let folder = bench.folder("pyarrow");
        let answer = python::run(&python, "write_pyarrow.py", &[source, &folder])?;
        let number = |name| python::number(&answer, name);
        anyhow::ensure!(number("rows")? == rows as f64, "pyarrow read {} rows of {rows}", number("rows")?);
        rate = json!({"pyarrow": rows as f64 / number("plain_s")?, "pyarrow_sorted": rows as f64 / number("sorted_s")?});
        speed = json!({"pyarrow": megabytes / number("plain_s")?, "pyarrow_sorted": megabytes / number("sorted_s")?});
        size = json!({"pyarrow": number("plain_bytes")? / rows as f64, "pyarrow_sorted": number("sorted_bytes")? / rows as f64,
            "ratio": number("plain_bytes")? / bytes as f64});
    } else {
        python::without("pyarrow writing the same rows");
    }
    bench.sheet.add(NAME, case.clone(), "rows into synced commits", rows as f64 / sum_s, "rows/s", rate);
    bench.sheet.add(NAME, case.clone(), "the same, as bytes of Arrow", megabytes / sum_s, "MB/s", speed);
    bench.sheet.add(NAME, case, "size of a row, zstd 3", bytes as f64 / rows as f64, "B/row", size);
    Ok(())
}
