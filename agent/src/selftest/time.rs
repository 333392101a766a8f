//! Do the clocks go on, and do waits end? A 32-bit C library may cut times short; an emulator may lack a clock.

use super::{Found, because};
use crate::clock::{BootClock, asleep_ns, kernel_sync};
use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, NS_PER_MS, NS_PER_S};

/// Readings in a row.
const READINGS: usize = 1_000;
/// A wait, ms.
const WAIT_MS: u64 = 20;

/// The check.
pub(super) fn goes_on() -> Found {
    let (mut last, mut raw, mut narrowest) = (BootNanos(0), 0, i64::MAX);
    for _ in 0..READINGS {
        let reading = BootClock.read();
        if reading.b1 < last || reading.b2 < reading.b1 || reading.raw_ns < raw {
            return Err(format!("a clock went back: {reading:?} after {last:?}"));
        }
        if reading.real.0 < 0 {
            return Err(format!("the wall clock is before 1970: {} ns", reading.real.0));
        }
        (last, raw) = (reading.b2, reading.raw_ns);
        narrowest = narrowest.min(reading.b2.since(reading.b1));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(because("no runtime can be started"))?;
    let at = BootClock.boot().plus_ms(WAIT_MS);
    runtime.block_on(BootClock.sleep_until(at));
    if BootClock.boot() < at {
        return Err("a wait ended early".to_owned());
    }
    let sync = if kernel_sync().synced { "synchronised" } else { "not synchronised" };
    Ok(format!(
        "up {} s, asleep {} ms of it, UTC read to {narrowest} ns, kernel {sync}",
        last.0 / NS_PER_S,
        asleep_ns().max(0) / NS_PER_MS,
    ))
}
