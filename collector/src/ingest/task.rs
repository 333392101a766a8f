//! The shell of ingest: waits for landed records and for the interval, commits, and says what was committed.

use super::aligning::Aligning;
use super::build::{Built, build};
use super::commit::{BACKOFF_MS_MIN, Committer};
use super::compacting::{CompactReport, CompactSettings, Compacting};
use super::demand::TimeDemand;
use super::fold::Folder;
use super::follow::learn;
use super::group::Group;
use super::patience::CLOCK_WAIT_MS;
use super::port::LandingSource;
use super::replaying::{finish, look, step};
use super::restore::restore;
use super::timing::FleetClocks;
use crate::commit::raw::StoredBlob;
use crate::gate::GateSettings;
use crate::land::{CommitMark, LandError, Landed, LandedWatch};
use crate::receive::clock::QualitySource;
use crate::registry::Registry;
use headwater_align::recipe::Recipe;
use headwater_core::id::{Sha256, TenantId, parse_hex};
use headwater_core::ports::Clock;
use headwater_core::time::{BootNanos, Grade, NS_PER_S, UtcNanos};
use headwater_lake::{CommitId, CommitObject, Committed, Lake, LakeError, RefName, TableName};
use std::path::PathBuf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A group is committed at this many landed bytes, however young it is: with decoded rows some 500 MiB of memory.
pub const GROUP_BYTES_MAX: usize = 64 << 20;
/// A group is committed at this many rows: narrow rows are small when landed and some 200 bytes each as columns.
pub const GROUP_ROWS_MAX: usize = 2_000_000;
/// Landed bytes read in one go: what a disk gives in a tenth of a second.
const READ_BYTES: usize = 8 << 20;
/// How often a log without a watch is asked for more.
const POLL_MS: u64 = 250;
/// A group with nothing but hints, messages and clock rows may wait this many intervals: quiet devices would else cost a
/// commit every interval.
const QUIET_INTERVALS: u64 = 6;

/// What ingest is told.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// Whose lake it is.
    pub tenant: TenantId,
    /// The receiver whose landing logs are read: names their cursors in commits.
    pub receiver: String,
    /// Where to commit.
    pub branch: RefName,
    /// Who commits.
    pub author: String,
    /// Longest a row waits for its commit, ms.
    pub interval_ms: u64,
    /// Landed bytes that close a group before that.
    pub group_bytes_max: usize,
    /// Bound of the collector's own UTC, ns; taken anew from `quality` for each read, if there is one.
    pub clock_half_ns: i64,
    /// Whether that bound is a promise.
    pub clock_grade: Grade,
    /// Times of receipt before this promise nothing.
    pub clock_steady_since: UtcNanos,
    /// How long rows of a boot of whose clock nothing is known wait, ms.
    pub clock_wait_ms: u64,
    /// How well streams must be timed; the first that means a stream counts.
    pub demands: Vec<TimeDemand>,
    /// Rows that close a group before that.
    pub group_rows_max: usize,
    /// What is done beside commits of rows.
    pub compact: CompactSettings,
    /// Told of that after each round.
    pub compacted: watch::Sender<CompactReport>,
    /// Told of the fleet's clocks after each commit.
    pub clocks: watch::Sender<FleetClocks>,
    /// How aligned rows are judged.
    pub gate: GateSettings,
    /// Hex SHA-256 of the configuration in force, for lineage.
    pub config_hash: String,
    /// The landing logs' folder, beside which requests to fold again lie; none takes no requests.
    pub requests: Option<PathBuf>,
}

impl IngestSettings {
    /// The defaults, committing to `branch`.
    #[must_use]
    pub fn new(tenant: TenantId, receiver: &str, branch: RefName) -> Self {
        Self {
            tenant,
            receiver: receiver.to_owned(),
            branch,
            author: format!("headwater-collector {receiver}"),
            interval_ms: 10_000,
            group_bytes_max: GROUP_BYTES_MAX,
            clock_half_ns: 1_000_000_000,
            clock_grade: Grade::Estimated,
            clock_steady_since: UtcNanos(i64::MIN),
            clock_wait_ms: CLOCK_WAIT_MS,
            demands: Vec::new(),
            group_rows_max: GROUP_ROWS_MAX,
            compact: CompactSettings::default(),
            compacted: watch::channel(CompactReport::default()).0,
            clocks: watch::channel(FleetClocks::default()).0,
            gate: GateSettings::default(),
            config_hash: String::new(),
            requests: None,
        }
    }

    /// No clock that reported by `received` can have shown a later time than this; `None` if our own clock is nothing to
    /// judge others by. A clock of ours that is only an estimate is given a day: it still tells a week from a decade.
    #[must_use]
    pub(super) fn latest(&self, received: UtcNanos) -> Option<UtcNanos> {
        let by_then = received.plus_ns(self.clock_half_ns);
        match self.clock_grade {
            Grade::Guaranteed => Some(by_then),
            Grade::Estimated => Some(by_then.plus_ns(86_400 * NS_PER_S)),
            Grade::OrderingOnly => None,
        }
    }
}

/// What ingest works with.
#[derive(Debug)]
pub struct IngestDeps<S, C> {
    /// The lake.
    pub lake: Lake,
    /// The landing logs.
    pub source: S,
    /// Declared streams, shared with the receiver.
    pub registry: Registry,
    /// What to align.
    pub recipes: Vec<Recipe>,
    /// What it is told.
    pub settings: IngestSettings,
    /// How good the collector's clock is; none leaves the settings'.
    pub quality: Option<QualitySource>,
    /// Tells time.
    pub clock: C,
    /// Ends it: what is held is committed first.
    pub cancel: CancellationToken,
    /// Told of each commit, and of the head at the start.
    pub marks: watch::Sender<CommitMark>,
}

/// Why ingest ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The branch could not be read at the start.
    #[error("read the branch {branch} to go on from")]
    Restore {
        /// The branch.
        branch: RefName,
        /// The cause.
        #[source]
        source: LakeError,
    },
    /// A recipe's stored state could not be read at the start.
    #[error("start the recipes: {0}")]
    Recipes(String),
    /// A group could not be laid out in columns, which only a bug brings about. Nothing of it is lost: it is in the
    /// landing log.
    #[error("lay out a group of rows")]
    Build(#[from] arrow_schema::ArrowError),
    /// The thread that read the landing log is gone.
    #[error("read the landing log: its thread broke down")]
    Lost(#[from] tokio::task::JoinError),
}

/// Ingests until cancelled; what was read by then is committed first, if the lake takes it.
///
/// # Errors
/// [`IngestError`].
pub async fn run<S: LandingSource, C: Clock>(deps: IngestDeps<S, C>) -> Result<(), IngestError> {
    let branch = deps.settings.branch.clone();
    let fail = |source| IngestError::Restore { branch: branch.clone(), source };
    let mut folder = Folder::new(deps.settings.clone(), deps.registry);
    let head = restore(&mut folder, &deps.lake, &branch).await.map_err(fail)?;
    let head = match &head {
        Some(id) => Some(deps.lake.commit_object(id).await.map_err(fail)?),
        None => None,
    };
    let aligning = Aligning::start(
        deps.recipes,
        &deps.lake,
        head.as_ref(),
        deps.settings.gate.clone(),
        &deps.settings.receiver,
    )
    .await;
    let aligning = aligning.map_err(|error| IngestError::Recipes(error.to_string()))?;
    let cursors = folder.read.clone();
    deps.marks.send_replace(match &head {
        Some(head) => CommitMark { cursors, ..mark(head, &folder) },
        None => CommitMark::default(),
    });
    let compacting = Compacting::new(
        deps.lake.clone(),
        deps.settings.compact.clone(),
        deps.settings.compacted.clone(),
        deps.clock.boot(),
    );
    let committer = Committer::new(
        deps.lake,
        branch,
        deps.settings.author.clone(),
        deps.clock.clone(),
        deps.settings.clock_half_ns,
        deps.cancel.clone(),
    );
    let watch = deps.source.watch();
    let task = Task {
        folder,
        aligning,
        compacting,
        committer,
        quality: deps.quality,
        clock: deps.clock,
        cancel: deps.cancel,
        marks: deps.marks,
        head: head.map(|head| head.id),
        opened: None,
        watch,
    };
    task.run(deps.source).await
}

pub(super) struct Task<C> {
    pub(super) folder: Folder,
    pub(super) aligning: Aligning,
    pub(super) compacting: Compacting,
    pub(super) committer: Committer<C>,
    quality: Option<QualitySource>,
    pub(super) clock: C,
    cancel: CancellationToken,
    marks: watch::Sender<CommitMark>,
    pub(super) head: Option<CommitId>,
    /// When the first record of the group was taken.
    opened: Option<BootNanos>,
    watch: Option<LandedWatch>,
}

impl<C: Clock> Task<C> {
    async fn run<S: LandingSource>(mut self, mut source: S) -> Result<(), IngestError> {
        let mut wait_ms = BACKOFF_MS_MIN;
        let mut align_at = self.clock.boot();
        let mut look_at = align_at;
        loop {
            if let Some(watch) = &mut self.watch {
                watch.mark_unchanged();
            }
            let read;
            (source, read) = self.read(source).await?;
            let more = match read {
                Ok(landed) => {
                    wait_ms = BACKOFF_MS_MIN;
                    self.take(landed)
                }
                Err(error) => {
                    metrics::counter!("headwater_ingest_read_errors_total").increment(1);
                    tracing::error!(%error, "landing log cannot be read, trying again");
                    // Cancellation is looked at below; what is held goes out on time meanwhile.
                    drop(self.committer.wait(&mut wait_ms).await);
                    false
                }
            };
            // All that was landed is known by now, declarations above all.
            if !more {
                self.replay().await?;
            }
            let now = self.clock.boot();
            if now >= look_at {
                self.look().await;
                look_at = now.plus_ms(self.folder.settings.interval_ms);
            }
            if self.folder.note_revoked(self.clock.read().real) && self.opened.is_none() {
                self.opened = Some(now);
            }
            let full = self.is_full();
            let stopping = self.cancel.is_cancelled();
            if full || (stopping && !more) || self.deadline().is_some_and(|due| now >= due) {
                self.commit().await?;
            }
            if now >= align_at || full || self.aligning.has_verdict() {
                self.align().await;
                align_at = self.clock.boot().plus_ms(self.folder.settings.interval_ms);
            }
            if stopping && !more {
                if self.head.is_some() && self.aligning.has_work() {
                    let known = (&self.folder.kinds, &self.folder.tracks);
                    self.aligning.drain(&mut self.committer, known).await;
                }
                return Ok(());
            }
            self.upkeep().await?;
            if !more {
                self.pause(align_at, look_at).await;
            }
        }
    }

    /// Looks whether another process moved the branch, and if so reads what that means.
    async fn look(&mut self) {
        let followed = async {
            let Some(head) = self.committer.head().await? else { return Ok(()) };
            let Some(known) = self.head.clone() else { return Ok(()) };
            match self.committer.lake.is_overtaken(&known, &head, false).await? {
                true => self.follow(head).await,
                false => Ok(()),
            }
        };
        let followed: Result<(), LakeError> = followed.await;
        if let Err(error) = followed {
            tracing::debug!(%error, "whether others moved the branch cannot be seen yet");
        }
    }

    /// Takes over what others brought and took by `head`.
    pub(super) async fn follow(&mut self, head: CommitId) -> Result<(), LakeError> {
        metrics::counter!("headwater_ingest_followed_total").increment(1);
        tracing::info!(branch = %self.committer.branch(), head = head.short(), "others moved the branch, reading what came");
        learn(&mut self.folder, &self.committer.lake, &head).await?;
        self.aligning.fall_behind();
        self.head = Some(head);
        Ok(())
    }

    async fn read<S: LandingSource>(
        &self,
        mut source: S,
    ) -> Result<(S, Result<Vec<Landed>, LandError>), IngestError> {
        let cursors = self.folder.read.clone();
        let read = tokio::task::spawn_blocking(move || {
            let landed = source.next_after(&cursors, READ_BYTES);
            (source, landed)
        });
        Ok(read.await?)
    }

    /// Takes records in; true if there were any, so more may follow.
    fn take(&mut self, landed: Vec<Landed>) -> bool {
        if let Some(quality) = &self.quality {
            let steady_since = quality.steady_since().unwrap_or(UtcNanos(i64::MAX));
            let quality = quality.read(self.clock.read());
            self.folder.settings.clock_half_ns = quality.e_c_ns;
            self.folder.settings.clock_grade = quality.grade;
            self.folder.settings.clock_steady_since = steady_since;
            self.committer.half_ns = quality.e_c_ns;
        }
        let any = !landed.is_empty();
        if any && self.opened.is_none() {
            self.opened = Some(self.clock.boot());
        }
        landed.into_iter().for_each(|landed| self.folder.take(landed));
        any
    }

    /// True if the group is to be committed however young it is.
    fn is_full(&self) -> bool {
        let (group, settings) = (&self.folder.group, &self.folder.settings);
        group.bytes >= settings.group_bytes_max || group.row_count() >= settings.group_rows_max
    }

    pub(super) fn deadline(&self) -> Option<BootNanos> {
        let interval = self.folder.settings.interval_ms;
        let quiet = self.folder.group.is_quiet() && self.folder.patients.is_empty();
        let wait = if quiet { interval.saturating_mul(QUIET_INTERVALS) } else { interval };
        self.opened.map(|opened| opened.plus_ms(wait))
    }

    /// Waits for whatever comes first: more records, the group's deadline, rows that have waited for their columns, or
    /// the end.
    async fn pause(&mut self, align_at: BootNanos, look_at: BootNanos) {
        let now = self.clock.boot();
        let align_at = if self.aligning.has_work() { Some(align_at) } else { None };
        let poll = if self.watch.is_none() { Some(now.plus_ms(POLL_MS)) } else { None };
        let until = [self.deadline(), align_at, poll].into_iter().flatten().min();
        let until = until.unwrap_or(look_at).min(look_at);
        let sleep = self.clock.sleep_until(until);
        let judged = self.aligning.judged();
        let mut gone = false;
        match &mut self.watch {
            Some(watch) => {
                tokio::select! {
                    () = self.cancel.cancelled() => {}
                    changed = watch.changed() => gone = changed.is_err(),
                    () = judged.notified() => {}
                    () = self.compacting.finished() => {}
                    () = sleep => {}
                }
            }
            None => {
                tokio::select! {
                    () = self.cancel.cancelled() => {}
                    () = judged.notified() => {}
                    () = self.compacting.finished() => {}
                    () = sleep => {}
                }
            }
        }
        if gone {
            // The receiver of this process ended; its log may still hold more.
            self.watch = None;
        }
    }

    /// Folds again what operators and late declarations ask for, in commits of its own.
    async fn replay(&mut self) -> Result<(), IngestError> {
        look(&mut self.folder);
        if self.folder.wanted.is_empty() {
            return Ok(());
        }
        // Items of the group itself can be read once they are in the lake.
        self.commit().await?;
        while let (Some(mut replay), Some(head)) = (self.folder.wanted.pop_front(), self.head.clone()) {
            let now = self.clock.read().real;
            match step(&mut self.folder, &mut replay, &self.committer.lake, &head, now).await {
                Ok(more) => {
                    self.commit().await?;
                    if !self.folder.group.is_empty() {
                        // Told to stop before it was committed: the next life is asked again.
                        return Ok(());
                    }
                    match more {
                        true => self.folder.wanted.push_front(replay),
                        false => finish(&replay),
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "quarantine cannot be read, trying again later");
                    self.folder.wanted.push_back(replay);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Rows whose object was given up waiting for them find it in the lake.
    async fn find_objects(&mut self) {
        for blob in self.folder.waiting.not_looked() {
            match self.committer.lake.blob_path(&blob.sha256.to_string()).await {
                Ok(Some(path)) => self.folder.found(&blob, path),
                Ok(None) => self.folder.waiting.looked(&blob),
                Err(error) => tracing::debug!(%error, "object of a waiting row cannot be looked for yet"),
            }
        }
    }

    /// Keeps rows back whose clock is not known yet, and takes in those that waited for it. At the end nothing waits.
    fn sort_by_clock(&mut self) {
        if self.cancel.is_cancelled() {
            self.folder.patients.give_up(&mut self.folder.group);
            return;
        }
        self.folder.sort_by_clock(self.clock.read().real);
        if !self.folder.patients.is_empty() {
            self.opened = Some(self.clock.boot());
        }
    }

    /// Commits the group, trying until it is there or the process is to end.
    async fn commit(&mut self) -> Result<(), IngestError> {
        self.opened = None;
        self.find_objects().await;
        self.sort_by_clock();
        let mut wait_ms = BACKOFF_MS_MIN;
        loop {
            self.folder.leave_known();
            if self.folder.group.is_empty() {
                self.told_of_reading();
                return Ok(());
            }
            match self.try_commit().await? {
                Ok((committed, built)) => {
                    self.head = Some(committed.id.clone());
                    self.compacting.committed(committed.bytes);
                    self.marks.send_replace(mark(&committed.commit, &self.folder));
                    let group = Group::new(self.folder.settings.clock_half_ns);
                    let group = std::mem::replace(&mut self.folder.group, group);
                    let now = self.clock.boot();
                    self.aligning.feed(&group, &built, (&self.folder.kinds, &self.folder.tracks), now);
                    self.folder.committed(&group, &built.resolved, built.accounted, self.clock.read().real);
                    return Ok(());
                }
                Err(LakeError::Overtaken { found, .. }) if self.follow(found.clone()).await.is_ok() => {}
                Err(error) => {
                    metrics::counter!("headwater_commit_failed_total").increment(1);
                    let cause =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::error!(%error, cause, "commit failed, trying again; the rows stay in the landing log");
                    if let LakeError::Table(table) = &error
                        && let Some(name) = table_of(table)
                        && (self.settle_table(name).await
                            || self.folder.refuse_table(name, &error.to_string()))
                    {
                        continue;
                    }
                    if self.committer.wait(&mut wait_ms).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Cursors that only moved over what has no row, or over what an earlier life or another process committed, go along
    /// with the next commit; the receiver may know of them now.
    fn told_of_reading(&mut self) {
        self.folder.group = Group::new(self.folder.settings.clock_half_ns);
        if self.head.is_some() {
            self.marks.send_modify(|mark| {
                mark.cursors.clone_from(&self.folder.read);
                mark.waiting = self.folder.waiting_messages();
            });
        }
    }

    /// The table is not what this life knows of it: another writer has changed it. True if that explains the refusal.
    async fn settle_table(&mut self, table: &TableName) -> bool {
        let columns = async {
            let head = self.committer.lake.head(self.committer.branch()).await?.and_then(|head| head.commit);
            match head {
                Some(head) => self.committer.lake.columns(&head, table).await,
                None => Ok(Vec::new()),
            }
        };
        match columns.await {
            Ok(columns) => self.folder.settle_table(table, &columns),
            // No table there: then nobody else has changed it.
            Err(_) => false,
        }
    }

    async fn try_commit(&mut self) -> Result<Result<(Committed, Built), LakeError>, IngestError> {
        while let Some((sha256, bytes)) = self.folder.group.objects.last().cloned() {
            match self.committer.lake.put_blob(&sha256.to_string(), bytes.to_vec().into()).await {
                Ok(path) => {
                    self.folder.group.blobs.insert(sha256, StoredBlob::Path(path));
                    self.folder.group.objects.pop();
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        let mut built = build(&mut self.folder, self.clock.read().real)?;
        built.request.known.clone_from(&self.head);
        Ok(self.committer.commit_once(built.request.clone()).await.map(|committed| (committed, built)))
    }

    async fn align(&mut self) {
        if self.head.is_some() && self.aligning.has_work() {
            let known = (&self.folder.kinds, &self.folder.tracks);
            self.aligning.round(&mut self.committer, known).await;
        }
    }
}

fn table_of(error: &headwater_lake::TableError) -> Option<&TableName> {
    use headwater_lake::TableError::{ColumnType, Declaration, Evolution, RequiredNull, UndeclaredColumn};
    match error {
        Declaration { table, .. }
        | Evolution { table, .. }
        | ColumnType { table, .. }
        | UndeclaredColumn { table, .. }
        | RequiredNull { table, .. } => Some(table),
        _ => None,
    }
}

/// What a commit says of itself to the receiver: all that was read is in the lake but what waits, so one gateway's
/// half a picture holds back nobody else's rows.
fn mark(commit: &CommitObject, folder: &Folder) -> CommitMark {
    CommitMark {
        cursors: folder.read.clone(),
        waiting: folder.waiting_messages(),
        commit: parse_hex(commit.id.as_str().as_bytes()).map(Sha256),
        at: Some(UtcNanos(commit.time_us.saturating_mul(1_000))),
    }
}
