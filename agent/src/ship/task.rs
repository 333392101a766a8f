//! The shell around [`Shipper`]: one loop that waits for the spool, the link, the clock and the end.

use super::backoff::{Backoff, Rng};
use super::blob_packing::BlobPacking;
use super::catchup::{CatchUp, Pace};
use super::cert_time::CertTime;
use super::error::{AckError, ShipError};
use super::exchange::ClockExchange;
use super::feed::Feed;
use super::identity::ShipIdentity;
use super::policy::{LinkPolicy, LinkRules, Spent};
use super::port::ShipSpool;
use super::said::Said;
use super::shipper::{Action, Nonces, ShipSettings, Shipper};
use super::status::{LinkDown, ShipStatus};
use crate::batch::{BatchSettings, Batcher};
use crate::trust::BroughtLists;
use headwater_core::batch::Effort;
use headwater_core::gap::GapRecord;
use headwater_core::id::BootOrdinal;
use headwater_core::ports::{Cause, Clock, Link, LinkClosed, LinkEvent, RefusedFor, SpoolLane, Uplink};
use headwater_core::time::{BootNanos, NS_PER_MS, UtcNanos};
use headwater_core::wire::{Lane, Topic};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long what is in flight may still go after the end was asked for.
const FLUSH_MS: u64 = 2_000;
/// Longest wait of backlog for company, ms: it fills messages at once unless its lane has no room.
const BACKLOG_LINGER_MS: u64 = 5_000;
/// Under which name the spool keeps what links took.
const SPENT_NOTE: &str = "links/spent";
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
    /// What links may cost, by interface.
    pub rules: Vec<LinkRules>,
    /// Who we are; its epoch is the spool's.
    pub identity: ShipIdentity,
    /// When certificates are checked.
    pub cert_time: CertTime,
    /// Certificates that were renewed while it runs.
    pub renewals: mpsc::Receiver<Renewal<U>>,
    /// What is told of revoked collectors, to be kept.
    pub revoked: mpsc::Sender<BroughtLists>,
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

pub(super) struct Shell<C, S> {
    pub(super) clock: C,
    pub(super) spool: S,
    pub(super) shipper: Shipper,
    settings: ShipSettings,
    pub(super) boot: BootOrdinal,
    /// Rows younger than this are live.
    pub(super) live_window_ns: i64,
    /// By digit of their lane.
    batchers: [Batcher; Lane::ALL.len()],
    pub(super) feeds: [Feed; SpoolLane::ALL.len()],
    catch_up: CatchUp,
    synced: watch::Receiver<u64>,
    spool_gone: bool,
    pub(super) packing: BlobPacking,
    cert_time: CertTime,
    revoked: mpsc::Sender<BroughtLists>,
    floor: watch::Sender<UtcNanos>,
    gaps: mpsc::Sender<GapRecord>,
    exchanges: mpsc::Sender<ClockExchange>,
    status: watch::Sender<ShipStatus>,
    state: ShipStatus,
    cancel: CancellationToken,
    said: Said,
    pub(super) stop_at: Option<BootNanos>,
    /// When a read of the spool that failed is tried again.
    pub(super) read_again_at: Option<BootNanos>,
}

/// Ships until cancelled; then gives what is in flight up to 2 s. Nothing is lost by stopping at any line.
pub async fn run<C: Clock, U: Uplink, S: ShipSpool>(task: ShipTask<C, U, S>) {
    let ShipTask { clock, mut uplink, spool, settings, identity, rng, .. } = task;
    let ack_topic = Topic::Ack(identity.path.clone()).to_string();
    let (message_bytes_max, effort) = (settings.message_bytes_max, settings.effort);
    let batcher = |lane| {
        let linger_ms = linger_ms(&settings, false, lane);
        Batcher::new(BatchSettings { linger_ms, message_bytes_max, effort })
    };
    let mut shell = Shell {
        settings,
        boot: identity.boot_ordinal,
        live_window_ns: i64::try_from(settings.live_window_ms).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS),
        batchers: Lane::ALL.map(batcher),
        feeds: SpoolLane::ALL.map(|_| Feed::new(settings.backlog_order)),
        catch_up: CatchUp::default(),
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
        said: Said::default(),
        stop_at: None,
        read_again_at: None,
        clock,
    };
    let spent = shell.spent_before().await;
    shell.shipper.set_policy(LinkPolicy::new(task.rules, &spent));
    let mut renewals = task.renewals;
    let mut backoff = Backoff::new(rng, settings.spread_s);
    let mut links = 0_u64;
    let first_at = backoff.first_at(shell.clock.boot());
    tokio::select! {
        () = task.cancel.cancelled() => return,
        () = shell.clock.sleep_until(first_at) => {}
    }
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
                    End::Lost(closed) => {
                        uplink.ended(&closed);
                        closed
                    }
                }
            }
            Err(closed) => {
                shell.state.counters.connect_failures =
                    shell.state.counters.connect_failures.saturating_add(1);
                closed
            }
        };
        let now = shell.clock.boot();
        let retry_at = backoff.retry_at(now, closed.cause, uplink.alternatives());
        let wait_ms = retry_at.since(now) / NS_PER_MS;
        shell.down(now, &closed, wait_ms, backoff.is_fresh());
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
        self.begin_under_rules(link.interface());
        self.shipper.connected(now, link.payload_bytes_max());
        self.shipper.limit_span(link.span_max());
        self.state.peer = Some(link.peer()).filter(|peer| !peer.is_empty());
        let limit = self.shipper.message_bytes_max();
        self.batchers.iter_mut().for_each(|batcher| batcher.set_message_bytes_max(limit));
        self.state.since = Some(now);
        tracing::info!(message_bytes_max = limit, "uplink is up");
        let end = self.turn(link, ack_topic, renewals, uplink).await;
        self.shipper.disconnected();
        self.catch_up.unlinked();
        self.save_spent().await;
        self.state.since = Some(self.clock.boot());
        self.publish();
        end
    }

    fn renew<U: Uplink>(&mut self, renewal: Renewal<U>, uplink: &mut U) {
        let before = std::mem::replace(uplink, renewal.uplink);
        uplink.succeed(&before);
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
            // Looked at here too: while a backlog drains, something of the link is always ready before it below.
            if !self.spool_gone && self.synced.has_changed().unwrap_or(false) {
                self.synced.borrow_and_update();
                self.news().await;
            }
            if let Err(closed) = self.hand_over(link).await {
                return End::Lost(closed);
            }
            if let Some(closed) = self.act().await {
                return End::Lost(closed);
            }
            let pulled = self.pull().await;
            self.look_around().await;
            self.publish();
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
                    for lane in Lane::ALL {
                        let sealed = self.batcher(lane).flush();
                        self.offer(lane, sealed);
                    }
                }
                event = link.event() => match event {
                    Ok(LinkEvent::Sent(number)) => self.shipper.sent(self.clock.boot(), number),
                    Ok(LinkEvent::Refused { number, why }) => {
                        self.shipper.refused(self.clock.boot(), number, why);
                        let limit = self.shipper.message_bytes_max();
                        self.batchers.iter_mut().for_each(|batcher| batcher.set_message_bytes_max(limit));
                    }
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
                    self.news().await;
                }
                Some(renewal) = renewals.recv() => self.renew(renewal, uplink),
                // More is to be read; what the link says and the word to end come between.
                () = std::future::ready(()), if pulled => {}
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    /// The spool has more.
    async fn news(&mut self) {
        self.refresh_streams().await;
        self.feeds.iter_mut().for_each(Feed::news);
    }

    /// Tells that there is no link, and why. What only a person mends is an alarm.
    fn down(&mut self, now: BootNanos, closed: &LinkClosed, wait_ms: i64, fresh: bool) {
        let LinkClosed { reason, cause } = closed;
        let word = cause.as_str();
        match cause {
            Cause::NotAuthorized | Cause::TakenOver | Cause::Untrusted => {
                tracing::error!(reason, cause = word, wait_ms, "uplink is down; capture goes on");
            }
            _ => tracing::warn!(reason, cause = word, wait_ms, "uplink is down"),
        }
        let before = self.state.down.filter(|down| down.cause == *cause && !fresh);
        let (since, tries) = before.map_or((now, 0), |down| (down.since, down.tries));
        self.state.down = Some(LinkDown { cause: *cause, since, tries: tries.saturating_add(1) });
        self.state.last_error = Some(closed.to_string());
        self.publish();
    }

    fn wake_at(&self, now: BootNanos) -> BootNanos {
        let lingering = self.batchers.iter().filter_map(Batcher::deadline);
        lingering
            .chain(self.shipper.deadline(now))
            .chain(self.stop_at)
            .chain(self.read_again_at)
            .min()
            .unwrap_or(now.plus_ms(60_000))
            .max(now.plus_ms(REST_MS))
    }

    async fn hand_over<L: Link>(&mut self, link: &mut L) -> Result<(), LinkClosed> {
        while let Some(message) = self.shipper.next(self.clock.boot()) {
            let number = link.send(&message.topic, message.payload).await?;
            if number != message.number {
                let reason = format!("link numbers a message {number}, expected {}", message.number);
                return Err(LinkClosed::transient(reason));
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
                    if let Some(floor) = self.cert_time.exchanged(&exchange) {
                        self.floor.send_if_modified(|known| std::mem::replace(known, floor) < floor);
                    }
                    if self.exchanges.try_send(exchange).is_err() {
                        self.count_dropped();
                    }
                }
                Action::Reread => self.feeds.iter_mut().for_each(Feed::again),
                Action::Rewind => {
                    self.feeds.iter_mut().for_each(Feed::rewind);
                }
                Action::Revoked(lists) => {
                    if self.revoked.try_send(lists).is_err() {
                        tracing::warn!(
                            "revocation lists cannot be kept now; the next hello brings them again"
                        );
                    }
                }
                Action::Reconnect(reason) => dead = Some(LinkClosed::transient(reason)),
                Action::Report(error) => self.report(&error),
            }
        }
        dead
    }

    pub(super) fn batcher(&mut self, lane: Lane) -> &mut Batcher {
        let [control, live_telemetry, live_media, backlog_telemetry, backlog_media] = &mut self.batchers;
        match lane {
            Lane::Control => control,
            Lane::LiveTelemetry => live_telemetry,
            Lane::LiveMedia => live_media,
            Lane::BacklogTelemetry => backlog_telemetry,
            Lane::BacklogMedia => backlog_media,
        }
    }

    pub(super) fn feed(&mut self, lane: SpoolLane) -> &mut Feed {
        let [control, telemetry, media] = &mut self.feeds;
        match lane {
            SpoolLane::Control => control,
            SpoolLane::Telemetry => telemetry,
            SpoolLane::Media => media,
        }
    }

    /// The rules for this interface are in force from now on.
    fn begin_under_rules(&mut self, interface: Option<&str>) {
        let rules = self.shipper.policy().linked(interface);
        let metered = rules.is_some_and(|rules| rules.metered);
        let under = rules.map(|rules| rules.interface.clone());
        tracing::info!(interface = interface.unwrap_or("unknown"), rules = under, metered, "link rules");
        self.state.interface = interface.map(ToOwned::to_owned);
        let effort = if metered { Effort::Metered } else { self.settings.effort };
        for lane in Lane::ALL {
            let linger_ms = linger_ms(&self.settings, metered, lane);
            self.batcher(lane).set_pace(linger_ms, effort);
        }
    }

    /// What is due now and then: the wall clock, the backlog's size, what was spent.
    async fn look_around(&mut self) {
        let now = self.clock.boot();
        let utc = self.cert_time.wall(now, self.clock.read().real);
        self.shipper.policy().set_wall(now, utc);
        if self.catch_up.due_at().is_none_or(|at| now >= at) {
            if let Some(bytes) = self.backlog_bytes().await {
                self.state.backlog_bytes = bytes;
                let pace = self.catch_up.saw(now, bytes);
                if pace == Pace::Never && self.state.catching_up != Pace::Never {
                    tracing::error!(
                        bytes,
                        "the link carries less than is captured: the backlog will not be caught up"
                    );
                }
                self.state.catching_up = pace;
            }
            self.save_spent().await;
        }
    }

    async fn save_spent(&mut self) {
        let Some(spent) = self.shipper.policy().take_spent() else { return };
        match serde_json::to_vec(&spent) {
            Ok(value) => {
                if let Err(error) = self.spool.note(SPENT_NOTE, value).await {
                    self.spool_failed("note what the link took", &error);
                }
            }
            Err(error) => tracing::error!(%error, "what the link took cannot be written"),
        }
    }

    async fn spent_before(&mut self) -> Vec<Spent> {
        match self.spool.noted(SPENT_NOTE).await {
            Ok(Some(value)) => serde_json::from_slice(&value).unwrap_or_else(|error| {
                tracing::warn!(%error, "what the link took before cannot be read; budgets start anew");
                Vec::new()
            }),
            Ok(None) => Vec::new(),
            Err(error) => {
                self.spool_failed("tell what the link took", &error);
                Vec::new()
            }
        }
    }

    async fn refresh_streams(&mut self) {
        match self.spool.streams().await {
            Ok(streams) => self.shipper.set_streams(streams),
            Err(error) => self.spool_failed("list its streams", &error),
        }
    }

    pub(super) fn spool_failed(&mut self, what: &'static str, error: &headwater_core::ports::SpoolError) {
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
        // What any reconnect or slow link brings along; counted, not worth a person's time.
        if let ShipError::Ack(AckError::Early | AckError::Nonce | AckError::Counter { .. }) = error {
            tracing::debug!(%error, why = ?error, "ack not used");
            return;
        }
        let text = error.to_string();
        let news = self.said.is_news(&text, self.clock.boot());
        match error {
            _ if !news => tracing::debug!(%error, "shipping, as told before"),
            ShipError::RefusedByBroker { why: RefusedFor::NotAuthorized } => {
                tracing::error!(%error, "capture goes on");
            }
            ShipError::RestoredCard { .. } => tracing::error!(%error, "shipping is held"),
            ShipError::ShutOut { .. } => tracing::error!(%error, "shipping is held"),
            ShipError::Refused { released: true, .. } => tracing::error!(%error, "rows were given up"),
            error => tracing::warn!(%error, why = ?error, "shipping"),
        }
        self.state.last_error = Some(text);
    }

    fn publish(&mut self) {
        let shell = self.state.counters;
        self.shipper.describe(&mut self.state);
        self.state.live_at = SpoolLane::ALL.map(|lane| self.feed(lane).live_at());
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

/// Longest wait of a slab for company in its lane, ms. Backlog is cut by size; what is left at its end goes too.
fn linger_ms(settings: &ShipSettings, metered: bool, lane: Lane) -> u64 {
    let live = if metered { settings.metered_linger_ms } else { settings.linger_ms };
    match lane {
        Lane::Control => 0,
        Lane::LiveTelemetry | Lane::LiveMedia => live,
        Lane::BacklogTelemetry | Lane::BacklogMedia => live.max(BACKLOG_LINGER_MS),
    }
}
