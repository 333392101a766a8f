//! The plan of a foreign commit: every table's change judged on the head it meets, all in one commit.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use iceberg::TableUpdate;
use iceberg::spec::{Snapshot, TableMetadata};

use super::apply::{annotated, apply, built};
use super::files::{Listed, Prover, Totals};
use super::request::{ForeignEdit, ForeignRequest, TableChange, TableCreate};
use super::{ForeignError, create, rules};
use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::{CommitKind, CommitStats, RefOp};
use crate::table::{Built, TableState};
use crate::writer::{Base, Committed, Draft, Drafting, LakeWriter, Plan};

impl LakeWriter {
    /// Makes one commit of kind `foreign` of everything in `request`. Requirements are judged on the newest head, and
    /// again on each head that another writer makes meanwhile; none if all of it was committed before, which a client
    /// that lost the answer cannot know.
    ///
    /// # Errors
    /// [`CommitError::Failed`] with [`LakeError::Foreign`] when a rule or a requirement says no, and nothing happened then;
    /// [`CommitError::Unknown`] as for [`LakeWriter::commit`].
    pub async fn apply(&mut self, request: &ForeignRequest) -> Result<Option<Committed>, CommitError> {
        self.refresh(request.time_us).await?;
        let mut plan = Foreign { request, provers: BTreeMap::new() };
        self.publish(&mut plan).await
    }
}

#[derive(Debug)]
struct Foreign<'a> {
    request: &'a ForeignRequest,
    provers: BTreeMap<TableName, Prover>,
}

#[async_trait]
impl Plan for Foreign<'_> {
    fn time_us(&self) -> i64 {
        self.request.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        _author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        // A first entry would make a branch that nobody asked for.
        if base.commit.is_none() {
            return Err(ForeignError::NoBranch.into());
        }
        let mut seen = BTreeSet::new();
        for edit in &self.request.edits {
            if !seen.insert(edit.table()) {
                let (table, reason) =
                    (edit.table().to_string(), "it is given twice in one request".to_owned());
                return Err(ForeignError::Body { table, reason }.into());
            }
            base.need(lake, edit.table()).await?;
        }
        if was_applied(&self.request.edits, base) {
            return Ok(None);
        }
        let mut drafting =
            Drafting::on(lake, &self.request.author, base, CommitKind::Foreign, self.request.time_us);
        let mut stats = CommitStats::default();
        for edit in &self.request.edits {
            let name = edit.table();
            let was = base.tables.get(name);
            let built = match edit {
                ForeignEdit::Drop(_) if was.is_none() => return Err(no_table(name)),
                ForeignEdit::Drop(_) => {
                    drafting.point(name, None);
                    continue;
                }
                ForeignEdit::Create(create) => self.create(lake, create, was)?,
                ForeignEdit::Change(change) => {
                    let words = drafting.summary().clone();
                    self.change(lake, change, was, &words).await?
                }
            };
            let before = was.map_or((0, 0), |was| (was.entry.rows, was.entry.bytes));
            stats.rows += built.state.entry.rows.saturating_sub(before.0);
            stats.bytes += built.state.entry.bytes.saturating_sub(before.1);
            drafting.put(name, built);
        }
        drafting.commit.message.clone_from(&self.request.message);
        drafting.commit.stats = stats;
        drafting.seal(lake, RefOp::Commit).map(Some)
    }
}

impl Foreign<'_> {
    fn create(
        &self,
        lake: &Lake,
        create: &TableCreate,
        was: Option<&TableState>,
    ) -> Result<Built, LakeError> {
        let table = &create.table;
        if was.is_some() {
            return Err(ForeignError::TableExists { table: table.clone() }.into());
        }
        let metadata = create::metadata(lake.location(), create)?;
        built(table, metadata, None, Listed { manifests: Vec::new(), totals: Totals::default() })
    }

    async fn change(
        &mut self,
        lake: &Lake,
        change: &TableChange,
        was: Option<&TableState>,
        words: &BTreeMap<String, String>,
    ) -> Result<Built, LakeError> {
        let table = &change.table;
        check_requirements(change, was)?;
        let now_ms = self.request.time_us.div_euclid(1000);
        let (metadata, location, updates) = match was {
            Some(was) => {
                let location = Some(was.entry.metadata_location.as_str());
                (TableMetadata::clone(&was.metadata), location, change.updates.clone())
            }
            None => {
                let (metadata, rest) = create::from_updates(lake.location(), table, &change.updates)?;
                (metadata, None, rest)
            }
        };
        let checked = rules::check(table, &metadata, &updates, now_ms)?;
        let mut listed = listed(was);
        let prover = self.provers.entry(table.clone()).or_default();
        let mut proven: BTreeMap<i64, Snapshot> = BTreeMap::new();
        for snapshot in &checked.snapshots {
            listed = prover.prove(lake.store(), table, metadata.location(), &listed, snapshot).await?;
            proven.insert(
                snapshot.snapshot_id(),
                annotated(snapshot, &listed.totals, words, metadata.last_updated_ms()),
            );
        }
        let updates = checked.updates.into_iter().map(|update| match update {
            TableUpdate::AddSnapshot { snapshot } => {
                let snapshot = proven.remove(&snapshot.snapshot_id()).unwrap_or(snapshot);
                TableUpdate::AddSnapshot { snapshot }
            }
            other => other,
        });
        let next = apply(table, &metadata, location, updates.collect())?;
        let listed = current(lake, table, &next, &checked.snapshots, listed, was).await?;
        check_specs(table, &next, &listed)?;
        built(table, next, location, listed)
    }
}

/// What the table lists before the change.
fn listed(was: Option<&TableState>) -> Listed {
    let totals = was.and_then(|was| was.metadata.current_snapshot()).map(|s| Totals::of(s.summary()));
    let manifests = was.map_or_else(Vec::new, |was| was.manifests.clone());
    Listed { manifests, totals: totals.unwrap_or_default() }
}

/// What it lists after: what came last, unless the client set the table back to a snapshot it had.
async fn current(
    lake: &Lake,
    table: &TableName,
    next: &TableMetadata,
    added: &[Snapshot],
    last: Listed,
    was: Option<&TableState>,
) -> Result<Listed, LakeError> {
    let Some(snapshot) = next.current_snapshot() else { return Ok(last) };
    let id = snapshot.snapshot_id();
    let is_last = added.last().is_some_and(|added| added.snapshot_id() == id);
    let is_same = added.is_empty() && was.is_some_and(|was| was.entry.snapshot_id == Some(id));
    if is_last || is_same {
        return Ok(last);
    }
    let nothing = Listed { manifests: Vec::new(), totals: Totals::of(snapshot.summary()) };
    let mut prover = Prover::default();
    let listed = prover.prove(lake.store(), table, next.location(), &nothing, snapshot).await?;
    Ok(Listed { totals: Totals::of(snapshot.summary()), ..listed })
}

/// A manifest is read by its partition spec.
fn check_specs(table: &TableName, next: &TableMetadata, listed: &Listed) -> Result<(), ForeignError> {
    let unknown = listed.manifests.iter().find(|m| next.partition_spec_by_id(m.partition_spec_id).is_none());
    match unknown {
        None => Ok(()),
        Some(m) => Err(ForeignError::Body {
            table: table.to_string(),
            reason: format!(
                "manifest {} names partition spec {}, which is unknown",
                m.manifest_path, m.partition_spec_id
            ),
        }),
    }
}

fn check_requirements(change: &TableChange, was: Option<&TableState>) -> Result<(), ForeignError> {
    let table = change.table.clone();
    match was {
        None if !change.creates() => return Err(ForeignError::NoTable { table }),
        Some(_) if change.creates() => return Err(ForeignError::TableExists { table }),
        _ => {}
    }
    for requirement in &change.requirements {
        requirement
            .check(was.map(|was| was.metadata.as_ref()))
            .map_err(|e| ForeignError::Stale { table: table.clone(), reason: e.message().to_owned() })?;
    }
    Ok(())
}

/// True if every table has the snapshots already: the client sent the request before and lost the answer. Ids are
/// random and lists are named by the client, so another client's snapshot cannot be mistaken for this one.
fn was_applied(edits: &[ForeignEdit], base: &Base) -> bool {
    !edits.is_empty()
        && edits.iter().all(|edit| {
            let ForeignEdit::Change(change) = edit else { return false };
            let mut added = change.updates.iter().filter_map(|update| match update {
                TableUpdate::AddSnapshot { snapshot } => Some(snapshot),
                _ => None,
            });
            let has = |snapshot: &Snapshot| {
                let metadata = base.tables.get(&change.table).map(|state| &state.metadata);
                let known = metadata.and_then(|metadata| metadata.snapshot_by_id(snapshot.snapshot_id()));
                known.is_some_and(|known| known.manifest_list() == snapshot.manifest_list())
            };
            added.next().is_some_and(has) && added.all(has)
        })
}

fn no_table(table: &TableName) -> LakeError {
    ForeignError::NoTable { table: table.clone() }.into()
}
