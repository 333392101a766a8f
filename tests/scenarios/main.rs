//! End-to-end scenarios with real processes, real files and a real broker, on loopback.

mod hostile;
mod kills;
mod setup;
