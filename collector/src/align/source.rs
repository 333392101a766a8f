//! What a recipe reads: the streams of its spine and of its columns, the fields taken of each, and what is known of those.

use super::StreamKinds;
use super::need::Need;
use super::raw_rows::{KnownField, TakenField};
use crate::commit::kinds::{KindColumn, Kinds};
use arrow_schema::DataType;
use headwater_align::recipe::{Column, Recipe, SpineSource};
use headwater_core::id::{DeviceId, FieldName, StreamName};
use headwater_lake::ColumnType;

/// One stream a recipe reads, for its spine or for one column.
#[derive(Debug, Clone)]
pub struct Source {
    /// The stream.
    pub stream: StreamName,
    /// Only of this device.
    pub device: Option<DeviceId>,
    /// Fields taken: those selected, then what the method asks beside them.
    pub fields: Vec<TakenField>,
    /// How many are selected.
    pub selected: usize,
    /// What a row needs of it; none for the spine.
    pub need: Option<Need>,
}

impl Source {
    fn new(stream: &StreamName, select: &[FieldName], beside: impl IntoIterator<Item = FieldName>) -> Self {
        let mut fields: Vec<TakenField> = select.iter().cloned().map(TakenField::new).collect();
        for field in beside {
            if !fields.iter().any(|taken| taken.field == field) {
                fields.push(TakenField::new(field));
            }
        }
        Self { stream: stream.clone(), device: None, fields, selected: select.len(), need: None }
    }

    fn of_column(column: &Column) -> Self {
        let names: Vec<String> = match column.uncertainty {
            true => {
                let own = column.select.iter().map(|field| format!("{field}_u"));
                own.chain(["eph".to_owned(), "epv".to_owned()]).collect()
            }
            false => Vec::new(),
        };
        let beside = names.iter().filter_map(|name| name.parse().ok());
        let source = Self::new(&column.stream, &column.select, beside);
        Self { device: column.device.clone(), need: Some(Need::of(column)), ..source }
    }

    /// Takes in what the kinds of the stream declare; true if a field is another type now than it was, so what was read
    /// of it must be read again.
    pub fn learn(&mut self, kinds: &Kinds, kinds_of: &StreamKinds) -> bool {
        let mut changed = false;
        for taken in &mut self.fields {
            let before = taken.known.clone();
            taken.known = None;
            for kind in kinds_of.get(&self.stream).into_iter().flatten() {
                let Some(column) = kinds.column(kind, &taken.field) else { continue };
                let is_object = matches!(column.column_type, ColumnType::Struct(_));
                let name = if is_object { "hash" } else { column.column.as_str() };
                taken.columns.insert(kind.clone(), name.to_owned());
                if taken.known.is_none() {
                    taken.known = Some(known(&taken.field, column));
                }
            }
            if taken.known.is_none() {
                taken.known.clone_from(&before);
            }
            changed |= before.is_some() && before != taken.known;
        }
        changed
    }
}

fn known(field: &FieldName, column: &KindColumn) -> KnownField {
    match &column.column_type {
        ColumnType::Struct(_) => {
            KnownField { name: format!("{field}_hash"), data_type: DataType::Utf8, unit: "1".to_owned() }
        }
        other => KnownField { name: field.to_string(), data_type: other.arrow(), unit: column.unit.clone() },
    }
}

/// What a recipe reads: first the streams of its spine (none for a grid), then those of its columns, in order.
#[must_use]
pub fn sources(recipe: &Recipe) -> (Vec<Source>, usize) {
    let mut all = match &recipe.spine.source {
        SpineSource::Stream { stream, select, .. } => vec![Source::new(stream, select, [])],
        SpineSource::Event { stream, when, select } => {
            vec![Source::new(stream, select, [when.field.clone()])]
        }
        SpineSource::Union { streams } => streams.iter().map(|stream| Source::new(stream, &[], [])).collect(),
        SpineSource::Grid { .. } => Vec::new(),
    };
    let spine = all.len();
    all.extend(recipe.columns.iter().map(Source::of_column));
    (all, spine)
}
