//! Events: one per entry of a ref's log, none lost, none twice, whoever asks and whenever.

use crate::common;

use common::{NOON_US, both, name};
use headwater_lake::{Event, Lake, LakeError, RefName, RefOp, testing};

async fn commits(lake: &Lake, from: i64, n: i64) {
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    for step in from..from + n {
        writer.commit(both(step * 10, 10, NOON_US + step)).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_remembers_a_number_sees_each_entry_once() {
    let lake = testing::memory().await.unwrap();
    let main = RefName::main();
    assert_eq!(lake.events(&main, 0).await.unwrap(), []);
    let mut seen: Vec<Event> = Vec::new();
    for round in 0..4 {
        commits(&lake, round * 3, round).await;
        seen.extend(lake.events(&main, seen.last().map_or(0, |event| event.seq)).await.unwrap());
    }
    let seqs: Vec<u64> = seen.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=6).collect::<Vec<u64>>());
    assert_eq!(seen, lake.events(&main, 0).await.unwrap());
    for pair in seen.windows(2) {
        assert_eq!(pair[1].parent, pair[0].commit);
    }
    assert_eq!((seen[0].op, seen[1].op), (RefOp::Create, RefOp::Commit));
    assert_eq!((seen[0].tables[&name("raw.imu")], seen[5].tables[&name("ops.ledger")]), (10, 1));
    let third = seen[2].commit.clone().unwrap();
    assert_eq!(lake.seq_of_commit(&main, &third).await.unwrap(), 3);
    let text = serde_json::to_string(&seen[2]).unwrap();
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), seen[2]);
}

#[tokio::test]
async fn a_deleted_ref_tells_so_and_goes_on_when_it_is_made_again() {
    let lake = testing::memory().await.unwrap();
    commits(&lake, 0, 1).await;
    let head = lake.resolve("main").await.unwrap();
    let branch = RefName::new("exp").unwrap();
    lake.branch(&branch, &head, "test", NOON_US).await.unwrap();
    lake.drop_ref(&branch, None, "test", NOON_US, "done").await.unwrap();
    lake.branch(&branch, &head, "test", NOON_US).await.unwrap();
    let events = lake.events(&branch, 0).await.unwrap();
    let ops: Vec<RefOp> = events.iter().map(|event| event.op).collect();
    assert_eq!(ops, [RefOp::Create, RefOp::Delete, RefOp::Create]);
    assert_eq!((events[1].commit.is_none(), events[1].kind.is_none()), (true, true));
    assert!(matches!(
        lake.seq_of_commit(&RefName::new("no").unwrap(), &head).await,
        Err(LakeError::NoRef { .. })
    ));
}

/// Entries an operator, or history thinning, took away are named instead of skipped.
#[tokio::test]
async fn pruned_entries_are_told_and_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::init(dir.path().to_str().unwrap()).await.unwrap();
    commits(&lake, 0, 9).await;
    let log = dir.path().join("_repo/refs/heads/main");
    for seq in 1..=4 {
        std::fs::remove_file(log.join(format!("{:020}.json", u64::MAX - seq))).unwrap();
    }
    let refused = lake.events(&RefName::main(), 2).await.unwrap_err();
    assert!(matches!(refused, LakeError::LogPruned { after: 2, oldest: 4, .. }), "{refused}");
    assert!(refused.to_string().contains("--since 4"), "{refused}");
    assert_eq!(lake.events(&RefName::main(), 4).await.unwrap().len(), 5);
}
