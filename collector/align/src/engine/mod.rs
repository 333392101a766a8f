//! The engine: samples of one entity to aligned rows, each value with its source, distance, uncertainty and flags.
//!
//! ```text
//! spine samples ─┐
//! column samples ┴► matching, integers only: index arrays, dt, sigma, flags ─► gather, typed per field ─► RecordBatch
//! ```
//! [`Plan`] settles once what a recipe makes of the declared fields; a [`Run`] takes sorted samples of one entity chunk
//! by chunk and gives rows as far as it was told that everything is there; [`align`] is the same over what is held whole.
//! Both give the same rows bit for bit, however the samples were cut into chunks (L2).

mod bracket;
mod constant;
mod cursor;
mod error;
mod event;
mod fields;
pub mod flag;
mod gaps;
mod gather;
mod geometry;
mod interpolate;
mod lines;
mod matching;
mod metric;
mod output;
mod plan;
mod prepare;
mod run;
mod spine;
mod stats;
mod store;
mod window;

pub use error::{AlignError, PlanError};
pub use gaps::{Gaps, NoGaps};
pub use metric::LOOK_NS;
pub use plan::{Inputs, Options, Plan, UNIT_KEY};
pub use run::{Aligned, CHUNK_ROWS, Counts, Entity, Run, align};
pub use spine::GRID_POINTS_MAX;
pub use window::EDGE_SAMPLES_MAX;
