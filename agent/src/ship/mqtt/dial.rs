//! The way to a broker, hop by hop: name, TCP, proxy, TLS, WebSocket. Each hop fails with its own words.
//!
//! We dial ourselves, since rumqttc has no place for a proxy's tunnel, SOCKS5 or two addresses at once; what
//! comes out is one stream, whatever lies below it.

mod http_head;
mod proxy;
mod socks;
mod tcp;
mod tls;
mod websocket;

pub use proxy::{Credentials, Proxy, ProxyError, ProxyKind};

use super::url::{BrokerUrl, Carrier};
use headwater_core::ports::{Cause, Clock, LinkClosed};
use rustls::ClientConfig;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes to the broker, whatever carries it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A step on the way to a working link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// The host name becomes addresses.
    Dns,
    /// A TCP connection, to the proxy if there is one.
    Tcp,
    /// The proxy opens a tunnel.
    Proxy,
    /// Certificates are shown and checked.
    Tls,
    /// HTTP becomes a WebSocket.
    WebSocket,
    /// CONNECT and CONNACK.
    Mqtt,
    /// The ack topic is subscribed.
    Subscribe,
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "DNS",
            Self::Tcp => "TCP",
            Self::Proxy => "proxy",
            Self::Tls => "TLS",
            Self::WebSocket => "WebSocket",
            Self::Mqtt => "MQTT",
            Self::Subscribe => "subscription",
        })
    }
}

/// A hop that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{hop}: {reason}")]
pub struct HopError {
    /// Which.
    pub hop: Hop,
    /// Why, and what to do.
    pub reason: String,
    /// What to make of it.
    pub cause: Cause,
}

impl HopError {
    fn new(hop: Hop, cause: Cause, reason: impl Into<String>) -> Self {
        Self { hop, reason: reason.into(), cause }
    }
}

impl From<HopError> for LinkClosed {
    fn from(error: HopError) -> Self {
        LinkClosed::because(error.cause, error.to_string())
    }
}

/// How far a connection got, and what was found on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// The hop under way.
    pub at: Hop,
    /// Hops that are behind us, with what was found.
    pub passed: Vec<(Hop, String)>,
    /// Our own address towards the first of them.
    pub local: Option<IpAddr>,
}

impl Default for Journey {
    fn default() -> Self {
        Self { at: Hop::Dns, passed: Vec::new(), local: None }
    }
}

impl Journey {
    pub(super) fn begin(&mut self, hop: Hop) {
        self.at = hop;
    }

    pub(super) fn pass(&mut self, found: impl Into<String>) {
        self.passed.push((self.at, found.into()));
    }
}

/// A way to a broker.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where to.
    pub broker: BrokerUrl,
    /// For `mqtts` and `wss`.
    pub tls: Option<Arc<ClientConfig>>,
    /// Through this.
    pub proxy: Option<Proxy>,
    /// Out of this network interface only.
    pub interface: Option<String>,
}

/// Goes the way to its end. Unbounded in time: the caller says how long.
pub(super) async fn dial<C: Clock>(
    route: &Route,
    clock: &C,
    journey: &mut Journey,
) -> Result<Box<dyn Stream>, HopError> {
    let Route { broker, tls, proxy, interface } = route;
    let (host, port) = proxy.as_ref().map_or((&broker.host, broker.port), |proxy| (&proxy.host, proxy.port));
    journey.begin(Hop::Dns);
    let addresses = tcp::resolve(host, port).await?;
    journey.pass(tcp::told(&addresses));
    journey.begin(Hop::Tcp);
    let tcp = tcp::connect(&addresses, interface.as_deref(), clock).await?;
    journey.local = tcp.local_addr().ok().map(|address| address.ip());
    journey.pass(tcp.peer_addr().map_or_else(|_| String::new(), |address| address.to_string()));
    let mut stream: Box<dyn Stream> = Box::new(tcp);
    if let Some(proxy) = proxy {
        journey.begin(Hop::Proxy);
        proxy.tunnel(&mut stream, broker).await?;
        journey.pass(format!("{proxy} opened a tunnel"));
    }
    if let Some(tls) = tls.as_ref().filter(|_| broker.tls) {
        journey.begin(Hop::Tls);
        let (secured, found) = tls::secure(stream, broker, tls).await?;
        journey.pass(found);
        stream = secured;
    }
    if broker.carrier == Carrier::WebSocket {
        journey.begin(Hop::WebSocket);
        stream = websocket::upgrade(stream, broker).await?;
        journey.pass(format!("{} with subprotocol mqtt", broker.path));
    }
    Ok(stream)
}

/// The words of a stream's end: what TLS said, if it was TLS.
pub(super) fn end_of_stream(error: &std::io::Error) -> Option<LinkClosed> {
    tls::refusal(error).map(|reason| LinkClosed::because(Cause::Untrusted, format!("TLS: {reason}")))
}
