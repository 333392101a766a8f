//! Receivers behind gpsd: its fixes and views of the sky, over one connection that is opened again whenever it ended.

mod report;

use super::arrival::{Arrivals, Reads};
use super::backoff::Backoff;
use super::framing::Decoded;
use crate::config::GpsdSettings;
use crate::gpsd::Connection;
use crate::telemetry::{SourceDown, SourceUp};
use headwater_core::id::StreamName;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use headwater_core::time::BootNanos;
use report::GpsdDecoding;
use std::net::SocketAddr;
use std::pin::Pin;

/// What asks it for reports; numbers come in SI units unless asked otherwise.
const WATCH: &[u8] = b"?WATCH={\"enable\":true,\"json\":true};\n";

type Opening<C> = Pin<Box<dyn Future<Output = Result<Connection<C>, String>> + Send>>;

/// The source.
pub struct GpsdSource<C> {
    clock: C,
    stream: StreamName,
    at: SocketAddr,
    /// Kept while [`Source::next`] is dropped, so that a slow greeting is not begun anew.
    opening: Option<Opening<C>>,
    gpsd: Option<Connection<C>>,
    open_at: Option<BootNanos>,
    backoff: Backoff,
    decoding: GpsdDecoding,
    decoded: Decoded,
    reads: Reads,
}

impl<C: Clock + std::fmt::Debug> std::fmt::Debug for GpsdSource<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpsdSource").field("at", &self.at).field("gpsd", &self.gpsd).finish_non_exhaustive()
    }
}

impl<C: Clock> GpsdSource<C> {
    /// A gpsd that is called with the first [`Source::next`].
    pub fn new(clock: C, (stream, arrivals): (StreamName, Arrivals), settings: GpsdSettings) -> Self {
        Self {
            clock,
            at: settings.at,
            opening: None,
            gpsd: None,
            open_at: None,
            backoff: Backoff::default(),
            decoding: GpsdDecoding::new(stream.clone(), arrivals, settings),
            stream,
            decoded: Decoded::default(),
            reads: Reads::default(),
        }
    }

    async fn open(&mut self) {
        if let Some(at) = self.open_at {
            self.clock.sleep_until(at).await;
        }
        let (clock, at) = (self.clock.clone(), self.at);
        let opened = self.opening.get_or_insert_with(|| {
            Box::pin(async move {
                let mut gpsd = Connection::open(clock, at).await?;
                gpsd.say(WATCH).await?;
                Ok(gpsd)
            })
        });
        let opened = opened.await;
        self.opening = None;
        match opened {
            Ok(gpsd) => {
                let now = self.clock.boot();
                SourceUp { stream: &self.stream, what: &format!("gpsd {} at {}", gpsd.release, self.at) }
                    .emit();
                self.gpsd = Some(gpsd);
                self.reads.opened(now);
                self.decoding.reopened();
                self.backoff.up(now);
            }
            Err(why) => self.down(&why),
        }
    }

    fn down(&mut self, why: &str) {
        self.gpsd = None;
        let now = self.clock.boot();
        let (retry_ms, tries) = self.backoff.failed(now);
        self.open_at = Some(now.plus_ms(retry_ms));
        let why = format!("gpsd at {}: {why}; does it run? `systemctl status gpsd.socket`", self.at);
        SourceDown { stream: &self.stream, why: &why, retry_ms, tries }.emit();
    }
}

impl<C: Clock> Source for GpsdSource<C> {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            self.decoded.tell(&self.stream);
            if let Some(event) = self.decoded.events.pop_front() {
                return Ok(event);
            }
            let waited_from = self.clock.boot();
            let Some(gpsd) = &mut self.gpsd else {
                self.open().await;
                continue;
            };
            match gpsd.line().await {
                Ok(line) => {
                    let read = self.reads.read(waited_from, self.clock.boot(), gpsd.is_drained());
                    self.decoding.line(&line, read, &mut self.decoded);
                }
                Err(why) => self.down(&why),
            }
        }
    }
}

#[cfg(test)]
mod tests;
