//! Two questions to device files that no crate of ours asks: the newest pulse (RFC 2783), and a hardware clock between
//! reads of the wall clock.

use headwater_core::time::{NS_PER_S, UtcNanos};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct pps_ktime` (linux/pps.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct PpsTime {
    sec: i64,
    nsec: i32,
    flags: u32,
}

/// `struct pps_fdata`: `pps_kinfo`, then the time to wait.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct PpsFetch {
    assert_sequence: u32,
    clear_sequence: u32,
    assert: PpsTime,
    clear: PpsTime,
    current_mode: i32,
    timeout: PpsTime,
}

/// `PTP_MAX_SAMPLES` (linux/ptp_clock.h).
const PTP_SAMPLES_MAX: usize = 25;
/// Reads asked for.
const PTP_SAMPLES: u32 = 5;

/// `struct ptp_clock_time`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct PtpTime {
    sec: i64,
    nsec: u32,
    reserved: u32,
}

/// `struct ptp_sys_offset`: wall clock and hardware clock in turn, the wall clock first and last.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct PtpOffset {
    n_samples: u32,
    reserved: [u32; 3],
    times: [PtpTime; 2 * PTP_SAMPLES_MAX + 1],
}

/// Number of an ioctl, by the rule of `asm-generic/ioctl.h` (x86, ARM, RISC-V).
const fn number(direction: u64, of: u8, n: u64, bytes: usize) -> u64 {
    (direction << 30) | ((bytes as u64) << 16) | ((of as u64) << 8) | n
}

/// `PPS_FETCH`; the header gives it the size of a pointer.
const PPS_FETCH: u64 = number(3, b'p', 0xa4, size_of::<*mut PpsFetch>());
/// `PTP_SYS_OFFSET`.
const PTP_SYS_OFFSET: u64 = number(1, b'=', 5, size_of::<PtpOffset>());

/// The newest pulse of a device: its number, and what the wall clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pulse {
    pub(super) n: u32,
    pub(super) wall: UtcNanos,
}

/// Asks for the newest pulse without waiting for another; none if there was none yet.
#[expect(unsafe_code, reason = "no safe crate of ours reads pulses; see the safety comment")]
pub(super) fn newest_pulse(device: &File, clear: bool) -> io::Result<Option<Pulse>> {
    // A time to wait of zero, and not the flag that says there is none.
    let mut fetch = PpsFetch::default();
    // SAFETY: the fd is open while `device` lives; `fetch` has the layout of `struct pps_fdata`, lives through the call,
    // and the kernel writes no further than its end. On a file that is no pulse device the call fails.
    let failed = unsafe { libc::ioctl(device.as_raw_fd(), PPS_FETCH as _, &raw mut fetch) };
    if failed < 0 {
        return Err(io::Error::last_os_error());
    }
    let (n, time) =
        if clear { (fetch.clear_sequence, fetch.clear) } else { (fetch.assert_sequence, fetch.assert) };
    let wall = time.sec.saturating_mul(NS_PER_S).saturating_add(time.nsec.into());
    Ok((n > 0).then_some(Pulse { n, wall: UtcNanos(wall) }))
}

/// A hardware clock between two reads of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Between {
    pub(super) before: UtcNanos,
    pub(super) shown: UtcNanos,
    pub(super) after: UtcNanos,
}

/// Reads a hardware clock five times and gives the narrowest.
#[expect(unsafe_code, reason = "no safe crate of ours reads hardware clocks; see the safety comment")]
pub(super) fn hardware_clock(device: &File) -> io::Result<Between> {
    let mut offset = PtpOffset {
        n_samples: PTP_SAMPLES,
        reserved: [0; 3],
        times: [PtpTime::default(); 2 * PTP_SAMPLES_MAX + 1],
    };
    // SAFETY: the fd is open while `device` lives; `offset` has the layout of `struct ptp_sys_offset`, lives through the
    // call, and the kernel writes no further than its end. On a file that is no hardware clock the call fails.
    let failed = unsafe { libc::ioctl(device.as_raw_fd(), PTP_SYS_OFFSET as _, &raw mut offset) };
    if failed < 0 {
        return Err(io::Error::last_os_error());
    }
    let at = |time: &PtpTime| UtcNanos(time.sec.saturating_mul(NS_PER_S).saturating_add(time.nsec.into()));
    let used = offset.times.iter().take(2 * PTP_SAMPLES as usize + 1);
    let times: Vec<UtcNanos> = used.map(at).collect();
    let reads = times.windows(3).step_by(2).filter_map(|three| match three {
        [before, shown, after] => Some(Between { before: *before, shown: *shown, after: *after }),
        _ => None,
    });
    let whole = reads.filter(|read| read.before <= read.after);
    whole
        .min_by_key(|read| read.after.since(read.before))
        .ok_or_else(|| io::Error::other("the wall clock went back while it was read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `linux/pps.h` and `linux/ptp_clock.h` give them on 64-bit machines.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn numbers_and_sizes_are_the_headers() {
        assert_eq!((PPS_FETCH, size_of::<PpsFetch>()), (0xC008_70A4, 64));
        assert_eq!((PTP_SYS_OFFSET, size_of::<PtpOffset>()), (0x4340_3D05, 832));
    }

    #[test]
    fn a_file_that_is_no_such_device_is_an_error() {
        let file = File::open("/dev/null").unwrap();
        assert!(newest_pulse(&file, false).is_err());
        assert!(hardware_clock(&file).is_err());
    }
}
