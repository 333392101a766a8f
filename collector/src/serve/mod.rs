//! Serve: what operators and their tools ask over HTTP. Read-only, plain text and JSON.
//!
//! `/healthz` says the process lives; `/readyz` that it can do its work, with the reasons if not, and warnings if so;
//! `/metrics` is Prometheus text; `/api/status` the same for people and scripts. No TLS and no login: it
//! belongs on loopback or behind a proxy.

mod status;

pub use status::{Readiness, StatusBoard};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headwater_core::ports::Clock;
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::SocketAddr;
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
    /// The listener broke.
    #[error("http listener failed")]
    Serve(#[source] std::io::Error),
}

struct Shared<C> {
    board: StatusBoard,
    metrics: PrometheusHandle,
    clock: C,
}

impl<C: Clone> Clone for Shared<C> {
    fn clone(&self) -> Self {
        Self { board: self.board.clone(), metrics: self.metrics.clone(), clock: self.clock.clone() }
    }
}

/// Takes the address, so that a taken one is known before anything else starts.
///
/// # Errors
/// [`ServeError::Listen`].
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(listen).await.map_err(|source| ServeError::Listen { listen, source })
}

/// Serves until `cancel`.
///
/// # Errors
/// [`ServeError::Serve`] if the listener breaks.
pub async fn run<C: Clock>(
    listener: TcpListener,
    board: StatusBoard,
    metrics: PrometheusHandle,
    clock: C,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz::<C>))
        .route("/metrics", get(metrics_text::<C>))
        .route("/api/status", get(api_status::<C>))
        .with_state(Shared { board, metrics, clock });
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

async fn metrics_text<C: Clock>(State(shared): State<Shared<C>>) -> Response {
    shared.metrics.run_upkeep();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shared.metrics.render()).into_response()
}

async fn api_status<C: Clock>(State(shared): State<Shared<C>>) -> Response {
    let status = shared.board.status(shared.clock.read());
    ([(header::CONTENT_TYPE, "application/json")], format!("{status:#}\n")).into_response()
}
