//! Verbs of history, and what they must make of sets of rows.

use std::collections::{BTreeMap, BTreeSet};

use headwater_lake::testing::Fault;
use headwater_lake::{By, CommitError, CommitId, LakeError, MergeOptions, Merged, RollbackOptions};

use super::ops::Trouble;
use super::rows::{Contents, name};
use super::world::{Outcome, World, ref_name};

fn set(contents: &Contents, table: &str) -> BTreeSet<i64> {
    contents.get(&name(table)).into_iter().flatten().copied().collect()
}

fn put(contents: &mut Contents, table: &str, rows: BTreeSet<i64>) {
    // A table without rows is as good as none: undoing the commit that made it takes it away.
    contents.remove(&name(table));
    if !rows.is_empty() {
        contents.insert(name(table), rows.into_iter().collect());
    }
}

/// What a verb may say instead of doing it, once history is not made of additions alone.
fn may_refuse(source: &LakeError) -> bool {
    matches!(source, LakeError::Conflicts(_))
}

impl World {
    fn by(&self) -> By {
        By { author: "someone".to_owned(), message: None, time_us: self.time_us }
    }

    /// Whether it happened, from the answer of a verb that makes at most one commit.
    fn outcome(&mut self, answer: Result<bool, CommitError>) -> Outcome {
        let dead = self.store.is_dead();
        self.store.set(Fault::None);
        match answer {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Refused,
            Err(_) if dead => Outcome::Unknown,
            Err(CommitError::Unknown { .. }) => Outcome::Unknown,
            Err(CommitError::Failed { source, .. }) => {
                assert!(
                    self.mixed || !may_refuse(&source) || matches!(source, LakeError::Unrelated { .. }),
                    "additions alone are in conflict: {source}"
                );
                Outcome::Refused
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub(super) async fn merge(&mut self, from: &str, into: &str, no_ff: bool, trouble: &Trouble) {
        let (Some(theirs), Some(_)) = (self.heads.get(from).cloned(), self.heads.get(into)) else { return };
        let options = MergeOptions { no_ff, ..MergeOptions::default() };
        let by = self.by();
        self.store.set(trouble.0.clone());
        let answer = self.lake.merge(&ref_name(into), &theirs, &options, &by).await;
        let up_to_date = matches!(answer, Ok(Merged::UpToDate));
        let outcome = self.outcome(answer.map(|merged| !matches!(merged, Merged::UpToDate)));
        if outcome == Outcome::Done {
            self.tally.merges += 1;
        }
        let (left, right) = (self.model[into].clone(), self.model[from].clone());
        let before = self.model.clone();
        let mixed = self.mixed;
        let others = |found: &BTreeMap<String, Contents>| {
            found.iter().filter(|(branch, _)| *branch != into).eq(before.iter().filter(|(b, _)| *b != into))
        };
        let accept = |found: &BTreeMap<String, Contents>| {
            let now = &found[into];
            let [both, all] =
                [|a: &BTreeSet<i64>, b: &BTreeSet<i64>| a & b, |a: &BTreeSet<i64>, b: &BTreeSet<i64>| a | b]
                    .map(|join| join(&set(&left, "raw.m"), &set(&right, "raw.m")));
            let books = &set(&left, "ops.sums") | &set(&right, "ops.sums");
            let raw = set(now, "raw.m");
            // A row of both sides stays, one of neither does not come; which of the others do is told by the base.
            let raw_fits = if mixed { both.is_subset(&raw) && raw.is_subset(&all) } else { raw == all };
            raw_fits
                && now.get(&name("raw.m")).map_or(0, Vec::len) == raw.len()
                && set(now, "ops.sums") == books
                && others(found)
        };
        if up_to_date && !mixed {
            assert!(accept(&self.model.clone()), "a merge took {from} for a part of {into}");
        }
        self.end(outcome, accept).await;
    }

    pub(super) async fn revert(&mut self, branch: &str, back: usize, trouble: &Trouble) {
        let Some((commit, rows)) = self.own(branch, back) else { return };
        let by = self.by();
        self.store.set(trouble.0.clone());
        let answer = self.lake.revert(&ref_name(branch), &commit, &by).await;
        let outcome = self.outcome(answer.map(|done| done.is_some()));
        self.mixed = true;
        let mut wanted = self.model.clone();
        let contents = wanted.get_mut(branch).unwrap();
        let raw = &set(contents, "raw.m") - &rows;
        put(contents, "raw.m", raw);
        self.tally.reverts += u32::from(outcome == Outcome::Done);
        self.end(outcome, |found| found == &wanted).await;
    }

    pub(super) async fn pick(&mut self, from: &str, back: usize, into: &str, trouble: &Trouble) {
        let Some((commit, rows)) = self.own(from, back) else { return };
        if !self.model.contains_key(into) {
            return;
        }
        let by = self.by();
        self.store.set(trouble.0.clone());
        let answer = self.lake.cherry_pick(&ref_name(into), &commit, &by).await;
        // A schema that the branch does not have may stand against it.
        self.mixed = true;
        let outcome = self.outcome(answer.map(|done| done.is_some()));
        let mut wanted = self.model.clone();
        let contents = wanted.get_mut(into).unwrap();
        let raw = &set(contents, "raw.m") | &rows;
        let books = &set(contents, "ops.sums") | &rows.first().copied().into_iter().collect();
        put(contents, "raw.m", raw);
        put(contents, "ops.sums", books);
        self.tally.picks += u32::from(outcome == Outcome::Done);
        self.end(outcome, |found| found == &wanted).await;
    }

    /// Back to an older head of the branch: captures too, or aligned rows only, of which there are none.
    pub(super) async fn set_back(&mut self, branch: &str, back: usize, all: bool, trouble: &Trouble) {
        let Some(line) = self.lines.get(branch) else { return };
        let Some(to) = line.iter().rev().nth(back).cloned() else { return };
        let by = self.by();
        self.store.set(trouble.0.clone());
        let options = RollbackOptions { all, go_on: true };
        let answer = self.lake.rollback(&ref_name(branch), &to, options, &by).await;
        let outcome = self.outcome(answer.map(|done| done.is_some()));
        self.mixed = true;
        let mut wanted = self.model.clone();
        if all {
            let raw = set(&self.pinned[&to], "raw.m");
            put(wanted.get_mut(branch).unwrap(), "raw.m", raw);
        }
        self.tally.resets += u32::from(outcome == Outcome::Done);
        self.end(outcome, |found| found == &wanted).await;
    }

    /// A commit of rows that was acknowledged on the branch, counted from the newest.
    fn own(&self, branch: &str, back: usize) -> Option<(CommitId, BTreeSet<i64>)> {
        let own = self.acked.iter().rev().filter(|(on, ..)| on == branch);
        own.map(|(_, commit, rows)| (commit.clone(), rows.iter().copied().collect())).nth(back)
    }

    async fn end(&mut self, outcome: Outcome, accept: impl Fn(&BTreeMap<String, Contents>) -> bool) {
        if outcome == Outcome::Unknown {
            self.reopen().await;
        }
        self.settle_if(outcome, accept).await;
    }
}
