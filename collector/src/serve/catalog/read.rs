//! Reading: which refs, namespaces and tables there are, and where a table's files lie.

use super::failure::Failure;
use super::names::{identifier, namespace_in_path, table_in_path};
use super::prefix::Target;
use super::view::{entry, namespaces};
use super::{Catalog, body};
use crate::serve::access::Caller;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What this catalog answers, as clients want it listed.
const ENDPOINTS: [&str; 16] = [
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
    "GET /v1/{prefix}/namespaces/{namespace}/views",
    "HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}",
];

/// JSON as a response.
pub(in crate::serve) fn answer(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

impl Catalog {
    /// The target of a prefix, if the caller may read there.
    pub(super) fn readable(&self, caller: &Caller, prefix: &str) -> Result<Target, Failure> {
        let target = Target::parse(prefix).ok_or_else(|| {
            Failure::no_warehouse(format!(
                "{prefix:?} is no prefix of this catalog: ask GET /v1/config?warehouse=<ref> first, as every client does"
            ))
        })?;
        caller.may_read(&target.place())?;
        Ok(target)
    }

    pub(super) async fn config(&self, caller: &Caller, warehouse: &str) -> Result<Response, Failure> {
        let target = self.target(warehouse).await?;
        // A commit is pinned by way of a ref, which the caller must be for as well.
        caller.may_read(&target.place())?;
        Ok(answer(&json!({
            "defaults": {},
            "overrides": {"prefix": target.prefix()},
            "endpoints": ENDPOINTS,
        })))
    }

    pub(super) async fn list_namespaces(
        &self,
        caller: &Caller,
        prefix: &str,
        parent: Option<&str>,
    ) -> Result<Response, Failure> {
        let target = self.readable(caller, prefix)?;
        let all = self.all_namespaces(&target).await?;
        let listed: Vec<Value> = match parent.filter(|parent| !parent.is_empty()) {
            None => all.into_iter().map(|name| json!([name])).collect(),
            Some(parent) if all.contains(parent) => Vec::new(),
            Some(parent) => return Err(Failure::no_namespace(format!("{target} has no namespace {parent}"))),
        };
        Ok(answer(&json!({"namespaces": listed})))
    }

    async fn all_namespaces(&self, target: &Target) -> Result<BTreeSet<String>, Failure> {
        let mut all = namespaces(self.commit_of(target).await?.as_deref());
        if let Target::Branch(name) = target {
            all.extend(self.empty_namespaces(name));
        }
        Ok(all)
    }

    async fn need_namespace(&self, target: &Target, namespace: &str) -> Result<(), Failure> {
        let namespace = namespace_in_path(namespace)?;
        let all = self.all_namespaces(target).await?;
        if all.contains(namespace) {
            return Ok(());
        }
        let known: Vec<String> = all.into_iter().collect();
        Err(Failure::no_namespace(format!(
            "{target} has no namespace {namespace}; it has: {}",
            known.join(", ")
        )))
    }

    pub(super) async fn namespace(
        &self,
        caller: &Caller,
        prefix: &str,
        namespace: &str,
        head: bool,
    ) -> Result<Response, Failure> {
        let target = self.readable(caller, prefix)?;
        self.need_namespace(&target, namespace).await?;
        match head {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Ok(answer(&json!({"namespace": [namespace], "properties": {}}))),
        }
    }

    pub(super) async fn list_tables(
        &self,
        caller: &Caller,
        prefix: &str,
        namespace: &str,
    ) -> Result<Response, Failure> {
        let target = self.readable(caller, prefix)?;
        self.need_namespace(&target, namespace).await?;
        let commit = self.commit_of(&target).await?;
        let tables = commit.iter().flat_map(|commit| commit.tables.keys());
        let listed: Vec<Value> =
            tables.filter(|table| table.namespace() == namespace).map(identifier).collect();
        Ok(answer(&json!({"identifiers": listed})))
    }

    /// No lake has views; every namespace has none.
    pub(super) async fn list_views(
        &self,
        caller: &Caller,
        prefix: &str,
        namespace: &str,
    ) -> Result<Response, Failure> {
        let target = self.readable(caller, prefix)?;
        self.need_namespace(&target, namespace).await?;
        Ok(answer(&json!({"identifiers": []})))
    }

    pub(super) async fn table(
        &self,
        caller: &Caller,
        prefix: &str,
        (namespace, table): (&str, &str),
        headers: Option<&HeaderMap>,
    ) -> Result<Response, Failure> {
        let target = self.readable(caller, prefix)?;
        let table = table_in_path(namespace, table)?;
        let commit = self.commit_of(&target).await?;
        let entry = entry(commit.as_deref(), &table, &target)?;
        let Some(headers) = headers else { return Ok(StatusCode::NO_CONTENT.into_response()) };
        // A location never changes its content, so it tells the client's copy from a newer one.
        let tag = etag(&entry.metadata_location);
        if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
        }
        let document = self.document(entry).await?;
        let kind = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::ETAG, tag)];
        Ok((kind, body::table(&document)).into_response())
    }

    /// The answer to a commit of one table: its state in that commit.
    pub(super) async fn table_in(
        self: &Arc<Self>,
        target: &Target,
        table: &headwater_lake::TableName,
    ) -> Result<Response, Failure> {
        let commit = self.commit_of(target).await?;
        let entry = entry(commit.as_deref(), table, target)?;
        let document = self.document(entry).await?;
        Ok(([(header::CONTENT_TYPE, "application/json")], body::table(&document)).into_response())
    }
}

fn etag(location: &str) -> String {
    let file = location.rsplit('/').next().unwrap_or(location);
    format!("\"{}\"", file.trim_end_matches(".metadata.json"))
}
