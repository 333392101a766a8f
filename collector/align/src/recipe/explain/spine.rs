//! The spine in words.

use crate::json::number_text;
use crate::recipe::duration::show;
use crate::recipe::model::{Condition, Constant, SpineSource};
use headwater_core::id::{FieldName, StreamName};
use headwater_core::time::StampKind;

/// One row per what.
pub(super) fn title(source: &SpineSource) -> String {
    match source {
        SpineSource::Stream { stream, .. } => format!("one row per sample of {stream}"),
        SpineSource::Grid { period_ns, .. } => format!("one row every {}", show(*period_ns)),
        SpineSource::Union { streams } => format!("one row per sample of any of {}", joined(streams)),
        SpineSource::Event { stream, when, .. } => {
            format!("one row whenever {} of {stream} begins", condition(when))
        }
    }
}

pub(super) fn explain(source: &SpineSource) -> Vec<String> {
    let mut lines = Vec::new();
    match source {
        SpineSource::Stream { at, select, .. } => {
            if let Some(at) = at {
                lines.push(format!("The instant is {}.", stamp(*at)));
            }
            fields(select, &mut lines);
        }
        SpineSource::Grid { phase_ns, epoch_ns, .. } => {
            lines.push(format!(
                "Instants are exact UTC, {} after whole periods since {}, from the entity's first sample to its last.",
                show(*phase_ns),
                match epoch_ns {
                    0 => "1970-01-01T00:00:00Z".to_owned(),
                    ns => format!("UTC {ns} ns"),
                }
            ));
        }
        SpineSource::Union { .. } => {
            lines.push("Samples at one instant are one row.".to_owned());
        }
        SpineSource::Event { when, select, .. } => {
            lines.push(format!(
                "A sample makes a row when {} and the sample before it did not; null meets nothing.",
                condition(when)
            ));
            fields(select, &mut lines);
        }
    }
    lines
}

pub(super) fn left_out(source: &SpineSource) -> Vec<String> {
    match source {
        SpineSource::Stream { stream, at: Some(at), .. } => {
            vec![format!("- samples of {stream} that are not stamped at {}", at.as_str())]
        }
        SpineSource::Grid { .. } => {
            vec!["- instants before an entity's first sample and after its last".to_owned()]
        }
        _ => Vec::new(),
    }
}

fn fields(select: &[FieldName], lines: &mut Vec<String>) {
    if !select.is_empty() {
        let names: Vec<&str> = select.iter().map(FieldName::as_str).collect();
        lines.push(format!(
            "It holds {} of that sample; of a picture <column>_hash, its digest.",
            names.join(", ")
        ));
    }
}

fn joined(streams: &[StreamName]) -> String {
    streams.iter().map(StreamName::as_str).collect::<Vec<_>>().join(", ")
}

fn stamp(at: StampKind) -> &'static str {
    match at {
        StampKind::Instant => "the moment the quantity had its value",
        StampKind::ExposureStart => "the start of the exposure",
        StampKind::ExposureMid => "the middle of the exposure",
        StampKind::WindowEnd => "the end of the averaging window",
        StampKind::Arrival => "the arrival at the gateway, less the capture latency",
    }
}

/// `speed > 5`.
pub(in crate::recipe) fn condition(of: &Condition) -> String {
    format!("{} {} {}", of.field, of.op.as_str(), constant(&of.value))
}

/// As it is written in a recipe.
pub(in crate::recipe) fn constant(of: &Constant) -> String {
    match of {
        Constant::Number(value) => number_text(*value),
        Constant::Text(text) => format!("'{text}'"),
        Constant::Bool(value) => value.to_string(),
    }
}
