//! A connection to gpsd on this host: lines in, reports out. It may hang, flood or lie: each is bounded.

use super::gpsd::{LINE_BYTES_MAX, Said, WATCH, read};
use super::report::{Arrival, Report};
use crate::stamp::track::TimeSource;
use headwater_core::ports::Clock;
use headwater_core::time::BootNanos;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Longest wait for the connection and for its first line, which gpsd sends unasked.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// Longest silence, after which it is asked anew: without a receiver gpsd says nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// Most lines in a second: some ten receivers with all their reports.
const LINES_MAX: u32 = 400;
/// First and longest wait before another try, ms.
const AGAIN_MS: (u64, u64) = (5_000, 300_000);

/// Reads until the receiver of reports is gone.
pub(super) async fn run<C: Clock>(clock: C, at: SocketAddr, wanted: bool, out: mpsc::Sender<Report>) {
    let mut wait_ms = AGAIN_MS.0;
    loop {
        let mut greeted = false;
        let ended = session(&clock, at, &out, &mut greeted).await;
        let Err(why) = ended else { return };
        if greeted {
            wait_ms = AGAIN_MS.0;
        }
        // Where nobody asked for it, a gpsd that is not there is none that is silent.
        if greeted || wanted {
            let why = format!("gpsd at {at}: {why}");
            let silent = [TimeSource::GpsPps, TimeSource::GpsSerial].map(|source| Report::Silent {
                source,
                why: why.clone(),
                wanted,
            });
            for report in silent {
                if out.send(report).await.is_err() {
                    return;
                }
            }
        }
        let again = clock.boot().plus_ms(wait_ms);
        wait_ms = wait_ms.saturating_mul(2).min(AGAIN_MS.1);
        tokio::select! {
            () = out.closed() => return,
            () = clock.sleep_until(again) => {}
        }
    }
}

/// One connection. `Ok` when nobody listens any more.
async fn session<C: Clock>(
    clock: &C,
    at: SocketAddr,
    out: &mpsc::Sender<Report>,
    greeted: &mut bool,
) -> Result<(), String> {
    let (mut stream, release) = greet(at).await?;
    tracing::info!(%at, release, "gpsd answers");
    *greeted = true;
    let (input, mut output) = stream.split();
    let mut input = BufReader::new(input);
    output.write_all(WATCH).await.map_err(|error| error.to_string())?;
    let mut pace = Pace::default();
    loop {
        let line = within(SILENCE_LIMIT, line_of(&mut input)).await?;
        if !pace.allows(clock.boot()) {
            return Err(format!("it sends more than {LINES_MAX} lines a second"));
        }
        let report = match read(&line) {
            Ok(Said::Pulse { device, utc, wall }) => Report::Pulse { from: device, wall, utc: Some(utc) },
            Ok(Said::TimeOffset { device, utc, wall }) => {
                Report::Sentence { from: device, at: Arrival::Wall(wall), utc }
            }
            Ok(Said::Version(_) | Said::Other) => continue,
            Err(why) => Report::Refused { source: TimeSource::GpsSerial, why },
        };
        if out.send(report).await.is_err() {
            return Ok(());
        }
    }
}

/// Connects, and reads what release it is.
pub(super) async fn greet(at: SocketAddr) -> Result<(TcpStream, String), String> {
    let connecting = tokio::time::timeout(GREETING_LIMIT, TcpStream::connect(at)).await;
    let mut stream = connecting.map_err(|_| "no connection")?.map_err(|error| error.to_string())?;
    // Read byte by byte: what follows the line stays where it is.
    let mut one_by_one = BufReader::with_capacity(1, &mut stream);
    let greeting = within(GREETING_LIMIT, line_of(&mut one_by_one)).await?;
    match read(&greeting)? {
        Said::Version(release) => Ok((stream, release)),
        _ => Err("what listens there is no gpsd".to_owned()),
    }
}

async fn within<T>(limit: Duration, wait: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(limit, wait)
        .await
        .unwrap_or_else(|_| Err(format!("it says nothing for {} s", limit.as_secs())))
}

async fn line_of(input: &mut (impl AsyncBufReadExt + Unpin)) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let most = LINE_BYTES_MAX as u64;
    input.take(most).read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
    match line.last() {
        Some(b'\n') => Ok(line),
        Some(_) if line.len() >= LINE_BYTES_MAX => Err("it sends a line without an end".to_owned()),
        _ => Err("it closed the connection".to_owned()),
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
        self.lines += 1;
        self.lines <= LINES_MAX
    }
}

#[cfg(test)]
mod tests;
