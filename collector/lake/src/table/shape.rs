//! What encoding rows of a table needs to know of it, gathered once.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::TableMetadata;
use parquet::file::properties::WriterProperties;

use super::schema::{blob_columns, columns};
use super::{TableSpec, settings};
use crate::error::LakeError;
use crate::names::TableName;

/// A table's columns, order and file settings.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// The declaration.
    pub(crate) spec: TableSpec,
    /// Schema, specs and location; its snapshots are not looked at.
    pub(crate) metadata: Arc<TableMetadata>,
    /// Columns as Arrow has them, with their field ids.
    pub(crate) target: SchemaRef,
    /// Columns rows are sorted by.
    pub(crate) sort: Vec<String>,
    /// Settings of its Parquet files.
    pub(crate) properties: WriterProperties,
}

impl Shape {
    /// Of rows that `spec` declares, for a table whose next metadata is `metadata`.
    pub(crate) fn new(spec: TableSpec, metadata: Arc<TableMetadata>) -> Result<Shape, LakeError> {
        let schema = metadata.current_schema();
        let target = schema_to_arrow_schema(schema);
        let target =
            Arc::new(target.map_err(LakeError::iceberg(format!("read the columns of {}", spec.name)))?);
        let fields = &metadata.default_sort_order().fields;
        let sort: Vec<String> = fields
            .iter()
            .filter_map(|field| schema.name_by_field_id(field.source_id).map(str::to_owned))
            .collect();
        let properties = settings::properties(&spec, target.fields(), &sort);
        Ok(Shape { spec, metadata, target, sort, properties })
    }

    /// Of a table as it is stored, whoever declared it.
    pub(crate) fn stored(name: &TableName, metadata: &Arc<TableMetadata>) -> Result<Shape, LakeError> {
        let mut spec = TableSpec::new(name.clone(), columns(metadata), &[]);
        spec.blob_columns = blob_columns(metadata);
        Shape::new(spec, Arc::clone(metadata))
    }
}
