//! What is remembered of a device's rows so that the next ones can be derived (pure).

use super::Derives;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::ArrowError;
use headwater_align::derive::{DeriveError, Memory};
use std::collections::BTreeMap;

/// A row's place among those of its device: by time, then by spine sample. It is the same whatever brought the row, and can
/// be told from the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// UTC, ns.
    pub ts_ns: i64,
    /// Epoch and stream of the spine sample; of a grid its word.
    source: String,
    /// Seq, or number of the grid's point.
    number: i128,
}

impl Link {
    /// Of a row.
    #[must_use]
    pub fn new(ts_ns: i64, row_key: &str) -> Self {
        let (source, number) = row_key.rsplit_once('/').unwrap_or((row_key, "0"));
        Self { ts_ns, source: source.to_owned(), number: number.parse().unwrap_or(0) }
    }
}

/// An end of a device's chain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct End {
    /// Its last row.
    pub at: Option<Link>,
    /// What is remembered there.
    pub memory: Memory,
}

/// Both ends of a device's chain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tail {
    /// After its final rows.
    pub finals: End,
    /// After the provisional ones behind those, too.
    pub all: End,
}

/// Tails by device, as the table has its rows.
pub type Tails = BTreeMap<String, Tail>;

/// Places of rows in the order of their chain, by device.
///
/// # Errors
/// When a column of identity is missing, which only a bug brings about.
pub fn by_device(rows: &RecordBatch) -> Result<BTreeMap<String, Vec<(Link, usize)>>, ArrowError> {
    let missing = |name: &str| ArrowError::SchemaError(format!("rows have no column {name} of its type"));
    let text = |name: &str| {
        rows.column_by_name(name)
            .and_then(|column| column.as_string_opt::<i32>())
            .ok_or_else(|| missing(name))
    };
    let times = rows.column_by_name("ts_ns").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (devices, keys, times) = (text("device")?, text("row_key")?, times.ok_or_else(|| missing("ts_ns"))?);
    let mut all: BTreeMap<String, Vec<(Link, usize)>> = BTreeMap::new();
    for row in 0..rows.num_rows() {
        let link = Link::new(times.value(row), keys.value(row));
        match all.get_mut(devices.value(row)) {
            Some(links) => links.push((link, row)),
            None => drop(all.insert(devices.value(row).to_owned(), vec![(link, row)])),
        }
    }
    all.values_mut().for_each(|links| links.sort());
    Ok(all)
}

/// Rows at these places, in this order.
///
/// # Errors
/// As Arrow says.
pub fn picked(rows: &RecordBatch, places: impl Iterator<Item = usize>) -> Result<RecordBatch, ArrowError> {
    let places = UInt64Array::from_iter_values(places.map(|place| place as u64));
    arrow_select::take::take_record_batch(rows, &places)
}

/// Derives rows of one device, in order, behind an end; gives the chain's columns of them and the new end.
///
/// # Errors
/// [`DeriveError`].
pub fn follow(
    derives: &Derives,
    end: &End,
    rows: &RecordBatch,
    links: &[(Link, usize)],
) -> Result<(RecordBatch, End), DeriveError> {
    let ordered = picked(rows, links.iter().map(|(_, row)| *row))?;
    let (made, memory) = derives.link(&ordered, end.memory.clone())?;
    let last = links.last().map(|(link, _)| link.clone());
    Ok((made, End { at: last.max(end.at.clone()), memory }))
}

/// The end that provisional rows are derived behind: one beyond them would say what came after.
#[must_use]
pub fn before<'a>(finals: &'a End, all: &'a End, first: Option<&Link>) -> &'a End {
    match (&all.at, first) {
        (Some(at), Some(first)) if at < first && all.at > finals.at => all,
        _ => finals,
    }
}
