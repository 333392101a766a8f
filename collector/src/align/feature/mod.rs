//! Programs as columns: what a recipe's `command` names is found, hashed and run, within bounds.
//!
//! The protocol is `headwater_align::derive::command`'s; here are the files it rests on and the process. A program reads
//! one Arrow IPC stream on standard input and writes one on standard output. It gets a process group of its own, which is
//! ended with all it started when it is done, late, or writes too much; its memory is bounded by the kernel. It runs beside
//! the aligner and touches no lake: what it cannot do is null with a flag, or holds rows back, and raw never knows.

mod files;
mod process;
#[cfg(test)]
mod tests;

pub use files::{FileError, RecipeFiles};
pub use process::{FeatureError, Limits, STDERR_BYTES_MAX, run};

use headwater_align::derive::port::{Commands, Files};
use headwater_align::derive::{Command, Derivation, Derived, canonical};
use headwater_core::id::Sha256;
use headwater_core::ports::Clock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs the commands of a recipe that lies in a folder.
#[derive(Debug, Clone)]
pub struct CommandRunner<C> {
    files: RecipeFiles,
    clock: C,
    /// Where each program was found, and what it was then, by its name in the recipe.
    programs: BTreeMap<String, (PathBuf, Sha256)>,
}

impl<C: Clock> CommandRunner<C> {
    /// Finds the programs of everything a recipe derives, and holds them and their files against the hashes that its id
    /// rests on.
    ///
    /// # Errors
    /// A program that is not there, or a file that is not what the recipe was read with.
    pub fn new(derived: &[Derived], files: RecipeFiles, clock: C) -> Result<Self, FeatureError> {
        let mut programs = BTreeMap::new();
        for command in derived.iter().filter_map(|derived| match &derived.by {
            Derivation::Command(command) => Some(command),
            _ => None,
        }) {
            let path = files.program(&command.program)?;
            let sha256 = hash(&files, &path)?;
            if command.program_sha256.as_ref().is_some_and(|declared| *declared != sha256) {
                return Err(FeatureError::Changed { path });
            }
            for file in &command.files {
                let path = files.path(&file.path);
                if hash(&files, &path)? != file.sha256 {
                    return Err(FeatureError::Changed { path });
                }
            }
            programs.insert(command.program.clone(), (path, sha256));
        }
        Ok(Self { files, clock, programs })
    }

    /// What a command's column rests on, for the lineage of a commit: everything its recipe declares, and the program
    /// that was found.
    #[must_use]
    pub fn lineage(&self, command: &Command) -> serde_json::Value {
        let declared = serde_json::from_str(&canonical::command_of(command).canonical());
        let mut lineage: serde_json::Value = declared.unwrap_or_default();
        if let (Some((_, sha256)), Some(members)) =
            (self.programs.get(&command.program), lineage.as_object_mut())
        {
            members.insert("found_sha256".to_owned(), sha256.to_string().into());
        }
        lineage
    }

    /// The arguments with the paths of declared files in them.
    fn arguments(&self, command: &Command) -> Vec<String> {
        let fill = |arg: &String| {
            command.files.iter().fold(arg.clone(), |arg, file| {
                let path = self.files.path(&file.path);
                arg.replace(&format!("{{file:{}}}", file.name), &path.to_string_lossy())
            })
        };
        command.args.iter().map(fill).collect()
    }
}

impl<C: Clock> Commands for CommandRunner<C> {
    fn run(&mut self, command: &Command, request: &[u8]) -> Result<Vec<u8>, String> {
        let Some((program, _)) = self.programs.get(&command.program) else {
            return Err(format!("{} was not found when the recipe was read", command.program));
        };
        let limits = Limits {
            timeout_ns: command.timeout_ns,
            output_bytes_max: command.output_bytes_max,
            memory_bytes_max: command.memory_bytes_max,
        };
        run(program, &self.arguments(command), request, limits, &self.clock)
            .map_err(|error| error.to_string())
    }
}

fn hash(files: &RecipeFiles, path: &Path) -> Result<Sha256, FeatureError> {
    let why = |reason| FeatureError::Read { path: path.to_owned(), reason };
    files.sha256(&path.to_string_lossy()).map_err(why)
}
