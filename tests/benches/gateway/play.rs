//! The agent's path from reading to signed message, played faster than life by its own pure halves.
//!
//! Stamper, slab builder, group commit, spool with its index, batchers and signatures are the product's; time is
//! an argument of theirs, so hours pass in seconds, while every write and every sync is really done, at the
//! instants the policy asks for. Sources, TLS and the broker's acks are not run: what was sealed counts as
//! acknowledged after the collector's commit interval.

use super::plan::{Gateway, Pictures, Played, stamp_us};
use anyhow::{Context, Result, bail};
use headwater_agent::batch::{BatchSettings, Batcher, Hold, Sealed};
use headwater_agent::spool::disk::RealDisk;
use headwater_agent::spool::{DiskSpool, GroupCommit, Settings, SyncPolicy};
use headwater_agent::stamp::track::{self, Claim, TimeSource};
use headwater_agent::stamp::{SlabBuilder, Stamper};
use headwater_core::batch::{Announced, Column, Effort, StreamRef, Values};
use headwater_core::id::{BootId, Epoch, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{Cursor, Slab, Spool, SpoolLane, SpooledSlab};
use headwater_core::sample::{BlobRef, Reading, Value};
use headwater_core::schema::{Field, Logical, Modality, Schema, builtin};
use headwater_core::time::{BootNanos, ClockDomain, ClockReading, Grade, Latency, StampKind, UtcNanos};
use headwater_core::wire::object::{PART_HEADER_BYTES, Part};
use headwater_core::wire::{ENVELOPE_BYTES, MESSAGE_BYTES_SENT_MAX, MessageKind, Sent, SigningKey, Unsigned};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Bytes after which a sync is due before its interval is over: the agent's own bound.
const SYNC_BYTES: u64 = 1 << 20;
/// Between commits of a collector, after which rows may be trimmed, ms (its default, local profile).
const COMMIT_MS: u64 = 10_000;
/// Bytes read from a lane at once.
const READ_BYTES: usize = 1 << 20;
/// When the gateway was switched on, by its boot clock.
const STARTED: BootNanos = BootNanos(10_000_000_000);

/// How the gateway is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) sync_ms: u64,
    pub(super) linger_ms: u64,
    pub(super) effort: Effort,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) syncs: u64,
    pub(super) messages: u64,
    pub(super) message_bytes: u64,
    /// Slabs and blobs as they lie in the spool.
    pub(super) payload_bytes: u64,
}

/// A stream that is played.
struct Source<'a> {
    name: StreamName,
    played: Option<&'a Played>,
    rows_per_s: f64,
    next_row: usize,
}

impl Source<'_> {
    fn due(&self) -> BootNanos {
        BootNanos(stamp_us(self.next_row, self.rows_per_s) * 1_000)
    }
}

/// The agent, played.
pub(super) struct Player<'a> {
    pictures: &'a Pictures,
    sources: Vec<Source<'a>>,
    stamper: Stamper,
    builder: SlabBuilder,
    spool: DiskSpool<RealDisk>,
    lanes: BTreeMap<StreamId, SpoolLane>,
    group: GroupCommit,
    batchers: [Batcher; 3],
    cursors: [Cursor; 3],
    sealed: BTreeMap<StreamId, IntervalSet>,
    clock_at: BootNanos,
    trim_at: BootNanos,
    key: SigningKey,
    done: Done,
}

impl<'a> Player<'a> {
    pub(super) fn open(gateway: &'a Gateway, pictures: &'a Pictures, pace: Pace, dir: &Path) -> Result<Self> {
        let (mut spool, opened) = DiskSpool::open(RealDisk, dir, BootId([1; 16]), Settings::default())?;
        let mut stamper = Stamper::new(opened.boot_ordinal);
        let mut lanes = BTreeMap::new();
        let mut declare = |name: &StreamName, schema: Schema, lane: SpoolLane| -> Result<()> {
            let id = spool.declare(name, &schema, lane.into())?;
            stamper.declare(name, id, schema, headwater_core::id::Seq(0));
            lanes.insert(id, lane);
            Ok(())
        };
        declare(&builtin::CLOCK_STREAM.parse()?, builtin::clock(), SpoolLane::Control)?;
        let mut sources = Vec::new();
        for played in &gateway.streams {
            let name: StreamName = played.name.parse()?;
            declare(&name, schema(played)?, SpoolLane::Telemetry)?;
            sources.push(Source { name, played: Some(played), rows_per_s: played.rows_per_s, next_row: 0 });
        }
        if gateway.pictures_per_s > 0 {
            let name: StreamName = "camera/front".parse()?;
            declare(&name, builtin::image(), SpoolLane::Media)?;
            let rows_per_s = gateway.pictures_per_s as f64;
            sources.push(Source { name, played: None, rows_per_s, next_row: 0 });
        }
        let batcher = |linger_ms| {
            let message_bytes_max = MESSAGE_BYTES_SENT_MAX;
            let mut batcher =
                Batcher::new(BatchSettings { linger_ms, message_bytes_max, effort: pace.effort });
            batcher.announce(Announced::OURS);
            batcher
        };
        Ok(Self {
            pictures,
            sources,
            stamper,
            builder: SlabBuilder::default(),
            spool,
            lanes,
            group: GroupCommit::new(SyncPolicy {
                interval: Duration::from_millis(pace.sync_ms),
                bytes: SYNC_BYTES,
            }),
            batchers: [batcher(0), batcher(pace.linger_ms), batcher(pace.linger_ms)],
            cursors: [Cursor::default(); 3],
            sealed: BTreeMap::new(),
            clock_at: STARTED,
            trim_at: STARTED.plus_ms(COMMIT_MS),
            key: key()?,
            done: Done::default(),
        })
    }

    /// Plays so many seconds, and what is still open at their end.
    pub(super) fn play(&mut self, seconds: u64) -> Result<Done> {
        let end = STARTED.plus_ms(seconds * 1_000);
        loop {
            let now = self.next_instant();
            if now >= end {
                break;
            }
            self.capture(now)?;
            let closed = self.builder.poll(now);
            self.append(now, closed)?;
            if self.group.is_due(since_start(now)) {
                self.sync(now)?;
            }
            self.batch(now)?;
            if now >= self.trim_at {
                self.trim()?;
                self.trim_at = now.plus_ms(COMMIT_MS);
            }
        }
        let rest = self.builder.finish();
        self.append(end, rest)?;
        self.sync(end)?;
        self.done.payload_bytes = self.spool.usage().payload_bytes;
        Ok(self.done)
    }

    fn next_instant(&self) -> BootNanos {
        let sync =
            self.group.due_at().map(|due| STARTED.plus_ns(i64::try_from(due.as_nanos()).unwrap_or(i64::MAX)));
        let waits = self.batchers.iter().filter_map(Batcher::deadline);
        let times = [sync, self.builder.deadline()].into_iter().flatten().chain(waits);
        let sources = self.sources.iter().map(Source::due);
        times.chain(sources).chain([self.clock_at, self.trim_at]).min().unwrap_or(self.trim_at)
    }

    /// What the sources and the clock say at this instant.
    fn capture(&mut self, now: BootNanos) -> Result<()> {
        for place in 0..self.sources.len() {
            while let Some(source) = self.sources.get_mut(place).filter(|source| source.due() <= now) {
                let (name, row) = (source.name.clone(), source.next_row);
                let (t, played) = (source.due(), source.played);
                source.next_row += 1;
                let reading = match played {
                    Some(played) => reading(t, played, row),
                    None => self.picture(t, row)?,
                };
                self.reading(now, &name, reading)?;
            }
        }
        if now >= self.clock_at {
            self.clock_at = track::next_sample(STARTED, now);
            let seen = ClockReading { b1: now, real: UtcNanos(now.0), b2: now.plus_ns(300), raw_ns: now.0 };
            let name: StreamName = builtin::CLOCK_STREAM.parse()?;
            let claim = Claim::new(TimeSource::Kernel, None, Grade::OrderingOnly, String::new());
            self.reading(now, &name, track::sample(seen.into(), &claim, None))?;
            let id = self.stamper.stream(&name).map(|(id, ..)| id);
            let slab = id.and_then(|id| self.builder.close(id));
            self.append(now, slab)?;
        }
        Ok(())
    }

    fn reading(&mut self, now: BootNanos, name: &StreamName, reading: Reading) -> Result<()> {
        let Some((_, schema, fingerprint)) = self.stamper.stream(name) else { bail!("{name} is undeclared") };
        let stamped = self.stamper.stamp(name, reading, now);
        let Ok((sample, _)) = stamped else { bail!("a row of {name} does not fit: {stamped:?}") };
        self.done.rows += 1;
        let closed = self.builder.push(&sample, &schema, fingerprint, now);
        self.append(now, closed)
    }

    fn picture(&self, t: BootNanos, row: usize) -> Result<Reading> {
        let (blob, _) = self.pictures.at(row).context("no pictures")?;
        let values = vec![
            BlobRef::to(&blob.bytes).to_value(),
            Value::Utf8(blob.mime.clone()),
            Value::I64(854),
            Value::I64(480),
            Value::Utf8(format!("frame-{row:06}.jpg")),
        ];
        Ok(Reading { blob: Some(blob.clone()), ..plain(t, values) })
    }

    fn append(&mut self, now: BootNanos, slabs: impl IntoIterator<Item = Slab>) -> Result<()> {
        for slab in slabs {
            let StreamRef::Id(id) = slab.rows.stream else { continue };
            let lane = self.lanes.get(&id).copied().unwrap_or(SpoolLane::Telemetry);
            // As the spool's thread counts them.
            let blob = slab.blob.as_ref().map_or(0, |blob| blob.bytes.len());
            let bytes = slab.rows.n_values().saturating_mul(8).saturating_add(blob);
            self.spool.append(slab)?;
            self.group.appended(since_start(now), lane, bytes as u64);
        }
        Ok(())
    }

    /// Syncs, and hands what is durable to the batchers.
    fn sync(&mut self, now: BootNanos) -> Result<()> {
        self.spool.sync()?;
        self.group.synced();
        self.done.syncs += 1;
        for (place, lane) in SpoolLane::ALL.into_iter().enumerate() {
            while let Some(cursor) = self.cursors.get_mut(place) {
                let slabs = self.spool.read(lane, *cursor, READ_BYTES)?;
                let Some(last) = slabs.last() else { break };
                *cursor = last.next;
                self.push(now, place, slabs)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, now: BootNanos, place: usize, slabs: Vec<SpooledSlab>) -> Result<()> {
        for slab in slabs {
            let sealed = self.batchers.get_mut(place).map(|batcher| batcher.push(now, slab));
            self.send(now, sealed.unwrap_or_default())?;
        }
        Ok(())
    }

    fn batch(&mut self, now: BootNanos) -> Result<()> {
        let sealed: Vec<Sealed> = self.batchers.iter_mut().flat_map(|batcher| batcher.poll(now)).collect();
        self.send(now, sealed)
    }

    /// Signs what would go out; it is acknowledged with the next commit.
    fn send(&mut self, now: BootNanos, sealed: Vec<Sealed>) -> Result<()> {
        for sealed in sealed {
            match sealed {
                Sealed::Batch(batch) => {
                    self.sign(now, MessageKind::Batch, batch.epoch, &batch.body)?;
                    batch.holds.iter().for_each(|hold| self.hold(hold));
                }
                Sealed::Blob(blob) => {
                    let room = MESSAGE_BYTES_SENT_MAX - ENVELOPE_BYTES - PART_HEADER_BYTES;
                    let total_len = blob.object.len() as u64;
                    let mut offset = 0;
                    for bytes in blob.object.chunks(room) {
                        let part = Part { object: blob.id, total_len, offset, bytes };
                        offset += bytes.len() as u64;
                        self.sign(now, MessageKind::Part, blob.epoch, &part.to_body())?;
                    }
                }
                Sealed::Withheld(withheld) => bail!("{withheld}"),
            }
        }
        Ok(())
    }

    fn sign(&mut self, now: BootNanos, kind: MessageKind, epoch: Epoch, body: &[u8]) -> Result<()> {
        let path = headwater_core::id::DevicePath { tenant: "acme".parse()?, device: "gw-1".parse()? };
        let message =
            Unsigned::new(kind, &path, epoch, body)?.sign(Sent { boot_ordinal: 1, ns: now.0 }, &self.key);
        self.done.messages += 1;
        self.done.message_bytes += message.len() as u64;
        Ok(())
    }

    fn hold(&mut self, hold: &Hold) {
        self.sealed.entry(hold.stream).or_default().insert(hold.seqs.clone());
    }

    fn trim(&mut self) -> Result<()> {
        for (stream, seqs) in &self.sealed {
            self.spool.trim(*stream, seqs)?;
        }
        Ok(())
    }
}

fn since_start(now: BootNanos) -> Duration {
    Duration::from_nanos(u64::try_from(now.since(STARTED)).unwrap_or(0))
}

fn key() -> Result<SigningKey> {
    // An Ed25519 key in PKCS#8 with a seed of one repeated byte: it signs nothing that anybody trusts.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend_from_slice(&[7; 32]);
    Ok(SigningKey::from_pkcs8(&der)?)
}

fn plain(t: BootNanos, values: Vec<Value>) -> Reading {
    let latency = Latency { lo_ns: 0, hi_ns: 20_000_000 };
    Reading { t, latency, kind: StampKind::Arrival, domain: ClockDomain::BOOT, values, blob: None }
}

fn reading(t: BootNanos, played: &Played, row: usize) -> Reading {
    plain(t, played.fields.iter().map(|field| value(field, row)).collect())
}

/// The recording's value, played in a circle.
fn value(field: &Column, row: usize) -> Value {
    fn at<T: Clone>(values: &[T], row: usize) -> Option<T> {
        values.get(row % values.len().max(1)).cloned()
    }
    let found = match &field.values {
        Values::I64(v) => at(v, row).map(Value::I64),
        Values::F64(v) => at(v, row).map(Value::F64),
        Values::F32(v) => at(v, row).map(Value::F32),
        Values::Bytes(v) => at(v, row).map(Value::Bytes),
        Values::Utf8(v) => at(v, row).map(Value::Utf8),
    };
    found.unwrap_or(Value::Null)
}

fn schema(played: &Played) -> Result<Schema> {
    let field = |(n, column): (usize, &Column)| -> Result<Field> {
        let logical = match &column.values {
            Values::I64(_) => Logical::I64,
            Values::F64(_) => Logical::F64,
            Values::F32(_) => Logical::F32,
            Values::Bytes(_) => Logical::Bytes,
            Values::Utf8(_) => Logical::Utf8,
        };
        Ok(Field { name: format!("f{n}").parse()?, logical, nullable: false, unit: "1".into() })
    };
    let fields = played.fields.iter().enumerate().map(field).collect::<Result<_>>()?;
    Ok(Schema { salt: 0, kind: played.name.parse()?, modality: Modality::Scalars, time_exp: 3, fields })
}
