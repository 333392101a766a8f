//! Ten thousand worlds of minutes and twenty of weeks, and the mistakes that the oracle must find.

use headwater_tests::simulated::{Plan, Scale, happen};

#[test]
fn one_world() {
    let from: u64 = std::env::var("FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let n: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let trace = std::env::var("TRACE").is_ok();
    let scale = if std::env::var("WEEKS").is_ok() { Scale::Weeks } else { Scale::Minutes };
    for seed in from..from + n {
        let plan = Plan::of(seed, scale);
        let outcome = happen(&plan, None, trace);
        if trace || !outcome.violations.is_empty() {
            println!("{plan}");
            println!("{outcome:#?}");
        }
        if outcome.violations.is_empty() { println!("{seed} ok {} {} {}", outcome.messages, outcome.lasted_ms, outcome.tries) }
    }
}
