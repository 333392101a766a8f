//! Samples made better before they are matched: outliers taken out, noise smoothed, times made even.
//!
//! Each step takes the samples of one column and gives samples; raw rows are never touched. Within a step
//! - a value that is null, NaN or infinite is no value: no window counts it, and its place stays null (an infinite one is an
//!   outlier of `clip_range`);
//! - values are looked at in *runs*: samples of one boot line whose neighbours are at most `max_gap` apart, measured in boot
//!   time. No step looks from one run into another;
//! - times stay as they are, but those of `resample`, whose samples carry the wider bound and the lower grade of their
//!   neighbours.
//!
//! Values are numbers, not angles: a mean of 179 and -179 is 0 here. Longitudes that cross the antimeridian and headings that
//! cross north are interpolated by their own methods, and are deliberately no business of these steps.
//!
//! A prepared value rests on more than one sample: [`Prepared::spans`] names the first and the last, and that is what
//! lineage holds (L1). A clipped value rests on its own sample, for the others decided only whether it stands. The
//! uncertainty of *time* is the sample's own; that of a value is not made smaller by smoothing, for noise of neighbours may
//! be correlated.
//!
//! [`reach`] bounds how far a step looks, so that a caller knows what must be there before a prepared sample is final, and
//! what a late one changes. Samples prepared with that much before and after them are bit for bit those of the whole (L2).

mod clip;
mod fit;
mod resample;
mod run;
mod smooth;
#[cfg(test)]
mod tests;

pub(super) use smooth::median_of;

use super::numbers::is_number;
use super::{Outlier, ResampleBy, Step, StepKind};
use crate::sample::Samples;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// Seqs of the raw samples one prepared sample was made of, all of its boot line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First.
    pub seq_lo: u64,
    /// Last.
    pub seq_hi: u64,
}

/// Samples after their preparation.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// In total order.
    pub samples: Samples,
    /// What each was made of.
    pub spans: Vec<Span>,
}

/// Why samples cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// A field is not there.
    #[error("step {step} names field {field}, which the samples do not have")]
    Missing {
        /// Place in `prepare`.
        step: usize,
        /// The field.
        field: String,
    },
    /// A field holds no numbers.
    #[error("step {step} wants numbers, but field {field} holds {data_type}; name its fields in `fields`")]
    NoNumbers {
        /// Place in `prepare`.
        step: usize,
        /// The field.
        field: String,
        /// What it holds.
        data_type: DataType,
    },
    /// No field holds numbers.
    #[error("step {step} finds no numbers among the fields")]
    Nothing {
        /// Place in `prepare`.
        step: usize,
    },
    /// Stamps and values of different length.
    #[error("{stamps} stamps came with {values} values")]
    Ragged {
        /// Stamps.
        stamps: usize,
        /// Rows of values.
        values: usize,
    },
    /// Samples of a boot line do not come in the order of their times.
    #[error("sample {row} is earlier than the one before it on its boot line")]
    Unsorted {
        /// Its place.
        row: usize,
    },
    /// A period that would make more samples than can be held.
    #[error("step {step} resamples {samples} samples into more than {RESAMPLED_MAX}; choose a longer period")]
    TooMany {
        /// Place in `prepare`.
        step: usize,
        /// Given.
        samples: usize,
    },
    /// Arrow refused.
    #[error("arrow refused a prepared column")]
    Arrow(#[from] ArrowError),
}

/// Most samples a resampling of one call gives: a day at 100 Hz, 400 MB of places while they are made.
pub const RESAMPLED_MAX: usize = 10_000_000;

/// How far steps look from a sample, ns of boot time: before it, and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Back.
    pub before_ns: i64,
    /// On.
    pub after_ns: i64,
}

/// How far all steps together look.
///
/// A window of n samples looks (n - 1) / 2 gaps either way, and one more to see where its run ends; Savitzky-Golay all n - 1
/// from an edge of a run; the exponential mean back only.
#[must_use]
pub fn reach(steps: &[Step]) -> Reach {
    steps.iter().fold(Reach::default(), |reach, step| {
        let one = reach_of(step);
        Reach {
            before_ns: reach.before_ns.saturating_add(one.before_ns),
            after_ns: reach.after_ns.saturating_add(one.after_ns),
        }
    })
}

fn reach_of(step: &Step) -> Reach {
    let gaps = |n: u32| step.max_gap_ns.saturating_mul(i64::from(n));
    let both = |ns: i64| Reach { before_ns: ns, after_ns: ns };
    match step.kind {
        StepKind::ClipRange { .. } => Reach::default(),
        StepKind::ClipRate { .. } => both(gaps(1)),
        StepKind::ClipMad { samples, .. } | StepKind::Median { samples } => both(gaps(samples / 2 + 1)),
        StepKind::SavitzkyGolay { samples, .. } => both(gaps(samples)),
        StepKind::Exponential { time_constant_ns } => {
            let window_ns = time_constant_ns.saturating_mul(smooth::EXPONENTIAL_REACH);
            Reach { before_ns: window_ns.saturating_add(step.max_gap_ns), after_ns: 0 }
        }
        StepKind::Resample { by: ResampleBy::Linear, .. } => both(gaps(1)),
        StepKind::Resample { by: ResampleBy::Previous, .. } => Reach { before_ns: gaps(1), after_ns: 0 },
        StepKind::Resample { by: ResampleBy::Mean, period_ns } => both(period_ns / 2 + 1),
    }
}

/// The fields that step `place` touches, as places in `schema`.
fn touched(place: usize, step: &Step, schema: &Schema) -> Result<Vec<usize>, PrepareError> {
    if step.fields.is_empty() {
        let numbers = schema.fields().iter().enumerate().filter(|(_, field)| is_number(field.data_type()));
        let touched: Vec<usize> = numbers.map(|(at, _)| at).collect();
        return if touched.is_empty() { Err(PrepareError::Nothing { step: place }) } else { Ok(touched) };
    }
    let one = |name: &str| {
        let missing = || PrepareError::Missing { step: place, field: name.to_owned() };
        let (at, field) = schema.column_with_name(name).ok_or_else(missing)?;
        if is_number(field.data_type()) {
            return Ok(at);
        }
        let (field, data_type) = (name.to_owned(), field.data_type().clone());
        Err(PrepareError::NoNumbers { step: place, field, data_type })
    };
    step.fields.iter().map(|field| one(field.as_str())).collect()
}

/// True if the fields a step touches are doubles after it. Clipping to null or away leaves them as they are.
fn widens(kind: &StepKind) -> bool {
    match kind {
        StepKind::ClipRange { then, .. } | StepKind::ClipMad { then, .. } => *then == Outlier::Clamp,
        StepKind::ClipRate { .. } => false,
        StepKind::Resample { by, .. } => *by != ResampleBy::Previous,
        StepKind::Median { .. } | StepKind::Exponential { .. } | StepKind::SavitzkyGolay { .. } => true,
    }
}

/// The fields after `steps`: those that are computed become nullable doubles, metadata (units) stay.
///
/// # Errors
/// A step that does not fit the fields.
pub fn prepared_schema(steps: &[Step], schema: &SchemaRef) -> Result<SchemaRef, PrepareError> {
    let mut now = Arc::clone(schema);
    for (place, step) in steps.iter().enumerate() {
        let is_resample = matches!(step.kind, StepKind::Resample { .. });
        let touched = match touched(place, step, &now) {
            // Text can be resampled.
            Err(PrepareError::Nothing { .. }) if is_resample => Vec::new(),
            other => other?,
        };
        let fields = now.fields().iter().enumerate().map(|(at, field)| {
            let is_touched = touched.contains(&at);
            let of =
                if is_touched && widens(&step.kind) { DataType::Float64 } else { field.data_type().clone() };
            let is_nullable = field.is_nullable() || is_touched || is_resample;
            Field::new(field.name(), of, is_nullable).with_metadata(field.metadata().clone())
        });
        now = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), now.metadata().clone()));
    }
    Ok(now)
}

/// Prepares samples. They come with what lies [`reach`] before and after them, or are all there is.
///
/// # Errors
/// Steps that do not fit the fields, or samples out of order.
pub fn prepare(steps: &[Step], samples: Samples) -> Result<Prepared, PrepareError> {
    let (stamps, values) = (samples.stamps.len(), samples.values.num_rows());
    if stamps != values {
        return Err(PrepareError::Ragged { stamps, values });
    }
    run::check_order(&samples.stamps)?;
    let spans = samples.stamps.seq.iter().map(|seq| Span { seq_lo: *seq, seq_hi: *seq }).collect();
    let mut prepared = Prepared { samples, spans };
    for (place, step) in steps.iter().enumerate() {
        let schema = prepared_schema(std::slice::from_ref(step), prepared.samples.values.schema_ref())
            .map_err(|error| at_step(error, place))?;
        prepared = apply(place, step, prepared, schema)?;
    }
    Ok(prepared)
}

/// A step checked alone calls itself the first.
fn at_step(error: PrepareError, step: usize) -> PrepareError {
    match error {
        PrepareError::Missing { field, .. } => PrepareError::Missing { step, field },
        PrepareError::NoNumbers { field, data_type, .. } => {
            PrepareError::NoNumbers { step, field, data_type }
        }
        PrepareError::Nothing { .. } => PrepareError::Nothing { step },
        other => other,
    }
}

fn apply(place: usize, step: &Step, prepared: Prepared, schema: SchemaRef) -> Result<Prepared, PrepareError> {
    if let StepKind::Resample { period_ns, by } = step.kind {
        return resample::resample(place, (period_ns, by), step.max_gap_ns, prepared, schema);
    }
    let touched = touched(place, step, prepared.samples.values.schema_ref())?;
    match step.kind {
        StepKind::ClipRange { .. } | StepKind::ClipMad { .. } | StepKind::ClipRate { .. } => {
            clip::clip(step, &touched, prepared, schema)
        }
        _ => smooth::smooth(step, &touched, prepared, schema),
    }
}

/// The samples with other columns in the places of `replaced`.
fn with_columns(
    prepared: Prepared,
    schema: SchemaRef,
    replaced: Vec<(usize, ArrayRef)>,
) -> Result<Prepared, PrepareError> {
    let mut columns = prepared.samples.values.columns().to_vec();
    for (at, column) in replaced {
        if let Some(place) = columns.get_mut(at) {
            *place = column;
        }
    }
    let values = RecordBatch::try_new(schema, columns)?;
    Ok(Prepared { samples: Samples { values, ..prepared.samples }, ..prepared })
}
