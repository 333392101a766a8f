//! A lake, its writers, and the map it must be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{CommitError, CommitId, Lake, LakeWriter, PublishError, RefName};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::ops::{Op, Trouble, WRITERS, branch_name, tag_name};
use super::rows::{Contents, START_US, after, read, request};

/// What a case met, so that a run that met nothing shows.
#[derive(Debug, Default)]
pub(super) struct Tally {
    commits: u32,
    conflicts: u32,
    refused: u32,
    unknown_there: u32,
    unknown_not: u32,
    deaths: u32,
    branches: u32,
    pub(super) merges: u32,
    pub(super) reverts: u32,
    pub(super) picks: u32,
    pub(super) resets: u32,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Tally) {
        self.commits += other.commits;
        self.conflicts += other.conflicts;
        self.refused += other.refused;
        self.unknown_there += other.unknown_there;
        self.unknown_not += other.unknown_not;
        self.deaths += other.deaths;
        self.branches += other.branches;
        self.merges += other.merges;
        self.reverts += other.reverts;
        self.picks += other.picks;
        self.resets += other.resets;
    }

    /// Every kind of outcome was met, once there were enough cases for it.
    pub(super) fn expect_all(&self, cases: u32) {
        let all = [
            self.commits,
            self.conflicts,
            self.refused,
            self.unknown_there,
            self.unknown_not,
            self.deaths,
            self.branches,
            self.merges,
            self.reverts,
            self.picks,
            self.resets,
        ];
        assert!(cases < 300 || all.iter().all(|met| *met > 0), "something never happened: {self:?}");
    }
}

/// What became of a verb, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Refused,
    Unknown,
}

pub(super) struct World {
    pub(super) store: Arc<FaultStore>,
    pub(super) lake: Lake,
    /// Per writer one for each branch it has written to: each keeps its own idea of the head.
    writers: Vec<BTreeMap<String, LakeWriter>>,
    /// The map: what each branch holds.
    pub(super) model: BTreeMap<String, Contents>,
    /// The heads as last seen.
    pub(super) heads: BTreeMap<String, CommitId>,
    tags: BTreeMap<String, CommitId>,
    /// Every commit that was ever seen, and what it held then.
    pub(super) pinned: BTreeMap<CommitId, Contents>,
    /// Commits of rows that were acknowledged: on which branch, and which rows.
    pub(super) acked: Vec<(String, CommitId, Vec<i64>)>,
    /// Heads each branch has had, in order.
    pub(super) lines: BTreeMap<String, Vec<CommitId>>,
    /// Something else than additions happened: verbs may be in conflict from now on.
    pub(super) mixed: bool,
    next: i64,
    pub(super) time_us: i64,
    pub(super) tally: Tally,
}

pub(super) fn ref_name(text: &str) -> RefName {
    RefName::new(text).unwrap()
}

impl World {
    pub(super) async fn new() -> World {
        let store = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
        let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
        World {
            store,
            lake,
            writers: (0..WRITERS).map(|_| BTreeMap::new()).collect(),
            model: BTreeMap::new(),
            heads: BTreeMap::new(),
            tags: BTreeMap::new(),
            pinned: BTreeMap::new(),
            acked: Vec::new(),
            lines: BTreeMap::new(),
            mixed: false,
            next: 0,
            time_us: START_US,
            tally: Tally::default(),
        }
    }

    pub(super) async fn apply(&mut self, op: &Op) {
        self.time_us += 1_000_000;
        // Whatever is written goes to a branch that is there, so that branches have a history in common.
        let there = |n: &usize| {
            let names: Vec<&String> = self.heads.keys().collect();
            names.get(n % names.len().max(1)).map_or_else(|| "main".to_owned(), |name| (*name).clone())
        };
        match op {
            Op::Commit { writer, branch, rows, trouble } => {
                let branch = there(branch);
                self.commit(*writer, &branch, *rows, false, trouble).await;
            }
            Op::Evolve { writer, branch } => {
                let branch = there(branch);
                self.mixed = true;
                self.commit(*writer, &branch, 2, true, &Trouble(Fault::None)).await;
            }
            Op::Race { branch, trouble } => {
                let branch = there(branch);
                self.race(&branch, trouble).await;
            }
            Op::Branch { from, to, trouble } => {
                let from = there(from);
                self.branch(&from, branch_name(*to), trouble).await;
            }
            Op::Tag { from, tag } => {
                let from = there(from);
                self.tag(&from, tag_name(*tag)).await;
            }
            Op::Merge { from, into, no_ff, trouble } => {
                let (from, into) = (there(from), there(into));
                self.merge(&from, &into, *no_ff, trouble).await;
            }
            Op::Revert { branch, back, trouble } => {
                let branch = there(branch);
                self.revert(&branch, *back, trouble).await;
            }
            Op::Pick { from, back, into, trouble } => {
                let (from, into) = (there(from), there(into));
                self.pick(&from, *back, &into, trouble).await;
            }
            Op::SetBack { branch, back, all, trouble } => {
                let branch = there(branch);
                self.set_back(&branch, *back, *all, trouble).await;
            }
            Op::Reopen => self.reopen().await,
        }
    }

    fn seqs(&mut self, rows: i64) -> Vec<i64> {
        let first = self.next;
        self.next += rows;
        (first..self.next).collect()
    }

    fn writer(&mut self, writer: usize, branch: &str) -> LakeWriter {
        let known = self.writers[writer].remove(branch);
        known.unwrap_or_else(|| self.lake.writer(ref_name(branch), format!("writer-{writer}")))
    }

    async fn commit(&mut self, at: usize, branch: &str, rows: i64, wide: bool, trouble: &Trouble) {
        let seqs = self.seqs(rows);
        let mut writer = self.writer(at, branch);
        self.store.set(trouble.0.clone());
        let answer = writer.commit(request(&seqs, self.time_us, wide)).await;
        let dead = self.store.is_dead();
        self.store.set(Fault::None);
        let outcome = match answer {
            Ok(done) => {
                self.tally.commits += 1;
                self.tally.conflicts += done.conflicts;
                self.acked.push((branch.to_owned(), done.id, seqs.clone()));
                Outcome::Done
            }
            Err(_) if dead => Outcome::Unknown,
            Err(CommitError::Unknown { .. }) => match writer.settle().await.unwrap() {
                Some(done) => {
                    self.tally.unknown_there += 1;
                    self.acked.push((branch.to_owned(), done.id, seqs.clone()));
                    Outcome::Done
                }
                None => Outcome::Refused,
            },
            Err(CommitError::Failed { .. }) => Outcome::Refused,
            Err(other) => panic!("{other}"),
        };
        let mut wanted = self.model.clone();
        let held = wanted.remove(branch).unwrap_or_default();
        wanted.insert(branch.to_owned(), after(&held, &seqs));
        if dead {
            self.reopen().await;
        } else {
            self.writers[at].insert(branch.to_owned(), writer);
        }
        self.settle(outcome, wanted).await;
    }

    /// All writers at once; each of their commits is there or not, as it says.
    async fn race(&mut self, branch: &str, trouble: &Trouble) {
        let mut runs = Vec::new();
        for at in 0..WRITERS {
            let seqs = self.seqs(1 + at as i64);
            runs.push((self.writer(at, branch), seqs));
        }
        self.store.set(trouble.0.clone());
        let time_us = self.time_us;
        let answers = join_all(runs.iter_mut().map(|(writer, seqs)| {
            let request = request(seqs, time_us, false);
            async move { writer.commit(request).await }
        }))
        .await;
        let dead = self.store.is_dead();
        self.store.set(Fault::None);
        let mut contents = self.model.get(branch).cloned().unwrap_or_default();
        let mut open = Vec::new();
        for (at, ((mut writer, seqs), answer)) in runs.into_iter().zip(answers).enumerate() {
            let settled = match answer {
                Err(CommitError::Unknown { .. }) if !dead => writer.settle().await.unwrap(),
                Ok(done) => {
                    self.tally.commits += 1;
                    self.tally.conflicts += done.conflicts;
                    Some(done)
                }
                Err(_) => None,
            };
            match settled {
                Some(done) => {
                    self.acked.push((branch.to_owned(), done.id, seqs.clone()));
                    contents = after(&contents, &seqs);
                }
                None if dead => open.push(seqs),
                None => {}
            }
            if !dead {
                self.writers[at].insert(branch.to_owned(), writer);
            }
        }
        if dead {
            self.reopen().await;
        }
        // Of those that died unheard, each may have made it.
        let found = self.found().await;
        let possible = (0..1_usize << open.len()).map(|chosen| {
            let chosen = open.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0);
            chosen.fold(contents.clone(), |contents, (_, seqs)| after(&contents, seqs))
        });
        let now = found.get(branch).cloned().unwrap_or_default();
        assert!(possible.into_iter().any(|contents| contents == now), "{branch} holds {now:?}");
        let mut wanted = self.model.clone();
        if found.contains_key(branch) {
            wanted.insert(branch.to_owned(), now);
        }
        self.settle(Outcome::Done, wanted).await;
    }

    async fn branch(&mut self, from: &str, to: &str, trouble: &Trouble) {
        let Some(commit) = self.heads.get(from).cloned() else { return };
        self.store.set(trouble.0.clone());
        let answer = self.lake.branch(&ref_name(to), &commit, "test", self.time_us).await;
        let dead = self.store.is_dead();
        self.store.set(Fault::None);
        let outcome = match answer {
            Ok(_) => {
                self.tally.branches += 1;
                Outcome::Done
            }
            Err(PublishError::Conflict(_)) => {
                assert!(self.model.contains_key(to), "{to} was refused and is not there");
                Outcome::Refused
            }
            Err(PublishError::Unknown { .. }) => Outcome::Unknown,
            Err(_) if dead => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        let mut wanted = self.model.clone();
        if let Some(contents) = self.model.get(from).filter(|_| !self.model.contains_key(to)) {
            wanted.insert(to.to_owned(), contents.clone());
        }
        if dead {
            self.reopen().await;
        }
        self.settle(outcome, wanted).await;
    }

    async fn tag(&mut self, from: &str, tag: &str) {
        let Some(commit) = self.heads.get(from).cloned() else { return };
        let answer = self.lake.refs().tag(&ref_name(tag), &commit, "test", self.time_us).await;
        match self.tags.get(tag) {
            Some(held) => assert_eq!(answer.is_ok(), held == &commit, "a tag moved"),
            None => {
                answer.unwrap();
                self.tags.insert(tag.to_owned(), commit);
            }
        }
    }

    pub(super) async fn reopen(&mut self) {
        self.tally.deaths += 1;
        self.lake = testing::open_on(Arc::clone(&self.store) as Arc<dyn ObjectStore>).await.unwrap();
        self.writers.iter_mut().for_each(BTreeMap::clear);
    }

    /// What each branch holds now; only heads that moved are read.
    async fn found(&mut self) -> BTreeMap<String, Contents> {
        let mut found = BTreeMap::new();
        for (branch, head) in self.lake.refs().list().await.unwrap() {
            let id = head.commit.unwrap();
            if !self.pinned.contains_key(&id) {
                let contents = read(&self.lake, &id).await;
                self.pinned.insert(id.clone(), contents);
            }
            found.insert(branch.to_string(), self.pinned[&id].clone());
            if self.heads.insert(branch.to_string(), id.clone()).as_ref() != Some(&id) {
                self.lines.entry(branch.to_string()).or_default().push(id);
            }
        }
        found
    }

    async fn settle(&mut self, outcome: Outcome, wanted: BTreeMap<String, Contents>) {
        self.settle_if(outcome, |found| found == &wanted).await;
    }

    /// Compares the lake with the map, before or after the verb as its outcome allows, and takes over what is there.
    pub(super) async fn settle_if(
        &mut self,
        outcome: Outcome,
        accept: impl Fn(&BTreeMap<String, Contents>) -> bool,
    ) {
        let found = self.found().await;
        match outcome {
            Outcome::Done => {
                assert!(accept(&found), "a verb said it was done: {found:?} after {:?}", self.model);
            }
            Outcome::Refused => {
                self.tally.refused += 1;
                assert_eq!(found, self.model, "the verb said that nothing happened");
            }
            Outcome::Unknown if accept(&found) => self.tally.unknown_there += 1,
            Outcome::Unknown => {
                self.tally.unknown_not += 1;
                assert_eq!(found, self.model, "a verb that was cut short left something of itself");
            }
        }
        self.model = found;
    }

    /// Looks back: every commit as it was, every acknowledged one in its log once, every log without a hole.
    pub(super) async fn finish(mut self) -> Tally {
        self.reopen().await;
        self.tally.deaths -= 1;
        for (id, contents) in &self.pinned {
            assert_eq!(&read(&self.lake, id).await, contents, "commit {id} reads otherwise than it did");
        }
        let mut named: BTreeMap<String, Vec<CommitId>> = BTreeMap::new();
        for branch in self.model.keys() {
            let log = self.lake.refs().history(&ref_name(branch), usize::MAX).await.unwrap();
            let seqs: Vec<u64> = log.iter().map(|entry| entry.seq).collect();
            assert_eq!(seqs, (1..=log.len() as u64).rev().collect::<Vec<_>>(), "{branch} has holes");
            assert!(log.windows(2).all(|pair| pair[0].prev_commit == pair[1].commit), "{branch} is torn");
            let ids: Vec<CommitId> = log.into_iter().filter_map(|entry| entry.commit).collect();
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{branch} names one twice");
            named.insert(branch.clone(), ids);
        }
        for (branch, id, _) in &self.acked {
            assert!(named[branch].contains(id), "{branch} forgot acknowledged {id}");
        }
        for (tag, id) in &self.tags {
            assert_eq!(&self.lake.resolve(tag).await.unwrap(), id, "{tag} moved");
        }
        self.tally
    }
}
