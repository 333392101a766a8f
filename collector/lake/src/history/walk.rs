//! Ancestors of commits. Old parents may be gone, because history is thinned: a walk goes on at the next older commit
//! that was kept, or ends and says so. An erasure ends it always.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};
use crate::repo::{CommitKind, CommitObject};

/// Most commits one walk reads: a year at one commit each 30 s. Beyond it an answer would take minutes on an object
/// store, and asking for something nearer is the better question.
const WALK_COMMITS_MAX: usize = 1_100_000;

/// One commit of a log, with what points at it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// The commit.
    pub commit: CommitObject,
    /// Branches whose head it is and tags that name it.
    pub refs: Vec<RefName>,
    /// Parents that are no longer kept: history ends here, or goes on thinned.
    pub missing: Vec<CommitId>,
}

/// Where two lines of history meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meeting {
    /// The newest commit both lines have; none if they share none that is kept.
    pub(crate) base: Option<CommitId>,
    /// A commit whose parent is no longer kept, if the walk met one.
    pub(crate) ended_at: Option<CommitId>,
}

/// Reads a commit, or gives none if it is no longer kept.
pub(crate) async fn kept(lake: &Lake, id: &CommitId) -> Result<Option<CommitObject>, LakeError> {
    match lake.commit_object(id).await {
        Ok(commit) => Ok(Some(commit)),
        Err(LakeError::UnknownRevision { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A commit's parents as walks follow them: none below an erasure.
fn followed(commit: &CommitObject) -> &[CommitId] {
    if commit.kind == CommitKind::Erase { &[] } else { &commit.parents }
}

/// What a line has below a commit.
#[derive(Debug)]
pub(crate) enum Below {
    /// The parent.
    Parent(CommitObject),
    /// The parent is no longer kept; the next older commit of the line that is.
    Thinned(CommitObject),
    /// Nothing that is kept.
    Ends,
}

/// Reads the parent in this place of `child`, or what was kept of the line below it.
pub(crate) async fn below(lake: &Lake, child: &CommitObject, parent: &CommitId) -> Result<Below, LakeError> {
    if let Some(commit) = kept(lake, parent).await? {
        return Ok(Below::Parent(commit));
    }
    if child.parents.first() != Some(parent) {
        return Ok(Below::Ends);
    }
    match lake.kept_below(child).await? {
        Some(below) => lake.commit_object(&below).await.map(Below::Thinned),
        None => Ok(Below::Ends),
    }
}

async fn parent_of(
    lake: &Lake,
    child: &CommitObject,
    parent: &CommitId,
) -> Result<Option<CommitObject>, LakeError> {
    Ok(match below(lake, child, parent).await? {
        Below::Parent(commit) | Below::Thinned(commit) => Some(commit),
        Below::Ends => None,
    })
}

const OURS: u8 = 1;
const THEIRS: u8 = 2;
/// Below a commit that both lines have.
const STALE: u8 = 4;

/// Commits still to be visited, newest first. A clock that stepped back only costs visits.
type Queue = BinaryHeap<(i64, Reverse<CommitId>)>;

/// Finds the newest common ancestor over all parents, by painting both lines down from their tips until only what lies
/// below common commits is left. Reads the commits that came since they parted, and few below.
pub(crate) async fn meeting(lake: &Lake, ours: &CommitId, theirs: &CommitId) -> Result<Meeting, LakeError> {
    let mut paint: HashMap<CommitId, u8> = HashMap::new();
    let mut known: HashMap<CommitId, CommitObject> = HashMap::new();
    // Where a parent is gone, what stands for it.
    let mut stand_in: HashMap<CommitId, CommitId> = HashMap::new();
    let mut queue = Queue::new();
    let mut common: BTreeSet<CommitId> = BTreeSet::new();
    let mut ended_at = None;
    for (id, colour) in [(ours, OURS), (theirs, THEIRS)] {
        let commit = lake.commit_object(id).await?;
        *paint.entry(id.clone()).or_insert(0) |= colour;
        queue.push((commit.time_us, Reverse(id.clone())));
        known.insert(id.clone(), commit);
    }
    while queue.iter().any(|(_, Reverse(id))| paint.get(id).is_some_and(|colour| colour & STALE == 0)) {
        let Some((_, Reverse(id))) = queue.pop() else { break };
        let mut colour = paint.get(&id).copied().unwrap_or(0);
        if colour & (OURS | THEIRS) == OURS | THEIRS {
            if colour & STALE == 0 {
                common.insert(id.clone());
            }
            colour |= STALE;
        }
        let parents = known.get(&id).map(|commit| followed(commit).to_vec()).unwrap_or_default();
        for parent in parents {
            let parent = stand_in.get(&parent).cloned().unwrap_or(parent);
            let before = paint.get(&parent).copied().unwrap_or(0);
            if before | colour == before {
                continue;
            }
            let mut place = parent.clone();
            if let (false, Some(child)) = (known.contains_key(&parent), known.get(&id)) {
                bounded(known.len(), &parent)?;
                let Some(commit) = parent_of(lake, child, &parent).await? else {
                    ended_at = Some(id.clone());
                    continue;
                };
                place = commit.id.clone();
                if place != parent {
                    stand_in.insert(parent, place.clone());
                }
                known.entry(place.clone()).or_insert(commit);
            }
            *paint.entry(place.clone()).or_insert(0) |= colour;
            if let Some(commit) = known.get(&place) {
                queue.push((commit.time_us, Reverse(place)));
            }
        }
    }
    // A common commit found first may turn out to lie below another one.
    common.retain(|id| paint.get(id).is_some_and(|colour| colour & STALE == 0));
    let newest = |id: &CommitId| (known.get(id).map(|commit| commit.time_us), Reverse(id.clone()));
    Ok(Meeting { base: common.into_iter().max_by_key(newest), ended_at })
}

/// Whether `old` lies in the history of `tip`, over all parents; none if kept history ends before that is known. Reads
/// the commits that are younger than `old`.
pub(crate) async fn has_ancestor(
    lake: &Lake,
    tip: &CommitId,
    old: &CommitId,
) -> Result<Option<bool>, LakeError> {
    let meeting = meeting(lake, tip, old).await?;
    Ok(match meeting.base {
        Some(base) if &base == old => Some(true),
        _ if meeting.ended_at.is_some() => None,
        _ => Some(false),
    })
}

/// Commits from `tip` back along first parents until `base`, newest first and without it; none if `base` is not met.
pub(crate) async fn first_parents_until(
    lake: &Lake,
    tip: &CommitId,
    base: &CommitId,
) -> Result<Option<Vec<CommitObject>>, LakeError> {
    let floor = lake.commit_object(base).await?.time_us;
    let mut commits: Vec<CommitObject> = Vec::new();
    let mut next = Some(tip.clone());
    while let Some(id) = next.filter(|id| id != base) {
        bounded(commits.len(), &id)?;
        let Some(commit) = kept(lake, &id).await? else { return Ok(None) };
        // Far below the base: it lies on another line. The margin forgives a clock that stepped.
        if commit.time_us < floor.saturating_sub(CLOCK_STEP_US) {
            return Ok(None);
        }
        next = commit.parents.first().cloned();
        let met = next.is_some();
        commits.push(commit);
        if !met {
            return Ok(None);
        }
    }
    Ok(Some(commits))
}

/// As [`first_parents_until`], but ends also with a commit that merged `base` itself: what a branch did since it last
/// took the other side.
pub(crate) async fn line_since(
    lake: &Lake,
    tip: &CommitId,
    base: &CommitId,
) -> Result<Option<Vec<CommitObject>>, LakeError> {
    let floor = lake.commit_object(base).await?.time_us.saturating_sub(CLOCK_STEP_US);
    let mut commits: Vec<CommitObject> = Vec::new();
    let mut next = tip.clone();
    while &next != base {
        bounded(commits.len(), &next)?;
        let Some(commit) = kept(lake, &next).await?.filter(|commit| commit.time_us >= floor) else {
            return Ok(None);
        };
        let is_met = commit.parents.contains(base);
        let first = commit.parents.first().cloned();
        commits.push(commit);
        match first {
            _ if is_met => break,
            Some(first) => next = first,
            None => return Ok(None),
        }
    }
    Ok(Some(commits))
}

/// How far a clock may have stepped back between commits before a walk gives up too early: a day.
const CLOCK_STEP_US: i64 = 86_400 * 1_000_000;

fn bounded(read: usize, at: &CommitId) -> Result<(), LakeError> {
    if read < WALK_COMMITS_MAX {
        return Ok(());
    }
    Err(LakeError::HistoryTooLong { read, at: at.clone() })
}

impl Lake {
    /// The newest commit that is in the history of both, over all parents; none if there is no such commit. Reads the
    /// commits that came since the two lines parted.
    ///
    /// # Errors
    /// [`LakeError::HistoryEnds`] when none is found and kept history ends before one could be; when the store fails.
    pub async fn merge_base(&self, a: &CommitId, b: &CommitId) -> Result<Option<CommitId>, LakeError> {
        let meeting = meeting(self, a, b).await?;
        match (meeting.base, meeting.ended_at) {
            (Some(base), _) => Ok(Some(base)),
            (None, Some(commit)) => Err(LakeError::HistoryEnds { commit }),
            (None, None) => Ok(None),
        }
    }

    /// Commits from `spec` back over all parents, newest first, at most `limit`, with the refs that point at them. A
    /// commit comes before its parents. Reads `limit` commits and the heads of all refs.
    ///
    /// # Errors
    /// As [`Lake::resolve`] and [`Lake::commit_object`].
    pub async fn history(&self, spec: &str, limit: usize) -> Result<Vec<LogEntry>, LakeError> {
        let tip = self.resolve(spec).await?;
        let pointing = super::names::pointing(self).await?;
        let commit = self.commit_object(&tip).await?;
        // Time of the youngest child bounds that of a parent, so that a clock that stepped back turns no order round.
        let mut queue = Queue::from([(commit.time_us, Reverse(tip.clone()))]);
        let mut waiting = HashMap::from([(tip.clone(), commit)]);
        let mut seen = BTreeSet::from([tip]);
        let mut entries = Vec::new();
        while let Some((at, Reverse(id))) = queue.pop().filter(|_| entries.len() < limit) {
            let Some(commit) = waiting.remove(&id) else { continue };
            let mut missing = Vec::new();
            for parent in followed(&commit) {
                if seen.contains(parent) {
                    continue;
                }
                match parent_of(self, &commit, parent).await? {
                    Some(found) => {
                        seen.insert(parent.clone());
                        if found.id == *parent || seen.insert(found.id.clone()) {
                            queue.push((found.time_us.min(at.saturating_sub(1)), Reverse(found.id.clone())));
                            waiting.insert(found.id.clone(), found);
                        }
                    }
                    None => missing.push(parent.clone()),
                }
            }
            let refs = pointing.get(&id).cloned().unwrap_or_default();
            entries.push(LogEntry { commit, refs, missing });
        }
        Ok(line_by_line(entries))
    }
}

/// Entries with children before their parents whatever their clocks said, and each line in one piece where it can be.
fn line_by_line(entries: Vec<LogEntry>) -> Vec<LogEntry> {
    let mut children: HashMap<CommitId, usize> = HashMap::new();
    for parent in entries.iter().flat_map(|entry| &entry.commit.parents) {
        *children.entry(parent.clone()).or_default() += 1;
    }
    let places: HashMap<CommitId, usize> =
        entries.iter().enumerate().map(|(place, entry)| (entry.commit.id.clone(), place)).collect();
    let mut entries: Vec<Option<LogEntry>> = entries.into_iter().map(Some).collect();
    let childless = |entry: &LogEntry| !children.contains_key(&entry.commit.id);
    let mut ready: BTreeSet<usize> = (0..entries.len())
        .filter(|place| entries.get(*place).and_then(Option::as_ref).is_some_and(childless))
        .collect();
    let mut sorted = Vec::with_capacity(entries.len());
    let mut next = ready.pop_first();
    while let Some(entry) = next.and_then(|place| entries.get_mut(place)).and_then(Option::take) {
        let mut goes_on = None;
        for (n, parent) in entry.commit.parents.iter().enumerate() {
            let Some(left) = children.get_mut(parent) else { continue };
            *left = left.saturating_sub(1);
            let Some(place) = places.get(parent).copied().filter(|_| *left == 0) else { continue };
            match n {
                0 => goes_on = Some(place),
                _ => drop(ready.insert(place)),
            }
        }
        sorted.push(entry);
        next = goes_on.or_else(|| ready.pop_first());
    }
    sorted
}
