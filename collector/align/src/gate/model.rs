//! A checked set of rules, defaults filled in.

use super::formula::Formula;
use super::verdict::Policy;
use headwater_core::time::Grade;
use std::collections::BTreeMap;

/// A set of rules: one file.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSet {
    /// Its name, before the dot of its rules' names in verdicts; empty for the built-in set.
    pub name: String,
    /// For people; not part of the id.
    pub doc: Option<String>,
    /// Tables it judges: names, or beginnings with `*` at the end.
    pub tables: Vec<Pattern>,
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// The file as it was read, so that it can be kept and read again; not part of the id.
    pub text: String,
}

/// A name, or a beginning with `*` at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(pub String);

impl Pattern {
    /// True if it means `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.0,
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name within the set.
    pub name: String,
    /// For people; not part of the id.
    pub doc: Option<String>,
    /// What is looked at.
    pub check: Check,
    /// How much is too much.
    pub limits: Limits,
    /// Only of these devices.
    pub devices: Vec<Pattern>,
    /// Who is judged for himself.
    pub scope: Scope,
    /// Only rows that meet this.
    pub filter: Option<Formula>,
    /// With fewer rows of a scope it says nothing.
    pub min_rows: u64,
    /// True: tables without its columns pass.
    pub optional: bool,
    /// What becomes of rows it fails.
    pub policy: Policy,
}

/// Who is judged for himself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Each device, and only its rows stay back.
    #[default]
    Device,
    /// The window as one.
    Window,
}

/// How much is too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limits {
    /// Of offending rows: more than so many percent.
    Share {
        /// Is worth a warning.
        warn_percent: f64,
        /// Fails.
        fail_percent: f64,
    },
    /// Of a measured value, both ends allowed.
    Between {
        /// Outside is worth a warning.
        warn: (Option<f64>, Option<f64>),
        /// Outside fails.
        fail: (Option<f64>, Option<f64>),
    },
}

/// What is looked at. Columns are names, members of structs by `motion_src.flag`.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// Columns are there, of the type named, and not null where required.
    Schema {
        /// Type by column: see [`super::keys::TYPES`].
        columns: BTreeMap<String, String>,
        /// Never null.
        required: Vec<String>,
    },
    /// Values within bounds, and finite.
    Range {
        /// Which.
        columns: Vec<String>,
        /// Least.
        min: Option<f64>,
        /// Greatest.
        max: Option<f64>,
    },
    /// Values are there.
    Null {
        /// Which.
        columns: Vec<String>,
    },
    /// No recorded gap beside the source.
    Gap {
        /// Column groups; `*` is all.
        columns: Vec<String>,
    },
    /// The group matched, near enough and sure enough.
    Coverage {
        /// Column groups; `*` is all.
        columns: Vec<String>,
        /// Farthest source, ns.
        within_ns: Option<i64>,
        /// Greatest uncertainty of the distance, ns.
        max_err_ns: Option<i64>,
    },
    /// No two rows alike in these columns, nor one that is published already.
    Duplicate {
        /// Which; none is the row's key.
        columns: Vec<String>,
    },
    /// No row's interval lies wholly before that of an earlier sample of its stream and boot.
    TimeOrder,
    /// Times that can be.
    TimeRange {
        /// Earliest, UTC ns.
        earliest_ns: i64,
        /// Farthest beyond the collector's own time, besides the row's own bound, ns.
        ahead_ns: i64,
    },
    /// Bounds that can be, and are narrow enough.
    TimeError {
        /// Widest, ns.
        max_ns: Option<i64>,
        /// Least grade.
        min_grade: Grade,
    },
    /// Distances between neighbours of a stream.
    Interval {
        /// Shortest, ns.
        min_ns: i64,
        /// Longest, ns.
        max_ns: Option<i64>,
    },
    /// No value stays the very same over so many samples.
    Stuck {
        /// Which; alike means all of them together.
        columns: Vec<String>,
        /// Samples in a run that is too long.
        rows: u64,
    },
    /// No step from one sample to the next above a bound.
    Step {
        /// Which.
        columns: Vec<String>,
        /// Greatest, in the column's unit, or a second of it.
        max: f64,
        /// True: `max` is a rate.
        per_s: bool,
    },
    /// No sample far from the median of itself and its four neighbours.
    Spike {
        /// Which.
        columns: Vec<String>,
        /// Greatest distance, in the column's unit.
        max: f64,
    },
    /// No value repeats like a rail.
    Saturation {
        /// Which.
        columns: Vec<String>,
        /// Samples at one value that are too many, unless its neighbours repeat, too, or all are alike.
        rows: u64,
    },
    /// Pictures are whole, and as bright and sharp as they should be.
    Image {
        /// Column of the picture; `<column>_hash` in aligned tables.
        column: String,
        /// None: only what the rows say; otherwise some are decoded.
        decode: Option<ImageLimits>,
    },
    /// No picture repeats over so many frames.
    Frozen {
        /// Column of the picture.
        column: String,
        /// Frames in a run that is too long.
        rows: u64,
    },
    /// Places within a fence, or without.
    Geofence {
        /// Column of the latitude, degrees.
        lat: String,
        /// Column of the longitude, degrees.
        lon: String,
        /// The fence.
        fence: Fence,
        /// True: rows are to lie inside.
        inside: bool,
    },
    /// Speed from one fix to the next.
    Speed {
        /// Column of the latitude, degrees.
        lat: String,
        /// Column of the longitude, degrees.
        lon: String,
        /// Greatest, m/s.
        max_m_s: f64,
    },
    /// A formula that holds for each row, or for the window.
    Expression {
        /// The formula.
        expect: Formula,
        /// True: a row of which it says null is good.
        nulls_pass: bool,
    },
    /// Number of rows.
    Rows,
    /// Samples a second by the median distance, Hz.
    Rate {
        /// Of the sources of this column group; none means of the rows.
        column: Option<String>,
    },
    /// Age of the newest row, s.
    Freshness,
    /// Standard deviation of the noise: of first differences, over √2.
    Noise {
        /// Which.
        columns: Vec<String>,
        /// Judged piece by piece, the worst counts; none means over all, ns.
        span_ns: Option<i64>,
    },
    /// Different values.
    Distinct {
        /// Which.
        columns: Vec<String>,
    },
    /// Distance of a distribution from that of a reference.
    Drift {
        /// Which.
        columns: Vec<String>,
        /// Branch, tag or commit with the same table.
        reference: String,
        /// How distance is measured.
        method: DriftMethod,
    },
}

/// How pictures should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageLimits {
    /// Most pictures decoded per window, evenly over it.
    pub looks: u32,
    /// Least mean brightness, 0 to 255.
    pub min_brightness: f64,
    /// Greatest mean brightness, 0 to 255.
    pub max_brightness: f64,
    /// Least standard deviation of brightness.
    pub min_contrast: f64,
    /// Least variance of the Laplacian.
    pub min_sharpness: f64,
}

/// A fence on the ground.
#[derive(Debug, Clone, PartialEq)]
pub enum Fence {
    /// Within a distance of a place.
    Circle {
        /// Latitude, degrees.
        lat: f64,
        /// Longitude, degrees.
        lon: f64,
        /// Distance, m.
        radius_m: f64,
    },
    /// Corners (latitude, longitude), degrees; edges are straight in these coordinates.
    Polygon(Vec<(f64, f64)>),
}

/// How the distance of two distributions is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftMethod {
    /// Population stability index over ten bins of equal share of the reference.
    Psi,
    /// The two-sample Kolmogorov-Smirnov statistic: the greatest distance of the two empirical distributions, 0 to 1.
    Ks,
}

impl Check {
    /// Its name in files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Schema { .. } => "schema",
            Self::Range { .. } => "range",
            Self::Null { .. } => "null",
            Self::Gap { .. } => "gap",
            Self::Coverage { .. } => "coverage",
            Self::Duplicate { .. } => "duplicate",
            Self::TimeOrder => "time_order",
            Self::TimeRange { .. } => "time_range",
            Self::TimeError { .. } => "time_error",
            Self::Interval { .. } => "interval",
            Self::Stuck { .. } => "stuck",
            Self::Step { .. } => "step",
            Self::Spike { .. } => "spike",
            Self::Saturation { .. } => "saturation",
            Self::Image { .. } => "image",
            Self::Frozen { .. } => "frozen",
            Self::Geofence { .. } => "geofence",
            Self::Speed { .. } => "speed",
            Self::Expression { .. } => "expression",
            Self::Rows => "rows",
            Self::Rate { .. } => "rate",
            Self::Freshness => "freshness",
            Self::Noise { .. } => "noise",
            Self::Distinct { .. } => "distinct",
            Self::Drift { .. } => "drift",
        }
    }
}

impl RuleSet {
    /// True if it judges this table.
    #[must_use]
    pub fn concerns(&self, table: &str) -> bool {
        self.tables.iter().any(|pattern| pattern.matches(table))
    }

    /// Branches, tags and commits its rules compare with.
    #[must_use]
    pub fn references(&self) -> Vec<&str> {
        let references = self.rules.iter().filter_map(|rule| match &rule.check {
            Check::Drift { reference, .. } => Some(reference.as_str()),
            _ => None,
        });
        let mut found: Vec<&str> = references.collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Most pictures a rule of it wants decoded; 0 for none.
    #[must_use]
    pub fn looks(&self) -> u32 {
        let looks = self.rules.iter().filter_map(|rule| match &rule.check {
            Check::Image { decode: Some(limits), .. } => Some(limits.looks),
            _ => None,
        });
        looks.max().unwrap_or(0)
    }

    /// As a rule of it is called in verdicts.
    #[must_use]
    pub fn called(&self, rule: &Rule) -> String {
        if self.name.is_empty() { rule.name.clone() } else { format!("{}.{}", self.name, rule.name) }
    }
}
