//! The log against a plain list, under races, faults, pruning and sleepers; and what finding its head costs.

use std::sync::Arc;

use futures::future::join_all;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use proptest::prelude::*;

use super::entry::entry_key;
use super::prune::Floor;
use super::*;
use crate::store::LakeStore;
use crate::testing::{self, CountingStore, Fault, FaultStore, Verb};

const CLIENTS: usize = 4;

/// Small enough that logs of a few entries are pruned.
const FLOOR: Floor = Floor { kept: 2, age_us: 0 };

fn update(n: usize, time_us: i64) -> RefUpdate {
    RefUpdate {
        commit: (!n.is_multiple_of(7)).then(|| CommitId::digest_of(&n.to_le_bytes())),
        op: if n.is_multiple_of(7) { RefOp::Delete } else { RefOp::Commit },
        writer: format!("w{n}"),
        write_id: Uuid::new_v4(),
        time_us,
        reason: String::new(),
    }
}

fn fault(kind: u8) -> Fault {
    let key = "heads".to_owned();
    match kind {
        0 => Fault::DropResponse { key, times: 1 },
        1 => Fault::ExistsAfterOwn { key, times: 1 },
        2 => Fault::ConflictWithoutObject { key, times: 2 },
        3 => Fault::FailWrite(1),
        4 => Fault::SlowDown { key, times: 3 },
        5 => Fault::FailRead(1),
        _ => Fault::None,
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// One client publishes on what was the head `behind` entries ago.
    Publish { client: usize, behind: usize, fault: u8 },
    /// All clients publish at once on the same head.
    Race { fault: u8 },
    /// The answer is lost altogether, and asked for again later.
    Unknown { client: usize },
    /// Another process: it remembers nothing.
    Restart { client: usize },
    /// The log is shortened, all but so many.
    Prune { keep: u64 },
}

fn steps(prunes: u32) -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        6 => (client.clone(), prop_oneof![3 => Just(0usize), 1 => 1usize..12], 0u8..9)
            .prop_map(|(client, behind, fault)| Step::Publish { client, behind, fault }),
        2 => (0u8..9).prop_map(|fault| Step::Race { fault }),
        1 => client.clone().prop_map(|client| Step::Unknown { client }),
        1 => client.prop_map(|client| Step::Restart { client }),
        prunes => (0u64..6).prop_map(|keep| Step::Prune { keep }),
    ];
    proptest::collection::vec(step, 1..12)
}

/// The store as it is and the log as it should be.
struct World {
    faults: Arc<FaultStore>,
    store: LakeStore,
    clients: Vec<ObjectStoreRefs>,
    log: Vec<Head>,
    pruned: usize,
    writes: usize,
}

impl World {
    fn new() -> World {
        let faults = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
        // Counting lets requests that are begun together run together.
        let counting = CountingStore::new(Arc::clone(&faults) as Arc<dyn ObjectStore>);
        let store = testing::counted(Arc::new(counting));
        let clients = (0..CLIENTS).map(|_| ObjectStoreRefs::new(store.clone())).collect();
        World { faults, store, clients, log: Vec::new(), pruned: 0, writes: 0 }
    }

    fn update(&mut self) -> RefUpdate {
        self.writes += 1;
        update(self.writes, self.writes as i64)
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let main = RefName::main();
        match step {
            Step::Publish { client, behind, fault: kind } => {
                let known = self.log.len().saturating_sub(behind);
                let expect = self.log[..known].last().cloned();
                let update = self.update();
                self.faults.set(fault(kind));
                let answer = self.clients[client].publish(&main, expect.as_ref(), &update).await;
                self.faults.set(Fault::None);
                self.judge(known, &update, answer)
            }
            Step::Race { fault: kind } => {
                let known = self.log.len();
                let expect = self.log.last().cloned();
                let updates: Vec<RefUpdate> = (0..CLIENTS).map(|_| self.update()).collect();
                self.faults.set(fault(kind));
                let sent = self
                    .clients
                    .iter()
                    .zip(&updates)
                    .map(|(client, update)| client.publish(&main, expect.as_ref(), update));
                let answers = join_all(sent).await;
                self.faults.set(Fault::None);
                let won = answers.iter().filter(|answer| answer.is_ok()).count();
                prop_assert_eq!(won, 1);
                let at = answers.iter().position(Result::is_ok).unwrap_or_default();
                let mut answers: Vec<_> = answers.into_iter().zip(updates).collect();
                answers.swap(0, at);
                answers.into_iter().try_for_each(|(answer, update)| self.judge(known, &update, answer))
            }
            Step::Unknown { client } => {
                let (known, expect) = (self.log.len(), self.log.last().cloned());
                let update = self.update();
                self.faults.set(Fault::Unreachable { key: "heads".to_owned() });
                let answer = self.clients[client].publish(&main, expect.as_ref(), &update).await;
                let unknown = matches!(answer, Err(PublishError::Unknown { .. }));
                prop_assert!(unknown);
                self.faults.set(Fault::None);
                let answer = self.clients[client].publish(&main, expect.as_ref(), &update).await;
                self.judge(known, &update, answer)
            }
            Step::Restart { client } => {
                self.clients[client] = ObjectStoreRefs::new(self.store.clone());
                Ok(())
            }
            Step::Prune { keep } => {
                let client = &self.clients[0];
                let done = client.pruned(&main, keep, i64::MAX, FLOOR).await.unwrap();
                prop_assert_eq!(done.orphans, 0, "sleepers take their entries back");
                self.pruned += usize::try_from(done.entries).unwrap();
                prop_assert!(self.log.len() - self.pruned >= self.log.len().min(2));
                Ok(())
            }
        }
    }

    /// An answer to a publish on the first `known` entries.
    fn judge(
        &mut self,
        known: usize,
        update: &RefUpdate,
        answer: Result<Head, PublishError>,
    ) -> Result<(), TestCaseError> {
        match answer {
            Ok(head) => {
                prop_assert_eq!(known, self.log.len());
                prop_assert_eq!((head.seq, &head.commit), (known as u64 + 1, &update.commit));
                prop_assert_eq!(head.write_id, update.write_id);
                self.log.push(head);
            }
            // The entry that beat it, or the newest one if the log was pruned from under it.
            Err(PublishError::Conflict(head)) => {
                let stood = known == 0 || known > self.pruned;
                prop_assert!(Some(&*head) == self.log.get(known) || Some(&*head) == self.log.last());
                prop_assert!(!stood || known == 0 || Some(&*head) == self.log.get(known));
            }
            Err(e) => prop_assert!(false, "{}", e),
        }
        Ok(())
    }

    /// Every reader, fresh or old, sees the same log.
    async fn look(&self, client: usize) -> Result<(), TestCaseError> {
        let seen = self.clients[client].head(&RefName::main()).await.unwrap();
        prop_assert_eq!(seen.as_ref(), self.log.last());
        Ok(())
    }

    async fn end(self) -> Result<(), TestCaseError> {
        let fresh = ObjectStoreRefs::new(self.store);
        let main = RefName::main();
        let mut history = fresh.history(&main, usize::MAX).await.unwrap();
        history.reverse();
        prop_assert_eq!(&history[..], &self.log[self.pruned..]);
        prop_assert_eq!(fresh.listed(&main).await.unwrap().len(), history.len());
        Ok(())
    }
}

/// Cases of each model; more by `HEADWATER_MODEL_CASES=1000000 cargo test -p headwater-lake --lib refs_model`.
fn cases() -> u32 {
    std::env::var("HEADWATER_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000)
}

fn run(steps: impl Strategy<Value = Vec<Step>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let judged = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let mut world = World::new();
            for (n, step) in steps.into_iter().enumerate() {
                world.step(step).await?;
                world.look(n % CLIENTS).await?;
            }
            world.end().await
        })
    });
    if let Err(failure) = judged {
        panic!("{failure}");
    }
}

/// C1, against a plain list: whoever knows the head wins, whoever does not is told what beat it, whatever the store
/// answers; and a lost answer is success.
#[test]
fn refs_model() {
    run(steps(0));
}

/// The same while the log is shortened: no sleeper wins below the head.
#[test]
fn refs_model_while_pruned() {
    run(steps(2));
}

async fn published(refs: &ObjectStoreRefs, name: &RefName, entries: usize, step_us: i64) -> Head {
    let mut head = refs.head(name).await.unwrap();
    for n in 0..entries {
        let time_us = head.as_ref().map_or(0, |head| head.time_us + step_us);
        head = Some(refs.publish(name, head.as_ref(), &update(n * 7 + 1, time_us)).await.unwrap());
    }
    head.unwrap()
}

const HOUR_US: i64 = 3600 * 1_000_000;

#[tokio::test]
async fn refs_stale_writer_after_prune() {
    let store = testing::counted(Arc::new(CountingStore::new(Arc::new(InMemory::new()))));
    let (awake, asleep) = (ObjectStoreRefs::new(store.clone()), ObjectStoreRefs::new(store.clone()));
    let main = RefName::main();
    let old = published(&asleep, &main, 1, HOUR_US).await;
    let head = published(&awake, &main, 299, HOUR_US).await;
    assert_eq!(head.seq, 300);

    // Neither too many nor too young ones go, whatever is asked.
    let done = awake.prune(&main, 0, 150 * HOUR_US).await.unwrap();
    assert_eq!(done, Pruned::default(), "the store's own time is now");
    let done = awake.prune(&main, 250, i64::MAX).await.unwrap();
    assert_eq!(done, Pruned { entries: 50, orphans: 0 });
    let done = awake.prune(&main, 0, i64::MAX).await.unwrap();
    assert_eq!(done, Pruned { entries: 150, orphans: 0 });
    assert_eq!(awake.history(&main, usize::MAX).await.unwrap().len(), 100);

    // Its create succeeds, since the key is free again, and counts for nothing.
    let ours = update(5, 1);
    let answer = asleep.publish(&main, Some(&old), &ours).await;
    assert!(matches!(answer, Err(PublishError::Conflict(newest)) if *newest == head));
    assert!(!store.exists(&entry_key(&main, 2)).await.unwrap(), "it was taken back");
    let answer = asleep.publish(&main, None, &ours).await;
    assert!(matches!(answer, Err(PublishError::Conflict(newest)) if *newest == head));
    assert_eq!(ObjectStoreRefs::new(store.clone()).head(&main).await.unwrap(), Some(head.clone()));

    // One that died before it could take its entry back leaves an orphan, which blinds nobody and goes with the next pruning.
    let (_, orphan) = entry::next(&main, Some(&old), &ours).unwrap();
    store.create(&entry_key(&main, 2), orphan).await.unwrap();
    assert_eq!(ObjectStoreRefs::new(store.clone()).head(&main).await.unwrap(), Some(head.clone()));
    assert_eq!(awake.history(&main, usize::MAX).await.unwrap().len(), 100);
    assert_eq!(awake.prune(&main, 0, i64::MAX).await.unwrap(), Pruned { entries: 0, orphans: 1 });
    // The same right below the log.
    let (_, orphan) = entry::next(&main, Some(&Head { seq: 199, ..old.clone() }), &ours).unwrap();
    store.create(&entry_key(&main, 200), orphan).await.unwrap();
    assert_eq!(awake.prune(&main, 0, i64::MAX).await.unwrap(), Pruned { entries: 0, orphans: 1 });
    // A reader that slept through it all finds the head too.
    assert_eq!(asleep.head(&main).await.unwrap(), Some(head));
}

#[tokio::test]
async fn entries_of_the_last_day_stay() {
    let store = testing::counted(Arc::new(CountingStore::new(Arc::new(InMemory::new()))));
    let refs = ObjectStoreRefs::new(store);
    let main = RefName::main();
    published(&refs, &main, 200, HOUR_US / 60).await;
    assert_eq!(refs.prune(&main, 0, i64::MAX).await.unwrap(), Pruned::default());
}

/// Requests to find a head must not grow with the log.
#[tokio::test]
async fn finding_the_head_costs_the_same_however_long_the_log() {
    for entries in [10_usize, 3_000] {
        let disk = Arc::new(InMemory::new());
        let main = RefName::main();
        let mut expect: Option<Head> = None;
        for n in 0..entries {
            let (head, bytes) = entry::next(&main, expect.as_ref(), &update(n * 7 + 1, 0)).unwrap();
            let key = object_store::path::Path::from(entry_key(&main, head.seq));
            disk.put(&key, PutPayload::from(bytes)).await.unwrap();
            expect = Some(head);
        }
        let counting = Arc::new(CountingStore::new(disk));
        let store = testing::counted(Arc::clone(&counting));
        let refs = ObjectStoreRefs::new(store.clone());
        let cost = |counting: &CountingStore| {
            let seen = counting.reset();
            (seen.of(Verb::List), seen.of(Verb::Get), seen.of(Verb::Head), seen.waves)
        };
        assert_eq!(refs.head(&main).await.unwrap(), expect);
        assert_eq!(cost(&counting), (1, 1, 0, 2), "cold, {entries} entries");
        assert_eq!(refs.head(&main).await.unwrap(), expect);
        assert_eq!(cost(&counting), (0, 1, 1, 2), "nothing new, {entries} entries");
        let other = ObjectStoreRefs::new(store);
        let head = other.head(&main).await.unwrap();
        counting.reset();
        let won = other.publish(&main, head.as_ref(), &update(1, 0)).await.unwrap();
        let seen = counting.reset();
        assert_eq!((seen.of(Verb::Put), seen.of(Verb::Head), seen.total(), seen.waves), (1, 1, 2, 1));
        assert_eq!(refs.head(&main).await.unwrap(), Some(won));
        assert_eq!(cost(&counting), (0, 2, 1, 3), "one new, {entries} entries");
    }
}

/// One who slept through a thousand entries climbs, and does not walk.
#[tokio::test]
async fn a_reader_far_behind_climbs_in_few_reads() {
    let counting = Arc::new(CountingStore::new(Arc::new(InMemory::new())));
    let store = testing::counted(Arc::clone(&counting));
    let (refs, behind) = (ObjectStoreRefs::new(store.clone()), ObjectStoreRefs::new(store));
    let main = RefName::main();
    published(&behind, &main, 1, 0).await;
    let head = published(&refs, &main, 1_000, 0).await;
    counting.reset();
    assert_eq!(behind.head(&main).await.unwrap(), Some(head));
    let seen = counting.reset();
    assert!(seen.total() <= 22, "{seen:?}");
}

/// The head among 100 000 entries on a disk; prints the time.
/// `cargo test --release -p headwater-lake --lib head_on_disk -- --ignored --nocapture`
#[tokio::test]
#[ignore = "makes 100 000 files: cargo test -p headwater-lake --lib head_on_disk -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
async fn head_on_disk_among_100_000_entries() {
    let folder = tempfile::tempdir().unwrap();
    let store = LakeStore::open(folder.path().to_str().unwrap(), true).await.unwrap();
    let main = RefName::main();
    let log = folder.path().join(entry::log_key(&main));
    std::fs::create_dir_all(&log).unwrap();
    let mut expect: Option<Head> = None;
    for n in 0..100_000 {
        let (head, bytes) = entry::next(&main, expect.as_ref(), &update(n * 7 + 1, 0)).unwrap();
        std::fs::write(folder.path().join(entry_key(&main, head.seq)), &bytes).unwrap();
        expect = Some(head);
    }
    let refs = ObjectStoreRefs::new(store);
    for what in ["cold", "nothing new"] {
        let start = std::time::Instant::now();
        assert_eq!(refs.head(&main).await.unwrap(), expect);
        println!("head among 100 000 entries on disk, {what}: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    }
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refs_race_moto() {
    let Some(moto) = testing::Moto::start().await else { return };
    let clients: Vec<Arc<ObjectStoreRefs>> =
        (0..16).map(|_| Arc::new(ObjectStoreRefs::new(moto.store("race").unwrap()))).collect();
    let main = RefName::main();
    let mut head: Option<Head> = None;
    for round in 1..=10 {
        let tasks = clients.iter().enumerate().map(|(n, client)| {
            let (client, main, head) = (Arc::clone(client), main.clone(), head.clone());
            let runtime = tokio::runtime::Handle::current();
            runtime
                .spawn(async move { client.publish(&main, head.as_ref(), &update(n * 7 + 1, round)).await })
        });
        let mut won = Vec::new();
        for answer in join_all(tasks).await {
            match answer.unwrap() {
                Ok(head) => won.push(head),
                Err(PublishError::Conflict(head)) => assert_eq!(head.seq, round.cast_unsigned()),
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        head = won.pop();
    }
    let fresh = ObjectStoreRefs::new(moto.store("race").unwrap());
    assert_eq!(fresh.head(&main).await.unwrap(), head);
    assert_eq!(fresh.history(&main, 100).await.unwrap().len(), 10);
}
