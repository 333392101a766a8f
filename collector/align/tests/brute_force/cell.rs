//! One value of an aligned row, as bits where bits must agree.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    /// Bits of a float.
    Bits(u64),
    /// A float that two formulas may give in different last bits.
    Near(f64),
    Int(i64),
    Text(String),
    List(Vec<Cell>),
}

impl Cell {
    pub(crate) fn float(x: f64) -> Self {
        if x.is_nan() {
            return Self::Bits(0x7ff8_0000_0000_0000);
        }
        Self::Bits(if x == 0.0 { 0 } else { x.to_bits() })
    }

    pub(crate) fn agrees(&self, given: &Cell) -> bool {
        match (self, given) {
            (Self::Near(x), Self::Bits(bits)) => {
                let y = f64::from_bits(*bits);
                *x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * x.abs().max(1.0)
            }
            (a, b) => a == b,
        }
    }
}

/// A row: cells by column name; the source struct is flattened to `<name>_src.<member>`.
pub(crate) type Cells = BTreeMap<String, Cell>;

fn cell(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Float64 => Cell::Bits(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Cell::Int(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Cell::List((0..items.len()).map(|item| cell(&items, item)).collect())
        }
        other => panic!("a test column of type {other}"),
    }
}

pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<Cells> {
    let mut out = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut cells = Cells::new();
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                match column.as_struct_opt() {
                    Some(members) => {
                        for (member, array) in members.fields().iter().zip(members.columns()) {
                            cells.insert(format!("{}.{}", field.name(), member.name()), cell(array, row));
                        }
                    }
                    None => {
                        cells.insert(field.name().clone(), cell(column, row));
                    }
                }
            }
            out.push(cells);
        }
    }
    out
}
