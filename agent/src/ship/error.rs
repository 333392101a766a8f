//! What the shipper has to say when something is not as it should be; each is counted and logged.

use crate::batch::Withheld;
use headwater_core::id::{Epoch, IncarnationId, Seq, StreamId};
use headwater_core::ports::RefusedFor;
use headwater_core::schema::Fingerprint;
use headwater_core::wire::chain::ChainError;
use headwater_core::wire::revocation::RevocationError;
use headwater_core::wire::{EnvelopeError, RecordError, Refusal};
use std::ops::Range;

/// Why an ack was not used. It trimmed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// Not a sound message, or signed by another key.
    #[error("ack does not verify")]
    Envelope(#[from] EnvelopeError),
    /// Another kind of message on the ack topic.
    #[error("message on the ack topic is no ack")]
    Kind,
    /// It speaks of another life of the spool.
    #[error("ack names epoch {0}, ours is another")]
    Epoch(Epoch),
    /// Its body cannot be read.
    #[error("ack cannot be read")]
    Record(#[from] RecordError),
    /// The chain in a hello's answer proves nothing.
    #[error("collector's chain does not hold; check ca.pem and the gateway's clock")]
    Chain(#[from] ChainError),
    /// Revocation lists in a hello's answer prove nothing.
    #[error("revocation lists of the collector do not hold")]
    Revocations(#[from] RevocationError),
    /// The collector belongs to another tenant.
    #[error("collector belongs to tenant {0}")]
    Tenant(String),
    /// It answers another hello: an old answer, replayed or late.
    #[error("ack answers another hello")]
    Nonce,
    /// It came before our hello was answered.
    #[error("ack came before our hello was answered")]
    Early,
    /// Another life of the receiver, or a replay of one.
    #[error("ack comes from incarnation {0}, which answered no hello of ours")]
    Incarnation(IncarnationId),
    /// Not newer than one already used: repeated, reordered or replayed.
    #[error("ack {counter} is not newer than {last}")]
    Counter {
        /// Its counter.
        counter: u64,
        /// The last one used.
        last: u64,
    },
}

impl AckError {
    /// True if the sender may be a restarted or moved receiver, which a hello would settle.
    #[must_use]
    pub fn wants_hello(&self) -> bool {
        matches!(self, Self::Envelope(EnvelopeError::WrongKey) | Self::Incarnation(_))
    }
}

/// Something a person or a counter should know of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShipError {
    /// An ack was not used.
    #[error("refused an ack")]
    Ack(#[from] AckError),
    /// The collector holds seqs we never gave out: this card was restored or cloned. Nothing is
    /// shipped or trimmed until the spool starts a new epoch.
    #[error(
        "the collector holds stream {stream:?} up to {acked}, this spool only knows seqs below {next:?}: \
         the card was restored or cloned, start a new epoch"
    )]
    RestoredCard {
        /// Stream.
        stream: StreamId,
        /// One past the greatest seq the collector named.
        acked: u64,
        /// Our next seq.
        next: Seq,
    },
    /// A later ack names seqs we never gave out; it trimmed nothing.
    #[error("ack reaches seq {acked} of stream {stream:?}, beyond next seq {next:?}")]
    BeyondNext {
        /// Stream.
        stream: StreamId,
        /// One past the greatest seq named.
        acked: u64,
        /// Our next seq.
        next: Seq,
    },
    /// The collector refused rows or a message.
    #[error("collector refused rows {seqs:?} of stream {stream:?}: {}", refusal.text)]
    Refused {
        /// Stream.
        stream: StreamId,
        /// Rows.
        seqs: Range<u64>,
        /// Why.
        refusal: Refusal,
        /// They were given up and recorded as a gap.
        released: bool,
    },
    /// The collector asks for a schema this spool no longer knows.
    #[error("schema {fingerprint:?} of stream {stream:?} is not known here any more")]
    SchemaUnknown {
        /// Stream.
        stream: StreamId,
        /// Fingerprint.
        fingerprint: Fingerprint,
    },
    /// The collector takes nothing of this gateway any more.
    #[error(
        "the collector shuts this gateway out: {why}; captures stay here. Give it new certificates: `headwater-agent enroll` \
         with a new token"
    )]
    ShutOut {
        /// The collector's words.
        why: String,
    },
    /// Collectors that are revoked became known.
    #[error("the fleet revoked {n} certificates of collectors; acks of them are refused")]
    Revocations {
        /// How many are known now.
        n: usize,
    },
    /// A message cannot be made or is above the broker's limit.
    #[error("{what} of {found} bytes does not fit a message of {limit}")]
    Oversize {
        /// Which message.
        what: &'static str,
        /// Its bytes.
        found: usize,
        /// Limit.
        limit: usize,
    },
    /// Rows that stay in the spool.
    #[error(transparent)]
    Withheld(#[from] Withheld),
    /// A slab of an older life of the spool; it stays where it is.
    #[error("slab of epoch {0} cannot be shipped by this version and stays in the spool")]
    ForeignEpoch(Epoch),
    /// The broker refused a message. It stays, and goes again later.
    #[error("the broker refused a message: {why}")]
    RefusedByBroker {
        /// Why.
        why: RefusedFor,
    },
    /// The broker takes messages but no ack comes.
    #[error("the broker takes messages but the collector has been silent for {silent_s} s")]
    CollectorSilent {
        /// Since when, s.
        silent_s: i64,
    },
    /// A clock reply that bounds nothing: no clocks that run as they should can have given its stamps.
    #[error("the collector's clock stepped while it answered, or lies: its reply is not used ({n} so far)")]
    ClockReply {
        /// How many there were.
        n: u64,
    },
    /// Credit did not grow for long; hello starts the count anew.
    #[error("no credit for {stalled_s} s, saying hello again")]
    CreditStalled {
        /// Since when, s.
        stalled_s: i64,
    },
}
