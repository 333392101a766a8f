//! Merge: two lines of history as one commit, table by table and file by file; or a fast-forward, where one line lies in
//! the other.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::OnceCell;

use super::books::{self, Moves};
use super::change::{self, Changed, Outcome, unfit};
use super::coverage::Finished;
use super::files::Delta;
use super::keys;
use super::report::{ConflictReport, Strategies, Strategy, TableConflict};
use super::rollback::keys_of;
use super::side::{self, Ways, state_in};
use super::three_way::{Joining, join, untold};
use super::verb::{self, By, OPS, RAW, carry_out, described, names, recipe_of};
use super::walk;
use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::repo::{CommitKind, CommitObject, RefOp};
use crate::table::{self, TableState};
use crate::writer::{Base, Committed, Draft, Drafting, Plan};

/// How to merge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergeOptions {
    /// Whose table is taken where tables are in conflict.
    pub strategies: Strategies,
    /// Makes a commit also where the branch could just be moved on.
    pub no_ff: bool,
    /// Moves the branch on or does nothing: never makes a commit.
    pub ff_only: bool,
}

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Merged {
    /// Everything was there already.
    UpToDate,
    /// The branch moved on to the other side's commit; no commit was made.
    FastForward(Box<Committed>),
    /// A commit with two parents.
    Commit {
        /// The commit.
        committed: Box<Committed>,
        /// What became of tables both sides changed.
        joined: Vec<Joined>,
    },
}

/// One table that both sides changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// The table.
    pub table: TableName,
    /// `files`, `ours` or `theirs`.
    pub how: &'static str,
    /// Rows left out because the branch had their key.
    pub known_rows: u64,
}

impl Lake {
    /// Merges `from` into the branch `into`. Tables changed on one side are taken as they are; those changed on both are
    /// joined file by file, captures by key. Costs what changed since the two lines parted, and one read per commit
    /// since then.
    ///
    /// # Errors
    /// [`LakeError::Conflicts`] with everything that stands against it, [`LakeError::HistoryEnds`],
    /// [`LakeError::Unrelated`], [`LakeError::NotFastForward`]; nothing is changed then.
    pub async fn merge(
        &self,
        into: &RefName,
        from: &CommitId,
        options: &MergeOptions,
        by: &By,
    ) -> Result<Merged, CommitError> {
        let mut plan = Merging {
            into: into.clone(),
            from: from.clone(),
            options: options.clone(),
            by: by.clone(),
            joined: Vec::new(),
        };
        let committed = carry_out(self, into, by, &mut plan).await?;
        Ok(match committed {
            None => Merged::UpToDate,
            Some(committed) if &committed.id == from => Merged::FastForward(Box::new(committed)),
            Some(committed) => Merged::Commit { committed: Box::new(committed), joined: plan.joined },
        })
    }
}

#[derive(Debug)]
struct Merging {
    into: RefName,
    from: CommitId,
    options: MergeOptions,
    by: By,
    joined: Vec<Joined>,
}

#[async_trait]
impl Plan for Merging {
    fn time_us(&self) -> i64 {
        self.by.time_us
    }

    async fn draft(
        &mut self,
        lake: &Lake,
        author: &str,
        base: &mut Base,
    ) -> Result<Option<Draft>, LakeError> {
        let ours = verb::tip(base, &self.into)?.clone();
        let theirs = verb::named(lake, &self.from).await?;
        let meeting = walk::meeting(lake, &ours.id, &theirs.id).await?;
        let Some(common) = meeting.base else {
            return Err(match meeting.ended_at {
                Some(commit) => LakeError::HistoryEnds { commit },
                None => LakeError::Unrelated { ours: ours.id, theirs: theirs.id },
            });
        };
        if common == theirs.id {
            return Ok(None);
        }
        if common == ours.id && !self.options.no_ff {
            // The other side's commit becomes the head as it is; nothing is to be stored.
            return Ok(Some(Draft {
                commit: theirs,
                states: BTreeMap::new(),
                objects: Vec::new(),
                op: RefOp::Ff,
            }));
        }
        if self.options.ff_only {
            return Err(LakeError::NotFastForward { name: self.into.clone(), commit: theirs.id });
        }
        let common = lake.commit_object(&common).await?;
        self.joined.clear();
        let lines = [OnceCell::new(), OnceCell::new()];
        let sides = Sides { lake, common: &common, ours: &ours, theirs: &theirs, lines: &lines };
        self.commit(&sides, author, base).await.map(Some)
    }
}

impl Merging {
    async fn commit(&mut self, sides: &Sides<'_>, author: &str, base: &Base) -> Result<Draft, LakeError> {
        let Sides { lake, ours, theirs, .. } = *sides;
        let mut drafting = Drafting::on(lake, author, base, CommitKind::Merge, self.by.time_us);
        let mut outcomes = BTreeMap::new();
        let mut moves = Moves::default();
        let mut conflicts = Vec::new();
        for name in names([Some(sides.common), Some(ours), Some(theirs)]) {
            if recipe_of(&name).is_some() {
                continue;
            }
            match sides.table(&name).await? {
                Ok(Some(mut outcome)) => {
                    if let Outcome::Change(changed) = &mut outcome {
                        if name.namespace() == RAW {
                            sides.captures(&name, changed, &mut moves).await?;
                        }
                        let known_rows = changed.dropped;
                        self.joined.push(Joined { table: name.clone(), how: "files", known_rows });
                    }
                    outcomes.insert(name, outcome);
                }
                Ok(None) => {}
                Err(conflict) => {
                    match self.options.strategies.of(&name).filter(|_| name.namespace() != OPS) {
                        Some(strategy) => {
                            let how = if strategy == Strategy::Ours { "ours" } else { "theirs" };
                            self.joined.push(Joined { table: name.clone(), how, known_rows: 0 });
                            let outcome = sides.take(&name, strategy, &mut moves).await?;
                            outcomes.insert(name, outcome);
                        }
                        None => conflicts.push(conflict),
                    }
                }
            }
        }
        self.recipes(sides, &mut drafting, &mut outcomes, &mut conflicts).await?;
        if !conflicts.is_empty() {
            conflicts.sort_by(|a, b| a.table.cmp(&b.table));
            let report = ConflictReport { verb: "merge".to_owned(), conflicts };
            return Err(LakeError::Conflicts(Box::new(report)));
        }
        books::keep(lake, ours, &mut outcomes, &moves, self.by.time_us).await?;
        change::put(lake, &mut drafting, outcomes).await?;
        drafting.raise_landing(&theirs.landing);
        let commit = &mut drafting.commit;
        commit.parents.push(theirs.id.clone());
        commit.message = self
            .by
            .message
            .clone()
            .unwrap_or_else(|| format!("merge {} into {}", described(theirs), self.into));
        commit.lineage.inputs = vec![format!("commit {}", theirs.id), format!("base {}", sides.common.id)];
        drafting.seal(lake, RefOp::Commit)
    }

    /// Recipes: table, coverage and hold go together. A recipe that one side went on with is that side's; where both
    /// did, the one whose table a strategy names, else that side's whose finished rows hold all of the other's.
    async fn recipes(
        &mut self,
        sides: &Sides<'_>,
        drafting: &mut Drafting,
        outcomes: &mut BTreeMap<TableName, Outcome>,
        conflicts: &mut Vec<TableConflict>,
    ) -> Result<(), LakeError> {
        let Sides { lake, common, ours, theirs, .. } = *sides;
        for recipe in recipes([common, ours, theirs]) {
            let table = TableName::new(format!("{}.{recipe}", verb::ALIGNED))?;
            let of = |commit: &CommitObject| {
                let table = commit.tables.get(&table).cloned();
                (table, commit.coverage.get(&recipe).cloned(), commit.held.get(&recipe).cloned())
            };
            let (before, mine, their) = (of(common), of(ours), of(theirs));
            if before == their || mine == their {
                continue;
            }
            let strategy = if before == mine {
                Some(Strategy::Theirs)
            } else {
                let finished = |commit: &CommitObject| commit.coverage.get(&recipe).cloned();
                let mine = Finished::read(lake, finished(ours).as_ref()).await?;
                let their = Finished::read(lake, finished(theirs).as_ref()).await?;
                let named = self.options.strategies.tables.get(&table).copied();
                let found = match (&mine, &their) {
                    // Rows that were aligned again stand in no coverage: who names the table knows which are meant.
                    _ if named.is_some() => named,
                    // What is left behind must be told of by coverage, too.
                    (Some(mine), Some(their))
                        if mine.holds_all_of(their) && !sides.has_untold(theirs, &table, &recipe).await? =>
                    {
                        Some(Strategy::Ours)
                    }
                    (Some(mine), Some(their))
                        if their.holds_all_of(mine) && !sides.has_untold(ours, &table, &recipe).await? =>
                    {
                        Some(Strategy::Theirs)
                    }
                    _ => self.options.strategies.of(&table),
                };
                if let Some(found) = found {
                    let how = if found == Strategy::Ours { "ours" } else { "theirs" };
                    self.joined.push(Joined { table: table.clone(), how, known_rows: 0 });
                }
                found
            };
            match strategy {
                Some(Strategy::Ours) => {}
                Some(Strategy::Theirs) => {
                    let state = state_in(lake, &table, Some(theirs)).await?;
                    outcomes.insert(table, Outcome::Point(state));
                    set(&mut drafting.commit.coverage, &recipe, their.1);
                    set(&mut drafting.commit.held, &recipe, their.2);
                }
                None => conflicts.push(TableConflict {
                    table: table.clone(),
                    reason: format!(
                        "both sides went on with it and neither surely has all rows of the other (rows that were aligned again, or that somebody else wrote, stand in no coverage); take one with --strategy {table}=ours or =theirs, and re-align what is missing on the merged captures"
                    ),
                    files: Vec::new(),
                }),
            }
        }
        Ok(())
    }
}

/// Sets or removes an entry.
pub(super) fn set<T>(map: &mut BTreeMap<String, T>, key: &str, value: Option<T>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
}

/// Recipes that have a table, coverage or hold in any of the commits.
pub(super) fn recipes<'a>(commits: impl IntoIterator<Item = &'a CommitObject>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for commit in commits {
        found.extend(commit.coverage.keys().cloned());
        found.extend(commit.held.keys().cloned());
        found.extend(commit.tables.keys().filter_map(recipe_of).map(str::to_owned));
    }
    found
}

/// The three commits of a merge.
#[derive(Debug, Clone, Copy)]
struct Sides<'a> {
    lake: &'a Lake,
    common: &'a CommitObject,
    ours: &'a CommitObject,
    theirs: &'a CommitObject,
    /// Commits of ours and of theirs since the base, once they were walked.
    lines: &'a [OnceCell<Option<Vec<CommitObject>>>; 2],
}

impl Sides<'_> {
    /// What becomes of a table; none if it stays, a conflict if it cannot be joined.
    async fn table(&self, name: &TableName) -> Result<Result<Option<Outcome>, TableConflict>, LakeError> {
        let entry = |commit: &CommitObject| commit.tables.get(name).cloned();
        let (before, mine, their) = (entry(self.common), entry(self.ours), entry(self.theirs));
        if before == their || mine == their {
            return Ok(Ok(None));
        }
        let theirs = side::state(self.lake, name, their.as_ref()).await?;
        if before == mine {
            return Ok(Ok(Some(Outcome::Point(theirs))));
        }
        let conflict = |reason: &str| {
            Ok(Err(TableConflict { table: name.clone(), reason: reason.to_owned(), files: Vec::new() }))
        };
        let (Some(mine), Some(theirs)) = (&mine, theirs) else {
            return conflict("it was dropped on one side and changed on the other");
        };
        if mine.uuid != theirs.entry.uuid {
            return conflict("it was made on both sides, each in its own way");
        }
        let ours = table::load(self.lake.store(), name, mine).await?;
        let common = side::state(self.lake, name, before.as_ref()).await?;
        self.both_changed(name, common.as_ref(), ours, theirs).await
    }

    async fn both_changed(
        &self,
        name: &TableName,
        common: Option<&TableState>,
        ours: TableState,
        theirs: TableState,
    ) -> Result<Result<Option<Outcome>, TableConflict>, LakeError> {
        let lake = self.lake;
        let mut mine = side::net(lake, name, common, &ours).await?;
        let mut their = side::net(lake, name, common, &theirs).await?;
        // Captures are told apart by key; of other rows only the files they came in say which they are.
        let is_keyed = name.namespace() == RAW && keys::is_keyed(&ours.metadata);
        let may_share = !is_keyed && self.may_share(name).await?;
        if may_share || their.net.removed.keys().any(|url| mine.net.removed.contains_key(url)) {
            for (tip, change) in [(self.theirs, &mut their), (self.ours, &mut mine)] {
                if let Some(line) = self.line(tip).await? {
                    side::unfold(lake, name, self.common, line, change).await?;
                }
            }
        }
        if let Some((reason, files)) = may_share.then(|| untold(&mine, &their)).flatten() {
            return Ok(Err(TableConflict { table: name.clone(), reason, files }));
        }
        let (onto, other, delta) = match join(&mine, &their) {
            Joining::Ours => (ours, theirs, Delta::default()),
            Joining::OntoOurs(delta) => (ours, theirs, delta),
            Joining::OntoTheirs(delta) => (theirs, ours, delta),
            Joining::Conflict { reason, files } => {
                return Ok(Err(TableConflict { table: name.clone(), reason, files }));
            }
        };
        let base = common.map(|common| common.metadata.as_ref());
        let location = &onto.entry.metadata_location;
        let drafted = match table::unite(name, &onto.metadata, location, &other.metadata, base)? {
            Ok(drafted) => drafted,
            Err(reason) => return Ok(Err(TableConflict { table: name.clone(), reason, files: Vec::new() })),
        };
        if let Some(conflict) = unfit(name, &drafted, &delta) {
            return Ok(Err(conflict));
        }
        Ok(Ok(Some(Outcome::Change(Box::new(Changed::new(Some(onto), drafted, delta))))))
    }

    /// The commits of a side since the base; none if history does not tell them any more. Walked once for all tables.
    async fn line(&self, tip: &CommitObject) -> Result<Option<&[CommitObject]>, LakeError> {
        let [mine, their] = self.lines;
        let cell = if tip.id == self.ours.id { mine } else { their };
        let walk = || walk::line_since(self.lake, &tip.id, &self.common.id);
        Ok(cell.get_or_try_init(walk).await?.as_deref())
    }

    /// True if a side may have changed an aligned table beyond what its coverage tells of: rows that were aligned again, or
    /// that somebody else wrote. Where history was thinned nobody knows.
    async fn has_untold(
        &self,
        side: &CommitObject,
        table: &TableName,
        recipe: &str,
    ) -> Result<bool, LakeError> {
        let Some(line) = self.line(side).await? else { return Ok(true) };
        let known: BTreeMap<&CommitId, &CommitObject> =
            line.iter().chain([self.common]).map(|commit| (&commit.id, commit)).collect();
        Ok(line.iter().any(|commit| {
            let keeps_rows = matches!(
                commit.kind,
                CommitKind::Compact
                    | CommitKind::Resolve
                    | CommitKind::Schema
                    | CommitKind::Retention
                    | CommitKind::Erase
                    | CommitKind::Repair
            );
            let before = commit.parents.first().and_then(|parent| known.get(parent));
            let is_told = before.is_some_and(|before| {
                before.tables.get(table) == commit.tables.get(table)
                    || before.coverage.get(recipe) != commit.coverage.get(recipe)
            });
            !keeps_rows && !is_told
        }))
    }

    /// Whether a side may have put files together that the other has too, as far as history tells.
    async fn may_share(&self, name: &TableName) -> Result<bool, LakeError> {
        let (mine, their) = (self.line(self.ours).await?, self.line(self.theirs).await?);
        let (Some(mine), Some(their)) = (mine, their) else { return Ok(true) };
        Ok(Ways::of(mine, self.common, name).may_share(Ways::of(their, self.common, name)))
    }

    /// Each capture once: rows that come in under a key that is there are left out, and keys that were withdrawn on our
    /// side and come in are held again.
    async fn captures(
        &self,
        name: &TableName,
        changed: &mut Changed,
        moves: &mut Moves,
    ) -> Result<(), LakeError> {
        let Some(onto) = changed.onto.clone() else { return Ok(()) };
        if !keys::is_keyed(&onto.metadata) || changed.delta.added.is_empty() {
            return Ok(());
        }
        let onto_is_ours = self.ours.tables.get(name) == Some(&onto.entry);
        let other = if onto_is_ours { self.theirs } else { self.ours };
        let Some(other) = state_in(self.lake, name, Some(other)).await? else { return Ok(()) };
        let common = state_in(self.lake, name, Some(self.common)).await?;
        // What the base held is in both; only what the other side brought since can be a second copy.
        let there = super::files::delta(self.lake.store(), name, common.as_ref(), Some(&onto)).await?.added;
        let near = keys::near(&onto.metadata, &there, &changed.delta.added);
        let known = keys::of_files(self.lake.store(), name, &onto.metadata, &near).await?;
        let come = changed.drop_known(self.lake, name, &other, &known).await?;
        moves.come.union_with(&come);
        Ok(())
    }

    /// One side's table as it is. Captures that only the other side has are withdrawn, never just gone.
    async fn take(
        &self,
        name: &TableName,
        strategy: Strategy,
        moves: &mut Moves,
    ) -> Result<Outcome, LakeError> {
        let ours = state_in(self.lake, name, Some(self.ours)).await?;
        let theirs = state_in(self.lake, name, Some(self.theirs)).await?;
        if name.namespace() == RAW {
            let parted = super::files::delta(self.lake.store(), name, ours.as_ref(), theirs.as_ref()).await?;
            let only_mine = keys_of(self.lake, name, ours.as_ref(), &parted.removed).await?;
            let only_theirs = keys_of(self.lake, name, theirs.as_ref(), &parted.added).await?;
            let (kept, left) = match strategy {
                Strategy::Ours => (only_mine, only_theirs),
                Strategy::Theirs => (only_theirs, only_mine),
            };
            moves.leave.union_with(&left.without(&kept));
            moves.come.union_with(&kept);
        }
        Ok(match strategy {
            Strategy::Ours => Outcome::Keep,
            Strategy::Theirs => Outcome::Point(theirs),
        })
    }
}
