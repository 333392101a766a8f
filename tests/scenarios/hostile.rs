//! Peers that lie: a device writing as another, replays, forged acks, noise. They change counters only.

use crate::setup::{Run, assert_whole};
use headwater_core::id::{DevicePath, Epoch};
use headwater_core::wire::{Ack, Lane, MessageKind, Sent, SigningKey, Topic, Unsigned};
use headwater_tests::fleet::Broker;
use headwater_tests::ticks::wait_until;
use headwater_tests::world::{DEVICE, TENANT, World};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A second device of the same fleet, with certificates of its own.
struct Rogue {
    client: AsyncClient,
    events: EventLoop,
    key: SigningKey,
}

fn pem(path: &Path) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
}

fn private_key(path: &Path) -> rustls::pki_types::PrivateKeyDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::PrivateKeyDer::from_pem_file(path).unwrap()
}

impl Rogue {
    fn connect(world: &World) -> Self {
        use headwater_collector::pki::{self, Subject};
        let now = headwater_core::time::UtcNanos(headwater_tests::ticks::unix_seconds() * 1_000_000_000);
        let out = world.path("rogue");
        pki::issue(&world.path("pki"), &Subject::Device("rogue".to_owned()), &out, now).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        pem(&out.join("ca.pem")).into_iter().for_each(|root| roots.add(root).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(pem(&out.join("tls.pem")), private_key(&out.join("tls.key")))
            .unwrap();
        let (host, port) = world.broker.split_once(':').unwrap();
        let mut options = MqttOptions::new("rogue", host, port.parse().unwrap());
        options.set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(
            Arc::new(tls),
        )));
        let (client, events) = AsyncClient::new(options, 64);
        let key = private_key(&out.join("sign.key"));
        Self { client, events, key: SigningKey::from_pkcs8(key.secret_der()).unwrap() }
    }

    /// Sends everything and waits until the broker has it.
    async fn send(&mut self, messages: &[(String, Vec<u8>)]) {
        for (topic, payload) in messages {
            self.client.publish(topic, QoS::AtLeastOnce, false, payload.clone()).await.unwrap();
        }
        let mut settled = 0;
        let all = async {
            while settled < messages.len() {
                if let Event::Incoming(Incoming::PubAck(_)) = self.events.poll().await.unwrap() {
                    settled += 1;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("the broker takes everything");
    }
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
        let mut rogue = Rogue::connect(&run.world);
        let signed = |kind, device: &DevicePath, body: &[u8]| {
            Unsigned::new(kind, device, epoch, body).unwrap().sign(sent, &rogue.key)
        };
        let mut forged_ack = Ack::new(headwater_core::id::IncarnationId([7; 16]), u64::MAX);
        forged_ack.streams.push(headwater_core::wire::AckStream {
            id: headwater_core::id::StreamId(1),
            durable_upto: headwater_core::id::Seq(1 << 40),
            committed_upto: headwater_core::id::Seq(1 << 40),
            durable: vec![],
            committed: vec![],
        });
        let messages = vec![
            // Another's topic, another's name: signed by a key the collector does not know for it.
            (into(&victim, Lane::LiveTelemetry), signed(MessageKind::Batch, &victim, &[0, 1, 0])),
            // Another's topic, its own name.
            (into(&victim, Lane::LiveTelemetry), signed(MessageKind::Batch, &path("rogue"), &[0, 1, 0])),
            // Not a message at all.
            (into(&victim, Lane::Control), b"hello, world".to_vec()),
            (into(&victim, Lane::Control), vec![0x48, 0x57, 1, 1, 0, 0, 0, 0]),
            // A damaged one.
            (into(&victim, Lane::Control), {
                let mut bytes = signed(MessageKind::Probe, &victim, &[]);
                bytes[60] ^= 1;
                bytes
            }),
            // The collector's word, forged.
            (
                Topic::Ack(victim.clone()).to_string(),
                signed(MessageKind::Ack, &victim, &forged_ack.to_body()),
            ),
        ];
        runtime.block_on(rogue.send(&messages));
        messages
    };
    let counted = wait_until(Duration::from_secs(20), || {
        run.metric("headwater_refused_messages_total") >= refused_before + 5.0
            && run.status().is_some_and(|s| s.acks_rejected() >= 1)
    });
    assert!(
        counted,
        "{} lies sent, {} refused, status {:?}\n{}",
        messages.len(),
        run.metric("headwater_refused_messages_total") - refused_before,
        run.status(),
        run.logs()
    );
    let figures = run.finish();
    assert_whole(&figures);
}
