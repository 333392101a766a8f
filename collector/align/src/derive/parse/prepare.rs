//! `prepare = [...]` of a column.

use super::{number, positive, span};
use crate::derive::keys::{OUTLIERS, RESAMPLE_BY, STEP, STEPS};
use crate::derive::{
    Outlier, PREPARE_ORDER_MAX, PREPARE_STEPS_MAX, PREPARE_WINDOW_SAMPLES_MAX, ResampleBy, Step, StepKind,
};
use crate::recipe::duration;
use crate::recipe::reader::Reader;
use headwater_core::id::FieldName;
use toml::{Table, Value};

/// Keys that every step takes; each takes those of [`takes`] beside them.
const EVERY: [&str; 2] = ["step", "fields"];

fn takes(step: &str) -> &'static [&'static str] {
    match step {
        "clip_range" => &["min", "max", "then"],
        "clip_mad" => &["samples", "limit", "min_scale", "then", "max_gap"],
        "clip_rate" => &["per_second", "then", "max_gap"],
        "median" => &["samples", "max_gap"],
        "exponential" => &["time_constant", "max_gap"],
        "savitzky_golay" => &["samples", "order", "max_gap"],
        _ => &["period", "by", "max_gap"],
    }
}

/// The steps of `column`, whose path (ending in a dot) is `within`; `selected` are the fields it takes.
pub fn prepare(reader: &mut Reader, column: &Table, within: &str, selected: &[FieldName]) -> Vec<Step> {
    let path = format!("{within}prepare");
    let items = match column.get("prepare") {
        None => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            reader.mistake(
                path,
                "expected a list of steps, e.g. `prepare = [{ step = \"median\", samples = 5 }]`",
            );
            return Vec::new();
        }
    };
    if items.len() > PREPARE_STEPS_MAX {
        reader.mistake(&path, format!("{} steps, at most {PREPARE_STEPS_MAX}", items.len()));
    }
    // A bad max_gap of the column is its own mistake, noted where the column is read.
    let max_gap_ns =
        column.get("max_gap").and_then(Value::as_str).and_then(duration::parse).filter(|ns| *ns > 0);
    let mut steps = Vec::new();
    for (place, item) in items.iter().enumerate() {
        match item {
            Value::Table(table) => {
                steps.extend(step(reader, table, &format!("{path}[{place}]."), selected, max_gap_ns));
            }
            _ => reader.mistake(
                format!("{path}[{place}]"),
                "expected a table, e.g. `{ step = \"median\", samples = 5 }`",
            ),
        }
    }
    steps
}

fn step(
    reader: &mut Reader,
    table: &Table,
    within: &str,
    selected: &[FieldName],
    column_gap_ns: Option<i64>,
) -> Option<Step> {
    reader.known(table, within, STEP);
    if !table.contains_key("step") {
        reader.mistake(format!("{within}step"), format!("missing; one of {}", STEPS.join(", ")));
    }
    let name = reader.word(table, within, "step", STEPS).and_then(|place| STEPS.get(place))?;
    let takes = takes(name);
    for key in STEP.iter().map(|key| key.name).filter(|key| table.contains_key(*key)) {
        if !takes.contains(&key) && !EVERY.contains(&key) {
            reader.mistake(format!("{within}{key}"), format!("{name} takes {} only", takes.join(", ")));
        }
    }
    let kind = kind(reader, table, within, name);
    let fields = fields(reader, table, within, name, selected);
    let max_gap_ns = match (takes.contains(&"max_gap"), table.contains_key("max_gap"), column_gap_ns) {
        (false, ..) => Some(0),
        (true, false, Some(ns)) => Some(ns),
        _ => span(reader, table, within, "max_gap", "50ms"),
    };
    Some(Step { kind: kind?, fields, max_gap_ns: max_gap_ns? })
}

fn fields(
    reader: &mut Reader,
    table: &Table,
    within: &str,
    step: &str,
    selected: &[FieldName],
) -> Vec<FieldName> {
    if !table.contains_key("fields") {
        return Vec::new();
    }
    if step == "resample" {
        reader.mistake(
            format!("{within}fields"),
            "resample makes new samples, so it takes all fields; leave it out",
        );
        return Vec::new();
    }
    let fields: Vec<FieldName> = reader.names(table, within, "fields", "\"accel_x\"");
    for (place, field) in fields.iter().enumerate() {
        if !selected.contains(field) {
            let hint = crate::recipe::nearest::hint(field.as_str(), selected.iter().map(FieldName::as_str));
            reader.mistake(format!("{within}fields[{place}]"), format!("{field} is not selected{hint}"));
        }
    }
    fields
}

fn kind(reader: &mut Reader, table: &Table, within: &str, name: &str) -> Option<StepKind> {
    match name {
        "clip_range" => clip_range(reader, table, within),
        "clip_mad" => {
            let samples = window(reader, table, within);
            let limit = positive(reader, table, within, "limit", "5");
            let min_scale = number(reader, table, within, "min_scale").unwrap_or(0.0);
            if min_scale < 0.0 {
                reader.mistake(format!("{within}min_scale"), format!("{min_scale} is below 0"));
            }
            let then = outlier(reader, table, within, name);
            Some(StepKind::ClipMad { samples: samples?, limit: limit?, min_scale, then })
        }
        "clip_rate" => {
            let per_second = positive(reader, table, within, "per_second", "100");
            let then = outlier(reader, table, within, name);
            Some(StepKind::ClipRate { per_second: per_second?, then })
        }
        "median" => Some(StepKind::Median { samples: window(reader, table, within)? }),
        "exponential" => {
            let time_constant_ns = span(reader, table, within, "time_constant", "200ms")?;
            Some(StepKind::Exponential { time_constant_ns })
        }
        "savitzky_golay" => savitzky_golay(reader, table, within),
        _ => {
            let period = span(reader, table, within, "period", "10ms");
            let by = match reader.word(table, within, "by", RESAMPLE_BY) {
                Some(1) => ResampleBy::Previous,
                Some(2) => ResampleBy::Mean,
                _ => ResampleBy::Linear,
            };
            Some(StepKind::Resample { period_ns: period?, by })
        }
    }
}

fn clip_range(reader: &mut Reader, table: &Table, within: &str) -> Option<StepKind> {
    let (min, max) = (number(reader, table, within, "min"), number(reader, table, within, "max"));
    if !table.contains_key("min") && !table.contains_key("max") {
        reader.mistake(format!("{within}min"), "missing; clip_range takes `min`, `max` or both");
        return None;
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        reader.mistake(format!("{within}min"), format!("{min} is above max = {max}: nothing would be left"));
    }
    Some(StepKind::ClipRange { min, max, then: outlier(reader, table, within, "clip_range") })
}

fn outlier(reader: &mut Reader, table: &Table, within: &str, step: &str) -> Outlier {
    match reader.word(table, within, "then", OUTLIERS) {
        Some(1) if step == "clip_rate" => {
            reader.mistake(
                format!("{within}then"),
                "a rate has no nearest allowed value; write \"null\" or \"drop\"",
            );
            Outlier::Null
        }
        Some(1) => Outlier::Clamp,
        Some(2) => Outlier::Drop,
        _ => Outlier::Null,
    }
}

fn savitzky_golay(reader: &mut Reader, table: &Table, within: &str) -> Option<StepKind> {
    let samples = window(reader, table, within);
    if !table.contains_key("order") {
        reader.mistake(format!("{within}order"), "missing; e.g. `order = 3`");
    }
    let order = reader.count(table, within, "order", (0, PREPARE_ORDER_MAX));
    let (samples, order) = (samples?, order?);
    if order >= samples {
        let text =
            format!("a polynomial of order {order} goes through all of {samples} samples; write one below");
        reader.mistake(format!("{within}order"), text);
        return None;
    }
    Some(StepKind::SavitzkyGolay { samples, order })
}

/// Samples of a centred window.
fn window(reader: &mut Reader, table: &Table, within: &str) -> Option<u32> {
    if !table.contains_key("samples") {
        reader.mistake(format!("{within}samples"), "missing; e.g. `samples = 5`");
    }
    let samples = reader.count(table, within, "samples", (1, PREPARE_WINDOW_SAMPLES_MAX))?;
    if samples % 2 == 0 {
        let text = format!(
            "{samples} is even; a window has its sample in the middle: {} or {}",
            samples - 1,
            samples + 1
        );
        reader.mistake(format!("{within}samples"), text);
        return None;
    }
    Some(samples)
}
