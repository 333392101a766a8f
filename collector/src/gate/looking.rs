//! What rules are given beside the rows: some of their pictures, decoded, and rows of other refs to compare with.

use crate::commit::cells::Cell;
use crate::commit::read::ScannedRows;
use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::ArrowError;
use futures::TryStreamExt;
use headwater_align::gate::{Check, RuleSet, Seen, look};
use headwater_lake::{CommitId, Compare, Condition, Lake, LakeError, ScanOptions, TableName};
use std::collections::BTreeMap;

/// Pictures looked at per window, whatever rules want and however many devices there are: each is a read of a row group,
/// and tens of milliseconds of decoding.
pub const LOOKS_MAX: usize = 64;
/// Rows of a reference that a distribution is drawn from; of a longer one every other is left out until they fit, so memory
/// is bounded and the same ref gives the same rows.
pub const REFERENCE_ROWS_MAX: usize = 100_000;
/// Around a row's time, µs: a better clock may have moved its raw row since.
pub(super) const AROUND_US: i64 = 60_000_000;

/// Pictures by the row that names them, or why they are none.
pub type Looks = BTreeMap<usize, Result<Seen, String>>;

/// What stood in the way of looking.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// The lake.
    #[error("read pictures or references for the gate")]
    Lake(#[from] LakeError),
    /// Rows that do not go together.
    #[error("lay rows of a reference out")]
    Arrow(#[from] ArrowError),
}

/// A picture that a row names.
struct Named {
    row: usize,
    hash: String,
    ts_us: i64,
}

/// Looks at pictures of `batches`, evenly over each device's rows, as many per device as the rules want and not more than
/// [`LOOKS_MAX`] in all. Those of another form than JPEG and PNG, or that are in no raw table, are left out.
///
/// # Errors
/// When the lake cannot be read; a picture that cannot be decoded is no error of this.
pub async fn look_at(
    lake: &Lake,
    at: &CommitId,
    rules: &[&RuleSet],
    batches: &[RecordBatch],
) -> Result<Looks, LookError> {
    let mut looks = Looks::new();
    let columns = wanted(rules);
    if columns.is_empty() {
        return Ok(looks);
    }
    let mut tables: Vec<TableName> = Vec::new();
    for table in lake.tables(at).await?.into_keys().filter(|table| table.namespace() == "raw") {
        let columns = lake.columns(at, &table).await?;
        if ["image", "hash", "mime"].iter().all(|name| columns.iter().any(|column| column.name == *name)) {
            tables.push(table);
        }
    }
    for (column, count) in columns {
        for named in some(batches, &column, count, LOOKS_MAX.saturating_sub(looks.len())) {
            for table in &tables {
                if let Some(found) = find(lake, at, table, &named).await? {
                    looks.insert(named.row, found);
                    break;
                }
            }
        }
    }
    Ok(looks)
}

/// Columns of pictures with the most that a rule wants to see of each.
fn wanted(rules: &[&RuleSet]) -> BTreeMap<String, usize> {
    let mut columns = BTreeMap::new();
    for rule in rules.iter().flat_map(|set| &set.rules) {
        if let Check::Image { column, decode: Some(limits) } = &rule.check {
            let most = columns.entry(column.clone()).or_insert(0);
            *most = usize::try_from(limits.looks).unwrap_or(usize::MAX).max(*most);
        }
    }
    columns
}

/// Pictures that rows name, evenly over each device's, in the order of the rows.
fn some(batches: &[RecordBatch], column: &str, count: usize, most: usize) -> Vec<Named> {
    let mut devices: BTreeMap<String, Vec<Named>> = BTreeMap::new();
    let mut before = 0_usize;
    for batch in batches {
        let rows = ScannedRows(batch);
        for at in 0..rows.len() {
            let hash = rows.text(&format!("{column}_hash"), at).or_else(|| rows.text("hash", at));
            if let Some((hash, ts_ns)) = hash.zip(rows.long("ts_ns", at)) {
                let device = rows.text("device", at).unwrap_or_default();
                let named = Named { row: before.saturating_add(at), hash, ts_us: ts_ns.div_euclid(1_000) };
                devices.entry(device).or_default().push(named);
            }
        }
        before = before.saturating_add(rows.len());
    }
    // Fewer of each rather than none of some.
    let each = count.min(most.checked_div(devices.len()).unwrap_or(0).max(1));
    let mut chosen: Vec<Named> = devices
        .into_values()
        .flat_map(|named| {
            let step = named.len().div_ceil(each).max(1);
            named.into_iter().step_by(step)
        })
        .collect();
    chosen.truncate(most);
    chosen
}

/// What a picture is like; none if the table does not have it, or it is of a form that is not known.
async fn find(
    lake: &Lake,
    at: &CommitId,
    table: &TableName,
    named: &Named,
) -> Result<Option<Result<Seen, String>>, LakeError> {
    let hash = Condition { column: "hash".to_owned(), compare: Compare::Equal, value: named.hash.clone() };
    let options = ScanOptions {
        columns: Some(["image", "hash", "mime"].map(str::to_owned).to_vec()),
        limit: Some(1),
        from_us: Some(named.ts_us.saturating_sub(AROUND_US)),
        to_us: Some(named.ts_us.saturating_add(AROUND_US)),
        conditions: vec![hash],
        ..ScanOptions::default()
    };
    let mut batches = lake.scan(at, table, options).await?;
    while let Some(batch) = batches.try_next().await? {
        let rows = ScannedRows(&batch);
        if rows.is_empty() {
            continue;
        }
        if !matches!(rows.text("mime", 0).as_deref(), Some("image/jpeg" | "image/png")) {
            return Ok(None);
        }
        let bytes = match rows.member("image", "bytes", 0) {
            Cell::Bytes(bytes) => bytes.into(),
            _ => match lake.blob(&named.hash).await? {
                Some(bytes) => bytes,
                None => return Ok(Some(Err("its object is not in the lake".to_owned()))),
            },
        };
        return Ok(Some(look(&bytes).map_err(|error| error.to_string())));
    }
    Ok(None)
}

/// Rows of `table` at each ref that rules compare with; a ref or table that is not there is left out, and the rule says so.
///
/// # Errors
/// When the lake cannot be read.
pub async fn references(
    lake: &Lake,
    rules: &[&RuleSet],
    table: &TableName,
) -> Result<BTreeMap<String, RecordBatch>, LookError> {
    let mut found = BTreeMap::new();
    for name in rules.iter().flat_map(|set| set.references()) {
        if found.contains_key(name) {
            continue;
        }
        let Ok(at) = lake.resolve(name).await else { continue };
        if !lake.tables(&at).await?.contains_key(table) {
            continue;
        }
        let known = lake.columns(&at, table).await?;
        let columns: Vec<String> = compared(rules, name)
            .into_iter()
            .filter(|name| known.iter().any(|column| column.name == *name))
            .collect();
        let options = ScanOptions { columns: Some(columns), in_order: true, ..ScanOptions::default() };
        let mut thinned = Thinned::default();
        let mut batches = lake.scan(&at, table, options).await?;
        while let Some(batch) = batches.try_next().await? {
            thinned.add(batch)?;
        }
        if let Some(rows) = thinned.rows()? {
            found.insert(name.to_owned(), rows);
        }
    }
    Ok(found)
}

/// Columns that are compared with this ref.
fn compared(rules: &[&RuleSet], name: &str) -> Vec<String> {
    let mut columns: Vec<String> = rules
        .iter()
        .flat_map(|set| &set.rules)
        .filter_map(|rule| match &rule.check {
            Check::Drift { columns, reference, .. } if reference == name => Some(columns.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    columns.sort();
    columns.dedup();
    columns
}

/// Every `stride`-th row of what comes.
#[derive(Debug)]
struct Thinned {
    kept: Vec<RecordBatch>,
    rows: usize,
    seen: usize,
    stride: usize,
}

impl Default for Thinned {
    fn default() -> Self {
        Self { kept: Vec::new(), rows: 0, seen: 0, stride: 1 }
    }
}

impl Thinned {
    fn add(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        let first = self.seen.next_multiple_of(self.stride).saturating_sub(self.seen);
        self.seen = self.seen.saturating_add(batch.num_rows());
        let some = every(&batch, first, self.stride)?;
        self.rows = self.rows.saturating_add(some.num_rows());
        self.kept.push(some);
        while self.rows > REFERENCE_ROWS_MAX {
            self.stride = self.stride.saturating_mul(2);
            let mut before = 0_usize;
            for batch in &mut self.kept {
                let first = before % 2;
                before = before.saturating_add(batch.num_rows());
                *batch = every(batch, first, 2)?;
            }
            self.rows = self.kept.iter().map(RecordBatch::num_rows).sum();
        }
        Ok(())
    }

    fn rows(&self) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(first) = self.kept.first() else { return Ok(None) };
        arrow_select::concat::concat_batches(&first.schema(), &self.kept).map(Some)
    }
}

fn every(batch: &RecordBatch, first: usize, stride: usize) -> Result<RecordBatch, ArrowError> {
    let places = (first..batch.num_rows()).step_by(stride).map(|place| place as u64);
    arrow_select::take::take_record_batch(batch, &UInt64Array::from_iter_values(places))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn numbers(from: i64, n: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + n));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    #[test]
    fn a_long_reference_is_thinned_evenly() {
        for size in [777, 65_536] {
            let mut thinned = Thinned::default();
            let all = 350_000;
            for from in (0..all).step_by(usize::try_from(size).unwrap()) {
                thinned.add(numbers(from, size.min(all - from))).unwrap();
            }
            let rows = thinned.rows().unwrap().unwrap();
            let found: Vec<i64> =
                (0..rows.num_rows()).map(|row| ScannedRows(&rows).long("n", row).unwrap()).collect();
            let wanted: Vec<i64> = (0..all).step_by(4).collect();
            assert_eq!(found, wanted, "batches of {size}");
        }
    }

    #[test]
    fn pictures_are_chosen_evenly_over_each_device() {
        let n = 30_i64;
        let devices: Vec<&str> = (0..n).map(|row| if row < 24 { "pi-1" } else { "pi-2" }).collect();
        let hashes: Vec<Option<String>> = (0..n).map(|row| (row != 0).then(|| format!("h{row}"))).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("device", Arc::new(StringArray::from(devices)) as ArrayRef, false),
            ("ts_ns", Arc::new(Int64Array::from_iter_values(0..n)) as ArrayRef, false),
            ("image_hash", Arc::new(StringArray::from(hashes)) as ArrayRef, true),
        ])
        .unwrap();
        let halves = [batch.slice(0, 10), batch.slice(10, 20)];
        let rows = |count, most| -> Vec<usize> {
            some(&halves, "image", count, most).into_iter().map(|named| named.row).collect()
        };
        assert_eq!(rows(3, 64), [1, 9, 17, 24, 26, 28]);
        assert_eq!(rows(8, 2), [1, 24], "fewer of each rather than none of some");
        assert_eq!(rows(8, 0), Vec::<usize>::new());
    }
}
