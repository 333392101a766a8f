//! Child processes of a run: started, killed without warning, started again, stopped, measured.

use crate::ticks::wait_until;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Clock ticks per second in `/proc/<pid>/stat`: 100 on every Linux, whatever the kernel's own rate.
const TICKS_PER_S: f64 = 100.0;

/// A process that is started again by the same words after a kill.
#[derive(Debug)]
pub struct Proc {
    name: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    log: PathBuf,
    own_group: bool,
    child: Option<Child>,
    rss_max_kib: u64,
    kills: u32,
}

impl Proc {
    /// Describes a process; its output goes to `log`, appended.
    #[must_use]
    pub fn new(name: &'static str, program: PathBuf, args: Vec<OsString>, log: PathBuf) -> Self {
        let env = Vec::new();
        Self { name, program, args, env, log, own_group: false, child: None, rss_max_kib: 0, kills: 0 }
    }

    /// Keeps a terminal's Ctrl-C from it, which is for the run alone: the run stops its processes in order. Only for
    /// roles of this binary, which end with their parent.
    #[must_use]
    pub fn in_own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Gives it a word of environment.
    #[must_use]
    pub fn with_env(mut self, key: &'static str, value: OsString) -> Self {
        self.env.push((key, value));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(&mut self) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if self.own_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Times it was killed.
    #[must_use]
    pub fn kills(&self) -> u32 {
        self.kills
    }

    /// True while it runs; an exit on its own is `Err` with the end of its log.
    ///
    /// # Errors
    /// Names the process and shows its last words.
    pub fn check(&mut self) -> io::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!(
                "{} ended by itself ({status}); the end of {}:\n{}",
                self.name,
                self.log.display(),
                self.last_words()
            ))),
        }
    }

    /// True once it ended by itself and well.
    ///
    /// # Errors
    /// It ended with a failure: its last words.
    pub fn is_over(&mut self) -> io::Result<bool> {
        let Some(child) = &mut self.child else { return Ok(true) };
        match child.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => {
                Err(io::Error::other(format!("{} failed ({status}):\n{}", self.name, self.last_words())))
            }
        }
    }

    /// The end of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Kills it with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&mut self) -> io::Result<()> {
        self.measure();
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
            self.kills += 1;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits; kills it after `limit`. `false` if it had to be killed.
    ///
    /// # Errors
    /// What the system says.
    #[expect(unsafe_code, reason = "std sends SIGKILL only; an orderly stop is SIGTERM")]
    pub fn stop(&mut self, limit: Duration) -> io::Result<bool> {
        self.measure();
        let Some(mut child) = self.child.take() else { return Ok(true) };
        if let Ok(pid) = libc::pid_t::try_from(child.id()) {
            // SAFETY: the child has not been waited for, so its pid is still its own.
            unsafe { libc::kill(pid, libc::SIGTERM) };
        }
        let ended = wait_until(limit, || matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
        if !ended {
            child.kill()?;
            child.wait()?;
        }
        Ok(ended)
    }

    /// Notes its greatest resident memory so far (VmHWM).
    pub fn measure(&mut self) {
        if let Some(child) = &self.child
            && let Some(kib) = rss_max_kib(child.id())
        {
            self.rss_max_kib = self.rss_max_kib.max(kib);
        }
    }

    /// User and system time of its present life so far, s (`/proc/<pid>/stat`).
    #[must_use]
    pub fn cpu_s(&self) -> Option<f64> {
        let pid = self.child.as_ref()?.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, so what counts follows the last one.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks = fields.next()?.parse::<u32>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
        Some(f64::from(ticks) / TICKS_PER_S)
    }

    /// Greatest resident memory of all its lives, bytes.
    #[must_use]
    pub fn rss_max_bytes(&self) -> u64 {
        self.rss_max_kib * 1024
    }

    /// Bytes its present life caused to be written to the device (`/proc/<pid>/io` write_bytes).
    #[must_use]
    pub fn written_bytes(&self) -> Option<u64> {
        let pid = self.child.as_ref()?.id();
        let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Nothing to report to while unwinding; the process must not outlive the run.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn rss_max_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}
