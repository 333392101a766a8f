//! Shipping against a model of the collector: first by hand, then through a simulated network.

mod bench;
mod broker;
mod collector;
mod fixture;
mod flight_rules;
mod session_rules;
mod trust_rules;
mod world;
