//! Who holds a spool's folder: one process at a time writes to it, and tools that only look can tell.
//!
//! The lock is the kernel's (`flock` of the file `lock`), so it ends with its process, however that ends;
//! the file itself stays and says nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in the spool's folder.
const FILE: &str = "lock";
/// A tool that looks whether somebody holds the lock has it for a moment itself: that is not waited for in vain.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The folder of a spool, held. Let go when dropped.
#[derive(Debug)]
pub struct SpoolLock {
    _file: File,
}

/// Why a folder cannot be held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "spool {dir} is in use by another process; stop it first, with `systemctl stop headwater-agent` if that is the agent"
    )]
    Held {
        /// Which.
        dir: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("lock of spool {dir} cannot be used; check that the folder is writable")]
    Io {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SpoolLock {
    /// Takes the folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(dir.join(FILE));
        let file = opened.map_err(failed)?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(LockError::Held { dir: dir.to_owned() })
    }

    /// True if a process holds the folder now. Changes nothing, and works on a medium that cannot be written.
    #[must_use]
    pub fn is_held(dir: &Path) -> bool {
        let Ok(file) = File::open(dir.join(FILE)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_others_see_that() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        assert!(!SpoolLock::is_held(&spool));
        let held = SpoolLock::take(&spool).unwrap();
        assert!(SpoolLock::is_held(&spool));
        let refused = SpoolLock::take(&spool).unwrap_err();
        assert!(refused.to_string().contains("systemctl stop"), "{refused}");
        drop(held);
        assert!(!SpoolLock::is_held(&spool));
        SpoolLock::take(&spool).unwrap();
    }
}
