//! Resolve: turns stamps on a boot line into UTC intervals, as tight as what is known of the device's clock allows.
//!
//! [`bound`] is the geometry of one boot (cones and their order statistics), [`track`] collects the constraints of all
//! boots of all devices, [`row`] reads them from `hw/clock`, and [`ClockTracks::resolve`] answers for a run of samples.
//! All of it is pure: the same constraints give the same intervals, whatever the order of their arrival.

pub mod bound;
mod row;
mod solve;
mod track;

pub use row::{ClockRow, ClockRowKind, constraint_of, grade_max};
pub use solve::{Query, Resolved};
pub use track::{BOOTS_MAX, ClockTracks, Constraint, Incoming, POINTS_MAX, Receipt};
