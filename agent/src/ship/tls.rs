//! TLS towards the broker: the fleet's root only, our client certificate, ring.

use headwater_core::time::{NS_PER_S, UtcNanos};
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Not PEM, or of another kind.
    #[error("{file} holds no usable PEM {what}")]
    Pem {
        /// Which file, as in the configuration.
        file: &'static str,
        /// What was expected.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("{file} holds no certificate")]
    Empty {
        /// Which file, as in the configuration.
        file: &'static str,
    },
    /// rustls refuses it.
    #[error("certificate and key do not fit; check that tls_key belongs to tls_cert")]
    Rustls(#[from] rustls::Error),
}

/// The wall clock, but never before a floor: a gateway that woke up in 1970 still gets through.
#[derive(Debug)]
struct FlooredTime {
    floor: UnixTime,
}

impl TimeProvider for FlooredTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::now().max(self.floor))
    }
}

/// Reads all certificates of a PEM file, leaf first.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn certificates(file: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { file, what: "certificate", source })?;
    if read.is_empty() { Err(TlsError::Empty { file }) } else { Ok(read) }
}

/// The client's side of TLS. Keep the `Arc` over reconnects, so that sessions resume.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn client_config(
    ca_pem: &[u8],
    cert_pem: &[u8],
    key_pem: &[u8],
    time_floor: UtcNanos,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates("ca", ca_pem)? {
        roots.add(root)?;
    }
    let chain = certificates("tls_cert", cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|source| TlsError::Pem {
        file: "tls_key",
        what: "private key",
        source,
    })?;
    let floor_s = u64::try_from(time_floor.0 / NS_PER_S).unwrap_or(0);
    let time = FlooredTime { floor: UnixTime::since_unix_epoch(Duration::from_secs(floor_s)) };
    let mut config = ClientConfig::builder_with_details(Arc::new(default_provider()), Arc::new(time))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::in_memory_sessions(4);
    Ok(Arc::new(config))
}
