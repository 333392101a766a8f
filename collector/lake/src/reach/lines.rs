//! Lines of history: which commits of a lake are kept, and which days of which ref are due to be thinned.
//!
//! Commits are kept because they are a branch head or a tag, stand in a young ref entry, are younger than full history,
//! are listed by a thinned day, or are somewhere lines part or meet. A commit of kind `erase` ends its line: what is
//! below it is what was to be erased.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::found::{Damage, Kind};
use super::history::{DayFile, History};
use super::shelf::{DAY_US, Placed, settle_times, thinned};
use super::{Keep, KeySet, lost};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};
use crate::repo::{CommitKind, Head, RefOp, heads_folder, is_single_use, seq_of};
use crate::revision::commit_key;

/// Commits or refs read at once: a thousand branches in some sixty round trips.
const READS_MAX: usize = 32;

/// What a survey of all refs found.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Refs that are not deleted, with their heads.
    pub(crate) heads: Vec<(RefName, Head)>,
    /// Tags and what they name.
    pub(crate) tags: Vec<(RefName, CommitId)>,
    /// Kept commits, newest first.
    pub(crate) live: Vec<CommitId>,
    /// Days to be thinned; `live` has only what these keep of them.
    pub(crate) planned: Vec<DayFile>,
    /// What could not be read.
    pub(crate) damage: Vec<Damage>,
    /// Newest entry seen of every ref, the deleted too.
    pub(super) newest: BTreeMap<RefName, u64>,
    history: History,
}

#[derive(Debug, Clone)]
struct Node {
    parents: Vec<CommitId>,
    time_us: i64,
    horizon: bool,
}

/// Reads all refs, tags and thinned days, and decides. `store_us` is the store's time, for the age of ref entries.
pub(crate) async fn survey(lake: &Lake, keep: &Keep, now_us: i64, store_us: i64) -> Result<Lines, LakeError> {
    keep.check()?;
    let mut survey = Survey { lake, keep, now_us, ..Survey::new(lake, keep) };
    survey.lines.history = History::load(lake.store()).await?;
    survey.lost = lost(lake.store()).await?;
    survey.refs(store_us).await?;
    survey.tags().await?;
    survey.follow_heads().await?;
    survey.follow_sides().await?;
    survey.place();
    survey.cover().await?;
    Ok(survey.done())
}

struct Survey<'a> {
    lake: &'a Lake,
    keep: &'a Keep,
    now_us: i64,
    lines: Lines,
    nodes: HashMap<CommitId, Node>,
    /// Commits some line has walked over.
    walked: HashSet<CommitId>,
    live: HashMap<CommitId, i64>,
    points: HashSet<CommitId>,
    /// First parents of each head down to what is known: the line, newest first, and what it stands on.
    walks: Vec<(RefName, Vec<CommitId>, Option<CommitId>)>,
    sides: Vec<CommitId>,
    covered: Vec<CommitId>,
    /// Commits that are not to be had.
    failed: HashSet<CommitId>,
    /// Why; told only of those that something needs.
    troubles: HashMap<CommitId, Damage>,
    /// What a repair gave up.
    lost: KeySet,
}

impl<'a> Survey<'a> {
    fn new(lake: &'a Lake, keep: &'a Keep) -> Survey<'a> {
        Survey {
            lake,
            keep,
            now_us: 0,
            lines: Lines::default(),
            nodes: HashMap::new(),
            walked: HashSet::new(),
            live: HashMap::new(),
            points: HashSet::new(),
            walks: Vec::new(),
            sides: Vec::new(),
            covered: Vec::new(),
            failed: HashSet::new(),
            troubles: HashMap::new(),
            lost: KeySet::default(),
        }
    }

    async fn refs(&mut self, store_us: i64) -> Result<(), LakeError> {
        let logs = logs(self.lake, store_us - self.keep.reflog_us).await?;
        let named: Vec<CommitId> =
            logs.iter().flat_map(|(_, entries)| entries).filter_map(|entry| entry.commit.clone()).collect();
        self.load(&named).await?;
        for (name, entries) in logs {
            let Some(newest) = entries.first() else { continue };
            self.lines.newest.insert(name.clone(), newest.seq);
            if newest.commit.is_some() {
                self.lines.heads.push((name.clone(), newest.clone()));
            }
            // A staging branch that is gone again parts no lines: where it began would be kept for ever with every
            // candidate. Its young entries keep what they name, as all do.
            let is_over = newest.commit.is_none() && is_single_use(&name);
            for entry in &entries {
                let Some(id) = &entry.commit else { continue };
                self.miss(id);
                match self.nodes.get(id) {
                    Some(node) => self.live.insert(id.clone(), node.time_us),
                    None => self.live.insert(id.clone(), entry.time_us),
                };
                if entry.op == RefOp::Create && !is_over {
                    self.points.insert(id.clone());
                }
                // What stood here before the erasure is not to be had back.
                if self.nodes.get(id).is_some_and(|node| node.horizon) {
                    break;
                }
            }
        }
        // The main line first: days it shares with others are thinned under its name.
        let main = RefName::main();
        self.lines.heads.sort_by_key(|(name, _)| (*name != main, name.clone()));
        Ok(())
    }

    async fn tags(&mut self) -> Result<(), LakeError> {
        self.lines.tags = tags_of(self.lake).await?;
        let named: Vec<CommitId> = self.lines.tags.iter().map(|(_, id)| id.clone()).collect();
        self.load(&named).await?;
        for id in named {
            self.miss(&id);
            let time_us = self.nodes.get(&id).map_or(self.now_us, |node| node.time_us);
            self.live.insert(id.clone(), time_us);
            self.points.insert(id);
        }
        Ok(())
    }

    /// Walks first parents of every head down to what another line or a thinned day has.
    async fn follow_heads(&mut self) -> Result<(), LakeError> {
        for (name, head) in self.lines.heads.clone() {
            let mut line = Vec::new();
            let mut child = None;
            let mut next = head.commit;
            if let Some(id) = &next {
                self.points.insert(id.clone());
            }
            let below = loop {
                let Some(id) = next else { break None };
                if self.lines.history.from(&id).is_some() {
                    self.covered.push(id.clone());
                    break Some(id);
                }
                if !self.walked.insert(id.clone()) {
                    self.points.insert(id.clone());
                    break Some(id);
                }
                let Some(node) = self.node(&id, child).await? else { break None };
                if node.parents.len() > 1 {
                    self.points.insert(id.clone());
                    self.sides.extend(node.parents.iter().skip(1).cloned());
                }
                line.push(id.clone());
                if node.horizon {
                    self.points.insert(id);
                    break None;
                }
                next = node.parents.first().cloned();
                child = Some((id, node.time_us));
            };
            self.walks.push((name, line, below));
        }
        Ok(())
    }

    /// Lines that were merged and have no head of their own: whole while they are young, then only where they joined.
    async fn follow_sides(&mut self) -> Result<(), LakeError> {
        for id in &self.sides {
            self.points.insert(id.clone());
        }
        while let Some(id) = self.sides.pop() {
            if self.lines.history.from(&id).is_some() {
                self.covered.push(id);
                continue;
            }
            if !self.walked.insert(id.clone()) {
                continue;
            }
            let point = self.points.contains(&id).then(|| (id.clone(), self.now_us));
            let Some(node) = self.node(&id, point).await? else { continue };
            let young = self.now_us - node.time_us < self.keep.full_us;
            if young || self.points.contains(&id) {
                self.live.insert(id, node.time_us);
            }
            if young && !node.horizon {
                self.sides.extend(node.parents);
            }
        }
        Ok(())
    }

    /// Decides about the commits that were walked: young days stay, old ones are planned to be thinned.
    fn place(&mut self) {
        for (name, line, below) in std::mem::take(&mut self.walks) {
            let mut placed: Vec<Placed> = line.iter().filter_map(|id| self.placed(id)).collect();
            let below_us = below.as_ref().and_then(|id| self.time_of(id)).unwrap_or(i64::MIN);
            settle_times(&mut placed, below_us);
            let days: Vec<&[Placed]> = placed
                .chunk_by(|a, b| a.line_us.div_euclid(DAY_US) == b.line_us.div_euclid(DAY_US))
                .collect();
            for (at, day) in days.iter().enumerate() {
                let number = day.first().map_or(0, |placed| placed.line_us.div_euclid(DAY_US));
                let past =
                    (number + 1).saturating_mul(DAY_US).saturating_add(self.keep.full_us) <= self.now_us;
                if !past || self.lines.history.has(&name, number) {
                    self.live.extend(day.iter().map(|placed| (placed.id.clone(), placed.time_us)));
                    continue;
                }
                let kept = thinned(day);
                let then = days.get(at + 1).and_then(|day| day.first()).map(|placed| placed.id.clone());
                for placed in &kept {
                    if placed.point || self.now_us - placed.time_us < self.keep.hourly_us {
                        self.live.insert(placed.id.clone(), placed.time_us);
                    }
                }
                self.lines.planned.push(DayFile::new(&name, number, &kept, then.or_else(|| below.clone())));
            }
        }
    }

    /// Takes what thinned days list from where lines reach them.
    async fn cover(&mut self) -> Result<(), LakeError> {
        let mut seen = HashSet::new();
        while let Some(id) = self.covered.pop() {
            let Some((kept, then)) = self.lines.history.from(&id) else {
                self.loose(id).await?;
                continue;
            };
            let mut ended = false;
            let mut joined = Vec::new();
            for commit in kept {
                if !seen.insert(commit.id.clone()) {
                    ended = true;
                    break;
                }
                if commit.point || self.now_us - commit.time_us < self.keep.hourly_us {
                    self.live.insert(commit.id.clone(), commit.time_us);
                }
                joined.extend(commit.merged.iter().map(|id| (id.clone(), commit.time_us)));
            }
            if let Some(then) = then.filter(|_| !ended) {
                self.covered.push(then.clone());
            }
            self.live.extend(joined);
        }
        Ok(())
    }

    /// A line below thinned days that nobody has walked: kept whole until its own days are thinned.
    async fn loose(&mut self, start: CommitId) -> Result<(), LakeError> {
        let mut next = Some(start);
        let mut child = None;
        while let Some(id) = next {
            if self.lines.history.from(&id).is_some() {
                self.covered.push(id);
                return Ok(());
            }
            if !self.walked.insert(id.clone()) {
                return Ok(());
            }
            let Some(node) = self.node(&id, child).await? else { return Ok(()) };
            self.live.insert(id.clone(), node.time_us);
            next = node.parents.first().filter(|_| !node.horizon).cloned();
            child = Some((id, node.time_us));
        }
        Ok(())
    }

    fn done(self) -> Lines {
        let failed = self.failed;
        let mut live: Vec<(i64, CommitId)> = self
            .live
            .into_iter()
            .filter(|(id, _)| !failed.contains(id))
            .map(|(id, time_us)| (time_us, id))
            .collect();
        live.sort_unstable_by(|a, b| b.cmp(a));
        Lines { live: live.into_iter().map(|(_, id)| id).collect(), ..self.lines }
    }

    fn placed(&self, id: &CommitId) -> Option<Placed> {
        let node = self.nodes.get(id)?;
        Some(Placed {
            id: id.clone(),
            time_us: node.time_us,
            line_us: node.time_us,
            point: self.points.contains(id),
            merged: node.parents.iter().skip(1).cloned().collect(),
        })
    }

    fn time_of(&self, id: &CommitId) -> Option<i64> {
        let listed = self.lines.history.from(id).and_then(|(kept, _)| kept.first()).map(|kept| kept.time_us);
        listed.or_else(|| self.nodes.get(id).map(|node| node.time_us))
    }

    /// What is known of a commit; none if it is not there. `child` with its time says who names it: below what is older
    /// than kept history nothing is missed.
    async fn node(
        &mut self,
        id: &CommitId,
        child: Option<(CommitId, i64)>,
    ) -> Result<Option<Node>, LakeError> {
        if !self.nodes.contains_key(id) {
            self.load(std::slice::from_ref(id)).await?;
            let ended =
                child.as_ref().is_some_and(|(_, time_us)| self.now_us - time_us >= self.keep.hourly_us);
            if !ended {
                self.miss(id);
            }
        }
        Ok(self.nodes.get(id).cloned())
    }

    /// Tells of a commit that is needed if it is not to be had.
    fn miss(&mut self, id: &CommitId) {
        self.lines.damage.extend(self.troubles.remove(id));
    }

    async fn load(&mut self, ids: &[CommitId]) -> Result<(), LakeError> {
        let lake = self.lake;
        let lost = ids.iter().filter(|id| self.lost.contains(&commit_key(id)));
        self.failed.extend(lost.cloned());
        let todo: HashSet<&CommitId> =
            ids.iter().filter(|id| !self.nodes.contains_key(*id) && !self.failed.contains(*id)).collect();
        let reads: Vec<BoxFuture<'_, _>> = todo
            .into_iter()
            .map(|id| async move { (id.clone(), lake.commit_object(id).await) }.boxed())
            .collect();
        let mut reads = futures::stream::iter(reads).buffer_unordered(READS_MAX);
        while let Some((id, read)) = reads.next().await {
            match read {
                Ok(commit) => {
                    let horizon = commit.kind == CommitKind::Erase;
                    let node = Node { parents: commit.parents, time_us: commit.time_us, horizon };
                    self.nodes.insert(id, node);
                }
                Err(LakeError::UnknownRevision { .. }) => {
                    self.failed.insert(id.clone());
                    let damage = Damage::missing(Kind::Commit, commit_key(&id), Some(&id), None);
                    self.troubles.insert(id, damage);
                }
                Err(e) => {
                    self.failed.insert(id.clone());
                    let damage = Damage::of(e, Kind::Commit, commit_key(&id), Some(&id), None)?;
                    self.troubles.insert(id, damage);
                }
            }
        }
        Ok(())
    }
}

impl Lines {
    /// Commits that refs and tags have come to name since the survey or the last such look.
    pub(crate) async fn named_since(&mut self, lake: &Lake) -> Result<Vec<CommitId>, LakeError> {
        let mut found = Vec::new();
        let newest = &self.newest;
        let looked = each_ref(lake, |name| {
            let seen = newest.get(&name).copied().unwrap_or(0);
            async move {
                let Some(head) = lake.head(&name).await? else { return Ok(None) };
                let newer = usize::try_from(head.seq.saturating_sub(seen)).unwrap_or(usize::MAX);
                let entries = if newer > 0 { lake.refs().history(&name, newer).await? } else { Vec::new() };
                Ok(Some((name, head.seq, entries)))
            }
            .boxed()
        });
        let looked = looked.await?;
        for (name, seq, entries) in looked.into_iter().flatten() {
            self.newest.insert(name, seq);
            found.extend(entries.into_iter().filter_map(|entry| entry.commit));
        }
        let tags = tags_of(lake).await?;
        found.extend(tags.iter().filter(|tag| !self.tags.contains(tag)).map(|(_, id)| id.clone()));
        self.tags = tags;
        Ok(found)
    }

    /// Commits below `id` that `seen` does not have, itself first, as far as they are there.
    pub(crate) async fn unseen_below(
        &self,
        lake: &Lake,
        id: CommitId,
        seen: &KeySet,
    ) -> Result<Vec<CommitId>, LakeError> {
        let mut unseen = Vec::new();
        let mut walked = HashSet::new();
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            if seen.contains(&commit_key(&id)) || !walked.insert(id.clone()) {
                continue;
            }
            match lake.commit_object(&id).await {
                Ok(commit) if commit.kind == CommitKind::Erase => {}
                Ok(commit) => todo.extend(commit.parents),
                // Below what was thinned before: it was gone when the ref was made.
                Err(LakeError::UnknownRevision { .. }) => continue,
                Err(e) => return Err(e),
            }
            unseen.push(id);
        }
        Ok(unseen)
    }
}

/// Every ref that ever was, with its entries that the store took since `since_us`, newest first; the newest in any case.
async fn logs(lake: &Lake, since_us: i64) -> Result<Vec<(RefName, Vec<Head>)>, LakeError> {
    each_ref(lake, |name| {
        async move {
            let mut entries: Vec<(u64, i64)> = lake
                .store()
                .list(&format!("{}/{}", heads_folder(), name.key()))
                .try_filter_map(|listed| {
                    let seq = listed.key.rsplit('/').next().and_then(seq_of);
                    futures::future::ready(Ok(seq.map(|seq| (seq, listed.stored_us))))
                })
                .try_collect()
                .await?;
            entries.sort_unstable_by(|a, b| b.cmp(a));
            // Up to the oldest young one: an entry's age may disagree with its number by a little.
            let young = entries.iter().rposition(|(_, stored_us)| *stored_us >= since_us);
            let young = young.map_or(1, |at| at + 1);
            Ok((name.clone(), lake.refs().history(&name, young).await?))
        }
        .boxed()
    })
    .await
}

/// Asks something of every ref that ever was, some at once; in order of their keys.
pub(crate) async fn each_ref<'a, T: Send + 'a>(
    lake: &'a Lake,
    ask: impl Fn(RefName) -> BoxFuture<'a, Result<T, LakeError>>,
) -> Result<Vec<T>, LakeError> {
    let mut names = lake.store().folders_in(heads_folder()).await?;
    names.sort_unstable();
    let asked: Vec<BoxFuture<'a, _>> =
        names.iter().filter_map(|key| RefName::from_key(key).ok()).map(ask).collect();
    futures::stream::iter(asked).buffered(READS_MAX).try_collect().await
}

/// All tags with what they name.
pub(crate) async fn tags_of(lake: &Lake) -> Result<Vec<(RefName, CommitId)>, LakeError> {
    let tags = lake.tags().await?;
    let mut tags: Vec<(RefName, CommitId)> = tags.into_iter().map(|tag| (tag.name, tag.commit)).collect();
    tags.sort();
    Ok(tags)
}
