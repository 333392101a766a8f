//! A card: a spool's folder without its agent, be it a copy, a mounted card or the folder of a running gateway.
//!
//! ```text
//! folder ─► Card (headers, footers, tables) ─┬─ ls, stat     what is here
//!                                            ├─ fsck         whether it is sound; --repair does what an open does
//!                                            ├─ export       CSV and pictures, or messages for `headwater import`
//!                                            └─ drop         evicts by hand, with gap records that travel
//! ```
//! Looking never writes and never opens the index (sled locks and writes what it opens), so it works on a medium
//! that cannot be written. Series are found by listing `seg/`; lane, epoch and boot come from the headers. What is
//! acked is known by the index alone: a card shows what lies on it, acked or not.

mod cli;
mod clocks;
mod csv;
mod disk;
mod drop;
mod export;
mod fsck;
mod holes;
mod ls;
mod messages;
mod place;
mod repair;
mod segment;
mod stat;
mod survey;
mod when;

pub use cli::{SpoolArgs, main};
pub use csv::{CsvReport, export_csv};
pub use drop::{DropReport, drop_rows};
pub use export::{ExportReport, MessageSigner, export_messages};
pub use fsck::{Finding, FsckReport, Severity, fsck};
pub use ls::{Listing, ls};
pub use place::Place;
pub use repair::{RepairReport, repair};
pub use stat::{Stat, stat};
pub use survey::Card;
pub use when::{Select, When};

use crate::spool::LockError;
use headwater_core::id::StreamName;
use headwater_core::ports::SpoolError;
use std::io;
use std::path::PathBuf;

/// Why a card cannot be worked on. Damage is a finding, not one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// Nothing of ours lies there.
    #[error(
        "{dir} holds no spool (no folder seg); name the folder with --dir, or the card's root with --root"
    )]
    NoSpool {
        /// Where was looked.
        dir: PathBuf,
    },
    /// The medium failed.
    #[error("{path} cannot be read")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was to be made cannot be written.
    #[error("{path} cannot be written; name another place with --out")]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else has the folder, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The spool does not open.
    #[error("spool in {dir} does not open; check that its folder is writable and has room")]
    Spool {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        source: SpoolError,
    },
    /// A stream nobody declared.
    #[error("stream {stream} is not on this card; it holds {known}")]
    NoStream {
        /// The name that was given.
        stream: String,
        /// Names there are.
        known: String,
    },
    /// Headwater's own streams explain the others.
    #[error("rows of {stream} explain other streams and are not dropped")]
    OwnStream {
        /// Which.
        stream: StreamName,
    },
    /// A time of day on a card that knows none.
    #[error(
        "{when} is a time of day, and boot {boot} of this card never knew one; write {boot}:SECONDS instead"
    )]
    NoClock {
        /// What was given.
        when: String,
        /// A boot without clock rows.
        boot: u32,
    },
    /// Nobody knows whose card it is.
    #[error(
        "whose card it is stands in its configuration, which cannot be used; name it with --device TENANT/DEVICE"
    )]
    WhoseCard,
    /// The message does not fit: a bug.
    #[error("a message could not be framed")]
    Frame(#[from] headwater_core::wire::EnvelopeError),
}
