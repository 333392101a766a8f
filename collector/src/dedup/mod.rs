//! Dedup: sorts arriving samples into new and known at the grain of a sample (D1), and knows what is still missing (D2).
//!
//! The ledger is pure: interval sets per (device, epoch, stream), filled from `ops.ledger` and `ops.gaps` at start and
//! from what is admitted afterwards. Any re-batching by an agent, any overlap of landing logs, any replay after a crash
//! is harmless because of it.

mod ledger;

pub use ledger::{Ledger, Sorted, StreamKey};
