//! The inbox against a broker of a few lines on loopback, and its rules without one.

use super::*;
use crate::receive::clock::SystemClock;
use headwater_core::time::BootNanos;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest wait for a step: machines may be busy.
const LIMIT: Duration = Duration::from_secs(30);

fn message(number: u32, id: u16) -> InboxEvent {
    InboxEvent::Message { number, id, topic: "hw/1/in/00/acme/pi-1/1".into(), payload: vec![7] }
}

fn pipe() -> (Pipe, mpsc::Receiver<u16>) {
    let (settled, ids) = mpsc::channel(8);
    (Pipe { messages: mpsc::channel(8).0, settled }, ids)
}

/// Packet ids of an old connection mean other messages on the new one.
#[tokio::test]
async fn manual_acks_of_an_old_connection_are_not_paid_on_the_new_one() {
    let (to_inbox, events) = mpsc::channel(8);
    let mut inbox = MqttInbox::hearing(events, watch::channel(true).1);
    let ((first, mut first_ids), (second, mut second_ids)) = (pipe(), pipe());
    to_inbox.send(InboxEvent::Connected(1, first)).await.unwrap();
    to_inbox.send(message(1, 1)).await.unwrap();
    let old = inbox.next().await;
    to_inbox.send(message(1, 2)).await.unwrap();
    to_inbox.send(InboxEvent::Connected(2, second)).await.unwrap();
    to_inbox.send(message(1, 3)).await.unwrap();
    to_inbox.send(message(2, 1)).await.unwrap();
    // Not settled, and of the first connection: the broker sends it again.
    assert_eq!(inbox.next().await.token >> 32, 1);
    let fresh = inbox.next().await;
    assert_eq!(fresh.token >> 32, 2, "what came late of the first connection is passed over");
    inbox.settle(old.token).await;
    assert_eq!((inbox.unsettled.len(), inbox.owed.len()), (1, 0), "only the new one is held");
    assert!(second_ids.try_recv().is_err());
    inbox.settle(fresh.token).await;
    assert!(inbox.unsettled.is_empty());
    assert_eq!(second_ids.try_recv(), Ok(1));
    assert!(first_ids.try_recv().is_err());
}

#[test]
fn a_refused_subscription_is_told_with_its_cure() {
    let refused = |code: u8| {
        let mut connection = Connection::open(opening(Version::V5), BootNanos(0)).unwrap();
        let bytes = [0x20, 3, 0, 0, 0, 0x90, 4, 0, 1, 0, code];
        with_cure(&connection.received(BootNanos(0), &mut bytes::BytesMut::from(&bytes[..])).unwrap_err())
    };
    let denied = refused(0x87);
    assert!(denied.contains("hw/1/in/#"), "{denied}");
    let shared = refused(0x9e);
    assert!(shared.contains("shards"), "{shared}");
}

fn opening(version: Version) -> Opening {
    Opening {
        version,
        client_id: "hq".into(),
        keepalive_s: 60,
        will: None,
        lasting: Some(Lasting { starts_clean: false, expiry_s: 60, receive_max: 9 }),
        filters: ["hw/1/in/+/acme/+/+".to_owned()].into(),
        settle: Settle::ByHand,
        inflight_max: 4,
    }
}

/// The broker's side of one connection.
struct Broker(TcpStream);

impl Broker {
    async fn accept(listener: &TcpListener) -> Self {
        Self(tokio::time::timeout(LIMIT, listener.accept()).await.expect("a client comes").unwrap().0)
    }

    /// One packet; the packets of this test are shorter than 128 bytes.
    async fn read(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        let read = async {
            self.0.read_exact(&mut packet).await.unwrap();
            let mut rest = vec![0; usize::from(packet[1])];
            self.0.read_exact(&mut rest).await.unwrap();
            packet.extend(rest);
        };
        tokio::time::timeout(LIMIT, read).await.expect("the client speaks");
        packet
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads CONNECT: protocol level and flags.
    async fn connect(&mut self) -> (u8, u8) {
        let packet = self.read().await;
        assert_eq!((packet[0], &packet[4..8]), (0x10, &b"MQTT"[..]));
        (packet[8], packet[9])
    }

    /// Grants a client of 3.1.1 what it wants.
    async fn welcome(&mut self, session_present: u8) {
        self.write(&[0x20, 2, session_present, 0]).await;
        let subscribe = self.read().await;
        assert_eq!(subscribe[0], 0x82);
        self.write(&[0x90, 3, subscribe[2], subscribe[3], 1]).await;
    }

    async fn publish(&mut self, id: u8, duplicate: bool) {
        let flags = if duplicate { 0x3a } else { 0x32 };
        self.write(&[flags, 6, 0, 1, b't', 0, id, 7]).await;
    }
}

#[tokio::test]
async fn a_broker_of_311_is_found_remembered_and_settled_by_hand() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = MqttTarget {
        host: "127.0.0.1".into(),
        port,
        tls: None,
        versions: Versions::Auto,
        client_id: "hq".into(),
        keepalive_s: 60,
        filters: watch::channel(BTreeSet::from(["hw/1/in/+/acme/+/+".to_owned()])).1,
        clean_start: false,
    };
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    let mut inbox = MqttInbox::start(target, SystemClock, &tasks, cancel.clone());
    let mut up = inbox.connected();

    let mut broker = Broker::accept(&listener).await;
    assert_eq!(broker.connect().await.0, 5, "5 is tried first");
    broker.write(&[0x20, 2, 0, 1]).await;
    drop(broker);
    let mut broker = Broker::accept(&listener).await;
    assert_eq!(broker.connect().await, (4, 0), "3.1.1 with a lasting session");
    broker.welcome(0).await;
    tokio::time::timeout(LIMIT, up.wait_for(|up| *up)).await.expect("subscribed").unwrap();

    broker.publish(1, false).await;
    let first = inbox.next().await;
    broker.publish(2, false).await;
    let second = inbox.next().await;
    inbox.settle(second.token).await;
    assert_eq!(broker.read().await, [0x40, 2, 0, 2], "only what is settled is acknowledged");
    inbox.send("hw/1/ack/acme/pi-1", vec![1, 2]).await;
    let ack = broker.read().await;
    assert_eq!(&ack[ack.len() - 2..], [1, 2]);
    drop(broker);

    let mut broker = Broker::accept(&listener).await;
    assert_eq!(broker.connect().await, (4, 0), "what worked is tried first from now on");
    broker.welcome(1).await;
    broker.publish(1, true).await;
    let again = inbox.next().await;
    inbox.settle(first.token).await;
    inbox.settle(again.token).await;
    assert_eq!(broker.read().await, [0x40, 2, 0, 1], "once: the old token is of another connection");
    inbox.send("hw/1/ack/acme/pi-1", vec![3]).await;
    assert_eq!(broker.read().await[0] & 0xf0, 0x30);
    cancel.cancel();
    tasks.close();
    drop((inbox, broker));
    tokio::time::timeout(LIMIT, tasks.wait()).await.expect("everything ends");
}

#[test]
fn what_a_person_can_do_stands_beside_the_reason() {
    for (cause, words) in [
        (Cause::Untrusted, "identity.tls_cert"),
        (Cause::ProtocolRefused, "mqtt.version"),
        (Cause::TakenOver, "mqtt.client_id"),
    ] {
        let told = with_cure(&LinkClosed::because(cause, "x"));
        assert!(told.contains(words), "{told}");
    }
}
