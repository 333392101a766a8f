//! The shell: reads files, lands what is new in a log of its own, and sees it committed.

use super::report::{FileReport, ImportReport, State};
use super::taker::{Operator, Taker};
use super::{ImportError, RECEIVER};
use crate::config::{Identity, Settings};
use crate::dedup::Ledger;
use crate::ingest::{self, IngestDeps, IngestSettings, IngestTurn, held};
use crate::land::{CommitMark, LandRecord, LandingPosition, LandingReader, Log, StdDisk};
use crate::pipeline::{self, PipelineError};
use crate::receive::clock::SystemClock;
use crate::registry::Registry;
use headwater_core::export::{ExportError, ExportReader};
use headwater_core::id::IncarnationId;
use headwater_core::ports::Clock;
use headwater_core::time::UtcNanos;
use headwater_lake::Lake;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Bytes landed with one sync.
const GROUP_BYTES: usize = 4 << 20;
/// How often the head is looked at while the running collector commits.
const LOOK_MS: u64 = 500;

/// How to import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Exports.
    pub files: Vec<PathBuf>,
    /// How long to wait for the running collector's commit, s.
    pub wait_s: u64,
}

/// What is landed, and where.
struct Landing<'a> {
    dir: &'a Path,
    incarnation: IncarnationId,
    log: Option<Log<StdDisk>>,
    group: Vec<LandRecord>,
    bytes: usize,
}

/// Imports files into the lake of the collector with these settings, whether it runs or not. `seen` is told of the bytes
/// read, for a progress bar.
///
/// # Errors
/// [`ImportError`]; what is wrong with a file is told in the report.
pub async fn import(
    settings: &Settings,
    options: &ImportOptions,
    mut seen: impl FnMut(u64),
) -> Result<ImportReport, ImportError> {
    let now = SystemClock.read().real;
    let identity = Identity::load(&settings.identity, &settings.tenant, now)?;
    let dir = settings.landing_dir.as_path();
    let lock = |source| ImportError::Lock { dir: dir.to_owned(), source };
    // Kept to the end: a collector that starts meanwhile waits with its own.
    let turn = IngestTurn::take(dir).map_err(lock)?;
    let lake = Lake::init(&settings.lake).await?;
    let before = held(&lake, &ingest_settings(settings)).await?;
    before.registry.revoke(&identity.revocations);
    let mut known = before.ledger.clone();
    let operator = Operator {
        key: &identity.key,
        signer: &identity.signer,
        chain: &identity.chain,
        roots: &identity.roots,
    };
    let mut landing =
        Landing { dir, incarnation: IncarnationId(random()?), log: None, group: Vec::new(), bytes: 0 };
    let mut files = Vec::new();
    for file in &options.files {
        let ledgers = (&before.ledger, &mut known);
        let report = one(file, settings, &operator, &before.registry, ledgers, &mut landing, now, &mut seen)?;
        files.push(report);
    }
    let Some(end) = landing.finish()? else {
        return Ok(ImportReport::of(files, State::NothingNew, None));
    };
    let committed = match turn {
        Some(_turn) => ingest_here(settings, lake, &end).await?,
        None => wait_for_commit(settings, &lake, &end, options.wait_s).await?,
    };
    let state = if committed { State::Committed } else { State::Landed };
    Ok(ImportReport::of(files, state, Some(end.incarnation.to_string())))
}

#[expect(clippy::too_many_arguments, reason = "one file's share of an import")]
fn one(
    file: &Path,
    settings: &Settings,
    operator: &Operator<'_>,
    registry: &Registry,
    ledgers: (&Ledger, &mut Ledger),
    landing: &mut Landing<'_>,
    now: UtcNanos,
    seen: &mut impl FnMut(u64),
) -> Result<FileReport, ImportError> {
    let damaged =
        |report: FileReport, why: String| FileReport { file: file.to_owned(), damage: Some(why), ..report };
    let opened =
        File::open(file).map_err(ExportError::Io).and_then(|input| ExportReader::open(BufReader::new(input)));
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(error) => return Ok(damaged(FileReport::default(), told(&error))),
    };
    let origin = reader.origin().clone();
    if origin.device.tenant != settings.tenant {
        let why =
            format!("it is of tenant {}, this collector serves {}", origin.device.tenant, settings.tenant);
        let report = FileReport {
            device: Some(origin.device.to_string()),
            signed: origin.signed,
            ..FileReport::default()
        };
        return Ok(damaged(report, why));
    }
    let mut taker = Taker::new(&origin, &settings.tenant, operator, registry, ledgers, now);
    let mut at = 0;
    let damage = loop {
        match reader.next_message() {
            Ok(Some(message)) => {
                for record in taker.take(message) {
                    landing.push(record, now)?;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(told(&error)),
        }
        seen(reader.bytes_read().saturating_sub(at));
        at = reader.bytes_read();
    };
    Ok(FileReport { file: file.to_owned(), damage, ..taker.report() })
}

fn told(error: &ExportError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl Landing<'_> {
    fn push(&mut self, record: LandRecord, now: UtcNanos) -> Result<(), ImportError> {
        self.bytes = self.bytes.saturating_add(record.payload_bytes());
        self.group.push(record);
        if self.bytes >= GROUP_BYTES { self.append(now) } else { Ok(()) }
    }

    fn append(&mut self, now: UtcNanos) -> Result<(), ImportError> {
        let log = match &mut self.log {
            Some(log) => log,
            None => {
                // Nothing is made before there is something new.
                let generation = LandingReader::new(StdDisk, self.dir).next_generation()?;
                let log = Log::create(StdDisk, self.dir, RECEIVER, self.incarnation, generation, now)?;
                self.log.insert(log)
            }
        };
        log.append(&self.group, now)?;
        self.group.clear();
        self.bytes = 0;
        Ok(())
    }

    /// The synced end; none if nothing was landed.
    fn finish(mut self) -> Result<Option<LandingPosition>, ImportError> {
        if !self.group.is_empty() {
            self.append(SystemClock.read().real)?;
        }
        Ok(self.log.map(|log| log.end()))
    }
}

fn ingest_settings(settings: &Settings) -> IngestSettings {
    let mut ingest =
        IngestSettings::new(settings.tenant.clone(), &settings.client_id, settings.branch.clone());
    ingest.interval_ms = settings.commit_interval_ms;
    ingest.demands.clone_from(&settings.time);
    ingest.config_hash.clone_from(&settings.config_hash);
    ingest.author = format!("headwater import for {}", settings.client_id);
    ingest
}

/// Commits everything landed as the collector would, then ends. True if `end` is in the lake.
async fn ingest_here(settings: &Settings, lake: Lake, end: &LandingPosition) -> Result<bool, ImportError> {
    let failed = |error: PipelineError| ImportError::Ingest(Box::new(error));
    let recipes = pipeline::load_recipes(&settings.recipes).map_err(failed)?;
    let (marks, _seen) = watch::channel(CommitMark::default());
    // Told to end at once, it commits what is there first.
    let cancel = CancellationToken::new();
    cancel.cancel();
    let quality = pipeline::own_clock(settings).await;
    let deps = IngestDeps {
        lake: lake.clone(),
        source: LandingReader::new(StdDisk, &settings.landing_dir),
        registry: Registry::new(),
        recipes,
        settings: ingest_settings(settings),
        quality: Some(quality),
        clock: SystemClock,
        cancel,
        marks,
    };
    ingest::run(deps).await.map_err(|error| failed(PipelineError::Ingest(Box::new(error))))?;
    is_committed(settings, &lake, end).await
}

/// The running collector finds the log by itself.
async fn wait_for_commit(
    settings: &Settings,
    lake: &Lake,
    end: &LandingPosition,
    wait_s: u64,
) -> Result<bool, ImportError> {
    let until = SystemClock.boot().plus_ms(wait_s.saturating_mul(1_000));
    loop {
        if is_committed(settings, lake, end).await? {
            return Ok(true);
        }
        if SystemClock.boot() >= until {
            return Ok(false);
        }
        SystemClock.sleep_until(SystemClock.boot().plus_ms(LOOK_MS)).await;
    }
}

/// True if a commit of the branch has read up to `end`.
async fn is_committed(settings: &Settings, lake: &Lake, end: &LandingPosition) -> Result<bool, ImportError> {
    let landing = lake.landing_cursors_max(&settings.branch).await?;
    let name = end.incarnation.to_string();
    let cursor = landing.iter().find(|(key, _)| key.ends_with(&name)).map(|(_, cursor)| cursor.ops);
    Ok(cursor.is_some_and(|at| (at.n, at.offset) >= (end.segment, end.offset)))
}

fn random() -> Result<[u8; 16], ImportError> {
    let mut bytes = [0; 16];
    let source = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&source, &mut bytes).map_err(|_| ImportError::Random)?;
    Ok(bytes)
}
