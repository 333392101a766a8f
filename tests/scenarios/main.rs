//! End-to-end scenarios with real processes, real files and a real broker, on loopback.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

mod agent_cli;
mod card;
mod hostile;
mod interrupt;
mod kills;
mod outage;
mod peer;
mod reach;
mod replay;
mod setup;
mod trust;
