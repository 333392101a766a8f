//! One row of `ops.batches` against what is at its place in the landing log. Decides, reads nothing.

use super::keys::Keys;
use crate::land::{LandedMessage, LandingPosition};
use headwater_core::id::{DevicePath, Sha256};
use headwater_core::time::UtcNanos;
use headwater_core::wire::Envelope;

/// A message as `ops.batches` notes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Whose.
    pub device: DevicePath,
    /// What the signature covers.
    pub digest: Sha256,
    /// The signature.
    pub signature: Vec<u8>,
    /// Serial of the certificate.
    pub key_serial: String,
    /// When it was received.
    pub received: UtcNanos,
    /// Where it lies.
    pub position: LandingPosition,
}

/// What is at a place.
#[derive(Debug)]
pub enum Found<'a> {
    /// A message.
    Message(&'a LandedMessage),
    /// The log was trimmed, or carried away.
    Gone,
    /// The log is there and has no such record.
    Damaged,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The landed message is the one that was noted, and its device signed it.
    Verified,
    /// It is gone; its device signed a message of this digest.
    DigestOnly,
    /// It is gone, and so is what would prove its digest.
    Missing(String),
    /// It is not what its device signed, or not what was noted.
    Bad(String),
}

/// Judges one message.
#[must_use]
pub fn judge(noted: &Noted, found: &Found<'_>, keys: &Keys) -> Verdict {
    let gone = matches!(found, Found::Gone);
    let signer = match keys.signer(&noted.key_serial, &noted.device, noted.received) {
        Ok(signer) => signer,
        Err(why) if gone && !keys.knows(&noted.key_serial) => return Verdict::Missing(why),
        Err(why) => return Verdict::Bad(why),
    };
    let Ok(signature) = <&[u8; 64]>::try_from(noted.signature.as_slice()) else {
        return Verdict::Bad("the noted signature has no 64 bytes".to_owned());
    };
    if signer.key.verify(&noted.digest, signature).is_err() {
        return Verdict::Bad("the noted signature does not fit the noted digest".to_owned());
    }
    let message = match found {
        Found::Message(message) => message,
        Found::Gone => return Verdict::DigestOnly,
        Found::Damaged => return Verdict::Bad("the landing log is damaged where it lies".to_owned()),
    };
    match same(noted, message) {
        Some(why) => Verdict::Bad(why.to_owned()),
        None => Verdict::Verified,
    }
}

/// What differs between the landed message and what was noted of it; `None` if nothing.
fn same(noted: &Noted, message: &LandedMessage) -> Option<&'static str> {
    let Ok(envelope) = Envelope::parse(&message.message) else {
        return Some("the landed message is damaged");
    };
    if envelope.check_device(&noted.device).is_err() || message.device != noted.device {
        return Some("the landed message is another device's");
    }
    if envelope.digest != noted.digest {
        return Some("the landed message has another digest");
    }
    if envelope.signature.as_slice() != noted.signature.as_slice() {
        return Some("the landed message has another signature");
    }
    (message.key_serial != noted.key_serial)
        .then_some("the landed message was signed under another certificate")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::testkit::{Ca, Device, EPOCH, now};
    use headwater_core::id::IncarnationId;
    use headwater_core::wire::chain::{FleetRoots, Role, verify_chain};
    use headwater_core::wire::{Lane, MessageKind};

    struct Bench {
        ca: Ca,
        device: Device,
        keys: Keys,
        serial: String,
    }

    fn bench() -> Bench {
        let ca = Ca::new();
        let device = ca.device("pi-1");
        let roots = FleetRoots::new(std::slice::from_ref(&ca.der)).unwrap();
        let serial = verify_chain(&device.chain, &roots, Role::Device, now(0).utc).unwrap().serial;
        let mut keys = Keys::new(roots);
        keys.add_device(&serial, &device.chain.concat());
        Bench { ca, device, keys, serial }
    }

    impl Bench {
        fn message(&self, offset: u64, body: &[u8]) -> (Noted, LandedMessage) {
            let bytes = self.device.sign(MessageKind::Batch, body);
            let envelope = Envelope::parse(&bytes).unwrap();
            let position = LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset };
            let noted = Noted {
                device: self.device.path.clone(),
                digest: envelope.digest,
                signature: envelope.signature.to_vec(),
                key_serial: self.serial.clone(),
                received: now(0).utc,
                position,
            };
            let landed = LandedMessage {
                position,
                end: position,
                device: self.device.path.clone(),
                epoch: EPOCH,
                kind: MessageKind::Batch,
                lane: Lane::LiveTelemetry,
                sent: envelope.sent,
                received: now(0).utc,
                key_id: envelope.key_id,
                key_serial: self.serial.clone(),
                imported: false,
                digest: envelope.digest,
                signature: envelope.signature,
                message: bytes.into(),
            };
            (noted, landed)
        }

        fn judge(&self, noted: &Noted, found: &Found<'_>) -> Verdict {
            judge(noted, found, &self.keys)
        }
    }

    fn is_bad(verdict: &Verdict, why: &str) {
        assert!(matches!(verdict, Verdict::Bad(found) if found.contains(why)), "{verdict:?}, not {why}");
    }

    #[test]
    fn a_message_is_what_was_noted_and_signed_or_bad() {
        let bench = bench();
        let ((first, landed), (second, other)) = (bench.message(64, &[1]), bench.message(99, &[2]));
        assert_eq!(bench.judge(&first, &Found::Message(&landed)), Verdict::Verified);
        // Rows exchanged for each other.
        is_bad(
            &bench.judge(&Noted { position: first.position, ..second.clone() }, &Found::Message(&landed)),
            "digest",
        );
        is_bad(&bench.judge(&first, &Found::Message(&other)), "another digest");
        // A row's members exchanged for those of another.
        is_bad(
            &bench.judge(
                &Noted { signature: second.signature.clone(), ..first.clone() },
                &Found::Message(&landed),
            ),
            "does not fit",
        );
        is_bad(&bench.judge(&Noted { digest: second.digest, ..first.clone() }, &Found::Gone), "does not fit");
        is_bad(&bench.judge(&Noted { signature: vec![0; 3], ..first.clone() }, &Found::Gone), "64 bytes");
        // A byte of the message itself.
        let mut bytes = landed.message.to_vec();
        bytes[30] ^= 1;
        let flipped = LandedMessage { message: bytes.into(), ..landed.clone() };
        is_bad(&bench.judge(&first, &Found::Message(&flipped)), "damaged");
        is_bad(&bench.judge(&first, &Found::Damaged), "damaged where it lies");
    }

    #[test]
    fn a_trimmed_message_is_proven_by_its_digest_if_its_certificate_is_known() {
        let bench = bench();
        let (noted, _) = bench.message(64, &[1]);
        assert_eq!(bench.judge(&noted, &Found::Gone), Verdict::DigestOnly);
        let unknown = Noted { key_serial: "07".into(), ..noted.clone() };
        assert!(matches!(bench.judge(&unknown, &Found::Gone), Verdict::Missing(_)));
        is_bad(&bench.judge(&unknown, &Found::Damaged), "not known");
    }

    #[test]
    fn a_certificate_proves_its_own_devices_messages_only() {
        let mut bench = bench();
        let (noted, landed) = bench.message(64, &[1]);
        let renamed = Noted { device: crate::receive::testkit::path("pi-2"), ..noted.clone() };
        is_bad(&bench.judge(&renamed, &Found::Message(&landed)), "is acme/pi-1's");
        let foreign = Ca::new();
        bench.keys = Keys::new(FleetRoots::new(std::slice::from_ref(&foreign.der)).unwrap());
        bench.keys.add_device(&bench.serial, &bench.device.chain.concat());
        is_bad(&bench.judge(&noted, &Found::Message(&landed)), "no valid path");
        assert!(!bench.ca.der.is_empty());
    }
}
