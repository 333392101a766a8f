//! Where a recipe comes from: a file, or the lake that its rows are in.

use crate::query::QueryError;
use headwater_align::derive::port::Files;
use headwater_align::json::Json;
use headwater_align::recipe::Recipe;
use headwater_core::id::Sha256;
use headwater_lake::{Lake, LakeError, TableName};
use ring::digest;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Piece in which a file is hashed.
const READ_BYTES: usize = 1 << 16;

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
pub(super) async fn read(spec: &str, place: &str) -> Result<Recipe, QueryError> {
    let refused = |source| QueryError::Recipe { recipe: spec.to_owned(), source };
    match Source::of(spec) {
        Source::File(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| QueryError::RecipeFile { path: path.clone(), source })?;
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            Recipe::parse_with(&text, &Folder(folder)).map_err(refused)
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

/// Files a recipe names, beside it.
struct Folder(PathBuf);

impl Files for Folder {
    fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.0.join(path)).map_err(|error| format!("{path}: {error}"))?;
        let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
        let read = read.map_err(|error| format!("{path}: {error}"))?;
        match read as u64 > bytes_max {
            true => Err(format!("{path} holds more than {bytes_max} bytes")),
            false => Ok(bytes),
        }
    }

    fn sha256(&self, path: &str) -> Result<Sha256, String> {
        hashed(&self.0.join(path)).map_err(|error| format!("{path}: {error}"))
    }
}

/// SHA-256 of a file of any size.
fn hashed(path: &Path) -> std::io::Result<Sha256> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(piece.get(..read).unwrap_or_default());
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    Ok(Sha256(out))
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

    #[test]
    fn files_are_read_beside_the_recipe_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("fences.geojson"), "12345").unwrap();
        let folder = Folder(dir.path().to_owned());
        assert_eq!(folder.read("fences.geojson", 5), Ok(b"12345".to_vec()));
        assert!(folder.read("fences.geojson", 4).unwrap_err().contains("more than 4 bytes"));
        assert!(folder.read("other", 4).unwrap_err().starts_with("other: "));
        assert_eq!(folder.sha256("fences.geojson"), Ok(Sha256::of(b"12345")));
    }
}
