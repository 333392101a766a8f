//! Bytes that a day and a month may take, kept over restarts.

use super::HoldWhy;
use chrono::{DateTime, Datelike};
use headwater_core::time::UtcNanos;
use serde::{Deserialize, Serialize};

/// A clock may be set back by so many days before it counts as having been wrong.
const BACK_DAYS_MAX: i64 = 2;

/// Budgets of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes a UTC day may take; what is not used is there the day after, up to as much again.
    pub day_bytes: Option<u64>,
    /// Bytes a month may take.
    pub month_bytes: Option<u64>,
    /// Day on which the provider's month begins, 1 to 28.
    pub month_day: u8,
    /// Share at the end of each budget that is live telemetry's alone, percent.
    pub reserve_percent: u8,
}

impl Default for Budget {
    fn default() -> Self {
        Self { day_bytes: None, month_bytes: None, month_day: 1, reserve_percent: 10 }
    }
}

/// What was spent under one set of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Whose rules.
    pub interface: String,
    /// UTC day, days since 1970; 0 before one was known.
    pub day: i64,
    /// Bytes of that day.
    pub day_bytes: u64,
    /// Bytes left over from days before.
    pub carried_bytes: u64,
    /// Months since year 0 that began on the rules' day.
    pub month: i64,
    /// Bytes of that month.
    pub month_bytes: u64,
}

/// Budgets and what was spent of them.
#[derive(Debug)]
pub(super) struct Account {
    budget: Budget,
    spent: Spent,
    changed: bool,
}

impl Account {
    pub(super) fn resumed(budget: Budget, spent: Option<&Spent>) -> Self {
        let fresh = || Spent {
            interface: String::new(),
            day: 0,
            day_bytes: 0,
            carried_bytes: 0,
            month: 0,
            month_bytes: 0,
        };
        Self { budget, spent: spent.cloned().unwrap_or_else(fresh), changed: false }
    }

    pub(super) fn spent(&self, interface: &str) -> Spent {
        Spent { interface: interface.to_owned(), ..self.spent.clone() }
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn charge(&mut self, bytes: u64) {
        if self.budget.day_bytes.is_some() || self.budget.month_bytes.is_some() {
            self.spent.day_bytes = self.spent.day_bytes.saturating_add(bytes);
            self.spent.month_bytes = self.spent.month_bytes.saturating_add(bytes);
            self.changed = true;
        }
    }

    /// A new day or month begins. A clock that goes back begins none: what was spent stays spent. One that had been
    /// years ahead must not close the link for years, so days are counted from where it is now.
    pub(super) fn turn(&mut self, utc: Option<UtcNanos>) {
        let Some((day, month)) = utc.and_then(|utc| calendar(utc, self.budget.month_day)) else { return };
        if day.saturating_add(BACK_DAYS_MAX) < self.spent.day {
            (self.spent.day, self.spent.month) = (day, month);
            self.changed = true;
        }
        if day > self.spent.day {
            let daily = self.budget.day_bytes.unwrap_or(0);
            let left = daily.saturating_add(self.spent.carried_bytes).saturating_sub(self.spent.day_bytes);
            let skipped = u64::try_from(day.saturating_sub(self.spent.day).saturating_sub(1)).unwrap_or(0);
            // The very first day has none before it.
            let carried =
                if self.spent.day == 0 { 0 } else { left.saturating_add(daily.saturating_mul(skipped)) };
            self.spent.carried_bytes = carried.min(daily);
            // Bytes from before the day was known count for it.
            self.spent.day_bytes = if self.spent.day == 0 { self.spent.day_bytes } else { 0 };
            self.spent.day = day;
            self.changed = true;
        }
        if month > self.spent.month {
            self.spent.month_bytes = if self.spent.month == 0 { self.spent.month_bytes } else { 0 };
            self.spent.month = month;
            self.changed = true;
        }
    }

    /// Whether `bytes` may go; `first` may use the reserve.
    pub(super) fn allows(&self, first: bool, bytes: u64) -> Result<(), HoldWhy> {
        let reserve = if first { 0 } else { u64::from(self.budget.reserve_percent.min(100)) };
        let fits = |budget: u64, more: u64, spent: u64| {
            let kept = budget / 100 * reserve;
            spent.saturating_add(bytes) <= budget.saturating_add(more).saturating_sub(kept)
        };
        if self.budget.month_bytes.is_some_and(|budget| !fits(budget, 0, self.spent.month_bytes)) {
            return Err(HoldWhy::MonthBudget);
        }
        let carried = self.spent.carried_bytes;
        if self.budget.day_bytes.is_some_and(|budget| !fits(budget, carried, self.spent.day_bytes)) {
            return Err(HoldWhy::DayBudget);
        }
        Ok(())
    }
}

/// The day (since 1970) and the month (since year 0, begun on `month_day`) of a time.
fn calendar(utc: UtcNanos, month_day: u8) -> Option<(i64, i64)> {
    let time = DateTime::from_timestamp_nanos(utc.0);
    let day = utc.0.div_euclid(86_400_000_000_000);
    let months = i64::from(time.year()).checked_mul(12)?.checked_add(i64::from(time.month0()))?;
    let begun = time.day() >= u32::from(month_day.clamp(1, 28));
    Some((day, if begun { months } else { months.checked_sub(1)? }))
}
