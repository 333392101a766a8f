//! The columns derived ones give, and whether their inputs can bear it.

use super::{Derivation, Derived, EPISODE_ID, EPISODE_INDEX, EPISODE_SPLIT, Episodes, Fix, Sampling};
use super::{canonical, image, list, numbers::is_number};
use crate::expr::{Expr, Type};
use crate::recipe::Mistake;
use crate::recipe::nearest::hint;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;

/// Key of a field's metadata that holds its UCUM unit.
pub const UNIT_KEY: &str = "unit";
/// Key of a field's metadata that holds the canonical JSON of its `[[derive]]`: its lineage.
pub const DERIVED_KEY: &str = "headwater.derived";

/// Columns of identity that every aligned row brings, which motion and episodes rest on.
const DEVICE: (&str, DataType) = ("device", DataType::Utf8);
const TS_NS: (&str, DataType) = ("ts_ns", DataType::Int64);
const ROW_KEY: (&str, DataType) = ("row_key", DataType::Utf8);

/// The columns of rows of `input` with everything derived behind them.
///
/// # Errors
/// Every input that is not there or of another type, with its path in the recipe.
pub fn derived_schema(
    derived: &[Derived],
    episodes: Option<&Episodes>,
    input: &Schema,
) -> Result<SchemaRef, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut fields: Vec<Arc<Field>> = input.fields().iter().map(Arc::clone).collect();
    for (place, derived) in derived.iter().enumerate() {
        let known = Schema::new(fields.clone());
        let mut asked = Asked { schema: &known, path: format!("derive[{place}]"), mistakes: &mut mistakes };
        let data_type = asked.type_of(&derived.by);
        if fields.iter().any(|field| derived.outputs().any(|name| *field.name() == name)) {
            asked.mistake("name", format!("{} is a column already; take another name", derived.name));
        }
        fields.extend(fields_of(derived, data_type.unwrap_or(DataType::Null)).map(Arc::new));
    }
    if let Some(episodes) = episodes {
        let known = Schema::new(fields.clone());
        let mut asked = Asked { schema: &known, path: "episode".to_owned(), mistakes: &mut mistakes };
        asked.episodes(episodes);
        fields.extend(episode_fields(episodes).map(Arc::new));
    }
    match mistakes.is_empty() {
        true => Ok(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()))),
        false => Err(mistakes),
    }
}

fn fields_of(derived: &Derived, data_type: DataType) -> impl Iterator<Item = Field> + use<> {
    let mut metadata = HashMap::from([(DERIVED_KEY.to_owned(), canonical::derived(derived).canonical())]);
    metadata.extend(unit_of(derived).map(|unit| (UNIT_KEY.to_owned(), unit)));
    let value = Field::new(derived.name.as_str(), data_type, true).with_metadata(metadata);
    let flag = matches!(derived.by, Derivation::Command(_))
        .then(|| Field::new(derived.flag_name(), DataType::Int32, false));
    [value].into_iter().chain(flag)
}

fn unit_of(derived: &Derived) -> Option<String> {
    use super::{MotionFeature, PictureFeature};
    let fixed = match &derived.by {
        Derivation::Motion { feature: MotionFeature::Speed, .. } => "m/s",
        Derivation::Motion { feature: MotionFeature::Distance, .. } => "m",
        Derivation::Motion { feature: MotionFeature::Heading, .. } => "deg",
        Derivation::Picture { feature: PictureFeature::Width | PictureFeature::Height, .. } => "{pixel}",
        _ => return derived.unit.clone(),
    };
    Some(fixed.to_owned())
}

fn episode_fields(episodes: &Episodes) -> impl Iterator<Item = Field> + use<> {
    let split = (!episodes.splits.is_empty()).then(|| Field::new(EPISODE_SPLIT, DataType::Utf8, true));
    let own =
        [Field::new(EPISODE_ID, DataType::Utf8, true), Field::new(EPISODE_INDEX, DataType::Int64, true)];
    own.into_iter().chain(split)
}

struct Asked<'a> {
    schema: &'a Schema,
    path: String,
    mistakes: &'a mut Vec<Mistake>,
}

impl Asked<'_> {
    fn mistake(&mut self, key: &str, text: String) {
        self.mistakes.push(Mistake { path: format!("{}.{key}", self.path), text });
    }

    /// The column's type, if it is one that is wanted.
    fn wants(&mut self, key: &str, column: &str, is: fn(&DataType) -> bool, what: &str) -> Option<()> {
        match self.schema.column_with_name(column) {
            Some((_, field)) if is(field.data_type()) => return Some(()),
            Some((_, field)) => {
                let text = format!("wants {what}, but {column} holds {}", field.data_type());
                self.mistake(key, text);
            }
            None => self.missing(key, column),
        }
        None
    }

    fn missing(&mut self, key: &str, column: &str) {
        let names = self.schema.fields().iter().map(|field| field.name().as_str());
        let text = format!("no column is called {column}{}", hint(column, names));
        self.mistake(key, text);
    }

    fn fix(&mut self, method: &str, fix: &Fix) -> Option<()> {
        let lat = self.wants(&format!("{method}.lat"), &fix.lat, is_number, "numbers");
        let lon = self.wants(&format!("{method}.lon"), &fix.lon, is_number, "numbers");
        lat.and(lon)
    }

    fn formula(&mut self, key: &str, formula: &Expr) -> Option<Type> {
        formula.check(self.schema).map_err(|error| self.mistake(key, error.to_string())).ok()
    }

    fn identity(&mut self, columns: &[(&str, DataType)]) -> Option<()> {
        let mut all = Some(());
        for (name, data_type) in columns {
            let is_there =
                self.schema.column_with_name(name).is_some_and(|(_, field)| field.data_type() == data_type);
            if !is_there {
                self.missing("", name);
                all = None;
            }
        }
        all
    }

    fn type_of(&mut self, by: &Derivation) -> Option<DataType> {
        let method = by.word();
        let numbers = "numbers";
        match by {
            Derivation::Expression { formula } => self.formula(method, formula).map(Type::arrow),
            Derivation::Convert { column, .. } => {
                self.wants("convert.column", column, is_number, numbers)?;
                Some(DataType::Float64)
            }
            Derivation::List { column, stat } => {
                self.wants("list.column", column, list::is_list_of_numbers, "a list of numbers")?;
                Some(list::type_of(*stat))
            }
            Derivation::Band(band) => {
                let lists = "a list of numbers";
                let column = self.wants("band.column", &band.column, list::is_list_of_numbers, lists);
                if let Sampling::Times(times) = &band.sampling {
                    self.wants("band.times", times, list::is_list_of_numbers, lists)?;
                }
                column.map(|()| DataType::Float64)
            }
            Derivation::Picture { column, feature } => {
                if image::name_of(self.schema, column).is_none() {
                    let text = format!(
                        "{column} is no picture: neither {column}_hash with digests nor {column} with bytes is there"
                    );
                    self.mistake("picture.column", text);
                    return None;
                }
                Some(image::type_of(feature))
            }
            Derivation::Motion { fix, .. } => {
                let fix = self.fix(method, fix);
                self.identity(&[DEVICE, TS_NS])?;
                fix.map(|()| DataType::Float64)
            }
            Derivation::Geohash { fix, .. }
            | Derivation::H3 { fix, .. }
            | Derivation::Geofence { fix, .. } => self.fix(method, fix).map(|()| DataType::Utf8),
            Derivation::Command(command) => {
                for (place, input) in command.inputs.iter().enumerate() {
                    if self.schema.column_with_name(input).is_none() {
                        self.missing(&format!("command.inputs[{place}]"), input);
                    }
                }
                Some(command.output.arrow())
            }
        }
    }

    fn episodes(&mut self, episodes: &Episodes) {
        self.identity(&[DEVICE, TS_NS, ROW_KEY]);
        for (key, formula) in [("begin", &episodes.begin), ("within", &episodes.within)] {
            let Some(formula) = formula else { continue };
            match self.formula(key, formula) {
                Some(Type::Bool | Type::Null) | None => {}
                Some(other) => {
                    self.mistake(key, format!("wants a truth, such as `speed > 1`; this is {other}"))
                }
            }
        }
        if let Some(trip) = &episodes.trip {
            self.fix("trip", &trip.fix);
        }
    }
}
