//! Processor time of this process: what a busy machine does not change.

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// User and system time of all threads so far.
pub(crate) fn cpu_time() -> Result<Duration> {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Duration::new(now.tv_sec.try_into()?, now.tv_nsec.try_into()?))
}
