//! Keys that are renewed, and certificates that count no more.

use super::bench::Bench;
use super::fixture::UTC;
use crate::ship::{AckError, ShipError};
use headwater_core::interval::IntervalSet;
use headwater_core::wire::chain::ChainError;
use headwater_core::wire::{Ack, Envelope, MessageKind};

fn range(seqs: std::ops::Range<u64>) -> IntervalSet {
    [seqs].into_iter().collect()
}

/// Ships what was appended and has it acked.
fn ship(bench: &mut Bench) {
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
}

#[test]
fn a_renewed_key_loses_nothing_that_is_under_way() {
    let mut bench = Bench::durable();
    bench.append(0..100);
    bench.settle();
    bench.pull();
    let under_way = bench.send_all();
    let before = Envelope::parse(&under_way[0].payload).unwrap().key_id;
    let renewed = bench.fleet.device();
    let after = renewed.key.key_id();
    bench.wait_ms(6_000);
    bench.shipper.renew(bench.now, renewed);
    bench.append(100..200);
    let hello = bench.send_all();
    assert_eq!(Bench::kinds(&hello), [MessageKind::Hello]);
    assert_eq!(
        Envelope::parse(&hello[0].payload).unwrap().key_id,
        after,
        "it shows the new key, signed by it"
    );
    // The old key's rows come first, as on the wire.
    assert_eq!(Envelope::parse(&under_way[0].payload).unwrap().key_id, before);
    bench.deliver(&under_way);
    bench.deliver(&hello);
    let answer = bench.collector.ack(UTC.0);
    bench.hear(&answer);
    assert_eq!(bench.spool.acked(1), range(0..100), "rows of the old key count");
    ship(&mut bench);
    assert_eq!(bench.spool.acked(1), range(0..200));
    assert_eq!(bench.collector.landing.doubles, 0);
    assert_eq!(bench.collector.unverified, 0);
}

#[test]
fn a_key_renewed_while_a_hello_is_open_is_shown_by_another() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.connect();
    assert_eq!(Bench::kinds(&bench.send_all()), [MessageKind::Hello]);
    let renewed = bench.fleet.device();
    let after = renewed.key.key_id();
    bench.shipper.renew(bench.now, renewed);
    bench.wait_ms(5_000);
    let hello = bench.send_all();
    assert_eq!(Envelope::parse(&hello[0].payload).unwrap().key_id, after);
    bench.deliver(&hello);
    let answer = bench.collector.ack(UTC.0);
    bench.hear(&answer);
    ship(&mut bench);
    assert_eq!(bench.spool.acked(1), range(0..10));
}

#[test]
fn a_collector_with_a_renewed_key_is_believed_after_a_hello_and_not_before() {
    let mut bench = Bench::durable();
    bench.settle();
    bench.append(0..50);
    bench.pull();
    let sent = bench.send_all();
    bench.deliver(&sent);
    bench.collector.signer = bench.fleet.collector();
    let by_new_key = bench.collector.ack(UTC.0);
    bench.hear(&by_new_key);
    assert_eq!(bench.spool.acked(1), IntervalSet::new(), "an unknown key trims nothing");
    bench.wait_ms(6_000);
    let hello = bench.send_all();
    assert!(Bench::kinds(&hello).contains(&MessageKind::Hello));
    bench.deliver(&hello);
    let answer = bench.collector.ack(UTC.0);
    bench.hear(&answer);
    assert_eq!(bench.spool.acked(1), range(0..50));
}

fn told(bench: &mut Bench, why: Option<&str>, nonce: Option<[u8; 16]>) -> Vec<u8> {
    let body = bench.collector.ack_body(UTC.0);
    let mut ack = Ack::new(body.incarnation, body.counter);
    ack.revoked = why.map(str::to_owned);
    ack.nonce = nonce;
    ack.chain = nonce.map(|_| bench.collector.signer.chain.clone());
    bench.collector.signed(&ack.to_body())
}

#[test]
fn a_revoked_gateway_ships_nothing_and_asks_rarely() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.settle();
    ship(&mut bench);
    bench.append(10..20);
    bench.pull();
    // A certificate of our name that is not ours: its holder had this said.
    let message = told(&mut bench, Some("certificate 07 is revoked: key_compromise"), None);
    bench.hear(&message);
    assert!(bench.reports.is_empty(), "{:?}", bench.reports);
    let ours = headwater_core::wire::chain::serial(&bench.shipper.me.chain[0]).unwrap();
    let why = format!("certificate {ours} is revoked: key_compromise");
    let message = told(&mut bench, Some(&why), None);
    bench.hear(&message);
    assert!(matches!(bench.reports.last(), Some(ShipError::ShutOut { .. })), "{:?}", bench.reports);
    let mut hellos = 0;
    for _ in 0..120 {
        bench.wait_ms(10_000);
        bench.pull();
        let sent = bench.send_all();
        assert!(
            Bench::kinds(&sent).iter().all(|kind| *kind == MessageKind::Hello),
            "{:?}",
            Bench::kinds(&sent)
        );
        hellos += sent.len();
        for hello in &sent {
            let envelope = Envelope::parse(&hello.payload).unwrap();
            let nonce = headwater_core::wire::Hello::from_body(envelope.body).unwrap().nonce;
            let still = told(&mut bench, Some(&why), Some(nonce));
            bench.hear(&still);
        }
    }
    assert!((1..=2).contains(&hellos), "{hellos} hellos in 20 minutes");
    assert_eq!(bench.spool.acked(1), range(0..10));
    // New certificates: 5 s after the last hello, and everything goes on.
    let renewed = bench.fleet.device();
    bench.shipper.renew(bench.now, renewed);
    bench.wait_ms(5_000);
    let hello = bench.send_all();
    assert_eq!(Bench::kinds(&hello), [MessageKind::Hello]);
    bench.deliver(&hello);
    let answer = bench.collector.ack(UTC.0);
    bench.hear(&answer);
    ship(&mut bench);
    assert_eq!(bench.spool.acked(1), range(0..20));
}

#[test]
fn nobody_but_the_collector_shuts_a_gateway_out() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.settle();
    let genuine = std::mem::replace(&mut bench.collector.signer, bench.fleet.device_signer());
    for nonce in [None, Some([1; 16])] {
        let message = told(&mut bench, Some("go away"), nonce);
        bench.hear(&message);
    }
    bench.collector.signer = genuine;
    ship(&mut bench);
    assert_eq!(bench.spool.acked(1), range(0..10));
}

/// The answer to the open hello, with lists in it.
fn answer_with(bench: &mut Bench, lists: Vec<Vec<u8>>) -> Vec<u8> {
    let mut ack = bench.collector.ack_body(UTC.0);
    ack.revocations = lists;
    bench.collector.signed(&ack.to_body())
}

#[test]
fn a_collector_that_the_fleet_revoked_trims_nothing_whoever_says_so() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    let rogue = bench.fleet.collector();
    let list = bench.fleet.revocation_list(1, &[&rogue.chain]);
    // A good collector brings the list.
    bench.connect();
    let hello = bench.send_all();
    bench.deliver(&hello);
    let answer = answer_with(&mut bench, vec![list.clone()]);
    bench.hear(&answer);
    bench.act();
    assert_eq!(bench.lists_kept, [vec![list.clone()]], "kept for the next life");
    // Then the revoked one answers, with its key and a valid chain.
    bench.wait_ms(6_000);
    bench.shipper.disconnected();
    bench.connect();
    let hello = bench.send_all();
    bench.deliver(&hello);
    let genuine = std::mem::replace(&mut bench.collector.signer, rogue);
    let forged = bench.collector.ack(UTC.0);
    bench.hear(&forged);
    let refused = |error: &ShipError| {
        matches!(error, ShipError::Ack(AckError::Chain(ChainError::Revoked { reason: "key_compromise", .. })))
    };
    assert!(bench.reports.iter().any(refused), "{:?}", bench.reports);
    assert!(bench.shipper.incarnation().is_none());
    // The good one, and all is well; the list is not kept twice.
    bench.collector.signer = genuine;
    bench.wait_ms(6_000);
    let hello = bench.send_all();
    bench.deliver(&hello);
    let answer = answer_with(&mut bench, vec![list]);
    bench.hear(&answer);
    ship(&mut bench);
    assert_eq!(bench.spool.acked(1), range(0..10));
    assert_eq!(bench.lists_kept.len(), 1);
}

#[test]
fn lists_that_prove_nothing_are_refused_with_their_answer() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.connect();
    let hello = bench.send_all();
    bench.deliver(&hello);
    let foreign = super::fixture::Fleet::new();
    let theirs = foreign.collector();
    let forged = foreign.revocation_list(1, &[&theirs.chain]);
    let answer = answer_with(&mut bench, vec![forged]);
    bench.hear(&answer);
    assert!(bench.shipper.incarnation().is_none());
    assert!(matches!(bench.reports.last(), Some(ShipError::Ack(AckError::Revocations(_)))));
}
