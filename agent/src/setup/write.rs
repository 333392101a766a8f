//! Puts a configuration in its place, whole or not at all, and never over another one.

use crate::enroll::put_config;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Copies that may lie beside a configuration.
const BACKUPS_MAX: usize = 99;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The configuration.
    pub file: PathBuf,
    /// Where the one before lies.
    pub backup: Option<PathBuf>,
}

/// Writes a configuration where there is none.
///
/// # Errors
/// `AlreadyExists`, or what the system says.
pub fn create(file: &Path, text: &str) -> io::Result<Written> {
    if file.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    put_config(file, text)?;
    Ok(Written { file: file.to_path_buf(), backup: None })
}

/// Writes another text in place of the one that is there, of which a copy is kept beside it.
///
/// # Errors
/// What the system says; the text that was there stays then.
pub fn add(file: &Path, text: &str) -> io::Result<Written> {
    let before = fs::read_to_string(file)?;
    let backup = free_name(file)?;
    put_config(&backup, &before)?;
    put_config(file, text)?;
    Ok(Written { file: file.to_path_buf(), backup: Some(backup) })
}

/// `agent.toml.bak`, `agent.toml.bak2` and so on.
fn free_name(file: &Path) -> io::Result<PathBuf> {
    let name = |n: usize| {
        let mut name = file.as_os_str().to_owned();
        name.push(if n == 1 { ".bak".to_owned() } else { format!(".bak{n}") });
        PathBuf::from(name)
    };
    let free = (1..=BACKUPS_MAX).map(name).find(|name| name.symlink_metadata().is_err());
    free.ok_or_else(|| io::Error::other(format!("{BACKUPS_MAX} copies lie beside it already: remove some")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_never_overwritten_and_each_copy_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("etc/agent.toml");
        assert_eq!(create(&file, "first").unwrap().backup, None);
        assert_eq!(create(&file, "other").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(add(&file, "second").unwrap().backup, Some(dir.path().join("etc/agent.toml.bak")));
        assert_eq!(add(&file, "third").unwrap().backup, Some(dir.path().join("etc/agent.toml.bak2")));
        let text = |name: &str| fs::read_to_string(dir.path().join("etc").join(name)).unwrap();
        assert_eq!(
            (text("agent.toml"), text("agent.toml.bak"), text("agent.toml.bak2")),
            ("third".into(), "first".into(), "second".into())
        );
        assert_eq!(fs::read_dir(dir.path().join("etc")).unwrap().count(), 3, "nothing else is left behind");
        assert!(add(&dir.path().join("none.toml"), "x").is_err());
    }
}
