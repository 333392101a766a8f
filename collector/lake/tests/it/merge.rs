//! Merges: what both sides did is in the result once, or the report says exactly what stands against it.

use crate::common;
use crate::versions;

use std::collections::BTreeMap;
use std::error::Error;

use common::{NOON_US, name};
use headwater_lake::testing::{self, rewrite};
use headwater_lake::{
    CommitError, CommitKind, CommitRequest, ConflictReport, Lake, LakeError, MergeOptions, Merged,
    Strategies, Strategy, TableAppend,
};
use versions::*;

/// A lake with twenty samples in two files, and a branch `exp` at them.
async fn forked() -> Lake {
    let lake = testing::memory().await.unwrap();
    commit(&lake, "main", capture("a", 0..10, 0.0, NOON_US)).await;
    let base = commit(&lake, "main", capture("a", 10..20, 0.0, NOON_US + 1)).await;
    lake.branch(&branch("exp"), &base.id, "anna", NOON_US + 2).await.unwrap();
    lake
}

/// What a side may do to `raw.imu` since the fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Nothing,
    Append,
    Compact,
    Overwrite,
    AddColumn,
}

const ALL: [Did; 5] = [Did::Nothing, Did::Append, Did::Compact, Did::Overwrite, Did::AddColumn];

/// Does it on a branch; `device` tells the sides' captures apart.
async fn act(lake: &Lake, on: &str, did: Did, device: &str, time_us: i64) {
    let table = name(RAW);
    match did {
        Did::Nothing => {}
        Did::Append => drop(commit(lake, on, capture(device, 0..5, 0.5, time_us)).await),
        Did::Compact => {
            let done = rewrite(lake, &branch(on), &table, CommitKind::Compact, 9, time_us, |rows| rows).await;
            assert!(done.unwrap().is_some());
        }
        Did::Overwrite => {
            // Corrections of two sides differ: the same one made twice would be no conflict.
            let by = if on == "main" { 1000.0 } else { 2000.0 };
            let change = |rows| corrected(rows, by);
            let done = rewrite(lake, &branch(on), &table, CommitKind::Resolve, 9, time_us, change).await;
            assert!(done.unwrap().is_some());
        }
        Did::AddColumn => {
            let mut request = capture(device, 0..5, 0.5, time_us);
            request.appends[0].spec = imu_spec(&["extra"]);
            commit(lake, on, request).await;
        }
    }
}

fn corrected(rows: Vec<arrow_array::RecordBatch>, by: f64) -> Vec<arrow_array::RecordBatch> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Float64Type;
    let correct = |batch: &arrow_array::RecordBatch| {
        let place = batch.schema().index_of("x").unwrap();
        let mut columns = batch.columns().to_vec();
        columns[place] = std::sync::Arc::new(
            columns[place].as_primitive::<Float64Type>().unary::<_, Float64Type>(|x| x + by),
        );
        arrow_array::RecordBatch::try_new(batch.schema(), columns).unwrap()
    };
    rows.iter().map(correct).collect()
}

async fn merge(lake: &Lake, options: MergeOptions) -> Result<Merged, CommitError> {
    let from = tip(lake, "exp").await;
    lake.merge(&branch("main"), &from, &options, &by(NOON_US + 100)).await
}

fn report(error: CommitError) -> ConflictReport {
    match error {
        CommitError::Failed { source: LakeError::Conflicts(report), .. } => *report,
        other => panic!("{other}: {:?}", other.source()),
    }
}

/// The samples that must be there after both sides did what they did.
fn expected(ours: Did, theirs: Did) -> BTreeMap<(String, i64), f64> {
    let mut all = BTreeMap::new();
    let of = |did: Did, by: f64| if did == Did::Overwrite { by } else { 0.0 };
    for seq in 0..20 {
        all.insert(("a".to_owned(), seq), seq as f64 + of(ours, 1000.0) + of(theirs, 2000.0));
    }
    for (did, device) in [(ours, "ours"), (theirs, "theirs")] {
        if matches!(did, Did::Append | Did::AddColumn) {
            all.extend((0..5).map(|seq| ((device.to_owned(), seq), 0.5 + seq as f64)));
        }
    }
    all
}

#[tokio::test]
async fn merge_matrix() {
    for ours in ALL {
        for theirs in ALL {
            let lake = forked().await;
            act(&lake, "main", ours, "ours", NOON_US + 10).await;
            act(&lake, "exp", theirs, "theirs", NOON_US + 11).await;
            let before = tip(&lake, "main").await;
            let other = tip(&lake, "exp").await;
            let told = merge(&lake, MergeOptions::default()).await;
            let after = tip(&lake, "main").await;
            if ours == Did::Overwrite && theirs == Did::Overwrite {
                let report = report(told.unwrap_err());
                assert_eq!(report.conflicts.len(), 1);
                assert_eq!((report.conflicts[0].table.as_str(), report.conflicts[0].files.len()), (RAW, 2));
                assert_eq!(after, before, "a conflict changes nothing");
                continue;
            }
            let told = told.unwrap_or_else(|e| panic!("{ours:?} x {theirs:?}: {e}: {:?}", e.source()));
            match (ours, theirs) {
                (_, Did::Nothing) => assert_eq!((&told, &after), (&Merged::UpToDate, &before)),
                (Did::Nothing, _) => {
                    assert!(matches!(told, Merged::FastForward(_)), "{ours:?} x {theirs:?}");
                    assert_eq!(after, other);
                }
                _ => {
                    let made = lake.commit_object(&after).await.unwrap();
                    assert_eq!(made.parents, [before.clone(), other.clone()]);
                    assert_eq!(made.kind, CommitKind::Merge);
                }
            }
            assert_eq!(samples(&lake, "main").await, expected(ours, theirs), "{ours:?} x {theirs:?}");
            assert_books(&lake, "main").await;
            // Saying it again does nothing, and the other branch can follow.
            assert_eq!(merge(&lake, MergeOptions::default()).await.unwrap(), Merged::UpToDate);
            let back = lake.merge(&branch("exp"), &after, &MergeOptions::default(), &by(NOON_US + 200)).await;
            assert!(matches!(back.unwrap(), Merged::UpToDate | Merged::FastForward(_)));
            // The result is a table like any other: it takes appends, and the totals are right.
            let next = commit(&lake, "main", capture("next", 0..3, 0.0, NOON_US + 300)).await;
            let entry = &next.commit.tables[&name(RAW)];
            assert_eq!(entry.rows, samples(&lake, "main").await.len() as u64, "{ours:?} x {theirs:?}");
        }
    }
}

#[tokio::test]
async fn merge_dedups_keys() {
    let lake = forked().await;
    // The same captures arrived on both branches, in other groups, some of them on one side only.
    commit(&lake, "main", capture("b", 0..10, 0.0, NOON_US + 10)).await;
    commit(&lake, "exp", capture("b", 5..8, 0.0, NOON_US + 11)).await;
    commit(&lake, "exp", capture("b", 8..15, 0.0, NOON_US + 12)).await;
    let files = |commit: &headwater_lake::CommitDiff| {
        commit.tables.iter().map(|t| t.files_added.len()).sum::<usize>()
    };
    let before = tip(&lake, "main").await;
    let Merged::Commit { committed, joined } = merge(&lake, MergeOptions::default()).await.unwrap() else {
        panic!("both sides have commits")
    };
    assert_eq!(joined.iter().find(|j| j.table == name(RAW)).unwrap().known_rows, 5);
    let seqs: Vec<i64> =
        samples(&lake, "main").await.into_keys().filter(|(d, _)| d == "b").map(|(_, s)| s).collect();
    assert_eq!(seqs, (0..15).collect::<Vec<_>>());
    assert_books(&lake, "main").await;
    assert_eq!(notes(&lake, "main").await, ["a 0..10", "a 10..20", "b 0..10", "b 5..8", "b 8..15"]);
    let diff = lake.diff(Some(&before), &committed.id).await.unwrap();
    let raw = diff.tables.iter().find(|t| t.table == name(RAW)).unwrap();
    assert_eq!(
        (raw.rows_added, raw.rows_removed, raw.files_added.len()),
        (5, 0, 1),
        "one file is written anew"
    );
    assert!(files(&diff) >= 3);
}

#[tokio::test]
async fn the_same_compaction_on_both_sides_is_one() {
    let lake = forked().await;
    act(&lake, "main", Did::Compact, "", NOON_US + 10).await;
    act(&lake, "exp", Did::Compact, "", NOON_US + 11).await;
    let before = lake.tables(&tip(&lake, "main").await).await.unwrap();
    merge(&lake, MergeOptions::default()).await.unwrap();
    assert_eq!(lake.tables(&tip(&lake, "main").await).await.unwrap()[&name(RAW)], before[&name(RAW)]);
}

#[tokio::test]
async fn columns_of_one_id_and_two_names_are_a_conflict_and_the_same_column_is_none() {
    for (mine, their, clash) in [("extra", "extra", false), ("extra", "other", true)] {
        let lake = forked().await;
        for (on, column, time) in [("main", mine, 10), ("exp", their, 11)] {
            let mut request = capture(on, 0..5, 0.5, NOON_US + time);
            request.appends[0].spec = imu_spec(&[column]);
            commit(&lake, on, request).await;
        }
        let told = merge(&lake, MergeOptions::default()).await;
        if clash {
            let report = report(told.unwrap_err());
            assert!(
                report.to_string().contains("columns extra and other were added under one id"),
                "{report}"
            );
        } else {
            told.unwrap();
            assert_eq!(samples(&lake, "main").await.len(), 30);
        }
    }
}

#[tokio::test]
async fn strategies_take_one_side_and_withdraw_what_the_other_alone_had() {
    for strategy in [Strategy::Ours, Strategy::Theirs] {
        let lake = forked().await;
        for (on, device) in [("main", "ours"), ("exp", "theirs")] {
            act(&lake, on, Did::Overwrite, "", NOON_US + 10).await;
            act(&lake, on, Did::Append, device, NOON_US + 11).await;
        }
        let report = report(merge(&lake, MergeOptions::default()).await.unwrap_err());
        assert_eq!(report.conflicts[0].table.as_str(), RAW);
        let strategies = Strategies { all: None, tables: BTreeMap::from([(name(RAW), strategy)]) };
        merge(&lake, MergeOptions { strategies, ..MergeOptions::default() }).await.unwrap();
        let kept = if strategy == Strategy::Ours { "ours" } else { "theirs" };
        let there: Vec<(String, i64)> =
            samples(&lake, "main").await.into_keys().filter(|(d, _)| d != "a").collect();
        assert_eq!(there, (0..5).map(|seq| (kept.to_owned(), seq)).collect::<Vec<_>>());
        assert_books(&lake, "main").await;
        let withdrawn =
            states(&lake, "main").await.into_values().filter(|state| state == "withdrawn").count();
        assert_eq!(withdrawn, 5, "the other side's captures are known to have left");
    }
}

#[tokio::test]
async fn aligned_rows_are_taken_from_the_side_that_has_all_of_the_other() {
    for (mine, their, taken) in [(0..4, 0..9, Some(9)), (0..9, 0..4, Some(9)), (0..4, 4..9, None)] {
        let lake = forked().await;
        for (on, done) in [("main", mine.clone()), ("exp", their.clone())] {
            let rows = i64::try_from(done.end - done.start).unwrap();
            let request = aligned(&lake, "a", done, rows, NOON_US + 10).await;
            commit(&lake, on, request).await;
        }
        // Made on both sides, so they are two tables; still one of them holds all of the other.
        let told = merge(&lake, MergeOptions::default()).await;
        match taken {
            Some(n) => {
                told.unwrap();
                assert_eq!(n_rows(&lake, "main", ALIGNED).await, n, "{mine:?} x {their:?}");
            }
            None => {
                let report = report(told.unwrap_err());
                assert!(report.to_string().contains("re-align"), "{report}");
                let strategies = Strategies { all: Some(Strategy::Theirs), ..Strategies::default() };
                merge(&lake, MergeOptions { strategies, ..MergeOptions::default() }).await.unwrap();
                assert_eq!(n_rows(&lake, "main", ALIGNED).await, 5);
                let main = lake.commit_object(&tip(&lake, "main").await).await.unwrap();
                let exp = lake.commit_object(&tip(&lake, "exp").await).await.unwrap();
                assert_eq!(main.coverage, exp.coverage, "coverage goes with the rows it tells of");
            }
        }
    }
}

/// A side that has all finished rows of the other was taken whole, and what stood in no coverage was left behind in silence.
#[tokio::test]
async fn rows_that_no_coverage_tells_of_are_not_left_behind_in_silence() {
    for (behind, ahead, other) in [("exp", "main", Strategy::Theirs), ("main", "exp", Strategy::Ours)] {
        let lake = forked().await;
        for (on, done, rows) in [(behind, 0..4, 4), (ahead, 0..9, 9), (behind, 0..4, 2)] {
            let request = aligned(&lake, "a", done, rows, NOON_US + 10).await;
            commit(&lake, on, request).await;
        }
        let told = report(merge(&lake, MergeOptions::default()).await.unwrap_err()).to_string();
        assert!(told.contains("stand in no coverage") && told.contains("--strategy"), "{told}");
        let strategies = Strategies { all: Some(other), ..Strategies::default() };
        merge(&lake, MergeOptions { strategies, ..MergeOptions::default() }).await.unwrap();
        assert_eq!(n_rows(&lake, "main", ALIGNED).await, 6, "{behind}");
    }
}

#[tokio::test]
async fn a_table_made_on_both_sides_or_dropped_on_one_is_told() {
    let lake = forked().await;
    for on in ["main", "exp"] {
        let spec = headwater_lake::TableSpec { name: name("raw.gps"), ..imu_spec(&[]) };
        let append = TableAppend { spec, batches: vec![imu(on, 0..2, 0.0)] };
        let request =
            CommitRequest { time_us: NOON_US + 10, appends: vec![append], ..CommitRequest::default() };
        commit(&lake, on, request).await;
    }
    let report = report(merge(&lake, MergeOptions::default()).await.unwrap_err());
    assert_eq!(
        report.to_string(),
        "merge: 1 table is in conflict: raw.gps (it was made on both sides, each in its own way)"
    );
}

#[tokio::test]
async fn fast_forward_only_and_never() {
    let lake = forked().await;
    commit(&lake, "exp", capture("b", 0..5, 0.0, NOON_US + 10)).await;
    let made = merge(&lake, MergeOptions { no_ff: true, ..MergeOptions::default() }).await.unwrap();
    assert!(matches!(made, Merged::Commit { .. }));
    assert_eq!(samples(&lake, "main").await.len(), 25);
    commit(&lake, "exp", capture("c", 0..5, 0.0, NOON_US + 11)).await;
    let refused = merge(&lake, MergeOptions { ff_only: true, ..MergeOptions::default() }).await.unwrap_err();
    assert!(refused.source().unwrap().to_string().contains("merge without --ff-only"));
}

#[tokio::test]
async fn a_merge_after_a_merge_starts_from_the_last_one() {
    let lake = forked().await;
    for round in 0..4 {
        let at = NOON_US + 1000 * (round + 1);
        commit(&lake, "main", capture("m", round * 5..round * 5 + 5, 0.0, at)).await;
        commit(&lake, "exp", capture("e", round * 5..round * 5 + 5, 0.0, at + 1)).await;
        let (into, from) = if round % 2 == 0 { ("main", "exp") } else { ("exp", "main") };
        let from = tip(&lake, from).await;
        lake.merge(&branch(into), &from, &MergeOptions::default(), &by(at + 2)).await.unwrap();
        let into_tip = tip(&lake, into).await;
        assert_eq!(lake.merge_base(&into_tip, &from).await.unwrap(), Some(from));
    }
    merge(&lake, MergeOptions::default()).await.unwrap();
    assert_eq!(samples(&lake, "main").await.len(), 20 + 40);
    assert_books(&lake, "main").await;
    assert_eq!(notes(&lake, "main").await.len(), 2 + 8);
    let log = lake.history("main", 100).await.unwrap();
    assert_eq!(log.iter().filter(|entry| entry.commit.parents.len() == 2).count(), 4);
    let place = |id| log.iter().position(|entry| &entry.commit.id == id).unwrap();
    for entry in &log {
        assert!(entry.commit.parents.iter().all(|parent| place(parent) > place(&entry.commit.id)));
    }
    assert_eq!(log[0].refs, [branch("exp"), branch("main")], "the last merge was a fast-forward");
}

/// Rows without a key come once, whichever side picked their file and put it together with others.
#[tokio::test]
async fn a_file_that_was_picked_and_compacted_is_not_merged_again() {
    for picked_on_main in [true, false] {
        let lake = forked().await;
        let (from, onto) = if picked_on_main { ("exp", "main") } else { ("main", "exp") };
        let only_note = |text: &str, time_us| CommitRequest {
            time_us,
            appends: vec![note(text, time_us)],
            ..CommitRequest::default()
        };
        let shared = commit(&lake, from, only_note("shared", NOON_US + 10)).await;
        commit(&lake, onto, only_note("own", NOON_US + 11)).await;
        lake.cherry_pick(&branch(onto), &shared.id, &by(NOON_US + 12)).await.unwrap().unwrap();
        let expected = ["a 0..10", "a 10..20", "more", "own", "shared"];
        let table = name(NOTES);
        let same = |rows| rows;
        let done = rewrite(&lake, &branch(onto), &table, CommitKind::Compact, 9, NOON_US + 13, same).await;
        assert!(done.unwrap().is_some());
        commit(&lake, from, only_note("more", NOON_US + 14)).await;
        merge(&lake, MergeOptions::default()).await.unwrap();
        assert_eq!(notes(&lake, "main").await, expected, "picked on main: {picked_on_main}");
        // And both ways later.
        let main = tip(&lake, "main").await;
        lake.merge(&branch("exp"), &main, &MergeOptions::default(), &by(NOON_US + 200)).await.unwrap();
        assert_eq!(notes(&lake, "exp").await, expected);
    }
}

/// What was put together and then rewritten can not be told apart: better no merge than rows twice.
#[tokio::test]
async fn rows_that_may_be_there_already_are_refused() {
    let lake = forked().await;
    let only_note =
        |time_us| CommitRequest { time_us, appends: vec![note("same", time_us)], ..CommitRequest::default() };
    let shared = commit(&lake, "exp", only_note(NOON_US + 10)).await;
    commit(&lake, "main", only_note(NOON_US + 11)).await;
    lake.cherry_pick(&branch("main"), &shared.id, &by(NOON_US + 12)).await.unwrap().unwrap();
    let table = name(NOTES);
    for kind in [CommitKind::Compact, CommitKind::Resolve] {
        rewrite(&lake, &branch("main"), &table, kind, 9, NOON_US + 13, |rows| rows).await.unwrap().unwrap();
    }
    let before = tip(&lake, "main").await;
    let report = report(merge(&lake, MergeOptions::default()).await.unwrap_err());
    assert_eq!((report.conflicts.len(), report.conflicts[0].table.as_str()), (1, NOTES));
    assert!(report.to_string().contains("may be on both sides already"), "{report}");
    assert_eq!(tip(&lake, "main").await, before);
}
