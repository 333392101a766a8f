//! The spool's thread: takes commands in order, syncs in groups, and turns what could not be kept into gaps.

use super::gaps::{GAPS_HELD_MAX, GapList, LostRows};
use super::group::{GroupCommit, SyncPolicy};
use super::handle::slab_bytes;
use super::health::{Health, HealthReport};
use super::salvage::{gap_rows, is_gap_rows};
use headwater_core::batch::StreamRef;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{Seq, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Cursor, Slab, SlabTime, Spool, SpoolError, SpoolLane, SpoolUsage, SpooledSlab, StreamPolicy, StreamState,
};
use headwater_core::schema::Schema;
use headwater_core::time::BootNanos;
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

/// How the thread works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSettings {
    /// When to sync lanes telemetry and media; lane control never waits.
    pub sync: SyncPolicy,
    /// Bytes of slabs that may wait in the queue; above it [`super::SpoolHandle::try_append`] refuses.
    pub queue_bytes: usize,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            sync: SyncPolicy { interval: Duration::from_secs(1), bytes: 1 << 20 },
            // Eight seconds of a camera at 1 MB/s: longer than the longest sync of a tired card.
            queue_bytes: 8 << 20,
        }
    }
}

type Reply<T> = oneshot::Sender<T>;

pub(super) struct Command {
    pub(super) work: Work,
    /// Given back when the command was taken from the queue and done.
    pub(super) _room: OwnedSemaphorePermit,
}

pub(super) enum Work {
    Declare {
        name: StreamName,
        schema: Box<Schema>,
        policy: StreamPolicy,
        reply: Reply<Result<StreamId, SpoolError>>,
    },
    Append(Slab),
    Skip {
        stream: StreamId,
        n: u64,
        reply: Reply<Result<(), SpoolError>>,
    },
    Read {
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
        reply: Reply<Result<Vec<SpooledSlab>, SpoolError>>,
    },
    Seek {
        lane: SpoolLane,
        since: SlabTime,
        reply: Reply<Result<Cursor, SpoolError>>,
    },
    StretchBefore {
        lane: SpoolLane,
        before: Cursor,
        bytes: u64,
        reply: Reply<Cursor>,
    },
    BytesBetween {
        lane: SpoolLane,
        between: Box<(Cursor, Cursor)>,
        reply: Reply<u64>,
    },
    Note {
        key: &'static str,
        value: Vec<u8>,
        reply: Reply<()>,
    },
    Noted {
        key: &'static str,
        reply: Reply<Option<Vec<u8>>>,
    },
    Trim {
        acked: Vec<(StreamId, IntervalSet)>,
        reply: Reply<Result<(), SpoolError>>,
    },
    Streams {
        reply: Reply<Vec<StreamState>>,
    },
    Usage {
        reply: Reply<SpoolUsage>,
    },
    Health {
        reply: Reply<HealthReport>,
    },
    TakeGaps {
        reply: Reply<Vec<GapRecord>>,
    },
    Sync {
        reply: Reply<Result<(), SpoolError>>,
    },
}

/// Runs until every handle is gone; then syncs a last time.
pub(super) fn run<S: Spool>(
    spool: S,
    settings: TaskSettings,
    commands: &Receiver<Command>,
    told: &watch::Sender<u64>,
) {
    #[expect(clippy::disallowed_methods, reason = "how long this thread has waited; never the time of data")]
    let started = Instant::now();
    let streams = known(&spool);
    let group = GroupCommit::new(settings.sync);
    let gaps = GapList::default();
    let health = Health::default();
    let mut keeper = Keeper { spool, group, streams, gaps, unstored: Vec::new(), told, health, started };
    let mut maintain_at = Duration::ZERO;
    loop {
        let now = started.elapsed();
        if keeper.group.is_due(now) {
            keeper.sync_logged();
            continue;
        }
        if maintain_at <= now {
            keeper.spool.maintain();
            maintain_at = now.saturating_add(MAINTAIN_INTERVAL);
        }
        let next = keeper.group.due_at().map_or(maintain_at, |due| due.min(maintain_at));
        match commands.recv_timeout(next.saturating_sub(now)) {
            Ok(command) => keeper.apply(command.work),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    keeper.sync_logged();
}

/// Between two looks at the disk, which others fill too.
const MAINTAIN_INTERVAL: Duration = Duration::from_secs(10);

/// What the thread remembers of a stream, so that it need not ask for every slab.
struct Known {
    name: StreamName,
    lane: SpoolLane,
    next_seq: Seq,
}

fn known<S: Spool>(spool: &S) -> HashMap<StreamId, Known> {
    let states = spool.streams().into_iter();
    states.map(|s| (s.id, Known { name: s.name, lane: s.policy.lane, next_seq: s.next_seq })).collect()
}

struct Keeper<'a, S> {
    spool: S,
    group: GroupCommit,
    streams: HashMap<StreamId, Known>,
    gaps: GapList,
    /// Records that the spool had no room for; handed out again once something else could be stored.
    unstored: Vec<GapRecord>,
    told: &'a watch::Sender<u64>,
    health: Health,
    started: Instant,
}

/// An answer nobody waits for any more is no loss: the asker was dropped.
fn answer<T>(reply: Reply<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::trace!("asker of the spool is gone");
    }
}

impl<S: Spool> Keeper<'_, S> {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn apply(&mut self, work: Work) {
        let now = self.now();
        match work {
            Work::Declare { name, schema, policy, reply } => {
                let id = self.spool.declare(&name, &schema, policy);
                if let Err(error) = &id {
                    self.health.failed(now, error);
                }
                self.streams = known(&self.spool);
                answer(reply, id);
            }
            Work::Append(slab) => self.append(now, slab),
            Work::Skip { stream, n, reply } => answer(reply, self.skip(stream, n)),
            Work::Read { lane, after, limit_bytes, reply } => {
                answer(reply, self.spool.read(lane, after, limit_bytes));
            }
            Work::Seek { lane, since, reply } => answer(reply, self.spool.seek(lane, since)),
            Work::StretchBefore { lane, before, bytes, reply } => {
                answer(reply, self.spool.stretch_before(lane, before, bytes));
            }
            Work::BytesBetween { lane, between, reply } => {
                answer(reply, self.spool.bytes_between(lane, between.0, between.1));
            }
            Work::Note { key, value, reply } => {
                self.spool.note(key, value);
                answer(reply, ());
            }
            Work::Noted { key, reply } => answer(reply, self.spool.noted(key)),
            Work::Trim { acked, reply } => {
                let mut outcome = Ok(());
                for (stream, acked) in &acked {
                    outcome = outcome.and(self.spool.trim(*stream, acked));
                }
                // There may be room now.
                self.gaps.put_back(std::mem::take(&mut self.unstored));
                answer(reply, outcome);
            }
            Work::Streams { reply } => answer(reply, self.spool.streams()),
            Work::Usage { reply } => answer(reply, self.spool.usage()),
            Work::Health { reply } => answer(reply, self.health.report(now)),
            Work::TakeGaps { reply } => {
                let mut gaps = self.spool.take_gaps();
                gaps.extend(self.gaps.take());
                answer(reply, gaps);
            }
            Work::Sync { reply } => answer(reply, self.sync()),
        }
    }

    fn append(&mut self, now: Duration, slab: Slab) {
        let bytes = slab_bytes(&slab) as u64;
        let StreamRef::Id(id) = slab.rows.stream else {
            tracing::error!(stream = ?slab.rows.stream, "slab without a stream id was dropped; declare its stream first");
            return;
        };
        let Some((name, lane, expected)) =
            self.streams.get(&id).map(|s| (s.name.clone(), s.lane, s.next_seq))
        else {
            tracing::error!(stream = id.0, "slab of an undeclared stream was dropped; declare it first");
            return;
        };
        let lost = LostRows {
            stream: name,
            boot_ordinal: slab.rows.boot_ordinal,
            seqs: slab.rows.seqs(),
            bytes,
            span: slab.span().unwrap_or((BootNanos(0), BootNanos(0))),
        };
        let first = slab.rows.first_seq;
        if first < expected {
            tracing::error!(stream = %lost.stream, ?first, ?expected, "slab repeats seqs and was dropped");
            return;
        }
        if first > expected {
            self.left_out(id, &lost, expected);
        }
        let records = if is_gap_rows(&slab.rows) { gap_rows(&slab.rows) } else { Vec::new() };
        match self.spool.append(slab) {
            Ok(()) => {
                self.gaps.put_back(std::mem::take(&mut self.unstored));
                self.group.appended(now, lane, bytes);
                self.health.took(now);
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.next_seq = Seq(lost.seqs.end);
                }
            }
            Err(error) => {
                // Without these the rows they speak of would be missing in silence.
                self.unstored.extend(records);
                self.unstored.truncate(GAPS_HELD_MAX);
                self.health.failed(now, &error);
                self.give_up(id, lost, &error);
            }
        }
    }

    /// Seqs before `lost` that nobody appended or skipped: their slab was shed before the queue.
    fn left_out(&mut self, id: StreamId, lost: &LostRows, expected: Seq) {
        let shed = LostRows {
            seqs: expected.0..lost.seqs.start,
            bytes: 0,
            span: (lost.span.0, lost.span.0),
            ..lost.clone()
        };
        self.skip_logged(id, shed.seqs.end.saturating_sub(shed.seqs.start));
        self.gaps.record(shed, GapCause::Overrun, "shed before the spool");
    }

    /// The rows could not be kept: their seqs are consumed and a gap record says why.
    fn give_up(&mut self, id: StreamId, lost: LostRows, error: &SpoolError) {
        let cause = match error {
            SpoolError::Full { .. } => GapCause::EvictedDiskFull,
            SpoolError::TooLarge { .. } => GapCause::RejectedLimit,
            _ => GapCause::MediaError,
        };
        tracing::warn!(stream = %lost.stream, seqs = ?lost.seqs, cause = cause.cause(), %error, "slab was not kept");
        self.skip_logged(id, lost.seqs.end.saturating_sub(lost.seqs.start));
        self.gaps.record(lost, cause, &error.to_string());
    }

    fn skip(&mut self, id: StreamId, n: u64) -> Result<(), SpoolError> {
        self.spool.skip(id, n)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.next_seq = stream.next_seq.plus(n);
        }
        Ok(())
    }

    fn skip_logged(&mut self, id: StreamId, n: u64) {
        if let Err(error) = self.skip(id, n) {
            tracing::error!(stream = id.0, n, %error, "seqs could not be skipped");
        }
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        let (waited, began) = (self.group.due_at().is_some(), self.now());
        let outcome = self.spool.sync();
        let now = self.now();
        match outcome {
            Ok(()) => {
                self.group.synced();
                if waited {
                    self.health.synced(now, now.saturating_sub(began));
                    self.told.send_modify(|count| *count = count.saturating_add(1));
                }
                Ok(())
            }
            Err(error) => {
                self.group.failed(now);
                self.health.failed(now, &error);
                Err(error)
            }
        }
    }

    fn sync_logged(&mut self) {
        if let Err(error) = self.sync() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "spool could not sync; slabs are kept in memory"
            );
        }
    }
}
