//! (entry point follows)
fn main() {}
