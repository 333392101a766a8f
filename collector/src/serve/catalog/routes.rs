//! The rim: paths, headers and bodies to questions of the catalog. Nothing is decided here.

use super::Catalog;
use super::failure::Failure;
use super::read::answer;
use super::write::{Asked, no_register, no_views};
use crate::serve::access::{Caller, Role};
use crate::telemetry;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Form, Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use headwater_lake::RefPatterns;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Largest body taken: a commit of a hundred tables with wide schemas is a megabyte.
const BODY_BYTES_MAX: usize = 8 << 20;

type Shared = State<Arc<Catalog>>;
type Answer = Result<Response, Failure>;
type Prefix = Path<String>;
type Namespace = Path<(String, String)>;
type Table = Path<(String, String, String)>;

/// Routes below `/v1`.
pub(in crate::serve) fn router(catalog: Arc<Catalog>) -> Router {
    let inner = Router::new()
        .route("/config", get(config))
        .route("/oauth/tokens", post(oauth))
        .route("/{prefix}/namespaces", get(list_namespaces).post(create_namespace))
        .route(
            "/{prefix}/namespaces/{namespace}",
            get(load_namespace).head(head_namespace).delete(drop_namespace),
        )
        .route("/{prefix}/namespaces/{namespace}/properties", post(namespace_properties))
        .route("/{prefix}/namespaces/{namespace}/register", post(register))
        .route("/{prefix}/namespaces/{namespace}/tables", get(list_tables).post(create_table))
        .route(
            "/{prefix}/namespaces/{namespace}/tables/{table}",
            get(load_table).head(head_table).post(commit_table).delete(drop_table),
        )
        .route("/{prefix}/namespaces/{namespace}/tables/{table}/metrics", post(report))
        .route("/{prefix}/namespaces/{namespace}/views", get(list_views).post(create_view))
        .route("/{prefix}/namespaces/{namespace}/views/{view}", get(no_view).head(no_view).delete(no_view))
        .route("/{prefix}/tables/rename", post(rename))
        .route("/{prefix}/transactions/commit", post(commit_transaction))
        .fallback(no_endpoint)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&catalog), guard))
        .layer(from_fn(count))
        .with_state(catalog);
    Router::new().nest("/v1", inner)
}

async fn count(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    telemetry::catalog_answered(response.status().as_u16());
    response
}

/// Turns strangers away before anything they send is read into memory; a change they ask for is written down.
async fn guard(State(catalog): Shared, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Whoever comes for a token has none yet.
    if path == "/oauth/tokens" {
        return next.run(request).await;
    }
    let Err(failure) = catalog.who(request.headers()) else { return next.run(request).await };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let prefix = path.split('/').nth(1).unwrap_or_default().to_owned();
        let nobody = Caller { name: "-".into(), role: Role::Reader, refs: RefPatterns::default() };
        let asked = Asked::new(nobody, agent(request.headers()), prefix, "unknown caller");
        catalog.write_down(&asked, Vec::new(), Err(failure.clone())).await;
    }
    failure.into_response()
}

fn agent(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok())
}

impl Catalog {
    /// Who asks.
    pub(in crate::serve) fn who(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let header = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        Ok(self.access().caller(header)?)
    }

    /// Who asks for a change.
    fn asked(&self, headers: &HeaderMap, prefix: String, op: &'static str) -> Result<Asked, Failure> {
        Ok(Asked::new(self.who(headers)?, agent(headers), prefix, op))
    }
}

#[derive(Deserialize)]
struct ConfigQuery {
    warehouse: Option<String>,
}

#[derive(Deserialize)]
struct NamespacesQuery {
    parent: Option<String>,
}

fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    query.map(|Query(query)| query).map_err(|e| Failure::bad_request(e.body_text()))
}

async fn config(
    State(catalog): Shared,
    headers: HeaderMap,
    asked: Result<Query<ConfigQuery>, QueryRejection>,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.config(&caller, &query(asked)?.warehouse.unwrap_or_default()).await
}

#[derive(Deserialize)]
struct Credentials {
    grant_type: Option<String>,
    client_secret: Option<String>,
}

/// Clients that want to exchange a secret for a token get the secret back: it is the token.
async fn oauth(State(catalog): Shared, form: Result<Form<Credentials>, FormRejection>) -> Response {
    let refuse = |status: StatusCode, error: &str, text: String| {
        let mut response = answer(&json!({"error": error, "error_description": text}));
        *response.status_mut() = status;
        response
    };
    let form = match form {
        Ok(Form(form)) => form,
        Err(e) => return refuse(StatusCode::BAD_REQUEST, "invalid_request", e.body_text()),
    };
    if form.grant_type.as_deref() != Some("client_credentials") {
        let text = "send grant_type=client_credentials with the token as client_secret".to_owned();
        return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type", text);
    }
    let secret = form.client_secret.unwrap_or_default();
    let access = catalog.access();
    let known = if access.is_open() { Ok(()) } else { access.by_secret(&secret).map(|_| ()) };
    match known {
        Ok(()) => answer(&json!({
            "access_token": secret,
            "token_type": "bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        })),
        Err(denied) => refuse(StatusCode::UNAUTHORIZED, "invalid_client", denied.to_string()),
    }
}

async fn list_namespaces(
    State(catalog): Shared,
    Path(prefix): Prefix,
    headers: HeaderMap,
    asked: Result<Query<NamespacesQuery>, QueryRejection>,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.list_namespaces(&caller, &prefix, query(asked)?.parent.as_deref()).await
}

async fn load_namespace(
    State(catalog): Shared,
    Path((prefix, namespace)): Namespace,
    headers: HeaderMap,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.namespace(&caller, &prefix, &namespace, false).await
}

async fn head_namespace(
    State(catalog): Shared,
    Path((prefix, namespace)): Namespace,
    headers: HeaderMap,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.namespace(&caller, &prefix, &namespace, true).await
}

async fn create_namespace(
    State(catalog): Shared,
    Path(prefix): Prefix,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let asked = catalog.asked(&headers, prefix, "create namespace")?;
    catalog.create_namespace(&asked, &body).await
}

async fn drop_namespace(
    State(catalog): Shared,
    Path((prefix, namespace)): Namespace,
    headers: HeaderMap,
) -> Answer {
    let asked = catalog.asked(&headers, prefix, "drop namespace")?;
    catalog.drop_namespace(&asked, &namespace).await
}

async fn namespace_properties(State(catalog): Shared, headers: HeaderMap) -> Answer {
    catalog.who(&headers)?;
    Err(Failure::unsupported("namespaces of a lake have no properties; set them on tables"))
}

async fn register(State(catalog): Shared, Path((prefix, _)): Namespace, headers: HeaderMap) -> Answer {
    let asked = catalog.asked(&headers, prefix, "register")?;
    catalog.write_down(&asked, Vec::new(), Err(no_register())).await;
    Err(no_register())
}

async fn list_tables(
    State(catalog): Shared,
    Path((prefix, namespace)): Namespace,
    headers: HeaderMap,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.list_tables(&caller, &prefix, &namespace).await
}

async fn create_table(
    State(catalog): Shared,
    Path((prefix, namespace)): Namespace,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let asked = catalog.asked(&headers, prefix, "create table")?;
    catalog.create_table(asked, &namespace, &body).await
}

async fn load_table(
    State(catalog): Shared,
    Path((prefix, namespace, table)): Table,
    headers: HeaderMap,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.table(&caller, &prefix, (&namespace, &table), Some(&headers)).await
}

async fn head_table(
    State(catalog): Shared,
    Path((prefix, namespace, table)): Table,
    headers: HeaderMap,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.table(&caller, &prefix, (&namespace, &table), None).await
}

async fn commit_table(
    State(catalog): Shared,
    Path((prefix, namespace, table)): Table,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let asked = catalog.asked(&headers, prefix, "commit")?;
    catalog.commit_table(asked, (&namespace, &table), &body).await
}

async fn drop_table(
    State(catalog): Shared,
    Path((prefix, namespace, table)): Table,
    headers: HeaderMap,
) -> Answer {
    let asked = catalog.asked(&headers, prefix, "drop table")?;
    catalog.drop_table(asked, (&namespace, &table)).await
}

/// What an engine reports of its scan is taken and not kept.
async fn report(State(catalog): Shared, headers: HeaderMap) -> Answer {
    catalog.who(&headers)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_views(
    State(catalog): Shared,
    Path((prefix, namespace)): Namespace,
    headers: HeaderMap,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.list_views(&caller, &prefix, &namespace).await
}

#[derive(Deserialize)]
struct ViewName {
    name: String,
}

async fn create_view(
    State(catalog): Shared,
    Path((prefix, namespace)): Namespace,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let asked = catalog.asked(&headers, prefix, "create view")?;
    let named: ViewName = serde_json::from_slice(&body)
        .map_err(|e| Failure::bad_request(format!("the view cannot be read: {e}")))?;
    let refused = no_views(&namespace, &named.name)?;
    catalog.write_down(&asked, vec![format!("{namespace}.{}", named.name)], Err(refused.clone())).await;
    Err(refused)
}

async fn no_view(
    State(catalog): Shared,
    Path((prefix, namespace, view)): Table,
    headers: HeaderMap,
) -> Answer {
    let caller = catalog.who(&headers)?;
    catalog.readable(&caller, &prefix)?;
    let text = format!("there is no view {namespace}.{view}: this catalog has none");
    Err(Failure::new(StatusCode::NOT_FOUND, "NoSuchViewException", text))
}

async fn rename(State(catalog): Shared, Path(prefix): Prefix, headers: HeaderMap) -> Answer {
    let asked = catalog.asked(&headers, prefix, "rename table")?;
    catalog.rename(asked).await
}

async fn commit_transaction(
    State(catalog): Shared,
    Path(prefix): Prefix,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let asked = catalog.asked(&headers, prefix, "commit")?;
    catalog.commit_transaction(asked, &body).await
}

async fn no_endpoint(request: Request) -> Failure {
    let text = format!(
        "{} {} is not had here; GET /v1/config lists the endpoints that are",
        request.method(),
        request.uri().path()
    );
    Failure::new(StatusCode::NOT_FOUND, "NoSuchEndpointException", text)
}
