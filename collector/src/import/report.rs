//! What became of an import, for people and scripts.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::PathBuf;

/// New, known and refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Not in the lake before.
    pub new: u64,
    /// In the lake already, or in this import before.
    pub known: u64,
    /// Not taken, or taken to quarantine.
    pub refused: u64,
}

impl Counted {
    fn plus(self, other: Self) -> Self {
        Self {
            new: self.new.saturating_add(other.new),
            known: self.known.saturating_add(other.known),
            refused: self.refused.saturating_add(other.refused),
        }
    }
}

/// What became of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file.
    pub file: PathBuf,
    /// Whose card it was, `tenant/device`; none if the file says nothing.
    pub device: Option<String>,
    /// Signed by the gateway's own key.
    pub signed: bool,
    /// Messages read.
    pub messages: u64,
    /// Messages landed.
    pub landed: u64,
    /// Rows.
    pub rows: Counted,
    /// Blobs.
    pub blobs: Counted,
    /// Messages that were refused: reason and check's own words, and how many.
    pub refusals: BTreeMap<String, u64>,
    /// The file is not whole: what is wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// How far what was landed has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All of it was known, or refused.
    NothingNew,
    /// In the lake.
    Committed,
    /// Durable in a landing log; the running collector, or its next start, commits it.
    Landed,
}

/// What became of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// By file.
    pub files: Vec<FileReport>,
    /// Rows of all.
    pub rows: Counted,
    /// Blobs of all.
    pub blobs: Counted,
    /// How far it has come.
    pub state: State,
    /// Incarnation of the landing log it went through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
}

impl ImportReport {
    /// Of these files.
    #[must_use]
    pub fn of(files: Vec<FileReport>, state: State, incarnation: Option<String>) -> Self {
        let rows = files.iter().fold(Counted::default(), |sum, file| sum.plus(file.rows));
        let blobs = files.iter().fold(Counted::default(), |sum, file| sum.plus(file.blobs));
        Self { files, rows, blobs, state, incarnation }
    }

    /// True if every file was whole and nothing was refused.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.files.iter().all(|file| {
            file.damage.is_none()
                && file.refusals.is_empty()
                && file.rows.refused == 0
                && file.blobs.refused == 0
        })
    }
}

impl Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            let FileReport { rows, blobs, .. } = file;
            let whose = file.device.as_deref().unwrap_or("nobody known");
            let signed = if file.signed { "signed by it" } else { "signed here" };
            writeln!(
                f,
                "{}: {whose}, {signed}, rows {} new, {} known, {} refused; blobs {} new, {} known, {} refused",
                file.file.display(),
                rows.new,
                rows.known,
                rows.refused,
                blobs.new,
                blobs.known,
                blobs.refused
            )?;
            for (why, messages) in &file.refusals {
                writeln!(f, "! {messages} messages refused, {why}")?;
            }
            if let Some(damage) = &file.damage {
                writeln!(f, "! {damage}; what came before it was taken, and importing again is harmless")?;
            }
        }
        match self.state {
            State::NothingNew => writeln!(f, "nothing new"),
            State::Committed => {
                writeln!(f, "committed; headwater quarantine shows what does not fit its table")
            }
            State::Landed => {
                writeln!(
                    f,
                    "durable, not committed yet: the collector does it while it runs, or at its next start"
                )
            }
        }
    }
}
