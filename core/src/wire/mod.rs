#![doc = include_str!("FORMAT.md")]

mod ack;
pub mod blob;
pub mod chain;
mod declaration;
mod envelope;
mod hello;
pub mod object;
pub mod primitives;
mod records;
mod sign;
mod topic;

pub use ack::{
    Ack, AckStream, ClockReply, MISSING_RANGES_MAX, Missing, RANGES_MAX, Refusal, RefusalReason, Refused,
};
pub use declaration::{Declaration, DeclarationError};
pub use envelope::{
    ENVELOPE_BYTES, Envelope, EnvelopeError, HEADER_BYTES, MESSAGE_BYTES_ACCEPTED_MAX,
    MESSAGE_BYTES_SENT_MAX, MessageKind, Sent, TRAILER_BYTES, Unsigned, peek_chain,
};
pub use hello::{Capabilities, Hello, HelloStream};
pub use records::{RecordError, WatermarkRanges};
pub use sign::{SignError, SigningKey, VerifyingKey};
pub use topic::{Lane, Topic, TopicError};
