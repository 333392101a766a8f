//! Import: what a gateway would have sent, brought by hand from its card.
//!
//! ```text
//! file ─► admit (as receive does) ─► new? ─► a landing log of its own ─► ingest: here, or in the running collector
//!                 │                   └ known: left out, so importing twice adds nothing
//!                 └ refused, with its reason
//! ```
//! Messages signed by the gateway are checked as if they had come over the link. Those of a card without its key are
//! signed here by a key of the fleet's, and `ops.batches` names it. Either way `receiver` is [`RECEIVER`] there.

mod report;
mod run;
mod taker;

pub use report::{Counted, FileReport, ImportReport, State};
pub use run::{ImportOptions, import};
pub use taker::{Step, Taker};

pub use crate::land::IMPORTED as RECEIVER;

use crate::config::IdentityError;
use crate::land::LandError;
use crate::pipeline::PipelineError;
use headwater_lake::LakeError;
use std::io;
use std::path::PathBuf;

/// Why an import did not begin, or did not end. What is wrong with a file is told in its report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The collector's configuration.
    #[error("{path} cannot be used; name the collector's configuration with --config")]
    Config {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: crate::config::ConfigError,
    },
    /// Certificates or keys.
    #[error("failed to use the identity that imports")]
    Identity(#[from] IdentityError),
    /// The lake.
    #[error("failed to read the lake")]
    Lake(#[from] LakeError),
    /// The landing log.
    #[error("failed to land what was read; nothing of it is lost, import it again")]
    Land(#[from] LandError),
    /// The lock beside the landing logs.
    #[error("landing logs in {dir} cannot be locked; check that the folder is writable")]
    Lock {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Recipes, or ingest itself.
    #[error("what was landed could not be ingested; the collector does it when it runs")]
    Ingest(#[source] Box<PipelineError>),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}
