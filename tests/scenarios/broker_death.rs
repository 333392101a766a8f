//! A broker that dies with what it had taken and not delivered: its PUBACKs meant nothing, and nothing is missing.

use crate::setup::{Run, assert_whole};
use headwater_tests::fleet::Broker;
use headwater_tests::ticks::wait_until;
use std::time::Duration;

/// Longest wait for a step of debug builds on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes that wait in the broker when it dies.
const QUEUED_BYTES: u64 = 200_000;

/// The collector is away, the gateway ships into the broker's queue, and the broker is killed.
fn broker_kill9_with_queue(broker: Broker) {
    let mut run = Run::start(broker);
    run.wait_for_first_commit();
    run.fleet.kill("collector").unwrap();
    let sent = |run: &Run| run.status().map_or(0, |status| status.bytes_sent());
    let before = sent(&run);
    let queued = wait_until(LIMIT, || {
        run.status().is_some_and(|status| {
            // Taken by the broker, all of it: it is the broker that loses it.
            let in_flight = status.json()["link"]["in_flight_bytes"].as_u64();
            status.bytes_sent() > before + QUEUED_BYTES && in_flight == Some(0)
        })
    });
    assert!(queued, "{} bytes sent: {:?}\n{}", sent(&run) - before, run.status(), run.logs());
    run.fleet.kill_and_restart("broker").unwrap();
    run.fleet.restart("collector").unwrap();
    let figures = run.finish();
    println!("{figures:#?}");
    assert_whole(&figures);
}

#[test]
fn broker_kill9_with_queue_mosquitto() {
    broker_kill9_with_queue(Broker::Mosquitto);
}

#[test]
fn broker_kill9_with_queue_embedded() {
    broker_kill9_with_queue(Broker::Embedded);
}
