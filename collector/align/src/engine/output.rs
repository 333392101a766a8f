//! Columns of an aligned row that are not values: who and when, and for each column group where its values came from.

use super::cursor::NONE;
use super::matching::Match;
use super::metric::NO_LINE;
use super::spine::Left;
use super::store::Store;
use super::{lines::Lines, plan::is_window};
use crate::recipe::{Column, Method, WindowStat};
use arrow_array::builder::{Int32Builder, StringBuilder};
use arrow_array::{ArrayRef, Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use headwater_core::id::FieldName;
use std::fmt::Write;
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
    let (mut device, mut grade) = (text_builder(left.len, 12), text_builder(left.len, 10));
    let mut key = text_builder(left.len, 40);
    let mut line = (NO_LINE, String::new());
    for row in rows.clone() {
        let of = stamps.line[row];
        let known = naming.lines.get(of);
        device.append_value(known.map_or(naming.entity, |line| line.device.as_str()));
        grade.append_value(stamps.grade[row].as_str());
        let seq = stamps.seq[row];
        // Writing to the builder cannot fail.
        let written = match known {
            None => write!(key, "grid/{}", i64::from_ne_bytes(seq.to_ne_bytes())),
            Some(known) => {
                if line.0 != of {
                    line = (of, known.epoch.to_string());
                }
                let place = naming.of_rows.get(row).copied().unwrap_or(0) as usize;
                let stream = naming.streams.get(place).copied().unwrap_or_default();
                write!(key, "{}/{stream}/{seq}", line.1)
            }
        };
        debug_assert!(written.is_ok(), "a string builder takes all text");
        key.append_value("");
    }
    let ts_ns = left.times();
    let micros: Vec<i64> = ts_ns.iter().map(|ns| ns.div_euclid(1_000)).collect();
    vec![
        Arc::new(device.finish()),
        Arc::new(TimestampMicrosecondArray::from(micros).with_timezone(UTC)),
        Arc::new(Int64Array::from(ts_ns.to_vec())),
        Arc::new(Int64Array::from(stamps.err_ns[rows].to_vec())),
        Arc::new(grade.finish()),
        Arc::new(key.finish()),
    ]
}

fn text_builder(rows: usize, bytes_each: usize) -> StringBuilder {
    StringBuilder::with_capacity(rows, rows * bytes_each)
}

/// The source struct of a column.
pub(super) fn source(column: &Column, store: &Store, lines: &Lines, found: &Match) -> StructArray {
    let rows = found.lo.len();
    let matched = NullBuffer::new(BooleanBuffer::collect_bool(rows, |place| found.lo[place] != NONE));
    let valid = (matched.null_count() > 0).then_some(matched);
    let long = |of: &dyn Fn(usize) -> i64| -> ArrayRef {
        let value = |place: usize| if found.lo[place] == NONE { 0 } else { of(place) };
        Arc::new(Int64Array::new((0..rows).map(value).collect(), valid.clone()))
    };
    let seq = |row: u32| i64::try_from(store.stamps.seq[row as usize]).unwrap_or(i64::MAX);
    let (mut n, mut flag) = (Int32Builder::with_capacity(rows), Int32Builder::with_capacity(rows));
    n.append_slice(&found.n);
    flag.append_slice(&found.flag);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(streams(column, found)),
        Arc::new(epochs(store, lines, found)),
        long(&|place| seq(found.lo[place])),
        long(&|place| seq(found.hi[place])),
        long(&|place| found.near[place].dt_ns),
        long(&|place| found.near[place].sigma_ns),
        Arc::new(n.finish()),
        Arc::new(flag.finish()),
    ];
    StructArray::new(source_members(), columns, None)
}

fn streams(column: &Column, found: &Match) -> StringArray {
    let name = column.stream.as_str();
    let mut out = text_builder(found.lo.len(), name.len());
    for row in &found.lo {
        out.append_option((*row != NONE).then_some(name));
    }
    out.finish()
}

fn epochs(store: &Store, lines: &Lines, found: &Match) -> StringArray {
    let mut out = text_builder(found.lo.len(), 16);
    let mut text = (NO_LINE, String::new());
    for row in &found.hi {
        if *row == NONE {
            out.append_null();
            continue;
        }
        let line = store.stamps.line[*row as usize];
        if text.0 != line {
            text = (line, lines.get(line).map(|line| line.epoch.to_string()).unwrap_or_default());
        }
        out.append_value(&text.1);
    }
    out.finish()
}

/// True if the column has its own count of samples at edges.
pub(super) fn has_edges(column: &Column) -> bool {
    column.uncertainty && is_window(&column.method)
}
