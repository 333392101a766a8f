//! Finding the head of a log with as many entries as nobody has pruned.

use super::bed::{self, median};
use super::{Bench, NAME};
use anyhow::{Context, Result};
use bytes::Bytes;
use headwater_lake::{CommitId, Lake, RefName, RefOp, RefUpdate, testing};
use headwater_tests::ticks::now;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const LOOKS: usize = 7;
const LOG: &str = "_repo/refs/heads/main";

pub(super) fn measure(bench: &mut Bench<'_>, entries: u64) -> Result<()> {
    bench.bar.set_message(format!("a log of {entries} entries"));
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lake = bench.runtime.block_on(testing::init_on(Arc::clone(&memory)))?;
    bench.runtime.block_on(fill(&lake, entries))?;
    let folder = bench.folder("head");
    bench.runtime.block_on(async {
        bed::local(&folder).await?;
        copy(memory.as_ref(), &folder).await
    })?;

    let case = json!({"entries": entries, "store": "local disk"});
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        let began = now();
        let location = folder.to_str().context("the folder is not UTF-8")?;
        let lake = bench.runtime.block_on(Lake::open(location))?;
        let head = bench.runtime.block_on(lake.head(&RefName::main()))?;
        cold.push(began.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(head.is_some_and(|head| head.seq == entries), "another entry is taken for the head");
        let began = now();
        bench.runtime.block_on(lake.head(&RefName::main()))?;
        warm.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let beside = json!({"a_file_of_the_log_read": read_one(&folder)?});
    bench.sheet.add(NAME, case.clone(), "head, opening the lake", median(&cold), "ms", beside);
    bench.sheet.add(NAME, case, "head, known before", median(&warm), "ms", json!({}));
    Ok(())
}

async fn fill(lake: &Lake, entries: u64) -> Result<()> {
    let mut head = None;
    for n in 0..entries {
        let update = RefUpdate {
            commit: Some(CommitId::new(format!("{n:064x}"))?),
            op: RefOp::Commit,
            writer: "measure".to_owned(),
            write_id: Uuid::new_v4(),
            time_us: i64::try_from(n)?,
            reason: String::new(),
        };
        head = Some(lake.refs().publish(&RefName::main(), head.as_ref(), &update).await?);
    }
    Ok(())
}

/// Writes the log to disk as it is, without the syncs a real one has: it is only looked at.
async fn copy(memory: &dyn ObjectStore, folder: &Path) -> Result<()> {
    let listed = memory.list_with_delimiter(Some(&Key::from(LOG))).await?;
    std::fs::create_dir_all(folder.join(LOG))?;
    for object in listed.objects {
        let bytes: Bytes = memory.get(&object.location).await?.bytes().await?;
        std::fs::write(folder.join(object.location.as_ref()), &bytes)?;
    }
    Ok(())
}

/// What the disk takes to give one such file, ms.
fn read_one(folder: &Path) -> Result<f64> {
    let mut times = Vec::new();
    for entry in std::fs::read_dir(folder.join(LOG))?.take(LOOKS) {
        let path = entry?.path();
        let began = now();
        std::fs::read(path)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&times))
}
