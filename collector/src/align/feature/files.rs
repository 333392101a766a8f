//! Files a recipe names, beside it or anywhere.

use super::FeatureError;
use headwater_align::derive::Derivation;
use headwater_align::derive::port::Files;
use headwater_align::recipe::Recipe;
use headwater_core::id::Sha256;
use ring::digest;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a file of a recipe is not read.
pub type FileError = String;

/// Reads a recipe's files: paths that are not absolute begin at its folder.
#[derive(Debug, Clone)]
pub struct RecipeFiles {
    folder: PathBuf,
    /// Where programs without a `/` in their name are looked up, as PATH has it.
    search: OsString,
}

impl RecipeFiles {
    /// Files of a recipe in `folder`; programs are looked up in this process's PATH.
    #[must_use]
    pub fn beside(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), search: std::env::var_os("PATH").unwrap_or_default() }
    }

    /// The same, looking programs up elsewhere.
    #[must_use]
    pub fn searching(self, search: OsString) -> Self {
        Self { search, ..self }
    }

    /// Gives the files that a recipe's commands name their absolute paths, so that they are found wherever it is used from
    /// here on. Its id rests on what is in them, and stays.
    ///
    /// # Errors
    /// When this process has no current folder.
    pub fn root(&self, recipe: &mut Recipe) -> io::Result<()> {
        let absolute = |path: &mut String| -> io::Result<()> {
            let rooted = std::path::absolute(self.path(path))?;
            // A folder whose name is no text is left to be found from where it was.
            if let Some(rooted) = rooted.to_str() {
                rooted.clone_into(path);
            }
            Ok(())
        };
        for derived in &mut recipe.derived {
            let Derivation::Command(command) = &mut derived.by else { continue };
            if command.program.contains('/') {
                absolute(&mut command.program)?;
            }
            command.files.iter_mut().try_for_each(|file| absolute(&mut file.path))?;
        }
        Ok(())
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Where a program lies.
    pub(super) fn program(&self, name: &str) -> Result<PathBuf, FeatureError> {
        let is_program = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        if name.contains('/') {
            let path = self.path(name);
            return if is_program(&path) {
                Ok(path)
            } else {
                Err(FeatureError::NoProgram { name: name.to_owned() })
            };
        }
        let found = std::env::split_paths(&self.search).map(|folder| folder.join(name)).find(is_program);
        found.ok_or_else(|| FeatureError::NoProgram { name: name.to_owned() })
    }
}

impl Files for RecipeFiles {
    fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let read = File::open(self.path(path))
            .and_then(|file| file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes));
        match read {
            Ok(n) if n as u64 > bytes_max => Err(format!("it holds more than {bytes_max} bytes")),
            Ok(_) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        }
    }

    fn sha256(&self, path: &str) -> Result<Sha256, FileError> {
        digest_of(&self.path(path)).map_err(|error| error.to_string())
    }
}

/// Piece by piece: a model may be larger than memory.
fn digest_of(path: &Path) -> io::Result<Sha256> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => context.update(chunk.get(..n).unwrap_or_default()),
        }
    }
    let digest = context.finish();
    let bytes = digest.as_ref().try_into().map_err(|_| io::Error::other("a SHA-256 has 32 bytes"))?;
    Ok(Sha256(bytes))
}
