//! What recipes have finished, as the aligner stores it: compared when two branches aligned, cut when a commit is undone.
//!
//! The stored form is the aligner's (finished rows by stream, as intervals of seqs; from version 2 on those written
//! provisionally beside them). A form not known here is
//! never guessed at: then two coverages cannot be compared, and the verb says so.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::keys::{Keys, Whose};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::sha256_hex;
use crate::repo::CoverageEntry;

/// Version of the stored form as it is written; 1, without provisional rows, is read too.
const VERSION: u32 = 2;

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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    done: Vec<[u64; 2]>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    provisional: Vec<[u64; 2]>,
}

/// Finished rows of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    recipe_id: String,
    rows: Keys,
    /// Written, and not finished.
    provisional: Keys,
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
            serde_json::from_slice(bytes).ok().filter(|stored: &Stored| (1..=VERSION).contains(&stored.v))?;
        let (mut rows, mut provisional) = (Keys::default(), Keys::default());
        for stream in stored.streams {
            let whose = [stream.device, stream.epoch, stream.stream];
            stream.done.into_iter().for_each(|[start, end]| rows.insert(&whose, start..end));
            stream.provisional.into_iter().for_each(|[start, end]| provisional.insert(&whose, start..end));
        }
        Some(Finished { recipe_id: stored.recipe_id, rows, provisional })
    }

    /// True if the same recipe finished here all that it finished there, and has the rows that are provisional there.
    pub(super) fn holds_all_of(&self, other: &Finished) -> bool {
        self.recipe_id == other.recipe_id
            && other.rows.without(&self.rows).is_empty()
            && other.provisional.without(&self.rows).without(&self.provisional).is_empty()
    }

    /// The same without what was finished between `before` and `after`.
    pub(super) fn without_step(&self, before: Option<&Finished>, after: &Finished) -> Finished {
        let step = |of: fn(&Finished) -> &Keys| match before {
            Some(before) => of(after).without(of(before)),
            None => of(after).clone(),
        };
        let (done, provisional) = (step(|one| &one.rows), step(|one| &one.provisional));
        Finished {
            recipe_id: self.recipe_id.clone(),
            rows: self.rows.without(&done),
            provisional: self.provisional.without(&provisional),
        }
    }

    /// Stores it and gives the entry that names it.
    pub(super) async fn store(&self, lake: &Lake) -> Result<CoverageEntry, LakeError> {
        let bytes = self.to_bytes()?;
        let hash = sha256_hex(&bytes);
        lake.put_state(&hash, Bytes::from(bytes)).await?;
        Ok(CoverageEntry { recipe_id: self.recipe_id.clone(), hash })
    }

    fn to_bytes(&self) -> Result<Vec<u8>, LakeError> {
        let mut streams: BTreeMap<&Whose, StoredStream> = BTreeMap::new();
        let kinds = [(&self.rows, false), (&self.provisional, true)];
        for (rows, provisional) in kinds {
            for (whose, run) in rows.runs() {
                let [device, epoch, stream] = whose.clone();
                let blank =
                    || StoredStream { device, epoch, stream, done: Vec::new(), provisional: Vec::new() };
                let of = streams.entry(whose).or_insert_with(blank);
                let runs = if provisional { &mut of.provisional } else { &mut of.done };
                runs.push([run.start, run.end]);
            }
        }
        let streams = streams.into_values().collect();
        let stored = Stored { v: VERSION, recipe_id: self.recipe_id.clone(), streams };
        serde_json::to_vec(&stored).map_err(|e| LakeError::corrupt("coverage", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str =
        r#"{"v":2,"recipe_id":"r","streams":[{"device":"a","epoch":"e","stream":"s","done":[[0,5],[7,9]]}]}"#;

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
        let old = Finished::from_bytes(STORED.replace("\"v\":2", "\"v\":1").as_bytes()).unwrap();
        assert_eq!(old, all, "the form before provisional rows");
    }

    #[test]
    fn provisional_rows_are_held_by_who_has_them_or_finished_them() {
        let with = |rows: &str| STORED.replace("[7,9]]", &format!("[7,9]],\"provisional\":[{rows}]"));
        let read = |text: &str| Finished::from_bytes(text.as_bytes()).unwrap();
        let (waiting, all) = (read(&with("[9,11]")), read(STORED));
        assert_eq!(waiting.to_bytes().unwrap(), with("[9,11]").as_bytes());
        assert!(waiting.holds_all_of(&all) && !all.holds_all_of(&waiting));
        let finished = read(&STORED.replace("[7,9]", "[7,11]"));
        assert!(finished.holds_all_of(&waiting) && !waiting.holds_all_of(&finished));
        assert_eq!(waiting.without_step(Some(&all), &waiting), all);
    }

    #[test]
    fn a_form_that_is_not_known_is_not_guessed_at() {
        for odd in
            ["{}", &STORED.replace("\"v\":2", "\"v\":3"), &STORED.replace("\"v\":2", "\"v\":2,\"w\":0")]
        {
            assert_eq!(Finished::from_bytes(odd.as_bytes()), None, "{odd}");
        }
    }
}
