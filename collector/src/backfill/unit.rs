//! One unit: its rows made from raw, and held against those in the table.

use super::BackfillError;
use super::plan::Unit;
use crate::align::change::{Change, change};
use crate::align::coverage::Coverage;
use crate::align::layout::table_name;
use crate::align::window::{AlignedRow, row_key};
use crate::dedup::StreamKey;
use crate::ingest::{Rebuilder, Rebuilt, RebuiltPiece};
use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use futures::TryStreamExt;
use headwater_align::recipe::Recipe;
use headwater_lake::{CommitId, CommitObject, Lake, RefName, ScanOptions, TableName};
use std::collections::HashMap;

/// What the branch has of the recipe before.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Rows done by the same version of the recipe.
    pub(super) coverage: Coverage,
    /// Another version made the table.
    pub(super) is_other: bool,
    /// The table, if its rows are to be compared with.
    table: Option<TableName>,
}

impl Held {
    pub(super) async fn read(
        lake: &Lake,
        tip: &CommitObject,
        recipe: &Recipe,
        on: &RefName,
    ) -> Result<Self, BackfillError> {
        let (id, name) = (recipe.id(), table_name(recipe)?);
        let is_there = tip.tables.contains_key(&name);
        let Some(entry) = tip.coverage.get(recipe.name.as_str()) else {
            // Whoever made a table without saying what is done in it: it is made anew.
            return Ok(Self { is_other: is_there, ..Self::default() });
        };
        if entry.recipe_id != id {
            return Ok(Self { is_other: true, ..Self::default() });
        }
        let no_record = || BackfillError::NoRecord { recipe: recipe.name.to_string(), on: on.clone() };
        let bytes = lake.state(&entry.hash).await?.ok_or_else(no_record)?;
        let coverage = Coverage::from_bytes(&bytes)?;
        Ok(Self { coverage, is_other: false, table: is_there.then_some(name) })
    }

    fn knows(&self, key: &StreamKey, seq: u64) -> bool {
        self.coverage.contains(key, seq) || self.coverage.is_provisional(key, seq)
    }
}

/// What a unit brings.
#[derive(Debug, Default)]
pub(super) struct UnitRows {
    /// Rows to be written.
    pub(super) batches: Vec<RecordBatch>,
    /// Who was made, written or not.
    pub(super) rows: Vec<AlignedRow>,
    /// Spine samples that give no row.
    pub(super) left_out: Vec<(StreamKey, u64)>,
    /// Rows of the table that give way: device and row key.
    pub(super) replaced: Vec<(String, String)>,
    /// The earliest and latest of those that were found, UTC ns.
    pub(super) replaced_ts: Option<(i64, i64)>,
    /// What was made.
    pub(super) told: Rebuilt,
    /// Rows that were not there.
    pub(super) new: u64,
    /// Rows that were there otherwise.
    pub(super) changed: u64,
    /// Rows that are as they were.
    pub(super) same: u64,
    /// Rows that are no more.
    pub(super) gone: u64,
}

/// What a job makes of a unit.
#[derive(Debug)]
pub(super) enum Made {
    /// Its rows.
    Rows(Box<UnitRows>),
    /// What rests on the rows of units before is still to be made.
    Unchained(RebuiltPiece, Rebuilt),
}

/// Makes a unit's rows, as far as they rest on nothing before it.
pub(super) async fn compute(
    lake: &Lake,
    tip: &CommitId,
    rebuilder: &Rebuilder,
    held: &Held,
    unit: &Unit,
) -> Result<Made, BackfillError> {
    let (piece, told) = rebuilder.all(unit.scope()).await?;
    Ok(match rebuilder.is_chained() {
        true => Made::Unchained(piece, told),
        false => Made::Rows(Box::new(compare(lake, tip, held, unit, (piece, told)).await?)),
    })
}

/// Holds a unit's rows against those in the table.
pub(super) async fn compare(
    lake: &Lake,
    tip: &CommitId,
    held: &Held,
    unit: &Unit,
    (piece, told): (RebuiltPiece, Rebuilt),
) -> Result<UnitRows, BackfillError> {
    let known = piece.rows.iter().any(|row| held.knows(&row.key, row.seq))
        || piece.left_out.iter().any(|(key, seq)| held.knows(key, *seq));
    let stored = match &held.table {
        Some(table) if known => Stored::read(lake, tip, table, unit).await?,
        _ => Stored::default(),
    };
    let mut rows = UnitRows { told, ..UnitRows::default() };
    rows.hold_against(piece, held, &stored, &unit.entity)?;
    Ok(rows)
}

impl UnitRows {
    fn hold_against(
        &mut self,
        piece: RebuiltPiece,
        held: &Held,
        stored: &Stored,
        entity: &str,
    ) -> Result<(), BackfillError> {
        let mut rows = piece.rows.iter();
        for batch in piece.batches {
            let mut keep = Vec::with_capacity(batch.num_rows());
            for (at, row) in rows.by_ref().take(batch.num_rows()).enumerate() {
                keep.push(match stored.of(&row.row_key) {
                    None => {
                        // Done, and not among the unit's rows: a better clock has moved it here.
                        if held.knows(&row.key, row.seq) {
                            self.replaced.push((row.device.clone(), row.row_key.clone()));
                        }
                        self.new = self.new.saturating_add(1);
                        true
                    }
                    Some(known) if change(&batch.slice(at, 1), &known) == Change::Nothing => {
                        self.same = self.same.saturating_add(1);
                        false
                    }
                    Some(known) => {
                        self.gives_way(entity, &row.row_key, &known);
                        self.changed = self.changed.saturating_add(1);
                        true
                    }
                });
            }
            if keep.iter().all(|keep| *keep) {
                self.batches.push(batch);
            } else if keep.iter().any(|keep| *keep) {
                let kept = BooleanArray::from(keep);
                self.batches.push(arrow_select::filter::filter_record_batch(&batch, &kept)?);
            }
        }
        for (key, seq) in &piece.left_out {
            let row_key = row_key(key, *seq);
            if let Some(known) = stored.of(&row_key) {
                self.gives_way(entity, &row_key, &known);
                self.gone = self.gone.saturating_add(1);
            }
        }
        (self.rows, self.left_out) = (piece.rows, piece.left_out);
        Ok(())
    }

    fn gives_way(&mut self, entity: &str, row_key: &str, row: &RecordBatch) {
        self.replaced.push((entity.to_owned(), row_key.to_owned()));
        let ts = row.column_by_name("ts_ns").and_then(|ts| ts.as_primitive_opt());
        let ts: Option<&arrow_array::Int64Array> = ts;
        if let Some(ts_ns) = ts.filter(|ts| !ts.is_empty()).map(|ts| ts.value(0)) {
            let (lo, hi) = self.replaced_ts.unwrap_or((ts_ns, ts_ns));
            self.replaced_ts = Some((lo.min(ts_ns), hi.max(ts_ns)));
        }
    }
}

/// A unit's rows as they stand in the table, by row key.
#[derive(Debug, Default)]
struct Stored {
    batches: Vec<RecordBatch>,
    places: HashMap<String, (usize, usize)>,
}

impl Stored {
    async fn read(
        lake: &Lake,
        tip: &CommitId,
        table: &TableName,
        unit: &Unit,
    ) -> Result<Self, BackfillError> {
        let options = ScanOptions {
            device: Some(unit.entity.clone()),
            from_us: Some(unit.from_us),
            to_us: Some(unit.to_us),
            ..ScanOptions::default()
        };
        let mut stored = Self::default();
        let mut batches = lake.scan(tip, table, options).await?;
        while let Some(batch) = batches.try_next().await? {
            let keys = batch.column_by_name("row_key").and_then(|keys| keys.as_string_opt::<i32>());
            let keys = keys.into_iter().flat_map(|keys| keys.iter().enumerate());
            let place = stored.batches.len();
            for (at, key) in keys.filter_map(|(at, key)| Some((at, key?))) {
                stored.places.insert(key.to_owned(), (place, at));
            }
            stored.batches.push(batch);
        }
        Ok(stored)
    }

    fn of(&self, row_key: &str) -> Option<RecordBatch> {
        let (batch, at) = self.places.get(row_key)?;
        Some(self.batches.get(*batch)?.slice(*at, 1))
    }
}
