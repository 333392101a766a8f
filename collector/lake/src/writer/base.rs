//! What the writer keeps of the ref it commits to, so that a commit need not read anything.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{RefName, TableName};
use crate::repo::{CommitObject, Head};
use crate::table::{self, TableState};

/// Tables whose states are read at once.
const READS_MAX: usize = 64;

/// A ref's head with the states of the tables touched so far.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub(crate) head: Option<Head>,
    pub(crate) commit: Option<CommitObject>,
    /// States of those tables that were needed; each is that of `commit`.
    pub(crate) tables: BTreeMap<TableName, TableState>,
    /// When the head was read or made, UTC µs.
    pub(super) read_us: i64,
}

impl Base {
    /// The same after reading the head anew. States whose table has not moved stay.
    pub(super) async fn rebased(
        mut self,
        lake: &Lake,
        name: &RefName,
        now_us: i64,
    ) -> Result<Base, LakeError> {
        self.head = lake.head(name).await?;
        self.read_us = now_us;
        let id = self.head.as_ref().and_then(|head| head.commit.as_ref());
        if self.commit.as_ref().map(|commit| &commit.id) != id {
            self.commit = match id {
                Some(id) => Some(lake.commit_object(id).await?),
                None => None,
            };
        }
        let entries = self.commit.as_ref().map(|commit| &commit.tables);
        self.tables.retain(|name, state| entries.and_then(|entries| entries.get(name)) == Some(&state.entry));
        Ok(self)
    }

    /// What it becomes when `commit` is published.
    pub(super) fn advanced(
        mut self,
        commit: CommitObject,
        states: BTreeMap<TableName, TableState>,
        now_us: i64,
    ) -> Base {
        self.tables.extend(states);
        // A table that was pointed at another state leaves the state it had.
        self.tables.retain(|name, state| commit.tables.get(name) == Some(&state.entry));
        self.commit = Some(commit);
        self.read_us = now_us;
        self
    }

    /// Makes sure that the state of `name` is in memory, if the commit has such a table.
    pub(crate) async fn need(&mut self, lake: &Lake, name: &TableName) -> Result<(), LakeError> {
        self.need_all(lake, std::iter::once(name)).await
    }

    /// The same of many tables, whose states are read at once.
    pub(crate) async fn need_all<'a>(
        &mut self,
        lake: &Lake,
        names: impl Iterator<Item = &'a TableName>,
    ) -> Result<(), LakeError> {
        let Some(commit) = &self.commit else { return Ok(()) };
        let reads: Vec<BoxFuture<'_, Result<(TableName, TableState), LakeError>>> = names
            .filter(|name| !self.tables.contains_key(*name))
            .filter_map(|name| Some((name.clone(), commit.tables.get(name)?)))
            .map(|(name, entry)| {
                async move {
                    let state = table::load(lake.store(), &name, entry).await?;
                    Ok((name, state))
                }
                .boxed()
            })
            .collect();
        let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(READS_MAX).try_collect().await?;
        self.tables.extend(read);
        Ok(())
    }
}
