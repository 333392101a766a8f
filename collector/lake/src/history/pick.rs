//! Cherry-pick: what one commit did, done again on another branch; or captures a reset withdrew, brought back.

use async_trait::async_trait;

use super::books::{self, Moves};
use super::change::{self, Outcome};
use super::coverage::Finished;
use super::merge::{recipes, set};
use super::report::{ConflictReport, TableConflict};
use super::side::state_in;
use super::step::{Outcomes, PICK, Step};
use super::verb::{self, By, OPS, carry_out, described, names, recipe_of};
use super::walk;
use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::repo::{CommitKind, CommitObject, RefOp};
use crate::writer::{Base, Committed, Draft, Drafting, Plan};

/// What a cherry-pick did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// The commit.
    pub committed: Committed,
    /// Rows left out because the branch had their key.
    pub known_rows: u64,
}

impl Lake {
    /// Does on a branch what one commit did to its first parent: a commit of kind `merge` with one parent. Captures come
    /// once, by their key; those a reset withdrew are held again. None if all of it is there. Costs what that commit
    /// changed, and one read per commit since it.
    ///
    /// # Errors
    /// [`LakeError::Conflicts`] with everything that stands against it.
    pub async fn cherry_pick(
        &self,
        name: &RefName,
        commit: &CommitId,
        by: &By,
    ) -> Result<Option<Picked>, CommitError> {
        let mut plan = Picking { name: name.clone(), commit: commit.clone(), by: by.clone(), known_rows: 0 };
        let committed = carry_out(self, name, by, &mut plan).await?;
        Ok(committed.map(|committed| Picked { committed, known_rows: plan.known_rows }))
    }
}

#[derive(Debug)]
struct Picking {
    name: RefName,
    commit: CommitId,
    by: By,
    known_rows: u64,
}

#[async_trait]
impl Plan for Picking {
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
        let picked = verb::named(lake, &self.commit).await?;
        let parent = verb::first_parent(lake, &picked).await?;
        // Books are never taken back, so those of a commit in the branch's own history are there.
        let own = walk::has_ancestor(lake, &ours.id, &picked.id).await? == Some(true);
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Merge, self.by.time_us);
        let (mut outcomes, mut moves, mut conflicts) = (Outcomes::new(), Moves::default(), Vec::new());
        self.known_rows = 0;
        for table in names([parent.as_ref(), Some(&picked)]) {
            let entry = |commit: Option<&CommitObject>| commit.and_then(|c| c.tables.get(&table)).cloned();
            let (before, after, head) = (entry(parent.as_ref()), entry(Some(&picked)), entry(Some(&ours)));
            let is_book = table.namespace() == OPS;
            if before == after || (is_book && own) || recipe_of(&table).is_some() {
                continue;
            }
            let step = Step {
                table: &table,
                from: before.as_ref(),
                to: after.as_ref(),
                head: head.as_ref(),
                verb: PICK,
            };
            match step.on_head(lake, &mut moves).await? {
                Ok(Some(outcome)) => {
                    if let Outcome::Change(changed) = &outcome {
                        self.known_rows += changed.dropped;
                    }
                    outcomes.insert(table, outcome);
                }
                Ok(None) => {}
                Err(conflict) => conflicts.push(conflict),
            }
        }
        conflicts.extend(
            realigned(lake, &mut drafting.commit, &mut outcomes, parent.as_ref(), &picked, &ours).await?,
        );
        if !conflicts.is_empty() {
            let report = ConflictReport { verb: format!("cherry-pick {}", picked.id.short()), conflicts };
            return Err(LakeError::Conflicts(Box::new(report)));
        }
        books::keep(lake, &ours, &mut outcomes, &moves, self.by.time_us).await?;
        if !change::put(lake, &mut drafting, outcomes).await? {
            return Ok(None);
        }
        drafting.commit.message =
            self.by.message.clone().unwrap_or_else(|| format!("cherry-pick {}", described(&picked)));
        drafting.commit.lineage.inputs = vec![format!("commit {}", picked.id)];
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

/// Aligned rows are picked whole or not at all: with the coverage that tells of them, where nothing was aligned beside.
async fn realigned(
    lake: &Lake,
    commit: &mut CommitObject,
    outcomes: &mut Outcomes,
    parent: Option<&CommitObject>,
    picked: &CommitObject,
    ours: &CommitObject,
) -> Result<Vec<TableConflict>, LakeError> {
    let mut conflicts = Vec::new();
    for recipe in recipes([picked]) {
        let table = TableName::new(format!("{}.{recipe}", verb::ALIGNED))?;
        let of = |commit: Option<&CommitObject>| {
            let entry = commit.and_then(|commit| commit.tables.get(&table)).cloned();
            (entry, commit.and_then(|commit| commit.coverage.get(&recipe)).cloned())
        };
        let (before, after, mine) = (of(parent), of(Some(picked)), of(Some(ours)));
        if before == after || mine == after {
            continue;
        }
        if mine == before {
            outcomes.insert(table.clone(), Outcome::Point(state_in(lake, &table, Some(picked)).await?));
            set(&mut commit.coverage, &recipe, after.1);
            continue;
        }
        let mine = Finished::read(lake, mine.1.as_ref()).await?;
        let after = Finished::read(lake, after.1.as_ref()).await?;
        if matches!((&mine, &after), (Some(mine), Some(after)) if mine.holds_all_of(after)) {
            continue;
        }
        conflicts.push(TableConflict {
            table,
            reason: "its recipe aligned other rows on this branch; re-align there instead".to_owned(),
            files: Vec::new(),
        });
    }
    Ok(conflicts)
}
