//! What is set aside comes back: by an operator's word, by a late declaration, once and whole, whatever happens meanwhile.

use crate::ingest_world;

use headwater_collector::commit::cells::Cell;
use headwater_collector::ingest::{
    Answer, HALF_WAIT_NS_MAX, IngestSettings, Request, UNDECLARED_WAIT_NS_MAX, ask,
};
use headwater_collector::land::LandingPosition;
use headwater_collector::receive::{LandedSet, RowRun};
use headwater_collector::registry::DeclaredStream;
use headwater_core::batch::{Column, Section, Values};
use headwater_core::id::{IncarnationId, Sha256, StreamId};
use headwater_core::sample::Value;
use headwater_core::schema::{Logical, Schema, builtin};
use headwater_core::time::NS_PER_S;
use headwater_lake::Lake;
use headwater_lake::testing::{self, Fault, FaultStore};
use ingest_world::*;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The fleet's `imu` and a gateway that calls its `accel_x` text.
fn conflict() -> (Gateway, Schema, Vec<Record>) {
    let (fleet, other) = (Gateway::new("pi-1", 7), Gateway::new("pi-2", 9));
    let mut records = fleet.declarations();
    records.push(fleet.batch(&[fleet.imu(0..10)], imu_at(10)));
    let mut schema = imu_schema();
    schema.fields[1].logical = Logical::Utf8;
    records.push(other.declare(IMU, "imu", schema.clone()));
    records.push(other.batch(&[texts(&other, &schema, 0..5)], imu_at(5)));
    records.push(other.batch(&[texts(&other, &schema, 5..8)], imu_at(8)));
    (other, schema, records)
}

fn texts(gateway: &Gateway, schema: &Schema, seqs: std::ops::Range<u64>) -> Section {
    let row = |seq: u64| {
        let n = i64::try_from(seq).unwrap();
        (imu_at(seq), vec![Value::I64(n), Value::Utf8(format!("x{seq}")), Value::I64(0), Value::Null])
    };
    let rows: Vec<_> = seqs.clone().map(row).collect();
    Section::Rows(gateway.rows(IMU, schema, seqs.start, &rows))
}

fn asking(dir: &Path) -> IngestSettings {
    IngestSettings { requests: Some(dir.to_owned()), ..settings() }
}

fn renamed() -> Request {
    Request {
        device: Some("pi-2".parse().unwrap()),
        rename: BTreeMap::from([("accel_x".parse().unwrap(), "accel_text".parse().unwrap())]),
        ..Request::default()
    }
}

fn answered(file: &Path) -> Answer {
    serde_json::from_slice(&std::fs::read(file.with_extension("done")).unwrap()).unwrap()
}

/// Items of `ops.quarantine`: set aside, released.
async fn items(lake: &Lake) -> (usize, usize) {
    let rows = table(lake, "ops.quarantine").await;
    let released = rows.iter().filter(|row| row["released_by"] != Cell::Null).count();
    (rows.len() - released, released)
}

/// Rows of a device in a table, by seq.
async fn of(lake: &Lake, name: &str, device: &str) -> Vec<BTreeMap<String, Cell>> {
    let mut rows = table(lake, name).await;
    rows.retain(|row| text(row, "device") == device);
    rows.sort_by_key(|row| long(row, "seq"));
    rows
}

async fn assert_texts(lake: &Lake, n: i64) {
    let rows = of(lake, "raw.imu", "pi-2").await;
    let seqs: Vec<i64> = rows.iter().map(|row| long(row, "seq")).collect();
    assert_eq!(seqs, (0..n).collect::<Vec<_>>(), "each once");
    assert!(rows.iter().all(|row| text(row, "accel_text") == format!("x{}", long(row, "seq"))));
    assert!(rows.iter().all(|row| row["accel_x"] == Cell::Null && text(row, "grade") == "ordering_only"));
    let mut ledger = table(lake, "ops.ledger").await;
    ledger.retain(|row| text(row, "device") == "pi-2");
    assert_eq!(ledger.iter().map(|row| long(row, "rows")).sum::<i64>(), n);
}

#[tokio::test(start_paused = true)]
async fn a_refused_declaration_comes_back_under_another_name_once_and_stays_under_it() {
    let lake = testing::memory().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (other, schema, mut records) = conflict();
    live_as(&lake, &MemoryLog::of(&records), &[], asking(dir.path())).await;
    assert_eq!((items(&lake).await, of(&lake, "raw.imu", "pi-2").await.len()), ((2, 0), 0));

    // Nothing was put right: nothing comes back, and nothing is set aside twice.
    let file = ask(dir.path(), &Request::default(), "1").unwrap();
    live_as(&lake, &MemoryLog::of(&records), &[], asking(dir.path())).await;
    let answer = answered(&file);
    assert_eq!((answer.items, answer.released, answer.rows, answer.refused.len()), (2, 0, 0, 1));
    assert!(answer.refused.keys().next().unwrap().contains("accel_x of kind imu is String"), "{answer:?}");
    assert_eq!(items(&lake).await, (2, 0));

    let file = ask(dir.path(), &renamed(), "2").unwrap();
    live_as(&lake, &MemoryLog::of(&records), &[], asking(dir.path())).await;
    let all = Answer { items: 2, released: 2, rows: 8, refused: BTreeMap::new() };
    assert_eq!((answered(&file), file.exists()), (all, false));
    assert_texts(&lake, 8).await;
    assert_eq!(of(&lake, "raw.imu", "pi-1").await.len(), 10, "the fleet's rows are untouched");
    assert_eq!(items(&lake).await, (2, 2));
    // The gaps of the refusal are closed: the newest row of each says so.
    let mut gaps: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in table(&lake, "ops.gaps").await {
        gaps.entry(text(&row, "gap_id")).or_default().push(text(&row, "state"));
    }
    assert_eq!(gaps.len(), 2);
    assert!(gaps.values().all(|states| states.contains(&"closed".to_owned())), "{gaps:?}");

    // Asked again there is nothing left; the device, which was not told, goes on in the same column; so it does after
    // another restart.
    for (n, id) in [(8, "3"), (9, "4")] {
        let file = ask(dir.path(), &renamed(), id).unwrap();
        records.push(other.batch(&[texts(&other, &schema, n..n + 1)], imu_at(n + 1)));
        live_as(&lake, &MemoryLog::of(&records), &[], asking(dir.path())).await;
        assert_eq!(answered(&file), Answer::default());
        assert_texts(&lake, i64::try_from(n).unwrap() + 1).await;
    }
    assert_eq!(items(&lake).await, (2, 2));
}

/// A group's worth at a time: more than that takes several commits, and every item is tried once.
#[tokio::test(start_paused = true)]
async fn a_long_quarantine_comes_back_in_several_commits() {
    let lake = testing::memory().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (other, schema, mut records) = conflict();
    for n in 8..20 {
        records.push(other.batch(&[texts(&other, &schema, n..n + 1)], imu_at(n + 1)));
    }
    live(&lake, &MemoryLog::of(&records), &[]).await;
    let before = lake.log("main", 100).await.unwrap().len();
    let small = IngestSettings { group_bytes_max: 1, ..asking(dir.path()) };
    let hopeless = ask(dir.path(), &Request::default(), "1").unwrap();
    let file = ask(dir.path(), &renamed(), "2").unwrap();
    live_as(&lake, &MemoryLog::of(&records), &[], small).await;
    assert_eq!((answered(&hopeless).items, answered(&hopeless).rows), (14, 0));
    assert_eq!((answered(&file).items, answered(&file).rows), (14, 20));
    assert_texts(&lake, 20).await;
    assert_eq!(lake.log("main", 100).await.unwrap().len(), before + 14);
}

#[tokio::test(start_paused = true)]
async fn a_replay_killed_at_every_write_lands_each_row_once() {
    let (_, _, records) = conflict();
    let log = MemoryLog::of(&records);
    let mut kills = 0;
    let faults = [(Fault::CrashBefore as fn(u64) -> Fault, 1), (Fault::CrashAfter, 2), (Fault::FailWrite, 3)];
    for (fault, first) in faults {
        // Every third write of each kind of fault, shifted, so that together they meet every write.
        for n in (first..).step_by(3) {
            let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
            let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
            let dir = tempfile::tempdir().unwrap();
            live(&lake, &log, &[]).await;
            let file = ask(dir.path(), &renamed(), "1").unwrap();
            store.set(fault(n));
            live_as(&lake, &log, &[], asking(dir.path())).await;
            let writes = store.writes();
            let lake = testing::open_on(disk).await.unwrap();
            live_as(&lake, &log, &[], asking(dir.path())).await;
            assert_texts(&lake, 8).await;
            assert_eq!((items(&lake).await, file.exists()), ((2, 2), false));
            kills += 1;
            if n > writes {
                break;
            }
        }
    }
    assert!(kills > 10, "{kills}");
}

#[tokio::test(start_paused = true)]
async fn a_running_collector_answers_a_request_within_its_interval() {
    let lake = testing::memory().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (_, _, records) = conflict();
    let (running, task) = Running::start_as(&lake, Vec::new(), asking(dir.path()));
    let driver = async {
        running.land(&records);
        running.clock_forward(15).await;
        assert_eq!(items(&lake).await, (2, 0));
        let file = ask(dir.path(), &renamed(), "1").unwrap();
        running.clock_forward(15).await;
        assert_eq!(answered(&file).rows, 8);
        assert_texts(&lake, 8).await;
        running.cancel.cancel();
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
}

/// The lake has other rows under these seqs: they are not asked for by whoever asks for everything.
#[tokio::test(start_paused = true)]
async fn a_second_copy_of_held_seqs_stays_in_quarantine() {
    let lake = testing::memory().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut records = gateway.declarations();
    records.push(gateway.batch(&[gateway.imu(0..20)], imu_at(20)));
    let Section::Rows(mut other) = gateway.imu(10..15) else { unreachable!() };
    other.t[2] += 1;
    records.push(gateway.batch(&[Section::Rows(other)], imu_at(25)));
    let file = ask(dir.path(), &Request::default(), "1").unwrap();
    live_as(&lake, &MemoryLog::of(&records), &[], asking(dir.path())).await;
    assert_eq!((answered(&file).released, items(&lake).await), (0, (1, 0)));
    assert_eq!(table(&lake, "raw.imu").await.len(), 20);
}

/// A refused picture: its object waits in the lake by its digest, and its row finds it there.
#[tokio::test(start_paused = true)]
async fn a_refused_picture_comes_back_with_its_object() {
    let lake = testing::memory().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let fleet = Gateway::new("pi-1", 7);
    let mut records = fleet.declarations();
    let (row, blob) = fleet.frame(0, &picture(0));
    records.extend([fleet.batch(&[row], frame_at(0)), blob]);
    let other = Gateway::new("pi-2", 9);
    let mut schema = builtin::image();
    schema.fields[2].logical = Logical::Utf8;
    records.push(other.declare(CAMERA, "camera/front", schema.clone()));
    let (row, blob) = other.frame(0, &picture(1));
    let Section::Rows(mut row) = row else { unreachable!() };
    row.fingerprint = schema.fingerprint();
    row.fields[2] = Column { values: Values::Utf8(vec!["wide".to_owned()]), valid: None };
    records.extend([other.batch(&[Section::Rows(row)], frame_at(0)), blob]);
    live_as(&lake, &MemoryLog::of(&records), &[], asking(dir.path())).await;
    assert_eq!(items(&lake).await, (1, 0));
    let request = Request {
        stream: Some("camera/front".to_owned()),
        rename: BTreeMap::from([("width".parse().unwrap(), "width_text".parse().unwrap())]),
        ..Request::default()
    };
    ask(dir.path(), &request, "1").unwrap();
    live_as(&lake, &MemoryLog::of(&records), &[], asking(dir.path())).await;
    let rows = of(&lake, "raw.image", "pi-2").await;
    assert_eq!(rows.len(), 1);
    assert_eq!((text(&rows[0], "width_text"), text(&rows[0], "hash")), ("wide".to_owned(), hash(1)));
    assert!(text(&rows[0], "image.path").ends_with(&hash(1)), "{rows:?}");
}

fn hash(seq: u64) -> String {
    Sha256::of(&picture(seq)).to_string()
}

/// A message that makes the time of receipt pass, and nothing else.
fn much_later(gateway: &Gateway, ns: i64) -> Record {
    gateway.batch(&[gateway.heartbeat(IMU, 0, 0)], imu_at(0) + ns)
}

/// Nothing waits for ever for a declaration, nothing is lost by it, and it may come late: to the same life, to the next,
/// or in the very commit before a crash.
#[tokio::test(start_paused = true)]
async fn rows_whose_declaration_is_late_wait_in_quarantine_and_come_back_with_it() {
    let gateway = Gateway::new("pi-1", 7);
    let early = [
        gateway.batch(&[gateway.imu(0..20)], imu_at(20)),
        much_later(&gateway, UNDECLARED_WAIT_NS_MAX + 60 * NS_PER_S),
    ];
    // Not yet: an hour has not passed.
    let lake = testing::memory().await.unwrap();
    let mark = live(&lake, &MemoryLog::of(&early[..1]), &[]).await;
    assert_eq!((items(&lake).await, mark.waiting.len()), ((0, 0), 1));

    for same_life in [false, true] {
        let lake = testing::memory().await.unwrap();
        let mut records = early.to_vec();
        if !same_life {
            let mark = live(&lake, &MemoryLog::of(&records), &[]).await;
            assert!(mark.waiting.is_empty(), "it holds no cursor back any more");
            let aside = table(&lake, "ops.quarantine").await;
            assert_eq!((aside.len(), text(&aside[0], "reason")), (1, "undeclared".to_owned()));
            assert_eq!((text(&aside[0], "stream"), long(&aside[0], "rows")), ("#1".to_owned(), 20));
            assert!(table(&lake, "ops.gaps").await.is_empty(), "nobody knows the stream's name yet");
        }
        // Another stream of the same fingerprint is none of its business.
        records.push(gateway.declare(StreamId(9), "imu/second", imu_schema()));
        live(&lake, &MemoryLog::of(&records), &[]).await;
        assert_eq!(table(&lake, "raw.imu").await.len(), 0);

        records.extend(gateway.declarations());
        live(&lake, &MemoryLog::of(&records), &[]).await;
        let rows = of(&lake, "raw.imu", "pi-1").await;
        assert_eq!(rows.len(), 20, "same life: {same_life}");
        assert!(rows.iter().all(|row| long(row, "n") == long(row, "seq") && text(row, "stream") == "imu"));
        assert_eq!(items(&lake).await, (1, 1));
        // Between the declaration and the replay the receiver calls them durable, so a gap record explains them.
        let gaps = table(&lake, "ops.gaps").await;
        let mut states: Vec<String> = gaps.iter().map(|row| text(row, "state")).collect();
        states.sort();
        assert_eq!(states, ["closed", "open"]);
        assert!(gaps.iter().all(|row| (long(row, "seq_lo"), long(row, "seq_hi")) == (0, 19)));
        live(&lake, &MemoryLog::of(&records), &[]).await;
        assert_eq!((table(&lake, "raw.imu").await.len(), items(&lake).await), (20, (1, 1)));
    }
}

/// What the receiver calls committed is in the lake or explained there, at every step.
#[tokio::test(start_paused = true)]
async fn receiver_and_ledger_agree_about_rows_whose_declaration_is_late() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let owner = (gateway.path.clone(), gateway.epoch);
    let end =
        |n: u64| LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset: 64 + n * 100 };
    let section = gateway.imu(0..20);
    let Section::Rows(rows) = &section else { unreachable!() };
    let mut set = LandedSet::default();
    assert!(set.land_run(&owner, RowRun::of(rows), end(1)).is_none());
    let mut records = vec![
        gateway.batch(std::slice::from_ref(&section), imu_at(20)),
        much_later(&gateway, UNDECLARED_WAIT_NS_MAX + 60 * NS_PER_S),
    ];
    let mark = live(&lake, &MemoryLog::of(&records), &[]).await;
    set.commit(&mark);
    assert!(set.durable(&owner, IMU).is_empty(), "set aside, and the gateway still holds them");
    assert_eq!(set.needed_schemas(&owner).len(), 1, "and is still asked");

    records.push(gateway.declare(IMU, "imu", imu_schema()));
    let declared = DeclaredStream {
        stream: IMU,
        name: "imu".parse().unwrap(),
        fingerprint: imu_schema().fingerprint(),
        schema: Arc::new(imu_schema()),
    };
    assert!(set.land_declaration(&owner, &declared, end(3)).is_empty());
    assert_eq!(set.durable(&owner, IMU).upto(), 20);
    set.commit(&live(&lake, &MemoryLog::of(&records), &[]).await);
    assert_eq!(set.committed(&owner, IMU).upto(), 20);
    let ledger = table(&lake, "ops.ledger").await;
    assert_eq!(ledger.len(), 1);
    assert_eq!((long(&ledger[0], "seq_lo"), long(&ledger[0], "seq_hi")), (0, 19));
}

#[tokio::test(start_paused = true)]
async fn a_late_declaration_brings_rows_back_whichever_write_is_the_last() {
    let gateway = Gateway::new("pi-1", 7);
    let mut records = vec![
        gateway.batch(&[gateway.imu(0..20)], imu_at(20)),
        much_later(&gateway, UNDECLARED_WAIT_NS_MAX + 60 * NS_PER_S),
    ];
    let early = MemoryLog::of(&records);
    records.extend(gateway.declarations());
    let log = MemoryLog::of(&records);
    for n in 1.. {
        let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
        let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
        live(&lake, &early, &[]).await;
        store.set(Fault::CrashAfter(n));
        live(&lake, &log, &[]).await;
        let writes = store.writes();
        let lake = testing::open_on(disk).await.unwrap();
        live(&lake, &log, &[]).await;
        assert_eq!((table(&lake, "raw.imu").await.len(), items(&lake).await), (20, (1, 1)), "write {n}");
        if n > writes {
            break;
        }
    }
}

/// The stream is known by another fingerprint: its name explains the seqs at once.
#[tokio::test(start_paused = true)]
async fn an_undeclared_fingerprint_of_a_named_stream_is_explained_when_it_is_set_aside() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let mut schema = imu_schema();
    schema.salt = 1;
    let Section::Rows(mut rows) = gateway.imu(20..30) else { unreachable!() };
    rows.fingerprint = schema.fingerprint();
    let mut records = gateway.declarations();
    records.push(gateway.batch(&[gateway.imu(0..20), Section::Rows(rows)], imu_at(30)));
    records.push(much_later(&gateway, UNDECLARED_WAIT_NS_MAX + 60 * NS_PER_S));
    live(&lake, &MemoryLog::of(&records), &[]).await;
    let gaps = table(&lake, "ops.gaps").await;
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        (text(&gaps[0], "stream"), text(&gaps[0], "cause")),
        ("imu".to_owned(), "quarantine".to_owned())
    );
    assert_eq!((long(&gaps[0], "seq_lo"), long(&gaps[0], "seq_hi")), (20, 29));
    assert_eq!(table(&lake, "raw.imu").await.len(), 20);
    records.push(gateway.declare(IMU, "imu", schema));
    live(&lake, &MemoryLog::of(&records), &[]).await;
    assert_eq!((table(&lake, "raw.imu").await.len(), items(&lake).await), (30, (1, 1)));
    assert_eq!(table(&lake, "ops.gaps").await.len(), 2, "open, then closed");
}

/// A row that has waited too long goes in without its blob; the blob that comes then is no resend: it is kept.
#[tokio::test(start_paused = true)]
async fn a_blob_later_than_its_rows_patience_is_kept_by_its_digest() {
    for same_life in [false, true] {
        let lake = testing::memory().await.unwrap();
        let gateway = Gateway::new("pi-1", 7);
        let (row, blob) = gateway.frame(0, &picture(0));
        let mut records = gateway.declarations();
        records.push(gateway.batch(&[row], frame_at(0)));
        records.push(much_later(&gateway, HALF_WAIT_NS_MAX + 60 * NS_PER_S));
        if !same_life {
            let mark = live(&lake, &MemoryLog::of(&records), &[]).await;
            assert!(mark.waiting.is_empty());
        }
        records.push(blob);
        live(&lake, &MemoryLog::of(&records), &[]).await;
        let rows = table(&lake, "raw.image").await;
        assert_eq!((rows.len(), &rows[0]["image.bytes"]), (1, &Cell::Null));
        let kept = lake.blob(&text(&rows[0], "hash")).await.unwrap();
        assert_eq!(kept.map(|bytes| bytes.to_vec()), Some(picture(0)), "same life: {same_life}");
        let gaps = table(&lake, "ops.gaps").await;
        assert_eq!(
            (gaps.len(), long(&gaps[0], "rows")),
            (1, 0),
            "no row is missing, and it says why its blob is"
        );
    }
}

/// A blob that has waited too long is kept by its digest; the row that comes then does not wait for it again.
#[tokio::test(start_paused = true)]
async fn a_row_later_than_its_blobs_patience_finds_it_in_the_lake() {
    for same_life in [false, true] {
        let lake = testing::memory().await.unwrap();
        let gateway = Gateway::new("pi-1", 7);
        let (row, blob) = gateway.frame(0, &picture(0));
        let mut records = gateway.declarations();
        records.push(blob);
        records.push(much_later(&gateway, HALF_WAIT_NS_MAX + 60 * NS_PER_S));
        if !same_life {
            live(&lake, &MemoryLog::of(&records), &[]).await;
        }
        records.push(gateway.batch(&[row], frame_at(0)));
        let mark = live(&lake, &MemoryLog::of(&records), &[]).await;
        assert!(mark.waiting.is_empty(), "same life: {same_life}");
        let rows = table(&lake, "raw.image").await;
        assert_eq!(rows.len(), 1);
        assert!(text(&rows[0], "image.path").ends_with(&hash(0)), "{rows:?}");
    }
}
