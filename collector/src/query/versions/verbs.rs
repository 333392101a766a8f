//! The verbs that take back: revert, rollback, reset, release.

use super::super::QueryError;
use super::super::show::Printer;
use super::{Back, branch_name, busy, commits};
use crate::query::confirm::confirm;
use headwater_lake::{
    By, CommitError, CommitId, Committed, Lake, LakeError, Leaving, RefName, RollbackOptions,
};
use serde_json::json;
use std::io::Write;

impl<W: Write> Printer<W> {
    pub(super) async fn revert(
        &mut self,
        lake: &Lake,
        words: &[String],
        on: &str,
        by: &By,
    ) -> Result<(), QueryError> {
        let on = branch_name(on)?;
        for commit in commits(lake, words, true).await? {
            let bar = busy("reverting");
            let done = lake.revert(&on, &commit, by).await;
            bar.finish_and_clear();
            let done = self.or_report(done)?;
            self.did("revert", &on, &commit, done.as_ref(), "nothing of it is left to undo")?;
        }
        Ok(())
    }

    pub(super) async fn rollback(
        &mut self,
        lake: &Lake,
        to: &str,
        on: &str,
        all: bool,
        back: &Back,
        by: &By,
    ) -> Result<(), QueryError> {
        let on = branch_name(on)?;
        let target = lake.resolve(to).await?;
        if all {
            let bar = busy("counting what leaves");
            let leaving = lake.leaving(&on, &target).await?;
            bar.finish_and_clear();
            let told = told(&leaving, &on);
            if back.dry_run {
                let value = json!({"did": "nothing", "branch": on, "to": target, "leaving": leaving});
                return self.told(value, &told);
            }
            confirm(&format!("{told} Go on?"), back.yes)?;
        } else if back.dry_run {
            return self.diff(lake, on.as_str(), Some(target.as_str()), false).await;
        }
        let options = RollbackOptions { all, go_on: back.realign };
        let bar = busy("rolling back");
        let done = lake.rollback(&on, &target, options, by).await;
        bar.finish_and_clear();
        let done = self.or_report(done)?;
        let verb = if all { "reset" } else { "rollback" };
        self.did(verb, &on, &target, done.as_ref(), "all is as it was there")?;
        let held = done.map(|done| done.commit.held).unwrap_or_default();
        for recipe in held.keys().filter(|_| !self.json) {
            writeln!(
                self.out,
                "recipe {recipe} is held: change it, or `headwater release {recipe} --on {on}`"
            )?;
        }
        Ok(())
    }

    pub(super) async fn release(
        &mut self,
        lake: &Lake,
        recipe: &str,
        on: &str,
        by: &By,
    ) -> Result<(), QueryError> {
        let on = branch_name(on)?;
        match lake.release(&on, recipe, by).await? {
            Some(done) => self.told(
                json!({"did": "release", "branch": on, "recipe": recipe, "id": done.id}),
                &format!("recipe {recipe} goes on with {on}"),
            ),
            None => self.told(
                json!({"did": "nothing", "branch": on, "recipe": recipe}),
                &format!("recipe {recipe} is not held on {on}"),
            ),
        }
    }

    pub(super) fn did(
        &mut self,
        verb: &str,
        on: &RefName,
        what: &CommitId,
        done: Option<&Committed>,
        nothing: &str,
    ) -> Result<(), QueryError> {
        match done {
            Some(done) => self.told(
                json!({"did": verb, "branch": on, "of": what, "id": done.id, "rows": done.rows}),
                &format!("{on} is at {}: {}", done.id.short(), done.commit.message),
            ),
            None => self.told(
                json!({"did": "nothing", "branch": on, "of": what}),
                &format!("{on} stays: {} of {}", nothing, what.short()),
            ),
        }
    }

    /// A conflict is told whole where scripts read.
    pub(super) fn or_report<T>(&mut self, answer: Result<T, CommitError>) -> Result<T, QueryError> {
        if let Err(CommitError::Failed { source: LakeError::Conflicts(report), .. }) = &answer
            && self.json
        {
            let value = serde_json::to_value(report).map_err(std::io::Error::from)?;
            writeln!(self.out, "{value}")?;
        }
        Ok(answer?)
    }
}

fn told(leaving: &Leaving, on: &RefName) -> String {
    let tables: Vec<String> = leaving.tables.iter().map(|(table, n)| format!("{n} of {table}")).collect();
    match leaving.samples {
        0 => format!("No captures leave {on}."),
        n => format!(
            "{n} captures leave {on} ({}); they stay known as withdrawn, and cherry-pick brings them back.",
            tables.join(", ")
        ),
    }
}
