//! What is sent, when, and how often, one rule at a time.

use super::bench::{Bench, range};
use super::fixture::{UTC, picture, scalar_rows, scalar_schema};
use crate::ship::{HandOver, RetainUntil, ShipError, ShipSettings, ShipStatus, Shipper};
use headwater_core::batch::{Announced, CODECS_BASELINE, Rows};
use headwater_core::gap::GapCause;
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Slab, SpoolLane};
use headwater_core::schema::Schema;
use headwater_core::wire::{Envelope, Lane, MessageKind, RefusalReason, Topic};

#[test]
fn resend_renews_only_the_trailer_and_waits_ever_longer() {
    let mut bench = Bench::durable();
    bench.append(0..100);
    bench.settle();
    bench.pull();
    let first = bench.send_all();
    let first_batch = first.last().unwrap().payload.clone();
    let mut waits = Vec::new();
    let mut waited = 0;
    while waits.len() < 9 {
        bench.wait_ms(500);
        waited += 500;
        let sent = bench.send_all();
        let again: Vec<_> =
            sent.iter().filter(|m| Envelope::parse(&m.payload).unwrap().kind == MessageKind::Batch).collect();
        if let [again] = again[..] {
            let body_end = again.payload.len() - 88;
            assert_eq!(again.payload[..body_end], first_batch[..body_end]);
            assert_ne!(again.payload[body_end..], first_batch[body_end..], "sent and signature are new");
            waits.push(waited / 1_000);
            waited = 0;
        }
    }
    assert_eq!(waits[..7], [5, 10, 20, 40, 80, 160, 300]);
    assert_eq!(waits[8], 300);
    assert_eq!(bench.shipper.counters().resends, 9);
}

#[test]
fn a_declaration_goes_before_first_use_and_again_when_asked_for() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    assert_eq!(Bench::kinds(&sent), [MessageKind::Declaration, MessageKind::Batch]);
    assert!(sent.iter().all(|m| m.topic.ends_with("/1")), "same lane and topic: {sent:?}");
    bench.deliver(&sent[1..]);
    let ack = bench.collector.ack(UTC.0);
    bench.wait_ms(2_000);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), IntervalSet::new(), "durable is withheld without the schema");
    let again = bench.send_all();
    assert_eq!(Bench::kinds(&again), [MessageKind::Declaration]);
    bench.deliver(&again);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..10), "no rows resent");
}

#[test]
fn parts_any_order_and_only_what_is_missing_goes_again() {
    let mut bench = Bench::durable();
    bench.spool.append(picture(2, 0, 400_000));
    bench.settle();
    // Enough credit for all of it.
    bench.pull();
    let mut sent = bench.send_all();
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    sent.extend(bench.send_all());
    let n_parts = Bench::kinds(&sent).iter().filter(|k| **k == MessageKind::Part).count();
    assert_eq!(n_parts, 5);
    sent.reverse();
    let is_part = |m: &HandOver| Envelope::parse(&m.payload).unwrap().kind == MessageKind::Part;
    let lost = sent.iter().position(is_part).unwrap();
    let (all, lost) = (sent.clone(), sent.remove(lost));
    bench.deliver(&sent);
    assert_eq!(bench.collector.parts.len(), 4);
    bench.wait_ms(100);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert!(bench.send_all().is_empty(), "the ack may be older than the part");
    bench.wait_ms(1_000);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    let again = bench.send_all();
    assert_eq!(again.len(), 1, "of {} messages the lost one", all.len());
    let body = |m: &HandOver| m.payload[..m.payload.len() - 88].to_vec();
    assert_eq!(body(&again[0]), body(&lost));
    bench.deliver(&again);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(2), range(0..1));
    assert_eq!(bench.collector.landing.blobs.len(), 1);
}

#[test]
fn a_smaller_limit_after_a_reconnect_cuts_anew_and_loops_nowhere() {
    let mut bench = Bench::durable();
    bench.append(0..20_000);
    bench.spool.append(picture(2, 0, 200_000));
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    assert!(sent.iter().any(|m| m.payload.len() > 40_000));
    bench.shipper.disconnected();
    bench.limit = 40 * 1024;
    bench.wait_ms(6_000);
    bench.settle();
    for _ in 0..40 {
        bench.pull();
        let sent = bench.send_all();
        assert!(sent.iter().all(|m| m.payload.len() <= 40 * 1024));
        bench.deliver(&sent);
        bench.wait_ms(100);
        let ack = bench.collector.ack(UTC.0);
        bench.hear(&ack);
    }
    assert_eq!(bench.spool.rows_held(), 0);
    assert_eq!(bench.shipper.counters().withheld, 0);
}

#[test]
fn a_collector_that_reads_less_gets_what_it_can_read() {
    let sealed_newly = |sent: &[HandOver]| {
        let bodies = sent.iter().filter_map(|m| {
            let envelope = Envelope::parse(&m.payload).unwrap();
            (envelope.kind == MessageKind::Batch).then(|| envelope.body[0])
        });
        bodies.filter(|packing| Announced::BASELINE.packings >> packing & 1 == 0).count()
    };
    let mut bench = Bench::durable();
    bench.append(0..300);
    bench.settle();
    bench.pull();
    assert_eq!(sealed_newly(&bench.send_all()), 1, "the first collector announced all there is");
    bench.shipper.disconnected();
    bench.collector.restart();
    bench.collector.capabilities.codecs = CODECS_BASELINE;
    bench.collector.capabilities.packings = Announced::BASELINE.packings;
    bench.wait_ms(6_000);
    bench.settle();
    for _ in 0..10 {
        bench.pull();
        let sent = bench.send_all();
        assert_eq!(sealed_newly(&sent), 0, "what was sealed for the first one is sealed anew");
        bench.deliver(&sent);
        bench.wait_ms(100);
        let ack = bench.collector.ack(UTC.0);
        bench.hear(&ack);
    }
    assert_eq!(bench.spool.rows_held(), 0);
}

#[test]
fn a_staged_blob_is_resumed_after_a_restart_of_the_agent() {
    let mut bench = Bench::durable();
    bench.spool.append(picture(2, 0, 250_000));
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    // The last part is lost, and the agent ends.
    let lost = Bench::kinds(&sent).iter().rposition(|kind| *kind == MessageKind::Part).unwrap();
    bench.deliver(&sent[..lost]);
    bench.deliver(&sent[lost + 1..]);
    let before = bench.collector.parts.clone();
    assert!(!before.is_empty());
    let mut after = Bench::durable();
    std::mem::swap(&mut after.collector, &mut bench.collector);
    std::mem::swap(&mut after.fleet, &mut bench.fleet);
    after.spool = bench.spool.clone();
    let mut n = 100;
    let nonces = Box::new(move || {
        n += 1;
        [n; 16]
    });
    let settings = ShipSettings { retain_until: RetainUntil::Durable, ..ShipSettings::default() };
    after.shipper = Shipper::new(settings, after.fleet.device(), nonces);
    after.settle();
    after.pull();
    let sent = after.send_all();
    after.deliver(&sent);
    let again: Vec<_> = after.collector.parts[before.len()..].to_vec();
    assert!(again.iter().all(|part| !before.contains(part)), "staged ranges are reused: {again:?}");
    let ack = after.collector.ack(UTC.0);
    after.hear(&ack);
    assert_eq!(after.spool.acked(2), range(0..1));
}

#[test]
fn telemetry_and_media_share_by_weight_and_control_goes_first() {
    let mut bench = Bench::durable();
    bench.spool.declare(3, "hw/gaps", scalar_schema(), SpoolLane::Control);
    for seq in 0..20 {
        bench.spool.append(picture(2, seq, 90_000));
    }
    for first in 0..60 {
        bench.append(first * 4_000..(first + 1) * 4_000);
    }
    bench.settle();
    bench.pull();
    // The collector gives credit for everything; the pipe has one place.
    let mut ack = bench.collector.ack_body(UTC.0);
    ack.credit = Some(1 << 40);
    let ack = bench.collector.signed(&ack.to_body());
    bench.hear(&ack);
    let mut bytes = [0_usize; 3];
    // Few enough that neither lane runs dry.
    for n in 0..10 {
        let message = bench.shipper.next(bench.now).unwrap();
        let lane: usize = message.topic[message.topic.len() - 1..].parse().unwrap();
        bytes[lane] += message.payload.len();
        bench.wait_ms(1);
        bench.shipper.sent(bench.now, message.number);
        if n == 5 {
            let slab = Slab { rows: scalar_rows(3, 0..1), blob: None, arrived: None };
            bench.spool.append(slab);
            bench.shipper.set_streams(bench.spool.states());
            for slab in bench.spool.read_now(SpoolLane::Control, Cursor::default(), usize::MAX) {
                assert!(bench.shipper.take(&slab));
                assert!(bench.batcher.push(bench.now, slab).is_empty());
                for sealed in bench.batcher.flush() {
                    bench.shipper.offer(Lane::Control, sealed);
                }
            }
            let next: Vec<_> = (0..2).filter_map(|_| bench.shipper.next(bench.now)).collect();
            assert_eq!(Bench::kinds(&next), [MessageKind::Declaration, MessageKind::Batch]);
            assert!(next.iter().all(|m| m.topic.ends_with("/0")));
            next.iter().for_each(|m| bench.shipper.sent(bench.now, m.number));
        }
    }
    let share = bytes[1] as f64 / (bytes[1] + bytes[2]) as f64;
    assert!((0.55..0.85).contains(&share), "telemetry got {share:.2} of {bytes:?}");
}

#[test]
fn credit_bounds_what_is_sent_and_a_stall_ends_in_hello() {
    let mut bench = Bench::durable();
    for seq in 0..10 {
        bench.spool.append(picture(2, seq, 90_000));
    }
    bench.settle();
    bench.pull();
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.extend(bench.send_all());
        bench.wait_ms(10);
    }
    let data = |sent: &[HandOver]| -> usize {
        sent.iter().filter(|m| !m.topic.ends_with("/0")).map(|m| m.payload.len()).sum()
    };
    // The answer itself granted 1 MiB; all 900 KB fit. So take it away first.
    assert!(data(&sent) > 800_000);

    let mut bench = Bench::durable();
    for seq in 0..10 {
        bench.spool.append(picture(2, seq, 90_000));
    }
    bench.collector.allowance = 200_000;
    bench.settle();
    bench.pull();
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.extend(bench.send_all());
        bench.wait_ms(10);
    }
    assert!((100_000..=200_000).contains(&data(&sent)), "the answer's word counts: {}", data(&sent));
    bench.wait_ms(31_000);
    let hello = bench.send_all();
    assert!(Bench::kinds(&hello).contains(&MessageKind::Hello), "{:?}", Bench::kinds(&hello));
    assert!(bench.reports.iter().any(|r| matches!(r, ShipError::CreditStalled { .. })));
}

#[test]
fn refused_rows_become_a_gap_and_are_released() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.collector.bad.insert((StreamId(1), 3), RefusalReason::Limit);
    bench.collector.bad.insert((StreamId(1), 7), RefusalReason::Quarantine);
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    for _ in 0..3 {
        let ack = bench.collector.ack(UTC.0);
        bench.hear(&ack);
    }
    let causes: Vec<_> = bench.gaps.iter().map(|gap| (gap.seq_first.0, gap.rows, gap.cause)).collect();
    assert_eq!(causes, [(3, 1, GapCause::RejectedLimit), (7, 1, GapCause::RejectedQuarantine)]);
    assert_eq!(bench.gaps[0].stream.as_str(), "imu");
    let mut acked = range(0..10);
    acked.remove(3..4);
    assert_eq!(bench.spool.acked(1), acked, "a refused row stays until its gap record is durable");
    bench.collector.explain(StreamId(1), 3..4);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..10));
    assert_eq!(bench.shipper.counters().rows_refused, 2);
}

#[test]
fn a_row_that_does_not_decode_goes_once_more_and_then_is_given_up() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.collector.bad.insert((StreamId(1), 3), RefusalReason::DecodeError);
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    bench.collector.forget_refusals();
    assert!(bench.gaps.is_empty(), "one more try");
    let again = bench.send_all();
    assert!(Bench::kinds(&again).contains(&MessageKind::Batch));
    bench.deliver(&again);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.gaps.len(), 1);
    bench.collector.explain(StreamId(1), 3..4);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..10));
}

/// A backlog from before an update is declared with the schema that the spool hands out with it.
#[test]
fn a_backlog_of_an_older_schema_is_declared_with_it() {
    let mut bench = Bench::durable();
    bench.settle();
    let older = Schema { salt: 7, ..scalar_schema() };
    let rows = Rows { fingerprint: older.fingerprint(), ..scalar_rows(1, 0..10) };
    bench.spool.append(Slab { rows, blob: None, arrived: None });
    let lane = Lane::LiveTelemetry;
    for mut slab in bench.spool.read_now(SpoolLane::Telemetry, Cursor::default(), usize::MAX) {
        slab.older_schema = Some(std::sync::Arc::new(older.clone()));
        bench.shipper.set_streams(bench.spool.states());
        assert!(bench.shipper.take(&slab));
        bench.batcher.push(bench.now, slab).into_iter().for_each(|s| bench.shipper.offer(lane, s));
    }
    bench.batcher.flush().into_iter().for_each(|s| bench.shipper.offer(lane, s));
    let sent = bench.send_all();
    assert_eq!(Bench::kinds(&sent), [MessageKind::Declaration, MessageKind::Batch]);
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..10));
}

/// A link that is away for an hour makes the ack of what was sent before come an hour late. Resends that
/// wait four times the way to an ack would then wait four hours.
#[test]
fn an_outage_is_not_taken_for_the_way_to_an_ack() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    bench.shipper.disconnected();
    bench.wait_ms(3_600_000);
    bench.connect();
    bench.settle();
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..10));
    let mut status = ShipStatus::default();
    bench.shipper.describe(&mut status);
    let rtt = status.ack_rtt_ns.unwrap();
    assert!(rtt < 2_000_000_000, "{rtt}");
}

/// The spool's state may be older than the slab that was read last: an ack of that slab is no word from
/// another life of the spool.
#[test]
fn an_ack_of_rows_newer_than_the_known_state_is_believed() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.settle();
    bench.append(10..20);
    for slab in bench.spool.read_now(SpoolLane::Telemetry, Cursor::default(), usize::MAX) {
        assert!(bench.shipper.take(&slab));
        bench
            .batcher
            .push(bench.now, slab)
            .into_iter()
            .for_each(|s| bench.shipper.offer(Lane::LiveTelemetry, s));
    }
    bench.batcher.flush().into_iter().for_each(|s| bench.shipper.offer(Lane::LiveTelemetry, s));
    let sent = bench.send_all();
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert!(bench.reports.is_empty(), "{:?}", bench.reports);
    assert_eq!(bench.spool.acked(1), range(0..20));
}

#[test]
fn probes_go_on_the_control_lane_and_replies_become_exchanges() {
    let mut bench = Bench::durable();
    bench.settle();
    let mut probes = 0;
    for _ in 0..200 {
        bench.wait_ms(1_000);
        let sent = bench.send_all();
        probes += Bench::kinds(&sent).iter().filter(|k| **k == MessageKind::Probe).count();
        assert!(
            sent.iter()
                .all(|m| matches!(Topic::parse(&m.topic), Ok(Topic::In { .. })) && m.topic.ends_with("/0"))
        );
        bench.deliver(&sent);
        let ack = bench.collector.ack(UTC.0);
        bench.hear(&ack);
    }
    assert_eq!(probes, 9, "eight at 16 s, then each 64 s");
    assert!((2..=9).contains(&bench.clocks), "{}", bench.clocks);
}

#[test]
fn after_a_cut_the_parts_the_broker_had_not_taken_go_again_and_only_those() {
    let mut bench = Bench::durable();
    bench.spool.append(picture(2, 0, 400_000));
    bench.settle();
    bench.pull();
    let is_part = |m: &HandOver| Envelope::parse(&m.payload).unwrap().kind == MessageKind::Part;
    // The first two are taken, the third is in the pipe when the link goes.
    let mut parts = Vec::new();
    while parts.len() < 3 {
        let message = bench.shipper.next(bench.now).unwrap();
        bench.wait_ms(1);
        if parts.len() < 2 {
            bench.shipper.sent(bench.now, message.number);
        }
        if is_part(&message) {
            parts.push(message);
        }
    }
    bench.shipper.disconnected();
    bench.deliver(&parts[..2]);
    bench.wait_ms(6_000);
    bench.settle();
    let again = bench.send_all();
    let again: Vec<_> = again.iter().filter(|m| is_part(m)).collect();
    let body = |m: &HandOver| m.payload[..m.payload.len() - 88].to_vec();
    assert_eq!(again.len(), 3, "the third, and the two not sent yet");
    assert!(again.iter().any(|m| body(m) == body(&parts[2])));
    assert!(again.iter().all(|m| body(m) != body(&parts[0]) && body(m) != body(&parts[1])));
}

#[test]
fn a_batch_is_kept_until_the_rows_of_every_stream_in_it_are_durable() {
    let mut bench = Bench::durable();
    bench.spool.declare(4, "env", scalar_schema(), SpoolLane::Telemetry);
    bench.append(0..10);
    bench.spool.append(Slab { rows: scalar_rows(4, 0..10), blob: None, arrived: None });
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    assert_eq!(Bench::kinds(&sent).iter().filter(|k| **k == MessageKind::Batch).count(), 1, "one batch");
    bench.deliver(&sent);
    let mut half = bench.collector.ack_body(UTC.0);
    half.streams.retain(|stream| stream.id == StreamId(1));
    let half = bench.collector.signed(&half.to_body());
    bench.hear(&half);
    assert_eq!((bench.spool.acked(1), bench.spool.acked(4)), (range(0..10), IntervalSet::new()));
    bench.wait_ms(6_000);
    assert!(Bench::kinds(&bench.send_all()).contains(&MessageKind::Batch), "the other stream still waits");
}

#[test]
fn small_messages_never_keep_a_large_one_waiting() {
    let mut bench = Bench::durable();
    bench.settle();
    bench.spool.append(picture(2, 0, 90_000));
    let mut seq = 0;
    let mut in_pipe = std::collections::VecDeque::new();
    for _ in 0..40 {
        // Live rows all the time, and a broker that always has one small message to take.
        bench.append(seq..seq + 50);
        seq += 50;
        bench.pull();
        while let Some(message) = bench.shipper.next(bench.now) {
            if Bench::kinds(std::slice::from_ref(&message)) == [MessageKind::Part] {
                return;
            }
            in_pipe.push_back(message.number);
        }
        bench.wait_ms(5);
        if let Some(oldest) = in_pipe.pop_front() {
            bench.shipper.sent(bench.now, oldest);
        }
    }
    panic!("the picture starved");
}
