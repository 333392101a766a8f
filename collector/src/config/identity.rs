//! The collector's certificates and keys, read and checked against each other.

use super::IdentityPaths;
use headwater_core::id::TenantId;
use headwater_core::time::UtcNanos;
use headwater_core::wire::SigningKey;
use headwater_core::wire::chain::{ChainError, FleetRoots, Role, Signer, verify_chain};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A PEM file that cannot be read.
    #[error("{path} is no PEM file of the expected kind: {why}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The root or signing chain proves nothing.
    #[error("{path} cannot be used")]
    Chain {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ChainError,
    },
    /// The signing key is not an Ed25519 key.
    #[error("{path} is not an Ed25519 key in PKCS#8 form")]
    Key {
        /// Which file.
        path: PathBuf,
    },
    /// Certificate and key are not a pair.
    #[error("{cert} and {key} are not a pair")]
    Pair {
        /// Certificate.
        cert: PathBuf,
        /// Key.
        key: PathBuf,
    },
    /// The certificate is another tenant's.
    #[error("{path} belongs to tenant {found}, the configuration says {expected}")]
    Tenant {
        /// Which file.
        path: PathBuf,
        /// Its O.
        found: TenantId,
        /// `tenant.name`.
        expected: TenantId,
    },
    /// rustls does not take certificate and key.
    #[error("{path} cannot be used for TLS")]
    Tls {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Everything the collector proves itself with.
#[derive(Debug)]
pub struct Identity {
    /// Roots that device chains must lead to.
    pub roots: FleetRoots,
    /// Signs acks.
    pub key: SigningKey,
    /// Its chain, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Whom the chain names.
    pub signer: Signer,
    /// TLS towards the broker.
    pub tls: Arc<rustls::ClientConfig>,
}

impl Identity {
    /// Reads and checks all files at time `now`.
    ///
    /// # Errors
    /// [`IdentityError`] names the first file that is wrong.
    pub fn load(paths: &IdentityPaths, tenant: &TenantId, now: UtcNanos) -> Result<Self, IdentityError> {
        let ca = certificates(&paths.ca)?;
        let ders: Vec<Vec<u8>> = ca.iter().map(|der| der.to_vec()).collect();
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Chain { path, source }
        };
        let roots = FleetRoots::new(&ders).map_err(wrong(&paths.ca))?;
        let chain: Vec<Vec<u8>> = certificates(&paths.sign_cert)?.iter().map(|der| der.to_vec()).collect();
        let signer = verify_chain(&chain, &roots, Role::Collector, now).map_err(wrong(&paths.sign_cert))?;
        if signer.path.tenant != *tenant {
            return Err(IdentityError::Tenant {
                path: paths.sign_cert.clone(),
                found: signer.path.tenant,
                expected: tenant.clone(),
            });
        }
        let key = SigningKey::from_pkcs8(private_key(&paths.sign_key)?.secret_der())
            .map_err(|_| IdentityError::Key { path: paths.sign_key.clone() })?;
        if key.key_id() != signer.key.key_id() {
            return Err(IdentityError::Pair { cert: paths.sign_cert.clone(), key: paths.sign_key.clone() });
        }
        let tls = client_tls(&ca, &paths.tls_cert, &paths.tls_key)?;
        Ok(Self { roots, key, chain, signer, tls: Arc::new(tls) })
    }
}

/// TLS with a client certificate, trusting `ca` alone.
fn client_tls(
    ca: &[CertificateDer<'static>],
    cert: &Path,
    key: &Path,
) -> Result<rustls::ClientConfig, IdentityError> {
    let tls = |source| IdentityError::Tls { path: cert.to_owned(), source };
    let mut roots = rustls::RootCertStore::empty();
    for der in ca {
        roots.add(der.clone()).map_err(tls)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let (chain, key) = (certificates(cert), private_key(key));
            let builder = builder.with_root_certificates(roots);
            match (chain, key) {
                (Ok(chain), Ok(key)) => builder.with_client_auth_cert(chain, key),
                (Err(error), _) | (_, Err(error)) => Err(rustls::Error::General(error.to_string())),
            }
        })
        .map_err(tls)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = |why: String| IdentityError::Pem { path: path.to_owned(), why };
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .map_err(|error| pem(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| pem(error.to_string()))?;
    if found.is_empty() { Err(pem("it holds no certificate".into())) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| IdentityError::Pem { path: path.to_owned(), why: error.to_string() })
}
