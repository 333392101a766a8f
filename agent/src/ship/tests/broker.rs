//! The MQTT adapter against a broker of a few lines on loopback, which misbehaves as told.

use super::fixture::{Fleet, UTC, path};
use crate::ship::ShipIdentity;
use crate::ship::mqtt::{BrokerUrl, MqttLink, MqttSettings, MqttUplink};
use crate::ship::tls::client_config;
use bytes::BytesMut;
use headwater_core::ports::{Link, LinkClosed, LinkEvent, Uplink};
use headwater_core::time::BootNanos;
use headwater_core::wire::{Envelope, MessageKind, Topic};
use headwater_sim::clock::SimClock;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rumqttc::tokio_rustls::TlsAcceptor;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, LastWill, Packet, PubAck, PubAckReason, Publish, SubAck,
    SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

const LIMIT: Duration = Duration::from_secs(20);
const ACK_TOPIC: &str = "hw/1/ack/acme/pi-1";

#[derive(Clone)]
struct Rules {
    connack: ConnectReturnCode,
    suback: SubscribeReasonCode,
    max_packet: Option<u32>,
    receive_max: Option<u16>,
    /// Publishes are acked in groups of this many, newest first.
    group: usize,
    puback: PubAckReason,
    /// Says these bytes after so many publishes, and goes.
    goodbye: Option<(usize, Vec<u8>)>,
    /// Publishes this to the client when it subscribed.
    greeting: Option<Vec<u8>>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            connack: ConnectReturnCode::Success,
            suback: SubscribeReasonCode::Success(QoS::AtLeastOnce),
            max_packet: None,
            receive_max: None,
            group: 1,
            puback: PubAckReason::Success,
            goodbye: None,
            greeting: None,
        }
    }
}

#[derive(Debug)]
enum Seen {
    Connect {
        client_id: String,
        clean_start: bool,
        will: Option<LastWill>,
    },
    Subscribe(String),
    Publish(Publish),
    Disconnect,
    /// The client went.
    Eof,
}

fn properties(rules: &Rules) -> ConnAckProperties {
    ConnAckProperties {
        session_expiry_interval: None,
        receive_max: rules.receive_max,
        max_qos: None,
        retain_available: None,
        max_packet_size: rules.max_packet,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, rules: Rules, seen: mpsc::Sender<Seen>) {
    let (mut buffer, mut pending, mut n) = (BytesMut::new(), Vec::new(), 0_usize);
    loop {
        let packet = match Packet::read(&mut buffer, None) {
            Ok(packet) => packet,
            Err(Error::InsufficientBytes(_)) => {
                if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                    drop(seen.send(Seen::Eof).await);
                    return;
                }
                continue;
            }
            Err(error) => panic!("client speaks nonsense: {error}"),
        };
        let mut answers = Vec::new();
        match packet {
            Packet::Connect(connect, will, _) => {
                let (client_id, clean_start) = (connect.client_id, connect.clean_start);
                seen.send(Seen::Connect { client_id, clean_start, will }).await.unwrap();
                let properties = properties(&rules);
                let code = rules.connack;
                answers.push(Packet::ConnAck(ConnAck {
                    session_present: false,
                    code,
                    properties: Some(properties),
                }));
            }
            Packet::Subscribe(subscribe) => {
                seen.send(Seen::Subscribe(subscribe.filters[0].path.clone())).await.unwrap();
                let return_codes = vec![rules.suback];
                answers.push(Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes, properties: None }));
                if let Some(greeting) = &rules.greeting {
                    let mut publish = Publish::new(ACK_TOPIC, QoS::AtLeastOnce, greeting.clone(), None);
                    publish.pkid = 7;
                    answers.push(Packet::Publish(publish));
                }
            }
            Packet::Publish(publish) => {
                n += 1;
                pending.push(publish.pkid);
                seen.send(Seen::Publish(publish)).await.unwrap();
                if pending.len() >= rules.group {
                    answers.extend(
                        pending.drain(..).rev().map(|pkid| {
                            Packet::PubAck(PubAck { pkid, reason: rules.puback, properties: None })
                        }),
                    );
                }
                if let Some((after, bytes)) = &rules.goodbye
                    && n >= *after
                {
                    stream.write_all(bytes).await.unwrap();
                    stream.shutdown().await.unwrap();
                    return;
                }
            }
            Packet::Disconnect(_) => seen.send(Seen::Disconnect).await.unwrap(),
            _ => {}
        }
        let mut out = BytesMut::new();
        for answer in answers {
            answer.write(&mut out, None).unwrap();
        }
        if stream.write_all(&out).await.is_err() {
            drop(seen.send(Seen::Eof).await);
            return;
        }
    }
}

struct Bench {
    uplink: MqttUplink<SimClock>,
    me: ShipIdentity,
    seen: mpsc::Receiver<Seen>,
    tasks: TaskTracker,
}

/// A broker for one connection, and an uplink that knows its address.
async fn bench(rules: Rules) -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, seen) = mpsc::channel(256);
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, rules, tell).await;
    });
    let me = Fleet::new().device();
    let broker = BrokerUrl { host: "127.0.0.1".into(), port, tls: false };
    let settings = MqttSettings { broker, tls: None, keepalive_s: 60 };
    let clock = SimClock::new(BootNanos(1), UTC);
    let uplink = MqttUplink::new(settings, me.clone(), clock, tasks.clone()).unwrap();
    Bench { uplink, me, seen, tasks }
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

async fn connect(bench: &mut Bench) -> Result<MqttLink, LinkClosed> {
    in_time(bench.uplink.connect(ACK_TOPIC)).await
}

/// Sends `n` messages as the shipper does, with at most 28 out, and gives the numbers told back.
async fn pass(link: &mut MqttLink, n: u64) -> Vec<u64> {
    let (mut sent, mut told) = (0, Vec::new());
    while (told.len() as u64) < n {
        let oldest = (0..n).find(|number| !told.contains(number)).unwrap();
        while sent < n && sent - oldest < 28 {
            assert_eq!(in_time(link.send("hw/1/in/00/acme/pi-1/0", vec![0; 1_000])).await, Ok(sent));
            sent += 1;
        }
        if let LinkEvent::Sent(number) = in_time(link.event()).await.unwrap() {
            told.push(number);
        }
    }
    told
}

fn check_status(me: &ShipIdentity, message: &[u8], online: bool) {
    let envelope = Envelope::parse(message).unwrap();
    assert_eq!(envelope.kind, MessageKind::Status);
    envelope.verify(&me.key.verifying_key().unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(envelope.body).unwrap();
    assert_eq!((&json["online"], &json["boot"]), (&serde_json::json!(online), &serde_json::json!(3)));
}

#[tokio::test]
async fn a_connection_subscribes_announces_itself_and_leaves_a_signed_will() {
    let greeting = Some(b"an ack".to_vec());
    let mut bench = bench(Rules { max_packet: Some(50_000), greeting, ..Rules::default() }).await;
    let mut link = connect(&mut bench).await.unwrap();
    assert_eq!(link.payload_bytes_max(), 50_000 - 1_024);
    let status_topic = Topic::Status(path()).to_string();
    let Some(Seen::Connect { client_id, clean_start, will }) = in_time(bench.seen.recv()).await else {
        panic!("connect first")
    };
    assert_eq!((client_id.as_str(), clean_start), ("hw.acme.pi-1", true));
    let will = will.unwrap();
    assert!(will.retain && will.topic == status_topic.as_bytes());
    check_status(&bench.me, &will.message, false);
    assert!(matches!(in_time(bench.seen.recv()).await, Some(Seen::Subscribe(topic)) if topic == ACK_TOPIC));
    let received = LinkEvent::Received { topic: ACK_TOPIC.into(), payload: b"an ack".to_vec() };
    assert_eq!(in_time(link.event()).await, Ok(received));
    let Some(Seen::Publish(status)) = in_time(bench.seen.recv()).await else { panic!("status") };
    assert!(status.retain && status.topic == status_topic.as_bytes());
    check_status(&bench.me, &status.payload, true);

    // Too large for this broker: refused before it is queued, and the link lives on.
    assert!(in_time(link.send("t", vec![0; 50_000])).await.is_err());
    assert_eq!(pass(&mut link, 3).await, [0, 1, 2]);
    // Dropping it says no goodbye, so that the broker publishes the will; and no task stays behind.
    drop(link);
    loop {
        match in_time(bench.seen.recv()).await {
            Some(Seen::Eof) | None => break,
            Some(Seen::Disconnect) => panic!("a goodbye suppresses the will"),
            _ => {}
        }
    }
    bench.tasks.close();
    in_time(bench.tasks.wait()).await;
}

#[tokio::test]
async fn wedge_1056_acks_out_of_order_never_collide() {
    // 1 status and 199 messages, acked newest first by fours.
    let mut bench = bench(Rules { group: 4, ..Rules::default() }).await;
    let mut link = connect(&mut bench).await.unwrap();
    let mut told = pass(&mut link, 199).await;
    assert!(told.windows(2).any(|pair| pair[0] > pair[1]));
    told.sort_unstable();
    assert_eq!(told, (0..199).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_small_receive_maximum_holds_messages_back_without_losing_count() {
    let mut bench = bench(Rules { group: 2, receive_max: Some(7), ..Rules::default() }).await;
    let mut link = connect(&mut bench).await.unwrap();
    let mut told = pass(&mut link, 99).await;
    told.sort_unstable();
    assert_eq!(told, (0..99).collect::<Vec<_>>());
}

#[tokio::test]
async fn refusals_of_the_broker_are_named_and_never_count_as_sent() {
    let quota = Rules { puback: PubAckReason::QuotaExceeded, ..Rules::default() };
    let mut bench_quota = bench(quota).await;
    let mut link = connect(&mut bench_quota).await.unwrap();
    in_time(link.send("t", vec![1])).await.unwrap();
    let closed = in_time(link.event()).await.unwrap_err();
    assert!(!closed.transient && closed.reason.contains("QuotaExceeded"), "{closed}");

    // DISCONNECT 0x8E, with the length of its properties and in the short form, which rumqttc cannot
    // read: then the end of the stream is all we learn.
    for (goodbye, lasting) in [(vec![0xE0, 2, 0x8E, 0], true), (vec![0xE0, 1, 0x8E], false)] {
        let mut bench = bench(Rules { goodbye: Some((1, goodbye)), ..Rules::default() }).await;
        let mut link = connect(&mut bench).await.unwrap();
        let closed = loop {
            if let Err(closed) = in_time(link.event()).await {
                break closed;
            }
        };
        assert_eq!(closed.transient, !lasting, "{closed}");
        assert_eq!(closed.reason.contains("identity"), lasting, "{closed}");
    }

    let old = Rules { connack: ConnectReturnCode::UnsupportedProtocolVersion, ..Rules::default() };
    let closed = connect(&mut bench(old).await).await.unwrap_err();
    assert!(!closed.transient && closed.reason.contains("3.1.1"), "{closed}");

    let no_topic = Rules { suback: SubscribeReasonCode::NotAuthorized, ..Rules::default() };
    let closed = connect(&mut bench(no_topic).await).await.unwrap_err();
    assert!(!closed.transient && closed.reason.contains("ack topic"), "{closed}");
}

struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self { pem: root.pem(), der: root.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Connects over TLS; the broker's certificate comes from `broker`, the client trusts and shows `client`.
async fn over_tls(broker: &Pki, client: &Pki) -> Result<MqttLink, LinkClosed> {
    let (certificate, key) = broker.leaf("broker");
    let mut roots = RootCertStore::empty();
    roots.add(broker.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = TlsAcceptor::from(Arc::new(server)).accept(stream).await {
            let (tell, mut seen) = mpsc::channel(256);
            tokio::join!(serve(stream, Rules::default(), tell), async {
                while seen.recv().await.is_some() {}
            });
        }
    });
    let (certificate, key) = client.leaf("pi-1");
    let tls = client_config(
        client.pem.as_bytes(),
        certificate.pem().as_bytes(),
        key.serialize_pem().as_bytes(),
        UTC,
    )
    .unwrap();
    let broker = format!("mqtts://localhost:{port}").parse().unwrap();
    let settings = MqttSettings { broker, tls: Some(tls), keepalive_s: 60 };
    let clock = SimClock::new(BootNanos(1), UTC);
    let mut uplink = MqttUplink::new(settings, Fleet::new().device(), clock, tasks).unwrap();
    in_time(uplink.connect(ACK_TOPIC)).await
}

#[tokio::test]
async fn tls_shows_our_certificate_and_trusts_the_fleets_root_alone() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let mut link = over_tls(&ours, &ours).await.unwrap();
    assert_eq!(pass(&mut link, 2).await, [0, 1]);
    let closed = over_tls(&theirs, &ours).await.unwrap_err();
    assert!(closed.reason.contains("invalid peer certificate"), "{closed}");
}
