//! Rows to be judged, as columns of few types, whatever Arrow layout they came in.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_buffer::NullBuffer;
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use std::collections::BTreeMap;

/// A column by what can be asked of it.
#[derive(Debug, Clone)]
pub(super) enum Column {
    /// Whole numbers, times as what they count (µs in `ts`).
    Integer(Int64Array),
    /// Numbers.
    Number(Float64Array),
    /// Truths.
    Bool(BooleanArray),
    /// Texts.
    Text(StringArray),
    /// Anything else: only whether it is there.
    Other(ArrayRef),
}

/// Same content, same key; nulls have none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    Bits(u64),
    Text(String),
}

impl Column {
    fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Utf8 => Self::Text(array.as_string().clone()),
            DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => {
                Self::Text(cast(array, &DataType::Utf8)?.as_string().clone())
            }
            DataType::Timestamp(_, _) => Self::Integer(cast(array, &DataType::Int64)?.as_primitive().clone()),
            kind if kind.is_integer() => Self::Integer(cast(array, &DataType::Int64)?.as_primitive().clone()),
            kind if kind.is_numeric() => {
                Self::Number(cast(array, &DataType::Float64)?.as_primitive().clone())
            }
            _ => Self::Other(ArrayRef::clone(array)),
        })
    }

    fn masked(self, mask: Option<&NullBuffer>) -> Self {
        let Some(mask) = mask else { return self };
        let united = |own: Option<&NullBuffer>| NullBuffer::union(own, Some(mask));
        match self {
            Self::Integer(a) => Self::Integer(Int64Array::new(a.values().clone(), united(a.nulls()))),
            Self::Number(a) => Self::Number(Float64Array::new(a.values().clone(), united(a.nulls()))),
            Self::Bool(a) => Self::Bool(BooleanArray::new(a.values().clone(), united(a.nulls()))),
            Self::Text(a) => {
                Self::Text(StringArray::new(a.offsets().clone(), a.values().clone(), united(a.nulls())))
            }
            other @ Self::Other(_) => other,
        }
    }

    /// What it is called in rules.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "integer",
            Self::Number(_) => "number",
            Self::Bool(_) => "boolean",
            Self::Text(_) => "text",
            Self::Other(_) => "other",
        }
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        let array: &dyn Array = match self {
            Self::Integer(a) => a,
            Self::Number(a) => a,
            Self::Bool(a) => a,
            Self::Text(a) => a,
            Self::Other(a) => a.as_ref(),
        };
        row >= array.len() || array.is_null(row)
    }

    /// A number; integers beyond 2^53 lose their last digits.
    pub(super) fn number(&self, row: usize) -> Option<f64> {
        if self.is_null(row) {
            return None;
        }
        match self {
            Self::Integer(a) => Some(a.value(row) as f64),
            Self::Number(a) => Some(a.value(row)),
            _ => None,
        }
    }

    pub(super) fn integer(&self, row: usize) -> Option<i64> {
        match self {
            Self::Integer(a) if !self.is_null(row) => Some(a.value(row)),
            _ => None,
        }
    }

    pub(super) fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::Text(a) if !self.is_null(row) => Some(a.value(row)),
            _ => None,
        }
    }

    /// What makes two values the same; a zero has no sign, a NaN is a NaN.
    pub(super) fn cell(&self, row: usize) -> Option<Cell> {
        if self.is_null(row) {
            return None;
        }
        Some(match self {
            Self::Integer(a) => Cell::Bits(u64::from_ne_bytes(a.value(row).to_ne_bytes())),
            Self::Number(a) => {
                let value = a.value(row);
                let plain = if value.is_nan() { f64::NAN } else { value + 0.0 };
                Cell::Bits(plain.to_bits())
            }
            Self::Bool(a) => Cell::Bits(u64::from(a.value(row))),
            Self::Text(a) => Cell::Text(a.value(row).to_owned()),
            Self::Other(_) => return None,
        })
    }
}

/// A column that is asked for and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing(pub(super) String);

/// The rows of a window.
#[derive(Debug)]
pub(super) struct Frame {
    batch: RecordBatch,
    device: Option<Column>,
    row_key: Option<Column>,
    /// Which line of which device a row is of; they are looked at by many rules.
    lines: Vec<u32>,
    seqs: Vec<Option<i64>>,
    pub(super) ts_ns: Option<Column>,
}

/// Small numbers for texts, in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, u32>);

impl Names {
    pub(super) fn of(&mut self, name: &str) -> u32 {
        if let Some(known) = self.0.get(name) {
            return *known;
        }
        let new = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.insert(name.to_owned(), new);
        new
    }
}

impl Frame {
    pub(super) fn new(batch: RecordBatch) -> Self {
        let named = |name: &str| batch.column_by_name(name).and_then(|array| Column::of(array).ok());
        let mut frame = Self {
            device: named("device"),
            row_key: named("row_key"),
            lines: Vec::new(),
            seqs: Vec::new(),
            ts_ns: named("ts_ns"),
            batch: batch.clone(),
        };
        let (stream, epoch, seq) = (named("stream"), named("epoch"), named("seq"));
        let text = |column: &Option<Column>, row| {
            column.as_ref().and_then(|column| column.text(row)).unwrap_or_default().to_owned()
        };
        let mut names = Names::default();
        for row in 0..frame.len() {
            let key =
                frame.row_key.as_ref().and_then(|key| key.text(row)).and_then(|key| key.rsplit_once('/'));
            let (line, number) = match key {
                Some((line, number)) => (line.to_owned(), number.parse().ok()),
                None => {
                    let line = format!("{}/{}", text(&epoch, row), text(&stream, row));
                    (line, seq.as_ref().and_then(|seq| seq.integer(row)))
                }
            };
            let of = names.of(&format!("{}\n{line}", frame.device(row)));
            frame.lines.push(of);
            frame.seqs.push(number);
        }
        frame
    }

    pub(super) fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    pub(super) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// A column, or a member of a struct column: `motion_src.flag`.
    pub(super) fn column(&self, path: &str) -> Result<Column, Missing> {
        let missing =
            || Missing(format!("there is no column {path}; there are: {}", self.names().join(", ")));
        let mut parts = path.split('.');
        let mut array = self.batch.column_by_name(parts.next().unwrap_or_default()).ok_or_else(missing)?;
        let mut mask: Option<NullBuffer> = None;
        for part in parts {
            let of = array.as_struct_opt().ok_or_else(missing)?;
            mask = NullBuffer::union(mask.as_ref(), of.nulls());
            array = of.column_by_name(part).ok_or_else(missing)?;
        }
        let column =
            Column::of(array).map_err(|error| Missing(format!("column {path} cannot be read: {error}")))?;
        Ok(column.masked(mask.as_ref()))
    }

    fn names(&self) -> Vec<String> {
        self.batch.schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Names of column groups: those with a `<name>_src`.
    pub(super) fn groups(&self) -> Vec<String> {
        let names = self.names();
        names.iter().filter_map(|name| name.strip_suffix("_src")).map(str::to_owned).collect()
    }

    /// The group a column belongs to: the longest whose name it begins with.
    pub(super) fn group_of(&self, column: &str) -> Option<String> {
        let found = self.groups().into_iter().filter(|group| column.starts_with(&format!("{group}_")));
        found.max_by_key(String::len)
    }

    /// The type of a column as rules call it.
    pub(super) fn kind(&self, name: &str) -> Option<&'static str> {
        Some(match self.batch.column_by_name(name)?.data_type() {
            DataType::Struct(_) => "struct",
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => "list",
            DataType::Timestamp(_, _) => "timestamp",
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "bytes",
            _ => self.column(name).ok()?.kind(),
        })
    }

    /// Whose a row is; empty if the table has no devices.
    pub(super) fn device(&self, row: usize) -> &str {
        self.device.as_ref().and_then(|device| device.text(row)).unwrap_or_default()
    }

    /// `row_key`, or `<epoch>/<stream>/<seq>`, or the row's place.
    pub(super) fn key(&self, row: usize) -> String {
        if let Some(key) = self.row_key.as_ref().and_then(|key| key.text(row)) {
            return key.to_owned();
        }
        let text = |name: &str| self.column(name).ok().and_then(|column| column.text(row).map(str::to_owned));
        match (self.seq_of(row), text("stream")) {
            (Some(seq), Some(stream)) => format!("{}/{stream}/{seq}", text("epoch").unwrap_or_default()),
            _ => format!("row {row}"),
        }
    }

    /// Number in its line.
    pub(super) fn seq_of(&self, row: usize) -> Option<i64> {
        self.seqs.get(row).copied().flatten()
    }

    /// Rows of each device's lines (`<epoch>/<stream>`), in the order of time.
    pub(super) fn lines(&self, rows: &[usize]) -> Vec<Vec<usize>> {
        let mut lines: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for &row in rows {
            lines.entry(self.lines.get(row).copied().unwrap_or(0)).or_default().push(row);
        }
        let time = |row: usize| (self.ts_ns.as_ref().and_then(|ts| ts.integer(row)), self.seq_of(row), row);
        let mut lines: Vec<Vec<usize>> = lines.into_values().collect();
        lines.iter_mut().for_each(|line| line.sort_by_key(|&row| time(row)));
        lines
    }

    /// Rows by device, in order of their names.
    pub(super) fn by_device(&self) -> BTreeMap<String, Vec<usize>> {
        let mut devices: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for row in 0..self.len() {
            devices.entry(self.device(row).to_owned()).or_default().push(row);
        }
        devices
    }
}

/// Batches of one table as one.
///
/// # Errors
/// When a column is of two types.
pub(super) fn joined(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let Some(first) = batches.first() else {
        return Ok(RecordBatch::new_empty(std::sync::Arc::new(arrow_schema::Schema::empty())));
    };
    arrow_select::concat::concat_batches(&first.schema(), batches)
}
