//! The service as people run it: broker and collector as processes on loopback, TLS with client
//! certificates, and a device that is no more than an MQTT client with a signing key.
use headwater_collector::pki::{self, Subject};
use headwater_collector::receive::clock::SystemClock;
use headwater_core::batch::{Column, Effort, Rows, Section, StreamRef, encode_batch};
use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch, Seq, StreamId};
use headwater_core::ports::Clock;
use headwater_core::schema::{Field, Logical, Modality, Schema};
use headwater_core::time::{ClockDomain, NS_PER_S, StampKind, UtcNanos};
use headwater_core::wire::chain::{FleetRoots, Role, verify_chain};
use headwater_core::wire::{
    Ack, Capabilities, Declaration, Envelope, Hello, Lane, MessageKind, Sent, SigningKey, Topic, Unsigned,
    VerifyingKey, peek_chain,
};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Longest wait for any one thing; what is waited for usually takes milliseconds.
const LIMIT: Duration = Duration::from_secs(60);
const EPOCH: Epoch = Epoch(0xabc);

fn now() -> UtcNanos {
    SystemClock.read().real
}

fn path() -> DevicePath {
    DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() }
}

fn der(path: PathBuf) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// A role of the service as a child process; killed when dropped.
struct Service {
    child: Child,
    lines: Receiver<String>,
}

impl Service {
    fn start(verb: &str, config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_headwater-collector"))
            .args([verb, "--config"])
            .arg(config)
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (tx, lines) = sync_channel(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a log line that holds `word`.
    fn says(&self, word: &str) {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) if line.contains(word) => return,
                Ok(line) => said.push(line),
                Err(error) => panic!("never said {word:?} ({error}), but:\n{}", said.join("\n")),
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct World {
    folder: tempfile::TempDir,
    broker_port: u16,
    http: String,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { folder, broker_port: free_port(), http: format!("127.0.0.1:{}", free_port()) };
        let fleet = world.path("pki");
        pki::init(&fleet, "acme", now()).unwrap();
        pki::issue(&fleet, &Subject::Device("pi-1".into()), &world.path("pi-1"), now()).unwrap();
        let hosts = vec!["127.0.0.1".into(), "localhost".into()];
        pki::issue(&fleet, &Subject::Collector { name: "hq".into(), hosts }, &world.path("hq"), now())
            .unwrap();
        let text = format!(
            r#"
[tenant]
name = "acme"
[identity]
ca = "hq/ca.pem"
tls_cert = "hq/tls.pem"
tls_key = "hq/tls.key"
sign_cert = "hq/sign.pem"
sign_key = "hq/sign.key"
[mqtt]
broker = "mqtts://127.0.0.1:{port}"
client_id = "hq"
[broker]
listen = "127.0.0.1:{port}"
[landing]
dir = "landing"
[lake]
location = "lake"
[commit]
interval_ms = 200
[http]
listen = "{http}"
"#,
            port = world.broker_port,
            http = world.http
        );
        std::fs::write(world.config(), text).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("collector.toml")
    }

    fn start_broker(&self) -> Service {
        let broker = Service::start("broker", &self.config());
        broker.says("Listening for remote connections");
        broker
    }

    fn start_collector(&self) -> Service {
        let collector = Service::start("run", &self.config());
        collector.says("receiving");
        collector
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

/// A device: an MQTT client with a signing key.
struct Device {
    client: AsyncClient,
    events: EventLoop,
    key: SigningKey,
    chain: Vec<Vec<u8>>,
    roots: FleetRoots,
    collector: Option<VerifyingKey>,
    sent: i64,
}

impl Device {
    async fn connect(world: &World) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(world.path("pi-1/ca.pem"))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![der(world.path("pi-1/tls.pem"))],
                PrivateKeyDer::from_pem_file(world.path("pi-1/tls.key")).unwrap(),
            )
            .unwrap();
        let mut options = MqttOptions::new("pi-1", "127.0.0.1", world.broker_port);
        options
            .set_transport(Transport::Tls(TlsConfiguration::Rustls(Arc::new(tls))))
            .set_max_packet_size(Some(262_144));
        let (client, events) = AsyncClient::new(options, 64);
        let key = PrivateKeyDer::from_pem_file(world.path("pi-1/sign.key")).unwrap();
        let mut device = Self {
            client,
            events,
            key: SigningKey::from_pkcs8(key.secret_der()).unwrap(),
            chain: vec![der(world.path("pi-1/sign.pem")).to_vec()],
            roots: FleetRoots::new(&[der(world.path("pi-1/ca.pem")).to_vec()]).unwrap(),
            collector: None,
            sent: 0,
        };
        device.client.subscribe(Topic::Ack(path()).to_string(), QoS::AtLeastOnce).await.unwrap();
        device.until(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
        device
    }

    async fn until<T>(&mut self, mut found: impl FnMut(&Packet) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && let Some(found) = found(&packet)
                {
                    return found;
                }
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("it comes in time")
    }

    async fn send(&mut self, kind: MessageKind, body: &[u8]) {
        self.sent += 1;
        let sent = Sent { boot_ordinal: 1, ns: self.sent };
        let message = Unsigned::new(kind, &path(), EPOCH, body).unwrap().sign(sent, &self.key);
        let topic = Topic::In { device: path(), lane: Lane::Control }.to_string();
        self.client.publish(topic, QoS::AtLeastOnce, false, message).await.unwrap();
    }

    async fn hello(&mut self, nonce: u8) {
        let hello = Hello {
            boot_ordinal: BootOrdinal(1),
            boot_id: BootId([3; 16]),
            capabilities: Capabilities::ours("test"),
            message_bytes_max: 98_304,
            streams: vec![],
            chain: self.chain.clone(),
            nonce: [nonce; 16],
        };
        self.send(MessageKind::Hello, &hello.to_body()).await;
    }

    async fn rows(&mut self, first: u64, n: usize) {
        let rows = Rows {
            stream: StreamRef::Id(StreamId(1)),
            fingerprint: schema().fingerprint(),
            boot_ordinal: BootOrdinal(1),
            first_seq: Seq(first),
            time_exp: 3,
            stamp_kind: StampKind::Arrival,
            domain: ClockDomain::BOOT,
            t: vec![1_000_000; n],
            lat_lo: vec![0; n],
            lat_hi: vec![9; n],
            fields: vec![Column::integers(vec![7; n])],
        };
        let body = encode_batch(&[Section::Rows(rows)], Effort::Wire);
        self.send(MessageKind::Batch, &body).await;
    }

    /// The next ack for which `found` gives something. Each must be signed by a collector of the fleet.
    async fn ack<T>(&mut self, mut found: impl FnMut(&Ack) -> Option<T>) -> T {
        let (roots, mut collector) = (self.roots.clone(), self.collector);
        let answer = self
            .until(|packet| {
                let Packet::Publish(publish) = packet else { return None };
                let envelope = Envelope::parse(&publish.payload).unwrap();
                envelope.check_device(&path()).unwrap();
                assert_eq!((envelope.kind, envelope.epoch), (MessageKind::Ack, EPOCH));
                if let Some(chain) = peek_chain(&envelope).unwrap() {
                    let signer = verify_chain(&chain, &roots, Role::Collector, now()).unwrap();
                    assert_eq!(signer.path.to_string(), "acme/hq");
                    collector = Some(signer.key);
                }
                envelope.verify(&collector.expect("the first ack carries the chain")).unwrap();
                found(&Ack::from_body(envelope.body).unwrap())
            })
            .await;
        self.collector = collector;
        answer
    }
}

fn schema() -> Schema {
    Schema {
        salt: 0,
        kind: "imu".parse().unwrap(),
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![Field {
            name: "ax".parse().unwrap(),
            logical: Logical::I64,
            nullable: false,
            unit: "m/s2".into(),
        }],
    }
}

fn durable(ack: &Ack) -> u64 {
    ack.streams.iter().find(|stream| stream.id == StreamId(1)).map_or(0, |stream| stream.durable_upto.0)
}

#[test]
fn a_device_is_answered_landed_committed_and_remembered_over_a_kill() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new();
    let _broker = world.start_broker();
    let collector = world.start_collector();
    runtime.block_on(async {
        let mut device = Device::connect(&world).await;
        device.hello(5).await;
        let first = device
            .ack(|ack| {
                (ack.nonce == Some([5; 16])).then(|| {
                    let clock = ack.clock.expect("a clock reply");
                    assert_eq!(clock.t1, Sent { boot_ordinal: 1, ns: 1 });
                    assert!(clock.t2_ns <= clock.t3_ns);
                    assert!(now().since(UtcNanos(clock.t3_ns)) < 60 * NS_PER_S);
                    assert!(ack.capabilities.is_some() && ack.credit.is_some());
                    ack.incarnation
                })
            })
            .await;
        let declaration = Declaration { stream: StreamId(1), name: "imu".parse().unwrap(), schema: schema() };
        device.send(MessageKind::Declaration, &declaration.to_body()).await;
        device.rows(0, 40).await;
        device.ack(|ack| (durable(ack) == 40).then_some(())).await;
        device
            .ack(|ack| {
                let committed = ack.streams.iter().any(|stream| stream.committed_upto == Seq(40));
                committed.then(|| assert!(ack.commit.is_some()))
            })
            .await;

        assert!(world.get("/healthz").contains("ok"));
        let ready = world.get("/readyz");
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
        let metrics = world.get("/metrics");
        assert!(
            metrics.contains("headwater_refused_messages_total{reason=\"bad_signature\"} 0"),
            "{metrics}"
        );
        assert!(metrics.contains("headwater_mqtt_connected 1"), "{metrics}");
        assert!(world.get("/api/status").contains("\"device\": \"pi-1\""));

        // Killed with rows that were acked: its successor knows them, and the device's key.
        device.rows(40, 10).await;
        device.ack(|ack| (durable(ack) == 50).then_some(())).await;
        collector.signal("-KILL");
        drop(collector);
        let mut collector = world.start_collector();
        device.rows(50, 10).await;
        let mut asked = false;
        device
            .ack(|ack| {
                asked |= ack.need_hello && ack.incarnation != first;
                (ack.incarnation != first && durable(ack) == 60).then_some(())
            })
            .await;
        assert!(asked, "a new incarnation asks for a hello");
        device.hello(6).await;
        device
            .ack(|ack| (ack.nonce == Some([6; 16])).then(|| assert!(!ack.need_hello, "it has just come")))
            .await;
        collector.signal("-TERM");
        collector.says("receiving ended");
        assert!(collector.child.wait().unwrap().success());
    });
}

#[test]
fn mistakes_are_said_and_the_exit_code_tells() {
    let world = World::new();
    let check = || {
        Command::new(env!("CARGO_BIN_EXE_headwater-collector"))
            .args(["check", "--config"])
            .arg(world.config())
            .output()
            .unwrap()
    };
    let fine = check();
    assert!(fine.status.success(), "{fine:?}");
    assert!(String::from_utf8_lossy(&fine.stdout).contains("collector hq, tenant acme"));
    let text = std::fs::read_to_string(world.config()).unwrap();
    for (from, to, said) in [
        ("name = \"acme\"", "name = \"umbrella\"", "belongs to tenant acme"),
        ("sign_key = \"hq/sign.key\"", "sign_key = \"pi-1/sign.key\"", "are not a pair"),
        ("sign_cert = \"hq/sign.pem\"", "sign_cert = \"pi-1/sign.pem\"", "cannot be used"),
        ("interval_ms = 200", "intervall_ms = 200", "did you mean interval_ms?"),
    ] {
        std::fs::write(world.config(), text.replace(from, to)).unwrap();
        let wrong = check();
        assert!(!wrong.status.success());
        assert!(String::from_utf8_lossy(&wrong.stderr).contains(said), "{wrong:?}");
    }
}
