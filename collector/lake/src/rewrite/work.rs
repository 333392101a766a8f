//! The long part of a correction: a look at the columns that decide, then the files in which something changes, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::TryStreamExt;
use iceberg::spec::DataFile;

use super::{DERIVED_COLUMNS, Derive, RewriteTable, Rewritten};
use crate::compact::{FileIndex, Listed, Replacement, StopFlag, TableFiles, read_file};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::TableName;
use crate::repo::TableEntry;
use crate::table::{self, Level, Shape, TableError, by_day, conform, encode_file, failed};

/// Bytes of rows gathered before they are sorted and become a file for each of their days: sorting holds them twice.
pub(super) const MEMORY_BYTES_MAX: usize = 128 << 20;

/// One table under correction.
struct Correction<'a> {
    lake: Lake,
    shape: Arc<Shape>,
    files: TableFiles,
    asked: RewriteTable,
    stop: StopFlag,
    entry: &'a TableEntry,
}

/// Rewrites what `asked` asks for of a table; no replacement if nothing changes.
pub(super) async fn rewrite(
    lake: &Lake,
    entry: &TableEntry,
    asked: &RewriteTable,
    index: &mut FileIndex,
    stop: &StopFlag,
) -> Result<(Rewritten, Option<Replacement>), LakeError> {
    let name = &asked.table;
    let state = table::load(lake.store(), name, entry).await?;
    let files = index.of(lake.store(), name, &state).await?;
    let refuse = |reason: &str| TableError::Rewrite { table: name.clone(), reason: reason.to_owned() };
    if let Some(foreign) = files.foreign(&state.metadata) {
        return Err(refuse(foreign.as_str()).into());
    }
    if files.data.values().any(|file| file.spec_id != state.metadata.default_partition_spec_id()) {
        return Err(refuse("some of its files are partitioned in an older way").into());
    }
    let shape = Arc::new(Shape::stored(name, &state.metadata)?);
    let correction = Correction {
        lake: lake.clone(),
        shape,
        files,
        asked: asked.clone(),
        stop: stop.clone(),
        entry: &entry.clone(),
    };
    correction.run().await
}

impl Correction<'_> {
    async fn run(self) -> Result<(Rewritten, Option<Replacement>), LakeError> {
        let touched = self.touched().await?;
        let Some(first) = touched.first() else { return Ok((Rewritten::default(), None)) };
        let day = first.day.unwrap_or_default();
        let mut done = Rewritten { files_in: touched.len() as u64, ..Rewritten::default() };
        let mut levels: BTreeMap<i32, Level> = BTreeMap::new();
        for file in &touched {
            done.bytes_in += file.bytes;
            if let Some(day) = file.day {
                let level = levels.entry(day).or_default();
                let whole = self.asked.whole.contains(&day);
                *level = if whole { Level::Day } else { (*level).max(Level::of_path(&file.path)) };
            }
        }
        let inputs: BTreeSet<String> = touched.iter().map(|file| file.path.clone()).collect();
        let deletes = self.files.deletes_touching(&inputs);
        let mut added: Vec<DataFile> = Vec::new();
        let mut held: Vec<RecordBatch> = Vec::new();
        let mut bytes = 0;
        for file in touched {
            let mut rows =
                read_file(self.lake.store(), &self.shape, file, self.files.deletes_of(&file.path), None)?;
            while let Some(batch) = rows.try_next().await? {
                self.stop.check("a correction")?;
                done.rows += batch.num_rows() as u64;
                let batch = self.corrected(batch)?;
                bytes += batch.get_array_memory_size();
                held.push(batch);
                if bytes >= MEMORY_BYTES_MAX {
                    added.extend(store(&self.lake, &self.shape, std::mem::take(&mut held), &levels).await?);
                    bytes = 0;
                }
            }
        }
        added.extend(store(&self.lake, &self.shape, held, &levels).await?);
        let written: u64 = added.iter().map(DataFile::record_count).sum();
        if written != done.rows {
            let reason = format!("{} rows were read and {written} written: nothing is changed", done.rows);
            return Err(LakeError::corrupt(&self.asked.table, reason));
        }
        done.files_out = added.len() as u64;
        done.bytes_out = added.iter().map(DataFile::file_size_in_bytes).sum();
        let (table_uuid, bytes_in) = (self.entry.uuid, done.bytes_in);
        Ok((done, Some(Replacement { table_uuid, day, inputs, deletes, added, bytes_in })))
    }

    /// Files in which a row changes, and those that go with them.
    async fn touched(&self) -> Result<Vec<&Listed>, LakeError> {
        let derive = &self.asked.derive;
        let columns: Vec<&str> = derive.reads().iter().copied().chain(DERIVED_COLUMNS).collect();
        let mut touched: BTreeMap<&str, &Listed> = BTreeMap::new();
        let mut days: BTreeSet<i32> = BTreeSet::new();
        let of = |file: &&Listed, days: &BTreeSet<i32>| file.day.is_some_and(|day| days.contains(&day));
        for file in self.files.data.values().filter(|file| of(file, &self.asked.days)) {
            let deletes = self.files.deletes_of(&file.path);
            let mut rows = read_file(self.lake.store(), &self.shape, file, deletes, Some(&columns))?;
            while let Some(batch) = rows.try_next().await? {
                self.stop.check("a correction")?;
                if derived(&self.asked.table, derive.as_ref(), &batch)?.is_some() {
                    touched.insert(&file.path, file);
                    days.extend(file.day);
                    break;
                }
            }
        }
        let whole: BTreeSet<i32> = days.intersection(&self.asked.whole).copied().collect();
        touched.extend(
            self.files.data.values().filter(|file| of(file, &whole)).map(|file| (file.path.as_str(), file)),
        );
        Ok(touched.into_values().collect())
    }

    /// The same rows with their derived columns as they are now.
    fn corrected(&self, batch: RecordBatch) -> Result<RecordBatch, LakeError> {
        let derive = self.asked.derive.as_ref();
        let Some(new) = derived(&self.asked.table, derive, &batch)? else { return Ok(batch) };
        let columns = batch.columns().iter().zip(batch.schema_ref().fields());
        let columns = columns
            .map(|(column, field)| Arc::clone(new.column_by_name(field.name()).unwrap_or(column)))
            .collect::<Vec<_>>();
        let fields = batch.schema_ref().fields().iter().map(|field| field.name().as_str());
        let loose = RecordBatch::try_from_iter_with_nullable(fields.zip(columns).map(|(n, c)| (n, c, true)));
        let loose = loose.map_err(|e| LakeError::Table(failed(&self.shape.spec, "*", e)))?;
        let after = conform(&self.shape.spec, &self.shape.target, &loose)?;
        derive.rewritten(&batch, &after);
        Ok(after)
    }
}

/// Sorts rows, and stores a file for each of their days.
pub(super) async fn store(
    lake: &Lake,
    shape: &Arc<Shape>,
    held: Vec<RecordBatch>,
    levels: &BTreeMap<i32, Level>,
) -> Result<Vec<DataFile>, LakeError> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let (shape, levels) = (Arc::clone(shape), levels.clone());
    let encoding = move || {
        let all = arrow_select::concat::concat_batches(&shape.target, &held)
            .map_err(|e| LakeError::Table(failed(&shape.spec, "*", e)))?;
        let mut files = Vec::new();
        for (day, rows) in by_day(&shape.spec, &shape.sort, &all)? {
            // Rows that moved to another day are few there, and wait for that day's own compaction.
            let level = levels.get(&day).copied().unwrap_or_default();
            files.push(encode_file(&shape, day, level, &rows)?);
        }
        Ok::<_, LakeError>(files)
    };
    let joined = tokio::task::spawn_blocking(encoding).await;
    let files = joined.map_err(|source| LakeError::Task { task: "the encoder", source })??;
    let objects = files.iter().map(|file| (file.data_file.file_path().to_owned(), file.bytes.clone()));
    lake.store().create_all(objects.collect()).await?;
    Ok(files.into_iter().map(|file| file.data_file).collect())
}

/// What a [`Derive`] says, checked: only derived columns, one value a row.
fn derived(
    table: &TableName,
    derive: &dyn Derive,
    batch: &RecordBatch,
) -> Result<Option<RecordBatch>, LakeError> {
    let refuse = |reason: String| LakeError::Table(TableError::Rewrite { table: table.clone(), reason });
    let Some(new) = derive.derive(batch).map_err(refuse)? else { return Ok(None) };
    if let Some(field) =
        new.schema_ref().fields().iter().find(|field| !DERIVED_COLUMNS.contains(&field.name().as_str()))
    {
        return Err(refuse(format!("{} is no derived column; a correction never changes it", field.name())));
    }
    if new.num_rows() != batch.num_rows() {
        return Err(refuse(format!("{} rows became {}", batch.num_rows(), new.num_rows())));
    }
    Ok(Some(new))
}
