//! Asks gpsd for pulses and times of sentences, over and over: reports in, for as long as anybody listens.

use super::gpsd::{Said, WATCH, read};
use super::report::{Arrival, Report};
use crate::gpsd::Connection;
use crate::stamp::track::TimeSource;
use headwater_core::ports::Clock;
use std::net::SocketAddr;
use tokio::sync::mpsc;

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
    let mut gpsd = Connection::open(clock.clone(), at).await?;
    tracing::info!(%at, release = gpsd.release, "gpsd answers");
    *greeted = true;
    gpsd.say(WATCH).await?;
    loop {
        let line = gpsd.line().await?;
        let report = match read(&line) {
            Ok(Said::Pulse { device, utc, wall }) => Report::Pulse { from: device, wall, utc: Some(utc) },
            Ok(Said::TimeOffset { device, utc, wall }) => {
                Report::Sentence { from: device, at: Arrival::Wall(wall), utc }
            }
            Ok(Said::Other) => continue,
            Err(why) => Report::Refused { source: TimeSource::GpsSerial, why },
        };
        if out.send(report).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
