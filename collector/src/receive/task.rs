//! The receive stage's shell: one loop that waits for messages, syncs, commits and due acks.

use super::acks::Now;
use super::clock::QualitySource;
use super::credit::{CreditPool, CreditState};
use super::receiver::{Note, Outgoing, Receiver, Staged, Taken};
use super::sharing::News;
use crate::credentials::Renewal;
use crate::land::{CommitMark, LandError, LandRecord, LandingPosition, Log, Span};
use crate::telemetry;
use headwater_core::id::DevicePath;
use headwater_core::ports::{Clock, Disk, Inbox};
use headwater_core::time::{BootNanos, NS_PER_MS, NS_PER_S};
use headwater_core::wire::WaitReason;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A group is synced early above this, so that one sync writes a bounded amount.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Above this nothing more is taken from the broker until a sync is done: PUBACKs are withheld, and the
/// broker's window of 128 messages of at most 256 KiB then holds the fleet back.
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// Between two looks at the fleet's credit for pages and metrics.
const SHOW_NS: i64 = NS_PER_S;
/// Devices over quota that pages name.
const OVER_QUOTA_SHOWN_MAX: usize = 1000;

/// The fleet's credit, for pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreditBoard {
    /// The pool.
    pub state: CreditState,
    /// Who is over a quota: why, and bytes today where those are counted.
    pub over_quota: Vec<(DevicePath, WaitReason, Option<u64>)>,
}

impl CreditBoard {
    fn of(pool: &CreditPool) -> Self {
        let over = pool.over_quota(OVER_QUOTA_SHOWN_MAX).into_iter();
        let over_quota = over.map(|((device, _), reason, today)| (device, reason, today)).collect();
        Self { state: pool.state(), over_quota }
    }
}

/// What the stage works with.
pub struct ReceiveTask<I, C, D: Disk> {
    /// The broker's end.
    pub inbox: I,
    /// Tells time.
    pub clock: C,
    /// This incarnation's log.
    pub log: Log<D>,
    /// Decides.
    pub receiver: Receiver,
    /// Longest wait before what is staged is synced, ms.
    pub sync_ms: u64,
    /// How good the clock is, asked for each round of acks.
    pub quality: QualitySource,
    /// Told the synced end after each sync.
    pub landed: watch::Sender<LandingPosition>,
    /// The newest commit.
    pub commits: watch::Receiver<CommitMark>,
    /// Told of the fleet's credit, about once a second while messages come.
    pub credit: watch::Sender<CreditBoard>,
    /// What other receivers of the fleet do and land; none without them.
    pub others: Option<mpsc::Receiver<News>>,
    /// Our key and chain, when they were renewed.
    pub renewals: watch::Receiver<Option<Renewal>>,
}

impl<I, C, D: Disk> std::fmt::Debug for ReceiveTask<I, C, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReceiveTask({:?})", self.log)
    }
}

/// A group under way to the disk, with the log it takes along.
type Syncing<D> = JoinHandle<(Log<D>, Result<Vec<Span>, LandError>, BootNanos)>;

/// Why the stage ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The landing log cannot be written: nothing may be acked any more.
    #[error("receiving stopped: nothing can be landed")]
    Land(#[from] LandError),
    /// The thread that wrote it is gone.
    #[error("receiving stopped: the landing thread broke down")]
    Lost(#[from] tokio::task::JoinError),
}

impl<I: Inbox, C: Clock, D: Disk> ReceiveTask<I, C, D> {
    /// Runs until `cancel`, then syncs and acks what was taken.
    ///
    /// # Errors
    /// [`ReceiveError`]: the process should end, and its successor reads the log.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), ReceiveError> {
        let ReceiveTask { mut inbox, clock, log, mut receiver, sync_ms, quality, landed, credit, .. } = self;
        let (mut commits, mut renewals, mut others) = (self.commits, self.renewals, self.others);
        renew(&mut receiver, &mut renewals);
        let mut renewals_open = true;
        let sync_ns = i64::try_from(sync_ms).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS);
        let mut idle = Some(log);
        let mut syncing: Option<Syncing<D>> = None;
        let mut queue = Queue::default();
        let mut in_flight = Vec::new();
        let mut bytes_in_flight = 0;
        let mut commits_open = true;
        let mut shown_at: Option<BootNanos> = None;
        let mut peaks = (0, 0);
        loop {
            let now = clock.boot();
            let due = queue.since.map(|since| since.plus_ns(sync_ns));
            let full = queue.bytes >= GROUP_BYTES_MAX || cancel.is_cancelled();
            if due.is_some_and(|due| full || due <= now)
                && let Some(log) = idle.take()
            {
                bytes_in_flight = queue.bytes;
                let (records, notes) = queue.drain();
                in_flight = notes;
                syncing = Some(spawn_sync(log, records, clock.clone()));
            }
            if cancel.is_cancelled() && syncing.is_none() && queue.staged.is_empty() {
                break;
            }
            // With a sync under way its end is what wakes the loop, not the group's deadline.
            let sync_due = due.filter(|_| idle.is_some());
            let wake = [sync_due, receiver.deadline()].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = cancel.cancelled(), if !cancel.is_cancelled() => {}
                done = async { match syncing.as_mut() {
                    Some(handle) => handle.await,
                    None => std::future::pending().await,
                } } => {
                    syncing = None;
                    let (log, outcome, started) = done?;
                    let spans = outcome?;
                    let boot = clock.boot();
                    telemetry::group_synced(spans.len(), bytes_in_flight, boot.since(started));
                    receiver.landed_in(std::mem::take(&mut bytes_in_flight) as u64, boot.since(started));
                    receiver.synced(std::mem::take(&mut in_flight), &spans, boot);
                    landed.send_replace(log.end());
                    idle = Some(log);
                }
                changed = commits.changed(), if commits_open => match changed {
                    Ok(()) => {
                        let mark = commits.borrow_and_update().clone();
                        receiver.committed(&mark, clock.boot());
                    }
                    Err(_) => commits_open = false,
                },
                news = async { match others.as_mut() {
                    Some(others) => others.recv().await,
                    None => std::future::pending().await,
                } }, if queue.bytes < QUEUE_BYTES_MAX => match news {
                    Some(News::Standing(standing)) => receiver.stand(standing),
                    Some(News::Landed(records)) => {
                        let now = now_of(&clock);
                        for record in &records {
                            if let Some(staged) = receiver.tailed(record, now) {
                                queue.push(*staged, now.boot);
                            }
                        }
                    }
                    Some(News::Look) => {
                        let now = now_of(&clock);
                        receiver.unpen(now).into_iter().for_each(|taken| queue.keep(taken, now.boot));
                    }
                    None => others = None,
                },
                changed = renewals.changed(), if renewals_open => match changed {
                    Ok(()) => renew(&mut receiver, &mut renewals),
                    Err(_) => renewals_open = false,
                },
                () = async { match wake {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                } } => {}
                delivery = inbox.next(), if queue.bytes < QUEUE_BYTES_MAX && !cancel.is_cancelled() => {
                    telemetry::message_received(delivery.payload.len());
                    let now = now_of(&clock);
                    queue.keep(receiver.take(&delivery.topic, &delivery.payload, now), now.boot);
                    inbox.settle(delivery.token).await;
                }
            }
            let waiting = queue.bytes.saturating_add(bytes_in_flight);
            receiver.landing(waiting as u64);
            peaks = (peaks.0.max(waiting), peaks.1.max(receiver.staging().cost()));
            send(&mut inbox, receiver.acks(quality.read(clock.read()), now_of(&clock))).await;
            let staging = receiver.staging();
            telemetry::receiver_state(staging.cost(), staging.dropped(), receiver.landed_set().forgotten());
            telemetry::epochs_forgotten(receiver.epochs_forgotten(), receiver.registry().epochs_forgotten());
            let boot = clock.boot();
            if shown_at.is_none_or(|at| boot.since(at) >= SHOW_NS) {
                shown_at = Some(boot);
                let board = CreditBoard::of(receiver.credit());
                telemetry::credit_state(&board.state);
                telemetry::peaks(peaks.0, peaks.1);
                credit.send_replace(board);
            }
        }
        tracing::info!("receiving ended, everything taken is landed");
        Ok(())
    }
}

fn renew(receiver: &mut Receiver, renewals: &mut watch::Receiver<Option<Renewal>>) {
    if let Some(Renewal { key, chain, revocations }) = renewals.borrow_and_update().clone() {
        receiver.renew(key, chain);
        receiver.set_revocations(revocations);
    }
}

async fn send<I: Inbox>(inbox: &mut I, acks: Vec<Outgoing>) {
    telemetry::acks_sent(acks.len());
    for ack in acks {
        inbox.send(&ack.topic, ack.payload).await;
    }
}

fn now_of<C: Clock>(clock: &C) -> Now {
    let reading = clock.read();
    Now { boot: reading.b2, utc: reading.real }
}

fn spawn_sync<D: Disk, C: Clock>(mut log: Log<D>, records: Vec<LandRecord>, clock: C) -> Syncing<D> {
    tokio::task::spawn_blocking(move || {
        let reading = clock.read();
        let outcome = log.append(&records, reading.real);
        (log, outcome, reading.b1)
    })
}

/// What waits for its sync.
#[derive(Debug, Default)]
struct Queue {
    staged: Vec<Staged>,
    bytes: usize,
    since: Option<BootNanos>,
}

impl Queue {
    fn keep(&mut self, taken: Taken, now: BootNanos) {
        match taken {
            Taken::Land(staged) => self.push(*staged, now),
            Taken::Kept => {}
            Taken::Refused(refusal) => telemetry::message_refused(&refusal),
        }
    }

    fn push(&mut self, staged: Staged, now: BootNanos) {
        self.bytes = self.bytes.saturating_add(staged.record.payload_bytes());
        self.since.get_or_insert(now);
        self.staged.push(staged);
    }

    fn drain(&mut self) -> (Vec<LandRecord>, Vec<Note>) {
        let queue = std::mem::take(self);
        queue.staged.into_iter().map(|staged| (staged.record, staged.note)).unzip()
    }
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
