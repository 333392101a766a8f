//! Rows as they come back from a scan: columns by name, in whatever layout Arrow chose for them.

use super::cells::Cell;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};

/// One batch of a scan.
#[derive(Debug, Clone, Copy)]
pub struct ScannedRows<'a>(pub &'a RecordBatch);

impl ScannedRows<'_> {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.num_rows()
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value of any plain type; null if the column is missing or of another kind.
    #[must_use]
    pub fn cell(&self, name: &str, row: usize) -> Cell {
        self.0.column_by_name(name).map_or(Cell::Null, |column| cell(column.as_ref(), row))
    }

    /// A member of a struct column; null if the struct is, or has no such member.
    #[must_use]
    pub fn member(&self, name: &str, member: &str, row: usize) -> Cell {
        let inner = self.0.column_by_name(name).and_then(|column| column.as_struct_opt());
        let inner = inner.filter(|inner| row < inner.len() && inner.is_valid(row));
        inner
            .and_then(|inner| inner.column_by_name(member))
            .map_or(Cell::Null, |column| cell(column.as_ref(), row))
    }

    /// Text, or none.
    #[must_use]
    pub fn text(&self, name: &str, row: usize) -> Option<String> {
        match self.cell(name, row) {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer, or none.
    #[must_use]
    pub fn long(&self, name: &str, row: usize) -> Option<i64> {
        match self.cell(name, row) {
            Cell::Long(n) => Some(n),
            _ => None,
        }
    }

    /// A seq or count, or none.
    #[must_use]
    pub fn count(&self, name: &str, row: usize) -> Option<u64> {
        self.long(name, row).and_then(|n| u64::try_from(n).ok())
    }

    /// Bytes, or none.
    #[must_use]
    pub fn bytes(&self, name: &str, row: usize) -> Option<Vec<u8>> {
        match self.cell(name, row) {
            Cell::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

fn cell(column: &dyn Array, row: usize) -> Cell {
    if row >= column.len() || column.is_null(row) {
        return Cell::Null;
    }
    if let Some(text) = column.as_string_opt::<i32>() {
        return text.value(row).into();
    }
    if let Some(text) = column.as_string_opt::<i64>() {
        return text.value(row).into();
    }
    if let Some(longs) = column.as_primitive_opt::<Int64Type>() {
        return longs.value(row).into();
    }
    if let Some(ints) = column.as_primitive_opt::<Int32Type>() {
        return i64::from(ints.value(row)).into();
    }
    if let Some(doubles) = column.as_primitive_opt::<Float64Type>() {
        return doubles.value(row).into();
    }
    if let Some(floats) = column.as_primitive_opt::<Float32Type>() {
        return floats.value(row).into();
    }
    if let Some(flags) = column.as_boolean_opt() {
        return flags.value(row).into();
    }
    if let Some(bytes) = column.as_binary_opt::<i64>() {
        return bytes.value(row).to_vec().into();
    }
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        return bytes.value(row).to_vec().into();
    }
    if let Some(decimals) = column.as_primitive_opt::<Decimal128Type>() {
        return Cell::Decimal(decimals.value(row));
    }
    if let Some(times) = column.as_primitive_opt::<arrow_array::types::TimestampMicrosecondType>() {
        return times.value(row).into();
    }
    Cell::Null
}
