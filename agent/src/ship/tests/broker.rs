//! The MQTT adapter against brokers that misbehave: every trap of MQTT clients and brokers that the pipe must survive.

use super::broker_kit::*;
use super::fixture::path;
use crate::ship::ShipIdentity;
use crate::ship::mqtt::{MqttSettings, Version, Versions};
use headwater_core::ports::{Cause, Link, LinkEvent, RefusedFor, Uplink};
use headwater_core::wire::{Envelope, MessageKind, Topic};
use proptest::prelude::*;
use tokio_util::task::TaskTracker;

fn check_status(me: &ShipIdentity, message: &[u8], online: bool) {
    let envelope = Envelope::parse(message).unwrap();
    assert_eq!(envelope.kind, MessageKind::Status);
    envelope.verify(&me.key.verifying_key().unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(envelope.body).unwrap();
    assert_eq!((&json["online"], &json["boot"]), (&serde_json::json!(online), &serde_json::json!(3)));
}

/// What every connection does, in either version.
async fn a_whole_connection(rules: Rules, speaks: Version) {
    let greeting = Some(b"an ack".to_vec());
    let mut bench = bench(Rules { greeting, ..rules }).await;
    let mut link = connect(&mut bench.uplink).await.unwrap();
    let status_topic = Topic::Status(path()).to_string();
    loop {
        let Some(Seen::Connect { version, client_id, clean_start, keepalive_s, will }) =
            in_time(bench.seen.recv()).await
        else {
            panic!("connect first")
        };
        assert_eq!((client_id.as_str(), clean_start, keepalive_s), ("hw.acme.pi-1", true, 60));
        let will = will.unwrap();
        assert!(will.retain && will.topic == status_topic.as_bytes());
        check_status(&bench.me, &will.payload, false);
        if version == speaks {
            break;
        }
    }
    assert!(matches!(in_time(bench.seen.recv()).await, Some(Seen::Subscribe(topic)) if topic == ACK_TOPIC));
    let received = LinkEvent::Received { topic: ACK_TOPIC.into(), payload: b"an ack".to_vec() };
    assert_eq!(in_time(link.event()).await, Ok(received));
    let Some(Seen::Publish(status)) = in_time(bench.seen.recv()).await else { panic!("status") };
    assert!(status.retain && status.topic == status_topic.as_bytes());
    check_status(&bench.me, &status.payload, true);
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
async fn a_connection_subscribes_announces_itself_and_leaves_a_signed_will() {
    a_whole_connection(Rules::default(), Version::V5).await;
}

#[tokio::test]
async fn a_broker_that_says_it_speaks_no_5_is_spoken_to_in_311() {
    let not = Some((Version::V5, Manners::SaysSo));
    a_whole_connection(Rules { not, ..Rules::default() }, Version::V311).await;
}

#[tokio::test]
async fn a_broker_that_hangs_up_at_5_is_spoken_to_in_311() {
    let not = Some((Version::V5, Manners::HangsUp));
    a_whole_connection(Rules { not, ..Rules::default() }, Version::V311).await;
}

#[tokio::test]
async fn the_version_is_remembered_in_the_process_and_over_restarts() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
    let old = Rules { not: Some((Version::V5, Manners::SaysSo)), ..Rules::default() };
    let (port, mut seen) = broker(vec![old], &tasks).await;
    let url = format!("mqtt://127.0.0.1:{port}").parse().unwrap();
    let memory = Some(dir.path().join("uplink.json"));
    let settings = MqttSettings { memory, ..MqttSettings::to(url, None) };
    let mut versions = Vec::new();
    for _restart in 0..2 {
        let mut uplink = uplink_to(settings.clone(), &tasks);
        for _link in 0..2 {
            drop(connect(&mut uplink).await.unwrap());
        }
    }
    while versions.len() < 5 {
        if let Some(Seen::Connect { version, .. }) = in_time(seen.recv()).await {
            versions.push(version);
        }
    }
    use Version::{V5, V311};
    assert_eq!(versions, [V5, V311, V311, V311, V311]);
}

#[tokio::test]
async fn a_version_that_is_set_is_the_only_one_tried() {
    let tasks = TaskTracker::new();
    let old = Rules { not: Some((Version::V5, Manners::SaysSo)), ..Rules::default() };
    let (port, _seen) = broker(vec![old], &tasks).await;
    let url = format!("mqtt://127.0.0.1:{port}").parse().unwrap();
    let settings = MqttSettings { versions: Versions::Only(Version::V5), ..MqttSettings::to(url, None) };
    let closed = connect(&mut uplink_to(settings, &tasks)).await.unwrap_err();
    assert_eq!(closed.cause, Cause::ProtocolRefused, "{closed}");
}

#[tokio::test]
async fn wedge_1056_acks_out_of_order_never_collide() {
    for not in [None, Some((Version::V5, Manners::SaysSo))] {
        // 1 status and 199 messages, acked newest first by fours; then the session is dropped, and the next works.
        let mut bench = bench(Rules { group: 4, not, ..Rules::default() }).await;
        for _ in 0..2 {
            let mut link = connect(&mut bench.uplink).await.unwrap();
            let seen = &mut bench.seen;
            let mut told = in_time(async {
                tokio::select! {
                    told = pass(&mut link, 199) => told,
                    () = async { while seen.recv().await.is_some() {} } => panic!("the broker went"),
                }
            })
            .await;
            assert!(told.windows(2).any(|pair| pair[0] > pair[1]));
            told.sort_unstable();
            assert_eq!(told, (0..199).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_small_receive_maximum_holds_messages_back_without_losing_count() {
    for (receive_max, span) in [(1, 1), (7, 7), (10, 10), (500, 28)] {
        let mut bench = bench(Rules { receive_max: Some(receive_max), ..Rules::default() }).await;
        let mut link = connect(&mut bench.uplink).await.unwrap();
        assert_eq!(link.span_max(), span);
        let seen = &mut bench.seen;
        let told = in_time(async {
            tokio::select! {
                told = pass(&mut link, 99) => told,
                () = async { while seen.recv().await.is_some() {} } => panic!("the broker went"),
            }
        })
        .await;
        assert_eq!(told, (0..99).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_broker_without_quality_of_service_1_is_used_without_pubacks() {
    let mut bench = bench(Rules { max_qos: Some(0), ..Rules::default() }).await;
    let mut link = connect(&mut bench.uplink).await.unwrap();
    assert_eq!(pass(&mut link, 3).await, [0, 1, 2]);
}

#[tokio::test]
async fn puback_error_codes_free_their_place_and_are_never_told_as_sent() {
    for (puback, why) in [
        (0x97, RefusedFor::Quota),
        (0x95, RefusedFor::TooLarge),
        (0x87, RefusedFor::NotAuthorized),
        (0x90, RefusedFor::Topic),
        (0x99, RefusedFor::Payload),
        (0x80, RefusedFor::Other(0x80)),
        (0x91, RefusedFor::Other(0x91)),
        // Codes nobody defined.
        (0xfe, RefusedFor::Other(0xfe)),
    ] {
        let mut bench = bench(Rules { puback, receive_max: Some(1), ..Rules::default() }).await;
        let mut link = connect(&mut bench.uplink).await.unwrap();
        for number in 0..3 {
            assert_eq!(in_time(link.send(IN_TOPIC, vec![1])).await, Ok(number));
            assert_eq!(in_time(link.event()).await, Ok(LinkEvent::Refused { number, why }));
        }
    }
    // 0x10, nobody listens: the broker took it and lost it, and only our own ack would have said more.
    let mut bench = bench(Rules { puback: 0x10, ..Rules::default() }).await;
    let mut link = connect(&mut bench.uplink).await.unwrap();
    assert_eq!(pass(&mut link, 1).await, [0]);
}

#[tokio::test]
async fn ends_with_a_cause() {
    // DISCONNECT with the length of its properties, and in the short form that rumqttc cannot read.
    for (goodbye, cause) in [
        (vec![0xE0, 2, 0x8E, 0], Cause::TakenOver),
        (vec![0xE0, 1, 0x8E], Cause::TakenOver),
        (vec![0xE0, 1, 0x97], Cause::Busy),
        (vec![0xE0, 1, 0x9F], Cause::Busy),
        (vec![0xE0, 1, 0x9C], Cause::UseAnother),
        (vec![0xE0, 1, 0x87], Cause::NotAuthorized),
        (vec![0xE0, 1, 0x8B], Cause::BrokerAway),
        (vec![0xE0, 1, 0x95], Cause::TooLarge),
        (vec![0xE0, 0], Cause::BrokerAway),
    ] {
        let mut bench = bench(Rules { goodbye: Some((1, goodbye)), ..Rules::default() }).await;
        let mut link = connect(&mut bench.uplink).await.unwrap();
        let closed = end_of(&mut link).await;
        assert_eq!(closed.cause, cause, "{closed}");
    }
    for (connack, cause) in [
        (0x97, Cause::Busy),
        (0x86, Cause::NotAuthorized),
        (0x9D, Cause::UseAnother),
        (0x88, Cause::BrokerAway),
    ] {
        let mut bench = bench(Rules { connack, ..Rules::default() }).await;
        let closed = connect(&mut bench.uplink).await.unwrap_err();
        assert_eq!(closed.cause, cause, "{closed}");
    }
    let mut bench = bench(Rules { suback: 0x87, ..Rules::default() }).await;
    let closed = connect(&mut bench.uplink).await.unwrap_err();
    assert!(closed.cause == Cause::NotAuthorized && closed.reason.contains("hw/1/ack/"), "{closed}");
}

#[tokio::test]
async fn a_broker_that_closes_on_every_publish_is_told_apart_from_one_that_went() {
    let mut bench_closing = bench(Rules { goodbye: Some((2, vec![])), group: 5, ..Rules::default() }).await;
    let mut link = connect(&mut bench_closing.uplink).await.unwrap();
    in_time(link.send(IN_TOPIC, vec![0; 100])).await.unwrap();
    let closed = end_of(&mut link).await;
    assert_eq!(closed.cause, Cause::ClosedOnPublish, "{closed}");

    // It took as much before: nothing is known but that it went.
    let mut bench = bench(Rules { goodbye: Some((5, vec![])), ..Rules::default() }).await;
    let mut link = connect(&mut bench.uplink).await.unwrap();
    assert_eq!(pass(&mut link, 3).await, [0, 1, 2]);
    in_time(link.send(IN_TOPIC, vec![0; 1_000])).await.unwrap();
    let closed = end_of(&mut link).await;
    assert_eq!(closed.cause, Cause::BrokerAway, "{closed}");
}

#[tokio::test]
async fn poison_size_the_limit_falls_between_connections() {
    let tasks = TaskTracker::new();
    let rules =
        [Some(256 * 1024), Some(40 * 1024)].map(|max_packet| Rules { max_packet, ..Rules::default() });
    let (port, _seen) = broker(rules.to_vec(), &tasks).await;
    let url = format!("mqtt://127.0.0.1:{port}").parse().unwrap();
    let mut uplink = uplink_to(MqttSettings::to(url, None), &tasks);
    let mut link = connect(&mut uplink).await.unwrap();
    assert!(in_time(link.send(IN_TOPIC, vec![0; 96 * 1024])).await.is_ok());
    assert_eq!(in_time(link.event()).await, Ok(LinkEvent::Sent(0)));
    drop(link);
    let mut link = connect(&mut uplink).await.unwrap();
    assert_eq!(link.payload_bytes_max(), 39 * 1024);
    // Refused before it is queued, and the link lives on.
    assert!(in_time(link.send(IN_TOPIC, vec![0; 96 * 1024])).await.is_err());
    assert_eq!(pass(&mut link, 2).await, [0, 1]);
}

#[tokio::test]
async fn poison_size_of_311_is_found_by_its_hang_ups() {
    let tasks = TaskTracker::new();
    let rules =
        Rules { not: Some((Version::V5, Manners::SaysSo)), hangs_up_above: Some(50_000), ..Rules::default() };
    let (port, mut seen) = broker(vec![rules], &tasks).await;
    tasks.spawn(async move { while seen.recv().await.is_some() {} });
    let url = format!("mqtt://127.0.0.1:{port}").parse().unwrap();
    let mut uplink = uplink_to(MqttSettings::to(url, None), &tasks);
    let mut hang_ups = 0;
    loop {
        let mut link = connect(&mut uplink).await.unwrap();
        let most = link.payload_bytes_max().min(96 * 1024);
        in_time(link.send(IN_TOPIC, vec![0; most])).await.unwrap();
        match in_time(link.event()).await {
            Ok(event) => {
                assert_eq!((event, most), (LinkEvent::Sent(0), 48 * 1024));
                break;
            }
            Err(closed) => {
                assert_eq!(closed.cause, Cause::ClosedOnPublish, "{closed}");
                uplink.ended(&closed);
                hang_ups += 1;
            }
        }
    }
    assert_eq!(hang_ups, 3);
}

#[tokio::test]
async fn the_next_broker_of_the_list_is_tried_and_the_good_one_kept() {
    let tasks = TaskTracker::new();
    let (moved, _seen) = broker(vec![Rules { connack: 0x9D, ..Rules::default() }], &tasks).await;
    let (good, _seen) = broker(vec![Rules::default()], &tasks).await;
    let url = |port: u16| format!("mqtt://127.0.0.1:{port}").parse().unwrap();
    let settings = MqttSettings { brokers: vec![url(moved), url(good)], ..MqttSettings::to(url(good), None) };
    let mut uplink = uplink_to(settings, &tasks);
    assert_eq!(uplink.alternatives(), 1);
    assert_eq!(connect(&mut uplink).await.unwrap_err().cause, Cause::UseAnother);
    for _ in 0..2 {
        let link = connect(&mut uplink).await.unwrap();
        assert!(link.peer().contains(&good.to_string()), "{}", link.peer());
    }
}

#[tokio::test]
async fn a_write_that_is_stuck_stops_no_ack_from_being_read() {
    // The broker reads nothing after it acked, as a full link does; its greeting comes through.
    let (near, mut far) = tokio::io::duplex(2_000);
    let (codec_ack, greeting) = ([0x20, 3, 0, 0, 0, 0x90, 4, 0, 1, 0, 1], b"an ack");
    let (tasks, tell) = (TaskTracker::new(), tokio::sync::oneshot::channel::<()>());
    let mut publish = rumqttc::v5::mqttbytes::v5::Publish::new(
        ACK_TOPIC,
        rumqttc::v5::mqttbytes::QoS::AtMostOnce,
        greeting.to_vec(),
        None,
    );
    publish.pkid = 0;
    let mut bytes = bytes::BytesMut::new();
    rumqttc::v5::mqttbytes::v5::Packet::Publish(publish).write(&mut bytes, None).unwrap();
    tasks.spawn(async move {
        use tokio::io::AsyncWriteExt;
        far.write_all(&codec_ack).await.unwrap();
        tell.1.await.unwrap();
        far.write_all(&bytes).await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut link = crate::ship::mqtt::link_on(Box::new(near), &tasks).await;
    in_time(link.send(IN_TOPIC, vec![0; 50_000])).await.unwrap();
    tell.0.send(()).unwrap();
    let received = LinkEvent::Received { topic: ACK_TOPIC.into(), payload: greeting.to_vec() };
    assert_eq!(in_time(link.event()).await, Ok(received));
}

#[tokio::test]
async fn packets_above_the_usual_ten_kib_pass_both_ways_in_both_versions() {
    for not in [None, Some((Version::V5, Manners::SaysSo))] {
        let greeting = Some(vec![7; 100_000]);
        let mut bench = bench(Rules { greeting, not, ..Rules::default() }).await;
        let mut link = connect(&mut bench.uplink).await.unwrap();
        let received = LinkEvent::Received { topic: ACK_TOPIC.into(), payload: vec![7; 100_000] };
        assert_eq!(in_time(link.event()).await, Ok(received));
        in_time(link.send(IN_TOPIC, vec![9; 96 * 1024])).await.unwrap();
        assert_eq!(in_time(link.event()).await, Ok(LinkEvent::Sent(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_never_answers_is_given_30_seconds() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let mut uplink = uplink_to(MqttSettings::to(url, None), &TaskTracker::new());
    let closed = uplink.connect(ACK_TOPIC).await.unwrap_err();
    assert!(closed.cause == Cause::Transient && closed.reason.contains("no answer within 30 s"), "{closed}");
}

#[tokio::test]
async fn a_keepalive_the_client_cannot_have_is_no_panic() {
    for keepalive_s in [0, 1, 4, u16::MAX] {
        let tasks = TaskTracker::new();
        let (port, _seen) = broker(vec![Rules::default()], &tasks).await;
        let url = format!("mqtt://127.0.0.1:{port}").parse().unwrap();
        let settings = MqttSettings { keepalive_s, ..MqttSettings::to(url, None) };
        let mut link = connect(&mut uplink_to(settings, &tasks)).await.unwrap();
        assert_eq!(pass(&mut link, 1).await, [0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A puback code is sent or refused, never both and never nothing.
    #[test]
    fn every_puback_code_has_a_meaning(code in any::<u8>()) {
        prop_assert_eq!(RefusedFor::of_puback(code).is_none(), code < 0x80);
    }
}
