//! Setting a gateway up: what there is to capture, and a configuration that captures it.
//!
//! ```text
//! look (files) ─┐
//! gpsd ─────────┼─► Findings ─► offers ─► people say yes ─► compose ─► agent.toml
//! probe (ports) ┘
//! ```
//! [`plan`] and [`listen`] are pure; the rest looks, listens and writes. Nothing is ever sent to a port, and a
//! configuration that is there is only added to, when that was asked for, with a copy kept.

mod findings;
mod listen;
mod look;
mod plan;
mod ports;
mod probe;
mod write;

pub use findings::{Findings, FoundCamera, FoundGpsd, FoundPort, FoundSensors, Heard};
pub use look::look;
pub use plan::{Basis, Captured, Offer, compose, extend, offers};
pub use ports::{Candidate, PORTS_MAX, candidates};
pub use probe::{PortOpener, Ttys, ask_gpsd, probe, probe_all};
pub use write::{Written, add, create};

#[cfg(test)]
mod tests;
