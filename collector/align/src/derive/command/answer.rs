//! A program's answer, checked.

use super::CommandType;
use crate::derive::numbers::canonical;
use arrow_array::builder::{Float32Builder, Float64Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, Float32Array, Float64Array, LargeStringArray, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::{ArrowError, DataType};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Marks the beginning of a message.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Longest description of a message, bytes: one column needs some hundred.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Not a stream, or one that ends within a message.
    #[error("answer is no Arrow IPC stream: {0}")]
    Form(&'static str),
    /// Compressed, or with dictionaries.
    #[error("answer holds {0}; write plain record batches")]
    Refused(&'static str),
    /// Rows missing or too many.
    #[error("answer holds {found} rows for {asked}; write one value for every row")]
    Rows {
        /// In the answer.
        found: u64,
        /// Asked for.
        asked: usize,
    },
    /// Not one column of the declared type.
    #[error("answer holds {found}, where {wanted} is declared")]
    Type {
        /// Its columns.
        found: String,
        /// As declared.
        wanted: String,
    },
    /// A list of another length than declared.
    #[error("row {row} of the answer holds {found} items, where {wanted} are declared")]
    Length {
        /// Its row.
        row: usize,
        /// Its items.
        found: usize,
        /// As declared.
        wanted: u32,
    },
    /// A null within a list.
    #[error("row {row} of the answer holds a null among its items; leave the whole row null instead")]
    NullItem {
        /// Its row.
        row: usize,
    },
    /// Arrow refused it.
    #[error("arrow refused the answer")]
    Arrow(#[from] ArrowError),
    /// Arrow broke down over it.
    #[error("answer broke arrow's reader")]
    Broken,
}

pub(super) fn read(bytes: &[u8], rows: usize, wanted: CommandType) -> Result<ArrayRef, AnswerError> {
    walk(bytes, rows)?;
    // The reader is not ours: a panic of its is a broken answer, too.
    let read = catch_unwind(AssertUnwindSafe(|| batches(bytes, wanted)));
    let parts = read.unwrap_or(Err(AnswerError::Broken))?;
    let found: usize = parts.iter().map(|part| part.len()).sum();
    if found != rows {
        return Err(AnswerError::Rows { found: found as u64, asked: rows });
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    let whole = if parts.is_empty() {
        arrow_array::new_empty_array(&wanted.arrow())
    } else {
        arrow_select::concat::concat(&parts)?
    };
    check_lists(&whole, wanted)?;
    Ok(whole)
}

/// Messages one by one, before anything is decoded: only a schema and plain record batches whose bodies are there.
fn walk(bytes: &[u8], rows: usize) -> Result<(), AnswerError> {
    let mut rest = bytes;
    let mut found: u64 = 0;
    while let Some((header, after)) = message(rest)? {
        let message = root_as_message(header)
            .map_err(|_| AnswerError::Form("a message's description does not hold"))?;
        match message.header_type() {
            MessageHeader::Schema => {}
            MessageHeader::RecordBatch => {
                let batch = message
                    .header_as_record_batch()
                    .ok_or(AnswerError::Form("a record batch is not described"))?;
                if batch.compression().is_some() {
                    return Err(AnswerError::Refused("compressed buffers"));
                }
                found = found.saturating_add(u64::try_from(batch.length()).unwrap_or(u64::MAX));
            }
            _ => return Err(AnswerError::Refused("dictionaries or tensors")),
        }
        let body = usize::try_from(message.bodyLength()).ok();
        rest =
            body.and_then(|body| after.get(body..)).ok_or(AnswerError::Form("it ends within a message"))?;
    }
    if found != rows as u64 {
        return Err(AnswerError::Rows { found, asked: rows });
    }
    Ok(())
}

/// The description of a message, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The next message; `None` at the end of the stream.
fn message(rest: &[u8]) -> Result<Option<Split<'_>>, AnswerError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let torn = AnswerError::Form("it ends within a message");
    let Some((mark, rest)) = rest.split_first_chunk::<4>() else { return Err(torn) };
    if *mark != CONTINUATION {
        return Err(AnswerError::Form(
            "a message does not begin with its mark (is something printed on standard output?)",
        ));
    }
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Err(torn) };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 {
        return Ok(None);
    }
    if length > HEADER_BYTES_MAX {
        return Err(AnswerError::Form("a message's description is above 1 MiB"));
    }
    rest.split_at_checked(length).map(Some).ok_or(torn)
}

fn batches(bytes: &[u8], wanted: CommandType) -> Result<Vec<ArrayRef>, AnswerError> {
    let reader = StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    let fits = matches!(schema.fields().as_ref(), [field] if is_of(field.data_type(), wanted));
    if !fits {
        let found = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        let found = found.collect::<Vec<_>>().join(", ");
        let found = if found.is_empty() { "no column".to_owned() } else { found };
        return Err(AnswerError::Type { found, wanted: format!("one column of {wanted}") });
    }
    reader.map(|batch| column(&batch?, wanted)).collect()
}

/// True if values of the type are of the declared one without a change.
fn is_of(data_type: &DataType, wanted: CommandType) -> bool {
    let is_item = |item: &DataType| match wanted {
        CommandType::Float32List { .. } => *item == DataType::Float32,
        CommandType::Float64List { .. } => *item == DataType::Float64,
        _ => false,
    };
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_item(item.data_type())
        }
        DataType::LargeUtf8 => wanted == CommandType::Text,
        other => wanted.length().is_none() && *other == wanted.arrow(),
    }
}

/// The one column, in the declared form.
fn column(batch: &RecordBatch, wanted: CommandType) -> Result<ArrayRef, AnswerError> {
    let column = batch.columns().first().ok_or(AnswerError::Broken)?;
    Ok(match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().iter();
            Arc::new(values.map(|x| x.map(canonical)).collect::<Float64Array>())
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().iter();
            Arc::new(values.map(|x| x.map(canonical_f32)).collect::<Float32Array>())
        }
        DataType::LargeUtf8 => {
            let texts: &LargeStringArray = column.as_string::<i64>();
            Arc::new(texts.iter().collect::<StringArray>())
        }
        DataType::List(_) => lists(column.as_list::<i32>().iter(), wanted)?,
        DataType::LargeList(_) => lists(column.as_list::<i64>().iter(), wanted)?,
        DataType::FixedSizeList(..) => lists(column.as_fixed_size_list().iter(), wanted)?,
        _ => Arc::clone(column),
    })
}

fn canonical_f32(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value + 0.0 }
}

/// Lists of any form as plain ones with canonical items.
fn lists(rows: impl Iterator<Item = Option<ArrayRef>>, wanted: CommandType) -> Result<ArrayRef, AnswerError> {
    let has_nulls = |list: &ArrayRef| list.null_count() > 0;
    let mut narrow = ListBuilder::new(Float32Builder::new());
    let mut wide = ListBuilder::new(Float64Builder::new());
    let is_narrow = matches!(wanted, CommandType::Float32List { .. });
    for (row, list) in rows.enumerate() {
        if list.as_ref().is_some_and(has_nulls) {
            return Err(AnswerError::NullItem { row });
        }
        match (is_narrow, list) {
            (true, list) => narrow.append_option(list.map(|list| {
                list.as_primitive::<Float32Type>()
                    .values()
                    .iter()
                    .map(|x| Some(canonical_f32(*x)))
                    .collect::<Vec<_>>()
            })),
            (false, list) => wide.append_option(list.map(|list| {
                list.as_primitive::<Float64Type>()
                    .values()
                    .iter()
                    .map(|x| Some(canonical(*x)))
                    .collect::<Vec<_>>()
            })),
        }
    }
    Ok(if is_narrow { Arc::new(narrow.finish()) } else { Arc::new(wide.finish()) })
}

fn check_lists(column: &ArrayRef, wanted: CommandType) -> Result<(), AnswerError> {
    let Some(length) = wanted.length() else { return Ok(()) };
    for (row, list) in column.as_list::<i32>().iter().enumerate() {
        match list.map(|list| list.len()) {
            Some(found) if found != length as usize => {
                return Err(AnswerError::Length { row, found, wanted: length });
            }
            _ => {}
        }
    }
    Ok(())
}
