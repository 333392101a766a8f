//! Copies of a lake: the same rows under other locations, gone on with after an interruption.

use crate::common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{NOON_US, both, count, name, read};
use futures::TryStreamExt;
use headwater_lake::testing::{self, AgedStore, Fault, FaultStore};
use headwater_lake::{
    CheckOptions, CommitKind, CopyError, Erasure, GcOptions, Keep, Lake, LakeError, RefName, Settle,
};
use object_store::ObjectStore;
use object_store::memory::InMemory;

/// Forty commits, so that manifests were merged, with a branch and a tag.
async fn world(dir: &std::path::Path) -> Lake {
    let lake = Lake::init(dir.to_str().unwrap()).await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    for step in 0..40 {
        let done = writer.commit(both(step * 10, 10, NOON_US + step * 10_000)).await.unwrap();
        if step == 20 {
            lake.branch(&RefName::new("exp/a").unwrap(), &done.id, "test", NOON_US).await.unwrap();
            lake.refs().tag(&RefName::new("v1").unwrap(), &done.id, "test", NOON_US).await.unwrap();
        }
    }
    lake
}

#[tokio::test]
async fn a_copy_has_the_same_rows_and_names_nothing_of_the_source() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = world(a.path()).await;
    let blob = headwater_lake_blob(&source).await;
    let target = Lake::init(b.path().to_str().unwrap()).await.unwrap();
    let mut heard = Vec::new();
    let copied =
        source.copy_to(&target, None, "test", NOON_US, |progress| heard.push(progress)).await.unwrap();
    assert_eq!((copied.progress.commits, copied.progress.done), (40, 40));
    assert_eq!(heard.last(), Some(&copied.progress));
    assert_eq!((copied.refs.len(), copied.tags.len()), (2, 1));
    // The source may go.
    let mut old = Vec::new();
    for rev in ["main", "main~7", "exp/a", "v1"] {
        old.push(read(&source, &source.resolve(rev).await.unwrap(), "raw.imu").await);
    }
    drop(a);
    for (rev, old) in ["main", "main~7", "exp/a", "v1"].into_iter().zip(old) {
        let id = target.resolve(rev).await.unwrap();
        let new = read(&target, &id, "raw.imu").await;
        let rows = |batches: &[arrow_array::RecordBatch]| {
            let mut rows: Vec<String> = batches
                .iter()
                .flat_map(|b| (0..b.num_rows()).map(|row| format!("{:?}", b.slice(row, 1).columns())))
                .collect();
            rows.sort();
            rows
        };
        assert_eq!(rows(&new), rows(&old), "{rev}");
    }
    assert!(target.blob(&blob).await.unwrap().is_some());
    let head = target.commit_object(&target.resolve("main").await.unwrap()).await.unwrap();
    assert!(head.lineage.inputs[0].starts_with("copy of "));
    // And it can be gone on with.
    let mut writer = target.writer(RefName::main(), "test".to_owned());
    let done = writer.commit(both(400, 10, NOON_US + 500_000)).await.unwrap();
    assert_eq!(count(&target, &done.id, "raw.imu").await, 410);
}

async fn headwater_lake_blob(lake: &Lake) -> String {
    // SHA-256 of "abc", FIPS 180-2.
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    lake.put_blob(hash, "abc".into()).await.unwrap();
    hash.to_owned()
}

#[tokio::test]
async fn one_ref_is_copied_alone_and_later_commits_are_added() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = world(a.path()).await;
    let target = Lake::init(b.path().to_str().unwrap()).await.unwrap();
    let only = [RefName::new("exp/a").unwrap()];
    let copied = source.copy_to(&target, Some(&only), "test", NOON_US, |_| {}).await.unwrap();
    assert_eq!((copied.progress.commits, target.refs().list().await.unwrap().len()), (21, 1));
    let mut writer = source.writer(only[0].clone(), "test".to_owned());
    writer.commit(both(900, 10, NOON_US + 900_000)).await.unwrap();
    let again = source.copy_to(&target, Some(&only), "test", NOON_US, |_| {}).await.unwrap();
    let id = target.resolve("exp/a").await.unwrap();
    assert_eq!((again.refs[0].1.clone(), count(&target, &id, "raw.imu").await), (id.clone(), 220));
    assert!(again.progress.files < 12, "{:?}", again.progress);
    // A copy that went its own way is not overwritten.
    let mut own = target.writer(only[0].clone(), "test".to_owned());
    own.commit(both(950, 10, NOON_US + 950_000)).await.unwrap();
    let refused = source.copy_to(&target, Some(&only), "test", NOON_US, |_| {}).await.unwrap_err();
    assert!(matches!(refused, CopyError::Moved { .. }), "{refused}");
    let unknown = [RefName::new("nix").unwrap()];
    let refused = source.copy_to(&target, Some(&unknown), "test", NOON_US, |_| {}).await.unwrap_err();
    assert!(matches!(refused, CopyError::Lake(LakeError::NoRef { .. })), "{refused}");
}

#[tokio::test]
async fn an_interrupted_copy_is_gone_on_with() {
    let a = tempfile::tempdir().unwrap();
    let source = Lake::init(a.path().to_str().unwrap()).await.unwrap();
    let mut writer = source.writer(RefName::main(), "test".to_owned());
    for step in 0..3 {
        writer.commit(both(step * 10, 10, NOON_US + step)).await.unwrap();
    }
    for n in 1.. {
        let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
        let target = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
        store.set(Fault::CrashAfter(n));
        let first = source.copy_to(&target, None, "test", NOON_US, |_| {}).await;
        let is_dead = store.is_dead();
        let target = testing::open_on(disk).await.unwrap();
        let copied = source.copy_to(&target, None, "test", NOON_US, |_| {}).await.unwrap();
        let id = target.resolve("main").await.unwrap();
        assert_eq!(target.tables(&id).await.unwrap()[&name("raw.imu")].rows, 30);
        assert_eq!(count(&target, &id, "raw.imu").await, 30, "write {n}");
        if !is_dead {
            assert_eq!(first.unwrap().refs, copied.refs, "the same ids whenever it is made");
            break;
        }
    }
}

const HOUR_US: i64 = 3_600_000_000;

struct AtOnce;

#[async_trait]
impl Settle for AtOnce {
    async fn settle(&self, _: Duration) {}
}

/// A lake in memory whose clock the test holds.
async fn aged() -> (Arc<dyn ObjectStore>, Arc<AgedStore>, Lake) {
    let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Arc::new(AgedStore::new(Arc::clone(&disk), NOON_US));
    let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
    (disk, store, lake)
}

async fn assert_sound(lake: &Lake, now_us: i64) {
    let options = CheckOptions { now_us, keep: Keep::default(), checksums: true };
    let report = lake.check(&options, &mut |_| {}).await.unwrap();
    assert_eq!(report.findings, []);
}

async fn keys(disk: &Arc<dyn ObjectStore>, part: &str) -> BTreeSet<String> {
    let listed: Vec<_> = disk.list(None).try_collect().await.unwrap();
    let keys = listed.into_iter().map(|meta| meta.location.to_string());
    keys.filter(|key| key.contains(part)).collect()
}

/// The erased rows are in the source until its garbage is collected, and not in a copy.
#[tokio::test]
async fn a_copy_of_an_erased_lake_has_nothing_of_what_was_erased() {
    let (from, _, source) = aged().await;
    let mut writer = source.writer(RefName::main(), "test".to_owned());
    for n in 0..4 {
        writer.commit(both(n * 10, 10, NOON_US + n)).await.unwrap();
    }
    let before = keys(&from, "/imu-").await;
    let erasure = Erasure {
        device: "dev-0".to_owned(),
        stream: None,
        from_us: None,
        to_us: None,
        forget: false,
        reason: "asked for by its owner".to_owned(),
    };
    source.erase(&erasure, false, "op", NOON_US + 10, &mut |_, _| {}).await.unwrap();
    writer.commit(both(100, 10, NOON_US + 20)).await.unwrap();

    let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let target = testing::init_on(Arc::clone(&disk)).await.unwrap();
    let copied = source.copy_to(&target, None, "test", NOON_US + 30, |_| {}).await.unwrap();
    assert_eq!(copied.progress.commits, 2);
    let there = keys(&disk, "/data/").await;
    let erased: Vec<&String> = before.iter().filter(|key| there.contains(*key)).collect();
    assert_eq!((before.iter().filter(|key| key.contains("/data/")).count(), erased), (4, vec![]));
    let log = target.log("main", 100).await.unwrap();
    assert_eq!(
        log.iter().map(|commit| commit.kind).collect::<Vec<_>>(),
        [CommitKind::Ingest, CommitKind::Erase]
    );
    assert_eq!(count(&target, &log[0].id, "raw.imu").await, 20 + 10);
    assert_sound(&target, NOON_US + 40).await;
}

/// History goes on across what was thinned, and a copy is gone on with after more of it was.
#[tokio::test]
async fn a_copy_of_a_thinned_lake_has_all_that_was_kept() {
    let (_, store, source) = aged().await;
    let main = RefName::main();
    let mut now_us = NOON_US;
    let mut first = 0;
    let mut write = async |source: &Lake, now_us: &mut i64, commits: i64| {
        for _ in 0..commits {
            source.writer(main.clone(), "test".to_owned()).commit(both(first, 3, *now_us)).await.unwrap();
            first += 3;
            *now_us += HOUR_US / 2;
            store.set_now(*now_us);
        }
    };
    let collect = async |now_us: i64| {
        store.set_now(now_us);
        let options = GcOptions::new(now_us, "test".to_owned());
        assert!(source.collect_garbage(&options, &AtOnce, &mut |_| {}).await.unwrap().days_thinned > 0);
    };
    write(&source, &mut now_us, 72).await;
    now_us += 9 * 24 * HOUR_US;
    write(&source, &mut now_us, 3).await;
    collect(now_us).await;

    let target = testing::memory().await.unwrap();
    let messages = async |lake: &Lake| -> Vec<String> {
        lake.log("main", 1000).await.unwrap().into_iter().map(|commit| commit.message).collect()
    };
    let copied = source.copy_to(&target, None, "test", now_us, |_| {}).await.unwrap();
    let kept = messages(&source).await;
    assert_eq!((kept.len(), copied.progress.commits), (36 + 3, 36 + 3));
    assert_eq!(messages(&target).await, kept);
    assert_sound(&target, now_us).await;

    // What the copy's head is of goes from the source meanwhile.
    write(&source, &mut now_us, 3).await;
    now_us += 9 * 24 * HOUR_US;
    write(&source, &mut now_us, 1).await;
    collect(now_us).await;
    let n_before = kept.len();
    let copied = source.copy_to(&target, None, "test", now_us, |_| {}).await.unwrap();
    assert!(copied.progress.commits > 0 && copied.progress.commits <= 4, "{:?}", copied.progress);
    let now = messages(&target).await;
    assert_eq!(now[now.len() - n_before..], kept, "what was copied stays as it was");
    assert_eq!(now[0], messages(&source).await[0]);
    assert_sound(&target, now_us).await;
}
