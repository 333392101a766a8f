//! Keeps what is no reading aside, with its reason, within a bound.
//!
//! A broken picture or a burst of noise is evidence: it is written below the spool's folder, the oldest
//! entries make room, and nothing of it is ever shipped as data.

use headwater_core::id::StreamName;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most bytes kept: a few dozen broken pictures; the spool's budget is not touched by more noise than this.
pub const QUARANTINE_BYTES_MAX: u64 = 16 << 20;
/// Most entries kept.
pub const QUARANTINE_ENTRIES_MAX: usize = 512;
/// Folder below the spool's own quarantine, so that the two never prune each other's files.
const FOLDER: &str = "quarantine/sources";

/// The folder and what it holds, oldest first.
#[derive(Debug)]
pub struct Quarantine {
    dir: PathBuf,
    entries: VecDeque<(PathBuf, u64)>,
    bytes: u64,
    next: u64,
}

impl Quarantine {
    /// Opens the quarantine of a spool folder; entries of earlier lives count.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(spool_dir: &Path) -> io::Result<Self> {
        let dir = spool_dir.join(FOLDER);
        fs::create_dir_all(&dir)?;
        let mut found: Vec<(PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            found.push((entry.path(), entry.metadata()?.len()));
        }
        found.sort();
        let next = found.last().and_then(|(path, _)| number(path)).map_or(0, |n| n.saturating_add(1));
        let bytes = found.iter().map(|(_, len)| len).sum();
        Ok(Self { dir, entries: found.into(), bytes, next })
    }

    /// Writes one entry: a line with stream and reason, then the bytes.
    ///
    /// # Errors
    /// What the system says; nothing is captured or lost by it.
    pub fn keep(&mut self, stream: &StreamName, why: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir.join(format!("{:012}-{}", self.next, stream.as_str().replace('/', "+")));
        self.next = self.next.saturating_add(1);
        let room = usize::try_from(QUARANTINE_BYTES_MAX / 4).unwrap_or(usize::MAX);
        let mut content = format!("{stream}: {}\n", why.replace('\n', " ")).into_bytes();
        content.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
        self.make_room(content.len() as u64)?;
        fs::write(&path, &content)?;
        self.bytes = self.bytes.saturating_add(content.len() as u64);
        self.entries.push_back((path.clone(), content.len() as u64));
        Ok(path)
    }

    fn make_room(&mut self, need: u64) -> io::Result<()> {
        while self.entries.len() >= QUARANTINE_ENTRIES_MAX
            || self.bytes.saturating_add(need) > QUARANTINE_BYTES_MAX
        {
            let Some((oldest, len)) = self.entries.pop_front() else { return Ok(()) };
            self.bytes = self.bytes.saturating_sub(len);
            match fs::remove_file(&oldest) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_bounded_and_the_oldest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let stream: StreamName = "camera/front".parse().unwrap();
        let mut quarantine = Quarantine::open(dir.path()).unwrap();
        let first = quarantine.keep(&stream, "half\nwritten", b"abc").unwrap();
        assert_eq!(fs::read(&first).unwrap(), b"camera/front: half written\nabc");
        for _ in 0..20 {
            quarantine.keep(&stream, "large", &vec![7; 1 << 20]).unwrap();
        }
        assert!(!first.exists(), "the oldest made room");
        let held: u64 = fs::read_dir(dir.path().join(FOLDER))
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert!(held <= QUARANTINE_BYTES_MAX);
        let next = quarantine.next;
        let mut reopened = Quarantine::open(dir.path()).unwrap();
        assert_eq!((reopened.next, reopened.bytes), (next, held));
        assert!(reopened.keep(&stream, "again", b"").unwrap().exists());
    }
}
