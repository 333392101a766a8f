//! Resolve: turns stamps on a boot line into UTC intervals, as tight as what is known of the device's clock allows.
//!
//! How an interval follows from what is known is [`headwater_core::time`]'s matter. Here are the rows it is known from
//! ([`statements_of`]) and the tracks of all gateways ([`ClockTracks`]). All of it is pure: the same rows give the same
//! intervals, whatever the order of their arrival.

mod row;
mod tracks;

pub use headwater_core::time::amend::{Amended, Amendment, amendment};
pub use headwater_core::time::boots::{Query, Resolved};
pub use headwater_core::time::cone::drift_ns;
pub use headwater_core::time::statement::{Constraint, Receipt, Statement};
pub use headwater_core::time::track::{Placed, Track, TrackSegment};
pub use row::{ClockRow, ClockRowKind, statements_of};
pub use tracks::{ClockTracks, Incoming};
