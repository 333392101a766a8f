//! Which brokers are believed: the fleet's, by a clock that may be wrong, unless revoked.

use super::cert_time::CertTime;
use crate::clock::BootClock;
use headwater_core::ports::Clock;
use headwater_core::time::{NS_PER_S, UtcNanos};
use headwater_core::wire::chain::not_before;
use headwater_core::wire::revocation::RevocationList;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// What a broker's certificate is held against.
#[derive(Debug, Clone)]
pub struct ServerTrust {
    /// When.
    pub time: CertTime,
    /// What is revoked.
    pub revocations: RevocationList,
}

impl From<UtcNanos> for ServerTrust {
    /// A time floor alone.
    fn from(floor: UtcNanos) -> Self {
        Self { time: floor.into(), revocations: RevocationList::default() }
    }
}

/// webpki's verifier at our time. A certificate that holds up to the fleet's root and begins later than our clock says
/// proves our clock behind, so it is verified as of its start.
#[derive(Debug)]
pub(super) struct BrokerVerifier {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    pub(super) trust: ServerTrust,
}

impl BrokerVerifier {
    fn verify_at(
        &self,
        now: UnixTime,
        chain: (&CertificateDer<'_>, &[CertificateDer<'_>]),
        name: &ServerName<'_>,
        ocsp: &[u8],
    ) -> Result<ServerCertVerified, Error> {
        let (leaf, intermediates) = chain;
        let early = match self.webpki.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Err(
                early @ Error::InvalidCertificate(
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
                ),
            ) => early,
            decided => return decided,
        };
        let starts = intermediates.iter().chain([leaf]).filter_map(|der| not_before(der).ok());
        let start = starts.max().and_then(unix).ok_or(early)?;
        self.webpki.verify_server_cert(leaf, intermediates, name, ocsp, start.max(now))
    }
}

impl ServerCertVerifier for BrokerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _wall: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let reading = BootClock.read();
        let now = unix(self.trust.time.at(reading.b2, reading.real))
            .unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO));
        let verified = self.verify_at(now, (end_entity, intermediates), server_name, ocsp_response)?;
        let chain: Vec<Vec<u8>> =
            [end_entity].into_iter().chain(intermediates).map(|der| der.to_vec()).collect();
        match self.trust.revocations.find(&chain) {
            Some(_) => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            None => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn unix(utc: UtcNanos) -> Option<UnixTime> {
    let seconds = u64::try_from(utc.0 / NS_PER_S).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}
