//! Thinned days: what stands in for the commits that history no longer has.
//!
//! `_repo/history/<ref>/<day>.json` is written once, before the first of its commits goes, and lists those that stay. So
//! whoever follows parents knows where to go on when one is not there.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::shelf::{DAY_US, Placed};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};
use crate::repo::{CommitObject, canonical};
use crate::revision::commit_key;
use crate::store::{Created, LakeStore};

const FOLDER: &str = "_repo/history";

/// Version of the day file's form.
const DAY_VERSION: u32 = 1;

/// Day files read at once.
const READS_MAX: usize = 16;

/// A commit that a thinned day still has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptCommit {
    pub(crate) id: CommitId,
    pub(crate) time_us: i64,
    /// Kept for ever, not only as long as hours are.
    pub(crate) point: bool,
    /// Commits it joined to the line; kept for ever too.
    pub(crate) merged: Vec<CommitId>,
}

/// One thinned day of one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DayFile {
    v: u32,
    r#ref: RefName,
    /// Days since 1970.
    day: i64,
    /// Newest first.
    pub(crate) commits: Vec<KeptCommit>,
    /// Where the line goes on below; none where history ends.
    pub(crate) then: Option<CommitId>,
}

impl DayFile {
    pub(super) fn new(name: &RefName, day: i64, kept: &[&Placed], then: Option<CommitId>) -> DayFile {
        let commits = kept
            .iter()
            .map(|placed| KeptCommit {
                id: placed.id.clone(),
                time_us: placed.time_us,
                point: placed.point,
                merged: placed.merged.clone(),
            })
            .collect();
        DayFile { v: DAY_VERSION, r#ref: name.clone(), day, commits, then }
    }

    fn key(&self) -> String {
        key(&self.r#ref.key(), self.day)
    }

    /// Writes the file; false if there is another one already.
    pub(crate) async fn write(&self, store: &LakeStore) -> Result<bool, LakeError> {
        let key = self.key();
        let bytes = canonical::to_bytes(self).map_err(|reason| LakeError::corrupt(&key, reason))?;
        match store.create(&key, Bytes::from(bytes)).await {
            Ok(Created::New) => Ok(true),
            // A lost answer is recognised by what is there.
            answer => match read(store, &key).await? {
                Some(found) => Ok(&found == self),
                None => answer.map(|_| false),
            },
        }
    }
}

/// All thinned days of a lake.
#[derive(Debug, Default)]
pub(crate) struct History {
    files: Vec<DayFile>,
    listed: HashMap<CommitId, (usize, usize)>,
    days: HashSet<(RefName, i64)>,
}

impl History {
    pub(crate) async fn load(store: &LakeStore) -> Result<History, LakeError> {
        let mut keys = Vec::new();
        for folder in store.folders_in(FOLDER).await? {
            let within = format!("{FOLDER}/{folder}");
            keys.extend(store.names_in(&within).await?.into_iter().map(|name| format!("{within}/{name}")));
        }
        keys.retain(|key| key.ends_with(".json"));
        let reads: Vec<BoxFuture<'_, _>> =
            keys.iter().map(|key| async move { read(store, key).await }.boxed()).collect();
        let files: Vec<Option<DayFile>> =
            futures::stream::iter(reads).buffered(READS_MAX).try_collect().await?;
        let mut history = History::default();
        files.into_iter().flatten().for_each(|file| history.add(file));
        Ok(history)
    }

    fn add(&mut self, file: DayFile) {
        for (place, kept) in file.commits.iter().enumerate() {
            self.listed.entry(kept.id.clone()).or_insert((self.files.len(), place));
        }
        self.days.insert((file.r#ref.clone(), file.day));
        self.files.push(file);
    }

    /// The kept commits of a day from `id` on, newest first, and where the line goes on below them.
    pub(crate) fn from(&self, id: &CommitId) -> Option<(&[KeptCommit], Option<&CommitId>)> {
        let (file, place) = self.listed.get(id)?;
        let file = self.files.get(*file)?;
        Some((file.commits.get(*place..)?, file.then.as_ref()))
    }

    /// True if that day of that ref is thinned already.
    pub(crate) fn has(&self, name: &RefName, day: i64) -> bool {
        self.days.contains(&(name.clone(), day))
    }

    /// The next older commit that is kept below `id` on its line.
    pub(crate) fn below(&self, id: &CommitId) -> Option<CommitId> {
        let (kept, then) = self.from(id)?;
        kept.get(1).map(|kept| kept.id.clone()).or_else(|| then.cloned())
    }
}

impl Lake {
    /// The commits this one follows that are there: its parents or, where history was thinned between, the next older
    /// commit that was kept. Empty where history begins, was erased, or is older than what is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn parents_of(&self, commit: &CommitObject) -> Result<Vec<CommitId>, LakeError> {
        let mut parents = Vec::with_capacity(commit.parents.len());
        for (place, parent) in commit.parents.iter().enumerate() {
            if self.store().exists(&commit_key(parent)).await? {
                parents.push(parent.clone());
            } else if place == 0
                && let Some(below) = self.kept_below(commit).await?
            {
                parents.push(below);
            }
        }
        Ok(parents)
    }

    /// The next older commit on the line of a thinned day's commit that is there.
    pub(crate) async fn kept_below(&self, commit: &CommitObject) -> Result<Option<CommitId>, LakeError> {
        let day = commit.time_us.div_euclid(DAY_US);
        let mut any = false;
        for folder in self.store().folders_in(FOLDER).await? {
            any = true;
            let mut history = History::default();
            if let Some(file) = read(self.store(), &key(&folder, day)).await? {
                history.add(file);
            }
            if let Some(below) = history.below(&commit.id)
                && self.store().exists(&commit_key(&below)).await?
            {
                return Ok(Some(below));
            }
        }
        if !any {
            return Ok(None);
        }
        // A clock that stepped back put it under a later day, or hours are not kept any more and only points are left:
        // rare, so all days are looked through.
        let history = History::load(self.store()).await?;
        let mut next = history.below(&commit.id);
        while let Some(below) = next {
            if self.store().exists(&commit_key(&below)).await? {
                return Ok(Some(below));
            }
            next = history.below(&below);
        }
        Ok(None)
    }
}

async fn read(store: &LakeStore, key: &str) -> Result<Option<DayFile>, LakeError> {
    let Some(bytes) = store.read(key).await? else { return Ok(None) };
    let file: DayFile = serde_json::from_slice(&bytes).map_err(|e| LakeError::corrupt(key, e))?;
    if file.v > DAY_VERSION {
        return Err(LakeError::Newer { path: key.to_owned(), found: file.v, known: DAY_VERSION });
    }
    if file.key() != key {
        return Err(LakeError::corrupt(key, format!("it says it is day {} of {}", file.day, file.r#ref)));
    }
    Ok(Some(file))
}

fn key(folder: &str, day: i64) -> String {
    format!("{FOLDER}/{folder}/{}.json", date(day))
}

/// `YYYY-MM-DD` of a day since 1970, by Howard Hinnant's `civil_from_days`.
fn date(day: i64) -> String {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{:02}", doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_names_of_the_calendar() {
        for (day, name) in
            [(0, "1970-01-01"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (20_514, "2026-03-02")]
        {
            assert_eq!(date(day), name);
        }
    }
}
