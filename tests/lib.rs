//! Shared parts of the end-to-end scenarios, the demo and the measurements: a small world of players,
//! processes and truth, all on loopback.
//!
//! | module | holds |
//! |---|---|
//! | [`roles`] | one binary that is broker, collector, agent or slow sensor, so each is a process of its own |
//! | [`world`] | folders, certificates and configuration of one run |
//! | [`players`] | what plays the recordings: a microcontroller and a receiver on pseudo-terminals, a camera's folder |
//! | [`recordings`] | the recordings that are played |
//! | [`clockless`] | a gateway that wakes in 1970, and what it saw of the time |
//! | [`procs`] | child processes: start, kill -9, restart, stop, memory |
//! | [`proxy`] | a bad link between two processes: slow, cut, half-open |
//! | [`truth`] | what was emitted, against what the lake holds |
//! | [`lakes`] | rows in the collector's declarations, and a store that counts what is asked of it |
//! | [`simulated`] | the simulated world: agents, broker, collector, disks and clocks from one seed |

#[path = "loopback/ticks.rs"]
pub mod ticks;

#[path = "loopback/clockless.rs"]
pub mod clockless;
#[path = "loopback/fleet.rs"]
pub mod fleet;
pub mod lakes;
#[path = "loopback/players.rs"]
pub mod players;
#[path = "loopback/procs.rs"]
pub mod procs;
#[path = "loopback/proxy/mod.rs"]
pub mod proxy;
#[path = "loopback/pty.rs"]
pub mod pty;
#[path = "loopback/recordings.rs"]
pub mod recordings;
#[path = "loopback/roles.rs"]
pub mod roles;
#[path = "world/mod.rs"]
pub mod simulated;
#[path = "loopback/status.rs"]
pub mod status;
#[path = "loopback/truth/mod.rs"]
pub mod truth;
#[path = "loopback/world.rs"]
pub mod world;
