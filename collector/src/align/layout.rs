//! How a recipe's rows lie: the engine's plan for the fields that are declared, and the table they go to.

use super::derived::Derives;
use super::source::Source;
use crate::commit::tables::properties;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use headwater_align::derive::{
    DERIVED_KEY, Derived, EPISODE_ID, EPISODE_INDEX, EPISODE_SPLIT, PrepareError, Step, StepKind, canonical,
    prepared_schema,
};
use headwater_align::engine::{Inputs, Options, Plan, PlanError, UNIT_KEY};
use headwater_align::json::Json;
use headwater_align::recipe::{Column, Method, Recipe, RecipeError};
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
    /// The columns cannot bear what is derived of them.
    #[error("recipe {recipe} derives what its columns cannot bear")]
    Derive {
        /// The recipe.
        recipe: String,
        /// What does not fit.
        source: RecipeError,
    },
    /// The declared fields cannot bear what is done to samples before they are matched.
    #[error("recipe {recipe} prepares column {column} in a way its fields cannot bear")]
    Prepare {
        /// The recipe.
        recipe: String,
        /// The column.
        column: String,
        /// What does not fit.
        source: PrepareError,
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
    /// What is derived of the rows; none if that is nothing.
    pub derives: Option<Arc<Derives>>,
    /// Where the rows go.
    pub spec: TableSpec,
    /// Schemas of the spine's streams.
    spine: Vec<SchemaRef>,
    /// Of each column of the plan, before anything is prepared.
    inputs: Vec<SchemaRef>,
    /// Of each column of the plan, what is done to its samples before they are matched.
    steps: Vec<Vec<Step>>,
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
        let (mut steps, mut prepared) = (Vec::new(), Vec::new());
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
            let raw = schema(source, &known);
            let of = steps_of(&column, &raw, selected.len());
            prepared.push(prepared_schema(&of, &raw).map_err(|source| LayoutError::Prepare {
                recipe: recipe.name.to_string(),
                column: column.name.to_string(),
                source,
            })?);
            columns.push(place);
            inputs.push(raw);
            steps.push(of);
            kept.push(column);
        }
        reduced.columns = kept;
        let spine: Vec<SchemaRef> =
            spine_sources.iter().zip(&taken).map(|(source, known)| schema(source, known)).collect();
        let of_spine = spine.first().filter(|_| spine_streams == 1).cloned();
        let given =
            Inputs { spine: of_spine.unwrap_or_else(|| Arc::new(Schema::empty())), columns: prepared };
        let plan = Plan::new(&reduced, &given, Options::default())
            .map_err(|source| LayoutError::Plan { recipe: recipe.name.to_string(), source })?;
        let rows = flagged(plan.schema())?;
        let derive = |source| LayoutError::Derive { recipe: recipe.name.to_string(), source };
        let derives = Derives::new(recipe, &rows).map_err(derive)?.map(Arc::new);
        let spec = spec(recipe, id, derives.as_ref().map_or(&rows, |derives| derives.schema()))?;
        Ok(Self { plan, columns, derives, spec, spine, inputs, steps, taken, spine_streams })
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

    /// What is done to the samples of a column of the plan before they are matched.
    #[must_use]
    pub fn steps(&self, column: usize) -> &[Step] {
        self.steps.get(column).map(Vec::as_slice).unwrap_or_default()
    }

    /// Place of a column of the plan among the sources.
    #[must_use]
    pub fn source_of(&self, column: usize) -> Option<usize> {
        self.columns.get(column).map(|place| place.saturating_add(self.spine_streams))
    }
}

/// The steps for the fields that are declared: those that name none touch the selected numbers, and not what stands beside
/// them to say how sure they are.
fn steps_of(column: &Column, schema: &Schema, selected: usize) -> Vec<Step> {
    let is_number = |of: &DataType| of.is_integer() || matches!(of, DataType::Float32 | DataType::Float64);
    let numbers = schema.fields().iter().take(selected).filter(|field| is_number(field.data_type()));
    let numbers: Vec<FieldName> = numbers.filter_map(|field| field.name().parse().ok()).collect();
    let of = |step: &Step| {
        if matches!(step.kind, StepKind::Resample { .. }) {
            return Some(step.clone());
        }
        if step.fields.is_empty() {
            return Some(Step { fields: numbers.clone(), ..step.clone() });
        }
        let known = step.fields.iter().filter(|field| schema.column_with_name(field.as_str()).is_some());
        let fields: Vec<FieldName> = known.cloned().collect();
        (!fields.is_empty()).then(|| Step { fields, ..step.clone() })
    };
    column.prepare.iter().filter_map(of).collect()
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

/// Rows of the engine with whether they are provisional, as [`super::window::AlignedWindow::push`] lays them out.
fn flagged(rows: &Schema) -> Result<Schema, LayoutError> {
    let mut fields: Vec<Arc<Field>> = rows.fields().iter().cloned().collect();
    let place = fields.iter().position(|field| field.name() == "row_key");
    let place = place.map_or(fields.len(), |place| place.saturating_add(1));
    fields.insert(place, Arc::new(Field::new("provisional", DataType::Boolean, false)));
    Ok(Schema::new(fields))
}

/// The table of whole rows. Columns of fields nobody has declared yet are added once they are.
fn spec(recipe: &Recipe, (id, canonical): (&str, &str), schema: &Schema) -> Result<TableSpec, LayoutError> {
    let columns = schema.fields().iter().map(|field| column(field)).collect::<Result<_, _>>()?;
    let sort: Vec<&str> = recipe.output.sort.iter().map(String::as_str).collect();
    let mut spec = TableSpec::new(table_name(recipe)?, columns, &sort);
    let own = [
        ("hw.kind", "aligned".to_owned()),
        ("hw.recipe", id.to_owned()),
        ("hw.recipe-json", canonical.to_owned()),
    ];
    spec.properties = properties(own);
    if !recipe.derived.is_empty() {
        spec.properties.insert("hw.derived".to_owned(), derived_of(recipe));
    }
    Ok(spec)
}

/// Name, version and making of every derived column, as canonical JSON.
fn derived_of(recipe: &Recipe) -> String {
    let one = |derived: &Derived| (derived.name.to_string(), canonical::derived(derived));
    Json::object(recipe.derived.iter().map(one)).canonical()
}

/// Columns every row has a value in.
const REQUIRED: [&str; 7] = ["device", "ts", "ts_ns", "ts_err_ns", "grade", "row_key", "provisional"];

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
        ("provisional", _) => {
            spec.with_doc("emitted before all columns were complete; its final row replaces it")
        }
        (EPISODE_ID, _) => spec.with_doc("device and key of the first row of its episode"),
        (EPISODE_INDEX, _) => spec.with_doc("place of the row in its episode, from 0"),
        (EPISODE_SPLIT, _) => spec.with_doc("the share that its episode fell into"),
        (_, Some(unit)) => spec.with_unit(unit),
        (_, None) if field.metadata().contains_key(DERIVED_KEY) => spec.with_doc("derived, see hw.derived"),
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
