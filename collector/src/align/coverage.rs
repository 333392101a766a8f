//! Coverage: which spine rows a recipe has finished, stored beside each commit that aligned them.
//!
//! It goes back with `aligned.*` when a branch is rolled back, so rows taken back are aligned anew and no others.

use crate::dedup::StreamKey;
use headwater_core::interval::IntervalSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the stored form.
const VERSION: u32 = 1;

/// Finished spine rows by stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    done: BTreeMap<StreamKey, IntervalSet>,
}

/// Stored coverage that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoverageError {
    /// Not the JSON it should be.
    #[error("stored align coverage is malformed")]
    Json(#[from] serde_json::Error),
    /// Another version.
    #[error("stored align coverage has version {0}, this build reads 1; upgrade the collector")]
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
    done: Vec<[u64; 2]>,
}

impl Coverage {
    /// Notes a finished row.
    pub fn finish(&mut self, key: &StreamKey, seq: u64) {
        self.done.entry(key.clone()).or_default().insert(seq..seq.saturating_add(1));
    }

    /// True if the row is finished.
    #[must_use]
    pub fn contains(&self, key: &StreamKey, seq: u64) -> bool {
        self.done.get(key).is_some_and(|done| done.contains(seq))
    }

    /// Rows finished.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.done.values().map(IntervalSet::count).sum()
    }

    /// Adds all that `other` has finished.
    pub fn union_with(&mut self, other: &Self) {
        for (key, done) in &other.done {
            self.done.entry(key.clone()).or_default().union_with(done);
        }
    }

    /// What is finished here and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = self.clone();
        for (key, done) in &mut left.done {
            for range in other.done.get(key).into_iter().flat_map(IntervalSet::iter) {
                done.remove(range);
            }
        }
        left.done.retain(|_, done| !done.is_empty());
        left
    }

    /// The stored form: JSON, the same bytes for the same coverage.
    ///
    /// # Errors
    /// [`CoverageError::Json`], which only a bug brings about.
    pub fn to_bytes(&self, recipe_id: &str) -> Result<Vec<u8>, CoverageError> {
        let streams = self
            .done
            .iter()
            .map(|(key, done)| StoredStream {
                device: key.device.to_string(),
                epoch: key.epoch.to_string(),
                stream: key.stream.to_string(),
                done: done.iter().map(|range| [range.start, range.end]).collect(),
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
        if stored.v != VERSION {
            return Err(CoverageError::Version(stored.v));
        }
        let mut done = BTreeMap::new();
        for stream in stored.streams {
            let key = StreamKey {
                device: stream.device.parse()?,
                epoch: stream.epoch.parse()?,
                stream: stream.stream.parse()?,
            };
            done.insert(key, stream.done.into_iter().map(|[start, end]| start..end).collect());
        }
        Ok(Self { done })
    }
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
        let bytes = coverage.to_bytes("abc").unwrap();
        assert_eq!(Coverage::from_bytes(&bytes).unwrap(), coverage);
        assert!(coverage.contains(&key("camera/front"), 7) && !coverage.contains(&key("camera/front"), 3));
        let newer = String::from_utf8(bytes).unwrap().replace("\"v\":1", "\"v\":2");
        assert!(Coverage::from_bytes(newer.as_bytes()).unwrap_err().to_string().contains("version 2"));
        assert!(Coverage::from_bytes(b"{}").is_err());
    }
}
