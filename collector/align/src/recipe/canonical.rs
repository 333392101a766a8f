//! The canonical form of a recipe: one text per meaning, so that its hash names it.
//!
//! Defaults are filled in for the keys that the first version of this form had. Keys that came later stand there only
//! where they say something else than their default: so a recipe keeps its id when the language grows.

use super::keys::STATS;
use super::model::{
    AltitudeDatum, Between, Column, Condition, Constant, Duplicates, EarthModel, Entity, Fallback,
    LatePolicy, Method, Mode, Nulls, Recipe, Spine, SpineSource, Tie,
};
use super::read::{ALLOWED_LATENESS_DEFAULT_NS, MAX_OUT_OF_ORDER_DEFAULT_NS, SORT_DEFAULT};
use crate::derive::canonical::{derived, episodes, step};
use crate::json::{Json, number_text};
use headwater_core::id::Sha256;
use std::collections::BTreeMap;

/// Members of an object, those that hold their default left out.
#[derive(Default)]
struct Members(BTreeMap<String, Json>);

impl Members {
    fn always(&mut self, key: &str, value: Json) -> &mut Self {
        self.0.insert(key.to_owned(), value);
        self
    }

    fn unless(&mut self, is_default: bool, key: &str, value: impl FnOnce() -> Json) -> &mut Self {
        if !is_default {
            self.0.insert(key.to_owned(), value());
        }
        self
    }

    fn done(&mut self) -> Json {
        Json::Object(std::mem::take(&mut self.0))
    }
}

impl Recipe {
    /// The canonical JSON (RFC 8785): durations in ns as text, keys sorted, `doc` left out.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.canonical_json().canonical()
    }

    /// SHA-256 of "headwater.recipe.v1\n" and the canonical JSON, hex.
    #[must_use]
    pub fn id(&self) -> String {
        Sha256::of(format!("headwater.recipe.v1\n{}", self.canonical()).as_bytes()).to_string()
    }

    /// The canonical form as a tree.
    #[must_use]
    pub fn canonical_json(&self) -> Json {
        let mark = &self.watermark;
        let late = match mark.late {
            LatePolicy::Recommit => "recommit",
            LatePolicy::SideStream => "side_stream",
            LatePolicy::DropAndCount => "drop_and_count",
        };
        let lateness = mark.allowed_lateness_ns;
        let watermark = Members::default()
            .always("idle_timeout", Json::long(mark.idle_timeout_ns))
            .unless(mark.max_out_of_order_ns == MAX_OUT_OF_ORDER_DEFAULT_NS, "max_out_of_order", || {
                Json::long(mark.max_out_of_order_ns)
            })
            .unless(lateness == ALLOWED_LATENESS_DEFAULT_NS, "allowed_lateness", || Json::long(lateness))
            .done();
        Members::default()
            .always("headwater_recipe", Json::text("1"))
            .always("name", Json::text(self.name.as_str()))
            .always("spine", spine(&self.spine))
            .always("keys", entity(&self.entity))
            .always("column", Json::list(self.columns.iter().map(column)))
            .always("watermark", watermark)
            .unless(self.derived.is_empty(), "derive", || Json::list(self.derived.iter().map(derived)))
            .unless(self.episodes.is_none(), "episode", || {
                self.episodes.as_ref().map_or(Json::Null, episodes)
            })
            .unless(self.mode == Mode::Point, "time", || Json::object([("mode", Json::text("certain"))]))
            .unless(mark.late == LatePolicy::Recommit, "late", || {
                Json::object([("policy", Json::text(late))])
            })
            .unless(self.output.sort == SORT_DEFAULT, "output", || {
                Json::object([("sort", Json::texts(&self.output.sort))])
            })
            .done()
    }
}

fn spine(spine: &Spine) -> Json {
    let mut members = Members::default();
    members
        .always("min_grade", Json::text(spine.min_grade.as_str()))
        .always("max_err", spine.max_err_ns.map_or(Json::Null, Json::long));
    match &spine.source {
        SpineSource::Stream { stream, at, select } => members
            .always("stream", Json::text(stream.as_str()))
            .always("select", Json::texts(select))
            .unless(at.is_none(), "at", || at.map_or(Json::Null, |at| Json::text(at.as_str()))),
        SpineSource::Grid { period_ns, phase_ns, epoch_ns } => members.always(
            "grid",
            Json::object([
                ("period", Json::long(*period_ns)),
                ("phase", Json::long(*phase_ns)),
                ("epoch", Json::long(*epoch_ns)),
            ]),
        ),
        SpineSource::Union { streams } => members.always("union", Json::texts(streams)),
        SpineSource::Event { stream, when, select } => members.always("select", Json::texts(select)).always(
            "event",
            Json::object([("stream", Json::text(stream.as_str())), ("where", condition(when))]),
        ),
    };
    members.done()
}

fn condition(of: &Condition) -> Json {
    Json::object([
        ("field", Json::text(of.field.as_str())),
        ("op", Json::text(of.op.as_str())),
        ("value", constant(&of.value)),
    ])
}

/// A number apart from the text that looks like it.
fn constant(of: &Constant) -> Json {
    match of {
        Constant::Number(value) => Json::object([("number", Json::text(number_text(*value)))]),
        Constant::Text(text) => Json::text(text),
        Constant::Bool(value) => Json::Bool(*value),
    }
}

fn entity(of: &Entity) -> Json {
    match of {
        Entity::Device => Json::object([("entity", Json::texts(["device"]))]),
        Entity::Site { sites } => Json::object([
            ("entity", Json::texts(["site"])),
            (
                "sites",
                Json::object(sites.iter().map(|(site, devices)| (site.as_str(), Json::texts(devices)))),
            ),
        ]),
    }
}

fn column(column: &Column) -> Json {
    let mut members = Members::default();
    let dup = if column.duplicates == Duplicates::Last { "last" } else { "first" };
    let nulls = if column.nulls == Nulls::Skip { "skip" } else { "take" };
    members
        .always("name", Json::text(column.name.as_str()))
        .always("stream", Json::text(column.stream.as_str()))
        .always("select", Json::texts(&column.select))
        .always("dup", Json::text(dup))
        .always("null_policy", Json::text(nulls))
        .always("offset", Json::long(column.offset_ns))
        .always("fallback", fallback(&column.fallback))
        .unless(column.device.is_none(), "device", || {
            column.device.as_ref().map_or(Json::Null, |device| Json::text(device.as_str()))
        })
        .unless(column.prepare.is_empty(), "prepare", || Json::list(column.prepare.iter().map(step)))
        .unless(column.tie == Tie::Previous, "tie", || Json::text("next"))
        .unless(column.units.is_empty(), "unit", || {
            Json::object(column.units.iter().map(|(field, unit)| (field.as_str(), Json::text(unit))))
        })
        .unless(!column.uncertainty, "uncertainty", || Json::Bool(true));
    method(&mut members, &column.method);
    members.done()
}

fn method(members: &mut Members, method: &Method) {
    members.always("method", Json::text(method.as_str()));
    match method {
        Method::Previous { tolerance_ns }
        | Method::Next { tolerance_ns }
        | Method::Nearest { tolerance_ns } => {
            members.always("tolerance", Json::long(*tolerance_ns));
        }
        Method::Linear(of) | Method::Slerp(of) => between(members, of),
        Method::Geodesic { between: of, model, datum } => {
            between(members, of);
            let datum = match datum {
                None => Json::Null,
                Some(AltitudeDatum::Hae) => Json::text("hae"),
                Some(AltitudeDatum::Msl) => Json::text("msl"),
            };
            let model = if *model == EarthModel::Wgs84 { "wgs84" } else { "great_circle" };
            members.always("geodesic", Json::object([("datum", datum), ("model", Json::text(model))]));
        }
        Method::Window { from_ns, to_ns, stats, min_count } => {
            debug_assert!(stats.iter().all(|stat| STATS.contains(&stat.as_str())));
            members
                .always("window", window(*from_ns, *to_ns))
                .always("stats", Json::texts(stats.iter().map(|stat| stat.as_str())))
                .always("min_count", Json::long(i64::from(*min_count)));
        }
        Method::List { from_ns, to_ns, max_items } => {
            members
                .always("window", window(*from_ns, *to_ns))
                .always("max_items", Json::long(i64::from(*max_items)));
        }
    }
}

fn between(members: &mut Members, of: &Between) {
    members.always("max_gap", Json::long(of.max_gap_ns)).unless(
        of.extrapolate_ns == 0,
        "extrapolate",
        || Json::long(of.extrapolate_ns),
    );
}

fn window(from_ns: i64, to_ns: i64) -> Json {
    Json::object([("from", Json::long(from_ns)), ("to", Json::long(to_ns))])
}

fn fallback(of: &Fallback) -> Json {
    match of {
        Fallback::Null => Json::text("null"),
        Fallback::Drop => Json::text("drop"),
        Fallback::Locf { max_age_ns } => Json::object([("locf", Json::long(*max_age_ns))]),
        Fallback::Const(by_field) => {
            let by_field = by_field.iter().map(|(field, value)| (field.as_str(), constant(value)));
            Json::object([("const", Json::object(by_field))])
        }
    }
}

impl Method {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Previous { .. } => "previous",
            Self::Next { .. } => "next",
            Self::Nearest { .. } => "nearest",
            Self::Linear(_) => "linear",
            Self::Slerp(_) => "slerp",
            Self::Geodesic { .. } => "geodesic",
            Self::Window { .. } => "window",
            Self::List { .. } => "list",
        }
    }
}
