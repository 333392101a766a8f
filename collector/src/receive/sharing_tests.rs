//! Several receivers of one fleet, as a model: any delivery split, any crash, any move of leases, logs read late.
//!
//! What holds: what a device was told durable is in a synced log; the watermarks of one incarnation never go back;
//! and once things calm down every device is told that all of it is durable.

use super::*;
use crate::land::{CommitMark, LandingPosition, Span, read_back};
use crate::receive::acks::ClockQuality;
use crate::receive::receiver::{Receiver, ReceiverIdentity, Staged, Taken};
use crate::receive::testkit::{Ca, Device, now, number_rows, numbers};
use headwater_core::batch::{Limits, decode_batch};
use headwater_core::id::Seq;
use headwater_core::interval::IntervalSet;
use headwater_core::time::Grade;
use headwater_core::wire::object::{BlobObject, Part, object_id};
use headwater_core::wire::{Ack, Envelope, MessageKind};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const QUALITY: ClockQuality = ClockQuality { e_c_ns: 5, grade: Grade::Estimated, source_id: 6 };
const ROWS: u64 = 24;
const STEP: u64 = 3;
const RECEIVERS: usize = 3;

struct Node {
    id: IncarnationId,
    receiver: Receiver,
    staged: Vec<Staged>,
    read: BTreeMap<IncarnationId, usize>,
}

struct Member {
    device: Device,
    nonce: u8,
    waits: bool,
    said_ms: i64,
    peer: Option<IncarnationId>,
    wants_hello: bool,
    next: u64,
    /// As told by the present peer.
    durable: u64,
    told: BTreeMap<IncarnationId, u64>,
}

struct World {
    ca: Ca,
    mode: Mode,
    nodes: Vec<Node>,
    logs: BTreeMap<IncarnationId, Vec<Landed>>,
    members: Vec<Member>,
    /// Rows of each member in synced logs.
    synced: [IntervalSet; 2],
    /// Whose shards the members are, in mode `Shards`.
    holder: Vec<usize>,
    lives: u8,
    ms: i64,
}

impl World {
    fn new(mode: Mode) -> Self {
        let ca = Ca::new();
        let members = (0..2).map(|n| Member {
            device: ca.device(&format!("pi-{n}")),
            nonce: 0,
            waits: false,
            said_ms: -60_000,
            peer: None,
            wants_hello: true,
            next: 0,
            durable: 0,
            told: BTreeMap::new(),
        });
        let members = members.collect();
        let mut world = Self {
            ca,
            mode,
            nodes: Vec::new(),
            logs: BTreeMap::new(),
            members,
            synced: [IntervalSet::new(), IntervalSet::new()],
            holder: vec![0, 1],
            lives: 0,
            ms: 0,
        };
        for _ in 0..RECEIVERS {
            let node = world.born();
            world.nodes.push(node);
        }
        (0..RECEIVERS).for_each(|n| world.stand(n));
        world
    }

    fn born(&mut self) -> Node {
        self.lives += 1;
        let id = IncarnationId([self.lives; 16]);
        let (key, chain) = self.ca.collector();
        let identity =
            ReceiverIdentity { incarnation: id, key: Arc::new(key.into()), chain, software: "test".into() };
        let mut receiver = Receiver::new(self.ca.admission(), identity, &CommitMark::default());
        if self.mode == Mode::Group {
            receiver = receiver.in_group();
        }
        let mut read = BTreeMap::new();
        for (log, records) in &self.logs {
            records.iter().for_each(|record| assert!(receiver.replay(record)));
            read.insert(*log, records.len());
        }
        self.logs.insert(id, Vec::new());
        Node { id, receiver, staged: Vec::new(), read }
    }

    fn stand(&mut self, n: usize) {
        let standing = match self.mode {
            Mode::Group => Standing::Group(self.nodes.iter().map(|node| node.id).collect()),
            Mode::Shards => {
                let mine = self.members.iter().zip(&self.holder).filter(|(_, holder)| **holder == n);
                Standing::Shards(mine.map(|(member, _)| member.device.path.shard()).collect())
            }
        };
        self.nodes[n].receiver.stand(standing);
    }

    fn crash(&mut self, n: usize) {
        self.nodes[n] = self.born();
        self.stand(n);
    }

    fn keep(&mut self, n: usize, taken: Taken) {
        if let Taken::Land(staged) = taken {
            self.nodes[n].staged.push(*staged);
        }
    }

    /// A member says what it has to say, and receiver `n` (or the holder of its shard) hears it.
    fn send(&mut self, m: usize, n: usize) {
        let n = if self.mode == Mode::Shards { self.holder[m] } else { n };
        let member = &mut self.members[m];
        let message = if member.wants_hello && self.ms - member.said_ms >= 5_000 {
            member.nonce += 1;
            (member.waits, member.said_ms, member.peer) = (true, self.ms, None);
            member.wants_hello = false;
            member.device.hello(member.nonce)
        } else if member.waits {
            // The answer may be lost with its receiver.
            member.wants_hello = self.ms - member.said_ms >= 5_000;
            return;
        } else if member.peer.is_none() {
            return;
        } else if member.next == 0 {
            member.next = 1;
            member.device.declaration(1, "imu", &numbers())
        } else {
            // Goes round over what is not durable: the new and the resent alike.
            let first = member.durable + (member.next * STEP) % (ROWS - member.durable).max(1);
            member.next += 1;
            if first >= ROWS {
                return;
            }
            member.device.batch(vec![number_rows(1, first, STEP.min(ROWS - first))])
        };
        let topic = member.device.topic();
        let taken = self.nodes[n].receiver.take(&topic, &message, now(self.ms));
        self.keep(n, taken);
    }

    fn sync(&mut self, n: usize) {
        let ms = self.ms;
        let node = &mut self.nodes[n];
        let log = self.logs.get_mut(&node.id).unwrap();
        let (mut notes, mut spans) = (Vec::new(), Vec::new());
        for staged in std::mem::take(&mut node.staged) {
            let at = |offset| LandingPosition { incarnation: node.id, segment: 0, offset };
            let span = Span { position: at(log.len() as u64), end: at(log.len() as u64 + 1) };
            let landed = read_back(&staged.record, span);
            if let Landed::Message(message) = &landed
                && message.kind == MessageKind::Batch
            {
                let envelope = Envelope::parse(&message.message).unwrap();
                let batch = decode_batch(envelope.body, &Limits::V1).unwrap();
                let m = usize::from(message.device.device.as_str() == "pi-1");
                batch.rows().for_each(|rows| self.synced[m].insert(rows.seqs()));
            }
            log.push(landed);
            notes.push(staged.note);
            spans.push(span);
        }
        node.receiver.synced(notes, &spans, now(ms).boot);
    }

    fn tail(&mut self, n: usize) {
        let at = now(self.ms);
        let mut taken = Vec::new();
        let node = &mut self.nodes[n];
        for (log, records) in self.logs.iter().filter(|(log, _)| **log != node.id) {
            let read = node.read.entry(*log).or_default();
            taken.extend(records[*read..].iter().filter_map(|record| node.receiver.tailed(record, at)));
            *read = records.len();
        }
        let more = node.receiver.unpen(at);
        taken.into_iter().map(Taken::Land).chain(more).for_each(|taken| self.keep(n, taken));
    }

    fn acks(&mut self, n: usize) {
        let from = self.nodes[n].id;
        for out in self.nodes[n].receiver.acks(QUALITY, now(self.ms)) {
            let m = usize::from(out.topic.ends_with("pi-1"));
            let ack = Ack::from_body(Envelope::parse(&out.payload).unwrap().body).unwrap();
            let upto = ack.streams.first().map(|stream| stream.durable_upto.0);
            if let Some(upto) = upto {
                assert!(self.synced[m].covers(0..upto), "told durable, and in no synced log");
                let told = self.members[m].told.entry(from).or_default();
                assert!(upto >= *told, "a watermark of one incarnation went back");
                *told = upto;
            }
            let member = &mut self.members[m];
            if member.waits {
                if ack.nonce == Some([member.nonce; 16]) {
                    (member.waits, member.peer) = (false, Some(from));
                    member.durable = upto.unwrap_or(0);
                    member.next = 0;
                }
            } else if member.peer == Some(from) {
                member.durable = member.durable.max(upto.unwrap_or(0));
                member.wants_hello |= ack.need_hello;
                if !ack.need_schema.is_empty() {
                    member.next = 0;
                }
            } else if member.peer.is_some() {
                member.wants_hello = true;
            }
        }
    }

    fn calm_down(&mut self) {
        let start = self.ms;
        while self.members.iter().any(|member| member.durable < ROWS) {
            assert!(self.ms - start < 120_000, "not all is durable after two calm minutes");
            self.ms += 100;
            for n in 0..RECEIVERS {
                self.stand(n);
                self.tail(n);
                let calls = usize::try_from(self.ms / 100).unwrap();
                if (calls + n).is_multiple_of(4) {
                    self.send(0, (calls / 4) % RECEIVERS);
                    self.send(1, (calls / 4 + 1) % RECEIVERS);
                }
                self.sync(n);
                self.acks(n);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send(usize, usize),
    Sync(usize),
    Tail(usize),
    Acks(usize),
    Crash(usize),
    Move(usize, usize),
    Learn(usize),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..RECEIVERS;
    prop_oneof![
        8 => (0..2_usize, n.clone()).prop_map(|(m, n)| Step::Send(m, n)),
        5 => n.clone().prop_map(Step::Sync),
        4 => n.clone().prop_map(Step::Tail),
        5 => n.clone().prop_map(Step::Acks),
        1 => n.clone().prop_map(Step::Crash),
        1 => (0..2_usize, n.clone()).prop_map(|(m, n)| Step::Move(m, n)),
        2 => n.prop_map(Step::Learn),
        3 => (10..3_000_i64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn receivers_that_share_a_fleet_tell_no_lies(
        group in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(if group { Mode::Group } else { Mode::Shards });
        for step in steps {
            match step {
                Step::Send(m, n) => world.send(m, n),
                Step::Sync(n) => world.sync(n),
                Step::Tail(n) => world.tail(n),
                Step::Acks(n) => world.acks(n),
                Step::Crash(n) => world.crash(n),
                Step::Move(m, n) => world.holder[m] = n,
                Step::Learn(n) => world.stand(n),
                Step::Wait(ms) => world.ms += ms,
            }
        }
        world.calm_down();
    }
}

#[test]
fn receiver_moves() {
    let mut world = World::new(Mode::Shards);
    world.calm_down();
    let hellos = world.members[0].nonce;
    assert_eq!(hellos, 1);
    // The shard moves to a receiver that has read the log of the first: its answer tells the same watermark.
    world.holder[0] = 2;
    for member in &mut world.members {
        member.durable = member.durable.min(ROWS - 1);
    }
    world.ms += 10_000;
    world.calm_down();
    let member = &world.members[0];
    assert_eq!((member.peer, member.durable), (Some(world.nodes[2].id), ROWS));
    assert_eq!(member.told[&world.nodes[2].id], ROWS);
    assert_eq!(member.nonce, 2, "asked once");
}

#[test]
fn a_group_finishes_objects_whose_parts_went_to_different_receivers() {
    let mut world = World::new(Mode::Group);
    world.calm_down();
    let bytes = vec![7_u8; 3_000];
    let object = BlobObject {
        stream: headwater_core::id::StreamId(1),
        seq: Seq(0),
        reference: headwater_core::sample::BlobRef::to(&bytes),
        mime: "image/jpeg",
        bytes: bytes.as_slice().into(),
    }
    .to_bytes();
    let id = object_id(&object);
    let topic = world.members[0].device.topic();
    for (n, chunk) in object.chunks(1_200).enumerate() {
        let part =
            Part { object: id, total_len: object.len() as u64, offset: n as u64 * 1_200, bytes: chunk };
        let message = world.members[0].device.sign(MessageKind::Part, &part.to_body());
        let taken = world.nodes[n % RECEIVERS].receiver.take(&topic, &message, now(world.ms));
        world.keep(n % RECEIVERS, taken);
    }
    for _ in 0..3 {
        (0..RECEIVERS).for_each(|n| world.sync(n));
        (0..RECEIVERS).for_each(|n| world.tail(n));
    }
    let blobs = world.logs.values().flatten().filter(|landed| matches!(landed, Landed::Blob(_))).count();
    assert_eq!(blobs, 1, "put together once, by the one that speaks to the device");
}
