//! The tests of the collector's interface, in one program: each would link all of Arrow and Iceberg anew.
//!
//! One area alone: `cargo test -p headwater-collector --test it ingest::`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

mod backfill;
mod buckets;
mod clock;
mod compaction;
mod derived;
mod evolution;
mod gate;
mod import;
mod ingest;
mod ingest_world;
mod late_rows;
mod outgoing;
mod protected;
mod quarantine;
mod query_cli;
mod recipe_cli;
mod recipe_sql;
mod recv_loopback;
mod shell;
mod versions;
mod versions_cli;
