//! Ways to a broker: TLS, ALPN, WebSocket, proxies, IPv6, and a probe that says which hop fails.

use super::broker_kit::*;
use super::fixture::{UTC, path};
use crate::ship::mqtt::probe::{Probe, probe};
use crate::ship::mqtt::{Hop, MqttLink, MqttSettings};
use headwater_core::ports::{Cause, LinkClosed};
use headwater_core::time::BootNanos;
use headwater_sim::clock::SimClock;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rumqttc::tokio_rustls::TlsAcceptor;
use rustls::{HandshakeKind, ServerConfig};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// How it went, and the ALPN name taken.
type Handshake = (HandshakeKind, Option<Vec<u8>>);

/// A broker behind TLS; tells how each handshake went and which ALPN name was taken.
struct Secured {
    port: u16,
    handshakes: Arc<Mutex<Vec<Handshake>>>,
}

async fn secured(server: Arc<ServerConfig>, address: &str, web_socket: bool, tasks: &TaskTracker) -> Secured {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let handshakes = Arc::new(Mutex::new(Vec::new()));
    let (told, more) = (Arc::clone(&handshakes), tasks.clone());
    TaskTracker::new().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (server, told) = (Arc::clone(&server), Arc::clone(&told));
            more.spawn(async move {
                let Ok(stream) = TlsAcceptor::from(server).accept(stream).await else { return };
                let connection = stream.get_ref().1;
                let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
                told.lock().unwrap().push((connection.handshake_kind().unwrap(), alpn));
                answer(stream, web_socket).await;
            });
        }
    });
    Secured { port, handshakes }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send>(stream: S, web_socket: bool) {
    let (tell, mut seen) = mpsc::channel(256);
    let listen = async { while seen.recv().await.is_some() {} };
    if web_socket {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::join!(unwrap_frames(stream, far), serve(near, Rules::default(), tell), listen);
    } else {
        tokio::join!(serve(stream, Rules::default(), tell), listen);
    }
}

async fn head_of<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A server's end of a WebSocket: the client's payloads to `inner`, and back.
async fn unwrap_frames<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, mut inner: DuplexStream) {
    use base64::Engine;
    let head = head_of(&mut stream).await;
    assert!(
        head.starts_with("GET /mqtt HTTP/1.1\r\n") && head.contains("Sec-WebSocket-Protocol: mqtt\r\n"),
        "{head}"
    );
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let salted = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept =
        base64::prelude::BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, salted.as_bytes()));
    let reply = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: mqtt\r\n\r\n"
    );
    stream.write_all(reply.as_bytes()).await.unwrap();
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut read, mut write) = tokio::io::split(&mut inner);
    let up = async {
        loop {
            let mut head = [0; 2];
            if from.read_exact(&mut head).await.is_err() {
                return;
            }
            assert!(head[0] == 0x82 && head[1] & 0x80 != 0, "binary and masked");
            let len = match head[1] & 0x7f {
                126 => usize::from(from.read_u16().await.unwrap()),
                127 => usize::try_from(from.read_u64().await.unwrap()).unwrap(),
                len => usize::from(len),
            };
            let mut mask = [0; 4];
            from.read_exact(&mut mask).await.unwrap();
            let mut payload = vec![0; len];
            from.read_exact(&mut payload).await.unwrap();
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            if write.write_all(&payload).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut piece = [0; 100];
        while let Ok(n @ 1..) = read.read(&mut piece).await {
            let mut frame = vec![0x82, u8::try_from(n).unwrap()];
            frame.extend(&piece[..n]);
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// A proxy that asks for `me:pass`, in HTTP or SOCKS5, and tells where it was sent.
async fn proxy(socks: bool, tasks: &TaskTracker) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel(8);
    let more = tasks.clone();
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            more.spawn(async move {
                let to = if socks { socks_asked(&mut stream).await } else { http_asked(&mut stream).await };
                let Some(to) = to else { return };
                tell.send(to.clone()).await.unwrap();
                let mut onward = TcpStream::connect(to).await.unwrap();
                drop(copy_bidirectional(&mut stream, &mut onward).await);
            });
        }
    });
    (port, told)
}

async fn http_asked(stream: &mut TcpStream) -> Option<String> {
    let head = head_of(stream).await;
    // me:pass
    if !head.contains("Proxy-Authorization: Basic bWU6cGFzcw==\r\n") {
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
        return None;
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let (_, rest) = head.split_once("CONNECT ").unwrap();
    Some(rest.split_once(' ').unwrap().0.to_owned())
}

async fn socks_asked(stream: &mut TcpStream) -> Option<String> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut methods = vec![0; usize::from(head[1])];
    stream.read_exact(&mut methods).await.unwrap();
    if !methods.contains(&2) {
        stream.write_all(&[5, 0xff]).await.unwrap();
        return None;
    }
    stream.write_all(&[5, 2]).await.unwrap();
    let mut login = [0; 9];
    stream.read_exact(&mut login).await.unwrap();
    let good = &login == b"\x01\x02me\x04pass";
    stream.write_all(&[1, u8::from(!good)]).await.unwrap();
    if !good {
        return None;
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..3], [5, 1, 0]);
    let host = match request[3] {
        1 => {
            let mut v4 = [0; 4];
            stream.read_exact(&mut v4).await.unwrap();
            std::net::IpAddr::from(v4).to_string()
        }
        _ => {
            let mut name = vec![0; usize::from(stream.read_u8().await.unwrap())];
            stream.read_exact(&mut name).await.unwrap();
            String::from_utf8(name).unwrap()
        }
    };
    let port = stream.read_u16().await.unwrap();
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).await.unwrap();
    Some(format!("{host}:{port}"))
}

fn settings(url: &str, pki: &Pki) -> MqttSettings {
    MqttSettings::to(url.parse().unwrap(), Some(pki.client()))
}

async fn link_to(settings: MqttSettings, tasks: &TaskTracker) -> Result<MqttLink, LinkClosed> {
    connect(&mut uplink_to(settings, tasks)).await
}

async fn probed(settings: &MqttSettings) -> Probe {
    let clock = SimClock::new(BootNanos(1), UTC);
    in_time(probe(settings, &settings.brokers[0], &path(), &clock)).await
}

#[tokio::test]
async fn tls_shows_our_certificate_and_trusts_the_fleets_root_alone() {
    let (ours, theirs, tasks) = (Pki::new(), Pki::new(), TaskTracker::new());
    let broker = secured(ours.server(&ours, &[]), "127.0.0.1:0", false, &tasks).await;
    let url = format!("mqtts://localhost:{}", broker.port);
    let mut link = link_to(settings(&url, &ours), &tasks).await.unwrap();
    assert_eq!(pass(&mut link, 2).await, [0, 1]);
    let closed = link_to(settings(&url, &theirs), &tasks).await.unwrap_err();
    assert!(closed.cause == Cause::Untrusted && closed.reason.contains("identity.ca"), "{closed}");
    // The broker wants another root's certificates: TLS 1.3 tells only after the handshake.
    let broker = secured(ours.server(&theirs, &[]), "127.0.0.1:0", false, &tasks).await;
    let url = format!("mqtts://localhost:{}", broker.port);
    let closed = link_to(settings(&url, &ours), &tasks).await.unwrap_err();
    assert!(closed.cause == Cause::Untrusted && closed.reason.contains("our certificate"), "{closed}");
    // And another name than it has.
    let broker = secured(ours.server(&ours, &[]), "[::1]:0", false, &tasks).await;
    let closed =
        link_to(settings(&format!("mqtts://[::1]:{}", broker.port), &ours), &tasks).await.unwrap_err();
    assert!(closed.cause == Cause::Untrusted && closed.reason.contains("another name"), "{closed}");
}

#[tokio::test]
async fn tls_sessions_resume_over_reconnects() {
    let (pki, tasks) = (Pki::new(), TaskTracker::new());
    let broker = secured(pki.server(&pki, &[b"mqtt"]), "127.0.0.1:0", false, &tasks).await;
    let url = format!("mqtts://localhost:{}", broker.port);
    for alpn in [None, Some("mqtt".to_owned())] {
        let mut uplink = uplink_to(MqttSettings { alpn: alpn.clone(), ..settings(&url, &pki) }, &tasks);
        broker.handshakes.lock().unwrap().clear();
        for _ in 0..3 {
            let mut link = connect(&mut uplink).await.unwrap();
            assert_eq!(pass(&mut link, 1).await, [0]);
        }
        let name = alpn.map(String::into_bytes);
        let found = broker.handshakes.lock().unwrap().clone();
        let expected = [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed];
        assert_eq!(found, expected.map(|kind| (kind, name.clone())));
    }
}

#[test]
fn alpn_is_said_on_443_and_where_it_is_set() {
    let pki = Pki::new();
    let names =
        |settings: &MqttSettings| settings.route(&settings.brokers[0]).tls.unwrap().alpn_protocols.clone();
    assert_eq!(names(&settings("mqtts://b.example:443", &pki)), [b"mqtt".to_vec()]);
    assert!(names(&settings("mqtts://b.example:8883", &pki)).is_empty());
    assert!(names(&settings("wss://b.example:443/mqtt", &pki)).is_empty());
    let aws = MqttSettings { alpn_443: "x-amzn-mqtt-ca", ..settings("mqtts://b.example:443", &pki) };
    assert_eq!(names(&aws), [b"x-amzn-mqtt-ca".to_vec()]);
    let own = MqttSettings { alpn: Some("mine".into()), ..settings("mqtts://b.example:8883", &pki) };
    assert_eq!(names(&own), [b"mine".to_vec()]);
}

#[tokio::test]
async fn web_sockets_carry_it_plain_and_secured() {
    let (pki, tasks) = (Pki::new(), TaskTracker::new());
    let broker = secured(pki.server(&pki, &[]), "127.0.0.1:0", true, &tasks).await;
    let mut link =
        link_to(settings(&format!("wss://localhost:{}", broker.port), &pki), &tasks).await.unwrap();
    assert_eq!(pass(&mut link, 50).await, (0..50).collect::<Vec<_>>());

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://127.0.0.1:{}/mqtt", listener.local_addr().unwrap().port());
    tasks.spawn(async move { answer(listener.accept().await.unwrap().0, true).await });
    let mut link = link_to(MqttSettings::to(url.parse().unwrap(), None), &tasks).await.unwrap();
    assert_eq!(pass(&mut link, 3).await, [0, 1, 2]);
}

#[tokio::test]
async fn proxies_of_both_kinds_carry_it() {
    let (pki, tasks) = (Pki::new(), TaskTracker::new());
    let broker = secured(pki.server(&pki, &[]), "127.0.0.1:0", false, &tasks).await;
    for (socks, scheme) in [(false, "http"), (true, "socks5")] {
        let (port, mut told) = proxy(socks, &tasks).await;
        let via = |user: &str| {
            let proxy = Some(format!("{scheme}://{user}127.0.0.1:{port}").parse().unwrap());
            MqttSettings { proxy, ..settings(&format!("mqtts://localhost:{}", broker.port), &pki) }
        };
        let mut link = link_to(via("me:pass@"), &tasks).await.unwrap();
        assert_eq!(pass(&mut link, 3).await, [0, 1, 2]);
        // The name goes to the proxy as it is.
        assert_eq!(in_time(told.recv()).await, Some(format!("localhost:{}", broker.port)));
        for user in ["", "me:wrong@"] {
            if socks && user == "me:wrong@" {
                continue;
            }
            let closed = link_to(via(user), &tasks).await.unwrap_err();
            assert!(
                closed.cause == Cause::NotAuthorized && closed.reason.contains("proxy_credentials"),
                "{closed}"
            );
            assert!(!closed.reason.contains("wrong"), "{closed}");
        }
    }
}

#[tokio::test]
async fn ipv6_addresses_are_reached() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let tasks = TaskTracker::new();
    let url = format!("mqtt://[::1]:{}", listener.local_addr().unwrap().port());
    tasks.spawn(async move { answer(listener.accept().await.unwrap().0, false).await });
    let mut link = link_to(MqttSettings::to(url.parse().unwrap(), None), &tasks).await.unwrap();
    assert_eq!(pass(&mut link, 1).await, [0]);
}

/// Says something of its own to everybody, as a mail server does.
async fn something_else() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"220 mail.example at your service\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
    });
    port
}

fn hops(probe: &Probe) -> Vec<(Hop, bool)> {
    probe.steps.iter().map(|step| (step.hop, step.ok)).collect()
}

#[tokio::test]
async fn a_probe_goes_the_whole_way_as_another_client() {
    let tasks = TaskTracker::new();
    let (port, mut seen) = broker(vec![Rules { max_packet: Some(50_000), ..Rules::default() }], &tasks).await;
    let settings = MqttSettings::to(format!("mqtt://127.0.0.1:{port}").parse().unwrap(), None);
    let found = probed(&settings).await;
    assert!(found.ok, "{found:?}");
    assert_eq!(hops(&found), [Hop::Dns, Hop::Tcp, Hop::Mqtt, Hop::Subscribe].map(|hop| (hop, true)));
    assert_eq!(found.steps[2].found, "version 5, packets to 50000 bytes");
    let Some(Seen::Connect { client_id, will: None, .. }) = in_time(seen.recv()).await else {
        panic!("no will")
    };
    assert_eq!(client_id, "hw.acme.pi-1.check");
    assert!(matches!(in_time(seen.recv()).await, Some(Seen::Subscribe(_))));
    assert!(matches!(in_time(seen.recv()).await, Some(Seen::Disconnect)));
}

#[tokio::test]
async fn a_probe_names_the_hop_that_fails() {
    let (pki, tasks) = (Pki::new(), TaskTracker::new());
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let tls = secured(pki.server(&pki, &[]), "127.0.0.1:0", true, &tasks).await;
    let whole = probed(&settings(&format!("wss://localhost:{}", tls.port), &pki)).await;
    assert!(whole.ok, "{whole:?}");
    assert!(whole.steps[2].found.contains("valid until"), "{whole:?}");
    let (port, _told) = proxy(false, &tasks).await;
    let via = |text: String| Some(text.parse().unwrap());
    let local = format!("wss://localhost:{}", tls.port);
    let mail = something_else().await;
    let (denied, _seen) = broker(vec![Rules { suback: 0x87, ..Rules::default() }], &tasks).await;
    let (refused, _seen) = broker(vec![Rules { connack: 0x87, ..Rules::default() }], &tasks).await;
    for (settings, hop, words) in [
        (settings("mqtts://no-such-host.invalid", &pki), Hop::Dns, "name servers"),
        (settings(&format!("mqtts://127.0.0.1:{gone}"), &pki), Hop::Tcp, "broker running"),
        (
            MqttSettings { proxy: via(format!("http://127.0.0.1:{port}")), ..settings(&local, &pki) },
            Hop::Proxy,
            "uplink.proxy_credentials",
        ),
        (settings(&local, &Pki::new()), Hop::Tls, "identity.ca"),
        (settings(&format!("mqtts://localhost:{mail}"), &pki), Hop::Tls, "no TLS"),
        (settings(&format!("ws://127.0.0.1:{mail}/mqtt"), &pki), Hop::WebSocket, "speak HTTP"),
        (settings(&format!("mqtt://127.0.0.1:{mail}"), &pki), Hop::Mqtt, "speak MQTT"),
        (settings(&format!("mqtt://127.0.0.1:{refused}"), &pki), Hop::Mqtt, "not authorised"),
        (settings(&format!("mqtt://127.0.0.1:{denied}"), &pki), Hop::Subscribe, "hw/1/ack/"),
    ] {
        let found = probed(&settings).await;
        let last = found.steps.last().unwrap();
        assert!(!found.ok && last.hop == hop && last.found.contains(words), "{hop} {found:?}");
        assert!(found.steps.iter().rev().skip(1).all(|step| step.ok));
    }
}
