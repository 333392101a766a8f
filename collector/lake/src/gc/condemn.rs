//! The condemned: what a run is about to delete, written down before the second look at the refs.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::{GcProgress, GcReport, Tally, Tell};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::CommitId;
use crate::reach::{KeySet, Kind};
use crate::repo::canonical;
use crate::revision::commit_key;
use crate::store::{LakeStore, Listed};

const FOLDER: &str = "_repo/gc";

/// Version of the condemned list's form.
const LIST_VERSION: u32 = 1;

/// Most objects of one run: their list stays below 50 MB in the store and in memory. The next run takes the rest.
const CONDEMNED_MAX: usize = 250_000;

/// Objects deleted between two looks at the lease: ten requests of a thousand at once, which is what object stores take.
const BATCH_OBJECTS: usize = 10_000;

/// Where collectable objects lie, in the order they are listed in: commits first, so that a list that is full never
/// holds the files of a commit that is not on it and could still be named. They are deleted the other way round.
///
/// With each place, how many levels of folders are listed apart, at once: `t/<namespace>/<table>` holds nearly all there is,
/// and a listing hands out its thousand keys a page one page after the other.
const PLACES: [(&str, u32); 4] = [("_repo/commits", 0), ("t", 2), ("blobs", 0), ("_repo/state", 0)];

/// Listed objects between two tellings.
const TELL_EVERY: u64 = 1000;

/// A list as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    v: u32,
    run: String,
    holder: String,
    keys: Vec<String>,
}

/// Objects to be deleted, in order.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    objects: Vec<Listed>,
}

/// What an object of these places is, by its key.
pub(super) fn kind_of(key: &str) -> Kind {
    let file = key.rsplit('/').next().unwrap_or(key);
    match key {
        _ if key.starts_with("_repo/commits/") => Kind::Commit,
        _ if key.starts_with("_repo/state/") => Kind::State,
        _ if key.starts_with("blobs/") => Kind::Blob,
        _ if key.split('/').nth(3) != Some("metadata") => Kind::Data,
        _ if file.ends_with(".metadata.json") => Kind::Metadata,
        _ if file.starts_with("snap-") => Kind::ManifestList,
        _ if file.ends_with(".avro") => Kind::Manifest,
        _ => Kind::Extra,
    }
}

fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 2,
        Kind::Metadata | Kind::ManifestList | Kind::Manifest => 1,
        _ => 0,
    }
}

/// Everything that is there, not `live`, and was stored before `before_us`.
pub(super) async fn list(
    store: &LakeStore,
    live: &KeySet,
    before_us: i64,
    report: &mut GcReport,
    tell: Tell<'_>,
) -> Result<Condemned, LakeError> {
    let mut condemned = Condemned::default();
    let mut listed = 0;
    for (place, levels) in PLACES {
        let mut objects = store.list_apart(place, levels).await?;
        while let Some(object) = objects.try_next().await? {
            listed += 1;
            if listed % TELL_EVERY == 0 {
                tell(GcProgress::Listing(listed));
            }
            match () {
                () if live.contains(&object.key) => {}
                () if object.stored_us >= before_us => report.young.add(object.size),
                () if condemned.objects.len() >= CONDEMNED_MAX => report.more = true,
                () => condemned.objects.push(object),
            }
        }
    }
    condemned.objects.sort_by(|a, b| (rank(kind_of(&a.key)), &a.key).cmp(&(rank(kind_of(&b.key)), &b.key)));
    Ok(condemned)
}

impl Condemned {
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn tallies(&self) -> BTreeMap<Kind, Tally> {
        let mut tallies: BTreeMap<Kind, Tally> = BTreeMap::new();
        for object in &self.objects {
            tallies.entry(kind_of(&object.key)).or_default().add(object.size);
        }
        tallies
    }

    pub(super) fn batches(&self) -> impl Iterator<Item = &[Listed]> {
        // No batch mixes ranks: files are gone before the metadata that lists them.
        self.objects
            .chunk_by(|a, b| rank(kind_of(&a.key)) == rank(kind_of(&b.key)))
            .flat_map(|rank| rank.chunks(BATCH_OBJECTS))
    }

    /// Takes out what is needed after all; gives how much that was.
    pub(super) fn spare(&mut self, needed: impl Fn(&str) -> bool) -> usize {
        let before = self.objects.len();
        self.objects.retain(|object| !needed(&object.key));
        before - self.objects.len()
    }

    /// Takes out content-addressed objects that were stored anew since: somebody is about to name them again.
    pub(super) async fn spare_renewed(
        &mut self,
        store: &LakeStore,
        before_us: i64,
    ) -> Result<usize, LakeError> {
        let mut young = KeySet::default();
        for (place, kind) in [("blobs", Kind::Blob), ("_repo/state", Kind::State)] {
            if self.objects.iter().any(|object| kind_of(&object.key) == kind) {
                let mut objects = store.list(place);
                while let Some(object) = objects.try_next().await? {
                    if object.stored_us >= before_us {
                        young.insert(&object.key);
                    }
                }
            }
        }
        Ok(self.spare(|key| young.contains(key)))
    }

    /// Writes the list of one round of a run.
    pub(super) async fn write(
        &self,
        store: &LakeStore,
        run: &str,
        holder: &str,
        round: u32,
    ) -> Result<(), LakeError> {
        let key = format!("{FOLDER}/{run}-{round}.json");
        let keys = self.objects.iter().map(|object| object.key.clone()).collect();
        let list = List { v: LIST_VERSION, run: run.to_owned(), holder: holder.to_owned(), keys };
        let bytes = canonical::to_bytes(&list).map_err(|reason| LakeError::corrupt(&key, reason))?;
        store.create(&key, Bytes::from(bytes)).await.map(|_| ())
    }
}

/// Deletes all condemned lists: those of this run, and those of runs that ended half-way.
pub(super) async fn forget(store: &LakeStore) -> Result<(), LakeError> {
    let names = store.names_in(FOLDER).await?;
    let keys: Vec<String> = names.into_iter().map(|name| format!("{FOLDER}/{name}")).collect();
    store.delete_all(&keys).await
}

impl Lake {
    /// Makes sure that no run of the collector has `commit` on its list. Whoever makes a ref at an old commit calls
    /// this *after* the ref is there, whoever takes files of an old commit back calls it before.
    ///
    /// # Errors
    /// [`LakeError::Condemned`] when it has; when the store fails.
    pub async fn ensure_not_condemned(&self, commit: &CommitId) -> Result<(), LakeError> {
        self.ensure_key_not_condemned(&commit_key(commit)).await
    }

    pub(crate) async fn ensure_key_not_condemned(&self, key: &str) -> Result<(), LakeError> {
        for name in self.store().names_in(FOLDER).await? {
            let list_key = format!("{FOLDER}/{name}");
            if !name.ends_with(".json") {
                continue;
            }
            // A list that is gone by now belongs to a run that ended.
            let Some(bytes) = self.store().read(&list_key).await? else { continue };
            let list: List = serde_json::from_slice(&bytes).map_err(|e| LakeError::corrupt(&list_key, e))?;
            if list.v > LIST_VERSION {
                return Err(LakeError::Newer { path: list_key, found: list.v, known: LIST_VERSION });
            }
            if list.keys.iter().any(|condemned| condemned == key) {
                return Err(LakeError::Condemned { key: key.to_owned(), run: list.run });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_say_what_they_are() {
        for (key, kind) in [
            ("t/raw/imu-0011aabb/data/ts_day=2026-01-01/a.parquet", Kind::Data),
            ("t/raw/imu-0011aabb/metadata/00001-x.metadata.json", Kind::Metadata),
            ("t/raw/imu-0011aabb/metadata/snap-1-x.avro", Kind::ManifestList),
            ("t/raw/imu-0011aabb/metadata/x.avro", Kind::Manifest),
            ("t/raw/imu-0011aabb/metadata/x.stats", Kind::Extra),
            ("blobs/sha256/ab/x", Kind::Blob),
            ("_repo/state/sha256/ab/x", Kind::State),
            ("_repo/commits/ab/x.json", Kind::Commit),
        ] {
            assert_eq!(kind_of(key), kind, "{key}");
        }
    }
}
