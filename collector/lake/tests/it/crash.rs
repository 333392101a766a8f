//! C2: killed at any write of a commit, the old state stays whole and visible, and the next commit works.

use crate::common;

use std::sync::Arc;

use common::{NOON_US, both, count};
use headwater_lake::testing::{self, Fault, FaultStore};
use headwater_lake::{CommitError, RefName};
use object_store::ObjectStore;
use object_store::memory::InMemory;

#[tokio::test]
async fn a_commit_killed_at_every_write_is_there_whole_or_not_at_all() {
    let mut survived = 0;
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::FailWrite] {
        for n in 1.. {
            let disk: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let store = Arc::new(FaultStore::new(Arc::clone(&disk)));
            let lake = testing::init_on(Arc::clone(&store) as Arc<dyn ObjectStore>).await.unwrap();
            let mut writer = lake.writer(RefName::main(), "test".to_owned());
            let old = writer.commit(both(0, 10, NOON_US)).await.unwrap();

            store.set(fault(n));
            let second = writer.commit(both(10, 10, NOON_US + 1)).await;
            let writes = store.writes();
            store.set(Fault::None);
            let after = testing::open_on(disk).await.unwrap();
            let head = after.head(&RefName::main()).await.unwrap().unwrap();
            let id = head.commit.clone().unwrap();
            let rows = count(&after, &id, "raw.imu").await;
            let ledger = count(&after, &id, "ops.ledger").await;
            match &second {
                Ok(done) => assert_eq!((&done.id, rows, ledger), (&id, 20, 2)),
                Err(CommitError::Unknown { .. }) if id != old.id => assert_eq!((rows, ledger), (20, 2)),
                Err(_) => assert_eq!((&id, rows, ledger), (&old.id, 10, 1)),
            }
            survived += u32::from(id != old.id);

            // A new process goes on from whatever is there.
            let done = after
                .writer(RefName::main(), "next".to_owned())
                .commit(both(90, 10, NOON_US + 2))
                .await
                .unwrap();
            assert_eq!(count(&after, &done.id, "raw.imu").await, rows + 10, "{:?}", fault(n));
            // So does the old one, once it knows what happened.
            writer.settle().await.unwrap();
            let done = writer.commit(both(190, 10, NOON_US + 3)).await.unwrap();
            assert_eq!(count(&after, &done.id, "raw.imu").await, rows + 20, "{:?}", fault(n));
            if n > writes {
                // Beyond the last write nothing was hit.
                assert!(second.is_ok());
                assert_eq!(writes, 10);
                break;
            }
        }
    }
    // Without a fault each round survives once; with the answer to the ref entry lost, once more; and a ref write that
    // failed by itself is repeated.
    assert_eq!(survived, 5);
}
