//! What the collector knows of itself, in one place for every page that shows it.

use crate::ingest::{DeviceClock, FleetClocks};
use crate::land::{CommitMark, LandedWatch, LandingPosition, is_below};
use crate::receive::clock::QualitySource;
use crate::receive::task::CreditBoard;
use crate::registry::Registry;
use headwater_core::id::DeviceId;
use headwater_core::invariant::{Invariant, broken};
use headwater_core::time::{ClockReading, NS_PER_MS, UtcNanos};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// A commit may be late by this many intervals (and at least by [`COMMIT_LATE_NS_MIN`]) before the collector
/// counts as not ready: one slow commit is no outage.
const COMMIT_LATE_INTERVALS: i64 = 6;
/// See [`COMMIT_LATE_INTERVALS`].
const COMMIT_LATE_NS_MIN: i64 = 60_000_000_000;
/// Streams named among the warnings.
const WARNINGS_MAX: usize = 20;

/// Whether the collector can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, and why.
    NotReady(Vec<String>),
}

/// Watches what the stages tell of themselves; cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    /// Tenant.
    pub tenant: String,
    /// Receiver.
    pub receiver: String,
    /// When the process started.
    pub started: UtcNanos,
    /// True while connected to the broker.
    pub connected: watch::Receiver<bool>,
    /// Synced end of the landing log. Closed once receiving ended.
    pub landed: LandedWatch,
    /// The newest commit.
    pub commits: watch::Receiver<CommitMark>,
    /// `commit.interval_ms`.
    pub commit_interval_ms: u64,
    /// Devices and their streams.
    pub registry: Registry,
    /// The fleet's credit.
    pub credit: watch::Receiver<CreditBoard>,
    /// What this host's own UTC is worth.
    pub own_clock: QualitySource,
    /// `clock.alarm_ms`, ns.
    pub clock_alarm_ns: i64,
    /// The fleet's clocks, as the newest commits show them.
    pub clocks: watch::Receiver<FleetClocks>,
}

impl StatusBoard {
    /// Whether the collector can do its work at `now`, and if not, why.
    #[must_use]
    pub fn readiness(&self, now: UtcNanos) -> Readiness {
        let mut reasons = Vec::new();
        if !*self.connected.borrow() {
            reasons.push("not connected to the broker".to_owned());
        }
        if self.landed.has_changed().is_err() {
            reasons.push("landing has ended".to_owned());
        }
        let mark = self.commits.borrow();
        let landed = *self.landed.borrow();
        let behind =
            landed != LandingPosition::start_of(landed.incarnation) && !is_below(&mark.cursors, &landed);
        let since = mark.at.unwrap_or(self.started);
        let interval = i64::try_from(self.commit_interval_ms).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS);
        let late = interval.saturating_mul(COMMIT_LATE_INTERVALS).max(COMMIT_LATE_NS_MIN);
        if behind && now.since(since) > late {
            reasons.push(format!(
                "newest commit is {} s old and captures wait",
                now.since(since) / 1_000_000_000
            ));
        }
        if reasons.is_empty() { Readiness::Ready } else { Readiness::NotReady(reasons) }
    }

    /// What does not keep the collector from working and should be looked at all the same.
    #[must_use]
    pub fn warnings(&self, reading: ClockReading) -> Vec<String> {
        let mut warnings = Vec::new();
        let own = self.own_clock.judged(reading);
        if !own.synchronised {
            warnings.push(format!("own clock is not synchronised, so nothing is guaranteed: {}", own.why));
        } else if own.is_alarming(self.clock_alarm_ns) {
            let (bound, alarm) = (own.bound_ns / NS_PER_MS, self.clock_alarm_ns / NS_PER_MS);
            warnings.push(format!("own clock is right within {bound} ms only, clock.alarm_ms is {alarm}"));
        }
        let clocks = self.clocks.borrow();
        let beyond = clocks.devices.iter().flat_map(|(device, clock)| {
            clock.beyond.iter().map(move |(stream, beyond)| {
                let (err, require) = (beyond.err_ns / NS_PER_MS, beyond.require_ns / NS_PER_MS);
                format!("{device} {stream} is timed within {err} ms, required are {require} ms")
            })
        });
        // The worst are in `/api/status`; a page of warnings is read by nobody.
        warnings.extend(beyond.take(WARNINGS_MAX));
        warnings
    }

    /// The same as JSON, with what there is beside it.
    #[must_use]
    pub fn status(&self, reading: ClockReading) -> Value {
        let now = reading.real;
        let landed = *self.landed.borrow();
        let mark = self.commits.borrow().clone();
        let not_ready = match self.readiness(now) {
            Readiness::Ready => Vec::new(),
            Readiness::NotReady(reasons) => reasons,
        };
        let credit = self.credit.borrow().clone();
        let over: BTreeMap<_, _> =
            credit.over_quota.iter().map(|(device, reason, today)| (device, (reason, today))).collect();
        let devices: Vec<Value> = self
            .registry
            .devices()
            .into_iter()
            .map(|(device, keys)| {
                let serials: Vec<&str> = keys.iter().map(|key| key.signer.serial.as_str()).collect();
                let over = over
                    .get(&device)
                    .map(|(reason, today)| json!({ "over": reason.as_str(), "bytes_today": today }));
                let revoked: Vec<&str> = serials
                    .iter()
                    .copied()
                    .filter(|serial| self.registry.revoked(serial).is_some())
                    .collect();
                let ends = keys.iter().map(|key| key.signer.not_after.0).max();
                json!({
                    "device": device.device.as_str(),
                    "key_serials": serials,
                    "quota": over,
                    "revoked": revoked,
                    "certificate_ends_ns": ends,
                })
            })
            .collect();
        let broken: serde_json::Map<String, Value> = Invariant::ALL
            .iter()
            .filter(|invariant| broken(**invariant) > 0)
            .map(|invariant| (invariant.to_string(), json!(broken(*invariant))))
            .collect();
        json!({
            "software": crate::SOFTWARE,
            "tenant": self.tenant,
            "receiver": self.receiver,
            "started_ns": self.started.0,
            "now_ns": now.0,
            "connected": *self.connected.borrow(),
            "ready": not_ready.is_empty(),
            "not_ready": not_ready,
            "landing": {
                "incarnation": landed.incarnation.to_string(),
                "segment": landed.segment,
                "offset": landed.offset,
            },
            "commit": {
                "id": mark.commit.map(|id| id.to_string()),
                "at_ns": mark.at.map(|at| at.0),
                "landing_committed": is_below(&mark.cursors, &landed),
            },
            "credit": {
                "charged_bytes": credit.state.charged,
                "peak_bytes": credit.state.peak,
                "limit_bytes": credit.state.limit,
                "waiting_devices": credit.state.waiting,
                "over_quota_devices": credit.state.over_quota,
            },
            "own_clock": self.own_clock_json(reading),
            "clocks": clocks_json(&self.clocks.borrow()),
            "warnings": self.warnings(reading),
            "devices": devices,
            "broken_invariants": broken,
        })
    }
}

impl StatusBoard {
    fn own_clock_json(&self, reading: ClockReading) -> Value {
        let own = self.own_clock.judged(reading);
        json!({
            "bound_ns": own.bound_ns,
            "grade": own.grade.as_str(),
            "synchronised": own.synchronised,
            "source": own.source,
            "why": own.why,
            "alarm": own.is_alarming(self.clock_alarm_ns),
        })
    }
}

fn clocks_json(clocks: &FleetClocks) -> Value {
    let device = |(device, clock): (&DeviceId, &DeviceClock)| {
        let beyond: Vec<Value> = clock
            .beyond
            .iter()
            .map(|(stream, beyond)| {
                json!({
                    "stream": stream.as_str(),
                    "require_ns": beyond.require_ns,
                    "err_ns": beyond.err_ns,
                    "since_ns": beyond.since.0,
                })
            })
            .collect();
        json!({
            "device": device.as_str(),
            "boot_ordinal": clock.boot.0,
            "ts_ns": clock.ts.0,
            "err_ns": clock.err_ns,
            "grade": clock.grade.as_str(),
            "seen_ns": clock.seen.0,
            "beyond": beyond,
            "rows_beyond": clock.rows_beyond,
        })
    };
    json!({
        "devices": clocks.devices.iter().map(device).collect::<Vec<_>>(),
        "correction_rows": clocks.correction_rows,
        "correction_rows_to_write": clocks.correction_rows_to_write,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::StreamBeyond;
    use crate::land::LandingCursors;
    use headwater_core::id::{BootOrdinal, IncarnationId};
    use headwater_core::time::{BootNanos, Grade};

    #[test]
    fn readiness_names_every_reason() {
        let at = |offset| LandingPosition { incarnation: IncarnationId([1; 16]), segment: 0, offset };
        let (connected_tx, connected) = watch::channel(true);
        let (landed_tx, landed) = watch::channel(at(64));
        let (commits_tx, commits) = watch::channel(CommitMark::default());
        let (clocks_tx, clocks) = watch::channel(FleetClocks::default());
        let board = StatusBoard {
            tenant: "acme".into(),
            receiver: "hq".into(),
            started: UtcNanos(0),
            connected,
            landed,
            commits,
            commit_interval_ms: 20_000,
            registry: Registry::new(),
            credit: watch::channel(CreditBoard::default()).1,
            own_clock: QualitySource::asked(1),
            clock_alarm_ns: 100,
            clocks,
        };
        let s = |n: i64| UtcNanos(n * 1_000_000_000);
        assert_eq!(board.readiness(s(100_000)), Readiness::Ready, "nothing was landed yet");
        landed_tx.send_replace(at(100));
        assert_eq!(board.readiness(s(119)), Readiness::Ready);
        let late = Readiness::NotReady(vec!["newest commit is 121 s old and captures wait".into()]);
        assert_eq!(board.readiness(s(121)), late);
        let cursors = LandingCursors::from([(IncarnationId([1; 16]), at(100))]);
        commits_tx.send_replace(CommitMark { cursors, at: Some(s(5)), ..CommitMark::default() });
        assert_eq!(board.readiness(s(100_000)), Readiness::Ready, "nothing waits");
        landed_tx.send_replace(at(101));
        connected_tx.send_replace(false);
        drop(landed_tx);
        let Readiness::NotReady(reasons) = board.readiness(s(500)) else { panic!("not ready") };
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        let reading = ClockReading { b1: BootNanos(0), real: s(500), b2: BootNanos(0), raw_ns: 0 };
        assert_eq!(board.status(reading)["ready"], json!(false));

        // A clock that nobody keeps, and a stream timed worse than required, are said and keep nothing from working.
        let beyond = StreamBeyond { require_ns: 5 * NS_PER_MS, err_ns: 80 * NS_PER_MS, since: s(400) };
        let clock = DeviceClock {
            boot: BootOrdinal(1),
            ts: s(499),
            err_ns: 80 * NS_PER_MS,
            grade: Grade::Estimated,
            seen: s(500),
            beyond: BTreeMap::from([("imu".parse().unwrap(), beyond)]),
            rows_beyond: 7,
        };
        clocks_tx.send_modify(|clocks| drop(clocks.devices.insert("pi-1".parse().unwrap(), clock)));
        let status = board.status(reading);
        let warnings: Vec<&str> =
            status["warnings"].as_array().unwrap().iter().filter_map(|w| w.as_str()).collect();
        assert!(warnings[0].contains("not synchronised"), "{warnings:?}");
        assert_eq!(warnings[1], "pi-1 imu is timed within 80 ms, required are 5 ms");
        assert_eq!(status["own_clock"]["alarm"], json!(true));
        assert_eq!(status["clocks"]["devices"][0]["beyond"][0]["err_ns"], json!(80 * NS_PER_MS));
    }
}
