//! Messages the broker refuses one by one, and brokers that take none or no connection: the shipper's rules.

use super::bench::Bench;
use super::fixture::{Fleet, ModelSpool, UTC, picture, scalar_rows, scalar_schema};
use crate::ship::{Action, HandOver, Rng, ShipError, ShipSettings, ShipStatus, ShipTask, random_nonces, run};
use headwater_core::batch::{Column, Rows};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cause, Clock, Link, LinkClosed, LinkEvent, RefusedFor, Slab, SpoolLane, Uplink};
use headwater_core::sample::Value;
use headwater_core::schema::{Field, Logical, Schema};
use headwater_core::time::BootNanos;
use headwater_core::wire::MessageKind;
use headwater_sim::clock::SimClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A bench whose hello was answered, with a batch and a blob of four parts to send.
fn ready() -> Bench {
    let mut bench = Bench::durable();
    bench.append(0..100);
    bench.spool.append(picture(2, 0, 200_000));
    bench.settle();
    bench.pull();
    bench
}

/// Everything that goes now; what `refuse` says is refused, the rest taken.
fn send_refused(bench: &mut Bench, refuse: impl Fn(&HandOver) -> Option<RefusedFor>) -> Vec<HandOver> {
    let mut sent = Vec::new();
    while let Some(message) = bench.shipper.next(bench.now) {
        bench.wait_ms(1);
        match refuse(&message) {
            Some(why) => bench.shipper.refused(bench.now, message.number, why),
            None => bench.shipper.sent(bench.now, message.number),
        }
        sent.push(message);
        assert!(sent.len() < 1_000, "a hot loop");
    }
    bench.act();
    sent
}

fn data(sent: &[HandOver]) -> usize {
    Bench::kinds(sent).iter().filter(|kind| matches!(kind, MessageKind::Batch | MessageKind::Part)).count()
}

#[test]
fn puback_error_codes_lead_to_their_rules_and_never_count_as_delivered() {
    for why in [
        RefusedFor::NotAuthorized,
        RefusedFor::Topic,
        RefusedFor::Payload,
        RefusedFor::Quota,
        RefusedFor::Other(0x80),
    ] {
        let mut bench = ready();
        let first = send_refused(&mut bench, |_| Some(why));
        assert!(data(&first) >= 1 || why == RefusedFor::Quota, "{why}");
        let counters = bench.shipper.counters();
        assert_eq!(counters.publishes_refused, first.len() as u64);
        let invalid = matches!(why, RefusedFor::Topic | RefusedFor::Payload);
        assert_eq!(counters.publishes_invalid, if invalid { first.len() as u64 } else { 0 });
        assert!(bench.reports.contains(&ShipError::RefusedByBroker { why }));
        assert!(bench.shipper.is_drained() || why == RefusedFor::Quota, "its place in the pipe is free");
        assert_eq!(bench.spool.acked(1), IntervalSet::new());
        // Refused for an hour: each unit goes again ever more rarely.
        let mut again = 0;
        for _ in 0..3_600 {
            bench.wait_ms(1_000);
            again += data(&send_refused(&mut bench, |_| Some(why)));
        }
        assert!((10..150).contains(&again), "{why}: {again} in an hour");
        // The broker changed its mind: all arrives.
        for _ in 0..700 {
            bench.wait_ms(1_000);
            bench.pull();
            let sent = bench.send_all();
            bench.deliver(&sent);
            let ack = bench.collector.ack(UTC.0);
            bench.hear(&ack);
        }
        assert_eq!(bench.spool.rows_held(), 0, "{why}");
    }
}

#[test]
fn a_quota_lets_only_control_pass_for_a_while_that_doubles() {
    let mut bench = ready();
    let mut pauses = Vec::new();
    while pauses.len() < 8 {
        let sent = send_refused(&mut bench, |_| Some(RefusedFor::Quota));
        assert!(data(&sent) <= 1, "one is enough to know");
        let mut waited_ms = 0;
        while bench.shipper.pipe_is_held(bench.now) {
            let passed = send_refused(&mut bench, |_| None);
            assert_eq!(data(&passed), 0);
            bench.wait_ms(100);
            waited_ms += 100;
        }
        if waited_ms > 0 {
            pauses.push((waited_ms + 500) / 1_000);
        }
        bench.wait_ms(1_000);
        bench.pull();
    }
    assert!(pauses.windows(2).all(|pair| pair[1] >= pair[0]) && pauses[0] == 1, "{pauses:?}");
    assert!(*pauses.last().unwrap() <= 60, "{pauses:?}");
}

#[test]
fn a_lane_that_is_refused_holds_no_other_up() {
    let mut bench = ready();
    let sent = send_refused(&mut bench, |message| {
        message.topic.ends_with("/1").then_some(RefusedFor::NotAuthorized)
    });
    bench.deliver(&sent.into_iter().filter(|message| !message.topic.ends_with("/1")).collect::<Vec<_>>());
    let parts = bench.collector.parts.len() + bench.collector.landing.blobs.len();
    assert!(parts >= 1, "media went");
}

/// Rows of a text too long for a broker of 20 KB stayed until the agent was started again.
#[test]
fn rows_withheld_under_a_small_limit_go_once_a_connection_says_a_larger_one() {
    let mut bench = Bench::durable();
    bench.spool.declare(3, "log", texts(), SpoolLane::Telemetry);
    bench.append(0..10);
    bench.spool.append(Slab { rows: text_rows(3, 0, 30_000), arrived: None, blob: None });
    bench.spool.append(Slab { rows: text_rows(3, 1, 100), arrived: None, blob: None });
    bench.limit = 20_000;
    let all_goes = |bench: &mut Bench| {
        for _ in 0..20 {
            bench.wait_ms(1_000);
            bench.pull();
            let sent = bench.send_all();
            bench.deliver(&sent);
            let ack = bench.collector.ack(UTC.0);
            bench.hear(&ack);
        }
    };
    bench.settle();
    all_goes(&mut bench);
    assert_eq!((bench.spool.rows_held(), bench.shipper.counters().withheld), (1, 1), "all but the long one");
    let again = |bench: &mut Bench, limit| {
        bench.shipper.disconnected();
        bench.limit = limit;
        bench.settle();
        all_goes(bench);
    };
    let reads = bench.rewinds;
    again(&mut bench, 20_000);
    assert_eq!(
        (bench.spool.rows_held(), bench.rewinds),
        (1, reads),
        "the same limit: not read again and again"
    );
    again(&mut bench, 60_000);
    assert_eq!((bench.spool.rows_held(), bench.rewinds), (0, reads + 1));
    assert_eq!(bench.shipper.counters().withheld, 1);
}

fn texts() -> Schema {
    let field =
        Field { name: "line".parse().unwrap(), logical: Logical::Utf8, nullable: false, unit: "1".into() };
    Schema { kind: "log".parse().unwrap(), fields: vec![field], ..scalar_schema() }
}

/// One row of so many letters without a pattern.
fn text_rows(stream: u16, seq: u64, letters: usize) -> Rows {
    let mut state = 7_u64;
    let line: String = (0..letters)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + u8::try_from((state >> 57) % 90).unwrap())
        })
        .collect();
    let mut column = Column::new(Logical::Utf8.physical());
    assert!(column.push(&Value::Utf8(line)));
    let fingerprint = texts().fingerprint();
    Rows { fingerprint, fields: vec![column], ..scalar_rows(stream, seq..seq + 1) }
}

/// What one broker was found not to take holds for it, not for the next that says it takes more.
#[test]
fn a_limit_found_by_a_refusal_ends_with_a_connection_that_says_more() {
    let mut bench = ready();
    bench.shipper.disconnected();
    bench.limit = 60_000;
    bench.settle();
    bench.pull();
    send_refused(&mut bench, |message| (message.payload.len() > 20_000).then_some(RefusedFor::TooLarge));
    let found = bench.shipper.message_bytes_max();
    assert!(found < 60_000, "{found}");
    for (says, holds) in [(60_000, found), (50_000, found), (80_000, 80_000), (60_000, 60_000)] {
        bench.shipper.disconnected();
        bench.limit = says;
        bench.connect();
        assert_eq!(bench.shipper.message_bytes_max(), holds, "a link that says {says}");
    }
}

#[test]
fn a_message_too_large_is_cut_smaller_at_once_and_to_an_end() {
    let mut bench = ready();
    let limit = 20_000;
    let too_large = |message: &HandOver| (message.payload.len() > limit).then_some(RefusedFor::TooLarge);
    let mut sent = send_refused(&mut bench, too_large);
    assert!(bench.shipper.message_bytes_max() <= 49_152, "{}", bench.shipper.message_bytes_max());
    for _ in 0..60 {
        let limit = bench.shipper.message_bytes_max();
        bench.batcher.set_message_bytes_max(limit);
        sent.retain(|message| message.payload.len() <= 20_000);
        bench.deliver(&sent);
        bench.wait_ms(500);
        let ack = bench.collector.ack(UTC.0);
        bench.hear(&ack);
        bench.pull();
        sent = send_refused(&mut bench, too_large);
    }
    assert_eq!(bench.spool.rows_held(), 0);
    assert!(bench.shipper.message_bytes_max() >= 8 * 1024);
    assert!(bench.shipper.counters().publishes_refused < 20);
}

#[test]
fn a_broker_that_finds_everything_too_large_makes_no_hot_loop() {
    let mut bench = ready();
    let mut n = 0;
    for _ in 0..600 {
        bench.pull();
        n += data(&send_refused(&mut bench, |_| Some(RefusedFor::TooLarge)));
        bench.wait_ms(1_000);
    }
    assert!(n < 500, "{n} in ten minutes");
    assert_eq!(bench.shipper.message_bytes_max(), 8 * 1024);
}

#[test]
fn a_receive_maximum_of_one_ships_one_by_one() {
    let mut bench = ready();
    bench.shipper.limit_span(1);
    let mut n = 0;
    while let Some(message) = bench.shipper.next(bench.now) {
        assert_eq!(bench.shipper.next(bench.now), None, "one is out");
        bench.wait_ms(10);
        bench.shipper.sent(bench.now, message.number);
        n += 1;
    }
    assert!(n >= 4, "{n}");
}

#[test]
fn a_window_of_a_profile_is_kept() {
    let (message_bytes_max, window_bytes_max) = (32 * 1024, 60 * 1024);
    let mut bench =
        Bench::new(ShipSettings { message_bytes_max, window_bytes_max, ..ShipSettings::default() });
    bench.spool.append(picture(2, 0, 200_000));
    bench.settle();
    bench.pull();
    let mut most = 0;
    for _ in 0..20 {
        let mut out = Vec::new();
        while let Some(message) = bench.shipper.next(bench.now) {
            out.push(message);
        }
        let mut status = ShipStatus::default();
        bench.shipper.describe(&mut status);
        most = most.max(status.in_flight_bytes);
        bench.wait_ms(10);
        out.iter().for_each(|message| bench.shipper.sent(bench.now, message.number));
    }
    assert!((1..=window_bytes_max as u64).contains(&most), "{most}");
}

#[test]
fn a_broker_that_accepts_and_never_acks_is_given_up_in_time() {
    let mut bench = ready();
    while bench.shipper.next(bench.now).is_some() {}
    for second in 1..120 {
        bench.wait_ms(1_000);
        assert!(bench.shipper.next(bench.now).is_none() || second > 5);
        let dead =
            bench.shipper.take_actions().into_iter().any(|action| matches!(action, Action::Reconnect(_)));
        if dead {
            assert!((20..60).contains(&second), "after {second} s");
            return;
        }
    }
    panic!("never given up");
}

/// An uplink to a broker that ends every connection for one cause, before or after it stood.
struct Refusing {
    cause: Cause,
    stands: bool,
    tries: Arc<AtomicUsize>,
}

struct Ending(Cause);

impl Uplink for Refusing {
    type Link = Ending;

    async fn connect(&mut self, _ack_topic: &str) -> Result<Ending, LinkClosed> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.stands { Ok(Ending(self.cause)) } else { Err(LinkClosed::because(self.cause, "as told")) }
    }
}

impl Link for Ending {
    fn payload_bytes_max(&self) -> usize {
        96 * 1024
    }

    async fn send(&mut self, _topic: &str, _payload: Vec<u8>) -> Result<u64, LinkClosed> {
        Err(LinkClosed::because(self.0, "as told"))
    }

    async fn event(&mut self) -> Result<LinkEvent, LinkClosed> {
        Err(LinkClosed::because(self.0, "as told"))
    }
}

#[tokio::test(start_paused = true)]
async fn no_hot_loop_whatever_the_broker_says_and_status_tells_why() {
    for (cause, stands, most) in [
        (Cause::TakenOver, true, 30),
        (Cause::NotAuthorized, false, 60),
        (Cause::Busy, false, 60),
        (Cause::UseAnother, true, 60),
        (Cause::ProtocolRefused, false, 60),
        (Cause::ClosedOnPublish, true, 60),
        (Cause::Untrusted, false, 60),
        (Cause::BrokerAway, false, 60),
        (Cause::Transient, true, 60),
    ] {
        let tries = Arc::new(AtomicUsize::new(0));
        let clock = SimClock::new(BootNanos(1_000_000_000_000), UTC);
        let ((gaps, _gaps), (exchanges, _exchanges)) = (mpsc::channel(8), mpsc::channel(8));
        let (status, shown) = watch::channel(ShipStatus::default());
        let cancel = CancellationToken::new();
        let task = ShipTask {
            rules: Vec::new(),
            clock: clock.clone(),
            uplink: Refusing { cause, stands, tries: Arc::clone(&tries) },
            spool: ModelSpool::new(),
            settings: ShipSettings { spread_s: 30, ..ShipSettings::default() },
            identity: Fleet::new().device(),
            cert_time: UTC.into(),
            renewals: mpsc::channel(1).1,
            revoked: mpsc::channel(1).0,
            floor: watch::channel(UTC).0,
            rng: Rng::new(7),
            nonces: random_nonces(),
            gaps,
            exchanges,
            status,
            cancel: cancel.clone(),
        };
        let an_hour = async {
            clock.sleep_until(clock.boot().plus_ms(3_600_000)).await;
            cancel.cancel();
        };
        tokio::join!(run(task), an_hour);
        let n = tries.load(Ordering::Relaxed);
        assert!((5..=most).contains(&n), "{cause:?}: {n} tries in an hour");
        let down = shown.borrow().down.unwrap();
        assert_eq!((down.cause, down.tries), (cause, n as u64));
        assert!(shown.borrow().last_error.as_ref().unwrap().contains("as told"));
    }
}
