//! Verbs of history on a lake with a long one and many branches: none of them may cost what the history is long.

use super::bed::{self, quantile, request};
use super::{Bench, NAME};
use anyhow::Result;
use headwater_lake::{
    By, CommitId, CommitKind, CommitRequest, Lake, MergeOptions, RefName, RollbackOptions, TableAppend,
    TableName,
};
use headwater_tests::lakes::{small, small_batch};
use headwater_tests::ticks::now;
use serde_json::{Value, json};

/// Times each verb is tried.
const TRIES: usize = 20;

pub(super) fn measure(bench: &mut Bench<'_>, lake: &Lake, commits: u64, branches: u64) -> Result<()> {
    let case = json!({"commits": commits, "branches": branches, "store": "local disk, synced"});
    let main = bench.runtime.block_on(lake.resolve("main"))?;
    let mut times = Vec::new();
    for n in 0..branches {
        if n.is_multiple_of(50) {
            bench.bar.set_message(format!("branch {n} of {branches}"));
        }
        times.push(branch(bench, lake, &format!("dev/b{n:06}"), &main)?);
    }
    add(bench, &case, "branch", last(&times));
    let tagged = (0..TRIES).map(|n| tag(bench, lake, n, &main)).collect::<Result<Vec<_>>>()?;
    add(bench, &case, "tag", &tagged);
    let resolved = timed(bench, TRIES, |bench| {
        bench.runtime.block_on(lake.resolve("dev/b000000"))?;
        Ok(())
    })?;
    add(bench, &case, "resolve a branch", &resolved);
    let listed = timed(bench, 3, |bench| {
        let refs = bench.runtime.block_on(lake.refs().list())?;
        anyhow::ensure!(refs.len() as u64 == branches + 1, "{} refs are listed", refs.len());
        Ok(())
    })?;
    add(bench, &case, "list all branches", &listed);
    let logged = timed(bench, 3, |bench| {
        bench.runtime.block_on(lake.log("main", 100))?;
        Ok(())
    })?;
    add(bench, &case, "log of 100 commits", &logged);
    let mut on_branch = lake.writer(RefName::new("dev/b000000")?, "measure".to_owned());
    let first = request(&bench.recording, 2, commits + 1)?;
    let opened = now();
    bench.runtime.block_on(on_branch.commit(first))?;
    add(bench, &case, "first commit to a branch", &[opened.elapsed().as_secs_f64() * 1e3]);
    joined(bench, lake, &case, commits)
}

/// Verbs that make commits: each on a head that has moved on since the branch was made.
fn joined(bench: &mut Bench<'_>, lake: &Lake, case: &Value, commits: u64) -> Result<()> {
    bench.bar.set_message("merges and rollbacks");
    let (main, n) = (RefName::main(), u64::try_from(TRIES)?.min(20));
    let (mut merges, mut rollbacks, mut reverts) = (Vec::new(), Vec::new(), Vec::new());
    let mut writer = lake.writer(main.clone(), "measure".to_owned());
    for at in 0..n {
        let request = request(&bench.recording, 2, commits + 10 + at)?;
        let by = By { author: "measure".to_owned(), message: None, time_us: request.time_us };
        let name = RefName::new(format!("joined/{at}"))?;
        let (theirs, old) = bench.runtime.block_on(async {
            let old = lake.resolve("main").await?;
            lake.branch(&name, &old, "measure", by.time_us).await?;
            writer.commit(aligned(at, by.time_us)?).await?;
            anyhow::Ok((lake.writer(name, "measure".to_owned()).commit(request).await?.id, old))
        })?;
        let options = MergeOptions { no_ff: true, ..MergeOptions::default() };
        let merged = timed(bench, 1, |bench| {
            bench.runtime.block_on(lake.merge(&main, &theirs, &options, &by))?;
            Ok(())
        })?;
        merges.extend(merged);
        let back = timed(bench, 1, |bench| {
            let done = bench.runtime.block_on(lake.rollback(&main, &old, RollbackOptions::default(), &by))?;
            anyhow::ensure!(done.is_some(), "there was nothing to roll back");
            Ok(())
        })?;
        rollbacks.extend(back);
        let undone = timed(bench, 1, |bench| {
            let done = bench.runtime.block_on(lake.revert(&main, &theirs, &by))?;
            anyhow::ensure!(done.is_some(), "there was nothing to revert");
            Ok(())
        })?;
        reverts.extend(undone);
    }
    add(bench, case, "merge", &merges);
    add(bench, case, "rollback", &rollbacks);
    add(bench, case, "revert", &reverts);
    Ok(())
}

/// A commit to a table of aligned rows, which a rollback sets back.
fn aligned(n: u64, time_us: i64) -> Result<CommitRequest> {
    let mut spec = small("aligned");
    spec.name = TableName::new("aligned.drive")?;
    let keys = bed::keys(0, i64::try_from(n)? * 10, 10, time_us * 1_000, 1_000_000);
    let appends = vec![TableAppend { spec, batches: vec![small_batch("drive", &keys)?] }];
    Ok(CommitRequest { kind: CommitKind::Align, time_us, appends, ..CommitRequest::default() })
}

fn branch(bench: &Bench<'_>, lake: &Lake, name: &str, at: &CommitId) -> Result<f64> {
    let name = RefName::new(name)?;
    let began = now();
    bench.runtime.block_on(lake.branch(&name, at, "measure", 0))?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn tag(bench: &Bench<'_>, lake: &Lake, n: usize, at: &CommitId) -> Result<f64> {
    let name = RefName::new(format!("v{n}"))?;
    let began = now();
    bench.runtime.block_on(lake.refs().tag(&name, at, "measure", 0))?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Milliseconds of each try.
fn timed(
    bench: &mut Bench<'_>,
    tries: usize,
    mut verb: impl FnMut(&mut Bench<'_>) -> Result<()>,
) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..tries {
        let began = now();
        verb(bench)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// The newest of many: made when the others were there.
fn last(times: &[f64]) -> &[f64] {
    &times[times.len().saturating_sub(TRIES)..]
}

fn add(bench: &mut Bench<'_>, case: &Value, verb: &'static str, times: &[f64]) {
    let beside = json!({"most": quantile(times, 1.0), "tries": times.len()});
    bench.sheet.add(NAME, case.clone(), verb, quantile(times, 0.5), "ms", beside);
}
