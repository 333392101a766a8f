//! What the landed set must know of a batch, told without its schemas.
//!
//! A batch may arrive before its streams are declared, and its rows are then withheld. So everything that
//! a later declaration could ask for (column shapes, possible blob references, possible gap records) is
//! taken out once, while the batch is decoded anyway.

use headwater_core::batch::{Batch, CodecError, Refused, Rows, Section, StreamRef, Values};
use headwater_core::gap::GapRecord;
use headwater_core::sample::BlobRef;
use headwater_core::schema::{Fingerprint, Physical, Schema, builtin};
use headwater_core::wire::RefusalReason;
use std::collections::BTreeMap;
use std::ops::Range;

/// One section of rows, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRun {
    /// Whose rows.
    pub stream: StreamRef,
    /// Schema they follow.
    pub fingerprint: Fingerprint,
    /// Their seqs.
    pub seqs: Range<u64>,
    /// Type of each column, and whether it holds nulls.
    pub shape: Vec<(Physical, bool)>,
    /// Columns that can be references to blobs, by place: one entry per row, `None` where null.
    pub blobs: BTreeMap<usize, Vec<Option<BlobRef>>>,
    /// The rows as gap records, if they have the columns of `hw/gaps`.
    pub gaps: Vec<GapRecord>,
}

impl RowRun {
    /// Takes the run out of decoded rows.
    #[must_use]
    pub fn of(rows: &Rows) -> Self {
        let shape: Vec<(Physical, bool)> =
            rows.fields.iter().map(|column| (column.physical(), column.valid.is_some())).collect();
        let mut blobs = BTreeMap::new();
        for (at, column) in rows.fields.iter().enumerate() {
            let Values::Bytes(values) = &column.values else { continue };
            let references: Option<Vec<Option<BlobRef>>> = values
                .iter()
                .enumerate()
                .map(|(row, bytes)| match column.is_valid(row) {
                    false => Some(None),
                    true => BlobRef::from_bytes(bytes).map(Some),
                })
                .collect();
            if let Some(references) = references {
                blobs.insert(at, references);
            }
        }
        let gap_shape = builtin::gaps();
        let gaps = if fits(&shape, &gap_shape) {
            (0..rows.len())
                .filter_map(|row| {
                    let values: Vec<_> = rows.fields.iter().map(|column| column.value(row)).collect();
                    GapRecord::from_values(&values)
                })
                .collect()
        } else {
            Vec::new()
        };
        Self {
            stream: rows.stream.clone(),
            fingerprint: rows.fingerprint,
            seqs: rows.seqs(),
            shape,
            blobs,
            gaps,
        }
    }

    /// True if the columns are those of `schema`.
    #[must_use]
    pub fn follows(&self, schema: &Schema) -> bool {
        fits(&self.shape, schema) && schema.blob_field().is_none_or(|field| self.blobs.contains_key(&field))
    }
}

fn fits(shape: &[(Physical, bool)], schema: &Schema) -> bool {
    shape.len() == schema.fields.len()
        && shape.iter().zip(&schema.fields).all(|((physical, nulls), field)| {
            *physical == field.logical.physical() && (field.nullable || !nulls)
        })
}

/// What a batch holds, as far as receiving it is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchSummary {
    /// Its rows.
    pub runs: Vec<RowRun>,
    /// Sections that could not be read.
    pub refused: Vec<Refused>,
    /// Number of hints.
    pub heartbeats: usize,
}

impl BatchSummary {
    /// Takes the summary of a batch.
    #[must_use]
    pub fn of(batch: &Batch) -> Self {
        let mut summary = Self::default();
        for section in &batch.sections {
            match section {
                Section::Rows(rows) => summary.runs.push(RowRun::of(rows)),
                Section::Heartbeat(_) => summary.heartbeats = summary.heartbeats.saturating_add(1),
                Section::Refused(refused) => summary.refused.push(refused.clone()),
            }
        }
        summary
    }

    /// True if nothing in it is worth landing.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        self.runs.is_empty() && self.heartbeats == 0
    }
}

/// The wire's code for a section that could not be read.
#[must_use]
pub fn refusal_reason(why: &CodecError) -> RefusalReason {
    use headwater_core::wire::primitives::PrimitiveError;
    match why {
        CodecError::UnknownCodec { .. } => RefusalReason::UnknownCodec,
        CodecError::DecodedBytes { .. }
        | CodecError::PcoTables { .. }
        | CodecError::Primitive(PrimitiveError::TooLong { .. }) => RefusalReason::Limit,
        _ => RefusalReason::DecodeError,
    }
}
