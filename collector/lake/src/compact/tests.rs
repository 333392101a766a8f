//! Compaction beside other writers: appends, other compactions, and clients that delete rows by position.

use super::*;
use crate::repo::{CommitKind, RefOp};
use crate::table::{Change, Context, kept, produce, snapshot_id};
use crate::writer::{Base, Draft, Drafting, Plan};
use crate::{ColumnSpec, ColumnType, CommitRequest, ScanOptions, TS, TableAppend, TableSpec, UTC, testing};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema};
use async_trait::async_trait;
use futures::TryStreamExt;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Literal, Operation, Struct};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use std::collections::HashMap;

fn name() -> TableName {
    TableName::new("raw.imu").unwrap()
}

fn spec() -> TableSpec {
    let columns = vec![
        ColumnSpec::required("device", ColumnType::String),
        ColumnSpec::required(TS, ColumnType::Timestamptz),
        ColumnSpec::required("seq", ColumnType::Long),
    ];
    TableSpec::new(name(), columns, &["device", TS, "seq"])
}

fn rows(seqs: std::ops::Range<i64>) -> RecordBatch {
    let devices = seqs.clone().map(|seq| format!("dev-{}", seq % 3));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("device", Arc::new(StringArray::from_iter_values(devices))),
        (TS, Arc::new(TimestampMicrosecondArray::from_iter_values(seqs.clone()).with_timezone(UTC))),
        ("seq", Arc::new(Int64Array::from_iter_values(seqs))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn append(writer: &mut LakeWriter, seqs: std::ops::Range<i64>) -> Committed {
    let append = TableAppend { spec: spec(), batches: vec![rows(seqs)] };
    writer.commit(CommitRequest { appends: vec![append], ..CommitRequest::default() }).await.unwrap()
}

/// A lake of `commits` commits of ten rows each.
async fn lake_of(commits: i64) -> (Lake, LakeWriter) {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    for n in 0..commits {
        append(&mut writer, n * 10..n * 10 + 10).await;
    }
    (lake, writer)
}

async fn head(lake: &Lake) -> CommitId {
    lake.resolve("main").await.unwrap()
}

async fn batches(lake: &Lake, at: &CommitId) -> Vec<RecordBatch> {
    lake.scan(at, &name(), ScanOptions::default()).await.unwrap().try_collect().await.unwrap()
}

async fn seqs(lake: &Lake, at: &CommitId) -> Vec<i64> {
    let mut seqs: Vec<i64> = Vec::new();
    for batch in batches(lake, at).await {
        seqs.extend(batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>().values());
    }
    seqs.sort_unstable();
    seqs
}

async fn files(lake: &Lake) -> TableFiles {
    let at = head(lake).await;
    let entry = lake.tables(&at).await.unwrap()[&name()].clone();
    let state = table::load(lake.store(), &name(), &entry).await.unwrap();
    FileIndex::default().of(lake.store(), &name(), &state).await.unwrap()
}

async fn prepared(lake: &Lake) -> Prepared {
    let policy = CompactPolicy::default();
    let at = head(lake).await;
    let survey = lake.compactor().survey(&at, &policy, &CompactScope::default(), 0).await.unwrap();
    lake.prepare_compaction(survey, &policy, &StopFlag::default(), |_, _| ()).await.unwrap()
}

#[tokio::test]
async fn many_files_become_one_in_order_and_the_old_commit_keeps_its_own() {
    let (lake, _) = lake_of(12).await;
    let before = head(&lake).await;
    let done = lake
        .compact(&RefName::main(), "test", &CompactPolicy::default(), &CompactScope::default(), 5, |_, _| ())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((done.files_in, done.files_out, done.dropped.len()), (12, 1, 0));
    let commit = done.committed.unwrap().commit;
    assert_eq!((commit.kind, commit.stats.rows), (CommitKind::Compact, 0));
    assert_eq!(commit.tables[&name()].rows, 120);
    assert_eq!(commit.message, "12 files of 1 tables into 1");

    let found = batches(&lake, &commit.id).await;
    let all = arrow_select::concat::concat_batches(&found[0].schema(), &found).unwrap();
    let seqs_in_file: Vec<i64> = all.column(2).as_primitive::<Int64Type>().values().to_vec();
    let mut sorted: Vec<i64> = (0..120).collect();
    sorted.sort_by_key(|seq| (seq % 3, *seq));
    assert_eq!(seqs_in_file, sorted);
    assert_eq!(seqs(&lake, &before).await, (0..120).collect::<Vec<_>>());
    assert!(files(&lake).await.data.keys().all(|path| path.ends_with("-minutes.parquet")));
    // Nothing is left to do, and that is said.
    let again = lake
        .compact(&RefName::main(), "test", &CompactPolicy::default(), &CompactScope::default(), 6, |_, _| ())
        .await;
    assert_eq!(again.unwrap(), None);
}

#[tokio::test]
async fn compact_vs_append_race() {
    let (lake, mut writer) = lake_of(12).await;
    let first = prepared(&lake).await;
    let second = prepared(&lake).await;
    let mut other = lake.writer(RefName::main(), "other".to_owned());
    append(&mut other, 120..130).await;
    // The writer does not know of the append, and loses its race once.
    let done = writer.compact(first, 7).await.unwrap();
    assert_eq!((done.files_in, done.dropped.len()), (12, 0));
    assert_eq!(done.committed.unwrap().conflicts, 1);
    assert_eq!(seqs(&lake, &head(&lake).await).await, (0..130).collect::<Vec<_>>());

    // Who comes second finds its files gone, and changes nothing.
    let before = head(&lake).await;
    let late = writer.compact(second, 8).await.unwrap();
    assert_eq!((late.committed, late.dropped), (None, vec![(name(), 0, Overtaken::FilesGone)]));
    assert_eq!(head(&lake).await, before);
    append(&mut writer, 130..140).await;
    assert_eq!(seqs(&lake, &head(&lake).await).await, (0..140).collect::<Vec<_>>());
}

/// Adds files as a foreign client would: a delete file, or data that nobody sorted.
#[derive(Debug)]
struct Foreign {
    added: Vec<(DataFile, bytes::Bytes)>,
}

#[async_trait]
impl Plan for Foreign {
    fn time_us(&self) -> i64 {
        1
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        base.need(lake, &name()).await?;
        let state = &base.tables[&name()];
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Foreign, 1);
        let context = Context {
            store: lake.store(),
            table: &name(),
            snapshot_id: snapshot_id(),
            time_us: 1,
            summary: drafting.summary(),
        };
        let added = self.added.iter().map(|(file, _)| file.clone()).collect();
        let operation = Operation::Overwrite;
        let change = Change { added, added_manifest: None, removed: BTreeSet::new(), operation };
        let drafted = kept(&state.metadata, &state.entry.metadata_location);
        let built = produce(&context, drafted, Some(state), &change).await?;
        drafting.put(&name(), built);
        for (file, bytes) in &self.added {
            drafting.object(file.file_path().to_owned(), bytes.clone());
        }
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

fn parquet(batch: &RecordBatch) -> bytes::Bytes {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes.into()
}

fn with_id(name: &str, data_type: DataType, id: i32) -> Field {
    let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    Field::new(name, data_type, false).with_metadata(id)
}

async fn folder(lake: &Lake) -> String {
    let any = files(lake).await.data.into_keys().next().unwrap();
    any.rsplit_once('/').unwrap().0.to_owned()
}

fn entry(path: String, content: DataContentType, rows: usize, bytes: &bytes::Bytes) -> DataFile {
    DataFileBuilder::default()
        .content(content)
        .file_path(path)
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(Literal::date(0))]))
        .partition_spec_id(0)
        .record_count(rows as u64)
        .file_size_in_bytes(bytes.len() as u64)
        .build()
        .unwrap()
}

/// A position delete of these rows of these files, as the Iceberg specification lays it out.
async fn delete(lake: &Lake, at: &[(&str, i64)]) -> Foreign {
    let schema = Schema::new(vec![
        with_id("file_path", DataType::Utf8, 2_147_483_546),
        with_id("pos", DataType::Int64, 2_147_483_545),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(at.iter().map(|(path, _)| path))),
        Arc::new(Int64Array::from_iter_values(at.iter().map(|(_, pos)| *pos))),
    ];
    let bytes = parquet(&RecordBatch::try_new(Arc::new(schema), columns).unwrap());
    let path = format!("{}/delete-{}.parquet", folder(lake).await, uuid::Uuid::new_v4());
    Foreign { added: vec![(entry(path, DataContentType::PositionDeletes, at.len(), &bytes), bytes)] }
}

#[tokio::test]
async fn compact_applies_position_deletes() {
    let (lake, mut writer) = lake_of(4).await;
    let paths: Vec<String> = files(&lake).await.data.into_keys().collect();
    let mut foreign = lake.writer(RefName::main(), "duckdb".to_owned());
    let mut deleted = delete(&lake, &[(&paths[0], 0), (&paths[0], 3), (&paths[2], 9)]).await;
    foreign.publish(&mut deleted).await.unwrap();
    let left = seqs(&lake, &head(&lake).await).await;
    assert_eq!(left.len(), 37);
    // An append carries the delete along.
    append(&mut writer, 40..50).await;
    assert_eq!(seqs(&lake, &head(&lake).await).await.len(), 47);
    assert_eq!(files(&lake).await.deletes.len(), 1);

    // A delete between the work and its publication would come to nothing: the work is dropped.
    let early = prepared(&lake).await;
    let mut more = delete(&lake, &[(&paths[2], 0)]).await;
    foreign.publish(&mut more).await.unwrap();
    let done = writer.compact(early, 9).await.unwrap();
    assert_eq!((done.committed, done.dropped), (None, vec![(name(), 0, Overtaken::DeletesSince)]));

    let before = seqs(&lake, &head(&lake).await).await;
    assert_eq!(before.len(), 46);
    let work = prepared(&lake).await;
    let done = writer.compact(work, 10).await.unwrap();
    assert_eq!((done.files_in, done.files_out), (2, 1));
    let now = files(&lake).await;
    assert_eq!((now.deletes.len(), now.data.len()), (0, 4));
    assert_eq!(seqs(&lake, &head(&lake).await).await, before);
    let entry = lake.tables(&head(&lake).await).await.unwrap()[&name()].clone();
    assert_eq!(entry.rows, 46);
    let state = table::load(lake.store(), &name(), &entry).await.unwrap();
    let words = &state.metadata.current_snapshot().unwrap().summary().additional_properties;
    assert_eq!((words["total-delete-files"].as_str(), words["total-position-deletes"].as_str()), ("0", "0"));
}

#[tokio::test]
async fn a_file_that_nobody_sorted_is_sorted_on_the_way() {
    let (lake, mut writer) = lake_of(8).await;
    let plain = rows(80..90);
    let back = arrow_array::UInt32Array::from_iter_values((0..10).rev());
    let turned = arrow_select::take::take_record_batch(&plain, &back).unwrap();
    let fields: Vec<Field> = turned
        .schema()
        .fields()
        .iter()
        .zip(1..)
        .map(|(field, id)| with_id(field.name(), field.data_type().clone(), id))
        .collect();
    let turned = RecordBatch::try_new(Arc::new(Schema::new(fields)), turned.columns().to_vec()).unwrap();
    let bytes = parquet(&turned);
    let path = format!("{}/part-0.parquet", folder(&lake).await);
    let mut foreign = Foreign { added: vec![(entry(path, DataContentType::Data, 10, &bytes), bytes)] };
    lake.writer(RefName::main(), "spark".to_owned()).publish(&mut foreign).await.unwrap();
    let work = prepared(&lake).await;
    assert_eq!(writer.compact(work, 9).await.unwrap().files_in, 9);
    let found = batches(&lake, &head(&lake).await).await;
    let all = arrow_select::concat::concat_batches(&found[0].schema(), &found).unwrap();
    let order: Vec<i64> = all.column(2).as_primitive::<Int64Type>().values().to_vec();
    let mut sorted: Vec<i64> = (0..90).collect();
    sorted.sort_by_key(|seq| (seq % 3, *seq));
    assert_eq!(order, sorted);
}

#[tokio::test]
async fn work_that_is_told_to_stop_stops_and_changes_nothing() {
    let (lake, _) = lake_of(12).await;
    let policy = CompactPolicy::default();
    let at = head(&lake).await;
    let survey = lake.compactor().survey(&at, &policy, &CompactScope::default(), 0).await.unwrap();
    let stop = StopFlag::default();
    stop.stop();
    let end = lake.prepare_compaction(survey, &policy, &stop, |_, _| ()).await.unwrap_err();
    assert_eq!(end.to_string(), "finish compaction: it was told to stop");
    assert_eq!(head(&lake).await, at);
}

/// A look costs what is new: the second reads no manifest that the first has read.
#[tokio::test]
async fn a_second_look_reads_only_what_is_new() {
    let (lake, mut writer) = lake_of(5).await;
    let mut compactor = lake.compactor();
    let policy = CompactPolicy::default();
    let scope = CompactScope::default();
    compactor.survey(&head(&lake).await, &policy, &scope, 0).await.unwrap();
    assert_eq!(compactor.index.known(), 5);
    append(&mut writer, 50..60).await;
    compactor.survey(&head(&lake).await, &policy, &scope, 0).await.unwrap();
    assert_eq!(compactor.index.known(), 6);
    let nowhere = CompactScope { table: Some(TableName::new("raw.none").unwrap()), day: None };
    assert!(compactor.survey(&head(&lake).await, &policy, &nowhere, 0).await.is_err());
}
