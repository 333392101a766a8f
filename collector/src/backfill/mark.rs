//! How far a backfill got, as its commits say it in their lineage: what a killed run leaves for the next.

use super::{BackfillError, tells_nothing};
use headwater_core::id::Sha256;
use headwater_lake::{CommitId, CommitKind, CommitObject, Lake};

/// The first word of the input that tells it.
const WORD: &str = "backfill";

/// So many of a backfill's units are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// Names recipe, source and span, and how history is cut into units.
    job: String,
    /// The commit whose raw tables are aligned.
    pub(super) source: CommitId,
    /// Units done, the first in the order of the plan.
    pub(super) done: usize,
    /// Of how many.
    of: usize,
}

impl Mark {
    /// Of a recipe over a span of UTC, µs.
    pub(super) fn new(
        (recipe_id, span, unit_rows): (&str, (i64, i64), u64),
        source: CommitId,
        (done, of): (usize, usize),
    ) -> Self {
        Self { job: job(recipe_id, &source, span, unit_rows), source, done, of }
    }

    /// True if it is about the same recipe and span, cut alike.
    pub(super) fn is_of(&self, recipe_id: &str, span: (i64, i64), unit_rows: u64) -> bool {
        self.job == job(recipe_id, &self.source, span, unit_rows)
    }

    /// As a commit's lineage says it.
    pub(super) fn to_input(&self) -> String {
        format!("{WORD} {} of {}: {}/{} units", self.job, self.source, self.done, self.of)
    }

    fn parse(input: &str) -> Option<Self> {
        let (job, rest) = input.strip_prefix(WORD)?.trim_start().split_once(" of ")?;
        let (source, rest) = rest.split_once(": ")?;
        let (done, of) = rest.strip_suffix(" units")?.split_once('/')?;
        let (done, of) = (done.parse().ok()?, of.parse().ok()?);
        Some(Self { job: job.to_owned(), source: CommitId::new(source).ok()?, done, of })
    }

    /// The newest of a branch; none where other rows came after it, for then more is to be aligned.
    pub(super) async fn newest(
        lake: &Lake,
        tip: &CommitObject,
        look_back: usize,
    ) -> Result<Option<Self>, BackfillError> {
        let mut commit = tip.clone();
        for _ in 0..look_back {
            if commit.kind == CommitKind::Align {
                return Ok(commit.lineage.inputs.iter().find_map(|input| Self::parse(input)));
            }
            let Some(parent) = commit.parents.first().filter(|_| tells_nothing(commit.kind)) else {
                return Ok(None);
            };
            commit = match lake.commit_object(parent).await {
                Ok(parent) => parent,
                Err(headwater_lake::LakeError::UnknownRevision { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(None)
    }
}

/// The version says how history is cut: a build that cuts otherwise begins anew.
fn job(recipe_id: &str, source: &CommitId, (from, to): (i64, i64), unit_rows: u64) -> String {
    let all = format!("headwater.backfill.v1\n{recipe_id}\n{source}\n{from}\n{to}\n{unit_rows}");
    Sha256::of(all.as_bytes()).to_string().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_is_of_one_recipe_and_span() {
        let source = CommitId::new("ab".repeat(32)).unwrap();
        let mark = Mark::new(("r", (1, 2), 5), source, (3, 7));
        let text = mark.to_input();
        assert!(text.ends_with(": 3/7 units"), "{text}");
        assert_eq!(Mark::parse(&text), Some(mark.clone()));
        assert!(mark.is_of("r", (1, 2), 5) && !mark.is_of("s", (1, 2), 5) && !mark.is_of("r", (1, 3), 5));
        assert!(!mark.is_of("r", (1, 2), 6));
        for odd in ["", "commit abc", "backfill x of y: 1/2 units", &text.replace("/7", "")] {
            assert_eq!(Mark::parse(odd), None, "{odd}");
        }
    }
}
