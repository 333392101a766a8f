//! The simulated world: fakes of every port, deterministic by seed, for the tests of every crate; and one real disk
//! whose power can be cut.

pub mod broker;
pub mod clock;
pub mod clocks;
pub mod device;
pub mod disk;
pub mod loop_disk;
pub mod net;
