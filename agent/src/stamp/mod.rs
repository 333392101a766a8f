//! Stamp: gives readings their seq and boot ordinal, and puts them together as slabs for the spool.
//!
//! The pure halves decide ([`Stamper`] numbers, [`SlabBuilder`] groups, [`GapQueue`] keeps what is
//! missing, [`track`] says what the clocks show); [`run`] waits. What has a seq is either in a slab or
//! in a gap record (invariant D2), and nothing here waits for the network (A3).

mod device_rows;
mod gaps;
mod policy;
mod slab;
mod stamper;
mod task;
pub mod track;

pub use gaps::GapQueue;
pub use policy::policy_of;
pub use slab::{SLAB_BYTES_MAX, SLAB_MS_MAX, SlabBuilder};
pub use stamper::{Refused, Stamper};
pub use task::{Captured, EVENTS_MAX, StampTask, run};

#[cfg(test)]
mod tests;
