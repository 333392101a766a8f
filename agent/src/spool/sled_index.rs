//! The index in sled 0.34.7, behind everything its traps demand.
//!
//! `flush()` is `sync_file_range` on Linux and not durable: the `db` file is synced after it. A torn
//! log makes `open` panic, a crashed one leaves `*.generating` that make it fail, and its own threads
//! may panic too: so a sentinel, `catch_unwind`, a deadline, and always a way on without it.

use super::index::{Entry, IndexError, SpoolIndex, Tree};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// An index that does not open in this time is set aside.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Memory of the page cache; sled exceeds it, so it is small.
const CACHE_BYTES: u64 = 4 << 20;
/// Bad indexes kept for a look; older ones are removed.
const QUARANTINED_MAX: usize = 4;

/// The index on disk.
#[derive(Debug)]
pub struct SledIndex {
    db: sled::Db,
    trees: [sled::Tree; 3],
    db_file: fs::File,
    loaded: Vec<Entry>,
}

struct OpenedDb {
    db: sled::Db,
    trees: [sled::Tree; 3],
    loaded: Vec<Entry>,
}

fn failed(error: impl std::fmt::Display) -> IndexError {
    IndexError(error.to_string())
}

impl SledIndex {
    /// Opens `<dir>/idx`. One that does not open is renamed to `<dir>/quarantine` and an empty one is
    /// made; the spool then rebuilds it.
    ///
    /// # Errors
    /// [`IndexError`] if not even an empty one can be made.
    pub fn open(dir: &Path) -> Result<Self, IndexError> {
        let (idx, sentinel) = (dir.join("idx"), dir.join("idx.opening"));
        if sentinel.exists() && idx.exists() {
            tracing::warn!("the last open of the spool index did not end; it is rebuilt");
            set_aside(dir, &idx).map_err(failed)?;
        }
        mark(dir, &sentinel).map_err(failed)?;
        remove_generating(&idx).map_err(failed)?;
        let opened = match open_guarded(&idx) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "spool index does not open; it is rebuilt");
                set_aside(dir, &idx).map_err(failed)?;
                open_guarded(&idx)?
            }
        };
        let db_file = fs::OpenOptions::new().read(true).write(true).open(idx.join("db")).map_err(failed)?;
        fs::remove_file(&sentinel).map_err(failed)?;
        sync_dir(dir).map_err(failed)?;
        let OpenedDb { db, trees, loaded } = opened;
        Ok(Self { db, trees, db_file, loaded })
    }

    fn tree(&self, tree: Tree) -> &sled::Tree {
        let [segment, stream, device] = &self.trees;
        match tree {
            Tree::Segment => segment,
            Tree::Stream => stream,
            Tree::Device => device,
        }
    }
}

impl SpoolIndex for SledIndex {
    fn load(&mut self) -> Result<Vec<Entry>, IndexError> {
        Ok(std::mem::take(&mut self.loaded))
    }

    fn put(&mut self, tree: Tree, key: &[u8], value: Option<&[u8]>) -> Result<(), IndexError> {
        let tree = self.tree(tree);
        let done = catch_unwind(AssertUnwindSafe(|| match value {
            Some(value) => tree.insert(key, value),
            None => tree.remove(key),
        }));
        done.map_err(|_| failed("sled panicked"))?.map(drop).map_err(failed)
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        let done = catch_unwind(AssertUnwindSafe(|| self.db.flush()));
        done.map_err(|_| failed("sled panicked"))?.map_err(failed)?;
        self.db_file.sync_data().map_err(failed)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

fn mark(dir: &Path, sentinel: &Path) -> io::Result<()> {
    fs::File::create(sentinel)?.sync_all()?;
    sync_dir(dir)
}

/// Left by a crash while sled wrote a snapshot; it makes the next open fail.
fn remove_generating(idx: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(idx) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn set_aside(dir: &Path, idx: &Path) -> io::Result<()> {
    if !idx.exists() {
        return Ok(());
    }
    let quarantine = dir.join("quarantine");
    fs::create_dir_all(&quarantine)?;
    let mut kept: Vec<(u64, PathBuf)> = fs::read_dir(&quarantine)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.strip_prefix("idx-")?.parse().ok()?;
            Some((number, path))
        })
        .collect();
    kept.sort();
    let next = kept.last().map_or(1, |(number, _)| number.saturating_add(1));
    fs::rename(idx, quarantine.join(format!("idx-{next}")))?;
    let surplus = kept.len().saturating_add(1).saturating_sub(QUARANTINED_MAX);
    for (_, path) in kept.into_iter().take(surplus) {
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    sync_dir(dir)
}

/// Opens and reads everything, in a thread that may panic or hang.
fn open_guarded(idx: &Path) -> Result<OpenedDb, IndexError> {
    let (done, result) = sync_channel(1);
    let idx = idx.to_owned();
    std::thread::Builder::new()
        .name("spool-index-open".into())
        .spawn(move || {
            let opened = catch_unwind(AssertUnwindSafe(|| open_now(&idx)))
                .unwrap_or_else(|_| Err(failed("sled panicked while opening")));
            if done.send(opened).is_err() {
                tracing::warn!("spool index opened too late and is dropped");
            }
        })
        .map_err(failed)?;
    result.recv_timeout(OPEN_TIMEOUT).unwrap_or_else(|_| Err(failed("sled hangs while opening")))
}

fn open_now(idx: &Path) -> Result<OpenedDb, IndexError> {
    let db = sled::Config::new()
        .path(idx)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None)
        .open()
        .map_err(failed)?;
    let open = |tree: Tree| db.open_tree(tree.as_str()).map_err(failed);
    let trees = [open(Tree::Segment)?, open(Tree::Stream)?, open(Tree::Device)?];
    let mut loaded = Vec::new();
    for (tree, store) in Tree::ALL.into_iter().zip(&trees) {
        for item in store {
            let (key, value) = item.map_err(failed)?;
            loaded.push((tree, key.to_vec(), value.to_vec()));
        }
    }
    Ok(OpenedDb { db, trees, loaded })
}
