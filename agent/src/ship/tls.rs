//! TLS towards the broker: the fleet's root only, our client certificate, ring.

use super::verifier::{BrokerVerifier, ServerTrust};
use rustls::client::{Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

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
    trust: impl Into<ServerTrust>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let chain = certificates("tls_cert", cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|source| TlsError::Pem {
        file: "tls_key",
        what: "private key",
        source,
    })?;
    let mut config = trusting(ca_pem, trust.into())?.with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

/// TLS towards a server of the fleet that asks for no certificate.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn server_only_config(ca_pem: &[u8], trust: ServerTrust) -> Result<ClientConfig, TlsError> {
    Ok(trusting(ca_pem, trust)?.with_no_client_auth())
}

fn trusting(
    ca_pem: &[u8],
    trust: ServerTrust,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates("ca", ca_pem)? {
        roots.add(root)?;
    }
    let provider = Arc::new(default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(BrokerVerifier { webpki, trust })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::CertTime;
    use headwater_core::time::{NS_PER_S, UtcNanos};
    use headwater_core::wire::revocation::RevocationList;
    use rcgen::{
        BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
        date_time_ymd,
    };
    use rustls::{CertificateError, ClientConnection, Error, ServerConfig, ServerConnection};

    /// A fleet's root and a broker's certificate, valid from one year's first day to another's: both ends of a handshake.
    fn ends(
        from: i32,
        to: i32,
        trust: impl FnOnce(&Issuer<'_, KeyPair>, &[u8]) -> ServerTrust,
    ) -> (ClientConnection, ServerConnection) {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        leaf.serial_number = Some(SerialNumber::from_slice(&[7]));
        (leaf.not_before, leaf.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .unwrap();
        let pem = |certificate: &rcgen::Certificate| certificate.pem().into_bytes();
        let trust = trust(&issuer, root.der());
        let client = client_config(&pem(&root), &pem(&leaf), key.serialize_pem().as_bytes(), trust).unwrap();
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

    fn floor(utc: UtcNanos) -> impl FnOnce(&Issuer<'_, KeyPair>, &[u8]) -> ServerTrust {
        move |_, _| utc.into()
    }

    #[test]
    fn a_broker_certificate_that_begins_later_proves_the_clock_behind() {
        // Today's clock is as far behind it as one of 1970 is behind a certificate of today.
        for known in [UtcNanos(i64::MIN), UtcNanos(0), UtcNanos(1_800_000_000 * NS_PER_S)] {
            let (mut client, mut server) = ends(2090, 2100, floor(known));
            assert_eq!(shake(&mut client, &mut server), Ok(()));
        }
    }

    #[test]
    fn a_broker_certificate_that_has_ended_is_refused() {
        let expired = |(mut client, mut server): (ClientConnection, ServerConnection)| {
            let refused = shake(&mut client, &mut server).unwrap_err();
            let Error::InvalidCertificate(why) = &refused else { panic!("{refused}") };
            matches!(why, CertificateError::Expired | CertificateError::ExpiredContext { .. })
        };
        assert!(expired(ends(2010, 2020, floor(UtcNanos(0)))));
        // By the collector's time, whatever the wall clock shows.
        assert!(expired(ends(2010, 2060, |_, _| {
            let time = CertTime::new(UtcNanos(0), UtcNanos(i64::MAX));
            time.promised(crate::status::now(), UtcNanos(3_000_000_000 * NS_PER_S));
            ServerTrust { time, revocations: RevocationList::default() }
        })));
    }

    #[test]
    fn a_clock_of_2090_ends_no_broker_certificate() {
        // The wall clock lies beyond our own end of 2020, so it is as likely wrong: the floor of 2015 counts.
        let (mut client, mut server) = ends(2010, 2020, |_, _| {
            let time = CertTime::new(UtcNanos(1_420_070_400 * NS_PER_S), UtcNanos(1_577_836_800 * NS_PER_S));
            ServerTrust { time, revocations: RevocationList::default() }
        });
        assert_eq!(shake(&mut client, &mut server), Ok(()));
    }

    #[test]
    fn a_revoked_broker_is_refused() {
        let (mut client, mut server) = ends(2010, 2090, |issuer, root| {
            let day = date_time_ymd(2026, 11, 28);
            let list = rcgen::CertificateRevocationListParams {
                this_update: day,
                next_update: date_time_ymd(2036, 11, 28),
                crl_number: SerialNumber::from_slice(&[1]),
                issuing_distribution_point: None,
                revoked_certs: vec![rcgen::RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&[7]),
                    revocation_time: day,
                    reason_code: None,
                    invalidity_date: None,
                }],
                key_identifier_method: rcgen::KeyIdMethod::Sha256,
            };
            let der = list.signed_by(issuer).unwrap().der().to_vec();
            let revocations = RevocationList::read(&[der], &[root.to_vec()], &[]).unwrap();
            ServerTrust { time: UtcNanos(0).into(), revocations }
        });
        let refused = shake(&mut client, &mut server).unwrap_err();
        assert_eq!(refused, Error::InvalidCertificate(CertificateError::Revoked));
    }
}
