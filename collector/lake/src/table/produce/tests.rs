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

/// Forty commits of one row each, so that one merge has happened.
async fn forty() -> (Lake, TableState) {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    for n in 0..40 {
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

#[tokio::test]
async fn removing_files_keeps_the_birth_of_the_others_and_the_totals() {
    let (lake, base) = forty().await;
    assert!(base.manifests.len() < 15, "{}", base.manifests.len());
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
