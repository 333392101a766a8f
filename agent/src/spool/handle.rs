//! The spool as the other stages hold it: a bounded queue in front of one thread.

use super::health::HealthReport;
use super::task::{Command, TaskSettings, Work, run};
use headwater_core::gap::GapRecord;
use headwater_core::id::{Epoch, StreamId, StreamName};
use headwater_core::interval::IntervalSet;
use headwater_core::ports::{
    Cursor, Slab, SlabTime, Spool, SpoolError, SpoolLane, SpoolUsage, SpooledSlab, StreamPolicy, StreamState,
};
use headwater_core::schema::Schema;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// One place in the queue stands for this many bytes; a small slab or a question takes one place.
const PLACE_BYTES: usize = 16 * 1024;

/// The queue in front of the spool has no room (or its thread is gone): the slab is shed at the source,
/// which records the gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the spool's queue is full")]
pub struct QueueFull;

/// The spool, shared. The thread ends, after a last sync, when every handle is dropped.
#[derive(Debug, Clone)]
pub struct SpoolHandle {
    epoch: Epoch,
    queue: SyncSender<Command>,
    room: Arc<Semaphore>,
    places: u32,
    synced: watch::Receiver<u64>,
}

fn gone() -> SpoolError {
    SpoolError::Io { what: "reach its thread", source: io::ErrorKind::BrokenPipe.into() }
}

/// Bytes a slab keeps in memory, near enough for a bound.
pub(super) fn slab_bytes(slab: &Slab) -> usize {
    let blob = slab.blob.as_ref().map_or(0, |blob| blob.bytes.len());
    slab.rows.n_values().saturating_mul(8).saturating_add(blob)
}

impl SpoolHandle {
    /// Gives the spool a thread of its own, since every call of it may wait for the disk.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the system gives no thread.
    pub fn start<S: Spool + 'static>(
        spool: S,
        settings: TaskSettings,
    ) -> Result<(Self, JoinHandle<()>), SpoolError> {
        let places = (settings.queue_bytes / PLACE_BYTES).clamp(16, 1 << 16);
        let (queue, commands) = sync_channel(places);
        let (told, synced) = watch::channel(0);
        let epoch = spool.epoch();
        let thread = std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || run(spool, settings, &commands, &told))
            .map_err(|source| SpoolError::Io { what: "start its thread", source })?;
        let room = Arc::new(Semaphore::new(places));
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        Ok((Self { epoch, queue, room, places, synced }, thread))
    }

    /// The life of the spool: what stream ids and seqs belong to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Gives a stream its id, or finds it; durable when this returns.
    ///
    /// # Errors
    /// [`SpoolError::Streams`] for one too many, [`SpoolError::Io`].
    pub async fn declare(
        &self,
        name: StreamName,
        schema: Schema,
        policy: StreamPolicy,
    ) -> Result<StreamId, SpoolError> {
        self.ask(|reply| Work::Declare { name, schema: Box::new(schema), policy, reply }).await?
    }

    /// Queues a slab, waiting for room. Its rows are *captured* once a later sync is told by
    /// [`SpoolHandle::synced`]; if they cannot be kept they become a gap record instead.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn append(&self, slab: Slab) -> Result<(), SpoolError> {
        let room = self.wait_room(slab_bytes(&slab)).await?;
        self.queue.try_send(Command { work: Work::Append(slab), _room: room }).map_err(|_| gone())
    }

    /// Queues a slab if there is room, and never waits (invariant A3). The caller records the gap of a
    /// slab it gets back; seqs left out without a [`SpoolHandle::skip`] are recorded as `overrun`.
    ///
    /// # Errors
    /// The slab, with [`QueueFull`].
    #[expect(
        clippy::result_large_err,
        reason = "the slab goes back to its owner; a box would cost every refusal an allocation"
    )]
    pub fn try_append(&self, slab: Slab) -> Result<(), (Slab, QueueFull)> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(self.places_for(slab_bytes(&slab)))
        else {
            return Err((slab, QueueFull));
        };
        self.queue.try_send(Command { work: Work::Append(slab), _room: room }).map_err(|refused| {
            let (std::sync::mpsc::TrySendError::Full(command)
            | std::sync::mpsc::TrySendError::Disconnected(command)) = refused;
            match command.work {
                Work::Append(slab) => (slab, QueueFull),
                _ => unreachable!("an append was sent"),
            }
        })
    }

    /// Consumes seqs without rows, whose gap the caller recorded.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] for a stream nobody declared.
    pub async fn skip(&self, stream: StreamId, n: u64) -> Result<(), SpoolError> {
        self.ask(|reply| Work::Skip { stream, n, reply }).await?
    }

    /// Durable, unreleased slabs of a lane from `after` on, oldest first, about `limit_bytes` of them
    /// (at least one if there is one).
    ///
    /// # Errors
    /// [`SpoolError::Io`]. Damaged frames are skipped and become gap records.
    pub async fn read(
        &self,
        lane: SpoolLane,
        after: Cursor,
        limit_bytes: usize,
    ) -> Result<Vec<SpooledSlab>, SpoolError> {
        self.ask(|reply| Work::Read { lane, after, limit_bytes, reply }).await?
    }

    /// [`Spool::seek`].
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub async fn seek(&self, lane: SpoolLane, since: SlabTime) -> Result<Cursor, SpoolError> {
        self.ask(|reply| Work::Seek { lane, since, reply }).await?
    }

    /// [`Spool::stretch_before`].
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn stretch_before(
        &self,
        lane: SpoolLane,
        before: Cursor,
        bytes: u64,
    ) -> Result<Cursor, SpoolError> {
        self.ask(|reply| Work::StretchBefore { lane, before, bytes, reply }).await
    }

    /// [`Spool::bytes_between`].
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn bytes_between(
        &self,
        lane: SpoolLane,
        from: Cursor,
        until: Cursor,
    ) -> Result<u64, SpoolError> {
        let between = Box::new((from, until));
        self.ask(|reply| Work::BytesBetween { lane, between, reply }).await
    }

    /// [`Spool::note`].
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn note(&self, key: &'static str, value: Vec<u8>) -> Result<(), SpoolError> {
        self.ask(|reply| Work::Note { key, value, reply }).await
    }

    /// [`Spool::noted`].
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn noted(&self, key: &'static str) -> Result<Option<Vec<u8>>, SpoolError> {
        self.ask(|reply| Work::Noted { key, reply }).await
    }

    /// Frees what the collector has: every stream is tried, the first error is told.
    ///
    /// # Errors
    /// [`SpoolError::BeyondNext`] frees nothing of that stream: the card was restored or cloned.
    pub async fn trim(&self, acked: Vec<(StreamId, IntervalSet)>) -> Result<(), SpoolError> {
        self.ask(|reply| Work::Trim { acked, reply }).await?
    }

    /// Every stream whose schema is known, with what is held and acked of it.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn streams(&self) -> Result<Vec<StreamState>, SpoolError> {
        self.ask(|reply| Work::Streams { reply }).await
    }

    /// How full the spool is.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn usage(&self) -> Result<SpoolUsage, SpoolError> {
        self.ask(|reply| Work::Usage { reply }).await
    }

    /// How its disk is.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn health(&self) -> Result<HealthReport, SpoolError> {
        self.ask(|reply| Work::Health { reply }).await
    }

    /// Gap records made since the last call: rows the disk could not take or give back, seqs left out.
    /// The caller writes them to `hw/gaps`.
    ///
    /// # Errors
    /// [`SpoolError::Io`] if the thread is gone.
    pub async fn take_gaps(&self) -> Result<Vec<GapRecord>, SpoolError> {
        self.ask(|reply| Work::TakeGaps { reply }).await
    }

    /// Makes everything queued before this call durable.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; the slabs stay queued and are tried again.
    pub async fn sync(&self) -> Result<(), SpoolError> {
        self.ask(|reply| Work::Sync { reply }).await?
    }

    /// Grows with each sync that made slabs durable: time to read again.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    fn places_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(PLACE_BYTES)).unwrap_or(u32::MAX).clamp(1, self.places)
    }

    async fn wait_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, SpoolError> {
        Arc::clone(&self.room).acquire_many_owned(self.places_for(bytes)).await.map_err(|_| gone())
    }

    async fn ask<T>(&self, work: impl FnOnce(oneshot::Sender<T>) -> Work) -> Result<T, SpoolError> {
        let room = self.wait_room(0).await?;
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Command { work: work(reply), _room: room }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}
