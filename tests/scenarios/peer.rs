//! A stranger's MQTT client with certificates of the fleet: it listens, and sends what it likes.

use headwater_tests::ticks::now;
use headwater_tests::world::World;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the broker to take what is sent.
const SEND_LIMIT: Duration = Duration::from_secs(20);
/// So long that a peer nobody polls for a while is not thrown out.
const KEEPALIVE: Duration = Duration::from_secs(600);
/// As large as the broker lets messages be.
const PACKET_BYTES_MAX: u32 = 262_144;

/// One message as it stood on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// A client of the broker.
pub(crate) struct Peer {
    client: AsyncClient,
    events: EventLoop,
    /// What came on the topics it listens to, oldest first.
    pub(crate) heard: Vec<Message>,
}

fn pem(path: &Path) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
}

pub(crate) fn private_key(path: &Path) -> rustls::pki_types::PrivateKeyDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::PrivateKeyDer::from_pem_file(path).unwrap()
}

impl Peer {
    /// A client called `name` that shows the TLS pair of the world's folder `whose`.
    pub(crate) fn connect(world: &World, whose: &str, name: &str) -> Self {
        let files = world.path(whose);
        let mut roots = rustls::RootCertStore::empty();
        pem(&files.join("ca.pem")).into_iter().for_each(|root| roots.add(root).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(pem(&files.join("tls.pem")), private_key(&files.join("tls.key")))
            .unwrap();
        let (host, port) = world.broker.split_once(':').unwrap();
        let mut options = MqttOptions::new(name, host, port.parse().unwrap());
        options.set_max_packet_size(Some(PACKET_BYTES_MAX)).set_keep_alive(KEEPALIVE);
        options.set_transport(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(
            Arc::new(tls),
        )));
        let (client, events) = AsyncClient::new(options, 64);
        Self { client, events, heard: Vec::new() }
    }

    async fn poll(&mut self) -> Incoming {
        loop {
            match self.events.poll().await.unwrap() {
                Event::Incoming(Incoming::Publish(publish)) => {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    self.heard.push(Message { topic, payload: publish.payload.to_vec() });
                    return Incoming::Publish(publish);
                }
                Event::Incoming(incoming) => return incoming,
                Event::Outgoing(_) => {}
            }
        }
    }

    /// Listens to a topic filter; the broker has said that it may.
    pub(crate) async fn listen(&mut self, filter: &str) {
        use rumqttc::v5::mqttbytes::v5::SubscribeReasonCode;
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let granted = async {
            loop {
                if let Incoming::SubAck(ack) = self.poll().await {
                    return ack.return_codes;
                }
            }
        };
        let codes = tokio::time::timeout(SEND_LIMIT, granted).await.expect("the broker answers");
        assert!(matches!(codes.as_slice(), [SubscribeReasonCode::Success(_)]), "{filter}: {codes:?}");
    }

    /// Hears what comes until `enough`; false if that did not come about within `limit`.
    pub(crate) async fn hear(&mut self, limit: Duration, enough: impl Fn(&[Message]) -> bool) -> bool {
        let end = now() + limit;
        while !enough(&self.heard) {
            let Some(left) = end.checked_duration_since(now()) else { return false };
            if tokio::time::timeout(left, self.poll()).await.is_err() {
                return enough(&self.heard);
            }
        }
        true
    }

    /// Sends everything and waits until the broker has it.
    pub(crate) async fn send(&mut self, messages: &[Message]) {
        use rumqttc::v5::mqttbytes::v5::PubAckReason;
        for message in messages {
            let Message { topic, payload } = message.clone();
            self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
        }
        let all = async {
            let mut settled = 0;
            while settled < messages.len() {
                if let Incoming::PubAck(ack) = self.poll().await {
                    // With a reason beyond these the broker took it and threw it away.
                    assert!(
                        matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers),
                        "{:?}",
                        ack.reason
                    );
                    settled += 1;
                }
            }
        };
        tokio::time::timeout(SEND_LIMIT, all).await.expect("the broker takes everything");
    }
}
