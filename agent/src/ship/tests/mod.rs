//! Shipping against a model of the collector: first by hand, then through a simulated network.

mod away_rules;
mod bench;
mod broker;
mod broker_kit;
mod collector;
mod exchange_rules;
pub(super) mod fixture;
mod flight_rules;
mod reach;
mod refused_rules;
mod session_rules;
mod trust_rules;
mod world;
