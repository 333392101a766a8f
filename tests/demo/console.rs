//! What the demo tells while it runs: a live line on a terminal, a line every few seconds elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Progress for people; always on standard error, so that standard output stays for results.
#[derive(Debug)]
pub(crate) struct Console {
    bar: ProgressBar,
    terminal: bool,
    last_printed: Option<u64>,
}

/// Seconds between lines where there is no terminal.
const LINE_EVERY_S: u64 = 5;

impl Console {
    /// A bar over `length`.
    pub(crate) fn new(length: Duration) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(length.as_secs()), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("  {bar:30} {pos:>3}/{len}s  {msg}") {
            bar.set_style(style);
        }
        Self { bar, terminal, last_printed: None }
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        if self.terminal { self.bar.suspend(|| eprintln!("{line}")) } else { eprintln!("{line}") }
    }

    /// The state `seconds` into the run.
    pub(crate) fn progress(&mut self, seconds: u64, message: String) {
        if self.terminal {
            self.bar.set_position(seconds);
            self.bar.set_message(message);
        } else if self.last_printed.is_none_or(|last| seconds >= last + LINE_EVERY_S) {
            self.last_printed = Some(seconds);
            eprintln!("  {seconds:>3} s  {message}");
        }
    }

    /// Removes the bar.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}
