//! A disk that loses power: whatever of the unsynced writes survived, the head's whole closure is readable.

use crate::common;

use std::sync::Arc;

use common::{NOON_US, both};
use futures::TryStreamExt;
use headwater_lake::testing::{self, PowerStore};
use headwater_lake::{Lake, LakeError, RefName, ScanOptions};
use object_store::ObjectStore;

/// Reads everything the head names, back to the first commit; the number of commits.
async fn closure(lake: &Lake) -> Result<usize, LakeError> {
    let Some(head) = lake.head(&RefName::main()).await? else { return Ok(0) };
    let mut next = head.commit;
    let mut commits = 0;
    while let Some(id) = next {
        let commit = lake.commit_object(&id).await?;
        for (name, entry) in &commit.tables {
            let rows = lake.scan(&id, name, ScanOptions::default()).await?;
            let rows: Vec<arrow_array::RecordBatch> = rows.try_collect().await?;
            let rows: usize = rows.iter().map(arrow_array::RecordBatch::num_rows).sum();
            assert_eq!(rows as u64, entry.rows, "{name}");
        }
        commits += 1;
        next = commit.parents.first().cloned();
    }
    Ok(commits)
}

/// What survives of the unsynced: nothing, all, or every other of two kinds.
fn keeps(how: usize) -> impl FnMut(&object_store::path::Path) -> bool {
    let mut n = how;
    move |path| {
        n += 1;
        match how {
            0 => false,
            1 => true,
            2 => path.as_ref().contains("_repo"),
            _ => n.is_multiple_of(2),
        }
    }
}

/// Commits twice with power going at the `step`-th step of the second; how many closures are not whole afterwards, and
/// whether power went at all.
async fn broken_after(step: u64, disk: fn() -> PowerStore) -> (usize, bool) {
    let disk = Arc::new(disk());
    let lake = testing::init_on(Arc::clone(&disk) as Arc<dyn ObjectStore>).await.unwrap();
    let mut writer = lake.writer(RefName::main(), "test".to_owned());
    writer.commit(both(0, 4, NOON_US)).await.unwrap();
    disk.die_at(step);
    let second = writer.commit(both(4, 4, NOON_US + 1)).await;
    let mut broken = 0;
    for how in 0..4 {
        let after = testing::open_on(disk.after_power_loss(keeps(how)).await.unwrap()).await;
        let commits = match after {
            Ok(lake) => closure(&lake).await,
            Err(e) => Err(e),
        };
        match commits {
            Ok(commits) if commits == 2 || (commits == 1 && second.is_err()) => {}
            Ok(_) | Err(_) => broken += 1,
        }
    }
    (broken, disk.is_dead())
}

#[tokio::test]
async fn local_power_loss() {
    for step in 1.. {
        let (broken, died) = broken_after(step, PowerStore::new).await;
        assert_eq!(broken, 0, "power went at step {step}");
        if !died {
            // Ten objects, two steps each.
            assert!(step > 20, "{step}");
            break;
        }
    }
}

/// The test can fail: on a disk that answers before it syncs, closures do break.
#[tokio::test]
async fn a_disk_that_lies_is_noticed() {
    let mut broken = 0;
    for step in 1..=11 {
        broken += broken_after(step, PowerStore::lying).await.0;
    }
    assert!(broken > 0);
}
