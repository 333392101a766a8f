//! What a commit costs at the store: two round trips one after the other, however many tables and however long the history.

use crate::common;
use crate::versions;

use std::sync::Arc;

use common::{NOON_US, ledger, ledger_rows, name};
use headwater_lake::testing::{self, CountingStore, KeyClass, Verb};
use headwater_lake::{CommitRequest, CompactPolicy, CompactScope, RefName, StopFlag, TableAppend, TableSpec};
use object_store::memory::InMemory;

fn request(tables: usize, n: i64) -> CommitRequest {
    let append = |table: usize| {
        let spec = TableSpec { name: name(&format!("ops.t{table}")), ..ledger() };
        TableAppend { spec, batches: vec![ledger_rows(n, NOON_US + n)] }
    };
    CommitRequest {
        message: n.to_string(),
        time_us: NOON_US + n,
        appends: (0..tables).map(append).collect(),
        ..CommitRequest::default()
    }
}

#[tokio::test]
async fn a_commit_takes_two_round_trips() {
    for tables in [2_u64, 20] {
        let store = Arc::new(CountingStore::new(Arc::new(InMemory::new())));
        let lake = testing::init_counted(Arc::clone(&store)).await.unwrap();
        let mut writer = lake.writer(RefName::main(), "test".to_owned());
        writer.commit(request(usize::try_from(tables).unwrap(), 0)).await.unwrap();
        store.reset();
        for n in 1..4 {
            let done = writer.commit(request(usize::try_from(tables).unwrap(), n)).await.unwrap();
            let seen = store.reset();
            assert_eq!(seen.waves, 2, "{tables} tables, commit {n}: {seen:?}");
            // Data, manifest, list and metadata of each table; the commit; the ref entry, and a look at the one below it.
            let puts = [
                (KeyClass::Data, tables),
                (KeyClass::Manifest, 2 * tables),
                (KeyClass::Metadata, tables),
                (KeyClass::Commit, 1),
                (KeyClass::Ref, 1),
            ];
            for (class, count) in puts {
                assert_eq!(seen.by_kind.get(&(Verb::Put, class)), Some(&count), "{class:?}: {seen:?}");
            }
            assert_eq!((seen.of(Verb::Put), seen.total()), (done.objects, done.objects + 1), "{seen:?}");
        }
    }
}

/// The counter itself: what is begun together is one round trip, what follows an answer is another.
#[tokio::test]
async fn round_trips_are_counted_by_what_waits_for_what() {
    use object_store::ObjectStoreExt;
    use object_store::path::Path;
    let store = Arc::new(CountingStore::new(Arc::new(InMemory::new())));
    let path = |n: u32| Path::from(format!("t/x/data/{n}"));
    let (a, b) = (path(1), path(2));
    let both = futures::join!(store.put(&a, "x".into()), store.put(&b, "xy".into()));
    both.0.unwrap();
    both.1.unwrap();
    assert_eq!(store.requests().waves, 1);
    store.get(&a).await.unwrap();
    store.head(&a).await.unwrap();
    store.delete(&b).await.unwrap();
    let seen = store.reset();
    assert_eq!((seen.waves, seen.total(), seen.bytes_got), (4, 5, 1));
    assert_eq!(seen.bytes_put.get(&KeyClass::Data), Some(&3));
    assert_eq!((seen.of(Verb::Put), seen.of(Verb::Delete), seen.of(Verb::Head)), (2, 1, 1));
    assert_eq!(store.requests().total(), 0);
}

/// The same over merges of manifests, of twenty tables that are all committed to from the first commit on: what merges is
/// in the writer's memory, and the tables take turns.
#[tokio::test]
async fn no_commit_of_a_long_history_takes_a_third_round_trip() {
    let store = Arc::new(CountingStore::new(Arc::new(InMemory::new())));
    let lake = testing::init_counted(Arc::clone(&store)).await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(request(20, 0)).await.unwrap();
    store.reset();
    let (mut waves, mut puts) = (Vec::new(), Vec::new());
    for n in 1..200 {
        writer.commit(request(20, n)).await.unwrap();
        let seen = store.reset();
        waves.push(seen.waves);
        puts.push(seen.of(Verb::Put));
        assert_eq!(seen.of(Verb::Get), 0, "commit {n} reads: {seen:?}");
    }
    println!(
        "most {:?} waves, most {:?} PUTs, sum {}",
        waves.iter().max(),
        puts.iter().max(),
        waves.iter().sum::<u64>()
    );
    assert_eq!(waves, vec![2; 199]);
    // 82 without a merge: a merge is one manifest more, and never all tables' at once.
    assert!(puts.iter().all(|puts| (82..=90).contains(puts)), "{puts:?}");
    assert!(puts.iter().any(|puts| *puts > 82), "nothing was merged");
}

/// A compaction is a commit like any other: per table one data file, one manifest, its list and its metadata, whatever
/// number of files goes; and two round trips.
#[tokio::test]
async fn a_compaction_puts_one_manifest_a_table() {
    let store = Arc::new(CountingStore::new(Arc::new(InMemory::new())));
    let lake = testing::init_counted(Arc::clone(&store)).await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    let (mut compactor, policy) = (lake.compactor(), CompactPolicy::default());
    let (mut plain, mut compacting) = (0, 0);
    for n in 0..200 {
        store.reset();
        writer.commit(request(6, n)).await.unwrap();
        plain += store.reset().of(Verb::Put);
        let at = lake.resolve("main").await.unwrap();
        let survey = compactor.survey(&at, &policy, &CompactScope::default(), NOON_US + n).await.unwrap();
        if survey.is_empty() {
            continue;
        }
        let prepared =
            lake.prepare_compaction(survey, &policy, &StopFlag::default(), |_, _| ()).await.unwrap();
        compacting += store.reset().of(Verb::Put);
        let done = writer.compact(prepared, NOON_US + n).await.unwrap();
        let seen = store.reset();
        compacting += seen.of(Verb::Put);
        let put = |class| seen.by_kind.get(&(Verb::Put, class)).copied().unwrap_or_default();
        println!("{n}: {} files in, {seen:?}", done.files_in);
        assert_eq!((put(KeyClass::Manifest), put(KeyClass::Metadata), put(KeyClass::Data)), (12, 6, 0));
        assert_eq!((seen.of(Verb::Put), seen.waves), (20, 2), "{seen:?}");
    }
    println!("PUTs: {plain} of commits, {compacting} of compactions");
    assert_eq!(plain, 200 * 26, "no commit has to merge manifests beside compactions");
    assert_eq!(compacting, 200 / 8 * 26, "a compaction costs what a commit does");
}

/// A revert reads the files its commit brought and what the ledger says of their samples, in a long history as in a short
/// one, and also by a process that knows nothing yet.
#[tokio::test]
async fn a_revert_costs_what_its_commit_brought() {
    let mut costs = Vec::new();
    for history in [20, 150] {
        let store = Arc::new(CountingStore::new(Arc::new(InMemory::new())));
        let lake = testing::init_counted(Arc::clone(&store)).await.unwrap();
        let mut writer = lake.writer(RefName::main(), "test".to_owned());
        let mut bad = None;
        for n in 0..history {
            let rows = versions::capture("gw", n * 10..n * 10 + 10, 0.0, NOON_US + n);
            let done = writer.commit(rows).await.unwrap();
            if n == history / 2 {
                bad = Some(done.id);
            }
        }
        let fresh = testing::init_counted(Arc::clone(&store)).await.unwrap();
        store.reset();
        let done = fresh.revert(&RefName::main(), &bad.unwrap(), &versions::by(NOON_US + 1_000)).await;
        assert!(done.unwrap().is_some());
        let seen = store.reset();
        println!("revert in {history} commits: {seen:?}");
        versions::assert_books(&fresh, "main").await;
        assert_eq!(versions::samples(&fresh, "main").await.len() as i64, history * 10 - 10);
        costs.push((seen.by_kind[&(Verb::Get, KeyClass::Data)], seen.waves));
    }
    assert_eq!(costs[0].0, costs[1].0, "data files read: {costs:?}");
    assert!(costs[1].0 <= 8 && costs[1].1 <= costs[0].1 + 2, "{costs:?}");
}
