//! Compaction in tiers: many small files become few large ones, sorted, with deleted rows left out.
//!
//! ```text
//! survey (which files, from manifests) ─▶ work (read, merge, encode, store) ─▶ one commit of kind `compact`
//!      tiers.rs decides, purely              long, moves nothing                  short, like any other commit
//! ```
//! The parts are apart so that an ingesting process can do the long one beside its commits and publish the result between
//! two of them.

mod files;
mod merge;
mod order;
mod plan;
mod replace;
mod source;
mod tiers;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::protect::Warrant;
use crate::table::{self, Shape, TableState};
use crate::writer::{Committed, LakeWriter};

pub(crate) use self::files::{FileIndex, Listed, TableFiles};
pub(crate) use self::merge::OUT_ROWS;
use self::plan::Compacting;
pub use self::replace::Overtaken;
pub(crate) use self::replace::{Replacement, check, link};
pub(crate) use self::source::read as read_file;
pub use self::tiers::CompactPolicy;
use self::tiers::Group;
pub use self::work::StopFlag;
use self::work::Subject;

/// Which part of the lake to compact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactScope {
    /// Only this table.
    pub table: Option<TableName>,
    /// Only this day, counted from 1970; it is then taken for over.
    pub day: Option<i32>,
}

/// One merge that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueMerge {
    /// Of this table.
    pub table: TableName,
    /// And this day, counted from 1970.
    pub day: i32,
    /// Files to be merged.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What comes out: `minutes`, `tens`, `hour` or `day`.
    pub step: String,
}

/// What is due, and what of it one round does.
#[derive(Debug)]
pub struct Survey {
    commit: CommitId,
    now: Vec<Group>,
    later: Vec<Group>,
    subjects: BTreeMap<TableName, Subject>,
    index: FileIndex,
    /// Tables that are left as they are, and why.
    pub left_alone: BTreeMap<TableName, &'static str>,
}

impl Survey {
    /// The merges of this round.
    #[must_use]
    pub fn due(&self) -> Vec<DueMerge> {
        self.now.iter().map(shown).collect()
    }

    /// Merges that wait for a later round.
    #[must_use]
    pub fn later(&self) -> Vec<DueMerge> {
        self.later.iter().map(shown).collect()
    }

    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now.is_empty()
    }
}

fn shown(group: &Group) -> DueMerge {
    DueMerge {
        table: group.table.clone(),
        day: group.day,
        files: group.inputs.len(),
        bytes: group.bytes,
        step: group.level.to_string(),
    }
}

/// Looks for work, and remembers what it read: hold one per ref that is compacted again and again.
#[derive(Debug)]
pub struct Compactor {
    lake: Lake,
    index: FileIndex,
    states: BTreeMap<TableName, TableState>,
}

/// Merged files, stored and not yet named by any commit.
#[derive(Debug)]
pub struct Prepared {
    commit: CommitId,
    tables: BTreeMap<TableName, Vec<Replacement>>,
    index: FileIndex,
}

/// What a compaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// The commit; none if every group was overtaken.
    pub committed: Option<Committed>,
    /// Files taken away.
    pub files_in: usize,
    /// Files put in their place.
    pub files_out: usize,
    /// Bytes of the former.
    pub bytes_in: u64,
    /// Groups that somebody else's commit made pointless, by table and day.
    pub dropped: Vec<(TableName, i32, Overtaken)>,
}

impl Lake {
    /// Looks for files to merge.
    #[must_use]
    pub fn compactor(&self) -> Compactor {
        Compactor { lake: self.clone(), index: FileIndex::default(), states: BTreeMap::new() }
    }

    /// Does one round of compaction on a branch; none if nothing is due. `progress` is told how many merges of how many
    /// are done.
    ///
    /// # Errors
    /// [`CommitError`]; nothing happened then but files that no commit names.
    pub async fn compact(
        &self,
        name: &RefName,
        author: &str,
        policy: &CompactPolicy,
        scope: &CompactScope,
        time_us: i64,
        progress: impl Fn(usize, usize),
    ) -> Result<Option<Compacted>, CommitError> {
        let failed = |source| CommitError::Failed { name: name.clone(), source };
        let head = self.head(name).await.map_err(failed)?.and_then(|head| head.commit);
        let Some(head) = head else {
            return Err(failed(LakeError::UnknownRevision { spec: name.to_string() }));
        };
        let survey = self.compactor().survey(&head, policy, scope, time_us).await.map_err(failed)?;
        if survey.is_empty() {
            return Ok(None);
        }
        let stop = StopFlag::default();
        let prepared = self.prepare_compaction(survey, policy, &stop, progress).await.map_err(failed)?;
        let mut writer = self.acting(Warrant::Upkeep).writer(name.clone(), author.to_owned());
        writer.compact(prepared, time_us).await.map(Some)
    }

    /// Does the long part of what a survey found: reads, merges, encodes and stores. Nothing is visible yet.
    ///
    /// # Errors
    /// When the store fails or a file is not whole; [`LakeError::Stopped`] when it was told to end.
    pub async fn prepare_compaction(
        &self,
        survey: Survey,
        policy: &CompactPolicy,
        stop: &StopFlag,
        progress: impl Fn(usize, usize),
    ) -> Result<Prepared, LakeError> {
        let Survey { commit, now, subjects, index, .. } = survey;
        let mut tables: BTreeMap<TableName, Vec<Replacement>> = BTreeMap::new();
        for (done, group) in now.iter().enumerate() {
            progress(done, now.len());
            let Some(subject) = subjects.get(&group.table) else { continue };
            let file_bytes = policy.file_bytes(group.bytes);
            let merged = work::merge(self, subject, group, file_bytes, stop).await?;
            tables.entry(group.table.clone()).or_default().push(merged);
        }
        progress(now.len(), now.len());
        Ok(Prepared { commit, tables, index })
    }
}

impl Compactor {
    /// What is due as of a commit. `now_us` says which days are over.
    ///
    /// # Errors
    /// [`LakeError::UnknownTable`] if the scope names a table there is not; when the store fails.
    pub async fn survey(
        &mut self,
        commit: &CommitId,
        policy: &CompactPolicy,
        scope: &CompactScope,
        now_us: i64,
    ) -> Result<Survey, LakeError> {
        let tables = self.lake.tables(commit).await?;
        if let Some(table) = scope.table.as_ref().filter(|table| !tables.contains_key(*table)) {
            return Err(LakeError::UnknownTable { table: table.clone(), commit: commit.clone() });
        }
        self.states.retain(|name, state| tables.get(name) == Some(&state.entry));
        let mut due = Vec::new();
        let mut subjects = BTreeMap::new();
        let mut left_alone = BTreeMap::new();
        for (name, entry) in &tables {
            if scope.table.as_ref().is_some_and(|table| table != name) {
                continue;
            }
            if !self.states.contains_key(name) {
                self.states.insert(name.clone(), table::load(self.lake.store(), name, entry).await?);
            }
            let Some(state) = self.states.get(name) else { continue };
            let files = self.index.of(self.lake.store(), name, state).await?;
            if let Some(foreign) = files.foreign(&state.metadata) {
                left_alone.insert(name.clone(), foreign.as_str());
                continue;
            }
            let mut groups = Vec::new();
            for (day, facts) in files.by_day(&state.metadata) {
                if scope.day.is_some_and(|only| only != day) {
                    continue;
                }
                let closed = scope.day.is_some() || policy.is_closed(day, now_us);
                groups.extend(tiers::due(name, day, &facts, closed, policy));
            }
            if !groups.is_empty() {
                let shape = Arc::new(Shape::stored(name, &state.metadata)?);
                let subject = Subject { entry: entry.clone(), shape, files: Arc::new(files) };
                subjects.insert(name.clone(), subject);
                due.extend(groups);
            }
        }
        self.index.forget_others(self.states.values());
        let (now, later) = tiers::round(due, policy);
        let chosen: BTreeSet<&TableName> = now.iter().map(|group| &group.table).collect();
        subjects.retain(|name, _| chosen.contains(name));
        let commit = commit.clone();
        Ok(Survey { commit, now, later, subjects, index: self.index.clone(), left_alone })
    }
}

impl LakeWriter {
    /// Publishes merged files in one commit of kind `compact`. As short as a commit of metadata alone, so an ingesting
    /// writer does it between two of its own commits and races nobody.
    ///
    /// # Errors
    /// As [`LakeWriter::commit`].
    pub async fn compact(&mut self, prepared: Prepared, time_us: i64) -> Result<Compacted, CommitError> {
        let Prepared { commit, tables, index } = prepared;
        self.look_beyond(&commit, time_us).await?;
        let mut plan = Compacting { time_us, tables, index, dropped: Vec::new(), files: (0, 0), bytes_in: 0 };
        let committed = self.publish(&mut plan).await?;
        let Compacting { dropped, files: (files_in, files_out), bytes_in, .. } = plan;
        Ok(Compacted { committed, files_in, files_out, bytes_in, dropped })
    }
}

#[cfg(test)]
mod tests;
