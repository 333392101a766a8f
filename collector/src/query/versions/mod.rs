//! Versions on the command line, with git's habits and words: log, diff, branches, tags, and the verbs that join lines of
//! history, undo commits and set branches back.

mod diff;
mod graph;
mod join;
mod log;
mod protect;
mod refs;
mod verbs;

use super::QueryError;
use super::show::Printer;
use clap::{Args, Subcommand};
use headwater_lake::{
    By, CommitId, Lake, LakeError, RefName, RefPattern, Strategies, Strategy, TableName, Warrant,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use join::To;

/// Words of versions.
#[derive(Debug, Subcommand)]
pub(super) enum VersionsVerb {
    /// Commits of a branch over all parents, newest first.
    ///
    /// What machines commit by themselves (captures, compactions, aligned rows, corrected times) is told in one line per
    /// hour; what people did is told each by itself.
    #[command(
        after_help = "Examples:\n  headwater log\n  headwater log exp --all --limit 100\n  headwater log main --json | jq '.[] | select(.kind == \"merge\")'"
    )]
    Log {
        /// Branch, tag or commit to start from.
        #[arg(default_value = "main")]
        at: String,
        /// At most this many lines; folded, at most ten times as many commits are looked at.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Each commit by itself.
        #[arg(long)]
        all: bool,
    },
    /// What two commits differ in: tables, rows, files and columns.
    #[command(
        after_help = "Examples:\n  headwater diff main~1            # from there to main\n  headwater diff main exp\n  headwater diff main..exp --files\n  headwater diff v1 main --json | jq '.tables[].rows_added'"
    )]
    Diff {
        /// From where, or a range `A..B`.
        from: String,
        /// To where.
        to: Option<String>,
        /// Lists the files, too.
        #[arg(long)]
        files: bool,
    },
    /// Lists branches, makes one, deletes one, or protects some. Nothing is copied.
    ///
    /// A protected branch is moved by ingest, by upkeep, and by merges and cherry-picks that pass the gate; every other verb
    /// is refused with exit code 5. What is protected is stored in the lake, so every client obeys it.
    #[command(
        after_help = "Examples:\n  headwater branch                 # lists them\n  headwater branch exp             # at main\n  headwater branch fix main~3\n  headwater branch -d exp\n  headwater branch --protect main --protect 'release/*' -m 'what models are trained on'\n  headwater branch --unprotect 'release/*'\n  headwater branch --protected     # lists what is, since when and by whom"
    )]
    Branch {
        /// The branch to make or delete; left out: lists them.
        name: Option<String>,
        /// Where it shall be: branch, tag or commit.
        #[arg(default_value = "main")]
        at: String,
        /// Deletes it. Its log stays, and a branch made under its name goes on with it.
        #[arg(short, long, requires = "name")]
        delete: bool,
        /// Protects branches of this name, * for anything; may be repeated.
        #[arg(long, value_name = "BRANCH", conflicts_with = "name")]
        protect: Vec<RefPattern>,
        /// Takes a protection away, written as it was made; may be repeated.
        #[arg(long, value_name = "BRANCH", conflicts_with = "name")]
        unprotect: Vec<RefPattern>,
        /// Lists what is protected.
        #[arg(long, conflicts_with_all = ["name", "protect", "unprotect"])]
        protected: bool,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        over: Over,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Lists tags, or makes one. A tag names one commit for ever and keeps it and all it holds.
    #[command(
        after_help = "Examples:\n  headwater tag                    # lists them\n  headwater tag train-2026-11 main@4f1e22c0"
    )]
    Tag {
        /// The tag to make; left out: lists them.
        name: Option<String>,
        /// What it names: branch, tag or commit.
        #[arg(default_value = "main")]
        at: String,
    },
    /// Merges a branch or commit into a branch.
    ///
    /// What one side changed is taken as it is. Tables that both sides changed are joined file by file, captures once
    /// each by their key. Where that cannot be, nothing is changed, the tables and reasons are told, and the exit code is 3.
    /// Into a protected branch only what the gate passes comes: aligned rows are judged first, and what fails is held as
    /// quarantine/<id> with exit code 6 (headwater gate show, waive).
    #[command(
        after_help = "Examples:\n  headwater merge exp                          # into main\n  headwater merge main --on exp                # brings exp up to date\n  headwater merge exp --strategy aligned.drive=theirs -m 'new alignment'"
    )]
    Merge {
        /// What to merge: branch, tag or commit.
        from: String,
        #[command(flatten)]
        on: On,
        /// Makes a commit also where the branch could just move on.
        #[arg(long, conflicts_with = "ff_only")]
        no_ff: bool,
        /// Only moves the branch on; otherwise does nothing and fails.
        #[arg(long)]
        ff_only: bool,
        /// Whose table is taken where both cannot be: `ours`, `theirs`, or for one table `TABLE=ours`.
        #[arg(long, value_name = "[TABLE=]WHOSE")]
        strategy: Vec<String>,
        #[command(flatten)]
        gate: Gated,
        #[command(flatten)]
        why: Why,
    },
    /// Undoes commits, each by a new commit. Captures that leave are noted as withdrawn.
    #[command(
        after_help = "Examples:\n  headwater revert 4f1e22c0\n  headwater revert main~2 --on exp -m 'wrong clock'"
    )]
    Revert {
        /// Commits to undo, in this order, or a range `A..B` (newest first).
        #[arg(required = true, value_name = "COMMIT")]
        commits: Vec<String>,
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        over: Over,
    },
    /// Does on a branch what commits did elsewhere, each by a new commit; brings back captures that a reset took.
    #[command(
        after_help = "Examples:\n  headwater cherry-pick exp~1\n  headwater cherry-pick main@4f1e22c0..main@91ab03de"
    )]
    CherryPick {
        /// Commits to pick, in this order, or a range `A..B` (oldest first).
        #[arg(required = true, value_name = "COMMIT")]
        commits: Vec<String>,
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        gate: Gated,
        #[command(flatten)]
        why: Why,
    },
    /// Sets aligned tables back to an older commit, by a new commit. Captures stay.
    ///
    /// The recipes concerned are held until `headwater release`, or until they are changed. With --all captures go back
    /// too; they are counted and asked for first, noted as withdrawn, and cherry-pick brings them back.
    #[command(
        after_help = "Examples:\n  headwater rollback main~3\n  headwater rollback v1 --on exp --realign\n  headwater rollback main~3 --all --dry-run"
    )]
    Rollback {
        /// An older commit of the branch.
        to: String,
        /// Captures go back, too.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        back: Back,
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        over: Over,
    },
    /// Sets all tables back to an older commit, captures too: `rollback --all`.
    #[command(after_help = "Examples:\n  headwater reset main~3 --dry-run\n  headwater reset main~3 --yes")]
    Reset {
        /// An older commit of the branch.
        to: String,
        #[command(flatten)]
        back: Back,
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        over: Over,
    },
    /// Lets a recipe go on that a rollback or revert holds.
    #[command(after_help = "Examples:\n  headwater release drive")]
    Release {
        /// The recipe.
        recipe: String,
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        over: Over,
    },
    /// Every move a branch ever made, newest first.
    #[command(after_help = "Examples:\n  headwater reflog\n  headwater reflog exp --limit 5 --json")]
    Reflog {
        /// The branch, deleted or not.
        #[arg(default_value = "main")]
        name: String,
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
}

/// The branch a verb moves.
#[derive(Debug, Args)]
pub(super) struct On {
    /// The branch that is moved.
    #[arg(long, aliases = ["into", "branch"], default_value = "main", value_name = "BRANCH")]
    pub(super) on: String,
}

/// How the gate before a protected branch judges.
#[derive(Debug, Args)]
pub(super) struct Gated {
    /// The collector's configuration: limits and hooks of the gate. Left out: the limits stored in the lake.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Whether protection counts.
#[derive(Debug, Args)]
pub(super) struct Over {
    /// Moves the branch though it is protected; its log tells so.
    #[arg(long = "override")]
    over: bool,
}

impl Over {
    fn of(&self, lake: &Lake) -> Lake {
        lake.acting(if self.over { Warrant::Override } else { Warrant::Own })
    }
}

/// What a commit says of itself.
#[derive(Debug, Args)]
pub(super) struct Why {
    /// Why, for people.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

/// How to go back.
#[derive(Debug, Args)]
pub(super) struct Back {
    /// Recipes fill what went back at once, instead of being held.
    #[arg(long)]
    realign: bool,
    /// Only says what would leave.
    #[arg(long)]
    dry_run: bool,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

impl Why {
    fn by(&self) -> By {
        By { author: author(), message: self.message.clone(), time_us: now_us() }
    }
}

/// Who does it: `$HEADWATER_AUTHOR`, else the user's name.
pub(super) fn author() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    ["HEADWATER_AUTHOR", "USER", "LOGNAME"]
        .into_iter()
        .find_map(named)
        .unwrap_or_else(|| "somebody".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "a command for people acts in the present")]
fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn branch_name(name: &str) -> Result<RefName, QueryError> {
    Ok(RefName::new(name).map_err(LakeError::from)?)
}

fn strategies(given: &[String]) -> Result<Strategies, QueryError> {
    let mut out = Strategies::default();
    for word in given {
        let (table, whose) = word.split_once('=').map_or((None, word.as_str()), |(t, w)| (Some(t), w));
        let whose = match whose {
            "ours" => Strategy::Ours,
            "theirs" => Strategy::Theirs,
            _ => return Err(QueryError::Strategy(word.clone())),
        };
        match table {
            None => out.all = Some(whose),
            Some(table) => {
                let name = TableName::new(table).map_err(|_| QueryError::TableName(table.to_owned()))?;
                out.tables.insert(name, whose);
            }
        }
    }
    Ok(out)
}

/// Shows that something is being done, on terminals only.
fn busy(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Commits that words name: each by itself, or of a range `A..B` those of B's first parents that came after A.
async fn commits(lake: &Lake, words: &[String], newest_first: bool) -> Result<Vec<CommitId>, QueryError> {
    let mut out = Vec::new();
    for word in words {
        let Some((from, to)) = word.split_once("..") else {
            out.push(lake.resolve(word).await?);
            continue;
        };
        let from = lake.resolve(from).await?;
        let mut next = Some(lake.resolve(to).await?);
        let mut range = Vec::new();
        while let Some(id) = next.filter(|id| id != &from) {
            next = lake.commit_object(&id).await?.parents.first().cloned();
            range.push(id);
            if next.is_none() {
                return Err(QueryError::Range(word.clone()));
            }
        }
        if !newest_first {
            range.reverse();
        }
        out.extend(range);
    }
    Ok(out)
}

impl<W: Write> Printer<W> {
    /// Answers a word of versions.
    pub(super) async fn versions(&mut self, lake: &Lake, verb: VersionsVerb) -> Result<(), QueryError> {
        match verb {
            VersionsVerb::Log { at, limit, all } => self.history(lake, &at, limit, all).await,
            VersionsVerb::Diff { from, to, files } => self.diff(lake, &from, to.as_deref(), files).await,
            VersionsVerb::Branch { protected: true, .. } => self.protected(lake).await,
            VersionsVerb::Branch { name: Some(name), delete: true, yes, over, .. } => {
                self.delete_branch(&over.of(lake), &name, yes).await
            }
            VersionsVerb::Branch { name: Some(name), at, over, .. } => {
                self.make_branch(&over.of(lake), &name, &at).await
            }
            VersionsVerb::Branch { protect, unprotect, why, .. }
                if !(protect.is_empty() && unprotect.is_empty()) =>
            {
                self.protect(lake, protect, unprotect, &why.by()).await
            }
            VersionsVerb::Branch { .. } => self.branches(lake).await,
            VersionsVerb::Tag { name: None, .. } => self.tags(lake).await,
            VersionsVerb::Tag { name: Some(name), at } => self.make_tag(lake, &name, &at).await,
            VersionsVerb::Merge { from, on, no_ff, ff_only, strategy, gate, why } => {
                let strategies = strategies(&strategy)?;
                let options = headwater_lake::MergeOptions { strategies, no_ff, ff_only };
                let to = To { lake, branch: branch_name(&on.on)?, config: gate.config, by: why.by() };
                self.merge(&to, &from, &options).await
            }
            VersionsVerb::Revert { commits, on, why, over } => {
                self.revert(&over.of(lake), &commits, &on.on, &why.by()).await
            }
            VersionsVerb::CherryPick { commits, on, gate, why } => {
                let to = To { lake, branch: branch_name(&on.on)?, config: gate.config, by: why.by() };
                self.cherry_pick(&to, &commits).await
            }
            VersionsVerb::Rollback { to, all, back, on, why, over } => {
                self.rollback(&over.of(lake), &to, &on.on, all, &back, &why.by()).await
            }
            VersionsVerb::Reset { to, back, on, why, over } => {
                self.rollback(&over.of(lake), &to, &on.on, true, &back, &why.by()).await
            }
            VersionsVerb::Release { recipe, on, why, over } => {
                self.release(&over.of(lake), &recipe, &on.on, &why.by()).await
            }
            VersionsVerb::Reflog { name, limit } => self.reflog(lake, &name, limit).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_for_all_tables_or_for_one() {
        let words = ["theirs", "raw.imu=ours"].map(str::to_owned);
        let found = strategies(&words).unwrap();
        assert_eq!(found.of(&TableName::new("raw.imu").unwrap()), Some(Strategy::Ours));
        assert_eq!(found.of(&TableName::new("aligned.drive").unwrap()), Some(Strategy::Theirs));
        for wrong in ["mine", "raw=ours", "raw.imu=", "=ours"] {
            assert!(strategies(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
