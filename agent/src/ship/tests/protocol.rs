//! The rules of the protocol, one by one, on the pure machine.

use super::collector::ModelCollector;
use super::fixture::{EPOCH, Fleet, ModelSpool, Signer, UTC, path, picture, scalar_rows, scalar_schema};
use crate::batch::{BatchSettings, Batcher};
use crate::ship::{AckError, Action, HandOver, RetainUntil, ShipError, ShipSettings, Shipper};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{Epoch, IncarnationId, Seq, StreamId};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Slab, SpoolLane};
use headwater_core::schema::builtin;
use headwater_core::time::BootNanos;
use headwater_core::wire::{
    Ack, AckStream, Envelope, EnvelopeError, MessageKind, RefusalReason, Sent, Topic, Unsigned,
};

struct Bench {
    fleet: Fleet,
    shipper: Shipper,
    batcher: Batcher,
    spool: ModelSpool,
    collector: ModelCollector,
    now: BootNanos,
    cursor: Cursor,
    gaps: Vec<GapRecord>,
    clocks: usize,
    reports: Vec<ShipError>,
    rewinds: usize,
    limit: usize,
}

impl Bench {
    fn new(settings: ShipSettings) -> Self {
        let fleet = Fleet::new();
        let spool = ModelSpool::new();
        spool.declare(1, "imu", scalar_schema(), SpoolLane::Telemetry);
        spool.declare(2, "camera/front", builtin::image(), SpoolLane::Media);
        let mut n = 0_u8;
        let nonces = Box::new(move || {
            n += 1;
            [n; 16]
        });
        let collector = ModelCollector::new(fleet.collector(), fleet.roots.clone());
        Self {
            shipper: Shipper::new(settings, fleet.device(), nonces),
            batcher: Batcher::new(BatchSettings {
                linger_ms: 0,
                message_bytes_max: settings.message_bytes_max,
            }),
            fleet,
            spool,
            collector,
            now: BootNanos(1_000_000_000),
            cursor: Cursor::default(),
            gaps: Vec::new(),
            clocks: 0,
            reports: Vec::new(),
            rewinds: 0,
            limit: 128 * 1024,
        }
    }

    fn durable() -> Self {
        Self::new(ShipSettings { retain_until: RetainUntil::Durable, ..ShipSettings::default() })
    }

    fn append(&mut self, seqs: std::ops::Range<u64>) {
        self.spool.append(Slab { rows: scalar_rows(1, seqs), blob: None });
    }

    fn connect(&mut self) {
        self.shipper.set_streams(self.spool.states());
        self.shipper.connected(self.now, self.limit);
        self.batcher.set_message_bytes_max(self.shipper.message_bytes_max());
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    fn act(&mut self) {
        for action in self.shipper.take_actions() {
            match action {
                Action::Trim(sets) => self.spool.trim_now(sets),
                Action::Gap(gap) => self.gaps.push(gap),
                Action::Clock(_) => self.clocks += 1,
                Action::Rewind => {
                    self.cursor = Cursor::default();
                    self.rewinds += 1;
                }
                Action::Reconnect(_) => {}
                Action::Report(error) => self.reports.push(error),
            }
        }
    }

    /// Reads both lanes and offers everything sealed.
    fn pull(&mut self) {
        self.act();
        self.shipper.set_streams(self.spool.states());
        let mut end = self.cursor;
        for lane in [SpoolLane::Telemetry, SpoolLane::Media] {
            if !self.shipper.wants(lane) {
                continue;
            }
            for slab in self.spool.read_now(lane, self.cursor, usize::MAX) {
                end = end.max(slab.next);
                if self.shipper.take(&slab) {
                    for sealed in self.batcher.push(self.now, slab) {
                        self.shipper.offer(lane, sealed);
                    }
                }
            }
            for sealed in self.batcher.flush() {
                self.shipper.offer(lane, sealed);
            }
        }
        self.cursor = end;
    }

    /// Everything that goes now, each PUBACKed 10 ms later.
    fn send_all(&mut self) -> Vec<HandOver> {
        let mut sent = Vec::new();
        while let Some(message) = self.shipper.next(self.now) {
            self.wait_ms(1);
            self.shipper.sent(self.now, message.number);
            sent.push(message);
        }
        self.act();
        sent
    }

    fn deliver(&mut self, messages: &[HandOver]) {
        for message in messages {
            self.collector.receive(&message.topic, &message.payload, UTC.0);
        }
    }

    fn hear(&mut self, ack: &[u8]) {
        self.shipper.received(self.now, UTC, ack);
        self.act();
    }

    /// Connects and completes hello; gives the hello.
    fn settle(&mut self) -> HandOver {
        self.connect();
        let sent = self.send_all();
        assert_eq!(sent.len(), 1, "nothing but hello before its answer");
        self.deliver(&sent);
        let answer = self.collector.ack(UTC.0);
        self.wait_ms(20);
        self.hear(&answer);
        assert!(self.shipper.incarnation().is_some());
        sent.into_iter().next().unwrap()
    }

    fn kinds(messages: &[HandOver]) -> Vec<MessageKind> {
        messages.iter().map(|m| Envelope::parse(&m.payload).unwrap().kind).collect()
    }
}

fn range(range: std::ops::Range<u64>) -> IntervalSet {
    [range].into_iter().collect()
}

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
    for first in 0..20 {
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
            let slab = Slab { rows: scalar_rows(3, 0..1), blob: None };
            bench.spool.append(slab);
            bench.shipper.set_streams(bench.spool.states());
            for slab in bench.spool.read_now(SpoolLane::Control, Cursor::default(), usize::MAX) {
                assert!(bench.shipper.take(&slab));
                assert!(bench.batcher.push(bench.now, slab).is_empty());
                for sealed in bench.batcher.flush() {
                    bench.shipper.offer(SpoolLane::Control, sealed);
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
    bench.collector.allowance = 0;
    bench.settle();
    bench.pull();
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.extend(bench.send_all());
        bench.wait_ms(10);
    }
    assert!((150_000..=256 * 1024).contains(&data(&sent)), "{}", data(&sent));
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
    assert_eq!(bench.spool.acked(1), range(0..10));
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
