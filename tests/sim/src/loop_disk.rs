//! The one thing here that is not simulated: a real ext4 in a file, whose power can be cut.
//!
//! Only root may mount, and only where there are loop devices: ask [`LoopDisk::why_not`] first. The cut is
//! ext4's own shutdown without flushing its log: from then on every call fails and nothing more reaches the
//! medium, which is then found as a power cut leaves it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, u32)`.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: what is not in the log by now is gone.
static NO_LOG_FLUSH: u32 = 2;
/// Longest any command of the system may take, seconds.
const COMMAND_SECONDS_MAX: &str = "60";
/// Names of mount points; the number after it is the process they belong to.
const PREFIX: &str = "headwater-loop-";

/// A mounted ext4 in a file. Dropping it unmounts it and removes both; one left by a process that was killed is
/// removed by the next [`LoopDisk::make`].
#[derive(Debug)]
pub struct LoopDisk {
    dir: PathBuf,
}

fn run(program: &str, args: &[&str]) -> io::Result<()> {
    let done = Command::new("timeout")
        .args(["--kill-after=5", COMMAND_SECONDS_MAX, program])
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {} {said}", args.join(" "), done.status)))
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl LoopDisk {
    /// Why no such disk can be made here, if so.
    #[must_use]
    pub fn why_not() -> Option<&'static str> {
        let in_path = |program: &str| {
            let places = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&places).any(|place| place.join(program).exists())
        };
        if fs::metadata("/proc/self").map_or(1, |me| me.uid()) != 0 {
            return Some("only root may mount");
        }
        if !Path::new("/dev/loop-control").exists() {
            return Some("there are no loop devices");
        }
        (!["mkfs.ext4", "mount", "umount", "timeout"].into_iter().all(in_path))
            .then_some("mkfs.ext4, mount, umount and timeout are not all installed")
    }

    /// Makes one of `bytes` below `parent` and mounts it.
    ///
    /// # Errors
    /// What the system says; then nothing is left behind.
    pub fn make(parent: &Path, bytes: u64) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_orphans();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        let disk = Self { dir };
        fs::create_dir_all(disk.path())?;
        File::create_new(disk.image())?.set_len(bytes)?;
        run("mkfs.ext4", &["-q", "-F", text(&disk.image())?])?;
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.dir.join("image")
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("mount")
    }

    /// Cuts its power.
    ///
    /// # Errors
    /// What the system says.
    #[expect(unsafe_code, reason = "the standard library has no call for this")]
    pub fn cut_power(&self) -> io::Result<()> {
        let root = File::open(self.path())?;
        // SAFETY: the descriptor is open, and the call reads one u32 that outlives it.
        match unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const NO_LOG_FLUSH) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Unmounts it; every file on it must be closed.
    ///
    /// # Errors
    /// What the system says.
    pub fn unmount(&self) -> io::Result<()> {
        run("umount", &[text(&self.path())?])
    }

    /// Mounts it, as the system does after the power came back.
    ///
    /// # Errors
    /// What the system says.
    pub fn mount(&self) -> io::Result<()> {
        run("mount", &["-t", "ext4", "-o", "loop", text(&self.image())?, text(&self.path())?])
    }

    /// Unmounts, forgets what the system holds in memory of it, and mounts.
    ///
    /// # Errors
    /// What the system says.
    pub fn remount(&self) -> io::Result<()> {
        self.unmount()?;
        // Only to be sure: unmounting dropped its pages already.
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        self.mount()
    }

    /// Makes every name below it read-only while the guard lives: nothing can be created, renamed or removed.
    /// Files already open for writing stay so; the kernel refuses to make those read-only.
    ///
    /// # Errors
    /// What the system says.
    pub fn read_only(&self) -> io::Result<ReadOnly<'_>> {
        let path = self.path();
        run("mount", &["--bind", text(&path)?, text(&path)?])?;
        let guard = ReadOnly { disk: self };
        run("mount", &["-o", "remount,bind,ro", text(&path)?])?;
        Ok(guard)
    }

    /// Takes all its space with one file, which is removed again with [`LoopDisk::free`].
    ///
    /// # Errors
    /// What the system says, but for that it is full.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path().join("filler"))?;
        for block in [1 << 20, 4096, 64] {
            let block = vec![0xa5; block];
            loop {
                match io::Write::write_all(&mut file, &block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back: ext4 hands freed blocks out again once the transaction that freed them is committed.
    ///
    /// # Errors
    /// What the system says.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.path().join("filler"))?;
        fs::File::open(self.path())?.sync_all()
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// See [`LoopDisk::read_only`].
#[derive(Debug)]
pub struct ReadOnly<'a> {
    disk: &'a LoopDisk,
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        self.disk.unmount().unwrap_or_else(|error| eprintln!("read-only mount stays: {error}"));
    }
}

/// Lines of `/proc/self/mounts` below `dir`.
fn mounts_below(dir: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    points.filter(|point| Path::new(point).starts_with(dir)).count()
}

fn remove(dir: &Path) {
    let point = dir.join("mount");
    // A mount over the mount (read-only) comes off first; the bound is only against a loop without end.
    for _ in 0..4 {
        if mounts_below(dir) == 0 {
            break;
        }
        let Ok(at) = text(&point) else { return };
        // Lazily if somebody still holds a file of it: the loop device then goes with the last of them.
        if let Err(error) = run("umount", &[at]).or_else(|_| run("umount", &["-l", at])) {
            eprintln!("loop disk stays mounted: {error}");
        }
    }
    if mounts_below(dir) == 0
        && let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("loop disk {} stays: {error}", dir.display());
    }
}

/// Takes away what processes left that were killed.
pub fn remove_orphans() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let Some(dir) = Path::new(point).parent() else { continue };
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !pid.is_empty() && !Path::new("/proc").join(pid).exists()) {
            remove(dir);
        }
    }
}
