//! The targets, and whether a figure meets them.

use serde_json::{Value, json};

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bar {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
}

/// A figure that is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Target {
    pub(super) what: &'static str,
    pub(super) bar: Bar,
    pub(super) unit: &'static str,
}

/// Device writes per payload byte, where a sync covers at least [`WRITES_GROUP_BYTES_MIN`].
pub(super) const WRITES: Target =
    Target { what: "target: device bytes per payload byte", bar: Bar::AtMost(1.15), unit: "x" };
/// A sync costs about 25 KiB of journal and partial pages, so less than this cannot meet the target.
pub(super) const WRITES_GROUP_BYTES_MIN: u64 = 170 << 10;
/// What stays of a series when everything was acknowledged: the segment being written and the one before.
pub(super) const DRAINED: Target =
    Target { what: "target: segments after a full drain", bar: Bar::AtMost(2.0), unit: "files" };
/// Memory with a backlog.
pub(super) const MEMORY: Target =
    Target { what: "target: RSS with the backlog", bar: Bar::AtMost(24.0), unit: "MiB" };
/// From the start of opening until rows are taken.
pub(super) const OPEN: Target =
    Target { what: "target: open after kill -9", bar: Bar::Below(0.5), unit: "s" };
/// The same without an index.
pub(super) const OPEN_LOST: Target =
    Target { what: "target: open after kill -9, index lost", bar: Bar::Below(0.5), unit: "s" };
/// Throughput against the fastest of the others.
pub(super) const FASTEST: Target =
    Target { what: "target: append + sync against the fastest rival", bar: Bar::AtLeast(1.0), unit: "x" };

impl Target {
    /// Of a figure as it is, not as it is rounded for the table.
    pub(super) fn is_met(&self, value: f64) -> bool {
        match self.bar {
            Bar::AtMost(bar) => value <= bar,
            Bar::Below(bar) => value < bar,
            Bar::AtLeast(bar) => value >= bar,
        }
    }

    /// What stands beside the figure.
    pub(super) fn beside(&self, value: f64) -> Value {
        let bar = match self.bar {
            Bar::AtMost(bar) => format!("<= {bar}"),
            Bar::Below(bar) => format!("< {bar}"),
            Bar::AtLeast(bar) => format!(">= {bar}"),
        };
        json!({"target": bar, "verdict": if self.is_met(value) { "met" } else { "MISSED" }})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_judged_at_their_edge() {
        assert!(WRITES.is_met(1.15) && !WRITES.is_met(1.151));
        assert!(OPEN.is_met(0.499) && !OPEN.is_met(0.5));
        assert!(FASTEST.is_met(1.0) && !FASTEST.is_met(0.999));
        assert!(DRAINED.is_met(2.0) && !DRAINED.is_met(3.0));
    }

    #[test]
    fn nothing_measured_meets_nothing() {
        for target in [WRITES, DRAINED, MEMORY, OPEN, OPEN_LOST, FASTEST] {
            assert!(!target.is_met(f64::NAN), "{}", target.what);
        }
    }

    #[test]
    fn a_verdict_names_its_bar() {
        assert_eq!(MEMORY.beside(30.0), json!({"target": "<= 24", "verdict": "MISSED"}));
        assert_eq!(OPEN.beside(0.1), json!({"target": "< 0.5", "verdict": "met"}));
    }
}
