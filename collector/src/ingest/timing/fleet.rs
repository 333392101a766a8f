//! The fleet's clocks as their newest rows show them, and rows that are timed worse than their stream requires: a verdict in
//! `ops.verdicts`, a counter, an alarm when a stream goes beyond and a word when it is back.

use super::corrections::Totals;
use crate::commit::cells::TableRows;
use crate::commit::tables::{Ops, raw_table};
use crate::ingest::IngestSettings;
use crate::ingest::demand::{Beyond, TimeDemand};
use crate::ingest::group::{HeldRows, event};
use crate::resolve::Resolved;
use headwater_core::id::{BootOrdinal, DeviceId, Sha256, StreamName};
use headwater_core::time::{Grade, NS_PER_MS, UtcNanos};
use serde_json::json;
use std::collections::BTreeMap;

/// Name in `ops.verdicts`.
const GATE: &str = "time.require_err_ms";
/// Changes with its rule.
const GATE_VERSION: &str = "1";

/// A stream whose newest rows are timed worse than required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamBeyond {
    /// Required, ns.
    pub require_ns: i64,
    /// Of its newest row, ns.
    pub err_ns: i64,
    /// When that began, UTC of the collector.
    pub since: UtcNanos,
}

/// One gateway's clock, by its newest rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceClock {
    /// Its boot.
    pub boot: BootOrdinal,
    /// Time of its newest row.
    pub ts: UtcNanos,
    /// How sure that is, ns.
    pub err_ns: i64,
    /// What that promises.
    pub grade: Grade,
    /// When rows of it were committed last.
    pub seen: UtcNanos,
    /// Streams that are timed worse than required.
    pub beyond: BTreeMap<StreamName, StreamBeyond>,
    /// Rows committed beyond what was required, since the start.
    pub rows_beyond: u64,
}

/// The clocks of all gateways heard since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetClocks {
    /// By device.
    pub devices: BTreeMap<DeviceId, DeviceClock>,
    /// Rows whose time a better track would change.
    pub correction_rows: u64,
    /// Rows that a correcting commit would write again for them.
    pub correction_rows_to_write: u64,
}

/// See [`FleetClocks`].
#[derive(Debug, Default)]
pub(super) struct Fleet {
    devices: BTreeMap<DeviceId, DeviceClock>,
}

/// Rows of one stream beyond its demand.
#[derive(Debug, Clone, Copy)]
struct Counted<'a> {
    demand: &'a TimeDemand,
    rows: u64,
    beyond: u64,
    worst_ns: i64,
    t: (UtcNanos, UtcNanos),
}

/// `ops.verdicts`: a warning for each stream of which this commit brings rows beyond its demand.
pub(super) fn verdicts(
    rows: &[HeldRows],
    resolved: &[Vec<Resolved>],
    settings: &IngestSettings,
    now: UtcNanos,
) -> TableRows {
    let mut out = TableRows::new(Ops::Verdicts.spec());
    let mut counted: BTreeMap<(&DeviceId, &StreamName), (Counted<'_>, &HeldRows)> = BTreeMap::new();
    for (held, resolved) in rows.iter().zip(resolved) {
        let Some(demand) = TimeDemand::of(&settings.demands, &held.key.device, &held.key.stream) else {
            continue;
        };
        for at in resolved {
            let fresh = Counted { demand, rows: 0, beyond: 0, worst_ns: 0, t: (at.ts, at.ts) };
            let (counted, _) = counted.entry((&held.key.device, &held.key.stream)).or_insert((fresh, held));
            counted.rows += 1;
            if at.err_ns > demand.require_ns {
                let t = if counted.beyond == 0 { (at.ts, at.ts) } else { counted.t };
                counted.t = (t.0.min(at.ts), t.1.max(at.ts));
                counted.beyond += 1;
                counted.worst_ns = counted.worst_ns.max(at.err_ns);
            }
        }
    }
    for ((device, stream), (counted, held)) in
        counted.into_iter().filter(|(_, (counted, _))| counted.beyond > 0)
    {
        let evidence = json!({
            "stream": stream.as_str(),
            "require_err_ns": counted.demand.require_ns,
            "worst_err_ns": counted.worst_ns,
            "rows": counted.rows,
            "rows_beyond": counted.beyond,
            "held": matches!(counted.demand.beyond, Beyond::Hold { .. }),
        })
        .to_string();
        let mut cells = event(now, settings.clock_half_ns, Some(device));
        cells.extend([
            ("ref", settings.branch.to_string().into()),
            ("table", raw_table(&held.schema.kind).ok().map(|table| table.to_string()).into()),
            ("gate", GATE.into()),
            ("gate_version", GATE_VERSION.into()),
            ("verdict", "warn".into()),
            ("t_min_ns", counted.t.0.0.into()),
            ("t_max_ns", counted.t.1.0.into()),
            ("rows", counted.beyond.into()),
            ("evidence_digest", Sha256::of(evidence.as_bytes()).to_string().into()),
            ("evidence", evidence.into()),
            ("published_as", settings.branch.to_string().into()),
        ]);
        out.push(cells);
    }
    out
}

impl Fleet {
    pub(super) fn committed(
        &mut self,
        rows: &[HeldRows],
        resolved: &[Vec<Resolved>],
        demands: &[TimeDemand],
        now: UtcNanos,
    ) {
        for (held, resolved) in rows.iter().zip(resolved) {
            let Some(newest) = resolved.iter().max_by_key(|at| at.ts) else { continue };
            let boot = held.rows.boot_ordinal;
            let clock = self.devices.entry(held.key.device.clone()).or_insert_with(|| DeviceClock {
                boot,
                ts: newest.ts,
                err_ns: newest.err_ns,
                grade: newest.grade,
                seen: now,
                beyond: BTreeMap::new(),
                rows_beyond: 0,
            });
            clock.seen = now;
            // A backlog of an older boot says nothing of the clock as it is.
            if (boot, newest.ts) >= (clock.boot, clock.ts) {
                (clock.boot, clock.ts, clock.err_ns, clock.grade) =
                    (boot, newest.ts, newest.err_ns, newest.grade);
            }
            if let Some(demand) = TimeDemand::of(demands, &held.key.device, &held.key.stream) {
                let beyond = resolved.iter().filter(|at| at.err_ns > demand.require_ns).count() as u64;
                metrics::counter!("headwater_time_beyond_rows_total").increment(beyond);
                clock.rows_beyond += beyond;
                clock.judge(held, demand, *newest, now);
            }
        }
        self.tell();
    }

    /// Gauges by grade, and of streams that are beyond.
    fn tell(&self) {
        for grade in [Grade::OrderingOnly, Grade::Estimated, Grade::Guaranteed] {
            let n = self.devices.values().filter(|clock| clock.grade == grade).count();
            metrics::gauge!("headwater_gateway_clocks", "grade" => grade.as_str()).set(as_f64(n));
        }
        let beyond = self.devices.values().map(|clock| clock.beyond.len()).sum();
        metrics::gauge!("headwater_time_beyond_streams").set(as_f64(beyond));
    }

    pub(super) fn clocks(&self, due: Totals) -> FleetClocks {
        FleetClocks {
            devices: self.devices.clone(),
            correction_rows: due.rows,
            correction_rows_to_write: due.rows_of_days,
        }
    }
}

impl DeviceClock {
    fn judge(&mut self, held: &HeldRows, demand: &TimeDemand, newest: Resolved, now: UtcNanos) {
        let (device, stream) = (&held.key.device, &held.key.stream);
        let (bound_ms, require_ms) = (newest.err_ns / NS_PER_MS, demand.require_ns / NS_PER_MS);
        if newest.err_ns > demand.require_ns {
            if !self.beyond.contains_key(stream) {
                tracing::error!(%device, %stream, bound_ms, require_ms, "clock is worse than its stream requires");
            }
            let since = self.beyond.get(stream).map_or(now, |before| before.since);
            let beyond = StreamBeyond { require_ns: demand.require_ns, err_ns: newest.err_ns, since };
            self.beyond.insert(stream.clone(), beyond);
        } else if self.beyond.remove(stream).is_some() {
            tracing::info!(%device, %stream, bound_ms, require_ms, "clock is as good as its stream requires again");
        }
    }
}

/// Gauges are floats; counts of devices and streams are exact in them.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn as_f64(n: usize) -> f64 {
    n as f64
}
