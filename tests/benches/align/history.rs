//! From raw rows of a lake to aligned rows committed on a branch, as `headwater align` does it: rows a second end to end, with
//! one job and with two.

use super::{Bench, NAME, verdict};
use crate::cpu::cpu_time;
use anyhow::{Context, Result, ensure};
use headwater_align::recipe::Recipe;
use headwater_collector::backfill::{Backfill, Report, Sizes, run};
use headwater_collector::receive::clock::SystemClock;
use headwater_lake::{CommitRequest, Lake, RefName, TableAppend, TableName};
use headwater_tests::lakes::{Key, Recording, imu, imu_batch, ledger, ledger_runs, small, small_batch};
use headwater_tests::ticks::now;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// 2026-11-23T00:00:00Z, ns.
const MIDNIGHT_NS: i64 = 1_795_392_000_000_000_000;
const NS_PER_S: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;
const DEVICES: u32 = 8;
const DAYS: i64 = 2;
/// How long devices speak each day, and how much of it is one commit, s.
const SPOKEN_S: i64 = 3_600;
const COMMIT_S: i64 = 600;
const IMU_HZ: i64 = 100;
const FRAME_HZ: i64 = 10;
/// Of the time of one job, that two jobs may take on two cores: commits are made by one.
const TWO_JOBS_MAX: f64 = 0.7;

const RECIPE: &str = "
headwater_recipe = 1
name = 'drive'
[spine]
stream = 'frame'
select = ['value']
[[column]]
name = 'near'
stream = 'imu'
select = ['accel_x', 'accel_y', 'accel_z']
method = 'nearest'
tolerance = '50ms'
[[column]]
name = 'turn'
stream = 'imu'
select = ['gyro_x', 'gyro_y', 'gyro_z']
method = 'linear'
max_gap = '50ms'
uncertainty = true
[[column]]
name = 'shake'
stream = 'imu'
select = ['accel_x', 'accel_y', 'accel_z']
method = 'window'
window = { from = '-500ms', to = '0s' }
stats = ['count', 'mean', 'std']
";

pub(super) fn measure(bench: &mut Bench<'_>, data: &Path, quick: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (days, spoken_s) = if quick { (1, COMMIT_S) } else { (DAYS, SPOKEN_S) };
    let folder = bench.home.path().join("history");
    let raw = Raw { recording: Recording::read(data)?, days, spoken_s };
    bench.bar.set_message("raw rows of a fleet");
    let lake = runtime.block_on(raw.fill(&folder))?;
    let mut found = Vec::new();
    for jobs in [1, 2] {
        bench.bar.set_message(format!("history aligned by {jobs} jobs"));
        found.push(runtime.block_on(aligned(&lake, jobs))?);
    }
    let (imu, frames) = (raw.rows(IMU_HZ), raw.rows(FRAME_HZ));
    for one in &found {
        let Report { rows, left_out, open, commits, units, .. } = one.report;
        // The last rows of each stretch wait for samples that never come.
        ensure!(rows + open == frames && left_out == 0, "not every frame gave a row: {:?}", one.report);
        let case = json!({"raw_rows": imu + frames, "aligned_rows": rows, "columns": 3, "jobs": one.jobs});
        let beside = json!({"wall_s": one.wall_s, "cpu_s": one.cpu_s, "commits": commits, "parts": units,
            "aligned_a_second": rows as f64 / one.wall_s});
        let speed = (imu + frames) as f64 / one.wall_s / 1e6;
        bench.sheet.add(NAME, case, "raw rows a second, raw to commit", speed, "M", beside);
    }
    let [one, two] = found.as_slice() else { return Ok(()) };
    ensure!(one.files == two.files, "two jobs wrote other files than one");
    let ratio = two.wall_s / one.wall_s;
    let beside = json!({"bar": TWO_JOBS_MAX, "verdict": verdict(ratio <= TWO_JOBS_MAX), "cpu": two.cpu_s / one.cpu_s, "same_files": one.files.len()});
    bench.sheet.add(NAME, json!({"jobs": 2}), "time of one job", ratio, "x", beside);
    Ok(())
}

/// A fleet's raw rows.
struct Raw {
    recording: Recording,
    days: i64,
    spoken_s: i64,
}

impl Raw {
    fn rows(&self, hz: i64) -> u64 {
        u64::from(DEVICES) * (self.days * self.spoken_s * hz).unsigned_abs()
    }

    /// A lake with them, as commits of ten minutes left them.
    async fn fill(&self, folder: &Path) -> Result<Lake> {
        let lake = Lake::init(folder.to_str().context("the folder is not UTF-8")?).await?;
        let mut writer = lake.writer(RefName::main(), "measure".to_owned());
        for day in 0..self.days {
            for part in 0..self.spoken_s / COMMIT_S {
                let second = part * COMMIT_S;
                let start_ns = MIDNIGHT_NS + (day * DAY_S + second) * NS_PER_S;
                // Seqs go on over midnight.
                let from_s = day * self.spoken_s + second;
                writer.commit(self.request(start_ns, from_s)?).await?;
            }
        }
        Ok(lake)
    }

    fn request(&self, start_ns: i64, from_s: i64) -> Result<CommitRequest> {
        let (mut motion, mut frames) = (Vec::new(), Vec::new());
        let (mut motion_runs, mut frame_runs) = (Vec::new(), Vec::new());
        for device in 1..=DEVICES {
            for (hz, all, runs) in
                [(IMU_HZ, &mut motion, &mut motion_runs), (FRAME_HZ, &mut frames, &mut frame_runs)]
            {
                let step_ns = NS_PER_S / hz;
                let key = |n: i64| Key { device, seq: from_s * hz + n, at_ns: start_ns + n * step_ns };
                let n = COMMIT_S * hz;
                all.extend((0..n).map(key));
                runs.push((key(0), key(n - 1)));
            }
        }
        let appends = vec![
            TableAppend { spec: imu("imu"), batches: vec![imu_batch(&self.recording, &motion)?] },
            TableAppend { spec: small("frame"), batches: vec![small_batch("frame", &frames)?] },
            TableAppend {
                spec: ledger(),
                batches: vec![
                    ledger_runs("imu", "imu", &motion_runs)?,
                    ledger_runs("frame", "frame", &frame_runs)?,
                ],
            },
        ];
        Ok(CommitRequest { time_us: start_ns / 1_000, appends, ..CommitRequest::default() })
    }
}

/// One run.
struct Aligned {
    jobs: usize,
    report: Report,
    wall_s: f64,
    cpu_s: f64,
    /// Checksums of what it wrote.
    files: BTreeSet<String>,
}

async fn aligned(lake: &Lake, jobs: usize) -> Result<Aligned> {
    let on = RefName::new(format!("jobs/{jobs}"))?;
    let asked = Backfill {
        recipe: Recipe::parse(RECIPE)?,
        on: on.clone(),
        from: None,
        since_us: None,
        until_us: None,
        jobs,
        author: "measure".to_owned(),
        sizes: Sizes::default(),
    };
    let (began, spent) = (now(), cpu_time()?);
    let report = run(lake, &asked, &SystemClock, |_| {}).await?;
    let (wall_s, cpu_s) = (began.elapsed().as_secs_f64(), (cpu_time()? - spent).as_secs_f64());
    let head = lake.resolve(on.as_str()).await?;
    let mut files = BTreeSet::new();
    for file in lake.table_files(&head, &TableName::new("aligned.drive")?).await? {
        files.insert(lake.checksum(&file.location).await?.1);
    }
    Ok(Aligned { jobs, report, wall_s, cpu_s, files })
}
