//! What a commit shall do, apart from how it is published: every verb that moves a ref is a [`Plan`], and one loop
//! ([`LakeWriter::publish`](super::LakeWriter::publish)) stores, publishes and rebases them all.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::CommitRequest;
use super::base::Base;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, TableName};
use crate::repo::{
    COMMIT_VERSION, CommitKind, CommitObject, CommitStats, CoverageEntry, GateSummary, LandingCursor,
    LedgerCheckpoint, Lineage, RefOp, TableEntry,
};
use crate::revision;
use crate::table::{Built, TableState};

/// A change decided anew on every base it meets.
#[async_trait]
pub(crate) trait Plan: Send {
    /// Now, UTC µs.
    fn time_us(&self) -> i64;

    /// Builds the commit on `base`, or gives none when nothing is to be done there. Called again after every lost
    /// race, so what does not depend on the base (data files) is built once and kept.
    ///
    /// # Errors
    /// Whatever forbids the change on this base: nothing is published then.
    async fn draft(&mut self, lake: &Lake, author: &str, base: &mut Base)
    -> Result<Option<Draft>, LakeError>;

    /// Everything the last draft named is stored and need not be named again.
    fn stored(&mut self) {}
}

/// A commit ready to be stored and published.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) commit: CommitObject,
    /// States of changed tables that are known, for the next commit.
    pub(crate) states: BTreeMap<TableName, TableState>,
    /// Objects by URL: data files, manifests, lists, metadata and the commit itself.
    pub(crate) objects: Vec<(String, Bytes)>,
    /// What the ref entry says it did; the first entry of a ref is a create all the same.
    pub(crate) op: RefOp,
}

/// Gathers a commit on a base: what is not changed is carried over.
#[derive(Debug)]
pub(crate) struct Drafting {
    /// The commit so far; its id is set when it is sealed.
    pub(crate) commit: CommitObject,
    states: BTreeMap<TableName, TableState>,
    objects: Vec<(String, Bytes)>,
    summary: BTreeMap<String, String>,
}

impl Drafting {
    /// Begins a commit that follows the base's; `time_us` is now.
    pub(crate) fn on(lake: &Lake, author: &str, base: &Base, kind: CommitKind, time_us: i64) -> Drafting {
        let parent = base.commit.as_ref();
        let mut summary = BTreeMap::from([
            ("hw.repo".to_owned(), lake.repo_id().to_string()),
            ("hw.commit-kind".to_owned(), kind.as_str().to_owned()),
        ]);
        if let Some(parent) = parent {
            summary.insert("hw.parent".to_owned(), parent.id.to_string());
        }
        let commit = CommitObject {
            id: CommitId::digest_of(b""),
            v: COMMIT_VERSION,
            parents: parent.map(|parent| parent.id.clone()).into_iter().collect(),
            kind,
            author: author.to_owned(),
            message: String::new(),
            time_us,
            tables: parent.map(|parent| parent.tables.clone()).unwrap_or_default(),
            stats: CommitStats::default(),
            gates: Vec::<GateSummary>::new(),
            ledger_checkpoint: parent.and_then(|parent| parent.ledger_checkpoint.clone()),
            coverage: parent.map(|parent| parent.coverage.clone()).unwrap_or_default(),
            held: parent.map(|parent| parent.held.clone()).unwrap_or_default(),
            landing: parent.map(|parent| parent.landing.clone()).unwrap_or_default(),
            lineage: Lineage::default(),
        };
        Drafting { commit, states: BTreeMap::new(), objects: Vec::new(), summary }
    }

    /// Words every snapshot of this commit carries in its summary.
    pub(crate) fn summary(&self) -> &BTreeMap<String, String> {
        &self.summary
    }

    /// Puts a table's produced state into the commit.
    pub(crate) fn put(&mut self, name: &TableName, built: Built) {
        self.commit.tables.insert(name.clone(), built.state.entry.clone());
        self.objects.extend(built.files);
        self.states.insert(name.clone(), built.state);
    }

    /// Lets the commit point at a state that is stored already, or drops the table.
    pub(crate) fn point(&mut self, name: &TableName, entry: Option<TableEntry>) {
        self.states.remove(name);
        match entry {
            Some(entry) => self.commit.tables.insert(name.clone(), entry),
            None => self.commit.tables.remove(name),
        };
    }

    /// An object that goes with the commit, by URL: data files and their manifests.
    pub(crate) fn object(&mut self, url: String, bytes: Bytes) {
        self.objects.push((url, bytes));
    }

    /// Raises landing cursors: they never go back.
    pub(crate) fn raise_landing(&mut self, cursors: &BTreeMap<String, LandingCursor>) {
        for (incarnation, cursor) in cursors {
            let highest = self.commit.landing.entry(incarnation.clone()).or_default();
            *highest = highest.max(*cursor);
        }
    }

    /// Sets align coverage by recipe name; others stay.
    pub(crate) fn set_coverage(&mut self, coverage: &BTreeMap<String, CoverageEntry>) {
        self.commit.coverage.extend(coverage.iter().map(|(name, entry)| (name.clone(), entry.clone())));
    }

    /// Sets a newer ledger checkpoint; none keeps the base's.
    pub(crate) fn set_ledger_checkpoint(&mut self, checkpoint: Option<&LedgerCheckpoint>) {
        if let Some(checkpoint) = checkpoint {
            self.commit.ledger_checkpoint = Some(checkpoint.clone());
        }
    }

    /// Takes over what a request says of the commit; `rows` and `bytes` are what it adds.
    pub(crate) fn describe(&mut self, request: &CommitRequest, rows: u64, bytes: u64) {
        self.raise_landing(&request.landing);
        self.set_coverage(&request.coverage);
        self.set_ledger_checkpoint(request.ledger_checkpoint.as_ref());
        self.commit.message.clone_from(&request.message);
        self.commit.stats = CommitStats { rows, bytes, ..request.stats.clone() };
        self.commit.gates.clone_from(&request.gates);
        self.commit.lineage.clone_from(&request.lineage);
    }

    /// Names the commit by its content.
    pub(crate) fn seal(mut self, lake: &Lake, op: RefOp) -> Result<Draft, LakeError> {
        let commit = self.commit.seal()?;
        let url = lake.store().url(&revision::commit_key(&commit.id));
        self.objects.push((url, Bytes::from(commit.to_bytes()?)));
        Ok(Draft { commit, states: self.states, objects: self.objects, op })
    }
}

/// A fresh identity for one move of a ref.
pub(super) fn write_id() -> Uuid {
    Uuid::new_v4()
}
