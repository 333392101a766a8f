//! MQTT clients of the measurement itself: options, and the certificates they show.

use anyhow::{Context, Result};
use rumqttc::v5::MqttOptions;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// As large as the broker lets messages be.
const PACKET_BYTES_MAX: u32 = 262_144;
/// So long that a client which only waits is not thrown out.
const KEEPALIVE: Duration = Duration::from_secs(600);

/// Where the broker is, and who asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Door {
    /// `host:port`.
    pub(super) broker: String,
    /// Folder of a TLS pair; none for plain TCP.
    pub(super) identity: Option<PathBuf>,
}

impl Door {
    pub(super) fn options(&self, name: &str) -> Result<MqttOptions> {
        let (host, port) = self.broker.split_once(':').context("the broker's address has no port")?;
        let mut options = MqttOptions::new(name, host, port.parse()?);
        options.set_max_packet_size(Some(PACKET_BYTES_MAX)).set_keep_alive(KEEPALIVE).set_clean_start(true);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        if let Some(folder) = &self.identity {
            let tls = TlsConfiguration::Rustls(Arc::new(tls(folder)?));
            options.set_transport(Transport::tls_with_config(tls));
        }
        Ok(options)
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    chain.with_context(|| format!("{} holds no certificates", path.display()))
}

fn tls(folder: &Path) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for root in chain(&folder.join("ca.pem"))? {
        roots.add(root)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key"))?;
    Ok(config.with_client_auth_cert(chain(&folder.join("tls.pem"))?, key)?)
}
