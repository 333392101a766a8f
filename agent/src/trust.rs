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
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
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

/// Lists of revoked collectors as a collector brought them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BroughtLists {
    /// CRLs, DER.
    pub lists: Vec<Vec<u8>>,
    /// Certificates of CAs that may have signed them, DER: the collector's chain without its own.
    pub issuers: Vec<Vec<u8>>,
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

    /// What the kept lists revoke. Those of a CA below the root are proven by its certificate, which is kept with them. A
    /// list that proves nothing any more, such as one of another fleet, revokes nothing.
    #[must_use]
    pub fn revocations(&self, roots: &FleetRoots, above: &[Vec<u8>]) -> RevocationList {
        let kept = self.kept_lists();
        let issuers = [above, &kept.issuers].concat();
        let mut known = RevocationList::default();
        for list in kept.lists {
            match RevocationList::read(&[list], roots.ders(), &issuers) {
                Ok(list) => known.extend(&list),
                Err(error) => tracing::warn!(%error, "a kept revocation list is not used"),
            }
        }
        known
    }

    fn kept_lists(&self) -> BroughtLists {
        let Ok(bytes) = std::fs::read(self.lists_file()) else { return BroughtLists::default() };
        BroughtLists {
            lists: CertificateRevocationListDer::pem_slice_iter(&bytes)
                .flatten()
                .map(|der| der.to_vec())
                .collect(),
            issuers: CertificateDer::pem_slice_iter(&bytes).flatten().map(|der| der.to_vec()).collect(),
        }
    }

    /// Keeps what of the lists can be proven, in place of those there are, with the certificates that it takes. `Ok(false)`
    /// if that says no more than what is kept: lists only ever grow, so it is older.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_revocations(
        &self,
        roots: &FleetRoots,
        above: &[Vec<u8>],
        brought: &BroughtLists,
    ) -> io::Result<bool> {
        let issuers = [above, &brought.issuers].concat();
        let mut news = RevocationList::default();
        let mut text = String::new();
        for list in &brought.lists {
            match RevocationList::read(std::slice::from_ref(list), roots.ders(), &issuers) {
                Ok(read) => {
                    news.extend(&read);
                    text.push_str(&pem("X509 CRL", list));
                }
                // It may be of another site, and proves nothing here.
                Err(error) => tracing::debug!(%error, "a revocation list is not kept"),
            }
        }
        let known = self.revocations(roots, above);
        if !news.covers(&known) || (news == known && !known.is_empty()) {
            return Ok(false);
        }
        issuers.iter().for_each(|issuer| text.push_str(&pem("CERTIFICATE", issuer)));
        self.write(&self.lists_file(), text.as_bytes()).map(|()| true)
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

    struct Ca {
        issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
        der: Vec<u8>,
    }

    fn ca_params(name: &str) -> rcgen::CertificateParams {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params
    }

    fn root(name: &str) -> Ca {
        let (params, key) = (ca_params(name), rcgen::KeyPair::generate().unwrap());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Ca { issuer: rcgen::Issuer::new(params, key), der }
    }

    fn below(above: &Ca, name: &str) -> Ca {
        let (params, key) = (ca_params(name), rcgen::KeyPair::generate().unwrap());
        let der = params.signed_by(&key, &above.issuer).unwrap().der().to_vec();
        Ca { issuer: rcgen::Issuer::new(params, key), der }
    }

    /// The list of a CA in which certificates of these serials are revoked.
    fn list(ca: &Ca, serials: &[u8]) -> Vec<u8> {
        let day = rcgen::date_time_ymd(2026, 11, 28);
        let entry = |serial: &u8| rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(&[*serial]),
            revocation_time: day,
            reason_code: None,
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: day,
            next_update: rcgen::date_time_ymd(2036, 11, 28),
            crl_number: rcgen::SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&ca.issuer).unwrap().der().to_vec()
    }

    /// The chain that proved a site's list came with the collector's answer, and was gone after a restart.
    #[test]
    fn lists_of_a_ca_below_the_root_are_proven_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (fleet, stranger) = (root("fleet"), root("fleet"));
        let (site, forged) = (below(&fleet, "site"), below(&stranger, "site"));
        let roots = FleetRoots::new(std::slice::from_ref(&fleet.der)).unwrap();
        let brought = |lists: Vec<Vec<u8>>, issuers: &[&Ca]| BroughtLists {
            lists,
            issuers: issuers.iter().map(|ca| ca.der.clone()).collect(),
        };
        let files = || TrustFiles::of_spool(dir.path());
        let kept = || files().revocations(&roots, &[]);
        let first = brought(vec![list(&site, &[7]), list(&fleet, &[8])], &[&site]);
        assert!(files().keep_revocations(&roots, &[], &first).unwrap());
        assert_eq!(kept().len(), 2, "with no chain but the kept one");
        assert!(!files().keep_revocations(&roots, &[], &first).unwrap(), "no news, no write");
        // One that says less is older, and one of a CA that another fleet made says nothing.
        let less = brought(vec![list(&fleet, &[8])], &[&site]);
        assert!(!files().keep_revocations(&roots, &[], &less).unwrap());
        let lie =
            brought(vec![list(&forged, &[9]), list(&site, &[7]), list(&fleet, &[8])], &[&forged, &site]);
        assert!(!files().keep_revocations(&roots, &[], &lie).unwrap());
        assert_eq!(kept().len(), 2);
        let more = brought(vec![list(&site, &[7, 10]), list(&fleet, &[8])], &[&site]);
        assert!(files().keep_revocations(&roots, &[], &more).unwrap());
        assert_eq!(kept().len(), 3);
        // Kept certificates prove nothing by themselves: of another root they are no CAs of ours.
        let others = FleetRoots::new(std::slice::from_ref(&stranger.der)).unwrap();
        assert!(files().revocations(&others, &[]).is_empty());
    }
}
