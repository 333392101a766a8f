//! Numbers without holes, slabs within bounds, and a task that sheds only what it records.

use super::track::{Claim, TimeSource};
use super::*;
use crate::config::Retention;
use crate::receipt::Receipt;
use crate::spool::{SpoolHandle, SyncPolicy, TaskSettings};
use headwater_core::batch::{Rows, StreamRef};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootId, BootOrdinal, Epoch, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Clock, Cursor, Slab, SourceEvent, Spool, SpoolError, SpoolLane, SpoolUsage, SpooledSlab, StreamPolicy,
    StreamState,
};
use headwater_core::sample::{Blob, BlobRef, Reading, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};
use headwater_core::time::{BootNanos, ClockDomain, Grade, Latency, StampKind, UtcNanos};
use headwater_sim::clock::SimClock;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

fn name(text: &str) -> StreamName {
    text.parse().unwrap()
}

fn env() -> Schema {
    Schema {
        salt: 0,
        kind: "env".parse().unwrap(),
        modality: Modality::Scalars,
        time_exp: 3,
        fields: vec![Field {
            name: "x".parse().unwrap(),
            logical: Logical::U8,
            nullable: false,
            unit: "1".into(),
        }],
    }
}

fn reading(t: i64, x: i64) -> Reading {
    Reading {
        t: BootNanos(t),
        latency: Latency::at_most_ms(20),
        kind: StampKind::Arrival,
        domain: ClockDomain::BOOT,
        values: vec![Value::I64(x)],
        blob: None,
    }
}

proptest! {
    /// Seqs are dense over samples and gaps, stamps never go back, and the event interval stays the same.
    #[test]
    fn every_seq_is_a_sample_or_in_a_gap(steps in proptest::collection::vec((0_u8..4, 0_i64..400, -5_000_000_i64..50_000_000), 1..80)) {
        let mut stamper = Stamper::new(BootOrdinal(3));
        let stream = name("room");
        stamper.declare(&stream, StreamId(1), env(), Seq(10));
        let (mut next, mut t, mut newest) = (10, 1_000_000_000_i64, i64::MIN);
        for (what, x, dt) in steps {
            t += dt;
            if what == 0 {
                let rows = u64::try_from(x).unwrap();
                let record = stamper.lose(&stream, rows, GapCause::LinkCorrupt, BootNanos(t), String::new());
                prop_assert_eq!(record.is_some(), rows > 0);
                if let Some(record) = record {
                    prop_assert_eq!((record.seq_first, record.rows), (Seq(next), rows));
                    next = record.seq_last.0 + 1;
                }
                continue;
            }
            let before = reading(t, x);
            match stamper.stamp(&stream, before.clone(), before.t) {
                Ok((sample, moved)) => {
                    prop_assert!(x < 256);
                    prop_assert_eq!(sample.seq, Seq(next));
                    let (now, lat) = (sample.stamp.t.0, sample.stamp.latency);
                    prop_assert!(now >= newest);
                    prop_assert_eq!(moved, now != t);
                    prop_assert_eq!(now - i64::from(lat.lo_ns), t - i64::from(before.latency.lo_ns));
                    prop_assert_eq!(now - i64::from(lat.hi_ns), t - i64::from(before.latency.hi_ns));
                    newest = now;
                }
                Err(Refused::Unfit(record)) => {
                    prop_assert!(x >= 256);
                    prop_assert_eq!((record.seq_first, record.seq_last, record.cause), (Seq(next), Seq(next), GapCause::RejectedSchema));
                }
                Err(Refused::Undeclared) => prop_assert!(false, "declared above"),
            }
            next += 1;
        }
    }

    /// Slabs hold every sample once and in order, none longer than a second or larger than its bound.
    #[test]
    fn slabs_hold_everything_within_their_bounds(steps in proptest::collection::vec((0_u8..10, 0_i64..400, 0_usize..30_000), 1..120)) {
        let mut schema = env();
        schema.fields[0].logical = Logical::Utf8;
        let (mut stamper, mut builder) = (Stamper::new(BootOrdinal(1)), SlabBuilder::default());
        let stream = name("room");
        stamper.declare(&stream, StreamId(1), schema.clone(), Seq(0));
        let fingerprint = schema.fingerprint();
        let (mut t, mut slabs, mut sent) = (0, Vec::new(), 0);
        for (what, dt_ms, len) in steps {
            t += dt_ms * 1_000_000;
            let now = BootNanos(t);
            slabs.extend(builder.poll(now));
            if what == 0 {
                stamper.lose(&stream, 2, GapCause::Overrun, now, String::new());
                sent += 2;
            }
            let mut reading = reading(t, 0);
            reading.values = vec![Value::Utf8("x".repeat(len))];
            if what == 1 {
                reading.kind = StampKind::Instant;
            }
            let (sample, _) = stamper.stamp(&stream, reading, BootNanos(0)).unwrap();
            slabs.extend(builder.push(&sample, &schema, fingerprint, now));
            sent += 1;
            prop_assert!(builder.deadline().is_none_or(|due| due <= now.plus_ms(SLAB_MS_MAX)));
        }
        slabs.extend(builder.finish());
        prop_assert_eq!(builder.deadline(), None);
        let mut seen = IntervalSet::new();
        for slab in &slabs {
            let rows = &slab.rows;
            let seqs = rows.seqs();
            prop_assert!(seqs.start >= seen.end());
            seen.insert(seqs);
            let span = rows.t_ns(rows.len() - 1).unwrap() - rows.t_ns(0).unwrap();
            prop_assert!(span < 1_000_000_000);
            let bytes: usize = (0..rows.len()).map(|row| match rows.fields[0].value(row) {
                Value::Utf8(text) => text.len() + 32,
                _ => 0,
            }).sum();
            prop_assert!(bytes <= SLAB_BYTES_MAX || rows.len() == 1);
        }
        prop_assert!(seen.end() <= sent);
    }
}

#[test]
fn gaps_that_touch_become_one() {
    let mut stamper = Stamper::new(BootOrdinal(1));
    let mut queue = GapQueue::default();
    for stream in ["a", "b"] {
        stamper.declare(&name(stream), StreamId(1), env(), Seq(0));
    }
    for _ in 0..1_000 {
        for stream in ["a", "b"] {
            let record = stamper.lose(&name(stream), 1, GapCause::Overrun, BootNanos(1), "full".into());
            queue.push(record.unwrap());
        }
    }
    queue.push(stamper.lose(&name("a"), 1, GapCause::LinkCorrupt, BootNanos(1), "full".into()).unwrap());
    let records: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    let rows: Vec<(u64, u64, u64)> = records.iter().map(|r| (r.seq_first.0, r.seq_last.0, r.rows)).collect();
    assert_eq!(rows, [(0, 999, 1_000), (0, 999, 1_000), (1_000, 1_000, 1)]);
    assert!(queue.is_empty());
}

#[test]
fn rows_of_the_clock_fit_their_schema_and_claim_no_more_than_is_known() {
    let mut stamper = Stamper::new(BootOrdinal(1));
    stamper.declare(&name(builtin::CLOCK_STREAM), StreamId(1), builtin::clock(), Seq(0));
    let clock = headwater_core::time::ClockReading {
        b1: BootNanos(5),
        real: UtcNanos(6),
        b2: BootNanos(7),
        raw_ns: 8,
    };
    let claim = |source, half| Claim::new(source, half, Grade::Guaranteed, "as it says".into());
    let (utc, at) = (UtcNanos(9), BootNanos(4));
    let event = track::Event {
        kind: track::EventKind::Step,
        source: TimeSource::Nobody,
        at,
        real: utc,
        step_ns: Some(-3),
        detail: String::new(),
    };
    let rows = [
        track::boot(clock, BootId([7; 16]), true, Some(20_000)),
        track::sample(clock.into(), &claim(TimeSource::Timesyncd, Some(200_000_000)), Some(-23)),
        track::sample(clock.into(), &claim(TimeSource::Kernel, None), None),
        track::exchange(exchange()),
        track::edge(&track::Edge { at, utc, claim: claim(TimeSource::GpsPps, Some(50)) }),
        track::event(&event),
    ];
    let place = |field: &str| builtin::clock().fields.iter().position(|f| f.name.as_str() == field).unwrap();
    let at = |row: usize, field: &str| rows[row].values[place(field)].clone();
    assert_eq!(
        (at(0, "source"), at(0, "rho_ppb"), at(0, "grade")),
        (Value::I64(7), Value::I64(20_000), Value::I64(0))
    );
    assert_eq!((at(1, "half"), at(1, "freq_ppb")), (Value::I64(200_000_000), Value::I64(-23)));
    assert_eq!(at(1, "grade"), Value::I64(1), "timesyncd guarantees nothing");
    assert_eq!((at(2, "half"), at(2, "grade")), (Value::Null, Value::I64(0)));
    assert_eq!((at(3, "t3"), at(3, "grade"), at(3, "b1")), (Value::I64(3), Value::I64(2), Value::Null));
    assert_eq!(
        (at(4, "row_kind"), at(4, "b1"), at(4, "real")),
        (Value::I64(4), Value::I64(4), Value::I64(9))
    );
    assert_eq!((at(5, "event"), at(5, "step"), at(5, "half")), (Value::I64(0), Value::I64(-3), Value::Null));
    for row in rows {
        stamper.stamp(&name(builtin::CLOCK_STREAM), row, BootNanos(0)).unwrap();
    }
    let start = BootNanos(0);
    assert_eq!(track::next_sample(start, BootNanos(1)), BootNanos(16_000_000_001));
    assert_eq!(track::next_sample(start, BootNanos(600_000_000_000)), BootNanos(664_000_000_000));
}

fn exchange() -> crate::ship::ClockExchange {
    crate::ship::ClockExchange {
        boot_ordinal: BootOrdinal(1),
        t1: BootNanos(1),
        t2: UtcNanos(2),
        t3: UtcNanos(3),
        t4: BootNanos(4),
        e_c_ns: 9,
        grade: Grade::Guaranteed,
        source_id: u64::MAX,
    }
}

/// A spool in memory that can be made to hang, as a card does while it erases.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<(Mutex<Kept>, Condvar)>);

#[derive(Debug, Default)]
struct Kept {
    streams: Vec<StreamState>,
    slabs: Vec<Slab>,
    hangs: bool,
    refuse_blobs: bool,
    refuse_declarations: bool,
    /// What the spool has to tell, to whoever asks first.
    untold: Vec<GapRecord>,
}

impl Memory {
    fn hang(&self, hangs: bool) {
        self.0.0.lock().unwrap().hangs = hangs;
        self.0.1.notify_all();
    }

    fn slabs(&self, stream: &str) -> Vec<Rows> {
        let kept = self.0.0.lock().unwrap();
        let id = kept.streams.iter().find(|s| s.name.as_str() == stream).map(|s| s.id);
        let of = |slab: &&Slab| id.is_some_and(|id| slab.rows.stream == StreamRef::Id(id));
        kept.slabs.iter().filter(of).map(|slab| slab.rows.clone()).collect()
    }

    fn rows(&self, stream: &str) -> IntervalSet {
        self.slabs(stream).iter().map(Rows::seqs).collect()
    }

    fn gaps(&self) -> Vec<GapRecord> {
        let slabs = self.slabs(builtin::GAPS_STREAM);
        let rows = slabs.iter().flat_map(|rows| {
            (0..rows.len()).map(|row| rows.fields.iter().map(|field| field.value(row)).collect::<Vec<_>>())
        });
        rows.map(|values| GapRecord::from_values(&values).unwrap()).collect()
    }
}

impl Spool for Memory {
    fn epoch(&self) -> Epoch {
        Epoch(1)
    }
    fn declare(
        &mut self,
        name: &StreamName,
        schema: &Schema,
        policy: StreamPolicy,
    ) -> Result<StreamId, SpoolError> {
        let mut kept = self.0.0.lock().unwrap();
        if kept.refuse_declarations {
            return Err(SpoolError::Full { used: 1, budget: 1 });
        }
        if let Some(known) = kept.streams.iter_mut().find(|s| s.name == *name) {
            known.schema = schema.clone();
            return Ok(known.id);
        }
        let id = StreamId(u16::try_from(kept.streams.len() + 1).unwrap());
        kept.streams.push(StreamState {
            id,
            name: name.clone(),
            schema: schema.clone(),
            policy,
            next_seq: Seq(0),
            held: IntervalSet::new(),
            acked: IntervalSet::new(),
        });
        Ok(id)
    }
    fn streams(&self) -> Vec<StreamState> {
        self.0.0.lock().unwrap().streams.clone()
    }
    fn append(&mut self, slab: Slab) -> Result<(), SpoolError> {
        let mut kept = self.0.1.wait_while(self.0.0.lock().unwrap(), |kept| kept.hangs).unwrap();
        if slab.blob.is_some() && kept.refuse_blobs {
            return Err(SpoolError::Full { used: 1, budget: 1 });
        }
        let StreamRef::Id(id) = slab.rows.stream else { panic!("an id") };
        let stream = kept.streams.iter_mut().find(|s| s.id == id).unwrap();
        if stream.next_seq != slab.rows.first_seq {
            return Err(SpoolError::OutOfOrder {
                stream: id,
                found: slab.rows.first_seq,
                expected: stream.next_seq,
            });
        }
        stream.next_seq = Seq(slab.rows.seqs().end);
        stream.held.insert(slab.rows.seqs());
        kept.slabs.push(slab);
        Ok(())
    }
    fn skip(&mut self, stream: StreamId, n: u64) -> Result<(), SpoolError> {
        let mut kept = self.0.0.lock().unwrap();
        let stream = kept.streams.iter_mut().find(|s| s.id == stream).unwrap();
        stream.next_seq = stream.next_seq.plus(n);
        Ok(())
    }
    fn sync(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }
    fn read(&mut self, _: SpoolLane, _: Cursor, _: usize) -> Result<Vec<SpooledSlab>, SpoolError> {
        Ok(Vec::new())
    }
    fn trim(&mut self, _: StreamId, _: &IntervalSet) -> Result<(), SpoolError> {
        Ok(())
    }
    fn trim_older(&mut self, _: Epoch, _: StreamId, _: &IntervalSet) -> Result<(), SpoolError> {
        Ok(())
    }
    fn take_gaps(&mut self) -> Vec<GapRecord> {
        std::mem::take(&mut self.0.0.lock().unwrap().untold)
    }
    fn usage(&self) -> SpoolUsage {
        SpoolUsage::default()
    }
}

struct World {
    memory: Memory,
    clock: SimClock,
    events: mpsc::Sender<Captured>,
    receipts: mpsc::Receiver<Receipt>,
    clock_rows: mpsc::Sender<Reading>,
    task: std::pin::Pin<Box<dyn Future<Output = Result<(), SpoolError>>>>,
    number: u64,
}

fn world() -> World {
    world_at(SimClock::start())
}

fn world_at(clock: SimClock) -> World {
    world_with(clock, Duration::from_millis(50))
}

fn world_with(clock: SimClock, receipt_interval: Duration) -> World {
    let memory = Memory::default();
    let sync = SyncPolicy { interval: Duration::from_millis(10), bytes: 1 << 20 };
    let settings = TaskSettings { sync, queue_bytes: 1 << 18 };
    let (spool, _thread) = SpoolHandle::start(memory.clone(), settings).unwrap();
    let (events, events_out) = mpsc::channel(64);
    let (clock_rows, clock_rows_out) = mpsc::channel(8);
    let (gaps_in, gaps) = mpsc::channel(8);
    let (receipts_in, receipts) = mpsc::channel(64);
    let task = run(StampTask {
        clock: clock.clone(),
        rtc: false,
        rho_ppb: None,
        spool,
        boot: BootOrdinal(4),
        boot_id: BootId([1; 16]),
        events: events_out,
        clock_rows: clock_rows_out,
        gaps,
        gaps_in,
        retentions: vec![(name("alarm"), Retention { alarm: true, ..Retention::default() })],
        receipts: vec![Some(receipts_in)],
        receipt_interval,
    });
    World { memory, clock, events, receipts, clock_rows, task: Box::pin(task), number: 0 }
}

impl World {
    fn give(&mut self, event: SourceEvent) {
        let captured = Captured { source: 0, number: self.number, event, room: None };
        self.number += 1;
        self.events.try_send(captured).unwrap();
    }

    fn stream(&mut self, stream: &str, schema: Schema) {
        self.give(SourceEvent::Stream { name: name(stream), schema });
    }

    /// Gives a reading of now; its boot time, ns.
    fn reading(&mut self, stream: &str, x: i64) -> i64 {
        let t = self.clock.boot().0;
        self.give(SourceEvent::Reading { stream: name(stream), reading: reading(t, x) });
        t
    }

    fn picture(&mut self, stream: &str, bytes: usize) {
        let bytes = vec![7; bytes];
        let values = vec![
            BlobRef::to(&bytes).to_value(),
            Value::Utf8("image/jpeg".into()),
            Value::I64(1),
            Value::I64(1),
            Value::Null,
        ];
        let blob = Some(Blob { mime: "image/jpeg".into(), bytes: bytes.into() });
        let reading = Reading { values, blob, ..reading(self.clock.boot().0, 0) };
        self.give(SourceEvent::Reading { stream: name(stream), reading });
    }

    /// Lets the task work until what it was given is taken, and `ms` more pass.
    async fn work(&mut self, ms: u64) {
        while self.events.capacity() < self.events.max_capacity() {
            self.pass(1).await;
        }
        self.pass(ms).await;
    }

    async fn pass(&mut self, ms: u64) {
        let until = self.clock.boot().plus_ms(ms);
        tokio::select! {
            biased;
            done = &mut self.task => panic!("ended early: {done:?}"),
            () = self.clock.sleep_until(until) => {}
        }
    }

    async fn end(self) -> Memory {
        let World { events, task, memory, .. } = self;
        drop(events);
        task.await.unwrap();
        memory
    }
}

#[tokio::test]
async fn shutdown_drains() {
    let mut world = world();
    world.stream("room", env());
    for x in 0..40 {
        world.reading("room", x);
    }
    let memory = world.end().await;
    assert_eq!(memory.rows("room"), IntervalSet::below(40));
    assert!(memory.gaps().is_empty());
}

/// A full card refuses a new stream's declaration. An agent that ends there is started again, meets the same
/// declaration and ships nothing of what fills the card.
#[tokio::test]
async fn a_declaration_without_room_waits_for_room_and_ends_nothing() {
    let mut world = world();
    world.stream("room", env());
    world.reading("room", 1);
    world.work(1_100).await;
    world.memory.0.0.lock().unwrap().refuse_declarations = true;
    let mut changed = env();
    changed.fields[0].logical = Logical::I64;
    world.stream("room", changed);
    world.stream("hall", env());
    world.reading("room", 2);
    world.reading("hall", 2);
    world.work(6_000).await;
    world.reading("room", 3);
    world.work(100).await;
    world.memory.0.0.lock().unwrap().refuse_declarations = false;
    world.reading("hall", 4);
    world.work(6_000).await;
    world.reading("room", 5_000);
    world.reading("hall", 5);
    let memory = world.end().await;
    assert_eq!(memory.rows("hall").count(), 2, "asked again after five seconds");
    assert_eq!(memory.rows("room").iter().collect::<Vec<_>>(), [0..1, 3..4]);
    let told: Vec<_> = memory.gaps().into_iter().map(|g| (g.seq_first.0, g.rows, g.cause)).collect();
    assert_eq!(told, [(1, 1, GapCause::EvictedDiskFull), (2, 1, GapCause::EvictedDiskFull)]);
}

#[tokio::test]
async fn the_clock_is_recorded_at_start_and_as_the_observer_says() {
    let mut world = world();
    world.clock_rows.send(track::exchange(exchange())).await.unwrap();
    while world.clock_rows.capacity() < world.clock_rows.max_capacity() {
        world.pass(1).await;
    }
    let memory = world.end().await;
    let kinds: Vec<Value> = memory
        .slabs(builtin::CLOCK_STREAM)
        .iter()
        .flat_map(|rows| (0..rows.len()).map(|row| rows.fields[0].value(row)))
        .collect();
    assert_eq!(kinds, [Value::I64(0), Value::I64(2)]);
}

/// A gateway without a battery: its wall clock is wrong by half a century, and no capture depends on it.
#[tokio::test]
async fn captures_under_a_clock_of_1970_are_spooled_with_boot_time_and_claim_order_only() {
    let (boot, real) = (BootNanos(10_000_000_000), UtcNanos(7_000_000_000));
    let mut world = world_at(SimClock::new(boot, real));
    world.stream("room", env());
    world.stream("camera", builtin::image());
    let mut stamps = Vec::new();
    for x in 0..20 {
        stamps.push(world.reading("room", x));
        world.work(5).await;
    }
    world.picture("camera", 900);
    world.work(5).await;
    // What happens when the network comes: the wall clock leaps, the stamps go on.
    world.clock.set_utc(UtcNanos(1_790_000_000_000_000_000));
    stamps.push(world.reading("room", 20));
    let memory = world.end().await;
    assert_eq!((memory.rows("room"), memory.rows("camera")), (IntervalSet::below(21), IntervalSet::below(1)));
    assert!(memory.gaps().is_empty());
    let slabs = memory.slabs("room");
    let unit = 10_i64.pow(env().time_exp.into());
    let found: Vec<i64> =
        slabs.iter().flat_map(|rows| (0..rows.len()).filter_map(|r| rows.t_ns(r))).collect();
    let wanted: Vec<i64> = stamps.iter().map(|t| t / unit * unit).collect();
    assert_eq!(found, wanted, "stamped on the boot line");
    assert!(slabs.iter().all(|rows| rows.domain == ClockDomain::BOOT && rows.boot_ordinal == BootOrdinal(4)));

    // What goes to the collector of this clock: as it was, bounded by nothing.
    let place = |field: &str| builtin::clock().fields.iter().position(|f| f.name.as_str() == field).unwrap();
    let tracks = memory.slabs(builtin::CLOCK_STREAM);
    let row = |field: &str| -> Vec<Value> {
        tracks.iter().flat_map(|rows| (0..rows.len()).map(|r| rows.fields[place(field)].value(r))).collect()
    };
    assert_eq!(row("row_kind"), [Value::I64(0)], "the opening row");
    assert_eq!(row("grade"), [Value::I64(0)]);
    assert_eq!(row("half"), [Value::Null]);
    for real in row("real") {
        let Value::I64(ns) = real else { panic!("{real:?}") };
        assert!((7_000_000_000..8_000_000_000).contains(&ns), "{ns}");
    }
}

#[tokio::test]
async fn what_is_lost_before_the_stamp_takes_its_seqs_and_is_told() {
    let mut world = world();
    world.stream("room", env());
    world.reading("room", 1);
    let (at, note) = (world.clock.boot(), "torn".to_owned());
    world.give(SourceEvent::Lost { stream: name("room"), rows: 5, cause: GapCause::LinkCorrupt, at, note });
    world.reading("room", 300);
    world.reading("room", 2);
    world.reading("nobody", 2);
    let memory = world.end().await;
    assert_eq!(memory.rows("room").iter().collect::<Vec<_>>(), [0..1, 7..8]);
    let gaps: Vec<_> = memory.gaps().iter().map(|g| (g.seq_first.0, g.seq_last.0, g.cause)).collect();
    assert_eq!(gaps, [(1, 5, GapCause::LinkCorrupt), (6, 6, GapCause::RejectedSchema)]);
}

#[tokio::test]
async fn a_hanging_disk_sheds_slabs_and_every_shed_row_is_in_a_gap() {
    let mut world = world();
    world.stream("cam", builtin::image());
    world.stream("room", env());
    world.work(5).await;
    world.memory.hang(true);
    // Far more than the queue's 256 KiB, so that most of it finds no room; nothing waits for the disk.
    for _ in 0..20 {
        world.picture("cam", 40_000);
        world.work(1).await;
    }
    world.memory.hang(false);
    world.work(50).await;
    world.picture("cam", 100);
    let memory = world.end().await;
    let mut told = memory.rows("cam");
    let rows = told.count();
    assert!((2..21).contains(&rows), "{rows} rows got through");
    for gap in memory.gaps() {
        assert_eq!((gap.stream.as_str(), gap.cause), ("cam", GapCause::Overrun));
        let seqs = gap.seq_first.0..gap.seq_last.0 + 1;
        assert!(told.present_in(seqs.clone()).is_empty(), "told once");
        told.insert(seqs);
    }
    assert_eq!(told, IntervalSet::below(21));
}

#[tokio::test]
async fn a_shed_tail_is_told_without_another_row() {
    let mut world = world();
    world.stream("cam", builtin::image());
    world.work(5).await;
    world.memory.hang(true);
    for _ in 0..20 {
        world.picture("cam", 40_000);
        world.work(1).await;
    }
    world.memory.hang(false);
    let memory = world.end().await;
    let told: u64 = memory.gaps().iter().map(|gap| gap.rows).sum();
    assert_eq!(memory.rows("cam").count() + told, 20);
}

/// Two ask the spool for its gap records: the keeper of receipts again and again, and the end. What the keeper had in its
/// hands when the end looked was in nobody's: the rows of a last slab could be missing without a word.
#[tokio::test]
async fn a_gap_record_in_the_keepers_hands_is_not_lost_at_the_end() {
    for round in 0..200 {
        let mut world = world_with(SimClock::start(), Duration::ZERO);
        world.stream("room", env());
        world.reading("room", 1);
        world.work(0).await;
        let (at, stream) = (world.clock.boot(), name("room"));
        world.memory.0.0.lock().unwrap().untold.push(GapRecord {
            stream,
            boot_ordinal: BootOrdinal(4),
            seq_first: Seq(7),
            seq_last: Seq(7),
            cause: GapCause::Overrun,
            stride: 0,
            phase: 0,
            rows: 1,
            bytes: 0,
            b_first: at,
            b_last: at,
            policy_version: 0,
            note: String::new(),
        });
        let gaps = world.end().await.gaps();
        let told: Vec<u64> = gaps.iter().map(|gap| gap.seq_first.0).collect();
        assert_eq!(told, [7], "round {round}");
    }
}

#[tokio::test]
async fn receipts_tell_what_is_on_disk_and_what_was_given_up() {
    let mut world = world();
    world.stream("cam", builtin::image());
    world.picture("cam", 100);
    world.work(1).await;
    let receipt = |receipt: Option<Receipt>| receipt.map(|receipt| (receipt.event, receipt.captured));
    async fn received(world: &mut World) -> Option<Receipt> {
        tokio::select! {
            done = &mut world.task => panic!("ended early: {done:?}"),
            receipt = world.receipts.recv() => receipt,
        }
    }
    assert_eq!(receipt(received(&mut world).await), Some((1, true)));
    world.memory.0.0.lock().unwrap().refuse_blobs = true;
    world.picture("cam", 100);
    assert_eq!(receipt(received(&mut world).await), Some((2, false)), "the spool was full");
    let (at, note) = (world.clock.boot(), "cut off".to_owned());
    let (rows, cause) = (1, GapCause::RejectedQuarantine);
    world.give(SourceEvent::Lost { stream: name("cam"), rows, cause, at, note });
    assert_eq!(receipt(received(&mut world).await), Some((3, true)), "its gap record is on disk");
    let memory = world.end().await;
    let gaps: Vec<_> = memory.gaps().iter().map(|g| (g.seq_first.0, g.cause)).collect();
    assert!(
        gaps.contains(&(1, GapCause::EvictedDiskFull)) && gaps.contains(&(2, GapCause::RejectedQuarantine)),
        "{gaps:?}"
    );
}

#[tokio::test]
async fn a_changed_schema_begins_another_slab_and_goes_on_numbering() {
    let mut world = world();
    world.stream("room", env());
    world.reading("room", 1);
    let mut wider = env();
    wider.fields[0].logical = Logical::U32;
    world.stream("room", wider.clone());
    world.reading("room", 70_000);
    let memory = world.end().await;
    let slabs = memory.slabs("room");
    assert_eq!(slabs.iter().map(Rows::seqs).collect::<Vec<_>>(), [0..1, 1..2]);
    assert_eq!(slabs[1].fingerprint, wider.fingerprint());
    let states: BTreeMap<_, _> =
        memory.streams().into_iter().map(|s| (s.name.to_string(), s.policy.lane)).collect();
    assert_eq!(states["hw/clock"], SpoolLane::Control);
    assert_eq!(states["room"], SpoolLane::Telemetry);
}

/// What is worth an alarm waits for no company, neither in a slab nor for its sync.
#[tokio::test]
async fn rows_of_an_alarm_go_at_once() {
    let mut world = world();
    for stream in ["alarm", "room"] {
        world.stream(stream, env());
        world.reading(stream, 1);
        world.reading(stream, 2);
    }
    let memory = world.end().await;
    let seqs = |stream: &str| memory.slabs(stream).iter().map(Rows::seqs).collect::<Vec<_>>();
    assert_eq!(seqs("alarm"), [0..1, 1..2]);
    assert_eq!(seqs("room"), std::iter::once(0..2).collect::<Vec<_>>());
    let alarm = memory.streams().into_iter().find(|s| s.name.as_str() == "alarm").unwrap();
    assert_eq!(alarm.policy, SpoolLane::Control.into());
}

#[test]
fn rows_of_a_devices_clock_keep_the_time_of_their_arrival_and_old_clocks_are_forgotten() {
    let mut stamper = Stamper::new(BootOrdinal(3));
    let stream = name("imu");
    stamper.declare(&stream, StreamId(4), env(), Seq(0));
    let (_, schema, fingerprint) = stamper.stream(&stream).unwrap();
    let mut builder = SlabBuilder::default();
    let mut slabs = Vec::new();
    for n in 1..=3_000_i64 {
        // Each restart of the board is another clock, which begins at 0.
        let domain = ClockDomain(u32::try_from(n / 100).unwrap() + 1);
        let came = BootNanos(1_000_000_000_000 + n * 1_000_000);
        let of = Reading { domain, ..reading(n % 100 * 1_000_000, 1) };
        let (sample, moved) = stamper.stamp(&stream, of, came).unwrap();
        assert!(!moved, "clocks do not order each other");
        slabs.extend(builder.push(&sample, &schema, fingerprint, came));
    }
    slabs.extend(builder.finish());
    assert_eq!(slabs.len(), 31);
    for slab in &slabs {
        let (first, last) = slab.span().unwrap();
        assert!(first.0 > 1_000_000_000_000 && last.since(first) == (slab.rows.len() as i64 - 1) * 1_000_000);
        assert_eq!(slab.time(), Some((BootOrdinal(3), last)));
    }
    // A row that does not fit is told in boot time, not in the board's.
    let unfit = Reading { domain: ClockDomain(99), ..reading(5, 9_999) };
    let Err(Refused::Unfit(record)) = stamper.stamp(&stream, unfit, BootNanos(77)) else {
        panic!("it does not fit")
    };
    assert_eq!((record.b_first, record.b_last), (BootNanos(77), BootNanos(77)));
}

#[tokio::test]
async fn what_is_learned_of_a_devices_clock_is_a_row_of_hw_clock() {
    use headwater_core::ports::{DeviceClockEvent, DeviceExchange};
    let mut world = world();
    let domain = ClockDomain(7);
    let at = world.clock.boot();
    world.give(SourceEvent::DeviceClock(DeviceClockEvent::Begins { domain, at, detail: "a board".into() }));
    world.give(SourceEvent::DeviceClock(DeviceClockEvent::Met(DeviceExchange {
        domain,
        t1: at,
        t2_ns: 5,
        t3_ns: 6,
        t4: at,
        w_ping_ns: 0,
        w_pong_ns: 0,
        rho_ppb: 50_000,
        grade: Grade::Guaranteed,
        detail: String::new(),
    })));
    world.work(5).await;
    let memory = world.end().await;
    let schema = builtin::clock();
    let place = schema.fields.iter().position(|field| field.name.as_str() == "domain").unwrap();
    let kinds: Vec<Value> = memory
        .slabs(builtin::CLOCK_STREAM)
        .iter()
        .flat_map(|rows| {
            (0..rows.len()).map(|row| (rows.fields[place].value(row), rows.fields[0].value(row)))
        })
        .filter_map(|(of, kind)| (of == Value::I64(7)).then_some(kind))
        .collect();
    assert_eq!(kinds, [Value::I64(3), Value::I64(5)], "an event, then an exchange");
}
