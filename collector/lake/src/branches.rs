//! Branches and tags: names of commits, made and removed without copying anything.

use uuid::Uuid;

use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, RefName};
use crate::protect::overridden;
use crate::repo::{Head, Pruned, PublishError, RefOp, RefUpdate, Tag};

impl Lake {
    /// All branches that are not deleted, with their heads, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn branches(&self) -> Result<Vec<(RefName, Head)>, LakeError> {
        self.refs().list().await
    }

    /// All tags, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tags(&self) -> Result<Vec<Tag>, LakeError> {
        self.refs().tags().await
    }

    /// Makes a ref that names `commit`; nothing is copied. A ref of that name that was deleted continues its log.
    ///
    /// # Errors
    /// [`PublishError::Conflict`] when it exists; [`LakeError::NameTaken`] when a tag has the name;
    /// [`LakeError::Protected`] when the name is protected and `commit` never was on a protected branch; when the store fails.
    pub async fn branch(
        &self,
        name: &RefName,
        commit: &CommitId,
        author: &str,
        time_us: i64,
    ) -> Result<Head, PublishError> {
        let failed = PublishError::Failed;
        self.commit_object(commit).await.map_err(failed)?;
        if self.refs().tagged(name).await.map_err(failed)?.is_some() {
            return Err(failed(LakeError::NameTaken { name: name.clone(), by: "tag" }));
        }
        let last = self.head(name).await.map_err(failed)?;
        if let Some(head) = last.as_ref().filter(|head| head.commit.is_some()) {
            return Err(PublishError::Conflict(Box::new(head.clone())));
        }
        let over = self.may_make(name, commit).await.map_err(failed)?;
        let update = RefUpdate {
            commit: Some(commit.clone()),
            op: RefOp::Create,
            writer: author.to_owned(),
            write_id: Uuid::new_v4(),
            time_us,
            reason: overridden(&format!("branch at {}", commit.short()), over.as_ref()),
        };
        let head = self.refs().publish(name, last.as_ref(), &update).await?;
        // A run that condemned it before the entry was there may not have seen the entry.
        if let Err(error) = self.ensure_not_condemned(commit).await {
            let undo = RefUpdate { commit: None, op: RefOp::Delete, write_id: Uuid::new_v4(), ..update };
            self.refs().publish(name, Some(&head), &undo).await?;
            return Err(PublishError::Failed(error));
        }
        Ok(head)
    }

    /// Deletes a branch by an entry without a commit: its log stays, and making it again continues the numbering. What
    /// only it named is kept for as long as its log is.
    ///
    /// # Errors
    /// [`LakeError::UnknownRevision`] when there is none; [`LakeError::Protected`]; [`PublishError::Conflict`] when it moved meanwhile, so that a
    /// commit nobody looked at is not lost; when the store fails.
    pub async fn delete_branch(
        &self,
        name: &RefName,
        author: &str,
        time_us: i64,
        reason: &str,
    ) -> Result<Head, PublishError> {
        let head = self.head(name).await.map_err(PublishError::Failed)?;
        let Some(head) = head.filter(|head| head.commit.is_some()) else {
            return Err(PublishError::Failed(LakeError::UnknownRevision { spec: name.to_string() }));
        };
        let over = self.may_move(name).await.map_err(PublishError::Failed)?;
        let update = RefUpdate {
            commit: None,
            op: RefOp::Delete,
            writer: author.to_owned(),
            write_id: Uuid::new_v4(),
            time_us,
            reason: overridden(reason, over.as_ref()),
        };
        self.refs().publish(name, Some(&head), &update).await
    }

    /// Names `commit` for ever: a tag never moves, and only an erasure may remove it. Setting it again to the
    /// same commit is fine.
    ///
    /// # Errors
    /// [`LakeError::TagExists`] when it names another commit; [`LakeError::NameTaken`] when a branch has the name; when
    /// there is no such commit, or the store fails.
    pub async fn tag(
        &self,
        name: &RefName,
        commit: &CommitId,
        author: &str,
        time_us: i64,
    ) -> Result<(), LakeError> {
        self.commit_object(commit).await?;
        // A run that begins after this looks at tags again before it deletes, minutes later.
        self.ensure_not_condemned(commit).await?;
        if self.head(name).await?.is_some_and(|head| head.commit.is_some()) {
            return Err(LakeError::NameTaken { name: name.clone(), by: "branch" });
        }
        self.refs().tag(name, commit, author, time_us).await
    }

    /// What happened to a ref, newest first, at most `limit` entries: every move, with who made it and why.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reflog(&self, name: &RefName, limit: usize) -> Result<Vec<Head>, LakeError> {
        self.refs().history(name, limit).await
    }

    /// Shortens a ref's log; see [`RefStore::prune`](crate::RefStore::prune) for what always stays.
    ///
    /// # Errors
    /// When the store fails; what was removed until then stays removed.
    pub async fn prune_ref_log(
        &self,
        name: &RefName,
        keep_newest: u64,
        older_than_us: i64,
    ) -> Result<Pruned, LakeError> {
        self.refs().prune(name, keep_newest, older_than_us).await
    }
}
