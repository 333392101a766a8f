//! Branches, tags and the log of a ref's moves.

use super::super::QueryError;
use super::super::show::{Printer, object, time};
use super::{author, branch_name, now_us};
use crate::query::confirm::confirm;
use headwater_lake::{Head, Lake, LakeError, PublishError, RefName, RefOp};
use serde_json::{Value, json};
use std::io::Write;

impl<W: Write> Printer<W> {
    pub(super) async fn branches(&mut self, lake: &Lake) -> Result<(), QueryError> {
        let protection = lake.protection().await?;
        let row = |(name, head): &(RefName, Head)| {
            let mut row = row(name, head);
            let protected = protection.patterns.fits(name);
            let shown = if self.json { json!(protected) } else { json!(if protected { "yes" } else { "" }) };
            row.insert("protected".to_owned(), shown);
            row
        };
        let rows: Vec<_> = lake.branches().await?.iter().map(row).collect();
        let columns = ["branch", "commit", "time", "by", "did", "protected", "reason"];
        self.list(&columns, &rows, "no branches yet")
    }

    pub(super) async fn make_branch(&mut self, lake: &Lake, name: &str, at: &str) -> Result<(), QueryError> {
        let name = branch_name(name)?;
        let commit = lake.resolve(at).await?;
        match lake.branch(&name, &commit, &author(), now_us()).await {
            Ok(head) => self.told(
                json!({"branch": name, "commit": commit, "seq": head.seq}),
                &format!("branch {name} is at {}", commit.short()),
            ),
            Err(PublishError::Conflict(head)) => Err(QueryError::BranchExists {
                name: name.to_string(),
                at: head.commit.map(|id| id.short().to_owned()).unwrap_or_default(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn delete_branch(
        &mut self,
        lake: &Lake,
        name: &str,
        yes: bool,
    ) -> Result<(), QueryError> {
        let name = branch_name(name)?;
        let head = lake.head(&name).await?.and_then(|head| head.commit);
        let unknown = || LakeError::UnknownRevision { spec: name.to_string() };
        let commit = head.ok_or_else(unknown)?;
        let question = format!(
            "Delete branch {name}? What only it reaches, from {} on, may be collected later.",
            commit.short()
        );
        confirm(&question, yes)?;
        lake.delete_branch(&name, &author(), now_us(), "deleted by hand").await?;
        self.told(
            json!({"deleted": name, "commit": commit}),
            &format!(
                "branch {name} is deleted; it was at {commit}: `headwater branch {name} {}` brings it back",
                commit.short()
            ),
        )
    }

    pub(super) async fn tags(&mut self, lake: &Lake) -> Result<(), QueryError> {
        let row = |tag: &headwater_lake::Tag| {
            object(json!({
                "tag": tag.name,
                "commit": tag.commit.short(),
                "id": tag.commit,
                "time": time(tag.time_us),
                "by": tag.author,
            }))
        };
        let rows: Vec<_> = lake.tags().await?.iter().map(row).collect();
        self.list(&["tag", "commit", "time", "by"], &rows, "no tags yet")
    }

    pub(super) async fn make_tag(&mut self, lake: &Lake, name: &str, at: &str) -> Result<(), QueryError> {
        let name = branch_name(name)?;
        let commit = lake.resolve(at).await?;
        lake.tag(&name, &commit, &author(), now_us()).await?;
        self.told(
            json!({"tag": name, "commit": commit}),
            &format!("tag {name} names {} for ever", commit.short()),
        )
    }

    pub(super) async fn reflog(&mut self, lake: &Lake, name: &str, limit: usize) -> Result<(), QueryError> {
        let name = branch_name(name)?;
        let moves = lake.reflog(&name, limit).await?;
        if moves.is_empty() {
            return Err(LakeError::UnknownRevision { spec: name.to_string() }.into());
        }
        let rows: Vec<_> = moves.iter().map(|head| row(&name, head)).collect();
        self.list(&["seq", "commit", "time", "by", "did", "reason"], &rows, "no moves")
    }

    /// One line for people, or one JSON document.
    pub(super) fn told(&mut self, value: Value, text: &str) -> Result<(), QueryError> {
        match self.json {
            true => writeln!(self.out, "{value}")?,
            false => writeln!(self.out, "{text}")?,
        }
        Ok(())
    }
}

fn row(name: &RefName, head: &Head) -> serde_json::Map<String, Value> {
    let did = match head.op {
        RefOp::Commit => "commit",
        RefOp::Create => "create",
        RefOp::Ff => "fast-forward",
        RefOp::Rollback => "rollback",
        RefOp::Reset => "reset",
        RefOp::Delete => "delete",
        _ => "move",
    };
    object(json!({
        "branch": name,
        "seq": head.seq,
        "commit": head.commit.as_ref().map(headwater_lake::CommitId::short),
        "id": head.commit,
        "from": head.prev_commit,
        "time": time(head.time_us),
        "by": head.writer,
        "did": did,
        "reason": head.reason,
    }))
}
