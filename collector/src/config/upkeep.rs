//! `[lake.gc]`, how long the lake keeps its history and when it is tidied, and `[[lake.retention]]`, how long its rows.

use super::read::{Mistakes, Section};
use headwater_lake::{GRACE_US, Keep, RetentionRule, SETTLE, TablePattern};
use std::time::Duration;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// Default of `lake.gc.at_hour`, UTC: fleets are quiet at night in Europe, and in the Americas' evening.
const AT_HOUR: u8 = 2;

/// Tidying the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpkeepSettings {
    /// `lake.gc.enabled`: the collector does it by itself.
    pub enabled: bool,
    /// `lake.gc.at_hour`, UTC.
    pub at_hour: u8,
    /// `lake.gc.full_days`, `hourly_days` and `reflog_days`.
    pub keep: Keep,
    /// `lake.gc.grace_hours`, µs.
    pub grace_us: i64,
    /// `lake.gc.settle_s`.
    pub settle: Duration,
    /// `[[lake.retention]]`.
    pub retention: Vec<RetentionRule>,
}

impl Default for UpkeepSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            at_hour: AT_HOUR,
            keep: Keep::default(),
            grace_us: GRACE_US,
            settle: SETTLE,
            retention: Vec::new(),
        }
    }
}

/// Both, out of `[lake]`.
pub(super) fn read_upkeep(lake: &mut Section, mistakes: &mut Mistakes) -> UpkeepSettings {
    let mut settings = UpkeepSettings::default();
    if let Some(table) = lake.section("gc", mistakes) {
        read_gc(table, &mut settings, mistakes);
    }
    let rules = lake.sections("retention", mistakes);
    settings.retention = rules.into_iter().filter_map(|table| read_rule(table, mistakes)).collect();
    settings
}

fn read_gc(mut table: Section, settings: &mut UpkeepSettings, mistakes: &mut Mistakes) {
    settings.enabled = table.flag("enabled", mistakes).unwrap_or(settings.enabled);
    let hour = table.number("at_hour", 0..=23, "hours after midnight UTC", mistakes);
    settings.at_hour = hour.and_then(|hour| u8::try_from(hour).ok()).unwrap_or(settings.at_hour);
    let mut days = |key, at_least, default| {
        let days = table.number(key, at_least..=36_500, "days", mistakes);
        days.and_then(|days| i64::try_from(days).ok()).map_or(default, |days| days * DAY_US)
    };
    let keep = &mut settings.keep;
    keep.full_us = days("full_days", 0, keep.full_us);
    keep.hourly_us = days("hourly_days", 0, keep.hourly_us);
    keep.reflog_us = days("reflog_days", 1, keep.reflog_us);
    if keep.hourly_us < keep.full_us {
        let expected = "at least lake.gc.full_days";
        let hint = "hours stay when days in full are thinned";
        let found = (keep.hourly_us / DAY_US).to_string();
        mistakes.add(&table.path_of("hourly_days"), expected, &found, hint);
    }
    // Within a day a writer, a gate or a client's transaction may still come to name what it stored.
    let grace = table.number("grace_hours", 24..=8760, "hours", mistakes);
    let grace = grace.and_then(|hours| i64::try_from(hours).ok());
    settings.grace_us = grace.map_or(settings.grace_us, |hours| hours * HOUR_US);
    let settle = table.number("settle_s", 60..=21_600, "seconds", mistakes);
    settings.settle = settle.map_or(settings.settle, Duration::from_secs);
    table.finish(mistakes);
}

fn read_rule(mut table: Section, mistakes: &mut Mistakes) -> Option<RetentionRule> {
    let expected = "a table's name, or all of a namespace";
    let tables: Option<TablePattern> =
        table.needed("table", expected, "such as \"raw.image\" or \"raw.*\"", mistakes);
    let missing = !table.has("keep_days");
    let days = table.number("keep_days", 1..=36_500, "days", mistakes);
    if missing {
        mistakes.add(&table.path_of("keep_days"), "days", "nothing", "whole days before today that stay");
    }
    let path = table.path_of("table");
    table.finish(mistakes);
    let rule = RetentionRule { tables: tables?, keep_days: u32::try_from(days?).unwrap_or(u32::MAX) };
    if let Err(error) = rule.check() {
        mistakes.add(&path, "a table that may expire", &rule.tables.to_string(), &error.to_string());
        return None;
    }
    Some(rule)
}
