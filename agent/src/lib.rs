//! The agent: captures sensors, fixes and pictures, stamps them, spools them crash-safely and ships them.
//!
//! ```text
//! source ─► stamp ─► spool ─► batch ─► ship ══ MQTT/TLS ══► collector
//!                      ▲                │
//!                      └──── trim ◄─────┴◄── acks
//! ```
//! Stages never import each other's insides; [`pipeline`] alone knows the order.
#![cfg_attr(panic = "abort", doc = "never built this way")]

#[cfg(panic = "abort")]
compile_error!("the agent must unwind: sled's open may panic on a torn log and is caught");

pub mod batch;
pub mod card;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decode;
pub mod domains;
pub mod enroll;
mod gpsd;
pub mod notify;
pub mod observe;
pub mod pipeline;
pub mod quarantine;
pub mod receipt;
pub mod selftest;
pub mod setup;
pub mod ship;
pub mod source;
pub mod spool;
pub mod stamp;
pub mod status;
pub mod telemetry;
pub mod trust;
