//! Starts measuring children, waits for their line within a bound, and kills those that are to be killed.

use super::child::WORD;
use super::task::{Job, Report, StoreKind, Task};
use anyhow::{Context, Result, bail};
use headwater_tests::ticks::wait_until;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longest that a rival may take for one case: a run stays within half an hour.
const RIVAL_SECONDS_MAX: u64 = 300;
/// Longest for the spool itself: a tired card writes 10 GB in this time.
const OURS_SECONDS_MAX: u64 = 3_600;

/// What became of a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Done(Box<Report>),
    /// Took longer than this many seconds.
    Skipped(u64),
    /// Could not do it; what it said last.
    Failed(String),
}

impl Outcome {
    pub(super) fn report(&self) -> Option<&Report> {
        if let Self::Done(report) = self { Some(report) } else { None }
    }

    /// Of two passes the better one; one that did not end, or could not be done, speaks for both.
    pub(super) fn better(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done(a), Self::Done(b)) => Self::Done(Box::new(a.better(&b))),
            (Self::Done(_), worse) => worse,
            (worse, _) => worse,
        }
    }

    /// A figure of it, or why there is none.
    pub(super) fn shown(&self, figure: impl Fn(&Report) -> Option<f64>) -> Value {
        match self {
            Self::Done(report) => figure(report).map_or(json!("none"), |value| json!(value)),
            Self::Skipped(seconds) => json!(format!("skipped after {seconds} s")),
            Self::Failed(why) => json!(format!("failed: {why}")),
        }
    }
}

/// Runs children of this program.
#[derive(Debug)]
pub(super) struct Launcher {
    program: PathBuf,
    scratch: PathBuf,
}

impl Launcher {
    /// `scratch` is for what children say.
    pub(super) fn new(scratch: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        Ok(Self { program, scratch: scratch.to_owned() })
    }

    /// Runs one child. One that fills is killed once it has told that it is full.
    ///
    /// # Errors
    /// If the spool itself fails; a rival that fails is an outcome.
    pub(super) fn run(&self, task: &Task) -> Result<Outcome> {
        std::fs::create_dir_all(&task.dir)?;
        let (said, complaints) = (self.scratch.join("said"), self.scratch.join("complaints"));
        let mut child = Command::new(&self.program)
            .arg(WORD)
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::null())
            .stdout(File::create(&said)?)
            .stderr(File::create(&complaints)?)
            .spawn()
            .context("failed to start a measuring child")?;
        let ours = task.store == StoreKind::Spool;
        let limit = if ours { OURS_SECONDS_MAX } else { RIVAL_SECONDS_MAX };
        let line = || std::fs::read_to_string(&said).ok().filter(|text| text.ends_with('\n'));
        let kill = matches!(task.job, Job::Fill { .. });
        let ended = wait_until(Duration::from_secs(limit), || {
            matches!(child.try_wait(), Ok(Some(_)) | Err(_)) || (kill && line().is_some())
        });
        finish(&mut child, kill || !ended)?;
        let outcome = match line() {
            Some(text) => Outcome::Done(serde_json::from_str(&text).context("a child spoke in riddles")?),
            None if !ended => Outcome::Skipped(limit),
            None => Outcome::Failed(last_line(&complaints)),
        };
        match &outcome {
            Outcome::Failed(why) if ours => bail!("the spool failed in {:?}: {why}", task.job),
            Outcome::Skipped(seconds) if ours => bail!("the spool took over {seconds} s in {:?}", task.job),
            _ => Ok(outcome),
        }
    }
}

fn finish(child: &mut Child, kill: bool) -> Result<()> {
    if kill && child.try_wait()?.is_none() {
        child.kill()?;
    }
    child.wait()?;
    Ok(())
}

fn last_line(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_tells_its_figure_or_why_there_is_none() {
        let report = Report { open_s: Some(0.5), ..Report::default() };
        let done = Outcome::Done(Box::new(report));
        assert_eq!(done.shown(|r| r.open_s), json!(0.5));
        assert_eq!(done.shown(|r| r.first_read_s), json!("none"));
        assert_eq!(Outcome::Skipped(300).shown(|r| r.open_s), json!("skipped after 300 s"));
        assert_eq!(Outcome::Failed("no room".into()).shown(|r| r.open_s), json!("failed: no room"));
    }
}
