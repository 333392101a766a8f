//! A checked recipe, defaults filled in. Durations are integer ns.

use crate::derive::{Derived, Episodes, Step};
use headwater_core::id::{FieldName, KindName, StreamName};
use headwater_core::time::{Grade, StampKind};
use std::collections::BTreeMap;

/// A checked recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Table `aligned.<name>`.
    pub name: KindName,
    /// For people; not part of the id.
    pub doc: Option<String>,
    /// What gives the instants.
    pub spine: Spine,
    /// Whose streams meet in a row.
    pub entity: Entity,
    /// Estimates or certainty.
    pub mode: Mode,
    /// Column groups in output order.
    pub columns: Vec<Column>,
    /// What is made of aligned rows, in output order after them.
    pub derived: Vec<Derived>,
    /// How rows are cut into episodes.
    pub episodes: Option<Episodes>,
    /// When a row is final, and what happens to what comes after.
    pub watermark: Watermark,
    /// How rows lie in the table.
    pub output: Output,
}

/// What gives the instants, and which of them are good enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Spine {
    /// Where they come from.
    pub source: SpineSource,
    /// Rows of a lower grade are left out and counted.
    pub min_grade: Grade,
    /// So are those with a larger error, ns.
    pub max_err_ns: Option<i64>,
}

/// Where instants come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SpineSource {
    /// One row a sample of a stream.
    Stream {
        /// The stream.
        stream: StreamName,
        /// Stamp kind wanted; samples of another kind are left out and counted.
        at: Option<StampKind>,
        /// Fields taken from it.
        select: Vec<FieldName>,
    },
    /// UTC points `epoch + phase + n × period` between the first and the last sample of the entity, error 0.
    Grid {
        /// Distance, ns, > 0.
        period_ns: i64,
        /// Offset, ns, in [0, period).
        phase_ns: i64,
        /// Origin, UTC ns.
        epoch_ns: i64,
    },
    /// One row a sample of any of several streams; equal instants are one row.
    Union {
        /// The streams, sorted.
        streams: Vec<StreamName>,
    },
    /// One row a sample that meets a condition its predecessor did not.
    Event {
        /// The stream.
        stream: StreamName,
        /// The condition, over its fields.
        when: Condition,
        /// Fields taken from it.
        select: Vec<FieldName>,
    },
}

/// Comparison of one field with a constant.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The field.
    pub field: FieldName,
    /// How.
    pub op: CompareOp,
    /// With what: a number as written, text, or a truth.
    pub value: Constant,
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// A constant of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// A number, finite; the canonical form holds its shortest decimal text.
    Number(f64),
    /// Text.
    Text(String),
    /// A truth.
    Bool(bool),
}

/// Whose streams meet in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// Each device for itself.
    Device,
    /// Devices of a site, named `site/name`: the part before the last `/` of the device's label, as declared in
    /// `sites`; a column may name the device it reads.
    Site {
        /// Device ids by site, sorted.
        sites: BTreeMap<String, Vec<headwater_core::id::DeviceId>>,
    },
}

/// What a match may rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Estimates.
    Point,
    /// Only what holds for every time within the bounds.
    Certain,
}

/// Fields of one stream, matched together.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Output columns are `<name>_<field>`, their source `<name>_src`, value uncertainties `<name>_<field>_u`.
    pub name: FieldName,
    /// Where the samples come from.
    pub stream: StreamName,
    /// In a site: only from this device.
    pub device: Option<headwater_core::id::DeviceId>,
    /// Fields taken.
    pub select: Vec<FieldName>,
    /// What is done to the samples before they are matched.
    pub prepare: Vec<Step>,
    /// How they are matched.
    pub method: Method,
    /// Added to the stream's event time, ns.
    pub offset_ns: i64,
    /// Which of equal times counts.
    pub duplicates: Duplicates,
    /// Which of two equally near samples counts.
    pub tie: Tie,
    /// Whether null samples are candidates.
    pub nulls: Nulls,
    /// What stands where nothing matched.
    pub fallback: Fallback,
    /// UCUM unit wanted, by field; converted from the declared one.
    pub units: BTreeMap<FieldName, String>,
    /// True: `<name>_<field>_u` holds the value's uncertainty by the method's rule.
    pub uncertainty: bool,
}

/// How a column is matched. Tolerances are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Newest sample at or before the instant.
    Previous {
        /// Greatest distance, ns.
        tolerance_ns: i64,
    },
    /// Oldest sample at or after it.
    Next {
        /// Greatest distance, ns.
        tolerance_ns: i64,
    },
    /// The nearer of both.
    Nearest {
        /// Greatest distance, ns.
        tolerance_ns: i64,
    },
    /// Between the neighbours, by time.
    Linear(Between),
    /// Unit quaternions (w, x, y, z in the order of `select`), the shorter arc.
    Slerp(Between),
    /// Latitude, longitude in degrees, and altitude in m if a third field is selected.
    Geodesic {
        /// The neighbours.
        between: Between,
        /// The figure of the earth.
        model: EarthModel,
        /// What altitude is measured from; never mixed.
        datum: Option<AltitudeDatum>,
    },
    /// Statistics of the samples in [t + from, t + to).
    Window {
        /// Start, ns from the instant.
        from_ns: i64,
        /// End, ns from the instant, > from.
        to_ns: i64,
        /// Statistics, in output order: columns are `<name>_<field>_<stat>`.
        stats: Vec<WindowStat>,
        /// Fewer samples give null.
        min_count: u32,
    },
    /// The samples in [t + from, t + to) themselves, as lists, with `<name>_dt_ns` beside them.
    List {
        /// Start, ns from the instant.
        from_ns: i64,
        /// End, ns from the instant, > from.
        to_ns: i64,
        /// Most samples of a row; more are cut at the end and flagged.
        max_items: u32,
    },
}

/// The neighbours of an interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    /// No value if the neighbours are farther apart, ns.
    pub max_gap_ns: i64,
    /// Beyond the last neighbour by at most this, ns; 0 never.
    pub extrapolate_ns: i64,
}

/// The figure of the earth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarthModel {
    /// The WGS 84 ellipsoid.
    Wgs84,
    /// A sphere of 6 371 008.8 m.
    GreatCircle,
}

/// What altitude is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AltitudeDatum {
    /// Height above the ellipsoid.
    Hae,
    /// Mean sea level.
    Msl,
}

/// A statistic of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WindowStat {
    /// Arithmetic mean.
    Mean,
    /// Least.
    Min,
    /// Greatest.
    Max,
    /// Sample standard deviation (n - 1); null below two.
    Std,
    /// Sum.
    Sum,
    /// How many.
    Count,
    /// First in total order.
    First,
    /// Last in total order.
    Last,
}

/// Which of samples of equal time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// The last in total order.
    Last,
    /// The first.
    First,
}

/// Which of two equally near samples counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// The earlier.
    Previous,
    /// The later.
    Next,
}

/// Whether a sample of nulls only is a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// No.
    Skip,
    /// Yes.
    Take,
}

/// What stands where nothing matched.
#[derive(Debug, Clone, PartialEq)]
pub enum Fallback {
    /// Null.
    Null,
    /// The row is dropped, and counted.
    Drop,
    /// The newest earlier sample up to this age, ns, flagged.
    Locf {
        /// Greatest age, ns.
        max_age_ns: i64,
    },
    /// A constant by field, flagged.
    Const(BTreeMap<FieldName, Constant>),
}

/// When a row is final, and what happens to what comes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Samples of a stream may be this much out of order without being late, ns.
    pub max_out_of_order_ns: i64,
    /// After it a row is written provisionally, ns.
    pub idle_timeout_ns: i64,
    /// Later changes than this do not touch final rows, ns.
    pub allowed_lateness_ns: i64,
    /// What happens within it, and beyond.
    pub late: LatePolicy,
}

/// What happens to rows whose inputs changed after they were final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatePolicy {
    /// Computed again and replaced; beyond the allowed lateness counted.
    Recommit,
    /// Beyond the allowed lateness they go to `late.<recipe>`.
    SideStream,
    /// Counted.
    DropAndCount,
}

/// How rows lie in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Sort order of files.
    pub sort: Vec<String>,
}
