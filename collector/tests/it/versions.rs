//! Rollback, reset and merge beside an ingest that runs on: captures are there once, none leaves silently, and recipes go
//! on from what the branch says.

use crate::ingest_world;

use headwater_align::recipe::Recipe;
use headwater_collector::commit::cells::Cell;
use headwater_lake::{
    By, CommitId, CommitKind, Lake, MergeOptions, Merged, RefName, RollbackOptions, testing,
};
use ingest_world::*;
use std::collections::BTreeSet;

const RECIPE: &str = r#"
headwater_recipe = 1
name = "drive"
[spine]
stream = "camera/front"
select = ["image", "name", "width", "height"]
[[column]]
name = "motion"
stream = "imu"
select = ["n"]
method = "previous"
tolerance = "50ms"
"#;

fn recipe() -> Recipe {
    Recipe::parse(RECIPE).unwrap()
}

fn main() -> RefName {
    RefName::main()
}

/// An hour later than all that a simulated gateway does.
fn by(n: i64) -> By {
    By { author: "anna".to_owned(), message: None, time_us: START / 1_000 + 3_600_000_000 + n }
}

async fn seqs(lake: &Lake, name: &str) -> BTreeSet<i64> {
    let rows = table(lake, name).await;
    let found: BTreeSet<i64> = rows.iter().map(|row| long(row, "seq")).collect();
    assert_eq!(found.len(), rows.len(), "{name} has a row twice");
    found
}

/// Spine rows that are aligned, each once, and what was matched to them.
async fn frames(lake: &Lake) -> BTreeSet<(String, Option<i64>)> {
    let rows = table(lake, "aligned.drive").await;
    let matched = |cell: &Cell| match cell {
        Cell::Long(n) => Some(*n),
        _ => None,
    };
    let found: BTreeSet<(String, Option<i64>)> =
        rows.iter().map(|row| (text(row, "name"), matched(&row["motion_n"]))).collect();
    assert_eq!(found.len(), rows.len(), "a frame is aligned twice");
    found
}

/// What all forty frames are aligned with.
fn all_frames() -> BTreeSet<(String, Option<i64>)> {
    (0..40).map(|seq| (format!("{seq:04}.jpg"), Some(i64::from(seq) * 25))).collect()
}

fn from_zero(end: i64) -> BTreeSet<i64> {
    (0..end).collect()
}

/// Twenty seconds of one gateway in two lives of its collector: after the first, and at the end.
async fn two_lives(lake: &Lake) -> (MemoryLog, CommitId) {
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    live(lake, &MemoryLog::of(&records[..60]), &[recipe()]).await;
    let first = head(lake).await.unwrap();
    let log = MemoryLog::of(&records);
    live(lake, &log, &[recipe()]).await;
    assert_eq!((seqs(lake, "raw.imu").await, frames(lake).await), (from_zero(1000), all_frames()));
    (log, first)
}

#[tokio::test(start_paused = true)]
async fn rollback_then_ingest() {
    let lake = testing::memory().await.unwrap();
    let (mut log, first) = two_lives(&lake).await;
    let books = table(&lake, "ops.ledger").await.len();
    let done = lake.rollback(&main(), &first, RollbackOptions::default(), &by(0)).await.unwrap().unwrap();
    assert_eq!(done.commit.kind, CommitKind::Rollback);
    let back = frames(&lake).await;
    assert!(back.len() < 40 && back.is_subset(&all_frames()));
    assert_eq!(
        (seqs(&lake, "raw.imu").await, seqs(&lake, "raw.image").await),
        (from_zero(1000), from_zero(40))
    );
    assert_eq!(table(&lake, "ops.ledger").await.len(), books, "books do not go back");

    // The gateway sends all of it again, and more: only the new rows go in, and the recipe waits.
    let gateway = Gateway::new("pi-1", 7);
    let mut again = log.incarnations[0].clone();
    again.push(gateway.batch(&[gateway.imu(1000..1020)], imu_at(1030)));
    log.incarnations.push(again);
    live(&lake, &log, &[recipe()]).await;
    assert_eq!((seqs(&lake, "raw.imu").await, frames(&lake).await), (from_zero(1020), back.clone()));
    live(&lake, &log, &[recipe()]).await;
    assert_eq!(frames(&lake).await, back, "held by the commit, so a restart does not fill it either");

    lake.release(&main(), "drive", &by(1)).await.unwrap().unwrap();
    live(&lake, &log, &[recipe()]).await;
    assert_eq!((seqs(&lake, "raw.imu").await, frames(&lake).await), (from_zero(1020), all_frames()));
}

#[tokio::test(start_paused = true)]
async fn a_changed_recipe_is_not_held() {
    let lake = testing::memory().await.unwrap();
    let records = ten_seconds(&Gateway::new("pi-1", 7));
    live(&lake, &MemoryLog::of(&records), &[]).await;
    let before = head(&lake).await.unwrap();
    live(&lake, &MemoryLog::of(&records), &[recipe()]).await;
    lake.rollback(&main(), &before, RollbackOptions::default(), &by(0)).await.unwrap().unwrap();
    live(&lake, &MemoryLog::of(&records), &[recipe()]).await;
    assert!(frames(&lake).await.is_empty());
    let other = Recipe::parse(&RECIPE.replace("50ms", "60ms")).unwrap();
    live(&lake, &MemoryLog::of(&records), &[other]).await;
    assert_eq!(frames(&lake).await, all_frames());
}

#[tokio::test(start_paused = true)]
async fn rollback_all_withdraws() {
    let lake = testing::memory().await.unwrap();
    let (mut log, first) = two_lives(&lake).await;
    let kept = lake.log(first.as_str(), 1).await.unwrap()[0].tables.clone();
    let raw = |name: &str| kept[&name.parse().unwrap()].rows;
    let leaving = lake.leaving(&main(), &first).await.unwrap();
    assert_eq!(leaving.samples, 1040 - raw("raw.imu") - raw("raw.image"), "announced before it is done");
    let away = lake.log("main", 10).await.unwrap();
    let all = RollbackOptions { all: true, ..RollbackOptions::default() };
    lake.rollback(&main(), &first, all, &by(0)).await.unwrap().unwrap();
    let imu = from_zero(raw("raw.imu").cast_signed());
    assert_eq!(seqs(&lake, "raw.imu").await, imu);

    // Known, so neither a replay of the log nor a resend brings them back.
    log.incarnations.push(log.incarnations[0].clone());
    live(&lake, &log, &[recipe()]).await;
    assert_eq!(seqs(&lake, "raw.imu").await, imu);
    let withdrawn: i64 = table(&lake, "ops.ledger")
        .await
        .iter()
        .filter(|row| text(row, "state") == "withdrawn")
        .map(|row| long(row, "rows"))
        .sum();
    assert_eq!(withdrawn.cast_unsigned(), leaving.samples);

    // Nothing was deleted: the commits that were reset away bring the same rows back.
    for commit in away.iter().rev().filter(|commit| commit.kind == CommitKind::Ingest) {
        lake.cherry_pick(&main(), &commit.id, &by(1)).await.unwrap();
    }
    assert_eq!(
        (seqs(&lake, "raw.imu").await, seqs(&lake, "raw.image").await),
        (from_zero(1000), from_zero(40))
    );
    lake.release(&main(), "drive", &by(2)).await.unwrap().unwrap();
    live(&lake, &log, &[recipe()]).await;
    assert_eq!((seqs(&lake, "raw.imu").await, frames(&lake).await), (from_zero(1000), all_frames()));
}

#[tokio::test(start_paused = true)]
async fn an_ingest_that_runs_notices_a_rollback_by_another_process() {
    let lake = testing::memory().await.unwrap();
    let (_, first) = two_lives(&lake).await;
    let (running, task) = Running::start(&lake, vec![recipe()]);
    let driver = async {
        running.clock_forward(30).await;
        let on = RollbackOptions { go_on: true, ..RollbackOptions::default() };
        lake.rollback(&main(), &first, on, &by(0)).await.unwrap().unwrap();
        assert!(frames(&lake).await.len() < 40);
        running.clock_forward(60).await;
        assert_eq!(
            frames(&lake).await,
            all_frames(),
            "it went back to the branch's coverage and filled it anew"
        );

        // Held, then released: both are noticed without a restart.
        lake.rollback(&main(), &first, RollbackOptions::default(), &by(1)).await.unwrap().unwrap();
        running.clock_forward(60).await;
        assert!(frames(&lake).await.len() < 40);
        lake.release(&main(), "drive", &by(2)).await.unwrap().unwrap();
        running.clock_forward(60).await;
        assert_eq!(frames(&lake).await, all_frames());

        // A reset: what left is known to it too.
        let all = RollbackOptions { all: true, go_on: true };
        lake.rollback(&main(), &first, all, &by(3)).await.unwrap().unwrap();
        let left = seqs(&lake, "raw.imu").await;
        running.land(&ten_seconds(&Gateway::new("pi-1", 7)));
        running.clock_forward(90).await;
        assert_eq!(seqs(&lake, "raw.imu").await, left);
        running.cancel.cancel();
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rows_on_their_way_and_merged_meanwhile_are_there_once() {
    let lake = testing::memory().await.unwrap();
    let gateway = Gateway::new("pi-1", 7);
    let records = ten_seconds(&gateway);
    live(&lake, &MemoryLog::of(&records[..60]), &[]).await;
    let exp = RefName::new("exp").unwrap();
    lake.branch(&exp, &head(&lake).await.unwrap(), "anna", 0).await.unwrap();
    // Another collector got half of the rest, by another link.
    let mut theirs = settings();
    theirs.branch = exp.clone();
    live_as(&lake, &MemoryLog::of(&records[..110]), &[], theirs).await;
    let from = lake.head(&exp).await.unwrap().unwrap().commit.unwrap();

    let (running, task) = Running::start(&lake, vec![recipe()]);
    let driver = async {
        running.land(&records);
        // Read and held for the interval; then the merge comes first.
        running.clock_forward(5).await;
        let merged = lake.merge(&main(), &from, &MergeOptions::default(), &by(0)).await.unwrap();
        assert!(!matches!(merged, Merged::UpToDate));
        running.clock_forward(60).await;
        assert_eq!(
            (seqs(&lake, "raw.imu").await, seqs(&lake, "raw.image").await),
            (from_zero(1000), from_zero(40))
        );
        assert_eq!(frames(&lake).await, all_frames());
        running.cancel.cancel();
    };
    let (done, ()) = tokio::join!(task, driver);
    done.unwrap();
    let mut held = BTreeSet::new();
    for row in table(&lake, "ops.ledger").await.iter().filter(|row| text(row, "stream") == "imu") {
        for seq in long(row, "seq_lo")..=long(row, "seq_hi") {
            assert!(held.insert(seq), "the ledger counts {seq} twice");
        }
    }
    assert_eq!(held, from_zero(1000));
}
