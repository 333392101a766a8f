//! Observe: what this gateway can know of UTC, as rows of `hw/clock` for the collector.
//!
//! ```text
//!  kernel ──looks──┐
//!  chronyc ────────┤
//!  gpsd ───────────┼─reports─► Observer ──rows──► stamp
//!  pulses, ptp ────┤             ▲
//!  own receivers ──┘             └── exchanges ── ship
//! ```
//!
//! [`Observer`] decides and is pure; [`run`] waits; adapters ask one source each, on tasks of their own and with limits
//! of time and size. Sources are never merged or weighed here: each gets rows, with what it may claim at most. Nothing in
//! the agent takes the wall clock for true, sets it, or waits for a source (A3).

mod chrony;
mod chronyc;
mod decimal;
mod devices;
mod edges;
mod found;
mod gps;
mod gpsd;
mod gpsd_client;
mod heard;
mod ioctl;
mod kernel;
mod look;
mod observer;
mod report;
mod sentences;
mod status;
mod task;

pub use chrony::{ChronyLeap, Tracking};
pub use found::{Found, find};
pub use kernel::{GatewayKernel, Kernel, rtc_set_the_clock};
pub use look::Look;
pub use observer::{Observer, ObserverSettings};
pub use report::{Arrival, Report};
pub use sentences::SentenceTap;
pub use status::{ClockStatus, TimeSourceStatus};
pub use task::{ObserveTask, REPORTS_MAX, run};

#[cfg(test)]
mod tests;
