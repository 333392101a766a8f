//! The checks' own keys.

use super::taker::Taker;
use crate::gate::keys::{GRADES, METHODS, NULLS};
use crate::gate::model::{Check, DriftMethod, Fence, ImageLimits};
use headwater_core::time::{Grade, NS_PER_S};
use std::collections::BTreeSet;

/// Most columns of a rule: each is a pass over every window.
const COLUMNS_MAX: usize = 256;
/// Most pictures a rule decodes: each is a read of a row group and tens of milliseconds.
const LOOKS_MAX: u64 = 64;
/// Longest run that is looked for.
const RUN_MAX: u64 = 1_000_000;
/// 2020-01-01T00:00:00Z: no gateway of ours captured before it.
const EARLIEST_NS: i64 = 1_577_836_800 * NS_PER_S;
/// A day: a resolved time this far beyond the collector's own is wrong whatever its bound says.
const AHEAD_NS: i64 = 86_400 * NS_PER_S;

/// The check of a known name; none after a mistake.
pub(super) fn check(taker: &mut Taker<'_>, name: &str) -> Option<Check> {
    Some(match name {
        "schema" => schema(taker),
        "range" => range(taker),
        "null" => Check::Null { columns: columns(taker) },
        "gap" => Check::Gap { columns: groups(taker) },
        "coverage" => Check::Coverage {
            columns: groups(taker),
            within_ns: taker.duration("within"),
            max_err_ns: taker.duration("max_err"),
        },
        "duplicate" => Check::Duplicate { columns: columns(taker) },
        "time_order" => Check::TimeOrder,
        "time_range" => Check::TimeRange {
            earliest_ns: taker.moment("earliest").unwrap_or(EARLIEST_NS),
            ahead_ns: taker.duration("ahead").unwrap_or(AHEAD_NS),
        },
        "time_error" => Check::TimeError { max_ns: taker.duration("max"), min_grade: grade(taker) },
        "interval" => interval(taker),
        "stuck" => Check::Stuck { columns: columns(taker), rows: run(taker)? },
        "step" => Check::Step {
            columns: columns(taker),
            max: positive(taker, "max")?,
            per_s: taker.truth("per_second").unwrap_or(false),
        },
        "spike" => Check::Spike { columns: columns(taker), max: positive(taker, "max")? },
        "saturation" => Check::Saturation { columns: columns(taker), rows: run(taker)? },
        "image" => image(taker),
        "frozen" => Check::Frozen { column: picture(taker), rows: run(taker)? },
        "geofence" => geofence(taker)?,
        "speed" => Check::Speed {
            lat: taker.text("lat")?,
            lon: taker.text("lon")?,
            max_m_s: positive(taker, "max")?,
        },
        "expression" => {
            let nulls_pass = taker.word("nulls", &NULLS) != Some("fail");
            Check::Expression { expect: taker.formula("expect")?, nulls_pass }
        }
        "rows" => Check::Rows,
        "rate" => Check::Rate { column: taker.text("column") },
        "freshness" => Check::Freshness,
        "noise" => {
            Check::Noise { columns: columns(taker), span_ns: taker.duration("span").filter(|ns| *ns > 0) }
        }
        "distinct" => Check::Distinct { columns: columns(taker) },
        "drift" => {
            let method = match taker.word("method", &METHODS) {
                Some("ks") => DriftMethod::Ks,
                _ => DriftMethod::Psi,
            };
            Check::Drift { columns: columns(taker), reference: taker.text("reference")?, method }
        }
        _ => return None,
    })
}

fn columns(taker: &mut Taker<'_>) -> Vec<String> {
    let columns = taker.texts("columns");
    if taker.has("columns") && columns.is_empty() {
        taker.wrong("columns", "names none");
    }
    if columns.len() > COLUMNS_MAX {
        taker.wrong("columns", format!("more than {COLUMNS_MAX}"));
    }
    let mut seen = BTreeSet::new();
    for twice in columns.iter().filter(|column| !seen.insert(*column)).cloned().collect::<Vec<_>>() {
        taker.wrong("columns", format!("{twice} stands here twice"));
    }
    columns
}

fn groups(taker: &mut Taker<'_>) -> Vec<String> {
    let found = columns(taker);
    if found.is_empty() { vec!["*".to_owned()] } else { found }
}

fn schema(taker: &mut Taker<'_>) -> Check {
    if !taker.has("columns") && !taker.has("required") {
        taker.wrong("columns", "missing: give columns, required, or both");
    }
    Check::Schema { columns: taker.types("columns"), required: taker.texts("required") }
}

fn range(taker: &mut Taker<'_>) -> Check {
    let (min, max) = (taker.number("min"), taker.number("max"));
    if !taker.has("min") && !taker.has("max") {
        taker.wrong("min", "missing: give min, max, or both");
    }
    if min.zip(max).is_some_and(|(min, max)| min > max) {
        taker.wrong("min", "lies above max: nothing could pass");
    }
    Check::Range { columns: columns(taker), min, max }
}

fn grade(taker: &mut Taker<'_>) -> Grade {
    match taker.word("min_grade", &GRADES) {
        Some("guaranteed") => Grade::Guaranteed,
        Some("estimated") => Grade::Estimated,
        _ => Grade::OrderingOnly,
    }
}

fn interval(taker: &mut Taker<'_>) -> Check {
    let (min_ns, max_ns) = (taker.duration("min").unwrap_or(0), taker.duration("max"));
    if max_ns.is_some_and(|max| max < min_ns) {
        taker.wrong("max", "lies below min: nothing could pass");
    }
    Check::Interval { min_ns, max_ns }
}

fn run(taker: &mut Taker<'_>) -> Option<u64> {
    taker.count("rows", (2, RUN_MAX))
}

fn positive(taker: &mut Taker<'_>, key: &str) -> Option<f64> {
    let found = taker.number(key)?;
    if found <= 0.0 {
        taker.wrong(key, "expected more than 0");
        return None;
    }
    Some(found)
}

fn picture(taker: &mut Taker<'_>) -> String {
    taker.text("column").unwrap_or_else(|| "image".to_owned())
}

fn image(taker: &mut Taker<'_>) -> Check {
    let looks = taker.count("looks", (0, LOOKS_MAX)).unwrap_or(8);
    let limits = ImageLimits {
        looks: u32::try_from(looks).unwrap_or(u32::MAX),
        min_brightness: taker.number("min_brightness").unwrap_or(8.0),
        max_brightness: taker.number("max_brightness").unwrap_or(247.0),
        min_contrast: taker.number("min_contrast").unwrap_or(2.0),
        min_sharpness: taker.number("min_sharpness").unwrap_or(0.0),
    };
    if limits.min_brightness > limits.max_brightness {
        taker.wrong("min_brightness", "lies above max_brightness: nothing could pass");
    }
    Check::Image { column: picture(taker), decode: (looks > 0).then_some(limits) }
}

fn geofence(taker: &mut Taker<'_>) -> Option<Check> {
    let circle = taker.circle("circle").map(|(lat, lon, radius_m)| Fence::Circle { lat, lon, radius_m });
    let polygon = taker.corners("polygon").map(Fence::Polygon);
    if taker.has("circle") == taker.has("polygon") {
        taker.wrong("circle", "expected one of circle and polygon");
        return None;
    }
    let inside = taker.truth("inside").unwrap_or(true);
    Some(Check::Geofence {
        lat: taker.text("lat")?,
        lon: taker.text("lon")?,
        fence: circle.or(polygon)?,
        inside,
    })
}
