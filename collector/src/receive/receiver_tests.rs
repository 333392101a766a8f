//! Every decision of the receiver, message by message.

use super::*;
use crate::land::{LandingReader, Log, StdDisk};
use crate::receive::testkit::{Ca, Device, EPOCH, now, number_rows, numbers, path};
use headwater_core::time::Grade;
use headwater_core::wire::chain::FleetRoots;
use headwater_core::wire::object::{BlobObject, Part, object_id};
use headwater_core::wire::{AckStream, MESSAGE_BYTES_ACCEPTED_MAX};
use proptest::prelude::*;

const QUALITY: ClockQuality = ClockQuality { e_c_ns: 5, grade: Grade::Estimated, source_id: 6 };

/// A receiver with a log in memory of positions: what is staged is synced at once, one record per unit.
struct Bench {
    ca: Ca,
    receiver: Receiver,
    end: u64,
    landed: Vec<Staged>,
}

fn incarnation() -> IncarnationId {
    IncarnationId([1; 16])
}

fn at(offset: u64) -> LandingPosition {
    LandingPosition { incarnation: incarnation(), segment: 0, offset }
}

fn receiver(ca: &Ca, mark: &CommitMark) -> Receiver {
    let (key, chain) = ca.collector();
    let key = std::sync::Arc::new(key.into());
    let identity = ReceiverIdentity { incarnation: incarnation(), key, chain, software: "test".into() };
    Receiver::new(ca.admission(), identity, mark)
}

impl Bench {
    fn new() -> Self {
        let ca = Ca::new();
        let receiver = receiver(&ca, &CommitMark::default());
        Self { ca, receiver, end: 0, landed: Vec::new() }
    }

    fn take(&mut self, device: &Device, message: &[u8], ms: i64) -> Option<RefusalKind> {
        match self.receiver.take(&device.topic(), message, now(ms)) {
            Taken::Land(staged) => {
                let position = at(self.end);
                self.end += 1;
                self.receiver.synced(
                    vec![staged.note.clone()],
                    &[Span { position, end: at(self.end) }],
                    now(ms).boot,
                );
                self.landed.push(*staged);
                None
            }
            Taken::Kept => None,
            Taken::Refused(refusal) => Some(refusal.kind),
        }
    }

    fn acks(&mut self, ms: i64) -> Vec<Ack> {
        let out = self.receiver.acks(QUALITY, now(ms));
        out.iter().map(|out| Ack::from_body(Envelope::parse(&out.payload).unwrap().body).unwrap()).collect()
    }
}

#[test]
fn every_check_has_its_refusal_in_order() {
    let mut bench = Bench::new();
    let (device, other) = (bench.ca.device("pi-1"), bench.ca.device("pi-2"));
    let probe = device.sign(MessageKind::Probe, &[]);
    let mut refused = |topic: &str, message: &[u8]| match bench.receiver.take(topic, message, now(0)) {
        Taken::Refused(refusal) => refusal.kind,
        other => panic!("{other:?}"),
    };
    let topic = device.topic();
    assert_eq!(refused("hw/1/ack/acme/pi-1", &probe), RefusalKind::Topic);
    assert_eq!(refused("nonsense", &probe), RefusalKind::Topic);
    let foreign = DevicePath { tenant: "umbrella".parse().unwrap(), device: "pi-1".parse().unwrap() };
    let foreign = Topic::In { device: foreign, lane: headwater_core::wire::Lane::Control }.to_string();
    assert_eq!(refused(&foreign, &probe), RefusalKind::OtherTenant);
    assert_eq!(refused(&topic, b"hello"), RefusalKind::NotHeadwater);
    let changed = |at: usize, to: u8| {
        let mut message = probe.clone();
        message[at] = to;
        message
    };
    let mended = |mut message: Vec<u8>| {
        let n = message.len() - 4;
        let crc = crc32c::crc32c(&message[..n]).to_le_bytes();
        message[n..].copy_from_slice(&crc);
        message
    };
    assert_eq!(refused(&topic, &changed(2, 9)), RefusalKind::UnsupportedMajor);
    let mut long = probe.clone();
    long.resize(MESSAGE_BYTES_ACCEPTED_MAX + 1, 0);
    assert_eq!(refused(&topic, &long), RefusalKind::TooLarge);
    assert_eq!(refused(&topic, &changed(16, 9)), RefusalKind::BodyLength);
    assert_eq!(refused(&topic, &changed(8, 9)), RefusalKind::BadCrc);
    assert_eq!(refused(&topic, &mended(changed(3, 77))), RefusalKind::UnknownKind);
    assert_eq!(refused(&topic, &mended(changed(5, 1))), RefusalKind::UnknownFlags);
    assert_eq!(refused(&other.topic(), &probe), RefusalKind::WrongDevice);
    assert_eq!(refused(&topic, &probe), RefusalKind::UnknownKey);
    let hello = device.hello(1);
    assert_eq!(
        refused(
            &topic,
            &mended({
                let mut m = hello.clone();
                m[8] ^= 1;
                m
            })
        ),
        RefusalKind::BadSignature
    );
    let plain = device.sign(MessageKind::Hello, &[]);
    assert_eq!(refused(&topic, &plain), RefusalKind::BadChain, "a hello without a chain proves nothing");
    let stranger = Ca::new().device("pi-1");
    assert_eq!(refused(&topic, &stranger.hello(1)), RefusalKind::BadChain);
    // A proper chain of another device, on this device's topic, tagged and signed for it.
    let borrowed = Device { path: device.path.clone(), ..bench.ca.device("pi-2") };
    assert_eq!(refused(&topic, &borrowed.hello(1)), RefusalKind::ForeignChain);
    let renamed = bench.ca.device_until("pi-1", "umbrella", 2090);
    assert_eq!(refused(&topic, &renamed.hello(1)), RefusalKind::ForeignChain);

    assert_eq!(bench.take(&device, &hello, 0), None);
    let mut refused = |message: &[u8]| bench.take(&device, message, 0);
    assert_eq!(
        refused(&mended({
            let mut m = probe.clone();
            m[22] ^= 1;
            m
        })),
        Some(RefusalKind::BadSignature)
    );
    assert_eq!(refused(&device.sign(MessageKind::Ack, &[])), Some(RefusalKind::UnexpectedKind));
    assert_eq!(refused(&device.sign(MessageKind::Status, b"{}")), Some(RefusalKind::UnexpectedKind));
    assert_eq!(refused(&device.sign(MessageKind::Batch, b"rubbish")), Some(RefusalKind::BadBody));
    assert_eq!(refused(&device.sign(MessageKind::Part, b"rubbish")), Some(RefusalKind::BadBody));
    assert_eq!(refused(&device.sign(MessageKind::Declaration, b"rubbish")), Some(RefusalKind::BadBody));
    assert_eq!(refused(&probe), None);
}

#[test]
fn expired_and_revoked_certificates_are_refused() {
    let mut bench = Bench::new();
    let device = bench.ca.device_until("pi-1", "acme", 2027);
    assert_eq!(bench.take(&device, &device.hello(1), 0), None);
    let probe = device.sign(MessageKind::Probe, &[]);
    let year_ms = 366 * 86_400_000_i64;
    assert_eq!(bench.take(&device, &probe, year_ms), Some(RefusalKind::Expired));
    assert_eq!(bench.take(&device, &device.hello(2), year_ms), Some(RefusalKind::BadChain));
    bench.receiver.registry().revoke(&bench.ca.revoke(&[&device]));
    assert_eq!(bench.take(&device, &probe, 0), Some(RefusalKind::Revoked));
    assert_eq!(bench.take(&device, &device.hello(3), 0), Some(RefusalKind::Revoked));
}

#[test]
fn a_revoked_device_is_told_and_hears_nothing_else() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.take(&device, &device.hello(1), 0);
    bench.acks(0);
    bench.take(&device, &device.sign(MessageKind::Probe, &[]), 100);
    bench.receiver.registry().revoke(&bench.ca.revoke(&[&device]));
    // The ack that was due says it, once in five seconds, and has no watermark, credit or clock.
    let due = bench.acks(1_000);
    assert_eq!(due.len(), 1);
    assert!(due[0].revoked.as_ref().unwrap().contains("key_compromise"), "{due:?}");
    assert_eq!((due[0].credit, due[0].clock, due[0].nonce), (None, None, None));
    assert_eq!(bench.take(&device, &device.sign(MessageKind::Probe, &[]), 2_000), Some(RefusalKind::Revoked));
    assert!(bench.acks(2_000).is_empty());
    // A hello is answered so that its sender believes it.
    assert_eq!(bench.take(&device, &device.hello(9), 7_000), Some(RefusalKind::Revoked));
    let told = bench.acks(7_000);
    assert_eq!((told[0].nonce, told[0].chain.is_some(), told[0].streams.len()), (Some([9; 16]), true, 0));
    // A stranger who only knows the device's name has nobody told.
    let forged = Device { path: device.path.clone(), ..bench.ca.device("pi-2") };
    assert_ne!(
        bench.take(&device, &forged.sign(MessageKind::Probe, &[]), 20_000),
        Some(RefusalKind::Revoked)
    );
    assert!(bench.acks(20_000).iter().all(|ack| ack.revoked.is_none()));
}

#[test]
fn a_device_with_a_second_key_goes_on_when_the_first_is_revoked() {
    let mut bench = Bench::new();
    let (old, new) = (bench.ca.device("pi-1"), bench.ca.device("pi-1"));
    bench.take(&old, &old.hello(1), 0);
    new.sent.set(100);
    assert_eq!(bench.take(&new, &new.hello(2), 10), None);
    assert_eq!(bench.take(&old, &old.sign(MessageKind::Probe, &[]), 20), None, "side by side");
    bench.receiver.registry().revoke(&bench.ca.revoke(&[&old]));
    assert_eq!(bench.take(&old, &old.sign(MessageKind::Probe, &[]), 30), Some(RefusalKind::Revoked));
    assert_eq!(bench.take(&new, &new.sign(MessageKind::Probe, &[]), 6_000), None);
    let acks = bench.acks(7_000);
    assert!(acks.iter().any(|ack| ack.credit.is_some() && ack.revoked.is_none()), "{acks:?}");
    let noted = bench.receiver.registry().take_revoked();
    assert_eq!(noted.len(), 1);
    assert_eq!(noted[0].key_id, old.key.key_id());
    assert!(bench.receiver.registry().take_revoked().is_empty(), "noted once");
}

#[test]
fn a_renewed_collector_key_is_introduced_by_the_old_one() {
    let mut bench = Bench::new();
    let (device, other) = (bench.ca.device("pi-1"), bench.ca.device("pi-2"));
    let signed_by = |out: &[crate::receive::Outgoing]| -> Vec<headwater_core::id::KeyId> {
        out.iter().map(|out| Envelope::parse(&out.payload).unwrap().key_id).collect()
    };
    bench.take(&device, &device.hello(1), 0);
    let first = signed_by(&bench.receiver.acks(QUALITY, now(0)));
    let (key, chain) = bench.ca.collector();
    let second = key.key_id();
    bench.receiver.renew(std::sync::Arc::new(key.into()), chain.clone());
    // What this device believes is the old key: it goes on, and asks for a hello.
    bench.take(&device, &device.sign(MessageKind::Probe, &[]), 1_000);
    let out = bench.receiver.acks(QUALITY, now(1_000));
    assert_eq!(signed_by(&out), first);
    let ack = Ack::from_body(Envelope::parse(&out[0].payload).unwrap().body).unwrap();
    assert!(ack.need_hello && ack.credit.is_some());
    // A device that comes now hears the new key at once.
    bench.take(&other, &other.hello(1), 1_100);
    assert_eq!(signed_by(&bench.receiver.acks(QUALITY, now(1_100))), [second]);
    bench.take(&device, &device.hello(2), 2_000);
    let out = bench.receiver.acks(QUALITY, now(2_000));
    assert_eq!(signed_by(&out), [second]);
    let answer = Ack::from_body(Envelope::parse(&out[0].payload).unwrap().body).unwrap();
    assert_eq!((answer.chain, answer.need_hello), (Some(chain), false));
    bench.take(&device, &device.sign(MessageKind::Probe, &[]), 3_000);
    let out = bench.receiver.acks(QUALITY, now(3_000));
    assert_eq!(signed_by(&out), [second]);
    assert!(!Ack::from_body(Envelope::parse(&out[0].payload).unwrap().body).unwrap().need_hello);
}

#[test]
fn hello_answers_carry_the_lists_of_revoked_collectors() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.receiver.set_revocations(vec![vec![1, 2, 3]]);
    bench.take(&device, &device.hello(1), 0);
    assert_eq!(bench.acks(0)[0].revocations, [vec![1, 2, 3]]);
    bench.take(&device, &device.sign(MessageKind::Probe, &[]), 1_000);
    assert!(bench.acks(1_000)[0].revocations.is_empty());
}

#[test]
fn an_unknown_key_is_asked_for_a_hello_once_in_five_seconds() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    let probe = device.sign(MessageKind::Probe, &[]);
    for (ms, asked) in [(0, true), (1, false), (4_999, false), (5_000, true)] {
        assert_eq!(bench.take(&device, &probe, ms), Some(RefusalKind::UnknownKey));
        let acks = bench.acks(ms);
        assert_eq!(acks.iter().filter(|ack| ack.need_hello).count(), usize::from(asked), "at {ms}");
    }
}

#[test]
fn a_hello_is_answered_with_nonce_chain_and_watermarks() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.take(&device, &device.hello(9), 100);
    let out = bench.receiver.acks(QUALITY, now(101));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].topic, "hw/1/ack/acme/pi-1");
    let envelope = Envelope::parse(&out[0].payload).unwrap();
    assert_eq!((envelope.kind, envelope.epoch), (MessageKind::Ack, EPOCH));
    let chain = peek_chain(&envelope).unwrap().unwrap();
    let roots = bench.ca.admission().roots;
    let signer = verify_chain(&chain, &roots, Role::Collector, now(0).utc).unwrap();
    envelope.verify(&signer.key).unwrap();
    let ack = Ack::from_body(envelope.body).unwrap();
    assert_eq!((ack.nonce, ack.incarnation, ack.counter), (Some([9; 16]), incarnation(), 1));
    assert_eq!((ack.credit, ack.wait), (Some(4 * 98_304), None), "four of its largest messages");
    let clock = ack.clock.unwrap();
    assert_eq!((clock.t2_ns, clock.t3_ns, clock.e_c_ns), (now(100).utc.0, now(101).utc.0, 5));
    assert_eq!(clock.t1, Sent { boot_ordinal: 1, ns: 1 });
}

#[test]
fn a_replayed_hello_is_answered_and_changes_nothing() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    let old = device.hello(1);
    bench.take(&device, &device.hello(2), 0);
    let probe = device.sign(MessageKind::Probe, &[]);
    bench.take(&device, &probe, 1);
    let landed = bench.landed.len();
    bench.acks(1);
    bench.take(&device, &old, 300);
    assert_eq!(bench.landed.len(), landed, "it is not landed");
    let acks = bench.acks(300);
    assert_eq!(acks[0].nonce, Some([1; 16]));
    let sent = probe.len() as u64;
    assert_eq!(acks[0].credit, Some(sent + 4 * 98_304), "the count since the newer hello goes on");
}

#[test]
fn rows_are_acked_once_synced_and_committed_once_committed() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.take(&device, &device.hello(1), 0);
    bench.acks(0);
    bench.take(&device, &device.batch(vec![number_rows(1, 0, 5)]), 10);
    assert!(bench.acks(10).is_empty(), "at most one ack in 200 ms");
    let asks = bench.acks(200);
    assert_eq!(asks[0].need_schema, vec![(StreamId(1), numbers().fingerprint())]);
    assert!(asks[0].streams.is_empty(), "withheld");
    bench.take(&device, &device.declaration(1, "imu", &numbers()), 300);
    let stream = |ack: &Ack| ack.streams[0].clone();
    let acks = bench.acks(400);
    assert_eq!((stream(&acks[0]).durable_upto, stream(&acks[0]).committed_upto), (Seq(5), Seq(0)));
    let cursors = [(incarnation(), at(bench.end))].into();
    let commit = Some(headwater_core::id::Sha256([4; 32]));
    let mark = CommitMark { cursors, commit, ..CommitMark::default() };
    bench.receiver.committed(&mark, now(700).boot);
    let acks = bench.acks(700);
    assert_eq!(stream(&acks[0]).committed_upto, Seq(5));
    assert_eq!(acks[0].commit, mark.commit);
    // A duplicate is answered, never met with silence.
    bench.take(&device, &device.batch(vec![number_rows(1, 0, 5)]), 5_000);
    assert_eq!(bench.acks(5_000).len(), 1);
    assert!(bench.acks(5_300).is_empty(), "and then there is no news");
}

#[test]
fn nothing_is_acked_before_its_sync() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.take(&device, &device.hello(1), 0);
    bench.take(&device, &device.declaration(1, "imu", &numbers()), 0);
    bench.acks(0);
    let message = device.batch(vec![number_rows(1, 0, 5)]);
    let Taken::Land(staged) = bench.receiver.take(&device.topic(), &message, now(300)) else {
        panic!("landed")
    };
    assert_eq!(bench.acks(300)[0].streams[0].durable_upto, Seq(0));
    let span = Span { position: at(50), end: at(51) };
    bench.receiver.synced(vec![staged.note], &[span], now(600).boot);
    assert_eq!(bench.acks(600)[0].streams[0].durable_upto, Seq(5));
}

#[test]
fn sections_that_cannot_be_taken_are_refused_alone() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.take(&device, &device.hello(1), 0);
    bench.take(&device, &device.declaration(1, "imu", &numbers()), 0);
    bench.acks(0);
    let mut misfit = number_rows(1, 5, 2);
    misfit.fields.push(misfit.fields[0].clone());
    bench.take(&device, &device.batch(vec![number_rows(1, 0, 5), misfit]), 300);
    let acks = bench.acks(300);
    assert_eq!(acks[0].streams[0].durable_upto, Seq(5));
    assert_eq!(acks[0].refused.len(), 1);
    assert_eq!((acks[0].refused[0].seq_lo, acks[0].refused[0].seq_hi), (Seq(5), Seq(6)));
    assert_eq!(acks[0].refused[0].refusal.reason, RefusalReason::SchemaMismatch);
    // The same id under another name contradicts.
    let again = device.declaration(1, "gps", &numbers());
    assert_eq!(bench.take(&device, &again, 600), Some(RefusalKind::Contradiction));
}

#[test]
fn only_sixteen_ranges_travel() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.take(&device, &device.hello(1), 0);
    bench.take(&device, &device.declaration(1, "imu", &numbers()), 0);
    let holes = (0..40).map(|n| number_rows(1, 10 + n * 10, 5)).collect();
    bench.take(&device, &device.batch(holes), 0);
    let AckStream { durable_upto, durable, .. } = bench.acks(0).remove(0).streams.remove(0);
    assert_eq!((durable_upto, durable.len(), durable[0].clone()), (Seq(0), 16, 10..15));
}

#[test]
fn an_object_lands_once_it_is_whole() {
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.take(&device, &device.hello(1), 0);
    let bytes: Vec<u8> = (0..5000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let blob = BlobObject {
        stream: StreamId(2),
        seq: Seq(0),
        reference: BlobRef::to(&bytes),
        mime: "image/jpeg",
        bytes: (&bytes).into(),
    };
    let object = blob.to_bytes();
    let id = object_id(&object);
    let part = |range: std::ops::Range<usize>| {
        let body = Part {
            object: id,
            total_len: object.len() as u64,
            offset: range.start as u64,
            bytes: &object[range],
        };
        device.sign(MessageKind::Part, &body.to_body())
    };
    bench.take(&device, &part(3000..object.len()), 10);
    let before = bench.landed.len();
    assert_eq!(bench.acks(10)[0].missing, vec![]);
    let quiet = bench.acks(2_100);
    assert_eq!(quiet[0].missing[0].ranges, vec![0..3000], "asked for by itself once it is quiet");
    bench.take(&device, &part(0..3000), 2_200);
    assert_eq!(bench.landed.len(), before + 1);
    let LandRecord::Blob(record) = &bench.landed[before].record else { panic!("a blob") };
    assert_eq!((record.object, &record.bytes[..]), (id, &object[..]));
    Envelope::parse(&record.part.message).unwrap().verify(&device.key.verifying_key().unwrap()).unwrap();
}

#[test]
fn a_restart_rebuilds_keys_declarations_and_watermarks() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    let old_hello = device.hello(1);
    bench.take(&device, &device.hello(2), 0);
    bench.take(&device, &device.batch(vec![number_rows(1, 0, 5)]), 0);
    bench.take(&device, &device.declaration(1, "imu", &numbers()), 0);
    bench.take(&device, &device.batch(vec![number_rows(1, 5, 5)]), 0);
    let before = bench.receiver.landed_set().watermarks(&device.owner(), 0);
    let mut log = Log::create(StdDisk, folder.path(), "hq", incarnation(), 1, now(0).utc).unwrap();
    for staged in &bench.landed {
        log.append(std::slice::from_ref(&staged.record), now(0).utc).unwrap();
    }
    let mut reader = LandingReader::new(StdDisk, folder.path());
    let landed = reader.next_after(&std::collections::BTreeMap::new(), usize::MAX).unwrap();
    let mut next = receiver(&bench.ca, &CommitMark::default());
    assert!(landed.iter().all(|record| next.replay(record)));
    assert_eq!(next.landed_set().watermarks(&device.owner(), 0), before);
    // Its key is known again, and the older hello is still a replay.
    let probe = device.sign(MessageKind::Probe, &[]);
    assert!(matches!(next.take(&device.topic(), &probe, now(1)), Taken::Land(_)));
    assert!(matches!(next.take(&device.topic(), &old_hello, now(1)), Taken::Kept));
    // With a commit's cursors below everything, all of it is committed.
    let cursors = [(incarnation(), log.end())].into();
    let mut next = receiver(&bench.ca, &CommitMark { cursors, ..CommitMark::default() });
    assert!(landed.iter().all(|record| next.replay(record)));
    assert_eq!(next.landed_set().watermarks(&device.owner(), 0)[0].committed_upto, Seq(10));
}

/// A new incarnation knows keys and watermarks from its log, and still asks each device that is heard for
/// a hello, at most once in five seconds and never after it came.
#[test]
fn a_restarted_receiver_asks_for_a_hello_until_it_has_heard_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new();
    let device = bench.ca.device("pi-1");
    bench.take(&device, &device.hello(1), 0);
    bench.take(&device, &device.declaration(1, "imu", &numbers()), 0);
    bench.take(&device, &device.batch(vec![number_rows(1, 0, 5)]), 0);
    assert!(bench.acks(1_000).iter().all(|ack| !ack.need_hello), "it has said hello");
    let mut log = Log::create(StdDisk, folder.path(), "hq", incarnation(), 1, now(0).utc).unwrap();
    for staged in &bench.landed {
        log.append(std::slice::from_ref(&staged.record), now(0).utc).unwrap();
    }
    let mut reader = LandingReader::new(StdDisk, folder.path());
    let landed = reader.next_after(&std::collections::BTreeMap::new(), usize::MAX).unwrap();
    bench.receiver = receiver(&bench.ca, &CommitMark::default());
    assert!(landed.iter().all(|record| bench.receiver.replay(record)));
    for (ms, seq, asked) in [(2_000, 5, true), (3_000, 10, false), (7_000, 15, true)] {
        assert_eq!(bench.take(&device, &device.batch(vec![number_rows(1, seq, 5)]), ms), None);
        let acks = bench.acks(ms + 500);
        assert_eq!(acks.iter().filter(|ack| ack.need_hello).count(), usize::from(asked), "at {ms}");
    }
    bench.take(&device, &device.hello(2), 13_000);
    bench.take(&device, &device.batch(vec![number_rows(1, 20, 5)]), 13_000);
    assert!(bench.acks(14_000).iter().all(|ack| !ack.need_hello), "it has come");
}

proptest! {
    #[test]
    fn rubbish_never_panics(payload in proptest::collection::vec(any::<u8>(), 0..400), kind in 0_u8..9) {
        let mut bench = Bench::new();
        let device = bench.ca.device("pi-1");
        prop_assert!(matches!(bench.receiver.take(&device.topic(), &payload, now(0)), Taken::Refused(_)));
        // The same rubbish, signed by a known device.
        bench.take(&device, &device.hello(1), 0);
        let kinds = [MessageKind::Batch, MessageKind::Part, MessageKind::Declaration, MessageKind::Hello];
        let kind = kinds[usize::from(kind) % kinds.len()];
        bench.take(&device, &device.sign(kind, &payload), 1);
        bench.acks(1_000);
        bench.acks(10_000);
    }
}

#[test]
fn messages_on_anothers_topic_never_reach_its_data() {
    let mut bench = Bench::new();
    let (victim, rogue) = (bench.ca.device("pi-1"), bench.ca.device("rogue"));
    bench.take(&victim, &victim.hello(1), 0);
    bench.take(&rogue, &rogue.hello(1), 0);
    let landed = bench.landed.len();
    let batch = rogue.batch(vec![number_rows(1, 0, 5)]);
    assert!(
        matches!(bench.receiver.take(&victim.topic(), &batch, now(1)), Taken::Refused(r) if r.kind == RefusalKind::WrongDevice)
    );
    let disguised = Device { path: path("pi-1"), ..rogue };
    let batch = disguised.batch(vec![number_rows(1, 0, 5)]);
    assert_eq!(bench.take(&victim, &batch, 1), Some(RefusalKind::UnknownKey));
    assert_eq!(bench.landed.len(), landed);
}

#[test]
fn a_new_key_is_let_in_whatever_an_older_one_said() {
    let mut bench = Bench::new();
    let (stolen, new) = (bench.ca.device("pi-1"), bench.ca.device("pi-1"));
    let far_ahead = stolen.sign_at(MessageKind::Hello, &stolen.hello_body(1), i64::MAX);
    assert_eq!(bench.take(&stolen, &far_ahead, 0), None);
    assert_eq!(bench.take(&new, &new.hello(2), 10), None);
    assert_eq!(bench.landed.len(), 2, "its hello is landed, so that its key is known after a restart");
    assert_eq!(bench.take(&new, &new.sign(MessageKind::Probe, &[]), 20), None);
    let acks = bench.acks(1_000);
    assert!(acks.iter().any(|ack| ack.nonce == Some([2; 16]) && ack.credit.is_some_and(|credit| credit > 0)));
}

/// A device that invents epochs fills nothing, and one of them that comes back takes up where its log left off.
#[test]
fn epochs_of_a_device_are_bounded_and_a_forgotten_one_is_asked_to_resume() {
    use headwater_core::id::Epoch;
    let mut bench = Bench::new();
    let (device, other) = (bench.ca.device("pi-1"), bench.ca.device("pi-2"));
    let owner = device.owner();
    let begin = |bench: &mut Bench, device: &Device, ms: i64| {
        assert_eq!(bench.take(device, &device.hello(1), ms), None);
        assert_eq!(bench.take(device, &device.declaration(3, "imu", &numbers()), ms), None);
        assert_eq!(bench.take(device, &device.batch(vec![number_rows(3, 0, 10)]), ms), None);
    };
    begin(&mut bench, &device, 0);
    begin(&mut bench, &other, 0);
    bench.acks(1_000);
    assert_eq!(bench.receiver.landed_set().durable_upto(&owner, StreamId(3)), 10);
    let invent = |bench: &mut Bench, n: u64, ms: i64| {
        let sent = Sent { boot_ordinal: 1, ns: 1 };
        let probe = Unsigned::new(MessageKind::Probe, &device.path, Epoch(1_000 + n), &[]).unwrap();
        assert_eq!(bench.take(&device, &probe.sign(sent, &device.key), ms), None);
    };
    let max = EPOCHS_PER_DEVICE_MAX as u64;
    for n in 0..max - 1 {
        invent(&mut bench, n, 2_000);
    }
    assert_eq!(bench.receiver.epochs_forgotten(), 0);
    assert_eq!(bench.receiver.landed_set().durable_upto(&owner, StreamId(3)), 10);
    for n in max..1_000 {
        invent(&mut bench, n, 2_000);
    }
    assert_eq!(bench.receiver.epochs_forgotten(), 1_000 - max);
    assert_eq!(bench.receiver.desk.outboxes(), EPOCHS_PER_DEVICE_MAX + 1, "the other device has its own");
    assert_eq!(bench.receiver.landed_set().durable_upto(&owner, StreamId(3)), 0, "forgotten");
    assert_eq!(bench.receiver.landed_set().durable_upto(&other.owner(), StreamId(3)), 10);
    bench.acks(9_000);
    // It comes back: asked for a hello and its declaration, and all is as it was.
    assert_eq!(bench.take(&device, &device.batch(vec![number_rows(3, 10, 10)]), 20_000), None);
    let acks = bench.acks(20_000);
    assert!(
        acks.iter().any(|ack| ack.need_hello && ack.need_schema == [(StreamId(3), numbers().fingerprint())])
    );
    assert_eq!(bench.take(&device, &device.hello(2), 20_100), None);
    assert_eq!(bench.take(&device, &device.declaration(3, "imu", &numbers()), 20_200), None);
    assert_eq!(bench.receiver.landed_set().durable(&owner, StreamId(3)), std::iter::once(10..20).collect());
    assert_eq!(bench.take(&device, &device.batch(vec![number_rows(3, 0, 10)]), 20_300), None);
    assert_eq!(
        bench.receiver.landed_set().durable_upto(&owner, StreamId(3)),
        20,
        "what it sent again counts"
    );
}

/// A token of one site's CA must not bring the key of another's gateway: names are reserved per CA only.
#[test]
fn a_second_key_of_a_name_by_another_ca_is_refused_until_the_first_is_revoked_or_over() {
    let mut bench = Bench::new();
    let (north, south) = (bench.ca.site("north"), bench.ca.site("south"));
    let genuine = north.device_until("pi-1", "acme", 2030);
    assert_eq!(bench.take(&genuine, &genuine.hello(1), 0), None);
    // Its own CA renews it; so does that CA with a key of its own that was renewed.
    let renewed = north.device("pi-1");
    assert_eq!(bench.take(&renewed, &renewed.hello(2), 10), None);
    let rekeyed = bench.ca.site("north").device("pi-1");
    assert_eq!(bench.take(&rekeyed, &rekeyed.hello(3), 20), None);
    bench.acks(100);
    let thief = south.device("pi-1");
    assert_eq!(bench.take(&thief, &thief.hello(9), 6_000), Some(RefusalKind::OtherCa));
    assert_eq!(
        bench.take(&thief, &thief.sign(MessageKind::Probe, &[]), 6_000),
        Some(RefusalKind::UnknownKey)
    );
    let told = bench.acks(6_000);
    let why = told.iter().find_map(|ack| ack.revoked.clone()).expect("its holder is told");
    assert!(why.contains("is of another CA than acme/pi-1's"), "{why}");
    assert_eq!(
        bench.take(&genuine, &genuine.sign(MessageKind::Probe, &[]), 6_010),
        None,
        "the first goes on"
    );
    // A stranger with that chain and no key is not answered at all.
    let mut forged = thief.hello(10);
    let n = forged.len() - 20;
    forged[n] ^= 1;
    let crc = crc32c::crc32c(&forged[..forged.len() - 4]).to_le_bytes();
    let n = forged.len() - 4;
    forged[n..].copy_from_slice(&crc);
    assert_eq!(bench.take(&thief, &forged, 6_020), Some(RefusalKind::BadSignature));
    // Moved in order: all of the north are revoked, then the south has the name.
    let list = north.revoke(&[&genuine, &renewed]);
    bench.receiver.registry().revoke(&list);
    assert_eq!(bench.take(&thief, &thief.hello(11), 12_000), Some(RefusalKind::OtherCa), "one is left");
    // By dates, on a registry of its own: the first one's certificate ends in 2030.
    let registry = Registry::new();
    let of = |device: &Device| {
        let roots = FleetRoots::new(std::slice::from_ref(&bench.ca.der)).unwrap();
        verify_chain(&device.chain, &roots, Role::Device, now(0).utc).unwrap()
    };
    assert_eq!(registry.other_ca(&of(&genuine), now(0).utc), None, "of a name nobody has");
    registry.insert_key(DeviceKey { signer: of(&genuine), chain: genuine.chain.clone(), seen: now(0).utc });
    let why = registry.other_ca(&of(&thief), now(0).utc).unwrap();
    assert!(why.contains("CN=south") && why.contains("CN=north") && why.contains("revoke that"), "{why}");
    assert!(why.starts_with(&format!("certificate {}", of(&thief).serial)), "{why}");
    let later = UtcNanos(2_000_000_000 * headwater_core::time::NS_PER_S);
    assert_eq!(registry.other_ca(&of(&thief), later), None, "the first has ended in 2030");
    // The root outranks both, and from then on neither counts.
    let of_root = bench.ca.device("pi-1");
    assert_eq!(bench.take(&of_root, &of_root.hello(12), 20_000), None);
    assert_eq!(
        bench.take(&rekeyed, &rekeyed.sign(MessageKind::Probe, &[]), 30_000),
        Some(RefusalKind::OtherCa)
    );
    assert_eq!(bench.take(&of_root, &of_root.sign(MessageKind::Probe, &[]), 30_010), None);
}
