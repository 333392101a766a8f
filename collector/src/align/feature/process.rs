//! One run of one program, bounded in time, output and memory.

use headwater_core::ports::Clock;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid,
};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Of standard error, this much of its end is kept, bytes: a Python traceback.
pub const STDERR_BYTES_MAX: usize = 4 << 10;

/// What a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time, ns.
    pub timeout_ns: i64,
    /// Bytes of standard output.
    pub output_bytes_max: u64,
    /// Address space of each of its processes, bytes.
    pub memory_bytes_max: u64,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// Not there.
    #[error("{name} is no program: give the path of an executable file, or a name that PATH finds")]
    NoProgram {
        /// As the recipe names it.
        name: String,
    },
    /// Not as the recipe was read with.
    #[error("{} has changed since the recipe was read; read it again, which gives it another id", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Cannot be hashed.
    #[error("failed to read {}: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Cannot be started or watched.
    #[error("failed to run {}: {source}", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not done in time.
    #[error("it was not done within {}{said}", shown(*.timeout_ns))]
    Late {
        /// Its bound, ns.
        timeout_ns: i64,
        /// End of its standard error.
        said: Said,
    },
    /// More than its bound.
    #[error("it wrote more than {output_bytes_max} bytes; raise output_mib_max or lower batch_rows_max")]
    Flood {
        /// Its bound.
        output_bytes_max: u64,
    },
    /// An end that is no success.
    #[error("it ended with {status}{said}")]
    Failed {
        /// How.
        status: ExitStatus,
        /// End of its standard error.
        said: Said,
    },
}

/// The end of a standard error, on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        Self(text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | "))
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

fn shown(ns: i64) -> String {
    headwater_align::recipe::duration::show(ns)
}

/// What threads of a run tell.
enum Event {
    /// Standard output has ended; `None` if it went beyond its bound.
    Heard(Option<Vec<u8>>),
    /// Standard error has ended.
    Said(Vec<u8>),
    /// The program has ended and can be waited for.
    Ended,
}

/// A program and all it started; what is left of them is ended when this is dropped.
struct Group {
    child: Child,
    leader: Pid,
}

impl Drop for Group {
    fn drop(&mut self) {
        // The leader is waited for below and not before, so its number is still its own, and its group's.
        if let Err(error) = kill_process_group(self.leader, Signal::KILL) {
            tracing::debug!(%error, "a command's process group had ended by itself");
        }
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "a command cannot be waited for");
        }
    }
}

/// Runs a program with `request` as its input, and gives what it wrote. Blocks: at most the time-out, as `clock` counts it.
///
/// # Errors
/// [`FeatureError`] when it cannot be started, is late, writes too much, or does not end with exit status 0.
pub fn run(
    program: &Path,
    args: &[String],
    request: &[u8],
    limits: Limits,
    clock: &impl Clock,
) -> Result<Vec<u8>, FeatureError> {
    let wrap = |source: io::Error| FeatureError::Run { program: program.to_owned(), source };
    let start = clock.boot();
    let (mut group, events) = spawn(program, args, request, limits).map_err(wrap)?;
    let (mut heard, mut said, mut ended) = (None, None, false);
    while heard.is_none() || said.is_none() || !ended {
        let spent_ns = clock.boot().0.saturating_sub(start.0);
        let left_ns = u64::try_from(limits.timeout_ns)
            .unwrap_or(0)
            .saturating_sub(u64::try_from(spent_ns).unwrap_or(0));
        match events.recv_timeout(Duration::from_nanos(left_ns)) {
            Ok(Event::Heard(Some(bytes))) => heard = Some(bytes),
            Ok(Event::Heard(None)) => {
                return Err(FeatureError::Flood { output_bytes_max: limits.output_bytes_max });
            }
            Ok(Event::Said(bytes)) => said = Some(bytes),
            Ok(Event::Ended) => ended = true,
            Err(RecvTimeoutError::Timeout) => {
                drop(group);
                // What it said comes once its end of the pipe is closed.
                let said = said.or_else(|| last_words(&events)).unwrap_or_default();
                return Err(FeatureError::Late { timeout_ns: limits.timeout_ns, said: Said::of(&said) });
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(wrap(io::Error::from(io::ErrorKind::BrokenPipe)));
            }
        }
    }
    let status = group.child.wait().map_err(wrap)?;
    if !status.success() {
        return Err(FeatureError::Failed { status, said: Said::of(&said.unwrap_or_default()) });
    }
    Ok(heard.unwrap_or_default())
}

/// How long a killed program's last words are waited for: its pipe closes at once, unless something escaped the group.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn last_words(events: &Receiver<Event>) -> Option<Vec<u8>> {
    loop {
        match events.recv_timeout(LAST_WORDS) {
            Ok(Event::Said(bytes)) => return Some(bytes),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Starts it with its threads: one feeds it, two listen, one waits for its end.
fn spawn(
    program: &Path,
    args: &[String],
    request: &[u8],
    limits: Limits,
) -> io::Result<(Group, Receiver<Event>)> {
    use std::os::unix::process::CommandExt;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let Some(leader) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    let group = Group { child, leader };
    bound(leader, limits.memory_bytes_max)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe));
    };
    let (tell, events) = sync_channel(4);
    let request = request.to_vec();
    thread("command_input", move || {
        // A program that does not care for all of its input closes its end early.
        drop(stdin.write_all(&request));
    })?;
    let heard = tell.clone();
    thread("command_output", move || send(&heard, Event::Heard(within(stdout, limits.output_bytes_max))))?;
    let said = tell.clone();
    thread("command_errors", move || send(&said, Event::Said(last(stderr))))?;
    thread("command_end", move || {
        // Its number stays its own until the group is dropped: only then it is waited for in earnest.
        let waited = waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        if let Err(error) = waited {
            tracing::debug!(%error, "a command cannot be watched");
        }
        send(&tell, Event::Ended);
    })?;
    Ok((group, events))
}

/// Bounds the memory of a process and of what it starts from now on, and keeps its core out of the way.
fn bound(process: Pid, memory_bytes_max: u64) -> io::Result<()> {
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    prlimit(Some(process), Resource::As, limit(memory_bytes_max))?;
    prlimit(Some(process), Resource::Core, limit(0))?;
    Ok(())
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Nobody listens any more when the run is over.
fn send(to: &SyncSender<Event>, event: Event) {
    drop(to.try_send(event));
}

/// All that comes, or nothing once it is too much. A pipe that breaks has ended.
fn within(from: impl Read, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
    match read {
        Ok(n) if n as u64 > bytes_max => None,
        _ => Some(bytes),
    }
}

/// The end of what comes, read to the end so that the program never blocks on it.
fn last(mut from: impl Read) -> Vec<u8> {
    let mut kept: Vec<u8> = Vec::new();
    let mut chunk = vec![0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        kept.extend_from_slice(chunk.get(..n).unwrap_or_default());
        let surplus = kept.len().saturating_sub(STDERR_BYTES_MAX);
        kept.drain(..surplus);
    }
    kept
}
