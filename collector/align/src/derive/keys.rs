//! The keys of `prepare`, `[[derive]]` and `[episode]`: the reader refuses others by these tables, the JSON schema is made
//! of them.

use super::{DERIVED_MAX, PREPARE_ORDER_MAX, PREPARE_WINDOW_SAMPLES_MAX};
use crate::recipe::keys::{Key, Shape};

const fn must(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, doc }
}

const fn may(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, doc }
}

/// A number above 0.
const POSITIVE: Shape = Shape::Other(r#"{"type":"number","exclusiveMinimum":0}"#);
const NUMBER: Shape = Shape::Other(r#"{"type":"number"}"#);
const NOT_NEGATIVE: Shape = Shape::Other(r#"{"type":"number","minimum":0}"#);
const TEXTS: Shape = Shape::Other(r#"{"type":"array","items":{"type":"string"}}"#);
const FILES: Shape = Shape::Other(r#"{"type":"object","additionalProperties":{"type":"string"}}"#);
const SHARES: Shape = Shape::Other(
    r#"{"type":"object","minProperties":2,"additionalProperties":{"type":"number","exclusiveMinimum":0}}"#,
);

/// Names of steps.
pub const STEPS: &[&str] =
    &["clip_range", "clip_mad", "clip_rate", "median", "exponential", "savitzky_golay", "resample"];
/// Names of what becomes of outliers.
pub const OUTLIERS: &[&str] = &["null", "clamp", "drop"];
/// Names of ways to resample.
pub const RESAMPLE_BY: &[&str] = &["linear", "previous", "mean"];

/// One step of `prepare`.
pub const STEP: &[Key] = &[
    must("step", Shape::Word(STEPS), "what is done to the samples"),
    may("fields", Shape::Fields, "fields it touches; default: every selected number"),
    may(
        "max_gap",
        Shape::Duration,
        "neighbours farther apart are not looked across; default: the column's max_gap",
    ),
    may("min", NUMBER, "clip_range: least value allowed"),
    may("max", NUMBER, "clip_range: greatest value allowed"),
    may("samples", Shape::Count(1, PREPARE_WINDOW_SAMPLES_MAX), "window around the sample, odd"),
    may("limit", POSITIVE, "clip_mad: scaled median absolute deviations allowed"),
    may("min_scale", NOT_NEGATIVE, "clip_mad: the deviation is taken as at least this; default 0"),
    may("per_second", POSITIVE, "clip_rate: greatest change, field's unit per s"),
    may("then", Shape::Word(OUTLIERS), "what becomes of an outlier; default null"),
    may("time_constant", Shape::Duration, "exponential: age at which a weight has fallen to 1/e"),
    may(
        "order",
        Shape::Count(0, PREPARE_ORDER_MAX),
        "savitzky_golay: order of the polynomial, below samples",
    ),
    may("period", Shape::Duration, "resample: distance of the new samples"),
    may("by", Shape::Word(RESAMPLE_BY), "resample: the new values; default linear"),
];

/// The methods of `[[derive]]`, in the order of [`DERIVE`].
pub const METHODS: &[&str] =
    &["expression", "convert", "list", "band", "picture", "motion", "geohash", "h3", "geofence", "command"];

/// `[[derive]]`.
pub const DERIVE: &[Key] = &[
    must("name", Shape::Name, "name of the column"),
    may("version", Shape::Count(1, u32::MAX), "raised when its meaning changes; default 1"),
    may("doc", Shape::Text, "for people; not part of the recipe's id"),
    may("unit", Shape::Text, "UCUM unit of the result"),
    may("expression", Shape::Text, "a formula over the row's columns"),
    may("convert", Shape::Table(CONVERT), "another unit; needs `unit`"),
    may("list", Shape::Table(LIST), "a statistic of a list column"),
    may("band", Shape::Table(BAND), "power of a list column within a band of frequencies"),
    may("picture", Shape::Table(PICTURE), "something of a picture"),
    may("motion", Shape::Table(MOTION), "speed, distance or heading since the row before"),
    may("geohash", Shape::Table(GEOHASH), "geohash of a fix"),
    may("h3", Shape::Table(H3), "H3 cell of a fix"),
    may("geofence", Shape::Table(GEOFENCE), "name of the first fence around a fix"),
    may("command", Shape::Table(COMMAND), "the answer of a program"),
];

/// `convert`.
pub const CONVERT: &[Key] =
    &[must("column", Shape::Text, "numbers"), must("from", Shape::Text, "UCUM unit they have")];

/// Names of statistics of lists.
pub const LIST_STATS: &[&str] =
    &["mean", "min", "max", "std", "sum", "count", "first", "last", "median", "rms", "range", "energy"];

/// `list`.
pub const LIST: &[Key] = &[
    must("column", Shape::Text, "list of numbers"),
    must("stat", Shape::Word(LIST_STATS), "which; nulls and NaN are left out"),
];

/// Names of tapers.
pub const TAPERS: &[&str] = &["none", "hann"];

/// `band`.
pub const BAND: &[Key] = &[
    must("column", Shape::Text, "list of numbers"),
    may("rate_hz", POSITIVE, "samples a second; or `times`"),
    may("times", Shape::Text, "list column of their times, ns; or `rate_hz`"),
    must("lo_hz", NOT_NEGATIVE, "from this frequency"),
    must("hi_hz", POSITIVE, "up to below this one"),
    may("taper", Shape::Word(TAPERS), "weights before the transform; default hann"),
];

/// Names of features of pictures.
pub const PICTURE_FEATURES: &[&str] =
    &["width", "height", "brightness", "contrast", "sharpness", "hash", "thumbnail"];

/// `picture`.
pub const PICTURE: &[Key] = &[
    must("column", Shape::Text, "the picture's column"),
    must("feature", Shape::Word(PICTURE_FEATURES), "what is taken of it, standing upright"),
    may("width_max", Shape::Count(1, 4_096), "thumbnail: greatest width, pixels; default 320"),
    may("height_max", Shape::Count(1, 4_096), "thumbnail: greatest height, pixels; default 320"),
    may("quality", Shape::Count(1, 100), "thumbnail: JPEG quality; default 80"),
];

/// Names of features of motion.
pub const MOTION_FEATURES: &[&str] = &["speed", "distance", "heading"];
/// Names of figures of the earth.
pub const EARTH: &[&str] = &["wgs84", "great_circle"];

/// `motion`.
pub const MOTION: &[Key] = &[
    must("lat", Shape::Text, "column of latitudes, degrees"),
    must("lon", Shape::Text, "column of longitudes, degrees"),
    must("feature", Shape::Word(MOTION_FEATURES), "speed (m/s), distance (m) or heading (deg)"),
    must("max_gap", Shape::Duration, "rows farther apart give null"),
    may("model", Shape::Word(EARTH), "figure of the earth; default wgs84"),
];

/// `geohash`.
pub const GEOHASH: &[Key] = &[
    must("lat", Shape::Text, "column of latitudes, degrees"),
    must("lon", Shape::Text, "column of longitudes, degrees"),
    may("length", Shape::Count(1, 12), "characters; default 7, about 150 m"),
];

/// `h3`.
pub const H3: &[Key] = &[
    must("lat", Shape::Text, "column of latitudes, degrees"),
    must("lon", Shape::Text, "column of longitudes, degrees"),
    may("resolution", Shape::Count(0, 15), "default 9, about 0.1 km2"),
];

/// `geofence`.
pub const GEOFENCE: &[Key] = &[
    must("lat", Shape::Text, "column of latitudes, degrees"),
    must("lon", Shape::Text, "column of longitudes, degrees"),
    may("file", Shape::Text, "GeoJSON file of polygons with a property `name`; or `fence`"),
    may("fence", Shape::Tables(FENCE), "polygons written here; or `file`"),
];

/// A fence written in the recipe.
pub const FENCE: &[Key] = &[
    must("name", Shape::Text, "its name"),
    must(
        "ring",
        Shape::Other(
            r#"{"type":"array","minItems":3,"items":{"type":"array","minItems":2,"maxItems":2,"items":{"type":"number"}}}"#,
        ),
        "corners [longitude, latitude], degrees",
    ),
];

/// Names of what becomes of rows without an answer.
pub const ON_FAILURE: &[&str] = &["null", "hold"];

/// `command`.
pub const COMMAND: &[Key] = &[
    must("program", Shape::Text, "path, or a name looked up in PATH"),
    may("args", TEXTS, "arguments; {file:NAME} stands for the path of a file below"),
    may("files", FILES, "files its answer rests on, by name: their hashes are part of the recipe's id"),
    must("version", Shape::Text, "its version, raised when its meaning changes"),
    must("inputs", Shape::Columns, "columns it is given, in this order"),
    must(
        "output",
        Shape::Text,
        "type of its answer: bool, int64, float32, float64, text, list<float32>, list<float32, 128>",
    ),
    may("timeout", Shape::Duration, "longest run over one batch; default 60s"),
    may("output_mib_max", Shape::Count(1, 4_096), "most bytes of its answer for one batch, MiB; default 64"),
    may("memory_mib_max", Shape::Count(16, 1_048_576), "most memory, MiB; default 2048"),
    may("batch_rows_max", Shape::Count(1, 65_536), "rows given at once; default 1024"),
    may(
        "on_failure",
        Shape::Word(ON_FAILURE),
        "rows it gave no answer for: null (flagged) or hold; default null",
    ),
];

/// `[episode]`.
pub const EPISODE: &[Key] = &[
    may("gap", Shape::Duration, "rows farther apart are of two episodes"),
    may("begin", Shape::Text, "a row where this formula becomes true begins an episode"),
    may("within", Shape::Text, "rows where this formula is not true are of no episode"),
    may("trip", Shape::Table(TRIP), "trips between stays"),
    may("duration_max", Shape::Duration, "a longer one is cut"),
    may("split", SHARES, "shares of episodes, adding up to 1: { train = 0.8, val = 0.1, test = 0.1 }"),
    may("salt", Shape::Text, "mixed into the hash that chooses a split; default empty"),
];

/// `trip`.
pub const TRIP: &[Key] = &[
    must("lat", Shape::Text, "column of latitudes, degrees"),
    must("lon", Shape::Text, "column of longitudes, degrees"),
    must("radius_m", POSITIVE, "radius of a stay, m"),
    must("rest", Shape::Duration, "how long a stay lasts at least"),
];

/// What a recipe with too many derived columns is told.
pub(super) fn too_many(found: usize) -> String {
    format!("{found} derived columns, at most {DERIVED_MAX}")
}
