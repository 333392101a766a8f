//! Shipping against a model of the collector: first by hand, then through a simulated network.

mod broker;
mod collector;
mod fixture;
mod protocol;
mod world;
