//! Sources: adapters that yield what a sensor, receiver or camera said.

use crate::gap::GapCause;
use crate::id::StreamName;
use crate::sample::Reading;
use crate::schema::Schema;
use crate::time::{BootNanos, ClockDomain, Grade};
use std::future::Future;

/// What was learned of the clock of an attached device: a row of `hw/clock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceClockEvent {
    /// A clock begins: a device was heard, started again, or its clock jumped. Nothing joins it to the one before.
    Begins {
        /// Its name from now on; no other clock of this gateway ever has it.
        domain: ClockDomain,
        /// When it was noticed.
        at: BootNanos,
        /// Which device, and why, for a person.
        detail: String,
    },
    /// The device's clock and the gateway's met.
    Met(DeviceExchange),
}

/// Four stamps of one exchange with a device. `B(t2) ≥ t1 + w_ping` and `B(t3) ≤ t4 − w_pong` hold, where `B` tells the
/// boot time of a moment of the device's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceExchange {
    /// The device's clock.
    pub domain: ClockDomain,
    /// Boot time just before asking, less the tick by which `t2` may be too early.
    pub t1: BootNanos,
    /// Device time of the question's arrival, cut to a tick, ns.
    pub t2_ns: i64,
    /// Device time of the answer's departure, cut to a tick, ns; not before `t2`.
    pub t3_ns: i64,
    /// Boot time after the answer was read.
    pub t4: BootNanos,
    /// Least time the question took on the wire, ns; 0 unless known.
    pub w_ping_ns: i64,
    /// Least time the answer took on the wire, ns; 0 unless known.
    pub w_pong_ns: i64,
    /// How far the device's own clock may run off, ppb; that of the gateway's clock comes to it.
    pub rho_ppb: i64,
    /// What it may claim: *guaranteed* for an answer, *estimated* where only a declared latency stands behind it.
    pub grade: Grade,
    /// For a person.
    pub detail: String,
}

/// What a source yields.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceEvent {
    /// A stream exists; always before its first reading. Again with another schema when it changed.
    Stream {
        /// Name.
        name: StreamName,
        /// Schema.
        schema: Schema,
    },
    /// A reading of a stream.
    Reading {
        /// Whose.
        stream: StreamName,
        /// What was read.
        reading: Reading,
    },
    /// Readings known lost before they could be stamped; they still take their seqs.
    Lost {
        /// Whose.
        stream: StreamName,
        /// How many.
        rows: u64,
        /// Why.
        cause: GapCause,
        /// When it was noticed.
        at: BootNanos,
        /// What happened, for a person.
        note: String,
    },
    /// Bytes that are no reading, kept aside with the reason (a broken image, a sentence of noise).
    SetAside {
        /// Whose they would have been.
        stream: StreamName,
        /// Why they are none.
        why: String,
        /// The bytes, cut to what is worth keeping.
        bytes: Vec<u8>,
        /// When.
        at: BootNanos,
    },
    /// What was learned of the clock of an attached device; always before the first reading stamped by it.
    DeviceClock(DeviceClockEvent),
}

/// A source that is over. Sources that can come back do so themselves and never return this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It ended as it should (a finite file, a command that exits once).
    #[error("source ended")]
    Ended,
    /// It cannot go on.
    #[error("source cannot go on: {0}")]
    Broken(String),
}

/// An adapter at the agent's outer edge.
pub trait Source: Send {
    /// The next event. Cancel-safe: dropping the future loses nothing. After an error, always that error.
    ///
    /// # Errors
    /// [`SourceError`] once it is over.
    fn next(&mut self) -> impl Future<Output = Result<SourceEvent, SourceError>> + Send;
}
