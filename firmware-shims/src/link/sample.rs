//! Rows of one stream in one frame: packed by the device, read back by the stream's field types.

use super::field::{FieldType, Value};
use super::frame::PAYLOAD_BYTES_MAX;
use super::payload::{BuildError, PayloadError};
use crate::bytes::{NoRoom, Reader, Writer};

/// Where `count` stands in the payload.
const COUNT_AT: usize = 1;

/// Bytes before the first row.
const HEAD_BYTES: usize = 4;

/// SAMPLE: its values stay packed until the stream's field types are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    stream: u8,
    count: u8,
    dt_us: u16,
    values: &'a [u8],
}

impl<'a> Sample<'a> {
    /// Reads a payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, PayloadError> {
        let mut reader = Reader::new(payload);
        let sample =
            Self { stream: reader.u8()?, count: reader.u8()?, dt_us: reader.u16()?, values: reader.rest() };
        if sample.count == 0 {
            return Err(PayloadError::NoRows);
        }
        Ok(sample)
    }

    /// The stream all rows belong to.
    pub const fn stream(&self) -> u8 {
        self.stream
    }

    /// Rows in the frame, at least 1.
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// Microseconds between two rows; without meaning if there is only one.
    pub const fn dt_us(&self) -> u16 {
        self.dt_us
    }

    /// The packed values of all rows.
    pub const fn values(&self) -> &'a [u8] {
        self.values
    }

    /// The rows, read as `fields` says; refused unless they fill the payload exactly.
    pub fn rows(&self, fields: &'a [FieldType]) -> Result<Rows<'a>, PayloadError> {
        let row_bytes =
            fields.iter().fold(0_usize, |sum, field| sum.saturating_add(usize::from(field.width())));
        let expected = row_bytes.saturating_mul(usize::from(self.count));
        if expected != self.values.len() {
            return Err(PayloadError::RowBytes { expected, found: self.values.len() });
        }
        Ok(Rows { fields, row_bytes, values: self.values, next: 0, count: self.count, dt_us: self.dt_us })
    }
}

/// Iterator over the rows of a [`Sample`].
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    fields: &'a [FieldType],
    row_bytes: usize,
    values: &'a [u8],
    next: u8,
    count: u8,
    dt_us: u16,
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        if self.next >= self.count {
            return None;
        }
        let (values, rest) = self.values.split_at_checked(self.row_bytes)?;
        let row = Row {
            index: self.next,
            offset_us: u32::from(self.next).wrapping_mul(u32::from(self.dt_us)),
            fields: self.fields,
            values,
        };
        self.values = rest;
        self.next = self.next.saturating_add(1);
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.count.saturating_sub(self.next));
        (left, Some(left))
    }
}

impl ExactSizeIterator for Rows<'_> {}

/// One row: the values of all fields at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its place in the frame: its number is the header's `seq` plus this.
    pub index: u8,
    /// Its capture time is the header's `t_us` plus this.
    pub offset_us: u32,
    fields: &'a [FieldType],
    values: &'a [u8],
}

impl<'a> Row<'a> {
    /// The values, in the order of the fields.
    pub const fn values(&self) -> RowValues<'a> {
        RowValues { fields: self.fields, reader: Reader::new(self.values) }
    }
}

/// Iterator over the values of a [`Row`].
#[derive(Debug, Clone)]
pub struct RowValues<'a> {
    fields: &'a [FieldType],
    reader: Reader<'a>,
}

impl Iterator for RowValues<'_> {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let (first, rest) = self.fields.split_first()?;
        self.fields = rest;
        Value::read(*first, &mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.fields.len(), Some(self.fields.len()))
    }
}

impl ExactSizeIterator for RowValues<'_> {}

/// Packs rows into a SAMPLE payload, in place.
///
/// A row that is refused leaves the payload as it was: finish it, send it, begin the next one.
#[derive(Debug)]
pub struct SampleWriter<'a> {
    writer: Writer<'a>,
    count: u8,
    row_bytes: usize,
}

impl<'a> SampleWriter<'a> {
    /// Begins a payload at the front of `out`; `dt_us` is the spacing of rows, 0 if there is one.
    pub fn new(out: &'a mut [u8], stream: u8, dt_us: u16) -> Result<Self, BuildError> {
        let mut writer = Writer::new(out);
        writer.u8(stream)?;
        writer.u8(0)?;
        writer.u16(dt_us)?;
        Ok(Self { writer, count: 0, row_bytes: 0 })
    }

    /// Appends one row: one value per field, in the order of the descriptor.
    pub fn push_row(&mut self, values: &[Value]) -> Result<(), BuildError> {
        let start = self.writer.len();
        let pushed = self.try_push_row(start, values);
        if pushed.is_err() {
            self.writer.truncate(start);
        }
        pushed
    }

    /// Rows appended so far.
    pub const fn count(&self) -> u8 {
        self.count
    }

    /// Ends the payload; returns its bytes.
    pub fn finish(mut self) -> Result<usize, BuildError> {
        if self.count == 0 {
            return Err(BuildError::NoRows);
        }
        self.writer.set(COUNT_AT, self.count);
        Ok(self.writer.len())
    }

    fn try_push_row(&mut self, start: usize, values: &[Value]) -> Result<(), BuildError> {
        let count = self.count.checked_add(1).ok_or(BuildError::NoRoom)?;
        for value in values {
            value.write(&mut self.writer)?;
        }
        if self.writer.len() > PAYLOAD_BYTES_MAX {
            return Err(NoRoom.into());
        }
        let row_bytes = self.writer.len().saturating_sub(start);
        if start == HEAD_BYTES && self.count == 0 {
            self.row_bytes = row_bytes;
        } else if row_bytes != self.row_bytes {
            return Err(BuildError::RowBytes);
        }
        self.count = count;
        Ok(())
    }
}
