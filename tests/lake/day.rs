//! The day itself: a tick each ten seconds, and at every tick whatever is due.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use crate::actors::{Branches, Readers};
use crate::correct::{SHIFT_NS, correct};
use crate::keeper::{check, collect};
use crate::truth::{assert_all, rows};
use headwater_lake::testing::{self, AgedStore, Fault, FaultStore};
use headwater_lake::{
    CommitError, CommitId, CommitRequest, CompactScope, Lake, LakeWriter, RefName, TableAppend,
};
use headwater_sim::disk::Dice;
use headwater_tests::lakes::{Key, Upkeep, ledger, ledger_batch, small, small_batch};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;

/// 2026-11-23T23:30:00Z, ns: half an hour on, the day and its partitions change.
const START_NS: i64 = 1_795_476_600_000_000_000;
const CADENCE: usize = 10;
const CADENCE_S: i64 = 10;
const SECOND_NS: i64 = 1_000_000_000;
/// Kinds of samples, one table each.
pub(crate) const KINDS: [&str; 2] = ["imu", "env"];
/// Times that somebody reads, and that somebody makes a branch, however long it is.
const READS: i64 = 12;
const BRANCHES: i64 = 3;
/// Times that a better clock track moves a device's rows.
const CORRECTIONS: i64 = 4;

/// How long, how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Simulated seconds.
    pub(crate) seconds: i64,
    /// Devices.
    pub(crate) devices: u32,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Commits of the fleet.
    pub(crate) commits: u64,
    /// Commits that met another writer's.
    pub(crate) conflicts: u64,
    /// Commits that failed and were made again.
    pub(crate) refused: u64,
    /// Outcomes that had to be asked for.
    pub(crate) settled: u64,
    /// Processes that died in a commit.
    pub(crate) deaths: u64,
    /// Rows of `raw.*`.
    pub(crate) rows: u64,
    /// Branches made.
    pub(crate) branches: u64,
    /// Commits of compaction.
    pub(crate) compactions: u64,
    /// Rows written anew by corrections.
    pub(crate) corrected: u64,
    /// Objects that garbage collection took.
    pub(crate) collected: u64,
    /// Reads at pinned commits.
    pub(crate) reads: u64,
}

/// A fleet, two committers and everybody else.
pub(crate) struct Day {
    shape: Shape,
    store: Arc<FaultStore>,
    /// The same store with the simulated time as its clock.
    aged: Arc<AgedStore>,
    lake: Lake,
    writers: Vec<LakeWriter>,
    dice: Dice,
    captured: Vec<Key>,
    readers: Readers,
    branches: Branches,
    upkeep: Upkeep,
    corrections: i64,
    tally: Tally,
}

impl Day {
    pub(crate) async fn new(shape: Shape) -> Self {
        let store = Arc::new(FaultStore::new(Arc::new(InMemory::new())));
        let below: Arc<dyn ObjectStore> = Arc::<FaultStore>::clone(&store);
        let aged = Arc::new(AgedStore::new(below, START_NS / 1_000));
        let lake = testing::init_on(Arc::clone(&aged) as Arc<dyn ObjectStore>).await.unwrap();
        let upkeep = Upkeep::new(&lake);
        let writers = (0..2).map(|n| lake.writer(RefName::main(), format!("committer-{n}"))).collect();
        Self {
            shape,
            store,
            aged,
            lake,
            writers,
            dice: Dice::new(0x6461_7900),
            captured: Vec::new(),
            readers: Readers::default(),
            branches: Branches::default(),
            upkeep,
            corrections: 0,
            tally: Tally::default(),
        }
    }

    /// Lives through it, and judges what is left.
    pub(crate) async fn live(mut self) -> Tally {
        for second in (0..self.shape.seconds).step_by(CADENCE) {
            let now_ns = START_NS + second * SECOND_NS;
            self.aged.set_now(now_ns / 1_000);
            self.ingest(second, now_ns).await;
            let now_us = now_ns / 1_000 + CADENCE_S * 1_000_000;
            self.compact(now_us).await;
            if (second + self.shape.seconds / CORRECTIONS / 2) % (self.shape.seconds / CORRECTIONS)
                < CADENCE_S
            {
                self.correct(now_us).await;
            }
            if second % (self.shape.seconds / READS) < CADENCE_S {
                // It finds nothing to take: everything is young.
                collect(&self.lake, now_us).await;
                self.readers.pin(&self.lake).await;
                self.tally.reads += self.readers.look_again(&self.lake, &mut self.dice).await;
            }
            if (second + self.shape.seconds / BRANCHES / 2) % (self.shape.seconds / BRANCHES) < CADENCE_S {
                self.branches.grow(&self.lake, now_us).await;
                self.tally.branches += 1;
            }
        }
        self.judge().await;
        self.fortnight_later().await;
        self.tally
    }

    /// What all devices captured since the last tick, as one commit of one of the two committers.
    async fn ingest(&mut self, second: i64, now_ns: i64) {
        let seq = second / CADENCE_S;
        let keys: Vec<Key> = (0..self.shape.devices)
            .map(|device| Key { device, seq, at_ns: now_ns + i64::from(device) * 1_000 })
            .collect();
        let request = request(&keys, now_ns / 1_000 + CADENCE_S * 1_000_000);
        let at = self.dice.below(2);
        // A committer does what the collector does: again until it knows.
        loop {
            let trouble = self.trouble();
            self.store.set(trouble);
            let answer = self.writers[at].commit(request.clone()).await;
            let dead = self.store.is_dead();
            self.store.set(Fault::None);
            match answer {
                Ok(done) => {
                    self.tally.conflicts += u64::from(done.conflicts);
                    break;
                }
                Err(_) if dead => {
                    if self.after_death(at, &keys).await {
                        break;
                    }
                }
                Err(CommitError::Unknown { .. }) => {
                    self.tally.settled += 1;
                    if self.writers[at].settle().await.unwrap().is_some() {
                        break;
                    }
                }
                Err(CommitError::Failed { .. }) => self.tally.refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        self.tally.commits += 1;
        self.tally.rows += (keys.len() * KINDS.len()) as u64;
        self.captured.extend(keys);
    }

    /// A new process looks what became of the commit it died in, as the collector does by the landing cursors: the head
    /// of the table says it.
    async fn after_death(&mut self, at: usize, keys: &[Key]) -> bool {
        self.tally.deaths += 1;
        self.lake = testing::open_on(Arc::clone(&self.aged) as Arc<dyn ObjectStore>).await.unwrap();
        self.upkeep = Upkeep::new(&self.lake);
        self.writers[at] = self.lake.writer(RefName::main(), format!("committer-{at}"));
        let Some(head) = self.lake.head(&RefName::main()).await.unwrap() else { return false };
        let tables = self.lake.tables(&head.commit.unwrap()).await.unwrap();
        let held = tables.get(&small(KINDS[0]).name).map_or(0, |entry| entry.rows);
        let before = self.captured.len() as u64;
        assert!(held == before || held == before + keys.len() as u64, "{held} rows after {before}");
        held > before
    }

    /// One of the committers looks after the files, beside the other's commits.
    async fn compact(&mut self, now_us: i64) {
        let scope = CompactScope::default();
        let settled = self.upkeep.settle(&mut self.writers[0], &scope, now_us).await;
        self.tally.compactions += settled.unwrap();
    }

    async fn correct(&mut self, now_us: i64) {
        self.corrections += 1;
        let device = u32::try_from(self.dice.below(self.shape.devices as usize)).unwrap();
        let track = 100 + self.corrections;
        self.tally.corrected += correct(&self.lake, &mut self.writers[1], device, track, now_us).await;
        for key in self.captured.iter_mut().filter(|key| key.device == device) {
            key.at_ns += SHIFT_NS;
        }
    }

    fn trouble(&mut self) -> Fault {
        let refs = || "_repo/refs/heads/main".to_owned();
        let n = 1 + self.dice.below(15) as u64;
        match self.dice.below(40) {
            0 => Fault::CrashBefore(n),
            1 => Fault::CrashAfter(n),
            2 => Fault::FailWrite(n),
            3 => Fault::DropResponse { key: refs(), times: 1 },
            4 => Fault::ExistsAfterOwn { key: refs(), times: 1 },
            5 => Fault::ConflictWithoutObject { key: refs(), times: 2 },
            6 => Fault::Unreachable { key: refs() },
            _ => Fault::None,
        }
    }

    /// History has thinned and garbage is gone: what branches, tags and heads name reads as ever.
    async fn fortnight_later(&mut self) {
        let now_us = START_NS / 1_000 + (self.shape.seconds + 14 * 86_400) * 1_000_000;
        self.aged.set_now(now_us);
        let head = self.lake.resolve("main").await.unwrap();
        self.tally.collected = collect(&self.lake, now_us).await;
        assert!(self.tally.collected > 0, "files that died with their writers are there for ever");
        assert_eq!(self.lake.resolve("main").await.unwrap(), head, "the head moved");
        check(&self.lake, now_us).await;
        self.look(&head).await;
        self.branches.judge(&self.lake).await;
    }

    async fn look(&self, head: &CommitId) {
        for kind in KINDS {
            let table = small(kind).name;
            let (found, _) = rows(&self.lake, head, &table).await;
            assert_all(&table, &found, &self.captured);
        }
        let ledger = self.lake.tables(head).await.unwrap()[&ledger().name].rows;
        assert_eq!(ledger, self.captured.len() as u64, "the ledger counts other rows");
    }

    async fn judge(&mut self) {
        let head = self.lake.resolve("main").await.unwrap();
        self.look(&head).await;
        check(&self.lake, START_NS / 1_000 + self.shape.seconds * 1_000_000).await;
        self.tally.reads += self.readers.look_at_all(&self.lake).await;
        self.branches.judge(&self.lake).await;
        assert!(self.tally.conflicts > 0, "two committers never met: {:?}", self.tally);
        assert!(self.tally.compactions > 0 && self.tally.corrected > 0, "no upkeep: {:?}", self.tally);
        assert!(self.tally.deaths > 0 && self.tally.settled > 0, "nothing went wrong: {:?}", self.tally);
    }
}

/// A row a device in every table, and what the ledger says of it.
pub(crate) fn request(keys: &[Key], time_us: i64) -> CommitRequest {
    let mut appends: Vec<TableAppend> = KINDS
        .iter()
        .map(|kind| TableAppend { spec: small(kind), batches: vec![small_batch(kind, keys).unwrap()] })
        .collect();
    let runs: Vec<(Key, i64)> = keys.iter().map(|key| (*key, 1)).collect();
    appends.push(TableAppend { spec: ledger(), batches: vec![ledger_batch("imu", "imu", &runs).unwrap()] });
    CommitRequest { time_us, appends, ..CommitRequest::default() }
}
