//! A gateway's clock as `ops.clock` knows it: every boot with its sources and events, and what the resolver makes of them,
//! with all that is known by now. Pure.

use crate::commit::read::ScannedRows;
use crate::resolve::{ClockRow, ClockTracks, Incoming, Query, Receipt, Resolved, Statement, statements_of};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch};
use headwater_core::time::{BootNanos, Grade, NS_PER_S, UtcNanos, clamp_i64};
use std::collections::BTreeMap;

/// Moments at which a boot is looked at: as many as a plot is wide in steps of 4 pixels.
pub(super) const POINTS: usize = 200;
/// Span over which the rate of a crystal is told, and the least of it.
const RATE_SPAN_NS: i64 = 3_600 * NS_PER_S;
const RATE_SPAN_NS_MIN: i64 = 600 * NS_PER_S;
/// Events of one boot that are kept; a gateway whose clock steps more often is shown by its first ones.
const EVENTS_MAX: usize = 1_000;

/// What one source said in one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Source {
    /// Rows.
    pub(super) rows: u64,
    /// Best grade among them, as a code.
    pub(super) best: Option<Grade>,
}

/// Something that happened to a clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: BootNanos,
    /// `step`, `suspend` and the like.
    pub(super) what: String,
    /// How far the wall clock moved, ns.
    pub(super) step_ns: Option<i64>,
}

/// What was collected of one boot.
#[derive(Debug, Clone, Default)]
pub(super) struct Boot {
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) events: Vec<Event>,
    /// Readings of the wall clock, in order of boot time.
    pub(super) wall: BTreeMap<BootNanos, UtcNanos>,
    pub(super) span: Option<(BootNanos, BootNanos)>,
    /// When the collector heard of it last.
    pub(super) heard: Option<UtcNanos>,
}

/// One moment of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) at: BootNanos,
    pub(super) ts: UtcNanos,
    pub(super) err_ns: i64,
    pub(super) grade: Grade,
}

/// The wall clock at one of its readings, minus UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wall {
    pub(super) at: BootNanos,
    pub(super) ts: UtcNanos,
    pub(super) offset_ns: i64,
    pub(super) err_ns: i64,
}

/// A device's clocks of one epoch.
#[derive(Debug)]
pub(super) struct History {
    pub(super) device: DeviceId,
    pub(super) epoch: Epoch,
    pub(super) boots: BTreeMap<BootOrdinal, Boot>,
    tracks: ClockTracks,
}

impl History {
    /// The newest epoch of `device` in rows of `ops.clock`; none without any.
    pub(super) fn of(device: &DeviceId, batches: &[arrow_array::RecordBatch]) -> Option<Self> {
        let mut newest: Option<(i64, Epoch)> = None;
        let each = || {
            batches.iter().flat_map(|batch| {
                let rows = ScannedRows(batch);
                (0..rows.len()).map(move |row| (rows, row))
            })
        };
        for (rows, row) in each() {
            let found = || Some((rows.long("ts_ns", row)?, rows.text("epoch", row)?.parse().ok()?));
            if rows.text("device", row).as_deref() == Some(device.as_str()) {
                newest = newest.max(found());
            }
        }
        let (_, epoch) = newest?;
        let mut history =
            Self { device: device.clone(), epoch, boots: BTreeMap::new(), tracks: ClockTracks::default() };
        for (rows, row) in each() {
            let same = rows.text("device", row).as_deref() == Some(device.as_str())
                && rows.text("epoch", row).and_then(|text| text.parse().ok()) == Some(epoch);
            if same {
                history.take(rows, row);
            }
        }
        history.boots.retain(|_, boot| boot.span.is_some());
        (!history.boots.is_empty()).then_some(history)
    }

    fn take(&mut self, rows: ScannedRows<'_>, row: usize) {
        let boot = rows.long("boot_ordinal", row).and_then(|n| u32::try_from(n).ok()).map(BootOrdinal);
        let long = |name: &str| rows.long(name, row);
        let said = ClockRow::from_table(|name| rows.text(name, row), long);
        let (Some(boot), Some(said)) = (boot, said) else { return };
        let stamps =
            [long("b1_ns"), long("b2_ns"), long("t1_ns"), long("t4_ns")].into_iter().flatten().map(BootNanos);
        let known = self.boots.entry(boot).or_default();
        for at in stamps {
            let (first, last) = known.span.unwrap_or((at, at));
            known.span = Some((first.min(at), last.max(at)));
        }
        known.heard = known.heard.max(long("ts_ns").map(UtcNanos));
        let kind = rows.text("row_kind", row).unwrap_or_default();
        let statements = statements_of(&said);
        if kind == "event" {
            if let (Some(at), Some(what)) = (long("b1_ns"), rows.text("event", row)) {
                known.events.push(Event { at: BootNanos(at), what, step_ns: long("step_ns") });
            }
        } else if kind != "boot" {
            let source = known.sources.entry(rows.text("source", row).unwrap_or_default()).or_default();
            source.rows += 1;
            if statements.iter().any(|said| matches!(said, Statement::Constraint(_))) {
                source.best = source.best.max(rows.text("grade", row).and_then(|name| grade(&name)));
            }
        }
        if let (true, Some(b1), Some(real)) =
            (matches!(kind.as_str(), "sample" | "boot"), long("b1_ns"), long("real_ns"))
        {
            known.wall.insert(BootNanos(b1), UtcNanos(real));
        }
        let whose = Incoming { device: &self.device, epoch: self.epoch, boot };
        // What was too late for ingest to believe would be so here; a day is what it gives a clock that promises nothing.
        let latest = long("ts_ns")
            .zip(long("ts_err_ns"))
            .map(|(ts, err)| UtcNanos(ts.saturating_add(err)).plus_ns(86_400 * NS_PER_S));
        for statement in statements {
            self.tracks.observe(whose, statement, latest);
        }
        if let (Some(at), Some(ts), Some(err)) = (long("b1_ns"), long("ts_ns"), long("ts_err_ns")) {
            let received = UtcNanos(ts.saturating_add(err));
            self.tracks.receipt(whose, Receipt { at: BootNanos(at), received });
        }
    }

    /// Sorts what was collected; to be called once all rows were taken.
    pub(super) fn sorted(mut self) -> Self {
        for boot in self.boots.values_mut() {
            boot.events.sort_by(|a, b| (a.at, &a.what).cmp(&(b.at, &b.what)));
            boot.events.dedup();
            boot.events.truncate(EVENTS_MAX);
        }
        self
    }

    fn resolve(&self, boot: BootOrdinal, at: &[BootNanos]) -> Vec<Resolved> {
        let whose = Incoming { device: &self.device, epoch: self.epoch, boot };
        let queries: Vec<Query> = at.iter().map(|at| Query { event: *at, half_ns: 0 }).collect();
        self.tracks.resolve(whose, &queries)
    }

    /// Moments of a boot from its first row to its last, at most `n` and at least one.
    pub(super) fn points(&self, boot: BootOrdinal, n: usize) -> Vec<Point> {
        let Some((first, last)) = self.boots.get(&boot).and_then(|boot| boot.span) else { return Vec::new() };
        let steps = i64::try_from(n.max(2) - 1).unwrap_or(1);
        let span = i128::from(last.since(first));
        let mut at: Vec<BootNanos> = (0..=steps)
            .map(|step| first.plus_ns(clamp_i64(span * i128::from(step) / i128::from(steps))))
            .collect();
        at.dedup();
        let resolved = self.resolve(boot, &at);
        let point = |(at, resolved): (BootNanos, Resolved)| Point {
            at,
            ts: resolved.ts,
            err_ns: resolved.err_ns,
            grade: resolved.grade,
        };
        at.into_iter().zip(resolved).map(point).collect()
    }

    /// The newest moment of a boot.
    pub(super) fn last(&self, boot: BootOrdinal) -> Option<Point> {
        self.points(boot, 2).pop()
    }

    /// How far the wall clock was from UTC at each of its readings.
    pub(super) fn wall(&self, boot: BootOrdinal) -> Vec<Wall> {
        let Some(known) = self.boots.get(&boot) else { return Vec::new() };
        let at: Vec<BootNanos> = known.wall.keys().copied().collect();
        let resolved = self.resolve(boot, &at);
        let offset = |((at, real), resolved): ((&BootNanos, &UtcNanos), Resolved)| Wall {
            at: *at,
            ts: resolved.ts,
            offset_ns: real.since(resolved.ts),
            err_ns: resolved.err_ns,
        };
        known.wall.iter().zip(resolved).map(offset).collect()
    }

    /// How much faster than UTC the boot's crystal ran over its last hour, parts per billion, and over how long. None for
    /// less than ten minutes, or without a clock.
    pub(super) fn drift_ppb(&self, boot: BootOrdinal) -> Option<(i64, i64)> {
        let (first, last) = self.boots.get(&boot)?.span?;
        let span = last.since(first).min(RATE_SPAN_NS);
        let resolved = self.resolve(boot, &[last.plus_ns(-span), last]);
        let (from, to) = (resolved.first()?, resolved.get(1)?);
        let utc = i128::from(to.ts.since(from.ts));
        let graded = from.grade.min(to.grade) > Grade::OrderingOnly;
        (span >= RATE_SPAN_NS_MIN && utc > 0 && graded)
            .then(|| (clamp_i64((i128::from(span) - utc) * 1_000_000_000 / utc), span))
    }
}

fn grade(name: &str) -> Option<Grade> {
    [Grade::OrderingOnly, Grade::Estimated, Grade::Guaranteed]
        .into_iter()
        .find(|grade| grade.as_str() == name)
}
