//! Shipping against a model of the collector: first by hand, then through a simulated network.

mod away_rules;
mod bench;
mod broker;
mod collector;
pub(super) mod fixture;
mod flight_rules;
mod session_rules;
mod world;
