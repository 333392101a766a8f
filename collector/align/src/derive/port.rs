//! What derived columns need from outside: files of a recipe, pictures of a row, answers of programs.

use super::Command;
use headwater_core::id::Sha256;
use std::sync::Arc;

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

/// Objects of a lake, found by their digest: pictures never enter the aligner, what is derived of them does.
pub trait Pictures {
    /// The bytes of the object whose SHA-256 is `hash`; `None` if the lake no longer holds it.
    ///
    /// # Errors
    /// Why it could not be read now: no value is made up for it, the rows are derived again later.
    fn picture(&self, hash: &str) -> Result<Option<Arc<[u8]>>, String>;
}

/// Has no pictures: for recipes that take nothing of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPictures;

impl Pictures for NoPictures {
    fn picture(&self, _: &str) -> Result<Option<Arc<[u8]>>, String> {
        Err("no pictures can be read here".to_owned())
    }
}

/// Runs the programs of a recipe.
pub trait Commands {
    /// Gives `request` (an Arrow IPC stream) to the program and gives back what it wrote, at most
    /// `command.output_bytes_max` bytes of it.
    ///
    /// # Errors
    /// In words, why there is no answer: it could not be started, ran out of time or memory, failed, wrote too much.
    fn run(&mut self, command: &Command, request: &[u8]) -> Result<Vec<u8>, String>;
}

/// Runs nothing: for recipes without commands.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCommands;

impl Commands for NoCommands {
    fn run(&mut self, _: &Command, _: &[u8]) -> Result<Vec<u8>, String> {
        Err("no programs are run here".to_owned())
    }
}
