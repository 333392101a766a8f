//! Revert: a new commit that takes back what one commit did. Books (`ops.*`) stay; of captures that leave, the ledger
//! says that they were withdrawn.

use async_trait::async_trait;

use super::books::{self, Moves};
use super::change;
use super::coverage::Finished;
use super::merge::{recipes, set};
use super::report::{ConflictReport, TableConflict};
use super::step::{Outcomes, REVERT, Step};
use super::verb::{self, By, OPS, carry_out, described, names, recipe_of};
use super::walk;
use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::repo::{CommitKind, CommitObject, RefOp};
use crate::writer::{Base, Committed, Draft, Drafting, Plan};

impl Lake {
    /// Undoes one commit on a branch: files it added go, files it removed come back. Of a merge, what it brought to its
    /// first parent is undone. None if there is nothing left to undo. Costs what that commit changed.
    ///
    /// # Errors
    /// [`LakeError::Conflicts`] when a later commit replaced its files, or those it removed are no longer kept.
    pub async fn revert(
        &self,
        name: &RefName,
        commit: &CommitId,
        by: &By,
    ) -> Result<Option<Committed>, CommitError> {
        let mut plan = Reverting { name: name.clone(), commit: commit.clone(), by: by.clone() };
        carry_out(self, name, by, &mut plan).await
    }
}

#[derive(Debug)]
struct Reverting {
    name: RefName,
    commit: CommitId,
    by: By,
}

#[async_trait]
impl Plan for Reverting {
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
        let undone = verb::named(lake, &self.commit).await?;
        let parent = verb::first_parent(lake, &undone).await?;
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Revert, self.by.time_us);
        let (mut outcomes, mut moves, mut conflicts) = (Outcomes::new(), Moves::default(), Vec::new());
        for table in names([parent.as_ref(), Some(&undone)]) {
            let entry = |commit: Option<&CommitObject>| commit.and_then(|c| c.tables.get(&table)).cloned();
            let (before, after, head) = (entry(parent.as_ref()), entry(Some(&undone)), entry(Some(&ours)));
            if table.namespace() == OPS || before == after {
                continue;
            }
            let step = Step {
                table: &table,
                from: after.as_ref(),
                to: before.as_ref(),
                head: head.as_ref(),
                verb: REVERT,
            };
            match step.on_head(lake, &mut moves).await? {
                Ok(Some(outcome)) => drop(outcomes.insert(table, outcome)),
                Ok(None) => {}
                Err(conflict) => conflicts.push(conflict),
            }
        }
        let recipes = uncover(lake, &mut drafting.commit, parent.as_ref(), &undone, &ours).await?;
        let mut any = recipes.0;
        conflicts.extend(recipes.1);
        if !conflicts.is_empty() {
            // Said again, it finds its files gone: by itself.
            if is_reverted(lake, &ours, &undone).await? {
                return Ok(None);
            }
            let report = ConflictReport { verb: format!("revert {}", undone.id.short()), conflicts };
            return Err(LakeError::Conflicts(Box::new(report)));
        }
        books::keep(lake, &ours, &mut outcomes, &moves, self.by.time_us).await?;
        any |= change::put(lake, &mut drafting, outcomes).await?;
        if !any {
            return Ok(None);
        }
        drafting.commit.message =
            self.by.message.clone().unwrap_or_else(|| format!("revert {}", described(&undone)));
        drafting.commit.lineage.inputs = vec![format!("commit {}", undone.id)];
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

/// Whether the newest word about a commit in the branch's own line is that it was reverted.
async fn is_reverted(lake: &Lake, ours: &CommitObject, undone: &CommitObject) -> Result<bool, LakeError> {
    let Some(since) = walk::first_parents_until(lake, &ours.id, &undone.id).await? else { return Ok(false) };
    let input = format!("commit {}", undone.id);
    let of = |commit: &&CommitObject| {
        matches!(commit.kind, CommitKind::Revert | CommitKind::Merge)
            && commit.lineage.inputs.contains(&input)
    };
    Ok(since.iter().find(of).is_some_and(|newest| newest.kind == CommitKind::Revert))
}

/// What the undone commit finished is unfinished again, and its recipes are held: they would make the same rows anew.
async fn uncover(
    lake: &Lake,
    commit: &mut CommitObject,
    parent: Option<&CommitObject>,
    undone: &CommitObject,
    ours: &CommitObject,
) -> Result<(bool, Vec<TableConflict>), LakeError> {
    let (mut any, mut conflicts) = (false, Vec::new());
    for recipe in recipes([undone]) {
        let before = parent.and_then(|parent| parent.coverage.get(&recipe));
        let after = undone.coverage.get(&recipe);
        let mine = ours.coverage.get(&recipe);
        if before == after || mine == before {
            continue;
        }
        let recipe_id = mine.or(after).map(|entry| entry.recipe_id.clone());
        if mine == after {
            set(&mut commit.coverage, &recipe, before.cloned());
        } else {
            let read = async |entry| Finished::read(lake, entry).await;
            let (before, after, mine) = (read(before).await?, read(after).await?, read(mine).await?);
            let (Some(after), Some(mine)) = (after, mine) else {
                conflicts.push(TableConflict {
                    table: TableName::new(format!("{}.{recipe}", verb::ALIGNED))?,
                    reason: "what its recipe finished cannot be read; roll back to the commit before instead"
                        .to_owned(),
                    files: Vec::new(),
                });
                continue;
            };
            let cut = mine.without_step(before.as_ref(), &after);
            if cut == mine {
                continue;
            }
            set(&mut commit.coverage, &recipe, Some(cut.store(lake).await?));
        }
        any = true;
        if let Some(recipe_id) = recipe_id.filter(|_| recipe_of_any(undone, &recipe)) {
            commit.held.insert(recipe, recipe_id);
        }
    }
    Ok((any, conflicts))
}

fn recipe_of_any(commit: &CommitObject, recipe: &str) -> bool {
    commit.tables.keys().any(|table| recipe_of(table) == Some(recipe))
}
