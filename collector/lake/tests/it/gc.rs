//! Garbage collection: history thins, garbage goes, nothing that is needed ever does.

use crate::common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use common::{NOON_US, both, count};
use futures::{StreamExt, TryStreamExt};
use headwater_lake::testing::{self, AgedStore, CountingStore, Fault, FaultStore, KeyClass, Verb};
use headwater_lake::{
    CheckOptions, CommitError, CommitId, GRACE_US_MIN, GcOptions, GcReport, Keep, Kind, Lake, LakeError,
    PublishError, RefName, RefOp, RefUpdate, Settle,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use proptest::prelude::*;
use uuid::Uuid;

const S: i64 = 1_000_000;
const HOUR: i64 = 3600 * S;
const DAY: i64 = 24 * HOUR;

struct AtOnce;

#[async_trait]
impl Settle for AtOnce {
    async fn settle(&self, _: Duration) {}
}

struct World {
    disk: Arc<dyn ObjectStore>,
    store: Arc<AgedStore>,
    lake: Lake,
    now_us: i64,
}

impl World {
    async fn new() -> World {
        let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = Arc::new(AgedStore::new(Arc::clone(&disk), NOON_US));
        let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
        World { disk, store, lake, now_us: NOON_US }
    }

    fn pass(&mut self, us: i64) {
        self.now_us += us;
        self.store.set_now(self.now_us);
    }

    async fn commit(&self, name: &RefName, first: i64) -> CommitId {
        let mut writer = self.lake.writer(name.clone(), "test".to_owned());
        writer.commit(both(first, 3, self.now_us)).await.unwrap().id
    }

    fn options(&self) -> GcOptions {
        GcOptions::new(self.now_us, "test".to_owned())
    }

    async fn collect(&self) -> Result<GcReport, LakeError> {
        self.lake.collect_garbage(&self.options(), &AtOnce, &mut |_| {}).await
    }

    async fn objects(&self) -> BTreeSet<String> {
        let listed: Vec<_> = self.disk.list(None).try_collect().await.unwrap();
        listed.into_iter().map(|meta| meta.location.to_string()).collect()
    }

    async fn bytes(&self) -> u64 {
        let listed: Vec<_> = self.disk.list(None).try_collect().await.unwrap();
        listed.into_iter().map(|meta| meta.size).sum()
    }

    fn has(objects: &BTreeSet<String>, id: &CommitId) -> bool {
        objects.contains(&format!("_repo/commits/{}/{id}.json", &id.as_str()[..2]))
    }
}

fn branch(name: &str) -> RefName {
    RefName::new(name).unwrap()
}

async fn delete(lake: &Lake, name: &RefName, time_us: i64) {
    let head = lake.head(name).await.unwrap();
    let update = RefUpdate {
        commit: None,
        op: RefOp::Delete,
        writer: "test".to_owned(),
        write_id: Uuid::new_v4(),
        time_us,
        reason: String::new(),
    };
    lake.refs().publish(name, head.as_ref(), &update).await.unwrap();
}

/// After 7 d hourly states and all tags open, `log` crosses the holes, bytes fall.
#[tokio::test]
async fn history_thinning() {
    let mut world = World::new().await;
    let main = RefName::main();
    let mut commits = Vec::new();
    // Three days of two commits an hour.
    for n in 0..3 * 24 * 2 {
        commits.push(world.commit(&main, n * 3).await);
        world.pass(HOUR / 2);
    }
    let tag = branch("v1");
    // Neither last of its hour nor a head.
    let (tagged, forked) = (&commits[40], &commits[80]);
    world.lake.refs().tag(&tag, tagged, "test", world.now_us).await.unwrap();
    world.lake.branch(&branch("dev"), forked, "test", world.now_us).await.unwrap();
    let on_dev = world.commit(&branch("dev"), 100_000).await;

    let report = world.collect().await.unwrap();
    assert_eq!((report.days_thinned, report.total().objects), (0, 0));
    let before = world.bytes().await;

    world.pass(9 * DAY);
    let latest = world.commit(&main, 200_000).await;
    let full = world.lake.log("main", 10_000).await.unwrap().len();
    assert_eq!(full, commits.len() + 1);
    let dry = GcOptions { dry_run: true, ..world.options() };
    let dry = world.lake.collect_garbage(&dry, &AtOnce, &mut |_| {}).await.unwrap();
    assert_eq!(world.lake.log("main", 10_000).await.unwrap().len(), full);
    let report = world.collect().await.unwrap();
    assert!(report.days_thinned >= 3, "{report:?}");
    assert_eq!((&dry.deleted, dry.commits_kept), (&report.deleted, report.commits_kept));

    let objects = world.objects().await;
    let kept: Vec<bool> = commits.iter().map(|id| World::has(&objects, id)).collect();
    for (n, id) in commits.iter().enumerate() {
        // NOON is a full hour: the second of each hour is its last. The first of all has nothing below.
        let expected = n % 2 == 1 || id == tagged || id == forked;
        assert_eq!(kept[n], expected, "commit {n}");
        if kept[n] {
            assert_eq!(testing::missing(&world.lake, id).await.unwrap(), Vec::<String>::new());
        }
    }
    for id in [&on_dev, &latest, tagged] {
        assert_eq!(testing::missing(&world.lake, id).await.unwrap(), Vec::<String>::new());
    }
    let log = world.lake.log("main", 10_000).await.unwrap();
    let expected: Vec<&CommitId> = [&latest]
        .into_iter()
        .chain(commits.iter().enumerate().rev().filter(|(n, _)| kept[*n]).map(|(_, id)| id))
        .collect();
    assert_eq!(log.iter().map(|commit| &commit.id).collect::<Vec<_>>(), expected);
    // So do both lines from where they part.
    let dev = world.lake.log("dev", 10_000).await.unwrap();
    assert_eq!(dev[1].id, *forked);
    let below = log.iter().position(|commit| commit.id == *forked).unwrap();
    assert_eq!(dev[1..], log[below..]);
    let parents = world.lake.parents_of(&log[below]).await.unwrap();
    assert_eq!(parents, [log[below + 1].id.clone()]);

    let after = world.bytes().await;
    assert!(after * 10 < before * 9, "{before} bytes became {after}");
    // A second run finds nothing, and a year later only the points are left.
    assert_eq!(world.collect().await.unwrap().total().objects, 0);
    world.pass(370 * DAY);
    let newest = world.commit(&main, 300_000).await;
    world.collect().await.unwrap();
    let objects = world.objects().await;
    let left: Vec<&CommitId> = commits.iter().filter(|id| World::has(&objects, id)).collect();
    assert_eq!(left, [tagged, forked]);
    assert_eq!(world.lake.log("main", 10).await.unwrap()[0].id, newest);
    assert_eq!(count(&world.lake, tagged, "raw.imu").await, 41 * 3);
}

#[tokio::test]
async fn clocks_that_disagree_are_refused_and_so_is_a_second_run() {
    let mut world = World::new().await;
    world.commit(&RefName::main(), 0).await;
    let back = GcOptions { now_us: world.now_us - DAY, ..world.options() };
    let error = world.lake.collect_garbage(&back, &AtOnce, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, LakeError::ClockSkew { differ_s: 86_400, .. }), "{error}");
    let hasty = GcOptions { grace_us: GRACE_US_MIN - 1, ..world.options() };
    assert!(matches!(
        world.lake.collect_garbage(&hasty, &AtOnce, &mut |_| {}).await,
        Err(LakeError::Keep { .. })
    ));
    let keep = Keep { reflog_us: HOUR, ..Keep::default() };
    let short = GcOptions { keep, ..world.options() };
    assert!(matches!(
        world.lake.collect_garbage(&short, &AtOnce, &mut |_| {}).await,
        Err(LakeError::Keep { .. })
    ));

    // A run that begins while another settles.
    struct Second(Lake, GcOptions, Mutex<Option<LakeError>>);
    #[async_trait]
    impl Settle for Second {
        async fn settle(&self, _: Duration) {
            let second = self.0.collect_garbage(&self.1, &AtOnce, &mut |_| {}).await;
            *self.2.lock().unwrap() = second.err();
        }
    }
    let second = Second(world.lake.clone(), world.options(), Mutex::new(None));
    world.lake.collect_garbage(&world.options(), &second, &mut |_| {}).await.unwrap();
    let refused = second.2.lock().unwrap().take().unwrap();
    assert!(matches!(refused, LakeError::Collecting { .. }), "{refused}");
    world.pass(S);
    world.collect().await.unwrap();
}

/// Power goes at every single operation of a run: nothing needed is lost, and the next run ends the work.
#[tokio::test]
async fn a_run_killed_at_every_operation_loses_nothing() {
    for n in 0.. {
        let mut world = World::new().await;
        let main = RefName::main();
        world.commit(&main, 0).await;
        let dev = branch("dev");
        world.lake.branch(&dev, &world.lake.resolve("main").await.unwrap(), "t", world.now_us).await.unwrap();
        let gone = world.commit(&dev, 50).await;
        delete(&world.lake, &dev, world.now_us).await;
        world.pass(8 * DAY);
        let kept = world.commit(&main, 100).await;
        world.store.power_for(n);
        let run = world.collect().await;
        let operations = world.store.operations();
        world.store.power_for(u64::MAX);
        assert_eq!(count(&world.lake, &kept, "raw.imu").await, 6, "after {n} operations");
        // The lease of the dead run runs out.
        world.pass(3 * HOUR);
        world.collect().await.unwrap();
        assert!(!World::has(&world.objects().await, &gone));
        assert_eq!(count(&world.lake, &kept, "raw.imu").await, 6);
        if operations <= n {
            assert!(run.unwrap().total().objects > 0);
            assert!(n > 20, "{n} operations are too few for a run");
            break;
        }
        assert!(run.is_err());
    }
}

/// A blob nobody names any more is about to go when somebody names it again.
#[tokio::test]
async fn a_blob_used_again_stays() {
    let mut world = World::new().await;
    world.commit(&RefName::main(), 0).await;
    let bytes = bytes::Bytes::from_static(b"picture");
    let hash = "4edb0f4ba46dee9e3d63f7c32b31b1a2bd3cd3fa8ba2ac4c1a3dcb37d12f1cf3";
    let error = world.lake.put_blob(hash, bytes.clone()).await.unwrap_err().to_string();
    let hash = error.rsplit(' ').next().unwrap();
    let key = world.lake.put_blob(hash, bytes.clone()).await.unwrap();
    world.pass(4 * DAY);

    struct Again(Lake, String, Mutex<Option<LakeError>>);
    #[async_trait]
    impl Settle for Again {
        async fn settle(&self, _: Duration) {
            let bytes = bytes::Bytes::from_static(b"picture");
            *self.2.lock().unwrap() = self.0.put_blob(&self.1, bytes).await.err();
        }
    }
    let again = Again(world.lake.clone(), hash.to_owned(), Mutex::new(None));
    world.lake.collect_garbage(&world.options(), &again, &mut |_| {}).await.unwrap();
    // It was told to wait, and was spared as well.
    let told = again.2.lock().unwrap().take().unwrap();
    assert!(matches!(told, LakeError::Condemned { .. }), "{told}");
    assert!(world.objects().await.contains(&key));
    world.lake.put_blob(hash, bytes).await.unwrap();
    world.pass(4 * DAY);
    let report = world.collect().await.unwrap();
    assert_eq!(report.deleted[&Kind::Blob].objects, 1);
    assert!(!world.objects().await.contains(&key));
}

/// A branch that was staged, judged and deleted leaves nothing for ever; one that people named keeps its log.
#[tokio::test]
async fn logs_of_single_use_refs_go_whole() {
    let mut world = World::new().await;
    let id = world.commit(&RefName::main(), 0).await;
    let names = ["wap/01j9x", "quarantine/01j9y", "exp"].map(|name| RefName::new(name).unwrap());
    for name in &names {
        world.lake.branch(name, &id, "test", world.now_us).await.unwrap();
        world.lake.delete_branch(name, "test", world.now_us, "judged").await.unwrap();
    }
    world.collect().await.unwrap();
    for name in &names {
        assert_eq!(world.lake.refs().history(name, 9).await.unwrap().len(), 2, "{name}");
    }
    world.pass(8 * DAY);
    world.collect().await.unwrap();
    let lake = testing::open_on(Arc::clone(&world.store) as Arc<dyn ObjectStore>).await.unwrap();
    let left = futures::future::join_all(names.iter().map(|name| lake.refs().history(name, 9))).await;
    let left: Vec<usize> = left.into_iter().map(|history| history.unwrap().len()).collect();
    assert_eq!(left, [0, 0, 2]);
}

/// A log is pruned from its old end, never below its newest hundred, and what stays is gapless.
#[tokio::test]
async fn old_ref_entries_are_pruned() {
    let mut world = World::new().await;
    let main = RefName::main();
    let id = world.commit(&main, 0).await;
    let mut head = world.lake.head(&main).await.unwrap();
    for n in 0..149 {
        let update = RefUpdate {
            commit: Some(id.clone()),
            op: RefOp::Ff,
            writer: format!("w{n}"),
            write_id: Uuid::new_v4(),
            time_us: world.now_us,
            reason: String::new(),
        };
        head = Some(world.lake.refs().publish(&main, head.as_ref(), &update).await.unwrap());
    }
    assert_eq!(world.collect().await.unwrap().entries_pruned, 0);
    world.pass(8 * DAY);
    // What came within a day of the head stays, however old both are: its writer may sleep.
    assert_eq!(world.collect().await.unwrap().entries_pruned, 0);
    world.commit(&main, 1).await;
    let head = world.lake.head(&main).await.unwrap();
    assert_eq!(world.collect().await.unwrap().entries_pruned, 51);
    // As a new process sees it: one that knows nothing of the log yet.
    let lake = testing::open_on(Arc::clone(&world.store) as Arc<dyn ObjectStore>).await.unwrap();
    let history = lake.refs().history(&main, 1000).await.unwrap();
    assert_eq!((history.len(), history[0].seq, history[99].seq), (100, 151, 52));
    assert_eq!(lake.head(&main).await.unwrap(), head);
    let options = CheckOptions { now_us: world.now_us, keep: Keep::default(), checksums: false };
    let report = lake.check(&options, &mut |_| {}).await.unwrap();
    assert_eq!(report.findings, []);
}

/// Leftovers of writes that were cut short on a disk: no listing shows them, and they go when they are old.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "files on a disk have the host's time")]
async fn leftovers_on_a_disk_go() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::init(folder.path().to_str().unwrap()).await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(both(0, 3, NOON_US)).await.unwrap();
    let now = std::time::SystemTime::now();
    let leave = |name: &str, days: u64| {
        let path = folder.path().join("t").join(name);
        std::fs::write(&path, "half").unwrap();
        let old = std::fs::File::options().write(true).open(&path).unwrap();
        old.set_modified(now - Duration::from_secs(days * 86_400)).unwrap();
        path
    };
    let (old, young) = (leave("a.parquet#12", 4), leave("b.parquet#1", 1));
    let now_us = i64::try_from(now.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let options = CheckOptions { now_us, keep: Keep::default(), checksums: true };
    let report = lake.check(&options, &mut |_| {}).await.unwrap();
    assert_eq!((report.leftovers.objects, report.is_sound()), (2, true));
    let options = GcOptions::new(now_us, "test".to_owned());
    let swept = lake.collect_garbage(&options, &AtOnce, &mut |_| {}).await.unwrap();
    assert_eq!((swept.deleted[&Kind::Staging].objects, swept.deleted[&Kind::Staging].bytes), (1, 4));
    assert!(!old.exists() && young.exists());
}

#[derive(Debug, Clone)]
enum Step {
    Commit(u8),
    Branch(u8, u8),
    Delete(u8),
    Tag(u8),
    Pass(u8),
    Collect,
    /// A run during whose settling a branch is made at some old commit.
    CollectAgainst(u8, u8),
    /// A run that ends after so many operations.
    CollectUntil(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..3).prop_map(Step::Commit),
        2 => (0u8..3, any::<u8>()).prop_map(|(name, at)| Step::Branch(name, at)),
        1 => (1u8..3).prop_map(Step::Delete),
        1 => any::<u8>().prop_map(Step::Tag),
        4 => (0u8..60).prop_map(Step::Pass),
        2 => Just(Step::Collect),
        2 => (0u8..3, any::<u8>()).prop_map(|(name, at)| Step::CollectAgainst(name, at)),
        2 => any::<u8>().prop_map(Step::CollectUntil),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What was made: heads, tags and what was a head lately must be whole.
#[derive(Debug, Default)]
struct Model {
    made: Vec<CommitId>,
    tags: Vec<CommitId>,
    /// Every commit that stood at a ref's head, and when it came there.
    stood: Vec<(CommitId, i64)>,
}

struct Against(Lake, RefName, CommitId, i64, Mutex<Option<bool>>);

#[async_trait]
impl Settle for Against {
    async fn settle(&self, _: Duration) {
        let made = self.0.branch(&self.1, &self.2, "racer", self.3).await;
        let made = match made {
            Ok(_) => true,
            Err(PublishError::Conflict(_) | PublishError::Failed(_)) => false,
            Err(e) => panic!("{e}"),
        };
        self.4.lock().unwrap().get_or_insert(made);
    }
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::new().await;
    let names = [RefName::main(), branch("dev"), branch("wap/a")];
    let mut model = Model::default();
    let mut rows = 0;
    for step in steps {
        match step {
            Step::Commit(name) => {
                let name = &names[usize::from(name)];
                // A deleted branch begins anew, without its past.
                let id = world.commit(name, rows).await;
                rows += 3;
                model.made.push(id.clone());
                model.stood.push((id, world.now_us));
            }
            Step::Branch(name, at) if !model.made.is_empty() => {
                let id = model.made[usize::from(at) % model.made.len()].clone();
                let name = &names[usize::from(name)];
                if world.lake.branch(name, &id, "t", world.now_us).await.is_ok() {
                    model.stood.push((id, world.now_us));
                }
            }
            Step::Delete(name) => {
                let name = &names[usize::from(name)];
                if world.lake.head(name).await.unwrap().is_some_and(|head| head.commit.is_some()) {
                    delete(&world.lake, name, world.now_us).await;
                }
            }
            Step::Tag(at) if !model.made.is_empty() => {
                let id = model.made[usize::from(at) % model.made.len()].clone();
                let tag = branch(&format!("t{at}"));
                if world.lake.commit_object(&id).await.is_ok()
                    && world.lake.refs().tag(&tag, &id, "t", world.now_us).await.is_ok()
                {
                    model.tags.push(id);
                }
            }
            Step::Branch(..) | Step::Tag(_) => {}
            Step::Pass(hours) => world.pass(i64::from(hours) * HOUR + 1),
            Step::Collect => {
                world.collect().await.unwrap();
            }
            Step::CollectAgainst(name, at) => {
                let Some(id) = model.made.get(usize::from(at) % model.made.len().max(1)).cloned() else {
                    continue;
                };
                let racer = Against(
                    world.lake.clone(),
                    names[usize::from(name)].clone(),
                    id.clone(),
                    world.now_us,
                    Mutex::new(None),
                );
                world.lake.collect_garbage(&world.options(), &racer, &mut |_| {}).await.unwrap();
                if *racer.4.lock().unwrap() == Some(true) {
                    model.stood.push((id, world.now_us));
                }
            }
            Step::CollectUntil(operations) => {
                world.store.power_for(u64::from(operations));
                let crashed = world.collect().await.is_err();
                world.store.power_for(u64::MAX);
                if crashed {
                    world.pass(3 * HOUR);
                }
            }
        }
        check(&world, &names, &model).await?;
    }
    // In the end everything that is not needed goes: all refs but the main one are deleted, and time passes.
    for name in &names[1..] {
        if world.lake.head(name).await.unwrap().is_some_and(|head| head.commit.is_some()) {
            delete(&world.lake, name, world.now_us).await;
        }
    }
    world.pass(500 * DAY);
    world.collect().await.unwrap();
    check(&world, &names, &model).await?;
    let head = world.lake.head(&names[0]).await.unwrap().and_then(|head| head.commit);
    let line: BTreeSet<CommitId> = match &head {
        Some(head) => {
            world.lake.log(head.as_str(), 1000).await.unwrap().into_iter().map(|commit| commit.id).collect()
        }
        None => BTreeSet::new(),
    };
    let objects = world.objects().await;
    let left = model.made.iter().filter(|id| World::has(&objects, id)).count();
    let needed = model.made.iter().filter(|id| model.tags.contains(id) || line.contains(id)).count();
    prop_assert_eq!(left, needed);
    prop_assert_eq!(world.collect().await.unwrap().total().objects, 0);
    Ok(())
}

async fn check(world: &World, names: &[RefName], model: &Model) -> Result<(), TestCaseError> {
    let mut needed: Vec<CommitId> = model.tags.clone();
    for name in names {
        needed.extend(world.lake.head(name).await.unwrap().and_then(|head| head.commit));
    }
    let young = |at: &i64| world.now_us - at < 7 * DAY;
    needed.extend(model.stood.iter().filter(|(_, at)| young(at)).map(|(id, _)| id.clone()));
    for id in needed {
        let gone = testing::missing(&world.lake, &id).await;
        prop_assert!(gone.as_ref().is_ok_and(Vec::is_empty), "{id} misses {gone:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Refs, tags, commits and runs in any order, runs racing branches and dying at any operation: what is needed can
    /// always be read, and what is not goes in the end.
    #[test]
    fn gc_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(play(steps))?;
    }
}

/// What a run over 100 000 files takes, in memory and on disk: a head's files stay, the rest is garbage.
/// `cargo test --release -p headwater-lake --test it -- --ignored --nocapture gc::gc_of_100_000_files`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test --release -p headwater-lake --test it -- --ignored --nocapture gc::"]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
async fn gc_of_100_000_files() {
    const FILES: usize = 100_000;
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_micros()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let disk: Arc<dyn ObjectStore> =
        Arc::new(object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    for (place, below) in [("memory", memory), ("disk", disk)] {
        let store = Arc::new(AgedStore::new(Arc::clone(&below), now() - 8 * DAY));
        let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
        let mut writer = lake.writer(RefName::main(), "test".to_owned());
        for n in 0..500 {
            writer.commit(both(n * 3, 3, now() - 8 * DAY)).await.unwrap();
        }
        for n in 0..FILES {
            let key = format!("t/raw/imu-{:08x}/data/ts_day=2026-01-01/{n:032x}.parquet", n % 16);
            store
                .put_opts(
                    &object_store::path::Path::parse(key).unwrap(),
                    object_store::PutPayload::from_static(b"garbage"),
                    object_store::PutOptions::default(),
                )
                .await
                .unwrap();
        }
        store.set_now(now());
        let begun = std::time::Instant::now();
        let mut swept = None;
        let report = lake
            .collect_garbage(&GcOptions::new(now(), "test".to_owned()), &AtOnce, &mut |progress| {
                if matches!(progress, headwater_lake::GcProgress::Settling) {
                    swept = Some(begun.elapsed());
                }
            })
            .await
            .unwrap();
        assert!(report.deleted[&Kind::Data].objects >= FILES as u64);
        println!(
            "{place}: {} objects kept, {} deleted; mark and list {:.2?}, all {:.2?}",
            report.objects_kept,
            report.total().objects,
            swept.unwrap(),
            begun.elapsed()
        );
    }
}

/// A writer that slept until both its entry and the days around its commit were thinned is told so and goes on; it used
/// to stay in doubt until its process ended.
#[tokio::test]
async fn a_writer_that_slept_through_thinning_goes_on() {
    // Its commit is the last of its hour and kept; or thinned away; or it never was.
    for (applied, last_of_hour) in [(true, true), (true, false), (false, false)] {
        let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = Arc::new(AgedStore::new(Arc::clone(&disk), NOON_US));
        let faults = Arc::new(FaultStore::new(Arc::clone(&store) as Arc<dyn ObjectStore>));
        let lake = testing::init_on(Arc::clone(&faults) as Arc<dyn ObjectStore>).await.unwrap();
        let mut world = World { disk, store, lake, now_us: NOON_US };
        // NOON is a full hour.
        world.pass(if last_of_hour { HOUR * 11 / 12 } else { HOUR / 12 });
        let main = RefName::main();
        let mut sleeper = world.lake.writer(main.clone(), "sleeper".to_owned());
        sleeper.commit(both(0, 3, world.now_us)).await.unwrap();
        // Soon enough to commit on the head it knows.
        world.pass(HOUR / 15);
        let heads = "_repo/refs/heads".to_owned();
        faults.set(match applied {
            true => Fault::Unreachable { key: heads },
            false => Fault::SlowDown { key: heads, times: 99 },
        });
        let doubt = sleeper.commit(both(3, 3, world.now_us)).await.unwrap_err();
        assert!(matches!(doubt, CommitError::Unknown { seq: 2, .. }), "{doubt:?}");
        faults.set(Fault::None);
        // More entries than a log keeps, then days without any, and a run.
        for n in 1..=120 {
            world.pass(HOUR / 4);
            world.commit(&main, n * 3 + 3).await;
        }
        world.pass(9 * DAY);
        let newest = world.commit(&main, 10_000).await;
        let report = world.collect().await.unwrap();
        assert!(report.days_thinned > 0 && report.entries_pruned > 2, "{report:?}");

        match sleeper.settle().await {
            Ok(Some(done)) => assert!(last_of_hour && done.seq == 2),
            Err(CommitError::Failed { source: LakeError::Overtaken { found, .. }, .. }) => {
                assert!(!last_of_hour && found == newest);
            }
            other => panic!("{applied} {last_of_hour}: {other:?}"),
        }
        let done = sleeper.commit(both(20_000, 3, world.now_us)).await.unwrap();
        assert_eq!(done.commit.parents, [newest]);
    }
}

/// What a run asks of a far store: of refs many at once and a few requests each, and files go a thousand a request.
#[tokio::test]
async fn a_far_store_is_asked_side_by_side() {
    const REFS: usize = 200;
    const FILES: usize = 8_000;
    for refs in [1, REFS] {
        let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let aged = Arc::new(AgedStore::new(Arc::clone(&disk), NOON_US));
        let below = Arc::clone(&aged) as Arc<dyn ObjectStore>;
        let store = Arc::new(CountingStore::new(below));
        let lake = testing::init_counted(Arc::clone(&store)).await.unwrap();
        let mut world = World { disk, store: aged, lake, now_us: NOON_US };
        let tip = world.commit(&RefName::main(), 0).await;
        for n in 0..refs {
            world.lake.branch(&branch(&format!("exp/{n}")), &tip, "test", world.now_us).await.unwrap();
            world.lake.tag(&branch(&format!("v{n}")), &tip, "test", world.now_us).await.unwrap();
            let staged = branch(&format!("wap/{n}"));
            world.lake.branch(&staged, &tip, "test", world.now_us).await.unwrap();
            world.lake.drop_ref(&staged, None, "test", world.now_us, "judged").await.unwrap();
        }
        for n in 0..FILES {
            let key = format!("t/raw/imu-{:08x}/data/ts_day=2026-01-01/{n:032x}.parquet", n % 16);
            let path = object_store::path::Path::parse(key).unwrap();
            let put = object_store::PutPayload::from_static(b"garbage");
            world.store.put_opts(&path, put, object_store::PutOptions::default()).await.unwrap();
        }
        world.pass(9 * DAY);
        store.reset();
        let report = world.collect().await.unwrap();
        let seen = store.reset();
        assert_eq!(report.deleted[&Kind::Data].objects, FILES as u64);
        assert_eq!(report.entries_pruned, 2 * refs as u64, "staging branches went whole");
        let of = |class| seen.by_kind.get(&(Verb::Delete, class)).copied().unwrap_or(0);
        assert_eq!(of(KeyClass::Data), FILES.div_ceil(1000) as u64);
        // Logs of a branch and of a staging branch are listed, read, looked at again and pruned; a tag is read twice.
        assert!(seen.total() < 100 + 26 * refs as u64, "{seen:?}");
        assert!(refs == 1 || seen.at_once >= 30, "{seen:?}");
    }
}

/// A staging branch begins at a commit of its branch; gone again it does not keep that commit for ever.
#[tokio::test]
async fn forks_of_staging_branches_that_are_gone_are_thinned_with_their_day() {
    let mut world = World::new().await;
    let main = RefName::main();
    let mut forks = Vec::new();
    for n in 0..24 * 4 {
        let fork = world.commit(&main, n * 3).await;
        let staged = branch(&format!("wap/{n}"));
        world.lake.branch(&staged, &fork, "test", world.now_us).await.unwrap();
        world.lake.drop_ref(&staged, Some(&fork), "test", world.now_us, "judged").await.unwrap();
        forks.push(fork);
        world.pass(HOUR / 4);
    }
    let held = branch("quarantine/1");
    world.lake.branch(&held, &forks[40], "test", world.now_us).await.unwrap();
    // History in full is shorter than ref logs.
    let keep = Keep { full_us: DAY, ..Keep::default() };
    let collect = async |world: &World| {
        let options = GcOptions { keep, ..world.options() };
        world.lake.collect_garbage(&options, &AtOnce, &mut |_| {}).await.unwrap()
    };
    world.pass(4 * DAY);
    world.commit(&main, 10_000).await;
    assert!(collect(&world).await.days_thinned > 0);
    let there = async |world: &World| {
        let objects = world.objects().await;
        forks.iter().filter(|id| World::has(&objects, id)).count()
    };
    assert_eq!(there(&world).await, forks.len(), "young entries of ref logs keep what they name");
    world.pass(8 * DAY);
    world.commit(&main, 20_000).await;
    collect(&world).await;
    // The last of each hour, and where a branch begins that is still there: main, and what is held.
    let objects = world.objects().await;
    let left: Vec<usize> = (0..forks.len()).filter(|n| World::has(&objects, &forks[*n])).collect();
    let expected: Vec<usize> = (0..forks.len()).filter(|n| n % 4 == 3 || [0, 40].contains(n)).collect();
    assert_eq!(left, expected);
    assert_eq!(world.lake.log("main", 1_000).await.unwrap().len(), expected.len() + 2);
}

/// What a run takes at a store that answers after 30 ms: a thousand branches and tags, 20 000 files.
/// `cargo test --release -p headwater-lake --test it -- --ignored --nocapture gc::far`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test --release -p headwater-lake --test it -- --ignored --nocapture gc::far"]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
async fn gc_at_a_far_store() {
    for (refs, files) in [(1, 1_000), (1_000, 1_000), (1, 20_000)] {
        let aged = Arc::new(AgedStore::new(Arc::new(InMemory::new()), NOON_US));
        let near = testing::init_on(Arc::clone(&aged) as Arc<dyn ObjectStore>).await.unwrap();
        let tip =
            near.writer(RefName::main(), "test".to_owned()).commit(both(0, 3, NOON_US)).await.unwrap().id;
        for n in 0..refs {
            near.branch(&branch(&format!("exp/{n}")), &tip, "test", NOON_US).await.unwrap();
            near.tag(&branch(&format!("v{n}")), &tip, "test", NOON_US).await.unwrap();
        }
        for n in 0..files {
            let key = format!("t/raw/imu-{:08x}/data/ts_day=2026-01-01/{n:032x}.parquet", n % 16);
            let path = object_store::path::Path::parse(key).unwrap();
            let put = object_store::PutPayload::from_static(b"garbage");
            aged.put_opts(&path, put, object_store::PutOptions::default()).await.unwrap();
        }
        let now_us = NOON_US + 9 * DAY;
        aged.set_now(now_us);
        let below = Arc::clone(&aged) as Arc<dyn ObjectStore>;
        let store = Arc::new(CountingStore::with_latency(below, Duration::from_millis(30)));
        let lake = testing::init_counted(Arc::clone(&store)).await.unwrap();
        store.reset();
        let begun = std::time::Instant::now();
        let options = GcOptions::new(now_us, "test".to_owned());
        let report = lake.collect_garbage(&options, &AtOnce, &mut |_| {}).await.unwrap();
        let seen = store.reset();
        println!(
            "30 ms away, {refs} branches and tags, {} files deleted: {:.2?}, {} requests, {} at once",
            report.total().objects,
            begun.elapsed(),
            seen.total(),
            seen.at_once
        );
    }
}

/// What a run takes on S3 as moto speaks it: `cargo test --release -p headwater-lake --test it -- --ignored --nocapture gc::bucket`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test --release -p headwater-lake --test it -- --ignored --nocapture gc::bucket"]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
async fn gc_of_10_000_files_in_a_bucket() {
    const FILES: usize = 10_000;
    let Some(moto) = testing::Moto::start().await else { return };
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_micros()).unwrap()
    };
    let store = Arc::new(AgedStore::new(moto.objects().unwrap(), now() - 8 * DAY));
    let counted = Arc::new(CountingStore::new(Arc::clone(&store) as Arc<dyn ObjectStore>));
    let lake = testing::init_on(Arc::clone(&counted) as Arc<dyn ObjectStore>).await.unwrap();
    lake.writer(RefName::main(), "test".to_owned()).commit(both(0, 3, now() - 8 * DAY)).await.unwrap();
    let puts = (0..FILES).map(|n| {
        let key = format!("t/raw/imu-{:08x}/data/ts_day=2026-01-01/{n:032x}.parquet", n % 16);
        let (path, store) = (object_store::path::Path::parse(key).unwrap(), Arc::clone(&store));
        async move {
            let put = object_store::PutPayload::from_static(b"garbage");
            store.put_opts(&path, put, object_store::PutOptions::default()).await.unwrap();
        }
    });
    futures::stream::iter(puts).buffer_unordered(16).collect::<Vec<()>>().await;
    store.set_now(now());
    counted.reset();
    let begun = std::time::Instant::now();
    let options = GcOptions::new(now(), "test".to_owned());
    let report = lake.collect_garbage(&options, &AtOnce, &mut |_| {}).await.unwrap();
    let seen = counted.reset();
    assert_eq!(report.deleted[&Kind::Data].objects, FILES as u64);
    assert_eq!(seen.of(Verb::Delete), 10 + 2, "files, condemned lists, older leases: {seen:?}");
    println!(
        "bucket: {FILES} files deleted in {:.2?}, {} requests, {} round trips",
        begun.elapsed(),
        seen.total(),
        seen.waves
    );
}
