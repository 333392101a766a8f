//! The total order of a table's rows: its sort columns, ties broken by every other plain column, so that the same rows come
//! out the same whatever files they come from.

use std::sync::{Arc, OnceLock};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::{ArrowError, SortOptions};

use crate::table::Shape;

/// Nulls come first, as everywhere in the lake.
const OPTIONS: SortOptions = SortOptions { descending: false, nulls_first: true };

/// Names of the columns that make the order, first what counts most.
pub(crate) fn names(shape: &Shape) -> impl Iterator<Item = &str> {
    let plain =
        |name: &&str| shape.target.field_with_name(name).is_ok_and(|field| !field.data_type().is_nested());
    let rest = shape.target.fields().iter().map(|field| field.name().as_str());
    let rest = rest.filter(|name| !shape.sort.iter().any(|sorted| sorted == name));
    shape.sort.iter().map(String::as_str).chain(rest).filter(plain)
}

/// Makes keys of rows.
#[derive(Debug)]
pub(crate) struct Order {
    first: Part,
    rest: Part,
}

#[derive(Debug)]
struct Part {
    places: Vec<usize>,
    converter: RowConverter,
}

impl Part {
    fn new(shape: &Shape, names: &[&str]) -> Result<Part, ArrowError> {
        let places: Vec<usize> =
            names.iter().map(|name| shape.target.index_of(name)).collect::<Result<_, _>>()?;
        let fields = places.iter().map(|place| {
            SortField::new_with_options(shape.target.field(*place).data_type().clone(), OPTIONS)
        });
        Ok(Part { converter: RowConverter::new(fields.collect())?, places })
    }

    /// Keys of all rows; none without columns, which would make keys of no rows at all.
    fn keys(&self, batch: &RecordBatch) -> Result<Option<Rows>, ArrowError> {
        if self.places.is_empty() {
            return Ok(None);
        }
        let columns: Vec<ArrayRef> =
            self.places.iter().map(|place| Arc::clone(batch.column(*place))).collect();
        self.converter.convert_columns(&columns).map(Some)
    }
}

/// Keys of a batch. Those of the columns behind the table's own order are made when a tie asks for them.
#[derive(Debug)]
pub(crate) struct Keys {
    first: Option<Rows>,
    rest: OnceLock<Option<Rows>>,
}

impl Order {
    pub(crate) fn new(shape: &Shape) -> Result<Order, ArrowError> {
        let all: Vec<&str> = names(shape).collect();
        let (first, rest) = all.split_at(shape.sort.len().min(all.len()));
        Ok(Order { first: Part::new(shape, first)?, rest: Part::new(shape, rest)? })
    }

    /// Keys of the rows of `batch`.
    pub(crate) fn keys(&self, batch: &RecordBatch) -> Result<Keys, ArrowError> {
        Ok(Keys { first: self.first.keys(batch)?, rest: OnceLock::new() })
    }

    /// How row `a` of one batch stands to row `b` of another.
    pub(crate) fn compare(
        &self,
        (batch_a, keys_a, a): (&RecordBatch, &Keys, usize),
        (batch_b, keys_b, b): (&RecordBatch, &Keys, usize),
    ) -> std::cmp::Ordering {
        let first = match (&keys_a.first, &keys_b.first) {
            (Some(left), Some(right)) => left.row(a).cmp(&right.row(b)),
            _ => std::cmp::Ordering::Equal,
        };
        first.then_with(|| {
            // Columns that gave a key once have a type that always does; without keys a tie stays a tie.
            let rest = |batch: &RecordBatch| self.rest.keys(batch).ok().flatten();
            let left = keys_a.rest.get_or_init(|| rest(batch_a));
            let right = keys_b.rest.get_or_init(|| rest(batch_b));
            match (left, right) {
                (Some(left), Some(right)) => left.row(a).cmp(&right.row(b)),
                _ => std::cmp::Ordering::Equal,
            }
        })
    }
}
