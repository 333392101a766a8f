//! The system's clocks and free space: the one place where the collector calls libc.
#![expect(unsafe_code, reason = "clock_gettime, adjtimex and statvfs have no safe form in std")]

use super::acks::ClockQuality;
use headwater_core::id::Sha256;
use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, ClockReading, Grade, NS_PER_S, UtcNanos};
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

/// Greatest error of a clock the kernel says nothing about, ns: the bound it caps at itself (16 s).
const UNKNOWN_ERROR_NS: i64 = 16_000_000_000;

/// Where the collector's own clock bound comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QualitySource {
    /// A bound the operator states, ns; else the kernel's `maxerror` is taken.
    pub bound_ns: Option<i64>,
    /// Whether it is a promise.
    pub grade: Grade,
    /// Which clock this is.
    pub source_id: u64,
}

impl QualitySource {
    /// The bound now.
    #[must_use]
    pub fn read(&self) -> ClockQuality {
        let e_c_ns = self.bound_ns.unwrap_or_else(kernel_max_error_ns);
        ClockQuality { e_c_ns, grade: self.grade, source_id: self.source_id }
    }
}

/// A number for this host's clock in this boot, the same for every process on it.
#[must_use]
pub fn source_id(receiver: &str) -> u64 {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u64::from_le_bytes(Sha256::of(format!("{receiver} {boot}").as_bytes()).head())
}

/// The greatest error of UTC as the kernel knows it, ns. It grows while nobody disciplines the clock.
fn kernel_max_error_ns() -> i64 {
    // SAFETY: an all-zero timex is valid (integers and padding only) and asks for nothing to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is valid for the length of the call; with `modes` 0 the kernel only writes to it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 { UNKNOWN_ERROR_NS } else { timex.maxerror.saturating_mul(1_000) }
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
