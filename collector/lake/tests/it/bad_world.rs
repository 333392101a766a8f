//! Whatever the world does, a typed error names it and the old state stays as it was.

use crate::common;

use std::sync::Arc;
use std::time::Duration;

use common::{NOON_US, both, count};
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{CommitError, Committed, Lake, LakeError, RefName, TroubleKind};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

struct World {
    memory: Arc<InMemory>,
    faults: Arc<FaultStore>,
    lake: Lake,
    old: Committed,
}

async fn world() -> World {
    let memory = Arc::new(InMemory::new());
    let faults = Arc::new(FaultStore::new(Arc::clone(&memory) as Arc<dyn ObjectStore>));
    let lake = testing::init_on(Arc::clone(&faults) as Arc<dyn ObjectStore>).await.unwrap();
    let old = lake.writer(RefName::main(), "test".to_owned()).commit(both(0, 10, NOON_US)).await.unwrap();
    World { memory, faults, lake, old }
}

impl World {
    /// The old state, seen by a new process, and a writer that goes on from it.
    async fn stays_as_it_was(self, why: &str) {
        self.faults.set(Fault::None);
        let lake = testing::open_on(self.memory).await.unwrap();
        let id = lake.resolve("main").await.unwrap();
        assert_eq!((&id, count(&lake, &id, "raw.imu").await), (&self.old.id, 10), "{why}");
        let mut writer = lake.writer(RefName::main(), "next".to_owned());
        let done = writer.commit(both(50, 5, NOON_US + 9)).await.unwrap();
        assert_eq!((done.seq, count(&lake, &done.id, "raw.imu").await), (2, 15), "{why}");
    }

    async fn replace(&self, key: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = Path::from(key);
        let bytes = self.memory.get(&path).await.unwrap().bytes().await.unwrap();
        self.memory.put(&path, PutPayload::from(change(bytes.to_vec()))).await.unwrap();
    }
}

/// The cause at the bottom of a failed commit.
fn cause(error: CommitError) -> LakeError {
    match error {
        CommitError::Failed { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_full_disk_stops_a_commit_and_is_called_so() {
    // At each of its ten writes, the ref entry included.
    for n in 1..=10 {
        let world = world().await;
        world.faults.set(Fault::FullFrom(n));
        let mut writer = world.lake.writer(RefName::main(), "test".to_owned());
        let error = cause(writer.commit(both(10, 10, NOON_US + 1)).await.unwrap_err());
        let LakeError::Trouble { trouble, .. } = &error else { panic!("{n}: {error}") };
        assert_eq!(trouble.kind, TroubleKind::Full);
        assert!(error.to_string().contains("no space is left"), "{error}");
        world.stays_as_it_was("full disk").await;
    }
}

#[tokio::test]
async fn a_store_that_goes_away_half_way_through_a_commit_leaves_the_old_state() {
    for key in ["/data/", "-m.avro", "snap-", ".metadata.json", "_repo/commits"] {
        let world = world().await;
        world.faults.set(Fault::Unreachable { key: key.to_owned() });
        let mut writer = world.lake.writer(RefName::main(), "test".to_owned());
        let error = writer.commit(both(10, 10, NOON_US + 1)).await.unwrap_err();
        assert!(matches!(error, CommitError::Failed { .. }), "{key}: {error}");
        world.stays_as_it_was(key).await;
    }
}

#[tokio::test]
async fn a_busy_store_is_said_to_be_busy_and_a_slow_one_only_takes_longer() {
    let busy = world().await;
    busy.faults.set(Fault::SlowDown { key: "/data/".to_owned(), times: 1 });
    let mut writer = busy.lake.writer(RefName::main(), "test".to_owned());
    let error = cause(writer.commit(both(10, 10, NOON_US + 1)).await.unwrap_err());
    assert!(error.to_string().contains("slow down"), "{error}");
    busy.stays_as_it_was("busy").await;

    let slow = world().await;
    slow.faults.set(Fault::Slow { key: "metadata".to_owned(), delay: Duration::from_millis(5) });
    let mut writer = slow.lake.writer(RefName::main(), "test".to_owned());
    assert_eq!(writer.commit(both(10, 10, NOON_US + 1)).await.unwrap().seq, 2);
}

#[tokio::test]
async fn damaged_and_newer_files_are_told_apart_and_nothing_is_built_on_them() {
    let commit_key = |id: &str| format!("_repo/commits/{}/{id}.json", &id[..2]);

    // Truncated.
    let cut = world().await;
    let key = commit_key(cut.old.id.as_str());
    let whole = cut.memory.get(&Path::from(key.as_str())).await.unwrap().bytes().await.unwrap();
    cut.replace(&key, |bytes| bytes[..bytes.len() / 2].to_vec()).await;
    let error = cut.lake.commit_object(&cut.old.id).await.unwrap_err();
    assert!(matches!(error, LakeError::Corrupt { .. }), "{error}");
    let mut writer = cut.lake.writer(RefName::main(), "test".to_owned());
    let error = cause(writer.commit(both(10, 10, NOON_US + 1)).await.unwrap_err());
    assert!(matches!(error, LakeError::Corrupt { .. }), "{error}");
    cut.replace(&key, |_| whole.to_vec()).await;
    cut.stays_as_it_was("a commit was cut").await;

    // Of a newer form.
    let newer = world().await;
    newer.replace(&key_of(&newer), |_| br#"{"v":7,"shape":"unheard of"}"#.to_vec()).await;
    let error = newer.lake.commit_object(&newer.old.id).await.unwrap_err();
    assert!(matches!(error, LakeError::Newer { found: 7, .. }), "{error}");
    assert!(error.to_string().contains("use the newer build"), "{error}");
    newer
        .replace("_repo/format.json", |_| {
            br#"{"features":[],"hash":"sha256","layout":2,"repo_id":"00000000-0000-0000-0000-000000000000"}"#
                .to_vec()
        })
        .await;
    let error = testing::open_on(Arc::clone(&newer.memory) as Arc<dyn ObjectStore>).await.unwrap_err();
    assert!(matches!(error, LakeError::Format { .. }), "{error}");

    // A table's metadata, cut and flipped.
    for fault in [
        Fault::TruncatedRead { key: ".metadata.json".to_owned() },
        Fault::TruncatedRead { key: ".avro".to_owned() },
        Fault::TruncatedRead { key: "/data/".to_owned() },
    ] {
        let world = world().await;
        world.faults.set(fault.clone());
        let table = common::name("raw.imu");
        let rows = world.lake.scan(&world.old.id, &table, headwater_lake::ScanOptions::default()).await;
        let failed = match rows {
            Err(_) => true,
            Ok(rows) => futures::TryStreamExt::try_collect::<Vec<_>>(rows).await.is_err(),
        };
        assert!(failed, "{fault:?}");
        world.stays_as_it_was("reads are cut").await;
    }
    let flipped = world().await;
    flipped.faults.set(Fault::CorruptRead { key: "_repo/commits".to_owned() });
    let error = flipped.lake.commit_object(&flipped.old.id).await.unwrap_err();
    assert!(matches!(error, LakeError::Corrupt { .. }), "{error}");
    flipped.stays_as_it_was("a bit was flipped").await;
}

fn key_of(world: &World) -> String {
    let id = world.old.id.as_str();
    format!("_repo/commits/{}/{id}.json", &id[..2])
}

#[tokio::test]
async fn every_operation_may_fail_and_the_next_commit_works() {
    for fault in [Fault::FailRead, Fault::FailList, Fault::CrashAt] {
        for n in 1.. {
            let world = world().await;
            world.faults.set(fault(n));
            // A new writer: it reads the head first.
            let mut writer = world.lake.writer(RefName::main(), "test".to_owned());
            let answer = writer.commit(both(10, 10, NOON_US + 1)).await;
            let operations = world.faults.operations();
            world.faults.set(Fault::None);
            let lake = testing::open_on(Arc::clone(&world.memory) as Arc<dyn ObjectStore>).await.unwrap();
            let id = lake.resolve("main").await.unwrap();
            let rows = count(&lake, &id, "raw.imu").await;
            match &answer {
                Ok(done) => assert_eq!((&done.id, rows), (&id, 20)),
                Err(CommitError::Unknown { .. }) => assert!(rows == 10 || rows == 20),
                Err(_) => assert_eq!((&id, rows), (&world.old.id, 10), "{:?}", fault(n)),
            }
            writer.settle().await.unwrap();
            let done = writer.commit(both(90, 5, NOON_US + 2)).await.unwrap();
            let id = lake.resolve("main").await.unwrap();
            assert_eq!(id, done.id);
            assert!(count(&lake, &id, "raw.imu").await >= rows + 5);
            if n > operations {
                assert!(answer.is_ok());
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_listing_that_lags_does_not_hide_a_commit_from_its_writer() {
    let world = world().await;
    world.faults.set(Fault::ListLag);
    let mut writer = world.lake.writer(RefName::main(), "test".to_owned());
    for n in 1..4 {
        let done = writer.commit(both(n * 10, 10, NOON_US + n)).await.unwrap();
        assert_eq!(world.lake.head(&RefName::main()).await.unwrap().unwrap().commit, Some(done.id));
    }
}

#[tokio::test]
async fn a_clock_that_goes_backwards_stops_no_commit_and_loses_none() {
    let world = world().await;
    let mut writer = world.lake.writer(RefName::main(), "test".to_owned());
    for (n, time_us) in
        [NOON_US + 10, NOON_US - 400 * common::DAY_US, 0, NOON_US + common::DAY_US].into_iter().enumerate()
    {
        let request =
            headwater_lake::CommitRequest { time_us, ..both(i64::try_from(n).unwrap() * 10, 10, NOON_US) };
        let done = writer.commit(request).await.unwrap();
        assert_eq!((done.seq, done.commit.time_us), (n as u64 + 2, time_us));
        assert_eq!(count(&world.lake, &done.id, "raw.imu").await, 10 * (n + 2));
    }
}

#[test]
fn names_with_path_tricks_never_become_paths() {
    for bad in [
        "../main",
        "a/../../b",
        "/etc/passwd",
        "..",
        "a/./b",
        "main\0",
        "a\\..\\b",
        "%2e%2e/x",
        "a//b",
        "~",
        "a b",
    ] {
        assert!(RefName::new(bad).is_err(), "{bad:?}");
        assert!(serde_json::from_value::<RefName>(bad.into()).is_err(), "{bad:?}");
    }
}
