//! The device side: what it does, that C and Rust do the same, and that the C header compiles and stays small.

mod agree;
mod behaviour;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod compilers;
mod emulated;
mod pump;
mod script;
