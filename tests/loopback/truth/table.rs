//! A table of the lake as plain columns.

use super::TruthError;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use futures::TryStreamExt;
use headwater_lake::{CommitId, Lake, ScanOptions, TableName};

/// Rows of one table as plain columns.
#[derive(Debug)]
pub struct Table {
    name: String,
    batches: Vec<RecordBatch>,
}

impl Table {
    /// Reads the whole of `name` at `commit`; `None` if the commit has no such table.
    ///
    /// # Errors
    /// [`TruthError::Lake`].
    pub async fn read(lake: &Lake, commit: &CommitId, name: &str) -> Result<Option<Self>, TruthError> {
        Self::read_with(lake, commit, name, ScanOptions::default()).await
    }

    /// Reads the rows of one device.
    ///
    /// # Errors
    /// [`TruthError::Lake`].
    pub async fn read_of(
        lake: &Lake,
        commit: &CommitId,
        name: &str,
        device: &str,
    ) -> Result<Option<Self>, TruthError> {
        let options = ScanOptions { device: Some(device.to_owned()), ..ScanOptions::default() };
        Self::read_with(lake, commit, name, options).await
    }

    /// Reads some columns of `name` at `commit`.
    ///
    /// # Errors
    /// [`TruthError::Lake`].
    pub async fn read_columns(
        lake: &Lake,
        commit: &CommitId,
        name: &str,
        columns: &[&str],
    ) -> Result<Option<Self>, TruthError> {
        let columns = Some(columns.iter().map(|c| (*c).to_owned()).collect());
        Self::read_with(lake, commit, name, ScanOptions { columns, ..ScanOptions::default() }).await
    }

    /// Reads some columns of one device's rows.
    ///
    /// # Errors
    /// [`TruthError::Lake`].
    pub async fn read_columns_of(
        lake: &Lake,
        commit: &CommitId,
        name: &str,
        columns: &[&str],
        device: &str,
    ) -> Result<Option<Self>, TruthError> {
        let columns = Some(columns.iter().map(|c| (*c).to_owned()).collect());
        let options = ScanOptions { columns, device: Some(device.to_owned()), ..ScanOptions::default() };
        Self::read_with(lake, commit, name, options).await
    }

    async fn read_with(
        lake: &Lake,
        commit: &CommitId,
        name: &str,
        options: ScanOptions,
    ) -> Result<Option<Self>, TruthError> {
        let table = TableName::new(name).map_err(|_| TruthError::Name(name.to_owned()))?;
        if !lake.tables(commit).await?.contains_key(&table) {
            return Ok(None);
        }
        let stream = lake.scan(commit, &table, options).await?;
        let batches = stream.try_collect().await?;
        Ok(Some(Self { name: name.to_owned(), batches }))
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    fn cast(&self, column: &str, to: &DataType) -> Result<Vec<arrow_array::ArrayRef>, TruthError> {
        let missing = || TruthError::Column { table: self.name.clone(), column: column.to_owned() };
        self.batches
            .iter()
            .map(|batch| {
                let array = column.split('.').try_fold(None, |at: Option<arrow_array::ArrayRef>, part| {
                    match at {
                        None => batch.column_by_name(part).cloned(),
                        Some(array) => array.as_struct_opt()?.column_by_name(part).cloned(),
                    }
                    .map(Some)
                });
                let array = array.flatten().ok_or_else(missing)?;
                arrow_cast::cast(&array, to).map_err(|_| missing())
            })
            .collect()
    }

    /// A column as integers; nulls are `None`. `a.b` reaches into a struct.
    ///
    /// # Errors
    /// [`TruthError::Column`].
    pub fn integers(&self, column: &str) -> Result<Vec<Option<i64>>, TruthError> {
        let arrays = self.cast(column, &DataType::Int64)?;
        Ok(arrays.iter().flat_map(|a| a.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()).collect())
    }

    /// A column as doubles.
    ///
    /// # Errors
    /// [`TruthError::Column`].
    pub fn doubles(&self, column: &str) -> Result<Vec<Option<f64>>, TruthError> {
        let arrays = self.cast(column, &DataType::Float64)?;
        Ok(arrays.iter().flat_map(|a| a.as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect())
    }

    /// A column as text.
    ///
    /// # Errors
    /// [`TruthError::Column`].
    pub fn texts(&self, column: &str) -> Result<Vec<Option<String>>, TruthError> {
        let arrays = self.cast(column, &DataType::Utf8)?;
        Ok(arrays
            .iter()
            .flat_map(|a| a.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect::<Vec<_>>())
            .collect())
    }

    /// A column of bytes.
    ///
    /// # Errors
    /// [`TruthError::Column`].
    pub fn bytes(&self, column: &str) -> Result<Vec<Option<Vec<u8>>>, TruthError> {
        let arrays = self.cast(column, &DataType::LargeBinary)?;
        Ok(arrays
            .iter()
            .flat_map(|a| {
                let a = a.as_binary::<i64>();
                (0..a.len()).map(|i| a.is_valid(i).then(|| a.value(i).to_vec())).collect::<Vec<_>>()
            })
            .collect())
    }
}
