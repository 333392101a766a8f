//! Commit: what a group of landed messages becomes in the lake.
//!
//! One group, one commit, all tables: raw rows, the ledger that counts them, the gaps, the clock rows and the landing
//! cursors become visible together or not at all, so a crash anywhere is a replay from the head's cursors.
//!
//! | module | holds |
//! |---|---|
//! | [`tables`] | the declarations of `ops.*` and the common columns of `raw.*` |
//! | [`kinds`] | the union of fields per kind across the fleet, and what does not fit it |
//! | [`cells`] | rows of small tables by column name |
//! | [`clock_rows`] | rows of `hw/clock` as `ops.clock` keeps them, and back |
//! | [`raw`] | sections of a batch as Arrow columns |
//! | [`read`] | rows of a scan by column name |
//! | `withdrawn` | samples of the ledger that were taken out of the tables |

pub mod cells;
pub mod clock_rows;
mod columns;
pub mod declared;
pub mod kinds;
pub mod raw;
pub mod read;
pub mod tables;
pub(crate) mod withdrawn;
