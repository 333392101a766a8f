//! The forms of an export: each takes batches of a day and makes files of them.

use super::card;
use super::folder::{Folder, HashedFile};
use super::pictures::{Pictures, blob_columns};
use super::{Format, line};
use crate::query::QueryError;
use crate::query::rows::{Bytes, values};
use arrow_array::RecordBatch;
use headwater_lake::{ColumnSpec, ColumnType, CommitId, Lake, ParquetSink, TableName};
use serde_json::{Map, Value};
use std::io::Write;

/// Files in the making, of one table.
pub(super) struct Form {
    format: Format,
    table: TableName,
    columns: Vec<ColumnSpec>,
    prefix: String,
    day: Day,
    pictures: Option<Pictures>,
}

/// The file of the present day.
enum Day {
    None,
    Parquet(Box<ParquetSink<HashedFile>>, u64),
    Text(Box<HashedFile>, u64),
}

impl Form {
    pub(super) fn begin(
        format: Format,
        table: &TableName,
        columns: &[ColumnSpec],
        folder: &Folder,
        prefix: &str,
    ) -> Result<Self, QueryError> {
        let pictures = match format {
            Format::Images => Some(Pictures::begin(table, columns, folder)?),
            _ => None,
        };
        let (table, columns) = (table.clone(), columns.to_vec());
        Ok(Self { format, table, columns, prefix: prefix.to_owned(), day: Day::None, pictures })
    }

    /// Writes rows of a day; those of one day come together.
    pub(super) fn write(
        &mut self,
        folder: &mut Folder,
        day: &str,
        batch: &RecordBatch,
    ) -> Result<(), QueryError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if let Some(pictures) = &mut self.pictures {
            return pictures.write(folder, batch);
        }
        if matches!(self.day, Day::None) {
            self.day = self.begin_day(folder, day, batch)?;
        }
        match &mut self.day {
            Day::None => {}
            Day::Parquet(sink, rows) => {
                sink.write(batch)?;
                *rows = rows.saturating_add(batch.num_rows() as u64);
            }
            Day::Text(file, rows) => {
                for row in values(batch, Bytes::Base64)? {
                    let text = match self.format {
                        Format::Csv => record(&self.columns, &row),
                        _ => line(&Value::Object(row)),
                    };
                    file.write_all(text.as_bytes())?;
                    *rows = rows.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    /// Ends the file of the day.
    pub(super) fn end_day(&mut self, folder: &mut Folder) -> Result<(), QueryError> {
        match std::mem::replace(&mut self.day, Day::None) {
            Day::None => Ok(()),
            Day::Parquet(sink, rows) => folder.done(sink.finish()?, Some(rows)),
            Day::Text(file, rows) => folder.done(*file, Some(rows)),
        }
    }

    /// What stands beside the rows.
    pub(super) fn finish(
        self,
        folder: &mut Folder,
        lake: &Lake,
        id: &CommitId,
        rows: u64,
    ) -> Result<(), QueryError> {
        if let Some(pictures) = self.pictures {
            pictures.finish(folder)?;
        }
        if self.format == Format::Huggingface {
            let mut file = folder.file("README.md")?;
            file.write_all(card::readme(&self.table, &self.columns, lake, id, rows).as_bytes())?;
            folder.done(file, None)?;
        }
        Ok(())
    }

    fn begin_day(&self, folder: &Folder, day: &str, batch: &RecordBatch) -> Result<Day, QueryError> {
        let name = match self.format {
            Format::Parquet => format!("{}{day}.parquet", self.prefix),
            Format::Huggingface => format!("data/train-{day}.parquet"),
            Format::Csv => format!("{}{day}.csv", self.prefix),
            Format::Jsonl | Format::Images => format!("{}{day}.jsonl", self.prefix),
        };
        let mut file = folder.file(&name)?;
        if matches!(self.format, Format::Parquet | Format::Huggingface) {
            let blobs = blob_columns(&self.columns).map(|name| vec![name.to_owned(), "bytes".to_owned()]);
            let words = match self.format {
                Format::Huggingface => vec![("huggingface".to_owned(), card::schema_words(&self.columns))],
                _ => Vec::new(),
            };
            let sink = ParquetSink::new(file, &self.table, &batch.schema(), blobs.collect(), words)?;
            return Ok(Day::Parquet(Box::new(sink), 0));
        }
        if self.format == Format::Csv {
            let mut heads = Vec::new();
            self.columns.iter().for_each(|column| flat_names(column, "", &mut heads));
            file.write_all(joined(heads.iter().map(|head| quoted(head))).as_bytes())?;
        }
        Ok(Day::Text(Box::new(file), 0))
    }
}

fn flat_names(column: &ColumnSpec, within: &str, out: &mut Vec<String>) {
    let name = format!("{within}{}", column.name);
    match &column.column_type {
        ColumnType::Struct(members) => {
            members.iter().for_each(|member| flat_names(member, &format!("{name}."), out));
        }
        _ => out.push(name),
    }
}

fn flat_values(column: &ColumnSpec, value: Option<&Value>, out: &mut Vec<String>) {
    match (&column.column_type, value) {
        (ColumnType::Struct(members), value) => {
            for member in members {
                flat_values(member, value.and_then(|value| value.get(&member.name)), out);
            }
        }
        (_, None | Some(Value::Null)) => out.push(String::new()),
        // An empty text is told from no value by its quotes.
        (_, Some(Value::String(text))) if text.is_empty() => out.push("\"\"".to_owned()),
        (_, Some(Value::String(text))) => out.push(quoted(text)),
        (_, Some(other)) => out.push(quoted(&other.to_string())),
    }
}

/// One line of CSV (RFC 4180, with plain line ends).
fn record(columns: &[ColumnSpec], row: &Map<String, Value>) -> String {
    let mut cells = Vec::new();
    columns.iter().for_each(|column| flat_values(column, row.get(&column.name), &mut cells));
    joined(cells.into_iter())
}

fn joined(cells: impl Iterator<Item = String>) -> String {
    let mut text = cells.collect::<Vec<_>>().join(",");
    text.push('\n');
    text
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn csv_is_flat_and_quotes_what_needs_it() {
        let members =
            vec![ColumnSpec::optional("n", ColumnType::Int), ColumnSpec::optional("s", ColumnType::String)];
        let columns = [
            ColumnSpec::required("a", ColumnType::String),
            ColumnSpec::optional("b", ColumnType::Struct(members)),
        ];
        let mut heads = Vec::new();
        columns.iter().for_each(|column| flat_names(column, "", &mut heads));
        assert_eq!(heads, ["a", "b.n", "b.s"]);
        let of = |value: Value| match value {
            Value::Object(row) => record(&columns, &row),
            _ => String::new(),
        };
        assert_eq!(of(json!({"a": "x,\"y\"", "b": {"n": 3, "s": ""}})), "\"x,\"\"y\"\"\",3,\"\"\n");
        assert_eq!(of(json!({"a": "l\nm", "b": null})), "\"l\nm\",,\n");
    }
}
