//! Declarations as canonical JSON: defaults filled in, durations in ns and numbers as text, people's words left out.
//!
//! Paths of files are no part of it, the hashes of what is in them are: a recipe moved to another folder keeps its id, one
//! whose model was exchanged does not.

use super::keys::{
    EARTH, LIST_STATS, METHODS, MOTION_FEATURES, ON_FAILURE, OUTLIERS, PICTURE_FEATURES, RESAMPLE_BY, TAPERS,
};
use super::model::*;
use crate::json::{Json, number_text};
use crate::recipe::EarthModel;

fn word(words: &[&str], place: usize) -> Json {
    Json::text(words.get(place).copied().unwrap_or_default())
}

fn number(value: f64) -> Json {
    Json::text(number_text(value))
}

fn count(value: impl ToString) -> Json {
    Json::text(value.to_string())
}

fn optional(value: Option<Json>) -> Json {
    value.unwrap_or(Json::Null)
}

/// One step of `prepare`.
#[must_use]
pub fn step(step: &Step) -> Json {
    let mut members = vec![
        ("step", Json::text(step.kind.word())),
        ("fields", Json::texts(step.fields.iter())),
        ("max_gap", Json::long(step.max_gap_ns)),
    ];
    let then = |then: Outlier| ("then", word(OUTLIERS, then as usize));
    match &step.kind {
        StepKind::ClipRange { min, max, then: outlier } => {
            members.extend([
                ("min", optional(min.map(number))),
                ("max", optional(max.map(number))),
                then(*outlier),
            ]);
        }
        StepKind::ClipMad { samples, limit, min_scale, then: outlier } => members.extend([
            ("samples", count(samples)),
            ("limit", number(*limit)),
            ("min_scale", number(*min_scale)),
            then(*outlier),
        ]),
        StepKind::ClipRate { per_second, then: outlier } => {
            members.extend([("per_second", number(*per_second)), then(*outlier)]);
        }
        StepKind::Median { samples } => members.push(("samples", count(samples))),
        StepKind::Exponential { time_constant_ns } => {
            members.push(("time_constant", Json::long(*time_constant_ns)))
        }
        StepKind::SavitzkyGolay { samples, order } => {
            members.extend([("samples", count(samples)), ("order", count(order))]);
        }
        StepKind::Resample { period_ns, by } => {
            members.extend([("period", Json::long(*period_ns)), ("by", word(RESAMPLE_BY, *by as usize))]);
        }
    }
    Json::object(members)
}

/// One `[[derive]]`.
#[must_use]
pub fn derived(derived: &Derived) -> Json {
    Json::object([
        ("name", Json::text(derived.name.as_str())),
        ("version", count(derived.version)),
        ("unit", optional(derived.unit.as_deref().map(Json::text))),
        (derived.by.word(), method(&derived.by)),
    ])
}

fn fix(fix: &Fix) -> Vec<(&'static str, Json)> {
    vec![("lat", Json::text(fix.lat.as_str())), ("lon", Json::text(fix.lon.as_str()))]
}

fn method(by: &Derivation) -> Json {
    match by {
        Derivation::Expression { formula } => Json::text(formula.to_string()),
        Derivation::Convert { column, from } => {
            Json::object([("column", Json::text(column.as_str())), ("from", Json::text(from.as_str()))])
        }
        Derivation::List { column, stat } => Json::object([
            ("column", Json::text(column.as_str())),
            ("stat", word(LIST_STATS, *stat as usize)),
        ]),
        Derivation::Band(band) => band_of(band),
        Derivation::Picture { column, feature } => picture(column, feature),
        Derivation::Motion { fix: at, feature, max_gap_ns, model } => {
            let mut members = fix(at);
            members.extend([
                ("feature", word(MOTION_FEATURES, *feature as usize)),
                ("max_gap", Json::long(*max_gap_ns)),
                ("model", word(EARTH, usize::from(*model == EarthModel::GreatCircle))),
            ]);
            Json::object(members)
        }
        Derivation::Geohash { fix: at, length } => {
            let mut members = fix(at);
            members.push(("length", count(length)));
            Json::object(members)
        }
        Derivation::H3 { fix: at, resolution } => {
            let mut members = fix(at);
            members.push(("resolution", count(resolution)));
            Json::object(members)
        }
        Derivation::Geofence { fix: at, fences } => {
            let mut members = fix(at);
            members.push(("sha256", Json::text(fences.sha256.to_string())));
            Json::object(members)
        }
        Derivation::Command(command) => command_of(command),
    }
}

fn band_of(band: &Band) -> Json {
    let (rate, times) = match &band.sampling {
        Sampling::Rate(hz) => (number(*hz), Json::Null),
        Sampling::Times(column) => (Json::Null, Json::text(column.as_str())),
    };
    Json::object([
        ("column", Json::text(band.column.as_str())),
        ("rate_hz", rate),
        ("times", times),
        ("lo_hz", number(band.lo_hz)),
        ("hi_hz", number(band.hi_hz)),
        ("taper", word(TAPERS, band.taper as usize)),
    ])
}

fn picture(column: &str, feature: &PictureFeature) -> Json {
    let mut members =
        vec![("column", Json::text(column)), ("feature", word(PICTURE_FEATURES, feature.place()))];
    if let PictureFeature::Thumbnail { width_max, height_max, quality } = feature {
        members.extend([
            ("width_max", count(width_max)),
            ("height_max", count(height_max)),
            ("quality", count(quality)),
        ]);
    }
    Json::object(members)
}

/// What a command's answer rests on, as it stands in the recipe's id and in the lineage.
#[must_use]
pub fn command_of(command: &Command) -> Json {
    let files = command.files.iter().map(|file| (file.name.clone(), Json::text(file.sha256.to_string())));
    // A program with a path is its hash, one from PATH its name: what that name means is what `version` declares.
    let program = match &command.program_sha256 {
        Some(sha256) => ("program_sha256", Json::text(sha256.to_string())),
        None => ("program", Json::text(command.program.as_str())),
    };
    Json::object([
        program,
        ("args", Json::texts(command.args.iter())),
        ("files", Json::object(files)),
        ("version", Json::text(command.version.as_str())),
        ("inputs", Json::texts(command.inputs.iter())),
        ("output", Json::text(command.output.to_string())),
        ("timeout", Json::long(command.timeout_ns)),
        ("output_bytes_max", count(command.output_bytes_max)),
        ("memory_bytes_max", count(command.memory_bytes_max)),
        ("batch_rows_max", count(command.batch_rows_max)),
        ("on_failure", word(ON_FAILURE, command.on_failure as usize)),
    ])
}

/// `[episode]`.
#[must_use]
pub fn episodes(episodes: &Episodes) -> Json {
    let formula =
        |formula: &Option<crate::expr::Expr>| optional(formula.as_ref().map(|f| Json::text(f.to_string())));
    let trip = episodes.trip.as_ref().map(|trip| {
        let mut members = fix(&trip.fix);
        members.extend([("radius_m", number(trip.radius_m)), ("rest", Json::long(trip.rest_ns))]);
        Json::object(members)
    });
    let splits = episodes.splits.iter().map(|split| (split.name.clone(), count(split.share)));
    Json::object([
        ("gap", optional(episodes.gap_ns.map(Json::long))),
        ("begin", formula(&episodes.begin)),
        ("within", formula(&episodes.within)),
        ("trip", optional(trip)),
        ("duration_max", optional(episodes.duration_max_ns.map(Json::long))),
        ("split", Json::object(splits)),
        ("salt", Json::text(episodes.salt.as_str())),
    ])
}

impl StepKind {
    /// As it is written in a recipe.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::ClipRange { .. } => "clip_range",
            Self::ClipMad { .. } => "clip_mad",
            Self::ClipRate { .. } => "clip_rate",
            Self::Median { .. } => "median",
            Self::Exponential { .. } => "exponential",
            Self::SavitzkyGolay { .. } => "savitzky_golay",
            Self::Resample { .. } => "resample",
        }
    }
}

impl Derivation {
    /// As it is written in a recipe.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let place = match self {
            Self::Expression { .. } => 0,
            Self::Convert { .. } => 1,
            Self::List { .. } => 2,
            Self::Band(_) => 3,
            Self::Picture { .. } => 4,
            Self::Motion { .. } => 5,
            Self::Geohash { .. } => 6,
            Self::H3 { .. } => 7,
            Self::Geofence { .. } => 8,
            Self::Command(_) => 9,
        };
        METHODS.get(place).copied().unwrap_or_default()
    }
}

impl PictureFeature {
    fn place(&self) -> usize {
        match self {
            Self::Width => 0,
            Self::Height => 1,
            Self::Brightness => 2,
            Self::Contrast => 3,
            Self::Sharpness => 4,
            Self::Hash => 5,
            Self::Thumbnail { .. } => 6,
        }
    }
}

impl std::fmt::Display for CommandType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |f: &mut std::fmt::Formatter<'_>, item: &str, length: &Option<u32>| match length {
            Some(length) => write!(f, "list<{item}, {length}>"),
            None => write!(f, "list<{item}>"),
        };
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int64 => f.write_str("int64"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::Text => f.write_str("text"),
            Self::Float32List { length } => list(f, "float32", length),
            Self::Float64List { length } => list(f, "float64", length),
        }
    }
}
