//! Rows taken out by name: a look at the columns that name them, then the files they lie in, without them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use futures::TryStreamExt;
use iceberg::spec::DataFile;

use super::work::{MEMORY_BYTES_MAX, store};
use super::{RemoveRows, Rewritten};
use crate::compact::{FileIndex, Listed, Replacement, StopFlag, TableFiles, read_file};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::repo::TableEntry;
use crate::table::{self, Level, Shape, TableError, failed};

/// Takes out what `asked` names; no replacement if none of it is there.
pub(super) async fn remove(
    lake: &Lake,
    entry: &TableEntry,
    asked: &RemoveRows,
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
    let shape = Arc::new(Shape::stored(name, &state.metadata)?);
    let touched = touched(lake, &shape, &files, asked, stop).await?;
    let Some(day) = touched.first().map(|file| file.day.unwrap_or_default()) else {
        return Ok((Rewritten::default(), None));
    };
    let mut done = Rewritten { files_in: touched.len() as u64, ..Rewritten::default() };
    let mut levels: BTreeMap<i32, Level> = BTreeMap::new();
    for file in &touched {
        done.bytes_in += file.bytes;
        if let Some(day) = file.day {
            let level = levels.entry(day).or_default();
            *level = (*level).max(Level::of_path(&file.path));
        }
    }
    let inputs = touched.iter().map(|file| file.path.clone()).collect();
    let deletes = files.deletes_touching(&inputs);
    let (mut added, mut held, mut bytes): (Vec<DataFile>, Vec<RecordBatch>, usize) = Default::default();
    for file in touched {
        let mut rows = read_file(lake.store(), &shape, file, files.deletes_of(&file.path), None)?;
        while let Some(batch) = rows.try_next().await? {
            stop.check("a removal")?;
            let kept = kept(&shape, asked, &batch)?;
            let stays = arrow_select::filter::filter_record_batch(&batch, &kept)
                .map_err(|e| LakeError::Table(failed(&shape.spec, "*", e)))?;
            done.rows += stays.num_rows() as u64;
            done.removed += (batch.num_rows() - stays.num_rows()) as u64;
            bytes += stays.get_array_memory_size();
            if stays.num_rows() > 0 {
                held.push(stays);
            }
            if bytes >= MEMORY_BYTES_MAX {
                added.extend(store(lake, &shape, std::mem::take(&mut held), &levels).await?);
                bytes = 0;
            }
        }
    }
    added.extend(store(lake, &shape, held, &levels).await?);
    let written: u64 = added.iter().map(DataFile::record_count).sum();
    if written != done.rows {
        let reason =
            format!("{} rows were to stay and {written} were written: nothing is changed", done.rows);
        return Err(LakeError::corrupt(name, reason));
    }
    done.files_out = added.len() as u64;
    done.bytes_out = added.iter().map(DataFile::file_size_in_bytes).sum();
    let (table_uuid, bytes_in) = (entry.uuid, done.bytes_in);
    Ok((done, Some(Replacement { table_uuid, day, inputs, deletes, added, bytes_in })))
}

/// Files that hold one of the rows.
async fn touched<'a>(
    lake: &Lake,
    shape: &Arc<Shape>,
    files: &'a TableFiles,
    asked: &RemoveRows,
    stop: &StopFlag,
) -> Result<Vec<&'a Listed>, LakeError> {
    let columns: Vec<&str> = asked.by.iter().map(String::as_str).collect();
    let mut touched = Vec::new();
    let may_hold = |file: &&Listed| match (&asked.days, file.day) {
        (Some(days), Some(day)) => days.contains(&day),
        _ => true,
    };
    for file in files.data.values().filter(may_hold) {
        let deletes = files.deletes_of(&file.path);
        let mut rows = read_file(lake.store(), shape, file, deletes, Some(&columns))?;
        while let Some(batch) = rows.try_next().await? {
            stop.check("a removal")?;
            if kept(shape, asked, &batch)?.false_count() > 0 {
                touched.push(file);
                break;
            }
        }
    }
    Ok(touched)
}

/// Which rows stay.
fn kept(shape: &Shape, asked: &RemoveRows, batch: &RecordBatch) -> Result<BooleanArray, LakeError> {
    let column = |name: &String| {
        let found = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        found.ok_or_else(|| {
            let reason = format!("it has no text column {name} to name its rows by");
            LakeError::Table(TableError::Rewrite { table: shape.spec.name.clone(), reason })
        })
    };
    let columns = asked.by.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let mut named = vec![String::new(); columns.len()];
    let stays = |row: usize| {
        for (slot, column) in named.iter_mut().zip(&columns) {
            slot.clear();
            slot.push_str(column.value(row));
        }
        !asked.rows.contains(&named)
    };
    Ok((0..batch.num_rows()).map(stays).map(Some).collect())
}
