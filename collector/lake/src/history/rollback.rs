//! Rollback: a new commit with older tables in it. By default what recipes made goes back, captures stay; with `all`
//! captures go back too, and the ledger says of each one that left that it was withdrawn.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;

use super::books::{self, Moves};
use super::change::{self, Outcome};
use super::files::{self, Files};
use super::keys::{self, Keys};
use super::merge::{recipes, set};
use super::side::state_in;
use super::verb::{self, By, OPS, RAW, carry_out, described, names, recipe_of};
use super::walk;
use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::repo::{CommitKind, CommitObject, RefOp};
use crate::table::TableState;
use crate::writer::{Base, Committed, Draft, Drafting, Plan};

/// How far to go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RollbackOptions {
    /// Captures go back too. Books (`ops.*`) stay in any case.
    pub all: bool,
    /// Recipes go on at once, filling what went back anew. Otherwise they are held until released.
    pub go_on: bool,
}

/// Samples that a rollback takes out of a ref.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Leaving {
    /// In all.
    pub samples: u64,
    /// By table.
    pub tables: BTreeMap<TableName, u64>,
}

impl Lake {
    /// Sets a branch back to an older commit of its history, by a new commit: nothing is deleted. Tables are pointed at,
    /// never copied, so that it costs two round trips and one read per commit since then; with `all` also the keys of
    /// the captures that leave. None if all is as it was.
    ///
    /// # Errors
    /// [`LakeError::NotInHistory`] when `to` is no commit of the branch's history; when the store fails.
    pub async fn rollback(
        &self,
        name: &RefName,
        to: &CommitId,
        options: RollbackOptions,
        by: &By,
    ) -> Result<Option<Committed>, CommitError> {
        let mut plan = RollingBack { name: name.clone(), to: to.clone(), options, by: by.clone() };
        carry_out(self, name, by, &mut plan).await
    }

    /// How many captures `rollback` with `all` would take out of a branch.
    ///
    /// # Errors
    /// As [`Lake::rollback`].
    pub async fn leaving(&self, name: &RefName, to: &CommitId) -> Result<Leaving, LakeError> {
        let unknown = || LakeError::UnknownRevision { spec: name.to_string() };
        let head = self.head(name).await?.and_then(|head| head.commit).ok_or_else(unknown)?;
        let (ours, target) = (self.commit_object(&head).await?, self.commit_object(to).await?);
        let mut leaving = Leaving::default();
        for table in names([Some(&ours), Some(&target)]) {
            if table.namespace() == RAW {
                let moves = moves(self, &table, Some(&ours), Some(&target)).await?;
                if !moves.leave.is_empty() {
                    leaving.samples += moves.leave.count();
                    leaving.tables.insert(table, moves.leave.count());
                }
            }
        }
        Ok(leaving)
    }

    /// Lets a recipe that a rollback held go on: it fills what went back anew. None if it is not held.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release(
        &self,
        name: &RefName,
        recipe: &str,
        by: &By,
    ) -> Result<Option<Committed>, CommitError> {
        let mut plan = Releasing { name: name.clone(), recipe: recipe.to_owned(), by: by.clone() };
        carry_out(self, name, by, &mut plan).await
    }
}

#[derive(Debug)]
struct RollingBack {
    name: RefName,
    to: CommitId,
    options: RollbackOptions,
    by: By,
}

#[async_trait]
impl Plan for RollingBack {
    fn time_us(&self) -> i64 {
        self.by.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        let ours = verb::tip(base, &self.name)?.clone();
        let target = verb::named(lake, &self.to).await?;
        if walk::has_ancestor(lake, &ours.id, &target.id).await? == Some(false) {
            return Err(LakeError::NotInHistory { name: self.name.clone(), commit: target.id });
        }
        let kind = if self.options.all { CommitKind::Reset } else { CommitKind::Rollback };
        let mut drafting = Drafting::on(lake, author, base, kind, self.by.time_us);
        let mut outcomes = BTreeMap::new();
        let mut all_moves = Moves::default();
        for table in names([Some(&ours), Some(&target)]) {
            let goes = recipe_of(&table).is_some() || (self.options.all && table.namespace() != OPS);
            if !goes || ours.tables.get(&table) == target.tables.get(&table) {
                continue;
            }
            if table.namespace() == RAW {
                let moves = moves(lake, &table, Some(&ours), Some(&target)).await?;
                all_moves.leave.union_with(&moves.leave);
                all_moves.come.union_with(&moves.come);
            }
            let state = state_in(lake, &table, Some(&target)).await?;
            outcomes.insert(table, Outcome::Point(state));
        }
        let mut any = hold(&mut drafting.commit, &ours, &target, self.options.go_on);
        books::keep(lake, &ours, &mut outcomes, &all_moves, self.by.time_us).await?;
        any |= change::put(lake, &mut drafting, outcomes).await?;
        if !any {
            return Ok(None);
        }
        let op = if self.options.all { RefOp::Reset } else { RefOp::Rollback };
        let what = if self.options.all { "all tables" } else { "aligned tables" };
        let to = described(&target);
        drafting.commit.message =
            self.by.message.clone().unwrap_or_else(|| format!("{what} of {} back to {to}", self.name));
        drafting.commit.lineage.inputs = vec![format!("commit {}", target.id)];
        drafting.seal(lake, op).map(Some)
    }
}

/// Coverage goes back with the rows it tells of, and recipes whose rows went are held. True if any did.
fn hold(commit: &mut CommitObject, ours: &CommitObject, target: &CommitObject, go_on: bool) -> bool {
    let mut any = false;
    for recipe in recipes([ours, target]) {
        let table = |of: &CommitObject| {
            of.tables
                .iter()
                .find(|(name, _)| recipe_of(name) == Some(&recipe))
                .map(|(_, entry)| entry.clone())
        };
        let (mine, old) = (ours.coverage.get(&recipe), target.coverage.get(&recipe));
        if mine == old && table(ours) == table(target) {
            continue;
        }
        any = true;
        set(&mut commit.coverage, &recipe, old.cloned());
        if let Some(at) = mine.or(old).filter(|_| !go_on) {
            commit.held.insert(recipe, at.recipe_id.clone());
        }
    }
    any
}

/// Samples that leave and come when a table of captures is set from one commit's state to another's.
pub(super) async fn moves(
    lake: &Lake,
    name: &TableName,
    from: Option<&CommitObject>,
    to: Option<&CommitObject>,
) -> Result<Moves, LakeError> {
    let (from, to) = (state_in(lake, name, from).await?, state_in(lake, name, to).await?);
    let delta = files::delta(lake.store(), name, from.as_ref(), to.as_ref()).await?;
    let removed = keys_of(lake, name, from.as_ref(), &delta.removed).await?;
    let added = keys_of(lake, name, to.as_ref(), &delta.added).await?;
    Ok(Moves { leave: removed.without(&added), come: added.without(&removed) })
}

/// Keys of files of a state; none for a table that has no keys.
pub(super) async fn keys_of(
    lake: &Lake,
    name: &TableName,
    state: Option<&TableState>,
    files: &Files,
) -> Result<Keys, LakeError> {
    match state {
        Some(state) if keys::is_keyed(&state.metadata) => {
            keys::of_files(lake.store(), name, &state.metadata, files).await
        }
        _ => Ok(Keys::default()),
    }
}

#[derive(Debug)]
struct Releasing {
    name: RefName,
    recipe: String,
    by: By,
}

#[async_trait]
impl Plan for Releasing {
    fn time_us(&self) -> i64 {
        self.by.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        verb::tip(base, &self.name)?;
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Rollback, self.by.time_us);
        if drafting.commit.held.remove(&self.recipe).is_none() {
            return Ok(None);
        }
        drafting.commit.message =
            self.by.message.clone().unwrap_or_else(|| format!("recipe {} goes on", self.recipe));
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}
