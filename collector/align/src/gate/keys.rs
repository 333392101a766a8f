//! What may stand in a file of rules: the reader, the JSON Schema and the explanations go by these lists.

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    Texts,
    Number,
    Count,
    Duration,
    Moment,
    Truth,
    Formula,
    Word(&'static [&'static str]),
    Types,
    Circle,
    Corners,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) holds: Holds,
    pub(super) about: &'static str,
}

/// What a check's limits are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measures {
    /// The share of offending rows.
    Share,
    /// One value, in this unit.
    Value(&'static str),
}

/// One check.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckKeys {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) measures: Measures,
    pub(super) needs: &'static [&'static str],
    pub(super) keys: &'static [Key],
}

/// Types of columns in `schema`.
pub const TYPES: [&str; 9] =
    ["any", "boolean", "integer", "number", "text", "timestamp", "bytes", "struct", "list"];
pub(super) const GRADES: [&str; 3] = ["ordering_only", "estimated", "guaranteed"];
pub(super) const POLICIES: [&str; 3] = ["quarantine", "hold", "warn"];
pub(super) const SCOPES: [&str; 2] = ["device", "window"];
pub(super) const METHODS: [&str; 2] = ["psi", "ks"];
pub(super) const NULLS: [&str; 2] = ["pass", "fail"];

const fn key(name: &'static str, holds: Holds, about: &'static str) -> Key {
    Key { name, holds, about }
}

const COLUMNS: Key = key("columns", Holds::Texts, "columns, such as [\"motion_accel_x\"]");
const GROUPS: Key = key(
    "columns",
    Holds::Texts,
    "column groups of the recipe, such as [\"place\"]; [\"*\"], the default, is all",
);
const PICTURE: Key = key("column", Holds::Text, "column of the picture; default \"image\"");
const LAT: Key = key("lat", Holds::Text, "column of the latitude, degrees");
const LON: Key = key("lon", Holds::Text, "column of the longitude, degrees");

/// Keys of a file.
pub(super) const FILE: &[Key] = &[
    key("headwater_gate", Holds::Count, "version of the format: 1"),
    key("name", Holds::Text, "name of the set; verdicts are called <name>.<rule>"),
    key("doc", Holds::Text, "for people"),
    key("tables", Holds::Texts, "tables it judges, such as [\"aligned.drive\"]; default [\"aligned.*\"]"),
];

/// Keys every rule may have.
pub(super) const RULE: &[Key] = &[
    key("name", Holds::Text, "name of the rule, once in the file"),
    key("check", Holds::Text, "what is looked at"),
    key("doc", Holds::Text, "for people"),
    key("devices", Holds::Texts, "only rows of these devices, such as [\"pi-*\"]"),
    key(
        "scope",
        Holds::Word(&SCOPES),
        "device: each for itself, and only its rows stay back; window: all as one",
    ),
    key("where", Holds::Formula, "only rows that meet this formula"),
    key(
        "min_rows",
        Holds::Count,
        "with fewer rows the rule says nothing; default: so many that one bad row is not too many, 20 at most, and for statistics 10 to 200",
    ),
    key("optional", Holds::Truth, "true: a table without its columns passes"),
    key(
        "policy",
        Holds::Word(&POLICIES),
        "what becomes of rows that fail; default quarantine: set aside for a person; hold: judged again later; warn: published",
    ),
];

/// Limits of a share.
pub(super) const SHARE: &[Key] = &[
    key("warn_percent", Holds::Number, "more offending rows than this are a warning"),
    key("fail_percent", Holds::Number, "more than this fail; default 0: any"),
];

/// Limits of a value.
pub(super) const VALUE: &[Key] = &[
    key("warn_below", Holds::Number, "less is a warning"),
    key("warn_above", Holds::Number, "more is a warning"),
    key("fail_below", Holds::Number, "less fails"),
    key("fail_above", Holds::Number, "more fails"),
];

/// The checks.
pub(super) const CHECKS: &[CheckKeys] = &[
    CheckKeys {
        name: "schema",
        about: "columns are there, of a type, and not null",
        measures: Measures::Share,
        needs: &[],
        keys: &[
            key("columns", Holds::Types, "type by column, such as { motion_accel_x = \"number\" }"),
            key("required", Holds::Texts, "columns that are never null"),
        ],
    },
    CheckKeys {
        name: "range",
        about: "values lie within bounds, and are finite; null is another rule's business",
        measures: Measures::Share,
        needs: &["columns"],
        keys: &[COLUMNS, key("min", Holds::Number, "least"), key("max", Holds::Number, "greatest")],
    },
    CheckKeys {
        name: "null",
        about: "values are there",
        measures: Measures::Share,
        needs: &["columns"],
        keys: &[COLUMNS],
    },
    CheckKeys {
        name: "gap",
        about: "no recorded gap beside the sources",
        measures: Measures::Share,
        needs: &[],
        keys: &[GROUPS],
    },
    CheckKeys {
        name: "coverage",
        about: "rows have a source in the group, near and sure enough",
        measures: Measures::Share,
        needs: &[],
        keys: &[
            GROUPS,
            key("within", Holds::Duration, "farthest source, such as \"100ms\""),
            key("max_err", Holds::Duration, "greatest uncertainty of its distance"),
        ],
    },
    CheckKeys {
        name: "duplicate",
        about: "no two rows of a device are alike in these columns, and none is published already",
        measures: Measures::Share,
        needs: &[],
        keys: &[key("columns", Holds::Texts, "columns; left out: the row's key")],
    },
    CheckKeys {
        name: "time_order",
        about: "no row's interval of time lies wholly before that of an earlier sample of its stream and boot",
        measures: Measures::Share,
        needs: &[],
        keys: &[],
    },
    CheckKeys {
        name: "time_range",
        about: "times are neither before a day nor in the future",
        measures: Measures::Share,
        needs: &[],
        keys: &[
            key("earliest", Holds::Moment, "RFC 3339; default \"2020-01-01T00:00:00Z\""),
            key(
                "ahead",
                Holds::Duration,
                "beyond the collector's time, besides the row's own bound; default \"1d\"",
            ),
        ],
    },
    CheckKeys {
        name: "time_error",
        about: "the bound of the time is narrow enough, and of a grade",
        measures: Measures::Share,
        needs: &[],
        keys: &[
            key("max", Holds::Duration, "widest bound, such as \"250ms\""),
            key("min_grade", Holds::Word(&GRADES), "least grade; default ordering_only"),
        ],
    },
    CheckKeys {
        name: "interval",
        about: "neighbours of a stream are neither too near nor too far",
        measures: Measures::Share,
        needs: &["max"],
        keys: &[
            key("min", Holds::Duration, "shortest distance; default 0"),
            key("max", Holds::Duration, "longest distance"),
        ],
    },
    CheckKeys {
        name: "stuck",
        about: "values do not stay the very same; samples used by several rows count once",
        measures: Measures::Share,
        needs: &["columns", "rows"],
        keys: &[COLUMNS, key("rows", Holds::Count, "samples in a run that is too long, 2 or more")],
    },
    CheckKeys {
        name: "step",
        about: "no step from one sample to the next is too large",
        measures: Measures::Share,
        needs: &["columns", "max"],
        keys: &[
            COLUMNS,
            key("max", Holds::Number, "greatest step, in the column's unit"),
            key("per_second", Holds::Truth, "true: max is a rate, in the unit per second"),
        ],
    },
    CheckKeys {
        name: "spike",
        about: "no sample is far from the median of itself and its four neighbours",
        measures: Measures::Share,
        needs: &["columns", "max"],
        keys: &[COLUMNS, key("max", Holds::Number, "greatest distance, in the column's unit")],
    },
    CheckKeys {
        name: "saturation",
        about: "no value repeats though its neighbours do not, as at the end of a sensor's range",
        measures: Measures::Share,
        needs: &["columns", "rows"],
        keys: &[COLUMNS, key("rows", Holds::Count, "samples at one value that are too many, 2 or more")],
    },
    CheckKeys {
        name: "image",
        about: "pictures are there, have a size, decode, and are bright and sharp enough",
        measures: Measures::Share,
        needs: &[],
        keys: &[
            PICTURE,
            key(
                "looks",
                Holds::Count,
                "most pictures decoded per window, evenly over it; default 8, 0 decodes none",
            ),
            key("min_brightness", Holds::Number, "least mean, 0 to 255; default 8"),
            key("max_brightness", Holds::Number, "greatest mean; default 247"),
            key("min_contrast", Holds::Number, "least standard deviation of brightness; default 2"),
            key("min_sharpness", Holds::Number, "least variance of the Laplacian; default 0"),
        ],
    },
    CheckKeys {
        name: "frozen",
        about: "pictures do not repeat",
        measures: Measures::Share,
        needs: &["rows"],
        keys: &[PICTURE, key("rows", Holds::Count, "frames in a run that is too long, 2 or more")],
    },
    CheckKeys {
        name: "geofence",
        about: "places lie inside a fence, or outside",
        measures: Measures::Share,
        needs: &["lat", "lon"],
        keys: &[
            LAT,
            LON,
            key("circle", Holds::Circle, "{ lat = 47.4, lon = 8.5, radius_m = 5000 }"),
            key("polygon", Holds::Corners, "corners [[lat, lon], …], three or more"),
            key("inside", Holds::Truth, "false: rows are to lie outside; default true"),
        ],
    },
    CheckKeys {
        name: "speed",
        about: "no fix is farther from the one before than one can go",
        measures: Measures::Share,
        needs: &["lat", "lon", "max"],
        keys: &[LAT, LON, key("max", Holds::Number, "greatest, m/s")],
    },
    CheckKeys {
        name: "expression",
        about: "a formula holds for each row, or for the window",
        measures: Measures::Share,
        needs: &["expect"],
        keys: &[
            key("expect", Holds::Formula, "formula, such as \"mean(accel_z) > 9 and place_lat is not null\""),
            key(
                "nulls",
                Holds::Word(&NULLS),
                "what a row counts as of which the formula says null; default pass",
            ),
        ],
    },
    CheckKeys {
        name: "rows",
        about: "the number of rows",
        measures: Measures::Value("rows"),
        needs: &[],
        keys: &[],
    },
    CheckKeys {
        name: "rate",
        about: "samples a second, by the median distance, so that gaps do not matter",
        measures: Measures::Value("Hz"),
        needs: &[],
        keys: &[key("column", Holds::Text, "column group whose sources are counted; left out: the rows")],
    },
    CheckKeys {
        name: "freshness",
        about: "the age of the newest row",
        measures: Measures::Value("s"),
        needs: &[],
        keys: &[],
    },
    CheckKeys {
        name: "noise",
        about: "the standard deviation of a column's noise (of first differences, over the root of two)",
        measures: Measures::Value("unit of the column"),
        needs: &["columns"],
        keys: &[
            COLUMNS,
            key("span", Holds::Duration, "judged piece by piece, the worst counts; left out: over all"),
        ],
    },
    CheckKeys {
        name: "distinct",
        about: "the number of different values",
        measures: Measures::Value("values"),
        needs: &["columns"],
        keys: &[COLUMNS],
    },
    CheckKeys {
        name: "drift",
        about: "the distance of a distribution from that of a reference",
        measures: Measures::Value("psi or ks"),
        needs: &["columns", "reference"],
        keys: &[
            COLUMNS,
            key("reference", Holds::Text, "branch, tag or commit with the same table"),
            key("method", Holds::Word(&METHODS), "psi (the default; above 0.25 is a shift) or ks (0 to 1)"),
        ],
    },
];

/// The check of a name.
pub(super) fn check(name: &str) -> Option<&'static CheckKeys> {
    CHECKS.iter().find(|check| check.name == name)
}
