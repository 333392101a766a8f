//! What was valid once is sent again, byte for byte, over a real broker: it changes counters only.

use crate::peer::{Message, Peer};
use crate::setup::{Run, assert_whole};
use headwater_core::batch::{Limits, decode_batch};
use headwater_core::wire::{Envelope, MessageKind};
use headwater_tests::fleet::Broker;
use headwater_tests::status::AgentStatus;
use headwater_tests::ticks::wait_until;
use headwater_tests::world::{DEVICE, TENANT};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for the fleet to say what is to be sent again, and for counters to tell of it.
const LIMIT: Duration = Duration::from_secs(60);
/// Kept of each kind of message.
const KEPT: usize = 12;

fn kind(message: &Message) -> MessageKind {
    Envelope::parse(&message.payload).unwrap().kind
}

/// The first messages of each kind.
fn some_of_each(heard: &[Message]) -> Vec<Message> {
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    let mut keep = |message: &&Message| {
        let n = kept.entry(kind(message).as_str()).or_default();
        *n += 1;
        *n <= KEPT
    };
    heard.iter().filter(&mut keep).cloned().collect()
}

/// Rows in the batches among these.
fn rows(messages: &[Message]) -> u64 {
    let rows = |message: &Message| {
        let envelope = Envelope::parse(&message.payload).unwrap();
        let batch = decode_batch(envelope.body, &Limits::V1).unwrap();
        batch.rows().map(|rows| rows.len() as u64).sum::<u64>()
    };
    messages.iter().filter(|message| kind(message) == MessageKind::Batch).map(rows).sum()
}

fn link(status: &AgentStatus, name: &str) -> u64 {
    status.json()["link"][name].as_u64().unwrap()
}

#[test]
fn what_was_valid_once_changes_nothing_when_it_comes_again() {
    let mut run = Run::start(Broker::Mosquitto);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    run.wait_for_first_commit();

    // The access list lets the collector read what devices send and a device what the collector answers.
    let (mut inbound, mut acks) = runtime.block_on(async {
        let mut inbound = Peer::connect(&run.world, "hq", "ear-of-hq");
        inbound.listen("hw/1/in/#").await;
        let mut acks = Peer::connect(&run.world, "gateway", "ear-of-gateway");
        acks.listen(&format!("hw/1/ack/{TENANT}/{DEVICE}")).await;
        (inbound, acks)
    });
    // So that a hello and its answer are among what is heard.
    run.fleet.restart_agent().unwrap();
    let (of_device, of_collector) = runtime.block_on(async {
        let all = |heard: &[Message]| {
            [MessageKind::Hello, MessageKind::Declaration, MessageKind::Batch, MessageKind::Part]
                .iter()
                .all(|wanted| heard.iter().any(|message| kind(message) == *wanted))
        };
        assert!(inbound.hear(LIMIT, all).await, "the device says everything: {:?}", run.status());
        assert!(acks.hear(LIMIT, |heard| heard.len() >= 4).await, "no acks: {:?}", run.status());
        (some_of_each(&inbound.heard), some_of_each(&acks.heard))
    });
    assert!(rows(&of_device) > 0);

    // The device's word again, while everything runs. Its rows are durable and committed by now, or will be once.
    let dropped = |run: &Run| {
        run.metric("headwater_dedup_known_rows_total")
            + run.metric("headwater_dedup_duplicate_unchecked_total")
    };
    let (refused, dropped_before) = (run.metric("headwater_refused_messages_total"), dropped(&run));
    let taken = run.metric("headwater_received_messages_total");
    runtime.block_on(acks.send(&of_device));
    #[expect(clippy::cast_precision_loss, reason = "a few thousand rows")]
    let (replayed, again) = (of_device.len() as f64, rows(&of_device) as f64);
    let counted = wait_until(LIMIT, || {
        run.metric("headwater_received_messages_total") >= taken + replayed
            && dropped(&run) >= dropped_before + again
    });
    assert!(counted, "{again} rows sent again, {} dropped\n{}", dropped(&run) - dropped_before, run.logs());
    assert_eq!(run.metric("headwater_refused_messages_total"), refused, "a replay is valid, only known");
    assert_eq!(run.metric("headwater_dedup_content_conflicts_total"), 0.0);

    // The collector's word again, while it is dead: nobody else can have told the agent to trim.
    run.fleet.kill("collector").unwrap();
    let mut before = None;
    let alone = wait_until(LIMIT, || {
        before = run.status();
        before.as_ref().is_some_and(|status| {
            status.json()["link"]["last_ack_ms"].as_i64().is_some_and(|ms| ms > 3_000)
                && status.held_rows() > 100
        })
    });
    let before = before.unwrap();
    assert!(alone, "{before:?}");
    runtime.block_on(inbound.send(&of_collector));
    let heard = wait_until(LIMIT, || {
        run.status().is_some_and(|now| {
            link(&now, "acks_rejected") >= link(&before, "acks_rejected") + of_collector.len() as u64
        })
    });
    let after = run.status().unwrap();
    assert!(heard, "{} acks sent again: {before:?} {after:?}", of_collector.len());
    assert_eq!(link(&after, "acks"), link(&before, "acks"), "none was believed");
    assert_eq!(after.acked_rows(), before.acked_rows(), "and nothing trimmed");
    assert!(after.held_rows() >= before.held_rows(), "{before:?} {after:?}");

    run.fleet.restart("collector").unwrap();
    let figures = run.finish();
    assert_whole(&figures);
}
