//! Declarations of what is prepared and derived, checked and with their defaults filled in. Durations are integer ns.

mod derived;
mod episode;
mod prepare;

pub use derived::*;
pub use episode::*;
pub use prepare::*;
