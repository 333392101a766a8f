//! Columns of an aligned row that are not values: who and when, and for each column group where its values came from.

use super::cursor::NONE;
use super::matching::Match;
use super::metric::{Distance, NO_LINE};
use super::spine::Left;
use super::store::Store;
use super::{lines::Lines, plan::is_window};
use crate::recipe::{Column, Method, WindowStat};
use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use headwater_core::id::FieldName;
use std::sync::Arc;

/// Zone of `ts`, as the lake's tables have it.
const UTC: &str = "+00:00";

/// Columns before the spine's.
pub(super) fn identity_fields(identity: bool) -> Vec<Field> {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let long = |name| Field::new(name, DataType::Int64, false);
    if !identity {
        return vec![long("ts_ns")];
    }
    let ts = Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), false);
    vec![text("device"), ts, long("ts_ns"), long("ts_err_ns"), text("grade"), text("row_key")]
}

/// Columns of one selected field.
pub(super) fn value_fields(
    column: &Column,
    field: &Field,
    selected: &FieldName,
    converted: bool,
) -> Vec<Field> {
    let name = format!("{}_{}", column.name, field.name());
    let mut metadata = field.metadata().clone();
    if let Some(unit) = column.units.get(selected) {
        metadata.insert(super::UNIT_KEY.to_owned(), unit.clone());
    }
    let own = if converted { DataType::Float64 } else { field.data_type().clone() };
    let of =
        |name: &str, data_type: DataType| Field::new(name, data_type, true).with_metadata(metadata.clone());
    match &column.method {
        Method::Previous { .. } | Method::Next { .. } | Method::Nearest { .. } => vec![of(&name, own)],
        Method::Linear(_) | Method::Slerp(_) | Method::Geodesic { .. } => vec![of(&name, DataType::Float64)],
        Method::List { .. } => vec![list_field(&name, &own).with_metadata(metadata)],
        Method::Window { stats, .. } => stats
            .iter()
            .map(|stat| {
                let name = format!("{name}_{}", stat_name(*stat));
                match stat {
                    WindowStat::Count => Field::new(name, DataType::Int64, true),
                    WindowStat::Mean | WindowStat::Std | WindowStat::Sum => of(&name, DataType::Float64),
                    _ => of(&name, own.clone()),
                }
            })
            .collect(),
    }
}

fn stat_name(stat: WindowStat) -> &'static str {
    match stat {
        WindowStat::Mean => "mean",
        WindowStat::Min => "min",
        WindowStat::Max => "max",
        WindowStat::Std => "std",
        WindowStat::Sum => "sum",
        WindowStat::Count => "count",
        WindowStat::First => "first",
        WindowStat::Last => "last",
    }
}

pub(super) fn list_field(name: &str, item: &DataType) -> Field {
    Field::new(name, DataType::List(list_item(item)), true)
}

pub(super) fn list_item(item: &DataType) -> Arc<Field> {
    Arc::new(Field::new("element", item.clone(), true))
}

fn source_members() -> Fields {
    let of = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let long = |name| of(name, DataType::Int64);
    Fields::from(vec![
        of("stream", DataType::Utf8),
        of("epoch", DataType::Utf8),
        long("seq_lo"),
        long("seq_hi"),
        long("dt_ns"),
        long("err_ns"),
        of("n", DataType::Int32),
        of("flag", DataType::Int32),
    ])
}

/// Where the values of a column group came from.
pub(super) fn source_field(column: &str) -> Field {
    Field::new(format!("{column}_src"), DataType::Struct(source_members()), true)
}

/// Who the rows are of.
pub(super) struct Naming<'a> {
    pub(super) entity: &'a str,
    pub(super) lines: &'a Lines,
    /// Streams of the spine, by place.
    pub(super) streams: &'a [&'a str],
    /// Stream of each row, where there are several.
    pub(super) of_rows: &'a [u32],
}

/// `device` to `row_key`.
pub(super) fn identity(left: &Left<'_>, naming: &Naming<'_>) -> Vec<ArrayRef> {
    let rows = left.start..left.start + left.len;
    let stamps = left.stamps;
    let lines = &stamps.line[rows.clone()];
    let device = |line: u32| naming.lines.get(line).map_or(naming.entity, |line| line.device.as_str());
    let ts_ns = left.times();
    let micros: Vec<i64> = ts_ns.iter().map(|ns| ns.div_euclid(1_000)).collect();
    vec![
        Arc::new(runs(lines.iter().copied(), |line| device(line).to_owned())),
        Arc::new(TimestampMicrosecondArray::from(micros).with_timezone(UTC)),
        Arc::new(Int64Array::from(ts_ns.to_vec())),
        Arc::new(Int64Array::from(stamps.err_ns[rows.clone()].to_vec())),
        Arc::new(runs(stamps.grade[rows.clone()].iter().copied(), |grade| grade.as_str().to_owned())),
        Arc::new(row_keys(left, naming)),
    ]
}

fn row_keys(left: &Left<'_>, naming: &Naming<'_>) -> StringArray {
    let mut keys = Texts::with_capacity(left.len, 40);
    let mut before: (Option<(u32, usize)>, String) = (None, String::new());
    for row in left.start..left.start + left.len {
        let line = left.stamps.line[row];
        let place = naming.of_rows.get(row).copied().unwrap_or(0) as usize;
        if before.0 != Some((line, place)) {
            let stream = naming.streams.get(place).copied().unwrap_or_default();
            let text = match naming.lines.get(line) {
                Some(line) => format!("{}/{stream}/", line.epoch),
                None => "grid/".to_owned(),
            };
            before = (Some((line, place)), text);
        }
        keys.write(before.1.as_bytes());
        let seq = left.stamps.seq[row];
        match naming.lines.get(line) {
            Some(_) => keys.write_decimal(seq),
            // Points of a grid before its origin have numbers below zero.
            None => {
                let number = i64::from_ne_bytes(seq.to_ne_bytes());
                if number < 0 {
                    keys.write(b"-");
                }
                keys.write_decimal(number.unsigned_abs());
            }
        }
        keys.end();
    }
    keys.finish(None)
}

/// A text column as it grows.
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Texts {
    fn with_capacity(rows: usize, bytes_each: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(rows * bytes_each), ends }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn write_decimal(&mut self, mut number: u64) {
        // 20 digits hold all of u64.
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] += u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[first..]);
    }

    /// Ends a row's text. A chunk of rows holds far less than an offset can say.
    fn end(&mut self) {
        debug_assert!(i32::try_from(self.bytes.len()).is_ok(), "a chunk's identity is small");
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    fn finish(self, valid: Option<NullBuffer>) -> StringArray {
        StringArray::new(OffsetBuffer::new(self.ends.into()), self.bytes.into(), valid)
    }
}

/// A text for each key; that of equal ones that follow each other is made once.
fn runs<K: Copy + PartialEq>(
    keys: impl ExactSizeIterator<Item = K>,
    text: impl Fn(K) -> String,
) -> StringArray {
    let mut out = Texts::with_capacity(keys.len(), 12);
    let mut before: Option<(K, String)> = None;
    for key in keys {
        if before.as_ref().is_none_or(|(known, _)| *known != key) {
            before = Some((key, text(key)));
        }
        if let Some((_, text)) = &before {
            out.write(text.as_bytes());
        }
        out.end();
    }
    out.finish(None)
}

/// The source struct of a column.
pub(super) fn source(column: &Column, store: &Store, lines: &Lines, found: &Match) -> StructArray {
    let rows = found.lo.len();
    let matched = NullBuffer::new(BooleanBuffer::collect_bool(rows, |place| found.lo[place] != NONE));
    let valid = (matched.null_count() > 0).then_some(matched);
    let seq = |row: u32| match row {
        NONE => 0,
        row => i64::try_from(store.stamps.seq[row as usize]).unwrap_or(i64::MAX),
    };
    let near = |of: fn(&Distance) -> i64| {
        found.near.iter().zip(&found.lo).map(move |(near, lo)| if *lo == NONE { 0 } else { of(near) })
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(streams(column, found, valid.as_ref())),
        Arc::new(epochs(store, lines, found, valid.as_ref())),
        Arc::new(longs(found.lo.iter().map(|row| seq(*row)), valid.clone())),
        Arc::new(longs(
            found.hi.iter().zip(&found.lo).map(|(hi, lo)| if *lo == NONE { 0 } else { seq(*hi) }),
            valid.clone(),
        )),
        Arc::new(longs(near(|near| near.dt_ns), valid.clone())),
        Arc::new(longs(near(|near| near.sigma_ns), valid)),
        Arc::new(Int32Array::from(found.n.clone())),
        Arc::new(Int32Array::from(found.flag.clone())),
    ];
    StructArray::new(source_members(), columns, None)
}

fn longs(values: impl Iterator<Item = i64>, valid: Option<NullBuffer>) -> Int64Array {
    Int64Array::new(values.collect(), valid)
}

/// The stream's name in every row that matched.
fn streams(column: &Column, found: &Match, valid: Option<&NullBuffer>) -> StringArray {
    let name = column.stream.as_str().as_bytes();
    let rows = found.lo.len();
    let matched = rows - valid.map_or(0, NullBuffer::null_count);
    let lengths = found.lo.iter().map(|row| if *row == NONE { 0 } else { name.len() });
    StringArray::new(OffsetBuffer::from_lengths(lengths), name.repeat(matched).into(), valid.cloned())
}

fn epochs(store: &Store, lines: &Lines, found: &Match, valid: Option<&NullBuffer>) -> StringArray {
    let mut out = Texts::with_capacity(found.lo.len(), 16);
    let mut text = (NO_LINE, String::new());
    for row in &found.hi {
        if *row != NONE {
            let line = store.stamps.line[*row as usize];
            if text.0 != line {
                text = (line, lines.get(line).map(|line| line.epoch.to_string()).unwrap_or_default());
            }
            out.write(text.1.as_bytes());
        }
        out.end();
    }
    out.finish(valid.cloned())
}

/// True if the column has its own count of samples at edges.
pub(super) fn has_edges(column: &Column) -> bool {
    column.uncertainty && is_window(&column.method)
}
