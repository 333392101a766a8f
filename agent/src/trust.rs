//! What the agent remembers of trust over restarts: the time floor, and lists of revoked collectors.
//!
//! Two small files in the spool's folder. Both can be lost: the floor then starts from our own certificates again, and
//! the next collector brings the lists.

use crate::spool::disk::RealDisk;
use headwater_core::ports::{Disk, DiskFile};
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::chain::FleetRoots;
use headwater_core::wire::request::pem;
use headwater_core::wire::revocation::RevocationList;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Least growth of the floor that is worth a write: an hour, so that a card sees 24 small writes a day.
const FLOOR_STEP_NS: i64 = 3_600 * NS_PER_S;

/// The kept floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct KeptFloor {
    /// It is later than this, ns of UTC.
    utc_ns: i64,
}

/// The files.
#[derive(Debug, Clone)]
pub struct TrustFiles {
    dir: PathBuf,
}

impl TrustFiles {
    /// Those of the spool in `dir`.
    #[must_use]
    pub fn of_spool(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where the floor is kept.
    #[must_use]
    pub fn floor_file(&self) -> PathBuf {
        self.dir.join("time-floor.json")
    }

    fn lists_file(&self) -> PathBuf {
        self.dir.join("revoked.crl")
    }

    /// The kept floor; `None` if there is none, or none that can be read.
    #[must_use]
    pub fn floor(&self) -> Option<UtcNanos> {
        let bytes = std::fs::read(self.floor_file()).ok()?;
        let kept: KeptFloor = serde_json::from_slice(&bytes).ok()?;
        Some(UtcNanos(kept.utc_ns))
    }

    /// Keeps a floor if it is an hour above the one that is kept. True if it was written.
    ///
    /// # Errors
    /// What the system says.
    pub fn raise_floor(&self, floor: UtcNanos) -> io::Result<bool> {
        if self.floor().is_some_and(|kept| floor.since(kept) < FLOOR_STEP_NS) {
            return Ok(false);
        }
        let text = serde_json::to_string(&KeptFloor { utc_ns: floor.0 }).map_err(io::Error::other)?;
        self.write(&self.floor_file(), text.as_bytes()).map(|()| true)
    }

    /// Forgets the floor. True if there was one.
    ///
    /// # Errors
    /// What the system says.
    pub fn reset_floor(&self) -> io::Result<bool> {
        match RealDisk.unlink(&self.floor_file()) {
            Ok(()) => RealDisk.sync_dir(&self.dir).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What the kept lists revoke. A list that proves nothing any more, such as one of another fleet, revokes nothing.
    #[must_use]
    pub fn revocations(&self, roots: &FleetRoots, above: &[Vec<u8>]) -> RevocationList {
        let Ok(bytes) = std::fs::read(self.lists_file()) else { return RevocationList::default() };
        let lists = CertificateRevocationListDer::pem_slice_iter(&bytes).flatten().map(|der| der.to_vec());
        let mut known = RevocationList::default();
        for list in lists {
            match RevocationList::read(&[list], roots.ders(), above) {
                Ok(list) => known.extend(&list),
                Err(error) => tracing::warn!(%error, "a kept revocation list is not used"),
            }
        }
        known
    }

    /// Keeps lists (CRLs, DER) in place of those there are.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_revocations(&self, lists: &[Vec<u8>]) -> io::Result<()> {
        let text: String = lists.iter().map(|list| pem("X509 CRL", list)).collect();
        self.write(&self.lists_file(), text.as_bytes())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fresh = path.with_extension("new");
        match RealDisk.unlink(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = RealDisk.create(&fresh)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        RealDisk.rename(&fresh, path)?;
        RealDisk.sync_dir(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_kept_by_the_hour_and_can_be_reset() {
        let dir = tempfile::tempdir().unwrap();
        let files = TrustFiles::of_spool(dir.path());
        let at = |s: i64| UtcNanos(1_800_000_000 * NS_PER_S + s * NS_PER_S);
        assert_eq!(files.floor(), None);
        assert!(files.raise_floor(at(0)).unwrap());
        assert!(!files.raise_floor(at(3_599)).unwrap());
        assert_eq!(files.floor(), Some(at(0)));
        assert!(files.raise_floor(at(3_600)).unwrap());
        assert!(!files.raise_floor(at(0)).unwrap(), "never lower");
        assert_eq!(files.floor(), Some(at(3_600)));
        assert!(files.reset_floor().unwrap());
        assert!(!files.reset_floor().unwrap());
        std::fs::write(files.floor_file(), b"{").unwrap();
        assert_eq!(files.floor(), None, "a damaged one is none");
    }
}
