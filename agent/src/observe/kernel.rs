//! The kernel's end of the observer: looks at its clocks, and word that the wall clock was set.

use super::look::Look;
use crate::clock::{BootClock, asleep_ns, kernel_sync};
use headwater_core::ports::Clock;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Made by systemd-timesyncd when it has synchronised the wall clock; gone after a boot.
const TIMESYNCD_FILE: &str = "/run/systemd/timesync/synchronized";
/// When the timer would fire, s of Unix time: the year 2255. It is armed only to be cancelled.
const FAR_S: i64 = 9_000_000_000;

/// What the observer asks of the kernel. Looking must not block.
pub trait Kernel: Send + 'static {
    /// A look at the clocks.
    fn look(&self) -> Look;

    /// Completes soon after the wall clock was set, or a suspend is over; perhaps never, since not every kernel tells.
    /// Dropping the future loses nothing.
    fn was_set(&mut self) -> impl Future<Output = ()> + Send;
}

/// The gateway's kernel.
#[derive(Debug)]
pub struct GatewayKernel {
    clock: BootClock,
    timesyncd: bool,
    timer: Option<AsyncFd<OwnedFd>>,
}

impl GatewayKernel {
    /// Must be made inside the runtime. `timesyncd` says whether to look for its file.
    #[must_use]
    pub fn new(clock: BootClock, timesyncd: bool) -> Self {
        let timer = timer().inspect_err(|error| {
            tracing::warn!(%error, "the kernel does not tell when the clock is set; it is looked at every second");
        });
        Self { clock, timesyncd, timer: timer.ok() }
    }
}

/// A timer on the wall clock that fires only when the clock is set: without ABSTIME the flag does nothing.
fn timer() -> std::io::Result<AsyncFd<OwnedFd>> {
    let fd = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    arm(&fd)?;
    registered(fd)
}

#[expect(unsafe_code, reason = "tokio offers no safe way any more; see the safety comment")]
fn registered(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the fd is open, and stays open and the same until the `AsyncFd`, which owns it, is dropped.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

fn arm(fd: &OwnedFd) -> Result<(), Errno> {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let at = Itimerspec { it_interval: never, it_value: Timespec { tv_sec: FAR_S, tv_nsec: 0 } };
    match timerfd_settime(fd, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &at) {
        // The clock was set meanwhile: the timer runs all the same (timerfd_create(2)).
        Ok(_) | Err(Errno::CANCELED) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Kernel for GatewayKernel {
    fn look(&self) -> Look {
        Look {
            reading: self.clock.read(),
            asleep_ns: asleep_ns(),
            kernel: kernel_sync(),
            timesyncd: self.timesyncd && Path::new(TIMESYNCD_FILE).exists(),
        }
    }

    async fn was_set(&mut self) {
        let Some(timer) = &self.timer else { return std::future::pending().await };
        let failed = loop {
            let mut ready = match timer.readable().await {
                Ok(ready) => ready,
                Err(error) => break error,
            };
            let mut expirations = [0; 8];
            match rustix::io::read(timer.get_ref(), &mut expirations) {
                Err(Errno::AGAIN | Errno::INTR) => ready.clear_ready(),
                // Cancelled, or it fired because the clock went beyond the year 2255: it was set either way.
                Err(Errno::CANCELED) | Ok(_) => {
                    ready.clear_ready();
                    match arm(timer.get_ref()) {
                        Ok(()) => return,
                        Err(error) => break error.into(),
                    }
                }
                Err(error) => break error.into(),
            }
        };
        tracing::warn!(error = %failed, "the kernel does not tell any more when the clock is set");
        self.timer = None;
    }
}

/// Whether a clock with a battery set the wall clock when the kernel started.
#[must_use]
pub fn rtc_set_the_clock() -> bool {
    let Ok(clocks) = std::fs::read_dir("/sys/class/rtc") else { return false };
    clocks.flatten().any(|clock| {
        std::fs::read_to_string(clock.path().join("hctosys")).is_ok_and(|text| text.trim() == "1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn looks_and_waits_for_a_clock_that_nobody_sets() {
        let mut kernel = GatewayKernel::new(BootClock, true);
        assert!(kernel.timer.is_some(), "this kernel can tell");
        let (first, second) = (kernel.look(), kernel.look());
        assert!(first.reading.b1 <= second.reading.b1);
        assert!((second.asleep_ns - first.asleep_ns).abs() < 1_000_000_000);
        let told = tokio::time::timeout(Duration::from_millis(50), kernel.was_set()).await;
        assert!(told.is_err(), "nobody set it");
        assert!(kernel.timer.is_some());
    }
}
