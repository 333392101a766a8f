//! Simulated clocks whose truth is known: what a gateway's line is in UTC, and what sources say of it.
//!
//! A [`Plan`] and a seed give a [`SimulatedDevice`]: boots with crystals that drift, warm up and wander, and all that
//! daemons, receivers and a collector behind a slow link told of them, honestly or not. The same seed gives the same
//! device. Nothing here knows how times are resolved: whether a statement is false is judged by the crystal.

mod chance;
mod crystal;
pub mod judge;
mod mcu;
mod plan;
mod tell;
#[cfg(test)]
mod tests;
mod wall;

pub use crystal::{Crystal, CrystalSpec};
pub use mcu::{SerialLine, SimulatedMcu};
pub use plan::{Lies, Link, Plan, Sources, Trouble};
pub use tell::{SimulatedBoot, SimulatedDevice, Told};
pub use wall::WallClock;
