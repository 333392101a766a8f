//! Revert, cherry-pick, rollback and reset: nothing is deleted, no capture leaves silently, and whatever a crash hits,
//! the old state or the new one is there.

use crate::common;
use crate::versions;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use common::{NOON_US, name};
use futures::FutureExt;
use futures::future::BoxFuture;
use headwater_lake::testing::{self, Fault, FaultStore, rewrite};
use headwater_lake::{
    CommitError, CommitKind, CommitObject, Lake, LakeError, MergeOptions, RefName, RefOp, RollbackOptions,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use versions::*;

const MAIN: &str = "main";

fn main() -> RefName {
    branch(MAIN)
}

fn seqs(found: &std::collections::BTreeMap<(String, i64), f64>) -> BTreeSet<i64> {
    found.keys().map(|(_, seq)| *seq).collect()
}

fn told(error: CommitError) -> String {
    error.source().map(ToString::to_string).unwrap_or_else(|| error.to_string())
}

#[tokio::test]
async fn rollback_sets_aligned_tables_back_and_nothing_else() {
    let lake = testing::memory().await.unwrap();
    commit(&lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
    let first = commit(&lake, MAIN, aligned(&lake, "a", 0..4, 4, NOON_US + 1).await).await;
    commit(&lake, MAIN, capture("a", 10..20, 0.0, NOON_US + 2)).await;
    let bad = commit(&lake, MAIN, aligned(&lake, "a", 0..9, 5, NOON_US + 3).await).await;

    let done = lake
        .rollback(&main(), &first.id, RollbackOptions::default(), &by(NOON_US + 9))
        .await
        .unwrap()
        .unwrap();
    let now = done.commit;
    assert_eq!((now.kind, now.parents.clone()), (CommitKind::Rollback, vec![bad.id.clone()]));
    assert_eq!(lake.head(&main()).await.unwrap().unwrap().op, RefOp::Rollback);
    assert_eq!(n_rows(&lake, MAIN, ALIGNED).await, 4);
    assert_eq!(now.coverage, first.commit.coverage);
    assert_eq!(now.held["drive"], "r1", "held until released: it would make the same rows again");
    for table in [RAW, LEDGER, NOTES] {
        assert_eq!(now.tables[&name(table)], bad.commit.tables[&name(table)], "{table}");
    }
    assert_eq!(samples(&lake, MAIN).await.len(), 20);
    assert_eq!(n_rows(&lake, bad.id.as_str(), ALIGNED).await, 9, "C3: what was is still there");

    let again =
        lake.rollback(&main(), &first.id, RollbackOptions::default(), &by(NOON_US + 10)).await.unwrap();
    assert_eq!(again, None, "all is as it was");
    assert!(lake.release(&main(), "drive", &by(NOON_US + 11)).await.unwrap().unwrap().commit.held.is_empty());
    assert_eq!(lake.release(&main(), "drive", &by(NOON_US + 12)).await.unwrap(), None);
    let forward = lake.cherry_pick(&main(), &bad.id, &by(NOON_US + 13)).await.unwrap().unwrap();
    assert_eq!(forward.committed.commit.coverage, bad.commit.coverage);
    assert_eq!(n_rows(&lake, MAIN, ALIGNED).await, 9);
}

#[tokio::test]
async fn reset_withdraws_captures_and_cherry_pick_brings_them_back() {
    let lake = testing::memory().await.unwrap();
    let first = commit(&lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
    let second = commit(&lake, MAIN, capture("a", 10..20, 0.0, NOON_US + 1)).await;
    let third = commit(&lake, MAIN, capture("b", 0..5, 0.0, NOON_US + 2)).await;
    // Files of two commits in one: what leaves is told by key, not by file.
    rewrite(&lake, &main(), &name(RAW), CommitKind::Compact, 9, NOON_US + 3, |rows| rows).await.unwrap();

    let leaving = lake.leaving(&main(), &first.id).await.unwrap();
    assert_eq!((leaving.samples, leaving.tables[&name(RAW)]), (15, 15));
    let all = RollbackOptions { all: true, ..RollbackOptions::default() };
    let done = lake.rollback(&main(), &first.id, all, &by(NOON_US + 4)).await.unwrap().unwrap();
    assert_eq!(done.commit.kind, CommitKind::Reset);
    assert_eq!(lake.head(&main()).await.unwrap().unwrap().op, RefOp::Reset);
    assert_eq!(seqs(&samples(&lake, MAIN).await), (0..10).collect());
    assert_eq!(notes(&lake, MAIN).await.len(), 3, "books stay");
    assert_books(&lake, MAIN).await;
    assert_eq!(states(&lake, MAIN).await.values().filter(|s| *s == "withdrawn").count(), 15);
    assert_eq!(lake.rollback(&main(), &first.id, all, &by(NOON_US + 5)).await.unwrap(), None);

    for (picked, n) in [(&second, 20), (&third, 25)] {
        let back = lake.cherry_pick(&main(), &picked.id, &by(NOON_US + 6)).await.unwrap().unwrap();
        assert_eq!((back.committed.commit.kind, back.committed.commit.parents.len()), (CommitKind::Merge, 1));
        assert_eq!(samples(&lake, MAIN).await.len(), n);
        assert_books(&lake, MAIN).await;
        assert_eq!(
            lake.cherry_pick(&main(), &picked.id, &by(NOON_US + 7)).await.unwrap(),
            None,
            "it is there"
        );
    }
    assert_eq!(notes(&lake, MAIN).await.len(), 3, "books are not picked twice");
    assert!(states(&lake, MAIN).await.values().all(|state| state == "held"));
}

#[tokio::test]
async fn revert_undoes_one_commit_in_the_middle() {
    let lake = testing::memory().await.unwrap();
    commit(&lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
    let bad = commit(&lake, MAIN, capture("b", 0..5, 0.0, NOON_US + 1)).await;
    commit(&lake, MAIN, capture("a", 10..20, 0.0, NOON_US + 2)).await;
    let undone = lake.revert(&main(), &bad.id, &by(NOON_US + 3)).await.unwrap().unwrap();
    assert_eq!(undone.commit.kind, CommitKind::Revert);
    assert_eq!(samples(&lake, MAIN).await.len(), 20);
    assert_books(&lake, MAIN).await;
    assert_eq!(lake.revert(&main(), &bad.id, &by(NOON_US + 4)).await.unwrap(), None, "undone already");
    // A revert of the revert brings the rows back.
    lake.revert(&main(), &undone.id, &by(NOON_US + 5)).await.unwrap().unwrap();
    assert_eq!(samples(&lake, MAIN).await.len(), 25);
    assert_books(&lake, MAIN).await;
    assert!(states(&lake, MAIN).await.values().all(|state| state == "held"));
}

#[tokio::test]
async fn revert_of_a_rewrite_brings_the_old_files_back_and_a_consumed_one_is_a_conflict() {
    let lake = testing::memory().await.unwrap();
    let first = commit(&lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
    let (on, table) = (main(), name(RAW));
    let corrected =
        rewrite(&lake, &on, &table, CommitKind::Resolve, 9, NOON_US + 1, |_| vec![imu("a", 0..10, 500.0)]);
    let corrected = corrected.await.unwrap().unwrap();
    commit(&lake, MAIN, capture("a", 10..20, 0.0, NOON_US + 2)).await;
    assert_eq!(samples(&lake, MAIN).await[&("a".to_owned(), 3)], 503.0);
    lake.revert(&main(), &corrected.id, &by(NOON_US + 3)).await.unwrap().unwrap();
    assert_eq!(samples(&lake, MAIN).await[&("a".to_owned(), 3)], 3.0);
    assert_eq!(samples(&lake, MAIN).await.len(), 20);
    assert_books(&lake, MAIN).await;

    let compacted = rewrite(&lake, &on, &table, CommitKind::Compact, 9, NOON_US + 4, |rows| rows);
    let compacted = compacted.await.unwrap().unwrap();
    let refused = told(lake.revert(&main(), &first.id, &by(NOON_US + 5)).await.unwrap_err());
    assert!(refused.contains("a later commit replaced 1 of the files"), "{refused}");
    lake.revert(&main(), &compacted.id, &by(NOON_US + 6)).await.unwrap().unwrap();
    assert!(lake.revert(&main(), &first.id, &by(NOON_US + 7)).await.unwrap().is_some());
    assert_eq!(seqs(&samples(&lake, MAIN).await), (10..20).collect());
    assert_books(&lake, MAIN).await;
}

#[tokio::test]
async fn revert_of_aligned_rows_uncovers_what_that_commit_finished() {
    let lake = testing::memory().await.unwrap();
    commit(&lake, MAIN, aligned(&lake, "a", 0..4, 4, NOON_US).await).await;
    let bad = commit(&lake, MAIN, aligned(&lake, "a", 0..6, 2, NOON_US + 100).await).await;
    commit(&lake, MAIN, aligned(&lake, "a", 0..9, 3, NOON_US + 200).await).await;
    let done = lake.revert(&main(), &bad.id, &by(NOON_US + 300)).await.unwrap().unwrap();
    assert_eq!(n_rows(&lake, MAIN, ALIGNED).await, 7);
    assert_eq!(done.commit.held["drive"], "r1");
    let stored = lake.state(&done.commit.coverage["drive"].hash).await.unwrap().unwrap();
    assert!(std::str::from_utf8(&stored).unwrap().contains("[[0,4],[6,9]]"));
}

#[tokio::test]
async fn cherry_pick_brings_one_commit_of_another_branch_and_its_books() {
    let lake = testing::memory().await.unwrap();
    let base = commit(&lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
    lake.branch(&branch("exp"), &base.id, "anna", NOON_US).await.unwrap();
    commit(&lake, "exp", capture("b", 0..10, 0.0, NOON_US + 1)).await;
    let wanted = commit(&lake, "exp", capture("c", 0..10, 0.0, NOON_US + 2)).await;
    commit(&lake, MAIN, capture("c", 5..8, 0.0, NOON_US + 3)).await;
    let picked = lake.cherry_pick(&main(), &wanted.id, &by(NOON_US + 4)).await.unwrap().unwrap();
    assert_eq!(picked.known_rows, 3);
    assert_eq!(samples(&lake, MAIN).await.len(), 20);
    assert_books(&lake, MAIN).await;
    assert_eq!(notes(&lake, MAIN).await, ["a 0..10", "c 0..10", "c 5..8"]);
    // What was picked is not merged twice.
    let exp = tip(&lake, "exp").await;
    lake.merge(&main(), &exp, &MergeOptions::default(), &by(NOON_US + 5)).await.unwrap();
    assert_eq!(samples(&lake, MAIN).await.len(), 30);
    assert_books(&lake, MAIN).await;
    assert_eq!(notes(&lake, MAIN).await, ["a 0..10", "b 0..10", "c 0..10", "c 5..8"]);
}

/// A model found it: the rows came to both branches, each in its own file, and the pick said that nothing was left to do.
#[tokio::test]
async fn a_picked_removal_of_rows_that_stand_in_another_file_is_a_conflict() {
    let lake = testing::memory().await.unwrap();
    let base = commit(&lake, MAIN, capture("a", 0..3, 0.0, NOON_US)).await;
    lake.branch(&branch("exp"), &base.id, "anna", NOON_US).await.unwrap();
    let twin = commit(&lake, "exp", capture("b", 5..8, 0.0, NOON_US + 1)).await;
    commit(&lake, MAIN, capture("b", 3..8, 0.0, NOON_US + 2)).await;
    let gone = lake.revert(&branch("exp"), &twin.id, &by(NOON_US + 3)).await.unwrap().unwrap();
    let refused = told(lake.cherry_pick(&main(), &gone.id, &by(NOON_US + 4)).await.unwrap_err());
    assert!(refused.contains("their rows came in other files"), "{refused}");
    assert_eq!(samples(&lake, MAIN).await.len(), 8);
}

#[tokio::test]
async fn bad_input_is_told_and_changes_nothing() {
    let lake = testing::memory().await.unwrap();
    let base = commit(&lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
    lake.branch(&branch("exp"), &base.id, "anna", NOON_US).await.unwrap();
    let other = commit(&lake, "exp", capture("b", 0..10, 0.0, NOON_US + 1)).await;
    let stranger = commit(&lake, "stranger", capture("c", 0..10, 0.0, NOON_US + 1)).await;
    let head = commit(&lake, MAIN, capture("a", 10..20, 0.0, NOON_US + 2)).await;
    let act = by(NOON_US + 3);
    let refused = lake.rollback(&main(), &other.id, RollbackOptions::default(), &act).await;
    assert!(told(refused.unwrap_err()).contains("it is no commit of its history"));
    let refused = lake.merge(&main(), &stranger.id, &MergeOptions::default(), &act).await;
    assert!(told(refused.unwrap_err()).contains("no commit in common"));
    let missing = "f".repeat(64).parse().unwrap();
    for refused in [
        lake.revert(&main(), &missing, &act).await.map(drop),
        lake.cherry_pick(&main(), &missing, &act).await.map(drop),
        lake.rollback(&main(), &missing, RollbackOptions::default(), &act).await.map(drop),
        lake.merge(&main(), &missing, &MergeOptions::default(), &act).await.map(drop),
        lake.revert(&branch("nope"), &base.id, &act).await.map(drop),
    ] {
        let CommitError::Failed { source: LakeError::UnknownRevision { .. }, .. } = refused.unwrap_err()
        else {
            panic!("unknown revisions are told as such")
        };
    }
    assert_eq!(tip(&lake, MAIN).await, head.id);
    // A clock that steps back makes no difference but in what the log shows.
    let early = lake.revert(&main(), &head.id, &by(NOON_US - 86_400_000_000)).await.unwrap().unwrap();
    assert_eq!(samples(&lake, MAIN).await.len(), 10);
    assert_books(&lake, MAIN).await;
    assert_eq!(lake.merge_base(&early.id, &other.id).await.unwrap(), Some(base.id));
}

#[tokio::test]
async fn a_parent_that_is_no_longer_kept_ends_history_and_breaks_nothing() {
    let disk = Arc::new(InMemory::new());
    let lake = testing::init_on(Arc::clone(&disk) as Arc<dyn ObjectStore>).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(commit(&lake, MAIN, capture("a", n * 10..n * 10 + 10, 0.0, NOON_US + n)).await.id);
    }
    lake.branch(&branch("old"), &ids[1], "anna", NOON_US).await.unwrap();
    let key = format!("_repo/commits/{}/{}.json", &ids[3].as_str()[..2], ids[3]);
    object_store::ObjectStoreExt::delete(disk.as_ref(), &key.into()).await.unwrap();
    let log = lake.history(MAIN, 100).await.unwrap();
    assert_eq!(log.iter().map(|entry| &entry.commit.id).collect::<Vec<_>>(), [&ids[5], &ids[4]]);
    assert_eq!(log[1].missing, [ids[3].clone()]);
    let ends = lake.merge_base(&ids[5], &ids[1]).await.unwrap_err();
    assert!(ends.to_string().contains("it ends here"), "{ends}");
    let refused = lake.merge(&branch("old"), &ids[5], &MergeOptions::default(), &by(NOON_US + 9)).await;
    assert!(told(refused.unwrap_err()).contains("it ends here"));
    let refused = lake.revert(&main(), &ids[4], &by(NOON_US + 9)).await.unwrap_err();
    assert!(told(refused).contains("it ends here"));
    // Whether it is in the history cannot be told any more; what it holds is there, so it may be gone back to.
    let all = RollbackOptions { all: true, ..RollbackOptions::default() };
    lake.rollback(&main(), &ids[2], all, &by(NOON_US + 9)).await.unwrap().unwrap();
    assert_eq!(samples(&lake, MAIN).await.len(), 30);
}

#[tokio::test]
async fn a_diff_says_what_files_rows_and_columns_came_and_went() {
    let lake = testing::memory().await.unwrap();
    let first = commit(&lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
    let mut request = capture("a", 10..15, 0.0, NOON_US + 1);
    request.appends[0].spec = imu_spec(&["extra"]);
    commit(&lake, MAIN, request).await;
    rewrite(&lake, &main(), &name(RAW), CommitKind::Compact, 1, NOON_US + 2, |rows| rows).await.unwrap();
    let diff = lake.diff(Some(&first.id), &tip(&lake, MAIN).await).await.unwrap();
    let raw = diff.tables.iter().find(|table| table.table == name(RAW)).unwrap();
    assert_eq!(raw.rows, [10, 15]);
    assert_eq!(raw.rows_added - raw.rows_removed, 5);
    assert_eq!(raw.schema.added, ["extra Float64"]);
    assert_eq!(raw.bytes_added, raw.files_added.iter().map(|file| file.bytes).sum::<u64>());
    let all = lake.diff(None, &first.id).await.unwrap();
    assert!(all.tables.iter().all(|table| table.created && table.rows[0] == 0));
    assert_eq!(serde_json::to_value(&all).unwrap()["tables"].as_array().unwrap().len(), 3);
    assert!(lake.diff(Some(&first.id), &first.id).await.unwrap().tables.is_empty());
}

type Verb = for<'a> fn(&'a Lake, &'a CommitObject) -> BoxFuture<'a, Result<(), CommitError>>;

/// The state everything begins in: captures and aligned rows, a compaction, and a branch with captures of its own.
async fn prepared(lake: &Lake) -> CommitObject {
    let first = commit(lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
    lake.branch(&branch("exp"), &first.id, "anna", NOON_US).await.unwrap();
    commit(lake, "exp", capture("e", 0..5, 0.0, NOON_US + 1)).await;
    commit(lake, MAIN, aligned(lake, "a", 0..4, 4, NOON_US + 2).await).await;
    commit(lake, MAIN, capture("e", 3..9, 0.0, NOON_US + 3)).await;
    first.commit
}

/// What there is to see of the branch.
async fn seen(lake: &Lake) -> (Vec<(String, i64)>, usize, Vec<String>, Vec<String>) {
    let samples = samples(lake, MAIN).await.into_keys().collect();
    let states = states(lake, MAIN).await.into_values().collect();
    (samples, n_rows(lake, MAIN, ALIGNED).await, notes(lake, MAIN).await, states)
}

#[tokio::test]
async fn a_verb_killed_at_every_write_leaves_the_old_state_or_the_new_one_and_can_be_said_again() {
    let verbs: [(&str, Verb); 5] = [
        ("merge", |lake, _| {
            async {
                let from = tip(lake, "exp").await;
                lake.merge(&main(), &from, &MergeOptions::default(), &by(NOON_US + 9)).await.map(drop)
            }
            .boxed()
        }),
        ("cherry-pick", |lake, _| {
            async {
                let from = tip(lake, "exp").await;
                lake.cherry_pick(&main(), &from, &by(NOON_US + 9)).await.map(drop)
            }
            .boxed()
        }),
        ("revert", |lake, _| {
            async {
                let log = lake
                    .history(MAIN, 9)
                    .await
                    .map_err(|source| CommitError::Failed { name: main(), source })?;
                let last = log.iter().find(|entry| entry.commit.message == "e 3..9").unwrap();
                lake.revert(&main(), &last.commit.id, &by(NOON_US + 9)).await.map(drop)
            }
            .boxed()
        }),
        ("rollback", |lake, first| {
            async {
                lake.rollback(&main(), &first.id, RollbackOptions::default(), &by(NOON_US + 9))
                    .await
                    .map(drop)
            }
            .boxed()
        }),
        ("reset", |lake, first| {
            let all = RollbackOptions { all: true, ..RollbackOptions::default() };
            async move { lake.rollback(&main(), &first.id, all, &by(NOON_US + 9)).await.map(drop) }.boxed()
        }),
    ];
    for (word, verb) in verbs {
        let lake = testing::memory().await.unwrap();
        let first = prepared(&lake).await;
        let old = seen(&lake).await;
        verb(&lake, &first).await.unwrap();
        let new = seen(&lake).await;
        assert_ne!(old, new);
        for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::FailWrite] {
            for n in 1.. {
                let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
                let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
                let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
                let first = prepared(&lake).await;
                store.set(fault(n));
                let answer = verb(&lake, &first).await;
                let writes = store.writes();
                store.set(Fault::None);
                let after = testing::open_on(disk).await.unwrap();
                let found = seen(&after).await;
                match &answer {
                    Ok(()) => assert_eq!(found, new, "{word} {:?}", fault(n)),
                    Err(CommitError::Unknown { .. }) => {
                        assert!(found == old || found == new, "{word} {:?}", fault(n))
                    }
                    Err(_) => assert_eq!(found, old, "{word} {:?}", fault(n)),
                }
                verb(&after, &first).await.unwrap();
                assert_eq!(seen(&after).await, new, "{word} {:?} said again", fault(n));
                assert_books(&after, MAIN).await;
                if n > writes {
                    assert!(answer.is_ok());
                    break;
                }
            }
        }
    }
}
