//! Admission: the checks every message passes before anything is believed, in their fixed order.
//!
//! Topic, then length, magic, major, limit, body length, checksum, kind, flags (all in
//! `Envelope::parse`), then device tag, key id, signature, and only then the body. A hello is the
//! exception: it carries the chain that proves its key, so that one record is read first.

use super::summary::BatchSummary;
use crate::registry::{DeviceKey, Registry};
use headwater_core::batch::{Limits, decode_batch};
use headwater_core::id::{DevicePath, Epoch, TenantId};
use headwater_core::time::UtcNanos;
use headwater_core::wire::chain::{FleetRoots, Role, Signer, verify_chain};
use headwater_core::wire::object::Part;
use headwater_core::wire::{
    Declaration, Envelope, EnvelopeError, Hello, Lane, MessageKind, Topic, peek_chain,
};

/// Why a message was refused; each has its own counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalKind {
    /// Not a topic of ours, or not an ingest topic.
    Topic,
    /// Another tenant's topic.
    OtherTenant,
    /// Too short or without the magic.
    NotHeadwater,
    /// Newer protocol.
    UnsupportedMajor,
    /// Longer than a message may be.
    TooLarge,
    /// Header and length disagree.
    BodyLength,
    /// Damaged.
    BadCrc,
    /// A kind without meaning.
    UnknownKind,
    /// A critical flag without meaning.
    UnknownFlags,
    /// It is on another device's topic.
    WrongDevice,
    /// Nobody knows the key; the device is asked to say hello.
    UnknownKey,
    /// The key's certificate is revoked.
    Revoked,
    /// The key's certificate is of another CA than the one that has the device's name.
    OtherCa,
    /// The key's certificate is past its validity.
    Expired,
    /// A hello whose chain proves nothing.
    BadChain,
    /// A hello whose chain names another device or tenant than its topic.
    ForeignChain,
    /// The signature does not fit.
    BadSignature,
    /// A kind that devices do not send here.
    UnexpectedKind,
    /// Signed by the device, and still unreadable.
    BadBody,
    /// It contradicts an earlier declaration.
    Contradiction,
}

impl RefusalKind {
    /// Every one.
    pub const ALL: [RefusalKind; 20] = [
        Self::Topic,
        Self::OtherTenant,
        Self::NotHeadwater,
        Self::UnsupportedMajor,
        Self::TooLarge,
        Self::BodyLength,
        Self::BadCrc,
        Self::UnknownKind,
        Self::UnknownFlags,
        Self::WrongDevice,
        Self::UnknownKey,
        Self::Revoked,
        Self::OtherCa,
        Self::Expired,
        Self::BadChain,
        Self::ForeignChain,
        Self::BadSignature,
        Self::UnexpectedKind,
        Self::BadBody,
        Self::Contradiction,
    ];

    /// Name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::OtherTenant => "other_tenant",
            Self::NotHeadwater => "not_headwater",
            Self::UnsupportedMajor => "unsupported_major",
            Self::TooLarge => "too_large",
            Self::BodyLength => "body_length",
            Self::BadCrc => "bad_crc",
            Self::UnknownKind => "unknown_kind",
            Self::UnknownFlags => "unknown_flags",
            Self::WrongDevice => "wrong_device",
            Self::UnknownKey => "unknown_key",
            Self::Revoked => "revoked",
            Self::OtherCa => "other_ca",
            Self::Expired => "expired",
            Self::BadChain => "bad_chain",
            Self::ForeignChain => "foreign_chain",
            Self::BadSignature => "bad_signature",
            Self::UnexpectedKind => "unexpected_kind",
            Self::BadBody => "bad_body",
            Self::Contradiction => "contradiction",
        }
    }
}

impl From<EnvelopeError> for RefusalKind {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::NotHeadwater => Self::NotHeadwater,
            EnvelopeError::UnsupportedMajor(_) => Self::UnsupportedMajor,
            EnvelopeError::TooLarge { .. } => Self::TooLarge,
            EnvelopeError::BodyLength { .. } => Self::BodyLength,
            EnvelopeError::BadCrc => Self::BadCrc,
            EnvelopeError::UnknownKind(_) => Self::UnknownKind,
            EnvelopeError::UnknownFlags(_) => Self::UnknownFlags,
            EnvelopeError::WrongDevice => Self::WrongDevice,
            _ => Self::BadSignature,
        }
    }
}

/// A message that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub kind: RefusalKind,
    /// Whose topic it came on, if that could be read. Not proven.
    pub device: Option<DevicePath>,
    /// The epoch it claims, if it got that far. Not proven.
    pub epoch: Option<Epoch>,
    /// The check's own words.
    pub detail: String,
}

/// What an admitted message carries.
#[derive(Debug)]
pub enum Body<'a> {
    /// Rows and hints.
    Batch(BatchSummary),
    /// A byte range of an object.
    Part(Part<'a>),
    /// A stream's name and schema.
    Declaration(Declaration),
    /// The device presents itself, with the key that its chain proves.
    Hello {
        /// The hello.
        hello: Box<Hello>,
        /// Its key, verified.
        key: Box<DeviceKey>,
    },
    /// Nothing but its send time.
    Probe,
}

/// A message that passed every check.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// Whose.
    pub device: DevicePath,
    /// Lane of its topic.
    pub lane: Lane,
    /// Its envelope.
    pub envelope: Envelope<'a>,
    /// Serial of the signer's certificate.
    pub key_serial: String,
    /// What it carries.
    pub body: Body<'a>,
}

/// What admission looks things up in.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The only tenant this receiver serves.
    pub tenant: TenantId,
    /// The fleet's roots.
    pub roots: FleetRoots,
    /// Known keys.
    pub registry: Registry,
}

impl Admission {
    /// Checks a message received at `now`. Changes nothing.
    ///
    /// # Errors
    /// [`Refusal`] names the first check that failed.
    pub fn admit<'a>(&self, topic: &str, payload: &'a [u8], now: UtcNanos) -> Result<Admitted<'a>, Refusal> {
        let refuse = |kind, device: Option<&DevicePath>, epoch, detail: String| Refusal {
            kind,
            device: device.cloned(),
            epoch,
            detail,
        };
        let (device, lane) = match Topic::parse(topic) {
            Ok(Topic::In { device, lane }) => (device, lane),
            Ok(_) => return Err(refuse(RefusalKind::Topic, None, None, "not an ingest topic".into())),
            Err(error) => return Err(refuse(RefusalKind::Topic, None, None, error.to_string())),
        };
        if device.tenant != self.tenant {
            return Err(refuse(
                RefusalKind::OtherTenant,
                Some(&device),
                None,
                "topic of another tenant".into(),
            ));
        }
        let envelope = Envelope::parse(payload)
            .map_err(|error| refuse(error.into(), Some(&device), None, error.to_string()))?;
        let refuse = |kind, detail: String| refuse(kind, Some(&device), Some(envelope.epoch), detail);
        envelope.check_device(&device).map_err(|error| refuse(error.into(), error.to_string()))?;

        if envelope.kind == MessageKind::Hello {
            let key =
                self.hello_key(&envelope, &device, now).map_err(|(kind, detail)| refuse(kind, detail))?;
            envelope.verify(&key.signer.key).map_err(|error| refuse(error.into(), error.to_string()))?;
            let hello = Hello::from_body(envelope.body)
                .map_err(|error| refuse(RefusalKind::BadBody, error.to_string()))?;
            let key_serial = key.signer.serial.clone();
            let body = Body::Hello { hello: Box::new(hello), key: Box::new(key) };
            return Ok(Admitted { device, lane, envelope, key_serial, body });
        }

        let signer = self.registry.signer(&device, envelope.key_id);
        let Some(signer) = signer else {
            return Err(refuse(RefusalKind::UnknownKey, format!("key {} is not known", envelope.key_id)));
        };
        if let Some((kind, why)) = self.shut_out(&signer, self.registry.revoked(&signer.serial), now) {
            // Whoever is told so holds the key: a stranger cannot have a device told anything.
            envelope.verify(&signer.key).map_err(|error| refuse(error.into(), error.to_string()))?;
            return Err(refuse(kind, why));
        }
        if now > signer.not_after {
            return Err(refuse(RefusalKind::Expired, format!("certificate {} has expired", signer.serial)));
        }
        envelope.verify(&signer.key).map_err(|error| refuse(error.into(), error.to_string()))?;
        let body = read_body(&envelope).map_err(|(kind, detail)| refuse(kind, detail))?;
        Ok(Admitted { device, lane, envelope, key_serial: signer.serial, body })
    }

    /// The key of a hello's own chain, proven up to the root and named as the topic is.
    fn hello_key(
        &self,
        envelope: &Envelope<'_>,
        device: &DevicePath,
        now: UtcNanos,
    ) -> Result<DeviceKey, (RefusalKind, String)> {
        let chain = peek_chain(envelope)
            .map_err(|error| (RefusalKind::BadBody, error.to_string()))?
            .ok_or_else(|| (RefusalKind::BadChain, "hello without a chain".to_owned()))?;
        let signer = verify_chain(&chain, &self.roots, Role::Device, now)
            .map_err(|error| (RefusalKind::BadChain, error.to_string()))?;
        if signer.path != *device {
            return Err((RefusalKind::ForeignChain, format!("chain names {}", signer.path)));
        }
        if let Some(refused) = self.shut_out(&signer, self.registry.revoked_chain(&chain), now) {
            return match envelope.verify(&signer.key) {
                Ok(()) => Err(refused),
                Err(error) => Err((error.into(), error.to_string())),
            };
        }
        Ok(DeviceKey { signer, chain, seen: now })
    }

    /// Why a key whose chain holds counts no more, or not for this name.
    fn shut_out(
        &self,
        signer: &Signer,
        revoked: Option<String>,
        now: UtcNanos,
    ) -> Option<(RefusalKind, String)> {
        let revoked = revoked.map(|why| (RefusalKind::Revoked, why));
        revoked.or_else(|| Some((RefusalKind::OtherCa, self.registry.other_ca(signer, now)?)))
    }
}

/// Reads the body of a message whose signature was checked (or that was landed, so it was).
pub(super) fn read_body<'a>(envelope: &Envelope<'a>) -> Result<Body<'a>, (RefusalKind, String)> {
    let bad = |detail: String| (RefusalKind::BadBody, detail);
    match envelope.kind {
        MessageKind::Batch => decode_batch(envelope.body, &Limits::V1)
            .map(|batch| Body::Batch(BatchSummary::of(&batch)))
            .map_err(|error| bad(error.to_string())),
        MessageKind::Part => {
            Part::from_body(envelope.body).map(Body::Part).map_err(|error| bad(error.to_string()))
        }
        MessageKind::Declaration => Declaration::from_body(envelope.body)
            .map(Body::Declaration)
            .map_err(|error| bad(error.to_string())),
        MessageKind::Probe => Ok(Body::Probe),
        kind @ (MessageKind::Hello | MessageKind::Ack | MessageKind::Status) => {
            Err((RefusalKind::UnexpectedKind, format!("a {} is not taken here", kind.as_str())))
        }
    }
}
