//! Time in the lake: rows of gateways that knew no clock, rows that wait for one, rows that are timed worse than required,
//! what a better track would change, and what `ops.clock` keeps of it all.

use crate::ingest_world;

use headwater_collector::commit::cells::Cell;
use headwater_collector::ingest::{Beyond, IngestSettings, TimeDemand};
use headwater_core::sample::Value;
use headwater_core::time::{Grade, NS_PER_MS, NS_PER_S};
use headwater_lake::Lake;
use headwater_lake::testing;
use ingest_world::*;
use std::collections::BTreeMap;

type Row = BTreeMap<String, Cell>;

/// Rows of IMU captured at these seqs (100 Hz, from 10 s after boot), handed over at `sent_b`.
fn rows_sent(gateway: &Gateway, seqs: std::ops::Range<u64>, sent_b: i64) -> Vec<Record> {
    let starts = seqs.clone().step_by(1_000);
    starts.map(|first| gateway.batch(&[gateway.imu(first..(first + 1_000).min(seqs.end))], sent_b)).collect()
}

/// Exchanges each 16 s from `from_b` on, each sent as it closes.
fn exchanges(gateway: &Gateway, first_seq: u64, n: u64, from_b: i64, grade: Grade) -> Vec<Record> {
    (0..n)
        .map(|k| {
            let at = from_b + i64::try_from(k).unwrap() * 16 * NS_PER_S;
            gateway.batch(&[gateway.exchange_of(first_seq + k, at, grade)], at + 20 * NS_PER_MS)
        })
        .collect()
}

/// True time of a row's event: its stamp less half of its latency interval.
fn truth(row: &Row) -> i64 {
    START + long(row, "boot_ns") - (long(row, "lat_lo_ns") + long(row, "lat_hi_ns")) / 2
}

fn assert_bounds_hold(rows: &[Row]) {
    for row in rows {
        let (ts, err) = (long(row, "ts_ns"), long(row, "ts_err_ns"));
        let off = (ts - truth(row)).abs();
        assert!(off <= err, "seq {}: {off} ns off, bound {err} ns", long(row, "seq"));
    }
}

fn grades(rows: &[Row]) -> BTreeMap<String, usize> {
    let mut grades = BTreeMap::new();
    for row in rows {
        *grades.entry(text(row, "grade")).or_default() += 1;
    }
    grades
}

async fn by_kind(lake: &Lake, kind: &str) -> Vec<Row> {
    let rows = table(lake, "ops.clock").await;
    rows.into_iter().filter(|row| text(row, "row_kind") == kind).collect()
}

/// Ten minutes of captures from before the gateway had a link or a clock, shipped once it has both.
#[tokio::test(start_paused = true)]
async fn pre_sync_boot_is_corrected() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    let linked = 620 * NS_PER_S;
    records.extend(exchanges(&gateway, 0, 6, linked, Grade::Guaranteed));
    records.extend(rows_sent(&gateway, 0..60_000, linked + 100 * NS_PER_S));
    live(&lake, &MemoryLog::of(&records), &[]).await;
    let rows = table(&lake, "raw.imu").await;
    assert_eq!(rows.len(), 60_000);
    assert_eq!(grades(&rows), BTreeMap::from([("guaranteed".into(), 60_000)]), "coverage is whole");
    assert_bounds_hold(&rows);
    let widest = rows.iter().map(|row| long(row, "ts_err_ns")).max().unwrap();
    // 610 s before the first exchange at 50 ppm are 30.5 ms, its way and e_c about 8 ms, its own latency 1 ms.
    assert!(widest < 45 * NS_PER_MS, "{widest}");
    let seqs: Vec<i64> = rows.iter().map(|row| long(row, "boot_ns")).collect();
    assert!(
        seqs.iter().all(|boot_ns| (10 * NS_PER_S..610 * NS_PER_S).contains(boot_ns)),
        "the stamps are as sent"
    );
}

/// The same captures, committed before the first exchange: their grade is honest then, and what a better track would
/// change is known to the row once it is there.
#[tokio::test(start_paused = true)]
async fn what_was_committed_before_the_first_sync_is_due_for_correction() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    // Sent as they were captured: each message bounds its boot from above, and nothing bounds it from below.
    for second in 0..600_u64 {
        let sent = imu_at(second * 100 + 100);
        records.push(gateway.batch(&[gateway.imu(second * 100..second * 100 + 100)], sent));
    }
    let mut log = MemoryLog::of(&records);
    live(&lake, &log, &[]).await;
    let before = table(&lake, "raw.imu").await;
    assert_eq!(grades(&before), BTreeMap::from([("ordering_only".into(), 60_000)]));
    assert_bounds_hold(&before);
    assert!(table(&lake, "ops.corrections").await.is_empty(), "nothing better is known yet");

    log.incarnations.push(exchanges(&gateway, 0, 6, 620 * NS_PER_S, Grade::Guaranteed));
    live(&lake, &log, &[]).await;
    let due = table(&lake, "ops.corrections").await;
    let total: i64 = due.iter().map(|row| long(row, "rows")).sum();
    assert_eq!(total, 60_000, "{due:?}");
    for row in &due {
        assert_eq!((text(row, "stream"), text(row, "kind")), ("imu".into(), "imu".into()));
        assert_eq!(
            (text(row, "reason"), text(row, "grade_old")),
            ("grade_rises".into(), "ordering_only".into())
        );
        assert_eq!(text(row, "grade_new"), "guaranteed");
        assert_eq!(long(row, "boot_ordinal"), 1);
        assert_eq!(long(row, "rows_of_day"), long(row, "rows"), "nothing else lies in that day");
        assert_ne!(long(row, "track_old"), long(row, "track_new"));
    }
    let times = |rows: &[Row]| -> BTreeMap<i64, (i64, i64, i64, String)> {
        let of = |row: &Row| {
            (long(row, "boot_ns"), long(row, "ts_ns"), long(row, "ts_err_ns"), text(row, "grade"))
        };
        rows.iter().map(|row| (long(row, "seq"), of(row))).collect()
    };
    assert!(times(&table(&lake, "raw.imu").await) == times(&before), "the raw table is not touched by this");

    // A life that brings nothing new tells nothing new; what is due outlives it.
    live(&lake, &log, &[]).await;
    assert_eq!(table(&lake, "ops.corrections").await.len(), due.len());
    // Rows that come later are right at once, and not due.
    let more = gateway.batch(&[gateway.imu(60_000..60_100)], 720 * NS_PER_S);
    log.incarnations.push(vec![more]);
    live(&lake, &log, &[]).await;
    let rows = table(&lake, "raw.imu").await;
    assert_eq!(grades(&rows)["guaranteed"], 100);
    assert_bounds_hold(&rows);
    assert_eq!(table(&lake, "ops.corrections").await.len(), due.len());
}

/// A bound that only shrinks is no reason to write a row again.
#[tokio::test(start_paused = true)]
async fn re_resolve_rule() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    records.extend(exchanges(&gateway, 0, 4, 10 * NS_PER_S, Grade::Guaranteed));
    records.extend(rows_sent(&gateway, 0..2_000, 62 * NS_PER_S));
    let mut log = MemoryLog::of(&records);
    live(&lake, &log, &[]).await;
    let before = table(&lake, "raw.imu").await;
    assert_eq!(grades(&before)["guaranteed"], 2_000);
    // More of the same kind: bounds shrink, no old time leaves its new interval.
    log.incarnations.push(exchanges(&gateway, 4, 8, 74 * NS_PER_S, Grade::Guaranteed));
    live(&lake, &log, &[]).await;
    assert!(table(&lake, "ops.corrections").await.is_empty());
}

/// Two lives that read the same rows of `ops.clock` resolve with the same track.
#[tokio::test(start_paused = true)]
async fn ops_clock_keeps_what_a_gateway_said_and_a_restart_knows_it_again() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    records.extend(exchanges(&gateway, 0, 4, 10 * NS_PER_S, Grade::Guaranteed));
    let int = Value::I64;
    let step = [
        ("row_kind", int(3)),
        ("source", int(1)),
        ("grade", int(0)),
        ("event", int(0)),
        ("b1", int(30 * NS_PER_S)),
        ("real", int(START)),
        ("step", int(START - 5)),
    ];
    let edge = [
        ("row_kind", int(4)),
        ("source", int(6)),
        ("grade", int(2)),
        ("b1", int(40 * NS_PER_S)),
        ("real", int(START + 40 * NS_PER_S)),
        ("half", int(20_000)),
    ];
    let ping = [
        ("row_kind", int(5)),
        ("source", int(10)),
        ("grade", int(1)),
        ("domain", int(2)),
        ("t1", int(50)),
        ("t2", int(7)),
        ("t3", int(8)),
        ("t4", int(60)),
        ("w_ping", int(1_388)),
        ("w_pong", int(1_389)),
        ("rho_ppb", int(30_000)),
    ];
    for (n, row) in [&step[..], &edge[..], &ping[..]].into_iter().enumerate() {
        let seq = 4 + u64::try_from(n).unwrap();
        let at = (41 + i64::try_from(n).unwrap()) * NS_PER_S;
        records.push(gateway.batch(&[gateway.clock_row(seq, at, row)], at));
    }
    records.extend(rows_sent(&gateway, 0..100, 62 * NS_PER_S));
    let mut log = MemoryLog::of(&records);
    live(&lake, &log, &[]).await;
    assert!(table(&lake, "ops.quarantine").await.is_empty(), "every kind of row is known");

    let event = by_kind(&lake, "event").await.remove(0);
    assert_eq!((text(&event, "event"), long(&event, "step_ns")), ("step".into(), START - 5));
    assert_eq!((long(&event, "before_ns"), long(&event, "after_ns")), (5, START));
    let edge = by_kind(&lake, "edge").await.remove(0);
    assert_eq!((text(&edge, "source"), long(&edge, "latency_ns")), ("gps_pps".into(), 20_000));
    let ping = by_kind(&lake, "device_exchange").await.remove(0);
    assert_eq!(
        (text(&ping, "domain"), long(&ping, "w_ping_ns"), long(&ping, "w_pong_ns")),
        ("device:2".into(), 1_388, 1_389)
    );
    assert_eq!(long(&ping, "rho_ppb"), 30_000);
    // What the collector adds: its own halves, and computed segments.
    let exchanges = by_kind(&lake, "exchange").await;
    let halves: Vec<&Row> = exchanges.iter().filter(|row| text(row, "declared_by") == "collector").collect();
    assert!(!halves.is_empty());
    assert!(halves.iter().all(|row| row["t3_ns"] == Cell::Null && row["t4_ns"] == Cell::Null));
    let segment = by_kind(&lake, "segment").await.remove(0);
    assert_eq!(
        (text(&segment, "declared_by"), text(&segment, "grade")),
        ("collector".into(), "guaranteed".into())
    );
    let off = (long(&segment, "offset_ns") - START).abs();
    assert!(off <= long(&segment, "bound_ns"), "{off}");
    assert_eq!(segment["real_ns"], Cell::Null, "no clock was read for it");

    let of = async |seq| {
        let rows = table(&lake, "raw.imu").await;
        let row = rows.into_iter().find(|row| long(row, "seq") == seq).unwrap();
        (long(&row, "track"), text(&row, "grade"))
    };
    // Rows of a message of the same 64 s, so that no half is new: the second life knows no more than the first.
    log.incarnations.push(vec![gateway.batch(&[gateway.imu(100..110)], 62 * NS_PER_S)]);
    live(&lake, &log, &[]).await;
    assert_eq!(of(105).await, of(5).await);
}

/// What a gateway is told by a collector that nobody keeps in time bounds nothing for sure.
#[tokio::test(start_paused = true)]
async fn an_unsynchronised_collector_guarantees_nothing() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    records.extend(exchanges(&gateway, 0, 6, 10 * NS_PER_S, Grade::Estimated));
    records.extend(rows_sent(&gateway, 0..100, 110 * NS_PER_S));
    let unkept = IngestSettings { clock_grade: Grade::Estimated, clock_half_ns: 16 * NS_PER_S, ..settings() };
    live_as(&lake, &MemoryLog::of(&records), &[], unkept).await;
    let rows = table(&lake, "raw.imu").await;
    assert_eq!(grades(&rows), BTreeMap::from([("estimated".into(), 100)]));
    assert_bounds_hold(&rows);
    let halves = by_kind(&lake, "exchange").await;
    assert!(halves.iter().all(|row| text(row, "grade") == "estimated"));

    // Kept again since then: what was received before promises as little as it did.
    let lake = testing::memory().await.unwrap();
    let since = headwater_core::time::UtcNanos(START + 60 * NS_PER_S);
    let kept = IngestSettings { clock_steady_since: since, ..settings() };
    live_as(&lake, &MemoryLog::of(&records), &[], kept).await;
    let mut seen = BTreeMap::new();
    for row in by_kind(&lake, "exchange").await.iter().filter(|row| text(row, "declared_by") == "collector") {
        seen.insert(long(row, "t2_ns") < since.0, text(row, "grade"));
    }
    assert_eq!(seen, BTreeMap::from([(true, "estimated".into()), (false, "guaranteed".into())]));
}

/// Rows that are received about now, by the collector's clock in these tests.
fn fresh_rows(gateway: &Gateway, first: u64) -> Record {
    gateway.batch(&[gateway.imu(first..first + 100)], imu_at(first + 100))
}

/// The first seq whose rows are received when the collector's clock starts (60 s after boot).
const FRESH: u64 = 4_900;

#[tokio::test(start_paused = true)]
async fn rows_of_a_boot_without_a_clock_wait_for_its_first_exchange() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let settings = IngestSettings { interval_ms: 1_000, clock_wait_ms: 5_000, ..settings() };
    let (running, task) = Running::start_as(&lake, Vec::new(), settings);
    let test = async {
        let mut records = gateway.declarations();
        records.push(fresh_rows(&gateway, FRESH));
        running.land(&records);
        running.clock_forward(3).await;
        assert!(table(&lake, "raw.imu").await.is_empty(), "they wait");
        assert!(!table(&lake, "ops.clock").await.is_empty(), "and keep nothing else from being committed");
        let mark = running.marks.borrow().clone();
        assert_eq!(mark.waiting.len(), 1, "nor are they acked as committed");
        running.land(&exchanges(&gateway, 0, 1, 62 * NS_PER_S, Grade::Guaranteed));
        running.clock_forward(2).await;
        let rows = table(&lake, "raw.imu").await;
        assert_eq!(grades(&rows), BTreeMap::from([("estimated".into(), 100)]));
        assert_bounds_hold(&rows);
        assert!(running.marks.borrow().waiting.is_empty());
        running.cancel.cancel();
    };
    let (ended, ()) = tokio::join!(task, test);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rows_wait_no_longer_than_they_may_and_a_restart_finds_those_that_do() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let settings = || IngestSettings { interval_ms: 1_000, clock_wait_ms: 5_000, ..settings() };
    let (running, task) = Running::start_as(&lake, Vec::new(), settings());
    let mut records = gateway.declarations();
    records.push(fresh_rows(&gateway, FRESH));
    let test = async {
        running.land(&records);
        running.clock_forward(3).await;
        assert!(table(&lake, "raw.imu").await.is_empty());
        running.clock_forward(5).await;
        let rows = table(&lake, "raw.imu").await;
        assert_eq!(grades(&rows), BTreeMap::from([("ordering_only".into(), 100)]));
        running.cancel.cancel();
    };
    let (ended, ()) = tokio::join!(task, test);
    ended.unwrap();

    // A life that ended while they waited: the cursor lies below them.
    let lake = testing::memory().await.unwrap();
    let (running, task) = Running::start_as(&lake, Vec::new(), settings());
    let test = async {
        running.land(&records);
        running.clock_forward(3).await;
        assert!(!table(&lake, "ops.clock").await.is_empty());
    };
    // Dropped, as a killed process is.
    tokio::select! {
        ended = task => panic!("{ended:?}"),
        () = test => {}
    }
    assert!(table(&lake, "raw.imu").await.is_empty());
    live_as(&lake, &MemoryLog::of(&records), &[], settings()).await;
    assert_eq!(table(&lake, "raw.imu").await.len(), 100, "once, in the next life");
}

fn demand(require_ms: i64, beyond: Beyond) -> TimeDemand {
    TimeDemand { device: None, stream: "imu".parse().unwrap(), require_ns: require_ms * NS_PER_MS, beyond }
}

#[tokio::test(start_paused = true)]
async fn rows_timed_worse_than_required_are_noted() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    records.extend(exchanges(&gateway, 0, 6, 10 * NS_PER_S, Grade::Guaranteed));
    records.extend(rows_sent(&gateway, 0..100, 110 * NS_PER_S));
    // The way took 5 ms: within 100 ms, not within 2.
    let told = |ms| IngestSettings { demands: vec![demand(ms, Beyond::Mark)], ..settings() };
    live_as(&lake, &MemoryLog::of(&records), &[], told(100)).await;
    assert!(table(&lake, "ops.verdicts").await.is_empty());

    let lake = testing::memory().await.unwrap();
    let settings = told(2);
    let clocks = settings.clocks.subscribe();
    live_as(&lake, &MemoryLog::of(&records), &[], settings).await;
    assert_eq!(table(&lake, "raw.imu").await.len(), 100, "raw waits for no verdict");
    let verdict = table(&lake, "ops.verdicts").await.remove(0);
    assert_eq!(
        (text(&verdict, "gate"), text(&verdict, "verdict")),
        ("time.require_err_ms".into(), "warn".into())
    );
    assert_eq!((text(&verdict, "device"), text(&verdict, "table")), ("pi-1".into(), "raw.imu".into()));
    assert_eq!(long(&verdict, "rows"), 100);
    assert!(text(&verdict, "evidence").contains("\"require_err_ns\":2000000"));
    let clocks = clocks.borrow().clone();
    let clock = &clocks.devices[&gateway.path.device];
    assert_eq!((clock.grade, clock.rows_beyond), (Grade::Guaranteed, 100));
    let beyond = &clock.beyond[&"imu".parse().unwrap()];
    assert!(beyond.err_ns > beyond.require_ns);
}

#[tokio::test(start_paused = true)]
async fn rows_are_held_for_a_better_clock_as_long_as_they_may() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let held = demand(20, Beyond::Hold { ms: 60_000 });
    let settings = IngestSettings { interval_ms: 1_000, demands: vec![held], ..settings() };
    let clocks = settings.clocks.subscribe();
    let (running, task) = Running::start_as(&lake, Vec::new(), settings);
    let test = async {
        let mut records = gateway.declarations();
        // Known since long, and not since: 800 s at 50 ppm are 40 ms.
        records.extend(exchanges(&gateway, 0, 3, -800 * NS_PER_S, Grade::Guaranteed));
        records.push(fresh_rows(&gateway, FRESH));
        running.land(&records);
        running.clock_forward(10).await;
        assert!(table(&lake, "raw.imu").await.is_empty(), "they wait");
        running.land(&exchanges(&gateway, 3, 4, 62 * NS_PER_S, Grade::Guaranteed));
        running.clock_forward(2).await;
        let rows = table(&lake, "raw.imu").await;
        assert_eq!(rows.len(), 100);
        assert!(rows.iter().all(|row| long(row, "ts_err_ns") <= 20 * NS_PER_MS));
        assert!(table(&lake, "ops.verdicts").await.is_empty());
        assert!(clocks.borrow().devices[&gateway.path.device].beyond.is_empty());
        running.cancel.cancel();
    };
    let (ended, ()) = tokio::join!(task, test);
    ended.unwrap();
}
