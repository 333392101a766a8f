//! Budgets, rates and hours by the minute.

use super::*;
use proptest::prelude::*;

const DAY_NS: i64 = 86_400 * NS_PER_S;
/// 2026-03-01 00:00 UTC.
const MARCH: i64 = 1_772_323_200 * NS_PER_S;
const MB: u64 = 1_000_000;

fn rules(change: impl FnOnce(&mut LinkRules)) -> LinkRules {
    let mut rules = LinkRules::free();
    change(&mut rules);
    rules
}

fn policy(rules: LinkRules) -> LinkPolicy {
    let mut policy = LinkPolicy::new(vec![rules], &[]);
    policy.linked(None);
    policy
}

/// Sends as much as may go in pieces; gives the bytes.
fn spend(policy: &mut LinkPolicy, now: BootNanos, lane: Lane) -> u64 {
    let mut sent = 0;
    while policy.allows(now, lane, 10_000).is_ok() && sent < 1000 * MB {
        policy.charge(now, 10_000);
        sent += 10_000;
    }
    sent
}

#[test]
fn the_rules_of_the_first_fitting_interface_are_in_force() {
    let named = |interface: &str, rate| {
        rules(|r| {
            r.interface = interface.into();
            r.rate_bytes_per_s = Some(rate);
        })
    };
    let mut policy = LinkPolicy::new(vec![named("wwan*", 1), named("eth0", 2), named("*", 3)], &[]);
    let rate = |rules: Option<&LinkRules>| rules.and_then(|rules| rules.rate_bytes_per_s);
    assert_eq!(rate(policy.linked(Some("wwan0"))), Some(1));
    assert_eq!(rate(policy.linked(Some("eth0"))), Some(2));
    assert_eq!(rate(policy.linked(Some("eth01"))), Some(3));
    assert_eq!(rate(policy.linked(None)), Some(3));
    let mut none = LinkPolicy::new(vec![named("eth0", 2)], &[]);
    assert_eq!(none.linked(Some("wlan0")), None);
    assert_eq!(none.allows(BootNanos(0), Lane::BacklogMedia, usize::MAX), Ok(()));
}

#[test]
fn a_rate_holds_over_time_and_alarms_pass_it() {
    let mut policy = policy(rules(|r| r.rate_bytes_per_s = Some(20_000)));
    let mut sent = 0_u64;
    for s in 0..600 {
        let now = BootNanos(s * NS_PER_S);
        while policy.allows(now, Lane::LiveTelemetry, 5_000).is_ok() {
            policy.charge(now, 5_000);
            sent += 5_000;
        }
        assert_eq!(policy.allows(now, Lane::Control, 5_000), Ok(()));
        let Err(hold) = policy.allows(now, Lane::BacklogMedia, 5_000) else { panic!("held") };
        assert!(hold.why == HoldWhy::Rate && hold.until > now);
    }
    let most = 20_000 * 600 + BURST_BYTES_MIN + 5_000;
    assert!(sent <= most && sent + 50_000 > most - BURST_BYTES_MIN, "{sent} of {most}");
}

#[test]
fn what_a_slow_link_owes_does_not_follow_to_a_fast_one() {
    let named = |interface: &str, rate| {
        rules(|r| {
            r.interface = interface.into();
            r.rate_bytes_per_s = Some(rate);
        })
    };
    let mut policy = LinkPolicy::new(vec![named("wwan*", 2_000), named("wlan*", 1_000_000)], &[]);
    policy.linked(Some("wwan0"));
    assert!(spend(&mut policy, BootNanos(0), Lane::LiveTelemetry) >= BURST_BYTES_MIN);
    policy.linked(Some("wlan0"));
    assert_eq!(policy.allows(BootNanos(0), Lane::LiveTelemetry, 10_000), Ok(()));
    policy.linked(Some("wwan0"));
    assert!(policy.allows(BootNanos(0), Lane::LiveTelemetry, 10_000).is_err(), "nor is it forgiven");
}

#[test]
fn a_budget_ends_the_day_leaves_its_end_to_live_telemetry_and_carries_over() {
    let mut policy = policy(rules(|r| r.budget.day_bytes = Some(10 * MB)));
    let at = |days: i64| BootNanos(days * DAY_NS);
    let wall =
        |policy: &mut LinkPolicy, days: i64| policy.set_wall(at(days), Some(UtcNanos(MARCH + days * DAY_NS)));
    wall(&mut policy, 0);
    assert_eq!(spend(&mut policy, at(0), Lane::BacklogMedia), 9 * MB);
    assert_eq!(policy.allows(at(0), Lane::LiveMedia, 10_000).unwrap_err().why, HoldWhy::DayBudget);
    assert_eq!(spend(&mut policy, at(0), Lane::LiveTelemetry), MB);
    assert_eq!(policy.allows(at(0), Lane::Control, 10_000), Ok(()), "alarms are exempt");
    wall(&mut policy, 1);
    assert_eq!(spend(&mut policy, at(1), Lane::LiveTelemetry), 10 * MB);
    // A day without a byte, and a week of them: no more than one day is saved up.
    for days in [3, 10] {
        wall(&mut policy, days);
        assert_eq!(spend(&mut policy, at(days), Lane::LiveTelemetry), 20 * MB, "day {days}");
    }
}

#[test]
fn budgets_are_kept_over_restarts_and_a_clock_that_goes_back_gives_nothing() {
    let rules = rules(|r| {
        r.budget.month_bytes = Some(5 * MB);
        r.budget.month_day = 15;
    });
    let mut first = policy(rules.clone());
    first.set_wall(BootNanos(0), Some(UtcNanos(MARCH)));
    assert_eq!(spend(&mut first, BootNanos(0), Lane::LiveTelemetry), 5 * MB);
    let spent = first.take_spent().unwrap();
    assert_eq!(first.take_spent(), None, "told once");
    let mut second = LinkPolicy::new(vec![rules], &spent);
    second.linked(None);
    let held = |policy: &LinkPolicy| policy.allows(BootNanos(0), Lane::LiveTelemetry, 1).unwrap_err().why;
    // Before the clock is known, set back, and on the 14th: the month that began on 15 February is spent.
    for days in [None, Some(-1), Some(13)] {
        second.set_wall(BootNanos(0), days.map(|days: i64| UtcNanos(MARCH + days * DAY_NS)));
        assert_eq!(held(&second), HoldWhy::MonthBudget);
    }
    second.set_wall(BootNanos(0), Some(UtcNanos(MARCH + 14 * DAY_NS)));
    assert_eq!(spend(&mut second, BootNanos(0), Lane::LiveTelemetry), 5 * MB);
}

#[test]
fn a_clock_that_was_decades_ahead_closes_the_link_for_a_day_at_most() {
    let mut policy = policy(rules(|r| r.budget.day_bytes = Some(MB)));
    let mut on = |years: i64, days: i64| {
        policy.set_wall(BootNanos(0), Some(UtcNanos(MARCH + (years * 365 + days) * DAY_NS)));
        spend(&mut policy, BootNanos(0), Lane::LiveTelemetry)
    };
    assert_eq!(on(60, 0), MB);
    assert_eq!(on(0, 0), 0, "what was spent stays spent");
    assert_eq!(on(0, 1), MB);
}

#[test]
fn hours_open_and_close_what_can_wait() {
    let night = Permit::In(vec!["22:00-06:00".parse().unwrap()]);
    let mut policy = policy(rules(|r| {
        r.media = night;
        r.backlog = Permit::Never;
    }));
    let open = |policy: &LinkPolicy, lane| policy.allows(BootNanos(0), lane, 1).is_ok();
    assert!(!open(&policy, Lane::LiveMedia), "the time is not known");
    for (hour, may) in [(21, false), (22, true), (3, true), (6, false), (12, false)] {
        policy.set_wall(BootNanos(0), Some(UtcNanos(MARCH + hour * 3600 * NS_PER_S)));
        assert_eq!(open(&policy, Lane::LiveMedia), may, "{hour}:00");
        assert!(open(&policy, Lane::LiveTelemetry) && open(&policy, Lane::Control));
        assert!(!open(&policy, Lane::BacklogMedia) && !open(&policy, Lane::BacklogTelemetry));
    }
    for bad in ["", "22:00", "22-06", "22:00-22:00", "25:00-01:00", "10:60-11:00", "1:00-2:00", "24:00-01:00"]
    {
        assert_eq!(bad.parse::<Hours>(), Err(HoursError), "{bad}");
    }
    assert!("00:00-24:00".parse::<Hours>().is_ok());
}

proptest! {
    /// Whatever the traffic and however often it restarts: no day takes more than its budget and what was saved.
    #[test]
    fn no_budget_is_overdrawn(
        steps in proptest::collection::vec((0_i64..40, 1_usize..200_000, any::<bool>()), 1..200),
    ) {
        let rules = rules(|r| {
            r.budget.day_bytes = Some(MB);
            r.budget.month_bytes = Some(20 * MB);
        });
        let mut policy = policy(rules.clone());
        let mut hours = 0;
        let mut of_day = std::collections::BTreeMap::<i64, u64>::new();
        for (later, bytes, restart) in steps {
            hours += later;
            let now = BootNanos(hours * 3600 * NS_PER_S);
            if restart {
                policy = LinkPolicy::new(vec![rules.clone()], &policy.spent());
                policy.linked(None);
            }
            policy.set_wall(now, Some(UtcNanos(MARCH + now.0)));
            if policy.allows(now, Lane::LiveTelemetry, bytes).is_ok() {
                policy.charge(now, bytes);
                *of_day.entry(hours / 24).or_default() += bytes as u64;
            }
        }
        prop_assert!(of_day.values().all(|bytes| *bytes <= 2 * MB));
        // March is the first 31 days.
        let march: u64 = of_day.range(..31).map(|(_, bytes)| *bytes).sum();
        prop_assert!(march <= 20 * MB);
    }
}
