//! What recipes have finished, as the aligner stores it: compared when two branches aligned, cut when a commit is undone.
//!
//! The stored form is the aligner's (version 1: finished rows by stream, as intervals of seqs). A form not known here is
//! never guessed at: then two coverages cannot be compared, and the verb says so.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::sha256_hex;
use crate::repo::CoverageEntry;

/// The version of the stored form that this build knows.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u32,
    recipe_id: String,
    streams: Vec<StoredStream>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredStream {
    device: String,
    epoch: String,
    stream: String,
    done: Vec<[u64; 2]>,
}

/// Finished rows of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    recipe_id: String,
    rows: Keys,
}

impl Finished {
    /// Reads what an entry names; none if there is no entry, or its form is not known.
    pub(super) async fn read(
        lake: &Lake,
        entry: Option<&CoverageEntry>,
    ) -> Result<Option<Finished>, LakeError> {
        let Some(entry) = entry else { return Ok(None) };
        let Some(bytes) = lake.state(&entry.hash).await? else { return Ok(None) };
        Ok(Finished::from_bytes(&bytes))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Finished> {
        let stored: Stored =
            serde_json::from_slice(bytes).ok().filter(|stored: &Stored| stored.v == VERSION)?;
        let mut rows = Keys::default();
        for stream in stored.streams {
            let whose = [stream.device, stream.epoch, stream.stream];
            for [start, end] in stream.done {
                rows.insert(&whose, start..end);
            }
        }
        Some(Finished { recipe_id: stored.recipe_id, rows })
    }

    /// True if the same recipe finished here all that it finished there.
    pub(super) fn holds_all_of(&self, other: &Finished) -> bool {
        self.recipe_id == other.recipe_id && other.rows.without(&self.rows).is_empty()
    }

    /// The same without what was finished between `before` and `after`.
    pub(super) fn without_step(&self, before: Option<&Finished>, after: &Finished) -> Finished {
        let step = match before {
            Some(before) => after.rows.without(&before.rows),
            None => after.rows.clone(),
        };
        Finished { recipe_id: self.recipe_id.clone(), rows: self.rows.without(&step) }
    }

    /// Stores it and gives the entry that names it.
    pub(super) async fn store(&self, lake: &Lake) -> Result<CoverageEntry, LakeError> {
        let bytes = self.to_bytes()?;
        let hash = sha256_hex(&bytes);
        lake.put_state(&hash, Bytes::from(bytes)).await?;
        Ok(CoverageEntry { recipe_id: self.recipe_id.clone(), hash })
    }

    fn to_bytes(&self) -> Result<Vec<u8>, LakeError> {
        let mut streams: Vec<StoredStream> = Vec::new();
        for ([device, epoch, stream], run) in self.rows.runs() {
            let same = |last: &&mut StoredStream| {
                (&last.device, &last.epoch, &last.stream) == (device, epoch, stream)
            };
            match streams.last_mut().filter(same) {
                Some(last) => last.done.push([run.start, run.end]),
                None => streams.push(StoredStream {
                    device: device.clone(),
                    epoch: epoch.clone(),
                    stream: stream.clone(),
                    done: vec![[run.start, run.end]],
                }),
            }
        }
        let stored = Stored { v: VERSION, recipe_id: self.recipe_id.clone(), streams };
        serde_json::to_vec(&stored).map_err(|e| LakeError::corrupt("coverage", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str =
        r#"{"v":1,"recipe_id":"r","streams":[{"device":"a","epoch":"e","stream":"s","done":[[0,5],[7,9]]}]}"#;

    #[test]
    fn finished_rows_are_compared_and_cut() {
        let all = Finished::from_bytes(STORED.as_bytes()).unwrap();
        assert_eq!(all.to_bytes().unwrap(), STORED.as_bytes());
        let some = Finished::from_bytes(STORED.replace(",[7,9]", "").as_bytes()).unwrap();
        assert!(all.holds_all_of(&some) && !some.holds_all_of(&all));
        assert_eq!(all.without_step(Some(&some), &all), some);
        assert!(all.without_step(None, &all).rows.is_empty());
        let other = Finished::from_bytes(STORED.replace("\"r\"", "\"q\"").as_bytes()).unwrap();
        assert!(!all.holds_all_of(&other), "another recipe finished other rows");
    }

    #[test]
    fn a_form_that_is_not_known_is_not_guessed_at() {
        for odd in
            ["{}", &STORED.replace("\"v\":1", "\"v\":2"), &STORED.replace("\"v\":1", "\"v\":1,\"w\":0")]
        {
            assert_eq!(Finished::from_bytes(odd.as_bytes()), None, "{odd}");
        }
    }
}
