//! `late.policy = "side_stream"`: samples beyond the allowed lateness go to a table of their own, once each, and aligned rows
//! stay; within it they change the rows they reach.

use crate::ingest_world;

use headwater_align::recipe::Recipe;
use headwater_collector::ingest::{self, IngestDeps};
use headwater_collector::land::CommitMark;
use headwater_collector::registry::Registry;
use headwater_core::batch::Section;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::Seq;
use headwater_core::schema::builtin;
use headwater_core::time::{BootNanos, NS_PER_S, UtcNanos};
use headwater_lake::{Lake, TableName, testing};
use headwater_sim::clock::SimClock;
use ingest_world::*;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Rows of a message.
const MESSAGE_ROWS: u64 = 500;
/// When the collector looks, after the gateway's first instant: two days.
const LATER_S: i64 = 172_800;

fn recipe(allowed: &str) -> Recipe {
    Recipe::parse(&format!(
        "headwater_recipe = 1\nname = 'drive'\n[spine]\nstream = 'camera/front'\n[[column]]\nname = 'motion'\nstream = 'imu'\nselect = ['n']\nmethod = 'previous'\ntolerance = '50ms'\n[watermark]\nallowed_lateness = '{allowed}'\n[late]\npolicy = 'side_stream'\n"
    ))
    .unwrap()
}

/// Ten seconds in which `count` IMU rows from `first` on are recorded as missing.
fn first_life(gateway: &Gateway, first: u64, count: u64) -> Vec<Record> {
    let mut records = ten_seconds(gateway);
    let within = first..first + count;
    if first < 1_000 {
        let late: Vec<_> =
            (first..first + count).step_by(20).map(|seq| message(gateway, seq..seq + 20, 500)).collect();
        records.retain(|record| !late.iter().any(|late| same(record, late)));
    }
    let last = within.end - 1;
    let gap = GapRecord {
        stream: "imu".parse().unwrap(),
        cause: GapCause::EvictedDiskFull,
        stride: 0,
        phase: 0,
        seq_first: Seq(first),
        seq_last: Seq(last),
        rows: count,
        bytes: 20 * count,
        policy_version: 0,
        boot_ordinal: gateway.boot,
        b_first: BootNanos(imu_at(first)),
        b_last: BootNanos(imu_at(last)),
        note: String::new(),
    };
    let said = Section::Rows(gateway.rows(GAPS, &builtin::gaps(), 0, &[(imu_at(1_000), gap.to_values())]));
    records.push(gateway.batch(&[said], imu_at(1_000)));
    records
}

fn message(gateway: &Gateway, seqs: std::ops::Range<u64>, sent: u64) -> Record {
    gateway.batch(&[gateway.imu(seqs)], imu_at(sent))
}

fn same(one: &Record, other: &Record) -> bool {
    matches!((one, other), (Record::Message(one), Record::Message(other)) if one.message == other.message)
}

/// One life of a collector, two days later.
async fn later(lake: &Lake, log: &MemoryLog, recipe: &Recipe) {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let deps = IngestDeps {
        lake: lake.clone(),
        source: log.clone(),
        registry: Registry::new(),
        recipes: vec![recipe.clone()],
        settings: settings(),
        quality: None,
        clock: SimClock::new(BootNanos(5 * NS_PER_S), UtcNanos(START + LATER_S * NS_PER_S)),
        cancel,
        marks: watch::channel(CommitMark::default()).0,
    };
    ingest::run(deps).await.unwrap();
}

async fn count(lake: &Lake, name: &str) -> u64 {
    let tables = lake.tables(&head(lake).await.unwrap()).await.unwrap();
    tables.get(&TableName::new(name).unwrap()).map_or(0, |table| table.rows)
}

/// So many rows come two days late: each is written once to the table of late rows.
async fn late_by_two_days(n: u64) {
    let lake = testing::memory().await.unwrap();
    let (gateway, recipe) = (Gateway::new("pi-1", 7), recipe("1d"));
    let mut records = first_life(&gateway, 1_000, n);
    live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
    let aligned = table(&lake, "aligned.drive").await;
    assert_eq!((aligned.len(), count(&lake, "late.drive").await), (40, 0));
    let mut seq = 1_000;
    while seq < 1_000 + n {
        let end = (seq + MESSAGE_ROWS).min(1_000 + n);
        records.push(message(&gateway, seq..end, end));
        seq = end;
    }
    let log = MemoryLog::of(&records);
    later(&lake, &log, &recipe).await;
    assert_eq!(count(&lake, "raw.imu").await, 1_000 + n, "raw rows are kept");
    // A life of this test ends after some commits: the rest is found by the next ones, and nothing comes twice.
    loop {
        let before = count(&lake, "late.drive").await;
        if before >= n {
            break;
        }
        later(&lake, &log, &recipe).await;
        assert!(
            count(&lake, "late.drive").await > before,
            "a life brought none of the rest, {before} of {n}"
        );
    }
    later(&lake, &log, &recipe).await;
    assert_eq!(count(&lake, "late.drive").await, n);
    assert_eq!(table(&lake, "aligned.drive").await, aligned, "aligned rows stay as they are");
}

#[tokio::test(start_paused = true)]
async fn rows_beyond_the_allowed_lateness_are_listed_with_it_and_change_nothing() {
    let lake = testing::memory().await.unwrap();
    let (gateway, recipe) = (Gateway::new("pi-1", 7), recipe("1d"));
    let mut records = first_life(&gateway, 400, 20);
    live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
    let before = table(&lake, "aligned.drive").await;
    records.push(message(&gateway, 400..420, 500));
    later(&lake, &MemoryLog::of(&records), &recipe).await;
    let late = table(&lake, "late.drive").await;
    let mut seqs: Vec<i64> = late.iter().map(|row| long(row, "seq")).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (400..420).collect::<Vec<i64>>());
    for row in &late {
        let arrived_ns = long(row, "arrived") * 1_000;
        assert_eq!(long(row, "lateness_ns"), arrived_ns - long(row, "ts_ns"));
        assert!(long(row, "lateness_ns") > 86_400 * NS_PER_S);
        assert_eq!((text(row, "kind"), text(row, "stream")), ("imu".to_owned(), "imu".to_owned()));
    }
    assert_eq!(table(&lake, "aligned.drive").await, before);
}

#[tokio::test(start_paused = true)]
async fn rows_within_the_allowed_lateness_change_the_rows_they_reach() {
    let lake = testing::memory().await.unwrap();
    let (gateway, recipe) = (Gateway::new("pi-1", 7), recipe("3d"));
    let mut records = first_life(&gateway, 400, 20);
    live(&lake, &MemoryLog::of(&records), std::slice::from_ref(&recipe)).await;
    let before = table(&lake, "aligned.drive").await;
    records.push(message(&gateway, 400..420, 500));
    later(&lake, &MemoryLog::of(&records), &recipe).await;
    assert_eq!(count(&lake, "late.drive").await, 0);
    assert_ne!(table(&lake, "aligned.drive").await, before);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_rows_too_late_are_listed_once_each() {
    late_by_two_days(10_000).await;
}

/// As many as a gateway has after weeks without a link: still each once, and no more of them in memory at a time.
#[ignore = "a million rows take minutes: cargo test --release -p headwater-collector --test it -- --ignored late_rows::a_million"]
#[tokio::test(start_paused = true)]
async fn a_million_rows_too_late_are_listed_once_each() {
    late_by_two_days(1_000_000).await;
}
