//! What the batcher hands on: bytes ready to be framed, with the rows they stand for.

use headwater_core::batch::{Rows, StreamRef};
use headwater_core::id::{BootOrdinal, Epoch, ObjectId, StreamId};
use headwater_core::schema::Fingerprint;
use headwater_core::time::BootNanos;
use std::ops::Range;
use std::sync::Arc;

/// Rows of one stream inside a sealed batch or blob: what an ack must cover before it is let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Whose rows.
    pub stream: StreamId,
    /// Their schema.
    pub fingerprint: Fingerprint,
    /// Their seqs.
    pub seqs: Range<u64>,
    /// Their boot.
    pub boot_ordinal: BootOrdinal,
    /// Stamp of the first row, ns.
    pub b_first: BootNanos,
    /// Stamp of the last row, ns.
    pub b_last: BootNanos,
}

impl Hold {
    /// The rows of a section; `None` if its stream has no id.
    #[must_use]
    pub fn of(rows: &Rows) -> Option<Self> {
        let StreamRef::Id(stream) = rows.stream else { return None };
        let at = |row: usize| BootNanos(rows.t_ns(row).unwrap_or(0));
        Some(Self {
            stream,
            fingerprint: rows.fingerprint,
            seqs: rows.seqs(),
            boot_ordinal: rows.boot_ordinal,
            b_first: at(0),
            b_last: at(rows.len().saturating_sub(1)),
        })
    }
}

/// A batch body that fits one message and reads back bit for bit.
#[derive(Debug, Clone)]
pub struct SealedBatch {
    /// The life of the spool the ids and seqs belong to.
    pub epoch: Epoch,
    /// Encoded body.
    pub body: Vec<u8>,
    /// The rows in it.
    pub holds: Vec<Hold>,
}

/// A blob as an object, to be cut into parts.
#[derive(Debug, Clone)]
pub struct SealedBlob {
    /// The life of the spool the row belongs to.
    pub epoch: Epoch,
    /// Content id of `object`.
    pub id: ObjectId,
    /// The object's bytes.
    pub object: Arc<[u8]>,
    /// The row it belongs to.
    pub hold: Hold,
}

/// Rows that cannot be sent as they are. They stay in the spool, unacked, and are counted: a later
/// version or another limit may send them, and nothing is lost meanwhile (A1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rows {seqs:?} of stream {stream:?} stay in the spool: {why}")]
pub struct Withheld {
    /// Whose rows.
    pub stream: StreamRef,
    /// Which.
    pub seqs: Range<u64>,
    /// Why.
    #[source]
    pub why: WithheldWhy,
}

/// Why rows cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WithheldWhy {
    /// One row alone does not fit a message.
    #[error("one row encodes to {found} bytes, a message holds {limit}")]
    RowTooLarge {
        /// Encoded bytes.
        found: usize,
        /// Bytes of a body.
        limit: usize,
    },
    /// A slab on its own does not read back as it was written: a bug of the codec.
    #[error("the codec does not read back what it wrote")]
    Codec,
    /// The rows name no stream id.
    #[error("the slab names its stream without an id")]
    NoId,
    /// The blob breaks the limits of an object.
    #[error("a blob of {found} bytes, or its media type, is above the limit of an object")]
    Blob {
        /// Bytes of the blob.
        found: usize,
    },
}

/// What comes out of the batcher.
#[derive(Debug, Clone)]
pub enum Sealed {
    /// A batch.
    Batch(SealedBatch),
    /// A blob.
    Blob(SealedBlob),
    /// Rows that stay.
    Withheld(Withheld),
}
