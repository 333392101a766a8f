//! What one commit did, on top of another state: shared by cherry-pick (as it was) and revert (backwards).

use std::collections::BTreeMap;

use super::books::Moves;
use super::change::{Changed, Outcome, unfit};
use super::files::{Delta, Files, delta, gone};
use super::keys;
use super::report::TableConflict;
use super::rollback::keys_of;
use super::side::state;
use super::verb::RAW;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::TableEntry;
use crate::table::{self, TableState};

/// A change of one table between two commits, to be made on a third.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) table: &'a TableName,
    pub(super) from: Option<&'a TableEntry>,
    pub(super) to: Option<&'a TableEntry>,
    /// Where it is to be made.
    pub(super) head: Option<&'a TableEntry>,
    /// Files are added only where they were not removed: a revert must find all it takes away, a pick what it replaces.
    pub(super) verb: &'static str,
}

impl Step<'_> {
    fn conflict(&self, reason: impl Into<String>, files: Vec<String>) -> TableConflict {
        TableConflict { table: self.table.clone(), reason: reason.into(), files }
    }

    /// The table's outcome; none if the change is there already.
    pub(super) async fn on_head(
        &self,
        lake: &Lake,
        moves: &mut Moves,
    ) -> Result<Result<Option<Outcome>, TableConflict>, LakeError> {
        if self.head == self.to {
            return Ok(Ok(None));
        }
        let from = state(lake, self.table, self.from).await?;
        let to = state(lake, self.table, self.to).await?;
        let step = delta(lake.store(), self.table, from.as_ref(), to.as_ref()).await?;
        if self.head == self.from {
            // Nothing came between: the other state is the answer as it is.
            self.account(lake, &step, from.as_ref(), to.as_ref(), moves).await?;
            return Ok(Ok(Some(Outcome::Point(to))));
        }
        let Some(head) = state(lake, self.table, self.head).await? else {
            return Ok(Err(self.conflict("the branch has no such table", Vec::new())));
        };
        let uuids = [self.from, self.to].into_iter().flatten().map(|entry| entry.uuid);
        if uuids.into_iter().any(|uuid| uuid != head.entry.uuid) {
            return Ok(Err(self.conflict("the branch has another table of that name", Vec::new())));
        }
        self.apply(lake, from, to, head, step, moves).await
    }

    async fn apply(
        &self,
        lake: &Lake,
        from: Option<TableState>,
        to: Option<TableState>,
        head: TableState,
        step: Delta,
        moves: &mut Moves,
    ) -> Result<Result<Option<Outcome>, TableConflict>, LakeError> {
        // As seen from the state before the change: what the head has no more, and what it has beside.
        let since = delta(lake.store(), self.table, from.as_ref(), Some(&head)).await?;
        let missing: Vec<String> =
            step.removed.keys().filter(|url| since.removed.contains_key(*url)).cloned().collect();
        let fresh: Files = step
            .added
            .iter()
            .filter(|(url, _)| !since.added.contains_key(*url))
            .map(|(url, live)| (url.clone(), live.clone()))
            .collect();
        if missing.len() == step.removed.len() && fresh.is_empty() {
            let is_gone =
                missing.is_empty() || self.rows_are_gone(lake, &head, from.as_ref(), &step, &since).await?;
            if is_gone {
                return Ok(Ok(None));
            }
        }
        if !missing.is_empty() {
            let reason = format!(
                "a later commit replaced {} of the files that this {} takes away, or their rows came in other files; {} what did that first",
                missing.len(),
                self.verb,
                self.verb
            );
            return Ok(Err(self.conflict(reason, missing)));
        }
        let lost = gone(lake.store(), fresh.keys().cloned()).await?;
        if !lost.is_empty() {
            return Ok(Err(self.conflict("the files it brings back are no longer kept", lost)));
        }
        let change = Delta { added: fresh, removed: step.removed.clone() };
        let Some(source) = to.clone().or_else(|| from.clone()) else { return Ok(Ok(None)) };
        let location = head.entry.metadata_location.clone();
        let base = from.as_ref().map(|from| from.metadata.as_ref());
        let drafted = match table::unite(self.table, &head.metadata, &location, &source.metadata, base)? {
            Ok(drafted) => drafted,
            // A revert of new columns leaves them, empty: the head's columns are right as they are.
            Err(_) if self.verb == REVERT => super::change::unchanged(&head),
            Err(reason) => return Ok(Err(self.conflict(reason, Vec::new()))),
        };
        if let Some(conflict) = unfit(self.table, &drafted, &change) {
            return Ok(Err(conflict));
        }
        let mut changed = Changed::new(Some(head.clone()), drafted, change);
        if self.table.namespace() == RAW && keys::is_keyed(&head.metadata) {
            // Files both the state after the change and the head have cannot hold one of its keys (D1).
            let there: Files = since
                .added
                .iter()
                .filter(|(url, _)| !step.added.contains_key(*url))
                .map(|(url, live)| (url.clone(), live.clone()))
                .collect();
            let near = keys::near(&head.metadata, &there, &changed.delta.added);
            let known = keys::of_files(lake.store(), self.table, &head.metadata, &near).await?;
            let come = changed.drop_known(lake, self.table, &source, &known).await?;
            let removed = keys_of(lake, self.table, Some(&head), &changed.delta.removed).await?;
            moves.leave.union_with(&removed.without(&come).without(&known));
            moves.come.union_with(&come.without(&removed));
        }
        Ok(Ok(Some(Outcome::Change(Box::new(changed)))))
    }

    /// Whether the rows of files that are to go, and are not listed any more, have left the head: or stand in another
    /// file. Of captures the keys tell; of other rows nothing does.
    async fn rows_are_gone(
        &self,
        lake: &Lake,
        head: &TableState,
        from: Option<&TableState>,
        step: &Delta,
        since: &Delta,
    ) -> Result<bool, LakeError> {
        if self.table.namespace() != RAW || !keys::is_keyed(&head.metadata) {
            return Ok(self.verb == PICK);
        }
        let near = keys::near(&head.metadata, &since.added, &step.removed);
        let there = keys_of(lake, self.table, Some(head), &near).await?;
        Ok(keys_of(lake, self.table, from, &step.removed).await?.within(&there).is_empty())
    }

    /// Notes which samples leave and come.
    async fn account(
        &self,
        lake: &Lake,
        step: &Delta,
        from: Option<&TableState>,
        to: Option<&TableState>,
        moves: &mut Moves,
    ) -> Result<(), LakeError> {
        if self.table.namespace() != RAW {
            return Ok(());
        }
        let removed = keys_of(lake, self.table, from, &step.removed).await?;
        let added = keys_of(lake, self.table, to, &step.added).await?;
        moves.leave.union_with(&removed.without(&added));
        moves.come.union_with(&added.without(&removed));
        Ok(())
    }
}

pub(super) const REVERT: &str = "revert";
pub(super) const PICK: &str = "cherry-pick";

/// Outcomes that are more than nothing, by table.
pub(super) type Outcomes = BTreeMap<TableName, Outcome>;
