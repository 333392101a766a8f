//! The spool on the real kernel: power cuts of a real ext4, killed processes, and disks that fill up, turn
//! read-only or go away under a running capture.
//!
//! Mounting needs root and loop devices; without them those tests say so in one line and pass. Fifteen power
//! cuts of each kind and a hundred kills belong to the ordinary run. For more cuts:
//! `HEADWATER_POWER_CUTS=200 cargo test -p headwater-agent --test spool_kernel power_cut`.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests: a failure is a failed test, and numbers are small"
)]

mod cuts;
#[path = "../spool_world/mod.rs"]
#[expect(dead_code, reason = "shared by the tests of the spool; each uses its part")]
mod spool_world;
mod trouble;
mod witness;
mod writer;
