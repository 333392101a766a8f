//! Pictures: whole again where they lay beside the table, and as files by device, stream and time.

use super::folder::Folder;
use super::line;
use crate::query::QueryError;
use crate::query::rows::{Bytes, values};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, LargeBinaryArray, RecordBatch, StringArray, StructArray};
use arrow_schema::DataType;
use headwater_lake::{ColumnSpec, ColumnType, Lake, TableName};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

/// Columns of objects: `struct<bytes, path>`.
pub(super) fn blob_columns(columns: &[ColumnSpec]) -> impl Iterator<Item = &str> {
    let is_blob = |column: &&ColumnSpec| match &column.column_type {
        ColumnType::Struct(members) => {
            let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
            names == ["bytes", "path"]
        }
        _ => false,
    };
    columns.iter().filter(is_blob).map(|column| column.name.as_str())
}

/// The batch with the bytes of objects that lie beside the table in it. Each of those is a batch of its own: they are
/// large.
pub(super) async fn whole(
    lake: &Lake,
    columns: &[ColumnSpec],
    batch: RecordBatch,
) -> Result<Vec<RecordBatch>, QueryError> {
    let mut batches = vec![batch];
    for name in blob_columns(columns) {
        let mut out = Vec::new();
        for batch in batches {
            let outside = outside(&batch, name);
            let mut from = 0;
            for (row, path) in outside {
                if row > from {
                    out.push(batch.slice(from, row - from));
                }
                let hash = path.rsplit('/').next().unwrap_or_default();
                let Some(bytes) = lake.blob(hash).await? else {
                    return Err(QueryError::NoBlob { path });
                };
                out.push(with_bytes(&batch.slice(row, 1), name, &bytes)?);
                from = row + 1;
            }
            if from < batch.num_rows() {
                out.push(batch.slice(from, batch.num_rows() - from));
            }
        }
        batches = out;
    }
    Ok(batches)
}

/// Rows whose object lies beside the table, with its path.
fn outside(batch: &RecordBatch, name: &str) -> Vec<(usize, String)> {
    let Some(object) = batch.column_by_name(name).and_then(|column| column.as_struct_opt()) else {
        return Vec::new();
    };
    let (Some(bytes), Some(path)) = (object.column_by_name("bytes"), object.column_by_name("path")) else {
        return Vec::new();
    };
    let Some(path) = path.as_string_opt::<i32>() else { return Vec::new() };
    let is_outside = |row: &usize| !object.is_null(*row) && bytes.is_null(*row) && !path.is_null(*row);
    (0..batch.num_rows()).filter(is_outside).map(|row| (row, path.value(row).to_owned())).collect()
}

fn with_bytes(row: &RecordBatch, name: &str, bytes: &[u8]) -> Result<RecordBatch, QueryError> {
    let wrong = |error: arrow_schema::ArrowError| QueryError::Column {
        column: name.to_owned(),
        reason: error.to_string(),
    };
    let place = row.schema().index_of(name).map_err(wrong)?;
    let mut columns: Vec<ArrayRef> = row.columns().to_vec();
    if let (DataType::Struct(fields), Some(column)) =
        (row.schema().field(place).data_type(), columns.get_mut(place))
    {
        let members: Vec<ArrayRef> = vec![
            Arc::new(LargeBinaryArray::from(vec![Some(bytes)])),
            Arc::new(StringArray::from(vec![None::<&str>])),
        ];
        *column = Arc::new(StructArray::try_new(fields.clone(), members, None).map_err(wrong)?);
    }
    RecordBatch::try_new(row.schema(), columns).map_err(wrong)
}

/// Pictures as files in the making.
pub(super) struct Pictures {
    column: String,
    metadata: super::folder::HashedFile,
    /// Names given in the present second, so that two pictures of one time do not share one.
    named: BTreeSet<String>,
    rows: u64,
}

impl Pictures {
    pub(super) fn begin(
        table: &TableName,
        columns: &[ColumnSpec],
        folder: &Folder,
    ) -> Result<Self, QueryError> {
        let Some(column) = blob_columns(columns).next() else {
            return Err(QueryError::NoPictures(table.to_string()));
        };
        let metadata = folder.file("metadata.jsonl")?;
        Ok(Self { column: column.to_owned(), metadata, named: BTreeSet::new(), rows: 0 })
    }

    pub(super) fn write(&mut self, folder: &mut Folder, batch: &RecordBatch) -> Result<(), QueryError> {
        let bytes = batch.column_by_name(&self.column).and_then(|column| column.as_struct_opt());
        let bytes = bytes.and_then(|object| object.column_by_name("bytes").cloned());
        let text = |name: &str, row: usize| {
            let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>().cloned());
            column.filter(|column| !column.is_null(row)).map(|column| column.value(row).to_owned())
        };
        let ts = batch.column_by_name("ts").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
        let seqs = batch.column_by_name("seq").and_then(|c| c.as_primitive_opt::<Int64Type>());
        for (row, mut cells) in values(batch, Bytes::Length)?.into_iter().enumerate() {
            cells.remove(&self.column);
            let picture = bytes.as_ref().and_then(|bytes| bytes.as_binary_opt::<i64>());
            let picture = picture.filter(|bytes| !bytes.is_null(row)).map(|bytes| bytes.value(row));
            let mut entry = serde_json::Map::new();
            if let Some(picture) = picture {
                let device = text("device", row).unwrap_or_else(|| "unknown".to_owned());
                let stream = text("stream", row).unwrap_or_else(|| "unknown".to_owned());
                let micros = ts.map_or(0, |ts| ts.value(row));
                let seq = seqs.map_or(0, |seqs| seqs.value(row));
                let ending = ending(text("mime", row).as_deref(), picture);
                let name = self.name(&device, &stream, (micros, seq), ending);
                let mut file = folder.file(&name)?;
                file.write_all(picture)?;
                let sha256 = folder.done_unlisted(file)?;
                entry.insert("file_name".to_owned(), json!(name));
                entry.insert("sha256".to_owned(), json!(sha256));
            } else {
                // Evicted at the gateway, say: its row is here all the same.
                entry.insert("file_name".to_owned(), Value::Null);
            }
            entry.append(&mut cells);
            self.metadata.write_all(line(&Value::Object(entry)).as_bytes())?;
            self.rows = self.rows.saturating_add(1);
        }
        Ok(())
    }

    pub(super) fn finish(self, folder: &mut Folder) -> Result<(), QueryError> {
        folder.done(self.metadata, Some(self.rows))
    }

    /// `<device>/<stream>/<time>.<ending>`, with the seq after the time where two share one.
    fn name(&mut self, device: &str, stream: &str, (micros, seq): (i64, i64), ending: &str) -> String {
        let time = chrono::DateTime::from_timestamp_micros(micros)
            .map_or_else(|| micros.to_string(), |time| time.format("%Y%m%dT%H%M%S%.6fZ").to_string());
        let plain = format!("{device}/{stream}/{time}.{ending}");
        let name = match self.named.contains(&plain) {
            true => format!("{device}/{stream}/{time}-{seq}.{ending}"),
            false => plain,
        };
        self.named.insert(name.clone());
        name
    }
}

fn ending(mime: Option<&str>, bytes: &[u8]) -> &'static str {
    match mime {
        Some("image/jpeg") => "jpg",
        Some("image/png") => "png",
        Some("image/webp") => "webp",
        Some("image/tiff") => "tif",
        _ if bytes.starts_with(&[0xff, 0xd8]) => "jpg",
        _ if bytes.starts_with(b"\x89PNG") => "png",
        _ => "bin",
    }
}
