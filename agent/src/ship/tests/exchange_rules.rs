//! Which clock replies become exchanges: those to a send time of ours, each once, from acks that are believed.

use super::bench::Bench;
use super::fixture::{Fleet, UTC};
use crate::ship::{HandOver, ShipError};
use headwater_core::time::{BootNanos, Grade, NS_PER_S};
use headwater_core::wire::{ClockReply, Envelope, MessageKind, Sent, Unsigned};

/// A window of the best exchange, and some: what was kept of it is out.
const WINDOW_MS: u64 = 17_000;

/// Lets a probe go and reach the collector.
fn probe(bench: &mut Bench) -> HandOver {
    bench.wait_ms(WINDOW_MS);
    let sent = bench.send_all();
    bench.deliver(&sent);
    let is_probe = |m: &HandOver| Envelope::parse(&m.payload).unwrap().kind == MessageKind::Probe;
    sent.into_iter().rfind(is_probe).expect("one is due each 16 s at first")
}

/// What the machine kept once the window is over. A hello that a forgery made it say is answered, without a clock reply.
fn after_window(bench: &mut Bench) -> usize {
    bench.wait_ms(WINDOW_MS);
    let mut sent = bench.send_all();
    sent.retain(|m| Envelope::parse(&m.payload).unwrap().kind == MessageKind::Hello);
    if !sent.is_empty() {
        bench.deliver(&sent);
        let mut answer = bench.collector.ack_body(UTC.0);
        answer.clock = None;
        let answer = bench.collector.signed(&answer.to_body());
        bench.hear(&answer);
    }
    bench.exchanges.len()
}

#[test]
fn exchange_forged_or_replayed() {
    let mut bench = Bench::durable();
    bench.settle();
    let asked = Envelope::parse(&probe(&mut bench).payload).unwrap().sent;
    let before = after_window(&mut bench);

    // Not the collector's signature, and not a signature at all.
    let mut body = bench.collector.ack_body(UTC.0);
    assert_eq!(body.clock.map(|clock| clock.t1.boot_ordinal), Some(3));
    body.clock = body.clock.map(|clock| ClockReply { t1: asked, ..clock });
    let stranger = Fleet::new().collector();
    let forged =
        Unsigned::new(MessageKind::Ack, &super::fixture::path(), super::fixture::EPOCH, &body.to_body());
    bench.hear(&forged.unwrap().sign(Sent { boot_ordinal: 0, ns: 0 }, &stranger.key));
    let mut torn = bench.collector.signed(&body.to_body());
    let last = torn.len() - 1;
    torn[last] ^= 1;
    bench.hear(&torn);
    // An old counter: the right stamps, in an ack that comes after a newer one.
    let newer = bench.collector.ack_body(UTC.0).to_body();
    let mut without = bench.collector.ack_body(UTC.0);
    without.clock = None;
    let without = bench.collector.signed(&without.to_body());
    bench.hear(&without);
    let old = bench.collector.signed(&newer);
    bench.hear(&old);
    // A send time that was never ours, and one of another boot.
    for t1 in [Sent { ns: asked.ns + 1, ..asked }, Sent { boot_ordinal: 2, ..asked }] {
        let mut body = bench.collector.ack_body(UTC.0);
        body.clock = body.clock.map(|clock| ClockReply { t1, ..clock });
        let ack = bench.collector.signed(&body.to_body());
        bench.hear(&ack);
    }
    assert_eq!(after_window(&mut bench), before, "none of these bounds anything");

    // The honest answer, then the same once more under a new counter.
    for _ in 0..2 {
        let mut body = bench.collector.ack_body(UTC.0);
        body.clock = body.clock.map(|clock| ClockReply { t1: asked, ..clock });
        let ack = bench.collector.signed(&body.to_body());
        bench.hear(&ack);
    }
    assert_eq!(after_window(&mut bench), before + 1, "its send time counts once");
    let kept = bench.exchanges.last().unwrap();
    assert_eq!((kept.t1, kept.grade), (BootNanos(asked.ns), Grade::Guaranteed));
}

#[test]
fn the_send_time_of_a_resend_is_the_new_one() {
    let mut bench = Bench::durable();
    bench.append(0..10);
    bench.settle();
    bench.pull();
    let first = bench.send_all();
    let batch = |sent: &[HandOver]| {
        let of = |m: &HandOver| Envelope::parse(&m.payload).map(|e| (e.kind, e.sent)).unwrap();
        sent.iter().map(of).find(|(kind, _)| *kind == MessageKind::Batch).map(|(_, sent)| sent).unwrap()
    };
    let lost = batch(&first);
    bench.wait_ms(30_000);
    let again = bench.send_all();
    assert!(batch(&again) > lost);
    bench.deliver(&again);
    let ack = bench.collector.ack(UTC.0);
    bench.hear(&ack);
    after_window(&mut bench);
    assert!(bench.exchanges.iter().all(|exchange| exchange.t1.0 != lost.ns), "it never arrived");
}

#[test]
fn a_clock_that_steps_while_it_answers_is_told_and_bounds_nothing() {
    let mut bench = Bench::durable();
    bench.settle();
    probe(&mut bench);
    let before = after_window(&mut bench);
    probe(&mut bench);
    let mut body = bench.collector.ack_body(UTC.0);
    body.clock = body.clock.map(|clock| ClockReply { t3_ns: clock.t2_ns + 3_600 * NS_PER_S, ..clock });
    let ack = bench.collector.signed(&body.to_body());
    bench.hear(&ack);
    assert!(bench.reports.contains(&ShipError::ClockReply { n: 1 }), "{:?}", bench.reports);
    assert_eq!(after_window(&mut bench), before);
}
