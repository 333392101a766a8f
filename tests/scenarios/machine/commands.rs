//! The serial line on which a machine is told what to do: a word and its value, answered by the same word.

use super::BOOT_LIMIT;
use headwater_tests::procs::Proc;
use headwater_tests::ticks::wait_until;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// This side of it.
#[derive(Debug)]
pub(super) struct Commands(BufReader<UnixStream>);

impl Commands {
    /// The socket of the line, once the emulator has made it.
    pub(super) fn connect(socket: &Path, proc: &mut Proc) -> Self {
        let mut stream = None;
        let came = wait_until(BOOT_LIMIT, || {
            proc.check().unwrap();
            stream = UnixStream::connect(socket).ok();
            stream.is_some()
        });
        assert!(came, "{}", proc.last_words());
        Self(BufReader::new(stream.unwrap()))
    }

    /// Says a command; gives its word, by which it is answered.
    pub(super) fn say<'a>(&mut self, command: &'a str) -> &'a str {
        self.0.get_ref().write_all(format!("{command}\n").as_bytes()).unwrap();
        command.split(' ').next().unwrap_or(command)
    }

    /// What was answered; else what is wrong.
    pub(super) fn answer(&mut self, verb: &str, limit: Duration) -> Result<String, String> {
        self.0.get_ref().set_read_timeout(Some(limit)).unwrap();
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        if !matches!(read, Ok(1..)) {
            return Err(format!("no answer to {verb}: {read:?}"));
        }
        let said = line.trim_end();
        let value = said.strip_prefix(verb).ok_or(format!("{verb}: {said}"))?;
        Ok(value.trim_start().to_owned())
    }
}
