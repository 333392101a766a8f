//! What a link may cost: a rate, budgets of a day and a month, hours for what can wait. Pure; time is an argument.
//!
//! Lane control is exempt and still counted, so that what an alarm took is not given out again. What is left of a
//! budget near its end belongs to live telemetry alone. Budgets go by UTC days and months; while the wall clock is not
//! known nothing is given anew, and hours count as closed.

mod budget;
mod hours;

pub use budget::{Budget, Spent};
pub use hours::{Hours, HoursError, Permit};

use budget::Account;
use headwater_core::time::{BootNanos, NS_PER_S, UtcNanos};
use headwater_core::wire::Lane;

/// Least burst of a rate, so that a whole message always passes: twice the largest.
pub const BURST_BYTES_MIN: u64 = 256 * 1024;
/// How soon a lane that waits for hours or for a new day is looked at again.
const LOOK_NS: i64 = 30 * NS_PER_S;

/// Rules for links over one kind of interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRules {
    /// Interfaces these are for: a name, or its beginning and `*`.
    pub interface: String,
    /// Bytes are paid for.
    pub metered: bool,
    /// Most bytes per second, on the wire.
    pub rate_bytes_per_s: Option<u64>,
    /// Bytes that may go at once after a pause; at least [`BURST_BYTES_MIN`] counts.
    pub burst_bytes: u64,
    /// What a day and a month may take.
    pub budget: Budget,
    /// When pictures may go.
    pub media: Permit,
    /// When backlog may go.
    pub backlog: Permit,
}

impl LinkRules {
    /// No bounds, for any interface.
    #[must_use]
    pub fn free() -> Self {
        Self {
            interface: "*".into(),
            metered: false,
            rate_bytes_per_s: None,
            burst_bytes: BURST_BYTES_MIN,
            budget: Budget::default(),
            media: Permit::Always,
            backlog: Permit::Always,
        }
    }

    /// True if they are for this interface.
    #[must_use]
    pub fn fits(&self, interface: &str) -> bool {
        match self.interface.strip_suffix('*') {
            Some(beginning) => interface.starts_with(beginning),
            None => self.interface == interface,
        }
    }
}

/// Why a lane waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldWhy {
    /// The rate is used up for the moment.
    Rate,
    /// Outside its hours.
    Hours,
    /// The day's budget is used up.
    DayBudget,
    /// The month's budget is used up.
    MonthBudget,
}

impl HoldWhy {
    /// For status and people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Hours => "hours",
            Self::DayBudget => "day_budget",
            Self::MonthBudget => "month_budget",
        }
    }
}

/// A lane has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Why.
    pub why: HoldWhy,
    /// When to ask again.
    pub until: BootNanos,
}

/// The rules in force and what was spent under all of them.
#[derive(Debug)]
pub struct LinkPolicy {
    rules: Vec<(LinkRules, Account)>,
    /// Which are in force; past the end: none, so everything is free.
    in_force: usize,
    /// When the rate of each of the rules would have sent all that was sent under it.
    paid_upto: Vec<BootNanos>,
    /// UTC less boot time, ns, while the wall clock is known.
    utc_offset_ns: Option<i64>,
}

impl LinkPolicy {
    /// These rules, the first that fits an interface being in force on it, with what is remembered of their accounts.
    #[must_use]
    pub fn new(rules: Vec<LinkRules>, spent: &[Spent]) -> Self {
        let of = |rules: &LinkRules| spent.iter().find(|spent| spent.interface == rules.interface);
        let rules: Vec<_> = rules
            .into_iter()
            .map(|rules| {
                let account = Account::resumed(rules.budget, of(&rules));
                (rules, account)
            })
            .collect();
        let in_force = rules.len();
        let paid_upto = vec![BootNanos(i64::MIN); rules.len()];
        Self { rules, in_force, paid_upto, utc_offset_ns: None }
    }

    /// A link over this interface begins; `None` if it is not known. Gives the rules in force.
    pub fn linked(&mut self, interface: Option<&str>) -> Option<&LinkRules> {
        let fits = |rules: &LinkRules| interface.map_or(rules.interface == "*", |name| rules.fits(name));
        self.in_force = self.rules.iter().position(|(rules, _)| fits(rules)).unwrap_or(self.rules.len());
        self.rules()
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Option<&LinkRules> {
        self.rules.get(self.in_force).map(|(rules, _)| rules)
    }

    /// What the wall clock says, if it can be believed.
    pub fn set_wall(&mut self, now: BootNanos, utc: Option<UtcNanos>) {
        self.utc_offset_ns = utc.and_then(|utc| utc.0.checked_sub(now.0));
        let utc = self.utc(now);
        for (_, account) in &mut self.rules {
            account.turn(utc);
        }
    }

    fn utc(&self, now: BootNanos) -> Option<UtcNanos> {
        self.utc_offset_ns.map(|offset| UtcNanos(now.0.saturating_add(offset)))
    }

    /// Whether a message of a lane may go now.
    ///
    /// # Errors
    /// [`Hold`] says why not, and when to ask again.
    pub fn allows(&self, now: BootNanos, lane: Lane, bytes: usize) -> Result<(), Hold> {
        let Some((rules, account)) = self.rules.get(self.in_force) else { return Ok(()) };
        if lane == Lane::Control {
            return Ok(());
        }
        let later = now.plus_ns(LOOK_NS);
        let utc = self.utc(now);
        let media = matches!(lane, Lane::LiveMedia | Lane::BacklogMedia);
        let backlog = matches!(lane, Lane::BacklogTelemetry | Lane::BacklogMedia);
        if (media && !rules.media.is_open(utc)) || (backlog && !rules.backlog.is_open(utc)) {
            return Err(Hold { why: HoldWhy::Hours, until: later });
        }
        if let Err(why) = account.allows(lane == Lane::LiveTelemetry, bytes as u64) {
            return Err(Hold { why, until: later });
        }
        if let Some(rate) = rules.rate_bytes_per_s {
            let burst_ns = span_ns(rules.burst_bytes.max(BURST_BYTES_MIN), rate);
            let paid_upto = self.paid_upto.get(self.in_force).copied().unwrap_or(BootNanos(i64::MIN));
            let until = paid_upto.plus_ns(-burst_ns);
            if now < until {
                return Err(Hold { why: HoldWhy::Rate, until });
            }
        }
        Ok(())
    }

    /// A message went; `bytes` as on the wire.
    pub fn charge(&mut self, now: BootNanos, bytes: usize) {
        let Some((rules, account)) = self.rules.get_mut(self.in_force) else { return };
        account.charge(bytes as u64);
        if let (Some(rate), Some(paid_upto)) = (rules.rate_bytes_per_s, self.paid_upto.get_mut(self.in_force))
        {
            // The end of what is paid for never lies more than a burst back: a pause saves up no more.
            *paid_upto = (*paid_upto).max(now).plus_ns(span_ns(bytes as u64, rate));
        }
    }

    /// What is to be remembered over a restart, if it changed since the last time.
    pub fn take_spent(&mut self) -> Option<Vec<Spent>> {
        let changed = self.rules.iter_mut().fold(false, |any, (_, account)| account.take_changed() | any);
        changed.then(|| self.spent())
    }

    /// What was spent under each of the rules.
    #[must_use]
    pub fn spent(&self) -> Vec<Spent> {
        self.rules.iter().map(|(rules, account)| account.spent(&rules.interface)).collect()
    }
}

/// Time that `bytes` take at a rate, ns.
fn span_ns(bytes: u64, rate: u64) -> i64 {
    let ns = u128::from(bytes).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
