//! Rows to a program and its answer back, as Arrow IPC streams.
//!
//! The program reads one stream on standard input: a schema of the declared inputs in their order, then one record batch.
//! It writes one stream on standard output: a schema of exactly one column, whatever its name, of the declared type, and
//! record batches that hold one value for every row, in the order of the rows. It must answer each row from that row alone:
//! how rows are grouped into batches depends on how they arrived. Answers are as untrusted as anything from outside: they
//! are uncompressed, without dictionaries, and checked before anything is allocated for what they claim.

mod answer;
#[cfg(test)]
mod tests;

pub use answer::AnswerError;

use super::{Command, CommandType};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field};
use std::sync::Arc;

/// Flag of a row that a command gave no value for.
pub const COMMAND_NONE: i32 = 1;

/// The stream a program reads: the inputs of some rows.
///
/// # Errors
/// A column that Arrow IPC cannot hold, or that is not there.
pub fn request(command: &Command, rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let schema = rows.schema_ref();
    let places = command.inputs.iter().map(|input| schema.index_of(input)).collect::<Result<Vec<_>, _>>()?;
    let inputs = rows.project(&places)?;
    let mut writer = StreamWriter::try_new(Vec::new(), inputs.schema_ref())?;
    writer.write(&inputs)?;
    writer.into_inner()
}

/// The column of a program's answer for `rows` rows, as the declared type. Doubles are canonical.
///
/// # Errors
/// Everything that is not as declared.
pub fn answer(command: &Command, bytes: &[u8], rows: usize) -> Result<ArrayRef, AnswerError> {
    answer::read(bytes, rows, command.output)
}

impl CommandType {
    /// The Arrow type of its column.
    #[must_use]
    pub fn arrow(self) -> DataType {
        let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Float32List { .. } => list(DataType::Float32),
            Self::Float64List { .. } => list(DataType::Float64),
        }
    }

    /// Items every list must have.
    fn length(self) -> Option<u32> {
        match self {
            Self::Float32List { length } | Self::Float64List { length } => length,
            _ => None,
        }
    }
}
