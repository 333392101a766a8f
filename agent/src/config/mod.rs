//! The configuration: one TOML file, read in two steps, so that every mistake in it is told at once.
//!
//! [`raw`] is the file as people write it; [`Settings`] is what the rest of the agent works with, in
//! which nothing is left to check. Between the two stands [`check`], which collects [`Mistake`]s.

mod builtin;
pub mod check;
mod clock;
pub mod identity;
mod links;
mod mistake;
mod protocols;
pub mod raw;
mod settings;
mod sources;
mod uplink;
mod value;

pub use clock::{ChronySettings, ClockSettings, GPSD_DEFAULT, Pick, PpsSettings, PtpScale, PtpSettings};
pub use identity::{Identity, IdentityError};
pub use mistake::{Mistake, Mistakes};
pub use settings::{
    After, Characters, CommandLine, FrameStamps, Framing, IdentityFiles, LineFormat, LineSettings, Parity,
    PreviewSettings, Retention, SerialLine, Settings, SourceKind, SourceSettings, SpoolSettings,
    UplinkSettings,
};
pub use settings::{GpsdSettings, SysWhat};

use std::path::Path;

/// Reads and checks a configuration file. Relative paths are relative to its folder.
///
/// # Errors
/// Every [`Mistake`] of the file.
pub fn load(file: &Path) -> Result<Settings, Mistakes> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Mistakes(vec![Mistake::new("", "a readable file", format!("{}: {error}", file.display()))])
    })?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read(&text, folder, &|path| std::fs::File::open(path).map(drop).map_err(|error| error.to_string()))
}

/// Reads and checks a configuration text without looking at the files it names.
///
/// # Errors
/// Every [`Mistake`] of the text.
pub fn parse_text(text: &str) -> Result<Settings, Mistakes> {
    read(text, Path::new("/etc/headwater"), &|_| Ok(()))
}

/// Reads and checks a configuration text; `readable` says whether a file it names can be read.
///
/// # Errors
/// Every [`Mistake`] of the text.
pub fn read(
    text: &str,
    folder: &Path,
    readable: &dyn Fn(&Path) -> Result<(), String>,
) -> Result<Settings, Mistakes> {
    let mut mistakes = Mistakes::default();
    let raw = raw::read(text, &mut mistakes);
    let settings = raw.and_then(|raw| check::settings(&raw, folder, readable, &mut mistakes));
    match settings {
        Some(settings) if mistakes.0.is_empty() => Ok(settings),
        _ => Err(mistakes),
    }
}

#[cfg(test)]
mod tests;
