//! Backlog that the broker has takes no memory: the spool gives it again if it did not land.

use super::bench::Bench;
use super::fixture::{UTC, picture};
use crate::ship::{RetainUntil, ShipSettings};
use headwater_core::id::StreamId;
use headwater_core::interval::IntervalSet;
use headwater_core::wire::{Lane, MessageKind, RefusalReason};

/// A bench whose lanes are backlog.
fn backlog() -> Bench {
    let mut bench =
        Bench::new(ShipSettings { retain_until: RetainUntil::Durable, ..ShipSettings::default() });
    bench.lanes = [Lane::BacklogTelemetry, Lane::BacklogMedia];
    bench
}

fn ack(bench: &mut Bench) {
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
}

fn seqs(range: std::ops::Range<u64>) -> IntervalSet {
    [range].into_iter().collect()
}

#[test]
fn what_the_broker_has_takes_no_memory_and_lands_like_all_else() {
    let mut bench = backlog();
    bench.append(0..500);
    for n in 0..20 {
        bench.spool.append(picture(2, n, 90_000));
    }
    bench.settle();
    let empty = bench.shipper.room(Lane::BacklogMedia);
    bench.pull();
    assert!(bench.shipper.room(Lane::BacklogMedia) < empty - 1_000_000);
    loop {
        let sent = bench.send_all();
        if sent.is_empty() {
            break;
        }
        bench.deliver(&sent);
        // Credit grows with what arrived, but nothing is durable yet.
        let mut ack = bench.collector.ack_body(UTC.0);
        ack.streams.clear();
        let ack = bench.collector.signed(&ack.to_body());
        bench.hear(&ack);
        bench.act();
    }
    assert_eq!(bench.shipper.room(Lane::BacklogMedia), empty, "PUBACKed: no bytes are held");
    ack(&mut bench);
    assert_eq!((bench.spool.acked(1), bench.spool.acked(2)), (seqs(0..500), seqs(0..20)));
    assert_eq!((bench.rereads, bench.shipper.counters().resends), (0, 0));
}

#[test]
fn what_the_broker_lost_comes_from_the_spool_again_ever_more_rarely() {
    let mut bench = backlog();
    bench.append(0..100);
    bench.settle();
    bench.pull();
    let mut batches = 0;
    let mut waits = Vec::new();
    // The broker takes everything and forgets it.
    for _ in 0..5 {
        batches += Bench::kinds(&bench.send_all()).iter().filter(|kind| **kind == MessageKind::Batch).count();
        let (before, mut waited) = (bench.rereads, 0_u64);
        while bench.rereads == before {
            bench.wait_ms(500);
            waited += 500;
            assert!(waited < 400_000);
            bench.send_all();
        }
        waits.push(waited);
        bench.pull();
    }
    assert_eq!(batches, 5);
    assert!(waits.windows(2).all(|pair| pair[1] > pair[0]) && waits[0] >= 5_000, "{waits:?}");
    let sent = bench.send_all();
    bench.deliver(&sent);
    ack(&mut bench);
    assert_eq!(bench.spool.acked(1), seqs(0..100));
}

#[test]
fn holes_of_a_picture_that_is_away_are_filled_from_the_spool() {
    let mut bench = backlog();
    bench.spool.append(picture(2, 0, 300_000));
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    let parts: Vec<_> =
        sent.iter().filter(|m| Bench::kinds(std::slice::from_ref(m))[0] == MessageKind::Part).collect();
    assert!(parts.len() >= 3);
    // One part is lost behind the broker.
    let arrived: Vec<_> = sent.iter().filter(|m| m.number != parts[1].number).cloned().collect();
    bench.deliver(&arrived);
    bench.wait_ms(3_000);
    ack(&mut bench);
    bench.send_all();
    assert_eq!(bench.rereads, 1);
    bench.pull();
    let again = bench.send_all();
    let count = Bench::kinds(&again).iter().filter(|kind| **kind == MessageKind::Part).count();
    assert_eq!(count, 1, "only what is lacking");
    bench.deliver(&again);
    ack(&mut bench);
    assert_eq!(bench.spool.acked(2), seqs(0..1));
}

#[test]
fn a_row_that_is_away_and_does_not_decode_goes_once_more_and_then_is_given_up() {
    let mut bench = backlog();
    bench.append(0..10);
    bench.collector.bad.insert((StreamId(1), 3), RefusalReason::DecodeError);
    bench.settle();
    bench.pull();
    for turn in 0..2 {
        let sent = bench.send_all();
        assert!(Bench::kinds(&sent).contains(&MessageKind::Batch), "try {turn}");
        bench.deliver(&sent);
        ack(&mut bench);
        bench.collector.forget_refusals();
        assert_eq!(bench.gaps.len(), turn);
        bench.send_all();
        bench.pull();
    }
    bench.collector.explain(StreamId(1), 3..4);
    ack(&mut bench);
    assert_eq!(bench.spool.acked(1), seqs(0..10));
    assert_eq!(bench.rereads, 1);
}
