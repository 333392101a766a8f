//! What is done to the samples of a column before they are matched.

use headwater_core::id::FieldName;

/// Most steps of a column: each is a pass over its samples.
pub const PREPARE_STEPS_MAX: usize = 16;
/// Most samples of a window of a step: the cost of a sample is at least proportional to it.
pub const PREPARE_WINDOW_SAMPLES_MAX: u32 = 4_095;
/// Highest order of a polynomial: beyond it a fit to noisy samples says nothing.
pub const PREPARE_ORDER_MAX: u32 = 12;

/// One pass over the samples of a column, in the order of the recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// Fields it touches; empty: every selected number.
    pub fields: Vec<FieldName>,
    /// Neighbours farther apart than this are never looked across, ns, > 0; 0 for a step that looks at none.
    pub max_gap_ns: i64,
}

/// What a step does. Windows are centred and counted in samples that have a value.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// Values outside [min, max] are outliers.
    ClipRange {
        /// Least value allowed.
        min: Option<f64>,
        /// Greatest value allowed.
        max: Option<f64>,
        /// What becomes of outliers.
        then: Outlier,
    },
    /// Values farther from the median of their window than `limit` scaled median absolute deviations are outliers.
    ClipMad {
        /// Samples in the window, odd.
        samples: u32,
        /// How many scaled deviations are allowed, > 0.
        limit: f64,
        /// The deviation is taken as at least this, so that a sensor's last digit is no outlier, >= 0.
        min_scale: f64,
        /// What becomes of outliers.
        then: Outlier,
    },
    /// Values that differ from every neighbour by more than `per_second` allows are outliers; a step from one level to
    /// another is none.
    ClipRate {
        /// Greatest rate of change, field's unit per s, > 0.
        per_second: f64,
        /// What becomes of outliers.
        then: Outlier,
    },
    /// The median of a window.
    Median {
        /// Samples in the window, odd.
        samples: u32,
    },
    /// The mean of the samples up to now, weighted with exp(-age / `time_constant_ns`).
    Exponential {
        /// Age at which a weight has fallen to 1/e, ns, > 0.
        time_constant_ns: i64,
    },
    /// The value at the sample of the polynomial that fits its window best (Savitzky and Golay 1964, with the true times).
    SavitzkyGolay {
        /// Samples in the window, odd.
        samples: u32,
        /// Order of the polynomial, < samples.
        order: u32,
    },
    /// Samples at the multiples of a period instead of those that were taken; of all fields, so `fields` is empty.
    Resample {
        /// Distance of the new samples in boot time, ns, > 0.
        period_ns: i64,
        /// The new values.
        by: ResampleBy,
    },
}

/// What becomes of an outlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlier {
    /// Its value is null.
    Null,
    /// The nearest value that would have been allowed.
    Clamp,
    /// The whole sample is taken out.
    Drop,
}

/// How a resampled value is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResampleBy {
    /// Between the neighbours.
    Linear,
    /// The newest sample at or before it.
    Previous,
    /// The mean of the samples within half a period, [t - p/2, t + p/2).
    Mean,
}
