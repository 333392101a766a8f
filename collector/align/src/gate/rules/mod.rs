//! The checks: each looks at the rows of one scope and measures something.

mod formula;
mod image;
mod place;
mod rows;
mod series;
mod shape;
mod time;
mod values;

use super::frame::{Frame, Missing};
use super::judge::Context;
use super::model::{Check, DriftMethod, Fence, ImageLimits};
use serde_json::{Map, Value};

/// What a check found in one column, or in all.
#[derive(Debug)]
pub(super) struct Measure {
    /// Which column; empty for the rows as such.
    pub(super) label: String,
    pub(super) found: Found,
    /// Offending rows.
    pub(super) rows: Vec<usize>,
    /// More numbers.
    pub(super) more: Map<String, Value>,
}

#[derive(Debug)]
pub(super) enum Found {
    /// So many of so many.
    Share { bad: usize, of: usize },
    /// A value; none if there is too little to measure.
    Value(Option<f64>),
    /// It could not be looked at, and why.
    Unjudged(String),
}

impl Measure {
    pub(super) fn share(label: &str, rows: Vec<usize>, of: usize) -> Self {
        let found = Found::Share { bad: rows.len(), of };
        Self { label: label.to_owned(), found, rows, more: Map::new() }
    }

    pub(super) fn value(label: &str, value: Option<f64>) -> Self {
        Self { label: label.to_owned(), found: Found::Value(value), rows: Vec::new(), more: Map::new() }
    }

    pub(super) fn unjudged(label: &str, why: impl Into<String>) -> Self {
        Self {
            label: label.to_owned(),
            found: Found::Unjudged(why.into()),
            rows: Vec::new(),
            more: Map::new(),
        }
    }

    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }
}

impl From<Missing> for Measure {
    fn from(missing: Missing) -> Self {
        Self::unjudged("", missing.0)
    }
}

/// The rows of one scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scoped<'a> {
    pub(super) frame: &'a Frame,
    pub(super) rows: &'a [usize],
    pub(super) context: &'a Context<'a>,
}

impl Scoped<'_> {
    /// One measure a column; a column that is not there is told.
    fn each(&self, columns: &[String], of: impl Fn(&str, &super::frame::Column) -> Measure) -> Vec<Measure> {
        let measures = columns.iter().map(|name| match self.frame.column(name) {
            Ok(column) => of(name, &column),
            Err(Missing(why)) => Measure::unjudged(name, why),
        });
        measures.collect()
    }
}

/// Looks at rows of one scope.
pub(super) fn measure(check: &Check, at: &Scoped<'_>) -> Vec<Measure> {
    match check {
        Check::Schema { columns, required } => shape::schema(at, columns, required),
        Check::Null { columns } => shape::null(at, columns),
        Check::Gap { columns } => shape::gap(at, columns),
        Check::Coverage { columns, within_ns, max_err_ns } => {
            shape::coverage(at, columns, *within_ns, *max_err_ns)
        }
        Check::Duplicate { columns } => shape::duplicate(at, columns),
        Check::TimeOrder => vec![time::order(at)],
        Check::TimeRange { earliest_ns, ahead_ns } => vec![time::range(at, *earliest_ns, *ahead_ns)],
        Check::TimeError { max_ns, min_grade } => vec![time::error(at, *max_ns, *min_grade)],
        Check::Interval { min_ns, max_ns } => vec![time::interval(at, *min_ns, *max_ns)],
        Check::Range { columns, min, max } => values::range(at, columns, *min, *max),
        Check::Stuck { columns, rows } => series::stuck(at, columns, *rows),
        Check::Step { columns, max, per_s } => series::step(at, columns, *max, *per_s),
        Check::Spike { columns, max } => series::spike(at, columns, *max),
        Check::Saturation { columns, rows } => values::saturation(at, columns, *rows),
        Check::Image { column, decode } => vec![image::image(at, column, decode.as_ref())],
        Check::Frozen { column, rows } => vec![image::frozen(at, column, *rows)],
        Check::Geofence { lat, lon, fence, inside } => vec![place::fence(at, (lat, lon), fence, *inside)],
        Check::Speed { lat, lon, max_m_s } => vec![place::speed(at, (lat, lon), *max_m_s)],
        Check::Expression { expect, nulls_pass } => vec![formula::holds(at, expect, *nulls_pass)],
        Check::Rows => vec![Measure::value("", Some(at.rows.len() as f64))],
        Check::Rate { column } => vec![rows::rate(at, column.as_deref())],
        Check::Freshness => vec![rows::freshness(at)],
        Check::Noise { columns, span_ns } => series::noise(at, columns, *span_ns),
        Check::Distinct { columns } => values::distinct(at, columns),
        Check::Drift { columns, reference, method } => values::drift(at, columns, reference, *method),
    }
}
