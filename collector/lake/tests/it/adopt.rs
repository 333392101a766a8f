//! Staging branches: what a candidate added goes onto its branch whole or not at all, wherever that branch is by then.

use crate::common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{NOON_US, both, count, imu, imu_rows, ledger, ledger_rows, name};
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{
    Adopt, AdoptTables, ColumnSpec, ColumnType, CommitError, CommitId, CommitKind, CommitRequest,
    CoverageEntry, CoverageMove, Lake, LakeError, RefName, RefOp, TableAppend, TableSpec,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;

fn aligned() -> TableSpec {
    TableSpec { name: name("aligned.drive"), ..imu() }
}

fn rows(spec: TableSpec, first: i64) -> TableAppend {
    TableAppend { spec, batches: vec![imu_rows(first, 10, NOON_US + first * 1_000)] }
}

fn coverage(n: u8) -> CoverageEntry {
    CoverageEntry { recipe_id: "r".to_owned(), hash: format!("{n:02x}").repeat(32) }
}

/// A branch with raw rows, and a candidate on `wap/1` with ten aligned rows and a row of the ledger.
async fn staged(lake: &Lake) -> (CommitId, CommitId) {
    let fork = lake.writer(RefName::main(), "test".to_owned()).commit(both(0, 10, NOON_US)).await.unwrap().id;
    (fork.clone(), stage(lake, &fork, "wap/1", 0, 1).await)
}

async fn stage(lake: &Lake, fork: &CommitId, branch: &str, first: i64, covered: u8) -> CommitId {
    let branch = RefName::new(branch).unwrap();
    lake.branch(&branch, fork, "test", NOON_US).await.unwrap();
    let request = CommitRequest {
        kind: CommitKind::Align,
        message: "ten rows".to_owned(),
        time_us: NOON_US + 1,
        appends: vec![
            rows(aligned(), first),
            TableAppend { spec: ledger(), batches: vec![ledger_rows(7, NOON_US)] },
        ],
        coverage: BTreeMap::from([("drive".to_owned(), coverage(covered))]),
        ..CommitRequest::default()
    };
    lake.writer(branch, "test".to_owned()).commit(request).await.unwrap().id
}

fn adopt(fork: &CommitId, candidate: &CommitId, from: Option<u8>, to: u8) -> Adopt {
    let moves = CoverageMove { from: from.map(coverage), to: coverage(to) };
    Adopt {
        candidate: candidate.clone(),
        fork: fork.clone(),
        tables: AdoptTables::All,
        coverage: BTreeMap::from([("drive".to_owned(), moves)]),
        message: "adopted".to_owned(),
        time_us: NOON_US + 9,
    }
}

async fn counts(lake: &Lake, id: &CommitId) -> [usize; 3] {
    let aligned = lake.tables(id).await.unwrap().contains_key(&name("aligned.drive"));
    let aligned = if aligned { count(lake, id, "aligned.drive").await } else { 0 };
    [count(lake, id, "raw.imu").await, aligned, count(lake, id, "ops.ledger").await]
}

#[tokio::test]
async fn a_branch_that_stood_still_moves_on_to_the_candidate() {
    let lake = testing::memory().await.unwrap();
    let (fork, candidate) = staged(&lake).await;
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let done = writer.adopt(adopt(&fork, &candidate, None, 1)).await.unwrap().unwrap();
    assert_eq!((&done.id, done.objects), (&candidate, 1), "one ref entry and nothing else");
    let head = lake.head(&RefName::main()).await.unwrap().unwrap();
    assert_eq!((head.op, head.commit.as_ref()), (RefOp::Ff, Some(&candidate)));
    // The writer goes on from there.
    let next = writer.commit(both(10, 10, NOON_US + 10)).await.unwrap();
    assert_eq!(next.commit.parents, [candidate]);
    assert_eq!(counts(&lake, &next.id).await, [20, 10, 3]);
}

#[tokio::test]
async fn a_branch_that_moved_takes_untouched_tables_as_they_are_and_appends_to_the_others() {
    let lake = testing::memory().await.unwrap();
    let (fork, candidate) = staged(&lake).await;
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(both(10, 10, NOON_US + 5)).await.unwrap();
    let done = writer.adopt(adopt(&fork, &candidate, None, 1)).await.unwrap().unwrap();
    assert_eq!(counts(&lake, &done.id).await, [20, 10, 3]);
    assert_eq!((done.commit.kind, done.rows), (CommitKind::Align, 11));
    assert_eq!(done.commit.parents.len(), 1, "named in the lineage only, so that history may thin");
    assert!(done.commit.lineage.inputs.contains(&format!("candidate {candidate}")));
    assert_eq!(done.commit.coverage["drive"], coverage(1));
    let staged = lake.tables(&candidate).await.unwrap();
    assert_eq!(done.commit.tables[&name("aligned.drive")], staged[&name("aligned.drive")], "no new metadata");
    // A second candidate made at the same fork now finds the aligned table changed, too: its files are appended.
    let other = stage(&lake, &fork, "wap/2", 10, 2).await;
    let refused = writer.adopt(adopt(&fork, &other, None, 2)).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::Failed { source: LakeError::CoverageMoved { recipe }, .. } if recipe == "drive")
    );
    let refused = writer.adopt(adopt(&fork, &other, Some(1), 3)).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::Failed { source: LakeError::Diverged { .. }, .. }),
        "{refused:?}"
    );

    let head = lake.resolve("main").await.unwrap();
    let third = stage(&lake, &head, "wap/3", 20, 3).await;
    let fourth = stage(&lake, &head, "wap/4", 30, 4).await;
    writer.adopt(adopt(&head, &third, Some(1), 3)).await.unwrap().unwrap();
    let done = writer.adopt(adopt(&head, &fourth, Some(3), 5)).await.unwrap().unwrap();
    assert_eq!(counts(&lake, &done.id).await, [20, 30, 5]);
    let entry = &done.commit.tables[&name("aligned.drive")];
    assert_eq!((entry.rows, entry.sequence_number), (30, 3));
}

#[tokio::test]
async fn one_namespace_of_a_candidate_can_be_adopted_alone() {
    let lake = testing::memory().await.unwrap();
    let (fork, candidate) = staged(&lake).await;
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let request = Adopt {
        tables: AdoptTables::Namespace("ops".to_owned()),
        coverage: BTreeMap::new(),
        ..adopt(&fork, &candidate, None, 1)
    };
    let done = writer.adopt(request.clone()).await.unwrap().unwrap();
    assert_eq!(counts(&lake, &done.id).await, [10, 0, 2]);
    assert_eq!(done.commit.parents, [fork]);
    assert!(done.commit.coverage.is_empty());
    let nothing = Adopt { tables: AdoptTables::Namespace("raw".to_owned()), ..request };
    assert_eq!(writer.adopt(nothing).await.unwrap(), None);
}

#[tokio::test]
async fn columns_that_both_sides_added_are_never_mixed_up() {
    let lake = testing::memory().await.unwrap();
    let (fork, _) = staged(&lake).await;
    let with = |spec: TableSpec, column: &str| {
        let mut spec = spec;
        spec.columns.push(ColumnSpec::optional(column, ColumnType::Double));
        spec
    };
    let branch = RefName::new("wap/9").unwrap();
    lake.branch(&branch, &fork, "test", NOON_US).await.unwrap();
    let append = |spec| CommitRequest {
        time_us: NOON_US + 2,
        appends: vec![rows(spec, 50)],
        ..CommitRequest::default()
    };
    let mut writer = lake.writer(branch, "test".to_owned());
    let candidate = writer.commit(append(with(imu(), "left"))).await.unwrap().id;
    let request = Adopt { coverage: BTreeMap::new(), ..adopt(&fork, &candidate, None, 1) };

    let mut main = lake.writer(RefName::main(), "test".to_owned());
    main.commit(append(imu())).await.unwrap();
    let done = main.adopt(request.clone()).await.unwrap().unwrap();
    assert_eq!(count(&lake, &done.id, "raw.imu").await, 30);
    assert!(
        lake.columns(&done.id, &name("raw.imu")).await.unwrap().iter().any(|column| column.name == "left")
    );

    let other = RefName::new("other").unwrap();
    lake.branch(&other, &fork, "test", NOON_US).await.unwrap();
    let mut writer = lake.writer(other, "test".to_owned());
    writer.commit(append(with(imu(), "right"))).await.unwrap();
    let refused = writer.adopt(request).await.unwrap_err();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("both sides changed its columns"), "{source}");
}

#[tokio::test]
async fn killed_at_every_write_an_adoption_is_there_whole_or_not_at_all() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::FailWrite] {
        for n in 1.. {
            let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
            let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
            let (fork, candidate) = staged(&lake).await;
            let mut writer = lake.writer(RefName::main(), "test".to_owned());
            let old = writer.commit(both(10, 10, NOON_US + 5)).await.unwrap();

            store.set(fault(n));
            let adopted = writer.adopt(adopt(&fork, &candidate, None, 1)).await;
            let writes = store.writes();
            store.set(Fault::None);
            let after = testing::open_on(disk).await.unwrap();
            let id = after.resolve("main").await.unwrap();
            let covered = after.commit_object(&id).await.unwrap().coverage.contains_key("drive");
            let found = (counts(&after, &id).await, covered);
            match &adopted {
                Ok(done) => assert_eq!((&done.as_ref().unwrap().id, found), (&id, ([20, 10, 3], true))),
                Err(CommitError::Unknown { .. }) if id != old.id => assert_eq!(found, ([20, 10, 3], true)),
                Err(_) => assert_eq!((&id, found), (&old.id, ([20, 0, 2], false))),
            }
            if n > writes {
                assert!(adopted.is_ok());
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_ref_is_dropped_once_and_only_if_it_is_the_one_meant() {
    let lake = testing::memory().await.unwrap();
    let (fork, candidate) = staged(&lake).await;
    let branch = RefName::new("wap/1").unwrap();
    lake.drop_ref(&branch, Some(&fork), "test", NOON_US, "done").await.unwrap_err();
    assert_eq!(lake.refs_below("wap").await.unwrap().len(), 1);
    let head = lake.drop_ref(&branch, Some(&candidate), "test", NOON_US, "done").await.unwrap().unwrap();
    assert_eq!((head.op, head.commit), (RefOp::Delete, None));
    assert!(lake.drop_ref(&branch, None, "test", NOON_US, "done").await.unwrap().is_none());
    assert!(lake.refs_below("wap").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_candidate_made_before_captures_left_is_refused() {
    for kind in [CommitKind::Reset, CommitKind::Erase, CommitKind::Repair, CommitKind::Ingest] {
        let lake = testing::memory().await.unwrap();
        let (fork, candidate) = staged(&lake).await;
        let mut writer = lake.writer(RefName::main(), "test".to_owned());
        let since = writer.commit(CommitRequest { kind, ..both(10, 10, NOON_US + 5) }).await.unwrap().id;
        writer.commit(both(20, 10, NOON_US + 6)).await.unwrap();
        let adopted = writer.adopt(adopt(&fork, &candidate, None, 1)).await;
        match adopted {
            Ok(done) => assert!(kind == CommitKind::Ingest && done.is_some()),
            Err(CommitError::Failed { source: LakeError::Overturned { commit, by }, .. }) => {
                assert_eq!((commit, by), (since, Some(kind)));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    // Made on a line that is not this branch's.
    let lake = testing::memory().await.unwrap();
    let (fork, candidate) = staged(&lake).await;
    let other = RefName::new("other").unwrap();
    let mut writer = lake.writer(other, "test".to_owned());
    writer.commit(both(0, 10, NOON_US)).await.unwrap();
    let refused = writer.adopt(adopt(&fork, &candidate, None, 1)).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::Failed { source: LakeError::Overturned { by: None, .. }, .. }),
        "{refused:?}"
    );
}
