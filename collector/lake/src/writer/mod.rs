//! The writer: turns a group of rows for many tables into one commit that is there as a whole or not at all.

mod appends;
mod base;
mod known;
mod link;
mod plan;
mod rewriting;
mod settle;

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::RecordBatch;

pub(crate) use self::base::Base;
use self::link::Appending;

pub(crate) use self::plan::{Draft, Drafting, Plan};
pub(crate) use self::rewriting::Rewriting;
use self::settle::Fate;
use crate::error::{CommitError, LakeError};
use crate::lake::Lake;
use crate::names::{CommitId, RefName, TableName};
use crate::protect::{self, Protected};
use crate::repo::{
    CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary, Head, LandingCursor, LedgerCheckpoint,
    Lineage, PublishError, RefOp, RefUpdate,
};
use crate::table::{self, TableSpec};

/// Rows for one table.
#[derive(Debug, Clone)]
pub struct TableAppend {
    /// The table as this writer knows it; creates or evolves the stored one.
    pub spec: TableSpec,
    /// Rows in the declaration's names and types, columns in any order; optional ones may be left out.
    pub batches: Vec<RecordBatch>,
}

/// One commit to be made. `..CommitRequest::default()` fills what does not apply.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// What it is for.
    pub kind: CommitKind,
    /// Why, for people.
    pub message: String,
    /// Now, UTC µs: the lake itself reads no clock.
    pub time_us: i64,
    /// Rows by table; each table at most once. Empty appends are skipped.
    pub appends: Vec<TableAppend>,
    /// Landing cursors reached; merged with those of the base, and never going back.
    pub landing: BTreeMap<String, LandingCursor>,
    /// What it is made from.
    pub lineage: Lineage,
    /// Figures; `rows` and `bytes` are overwritten with what was written.
    pub stats: CommitStats,
    /// Verdicts it is published under.
    pub gates: Vec<GateSummary>,
    /// Align coverage by recipe name; replaces the base's entry of the same name.
    pub coverage: BTreeMap<String, CoverageEntry>,
    /// A new ledger checkpoint; none keeps the base's.
    pub ledger_checkpoint: Option<LedgerCheckpoint>,
    /// The newest commit whose rows the caller knows of. If others that bring or take rows came after it, the commit is
    /// refused ([`LakeError::Overtaken`]); none lands on whatever is there.
    pub known: Option<CommitId>,
    /// Tables that are begun anew: all they hold leaves with this commit, and what it appends makes them again, with
    /// columns and properties of its own.
    pub anew: BTreeSet<TableName>,
}

/// A commit that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit.
    pub id: CommitId,
    /// Number of the ref entry that published it.
    pub seq: u64,
    /// The commit as stored.
    pub commit: CommitObject,
    /// Rows added.
    pub rows: u64,
    /// Bytes of added data files.
    pub bytes: u64,
    /// Objects written, the ref entry included.
    pub objects: u64,
    /// Times another writer won and the commit was linked anew.
    pub conflicts: u32,
}

/// Commits to one ref, keeping the base state in memory so that a commit costs two round trips however long the history.
#[derive(Debug)]
pub struct LakeWriter {
    lake: Lake,
    name: RefName,
    author: String,
    base: Option<Base>,
    unsettled: Option<Sent>,
    /// The protection this writer goes over, as of the last look at the head.
    over: Option<Protected>,
}

/// A ref entry that was sent, with what becomes the base if it is there.
#[derive(Debug)]
struct Sent {
    expect: Option<Head>,
    update: RefUpdate,
    base: Base,
    committed: Committed,
}

/// How old the knowledge of a head may be, in µs, before it is read again: far younger than any entry that pruning may
/// take, because a create below a pruned head would succeed.
const HEAD_AGE_US_MAX: i64 = 600 * 1_000_000;

impl LakeWriter {
    pub(crate) fn new(lake: Lake, name: RefName, author: String) -> LakeWriter {
        LakeWriter { lake, name, author, base: None, unsettled: None, over: None }
    }

    /// The ref it commits to.
    pub fn name(&self) -> &RefName {
        &self.name
    }

    /// Makes one commit of everything in `request`. When another writer moves the ref meanwhile, the commit is linked
    /// anew on top of theirs and tried again, without bound; encoded rows are kept. Dropping the future leaves the
    /// outcome unknown: open a new writer and look at the head.
    ///
    /// # Errors
    /// [`CommitError::Failed`]: nothing happened. [`CommitError::Unknown`]: see [`LakeWriter::settle`].
    pub async fn commit(&mut self, mut request: CommitRequest) -> Result<Committed, CommitError> {
        let failed = |name: &RefName, source| CommitError::Failed { name: name.clone(), source };
        let appends = std::mem::take(&mut request.appends);
        let mut plan = Appending::new(&request, appends).map_err(|source| failed(&self.name, source))?;
        match self.publish(&mut plan).await? {
            Some(committed) => Ok(committed),
            None => Err(failed(&self.name, LakeError::corrupt("commit", "its plan was empty"))),
        }
    }

    /// Publishes what `plan` drafts on the ref's head, again on every new head until it wins; none if the plan finds
    /// nothing to do.
    ///
    /// # Errors
    /// As [`LakeWriter::commit`], and whatever the plan refuses.
    pub(crate) async fn publish(&mut self, plan: &mut dyn Plan) -> Result<Option<Committed>, CommitError> {
        if let Some(sent) = &self.unsettled {
            return Err(CommitError::Unknown { name: self.name.clone(), seq: sent.committed.seq });
        }
        match self.try_publish(plan).await {
            // What is known of the head may be wrong now; the next commit reads it again.
            Err(TryError::Failed(source)) => {
                self.base = None;
                Err(CommitError::Failed { name: self.name.clone(), source })
            }
            Err(TryError::Unknown(sent)) => {
                let seq = sent.committed.seq;
                self.base = None;
                self.unsettled = Some(*sent);
                Err(CommitError::Unknown { name: self.name.clone(), seq })
            }
            Ok(committed) => Ok(committed),
        }
    }

    /// Finds out what became of a commit whose outcome was unknown, by sending the same ref entry again: it gives that
    /// commit if it is there now, and none when another writer won and nothing of it is visible. Without an unknown
    /// commit it gives none.
    ///
    /// # Errors
    /// [`CommitError::Unknown`] while the store still does not answer. [`LakeError::Overtaken`] when history was thinned
    /// where the commit would be: its rows may be there or not, so what is there must be read before anything of it is
    /// sent again; the writer is free for that.
    pub async fn settle(&mut self) -> Result<Option<Committed>, CommitError> {
        let Some(sent) = self.unsettled.take() else { return Ok(None) };
        match self.lake.refs().publish(&self.name, sent.expect.as_ref(), &sent.update).await {
            Ok(head) => {
                self.base = Some(Base { head: Some(head), ..sent.base });
                Ok(Some(sent.committed))
            }
            // The log was pruned beyond the entry while this writer slept; then the history says what became of it.
            Err(PublishError::Conflict(head)) if head.seq > sent.committed.seq => {
                let told = match &head.commit {
                    Some(head) => settle::fate(&self.lake, &sent.committed.commit, head).await,
                    None => Ok(Fate::Lost),
                };
                match told {
                    Ok(Fate::There) => Ok(Some(sent.committed)),
                    Ok(Fate::Lost) => Ok(None),
                    Ok(Fate::Untold) => {
                        let found = head.commit.unwrap_or_else(|| sent.committed.id.clone());
                        let known = sent.committed.commit.parents.first().cloned();
                        let known = known.unwrap_or(sent.committed.id);
                        let source = LakeError::Overtaken { known, found };
                        Err(CommitError::Failed { name: self.name.clone(), source })
                    }
                    Err(error) => {
                        tracing::warn!(name = %self.name, %error, "what became of a commit cannot be read");
                        let seq = sent.committed.seq;
                        self.unsettled = Some(sent);
                        Err(CommitError::Unknown { name: self.name.clone(), seq })
                    }
                }
            }
            Err(PublishError::Conflict(_)) => Ok(None),
            // A refusal now says nothing about the write that was sent before.
            Err(PublishError::Unknown { .. } | PublishError::Failed(_)) => {
                let seq = sent.committed.seq;
                self.unsettled = Some(sent);
                Err(CommitError::Unknown { name: self.name.clone(), seq })
            }
        }
    }

    /// Looks at the ref's head unless it is known to be at `commit`: work that was done on a commit must not be judged by
    /// an older one.
    pub(crate) async fn look_beyond(&mut self, commit: &CommitId, time_us: i64) -> Result<(), CommitError> {
        let known = self.base.as_ref().and_then(|base| base.commit.as_ref());
        if known.is_some_and(|known| &known.id == commit) {
            return Ok(());
        }
        let base = self.base.take().unwrap_or_default();
        let base = self.look(base, time_us).await;
        self.base = Some(base.map_err(|source| CommitError::Failed { name: self.name.clone(), source })?);
        Ok(())
    }

    /// Reads the head anew before the next commit: a client judges by what it read, which may be newer than what is
    /// in memory here.
    pub(crate) async fn refresh(&mut self, now_us: i64) -> Result<(), CommitError> {
        let Some(base) = self.base.take() else { return Ok(()) };
        let read = self.look(base, now_us).await;
        let failed = |source| CommitError::Failed { name: self.name.clone(), source };
        self.base = Some(read.map_err(failed)?);
        Ok(())
    }

    async fn try_publish(&mut self, plan: &mut dyn Plan) -> Result<Option<Committed>, TryError> {
        let time_us = plan.time_us();
        let mut objects = 0;
        let mut conflicts = 0;
        loop {
            let mut base = self.take_base(time_us).await?;
            let Some(linked) = plan.draft(&self.lake, &self.author, &mut base).await? else {
                self.base = Some(base);
                return Ok(None);
            };
            let store = self.lake.store();
            let ahead = table::read_ahead(store, linked.states.iter());
            let (stored, ()) = futures::join!(store.create_all(linked.objects), ahead);
            objects += stored?;
            plan.stored();

            let update = RefUpdate {
                commit: Some(linked.commit.id.clone()),
                op: if base.commit.is_some() { linked.op } else { RefOp::Create },
                writer: self.author.clone(),
                write_id: plan::write_id(),
                time_us,
                reason: protect::overridden(&linked.commit.message, self.over.as_ref()),
            };
            objects += 1;
            let expect = base.head.clone();
            let committed = Committed {
                id: linked.commit.id.clone(),
                seq: expect.as_ref().map_or(1, |head| head.seq + 1),
                rows: linked.commit.stats.rows,
                bytes: linked.commit.stats.bytes,
                commit: linked.commit.clone(),
                objects,
                conflicts,
            };
            match self.lake.refs().publish(&self.name, expect.as_ref(), &update).await {
                Ok(head) => {
                    tracing::debug!(name = %self.name, seq = head.seq, commit = committed.id.short(), rows = committed.rows, objects, conflicts, "committed");
                    let next = base.advanced(linked.commit, linked.states, time_us);
                    self.base = Some(Base { head: Some(head), ..next });
                    return Ok(Some(committed));
                }
                Err(PublishError::Conflict(winner)) => {
                    conflicts += 1;
                    tracing::info!(name = %self.name, seq = winner.seq, winner = winner.writer, conflicts, "another writer won, linking anew");
                    self.base = Some(self.look(base, time_us).await?);
                }
                Err(PublishError::Unknown { .. }) => {
                    let base = base.advanced(linked.commit, linked.states, time_us);
                    return Err(TryError::Unknown(Box::new(Sent { expect, update, base, committed })));
                }
                Err(PublishError::Failed(e)) => return Err(TryError::Failed(e)),
            }
        }
    }

    /// The base to build on: from memory while it is young, else from the store.
    async fn take_base(&mut self, now_us: i64) -> Result<Base, LakeError> {
        match self.base.take() {
            Some(base) if (0..HEAD_AGE_US_MAX).contains(&(now_us - base.read_us)) => Ok(base),
            base => self.look(base.unwrap_or_default(), now_us).await,
        }
    }

    /// Reads the head anew, and whether this writer may move it.
    async fn look(&mut self, base: Base, now_us: i64) -> Result<Base, LakeError> {
        let (over, base) =
            futures::try_join!(self.lake.may_move(&self.name), base.rebased(&self.lake, &self.name, now_us))?;
        self.over = over;
        Ok(base)
    }
}

#[derive(Debug)]
enum TryError {
    Failed(LakeError),
    Unknown(Box<Sent>),
}

impl From<LakeError> for TryError {
    fn from(source: LakeError) -> TryError {
        TryError::Failed(source)
    }
}
