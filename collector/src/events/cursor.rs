//! How far a webhook has been told, per ref, in a small file that survives a power cut.

use headwater_core::ports::{Disk, DiskFile};
use headwater_lake::RefName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Longest cursor file that is read: a million refs have less.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Number of the last entry told, by ref.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursors {
    v: u32,
    /// Last entry told.
    pub refs: BTreeMap<RefName, u64>,
}

/// Where the cursors of one webhook lie.
#[derive(Debug, Clone)]
pub struct CursorFile<D> {
    disk: D,
    dir: PathBuf,
    name: String,
}

impl<D: Disk> CursorFile<D> {
    /// The cursors of the webhook `name`, below `dir`.
    #[must_use]
    pub fn new(disk: D, dir: &Path, name: &str) -> Self {
        Self { disk, dir: dir.to_owned(), name: format!("{name}.json") }
    }

    /// What was stored; none before the first time.
    ///
    /// # Errors
    /// When it is there and cannot be read: then nobody knows what was told.
    pub fn load(&self) -> io::Result<Option<Cursors>> {
        let file = match self.disk.open(&self.dir.join(&self.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let len = file.len()?.min(FILE_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_at(&mut bytes, 0)?;
        serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
    }

    /// Stores them; synced on return.
    ///
    /// # Errors
    /// What the system says; the old ones are still there then.
    pub fn store(&self, cursors: &Cursors) -> io::Result<()> {
        self.disk.create_dir_all(&self.dir)?;
        let (path, new) = (self.dir.join(&self.name), self.dir.join(format!("{}.new", self.name)));
        match self.disk.unlink(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create(&new)?;
        let stored = Cursors { v: 1, ..cursors.clone() };
        file.write_at(&serde_json::to_vec(&stored).map_err(io::Error::other)?, 0)?;
        file.sync()?;
        self.disk.rename(&new, &path)?;
        self.disk.sync_dir(&self.dir)
    }
}
