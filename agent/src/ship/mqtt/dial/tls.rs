//! The TLS hop: handshake, what was found in it, and what a refusal means.

use super::{Hop, HopError, Stream};
use crate::ship::mqtt::url::BrokerUrl;
use headwater_core::ports::Cause;
use headwater_core::time::NS_PER_S;
use headwater_core::wire::certificate::certificate_facts;
use rumqttc::tokio_rustls::TlsConnector;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, HandshakeKind};
use rustls_pki_types::ServerName;
use std::sync::Arc;

/// Shakes hands; gives what was found, for people.
pub(super) async fn secure(
    stream: Box<dyn Stream>,
    broker: &BrokerUrl,
    config: &Arc<ClientConfig>,
) -> Result<(Box<dyn Stream>, String), HopError> {
    let fail = |cause, reason| HopError::new(Hop::Tls, cause, reason);
    let name = ServerName::try_from(broker.host.clone())
        .map_err(|_| fail(Cause::Untrusted, format!("{} is no name a certificate can have", broker.host)))?;
    let secured = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    let secured = secured.map_err(|error| match refusal(&error) {
        Some(reason) => fail(Cause::Untrusted, reason),
        None => {
            fail(Cause::Transient, format!("the handshake broke off: {error}; does this port speak TLS?"))
        }
    })?;
    let found = facts(secured.get_ref().1);
    Ok((Box::new(secured), found))
}

fn facts(connection: &ClientConnection) -> String {
    let version = connection.protocol_version().map_or_else(String::new, |version| format!("{version:?}"));
    let kind = match connection.handshake_kind() {
        Some(HandshakeKind::Resumed) => ", resumed",
        _ => "",
    };
    let alpn = connection
        .alpn_protocol()
        .map_or_else(String::new, |name| format!(", ALPN {}", String::from_utf8_lossy(name)));
    let certificate = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(|leaf| certificate_facts(leaf).ok())
        .map_or_else(String::new, |facts| {
            let until = chrono::DateTime::from_timestamp(facts.not_after.0.div_euclid(NS_PER_S), 0)
                .map_or_else(|| "?".to_owned(), |date| date.format("%Y-%m-%d").to_string());
            format!(", broker's certificate for {} is valid until {until}", facts.names.join(", "))
        });
    format!("{version}{kind}{alpn}{certificate}")
}

/// What TLS itself said, if the error is TLS's; with what to do.
pub(super) fn refusal(error: &std::io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let hint = match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the broker's certificate has ended: renew it, or mend this gateway's clock"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet: this gateway's clock is behind"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the broker's certificate is for another name: write the name it has in uplink.broker"
            }
            // A root made anew under the same name gives a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "identity.ca does not hold the root of the broker's certificate"
            }
            _ => "the broker's certificate does not hold",
        },
        Error::AlertReceived(
            AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => "the broker does not take our certificate: see identity.tls_cert, its end, and the broker's CA",
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the broker speaks neither TLS 1.3 nor 1.2"
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the broker wants another ALPN name: see uplink.alpn"
        }
        Error::InvalidMessage(_) => "this port speaks no TLS: see the port in uplink.broker",
        _ => "check certificates and the clock",
    };
    Some(format!("{hint} ({error})"))
}
