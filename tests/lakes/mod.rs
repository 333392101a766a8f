//! Lakes for measurements and long tests: rows in the collector's own declarations, and a store that counts what is asked of it.

mod meter;
mod rows;
mod upkeep;

pub use meter::{Class, Counted, Meter};
pub use rows::{
    Key, Recording, image, image_batch, imu, imu_batch, ledger, ledger_batch, ledger_runs, small, small_batch,
};
pub use upkeep::{Upkeep, UpkeepError};
