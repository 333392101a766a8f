//! Hello: the device presents its certificate, its boot and what it holds.

use super::blob::BLOB_CODECS_SUPPORTED;
use super::primitives::{PrimitiveError, Reader, put_bytes, put_uv};
use super::records::{
    RecordError, TAG_BOOT, TAG_CAPABILITIES, TAG_DEVICE_CHAIN, TAG_HELLO_STREAM, TAG_MESSAGE_MAX, TAG_NONCE,
    WatermarkRanges, for_each, put_chain, put_ranges, put_record, read_chain, read_ranges, read_stream_id,
};
use crate::batch::{CODECS_SUPPORTED, PACKINGS_SUPPORTED};
use crate::id::{BootId, BootOrdinal, STREAMS_MAX, Seq, StreamId};

/// Longest software name, bytes.
pub(super) const SOFTWARE_BYTES_MAX: usize = 128;

/// What a side can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Highest major version.
    pub major: u8,
    /// Column codecs, bit n = codec n.
    pub codecs: u32,
    /// Ways of packing a batch, bit n.
    pub packings: u8,
    /// Blob codecs, bit n.
    pub blob_codecs: u8,
    /// Name and version, for people.
    pub software: String,
}

impl Capabilities {
    /// What this version can read.
    #[must_use]
    pub fn ours(software: &str) -> Self {
        let software = crate::gap::truncated(software, SOFTWARE_BYTES_MAX);
        Self {
            major: 1,
            codecs: CODECS_SUPPORTED,
            packings: PACKINGS_SUPPORTED,
            blob_codecs: BLOB_CODECS_SUPPORTED,
            software,
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let mut body = vec![self.major];
        body.extend_from_slice(&self.codecs.to_le_bytes());
        body.extend_from_slice(&[self.packings, self.blob_codecs]);
        put_bytes(&mut body, self.software.as_bytes());
        put_record(out, TAG_CAPABILITIES, &body);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, PrimitiveError> {
        Ok(Self {
            major: reader.u8()?,
            codecs: reader.u32()?,
            packings: reader.u8()?,
            blob_codecs: reader.u8()?,
            software: reader.text(SOFTWARE_BYTES_MAX)?.to_owned(),
        })
    }
}

/// What the device holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloStream {
    /// Stream.
    pub id: StreamId,
    /// Next seq to be given.
    pub next_seq: Seq,
    /// Oldest seq still held.
    pub oldest_held: Seq,
    /// Held and not yet acked, from `oldest_held` on.
    pub unacked: WatermarkRanges,
}

/// The first message of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Boot of the gateway.
    pub boot_ordinal: BootOrdinal,
    /// The kernel's name for it.
    pub boot_id: BootId,
    /// What the device can read.
    pub capabilities: Capabilities,
    /// Largest message it can send and take, bytes.
    pub message_bytes_max: u64,
    /// One entry per stream.
    pub streams: Vec<HelloStream>,
    /// Signing chain, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Random, one per hello; echoed by the ack that answers it.
    pub nonce: [u8; 16],
}

impl Hello {
    /// Body bytes.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut boot = Vec::new();
        put_uv(&mut boot, self.boot_ordinal.0.into());
        boot.extend_from_slice(&self.boot_id.0);
        put_record(&mut out, TAG_BOOT, &boot);
        self.capabilities.put(&mut out);
        let mut message_max = Vec::new();
        put_uv(&mut message_max, self.message_bytes_max);
        put_record(&mut out, TAG_MESSAGE_MAX, &message_max);
        for stream in &self.streams {
            let mut body = Vec::new();
            put_uv(&mut body, stream.id.0.into());
            put_uv(&mut body, stream.next_seq.0);
            put_uv(&mut body, stream.oldest_held.0);
            put_ranges(&mut body, stream.oldest_held.0, &stream.unacked);
            put_record(&mut out, TAG_HELLO_STREAM, &body);
        }
        put_chain(&mut out, TAG_DEVICE_CHAIN, &self.chain);
        put_record(&mut out, TAG_NONCE, &self.nonce);
        out
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`RecordError`] if a record is malformed, missing or above a limit.
    pub fn from_body(body: &[u8]) -> Result<Self, RecordError> {
        let (mut boot, mut capabilities, mut message_bytes_max, mut chain, mut nonce) =
            (None, None, None, None, None);
        let mut streams = Vec::new();
        for_each(body, |tag, mut record| {
            match tag {
                TAG_BOOT => {
                    let ordinal = record.uv()?;
                    let ordinal = u32::try_from(ordinal).map_err(|_| PrimitiveError::Range(ordinal))?;
                    boot = Some((BootOrdinal(ordinal), BootId(record.array()?)));
                }
                TAG_CAPABILITIES => capabilities = Some(Capabilities::read(&mut record)?),
                TAG_MESSAGE_MAX => message_bytes_max = Some(record.uv()?),
                TAG_HELLO_STREAM => {
                    if streams.len() >= usize::from(STREAMS_MAX) {
                        return Err(RecordError::Limit { what: "streams", limit: STREAMS_MAX.into() });
                    }
                    let id = read_stream_id(&mut record)?;
                    let (next_seq, oldest_held) = (Seq(record.uv()?), Seq(record.uv()?));
                    let unacked = read_ranges(&mut record, oldest_held.0)?;
                    streams.push(HelloStream { id, next_seq, oldest_held, unacked });
                }
                TAG_DEVICE_CHAIN => chain = Some(read_chain(record.take_rest())?),
                TAG_NONCE => nonce = Some(record.array()?),
                _ => {}
            }
            Ok(())
        })?;
        let (boot_ordinal, boot_id) = boot.ok_or(RecordError::Missing("boot"))?;
        Ok(Self {
            boot_ordinal,
            boot_id,
            capabilities: capabilities.ok_or(RecordError::Missing("capabilities"))?,
            message_bytes_max: message_bytes_max.ok_or(RecordError::Missing("message_bytes_max"))?,
            streams,
            chain: chain.ok_or(RecordError::Missing("chain"))?,
            nonce: nonce.ok_or(RecordError::Missing("nonce"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_reads_back_and_skips_what_it_does_not_know() {
        let hello = Hello {
            boot_ordinal: BootOrdinal(9),
            boot_id: BootId([3; 16]),
            capabilities: Capabilities::ours("headwater-agent 0.1.0"),
            message_bytes_max: 98_304,
            streams: vec![HelloStream {
                id: StreamId(1),
                next_seq: Seq(40),
                oldest_held: Seq(7),
                unacked: vec![7..9, 20..40],
            }],
            chain: vec![vec![1; 300], vec![2; 200]],
            nonce: [5; 16],
        };
        let mut body = hello.to_body();
        assert_eq!(Hello::from_body(&body), Ok(hello.clone()));
        put_record(&mut body, 999, b"from the future");
        assert_eq!(Hello::from_body(&body), Ok(hello));
        for cut in 0..body.len() {
            drop(Hello::from_body(&body[..cut]));
        }
        assert_eq!(Hello::from_body(&[]), Err(RecordError::Missing("boot")));
    }

    #[test]
    fn streams_and_chains_above_their_limits_are_refused() {
        let mut body = Vec::new();
        for _ in 0..=256 {
            put_record(&mut body, TAG_HELLO_STREAM, &[1, 0, 0, 0]);
        }
        assert!(matches!(Hello::from_body(&body), Err(RecordError::Limit { what: "streams", .. })));
        let mut body = Vec::new();
        put_chain(&mut body, TAG_DEVICE_CHAIN, &[vec![0; 9000]]);
        assert!(matches!(Hello::from_body(&body), Err(RecordError::Limit { .. })));
    }
}
