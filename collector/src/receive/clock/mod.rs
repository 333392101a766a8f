//! The system's clocks and free space: the one place where the collector calls libc. Beside it: what the collector
//! knows of its own clock ([`host`]), from chrony ([`chrony`]) or the kernel, asked every 16 s ([`watch`]).
#![expect(unsafe_code, reason = "clock_gettime, adjtimex and statvfs have no safe form in std")]

pub mod chrony;
pub mod host;
pub mod watch;

pub use host::{KernelWord, OwnClock, QualitySource};

use headwater_core::id::Sha256;
use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, ClockReading, NS_PER_S, UtcNanos};
use std::io;
use std::path::Path;
use std::time::Duration;

/// The kernel's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

fn gettime(id: libc::clockid_t) -> i64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec for the length of the call. The three clocks read here exist on every
    // kernel that can run this program, so the call cannot fail; if it did, `at` stays zero.
    unsafe { libc::clock_gettime(id, &raw mut at) };
    at.tv_sec.saturating_mul(NS_PER_S).saturating_add(at.tv_nsec)
}

impl Clock for SystemClock {
    fn boot(&self) -> BootNanos {
        BootNanos(gettime(libc::CLOCK_BOOTTIME))
    }

    fn read(&self) -> ClockReading {
        let b1 = self.boot();
        let real = UtcNanos(gettime(libc::CLOCK_REALTIME));
        let raw_ns = gettime(libc::CLOCK_MONOTONIC_RAW);
        ClockReading { b1, real, b2: self.boot(), raw_ns }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the adapter the rule points to")]
    async fn sleep_until(&self, at: BootNanos) {
        let ns = u64::try_from(at.since(self.boot())).unwrap_or(0);
        if ns > 0 {
            tokio::time::sleep(Duration::from_nanos(ns)).await;
        }
    }
}

/// A number for this host's clock in this boot, the same for every process on it.
#[must_use]
pub fn source_id(receiver: &str) -> u64 {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u64::from_le_bytes(Sha256::of(format!("{receiver} {boot}").as_bytes()).head())
}

/// What the kernel says of its own synchronisation (`adjtimex`); asks for nothing to be changed.
#[must_use]
pub fn kernel_word() -> KernelWord {
    // SAFETY: an all-zero timex is valid (integers and padding only) and asks for nothing to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is valid for the length of the call; with `modes` 0 the kernel only writes to it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    KernelWord {
        synchronised: state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        max_error_us: if state < 0 { i64::MAX } else { timex.maxerror },
    }
}

/// Bytes free to us on the file system of `path`.
///
/// # Errors
/// What the system says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let c_path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero statvfs is valid: it holds integers only.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `c_path` ends in NUL and `stat` is valid; both outlive the call.
    if unsafe { libc::statvfs(c_path.as_ptr(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
