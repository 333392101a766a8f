//! Rows leave: by age, and for good.

use crate::common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use async_trait::async_trait;
use bytes::Bytes;
use common::{NOON_US, both, count, name, read, ts};
use futures::TryStreamExt;
use headwater_lake::testing::{self, AgedStore};
use headwater_lake::{
    CheckOptions, ColumnSpec, ColumnType, CommitKind, CommitRequest, Dropped, Erasure, GcOptions, Keep, Kind,
    Lake, LakeError, Problem, RefName, RetentionRule, Settle, TableAppend, TableSpec,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

const DAY: i64 = 24 * 3_600_000_000;

struct AtOnce;

#[async_trait]
impl Settle for AtOnce {
    async fn settle(&self, _: Duration) {}
}

async fn lake() -> (Arc<dyn ObjectStore>, Arc<AgedStore>, Lake) {
    let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Arc::new(AgedStore::new(Arc::clone(&disk), NOON_US));
    let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
    (disk, store, lake)
}

async fn keys(disk: &Arc<dyn ObjectStore>, part: &str) -> BTreeSet<String> {
    let listed: Vec<_> = disk.list(None).try_collect().await.unwrap();
    let keys = listed.into_iter().map(|meta| meta.location.to_string());
    keys.filter(|key| key.contains(part)).collect()
}

fn erasure(device: &str) -> Erasure {
    Erasure {
        device: device.to_owned(),
        stream: None,
        from_us: None,
        to_us: None,
        forget: false,
        reason: "asked for by its owner".to_owned(),
    }
}

/// Rows of a table by device, as text: what must not change.
async fn rows_of(lake: &Lake, at: &str, table: &str, device: &str) -> Vec<String> {
    let id = lake.resolve(at).await.unwrap();
    let mut rows = Vec::new();
    for batch in read(lake, &id, table).await {
        let devices = batch.column_by_name("device").unwrap().as_string::<i32>().clone();
        for row in (0..batch.num_rows()).filter(|row| devices.value(*row) == device) {
            let slice = batch.slice(row, 1);
            rows.push(format!("{:?}", slice.columns()));
        }
    }
    rows.sort();
    rows
}

fn images() -> TableSpec {
    let image = ColumnType::Struct(vec![
        ColumnSpec::optional("bytes", ColumnType::Binary),
        ColumnSpec::optional("path", ColumnType::String),
    ]);
    let columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required("stream", ColumnType::String),
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::optional("image", image),
    ];
    let mut spec = TableSpec::new(name("raw.image"), columns, &["device", "ts"]);
    spec.blob_columns = vec![vec!["image".to_owned(), "bytes".to_owned()]];
    spec
}

/// A row per path: inline bytes where there is none.
fn pictures(device: &str, stream: &str, us: i64, paths: &[Option<&str>]) -> TableAppend {
    let inline: BinaryArray = paths.iter().map(|path| path.is_none().then_some(&b"small"[..])).collect();
    let image = StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), Arc::new(inline) as ArrayRef),
        (Arc::new(Field::new("path", DataType::Utf8, true)), Arc::new(StringArray::from_iter(paths.iter()))),
    ]);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("device", Arc::new(StringArray::from(vec![device; paths.len()])) as ArrayRef, false),
        ("stream", Arc::new(StringArray::from(vec![stream; paths.len()])), false),
        ("ts", ts((0..paths.len() as i64).map(|n| us + n).collect()), false),
        ("image", Arc::new(image), true),
    ]);
    TableAppend { spec: images(), batches: vec![batch.unwrap()] }
}

async fn blob(lake: &Lake, bytes: &'static [u8]) -> (String, String) {
    let wrong = lake.put_blob(&"0".repeat(64), Bytes::from_static(bytes)).await.unwrap_err().to_string();
    let hash = wrong.rsplit(' ').next().unwrap().to_owned();
    let key = lake.put_blob(&hash, Bytes::from_static(bytes)).await.unwrap();
    (hash, key)
}

#[tokio::test]
async fn a_device_is_erased_from_every_branch_and_its_files_go() {
    let (disk, store, lake) = lake().await;
    let main = RefName::main();
    let mut writer = lake.writer(main.clone(), "test".to_owned());
    for n in 0..4 {
        writer.commit(both(n * 10, 10, NOON_US + n * DAY / 2)).await.unwrap();
    }
    let (_, key) = blob(&lake, b"a large picture").await;
    let (_, shared) = blob(&lake, b"a picture of both").await;
    let appends = vec![pictures("dev-0", "cam", NOON_US, &[Some(&key), Some(&shared), None])];
    writer.commit(CommitRequest { time_us: NOON_US, appends, ..CommitRequest::default() }).await.unwrap();
    let appends = vec![pictures("dev-1", "cam", NOON_US, &[Some(&shared), None])];
    writer.commit(CommitRequest { time_us: NOON_US, appends, ..CommitRequest::default() }).await.unwrap();
    let (dev, tag) = (RefName::new("dev").unwrap(), RefName::new("v1").unwrap());
    let old = lake.resolve("main~2").await.unwrap();
    lake.branch(&dev, &old, "test", NOON_US).await.unwrap();
    lake.refs().tag(&tag, &old, "test", NOON_US).await.unwrap();
    let first = lake.log("main", 100).await.unwrap().last().unwrap().id.clone();
    let clean = RefName::new("clean").unwrap();
    let kept = rows_of(&lake, "main", "raw.imu", "dev-1").await;
    let files = keys(&disk, "/data/").await;

    let erasure = erasure("dev-0");
    let preview = lake.preview_erase(&erasure, &mut |_, _| {}).await.unwrap();
    assert_eq!(preview.branches[&main][&name("raw.imu")].rows, 20);
    assert_eq!(preview.branches[&main][&name("raw.image")].rows, 3);
    assert!(!preview.branches[&main].contains_key(&name("ops.ledger")));
    assert_eq!((preview.tags[&tag], preview.rows()), (20, 23));
    assert_eq!(keys(&disk, "/data/").await, files, "a preview changes nothing");
    let refused = lake.erase(&erasure, false, "op", NOON_US, &mut |_, _| {}).await.unwrap_err().to_string();
    assert!(refused.contains("v1") && refused.contains("--drop-tags"), "{refused}");
    assert_eq!(count(&lake, &lake.resolve("main").await.unwrap(), "raw.imu").await, 40);

    let mut told = (0, 0);
    let report =
        lake.erase(&erasure, true, "op", NOON_US, &mut |done, all| told = (done, all)).await.unwrap();
    assert_eq!((report.commits.len(), report.tags.len()), (2, 1));
    assert!(told.0 > 0 && told.0 == told.1, "{told:?}");
    for at in ["main", "dev"] {
        assert_eq!(rows_of(&lake, at, "raw.imu", "dev-0").await, Vec::<String>::new());
        assert_eq!(rows_of(&lake, at, "raw.imu", "dev-1").await, kept);
        let commit = lake.commit_object(&lake.resolve(at).await.unwrap()).await.unwrap();
        assert_eq!(commit.kind, CommitKind::Erase);
        assert!(commit.message.contains("20 of raw.imu") && commit.message.ends_with("by its owner"));
        let rows: u64 = commit.tables[&name("raw.imu")].rows;
        assert_eq!(rows, 20);
    }
    assert!(lake.resolve("v1").await.is_err());
    // The ledger still knows them, so that nothing comes back by itself.
    assert_eq!(count(&lake, &lake.resolve("main").await.unwrap(), "ops.ledger").await, 4);
    // The writer that was at work goes on.
    writer.commit(both(90, 10, NOON_US + 1)).await.unwrap();
    assert_eq!(rows_of(&lake, "main", "raw.imu", "dev-1").await.len(), kept.len() + 5);

    // Past the grace time the old files, commits and the one blob go, at once for all that old entries name.
    let now_us = NOON_US + 4 * DAY;
    store.set_now(now_us);
    let gc = GcOptions::new(now_us, "test".to_owned());
    let swept = lake.collect_garbage(&gc, &AtOnce, &mut |_| {}).await.unwrap();
    assert_eq!(swept.deleted[&Kind::Blob].objects, 1);
    assert!(!keys(&disk, "blobs/").await.contains(&key) && keys(&disk, "blobs/").await.contains(&shared));
    let left = keys(&disk, "/data/").await;
    assert!(files.iter().filter(|file| file.contains("/imu-")).all(|file| !left.contains(file)));
    assert!(lake.commit_object(&first).await.is_err());
    assert!(lake.branch(&clean, &first, "test", now_us).await.is_err());
    let log = lake.log("main", 100).await.unwrap();
    assert_eq!(
        log.iter().map(|commit| commit.kind).collect::<Vec<_>>(),
        [CommitKind::Ingest, CommitKind::Erase]
    );
    assert_eq!(lake.parents_of(&log[1]).await.unwrap(), []);
    let options = CheckOptions { now_us, keep: Keep::default(), checksums: true };
    let check = lake.check(&options, &mut |_| {}).await.unwrap();
    assert_eq!((check.findings.clone(), check.orphans.objects), (vec![], 0), "{:?}", check.findings);
    // What was done stands for ever.
    let audit = keys(&disk, "_repo/audit/").await;
    assert_eq!(audit.len(), 2);
    let record =
        disk.get(&Path::parse(format!("_repo/audit/erasure-{}.json", report.id)).unwrap()).await.unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record.bytes().await.unwrap()).unwrap();
    assert_eq!((&record["erasure"]["device"], &record["author"]), (&"dev-0".into(), &"op".into()));

    // A blob that is needed and gone is found.
    disk.delete(&Path::parse(&shared).unwrap()).await.unwrap();
    let check = lake.check(&CheckOptions { checksums: false, ..options }, &mut |_| {}).await.unwrap();
    let found: Vec<_> = check.findings.iter().map(|finding| (finding.problem, finding.kind)).collect();
    assert_eq!(found, [(Problem::Missing, Kind::Blob)]);
}

#[tokio::test]
async fn a_stream_and_a_span_are_erased_and_nothing_else() {
    let (_, _, lake) = lake().await;
    let main = RefName::main();
    let mut writer = lake.writer(main.clone(), "test".to_owned());
    for (n, stream) in ["cam", "cam/rear", "cam"].into_iter().enumerate() {
        let appends = vec![pictures("dev-0", stream, NOON_US + n as i64 * 100, &[None; 10])];
        let mut request = both(0, 10, NOON_US);
        request.appends.extend(appends);
        writer.commit(request).await.unwrap();
    }
    let part = Erasure {
        stream: Some("cam".to_owned()),
        from_us: Some(NOON_US + 5),
        to_us: Some(NOON_US + 205),
        ..erasure("dev-0")
    };
    let report = lake.erase(&part, false, "op", NOON_US, &mut |_, _| {}).await.unwrap();
    // Five of the first ten of `cam`, none of `cam/rear`, five of the last ten.
    assert_eq!(report.rows[&main][&name("raw.image")], 10);
    let head = lake.resolve("main").await.unwrap();
    assert_eq!((count(&lake, &head, "raw.image").await, count(&lake, &head, "ops.ledger").await), (20, 3));
    for wrong in [Erasure { reason: String::new(), ..part.clone() }, Erasure { forget: true, ..part }] {
        let refused = lake.erase(&wrong, false, "op", NOON_US, &mut |_, _| {}).await.unwrap_err();
        assert!(matches!(refused, LakeError::Erasure { .. }), "{refused}");
    }
    assert_eq!(lake.resolve("main").await.unwrap(), head);
    let all = Erasure { forget: true, ..erasure("dev-0") };
    lake.erase(&all, false, "op", NOON_US, &mut |_, _| {}).await.unwrap();
    let head = lake.resolve("main").await.unwrap();
    assert_eq!((count(&lake, &head, "raw.image").await, count(&lake, &head, "ops.ledger").await), (0, 0));
}

#[tokio::test]
async fn old_days_leave_by_retention() {
    let (_, _, lake) = lake().await;
    let main = RefName::main();
    let mut writer = lake.writer(main.clone(), "test".to_owned());
    for day in 0..10 {
        writer.commit(both(day * 10, 10, NOON_US + day * DAY)).await.unwrap();
    }
    let rules = [RetentionRule { tables: "raw.*".parse().unwrap(), keep_days: 4 }];
    let now_us = NOON_US + 9 * DAY;
    let dry = lake.expire(&main, &rules, "op", now_us, true).await.unwrap();
    let Dropped { files, rows, bytes } = dry.tables[&name("raw.imu")];
    assert_eq!((dry.commit, files, rows, bytes > 0), (None, 5, 50, true));
    assert_eq!(count(&lake, &lake.resolve("main").await.unwrap(), "raw.imu").await, 100);
    let done = lake.expire(&main, &rules, "op", now_us, false).await.unwrap();
    let head = lake.resolve("main").await.unwrap();
    assert_eq!((done.commit.as_ref(), &done.tables), (Some(&head), &dry.tables));
    let commit = lake.commit_object(&head).await.unwrap();
    assert_eq!(
        (commit.kind, commit.message.as_str()),
        (CommitKind::Retention, "retention: 50 rows of raw.imu left")
    );
    assert_eq!((count(&lake, &head, "raw.imu").await, count(&lake, &head, "ops.ledger").await), (50, 10));
    // History still has them until it runs out, and a second time nothing is to be done.
    assert_eq!(count(&lake, &lake.resolve("main~1").await.unwrap(), "raw.imu").await, 100);
    assert_eq!(lake.expire(&main, &rules, "op", now_us, false).await.unwrap(), Default::default());
    assert_eq!(lake.resolve("main").await.unwrap(), head);
}
