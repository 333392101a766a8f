//! Where a recipe comes from: a file, or the lake that its rows are in.

use crate::align::feature::RecipeFiles;
use crate::query::QueryError;
use headwater_align::json::Json;
use headwater_align::recipe::Recipe;
use headwater_lake::{Lake, LakeError, TableName};
use std::path::{Path, PathBuf};

/// What a word on the command line means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file.
    File(PathBuf),
    /// The recipe that made `aligned.<name>` at a revision.
    Lake {
        /// Its name.
        name: String,
        /// Branch, tag or commit.
        at: String,
    },
}

impl Source {
    /// Property of an aligned table that holds its recipe's id.
    pub(super) const ID: &'static str = "hw.recipe";
    /// And the one that holds its canonical form.
    const FORM: &'static str = "hw.recipe-json";

    /// A file of that name wins; then `NAME@REF`.
    fn of(spec: &str) -> Self {
        let path = Path::new(spec);
        match spec.split_once('@') {
            Some((name, at)) if !path.exists() && !name.contains(['/', '.']) && !at.is_empty() => {
                Self::Lake { name: name.to_owned(), at: at.to_owned() }
            }
            _ => Self::File(path.to_owned()),
        }
    }
}

/// Reads a recipe.
pub(in crate::query) async fn read(spec: &str, place: &str) -> Result<Recipe, QueryError> {
    let refused = |source| QueryError::Recipe { recipe: spec.to_owned(), source };
    match Source::of(spec) {
        Source::File(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| QueryError::RecipeFile { path: path.clone(), source })?;
            let files = RecipeFiles::beside(path.parent().unwrap_or(Path::new("")));
            let mut recipe = Recipe::parse_with(&text, &files).map_err(refused)?;
            files.root(&mut recipe).map_err(|source| QueryError::RecipeFile { path, source })?;
            Ok(recipe)
        }
        Source::Lake { name, at } => Recipe::from_canonical(&form(&name, &at, place).await?).map_err(refused),
    }
}

/// The canonical form alone, which every recipe of a lake has.
pub(super) async fn canonical_of(spec: &str, place: &str) -> Result<Json, QueryError> {
    match Source::of(spec) {
        Source::File(_) => Ok(read(spec, place).await?.canonical_json()),
        Source::Lake { name, at } => {
            let form = form(&name, &at, place).await?;
            Json::read(&form).ok_or(QueryError::NoRecipe { name, at })
        }
    }
}

async fn form(name: &str, at: &str, place: &str) -> Result<String, QueryError> {
    let lake = Lake::open(place).await?;
    let commit = lake.resolve(at).await?;
    let none = || QueryError::NoRecipe { name: name.to_owned(), at: at.to_owned() };
    let table = TableName::new(format!("aligned.{name}")).map_err(|_| none())?;
    let mut properties = match lake.properties(&commit, &table).await {
        Ok(properties) => properties,
        Err(LakeError::UnknownTable { .. }) => return Err(none()),
        Err(other) => return Err(other.into()),
    };
    properties.remove(Source::FORM).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_file_or_a_name_at_a_ref() {
        let lake = |name: &str, at: &str| Source::Lake { name: name.to_owned(), at: at.to_owned() };
        let file = |path: &str| Source::File(path.into());
        assert_eq!(Source::of("drive@main"), lake("drive", "main"));
        assert_eq!(Source::of("drive@main@4f1e22c0"), lake("drive", "main@4f1e22c0"));
        assert_eq!(Source::of("drive.toml"), file("drive.toml"));
        assert_eq!(Source::of("drive"), file("drive"));
        assert_eq!(Source::of("some/drive@home.toml"), file("some/drive@home.toml"));
        assert_eq!(Source::of("drive@"), file("drive@"));
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("drive@main");
        std::fs::write(&there, "").unwrap();
        let there = there.to_str().unwrap();
        assert_eq!(Source::of(there), file(there));
    }
}
