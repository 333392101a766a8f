//! What the broker does to messages and links, one thing at a time.

use super::*;
use headwater_core::ports::{Inbox, Link, Uplink};

const ACKS: &str = "ack/pi-1";

async fn linked(broker: &SimBroker) -> BrokerLink {
    broker.uplink().connect(ACKS).await.unwrap()
}

async fn soon<T>(what: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(60), what).await.ok()
}

#[tokio::test(start_paused = true)]
async fn messages_pass_both_ways_in_order_and_puback_comes_first() {
    let broker = SimBroker::new(1);
    let (mut link, mut inbox) = (linked(&broker).await, broker.inbox());
    for n in 0..20 {
        link.send("in", vec![n]).await.unwrap();
        assert_eq!(link.event().await, Ok(LinkEvent::Sent(n.into())));
    }
    for n in 0..20 {
        let delivery = inbox.next().await;
        assert_eq!(delivery.payload, [n]);
        inbox.settle(delivery.token).await;
    }
    inbox.send(ACKS, vec![7]).await;
    assert!(matches!(link.event().await, Ok(LinkEvent::Received { payload, .. }) if payload == [7]));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_settled_comes_again_to_the_next_collector() {
    let broker = SimBroker::new(1);
    let (mut link, mut first) = (linked(&broker).await, broker.inbox());
    link.send("in", vec![1]).await.unwrap();
    link.send("in", vec![2]).await.unwrap();
    let settled = first.next().await;
    first.settle(settled.token).await;
    assert_eq!(first.next().await.payload, [2]);
    let mut second = broker.inbox();
    assert_eq!(second.next().await.payload, [2]);
    assert!(soon(first.next()).await.is_none(), "the session was taken over");
}

#[tokio::test(start_paused = true)]
async fn amnesia_drops_what_was_acked_and_ends_the_links() {
    let broker = SimBroker::new(1);
    let mut link = linked(&broker).await;
    link.send("in", vec![1]).await.unwrap();
    assert_eq!(link.event().await, Ok(LinkEvent::Sent(0)));
    broker.restart(true);
    assert!(link.event().await.is_err() && link.send("in", vec![2]).await.is_err());
    assert!(soon(broker.inbox().next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_silent_cut_takes_messages_and_says_nothing_until_someone_connects_anew() {
    let broker = SimBroker::new(1);
    let mut link = linked(&broker).await;
    broker.cut_silently(ACKS);
    assert!(link.send("in", vec![1]).await.is_ok());
    assert!(soon(link.event()).await.is_none());
    let mut next = linked(&broker).await;
    next.send("in", vec![2]).await.unwrap();
    assert_eq!(broker.inbox().next().await.payload, [2]);
    assert!(link.event().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn rude_brokers_close_on_every_publish_or_never_ack() {
    let broker = SimBroker::new(1);
    broker.set_manners(Manners { closes_on_publish: true, ..Manners::POLITE });
    let mut link = linked(&broker).await;
    assert!(link.send("in", vec![1]).await.is_err() && link.event().await.is_err());
    broker.set_manners(Manners { never_acks: true, ..Manners::POLITE });
    let mut link = linked(&broker).await;
    link.send("in", vec![2]).await.unwrap();
    assert!(soon(link.event()).await.is_none());
    broker.set_manners(Manners { away: true, ..Manners::POLITE });
    assert!(link.event().await.is_err() && broker.uplink().connect(ACKS).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_road_takes_its_time_and_a_broken_one_for_ever() {
    let broker = SimBroker::new(1);
    broker.set_road(ACKS, Road { bytes_per_s: Some(20_000), ..Road::FAIR });
    let (mut link, began) = (linked(&broker).await, now());
    link.send("in", vec![0; 100_000]).await.unwrap();
    link.event().await.unwrap();
    assert!(now() - began >= Duration::from_secs(5));
    broker.set_road(ACKS, Road { broken: true, ..Road::FAIR });
    assert!(link.send("in", vec![1]).await.is_ok() && soon(link.event()).await.is_none());
    assert!(broker.uplink().connect(ACKS).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn loss_doubling_and_order_follow_the_seed() {
    let run = async |seed| {
        let broker = SimBroker::new(seed);
        broker.set_road(ACKS, Road { loss: 200, duplicate: 200, delay_ms: 1..=50, ..Road::FAIR });
        let (mut link, mut inbox) = (linked(&broker).await, broker.inbox());
        for n in 0..200 {
            link.send("in", vec![n]).await.unwrap();
        }
        let mut got = Vec::new();
        while let Some(delivery) = soon(inbox.next()).await {
            inbox.settle(delivery.token).await;
            got.push(delivery.payload[0]);
        }
        got
    };
    let got = run(3).await;
    assert!(got.windows(2).any(|pair| pair[0] > pair[1]));
    let once: std::collections::BTreeSet<u8> = got.iter().copied().collect();
    assert!(once.len() < 190 && got.len() > once.len());
    assert_eq!(run(3).await, got);
}
