//! The enrolment service: the desk behind HTTPS.
//!
//! `POST /v1/enroll` and `POST /v1/renew` take and give JSON; `GET /v1/collectors.crl` is for who wants the list. TLS
//! shows the fleet's CA along with the certificate, since a new gateway knows it by its SHA-256 only. No client
//! certificates: a token or a signature says who asks. The CA's key is on this machine and nowhere else.

use super::enroll::{Desk, EnrollError, EnrollRequest, Granted, Offer, RenewRequest};
use crate::inbound::{TlsFileError, TlsFiles, TlsLimits, TlsListener};
use crate::receive::clock::SystemClock;
use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use headwater_core::ports::Clock;
use headwater_core::time::UtcNanos;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest request; ours have some 3 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Connections at once: each costs a handshake and up to a minute.
const CONNECTIONS_MAX: usize = 64;
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
    #[error(transparent)]
    Tls(#[from] TlsFileError),
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
        write!(f, "Service({})", self.listener.address())
    }
}

/// Takes the address and reads the certificate, so that what is wrong is known at once.
///
/// # Errors
/// [`ServeError`].
pub async fn bind(settings: &ServeSettings) -> Result<Service, ServeError> {
    let failed = |source| ServeError::Listen { listen: settings.listen, source };
    let files = TlsFiles {
        cert: settings.cert.clone(),
        key: settings.key.clone(),
        more: Some(settings.dir.join("ca.pem")),
    };
    let tls = files.load()?;
    let tcp = TcpListener::bind(settings.listen).await.map_err(failed)?;
    let (tasks, accepting) = (TaskTracker::new(), CancellationToken::new());
    let limits = TlsLimits { connections_max: CONNECTIONS_MAX, lifetime: Some(CONNECTION) };
    let listener = TlsListener::start(tcp, files, tls, limits, &tasks, &accepting).map_err(failed)?;
    let desk = Arc::new(Desk::new(&settings.dir, settings.offer.clone()));
    Ok(Service { listener, desk, tasks, accepting })
}

impl Service {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
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

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
    }
}
