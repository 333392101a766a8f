//! Where a spool lies and whose it is: from `--dir`, from the configuration, or below the root of a mounted card.

use super::CardError;
use crate::config::{self, IdentityFiles, Settings};
use headwater_core::id::DevicePath;
use std::path::{Path, PathBuf};

/// Where the configuration lies unless it is named.
const CONFIG: &str = "/etc/headwater/agent.toml";
/// Where a spool lies unless anything else is known.
const SPOOL_DIR: &str = "/var/lib/headwater";

/// Where things are.
#[derive(Debug)]
pub struct Place {
    /// The spool's folder.
    pub dir: PathBuf,
    /// What its configuration says, if it can be used. Files it names may be missing.
    pub settings: Option<Settings>,
    /// Why it cannot.
    pub config_problem: Option<String>,
}

impl Place {
    /// Finds the spool. With `root` the card is mounted there, and absolute paths of its configuration are below it.
    #[must_use]
    pub fn find(dir: Option<&Path>, config: Option<&Path>, root: Option<&Path>) -> Self {
        let below = |path: &Path| match root {
            Some(root) if path.is_absolute() && !path.starts_with(root) => {
                root.join(path.strip_prefix("/").unwrap_or(path))
            }
            _ => path.to_owned(),
        };
        let file = config.map_or_else(|| below(Path::new(CONFIG)), Path::to_owned);
        let (settings, config_problem) = match read(&file) {
            Ok(mut settings) => {
                let IdentityFiles { ca, tls_cert, tls_key, sign_cert, sign_key, crl, .. } =
                    &mut settings.identity;
                let paths = [ca, tls_cert, tls_key, sign_cert, sign_key];
                for path in
                    paths.into_iter().chain(crl).chain([&mut settings.spool.dir, &mut settings.status_file])
                {
                    *path = below(path);
                }
                (Some(settings), None)
            }
            Err(why) => (None, Some(why)),
        };
        let configured = || settings.as_ref().map(|settings| settings.spool.dir.clone());
        let dir = dir.map(Path::to_owned).or_else(configured).unwrap_or_else(|| below(Path::new(SPOOL_DIR)));
        Self { dir, settings, config_problem }
    }

    /// Whose card it is: as named, else as configured.
    ///
    /// # Errors
    /// [`CardError::WhoseCard`] if neither says so.
    pub fn device(&self, named: Option<&DevicePath>) -> Result<DevicePath, CardError> {
        let configured = || self.settings.as_ref().map(|settings| settings.device.clone());
        named.cloned().or_else(configured).ok_or(CardError::WhoseCard)
    }

    /// The status file of an agent that runs, or ran, on this spool.
    #[must_use]
    pub fn status_file(&self) -> PathBuf {
        let configured = self.settings.as_ref().filter(|settings| settings.spool.dir == self.dir);
        configured.map_or_else(|| self.dir.join("status.json"), |settings| settings.status_file.clone())
    }
}

/// The configuration, whether or not the files it names are there.
fn read(file: &Path) -> Result<Settings, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    config::read(&text, folder, &|_| Ok(())).map_err(|mistakes| format!("{}: {mistakes}", file.display()))
}
