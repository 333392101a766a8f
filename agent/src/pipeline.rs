//! The picture: which stages there are, in which order, and how they start and stop.
//!
//! ```text
//! sources ──events──► stamp ──slabs──► spool ──read──► batch, ship ══► broker ══► collector
//!    ▲                 ▲ ▲               ▲                │  │
//!    └──── receipts ───┘ │               └───── trim ─────┘  │
//!                        └── clock exchanges, gap records ───┘
//! ```
//!
//! Everything flows right over bounded channels; what flows left is small. Stopping means closing the
//! head: the sources are cancelled, the channel of events closes, stamp writes what it still holds and
//! syncs, and ship gets a moment for what is in flight. Power loss at any line is as safe.

use crate::clock::{BootClock, kernel_sync};
use crate::config::{Identity, IdentityError, Settings, SourceSettings, identity};
use crate::quarantine::Quarantine;
use crate::receipt::Receipt;
use crate::ship::mqtt::{BrokerUrl, BrokerUrlError, MqttSettings, MqttUplink};
use crate::ship::tls::{TlsError, client_config};
use crate::ship::{Rng, ShipIdentity, ShipSettings, ShipStatus, ShipTask, random_nonces};
use crate::source::AnySource;
use crate::spool::disk::RealDisk;
use crate::spool::{DiskSpool, Opened, SpoolHandle, SyncPolicy, TaskSettings};
use crate::stamp::{self, Captured, EVENTS_MAX, StampTask};
use crate::status::{Parts, Status};
use crate::telemetry::SourceOver;
use headwater_core::id::BootId;
use headwater_core::ports::{Clock, Source, SourceEvent, SpoolError};
use headwater_core::time::{Grade, UtcNanos};
use headwater_core::wire::chain::not_before;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pictures under way between a source and the spool, KiB in all: several large stills.
const PICTURES_KIB_MAX: u32 = 16 * 1024;
/// Clock exchanges and gap records that may wait for the stamp stage.
const SIDE_MAX: usize = 256;
/// How often the status file is written, ms.
const STATUS_MS: u64 = 1_000;
/// How long a stop may take before the late are named.
const STOP_DEADLINE_MS: u64 = 10_000;
/// No certificate of this software is older (2026-01-01): a clock before it is wrong.
const RELEASED: UtcNanos = UtcNanos(1_767_225_600_000_000_000);

/// Why the agent could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Certificates and keys.
    #[error("identity cannot be used:{}", list(.0))]
    Identity(Vec<IdentityError>),
    /// The broker's address.
    #[error("uplink.broker cannot be used")]
    Broker(#[from] BrokerUrlError),
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// A file.
    #[error("failed to read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The spool.
    #[error("the spool in {dir} cannot be used")]
    Spool {
        /// Its folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: SpoolError,
    },
    /// Capture stopped because the spool failed at its end.
    #[error("capture ended")]
    Capture(#[source] SpoolError),
    /// Parts that did not stop in time.
    #[error("did not stop within {deadline_ms} ms: {late}")]
    Late {
        /// The deadline.
        deadline_ms: u64,
        /// Who.
        late: String,
    },
}

fn list(errors: &[IdentityError]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}

/// The time certificates are checked at: never before this software or our own certificate existed, so a
/// gateway that wakes up in 1970 still gets through.
fn time_floor(settings: &Settings) -> UtcNanos {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let own = CertificateDer::from_pem_file(&settings.identity.sign_cert).ok();
    let own = own.and_then(|der| not_before(&der).ok()).unwrap_or(RELEASED);
    own.max(RELEASED)
}

/// Reads and checks the identity; used by `run` and `check`.
///
/// # Errors
/// [`RunError::Identity`] with every mistake.
pub fn load_identity(settings: &Settings) -> Result<(Identity, UtcNanos), RunError> {
    let floor = time_floor(settings);
    let now = BootClock.read().real.max(floor);
    identity::load(&settings.identity, &settings.device, now)
        .map(|id| (id, floor))
        .map_err(RunError::Identity)
}

fn boot_id() -> Result<BootId, RunError> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    let failed = |source| RunError::File { path: path.clone(), source };
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    text.trim().parse().map_err(|error| failed(std::io::Error::other(error)))
}

/// Runs until `cancel`, then stops in order.
///
/// # Errors
/// [`RunError`] if it could not start, or did not stop in time.
pub async fn run(settings: Settings, cancel: CancellationToken) -> Result<(), RunError> {
    let clock = BootClock;
    let (identity, floor) = load_identity(&settings)?;
    let boot_id = boot_id()?;
    let (spool, opened) = open_spool(&settings, boot_id).await?;
    let broken = |source| RunError::File { path: settings.spool.dir.clone(), source };
    let quarantine = Arc::new(Mutex::new(Quarantine::open(&settings.spool.dir).map_err(broken)?));
    let tasks = Tasks::default();

    // Capture: nothing below waits for the network.
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let (exchanges_in, exchanges) = mpsc::channel(SIDE_MAX);
    let (gaps_in, gaps) = mpsc::channel(SIDE_MAX);
    let (grade_in, grade) = watch::channel(Grade::OrderingOnly);
    let receipts = start_sources(&settings.sources, &events_in, &quarantine, &cancel, &tasks);
    drop(events_in);
    let stamping = StampTask {
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
        grade: grade_in,
    };
    let stamped = tasks.spawn("stamp", stamp::run(stamping));

    // Shipping: ends after capture has, so that the last rows still get their chance.
    let ship_cancel = CancellationToken::new();
    let (ship_exchanges, from_ship) = mpsc::channel(SIDE_MAX);
    let (status_in, ship_status) = watch::channel(ShipStatus::default());
    let ship = ship_task(&settings, identity, floor, boot_id, &opened, &spool, &tasks)?;
    tasks.spawn(
        "ship",
        crate::ship::run(ShipTask {
            clock,
            uplink: ship.0,
            spool: spool.clone(),
            settings: ship.1,
            identity: ship.2,
            time_floor: floor,
            rng: Rng::new(opened.epoch.0 ^ u64::from(std::process::id())),
            nonces: random_nonces(),
            gaps: gaps_in,
            exchanges: ship_exchanges,
            status: status_in,
            cancel: ship_cancel.clone(),
        }),
    );
    tasks.spawn("exchanges", pass_exchanges(from_ship, exchanges_in));
    let teller = Teller { settings: settings.clone(), opened, spool: spool.clone(), ship_status, grade };
    tasks.spawn("status", tell(clock, teller.clone(), ship_cancel.clone()));
    drop(spool);

    // Whichever comes first: the word to stop, or capture that cannot go on.
    let captured = stamped.await;
    cancel.cancel();
    ship_cancel.cancel();
    let deadline = clock.boot().plus_ms(STOP_DEADLINE_MS);
    tasks.tracker.close();
    tokio::select! {
        () = tasks.tracker.wait() => {}
        () = clock.sleep_until(deadline) => {
            return Err(RunError::Late { deadline_ms: STOP_DEADLINE_MS, late: tasks.late() });
        }
    }
    teller.write().await;
    match captured {
        Ok(done) => done.map_err(RunError::Capture),
        Err(panic) => Err(RunError::Late { deadline_ms: 0, late: format!("stamp failed: {panic}") }),
    }
}

async fn open_spool(settings: &Settings, boot_id: BootId) -> Result<(SpoolHandle, Opened), RunError> {
    let dir = settings.spool.dir.clone();
    let size =
        crate::spool::Settings { bytes_max: settings.spool.bytes_max, ..crate::spool::Settings::default() };
    let defaults = TaskSettings::default();
    let task = TaskSettings {
        sync: SyncPolicy { interval: settings.spool.sync_interval, ..defaults.sync },
        ..defaults
    };
    let opening = tokio::task::spawn_blocking({
        let dir = dir.clone();
        move || {
            let (spool, opened) = DiskSpool::open(RealDisk, &dir, boot_id, size)?;
            // The thread ends with its last handle, after a last sync.
            SpoolHandle::start(spool, task).map(|(handle, _thread)| (handle, opened))
        }
    });
    let opened = match opening.await {
        Ok(opened) => opened,
        Err(error) => Err(SpoolError::Io { what: "open", source: std::io::Error::other(error) }),
    };
    let (handle, opened) = opened.map_err(|source| RunError::Spool { dir, source })?;
    tracing::info!(epoch = %opened.epoch, boot = opened.boot_ordinal.0, segments = opened.segments, "spool is open");
    Ok((handle, opened))
}

type ShipParts = (MqttUplink<BootClock>, ShipSettings, ShipIdentity);

fn ship_task(
    settings: &Settings,
    identity: Identity,
    floor: UtcNanos,
    boot_id: BootId,
    opened: &Opened,
    spool: &SpoolHandle,
    tasks: &Tasks,
) -> Result<ShipParts, RunError> {
    let read =
        |path: &PathBuf| std::fs::read(path).map_err(|source| RunError::File { path: path.clone(), source });
    let broker = BrokerUrl {
        host: settings.broker.host.clone(),
        port: settings.broker.port,
        tls: settings.broker.tls,
    };
    let files = &settings.identity;
    let tls = match broker.tls {
        true => {
            Some(client_config(&read(&files.ca)?, &read(&files.tls_cert)?, &read(&files.tls_key)?, floor)?)
        }
        false => None,
    };
    let me = ShipIdentity {
        path: settings.device.clone(),
        epoch: spool.epoch(),
        boot_ordinal: opened.boot_ordinal,
        boot_id,
        key: Arc::new(identity.sign_key),
        chain: identity.sign_chain,
        roots: identity.roots,
        software: format!("headwater-agent {}", env!("CARGO_PKG_VERSION")),
    };
    let ship = ShipSettings {
        keepalive_s: settings.keepalive_s,
        linger_ms: u64::try_from(settings.linger.as_millis()).unwrap_or(u64::MAX),
        ..ShipSettings::default()
    };
    let mqtt = MqttSettings { broker, tls, keepalive_s: settings.keepalive_s };
    Ok((MqttUplink::new(mqtt, me.clone(), BootClock, tasks.tracker.clone())?, ship, me))
}

/// Starts one task per source; each ends when cancelled, or when its source is over for good.
fn start_sources(
    sources: &[SourceSettings],
    events: &mpsc::Sender<Captured>,
    quarantine: &Arc<Mutex<Quarantine>>,
    cancel: &CancellationToken,
    tasks: &Tasks,
) -> Vec<Option<mpsc::Sender<Receipt>>> {
    let room = Arc::new(Semaphore::new(usize::try_from(PICTURES_KIB_MAX).unwrap_or(usize::MAX)));
    let mut receipts = Vec::new();
    for (place, settings) in sources.iter().enumerate() {
        let (source, wants) = AnySource::new(settings, BootClock);
        receipts.push(wants);
        let feed = Feed {
            place,
            number: 0,
            events: events.clone(),
            room: Arc::clone(&room),
            quarantine: Arc::clone(quarantine),
        };
        tasks.spawn("source", feed.run(source, settings.clone(), cancel.clone()));
    }
    receipts
}

/// Carries events of one source to the stamp stage.
struct Feed {
    place: usize,
    number: u64,
    events: mpsc::Sender<Captured>,
    room: Arc<Semaphore>,
    quarantine: Arc<Mutex<Quarantine>>,
}

impl Feed {
    async fn run(
        mut self,
        mut source: AnySource<BootClock>,
        settings: SourceSettings,
        cancel: CancellationToken,
    ) {
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => break,
                event = source.next() => event,
            };
            match event {
                Ok(event) => {
                    if !self.pass(event).await {
                        break;
                    }
                }
                Err(why) => {
                    SourceOver { stream: &settings.stream, why: &why }.emit();
                    // A source that is over keeps its place, so that capture of the others goes on.
                    cancel.cancelled().await;
                    break;
                }
            }
        }
        source.close().await;
    }

    /// False once the stamp stage is gone.
    async fn pass(&mut self, event: SourceEvent) -> bool {
        let room = match &event {
            SourceEvent::Reading { reading, .. } => {
                let bytes = reading.blob.as_ref().map_or(0, |blob| blob.bytes.len());
                let kib =
                    u32::try_from(bytes.div_ceil(1024)).unwrap_or(PICTURES_KIB_MAX).min(PICTURES_KIB_MAX);
                match kib {
                    0 => None,
                    kib => Arc::clone(&self.room).acquire_many_owned(kib).await.ok(),
                }
            }
            SourceEvent::SetAside { stream, why, bytes, .. } => {
                let mut quarantine = self.quarantine.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = quarantine.keep(stream, why, bytes) {
                    tracing::warn!(%stream, %error, "quarantine cannot keep what was set aside");
                }
                None
            }
            _ => None,
        };
        let captured = Captured { source: self.place, number: self.number, event, room };
        self.number = self.number.saturating_add(1);
        self.events.send(captured).await.is_ok()
    }
}

/// What ship measured becomes rows of `hw/clock`.
async fn pass_exchanges(
    mut from: mpsc::Receiver<crate::ship::ClockExchange>,
    to: mpsc::Sender<stamp::ClockExchange>,
) {
    while let Some(exchange) = from.recv().await {
        let exchange = stamp::ClockExchange {
            t1: exchange.t1,
            t2: exchange.t2,
            t3: exchange.t3,
            t4: exchange.t4,
            e_c_ns: exchange.e_c_ns,
            grade: exchange.grade,
            source_id: exchange.source_id.cast_signed(),
        };
        if to.send(exchange).await.is_err() {
            return;
        }
    }
}

/// Knows what the status file says.
#[derive(Debug, Clone)]
struct Teller {
    settings: Settings,
    opened: Opened,
    spool: SpoolHandle,
    ship_status: watch::Receiver<ShipStatus>,
    grade: watch::Receiver<Grade>,
}

impl Teller {
    async fn write(&self) {
        let (Ok(streams), Ok(usage)) = (self.spool.streams().await, self.spool.usage().await) else {
            tracing::warn!("status cannot be told: the spool is gone");
            return;
        };
        let ship = self.ship_status.borrow().clone();
        let status = Status::new(&Parts {
            device: &self.settings.device,
            epoch: self.spool.epoch(),
            boot_ordinal: self.opened.boot_ordinal,
            now: BootClock.boot(),
            utc: BootClock.read().real,
            clock_grade: *self.grade.borrow(),
            streams: &streams,
            usage,
            ship: &ship,
        });
        if let Err(error) = status.write(&self.settings.status_file) {
            tracing::warn!(file = %self.settings.status_file.display(), %error, "status cannot be written");
        }
    }
}

async fn tell(clock: BootClock, teller: Teller, cancel: CancellationToken) {
    loop {
        teller.write().await;
        let next = clock.boot().plus_ms(STATUS_MS);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = clock.sleep_until(next) => {}
        }
    }
}

/// Tasks by name, so that a stop can say who is late.
#[derive(Debug, Default)]
struct Tasks {
    tracker: TaskTracker,
    running: Arc<Mutex<Vec<&'static str>>>,
}

impl Tasks {
    fn spawn<F>(&self, name: &'static str, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = Arc::clone(&self.running);
        running.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        self.tracker.spawn(async move {
            let done = work.await;
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = running.iter().position(|other| *other == name) {
                running.swap_remove(at);
            }
            done
        })
    }

    fn late(&self) -> String {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).join(", ")
    }
}

/// Longest pause between two words of the status file; `status` warns above it.
pub const STATUS_AGE_MAX: Duration = Duration::from_secs(10);
