//! The check finds each kind of damage and nothing on a good lake; the repair mends what can be mended.

use crate::common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::{NOON_US, both, count, read};
use futures::TryStreamExt;
use headwater_lake::testing;
use headwater_lake::{
    CheckOptions, CheckReport, CommitId, CommitKind, CommitRequest, GcOptions, Keep, Kind, Lake, LakeError,
    LandingCursor, LandingPosition, Problem, RefName, Repair, Severity,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

struct World {
    disk: Arc<dyn ObjectStore>,
    lake: Lake,
    commits: Vec<CommitId>,
}

impl World {
    async fn new() -> World {
        let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let lake = testing::init_on(Arc::clone(&disk)).await.unwrap();
        let mut writer = lake.writer(RefName::main(), "test".to_owned());
        let mut commits = Vec::new();
        for n in 0..4 {
            commits.push(writer.commit(both(n * 10, 10, NOON_US + n)).await.unwrap().id);
        }
        World { disk, lake, commits }
    }

    fn options(checksums: bool) -> CheckOptions {
        CheckOptions { now_us: NOON_US + 10, keep: Keep::default(), checksums }
    }

    async fn check(&self, checksums: bool) -> CheckReport {
        // As a new process sees it.
        let lake = testing::open_on(Arc::clone(&self.disk)).await.unwrap();
        lake.check(&World::options(checksums), &mut |_| {}).await.unwrap()
    }

    async fn keys(&self, part: &str) -> Vec<String> {
        let listed: Vec<_> = self.disk.list(None).try_collect().await.unwrap();
        let keys = listed.into_iter().map(|meta| meta.location.to_string());
        let mut keys: Vec<String> = keys.filter(|key| key.contains(part)).collect();
        keys.sort();
        keys
    }

    async fn get(&self, key: &str) -> Vec<u8> {
        self.disk.get(&Path::parse(key).unwrap()).await.unwrap().bytes().await.unwrap().to_vec()
    }

    async fn put(&self, key: &str, bytes: Vec<u8>) {
        self.disk.put(&Path::parse(key).unwrap(), PutPayload::from(Bytes::from(bytes))).await.unwrap();
    }

    async fn remove(&self, key: &str) {
        self.disk.delete(&Path::parse(key).unwrap()).await.unwrap();
    }

    /// The newest metadata of a table, its manifest list and one manifest.
    async fn metadata(&self, n: usize) -> String {
        let tables = self.lake.tables(&self.commits[n]).await.unwrap();
        tables[&common::name("raw.imu")].metadata_location.strip_prefix("memory:///lake/").unwrap().to_owned()
    }
}

fn commit_key(id: &CommitId) -> String {
    format!("_repo/commits/{}/{id}.json", &id.as_str()[..2])
}

fn found(report: &CheckReport) -> Vec<(Problem, Kind)> {
    report.findings.iter().map(|finding| (finding.problem, finding.kind)).collect()
}

#[tokio::test]
async fn a_good_lake_has_no_findings() {
    let world = World::new().await;
    let first = world.lake.commit_object(&world.commits[0]).await.unwrap().id;
    world.lake.branch(&RefName::new("dev").unwrap(), &first, "t", NOON_US).await.unwrap();
    world.lake.refs().tag(&RefName::new("v1").unwrap(), &first, "t", NOON_US).await.unwrap();
    for checksums in [false, true] {
        let report = world.check(checksums).await;
        assert_eq!(report.findings, []);
        assert!(report.is_sound());
        assert_eq!((report.refs, report.tags, report.orphans.objects), (2, 1, 0));
        assert_eq!(report.reachable[&Kind::Commit].objects, 4);
        assert_eq!(report.reachable[&Kind::Data].objects, 8);
    }
    world.put("t/raw/imu-00000000/data/orphan.parquet", vec![1, 2, 3]).await;
    let report = world.check(false).await;
    assert_eq!((report.orphans.objects, report.orphans.bytes, report.is_sound()), (1, 3, true));
}

#[tokio::test]
async fn each_kind_of_damage_is_found() {
    // Each breaks one thing and says what must be found, without and with checksums.
    type Expected = Vec<(Problem, Kind)>;
    async fn both_ways(world: &World, expected: Expected, with_checksums: Expected) {
        for (checksums, expected) in [(false, expected), (true, with_checksums)] {
            let report = world.check(checksums).await;
            let mut kinds = found(&report);
            kinds.dedup();
            assert_eq!(kinds, expected, "{:?}", report.findings);
            assert_eq!(report.is_sound(), expected.is_empty());
        }
    }
    let same = |problem, kind| (vec![(problem, kind)], vec![(problem, kind)]);

    let world = World::new().await;
    world.remove(&world.keys("/data/").await[0]).await;
    let (without, with) = same(Problem::Missing, Kind::Data);
    both_ways(&world, without, with).await;

    let world = World::new().await;
    let metadata = world.metadata(3).await;
    let bytes = world.get(&metadata).await;
    world.put(&metadata, bytes[..bytes.len() / 2].to_vec()).await;
    let (without, with) = same(Problem::Unreadable, Kind::Metadata);
    both_ways(&world, without, with).await;

    // A flipped byte in a manifest: in the name of a file, and where its form is said.
    for (within, problem, kind) in [
        (&b".parquet"[..], Problem::Missing, Kind::Data),
        (&b"avro.schema"[..], Problem::Unreadable, Kind::Manifest),
    ] {
        let world = World::new().await;
        let manifests = world.keys("/metadata/").await;
        let is_manifest = |key: &&String| key.ends_with(".avro") && !key.contains("/snap-");
        let manifest = manifests.iter().find(is_manifest).unwrap();
        let mut bytes = world.get(manifest).await;
        let at = bytes.windows(within.len()).position(|bytes| bytes == within).unwrap();
        bytes[at - 1] ^= 1;
        world.put(manifest, bytes).await;
        let (without, with) = same(problem, kind);
        both_ways(&world, without, with).await;
    }

    let world = World::new().await;
    world.remove(&commit_key(&world.commits[1])).await;
    let (without, with) = same(Problem::Missing, Kind::Commit);
    both_ways(&world, without, with).await;

    let world = World::new().await;
    let key = commit_key(&world.commits[2]);
    let text = String::from_utf8(world.get(&key).await).unwrap();
    world.put(&key, text.replace("rows 20..30", "rows 20..31").into_bytes()).await;
    let (without, with) = same(Problem::Unreadable, Kind::Commit);
    both_ways(&world, without, with).await;

    let world = World::new().await;
    world.remove(&world.keys("refs/heads/main").await[1]).await;
    let (without, with) = same(Problem::LogGap, Kind::RefEntry);
    both_ways(&world, without, with).await;

    let world = World::new().await;
    let entry = &world.keys("refs/heads/main").await[1];
    world.put(entry, b"{}".to_vec()).await;
    let report = world.check(false).await;
    assert!(found(&report).contains(&(Problem::Unreadable, Kind::RefEntry)));

    // The same number of bytes, other bytes: only reading finds it.
    let world = World::new().await;
    let file = &world.keys("/data/").await[0];
    let mut bytes = world.get(file).await;
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    world.put(file, bytes.clone()).await;
    both_ways(&world, vec![], vec![(Problem::Unreadable, Kind::Data)]).await;
    bytes.push(0);
    world.put(file, bytes).await;
    let (without, with) = same(Problem::WrongSize, Kind::Data);
    both_ways(&world, without, with).await;
}

/// A commit that says other rows than its manifests, and one of a newer form.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the store in memory takes its time from the host")]
async fn wrong_counts_and_newer_forms_are_told_apart() {
    let world = World::new().await;
    let lying = world.lake.commit_object(&world.commits[3]).await.unwrap();
    let mut tables = lying.tables.clone();
    tables.get_mut(&common::name("raw.imu")).unwrap().rows = 41;
    let lying =
        headwater_lake::CommitObject { tables, parents: lying.parents.clone(), ..lying }.seal().unwrap();
    world.put(&commit_key(&lying.id), lying.to_bytes().unwrap()).await;
    world.lake.branch(&RefName::new("lying").unwrap(), &lying.id, "t", NOON_US).await.unwrap();
    // Two commits pin one metadata and say different things of it: whichever is looked at second is told of.
    let kinds = found(&world.check(false).await);
    assert!(kinds.contains(&(Problem::WrongEntry, Kind::Commit)), "{kinds:?}");
    // Alone it is held against the manifests.
    world.remove(&world.keys("refs/heads/main").await[0]).await;
    let kinds = found(&world.check(false).await);
    assert!(kinds.contains(&(Problem::WrongCount, Kind::ManifestList)), "{kinds:?}");

    let world = World::new().await;
    let key = commit_key(&world.commits[3]);
    let text = String::from_utf8(world.get(&key).await).unwrap();
    let newer = text.replace("\"v\":1", "\"v\":7");
    assert_ne!(newer, text);
    world.put(&key, newer.into_bytes()).await;
    let error = world.lake.commit_object(&world.commits[3]).await.unwrap_err();
    assert!(matches!(error, LakeError::Newer { found: 7, known: 1, .. }), "{error}");
    assert_eq!(found(&world.check(false).await), [(Problem::Newer, Kind::Commit)]);

    let world = World::new().await;
    let key = world.metadata(3).await;
    let text = String::from_utf8(world.get(&key).await).unwrap();
    world.put(&key, text.replace("\"format-version\":2", "\"format-version\":3").into_bytes()).await;
    assert_eq!(found(&world.check(false).await), [(Problem::Newer, Kind::Metadata)]);
    // Nothing is swept from a lake that cannot be read whole.
    struct AtOnce;
    #[async_trait::async_trait]
    impl headwater_lake::Settle for AtOnce {
        async fn settle(&self, _: std::time::Duration) {}
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let options = GcOptions::new(i64::try_from(now.as_micros()).unwrap(), "test".to_owned());
    let refused = world.lake.collect_garbage(&options, &AtOnce, &mut |_| {}).await.unwrap_err();
    assert!(matches!(refused, LakeError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_set_back() {
    let world = World::new().await;
    world.remove(&commit_key(&world.commits[3])).await;
    let metadata = world.metadata(2).await;
    world.put(&metadata, b"{".to_vec()).await;
    let report = world.check(false).await;
    assert!(!report.is_sound());

    let lake = testing::open_on(Arc::clone(&world.disk)).await.unwrap();
    let plan = lake.plan_repair(&report).await.unwrap();
    let expected = Repair::SetBack {
        name: RefName::main(),
        from: world.commits[3].clone(),
        to: world.commits[1].clone(),
        entries: 2,
    };
    assert_eq!(plan, [expected]);
    lake.repair(&plan, &report, "operator", NOON_US + 20).await.unwrap();
    assert_eq!(lake.resolve("main").await.unwrap(), world.commits[1]);
    assert_eq!(count(&lake, &world.commits[1], "raw.imu").await, 20);
    let after = world.check(true).await;
    assert!(after.is_sound(), "{:?}", after.findings);
    assert!(lake.landing_cursors_max(&RefName::main()).await.is_ok());
    // Writers go on from there.
    let next = lake.writer(RefName::main(), "t".to_owned()).commit(both(90, 10, NOON_US + 30)).await.unwrap();
    assert_eq!(count(&lake, &next.id, "raw.imu").await, 30);
    assert!(world.check(false).await.is_sound());
}

/// Rows above the commit it was set back to are not in the lake, so the landing log is read again from there: also once
/// commits came on top.
#[tokio::test]
async fn a_head_set_back_takes_its_landing_cursor_back() {
    let main = RefName::main();
    let at = |n| {
        let landing = LandingCursor { data: LandingPosition { n, offset: 0 }, ..LandingCursor::default() };
        BTreeMap::from([("r/1".to_owned(), landing)])
    };
    let mut world = World::new().await;
    let mut writer = world.lake.writer(main.clone(), "test".to_owned());
    for n in [5, 9] {
        let request = CommitRequest { landing: at(n), ..both(n as i64 * 100, 10, NOON_US + 4) };
        world.commits.push(writer.commit(request).await.unwrap().id);
    }
    assert_eq!(world.lake.landing_cursors_max(&main).await.unwrap(), at(9));
    let metadata = world.metadata(5).await;
    world.put(&metadata, b"{".to_vec()).await;
    let report = world.check(false).await;
    let lake = testing::open_on(Arc::clone(&world.disk)).await.unwrap();
    let plan = lake.plan_repair(&report).await.unwrap();
    let done = lake.repair(&plan, &report, "operator", NOON_US + 20).await.unwrap();
    assert!(done.done[0].1.contains("restart a collector"), "{}", done.done[0].1);
    assert_eq!(lake.resolve("main").await.unwrap(), world.commits[4]);
    assert_eq!(lake.landing_cursors_max(&main).await.unwrap(), at(5));
    let mut writer = lake.writer(main.clone(), "test".to_owned());
    for n in [6, 7] {
        let request = CommitRequest { landing: at(n), ..both(n as i64 * 1000, 10, NOON_US + 30) };
        writer.commit(request).await.unwrap();
        assert_eq!(lake.landing_cursors_max(&main).await.unwrap(), at(n));
    }
}

#[tokio::test]
async fn a_lost_file_leaves_with_its_rows_named() {
    let world = World::new().await;
    let lost = world.keys("t/raw/").await.into_iter().find(|key| key.contains("/data/")).unwrap();
    world.remove(&lost).await;
    let report = world.check(false).await;
    assert_eq!(report.findings[0].severity, Severity::Error);
    let plan = world.lake.plan_repair(&report).await.unwrap();
    assert!(matches!(&plan[..], [Repair::DropFiles { rows: 10, .. }]), "{plan:?}");
    let done = world.lake.repair(&plan, &report, "operator", NOON_US + 20).await.unwrap();
    assert_eq!((done.done.len(), done.left.len()), (1, 0));
    let head = world.lake.resolve("main").await.unwrap();
    let commit = world.lake.commit_object(&head).await.unwrap();
    assert_eq!(commit.kind, CommitKind::Repair);
    assert!(
        commit.message.starts_with("10 rows are lost with their files: raw.imu t/raw/"),
        "{}",
        commit.message
    );
    assert_eq!(count(&world.lake, &head, "raw.imu").await, 30);
    assert_eq!(read(&world.lake, &head, "ops.ledger").await.iter().map(|b| b.num_rows()).sum::<usize>(), 4);
    // Older commits still name it: known, and no more an error.
    let after = world.check(false).await;
    assert!(after.is_sound(), "{:?}", after.findings);
    assert_eq!(after.findings[0].severity, Severity::Note);
    assert!(world.lake.plan_repair(&after).await.unwrap().is_empty());
}
