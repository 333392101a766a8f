//! The tests of the lake's interface, in one program: each would link all of Arrow and Iceberg anew.
//!
//! One area alone: `cargo test -p headwater-lake --test it merge::`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

mod adopt;
mod bad_world;
mod check;
mod commit;
mod common;
mod compact;
mod copying;
mod cost;
mod crash;
mod erase;
mod events;
mod evolution;
mod flat;
mod gc;
mod golden;
mod merge;
mod model;
mod power;
mod protect;
mod refs;
mod scan;
mod verbs;
mod versions;
mod versions_model;
