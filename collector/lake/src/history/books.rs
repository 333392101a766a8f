//! Keeps the ledger in step with the captures of a commit: what leaves is withdrawn, what comes back is held.

use std::collections::BTreeMap;

use super::change::{Changed, Outcome, unchanged};
use super::files::{Files, live};
use super::keys::Keys;
use super::ledger::{self, LEDGER};
use super::side::state_in;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::CommitObject;
use crate::table::TableState;

/// Samples on the move, over all captures.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// In the tables before and not after.
    pub(super) leave: Keys,
    /// In the tables after and not before.
    pub(super) come: Keys,
}

/// Adds the rows that say so to the ledger's outcome. `head` is the commit the new one follows.
pub(super) async fn keep(
    lake: &Lake,
    head: &CommitObject,
    outcomes: &mut BTreeMap<TableName, Outcome>,
    moves: &Moves,
    time_us: i64,
) -> Result<(), LakeError> {
    if moves.leave.is_empty() && moves.come.is_empty() {
        return Ok(());
    }
    let name = TableName::new(LEDGER)?;
    let (state, files): (Option<TableState>, Files) = match outcomes.get(&name) {
        None | Some(Outcome::Keep) => {
            let state = state_in(lake, &name, Some(head)).await?;
            let files = live(lake.store(), &name, state.as_ref()).await?;
            (state, files)
        }
        Some(Outcome::Point(state)) => (state.clone(), live(lake.store(), &name, state.as_ref()).await?),
        Some(Outcome::Change(changed)) => {
            let mut files = live(lake.store(), &name, changed.onto.as_ref()).await?;
            files.retain(|url, _| !changed.delta.removed.contains_key(url));
            files.extend(changed.delta.added.clone());
            (changed.onto.clone(), files)
        }
    };
    let Some(state) = state else { return Ok(()) };
    if !ledger::is_ledger(&state.metadata) {
        tracing::warn!(table = %name, "it has not the columns of a ledger, so it does not say which samples left");
        return Ok(());
    }
    let rows =
        ledger::moved(lake.store(), &state.metadata, &files, &moves.leave, &moves.come, time_us).await?;
    let Some(rows) = rows else { return Ok(()) };
    let mut changed = match outcomes.remove(&name) {
        Some(Outcome::Change(changed)) => changed,
        _ => {
            let drafted = unchanged(&state);
            Box::new(Changed::new(Some(state), drafted, super::files::Delta::default()))
        }
    };
    changed.append(&name, vec![rows]).await?;
    outcomes.insert(name, Outcome::Change(changed));
    Ok(())
}
