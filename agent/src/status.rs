//! How the agent is: a small JSON file for machines, and what to do about it for people.

mod delivery;

pub use delivery::{DeliveryStatus, SpentStatus};

use crate::config::SpoolSettings;
use crate::observe::ClockStatus;
use crate::spool::{DegradedMode, HealthReport};
use crate::stamp::SLAB_MS_MAX;
use crate::telemetry::DeviceClockStatus;
use headwater_core::gap::truncated;
use headwater_core::id::{BootId, BootOrdinal, DevicePath, Epoch};
use headwater_core::ports::{Clock, SpoolUsage, StreamState};
use headwater_core::time::{BootNanos, Grade, NS_PER_MS, NS_PER_S};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

/// A status older than this, s, is of an agent that hangs or is gone.
const STALE_S: i64 = 10;
/// State of an agent that was told to end, and of one that did.
const STOPPING: &str = "stopping";
/// Share of the spool's budget from which people should act, percent.
const FULL_PERCENT: u64 = 80;
/// Days before the end of a certificate from which people should act.
const EXPIRY_DAYS: i64 = 30;
/// Silence of the collector that is worth a word, ms.
const SILENT_MS: i64 = 120_000;

/// The status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// `tenant/device`.
    pub device: String,
    /// Version of the agent.
    pub version: String,
    /// `running` or `stopping`.
    pub state: String,
    /// Life of the spool.
    pub epoch: String,
    /// Boot counter.
    pub boot_ordinal: u32,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Process id.
    pub pid: u32,
    /// Boot time of writing, ns.
    pub at_boot_ns: i64,
    /// Streams, the agent's own among them.
    pub streams: Vec<StreamStatus>,
    /// Spool.
    pub spool: SpoolStatus,
    /// Link.
    pub link: LinkStatus,
    /// Best grade the gateway's clock can claim.
    pub clock_grade: Grade,
    /// Sources of time, and what became of the wall clock.
    #[serde(default)]
    pub clock: ClockStatus,
    /// Counters since start.
    pub counters: BTreeMap<String, u64>,
    /// Sources that are away, and why.
    pub sources_down: BTreeMap<String, String>,
    /// What is wrong with sources that work.
    #[serde(default)]
    pub source_troubles: BTreeMap<String, String>,
    /// Clocks of attached devices, by source.
    #[serde(default)]
    pub device_clocks: BTreeMap<String, DeviceClockStatus>,
    /// Last reasons for setting something aside, oldest first.
    pub set_aside: Vec<String>,
    /// Resident memory, bytes; 0 if unknown.
    pub rss_bytes: u64,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Spool lane.
    pub lane: String,
    /// What its rows are worth when the spool is full.
    #[serde(default)]
    pub class: String,
    /// Next seq to be given.
    pub next_seq: u64,
    /// Rows held that the collector did not acknowledge yet.
    pub held_rows: u64,
    /// Rows the collector has.
    pub acked_rows: u64,
}

/// The spool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Bytes of segment files.
    pub bytes: u64,
    /// Budget, bytes.
    pub bytes_max: u64,
    /// Segment files.
    pub segments: u64,
    /// Rows held.
    pub rows: u64,
    /// Age of the oldest row held of this boot, ms.
    pub oldest_age_ms: Option<i64>,
    /// Bytes not yet synced.
    pub unsynced_bytes: u64,
    /// Bytes written since start.
    pub written_bytes: u64,
    /// Of these, slabs and blobs that became durable.
    #[serde(default)]
    pub payload_bytes: u64,
    /// Captured rows given up for want of room since start; gap records tell which.
    #[serde(default)]
    pub evicted_rows: u64,
    /// Segments given up for want of room since start.
    #[serde(default)]
    pub evicted_segments: u64,
    /// Rows that waited in memory for a disk that refused them, until memory was full.
    #[serde(default)]
    pub refused_rows: u64,
    /// Modes in which the spool works worse than it should.
    #[serde(default)]
    pub degraded: Vec<DegradedStatus>,
    /// Median of the last syncs, ms.
    #[serde(default)]
    pub sync_p50_ms: u64,
    /// 99th percentile of the last syncs, ms.
    #[serde(default)]
    pub sync_p99_ms: u64,
    /// What a power cut may cost: from capture to the end of the sync, ms.
    #[serde(default)]
    pub loss_window_ms: u64,
    /// Longest time appended rows stay unsynced, ms; lane control syncs at once. Absent in status of older agents.
    #[serde(default)]
    pub sync_interval_ms: Option<u64>,
}

/// A degraded mode of the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DegradedStatus {
    /// `disk_full`, `read_only`, `io_errors` or `slow_card`.
    pub mode: String,
    /// For how long, s.
    pub for_s: u64,
}

/// The link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Broker.
    pub broker: String,
    /// A link stands.
    pub connected: bool,
    /// For how long it stands or does not, ms.
    pub since_ms: Option<i64>,
    /// Age of the last ack, ms.
    pub last_ack_ms: Option<i64>,
    /// Last thing that went wrong.
    pub last_error: Option<String>,
    /// Why there is no link: `transient`, `broker_away`, `busy`, `use_another`, `not_authorized`, `taken_over`,
    /// `protocol_refused`, `closed_on_publish`, `too_large` or `untrusted`.
    #[serde(default)]
    pub cause: Option<String>,
    /// For how long links have ended so, ms.
    #[serde(default)]
    pub cause_for_ms: Option<i64>,
    /// How often in a row.
    #[serde(default)]
    pub cause_tries: u64,
    /// Who answered.
    pub incarnation: Option<String>,
    /// Newest commit with rows of this gateway.
    pub last_commit: Option<String>,
    /// The card was restored or cloned.
    pub restored_card: bool,
    /// Why the collector takes nothing of this gateway any more: its certificate is revoked.
    #[serde(default)]
    pub shut_out: Option<String>,
    /// The nearest end of its certificates, ns of UTC.
    #[serde(default)]
    pub certificate_ends_ns: Option<i64>,
    /// Days to it, as far as the time is known.
    #[serde(default)]
    pub certificate_days_left: Option<i64>,
    /// What is wrong with certificates or their renewal.
    #[serde(default)]
    pub certificate_problem: Option<String>,
    /// Bytes handed over and not confirmed by the broker.
    pub in_flight_bytes: u64,
    /// Messages handed over.
    pub messages: u64,
    /// Bytes handed over.
    pub bytes_sent: u64,
    /// Messages sent again.
    pub resends: u64,
    /// Acks used.
    pub acks: u64,
    /// Acks not used.
    pub acks_rejected: u64,
    /// Rows the collector refused for good.
    pub rows_refused: u64,
    /// Blobs that went in a smaller form than their own.
    #[serde(default)]
    pub blobs_packed: u64,
    /// Bytes that saved.
    #[serde(default)]
    pub blob_bytes_saved: u64,
    /// Blobs that went as they are because packing had used up its share of time.
    #[serde(default)]
    pub blobs_over_budget: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Connections that failed.
    pub connect_failures: u64,
    /// Messages the broker refused one by one.
    #[serde(default)]
    pub publishes_refused: u64,
    /// Of these, for their topic or payload.
    #[serde(default)]
    pub publishes_invalid: u64,
    /// From hand-over to ack, ms.
    pub ack_rtt_ms: Option<i64>,
    /// Backlog, pace and budgets.
    #[serde(default)]
    pub delivery: DeliveryStatus,
}

impl LinkStatus {
    /// What to do about a link that does not stand.
    fn remedy(&self) -> &'static str {
        match self.cause.as_deref() {
            Some("taken_over") => {
                "another gateway runs with this identity: find it, and give it certificates of its own"
            }
            Some("not_authorized") => "let this gateway in: see the broker's users and access rules",
            Some("untrusted") => "check certificates and the clock with `headwater-agent check --online`",
            Some("busy") => "the broker has too much to do, or a quota is used up: see the broker",
            Some("closed_on_publish" | "too_large") => {
                "the broker closes under our messages: lower uplink.message_bytes_max, or see the broker's log"
            }
            Some("protocol_refused") => "the broker speaks another version of MQTT: see uplink.mqtt",
            _ => "check the network and the address in [uplink] with `headwater-agent check --online`",
        }
    }
}

/// What the status is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Who we are.
    pub device: &'a DevicePath,
    /// Life of the spool.
    pub epoch: Epoch,
    /// Boot counter.
    pub boot_ordinal: BootOrdinal,
    /// The kernel's boot id.
    pub boot_id: BootId,
    /// Now.
    pub now: BootNanos,
    /// Streams.
    pub streams: &'a [StreamState],
    /// Usage of the spool.
    pub usage: SpoolUsage,
    /// How its disk is.
    pub health: HealthReport,
    /// Its settings.
    pub spool: &'a SpoolSettings,
    /// Link.
    pub link: LinkStatus,
    /// Clock.
    pub clock: ClockStatus,
    /// Shutting down.
    pub stopping: bool,
}

impl AgentStatus {
    /// Puts a status together.
    #[must_use]
    pub fn of(parts: Parts<'_>) -> Self {
        let usage = parts.usage;
        Self {
            device: parts.device.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: if parts.stopping { STOPPING } else { "running" }.to_owned(),
            epoch: parts.epoch.to_string(),
            boot_ordinal: parts.boot_ordinal.0,
            boot_id: parts.boot_id.to_string(),
            pid: std::process::id(),
            at_boot_ns: parts.now.0,
            streams: parts.streams.iter().map(StreamStatus::of).collect(),
            spool: SpoolStatus {
                bytes: usage.bytes,
                bytes_max: parts.spool.bytes_max,
                segments: usage.segments,
                rows: usage.rows,
                oldest_age_ms: usage.oldest.map(|oldest| parts.now.since(oldest) / NS_PER_MS),
                unsynced_bytes: usage.unsynced_bytes,
                written_bytes: usage.written_bytes,
                payload_bytes: usage.payload_bytes,
                evicted_rows: usage.evicted_rows,
                evicted_segments: usage.evicted_segments,
                refused_rows: usage.refused_rows,
                degraded: parts.health.degraded.iter().map(DegradedStatus::of).collect(),
                sync_p50_ms: ms(parts.health.sync_p50),
                sync_p99_ms: ms(parts.health.sync_p99),
                loss_window_ms: ms(parts.spool.sync_interval)
                    .saturating_add(SLAB_MS_MAX)
                    .saturating_add(ms(parts.health.sync_p99)),
                sync_interval_ms: Some(ms(parts.spool.sync_interval)),
            },
            link: parts.link,
            clock_grade: parts.clock.grade,
            clock: parts.clock,
            counters: crate::telemetry::counts(),
            sources_down: crate::telemetry::sources_down(),
            source_troubles: crate::telemetry::troubles(),
            device_clocks: crate::telemetry::device_clocks(),
            set_aside: crate::telemetry::set_aside_reasons(),
            rss_bytes: rss_bytes(),
        }
    }

    /// Writes it so that a reader sees the old one or the new one, never half of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let fresh = file.with_extension("json.new");
        std::fs::write(&fresh, serde_json::to_vec(self).map_err(io::Error::other)?)?;
        std::fs::rename(&fresh, file)
    }

    /// Reads it.
    ///
    /// # Errors
    /// What the system says, or that it is no status.
    pub fn read(file: &Path) -> io::Result<Self> {
        serde_json::from_slice(&std::fs::read(file)?).map_err(io::Error::other)
    }

    /// What is wrong and what to do about it, worst first, as of `now` in boot `boot_id`.
    #[must_use]
    pub fn problems(&self, now: BootNanos, boot_id: BootId) -> Vec<String> {
        let mut problems = Vec::new();
        let age_s = now.since(BootNanos(self.at_boot_ns)) / NS_PER_S;
        if self.boot_id != boot_id.to_string() || age_s > STALE_S {
            problems.push(
                "the agent is not running, or hangs: see `systemctl status headwater-agent` and its log"
                    .to_owned(),
            );
        } else if self.state == STOPPING {
            problems.push("the agent was told to end: see `systemctl status headwater-agent`".to_owned());
        }
        let link = &self.link;
        if link.restored_card {
            problems.push(
                "the collector knows captures this spool does not: the card was restored or cloned; nothing is \
                 shipped until the spool starts a new epoch"
                    .to_owned(),
            );
        }
        if let Some(why) = &link.shut_out {
            problems.push(format!(
                "the collector shuts this gateway out ({why}): nothing is shipped, captures stay here; enrol it anew with \
                 `headwater-agent enroll` and a new token"
            ));
        }
        let days = link.certificate_days_left.filter(|days| *days <= EXPIRY_DAYS);
        if let Some(days) = days {
            let when = match days {
                days if days < 0 => "has ended".to_owned(),
                days => format!("ends in {days} days"),
            };
            problems.push(format!(
                "its certificate {when}: renew it (`headwater pki renew`, or `headwater-agent enroll` with a new token); \
                 shipping stops when it has ended, capture goes on"
            ));
        }
        if let Some(problem) = &link.certificate_problem {
            problems.push(problem.clone());
        }
        if !link.connected {
            let why = link.last_error.as_deref().unwrap_or("no reason known yet");
            problems.push(format!(
                "no connection to {} ({why}): {}; capture goes on",
                link.broker,
                link.remedy()
            ));
        } else if link.last_ack_ms.is_none_or(|age| age > SILENT_MS) && self.spool.rows > 0 {
            problems.push(format!(
                "connected to {}, but the collector has not answered{}: see that it runs",
                link.broker,
                link.last_ack_ms.map(|ms| format!(" for {} s", ms / 1_000)).unwrap_or_default()
            ));
        }
        problems.extend(link.delivery.problems());
        problems.extend(self.spool.degraded.iter().map(DegradedStatus::problem));
        if self.spool.bytes.saturating_mul(100) >= self.spool.bytes_max.saturating_mul(FULL_PERCENT) {
            problems.push(format!(
                "the spool is {} of {} full: at its end the least valuable captures make way; mend the link or raise \
                 spool.max_bytes",
                bytes(self.spool.bytes),
                bytes(self.spool.bytes_max)
            ));
        }
        if self.spool.evicted_rows > 0 {
            problems.push(format!(
                "{} captured rows made way for newer ones because the spool was full: see the gap records (headwater \
                 gaps); mend the link, raise spool.max_bytes or give streams a class",
                self.spool.evicted_rows
            ));
        }
        let own = |stream: &StreamStatus| stream.name.starts_with("hw/");
        if !self.streams.is_empty() && self.streams.iter().all(own) {
            problems.push("no source has yielded anything yet: try `headwater-agent test`".to_owned());
        }
        for (stream, why) in &self.source_troubles {
            problems.push(format!("source {stream} works, but not as it should: {why}"));
        }
        for (stream, why) in &self.sources_down {
            problems.push(format!("source of {stream} is away ({why}): check its cable, power or program"));
        }
        let count = |name: &str| self.counters.get(name).copied().unwrap_or(0);
        if count("rows_shed") > 0 {
            problems.push(format!(
                "{} rows were shed because the spool's disk was too slow: see the gap records; use a faster card",
                count("rows_shed")
            ));
        }
        if count("rows_lost") > 0 {
            problems.push(format!(
                "{} rows were lost before the agent had them: see the gap records (headwater gaps)",
                count("rows_lost")
            ));
        }
        if count("undeclared") > 0 {
            problems.push(format!(
                "{} readings belong to streams that cannot be captured: see the log",
                count("undeclared")
            ));
        }
        if let Some(last) = self.set_aside.last() {
            problems.push(format!(
                "{} things were set aside, last: {last}; they are in the spool's quarantine folder",
                count("set_aside")
            ));
        }
        if self.clock_grade == Grade::OrderingOnly {
            problems.push(
                "the clock is not synchronised: captures keep their order, and their times are put right later".to_owned(),
            );
        }
        problems.extend(self.clock.problems(now));
        problems
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self, now: BootNanos, boot_id: BootId) -> String {
        let mut text = String::new();
        let link = &self.link;
        let connected = if link.connected { "connected" } else { "not connected" };
        let ack =
            link.last_ack_ms.map_or_else(|| "none yet".to_owned(), |ms| format!("{} s ago", ms / 1_000));
        let mut line = |label: &str, value: String| {
            // Writing to a string cannot fail.
            writeln!(text, "{label:<9}{value}").unwrap_or_default();
        };
        line("device", format!("{} (epoch {}, boot {})", self.device, self.epoch, self.boot_ordinal));
        line("link", format!("{connected} to {}, last ack {ack}", link.broker));
        let saved = match link.blobs_packed {
            0 => String::new(),
            n => format!(", {n} pictures and blobs packed, {} saved", bytes(link.blob_bytes_saved)),
        };
        line("sent", format!("{} in {} messages{saved}", bytes(link.bytes_sent), link.messages));
        line("backlog", link.delivery.text());
        let SpoolStatus { bytes: used, bytes_max, rows, oldest_age_ms, .. } = &self.spool;
        let oldest = oldest_age_ms.map(|ms| format!(", the oldest for {} s", ms / 1_000)).unwrap_or_default();
        line("spool", format!("{} of {}, {rows} rows waiting{oldest}", bytes(*used), bytes(*bytes_max)));
        let SpoolStatus { sync_p50_ms, sync_p99_ms, loss_window_ms, .. } = &self.spool;
        line(
            "disk",
            format!(
                "syncs take {sync_p50_ms} ms, p99 {sync_p99_ms} ms; a power cut costs at most {loss_window_ms} ms"
            ),
        );
        for (label, of) in std::iter::once("clock").chain(std::iter::repeat("")).zip(self.clock.lines(now)) {
            line(label, of);
        }
        for (stream, clock) in &self.device_clocks {
            let age_s = now.since(BootNanos(clock.at_boot_ns)) / NS_PER_S;
            let DeviceClockStatus { domain, rtt_us, .. } = clock;
            line("", format!("{stream}: {domain}, compared {age_s} s ago in {rtt_us} us"));
        }
        if let Some(days) = link.certificate_days_left {
            line("certs", format!("{days} days left"));
        }
        line("memory", bytes(self.rss_bytes));
        for stream in &self.streams {
            let StreamStatus { name, kind, next_seq, held_rows, acked_rows, .. } = stream;
            line(
                "stream",
                format!("{name} ({kind}): {next_seq} captured, {held_rows} held, {acked_rows} acked"),
            );
        }
        let problems = self.problems(now, boot_id);
        if problems.is_empty() {
            line("", "all is well".to_owned());
        }
        problems.into_iter().for_each(|problem| line("!", problem));
        text
    }
}

impl StreamStatus {
    fn of(stream: &StreamState) -> Self {
        // What the collector has stays on disk until its whole segment can go; it is held no longer.
        let held = stream.held.iter().flat_map(|range| stream.acked.missing_in(range));
        Self {
            name: stream.name.to_string(),
            kind: stream.schema.kind.to_string(),
            lane: stream.policy.lane.as_str().to_owned(),
            class: stream.policy.class.as_str().to_owned(),
            next_seq: stream.next_seq.0,
            held_rows: held.map(|range| range.end.saturating_sub(range.start)).sum(),
            acked_rows: stream.acked.count(),
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl DegradedStatus {
    fn of((mode, since): &(DegradedMode, Duration)) -> Self {
        Self { mode: mode.to_string(), for_s: since.as_secs() }
    }

    /// What it means and what to do.
    fn problem(&self) -> String {
        let Self { mode, for_s } = self;
        let what = match mode.as_str() {
            "disk_full" => {
                "the disk or the spool's budget is full: captures of little worth make way, see the gap records; \
                 free the disk, mend the link or raise spool.max_bytes"
            }
            "read_only" => {
                "the spool's file system is read-only: captures wait in memory, the least valuable go when it is \
                 full; see `dmesg`, remount it or replace the card"
            }
            "io_errors" => {
                "the spool's disk fails: captures wait in memory, the least valuable go when it is full; see \
                 `dmesg` and replace the card"
            }
            "slow_card" => "the card takes seconds to sync: it is likely worn out; replace it soon",
            _ => "the spool is degraded",
        };
        format!("{what} ({mode} for {for_s} s)")
    }
}

/// A size for people.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    UNITS.iter().find(|(shift, _)| n >> shift > 0).map_or_else(
        || format!("{n} B"),
        |(shift, unit)| {
            let tenths = (n >> (shift - 10)).saturating_mul(10) >> 10;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        },
    )
}

/// Resident memory of this process; 0 if the system does not say.
#[must_use]
pub fn rss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1_024)
}

/// The kernel's name for this boot.
///
/// # Errors
/// What the system says.
pub fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    text.trim().parse().map_err(|error| io::Error::other(truncated(&format!("{error}"), 200)))
}

/// Now, for those who show a status.
#[must_use]
pub fn now() -> BootNanos {
    crate::clock::BootClock.boot()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> AgentStatus {
        AgentStatus::of(Parts {
            device: &DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() },
            epoch: Epoch(1),
            boot_ordinal: BootOrdinal(2),
            boot_id: BootId([3; 16]),
            now: BootNanos(5 * NS_PER_S),
            streams: &[],
            usage: SpoolUsage { bytes: 900, rows: 7, ..SpoolUsage::default() },
            health: HealthReport::default(),
            spool: &SpoolSettings {
                dir: "/spool".into(),
                bytes_max: 1_000,
                free_bytes_min: 0,
                sync_interval: Duration::from_secs(1),
                retain_until: crate::ship::RetainUntil::Committed,
            },
            link: LinkStatus { broker: "mqtts://hq:8883".into(), ..LinkStatus::default() },
            clock: ClockStatus { grade: Grade::Estimated, ..ClockStatus::default() },
            stopping: false,
        })
    }

    #[test]
    fn is_written_whole_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("run/status.json");
        let status = status();
        status.write(&file).unwrap();
        assert_eq!(AgentStatus::read(&file).unwrap(), status);
        assert_eq!(std::fs::read_dir(dir.path().join("run")).unwrap().count(), 1);
    }

    #[test]
    fn says_what_is_wrong_and_what_to_do() {
        let mut status = status();
        let text = status.to_text(BootNanos(6 * NS_PER_S), BootId([3; 16]));
        assert!(
            text.contains("no connection to mqtts://hq:8883") && text.contains("spool.max_bytes"),
            "{text}"
        );
        assert!(text.contains("a power cut costs at most 2000 ms"), "{text}");
        assert!(!text.contains("not running"));
        assert!(status.problems(BootNanos(60 * NS_PER_S), BootId([3; 16]))[0].contains("not running"));
        assert!(status.problems(BootNanos(6 * NS_PER_S), BootId([4; 16]))[0].contains("not running"));
        status.link.shut_out = Some("certificate 07 is revoked: key_compromise".into());
        status.link.certificate_days_left = Some(6);
        let told = status.to_text(BootNanos(6 * NS_PER_S), BootId([3; 16]));
        assert!(
            told.contains("shuts this gateway out (certificate 07") && told.contains("ends in 6 days"),
            "{told}"
        );
        (status.link.shut_out, status.link.certificate_days_left) = (None, Some(90));
        status.link.connected = true;
        status.link.last_ack_ms = Some(3_000);
        status.spool.bytes = 0;
        (status.counters, status.set_aside) = (BTreeMap::new(), Vec::new());
        (status.sources_down, status.source_troubles) = (BTreeMap::new(), BTreeMap::new());
        assert!(status.to_text(BootNanos(6 * NS_PER_S), BootId([3; 16])).contains("all is well"));
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(4 << 30), "4.0 GiB");
        assert!(rss_bytes() > 0);
        assert!(boot_id().is_ok());
    }
}
