//! Whom the shipper believes, one rule at a time.

use super::bench::{Bench, range};
use super::fixture::{EPOCH, Fleet, Signer, UTC, path};
use crate::ship::{AckError, RetainUntil, ShipError, ShipSettings, Shipper};
use headwater_core::id::{Epoch, IncarnationId, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::wire::{Ack, AckStream, EnvelopeError, MessageKind, Sent, Unsigned};

#[test]
fn the_first_hello_must_be_answered_before_anything_is_shipped() {
    let mut bench = Bench::durable();
    bench.append(0..100);
    bench.connect();
    bench.pull();
    assert_eq!(bench.spool.reads(), 0, "nothing is even read");
    let first = bench.send_all();
    assert_eq!(Bench::kinds(&first), [MessageKind::Hello]);
    // Unanswered: the same nonce again after 5 s, nothing else, for ever.
    bench.wait_ms(4_900);
    assert!(bench.send_all().is_empty());
    bench.wait_ms(200);
    let second = bench.send_all();
    assert_eq!(Bench::kinds(&second), [MessageKind::Hello]);
    bench.wait_ms(60_000);
    assert_eq!(Bench::kinds(&bench.send_all()), [MessageKind::Hello]);
    bench.deliver(&second);
    let hello = bench.collector.hellos.last().unwrap().clone();
    assert_eq!(hello.nonce, [1; 16]);
    assert_eq!(
        (hello.streams[0].next_seq, hello.streams[0].unacked.first().cloned()),
        (Seq(100), Some(0..100))
    );
    let answer = bench.collector.ack(UTC.0);
    bench.hear(&answer);
    bench.pull();
    let sent = bench.send_all();
    assert_eq!(Bench::kinds(&sent), [MessageKind::Declaration, MessageKind::Batch]);
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..100));
    assert!(bench.shipper.is_drained());
}

#[test]
fn trims_follow_the_level_of_retain_until() {
    let mut bench = Bench::new(ShipSettings::default());
    bench.append(0..50);
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), IntervalSet::new(), "durable is not committed");
    bench.wait_ms(400_000);
    assert!(
        !Bench::kinds(&bench.send_all()).contains(&MessageKind::Batch),
        "but durable rows are not sent again"
    );
    bench.collector.commit();
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..50));
}

#[test]
fn forged_or_replayed_ack_trims_nothing() {
    let mut bench = Bench::durable();
    bench.append(0..100);
    bench.connect();
    let hello = bench.send_all();
    bench.deliver(&hello);
    let mut promise = Ack::new(IncarnationId([1; 16]), 900);
    promise.streams.push(AckStream {
        id: StreamId(1),
        durable_upto: Seq(100),
        committed_upto: Seq(100),
        durable: vec![],
        committed: vec![],
    });
    let sign = |signer: &Signer, epoch, kind, ack: &Ack| {
        let sent = Sent { boot_ordinal: 0, ns: 0 };
        Unsigned::new(kind, &path(), epoch, &ack.to_body()).unwrap().sign(sent, &signer.key)
    };
    // Answers to the open hello that must not count.
    let mut answer = promise.clone();
    answer.nonce = Some([1; 16]);
    let with_chain = |ack: &Ack, signer: &Signer| Ack { chain: Some(signer.chain.clone()), ..ack.clone() };
    let (rival, device) = (bench.fleet.other_tenants_collector(), bench.fleet.device_signer());
    let foreign = Fleet::new().collector();
    for signer in [&rival, &device, &foreign] {
        let forged = sign(signer, EPOCH, MessageKind::Ack, &with_chain(&answer, signer));
        bench.hear(&forged);
    }
    let genuine = &bench.collector.signer;
    let wrong_signature = sign(&rival, EPOCH, MessageKind::Ack, &with_chain(&answer, genuine));
    let old_nonce = sign(
        genuine,
        EPOCH,
        MessageKind::Ack,
        &with_chain(&Ack { nonce: Some([0; 16]), ..answer.clone() }, genuine),
    );
    let other_epoch = sign(genuine, Epoch(1), MessageKind::Ack, &with_chain(&answer, genuine));
    let other_kind = sign(genuine, EPOCH, MessageKind::Status, &with_chain(&answer, genuine));
    let no_chain = sign(genuine, EPOCH, MessageKind::Ack, &answer);
    for forged in [wrong_signature, old_nonce, other_epoch, other_kind, no_chain] {
        bench.hear(&forged);
    }
    assert_eq!(bench.shipper.counters().acks_rejected, 8);
    assert!(bench.shipper.incarnation().is_none());
    assert_eq!(bench.spool.acked(1), IntervalSet::new());

    // The true answer, then acks that must not count.
    let true_answer = bench.collector.ack(UTC.0);
    bench.hear(&true_answer);
    bench.pull();
    let sent = bench.send_all();
    bench.hear(&true_answer);
    bench.hear(&sign(
        &bench.collector.signer,
        EPOCH,
        MessageKind::Ack,
        &Ack { counter: 0, ..promise.clone() },
    ));
    bench.hear(&sign(&bench.collector.signer, Epoch(1), MessageKind::Ack, &promise));
    let mut flipped = sign(&bench.collector.signer, EPOCH, MessageKind::Ack, &promise);
    flipped[40] ^= 1;
    bench.hear(&flipped);
    assert_eq!(bench.shipper.counters().hellos, 1, "none of these is worth a hello");
    let elsewhere = Ack { incarnation: IncarnationId([7; 16]), ..promise.clone() };
    bench.hear(&sign(&bench.collector.signer, EPOCH, MessageKind::Ack, &elsewhere));
    bench.hear(&sign(&rival, EPOCH, MessageKind::Ack, &promise));
    assert_eq!(bench.shipper.counters().acks_rejected, 14);
    assert!(matches!(
        bench.reports.last(),
        Some(ShipError::Ack(AckError::Envelope(EnvelopeError::WrongKey)))
    ));
    assert_eq!(bench.spool.acked(1), IntervalSet::new(), "nothing was trimmed");
    // Another incarnation or key: one hello, not before 5 s after the last, and none while it is open.
    bench.wait_ms(10_000);
    let again = bench.send_all();
    assert_eq!(Bench::kinds(&again).iter().filter(|k| **k == MessageKind::Hello).count(), 1);
    for _ in 0..20 {
        bench.hear(&sign(&rival, EPOCH, MessageKind::Ack, &promise));
    }
    assert_eq!(Bench::kinds(&bench.send_all()), []);
    bench.deliver(&sent);
    bench.deliver(&again);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..100));
}

#[test]
fn ack_loss_dup_reorder() {
    let mut bench = Bench::durable();
    bench.settle();
    let mut acks = Vec::new();
    for first in [0, 100, 200] {
        bench.append(first..first + 100);
        bench.pull();
        let sent = bench.send_all();
        bench.deliver(&sent);
        acks.push(bench.collector.ack(UTC.0));
    }
    // The first is lost, the third overtakes the second and comes twice.
    bench.hear(&acks[2]);
    assert_eq!(bench.spool.acked(1), range(0..300));
    let rejected = bench.shipper.counters().acks_rejected;
    bench.hear(&acks[2]);
    bench.hear(&acks[1]);
    assert_eq!(bench.shipper.counters().acks_rejected, rejected + 2);
    assert_eq!(bench.spool.acked(1), range(0..300));
}

#[test]
fn need_hello_after_receiver_restart() {
    let mut bench = Bench::durable();
    bench.append(0..100);
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    bench.collector.restart();
    bench.append(100..200);
    bench.pull();
    let sent = bench.send_all();
    assert_eq!(Bench::kinds(&sent), [MessageKind::Batch], "the declaration is known");
    bench.wait_ms(6_000);
    bench.deliver(&sent);
    assert_eq!(bench.collector.unverified, 1, "it does not know our key: not staged");
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    let hello = bench.send_all();
    assert_eq!(Bench::kinds(&hello)[0], MessageKind::Hello);
    bench.deliver(&hello);
    let answer = bench.collector.ack(UTC.0);
    bench.wait_ms(30);
    bench.hear(&answer);
    assert_eq!(bench.rewinds, 2, "another receiver: its word alone says what is durable");
    bench.pull();
    let sent = bench.send_all();
    assert_eq!(Bench::kinds(&sent), [MessageKind::Batch]);
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..200));
    assert_eq!(bench.collector.landing.doubles, 0, "no row resent beyond what was unlanded");
}

#[test]
fn what_another_receiver_lacks_is_read_from_the_spool_again() {
    let mut bench = Bench::new(ShipSettings::default());
    bench.append(0..100);
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    // Durable, let go of in memory; then a receiver takes over whose log lacks them.
    bench.collector.restart();
    bench.collector.landing.rows.clear();
    bench.wait_ms(6_000);
    bench.shipper.disconnected();
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    assert!(Bench::kinds(&sent).contains(&MessageKind::Batch));
    bench.deliver(&sent);
    bench.collector.commit();
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    assert_eq!(bench.spool.acked(1), range(0..100));
}

#[test]
fn a_restored_card_ships_and_trims_nothing() {
    let mut bench = Bench::durable();
    bench.append(0..100);
    bench.settle();
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    // The same collector, and a card from before.
    let mut old = Bench::durable();
    std::mem::swap(&mut old.collector, &mut bench.collector);
    std::mem::swap(&mut old.fleet, &mut bench.fleet);
    old.append(0..40);
    let settings = ShipSettings { retain_until: RetainUntil::Durable, ..ShipSettings::default() };
    old.shipper = Shipper::new(settings, old.fleet.device(), Box::new(|| [200; 16]));
    old.settle();
    let restored = ShipError::RestoredCard { stream: StreamId(1), acked: 100, next: Seq(40) };
    assert!(old.reports.contains(&restored), "{:?}", old.reports);
    old.pull();
    assert!(old.send_all().is_empty());
    assert_eq!(old.spool.acked(1), IntervalSet::new());
}

#[test]
fn a_later_ack_beyond_next_seq_trims_nothing_and_asks_who_that_is() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.settle();
    let mut ack = bench.collector.ack_body(UTC.0);
    ack.streams = vec![AckStream {
        id: StreamId(1),
        durable_upto: Seq(11),
        committed_upto: Seq(0),
        durable: vec![],
        committed: vec![],
    }];
    let ack = bench.collector.signed(&ack.to_body());
    bench.hear(&ack);
    assert!(matches!(bench.reports[..], [ShipError::BeyondNext { acked: 11, .. }]));
    assert_eq!(bench.spool.acked(1), IntervalSet::new());
    bench.wait_ms(6_000);
    assert!(Bench::kinds(&bench.send_all()).contains(&MessageKind::Hello));
}

#[test]
fn a_later_hello_does_not_stop_shipping_for_long() {
    let mut bench = Bench::durable();
    bench.settle();
    bench.shipper.disconnected();
    bench.append(0..10);
    bench.wait_ms(6_000);
    bench.connect();
    bench.pull();
    assert_eq!(Bench::kinds(&bench.send_all()), [MessageKind::Hello]);
    bench.wait_ms(5_100);
    let kinds = Bench::kinds(&bench.send_all());
    assert!(kinds.contains(&MessageKind::Batch), "{kinds:?}");
}
