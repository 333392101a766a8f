//! End-to-end scenarios with real processes, real files and a real broker, on loopback.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

mod agent_cli;
mod arm_gateway;
mod broker_death;
mod card;
mod gps_live;
mod hostile;
mod interrupt;
mod kills;
mod links;
mod machine;
mod measured;
mod other_host;
mod outage;
mod peer;
mod reach;
mod real_steps;
mod replay;
mod setup;
mod site;
mod trust;
mod two_hosts;
mod wrong_clocks;
