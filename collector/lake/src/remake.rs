//! Data files made again: whether the same rows give the same bytes (L2).
//!
//! What a file's bytes depend on beside its rows is on record: its footer holds the columns with their types and ids, its own
//! order is the order of its rows, the table's metadata say how it is sorted and which columns are large, and its name's
//! level says who wrote it and so how rows were handed to the encoder, which decides where pages and row groups end.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave_record_batch;
use bytes::Bytes;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::compact::OUT_ROWS;
use crate::error::LakeError;
use crate::lake::Lake;
use crate::names::{CommitId, TableName, sha256_hex};
use crate::table::{FileEncoder, Level, SLICE_ROWS_MAX, Shape, conform, failed, properties};

/// Who writes the lake's files, as their footers say it.
const CREATED_BY: &str = "headwater";

/// A data file as it is stored.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// Hex SHA-256 of its bytes.
    pub sha256: String,
    /// All its rows, in its own order, with its own columns.
    pub rows: RecordBatch,
    /// Who wrote it, as its footer says.
    pub created_by: String,
    shape: Arc<Shape>,
    bytes: Bytes,
}

/// A file made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remade {
    /// Hex SHA-256 of its bytes.
    pub sha256: String,
    /// Offset of the first byte that differs, or where the shorter one ends; none if they are the same.
    pub differs_at: Option<usize>,
}

impl Lake {
    /// Reads a data file of a table as of a commit, whole: some hundred MB at most.
    ///
    /// # Errors
    /// [`LakeError::UnknownTable`]; [`LakeError::Corrupt`] if it is no Parquet file; when the store fails.
    pub async fn stored_file(
        &self,
        at: &CommitId,
        table: &TableName,
        location: &str,
    ) -> Result<StoredFile, LakeError> {
        let key = self.store().key_of(location)?;
        let fail = |e| LakeError::store("read", &key, e);
        let path = object_store::path::Path::parse(&key)
            .map_err(|source| fail(object_store::Error::InvalidPath { source }))?;
        let bytes = self.store().objects().get(&path).await.map_err(fail)?.bytes().await.map_err(fail)?;
        let metadata = Arc::new(self.metadata(at, table).await?);
        StoredFile::read(table, &Shape::stored(table, &metadata)?, &key, bytes)
    }
}

impl StoredFile {
    fn read(table: &TableName, stored: &Shape, key: &str, bytes: Bytes) -> Result<StoredFile, LakeError> {
        let corrupt = |reason: String| LakeError::corrupt(key, format!("a file of {table}: {reason}"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone());
        let reader = reader.map_err(|e| corrupt(e.to_string()))?;
        let created_by = reader.metadata().file_metadata().created_by().unwrap_or("nobody").to_owned();
        let target = Arc::clone(reader.schema());
        let reader = reader.build().map_err(|e| corrupt(e.to_string()))?;
        let batches = reader.collect::<Result<Vec<RecordBatch>, _>>().map_err(|e| corrupt(e.to_string()))?;
        let rows = concat_batches(&target, &batches).map_err(|e| corrupt(e.to_string()))?;
        let properties = properties(&stored.spec, target.fields(), &stored.sort);
        let shape = Arc::new(Shape { target, properties, ..stored.clone() });
        Ok(StoredFile { sha256: sha256_hex(&bytes), rows, created_by, shape, bytes })
    }

    /// True if the lake's own encoder wrote it; files of foreign clients cannot be made again.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.created_by == CREATED_BY
    }

    /// Its size, bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Rows out of batches of the table, in this order (batch and row), in the file's columns.
    ///
    /// # Errors
    /// When a value does not fit its column.
    pub fn arranged(
        &self,
        batches: &[RecordBatch],
        order: &[(usize, usize)],
    ) -> Result<RecordBatch, LakeError> {
        let Shape { spec, target, .. } = self.shape.as_ref();
        let of = batches.iter().map(|batch| Ok(conform(spec, target, batch)?));
        let of = of.collect::<Result<Vec<RecordBatch>, LakeError>>()?;
        let of: Vec<&RecordBatch> = of.iter().collect();
        interleave_record_batch(&of, order).map_err(|e| LakeError::Table(failed(spec, "*", e)))
    }

    /// The first row, and the first column of it, in which rows are other than the file's; none if they are the same, to the
    /// last bit of a float.
    #[must_use]
    pub fn first_difference(&self, rows: &RecordBatch) -> Option<(usize, String)> {
        let columns = self.rows.columns().iter().zip(rows.columns());
        let differing = columns.enumerate().filter(|(_, (stored, made))| stored.as_ref() != made.as_ref());
        let places: Vec<usize> = differing.map(|(place, _)| place).collect();
        let both = self.rows.num_rows().min(rows.num_rows());
        let first = (0..both).find_map(|row| {
            let differs = |place: &&usize| {
                self.rows.column(**place).slice(row, 1).as_ref()
                    != rows.column(**place).slice(row, 1).as_ref()
            };
            places
                .iter()
                .find(differs)
                .map(|place| (row, self.rows.schema_ref().field(*place).name().clone()))
        });
        let longer = self.rows.num_rows() != rows.num_rows();
        first.or_else(|| longer.then(|| (both, "*".to_owned())))
    }

    /// The file made of these rows, as whoever wrote this one would have.
    ///
    /// # Errors
    /// When the rows cannot be encoded.
    pub fn remade(&self, rows: &RecordBatch) -> Result<Remade, LakeError> {
        let mut first = None;
        // As commits hand rows to the encoder, and as compactions do.
        for step in [SLICE_ROWS_MAX, OUT_ROWS] {
            let bytes = self.encoded(rows, step)?;
            let remade = Remade { sha256: sha256_hex(&bytes), differs_at: differs_at(&self.bytes, &bytes) };
            if remade.differs_at.is_none() {
                return Ok(remade);
            }
            first.get_or_insert(remade);
        }
        Ok(first.unwrap_or(Remade { sha256: String::new(), differs_at: Some(0) }))
    }

    fn encoded(&self, rows: &RecordBatch, step: usize) -> Result<Bytes, LakeError> {
        let mut file = FileEncoder::begin(&self.shape, 0, Level::Commit)?;
        for from in (0..rows.num_rows()).step_by(step) {
            file.write(&rows.slice(from, step.min(rows.num_rows() - from)))?;
        }
        file.into_bytes()
    }
}

fn differs_at(stored: &[u8], made: &[u8]) -> Option<usize> {
    if stored == made {
        return None;
    }
    let same = stored.iter().zip(made).take_while(|(a, b)| a == b).count();
    Some(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::CommitKind;
    use crate::table::{ColumnSpec, ColumnType, TableSpec, UTC};
    use crate::writer::{CommitRequest, TableAppend};
    use crate::{FileRole, RefName, testing};
    use arrow_array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};

    fn spec() -> TableSpec {
        let columns = vec![
            ColumnSpec::required("device", ColumnType::String),
            ColumnSpec::required("ts", ColumnType::Timestamptz),
            ColumnSpec::optional("x", ColumnType::Double),
        ];
        TableSpec::new(TableName::new("aligned.drive").unwrap(), columns, &["device", "ts"])
    }

    fn rows(range: std::ops::Range<i64>) -> RecordBatch {
        let n = range.clone().count();
        let x: Float64Array = range.clone().map(|n| (n % 7 != 0).then_some(n as f64 * 0.1)).collect();
        let ts = TimestampMicrosecondArray::from_iter_values(range).with_timezone(UTC);
        RecordBatch::try_from_iter([
            ("device", Arc::new(StringArray::from(vec!["pi-1"; n])) as ArrayRef),
            ("ts", Arc::new(ts)),
            ("x", Arc::new(x)),
        ])
        .unwrap()
    }

    #[tokio::test]
    async fn the_same_rows_give_the_same_bytes_and_others_are_named() {
        let lake = testing::memory().await.unwrap();
        // More than a slice, so that pages and slices end in different places.
        let n = i64::try_from(SLICE_ROWS_MAX).unwrap() + 20_000;
        let request = CommitRequest {
            kind: CommitKind::Align,
            time_us: 1,
            appends: vec![TableAppend { spec: spec(), batches: vec![rows(0..n)] }],
            ..CommitRequest::default()
        };
        let done = lake.writer(RefName::main(), "t".to_owned()).commit(request).await.unwrap();
        let table = spec().name;
        let files = lake.table_files(&done.id, &table).await.unwrap();
        let [file] = files.as_slice() else { panic!("{files:?}") };
        assert_eq!(file.role, FileRole::Data);
        let stored = lake.stored_file(&done.id, &table, &file.location).await.unwrap();
        assert!(stored.is_ours());
        assert_eq!(lake.checksum(&file.location).await.unwrap().1, stored.sha256);

        // In other batches, and those in another order.
        let parts = [rows(30_000..n), rows(0..30_000)];
        let first = usize::try_from(n).unwrap() - 30_000;
        let order: Vec<(usize, usize)> =
            (0..30_000).map(|at| (1, at)).chain((0..first).map(|at| (0, at))).collect();
        let made = stored.arranged(&parts, &order).unwrap();
        assert_eq!(stored.first_difference(&made), None);
        let remade = stored.remade(&made).unwrap();
        assert_eq!((remade.sha256.as_str(), remade.differs_at), (stored.sha256.as_str(), None));

        let mut wrong = order;
        wrong.swap(5, 6);
        let made = stored.arranged(&parts, &wrong).unwrap();
        assert_eq!(stored.first_difference(&made), Some((5, "ts".to_owned())));
        assert!(stored.remade(&made).unwrap().differs_at.is_some());
        let short = stored.arranged(&parts, &[(1, 0)]).unwrap();
        assert_eq!(stored.first_difference(&short), Some((1, "*".to_owned())));
    }
}
