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

/// Sessions kept for resumption: one or two for each broker of the longest list.
const SESSIONS_MAX: usize = 32;

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
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::{CertificateError, ClientConnection, Error, ServerConfig, ServerConnection};

    /// A day of 2090, when the broker's certificate of these tests is issued. Today's clock is as far behind it as a
    /// clock of 1970 is behind a certificate of today.
    const ISSUED: UtcNanos = UtcNanos(3_790_000_000 * NS_PER_S);

    /// A fleet's root and a broker's certificate that begins to be valid in 2090: client and server of one handshake.
    fn ends(time_floor: UtcNanos) -> (ClientConnection, ServerConnection) {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2100, 1, 1));
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .unwrap();
        let pem = |certificate: &rcgen::Certificate| certificate.pem().into_bytes();
        let client =
            client_config(&pem(&root), &pem(&leaf), key.serialize_pem().as_bytes(), time_floor).unwrap();
        let name = "localhost".try_into().unwrap();
        (ClientConnection::new(client, name).unwrap(), ServerConnection::new(Arc::new(server)).unwrap())
    }

    /// Carries bytes both ways until both are content or the client refuses.
    fn shake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Error> {
        while client.is_handshaking() || server.is_handshaking() {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            client.write_tls(&mut there).unwrap();
            server.read_tls(&mut there.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            server.write_tls(&mut back).unwrap();
            client.read_tls(&mut back.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_clock_behind_the_brokers_certificate_is_lifted_to_the_floor() {
        let (mut client, mut server) = ends(ISSUED);
        assert_eq!(shake(&mut client, &mut server), Ok(()));
    }

    #[test]
    fn without_a_floor_the_wall_clock_decides() {
        for floor in [UtcNanos(i64::MIN), UtcNanos(-1), UtcNanos(0)] {
            let (mut client, mut server) = ends(floor);
            let refused = shake(&mut client, &mut server).unwrap_err();
            let Error::InvalidCertificate(why) = &refused else { panic!("{refused}") };
            let early =
                matches!(why, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. });
            assert!(early, "{refused}");
        }
    }

    #[test]
    fn the_floor_holds_no_right_clock_back() {
        let time = FlooredTime { floor: UnixTime::since_unix_epoch(Duration::ZERO) };
        assert!(time.current_time().unwrap().as_secs() > 0);
        let floor = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
        assert_eq!(FlooredTime { floor }.current_time(), Some(floor));
    }
}
