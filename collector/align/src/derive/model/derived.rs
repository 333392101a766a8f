//! What is made of an aligned row.

use crate::expr::Expr;
use crate::recipe::EarthModel;
use headwater_core::id::{FieldName, Sha256};
use std::sync::Arc;

/// Most derived columns of a recipe.
pub const DERIVED_MAX: usize = 256;

/// A column made of columns of the same row, or of the rows before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// Name of the output column.
    pub name: FieldName,
    /// Version of its meaning, raised by whoever changes it; >= 1.
    pub version: u32,
    /// For people; not part of the id.
    pub doc: Option<String>,
    /// UCUM unit of the result, where there is one.
    pub unit: Option<String>,
    /// How it is made.
    pub by: Derivation,
}

/// How a derived column is made. Columns are those of aligned rows and the derived ones before this.
#[derive(Debug, Clone, PartialEq)]
pub enum Derivation {
    /// A formula.
    Expression {
        /// What it says.
        formula: Expr,
    },
    /// Another unit; the result's unit is `Derived::unit`.
    Convert {
        /// Numbers.
        column: String,
        /// UCUM unit they have.
        from: String,
    },
    /// A statistic of a list.
    List {
        /// List of numbers.
        column: String,
        /// Which.
        stat: ListStat,
    },
    /// Power of a list within a band.
    Band(Band),
    /// Something of a picture.
    Picture {
        /// The picture's column (struct of `bytes` and `path`).
        column: String,
        /// What.
        feature: PictureFeature,
    },
    /// Something of the way from the row before.
    Motion {
        /// Where rows are.
        fix: Fix,
        /// What.
        feature: MotionFeature,
        /// Fixes farther apart give null, ns, > 0.
        max_gap_ns: i64,
        /// The figure of the earth.
        model: EarthModel,
    },
    /// Geohash (base 32).
    Geohash {
        /// Where rows are.
        fix: Fix,
        /// Characters, 1 to 12.
        length: u8,
    },
    /// H3 cell as 15 hexadecimal digits.
    H3 {
        /// Where rows are.
        fix: Fix,
        /// 0 to 15.
        resolution: u8,
    },
    /// Name of the first fence that holds the fix.
    Geofence {
        /// Where rows are.
        fix: Fix,
        /// In order of precedence.
        fences: Arc<Fences>,
    },
    /// Answer of a program.
    Command(Command),
}

/// Two columns that say where a row is, degrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// Latitude.
    pub lat: String,
    /// Longitude.
    pub lon: String,
}

/// A statistic of a list of numbers. Nulls and NaN are left out; without a value the result is null (count: 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListStat {
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
    /// First.
    First,
    /// Last.
    Last,
    /// Middle one, or the mean of the middle two.
    Median,
    /// Root of the mean square.
    Rms,
    /// Greatest less least.
    Range,
    /// Sum of squares.
    Energy,
}

/// Power of a signal within [lo, hi) Hz: one-sided periodogram of the list less its mean, unit squared.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// List of numbers.
    pub column: String,
    /// How far its samples are apart.
    pub sampling: Sampling,
    /// From this frequency, Hz, >= 0.
    pub lo_hz: f64,
    /// Up to below this one, Hz, > lo.
    pub hi_hz: f64,
    /// Taper.
    pub taper: Taper,
}

/// How far samples of a list are apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// Samples a second, > 0.
    Rate(f64),
    /// A list column of their times, ns; uneven ones give null.
    Times(String),
}

/// Weights of samples before a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taper {
    /// One each.
    None,
    /// Hann, periodic.
    Hann,
}

/// What is taken of a picture, standing upright by its EXIF orientation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PictureFeature {
    /// Pixels in a row.
    Width,
    /// Rows.
    Height,
    /// Mean brightness, 0 to 1.
    Brightness,
    /// Standard deviation of brightness, 0 to 0.5 (RMS contrast).
    Contrast,
    /// Variance of the Laplacian of brightness.
    Sharpness,
    /// 64-bit difference hash as 16 hexadecimal digits.
    Hash,
    /// A smaller JPEG, never larger than the picture.
    Thumbnail {
        /// Greatest width, pixels.
        width_max: u16,
        /// Greatest height, pixels.
        height_max: u16,
        /// JPEG quality, 1 to 100.
        quality: u8,
    },
}

/// What is taken of the way from the row before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MotionFeature {
    /// m/s.
    Speed,
    /// m.
    Distance,
    /// Azimuth at the end of the way, degrees clockwise from north in [0, 360); null where nothing moved.
    Heading,
}

/// Polygons with names.
#[derive(Debug, Clone, PartialEq)]
pub struct Fences {
    /// SHA-256 over their canonical text: what the recipe's id rests on.
    pub sha256: Sha256,
    /// In order of precedence.
    pub fences: Vec<Fence>,
}

/// A place with a name: one polygon, or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Fence {
    /// Its name.
    pub name: String,
    /// Each an outer ring and its holes.
    pub polygons: Vec<Vec<Ring>>,
}

/// Corners (longitude, latitude), degrees; the last is joined with the first.
pub type Ring = Vec<(f64, f64)>;

/// A program that reads rows and writes a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Path, or a name that is looked up in PATH.
    pub program: String,
    /// Its arguments; `{file:NAME}` stands for the path of a declared file.
    pub args: Vec<String>,
    /// Files its answer rests on.
    pub files: Vec<CommandFile>,
    /// SHA-256 of the program, where `program` is a path.
    pub program_sha256: Option<Sha256>,
    /// Version as declared.
    pub version: String,
    /// Columns it is given, in this order.
    pub inputs: Vec<String>,
    /// Type of its answer.
    pub output: CommandType,
    /// Longest run over one batch, ns.
    pub timeout_ns: i64,
    /// Most bytes of its answer for one batch.
    pub output_bytes_max: u64,
    /// Most memory, bytes.
    pub memory_bytes_max: u64,
    /// Rows of one batch at most.
    pub batch_rows_max: u32,
    /// What becomes of rows it gave no answer for.
    pub on_failure: OnFailure,
}

/// A file of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFile {
    /// What arguments call it.
    pub name: String,
    /// Where it lies; not part of the id.
    pub path: String,
    /// What is in it.
    pub sha256: Sha256,
}

/// Type of a command's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandType {
    /// True or false.
    Bool,
    /// 64-bit integer.
    Int64,
    /// 32-bit float.
    Float32,
    /// 64-bit float.
    Float64,
    /// Text.
    Text,
    /// List of 32-bit floats, of `length` where one is declared: an embedding.
    Float32List {
        /// Items of every row.
        length: Option<u32>,
    },
    /// List of 64-bit floats.
    Float64List {
        /// Items of every row.
        length: Option<u32>,
    },
}

/// What becomes of rows a command gave no answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Null, flagged.
    Null,
    /// The row is held back.
    Hold,
}
