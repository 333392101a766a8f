//! The agent in one picture: this file alone knows all stages and their order.
//!
//! ```text
//!  serial ──┐
//!  camera ──┼─ forward ──events──► stamp ──slabs──► spool ──► batch ──► ship ══► collector
//!  exec ────┘    │                  ▲  ▲              │                  │
//!                └ quarantine       │  └── gaps ──────┴──────────────────┤
//!                ▲                  └───── clock exchanges ──────────────┘
//!                └──── receipts (on disk) ── stamp
//! ```
//!
//! Read it from the left. Each source has a task of its own ([`forward`]) that waits for its port,
//! folder or program and hands events on. One stamp task numbers them, groups them into slabs and
//! offers these to the spool; it never waits for the network, so a dead link costs nothing but disk
//! (invariant A3). The spool is one thread with a bounded queue. Ship reads what is durable, and lets
//! go of it when the collector's signed word is there.
//!
//! What can be full says so: the queue of events makes its source wait, the spool's queue makes stamp
//! shed a slab and record a gap (D2), the spool itself makes gap records of what it cannot keep.
//!
//! Shutdown runs the same way, from left to right: sources are cancelled, their channel closes, stamp
//! gives all it holds to the spool and syncs, ship gets two seconds for what is under way. Whoever is
//! late after ten seconds is named. Pulling the plug instead is just as safe, and loses no more than
//! the lane's loss window.

use crate::clock::{BootClock, kernel_sync};
use crate::config::{Broker, Identity, IdentityError, Settings, identity};
use crate::quarantine::Quarantine;
use crate::ship::mqtt::{BrokerUrl, MqttSettings, MqttUplink};
use crate::ship::{
    self, ClockExchange, Rng, ShipIdentity, ShipSettings, ShipStatus, ShipTask, random_nonces,
};
use crate::source::AnySource;
use crate::spool::disk::RealDisk;
use crate::spool::{DiskSpool, Opened, SpoolHandle, SyncPolicy, TaskSettings};
use crate::stamp::{self, Captured, EVENTS_MAX, StampTask};
use crate::status::{self, AgentStatus, LinkStatus, Parts};
use crate::telemetry::SourceOver;
use headwater_core::gap::{GapCause, GapRecord};
use headwater_core::id::{BootId, StreamName};
use headwater_core::ports::{Clock, Source, SourceEvent, SpoolError};
use headwater_core::time::{Grade, NS_PER_MS};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long shutdown may take before the late are named, ms. The service manager gives us 20 s.
const SHUTDOWN_MS: u64 = 10_000;
/// Bytes of pictures between sources and spool: two of the largest.
const PICTURES_BYTES_MAX: usize = 32 << 20;
/// One permit of that memory, bytes.
const PICTURES_UNIT: usize = 1_024;
/// Between two status files, ms.
const STATUS_MS: u64 = 1_000;
/// Least time between two status files, ms: changes of the link come in bursts.
const STATUS_LEAST_MS: u64 = 200;
/// How soon certificates that cannot be used are read again, ms.
const IDENTITY_AGAIN_MS: u64 = 60_000;
/// Gap records and clock exchanges on their way to stamp.
const SIDE_MAX: usize = 256;
/// Bytes after which the spool syncs before its interval is over.
const SYNC_BYTES: u64 = 1 << 20;

/// Why the agent could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The kernel does not tell its boot id.
    #[error("boot id cannot be read; is /proc mounted?")]
    BootId(#[source] io::Error),
    /// The spool does not open or failed for good.
    #[error("spool in {dir} cannot be used; check that its folder exists, is writable and has room")]
    Spool {
        /// Its folder.
        dir: String,
        /// Why.
        #[source]
        source: SpoolError,
    },
    /// The folder for what is set aside cannot be made.
    #[error("quarantine in {dir} cannot be opened; check that its folder is writable")]
    Quarantine {
        /// Folder of the spool.
        dir: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Tasks that did not end in time.
    #[error("shutdown took longer than {seconds} s; late: {late}")]
    Late {
        /// The deadline.
        seconds: u64,
        /// Their names.
        late: String,
    },
    /// A task panicked; its message is in the log.
    #[error("task {0} broke down")]
    Broken(String),
}

/// Tasks by name, so that shutdown can say who is late.
#[derive(Debug, Clone, Default)]
struct Tasks {
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeSet<String>>>,
}

impl Tasks {
    fn spawn(
        &self,
        name: &str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let (name, running) = (name.to_owned(), Arc::clone(&self.running));
        running.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        self.tracker.spawn(async move {
            task.await;
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        })
    }

    fn late(&self) -> String {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().cloned().collect::<Vec<_>>().join(", ")
    }
}

/// Runs the agent until `cancel`, then drains it.
///
/// # Errors
/// [`RunError`].
pub async fn run(settings: Settings, cancel: CancellationToken) -> Result<(), RunError> {
    let clock = BootClock;
    let boot_id = status::boot_id().map_err(RunError::BootId)?;
    let (spool, opened, spool_thread) = open_spool(&settings, boot_id).await?;
    let quarantine = Quarantine::open(&settings.spool.dir)
        .map_err(|source| RunError::Quarantine { dir: settings.spool.dir.display().to_string(), source })?;
    let quarantine = Arc::new(Mutex::new(quarantine));
    let tasks = Tasks::default();

    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let (gaps_in, gaps) = mpsc::channel(SIDE_MAX);
    let (exchanges_in, exchanges) = mpsc::channel(SIDE_MAX);
    let (grade, grade_seen) = watch::channel(Grade::OrderingOnly);
    let (ship_status, ship_seen) = watch::channel(ShipStatus::default());

    // source
    let mut receipts = Vec::new();
    let room = Arc::new(Semaphore::new(PICTURES_BYTES_MAX / PICTURES_UNIT));
    for (place, settings_of_one) in settings.sources.iter().enumerate() {
        let (source, receipts_of_one) = AnySource::new(settings_of_one, clock);
        let line = Line {
            place,
            stream: settings_of_one.stream.clone(),
            can_wait: receipts_of_one.is_some(),
            events: events_in.clone(),
            room: Arc::clone(&room),
            quarantine: Arc::clone(&quarantine),
            cancel: cancel.clone(),
        };
        receipts.push(receipts_of_one);
        tasks.spawn(&format!("source {}", settings_of_one.stream), forward(line, source));
    }
    // When every source has ended by itself the agent still ships: this end keeps the channel open.
    let keep_open = events_in;

    // stamp
    let (stamped, stamp_done) = tokio::sync::oneshot::channel();
    let stamp_task = StampTask {
        clock,
        kernel: kernel_sync,
        spool: spool.clone(),
        boot: opened.boot_ordinal,
        boot_id,
        events,
        exchanges,
        gaps,
        gaps_in: gaps_in.clone(),
        receipts,
        receipt_interval: settings.spool.sync_interval,
        grade,
    };
    tasks.spawn("stamp", async move {
        let done = stamp::run(stamp_task).await;
        if stamped.send(done).is_err() {
            tracing::error!("nobody waits for the end of stamp");
        }
    });

    // ship: ends after capture, so that the last rows still get their chance
    let ship_cancel = CancellationToken::new();
    let shipping = Shipping {
        settings: settings.clone(),
        opened,
        boot_id,
        spool: spool.clone(),
        gaps: gaps_in,
        exchanges: exchanges_in,
        status: ship_status,
        cancel: ship_cancel.clone(),
        tasks: tasks.tracker.clone(),
    };
    let shipped = tasks.spawn("ship", shipping.run(clock));

    // status
    let board = Board {
        settings: settings.clone(),
        opened,
        boot_id,
        spool: spool.clone(),
        ship: ship_seen,
        grade: grade_seen,
    };
    let last_look = CancellationToken::new();
    tasks.spawn("status", board.run(clock, cancel.clone(), last_look.clone()));
    tracing::info!(device = %settings.device, epoch = %opened.epoch, boot = opened.boot_ordinal.0,
        sources = settings.sources.len(), "agent runs");

    let mut stamp_done = std::pin::pin!(stamp_done);
    let early = tokio::select! {
        () = cancel.cancelled() => None,
        done = &mut stamp_done => Some(done),
    };
    // Shutdown, or stamp could not go on: the rest ends with it.
    cancel.cancel();
    let late_at = clock.boot().plus_ms(SHUTDOWN_MS);
    let late = || RunError::Late { seconds: SHUTDOWN_MS / 1_000, late: tasks.late() };
    drop(keep_open);
    let done = match early {
        Some(done) => done,
        None => tokio::select! {
            done = &mut stamp_done => done,
            () = clock.sleep_until(late_at) => return Err(late()),
        },
    };
    tracing::info!("all captures are on disk");
    ship_cancel.cancel();
    let shipped = tokio::select! {
        shipped = shipped => shipped,
        () = clock.sleep_until(late_at) => return Err(late()),
    };
    // The last status tells what is held after the last ack.
    last_look.cancel();
    tasks.tracker.close();
    drop(spool);
    let spool_ended = tokio::task::spawn_blocking(move || spool_thread.join());
    let ended = async {
        tasks.tracker.wait().await;
        spool_ended.await
    };
    let spool_ended = tokio::select! {
        ended = ended => ended,
        () = clock.sleep_until(late_at) => return Err(late()),
    };
    let dir = || settings.spool.dir.display().to_string();
    match (done, spool_ended) {
        (Ok(Err(source)), _) => Err(RunError::Spool { dir: dir(), source }),
        (Err(_), _) => Err(RunError::Broken("stamp".to_owned())),
        (Ok(Ok(())), _) if shipped.is_err() => Err(RunError::Broken("ship".to_owned())),
        (Ok(Ok(())), Ok(Ok(()))) => Ok(()),
        (_, Ok(Err(_)) | Err(_)) => Err(RunError::Broken("spool".to_owned())),
    }
}

type SpoolThread = std::thread::JoinHandle<()>;

async fn open_spool(
    settings: &Settings,
    boot_id: BootId,
) -> Result<(SpoolHandle, Opened, SpoolThread), RunError> {
    let dir = &settings.spool.dir;
    let failed = |source| RunError::Spool { dir: dir.display().to_string(), source };
    let sizes = crate::spool::Settings { bytes_max: settings.spool.bytes_max, ..Default::default() };
    let of = dir.clone();
    let opening = tokio::task::spawn_blocking(move || DiskSpool::open(RealDisk, &of, boot_id, sizes));
    let (spool, opened) =
        opening.await.map_err(|_| RunError::Broken("opening the spool".to_owned()))?.map_err(failed)?;
    if opened.new_epoch {
        tracing::info!(epoch = %opened.epoch, "spool begins a new epoch");
    }
    if opened.quarantined > 0 {
        tracing::error!(segments = opened.quarantined, "segments could not be read and are set aside");
    }
    let sync = SyncPolicy { interval: settings.spool.sync_interval, bytes: SYNC_BYTES };
    let task = TaskSettings { sync, ..TaskSettings::default() };
    let (handle, thread) = SpoolHandle::start(spool, task).map_err(failed)?;
    Ok((handle, opened, thread))
}

/// What a source's task needs beside the source.
#[derive(Debug)]
struct Line {
    place: usize,
    stream: StreamName,
    /// Its originals stay until receipts come: it may wait for memory, where others shed.
    can_wait: bool,
    events: mpsc::Sender<Captured>,
    room: Arc<Semaphore>,
    quarantine: Arc<Mutex<Quarantine>>,
    cancel: CancellationToken,
}

/// Hands the events of one source on, until it ends or `cancel`.
async fn forward<C: Clock>(mut line: Line, mut source: AnySource<C>) {
    let mut number = 0_u64;
    loop {
        let next = tokio::select! {
            biased;
            () = line.cancel.cancelled() => break,
            next = source.next() => next,
        };
        let event = match next {
            Ok(event) => event,
            Err(why) => {
                SourceOver { stream: &line.stream, why: &why }.emit();
                break;
            }
        };
        let (event, room) = line.admit(event).await;
        let captured = Captured { source: line.place, number, event, room };
        number = number.saturating_add(1);
        if line.events.send(captured).await.is_err() {
            break;
        }
    }
    // The channel stays open meanwhile, so that what is under way is stamped and receipted.
    source.close().await;
}

impl Line {
    /// Puts aside what is no reading, and finds memory for a picture or makes it a recorded loss.
    async fn admit(
        &mut self,
        event: SourceEvent,
    ) -> (SourceEvent, Option<tokio::sync::OwnedSemaphorePermit>) {
        match event {
            SourceEvent::SetAside { stream, why, bytes, at } => {
                let (quarantine, of, reason) = (Arc::clone(&self.quarantine), stream.clone(), why.clone());
                let kept = tokio::task::spawn_blocking(move || {
                    let mut quarantine = quarantine.lock().unwrap_or_else(PoisonError::into_inner);
                    (quarantine.keep(&of, &reason, &bytes).map(drop), bytes)
                });
                let (kept, bytes) =
                    kept.await.unwrap_or_else(|error| (Err(io::Error::other(error)), Vec::new()));
                if let Err(error) = kept {
                    tracing::warn!(%stream, %error, "what was set aside could not be kept");
                }
                (SourceEvent::SetAside { stream, why, bytes, at }, None)
            }
            SourceEvent::Reading { stream, reading } => {
                let Some(blob) = &reading.blob else {
                    return (SourceEvent::Reading { stream, reading }, None);
                };
                let units = blob.bytes.len().div_ceil(PICTURES_UNIT).min(PICTURES_BYTES_MAX / PICTURES_UNIT);
                let units = u32::try_from(units).unwrap_or(u32::MAX);
                let room = if self.can_wait {
                    Arc::clone(&self.room).acquire_many_owned(units).await.ok()
                } else {
                    Arc::clone(&self.room).try_acquire_many_owned(units).ok()
                };
                match room {
                    Some(room) => (SourceEvent::Reading { stream, reading }, Some(room)),
                    None => {
                        let (cause, at) = (GapCause::Overrun, reading.t);
                        let note = "too many pictures wait for the spool".to_owned();
                        (SourceEvent::Lost { stream, rows: 1, cause, at, note }, None)
                    }
                }
            }
            other => (other, None),
        }
    }
}

/// What shipping needs before it knows who we are.
struct Shipping {
    settings: Settings,
    opened: Opened,
    boot_id: BootId,
    spool: SpoolHandle,
    gaps: mpsc::Sender<GapRecord>,
    exchanges: mpsc::Sender<ClockExchange>,
    status: watch::Sender<ShipStatus>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Shipping {
    /// Ships until cancelled. Certificates that cannot be used hold shipping back, never capture (A3).
    async fn run<C: Clock>(self, clock: C) {
        let (identity, uplink) = loop {
            match self.prepare(&clock) {
                Ok(ready) => break ready,
                Err(why) => {
                    tracing::error!(why, "cannot ship; capture goes on");
                    self.status.send_modify(|status| status.last_error = Some(why));
                }
            }
            let again = clock.boot().plus_ms(IDENTITY_AGAIN_MS);
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = clock.sleep_until(again) => {}
            }
        };
        let mut seed = [0; 8];
        let seeded = {
            use ring::rand::{SecureRandom, SystemRandom};
            SystemRandom::new().fill(&mut seed).is_ok()
        };
        let seed = if seeded { u64::from_le_bytes(seed) } else { self.opened.epoch.0 };
        let settings = ShipSettings {
            keepalive_s: self.settings.keepalive_s,
            linger_ms: u64::try_from(self.settings.linger.as_millis()).unwrap_or(u64::MAX),
            ..ShipSettings::default()
        };
        let task = ShipTask {
            clock,
            uplink,
            spool: self.spool,
            settings,
            identity: identity.0,
            time_floor: identity.1,
            rng: Rng::new(seed),
            nonces: random_nonces(),
            gaps: self.gaps,
            exchanges: self.exchanges,
            status: self.status,
            cancel: self.cancel,
        };
        ship::run(task).await;
    }

    fn prepare<C: Clock>(
        &self,
        clock: &C,
    ) -> Result<((ShipIdentity, headwater_core::time::UtcNanos), MqttUplink<C>), String> {
        let settings = &self.settings;
        let identity = identity::load(&settings.identity, &settings.device, clock.read().real)
            .map_err(|errors| told(&errors))?;
        let mqtt = mqtt_settings(settings, &identity)?;
        let me = ShipIdentity {
            path: settings.device.clone(),
            epoch: self.opened.epoch,
            boot_ordinal: self.opened.boot_ordinal,
            boot_id: self.boot_id,
            key: Arc::clone(&identity.sign_key),
            chain: identity.sign_chain,
            roots: identity.roots,
            software: concat!("headwater-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let uplink = MqttUplink::new(mqtt, me.clone(), clock.clone(), self.tasks.clone())
            .map_err(|error| error.to_string())?;
        Ok(((me, identity.time_floor), uplink))
    }
}

/// All errors in one line.
#[must_use]
pub fn told(errors: &[IdentityError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The broker and its TLS, as the configuration and the identity say.
///
/// # Errors
/// What is wrong, for a person.
pub fn mqtt_settings(settings: &Settings, identity: &Identity) -> Result<MqttSettings, String> {
    let Broker { host, port, tls } = &settings.broker;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let tls = tls
        .then(|| {
            let Identity { ca_pem, tls_cert_pem, tls_key_pem, time_floor, .. } = identity;
            ship::tls::client_config(ca_pem, tls_cert_pem, tls_key_pem, *time_floor)
        })
        .transpose()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let broker = BrokerUrl { host, port: *port, tls: tls.is_some() };
    Ok(MqttSettings { broker, tls, keepalive_s: settings.keepalive_s })
}

/// Writes the status file.
struct Board {
    settings: Settings,
    opened: Opened,
    boot_id: BootId,
    spool: SpoolHandle,
    ship: watch::Receiver<ShipStatus>,
    grade: watch::Receiver<Grade>,
}

impl Board {
    /// Every second and whenever the link changes, and once more after the drain.
    async fn run<C: Clock>(mut self, clock: C, cancel: CancellationToken, last_look: CancellationToken) {
        let mut failed = false;
        loop {
            let last = last_look.is_cancelled();
            match self.write(&clock, cancel.is_cancelled()).await {
                Ok(()) => failed = false,
                // Said once: a full or read-only disk would say it every second.
                Err(error) if !failed => {
                    failed = true;
                    tracing::warn!(%error, file = %self.settings.status_file.display(), "status cannot be written");
                }
                Err(_) => {}
            }
            if last {
                return;
            }
            let now = clock.boot();
            let (soonest, latest) = (now.plus_ms(STATUS_LEAST_MS), now.plus_ms(STATUS_MS));
            let connected = self.ship.borrow_and_update().connected;
            let changed = async {
                clock.sleep_until(soonest).await;
                if self.ship.wait_for(|status| status.connected != connected).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = changed => {}
                () = clock.sleep_until(latest) => {}
                () = last_look.cancelled() => {}
            }
        }
    }

    async fn write<C: Clock>(&self, clock: &C, stopping: bool) -> io::Result<()> {
        let streams = self.spool.streams().await.map_err(io::Error::other)?;
        let usage = self.spool.usage().await.map_err(io::Error::other)?;
        let now = clock.boot();
        let ship = self.ship.borrow().clone();
        let age_ms = |since: headwater_core::time::BootNanos| now.since(since) / NS_PER_MS;
        let counters = ship.counters;
        let Broker { host, port, tls } = &self.settings.broker;
        let link = LinkStatus {
            broker: format!("{}://{host}:{port}", if *tls { "mqtts" } else { "mqtt" }),
            connected: ship.connected,
            since_ms: ship.since.map(age_ms),
            last_ack_ms: ship.last_ack.map(age_ms),
            last_error: ship.last_error,
            incarnation: ship.incarnation.map(|id| id.to_string()),
            last_commit: ship.last_commit.map(|id| id.to_string()),
            restored_card: ship.restored_card,
            in_flight_bytes: ship.in_flight_bytes,
            messages: counters.messages,
            bytes_sent: counters.bytes_sent,
            resends: counters.resends,
            acks: counters.acks,
            acks_rejected: counters.acks_rejected,
            rows_refused: counters.rows_refused,
            reconnects: counters.reconnects,
            connect_failures: counters.connect_failures,
            ack_rtt_ms: ship.ack_rtt_ns.map(|ns| ns / NS_PER_MS),
        };
        let status = AgentStatus::of(Parts {
            device: &self.settings.device,
            epoch: self.opened.epoch,
            boot_ordinal: self.opened.boot_ordinal,
            boot_id: self.boot_id,
            now,
            streams: &streams,
            usage,
            bytes_max: self.settings.spool.bytes_max,
            link,
            grade: *self.grade.borrow(),
            stopping,
        });
        let file = self.settings.status_file.clone();
        tokio::task::spawn_blocking(move || status.write(&file)).await.map_err(io::Error::other)?
    }
}

/// Cancels when the system asks us to end.
///
/// # Errors
/// What the system says.
pub fn end_on_signals(tasks: &TaskTracker, cancel: CancellationToken) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tasks.spawn(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("asked to end (SIGTERM)"),
            _ = int.recv() => tracing::info!("asked to end (SIGINT)"),
            () = cancel.cancelled() => {}
        }
        cancel.cancel();
    });
    Ok(())
}

/// Whether a folder exists or can be made, for `check`.
///
/// # Errors
/// What the system says.
pub fn folder_is_writable(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let probe = folder.join(".headwater-check");
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(probe)
}

#[cfg(test)]
mod tests;
