//! A gateway: its card, its clock, what it captures, and the agent's shipping over the real spool.

use super::bind::{self, Boot, Shipping};
use super::card::{MemIndex, WorldSpool};
use super::director::Incident;
use super::fleet::fleet;
use super::link::{OnPuback, WatchedUplink};
use super::mutant::Mutant;
use super::oracle::{Oracle, key};
use super::plan::Shape;
use super::rows;
use headwater_agent::spool::{DiskSpool, Settings};
use headwater_agent::stamp::{GapQueue, track};
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch, Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Clock, Slab, Spool, SpoolError, SpoolLane};
use headwater_core::schema::{Schema, builtin};
use headwater_core::time::{BootNanos, UtcNanos};
use headwater_core::wire::Topic;
use headwater_sim::broker::SimBroker;
use headwater_sim::clock::SimClock;
use headwater_sim::disk::{Call, Dice, SimDisk};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

const DIR: &str = "/spool";
/// Boot time at which an agent starts, ns.
const STARTED_NS: i64 = 10_000_000_000;
/// A card of plenty, bytes.
const CARD_BYTES: u64 = 1 << 40;
/// Bytes of the smallest part a broker's limit may ask for.
const PART_BYTES_MIN: usize = 2_500;
/// Tries to open a spool on a disk that fails at times.
const OPENS_MAX: u32 = 8;
/// Streams of a gateway, by place in [`Life::ids`].
const CLOCK: usize = 0;
const GAPS: usize = 1;
const NUMBERS: usize = 2;
const PICTURES: usize = 3;
const ALARMS: usize = 4;
const ALARM: &str = "alarm";

fn streams() -> [(&'static str, Schema, SpoolLane); 5] {
    [
        (builtin::CLOCK_STREAM, builtin::clock(), SpoolLane::Control),
        (builtin::GAPS_STREAM, builtin::gaps(), SpoolLane::Control),
        ("numbers", rows::scalars(), SpoolLane::Telemetry),
        ("camera/front", builtin::image(), SpoolLane::Media),
        (ALARM, rows::scalars(), SpoolLane::Control),
    ]
}

/// One run of the agent.
struct Life {
    spool: WorldSpool,
    clock: SimClock,
    boot: BootOrdinal,
    ids: Vec<StreamId>,
    task: JoinHandle<()>,
    shipping: Shipping,
    gaps: GapQueue,
    syncs: u64,
}

/// What outlives the agent's runs.
pub(super) struct Gateway {
    place: usize,
    path: DevicePath,
    shape: Shape,
    world: SimClock,
    disk: SimDisk,
    index: MemIndex,
    clock: SimClock,
    boots: u8,
    dice: Dice,
    captures: u64,
    life: Option<Life>,
    epoch: Option<Epoch>,
    pub(super) oracle: Oracle,
    broker: SimBroker,
    mutant: Option<Mutant>,
    incidents: mpsc::Sender<Incident>,
    pub(super) starts: u64,
    /// Messages that what was captured needs at least.
    pub(super) payloads: u64,
}

/// What all gateways of a world share.
pub(super) struct Surroundings {
    pub(super) world: SimClock,
    pub(super) oracle: Oracle,
    pub(super) broker: SimBroker,
    pub(super) mutant: Option<Mutant>,
    pub(super) incidents: mpsc::Sender<Incident>,
}

fn name(text: &str) -> StreamName {
    text.parse().expect("a valid name")
}

impl Gateway {
    pub(super) fn new(place: usize, seed: u64, shape: &Shape, around: &Surroundings) -> Self {
        let path = fleet().gateways.get(place).map(|signer| signer.path.clone());
        let disk = SimDisk::new();
        disk.set_capacity(CARD_BYTES);
        Self {
            place,
            path: path.expect("a plan has no more gateways than the fleet"),
            shape: shape.clone(),
            world: around.world.clone(),
            disk,
            index: MemIndex::default(),
            clock: SimClock::new(BootNanos(STARTED_NS), around.world.utc()),
            boots: 1,
            dice: Dice::new(seed ^ (place as u64 + 1) << 32),
            captures: 0,
            life: None,
            epoch: None,
            oracle: around.oracle.clone(),
            broker: around.broker.clone(),
            mutant: around.mutant,
            incidents: around.incidents.clone(),
            starts: 0,
            payloads: 0,
        }
    }

    /// The name of its way to the broker.
    pub(super) fn road(&self) -> String {
        Topic::Ack(self.path.clone()).to_string()
    }

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    pub(super) fn clock(&self) -> &SimClock {
        &self.clock
    }

    pub(super) fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// The process is gone, as it stands.
    pub(super) fn stop(&mut self) {
        if let Some(life) = self.life.take() {
            life.task.abort();
            if life.task.is_finished() {
                self.oracle.violated(format!("shipping of {} ended by itself", self.path));
            }
            if life.shipping.status.borrow().restored_card {
                self.oracle.violated(format!("{} holds itself for a restored card", self.path));
            }
        }
    }

    /// The power is gone, and back.
    pub(super) fn lose_power(&mut self) {
        self.stop();
        self.disk = self.disk.crash(self.dice.roll());
        // A start on a full disk cannot write down what it found torn; that is the spool's own tests' matter.
        self.disk.set_capacity(CARD_BYTES);
        if self.shape.loses_index {
            self.index = MemIndex::default();
        }
        self.boots = self.boots.saturating_add(1);
        let utc = if self.dice.below(4) == 0 { UtcNanos(7_000_000_000) } else { self.world.utc() };
        self.clock = SimClock::new(BootNanos(STARTED_NS), utc);
    }

    /// Starts the agent.
    pub(super) fn start(&mut self) {
        if self.life.is_some() {
            return;
        }
        self.starts += 1;
        for _ in 0..OPENS_MAX {
            match self.try_start() {
                Ok(()) => return,
                Err(_) if self.disk.power_is_off() => self.lose_power(),
                Err(_) => {}
            }
        }
        self.oracle.violated(format!("the spool of {} does not open", self.path));
    }

    fn try_start(&mut self) -> Result<(), SpoolError> {
        let boot_id = BootId([self.boots; 16]);
        let fresh = Epoch(1_000 * (self.place as u64 + 1) + u64::from(self.boots));
        let bytes_max = self.shape.spool_bytes;
        let settings = Settings {
            segment_bytes: (bytes_max / 16).clamp(4_096, 1 << 20),
            bytes_max,
            free_bytes_min: 0,
            new_epoch: false,
        };
        let index = Box::new(self.index.clone());
        let (mut spool, opened) =
            DiskSpool::open_with(self.disk.clone(), Path::new(DIR), boot_id, settings, fresh, index)?;
        if self.epoch.is_some_and(|epoch| epoch != opened.epoch) {
            self.oracle.violated(format!("{} began a new epoch after a power cut", self.path));
        }
        let mut ids = Vec::new();
        for (stream, schema, lane) in streams() {
            ids.push(spool.declare(&name(stream), &schema, lane.into())?);
        }
        // Nothing was shipped before the first start came this far.
        self.epoch = Some(opened.epoch);
        self.take_stock(&spool);
        let spool = WorldSpool {
            spool: Arc::new(Mutex::new(spool)),
            synced: watch::channel(0).0,
            epoch: opened.epoch,
            gateway: self.place,
            path: self.path.clone(),
            durable: self.shape.durable,
            oracle: self.oracle.clone(),
            disk: self.disk.clone(),
            incidents: self.incidents.clone(),
        };
        let trimmed = spool.clone();
        let on_puback: OnPuback = Arc::new(move |seqs| {
            for (id, set) in seqs {
                drop(trimmed.let_go(id, &set));
            }
        });
        let uplink = WatchedUplink {
            inner: self.broker.uplink(),
            mutant: self.mutant,
            on_puback,
            sent: Arc::default(),
        };
        let boot = Boot {
            gateway: self.place,
            epoch: opened.epoch,
            ordinal: opened.boot_ordinal,
            id: boot_id,
            clock: self.clock.clone(),
            seed: self.dice.roll(),
        };
        let (run, shipping) =
            bind::shipping(&self.shape, boot, uplink, spool.clone()).expect("a known gateway");
        #[expect(
            clippy::disallowed_methods,
            reason = "the world ends this task itself, in the middle of anything"
        )]
        let task = tokio::spawn(run);
        self.life = Some(Life {
            spool,
            clock: self.clock.clone(),
            boot: opened.boot_ordinal,
            ids,
            task,
            shipping,
            gaps: GapQueue::default(),
            syncs: 0,
        });
        Ok(())
    }

    /// What a start found is what is: seqs that were lost before their sync are given again.
    fn take_stock(&self, spool: &DiskSpool<SimDisk>) {
        let mut oracle = self.oracle.lock();
        for state in spool.streams() {
            let key = key(&self.path.device, spool.epoch(), &state.name);
            let truth = oracle.truth.entry(key.clone()).or_default();
            truth.id = Some(state.id);
            truth.next = state.next_seq.0;
            truth.offered.retain(|seq, _| *seq < state.next_seq.0);
            truth.pending = IntervalSet::new();
            let end = truth.captured.end();
            if end > state.next_seq.0 {
                oracle.violated(format!(
                    "A1: {key} was captured below {end} and goes on at {:?}",
                    state.next_seq
                ));
            }
        }
    }

    /// Captures once: numbers, now and then a picture, an alarm.
    pub(super) fn capture(&mut self) {
        self.captures += 1;
        let n = self.captures;
        let every = |period: u64| period > 0 && n.is_multiple_of(period);
        let (rows_n, largest) = (self.shape.rows, self.shape.picture_bytes);
        self.append(NUMBERS, rows_n, |id, first, nonce, boot, now| {
            rows::numbers(id, first, rows_n, nonce, boot, now)
        });
        if every(self.shape.picture_every) {
            let len = largest / 2 + self.dice.below(largest / 2);
            self.append(PICTURES, 1, |id, seq, nonce, boot, now| {
                rows::picture(id, seq, len, nonce, boot, now)
            });
        }
        if every(self.shape.alarm_every) {
            self.append(ALARMS, 1, |id, seq, nonce, boot, now| rows::numbers(id, seq, 1, nonce, boot, now));
            self.sync();
        }
    }

    /// Appends what `make` makes of id, first seq, nonce, boot and time; what the spool cannot keep becomes a gap.
    fn append(
        &mut self,
        stream: usize,
        n: u64,
        make: impl FnOnce(StreamId, u64, u64, BootOrdinal, BootNanos) -> Slab,
    ) -> bool {
        let nonce = self.dice.roll() >> 20;
        let Some(life) = &mut self.life else { return false };
        let Some(id) = life.ids.get(stream).copied() else { return false };
        let (stream, _, _) = &streams()[stream];
        let stream = *stream;
        let of_stream = key(&self.path.device, life.spool.epoch, &name(stream));
        let now = life.clock.boot();
        let mut guard = self.oracle.lock();
        let oracle = &mut *guard;
        let truth = oracle.truth.entry(of_stream.clone()).or_default();
        let first = truth.next;
        let slab = make(id, first, nonce, life.boot, now);
        let rows = slab.rows.clone();
        let blob_bytes = slab.blob.as_ref().map(|blob| blob.bytes.len());
        let appended = life.spool.lock().append(slab);
        if life.spool.noticed(appended).is_ok() {
            for place in 0..rows.len() {
                truth.offered.insert(first + place as u64, rows.slice(place..place + 1));
            }
            truth.pending.insert(first..first + n);
            truth.next = first + n;
            if stream == ALARM {
                let now_ms = super::world_ms(&self.world);
                oracle.alarms.insert((of_stream, first), now_ms);
            }
            let parts =
                blob_bytes.map_or(0, |bytes| bytes / self.shape.message_bytes_max.min(PART_BYTES_MIN) + 1);
            self.payloads += 1 + parts as u64;
            return true;
        }
        let skipped = life.spool.lock().skip(id, n);
        if life.spool.noticed(skipped).is_ok() && !self.disk.power_is_off() {
            truth.next = first + n;
            life.gaps.push(GapRecord {
                stream: name(stream),
                boot_ordinal: life.boot,
                seq_first: Seq(first),
                seq_last: Seq(first + n - 1),
                cause: GapCause::EvictedDiskFull,
                stride: 0,
                phase: 0,
                rows: n,
                bytes: 0,
                b_first: now,
                b_last: now,
                policy_version: 0,
                note: "no room".into(),
            });
        }
        false
    }

    /// Makes what was captured durable, and tells what was lost.
    pub(super) fn sync(&mut self) {
        if !self.sync_once() {
            return;
        }
        let Some(life) = &mut self.life else { return };
        for gap in life.spool.lock().take_gaps() {
            life.gaps.push(gap);
        }
        while let Ok(gap) = life.shipping.gaps.try_recv() {
            life.gaps.push(gap);
        }
        if self.tell_gaps() {
            self.sync_once();
        }
    }

    fn sync_once(&mut self) -> bool {
        let Some(life) = &mut self.life else { return false };
        life.syncs += 1;
        let puts_off = self.mutant == Some(Mutant::SyncPutOff) && !life.syncs.is_multiple_of(4);
        let synced = if puts_off { Ok(()) } else { life.spool.lock().sync() };
        if life.spool.noticed(synced).is_err() {
            return false;
        }
        let mut oracle = self.oracle.lock();
        let mut news = false;
        for (_, truth) in oracle.truth.iter_mut().filter(|(key, _)| key.device == self.path.device) {
            let pending = std::mem::take(&mut truth.pending);
            news |= !pending.is_empty();
            truth.captured.union_with(&pending);
        }
        drop(oracle);
        if news {
            life.spool.synced.send_modify(|n| *n += 1);
        }
        true
    }

    /// Writes waiting gap records; true if there were any.
    fn tell_gaps(&mut self) -> bool {
        let mut told = false;
        while let Some(gap) = self.life.as_mut().and_then(|life| life.gaps.pop()) {
            if self.mutant == Some(Mutant::GapDropped) {
                continue;
            }
            let row = gap.clone();
            let written = self.append(GAPS, 1, |id, seq, _, boot, now| {
                rows::built_in(id, seq, &builtin::gaps(), rows::gap_reading(&row, now), boot)
            });
            if !written {
                if let Some(life) = &mut self.life {
                    life.gaps.push(gap);
                }
                break;
            }
            told = true;
        }
        told
    }

    /// Writes the clock exchanges that shipping made, or drops them once nothing more is to be captured.
    pub(super) fn exchanges(&mut self, keep: bool) {
        while let Some(Ok(exchange)) = self.life.as_mut().map(|life| life.shipping.exchanges.try_recv()) {
            if keep {
                self.append(CLOCK, 1, |id, seq, _, boot, _| {
                    rows::built_in(id, seq, &builtin::clock(), track::exchange(exchange), boot)
                });
            }
        }
    }

    /// Looks after the card.
    pub(super) fn maintain(&mut self) {
        if let Some(life) = &self.life {
            life.spool.lock().maintain();
        }
    }

    /// The next syncs fail.
    pub(super) fn fail_syncs(&self, n: u32) {
        self.disk.fail(Call::Sync, 0, n);
    }

    /// The card is as full as can be, or has room again.
    pub(super) fn fill(&self, full: bool) {
        self.disk.set_capacity(if full { self.disk.used() } else { CARD_BYTES });
    }

    /// True if the agent has nothing left to ship or to tell.
    pub(super) fn is_drained(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.gaps.is_empty() && life.spool.lock().usage().rows == 0)
    }

    /// How shipping stands, for a person.
    pub(super) fn status(&self) -> String {
        match &self.life {
            Some(life) => {
                let rows = life.spool.lock().usage().rows;
                format!("{}: {rows} rows held, {:?}", self.path, life.shipping.status.borrow())
            }
            None => format!("{}: off", self.path),
        }
    }
}
