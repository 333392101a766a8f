//! Reads certificates and keys, and makes sure that they are ours: named as configured, and in pairs.

use super::settings::IdentityFiles;
use crate::ship::CertTime;
use headwater_core::id::DevicePath;
use headwater_core::time::{BootNanos, NS_PER_S, UtcNanos};
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::{
    ChainError, FleetRoots, Role, Signer, not_after, not_before, verify_chain,
};
use headwater_core::wire::revocation::RevocationList;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No certificate of this software is older (2026-01-01): a clock before it is wrong.
const RELEASED: UtcNanos = UtcNanos(1_767_225_600 * NS_PER_S);

/// What cannot be used as an identity, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not PEM, or without what it should hold.
    #[error("{file} holds no {what}; write it anew with `headwater pki issue`")]
    Pem {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The signing certificate proves nothing.
    #[error("{file} is not this fleet's signing certificate: {why}")]
    Chain {
        /// The file.
        file: PathBuf,
        /// Why.
        why: ChainError,
    },
    /// The CA file holds no usable roots.
    #[error("{file} holds no usable root: {why}")]
    Roots {
        /// The file.
        file: PathBuf,
        /// Why.
        why: ChainError,
    },
    /// The signing key cannot be used.
    #[error("{file} is not an Ed25519 key in PKCS#8 form")]
    Key {
        /// The file.
        file: PathBuf,
    },
    /// Key and certificate are no pair.
    #[error("{key} is not the key of {certificate}")]
    Pair {
        /// Key file.
        key: PathBuf,
        /// Certificate file.
        certificate: PathBuf,
    },
    /// A revocation list that cannot be believed.
    #[error("{file} cannot be used: {why}; copy it anew from the CA's folder, or take identity.crl out")]
    Revocations {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The certificate is another gateway's.
    #[error("{file} is {found}'s, but the configuration says {expected}")]
    Name {
        /// Certificate file.
        file: PathBuf,
        /// Whom it names.
        found: DevicePath,
        /// Whom it should name.
        expected: DevicePath,
    },
}

/// Certificates and keys, read and checked.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Root certificates, PEM.
    pub ca_pem: Vec<u8>,
    /// The same as anchors.
    pub roots: FleetRoots,
    /// TLS chain, PEM.
    pub tls_cert_pem: Vec<u8>,
    /// TLS key, PEM.
    pub tls_key_pem: Vec<u8>,
    /// Signing chain, leaf first, DER.
    pub sign_chain: Vec<Vec<u8>>,
    /// Signing key.
    pub sign_key: Arc<SigningKey>,
    /// Whom the signing chain names, until when.
    pub signer: Signer,
    /// The nearest end of our certificates.
    pub ends: UtcNanos,
    /// It is at least this late: our own certificates had been issued.
    pub time_floor: UtcNanos,
}

/// [`load_since`] without a kept floor.
///
/// # Errors
/// Every [`IdentityError`] found.
pub fn load(
    files: &IdentityFiles,
    device: &DevicePath,
    now: UtcNanos,
) -> Result<Identity, Vec<IdentityError>> {
    load_since(files, device, now, RELEASED)
}

/// Reads the identity of `device`. It must be valid at some time from the floor on: `floor`, and that our own
/// certificates had been issued. A gateway whose clock shows 1970 or 2090 is still itself; whether a certificate has
/// ended by a clock that may be wrong is for the broker to say ([`crate::ship::CertTime`]).
///
/// # Errors
/// Every [`IdentityError`] found.
pub fn load_since(
    files: &IdentityFiles,
    device: &DevicePath,
    now: UtcNanos,
    floor: UtcNanos,
) -> Result<Identity, Vec<IdentityError>> {
    let mut errors = Vec::new();
    let mut keep = |error: IdentityError| errors.push(error);
    let ca = pem(&files.ca, "certificate").map_err(&mut keep).ok();
    let tls_cert = pem(&files.tls_cert, "certificate").map_err(&mut keep).ok();
    let tls_key = key_pem(&files.tls_key).map_err(&mut keep).ok();
    let sign = pem(&files.sign_cert, "certificate").map_err(&mut keep).ok();
    let sign_key = sign_key(&files.sign_key).map_err(&mut keep).ok();
    let mut roots = ca.as_ref().and_then(|(_, der)| {
        FleetRoots::new(der).map_err(|why| keep(IdentityError::Roots { file: files.ca.clone(), why })).ok()
    });
    let issued = |der: &[Vec<u8>]| der.iter().filter_map(|der| not_before(der).ok()).max();
    let known = [&tls_cert, &sign].into_iter().flatten().filter_map(|(_, der)| issued(der));
    let time_floor = known.max().unwrap_or(RELEASED).max(floor);
    let ends = [&tls_cert, &sign]
        .into_iter()
        .flatten()
        .flat_map(|(_, der)| der)
        .filter_map(|der| not_after(der).ok());
    let ends = ends.min().unwrap_or(UtcNanos(i64::MAX));
    let at = CertTime::new(time_floor, ends).at(BootNanos(0), now);
    let signer = roots.as_ref().zip(sign.as_ref()).and_then(|(roots, (_, chain))| {
        verify_chain(chain, roots, Role::Device, at)
            .map_err(|why| keep(IdentityError::Chain { file: files.sign_cert.clone(), why }))
            .ok()
    });
    if let (Some(file), Some(roots)) = (&files.crl, &mut roots) {
        let above = sign.as_ref().and_then(|(_, chain)| chain.get(1..)).unwrap_or_default();
        match revocations(file, roots, above) {
            Ok(list) => drop(roots.revoke(&list)),
            Err(why) => keep(IdentityError::Revocations { file: file.clone(), why }),
        }
    }
    if let Some(signer) = &signer {
        if signer.path != *device {
            let (found, expected) = (signer.path.clone(), device.clone());
            keep(IdentityError::Name { file: files.sign_cert.clone(), found, expected });
        }
        if sign_key.as_ref().is_some_and(|key| key.verifying_key().ok() != Some(signer.key)) {
            keep(IdentityError::Pair { key: files.sign_key.clone(), certificate: files.sign_cert.clone() });
        }
    }
    match (ca, roots, tls_cert, tls_key, sign, sign_key, signer) {
        (Some(ca), Some(roots), Some(tls_cert), Some(tls_key_pem), Some(sign), Some(key), Some(signer))
            if errors.is_empty() =>
        {
            let (sign_chain, sign_key) = (sign.1, Arc::new(key));
            let (ca_pem, tls_cert_pem) = (ca.0, tls_cert.0);
            Ok(Identity {
                ca_pem,
                roots,
                tls_cert_pem,
                tls_key_pem,
                sign_chain,
                sign_key,
                signer,
                ends,
                time_floor,
            })
        }
        _ => Err(errors),
    }
}

/// The lists of a PEM file, proven.
fn revocations(file: &Path, roots: &FleetRoots, above: &[Vec<u8>]) -> Result<RevocationList, String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let lists: Vec<Vec<u8>> = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let mut issuers: Vec<Vec<u8>> =
        CertificateDer::pem_slice_iter(&bytes).flatten().map(|der| der.to_vec()).collect();
    issuers.extend_from_slice(above);
    RevocationList::read(&lists, roots.ders(), &issuers).map_err(|error| error.to_string())
}

fn read(file: &Path, what: &'static str) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(file).map_err(|_| IdentityError::Pem { file: file.to_owned(), what })
}

/// A PEM file of certificates, as it is and as DER.
fn pem(file: &Path, what: &'static str) -> Result<(Vec<u8>, Vec<Vec<u8>>), IdentityError> {
    let refuse = || IdentityError::Pem { file: file.to_owned(), what };
    let bytes = read(file, what)?;
    let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(&bytes)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| refuse())?;
    if certificates.is_empty() { Err(refuse()) } else { Ok((bytes, certificates)) }
}

fn key_pem(file: &Path) -> Result<Vec<u8>, IdentityError> {
    let bytes = read(file, "private key")?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(IdentityError::Pem { file: file.to_owned(), what: "private key" }),
    }
}

fn sign_key(file: &Path) -> Result<SigningKey, IdentityError> {
    let bytes = read(file, "PKCS#8 private key")?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&bytes)
        .map_err(|_| IdentityError::Pem { file: file.to_owned(), what: "PKCS#8 private key" })?;
    SigningKey::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| IdentityError::Key { file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
        PKCS_ED25519, date_time_ymd,
    };
    use std::fs;

    /// A gateway without a battery shows this at power-on.
    const IN_1970: UtcNanos = UtcNanos(7 * NS_PER_S);
    /// 2031-01-01 and the day after, when its certificates were issued, and a day of 2050, when they have ended.
    const SIGN_ISSUED: UtcNanos = UtcNanos(1_924_992_000 * NS_PER_S);
    const TLS_ISSUED: UtcNanos = UtcNanos(1_925_078_400 * NS_PER_S);
    const EXPIRED: UtcNanos = UtcNanos(2_540_000_000 * NS_PER_S);

    fn path() -> DevicePath {
        DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() }
    }

    /// The five files of a gateway whose signing certificate is valid from `from` to `to`, both 1 January.
    fn issue(dir: &Path, from: i32, to: i32) -> IdentityFiles {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let leaf = |key: &KeyPair, day: u8| {
            let mut leaf = CertificateParams::new(vec![]).unwrap();
            leaf.distinguished_name.push(DnType::CommonName, "pi-1");
            leaf.distinguished_name.push(DnType::OrganizationName, "acme");
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            (leaf.not_before, leaf.not_after) = (date_time_ymd(from, 1, day), date_time_ymd(to, 1, 1));
            leaf.signed_by(key, &issuer).unwrap().pem()
        };
        let (tls, sign) = (KeyPair::generate().unwrap(), KeyPair::generate_for(&PKCS_ED25519).unwrap());
        let write = |name: &str, text: String| {
            fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        IdentityFiles {
            ca: write("ca.pem", root.pem()),
            tls_cert: write("tls.pem", leaf(&tls, 2)),
            tls_key: write("tls.key", tls.serialize_pem()),
            sign_cert: write("sign.pem", leaf(&sign, 1)),
            sign_key: write("sign.key", sign.serialize_pem()),
            crl: None,
            renew: None,
        }
    }

    #[test]
    fn a_clock_of_1970_is_taken_for_the_day_of_our_newest_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let files = issue(dir.path(), 2031, 2041);
        for now in [UtcNanos(i64::MIN), UtcNanos(0), IN_1970, SIGN_ISSUED] {
            let identity = load(&files, &path(), now).unwrap();
            assert_eq!(identity.time_floor, TLS_ISSUED);
            assert_eq!((identity.signer.path, identity.signer.not_before), (path(), SIGN_ISSUED));
        }
    }

    #[test]
    fn the_floor_makes_no_expired_certificate_valid() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |files: &IdentityFiles, now, floor| {
            let errors = load_since(files, &path(), now, floor).unwrap_err();
            assert!(matches!(errors.as_slice(), [IdentityError::Chain { .. }]), "{errors:?}");
        };
        // Ended for certain, whatever the clock shows.
        refused(&issue(dir.path(), 2031, 2041), EXPIRED, EXPIRED);
        refused(&issue(dir.path(), 2031, 2041), IN_1970, EXPIRED);
        // Issued and ended before this software was made: a clock of 1970 does not bring it back.
        refused(&issue(dir.path(), 2015, 2025), IN_1970, RELEASED);
    }

    #[test]
    fn a_clock_beyond_our_end_is_as_likely_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let files = issue(dir.path(), 2031, 2041);
        let identity = load(&files, &path(), EXPIRED).unwrap();
        assert_eq!(identity.time_floor, TLS_ISSUED);
        assert!(identity.ends < EXPIRED);
    }
}
