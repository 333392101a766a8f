//! Protected refs: every verb that moves a ref asks, the fix is named, and those who may move it still can.

use crate::common;
use crate::versions;

use common::NOON_US;
use headwater_lake::testing;
use headwater_lake::{
    CommitError, CommitId, CompactPolicy, CompactScope, Erasure, Lake, LakeError, MergeOptions, Protection,
    ProtectionChange, PublishError, RefName, RefPatterns, RollbackOptions, Warrant,
};
use versions::*;

const MAIN: &str = "main";

fn main() -> RefName {
    branch(MAIN)
}

/// Two commits with captures and aligned rows on `main`, which is protected then; a commit more on `exp`.
struct World {
    lake: Lake,
    first: CommitId,
    second: CommitId,
    exp: CommitId,
}

impl World {
    async fn new() -> World {
        let lake = testing::memory().await.unwrap();
        commit(&lake, MAIN, capture("a", 0..10, 0.0, NOON_US)).await;
        let first = commit(&lake, MAIN, aligned(&lake, "a", 0..4, 4, NOON_US + 1).await).await.id;
        let second = commit(&lake, MAIN, aligned(&lake, "a", 0..9, 5, NOON_US + 2).await).await.id;
        lake.branch(&branch("exp"), &second, "anna", NOON_US + 3).await.unwrap();
        let exp = commit(&lake, "exp", capture("b", 0..10, 0.0, NOON_US + 4)).await.id;
        let change = ProtectionChange {
            protect: RefPatterns::of(&["main", "release/*"]),
            ..ProtectionChange::default()
        };
        lake.protect(&change, "anna", NOON_US + 5).await.unwrap();
        World { lake, first, second, exp }
    }

    /// The same for somebody who says that protection shall not count.
    fn over(&self) -> Lake {
        self.lake.acting(Warrant::Override)
    }
}

/// Asserts that a verb was refused for the protection and for nothing else, naming the fix.
fn refused<T: std::fmt::Debug>(answer: Result<T, CommitError>) {
    match answer.unwrap_err() {
        CommitError::Failed { source: LakeError::Protected(protected), .. } => {
            let text = protected.to_string();
            assert_eq!(protected.pattern.as_str(), MAIN);
            assert!(text.contains("headwater branch NAME main") && text.contains("--override"), "{text}");
        }
        error => panic!("{error:?}"),
    }
}

fn not_moved<T: std::fmt::Debug>(answer: Result<T, PublishError>) {
    let error = answer.unwrap_err();
    assert!(matches!(error, PublishError::Failed(LakeError::Protected(_))), "{error:?}");
}

#[tokio::test]
async fn verbs_that_commit_are_refused_and_the_head_stays() {
    let World { lake, first, second, exp } = World::new().await;
    let by = by(NOON_US + 10);
    refused(lake.writer(main(), "anna".to_owned()).commit(capture("c", 0..1, 0.0, NOON_US + 10)).await);
    refused(lake.merge(&main(), &exp, &MergeOptions::default(), &by).await);
    refused(lake.merge(&main(), &exp, &MergeOptions { ff_only: true, ..MergeOptions::default() }, &by).await);
    refused(lake.cherry_pick(&main(), &exp, &by).await);
    refused(lake.revert(&main(), &second, &by).await);
    refused(lake.rollback(&main(), &first, RollbackOptions::default(), &by).await);
    refused(lake.rollback(&main(), &first, RollbackOptions { all: true, go_on: false }, &by).await);
    refused(lake.release(&main(), "drive", &by).await);
    assert_eq!(tip(&lake, MAIN).await, second);
    // What is not protected is moved as ever.
    lake.revert(&branch("exp"), &exp, &by).await.unwrap().unwrap();
}

#[tokio::test]
async fn refs_are_neither_deleted_nor_made_past_a_protection() {
    let World { lake, first, second, exp } = World::new().await;
    not_moved(lake.delete_branch(&main(), "anna", NOON_US + 10, "").await);
    not_moved(lake.drop_ref(&main(), Some(&second), "anna", NOON_US + 10, "").await);
    // A protected branch begins where one is or was, since all that lies there was judged; and nowhere else.
    lake.branch(&branch("release/1"), &first, "anna", NOON_US + 11).await.unwrap();
    not_moved(lake.branch(&branch("release/2"), &exp, "anna", NOON_US + 12).await);
    lake.delete_branch(&branch("exp"), "anna", NOON_US + 13, "").await.unwrap();
    assert_eq!(tip(&lake, MAIN).await, second);
}

#[tokio::test]
async fn a_person_may_say_that_it_shall_not_count_and_the_ref_log_tells() {
    let world = World::new().await;
    let lake = world.over();
    lake.rollback(&main(), &world.first, RollbackOptions::default(), &by(NOON_US + 10))
        .await
        .unwrap()
        .unwrap();
    let moved = lake.reflog(&main(), 1).await.unwrap().remove(0);
    assert!(moved.reason.starts_with("over protection main: "), "{}", moved.reason);
    lake.branch(&branch("release/2"), &world.exp, "anna", NOON_US + 11).await.unwrap();
    lake.delete_branch(&branch("release/2"), "anna", NOON_US + 12, "made by mistake").await.unwrap();
    let gone = lake.reflog(&branch("release/2"), 1).await.unwrap().remove(0);
    assert_eq!((gone.commit, gone.reason.as_str()), (None, "over protection release/*: made by mistake"));
    // Elsewhere the word changes nothing.
    lake.revert(&branch("exp"), &world.exp, &by(NOON_US + 13)).await.unwrap().unwrap();
    assert!(!lake.reflog(&branch("exp"), 1).await.unwrap()[0].reason.contains("protection"));
}

#[tokio::test]
async fn ingest_upkeep_and_what_was_judged_go_on() {
    let world = World::new().await;
    let (lake, by) = (&world.lake, by(NOON_US + 10));
    commit(&lake.acting(Warrant::Ingest), MAIN, capture("c", 0..5, 0.0, NOON_US + 10)).await;
    let exp = lake.resolve("exp").await.unwrap();
    lake.acting(Warrant::Judged).merge(&main(), &exp, &MergeOptions::default(), &by).await.unwrap();
    let (policy, scope) = (CompactPolicy::default(), CompactScope::default());
    lake.compact(&main(), "anna", &policy, &scope, NOON_US + 11, |_, _| {}).await.unwrap();
    let erasure = Erasure {
        device: "c".to_owned(),
        stream: None,
        from_us: None,
        to_us: None,
        forget: false,
        reason: "asked for".to_owned(),
    };
    let gone = lake.erase(&erasure, false, "anna", NOON_US + 12, &mut |_, _| {}).await.unwrap();
    assert!(gone.commits.contains_key(&main()), "an erasure that protection held up would be none");
}

#[tokio::test]
async fn a_writer_that_stays_learns_of_a_protection_when_it_looks_at_the_head() {
    let lake = testing::memory().await.unwrap();
    let mut writer = lake.writer(main(), "anna".to_owned());
    writer.commit(capture("a", 0..1, 0.0, NOON_US)).await.unwrap();
    let change = ProtectionChange { protect: RefPatterns::of(&["*"]), ..ProtectionChange::default() };
    // By another handle, as another process would.
    let other = Lake::clone(&lake);
    other.protect(&change, "bob", NOON_US + 1).await.unwrap();
    other
        .acting(Warrant::Ingest)
        .writer(main(), "i".to_owned())
        .commit(capture("a", 1..2, 0.0, NOON_US + 2))
        .await
        .unwrap();
    refused_by_any(writer.commit(capture("a", 2..3, 0.0, NOON_US + 3)).await);
    let lift = ProtectionChange { unprotect: RefPatterns::of(&["*"]), ..ProtectionChange::default() };
    let now: Protection = (*other.protect(&lift, "bob", NOON_US + 4).await.unwrap()).clone();
    assert_eq!((now.seq, now.patterns), (2, RefPatterns::default()));
    writer.commit(capture("a", 2..3, 0.0, NOON_US + 5)).await.unwrap();
}

fn refused_by_any<T: std::fmt::Debug>(answer: Result<T, CommitError>) {
    let error = answer.unwrap_err();
    assert!(matches!(error, CommitError::Failed { source: LakeError::Protected(_), .. }), "{error:?}");
}
