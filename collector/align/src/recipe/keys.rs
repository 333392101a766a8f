//! The keys of a recipe, once: the reader refuses others by these tables, and the JSON schema is made of them.

/// What a key's value must look like.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// The number of this format.
    Version,
    /// Any text.
    Text,
    /// Name of a kind, field or column.
    Name,
    /// Name of a stream.
    Stream,
    /// Name of a device.
    Device,
    /// Field names, at least one.
    Fields,
    /// Stream names, at least this many.
    Streams(usize),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of such words, at least one, each once.
    Words(&'static [&'static str]),
    /// A duration that is not negative.
    Duration,
    /// A duration of either sign.
    Shift,
    /// Whole number within bounds.
    Count(u32, u32),
    /// True or false.
    Bool,
    /// An instant of UTC.
    Moment,
    /// A comparison such as `speed > 5`.
    Condition,
    /// UCUM units by field.
    Units,
    /// A fallback.
    Fallback,
    /// Device lists by site.
    Sites,
    /// Names of output columns.
    Columns,
    /// A table of its own.
    Table(&'static [Key]),
    /// Any number of tables.
    Tables(&'static [Key]),
    /// A JSON schema, as text: for sections another module reads.
    Other(&'static str),
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// Its value.
    pub shape: Shape,
    /// Must be there.
    pub required: bool,
    /// For people: meaning, unit, default.
    pub doc: &'static str,
}

const fn must(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, doc }
}

const fn may(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, doc }
}

/// The whole file.
pub const RECIPE: &[Key] = &[
    must("headwater_recipe", Shape::Version, "version of this format: 1"),
    must("name", Shape::Name, "rows go to table aligned.<name>"),
    may("doc", Shape::Text, "for people; not part of the recipe's id"),
    must("spine", Shape::Table(SPINE), "what gives the instants: one row each"),
    may("keys", Shape::Table(KEYS), "whose streams meet in a row; default: each device's own"),
    may("time", Shape::Table(TIME), "what a match may rest on"),
    must("column", Shape::Tables(COLUMN), "fields of one stream, matched together; in output order"),
    may("watermark", Shape::Table(WATERMARK), "when a row is final"),
    may("late", Shape::Table(LATE), "what happens to what comes after that"),
    may("output", Shape::Table(OUTPUT), "how rows lie in the table"),
];

/// `[spine]`.
pub const SPINE: &[Key] = &[
    may("stream", Shape::Stream, "one row a sample of this stream"),
    may("grid", Shape::Table(GRID), "one row every period of UTC"),
    may("union", Shape::Streams(2), "one row a sample of any of these streams"),
    may("event", Shape::Table(EVENT), "one row a sample that meets a condition its predecessor did not"),
    may("at", Shape::Word(STAMP_KINDS), "stamp kind wanted; samples of another are left out and counted"),
    may("select", Shape::Fields, "fields taken from the spine's own stream"),
    may(
        "min_grade",
        Shape::Word(GRADES),
        "rows of a lower grade are left out and counted; default estimated",
    ),
    may("max_err", Shape::Duration, "so are those with a larger error; default: any"),
];

/// `[spine] grid`.
pub const GRID: &[Key] = &[
    must("period", Shape::Duration, "distance of two rows"),
    may("phase", Shape::Duration, "offset of the first, below the period; default 0s"),
    may("epoch", Shape::Moment, "origin; default 1970-01-01T00:00:00Z"),
];

/// `[spine] event`.
pub const EVENT: &[Key] = &[
    must("stream", Shape::Stream, "whose samples are asked"),
    must("where", Shape::Condition, "condition over one of its fields, such as \"speed > 5\""),
];

/// `[keys]`.
pub const KEYS: &[Key] = &[
    may(
        "entity",
        Shape::Words(&["device", "site"]),
        "[\"device\"], or [\"site\"] for several; default device",
    ),
    may("sites", Shape::Sites, "devices by site: { \"berlin\" = [\"pi-1\", \"pi-2\"] }"),
];

/// `[time]`.
pub const TIME: &[Key] = &[
    may(
        "mode",
        Shape::Word(&["point", "certain"]),
        "point uses estimates, certain what holds within all bounds",
    ),
    may("track", Shape::Word(&["latest"]), "clock tracks; pinned to concrete ones in the lineage"),
];

/// `[[column]]`.
pub const COLUMN: &[Key] = &[
    must("name", Shape::Name, "output columns are <name>_<field>, sources <name>_src"),
    must("stream", Shape::Stream, "where the samples come from"),
    may("device", Shape::Device, "in a site: only from this device"),
    must("select", Shape::Fields, "fields taken"),
    must("method", Shape::Word(&METHOD_NAMES), "how they are matched"),
    may("tolerance", Shape::Duration, "greatest distance of a match, inclusive"),
    may("max_gap", Shape::Duration, "no value if the two neighbours are farther apart"),
    may("extrapolate", Shape::Duration, "beyond the last neighbour by at most this; default never"),
    may("geodesic", Shape::Table(GEODESIC), "figure of the earth, and what altitude is measured from"),
    may("window", Shape::Table(WINDOW), "half-open span around the instant"),
    may("stats", Shape::Words(STATS), "statistics of the window; columns are <name>_<field>_<stat>"),
    may("min_count", Shape::Count(1, 1_000_000), "fewer samples give null; default 1"),
    may(
        "max_items",
        Shape::Count(1, LIST_ITEMS_MAX),
        "most samples of a row's list; more are cut and flagged",
    ),
    may(
        "offset",
        Shape::Shift,
        "ADDED to this stream's event time; Kalibr's shift s is offset = -s; default 0s",
    ),
    may("dup", Shape::Word(&["last", "first"]), "which of samples of equal time counts; default last"),
    may(
        "tie",
        Shape::Word(&["previous", "next"]),
        "which of two equally near samples counts; default previous",
    ),
    may("null_policy", Shape::Word(&["skip", "take"]), "samples of nulls only; default skip"),
    may("fallback", Shape::Fallback, "what stands where nothing matched; default null"),
    may("unit", Shape::Units, "UCUM unit by field, converted from the declared one"),
    may("uncertainty", Shape::Bool, "adds <name>_<field>_u, the value's uncertainty; default false"),
];

/// `[[column]] geodesic`.
pub const GEODESIC: &[Key] = &[
    may("model", Shape::Word(&["wgs84", "great_circle"]), "figure of the earth; default wgs84"),
    may("altitude", Shape::Word(&["linear"]), "how altitude is interpolated"),
    may("datum", Shape::Word(&["hae", "msl"]), "what altitude is measured from; needed with a third field"),
];

/// `[[column]] window`.
pub const WINDOW: &[Key] = &[
    must("from", Shape::Shift, "start, from the instant; inclusive"),
    must("to", Shape::Shift, "end, from the instant; exclusive"),
];

/// `[watermark]`.
pub const WATERMARK: &[Key] = &[
    may("max_out_of_order", Shape::Duration, "samples may be this much out of order; default 2s"),
    may("idle_timeout", Shape::Duration, "after it a row is written provisionally; default 10min"),
    may("allowed_lateness", Shape::Duration, "later changes do not touch final rows; default 30d"),
];

/// `[late]`.
pub const LATE: &[Key] =
    &[may("policy", Shape::Word(LATE_POLICIES), "within the allowed lateness, and beyond; default recommit")];

/// `[output]`.
pub const OUTPUT: &[Key] = &[
    may("partition", Shape::Words(&["day(ts)"]), "every table of the lake is partitioned by day(ts)"),
    may("sort", Shape::Columns, "order of rows in files; default device, ts_ns, row_key"),
    may("floats", Shape::Word(&["canonical"]), "one NaN, and -0.0 becomes 0.0"),
];

/// Names of stamp kinds.
pub const STAMP_KINDS: &[&str] = &["instant", "exposure_start", "exposure_mid", "window_end", "arrival"];
/// Names of grades, best first.
pub const GRADES: &[&str] = &["guaranteed", "estimated", "ordering_only"];
/// Names of window statistics.
pub const STATS: &[&str] = &["mean", "min", "max", "std", "sum", "count", "first", "last"];
/// Names of late policies.
pub const LATE_POLICIES: &[&str] = &["recommit", "side_stream", "drop_and_count"];
/// Most samples in one row's list: ten seconds of a 1 kHz sensor; a row of the spine holds them in memory at once.
pub const LIST_ITEMS_MAX: u32 = 10_000;

/// A method: what it needs, and what else it takes.
#[derive(Debug, Clone, Copy)]
pub struct MethodKeys {
    /// As it is written.
    pub name: &'static str,
    /// Keys it cannot do without.
    pub needs: &'static [&'static str],
    /// Further keys that only some methods take.
    pub takes: &'static [&'static str],
}

/// Names of methods.
pub const METHOD_NAMES: [&str; 8] =
    ["previous", "next", "nearest", "linear", "slerp", "geodesic", "window", "list"];

/// The methods, in the order of [`METHOD_NAMES`].
pub const METHODS: [MethodKeys; 8] = [
    MethodKeys { name: "previous", needs: &["tolerance"], takes: &[] },
    MethodKeys { name: "next", needs: &["tolerance"], takes: &[] },
    MethodKeys { name: "nearest", needs: &["tolerance"], takes: &["tie"] },
    MethodKeys { name: "linear", needs: &["max_gap"], takes: &["extrapolate", "uncertainty"] },
    MethodKeys { name: "slerp", needs: &["max_gap"], takes: &["extrapolate", "uncertainty"] },
    MethodKeys { name: "geodesic", needs: &["max_gap"], takes: &["extrapolate", "geodesic", "uncertainty"] },
    MethodKeys { name: "window", needs: &["window", "stats"], takes: &["min_count"] },
    MethodKeys { name: "list", needs: &["window", "max_items"], takes: &[] },
];

/// Keys that belong to some methods only.
pub const METHOD_KEYS: [&str; 10] = [
    "tolerance",
    "max_gap",
    "extrapolate",
    "uncertainty",
    "geodesic",
    "window",
    "stats",
    "min_count",
    "max_items",
    "tie",
];
