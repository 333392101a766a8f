//! Reads certificates and keys, and makes sure that they are ours: named as configured, and in pairs.

use super::settings::IdentityFiles;
use headwater_core::id::DevicePath;
use headwater_core::time::UtcNanos;
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::{ChainError, FleetRoots, Role, Signer, verify_chain};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};

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
#[derive(Debug)]
pub struct Identity {
    /// Root certificates, DER.
    pub roots_der: Vec<Vec<u8>>,
    /// The same as anchors.
    pub roots: FleetRoots,
    /// TLS chain, leaf first, DER.
    pub tls_chain: Vec<Vec<u8>>,
    /// TLS key, PKCS#8 DER.
    pub tls_key: Vec<u8>,
    /// Signing chain, leaf first, DER.
    pub sign_chain: Vec<Vec<u8>>,
    /// Signing key.
    pub sign_key: SigningKey,
    /// Whom the signing chain names, until when.
    pub signer: Signer,
}

/// Reads the identity of `device` as of `now`.
///
/// # Errors
/// Every [`IdentityError`] found.
pub fn load(
    files: &IdentityFiles,
    device: &DevicePath,
    now: UtcNanos,
) -> Result<Identity, Vec<IdentityError>> {
    let mut errors = Vec::new();
    let mut keep = |error: IdentityError| errors.push(error);
    let roots_der = certificates(&files.ca).map_err(&mut keep).ok();
    let roots = roots_der.as_deref().and_then(|der| {
        FleetRoots::new(der).map_err(|why| keep(IdentityError::Roots { file: files.ca.clone(), why })).ok()
    });
    let tls_chain = certificates(&files.tls_cert).map_err(&mut keep).ok();
    let tls_key = tls_key(&files.tls_key).map_err(&mut keep).ok();
    let sign_chain = certificates(&files.sign_cert).map_err(&mut keep).ok();
    let sign_key = sign_key(&files.sign_key).map_err(&mut keep).ok();
    let signer = roots.as_ref().zip(sign_chain.as_deref()).and_then(|(roots, chain)| {
        verify_chain(chain, roots, Role::Device, now)
            .map_err(|why| keep(IdentityError::Chain { file: files.sign_cert.clone(), why }))
            .ok()
    });
    if let Some(signer) = &signer {
        if signer.path != *device {
            keep(IdentityError::Name {
                file: files.sign_cert.clone(),
                found: signer.path.clone(),
                expected: device.clone(),
            });
        }
        if let Some(key) = &sign_key
            && key.verifying_key().ok() != Some(signer.key)
        {
            keep(IdentityError::Pair { key: files.sign_key.clone(), certificate: files.sign_cert.clone() });
        }
    }
    match (roots_der, roots, tls_chain, tls_key, sign_chain, sign_key, signer) {
        (
            Some(roots_der),
            Some(roots),
            Some(tls_chain),
            Some(tls_key),
            Some(sign_chain),
            Some(sign_key),
            Some(signer),
        ) if errors.is_empty() => {
            Ok(Identity { roots_der, roots, tls_chain, tls_key, sign_chain, sign_key, signer })
        }
        _ => Err(errors),
    }
}

fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, IdentityError> {
    let refuse = || IdentityError::Pem { file: file.to_owned(), what: "certificate" };
    let certificates: Vec<Vec<u8>> = CertificateDer::pem_file_iter(file)
        .map_err(|_| refuse())?
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| refuse())?;
    if certificates.is_empty() { Err(refuse()) } else { Ok(certificates) }
}

fn tls_key(file: &Path) -> Result<Vec<u8>, IdentityError> {
    PrivateKeyDer::from_pem_file(file)
        .map(|key| key.secret_der().to_vec())
        .map_err(|_| IdentityError::Pem { file: file.to_owned(), what: "private key" })
}

fn sign_key(file: &Path) -> Result<SigningKey, IdentityError> {
    let key = PrivatePkcs8KeyDer::from_pem_file(file)
        .map_err(|_| IdentityError::Pem { file: file.to_owned(), what: "PKCS#8 private key" })?;
    SigningKey::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| IdentityError::Key { file: file.to_owned() })
}
