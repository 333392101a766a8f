//! Recipes: what an aligned table is made of, as TOML; checked whole, with every mistake named at once.

use headwater_core::id::{FieldName, KindName, Sha256, StreamName};
use headwater_core::time::Grade;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use toml::{Table, Value};

mod canonical;
mod duration;

/// Most columns of a recipe: each is a pass over its stream.
pub const RECIPE_COLUMNS_MAX: usize = 256;
/// How long a spine row waits for silent streams when the recipe does not say.
pub const IDLE_TIMEOUT_DEFAULT_NS: i64 = 600_000_000_000;

/// One column group: fields of one stream, matched together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeColumn {
    /// Output columns are `<name>_<field>`, their sources `<name>_src`.
    pub name: FieldName,
    /// Where the samples come from.
    pub stream: StreamName,
    /// Fields taken.
    pub select: Vec<FieldName>,
    /// Greatest distance of a match, inclusive, ns.
    pub tolerance_ns: i64,
}

/// A checked recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Table `aligned.<name>`.
    pub name: KindName,
    /// For people; not part of the id.
    pub doc: Option<String>,
    /// The stream that gives the instants.
    pub spine: StreamName,
    /// Fields taken from it.
    pub spine_select: Vec<FieldName>,
    /// Spine rows of a lower grade are left out and counted.
    pub min_grade: Grade,
    /// So are those with a larger error, ns.
    pub max_err_ns: Option<i64>,
    /// Columns in output order.
    pub columns: Vec<RecipeColumn>,
    /// How long a row waits before it is emitted provisionally, ns.
    pub idle_timeout_ns: i64,
}

/// One mistake and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// TOML path, e.g. `column[1].tolerance`.
    pub path: String,
    /// What was expected, and a hint.
    pub text: String,
}

/// Every mistake of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recipe has {} mistake{}:{}", .0.len(), if .0.len() == 1 { "" } else { "s" }, Listed(.0))]
pub struct RecipeError(pub Vec<Mistake>);

struct Listed<'a>(&'a [Mistake]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {}: {}", mistake.path, mistake.text))
    }
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// [`RecipeError`] with every mistake.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let text = error.to_string().trim_end().to_owned();
            RecipeError(vec![Mistake { path: "(toml)".to_owned(), text }])
        })?;
        let mut reader = Reader::default();
        let recipe = reader.recipe(&table);
        match recipe {
            Some(recipe) if reader.mistakes.is_empty() => Ok(recipe),
            _ => Err(RecipeError(reader.mistakes)),
        }
    }

    /// The canonical JSON: defaults filled in, durations in ns as text, keys sorted, `doc` left out.
    #[must_use]
    pub fn canonical(&self) -> String {
        canonical::canonical(self)
    }

    /// SHA-256 of "headwater.recipe.v1\n" and the canonical JSON, hex.
    #[must_use]
    pub fn id(&self) -> String {
        Sha256::of(format!("headwater.recipe.v1\n{}", self.canonical()).as_bytes()).to_string()
    }
}

/// Reads tables and collects mistakes instead of stopping at the first.
#[derive(Default)]
struct Reader {
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn mistake(&mut self, path: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake { path: path.to_owned(), text: text.into() });
    }

    fn known_keys(&mut self, table: &Table, within: &str, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let text = format!("unknown key; known here: {}", known.join(", "));
            self.mistake(&format!("{within}{key}"), text);
        }
    }

    fn recipe(&mut self, table: &Table) -> Option<Recipe> {
        self.known_keys(table, "", &["headwater_recipe", "name", "doc", "spine", "column", "watermark"]);
        match table.get("headwater_recipe") {
            Some(Value::Integer(1)) => {}
            Some(_) => self.mistake("headwater_recipe", "expected 1, the only version this build reads"),
            None => self.mistake("headwater_recipe", "missing; write `headwater_recipe = 1`"),
        }
        let name = self.name::<KindName>(table, "", "name", "drive");
        let doc = self.text(table, "", "doc");
        let spine = self.table(table, "spine", "[spine] with `stream = \"camera/front\"`");
        let spine = spine.and_then(|spine| self.spine(spine));
        let columns = self.columns(table);
        let idle = self.watermark(table);
        let (spine, spine_select, min_grade, max_err_ns) = spine?;
        Some(Recipe {
            name: name?,
            doc,
            spine,
            spine_select,
            min_grade,
            max_err_ns,
            columns,
            idle_timeout_ns: idle,
        })
    }

    fn spine(&mut self, table: &Table) -> Option<(StreamName, Vec<FieldName>, Grade, Option<i64>)> {
        self.known_keys(table, "spine.", &["stream", "select", "min_grade", "max_err"]);
        let stream = self.name::<StreamName>(table, "spine.", "stream", "camera/front");
        let select = if table.contains_key("select") { self.select(table, "spine.") } else { Vec::new() };
        let min_grade = match self.text(table, "spine.", "min_grade").as_deref() {
            None | Some("estimated") => Grade::Estimated,
            Some("guaranteed") => Grade::Guaranteed,
            Some("ordering_only") => Grade::OrderingOnly,
            Some(other) => {
                let text = format!("{other:?} is no grade; expected guaranteed, estimated or ordering_only");
                self.mistake("spine.min_grade", text);
                Grade::Estimated
            }
        };
        let max_err =
            if table.contains_key("max_err") { self.duration(table, "spine.", "max_err") } else { None };
        Some((stream?, select, min_grade, max_err))
    }

    fn columns(&mut self, table: &Table) -> Vec<RecipeColumn> {
        let columns = match table.get("column") {
            Some(Value::Array(columns)) if !columns.is_empty() => columns,
            _ => {
                self.mistake("column", "missing; a recipe has at least one [[column]]");
                return Vec::new();
            }
        };
        if columns.len() > RECIPE_COLUMNS_MAX {
            self.mistake("column", format!("{} columns, at most {RECIPE_COLUMNS_MAX}", columns.len()));
        }
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for (place, column) in columns.iter().enumerate() {
            let within = format!("column[{place}].");
            let Value::Table(column) = column else {
                self.mistake(&format!("column[{place}]"), "expected a table; write [[column]]");
                continue;
            };
            if let Some(name) = column.get("name").and_then(Value::as_str)
                && !names.insert(name)
            {
                self.mistake(&format!("{within}name"), format!("{name} names two columns"));
            }
            read.extend(self.column(column, &within));
        }
        read
    }

    fn column(&mut self, table: &Table, within: &str) -> Option<RecipeColumn> {
        self.known_keys(table, within, &["name", "stream", "select", "method", "tolerance"]);
        match table.get("method").and_then(Value::as_str) {
            Some("previous") => {}
            Some(other) => {
                let text = format!("{other:?} is not a method of this build; expected \"previous\"");
                self.mistake(&format!("{within}method"), text);
            }
            None => self.mistake(&format!("{within}method"), "missing; write `method = \"previous\"`"),
        }
        let name = self.name::<FieldName>(table, within, "name", "motion");
        let stream = self.name::<StreamName>(table, within, "stream", "imu");
        let select = self.select(table, within);
        let tolerance = self.duration(table, within, "tolerance");
        Some(RecipeColumn { name: name?, stream: stream?, select, tolerance_ns: tolerance? })
    }

    fn watermark(&mut self, table: &Table) -> i64 {
        if !table.contains_key("watermark") {
            return IDLE_TIMEOUT_DEFAULT_NS;
        }
        let Some(watermark) = self.table(table, "watermark", "[watermark]") else {
            return IDLE_TIMEOUT_DEFAULT_NS;
        };
        self.known_keys(watermark, "watermark.", &["idle_timeout"]);
        if !watermark.contains_key("idle_timeout") {
            return IDLE_TIMEOUT_DEFAULT_NS;
        }
        self.duration(watermark, "watermark.", "idle_timeout").unwrap_or(IDLE_TIMEOUT_DEFAULT_NS)
    }

    fn table<'a>(&mut self, table: &'a Table, key: &str, hint: &str) -> Option<&'a Table> {
        match table.get(key) {
            Some(Value::Table(inner)) => Some(inner),
            Some(_) => {
                self.mistake(key, format!("expected a table: {hint}"));
                None
            }
            None => {
                self.mistake(key, format!("missing; write {hint}"));
                None
            }
        }
    }

    fn text(&mut self, table: &Table, within: &str, key: &str) -> Option<String> {
        match table.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.mistake(&format!("{within}{key}"), "expected text in quotes");
                None
            }
            None => None,
        }
    }

    fn name<T: FromStr>(&mut self, table: &Table, within: &str, key: &str, example: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let path = format!("{within}{key}");
        if !table.contains_key(key) {
            self.mistake(&path, format!("missing; e.g. `{key} = \"{example}\"`"));
            return None;
        }
        match self.text(table, within, key)?.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.mistake(&path, format!("{error}"));
                None
            }
        }
    }

    fn select(&mut self, table: &Table, within: &str) -> Vec<FieldName> {
        let path = format!("{within}select");
        let fields = match table.get("select") {
            Some(Value::Array(fields)) if !fields.is_empty() => fields,
            _ => {
                self.mistake(&path, "expected the fields to take, e.g. `select = [\"accel_x\"]`");
                return Vec::new();
            }
        };
        let mut read = Vec::new();
        for (place, field) in fields.iter().enumerate() {
            let path = format!("{path}[{place}]");
            match field.as_str().map(str::parse::<FieldName>) {
                Some(Ok(field)) if read.contains(&field) => {
                    self.mistake(&path, format!("{field} is selected twice"))
                }
                Some(Ok(field)) => read.push(field),
                Some(Err(error)) => self.mistake(&path, error.to_string()),
                None => self.mistake(&path, "expected a field name in quotes"),
            }
        }
        read
    }

    fn duration(&mut self, table: &Table, within: &str, key: &str) -> Option<i64> {
        let path = format!("{within}{key}");
        let Some(value) = table.get(key) else {
            self.mistake(&path, format!("missing; e.g. `{key} = \"50ms\"`"));
            return None;
        };
        let read = value.as_str().and_then(duration::parse);
        if read.is_none() {
            self.mistake(
                &path,
                "expected a duration with its unit: ns, us, ms, s, min, h or d, e.g. \"50ms\"",
            );
        }
        read
    }
}

#[cfg(test)]
mod tests;
