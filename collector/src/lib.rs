//! The collector: receives, lands, dedups, resolves, aligns, audits and commits what agents ship.
//!
//! ```text
//! receive ─► land ─► dedup ─► resolve ─┬─────────────────► commit ─► serve
//!    │                                 └─► align ─► gate ─►┘
//!    └──► acks: durable / committed, credit, clock replies, schema requests
//! ```
//! Raw and ops rows commit at once; aligned rows come after them, through the gate.

pub mod align;
pub mod backfill;
pub mod cli;
pub mod commit;
pub mod config;
pub mod credentials;
pub mod dedup;
pub mod events;
pub mod gate;
pub mod import;
pub mod inbound;
pub mod ingest;
pub mod land;
pub mod outbound;
pub mod pipeline;
pub mod pki;
pub mod query;
pub mod receive;
pub mod registry;
pub mod resolve;
pub mod serve;
pub mod telemetry;
pub mod upkeep;
pub mod verify;

/// Name and version, as hello answers and pages show it.
pub const SOFTWARE: &str = concat!("headwater-collector ", env!("CARGO_PKG_VERSION"));
