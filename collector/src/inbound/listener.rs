//! Connections: accepted, shaken hands with each in a task of its own, bounded in number.

use super::TlsFiles;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Streams whose handshake is done and that nobody took yet.
const READY_MAX: usize = 64;

/// What a service allows its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsLimits {
    /// At once; more wait unaccepted.
    pub connections_max: usize,
    /// Longest life of one; none lets its client decide.
    pub lifetime: Option<Duration>,
}

/// Connections whose handshake is done.
#[derive(Debug)]
pub struct TlsListener {
    streams: mpsc::Receiver<(Guarded, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    /// Accepts on `tcp` until `cancel`, with the certificate `tls` that was read from `files`.
    ///
    /// # Errors
    /// When the system does not tell its address.
    pub fn start(
        tcp: TcpListener,
        files: TlsFiles,
        tls: TlsAcceptor,
        limits: TlsLimits,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) -> io::Result<TlsListener> {
        let address = tcp.local_addr()?;
        let (ready, streams) = mpsc::channel(READY_MAX);
        tasks.spawn(accept(tcp, files, tls, limits, ready, tasks.clone(), cancel.clone()));
        Ok(TlsListener { streams, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepts and shakes hands, each in a task of its own. A renewed certificate is used from the next connection on.
async fn accept(
    tcp: TcpListener,
    files: TlsFiles,
    mut tls: TlsAcceptor,
    limits: TlsLimits,
    ready: mpsc::Sender<(Guarded, SocketAddr)>,
    tasks: TaskTracker,
    cancel: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let mut changed = files.changed();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
                tcp.accept().await.map(|(stream, from)| (stream, from, place))
            } => accepted,
        };
        let (stream, from, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, or a peer that was gone at once.
                tracing::warn!(%error, "connection not accepted");
                pause(Duration::from_millis(100)).await;
                continue;
            }
        };
        let now = files.changed();
        if now != changed {
            changed = now;
            match files.load() {
                Ok(renewed) => tls = renewed,
                Err(error) => {
                    metrics::counter!("headwater_tls_reload_failures_total").increment(1);
                    tracing::error!(%error, "the certificate of before stays in use");
                }
            }
        }
        let (tls, ready, cancel) = (tls.clone(), ready.clone(), cancel.clone());
        tasks.spawn(async move {
            let shake = tokio::time::timeout(HANDSHAKE, tls.accept(stream));
            let shaken = tokio::select! {
                () = cancel.cancelled() => return,
                shaken = shake => shaken,
            };
            match shaken {
                Ok(Ok(stream)) => {
                    let guarded = Guarded {
                        stream: Box::new(stream),
                        _place: place,
                        until: limits.lifetime.map(|lifetime| Box::pin(pause(lifetime)) as Until),
                    };
                    if ready.send((guarded, from)).await.is_err() {
                        tracing::debug!(%from, "the service ends");
                    }
                }
                Ok(Err(error)) => tracing::debug!(%from, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%from, "TLS handshake took too long"),
            }
        });
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "deadlines of sockets are real time; nothing is decided by them"
)]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

type Until = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that frees its place when it ends, and ends in time where that is asked.
pub struct Guarded {
    stream: Box<TlsStream<TcpStream>>,
    _place: OwnedSemaphorePermit,
    until: Option<Until>,
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guarded(…)")
    }
}

impl Guarded {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.until.as_mut().is_some_and(|until| until.as_mut().poll(context).is_ready())
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Listener for TlsListener {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        match self.streams.recv().await {
            Some(accepted) => accepted,
            // Accepting ends with the service only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
