//! What can go wrong in the lake, sorted by what a caller can do about it.

use crate::foreign::ForeignError;
use crate::names::{CommitId, NameError, RefName, TableName};
use crate::protect::Protected;
use crate::repo::CommitKind;
use crate::store::Trouble;
use crate::table::TableError;

/// Reading, opening or building failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LakeError {
    /// There is no lake at the location.
    #[error(
        "open lake at {location}: `_repo/format.json` is not there; name an existing lake (--lake), make one with `headwater lake init`, or let the collector make one at its first start"
    )]
    NotALake {
        /// Where it was looked for.
        location: String,
    },
    /// The location cannot hold a lake.
    #[error("use lake location {location:?}: {reason}")]
    Location {
        /// What was given.
        location: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// The lake was written by something newer or other.
    #[error("read lake format at {location}: {reason}")]
    Format {
        /// The lake.
        location: String,
        /// What is not understood.
        reason: String,
    },
    /// The object store failed.
    #[error("{action} {path}")]
    Store {
        /// The verb: `read`, `write`, `list`.
        action: &'static str,
        /// The key below the lake's root.
        path: String,
        /// The store's own error.
        #[source]
        source: object_store::Error,
    },
    /// The object store failed for a reason that a person can remove.
    #[error("{action} {url}: {trouble}")]
    Trouble {
        /// The verb: `read`, `write`, `list`.
        action: &'static str,
        /// The object or folder.
        url: String,
        /// What is wrong, and what to do.
        trouble: Trouble,
        /// The store's own error.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The Iceberg layer failed.
    #[error("{action}")]
    Iceberg {
        /// What was being done, and to what.
        action: String,
        /// The layer's own error.
        #[source]
        source: Box<iceberg::Error>,
    },
    /// A name was refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Rows or a declaration do not fit their table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A client of the REST catalog asked for what is not to be had.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// Nothing answers to the revision.
    #[error(
        "find revision {spec:?}: no such ref, tag or commit; `headwater branch`, `headwater tag` and `headwater log` list what there is"
    )]
    UnknownRevision {
        /// What was asked for.
        spec: String,
    },
    /// More than one commit begins with these digits.
    #[error("find revision {spec:?}: several commits begin so; give more digits")]
    AmbiguousRevision {
        /// What was asked for.
        spec: String,
    },
    /// The commit has no such table.
    #[error("find table {table} in commit {commit}: it has none of that name")]
    UnknownTable {
        /// The table asked for.
        table: TableName,
        /// The commit looked into.
        commit: CommitId,
    },
    /// A tag may not move.
    #[error("set tag {name}: it exists and names another commit; tags never move, choose another name")]
    TagExists {
        /// The tag.
        name: RefName,
    },
    /// A verb cannot be done on some tables; nothing was changed.
    #[error("{0}")]
    Conflicts(Box<crate::history::ConflictReport>),
    /// Older commits are no longer kept.
    #[error(
        "follow history beyond commit {commit}: it ends here, older commits are no longer kept; tag what must stay reachable"
    )]
    HistoryEnds {
        /// The last commit that is kept.
        commit: CommitId,
    },
    /// A walk met more commits than it may read.
    #[error("follow history: {read} commits were read down to {at} without an answer; name something nearer")]
    HistoryTooLong {
        /// How many.
        read: usize,
        /// Where it stopped.
        at: CommitId,
    },
    /// Two lines of history have nothing in common.
    #[error(
        "merge {theirs} into {ours}: they have no commit in common, so they were never one lake's branches"
    )]
    Unrelated {
        /// The head.
        ours: CommitId,
        /// What was to be merged.
        theirs: CommitId,
    },
    /// Only a fast-forward was wanted.
    #[error("move {name} on to {commit}: both have commits of their own; merge without --ff-only")]
    NotFastForward {
        /// The branch.
        name: RefName,
        /// Where it was to go.
        commit: CommitId,
    },
    /// The commit is not in the branch's history.
    #[error(
        "roll {name} back to {commit}: it is no commit of its history; `headwater log {name}` lists those, and merge brings in another branch's"
    )]
    NotInHistory {
        /// The branch.
        name: RefName,
        /// What was asked for.
        commit: CommitId,
    },
    /// Others brought or took rows that the writer does not know of.
    #[error("commit after {known}: others brought or took rows up to {found}; read them, then commit again")]
    Overtaken {
        /// What the writer knew.
        known: CommitId,
        /// The head it met.
        found: CommitId,
    },
    /// A branch and a tag of one name: a revision could mean either.
    #[error("use the name {name}: a {by} has it; choose another name")]
    NameTaken {
        /// The name.
        name: RefName,
        /// What has it: `branch` or `tag`.
        by: &'static str,
    },
    /// The ref may not be moved directly.
    #[error(transparent)]
    Protected(#[from] Protected),
    /// What is protected cannot be changed like that.
    #[error("change what is protected: {reason}")]
    Protection {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file was written by a newer build.
    #[error("read {path}: it has form {found}, this build knows {known}; use the newer build that wrote it")]
    Newer {
        /// The key below the lake's root.
        path: String,
        /// Its form.
        found: u32,
        /// The newest this build knows.
        known: u32,
    },
    /// What is stored is not what was written.
    #[error("read {path}: {reason}")]
    Corrupt {
        /// The key below the lake's root.
        path: String,
        /// What does not hold.
        reason: String,
    },
    /// How long history is to be kept makes no sense.
    #[error("keep history: {reason}")]
    Keep {
        /// What is wrong and what holds.
        reason: String,
    },
    /// The caller's clock and the store's disagree too much to judge what is old.
    #[error(
        "collect garbage: the store's clock and this machine's differ by {differ_s} s, more than {most_s} s; nothing was deleted. Set the clock of this machine right and run it again"
    )]
    ClockSkew {
        /// By how much, s.
        differ_s: i64,
        /// The most that is borne, s.
        most_s: i64,
    },
    /// Another collector of garbage is at work.
    #[error("collect garbage: {holder} is at it since {since_s} s and may go on for {left_s} s; wait for it")]
    Collecting {
        /// Who.
        holder: String,
        /// Since when, s.
        since_s: i64,
        /// Until its lease ends, s.
        left_s: i64,
    },
    /// The object is being deleted.
    #[error(
        "use {key}: it is on the list of what is being deleted (run {run}); try again when `headwater gc` is done"
    )]
    Condemned {
        /// The key below the lake's root.
        key: String,
        /// The run that has it.
        run: String,
    },
    /// A lake with damage is not swept: what cannot be read may name what is needed.
    #[error(
        "collect garbage: {reason}; nothing was deleted. `headwater lake check` tells all there is, `headwater lake repair` mends"
    )]
    Damaged {
        /// The first damage found.
        reason: String,
    },
    /// An erasure that would leave what it is to erase.
    #[error("erase rows: {reason}")]
    Erasure {
        /// What stands against it, and what to do.
        reason: String,
    },
    /// Bytes given under a digest they do not have.
    #[error("store blob {claimed}: the bytes hash to {found}")]
    BlobDigest {
        /// The digest the caller gave.
        claimed: String,
        /// The digest of the bytes.
        found: String,
    },
    /// Another writer moved a recipe's coverage.
    #[error(
        "adopt aligned rows of {recipe}: another writer changed what is aligned of it meanwhile; read the branch and try again"
    )]
    CoverageMoved {
        /// The recipe.
        recipe: String,
    },
    /// Captures left the branch after the candidate was made, or its fork is not on the branch any more.
    #[error(
        "adopt candidate: {} after it was made; align it anew on the branch's head",
        match by {
            Some(kind) => format!("commit {} of kind {} took captures out", commit.short(), kind.as_str()),
            None => format!("commit {} left the branch's line", commit.short()),
        }
    )]
    Overturned {
        /// The commit at fault, or the fork.
        commit: CommitId,
        /// What it was for.
        by: Option<CommitKind>,
    },
    /// A candidate and its branch changed one table in ways that do not add up.
    #[error("adopt {table}: {reason}; align it anew on the branch's head, or merge the candidate by hand")]
    Diverged {
        /// The table.
        table: TableName,
        /// What does not fit.
        reason: String,
    },
    /// Entries of a ref's log that are asked for were pruned.
    #[error(
        "read the log of {name} after entry {after}: its entries up to {oldest} were pruned; begin with --since {oldest}"
    )]
    LogPruned {
        /// The ref.
        name: RefName,
        /// What was asked for.
        after: u64,
        /// The last entry that is gone.
        oldest: u64,
    },
    /// A ref's log never named the commit.
    #[error(
        "find commit {commit} in the log of {name}: it never was its head; give the number of an entry, or a commit of `headwater watch {name}`"
    )]
    NotInLog {
        /// The ref.
        name: RefName,
        /// What was asked for.
        commit: CommitId,
    },
    /// There is no such ref.
    #[error("find ref {name}: there is none of that name; `headwater branch` lists what there is")]
    NoRef {
        /// What was asked for.
        name: RefName,
    },
    /// Long work was told to end early; nothing it did is visible.
    #[error("finish {task}: it was told to stop")]
    Stopped {
        /// What was under way.
        task: &'static str,
    },
    /// A helper task died, which only a bug does.
    #[error("run {task} on the blocking pool")]
    Task {
        /// What it was to do.
        task: &'static str,
        /// How it died.
        #[source]
        source: tokio::task::JoinError,
    },
}

impl LakeError {
    pub(crate) fn store(
        action: &'static str,
        path: impl std::fmt::Display,
        source: object_store::Error,
    ) -> LakeError {
        LakeError::Store { action, path: path.to_string(), source }
    }

    pub(crate) fn iceberg(action: impl Into<String>) -> impl FnOnce(iceberg::Error) -> LakeError {
        let action = action.into();
        move |source| LakeError::Iceberg { action, source: Box::new(source) }
    }

    /// The cause of a commit that did not happen.
    pub(crate) fn from_commit(error: CommitError) -> LakeError {
        match error {
            CommitError::Failed { source, .. } => source,
            other => LakeError::corrupt("ref log", other),
        }
    }

    pub(crate) fn corrupt(path: impl std::fmt::Display, reason: impl std::fmt::Display) -> LakeError {
        LakeError::Corrupt { path: path.to_string(), reason: reason.to_string() }
    }
}

/// A commit did not happen, or nobody knows yet whether it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// It did not happen, and the ref is as it was. The same request may be tried again when the cause is gone.
    #[error("commit to {name}")]
    Failed {
        /// The ref.
        name: RefName,
        /// The cause.
        #[source]
        source: LakeError,
    },
    /// The ref write was sent and its outcome is not known. Acknowledge nothing and call
    /// [`LakeWriter::settle`](crate::LakeWriter::settle) until it answers; the writer refuses other commits until then.
    #[error("commit to {name}: the outcome of ref entry {seq} is unknown; settle it before committing again")]
    Unknown {
        /// The ref.
        name: RefName,
        /// The entry that may or may not be there.
        seq: u64,
    },
}
