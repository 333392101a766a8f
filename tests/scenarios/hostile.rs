//! Peers that lie: a device writing as another, forged acks, noise. They change counters only.

use crate::peer::{Message, Peer, private_key};
use crate::setup::{Run, assert_whole};
use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch};
use headwater_core::wire::{Ack, Capabilities, Hello, Lane, MessageKind, Sent, SigningKey, Topic, Unsigned};
use headwater_tests::fleet::Broker;
use headwater_tests::ticks::wait_until;
use headwater_tests::world::{DEVICE, TENANT, World};
use std::time::Duration;

/// A second device of the same fleet, with certificates of its own: the folder they are in.
const ROGUE: &str = "rogue";

/// A pair of the fleet's: signing key and chain of what is in the world's folder `whose`.
fn pair(world: &World, whose: &str) -> (SigningKey, Vec<Vec<u8>>) {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let dir = world.path(whose);
    let chain = CertificateDer::pem_file_iter(dir.join("sign.pem")).unwrap().map(|der| der.unwrap().to_vec());
    (SigningKey::from_pkcs8(private_key(&dir.join("sign.key")).secret_der()).unwrap(), chain.collect())
}

fn issue_rogue(world: &World) -> (SigningKey, Vec<Vec<u8>>) {
    use headwater_collector::pki::{self, Subject};
    let now = headwater_core::time::UtcNanos(headwater_tests::ticks::unix_seconds() * 1_000_000_000);
    let out = world.path(ROGUE);
    pki::issue(&world.path("pki"), &Subject::Device(ROGUE.to_owned()), &out, now).unwrap();
    pair(world, ROGUE)
}

/// A hello that shows `chain`.
fn hello(chain: Vec<Vec<u8>>) -> Vec<u8> {
    Hello {
        boot_ordinal: BootOrdinal(1),
        boot_id: BootId([2; 16]),
        capabilities: Capabilities::ours("a liar"),
        message_bytes_max: 98_304,
        streams: Vec::new(),
        chain,
        nonce: [9; 16],
    }
    .to_body()
}

fn path(device: &str) -> DevicePath {
    DevicePath { tenant: TENANT.parse().unwrap(), device: device.parse().unwrap() }
}

#[test]
fn lies_change_nothing_but_counters() {
    let mut run = Run::start(Broker::Embedded);
    run.wait_for_first_commit();
    let refused_before = run.metric("headwater_refused_messages_total");
    let victim = path(DEVICE);
    let status = run.status().unwrap();
    let epoch: Epoch = status.epoch().parse().unwrap();
    let into = |device: &DevicePath, lane| Topic::In { device: device.clone(), lane }.to_string();
    let sent = Sent { boot_ordinal: 1, ns: 1 };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let messages = {
        let (key, own_chain) = issue_rogue(&run.world);
        let (_, victims_chain) = pair(&run.world, "gateway");
        let (collectors_key, _) = pair(&run.world, "hq");
        let signed_by = |key: &SigningKey, kind, device: &DevicePath, epoch, body: &[u8]| {
            Unsigned::new(kind, device, epoch, body).unwrap().sign(sent, key)
        };
        let signed = |kind, device: &DevicePath, body: &[u8]| signed_by(&key, kind, device, epoch, body);
        let acks = || Topic::Ack(victim.clone()).to_string();
        let shut_out = Ack {
            revoked: Some("go away".to_owned()),
            ..Ack::new(headwater_core::id::IncarnationId([7; 16]), u64::MAX)
        };
        let mut forged_ack = Ack::new(headwater_core::id::IncarnationId([7; 16]), u64::MAX);
        forged_ack.streams.push(headwater_core::wire::AckStream {
            id: headwater_core::id::StreamId(1),
            durable_upto: headwater_core::id::Seq(1 << 40),
            committed_upto: headwater_core::id::Seq(1 << 40),
            durable: vec![],
            committed: vec![],
        });
        let messages = [
            // Another's topic, another's name: signed by a key the collector does not know for it.
            (into(&victim, Lane::LiveTelemetry), signed(MessageKind::Batch, &victim, &[0, 1, 0])),
            // Another's topic, its own name.
            (into(&victim, Lane::LiveTelemetry), signed(MessageKind::Batch, &path(ROGUE), &[0, 1, 0])),
            // Another's topic, with a chain of its own, and with the other's chain but its own key.
            (into(&victim, Lane::Control), signed(MessageKind::Hello, &victim, &hello(own_chain))),
            (into(&victim, Lane::Control), signed(MessageKind::Hello, &victim, &hello(victims_chain))),
            // Nobody's signature.
            (into(&victim, Lane::Control), {
                let mut bytes = signed(MessageKind::Probe, &victim, &[]);
                let end = bytes.len() - 4;
                bytes[end - 64..end].fill(0);
                let sum = crc32c::crc32c(&bytes[..end]).to_le_bytes();
                bytes[end..].copy_from_slice(&sum);
                bytes
            }),
            // Not a message at all.
            (into(&victim, Lane::Control), b"hello, world".to_vec()),
            (into(&victim, Lane::Control), vec![0x48, 0x57, 1, 1, 0, 0, 0, 0]),
            // A damaged one.
            (into(&victim, Lane::Control), {
                let mut bytes = signed(MessageKind::Probe, &victim, &[]);
                bytes[60] ^= 1;
                bytes
            }),
            // The collector's word, forged: a promise, and that the gateway is shut out.
            (acks(), signed(MessageKind::Ack, &victim, &forged_ack.to_body())),
            (acks(), signed(MessageKind::Ack, &victim, &shut_out.to_body())),
            // With the collector's own key, for another life of the spool, and of another receiver.
            (
                acks(),
                signed_by(
                    &collectors_key,
                    MessageKind::Ack,
                    &victim,
                    Epoch(epoch.0 ^ 1),
                    &forged_ack.to_body(),
                ),
            ),
            (acks(), signed_by(&collectors_key, MessageKind::Ack, &victim, epoch, &forged_ack.to_body())),
        ];
        let messages = messages.map(|(topic, payload)| Message { topic, payload });
        runtime.block_on(async { Peer::connect(&run.world, ROGUE, ROGUE).send(&messages).await });
        messages
    };
    let counted = wait_until(Duration::from_secs(20), || {
        run.metric("headwater_refused_messages_total") >= refused_before + 8.0
            && run.status().is_some_and(|s| s.acks_rejected() >= 4)
    });
    assert!(
        counted,
        "{} lies sent, {} refused, status {:?}\n{}",
        messages.len(),
        run.metric("headwater_refused_messages_total") - refused_before,
        run.status(),
        run.logs()
    );
    assert!(run.status().unwrap().json()["link"]["shut_out"].is_null(), "nobody else shuts a gateway out");
    let figures = run.finish();
    assert_whole(&figures);
}
