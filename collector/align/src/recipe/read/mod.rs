//! TOML to a checked recipe: each section by a function of its own, every mistake collected.

mod column;
mod constant;
mod fallback;
mod method;
mod names;
mod sections;
mod spine;

pub(super) use sections::{ALLOWED_LATENESS_DEFAULT_NS, MAX_OUT_OF_ORDER_DEFAULT_NS, SORT_DEFAULT};

use super::keys;
use super::mistake::{Mistake, RecipeError};
use super::model::{Entity, Recipe, Spine};
use super::reader::Reader;
use crate::derive::parse;
use crate::derive::port::{Files, NoFiles};
use headwater_core::id::KindName;
use toml::{Table, Value};

/// Most columns of a recipe: each is a pass over its stream.
pub const RECIPE_COLUMNS_MAX: usize = 256;
/// Furthest a column may reach, ns: a year, the rhythm of the rarest stream anybody sends (a calibration).
pub const COLUMN_REACH_MAX_NS: i64 = 366 * 86_400 * 1_000_000_000;

impl Recipe {
    /// Reads and checks a recipe that names no files.
    ///
    /// # Errors
    /// [`RecipeError`] with every mistake.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        Self::parse_with(text, &NoFiles)
    }

    /// Reads and checks a recipe with the files it names: fences, and what commands are made of.
    ///
    /// # Errors
    /// [`RecipeError`] with every mistake.
    pub fn parse_with(text: &str, files: &dyn Files) -> Result<Self, RecipeError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let text = error.to_string().trim_end().to_owned();
            RecipeError(vec![Mistake { path: "(toml)".to_owned(), text }])
        })?;
        Self::from_table(&table, files)
    }

    /// Checks a recipe that is read already.
    pub(super) fn from_table(table: &Table, files: &dyn Files) -> Result<Self, RecipeError> {
        let mut reader = Reader::default();
        let recipe = reader.recipe(table, files);
        match recipe {
            Some(recipe) if reader.mistakes.is_empty() => Ok(recipe),
            _ => Err(RecipeError(reader.mistakes)),
        }
    }
}

impl Reader {
    fn recipe(&mut self, table: &Table, files: &dyn Files) -> Option<Recipe> {
        self.known(table, "", keys::RECIPE);
        match table.get("headwater_recipe") {
            Some(Value::Integer(1)) => {}
            Some(_) => self.mistake("headwater_recipe", "expected 1, the only version this build reads"),
            None => self.mistake("headwater_recipe", "missing; write `headwater_recipe = 1`"),
        }
        let name = self.name::<KindName>(table, "", "name", "drive");
        let doc = self.text(table, "", "doc");
        let spine = self.spine_section(table);
        let entity = self.entity(table);
        let mode = self.time(table);
        let columns = self.columns(table);
        if let Some(entity) = &entity {
            self.devices(entity, &columns);
        }
        let watermark = self.watermark(table);
        let derived = parse::derived(self, table, files);
        let episodes = parse::episode(self, table);
        let output = self.output(table);
        let columns = columns.into_iter().flatten().collect();
        let recipe = Recipe {
            name: name?,
            doc,
            spine: spine?,
            entity: entity?,
            mode,
            columns,
            derived,
            episodes,
            watermark,
            output,
        };
        self.output_names(&recipe);
        parse::references(self, table, &recipe);
        Some(recipe)
    }

    fn spine_section(&mut self, table: &Table) -> Option<Spine> {
        let hint = "write [spine] with `stream = \"camera/front\"`";
        if !table.contains_key("spine") {
            self.mistake("spine", format!("missing; {hint}"));
        }
        let spine = self.table(table, "", "spine", hint)?;
        self.spine(spine)
    }

    /// A column's device must be one of a site's.
    fn devices(&mut self, entity: &Entity, columns: &[Option<super::model::Column>]) {
        for (place, column) in columns.iter().enumerate() {
            let Some(device) = column.as_ref().and_then(|column| column.device.as_ref()) else { continue };
            let path = format!("column[{place}].device");
            match entity {
                Entity::Device => {
                    self.mistake(path, "a row is made of one device's streams; write [keys] entity = [\"site\"] and the sites");
                }
                Entity::Site { sites } if !sites.values().any(|devices| devices.contains(device)) => {
                    let known: Vec<&str> = sites.values().flatten().map(|device| device.as_str()).collect();
                    let hint = super::nearest::hint(device.as_str(), known);
                    self.mistake(path, format!("{device} is in none of keys.sites{hint}"));
                }
                Entity::Site { .. } => {}
            }
        }
    }
}
