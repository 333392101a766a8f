#![doc = include_str!("../../WIRE.md")]

mod ack;
pub mod blob;
pub mod certificate;
pub mod chain;
mod declaration;
mod envelope;
mod hello;
pub mod object;
pub mod primitives;
mod records;
pub mod request;
pub mod revocation;
mod sign;
mod topic;

pub use ack::{
    Ack, AckStream, ClockReply, CreditWait, MISSING_RANGES_MAX, Missing, RANGES_MAX, Refusal, RefusalReason,
    Refused, WaitReason,
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

#[cfg(test)]
mod tests {
    /// The page names what the code holds; a limit that changes changes there too.
    #[test]
    fn the_page_names_the_limits_of_the_code() {
        use crate::batch::{CODECS_BASELINE, CODECS_SUPPORTED, Limits, PACKINGS_SUPPORTED};
        let page = include_str!("../../WIRE.md");
        let v1 = Limits::V1;
        let limits = [
            ("[`MESSAGE_BYTES_ACCEPTED_MAX`]", super::MESSAGE_BYTES_ACCEPTED_MAX),
            ("[`MESSAGE_BYTES_SENT_MAX`]", super::MESSAGE_BYTES_SENT_MAX),
            ("`Limits::small_raw_bytes_max`", v1.small_raw_bytes_max),
            ("`Limits::sections_max`", v1.sections_max),
            ("`Limits::columns_max`", v1.columns_max),
            ("`Limits::values_max`", v1.values_max),
            ("`Limits::decoded_bytes_max`", v1.decoded_bytes_max),
            ("`Limits::value_bytes_max`", v1.value_bytes_max),
            ("`Limits::pco_states_max`", v1.pco_states_max),
            ("`id::STREAMS_MAX`", crate::id::STREAMS_MAX.into()),
            ("`id::STREAM_NAME_BYTES_MAX`", crate::id::STREAM_NAME_BYTES_MAX),
            ("`id::KIND_BYTES_MAX`", crate::id::KIND_BYTES_MAX),
            ("`schema::CANONICAL_BYTES_MAX`", crate::schema::CANONICAL_BYTES_MAX),
            ("`schema::FIELDS_MAX`", crate::schema::FIELDS_MAX),
            ("`CHAIN_CERTIFICATES_MAX`", super::records::CHAIN_CERTIFICATES_MAX),
            ("`CHAIN_BYTES_MAX`", super::records::CHAIN_BYTES_MAX),
            ("[`RANGES_MAX`]", super::RANGES_MAX),
            ("`ENTRIES_MAX`", super::ack::ENTRIES_MAX),
            ("[`revocation::REVOCATION_LISTS_MAX`]", super::revocation::REVOCATION_LISTS_MAX),
            ("[`revocation::REVOCATION_BYTES_SENT_MAX`]", super::revocation::REVOCATION_BYTES_SENT_MAX),
            ("`REFUSAL_BYTES_MAX`, `SOFTWARE_BYTES_MAX`", super::ack::REFUSAL_BYTES_MAX),
            ("`REFUSAL_BYTES_MAX`, `SOFTWARE_BYTES_MAX`", super::hello::SOFTWARE_BYTES_MAX),
            ("[`object::OBJECT_BYTES_MAX`]", super::object::OBJECT_BYTES_MAX),
            ("[`object::MIME_BYTES_MAX`]", super::object::MIME_BYTES_MAX),
        ];
        for (name, value) in limits {
            assert!(page.contains(&format!("| {value} | {name} |")), "{name} is {value}");
        }
        let bits = |map: u32| (0..32).filter(|bit| map >> bit & 1 == 1).collect::<Vec<u32>>();
        assert_eq!(bits(CODECS_BASELINE), [0, 1, 2, 3, 7, 8]);
        assert_eq!(bits(CODECS_SUPPORTED), (0..16).collect::<Vec<_>>());
        assert_eq!(bits(PACKINGS_SUPPORTED.into()), [0, 1, 3]);
        for physical in 0..5 {
            for name in (0..16).filter_map(|codec| crate::batch::codec_name(physical, codec)) {
                assert!(page.contains(name), "codec {name} is not on the page");
            }
        }
    }
}
