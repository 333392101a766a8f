//! The enrolment service: the desk behind HTTPS.
//!
//! `POST /v1/enroll` and `POST /v1/renew` take and give JSON; `GET /v1/collectors.crl` is for who wants the list. TLS
//! shows the fleet's CA along with the certificate, since a new gateway knows it by its SHA-256 only. No client
//! certificates: a token or a signature says who asks. The CA's key is on this machine and nowhere else.

use super::enroll::{Desk, EnrollError, EnrollRequest, Granted, Offer, RenewRequest};
use crate::receive::clock::SystemClock;
use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::{IncomingStream, Listener};
use headwater_core::ports::Clock;
use headwater_core::time::UtcNanos;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest request; ours have some 3 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Connections at once: each costs a handshake and up to a minute.
const CONNECTIONS_MAX: usize = 64;
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest connection: one request and its answer, on a slow link.
const CONNECTION: Duration = Duration::from_secs(60);

/// What the service needs.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// The CA's folder.
    pub dir: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// TLS certificate of the service: a collector's will do.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// What new gateways are told.
    pub offer: Offer,
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken, or may not be used.
    #[error("failed to listen on {listen}; choose another --listen")]
    Listen {
        /// Address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate of the service.
    #[error(
        "{path} cannot be used for TLS: {why}; issue one with `headwater pki issue --collector NAME --host HOST`"
    )]
    Tls {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The listener broke.
    #[error("the service's listener failed")]
    Serve(#[source] io::Error),
}

/// A service that listens and does not answer yet.
pub struct Service {
    listener: TlsListener,
    desk: Arc<Desk>,
    tasks: TaskTracker,
    accepting: CancellationToken,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({})", self.listener.address)
    }
}

/// Takes the address and reads the certificate, so that what is wrong is known at once.
///
/// # Errors
/// [`ServeError`].
pub async fn bind(settings: &ServeSettings) -> Result<Service, ServeError> {
    let failed = |source| ServeError::Listen { listen: settings.listen, source };
    let pair =
        Pair { cert: settings.cert.clone(), key: settings.key.clone(), ca: settings.dir.join("ca.pem") };
    let tls = pair.acceptor()?;
    let tcp = TcpListener::bind(settings.listen).await.map_err(failed)?;
    let address = tcp.local_addr().map_err(failed)?;
    let (tasks, accepting) = (TaskTracker::new(), CancellationToken::new());
    let (ready, streams) = mpsc::channel(CONNECTIONS_MAX);
    tasks.spawn(accept(tcp, pair, tls, ready, tasks.clone(), accepting.clone()));
    let desk = Arc::new(Desk::new(&settings.dir, settings.offer.clone()));
    Ok(Service { listener: TlsListener { streams, address }, desk, tasks, accepting })
}

impl Service {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Answers until `cancel`.
    ///
    /// # Errors
    /// [`ServeError::Serve`] if the listener breaks.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), ServeError> {
        let Self { listener, desk, tasks, accepting } = self;
        let router = Router::new()
            .route("/v1/enroll", post(enroll))
            .route("/v1/renew", post(renew))
            .route("/v1/collectors.crl", get(collectors))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(desk);
        let served = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>())
            .with_graceful_shutdown(async move { cancel.cancelled().await })
            .await;
        accepting.cancel();
        tasks.close();
        tasks.wait().await;
        served.map_err(ServeError::Serve)
    }
}

async fn enroll(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    body: Bytes,
) -> Response {
    answer("enroll", from, move |now| {
        let request: EnrollRequest = read(&body)?;
        desk.enroll(from.ip(), &request, now)
    })
    .await
}

async fn renew(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(Peer(from)): ConnectInfo<Peer>,
    body: Bytes,
) -> Response {
    answer("renew", from, move |now| {
        let request: RenewRequest = read(&body)?;
        desk.renew(&request, now)
    })
    .await
}

async fn collectors(State(desk): State<Arc<Desk>>) -> Response {
    match tokio::task::spawn_blocking(move || desk.collectors_list()).await {
        Ok(Ok(list)) => ([(header::CONTENT_TYPE, "application/x-pem-file")], list).into_response(),
        Ok(Err(error)) => {
            tracing::error!(%error, "revocation list cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, EnrollError> {
    serde_json::from_slice(body).map_err(|error| EnrollError::Request(error.to_string()))
}

/// Files and curves block their thread, so each request gets one.
async fn answer(
    what: &'static str,
    from: SocketAddr,
    decide: impl FnOnce(UtcNanos) -> Result<Granted, EnrollError> + Send + 'static,
) -> Response {
    let now = SystemClock.read().real;
    let (status, body) = match tokio::task::spawn_blocking(move || decide(now)).await {
        Ok(Ok(granted)) => {
            tracing::info!(what, %from, "certificates were given");
            (StatusCode::OK, serde_json::to_string(&granted).unwrap_or_default())
        }
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(what, %from, %error, cause, "no certificates were given");
            (status_of(&error), serde_json::json!({"error": error.to_string()}).to_string())
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"the service broke down"}"#.to_owned()),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn status_of(error: &EnrollError) -> StatusCode {
    match error {
        EnrollError::Token(_)
        | EnrollError::Certificate(_)
        | EnrollError::Revoked
        | EnrollError::Unknown(_) => StatusCode::FORBIDDEN,
        EnrollError::TooMany | EnrollError::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
        EnrollError::Taken(_) | EnrollError::TooWide(_) | EnrollError::Reserved(_) => StatusCode::CONFLICT,
        EnrollError::Request(_) => StatusCode::BAD_REQUEST,
        EnrollError::Pki(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The files of the service's certificate.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

impl Pair {
    fn acceptor(&self) -> Result<TlsAcceptor, ServeError> {
        let wrong = |path: &Path, why: String| ServeError::Tls { path: path.to_owned(), why };
        let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, ServeError> {
            CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| wrong(path, error.to_string()))
        };
        let mut chain = certificates(&self.cert)?;
        chain.extend(certificates(&self.ca)?);
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong(&self.key, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| wrong(&self.cert, error.to_string()))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn changed(&self) -> [Option<SystemTime>; 3] {
        [&self.cert, &self.key, &self.ca]
            .map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok())
    }
}

/// Accepts and shakes hands, each in a task of its own. A renewed certificate is used from the next connection on.
async fn accept(
    tcp: TcpListener,
    pair: Pair,
    mut tls: TlsAcceptor,
    ready: mpsc::Sender<(Guarded, SocketAddr)>,
    tasks: TaskTracker,
    cancel: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut changed = pair.changed();
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
        let now = pair.changed();
        if now != changed {
            changed = now;
            match pair.acceptor() {
                Ok(renewed) => tls = renewed,
                Err(error) => tracing::error!(%error, "the certificate of before stays in use"),
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
                        until: Box::pin(pause(CONNECTION)),
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

/// A connection that ends in time, and frees its place.
struct Guarded {
    stream: Box<TlsStream<TcpStream>>,
    _place: OwnedSemaphorePermit,
    until: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Guarded {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.until.as_mut().poll(context).is_ready()
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

/// Connections whose handshake is done.
struct TlsListener {
    streams: mpsc::Receiver<(Guarded, SocketAddr)>,
    address: SocketAddr,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
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
