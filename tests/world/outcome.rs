//! What became of a world.

/// What became of a world.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What was not true; empty if all is well.
    pub violations: Vec<String>,
    /// How long it lasted, simulated ms.
    pub lasted_ms: u64,
    /// How long after the last fault everything was in the lake, simulated ms.
    pub settled_ms: u64,
    /// Messages gateways sent.
    pub messages: u64,
    /// Messages to gateways.
    pub answers: u64,
    /// Connections that were tried.
    pub tries: u64,
    /// Rows captured.
    pub captured: u64,
    /// Of these, evicted.
    pub evicted: u64,
    /// Commits.
    pub commits: u64,
    /// Longest that an alarm took from its capture to the word that it is durable, simulated ms.
    pub alarm_ms_max: u64,
    /// How near the busiest gateway came to what it may connect and send, %.
    pub fullest: u64,
    /// Follows from every message of the world.
    pub digest: u64,
}
