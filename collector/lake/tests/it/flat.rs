//! A commit costs the same however many came before it: in bytes, in requests, and in what it leaves in memory.

use crate::common;

use std::sync::Arc;

use common::{NOON_US, both, imu, imu_rows, name};
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{
    ColumnSpec, ColumnType, CommitRequest, CompactPolicy, CompactScope, Compactor, Lake, LakeWriter, RefName,
    StopFlag, TableAppend,
};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

/// What one commit cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cost {
    objects: u64,
    metadata_bytes: u64,
    list_bytes: u64,
    commit_bytes: u64,
}

struct World {
    disk: Arc<dyn ObjectStore>,
    store: Arc<FaultStore>,
    lake: Lake,
    writer: LakeWriter,
    compactor: Compactor,
}

impl World {
    async fn new() -> World {
        let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
        let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
        let writer = lake.writer(RefName::main(), "test".to_owned());
        World { disk, store, compactor: lake.compactor(), lake, writer }
    }

    async fn size(&self, url: &str) -> u64 {
        let key = url.strip_prefix(self.lake.location()).unwrap().trim_start_matches('/');
        self.disk.head(&object_store::path::Path::parse(key).unwrap()).await.unwrap().size
    }

    async fn commit(&mut self, n: i64) -> Cost {
        self.store.set(Fault::None);
        let done = self.writer.commit(both(n * 2, 2, NOON_US + n * 10_000_000)).await.unwrap();
        assert_eq!(self.store.writes(), done.objects);
        let at = &done.commit.tables[&name("raw.imu")].metadata_location;
        let key = at.strip_prefix(self.lake.location()).unwrap().trim_start_matches('/');
        let bytes = self.disk.get(&object_store::path::Path::parse(key).unwrap()).await.unwrap();
        let bytes = bytes.bytes().await.unwrap();
        let metadata: iceberg::spec::TableMetadata = serde_json::from_slice(&bytes).unwrap();
        assert!(metadata.snapshots().len() <= 20 && metadata.history().len() <= 20);
        assert!(metadata.metadata_log().len() <= 5 && metadata.schemas_iter().len() <= 21);
        let list = metadata.current_snapshot().unwrap().manifest_list().to_owned();
        Cost {
            objects: done.objects,
            metadata_bytes: bytes.len() as u64,
            list_bytes: self.size(&list).await,
            commit_bytes: done.commit.to_bytes().unwrap().len() as u64,
        }
    }

    async fn compact(&mut self, now_us: i64) {
        let policy = CompactPolicy::default();
        let at = self.lake.resolve("main").await.unwrap();
        let survey = self.compactor.survey(&at, &policy, &CompactScope::default(), now_us).await.unwrap();
        let prepared =
            self.lake.prepare_compaction(survey, &policy, &StopFlag::default(), |_, _| ()).await.unwrap();
        self.writer.compact(prepared, now_us).await.unwrap();
    }
}

/// The dearest of a stretch of commits, each part by itself: a merge of manifests falls on some of them.
fn dearest(costs: &[Cost]) -> Cost {
    let most = |of: fn(&Cost) -> u64| costs.iter().map(of).max().unwrap();
    Cost {
        objects: most(|cost| cost.objects),
        metadata_bytes: most(|cost| cost.metadata_bytes),
        list_bytes: most(|cost| cost.list_bytes),
        commit_bytes: most(|cost| cost.commit_bytes),
    }
}

async fn flat(commits: usize, compacted: bool) {
    let mut world = World::new().await;
    let mut costs = Vec::new();
    for n in 0..i64::try_from(commits).unwrap() {
        costs.push(world.commit(n).await);
        if compacted && n % 8 == 7 {
            world.compact(NOON_US + n * 10_000_000).await;
        }
    }
    let (early, late) = (dearest(&costs[60..100]), dearest(&costs[commits - 40..]));
    println!("{commits} commits, compacted {compacted}: early {early:?}, late {late:?}");
    let within = |early: u64, late: u64| late * 10 <= early * 12;
    assert!(late.objects <= early.objects, "{early:?} {late:?}");
    assert!(within(early.metadata_bytes, late.metadata_bytes), "{early:?} {late:?}");
    assert!(within(early.list_bytes, late.list_bytes), "{early:?} {late:?}");
    assert!(within(early.commit_bytes, late.commit_bytes), "{early:?} {late:?}");
}

#[tokio::test]
async fn metadata_flat() {
    flat(300, false).await;
    flat(600, true).await;
}

/// The same over a day and more at the default cadence:
/// `cargo test --release -p headwater-lake --test it -- --ignored --nocapture flat::`
#[tokio::test]
#[ignore = "takes minutes: cargo test --release -p headwater-lake --test it -- --ignored --nocapture flat::"]
async fn metadata_flat_10000() {
    flat(10_000, false).await;
    flat(10_000, true).await;
}

/// A table that grows a column with every commit keeps the schemas its snapshots name, not all it ever had.
#[tokio::test]
async fn schemas_do_not_pile_up() {
    let mut world = World::new().await;
    let mut spec = imu();
    for n in 0..60 {
        spec.columns.push(ColumnSpec::optional(format!("c{n}"), ColumnType::Int));
        let append = TableAppend { spec: spec.clone(), batches: vec![imu_rows(n * 2, 2, NOON_US)] };
        let request = CommitRequest { time_us: NOON_US, appends: vec![append], ..CommitRequest::default() };
        world.writer.commit(request).await.unwrap();
    }
    world.writer.commit(both(1_000, 2, NOON_US)).await.unwrap();
    world.commit(600).await;
    let at = world.lake.resolve("main").await.unwrap();
    assert_eq!(common::count(&world.lake, &at, "raw.imu").await, 124);
}
