//! A fleet that comes back all at once, against the real receiver: a broker that is a queue, and devices that are
//! a backlog with the agent's rules for credit (asked again after 30 s without, unless told to wait).

use super::*;
use crate::receive::testkit::{Ca, Device, now, numbers, rows};
use crate::receive::{CREDIT_BYTES_MIN, QuotaSettings};
use headwater_core::batch::Column;
use headwater_core::id::BootId;
use headwater_core::id::BootOrdinal;
use headwater_core::time::Grade;
use headwater_core::wire::{Capabilities, Hello, HelloStream};
use std::collections::VecDeque;
use std::sync::Arc;

const DEVICES: usize = 1000;
const MESSAGES: u64 = 6;
const ROWS: u64 = 1000;
const TICK_MS: i64 = 20;
/// Messages the collector takes in a tick.
const TAKEN: usize = 40;
const STALL_MS: i64 = 30_000;
const QUALITY: ClockQuality = ClockQuality { e_c_ns: 5, grade: Grade::Estimated, source_id: 6 };

struct Member {
    device: Device,
    batch_bytes: u64,
    sent_bytes: u64,
    limit: u64,
    next: u64,
    durable: u64,
    stalls_at: i64,
    hellos: u32,
    waits: u32,
}

impl Member {
    fn hello(&mut self, ms: i64) -> Vec<u8> {
        (self.sent_bytes, self.limit, self.next) = (0, 0, self.durable);
        self.stalls_at = ms + STALL_MS;
        self.hellos += 1;
        let stream = HelloStream {
            id: StreamId(1),
            next_seq: Seq(MESSAGES * ROWS),
            oldest_held: Seq(self.durable),
            unacked: vec![],
        };
        let hello = Hello {
            boot_ordinal: BootOrdinal(1),
            boot_id: BootId([2; 16]),
            capabilities: Capabilities::ours("test"),
            message_bytes_max: 16 << 10,
            streams: vec![stream],
            chain: self.device.chain.clone(),
            nonce: [7; 16],
        };
        self.device.sign_at(MessageKind::Hello, &hello.to_body(), ms * 1_000_000)
    }

    fn batch(&self, ms: i64) -> Vec<u8> {
        let value = |i: u64| i64::try_from(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8).unwrap();
        let values = (self.next..self.next + ROWS).map(value).collect();
        let rows = rows(1, &numbers(), self.next, vec![Column::integers(values)]);
        let body = headwater_core::batch::encode_batch(
            &[headwater_core::batch::Section::Rows(rows)],
            headwater_core::batch::Effort::Spool,
        );
        self.device.sign_at(MessageKind::Batch, &body, ms * 1_000_000)
    }
}

#[test]
fn thundering_herd() {
    let ca = Ca::new();
    let (key, chain) = ca.collector();
    let identity = ReceiverIdentity {
        incarnation: IncarnationId([1; 16]),
        key: Arc::new(key.into()),
        chain,
        software: "test".into(),
    };
    let mut receiver = Receiver::new(ca.admission(), identity, &CommitMark::default())
        .with_credit(CREDIT_BYTES_MIN, QuotaSettings::default());
    let mut broker: VecDeque<(usize, bool, Vec<u8>)> = VecDeque::new();
    let (mut data_bytes, mut data_peak, mut end) = (0, 0, 0);
    let mut members: Vec<Member> = (0..DEVICES)
        .map(|n| Member {
            device: ca.device(&format!("pi-{n}")),
            batch_bytes: 0,
            sent_bytes: 0,
            limit: 0,
            next: 0,
            durable: 0,
            stalls_at: 0,
            hellos: 0,
            waits: 0,
        })
        .collect();
    let topics: Vec<String> = members.iter().map(|member| member.device.topic()).collect();
    let control = |topic: &String| format!("{}0", &topic[..topic.len() - 1]);
    for (n, member) in members.iter_mut().enumerate() {
        let hello = member.hello(0);
        broker.push_back((n, false, hello));
        let declaration = member.device.declaration(1, "imu", &numbers());
        broker.push_back((n, false, declaration));
    }
    let mut ms = 1;
    while members.iter().any(|member| member.durable < MESSAGES * ROWS) {
        assert!(ms < 600_000, "not caught up after ten minutes");
        let (mut notes, mut spans) = (Vec::new(), Vec::new());
        for _ in 0..TAKEN {
            let Some((n, data, message)) = broker.pop_front() else { break };
            let topic = if data { topics[n].clone() } else { control(&topics[n]) };
            data_bytes -= if data { message.len() as u64 } else { 0 };
            if let Taken::Land(staged) = receiver.take(&topic, &message, now(ms)) {
                let at = |offset| LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset };
                notes.push(staged.note);
                spans.push(Span { position: at(end), end: at(end + 1) });
                end += 1;
            }
        }
        receiver.synced(notes, &spans, now(ms).boot);
        for out in receiver.acks(QUALITY, now(ms)) {
            let n: usize = out.topic.rsplit_once("pi-").unwrap().1.parse().unwrap();
            let member = &mut members[n];
            let ack = Ack::from_body(Envelope::parse(&out.payload).unwrap().body).unwrap();
            if let Some(stream) = ack.streams.first() {
                member.durable = member.durable.max(stream.durable_upto.0);
            }
            if let Some(credit) = ack.credit {
                assert!(credit >= member.limit, "credit went back");
                member.stalls_at = if credit > member.limit { ms + STALL_MS } else { member.stalls_at };
                member.limit = credit;
            }
            if let Some(wait) = ack.wait {
                member.stalls_at = ms + i64::from(wait.for_ms) + STALL_MS;
                member.waits += 1;
            }
        }
        for (n, member) in members.iter_mut().enumerate() {
            while member.next < MESSAGES * ROWS && member.sent_bytes + member.batch_bytes <= member.limit {
                let message = member.batch(ms);
                let bytes = message.len() as u64;
                member.batch_bytes = member.batch_bytes.max(bytes);
                if member.sent_bytes + bytes > member.limit {
                    break;
                }
                assert!(bytes < 16 << 10);
                member.sent_bytes += bytes;
                member.next += ROWS;
                data_bytes += bytes;
                broker.push_back((n, true, message));
            }
            if member.next < MESSAGES * ROWS && ms >= member.stalls_at {
                let hello = member.hello(ms);
                broker.push_back((n, false, hello));
            }
        }
        data_peak = data_peak.max(data_bytes);
        ms += TICK_MS;
    }
    let state = receiver.credit().state();
    assert!(data_peak <= CREDIT_BYTES_MIN, "{data_peak} bytes of data lay in the broker");
    assert!(state.peak <= CREDIT_BYTES_MIN && state.counters.late < CREDIT_BYTES_MIN / 8, "{state:?}");
    assert!(ms < 20_000, "{ms} ms for 48 MB at 16 MB/s");
    let hellos: u32 = members.iter().map(|member| member.hellos).sum();
    assert_eq!(hellos, u32::try_from(DEVICES).unwrap(), "nobody asked anew for lack of credit");
    assert!(members.iter().map(|member| member.waits).sum::<u32>() > 0, "the pool was short");
    assert!(receiver.staging().cost() == 0);
}

fn receiver_of(ca: &Ca, life: u8) -> Receiver {
    let (key, chain) = ca.collector();
    let identity = ReceiverIdentity {
        incarnation: IncarnationId([life; 16]),
        key: Arc::new(key.into()),
        chain,
        software: "test".into(),
    };
    Receiver::new(ca.admission(), identity, &CommitMark::default())
}

/// Parts of many objects at once fill the broker's window with first parts; settled once staged, they all go on.
#[test]
fn staging_no_deadlock() {
    const OBJECTS: usize = 500;
    const WINDOW: usize = 128;
    let ca = Ca::new();
    let mut receiver = receiver_of(&ca, 1);
    let devices: Vec<Device> = (0..OBJECTS).map(|n| ca.device(&format!("pi-{n}"))).collect();
    let mut waiting = VecDeque::new();
    let objects: Vec<Vec<u8>> = (0..OBJECTS as u64)
        .map(|n| {
            let bytes = vec![n.to_le_bytes()[0]; 3_000];
            let reference = headwater_core::sample::BlobRef::to(&bytes);
            let bytes = bytes.as_slice().into();
            let (stream, seq, mime) = (StreamId(1), Seq(n), "image/jpeg");
            headwater_core::wire::object::BlobObject { stream, seq, reference, mime, bytes }.to_bytes()
        })
        .collect();
    for device in &devices {
        waiting.push_back((device, device.hello(1)));
    }
    for part in 0..4_usize {
        for (device, object) in devices.iter().zip(&objects) {
            let chunk = object.chunks(object.len().div_ceil(4)).nth(part).unwrap();
            let body = Part {
                object: headwater_core::wire::object::object_id(object),
                total_len: object.len() as u64,
                offset: (part * object.len().div_ceil(4)) as u64,
                bytes: chunk,
            };
            waiting.push_back((device, device.sign(MessageKind::Part, &body.to_body())));
        }
    }
    let mut blobs = 0;
    let mut window = VecDeque::new();
    while !waiting.is_empty() || !window.is_empty() {
        while window.len() < WINDOW && !waiting.is_empty() {
            window.extend(waiting.pop_front());
        }
        // Whatever becomes of it, its place in the window is free after this.
        let (device, message) = window.pop_front().unwrap();
        if let Taken::Land(staged) = receiver.take(&device.topic(), &message, now(1)) {
            blobs += usize::from(matches!(staged.record, LandRecord::Blob(_)));
        }
    }
    assert_eq!((blobs, receiver.staging().cost(), receiver.staging().dropped()), (OBJECTS, 0, 0));
}

/// What was synced and not acked is durable to the next life, and a resend of it is answered as known.
#[test]
fn collector_kill9_between_fsync_and_ack() {
    let ca = Ca::new();
    let device = ca.device("pi-1");
    let mut receiver = receiver_of(&ca, 1);
    let batch = device.batch(vec![crate::receive::testkit::number_rows(1, 0, 5)]);
    let messages = [device.hello(1), device.declaration(1, "imu", &numbers()), batch.clone()];
    let mut log = Vec::new();
    for (message, n) in messages.iter().zip(0_u64..) {
        let Taken::Land(staged) = receiver.take(&device.topic(), message, now(0)) else { panic!("lands") };
        let at = |offset| LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset };
        log.push(crate::land::read_back(&staged.record, Span { position: at(n), end: at(n + 1) }));
    }
    drop(receiver);
    let mut receiver = receiver_of(&ca, 2);
    assert!(log.iter().all(|landed| receiver.replay(landed)));
    let mut acks = |message: &[u8], ms| {
        receiver.take(&device.topic(), message, now(ms));
        let out = receiver.acks(QUALITY, now(ms));
        Ack::from_body(Envelope::parse(&out[0].payload).unwrap().body).unwrap()
    };
    let known = acks(&batch, 10);
    assert_eq!((known.need_hello, known.streams[0].durable_upto), (true, Seq(5)));
    let answer = acks(&device.hello(2), 300);
    assert_eq!((answer.nonce, answer.streams[0].durable_upto), (Some([2; 16]), Seq(5)));
}
