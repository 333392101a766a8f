//! A broker of a few lines on loopback, which speaks what it is told and misbehaves as told.

use super::fixture::{Fleet, UTC};
use crate::ship::ShipIdentity;
use crate::ship::mqtt::{MqttLink, MqttSettings, MqttUplink, Version};
use bytes::BytesMut;
use headwater_core::ports::{Link, LinkClosed, LinkEvent, Uplink};
use headwater_core::time::BootNanos;
use headwater_sim::clock::SimClock;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rumqttc::mqttbytes::v4;
use rumqttc::mqttbytes::{Error as V4Error, QoS as V4QoS, check};
use rumqttc::v5::mqttbytes::v5::{self, ConnAck, ConnAckProperties, ConnectReturnCode};
use rumqttc::v5::mqttbytes::{Error as V5Error, QoS};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

pub(super) const LIMIT: Duration = Duration::from_secs(20);
pub(super) const ACK_TOPIC: &str = "hw/1/ack/acme/pi-1";
pub(super) const IN_TOPIC: &str = "hw/1/in/00/acme/pi-1/0";

/// What a broker of 3.1.1 does with a CONNECT of 5.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    SaysSo,
    HangsUp,
}

#[derive(Clone)]
pub(super) struct Rules {
    pub(super) connack: u8,
    pub(super) suback: u8,
    pub(super) max_packet: Option<u32>,
    pub(super) receive_max: Option<u16>,
    pub(super) max_qos: Option<u8>,
    /// Publishes are acked in groups of this many, newest first; 0 for never.
    pub(super) group: usize,
    pub(super) puback: u8,
    /// Says these bytes after so many publishes, and goes.
    pub(super) goodbye: Option<(usize, Vec<u8>)>,
    /// Publishes this to the client when it subscribed.
    pub(super) greeting: Option<Vec<u8>>,
    /// It does not speak this version.
    pub(super) not: Option<(Version, Manners)>,
    /// Goes at a payload above this, without a word, as brokers of 3.1.1 do.
    pub(super) hangs_up_above: Option<usize>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            connack: 0,
            suback: 1,
            max_packet: None,
            receive_max: None,
            max_qos: None,
            group: 1,
            puback: 0,
            goodbye: None,
            greeting: None,
            not: None,
            hangs_up_above: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) topic: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
    pub(super) pkid: u16,
}

#[derive(Debug)]
pub(super) enum Seen {
    Connect {
        version: Version,
        client_id: String,
        clean_start: bool,
        keepalive_s: u16,
        will: Option<Published>,
    },
    Subscribe(String),
    Publish(Published),
    Disconnect,
    /// The client went.
    Eof,
}

enum Packet {
    Connect { client_id: String, clean: bool, keepalive_s: u16, will: Option<Published> },
    Subscribe { pkid: u16, topic: String },
    Publish { packet: Published, qos: u8 },
    Ping,
    Disconnect,
    Other,
}

fn read_v5(buffer: &mut BytesMut) -> Option<Packet> {
    // The codec writes this short form and does not read it.
    if buffer.starts_with(&[0xe0, 0]) {
        drop(buffer.split_to(2));
        return Some(Packet::Disconnect);
    }
    match v5::Packet::read(buffer, None) {
        Err(V5Error::InsufficientBytes(_)) => None,
        Err(error) => panic!("client speaks nonsense: {error}"),
        Ok(v5::Packet::Connect(connect, will, _)) => Some(Packet::Connect {
            client_id: connect.client_id,
            clean: connect.clean_start,
            keepalive_s: connect.keep_alive,
            will: will.map(|will| Published {
                topic: will.topic.to_vec(),
                payload: will.message.to_vec(),
                retain: will.retain,
                pkid: 0,
            }),
        }),
        Ok(v5::Packet::Subscribe(subscribe)) => {
            Some(Packet::Subscribe { pkid: subscribe.pkid, topic: subscribe.filters[0].path.clone() })
        }
        Ok(v5::Packet::Publish(publish)) => Some(Packet::Publish {
            packet: Published {
                topic: publish.topic.to_vec(),
                payload: publish.payload.to_vec(),
                retain: publish.retain,
                pkid: publish.pkid,
            },
            qos: publish.qos as u8,
        }),
        Ok(v5::Packet::PingReq(_)) => Some(Packet::Ping),
        Ok(v5::Packet::Disconnect(_)) => Some(Packet::Disconnect),
        Ok(_) => Some(Packet::Other),
    }
}

fn read_v4(buffer: &mut BytesMut) -> Option<Packet> {
    match v4::Packet::read(buffer, 1 << 20) {
        Err(V4Error::InsufficientBytes(_)) => None,
        Err(error) => panic!("client speaks nonsense: {error}"),
        Ok(v4::Packet::Connect(connect)) => Some(Packet::Connect {
            client_id: connect.client_id,
            clean: connect.clean_session,
            keepalive_s: connect.keep_alive,
            will: connect.last_will.map(|will| Published {
                topic: will.topic.into_bytes(),
                payload: will.message.to_vec(),
                retain: will.retain,
                pkid: 0,
            }),
        }),
        Ok(v4::Packet::Subscribe(subscribe)) => {
            Some(Packet::Subscribe { pkid: subscribe.pkid, topic: subscribe.filters[0].path.clone() })
        }
        Ok(v4::Packet::Publish(publish)) => Some(Packet::Publish {
            packet: Published {
                topic: publish.topic.into_bytes(),
                payload: publish.payload.to_vec(),
                retain: publish.retain,
                pkid: publish.pkid,
            },
            qos: publish.qos as u8,
        }),
        Ok(v4::Packet::PingReq) => Some(Packet::Ping),
        Ok(v4::Packet::Disconnect) => Some(Packet::Disconnect),
        Ok(_) => Some(Packet::Other),
    }
}

/// The version of the CONNECT at the head of `buffer`: the byte after the protocol's name.
fn version_of(buffer: &BytesMut) -> Option<Version> {
    check(buffer.iter(), 1 << 20).ok()?;
    let body = buffer.iter().skip(1).position(|byte| byte & 0x80 == 0).unwrap() + 2;
    Some(if buffer[body + 6] == 5 { Version::V5 } else { Version::V311 })
}

fn accept(rules: &Rules, version: Version, out: &mut BytesMut) {
    match (version, rules.connack) {
        (Version::V311, code) => out.extend([0x20, 2, 0, code]),
        (Version::V5, 0) => {
            let properties = ConnAckProperties {
                session_expiry_interval: None,
                receive_max: rules.receive_max,
                max_qos: rules.max_qos,
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
            };
            let code = ConnectReturnCode::Success;
            let connack = ConnAck { session_present: false, code, properties: Some(properties) };
            v5::Packet::ConnAck(connack).write(out, None).unwrap();
        }
        (Version::V5, code) => out.extend([0x20, 3, 0, code, 0]),
    }
}

fn greet(greeting: &[u8], version: Version, out: &mut BytesMut) {
    match version {
        Version::V5 => {
            let mut publish = v5::Publish::new(ACK_TOPIC, QoS::AtLeastOnce, greeting.to_vec(), None);
            publish.pkid = 7;
            v5::Packet::Publish(publish).write(out, None).unwrap();
        }
        Version::V311 => {
            let mut publish = v4::Publish::new(ACK_TOPIC, V4QoS::AtLeastOnce, greeting.to_vec());
            publish.pkid = 7;
            v4::Packet::Publish(publish).write(out, 1 << 20).unwrap();
        }
    }
}

/// Serves one connection by its rules.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    rules: Rules,
    seen: mpsc::Sender<Seen>,
) {
    let (mut buffer, mut pending, mut n, mut version) = (BytesMut::new(), Vec::new(), 0_usize, None);
    loop {
        version = version.or_else(|| version_of(&buffer));
        let packet = match version {
            Some(Version::V5) => read_v5(&mut buffer),
            Some(Version::V311) => read_v4(&mut buffer),
            None => None,
        };
        let (Some(packet), Some(speaks)) = (packet, version) else {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                drop(seen.send(Seen::Eof).await);
                return;
            }
            continue;
        };
        let mut out = BytesMut::new();
        match packet {
            Packet::Connect { client_id, clean, keepalive_s, will } => {
                let told =
                    Seen::Connect { version: speaks, client_id, clean_start: clean, keepalive_s, will };
                seen.send(told).await.unwrap();
                match rules.not {
                    Some((not, Manners::HangsUp)) if not == speaks => return,
                    Some((not, Manners::SaysSo)) if not == speaks => {
                        stream.write_all(&[0x20, 2, 0, 1]).await.unwrap();
                        return;
                    }
                    _ => accept(&rules, speaks, &mut out),
                }
            }
            Packet::Subscribe { pkid, topic } => {
                seen.send(Seen::Subscribe(topic)).await.unwrap();
                let [high, low] = pkid.to_be_bytes();
                match speaks {
                    Version::V5 => out.extend([0x90, 4, high, low, 0, rules.suback]),
                    Version::V311 => out.extend([0x90, 3, high, low, rules.suback]),
                }
                if let Some(greeting) = &rules.greeting {
                    greet(greeting, speaks, &mut out);
                }
            }
            Packet::Publish { packet, qos } => {
                n += 1;
                let ours = packet.retain;
                if rules.hangs_up_above.is_some_and(|limit| packet.payload.len() > limit) {
                    return;
                }
                if qos > 0 {
                    pending.push((packet.pkid, if ours { 0 } else { rules.puback }));
                }
                seen.send(Seen::Publish(packet)).await.unwrap();
                if rules.group > 0 && pending.len() >= rules.group {
                    for (pkid, code) in pending.drain(..).rev() {
                        let [high, low] = pkid.to_be_bytes();
                        match speaks {
                            Version::V5 => out.extend([0x40, 3, high, low, code]),
                            Version::V311 => out.extend([0x40, 2, high, low]),
                        }
                    }
                }
                if let Some((after, bytes)) = &rules.goodbye
                    && n >= *after
                {
                    stream.write_all(bytes).await.unwrap();
                    stream.shutdown().await.unwrap();
                    return;
                }
            }
            Packet::Ping => out.extend([0xd0, 0]),
            Packet::Disconnect => seen.send(Seen::Disconnect).await.unwrap(),
            Packet::Other => {}
        }
        if stream.write_all(&out).await.is_err() {
            drop(seen.send(Seen::Eof).await);
            return;
        }
    }
}

pub(super) struct Bench {
    pub(super) uplink: MqttUplink<SimClock>,
    pub(super) me: ShipIdentity,
    pub(super) seen: mpsc::Receiver<Seen>,
    pub(super) tasks: TaskTracker,
}

/// A broker whose n-th connection goes by the n-th rules, and the last ones from then on; its address.
pub(super) async fn broker(rules: Vec<Rules>, tasks: &TaskTracker) -> (u16, mpsc::Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, seen) = mpsc::channel(256);
    let more = tasks.clone();
    let served = async move {
        let last = rules.last().cloned().unwrap();
        for rules in rules.into_iter().chain(std::iter::repeat(last)) {
            let Ok((stream, _)) = listener.accept().await else { return };
            stream.set_nodelay(true).unwrap();
            more.spawn(serve(stream, rules, tell.clone()));
        }
    };
    // It ends with the runtime of its test, so it is not among the tasks that are waited for.
    TaskTracker::new().spawn(served);
    (port, seen)
}

pub(super) fn uplink_to(settings: MqttSettings, tasks: &TaskTracker) -> MqttUplink<SimClock> {
    let clock = SimClock::new(BootNanos(1), UTC);
    MqttUplink::new(settings, Fleet::new().device(), clock, tasks.clone()).unwrap()
}

/// A broker and an uplink that knows its address.
pub(super) async fn bench(rules: Rules) -> Bench {
    let tasks = TaskTracker::new();
    let (port, seen) = broker(vec![rules], &tasks).await;
    let me = Fleet::new().device();
    let settings = MqttSettings::to(format!("mqtt://127.0.0.1:{port}").parse().unwrap(), None);
    let clock = SimClock::new(BootNanos(1), UTC);
    let uplink = MqttUplink::new(settings, me.clone(), clock, tasks.clone()).unwrap();
    Bench { uplink, me, seen, tasks }
}

pub(super) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("in time")
}

pub(super) async fn connect(uplink: &mut MqttUplink<SimClock>) -> Result<MqttLink, LinkClosed> {
    in_time(uplink.connect(ACK_TOPIC)).await
}

/// The end of a link.
pub(super) async fn end_of(link: &mut MqttLink) -> LinkClosed {
    loop {
        if let Err(closed) = in_time(link.event()).await {
            return closed;
        }
    }
}

/// Sends `n` messages as the shipper does, with at most its span out, and gives the numbers told back.
pub(super) async fn pass(link: &mut MqttLink, n: u64) -> Vec<u64> {
    let (mut sent, mut told, span) = (0, Vec::new(), link.span_max());
    while (told.len() as u64) < n {
        let oldest = (0..n).find(|number| !told.contains(number)).unwrap();
        while sent < n && sent - oldest < span {
            assert_eq!(in_time(link.send(IN_TOPIC, vec![0; 1_000])).await, Ok(sent));
            sent += 1;
        }
        if let LinkEvent::Sent(number) = in_time(link.event()).await.unwrap() {
            told.push(number);
        }
    }
    told
}

/// A root and what it signs.
pub(super) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    der: CertificateDer<'static>,
}

impl Pki {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self { pem: root.pem(), der: root.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(super) fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A broker's side of TLS that wants certificates of `clients`, and takes these ALPN names.
    pub(super) fn server(&self, clients: &Pki, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let (certificate, key) = self.leaf("broker");
        let mut roots = RootCertStore::empty();
        roots.add(clients.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        server.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(server)
    }

    /// A gateway's side of TLS that trusts and shows this root.
    pub(super) fn client(&self) -> Arc<rustls::ClientConfig> {
        let (certificate, key) = self.leaf("pi-1");
        crate::ship::tls::client_config(
            self.pem.as_bytes(),
            certificate.pem().as_bytes(),
            key.serialize_pem().as_bytes(),
            UTC,
        )
        .unwrap()
    }
}
