//! Copying a lake, or some of its refs, to another place.
//!
//! Iceberg names every file by its absolute location, so a copy of the folder would read the old one's files. Metadata,
//! manifest lists and manifests are written anew with the new locations; data files keep their bytes; commits get new
//! ids, as theirs cover the locations, and name the ones they were. Everything is create-only and named as it was, so a
//! copy that was interrupted is gone on with.
//!
//! Nothing below an erasure is copied. Where history is thinned the copy's commits follow the next older one that was
//! kept, so that it needs no list of thinned days.

mod tables;

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use object_store::path::Path;
use uuid::Uuid;

use self::tables::Tables;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};
use crate::repo::{CommitKind, CommitObject, PublishError, RefOp, RefUpdate};
use crate::revision::commit_key;

/// Begins the input, the last of its lineage, that says which commit of the source a copied one was.
const COPY_OF: &str = "copy of ";

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyProgress {
    /// Commits to copy.
    pub commits: u64,
    /// Commits copied.
    pub done: u64,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// What a copy made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Figures.
    pub progress: CopyProgress,
    /// Branches with their heads in the copy.
    pub refs: Vec<(RefName, CommitId)>,
    /// Tags with their commits in the copy.
    pub tags: Vec<(RefName, CommitId)>,
}

/// A copy that did not end. What is there already is used when it is run again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// Reading or writing.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A ref of the target could not be set.
    #[error("set {name} in the copy")]
    Ref {
        /// Which.
        name: RefName,
        /// Why.
        #[source]
        source: PublishError,
    },
    /// The target's ref has commits that the source's does not.
    #[error(
        "set {name} in the copy: it has moved on by itself there; copy to another folder, or to another lake"
    )]
    Moved {
        /// Which.
        name: RefName,
    },
    /// The copy has other rows than the source, which only a bug or a failing disk brings about.
    #[error(
        "verify {table} of {name}: {found} rows were copied and {expected} are in the source; do not use the copy"
    )]
    Differs {
        /// The ref.
        name: RefName,
        /// The table.
        table: crate::names::TableName,
        /// In the source.
        expected: u64,
        /// In the copy.
        found: u64,
    },
}

impl Lake {
    /// Copies `only` these refs (branches or tags), or all, with their history and large objects into `target`, and
    /// checks what came of it. `told` hears how far it is. `time_us` is now.
    ///
    /// # Errors
    /// [`CopyError`].
    pub async fn copy_to(
        &self,
        target: &Lake,
        only: Option<&[RefName]>,
        author: &str,
        time_us: i64,
        mut told: impl FnMut(CopyProgress),
    ) -> Result<Copied, CopyError> {
        let (refs, tags) = self.asked(only).await?;
        let heads: Vec<CommitId> = refs.iter().chain(&tags).map(|(_, id)| id.clone()).collect();
        let ids = target.copies().await?;
        let commits = self.oldest_first(&heads, &ids).await?;
        let mut copy = Copy { from: self, to: target, ids, tables: Tables::new(self, target) };
        let mut progress = CopyProgress { commits: commits.len() as u64, ..CopyProgress::default() };
        copy.blobs(&mut progress, &mut told).await?;
        for commit in commits {
            copy.commit(commit, &mut progress).await?;
            progress.done += 1;
            told(progress);
        }
        let mut copied = Copied { progress, refs: Vec::new(), tags: Vec::new() };
        for (name, id) in refs {
            let id = copy.new_id(&id)?;
            set(target, &name, &id, author, time_us).await?;
            copied.refs.push((name, id));
        }
        for (name, id) in tags {
            let id = copy.new_id(&id)?;
            target.refs().tag(&name, &id, author, time_us).await?;
            copied.tags.push((name, id));
        }
        for (name, id) in copied.refs.iter().chain(&copied.tags) {
            verify(self, target, &copy, name, id).await?;
        }
        Ok(copied)
    }

    /// Branches and tags that are asked for, with what they name.
    async fn asked(
        &self,
        only: Option<&[RefName]>,
    ) -> Result<(Vec<(RefName, CommitId)>, Vec<(RefName, CommitId)>), LakeError> {
        let mut refs: Vec<(RefName, CommitId)> = Vec::new();
        for (name, head) in self.refs().list().await? {
            refs.extend(head.commit.map(|commit| (name, commit)));
        }
        let mut tags = Vec::new();
        tags.extend(self.refs().tags().await?.into_iter().map(|tag| (tag.name, tag.commit)));
        if let Some(only) = only {
            refs.retain(|(name, _)| only.contains(name));
            tags.retain(|(name, _)| only.contains(name));
            let known = |name: &RefName| refs.iter().chain(&tags).any(|(found, _)| found == name);
            if let Some(name) = only.iter().find(|name| !known(name)) {
                return Err(LakeError::NoRef { name: name.clone() });
            }
        }
        Ok((refs, tags))
    }

    /// The commits of an earlier copy that its refs reach, by those of the source that they are copies of. Under their
    /// parents of then: history may have been thinned in the source since.
    async fn copies(&self) -> Result<BTreeMap<CommitId, CommitId>, LakeError> {
        let (refs, tags) = self.asked(None).await?;
        let heads: Vec<CommitId> = refs.into_iter().chain(tags).map(|(_, id)| id).collect();
        let mut ids = BTreeMap::new();
        for commit in self.oldest_first(&heads, &BTreeMap::new()).await? {
            let source = commit.lineage.inputs.last().and_then(|input| input.strip_prefix(COPY_OF));
            if let Some(source) = source.and_then(|id| CommitId::new(id).ok()) {
                ids.insert(source, commit.id);
            }
        }
        Ok(ids)
    }

    /// Every commit that is kept from `heads` back and not among `copied`, parents before their children. Their parents
    /// are those to follow: what was kept of history in place of what was not. None below an erasure is looked at.
    async fn oldest_first(
        &self,
        heads: &[CommitId],
        copied: &BTreeMap<CommitId, CommitId>,
    ) -> Result<Vec<CommitObject>, LakeError> {
        let mut found: BTreeSet<CommitId> = BTreeSet::new();
        let mut order = Vec::new();
        let mut open: Vec<(CommitId, Option<CommitObject>)> =
            heads.iter().map(|id| (id.clone(), None)).collect();
        while let Some((id, seen)) = open.pop() {
            if let Some(commit) = seen {
                order.push(commit);
                continue;
            }
            if copied.contains_key(&id) || !found.insert(id.clone()) {
                continue;
            }
            let mut commit = self.commit_object(&id).await?;
            let mut below = Vec::new();
            if commit.kind != CommitKind::Erase {
                below = self.followed(&commit, copied).await?;
                commit.parents.clone_from(&below);
            }
            open.push((id, Some(commit)));
            open.extend(below.into_iter().map(|parent| (parent, None)));
        }
        Ok(order)
    }

    /// The parents of a commit that are there or were copied before, with what was kept below it for a first that is not.
    async fn followed(
        &self,
        commit: &CommitObject,
        copied: &BTreeMap<CommitId, CommitId>,
    ) -> Result<Vec<CommitId>, LakeError> {
        let mut parents = Vec::with_capacity(commit.parents.len());
        for (place, parent) in commit.parents.iter().enumerate() {
            if copied.contains_key(parent) || self.store().exists(&commit_key(parent)).await? {
                parents.push(parent.clone());
            } else if place == 0 {
                parents.extend(self.kept_below(commit).await?);
            }
        }
        Ok(parents)
    }
}

/// A copy at work.
struct Copy<'a> {
    from: &'a Lake,
    to: &'a Lake,
    /// Ids in the copy by those in the source.
    ids: BTreeMap<CommitId, CommitId>,
    tables: Tables<'a>,
}

impl Copy<'_> {
    fn new_id(&self, old: &CommitId) -> Result<CommitId, LakeError> {
        self.ids.get(old).cloned().ok_or_else(|| LakeError::UnknownRevision { spec: old.to_string() })
    }

    async fn commit(&mut self, old: CommitObject, progress: &mut CopyProgress) -> Result<(), LakeError> {
        let mut commit = old.clone();
        for entry in commit.tables.values_mut() {
            entry.metadata_location = self.tables.metadata(&entry.metadata_location, progress).await?;
        }
        // What was erased or thinned out keeps its id: nothing answers to it on either side.
        let mapped = |id: &CommitId| self.ids.get(id).cloned().unwrap_or_else(|| id.clone());
        commit.parents = commit.parents.iter().map(mapped).collect();
        if let Some(checkpoint) = &mut commit.ledger_checkpoint {
            checkpoint.commit = mapped(&checkpoint.commit);
        }
        let states = commit.ledger_checkpoint.iter().map(|checkpoint| checkpoint.hash.clone());
        let states: Vec<String> =
            states.chain(commit.coverage.values().map(|entry| entry.hash.clone())).collect();
        for hash in states {
            if let Some(bytes) = self.from.state(&hash).await? {
                self.to.put_state(&hash, bytes).await?;
            }
        }
        commit.lineage.inputs.push(format!("{COPY_OF}{}", old.id));
        let commit = commit.seal()?;
        let written = self.to.store().create(&commit_key(&commit.id), commit.to_bytes()?.into()).await?;
        progress.files += u64::from(written == crate::store::Created::New);
        self.ids.insert(old.id, commit.id);
        Ok(())
    }

    /// Large objects. Rows of any commit may name them, so all are copied.
    async fn blobs(
        &self,
        progress: &mut CopyProgress,
        told: &mut impl FnMut(CopyProgress),
    ) -> Result<(), LakeError> {
        let fail = |e| LakeError::store("list", "blobs", e);
        let mut listed = self.from.store().objects().list(Some(&Path::from("blobs")));
        while let Some(meta) = listed.try_next().await.map_err(fail)? {
            tables::copy_file(self.from, self.to, meta.location.as_ref(), progress).await?;
            told(*progress);
        }
        Ok(())
    }
}

/// Points a ref of the copy at `id`: it is made, or moved on.
async fn set(
    lake: &Lake,
    name: &RefName,
    id: &CommitId,
    author: &str,
    time_us: i64,
) -> Result<(), CopyError> {
    let head = lake.head(name).await?;
    let now = head.as_ref().and_then(|head| head.commit.clone());
    if now.as_ref() == Some(id) {
        return Ok(());
    }
    if let Some(now) = &now {
        let mut next = Some(id.clone());
        loop {
            match next {
                None => return Err(CopyError::Moved { name: name.clone() }),
                Some(found) if &found == now => break,
                Some(found) => {
                    let commit = lake.commit_object(&found).await?;
                    next = lake.parents_of(&commit).await?.into_iter().next();
                }
            }
        }
    }
    let update = RefUpdate {
        commit: Some(id.clone()),
        op: if now.is_some() { RefOp::Ff } else { RefOp::Create },
        writer: author.to_owned(),
        write_id: Uuid::new_v4(),
        time_us,
        reason: "copied".to_owned(),
    };
    let set = lake.refs().publish(name, head.as_ref(), &update).await;
    set.map(|_| ()).map_err(|source| CopyError::Ref { name: name.clone(), source })
}

/// Counts the rows of each table's files in the copy against the source's entry.
async fn verify(
    from: &Lake,
    to: &Lake,
    copy: &Copy<'_>,
    name: &RefName,
    id: &CommitId,
) -> Result<(), CopyError> {
    let old = copy.ids.iter().find(|(_, new)| *new == id).map(|(old, _)| old.clone());
    let Some(old) = old else { return Ok(()) };
    for table in from.tables(&old).await?.into_keys() {
        let sum = |files: &[crate::files::CommitFile]| files.iter().filter_map(|file| file.rows).sum::<u64>();
        let expected = sum(&from.table_files(&old, &table).await?);
        let files = to.table_files(id, &table).await?;
        let found = sum(&files);
        for file in &files {
            let key = to.store().key_of(&file.location)?;
            if !to.store().exists(&key).await? {
                return Err(LakeError::corrupt(&key, "the copy lacks it").into());
            }
        }
        if expected != found {
            return Err(CopyError::Differs { name: name.clone(), table, expected, found });
        }
    }
    Ok(())
}
