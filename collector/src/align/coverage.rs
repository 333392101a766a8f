//! Coverage: which spine rows a recipe has finished, stored beside each commit that aligned them.
//!
//! It goes back with `aligned.*` when a branch is rolled back, so rows taken back are aligned anew and no others. Rows that
//! were written provisionally are not finished: they stand beside, so that their final ones replace them.

use crate::dedup::StreamKey;
use headwater_core::interval::IntervalSet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Version of the stored form; 1 knew no provisional rows.
const VERSION: u32 = 2;

/// Finished spine rows by stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    done: BTreeMap<StreamKey, IntervalSet>,
    provisional: BTreeMap<StreamKey, IntervalSet>,
}

/// Stored coverage that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoverageError {
    /// Not the JSON it should be.
    #[error("stored align coverage is malformed")]
    Json(#[from] serde_json::Error),
    /// Another version.
    #[error("stored align coverage has version {0}, this build reads 1 and 2; upgrade the collector")]
    Version(u32),
    /// A name in it breaks its rule.
    #[error("stored align coverage names something it may not")]
    Name(#[from] headwater_core::id::NameError),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    recipe_id: String,
    streams: Vec<StoredStream>,
}

#[derive(Serialize, Deserialize)]
struct StoredStream {
    device: String,
    epoch: String,
    stream: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    done: Vec<[u64; 2]>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    provisional: Vec<[u64; 2]>,
}

impl Coverage {
    /// Notes a finished row; it is provisional no more.
    pub fn finish(&mut self, key: &StreamKey, seq: u64) {
        self.done.entry(key.clone()).or_default().insert(seq..seq.saturating_add(1));
        if let Some(provisional) = self.provisional.get_mut(key) {
            provisional.remove(seq..seq.saturating_add(1));
            if provisional.is_empty() {
                self.provisional.remove(key);
            }
        }
    }

    /// Notes a row that is written before all its columns were complete.
    pub fn note_provisional(&mut self, key: &StreamKey, seq: u64) {
        self.provisional.entry(key.clone()).or_default().insert(seq..seq.saturating_add(1));
    }

    /// True if the row is written and not final.
    #[must_use]
    pub fn is_provisional(&self, key: &StreamKey, seq: u64) -> bool {
        self.provisional.get(key).is_some_and(|rows| rows.contains(seq))
    }

    /// The first row from `seq` on that is not finished.
    #[must_use]
    pub fn first_open(&self, key: &StreamKey, seq: u64) -> u64 {
        let done = self.done.get(key).and_then(|done| done.iter().find(|range| range.contains(&seq)));
        done.map_or(seq, |range| range.end)
    }

    /// Finished rows by stream.
    pub fn done(&self) -> impl Iterator<Item = (&StreamKey, &IntervalSet)> {
        self.done.iter()
    }

    /// Rows written and not final.
    #[must_use]
    pub fn provisional_count(&self) -> u64 {
        self.provisional.values().map(IntervalSet::count).sum()
    }

    /// True if the row is finished.
    #[must_use]
    pub fn contains(&self, key: &StreamKey, seq: u64) -> bool {
        self.done.get(key).is_some_and(|done| done.contains(seq))
    }

    /// True if a row of a higher seq is finished.
    #[must_use]
    pub fn is_done_beyond(&self, key: &StreamKey, seq: u64) -> bool {
        let last = self.done.get(key).and_then(|done| done.iter().last());
        last.is_some_and(|last| last.end > seq.saturating_add(1))
    }

    /// Rows finished.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.done.values().map(IntervalSet::count).sum()
    }

    /// Adds all that `other` has finished.
    pub fn union_with(&mut self, other: &Self) {
        for (key, rows) in &other.provisional {
            self.provisional.entry(key.clone()).or_default().union_with(rows);
        }
        for (key, done) in &other.done {
            self.done.entry(key.clone()).or_default().union_with(done);
            if let Some(provisional) = self.provisional.get_mut(key) {
                done.iter().for_each(|range| provisional.remove(range));
            }
        }
        self.provisional.retain(|_, rows| !rows.is_empty());
    }

    /// What is finished here and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self { done: less(&self.done, &other.done), provisional: less(&self.provisional, &other.provisional) }
    }

    /// Rows that are written in both, final or not.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> u64 {
        let written = |of: &Self, key: &StreamKey| {
            let mut rows = of.done.get(key).cloned().unwrap_or_default();
            of.provisional.get(key).into_iter().for_each(|more| rows.union_with(more));
            rows
        };
        let keys: BTreeSet<&StreamKey> = self.done.keys().chain(self.provisional.keys()).collect();
        let shared = keys.into_iter().map(|key| {
            let mut mine = written(self, key);
            let all = mine.count();
            written(other, key).iter().for_each(|range| mine.remove(range));
            all.saturating_sub(mine.count())
        });
        shared.sum()
    }

    /// The stored form: JSON, the same bytes for the same coverage.
    ///
    /// # Errors
    /// [`CoverageError::Json`], which only a bug brings about.
    pub fn to_bytes(&self, recipe_id: &str) -> Result<Vec<u8>, CoverageError> {
        let keys: BTreeSet<&StreamKey> = self.done.keys().chain(self.provisional.keys()).collect();
        let ranges = |of: &BTreeMap<StreamKey, IntervalSet>, key: &StreamKey| {
            of.get(key)
                .into_iter()
                .flat_map(IntervalSet::iter)
                .map(|range| [range.start, range.end])
                .collect()
        };
        let streams = keys
            .into_iter()
            .map(|key| StoredStream {
                device: key.device.to_string(),
                epoch: key.epoch.to_string(),
                stream: key.stream.to_string(),
                done: ranges(&self.done, key),
                provisional: ranges(&self.provisional, key),
            })
            .collect();
        Ok(serde_json::to_vec(&Stored { v: VERSION, recipe_id: recipe_id.to_owned(), streams })?)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`CoverageError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CoverageError> {
        let stored: Stored = serde_json::from_slice(bytes)?;
        if !(1..=VERSION).contains(&stored.v) {
            return Err(CoverageError::Version(stored.v));
        }
        let mut read = Self::default();
        for stream in stored.streams {
            let key = StreamKey {
                device: stream.device.parse()?,
                epoch: stream.epoch.parse()?,
                stream: stream.stream.parse()?,
            };
            let ranges =
                |of: Vec<[u64; 2]>| of.into_iter().map(|[start, end]| start..end).collect::<IntervalSet>();
            for (of, rows) in [(&mut read.done, stream.done), (&mut read.provisional, stream.provisional)] {
                if !rows.is_empty() {
                    of.insert(key.clone(), ranges(rows));
                }
            }
        }
        Ok(read)
    }
}

fn less(
    of: &BTreeMap<StreamKey, IntervalSet>,
    other: &BTreeMap<StreamKey, IntervalSet>,
) -> BTreeMap<StreamKey, IntervalSet> {
    let mut left = of.clone();
    for (key, rows) in &mut left {
        for range in other.get(key).into_iter().flat_map(IntervalSet::iter) {
            rows.remove(range);
        }
    }
    left.retain(|_, rows| !rows.is_empty());
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_adds_to_another_is_their_difference() {
        let key = |n: u64| StreamKey {
            device: "pi-1".parse().unwrap(),
            epoch: headwater_core::id::Epoch(n),
            stream: "c".parse().unwrap(),
        };
        let of = |rows: &[(u64, u64)]| {
            let mut coverage = Coverage::default();
            rows.iter().for_each(|(epoch, seq)| coverage.finish(&key(*epoch), *seq));
            coverage
        };
        let (before, added) = (of(&[(1, 0), (1, 1), (2, 5)]), of(&[(1, 2), (3, 0)]));
        let mut after = before.clone();
        after.union_with(&added);
        assert_eq!(after.count(), 5);
        assert_eq!(after.minus(&before), added);
        assert_eq!(after.minus(&after), Coverage::default());
    }

    #[test]
    fn coverage_reads_back_and_refuses_what_it_does_not_know() {
        let key = |stream: &str| StreamKey {
            device: "pi-1".parse().unwrap(),
            epoch: headwater_core::id::Epoch(9),
            stream: stream.parse().unwrap(),
        };
        let mut coverage = Coverage::default();
        for seq in [0, 1, 2, 7] {
            coverage.finish(&key("camera/front"), seq);
        }
        coverage.finish(&key("camera/rear"), 3);
        coverage.note_provisional(&key("camera/rear"), 4);
        coverage.note_provisional(&key("camera/rear"), 5);
        coverage.finish(&key("camera/rear"), 5);
        assert!(coverage.is_provisional(&key("camera/rear"), 4) && coverage.provisional_count() == 1);
        let bytes = coverage.to_bytes("abc").unwrap();
        assert_eq!(Coverage::from_bytes(&bytes).unwrap(), coverage);
        assert!(coverage.contains(&key("camera/front"), 7) && !coverage.contains(&key("camera/front"), 3));
        let newer = String::from_utf8(bytes).unwrap().replace("\"v\":2", "\"v\":3");
        assert!(Coverage::from_bytes(newer.as_bytes()).unwrap_err().to_string().contains("version 3"));
        let first = br#"{"v":1,"recipe_id":"abc","streams":[{"device":"pi-1","epoch":"0000000000000009","stream":"c","done":[[0,3]]}]}"#;
        assert_eq!(Coverage::from_bytes(first).unwrap().count(), 3);
        assert!(Coverage::from_bytes(b"{}").is_err());
    }
}
