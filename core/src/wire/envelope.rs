//! The envelope: one layout around every message, checked in a fixed order.

use super::records::{self, TAG_COLLECTOR_CHAIN, TAG_DEVICE_CHAIN};
use super::sign::{SignError, SigningKey, VerifyingKey};
use super::{RecordError, primitives::Reader};
use crate::id::{DevicePath, Epoch, KeyId, Sha256};
use ring::digest;
use std::fmt;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 20;
/// Bytes after the body.
pub const TRAILER_BYTES: usize = 88;
/// Bytes around the body.
pub const ENVELOPE_BYTES: usize = HEADER_BYTES + TRAILER_BYTES;
/// Largest message we send by default: under AWS IoT Core's 128 KB with room for topic and framing.
pub const MESSAGE_BYTES_SENT_MAX: usize = 96 * 1024;
/// Largest message we accept.
pub const MESSAGE_BYTES_ACCEPTED_MAX: usize = 128 * 1024;

const MAGIC: [u8; 2] = *b"HW";
const MAJOR: u8 = 1;
const MINOR: u8 = 0;
const CRITICAL_FLAGS: u8 = 0x0f;

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Sections of rows.
    Batch,
    /// A byte range of an object.
    Part,
    /// A stream's id, name and schema.
    Declaration,
    /// The device presents itself.
    Hello,
    /// The collector's word.
    Ack,
    /// Online or not, for people and tools.
    Status,
    /// Nothing but its send time.
    Probe,
}

impl MessageKind {
    const ALL: [MessageKind; 7] =
        [Self::Batch, Self::Part, Self::Declaration, Self::Hello, Self::Ack, Self::Status, Self::Probe];

    /// Wire code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::Part => 2,
            Self::Declaration => 3,
            Self::Hello => 4,
            Self::Ack => 5,
            Self::Status => 6,
            Self::Probe => 7,
        }
    }

    /// Reads a wire code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Name in tables and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Part => "part",
            Self::Declaration => "declaration",
            Self::Hello => "hello",
            Self::Ack => "ack",
            Self::Status => "status",
            Self::Probe => "probe",
        }
    }
}

/// Why a message is not one of ours, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Too short, or without the magic.
    #[error("message is not headwater's")]
    NotHeadwater,
    /// Higher major version.
    #[error("major version {0} is not supported")]
    UnsupportedMajor(u8),
    /// Longer than this side accepts.
    #[error("message has {found} bytes, limit {limit}")]
    TooLarge {
        /// Found.
        found: usize,
        /// Limit.
        limit: usize,
    },
    /// The stated body length is not the body's.
    #[error("header says {claimed} body bytes, message has {found}")]
    BodyLength {
        /// Claimed.
        claimed: u32,
        /// Found.
        found: usize,
    },
    /// Damaged in transit or at rest.
    #[error("checksum does not fit")]
    BadCrc,
    /// A kind without meaning.
    #[error("kind {0} is not known")]
    UnknownKind(u8),
    /// A critical flag this version does not know.
    #[error("critical flags {0:#x} are not known")]
    UnknownFlags(u8),
    /// The tag is another device's.
    #[error("message belongs to another device")]
    WrongDevice,
    /// The signature is another key's.
    #[error("message is signed by another key")]
    WrongKey,
    /// The signature does not fit.
    #[error("signature does not fit")]
    BadSignature,
}

impl From<SignError> for EnvelopeError {
    fn from(_: SignError) -> Self {
        Self::BadSignature
    }
}

/// When a message was handed over: boot line of the device, or UTC (ordinal 0) of the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sent {
    /// Boot of the gateway; 0 from the collector.
    pub boot_ordinal: u32,
    /// Boot time, or UTC from the collector, ns.
    pub ns: i64,
}

impl Sent {
    /// Bytes on the wire.
    pub const BYTES: usize = 12;

    /// Wire form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let bytes = self.boot_ordinal.to_le_bytes().into_iter().chain(self.ns.to_le_bytes());
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = from;
        }
        out
    }
}

/// A message whose body is fixed and hashed, to be signed at each hand-over.
#[derive(Clone)]
pub struct Unsigned {
    bytes: Vec<u8>,
    hash: digest::Context,
    crc: u32,
    kind: MessageKind,
}

impl Unsigned {
    /// Frames `body` for `device`.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] above [`MESSAGE_BYTES_ACCEPTED_MAX`].
    pub fn new(
        kind: MessageKind,
        device: &DevicePath,
        epoch: Epoch,
        body: &[u8],
    ) -> Result<Self, EnvelopeError> {
        let found = body.len().saturating_add(ENVELOPE_BYTES);
        let too_large = EnvelopeError::TooLarge { found, limit: MESSAGE_BYTES_ACCEPTED_MAX };
        let body_len = u32::try_from(body.len()).map_err(|_| too_large)?;
        if found > MESSAGE_BYTES_ACCEPTED_MAX {
            return Err(too_large);
        }
        let mut bytes = Vec::with_capacity(found);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[MAJOR, kind.code(), MINOR, 0]);
        bytes.extend_from_slice(&device.tag().to_le_bytes());
        bytes.extend_from_slice(&epoch.0.to_le_bytes());
        bytes.extend_from_slice(&body_len.to_le_bytes());
        bytes.extend_from_slice(body);
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&bytes);
        let crc = crc32c::crc32c(&bytes);
        Ok(Self { bytes, hash, crc, kind })
    }

    /// The message, sent at `sent` and signed by `key`. Costs one signature and 20 bytes of hashing.
    #[must_use]
    pub fn sign(&self, sent: Sent, key: &SigningKey) -> Vec<u8> {
        let signed = self.sign_with(sent, key.key_id(), |digest| Some(key.sign(digest)));
        signed.unwrap_or_default()
    }

    /// The same where the key is elsewhere: `sign` gives the signature of a digest, or `None` if it cannot now.
    pub fn sign_with(
        &self,
        sent: Sent,
        key_id: KeyId,
        sign: impl FnOnce(&Sha256) -> Option<[u8; 64]>,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.message_len());
        out.extend_from_slice(&self.bytes);
        let mut covered = sent.to_bytes().to_vec();
        covered.extend_from_slice(&key_id.0);
        let mut hash = self.hash.clone();
        hash.update(&covered);
        let digest = finish(hash);
        let mut trailer = covered;
        trailer.extend_from_slice(&sign(&digest)?);
        let crc = crc32c::crc32c_append(self.crc, &trailer);
        out.extend_from_slice(&trailer);
        out.extend_from_slice(&crc.to_le_bytes());
        Some(out)
    }

    /// Bytes of the signed message.
    #[must_use]
    pub fn message_len(&self) -> usize {
        self.bytes.len().saturating_add(TRAILER_BYTES)
    }

    /// What it carries.
    #[must_use]
    pub fn kind(&self) -> MessageKind {
        self.kind
    }
}

impl fmt::Debug for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsigned({}, {} B)", self.kind.as_str(), self.message_len())
    }
}

fn finish(hash: digest::Context) -> Sha256 {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    Sha256(out)
}

/// A message whose framing and checksum are right. Its body is not to be parsed before [`Envelope::verify`].
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// What it carries.
    pub kind: MessageKind,
    /// Device tag of the header.
    pub device_tag: u16,
    /// Epoch of the device's spool.
    pub epoch: Epoch,
    /// The body.
    pub body: &'a [u8],
    /// When it was handed over.
    pub sent: Sent,
    /// Who says to have signed.
    pub key_id: KeyId,
    /// The signature.
    pub signature: [u8; 64],
    /// What the signature covers: SHA-256 of header, body, `sent` and key id.
    pub digest: Sha256,
}

impl<'a> Envelope<'a> {
    /// The body of a message whose framing is right, without the digest: for who checked it before.
    #[must_use]
    pub fn body_of(message: &'a [u8]) -> Option<&'a [u8]> {
        let end = message.len().checked_sub(ENVELOPE_BYTES)?.checked_add(HEADER_BYTES)?;
        message.get(HEADER_BYTES..end)
    }

    /// Checks framing, checksum, kind and flags of a message; allocates nothing.
    ///
    /// # Errors
    /// [`EnvelopeError`] names the first check that failed.
    pub fn parse(message: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut reader = Reader::new(message);
        let header_too_short = |_| EnvelopeError::NotHeadwater;
        if message.len() < ENVELOPE_BYTES || reader.array::<2>().map_err(header_too_short)? != MAGIC {
            return Err(EnvelopeError::NotHeadwater);
        }
        let [major, kind, _minor, flags] = reader.array().map_err(header_too_short)?;
        if major != MAJOR {
            return Err(EnvelopeError::UnsupportedMajor(major));
        }
        if message.len() > MESSAGE_BYTES_ACCEPTED_MAX {
            return Err(EnvelopeError::TooLarge { found: message.len(), limit: MESSAGE_BYTES_ACCEPTED_MAX });
        }
        let device_tag = reader.u16().map_err(header_too_short)?;
        let epoch = Epoch(reader.u64().map_err(header_too_short)?);
        let claimed = reader.u32().map_err(header_too_short)?;
        let found = message.len().saturating_sub(ENVELOPE_BYTES);
        let wrong_length = EnvelopeError::BodyLength { claimed, found };
        if usize::try_from(claimed) != Ok(found) {
            return Err(wrong_length);
        }
        let body = reader.take(found).map_err(|_| wrong_length)?;
        let boot_ordinal = reader.u32().map_err(|_| wrong_length)?;
        let ns = reader.i64().map_err(|_| wrong_length)?;
        let key_id = KeyId(reader.array().map_err(|_| wrong_length)?);
        let signature = reader.array::<64>().map_err(|_| wrong_length)?;
        let crc = reader.u32().map_err(|_| wrong_length)?;
        let (covered, _) = message.split_at_checked(message.len().saturating_sub(4)).ok_or(wrong_length)?;
        if crc32c::crc32c(covered) != crc {
            return Err(EnvelopeError::BadCrc);
        }
        let kind = MessageKind::from_code(kind).ok_or(EnvelopeError::UnknownKind(kind))?;
        if flags & CRITICAL_FLAGS != 0 {
            return Err(EnvelopeError::UnknownFlags(flags & CRITICAL_FLAGS));
        }
        let (signed, _) = message.split_at_checked(found.saturating_add(40)).ok_or(wrong_length)?;
        let sent = Sent { boot_ordinal, ns };
        Ok(Self { kind, device_tag, epoch, body, sent, key_id, signature, digest: Sha256::of(signed) })
    }

    /// Checks that the message is on its own device's topic.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongDevice`] otherwise.
    pub fn check_device(&self, device: &DevicePath) -> Result<(), EnvelopeError> {
        if self.device_tag == device.tag() { Ok(()) } else { Err(EnvelopeError::WrongDevice) }
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongKey`] for another key's message, [`EnvelopeError::BadSignature`] for a false one.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), EnvelopeError> {
        if key.key_id() != self.key_id {
            return Err(EnvelopeError::WrongKey);
        }
        Ok(key.verify(&self.digest, &self.signature)?)
    }
}

/// The signing chain inside a hello, or inside the ack that answers one: the only record that may be
/// read before the signature was checked, since it holds the key. `None` if there is none.
///
/// # Errors
/// [`RecordError`] if the records are malformed or the chain is above its limits.
pub fn peek_chain(envelope: &Envelope<'_>) -> Result<Option<Vec<Vec<u8>>>, RecordError> {
    let tag = match envelope.kind {
        MessageKind::Hello => TAG_DEVICE_CHAIN,
        MessageKind::Ack => TAG_COLLECTOR_CHAIN,
        _ => return Ok(None),
    };
    records::find(envelope.body, tag)?.map(records::read_chain).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        let document = ring_test_key(seed);
        SigningKey::from_pkcs8(&document).unwrap()
    }

    /// PKCS#8 v1 around a fixed seed.
    fn ring_test_key(seed: u8) -> Vec<u8> {
        let mut der = vec![
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
        ];
        der.extend_from_slice(&[seed; 32]);
        der
    }

    fn device() -> DevicePath {
        DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() }
    }

    const SENT: Sent = Sent { boot_ordinal: 3, ns: 123_456_789 };

    #[test]
    fn a_message_reads_back_and_verifies() {
        let key = key(7);
        let message =
            Unsigned::new(MessageKind::Batch, &device(), Epoch(5), b"body").unwrap().sign(SENT, &key);
        assert_eq!(message.len(), ENVELOPE_BYTES + 4);
        let envelope = Envelope::parse(&message).unwrap();
        assert_eq!(
            (envelope.kind, envelope.epoch, envelope.body, envelope.sent),
            (MessageKind::Batch, Epoch(5), &b"body"[..], SENT)
        );
        envelope.check_device(&device()).unwrap();
        envelope.verify(&key.verifying_key().unwrap()).unwrap();
        assert_eq!(envelope.verify(&self::key(8).verifying_key().unwrap()), Err(EnvelopeError::WrongKey));
    }

    #[test]
    fn resend_renews_only_the_trailer() {
        let key = key(7);
        let unsigned = Unsigned::new(MessageKind::Batch, &device(), Epoch(5), &[9; 1000]).unwrap();
        let (first, second) = (unsigned.sign(SENT, &key), unsigned.sign(Sent { ns: 1, ..SENT }, &key));
        assert_eq!(first[..1020], second[..1020]);
        assert_ne!(first[1020..], second[1020..]);
        for message in [first, second] {
            Envelope::parse(&message).unwrap().verify(&key.verifying_key().unwrap()).unwrap();
        }
    }

    #[test]
    fn every_flipped_bit_is_a_named_error() {
        let key = key(7);
        let verifying = key.verifying_key().unwrap();
        let message =
            Unsigned::new(MessageKind::Probe, &device(), Epoch(5), b"xyz").unwrap().sign(SENT, &key);
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut other = message.clone();
                other[at] ^= 1 << bit;
                assert!(Envelope::parse(&other).is_err());
                // With the checksum mended the signature still catches it.
                let n = other.len() - 4;
                let crc = crc32c::crc32c(&other[..n]).to_le_bytes();
                other[n..].copy_from_slice(&crc);
                if at < n
                    && let Ok(envelope) = Envelope::parse(&other)
                {
                    assert!(envelope.verify(&verifying).is_err(), "byte {at} bit {bit}");
                }
            }
        }
        for cut in 0..message.len() {
            assert!(Envelope::parse(&message[..cut]).is_err());
        }
    }

    #[test]
    fn checks_run_in_their_order() {
        let key = key(7);
        let good = Unsigned::new(MessageKind::Probe, &device(), Epoch(5), b"").unwrap().sign(SENT, &key);
        let with = |at: usize, byte: u8| {
            let mut other = good.clone();
            other[at] = byte;
            Envelope::parse(&other).map(|_| ()).unwrap_err()
        };
        assert_eq!(with(0, b'X'), EnvelopeError::NotHeadwater);
        assert_eq!(with(2, 2), EnvelopeError::UnsupportedMajor(2));
        assert!(matches!(with(16, 9), EnvelopeError::BodyLength { claimed: 9, found: 0 }));
        assert_eq!(with(3, 99), EnvelopeError::BadCrc);
        assert_eq!(Envelope::parse(&[0x48, 0x57]).map(|_| ()), Err(EnvelopeError::NotHeadwater));
        assert!(matches!(
            Unsigned::new(MessageKind::Batch, &device(), Epoch(1), &vec![0; MESSAGE_BYTES_ACCEPTED_MAX])
                .map(|_| ()),
            Err(EnvelopeError::TooLarge { .. })
        ));
        let other = DevicePath { device: "pi-2".parse().unwrap(), ..device() };
        assert_eq!(Envelope::parse(&good).unwrap().check_device(&other), Err(EnvelopeError::WrongDevice));
    }
}
