//! What is worth telling: one struct per event, which writes a log line and moves a counter.
//!
//! Counters live in this process only and are shown by `headwater-agent status`.

use headwater_core::id::StreamName;
use headwater_core::ports::SourceError;
use headwater_core::time::{BootNanos, ClockDomain};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tracing::{debug, error, info, warn};

/// Reasons kept for the status page: enough to see a pattern, few enough to read.
const REASONS_MAX: usize = 8;
/// Longest reason kept, bytes.
const REASON_BYTES_MAX: usize = 200;

macro_rules! counters {
    ($( $variant:ident $name:literal #[doc = $doc:literal] ),* $(,)?) => {
        /// A count since the process started.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $( #[doc = $doc] $variant, )* }
        impl Counter {
            /// Every one.
            pub const ALL: &'static [Counter] = &[ $( Self::$variant, )* ];
            /// Name in the status.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }
        }
        static COUNTS: [AtomicU64; [$( Counter::$variant, )*].len()] =
            [const { AtomicU64::new(0) }; [$( Counter::$variant, )*].len()];
    };
}

counters! {
    Readings "readings" #[doc = "Readings stamped."],
    RowsLost "rows_lost" #[doc = "Rows a source knew to be lost; each is in a gap record."],
    RowsShed "rows_shed" #[doc = "Rows shed because a queue was full; each is in a gap record."],
    RowsRejected "rows_rejected" #[doc = "Readings that did not fit their schema; each is in a gap record."],
    SetAside "set_aside" #[doc = "Things that are no reading, kept in quarantine."],
    SourceDown "source_down" #[doc = "Times a source went away."],
    LinkErrors "link_errors" #[doc = "Frames of boards and of vendors' protocols that failed their check."],
    PollsUnanswered "polls_unanswered" #[doc = "Questions to devices that only answer, without an answer in time."],
    NoiseBytes "noise_bytes" #[doc = "Bytes between sentences, frames or pictures that are none."],
    Reordered "reordered" #[doc = "Readings whose stamp was moved onto that of the row before."],
    GapRows "gap_rows" #[doc = "Rows written to hw/gaps."],
    ClockRows "clock_rows" #[doc = "Rows written to hw/clock."],
    ClockRowsLost "clock_rows_lost" #[doc = "Rows for hw/clock given up because too many waited."],
    ClockSteps "clock_steps" #[doc = "Times the wall clock was set."],
    ClockEdges "clock_edges" #[doc = "Pulses and sentences of GPS receivers written to hw/clock."],
    ClockRefused "clock_refused" #[doc = "Words of time sources that were not used."],
    ControlHeld "control_held" #[doc = "Times a slab of a control stream had to wait for room."],
    Undeclared "undeclared" #[doc = "Readings of a stream that could not be declared: no seq, no row."],
    DeviceClocks "device_clocks" #[doc = "Clocks of attached devices that began: each is a name of its own."],
    DeviceClocksRefused "device_clocks_refused" #[doc = "Frames of a device that began clocks too fast, stamped by arrival."],
    DeviceTimesRefused "device_times_refused" #[doc = "Frames whose device time is none, stamped by arrival."],
    DeviceExchanges "device_exchanges" #[doc = "Exchanges with clocks of attached devices."],
    PingsUnanswered "pings_unanswered" #[doc = "Questions for a device's time without an answer in time."],
    PongsRefused "pongs_refused" #[doc = "Answers that nobody asked for, came twice, or cannot be."],
    PacedRefuted "paced_refuted" #[doc = "Lines declared paced whose answers came faster than such a line can carry."],
    SourceStalls "source_stalls" #[doc = "Times a device let pass without samples and without numbers for them."],
    CameraStampsRefused "camera_stamps_refused" #[doc = "Stamps of cameras that cannot be: repeated, ahead of now, old."],
    CameraStampsMissing "camera_stamps_missing" #[doc = "Frames whose program said nothing of them in time."],
    LinesBundled "lines_bundled" #[doc = "Lines a program printed many at once: as old as the print before."],
    LatencyCut "latency_cut" #[doc = "Readings older than a stamp can say, 4.29 s."],
    SysReadErrors "sys_read_errors" #[doc = "Values of sensors the kernel could not read, or that are none."],
    SysDevicesGone "sys_devices_gone" #[doc = "Times a sensor of the kernel vanished."],
    SysDevicesRefused "sys_devices_refused" #[doc = "Sensors of the kernel that were not read, because there are too many."],
    SysChannelsRefused "sys_channels_refused" #[doc = "Values of sensors left out: too many of one, or of a name taken."],
    PollsMissed "polls_missed" #[doc = "Polls left out because the one before took too long."],
    W1CrcErrors "w1_crc_errors" #[doc = "Answers of 1-Wire thermometers with a wrong checksum."],
    W1PowerOn "w1_power_on" #[doc = "Answers of 1-Wire thermometers that had not converted (85 °C)."],
    W1NoAnswer "w1_no_answer" #[doc = "Answers of 1-Wire thermometers that are a line held low."],
    GpsdOthers "gpsd_others" #[doc = "Reports of receivers of gpsd that are not the one captured."],
    GpsdRepeats "gpsd_repeats" #[doc = "Fixes gpsd told again."],
    ReceiptsLost "receipts_lost" #[doc = "Receipts a source could not be given: its pictures are captured twice."],
}

/// Adds to a counter.
pub fn count(counter: Counter, n: u64) {
    if let Some(count) = COUNTS.get(counter as usize) {
        count.fetch_add(n, Ordering::Relaxed);
    }
}

/// All counters that moved, by name.
#[must_use]
pub fn counts() -> BTreeMap<String, u64> {
    Counter::ALL
        .iter()
        .filter_map(|counter| {
            let n = COUNTS.get(*counter as usize)?.load(Ordering::Relaxed);
            (n > 0).then(|| (counter.name().to_owned(), n))
        })
        .collect()
}

static REASONS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// The last reasons for setting something aside, oldest first.
#[must_use]
pub fn set_aside_reasons() -> Vec<String> {
    REASONS.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

static TROUBLES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Says what is wrong with a source that works, or that nothing is any more.
pub fn trouble(stream: &StreamName, why: Option<&str>) {
    let mut troubles = TROUBLES.lock().unwrap_or_else(PoisonError::into_inner);
    match why {
        Some(why) => {
            warn!(stream = %stream, why, "source works, but not as it should");
            troubles.insert(stream.to_string(), headwater_core::gap::truncated(why, REASON_BYTES_MAX));
        }
        None => {
            if troubles.remove(stream.as_str()).is_some() {
                info!(stream = %stream, "source works as it should again");
            }
        }
    }
}

/// What is wrong with sources that work; at most one word a source.
#[must_use]
pub fn troubles() -> BTreeMap<String, String> {
    TROUBLES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A clock of an attached device, when it was last compared with ours.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceClockStatus {
    /// Its name, `device:N`.
    pub domain: String,
    /// How long the exchange was under way, µs: the offset is known to half of it.
    pub rtt_us: i64,
    /// Boot time of it, ns.
    pub at_boot_ns: i64,
}

static DEVICE_CLOCKS: Mutex<BTreeMap<String, DeviceClockStatus>> = Mutex::new(BTreeMap::new());

/// Clocks of attached devices, by source.
#[must_use]
pub fn device_clocks() -> BTreeMap<String, DeviceClockStatus> {
    DEVICE_CLOCKS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The clock of an attached device met ours.
#[derive(Debug)]
pub struct DeviceMet<'a> {
    /// Stream of its source.
    pub stream: &'a StreamName,
    /// The clock.
    pub domain: ClockDomain,
    /// How long it took, ns.
    pub rtt_ns: i64,
    /// When.
    pub at: BootNanos,
}

impl DeviceMet<'_> {
    /// Logs, and keeps it for the status.
    pub fn emit(&self) {
        let Self { stream, domain, rtt_ns, at } = self;
        tracing::trace!(%stream, %domain, rtt_ns, "clocks met");
        let status =
            DeviceClockStatus { domain: domain.to_string(), rtt_us: rtt_ns / 1_000, at_boot_ns: at.0 };
        DEVICE_CLOCKS.lock().unwrap_or_else(PoisonError::into_inner).insert(stream.to_string(), status);
    }
}

/// A device let time pass without samples and without numbers for them.
#[derive(Debug)]
pub struct SourceStall<'a> {
    /// The stream.
    pub stream: &'a StreamName,
    /// How long, ms of its clock.
    pub ms: u64,
}

impl SourceStall<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        count(Counter::SourceStalls, 1);
        warn!(stream = %self.stream, ms = self.ms, "device took no samples for a while and lost no numbers: it was held up");
    }
}

static DOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Sources that are away now, and why.
#[must_use]
pub fn sources_down() -> BTreeMap<String, String> {
    DOWN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Something that is no reading was set aside.
#[derive(Debug)]
pub struct SetAside<'a> {
    /// Whose it would have been.
    pub stream: &'a StreamName,
    /// Why it is none.
    pub why: &'a str,
    /// Its bytes.
    pub bytes: usize,
}

impl SetAside<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        count(Counter::SetAside, 1);
        warn!(stream = %self.stream, why = self.why, bytes = self.bytes, "set aside what is no reading");
        let reason = format!("{}: {}", self.stream, self.why);
        let mut reasons = REASONS.lock().unwrap_or_else(PoisonError::into_inner);
        if reasons.len() >= REASONS_MAX {
            reasons.pop_front();
        }
        reasons.push_back(headwater_core::gap::truncated(&reason, REASON_BYTES_MAX));
    }
}

/// Rows are lost and have a gap record.
#[derive(Debug)]
pub struct RowsLost<'a> {
    /// Whose.
    pub stream: &'a StreamName,
    /// How many.
    pub rows: u64,
    /// Why.
    pub cause: &'static str,
    /// What happened.
    pub note: &'a str,
    /// The counter to move.
    pub counter: Counter,
}

impl RowsLost<'_> {
    /// Logs and counts.
    pub fn emit(&self) {
        count(self.counter, self.rows);
        warn!(stream = %self.stream, rows = self.rows, cause = self.cause, note = self.note, "rows lost, gap recorded");
    }
}

/// A source cannot be reached and will be tried again.
#[derive(Debug)]
pub struct SourceDown<'a> {
    /// Its stream.
    pub stream: &'a StreamName,
    /// Why.
    pub why: &'a str,
    /// When it is tried again, ms from now.
    pub retry_ms: u64,
    /// Tries without success so far.
    pub tries: u32,
}

impl SourceDown<'_> {
    /// Logs and counts; only the first of a row of failures is a warning.
    pub fn emit(&self) {
        count(Counter::SourceDown, 1);
        let mut down = DOWN.lock().unwrap_or_else(PoisonError::into_inner);
        down.insert(self.stream.to_string(), headwater_core::gap::truncated(self.why, REASON_BYTES_MAX));
        drop(down);
        if self.tries <= 1 {
            warn!(stream = %self.stream, why = self.why, retry_ms = self.retry_ms, "source is down");
        } else {
            debug!(stream = %self.stream, why = self.why, retry_ms = self.retry_ms, tries = self.tries, "source is still down");
        }
    }
}

/// A source works again, or for the first time.
#[derive(Debug)]
pub struct SourceUp<'a> {
    /// Its stream.
    pub stream: &'a StreamName,
    /// What was opened.
    pub what: &'a str,
}

impl SourceUp<'_> {
    /// Logs.
    pub fn emit(&self) {
        DOWN.lock().unwrap_or_else(PoisonError::into_inner).remove(self.stream.as_str());
        info!(stream = %self.stream, what = self.what, "source is up");
    }
}

/// A source is over for good.
#[derive(Debug)]
pub struct SourceOver<'a> {
    /// Its stream.
    pub stream: &'a StreamName,
    /// Why.
    pub why: &'a SourceError,
}

impl SourceOver<'_> {
    /// Logs.
    pub fn emit(&self) {
        if *self.why == SourceError::Ended {
            DOWN.lock().unwrap_or_else(PoisonError::into_inner).remove(self.stream.as_str());
        }
        match self.why {
            SourceError::Ended => info!(stream = %self.stream, "source ended"),
            SourceError::Broken(why) => error!(stream = %self.stream, why, "source is broken"),
        }
    }
}

/// A line an attached device logged.
#[derive(Debug)]
pub struct DeviceLog<'a> {
    /// Stream of its source.
    pub stream: &'a StreamName,
    /// 1 error … 5 trace.
    pub level: u8,
    /// The line.
    pub text: &'a str,
}

impl DeviceLog<'_> {
    /// Logs.
    pub fn emit(&self) {
        match self.level {
            1 | 2 => warn!(stream = %self.stream, text = self.text, "device says"),
            3 => info!(stream = %self.stream, text = self.text, "device says"),
            _ => debug!(stream = %self.stream, text = self.text, "device says"),
        }
    }
}

/// A stream could not be declared, so its readings cannot be kept.
#[derive(Debug)]
pub struct StreamRefused<'a> {
    /// The stream.
    pub stream: &'a StreamName,
    /// Why.
    pub why: &'a str,
}

impl StreamRefused<'_> {
    /// Logs.
    pub fn emit(&self) {
        error!(stream = %self.stream, why = self.why, "stream cannot be captured");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_names_of_their_own_and_the_reasons_are_bounded() {
        let names: std::collections::BTreeSet<&str> = Counter::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), COUNTS.len());
        let stream: StreamName = "camera/front".parse().unwrap();
        for n in 0..20 {
            SetAside { stream: &stream, why: &format!("reason {n} {}", "x".repeat(400)), bytes: 1 }.emit();
        }
        let reasons = set_aside_reasons();
        assert!(reasons.len() <= REASONS_MAX && reasons.iter().all(|r| r.len() <= REASON_BYTES_MAX));
        assert!(counts().get("set_aside").is_some_and(|n| *n >= 20));
    }
}
