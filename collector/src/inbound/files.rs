//! The files of a server's certificate.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio_rustls::TlsAcceptor;

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be used for TLS: {why}; issue one with `headwater pki issue --collector NAME --host HOST`"
)]
pub struct TlsFileError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// Where certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate with its chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Certificates shown behind the chain, such as a CA that clients know by its digest only.
    pub more: Option<PathBuf>,
}

impl TlsFiles {
    /// What is in them now.
    ///
    /// # Errors
    /// [`TlsFileError`] names the file.
    pub fn load(&self) -> Result<TlsAcceptor, TlsFileError> {
        let wrong = |path: &Path, why: String| TlsFileError { path: path.to_owned(), why };
        let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
            CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| wrong(path, error.to_string()))
        };
        let mut chain = certificates(&self.cert)?;
        if let Some(more) = &self.more {
            chain.extend(certificates(more)?);
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong(&self.key, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| wrong(&self.cert, error.to_string()))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// When each was last written, as far as that can be told.
    pub(super) fn changed(&self) -> [Option<SystemTime>; 3] {
        [Some(&self.cert), Some(&self.key), self.more.as_ref()]
            .map(|path| path.and_then(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok()))
    }
}
