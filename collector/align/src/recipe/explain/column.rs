//! A column in words.

use super::Section;
use super::spine::constant;
use crate::derive::canonical;
use crate::recipe::diff::{listing, settings, value};
use crate::recipe::duration::show;
use crate::recipe::model::{
    AltitudeDatum, Between, Column, Duplicates, EarthModel, Fallback, Method, Mode, Nulls, Tie,
};
use headwater_core::id::FieldName;
use headwater_core::time::cone::drift_ns;

pub(super) fn explain(column: &Column, mode: Mode) -> Section {
    let fields: Vec<&str> = column.select.iter().map(FieldName::as_str).collect();
    let from = column.device.as_ref().map(|device| format!(" of {device}")).unwrap_or_default();
    let title = format!(
        "{}: {} of {}{from}, {}",
        column.name,
        fields.join(", "),
        column.stream,
        column.method.as_str()
    );
    let mut lines = Vec::new();
    for (place, step) in column.prepare.iter().enumerate() {
        let mut settings = settings(canonical::step(step));
        let kind = settings.remove("step").map(|kind| value("step", &kind)).unwrap_or_default();
        let first = if place == 0 { "Samples are prepared first (raw stays as it is)" } else { "then" };
        lines.push(format!("{first}: {kind} ({}).", listing(&settings)));
    }
    lines.extend(method(column, mode));
    if column.offset_ns != 0 {
        let offset = column.offset_ns;
        lines.push(format!(
            "Offset: a sample stamped at t counts as one at t {} {}. In Kalibr's words (t_imu = t_cam + shift): shift = {}.",
            if offset < 0 { '-' } else { '+' },
            show(offset.saturating_abs()),
            show(offset.saturating_neg())
        ));
    }
    lines.extend(rules(column));
    lines.push(fallback(column));
    for (field, unit) in &column.units {
        lines.push(format!("{field} is given in {unit}, converted from the unit of its table."));
    }
    Section { title, lines }
}

fn within(tolerance_ns: i64, mode: Mode) -> String {
    match mode {
        Mode::Point => format!("at most {} away, that included", show(tolerance_ns)),
        Mode::Certain => format!("surely at most {} away, its uncertainty counted", show(tolerance_ns)),
    }
}

fn method(column: &Column, mode: Mode) -> Vec<String> {
    match &column.method {
        Method::Previous { tolerance_ns } => {
            vec![format!("The newest sample at or before the row, {}.", within(*tolerance_ns, mode))]
        }
        Method::Next { tolerance_ns } => {
            vec![format!("The oldest sample at or after the row, {}.", within(*tolerance_ns, mode))]
        }
        Method::Nearest { tolerance_ns } => {
            let tie = if column.tie == Tie::Previous { "earlier" } else { "later" };
            let near = within(*tolerance_ns, mode);
            vec![format!("The nearest sample, {near}; of two equally near the {tie}.")]
        }
        Method::Linear(of) => {
            between(*of, "On the straight line between the samples before and after, by time")
        }
        Method::Slerp(of) => {
            between(*of, "On the shorter arc between the rotations before and after, by time")
        }
        Method::Geodesic { between: of, model, datum } => {
            let figure = match model {
                EarthModel::Wgs84 => "the WGS 84 ellipsoid",
                EarthModel::GreatCircle => "a sphere",
            };
            let altitude = match datum {
                None => "",
                Some(AltitudeDatum::Hae) => "; altitude above the ellipsoid, linear",
                Some(AltitudeDatum::Msl) => "; altitude above mean sea level, linear",
            };
            between(
                *of,
                &format!(
                    "On the shortest way over {figure} between the fixes before and after, by time{altitude}"
                ),
            )
        }
        Method::Window { from_ns, to_ns, stats, min_count } => {
            let stats: Vec<&str> = stats.iter().map(|stat| stat.as_str()).collect();
            let mut line = format!("{} of the samples in {}.", stats.join(", "), span(*from_ns, *to_ns));
            if *min_count > 1 {
                line.push_str(&format!(" Fewer than {min_count} give null."));
            }
            vec![line, "Without a sample: null, and count 0.".to_owned()]
        }
        Method::List { from_ns, to_ns, max_items } => vec![
            format!(
                "The samples in {} themselves, as lists in order of time, with their distances in {}_dt_ns.",
                span(*from_ns, *to_ns),
                column.name
            ),
            format!("At most {max_items}: more are cut at the end and flagged 2048."),
        ],
    }
}

fn between(of: Between, how: &str) -> Vec<String> {
    let mut lines = vec![format!("{how}; a sample at the very instant is the value itself.")];
    lines.push(format!("Null (flag 4) if the two are more than {} apart.", show(of.max_gap_ns)));
    if of.extrapolate_ns > 0 {
        let line =
            format!("Beyond the last sample it goes on for at most {} (flag 32).", show(of.extrapolate_ns));
        lines.push(line);
    }
    lines
}

fn span(from_ns: i64, to_ns: i64) -> String {
    format!("[t {}, t {})", signed(from_ns), signed(to_ns))
}

fn signed(ns: i64) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    format!("{sign} {}", show(ns.saturating_abs()))
}

fn rules(column: &Column) -> Vec<String> {
    let mut lines = Vec::new();
    let all = matches!(column.method, Method::Window { .. } | Method::List { .. });
    if !all {
        let which = if column.duplicates == Duplicates::Last { "last" } else { "first" };
        let nulls = match column.nulls {
            Nulls::Skip => "samples of nulls only are passed over",
            Nulls::Take => "samples of nulls count too",
        };
        lines.push(format!("Of samples at one time the {which} counts; {nulls}."));
    }
    lines
}

fn fallback(column: &Column) -> String {
    match &column.fallback {
        Fallback::Null => "Where nothing matches: null.".to_owned(),
        Fallback::Drop => "Where nothing matches the whole row is left out.".to_owned(),
        Fallback::Locf { max_age_ns } => {
            format!(
                "Where nothing matches: the newest earlier sample up to {} old (flag 16).",
                show(*max_age_ns)
            )
        }
        Fallback::Const(values) => {
            let values: Vec<String> =
                values.iter().map(|(field, value)| format!("{field} = {}", constant(value))).collect();
            format!("Where nothing matches: {} (flag 16).", values.join(", "))
        }
    }
}

/// How large the uncertainty of its distance, and of its values, can be.
pub(super) fn certainty(column: &Column) -> String {
    let (before, after) = column.reach();
    let reach = before.max(after).saturating_add(column.offset_ns.saturating_abs());
    let drift = show(headwater_core::time::clamp_i64(drift_ns(reach.into())));
    let value = match (&column.method, column.uncertainty) {
        (Method::Linear(_), true) => " <name>_<field>_u is |slope| times that, plus the samples' own.",
        (Method::Slerp(_), true) => " <name>_<field>_u is the angular rate times that.",
        (Method::Geodesic { .. }, true) => " <name>_<field>_u is the speed times that, plus the fixes' own.",
        (Method::Window { .. } | Method::List { .. }, true) => {
            " <name>_edge_n counts the samples that may lie on either side of an edge."
        }
        (_, true) => " <name>_<field>_u is the sample's own.",
        (_, false) => "",
    };
    let value = value.replace("<name>", column.name.as_str());
    format!("- {}: within one boot at most {drift} beyond both capture latencies.{value}", column.name)
}
