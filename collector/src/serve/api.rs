//! The lake as JSON for tools: refs, commits and logs, read only.
//!
//! `GET /api/v1/refs`, `GET /api/v1/commit?at=REF`, `GET /api/v1/log?at=REF&limit=N`.

use super::catalog::{Catalog, Failure, answer};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use headwater_lake::RefName;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Commits told when no limit is given.
const LOG_DEFAULT: usize = 20;
/// Most commits told at once: each is one read of the store.
const LOG_MAX: usize = 1_000;

type Shared = State<Arc<Catalog>>;
type Answer = Result<Response, Failure>;

#[derive(Deserialize)]
struct At {
    at: Option<String>,
    limit: Option<usize>,
}

pub(super) fn router(catalog: Arc<Catalog>) -> Router {
    Router::new()
        .route("/api/v1/refs", get(refs))
        .route("/api/v1/commit", get(commit))
        .route("/api/v1/log", get(log))
        .with_state(catalog)
}

async fn refs(State(catalog): Shared, headers: HeaderMap) -> Answer {
    let caller = catalog.who(&headers)?;
    let protected = catalog.protected().await?;
    let may_read = |name: &RefName| caller.may_read(&super::access::Place::Named(name.clone())).is_ok();
    let mut branches = Vec::new();
    for (name, head) in catalog.lake.refs().list().await? {
        if may_read(&name) {
            branches.push(json!({
                "name": name,
                "commit": head.commit,
                "seq": head.seq,
                "op": head.op,
                "writer": head.writer,
                "time_us": head.time_us,
                "protected": protected.fits(&name),
            }));
        }
    }
    let tags = catalog.lake.tags().await?;
    let tags: Vec<Value> = tags
        .into_iter()
        .filter(|tag| may_read(&tag.name))
        .map(|tag| {
            json!({"name": tag.name, "commit": tag.commit, "author": tag.author, "time_us": tag.time_us})
        })
        .collect();
    Ok(answer(&json!({"branches": branches, "tags": tags})))
}

async fn commit(State(catalog): Shared, headers: HeaderMap, at: Result<Query<At>, QueryRejection>) -> Answer {
    let (spec, _) = asked(&catalog, &headers, at).await?;
    let id = catalog.lake.resolve(&spec).await?;
    let commit = catalog.lake.commit_object(&id).await?;
    let value = serde_json::to_value(&commit).map_err(|e| Failure::bad_request(e.to_string()))?;
    Ok(answer(&value))
}

async fn log(State(catalog): Shared, headers: HeaderMap, at: Result<Query<At>, QueryRejection>) -> Answer {
    let (spec, limit) = asked(&catalog, &headers, at).await?;
    let commits = catalog.lake.log(&spec, limit).await?;
    let told: Vec<Value> = commits
        .iter()
        .map(|commit| {
            json!({
                "id": commit.id,
                "parents": commit.parents,
                "kind": commit.kind,
                "author": commit.author,
                "message": commit.message,
                "time_us": commit.time_us,
                "rows": commit.stats.rows,
                "bytes": commit.stats.bytes,
            })
        })
        .collect();
    Ok(answer(&json!({"commits": told})))
}

/// The revision asked for, if the caller may read it, and the limit.
async fn asked(
    catalog: &Catalog,
    headers: &HeaderMap,
    at: Result<Query<At>, QueryRejection>,
) -> Result<(String, usize), Failure> {
    let caller = catalog.who(headers)?;
    let Query(at) = at.map_err(|e| Failure::bad_request(e.body_text()))?;
    let spec = at.at.unwrap_or_else(|| catalog.branch.to_string());
    caller.may_read(&catalog.target(&spec).await?.place())?;
    Ok((spec, at.limit.unwrap_or(LOG_DEFAULT).min(LOG_MAX)))
}
