#![doc = include_str!("FORMAT.md")]

mod disk;
mod log;
mod reader;
mod record;
mod share;

pub use disk::{StdDisk, StdFile};
pub use log::{Log, SEGMENT_BYTES_MAX, Span};
pub use reader::{Damage, LandingReader};
pub use record::{BlobRecord, LandRecord, MessageRecord, RECORD_BYTES_MAX, RecordFault};

pub use share::{Lease, Presence, ShareBoard};

#[cfg(test)]
pub(crate) use record::read_back;

#[cfg(test)]
pub(crate) mod tests;

use headwater_core::id::{DevicePath, Epoch, IncarnationId, KeyId, ObjectId, Sha256};
use headwater_core::time::UtcNanos;
use headwater_core::wire::{Lane, MessageKind, Sent};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Folder of the logs that imports wrote, and what `ops.batches` names as their receiver. No collector may have this name.
pub const IMPORTED: &str = "imported";

/// A place in the landing log of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LandingPosition {
    /// Whose log.
    pub incarnation: IncarnationId,
    /// Segment number, from 0.
    pub segment: u64,
    /// Byte offset in it.
    pub offset: u64,
}

impl LandingPosition {
    /// Where the first record of an incarnation's log stands.
    #[must_use]
    pub fn start_of(incarnation: IncarnationId) -> Self {
        Self { incarnation, segment: 0, offset: log::HEADER_BYTES as u64 }
    }
}

impl PartialOrd for LandingPosition {
    /// Positions of different incarnations have no order.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.incarnation == other.incarnation)
            .then(|| (self.segment, self.offset).cmp(&(other.segment, other.offset)))
    }
}

/// Where a reader stands in each incarnation's log: everything below was taken. An incarnation that is
/// not named was not read at all.
pub type LandingCursors = BTreeMap<IncarnationId, LandingPosition>;

/// True if `cursors` have passed `end`, the position after a record.
#[must_use]
pub fn is_below(cursors: &LandingCursors, end: &LandingPosition) -> bool {
    cursors.get(&end.incarnation).is_some_and(|cursor| end <= cursor)
}

/// A signed message as it was received. Its signature was checked before it was landed.
#[derive(Debug, Clone)]
pub struct LandedMessage {
    /// Where it starts.
    pub position: LandingPosition,
    /// Position after it: what a cursor says once it was taken.
    pub end: LandingPosition,
    /// Whose.
    pub device: DevicePath,
    /// Life of the device's spool.
    pub epoch: Epoch,
    /// What it carries.
    pub kind: MessageKind,
    /// Lane of its topic.
    pub lane: Lane,
    /// When the device handed it over (T1).
    pub sent: Sent,
    /// When it was received, UTC of the receiver (T2).
    pub received: UtcNanos,
    /// Who signed it.
    pub key_id: KeyId,
    /// Serial of the signer's certificate, lower-case hex.
    pub key_serial: String,
    /// Its log is one of an import, not of a receiver.
    pub imported: bool,
    /// What the signature covers.
    pub digest: Sha256,
    /// The signature.
    pub signature: [u8; 64],
    /// The whole signed message; `headwater_core::wire::Envelope::parse` reads it.
    pub message: Arc<[u8]>,
}

/// A completed object; its bytes were checked against its id and its own digest.
#[derive(Debug, Clone)]
pub struct LandedBlob {
    /// Where it starts.
    pub position: LandingPosition,
    /// Position after it.
    pub end: LandingPosition,
    /// Whose.
    pub device: DevicePath,
    /// Life of the device's spool.
    pub epoch: Epoch,
    /// When its last missing part was received.
    pub received: UtcNanos,
    /// Its id.
    pub object: ObjectId,
    /// Serial of the certificate that signed `part`.
    pub key_serial: String,
    /// One of its parts as a whole signed message, so that its origin can be proven.
    pub part: Arc<[u8]>,
    /// The object's bytes (form 1); `headwater_core::wire::object::BlobObject::from_bytes` reads them.
    pub bytes: Arc<[u8]>,
}

/// One record of a landing log.
#[derive(Debug, Clone)]
pub enum Landed {
    /// A message.
    Message(LandedMessage),
    /// A blob.
    Blob(LandedBlob),
}

impl Landed {
    /// Where it starts.
    #[must_use]
    pub fn position(&self) -> LandingPosition {
        match self {
            Self::Message(message) => message.position,
            Self::Blob(blob) => blob.position,
        }
    }

    /// Position after it.
    #[must_use]
    pub fn end(&self) -> LandingPosition {
        match self {
            Self::Message(message) => message.end,
            Self::Blob(blob) => blob.end,
        }
    }

    /// Payload bytes, for budgets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.message.len(),
            Self::Blob(blob) => blob.bytes.len().saturating_add(blob.part.len()),
        }
    }
}

/// The live log's synced end; it changes whenever more was synced. Only what lies below may be committed.
pub type LandedWatch = watch::Receiver<LandingPosition>;

/// What the newest commit holds, told by the committer after the ref moved (and once at start).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitMark {
    /// Every record below these cursors is in the lake, but for those that wait.
    pub cursors: LandingCursors,
    /// Ends of the messages below them of which something waits for its counterpart.
    pub waiting: HashSet<LandingPosition>,
    /// Id of the newest commit.
    pub commit: Option<Sha256>,
    /// When it was made.
    pub at: Option<UtcNanos>,
}

impl CommitMark {
    /// True if all of the record that ends at `end` is in the lake.
    #[must_use]
    pub fn holds(&self, end: &LandingPosition) -> bool {
        is_below(&self.cursors, end) && !self.waiting.contains(end)
    }
}

/// Why landing or reading the log failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LandError {
    /// The disk failed.
    #[error("landing log failed to {what} {path}")]
    Io {
        /// What it was doing.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that is none of ours, or of a newer version.
    #[error("{path} is not a landing log segment of version {version}; move it away or upgrade")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What this build reads.
        version: u16,
    },
    /// A record above its limit.
    #[error("record of {found} bytes is above the landing log's limit {limit}")]
    TooLarge {
        /// Found.
        found: usize,
        /// Limit.
        limit: usize,
    },
}
