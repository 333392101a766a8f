//! The simulated world: fakes of every port, deterministic by seed, for the unit tests of every crate.

pub mod clock;
pub mod device;
pub mod disk;
pub mod net;
