//! Parquet files outside the lake, with the lake's own settings: what an export writes.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

use crate::error::LakeError;
use crate::names::TableName;
use crate::table::{self, TableSpec};

/// Writes batches to one Parquet file, a row group in memory at a time. The same rows give the same bytes.
pub struct ParquetSink<W: Write + Send> {
    table: TableName,
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> fmt::Debug for ParquetSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetSink").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<W: Write + Send> ParquetSink<W> {
    /// A file of rows of `table` in `schema`. `blob_columns` are paths of columns of large bytes; `words` go into the
    /// file's own metadata.
    ///
    /// # Errors
    /// When the schema has no Parquet form.
    pub fn new(
        out: W,
        table: &TableName,
        schema: &Schema,
        blob_columns: Vec<Vec<String>>,
        words: Vec<(String, String)>,
    ) -> Result<ParquetSink<W>, LakeError> {
        let mut spec = TableSpec::new(table.clone(), Vec::new(), &[]);
        spec.blob_columns = blob_columns;
        let properties = table::properties(&spec, schema.fields(), &[]);
        let mut writer = ArrowWriter::try_new(out, Arc::new(schema.clone()), Some(properties))
            .map_err(|e| LakeError::corrupt(table, e))?;
        for (key, value) in words {
            writer.append_key_value_metadata(KeyValue::new(key, value));
        }
        Ok(ParquetSink { table: table.clone(), writer })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// When they do not fit the schema, or cannot be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), LakeError> {
        self.writer.write(rows).map_err(|e| LakeError::corrupt(&self.table, e))
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<W, LakeError> {
        self.writer.into_inner().map_err(|e| LakeError::corrupt(&self.table, e))
    }
}
