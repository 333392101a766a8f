//! Leftovers of writes that were cut short on a local disk: `name#1` files that no listing of the store shows.
//!
//! Object stores keep the parts of unfinished uploads; the store's interface cannot list those, so the bucket needs a
//! rule that aborts them after some days.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{GcReport, Tally};
use crate::error::LakeError;
use crate::reach::Kind;
use crate::store::LakeStore;

/// Deletes leftovers that were last written before `before_us` and adds them to the report.
pub(super) async fn remove(
    store: &LakeStore,
    before_us: i64,
    report: &mut GcReport,
) -> Result<(), LakeError> {
    let removed = remove_leftovers(store, before_us).await?;
    if removed.objects > 0 {
        report.deleted.insert(Kind::Staging, removed);
    }
    Ok(())
}

/// Deletes leftovers that were last written before `before_us`.
pub(crate) async fn remove_leftovers(store: &LakeStore, before_us: i64) -> Result<Tally, LakeError> {
    walked(store, before_us, true).await
}

/// Leftovers older than that.
pub(crate) async fn leftovers(store: &LakeStore, before_us: i64) -> Result<Tally, LakeError> {
    walked(store, before_us, false).await
}

async fn walked(store: &LakeStore, before_us: i64, delete: bool) -> Result<Tally, LakeError> {
    let Some(root) = store.folder() else { return Ok(Tally::default()) };
    let walk = tokio::task::spawn_blocking(move || walk(&root, before_us, delete));
    walk.await.map_err(|source| LakeError::Task { task: "the walk over the lake's folder", source })?
}

fn walk(root: &Path, before_us: i64, delete: bool) -> Result<Tally, LakeError> {
    let fail = |path: &Path, e: std::io::Error| LakeError::Location {
        location: path.display().to_string(),
        reason: e.to_string(),
    };
    let mut tally = Tally::default();
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| fail(&folder, e))? {
            let entry = entry.map_err(|e| fail(&folder, e))?;
            let path = entry.path();
            // Links are never followed: what lies outside the lake is not the lake's.
            let kind = entry.file_type().map_err(|e| fail(&path, e))?;
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            if !kind.is_file() || !is_leftover(&path) {
                continue;
            }
            let Ok(meta) = entry.metadata() else { continue };
            let age = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let stored_us = age.and_then(|age| i64::try_from(age.as_micros()).ok()).unwrap_or(i64::MAX);
            if stored_us >= before_us {
                continue;
            }
            if delete {
                match std::fs::remove_file(&path) {
                    Ok(()) => {}
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(fail(&path, e)),
                }
            }
            tally.add(meta.len());
        }
    }
    Ok(tally)
}

/// True for `name#<digits>`: no name of the lake's own has that sign.
fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name.rsplit_once('#')
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
}
