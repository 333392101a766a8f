//! How a recipe's rows lie: the engine's plan for the fields that are declared, and the table they go to.

use super::source::Source;
use crate::commit::tables::properties;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use headwater_align::engine::{Inputs, Options, Plan, PlanError, UNIT_KEY};
use headwater_align::recipe::{Method, Recipe};
use headwater_core::id::FieldName;
use headwater_lake::{ColumnSpec, ColumnType, NameError, TableName, TableSpec};
use std::collections::HashMap;
use std::sync::Arc;

/// Why the rows of a recipe cannot be laid out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The declared fields cannot bear the recipe.
    #[error("recipe {recipe} does not fit what its streams declare: {source}")]
    Plan {
        /// The recipe.
        recipe: String,
        /// What does not fit.
        source: PlanError,
    },
    /// A column of a type that no table has.
    #[error("column {column} is {found}, which no table of the lake holds")]
    Column {
        /// The column.
        column: String,
        /// Its type.
        found: DataType,
    },
    /// The recipe's name names no table.
    #[error("name the aligned table")]
    Name(#[from] NameError),
}

/// The plan for the fields that are declared.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Ready to run. Columns of streams of which nothing is declared are not in it.
    pub plan: Plan,
    /// Of each column of the plan, its place among the recipe's.
    pub columns: Vec<usize>,
    /// Where the rows go.
    pub spec: TableSpec,
    /// Schemas of the spine's streams.
    spine: Vec<SchemaRef>,
    /// Of each column of the plan.
    inputs: Vec<SchemaRef>,
    /// Which of a source's fields are put in, by source.
    taken: Vec<Vec<usize>>,
    spine_streams: usize,
}

impl Layout {
    /// Settles a recipe for what is known of its sources.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn new(
        recipe: &Recipe,
        id: (&str, &str),
        sources: &[Source],
        spine_streams: usize,
    ) -> Result<Self, LayoutError> {
        let (spine_sources, column_sources) = sources.split_at(spine_streams.min(sources.len()));
        let mut reduced = recipe.clone();
        keep_known_spine(&mut reduced, spine_sources);
        let (mut columns, mut inputs, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let mut taken: Vec<Vec<usize>> = spine_sources.iter().map(known).collect();
        for (place, (column, source)) in recipe.columns.iter().zip(column_sources).enumerate() {
            let known = known(source);
            taken.push(known.clone());
            let selected: Vec<usize> = known.iter().copied().filter(|at| *at < source.selected).collect();
            let whole = matches!(column.method, Method::Slerp(_) | Method::Geodesic { .. });
            if selected.is_empty() || (whole && selected.len() < source.selected) {
                continue;
            }
            let mut column = column.clone();
            column.select =
                selected.iter().filter_map(|at| source.fields.get(*at)).map(|f| f.field.clone()).collect();
            columns.push(place);
            inputs.push(schema(source, &known));
            kept.push(column);
        }
        reduced.columns = kept;
        let spine: Vec<SchemaRef> =
            spine_sources.iter().zip(&taken).map(|(source, known)| schema(source, known)).collect();
        let of_spine = spine.first().filter(|_| spine_streams == 1).cloned();
        let given =
            Inputs { spine: of_spine.unwrap_or_else(|| Arc::new(Schema::empty())), columns: inputs.clone() };
        let plan = Plan::new(&reduced, &given, Options::default())
            .map_err(|source| LayoutError::Plan { recipe: recipe.name.to_string(), source })?;
        let spec = spec(recipe, id, plan.schema())?;
        Ok(Self { plan, columns, spec, spine, inputs, taken, spine_streams })
    }

    /// Values of one source as the plan takes them; `column` is its place among the plan's columns, none for the spine.
    ///
    /// # Errors
    /// When values are of other types than planned for, which only a bug does.
    pub fn batch(
        &self,
        source: usize,
        column: Option<usize>,
        values: &[Option<ArrayRef>],
        rows: usize,
    ) -> Result<RecordBatch, ArrowError> {
        let schema = match column {
            Some(column) => self.inputs.get(column),
            None => self.spine.get(source),
        };
        let schema = schema.cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
        let places = self.taken.get(source).map(Vec::as_slice).unwrap_or_default();
        let array = |(place, field): (&usize, &Arc<Field>)| {
            let held = values.get(*place).cloned().flatten();
            held.unwrap_or_else(|| new_null_array(field.data_type(), rows))
        };
        let arrays = places.iter().zip(schema.fields()).map(array).collect();
        RecordBatch::try_new_with_options(
            schema,
            arrays,
            &RecordBatchOptions::new().with_row_count(Some(rows)),
        )
    }

    /// Place of a column of the plan among the sources.
    #[must_use]
    pub fn source_of(&self, column: usize) -> Option<usize> {
        self.columns.get(column).map(|place| place.saturating_add(self.spine_streams))
    }
}

fn keep_known_spine(recipe: &mut Recipe, sources: &[Source]) {
    use headwater_align::recipe::SpineSource;
    if let SpineSource::Stream { select, .. } | SpineSource::Event { select, .. } = &mut recipe.spine.source
        && let Some(source) = sources.first()
    {
        let is_known = |field: &FieldName| {
            source.fields.iter().any(|taken| taken.field == *field && taken.known.is_some())
        };
        select.retain(is_known);
    }
}

/// Places of the fields of a source that are declared.
fn known(source: &Source) -> Vec<usize> {
    let fields = source.fields.iter().enumerate();
    fields.filter(|(_, taken)| taken.known.is_some()).map(|(place, _)| place).collect()
}

fn schema(source: &Source, places: &[usize]) -> SchemaRef {
    let field = |place: &usize| {
        let known = source.fields.get(*place)?.known.as_ref()?;
        let unit = HashMap::from([(UNIT_KEY.to_owned(), known.unit.clone())]);
        Some(Field::new(&known.name, known.data_type.clone(), true).with_metadata(unit))
    };
    Arc::new(Schema::new(places.iter().filter_map(field).collect::<Vec<_>>()))
}

/// The table of a recipe.
///
/// # Errors
/// Never for a checked recipe, whose names are narrower than a table's.
pub fn table_name(recipe: &Recipe) -> Result<TableName, NameError> {
    TableName::new(format!("aligned.{}", recipe.name))
}

/// The table of what the engine puts out. Columns of fields nobody has declared yet are added once they are.
fn spec(recipe: &Recipe, (id, canonical): (&str, &str), schema: &Schema) -> Result<TableSpec, LayoutError> {
    let mut columns = Vec::new();
    for field in schema.fields() {
        columns.push(column(field)?);
        if field.name() == "row_key" {
            let doc = "emitted before all columns were complete; its final row replaces it";
            columns.push(ColumnSpec::required("provisional", ColumnType::Boolean).with_doc(doc));
        }
    }
    let sort: Vec<&str> = recipe.output.sort.iter().map(String::as_str).collect();
    let mut spec = TableSpec::new(table_name(recipe)?, columns, &sort);
    spec.properties = properties([
        ("hw.kind", "aligned".to_owned()),
        ("hw.recipe", id.to_owned()),
        ("hw.recipe-json", canonical.to_owned()),
    ]);
    Ok(spec)
}

/// Columns every row has a value in.
const REQUIRED: [&str; 6] = ["device", "ts", "ts_ns", "ts_err_ns", "grade", "row_key"];

fn column(field: &Field) -> Result<ColumnSpec, LayoutError> {
    let found = || LayoutError::Column { column: field.name().clone(), found: field.data_type().clone() };
    let column_type = column_type(field.data_type()).ok_or_else(found)?;
    let name = field.name().as_str();
    let required = REQUIRED.contains(&name);
    let spec = ColumnSpec { name: name.to_owned(), column_type, required, doc: None };
    Ok(match (name, field.metadata().get(UNIT_KEY)) {
        ("ts", _) => spec.with_doc("resolved event time, UTC, µs rounded down"),
        ("ts_ns", _) => spec.with_doc("the same, ns since 1970"),
        ("ts_err_ns", _) => {
            spec.with_doc("the true time lies within ts_ns ± this, as far as the grade promises, ns")
        }
        ("grade", _) => spec.with_doc("guaranteed, estimated or ordering_only"),
        ("row_key", _) => spec.with_doc("spine sample: epoch/stream/seq, or grid/index"),
        (_, Some(unit)) => spec.with_unit(unit),
        (name, None) if name.ends_with("_src") => spec.with_doc("source samples, distance and uncertainty"),
        (name, None) if name.ends_with("_hash") => spec.with_doc("SHA-256 of the object, as in raw.*.hash"),
        _ => spec,
    })
}

fn column_type(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            ColumnType::Int
        }
        DataType::Int64 | DataType::UInt32 => ColumnType::Long,
        DataType::Float32 => ColumnType::Float,
        DataType::Float64 => ColumnType::Double,
        DataType::Decimal128(precision, scale) => {
            ColumnType::Decimal { precision: *precision, scale: *scale }
        }
        DataType::Date32 => ColumnType::Date,
        DataType::Timestamp(_, Some(_)) => ColumnType::Timestamptz,
        DataType::Utf8 | DataType::LargeUtf8 => ColumnType::String,
        DataType::Binary | DataType::LargeBinary => ColumnType::Binary,
        DataType::Dictionary(_, of) => column_type(of)?,
        DataType::List(of) | DataType::LargeList(of) => {
            ColumnType::List(Box::new(column_type(of.data_type())?))
        }
        DataType::Struct(members) => {
            let member = |field: &Arc<Field>| {
                Some(ColumnSpec::optional(field.name(), column_type(field.data_type())?))
            };
            ColumnType::Struct(members.iter().map(member).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
