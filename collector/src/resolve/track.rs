//! Clock tracks: the constraints known of each boot of each gateway, kept in an order that arrival cannot change.

use super::bound::{Cones, FALSE_MAX, Point, RHO_PPB, WINDOW};
use headwater_core::id::{BootOrdinal, DeviceId, Epoch, Sha256};
use headwater_core::time::{BootNanos, Grade, UtcNanos};
use std::collections::BTreeMap;

/// Points of each kind kept per boot: three days of samples, exchanges and halves at 64 s each. Older ones are
/// forgotten, which only widens the bounds of a backlog older than that.
pub const POINTS_MAX: usize = 12_288;
/// Boots kept per epoch: older ones have shipped their backlog, and what comes later gets a wide bracket.
pub const BOOTS_MAX: usize = 64;

/// One statement about U, the UTC of a boot line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// The wall clock showed `real` somewhere in [b1, b2] and was right within `half_ns`.
    Sample {
        /// Boot time before.
        b1: BootNanos,
        /// Wall clock.
        real: UtcNanos,
        /// Boot time after.
        b2: BootNanos,
        /// Half width, ns.
        half_ns: i64,
        /// What the source may claim.
        grade: Grade,
    },
    /// A message was sent before it was received, an answer received after it was sent.
    Exchange {
        /// T1 and T2.
        sent: Option<(BootNanos, UtcNanos)>,
        /// T4 and T3.
        answered: Option<(BootNanos, UtcNanos)>,
        /// The collector's own bound, ns.
        e_c_ns: i64,
        /// The collector's own grade.
        grade: Grade,
    },
}

/// A set of samples was in the collector's hands at `received`: they are older than that, in whatever boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Youngest stamp among them.
    pub at: BootNanos,
    /// UTC of receipt plus the collector's own bound.
    pub received: UtcNanos,
}

/// Whose boot line a statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Gateway.
    pub device: &'a DeviceId,
    /// Life of its spool.
    pub epoch: Epoch,
    /// Boot.
    pub boot: BootOrdinal,
}

/// What is known of one boot.
#[derive(Debug, Clone, Default)]
pub(super) struct BootClock {
    /// Points whose sources guarantee their bounds.
    pub(super) guaranteed: Cones,
    /// All points.
    pub(super) all: Cones,
    /// The best receipt: the one that says the most of every other moment, up to the drift between.
    pub(super) receipt: Option<Point>,
    /// Latest moment of this boot anyone spoke of.
    pub(super) last: Option<BootNanos>,
    id: Option<i64>,
}

impl BootClock {
    fn add(&mut self, grade: Grade, upper: Option<Point>, lower: Option<Point>) {
        self.id = None;
        for cones in [(grade == Grade::Guaranteed).then_some(&mut self.guaranteed), Some(&mut self.all)]
            .into_iter()
            .flatten()
        {
            upper.map(|point| cones.add_upper(point));
            lower.map(|point| cones.add_lower(point));
            let dropped = cones.trim(POINTS_MAX);
            if dropped > 0 {
                metrics::counter!("headwater_resolve_points_forgotten_total").increment(dropped as u64);
            }
        }
        for point in [upper, lower].into_iter().flatten() {
            self.seen(point.at);
        }
    }

    fn seen(&mut self, at: BootNanos) {
        self.last = self.last.max(Some(at));
    }

    /// The track's id: first 8 bytes of SHA-256 over parameters and sorted constraints. Equal knowledge, equal id.
    fn id(&mut self) -> i64 {
        *self.id.get_or_insert_with(|| {
            let mut text = format!("headwater.track.v1\nrho={RHO_PPB} f={FALSE_MAX} w={WINDOW}\n");
            for (name, cones) in [("guaranteed", &self.guaranteed), ("all", &self.all)] {
                for (side, points) in [("upper", cones.upper()), ("lower", cones.lower())] {
                    for point in points {
                        text.push_str(&format!("{name} {side} {} {}\n", point.at.0, point.utc.0));
                    }
                }
            }
            i64::from_be_bytes(Sha256::of(text.as_bytes()).head())
        })
    }
}

/// The clock tracks of all gateways.
#[derive(Debug, Clone, Default)]
pub struct ClockTracks {
    epochs: BTreeMap<(DeviceId, Epoch), BTreeMap<BootOrdinal, BootClock>>,
}

impl ClockTracks {
    /// Takes a statement in.
    pub fn observe(&mut self, whose: Incoming<'_>, constraint: Constraint) {
        let boot = self.boot_mut(whose);
        let plus = |utc: UtcNanos, ns: i64| utc.plus_ns(ns);
        match constraint {
            Constraint::Sample { b1, real, b2, half_ns, grade } => boot.add(
                grade,
                Some(Point { at: b1, utc: plus(real, half_ns) }),
                Some(Point { at: b2, utc: plus(real, half_ns.saturating_neg()) }),
            ),
            Constraint::Exchange { sent, answered, e_c_ns, grade } => boot.add(
                grade,
                sent.map(|(t1, t2)| Point { at: t1, utc: plus(t2, e_c_ns) }),
                answered.map(|(t4, t3)| Point { at: t4, utc: plus(t3, e_c_ns.saturating_neg()) }),
            ),
        }
    }

    /// Takes in that samples up to a stamp were received.
    pub fn receipt(&mut self, whose: Incoming<'_>, receipt: Receipt) {
        let boot = self.boot_mut(whose);
        boot.seen(receipt.at);
        let point = Point { at: receipt.at, utc: receipt.received };
        let says = |point: &Point| i128::from(point.utc.0) - i128::from(point.at.0);
        if boot.receipt.is_none_or(|best| says(&point) < says(&best)) {
            boot.receipt = Some(point);
        }
    }

    /// Id of the track that resolves a boot's samples now.
    pub fn track_id(&mut self, whose: Incoming<'_>) -> i64 {
        self.boot_mut(whose).id()
    }

    pub(super) fn boots(&self, whose: Incoming<'_>) -> Option<&BTreeMap<BootOrdinal, BootClock>> {
        self.epochs.get(&(whose.device.clone(), whose.epoch))
    }

    fn boot_mut(&mut self, whose: Incoming<'_>) -> &mut BootClock {
        let boots = self.epochs.entry((whose.device.clone(), whose.epoch)).or_default();
        if !boots.contains_key(&whose.boot) && boots.len() >= BOOTS_MAX {
            // The oldest goes, unless the new one is older still: then it lives only as long as it is asked for.
            if let Some(oldest) = boots.keys().next().copied().filter(|oldest| *oldest < whose.boot) {
                boots.remove(&oldest);
                metrics::counter!("headwater_resolve_boots_forgotten_total").increment(1);
            }
        }
        boots.entry(whose.boot).or_default()
    }
}
