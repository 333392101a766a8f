//! The real disk: `std::fs`, with durability said aloud.

use headwater_core::ports::{Disk, DiskFile};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// A file of it.
#[derive(Debug)]
pub struct RealFile(File);

impl Disk for RealDisk {
    type File = RealFile;

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).map(RealFile)
    }

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(true).open(path).map(RealFile)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        match std::fs::read_dir(path) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    #[expect(unsafe_code, reason = "the standard library does not ask a file system for its free space")]
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` is a C string that outlives the call; `answer` is valid for writes of its type.
        if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it filled `answer`.
        let answer = unsafe { answer.assume_init() };
        #[expect(clippy::useless_conversion, reason = "these are 32 bits wide on some targets")]
        let (blocks, size) = (u64::from(answer.f_bavail), u64::from(answer.f_frsize));
        Ok(blocks.saturating_mul(size))
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|meta| meta.len())
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

    #[expect(unsafe_code, reason = "the standard library cannot begin to write without waiting for the end")]
    fn sync_soon(&self) {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open as long as `self` is; the call takes numbers only.
        let begun = unsafe { libc::sync_file_range(self.0.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        if begun != 0 {
            tracing::trace!(error = %io::Error::last_os_error(), "the sync that follows does all the work");
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[expect(unsafe_code, reason = "the standard library sets no room aside")]
    fn reserve(&self, len: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let len = libc::off64_t::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the descriptor is open for as long as `self` is; the call touches no memory of ours.
        match unsafe { libc::fallocate64(self.0.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn unreserve(&self) -> io::Result<()> {
        // Cut at its own end: a file system then frees the blocks behind it.
        self.0.set_len(self.len()?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
