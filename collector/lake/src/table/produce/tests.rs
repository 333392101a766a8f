//! The producer alone: what it lists, what it counts, what it refuses.

use super::*;
use crate::names::RefName;
use crate::table::{ColumnSpec, ColumnType, TS, TableSpec, UTC, evolve};
use crate::{CommitRequest, Lake, TableAppend, testing};
use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};

fn spec() -> TableSpec {
    let columns = vec![ColumnSpec::required(TS, ColumnType::Timestamptz)];
    TableSpec::new(TableName::new("raw.imu").unwrap(), columns, &[TS])
}

/// Forty commits of one row each, so that a merge has happened.
async fn forty() -> (Lake, TableState) {
    commits(40).await
}

async fn commits(commits: i64) -> (Lake, TableState) {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    for n in 0..commits {
        let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![n]).with_timezone(UTC));
        let batches = vec![RecordBatch::try_from_iter([(TS, ts)]).unwrap()];
        let appends = vec![TableAppend { spec: spec(), batches }];
        writer.commit(CommitRequest { time_us: n, appends, ..CommitRequest::default() }).await.unwrap();
    }
    let tables = lake.tables(&lake.resolve("main").await.unwrap()).await.unwrap();
    let name = spec().name;
    let state = load(lake.store(), &name, &tables[&name]).await.unwrap();
    (lake, state)
}

async fn replace(lake: &Lake, base: &TableState, removed: BTreeSet<String>) -> Result<Built, LakeError> {
    let (name, summary) = (spec().name, BTreeMap::new());
    let context = Context {
        store: lake.store(),
        table: &name,
        snapshot_id: snapshot_id(),
        time_us: 0,
        summary: &summary,
    };
    let drafted = evolve(&base.metadata, &base.entry.metadata_location, &spec())?;
    let change = Change { added: Vec::new(), added_manifest: None, removed, operation: Operation::Delete };
    produce(&context, drafted, Some(base), &change).await
}

async fn alive(lake: &Lake, state: &TableState) -> BTreeMap<String, (i64, i64)> {
    let mut found = BTreeMap::new();
    for file in &state.manifests {
        for entry in file.load_manifest(&lake.store().file_io()).await.unwrap().entries() {
            if entry.is_alive() {
                let born = (entry.snapshot_id().unwrap(), entry.sequence_number().unwrap());
                found.insert(entry.file_path().to_owned(), born);
            }
        }
    }
    found
}

/// What `Operation` the change has makes no difference to what it does: compaction replaces, a correction overwrites.
#[tokio::test]
async fn producer_replace_keeps_the_birth_of_the_others_and_the_totals() {
    let (lake, base) = forty().await;
    assert!(base.manifests.len() < 30, "{}", base.manifests.len());
    let before = alive(&lake, &base).await;
    let sequence_numbers: BTreeSet<i64> = before.values().map(|(_, number)| *number).collect();
    assert_eq!(sequence_numbers, (1..=40).collect(), "a merge keeps each file's own number");

    let gone: BTreeSet<String> = before.keys().step_by(3).cloned().collect();
    let built = replace(&lake, &base, gone.clone()).await.unwrap();
    lake.store().create_all(built.files.into_iter().collect()).await.unwrap();
    let state = load(lake.store(), &spec().name, &built.state.entry).await.unwrap();
    assert_eq!(state.manifests, built.state.manifests);
    let mut expected = before.clone();
    expected.retain(|path, _| !gone.contains(path));
    assert_eq!(alive(&lake, &state).await, expected);
    assert_eq!(state.entry.rows, 26);
    assert!(state.entry.bytes < base.entry.bytes);

    let twice = replace(&lake, &state, gone).await.unwrap_err().to_string();
    assert_eq!(twice, "change raw.imu: 14 of the files to be replaced are no longer in it");
}

async fn produced(
    lake: &Lake,
    base: &TableState,
    added: Vec<DataFile>,
    removed: BTreeSet<String>,
    operation: Operation,
) -> Result<TableState, LakeError> {
    let (name, summary) = (spec().name, BTreeMap::new());
    let (store, snapshot_id) = (lake.store(), snapshot_id());
    let context = Context { store, table: &name, snapshot_id, time_us: 0, summary: &summary };
    let drafted = evolve(&base.metadata, &base.entry.metadata_location, &spec())?;
    let change = Change { added, added_manifest: None, removed, operation };
    let built = produce(&context, drafted, Some(base), &change).await?;
    lake.store().create_all(built.files.into_iter().collect()).await?;
    load(lake.store(), &name, &built.state.entry).await
}

/// A file as a foreign client names it; nothing is read of it here.
fn foreign(name: &str, content: iceberg::spec::DataContentType, rows: u64) -> DataFile {
    iceberg::spec::DataFileBuilder::default()
        .content(content)
        .file_path(format!("memory:///lake/t/raw/{name}.parquet"))
        .file_format(iceberg::spec::DataFileFormat::Parquet)
        .partition(iceberg::spec::Struct::from_iter([Some(iceberg::spec::Literal::date(0))]))
        .partition_spec_id(0)
        .record_count(rows)
        .file_size_in_bytes(100)
        .build()
        .unwrap()
}

#[tokio::test]
async fn producer_append_carries_deletes_untouched_and_overwrite_takes_them_away() {
    use iceberg::spec::{DataContentType, ManifestContentType};
    let (lake, base) = forty().await;
    let delete = foreign("delete", DataContentType::PositionDeletes, 3);
    let with = produced(&lake, &base, vec![delete], BTreeSet::new(), Operation::Delete).await.unwrap();
    let deletes = |state: &TableState| -> Vec<ManifestFile> {
        let of = |file: &&ManifestFile| file.content == ManifestContentType::Deletes;
        state.manifests.iter().filter(of).cloned().collect()
    };
    assert_eq!(deletes(&with).len(), 1);
    assert_eq!(with.entry.rows, 40, "deleted rows are still in their files");

    let data = foreign("data", DataContentType::Data, 7);
    let after = produced(&lake, &with, vec![data], BTreeSet::new(), Operation::Append).await.unwrap();
    assert_eq!(deletes(&after), deletes(&with), "an append lists the very same manifest of deletes");
    assert_eq!((after.entry.rows, after.entry.sequence_number), (47, with.entry.sequence_number + 1));
    let words = &after.metadata.current_snapshot().unwrap().summary().additional_properties;
    assert_eq!((words["total-delete-files"].as_str(), words["total-position-deletes"].as_str()), ("1", "3"));

    // Data and deletes go in one change, and leave no manifest behind that says so for ever.
    let gone = ["delete", "data"].map(|name| format!("memory:///lake/t/raw/{name}.parquet"));
    let new = foreign("new", DataContentType::Data, 5);
    let over =
        produced(&lake, &after, vec![new], BTreeSet::from(gone.clone()), Operation::Overwrite).await.unwrap();
    assert_eq!(over.entry.rows, 45);
    let words = &over.metadata.current_snapshot().unwrap().summary().additional_properties;
    assert_eq!(
        (words["total-delete-files"].as_str(), words["removed-position-deletes"].as_str()),
        ("0", "3")
    );
    let next = foreign("next", DataContentType::Data, 1);
    let next = produced(&lake, &over, vec![next], BTreeSet::new(), Operation::Append).await.unwrap();
    assert!(deletes(&next).is_empty());
    assert!(next.manifests.len() <= over.manifests.len(), "manifests of what was deleted are gone");
    assert!(alive(&lake, &next).await.keys().all(|path| !gone.contains(path)));
    let twice = produced(&lake, &next, Vec::new(), BTreeSet::from(gone), Operation::Overwrite).await;
    assert!(twice.is_err());
}

/// What comes, what goes and what stays of the manifests that had it stand in one, with their births; others are untouched.
#[tokio::test]
async fn producer_lists_a_replacement_in_one_manifest() {
    let (lake, base) = commits(11).await;
    assert_eq!(base.manifests.len(), 11);
    let before = alive(&lake, &base).await;
    let gone: BTreeSet<String> = before.keys().take(3).cloned().collect();
    let new = foreign("new", iceberg::spec::DataContentType::Data, 3);
    let (name, summary) = (spec().name, BTreeMap::new());
    let context = Context {
        store: lake.store(),
        table: &name,
        snapshot_id: snapshot_id(),
        time_us: 0,
        summary: &summary,
    };
    let change = Change {
        added: vec![new.clone()],
        added_manifest: None,
        removed: gone.clone(),
        operation: Operation::Replace,
    };
    let built = super::change(&context, &base, &change).await.unwrap();
    let avro = built.files.keys().filter(|url| url.ends_with(".avro")).count();
    assert_eq!((avro, built.files.len()), (2, 3), "a manifest, its list and the metadata");
    lake.store().create_all(built.files.into_iter().collect()).await.unwrap();
    let state = load(lake.store(), &name, &built.state.entry).await.unwrap();
    assert_eq!(state.manifests, built.state.manifests);
    let [one] = state.manifests.as_slice() else { panic!("{:?}", state.manifests) };
    let counts = (one.added_files_count, one.existing_files_count, one.deleted_files_count);
    assert_eq!(counts, (Some(1), Some(8), Some(3)), "small ones in memory went along");
    assert_eq!((one.sequence_number, one.min_sequence_number), (12, one.min_sequence_number.min(4)));
    let mut expected: BTreeMap<String, (i64, i64)> = before;
    expected.retain(|path, _| !gone.contains(path));
    expected.insert(new.file_path().to_owned(), (context.snapshot_id, 12));
    assert_eq!(alive(&lake, &state).await, expected);
    assert_eq!((state.entry.rows, one.deleted_rows_count, one.added_rows_count), (11, Some(3), Some(3)));

    // Another process looks for them first, so they are in its memory by then.
    let objects = std::sync::Arc::clone(lake.store().objects());
    let cold = testing::open_on(objects).await.unwrap();
    assert_eq!(cold.manifests_kept().count, 0);
    let context = Context { store: cold.store(), ..context };
    let built = super::change(&context, &base, &change).await.unwrap();
    assert_eq!((built.state.manifests.len(), cold.manifests_kept().count), (1, 12));
}

/// After a lost race only what links the rows is written again: data file and manifest stay.
#[tokio::test]
async fn producer_retry_reuses_manifests() {
    let (lake, _) = commits(4).await;
    let row = |n: i64| {
        let ts: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![n]).with_timezone(UTC));
        let batches = vec![RecordBatch::try_from_iter([(TS, ts)]).unwrap()];
        let appends = vec![TableAppend { spec: spec(), batches }];
        CommitRequest { time_us: n, appends, ..CommitRequest::default() }
    };
    let mut slow = lake.writer(RefName::main(), "slow".to_owned());
    let mut fast = lake.writer(RefName::main(), "fast".to_owned());
    slow.commit(row(40)).await.unwrap();
    fast.commit(row(41)).await.unwrap();
    let done = slow.commit(row(42)).await.unwrap();
    assert_eq!(done.conflicts, 1);
    // Data, manifest, list, metadata, commit, ref; then list, metadata, commit, ref.
    assert_eq!(done.objects, 10);
    assert_eq!(done.commit.tables[&spec().name].rows, 7);
}
