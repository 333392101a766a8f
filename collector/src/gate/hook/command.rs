//! A hook as a program: its exit code is the verdict, what it prints is the evidence.

use super::{EVIDENCE_BYTES_MAX, HookError, HookVerdict, Question, evidence};
use crate::gate::Verdict;
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Of standard error, this much of its end goes into an error text, bytes.
const LAST_BYTES: usize = 400;

/// A program and all it started, ended when this is dropped.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that has been waited for is gone, and its number may be another's by now.
        if let (Some(leader), None) = (self.leader, self.child.try_wait().ok().flatten())
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "gate hook had ended by itself");
        }
    }
}

pub(super) async fn run(words: &[String], question: &Question) -> Result<HookVerdict, HookError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(HookError::Start { program: String::new(), reason: "no program is named".to_owned() });
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HEADWATER_LAKE", &question.lake)
        .env("HEADWATER_REF", &question.branch)
        .env("HEADWATER_COMMIT", &question.candidate)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    match &question.rest_url {
        Some(url) => command.env("HEADWATER_REST_URL", url),
        None => command.env_remove("HEADWATER_REST_URL"),
    };
    let start =
        |error: std::io::Error| HookError::Start { program: program.clone(), reason: error.to_string() };
    let mut child = command.spawn().map_err(start)?;
    let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut group = Group { child, leader };

    let asked = question.to_json().to_string();
    let tell = async move {
        if let Some(mut stdin) = stdin {
            // A program that does not care for the question closes its end early.
            drop(stdin.write_all(asked.as_bytes()).await);
        }
    };
    let ((), (out, more), (said, _), ended) =
        tokio::join!(tell, read(stdout, Keep::First), read(stderr, Keep::Last), group.child.wait());
    let status = ended.map_err(start)?;
    let verdict = match status.code() {
        Some(0) => Verdict::Pass,
        Some(1) => Verdict::Fail,
        _ => {
            let last = said.get(said.len().saturating_sub(LAST_BYTES)..).unwrap_or_default();
            let last = String::from_utf8_lossy(last).trim().replace('\n', " | ");
            return Err(HookError::Ended { how: status.to_string(), last });
        }
    };
    Ok(HookVerdict { verdict, evidence: evidence(&out, more) })
}

/// Which end of a long output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    First,
    Last,
}

/// Reads to the end, so that the program never blocks or fails for our bound, and keeps [`EVIDENCE_BYTES_MAX`]. True if
/// there was more.
async fn read(from: Option<impl AsyncRead + Unpin>, keep: Keep) -> (Vec<u8>, bool) {
    let mut kept: Vec<u8> = Vec::new();
    let mut more = false;
    let Some(mut from) = from else { return (kept, more) };
    let mut chunk = vec![0; 16 << 10];
    // A pipe that breaks has ended.
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        let new = chunk.get(..n).unwrap_or_default();
        let room = EVIDENCE_BYTES_MAX.saturating_sub(kept.len());
        more |= n > room;
        match keep {
            Keep::First => kept.extend_from_slice(new.get(..n.min(room)).unwrap_or_default()),
            Keep::Last => {
                kept.extend_from_slice(new);
                let surplus = kept.len().saturating_sub(EVIDENCE_BYTES_MAX);
                kept.drain(..surplus);
            }
        }
    }
    (kept, more)
}
