//! The lake as an Iceberg REST catalog, so that DuckDB, pyiceberg, Spark and others open it with one line.
//!
//! ```text
//! GET  config?warehouse=<ref> ─▶ prefix ─┬▶ view: head ─▶ commit ─▶ table metadata  (kept by name, they never change)
//! POST …/tables/t, transactions/commit ──┴▶ role, ref, audit ─▶ one writer per branch ─▶ commit of kind foreign
//! ```
//! A warehouse is a ref: a branch, a tag, or a commit (`main@4f1e22c0`, `main~2`) that is pinned for ever. Clients read and
//! write data files with credentials of their own; here they are told where, and what they wrote is judged.

mod body;
mod cache;
mod failure;
mod names;
mod prefix;
mod read;
mod routes;
mod view;
mod write;
mod writers;

use crate::serve::access::{Access, Doors};
use crate::serve::audit::AuditLog;
use crate::telemetry;
use cache::Cache;
use headwater_lake::{CommitId, CommitObject, Lake, LakeError, RefName, RefPatterns, TableDocument};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use writers::Writers;

pub(super) use failure::Failure;
pub(super) use read::answer;
pub(super) use routes::router;

/// Memory for table metadata: a table that keeps 20 snapshots has some 20 kB, so this is thousands of tables.
const METADATA_BYTES_MAX: usize = 64 << 20;
/// Memory for commits: with 200 tables one has 60 kB.
const COMMITS_BYTES_MAX: usize = 16 << 20;
/// Changes that wait or run at once, over all branches: each holds its body, and a branch takes them one by one.
const CHANGES_MAX: usize = 64;
/// Empty namespaces remembered.
const NAMESPACES_MAX: usize = 1_000;

/// UTC now, µs.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the catalog is made of.
pub struct CatalogSettings {
    /// The lake.
    pub lake: Lake,
    /// The ref clients get that name none.
    pub branch: RefName,
    /// Who may do what.
    pub access: Access,
    /// Where changes are written down.
    pub audit: AuditLog,
    /// The clock.
    pub now: Now,
    /// Runs changes to their end, whether their client waits or not.
    pub tasks: TaskTracker,
}

impl std::fmt::Debug for CatalogSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogSettings")
            .field("branch", &self.branch)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// The catalog as its handlers share it.
pub(super) struct Catalog {
    pub(super) lake: Lake,
    pub(super) branch: RefName,
    doors: Doors,
    audit: Arc<AuditLog>,
    now: Now,
    tasks: TaskTracker,
    metadata: Mutex<Cache<String, TableDocument>>,
    commits: Mutex<Cache<CommitId, CommitObject>>,
    writers: Writers,
    changes: Semaphore,
    /// Namespaces that were made and have no table yet: a commit has no place for them.
    namespaces: Mutex<BTreeSet<(RefName, String)>>,
}

impl Catalog {
    pub(super) fn new(settings: CatalogSettings) -> Self {
        let CatalogSettings { lake, branch, access, audit, now, tasks } = settings;
        telemetry::describe_catalog();
        Self {
            lake,
            branch,
            doors: Doors::new(access),
            audit: Arc::new(audit),
            now,
            tasks,
            metadata: Mutex::new(Cache::new(METADATA_BYTES_MAX)),
            commits: Mutex::new(Cache::new(COMMITS_BYTES_MAX)),
            writers: Writers::default(),
            changes: Semaphore::new(CHANGES_MAX),
            namespaces: Mutex::default(),
        }
    }

    /// Who may do what, now.
    pub(super) fn access(&self) -> Arc<Access> {
        self.doors.at((self.now)())
    }

    /// What nobody writes here: by the configuration, and by what the lake itself protects now.
    pub(super) async fn protected(&self) -> Result<RefPatterns, LakeError> {
        let stored = self.lake.protection().await?;
        Ok(RefPatterns(self.access().protected.0.iter().chain(&stored.patterns.0).cloned().collect()))
    }

    fn empty_namespaces(&self, branch: &RefName) -> Vec<String> {
        let held = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter(|(name, _)| name == branch).map(|(_, namespace)| namespace.clone()).collect()
    }

    /// Remembers an empty namespace; false at the bound.
    fn add_namespace(&self, branch: &RefName, namespace: &str) -> bool {
        let mut held = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let known = (branch.clone(), namespace.to_owned());
        (held.len() < NAMESPACES_MAX || held.contains(&known)) && {
            held.insert(known);
            true
        }
    }

    fn forget_namespace(&self, branch: &RefName, namespace: &str) {
        let mut held = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&(branch.clone(), namespace.to_owned()));
    }
}

#[cfg(test)]
mod tests;
