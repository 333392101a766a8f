//! Whose turn it is to ingest: one process at a time commits what one folder of landing logs holds.
//!
//! The lock is the kernel's (`flock` of a file beside the logs' folders), so it ends with its process. Refs are safe
//! without it; two ledgers in memory, each blind to the other's commits, are not (D1).

use headwater_core::ports::Clock;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Name of the file beside the logs' folders.
const FILE: &str = ".ingest.lock";
/// How often a turn that is another's is asked for again.
const AGAIN_MS: u64 = 250;

/// The turn to ingest, kept until it is dropped.
#[derive(Debug)]
pub struct IngestTurn {
    _file: File,
}

impl IngestTurn {
    /// Takes the turn; none if another process has it.
    ///
    /// # Errors
    /// What the system says.
    pub fn take(landing_dir: &Path) -> io::Result<Option<Self>> {
        std::fs::create_dir_all(landing_dir)?;
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(landing_dir.join(FILE))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits for the turn; none if it was cancelled first.
    ///
    /// # Errors
    /// What the system says.
    pub async fn wait<C: Clock>(
        landing_dir: &Path,
        clock: &C,
        cancel: &CancellationToken,
    ) -> io::Result<Option<Self>> {
        let mut told = false;
        loop {
            if let Some(turn) = Self::take(landing_dir)? {
                return Ok(Some(turn));
            }
            if !told {
                told = true;
                let dir = landing_dir.display();
                tracing::warn!(%dir, "another process ingests these landing logs: an import, or a second collector");
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(None),
                () = clock.sleep_until(clock.boot().plus_ms(AGAIN_MS)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("landing");
        let mine = IngestTurn::take(&logs).unwrap().unwrap();
        assert!(IngestTurn::take(&logs).unwrap().is_none());
        drop(mine);
        assert!(IngestTurn::take(&logs).unwrap().is_some());
    }
}
