//! Collecting garbage: files that nobody needs, among a history that is kept; beside it what deleting as many files costs
//! whoever just deletes them.

use super::bed::{self, request};
use super::{Bench, NAME};
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use headwater_lake::{GcOptions, Lake, RefName, Settle};
use headwater_tests::ticks::{now, unix_nanos};
use serde_json::json;
use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Older than any writer may be that still wants to name them.
const AGE: Duration = Duration::from_secs(5 * 86_400);
/// Bytes of such a file: what it costs to delete one hardly depends on them.
const FILE_BYTES: usize = 1_024;

/// Waits for no slow writers: there are none.
struct AtOnce;

#[async_trait]
impl Settle for AtOnce {
    async fn settle(&self, _: Duration) {}
}

pub(super) fn measure(bench: &mut Bench<'_>, files: u64) -> Result<()> {
    let commits = bench.scale(1_000, 50);
    let folder = bench.folder("gc");
    let lake = bench.runtime.block_on(bed::local(&folder))?;
    let mut writer = lake.writer(RefName::main(), "measure".to_owned());
    for n in 0..commits {
        bench.bar.set_message(format!("history to keep, commit {n} of {commits}"));
        let request = request(&bench.recording, 2, n)?;
        bench.runtime.block_on(writer.commit(request))?;
    }
    let location = bench.runtime.block_on(data_folder(&lake))?;
    bench.bar.set_message(format!("{files} files to be collected"));
    litter(Path::new(&location), files)?;
    let plain = bench.folder("plain files");
    std::fs::create_dir_all(&plain)?;
    litter(&plain, files)?;

    let mut options = GcOptions::new(unix_nanos() / 1_000, "measure".to_owned());
    options.dry_run = true;
    bench.bar.set_message("a dry run");
    let began = now();
    let dry = bench.runtime.block_on(lake.collect_garbage(&options, &AtOnce, &mut |_| {}))?;
    let dry_s = began.elapsed().as_secs_f64();
    options.dry_run = false;
    bench.bar.set_message("collecting");
    let (mut deleted, mut runs) = (0, 0);
    let began = now();
    loop {
        let done = bench.runtime.block_on(lake.collect_garbage(&options, &AtOnce, &mut |_| {}))?;
        (deleted, runs) = (deleted + done.total().objects, runs + 1);
        if !done.more {
            break;
        }
    }
    let gc_s = began.elapsed().as_secs_f64();
    ensure!(deleted == files, "{deleted} of {files} files were collected");
    let began = now();
    for entry in std::fs::read_dir(&plain)? {
        std::fs::remove_file(entry?.path())?;
    }
    let plain_s = began.elapsed().as_secs_f64();

    let case = json!({"files": files, "kept_commits": commits, "kept_objects": dry.objects_kept});
    let beside = json!({"mark_and_list_s": dry_s, "runs": runs, "files_per_s": files as f64 / gc_s, "only_deleting_s": plain_s});
    bench.sheet.add(NAME, case, "collecting garbage", gc_s, "s", beside);
    Ok(())
}

/// Where the first table's files lie.
async fn data_folder(lake: &Lake) -> Result<String> {
    let tables = lake.tables(&lake.resolve("main").await?).await?;
    let entry = tables.values().next().context("the lake has tables")?;
    let metadata = entry.metadata_location.strip_prefix("file://").context("the lake is on disk")?;
    let (table, _) = metadata.split_once("/metadata/").context("metadata lies in its folder")?;
    Ok(format!("{table}/data/ts_day=2026-11-23"))
}

/// Files as a writer leaves them that died before it named them.
fn litter(folder: &Path, files: u64) -> Result<()> {
    let old: SystemTime =
        std::time::UNIX_EPOCH + Duration::from_nanos(u64::try_from(unix_nanos())?).saturating_sub(AGE);
    for n in 0..files {
        let path = folder.join(format!("{n:032x}-000000000000.parquet"));
        std::fs::write(&path, [0_u8; FILE_BYTES])?;
        File::options().write(true).open(&path)?.set_times(FileTimes::new().set_modified(old))?;
    }
    Ok(())
}
