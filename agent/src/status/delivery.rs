//! How far shipping is behind, when it will have caught up, and what the link's rules hold back.

use super::bytes;
use crate::ship::{Pace, ShipStatus};
use headwater_core::wire::Lane;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Backlog, pace and budgets of the link.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeliveryStatus {
    /// Interface the link goes over, if known.
    pub interface: Option<String>,
    /// What the link carried of late, bytes/s.
    pub rate_bytes_per_s: Option<u64>,
    /// Bytes in the spool that wait behind live data.
    pub backlog_bytes: u64,
    /// `caught_up`, `unknown`, `catching_up` or `never`.
    pub pace: String,
    /// Seconds until the backlog is gone, while it shrinks.
    pub eta_caught_up_s: Option<u64>,
    /// Lanes that the link's rules hold back, and why: `rate`, `hours`, `day_budget`, `month_budget`.
    pub held: BTreeMap<String, String>,
    /// What links took, by the interface of their rules.
    pub spent: Vec<SpentStatus>,
}

/// What links under one set of rules took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentStatus {
    /// Interface of the rules.
    pub interface: String,
    /// Bytes of this UTC day.
    pub day_bytes: u64,
    /// Bytes of this month of the provider's.
    pub month_bytes: u64,
}

impl DeliveryStatus {
    /// From what shipping says.
    #[must_use]
    pub fn of(ship: &ShipStatus) -> Self {
        let (pace, eta_caught_up_s) = match ship.catching_up {
            Pace::CaughtUp => ("caught_up", None),
            Pace::Unknown => ("unknown", None),
            Pace::InSeconds(seconds) => ("catching_up", Some(seconds)),
            Pace::Never => ("never", None),
        };
        let held = Lane::ALL
            .into_iter()
            .zip(ship.holds)
            .filter_map(|(lane, why)| why.map(|why| (lane_name(lane).to_owned(), why.as_str().to_owned())));
        let spent = ship.spent.iter().map(|spent| SpentStatus {
            interface: spent.interface.clone(),
            day_bytes: spent.day_bytes,
            month_bytes: spent.month_bytes,
        });
        Self {
            interface: ship.interface.clone(),
            rate_bytes_per_s: ship.rate_bytes_per_s,
            backlog_bytes: ship.backlog_bytes,
            pace: pace.to_owned(),
            eta_caught_up_s,
            held: held.collect(),
            spent: spent.collect(),
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.pace == "never" {
            problems.push(format!(
                "the link carries less than is captured: {} wait and grow; raise its rate or budget in [[link]], capture \
                 less, or give streams a class so that the right ones make way",
                bytes(self.backlog_bytes)
            ));
        }
        for (lane, why) in &self.held {
            let budget = match why.as_str() {
                "day_budget" => "day",
                "month_budget" => "month",
                _ => continue,
            };
            problems.push(format!(
                "the {budget}'s budget of the link is used up: {lane} waits for the next {budget}; raise `{budget}` in \
                 [[link]] if that is not meant"
            ));
        }
        problems
    }

    /// For people, in a line.
    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        match (self.backlog_bytes, self.eta_caught_up_s) {
            (0, _) => parts.push("nothing".to_owned()),
            (n, Some(eta)) => parts.push(format!("{}, caught up in about {}", bytes(n), duration(eta))),
            (n, None) => parts.push(bytes(n)),
        }
        if let Some(rate) = self.rate_bytes_per_s {
            parts.push(format!("link {}/s of late", bytes(rate)));
        }
        if !self.held.is_empty() {
            let held: Vec<String> = self.held.iter().map(|(lane, why)| format!("{lane} ({why})")).collect();
            parts.push(format!("held back: {}", held.join(", ")));
        }
        parts.join("; ")
    }
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Control => "control",
        Lane::LiveTelemetry => "live telemetry",
        Lane::LiveMedia => "live media",
        Lane::BacklogTelemetry => "backlog telemetry",
        Lane::BacklogMedia => "backlog media",
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::policy::HoldWhy;

    #[test]
    fn says_how_far_behind_and_what_to_do() {
        let mut ship = ShipStatus { backlog_bytes: 3 << 20, ..ShipStatus::default() };
        ship.catching_up = Pace::InSeconds(7_300);
        ship.holds[4] = Some(HoldWhy::DayBudget);
        let status = DeliveryStatus::of(&ship);
        let text = status.text();
        assert!(text.contains("3.0 MiB, caught up in about 2 h"), "{text}");
        assert!(text.contains("backlog media (day_budget)"), "{text}");
        assert!(status.problems()[0].contains("raise `day` in [[link]]"));
        ship.catching_up = Pace::Never;
        let problems = DeliveryStatus::of(&ship).problems();
        assert!(problems[0].contains("carries less than is captured"), "{problems:?}");
        assert_eq!(DeliveryStatus::of(&ShipStatus::default()).text(), "nothing");
    }
}
