//! The waiting half of the stamp stage: source events in, slabs out to the spool.

use super::device_rows;
use super::gaps::GapQueue;
use super::policy::policy_of;
use super::slab::SlabBuilder;
use super::stamper::{Refused, Stamper};
use super::track;
use crate::config::Retention;
use crate::receipt::Receipt;
use crate::spool::SpoolHandle;
use crate::telemetry::{Counter, RowsLost, SetAside, StreamRefused, count};
use headwater_core::batch::StreamRef;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootId, BootOrdinal, StreamId, StreamName};
use headwater_core::ports::{Clock, Slab, SourceEvent, SpoolError, SpoolLane};
use headwater_core::sample::Reading;
use headwater_core::schema::{Schema, builtin};
use headwater_core::time::{BootNanos, ClockDomain, Latency, StampKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Events that may wait between sources and stamp: a second of a fast board.
pub const EVENTS_MAX: usize = 1_024;
/// How soon a control slab that found no room is offered again, ms.
const HELD_MS: u64 = 50;
/// How long a shed slab's gap may wait for the stream's next slab, at which the spool records it, ms.
const SHED_MS: u64 = 2_000;
/// How soon a stream whose declaration found no room is declared again, ms: each try may write a segment.
const DECLARE_AGAIN_MS: u64 = 5_000;
/// Receipts that wait for one sync; beyond it a picture is captured twice after a restart.
const PENDING_MAX: usize = 1_024;
/// Gap records remembered to judge receipts by: those of the last syncs.
const RECENT_MAX: usize = 256;

/// An event on its way from a source.
#[derive(Debug)]
pub struct Captured {
    /// Place of the source in the configuration.
    pub source: usize,
    /// Number of the event in its source.
    pub number: u64,
    /// The event.
    pub event: SourceEvent,
    /// Its share of the memory for pictures under way.
    pub room: Option<OwnedSemaphorePermit>,
}

/// A row or a gap record that is on disk after the next sync, if the spool kept it.
#[derive(Debug, Clone)]
struct Pending {
    source: usize,
    number: u64,
    /// Stream and seq of a row; a gap record is never given up.
    row: Option<(StreamName, u64)>,
    shed: bool,
}

/// What the stamp stage needs.
#[derive(Debug)]
pub struct StampTask<C> {
    /// Time.
    pub clock: C,
    /// The spool.
    pub spool: SpoolHandle,
    /// This boot.
    pub boot: BootOrdinal,
    /// The kernel's name for it.
    pub boot_id: BootId,
    /// A clock with a battery set the wall clock.
    pub rtc: bool,
    /// Most by which this board's crystal is declared to be off, ppb.
    pub rho_ppb: Option<i64>,
    /// From the sources; closed when all have ended.
    pub events: mpsc::Receiver<Captured>,
    /// Rows of `hw/clock`, from the observer.
    pub clock_rows: mpsc::Receiver<Reading>,
    /// Gap records others make: the shipper for rows the collector will never take, our own keeper for
    /// the spool's. Their seqs are not ours to give.
    pub gaps: mpsc::Receiver<GapRecord>,
    /// The other end of `gaps`.
    pub gaps_in: mpsc::Sender<GapRecord>,
    /// What the configuration says of the streams of each source.
    pub retentions: Vec<(StreamName, Retention)>,
    /// Who wants receipts, by place of the source.
    pub receipts: Vec<Option<mpsc::Sender<Receipt>>>,
    /// Between syncs that receipts wait for.
    pub receipt_interval: Duration,
}

/// A task that gives receipts; runs until the stamp task drops its end.
#[derive(Debug)]
struct ReceiptTask<C> {
    clock: C,
    spool: SpoolHandle,
    pending: mpsc::Receiver<Pending>,
    gaps: mpsc::Sender<GapRecord>,
    receipts: Vec<Option<mpsc::Sender<Receipt>>>,
    interval: Duration,
}

/// Runs until the sources have ended and all they gave is on disk.
///
/// # Errors
/// [`SpoolError`] if the spool is gone, or the last sync failed.
pub async fn run<C: Clock>(task: StampTask<C>) -> Result<(), SpoolError> {
    let (pending, pending_out) = mpsc::channel(PENDING_MAX);
    let keeper = ReceiptTask {
        clock: task.clock.clone(),
        spool: task.spool.clone(),
        pending: pending_out,
        gaps: task.gaps_in,
        receipts: task.receipts,
        interval: task.receipt_interval,
    };
    let shell = Shell {
        stamper: Stamper::new(task.boot),
        builder: SlabBuilder::default(),
        gaps: GapQueue::default(),
        held: VecDeque::new(),
        shed: BTreeMap::new(),
        lost: Vec::new(),
        hw: (StreamId(0), StreamId(0)),
        undeclared: BTreeMap::new(),
        alarms: BTreeSet::new(),
        retentions: task.retentions,
        clock: task.clock,
        spool: task.spool,
        boot: task.boot,
        pending: Some(pending),
    };
    // The keeper ends when the shell drops its end of `pending`, and the shell's end waits for that.
    let (working, ended) = oneshot::channel::<()>();
    let keeping = async move {
        keep_receipts(keeper).await;
        drop(working);
    };
    let opening = track::boot(shell.clock.read(), task.boot_id, task.rtc, task.rho_ppb);
    let (done, ()) =
        tokio::join!(shell.run(opening, task.events, task.clock_rows, task.gaps, ended), keeping);
    done
}

struct Shell<C> {
    stamper: Stamper,
    builder: SlabBuilder,
    gaps: GapQueue,
    /// Control slabs that found no room: rows of `hw/` are never shed.
    held: VecDeque<Slab>,
    /// Shed slabs the spool does not know of yet, by stream: one record each, and when to tell it ourselves.
    shed: BTreeMap<StreamId, (GapRecord, BootNanos)>,
    /// Events whose gap record is not in the spool yet.
    lost: Vec<Pending>,
    /// Streams whose schema the spool had no room for, and when to ask again; at most the sources' streams.
    undeclared: BTreeMap<StreamName, (Schema, BootNanos)>,
    /// Ids of `hw/clock` and `hw/gaps`.
    hw: (StreamId, StreamId),
    /// Streams whose rows wait for no company; at most the sources' streams.
    alarms: BTreeSet<StreamId>,
    retentions: Vec<(StreamName, Retention)>,
    clock: C,
    spool: SpoolHandle,
    boot: BootOrdinal,
    /// To the keeper of receipts; none once the end has begun.
    pending: Option<mpsc::Sender<Pending>>,
}

fn name(text: &str) -> StreamName {
    text.parse().expect("built-in stream names follow the rule")
}

impl<C: Clock> Shell<C> {
    async fn run(
        mut self,
        opening: Reading,
        mut events: mpsc::Receiver<Captured>,
        mut clock_rows: mpsc::Receiver<Reading>,
        mut side_gaps: mpsc::Receiver<GapRecord>,
        keeper_ended: oneshot::Receiver<()>,
    ) -> Result<(), SpoolError> {
        let clock_id = self.declare(&name(builtin::CLOCK_STREAM), builtin::clock()).await?;
        let gaps_id = self.declare(&name(builtin::GAPS_STREAM), builtin::gaps()).await?;
        self.hw = (clock_id, gaps_id);
        self.clock_row(opening);
        loop {
            let due = self.deadline();
            let wait = async {
                match due {
                    Some(due) => self.clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(event).await?,
                    None => break,
                },
                Some(row) = clock_rows.recv() => self.clock_row(row),
                Some(record) = side_gaps.recv() => self.gaps.push(record),
                () = wait => {}
            }
            self.poll(self.clock.boot()).await?;
        }
        self.finish(side_gaps, keeper_ended).await
    }

    fn deadline(&self) -> Option<BootNanos> {
        let held = (!self.held.is_empty()).then(|| self.clock.boot().plus_ms(HELD_MS));
        let shed = self.shed.values().map(|(_, due)| *due).min();
        [held, shed, self.builder.deadline()].into_iter().flatten().min()
    }

    async fn poll(&mut self, now: BootNanos) -> Result<(), SpoolError> {
        for slab in self.builder.poll(now) {
            self.offer(slab, None);
        }
        let due: Vec<StreamId> =
            self.shed.iter().filter(|(_, (_, at))| *at <= now).map(|(stream, _)| *stream).collect();
        for stream in due {
            self.settle_shed(stream, 0).await?;
        }
        while let Some(slab) = self.held.pop_front() {
            if let Err((slab, _)) = self.spool.try_append(slab) {
                self.held.push_front(slab);
                break;
            }
        }
        self.gap_rows();
        Ok(())
    }

    async fn declare(&mut self, name: &StreamName, schema: Schema) -> Result<StreamId, SpoolError> {
        let policy = policy_of(name, schema.modality, &self.retentions);
        // A slab of the old schema goes first, so that the spool never sees it after the new one.
        if let Some((id, _, _)) = self.stamper.stream(name)
            && let Some(slab) = self.builder.close(id)
        {
            self.offer(slab, None);
        }
        let id = self.spool.declare(name.clone(), schema.clone(), policy).await?;
        let known = self.spool.streams().await?.into_iter().find(|stream| stream.id == id);
        let next_seq = known.map_or(headwater_core::id::Seq(0), |stream| stream.next_seq);
        if policy.lane == SpoolLane::Control && !name.as_str().starts_with("hw/") {
            self.alarms.insert(id);
        }
        self.stamper.declare(name, id, schema, next_seq);
        Ok(id)
    }

    async fn event(&mut self, captured: Captured) -> Result<(), SpoolError> {
        let Captured { source, number, event, room: _room } = captured;
        let pending = Pending { source, number, row: None, shed: false };
        match event {
            SourceEvent::Stream { name, schema } => {
                self.undeclared.remove(&name);
                self.try_declare(name, schema).await?;
            }
            SourceEvent::Reading { stream, reading } => self.reading(&stream, reading, pending).await?,
            SourceEvent::DeviceClock(event) => self.clock_row(device_rows::device_clock(&event)),
            SourceEvent::Lost { stream, rows, cause, at, note } => {
                self.lose(&stream, rows, cause, at, note, Counter::RowsLost).await?;
                self.lost.push(pending);
            }
            SourceEvent::SetAside { stream, why, bytes, .. } => {
                SetAside { stream: &stream, why: &why, bytes: bytes.len() }.emit();
            }
        }
        Ok(())
    }

    /// Declares a stream of a source. A disk that refuses is no reason to end: what is held goes on being
    /// shipped, which makes room, and the stream is declared once its readings find room.
    async fn try_declare(&mut self, name: StreamName, schema: Schema) -> Result<(), SpoolError> {
        match self.declare(&name, schema.clone()).await {
            Ok(_) => Ok(()),
            Err(error @ SpoolError::Streams { .. }) => {
                StreamRefused { stream: &name, why: &error.to_string() }.emit();
                Ok(())
            }
            Err(error @ (SpoolError::Full { .. } | SpoolError::Io { .. })) => {
                StreamRefused { stream: &name, why: &error.to_string() }.emit();
                let again = self.clock.boot().plus_ms(DECLARE_AGAIN_MS);
                self.undeclared.insert(name, (schema, again));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Declares a stream that found no room before, once it is time to ask again.
    async fn declare_again(&mut self, stream: &StreamName) -> Result<(), SpoolError> {
        let now = self.clock.boot();
        match self.undeclared.get(stream) {
            Some((_, again)) if *again <= now => match self.undeclared.remove_entry(stream) {
                Some((name, (schema, _))) => self.try_declare(name, schema).await,
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    async fn reading(
        &mut self,
        stream: &StreamName,
        reading: Reading,
        pending: Pending,
    ) -> Result<(), SpoolError> {
        self.declare_again(stream).await?;
        // Gap records speak of boot time, whatever clock a reading was stamped by.
        let came = if reading.domain == ClockDomain::BOOT { reading.t } else { self.clock.boot() };
        if self.undeclared.contains_key(stream) {
            let (cause, note) = (GapCause::EvictedDiskFull, "its schema found no room");
            return self.lose(stream, 1, cause, came, note.into(), Counter::RowsRejected).await;
        }
        let Some((_, schema, fingerprint)) = self.stamper.stream(stream) else {
            count(Counter::Undeclared, 1);
            return Ok(());
        };
        match self.stamper.stamp(stream, reading, came) {
            Ok((sample, moved)) => {
                count(Counter::Readings, 1);
                count(Counter::Reordered, moved.into());
                let slabs = self.builder.push(&sample, &schema, fingerprint, self.clock.boot());
                for slab in slabs {
                    let row = slab.blob.is_some().then(|| (stream.clone(), sample.seq.0));
                    let pending = row.map(|row| Pending { row: Some(row), ..pending.clone() });
                    self.offer(slab, pending);
                }
                if self.alarms.contains(&sample.stream)
                    && let Some(slab) = self.builder.close(sample.stream)
                {
                    self.offer(slab, None);
                }
            }
            Err(Refused::Undeclared) => count(Counter::Undeclared, 1),
            Err(Refused::Unfit(record)) => {
                self.consumed(*record, Counter::RowsRejected).await?;
                self.lost.push(pending);
            }
        }
        Ok(())
    }

    async fn lose(
        &mut self,
        stream: &StreamName,
        rows: u64,
        cause: GapCause,
        at: BootNanos,
        note: String,
        counter: Counter,
    ) -> Result<(), SpoolError> {
        match self.stamper.lose(stream, rows, cause, at, note) {
            Some(record) => self.consumed(record, counter).await,
            None => {
                count(Counter::Undeclared, rows);
                Ok(())
            }
        }
    }

    /// Seqs were taken without rows: the spool skips them, `hw/gaps` says why.
    async fn consumed(&mut self, record: GapRecord, counter: Counter) -> Result<(), SpoolError> {
        let (cause, note) = (record.cause.cause(), record.note.as_str());
        RowsLost { stream: &record.stream, rows: record.rows, cause, note, counter }.emit();
        if let Some((id, _, _)) = self.stamper.stream(&record.stream) {
            if let Some(slab) = self.builder.close(id) {
                self.offer(slab, None);
            }
            self.settle_shed(id, record.rows).await?;
        }
        self.gaps.push(record);
        Ok(())
    }

    /// Skips what was shed of a stream, recorded by us, and `more` seqs after it.
    async fn settle_shed(&mut self, stream: StreamId, more: u64) -> Result<(), SpoolError> {
        let shed = self.shed.remove(&stream).map(|(record, _)| record);
        let rows = shed.as_ref().map_or(0, |record| record.rows).saturating_add(more);
        self.gaps_push(shed);
        if rows > 0 { self.spool.skip(stream, rows).await } else { Ok(()) }
    }

    fn gaps_push(&mut self, record: Option<GapRecord>) {
        if let Some(record) = record {
            self.gaps.push(record);
        }
    }

    /// Offers a slab to the spool, without waiting. A control slab is held if there is no room, another is shed.
    fn offer(&mut self, slab: Slab, pending: Option<Pending>) {
        let StreamRef::Id(stream) = slab.rows.stream else { return };
        let control = stream == self.hw.0 || stream == self.hw.1;
        if control && !self.held.is_empty() {
            return self.held.push_back(slab);
        }
        match self.spool.try_append(slab) {
            Ok(()) => {
                // The spool sees the hole before this slab and records it as overrun itself.
                self.shed.remove(&stream);
                self.remember(pending);
            }
            Err((slab, _)) if control => {
                count(Counter::ControlHeld, 1);
                self.held.push_back(slab);
            }
            Err((slab, _)) => {
                self.shed(stream, &slab);
                self.remember(pending.map(|pending| Pending { shed: true, ..pending }));
            }
        }
    }

    fn remember(&mut self, pending: Option<Pending>) {
        // At the end nobody waits for receipts any more.
        if let (Some(pending), Some(keeper)) = (pending, &self.pending)
            && keeper.try_send(pending).is_err()
        {
            count(Counter::ReceiptsLost, 1);
        }
    }

    fn shed(&mut self, stream: StreamId, slab: &Slab) {
        let seqs = slab.rows.seqs();
        let now = self.clock.boot();
        let owner = self
            .stamper
            .next_seqs()
            .map(|(name, _)| name.clone())
            .find(|name| self.stamper.stream(name).is_some_and(|(id, _, _)| id == stream));
        let Some(owner) = owner else { return };
        let rows = seqs.end.saturating_sub(seqs.start);
        let (cause, note) = (GapCause::Overrun, "the spool's queue was full");
        let counter = Counter::RowsShed;
        RowsLost { stream: &owner, rows, cause: cause.cause(), note, counter }.emit();
        let bytes = slab.blob.as_ref().map_or(0, |blob| blob.bytes.len() as u64);
        let last = headwater_core::id::Seq(seqs.end.saturating_sub(1));
        let due = now.plus_ms(SHED_MS);
        match self.shed.get_mut(&stream) {
            Some((record, at)) => {
                (record.seq_last, record.b_last, *at) = (last, now, due);
                record.rows = record.rows.saturating_add(rows);
                record.bytes = record.bytes.saturating_add(bytes);
            }
            None => {
                let record = GapRecord {
                    stream: owner,
                    boot_ordinal: self.boot,
                    seq_first: slab.rows.first_seq,
                    seq_last: last,
                    cause,
                    stride: 0,
                    phase: 0,
                    rows,
                    bytes,
                    b_first: BootNanos(slab.rows.t_ns(0).unwrap_or(now.0)).min(now),
                    b_last: now,
                    policy_version: 0,
                    note: note.to_owned(),
                };
                self.shed.insert(stream, (record, due));
            }
        }
    }

    fn clock_row(&mut self, row: Reading) {
        count(Counter::ClockRows, 1);
        self.control_row(builtin::CLOCK_STREAM, row);
        if let Some(slab) = self.builder.close(self.hw.0) {
            self.offer(slab, None);
        }
    }

    fn control_row(&mut self, stream: &str, row: Reading) {
        let stream = name(stream);
        let Some((_, schema, fingerprint)) = self.stamper.stream(&stream) else { return };
        let at = row.t;
        match self.stamper.stamp(&stream, row, at) {
            Ok((sample, _)) => {
                for slab in self.builder.push(&sample, &schema, fingerprint, self.clock.boot()) {
                    self.offer(slab, None);
                }
            }
            Err(refused) => tracing::error!(%stream, ?refused, "a row of our own does not fit its schema"),
        }
    }

    /// Writes waiting gap records as rows, as long as the spool takes them.
    fn gap_rows(&mut self) {
        while self.held.is_empty()
            && let Some(record) = self.gaps.pop()
        {
            count(Counter::GapRows, 1);
            let (latency, kind, domain) = (Latency::NONE, StampKind::Instant, ClockDomain::BOOT);
            let values = record.to_values();
            let row = Reading { t: self.clock.boot(), latency, kind, domain, values, blob: None };
            self.control_row(builtin::GAPS_STREAM, row);
        }
        if let Some(slab) = self.builder.close(self.hw.1) {
            self.offer(slab, None);
        }
        if self.gaps.is_empty() && self.held.is_empty() {
            for pending in std::mem::take(&mut self.lost) {
                self.remember(Some(pending));
            }
        }
    }

    /// The sources have ended: everything goes to disk, waiting for room now.
    async fn finish(
        mut self,
        mut side_gaps: mpsc::Receiver<GapRecord>,
        mut keeper_ended: oneshot::Receiver<()>,
    ) -> Result<(), SpoolError> {
        let shed: Vec<StreamId> = self.shed.keys().copied().collect();
        for stream in shed {
            self.settle_shed(stream, 0).await?;
        }
        for slab in self.builder.finish() {
            self.spool.append(slab).await?;
        }
        // What the spool could not keep of all that is known after a sync.
        self.spool.sync().await?;
        // The keeper asks for it too: what it was told is on its way to us until it has ended.
        self.pending = None;
        loop {
            tokio::select! {
                biased;
                Some(record) = side_gaps.recv() => self.gaps.push(record),
                _ = &mut keeper_ended => break,
            }
        }
        for record in self.spool.take_gaps().await? {
            self.gaps.push(record);
        }
        loop {
            while let Some(slab) = self.held.pop_front() {
                self.spool.append(slab).await?;
            }
            self.gap_rows();
            if self.held.is_empty() && self.gaps.is_empty() {
                break;
            }
        }
        self.spool.sync().await
    }
}

/// Syncs for those who wait for it, and tells them what became of their events.
async fn keep_receipts<C: Clock>(mut task: ReceiptTask<C>) {
    let interval = u64::try_from(task.interval.as_millis()).unwrap_or(u64::MAX);
    let mut waiting: Vec<Pending> = Vec::new();
    let mut recent: VecDeque<GapRecord> = VecDeque::new();
    let mut due = task.clock.boot().plus_ms(interval);
    loop {
        tokio::select! {
            pending = task.pending.recv() => match pending {
                Some(pending) => waiting.push(pending),
                None => break,
            },
            () = task.clock.sleep_until(due) => {
                due = task.clock.boot().plus_ms(interval);
                if !task.tick(&mut waiting, &mut recent).await {
                    break;
                }
            }
        }
    }
}

impl<C: Clock> ReceiptTask<C> {
    /// One sync; false if the spool is gone.
    async fn tick(&self, waiting: &mut Vec<Pending>, recent: &mut VecDeque<GapRecord>) -> bool {
        let now_waiting = std::mem::take(waiting);
        if !now_waiting.is_empty()
            && let Err(error) = self.spool.sync().await
        {
            tracing::warn!(%error, "sync failed; receipts wait for the next one");
            waiting.extend(now_waiting);
            return true;
        }
        let Ok(gaps) = self.spool.take_gaps().await else { return false };
        recent.extend(gaps.iter().cloned());
        recent.drain(..recent.len().saturating_sub(RECENT_MAX));
        for pending in now_waiting {
            let given_up = pending.row.as_ref().is_some_and(|(stream, seq)| {
                recent
                    .iter()
                    .any(|gap| gap.stream == *stream && (gap.seq_first.0..=gap.seq_last.0).contains(seq))
            });
            self.settle(&pending, !pending.shed && !given_up);
        }
        for gap in gaps {
            if self.gaps.send(gap).await.is_err() {
                return false;
            }
        }
        true
    }

    fn settle(&self, pending: &Pending, captured: bool) {
        let receipt = Receipt { event: pending.number, captured };
        if let Some(Some(receipts)) = self.receipts.get(pending.source)
            && receipts.try_send(receipt).is_err()
        {
            count(Counter::ReceiptsLost, 1);
        }
    }
}
