//! C1: a ref moves by create-only compare-and-set; of racing writers one wins; a lost response is recognised as one's own.

use crate::common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{NOON_US, both, count};
use futures::future::join_all;
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{
    CommitError, CommitId, CommitRequest, Head, Lake, LakeError, PublishError, RefName, RefOp, RefUpdate,
};
use object_store::memory::InMemory;
use uuid::Uuid;

fn update(writer: usize) -> RefUpdate {
    RefUpdate {
        commit: Some(CommitId::new(format!("{writer:064x}")).unwrap()),
        op: RefOp::Commit,
        writer: format!("writer-{writer}"),
        write_id: Uuid::new_v4(),
        time_us: NOON_US,
        reason: "race".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refs_race_local() {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap().to_owned();
    Lake::init(&location).await.unwrap();
    let lakes = join_all((0..16).map(|_| Lake::open(&location))).await;
    let main = RefName::main();
    let mut head: Option<Head> = None;
    for round in 1..=20 {
        let tasks: Vec<_> = lakes
            .iter()
            .enumerate()
            .map(|(writer, lake)| {
                let (lake, main, head) = (lake.as_ref().unwrap().clone(), main.clone(), head.clone());
                let runtime = tokio::runtime::Handle::current();
                runtime.spawn(async move { lake.refs().publish(&main, head.as_ref(), &update(writer)).await })
            })
            .collect();
        let mut won = Vec::new();
        let mut winners_seen = BTreeSet::new();
        for answer in join_all(tasks).await {
            match answer.unwrap() {
                Ok(head) => won.push(head),
                Err(PublishError::Conflict(head)) => {
                    winners_seen.insert(head.writer.clone());
                }
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        assert_eq!(winners_seen, BTreeSet::from([won[0].writer.clone()]));
        assert_eq!(won[0].seq, round);
        head = won.pop();
        for lake in &lakes {
            assert_eq!(lake.as_ref().unwrap().head(&main).await.unwrap(), head);
        }
    }
    let fresh = Lake::open(&location).await.unwrap();
    assert_eq!(fresh.head(&main).await.unwrap(), head);
    let history = fresh.refs().history(&main, 100).await.unwrap();
    assert_eq!(history.iter().map(|h| h.seq).collect::<Vec<_>>(), (1..=20).rev().collect::<Vec<_>>());
    assert!(history.windows(2).all(|pair| pair[0].prev_commit == pair[1].commit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_commits_all_land_and_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::init(folder.path().to_str().unwrap()).await.unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let lake = lake.clone();
            tokio::runtime::Handle::current().spawn(async move {
                let mut writer = lake.writer(RefName::main(), format!("writer-{task}"));
                for n in 0..5 {
                    let first = (task * 5 + n) * 10;
                    writer.commit(both(first, 10, NOON_US + first)).await.unwrap();
                }
            })
        })
        .collect();
    for task in join_all(tasks).await {
        task.unwrap();
    }
    let id = lake.resolve("main").await.unwrap();
    assert_eq!(count(&lake, &id, "raw.imu").await, 200);
    assert_eq!(count(&lake, &id, "ops.ledger").await, 20);
    assert_eq!(lake.log("main", 100).await.unwrap().len(), 20);
}

async fn faulty() -> (Arc<FaultStore>, Lake) {
    let store = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
    let lake = testing::init_on(Arc::clone(&store) as Arc<dyn object_store::ObjectStore>).await.unwrap();
    (store, lake)
}

#[tokio::test]
async fn refs_conflict_409_without_object_and_lost_responses() {
    let (store, lake) = faulty().await;
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let key = || "_repo/refs/heads/main/".to_owned();
    let faults = [
        Fault::DropResponse { key: key(), times: 1 },
        Fault::ExistsAfterOwn { key: key(), times: 1 },
        Fault::ConflictWithoutObject { key: key(), times: 2 },
    ];
    for ((seq, rows), fault) in (1..).zip([10, 20, 30]).zip(faults) {
        let text = format!("{fault:?}");
        store.set(fault);
        let done = writer.commit(both(seq * 10, 10, NOON_US + seq)).await.expect(&text);
        assert_eq!((i64::try_from(done.seq).unwrap(), done.conflicts), (seq, 0), "{text}");
        assert_eq!(count(&lake, &done.id, "raw.imu").await, rows);
    }
}

#[tokio::test]
async fn an_unknown_outcome_blocks_the_writer_until_it_is_settled() {
    let (store, lake) = faulty().await;
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(both(0, 10, NOON_US)).await.unwrap();

    store.set(Fault::Unreachable { key: "_repo/refs/heads".to_owned() });
    assert!(matches!(writer.commit(both(10, 10, NOON_US)).await, Err(CommitError::Unknown { seq: 2, .. })));
    assert!(matches!(writer.commit(both(20, 10, NOON_US)).await, Err(CommitError::Unknown { seq: 2, .. })));
    assert!(matches!(writer.settle().await, Err(CommitError::Unknown { seq: 2, .. })));
    store.set(Fault::None);
    let done = writer.settle().await.unwrap().expect("it had been applied");
    assert_eq!(count(&lake, &done.id, "raw.imu").await, 20);
    assert!(writer.settle().await.unwrap().is_none());
    let done = writer.commit(both(20, 10, NOON_US)).await.unwrap();
    assert_eq!((done.seq, count(&lake, &done.id, "raw.imu").await), (3, 30));
}

#[tokio::test]
async fn tags_never_move_and_branches_share_history() {
    let (_, lake) = faulty().await;
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let first = writer.commit(both(0, 10, NOON_US)).await.unwrap().id;
    let (tag, dev) = (RefName::new("v1").unwrap(), RefName::new("wap/x1").unwrap());
    lake.refs().tag(&tag, &first, "test", NOON_US).await.unwrap();
    lake.branch(&dev, &first, "test", NOON_US).await.unwrap();
    assert!(matches!(lake.branch(&dev, &first, "test", NOON_US).await, Err(PublishError::Conflict(_))));
    let second = writer.commit(both(10, 10, NOON_US)).await.unwrap().id;
    let on_dev = lake.writer(dev.clone(), "test".to_owned()).commit(both(50, 5, NOON_US)).await.unwrap();
    assert_eq!((on_dev.seq, count(&lake, &on_dev.id, "raw.imu").await), (2, 15));
    assert_eq!(count(&lake, &second, "raw.imu").await, 20);
    assert_eq!(lake.resolve("v1").await.unwrap(), first);
    lake.refs().tag(&tag, &first, "other", NOON_US + 1).await.unwrap();
    assert!(lake.refs().tag(&tag, &second, "test", NOON_US).await.is_err());
    let names: Vec<String> =
        lake.refs().list().await.unwrap().into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["main", "wap/x1"]);
    assert_eq!(lake.resolve("wap/x1~1").await.unwrap(), first);
}

#[tokio::test]
async fn branch_delete_recreate() {
    let (_, lake) = faulty().await;
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let first = writer.commit(both(0, 10, NOON_US)).await.unwrap().id;
    let second = writer.commit(both(10, 10, NOON_US + 1)).await.unwrap().id;
    let dev = RefName::new("dev").unwrap();
    lake.branch(&dev, &first, "ada", NOON_US).await.unwrap();

    let gone = lake.delete_branch(&dev, "ada", NOON_US + 2, "done").await.unwrap();
    assert_eq!((gone.seq, gone.commit, gone.op), (2, None, RefOp::Delete));
    assert!(matches!(
        lake.delete_branch(&dev, "ada", NOON_US, "").await,
        Err(PublishError::Failed(LakeError::UnknownRevision { .. }))
    ));
    assert!(lake.resolve("dev").await.is_err());
    let names: Vec<_> = lake.branches().await.unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [RefName::main()]);

    let again = lake.branch(&dev, &second, "bob", NOON_US + 3).await.unwrap();
    assert_eq!((again.seq, again.prev_commit, again.op), (3, None, RefOp::Create));
    assert_eq!(lake.resolve("dev").await.unwrap(), second);
    let done = lake.writer(dev.clone(), "test".to_owned()).commit(both(20, 5, NOON_US + 4)).await.unwrap();
    assert_eq!((done.seq, count(&lake, &done.id, "raw.imu").await), (4, 25));
    let log: Vec<_> =
        lake.reflog(&dev, 10).await.unwrap().into_iter().map(|entry| (entry.seq, entry.op)).collect();
    assert_eq!(log, [(4, RefOp::Commit), (3, RefOp::Create), (2, RefOp::Delete), (1, RefOp::Create)]);
    assert_eq!(lake.reflog(&dev, 2).await.unwrap().len(), 2);
    // Another process sees the same, and a writer on a deleted branch begins it anew.
    lake.delete_branch(&dev, "ada", NOON_US + 5, "done").await.unwrap();
    let done = lake.writer(dev, "test".to_owned()).commit(both(0, 1, NOON_US + 6)).await.unwrap();
    assert_eq!((done.seq, done.commit.parents.len()), (6, 0));
}

#[tokio::test]
async fn a_branch_that_moved_meanwhile_is_not_deleted() {
    let (store, lake) = faulty().await;
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(both(0, 10, NOON_US)).await.unwrap();
    // The deleter reads the head, then another process commits before its entry arrives.
    store.set(Fault::Slow {
        key: "18446744073709551613".to_owned(),
        delay: std::time::Duration::from_millis(1),
    });
    let main = RefName::main();
    let (deleted, committed) = futures::join!(
        lake.delete_branch(&main, "ada", NOON_US, ""),
        writer.commit(both(10, 10, NOON_US + 1))
    );
    assert_eq!(u8::from(deleted.is_ok()) + u8::from(committed.as_ref().is_ok_and(|c| c.conflicts == 0)), 1);
}

#[tokio::test]
async fn tags_and_branches_do_not_share_a_name() {
    let (_, lake) = faulty().await;
    let first =
        lake.writer(RefName::main(), "test".to_owned()).commit(both(0, 10, NOON_US)).await.unwrap().id;
    let (v1, v2) = (RefName::new("v1").unwrap(), RefName::new("release/v2").unwrap());
    lake.tag(&v2, &first, "ada", NOON_US).await.unwrap();
    lake.tag(&v1, &first, "bob", NOON_US + 1).await.unwrap();
    lake.tag(&v1, &first, "again", NOON_US + 2).await.unwrap();
    let tags: Vec<_> = lake.tags().await.unwrap().into_iter().map(|tag| (tag.name, tag.author)).collect();
    assert_eq!(tags, [(v2, "ada".to_owned()), (v1.clone(), "bob".to_owned())]);
    assert!(matches!(
        lake.branch(&v1, &first, "ada", NOON_US).await,
        Err(PublishError::Failed(LakeError::NameTaken { by: "tag", .. }))
    ));
    assert!(matches!(
        lake.tag(&RefName::main(), &first, "ada", NOON_US).await,
        Err(LakeError::NameTaken { by: "branch", .. })
    ));
    let nobody = CommitId::new("0".repeat(64)).unwrap();
    assert!(matches!(
        lake.tag(&RefName::new("v3").unwrap(), &nobody, "ada", NOON_US).await,
        Err(LakeError::UnknownRevision { .. })
    ));
}

/// A writer that slept with an unknown outcome until its entry was pruned still learns the truth, from the history.
#[tokio::test]
async fn a_sleeper_learns_what_became_of_its_commit() {
    for applied in [true, false] {
        let (store, lake) = faulty().await;
        let main = RefName::main();
        let mut sleeper = lake.writer(main.clone(), "sleeper".to_owned());
        let first = sleeper.commit(both(0, 1, NOON_US)).await.unwrap();
        let heads = "_repo/refs/heads".to_owned();
        store.set(if applied {
            Fault::Unreachable { key: heads }
        } else {
            Fault::SlowDown { key: heads, times: 99 }
        });
        assert!(matches!(
            sleeper.commit(both(1, 1, NOON_US + 1)).await,
            Err(CommitError::Unknown { seq: 2, .. })
        ));
        store.set(Fault::None);

        // A hundred and more entries later; only the heads matter, so they all name one commit after the other's.
        let mut head = lake.head(&main).await.unwrap().unwrap();
        let id = head.commit.clone().unwrap();
        assert_eq!(applied, id != first.id);
        for n in 1..=150 {
            let update =
                RefUpdate { commit: Some(id.clone()), time_us: NOON_US + n * 3_600_000_000, ..update(0) };
            head = lake.refs().publish(&main, Some(&head), &update).await.unwrap();
        }
        let pruned = lake.prune_ref_log(&main, 0, i64::MAX).await.unwrap();
        assert!(pruned.entries > 40, "{pruned:?}");

        let settled = sleeper.settle().await.unwrap();
        assert_eq!(settled.is_some(), applied);
        let done = sleeper.commit(both(2, 1, NOON_US + 2)).await.unwrap();
        assert_eq!(done.seq, head.seq + 1);
        assert_eq!(count(&lake, &done.id, "raw.imu").await, if applied { 3 } else { 2 });
    }
}

#[test]
fn a_commit_can_be_moved_between_threads() {
    fn check<T: Send>(_: T) {}
    fn body(lake: &Lake) {
        let mut writer = lake.writer(RefName::main(), String::new());
        check(async move { writer.commit(CommitRequest::default()).await });
    }
    let _ = body;
}
