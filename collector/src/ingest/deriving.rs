//! What is derived of a window: columns of a row alone, the chain, what programs make of that. Pictures are read from the
//! lake as rows name them, a few at a time; programs run on threads of their own, and rows that wait for one stay out.

use super::aligning::AlignError;
use super::chaining::{Chaining, chained};
use crate::align::derived::Derives;
use crate::align::derived::chain::Tails;
use crate::align::feature::{CommandRunner, RecipeFiles};
use crate::align::layout::table_name;
use crate::align::window::AlignedWindow;
use crate::commit::cells::Cell;
use crate::commit::read::ScannedRows;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_schema::ArrowError;
use futures::TryStreamExt;
use headwater_align::derive::port::{Commands, Pictures};
use headwater_align::derive::{Command, CommandFailure, Derivation, DeriveError, Derived, DerivedRows};
use headwater_align::recipe::Recipe;
use headwater_core::ports::Clock;
use headwater_lake::{CommitId, Compare, Condition, Lake, LakeError, ScanOptions, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle};

/// Rows whose pictures are in memory at once.
const PICTURE_ROWS_MAX: usize = 8;
/// Around a row's time, µs, where its picture is looked for first: a tolerance, an offset, a better clock.
const AROUND_US: i64 = 60_000_000;

/// Runs the programs of a recipe.
#[derive(Clone)]
pub(super) struct Runner {
    commands: Arc<Mutex<dyn Commands + Send>>,
    /// What each program's column rests on, as canonical JSON, by column.
    pub(super) lineage: BTreeMap<String, String>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("lineage", &self.lineage).finish_non_exhaustive()
    }
}

/// Stands for programs that cannot be run at all.
struct NoRunner(String);

impl Commands for NoRunner {
    fn run(&mut self, _: &Command, _: &[u8]) -> Result<Vec<u8>, String> {
        Err(self.0.clone())
    }
}

impl Runner {
    /// Of a recipe whose files are named by absolute paths. A program that is not there, or not what the recipe was read
    /// with, gives no answers.
    pub(super) fn new<C: Clock + Send + 'static>(recipe: &Recipe, clock: C) -> Self {
        match CommandRunner::new(&recipe.derived, RecipeFiles::beside(Path::new("/")), clock) {
            Ok(runner) => {
                let of = |one: &Derived| match &one.by {
                    Derivation::Command(command) => {
                        Some((one.name.to_string(), runner.lineage(command).to_string()))
                    }
                    _ => None,
                };
                let lineage = recipe.derived.iter().filter_map(of).collect();
                Self { commands: Arc::new(Mutex::new(runner)), lineage }
            }
            Err(error) => {
                Self { commands: Arc::new(Mutex::new(NoRunner(error.to_string()))), lineage: BTreeMap::new() }
            }
        }
    }
}

/// What a window is derived with.
#[derive(Debug, Clone)]
pub(super) struct Deriving {
    pub(super) lake: Lake,
    pub(super) head: CommitId,
    pub(super) recipe: Arc<Recipe>,
    pub(super) derives: Arc<Derives>,
    pub(super) runner: Runner,
}

/// A window with everything derived.
#[derive(Debug)]
pub(super) struct DerivedWindow {
    pub(super) window: AlignedWindow,
    /// The commit it was derived at.
    pub(super) head: CommitId,
    /// Devices with the UTC, ns, from which more rows are to be done again.
    pub(super) more: Vec<(String, i64)>,
}

impl Deriving {
    /// Derives a window against the table at the head.
    pub(super) async fn run(
        &self,
        mut window: AlignedWindow,
        tails: &Tails,
    ) -> Result<DerivedWindow, AlignError> {
        self.own(&mut window).await?;
        let mut more = Vec::new();
        if self.derives.is_chained() {
            let table = table_name(&self.recipe)?;
            let (lake, head, recipe, derives) = (&self.lake, &self.head, &*self.recipe, &*self.derives);
            more = Chaining { lake, head, table: &table, recipe, derives }.chain(&mut window, tails).await?;
        }
        self.after(&mut window).await?;
        Ok(DerivedWindow { window, head: self.head.clone(), more })
    }

    /// Derives the next window of rows that are made anew from nothing, oldest first: no table is looked at.
    pub(super) async fn anew(
        &self,
        mut window: AlignedWindow,
        tails: &mut Tails,
    ) -> Result<AlignedWindow, AlignError> {
        self.own(&mut window).await?;
        self.behind(window, tails).await
    }

    /// The first half of it: columns of a row alone.
    pub(super) async fn apart(&self, mut window: AlignedWindow) -> Result<AlignedWindow, AlignError> {
        self.own(&mut window).await?;
        Ok(window)
    }

    /// The other half: the chain behind these tails, and what rests on it.
    pub(super) async fn behind(
        &self,
        mut window: AlignedWindow,
        tails: &mut Tails,
    ) -> Result<AlignedWindow, AlignError> {
        if self.derives.is_chained() {
            chained(&self.derives, &mut window, tails)?;
        }
        self.after(&mut window).await?;
        Ok(window)
    }

    /// Columns of a row alone.
    async fn own(&self, window: &mut AlignedWindow) -> Result<(), AlignError> {
        let mut tables = None;
        for batch in std::mem::take(&mut window.batches) {
            let mut parts = Vec::new();
            let step = if self.derives.is_slow() { PICTURE_ROWS_MAX } else { batch.num_rows() };
            // Programs are asked in batches of their own size.
            let step = if self.derives.pictures_of(&batch).is_empty() { batch.num_rows() } else { step };
            for start in (0..batch.num_rows()).step_by(step.max(1)) {
                let some = batch.slice(start, step.min(batch.num_rows().saturating_sub(start)));
                let pictures = self.pictures(&some, &mut tables).await?;
                let (derives, commands) = (Arc::clone(&self.derives), Arc::clone(&self.runner.commands));
                let made = self.aside(move || {
                    let mut commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
                    derives.own(some, &pictures, &mut *commands)
                });
                parts.push(take_in(window, made.await?)?);
            }
            window.batches.extend(whole(parts)?);
        }
        Ok(())
    }

    /// What programs make of the chain's columns; then the rows are laid out.
    async fn after(&self, window: &mut AlignedWindow) -> Result<(), AlignError> {
        for batch in std::mem::take(&mut window.batches) {
            let rows = match self.derives.has_after() {
                true => {
                    let (derives, commands) = (Arc::clone(&self.derives), Arc::clone(&self.runner.commands));
                    let made = self.aside(move || {
                        let mut commands = commands.lock().unwrap_or_else(PoisonError::into_inner);
                        derives.after(batch, &mut *commands)
                    });
                    take_in(window, made.await?)?
                }
                false => batch,
            };
            if rows.num_rows() > 0 {
                window.batches.push(self.derives.laid_out(&rows)?);
            }
        }
        Ok(())
    }

    /// Programs and pictures take their time: on a thread that may wait.
    async fn aside<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> Result<T, DeriveError> + Send + 'static,
    ) -> Result<T, AlignError> {
        match self.derives.is_slow() {
            true => Ok(tokio::task::spawn_blocking(make).await.map_err(AlignError::Beside)??),
            false => Ok(make()?),
        }
    }

    /// The pictures that rows name.
    async fn pictures(
        &self,
        rows: &RecordBatch,
        tables: &mut Option<Vec<TableName>>,
    ) -> Result<HeldPictures, AlignError> {
        let digests = self.derives.pictures_of(rows);
        let mut held = HeldPictures::default();
        if digests.is_empty() {
            return Ok(held);
        }
        if tables.is_none() {
            *tables = Some(picture_tables(&self.lake, &self.head).await?);
        }
        let times = ScannedRows(rows);
        let times = (0..rows.num_rows()).filter_map(|row| times.long("ts_ns", row));
        let span = times.fold(None, |span: Option<(i64, i64)>, ts| {
            Some(span.map_or((ts, ts), |(lo, hi)| (lo.min(ts), hi.max(ts))))
        });
        let span = span.map(|(lo, hi)| {
            (lo.div_euclid(1_000).saturating_sub(AROUND_US), hi.div_euclid(1_000).saturating_add(AROUND_US))
        });
        for digest in digests {
            let tables = tables.as_deref().unwrap_or_default();
            let found = match picture(&self.lake, &self.head, tables, &digest, span).await? {
                None => picture(&self.lake, &self.head, tables, &digest, None).await?,
                found => found,
            };
            held.0.insert(digest, found);
        }
        Ok(held)
    }
}

/// Notes what programs could not do, and takes rows that wait for them out.
fn take_in(window: &mut AlignedWindow, made: DerivedRows) -> Result<RecordBatch, ArrowError> {
    if made.held.num_rows() > 0 {
        let missing = || ArrowError::SchemaError("derived rows do not say who they are".to_owned());
        let text =
            |name: &str| made.held.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let (devices, keys) = text("device").zip(text("row_key")).ok_or_else(missing)?;
        let names = devices.iter().flatten().zip(keys.iter().flatten());
        let names: BTreeSet<(String, String)> =
            names.map(|(device, key)| (device.to_owned(), key.to_owned())).collect();
        window.set_aside(&names);
    }
    for failure in made.failures {
        match window
            .failures
            .iter_mut()
            .find(|known| known.column == failure.column && known.why == failure.why)
        {
            Some(CommandFailure { rows, .. }) => *rows = rows.saturating_add(failure.rows),
            None => window.failures.push(failure),
        }
    }
    Ok(made.rows)
}

fn whole(parts: Vec<RecordBatch>) -> Result<Option<RecordBatch>, ArrowError> {
    let Some(first) = parts.first() else { return Ok(None) };
    let whole = arrow_select::concat::concat_batches(first.schema_ref(), &parts)?;
    Ok((whole.num_rows() > 0).then_some(whole))
}

/// Pictures by their digests; none for one that the lake no longer holds.
#[derive(Debug, Default)]
struct HeldPictures(BTreeMap<String, Option<Arc<[u8]>>>);

impl Pictures for HeldPictures {
    fn picture(&self, hash: &str) -> Result<Option<Arc<[u8]>>, String> {
        self.0.get(hash).cloned().ok_or_else(|| format!("picture {hash} was not asked for"))
    }
}

/// Raw tables that hold pictures.
async fn picture_tables(lake: &Lake, at: &CommitId) -> Result<Vec<TableName>, LakeError> {
    let mut tables = Vec::new();
    for table in lake.tables(at).await?.into_keys().filter(|table| table.namespace() == "raw") {
        let columns = lake.columns(at, &table).await?;
        if ["image", "hash"].iter().all(|name| columns.iter().any(|column| column.name == *name)) {
            tables.push(table);
        }
    }
    Ok(tables)
}

/// The bytes of a picture, as far as the tables hold it in a span of UTC, µs.
async fn picture(
    lake: &Lake,
    at: &CommitId,
    tables: &[TableName],
    digest: &str,
    span_us: Option<(i64, i64)>,
) -> Result<Option<Arc<[u8]>>, LakeError> {
    let (from_us, to_us) = span_us.unzip();
    for table in tables {
        let hash = Condition { column: "hash".to_owned(), compare: Compare::Equal, value: digest.to_owned() };
        let options = ScanOptions {
            columns: Some(["image", "hash"].map(str::to_owned).to_vec()),
            limit: Some(1),
            from_us,
            to_us,
            conditions: vec![hash],
            ..ScanOptions::default()
        };
        let mut batches = lake.scan(at, table, options).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = ScannedRows(&batch);
            if rows.is_empty() {
                continue;
            }
            return Ok(match rows.member("image", "bytes", 0) {
                Cell::Bytes(bytes) => Some(bytes.into()),
                _ => lake.blob(digest).await?.map(|bytes| Arc::from(bytes.as_ref())),
            });
        }
    }
    Ok(None)
}

/// A window that is being derived beside ingest.
#[derive(Debug)]
pub(super) struct Beside {
    task: JoinHandle<Result<DerivedWindow, AlignError>>,
    outcome: Option<Result<Result<DerivedWindow, AlignError>, JoinError>>,
}

impl Beside {
    /// Derives a window in a task of its own, which tells when it is done.
    #[expect(
        clippy::disallowed_methods,
        reason = "its handle is held by the recipe: ingest drains it at the end, and what is dropped is aborted"
    )]
    pub(super) fn begin(deriving: Deriving, window: AlignedWindow, tails: Tails, done: &Arc<Notify>) -> Self {
        let told = Arc::clone(done);
        let task = tokio::spawn(async move {
            let outcome = deriving.run(window, &tails).await;
            told.notify_one();
            outcome
        });
        Self { task, outcome: None }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.outcome.is_some() || self.task.is_finished()
    }

    /// Until it is done.
    pub(super) async fn wait(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some((&mut self.task).await);
        }
    }

    pub(super) async fn outcome(mut self) -> Result<DerivedWindow, AlignError> {
        self.wait().await;
        match self.outcome.take() {
            Some(outcome) => outcome.map_err(AlignError::Beside)?,
            None => Err(AlignError::AskedTwice),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.task.abort();
    }
}
