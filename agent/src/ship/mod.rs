//! Ships batches and blobs to the collector and trims the spool by its signed word alone.
//!
//! MQTT is a best-effort pipe with flow control; exactness is store at the edge plus idempotent commit
//! at the collector. So a PUBACK frees a place in the pipe and means nothing more; only an ack whose
//! signature, nonce, incarnation and counter hold lets go of rows.
//!
//! ```text
//! spool ─► batch ─► Shipper ─► Uplink ══► broker ══► collector
//!   ▲                 │  ▲                              │
//!   └──── trim ◄──────┘  └───────── signed acks ◄───────┘
//! ```
//! [`Shipper`] decides and holds no clock, channel or socket; [`run`] waits; [`mqtt`] is the real pipe.

mod absorb;
mod backoff;
mod blob_packing;
mod catchup;
mod cert_time;
mod error;
mod exchange;
mod feed;
mod flight;
mod identity;
pub mod mqtt;
mod pipe;
pub mod policy;
mod port;
mod pull;
mod refused;
mod said;
mod send;
mod session;
mod share;
mod shipper;
mod status;
mod stream;
mod task;
#[cfg(test)]
mod tests;
pub mod tls;
mod verifier;
mod withheld;

pub use backoff::{Backoff, Rng};
pub use catchup::Pace;
pub use cert_time::CertTime;
pub use error::{AckError, ShipError};
pub use exchange::ClockExchange;
pub use feed::BacklogOrder;
pub use identity::ShipIdentity;
pub use port::ShipSpool;
pub use shipper::{Action, HandOver, Nonces, RetainUntil, ShipSettings, Shipper};
pub use status::{LinkDown, ShipCounters, ShipStatus};
pub use task::{Renewal, ShipTask, random_nonces, run};
pub use verifier::ServerTrust;
