//! Ports: the traits at the edges. Each method says what it promises; every adapter, real or fake,
//! passes the same conformance suite.
//!
//! Ports live here, below their users, so that fakes in `headwater-sim` serve the unit tests of
//! every crate.

mod clock;
mod disk;
mod link;
mod source;
mod spool;

pub use clock::Clock;
pub use disk::{Disk, DiskFile};
pub use link::{Cause, Delivery, Inbox, Link, LinkClosed, LinkEvent, RefusedFor, SPAN_MAX, Uplink};
pub use source::{DeviceClockEvent, DeviceExchange, Source, SourceError, SourceEvent};
pub use spool::{
    Cursor, EvictFirst, NOTE_BYTES_MAX, Position, SERIES_PER_LANE, Slab, SlabTime, Spool, SpoolError,
    SpoolLane, SpoolUsage, SpooledSlab, StreamClass, StreamPolicy, StreamState,
};
