//! Aligned rows and their table: values, and for each column group the source they came from (L1).

use super::asof::{Instant, Source};
use super::online::OnlineRecipe;
use crate::commit::cells::{Cell, TableRows};
use crate::commit::tables::{properties, source_column, text, time_columns};
use crate::dedup::StreamKey;
use headwater_core::id::{FieldName, StreamName};
use headwater_lake::{ColumnSpec, ColumnType, NameError, TableName, TableSpec};
use std::collections::{BTreeMap, BTreeSet};

/// What a column group gave for one row.
#[derive(Debug, Clone, PartialEq)]
pub struct AlignedColumn {
    /// One value per selected field; null without a match.
    pub values: Vec<Cell>,
    /// Where they came from.
    pub source: Source,
}

/// One row of an aligned table.
#[derive(Debug, Clone, PartialEq)]
pub struct AlignedRow {
    /// Spine stream.
    pub key: StreamKey,
    /// Spine sample.
    pub at: Instant,
    /// One value per selected field of the spine.
    pub values: Vec<Cell>,
    /// One entry per column of the recipe.
    pub columns: Vec<AlignedColumn>,
    /// Emitted after the idle timeout, before all columns were complete.
    pub provisional: bool,
}

impl AlignedRow {
    /// `<epoch>/<stream>/<seq>`: the row's stable identity.
    #[must_use]
    pub fn row_key(&self) -> String {
        format!("{}/{}/{}", self.key.epoch, self.key.stream, self.at.place.seq)
    }
}

/// Rows of one recipe that became final together.
#[derive(Debug, Clone, Default)]
pub struct AlignedWindow {
    /// The rows, in the order of their place.
    pub rows: Vec<AlignedRow>,
    /// Spine rows left out for their grade or error; done all the same.
    pub left_out: Vec<(StreamKey, u64)>,
}

impl AlignedWindow {
    /// The rows of these devices, taken out.
    #[must_use]
    pub fn part(&mut self, devices: &BTreeSet<String>) -> Self {
        let is_theirs = |key: &StreamKey| devices.contains(key.device.as_str());
        let (theirs, others) =
            std::mem::take(&mut self.rows).into_iter().partition(|row| is_theirs(&row.key));
        self.rows = others;
        let (left_out, others) =
            std::mem::take(&mut self.left_out).into_iter().partition(|(key, _)| is_theirs(key));
        self.left_out = others;
        Self { rows: theirs, left_out }
    }

    /// True without anything to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.left_out.is_empty()
    }
}

/// Types of fields by stream, as far as they were declared.
pub type FieldTypes = BTreeMap<(StreamName, FieldName), ColumnType>;

/// The table of a recipe.
///
/// # Errors
/// Never for a checked recipe, whose names are narrower than a table's.
pub fn table_name(recipe: &OnlineRecipe) -> Result<TableName, NameError> {
    TableName::new(format!("aligned.{}", recipe.name))
}

/// A blob never enters the aligner: its digest does, and finds the row in `raw`.
fn column_of(name: String, column_type: &ColumnType) -> ColumnSpec {
    match column_type {
        ColumnType::Struct(_) => {
            text(&format!("{name}_hash")).with_doc("SHA-256 of the object, as in raw.*.hash")
        }
        other => ColumnSpec::optional(name, other.clone()),
    }
}

/// The rows as an append. Columns of fields nobody has declared yet are left out and added once they are.
///
/// # Errors
/// See [`table_name`].
pub fn table_rows(
    recipe: &OnlineRecipe,
    types: &FieldTypes,
    rows: &[AlignedRow],
) -> Result<TableRows, NameError> {
    let type_of = |stream: &StreamName, field: &FieldName| types.get(&(stream.clone(), field.clone()));
    let mut columns = vec![ColumnSpec::required("device", ColumnType::String)];
    columns.extend(time_columns());
    columns
        .push(ColumnSpec::required("row_key", ColumnType::String).with_doc("spine sample: epoch/stream/seq"));
    columns.push(
        ColumnSpec::required("provisional", ColumnType::Boolean)
            .with_doc("emitted before all columns were complete"),
    );
    let mut spine_names = Vec::new();
    for field in &recipe.spine_select {
        let column = type_of(&recipe.spine, field).map(|kind| column_of(field.to_string(), kind));
        spine_names.push(column.as_ref().map(|column| column.name.clone()));
        columns.extend(column);
    }
    let mut names = Vec::new();
    for column in &recipe.columns {
        let mut group = Vec::new();
        for field in &column.select {
            let spec = type_of(&column.stream, field)
                .map(|kind| column_of(format!("{}_{field}", column.name), kind));
            group.push(spec.as_ref().map(|spec| spec.name.clone()));
            columns.extend(spec);
        }
        columns.push(source_column(&format!("{}_src", column.name)));
        names.push(group);
    }
    let mut spec = TableSpec::new(table_name(recipe)?, columns, &["device", "ts", "row_key"]);
    spec.properties = properties([
        ("hw.kind", "aligned".to_owned()),
        ("hw.recipe", recipe.id()),
        ("hw.recipe-json", recipe.canonical()),
    ]);

    let mut out = TableRows::new(spec);
    for row in rows {
        let mut cells: Vec<(&str, Cell)> = vec![
            ("device", row.key.device.as_str().into()),
            ("ts", row.at.ts_ns.div_euclid(1_000).into()),
            ("ts_ns", row.at.ts_ns.into()),
            ("ts_err_ns", row.at.err_ns.into()),
            ("grade", row.at.grade.as_str().into()),
            ("row_key", row.row_key().into()),
            ("provisional", row.provisional.into()),
        ];
        let named = spine_names.iter().zip(&row.values);
        cells.extend(named.filter_map(|(name, value)| Some((name.as_deref()?, value.clone()))));
        let sources: Vec<String> =
            recipe.columns.iter().map(|column| format!("{}_src", column.name)).collect();
        for (place, column) in row.columns.iter().enumerate() {
            let group = names.get(place).into_iter().flatten().zip(&column.values);
            cells.extend(group.filter_map(|(name, value)| Some((name.as_deref()?, value.clone()))));
            let (Some(recipe), Some(name)) = (recipe.columns.get(place), sources.get(place)) else {
                continue;
            };
            cells.push((name, source_cell(&recipe.stream, &row.key, &column.source)));
        }
        out.push(cells);
    }
    Ok(out)
}

fn source_cell(stream: &StreamName, spine: &StreamKey, source: &Source) -> Cell {
    let named = source.seq.is_some();
    Cell::Struct(vec![
        named.then(|| stream.to_string()).into(),
        named.then(|| spine.epoch.to_string()).into(),
        source.seq.into(),
        source.seq.into(),
        source.dt_ns.into(),
        source.err_ns.into(),
        i32::from(named && source.flag & super::asof::FLAG_TOLERANCE == 0).into(),
        source.flag.into(),
    ])
}
