//! What the kernel tells of this machine and its sensors in files: polled, since files do not call.
//!
//! Decoders ([`iio`], [`hwmon`], [`w1`], [`host`]) turn names and texts into values with names and units of their own, so
//! that no field stands in the configuration; [`roster`] follows which devices are there; the shell here waits for the
//! next poll and has files read on a thread where blocking costs nothing: a thermometer takes 0.75 s, a bus that hangs
//! takes for ever.

mod host;
mod hwmon;
mod iio;
mod look;
mod roster;
mod tree;
mod w1;

pub use tree::{ENTRIES_MAX, FILE_BYTES_MAX, Room, SysTree};

use super::arrival::Arrivals;
use super::framing::{Decoded, Notice};
use crate::config::SysWhat;
use crate::telemetry::{Counter, SourceDown, SourceUp};
use headwater_core::id::StreamName;
use headwater_core::ports::{Clock, Source, SourceError, SourceEvent};
use headwater_core::time::BootNanos;
use host::HostMemory;
use look::{Looked, Reader};
use roster::Roster;
use std::time::Duration;
use tokio::task::JoinHandle;

/// A look that takes longer hangs in the kernel, ms: a full 1-Wire bus takes 24 s.
const HANG_MS: u64 = 60_000;

/// Looks, and remembers what counters showed the last time.
#[derive(Debug)]
struct Looker<C> {
    what: SysWhat,
    tree: SysTree,
    reader: Reader<C>,
    host: HostMemory,
}

impl<C: Clock> Looker<C> {
    fn new(what: SysWhat, tree: SysTree, clock: C) -> Self {
        Self { what, tree, reader: Reader { clock }, host: HostMemory::default() }
    }

    /// Blocks for as long as drivers do.
    fn look(&mut self) -> Looked {
        match &self.what {
            SysWhat::Iio => iio::look(&self.tree, &self.reader),
            SysWhat::Hwmon => hwmon::look(&self.tree, &self.reader),
            SysWhat::W1 => w1::look(&self.tree, &self.reader),
            SysWhat::Host { dir } => host::look(&self.tree, dir, &self.reader, &mut self.host),
        }
    }
}

/// A device that is there now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FoundDevice {
    /// Its stream, below that of the source; empty for the source's own.
    pub name: String,
    /// Its fields with their units.
    pub fields: Vec<(String, String)>,
}

/// What a source of this kind would find now. Blocks.
pub fn find<C: Clock>(what: SysWhat, tree: &SysTree, clock: C) -> Vec<FoundDevice> {
    let looked = Looker::new(what, tree.clone(), clock).look();
    let fields =
        |seen: look::Seen| seen.schema.fields.into_iter().map(|f| (f.name.to_string(), f.unit)).collect();
    looked.seen.into_iter().map(|(name, seen)| FoundDevice { name, fields: fields(seen) }).collect()
}

/// How long before it was read a value may have been taken, ms, unless declared.
#[must_use]
pub fn device_ms(what: &SysWhat) -> i64 {
    match what {
        // Chips that convert by themselves do so once a second at the slowest.
        SysWhat::Iio => 1_000,
        // Drivers ask their chip every 2 s and tell the last answer meanwhile; so does the Pi's for under-voltage.
        SysWhat::Hwmon | SysWhat::Host { .. } => 2_000,
        // It converts while it is read.
        SysWhat::W1 => 0,
    }
}

/// The source.
#[derive(Debug)]
pub struct SysSource<C> {
    clock: C,
    stream: StreamName,
    what: SysWhat,
    tree: SysTree,
    every_ms: u64,
    due: BootNanos,
    /// `None` while it looks, or after it broke down.
    looker: Option<Looker<C>>,
    looking: Option<JoinHandle<(Looker<C>, Looked)>>,
    hang_at: BootNanos,
    hangs: bool,
    /// Looks in a row that found nothing; `None` before the first that found something.
    tries: Option<u32>,
    roster: Roster,
    decoded: Decoded,
}

impl<C: Clock> SysSource<C> {
    /// A source that looks at once, and then each `every`.
    pub fn new(
        clock: C,
        tree: SysTree,
        (stream, arrivals): (StreamName, Arrivals),
        (what, every): (SysWhat, Duration),
    ) -> Self {
        let due = clock.boot();
        Self {
            roster: Roster::new(stream.clone(), arrivals),
            stream,
            what,
            tree,
            every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1),
            due,
            looker: None,
            looking: None,
            hang_at: due,
            hangs: false,
            tries: None,
            decoded: Decoded::default(),
            clock,
        }
    }

    /// Starts a look, and sets when the next is due: on the same raster, looks that were missed left out.
    fn start(&mut self) {
        let now = self.clock.boot();
        let every_ns = i64::try_from(self.every_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let missed = now.since(self.due).max(0).checked_div(every_ns).unwrap_or(0);
        if missed > 0 {
            self.decoded.notices.push(Notice::Count(Counter::PollsMissed, missed.unsigned_abs()));
        }
        self.due = self.due.plus_ns(missed.saturating_add(1).saturating_mul(every_ns));
        (self.hang_at, self.hangs) = (now.plus_ms(HANG_MS), false);
        let fresh = || Looker::new(self.what.clone(), self.tree.clone(), self.clock.clone());
        let mut looker = self.looker.take().unwrap_or_else(fresh);
        self.looking = Some(tokio::task::spawn_blocking(move || {
            let looked = looker.look();
            (looker, looked)
        }));
    }

    fn found(&mut self, looked: Looked) {
        let devices = looked.seen.len();
        self.roster.take(looked, &mut self.decoded);
        match (devices, self.tries) {
            (0, tries) => {
                let tries = tries.unwrap_or(0).saturating_add(1);
                self.tries = Some(tries);
                self.down(missing(&self.what), tries);
            }
            (_, Some(0)) => {}
            (devices, _) => {
                self.tries = Some(0);
                SourceUp { stream: &self.stream, what: &format!("{devices} of {}", self.what.as_str()) }
                    .emit();
            }
        }
    }

    fn down(&self, why: &str, tries: u32) {
        let wait = u64::try_from(self.due.since(self.clock.boot()).max(0) / 1_000_000).unwrap_or(0);
        SourceDown { stream: &self.stream, why, retry_ms: wait, tries }.emit();
    }
}

/// Why there may be none, and what to do.
fn missing(what: &SysWhat) -> &'static str {
    match what {
        SysWhat::Iio => {
            "no sensor below /sys/bus/iio/devices: is its driver loaded? on a Pi by a dtoverlay= in config.txt"
        }
        SysWhat::Hwmon => "no sensor below /sys/class/hwmon: is its driver loaded?",
        SysWhat::W1 => {
            "no thermometer below /sys/bus/w1/devices: on a Pi write dtoverlay=w1-gpio into config.txt, and check wiring and pull-up"
        }
        SysWhat::Host { .. } => "neither /proc nor /sys can be read",
    }
}

impl<C: Clock> Source for SysSource<C> {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            self.decoded.tell(&self.stream);
            if let Some(event) = self.decoded.events.pop_front() {
                return Ok(event);
            }
            let Some(looking) = &mut self.looking else {
                self.clock.sleep_until(self.due).await;
                self.start();
                continue;
            };
            tokio::select! {
                looked = looking => {
                    self.looking = None;
                    match looked {
                        Ok((looker, looked)) => {
                            self.looker = Some(looker);
                            if std::mem::take(&mut self.hangs) {
                                self.tries = None;
                            }
                            self.found(looked);
                        }
                        Err(error) => self.down(&format!("reading broke down: {error}"), 1),
                    }
                }
                () = self.clock.sleep_until(self.hang_at), if !self.hangs => {
                    self.hangs = true;
                    let why = "a read has hung in the kernel for a minute: a bus may be stuck; unplug its sensor or restart";
                    self.down(why, 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
