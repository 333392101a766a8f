//! The real file system behind the `Disk` port.

use headwater_core::ports::{Disk, DiskFile};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// `std::fs` with explicit durability.
#[derive(Debug, Clone, Copy, Default)]
pub struct StdDisk;

/// An open file of [`StdDisk`].
#[derive(Debug)]
pub struct StdFile(File);

impl Disk for StdDisk {
    type File = StdFile;

    fn create(&self, path: &Path) -> io::Result<StdFile> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).map(StdFile)
    }
    fn open(&self, path: &Path) -> io::Result<StdFile> {
        OpenOptions::new().read(true).write(true).open(path).map(StdFile)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(path) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        crate::receive::clock::free_bytes(path)
    }
}

impl DiskFile for StdFile {
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
