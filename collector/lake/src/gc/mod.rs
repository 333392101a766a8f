//! Garbage collection: deletes what no kept commit needs, and nothing else.
//!
//! ```text
//! lease ─▶ thin history ─▶ mark (reach/) ─▶ list ─▶ condemn ─▶ settle ─▶ look at refs again ─▶ sweep files, metadata, commits ─▶ prune
//!                            ▲                                                   │ a new ref needs something condemned
//!                            └───────────────────────────────────────────────────┘
//! ```
//! Whatever a writer stored and has not published yet is younger than the grace time. Whoever makes a ref at an old commit,
//! or names an old blob again, looks at the condemned lists afterwards: it sees the list, or the run sees its ref.
//! A crash anywhere leaves at most garbage: the next run begins anew and finds the same and what is left.

mod condemn;
mod lease;
mod prune;
mod staging;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use self::condemn::Condemned;
use self::lease::Lease;
pub(crate) use self::staging::{leftovers, remove_leftovers};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::CommitId;
use crate::reach::{Damage, Found, HOUR_US, Keep, KeySet, Kind, Lines, Visitor, Walker, lost, survey};

/// Unreachable objects younger than this by the store's clock are left: a writer may be about to name them.
pub const GRACE_US: i64 = 72 * HOUR_US;

/// Least grace: longer than any writer, gate and foreign transaction may take.
pub const GRACE_US_MIN: i64 = 24 * HOUR_US;

/// Between the condemned list and the second look at all refs: longer than a writer builds on a head it knows (10 min).
pub const SETTLE: Duration = Duration::from_secs(15 * 60);

/// How far the caller's clock and the store's may be apart.
pub const CLOCK_SKEW_US_MAX: i64 = HOUR_US / 4;

/// Times a run begins anew because a new ref needs something condemned, before it leaves the rest to the next run.
const RESTARTS_MAX: u32 = 3;

/// How a run waits between its two looks at the refs.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Returns after so long by a clock of the caller's choice.
    async fn settle(&self, how_long: Duration);
}

/// What to collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcOptions {
    /// Now, UTC µs.
    pub now_us: i64,
    /// Who collects, for the lease.
    pub holder: String,
    /// How long history is kept.
    pub keep: Keep,
    /// See [`GRACE_US`].
    pub grace_us: i64,
    /// See [`SETTLE`].
    pub settle: Duration,
    /// Only tells what would go.
    pub dry_run: bool,
}

impl GcOptions {
    /// The defaults, at `now_us`.
    pub fn new(now_us: i64, holder: String) -> GcOptions {
        GcOptions {
            now_us,
            holder,
            keep: Keep::default(),
            grace_us: GRACE_US,
            settle: SETTLE,
            dry_run: false,
        }
    }
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Tally {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What a run did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct GcReport {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Commits that are kept.
    pub commits_kept: u64,
    /// Objects that kept commits need.
    pub objects_kept: u64,
    /// Days of history that were thinned.
    pub days_thinned: u64,
    /// What was deleted, by what it was.
    pub deleted: BTreeMap<Kind, Tally>,
    /// Unreachable, but younger than the grace time.
    pub young: Tally,
    /// Entries pruned from ref logs.
    pub entries_pruned: u64,
    /// Times the run began anew for a ref made meanwhile.
    pub restarts: u32,
    /// There is more: the bound of one run was met, or refs kept being made.
    pub more: bool,
}

impl GcReport {
    /// All that was deleted.
    pub fn total(&self) -> Tally {
        self.deleted.values().fold(Tally::default(), |sum, tally| Tally {
            objects: sum.objects + tally.objects,
            bytes: sum.bytes + tally.bytes,
        })
    }
}

/// Where a long run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GcProgress {
    /// Refs and history are read.
    Surveying,
    /// Commits walked, of all.
    Marking(u64, u64),
    /// Objects listed.
    Listing(u64),
    /// Waiting for slow writers.
    Settling,
    /// Objects deleted, of all.
    Sweeping(u64, u64),
}

/// Told where a run is.
pub type Tell<'a> = &'a mut (dyn FnMut(GcProgress) + Send);

impl Lake {
    /// Thins history, deletes what no kept commit needs and prunes the ref logs.
    ///
    /// # Errors
    /// [`LakeError::Collecting`] while another run is at it, [`LakeError::ClockSkew`], [`LakeError::Damaged`] when
    /// something that may name what is needed cannot be read, [`LakeError::Keep`], or when the store fails. Running it
    /// again is always safe.
    pub async fn collect_garbage(
        &self,
        options: &GcOptions,
        settle: &dyn Settle,
        tell: Tell<'_>,
    ) -> Result<GcReport, LakeError> {
        options.keep.check()?;
        if options.grace_us < GRACE_US_MIN {
            let reason =
                "the grace time is below 24 h: a writer that is at work could lose its files".to_owned();
            return Err(LakeError::Keep { reason });
        }
        if options.dry_run {
            return dry_run(self, options, tell).await;
        }
        let store_us = lease::store_time(self.store()).await?;
        let differ_us = store_us.saturating_sub(options.now_us);
        if differ_us.abs() > CLOCK_SKEW_US_MAX {
            let (differ_s, most_s) = (differ_us / 1_000_000, CLOCK_SKEW_US_MAX / 1_000_000);
            return Err(LakeError::ClockSkew { differ_s, most_s });
        }
        let run = Uuid::new_v4().to_string();
        let lease = Lease::take(self.store(), &run, &options.holder, store_us).await?;
        let report = Run { lake: self, options, store_us, lease: &lease, run }.collect(settle, tell).await;
        // An error keeps the lease only until somebody takes it over; giving it back spares them the wait.
        let released = lease.release(self.store()).await;
        let report = report?;
        released?;
        Ok(report)
    }
}

async fn dry_run(lake: &Lake, options: &GcOptions, tell: Tell<'_>) -> Result<GcReport, LakeError> {
    tell(GcProgress::Surveying);
    let lines = survey(lake, &options.keep, options.now_us, options.now_us).await?;
    let (report, walker) = mark(lake, &lines, tell).await?;
    let mut report = GcReport { dry_run: true, ..report };
    let before_us = options.now_us - options.grace_us;
    let condemned = condemn::list(lake.store(), walker.seen(), before_us, &mut report, tell).await?;
    report.deleted = condemned.tallies();
    report.entries_pruned =
        prune::old_entries(lake, options.now_us - options.keep.reflog_us).await?.len() as u64;
    Ok(report)
}

/// Marks what `lines` keep; refuses when something on the way cannot be read.
async fn mark<'a>(
    lake: &'a Lake,
    lines: &Lines,
    tell: Tell<'_>,
) -> Result<(GcReport, Walker<'a>), LakeError> {
    if let Some(damage) = lines.damage.first() {
        return Err(LakeError::Damaged { reason: damage.to_string() });
    }
    let mut walker = Walker::new(lake, false);
    let lost = lost(lake.store()).await?;
    let mut marking = Marking { all: lines.live.len() as u64, lost: &lost, tell };
    walker.walk(&lines.live, &mut marking).await?;
    let report = GcReport {
        commits_kept: lines.live.len() as u64,
        objects_kept: walker.seen().len() as u64,
        days_thinned: lines.planned.len() as u64,
        ..GcReport::default()
    };
    Ok((report, walker))
}

struct Marking<'a> {
    all: u64,
    lost: &'a KeySet,
    tell: Tell<'a>,
}

impl Visitor for Marking<'_> {
    fn found(&mut self, _key: &str, _what: &Found<'_>) -> Result<(), LakeError> {
        Ok(())
    }

    fn damaged(&mut self, damage: Damage) -> Result<(), LakeError> {
        match self.lost.contains(&damage.key) {
            true => Ok(()),
            false => Err(LakeError::Damaged { reason: damage.to_string() }),
        }
    }

    fn walked(&mut self, commits: usize) {
        (self.tell)(GcProgress::Marking(commits as u64, self.all.max(commits as u64)));
    }
}

struct Run<'a> {
    lake: &'a Lake,
    options: &'a GcOptions,
    store_us: i64,
    lease: &'a Lease,
    run: String,
}

impl Run<'_> {
    async fn collect(&self, settle: &dyn Settle, tell: Tell<'_>) -> Result<GcReport, LakeError> {
        let (lake, store) = (self.lake, self.lake.store());
        tell(GcProgress::Surveying);
        let mut lines = survey(lake, &self.options.keep, self.options.now_us, self.store_us).await?;
        if let Some(damage) = lines.damage.first() {
            return Err(LakeError::Damaged { reason: damage.to_string() });
        }
        for day in &lines.planned {
            if !day.write(store).await? {
                return Err(lease::lost(&self.options.holder));
            }
        }
        let (mut report, mut walker) = mark(lake, &lines, &mut *tell).await?;
        let before_us = self.store_us - self.options.grace_us;
        let mut condemned = condemn::list(store, walker.seen(), before_us, &mut report, &mut *tell).await?;
        loop {
            condemned.write(store, &self.run, &self.options.holder, report.restarts).await?;
            tell(GcProgress::Settling);
            settle.settle(self.options.settle).await;
            let mut needed = self.mark_new(&mut lines, &mut walker, &mut *tell).await?;
            if needed {
                needed = condemned.spare(|key| walker.seen().contains(key)) > 0;
            }
            let renewed = condemned.spare_renewed(store, before_us).await?;
            if !needed {
                break;
            }
            report.restarts += 1;
            if report.restarts > RESTARTS_MAX {
                report.more = true;
                break;
            }
            tracing::info!(run = %self.run, restarts = report.restarts, renewed, "a new ref needs what was condemned, condemning anew");
        }
        if report.restarts <= RESTARTS_MAX {
            report.deleted = self.sweep(&condemned, &mut *tell).await?;
        }
        report.entries_pruned = prune::prune(lake, self.store_us - self.options.keep.reflog_us).await?;
        staging::remove(store, before_us, &mut report).await?;
        condemn::forget(store).await?;
        lease::forget_older(store, self.lease).await?;
        Ok(report)
    }

    /// Marks what refs and tags have come to name; true if there was anything.
    async fn mark_new(
        &self,
        lines: &mut Lines,
        walker: &mut Walker<'_>,
        tell: Tell<'_>,
    ) -> Result<bool, LakeError> {
        let named: Vec<CommitId> = lines.named_since(self.lake).await?;
        let lost = lost(self.lake.store()).await?;
        let mut any = false;
        for id in named {
            let fresh = lines.unseen_below(self.lake, id, walker.seen()).await?;
            any |= !fresh.is_empty();
            let mut marking = Marking { all: fresh.len() as u64, lost: &lost, tell: &mut *tell };
            walker.walk(&fresh, &mut marking).await?;
        }
        Ok(any)
    }

    /// Deletes files first and commits last, so that what is left after a crash is never a commit without its files
    /// that anybody still needs, and its list tells what it was.
    async fn sweep(&self, condemned: &Condemned, tell: Tell<'_>) -> Result<BTreeMap<Kind, Tally>, LakeError> {
        let all = condemned.len() as u64;
        let mut deleted: BTreeMap<Kind, Tally> = BTreeMap::new();
        let mut done = 0;
        for batch in condemned.batches() {
            self.lease.still_held(self.lake.store()).await?;
            let keys: Vec<String> = batch.iter().map(|object| object.key.clone()).collect();
            self.lake.store().delete_all(&keys).await?;
            for object in batch {
                deleted.entry(condemn::kind_of(&object.key)).or_default().add(object.size);
            }
            done += batch.len() as u64;
            tell(GcProgress::Sweeping(done, all));
        }
        Ok(deleted)
    }
}
