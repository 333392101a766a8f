//! The agent in one picture: this file alone knows all stages and their order.
//!
//! ```text
//!  serial ──┐
//!  camera ──┼─ forward ──events──► stamp ──slabs──► spool ──► batch ──► ship ══► collector
//!  exec ────┘    │                  ▲  ▲              │                  │
//!                └ quarantine       │  └── gaps ──────┴──────────────────┤
//!                ▲                  └── observe ◄── clock exchanges ───┘
//!                └──── receipts (on disk) ── stamp
//! ```
//!
//! Read it from the left. Each source has a task of its own (`forward`) that waits for its port,
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

mod board;
mod keeper;
mod line;
mod preview;
mod shipping;

pub use shipping::{mqtt_settings, told};

use crate::clock::BootClock;
use crate::config::{Framing, Retention, Settings, SourceKind, SourceSettings};
use crate::domains::{DomainNumbers, RESERVED_AT_ONCE};
use crate::notify::ServiceManager;
use crate::observe::{self, ClockStatus, GatewayKernel, ObserveTask, REPORTS_MAX, SentenceTap};
use crate::quarantine::Quarantine;
use crate::ship::ShipStatus;
use crate::source::AnySource;
use crate::spool::disk::RealDisk;
use crate::spool::{DiskSpool, LockError, Opened, SpoolHandle, SpoolLock, SyncPolicy, TaskSettings};
use crate::stamp::{self, EVENTS_MAX, StampTask};
use crate::status;
use crate::trust::TrustFiles;
use board::Board;
use headwater_core::id::{BootId, StreamName};
use headwater_core::ports::{Clock, SpoolError, SpoolLane};
use headwater_core::time::UtcNanos;
use line::{Line, forward, room_for_pictures};
use preview::Previewer;
use shipping::Shipping;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long shutdown may take before the late are named, ms. The service manager gives us 20 s.
const SHUTDOWN_MS: u64 = 10_000;
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
    /// Another agent, or a tool that writes, has the spool.
    #[error(transparent)]
    Lock(#[from] LockError),
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
    run_under(settings, manager(), cancel).await
}

async fn run_under(
    settings: Settings,
    manager: ServiceManager,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let clock = BootClock;
    let boot_id = status::boot_id().map_err(RunError::BootId)?;
    // Held until this returns: two agents on one spool would give the same seqs to different rows.
    let _held = SpoolLock::take(&settings.spool.dir)?;
    let (spool, opened, spool_thread) = open_spool(&settings, boot_id).await?;
    let quarantine = Quarantine::open(&settings.spool.dir)
        .map_err(|source| RunError::Quarantine { dir: settings.spool.dir.display().to_string(), source })?;
    let quarantine = Arc::new(Mutex::new(quarantine));
    let numbers = device_numbers(&settings.spool.dir).await;
    let tasks = Tasks::default();

    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let (gaps_in, gaps) = mpsc::channel(SIDE_MAX);
    let (exchanges_in, exchanges) = mpsc::channel(SIDE_MAX);
    let (clock_rows_in, clock_rows) = mpsc::channel(SIDE_MAX);
    let (reports_in, reports) = mpsc::channel(REPORTS_MAX);
    let (clock_status, clock_seen) = watch::channel(ClockStatus::default());
    let (ship_status, ship_seen) = watch::channel(ShipStatus::default());
    let (certificates, certificates_seen) = watch::channel(keeper::IdentityStatus::default());

    // source
    let mut receipts = Vec::new();
    let room = room_for_pictures();
    for (place, settings_of_one) in settings.sources.iter().enumerate() {
        let (source, receipts_of_one) = AnySource::new(settings_of_one, clock, &numbers);
        let line = Line {
            place,
            stream: settings_of_one.stream.clone(),
            can_wait: receipts_of_one.is_some(),
            events: events_in.clone(),
            tap: tap_of(settings_of_one, &settings, &reports_in),
            preview: preview_of(settings_of_one, settings.sources.len().saturating_add(place)),
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
        rtc: observe::rtc_set_the_clock(),
        rho_ppb: settings.clock.rho_ppb,
        spool: spool.clone(),
        boot: opened.boot_ordinal,
        boot_id,
        events,
        clock_rows,
        gaps,
        gaps_in: gaps_in.clone(),
        retentions: retentions(&settings.sources),
        receipts,
        receipt_interval: settings.spool.sync_interval,
    };
    tasks.spawn("stamp", async move {
        let done = stamp::run(stamp_task).await;
        if stamped.send(done).is_err() {
            tracing::error!("nobody waits for the end of stamp");
        }
    });

    // observe
    let observing = ObserveTask {
        clock,
        kernel: GatewayKernel::new(clock, settings.clock.timesyncd),
        settings: settings.clock.clone(),
        floor: TrustFiles::of_spool(&settings.spool.dir).floor().unwrap_or(UtcNanos(i64::MIN)),
        exchanges,
        reports: (reports_in, reports),
        rows: clock_rows_in,
        status: clock_status,
        tasks: tasks.tracker.clone(),
        cancel: cancel.clone(),
    };
    tasks.spawn("observe", observe::run(observing));

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
        certificates,
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
        certificates: certificates_seen,
        clock: clock_seen,
        manager,
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

/// Whoever started us; nobody if it cannot be reached, which is no reason not to capture.
fn manager() -> ServiceManager {
    ServiceManager::from_env().unwrap_or_else(|error| {
        tracing::warn!(%error, "the service manager cannot be reached; it may restart the agent");
        ServiceManager::default()
    })
}

/// Previews go with numbers: they are small, and are there to be seen where pictures have to wait.
fn retentions(sources: &[SourceSettings]) -> Vec<(StreamName, Retention)> {
    let of = sources.iter().map(|source| (source.stream.clone(), source.retention));
    let previews = sources.iter().filter_map(|source| source.preview.as_ref()).map(|preview| {
        (preview.stream.clone(), Retention { lane: Some(SpoolLane::Telemetry), ..Retention::default() })
    });
    of.chain(previews).collect()
}

/// Names for clocks of attached devices, set aside on disk. A disk that refuses costs no clock its name: they begin at a
/// random place then, where nobody has been.
async fn device_numbers(dir: &Path) -> DomainNumbers {
    let mut seed = [0_u8; 4];
    if let Err(error) = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed) {
        tracing::warn!(%error, "no randomness for names of device clocks");
    }
    let elsewhere = u32::from_le_bytes(seed) | 1 << 31;
    let dir = dir.to_path_buf();
    let reserving = tokio::task::spawn_blocking(move || {
        crate::spool::reserve_domains(&RealDisk, &dir, RESERVED_AT_ONCE, elsewhere)
    });
    match reserving.await.map_err(io::Error::other).and_then(|reserved| reserved) {
        Ok(first) => DomainNumbers::from_reserved(first),
        Err(error) => {
            tracing::warn!(%error, "names of device clocks cannot be kept; they begin at a random place");
            DomainNumbers::from_reserved(elsewhere)
        }
    }
}

fn tap_of(
    source: &SourceSettings,
    settings: &Settings,
    reports: &mpsc::Sender<observe::Report>,
) -> Option<SentenceTap> {
    let nmea = matches!(&source.kind, SourceKind::Serial { framing: Framing::Nmea, .. });
    (nmea && settings.clock.gps_serial).then(|| SentenceTap::new(&source.stream, reports.clone()))
}

fn preview_of(source: &SourceSettings, place: usize) -> Option<Previewer> {
    let preview = source.preview.as_ref()?;
    Some(Previewer::new(place, preview.stream.clone(), preview.side))
}

type SpoolThread = std::thread::JoinHandle<()>;

async fn open_spool(
    settings: &Settings,
    boot_id: BootId,
) -> Result<(SpoolHandle, Opened, SpoolThread), RunError> {
    let dir = &settings.spool.dir;
    let failed = |source| RunError::Spool { dir: dir.display().to_string(), source };
    let sizes = crate::spool::Settings::within(settings.spool.bytes_max, settings.spool.free_bytes_min);
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
