//! Programs whose output is a source: started in a process group of their own, so that what they
//! start ends with them, and started again when they end.

use super::backoff::Backoff;
use crate::config::CommandLine;
use crate::telemetry::{SourceDown, SourceUp};
use headwater_core::id::StreamName;
use headwater_core::ports::Clock;
use headwater_core::time::BootNanos;
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdout, Command};

/// How long a program may take to end when asked to, ms, before it is killed.
const END_MS: u64 = 2_000;

/// Bytes about frames taken at once: less than the least buffer of a reader.
const SAID_BYTES: usize = 4_096;

/// A program and its output.
#[derive(Debug)]
pub(super) struct Program<C> {
    clock: C,
    stream: StreamName,
    command: CommandLine,
    /// It writes stamps of its frames to a file: ours is a pipe.
    stamps: bool,
    running: Option<Running>,
    start_at: Option<BootNanos>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Running {
    child: Child,
    output: ChildStdout,
    stamps: Option<StampPipe>,
    group: Option<Group>,
}

/// A pipe that a program opens by name, as if it were a file: nothing is left behind, whoever is killed.
#[derive(Debug)]
struct StampPipe {
    /// Held open, so that the name stays good and no end is read while the program has not opened it.
    ours: pipe::Sender,
    far: pipe::Receiver,
    said: Vec<u8>,
}

impl StampPipe {
    fn open() -> std::io::Result<Self> {
        let (ours, far) = pipe::pipe()?;
        Ok(Self { ours, far, said: vec![0; SAID_BYTES] })
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.ours.as_raw_fd())
    }
}

/// Stands in a command for the file that stamps go to.
pub const STAMPS_PLACE: &str = "{stamps}";

/// Kills the group when dropped.
#[derive(Debug)]
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = kill_process_group(self.0, Signal::KILL) {
            tracing::trace!(%error, "process group was gone already");
        }
    }
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// It printed these many bytes into the buffer.
    Bytes(usize),
    /// It wrote these many bytes about its frames; they are in the buffer.
    Stamps(usize),
    /// It ended, or could not be started; the words say how.
    Ended(String),
}

impl<C: Clock> Program<C> {
    pub(super) fn new(clock: C, stream: StreamName, command: CommandLine) -> Self {
        let stamps = command.args.iter().any(|arg| arg.contains(STAMPS_PLACE));
        Self { clock, stream, command, stamps, running: None, start_at: None, backoff: Backoff::default() }
    }

    /// The next output; starts the program if it does not run. Cancel-safe.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> Output {
        let running = match &mut self.running {
            Some(running) => running,
            None => {
                if let Some(at) = self.start_at {
                    self.clock.sleep_until(at).await;
                }
                match self.start() {
                    Ok(running) => self.running.insert(running),
                    Err(error) => {
                        return self.ended(format!("{} cannot be started: {error}", self.command.program));
                    }
                }
            }
        };
        let Running { output, stamps, .. } = running;
        let read = match stamps {
            None => output.read(buffer).await,
            Some(stamps) => {
                tokio::select! {
                    // What it says of a frame is small: it must not wait behind the frames.
                    biased;
                    said = stamps.far.read(&mut stamps.said) => {
                        return match said {
                            Ok(bytes) => {
                                let said = stamps.said.iter().take(bytes);
                                buffer.iter_mut().zip(said).for_each(|(to, from)| *to = *from);
                                Output::Stamps(bytes.min(buffer.len()))
                            }
                            Err(error) => self.ended(format!("stamps of {} cannot be read: {error}", self.command.program)),
                        };
                    }
                    read = output.read(buffer) => read,
                }
            }
        };
        match read {
            Ok(0) => {
                // A program that closed its output and stays is of no use: it is killed when dropped.
                let late = self.clock.boot().plus_ms(END_MS);
                let how = tokio::select! {
                    status = running.child.wait() => match status {
                        Ok(status) => format!("{} ended: {status}", self.command.program),
                        Err(error) => format!("{} ended: {error}", self.command.program),
                    },
                    () = self.clock.sleep_until(late) => format!("{} closed its output", self.command.program),
                };
                self.ended(how)
            }
            Ok(bytes) => Output::Bytes(bytes),
            Err(error) => self.ended(format!("output of {} cannot be read: {error}", self.command.program)),
        }
    }

    fn start(&mut self) -> std::io::Result<Running> {
        let stamps = if self.stamps { Some(StampPipe::open()?) } else { None };
        let place = stamps.as_ref().map(StampPipe::path).unwrap_or_default();
        let args = self.command.args.iter().map(|arg| arg.replace(STAMPS_PLACE, &place));
        let mut child = Command::new(&self.command.program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).map(Group);
        let output = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        self.backoff.up(self.clock.boot());
        SourceUp { stream: &self.stream, what: &self.command.program }.emit();
        Ok(Running { child, output, stamps, group })
    }

    fn ended(&mut self, why: String) -> Output {
        self.running = None;
        let now = self.clock.boot();
        let (retry_ms, tries) = self.backoff.failed(now);
        self.start_at = Some(now.plus_ms(retry_ms));
        SourceDown { stream: &self.stream, why: &why, retry_ms, tries }.emit();
        Output::Ended(why)
    }

    /// Asks the program to end, and kills it if it does not.
    pub(super) async fn close(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        if let Some(group) = &running.group {
            if let Err(error) = kill_process_group(group.0, Signal::TERM) {
                tracing::trace!(%error, "process group was gone already");
            }
            let late = self.clock.boot().plus_ms(END_MS);
            tokio::select! {
                ended = running.child.wait() => {
                    tracing::debug!(stream = %self.stream, ?ended, "program ended");
                }
                () = self.clock.sleep_until(late) => {}
            }
        }
    }
}
