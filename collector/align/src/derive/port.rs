//! What derived columns need from outside: files of a recipe, pictures of a row, answers of programs.

use headwater_core::id::Sha256;

/// Largest file a recipe is read with (a GeoJSON of fences), bytes.
pub const RECIPE_FILE_BYTES_MAX: u64 = 16 << 20;

/// Files a recipe names. The same path gives the same bytes while a recipe is read.
pub trait Files {
    /// What is in the file.
    ///
    /// # Errors
    /// Why it cannot be read, or that it holds more than `bytes_max` bytes.
    fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, String>;

    /// The SHA-256 of the file, of any size.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn sha256(&self, path: &str) -> Result<Sha256, String>;
}

/// Reads no file: for recipes that come without their folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str, _: u64) -> Result<Vec<u8>, String> {
        Err("no files can be read here".to_owned())
    }

    fn sha256(&self, _: &str) -> Result<Sha256, String> {
        Err("no files can be read here".to_owned())
    }
}
