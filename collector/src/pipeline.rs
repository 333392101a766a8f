//! The picture of the collector: which stage hands what to which, and how they start and end.
//!
//! ```text
//! broker ─► receive ─► landing log ─► ingest ─► lake
//!    ▲         │            ▲            │
//!    └── acks ─┘            └─ landed ───┤ watch: more was synced
//!              ▲                         │
//!              └──────── commits ────────┘ watch: newest commit and its cursors
//! ```
//! A process does all of this or some of it (`roles`); commits then come by a small file in the landing folder, and
//! several receivers read each other's logs ([`crate::receive::sharing`]).
//! No payload passes from receive to ingest but through the log, so a crash between them loses nothing.
//! Start: read the newest commit's cursors, replay the logs into the landed set, begin a new incarnation,
//! and only then connect. End: receiving stops and syncs what it took; then ingest commits what was landed.

mod hooks;
mod rules;
mod shared;

use crate::align::feature::RecipeFiles;
use crate::config::{Identity, IdentityError, Role, Settings, Share};
use crate::credentials::Credentials;
use crate::events::{CursorFile, Webhook};
use crate::gate::GateSettings;
use crate::gate::guard::store_settings;
use crate::ingest::{self, FleetClocks, IngestDeps, IngestError, IngestSettings, IngestTurn};
use crate::land::{
    CommitMark, LandError, LandingCursors, LandingPosition, LandingReader, Log, ShareBoard, StdDisk,
};
use crate::receive::clock::watch::{ask, run as watch_clock};
use crate::receive::clock::{QualitySource, SystemClock, source_id};
use crate::receive::mqtt::{MqttInbox, MqttTarget};
use crate::receive::task::{CreditBoard, ReceiveError, ReceiveTask};
use crate::receive::{Admission, Now, Receiver, ReceiverIdentity};
use crate::registry::Registry;
use crate::serve::access::{Access, TokenFileError};
use crate::serve::audit::AuditLog;
use crate::serve::{self, CatalogSettings, LakePages, ServeError, StatusBoard};
use crate::upkeep;
use headwater_align::recipe::Recipe;
use headwater_align::recipe::RecipeError;
use headwater_core::id::IncarnationId;
use headwater_core::ports::Clock;
use headwater_lake::{Lake, LakeError, RefName};
pub use hooks::{gate_settings, webhook_settings};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use rules::RulesWatch;
use shared::{follow_commits, share, tell_commits, utc_now};
use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Payload read at once while the logs are replayed at start.
const REPLAY_BYTES: usize = 32 << 20;
/// From the signal to the end: receiving syncs within a second, a commit of a full group takes a few.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Why the collector did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// Certificates or keys.
    #[error("failed to use the collector's identity")]
    Identity(#[from] IdentityError),
    /// The landing log.
    #[error("failed to open the landing log")]
    Land(#[from] LandError),
    /// Receiving.
    #[error("the receive stage failed")]
    Receive(#[from] ReceiveError),
    /// The lake.
    #[error("failed to open the lake at {location}")]
    Lake {
        /// Where.
        location: String,
        /// Why.
        #[source]
        source: Box<LakeError>,
    },
    /// A recipe file that cannot be read.
    #[error("failed to read recipe {path}")]
    RecipeFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A recipe with mistakes.
    #[error("{path} cannot be used")]
    Recipe {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: RecipeError,
    },
    /// A file of gate rules that cannot be read.
    #[error("failed to read gate rules {}", path.display())]
    RulesFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of gate rules with mistakes.
    #[error("{} cannot be used", path.display())]
    Rules {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: headwater_align::gate::RulesError,
    },
    /// Two sets of gate rules of one name.
    #[error("two files of gate.rules are called {name:?}; give one another name, it stands in verdicts")]
    RulesTwice {
        /// The name.
        name: String,
    },
    /// Rules that decode pictures, and no staging branch to read them from.
    #[error(
        "gate rules {name:?} decode pictures, which are read where rows are staged: set gate.mode = \"branch\", or looks = 0 in its \
         image rules"
    )]
    RulesNeedBranch {
        /// The set.
        name: String,
    },
    /// A gate hook or webhook that cannot be used.
    #[error("failed to use hook {name}")]
    Hook {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Ingesting.
    #[error("the ingest stage failed")]
    Ingest(#[source] Box<IngestError>),
    /// Tokens.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// Serving.
    #[error("the serve stage failed")]
    Serve(#[from] ServeError),
    /// Metrics.
    #[error("failed to start metrics")]
    Metrics(#[from] BuildError),
    /// The random source.
    #[error("the system gives no random numbers")]
    Random,
    /// A task panicked; its message is in the log.
    #[error("the {0} stage broke down")]
    Panicked(&'static str),
    /// A task ended though nobody asked.
    #[error("the {0} stage ended by itself")]
    EndedEarly(&'static str),
    /// Shutdown took too long.
    #[error("shutdown gave up after {seconds} s; still running: {late}")]
    Late {
        /// How long was waited.
        seconds: u64,
        /// Who is late.
        late: String,
    },
}

/// Runs this process's part of the collector until `cancel`, then drains it.
///
/// # Errors
/// [`PipelineError`] names the stage at fault.
pub async fn run(settings: Settings, cancel: CancellationToken) -> Result<(), PipelineError> {
    let clock = SystemClock;
    let started = clock.read().real;
    let identity = Identity::load(&settings.identity, &settings.tenant, started)?;
    let metrics = install_metrics()?;
    let listener = match &settings.http {
        Some(http) => {
            let access = http.access(&settings.tenant, settings.protected.as_ref())?;
            Some((serve::bind(http.listen, &access, http.tls.as_ref()).await?, access))
        }
        None => None,
    };
    let recipes = load_recipes(&settings.recipes)?;
    let gate = gate_settings(&settings)?;
    let webhooks = webhook_settings(&settings)?;
    let (lake, branch, mark) = open_lake(&settings, &gate).await?;
    let does = |role| settings.receive.does(role);

    let registry = Registry::new();
    let incarnation = IncarnationId(random()?);
    let mut reader = LandingReader::new(StdDisk, &settings.landing_dir);
    let generation = reader.next_generation()?;
    let admission = Admission {
        tenant: settings.tenant.clone(),
        roots: identity.roots.clone(),
        registry: registry.clone(),
    };
    let identified = ReceiverIdentity {
        incarnation,
        key: Arc::clone(&identity.key),
        chain: identity.chain.clone(),
        software: crate::SOFTWARE.to_owned(),
    };
    let mut receiver = Receiver::new(admission, identified, &mark)
        .with_credit(settings.receive.credit_bytes, settings.receive.quotas);
    if settings.receive.share == Share::Group {
        receiver = receiver.in_group();
    }
    let shared = settings.receive.share != Share::None || !(does(Role::Receive) && does(Role::Ingest));
    if shared {
        // Others may be writing: what they did not sync yet is read later.
        reader = reader.shared(utc_now, None);
    } else {
        reader.make_durable()?;
    }
    // Whoever ingests needs the declarations too.
    let cursors = replay(&mut reader, &mut receiver)?;

    let stages = Stages::new(cancel.clone());
    let (renewals_tx, renewals) = watch::channel(None);
    let (tls_tx, tls) = watch::channel(Arc::clone(&identity.tls));
    let credentials = Credentials {
        paths: settings.identity.clone(),
        tenant: settings.tenant.clone(),
        landing_dir: settings.landing_dir.clone(),
        registry: registry.clone(),
        renewals: renewals_tx,
        tls: tls_tx,
    };
    let quality = own_clock(&settings).await;
    if settings.clock.assumed.is_none() {
        let asking = watch_clock(quality.clone(), settings.clock.alarm_ns, clock, cancel.clone());
        stages.tasks().spawn(asking);
    }
    let (clocks_tx, clocks) = watch::channel(FleetClocks::default());
    let (commits_tx, commits) = watch::channel(mark);
    let (credit_tx, credit) = watch::channel(CreditBoard::default());
    // Ingest ends after receiving, so that it commits what was landed last.
    let ingest_cancel = CancellationToken::new();
    // Stand-ins where this process does not receive: neither ever changes, and both stay open.
    let (_connected, connected) = watch::channel(true);
    let (_landed, landed) = watch::channel(LandingPosition::start_of(incarnation));
    let mut board = StatusBoard {
        tenant: settings.tenant.to_string(),
        receiver: settings.client_id.clone(),
        started,
        connected,
        landed,
        commits: commits.clone(),
        commit_interval_ms: settings.commit.interval_ms,
        registry: registry.clone(),
        credit,
        own_clock: quality.clone(),
        clock_alarm_ns: settings.clock.alarm_ns,
        clocks,
    };
    let mut live = None;
    if does(Role::Receive) {
        let log = Log::create(
            StdDisk,
            &settings.landing_dir,
            &settings.client_id,
            incarnation,
            generation,
            started,
        )?;
        // After the log made its folder, and before the first message is taken.
        credentials.begin(&identity);
        let (landed_tx, landed) = watch::channel(log.end());
        let others = share(&settings, incarnation, cursors, &landed, &stages);
        let target = MqttTarget {
            host: settings.broker_url.host.clone(),
            port: settings.broker_url.port,
            tls: settings.broker_url.tls.then_some(tls),
            versions: settings.versions,
            client_id: settings.client_id.clone(),
            keepalive_s: settings.keepalive_s,
            filters: others.filters,
            clean_start: settings.receive.share != Share::None,
        };
        // The connection outlives receiving, so that last acks still go out.
        let broker_cancel = CancellationToken::new();
        let inbox = MqttInbox::start(target, clock, stages.tasks(), broker_cancel.clone());
        board.connected = inbox.connected();
        board.landed = landed.clone();
        live = Some(landed);
        let sync_ms = settings.sync_ms;
        let (commits, others, landed) = (commits.clone(), others.news, landed_tx);
        let task = ReceiveTask {
            inbox,
            clock,
            log,
            receiver,
            sync_ms,
            quality: quality.clone(),
            landed,
            commits,
            credit: credit_tx,
            others,
            renewals,
        };
        let (receive_cancel, received_all) = (cancel.clone(), ingest_cancel.clone());
        stages.spawn("receive", async move {
            let outcome = task.run(receive_cancel).await;
            broker_cancel.cancel();
            received_all.cancel();
            outcome.map_err(PipelineError::from)
        });
    } else {
        let (ended, received_all) = (cancel.clone(), ingest_cancel.clone());
        stages.tasks().spawn(async move {
            ended.cancelled().await;
            received_all.cancel();
        });
    }
    stages.tasks().spawn(credentials.watch(clock, identity, cancel.clone()));
    if let Some((listener, access)) = listener {
        let cancel = cancel.clone();
        let pages = lake_pages(&settings, &lake, access, stages.tasks());
        stages.spawn("serve", async move {
            serve::run(listener, board, metrics, clock, pages, cancel).await.map_err(PipelineError::from)
        });
    }
    let share_board = ShareBoard::new(StdDisk, &settings.landing_dir);
    if !does(Role::Ingest) {
        // Commits are another process's: its word of them is read from the landing folder.
        stages.tasks().spawn(follow_commits(share_board, commits_tx, cancel.clone()));
        return stages.finish().await;
    }
    for webhook in webhooks {
        // Beside the logs, as it is this process's memory of what it told.
        let file = CursorFile::new(StdDisk, &settings.landing_dir.join(".events"), &webhook.name);
        stages.tasks().spawn(Webhook::new(webhook, lake.clone(), file, clock).run(cancel.clone()));
    }
    let mut ingest_settings = IngestSettings::new(settings.tenant.clone(), &settings.client_id, branch);
    let (rules_tx, rules_rx) = watch::channel(gate.rules.clone());
    if !settings.gate.rules.is_empty() {
        let watch = RulesWatch {
            files: settings.gate.rules.clone(),
            gate: gate.clone(),
            protected: settings.protected.clone(),
            lake: lake.clone(),
            rules: rules_tx,
            clock,
            refused: None,
        };
        stages.tasks().spawn(watch.run(cancel.clone()));
    }
    ingest_settings.gate = GateSettings { newer: Some(rules_rx), ..gate };
    ingest_settings.interval_ms = settings.commit.interval_ms;
    ingest_settings.config_hash = settings.config_hash;
    ingest_settings.requests = Some(settings.landing_dir.clone());
    ingest_settings.clock_wait_ms = settings.commit.clock_wait_ms;
    ingest_settings.group_bytes_max = settings.commit.bytes;
    ingest_settings.group_rows_max = settings.commit.rows;
    ingest_settings.compact = settings.compact;
    ingest_settings.demands = settings.time;
    ingest_settings.clocks = clocks_tx;
    let source = LandingReader::new(StdDisk, &settings.landing_dir);
    let source = match live {
        Some(landed) if !shared => source.with_live(landed),
        _ => source.shared(utc_now, None),
    };
    let deps = IngestDeps {
        lake,
        source,
        registry,
        recipes,
        settings: ingest_settings,
        quality: Some(quality),
        clock,
        cancel: ingest_cancel,
        marks: commits_tx,
    };
    let (landing_dir, ingest_cancel) = (settings.landing_dir.clone(), deps.cancel.clone());
    let tidied = (deps.lake.clone(), deps.settings.branch.clone(), settings.upkeep.clone());
    let (tasks, upkeep_cancel) = (stages.tasks().clone(), cancel.clone());
    stages.spawn("ingest", async move {
        let lock = |source| LandError::Io { what: "lock", path: landing_dir.clone(), source };
        // An import may be at it for seconds, or another collector for good: receiving goes on, and its commits count.
        let waiting = CancellationToken::new();
        if shared {
            tasks.spawn(follow_commits(share_board.clone(), deps.marks.clone(), waiting.clone()));
        }
        let turn = IngestTurn::wait(&landing_dir, &clock, &ingest_cancel).await.map_err(lock);
        waiting.cancel();
        let Some(_turn) = turn? else { return Ok(()) };
        if shared {
            tasks.spawn(tell_commits(share_board, commits));
        }
        // Whoever has the turn also tidies, so a lake is tidied by one.
        let (lake, branch, upkeep_settings) = tidied;
        tasks.spawn(upkeep::run(lake, branch, upkeep_settings, clock, upkeep_cancel));
        ingest::run(deps).await.map_err(|error| PipelineError::Ingest(Box::new(error)))
    });
    stages.finish().await
}

/// What this host's own UTC is worth: as the configuration declares, else as the host says now.
pub async fn own_clock(settings: &Settings) -> QualitySource {
    let id = source_id(&settings.client_id);
    let alarm_ns = settings.clock.alarm_ns;
    match settings.clock.assumed {
        Some((bound_ns, grade)) => {
            let declared = QualitySource::declared(bound_ns, grade, id);
            crate::telemetry::own_clock(&declared.judged(SystemClock.read()), alarm_ns, true);
            declared
        }
        None => {
            let asked = QualitySource::asked(id);
            ask(&asked, alarm_ns, &SystemClock, true).await;
            asked
        }
    }
}

/// Reads and checks recipe files, and the files they name: paths that are not absolute begin at the recipe's folder.
///
/// # Errors
/// [`PipelineError`] names the first file that cannot be used.
pub fn load_recipes(paths: &[PathBuf]) -> Result<Vec<Recipe>, PipelineError> {
    let load = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)
            .map_err(|source| PipelineError::RecipeFile { path: path.clone(), source })?;
        let refused = |source| PipelineError::Recipe { path: path.clone(), source };
        let files = RecipeFiles::beside(path.parent().unwrap_or(Path::new("")));
        let mut recipe = Recipe::parse_with(&text, &files).map_err(refused)?;
        files.root(&mut recipe).map_err(|source| PipelineError::RecipeFile { path: path.clone(), source })?;
        crate::align::check_beside(&recipe).map_err(refused)?;
        Ok(recipe)
    };
    paths.iter().map(load).collect()
}

/// The lake as others open it: reading what is committed, and writing branches of their own.
fn lake_pages(settings: &Settings, lake: &Lake, access: Access, tasks: &TaskTracker) -> LakePages {
    LakePages::new(CatalogSettings {
        lake: lake.clone(),
        branch: settings.branch.clone(),
        access,
        audit: settings.http.as_ref().map_or_else(AuditLog::default, |http| AuditLog::in_file(&http.audit)),
        now: Arc::new(|| SystemClock.read().real.0.div_euclid(1_000)),
        tasks: tasks.clone(),
    })
}

/// The lake (made if there is none, and told what is protected), its branch, and how far its commits have taken the landing logs.
async fn open_lake(
    settings: &Settings,
    gate: &GateSettings,
) -> Result<(Lake, RefName, CommitMark), PipelineError> {
    let wrong = |source| PipelineError::Lake { location: settings.lake.clone(), source: Box::new(source) };
    let lake = Lake::init(&settings.lake).await.map_err(wrong)?;
    let branch = settings.branch.clone();
    let now_us = SystemClock.read().real.micros();
    store_settings(&lake, settings.protected.as_ref(), gate, crate::SOFTWARE, now_us).await.map_err(wrong)?;
    let landing = lake.landing_cursors_max(&branch).await.map_err(wrong)?;
    let mark = CommitMark { cursors: ingest::from_commit(&landing), ..CommitMark::default() };
    Ok((lake, branch, mark))
}

/// Brings the landed set and the registry to what the logs hold. Gives how far they were read.
fn replay(reader: &mut LandingReader<StdDisk>, receiver: &mut Receiver) -> Result<LandingCursors, LandError> {
    let mut cursors = LandingCursors::new();
    let reading = SystemClock.read();
    let now = Now { boot: reading.b2, utc: reading.real };
    let (mut records, mut unreadable) = (0_u64, 0_u64);
    loop {
        let landed = reader.next_after(&cursors, REPLAY_BYTES)?;
        if landed.is_empty() {
            break;
        }
        for record in &landed {
            records = records.saturating_add(1);
            receiver.count_replayed(record, now);
            if !receiver.replay(record) {
                unreadable = unreadable.saturating_add(1);
            }
            cursors.insert(record.end().incarnation, record.end());
        }
    }
    let damage = reader.damage();
    tracing::info!(
        records,
        unreadable,
        rotten = damage.records,
        torn = damage.segments,
        "landing logs replayed"
    );
    Ok(cursors)
}

fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    crate::telemetry::describe();
    Ok(handle)
}

fn random<const N: usize>() -> Result<[u8; N], PipelineError> {
    let mut bytes = [0; N];
    let source = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&source, &mut bytes).map_err(|_| PipelineError::Random)?;
    Ok(bytes)
}

/// The running stages by name: whoever ends first ends all, and who is late is named.
#[derive(Debug)]
struct Stages {
    tasks: TaskTracker,
    cancel: CancellationToken,
    running: Arc<Mutex<BTreeSet<&'static str>>>,
    failed: Arc<Mutex<Option<PipelineError>>>,
}

impl Stages {
    fn new(cancel: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), cancel, running: Arc::default(), failed: Arc::default() }
    }

    fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn spawn<F>(&self, name: &'static str, stage: F)
    where
        F: Future<Output = Result<(), PipelineError>> + Send + 'static,
    {
        let (running, failed) = (Arc::clone(&self.running), Arc::clone(&self.failed));
        let cancel = self.cancel.clone();
        running.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        let handle = self.tasks.spawn(stage);
        self.tasks.spawn(async move {
            let early = |cancel: &CancellationToken| {
                (!cancel.is_cancelled()).then_some(PipelineError::EndedEarly(name))
            };
            let error = match handle.await {
                Ok(Ok(())) => early(&cancel),
                Ok(Err(error)) => Some(error),
                Err(_) => Some(PipelineError::Panicked(name)),
            };
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            if let Some(error) = error {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                cancel.cancel();
            }
        });
    }

    /// Waits for the word to stop, then for every stage.
    #[expect(
        clippy::disallowed_methods,
        reason = "the drain deadline is real time; nothing is decided by it"
    )]
    async fn finish(self) -> Result<(), PipelineError> {
        self.cancel.cancelled().await;
        self.tasks.close();
        let drained = tokio::select! {
            () = self.tasks.wait() => true,
            () = tokio::time::sleep(DRAIN_LIMIT) => false,
        };
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        if drained {
            return Ok(());
        }
        let late: Vec<&str> =
            self.running.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        Err(PipelineError::Late { seconds: DRAIN_LIMIT.as_secs(), late: late.join(", ") })
    }
}
