//! Sources: adapters that yield what a sensor, receiver or camera said.

use crate::gap::GapCause;
use crate::id::StreamName;
use crate::sample::Reading;
use crate::schema::Schema;
use crate::time::BootNanos;
use std::future::Future;

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
