//! Serve: what operators, their tools and other people's engines ask over HTTP.
//!
//! `/healthz` says the process lives; `/readyz` that it can do its work, with the reasons if not, and warnings if so;
//! `/metrics` is Prometheus text; `/api/status` the same for people and scripts; `/v1/…` is the lake as an Iceberg REST
//! catalog and `/api/v1/…` its refs and commits as JSON. Without tokens it listens on loopback only. It speaks HTTPS
//! where it is given a certificate.

pub mod access;
mod api;
pub mod audit;
mod catalog;
mod status;

pub use catalog::{CatalogSettings, Now};
pub use status::{Readiness, StatusBoard};

use crate::inbound::{TlsFileError, TlsFiles, TlsLimits, TlsListener};
use access::Access;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headwater_core::ports::Clock;
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// TLS connections at once: engines open some dozen each, and one costs some 50 kB.
const CONNECTIONS_MAX: usize = 1_024;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken, or may not be used.
    #[error("failed to listen on {listen}; choose another http.listen")]
    Listen {
        /// Address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others could write the lake.
    #[error(
        "{listen} is reached from other hosts and nobody would need a token; listen on 127.0.0.1, or make a token (headwater token \
         new) and configure it"
    )]
    Unguarded {
        /// Address.
        listen: SocketAddr,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The listener broke.
    #[error("http listener failed")]
    Serve(#[source] std::io::Error),
}

/// The lake's pages: the Iceberg REST catalog, and refs and commits as JSON.
pub struct LakePages {
    router: Router,
    catalog: Arc<catalog::Catalog>,
}

impl std::fmt::Debug for LakePages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LakePages").field("access", &self.catalog.access()).finish_non_exhaustive()
    }
}

impl LakePages {
    /// Pages over what `settings` say.
    #[must_use]
    pub fn new(settings: CatalogSettings) -> Self {
        let catalog = Arc::new(catalog::Catalog::new(settings));
        let router = catalog::router(Arc::clone(&catalog)).merge(api::router(Arc::clone(&catalog)));
        Self { router, catalog }
    }

    /// Every route, for a server of its own or a test.
    pub fn router(&self) -> Router {
        self.router.clone()
    }
}

struct Shared<C> {
    board: StatusBoard,
    metrics: PrometheusHandle,
    clock: C,
    catalog: Arc<catalog::Catalog>,
}

impl<C: Clone> Clone for Shared<C> {
    fn clone(&self) -> Self {
        Self {
            board: self.board.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            catalog: Arc::clone(&self.catalog),
        }
    }
}

/// An address that is listened on, with the certificate it shows.
pub struct Bound {
    tcp: TcpListener,
    tls: Option<(TlsFiles, TlsAcceptor)>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("tcp", &self.tcp).field("tls", &self.tls.is_some()).finish()
    }
}

impl Bound {
    /// Its URL, with the port the system chose where it was asked to.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn url(&self) -> std::io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.tcp.local_addr()?))
    }
}

/// Takes the address and reads the certificate, so that what is wrong is known before anything else starts.
///
/// # Errors
/// [`ServeError::Listen`]; [`ServeError::Unguarded`] for one that others reach while no token is needed;
/// [`ServeError::Tls`].
pub async fn bind(listen: SocketAddr, access: &Access, tls: Option<&TlsFiles>) -> Result<Bound, ServeError> {
    if access.is_open() && !listen.ip().is_loopback() {
        return Err(ServeError::Unguarded { listen });
    }
    let tls = tls.map(|files| files.load().map(|tls| (files.clone(), tls))).transpose()?;
    let tcp = TcpListener::bind(listen).await.map_err(|source| ServeError::Listen { listen, source })?;
    if tls.is_none() && !listen.ip().is_loopback() {
        tracing::warn!(%listen, "tokens travel in the clear; set http.tls_cert and http.tls_key, or put a proxy before it");
    }
    Ok(Bound { tcp, tls })
}

/// Serves a collector's pages until `cancel`.
///
/// # Errors
/// [`ServeError::Serve`] if the listener breaks.
pub async fn run<C: Clock>(
    listener: Bound,
    board: StatusBoard,
    metrics: PrometheusHandle,
    clock: C,
    lake: LakePages,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let shared = Shared { board, metrics, clock, catalog: Arc::clone(&lake.catalog) };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz::<C>))
        .route("/metrics", get(metrics_text::<C>))
        .route("/api/status", get(api_status::<C>))
        .with_state(shared)
        .merge(lake.router);
    serve(listener, router, cancel).await
}

/// Serves a lake alone until `cancel`, with `/metrics` and `/healthz` beside it.
///
/// # Errors
/// [`ServeError::Serve`] if the listener breaks.
pub async fn run_lake(
    listener: Bound,
    metrics: PrometheusHandle,
    lake: LakePages,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let catalog = Arc::clone(&lake.catalog);
    let text = move |headers: HeaderMap| async move {
        match catalog.who(&headers) {
            Ok(_) => rendered(&metrics),
            Err(failure) => failure.into_response(),
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(text))
        .merge(lake.router);
    serve(listener, router, cancel).await
}

async fn serve(bound: Bound, router: Router, cancel: CancellationToken) -> Result<(), ServeError> {
    let Bound { tcp, tls } = bound;
    let Some((files, tls)) = tls else {
        let served = axum::serve(tcp, router);
        let ended = served.with_graceful_shutdown(async move { cancel.cancelled().await }).await;
        return ended.map_err(ServeError::Serve);
    };
    let (tasks, accepting) = (TaskTracker::new(), CancellationToken::new());
    let limits = TlsLimits { connections_max: CONNECTIONS_MAX, lifetime: None };
    let listener =
        TlsListener::start(tcp, files, tls, limits, &tasks, &accepting).map_err(ServeError::Serve)?;
    let served = axum::serve(listener, router);
    let ended = served.with_graceful_shutdown(async move { cancel.cancelled().await }).await;
    accepting.cancel();
    tasks.close();
    tasks.wait().await;
    ended.map_err(ServeError::Serve)
}

async fn readyz<C: Clock>(State(shared): State<Shared<C>>) -> Response {
    let reading = shared.clock.read();
    match shared.board.readiness(reading.real) {
        Readiness::Ready => {
            let warnings = shared.board.warnings(reading);
            let lines: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            format!("ready\n{lines}").into_response()
        }
        Readiness::NotReady(reasons) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", reasons.join("; "))).into_response()
        }
    }
}

fn rendered(metrics: &PrometheusHandle) -> Response {
    metrics.run_upkeep();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, metrics.render()).into_response()
}

async fn metrics_text<C: Clock>(State(shared): State<Shared<C>>, headers: HeaderMap) -> Response {
    match shared.catalog.who(&headers) {
        Ok(_) => rendered(&shared.metrics),
        Err(failure) => failure.into_response(),
    }
}

async fn api_status<C: Clock>(State(shared): State<Shared<C>>, headers: HeaderMap) -> Response {
    if let Err(failure) = shared.catalog.who(&headers) {
        return failure.into_response();
    }
    let status = shared.board.status(shared.clock.read());
    ([(header::CONTENT_TYPE, "application/json")], format!("{status:#}\n")).into_response()
}

#[cfg(test)]
mod tls_tests;
