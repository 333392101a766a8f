//! What one row costs that comes after everything around it was aligned and published: a collector starts with nothing to do,
//! and again with that row in its log. In a day of data and in an hour of it, for the cost must not follow what is stored.

use super::{Bench, NAME, verdict};
use crate::cpu::cpu_time;
use anyhow::{Context, Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use fleet::{CLOCK, GAPS, Gateway, IMU, MemoryLog, Record, START, imu_schema, settings};
use futures::TryStreamExt;
use headwater_align::recipe::Recipe;
use headwater_collector::ingest::{self, IngestDeps};
use headwater_collector::land::CommitMark;
use headwater_collector::registry::Registry;
use headwater_core::batch::Section;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{Seq, StreamId, StreamName};
use headwater_core::sample::Value;
use headwater_core::schema::{Logical, Schema, builtin};
use headwater_core::time::{BootNanos, NS_PER_MS, NS_PER_S, UtcNanos};
use headwater_lake::{CommitId, FileRole, Lake, RefName, ScanOptions, TableName};
use headwater_sim::clock::SimClock;
use headwater_tests::ticks::now;
use serde_json::json;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[path = "../../../collector/tests/it/ingest_world/mod.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the fleet of the collector's own tests, which use more of it"
)]
mod fleet;

const FRAME: StreamId = StreamId(9);
const IMU_HZ: u64 = 100;
const FRAME_HZ: u64 = 10;
/// Seconds of a message.
const MESSAGE_S: u64 = 10;
/// When capturing begins, after the gateway's boot.
const BEGIN_S: u64 = 20;
/// Of the time that a late row takes in an hour of data, that it may take in a day of it.
const DAY_TO_HOUR_MAX: f64 = 2.0;
/// A life of a collector ends after some windows: the next goes on.
const LIVES_MAX: usize = 200;

const RECIPE: &str = "
headwater_recipe = 1
name = 'drive'
[spine]
stream = 'frame'
select = ['n']
[[column]]
name = 'near'
stream = 'imu'
select = ['n']
method = 'nearest'
tolerance = '50ms'
[[column]]
name = 'shake'
stream = 'imu'
select = ['accel_x']
method = 'window'
window = { from = '-500ms', to = '0s' }
stats = ['count', 'mean']
[watermark]
allowed_lateness = '3d'
";

pub(super) fn measure(bench: &mut Bench<'_>, quick: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let hours: &[u64] = if quick { &[1] } else { &[1, 24] };
    let mut found = Vec::new();
    for hours in hours {
        bench.bar.set_message(format!("one late row in {hours} h of data"));
        let folder = bench.home.path().join(format!("late-{hours}"));
        let one = runtime.block_on(Day::new(*hours)?.late_row(folder.to_str().context("not UTF-8")?))?;
        let case = json!({"hours": hours, "raw_rows": one.raw_rows, "aligned_rows": one.aligned_rows});
        let beside = json!({"cpu_s": one.late.cpu_s, "nothing_to_do_s": one.idle.wall_s, "nothing_to_do_cpu_s": one.idle.cpu_s,
            "changed_rows": one.changed, "written_files": one.files, "written_bytes": one.bytes});
        bench.sheet.add(NAME, case, "a start with one late row", one.late.wall_s * 1e3, "ms", beside);
        found.push(one);
    }
    let [hour, day] = found.as_slice() else { return Ok(()) };
    let ratio = day.cost_s() / hour.cost_s();
    let beside = json!({"bar": DAY_TO_HOUR_MAX, "verdict": verdict(ratio <= DAY_TO_HOUR_MAX), "hour_s": hour.cost_s(), "day_s": day.cost_s()});
    bench.sheet.add(
        NAME,
        json!({"hours": 24}),
        "processor time of one late row, of that in an hour",
        ratio,
        "x",
        beside,
    );
    Ok(())
}

/// One start of a collector.
#[derive(Clone, Copy)]
struct Start {
    wall_s: f64,
    cpu_s: f64,
}

struct LateRow {
    raw_rows: u64,
    aligned_rows: usize,
    idle: Start,
    late: Start,
    /// Aligned rows that are others now.
    changed: usize,
    files: usize,
    bytes: u64,
}

impl LateRow {
    fn cost_s(&self) -> f64 {
        self.late.cpu_s - self.idle.cpu_s
    }
}

/// A gateway that captured for some hours.
struct Day {
    gateway: Gateway,
    imu_name: StreamName,
    seconds: u64,
}

impl Day {
    fn new(hours: u64) -> Result<Self> {
        Ok(Self { gateway: Gateway::new("pi-1", 7), imu_name: "imu".parse()?, seconds: hours * 3_600 })
    }

    /// The row that comes late: in the middle.
    fn late_seq(&self) -> u64 {
        self.seconds / 2 * IMU_HZ + 5
    }

    async fn late_row(&self, folder: &str) -> Result<LateRow> {
        let lake = Lake::init(folder).await?;
        let mut log = MemoryLog::of(&self.captured());
        for life in 0.. {
            ensure!(life < LIVES_MAX, "the day was not aligned to its end");
            let before = head(&lake).await?;
            self.start(&lake, &log).await?;
            if life > 0 && head(&lake).await? == before {
                break;
            }
        }
        let aligned = TableName::new("aligned.drive")?;
        let (rows, files) = read(&lake, &aligned).await?;
        let idle = self.start(&lake, &log).await?;
        let late = self.imu(self.late_seq(), self.late_seq() + 1);
        log.incarnations.first_mut().context("no log")?.push(self.sent(late, self.seconds));
        let late = self.start(&lake, &log).await?;
        let (after, files_after) = read(&lake, &aligned).await?;
        let changed = after.iter().filter(|(at, row)| rows.get(*at) != Some(*row)).count();
        ensure!(
            after.len() == rows.len() && (1..=10).contains(&changed),
            "{changed} of {} rows changed",
            rows.len()
        );
        let new: Vec<u64> =
            files_after.iter().filter(|(at, _)| !files.contains_key(*at)).map(|(_, n)| *n).collect();
        Ok(LateRow {
            raw_rows: self.seconds * (IMU_HZ + FRAME_HZ),
            aligned_rows: rows.len(),
            idle,
            late,
            changed,
            files: new.len(),
            bytes: new.iter().sum(),
        })
    }

    /// All but the late row.
    fn captured(&self) -> Vec<Record> {
        let gateway = &self.gateway;
        let mut records = vec![
            gateway.declare(IMU, "imu", imu_schema()),
            gateway.declare(FRAME, "frame", frame_schema()),
            gateway.declare(CLOCK, "hw/clock", builtin::clock()),
            gateway.declare(GAPS, "hw/gaps", builtin::gaps()),
            gateway.hello(),
        ];
        for message in 0..self.seconds / MESSAGE_S {
            let second = message * MESSAGE_S;
            let end = second + MESSAGE_S;
            records.push(self.sent(gateway.exchange(message, at_ns(second * 100, 100)), end));
            let (from, to, late) = (second * IMU_HZ, end * IMU_HZ, self.late_seq());
            if (from..to).contains(&late) {
                records.push(self.sent(self.imu(from, late), end));
                records.push(self.sent(self.imu(late + 1, to), end));
                records.push(self.sent(self.gap(late), end));
            } else {
                records.push(self.sent(self.imu(from, to), end));
            }
            records.push(self.sent(self.frames(second * FRAME_HZ, end * FRAME_HZ), end));
        }
        let end = self.seconds;
        records.push(self.sent(gateway.heartbeat(IMU, end * IMU_HZ, at_ns(end + 10, 1)), end));
        records.push(self.sent(gateway.heartbeat(FRAME, end * FRAME_HZ, at_ns(end + 10, 1)), end));
        records
    }

    fn sent(&self, section: Section, second: u64) -> Record {
        self.gateway.batch(&[section], at_ns(second, 1))
    }

    fn imu(&self, from: u64, to: u64) -> Section {
        let rows: Vec<_> = (from..to).map(|n| (at_ns(n, IMU_HZ), fleet::imu_values(n))).collect();
        Section::Rows(self.gateway.rows(IMU, &imu_schema(), from, &rows))
    }

    /// The device's word that a row is gone, which is what lets the rows around it be final.
    fn gap(&self, seq: u64) -> Section {
        let b = BootNanos(at_ns(seq, IMU_HZ));
        let gap = GapRecord {
            stream: StreamName::clone(&self.imu_name),
            cause: GapCause::EvictedDiskFull,
            stride: 0,
            phase: 0,
            seq_first: Seq(seq),
            seq_last: Seq(seq),
            rows: 1,
            bytes: 20,
            policy_version: 0,
            boot_ordinal: self.gateway.boot,
            b_first: b,
            b_last: b,
            note: String::new(),
        };
        Section::Rows(self.gateway.rows(GAPS, &builtin::gaps(), 0, &[(b.0, gap.to_values())]))
    }

    fn frames(&self, from: u64, to: u64) -> Section {
        let value = |n: u64| Value::I64((n % 1_000_000) as i64);
        let rows: Vec<_> = (from..to).map(|n| (at_ns(n, FRAME_HZ) + 3 * NS_PER_MS, vec![value(n)])).collect();
        Section::Rows(self.gateway.rows(FRAME, &frame_schema(), from, &rows))
    }

    /// A life of a collector, after all was captured.
    async fn start(&self, lake: &Lake, log: &MemoryLog) -> Result<Start> {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let utc = UtcNanos(START + at_ns(self.seconds + 60, 1));
        let deps = IngestDeps {
            lake: lake.clone(),
            source: log.clone(),
            registry: Registry::new(),
            recipes: vec![Recipe::parse(RECIPE)?],
            settings: settings(),
            quality: None,
            clock: SimClock::new(BootNanos(5 * NS_PER_S), utc),
            cancel,
            marks: watch::channel(CommitMark::default()).0,
        };
        let (began, spent) = (now(), cpu_time()?);
        ingest::run(deps).await?;
        Ok(Start { wall_s: began.elapsed().as_secs_f64(), cpu_s: (cpu_time()? - spent).as_secs_f64() })
    }
}

fn frame_schema() -> Schema {
    let mut schema = imu_schema();
    schema.kind = "frame".parse().unwrap_or(schema.kind);
    schema.fields.truncate(1);
    schema.fields.iter_mut().for_each(|field| field.logical = Logical::U32);
    schema
}

/// Boot time of sample `n` at a rate, ns.
fn at_ns(n: u64, hz: u64) -> i64 {
    (BEGIN_S as i64) * NS_PER_S + (n as i64) * NS_PER_S / (hz as i64)
}

async fn head(lake: &Lake) -> Result<Option<CommitId>> {
    Ok(lake.head(&RefName::main()).await?.and_then(|head| head.commit))
}

/// Rows by their time, ns, each as a hash of its cells.
type Rows = BTreeMap<i64, u64>;

/// Rows of a table, and its files with their bytes.
async fn read(lake: &Lake, table: &TableName) -> Result<(Rows, BTreeMap<String, u64>)> {
    let head = head(lake).await?.context("nothing was committed")?;
    let mut rows = Rows::new();
    let mut batches = lake.scan(&head, table, ScanOptions::default()).await?;
    while let Some(batch) = batches.try_next().await? {
        let times = batch.column_by_name("ts_ns").context("no ts_ns")?.as_primitive::<Int64Type>();
        let options = FormatOptions::default();
        let cells = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let cells = cells.collect::<Result<Vec<_>, _>>()?;
        for (row, at) in times.values().iter().enumerate() {
            let mut hash = DefaultHasher::new();
            cells.iter().for_each(|cell| cell.value(row).to_string().hash(&mut hash));
            rows.insert(*at, hash.finish());
        }
    }
    let files = lake.table_files(&head, table).await?.into_iter();
    let data = files.filter(|file| file.role == FileRole::Data);
    Ok((rows, data.map(|file| (file.location, file.bytes.unwrap_or_default())).collect()))
}
