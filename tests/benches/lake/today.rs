//! Reading a day that is not over: a day's commits at the default cadence with compaction by itself, and at some hours of it
//! DuckDB on the table as it stands, beside a branch on which the same rows are compacted whole.

use super::bed::{self, CADENCE_LOCAL_S, MIDNIGHT_DAY, MIDNIGHT_NS, mean};
use super::{Bench, NAME, python, verdict};
use anyhow::{Context, Result};
use headwater_lake::{CommitRequest, CompactScope, Lake, LakeWriter, RefName, TableAppend};
use headwater_tests::lakes::{Key, Upkeep, small, small_batch};
use headwater_tests::ticks::now;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Most that a query may take, of the same on the day compacted.
const TODAY_MAX: f64 = 1.3;
const KIND: &str = "imu";
const DEVICES: u32 = 20;
/// Rows of a device in a commit; fewer for show.
const ROWS: i64 = 25;
const ROWS_QUICK: i64 = 5;
const HOUR_S: i64 = 3_600;
/// Only reading is measured here: commits need no disk under them.
const MEMORY: &str = "/dev/shm";

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let Some(python) = python::python() else {
        python::without("DuckDB on a day that is not over");
        return Ok(());
    };
    let looks: Vec<i64> = bench.scale(vec![6, 12, 18, 24], vec![1]);
    let place = if Path::new(MEMORY).is_dir() { PathBuf::from(MEMORY) } else { bench.home.path().to_owned() };
    let folder = tempfile::Builder::new().prefix("measure-today-").tempdir_in(place)?;
    let lake = bench.runtime.block_on(bed::local(folder.path()))?;
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    let mut upkeep = Upkeep::new(&lake);
    let (mut second, mut compact_s) = (0, Vec::new());
    for hour in looks {
        while second < hour * HOUR_S {
            if second % (HOUR_S / 4) == 0 {
                bench.bar.set_message(format!("{} h of a day, to {hour} h", second as f64 / HOUR_S as f64));
            }
            let request = request(second, bench.scale(ROWS, ROWS_QUICK))?;
            let time_us = request.time_us;
            bench.runtime.block_on(writer.commit(request))?;
            let began = now();
            bench.runtime.block_on(upkeep.settle(&mut writer, &CompactScope::default(), time_us))?;
            compact_s.push(began.elapsed().as_secs_f64());
            second += CADENCE_LOCAL_S;
        }
        look(bench, &python, &lake, hour, &compact_s)?;
    }
    Ok(())
}

fn request(second: i64, rows: i64) -> Result<CommitRequest> {
    let start_ns = MIDNIGHT_NS + second * 1_000_000_000;
    let step_ns = CADENCE_LOCAL_S * 1_000_000_000 / rows;
    let first = second / CADENCE_LOCAL_S * rows;
    let keys: Vec<Key> =
        (0..DEVICES).flat_map(|device| bed::keys(device, first, rows, start_ns, step_ns)).collect();
    let appends = vec![TableAppend { spec: small(KIND), batches: vec![small_batch(KIND, &keys)?] }];
    // Commits come when their rows are in: the day is never over while it is looked at.
    Ok(CommitRequest { time_us: start_ns / 1_000, appends, ..CommitRequest::default() })
}

fn look(bench: &mut Bench<'_>, python: &Path, lake: &Lake, hour: i64, compact_s: &[f64]) -> Result<()> {
    bench.bar.set_message(format!("DuckDB reads {hour} h of a day"));
    let name = RefName::new(format!("whole/{hour}"))?;
    let time_us = (MIDNIGHT_NS + hour * HOUR_S * 1_000_000_000) / 1_000;
    let scope = CompactScope { table: None, day: Some(MIDNIGHT_DAY) };
    let (ours, compacted) = bench.runtime.block_on(async {
        let main = lake.resolve("main").await?;
        lake.branch(&name, &main, "measure", time_us).await?;
        let mut writer: LakeWriter = lake.writer(name.clone(), "measure".to_owned());
        Upkeep::new(lake).settle(&mut writer, &scope, time_us).await?;
        anyhow::Ok((location(lake, "main").await?, location(lake, name.as_str()).await?))
    })?;
    let answer = python::run(python, "read_two.py", &[&ours, &compacted, "2026-11-23 00:00:00"])?;
    let number = |name| python::number(&answer, name);
    let ratio = number("ours_s")? / number("compacted_s")?;
    let case = json!({"hour": hour, "rows": number("rows")?, "cadence_s": CADENCE_LOCAL_S});
    let beside = json!({"bar": TODAY_MAX, "verdict": verdict(ratio <= TODAY_MAX), "ms": number("ours_s")? * 1e3,
        "compacted_ms": number("compacted_s")? * 1e3, "files": number("ours_files")?, "compacted_files": number("compacted_files")?});
    bench.sheet.add(NAME, case.clone(), "DuckDB on today, of the same compacted", ratio, "x", beside);
    let longest = compact_s.iter().copied().fold(0.0, f64::max);
    let beside = json!({"longest": longest * 1e3});
    bench.sheet.add(NAME, case, "compaction after a commit", mean(compact_s) * 1e3, "ms", beside);
    Ok(())
}

async fn location(lake: &Lake, at: &str) -> Result<String> {
    let tables = lake.tables(&lake.resolve(at).await?).await?;
    Ok(tables.get(&small(KIND).name).context("the lake has the table")?.metadata_location.clone())
}
