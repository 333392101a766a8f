//! What a commit costs at the store: two round trips one after the other, however many tables and however long the history.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

mod common;

use std::sync::Arc;

use common::{NOON_US, ledger, ledger_rows, name};
use headwater_lake::testing::{self, CountingStore, KeyClass, Verb};
use headwater_lake::{CommitRequest, RefName, TableAppend, TableSpec};
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
