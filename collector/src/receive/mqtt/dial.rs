//! The way to the collector's broker: name, TCP, TLS. A data centre needs no proxy and no WebSocket.

use headwater_core::ports::{Cause, LinkClosed};
use rustls_pki_types::ServerName;
use std::io::Error;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A stream of bytes to the broker.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Goes the way to its end, address by address. Unbounded in time: the caller says how long.
pub(super) async fn dial(
    host: &str,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Box<dyn Stream>, LinkClosed> {
    let tcp = TcpStream::connect((host, port))
        .await
        .map_err(|error| LinkClosed::transient(format!("cannot reach {host} port {port}: {error}")))?;
    tcp.set_nodelay(true).map_err(|error| LinkClosed::transient(error.to_string()))?;
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        LinkClosed::because(Cause::Untrusted, format!("{host:?} is no name a certificate can have"))
    })?;
    let secured = TlsConnector::from(tls).connect(name, tcp).await.map_err(|error| {
        judge(&error)
            .unwrap_or_else(|| LinkClosed::transient(format!("TLS: {error}; does this port speak TLS?")))
    })?;
    Ok(Box::new(secured))
}

/// What TLS said, which with TLS 1.3 may come only after its handshake: our certificate was not taken.
pub(super) fn judge(error: &Error) -> Option<LinkClosed> {
    let said = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(LinkClosed::because(Cause::Untrusted, format!("TLS: {said}")))
}
