//! The canonical form of a set of rules, so that its hash names what it means.
//!
//! Defaults are filled in, durations are integer ns and numbers their shortest decimal text, formulas are written one way,
//! `doc` is left out; rules stay in the order of the file, which is that of the verdicts.

use super::model::{Check, DriftMethod, Fence, ImageLimits, Limits, Pattern, Rule, RuleSet, Scope};
use crate::json::{Json, number_text};
use headwater_core::id::Sha256;

impl RuleSet {
    /// Canonical JSON (RFC 8785).
    #[must_use]
    pub fn canonical(&self) -> String {
        Json::object([
            ("headwater_gate", Json::Int(1)),
            ("name", Json::text(&self.name)),
            ("tables", patterns(&self.tables)),
            ("rule", Json::list(self.rules.iter().map(rule))),
        ])
        .canonical()
    }

    /// Its version: SHA-256 of `headwater.gate.v1`, a line feed and the canonical form, hex.
    #[must_use]
    pub fn id(&self) -> String {
        Sha256::of(format!("headwater.gate.v1\n{}", self.canonical()).as_bytes()).to_string()
    }
}

fn patterns(patterns: &[Pattern]) -> Json {
    Json::texts(patterns.iter().map(|pattern| &pattern.0))
}

fn number(value: f64) -> Json {
    Json::Text(number_text(value))
}

fn maybe(value: Option<f64>) -> Json {
    value.map_or(Json::Null, number)
}

fn ns(value: Option<i64>) -> Json {
    value.map_or(Json::Null, Json::long)
}

fn count(value: u64) -> Json {
    Json::Text(value.to_string())
}

fn rule(rule: &Rule) -> Json {
    let between = |(low, high)| Json::list([maybe(low), maybe(high)]);
    let limits = match rule.limits {
        Limits::Share { warn_percent, fail_percent } => {
            Json::object([("warn_percent", number(warn_percent)), ("fail_percent", number(fail_percent))])
        }
        Limits::Between { warn, fail } => Json::object([("warn", between(warn)), ("fail", between(fail))]),
    };
    let scope = match rule.scope {
        Scope::Device => "device",
        Scope::Window => "window",
    };
    Json::object([
        ("name", Json::text(&rule.name)),
        ("check", Json::text(rule.check.name())),
        ("of", check(&rule.check)),
        ("limits", limits),
        ("devices", patterns(&rule.devices)),
        ("scope", Json::text(scope)),
        ("where", rule.filter.as_ref().map_or(Json::Null, |filter| Json::Text(filter.canonical()))),
        ("min_rows", count(rule.min_rows)),
        ("optional", Json::Bool(rule.optional)),
        ("policy", Json::text(rule.policy.as_str())),
    ])
}

fn check(check: &Check) -> Json {
    let texts = |names: &[String]| Json::texts(names);
    match check {
        Check::Schema { columns, required } => Json::object([
            ("columns", Json::object(columns.iter().map(|(name, kind)| (name.clone(), Json::text(kind))))),
            ("required", texts(required)),
        ]),
        Check::Range { columns, min, max } => {
            Json::object([("columns", texts(columns)), ("min", maybe(*min)), ("max", maybe(*max))])
        }
        Check::Null { columns }
        | Check::Gap { columns }
        | Check::Duplicate { columns }
        | Check::Distinct { columns } => Json::object([("columns", texts(columns))]),
        Check::Coverage { columns, within_ns, max_err_ns } => Json::object([
            ("columns", texts(columns)),
            ("within", ns(*within_ns)),
            ("max_err", ns(*max_err_ns)),
        ]),
        Check::TimeOrder | Check::Rows | Check::Freshness => Json::Null,
        Check::TimeRange { earliest_ns, ahead_ns } => {
            Json::object([("earliest", Json::long(*earliest_ns)), ("ahead", Json::long(*ahead_ns))])
        }
        Check::TimeError { max_ns, min_grade } => {
            Json::object([("max", ns(*max_ns)), ("min_grade", Json::text(min_grade.as_str()))])
        }
        Check::Interval { min_ns, max_ns } => {
            Json::object([("min", Json::long(*min_ns)), ("max", ns(*max_ns))])
        }
        Check::Stuck { columns, rows } | Check::Saturation { columns, rows } => {
            Json::object([("columns", texts(columns)), ("rows", count(*rows))])
        }
        Check::Step { columns, max, per_s } => Json::object([
            ("columns", texts(columns)),
            ("max", number(*max)),
            ("per_second", Json::Bool(*per_s)),
        ]),
        Check::Spike { columns, max } => Json::object([("columns", texts(columns)), ("max", number(*max))]),
        Check::Image { column, decode } => Json::object([
            ("column", Json::text(column)),
            ("decode", decode.as_ref().map_or(Json::Null, image)),
        ]),
        Check::Frozen { column, rows } => {
            Json::object([("column", Json::text(column)), ("rows", count(*rows))])
        }
        Check::Geofence { lat, lon, fence, inside } => Json::object([
            ("lat", Json::text(lat)),
            ("lon", Json::text(lon)),
            ("fence", of_fence(fence)),
            ("inside", Json::Bool(*inside)),
        ]),
        Check::Speed { lat, lon, max_m_s } => {
            Json::object([("lat", Json::text(lat)), ("lon", Json::text(lon)), ("max", number(*max_m_s))])
        }
        Check::Expression { expect, nulls_pass } => Json::object([
            ("expect", Json::Text(expect.canonical())),
            ("nulls_pass", Json::Bool(*nulls_pass)),
        ]),
        Check::Rate { column } => Json::object([("column", column.as_ref().map_or(Json::Null, Json::text))]),
        Check::Noise { columns, span_ns } => {
            Json::object([("columns", texts(columns)), ("span", ns(*span_ns))])
        }
        Check::Drift { columns, reference, method } => {
            let method = match method {
                DriftMethod::Psi => "psi",
                DriftMethod::Ks => "ks",
            };
            Json::object([
                ("columns", texts(columns)),
                ("reference", Json::text(reference)),
                ("method", Json::text(method)),
            ])
        }
    }
}

fn image(limits: &ImageLimits) -> Json {
    Json::object([
        ("looks", count(limits.looks.into())),
        ("min_brightness", number(limits.min_brightness)),
        ("max_brightness", number(limits.max_brightness)),
        ("min_contrast", number(limits.min_contrast)),
        ("min_sharpness", number(limits.min_sharpness)),
    ])
}

fn of_fence(fence: &Fence) -> Json {
    match fence {
        Fence::Circle { lat, lon, radius_m } => {
            Json::object([("lat", number(*lat)), ("lon", number(*lon)), ("radius_m", number(*radius_m))])
        }
        Fence::Polygon(corners) => {
            Json::list(corners.iter().map(|(lat, lon)| Json::list([number(*lat), number(*lon)])))
        }
    }
}
