//! C1 to C3 and C4 for all verbs: random histories on two branches, with racing writers and stores that fail, against a
//! plain set of samples per commit.

use crate::common;
use crate::versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{NOON_US, name};
use headwater_lake::testing::{self, Fault, FaultStore, rewrite};
use headwater_lake::{
    CommitError, CommitId, CommitKind, CommitRequest, Lake, LakeError, MergeOptions, RollbackOptions,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use proptest::prelude::*;
use versions::*;

type Key = (String, i64);

/// What is at a commit.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    samples: BTreeSet<Key>,
    /// Samples the ledger knows, held or withdrawn.
    known: BTreeSet<Key>,
    notes: Vec<String>,
}

const BRANCHES: [&str; 2] = ["main", "exp"];

#[derive(Debug, Clone)]
enum Step {
    /// Captures of one of few devices, so that both branches get the same ones.
    Append {
        device: usize,
        from: i64,
        n: i64,
    },
    Compact {
        files: usize,
    },
    Merge,
    Revert {
        commit: prop::sample::Index,
    },
    Pick {
        commit: prop::sample::Index,
    },
    Rollback {
        commit: prop::sample::Index,
        all: bool,
    },
    /// Two writers and a merge at once.
    Race,
    /// Deletes the other branch and makes it again at this one's head.
    Refork,
}

fn step() -> impl Strategy<Value = Step> {
    let index = || any::<prop::sample::Index>();
    prop_oneof![
        6 => (0..3_usize, 0..12_i64, 1..6_i64).prop_map(|(device, from, n)| Step::Append { device, from, n }),
        2 => (1..4_usize).prop_map(|files| Step::Compact { files }),
        3 => Just(Step::Merge),
        2 => index().prop_map(|commit| Step::Revert { commit }),
        2 => index().prop_map(|commit| Step::Pick { commit }),
        2 => (index(), any::<bool>()).prop_map(|(commit, all)| Step::Rollback { commit, all }),
        1 => Just(Step::Race),
        1 => Just(Step::Refork),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let heads = || "heads".to_owned();
    prop_oneof![
        6 => Just(Fault::None),
        1 => Just(Fault::DropResponse { key: heads(), times: 1 }),
        1 => Just(Fault::ExistsAfterOwn { key: heads(), times: 1 }),
        1 => Just(Fault::ConflictWithoutObject { key: heads(), times: 2 }),
        1 => (1..6_u64).prop_map(Fault::FailWrite),
    ]
}

struct World {
    lake: Lake,
    store: Arc<FaultStore>,
    /// Every commit that ever was a head.
    states: BTreeMap<CommitId, State>,
    now: i64,
    /// Verbs that were done, and those that were refused as conflicts.
    did: [u32; 2],
}

impl World {
    async fn new() -> World {
        let store = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
        let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
        let mut world = World { lake, store, states: BTreeMap::new(), now: NOON_US, did: [0, 0] };
        world.append("main", "d9", 0..3).await;
        let at = tip(&world.lake, "main").await;
        world.lake.branch(&branch("exp"), &at, "anna", NOON_US).await.unwrap();
        world
    }

    fn tick(&mut self) -> i64 {
        self.now += 1_000;
        self.now
    }

    async fn state(&self, on: &str) -> State {
        match self.lake.head(&branch(on)).await.unwrap().and_then(|head| head.commit) {
            Some(id) => self.states[&id].clone(),
            None => State::default(),
        }
    }

    async fn note(&mut self, on: &str, state: State) {
        let id = tip(&self.lake, on).await;
        if let Some(known) = self.states.get(&id) {
            assert_eq!(known, &state, "a fast-forward changes nothing of a commit");
        }
        self.states.insert(id, state);
    }

    async fn append(&mut self, on: &str, device: &str, seqs: std::ops::Range<i64>) {
        let request = capture(device, seqs.clone(), 0.0, self.tick());
        let mut state = self.state(on).await;
        state.notes.push(request.message.clone());
        state.notes.sort();
        let keys: Vec<Key> = seqs.map(|seq| (device.to_owned(), seq)).collect();
        state.samples.extend(keys.iter().cloned());
        state.known.extend(keys);
        self.say(on, async |lake: &Lake| said(commit_on(lake, on, request.clone()).await)).await;
        self.note(on, state).await;
    }

    /// Says a verb until the store has told what became of it; true if the branch moved.
    async fn say(&mut self, on: &str, verb: impl AsyncFn(&Lake) -> Said) -> bool {
        let before = self.lake.head(&branch(on)).await.unwrap().map(|head| head.seq);
        let mut answer = verb(&self.lake).await;
        self.store.set(Fault::None);
        let moved = |head: Option<u64>| head != before;
        if let Said::Failed = answer {
            let after = self.lake.head(&branch(on)).await.unwrap().map(|head| head.seq);
            if !moved(after) {
                answer = verb(&self.lake).await;
            }
        }
        let after = self.lake.head(&branch(on)).await.unwrap().map(|head| head.seq);
        match answer {
            Said::Conflict => assert!(!moved(after), "a conflict changes nothing"),
            Said::Failed => assert!(moved(after), "it failed twice, the second time without a fault"),
            Said::Done => {}
        }
        self.did[usize::from(matches!(answer, Said::Conflict))] += 1;
        moved(after)
    }
}

/// What became of a verb.
enum Said {
    Done,
    Conflict,
    Failed,
}

fn said<T>(answer: Result<T, CommitError>) -> Said {
    match answer {
        Ok(_) => Said::Done,
        Err(CommitError::Failed { source: LakeError::Conflicts(_), .. }) => Said::Conflict,
        Err(CommitError::Failed { source: LakeError::Store { .. }, .. } | CommitError::Unknown { .. }) => {
            Said::Failed
        }
        Err(other) => panic!("{other}: {:?}", std::error::Error::source(&other)),
    }
}

async fn commit_on(lake: &Lake, on: &str, request: CommitRequest) -> Result<(), CommitError> {
    lake.writer(branch(on), "ingest".to_owned()).commit(request).await.map(drop)
}

/// Samples that `to` has and `from` has not, or the other way round, as they are in `to`.
fn changed(from: &State, to: &State) -> BTreeMap<Key, bool> {
    let keys = from.samples.symmetric_difference(&to.samples);
    keys.map(|key| (key.clone(), to.samples.contains(key))).collect()
}

fn apply(state: &mut State, changes: BTreeMap<Key, bool>) {
    for (key, there) in changes {
        state.known.insert(key.clone());
        if there {
            state.samples.insert(key);
        } else {
            state.samples.remove(&key);
        }
    }
}

fn merged(base: &State, ours: &State, theirs: &State) -> State {
    let mut state = ours.clone();
    apply(&mut state, changed(base, theirs));
    state.known.extend(theirs.known.iter().cloned());
    for note in &theirs.notes {
        if !base.notes.contains(note) && !ours.notes.contains(note) {
            state.notes.push(note.clone());
        }
    }
    state.notes.sort();
    state
}

impl World {
    /// A commit of the branch's own line.
    async fn own(&self, on: &str, index: &prop::sample::Index) -> CommitId {
        let log = self.lake.log(on, 100).await.unwrap();
        log[index.index(log.len())].id.clone()
    }

    async fn parent(&self, id: &CommitId) -> State {
        let commit = self.lake.commit_object(id).await.unwrap();
        commit.parents.first().map(|parent| self.states[parent].clone()).unwrap_or_default()
    }

    async fn run(&mut self, on: &str, other: &str, step: Step, fault: Fault) {
        let act = by(self.tick());
        let mut state = self.state(on).await;
        self.store.set(Fault::None);
        match step {
            Step::Append { device, from, n } => {
                let device = format!("d{device}");
                // As ingest does: what is known is not taken in again.
                let fresh = |seq: &i64| !state.known.contains(&(device.clone(), *seq));
                let seqs: Vec<i64> = (from..from + n).take_while(fresh).collect();
                if let (Some(first), Some(last)) = (seqs.first(), seqs.last()) {
                    self.store.set(fault);
                    self.append(on, &device, *first..*last + 1).await;
                }
            }
            Step::Compact { files } => {
                let (at, table) = (branch(on), name(RAW));
                rewrite(&self.lake, &at, &table, CommitKind::Compact, files, act.time_us, |rows| rows)
                    .await
                    .unwrap();
                self.note(on, state).await;
            }
            Step::Merge => {
                let from = tip(&self.lake, other).await;
                let base = self.lake.merge_base(&tip(&self.lake, on).await, &from).await.unwrap().unwrap();
                state = merged(&self.states[&base], &state, &self.states[&from]);
                self.store.set(fault);
                let options = MergeOptions::default();
                let verb = async |lake: &Lake| said(lake.merge(&branch(on), &from, &options, &act).await);
                if self.say(on, verb).await {
                    self.note(on, state).await;
                }
            }
            Step::Revert { commit } => {
                let id = self.own(on, &commit).await;
                apply(&mut state, changed(&self.states[&id], &self.parent(&id).await));
                self.store.set(fault);
                let verb = async |lake: &Lake| said(lake.revert(&branch(on), &id, &act).await);
                if self.say(on, verb).await {
                    self.note(on, state).await;
                }
            }
            Step::Pick { commit } => {
                let id = self.own(other, &commit).await;
                let (before, after) = (self.parent(&id).await, self.states[&id].clone());
                apply(&mut state, changed(&before, &after));
                let of_own = self.is_own(on, &id).await;
                for note in after.notes.iter().filter(|note| !of_own && !before.notes.contains(note)) {
                    if !state.notes.contains(note) {
                        state.notes.push(note.clone());
                    }
                }
                state.notes.sort();
                self.store.set(fault);
                let verb = async |lake: &Lake| said(lake.cherry_pick(&branch(on), &id, &act).await);
                if self.say(on, verb).await {
                    self.note(on, state).await;
                }
            }
            Step::Rollback { commit, all } => {
                let id = self.own(on, &commit).await;
                if all {
                    let changes = changed(&state, &self.states[&id]);
                    apply(&mut state, changes);
                }
                let options = RollbackOptions { all, go_on: false };
                let leave = self.lake.leaving(&branch(on), &id).await.unwrap().samples;
                let mine = self.state(on).await.samples;
                assert_eq!(leave, mine.difference(&self.states[&id].samples).count() as u64);
                self.store.set(fault);
                let verb = async |lake: &Lake| said(lake.rollback(&branch(on), &id, options, &act).await);
                if self.say(on, verb).await {
                    self.note(on, state).await;
                }
            }
            Step::Race => self.race(on, other).await,
            Step::Refork => {
                let (name, at) = (branch(other), tip(&self.lake, on).await);
                self.lake.drop_ref(&name, None, "anna", act.time_us, "test").await.unwrap();
                assert!(self.lake.resolve(other).await.is_err());
                self.lake.branch(&name, &at, "anna", act.time_us).await.unwrap();
            }
        }
    }

    async fn is_own(&self, on: &str, id: &CommitId) -> bool {
        self.lake.merge_base(&tip(&self.lake, on).await, id).await.unwrap().as_ref() == Some(id)
    }

    /// C1: of writers at once each gets in, after the other.
    async fn race(&mut self, on: &str, other: &str) {
        let from = tip(&self.lake, other).await;
        let base = self.lake.merge_base(&tip(&self.lake, on).await, &from).await.unwrap().unwrap();
        let at = self.tick();
        let requests = [0, 1].map(|writer| capture(&format!("race{at}-{writer}"), 0..4, 0.0, at + writer));
        let mut state = self.state(on).await;
        for (writer, request) in (0..).zip(&requests) {
            let keys: Vec<Key> = (0..4).map(|seq| (format!("race{at}-{writer}"), seq)).collect();
            state.samples.extend(keys.iter().cloned());
            state.known.extend(keys);
            state.notes.push(request.message.clone());
        }
        state.notes.sort();
        let [first, second] = requests;
        let (on_name, act, options) = (branch(on), by(at + 2), MergeOptions::default());
        let both = merged(&self.states[&base], &state, &self.states[&from]);
        let (a, b, merge) = tokio::join!(
            commit_on(&self.lake, on, first),
            commit_on(&self.lake, on, second),
            self.lake.merge(&on_name, &from, &options, &act),
        );
        a.unwrap();
        b.unwrap();
        if let Said::Done = said(merge) {
            state = both;
        }
        // Heads between are not asked for again; they are what they are.
        for commit in self.lake.log(on, 4).await.unwrap() {
            if !self.states.contains_key(&commit.id) {
                let found = self.seen(commit.id.as_str()).await;
                self.states.insert(commit.id, found);
            }
        }
        self.note(on, state).await;
    }

    async fn seen(&self, spec: &str) -> State {
        State {
            samples: samples(&self.lake, spec).await.into_keys().collect(),
            known: states(&self.lake, spec).await.into_keys().collect(),
            notes: notes(&self.lake, spec).await,
        }
    }
}

/// A few by default; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 30, ..ProptestConfig::default() })]
    #[test]
    fn every_history_is_what_a_set_of_samples_would_be(
        steps in proptest::collection::vec((step(), 0..2_usize, fault()), 4..14)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for (n, (step, on, fault)) in steps.into_iter().enumerate() {
                let (on, other) = (BRANCHES[on], BRANCHES[1 - on]);
                let told = format!("step {n}: {step:?} on {on} with {fault:?}");
                world.run(on, other, step, fault).await;
                for branch in BRANCHES {
                    assert_eq!(world.seen(branch).await, world.state(branch).await, "{branch} after {told}");
                    assert_books(&world.lake, branch).await;
                }
            }
            // C3: whatever was done since, every commit is what it was.
            for (id, state) in &world.states {
                assert_eq!(&world.seen(id.as_str()).await, state);
            }
            prop_assert!(world.did[1] <= world.did[0], "most verbs find a way: {:?}", world.did);
            Ok(())
        })?;
    }
}
