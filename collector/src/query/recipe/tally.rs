//! What a dry run counts of rows that are made and not written: per device or site, and per column of the recipe (pure).

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch, StructArray};
use headwater_align::engine::flag;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Distances kept per column: of more, every other is left out until they fit, so that memory is bounded and the same rows
/// give the same median.
const DISTANCES_MAX: usize = 65_536;
/// How columns are named that tell where a value came from.
const SOURCE: &str = "_src";

/// Rows of one device or site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entity {
    pub(super) rows: u64,
    /// Earliest and latest, UTC ns.
    pub(super) t_ns: (i64, i64),
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) entities: BTreeMap<String, Entity>,
    pub(super) rows: u64,
    /// In the order of the table.
    matches: Vec<(String, Matches)>,
    nulls: Vec<(String, u64)>,
}

/// What is counted of one column of the recipe.
#[derive(Debug, Default)]
struct Matches {
    matched: u64,
    ambiguous: u64,
    fallback: u64,
    gaps: u64,
    distances: Thinned,
    err_max_ns: Option<i64>,
    errs: Thinned,
}

/// Numbers of which every n-th is kept.
#[derive(Debug)]
struct Thinned {
    kept: Vec<i64>,
    seen: u64,
    every: u64,
}

impl Default for Thinned {
    fn default() -> Self {
        Self { kept: Vec::new(), seen: 0, every: 1 }
    }
}

impl Thinned {
    fn add(&mut self, number: i64) {
        if self.seen.is_multiple_of(self.every) {
            self.kept.push(number);
        }
        self.seen = self.seen.saturating_add(1);
        if self.kept.len() >= DISTANCES_MAX {
            let mut place = 0_usize;
            self.kept.retain(|_| {
                place = place.wrapping_add(1);
                place % 2 == 1
            });
            self.every = self.every.saturating_mul(2);
        }
    }

    /// The lower of the two in the middle.
    fn median(&self) -> Option<i64> {
        let mut sorted = self.kept.clone();
        let middle = sorted.len().checked_sub(1)? / 2;
        Some(*sorted.select_nth_unstable(middle).1)
    }
}

impl Tally {
    /// Counts rows of the aligned table.
    pub(super) fn add(&mut self, rows: &RecordBatch) {
        self.rows = self.rows.saturating_add(rows.num_rows() as u64);
        self.count_entities(rows);
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            let name = field.name();
            match (name.strip_suffix(SOURCE), column.as_struct_opt()) {
                (Some(of), Some(source)) => place(&mut self.matches, of).add(source),
                _ => {
                    let nulls = place(&mut self.nulls, name);
                    *nulls = nulls.saturating_add(column.logical_null_count() as u64);
                }
            }
        }
    }

    fn count_entities(&mut self, rows: &RecordBatch) {
        let device = rows
            .column_by_name("device")
            .and_then(|of| arrow_cast::cast(of, &arrow_schema::DataType::Utf8).ok());
        let ts = rows.column_by_name("ts_ns").and_then(|ts| ts.as_primitive_opt::<Int64Type>());
        let device = device.as_ref().and_then(|device| device.as_string_opt::<i32>());
        let (Some(device), Some(ts)) = (device, ts) else { return };
        for (device, ts) in device.iter().zip(ts.values()) {
            let blank = Entity { rows: 0, t_ns: (*ts, *ts) };
            let device = device.unwrap_or_default();
            let of = match self.entities.get_mut(device) {
                Some(of) => of,
                None => self.entities.entry(device.to_owned()).or_insert(blank),
            };
            of.rows = of.rows.saturating_add(1);
            of.t_ns = (of.t_ns.0.min(*ts), of.t_ns.1.max(*ts));
        }
    }

    /// Columns of the recipe: how many rows have a match, how far away, how sure.
    pub(super) fn columns(&self) -> Vec<Value> {
        let told = self.matches.iter().map(|(name, of)| {
            json!({
                "column": name,
                "matched": of.matched,
                "match_ratio": ratio(of.matched, self.rows),
                "ambiguous": of.ambiguous,
                "fallback": of.fallback,
                "gaps": of.gaps,
                "median_dt_ns": of.distances.median(),
                "median_err_ns": of.errs.median(),
                "err_max_ns": of.err_max_ns,
            })
        });
        told.collect()
    }

    /// Values that are null, by column of the table.
    pub(super) fn nulls(&self) -> Vec<Value> {
        let told = self.nulls.iter().map(
            |(name, nulls)| json!({"value": name, "nulls": nulls, "null_ratio": ratio(*nulls, self.rows)}),
        );
        told.collect()
    }
}

impl Matches {
    fn add(&mut self, source: &StructArray) {
        let long = |name: &str| source.column_by_name(name).and_then(|of| of.as_primitive_opt::<Int64Type>());
        let flags = source.column_by_name("flag").and_then(|of| of.as_primitive_opt::<Int32Type>());
        let (seq, dt, err) = (long("seq_lo"), long("dt_ns"), long("err_ns"));
        for row in (0..source.len()).filter(|row| source.is_valid(*row)) {
            let matched = seq.is_some_and(|seq| seq.is_valid(row));
            self.matched = self.matched.saturating_add(u64::from(matched));
            let flags = flags.filter(|flags| flags.is_valid(row)).map_or(0, |flags| flags.value(row));
            for (count, bits) in [
                (&mut self.ambiguous, flag::AMBIGUOUS),
                (&mut self.fallback, flag::FALLBACK),
                (&mut self.gaps, flag::GAP_WIDE | flag::GAP_INSIDE),
            ] {
                *count = count.saturating_add(u64::from(flags & bits != 0));
            }
            if let Some(dt) = dt.filter(|dt| matched && dt.is_valid(row)) {
                self.distances.add(dt.value(row).saturating_abs());
            }
            if let Some(err) = err.filter(|err| matched && err.is_valid(row)).map(|err| err.value(row)) {
                self.errs.add(err);
                self.err_max_ns = self.err_max_ns.max(Some(err));
            }
        }
    }
}

fn place<'a, T: Default>(all: &'a mut Vec<(String, T)>, name: &str) -> &'a mut T {
    let at = all.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
        all.push((name.to_owned(), T::default()));
        all.len() - 1
    });
    &mut all[at].1
}

/// Of all rows, in thousandths; none without rows.
fn ratio(of: u64, all: u64) -> Option<f64> {
    let thousandths = u128::from(of).saturating_mul(1_000).checked_div(u128::from(all))?;
    Some(f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn matches_nulls_and_entities_are_counted() {
        let long = |all: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(all)) };
        let source = StructArray::try_from(vec![
            ("seq_lo", long(vec![Some(1), None, Some(3)])),
            ("dt_ns", long(vec![Some(-5), None, Some(20)])),
            ("err_ns", long(vec![Some(7), None, Some(2)])),
            (
                "flag",
                Arc::new(Int32Array::from(vec![flag::AMBIGUOUS, 0, flag::AMBIGUOUS | flag::GAP_WIDE]))
                    as ArrayRef,
            ),
        ])
        .unwrap();
        let rows = RecordBatch::try_from_iter([
            ("device", Arc::new(StringArray::from(vec!["a", "b", "a"])) as ArrayRef),
            ("ts_ns", long(vec![Some(1), Some(2), Some(3)])),
            ("m_x", Arc::new(Float64Array::from(vec![Some(1.0), None, None])) as ArrayRef),
            ("m_src", Arc::new(source) as ArrayRef),
        ])
        .unwrap();
        let mut tally = Tally::default();
        tally.add(&rows);
        assert_eq!(tally.entities["a"], Entity { rows: 2, t_ns: (1, 3) });
        let columns = tally.columns();
        assert_eq!(
            columns[0],
            json!({"column": "m", "matched": 2, "match_ratio": 0.666, "ambiguous": 2, "fallback": 0, "gaps": 1,
                   "median_dt_ns": 5, "median_err_ns": 2, "err_max_ns": 7})
        );
        assert_eq!(tally.nulls()[2], json!({"value": "m_x", "nulls": 2, "null_ratio": 0.666}));
    }

    #[test]
    fn a_median_of_many_is_thinned_and_near() {
        let mut many = Thinned::default();
        (0..300_000).for_each(|n| many.add(n));
        assert!(many.kept.len() < DISTANCES_MAX);
        let median = many.median().unwrap();
        assert!((149_000..151_000).contains(&median), "{median}");
        assert_eq!(Thinned::default().median(), None);
    }
}
