//! Files as the spool and the landing log need them: synchronous, explicit about durability.

use std::io;
use std::path::{Path, PathBuf};

/// A directory tree on which durability is explicit.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Creates a file that must not exist, for reading and writing. Its name lasts after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `AlreadyExists`, or what the system says.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or what the system says.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Creates a directory and its parents; existing ones are fine.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing the target. Lasts after [`Disk::sync_dir`] of the parent.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Paths of the entries of a directory, in no order; empty if there is no such directory.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Bytes free to us on the file system of `path`.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Send + 'static {
    /// Length, bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;
    /// True if nothing is in it.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|n| n == 0)
    }
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends first.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`. Not durable before [`DiskFile::sync`].
    ///
    /// # Errors
    /// `StorageFull`, or what the system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Says that a [`DiskFile::sync`] of this file and of others comes next: the disk may begin to write, so that one
    /// commit of the file system serves them all. Promises nothing.
    fn sync_soon(&self) {}
    /// Sets room aside for the file to grow to `len` bytes, without changing its length: what is then written up to
    /// there needs no new blocks, so a journal has less to write at each sync. A hint: nothing depends on it.
    ///
    /// # Errors
    /// What the system says; the file is as it was.
    fn reserve(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }
    /// Gives back what was set aside beyond the file's length.
    ///
    /// # Errors
    /// What the system says; the room stays taken until the file is removed.
    fn unreserve(&self) -> io::Result<()> {
        Ok(())
    }
    /// Makes all written bytes durable. After an error the file is poisoned: a later success proves
    /// nothing about earlier bytes, so callers rewrite elsewhere instead of syncing again.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self) -> io::Result<()>;
}
