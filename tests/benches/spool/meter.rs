//! What the kernel says a process used: CPU, bytes written, memory, room on disk.

use super::task::Spent;
use crate::cpu::cpu_time;
use anyhow::{Context, Result};
use headwater_tests::ticks::now;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the idle device is watched before a stretch of work.
const IDLE_MS: u64 = 500;
/// Sectors in `stat` of a block device are of this size whatever the device's own.
const SECTOR_BYTES: u64 = 512;

/// Measures one stretch of work.
#[derive(Debug)]
pub(crate) struct Meter {
    dir: PathBuf,
    device: Option<PathBuf>,
    background: Option<u64>,
    start: Instant,
    cpu: Duration,
    io: u64,
    taken: Option<Taken>,
}

/// What a block device has taken since it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taken {
    bytes: u64,
    /// Flushes of its cache: what a sync waits for. Counted since Linux 5.5.
    flushes: Option<u64>,
}

impl Meter {
    /// Starts when nothing of what was done before is on its way to the device any more.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let device = device_of(dir);
        write_back(dir);
        let taken = || device.as_deref().and_then(taken);
        let before = taken();
        if device.is_some() {
            std::thread::sleep(Duration::from_millis(IDLE_MS));
        }
        let idle = before.zip(taken()).map(|(before, after)| after.bytes.saturating_sub(before.bytes));
        let background = idle.map(|bytes| bytes * 1_000 / IDLE_MS);
        let taken = taken();
        Ok(Self {
            dir: dir.to_owned(),
            background,
            cpu: cpu_time()?,
            io: io_bytes()?,
            taken,
            device,
            start: now(),
        })
    }

    /// Wall and CPU time end here; bytes are counted once all is written back.
    pub(crate) fn stop(self, payload_bytes: u64, commits: u64) -> Result<Spent> {
        let (wall_s, cpu_s) = (self.start.elapsed().as_secs_f64(), (cpu_time()? - self.cpu).as_secs_f64());
        write_back(&self.dir);
        let after = self.device.as_deref().and_then(taken);
        let both = self.taken.zip(after);
        let flushes = |(before, after): (Taken, Taken)| after.flushes?.checked_sub(before.flushes?);
        Ok(Spent {
            payload_bytes,
            commits,
            wall_s,
            cpu_s,
            io_bytes: io_bytes()?.saturating_sub(self.io),
            device_bytes: both.map(|(before, after)| after.bytes.saturating_sub(before.bytes)),
            device_flushes: both.and_then(flushes),
            background_bytes_per_s: self.background,
        })
    }
}

/// Asks the file system of `dir` to write back what it holds; without the command the kernel does so in time.
fn write_back(dir: &Path) {
    let asked = Command::new("sync").arg("-f").arg(dir).status();
    if !asked.is_ok_and(|status| status.success()) {
        std::thread::sleep(Duration::from_millis(IDLE_MS));
    }
}

/// Bytes this process caused to be written to a device.
pub(crate) fn io_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/io").context("no /proc/self/io here")?;
    number_of(&text, "write_bytes:").context("/proc/self/io has no write_bytes")
}

/// Greatest resident memory so far, and what of the present is no file's.
pub(crate) fn memory_bytes() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/status").context("no /proc/self/status here")?;
    let kib = |field| number_of(&text, field).map(|kib| kib * 1_024);
    kib("VmHWM:").zip(kib("RssAnon:")).context("/proc/self/status has no memory figures")
}

/// The number after `field` at the start of a line.
fn number_of(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
    rest.trim().trim_end_matches("kB").trim_end().parse().ok()
}

/// Statistics file of the block device under `dir`; none under tmpfs, overlays and the like.
pub(crate) fn device_of(dir: &Path) -> Option<PathBuf> {
    let dev = fs::metadata(dir).ok()?.dev();
    let stat = PathBuf::from(format!("/sys/dev/block/{}:{}/stat", libc::major(dev), libc::minor(dev)));
    stat.exists().then_some(stat)
}

fn taken(stat: &Path) -> Option<Taken> {
    parse_device(&fs::read_to_string(stat).ok()?)
}

fn parse_device(stat: &str) -> Option<Taken> {
    let fields: Vec<u64> = stat.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let bytes = fields.get(6)?.checked_mul(SECTOR_BYTES)?;
    Some(Taken { bytes, flushes: fields.get(15).copied() })
}

/// Room that everything below `dir` takes on disk.
pub(super) fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        // A file that was removed since it was listed takes no room.
        meta => meta.map_or(0, |meta| meta.blocks() * SECTOR_BYTES),
    };
    entries.flatten().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_understood() {
        assert_eq!(number_of("VmRSS:\t 9 kB\nVmHWM:\t  123 kB\n", "VmHWM:"), Some(123));
        assert_eq!(number_of("rchar: 1\nwrite_bytes: 77\n", "write_bytes:"), Some(77));
        let device = "  100 0 200 5   300 0   400 9 0 7 14 0 0 0 0 21 3";
        assert_eq!(parse_device(device), Some(Taken { bytes: 400 * 512, flushes: Some(21) }));
        let old = parse_device("100 0 200 5 300 0 400 9 0 7 14").unwrap();
        assert_eq!(old.flushes, None, "before Linux 5.5");
        assert_eq!(parse_device("1 2"), None);
    }

    #[test]
    fn this_process_has_figures() {
        let (peak, anon) = memory_bytes().unwrap();
        assert!(peak > 0 && anon > 0);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), [7; 10_000]).unwrap();
        std::fs::File::open(dir.path().join("sub/file")).unwrap().sync_all().unwrap();
        assert!(disk_bytes(dir.path()) >= 10_000 || device_of(dir.path()).is_none());
    }
}
