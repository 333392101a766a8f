//! Serve: what operators, their tools and other people's engines ask over HTTP.
//!
//! `/healthz` says the process lives; `/readyz` that it can do its work, with the reasons if not, and warnings if so;
//! `/metrics` is Prometheus text; `/api/status` the same for people and scripts; `/v1/…` is the lake as an Iceberg REST
//! catalog and `/api/v1/…` its refs and commits as JSON. Without tokens it listens on loopback only; TLS is a proxy's.

pub mod access;
mod api;
pub mod audit;
mod catalog;
mod status;

pub use catalog::{CatalogSettings, Now};
pub use status::{Readiness, StatusBoard};

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
use tokio_util::sync::CancellationToken;

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
        f.debug_struct("LakePages").field("access", &self.catalog.access).finish_non_exhaustive()
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

/// Takes the address, so that a taken one is known before anything else starts.
///
/// # Errors
/// [`ServeError::Listen`]; [`ServeError::Unguarded`] for one that others reach while no token is needed.
pub async fn bind(listen: SocketAddr, access: &Access) -> Result<TcpListener, ServeError> {
    if access.is_open() && !listen.ip().is_loopback() {
        return Err(ServeError::Unguarded { listen });
    }
    TcpListener::bind(listen).await.map_err(|source| ServeError::Listen { listen, source })
}

/// Serves a collector's pages until `cancel`.
///
/// # Errors
/// [`ServeError::Serve`] if the listener breaks.
pub async fn run<C: Clock>(
    listener: TcpListener,
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
    listener: TcpListener,
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

async fn serve(listener: TcpListener, router: Router, cancel: CancellationToken) -> Result<(), ServeError> {
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { cancel.cancelled().await })
        .await
        .map_err(ServeError::Serve)
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
