//! Compaction and corrections beside ingest: they run by themselves, lose nothing, and rows never wait for them.

use crate::ingest_world;

use headwater_collector::commit::cells::Cell;
use headwater_collector::ingest::{CompactReport, CompactSettings, FleetClocks, IngestSettings};
use headwater_core::id::{Sha256, parse_hex};
use headwater_core::time::{Grade, NS_PER_S};
use headwater_lake::testing::{Fault, FaultStore};
use headwater_lake::{By, CommitKind, CompactPolicy, CompactScope, Lake, MergeOptions, RefName, testing};
use ingest_world::{
    Gateway, MemoryLog, Record, Running, START, head, imu_at, live, live_as, long, settings, table, text,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

type Row = BTreeMap<String, Cell>;

const NS_PER_DAY: i64 = 86_400 * NS_PER_S;

/// Ingest that looks after each commit.
fn eager() -> (IngestSettings, watch::Receiver<CompactReport>) {
    let (told, report) = watch::channel(CompactReport::default());
    let mut settings = settings();
    let policy = CompactPolicy { fan_in: 2, tens_per_hour: 2, ..CompactPolicy::default() };
    settings.compact = CompactSettings { every_commits: 1, policy, ..CompactSettings::default() };
    settings.compacted = told;
    (settings, report)
}

async fn kinds(lake: &Lake) -> Vec<CommitKind> {
    lake.log("main", 1_000).await.unwrap().iter().map(|commit| commit.kind).collect()
}

fn keys(rows: &[Row]) -> BTreeMap<i64, (i64, String)> {
    rows.iter().map(|row| (long(row, "seq"), (long(row, "boot_ns"), text(row, "stamp_kind")))).collect()
}

fn exchanges(gateway: &Gateway, from: i64) -> Vec<Record> {
    let at = |n: u64| from + i64::try_from(n).unwrap() * 16 * NS_PER_S;
    (0..6)
        .map(|n| gateway.batch(&[gateway.exchange_of(n, at(n), Grade::Guaranteed)], at(n) + NS_PER_S))
        .collect()
}

/// Rows of ten minutes, sent as they were captured by a gateway that met no clock: their times are a guess.
async fn guessed(lake: &Lake, gateway: &Gateway) -> Vec<Record> {
    let mut records = gateway.declarations();
    for second in 0..600_u64 {
        let sent = imu_at(second * 100 + 100);
        records.push(gateway.batch(&[gateway.imu(second * 100..second * 100 + 100)], sent));
    }
    live(lake, &MemoryLog::of(&records), &[]).await;
    records
}

#[tokio::test(start_paused = true)]
async fn late_resolve_moves_partition() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = guessed(&lake, &gateway).await;
    let before = table(&lake, "raw.imu").await;
    assert!(before.iter().all(|row| text(row, "grade") == "ordering_only"));
    let days = |rows: &[Row]| -> BTreeMap<i64, usize> {
        let mut days = BTreeMap::new();
        rows.iter().for_each(|row| *days.entry(long(row, "ts_ns").div_euclid(NS_PER_DAY)).or_default() += 1);
        days
    };

    // It meets a clock; the days of its rows are over by then.
    records.extend(exchanges(&gateway, 620 * NS_PER_S));
    let (settings, mut report) = eager();
    let clocks = settings.clocks.subscribe();
    let (running, task) = Running::start_as(&lake, Vec::new(), settings);
    running.clock_forward(3 * 86_400).await;
    let life = TaskTracker::new().spawn(task);
    running.land(&records);
    report.wait_for(|report| report.corrections > 0).await.unwrap();
    // Nothing else is due: the next look finds nothing to correct.
    let looks = report.borrow().looks;
    let more = gateway.batch(&[gateway.imu(60_000..60_100)], 720 * NS_PER_S);
    running.land(&[more]);
    report.wait_for(|report| report.looks > looks).await.unwrap();
    let done = *report.borrow();
    running.cancel.cancel();
    life.await.unwrap().unwrap();

    assert_eq!((done.corrections, done.rows_corrected, done.failures), (1, 60_000, 0));
    let kinds = kinds(&lake).await;
    assert_eq!(kinds.iter().filter(|kind| **kind == CommitKind::Resolve).count(), 1);
    let after: Vec<Row> =
        table(&lake, "raw.imu").await.into_iter().filter(|row| long(row, "seq") < 60_000).collect();
    assert_eq!(keys(&after), keys(&before), "keys and stamps are as sent, each once");
    assert_eq!(after.len(), 60_000);
    for row in &after {
        let truth = START + long(row, "boot_ns");
        let (ts, err) = (long(row, "ts_ns"), long(row, "ts_err_ns"));
        assert!((ts - truth).abs() <= err + 2_000_000 && err < NS_PER_S, "{row:?}");
        assert_eq!(text(row, "grade"), "guaranteed");
        assert_eq!(long(row, "ts"), ts.div_euclid(1_000));
    }
    assert_ne!(days(&after), days(&before), "rows moved to another day");
    println!("days before {:?}, after {:?}", days(&before), days(&after));

    // What was due is told to be done, and the ledger says the new times, once for each seq.
    let corrections = table(&lake, "ops.corrections").await;
    let newest = corrections.iter().max_by_key(|row| long(row, "ts_ns")).unwrap();
    assert_eq!((long(newest, "rows"), text(newest, "reason")), (0, "corrected".to_owned()));
    let ledger = table(&lake, "ops.ledger").await;
    let told: Vec<&Row> = ledger.iter().filter(|row| row["incarnation"] == Cell::Null).collect();
    assert_eq!(told.iter().map(|row| long(row, "rows")).sum::<i64>(), 60_000);
    let ts: BTreeSet<i64> = after.iter().map(|row| long(row, "ts_ns")).collect();
    assert_eq!(told.iter().map(|row| long(row, "t_min_ns")).min().as_ref(), ts.first());
    assert_eq!(told.iter().map(|row| long(row, "t_max_ns")).max().as_ref(), ts.last());
    assert_eq!(clocks.borrow().correction_rows, 0);

    // Another life knows of it: nothing is due again, nothing is told twice.
    let mut again = ingest_world::settings();
    let (told, clocks) = watch::channel(FleetClocks::default());
    again.clocks = told;
    let mut log = MemoryLog::of(&records);
    log.incarnations[0].push(gateway.batch(&[gateway.imu(60_000..60_100)], 720 * NS_PER_S));
    log.incarnations.push(vec![gateway.batch(&[gateway.imu(60_100..60_200)], 730 * NS_PER_S)]);
    live_as(&lake, &log, &[], again).await;
    assert_eq!(clocks.borrow().correction_rows, 0);
    assert_eq!(table(&lake, "ops.corrections").await.len(), corrections.len());
    assert_eq!(table(&lake, "raw.imu").await.len(), 60_200);
}

/// Rows that come meanwhile are all there, once, whatever was merged beside them.
#[tokio::test(start_paused = true)]
async fn ingest_compacts_by_itself() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let (settings, mut report) = eager();
    let (running, task) = Running::start_as(&lake, Vec::new(), settings);
    let life = TaskTracker::new().spawn(task);
    let mut records = gateway.declarations();
    records.extend(exchanges(&gateway, NS_PER_S));
    running.land(&records);
    let mut marks = running.marks.clone();
    for second in 0..12_u64 {
        let sent = imu_at(second * 100 + 100);
        marks.mark_unchanged();
        running.land(&[gateway.batch(&[gateway.imu(second * 100..second * 100 + 100)], sent)]);
        marks.changed().await.unwrap();
    }
    report.wait_for(|report| report.compactions > 2).await.unwrap();
    running.cancel.cancel();
    life.await.unwrap().unwrap();
    let report = *report.borrow();
    assert_eq!(report.failures, 0);
    assert!(report.files.0 > report.files.1 && report.bytes.1 > 0, "{report:?}");
    assert!(kinds(&lake).await.contains(&CommitKind::Compact));
    let rows = table(&lake, "raw.imu").await;
    let seqs: BTreeSet<i64> = rows.iter().map(|row| long(row, "seq")).collect();
    assert_eq!((rows.len(), seqs.len()), (1_200, 1_200));
}

#[tokio::test(start_paused = true)]
async fn switched_off_it_leaves_files_as_they_are() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let (mut settings, report) = eager();
    settings.compact.enabled = false;
    let (running, task) = Running::start_as(&lake, Vec::new(), settings);
    let life = TaskTracker::new().spawn(task);
    let mut marks = running.marks.clone();
    for second in 0..4_u64 {
        marks.mark_unchanged();
        let mut records = if second == 0 { gateway.declarations() } else { Vec::new() };
        records.push(gateway.batch(&[gateway.imu(second * 10..second * 10 + 10)], imu_at(second * 10 + 10)));
        running.land(&records);
        marks.changed().await.unwrap();
    }
    running.cancel.cancel();
    life.await.unwrap().unwrap();
    assert_eq!(report.borrow().looks, 0);
    assert!(!kinds(&lake).await.contains(&CommitKind::Compact));
}

fn imu(gateway: &Gateway, seqs: Range<u64>) -> Record {
    let sent = imu_at(seqs.end);
    gateway.batch(&[gateway.imu(seqs)], sent)
}

/// A compaction that is published on another process's merge moves the head past nothing: what the merge brought is known
/// when it is sent again (D1).
#[tokio::test(start_paused = true)]
async fn a_compaction_on_others_merge_hides_none_of_its_rows() {
    let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
    let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
    let beside = testing::open_on(disk).await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    records.push(imu(&gateway, 0..100));
    live(&lake, &MemoryLog::of(&records), &[]).await;
    let first = head(&lake).await.unwrap();
    let known = parse_hex(first.as_str().as_bytes()).map(Sha256).unwrap();

    // Another collector got other rows, on a branch.
    let exp = RefName::new("exp").unwrap();
    lake.branch(&exp, &first, "anna", 0).await.unwrap();
    let mut theirs = settings();
    (theirs.branch, theirs.receiver) = (exp.clone(), "other".to_owned());
    let resent = imu(&gateway, 200..300);
    let log = MemoryLog::of(&[&records[..], std::slice::from_ref(&resent)].concat());
    live_as(&lake, &log, &[], theirs).await;
    let from = lake.head(&exp).await.unwrap().unwrap().commit.unwrap();

    let (settings, mut report) = eager();
    let (running, task) = Running::start_as(&lake, Vec::new(), settings);
    let mut marks = running.marks.clone();
    let driver = async {
        marks.wait_for(|mark| mark.commit == Some(known)).await.unwrap();
        // The compaction that the next commit begins gets no file until the merge is there.
        store.set(Fault::HeldRead { key: "/data/".to_owned() });
        records.push(imu(&gateway, 100..200));
        running.land(&records);
        marks.wait_for(|mark| mark.commit != Some(known)).await.unwrap();
        let by = By { author: "anna".to_owned(), message: None, time_us: START / 1_000 + 3_600_000_000 };
        beside.merge(&RefName::main(), &from, &MergeOptions::default(), &by).await.unwrap();
        store.set(Fault::None);
        report.wait_for(|report| report.compactions > 0).await.unwrap();
        let kinds = kinds(&beside).await;
        let merge = kinds.iter().position(|kind| *kind == CommitKind::Merge).unwrap();
        assert!(merge > 0 && kinds[..merge].iter().all(|kind| *kind == CommitKind::Compact), "{kinds:?}");

        running.land(&[resent]);
        running.clock_forward(30).await;
        running.cancel.cancel();
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
    let rows = table(&lake, "raw.imu").await;
    let seqs: BTreeSet<i64> = rows.iter().map(|row| long(row, "seq")).collect();
    assert_eq!((rows.len(), seqs.len()), (300, 300), "a row is there twice");
}

/// An operator's compaction moves the branch without rows, and ingest that is idle does not follow it; what is merged
/// already is not merged again, look after look.
#[tokio::test(start_paused = true)]
async fn what_an_operator_compacted_is_not_compacted_again() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    for tenth in 0..6 {
        records.push(imu(&gateway, tenth * 10..tenth * 10 + 10));
        live(&lake, &MemoryLog::of(&records), &[]).await;
    }
    let (mut settings, mut report) = eager();
    settings.compact.every_commits = 1_000;
    let policy = settings.compact.policy.clone();
    let (running, task) = Running::start_as(&lake, Vec::new(), settings);
    let mut marks = running.marks.clone();
    let driver = async {
        marks.changed().await.unwrap();
        let (main, time_us) = (RefName::main(), START / 1_000 + 120_000_000);
        let mut rounds = 0;
        while let Some(done) =
            lake.compact(&main, "anna", &policy, &CompactScope::default(), time_us, |_, _| ()).await.unwrap()
        {
            assert!(done.committed.is_some());
            rounds += 1;
        }
        assert!(rounds > 0);
        tokio::select! {
            more = report.wait_for(|report| report.looks > 1) => drop(more.unwrap()),
            () = running.clock_forward(630) => {}
        }
        running.cancel.cancel();
        let report = *report.borrow();
        assert_eq!((report.looks, report.compactions, report.failures), (1, 0, 0));
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
}
