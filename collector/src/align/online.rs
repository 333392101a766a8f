//! What the aligner beside ingest can do of a recipe, refused with every reason where it cannot.

use headwater_align::recipe::{
    Duplicates, Entity, Fallback, LatePolicy, Method, Mistake, Mode, Nulls, Recipe, RecipeError, SpineSource,
};
use headwater_core::id::{FieldName, KindName, StreamName};
use headwater_core::time::Grade;

/// One column group, matched with the newest sample at or before the instant.
#[derive(Debug, Clone, PartialEq)]
pub struct OnlineColumn {
    /// Output columns are `<name>_<field>`, their sources `<name>_src`.
    pub name: FieldName,
    /// Where the samples come from.
    pub stream: StreamName,
    /// Fields taken.
    pub select: Vec<FieldName>,
    /// Greatest distance of a match, inclusive, ns.
    pub tolerance_ns: i64,
}

/// A recipe that can be aligned beside ingest.
#[derive(Debug, Clone, PartialEq)]
pub struct OnlineRecipe {
    /// The recipe as it was declared.
    pub declared: Recipe,
    /// Table `aligned.<name>`.
    pub name: KindName,
    /// The stream that gives the instants.
    pub spine: StreamName,
    /// Fields taken from it.
    pub spine_select: Vec<FieldName>,
    /// Spine rows of a lower grade are left out and counted.
    pub min_grade: Grade,
    /// So are those with a larger error, ns.
    pub max_err_ns: Option<i64>,
    /// Columns in output order.
    pub columns: Vec<OnlineColumn>,
    /// How long a row waits before it is emitted provisionally, ns.
    pub idle_timeout_ns: i64,
}

impl OnlineRecipe {
    /// Reads and checks a recipe that is to be aligned beside ingest.
    ///
    /// # Errors
    /// [`RecipeError`] with every mistake, or everything that only a backfill can do.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        Recipe::parse(text)?.try_into()
    }

    /// SHA-256 of the recipe's canonical form, hex.
    #[must_use]
    pub fn id(&self) -> String {
        self.declared.id()
    }

    /// The recipe's canonical JSON.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.declared.canonical()
    }
}

impl TryFrom<Recipe> for OnlineRecipe {
    type Error = RecipeError;

    fn try_from(declared: Recipe) -> Result<Self, RecipeError> {
        let mut mistakes = Vec::new();
        let mut refuse = |path: String, what: &str| {
            let text =
                format!("{what} is not aligned beside ingest by this build; take it out of this recipe");
            mistakes.push(Mistake { path, text });
        };
        let mut spine = None;
        match &declared.spine.source {
            SpineSource::Stream { stream, at: None, select } => {
                spine = Some((stream.clone(), select.clone()))
            }
            SpineSource::Stream { .. } => refuse("spine.at".to_owned(), "a choice of stamp kinds"),
            SpineSource::Grid { .. } => refuse("spine.grid".to_owned(), "a grid"),
            SpineSource::Union { .. } => refuse("spine.union".to_owned(), "a union"),
            SpineSource::Event { .. } => refuse("spine.event".to_owned(), "an event"),
        }
        if declared.entity != Entity::Device {
            refuse("keys.entity".to_owned(), "a site");
        }
        if declared.mode != Mode::Point {
            refuse("time.mode".to_owned(), "mode certain");
        }
        if declared.watermark.late != LatePolicy::Recommit {
            refuse("late.policy".to_owned(), "a policy other than recommit");
        }
        for place in 0..declared.derived.len() {
            refuse(format!("derive[{place}]"), "a derived column");
        }
        if declared.episodes.is_some() {
            refuse("episode".to_owned(), "an episode");
        }
        let mut columns = Vec::new();
        for (place, column) in declared.columns.iter().enumerate() {
            let at = |key: &str| format!("column[{place}].{key}");
            let unusual = [
                (!column.prepare.is_empty(), "prepare", "a preparation"),
                (column.offset_ns != 0, "offset", "an offset"),
                (column.duplicates != Duplicates::Last, "dup", "dup first"),
                (column.nulls != Nulls::Skip, "null_policy", "null_policy take"),
                (column.fallback != Fallback::Null, "fallback", "a fallback"),
                (!column.units.is_empty(), "unit", "a unit"),
                (column.uncertainty, "uncertainty", "a value's uncertainty"),
            ];
            for (_, key, what) in unusual.into_iter().filter(|(unusual, ..)| *unusual) {
                refuse(at(key), what);
            }
            let Method::Previous { tolerance_ns } = column.method else {
                refuse(at("method"), &format!("method {}", column.method.as_str()));
                continue;
            };
            columns.push(OnlineColumn {
                name: column.name.clone(),
                stream: column.stream.clone(),
                select: column.select.clone(),
                tolerance_ns,
            });
        }
        let Some((spine, spine_select)) = spine.filter(|_| mistakes.is_empty()) else {
            return Err(RecipeError(mistakes));
        };
        Ok(Self {
            name: declared.name.clone(),
            spine,
            spine_select,
            min_grade: declared.spine.min_grade,
            max_err_ns: declared.spine.max_err_ns,
            columns,
            idle_timeout_ns: declared.watermark.idle_timeout_ns,
            declared,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "headwater_recipe = 1\nname = 'r'\n[spine]\nstream = 'cam'\n[[column]]\nname = 'm'\nstream = 'imu'\nselect = ['x']\nmethod = 'previous'\ntolerance = '1s'\n";

    #[test]
    fn what_it_can_do_is_taken_as_declared() {
        let online = OnlineRecipe::parse(PLAIN).unwrap();
        assert_eq!(online.id(), Recipe::parse(PLAIN).unwrap().id());
        assert_eq!((online.columns[0].tolerance_ns, online.spine.as_str()), (1_000_000_000, "cam"));
    }

    #[test]
    fn everything_it_cannot_do_is_named_at_once() {
        let text = PLAIN.replace("stream = 'cam'", "grid = { period = '1s' }")
            + "offset = '3ms'\n[[column]]\nname = 'n'\nstream = 'imu'\nselect = ['x']\nmethod = 'linear'\nmax_gap = '1s'\n[time]\nmode = 'certain'\n";
        let said = OnlineRecipe::parse(&text).unwrap_err();
        let paths: Vec<&str> = said.0.iter().map(|mistake| mistake.path.as_str()).collect();
        assert_eq!(paths, ["spine.grid", "time.mode", "column[0].offset", "column[1].method"]);
        assert!(
            said.to_string().contains("method linear is not aligned beside ingest by this build"),
            "{said}"
        );
    }
}
