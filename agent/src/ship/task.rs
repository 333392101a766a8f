//! The shell around [`Shipper`]: one loop that waits for the spool, the link, the clock and the end.

use super::backoff::{Backoff, Rng};
use super::blob_packing::BlobPacking;
use super::cert_time::CertTime;
use super::error::{AckError, ShipError};
use super::exchange::ClockExchange;
use super::identity::ShipIdentity;
use super::port::ShipSpool;
use super::shipper::{Action, Nonces, ShipSettings, Shipper};
use super::status::ShipStatus;
use crate::batch::{BatchSettings, Batcher, Sealed};
use headwater_core::gap::GapRecord;
use headwater_core::ports::{Clock, Cursor, Link, LinkClosed, LinkEvent, SpoolLane, Uplink};
use headwater_core::time::{BootNanos, Grade, UtcNanos};
use headwater_core::wire::Topic;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Bytes asked of the spool at once: a message of telemetry packs from several times its size.
const READ_BYTES: usize = 512 * 1024;
/// How long what is in flight may still go after the end was asked for.
const FLUSH_MS: u64 = 2_000;
/// Least sleep while something is due that has no room, so that the loop does not spin.
const REST_MS: u64 = 20;

/// Everything shipping needs; [`run`] takes it.
pub struct ShipTask<C, U, S> {
    /// The clock.
    pub clock: C,
    /// Makes links.
    pub uplink: U,
    /// The spool.
    pub spool: S,
    /// Settings.
    pub settings: ShipSettings,
    /// Who we are; its epoch is the spool's.
    pub identity: ShipIdentity,
    /// When certificates are checked.
    pub cert_time: CertTime,
    /// Certificates that were renewed while it runs.
    pub renewals: mpsc::Receiver<Renewal<U>>,
    /// What is told of revoked collectors, to be kept.
    pub revoked: mpsc::Sender<Vec<Vec<u8>>>,
    /// What is certain to be past, when that grew.
    pub floor: watch::Sender<UtcNanos>,
    /// Spreads reconnects.
    pub rng: Rng,
    /// Gives random nonces ([`random_nonces`]).
    pub nonces: Nonces,
    /// To the gap recorder.
    pub gaps: mpsc::Sender<GapRecord>,
    /// To the stamp stage, for `hw/clock`.
    pub exchanges: mpsc::Sender<ClockExchange>,
    /// How it stands.
    pub status: watch::Sender<ShipStatus>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// Who we are from now on, and how we connect from the next time on.
#[derive(Debug)]
pub struct Renewal<U> {
    /// Key and chain; the rest must not change.
    pub identity: ShipIdentity,
    /// With the new TLS certificate.
    pub uplink: U,
}

impl<C, U, S> std::fmt::Debug for ShipTask<C, U, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShipTask").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Nonces from the system's source of randomness.
#[must_use]
pub fn random_nonces() -> Nonces {
    use ring::rand::{SecureRandom, SystemRandom};
    let random = SystemRandom::new();
    // A nonce must not repeat; should the source fail, this process-wide count still keeps them apart.
    let mut n = 0_u64;
    Box::new(move || {
        let mut nonce = [0; 16];
        n = n.wrapping_add(1);
        if random.fill(&mut nonce).is_err() {
            tracing::error!("system randomness failed, hello nonces are only counted");
            nonce = [0xff; 16];
            for (to, from) in nonce.iter_mut().zip(n.to_le_bytes()) {
                *to = from;
            }
        }
        nonce
    })
}

enum End {
    Cancelled,
    Lost(LinkClosed),
}

struct Shell<C, S> {
    clock: C,
    spool: S,
    shipper: Shipper,
    batchers: [Batcher; 3],
    cursors: [Cursor; 3],
    /// A lane may have more to read.
    more: [bool; 3],
    synced: watch::Receiver<u64>,
    spool_gone: bool,
    packing: BlobPacking,
    cert_time: CertTime,
    revoked: mpsc::Sender<Vec<Vec<u8>>>,
    floor: watch::Sender<UtcNanos>,
    gaps: mpsc::Sender<GapRecord>,
    exchanges: mpsc::Sender<ClockExchange>,
    status: watch::Sender<ShipStatus>,
    state: ShipStatus,
    cancel: CancellationToken,
    stop_at: Option<BootNanos>,
}

/// Ships until cancelled; then gives what is in flight up to 2 s. Nothing is lost by stopping at any line.
pub async fn run<C: Clock, U: Uplink, S: ShipSpool>(task: ShipTask<C, U, S>) {
    let ShipTask { clock, mut uplink, spool, settings, identity, rng, .. } = task;
    let ack_topic = Topic::Ack(identity.path.clone()).to_string();
    let (message_bytes_max, effort) = (settings.message_bytes_max, settings.effort);
    let batcher = |linger_ms| Batcher::new(BatchSettings { linger_ms, message_bytes_max, effort });
    let mut shell = Shell {
        batchers: [batcher(0), batcher(settings.linger_ms), batcher(settings.linger_ms)],
        cursors: [Cursor::default(); 3],
        more: [true; 3],
        synced: spool.synced(),
        spool_gone: false,
        packing: BlobPacking::new(settings.lepton, clock.boot()),
        shipper: Shipper::new(settings, identity, task.nonces),
        spool,
        cert_time: task.cert_time,
        revoked: task.revoked,
        floor: task.floor,
        gaps: task.gaps,
        exchanges: task.exchanges,
        status: task.status,
        state: ShipStatus { since: Some(clock.boot()), ..ShipStatus::default() },
        cancel: task.cancel.clone(),
        stop_at: None,
        clock,
    };
    let mut renewals = task.renewals;
    let mut backoff = Backoff::new(rng);
    let mut links = 0_u64;
    loop {
        let connected = tokio::select! {
            () = task.cancel.cancelled() => break,
            connected = uplink.connect(&ack_topic) => connected,
        };
        let closed = match connected {
            Ok(mut link) => {
                let now = shell.clock.boot();
                backoff.connected(now);
                links = links.saturating_add(1);
                shell.state.counters.reconnects = links.saturating_sub(1);
                match shell.talk(&mut link, &ack_topic, &mut renewals, &mut uplink).await {
                    End::Cancelled => break,
                    End::Lost(closed) => closed,
                }
            }
            Err(closed) => {
                shell.state.counters.connect_failures =
                    shell.state.counters.connect_failures.saturating_add(1);
                closed
            }
        };
        let now = shell.clock.boot();
        let retry_at = backoff.retry_at(now, closed.transient);
        let wait_ms = retry_at.since(now) / headwater_core::time::NS_PER_MS;
        tracing::warn!(reason = closed.reason, transient = closed.transient, wait_ms, "uplink is down");
        shell.state.last_error = Some(closed.to_string());
        shell.publish();
        tokio::select! {
            () = task.cancel.cancelled() => break,
            () = shell.clock.sleep_until(retry_at) => {}
            // With other certificates it may go at once.
            Some(renewal) = renewals.recv() => shell.renew(renewal, &mut uplink),
        }
    }
    shell.publish();
}

impl<C: Clock, S: ShipSpool> Shell<C, S> {
    /// Lives through one link.
    async fn talk<U: Uplink>(
        &mut self,
        link: &mut U::Link,
        ack_topic: &str,
        renewals: &mut mpsc::Receiver<Renewal<U>>,
        uplink: &mut U,
    ) -> End {
        let now = self.clock.boot();
        self.refresh_streams().await;
        self.shipper.connected(now, link.payload_bytes_max());
        let limit = self.shipper.message_bytes_max();
        self.batchers.iter_mut().for_each(|batcher| batcher.set_message_bytes_max(limit));
        self.state.since = Some(now);
        tracing::info!(message_bytes_max = limit, "uplink is up");
        let end = self.turn(link, ack_topic, renewals, uplink).await;
        self.shipper.disconnected();
        self.state.since = Some(self.clock.boot());
        self.publish();
        end
    }

    fn renew<U>(&mut self, renewal: Renewal<U>, uplink: &mut U) {
        *uplink = renewal.uplink;
        self.shipper.renew(self.clock.boot(), renewal.identity);
    }

    async fn turn<U: Uplink>(
        &mut self,
        link: &mut U::Link,
        ack_topic: &str,
        renewals: &mut mpsc::Receiver<Renewal<U>>,
        uplink: &mut U,
    ) -> End {
        loop {
            if let Err(closed) = self.hand_over(link).await {
                return End::Lost(closed);
            }
            if let Some(closed) = self.act().await {
                return End::Lost(closed);
            }
            let pulled = self.pull().await;
            self.publish();
            if pulled {
                continue;
            }
            let now = self.clock.boot();
            if let Some(stop_at) = self.stop_at
                && (now >= stop_at || self.shipper.is_drained())
            {
                return End::Cancelled;
            }
            let wake = self.wake_at(now);
            tokio::select! {
                biased;
                () = self.cancel.cancelled(), if self.stop_at.is_none() => {
                    self.stop_at = Some(self.clock.boot().plus_ms(FLUSH_MS));
                    for lane in SpoolLane::ALL {
                        let sealed = self.batchers[place(lane)].flush();
                        self.offer(lane, sealed);
                    }
                }
                event = link.event() => match event {
                    Ok(LinkEvent::Sent(number)) => self.shipper.sent(self.clock.boot(), number),
                    Ok(LinkEvent::Received { topic, payload }) => {
                        // T4 before anything else is done with it.
                        let now = self.clock.boot();
                        if topic == ack_topic {
                            let utc = self.cert_time.at(now, self.clock.read().real);
                            self.shipper.received(now, utc, &payload);
                            let announced = self.shipper.announced();
                            self.packing.announce(announced.blobs);
                            self.batchers.iter_mut().for_each(|batcher| batcher.announce(announced));
                        }
                    }
                    Err(closed) => return End::Lost(closed),
                },
                changed = self.synced.changed(), if !self.spool_gone => {
                    self.spool_gone = changed.is_err();
                    self.refresh_streams().await;
                    self.more = [true; 3];
                }
                Some(renewal) = renewals.recv() => self.renew(renewal, uplink),
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    fn wake_at(&self, now: BootNanos) -> BootNanos {
        let lingering = self.batchers.iter().filter_map(Batcher::deadline);
        lingering
            .chain(self.shipper.deadline(now))
            .chain(self.stop_at)
            .min()
            .unwrap_or(now.plus_ms(60_000))
            .max(now.plus_ms(REST_MS))
    }

    async fn hand_over<L: Link>(&mut self, link: &mut L) -> Result<(), LinkClosed> {
        while let Some(message) = self.shipper.next(self.clock.boot()) {
            let number = link.send(&message.topic, message.payload).await?;
            if number != message.number {
                let reason = format!("link numbers a message {number}, expected {}", message.number);
                return Err(LinkClosed { reason, transient: true });
            }
        }
        Ok(())
    }

    async fn act(&mut self) -> Option<LinkClosed> {
        let mut dead = None;
        for action in self.shipper.take_actions() {
            match action {
                Action::Trim(acked) => {
                    if let Err(error) = self.spool.trim(acked).await {
                        self.spool_failed("trim", &error);
                    }
                }
                Action::Gap(record) => {
                    // Its rows stay in the spool: the next life sends them again, and they are refused again.
                    if self.gaps.send(record).await.is_err() {
                        self.count_dropped();
                    }
                }
                Action::Clock(exchange) => {
                    if exchange.grade == Grade::Guaranteed {
                        // The collector promises that it was no earlier than this when it signed.
                        let least = exchange.t3.plus_ns(exchange.e_c_ns.saturating_neg());
                        let floor = self.cert_time.promised(exchange.t4, least);
                        self.floor.send_if_modified(|known| std::mem::replace(known, floor) < floor);
                    }
                    if self.exchanges.try_send(exchange).is_err() {
                        self.count_dropped();
                    }
                }
                Action::Rewind => {
                    self.cursors = [Cursor::default(); 3];
                    self.more = [true; 3];
                }
                Action::Revoked(lists) => {
                    if self.revoked.try_send(lists).is_err() {
                        tracing::warn!(
                            "revocation lists cannot be kept now; the next hello brings them again"
                        );
                    }
                }
                Action::Reconnect(reason) => dead = Some(LinkClosed { reason, transient: true }),
                Action::Report(error) => self.report(&error),
            }
        }
        dead
    }

    /// Reads a little of each lane that has room; true if something was read.
    async fn pull(&mut self) -> bool {
        let mut pulled = false;
        for lane in SpoolLane::ALL {
            let at = place(lane);
            if self.stop_at.is_none() && self.more[at] && self.shipper.wants(lane) {
                match self.spool.read(lane, self.cursors[at], READ_BYTES).await {
                    Ok(slabs) => {
                        self.more[at] = !slabs.is_empty();
                        pulled |= self.more[at];
                        for slab in slabs {
                            self.cursors[at] = slab.next;
                            if self.shipper.take(&slab) {
                                let packed = match &slab.slab.blob {
                                    Some(blob) => self.packing.pack(&self.clock, blob).await,
                                    None => None,
                                };
                                let now = self.clock.boot();
                                let sealed = self.batchers[at].push_packed(now, slab, packed);
                                self.offer(lane, sealed);
                            }
                        }
                    }
                    Err(error) => {
                        // Tried again after the next sync.
                        self.more[at] = false;
                        self.spool_failed("read", &error);
                    }
                }
            }
            let sealed = self.batchers[at].poll(self.clock.boot());
            pulled |= !sealed.is_empty();
            self.offer(lane, sealed);
        }
        pulled
    }

    fn offer(&mut self, lane: SpoolLane, sealed: Vec<Sealed>) {
        sealed.into_iter().for_each(|sealed| self.shipper.offer(lane, sealed));
    }

    async fn refresh_streams(&mut self) {
        match self.spool.streams().await {
            Ok(streams) => self.shipper.set_streams(streams),
            Err(error) => self.spool_failed("list its streams", &error),
        }
    }

    fn spool_failed(&mut self, what: &'static str, error: &headwater_core::ports::SpoolError) {
        tracing::error!(what, %error, "spool failed");
        self.state.counters.spool_errors = self.state.counters.spool_errors.saturating_add(1);
        self.state.last_error = Some(error.to_string());
    }

    fn count_dropped(&mut self) {
        let dropped = &mut self.state.counters.side_rows_dropped;
        *dropped = dropped.saturating_add(1);
        tracing::warn!("a gap record or clock exchange found no room");
    }

    fn report(&mut self, error: &ShipError) {
        match error {
            // What any reconnect or slow link brings along; counted, not worth a person's time.
            ShipError::Ack(AckError::Early | AckError::Nonce | AckError::Counter { .. }) => {
                tracing::debug!(%error, why = ?error, "ack not used");
                return;
            }
            ShipError::RestoredCard { .. } => tracing::error!(%error, "shipping is held"),
            ShipError::ShutOut { .. } => tracing::error!(%error, "shipping is held"),
            ShipError::Refused { released: true, .. } => tracing::error!(%error, "rows were given up"),
            error => tracing::warn!(%error, why = ?error, "shipping"),
        }
        self.state.last_error = Some(error.to_string());
    }

    fn publish(&mut self) {
        let shell = self.state.counters;
        self.shipper.describe(&mut self.state);
        self.state.backlog = self.cursors;
        let mut counters = self.shipper.counters();
        counters.side_rows_dropped = shell.side_rows_dropped;
        counters.blobs_packed = self.packing.stats.packed;
        counters.blob_bytes_saved = self.packing.stats.bytes_saved;
        counters.blobs_over_budget = self.packing.stats.over_budget;
        counters.reconnects = shell.reconnects;
        counters.connect_failures = shell.connect_failures;
        counters.spool_errors = shell.spool_errors;
        self.state.counters = counters;
        self.status.send_if_modified(|shown| {
            let news = *shown != self.state;
            if news {
                shown.clone_from(&self.state);
            }
            news
        });
    }
}

fn place(lane: SpoolLane) -> usize {
    match lane {
        SpoolLane::Control => 0,
        SpoolLane::Telemetry => 1,
        SpoolLane::Media => 2,
    }
}
