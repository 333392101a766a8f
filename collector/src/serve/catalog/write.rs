//! Changes: judged by role and ref, run to their end whatever their client does, and written down.

use super::body;
use super::failure::Failure;
use super::names::{namespace_in_path, new_namespace, new_table, table_in_path};
use super::prefix::Target;
use super::read::answer;
use super::view::namespaces;
use super::{Catalog, NAMESPACES_MAX};
use crate::serve::access::Caller;
use crate::serve::audit::{AuditEntry, AuditResult};
use crate::telemetry;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use headwater_lake::{
    CommitError, CommitId, Committed, ForeignEdit, ForeignError, ForeignRequest, RefName, TableCreate,
};
use serde_json::json;
use std::sync::Arc;

/// Characters kept of what a client calls itself.
const AGENT_CHARS_MAX: usize = 80;

/// Who wants a change, and of what.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) caller: Caller,
    /// What its program calls itself.
    pub(super) agent: String,
    pub(super) prefix: String,
    pub(super) op: &'static str,
}

impl Asked {
    pub(super) fn new(caller: Caller, agent: Option<&str>, prefix: String, op: &'static str) -> Self {
        let agent = agent.unwrap_or("-").chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect();
        Self { caller, agent, prefix, op }
    }
}

impl Catalog {
    /// `POST namespaces/{ns}/tables/{t}`.
    pub(super) async fn commit_table(
        self: &Arc<Self>,
        asked: Asked,
        (namespace, table): (&str, &str),
        bytes: &[u8],
    ) -> Result<Response, Failure> {
        let table = table_in_path(namespace, table)?;
        let edits = body::change(table.clone(), bytes).map(|change| vec![ForeignEdit::Change(change)]);
        let (target, made) = self.change(asked, edits).await?;
        self.table_in(&self.made(target, made), &table).await
    }

    /// `POST transactions/commit`.
    pub(super) async fn commit_transaction(
        self: &Arc<Self>,
        asked: Asked,
        bytes: &[u8],
    ) -> Result<Response, Failure> {
        let edits =
            body::transaction(bytes).map(|changes| changes.into_iter().map(ForeignEdit::Change).collect());
        self.change(asked, edits).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// `POST namespaces/{ns}/tables`; a staged table is made by its client's first commit.
    pub(super) async fn create_table(
        self: &Arc<Self>,
        asked: Asked,
        namespace: &str,
        bytes: &[u8],
    ) -> Result<Response, Failure> {
        let namespace = namespace_in_path(namespace)?;
        match body::create(namespace, bytes) {
            Ok((create, true)) => {
                let tables = vec![create.table().to_string()];
                let outcome = self.stage(&asked, &create).await;
                self.write_down(&asked, tables, brief(&outcome)).await;
                outcome
            }
            Ok((create, false)) => {
                let edit = ForeignEdit::Create(Box::new(create));
                let table = edit.table().clone();
                let (target, made) = self.change(asked, Ok(vec![edit])).await?;
                self.table_in(&self.made(target, made), &table).await
            }
            Err(failure) => {
                self.change(asked, Err(failure)).await.map(|_| StatusCode::NO_CONTENT.into_response())
            }
        }
    }

    async fn stage(&self, asked: &Asked, create: &TableCreate) -> Result<Response, Failure> {
        let branch = self.writable(asked).await?;
        let commit = self.commit_of(&Target::Branch(branch)).await?;
        if commit.is_some_and(|commit| commit.tables.contains_key(create.table())) {
            return Err(ForeignError::TableExists { table: create.table().clone() }.into());
        }
        let document = self.lake.stage_table(create).await?;
        Ok(([(header::CONTENT_TYPE, "application/json")], body::table(&document)).into_response())
    }

    /// `DELETE namespaces/{ns}/tables/{t}`: gone from this branch. Its files go when no commit names them any more, asked
    /// to purge or not: other branches have them too.
    pub(super) async fn drop_table(
        self: &Arc<Self>,
        asked: Asked,
        (namespace, table): (&str, &str),
    ) -> Result<Response, Failure> {
        let table = table_in_path(namespace, table)?;
        self.change(asked, Ok(vec![ForeignEdit::Drop(table)])).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// `POST namespaces`: known until it has a table, or the server ends.
    pub(super) async fn create_namespace(&self, asked: &Asked, bytes: &[u8]) -> Result<Response, Failure> {
        let outcome = self.make_namespace(asked, bytes).await;
        self.write_down(asked, Vec::new(), brief(&outcome)).await;
        outcome
    }

    async fn make_namespace(&self, asked: &Asked, bytes: &[u8]) -> Result<Response, Failure> {
        let branch = self.writable(asked).await?;
        let namespace = new_namespace(&body::namespace(bytes)?)?;
        let target = Target::Branch(branch.clone());
        let has = namespaces(self.commit_of(&target).await?.as_deref()).contains(&namespace);
        if has || self.empty_namespaces(&branch).contains(&namespace) {
            let text = format!("{target} has namespace {namespace}");
            return Err(Failure::new(StatusCode::CONFLICT, "AlreadyExistsException", text));
        }
        if !self.add_namespace(&branch, &namespace) {
            let text =
                format!("{NAMESPACES_MAX} empty namespaces are remembered; make tables in them or drop some");
            return Err(Failure::unavailable(text));
        }
        Ok(answer(&json!({"namespace": [namespace], "properties": {}})))
    }

    /// `DELETE namespaces/{ns}`: only an empty one.
    pub(super) async fn drop_namespace(&self, asked: &Asked, namespace: &str) -> Result<Response, Failure> {
        let outcome = self.remove_namespace(asked, namespace).await;
        self.write_down(asked, Vec::new(), brief(&outcome)).await;
        outcome
    }

    async fn remove_namespace(&self, asked: &Asked, namespace: &str) -> Result<Response, Failure> {
        let branch = self.writable(asked).await?;
        let namespace = namespace_in_path(namespace)?;
        let target = Target::Branch(branch.clone());
        if namespaces(self.commit_of(&target).await?.as_deref()).contains(namespace) {
            let text = format!("namespace {namespace} has tables; drop them first");
            return Err(Failure::new(StatusCode::CONFLICT, "NamespaceNotEmptyException", text));
        }
        if !self.empty_namespaces(&branch).iter().any(|known| known == namespace) {
            return Err(Failure::no_namespace(format!("{target} has no namespace {namespace}")));
        }
        self.forget_namespace(&branch, namespace);
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// `POST tables/rename`.
    pub(super) async fn rename(self: &Arc<Self>, asked: Asked) -> Result<Response, Failure> {
        let text = "tables of a lake keep their names: devices and other branches write them by it. Make a new table from the \
                    old one (CREATE TABLE … AS SELECT) and drop the old one";
        self.change(asked, Err(Failure::unsupported(text)))
            .await
            .map(|_| StatusCode::NO_CONTENT.into_response())
    }

    /// The branch, if this caller may write it: by its role, by the configuration, and by what the lake protects.
    async fn writable(&self, asked: &Asked) -> Result<RefName, Failure> {
        match self.readable(&asked.caller, &asked.prefix)? {
            Target::Branch(name) => {
                asked.caller.may_write(&name, &self.protected().await?)?;
                Ok(name)
            }
            fixed => {
                let from = match &fixed {
                    Target::Commit(id) => id.short().to_owned(),
                    Target::Branch(name) | Target::Tag(name) => name.to_string(),
                };
                Err(Failure::forbidden(format!(
                    "{fixed} never changes. Make a branch of it and write there: `headwater branch exp/my-change {from}`"
                )))
            }
        }
    }

    /// The state a change made: later ones of others are not in the answer to it.
    fn made(&self, target: Target, made: Option<Committed>) -> Target {
        let Some(made) = made else { return target };
        self.keep_commit(Arc::new(made.commit));
        Target::Commit(made.id)
    }

    /// Makes a change, or refuses it, and writes down which. A body that cannot be read is a refused change, too.
    pub(super) async fn change(
        self: &Arc<Self>,
        asked: Asked,
        edits: Result<Vec<ForeignEdit>, Failure>,
    ) -> Result<(Target, Option<Committed>), Failure> {
        // The catalog goes on with it when its client has hung up: else a commit could be left half known.
        let (catalog, running) = (Arc::clone(self), asked.clone());
        let change = self.tasks.spawn(async move { catalog.run(running, edits).await });
        match change.await {
            Ok(outcome) => outcome,
            Err(_) => {
                let text = "the change broke down; look at the table again before anything is retried";
                let failure = Failure::unknown(text);
                self.write_down(&asked, Vec::new(), Err(failure.clone())).await;
                Err(failure)
            }
        }
    }

    async fn run(
        &self,
        asked: Asked,
        edits: Result<Vec<ForeignEdit>, Failure>,
    ) -> Result<(Target, Option<Committed>), Failure> {
        let tables: Vec<String> = edits.iter().flatten().map(|edit| edit.table().to_string()).collect();
        let branch = self.writable(&asked).await;
        let outcome = match (branch, edits) {
            (Ok(branch), Ok(edits)) => {
                self.make(&asked, &branch, edits).await.map(|made| (Target::Branch(branch), made))
            }
            (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
        };
        let made = outcome.as_ref().map(|(_, made)| made.as_ref().map(|made| made.id.clone()));
        self.write_down(&asked, tables, made.map_err(Failure::clone)).await;
        outcome
    }

    async fn make(
        &self,
        asked: &Asked,
        branch: &RefName,
        edits: Vec<ForeignEdit>,
    ) -> Result<Option<Committed>, Failure> {
        let Ok(_slot) = self.changes.try_acquire() else {
            telemetry::catalog_busy();
            return Err(Failure::unavailable("too many changes are under way; try again in a moment"));
        };
        if let Err(error) = self.audit_ready().await {
            telemetry::catalog_audit_failed(&error);
            let text =
                format!("the audit log cannot be written ({error}), so nothing is changed; see http.audit");
            return Err(Failure::unavailable(text));
        }
        let request = ForeignRequest {
            author: format!("rest/{}", asked.caller.name),
            message: body::message(&edits),
            edits,
            time_us: (self.now)(),
        };
        let writer = self.writers.of(&self.lake, branch);
        let mut writer = writer.lock().await;
        // What an earlier change left open is settled first; this one has not been sent then.
        if let Err(error) = writer.settle().await {
            return Err(Failure::unavailable(format!(
                "an earlier change of {branch} is not settled yet: {error}"
            )));
        }
        let made = match writer.apply(&request).await {
            Ok(made) => made,
            // One more try before the client is told that nobody knows.
            Err(CommitError::Unknown { name, seq }) => match writer.settle().await {
                Ok(Some(settled)) => Some(settled),
                Ok(None) => {
                    let text = format!("another change of {name} came first; load the table again and retry");
                    return Err(Failure::new(StatusCode::CONFLICT, "CommitFailedException", text));
                }
                Err(_) => return Err(CommitError::Unknown { name, seq }.into()),
            },
            Err(error) => return Err(error.into()),
        };
        for edit in &request.edits {
            let namespace = edit.table().namespace();
            match edit {
                // It may have been the last one, and its namespace is still there for whoever dropped it.
                ForeignEdit::Drop(_) => _ = self.add_namespace(branch, namespace),
                _ => self.forget_namespace(branch, namespace),
            }
        }
        Ok(made)
    }

    /// Writes down what became of a change.
    pub(super) async fn write_down(
        &self,
        asked: &Asked,
        tables: Vec<String>,
        outcome: Result<Option<CommitId>, Failure>,
    ) {
        let (result, status) = match &outcome {
            Ok(Some(_)) => (AuditResult::Committed, StatusCode::OK),
            Ok(None) => (AuditResult::Unchanged, StatusCode::OK),
            Err(failure) if failure.kind == "CommitStateUnknownException" => {
                (AuditResult::Unknown, failure.status)
            }
            Err(failure) if failure.status.is_server_error() => (AuditResult::Failed, failure.status),
            Err(failure) => (AuditResult::Refused, failure.status),
        };
        let target = Target::parse(&asked.prefix);
        let named = target.map_or_else(
            || asked.prefix.clone(),
            |target| match target {
                Target::Branch(name) | Target::Tag(name) => name.to_string(),
                Target::Commit(id) => id.to_string(),
            },
        );
        let entry = AuditEntry {
            time_us: (self.now)(),
            who: asked.caller.name.clone(),
            agent: asked.agent.clone(),
            op: asked.op.to_owned(),
            r#ref: named,
            tables,
            result,
            status: status.as_u16(),
            commit: outcome.as_ref().ok().and_then(|made| made.as_ref()).map(ToString::to_string),
            error: outcome.err().map(|failure| failure.message),
        };
        telemetry::catalog_change(asked.op, result.as_str());
        let audit = Arc::clone(&self.audit);
        let written = tokio::task::spawn_blocking(move || audit.append(&entry)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => telemetry::catalog_audit_failed(&error),
            Err(error) => telemetry::catalog_audit_failed(&std::io::Error::other(error)),
        }
    }

    async fn audit_ready(&self) -> std::io::Result<()> {
        let audit = Arc::clone(&self.audit);
        tokio::task::spawn_blocking(move || audit.ready()).await.map_err(std::io::Error::other)?
    }
}

/// What is written down of a change that makes no commit.
fn brief(outcome: &Result<Response, Failure>) -> Result<Option<CommitId>, Failure> {
    outcome.as_ref().map(|_| None).map_err(Failure::clone)
}

/// A change that is refused without looking at a table: an endpoint that would change one and is not had.
pub(super) fn no_register() -> Failure {
    Failure::forbidden(
        "a lake's tables lie in its own folders, so a metadata file from elsewhere cannot be registered; copy the rows \
         (CREATE TABLE … AS SELECT)",
    )
}

/// A view to be made.
pub(super) fn no_views(namespace: &str, name: &str) -> Result<Failure, Failure> {
    new_table(namespace, name)?;
    Ok(Failure::unsupported(
        "this catalog has no views; save the query, or make a table of it (CREATE TABLE … AS SELECT)",
    ))
}
