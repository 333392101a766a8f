//! Envelopes: any bytes; bytes with lengths and checksum mended; and the signature of those.

use crate::corpus::golden;
use crate::outcome;
use crate::probe::Probe;
use headwater_core::id::DevicePath;
use headwater_core::wire::{ENVELOPE_BYTES, Envelope, SigningKey, Unsigned, VerifyingKey, peek_chain};
use std::sync::LazyLock;

struct World {
    device: DevicePath,
    key: SigningKey,
    verifying: VerifyingKey,
}

/// A fixed Ed25519 key in PKCS#8 (seed of one repeated byte), that of the golden files.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend_from_slice(&[7; 32]);
    let key = SigningKey::from_pkcs8(&der).expect("a whole key");
    let verifying = key.verifying_key().expect("a whole key");
    let name = |text: &str| text.parse().ok();
    let device = name("acme").zip("pi-1".parse().ok()).map(|(tenant, device)| DevicePath { tenant, device });
    World { device: device.expect("plain names"), key, verifying }
});

/// The first byte says what is mended: 0 nothing, 1 the checksum, 2 also length and magic.
pub(super) fn run(input: &[u8], probe: &mut Probe) -> u64 {
    let Some((mode, message)) = input.split_first() else { return 0 };
    let mut message = message.to_vec();
    let n = message.len();
    if *mode % 3 == 2 && n >= ENVELOPE_BYTES {
        message[..3].copy_from_slice(&[b'H', b'W', 1]);
        let body = u32::try_from(n - ENVELOPE_BYTES).unwrap_or(u32::MAX);
        message[16..20].copy_from_slice(&body.to_le_bytes());
    }
    if *mode % 3 > 0 && n >= 4 {
        let crc = crc32c::crc32c(&message[..n - 4]).to_le_bytes();
        message[n - 4..].copy_from_slice(&crc);
    }
    let world = &*WORLD;
    let parsed = probe.decode(|| Envelope::parse(&message).map(|envelope| (envelope, peek_chain(&envelope))));
    let (envelope, chain) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return outcome(&[&error]),
    };
    assert_eq!(envelope.body.len() + ENVELOPE_BYTES, n);
    let device = envelope.check_device(&world.device);
    let mut verified = None;
    if probe.thorough {
        let verdict = probe.decode(|| envelope.verify(&world.verifying));
        // Nothing but the golden message itself may pass.
        if verdict.is_ok() {
            assert!(golden("wire/v1", "hw").contains(&message), "a forged message verifies");
        }
        verified = Some(verdict);
        let again = Unsigned::new(envelope.kind, &world.device, envelope.epoch, envelope.body);
        let again = again.expect("it fitted before").sign(envelope.sent, &world.key);
        let again = Envelope::parse(&again).expect("a message of ours");
        assert_eq!((again.kind, again.epoch, again.sent), (envelope.kind, envelope.epoch, envelope.sent));
        assert_eq!(again.body, envelope.body);
        again.verify(&world.verifying).expect("our own signature");
    }
    let chain = chain.map(|chain| chain.map(|chain| chain.len()));
    outcome(&[&envelope.kind, &device, &verified, &chain])
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let with =
        |mode: u8| golden("wire/v1", "hw").into_iter().map(move |message| [&[mode], &message[..]].concat());
    (0..3).flat_map(with).collect()
}
