//! A connection to gpsd: lines in, questions out. It may hang, flood or lie: each is bounded.
//!
//! Two speak to gpsd, each with a connection of its own: the clock observer, for pulses, and the source, for fixes. Protocol:
//! gpsd_json(5).

use headwater_core::ports::Clock;
use headwater_core::time::BootNanos;
use serde::Deserialize;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Longest line read, bytes: gpsd's own bound of a report is 10 KiB (`GPS_JSON_RESPONSE_MAX`).
pub(crate) const LINE_BYTES_MAX: usize = 16 << 10;
/// Most lines in a second: some ten receivers with all their reports.
pub(crate) const LINES_MAX: u32 = 400;
/// Longest wait for the connection, for its first line, which gpsd sends unasked, and until it takes a question, ms.
const GREETING_LIMIT_MS: u64 = 5_000;
/// Longest silence, after which it is asked anew, ms: without a receiver gpsd says nothing.
const SILENCE_LIMIT_MS: u64 = 300_000;
/// Longest release kept, bytes.
const RELEASE_BYTES_MAX: usize = 64;

/// What class of report a line is.
#[derive(Deserialize)]
pub(crate) struct Class {
    /// `TPV`, `SKY` and so on.
    pub(crate) class: String,
    /// The receiver's device file, where the report is one receiver's.
    #[serde(default)]
    pub(crate) device: String,
}

#[derive(Deserialize)]
struct Version {
    release: String,
}

/// Why a line is none of gpsd's, for a person.
pub(crate) fn garbled(error: &serde_json::Error) -> String {
    format!("gpsd sent what is no report of its: {error}")
}

/// The class of a line.
///
/// # Errors
/// Why it is no report.
pub(crate) fn class(line: &[u8]) -> Result<Class, String> {
    serde_json::from_slice(line).map_err(|error| garbled(&error))
}

/// An open connection, past its greeting.
#[derive(Debug)]
pub(crate) struct Connection<C> {
    clock: C,
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    /// What was read of the next line.
    line: Vec<u8>,
    heard: BootNanos,
    pace: Pace,
    /// gpsd's release.
    pub(crate) release: String,
}

impl<C: Clock> Connection<C> {
    /// Connects, and reads what release it is.
    ///
    /// # Errors
    /// Why there is no gpsd, for a person.
    pub(crate) async fn open(clock: C, at: SocketAddr) -> Result<Self, String> {
        let late = clock.boot().plus_ms(GREETING_LIMIT_MS);
        let stream = tokio::select! {
            biased;
            stream = TcpStream::connect(at) => stream.map_err(|error| error.to_string())?,
            () = clock.sleep_until(late) => return Err("no connection".to_owned()),
        };
        let (input, output) = stream.into_split();
        let heard = clock.boot();
        let (input, pace, release) = (BufReader::new(input), Pace::default(), String::new());
        let mut open = Self { clock, input, output, line: Vec::new(), heard, pace, release };
        let greeting = open.within(GREETING_LIMIT_MS).await?;
        if class(&greeting)?.class != "VERSION" {
            return Err("what listens there is no gpsd".to_owned());
        }
        let version: Version = serde_json::from_slice(&greeting).map_err(|error| garbled(&error))?;
        open.release = headwater_core::gap::truncated(&version.release, RELEASE_BYTES_MAX);
        Ok(open)
    }

    /// Says something, such as `?WATCH={"enable":true,"json":true};`.
    ///
    /// # Errors
    /// Why it could not be said.
    pub(crate) async fn say(&mut self, words: &[u8]) -> Result<(), String> {
        let late = self.clock.boot().plus_ms(GREETING_LIMIT_MS);
        tokio::select! {
            biased;
            said = self.output.write_all(words) => said.map_err(|error| error.to_string()),
            () = self.clock.sleep_until(late) => Err("it takes no questions".to_owned()),
        }
    }

    /// The next line. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Why the connection is over: it ended, is silent, sends a line without an end, or too many.
    pub(crate) async fn line(&mut self) -> Result<Vec<u8>, String> {
        self.within(SILENCE_LIMIT_MS).await
    }

    /// Whether all that was received has been given out.
    pub(crate) fn is_drained(&self) -> bool {
        self.input.buffer().is_empty()
    }

    async fn within(&mut self, limit_ms: u64) -> Result<Vec<u8>, String> {
        let Self { clock, input, line, heard, pace, .. } = self;
        loop {
            let late = heard.plus_ms(limit_ms);
            let bytes = tokio::select! {
                biased;
                bytes = input.fill_buf() => bytes.map_err(|error| error.to_string())?,
                () = clock.sleep_until(late) => return Err(format!("it says nothing for {} s", limit_ms / 1_000)),
            };
            if bytes.is_empty() {
                return Err("it closed the connection".to_owned());
            }
            *heard = clock.boot();
            let ends = bytes.iter().position(|byte| *byte == b'\n');
            let taken = ends.map_or(bytes.len(), |at| at.saturating_add(1));
            line.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            input.consume(taken);
            if line.len() > LINE_BYTES_MAX {
                return Err("it sends a line without an end".to_owned());
            }
            if ends.is_some() {
                if !pace.allows(*heard) {
                    return Err(format!("it sends more than {LINES_MAX} lines a second"));
                }
                return Ok(std::mem::take(line));
            }
        }
    }
}

/// Counts lines by the second.
#[derive(Debug, Default)]
struct Pace {
    since: Option<BootNanos>,
    lines: u32,
}

impl Pace {
    fn allows(&mut self, now: BootNanos) -> bool {
        if self.since.is_none_or(|since| now >= since.plus_ms(1_000)) {
            (self.since, self.lines) = (Some(now), 0);
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= LINES_MAX
    }
}
