//! The embedded broker (rumqttd), a role of its own process: for one machine, development and demos.
//!
//! It speaks one version of MQTT (rumqttd wants a port per version): 5, or 3.1.1 to see what a fleet does on such a
//! broker. Agents and collector speak both.
//!
//! What it is not: it keeps nothing on disk, has no rule for who may publish where, and accepts TLS
//! connections one after the other, so a peer that connects and says nothing holds up the others. Messages
//! are signed, so this costs availability, never data: use another broker for a fleet that may be hostile.
//! With client certificates it takes their organisation (O) as its tenant and wants it alphanumeric.

use headwater_mqtt::Version;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings, TlsConfig};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Largest payload the broker takes: a message of 128 KiB with room to grow.
const PAYLOAD_BYTES_MAX: usize = 262_144;
/// Unacknowledged messages per connection.
const INFLIGHT_MAX: usize = 128;
/// The router's log lies in memory: 8 segments of 16 MiB, above the credit of a small fleet.
const SEGMENT_BYTES: usize = 16 << 20;
const SEGMENTS: usize = 8;
/// Connections at once.
const CONNECTIONS_MAX: usize = 1000;
/// From TCP accept to CONNECT; the field is 16 bits wide.
const CONNECT_TIMEOUT_MS: u16 = 60_000;

/// What the broker serves with.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Address.
    pub listen: SocketAddr,
    /// PEM files for TLS with client certificates; `None` = plain MQTT, on loopback only.
    pub tls: Option<BrokerTls>,
    /// Version of MQTT.
    pub version: Version,
}

/// PEM files of the broker's TLS.
#[derive(Debug, Clone)]
pub struct BrokerTls {
    /// Root that client certificates must lead to.
    pub ca: PathBuf,
    /// Server certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why the broker does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// Plain MQTT beyond loopback.
    #[error("broker.plain is allowed on loopback only, not on {0}; take it out to use TLS")]
    PlainBeyondLoopback(SocketAddr),
    /// The broker's tenant rule.
    #[error(
        "the embedded broker takes letters and digits only as tenant, not {0:?}; use another broker or tenant name"
    )]
    Tenant(String),
    /// A path that is no text.
    #[error("path {0} is not valid UTF-8, which the embedded broker needs")]
    Path(PathBuf),
    /// The address is taken, or may not be used.
    #[error("failed to listen on {listen}; is another broker running there?")]
    Listen {
        /// Address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It reported an error.
    #[error("the embedded broker ended: {0}")]
    Ended(String),
}

/// Checks that a tenant's certificates can be used with the embedded broker.
///
/// # Errors
/// [`BrokerError::Tenant`] if they cannot.
pub fn check_tenant(tenant: &str) -> Result<(), BrokerError> {
    if tenant.chars().all(char::is_alphanumeric) { Ok(()) } else { Err(BrokerError::Tenant(tenant.into())) }
}

/// Runs the broker in this thread. It cannot be told to stop: it ends with the process, and if it ends
/// before, that is an error.
///
/// # Errors
/// [`BrokerError`]; never returns otherwise.
pub fn run(settings: &BrokerSettings) -> Result<std::convert::Infallible, BrokerError> {
    if settings.tls.is_none() && !settings.listen.ip().is_loopback() {
        return Err(BrokerError::PlainBeyondLoopback(settings.listen));
    }
    // It logs a failed bind and lives on without a listener, so this is tried first.
    std::net::TcpListener::bind(settings.listen)
        .map_err(|source| BrokerError::Listen { listen: settings.listen, source })?;
    let mut broker = Broker::new(config(settings)?);
    match broker.start() {
        Ok(()) => Err(BrokerError::Ended("its server thread is gone".into())),
        Err(error) => Err(BrokerError::Ended(error.to_string())),
    }
}

fn config(settings: &BrokerSettings) -> Result<Config, BrokerError> {
    let text =
        |path: &PathBuf| path.to_str().map(ToOwned::to_owned).ok_or_else(|| BrokerError::Path(path.clone()));
    let tls = match &settings.tls {
        None => None,
        Some(tls) => Some(TlsConfig::Rustls {
            capath: Some(text(&tls.ca)?),
            certpath: text(&tls.cert)?,
            keypath: text(&tls.key)?,
        }),
    };
    let server = ServerSettings {
        name: settings.version.to_string(),
        listen: settings.listen,
        tls,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: CONNECT_TIMEOUT_MS,
            max_payload_size: PAYLOAD_BYTES_MAX,
            max_inflight_count: INFLIGHT_MAX,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let router = RouterConfig {
        max_connections: CONNECTIONS_MAX,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    };
    let servers = Some(HashMap::from([("mqtt".to_owned(), server)]));
    let (v5, v4) = if settings.version == Version::V5 { (servers, None) } else { (None, servers) };
    Ok(Config { id: 0, router, v5, v4, ..Config::default() })
}
