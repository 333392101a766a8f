//! The engine: samples of one entity to aligned rows, each value with its source, distance, uncertainty and flags.
//!
//! ```text
//! spine samples ─┐
//! column samples ┴► matching, integers only: index arrays, dt, sigma, flags ─► gather, typed per field ─► RecordBatch
//! ```
//! [`Plan`] settles once what a recipe makes of the declared fields; a [`Run`] takes sorted samples of one entity chunk
//! by chunk and gives rows as far as it was told that everything is there; [`align`] is the same over what is held whole.
//! Both give the same rows bit for bit, however the samples were cut into chunks (L2).

mod error;
pub mod flag;
mod gaps;
mod plan;
mod run;

pub use error::{AlignError, PlanError};
pub use gaps::{Gaps, NoGaps};
pub use plan::{Inputs, Options, Plan, UNIT_KEY};
pub use run::{Aligned, Counts, Entity, Run, align};
