//! The data files of an aligned table made again, byte for byte, out of rows that were made anew.

use crate::query::QueryError;
use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_cast::display::array_value_to_string;
use headwater_lake::{CommitFile, CommitId, Lake, StoredFile, TableName};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Characters of a value shown where two differ.
const SHOWN_MAX: usize = 120;

/// Rows made anew, by who they are.
#[derive(Debug, Default)]
pub(super) struct Made {
    batches: Vec<RecordBatch>,
    places: HashMap<(String, String), (usize, usize)>,
}

/// A data file beside the same made again.
#[derive(Debug)]
pub(super) struct FileTold {
    pub(super) name: String,
    pub(super) rows: usize,
    /// Rows that are not final, which cannot be made again and were taken as they stand.
    pub(super) provisional: usize,
    pub(super) stored: String,
    /// None if a row of it was not made anew, or a foreign client wrote it.
    pub(super) anew: Option<String>,
    /// What differs first; none if it is the same.
    pub(super) difference: Option<Value>,
}

impl Made {
    /// Takes rows of the aligned table in.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let names = names(batch)?;
        let place = self.batches.len();
        self.places.extend(names.into_iter().enumerate().map(|(at, name)| (name, (place, at))));
        self.batches.push(batch.clone());
        Ok(())
    }

    /// Holds a stored file against these rows.
    pub(super) async fn compare(
        &self,
        lake: &Lake,
        (commit, table): (&CommitId, &TableName),
        file: &CommitFile,
    ) -> Result<(FileTold, StoredFile), QueryError> {
        let stored = lake.stored_file(commit, table, &file.location).await?;
        let mut told = FileTold {
            name: file.location.rsplit('/').next().unwrap_or_default().to_owned(),
            rows: stored.rows.num_rows(),
            provisional: 0,
            stored: stored.sha256.clone(),
            anew: None,
            difference: None,
        };
        self.fill(&mut told, &stored)?;
        Ok((told, stored))
    }

    fn fill(&self, told: &mut FileTold, stored: &StoredFile) -> Result<(), QueryError> {
        let names = names(&stored.rows)?;
        let flags = stored.rows.column_by_name("provisional").and_then(|flags| flags.as_boolean_opt());
        let is_provisional =
            |at: usize| flags.is_some_and(|flags: &BooleanArray| flags.is_valid(at) && flags.value(at));
        let mut batches = self.batches.clone();
        let own = batches.len();
        batches.push(stored.rows.clone());
        let mut order = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            order.push(match (is_provisional(at), self.places.get(name)) {
                (true, _) => {
                    told.provisional = told.provisional.saturating_add(1);
                    (own, at)
                }
                (false, Some(place)) => *place,
                (false, None) => {
                    told.difference =
                        Some(json!({"row": at, "device": name.0, "row_key": name.1, "what": "it was not made anew"}));
                    return Ok(());
                }
            });
        }
        let rows = stored.arranged(&batches, &order)?;
        let first = stored.first_difference(&rows);
        if !stored.is_ours() {
            // Its rows can be told, its bytes are a foreign client's business.
            let foreign = || json!({"what": format!("written by {}, whose bytes cannot be made again", stored.created_by)});
            told.difference = Some(first.map_or_else(foreign, |first| cell(stored, &rows, &names, first)));
            return Ok(());
        }
        let remade = stored.remade(&rows)?;
        told.difference = match (first, remade.differs_at) {
            (Some(first), _) => Some(cell(stored, &rows, &names, first)),
            (None, Some(byte)) => {
                let what =
                    "its rows are the same and its bytes are not: another version of the software wrote it";
                Some(json!({"byte": byte, "what": what}))
            }
            (None, None) => None,
        };
        told.anew = Some(remade.sha256);
        Ok(())
    }
}

/// The first value that differs, on both sides.
fn cell(
    stored: &StoredFile,
    rows: &RecordBatch,
    names: &[(String, String)],
    (row, column): (usize, String),
) -> Value {
    let shown = |of: &RecordBatch| {
        let value = of.column_by_name(&column).filter(|values| row < values.len());
        let text = value.and_then(|values| array_value_to_string(values, row).ok());
        text.map(|text| text.chars().take(SHOWN_MAX).collect::<String>())
    };
    let (device, row_key) = names.get(row).cloned().unwrap_or_default();
    json!({
        "row": row, "device": device, "row_key": row_key, "column": column, "stored": shown(&stored.rows),
        "anew": shown(rows),
    })
}

/// Device and key of each row.
fn names(batch: &RecordBatch) -> Result<Vec<(String, String)>, QueryError> {
    let text = |name: &str| {
        let wrong = |reason: String| QueryError::Column { column: name.to_owned(), reason };
        let column = batch.column_by_name(name).ok_or_else(|| wrong("it is missing".to_owned()))?;
        arrow_cast::cast(column, &arrow_schema::DataType::Utf8).map_err(|error| wrong(error.to_string()))
    };
    let (device, key) = (text("device")?, text("row_key")?);
    let (device, key) = (device.as_string::<i32>(), key.as_string::<i32>());
    let of = |column: &arrow_array::StringArray, at: usize| match column.is_valid(at) {
        true => column.value(at).to_owned(),
        false => String::new(),
    };
    Ok((0..batch.num_rows()).map(|at| (of(device, at), of(key, at))).collect())
}
