//! What the agent says of itself: one JSON file, written whole, for people, tools and tests.

use crate::ship::ShipStatus;
use headwater_core::id::{BootOrdinal, DevicePath, Epoch};
use headwater_core::ports::{SpoolUsage, StreamState};
use headwater_core::time::{BootNanos, Grade, NS_PER_MS, UtcNanos};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// The whole status.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// `tenant/device`.
    pub device: String,
    /// Version of the agent.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Life of the spool, 16 hex digits.
    pub epoch: String,
    /// Boot ordinal.
    pub boot_ordinal: u32,
    /// Wall clock when this was written, ns since 1970, for what it is worth.
    pub written_utc_ns: i64,
    /// The best grade this gateway's clock can claim.
    pub clock_grade: Grade,
    /// Streams.
    pub streams: Vec<StreamStatus>,
    /// The spool.
    pub spool: SpoolStatus,
    /// The link.
    pub link: LinkStatus,
    /// Counters that moved.
    pub counters: BTreeMap<String, u64>,
    /// Last reasons for setting something aside.
    pub set_aside: Vec<String>,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
}

/// One stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Spool lane.
    pub lane: String,
    /// Next seq to be given to a spooled row.
    pub next_seq: u64,
    /// Rows held that the collector did not acknowledge yet.
    pub held_rows: u64,
    /// Rows it acknowledged, to the level the spool trims on.
    pub acked_rows: u64,
}

/// The spool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Bytes of segment files.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Age of the oldest unreleased slab of this boot, ms.
    pub oldest_age_ms: Option<i64>,
    /// Bytes that a power cut now would cost.
    pub unsynced_bytes: u64,
    /// Bytes written to the device since start.
    pub written_bytes: u64,
}

/// The link.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkStatus {
    /// A link stands.
    pub connected: bool,
    /// Since how long it stands, or does not, ms.
    pub since_ms: Option<i64>,
    /// Age of the last ack used, ms.
    pub last_ack_ms: Option<i64>,
    /// Last thing that went wrong.
    pub last_error: Option<String>,
    /// The card was restored or cloned: nothing is shipped before a new epoch.
    pub restored_card: bool,
    /// Bytes handed over and not taken by the broker.
    pub in_flight_bytes: u64,
    /// Bytes handed over in this life, with about 80 bytes of framing a message.
    pub bytes_sent: u64,
    /// The receiver that answered.
    pub incarnation: Option<String>,
    /// Newest commit with rows of this device.
    pub last_commit: Option<String>,
    /// Acks used.
    pub acks: u64,
    /// Acks that failed a check.
    pub acks_rejected: u64,
    /// Messages sent again for want of an ack.
    pub resends: u64,
    /// Connections after the first.
    pub reconnects: u64,
    /// Connections that did not come about.
    pub connect_failures: u64,
    /// Rows the collector refused, each in a gap record.
    pub rows_refused: u64,
}

/// What a status is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Who.
    pub device: &'a DevicePath,
    /// Spool's life.
    pub epoch: Epoch,
    /// Boot.
    pub boot_ordinal: BootOrdinal,
    /// Now, boot time.
    pub now: BootNanos,
    /// Now, wall clock.
    pub utc: UtcNanos,
    /// Clock's grade.
    pub clock_grade: Grade,
    /// Streams of the spool.
    pub streams: &'a [StreamState],
    /// Spool.
    pub usage: SpoolUsage,
    /// Link.
    pub ship: &'a ShipStatus,
}

impl Status {
    /// Puts a status together.
    #[must_use]
    pub fn new(parts: &Parts<'_>) -> Self {
        let age = |at: BootNanos| parts.now.since(at) / NS_PER_MS;
        let ship = parts.ship;
        Self {
            device: parts.device.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            epoch: parts.epoch.to_string(),
            boot_ordinal: parts.boot_ordinal.0,
            written_utc_ns: parts.utc.0,
            clock_grade: parts.clock_grade,
            streams: parts.streams.iter().map(StreamStatus::new).collect(),
            spool: SpoolStatus {
                bytes: parts.usage.bytes,
                segments: parts.usage.segments,
                oldest_age_ms: parts.usage.oldest.map(age),
                unsynced_bytes: parts.usage.unsynced_bytes,
                written_bytes: parts.usage.written_bytes,
            },
            link: LinkStatus {
                connected: ship.connected,
                since_ms: ship.since.map(age),
                last_ack_ms: ship.last_ack.map(age),
                last_error: ship.last_error.clone(),
                restored_card: ship.restored_card,
                in_flight_bytes: ship.in_flight_bytes,
                bytes_sent: ship.counters.bytes_sent,
                incarnation: ship.incarnation.map(|id| id.to_string()),
                last_commit: ship.last_commit.map(|id| id.to_string()),
                acks: ship.counters.acks,
                acks_rejected: ship.counters.acks_rejected,
                resends: ship.counters.resends,
                reconnects: ship.counters.reconnects,
                connect_failures: ship.counters.connect_failures,
                rows_refused: ship.counters.rows_refused,
            },
            counters: crate::telemetry::counts(),
            set_aside: crate::telemetry::set_aside_reasons(),
            rss_bytes: rss_bytes(),
        }
    }

    /// Writes it whole: readers see the old file or the new one.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let aside = file.with_extension("tmp");
        std::fs::write(&aside, serde_json::to_vec_pretty(self).map_err(io::Error::other)?)?;
        std::fs::rename(&aside, file)
    }

    /// The status as people read it: how it stands first, then what is wrong and what to do.
    #[must_use]
    pub fn for_people(&self) -> String {
        let mut out = String::new();
        let mut line = |text: String| {
            // Writing to a String cannot fail.
            let _written = writeln!(out, "{text}");
        };
        let seconds =
            |ms: Option<i64>| ms.map_or("never".to_owned(), |ms| format!("{:.1} s ago", ms_to_s(ms)));
        line(format!(
            "{}  agent {}  epoch {}  boot {}",
            self.device, self.version, self.epoch, self.boot_ordinal
        ));
        line(format!(
            "link    {}, last ack {}, {} bytes sent, {} reconnects",
            if self.link.connected { "connected" } else { "down" },
            seconds(self.link.last_ack_ms),
            self.link.bytes_sent,
            self.link.reconnects
        ));
        line(format!(
            "spool   {} bytes in {} files, oldest {}, {} bytes not yet synced",
            self.spool.bytes,
            self.spool.segments,
            seconds(self.spool.oldest_age_ms),
            self.spool.unsynced_bytes
        ));
        line(format!("clock   {}", self.clock_grade.as_str()));
        for stream in &self.streams {
            line(format!(
                "  {:<24} {:<10} next {:>10}  held {:>8}  acknowledged {:>10}",
                stream.name, stream.kind, stream.next_seq, stream.held_rows, stream.acked_rows
            ));
        }
        for reason in &self.set_aside {
            line(format!("set aside  {reason}"));
        }
        for advice in self.advice() {
            line(format!("!  {advice}"));
        }
        out
    }

    /// What is wrong and what to do about it.
    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if !self.link.connected {
            let why = self.link.last_error.as_deref().unwrap_or("no connection yet");
            advice.push(format!(
                "not connected ({why}): check uplink.broker and the network; captures are kept meanwhile"
            ));
        } else if self.link.last_ack_ms.is_none_or(|ms| ms > 60_000) {
            advice.push(
                "the broker is there but no collector answers: is headwater-collector running?".to_owned(),
            );
        }
        if self.link.restored_card {
            advice
                .push("this card was restored or cloned; restart the agent to begin a new epoch".to_owned());
        }
        if self.streams.iter().all(|stream| stream.name.starts_with("hw/")) {
            advice.push("no source has yielded anything yet: try headwater-agent test".to_owned());
        }
        advice
    }
}

fn ms_to_s(ms: i64) -> f64 {
    // Ages are far below 2^52 ms.
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let ms = ms as f64;
    ms / 1_000.0
}

impl StreamStatus {
    fn new(state: &StreamState) -> Self {
        let held = state.held.iter().flat_map(|range| state.acked.missing_in(range));
        Self {
            name: state.name.to_string(),
            kind: state.schema.kind.to_string(),
            lane: state.lane.as_str().to_owned(),
            next_seq: state.next_seq.0,
            held_rows: held.map(|range| range.end.saturating_sub(range.start)).sum(),
            acked_rows: state.acked.count(),
        }
    }
}

fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_back_and_says_what_to_do() {
        let device = DevicePath { tenant: "acme".parse().unwrap(), device: "pi-1".parse().unwrap() };
        let status = Status::new(&Parts {
            device: &device,
            epoch: Epoch(7),
            boot_ordinal: BootOrdinal(2),
            now: BootNanos(5_000_000_000),
            utc: UtcNanos(1),
            clock_grade: Grade::Estimated,
            streams: &[],
            usage: SpoolUsage::default(),
            ship: &ShipStatus { last_error: Some("refused".to_owned()), ..ShipStatus::default() },
        });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("status.json");
        status.write(&file).unwrap();
        let back: Status = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(back.epoch, "0000000000000007");
        let text = back.for_people();
        assert!(text.contains("check uplink.broker") && text.contains("headwater-agent test"), "{text}");
    }
}
