//! Reading the lake for people and scripts: what the `headwater` command prints.
//!
//! Everything here reads commits and tables only; it needs the lake's location and nothing of the
//! collector's running state.

mod align;
pub mod cli;
mod clock;
mod compact;
mod confirm;
mod days;
mod error;
mod outgoing;
mod provenance;
mod recipe;
mod rows;
mod scan;
mod serving;
mod show;
mod table;
mod upkeep;
mod versions;
mod views;

pub use error::QueryError;
pub use rows::row_values;
pub use views::views_sql;
