//! Commits end to end: what was written is what is read, history costs nothing, and metadata stays bounded.

use crate::common;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_ord::sort::sort_to_indices;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use common::{DAY_US, NOON_US, both, count, imu, imu_rows, name, read};
use futures::TryStreamExt;
use headwater_lake::{
    ColumnSpec, ColumnType, CommitRequest, CompactPolicy, CompactScope, Lake, LandingCursor, LandingPosition,
    RefName, ScanOptions, TableAppend, TableSpec, testing,
};

fn by_seq(batches: &[RecordBatch]) -> RecordBatch {
    let all = concat_batches(&batches[0].schema(), batches).unwrap();
    let order = sort_to_indices(all.column_by_name("seq").unwrap(), None, None).unwrap();
    take_record_batch(&all, &order).unwrap()
}

#[tokio::test]
async fn a_scan_gives_back_what_was_written_bit_for_bit() {
    let lake = testing::memory().await.unwrap();
    let rows = imu_rows(0, 1000, NOON_US);
    let append = TableAppend { spec: imu(), batches: vec![rows.slice(500, 500), rows.slice(0, 500)] };
    let request = CommitRequest { time_us: NOON_US, appends: vec![append], ..CommitRequest::default() };
    let done = lake.writer(RefName::main(), "test".to_owned()).commit(request).await.unwrap();
    assert_eq!((done.rows, done.seq, done.commit.stats.rows), (1000, 1, 1000));

    let found = by_seq(&read(&lake, &done.id, "raw.imu").await);
    assert_eq!(found.num_rows(), 1000);
    for column in ["device", "seq", "ts", "n", "late"] {
        assert_eq!(
            found.column_by_name(column).unwrap().to_data(),
            rows.column_by_name(column).unwrap().to_data(),
            "{column}"
        );
    }
    // NaN and -0.0 are compared as bits.
    let bits = |batch: &RecordBatch| -> Vec<Option<u32>> {
        batch
            .column_by_name("ax")
            .unwrap()
            .as_primitive::<Float32Type>()
            .iter()
            .map(|v| v.map(f32::to_bits))
            .collect()
    };
    assert_eq!(bits(&found), bits(&rows));
    let wanted = rows.column_by_name("payload").unwrap().as_binary::<i32>().iter().collect::<Vec<_>>();
    let payload = found.column_by_name("payload").unwrap();
    assert_eq!(payload.as_binary::<i64>().iter().collect::<Vec<_>>(), wanted);
    let (src, wanted) = (
        found.column_by_name("x_src").unwrap().as_struct(),
        rows.column_by_name("x_src").unwrap().as_struct(),
    );
    assert_eq!(src.logical_nulls(), wanted.logical_nulls());
    for row in (0..1000).filter(|&row| wanted.is_valid(row)) {
        let at = |s: &arrow_array::StructArray| {
            let stream = s.column(0).as_string::<i32>();
            let stream = stream.is_valid(row).then(|| stream.value(row).to_owned());
            (stream, s.column(1).as_primitive::<Int64Type>().value(row))
        };
        assert_eq!(at(src), at(wanted), "row {row}");
    }

    let options = ScanOptions {
        columns: Some(vec!["seq".to_owned(), "x_src".to_owned()]),
        device: Some("dev-1".to_owned()),
        limit: Some(33),
        ..ScanOptions::default()
    };
    let some: Vec<RecordBatch> =
        lake.scan(&done.id, &name("raw.imu"), options).await.unwrap().try_collect().await.unwrap();
    assert_eq!(some.iter().map(RecordBatch::num_rows).sum::<usize>(), 33);
    assert_eq!(some[0].num_columns(), 2);
    assert!(
        some.iter().all(|b| b.column(0).as_primitive::<Int64Type>().values().iter().all(|seq| seq % 2 == 1))
    );
    let unknown = ScanOptions { columns: Some(vec!["nope".to_owned()]), ..ScanOptions::default() };
    assert!(lake.scan(&done.id, &name("raw.imu"), unknown).await.is_err());
}

/// `headwater scan --columns receiver,key_serial` showed each under the other's name.
#[tokio::test]
async fn a_selection_in_any_order_names_its_own_values() {
    let lake = testing::memory().await.unwrap();
    let text = |name: &str| ColumnSpec::optional(name, ColumnType::String);
    let columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        text("first"),
        text("second"),
    ];
    let spec = TableSpec::new(name("ops.pair"), columns, &["device", "ts"]);
    let texts = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("device", texts("pi-1"), false),
        ("ts", common::ts(vec![NOON_US]), false),
        ("first", texts("1"), true),
        ("second", texts("2"), true),
    ]);
    let append = TableAppend { spec, batches: vec![rows.unwrap()] };
    let request = CommitRequest { time_us: NOON_US, appends: vec![append], ..CommitRequest::default() };
    let done = lake.writer(RefName::main(), "test".to_owned()).commit(request).await.unwrap();
    for asked in [&["second", "first"][..], &["first", "second"], &["second", "device", "first", "second"]] {
        let columns = Some(asked.iter().map(|name| (*name).to_owned()).collect());
        let options = ScanOptions { columns, ..ScanOptions::default() };
        let found: Vec<RecordBatch> =
            lake.scan(&done.id, &name("ops.pair"), options).await.unwrap().try_collect().await.unwrap();
        let value =
            |name: &str| found[0].column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
        assert_eq!((value("first"), value("second")), ("1".to_owned(), "2".to_owned()), "{asked:?}");
    }
}

#[tokio::test]
async fn many_commits_count_exactly_and_leave_bounded_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::init(folder.path().to_str().unwrap()).await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let mut ids = Vec::new();
    let mut metadata_bytes = Vec::new();
    for n in 0..100 {
        let done = writer.commit(both(n * 10, 10, NOON_US + n * 10_000_000)).await.unwrap();
        // data, manifest, list, metadata for each of two tables, commit, ref; one more manifest each where a merge is.
        assert!((10..=12).contains(&done.objects), "commit {n} wrote {} objects", done.objects);
        let at = &done.commit.tables[&name("raw.imu")].metadata_location;
        metadata_bytes.push(std::fs::metadata(at.strip_prefix("file://").unwrap()).unwrap().len());
        ids.push(done.id);
    }
    for (n, id) in ids.iter().enumerate().step_by(9) {
        let entry = &lake.tables(id).await.unwrap()[&name("raw.imu")];
        assert_eq!(entry.rows, (n as u64 + 1) * 10);
        assert_eq!(count(&lake, id, "raw.imu").await, (n + 1) * 10);
        assert_eq!(count(&lake, id, "ops.ledger").await, n + 1);
    }
    assert_eq!(count(&lake, &ids[99], "raw.imu").await, 1000);
    let found = by_seq(&read(&lake, &ids[99], "raw.imu").await);
    let seqs: Vec<i64> = found.column_by_name("seq").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(seqs, (0..1000).collect::<Vec<_>>());

    let entry = &lake.tables(&ids[99]).await.unwrap()[&name("raw.imu")];
    let text = std::fs::read(entry.metadata_location.strip_prefix("file://").unwrap()).unwrap();
    let metadata: iceberg::spec::TableMetadata = serde_json::from_slice(&text).unwrap();
    assert_eq!(metadata.snapshots().len(), 20);
    assert_eq!(metadata.history().len(), 20);
    assert!(metadata.metadata_log().len() <= 5);
    assert!(metadata_bytes[99] < metadata_bytes[25] + 1024, "{metadata_bytes:?}");
    let list =
        metadata.current_snapshot().unwrap().manifest_list().strip_prefix("file://").unwrap().to_owned();
    let list = std::fs::read(list).unwrap();
    let list = iceberg::spec::ManifestList::parse_with_version(&list, metadata.format_version()).unwrap();
    assert!(list.entries().len() <= 31, "{}", list.entries().len());
    let totals = &metadata.current_snapshot().unwrap().summary().additional_properties;
    assert_eq!((totals["total-records"].as_str(), totals["total-data-files"].as_str()), ("1000", "100"));
    assert_eq!(totals["hw.parent"], ids[98].as_str());

    let log = lake.log("main~2", 3).await.unwrap();
    assert_eq!(log.iter().map(|c| &c.id).collect::<Vec<_>>(), [&ids[97], &ids[96], &ids[95]]);
    assert_eq!(lake.resolve(&ids[3].as_str()[..16]).await.unwrap(), ids[3]);
    assert_eq!(lake.resolve(&format!("main@{}", ids[3])).await.unwrap(), ids[3]);
    for unknown in ["nope", "main~100", "ffff~x", "main@zzzz"] {
        assert!(lake.resolve(unknown).await.is_err(), "{unknown}");
    }
}

#[tokio::test]
async fn columns_are_added_and_widened_under_old_rows() {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(both(0, 10, NOON_US)).await.unwrap();

    let mut wide = imu();
    wide.columns.retain(|column| column.name != "payload");
    for column in &mut wide.columns {
        match column.name.as_str() {
            "n" => column.column_type = ColumnType::Long,
            "ax" => column.column_type = ColumnType::Double,
            _ => {}
        }
    }
    wide.columns.push(ColumnSpec::optional("gz", ColumnType::Double));
    let rows = RecordBatch::try_from_iter(vec![
        ("gz", Arc::new(Float64Array::from(vec![0.5])) as ArrayRef),
        ("ax", Arc::new(Float64Array::from(vec![1e300]))),
        ("n", Arc::new(Int64Array::from(vec![1 << 40]))),
        ("ts", common::ts(vec![NOON_US])),
        ("seq", Arc::new(Int64Array::from(vec![10]))),
        ("device", Arc::new(StringArray::from(vec!["dev-0"]))),
    ])
    .unwrap();
    let append = TableAppend { spec: wide, batches: vec![rows] };
    let request = CommitRequest { time_us: NOON_US + 1, appends: vec![append], ..CommitRequest::default() };
    writer.commit(request).await.unwrap();
    // A writer that still has the old declaration goes on.
    let done = writer.commit(both(11, 10, NOON_US + 2)).await.unwrap();

    let found = by_seq(&read(&lake, &done.id, "raw.imu").await);
    assert_eq!(found.num_rows(), 21);
    assert_eq!(found.column_by_name("gz").unwrap().null_count(), 20);
    let n = found.column_by_name("n").unwrap().as_primitive::<Int64Type>();
    assert_eq!((n.value(3), n.value(10), n.value(13)), (3, 1 << 40, 13));
    assert!(
        found.column_by_name("ax").unwrap().as_primitive_opt::<arrow_array::types::Float64Type>().is_some()
    );
    let old = by_seq(&read(&lake, &lake.resolve("main~2").await.unwrap(), "raw.imu").await);
    assert!(old.column_by_name("n").unwrap().as_primitive_opt::<Int32Type>().is_some());

    let mut wrong = imu();
    wrong.columns[4].column_type = ColumnType::String;
    let append = TableAppend { spec: wrong, batches: vec![imu_rows(30, 1, NOON_US)] };
    let refused = writer
        .commit(CommitRequest { time_us: NOON_US, appends: vec![append], ..CommitRequest::default() })
        .await;
    let text = std::error::Error::source(&refused.unwrap_err()).unwrap().to_string();
    assert!(text.starts_with("evolve raw.imu.n: it is long in the table"), "{text}");
    assert_eq!(count(&lake, &lake.resolve("main").await.unwrap(), "raw.imu").await, 21);
}

fn data_files(root: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.join("t/raw")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                let day = path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
                let hash = path.file_name().unwrap().to_str().unwrap()[..32].to_owned();
                found.insert(format!("{day}/{hash}"), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[tokio::test]
async fn order_of_arrival_does_not_change_a_byte_of_the_data() {
    let mut images = Vec::new();
    for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::init(folder.path().to_str().unwrap()).await.unwrap();
        let parts = [0, 1, 2, 3].map(|n| imu_rows(n * 100, 100, NOON_US + n * DAY_US / 2));
        let batches = order.iter().map(|&n| parts[n].clone()).collect();
        let append = TableAppend { spec: imu(), batches };
        let request = CommitRequest { time_us: NOON_US, appends: vec![append], ..CommitRequest::default() };
        lake.writer(RefName::main(), "test".to_owned()).commit(request).await.unwrap();
        images.push(data_files(folder.path()));
    }
    let days: Vec<&str> = images[0].keys().map(|key| &key[..17]).collect();
    assert_eq!(days, ["ts_day=2026-11-23", "ts_day=2026-11-24", "ts_day=2026-11-25"]);
    assert_eq!(images[0], images[1]);
}

#[tokio::test]
async fn landing_cursors_never_go_back() {
    let lake = testing::memory().await.unwrap();
    let at =
        |n| LandingCursor { data: LandingPosition { n, offset: 5 }, ops: LandingPosition { n, offset: 0 } };
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    for n in [3, 7, 5] {
        let landing = BTreeMap::from([("r/1".to_owned(), at(n)), (format!("r/{}", n + 10), at(1))]);
        writer.commit(CommitRequest { time_us: NOON_US, landing, ..CommitRequest::default() }).await.unwrap();
    }
    let cursors = lake.landing_cursors_max(&RefName::main()).await.unwrap();
    assert_eq!(cursors["r/1"], at(7));
    assert_eq!(cursors.len(), 4);
}

#[tokio::test]
async fn a_lake_is_made_once_opened_after_and_missed_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lake");
    let text = Lake::open(path.to_str().unwrap()).await.unwrap_err().to_string();
    assert!(text.contains("--lake"), "{text}");
    let lake = Lake::init(path.to_str().unwrap()).await.unwrap();
    assert!(lake.location().starts_with("file:///"));
    let again = Lake::init(&format!("file://{}", path.display())).await.unwrap();
    assert_eq!(again.repo_id(), lake.repo_id());
    assert_eq!(Lake::open(lake.location()).await.unwrap().location(), lake.location());
    assert!(Lake::open(folder.path().to_str().unwrap()).await.is_err());
}

#[tokio::test]
async fn blobs_are_kept_by_their_hash() {
    let lake = testing::memory().await.unwrap();
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for _ in 0..2 {
        let path = lake.put_blob(hash, bytes::Bytes::from_static(b"abc")).await.unwrap();
        assert_eq!(path, format!("blobs/sha256/ba/{hash}"));
    }
    assert_eq!(lake.blob(hash).await.unwrap().unwrap(), "abc");
    assert!(lake.put_blob(hash, bytes::Bytes::from_static(b"abd")).await.is_err());
    assert!(lake.put_blob("../x", bytes::Bytes::new()).await.is_err());
}

#[tokio::test]
async fn parquet_blob_layout() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::init(folder.path().to_str().unwrap()).await.unwrap();
    let image = ColumnType::Struct(vec![
        ColumnSpec::optional("bytes", ColumnType::Binary),
        ColumnSpec::optional("path", ColumnType::String),
    ]);
    let columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required("ts", ColumnType::Timestamptz),
        ColumnSpec::optional("image", image),
    ];
    let mut spec = TableSpec::new(name("raw.image"), columns, &["device", "ts"]);
    spec.blob_columns = vec![vec!["image".to_owned(), "bytes".to_owned()]];
    let frame = vec![7u8; 1 << 20];
    let members: arrow_schema::Fields =
        match spec.arrow_schema().field_with_name("image").unwrap().data_type() {
            arrow_schema::DataType::Struct(members) => members.clone(),
            other => panic!("{other}"),
        };
    let images = arrow_array::StructArray::new(
        members,
        vec![
            Arc::new(arrow_array::BinaryArray::from_iter_values((0..40).map(|_| &frame))),
            Arc::new(StringArray::from(vec![None::<&str>; 40])),
        ],
        None,
    );
    let rows = RecordBatch::try_from_iter(vec![
        ("device", Arc::new(StringArray::from(vec!["cam"; 40])) as ArrayRef),
        ("ts", common::ts((0..40).map(|n| NOON_US + n).collect())),
        ("image", Arc::new(images)),
    ])
    .unwrap();
    let append = TableAppend { spec, batches: vec![rows] };
    let request = CommitRequest { time_us: NOON_US, appends: vec![append], ..CommitRequest::default() };
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(request.clone()).await.unwrap();
    writer.commit(request).await.unwrap();
    // Merging them keeps the layout, and every picture its bytes.
    let (policy, scope) = (CompactPolicy::default(), CompactScope::default());
    let far = NOON_US + 9 * DAY_US;
    let done = lake.compact(&RefName::main(), "test", &policy, &scope, far, |_, _| ()).await.unwrap();
    let done = done.unwrap().committed.unwrap();
    let pictures = read(&lake, &done.id, "raw.image").await;
    let whole = |batch: &RecordBatch| {
        let bytes = batch.column_by_name("image").unwrap().as_struct().column(0).as_binary::<i64>().clone();
        (0..batch.num_rows()).filter(|row| bytes.value(*row) == frame.as_slice()).count()
    };
    assert_eq!(pictures.iter().map(whole).sum::<usize>(), 80);

    let files = data_files(folder.path());
    assert_eq!(files.len(), 2, "two commits wrote the same bytes, and the merge another file");
    for file in files.into_values() {
        let file = bytes::Bytes::from(file);
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let groups = reader.metadata().row_groups();
        // Groups of some pictures: a reader that knows nothing of pages reads a whole one for a single picture.
        assert!((10..=30).contains(&groups.len()), "{}", groups.len());
        assert_eq!(reader.metadata().file_metadata().created_by(), Some("headwater"));
        for group in groups {
            let blob = group.columns().iter().find(|c| c.column_path().string() == "image.bytes").unwrap();
            assert_eq!(blob.compression(), parquet::basic::Compression::UNCOMPRESSED);
            assert!(blob.statistics().is_none() && blob.dictionary_page_offset().is_none());
            assert!(group.total_byte_size() < 5 << 20);
        }
    }
}
