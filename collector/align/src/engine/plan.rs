//! What a recipe makes of the declared fields: what is held of each sample, output columns and their types, settled once.

use super::constant::constant;
use super::error::PlanError;
use super::metric::LOOK_NS;
use super::output;
use super::prepare::{Form, Preparation, is_number};
use crate::recipe::{Column, Fallback, Method, Recipe, SpineSource, WindowStat};
use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use headwater_core::schema::{Conversion, conversion};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Key of an Arrow field's metadata that holds its UCUM unit.
pub const UNIT_KEY: &str = "unit";

/// Fields as they will be fed, units in their metadata ([`UNIT_KEY`]).
///
/// The selected fields stand first, in the order of `select`; their names make the output names, so a caller may give
/// `image_hash` for the selected `image`. Further fields are not put out: `<field>_u` is a sample's own uncertainty of
/// `<field>`, in its unit; `eph` and `epv` are those of a position in m; and an event's condition may name any.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Of the spine; empty for a grid and a union.
    pub spine: SchemaRef,
    /// Of each column of the recipe, in order.
    pub columns: Vec<SchemaRef>,
}

/// Which groups of columns are put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// `device`, `ts`, `ts_ns`, `ts_err_ns`, `grade`, `row_key`; without it `ts_ns` only.
    pub identity: bool,
    /// `<name>_src`.
    pub lineage: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { identity: true, lineage: true }
    }
}

/// A recipe and its fields, ready to run for any number of entities.
#[derive(Debug, Clone)]
pub struct Plan {
    recipe: Recipe,
    options: Options,
    schema: SchemaRef,
    spine: SchemaRef,
    pub(super) spine_select: usize,
    pub(super) columns: Vec<ColumnPlan>,
}

/// One column, settled.
#[derive(Debug, Clone)]
pub(super) struct ColumnPlan {
    pub(super) input: SchemaRef,
    /// What is held of each sample.
    pub(super) held: Vec<Preparation>,
    pub(super) fields: Vec<FieldPlan>,
    /// How far back from an instant samples are looked at, ns.
    pub(super) behind_ns: i64,
    /// How far on, ns.
    pub(super) ahead_ns: i64,
    /// How much later than the instant a sample may be resolved that stands `ahead_ns` on, ns: an offset moves it back.
    wait_ns: i64,
}

/// One selected field; places are in what is held.
#[derive(Debug, Clone)]
pub(super) struct FieldPlan {
    /// As it is put out where a sample's value is.
    pub(super) value: usize,
    /// As a number, where something is computed.
    pub(super) number: usize,
    /// The samples' own uncertainty.
    pub(super) sigma: Option<usize>,
    /// What stands where nothing matched: one a column of output.
    pub(super) constants: Vec<Option<ArrayRef>>,
}

impl Plan {
    /// Settles a recipe for fields.
    ///
    /// # Errors
    /// What of the recipe the fields cannot bear.
    pub fn new(recipe: &Recipe, inputs: &Inputs, options: Options) -> Result<Self, PlanError> {
        if inputs.columns.len() != recipe.columns.len() {
            return Err(PlanError::Columns { recipe: recipe.columns.len(), inputs: inputs.columns.len() });
        }
        let spine_select = match &recipe.spine.source {
            SpineSource::Stream { select, .. } | SpineSource::Event { select, .. } => select.len(),
            SpineSource::Grid { .. } | SpineSource::Union { .. } => 0,
        };
        enough("spine", spine_select, &inputs.spine)?;
        if let SpineSource::Event { when, .. } = &recipe.spine.source {
            super::event::check(when, &inputs.spine)?;
        }
        let mut fields = output::identity_fields(options.identity);
        fields.extend(inputs.spine.fields().iter().take(spine_select).map(|field| loose(field)));
        let mut columns = Vec::new();
        for (column, input) in recipe.columns.iter().zip(&inputs.columns) {
            let (plan, put_out) = settle(column, input, options)?;
            columns.push(plan);
            fields.extend(put_out);
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = fields.iter().find(|field| !names.insert(field.name().clone())) {
            return Err(PlanError::Twice { name: twice.name().clone() });
        }
        let schema = Arc::new(Schema::new(fields));
        let spine = Arc::clone(&inputs.spine);
        Ok(Self { recipe: recipe.clone(), options, schema, spine, spine_select, columns })
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Which groups of columns are put out.
    #[must_use]
    pub fn options(&self) -> Options {
        self.options
    }

    /// Schema of the aligned rows.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Schema of the spine's values.
    pub(super) fn spine(&self) -> &SchemaRef {
        &self.spine
    }

    /// How far beyond an instant the farthest column looks, ns: a streaming run gives a row that much later.
    #[must_use]
    pub fn ahead_ns(&self) -> i64 {
        self.columns.iter().map(|column| column.wait_ns).max().unwrap_or(0)
    }

    /// How far before an instant the farthest column looks, ns. The newest sample before that is seen too.
    #[must_use]
    pub fn behind_ns(&self) -> i64 {
        self.columns.iter().map(|column| column.behind_ns).max().unwrap_or(0)
    }
}

fn enough(column: &str, selected: usize, input: &Schema) -> Result<(), PlanError> {
    let given = input.fields().len();
    if given < selected {
        return Err(PlanError::Fields { column: column.to_owned(), selected, given });
    }
    Ok(())
}

/// A field as it is put out: always nullable, its unit kept.
fn loose(field: &Field) -> Field {
    field.clone().with_nullable(true)
}

/// How far a method looks back and on, ns, without what could be right but is not chosen.
fn reach(column: &Column) -> (i64, i64) {
    let (back, on) = match &column.method {
        Method::Previous { tolerance_ns } => (*tolerance_ns, 0),
        Method::Next { tolerance_ns } => (0, *tolerance_ns),
        Method::Nearest { tolerance_ns } => (*tolerance_ns, *tolerance_ns),
        Method::Linear(between) | Method::Slerp(between) | Method::Geodesic { between, .. } => {
            (between.max_gap_ns.saturating_add(between.extrapolate_ns), between.max_gap_ns)
        }
        Method::Window { from_ns, to_ns, .. } | Method::List { from_ns, to_ns, .. } => {
            (from_ns.saturating_neg().max(0), (*to_ns).max(0))
        }
    };
    match column.fallback {
        Fallback::Locf { max_age_ns } => (back.max(max_age_ns), on),
        _ => (back, on),
    }
}

/// True if the method computes with numbers.
fn computes(method: &Method) -> bool {
    match method {
        Method::Linear(_) | Method::Slerp(_) | Method::Geodesic { .. } => true,
        Method::Window { stats, .. } => {
            use WindowStat::{Max, Mean, Min, Std, Sum};
            stats.iter().any(|stat| matches!(stat, Mean | Std | Sum | Min | Max))
        }
        _ => false,
    }
}

fn settle(
    column: &Column,
    input: &SchemaRef,
    options: Options,
) -> Result<(ColumnPlan, Vec<Field>), PlanError> {
    let name = column.name.as_str();
    let selected = column.select.len();
    enough(name, selected, input)?;
    check_arity(column)?;
    let mut held = Vec::new();
    let mut hold = |preparation: Preparation| {
        held.iter().position(|known| *known == preparation).unwrap_or_else(|| {
            held.push(preparation);
            held.len() - 1
        })
    };
    let (mut fields, mut values, mut uncertain) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (field, selected)) in input.fields().iter().zip(&column.select).enumerate() {
        let number = is_number(field.data_type());
        if computes(&column.method) && !number {
            return Err(not_a_number(name, field));
        }
        let unit = unit_of(column, selected, field)?;
        let as_is = Preparation { input: place, form: Form::AsIs };
        let as_number = Preparation { input: place, form: Form::Number(unit.flatten()) };
        let value = if unit.is_some() { as_number } else { as_is };
        let value_place = hold(value);
        let number_place = if computes(&column.method) { hold(as_number) } else { value_place };
        let own = if column.uncertainty && number { sigma_of(column, place, field, input)? } else { None };
        let put_out = output::value_fields(column, field, selected, unit.is_some());
        // A count is one without samples too.
        let of_column = |(place, out): (usize, &Field)| match &column.method {
            Method::Window { stats, .. } if stats.get(place) == Some(&WindowStat::Count) => Ok(None),
            _ => constant(column, selected, out),
        };
        let constants = put_out.iter().enumerate().map(of_column).collect::<Result<_, _>>()?;
        let scale = unit.flatten().map(Conversion::of_difference);
        fields.push(FieldPlan {
            value: value_place,
            number: number_place,
            sigma: own.map(|input| hold(Preparation { input, form: Form::Number(scale) })),
            constants,
        });
        if column.uncertainty && number && !is_window(&column.method) {
            uncertain.push(Field::new(format!("{name}_{}_u", field.name()), DataType::Float64, true));
        }
        values.extend(put_out);
    }
    if matches!(column.method, Method::List { .. }) {
        values.push(output::list_field(&format!("{name}_dt_ns"), &DataType::Int64));
    }
    if column.uncertainty && is_window(&column.method) {
        values.push(Field::new(format!("{name}_edge_n"), DataType::Int32, true));
    }
    if options.lineage {
        values.push(output::source_field(name));
    }
    values.extend(uncertain);
    let (back, on) = reach(column);
    let (behind_ns, ahead_ns) = (back.saturating_add(LOOK_NS), on.saturating_add(LOOK_NS));
    let wait_ns = ahead_ns.saturating_add(column.offset_ns.saturating_neg().max(0));
    Ok((ColumnPlan { input: Arc::clone(input), held, fields, behind_ns, ahead_ns, wait_ns }, values))
}

pub(super) fn is_window(method: &Method) -> bool {
    matches!(method, Method::Window { .. } | Method::List { .. })
}

fn not_a_number(column: &str, field: &Field) -> PlanError {
    let (field, given) = (field.name().clone(), field.data_type().clone());
    PlanError::NotANumber { column: column.to_owned(), field, given }
}

fn check_arity(column: &Column) -> Result<(), PlanError> {
    let wanted = match (&column.method, column.select.len()) {
        (Method::Slerp(_), n) if n != 4 => "4: w, x, y, z",
        (Method::Geodesic { .. }, n) if n != 2 && n != 3 => "2 or 3: latitude, longitude, altitude",
        _ => return window_falls_back(column),
    };
    Err(PlanError::Arity { column: column.name.to_string(), selected: column.select.len(), wanted })
}

fn window_falls_back(column: &Column) -> Result<(), PlanError> {
    if is_window(&column.method) && matches!(column.fallback, Fallback::Locf { .. }) {
        return Err(PlanError::WindowLocf { column: column.name.to_string() });
    }
    Ok(())
}

/// `Some` if a unit is wanted; within it `None` if values stay what they are.
fn unit_of(
    column: &Column,
    selected: &headwater_core::id::FieldName,
    field: &Field,
) -> Result<Option<Option<Conversion>>, PlanError> {
    let Some(wanted) = column.units.get(selected) else { return Ok(None) };
    if !is_number(field.data_type()) {
        return Err(not_a_number(column.name.as_str(), field));
    }
    let given = field.metadata().get(UNIT_KEY).cloned().unwrap_or_default();
    match conversion(&given, wanted) {
        Some(conversion) if conversion.is_identity() => Ok(Some(None)),
        Some(conversion) => Ok(Some(Some(conversion))),
        None => Err(PlanError::Unit {
            column: column.name.to_string(),
            field: field.name().clone(),
            wanted: wanted.clone(),
            given,
        }),
    }
}

/// Place of the samples' own uncertainty of a field in the input, if it is there.
fn sigma_of(
    column: &Column,
    place: usize,
    field: &Field,
    input: &Schema,
) -> Result<Option<usize>, PlanError> {
    let own = match (&column.method, place) {
        (Method::Geodesic { .. }, 0 | 1) => "eph".to_owned(),
        (Method::Geodesic { .. }, _) => "epv".to_owned(),
        _ => format!("{}_u", field.name()),
    };
    let Some((place, found)) = input.column_with_name(&own) else { return Ok(None) };
    if !is_number(found.data_type()) {
        return Err(not_a_number(column.name.as_str(), found));
    }
    Ok(Some(place))
}
